-- SPDX-License-Identifier: MIT
-- Learning rate schedules: each one entry with its parameters and the rate it sets after t steps.
--
-- A schedule scales every group's own learning rate, also one that is set by hand while it runs; call schedule:step()
-- once an epoch, or once a batch where its parameters count batches.
local native = require "nablua.native"
local options = require "nablua.options"
local parts = require "nablua.optim.parts"
local registry = require "nablua.registry"

local schedules = {}

local Schedule = {}

-- The rate of group k after t steps, as the schedule alone has it.
local function rate_at(self, t, k)
  return self.scale[k] * self:rate(t, self.base[k], nil, k)
end

-- Takes a rate that somebody else has set as the group's rate after t steps, which the schedule goes on from: in its
-- own rate, from which the schedule's is made in a straight line, or where it is not made from it, as a factor.
local function adopt(self, t, k, lr)
  local at_zero = self:rate(t, 0, nil, k)
  local slope = self:rate(t, 1, nil, k) - at_zero
  if slope > 0 then
    self.base[k] = (lr / self.scale[k] - at_zero) / slope
  elseif at_zero > 0 then
    self.scale[k] = lr / at_zero
  else
    self.base[k], self.scale[k] = lr, 1
  end
end

local function differ(a, b)
  return math.abs(a - b) > 1e-12 * math.max(math.abs(a), math.abs(b))
end

-- Multiplies the rate of a group by what the schedule's has changed in this step.
local function move_rate(self, k, group)
  if not self.base[k] then self.base[k], self.scale[k] = group.lr, 1 end  -- the group was added since
  local before, now = rate_at(self, self.steps - 1, k), rate_at(self, self.steps, k)
  if before == now then
    group.lr = group.lr  -- written all the same: a recording that steps schedules is told
    return
  end
  if differ(group.lr, before) then adopt(self, self.steps - 1, k, group.lr) end
  group.lr = rate_at(self, self.steps, k)
end

local function set_rates(self, loss)
  if self.watch then self:watch(loss) end
  for k, group in ipairs(self.optimizer.groups) do
    if self.chained then
      group.lr = self:rate(self.steps, nil, group.lr, k)
    elseif self.steps == 0 then
      group.lr = rate_at(self, 0, k)
    else
      move_rate(self, k, group)
    end
    if self.set then self:set(self.steps, group) end
  end
end

local function step(self, loss)
  self.steps = self.steps + 1
  if self.after and self.steps > self.warmup then return self.after:step(loss) end
  if self.parts then
    for _, part in ipairs(self.active and self:active() or self:parts()) do part:step(loss) end
    return
  end
  set_rates(self, loss)
end

local initial = setmetatable({}, { __mode = "k" })  -- group → its rate before the first schedule of it

-- Begins a schedule anew at the rates that the groups had before there was any, or after another at that one's, with
-- what was set by hand since.
local function begin_anew(self, before)
  self.steps = 0
  for k, group in ipairs(self.optimizer.groups) do
    if before and not before.chained and before.base[k] then
      if differ(group.lr, rate_at(before, before.steps, k)) then adopt(before, before.steps, k, group.lr) end
      self.base[k], self.scale[k] = before.base[k], before.scale[k]
    else
      self.base[k], self.scale[k] = initial[group] or group.lr, 1
    end
  end
  if not self.chained then set_rates(self) end
end

Schedule.step = registry.add {
  name = "schedule:step", kind = "method", signature = "schedule:step([loss])",
  doc = "Counts one step and changes the optimizer's learning rates: a rate set by hand is gone on from.  " ..
    "ReduceLROnPlateau takes the loss it watches.",
  example = "local opt = optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=1}); " ..
    "optim.StepLR(opt, {step_size=1}):step(); return opt.lr  --> 0.1",
  value = function(self, loss) return native.whole(step, self, loss) end,
}

-- What a schedule remembers beside `base` and `scale`, as a parameter is described.
local remembered = {
  { name = "steps", type = "count" }, { name = "best", type = "number", optional = true },
  { name = "waited", type = "count", optional = true }, { name = "resting", type = "count", optional = true },
}

-- What a state holds beside `base`, `scale` and `after`: the options, and what is remembered.
local function each_field(self, visit)
  for _, p in ipairs(self.params) do
    if not p.unsaved then visit(p.name, p) end
  end
  for _, p in ipairs(remembered) do visit(p.name, p) end
end

