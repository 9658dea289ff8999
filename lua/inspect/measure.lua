-- SPDX-License-Identifier: MIT
-- What diagnose and watch measure of a layer's output: spread, saturated units, units that are off.
local native = require "nablua.native"
local nb = require "nablua.core"

local measure = {}

-- Outputs beyond these count as saturated: there σ' < 0.01 and tanh' < 0.02.
local SATURATED = { Sigmoid = { 0.01, 0.99 }, Tanh = { -0.99, 0.99 } }

local OFF = { ReLU = true }

-- The numbers of t as native functions read them.
local function plain(t)
  if (t.dtype == "f32" or t.dtype == "f64") and t:is_contiguous() then return t end
  return nb.no_grad(function() return t:detach():to(t.dtype == "f32" and "f32" or "f64"):contiguous() end)
end

-- { mean, std, max, bad = how many are not finite, saturated = share, dead = the units that are 0 for all samples,
--   units = their number }
function measure.output(kind, y)
  y = plain(y)
  local m = { units = 0, dead = {} }
  m.mean, m.std, m.max, m.bad = native.spread(y)
  local range = SATURATED[kind]
  if range then m.saturated = native.outside(y, range[1], range[2]) end
  if OFF[kind] then m.dead, m.units = native.off_units(y) end
  return m
end

-- The root of the mean square: a norm that does not grow with the number of elements.  With `other`, that of
-- t + factor·other.
function measure.rms(t, other, factor)
  return native.rms(plain(t), other and plain(other), factor)
end

-- The norm, as a number; in the tensor's own dtype, whose kernel scales what would overflow.
function measure.norm(t)
  return nb.no_grad(function()
    t = t:detach()
    return (t.dtype == "f32" or t.dtype == "f64") and t:norm():item() or t:to("f64"):norm():item()
  end)
end

return measure
