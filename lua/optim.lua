-- SPDX-License-Identifier: MIT
-- The module `optim`: optimizers, each one entry with its parameters and its update rule.
--
-- Those that are less often used are in optim/others.lua.
-- An optimizer is { groups = {{ params = {...}, lr = ..., ... }, ...} }; its options read and assign like fields
-- (opt.lr).  A group hides its options, so that it knows when one is set: it checks the value, and compiled functions
-- learn of it.  What an optimizer remembers of a parameter is a table: tensors of the parameter's shape, and the count
-- `step`.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"
local coverage = require "nablua.optim.coverage"
local states = require "nablua.optim.state"

local optim = registry.home "nablua.optim"

local Optimizer = {}  -- methods
local spec_of = setmetatable({}, { __mode = "k" })    -- optimizer → its entry
local options_of = setmetatable({}, { __mode = "k" })  -- group → its options, by name, and `params`
local memory_of = setmetatable({}, { __mode = "k" })  -- optimizer → parameter → what it remembers
local defaults_of = setmetatable({}, { __mode = "k" })  -- optimizer → options of a group that gives none

local function method(name, entry)
  entry.name, entry.kind, entry.value = "opt:" .. name, "method", entry[1]
  entry[1] = nil
  Optimizer[name] = registry.add(entry)
end

-- What is remembered of a parameter.
local function remembered_of(self, p)
  local all = memory_of[self]
  if not all[p] then all[p] = { step = nb.tensor(0, { dtype = "f64" }) } end
  return all[p]
end

local function refuse_group(k)
  native.raise(("step: group %d was not made by this optimizer; add groups with opt:add_group{...}"):format(k))
end

-- The options of the kth group.
local function group_options(self, k)
  return options_of[self.groups[k]] or refuse_group(k)
end

-- What a compiled function keeps of such a step: the options, and the numbers of its rule as they are now; none when
-- it would be another step.
local function recorded_step(self, spec, k)
  local group, groups, memory = self.groups[k], #self.groups, memory_of[self]
  local o = group_options(self, k)
  local params, count = o.params, #o.params
  return { options = o, numbers = function()
    local same = self.groups[k] == group and #self.groups == groups and memory_of[self] == memory and
      o.params == params and #params == count
    if same then return spec.rule(o) end
  end }
end

local function step_by_rules(self, spec, o)
  memory_of[self][o.params] = nil  -- what native.optimize found in it
  for _, p in ipairs(o.params) do
    local g = p.grad
    if g then
      local m = remembered_of(self, p)
      m.step:add_(1)
      spec.update(p, o.maximize and -g or g, m, o)
    end
  end
end

