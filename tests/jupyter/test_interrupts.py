# SPDX-License-Identifier: MIT
"""An interrupt at any moment of a cell leaves nothing half-done, and the kernel as it was.

NABLUA_INTERRUPTS=200 interrupts each program so often in place of 20.
"""
import os
import subprocess
import sys
import time
import unittest

from kernels import ROOT, TIMEOUT, kernel

sys.path.insert(0, os.path.join(ROOT, "tests/sessions"))
import interrupts  # noqa: E402

CHOSEN = ("Adam with two groups", "a rule in Lua", "pcall of no_grad", "coroutines")


class Interrupts(unittest.TestCase):
    def start(self, code):
        self.running = self.client.execute("print 'it begins' " + code)
        while "it begins" not in self.client.get_iopub_msg(timeout=TIMEOUT)["content"].get("text", ""):
            pass

    def interrupt_in(self, seconds):
        time.sleep(seconds)
        self.client.send("interrupt_request", {}, "control")
        self.assertEqual(self.client.reply(self.running)["content"]["ename"], "KeyboardInterrupt")

    def value(self, code):
        return self.client.text("print(%s)" % code).strip()

    def test_nothing_is_half_done(self):
        for name in CHOSEN:
            with self.subTest(name), kernel(stderr=subprocess.DEVNULL) as (_, self.client):
                broken, first = interrupts.faults(name, self.start, self.interrupt_in, self.value)
                if interrupts.TIMES > 20:
                    print("figure: %s: %d of %d half-done" % (name, broken, interrupts.TIMES), flush=True)
                self.assertEqual(broken, 0, first)


if __name__ == "__main__":
    unittest.main()
