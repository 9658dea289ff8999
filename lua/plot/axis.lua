-- SPDX-License-Identifier: MIT
-- Axes: the range that data need and the round numbers that stand along it.
--
-- An axis is { low=, high=, log=, names= } in the units that are drawn: of a logarithmic axis these are the decimal
-- logarithms, so that whoever draws knows only straight axes.
local native = require "nablua.native"
local style = require "nablua.plot.style"

local Axis = {}
Axis.__index = Axis

local axis = {}

-- The options of every plot that has two axes.
axis.options = { "title", "xlabel", "ylabel", "logx", "logy", "legend", "width", "height" }

local LOG10 = math.log(10)

-- Coordinates as they are drawn: of a logarithmic axis the logarithms, and nothing where there are none.
function axis.transform(t, log)
  if not log then return t end
  return (t:masked_fill(t:le(0), 0 / 0):log() / LOG10):contiguous()
end

-- An axis over [low, high], widened by a share of `pad` on both sides; without data over [0, 1]. The marks of a
-- `whole` one are whole numbers.
function axis.new(low, high, o)
  o = o or {}
  if not low then low, high = 0, 1 end
  local pad = (high - low) * (o.pad or 0)
  if pad ~= pad or pad == math.huge then
    -- From one end of the doubles to the other: the span itself has no number.
    low, high, pad = math.max(low, -8e307), math.min(high, 8e307), 0
  end
  -- A span that is nothing, or too small for its place on the line to be told apart.
  if high - low <= 1e-12 * math.max(math.abs(low), math.abs(high)) then
    local room = o.log and 0.5 or low == 0 and 1 or math.abs(low) * 0.1
    low, high, pad = low - room, high + room, 0
  end
  return setmetatable({ low = low - pad, high = high + pad, log = o.log, whole = o.whole }, Axis)
end

-- An axis that covers coordinates already transformed: a list of { coordinates, the other ones of the same points }.
function axis.cover(list, o)
  local low, high
  for _, t in ipairs(list) do
    local a, b = native.range(t[1], t[2])
    if a then low, high = math.min(low or a, a), math.max(high or b, b) end
  end
  return axis.new(low, high, o)
end

-- An axis of names, at 1, 2, 3 ...
function axis.named(names)
  return setmetatable({ low = 0.5, high = math.max(#names, 1) + 0.5, names = names }, Axis)
end

-- The largest of 1, 2, 2.5, 5 × 10ⁿ steps that gives no more than `most` marks.
local function step_of(span, most)
  local rough = span / math.max(most, 1)
  local power = 10 ^ math.floor(math.log(rough, 10))
  for _, m in ipairs { 1, 2, 2.5, 5, 10 } do
    if m * power >= rough * (1 - 1e-9) then return m * power end
  end
end

local function linear(self, most)
  local step = step_of(self.high - self.low, most)
  if self.whole and step then step = math.max(1, math.ceil(step)) end
  local list = {}
  if not step or step ~= step or step == math.huge or step == 0 then return list end
  local first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
  local largest = math.max(math.abs(self.low), math.abs(self.high))
  local decimals = 0
  while decimals < 12 and math.abs(step * 10 ^ decimals - math.floor(step * 10 ^ decimals + 0.5)) > 1e-6 do
    decimals = decimals + 1
  end
  local scaled = largest >= 1e6 or largest < 1e-3
  local power = scaled and math.floor(math.log(largest, 10) + 1e-9) or 0
  for i = first, math.min(last, first + 50) do
    local v = i * step
    local text
    if scaled and i ~= 0 then
      text = ("%.6g"):format(v / 10.0 ^ power) .. "·" .. style.power(power)
    else
      text = ("%." .. decimals .. "f"):format(i == 0 and 0 or v)
    end
    list[#list + 1] = { v, text }
  end
  return list
end

local function logarithmic(self, most)
  local first, last = math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9)
  local list, decades = {}, last - first + 1
  local function text(exponent, m)
    if exponent >= -3 and exponent <= 4 then return ("%.10g"):format(m * 10.0 ^ exponent) end
    return m == 1 and style.power(exponent) or m .. "·" .. style.power(exponent)
  end
  if decades >= 3 or self.high - self.low > 2.5 then
    local every = math.max(1, math.ceil(decades / math.max(most, 1)))
    for e = first, last do
      if e % every == 0 then list[#list + 1] = { e, text(e, 1) } end
    end
    return list
  end
  local factors = self.high - self.low > 1 and { 1, 3 } or { 1, 2, 5 }
  for e = math.floor(self.low), math.ceil(self.high) do
    for _, m in ipairs(factors) do
      local v = e + math.log(m, 10)
      if v >= self.low - 1e-9 and v <= self.high + 1e-9 then list[#list + 1] = { v, text(e, m) } end
    end
  end
  -- Within one step of those: the ends themselves.
  if #list < 2 then
    for _, v in ipairs { self.low, self.high } do list[#list + 1] = { v, style.number(10 ^ v, 3) } end
  end
  return list
end

-- The marks along the axis, { place, text }, about `most` of them.
function Axis:ticks(most)
  if self.hidden then return {} end
  if self.names then
    local list = {}
    for i, name in ipairs(self.names) do list[i] = { i, style.clean(name) } end
    return list
  end
  if self.log then return logarithmic(self, most) end
  return linear(self, most)
end

return axis