-- Moves the parameters of the kth group; one pass is whole by itself.  Small steps take no longer than the calls here.
local function move(self, spec, k)
  local o = options_of[self.groups[k]] or refuse_group(k)
  if spec.rule and native.optimize(o.params, memory_of[self], spec.rule(o)) then
    local steps = native.recorded_steps
    if steps and native.recording() then
      steps[#steps + 1] = recorded_step(self, spec, k)
      native.plan_idle(o.params)
    end
  else
    native.plan_refuse("it steps an optimizer rule by rule, whose numbers may change")
    native.settle(nb.no_grad, step_by_rules, self, spec, o)
  end
end

local function move_all(self, spec)
  for k in ipairs(self.groups) do move(self, spec, k) end
end

-- Whether it moves what has gradients is asked at its first step, and when nets may have changed since.
local looked = coverage.looked

-- The loss that a closure gives, with gradients recorded whatever the mode.
local function evaluate(closure)
  return (native.with_grad(closure))
end

method("step", {
  doc = "Moves every parameter that has a gradient one step.  A function that clears the gradients, computes the " ..
    "loss, calls backward and returns the loss may be given: it is called first, and its loss returned.  LBFGS " ..
    "needs it, and calls it several times.",
  signature = "opt:step([closure])", see = { "opt:zero_grad" },
  example = "local w = nb.tensor({3}, {requires_grad=true}); (w * w):sum():backward(); " ..
    "optim.SGD({w}, {lr=0.1}):step(); return w  --> {2.4}",
  function(self, closure)
    local spec = spec_of[self]
    if closure ~= nil and type(closure) ~= "function" then
      native.raise("step: takes a function that returns the loss, got " .. options.describe(closure))
    end
    if spec.step then
      if not closure then
        native.raise(("step: %s evaluates the loss several times: opt:step(function() opt:zero_grad(); " ..
          "local J = ...; J:backward(); return J end)"):format(spec.name))
      end
      local o = group_options(self, 1)
      local m = remembered_of(self, o.params[1])
      return nb.no_grad(spec.step, o, m, function()
        local loss = evaluate(closure)
        if looked[self] ~= native.built then coverage.look_at_step(self, spec_of) end
        return loss
      end)
    end
    local loss = closure and evaluate(closure)
    if looked[self] ~= native.built then coverage.look_at_step(self, spec_of) end
    if #self.groups == 1 then
      if not closure then return move(self, spec, 1) end  -- one frame less between the user's line and the step
      move(self, spec, 1)
    else
      native.whole(move_all, self, spec)
    end
    return loss
  end,
})

method("zero_grad", {
  doc = "Clears the gradients of all parameters (sets them to nil); backward adds to what is there.",
  signature = "opt:zero_grad()", see = { "opt:step", "net:zero_grad" },
  example = "optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=0.1}):zero_grad()",
  native.clear_groups(options_of),
})

method("state", {
  doc = "A copy of what the optimizer remembers and of its options, as a table of tensors that nb.save writes.",
  signature = "opt:state()", see = { "opt:load_state", "nb.save" },
  example = "optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=0.5}):state()[\"group.1.lr\"]  --> 0.5",
  function(self) return states.copy(spec_of[self], self.groups, memory_of[self]) end,
})

method("load_state", {
  doc = "Takes over a state of the same kind of optimizer with as many parameters; an error changes nothing.",
  signature = "opt:load_state(state)", see = { "opt:state" },
  example = "local opt = optim.Adam({nb.zeros(2, {requires_grad=true})}); opt:load_state(opt:state()); " ..
    "return opt.lr  --> 0.001",
  function(self, state)
    if type(state) ~= "table" or nb.is_tensor(state) then
      native.raise("load_state: the state must be a table, got " .. options.describe(state))
    end
    local spec, all = spec_of[self], {}
    local memory, found = states.read(spec, self.groups, state)
    for k, values in ipairs(found) do
      all[k] = group_options(self, k)
      if spec.check then spec.check("load_state", setmetatable(values, { __index = all[k] })) end
    end
    native.whole(function()
      memory_of[self] = setmetatable(memory, { __mode = "k" })
      native.change_options()
      for k, values in ipairs(found) do
        for name, value in next, values do all[k][name] = value end
      end
    end)
  end,
})

function states.settings(self)
  local list = { self.groups }
  for k, group in ipairs(self.groups) do list[k + 1] = options_of[group] end
  return list
end

function states.memory(self) return memory_of[self] end

function states.put_memory(self, memory)
  memory_of[self] = memory
  native.change_options()
end

-- ---- making optimizers ----

local function check_parameters(where, list)
  if type(list) ~= "table" or nb.is_tensor(list) or getmetatable(list) then
    native.raise(("%s: the parameters must be a list of tensors, such as net:parameters(), got %s%s"):format(where,
      options.describe(list), type(list) == "table" and type(list.parameters) == "function" and
      "; pass net:parameters()" or ""))
  end
  if #list == 0 then native.raise(where .. ": the list of parameters is empty") end
  local seen = {}
  for i, p in ipairs(list) do
    if not nb.is_tensor(p) then
      native.raise(("%s: parameter %d must be a tensor, got %s"):format(where, i, options.describe(p)))
    end
    if not p.is_leaf or not p.requires_grad then
      native.raise(("%s: parameter %d %s"):format(where, i, p.is_leaf and "does not require grad" or
        "is the result of a computation, not a leaf"))
    end
    if seen[p] then native.raise(("%s: parameter %d is in the list twice"):format(where, i)) end
    seen[p] = true
  end
end

-- "Adam(4 parameters, lr=0.1, ...)"
local function text_of(name, spec, n, o)
  local parts = {}
  for _, p in ipairs(spec.params) do
    local value = o[p.name]
    if value ~= nil and value ~= false then parts[#parts + 1] = p.name .. "=" .. options.show(value) end
  end
  return ("%s(%d parameter%s, %s)"):format(name, n, n == 1 and "" or "s", table.concat(parts, ", "))
end

-- While a compiled function is recorded its reading of options is noted: { options =, name =, value =, copy = of a
-- list }.
local function read_option(o, name)
  local value = o[name]
  local reads = name ~= "params" and native.recorded_reads
  if reads and native.recording() then
    reads[#reads + 1] = { options = o, name = name, value = value,
      copy = type(value) == "table" and { table.unpack(value) } or nil }
  end
  return value
end

-- One group { params = {...}, lr = ..., ... } with the defaults for what it leaves open.
local function make_group(where, spec, entry, defaults)
  if type(entry) ~= "table" or getmetatable(entry) then
    native.raise(("%s: a group must be a table {params=, lr=, ...}, got %s"):format(where, options.describe(entry)))
  end
  local own = {}
  for name, value in pairs(entry) do
    if name ~= "params" then own[name] = value end
  end
  check_parameters(where, entry.params)
  for name, value in pairs(defaults) do
    if own[name] == nil then own[name] = value end
  end
  local o = options.check(where, spec.params, own)
  o.params = entry.params
  if spec.check then spec.check(where, o) end
  local group = setmetatable({}, {
    __name = "group",
    __index = function(_, name) return read_option(o, name) end,
    __tostring = function() return text_of("group", spec, #o.params, o) end,
    __pairs = function() return next, o end,
    __newindex = function(_, name, value)
      local p = spec.by_name[name]
      if name == "params" then
        check_parameters(where, value)
      elseif p then
        value = options.check_value(where, p, value)
        if spec.check then spec.check(where, setmetatable({ [name] = value }, { __index = o })) end
      end
      if p or name == "params" then native.change_options() end
      o[name] = value  -- anything else is the user's
    end,
  })
  options_of[group] = o
  return group
end

-- A parameter belongs to one group.
local function check_distinct(where, groups)
  local home = {}
  for k, group in ipairs(groups) do
    for _, p in ipairs(group.params) do
      if home[p] then
        native.raise(("%s: groups %d and %d share a parameter of shape %s"):format(where, home[p], k, options.shape(p)))
      end
    end
    for _, p in ipairs(group.params) do home[p] = k end
  end
end

-- A list of tensors is one group; a list of { params=, lr=, ... } several.
local function make_groups(where, spec, list, defaults)
  local groups = {}
  local first = type(list) == "table" and not nb.is_tensor(list) and not getmetatable(list) and list[1]
  if type(first) ~= "table" or getmetatable(first) then list = { { params = list } } end
  if spec.step and #list > 1 then
    native.raise(("%s: takes one group of parameters, got %d"):format(where, #list))
  end
  for k, entry in ipairs(list) do groups[k] = make_group(where, spec, entry, defaults) end
  check_distinct(where, groups)
  return groups
end

method("add_group", {
  doc = "Adds a group of parameters, with options of its own where it gives them: {params=, lr=, ...}.",
  signature = "opt:add_group{params=, ...}", see = { "opt:step" },
  example = "local opt = optim.SGD({nb.zeros(2, {requires_grad=true})}, {lr=0.5}); " ..
    "opt:add_group{params={nb.zeros(3, {requires_grad=true})}, lr=0.1}; return #opt.groups  --> 2",
  function(self, entry)
    local spec = spec_of[self]
    local where = "optim." .. spec.name
    if spec.step then native.raise(where .. ": takes one group of parameters") end
    local groups = table.move(self.groups, 1, #self.groups, 1, {})
    groups[#groups + 1] = make_group(where, spec, entry, defaults_of[self])
    check_distinct(where, groups)
    native.change_options()
    self.groups[#groups] = groups[#groups]
  end,
})

local function option_names(spec)
  local names = {}
  for i, p in ipairs(spec.params) do names[i] = p.name end
  return names
end

local function to_text(self)
  local n = 0
  for _, group in ipairs(self.groups) do n = n + #group.params end
  return text_of(spec_of[self].name, spec_of[self], n, options_of[self.groups[1]] or {})
end

-- Sets an option of all groups.
local function set_option(groups, key, value)
  for _, group in ipairs(groups) do group[key] = value end
end

local maximize = { name = "maximize", type = "boolean", default = false, doc = "go up, along the gradient" }

-- An optimizer: either update(p, g, m, group), which moves the parameter p with the gradient g and may remember things
-- in m, or step(group, m, evaluate) for all parameters together.  `memory` names what it remembers: true what every
-- step needs, false what only some options do, or a function that says so of a parameter.  rule(group) gives what
--- native.optimize takes after the tensors, so that it does the same in one pass; false first where C has no such form.
local function define(name, spec)
  local where = "optim." .. name
  spec.name = name
  spec.params[#spec.params + 1] = maximize
  spec.by_name = {}
  for _, p in ipairs(spec.params) do spec.by_name[p.name] = p end
  local function assign(self, key, value)
    if not spec.by_name[key] then
      native.no_option(where, key, option_names(spec))
    end
    options.check_value(where, spec.by_name[key], value)
    native.whole(set_option, self.groups, key, value)
  end
  -- Each has a metatable of its own: its methods stand in a table, so that opt:step() calls nothing to find them, and
  -- what is no method is asked of this optimizer.
  local function meta_of(self)
    local index = {}
    for key, f in pairs(Optimizer) do index[key] = f end
    setmetatable(index, { __index = function(_, key)
      if spec.by_name[key] then return rawget(self, "groups")[1][key] end
    end })
    return { __name = name, __tostring = to_text, __index = index, __newindex = assign, methods = Optimizer,
      class = optim[name] }
  end
  local parameters = { name = "params", type = "table", doc = "a list of tensors, or of groups {params=, lr=, ...}" }
  registry.define(optim, "optim.", name, {
    kind = "optimizer", doc = spec.doc, example = spec.example, source = spec.source,
    params = { parameters, table.unpack(spec.params) }, see = { "opt:step", "opt:zero_grad", "opt:state" },
    signature = options.signature(where, { parameters, table.unpack(spec.params) }),
    function(list, given)
      local defaults = options.check(where, spec.params, given)
      local self = { groups = make_groups(where, spec, list, defaults) }
      setmetatable(self, meta_of(self))
      spec_of[self], memory_of[self], defaults_of[self] = spec, setmetatable({}, { __mode = "k" }), defaults
      return self
    end,
  })
end

-- ---- the optimizers ----

local parts = require "nablua.optim.parts"
local lr, weight_decay, eps, betas, one_step = parts.lr, parts.weight_decay, parts.eps, parts.betas, parts.one_step
local decayed, remembered = parts.decayed, parts.remembered
parts.define = define

define("SGD", {
  doc = "Gradient descent: w ← w − lr·∂J/∂w, with momentum where given (v ← momentum·v + ∂J/∂w, w ← w − lr·v).",
  example = one_step:format("SGD", "lr=0.1", "2.4"),
  params = {
    lr(1e-3),
    { name = "momentum", type = "fraction", default = 0 },
    { name = "dampening", type = "share", default = 0, doc = "share of the gradient kept out of the momentum" },
    { name = "nesterov", type = "boolean", default = false, doc = "look ahead along the momentum" },
    weight_decay,
  },
  memory = { momentum = false },
  check = function(where, o)
    if o.nesterov and (o.momentum == 0 or o.dampening ~= 0) then
      native.raise(where .. ": nesterov needs a momentum above 0 and no dampening")
    end
  end,
  update = function(p, g, m, o)
    g = decayed(g, p, o.weight_decay)
    if o.momentum ~= 0 then
      local v = m.momentum
      if v then
        v:mul_(o.momentum):add_(o.dampening == 0 and g or g * (1 - o.dampening))
      else
        v = g:clone()
        m.momentum = v
      end
      g = o.nesterov and g + v * o.momentum or v
    end
    p:sub_(g * o.lr)
  end,
  rule = function(o)
    return not o.maximize and "sgd", o.momentum ~= 0 and "momentum", nil, o.lr, o.weight_decay, o.momentum, o.dampening,
      o.nesterov
  end,
})

-- The step both Adams take.
local function adam_step(p, g, m, o)
  local mean, square = remembered(m, "mean", p), remembered(m, "square", p)
  local beta1, beta2, t = o.betas[1], o.betas[2], m.step:item()
  mean:mul_(beta1):add_(g * (1 - beta1))
  square:mul_(beta2):add_(g:square():mul_(1 - beta2))
  if o.amsgrad then
    local largest = remembered(m, "largest", p)
    square = largest:copy_(largest:maximum(square))
  end
  local divisor = square:sqrt():mul_(1 / math.sqrt(1 - beta2 ^ t)):add_(o.eps)
  p:sub_((mean / divisor):mul_(o.lr / (1 - beta1 ^ t)))
end

local adam_memory = { mean = true, square = true, largest = false }
local amsgrad = { name = "amsgrad", type = "boolean", default = false,
  doc = "divide by the largest mean of squares so far" }

define("Adam", {
  doc = "Steps scaled by running means of the gradient and of its square, corrected for their start at 0.",
  source = "Kingma and Ba 2015", example = one_step:format("Adam", "lr=0.1", "2.9"),
  params = { lr(1e-3), betas, eps(1e-8), weight_decay, amsgrad }, memory = adam_memory,
  update = function(p, g, m, o) adam_step(p, decayed(g, p, o.weight_decay), m, o) end,
  rule = function(o)
    return not (o.maximize or o.amsgrad) and "adam", "mean", "square", o.lr, o.weight_decay, 0, 0, false, o.betas[1],
      o.betas[2], o.eps, false
  end,
})

define("AdamW", {
  doc = "Adam with the weight decay taken off the weights themselves, not added to the gradient.",
  source = "Loshchilov and Hutter 2019", example = one_step:format("AdamW", "lr=0.1, weight_decay=0", "2.9"),
  params = { lr(1e-3), betas, eps(1e-8),
    { name = "weight_decay", type = "non-negative", default = 0.01, doc = "times lr·w, taken off the weights" },
    amsgrad,
  },
  memory = adam_memory,
  update = function(p, g, m, o)
    p:mul_(1 - o.lr * o.weight_decay)
    adam_step(p, g, m, o)
  end,
  rule = function(o)
    return not (o.maximize or o.amsgrad) and "adam", "mean", "square", o.lr, o.weight_decay, 0, 0, false, o.betas[1],
      o.betas[2], o.eps, true
  end,
})

define("RMSprop", {
  doc = "Steps divided by the root of the running mean of squared gradients.",
  source = "Tieleman and Hinton 2012", example = one_step:format("RMSprop", "lr=0.1", "2"),
  params = {
    lr(1e-2), { name = "alpha", type = "fraction", default = 0.99, doc = "share of the old mean of squares" },
    eps(1e-8), { name = "momentum", type = "fraction", default = 0 },
    { name = "centered", type = "boolean", default = false, doc = "divide by the standard deviation of gradients" },
    weight_decay,
  },
  memory = { square = true, mean = false, momentum = false },
  update = function(p, g, m, o)
    g = decayed(g, p, o.weight_decay)
    local square = remembered(m, "square", p)
    square:mul_(o.alpha):add_(g:square():mul_(1 - o.alpha))
    local spread = square
    if o.centered then
      local mean = remembered(m, "mean", p):mul_(o.alpha):add_(g * (1 - o.alpha))
      spread = square - mean:square()
    end
    local step = g / spread:sqrt():add_(o.eps)
    if o.momentum ~= 0 then step = remembered(m, "momentum", p):mul_(o.momentum):add_(step) end
    p:sub_(step * o.lr)
  end,
  rule = function(o)
    return not (o.maximize or o.centered) and "rmsprop", o.momentum ~= 0 and "momentum", "square", o.lr, o.weight_decay,
      o.momentum, 0, false, 0, o.alpha, o.eps
  end,
})

define("Adagrad", {
  doc = "Steps divided by the root of the sum of all squared gradients so far.",
  source = "Duchi, Hazan and Singer 2011", example = one_step:format("Adagrad", "lr=0.1", "2.9"),
  params = {
    lr(1e-2),
    { name = "lr_decay", type = "non-negative", default = 0, doc = "lr is divided by 1 + steps·lr_decay" },
    eps(1e-10), weight_decay,
    { name = "initial_accumulator_value", type = "non-negative", default = 0, doc = "the sum of squares at first" },
  },
  memory = { total = true },
  update = function(p, g, m, o)
    g = decayed(g, p, o.weight_decay)
    local total = m.total or nb.full_like(p:detach(), o.initial_accumulator_value)
    m.total = total
    total:add_(g:square())
    p:sub_((g / total:sqrt():add_(o.eps)):mul_(o.lr / (1 + (m.step:item() - 1) * o.lr_decay)))
  end,
})

define("LBFGS", require "nablua.optim.lbfgs")

registry.add {
  name = "optim", kind = "topic", value = optim, doc = "Optimizers, and schedules of their learning rate.",
  example = "optim.Adam(nn.Linear(2, 1):parameters(), {lr=1e-3}).lr  --> 0.001",
}

-- Whether a value is an optimizer.
local function is_optimizer(x)
  return type(x) == "table" and spec_of[x] ~= nil
end

parts.is_optimizer = is_optimizer
registry.later("nablua.optim.schedules", "CosineLR OneCycleLR ReduceLROnPlateau StepLR WarmupLR", optim)
registry.later("nablua.optim.others", nil, optim)

return optim
