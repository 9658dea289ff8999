# SPDX-License-Identifier: MIT
"""What people who know Lua's own program expect of the command line and of the prompt."""
import os
import subprocess
import tempfile
import unittest

from terminal import NABLUA, TIMEOUT, Terminal, environment


def run(*arguments, stdin="", **more):
    return subprocess.run([NABLUA, *arguments], input=stdin, capture_output=True, text=True, timeout=TIMEOUT,
                          env=environment(**more))


class Manners(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def script(self, code, name="script.lua"):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as f:
            f.write(code if isinstance(code, bytes) else code.encode())
        return path

    def check(self, r, stdout, status=0):
        self.assertEqual((r.stdout, r.returncode), (stdout, status), r.stderr)

    # ---- options ----

    def test_arg_has_what_precedes_the_script(self):
        path = self.script("print(#arg, arg[-3], arg[-2], arg[-1], arg[0], arg[1], arg[2], ...)")
        self.check(run("-e ", "--", path, "a", "b"), "2\t%s\t-e \t--\t%s\ta\tb\ta\tb\n" % (NABLUA, path))
        self.check(run("-e", "print(arg[0], arg[1], #arg)"), "%s\t-e\t2\n" % NABLUA)
        self.check(run("-e", "arg[1] = 'changed'", path, "a"),
                   "1\t%s\t-e\targ[1] = 'changed'\t%s\tchanged\tnil\tchanged\n" % (NABLUA, path))
        r = run("-e", "arg = 1", path)
        self.assertEqual(r.returncode, 1)
        self.assertIn("'arg' is not a table", r.stderr)

    def test_standard_input_takes_arguments(self):
        self.check(run("-", "-h", stdin="print(arg[0], ...)"), "-\t-h\n")

    def test_end_of_options(self):
        self.script("print 'a file'", "-x")
        r = subprocess.run([NABLUA, "--", "-x"], capture_output=True, text=True, timeout=TIMEOUT, cwd=self.folder)
        self.check(r, "a file\n")

    def test_modules(self):
        self.script("print('loaded') return {x = 15}", "mine-v2.lua")
        path = os.path.join(self.folder, "?.lua;;")
        self.check(run("-l", "mine-v2", "-e", "print(mine.x)", LUA_PATH=path), "loaded\n15\n")
        self.check(run("-lstr=string", "-l", "m=math", "-e", "print(str.upper 'a', m.max(1, 2))"), "A\t2\n")
        r = run("-l", "no_such_module", "-e", "print(1)")
        self.assertEqual((r.stdout, r.returncode), ("", 1))
        self.assertIn("no_such_module", r.stderr)

    def test_code_that_follows_at_once(self):
        self.check(run("-eprint(1)", "-ea=3", "-e", "print(a)"), "1\n3\n")

    def test_version(self):
        self.assertRegex(run("-v").stdout, r"\Anablua \d+\.\d+\.\d+ \(Lua 5\.4\)\n\Z")
        self.assertRegex(run("-v", "-e", "print(1)").stdout, r"\Anablua .*\n1\n\Z")

    def test_environment(self):
        init = self.script("X = 7", "init.lua")
        self.check(run("-e", "print(X)", LUA_INIT="X = 5"), "5\n")
        self.check(run("-e", "print(X)", LUA_INIT="X = 5", LUA_INIT_5_4="X = 6"), "6\n")
        self.check(run("-e", "print(X)", LUA_INIT="@" + init), "7\n")
        self.check(run("-e", "print(Y)", LUA_INIT="Y = arg[1]"), "-e\n")
        r = run("-e", "print(X)", LUA_INIT="error 'in init'")
        self.assertEqual((r.stdout, r.returncode), ("", 1))
        self.assertIn("LUA_INIT:1: in init", r.stderr)
        r = run("-E", "-e", "print(X, package.path)", LUA_INIT="X = 5", LUA_PATH="xxx", LUA_CPATH="xxx")
        self.assertRegex(r.stdout, r"\Anil\t.*\?\.lua")
        self.assertNotIn("xxx", r.stdout)

    def test_wrong_options(self):
        for option in ("-vv", "---", "-Ex", "-iv", "-l", "-e"):
            r = run(option)
            self.assertEqual((r.stdout, r.returncode), ("", 2), option)
            self.assertIn("'%s'" % option, r.stderr)

    def test_warnings(self):
        self.check(run("-W", "-e", "print(1)"), "1\n")

    def test_first_lines_of_files(self):
        for start in (b"#!/usr/bin/env nablua\n", b"\xef\xbb\xbf#!/usr/bin/env nablua\n", b"# comment\n", b"\xef\xbb\xbf\n"):
            path = self.script(start + b"print(debug.getinfo(1).currentline)")
            self.check(run(path), "2\n")
            with open(path, "rb") as f:
                r = subprocess.run([NABLUA, "-"], stdin=f, capture_output=True, text=True, timeout=TIMEOUT)
            self.check(r, "2\n")

    # ---- the prompt ----

    def test_blocks_with_empty_lines_on_a_pipe(self):
        r = run("-i", "--no-banner", stdin="function f(x)\n\n  local a = [[\n\n]]\n\n\n  return x .. #a\n\nend\n\nf 'x'\n")
        self.assertTrue(r.stdout.rstrip().endswith('"x1"\n3>'), r.stdout)
        self.assertEqual(r.stderr, "")

    def test_prompts(self):
        r = run("-e", "_PROMPT = 'first ' _PROMPT2 = 'more '", "-i", "--no-banner", stdin="for i = 1, 1 do\nend\n=6\n")
        self.assertEqual(r.stdout, "first more first 6\nfirst \n")
        count = "local n = 0 _PROMPT = setmetatable({}, {__tostring = function() n = n + 1 return n .. '|' end})"
        r = run("-e", count, "-i", "--no-banner", stdin="x = 1\nx = 2\n")
        self.assertEqual(r.stdout, "1|2|3|\n")

    def test_leaving(self):
        for word in ("exit", "quit", "exit()", "quit() ", "%exit"):
            r = run("-i", "--no-banner", stdin="x = 1\n%s\nprint 'not reached'\n" % word)
            self.assertEqual((r.stdout.rstrip("\n"), r.stderr, r.returncode), ("1> 2> ", "", 0), word)
        r = run("-i", "--no-banner", stdin="exit = 5\nexit\nlocal quit = 6\nquit\nprint 'reached'\n")
        self.assertIn("2> 5\n3> 4> 6\n5> reached", r.stdout)

    def test_leaving_a_terminal(self):
        t = Terminal()
        self.addCleanup(t.close)
        t.wait_for_prompt(1)
        t.type("exit\r")
        self.assertEqual(t.status(), 0)


if __name__ == "__main__":
    unittest.main()
