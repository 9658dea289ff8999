-- SPDX-License-Identifier: MIT
-- Values as clients of the debugger see them: trees of variables, which have numbers while what they hold is there.
local display = require "nablua.display"
local measure = require "nablua.inspect.measure"
local module = require "nablua.nn.module"
local native = require "nablua.native"
local nb = require "nablua.core"

local variables = {}

local MOST = 200       -- children that are listed unless a client asks for some of them
local MOST_TEXT = 200  -- bytes of a value's text

-- ---- numbers ----

local nodes, last = {}, 0  -- number → { list = f(first, count) → names and values in order, set = f(name, value) }

function variables.number(node)
  last = last + 1
  nodes[last] = node
  return last
end

function variables.node(number)
  return nodes[number]
end

-- What was paused goes on: its numbers stand for nothing any more.  Those to come are others.
function variables.forget()
  nodes = {}
end

-- ---- values ----

local function cut(text)
  text = text:gsub("%s*\n%s*", " ")
  if not utf8.len(text) then text = text:gsub("[\128-\255]", "?") end
  return native.fit(text, MOST_TEXT)
end

-- Runs no code of the user: a value whose metatable is his is shown as what it is.
local function is_plain(value)
  local meta = debug.getmetatable(value)
  return type(meta) ~= "table" or (rawget(meta, "__tostring") == nil and rawget(meta, "__display") == nil and
    rawget(meta, "__index") == nil and rawget(meta, "__pairs") == nil)
end

local function tensor_text(t)
  local parts = { t.dtype, #t.shape == 0 and "a number" or table.concat(t.shape, "×") }
  if t.requires_grad then parts[#parts + 1] = "requires_grad" end
  if t:numel() == 0 then return table.concat(parts, ", ") .. ", empty" end
  if t.dtype == "f32" or t.dtype == "f64" then
    parts[#parts + 1] = ("norm %.4g"):format(measure.rms(t) * math.sqrt(t:numel()))
  end
  local first, flat = {}, t:detach():reshape(-1)
  for i = 1, math.min(t:numel(), 4) do
    local v = flat[i]:item()
    first[i] = math.type(v) == "float" and ("%.4g"):format(v) or tostring(v)
  end
  return ("%s: %s%s"):format(table.concat(parts, ", "), table.concat(first, " "), t:numel() > 4 and " …" or "")
end

local function text_of(value)
  if nb.is_tensor(value) then return tensor_text(value) end
  local kind = type(value)
  if kind == "string" then return cut(("%q"):format(value):gsub("\\\n", "\\n")) end
  if kind == "function" then
    local info = debug.getinfo(value, "S")
    return info.what == "C" and "function in C" or ("function %s:%d"):format(info.short_src, info.linedefined)
  end
  if module.is(value) then return cut(module.title(value)) end
  if kind == "table" and not is_plain(value) then
    local meta = debug.getmetatable(value)
    return type(meta) == "table" and type(rawget(meta, "__name")) == "string" and rawget(meta, "__name") or "table"
  end
  if kind == "table" then return cut(display.brief(value)) end
  if kind == "userdata" or kind == "thread" then return kind end
  return tostring(value)
end

-- By these names JupyterLab knows what it can show as it is; of all else it shows the type alone, which tells more than
-- a word therefore.
local types = { string = "str", boolean = "bool", ["nil"] = "nil" }

local function type_of(value)
  local kind = math.type(value)
  if kind then return kind == "integer" and "int" or "float" end
  return types[type(value)] or text_of(value)
end

-- ---- children ----

local children

-- A variable of the protocol.  `path` is an expression for it, where there is one.
local function variable(name, value, path)
  local node = children(value, path)
  return {
    name = name, value = text_of(value), type = type_of(value), evaluateName = path,
    variablesReference = node and variables.number(node) or 0,
    indexedVariables = node and node.indexed, namedVariables = node and node.named,
  }
end
variables.variable = variable

local function key_path(path, key)
  if not path then return nil end
  if type(key) == "string" and key:match "^[%a_][%w_]*$" then return path .. "." .. key end
  if type(key) == "string" or math.type(key) then return ("%s[%s]"):format(path, text_of(key)) end
end

-- Rows, which are expanded further, of the elements in order; beside them what else is known of it.
local function tensor_children(t, path)
  if #t.shape == 0 then return nil end
  local n = t.shape[1]
  local function set(name, value) t[tonumber(name:match "%d+")] = value end
  return { indexed = n, set = set, list = function(first, count)
    local list = {}
    for i = first, math.min(n, first + count - 1) do
      local row = nb.no_grad(function() return t[i] end)
      local value = row
      if nb.is_tensor(row) and #row.shape == 0 then value = row:item() end
      list[#list + 1] = variable(("[%d]"):format(i), value, path and ("%s[%d]"):format(path, i))
    end
    if first + count > n and t.grad then list[#list + 1] = variable("grad", t.grad, path and path .. ".grad") end
    return list
  end }
end

local function by_name(a, b)
  local x, y = type(a), type(b)
  if x ~= y then return x == "number" or (y ~= "number" and x < y) end
  if x == "number" or x == "string" then return a < b end
  return tostring(a) < tostring(b)
end

local function table_children(t, path)
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  if #keys == 0 then return nil end
  table.sort(keys, by_name)
  local function name_of(key) return type(key) == "string" and key or ("[%s]"):format(text_of(key)) end
  return {
    named = #keys,
    list = function(first, count)
      local list = {}
      for i = first, math.min(#keys, first + count - 1) do
        list[#list + 1] = variable(name_of(keys[i]), rawget(t, keys[i]), key_path(path, keys[i]))
      end
      return list
    end,
    set = function(name, value)
      for _, key in ipairs(keys) do
        if name_of(key) == name then
          t[key] = value
          return
        end
      end
      error(("there is no field %s"):format(name), 0)
    end,
  }
end

function children(value, path)
  if nb.is_tensor(value) then return tensor_children(value, path) end
  if type(value) == "table" then return table_children(value, path) end
end

function variables.list(node, start, count)
  return node.list((start or 0) + 1, count and count > 0 and count or MOST)
end

-- A list of names, each with its value now, and what assigns one.
function variables.names(names, value_of, set)
  return {
    named = #names, set = set,
    list = function(first, count)
      local list = {}
      for i = first, math.min(#names, first + count - 1) do
        list[#list + 1] = variable(names[i], value_of(names[i]), names[i])
      end
      return list
    end,
  }
end

return variables
