#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a process costs: start to first gradient, resident memory, data loading, interrupt latency.

    process.py NABLUA

Peers as in works.py: PyTorch of NABLUA_PEER_PYTHON, else of python3.
"""
import os
import signal
import statistics
import subprocess
import sys
import time

PYTHON = os.environ.get("NABLUA_PEER_PYTHON", "/usr/bin/python3")
FIRST = "local w = nb.tensor({1, 2}, {requires_grad=true}); (w * w):sum():backward(); print(w.grad:at(1))"
FIRST_TORCH = "import torch; w = torch.tensor([1., 2], requires_grad=True); (w * w).sum().backward(); print(w.grad[0])"
WORK_B = """
nb.threads(1)
local net = nn.Sequential{ nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10) }
local opt, loss = optim.Adam(net:parameters()), nn.CrossEntropyLoss()
local x, y = nb.rand(64, 784), nb.randint(1, 10, 64)
local function steps(n)
  for _ = 1, n do opt:zero_grad(); loss(net(x), y):backward(); opt:step() end
end
local function resident()
  for line in io.lines("/proc/self/status") do
    local kb = line:match("^VmRSS:%s+(%d+)")
    if kb then return kb / 1024 end
  end
end
steps(50)
local early, peak = resident(), nb.memory().peak
steps(1000)
print(("%.1f %.1f %.3f %.3f"):format(early, resident(), peak / 1e6, nb.memory().peak / 1e6))
"""


def timed(command, rounds=9):
    per = []
    for _ in range(rounds):
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        per.append((time.perf_counter() - start) * 1e3)
        if done.returncode:
            return None
    return statistics.median(per), min(per)


def output(nablua, code, *args):
    done = subprocess.run([nablua, *args, "-e", code], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def interrupt_latency(nablua):
    """Milliseconds from SIGINT to the end of a program that trains a large net."""
    code = ("local net = nn.Linear(2048, 2048); local x = nb.rand(512, 2048); print('go'); io.flush() "
            "while true do net(x):sum():backward() end")
    per = []
    for _ in range(5):
        process = subprocess.Popen([nablua, "-e", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdout.readline()
        time.sleep(0.3)
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        process.wait()
        per.append((time.perf_counter() - start) * 1e3)
    return statistics.median(per), max(per)


def main():
    nablua = sys.argv[1]
    print("start to first gradient, ms (median, least): nablua %.1f, %.1f" % timed([nablua, "-e", FIRST]), end="")
    torch = timed([PYTHON, "-c", FIRST_TORCH], 3)
    print("; PyTorch %.0f, %.0f" % torch if torch else "; no PyTorch")
    fields = output(nablua, WORK_B).split()
    if fields:
        print("work b with Adam: resident %s MB after 50 steps, %s MB after 1050; peak of tensors %s MB, then %s MB" %
              tuple(fields))
    print("interrupt of a 512×2048×2048 training loop, ms (median, most): %.1f, %.1f" % interrupt_latency(nablua))
    loading = output(nablua, "local c = require 'nablua.native'.clock; local s = c(); local d = data.fashion_mnist(); "
                             "local a = c(); for x, y in data.batches{d.train.x, d.train.y, size=64, shuffle=true} do end "
                             "print(('%.0f %.0f'):format((a - s) * 1e3, (c() - a) * 1e3))").split()
    if loading:
        print("Fashion-MNIST: %s ms to load, %s ms for a shuffled epoch of 64s" % tuple(loading))
    return 0


if __name__ == "__main__":
    sys.exit(main())
