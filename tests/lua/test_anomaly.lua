-- SPDX-License-Identifier: MIT
-- nb.anomaly: the first NaN or infinity is an error where it is born, which names operator, layer, line and operands.
local lu = require "luaunit"
local nb = require "nablua"
local nn = nb.nn

local T = {}

function T.tearDown()
  nb.anomaly(false)
end

local function here(offset)
  return debug.getinfo(2, "l").currentline + (offset or 0)
end

local f64 = { dtype = "f64" }

-- Operator, what the message must hold, the line of the birth (filled by the function), the program.
local BIRTHS = {
  { "log", "NaN", function() return here(), nb.tensor { -1, 1 }:log() end },
  { "log", "infinite", function() return here(), nb.zeros(2):log() end },
  { "sqrt", "NaN", function() return here(), nb.tensor { -4 }:sqrt() end },
  { "div", "infinite", function() return here(), nb.ones(2) / 0 end },
  { "div", "NaN", function() return here(), nb.zeros(2) / nb.zeros(2) end },
  { "exp", "infinite", function() return here(), nb.tensor { 100 }:exp() end },
  { "exp", "in 700..800", function() return here(), nb.tensor({ 700, 800 }, f64):exp() end },
  { "mul", "infinite", function() return here(), nb.tensor { 1e30 } * nb.tensor { 1e30 } end },
  { "add", "infinite", function() return here(), nb.tensor { 3e38 } + nb.tensor { 3e38 } end },
  { "square", "infinite", function() return here(), nb.tensor { 1e25 }:square() end },
  { "matmul", "2×2", function() return here(), nb.full({ 2, 2 }, 1e20):matmul(nb.full({ 2, 2 }, 1e20)) end },
  { "sum", "infinite", function() return here(), nb.full({ 10 }, 3e38):sum() end },
  { "reciprocal", "infinite", function() return here(), nb.zeros(1):reciprocal() end },
  { "rsqrt", "infinite", function() return here(), nb.zeros(1):rsqrt() end },
  { "pow", "NaN", function() return here(), nb.tensor { -2 } ^ 0.5 end },
  { "acos", "NaN", function() return here(), nb.tensor { 1.5 }:acos() end },
  { "log1p", "infinite", function() return here(), nb.tensor { -1 }:log1p() end },
  { "expm1", "infinite", function() return here(), nb.tensor { 200 }:expm1() end },
  { "add", "NaN", function()
    local t = nb.tensor { -1 / 0 }
    return here(1),
      t + nb.tensor { 1 / 0 }
  end },
  { "sinh", "infinite", function() return here(), nb.tensor { 200 }:sinh() end },
}

-- The message of f with anomalies looked for, which names a birth's line, operator and operands.
local function birth_message(birth, f, ...)
  local line = birth[3]()
  nb.anomaly(true)
  local ok, message = pcall(f, ...)
  nb.anomaly(false)
  lu.assertFalse(ok, birth[1])
  lu.assertStrContains(message, ("test_anomaly.lua:%d: %s: anomaly"):format(line, birth[1]))
  lu.assertStrContains(message, birth[2])
  lu.assertStrContains(message, "operands: ")
  return message
end

function T.test_births_are_named_with_operator_line_and_ranges()
  lu.assertEquals(#BIRTHS, 20)
  for _, birth in ipairs(BIRTHS) do
    lu.assertNotStrContains(birth_message(birth, birth[3]), "in layer")
  end
end

function T.test_births_inside_a_net_are_named_with_the_layer_too()
  for _, birth in ipairs(BIRTHS) do
    local block = nn.Sequential { nn.ReLU(), nn.Lambda(function() return (select(2, birth[3]())) end) }
    local net = nn.Sequential { nn.Linear(2, 2), block, nn.Linear(2, 1) }
    lu.assertStrContains(birth_message(birth, net, nb.ones(1, 2)), "in layer 2.2, Lambda")
  end
end

function T.test_the_layer_is_named()
  local net = nn.Sequential { nn.Linear(2, 2), nn.Lambda(function(x) return (x * 0 - 1):log() end), nn.Linear(2, 1) }
  nb.anomaly(true)
  local ok, message = pcall(net, nb.ones(1, 2))
  lu.assertFalse(ok)
  lu.assertStrContains(message, "log: anomaly")
  lu.assertStrContains(message, "in layer 2, Lambda")
end

function T.test_the_birth_is_told_from_what_came_in()
  nb.anomaly(true)
  local ok, message = pcall(function() return nb.tensor { 0 / 0, 1 } * 2 end)
  lu.assertFalse(ok)
  lu.assertStrContains(message, "already holds NaN")
  -- Infinities that are meant pass: masks of attention, limits.
  local scores = nb.zeros(2, 2):masked_fill(nb.eye(2):gt(0), -math.huge):softmax(-1)
  lu.assertEquals(scores:totable(), { { 0, 1 }, { 1, 0 } })
  lu.assertEquals(nb.full({ 1 }, math.huge):minimum(3):totable(), { 3 })
end

function T.test_births_in_backward_name_the_forward_operator()
  nb.anomaly(true)
  local w = nb.tensor({ 0, 4 }, { requires_grad = true, name = "w" })
  local line = here(1)
  local root = w:sqrt()
  local ok, message = pcall(function() root:sum():backward() end)
  lu.assertFalse(ok)
  lu.assertStrContains(message, "rule of sqrt")
  lu.assertStrContains(message, ("test_anomaly.lua:%d"):format(line))
  lu.assertStrContains(message, "x (w)")
  lu.assertNil(w.grad)
end

function T.test_healthy_training_passes_and_off_is_off()
  lu.assertFalse(nb.anomaly())
  lu.assertTrue(nb.anomaly(true))
  nb.seed(1)
  local net = nn.Sequential { nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3) }
  local opt = nb.optim.Adam(net:parameters(), { lr = 0.01 })
  for _ = 1, 5 do
    opt:zero_grad()
    nn.cross_entropy(net(nb.randn(6, 4)), nb.randint(1, 3, 6)):backward()
    opt:step()
  end
  nb.anomaly(false)
  lu.assertEquals(nb.tensor { -1 }:log():isnan():totable(), { true })
  local ok, message = pcall(nb.anomaly, "yes")
  lu.assertFalse(ok)
  lu.assertStrContains(message, "true or false")
end

function T.test_all_that_is_not_finite_is_counted()
  nb.anomaly(true)
  local x = nb.tensor({ 0, 0, 1, 4 }, { requires_grad = true })
  lu.assertErrorMsgContains("∂J/∂x has 2 of 4", function() x:sqrt():sum():backward() end)
end

return T
