-- SPDX-License-Identifier: MIT
-- What diagnose and watch measure of a layer's output: spread, saturated units, units that are off.
local nb = require "nablua.core"

local measure = {}

-- Outputs beyond these count as saturated: there σ' < 0.01 and tanh' < 0.02.
local SATURATED = {
  Sigmoid = function(y) return y:lt(0.01) | y:gt(0.99) end,
  Tanh = function(y) return y:abs():gt(0.99) end,
}

local OFF = { ReLU = true }

-- Units are the channels (dimension 2), or all of a vector.
local function by_unit(t)
  if t:dim() < 2 then return t:reshape(1, -1) end
  if t:dim() == 2 then return t end
  local order = { 1 }
  for d = 3, t:dim() do order[#order + 1] = d end
  order[#order + 1] = 2
  return t:permute(table.unpack(order)):reshape(-1, t:size(2))
end

-- { mean, std, max, bad = how many are not finite, saturated = share, dead = the units that are 0 for all samples,
--   units = their number }
function measure.output(kind, y)
  return nb.no_grad(function()
    y = y:detach():to("f64")
    local m = { units = 0, dead = {} }
    m.bad = (y:isnan() | y:isinf()):sum():item()
    m.mean, m.std, m.max = y:mean():item(), y:std({ correction = 0 }):item(), y:abs():max():item()
    if SATURATED[kind] then m.saturated = SATURATED[kind](y):to("f64"):mean():item() end
    if OFF[kind] then
      local units = by_unit(y)
      m.units = units:size(2)
      local alive = units:ne(0):any(1)
      for i, on in ipairs(alive:totable()) do
        if not on then m.dead[#m.dead + 1] = i end
      end
    end
    return m
  end)
end

-- The root of the mean square: a norm that does not grow with the number of elements.
function measure.rms(t)
  return nb.no_grad(function()
    return t:numel() == 0 and 0.0 or t:detach():to("f64"):square():mean():sqrt():item()
  end)
end

return measure
