-- SPDX-License-Identifier: MIT
-- Learning rate schedules that are less often used.
local native = require "nablua.native"
local options = require "nablua.options"
local parts = require "nablua.optim.parts"

local define, needed, after_one, cosine, begin_anew = table.unpack(parts.schedules)
local schedules = {}

local function add(name, spec)
  schedules[name] = define(name, spec)
end

add("MultiStepLR", {
  doc = "Multiplies the learning rate by gamma at each of the steps `milestones`.",
  params = { needed("milestones", "list of sizes", "numbers of steps"),
    { name = "gamma", type = "positive", default = 0.1 } },
  example = after_one:format("MultiStepLR", "milestones={1, 5}, gamma=0.5", "", "0.5"),
  rate = function(o, t, base)
    local n = 0
    for _, at in ipairs(o.milestones) do
      if t >= at then n = n + 1 end
    end
    return base * o.gamma ^ n
  end,
})

add("ExponentialLR", {
  doc = "Multiplies the learning rate by gamma at every step.", params = { needed("gamma", "positive") },
  example = after_one:format("ExponentialLR", "gamma=0.5", "", "0.5"),
  rate = function(o, t, base) return base * o.gamma ^ t end,
})

add("ConstantLR", {
  doc = "Multiplies the learning rate by factor for total_iters steps.",
  params = { { name = "factor", type = "share", default = 1 / 3 },
    { name = "total_iters", type = "count", default = 5 } },
  example = after_one:format("ConstantLR", "factor=0.5, total_iters=3", "", "0.5"), at_start = true,
  rate = function(o, t, base) return t < o.total_iters and base * o.factor or base end,
})

add("PolynomialLR", {
  doc = "Lets the learning rate fall to 0 within total_iters steps, as (1 − t/total_iters)^power.",
  params = { { name = "total_iters", type = "size", default = 5 },
    { name = "power", type = "non-negative", default = 1 } },
  example = after_one:format("PolynomialLR", "total_iters=4", "", "0.75"),
  rate = function(o, t, base) return base * (1 - math.min(t, o.total_iters) / o.total_iters) ^ o.power end,
})

add("CosineAnnealingWarmRestarts", {
  doc = "Lets the learning rate fall along a half cosine to eta_min within T_0 steps, then begins again at the full " ..
    "rate, each time for T_mult times as many steps.",
  source = "Loshchilov and Hutter 2017", see = { "optim.CosineLR" },
  params = { needed("T_0", "size", "steps of the first fall"),
    { name = "T_mult", type = "size", default = 1, doc = "how much longer each fall is than the one before" },
    { name = "eta_min", type = "non-negative", default = 0, doc = "the least rate" } },
  example = after_one:format("CosineAnnealingWarmRestarts", "T_0=2", "", "0.5"),
  rate = function(o, t, base)
    local length = o.T_0
    if o.T_mult == 1 then
      t = t % length
    else
      while t >= length do t, length = t - length, length * o.T_mult end
    end
    return cosine(base, o.eta_min, t / length)
  end,
})

-- ---- cycles ----

-- Where step t is between the lower bound (0) and the upper (1), and how high its cycle goes.
local function place(o, t)
  local up, down = o.step_size_up, o.step_size_down or o.step_size_up
  local cycle = t // (up + down)
  local at = t - cycle * (up + down)
  local share = at <= up and at / up or (up + down - at) / down
  if o.mode == "triangular2" then return share / 2 ^ cycle end
  return o.mode == "exp_range" and share * o.gamma ^ t or share
end

local function of_group(v, k)
  return type(v) == "table" and v[k] or v
end

