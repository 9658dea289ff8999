#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Operators and layers beside PyTorch's, one thread, 10⁶ elements or so: both programs in turn, least times, ratios.

    operators.py NABLUA [--rounds 3] [--only WORD] [--level avx2] [--json FILE]

A ratio is PyTorch's time over ours in one round, shown is the median of the rounds; times are the least ones.  With a
level both programs use no instructions beyond it.
PyTorch of NABLUA_PEER_PYTHON, else of python3; without one, our times alone.  The slowest beside it come first.
"""
import argparse
import os
import statistics
import subprocess
import sys

import record

PYTHON = os.environ.get("NABLUA_PEER_PYTHON", "/usr/bin/python3")
LUA_SETUP = """
nb.threads(1)
local now = require "nablua.native".clock
local x, p, a = nb.randn(1000000), nb.rand(1000000) + 0.5, nb.randn(1000, 1000)
local rows, places = nb.randint(1, 1000, 1000), nb.randint(1, 1000, 1000, 1000)
local image, wide = nb.randn(16, 32, 32, 32), nb.randn(2048, 512)
local function time(name, f)
  for _ = 1, 3 do f() end
  local start = now()
  f()
  local n, best = math.max(1, math.floor(0.01 / (now() - start))), math.huge
  for _ = 1, 7 do
    start = now()
    for _ = 1, n do f() end
    best = math.min(best, (now() - start) / n)
  end
  print(name .. "\\t" .. best * 1e6)
end
local function both(name, net, input)
  input = input:clone()
  input.requires_grad = input.dtype ~= "i64"
  time(name, function() return net(input) end)
  time(name .. " and back", function()
    net:zero_grad()
    if input.requires_grad then input.grad = nil end
    net(input):sum():backward()
  end)
end
"""
TORCH_SETUP = """
import time as clock, torch
from torch import nn
import torch.nn.functional as F
torch.set_num_threads(1)
x, p, a = torch.randn(1000000), torch.rand(1000000) + 0.5, torch.randn(1000, 1000)
rows, places = torch.randint(0, 1000, (1000,)), torch.randint(0, 1000, (1000, 1000))
image, wide = torch.randn(16, 32, 32, 32), torch.randn(2048, 512)
def time(name, f):
    for _ in range(3): f()
    start = clock.perf_counter()
    f()
    n, best = max(1, int(0.01 / (clock.perf_counter() - start))), 1e9
    for _ in range(7):
        start = clock.perf_counter()
        for _ in range(n): f()
        best = min(best, (clock.perf_counter() - start) / n)
    print(name, best * 1e6, sep="\\t", flush=True)
def both(name, net, input):
    input = input if input.dtype == torch.int64 else input.clone().requires_grad_(True)
    time(name, lambda: net(input))
    def step():
        net.zero_grad(set_to_none=True)
        input.grad = None
        net(input).sum().backward()
    time(name + " and back", step)
