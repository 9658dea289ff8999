-- SPDX-License-Identifier: MIT
-- The state of an optimizer, a table of tensors:
--
--   <i>.<name>          what it remembers of its parameter i
--   group.<k>.<option>  the options of its group k
--   group.<k>.<Kind>    how many parameters that group has, named after the kind of optimizer
--
-- States of before the last of these was written are taken as they are.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"

local states = {}

-- For those who take an optimizer down as it is and put it back; the module optim, which knows them, fills these in.
-- settings(opt): the tables of its groups and their options; memory(opt): what it remembers, by parameter;
-- put_memory(opt, memory).
states.settings, states.memory, states.put_memory = false, false, false

local function fail(format, ...)
  native.raise("load_state: " .. format:format(...))
end

local function each_parameter(groups, visit)
  local i = 0
  for k, group in ipairs(groups) do
    for _, p in ipairs(group.params) do
      i = i + 1
      visit(p, i, k)
    end
  end
end

-- A copy of what is remembered, by parameter, and of the options.
function states.copy(spec, groups, memory)
  local state = {}
  local function put(path, value)
    if nb.is_tensor(value) then
      state[path] = value:clone()
    elseif type(value) == "boolean" then
      state[path] = nb.tensor(value, { dtype = "bool" })
    elseif type(value) == "number" or type(value) == "table" then
      state[path] = nb.tensor(value, { dtype = "f64" })
    end
  end
  nb.no_grad(each_parameter, groups, function(p, i)
    for name, value in pairs(memory[p] or {}) do put(i .. "." .. name, value) end
  end)
  for k, group in ipairs(groups) do
    local prefix = "group." .. k .. "."
    put(prefix .. spec.name, #group.params)
    for _, p in ipairs(spec.params) do put(prefix .. p.name, group[p.name]) end
  end
  return state
end

local function shape_text(t)
  return nb.is_tensor(t) and options.shape(t) or options.describe(t)
end

-- The shape of what an optimizer remembers under `name`; numbers have "()".
local function shape_of(spec, name, p, value, parameters)
  if name == "step" then return "()" end
  return spec.shape_of and spec.shape_of(name, p, value, parameters) or shape_text(p)
end

-- ---- reading ----

-- What an entry about group k says: its option and value, checked; or nothing, where it counts the parameters.
local function read_option(spec, groups, path, k, name, value)
  local group, option = groups[k], spec.by_name[name]
  if not group then
    fail("the state has an entry %s, but this optimizer has %d group%s", options.describe(path), #groups,
      #groups == 1 and "" or "s")
  end
  if not nb.is_tensor(value) or value:dim() > 1 then
    fail("%s must be a tensor of one number or a list, got %s", path, options.describe(value))
  end
  local given = value:dim() == 0 and value:item() or value:dim() == 1 and value:totable()
  if name == spec.name then
    if given ~= #group.params then
      fail("the state is of %d parameters in group %d, this optimizer has %d there", given, k, #group.params)
    end
    return
  end
  if not option then
    fail("the state has an entry %s that %s has no place for%s", options.describe(path), spec.name,
      name:find("^%u") and "; it is the state of " .. name or "")
  end
  return option, options.check_value("load_state: " .. path, option, given)
end

-- What an entry about parameter p remembers, in the dtype that it will be used in.
local function read_memory(spec, path, p, name, value, parameters)
  if name ~= "step" and spec.memory[name] == nil then
    fail("the state has an entry %s, which %s does not remember", options.describe(path), spec.name)
  end
  local wanted = shape_of(spec, name, p, value, parameters)
  if shape_text(value) ~= wanted then fail("%s must have shape %s, got %s", path, wanted, shape_text(value)) end
  if value.dtype ~= "f32" and value.dtype ~= "f64" then fail("%s must be f32 or f64, got %s", path, value.dtype) end
  if name == "step" then return value:detach():to("f64"):clone() end
  if wanted == "()" and p:dim() > 0 then return value:item() end
  return value:detach():to(p.dtype):clone()
end

-- What has begun to be remembered of a parameter must be there as a whole.
local function check_whole(spec, i, m, p)
  local some = m.step:item() > 0
  for name in pairs(m) do some = some or spec.memory[name] end
  for name, needed in pairs(some and spec.memory or {}) do
    if type(needed) == "function" then needed = needed(p) end
    if needed and m[name] == nil then fail("the state has no entry %d.%s, which %s needs", i, name, spec.name) end
  end
end

-- A state that says what it is of is of all groups, with all their options.
local function check_groups(spec, groups, state)
  local says = false
  for path in pairs(state) do says = says or tostring(path):find "^group%.%d+%.%u" end
  for k in ipairs(says and groups or {}) do
    local prefix = "group." .. k .. "."
    if state[prefix .. spec.name] == nil then
      fail("the state has no group %d of %s; this optimizer has %d group%s", k, spec.name, #groups,
        #groups == 1 and "" or "s")
    end
    for _, p in ipairs(spec.params) do
      if p.default ~= nil and not p.choices and state[prefix .. p.name] == nil then
        fail("the state has no entry %s%s", prefix, p.name)
      end
    end
  end
end

-- What a state holds, all of it checked: memory by parameter, and a list of options by group.
function states.read(spec, groups, state)
  local parameters, memory, found = {}, {}, {}
  each_parameter(groups, function(p, i) parameters[i] = p end)
  for k in ipairs(groups) do found[k] = {} end
  check_groups(spec, groups, state)
  for path, value in pairs(state) do
    local k, option = tostring(path):match("^group%.(%d+)%.(.+)$")
    local number, name = tostring(path):match("^(%d+)%.(.+)$")
    local p = number and parameters[math.tointeger(tonumber(number))]
    if k then
      k = math.tointeger(tonumber(k))
      local entry, given = read_option(spec, groups, path, k, option, value)
      if entry then found[k][entry.name] = given end
    elseif not p then
      fail("the state has an entry %s that this optimizer of %d parameters has no place for", options.describe(path),
        #parameters)
    else
      memory[p] = memory[p] or {}
      memory[p][name] = read_memory(spec, path, p, name, value, parameters)
    end
  end
  each_parameter(groups, function(p, i)
    if not memory[p] then return end
    memory[p].step = memory[p].step or nb.tensor(0, { dtype = "f64" })
    check_whole(spec, i, memory[p], p)
  end)
  return memory, found
end

return states