add("CyclicLR", {
  doc = "Moves the learning rate between base_lr and max_lr in straight lines, up and down; a momentum (of SGD and " ..
    "RMSprop where they have one, of Adam beta 1) moves the other way.",
  source = "Smith 2017", see = { "optim.OneCycleLR" },
  params = {
    needed("base_lr", "rates", "the lowest rate, or a table of one for each group"),
    needed("max_lr", "rates", "the highest rate, likewise"),
    { name = "step_size_up", type = "size", default = 2000, doc = "steps up" },
    { name = "step_size_down", type = "size", optional = true, doc = "steps down; step_size_up when left out" },
    { name = "mode", choices = { "triangular", "triangular2", "exp_range" }, default = "triangular",
      doc = "each cycle as high as the first, half as high as the one before, or gamma^t as high" },
    { name = "gamma", type = "positive", default = 1 },
    { name = "cycle_momentum", type = "boolean", default = true },
    { name = "base_momentum", type = "fraction", default = 0.8, doc = "momentum at the highest rate" },
    { name = "max_momentum", type = "fraction", default = 0.9, doc = "momentum at the lowest" },
  },
  example = after_one:format("CyclicLR", "base_lr=0.5, max_lr=1, step_size_up=2", "", "0.75"),
  at_start = true,
  check = function(where, self)
    for _, name in ipairs { "base_lr", "max_lr" } do
      if type(self[name]) == "table" and #self[name] ~= #self.optimizer.groups then
        native.raise(("%s: %s must have one rate for each of %d groups, got %d"):format(where, name,
          #self.optimizer.groups, #self[name]))
      end
    end
  end,
  rate = function(o, t, _, _, k)
    local low, high = of_group(o.base_lr, k), of_group(o.max_lr, k)
    return low + (high - low) * place(o, t)
  end,
  set = function(o, t, group)
    if not o.cycle_momentum then return end
    local momentum = o.max_momentum - (o.max_momentum - o.base_momentum) * place(o, t)
    if group.betas then
      group.betas = { momentum, group.betas[2] }
    elseif group.momentum and group.momentum > 0 then
      group.momentum = momentum
    end
  end,
})

-- ---- functions of the user's ----

local lr_lambda = needed("lr_lambda", "any",
  "a function of the number of steps so far, or a table of one for each group")
lr_lambda.unsaved = true

local function check_lambda(where, self)
  local f = self.lr_lambda
  local list = type(f) == "table" and not options.is_callable(f) and f or { f }
  if list == f and #list ~= #self.optimizer.groups then
    native.raise(("%s: lr_lambda must have one function for each of %d groups, got %d"):format(where,
      #self.optimizer.groups, #list))
  end
  for _, each in ipairs(list) do
    if not options.is_callable(each) then
      native.raise(("%s: lr_lambda must be a function, or a table of functions, got %s"):format(where,
        options.describe(each)))
    end
  end
end

-- What the function of group k gives for t.
local function factor(o, t, k)
  local f = o.lr_lambda
  if type(f) == "table" and not options.is_callable(f) then f = f[k] or f[#f] end
  local v = f(t)
  if type(v) ~= "number" or v ~= v or v < 0 or v == math.huge then
    native.raise(("schedule:step: lr_lambda must give a finite number of at least 0, got %s"):format(
      options.describe(v)))
  end
  return v
end

add("LambdaLR", {
  doc = "Sets the learning rate to its first value times lr_lambda(t) after t steps.",
  params = { lr_lambda }, at_start = true, check = check_lambda,
  example = after_one:format("LambdaLR", "lr_lambda=function(t) return 1 / (1 + t) end", "", "0.5"),
  rate = function(o, t, base, _, k) return base * factor(o, t, k) end,
})

add("MultiplicativeLR", {
  doc = "Multiplies the learning rate by lr_lambda(t) at step t.", params = { lr_lambda }, check = check_lambda,
  example = after_one:format("MultiplicativeLR", "lr_lambda=function(t) return 0.5 end", "", "0.5"), chained = true,
  rate = function(o, t, _, now, k) return now * factor(o, t, k) end,
})

-- ---- several ----

local SCHEDULERS = needed("schedulers", "table", "a list of schedules, stepped in this order")
SCHEDULERS.unsaved = true

local function all_schedulers(self) return self.schedulers end

local function check_schedulers(where, self)
  local list = self.schedulers
  for _, s in ipairs(list) do
    if type(s) ~= "table" or type(s.step) ~= "function" or s.optimizer ~= self.optimizer then
      native.raise(where .. ": schedulers must be schedules of the same optimizer")
    end
  end
  if #list == 0 then native.raise(where .. ": schedulers must be a list of schedules, got none") end
end

add("ChainedScheduler", {
  doc = "Steps several schedules of one optimizer, whose factors multiply.",
  params = { SCHEDULERS },
  example = "local opt = optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=1}); " ..
    "local a, b = optim.StepLR(opt, {step_size=1, gamma=0.5}), optim.ExponentialLR(opt, {gamma=0.5}); " ..
    "optim.ChainedScheduler(opt, {schedulers={a, b}}):step(); return opt.lr  --> 0.25",
  check = check_schedulers, parts = all_schedulers,
})

-- How many of the milestones have been reached after as many steps as now.
local function reached(self)
  local n = 0
  for _, at in ipairs(self.milestones) do
    if self.steps >= at then n = n + 1 end
  end
  return n
end

add("SequentialLR", {
  doc = "Steps the first of several schedules of one optimizer until step milestones[1], then the second, and so " ..
    "on, each from its beginning, as if none had been before.",
  params = { SCHEDULERS, needed("milestones", "list of sizes", "the steps at which the next one begins, rising") },
  see = { "optim.WarmupLR", "optim.ChainedScheduler" },
  example = "local opt = optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=1}); " ..
    "local a, b = optim.ConstantLR(opt, {factor=0.5}), optim.ExponentialLR(opt, {gamma=0.5}); " ..
    "local s = optim.SequentialLR(opt, {schedulers={a, b}, milestones={1}}); s:step(); s:step(); " ..
    "return opt.lr  --> 0.5",
  check = function(where, self)
    check_schedulers(where, self)
    for _, s in ipairs(self.schedulers) do
      if s.parts then native.raise(("%s: %s cannot be one of its schedules"):format(where, tostring(s))) end
    end
    local before = 0
    for i, at in ipairs(self.milestones) do
      if at <= before then
        native.raise(("%s: milestones must rise, got %d as number %d after %d"):format(where, at, i, before))
      end
      before = at
    end
    if #self.milestones ~= #self.schedulers - 1 then
      native.raise(("%s: %d schedules need %d milestones between them, got %d"):format(where, #self.schedulers,
        #self.schedulers - 1, #self.milestones))
    end
  end,
  begin = function(self) begin_anew(self.schedulers[1]) end,
  parts = all_schedulers,
  active = function(self)
    local n = reached(self)
    if n > 0 and self.steps == self.milestones[n] then
      begin_anew(self.schedulers[n + 1], self.schedulers[n])
      return {}
    end
    return { self.schedulers[n + 1] }
  end,
})

return schedules
