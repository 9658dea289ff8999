-- SPDX-License-Identifier: MIT
-- A second training from where a run stands: copies of all that it trains with, which name each other as the originals
-- do.  Functions of the user's that name one of them (a step, a loss) are made anew, with the copy in its place.
local compile = require "nablua.compile"
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local source = require "nablua.run.source"
local states = require "nablua.optim.state"
local step = require "nablua.run.step"

local fork = {}

local map

local function copy_tensor(t)
  local copy = nb.no_grad(function() return t:detach():clone() end)
  copy.requires_grad, copy.name = t.requires_grad, t.name
  return copy
end

-- A table of no class: itself, where all that is in it stays the same.
local function map_table(memo, t)
  local copy, other = {}, false
  memo[t] = t  -- a table that holds itself ends here
  for k, v in next, t do
    copy[k] = map(memo, v)
    other = other or not rawequal(copy[k], v)
  end
  memo[t] = other and copy or t
  return memo[t]
end

local function map_function(memo, f)
  local info = debug.getinfo(f, "Su")
  memo[f] = f
  if info.what == "C" or info.source:find "^=nablua%." then return f end
  local values, other = {}, false
  for i = 1, info.nups do
    local _, value = debug.getupvalue(f, i)
    values[i] = value
    if rawequal(value, _G) then goto continue end
    values[i] = map(memo, value)
    other = other or not rawequal(values[i], value)
    ::continue::
  end
  if not other then return f end
  local copy = load(string.dump(f), info.source, "b")
  for i = 1, info.nups do
    local _, value = debug.getupvalue(f, i)
    if rawequal(values[i], value) then debug.upvaluejoin(copy, i, f, i) else debug.setupvalue(copy, i, values[i]) end
  end
  memo[f] = copy
  return copy
end

-- What stands in the fork where `value` stands in the run.
function map(memo, value)
  if memo[value] ~= nil then return memo[value] end
  if type(value) == "function" then return map_function(memo, value) end
  local given = compile.compiled_of(value)
  if given then
    local f = map(memo, given)
    memo[value] = rawequal(f, given) and value or nb.compile(f)
    return memo[value]
  end
  if type(value) ~= "table" or getmetatable(value) then return value end
  return map_table(memo, value)
end

-- All that a module holds is its own: tensors are copied, too.
local function copy_module(memo, m)
  if memo[m] then return memo[m] end
  if rawget(m, "forward") then
    native.raise(("run:fork: a %s has hooks, which belong to it alone; remove them before"):format(m:kind()))
  end
  local copy = {}
  memo[m] = copy
  local function own(value)
    if memo[value] ~= nil then return memo[value] end
    if nb.is_tensor(value) then
      memo[value] = copy_tensor(value)
    elseif module.is(value) then
      return copy_module(memo, value)
    elseif type(value) == "table" and not getmetatable(value) then
      local list = {}
      memo[value] = list
      for k, v in next, value do list[k] = own(v) end
    else
      return value
    end
    return memo[value]
  end
  return module.copy(m, own, copy)
end

local function copy_groups(memo, opt)
  local groups = {}
  for k, group in ipairs(opt.groups) do
    groups[k] = {}
    for name, value in pairs(group) do groups[k][name] = value end
    groups[k].params = {}
    for i, p in ipairs(group.params) do
      memo[p] = memo[p] or copy_tensor(p)
      groups[k].params[i] = memo[p]
    end
  end
  return groups
end

local function copy_remembered(value)
  if nb.is_tensor(value) then return copy_tensor(value) end
  if type(value) ~= "table" or getmetatable(value) then return value end
  local copy = {}
  for k, v in next, value do copy[k] = copy_remembered(v) end
  return copy
end

local function copy_optimizer(memo, opt)
  local copy = getmetatable(opt).class(copy_groups(memo, opt))
  memo[opt] = copy
  local memory = setmetatable({}, { __mode = "k" })
  for p, m in next, states.memory(opt) do
    -- What C found in it is found anew.
    if nb.is_tensor(p) then memory[memo[p]] = copy_remembered(m) end
  end
  states.put_memory(copy, memory)
  return copy
end

local function copy_schedule(memo, schedule)
  if not schedule then return nil end
  local copy = {}
  for key, value in next, schedule do
    if key == "optimizer" then
      copy[key] = memo[value]
    elseif key == "after" then
      copy[key] = copy_schedule(memo, value)
    elseif key == "schedulers" then
      copy[key] = {}
      for i, part in ipairs(value) do copy[key][i] = copy_schedule(memo, part) end
    else
      copy[key] = key ~= "params" and copy_remembered(value) or value
    end
  end
  memo[schedule] = setmetatable(copy, getmetatable(schedule))
  return copy
end

-- What a fork of `self` is; `o` is what run:fork was given.
function fork.of(self, o)
  if not self.source.count then
    native.raise "run:fork: an iterator cannot be gone through twice; give data as {x, y} or data.batches"
  end
  local memo = {}
  local new = {}
  for key, value in next, self do new[key] = value end
  new.net = copy_module(memo, self.net)
  new.loss = module.is(self.loss) and copy_module(memo, self.loss) or self.loss
  new.opt = copy_optimizer(memo, self.opt)
  new.schedule = copy_schedule(memo, self.schedule)
  for _, name in ipairs { "loss", "step" } do
    local f = self[name]
    if type(f) == "table" and not module.is(f) and not compile.compiled_of(f) then
      native.raise(("run:fork: %s= is %s that cannot be copied; give a function"):format(name, options.describe(f)))
    end
    if f and not module.is(f) then new[name] = map(memo, f) end
  end
  for name, value in pairs(o.opt or {}) do new.opt[name] = value end
  new.name, new.head, new.undo, new.built = o.name, self.at, nil, nil
  new.aside, new.over_after, new.settled, new.undo_frame = nil, nil, nil, nil
  new.clip = o.clip or self.clip
  new.journal, new.noted, new.written = nil, nil, nil
  new.measures, new.moves_at = nil, nil
  new.told, new.asked, new.going, new.held = nil, nil, nil, nil
  new.calls, new.fit, new.by_epochs, new.seen, new.events = nil, nil, nil, nil, nil
  new.trainer, new.batch, new.waiting, new.visited, new.unsettled, new.spare = nil, nil, nil, nil, nil, nil
  new.place = source.copy(self.place)
  for name, value in pairs(step.copy_notes(self, self.at)) do new[name] = value end
  return new
end

return fork
