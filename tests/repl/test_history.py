# SPDX-License-Identifier: MIT
"""The file of the history: for its owner alone, and through another process that holds it."""
import os
import sqlite3
import stat
import subprocess
import tempfile
import time
import unittest

from terminal import NABLUA, Terminal


class History(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = home.name
        self.path = os.path.join(self.home, "nablua", "history.sqlite")
        self.number = 1

    def begin(self):
        before = os.umask(0o022)
        self.t = Terminal("--no-banner", home=self.home)
        os.umask(before)
        self.addCleanup(self.t.close)
        self.number = 1
        self.t.wait_for_prompt(1)

    def run_input(self, line):
        self.t.type(line + "\r")
        self.number += 1
        self.t.wait_for_prompt(self.number)

    def inputs(self):
        db = sqlite3.connect(self.path)
        self.addCleanup(db.close)
        return [source.strip() for source, in db.execute("SELECT source FROM history ORDER BY session, line")]

    def rights(self):
        folder = os.path.dirname(self.path)
        return {name: oct(stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode)) for name in os.listdir(folder)}

    def hold(self):
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.addCleanup(db.close)
        db.execute("BEGIN EXCLUSIVE")
        return db

    def test_nobody_else_reads_it(self):
        self.begin()
        self.run_input("x = 1")
        self.assertEqual(set(self.rights().values()), {"0o600"})
        for name in self.rights():  # as an older version left it
            os.chmod(os.path.join(self.home, "nablua", name), 0o644)
        self.begin()
        self.run_input("x = 2")
        self.assertEqual(set(self.rights().values()), {"0o600"})
        self.assertEqual(self.inputs(), ["x = 1", "x = 2"])

    def test_a_lock_of_a_second_is_waited_for(self):
        self.begin()
        self.run_input("x = 1")
        db = self.hold()
        self.t.type("x = 2\r")
        time.sleep(1)
        db.execute("ROLLBACK")
        self.number += 1
        self.t.wait_for_prompt(self.number)
        self.run_input("x = 3")
        self.assertNotIn("history", self.t.text())
        self.assertEqual(self.inputs(), ["x = 1", "x = 2", "x = 3"])

    def test_a_long_lock_is_said_once_and_ends_nothing(self):
        self.begin()
        db = self.hold()
        for i in range(1, 5):
            start = time.monotonic()
            self.run_input("x = %d" % i)
            if i > 1:
                self.assertLess(time.monotonic() - start, 3)  # it is waited for once
        db.execute("ROLLBACK")
        self.run_input("x = 5")
        self.assertEqual(self.t.text().count("the history is not kept while another process holds it"), 1)
        self.assertEqual(self.inputs(), ["x = 5"])

    def test_it_opens_beside_one_that_writes(self):
        self.begin()
        self.run_input("x = 1")
        db = self.hold()
        self.begin()
        self.assertNotIn("history", self.t.text())
        db.execute("ROLLBACK")


class Saving(unittest.TestCase):
    """%save overwrites what it wrote itself, and asks for -f before anything else."""

    def run_lines(self, folder, *lines):
        r = subprocess.run([NABLUA, "-i"], input="\n".join(lines) + "\n", text=True, capture_output=True, cwd=folder,
                           timeout=60)
        return r.stdout + r.stderr

    def test_what_it_did_not_write_stays(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.lua")

            def content():
                with open(path, encoding="utf-8") as f:
                    return f.read()

            out = self.run_lines(folder, "x = 1", "%save a.lua", "y = 2", "%save a.lua")
            self.assertEqual(out.count("saved as a.lua"), 2)
            self.assertEqual(content(), "x = 1\ny = 2\n")
            out = self.run_lines(folder, "z = 3", "%save a.lua")
            self.assertIn("%save: a.lua is there already; %save -f a.lua replaces it", out)
            self.assertEqual(content(), "x = 1\ny = 2\n")
            out = self.run_lines(folder, "z = 3", "%save -f a.lua", "do local f = io.open('a.lua', 'a') f:write('mine') "
                                 "f:close() end", "%save a.lua")
            self.assertIn("is there already", out)
            self.assertEqual(content(), "z = 3\nmine")
            self.assertEqual(os.listdir(folder), ["a.lua"])


if __name__ == "__main__":
    unittest.main()
