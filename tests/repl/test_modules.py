# SPDX-License-Identifier: MIT
"""Modules of others at the prompt: they load, and nothing else stops working."""
import os
import re
import subprocess
import tempfile
import unittest

from terminal import NABLUA, TIMEOUT, environment

# What forbids globals that no main chunk has declared, as such modules are written.
STRICT = """
local declared = {}
local function what() return debug.getinfo(3, "S").what end
setmetatable(_G, {
  __newindex = function(t, name, value)
    if not declared[name] and what() ~= "main" and what() ~= "C" then error("undeclared " .. name, 2) end
    declared[name] = true
    rawset(t, name, value)
  end,
  __index = function(_, name)
    if not declared[name] and what() ~= "C" then error("not declared: " .. name, 2) end
  end,
})
"""

# What is typed, and what must be shown (nothing where it is None); None instead: an error.
AFTER_STRICT = [
    ("x = 5", ""), ("x", "5"), ("local y = 2", ""), ("z = x + y z", "7"), ("for i = 1, 2 do w = i end", ""), ("w", "2"),
    ("function f() undeclared = 1 end", ""), ("f()", None), ("unknown", None), ("%time t = 4", r".*processor.*"),
    ("t", "4"), ("_", "4"), ("?nn.Linear", r"nn\.Linear\([\s\S]*"), ("nn.Linear(2, 3)", r"Linear\(2 → 3\)"),
    ("inspect.summary(nn.Linear(2, 3), nb.zeros(1, 2)).total", r"[\s\S]*9[\s\S]*"), ("x = nil", ""), ("%who", r"[\s\S]*y[\s\S]*"),
]

OTHERS = [
    ("pl.pretty", 'require("pl.pretty").write({1, 2}, "")', r'"\{1,2\}"'),
    ("lpeg", 'local lpeg = require "lpeg" lpeg.match(lpeg.C(lpeg.P"a"^1), "aaab")', '"aaa"'),
    ("cjson", 'require("cjson").encode{1, {a = true}}', r'"\[1,\{\\"a\\":true\}\]"'),
    ("socket", 'require("socket").gettime() > 0', "true"),
    ("socket.http", 'type(require("socket.http").request)', '"function"'),
    ("lfs", 'require("lfs").attributes("/", "mode")', '"directory"'),
    ("luasql.sqlite3", 'local db = require("luasql.sqlite3").sqlite3():connect(":memory:") '
                       'db:execute("select 6 * 7"):fetch()', "42(\\.0)?"),
]


def installed(module):
    r = subprocess.run([NABLUA, "-e", 'require "%s"' % module], capture_output=True, timeout=TIMEOUT)
    return r.returncode == 0


class Modules(unittest.TestCase):
    def shown(self, *inputs, **variables):
        """What the last input shows, by lines of marks around it."""
        *before, last = inputs
        text = "".join(line + "\n" for line in [*before, 'print "<<"', last, 'print ">>"'])
        r = subprocess.run([NABLUA, "-i", "--no-banner"], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, timeout=TIMEOUT, env=environment(**variables))
        found = re.search(r"<<\n\d+> ([\s\S]*?)(?:\d+> )?>>", r.stdout)
        self.assertTrue(found, r.stdout)
        return re.sub(r"\n?\d+> \Z", "", found.group(1)).strip("\n")

    def check_strict(self, load, **variables):
        for i, (code, expected) in enumerate(AFTER_STRICT):
            before = [c for c, e in AFTER_STRICT[:i] if e is not None]
            shown = self.shown(load, *before, code, **variables)
            with self.subTest(load=load, code=code):
                if expected is None:
                    self.assertIn("declared", shown)
                else:
                    self.assertRegex(shown, r"\A%s\Z" % expected)

    def test_globals_that_must_be_declared(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "my_strict.lua"), "w") as f:
                f.write(STRICT)
            self.check_strict('require "my_strict";', LUA_PATH=os.path.join(folder, "?.lua;;"))

    def test_penlight_strict(self):
        if not installed("pl.pretty"):
            self.skipTest("no penlight")
        self.check_strict('require "pl.strict";')

    def test_others(self):
        for module, code, expected in OTHERS:
            with self.subTest(module=module):
                if not installed(module):
                    self.skipTest("no " + module)
                self.assertRegex(self.shown(code), r"\A%s\Z" % expected)
                self.assertEqual(self.shown(code + ";", "y = 1 + 1", "y"), "2")


if __name__ == "__main__":
    unittest.main()
