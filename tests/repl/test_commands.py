# SPDX-License-Identifier: MIT
"""Commands that write files, run programs or change the next input."""
import os
import stat
import subprocess
import tempfile
import unittest

from terminal import NABLUA, TIMEOUT, Terminal, environment


class Commands(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name, text=None, executable=False):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w") as f:
                f.write(text)
            if executable:
                os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        return path

    def run_inputs(self, *inputs, **variables):
        """What is shown, prompts gone, standard error behind; a %%cell needs the empty line that ends it."""
        r = subprocess.run([NABLUA, "-e", "_PROMPT = '' _PROMPT2 = ''", "-i", "--no-banner"], input="\n".join(inputs) + "\n",
                           capture_output=True, text=True, timeout=TIMEOUT, env=environment(**variables), cwd=self.folder)
        return r.stdout.rstrip("\n"), r.stderr

    def check(self, inputs, shown, errors=""):
        self.assertEqual(self.run_inputs(*inputs), (shown, errors))

    def read(self, name):
        with open(os.path.join(self.folder, name)) as f:
            return f.read()

    def test_captured_output(self):
        self.check(["%%capture out", "print 'printed'", "io.write 'written '", "io.stderr:write 'err '", "os.execute 'echo ran'",
                    "display {1}", "1 + 1", "", "out"],
                   '"printed\\nwritten err ran\\n{ 1 }\\n2\\n"')
        self.check(["%%capture", "print 'gone'", "", "print 'seen'"], "seen")
        shown, errors = self.run_inputs("%%capture", "print 'gone'", "error 'an error'", "", "print 'seen'")
        self.assertEqual(shown, "seen")
        self.assertIn("input 2:3: an error", errors)
        self.check(["%%capture 5", "x = 1", "", "x"], "", "%%capture: 5 is no name\n")

    def test_scripts(self):
        self.check(["%%bash one two", "for i in 1 2; do", "  echo \"$i $1\"", "done", "x='it'\"'\"'s'; echo $x", ""],
                   "1 one\n2 one\nit's")
        self.check(["%%sh", "exit 3", ""], "%%sh ended with status 3")

    def test_written_files(self):
        self.check(["%%writefile \"a b.lua\"", "x = 5", "", "print(x)", "%run 'a b.lua'", "x"], "wrote a b.lua\nnil\n5")
        self.assertEqual(self.read("a b.lua"), "x = 5\n")
        self.check(["%%writefile -a 'a b.lua'", "y = 6", "", "%%file c.txt", "new", ""], "added to a b.lua\nwrote c.txt")
        self.assertEqual(self.read("a b.lua"), "x = 5\ny = 6\n")
        self.check(["%%writefile c.txt", "other", ""], "replaced c.txt")
        self.assertEqual(self.read("c.txt"), "other\n")
        shown, errors = self.run_inputs("%%writefile no/such/x", "a", "")
        self.assertIn("no/such/x", errors)

    def test_cells_of_code(self):
        shown, errors = self.run_inputs("%%time", "local a = 5", "print(a)", "error 'here'", "", "a")
        self.assertEqual(shown, "5\n5")
        self.assertIn("input 2:4: here", errors)
        shown, _ = self.run_inputs("%%bench", "local a = 1", "local b = a + 1", "")
        self.assertRegex(shown, r"median of \d+ rounds")
        self.assertIn("no command %nonsense", self.run_inputs("%%nonsense", "x", "")[1])
        self.assertIn("this command takes one line", self.run_inputs("%%pwd", "x", "")[1])

    def test_shown_as_html(self):
        self.check(["%%html", "<b>x</b>", ""], "<b>x</b>")

    def test_running_inputs_again(self):
        self.check(["x = (x or 0) + 1", "%rerun 2", "x", "%rerun 2-4", "x"], "x = (x or 0) + 1\n2\nx = (x or 0) + 1\n"
                   "x = (x or 0) + 1\nx\n4\n4")

    def test_loading(self):
        self.path("f.lua", "print 'in the file'\n")
        self.check(["%load f.lua", "function g() return 1 end", "%load g"], "print 'in the file'\nfunction g() return 1 end")
        self.assertIn("forward", self.run_inputs("%load nn.Linear")[0])
        self.assertIn("no.lua", self.run_inputs("%load no.lua")[1])

    def test_modules_that_change(self):
        write = "function write(n) local f = io.open('changing.lua', 'w') f:write('return {n = ' .. n .. '}') f:close() end"
        shown, errors = self.run_inputs(write, "write(1)", "m = require 'changing'", "m.n", "write(22)", "m.n", "%autoreload",
                                        "write(333)", "m.n", "write '4 +'", "m.n", "write(55555)", "m.n", "%autoreload off",
                                        "write(6)", "m.n", LUA_PATH="./?.lua;;")
        self.assertEqual(errors, "")
        lines = shown.split("\n")
        self.assertEqual([line for line in lines if line.isdigit()], ["1", "1", "333", "333", "55555", "55555"])
        self.assertEqual(lines.count("loaded changing again"), 2)
        self.assertTrue(any(line.startswith("changing is as it was: error loading") for line in lines), shown)

    def test_nothing_of_the_user_is_called(self):
        self.check(["os.execute = error io.popen = error", "!echo a", "x = !echo b", "x[1]"], 'a\n"b"')

    def test_recall_at_a_terminal(self):
        t = Terminal()
        self.addCleanup(t.close)
        t.wait_for_prompt(1)
        t.type("1 + 1\r")
        t.wait_for_prompt(2)
        t.type("%recall\r")
        t.wait_for(r"(?m)^3> 1 \+ 1\Z")
        t.type(" + 40\r")
        t.wait_for(r"(?m)^3> 1 \+ 1 \+ 40\n42\n4>\Z")

    def test_editing_at_a_terminal(self):
        editor = self.path("editor", "#!/bin/sh\ncp \"$1\" %s\nsed -i 's/1/2/' \"$1\"\n" % self.path("seen.lua"), True)
        t = Terminal(EDITOR=editor, VISUAL="")
        self.addCleanup(t.close)
        t.wait_for_prompt(1)
        t.type("print(1)\r")
        t.wait_for_prompt(2)
        t.type("%edit\r")
        t.wait_for(r"print\(2\)\n2\n3>\Z")
        t.type("%edit nn.Linear\r")
        t.wait_for(r"(?m)^4>\Z")
        self.assertIn("forward", self.read("seen.lua"))
        self.path("a b.lua", "x = 1")
        t.type("%%edit '%s'\r" % self.path("a b.lua"))
        t.wait_for_prompt(5)
        t.type("x\r")
        t.wait_for(r"(?m)^5> x\n2\n6>\Z")


if __name__ == "__main__":
    unittest.main()
