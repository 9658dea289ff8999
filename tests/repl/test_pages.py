# SPDX-License-Identifier: MIT
"""The programs on the pages of docs/: a page's pieces of Lua, one after the other, run as a script."""
import glob
import os
import re
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))
HEAD = "local nb = require 'nablua'; local nn, optim, data, inspect, plot = nb.nn, nb.optim, nb.data, nb.inspect, nb.plot\n"


class Pages(unittest.TestCase):
    def test_their_programs_run(self):
        pages = sorted(glob.glob(ROOT + "/docs/*.md") + glob.glob(ROOT + "/docs/guides/*.md"))
        ran = 0
        for page in pages:
            with open(page, encoding="utf-8") as f:
                pieces = re.findall(r"(?ms)^```lua\n(.*?)^```", f.read())
            if not pieces:
                continue
            r = subprocess.run([NABLUA, "-"], input=HEAD + "\n".join(pieces), capture_output=True, text=True, timeout=120, cwd="/tmp",
                               env=dict(os.environ, NABLUA_SEED="1"))
            self.assertEqual((r.returncode, r.stderr), (0, ""), page)
            ran += 1
        self.assertGreaterEqual(ran, 7)


if __name__ == "__main__":
    unittest.main()
