-- SPDX-License-Identifier: MIT
-- Rules of what goes in: its scale, whether samples differ, whether the answer is among them.
local native = require "nablua.native"
local nb = require "nablua.core"
local patient = require "nablua.inspect.patient"
local text = require "nablua.inspect.text"

local number = text.number

local function is_float(t)
  return t.dtype == "f32" or t.dtype == "f64"
end

-- Layers that scale what they get.
local NORMALISES = { BatchNorm1d = true, BatchNorm2d = true, LayerNorm = true, RMSNorm = true, GroupNorm = true,
  InstanceNorm1d = true, InstanceNorm2d = true }

local function look_at_scale(p, report)
  -- What the first layer with weights gets: a net may scale its input itself.
  local x = p.entering or p.x
  local column = p.entering and native.storage(p.entering) ~= native.storage(p.x) and "what the first layer gets" or "x"
  if NORMALISES[p.kind_first] or not is_float(x) or x:dim() < 2 or #x < 2 or x:numel() == 0 then return end
  local d = x:to("f64")
  local rest = {}
  for k = 1, x:dim() do
    if k ~= 2 then rest[#rest + 1] = k end
  end
  local mean, std = d:mean(rest):totable(), d:std(rest, { correction = 0 }):totable()
  local worst, at = 0, nil
  for k, s in ipairs(std) do
    local size = math.max(math.abs(mean[k]) / 10, s)
    if size > worst then worst, at = size, k end
  end
  local line = ("%s = (%s - %s:mean(1, {keepdim=true})) / (%s:std(1, {keepdim=true}) + 1e-6)"):gsub("%%s", p.names.x)
  local low, high = patient.range(d)
  if p.names.x == "x" and column == "x" and low >= 0 and high <= 255 and high > 20 and x:dim() > 2 then
    line = "x = x / 255"
  end
  if worst > 20 then
    local cancels = x.dtype == "f32" and std[at] > 0 and math.abs(mean[at]) / std[at] > 1e4
    report("x", ("column %d of %s has mean %s and standard deviation %s%s"):format(at, column, number(mean[at]),
      number(std[at]), cancels and "; in f32 what differs between samples cancels to a few digits" or
        "; nets expect about 0 and 1"), line)
  elseif worst > 0 and math.max(-low, high) < 5e-3 then
    report("x", ("no number of %s is larger than %s; nets expect about 1"):format(column, number(math.max(-low, high))),
      line:gsub("1e%-6", "1e-12"))
  end
end

local function look_at_sameness(p, report)
  local x = (p.all or p).x
  if x:dim() == 0 or #x < 2 or x:numel() == 0 then return end
  local first = x[{ { 1, 1 } }]
  if not x:eq(first):all():item() then return end
  report("x", ("all %d samples are the same: nothing tells them apart"):format(#x), "print(x:stats())")
  return true
end

-- ---- leaked labels ----

local MOST_CLASSES = 50
local TELLS = 1 - 1e-4  -- of a column's variance, that lies between the classes

-- The share of each column's variance that lies between the classes of y; nil where y has none.
local function between_classes(x, y)
  local values, places, counts = y:unique()
  local n, K = #y, #values
  if K < 2 or K > MOST_CLASSES or n < 3 * K or n < 16 then return nil end
  local members = nb.one_hot(places:reshape(-1), K):to("f64")
  local mean = x:mean(1, { keepdim = true })
  local centred = x - mean
  local sums = members:transpose(1, 2):matmul(centred)
  local between = (sums * sums / counts:to("f64"):reshape(K, 1)):sum(1)
  local all = (centred * centred):sum(1)
  return nb.where(all:gt(1e-12), between / all:clamp { min = 1e-12 }, 0)
end

-- The square of each column's correlation with y.
local function correlation(x, y)
  local a, b = x - x:mean(1, { keepdim = true }), y - y:mean()
  local both = (a * b:reshape(#y, 1)):sum(1)
  local size = (a * a):sum(1) * (b * b):sum()
  return nb.where(size:gt(1e-12), both * both / size:clamp { min = 1e-12 }, 0)
end

local function look_at_columns(p, report)
  local set = p.all or p
  local x, y = set.x, set.y
  if not is_float(x) or x:dim() < 2 or y:numel() ~= #y or #x ~= #y then return end
  x, y = x:to("f64"):reshape(#x, -1), y:to("f64"):reshape(-1)
  if x:size(2) < 2 then return end
  local share, limit = between_classes(x, y), TELLS
  if not share then
    if #y < 16 then return end
    share, limit = correlation(x, y), 1 - 1e-7
  end
  local most, at = share:max(1)
  if most:item() < limit then return end
  local k = at:item()
  report("x", ("column %d of x by itself tells the targets%s: they leaked into the inputs, or nothing needs to be " ..
    "learned"):format(k, limit == TELLS and (" (%.3f %% of its variance lies between the classes)"):format(
      100 * most:item()) or ", up to a factor"),
    set.x:dim() == 2 and ("%s[{nb.ALL, %d}] = 0  -- or cut it out, and look at where it comes from"):format(p.names.x,
      k) or "print(x:stats())")
end

-- Whether outputs at places before the last change with what goes in at the last.
local function sees_ahead(p)
  local x, length = p.x, p.x:size(2)
  local other = x:clone()
  local last = x[{ nb.ALL, { length, length } }]
  local first = x[{ nb.ALL, { 1, 1 } }]
  other[{ nb.ALL, { length, length } }] = nb.where(first:eq(last), x[{ nb.ALL, { 2, 2 } }], first)
  local a, b = patient.answer(p, x), patient.answer(p, other)
  if not a or not b or a:numel() % (#x * length) ~= 0 then return nil end
  local d = (a - b):abs()
  if a:dim() >= 3 and a:size(1) == #x and a:size(2) == length then
    d = d:reshape(#x, length, -1)
  elseif a:dim() == 3 and a:size(1) == #x and a:size(3) == length then
    d = d:transpose(2, 3)
  elseif a:dim() == 2 and a:size(1) == #x * length then
    d = d:reshape(#x, length, -1)
  else
    return nil
  end
  local before = d[{ nb.ALL, { 1, length - 1 } }]:max():item()
  return before > 1e-4 * math.max(a:abs():max():item(), 1e-6)
end

local function look_at_sequences(p, report)
  local x, y = p.x, p.y
  if p.broken or is_float(x) or x:dim() ~= 2 or x:size(2) < 3 or y:numel() ~= x:numel() then return end
  y = y:reshape(x.shape)
  if y:eq(x):all():item() then
    report("y", "the targets are the inputs themselves: each place is asked for what it is given",
      "y = x[{nb.ALL, {2, x:size(2)}}]; x = x[{nb.ALL, {1, x:size(2) - 1}}]")
    return
  end
  local length = x:size(2)
  if not y[{ nb.ALL, { 1, length - 1 } }]:eq(x[{ nb.ALL, { 2, length } }]):all():item() then return end
  if nb.no_grad(function() return sees_ahead(p) end) then
    report("net", "the target at each place is the next input, and the net's answers change with inputs that come " ..
      "later: it sees what it is asked for", "print(net)  -- attention wants is_causal=true, a recurrent layer one " ..
      "direction")
  end
end

return function(rule, deep)
  rule("unscaled inputs", look_at_scale)
  rule("equal samples", look_at_sameness)
  deep("leaked labels", look_at_columns)
  deep("leaked labels", look_at_sequences)
end
