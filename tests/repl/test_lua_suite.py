# SPDX-License-Identifier: MIT
"""Lua's official tests, in portable mode: each file passes as `nablua FILE`.

They are not part of this repository: NABLUA_LUA_SUITE names their folder, or several with ":" between them.  Those of
the version that nablua is linked with are the ones to pass.
"""
import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from terminal import NABLUA

SUITES = [folder for folder in os.environ.get("NABLUA_LUA_SUITE", "").split(":") if folder]

# all.lua runs the others, tracegc.lua and memerr.lua are parts of them; heavy.lua fills the memory.
LEFT_OUT = {"all.lua", "heavy.lua", "memerr.lua", "tracegc.lua"}

# Compiled code is loaded where the program says so: these lines load it without a word, and say it here.
SAYS_BINARY = [
    ("calls.lua", r"f = load\(read1\(f\)\)", 'f = load(read1(f), nil, "b")'),
    ("calls.lua", r"load\(string\.dump\(f\)\)", 'load(string.dump(f), nil, "b")'),
    ("calls.lua", r"assert\(load\(c\)\)", 'assert(load(c, nil, "b"))'),
    ("calls.lua", r"load\(string\.sub\(c, 1, i\)\)", 'load(string.sub(c, 1, i), nil, "b")'),
    ("db.lua", r"assert\(load\(c\)\)", 'assert(load(c, nil, "b"))'),
    ("db.lua", r'load\(string\.dump\(load\("print\(10\)"\), true\)\)', 'load(string.dump(load("print(10)"), true), nil, "b")'),
    ("db.lua", r"load\(string\.dump\(f\)\)", 'load(string.dump(f), nil, "b")'),
    ("db.lua", r"load\(string\.dump\(load\(prog\), true\)\)", 'load(string.dump(load(prog), true), nil, "b")'),
    ("db.lua", r"load\(string\.dump\(foo, true\)\)", 'load(string.dump(foo, true), nil, "b")'),
    ("errors.lua", r"load\(string\.dump\(f, true\)\)", 'load(string.dump(f, true), nil, "b")'),
    ("files.lua", r"a, b, c = assert\(loadfile\(file\)\)\(\)", 'a, b, c = assert(loadfile(file, "b"))()'),
]


@unittest.skipUnless(SUITES, "NABLUA_LUA_SUITE names no folder of Lua's tests")
class LuaSuite(unittest.TestCase):
    def run_file(self, path):
        return subprocess.run([NABLUA, "-e", "_port = true; _soft = true", path], cwd=os.path.dirname(path),
                              capture_output=True, timeout=300)

    def test_every_file_passes(self):
        for suite in SUITES:
            with tempfile.TemporaryDirectory() as folder:
                tests = os.path.join(folder, "tests")
                shutil.copytree(suite, tests)
                for name, old, new in SAYS_BINARY:
                    path = os.path.join(tests, name)
                    with open(path, encoding="latin-1", newline="") as f:
                        text = f.read()
                    with open(path, "w", encoding="latin-1", newline="") as f:
                        f.write(re.sub(old, new, text))
                for path in sorted(glob.glob(os.path.join(tests, "*.lua"))):
                    if os.path.basename(path) in LEFT_OUT:
                        continue
                    with self.subTest(suite=suite, file=os.path.basename(path)):
                        r = self.run_file(path)
                        self.assertEqual(r.returncode, 0, (r.stdout[-500:] + r.stderr[-1000:]).decode(errors="replace"))


if __name__ == "__main__":
    unittest.main()
