-- SPDX-License-Identifier: MIT
-- What users pass to plots, as one-dimensional tensors of f64: tensors of any dtype, tables of numbers.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"

local values = {}

-- A tensor of f64 without history, contiguous.
function values.tensor(where, what, v)
  if type(v) == "number" then v = { v } end
  if not nb.is_tensor(v) then
    if type(v) ~= "table" or getmetatable(v) then
      native.raise(("%s: %s must be a tensor or a table of numbers, got %s"):format(where, what, options.describe(v)))
    end
    if #v == 0 then return nb.zeros(0, { dtype = "f64" }) end
    local ok, t = pcall(nb.tensor, v, { dtype = "f64" })
    if not ok then
      native.raise(("%s: %s must be a table of numbers: %s"):format(where, what, (tostring(t):gsub("^[^ ]+: ", ""))))
    end
    return t
  end
  return v:detach():to("f64"):contiguous()
end

-- One-dimensional; with rows and columns too, where all but one dimension are 1.
function values.vector(where, what, v)
  local t = values.tensor(where, what, v)
  local long = 0
  for _, n in ipairs(t.shape) do
    if n ~= 1 then long = long + 1 end
  end
  if t:dim() == 1 then return t end
  if long > 1 then
    native.raise(("%s: %s must have one dimension, got %s"):format(where, what, options.describe(t)))
  end
  return t:flatten()
end

function values.matrix(where, what, v)
  local t = values.tensor(where, what, v)
  if t:dim() ~= 2 then
    native.raise(("%s: %s must be a matrix, got %s"):format(where, what, options.describe(t)))
  end
  return t
end

-- 1, 2, ... n
function values.count(n)
  return nb.arange(n, { dtype = "f64" })
end

-- The last finite number; nil without one.
function values.last(t)
  for i = t:numel(), math.max(1, t:numel() - 1000), -1 do
    local v = t:at(i)
    if v == v and v ~= math.huge and v ~= -math.huge then return v end
  end
end

-- How many entries are not finite, over lists of tensors that belong together.
function values.lost(pairs_of)
  local lost, all = 0, 0
  for _, p in ipairs(pairs_of) do
    local _, _, finite = native.range(p[1], p[2])
    lost, all = lost + p[1]:numel() - finite, all + p[1]:numel()
  end
  return lost, all
end

-- The sentence about them, or about there being nothing; nil when all is well.
function values.note(lost, all, log)
  if all == 0 then return "no data" end
  if lost == 0 then return nil end
  local what = log and "have no place on a logarithmic axis or are not finite" or "are not finite"
  if lost == all then return ("none of %d values can be shown: all %s"):format(all, what) end
  return ("%d of %d values %s"):format(lost, all, what)
end

local function is_plain(v)
  return type(v) == "table" and not getmetatable(v)
end

-- Losses first; numbers in names in their order, so that layer 10 follows layer 9.
local function by_rank(a, b)
  local x, y = a:match("loss") and 0 or 1, b:match("loss") and 0 or 1
  if x ~= y then return x < y end
  local function padded(name)
    return (name:gsub("%d+", function(digits) return ("0"):rep(12 - #digits) .. digits end))
  end
  return padded(a) < padded(b)
end

-- An object that is a series says so by __series, which gives { name =, y = }.
local function series_of(v)
  local meta = getmetatable(v)
  return type(v) == "table" and type(meta) == "table" and meta.__series and meta.__series(v) or v
end

-- A list of { name =, x =, y = } from what a user calls series:
--   a vector; a matrix, whose columns are series; a list of vectors or of { name=, x=, y= }; a table name → vector or
--   { x=, y= }, such as nn.fit's history; a run, or a list of them.
function values.series(where, v)
  v = series_of(v)
  local function entry(name, s)
    if is_plain(s) and (s.y ~= nil or s.x ~= nil) then
      local what = name and ("series %s"):format(name) or "the series"
      if s.y == nil then native.raise(("%s: %s has x but no y"):format(where, what)) end
      if s.name ~= nil and type(s.name) ~= "string" then
        native.raise(("%s: a series' name must be a string, got %s"):format(where, options.describe(s.name)))
      end
      local x, y = s.x ~= nil and values.vector(where, "x of " .. what, s.x), values.vector(where, "y of " .. what, s.y)
      if x and x:numel() ~= y:numel() then
        native.raise(("%s: %s has %d x and %d y"):format(where, what, x:numel(), y:numel()))
      end
      return { name = s.name or name, x = x or nil, y = y }
    end
    return { name = name, y = values.vector(where, name and "series " .. name or "the series", s) }
  end
  if nb.is_tensor(v) and v:dim() == 2 and v:size(1) > 1 and v:size(2) > 1 then
    local t, list = values.tensor(where, "the series", v).T:contiguous(), {}
    for i = 1, math.min(#t, 100) do list[i] = { name = tostring(i), y = t[i]:contiguous() } end
    return list
  end
  if nb.is_tensor(v) or (is_plain(v) and (type(v[1]) == "number" or next(v) == nil or v.y ~= nil)) then
    return { entry(nil, v) }
  end
  if not is_plain(v) then
    native.raise(("%s: needs a tensor, a table of numbers, or a table of them by name, got %s"):format(where,
      options.describe(v)))
  end
  local list, names = {}, {}
  for i, s in ipairs(v) do
    s = series_of(s)
    list[i] = entry(is_plain(s) and s.name or nil, s)
  end
  for name in pairs(v) do
    if type(name) == "string" and not (name == "seconds" and v.loss) then names[#names + 1] = name end
  end
  table.sort(names, by_rank)
  for _, name in ipairs(names) do list[#list + 1] = entry(name, v[name]) end
  if #list > 1 then
    for i, s in ipairs(list) do s.name = s.name or tostring(i) end
  end
  return list
end

return values
