#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What nb.anomaly costs a training step: never on, off again, and on, in instructions that callgrind counts.

    anomaly.py NABLUA

Off, an operator tests one pointer, which is the same whether the check was ever on or not; what that is of a step is
bounded by three instructions for each operator and each backward rule.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = """
local native = require "nablua.native"
local steps, mode = tonumber(arg[1]), arg[2]
nb.threads(1)
nb.seed(1)
local net = nn.Sequential{ nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1) }
local opt, loss = optim.SGD(net:parameters(), {lr=0.01}), nn.MSELoss()
local x, y = nb.randn(4, 8), nb.randn(4, 1)
local function step() opt:zero_grad(); loss(net(x), y):backward(); opt:step() end
if mode ~= "never" then nb.anomaly(true); step() end
if mode == "off again" then nb.anomaly(false) end
for _ = 1, steps do step() end
if mode == "count" then
  local events = 0
  nb.anomaly(false)
  native.observe(function() events = events + 1 end)
  step()
  native.observe(nil)
  print(events)
end
"""
FEW, MANY = 100, 400


def instructions(nablua, script, steps, mode):
    r = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", nablua, script, str(steps), mode],
                       capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", r.stderr).group(1))


def main(nablua):
    if not shutil.which("valgrind"):
        print("anomaly: not measured, this needs valgrind")
        return
    with tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False) as f:
        f.write(SOURCE)
    try:
        events = int(subprocess.run([nablua, f.name, "0", "count"], capture_output=True, text=True, check=True).stdout)
        for mode in ("never", "off again", "on"):
            few, many = (instructions(nablua, f.name, n, mode) for n in (FEW, MANY))
            each = (many - few) / (MANY - FEW)
            first = each if mode == "never" else first
            print("anomaly %-10s %8.0f instructions a step  %+.2f %%" % (mode, each, 100 * (each / first - 1)))
        print("anomaly: the test itself is at most %d instructions of these, %.3f %%" % (3 * events, 300 * events / first))
    finally:
        os.unlink(f.name)


if __name__ == "__main__":
    main(sys.argv[1])
