# SPDX-License-Identifier: MIT
"""vi's commands in a block, beside what Vim makes of the same keys: the lines, and where the cursor is."""
import os
import tempfile
import time
import unittest

from terminal import TIMEOUT, Terminal

TEXT = ["function f(a, b)", "  local x = a + 10", "", "  if x > (b * 2) then", "    print(\"x y\", x)", "  end",
        "  return {x, [a] = b}", "end"]

# Keys that are typed at line 4, column 7, behind "if x"; the lines from the first to the second number become those in the
# list; then the cursor's line and column.  Written by Vim 9.0 with nocompatible, sw=2, et, ai, sol, nojs.
CASES = [
    ("daw", 3, 4, ["  if x (b * 2) then"], (4, 7)),
    ("$daw", 3, 4, ["  if x > (b * 2)"], (4, 16)),
    ("2daw", 3, 4, ["  if xb * 2) then"], (4, 7)),
    ("diW", 3, 4, ["  if x> (b * 2) then"], (4, 7)),
    ('jf"di"', 4, 5, ['    print("", x)'], (5, 12)),
    ('jfyda"', 4, 5, ["    print(, x)"], (5, 11)),
    ("di(", 3, 4, ["  if x > () then"], (4, 11)),
    ("ca(Z\x1b", 3, 4, ["  if x > Z then"], (4, 10)),
    ("ya(P", 3, 4, ["  if x > (b * 2)(b * 2) then"], (4, 16)),
    ("dap", 2, 8, [], (2, 3)),
    ("dip", 3, 8, [], (3, 1)),
    ("d}", 3, 8, ["  if x"], (4, 6)),
    ("d{", 2, 4, [" > (b * 2) then"], (3, 1)),
    ("}dd", 7, 8, [], (7, 3)),
    ("{iZ\x1b", 2, 3, ["Z"], (3, 1)),
    ("gex", 3, 4, ["  if  > (b * 2) then"], (4, 6)),
    ("wgEx", 3, 4, ["  if  > (b * 2) then"], (4, 6)),
    ("g_x", 3, 4, ["  if x > (b * 2) the"], (4, 20)),
    ("2dw", 3, 4, ["  if x(b * 2) then"], (4, 7)),
    ("d2w", 3, 4, ["  if x(b * 2) then"], (4, 7)),
    ("c2wZ\x1b", 3, 4, ["  if xZ(b * 2) then"], (4, 7)),
    ("dG", 3, 8, [], (3, 1)),
    ("dgg", 0, 4, [], (1, 5)),
    ("2dd", 3, 5, [], (4, 3)),
    ("2yyP", 5, 5, ["  if x > (b * 2) then", '    print("x y", x)'], (4, 3)),
    ("3x", 3, 4, ["  if x(b * 2) then"], (4, 7)),
    ("3iab\x1b", 3, 4, ["  if xababab > (b * 2) then"], (4, 12)),
    ("2A;\x1b", 3, 4, ["  if x > (b * 2) then;;"], (4, 23)),
    ("x3.", 3, 4, ["  if xb * 2) then"], (4, 7)),
    ("dw2.", 3, 4, ["  if xb * 2) then"], (4, 7)),
    ("RQQQ\x1b", 3, 4, ["  if xQQQ(b * 2) then"], (4, 9)),
    ("RQQ\x7f\x7f\x1b", 8, 8, [], (4, 6)),
    ("$RQQ\x7f\x1b", 3, 4, ["  if x > (b * 2) theQ"], (4, 21)),
    ("3J", 3, 6, ['  if x > (b * 2) then print("x y", x) end'], (4, 38)),
    ("d%", 3, 4, ["  if x then"], (4, 7)),
    ("f(d%", 3, 4, ["  if x >  then"], (4, 10)),
    ("dfx", 8, 8, [], (4, 7)),
    ("dtx", 8, 8, [], (4, 7)),
    ("dTi", 3, 4, ["  i > (b * 2) then"], (4, 4)),
    ("$dF(", 3, 4, ["  if x > n"], (4, 10)),
    ("fx;x", 3, 4, ["  if x> (b * 2) then"], (4, 7)),
    ("tx;x", 3, 4, ["  if x> (b * 2) then"], (4, 7)),
    ("ct(Z\x1b", 3, 4, ["  if xZ(b * 2) then"], (4, 7)),
    (">j", 3, 5, ["    if x > (b * 2) then", '      print("x y", x)'], (4, 5)),
    ("2>>", 3, 5, ["    if x > (b * 2) then", '      print("x y", x)'], (4, 5)),
    ("d_", 3, 4, [], (4, 5)),
    ("d+", 3, 5, [], (4, 3)),
    ("ddu", 8, 8, [], (4, 3)),
    ("xu", 8, 8, [], (4, 7)),
    ("dwdwuu", 8, 8, [], (4, 7)),
    ("ccZ\x1bu", 8, 8, [], (4, 3)),
    ("2cwZ\x1bk.", 2, 4, ["ZxZ(b * 2) then"], (3, 1)),
    ("iZ\x1b0.", 3, 4, ["Z  if xZ > (b * 2) then"], (4, 1)),
    ("iZ\x1bPP", 3, 4, ["  if xZ > (b * 2) then"], (4, 7)),
    ("AQ\x1b^x", 3, 4, ["  f x > (b * 2) thenQ"], (4, 3)),
    ("jddp", 4, 6, ["  end", '    print("x y", x)'], (6, 5)),
    ("Yp", 4, 4, ["  if x > (b * 2) then"], (5, 3)),
    ("3GcwZ\x1b", 2, 3, ["Z"], (3, 1)),
    ("2Gdj", 1, 3, [], (2, 3)),
    ('"ayyp', 4, 4, ["  if x > (b * 2) then"], (5, 3)),
    ("maxx", 3, 4, ["  if x (b * 2) then"], (4, 7)),
    ("~~~", 8, 8, [], (4, 10)),
    ("2rZ", 3, 4, ["  if xZZ (b * 2) then"], (4, 8)),
    ("D.", 3, 4, ["  if "], (4, 5)),
    ('jci"Z\x1b', 4, 5, ['    print("Z", x)'], (5, 12)),
    ("jjjci{Z\x1b", 6, 7, ["  return {Z}"], (7, 11)),
    ("jjjdi[", 6, 7, ["  return {x, [] = b}"], (7, 15)),
    ("c$Z\x1b", 3, 4, ["  if xZ"], (4, 7)),
    ("dh", 3, 4, ["  if  > (b * 2) then"], (4, 6)),
    ("d2h", 3, 4, ["  if > (b * 2) then"], (4, 5)),
    ("xp", 3, 4, ["  if x>  (b * 2) then"], (4, 8)),
    ("dlP", 8, 8, [], (4, 7)),
    ("y2wP", 3, 4, ["  if x >  > (b * 2) then"], (4, 9)),
]


