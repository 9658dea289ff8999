-- SPDX-License-Identifier: MIT
-- What exchanging gradients costs: steps with and without it, in turns, on ranks of one thread each.
--
--   mpirun -n 2 nablua tests/bench/ranks.lua [c|d|g] [rounds]      beside tests/bench/ranks.py under torchrun
--
-- c is an MLP, d LeNet, g GPT-2's shape.  Both kinds of steps run on all ranks at once, so that what they share beside
-- the exchange, memory and caches, weighs on both.  Printed are the least and the median of the rounds of both, and
-- their ratios; alone, the step.  tests/bench/ranks.sh does one, two and PyTorch's in turns.
local nb = require "nablua"
local nn, optim, dist = nb.nn, nb.optim, nb.dist

local work, rounds = arg[1] or "c", tonumber(arg[2]) or 15
local STEPS = work == "g" and 1 or 3

nb.threads(1)
local net, x, y
if work == "g" then
  local width, heads, layers, words, batch, length = 768, 12, 12, 50257, 4, 64
  local GPT = nn.module("GPT", function(self)
    self.word, self.place = nn.Embedding(words, width), nn.Embedding(length, width)
    self.layers = nn.ModuleList {}
    for i = 1, layers do
      self.layers[i] = nn.TransformerEncoderLayer(width, heads, { dim_feedforward = 4 * width, dropout = 0,
        activation = "gelu", batch_first = true, norm_first = true })
    end
    self.norm = nn.LayerNorm(width)
  end)
  function GPT:forward(t)
    local h = self.word(t) + self.place(nb.arange(1, length):to "i64")
    for i = 1, layers do h = self.layers[i](h, { is_causal = true }) end
    return nb.linear(self.norm(h):view(-1, width), self.word.weight)
  end
  net, x, y = GPT(), nb.randint(1, words, { batch, length }), nb.randint(1, words, { batch * length })
elseif work == "c" then
  net = nn.Sequential { nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10) }
  x = nb.rand(512, 784)
else
  net = nn.Sequential {
    nn.Conv2d(1, 6, 5, { padding = 2 }), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
  }
  x = nb.rand(64, 1, 28, 28)
end
y = y or nb.randint(1, 10, { x:size(1) })
dist.parallel(net, { drift = 0 })
local opt, loss = optim.SGD(net:parameters(), { lr = 0 }), nn.CrossEntropyLoss()  -- the ranks' nets stay equal

local function step()
  opt:zero_grad()
  loss(net(x), y):backward()
  opt:step()
end

local native = require "nablua.native"
local function measure(f)
  dist.barrier()
  local begun = native.clock()
  for _ = 1, STEPS do f() end
  return (native.clock() - begun) / STEPS
end

local with, without = {}, {}
for round = 0, rounds do
  local a = measure(step)
  local b = dist.size > 1 and measure(function() dist.no_sync(step) end) or a
  if round > 0 then with[round], without[round] = a, b end
end
table.sort(with)
table.sort(without)
if dist.rank == 1 then
  local m = (rounds + 1) // 2
  if dist.size == 1 then
    return print(("work %s, alone: a step %.2f ms (least %.2f)"):format(work, with[m] * 1e3, with[1] * 1e3))
  end
  local words = "work %s, %d ranks: a step with exchange %.2f ms (least %.2f), without %.2f ms (least %.2f): " ..
    "ratio %.3f (%.3f)"
  print(words:format(work, dist.size, with[m] * 1e3, with[1] * 1e3, without[m] * 1e3, without[1] * 1e3,
    without[m] / with[m], without[1] / with[1]))
  print(("%.0f %% of buckets were on their way before backward's end"):format(100 * dist.figures(net).overlap))
end
