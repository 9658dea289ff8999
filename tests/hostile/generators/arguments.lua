-- SPDX-License-Identifier: MIT
-- Calls every public name, every method and every metamethod with arguments that nobody expects.
--
-- The names are the registry's, so a new one is called from its first day.  A program is a list of calls; each argument
-- is one of values.lua's, a good one of the operator's own sample among them, or a table of options by the names that
-- the entry's parameters have.
package.path = (arg[0]:match("^(.*)/") or ".") .. "/?.lua;" .. package.path
local driver = require "driver"

-- What waits by itself, ends the process or works on more than its arguments.
local left_out = { ["nb.sleep"] = "it waits as long as it is told",
  ["nb.memory"] = "it takes the limit away that the programs have",
  ["nb.threads"] = "256 threads on a small machine" }

local PRELUDE = [[
local nb = require "nablua"
local native = require "nablua.native"
local registry = require "nablua.registry"
local numeric = require "numeric"
local values = require "values"
local V, R = values.make, registry.row
local function F(name) return registry.find(name).value end
local function sampled(name, case, place, value)
  local args = numeric.arguments(R(name), case)
  args[place] = value
  args.n = math.max(args.n, place)
  return table.unpack(args, 1, args.n)
end
local function try(f, ...)
  local ok, result = pcall(f, ...)
  if ok and nb.is_tensor(result) then pcall(tostring, result) end
end
]]

local targets

local function list_targets()
  local registry = require "nablua.registry"
  local native = require "nablua.native"
  targets = {}
  for _, entry in ipairs(registry.all()) do
    local callable = type(entry.value) == "function" or type(entry.value) == "table"
    if callable and not left_out[entry.name] and registry.find(entry.name) == entry then
      targets[#targets + 1] = { entry = entry }
    end
  end
  for name, row in pairs(registry.rows()) do
    if row.internal then targets[#targets + 1] = { internal = name } end
  end
  table.sort(targets, function(a, b) return (a.internal or a.entry.name) < (b.internal or b.entry.name) end)
  local methods = {}
  for name in pairs(native.methods) do methods[#methods + 1] = name end
  table.sort(methods)
  for _, name in ipairs(methods) do targets[#targets + 1] = { method = name } end
end

local function pick(list)
  return list[math.random(#list)]
end

local function value()
  return ("V%q"):format(pick(require "values".names))
end

-- A table of options of the entry's own names.
local function options(entry)
  local names, pieces = {}, {}
  for _, p in ipairs(entry.params or {}) do names[#names + 1] = p.name end
  if #names == 0 then return value() end
  for _ = 1, math.random(3) do
    local name = pick(names)
    pieces[#pieces + 1] = ("[%q]=%s"):format(name, value())
  end
  return "{ " .. table.concat(pieces, ", ") .. " }"
end

local function arguments(entry, least)
  local list = {}
  for i = 1, math.random(least, 4) do list[i] = ", " .. value() end
  if entry and math.random(3) == 1 then list[#list + 1] = ", " .. options(entry) end
  return table.concat(list)
end

-- The sample's arguments with one of them replaced.
local function sample(name)
  local row = require "nablua.registry".row(name)
  local cases = row and require "numeric".cases(row)
  if not cases or #cases == 0 then return nil end
  return (", sampled(%q, %q, %d, %s)"):format(name, pick(cases), math.random(#row.params + 1), value())
end

local function call_target(target)
  if target.method then
    return ("try(%s[%q]%s)"):format(pick { 'V"leaf"', 'V"f32 matrix"', 'V"tracked"', 'V"vector"' }, target.method,
      arguments(nil, 1))
  end
  -- What layers call, with all but one of its arguments right.
  if target.internal then
    local one, two = sample(target.internal), sample(target.internal)
    return one and ("try(native[%q]%s)\ntry(native[%q]%s)"):format(target.internal, one, target.internal, two) or ""
  end
  local entry = target.entry
  local short = entry.name:match("^nb%.([%w_]+)$")
  local sampled = short and math.random(2) == 1 and sample(short)
  return ("try(F%q%s)"):format(entry.name, sampled or arguments(entry, 0))
end

local fields = { "grad", "requires_grad", "name", "dtype", "shape", "T", "is_leaf", "no_such" }
local binary = { "+", "-", "*", "/", "//", "%", "^", "&", "|", "~", "<<", ">>", "..", "<", "<=", "==" }
local objects = { "net", "deep net", "convolution", "norm", "recurrent", "activation", "optimizer", "adam", "schedule",
  "compiled", "hook" }

local others = {
  function() return ("try(function() return %s %s %s end)"):format(value(), pick(binary), value()) end,
  function() return ("try(function() return %s[%s] end)"):format(pick { 'V"f32 matrix"', 'V"tracked"', value() },
    value()) end,
  function() return ("try(function() return %s[{ %s, %s }] end)"):format('V"f64 views"', value(), value()) end,
  function() return ("try(function() %s[%s] = %s end)"):format('V"f32 matrix"', value(), value()) end,
  function() return ("try(function() %s[{ %s, { %s, %s } }] = %s end)"):format('V"tracked"', value(), value(), value(),
    value()) end,
  function() return ("try(function() local t = %s t.%s = %s return t.%s end)"):format(pick { 'V"leaf"', value() },
    pick(fields), value(), pick(fields)) end,
  function() return ("try(function() return #%s, -%s, ~%s end)"):format(value(), value(), value()) end,
  function() return ("try(%s%s)"):format(value(), arguments(nil, 1)) end,
  function()
    local object = pick(objects)
    local methods = {}
    local o = require "values".make(object)
    local seen = type(o) == "table" and o or {}
    for _ = 1, 4 do
      for key in pairs(seen) do if type(key) == "string" then methods[#methods + 1] = key end end
      local meta = getmetatable(seen)
      local index = type(meta) == "table" and rawget(meta, "__index")
      if type(index) ~= "table" then break end
      seen = index
    end
    for _, key in ipairs { "remove", "parameters", "to", "state", "load_state", "register_forward_hook", "step",
      "zero_grad", "apply", "named_parameters", "kind" } do methods[#methods + 1] = key end
    table.sort(methods)
    return ("try(function(...) local o = V%q return o[%q](o, ...) end%s)"):format(object, pick(methods),
      arguments(nil, 1))
  end,
}

local function make(n)
  if not targets then list_targets() end
  local lines = { PRELUDE }
  -- In turn, so that a run of some thousand calls has met every name.
  for i = 1, 8 do lines[#lines + 1] = call_target(targets[(n * 8 + i) % #targets + 1]) end
  for _ = 1, 4 do lines[#lines + 1] = pick(others)() end
  if math.random(4) == 1 then  -- the same within a coroutine, which yields reach
    table.insert(lines, 2, "local co = coroutine.wrap(function()")
    lines[#lines + 1] = "end)\nfor _ = 1, 5 do pcall(co) end"
  end
  return table.concat(lines, "\n")
end

driver.main("arguments", make)
