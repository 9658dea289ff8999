# SPDX-License-Identifier: MIT
"""The command line, as a user's shell sees it."""
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest

from terminal import NABLUA, SANITIZED, TIMEOUT


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
        with open("/dev/full", "w") as full:
            r = subprocess.run([NABLUA, "-e", "print(1)"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT)
        self.assertEqual((r.stderr, r.returncode),
                         ("nablua: some of the output could not be written; is the disk full?\n", 1))

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

    def test_a_trace_goes_to_the_standard_error(self):
        r = run("-e", "local x = nb.ones(2) + 1", env={"NABLUA_TRACE": "op"})
        self.assertEqual((r.stdout, r.returncode), ("", 0))
        self.assertRegex(r.stderr, r"op +add f32 2, f32 scalar")

    def test_a_library_that_is_no_blas_is_named(self):
        code = "local a = nb.ones(200, 200); print(a:matmul(a)[1][1])"
        for library, why in (("libm.so.6", "no sgemm_"), ("no-such.so", "no-such.so")):
            r = run("-e", code, env={"NABLUA_BLAS": library})
            self.assertEqual((r.stdout, r.returncode), ("200\n", 0))
            self.assertIn("NABLUA_BLAS", r.stderr)
            self.assertIn(why, r.stderr)
        r = run("-e", code, env={"NABLUA_BLAS": "off", "NABLUA_CPU": "portable"})
        self.assertEqual((r.stdout, r.stderr), ("200\n", ""))

    def test_starting_is_light(self):
        if SANITIZED:
            self.skipTest("sanitizers take memory")
        r = run("-e", "io.open('/proc/self/status'):read('a'):match('VmHWM:%s*(%d+) kB')")
        self.assertLess(int(r.stdout.strip().strip('"')), 16 * 1024)

    def test_a_compiled_step_takes_no_more_memory_than_an_eager_one(self):
        if SANITIZED:
            self.skipTest("sanitizers take memory")
        # Adam on 1.5 M weights and 30 MB of activations: what the recorded steps worked in must not stay beside the arena.
        code = """local net = nn.Sequential { nn.Linear(1000, 1000), nn.GELU(), nn.Linear(1000, 500), nn.GELU() }
          local opt, x = optim.AdamW(net:parameters(), {}), nb.randn(2000, 1000)
          local function step() opt:zero_grad() local J = net(x):square():mean() J:backward() opt:step() return J end
          %s for _ = 1, 6 do step() end
          print(io.open('/proc/self/status'):read('a'):match('VmHWM:%%s*(%%d+) kB'))"""
        eager, compiled = (int(run("-e", code % how).stdout) for how in ("", "step = nb.compile(step)"))
        self.assertLess(compiled, 1.1 * eager)

    def test_modules_load_when_they_are_used(self):
        loaded = "local n = 0 for name in pairs(package.loaded) do if name:match('^nablua.%s') then n = n + 1 end end n"
        for module in ("nn", "plot", "inspect", "optim", "data"):
            self.assertEqual(run("-e", loaded % module).stdout, "0\n", module)
        self.assertEqual(run("-e", "local n = 0 for _, f in pairs(plot) do n = n + 1 end n > 5").stdout, "true\n")
        self.assertEqual(run("-e", "data.mine = 1; type(data.xor) .. data.mine").stdout, '"function1"\n')
        self.assertEqual(run("-e", "require 'nablua.optim' == optim and optim.SGD ~= nil").stdout, "true\n")
        # The reference has its order, whatever is loaded first.
        reference = run("-e", "io.write(help.markdown());").stdout
        for first in ("inspect.step, optim.SGD", "plot.curve, nn.Linear", "optim.SGD, nn.Linear"):
            self.assertEqual(run("-e", "local _ = %s; io.write(help.markdown());" % first).stdout, reference, first)
        out = run("-i", "--no-banner", stdin="??inspect.step\n").stdout
        self.assertIn("record.undo(events)", out)

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
                     "local a = nb.rand(500, 500) local f = nb.compile(function() local x = a for i = 1, 100 do "
                     "x = x:matmul(a) end return x:sum() end) while true do f() end",
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

if __name__ == "__main__":
    unittest.main()
