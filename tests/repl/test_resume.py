# SPDX-License-Identifier: MIT
"""A training whose process is killed again and again ends with the same bytes as one that is left alone."""
import os
import signal
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))

# The process kills itself when the loss is asked for the given time: no clean-up, no last checkpoint.
TRAIN = """
local folder, last = arg[1], tonumber(arg[2])
nb.seed(1)
local x = nb.randn(200, 20)
local y = x:sum(2):gt(0):to("i64") + 1
local net = nn.Sequential { nn.Linear(20, 30), nn.ReLU(), nn.Dropout(0.5), nn.Linear(30, 2) }
local opt = optim.Adam(net:parameters(), { lr = 0.01 })
local criterion, asked = nn.CrossEntropyLoss(), 0
local function loss(output, target)
  asked = asked + 1
  if asked == last then os.execute("kill -KILL $PPID") end
  return criterion(output, target)
end
nn.fit(net, loss, opt, data.batches { x, y, size = 10, shuffle = true }, {
  epochs = 4, schedule = optim.CosineLR(opt, { total_steps = 4 }), progress = false,
  checkpoint = folder .. "/run.safetensors", checkpoint_every = 3,
})
nb.save(folder .. "/model.safetensors", net:state())
"""


class Resume(unittest.TestCase):
    def run_script(self, folder, *last):
        script = os.path.join(self.folder, "train.lua")
        return subprocess.run([NABLUA, script, folder, *map(str, last)], stderr=subprocess.PIPE, timeout=120)

    def test_killed_anywhere_it_goes_on(self):
        with tempfile.TemporaryDirectory() as self.folder:
            with open(os.path.join(self.folder, "train.lua"), "w") as f:
                f.write(TRAIN)
            models = []
            for name, deaths in ("alone", []), ("killed", [1, 2, 18, 25, 4, 31]):
                folder = os.path.join(self.folder, name)
                os.mkdir(folder)
                for last in deaths:
                    self.assertEqual(self.run_script(folder, last).returncode, -signal.SIGKILL)
                end = self.run_script(folder)
                self.assertEqual((end.returncode, end.stderr), (0, b""))
                with open(os.path.join(folder, "model.safetensors"), "rb") as f:
                    models.append(f.read())
            self.assertEqual(models[0], models[1])


if __name__ == "__main__":
    unittest.main()
