-- SPDX-License-Identifier: MIT
-- Learning rate schedules: each one entry with its parameters and the rate it sets after t steps.
--
-- A schedule scales every group's own learning rate; call schedule:step() once an epoch, or once a batch where
-- its parameters count batches.
local native = require "nablua.native"
local options = require "nablua.options"
local registry = require "nablua.registry"

local schedules = {}
local is_optimizer

local Schedule = {}

local function set_rates(self, ...)
  for k, group in ipairs(self.optimizer.groups) do
    group.lr = self.rate(self, self.steps, self.base[k], group.lr, ...)
  end
end

Schedule.step = registry.add {
  name = "schedule:step", kind = "method", signature = "schedule:step([loss])",
  doc = "Counts one step and sets the optimizer's learning rate; ReduceLROnPlateau takes the loss it watches.",
  example = "local opt = optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=1}); " ..
    "optim.StepLR(opt, {step_size=1}):step(); return opt.lr  --> 0.1",
  value = function(self, loss)
    self.steps = self.steps + 1
    set_rates(self, loss)
  end,
}

-- What a schedule keeps beside its options.
local function each_field(self, visit)
  for _, p in ipairs(self.params) do visit(p.name) end
  for _, name in ipairs { "steps", "best", "waited", "cut", "seen" } do visit(name) end
end

Schedule.state = registry.add {
  name = "schedule:state", kind = "method", signature = "schedule:state()", see = { "schedule:load_state", "nb.save" },
  doc = "The schedule's place and options as a table that nb.save writes; the rate itself is in opt:state().",
  example = "local opt = optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=1}); " ..
    "return optim.StepLR(opt, {step_size=1}):state().steps  --> 0",
  value = function(self)
    local state = { base = table.move(self.base, 1, #self.base, 1, {}) }
    each_field(self, function(name) state[name] = self[name] end)
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
    local known, fresh = { base = true }, {}
    each_field(self, function(name)
      known[name] = true
      local value, kind = state[name], type(self[name])
      if kind ~= "nil" and type(value) ~= kind then
        native.raise(("load_state: %s must be a %s, got %s"):format(name, kind, options.describe(value)))
      end
      fresh[name] = value
    end)
    for name in pairs(state) do
      if not known[name] then
        native.raise(("load_state: the state has %s, which %s does not"):format(options.describe(name), tostring(self)))
      end
    end
    each_field(self, function(name) self[name] = fresh[name] end)
    for k, rate in ipairs(state.base) do self.base[k] = rate end
  end,
}

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
      if not is_optimizer(opt) then
        native.raise(("%s: needs an optimizer, got %s"):format(where, options.describe(opt)))
      end
      for _, p in ipairs(spec.params) do
        if p.needed and (type(given) ~= "table" or given[p.name] == nil) then
          native.raise(("%s: the option %s is missing"):format(where, p.name))
        end
      end
      local self = setmetatable(options.check(where, spec.params, given), meta)
      self.optimizer, self.rate, self.params, self.steps, self.base = opt, spec.rate, spec.params, 0, {}
      for k, group in ipairs(opt.groups) do self.base[k] = group.lr end
      if spec.at_start then set_rates(self) end
      return self
    end,
  })
  meta.class = schedules[name]
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
  doc = "Lets the learning rate rise evenly from start·lr to lr within `warmup` steps.",
  params = { needed("warmup", "size", "steps until the full rate"),
    { name = "start", type = "fraction", default = 0, doc = "share of the rate to begin with" } },
  example = after_one:format("WarmupLR", "warmup=4", "", "0.25"),
  at_start = true,
  rate = function(o, t, base) return base * (o.start + (1 - o.start) * math.min(t / o.warmup, 1)) end,
})

define("OneCycleLR", {
  doc = "Lets the learning rate rise to max_lr and fall to almost nothing, along half cosines.",
  source = "Smith and Topin 2018",
  params = { needed("max_lr", "positive"), needed("total_steps", "size"),
    { name = "pct_start", type = "fraction", default = 0.3, doc = "share of the steps that rise" },
    { name = "div_factor", type = "positive", default = 25, doc = "begins at max_lr/div_factor" },
    { name = "final_div_factor", type = "positive", default = 1e4, doc = "ends at the first rate over it" } },
  example = after_one:format("OneCycleLR", "max_lr=1, total_steps=10, pct_start=0.2", "", "1"),
  at_start = true,
  rate = function(o, t)
    local first, last = o.max_lr / o.div_factor, o.max_lr / o.div_factor / o.final_div_factor
    local top = o.pct_start * o.total_steps - 1  -- the step of the highest rate
    local finish = o.total_steps - 1
    if t <= top then return cosine(first, o.max_lr, t / top) end
    return cosine(o.max_lr, last, math.min((t - top) / (finish - top), 1))
  end,
})

define("ReduceLROnPlateau", {
  doc = "Multiplies the learning rate by factor when the loss given to step() has not fallen for `patience` steps.",
  params = { { name = "factor", type = "fraction", default = 0.1 }, { name = "patience", type = "count", default = 10 },
    { name = "threshold", type = "non-negative", default = 1e-4, doc = "relative fall that counts" },
    { name = "min_lr", type = "non-negative", default = 0 } },
  example = after_one:format("ReduceLROnPlateau", "patience=0", "1); schedule:step(1", "0.1"),
  rate = function(o, t, _, now, loss)
    if o.seen == t then return o.cut and math.max(now * o.factor, o.min_lr) or now end
    loss = type(loss) == "userdata" and loss:item() or loss
    if type(loss) ~= "number" then
      native.raise("schedule:step: ReduceLROnPlateau needs the loss, got " .. options.describe(loss))
    end
    o.seen = t
    if not o.best or loss < o.best * (1 - o.threshold) then
      o.best, o.waited = loss, 0
    else
      o.waited = o.waited + 1
    end
    o.cut = o.waited > o.patience
    if o.cut then o.waited = 0 end
    return o.cut and math.max(now * o.factor, o.min_lr) or now
  end,
})

return function(test)
  is_optimizer = test
  return schedules
end
