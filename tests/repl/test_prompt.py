# SPDX-License-Identifier: MIT
"""The prompt, as somebody who types at a terminal sees it."""
import os
import re
import resource
import signal
import stat
import subprocess
import tempfile
import time
import unittest

from terminal import NABLUA, ROOT, SANITIZED, TIMEOUT, Terminal, environment, without_times

UP, DOWN, RIGHT, BACK_TAB, DEBUG = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[Z", r"(?m)^(debug|paused)>\Z"


class Prompt(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = home.name
        self.begin()

    def begin(self, **variables):
        self.t = Terminal("--no-banner", home=self.home, rows=400, **variables)
        self.addCleanup(self.t.close)
        self.number = 1
        self.t.wait_for_prompt(1)

    def answer(self, line, end="\r"):
        """Types an input; returns what the screen then shows below it, times apart."""
        return without_times(self.shown(line, end))

    def shown(self, line, end="\r"):
        before = self.t.text()
        self.t.type(line + end)
        self.number += 1
        self.t.wait_for_prompt(self.number)
        text = self.t.text()
        self.assertTrue(text.startswith(before), text)
        return text[len(before):].split("\n", 1)[1].rsplit("\n", 1)[0] + "\n"

    def ask(self, line):
        """Types a line for the debugger's prompt."""
        return self.between(line + "\r", DEBUG)

    def between(self, typed, until):
        before = self.t.text()
        self.t.type(typed)
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            self.t.read(0.1)
            text = self.t.text()
            if len(text) > len(before) + 1 and re.search(until, text[len(before) + 1:]):
                return text[len(before):]
        raise AssertionError("no %r in:\n%s" % (until, self.t.text()))

    # ---- evaluating ----

    def test_values_errors_and_help(self):
        self.assertEqual(self.answer("1 + 1"), "2\n")
        self.assertEqual(self.answer("_ * 2"), "4\n")
        self.assertEqual(self.answer("x = 3; x"), "3\n")
        self.assertIn("matmul", self.answer("nb.ones(2):matmul(nb.ones(3))"))
        self.assertEqual(self.answer("x"), "3\n")
        self.assertIn("nn.Linear", self.answer("?nn.Linear"))
        self.assertIn("nb.relu", self.answer("relu?"))

    def test_several_lines_are_one_input(self):
        self.t.type("function double(x)\r")
        self.t.wait_for(r"\|\Z")
        self.t.type("return 2 * x\r")
        self.t.wait_for(r"(?s)2 \* x.*\|\Z")
        self.answer("end")
        self.assertEqual(self.answer("double(21)"), "42\n")

    def test_control_c_keeps_everything(self):
        self.answer("kept = 7")
        self.t.type("while true do end\r")
        time.sleep(0.3)
        self.assertIn("interrupted", self.answer("\x03", end=""))
        self.assertEqual(self.answer("kept"), "7\n")
        self.t.type("half a line")
        self.t.wait_for("half a line")
        self.t.type("\x03")
        self.t.wait_for_prompt(self.number)
        self.assertEqual(self.answer("kept + 1"), "8\n")

    def test_control_c_stops_what_follows_a_coroutine_that_failed_in_a_whole_step(self):
        self.answer("co = coroutine.create(function() require('nablua.native').whole(error, 'in it') end)")
        self.assertEqual(self.answer("coroutine.resume(co)"), "false\n\"in it\"\n")
        self.t.type("while true do end\r")
        time.sleep(0.3)
        self.assertIn("interrupted", self.answer("\x03", end=""))

    def test_control_d_leaves(self):
        self.t.type("\x04")
        self.assertEqual(self.t.status(), 0)

    def test_the_init_file_runs_first_and_its_errors_are_shown(self):
        os.makedirs(os.path.join(self.home, "nablua"), exist_ok=True)
        with open(os.path.join(self.home, "nablua/init.lua"), "w") as f:
            f.write("greeting = 'hello'\nerror 'and stop'\n")
        self.begin()
        self.t.wait_for("and stop")
        self.assertEqual(self.answer("greeting"), '"hello"\n')

    def test_long_inputs_tell_their_time(self):
        self.assertRegex(self.shown("nb.sleep(1.1)"), r"^\d\.\d s\n$")
        self.between("name = input('who? ')\r", r"who\?\Z")
        time.sleep(1.1)
        self.assertNotRegex(self.shown("Ada"), r"\d s\n$")  # that was the user's time

    # ---- editing ----

    def test_history_brings_blocks_back_whole_in_the_next_session(self):
        self.answer("function five()\rreturn 5\rend")
        self.t.type("\x04")
        self.assertEqual(self.t.status(), 0)
        self.begin()
        self.t.type(UP)
        self.t.wait_for(r"1> function five\(\)\n \|   return 5\n \| end\Z")
        self.answer("")
        self.assertEqual(self.answer("five()"), "5\n")

    def test_up_finds_the_inputs_that_begin_like_the_line(self):
        for line in ("alpha = 1", "beta = 2", "alpine = 3", "gamma = 4"):
            self.answer(line)
        self.t.type("al" + UP)
        self.t.wait_for(r"5> alpine = 3\Z")
        self.t.type(UP)
        self.t.wait_for(r"5> alpha = 1\Z")
        self.t.type(DOWN)
        self.t.wait_for(r"5> alpine = 3\Z")

    def test_with_colours_an_input_is_suggested(self):
        self.answer("a_rather_long_name = 41")
        self.t.type("\x04")
        self.t.status()
        self.begin(NO_COLOR="")
        self.t.type("a_ra")
        self.t.wait_for(r"1> a_rather_long_name = 41\Z")
        self.assertEqual(self.t.screen.cursor.x, len("1> a_ra"))
        self.t.type(RIGHT + " + 1\r")
        self.t.wait_for_prompt(2)
        self.assertIn("a_rather_long_name = 41 + 1", self.t.text())
        self.t.type("a_ra\x15a_rather_long_name\r")  # what is only suggested is not run
        self.t.wait_for(r"\n42\n3>\Z")

    def test_tab_completes_and_describes(self):
        self.t.type("nb.matm\t")
        self.t.wait_for(r"nb\.matmul\Z")
        self.t.type("\x15nb.log1\t")
        self.t.wait_for(r"log1p +operator ")
        self.t.type("\x15" + "s" * 40 + "\t\x03")
        self.t.wait_for_prompt(1)

    def test_tab_goes_through_the_menu(self):
        self.answer("some = { alpha = 1, alpine = 2, beta = 3 }")
        self.t.type("some.\t")
        self.t.wait_for(r"2> some\.\nalpha +number\nalpine +number\nbeta +number\Z")
        self.t.type("\t\t")
        self.t.wait_for(r"2> some\.alpine\nalpha")
        self.t.type(BACK_TAB + BACK_TAB)
        self.t.wait_for(r"2> some\.beta\nalpha")
        self.t.type(UP)
        self.t.wait_for(r"2> some\.alpine\nalpha")
        self.t.type("\r")  # takes it; the menu goes
        self.t.wait_for(r"2> some\.alpine\Z")
        self.assertEqual(self.answer(" + 5"), "7\n")

    def test_in_place_operators_are_described(self):
        self.t.type("nb.add_\t\x15nb.clamp\t")
        self.t.wait_for(r"clamp_ +method +As nb\.clamp, written into t itself")

    def test_a_paste_is_one_input(self):
        lines = ["total = 0"] + ["total = total + %d" % i for i in range(1, 30)] + ["total"]
        self.t.type("\x1b[200~" + "\n".join(lines) + "\n\x1b[201~")
        self.t.wait_for(r"\| total\Z")
        self.assertEqual(self.answer(""), "435\n")

    def test_pasted_prompts_are_taken_off(self):
        paste = "1> local a = 20\n2> function f(x)\n |   return x + a\n | end\n3> f(1)\n21\n4> f(2), a\n22\n20\n"
        self.assertEqual(self.answer("\x1b[200~" + paste + "\x1b[201~").split("\n")[-4:], ["21", "22", "20", ""])
        self.assertEqual(self.answer("a"), "20\n")
        self.assertEqual(self.answer("\x1b[200~7> f(5)\x1b[201~"), "25\n")
        self.assertEqual(self.answer("\x1b[200~> b = 4\n> b\n4\n> for i = 1, 2 do\n>> print(i)\n>> end\n\x1b[201~")
                         .split("\n")[-4:], ["4", "1", "2", ""])
        self.assertEqual(self.answer("\x1b[200~In [12]: 6 * 7\x1b[201~"), "42\n")
        self.assertEqual(self.answer("\x1b[200~>>> for i = 1, 2 do\n...   print(i * 10)\n... end\n\x1b[201~")
                         .split("\n")[-3:], ["10", "20", ""])
        self.assertEqual(self.answer("5> 3"), "true\n")  # Lua all the same
        self.assertIn("nothing (global 'nope')".replace("nothing", "a nil value"),
                      self.answer("\x1b[200~1> x = 1\n2> nope()\n\x1b[201~"))

    def test_the_block_is_drawn_anew_when_the_window_changes(self):
        self.t.type("text = '" + "wide " * 10)
        self.t.wait_for("wide\\Z")
        self.t.resize(40, 20)
        os.kill(self.t.pid, signal.SIGWINCH)
        self.t.wait_for(r"(?s)text = .*\n")
        self.t.type("'\r")  # the block may still be on its way to the screen
        self.number += 1
        self.t.wait_for_prompt(self.number)
        self.assertEqual(self.answer("#text"), "50\n")

    def test_home_goes_to_the_line_and_control_l_clears_the_screen(self):
        self.answer("x = 5")
        self.t.type("x + 1\x1b[H2 * ")
        self.t.wait_for(r"2 \* x \+ 1\Z")
        self.t.type("\x0c")
        self.t.wait_for(r"\A2> 2 \* x \+ 1\Z")  # nothing stands above it any more
        self.t.type("\x1b[F\x1b[Z + 1\r")  # back-tab without a menu does nothing
        self.t.wait_for(r"(?m)^12\n3>")

    def test_lines_of_a_block_that_fill_the_row_wrap_where_the_terminal_does(self):
        self.t = Terminal("--no-banner", home=self.home, columns=30, rows=60)
        self.addCleanup(self.t.close)
        self.t.wait_for_prompt(1)
        self.t.type("do\r")
        self.t.wait_for(r"\|\Z")
        typed = "  s = 'first'"
        self.t.type("s = 'first'")
        for letter in "abcdefghijklmnopqrstuvwxyz":
            self.t.type("\x1b[D" + letter + "\x1b[C")  # before the quote, and behind it again
            typed = typed[:-1] + letter + typed[-1]
            self.t.wait_for(letter)
            for _ in range(20):
                text = self.t.text()
                if text.replace("\n", "").replace(" ", "") == "1>do|" + typed.replace(" ", ""):
                    break
                self.t.read(0.05)
            self.assertEqual(text.replace("\n", "").replace(" ", ""), "1>do|" + typed.replace(" ", ""))

    def test_edit_opens_an_editor_and_runs_what_it_leaves(self):
        script = os.path.join(self.home, "editor")
        with open(script, "w") as f:
            f.write("#!/bin/sh\nsed -i 's/1/10/' \"$1\"\n")
        os.chmod(script, stat.S_IRWXU)
        self.begin(EDITOR=script, VISUAL=script)
        self.answer("local n = 1 n + 5")
        self.assertEqual(self.answer("%edit"), "local n = 10 n + 5\n15\n")
        self.assertEqual(self.answer("n"), "10\n")
        self.assertIn("there is no input 99", self.answer("%edit 99"))
        self.assertRegex(self.answer("%history"), r"2  local n = 10 n \+ 5")

    # ---- asking and debugging ----

    def test_input_asks_and_hides(self):
        self.between("name = input('who? ')\r", r"who\?\Z")
        self.answer("Adb\x7fa")
        self.assertEqual(self.answer("name"), '"Ada"\n')
        self.between("secret = input('word? ', {password = true})\r", r"word\?\Z")
        self.assertNotIn("hidden", self.answer("hidden"))
        self.assertEqual(self.answer("secret"), '"hidden"\n')
        self.between("input('who? ')\r", r"who\?\Z")
        self.assertIn("interrupted", self.answer("\x03", end=""))

    def test_debug_looks_into_the_frames_of_an_error(self):
        self.answer("local scale = 10")
        self.answer("function layer(x) local w = nb.ones(3, 2) local y = x:matmul(w) return y * scale end")
        self.answer("function net(x) local h = x * 2 local out = layer(h) return out end")
        self.assertIn("matmul", self.answer("net(nb.ones(2, 4))"))
        self.assertIn("function layer", self.ask("%debug"))
        self.assertRegex(self.ask(":locals"), r"x = tensor f32 2×4\n +w = tensor f32 3×2\n +scale = 10")
        self.assertIn("{ 3, 2 }", self.ask("w.shape"))
        self.t.type("w.sha\t")  # the frame's names complete
        self.t.wait_for(r"debug> w\.shape\Z")
        self.t.type("\x15")
        self.assertIn("in 'net'", self.ask(":up"))
        self.assertIn("f32 2×4", self.ask("h"))
        self.assertIn("nil", self.ask("w.shape"))  # not a name here: the error is said, the prompt goes on
        self.ask(":down")
        self.ask("scale = 5")  # an upvalue: the program's own variable
        self.answer(":continue")
        self.assertEqual(self.answer("scale"), "5\n")
        self.ask("%debug")
        self.t.type(UP)  # what was typed there before
        self.t.wait_for(r"debug> :continue\Z")
        self.answer("")
        self.assertEqual(self.answer("1 + 1"), "2\n")

    def test_breakpoint_stops_in_the_callers_frame(self):
        self.answer("function f(n) local double = 2 * n breakpoint() return double end")
        self.ask("f(4)")
        self.assertIn("\n8\n", self.ask("double"))
        self.ask("double = 41")
        self.assertEqual(self.answer(":c"), "41\n")

    def test_debug_after_an_interrupt(self):
        self.answer("function f() local count = 0 while true do count = count + 1 end end")
        self.t.type("f()\r")
        time.sleep(0.3)
        self.answer("\x03", end="")
        self.ask("%debug")
        self.assertIn("true", self.ask("count > 0"))

    # ---- leaving in other ways ----

    def test_a_hangup_closes_what_is_to_be_closed(self):
        for number in (signal.SIGHUP, signal.SIGTERM):
            self.begin()
            path = os.path.join(self.home, "closed%d" % number)
            self.answer("x = 1")
            self.t.type("local c <close> = setmetatable({}, {__close = function() io.open('%s', 'w'):close() end}) "
                        "while true do end\r" % path)
            time.sleep(1 if SANITIZED else 0.3)
            os.kill(self.t.pid, number)
            self.assertEqual(self.t.status(), 128 + number)
            self.assertTrue(os.path.exists(path))
        self.begin()
        os.kill(self.t.pid, signal.SIGHUP)
        self.assertEqual(self.t.status(), 128 + signal.SIGHUP)
        self.begin()
        self.t.type(UP + UP)
        self.t.wait_for("x = 1")

    def test_a_history_that_cannot_be_written_is_said_once(self):
        self.begin(prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)))
        for i in range(1, 31):
            self.answer("x = %d" % i)
        self.assertEqual(self.answer("1 + 1"), "2\n")
        self.assertEqual(self.t.text().count("the history is not kept"), 1)
        blocked = os.path.join(self.home, "blocked")
        open(blocked, "w").close()
        self.t = Terminal("--no-banner", home=blocked)
        self.addCleanup(self.t.close)
        self.t.wait_for("(?s)the history is not kept: .*\n1>\\Z")
        self.number = 1
        self.assertEqual(self.answer("1 + 1"), "2\n")


