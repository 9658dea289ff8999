-- SPDX-License-Identifier: MIT
-- What the tests of runs share: nets, optimizers and schedules to train, where a run stands, and walks about it.
local nb = require "nablua"
local lu = require "luaunit"
local runs = require "nablua.run"
local nn, optim = nb.nn, nb.optim

local M = {}

-- ---- where a run stands, as tensors by name ----

local function standing(run)
  local random = runs.known_of(run).random
  local all = { random = nb.tensor({ random.seed, random.counter }, { dtype = "i64" }) }
  for path, t in pairs(run.net:state()) do all["net." .. path] = t end
  for path, t in pairs(run.opt:state()) do all["opt." .. path] = t end
  if run.schedule then
    for name, v in pairs(run.schedule:state()) do
      if type(v) == "number" then all["schedule." .. name] = nb.tensor(v, { dtype = "f64" }) end
    end
  end
  return all
end

local function same_bits(a, b)
  return a.dtype == b.dtype and nb.no_grad(function() return (a:eq(b) | (a:ne(a) & b:ne(b))):all():item() end)
end

local function differences(a, b)
  local list = {}
  for name, t in pairs(a) do
    if not b[name] or not same_bits(t, b[name]) then list[#list + 1] = name end
  end
  for name in pairs(b) do
    if not a[name] then list[#list + 1] = name end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

-- Does all steps and remembers each place, where `change(run)` may change something; then walks about and compares.
local function walk(name, run, walks, change)
  local places = { [0] = standing(run) }
  while true do
    local before = run.step
    if change then
      change(run)
      places[before] = standing(run)
    end
    run:next()
    places[run.step] = standing(run)
    if run.step == before then break end
  end
  lu.assertTrue(run.last > 3, name)
  local losses = table.move(run.history.loss, 1, run.last, 1, {})
  for i = 1, walks do
    local way, k = math.random(4), math.random(run.first, run.last)
    if way == 1 then
      k = math.max(run.step - math.random(3), run.first)
      run:back(run.step - k)
    elseif way == 2 then
      k = math.min(run.step + math.random(3), run.last)
      run:next(k - run.step)
    else
      run:to(k)
    end
    lu.assertEquals(run.step, k)
    lu.assertEquals(differences(places[k], standing(run)), "", ("%s, walk %d, step %d"):format(name, i, k))
  end
  lu.assertEquals(run.history.loss, losses)
end

-- ---- nets, optimizers, schedules, ways to have data ----

local function samples(n, shape, classes)
  local x = nb.randn(n, table.unpack(shape))
  return x, classes and nb.randint(1, classes, { n }) or nb.randn(n, 1)
end

local function dense()
  return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), nn.MSELoss(), { 4 }
end

local nets = {
  dense = dense,
  dropout = function()
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 1)),
      nn.MSELoss(), { 4 }
  end,
  convolution = function()
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)),
      nn.CrossEntropyLoss(), { 1, 5, 5 }, 3
  end,
  attention = function()
    return nn.Sequential(nn.TransformerEncoderLayer(4, 2, { dim_feedforward = 8, dropout = 0.1 }), nn.Flatten(),
      nn.Linear(12, 1)), nn.MSELoss(), { 3, 4 }
  end,
  shared = function()
    local layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(4, 1)), nn.MSELoss(), { 4 }
  end,
  recurrent = function()
    local Last = nn.module("Last", { init = function(self)
      self.lstm, self.out = nn.LSTM(4, 5), nn.Linear(5, 1)
    end, forward = function(self, x)
      local h = self.lstm(x)
      return self.out(h:select(2, -1))
    end })
    return Last(), nn.MSELoss(), { 3, 4 }
  end,
}

local optimizers = {
  SGD = function(p) return optim.SGD(p, { lr = 0.05 }) end,
  momentum = function(p) return optim.SGD(p, { lr = 0.05, momentum = 0.9, nesterov = true }) end,
  Adam = function(p) return optim.Adam(p, { lr = 0.01 }) end,
  amsgrad = function(p) return optim.Adam(p, { lr = 0.01, amsgrad = true }) end,
  AdamW = function(p) return optim.AdamW(p, { lr = 0.01 }) end,
  RMSprop = function(p) return optim.RMSprop(p, { lr = 0.01, centered = true, momentum = 0.5 }) end,
  Adagrad = function(p) return optim.Adagrad(p, { lr = 0.01 }) end,
  LBFGS = function(p) return optim.LBFGS(p, { lr = 0.1, max_iter = 3 }) end,
}

local schedules = {
  none = function() end,
  StepLR = function(opt) return optim.StepLR(opt, { step_size = 2 }) end,
  OneCycleLR = function(opt) return optim.OneCycleLR(opt, { max_lr = 0.1, total_steps = 100 }) end,
  ReduceLROnPlateau = function(opt) return optim.ReduceLROnPlateau(opt, { patience = 0 }) end,
}

local function sorted(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function make(net_name, opt_name, schedule_name, given)
  nb.seed(7)
  local net, loss, shape, classes = nets[net_name]()
  local opt = optimizers[opt_name](net:parameters())
  local x, y = samples(22, shape, classes)
  local o = { net = net, loss = loss, opt = opt, data = { x, y }, size = 4, epochs = 4, seed = 3,
    schedule = schedules[schedule_name](opt), schedule_per = schedule_name == "OneCycleLR" and "batch" or "epoch" }
  for name, value in pairs(given or {}) do o[name] = value end
  return nb.run(o)
end

M.standing, M.same_bits, M.differences, M.walk = standing, same_bits, differences, walk
M.nets, M.optimizers, M.schedules, M.make, M.samples, M.sorted = nets, optimizers, schedules, make, samples, sorted

return M
