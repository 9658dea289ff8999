# SPDX-License-Identifier: MIT
"""An interrupt at any moment leaves nothing half-done, and the session as it was.

NABLUA_PROVE=1 interrupts each program 200 times in place of 20, NABLUA_INTERRUPTS=n so often.
"""
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))
sys.path.insert(0, os.path.join(ROOT, "tests/sessions"))
import interrupts  # noqa: E402

LONGEST = 60  # seconds that anything may take


class Session:
    """A REPL that reads inputs of one line from a pipe."""

    def __init__(self):
        self.home = tempfile.TemporaryDirectory()
        env = {k: v for k, v in os.environ.items() if not k.startswith("NABLUA")}
        env.update(XDG_STATE_HOME=self.home.name, XDG_CONFIG_HOME=self.home.name, TERM="dumb", NO_COLOR="1")
        self.process = subprocess.Popen([NABLUA, "--no-banner", "-i"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=env, text=True)
        self.count = 0

    def send(self, code):
        self.count += 1
        path = os.path.join(self.home.name, "input%d.lua" % self.count)
        with open(path, "w") as f:
            f.write(code)
        self.process.stdin.write("dofile %r\n" % path)
        self.process.stdin.flush()

    def wait_for(self, word):
        """What is said from that word on."""
        said = []
        watch = threading.Timer(LONGEST, self.process.kill)  # what it has said is shown then
        watch.start()
        try:
            for line in self.process.stdout:
                said.append(line)
                if word in line:
                    return line.split(word, 1)[1].strip()
        finally:
            watch.cancel()
        raise AssertionError("the session has ended:\n" + "".join(said[-20:]))

    def start(self, code):
        self.send("print('it ' .. 'begins') " + code)
        self.wait_for("it begins")

    def interrupt_in(self, seconds):
        time.sleep(seconds)
        self.process.send_signal(signal.SIGINT)
        self.wait_for("interrupted")

    def value(self, code):
        self.send("local v = %s print('it ' .. 'says ' .. tostring(v))" % code)
        return self.wait_for("it says ")

    def close(self):
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        self.home.cleanup()
        return status


class Interrupts(unittest.TestCase):
    def test_nothing_is_half_done(self):
        for name in interrupts.PROGRAMS:
            if len(sys.argv) > 1 and sys.argv[1] not in name:
                continue
            with self.subTest(name):
                session = Session()
                self.addCleanup(session.process.kill)
                broken, first = interrupts.faults(name, session.start, session.interrupt_in, session.value)
                if interrupts.TIMES > 20 or broken:
                    print("figure: %s: %d of %d half-done%s" % (name, broken, interrupts.TIMES, broken and ", " + first or ""),
                          flush=True)
                self.assertEqual(broken, 0, first)
                self.assertEqual(session.close(), 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
