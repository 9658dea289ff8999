# SPDX-License-Identifier: MIT
"""Processes killed while they write: what is there is whole, old or new, and no temporary file outlives the next save.

NABLUA_KILLS, or an argument, says how many are killed at each kind of writing; 10 if neither does.
"""
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))
KILLS = int(os.environ.get("NABLUA_KILLS", "10"))

SAVE = """
local n = 0
while true do
  n = n + 1
  nb.save(folder .. "a.safetensors", { x = nb.full({ 300000 }, n), y = nb.full({ 50000 }, n), n = n })
  nb.save(folder .. "b.npz", { x = nb.full({ 100000 }, n), n = n })
  if n == 1 then io.write("begun\\n"):flush() end
end"""

CHECKPOINT = """
local x = nb.rand(4, 64)
local net = nn.Linear(64, 1500)
nn.fit(net, function(out) return out:mean() end, optim.Adam(net:parameters()), { x, x }, { epochs = 100000,
  progress = false, checkpoint_every = 1, checkpoint = folder .. "c.safetensors" })"""

# Whole means: all numbers of a save are of the same one; a checkpoint goes on from where it was.
CHECK = """
local function one_of(t, n) assert(t:eq(n):all():item(), "torn: not all are " .. n) end
local a, b = nb.load(folder .. "a.safetensors"), nb.load(folder .. "b.npz")
one_of(a.x, a.n) one_of(a.y, a.n) one_of(b.x, b.n:item())
nb.save(folder .. "next.npy", nb.ones(1))
print("whole")"""

CHECK_FIT = """
local c = nb.load(folder .. "c.safetensors")
assert(c.checkpoint == 1 and c.net["weight"].shape[1] == 1500 and c.fit.epoch >= 0)
nb.save(folder .. "next.npy", nb.ones(1))
print("whole")"""


class Kills(unittest.TestCase):
    def setUp(self):
        self.random = random.Random(7)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name + "/"
        self.left = 0

    def script(self, code):
        return "local folder = %r\n%s" % (self.folder, code)

    def start(self, code):
        process = subprocess.Popen([NABLUA, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(self.script(code).encode())
        process.stdin.close()
        return process

    def kill(self, process):
        if self.random.random() < 0.5:  # while it writes, however slow the machine is
            self.wait_for(self.temporaries)
            time.sleep(self.random.uniform(0, 0.003))
        else:
            time.sleep(self.random.uniform(0, 0.08))
        self.assertIsNone(process.poll(), "it ended by itself")
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        self.left += len(self.temporaries())

    def temporaries(self):
        return [name for name in os.listdir(self.folder) if name.startswith(".nablua-")]

    def check(self, code):
        r = subprocess.run([NABLUA, "-"], input=self.script(code), text=True, capture_output=True, timeout=120)
        self.assertEqual((r.stdout, r.stderr), ("whole\n", ""))
        self.assertEqual(self.temporaries(), [])

    def wait_for(self, done):
        end = time.monotonic() + 60
        while not done():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.002)

    def test_saving(self):
        for _ in range(KILLS):
            process = self.start(SAVE)
            self.assertEqual(process.stdout.readline(), b"begun\n")
            self.kill(process)
            self.check(CHECK)
        self.check_hits()

    def test_checkpoints(self):
        for _ in range(KILLS):
            path = self.folder + "c.safetensors"
            before = os.stat(path).st_ino if os.path.exists(path) else 0
            process = self.start(CHECKPOINT)
            self.wait_for(lambda: os.path.exists(path) and os.stat(path).st_ino != before)
            self.kill(process)
            self.check(CHECK_FIT)
        self.check_hits()

    def check_hits(self):
        """Kills that hit nothing would prove nothing; a few of them say nothing of their share."""
        if KILLS >= 100:
            self.assertGreater(self.left, KILLS // 5)

    def test_history(self):
        """Inputs that were answered before the kill are kept, whole; more may be, and the file is sound."""
        path = self.folder + "nablua/history.sqlite"
        env = dict(os.environ, XDG_STATE_HOME=self.folder, XDG_CONFIG_HOME=self.folder, TERM="dumb", NO_COLOR="1")
        for kill in range(KILLS):
            ours, theirs = os.openpty()
            process = subprocess.Popen([NABLUA, "--no-banner"], stdin=theirs, stdout=theirs, stderr=theirs, env=env,
                                       start_new_session=True)
            os.close(theirs)
            marks = ["kill_%d_input_%d" % (kill, i) for i in range(200)]
            seen, end = "", time.monotonic() + 60
            for i, mark in enumerate(marks):
                os.write(ours, ("('%s'):upper()\r" % mark).encode())
                while mark.upper() not in seen and time.monotonic() < end:
                    os.set_blocking(ours, False)
                    try:
                        seen += os.read(ours, 65536).decode(errors="replace")
                    except BlockingIOError:
                        time.sleep(0.001)
                if i == 0:
                    end = time.monotonic() + self.random.uniform(0, 0.3)
                if time.monotonic() >= end:
                    break
            process.kill()
            process.wait()
            os.close(ours)
            answered = [mark for mark in marks if mark.upper() in seen]
            self.left += len(answered)
            if not os.path.exists(path):
                continue
            db = sqlite3.connect(path)
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            kept = {source for source, in db.execute("SELECT source FROM history")}
            db.close()
            for mark in answered:
                self.assertIn("('%s'):upper()" % mark, {source.strip() for source in kept})
        self.assertGreater(self.left, KILLS)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].isdigit():
        KILLS = int(sys.argv.pop(1))
    unittest.main()
