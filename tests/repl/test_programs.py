# SPDX-License-Identifier: MIT
"""Other programs on the same terminal, and modules that forbid undeclared globals, at the prompt."""
import os
import re
import signal
import subprocess
import tempfile
import termios
import time
import unittest

from terminal import NABLUA, ROOT, TIMEOUT, Terminal, environment

STRICT = """local mt, declared = {}, {}
local function what() local d = debug.getinfo(3, 'S') return d and d.what or 'C' end
mt.__newindex = function(t, n, v)
  if not declared[n] then
    local w = what()
    if w ~= 'main' and w ~= 'C' then error("assign to undeclared variable '" .. n .. "'", 2) end
    declared[n] = true
  end
  rawset(t, n, v)
end
mt.__index = function(t, n)
  if not declared[n] and what() ~= 'C' then error("variable '" .. n .. "' is not declared", 2) end
  return rawget(t, n)
end
setmetatable(_G, mt)
"""


class Programs(unittest.TestCase):
    def setUp(self):
        self.t = Terminal()
        self.addCleanup(self.t.close)
        self.t.wait_for_prompt(1)

    def interpreter(self):
        """An interpreter that lives through Ctrl-C, as python3 -q and lua do."""
        f = tempfile.NamedTemporaryFile("w", suffix=".sh", delete=False)
        self.addCleanup(os.unlink, f.name)
        f.write("trap 'echo caught' INT\necho ready\nwhile :; do if read -r line; then echo \"got $line\"; "
                "[ \"$line\" = quit ] && break; fi; done\n")
        f.close()
        return f.name

    def test_a_program_keeps_the_terminal_until_it_ends(self):
        self.t.type("os.execute 'sh %s'\r" % self.interpreter())
        self.t.wait_for("ready")
        for _ in range(2):
            self.t.type("\x03")
            time.sleep(1.5)
        self.t.type("one\n")
        self.t.wait_for("got one")
        self.assertNotRegex(self.t.text(), r"(?m)^2>|interrupted")
        self.t.type("quit\n")
        self.t.wait_for(r"got quit(\n.*){0,4}\n2>\Z")
        self.assertNotIn("interrupted", self.t.text())
        self.t.type("1 + 1\r")
        self.t.wait_for(r"\n2\n3>\Z")

    def test_one_that_control_c_ends_interrupts(self):
        for number, code in ((2, "os.execute 'sleep 60'"), (3, "while true do os.execute 'sleep 60' end"),
                             (4, "os.execute 'sleep 60; true'"), (5, "io.popen('sleep 60', 'w'):close()")):
            self.t.type(code + "\r")
            time.sleep(0.5)
            self.t.type("\x03")
            self.t.wait_for(r"interrupted(\n.*){0,3}\n%d>\Z" % number)

    def test_one_that_gets_control_c_as_it_starts_owns_it_too(self):
        self.t.type("for i = 1, 100 do os.execute [[trap '' INT; kill -INT 0; sleep 0.01]] end print 'all'\r")
        self.t.wait_for(r"\nall(\n.*){0,2}\n2>\Z")
        self.assertNotIn("interrupted", self.t.text())

    def test_a_program_that_is_written_to_owns_it_while_it_is_waited_for(self):
        self.t.type("p = io.popen('cat > /dev/null; sh %s < /dev/tty', 'w') p:write('x') p:close()\r" % self.interpreter())
        self.t.wait_for("ready")
        self.t.type("\x03")
        time.sleep(1.5)
        self.t.type("quit\n")
        self.t.wait_for(r"got quit(\n.*){0,4}\n2>\Z")
        self.assertNotIn("interrupted", self.t.text())

    def test_the_terminal_is_afterwards_as_before(self):
        self.t.type("os.execute 'stty raw -echo; kill -9 $$'\r")
        self.t.wait_for_prompt(2)
        self.t.type("io.read()\r")  # with the terminal's own editing
        time.sleep(0.3)
        modes = termios.tcgetattr(self.t.fd)
        self.assertTrue(modes[3] & termios.ECHO and modes[3] & termios.ICANON)
        self.t.type("abc\n")
        self.t.wait_for(r"\"abc\"\n3>\Z")

    def test_what_is_typed_ahead_is_for_the_program(self):
        self.t.type("os.execute 'read x; echo got $x'\rword\n")
        self.t.wait_for(r"got word(\n.*){0,3}\n2>\Z")

    def test_the_end_of_this_one_ends_what_it_waits_for(self):
        self.t.type("os.execute 'trap \"\" INT; sleep 60'\r")
        time.sleep(0.5)
        os.kill(self.t.pid, signal.SIGTERM)
        begin = time.monotonic()
        self.assertEqual(self.t.status(), 128 + signal.SIGTERM)
        self.assertLess(time.monotonic() - begin, 10)


class Strict(unittest.TestCase):
    def run_lines(self, *lines, home=None):
        r = subprocess.run([NABLUA, "-i", "--no-banner"], input="\n".join(lines) + "\n", text=True, cwd=ROOT,
                           capture_output=True, timeout=TIMEOUT, env=environment(home))
        return re.sub(r"\d+> ", "", r.stdout), r.stderr

    def test_inputs_are_main_chunks_to_modules_that_ask(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "strict.lua")
            with open(path, "w") as f:
                f.write(STRICT)
            load = "package.path = '%s/?.lua;' .. package.path require 'strict'" % folder
            after = ("x = 5", "x + 1", "local y = 3", "y + 1", "function f() z = 1 end", "f()", "typo",
                     "print(pcall(function() return q end))", "_", "print(debug.getinfo(1, 'S').what)",
                     "print(debug.getinfo(f).what, debug.getinfo(1, 'l').currentline, debug.getinfo(print).what)",
                     "print(coroutine.wrap(function() return debug.getinfo(1, 'S').what end)())")
            expected = "6\n4\nfalse\tinput 9:1: variable 'q' is not declared\n4\nmain\nLua\t1\tC\nLua\n"
            out, errors = self.run_lines(load + ";", *after)
            self.assertEqual(out.strip(), expected.strip())
            self.assertIn("assign to undeclared variable 'z'", errors)
            self.assertIn("variable 'typo' is not declared", errors)
            self.assertNotIn("'x'", errors)
            # And when the user's file has loaded it.
            os.makedirs(os.path.join(folder, "nablua"))
            with open(os.path.join(folder, "nablua/init.lua"), "w") as f:
                f.write(load + "\n")
            out, errors = self.run_lines("x = 5", "x + 1", home=folder)
            self.assertEqual((out.strip(), errors), ("6", ""))


class Pipes(unittest.TestCase):
    def test_empty_lines_belong_to_a_block(self):
        r = subprocess.run([NABLUA, "-i", "--no-banner"], text=True, capture_output=True, timeout=TIMEOUT,
                           env=environment(), cwd=ROOT,
                           input="function f()\n\n\n  return 7\n\n\nend\nf()\n\nx = [[a\n\n\nb]]\n#x\n")
        self.assertEqual((re.sub(r"\d+> |[ |]+(?=\d|\n|$)|^[ |]+", "", r.stdout).split(), r.stderr), (["7", "5"], ""))


if __name__ == "__main__":
    unittest.main()