"""
SAME = "exp sin cos tan atan tanh sigmoid erf relu abs floor sinh cosh"  # x:exp(), x.exp()
OPERATORS = [  # name, ours, PyTorch's
    ("log", "p:log()", "p.log()"), ("sqrt", "p:sqrt()", "p.sqrt()"), ("x + y", "x + p", "x + p"),
    ("x / y", "x / p", "x / p"), ("x ^ 2", "x ^ 2", "x ** 2"),
    ("x ^ 2.5", "p ^ 2.5", "p ** 2.5"), ("clamp", "x:clamp(-1, 1)", "x.clamp(-1, 1)"),
    ("where", "nb.where(x:gt(0), x, p)", "torch.where(x > 0, x, p)"), ("gelu", "nb.gelu(x)", "F.gelu(x)"),
    ("sum", "x:sum()", "x.sum()"), ("norm", "x:norm()", "x.norm()"), ("std", "x:std()", "x.std()"),
    ("max", "x:max()", "x.max()"), ("prod", "p:prod()", "p.prod()"), ("sum of columns", "a:sum(1)", "a.sum(0)"),
    ("sum of rows", "a:sum(2)", "a.sum(1)"), ("max of rows", "a:max(2)", "a.max(1)"),
    ("var of rows", "a:var(2)", "a.var(1)"), ("cumsum", "a:cumsum(2)", "a.cumsum(1)"),
    ("sort", "a:sort(2)", "a.sort(1)"), ("topk", "a:topk(10, 2)", "a.topk(10, 1)"),
    ("transpose", "a:transpose(1, 2):contiguous()", "a.t().contiguous()"),
    ("cat", "nb.cat({a, a}, 2)", "torch.cat([a, a], 1)"),
    ("softmax", "a:softmax(2)", "a.softmax(1)"), ("softmax of columns", "a:softmax(1)", "a.softmax(0)"),
    ("rand", "nb.rand(1000000)", "torch.rand(1000000)"), ("randn", "nb.randn(1000000)", "torch.randn(1000000)"),
    ("randint", "nb.randint(1, 10, 1000000)", "torch.randint(1, 11, (1000000,))"),
    ("randperm", "nb.randperm(100000)", "torch.randperm(100000)"),
    ("index_select", "a:index_select(1, rows)", "a.index_select(0, rows)"),
    ("gather", "a:gather(2, places)", "a.gather(1, places)"),
    ("one_hot", "nb.one_hot(rows, 1000)", "F.one_hot(rows, 1000)"), ("tril", "a:tril()", "a.tril()"),
]
LAYERS = [  # ours, PyTorch's, the input
    ("nn.LayerNorm(512)", "nn.LayerNorm(512)", "wide"), ("nn.RMSNorm(512)", "nn.RMSNorm(512)", "wide"),
    ("nn.GroupNorm(8, 32)", "nn.GroupNorm(8, 32)", "image"), ("nn.BatchNorm2d(32)", "nn.BatchNorm2d(32)", "image"),
    ("nn.Dropout(0.5)", "nn.Dropout(0.5)", "wide"), ("nn.Embedding(1000, 128)", "nn.Embedding(1000, 128)", "rows"),
    ("nn.GELU()", "nn.GELU()", "wide"), ("nn.MaxPool2d(2)", "nn.MaxPool2d(2)", "image"),
    ("nn.AvgPool2d(2)", "nn.AvgPool2d(2)", "image"),
    ("nn.Conv2d(32, 32, 3, {padding=1})", "nn.Conv2d(32, 32, 3, padding=1)", "image"),
    ("nn.Conv2d(32, 64, 3, {stride=2, padding=1})", "nn.Conv2d(32, 64, 3, stride=2, padding=1)", "image"),
    ("nn.Conv2d(32, 64, 1)", "nn.Conv2d(32, 64, 1)", "image"),
    ("nn.Conv2d(32, 32, 3, {padding=1, groups=32})", "nn.Conv2d(32, 32, 3, padding=1, groups=32)", "image"),
    ("nn.ConvTranspose2d(32, 16, 4, {stride=2, padding=1})", "nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1)",
     "image"),
    ("nn.TransformerEncoderLayer(512, 8, {dim_feedforward=512, dropout=0})",
     "nn.TransformerEncoderLayer(512, 8, 512, 0.0, batch_first=True)", "wide[:512].view(8, 64, 512)"),
]


def programs(only):
    """The two programs, for what has the word in its name."""
    lua, torch = [LUA_SETUP], [TORCH_SETUP]
    for name, ours, theirs in [(n, "x:%s()" % n, "x.%s()" % n) for n in SAME.split()] + OPERATORS:
        if only in name:
            lua.append("time(%r, function() return %s end)" % (name, ours))
            torch.append("time(%r, lambda: %s)" % (name, theirs))
    for ours, theirs, given in LAYERS:
        if only in ours:
            lua.append("both(%r, %s, %s)" % (ours, ours, given.replace("wide[:512].", "wide:narrow(1, 1, 512):")))
            torch.append("both(%r, %s, %s)" % (ours, theirs, given))
    return "\n".join(lua), "\n".join(torch)


def measure(command, into, level=""):
    """Least times by name."""
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    if level:
        one.update(NABLUA_CPU=level, ATEN_CPU_CAPABILITY=level, ONEDNN_MAX_CPU_ISA=level.upper(),
                   MKL_ENABLE_INSTRUCTIONS=level.upper())
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=one)
    for line in done.stdout.splitlines():
        if "\t" in line:
            name, time = line.split("\t")
            into[name] = min(into.get(name, 1e12), float(time))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("nablua")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--level", default="", choices=("", "avx2"))
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    lua, torch = programs(options.only)
    rounds = []
    for turn in range(options.rounds):
        ours, theirs = {}, {}
        for side in ((0, 1), (1, 0))[turn % 2]:
            command = [PYTHON, "-c", torch] if side else [options.nablua, "-e", lua]
            measure(command, theirs if side else ours, options.level)
        rounds.append((ours, theirs))
    figures = {}
    for name in rounds[0][0]:
        pairs = [(ours[name], theirs.get(name)) for ours, theirs in rounds if name in ours]
        ratios = [b / a for a, b in pairs if b]
        figures[name] = {"ours": min(a for a, _ in pairs), "theirs": min((b for _, b in pairs if b), default=None),
                         "ratio": statistics.median(ratios) if ratios else None}
    print("microseconds, least of %d rounds in turn, one thread; PyTorch/nablua, median" % options.rounds)
    for name, f in sorted(figures.items(), key=lambda item: item[1]["ratio"] or 0):
        print("%-70s%12.1f%12s%8s" % (name, f["ours"], "%.1f" % f["theirs"] if f["theirs"] else "-",
                                      "%.2f" % f["ratio"] if f["ratio"] else ""))
    if options.json:
        record.write(options.json, "operators" + ("-" + options.level if options.level else ""), figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
