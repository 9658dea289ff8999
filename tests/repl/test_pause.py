# SPDX-License-Identifier: MIT
"""The paused prompt as it is typed in a real terminal, tmux: what it shows, moves and changes.

With NABLUA_SCREENS=FOLDER the screens that were checked are left there, to be looked at.
"""
import os
import re
import shutil
import tempfile
import time
import unittest

import test_tmux

PROGRAM = """function layer(x, w)
local h = x * w
local y = h + 1
return y
end function net(x)
local a = layer(x, 2)
local b = layer(a, 3)
return b
end"""


@unittest.skipUnless(shutil.which("tmux"), "there is no tmux")
class Paused(unittest.TestCase):
    setUp, tmux, screen, keep, wait_for, type, key, prompt, enter = (
        getattr(test_tmux.InTmux, name)
        for name in ("setUp", "tmux", "screen", "keep", "wait_for", "type", "key", "prompt", "enter"))

    def define(self):
        for line in PROGRAM.split("\n"):
            self.type(line)
            self.key("Enter")
        self.prompt()

    def pause(self, line, expected):
        """An input that pauses."""
        self.type(line)
        self.key("Enter")
        self.wait_for(expected + r".*\n(.*\n)?paused>\Z")
        self.count = 0

    def ask(self, line, expected=None):
        """What a line at the paused prompt shows; the screen is empty but for the prompt before it."""
        self.key("C-l")
        self.wait_for(r"\Apaused>\Z")
        self.type(line)
        self.key("Enter")
        self.count += 1
        shown = self.wait_for(r"\Apaused>.*\n(.*\n)*paused>\Z" if line else r"\Apaused>\n(.*\n)+paused>\Z")
        shown = shown.split("\n", 1)[1].rsplit("\n", 1)[0] if shown.count("\n") > 1 else ""
        if expected is not None:
            self.assertRegex(shown, expected)
        return shown

    def go(self, line):
        self.type(line)
        self.key("Enter")
        self.number += 1
        return self.wait_for(r"(?m)^%d>\Z" % self.number)

    def test_a_session_of_forty_commands(self):
        self.define()
        self.enter("%break input 1:6")
        self.pause("net(5)", r"input 1:6 in 'net'\n    local a = layer\(x, 2\)")
        for line, expected in (
                ("x", "^5$"), ("w", r"> input 1:6 in 'net'\n  input 3:1"), ("list", r"\*> +6  *local a"),
                ("l", "no more lines"), ("step", r"input 1:2 in 'layer'\n    local h = x \* w"), ("where", r"> input 1:2 in 'layer'\n  input 1:6"),
                ("locals", r"  x = 5\n  w = 2"), ("w", r"^2$"), (":w", r"> input 1:2"), ("next", r"input 1:3"), ("", r"input 1:4"),
                ("h", "^10$"), ("y", "^11$"), ("u", r"input 1:6 in 'net'"), ("x", "^5$"), ("d", r"input 1:4 in 'layer'"),
                ("d", "innermost"), (":up 5", "outermost"), (":down 9", "innermost"), ("y = 100", "^$"), ("y", "^100$"),
                ("local k = y * 2", "^$"), ("k + 1", "^201$"), ("nb.ones(2):sum()", "^2"), ("?nn.Tanh", "(?i)tanh"),
                ("nothing.field", "attempt to index a nil"), ("x = )", "unexpected symbol"),
                ("for i = 1, 2 do print(i * k) end", r"^200\n400$"), ("%who", "layer"), (":nowhere", "no word here"),
                ("out", r"input 1:(6|7) in 'net'"), ("next", r"input 1:(7|8)"), ("a", "^100$"), (":until 8", r"input 1:8|already"),
                ("b", None), ("breakpoint(1)", "expected nothing"), (":list 1", r"   1  function layer"), (":help", ":continue"),
                ("%break", r"input 1:6"), ("string.rep('ab', 3)", "ababab")):
            self.ask(line, expected)
        self.assertGreaterEqual(self.count, 40)
        self.keep("paused")
        # Several lines at the prompt.
        self.key("C-l")
        self.wait_for(r"\Apaused>\Z")
        for line in ("do", "local s = x", "print('sum', s)"):
            self.type(line)
            self.key("Enter")
            self.wait_for(r"\|\Z")
        self.type("end")
        self.key("Enter")
        self.wait_for(r"sum\t* *5\npaused>\Z")
        self.keep("paused_lines")
        # Ctrl-C takes the line away, and nothing else.
        self.type("x + 1000")
        self.wait_for(r"paused> x \+ 1000\Z")
        self.key("C-c")
        self.wait_for(r"\npaused>\Z")
        self.ask("x", "^5$")
        # What is typed there may be stopped alone.
        self.type("while true do end")
        self.key("Enter")
        time.sleep(0.5)
        self.key("C-c")
        self.wait_for(r"interrupted\n(.*\n)*paused>\Z")
        self.ask("x", "^5$")
        self.keep("paused_stopped")
        screen = self.go("c")
        self.assertRegex(screen, r"(?m)^301$")  # 100 · 3 + 1
        self.enter("%break off")
        self.assertTrue(self.enter("net(5)").endswith("\n34\n%d>" % self.number))

    def test_a_key_pauses_what_runs(self):
        self.type("n = 0; while n >= 0 do n = n + 1 end")
        self.key("Enter")
        time.sleep(0.5)
        self.key("C-\\")
        self.wait_for(r"paused>\Z")
        self.count = 0
        first = int(self.ask("n"))
        self.assertEqual(int(self.ask("n")), first)
        self.ask("n = -10", "^$")
        self.go("c")
        self.assertIn("\n-", "\n" + self.enter("n").split("\n")[-2])

    def test_quitting_keeps_everything(self):
        self.enter("kept = 7")
        self.pause("local a = 1 breakpoint() kept = 8", r"breakpoint\(\)")
        screen = self.go("q")
        self.assertIn("interrupted", screen)
        self.assertTrue(self.enter("kept").endswith("\n7\n%d>" % self.number))

    def test_a_handler_by_the_clock_goes_on_meanwhile(self):
        self.enter("ticks = 0 clock = ui.every(0.05, function() ticks = ticks + 1 end)")
        self.pause("local a = 1 breakpoint() return a", r"breakpoint\(\)")
        before = int(self.ask("ticks"))
        time.sleep(1)
        self.assertGreater(int(self.ask("ticks")), before + 3)
        self.go("c")

    def test_errors_pause_where_they_happen(self):
        self.enter("%pdb on")
        self.enter("function f(t) local depth = 3 return t.a.b end")
        self.pause("f({})", r"field 'a'\)\n(.*\n)*input 2:1 in 'f'\n")
        self.ask("depth", "^3$")
        self.assertIn("attempt to index", self.go("c"))
        self.enter("%pdb off")
        self.assertIn("attempt to index", self.enter("f({})"))

    def test_a_file_that_has_changed_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "layer.lua")
            with open(path, "w") as file:
                file.write("function layer(x)\n  local h = x * 2\n  breakpoint()\n  return h\nend\n")
            self.enter("dofile %r" % path)
            self.pause("layer(4)", r"breakpoint\(\)")
            self.assertNotIn("has changed", self.ask("list"))
            self.ask("h", "^8$")
            self.go("c")
            with open(path, "w") as file:
                file.write("-- another first line\nfunction layer(x)\n  breakpoint()\n  return x\nend\n")
            self.type("layer(4)")
            self.key("Enter")
            self.assertIn("has changed since it was loaded", self.wait_for(r"paused>\Z").replace("\n", ""))
            self.count = 0
            self.ask("h", "^8$")
            self.go("c")


if __name__ == "__main__":
    unittest.main()
