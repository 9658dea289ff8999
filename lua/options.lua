-- SPDX-License-Identifier: MIT
-- Reads the arguments of Lua-made functions by a list of parameters, the same list that help shows.
--
-- A parameter is { name=, type=, doc=, default=, optional=, positional=, choices= }.  One without default and
-- not optional is required and stands by position; the others stand by name in one trailing table, and those
-- marked `positional` may also follow by position.
local native = require "nablua.native"
local core = require "nablua.core"

local options = {}

local function whole(v)
  return math.type(v) ~= nil and math.tointeger(v) ~= nil
end

local function is_list_of(v, test)
  if type(v) ~= "table" or getmetatable(v) or #v == 0 then return false end
  for i = 1, #v do
    if not test(v[i]) then return false end
  end
  return true
end

local function is_size(v)
  return whole(v) and v >= 1
end

local function is_count(v)
  return whole(v) and v >= 0
end

local function is_number(v)
  return type(v) == "number"
end

-- From `low`, or with `open` above it, to `high`, or with it below: neither infinite nor NaN is within.
local function is_within(v, low, high, open)
  return is_number(v) and (open and v > low or not open and v >= low) and v < high
end

local function is_positive(v)
  return is_within(v, 0, math.huge, true)
end

local function is_fraction(v)
  return is_within(v, 0, 1)
end

local function is_share(v)
  return is_fraction(v) or v == 1
end

-- What a parameter's type accepts, and how an error names it.
local types = {
  any = { "given", function(v) return v ~= nil end },
  boolean = { "true or false", function(v) return type(v) == "boolean" end },
  integer = { "a whole number", whole },
  size = { "a whole number of at least 1", is_size },
  count = { "a whole number of at least 0", is_count },
  sizes = { "a whole number of at least 1, or a table of them",
    function(v) return is_size(v) or is_list_of(v, is_size) end },
  ["sizes or input's"] = { "a whole number of at least 1, or a table of two, of which each may be nil", function(v)
    if is_size(v) then return true end
    if type(v) ~= "table" or getmetatable(v) then return false end
    for key, size in pairs(v) do
      if (key ~= 1 and key ~= 2) or not is_size(size) then return false end
    end
    return true
  end },
  ["sizes or inputs'"] = { "a whole number of at least 1, or a table of at most three, of which some may be nil",
    function(v)
      if is_size(v) then return true end
      if type(v) ~= "table" or getmetatable(v) then return false end
      for key, size in pairs(v) do
        if (key ~= 1 and key ~= 2 and key ~= 3) or not is_size(size) then return false end
      end
      return true
    end },
  counts = { "a whole number of at least 0, or a table of them",
    function(v) return is_count(v) or is_list_of(v, is_count) end },
  number = { "a number", is_number },
  finite = { "a finite number", function(v) return is_within(v, -math.huge, math.huge, true) end },
  positive = { "a finite number above 0", is_positive },
  ["positive or huge"] = { "a number above 0, or math.huge", function(v) return is_number(v) and v > 0 end },
  ["non-negative"] = { "a finite number of at least 0", function(v) return is_within(v, 0, math.huge) end },
  fraction = { "a number from 0 to below 1", is_fraction },
  share = { "a number from 0 to 1", is_share },
  ["share or false"] = { "a number from 0 to 1, or false", function(v) return v == false or is_share(v) end },
  ["two fractions"] = { "a table of two numbers from 0 to below 1", function(v)
    return is_list_of(v, is_fraction) and #v == 2
  end },
  ["list of sizes"] = { "a table of whole numbers of at least 1", function(v) return is_list_of(v, is_size) end },
  ["non-positive"] = { "a finite number of at most 0", function(v)
    return is_within(v, -math.huge, 0, true) or v == 0
  end },
  ["two positives"] = { "a table of two finite numbers above 0", function(v)
    return is_list_of(v, is_positive) and #v == 2
  end },
  ["three numbers"] = { "a table of three finite numbers", function(v)
    return is_list_of(v, function(x) return is_within(x, -math.huge, math.huge, true) end) and #v == 3
  end },
  strings = { "a table of strings", function(v)
    return type(v) == "table" and not getmetatable(v) and (#v == 0 and next(v) == nil or is_list_of(v, function(x)
      return type(x) == "string"
    end))
  end },
  rates = { "a finite number above 0, or a table of them",
    function(v) return is_positive(v) or is_list_of(v, is_positive) end },
  pixels = { "a whole number of pixels from 60 to 8000", function(v) return whole(v) and v >= 60 and v <= 8000 end },
  numbers = { "a table of numbers", function(v) return is_list_of(v, is_number) end },
  string = { "a string", function(v) return type(v) == "string" end },
  ["function"] = { "a function", function(v)
    local meta = getmetatable(v)
    return type(v) == "function" or (type(meta) == "table" and meta.__call ~= nil)
  end },
  ["string or strings"] = { "a string or a table of strings", function(v)
    return type(v) == "string" or is_list_of(v, function(x) return type(x) == "string" end)
  end },
  ["two sizes"] = { "a table of two whole numbers of at least 1", function(v)
    return is_list_of(v, is_size) and #v == 2
  end },
  ["two whole numbers"] = { "a table of two whole numbers", function(v) return is_list_of(v, whole) and #v == 2 end },
  table = { "a table", function(v) return type(v) == "table" end },
  tensor = { "a tensor", core.is_tensor },
  value = { "a tensor, a number, or true or false of a mask",
    function(v) return core.is_tensor(v) or is_number(v) or type(v) == "boolean" end },
  ["tensor or number"] = { "a tensor or a number", function(v) return core.is_tensor(v) or is_number(v) end },
  tensors = { "a table of tensors", function(v) return is_list_of(v, core.is_tensor) end },
  ["whole numbers"] = { "a whole number, or a table of them",
    function(v) return whole(v) or is_list_of(v, whole) or type(v) == "table" and next(v) == nil end },
}

