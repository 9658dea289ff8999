# SPDX-License-Identifier: MIT
"""jupyter console in a terminal (tmux): a session as a person has it."""
import os
import re
import shutil
import subprocess
import sys
import time
import unittest
import uuid

import kernels

try:
    import jupyter_console  # noqa: F401
except ImportError:
    kernels.skip("this needs jupyter console")
if not shutil.which("tmux"):
    kernels.skip("this needs tmux")
if kernels.SANITIZED:
    kernels.skip("once is enough")


class Console(unittest.TestCase):
    def setUp(self):
        self.socket = "nablua-" + uuid.uuid4().hex[:8]
        self.tmux("new-session", "-d", "-x", "100", "-y", "50", "%s -m jupyter_console --kernel nablua" % sys.executable)
        self.addCleanup(self.tmux, "kill-server")

    def tmux(self, *arguments):
        return subprocess.run(["tmux", "-L", self.socket, "-f", "/dev/null"] + list(arguments), capture_output=True, text=True,
                              check=False).stdout

    def screen(self):
        return self.tmux("capture-pane", "-p", "-S", "-200")

    def wait_for(self, expression):
        end = time.monotonic() + kernels.TIMEOUT
        while time.monotonic() < end:
            if re.search(expression, self.screen()):
                return
            time.sleep(0.1)
        self.fail("no %r on the screen:\n%s" % (expression, self.screen()))

    def type(self, text, number):
        """Types when the prompt of this number has come."""
        self.wait_for(r"In \[%d\]: *\n*\s*$" % number)
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def test_a_session(self):
        self.wait_for("nablua")  # the banner
        self.type("6 * 7", 1)
        self.wait_for(r"Out\[1\]: *\n?42")
        self.type("for i = 1, 2 do print('round ' .. i) end", 2)
        self.wait_for("round 1\nround 2")
        self.type("name = input('who? ')", 3)
        self.wait_for(r"who\? *\n")
        self.tmux("send-keys", "-l", "Ada")
        self.tmux("send-keys", "Enter")
        self.type("name", 4)
        self.wait_for(r'Out\[4\]: *\n?"Ada"')
        # No Ctrl-C: Debian's console loses it, with ipykernel too.
        self.type("error('on purpose')", 5)
        self.wait_for(r"Error: input 5:1: on purpose")
        self.type("nb.ones(2)", 6)
        self.wait_for(r"Out\[6\]:\s+1  1")
        if "NABLUA_SCREENSHOTS" in os.environ:
            print(self.screen())


if __name__ == "__main__":
    unittest.main()
