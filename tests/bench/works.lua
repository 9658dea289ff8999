-- SPDX-License-Identifier: MIT
-- Works a to f in nablua, driven by works.py: reads "work threads seconds", answers with microseconds a step.
local nb = require "nablua"
local nn, optim = nb.nn, nb.optim
local steps = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "steps.lua")
local trainer = steps.trainer

local function mlp(sizes)
  local layers = {}
  for i = 2, #sizes do
    layers[#layers + 1] = nn.Linear(sizes[i - 1], sizes[i])
    if i < #sizes then layers[#layers + 1] = nn.ReLU() end
  end
  return nn.Sequential(layers)
end

local function classifier(net, x, optimizer, lr)
  local y = nb.randint(1, 10, x:size(1))
  return trainer(net, nn.CrossEntropyLoss(), optimizer(net:parameters(), { lr = lr }), x, y)
end

local works
works = {
  a = function()
    local net = nn.Sequential { nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Sigmoid() }
    local x, y = nb.tensor { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }, nb.tensor { { 0 }, { 1 }, { 1 }, { 0 } }
    return trainer(net, nn.MSELoss(), optim.SGD(net:parameters(), { lr = 0.5 }), x, y)
  end,
  -- A hundred of these steps in one call.
  a_100 = function()
    local step = works.a()
    return function()
      local J
      for _ = 1, 100 do J = step() end
      return J
    end, 100
  end,
  b_sgd = function() return classifier(mlp { 784, 256, 128, 10 }, nb.rand(64, 784), optim.SGD, 0.01) end,
  b_adam = function() return classifier(mlp { 784, 256, 128, 10 }, nb.rand(64, 784), optim.Adam, 1e-3) end,
  -- Late in training: half of the units never answer, most rows are never asked for, and their moments have decayed.
  b_dead = function()
    local net = mlp { 784, 256, 128, 10 }
    nb.no_grad(function()
      for _, k in ipairs { 1, 3 } do net[k].bias:narrow(1, 1, net[k].bias:size(1) // 2):fill_(-100) end
    end)
    return steps.aged(classifier(net, nb.rand(64, 784), optim.Adam, 1e-3))
  end,
  rows = function()
    local net = nn.Sequential { nn.Embedding(10000, 64), nn.Flatten(), nn.Linear(16 * 64, 10) }
    return steps.aged(classifier(net, nb.randint(1, 500, 64, 16), optim.Adam, 1e-3))
  end,
  c = function() return classifier(mlp { 784, 1024, 1024, 10 }, nb.rand(512, 784), optim.SGD, 0.01) end,
  d = function()
    local net = nn.Sequential {
      nn.Conv2d(1, 6, 5, { padding = 2 }), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
      nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    }
    return classifier(net, nb.rand(64, 1, 28, 28), optim.SGD, 0.01)
  end,
  e = function()
    local x = nb.randn(1000000)
    x.requires_grad = true
    return function()
      x.grad = nil
      local J = ((x * 1.5 + 0.5):tanh() * x:sigmoid()):sum()
      J:backward()
      return J
    end
  end,
  f = function()
    local lstm, head = nn.LSTM(128, 128), nn.Linear(128, 10)
    local net = nn.Sequential { lstm, head }
    local x, y = nb.randn(64, 32, 128), nb.randint(1, 10, 32)
    local opt, loss = optim.Adam(net:parameters(), { lr = 1e-3 }), nn.CrossEntropyLoss()
    return function()
      opt:zero_grad()
      local _, h = lstm(x)
      local J = loss(head(h[1]), y)
      J:backward()
      opt:step()
      return J
    end
  end,
}

-- GPT-2 of 124 million parameters, 4 sequences of 64.
function works.gpt()
  local words, width, layers = 50257, 768, nn.Sequential()
  for k = 1, 12 do
    layers[k] = nn.TransformerEncoderLayer(width, 12, { dim_feedforward = 4 * width, batch_first = true,
      norm_first = true, activation = "gelu", dropout = 0 })
  end
  local Net = nn.module("GPT2", function(self)
    self.wte, self.wpe, self.h = nn.Embedding(words, width), nn.Embedding(1024, width), layers
    self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, words, { bias = false })
    self.head.weight = self.wte.weight
  end)
  function Net:forward(ids)
    local x = self.wte(ids) + self.wpe(nb.arange(ids:size(2)):to("i64"))
    for k = 1, #self.h do x = self.h[k](x, { is_causal = true }) end
    return self.head(self.ln(x)):view(-1, words)
  end
  local net = Net()
  nb.no_grad(function()
    net.wte.weight:mul_(0.02)
    net.wpe.weight:mul_(0.02)
  end)
  local ids = nb.randint(1, words, 4, 65)
  local x, y = ids[{ nb.ALL, { 1, 64 } }]:contiguous(), ids[{ nb.ALL, { 2, 65 } }]:reshape(-1)
  return trainer(net, nn.CrossEntropyLoss(), optim.AdamW(net:parameters(), { lr = 1e-4 }), x, y)
end

local made, counts = {}, {}  -- by name: what to call, and how many steps that takes

for line in io.lines() do
  local name, threads, seconds = line:match("^(%S+) (%d+) (%S+)$")
  local mode, work = "eager", name
  if name:match("^compiled:") then mode, work = "compiled", name:match(":(.*)") end
  nb.threads(math.tointeger(threads))
  if not made[name] then
    made[name], counts[name] = works[work]()
    if mode == "compiled" then made[name] = nb.compile(made[name]) end
  end
  print(("%.3f"):format(steps.time(made[name], tonumber(seconds)) / (counts[name] or 1)))
  io.flush()
end
