-- SPDX-License-Identifier: MIT
-- What Lua's errors leave out: the name that was meant, the colon that was forgotten, and how Lua writes what other
-- languages write otherwise.  Looks at values without running any code of the user.
local native = require "nablua.native"
local nb = require "nablua"
local complete = require "nablua.session.complete"
local habits = require "nablua.session.habits"
local options = require "nablua.options"
local registry = require "nablua.registry"
local session = require "nablua.session.native"

local suggest = {}

-- ---- names ----

local function did_you_mean(name)
  return name and ("did you mean '%s'?"):format(name)
end

-- The name of the library's that ends so: Linear is nn.Linear.
local function of_library(name)
  for _, entry in ipairs(registry.ending(name)) do
    if entry.name:match("^%l[%w_.]+$") and entry.value ~= nil then return entry.name end
  end
end

-- One of the frame's, of the user's, or a global of the library: of short names only those that begin alike.
local function of_user(name, frame)
  local names = {}
  local function see(candidate)
    if type(candidate) == "string" and candidate:match("^%a") and #candidate > 1 and
        (#name > 5 or candidate:sub(1, 1):lower() == name:sub(1, 1):lower()) then
      names[#names + 1] = candidate
    end
  end
  for _, variable in ipairs(frame and frame.names or {}) do see(variable) end
  for kept in next, session.kept do see(kept) end
  for global in next, _G do see(global) end
  table.sort(names)
  return #name > 2 and options.nearest(name, names) or nil
end

-- What an undefined global was meant to be.
local function undefined(name, frame)
  if frame and frame.has "self" and complete.field(frame.value "self", name) ~= nil then
    return did_you_mean("self." .. name)
  end
  return habits.globals[name] or did_you_mean(of_library(name) or of_user(name, frame))
end

-- The expressions before `.name` or `:name` in the line: calls see(its text, the separator).
local function each_owner(line, name, see)
  local at = 1
  while true do
    local first, last, separator = line:find("%s*([.:])%s*" .. name .. "%f[^%w_]", at)
    if not first then return end
    see(line:sub(1, first - 1), separator)
    at = last + 1
  end
end

-- What a field that is not there was meant to be.
local function missing_field(name, line, frame)
  local hint
  each_owner(line, name, function(head)
    local names = {}
    local there = false
    local value = complete.fields(head, frame, function(field)
      names[#names + 1] = field
      there = there or field == name
    end)
    if hint or value == nil or there then return end
    table.sort(names)
    hint = did_you_mean(#name > 1 and options.nearest(name, names) or nil)
  end)
  return habits.members[name] or hint or
    name == "grad" and "a gradient is nil until backward() has run through its tensor" or nil
end

-- ---- dots and colons ----

local modules = { nb = nb, math = math, string = string, table = table, os = os, io = io, utf8 = utf8 }
for _, name in ipairs { "nn", "optim", "data", "inspect", "plot", "help", "dist" } do modules[name] = nb[name] end

local function is_module(value)
  for _, module in pairs(modules) do
    if rawequal(module, value) then return true end
  end
  return false
end

-- Whether `value.name` is a method: it comes from the value's class.
local function is_method(value, name, func)
  if nb.is_tensor(value) then return native.methods[name] == func end
  if type(value) == "string" then return string[name] == func end
  return type(value) == "table" and rawget(value, name) == nil and complete.field(value, name) == func
end

-- What C functions say when they are called without their object.
local function lacks_object(message)
  return message:match(": [%w_]+ is missing[^:]*$") or message:match("argument #?1 ") or
    message:match(": [%w_]+: [%w_]+ must be a tensor")
end

-- Of a call that failed, whether its dot should be a colon, or the reverse.
local function wrong_separator(message, call)
  local hint
  local name, func, first = call.name, call.func, call.first
  if not name or not name:match("^[%a_][%w_]*$") then return nil end
  each_owner(call.line, name, function(head, separator)
    local value, text = complete.fields(head, call.scope)
    if hint or value == nil then return end
    if separator == "." and is_method(value, name, func) and not rawequal(first, value) and
        (call.has_first or lacks_object(message)) then
      hint = ("%s is a method, called with a colon: %s:%s(...)"):format(name, text, name)
    elseif separator == ":" and type(value) == "table" then
      local own = rawget(value, name)
      if own ~= nil and (is_module(value) or type(own) == "table") then
        hint = ("%s is no method, it is called with a dot: %s.%s(...)"):format(name, text, name)
      end
    end
  end)
  return hint and call.where .. ": " .. hint
end

-- ---- entry points ----

-- The message with the hint, which takes the place of another.
local function with_hint(message, hint)
  if not hint then return nil end
  message = message:gsub('; did you mean "[%w_]*"%?$', ""):gsub(":\n.*$", "")
  return ("%s; %s"):format(message, hint)
end

-- The message of an error of syntax in lines[number] with what may help, or nil.
function suggest.of_syntax(message, lines, number)
  return with_hint(message, habits.of_syntax(message, lines, number))
end

-- An error's message with what may help, or nil.  `calls` are those that the user's innermost frames made when it
-- happened, innermost first: the frame's `scope`, `line` and place (`where`), and of what it called the `name`, `func`
-- and, where it `has_first`, the value of its `first` parameter.
function suggest.of_error(message, calls)
  if message == "interrupted" then return nil end
  local here = calls[1]
  local hint = habits.of_message(message, here.line)
  local kind, name = message:match("a nil value %((%l+) '([%a_][%w_]*)'%)$")
  if not hint and kind == "global" then
    hint = undefined(name, here.scope)
  elseif not hint and (kind == "field" or kind == "method") then
    hint = missing_field(name, here.line, here.scope)
  elseif not hint then
    for _, call in ipairs(calls) do
      local better = wrong_separator(message, call)
      if better then return better end  -- what the message says came of it
    end
  end
  return with_hint(message, hint)
end

-- What to say of an input that gave no error although names in it are nil; nil for nothing.
function suggest.of_input(code)
  local function is_nil(name) return not session.kept[name] and rawget(_G, name) == nil end
  local path = code:match("^%s*([%a_][%w_.]*)%s*$")
  if path and path:find(".", 1, true) then
    local name = path:match("[^.]+$") or ""
    local value = complete.fields(path:sub(1, -#name - 2))
    local hint = type(value) == "table" and complete.field(value, name) == nil and missing_field(name, path)
    return hint and ("%s is nil; %s"):format(path, hint) or nil
  elseif path then
    local hint = is_nil(path) and undefined(path)
    return hint and ("%s is nil; %s"):format(path, hint) or nil
  end
  for _, word in ipairs { "True", "False", "None" } do
    if is_nil(word) and habits.uses(code, word) then
      return ("%s is nil here; %s"):format(word, habits.globals[word])
    end
  end
end

return suggest
