# SPDX-License-Identifier: MIT
"""A function of 60 lines edited in a real terminal, tmux, of three sizes, with the keys of three kinds of terminals, as
emacs and as vi do it.

With NABLUA_SCREENS=FOLDER the screens are left there, to be looked at.
"""
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from terminal import NABLUA, ROOT, TIMEOUT, environment

COUNT = 60
LINES = ["function sum(l)", "  local s = 0"] + ["  s = s + l[%d]" % i for i in range(1, COUNT - 3)] + \
        ["  return s", "end"]  # each fits into 20 columns

# What other terminals than tmux's own send.
KEYS = {
    "xterm": {"Home": "\x1b[H", "End": "\x1b[F", "First": "\x1b[1;5H", "Last": "\x1b[1;5F", "Up": "\x1b[A",
              "PageUp": "\x1b[5~", "PageDown": "\x1b[6~", "Delete": "\x1b[3~", "WordRight": "\x1b[1;5C"},
    "rxvt": {"Home": "\x1b[7~", "End": "\x1b[8~", "First": "\x1b[7^", "Last": "\x1b[8^", "Up": "\x1bOA",
             "PageUp": "\x1b[5~", "PageDown": "\x1b[6~", "Delete": "\x1b[3~", "WordRight": "\x1bOc"},
    "console": {"Home": "\x1b[1~", "End": "\x1b[4~", "First": "\x1b<", "Last": "\x1b>", "Up": "\x1b[A",
                "PageUp": "\x1b[5~", "PageDown": "\x1b[6~", "Delete": "\x1b[3~", "WordRight": "\x1bf"},
}


