-- SPDX-License-Identifier: MIT
-- What the tests of nb.compile share: nets with something to feed them, and functions that look at what is refused.
local lu = require "luaunit"
local nb = require "nablua"
local nn = nb.nn

local M = {}

-- Runs f with standard error put aside: what f returns.
local function silently(f, ...)
  local before = io.stderr
  local said = {}
  io.stderr = { write = function(_, text) said[#said + 1] = text end }  -- luacheck: ignore 122
  local results = table.pack(pcall(f, ...))
  io.stderr = before  -- luacheck: ignore 122
  if not results[1] then error(results[2], 0) end
  return table.concat(said), table.unpack(results, 2, results.n)
end

local function classes(n, k) return function() return nb.randint(1, k, n) end end
local function reals(...) local shape = { ... } return function() return nb.randn(shape) end end

-- A net of the first result of what it holds, and one whose halves share a layer and add up.
local First = nn.module("First", function(self, inner) self.inner = inner end)
function First:forward(...) return (self.inner(...)) end
local Shared = nn.module("Shared", function(self)
  self.layer, self.bias = nn.Linear(6, 6), nb.zeros(6, { requires_grad = true })
end)
function Shared:forward(x) return x + self.layer(self.layer(x):tanh()) * self.bias:exp() end

local nets = {
  { function() return nn.Linear(6, 3) end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3), nn.Tanh() } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.LeakyReLU(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.ELU(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.Softmax(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8, { bias = false }), nn.Dropout(0.2), nn.ReLU() } end,
    reals(4, 6) },
  { function()
    return nn.Sequential { nn.Conv2d(2, 4, 3, { padding = 1 }), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
      nn.Linear(36, 3) }
  end, reals(2, 2, 6, 6) },
  { function()
    return nn.Sequential { nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten() }
  end, reals(2, 2, 6, 6) },
  { function() return nn.Sequential { nn.ConvTranspose2d(2, 3, 2), nn.GroupNorm(3, 3), nn.Flatten() } end,
    reals(2, 2, 4, 4) },
  { function() return nn.Sequential { nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten() } end, reals(2, 2, 7) },
  { function() return nn.Sequential { nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3) } end,
    function() return nb.randint(1, 9, 4, 3) end },
  { function() return First(nn.LSTM(5, 4)) end, reals(6, 3, 5) },
  { function() return First(nn.LSTM(5, 4, { num_layers = 2, bidirectional = true, dropout = 0.5 })) end,
    reals(6, 3, 5) },
  { function() return First(nn.GRU(5, 4, { batch_first = true })) end, reals(3, 6, 5) },
  { function() return First(nn.RNN(5, 4)) end, reals(6, 3, 5) },
  { function() return First(nn.MultiheadAttention(8, 2)) end, reals(3, 5, 8) },
  { function() return nn.TransformerEncoderLayer(8, 2, { dim_feedforward = 16 }) end, reals(3, 5, 8) },
  { function() return nn.Sequential { nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LogSoftmax() } end,
    reals(2, 2, 6, 6) },
  { function() return nn.Sequential { nn.Embedding(9, 5), First(nn.LSTM(5, 4, { batch_first = true })) } end,
    function() return nb.randint(1, 9, 4, 3) end },
  { Shared, reals(4, 6) },
  { function() return nn.Sequential { nn.Conv2d(4, 4, 3, { groups = 2 }), nn.GELU(), nn.ConvTranspose2d(4, 2, 3) } end,
    reals(2, 4, 6, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.RMSNorm(8), nn.Lambda(function(x) return x * x + 1 end) } end,
    reals(4, 6) },
}

local function assert_refused(words, f, ...)
  local compiled = nb.compile(f)
  local args = table.pack(...)
  local said, results = silently(function()
    local list = {}
    for i = 1, 6 do list[i] = compiled(table.unpack(args, 1, args.n)) end
    return list
  end)
  for _, word in ipairs(words) do lu.assertStrContains(said, word) end
  lu.assertStrContains(tostring(compiled), words[1])
  return results
end

M.silently, M.classes, M.reals, M.nets, M.assert_refused = silently, classes, reals, nets, assert_refused
return M
