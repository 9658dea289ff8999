-- SPDX-License-Identifier: MIT
-- Controls without a front end: what ui.interact makes of an example of a value.
local lu = require "luaunit"
local ui = require("nablua").ui

local T = {}

local function slider(v)
  local control = ui.interact(function(x) return x end, { x = v }).children[1]
  return { control.min, control.max, control.value }
end

-- From 0 to twice the number; a whole number moves over whole numbers.
function T.test_a_number_is_a_slider_around_it()
  local limits = { [3] = { 0, 6 }, [0.35] = { 0, 0.7 }, [-2] = { -4, 0 }, [-0.75] = { -1.5, 0 }, [0] = { 0, 2 } }
  for v, want in pairs(limits) do
    want[3] = v
    lu.assertEquals(slider(v), want)
  end
  for _, limit in ipairs(slider(3)) do lu.assertEquals(math.type(limit), "integer") end
end

function T.test_a_pair_gives_the_limits_itself()
  lu.assertEquals(slider { -1, 4 }, { -1, 4, -1 })
  lu.assertEquals(slider { 0.5, 4, value = 2 }, { 0.5, 4, 2 })
end

return T