-- A list of a number for each group.
local function check_rates(name, list, count)
  local ok = type(list) == "table" and #list == count
  for k = 1, ok and count or 0 do ok = ok and type(list[k]) == "number" and list[k] == list[k] end
  if not ok then
    native.raise(("load_state: %s must be a table of %d numbers, got %s"):format(name, count, options.describe(list)))
  end
end

-- The fields of a state, checked as the options of the schedule are.
local function read_fields(self, state)
  local known, fresh = { base = true, scale = true, after = true, parts = self.parts }, {}
  each_field(self, function(name, p)
    known[name] = true
    local value = state[name]
    if value == nil and (p.default ~= nil or p.needed or p.name == "steps") then
      native.raise(("load_state: the state has no %s, which must be a %s"):format(name, type(self[name])))
    end
    fresh[name] = value
    if value ~= nil then fresh[name] = options.check_value("load_state", p, value) end
  end)
  for name in pairs(state) do
    if not known[name] then
      native.raise(("load_state: the state has %s, which %s does not"):format(options.describe(name), tostring(self)))
    end
  end
  if self.check then self.check("load_state", setmetatable(fresh, { __index = self })) end
  return fresh
end

Schedule.state = registry.add {
  name = "schedule:state", kind = "method", signature = "schedule:state()", see = { "schedule:load_state", "nb.save" },
  doc = "The schedule's place and options as a table that nb.save writes; the rate itself is in opt:state().",
  example = "local opt = optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=1}); " ..
    "return optim.StepLR(opt, {step_size=1}):state().steps  --> 0",
  value = function(self)
    local state = { base = table.move(self.base, 1, #self.base, 1, {}),
      scale = table.move(self.scale, 1, #self.scale, 1, {}) }
    each_field(self, function(name) state[name] = self[name] end)
    state.after = self.after and self.after:state()
    if self.parts then
      state.parts = {}
      for i, part in ipairs(self:parts()) do state.parts[i] = part:state() end
    end
    return state
  end,
}

Schedule.load_state = registry.add {
  name = "schedule:load_state", kind = "method", signature = "schedule:load_state(state)", see = { "schedule:state" },
  doc = "Takes over a state; an error changes nothing.",
  example = "local opt = optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=1}); " ..
    "local a, b = optim.StepLR(opt, {step_size=1}), optim.StepLR(opt, {step_size=1}); a:step(); " ..
    "b:load_state(a:state()); return b.steps  --> 1",
  value = function(self, state)
    if type(state) ~= "table" or type(state.base) ~= "table" or #state.base ~= #self.base then
      native.raise(("load_state: the state must be that of a schedule of %d parameter groups, got %s")
        :format(#self.base, type(state) == "table" and "another" or options.describe(state)))
    end
    if (state.after ~= nil) ~= (self.after ~= nil) then
      native.raise(("load_state: the state is of a schedule %s another after it"):format(state.after and "with" or
        "without"))
    end
    local mine = self.parts and self:parts() or {}
    if self.parts and (type(state.parts) ~= "table" or #state.parts ~= #mine) then
      native.raise(("load_state: the state must be of %d schedules that are chained"):format(#mine))
    end
    local scale = state.scale or {}
    check_rates("base", state.base, #self.base)
    if state.scale then check_rates("scale", scale, #self.base) end
    local fresh = read_fields(self, state)
    native.whole(function()
      if self.after then self.after:load_state(state.after) end
      for i, part in ipairs(mine) do part:load_state(state.parts[i]) end
      for k, rate in ipairs(state.base) do self.base[k], self.scale[k] = rate, scale[k] or 1 end
      each_field(self, function(name) self[name] = fresh[name] end)
    end)
  end,
}

-- A schedule: rate(self, t, base, now, k) is the rate of group k after t steps, whose own is `base`, and grows with it
-- in a straight line; of a `chained` one it is made from the rate `now` alone.  watch(self, loss) is called before it,
-- set(self, t, group) after.  One that has parts(self), a list of schedules, steps those instead, or of them
-- active(self); begin(self) is called when it is made.
local function define(name, spec)
  local where = "optim." .. name
  local meta = { __index = Schedule, __name = name }
  function meta.__tostring(self)
    return ("%s(step %d, lr=%g)"):format(name, self.steps, self.optimizer.lr)
  end
  local optimizer = { name = "optimizer", type = "table" }
  registry.define(schedules, "optim.", name, {
    kind = "scheduler", doc = spec.doc, example = spec.example, see = { "schedule:step" }, source = spec.source,
    params = { optimizer, table.unpack(spec.params) },
    function(opt, given)
      if not parts.is_optimizer(opt) then
        native.raise(("%s: needs an optimizer, got %s"):format(where, options.describe(opt)))
      end
      for _, p in ipairs(spec.params) do
        if p.needed and (type(given) ~= "table" or given[p.name] == nil) then
          native.raise(("%s: the option %s is missing"):format(where, p.name))
        end
      end
      local self = setmetatable(options.check(where, spec.params, given), meta)
      self.optimizer, self.params, self.steps, self.base, self.scale = opt, spec.params, 0, {}, {}
      for _, key in ipairs { "rate", "watch", "set", "check", "chained", "parts", "active" } do
        self[key] = spec[key]
      end
      for k, group in ipairs(opt.groups) do
        self.base[k], self.scale[k], initial[group] = group.lr, 1, initial[group] or group.lr
      end
      if spec.check then spec.check(where, self) end
      if spec.at_start then set_rates(self) end
      if spec.begin then spec.begin(self) end
      return self
    end,
  })
  meta.class = schedules[name]
  return schedules[name]
end

local function needed(name, kind, doc)
  return { name = name, type = kind, optional = true, needed = true, doc = doc }
end

local after_one = "local opt = optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=1}); " ..
  "local schedule = optim.%s(opt, {%s}); schedule:step(%s); return opt.lr  --> %s"

-- A half cosine from a to b as x goes from 0 to 1.
local function cosine(a, b, x)
  return b + (a - b) * (1 + math.cos(math.pi * x)) / 2
end

parts.schedules = { define, needed, after_one, cosine, begin_anew }

define("StepLR", {
  doc = "Multiplies the learning rate by gamma every step_size steps.",
  params = { needed("step_size", "size"), { name = "gamma", type = "positive", default = 0.1 } },
  example = after_one:format("StepLR", "step_size=1, gamma=0.5", "", "0.5"),
  rate = function(o, t, base) return base * o.gamma ^ (t // o.step_size) end,
})

define("CosineLR", {
  doc = "Lets the learning rate fall along a half cosine to min_lr within total_steps steps.",
  source = "Loshchilov and Hutter 2017",
  params = { needed("total_steps", "size"), { name = "min_lr", type = "non-negative", default = 0 } },
  example = after_one:format("CosineLR", "total_steps=2", "", "0.5"),
  rate = function(o, t, base) return cosine(base, o.min_lr, math.min(t / o.total_steps, 1)) end,
})

define("WarmupLR", {
  doc = "Lets the learning rate rise evenly from start·lr to lr within `warmup` steps; then it stays, or `after` " ..
    "goes on from there: optim.WarmupLR(opt, {warmup=100, after=optim.CosineLR(opt, {total_steps=900})}).",
  params = { needed("warmup", "size", "steps until the full rate"),
    { name = "start", type = "fraction", default = 0, doc = "share of the rate to begin with" },
    { name = "after", type = "table", optional = true, unsaved = true,
      doc = "a schedule of the same optimizer for the steps that follow" },
  },
  example = after_one:format("WarmupLR", "warmup=4", "", "0.25"),
  at_start = true,
  check = function(where, self)
    if self.after and (type(self.after.step) ~= "function" or self.after.optimizer ~= self.optimizer) then
      native.raise(where .. ": after must be a schedule of the same optimizer")
    end
  end,
  rate = function(o, t, base) return base * (o.start + (1 - o.start) * math.min(t / o.warmup, 1)) end,
})

-- ---- one cycle ----

local anneal = {
  cos = cosine,
  linear = function(a, b, x) return a + (b - a) * x end,
}

-- The value at step t of a curve through levels[1], levels[2], ... that are reached at the steps ends[1], ends[2], ...
local function along(o, t, levels, ends)
  local first = 0
  for i, last in ipairs(ends) do
    if t <= last or i == #ends then
      return anneal[o.anneal_strategy](levels[i], levels[i + 1], math.min((t - first) / (last - first), 1))
    end
    first = last
  end
end

local function cycle(o, t, low, high, lowest)
  local top, finish = o.pct_start * o.total_steps - 1, o.total_steps - 1
  if o.three_phase then
    return along(o, t, { low, high, low, lowest }, { top, 2 * o.pct_start * o.total_steps - 2, finish })
  end
  return along(o, t, { low, high, lowest }, { top, finish })
end

define("OneCycleLR", {
  doc = "Lets the learning rate rise to max_lr and fall to almost nothing, along half cosines or lines; a momentum " ..
    "(of SGD and RMSprop where they have one, of Adam beta 1) moves the other way.",
  source = "Smith and Topin 2018",
  params = {
    needed("max_lr", "rates", "the highest rate, or a table of one for each group"), needed("total_steps", "size"),
    { name = "pct_start", type = "fraction", default = 0.3, doc = "share of the steps that rise" },
    { name = "anneal_strategy", choices = { "cos", "linear" }, default = "cos" },
    { name = "cycle_momentum", type = "boolean", default = true },
    { name = "base_momentum", type = "fraction", default = 0.85, doc = "momentum at the highest rate" },
    { name = "max_momentum", type = "fraction", default = 0.95, doc = "momentum at both ends" },
    { name = "div_factor", type = "positive", default = 25, doc = "begins at max_lr/div_factor" },
    { name = "final_div_factor", type = "positive", default = 1e4, doc = "ends at the first rate over it" },
    { name = "three_phase", type = "boolean", default = false,
      doc = "falls to the first rate as fast as it rose, then to the last" },
  },
  example = after_one:format("OneCycleLR", "max_lr=1, total_steps=10, pct_start=0.2", "", "1"),
  at_start = true,
  check = function(where, self)
    if type(self.max_lr) == "table" and #self.max_lr ~= #self.optimizer.groups then
      native.raise(("%s: max_lr must have one rate for each of %d groups, got %d"):format(where,
        #self.optimizer.groups, #self.max_lr))
    end
  end,
  rate = function(o, t, _, _, k)
    local highest = type(o.max_lr) == "table" and o.max_lr[k] or o.max_lr
    local first = highest / o.div_factor
    return cycle(o, t, first, highest, first / o.final_div_factor)
  end,
  set = function(o, t, group)
    if not o.cycle_momentum then return end
    local momentum = cycle(o, t, o.max_momentum, o.base_momentum, o.max_momentum)
    if group.betas then
      group.betas = { momentum, group.betas[2] }
    elseif group.momentum and group.momentum > 0 then
      group.momentum = momentum
    end
  end,
})

-- ---- on a plateau ----

local function is_better(o, loss)
  local best, margin = o.best, o.threshold
  if not best then return loss == loss end  -- NaN would never be surpassed
  if o.threshold_mode == "rel" then margin = math.abs(best) * margin end
  if o.mode == "min" then return loss < best - margin end
  return loss > best + margin
end

define("ReduceLROnPlateau", {
  doc = "Multiplies the learning rate by factor when the loss given to step() has not fallen for more than " ..
    "`patience` steps.",
  params = {
    { name = "mode", choices = { "min", "max" }, default = "min", doc = "whether less or more is better" },
    { name = "factor", type = "fraction", default = 0.1 }, { name = "patience", type = "count", default = 10 },
    { name = "threshold", type = "non-negative", default = 1e-4, doc = "the change that counts" },
    { name = "threshold_mode", choices = { "rel", "abs" }, default = "rel",
      doc = "a share of the best loss, or a difference" },
    { name = "cooldown", type = "count", default = 0, doc = "steps after a cut that do not count as waiting" },
    { name = "min_lr", type = "non-negative", default = 0 },
    { name = "eps", type = "non-negative", default = 1e-8, doc = "smaller changes of the rate are not made" } },
  example = after_one:format("ReduceLROnPlateau", "patience=0", "1); schedule:step(1", "0.1"),
  watch = function(o, loss)
    loss = type(loss) == "userdata" and loss:item() or loss
    if type(loss) ~= "number" then
      native.raise("schedule:step: ReduceLROnPlateau needs the loss, got " .. options.describe(loss))
    end
    o.waited, o.resting, o.cut = o.waited or 0, o.resting or 0, false
    if is_better(o, loss) then
      o.best, o.waited = loss, 0
    else
      o.waited = o.waited + 1
    end
    if o.resting > 0 then o.resting, o.waited = o.resting - 1, 0 end
    if o.waited > o.patience then o.cut, o.resting, o.waited = true, o.cooldown, 0 end
  end,
  chained = true,
  rate = function(o, _, _, now)
    local lower = math.max(now * o.factor, o.min_lr)
    return o.cut and now - lower > o.eps and lower or now
  end,
})

return schedules
