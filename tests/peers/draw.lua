-- SPDX-License-Identifier: MIT
-- Random choices of the recording programs: one of a list, and a tensor's place in memory.
local numeric = require "numeric"

local draw = {}

function draw.pick(list)
  return list[math.random(#list)]
end

local function transposed(t)
  if t:dim() < 2 then return t end
  local order, back = {}, {}
  for d = 1, t:dim() do order[d] = t:dim() + 1 - d end
  for i, d in ipairs(order) do back[d] = i end
  return t:permute(order):contiguous():permute(back)
end

local function as_it_is(t)
  return t
end

local layouts = { as_it_is, numeric.strided, transposed }

-- The tensor's values in row-major order, with gaps, or transposed.
function draw.laid_out(t)
  return draw.pick(layouts)(t)
end

return draw
