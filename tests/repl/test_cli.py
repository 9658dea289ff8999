# SPDX-License-Identifier: MIT
"""The command line and the plain prompt, as a user's shell and terminal see them."""
import os
import pty
import re
import select
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))
SANITIZED = bool(re.search(r"/(asan|tsan|hostile)/", NABLUA))
TIMEOUT = 120 if SANITIZED else 30


def run(*arguments, stdin="", env=None):
    return subprocess.run([NABLUA, *arguments], input=stdin, capture_output=True, text=True, timeout=TIMEOUT,
                          env={**os.environ, **(env or {})})


class CommandLine(unittest.TestCase):
    def script(self, code):
        f = tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False)
        self.addCleanup(os.unlink, f.name)
        f.write(code)
        f.close()
        return f.name

    def test_strings_of_code(self):
        r = run("-e", "1 + 1", "-e", "x = 5", "-e", "print(x)")
        self.assertEqual((r.stdout, r.stderr, r.returncode), ("2\n5\n", "", 0))
        r = run("-e", "error 'stop'", "-e", "print 'not reached'")
        self.assertEqual((r.stdout, r.returncode), ("", 1))
        self.assertIn("stop", r.stderr)

    def test_more_kept_locals_than_a_function_can_have(self):
        inputs = []
        for part in range(4):
            names = ["v%d_%d" % (part, k) for k in range(150)]
            inputs += ["-e", "local %s = %s" % (", ".join(names), ", ".join(str(k) for k in range(150)))]
        used = ["v%d_%d" % (part, k) for part in range(4) for k in range(0, 150, 3)]
        r = run(*inputs, "-e", " + ".join(used), "-e", "v0_149 = 5 return v0_149 + v3_1")
        self.assertEqual((r.stdout, r.stderr), ("%d\n6\n" % (4 * sum(range(0, 150, 3))), ""))
        r = run(*inputs, "-e", " + ".join("v%d_%d" % (part, k) for part in range(4) for k in range(150)), "-i")
        self.assertIn("more than 240 locals", r.stderr)

    def test_a_script_gets_its_arguments(self):
        path = self.script("print(#arg, arg[0], arg[2], ...)")
        r = run(path, "a", "b c")
        self.assertEqual((r.stdout, r.returncode), ("2\t%s\tb c\ta\tb c\n" % path, 0))

    def test_standard_input_is_a_script(self):
        for arguments in ([], ["-"]):
            r = run(*arguments, stdin="local a = 2\nprint(a * 21)\n")
            self.assertEqual((r.stdout, r.stderr, r.returncode), ("42\n", "", 0))

    def test_information(self):
        self.assertRegex(run("--version").stdout, r"^nablua \d+\.\d+\.\d+\n$")
        self.assertIn("-e CODE", run("--help").stdout)
        self.assertIn("max(x, 0)", run("--doc", "relu").stdout)
        whole = run("--doc").stdout
        for name in ("nb.matmul", "nn.Linear", "optim.Adam", "data.batches"):
            self.assertRegex(whole, r"(?m)^#### %s$" % re.escape(name))

    def test_wrong_usage(self):
        for arguments, piece in ((["--nonsense"], "--nonsense"), (["-e"], "-e"), (["no such file.lua"], "no such file"),
                                 (["--doc", "nonsense"], "nonsense")):
            r = run(*arguments)
            self.assertNotEqual(r.returncode, 0, arguments)
            self.assertIn(piece, r.stderr)
            self.assertEqual(r.stdout, "")

    def test_errors_name_the_users_lines(self):
        path = self.script("local nb = require 'nablua'\nlocal function f(x)\n  return x:matmul(nb.ones(3, 2))\nend\n"
                           "f(nb.ones(2, 4))\n")
        r = run(path)
        self.assertEqual((r.stdout, r.returncode), ("", 1))
        lines = r.stderr.splitlines()
        self.assertRegex(lines[0], r"^nablua: .*:3: .*matmul.*2×4.*3×2")
        self.assertIn(":3", r.stderr)
        self.assertIn(":5", r.stderr)
        self.assertNotIn("[C]", r.stderr)
        self.assertNotIn("nablua.nn", r.stderr)
        r = run(self.script("x = = 1"))
        self.assertEqual(r.returncode, 1)
        self.assertRegex(r.stderr, r":1: unexpected symbol near '='")

    def test_any_value_can_be_an_error(self):
        for code in ("error()", "error({})", "error(setmetatable({}, {__tostring = function() return 'mine' end}))",
                     "error(setmetatable({}, {__tostring = error}))", "error(nb.ones(2))", "error(print)",
                     "local function f() return f() + 1 end f()", "string.rep('x', -1)()", "coroutine.wrap(error)()",
                     "setmetatable({}, {__gc = error}) collectgarbage() error 'x'",
                     "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end; t.x()"):
            r = run("-e", code)
            self.assertEqual(r.returncode, 1, code)
            self.assertTrue(r.stderr.startswith("nablua: ") or "warning" in r.stderr, (code, r.stderr))

    def test_exit_status_and_closed_pipe(self):
        self.assertEqual(run("-e", "os.exit(7)").returncode, 7)
        shell = subprocess.run(["sh", "-c", '"$0" -e "for i = 1, 1e6 do print(i) end" | head -n 1', NABLUA],
                               capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(shell.stdout, "1\n")

    def test_environment(self):
        r = run("-e", "nb.rand(1):item() == nb.rand(1):item()", "-e", "print(nb.threads())",
                env={"NABLUA_SEED": "5", "NABLUA_THREADS": "1"})
        self.assertEqual(r.stdout.split(), ["false", "1"])
        r = run("-e", "nb.zeros(1000, 1000, 1000)", env={"NABLUA_MEMORY": "100M"})
        self.assertEqual(r.returncode, 1)
        self.assertIn("not enough memory", r.stderr)
        r = run("-e", "print 'on'", env={"NABLUA_SEED": "x", "NABLUA_THREADS": "-3", "NABLUA_MEMORY": "much"})
        self.assertEqual((r.stdout, r.returncode), ("on\n", 0))
        for name in ("NABLUA_SEED", "NABLUA_THREADS", "NABLUA_MEMORY"):
            self.assertIn(name, r.stderr)

    def test_starting_is_light(self):
        if SANITIZED:
            self.skipTest("sanitizers take memory")
        r = run("-e", "io.open('/proc/self/status'):read('a'):match('VmHWM:%s*(%d+) kB')")
        self.assertLess(int(r.stdout.strip().strip('"')), 16 * 1024)

    def interrupted(self, code, input=None):
        """What is written after SIGINT, and the seconds until the end."""
        p = subprocess.Popen([NABLUA, "-e", "print 'begun' io.stdout:flush() " + code], stdin=input,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            self.assertEqual(p.stdout.readline(), "begun\n")
            time.sleep(0.2)
            before = time.monotonic()
            p.send_signal(signal.SIGINT)
            out, err = p.communicate(timeout=TIMEOUT)
            self.assertEqual(p.returncode, 130, (code, err))
            return out, err, time.monotonic() - before
        finally:
            p.kill()

    def test_control_c_stops_everything(self):
        for code in ("while true do end", "while true do pcall(function() while true do end end) end",
                     "while true do xpcall(function() while true do end end, debug.traceback) end",
                     "coroutine.wrap(function() while true do end end)()", "nb.sleep(60)", "os.execute 'sleep 60'",
                     "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
                     "io.popen 'sleep 60':read 'a'", "io.popen('sleep 60', 'w'):close()",
                     "for _ in io.popen 'while true; do echo; sleep 0.1; done':lines() do end",
                     "local s = ('a'):rep(3000):find(('.-'):rep(20) .. 'b')", "local s = ('a'):rep(3000):match(('a*'):rep(20) .. 'b')",
                     "for _ in ('a'):rep(3000):gmatch(('a-'):rep(20) .. 'b') do end",
                     "local s = ('a'):rep(3000):gsub(('a?a*'):rep(20) .. 'b', '')",
                     "local t = {} for i = 1, 2e6 do t[i] = math.random() end while true do table.sort(t) t[1], t[2e6] = 1, 0 end",
                     "local t = {} for i = 1, 1e5 do t[i] = i % 7 end while true do table.sort(t, function(a, b) return a < b end) end",
                     "local a = nb.rand(1500, 1500) while true do a:matmul(a) end",
                     "local f = nb.rand(5000000) for i = 1, 100 do f:sort() end",
                     "setmetatable({}, {__index = function() while true do end end}).x()"):
            out, err, seconds = self.interrupted(code)
            self.assertLess(seconds, 20 if SANITIZED else 2, code)
            self.assertTrue(err.startswith("nablua: interrupted\n"), (code, err))

    def test_control_c_ends_the_reading_of_standard_input(self):
        read, write = os.pipe()
        try:
            out, err, seconds = self.interrupted("print(io.read())", read)
            self.assertTrue(err.startswith("nablua: interrupted\n"), err)
        finally:
            os.close(read)
            os.close(write)

    def test_what_is_to_be_closed_may_finish(self):
        close = "local c <close> = setmetatable({}, {__close = function() %s end}) while true do end"
        work = "local x = 0 for i = 1, 1e6 do x = x + 1 end print('closed', x, nb.ones(2):sum():item())"
        out, _, seconds = self.interrupted(close % work)
        self.assertEqual(out, "closed\t1000000\t2.0\n")
        out, _, _ = self.interrupted("pcall(function() %s end) print 'never'" % (close % "print 'closed'"))
        self.assertEqual(out, "closed\n")
        if not SANITIZED:
            _, _, seconds = self.interrupted(close % "while true do end")
            self.assertTrue(0.9 < seconds < 3, seconds)
        # Another interrupt ends it at once.
        out, _, seconds = self.interrupted(
            close % "print 'closing' nb.sleep(0.1) os.execute('kill -INT ' .. io.open('/proc/self/stat'):read 'n') "
                    "while true do end print 'never'")
        self.assertEqual(out, "closing\n")

class Terminal:
    """The prompt in a pseudo-terminal."""

    def __init__(self, *arguments, home=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", NO_COLOR="1", INPUTRC="/dev/null", XDG_STATE_HOME=home or "/dev/null",
                              XDG_CONFIG_HOME=home or "/dev/null")
            os.execv(NABLUA, [NABLUA, *arguments])
        self.text = ""

    def wait_for(self, pattern):
        """Reads until the text since the last call matches; returns that text."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            found = re.search(pattern, self.text)
            if found:
                text, self.text = self.text[:found.end()], self.text[found.end():]
                return text
            if select.select([self.fd], [], [], 0.5)[0]:
                try:
                    self.text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r", "",
                                        os.read(self.fd, 65536).decode("utf-8", "replace"))
                except OSError:
                    break
        raise AssertionError("no %r in %r" % (pattern, self.text))

    def type(self, text):
        os.write(self.fd, text.encode())

    def close(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self.fd)

    def status(self):
        for _ in range(TIMEOUT * 10):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.1)
        raise AssertionError("still running")


PROMPT = r"(?m)^\d+> $"


class Prompt(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = home.name
        self.begin()

    def begin(self):
        self.t = Terminal("--no-banner", home=self.home)
        self.addCleanup(self.t.close)
        self.t.wait_for(PROMPT)

    def answer(self, line):
        self.t.type(line + "\r")
        return self.t.wait_for(PROMPT)

    def test_values_errors_and_help(self):
        self.assertIn("\n2\n", self.answer("1 + 1"))
        self.assertIn("\n4\n", self.answer("_ * 2"))
        self.assertIn("\n3\n", self.answer("x = 3; x"))
        text = self.answer("nb.ones(2):matmul(nb.ones(3))")
        self.assertIn("matmul", text)
        self.assertIn("\n3\n", self.answer("x"))
        self.assertIn("nn.Linear", self.answer("?nn.Linear"))
        self.assertIn("nb.relu", self.answer("relu?"))

    def test_several_lines_are_one_input(self):
        self.t.type("function double(x)\r")
        self.t.wait_for(r"\|  *$")
        self.t.type("return 2 * x\r")
        self.t.wait_for(r"\|  *$")
        self.answer("end")
        self.assertIn("\n42\n", self.answer("double(21)"))

    def test_control_c_keeps_everything(self):
        self.answer("kept = 7")
        self.t.type("while true do end\r")
        time.sleep(0.3)
        self.t.type("\x03")
        self.t.wait_for(PROMPT)
        self.assertIn("\n7\n", self.answer("kept"))
        self.t.type("half a line")
        self.t.wait_for("half a line")
        self.t.type("\x03")
        self.t.wait_for(PROMPT)
        self.assertIn("\n8\n", self.answer("kept + 1"))

    def test_history_brings_blocks_back_whole_in_the_next_session(self):
        self.t.type("function five()\rreturn 5\rend\r")
        self.t.wait_for(r"2> $")
        self.t.type("\x04")
        self.assertEqual(self.t.status(), 0)
        self.begin()
        self.t.type("\x1b[A")  # up
        self.t.wait_for(r"function five\(\)\n | +return 5\n | end")
        self.t.type("\r")
        self.t.wait_for(r"2> $")
        self.assertIn("\n5\n", self.answer("five()"))

    def test_the_init_file_runs_first_and_its_errors_are_shown(self):
        os.makedirs(os.path.join(self.home, "nablua"), exist_ok=True)
        with open(os.path.join(self.home, "nablua/init.lua"), "w") as f:
            f.write("greeting = 'hello'\nerror 'and stop'\n")
        self.begin()
        self.assertIn('\n"hello"\n', self.answer("greeting"))

    def test_tab_completes(self):
        self.t.type("nb.matm\t")
        self.t.wait_for(r"nb\.matmul")
        self.t.type("\x15nb.log\t\t")
        self.t.wait_for(r"log1p +operator ")
        self.t.type("\x15" + "s" * 40 + "\t\x03")
        self.t.wait_for(PROMPT)

    def debug(self, line):
        self.t.type(line + "\r")
        return self.t.wait_for(r"(?m)^debug> $")

    def test_debug_looks_into_the_frames_of_an_error(self):
        self.answer("local scale = 10")
        self.answer("function layer(x) local w = nb.ones(3, 2) local y = x:matmul(w) return y * scale end")
        self.answer("function net(x) local h = x * 2 local out = layer(h) return out end")
        self.assertIn("matmul", self.answer("net(nb.ones(2, 4))"))
        self.assertIn("function layer", self.debug("%debug"))
        self.assertRegex(self.debug(":locals"), r"x = tensor f32 2×4\n +w = tensor f32 3×2\n +scale = 10")
        self.assertIn("{ 3, 2 }", self.debug("w.shape"))
        self.assertIn("in 'net'", self.debug(":up"))
        self.assertIn("f32 2×4", self.debug("h"))
        self.assertIn("nil", self.debug("w.shape"))  # not a name here: the error is said, the prompt goes on
        self.debug(":down")
        self.debug("scale = 5")  # an upvalue: the program's own variable
        self.answer(":continue")
        self.assertIn("\n5\n", self.answer("scale"))
        self.t.type("%debug\r")
        self.t.wait_for(r"(?m)^debug> $")
        self.t.type("\x03")
        self.t.wait_for(PROMPT)
        self.assertIn("\n2\n", self.answer("1 + 1"))

    def test_breakpoint_stops_in_the_callers_frame(self):
        self.answer("function f(n) local double = 2 * n breakpoint() return double end")
        self.t.type("f(4)\r")
        self.t.wait_for(r"(?m)^debug> $")
        self.assertIn("\n8\n", self.debug("double"))
        self.debug("double = 41")
        self.assertIn("\n41\n", self.answer(":c"))

    def test_input_asks_and_hides(self):
        self.t.type("name = input('who? ')\r")
        self.t.wait_for(r"who\? $")
        self.answer("Ada")
        self.assertIn('"Ada"', self.answer("name"))
        self.t.type("secret = input('word? ', {password = true})\r")
        self.t.wait_for(r"word\? $")
        self.assertNotIn("hidden", self.answer("hidden"))
        self.assertIn('"hidden"', self.answer("secret"))

    def test_a_paste_is_one_input(self):
        lines = ["total = 0"] + ["total = total + %d" % i for i in range(1, 30)] + ["total"]
        self.t.type("\x1b[200~" + "\n".join(lines) + "\x1b[201~\r")
        self.assertIn("\n435\n", self.t.wait_for(r"2> $"))

    def test_control_d_leaves(self):
        self.t.type("\x04")
        self.assertEqual(self.t.status(), 0)


if __name__ == "__main__":
    unittest.main()