-- A tensor's shape, or a list of sizes, as text: "4×1"; of a scalar "()".
function options.shape(x)
  local sizes = core.is_tensor(x) and x.shape or x
  return #sizes == 0 and "()" or table.concat(sizes, "×")
end

-- A function, or a table that can be called, such as a compiled function.
function options.is_callable(v)
  local meta = getmetatable(v)
  return type(v) == "function" or type(meta) == "table" and meta.__call ~= nil and meta.__name ~= "module class"
end

-- The value as an error sentence shows it.
function options.describe(v)
  if core.is_tensor(v) then
    return #v.shape == 0 and "a tensor of one number" or "a tensor of shape " .. options.shape(v)
  end
  if type(v) == "string" then return ("%q"):format(#v > 40 and v:sub(1, 37) .. "..." or v) end
  if type(v) == "number" or type(v) == "boolean" or v == nil then return tostring(v) end
  return "a " .. type(v)
end

-- Of a list of names the one nearest to `name`; nil when none is near.
options.nearest = native.nearest

local function is_required(p)
  return p.default == nil and not p.optional
end

-- The value of one parameter, checked.
function options.check_value(where, p, v)
  if p.choices then
    for _, choice in ipairs(p.choices) do
      if choice == v then return v end
    end
    native.raise(("%s: %s must be one of %s, got %s"):format(where, p.name, table.concat(p.choices, ", "),
      options.describe(v)))
  end
  local kind, words = types[p.type], p.words or {}
  for _, word in ipairs(words) do
    if word == v then return v end
  end
  if not kind[2](v) then
    local or_words = #words > 0 and (", or \"%s\""):format(table.concat(words, '" or "')) or ""
    native.raise(("%s: %s must be %s%s, got %s"):format(where, p.name, kind[1], or_words, options.describe(v)))
  end
  if math.type(v) == "float" and kind[2] ~= is_number and whole(v) and (p.type == "integer" or p.type == "size" or
      p.type == "count") then
    return math.tointeger(v)
  end
  return v
end

-- A default that is a list is copied: who gets it may write into it.
local function own(default)
  return type(default) == "table" and table.move(default, 1, #default, 1, {}) or default
end

-- Adds to `values` the options of the table `given`, checked, and the defaults of those left out.
function options.check(where, params, given, values)
  values = values or {}
  if given ~= nil and (type(given) ~= "table" or core.is_tensor(given)) then
    local such = ""
    for _, p in ipairs(params) do
      if such == "" and not is_required(p) and not p.positional then such = p.name end
    end
    native.refuse_options(where, such, options.describe(given))
  end
  local known = {}
  for _, p in ipairs(params) do
    if not is_required(p) then known[p.name] = p end
  end
  for name, v in pairs(given or {}) do
    local p = known[name]
    if not p then
      local names = {}
      for _, q in ipairs(params) do
        if known[q.name] then names[#names + 1] = q.name end
      end
      native.no_option(where, name, names)
    end
    if values[name] ~= nil then native.raise(("%s: %s is given twice"):format(where, name)) end
    values[name] = options.check_value(where, p, v)
  end
  for name, p in pairs(known) do
    if values[name] == nil then values[name] = own(p.default) end
  end
  return values
end

-- A plain table without a list part whose keys are names.
local function is_options(v)
  if type(v) ~= "table" or getmetatable(v) or #v > 0 then return false end
  local key = next(v)
  return key == nil or type(key) == "string"
end

-- Whether the parameter that stands at a position takes a list of whole numbers, which may be an empty one.
local function takes_list(params, position)
  for _, p in ipairs(params) do
    if is_required(p) or p.positional then position = position - 1 end
    if position == 0 then return p.type == "whole numbers" end
  end
  return false
end

-- The values of a call's arguments, by name.  An empty table is an empty list where a list belongs, else no options.
function options.read(where, params, ...)
  local args, given, values, required = table.pack(...), nil, {}, 0
  for _, p in ipairs(params) do
    if is_required(p) then required = required + 1 end
  end
  local n = args.n
  while n > 0 and args[n] == nil do n = n - 1 end
  if n > required and is_options(args[n]) and (next(args[n]) ~= nil or not takes_list(params, n)) then
    given, n = args[n], n - 1
  end
  local position = 0
  for _, p in ipairs(params) do
    if is_required(p) or p.positional then
      position = position + 1
      local v
      if position <= n then v = args[position] end
      if v ~= nil then
        values[p.name] = options.check_value(where, p, v)
      elseif is_required(p) then
        native.raise(("%s: %s is missing"):format(where, p.name))
      end
    end
  end
  if n > position then
    native.raise(("%s: too many arguments: %s as argument %d%s"):format(where, options.describe(args[position + 1]),
      position + 1, #params > position and " (options are named, in one trailing table)" or ""))
  end
  return options.check(where, params, given, values)
end

-- A value as Lua writes it: {0.9, 0.999}.
function options.show(v)
  if math.type(v) == "float" then return ("%.14g"):format(v) end
  if type(v) ~= "table" or getmetatable(v) then return type(v) == "string" and ("%q"):format(v) or tostring(v) end
  local parts = {}
  for i, item in ipairs(v) do parts[i] = options.show(item) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

-- "nn.Conv2d(in_channels, out_channels, kernel, {stride=1, padding=0})"
function options.signature(name, params)
  local places, named = {}, {}
  for _, p in ipairs(params) do
    local default = p.default ~= nil and "=" .. options.show(p.default) or "="
    if is_required(p) then
      places[#places + 1] = p.name
    elseif p.positional then
      places[#places + 1] = "[" .. p.name .. (p.default ~= nil and default or "") .. "]"
    else
      named[#named + 1] = p.name .. default
    end
  end
  if #named > 0 then places[#places + 1] = "{" .. table.concat(named, ", ") .. "}" end
  return ("%s(%s)"):format(name, table.concat(places, ", "))
end

return options