class Vi(unittest.TestCase):
    def begin(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        inputrc = os.path.join(folder.name, "inputrc")
        with open(inputrc, "w") as f:
            f.write("set editing-mode vi\n")
        self.t = Terminal("--no-banner", home=folder.name, INPUTRC=inputrc)
        self.t.wait_for_prompt(1)
        self.begun = 0

    def block(self):
        rows = self.t.text().split("\n")
        rows += [""] * (self.t.screen.cursor.y + 1 - len(rows))
        return [row[3:].rstrip() for row in rows[self.begun:]], \
            (self.t.screen.cursor.y - self.begun + 1, self.t.screen.cursor.x - 2)

    def until(self, lines, cursor):
        lines = [line.rstrip() for line in lines]
        end = time.monotonic() + TIMEOUT
        while self.block() != (lines, cursor):
            if time.monotonic() > end or not self.t.read(0.05):
                self.assertEqual(self.block(), (lines, cursor))

    def paste(self, text):
        self.t.type("\x1b[200~" + "\n".join(text) + "\x1b[201~\x1b")
        self.until(text, (len(text), len(text[-1])))

    def test_as_vim(self):
        for keys, first, last, lines, cursor in CASES:
            with self.subTest(keys):
                self.begin()
                try:
                    self.paste(TEXT)
                    self.t.type("4G7|" + keys)
                    self.until(TEXT[:first] + lines + TEXT[last:], cursor)
                finally:
                    self.t.close()

    def test_keys_that_come_at_once_are_single_keys(self):
        self.begin()
        self.addCleanup(self.t.close)
        self.paste(["x = 1"])
        self.t.type("yliQ\x1bP^iW\x1b_x")  # a terminal's answers begin with Esc P, Esc ^ and Esc _, too
        self.until(["x = 1Q1"], (1, 1))

    def test_the_mode_is_seen_where_the_prompt_is_not(self):
        self.begin()
        self.addCleanup(self.t.close)
        self.t.resize(40, 6)
        self.t.type("\x1b[200~" + "\n".join(["f {"] + ["  %d," % i for i in range(9)] + ["}"]) + "\x1b[201~")
        self.t.wait_for(r"\A ↑   4,\n[\s\S]*\| }\Z")
        self.t.type("\x1b")
        self.t.wait_for(r"\A ↑:  4,\n[\s\S]*\| }\Z")
        self.t.type("A")
        self.t.wait_for(r"\A ↑   4,\n[\s\S]*\| }\Z")

    def test_a_comment(self):
        self.begin()
        self.addCleanup(self.t.close)
        self.paste(["x = = 1", "y = 2"])
        self.t.type("#")
        self.t.wait_for_prompt(2)
        self.assertEqual(self.t.text()[1:], ": -- x = = 1\n | -- y = 2\n2>")

    def test_the_search_goes_on(self):
        self.begin()
        self.addCleanup(self.t.close)
        for n, code in enumerate(("needle = 1", "x = 2", "needle = 3", "x = 4"), 1):
            self.t.type(code + "\r")
            self.t.wait_for_prompt(n + 1)
        self.begun = 4
        self.t.type("\x1b")
        self.t.wait_for(r"(?m)^5:\Z")
        self.t.type("/needle")
        self.t.wait_for("5> needle = 3|5: needle = 3")
        self.t.type("\x1b")
        self.until(["needle = 3"], (1, 1))
        for key, line in ("n", "needle = 1"), ("N", "needle = 3"):
            self.t.type(key)
            self.t.wait_for("5[:>] " + line)
            self.t.type("\x1b")
            self.until([line], (1, 1))


if __name__ == "__main__":
    unittest.main()
