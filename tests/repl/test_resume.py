# SPDX-License-Identifier: MIT
"""A training whose process is killed again and again ends with the same bytes as one that is left alone."""
import os
import random
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))

TRAIN = """
local folder = arg[1]
nb.seed(1)
local x = nb.randn(200, 20)
local y = x:sum(2):gt(0):to("i64") + 1
local net = nn.Sequential { nn.Linear(20, 30), nn.ReLU(), nn.Dropout(0.5), nn.Linear(30, 2) }
local opt = optim.Adam(net:parameters(), { lr = 0.01 })
nn.fit(net, nn.CrossEntropyLoss(), opt, data.batches { x, y, size = 10, shuffle = true }, {
  epochs = 4, schedule = optim.CosineLR(opt, { total_steps = 4 }), progress = false,
  checkpoint = folder .. "/run.safetensors", checkpoint_every = 1,
})
nb.save(folder .. "/model.safetensors", net:state())
"""


class Resume(unittest.TestCase):
    def start(self, folder):
        return subprocess.Popen([NABLUA, os.path.join(self.scripts, "train.lua"), folder], stderr=subprocess.PIPE)

    def test_killed_anywhere_it_goes_on(self):
        draw = random.Random(5)
        with tempfile.TemporaryDirectory() as self.scripts:
            with open(os.path.join(self.scripts, "train.lua"), "w") as f:
                f.write(TRAIN)
            alone, killed = os.path.join(self.scripts, "alone"), os.path.join(self.scripts, "killed")
            os.mkdir(alone)
            os.mkdir(killed)
            begin = time.monotonic()
            process = self.start(alone)
            self.assertEqual(process.communicate(timeout=120)[1], b"")
            length, kills = time.monotonic() - begin, 0
            while True:
                process = self.start(killed)
                try:
                    # Later each time, so that it ends even where starting takes most of the time.
                    stderr = process.communicate(timeout=length * draw.uniform(0.3, 0.5) * (1 + kills / 10))[1]
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.communicate()
                    kills += 1
                    continue
                self.assertEqual((process.returncode, stderr), (0, b""))
                break
            self.assertGreaterEqual(kills, 1)
            with open(os.path.join(alone, "model.safetensors"), "rb") as a:
                with open(os.path.join(killed, "model.safetensors"), "rb") as b:
                    self.assertEqual(a.read(), b.read())


if __name__ == "__main__":
    unittest.main()