@unittest.skipUnless(shutil.which("tmux"), "there is no tmux")
class Function(unittest.TestCase):
    begun = 0

    def begin(self, columns, rows, mode):
        self.begun += 1
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        inputrc = os.path.join(folder.name, "inputrc")
        with open(inputrc, "w") as f:
            f.write("set editing-mode %s\n" % mode)
        self.socket = os.path.join(folder.name, "tmux")
        self.env = environment(folder.name, INPUTRC=inputrc)
        del self.env["NO_COLOR"], self.env["TERM"]
        self.env.pop("TMUX", None)
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), NABLUA, "--no-banner")
        self.tmux("set-option", "-g", "status", "off")
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))
        # Of this socket, since a test may begin several.
        self.addCleanup(subprocess.run, ["tmux", "-S", self.socket, "kill-server"], capture_output=True, check=False)
        self.name = "%s-%dx%d-%d" % (mode, columns, rows, self.begun)
        self.shown = 0
        self.wait_for(lambda screen: re.search(r"(?m)^1>$", "\n".join(screen)))

    def tmux(self, *arguments):
        return subprocess.run(["tmux", "-S", self.socket, *arguments], env=self.env, cwd=ROOT, capture_output=True,
                              text=True, check=False).stdout

    def screen(self):
        return [line.rstrip() for line in self.tmux("capture-pane", "-p").rstrip("\n").split("\n")]

    def cursor(self):
        return tuple(map(int, self.tmux("display-message", "-p", "#{cursor_y} #{cursor_x}").split()))

    def wait_for(self, seen):
        end = time.monotonic() + TIMEOUT
        while not seen(self.screen()):
            if time.monotonic() > end:
                raise AssertionError("%s at %s:\n%s" % (self.name, self.cursor(), "\n".join(self.screen())))
            time.sleep(0.01)
        if os.environ.get("NABLUA_SCREENS"):
            self.shown += 1
            with open(os.path.join(os.environ["NABLUA_SCREENS"], "%s-%02d.txt" % (self.name, self.shown)), "w") as f:
                f.write(self.tmux("capture-pane", "-p", "-e"))

    def at(self, line):
        """Waits for the cursor in this line of the block."""
        self.wait_for(lambda screen: (screen + [""] * 300)[self.cursor()[0]][3:].rstrip() == line.rstrip())

    def send(self, *bytes_of_keys):
        for text in bytes_of_keys:
            self.tmux("send-keys", "-l", "--", text)

    def paste(self):
        self.tmux("set-buffer", "\n".join(LINES))
        self.tmux("paste-buffer", "-p")
        self.at("end")

    def check(self, number, result):
        self.wait_for(lambda screen: re.search(r"(?m)^%d>$" % number, "\n".join(screen)))
        self.send("t = {} for i = 1, 99 do t[i] = 1 end sum(t);")
        self.tmux("send-keys", "Enter")
        self.wait_for(lambda screen: screen[-1] == "%d>" % (number + 1))
        self.send("sum(t)")
        self.tmux("send-keys", "Enter")
        self.wait_for(lambda screen: screen[-2:] == [str(result), "%d>" % (number + 2)])

    def edit_as_emacs(self, keys):
        self.paste()
        self.send(keys["First"])
        self.at(LINES[0])
        self.send(keys["End"])
        self.tmux("send-keys", "Enter")  # a line more, in the middle
        self.send("local e = 100")
        self.at("  local e = 100")
        self.send(keys["PageDown"], keys["PageUp"], keys["Last"])
        self.at("end")
        self.send(keys["Up"], keys["Home"], keys["WordRight"], keys["WordRight"], " + e")
        self.at("  return s + e")
        self.send(keys["Up"], keys["End"], "\x15")
        self.at("")
        self.send("-- none", keys["Home"], keys["Delete"] * 3)
        self.at("none")
        self.send("-- ")
        self.at("-- none")
        self.send(keys["Last"])
        self.at("end")
        self.tmux("send-keys", "Enter")
        self.check(2, 100 + COUNT - 5)

    def edit_as_vi(self, keys):
        self.paste()
        self.send("\x1b")
        self.wait_for(lambda screen: screen[-1].endswith("end") and self.cursor()[1] == 5)
        self.send("gg")
        self.at(LINES[0])
        self.send("olocal e = 100")
        self.at("  local e = 100")
        self.send("\x1b")
        self.send("G", "k", "A + e")
        self.at("  return s + e")
        self.send("\x1b")
        self.send("kdd", "k", "0wx", "u", "$b")
        self.at("  s = s + l[%d]" % (COUNT - 5))
        self.send("gg", "jj", keys["PageDown"], keys["Home"], keys["End"], keys["Up"], "G")
        self.at("end")
        self.send("gg", "\r")
        self.check(2, 100 + COUNT - 5)

    def test_a_window_that_changes_while_a_block_is_edited(self):
        self.begin(80, 24, "emacs")
        self.paste()
        self.send("\x1b[A" * 3)
        self.at(LINES[COUNT - 4])
        for columns, rows in ((60, 8), (100, 30), (20, 5), (80, 24)):
            self.tmux("resize-window", "-x", str(columns), "-y", str(rows))
            self.wait_for(lambda screen: len(screen) <= rows and
                          all(line[3:] == LINES[i - self.cursor()[0] + COUNT - 4] for i, line in enumerate(screen)
                              if line[3:] and not line.startswith("1>")) and
                          (screen + [""] * 99)[self.cursor()[0]][3:] == LINES[COUNT - 4])
        self.send("\x1b>")
        self.at("end")
        self.tmux("send-keys", "Enter")
        self.check(2, COUNT - 4)

    def test_in_three_sizes_with_the_keys_of_three_terminals(self):
        sizes = ((80, 24), (20, 5), (200, 50))
        for (columns, rows), name in itertools.product(sizes, KEYS) if os.environ.get("NABLUA_PROVE") else zip(sizes, KEYS):
            for mode, edit in (("emacs", self.edit_as_emacs), ("vi", self.edit_as_vi)):
                with self.subTest(mode, columns=columns, rows=rows, keys=name):
                    self.begin(columns, rows, mode)
                    edit(KEYS[name])


if __name__ == "__main__":
    unittest.main()