class BadInput(unittest.TestCase):
    """Whatever comes through standard input, the session goes on."""

    def test_the_session_goes_on(self):
        deep = 20000 if SANITIZED else 100000
        long = "x = '%s'" % ("y" * (10 << 20))
        for name, code in (("nul", b"x = 1\0 + 2"), ("utf8", b"x = '\xff\xfe' \xff"), ("open string", b"x = 'abc"),
                           ("long line", long.encode()), ("deep", b"x = " + b"(" * deep + b")" * deep),
                           ("deep tables", b"x = " + b"{" * deep + b"}" * deep),
                           ("deep blocks", b"do " * deep + b"end " * deep), ("operators", b"x = 1" + b"^1" * deep),
                           ("negations", b"x = " + b"- " * deep + b"1"), ("brackets", b"x = " + b"[" * deep + b"\n]]"),
                           ("functions", b"x = " + b"function() return " * deep),
                           ("prompts", b"1> " * 1000 + b"1"), ("commands", b"%" * 5000), ("questions", b"?" * 5000),
                           ("loops", b"setmetatable({}, {__tostring = function() return {} end})"),
                           ("own", b"t = {} t.t = t; t"), ("index", b"setmetatable({}, {__index = error, __name = 5})"),
                           ("display", b"setmetatable({}, {__display = function() error(nil) end})"),
                           ("bundle", b"setmetatable({}, {__display = function() return {['text/plain'] = 5} end})"),
                           ("stack", b"setmetatable({}, {__display = function(self) display(self) end})")):
            r = subprocess.run([NABLUA, "-i", "--no-banner"], input=code + b"\n\n\nprint('still', 'here')\n",
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT,
                               env=environment(), cwd=ROOT)
            text = r.stdout.decode("utf-8", "replace")
            self.assertEqual(r.returncode, 0, (name, text[-300:]))
            self.assertIn("still\there\n", text, name)
            self.assertLess(len(text), 8000, (name, text[:300]))

    def test_closed_streams(self):
        for redirection in ("<&-", "</dev/null", ">&-", "2>&-", "<&- >&- 2>&-"):
            r = subprocess.run(["sh", "-c", '"$0" -i --no-banner ' + redirection, NABLUA], input="1 + 1\n",
                               capture_output=True, text=True, timeout=TIMEOUT, env=environment())
            self.assertEqual(r.returncode, 0, (redirection, r.stderr))

    def test_memory_has_a_limit(self):
        for code in ("local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end",
                     "local s = 'x' while true do s = s .. s end", "('x'):rep(2^31 - 1)"):
            r = subprocess.run([NABLUA, "-i", "--no-banner"], input=code + "\nprint('still', 'here')\n",
                               capture_output=True, text=True, timeout=TIMEOUT,
                               env={**environment(), "NABLUA_MEMORY": "300M"})
            self.assertIn("not enough memory", r.stdout + r.stderr, code)
            self.assertIn("still\there\n", r.stdout, code)


if __name__ == "__main__":
    unittest.main()
