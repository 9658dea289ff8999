-- SPDX-License-Identifier: MIT
-- Whether training gets slower when it is done: each optimizer on a net that has learnt its batch by heart, steps 3,001
-- to 3,500 in turn with steps 101 to 600 of another (medians of 50 tens), and how many numbers below the least normal
-- one it keeps in the end.
-- late.lua [optimizer]
local nb = require "nablua"
local nn, optim = nb.nn, nb.optim
local now = require "nablua.native".clock
local steps = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "steps.lua")
local LEAST = 2 ^ -126

local OPTIMIZERS = {
  { "SGD", { lr = 0.01 } }, { "SGD", { lr = 0.01, momentum = 0.9 } }, { "SGD", { lr = 0.01, weight_decay = 0.5 } },
  { "Adam", {} }, { "Adam", { amsgrad = true } }, { "AdamW", {} }, { "RMSprop", { lr = 1e-3 } },
  { "RMSprop", { lr = 1e-3, centered = true, momentum = 0.9 } }, { "Adagrad", {} }, { "NAdam", {} }, { "RAdam", {} },
  { "Adamax", {} }, { "Adadelta", {} }, { "Lion", {} }, { "Rprop", {} }, { "ASGD", {} }, { "Adafactor", {} },
}

local function subnormals(t)
  if t.dtype ~= "f32" then return 0 end
  local size = t:detach():abs()
  return size:gt(0):logical_and(size:lt(LEAST)):sum():item()
end

local function kept(net, opt)
  local n = 0
  for _, p in ipairs(net:parameters()) do n = n + subnormals(p) end
  for _, v in pairs(opt:state()) do
    if nb.is_tensor(v) then n = n + subnormals(v) end
  end
  return n
end

-- Microseconds of each step, the median of 50 times ten.
local function in_turn(list)
  local times = {}
  for k = 1, #list do times[k] = {} end
  for i = 1, 50 do
    for k, step in ipairs(list) do
      local start = now()
      for _ = 1, 10 do step() end
      times[k][i] = (now() - start) / 10 * 1e6
    end
  end
  for k = 1, #list do
    table.sort(times[k])
    times[k] = times[k][25]
  end
  return table.unpack(times)
end

local function start(name, o, before)
  nb.seed(1)
  local net = nn.Sequential { nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10) }
  local opt = optim[name](net:parameters(), o)
  local step = steps.trainer(net, nn.CrossEntropyLoss(), opt, nb.rand(64, 784), nb.randint(1, 10, 64))
  for _ = 1, before do step() end
  return step, net, opt
end

print(("%-44s%12s%12s%8s%12s"):format("microseconds a step", "101-600", "3001-3500", "ratio", "subnormals"))
for _, entry in ipairs(OPTIMIZERS) do
  local name, o = entry[1], entry[2]
  if not arg[1] or arg[1] == name then
    local old, net, opt = start(name, o, 3000)
    local early, late = in_turn { (start(name, o, 100)), old }
    local words = {}
    for key, value in pairs(o) do words[#words + 1] = (", %s=%s"):format(key, value) end
    table.sort(words)
    print(("%-44s%12.1f%12.1f%8.2f%12d"):format(name .. table.concat(words), early, late, late / early, kept(net, opt)))
  end
end
