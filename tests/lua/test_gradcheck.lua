-- SPDX-License-Identifier: MIT
-- inspect.gradcheck finds wrong gradients of every common kind, and none where they are right.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"
local every = require "every_layer"
local nn, inspect = nb.nn, nb.inspect

local T = {}

-- A function whose gradient is spoilt: the value is f's, the gradient that of `wrong`.
local function spoilt(f, wrong)
  return function(...)
    local value, other = f(...), wrong(...)
    return other - other:detach() + value:detach()
  end
end

function T.test_a_flipped_sign_fails()
  local c = inspect.gradcheck(spoilt(function(x) return x:square() end, function(x) return -x:square() end),
    { nb.randn(3, 2) })
  lu.assertFalse(c.ok)
  lu.assertStrContains(tostring(c), "wrong sign")
  lu.assertEquals(#c.worst, 5)
  lu.assertAlmostEquals(c.worst[1].tape, -c.worst[1].numeric, 1e-6)
end

function T.test_a_missing_factor_fails()
  local c = inspect.gradcheck(spoilt(function(x) return x:square() end, function(x) return x:square() * 0.5 end),
    { nb.randn(4) })
  lu.assertFalse(c.ok)
  lu.assertStrContains(tostring(c), "0.5 times")
end

function T.test_a_transposed_weight_gradient_fails()
  local x = nb.randn(3, 3, { dtype = "f64" })
  local c = inspect.gradcheck(spoilt(function(w) return x:matmul(w) end, function(w) return x:matmul(w.T) end),
    { nb.randn(3, 3) })
  lu.assertFalse(c.ok)
  lu.assertNil(c.hint)
end

function T.test_a_gradient_that_is_lost_fails()
  local c = inspect.gradcheck(function(x) return x * 0 + x:detach():square() end, { nb.randn(4) })
  lu.assertFalse(c.ok)
  lu.assertStrContains(c.hint, "0 throughout")
  lu.assertFalse(inspect.gradcheck(function(x) return x / 0 end, { nb.zeros(1) }).ok)
end

-- Runs gradcheck in a fixed random state; the failures by name, in one assertion.
local function assert_all_pass(checks)
  local failures = {}
  for _, check in ipairs(checks) do
    nb.seed(21)
    local ok, c = pcall(check[2])
    if not ok or not c.ok or c.checked == 0 then failures[#failures + 1] = check[1] .. ": " .. tostring(c) end
  end
  lu.assertEquals(#failures, 0, "\n" .. table.concat(failures, "\n"))
end

function T.test_every_operator_passes()
  local checks = {}
  for _, row in ipairs(native.rows()) do
    for _, case in ipairs(row.has_backward and numeric.cases(row) or {}) do
      checks[#checks + 1] = { ("%s [%s]"):format(row.name, case), function()
        local args, made = numeric.arguments(row, case)
        local weights = {}
        return inspect.gradcheck(function() return numeric.scalar_of(row, args, weights) end, made)
      end }
    end
  end
  lu.assertTrue(#checks > 100)
  assert_all_pass(checks)
end

-- Every name in nn that begins with a capital and that `choose` takes must be in the list, so that none is forgotten.
local function assert_complete(list, choose)
  for name in pairs(nn) do
    if name:find("^%u") and choose(name) then lu.assertNotNil(list[name], name .. " has no check here") end
  end
end

local f64 = { dtype = "f64" }

local LAYERS, OTHERS = every.layers, every.others

function T.test_every_layer_passes()
  local checks = {}
  for name, layer in pairs(LAYERS) do
    checks[#checks + 1] = { name, function()
      local m = layer[1]():to("f64")
      local x = nb.randn({ table.unpack(layer, 2) }, f64)
      return inspect.gradcheck(function(given) return (m(given)) end, { x, table.unpack(m:parameters()) })
    end }
  end
  for name, layer in pairs(OTHERS) do
    checks[#checks + 1] = { name, function()
      local m = layer[1]():to("f64")
      return inspect.gradcheck(function() return layer[2](m) end, m:parameters())
    end }
  end
  assert_all_pass(checks)
end

function T.test_every_loss_passes()
  nb.seed(20)
  local labels, shares, numbers = nb.randint(1, 3, 6), nb.rand(6, 3, f64), nb.randn(6, 3, f64)
  local signs = nb.randn(6, 3, f64):sign()
  local losses = {
    MSELoss = { numbers }, L1Loss = { numbers }, HuberLoss = { numbers }, HingeLoss = { signs },
    BCELoss = { shares, function(z) return z:sigmoid() end }, BCEWithLogitsLoss = { shares },
    CrossEntropyLoss = { labels }, NLLLoss = { labels, function(z) return z:log_softmax(2) end },
    KLDivLoss = { shares, function(z) return z:log_softmax(2) end },
    SmoothL1Loss = { numbers }, PoissonNLLLoss = { shares }, SoftMarginLoss = { signs }, HingeEmbeddingLoss = { signs },
    GaussianNLLLoss = { numbers, nil, function(loss, z) return loss(z, numbers, z:exp()) end },
    MarginRankingLoss = { signs, nil, function(loss, z) return loss(z, z:sin(), signs) end },
    CosineEmbeddingLoss = { signs, nil, function(loss, z)
      return loss(z, z:sin(), signs:narrow(2, 1, 1):squeeze(2))
    end },
    TripletMarginLoss = { numbers, nil, function(loss, z) return loss(z, numbers, z:sin()) end },
    MultiMarginLoss = { labels }, MultiLabelSoftMarginLoss = { shares },
    MultiLabelMarginLoss = {
      nb.tensor { { 1, 0, 0 }, { 3, 1, 0 }, { 0, 1, 2 }, { 2, 2, 0 }, { 1, 2, 3 }, { 2, 0, 1 } } },
    CTCLoss = { labels, nil, function(loss, z)
      return loss(z:view(3, 2, 3):log_softmax(-1), nb.tensor { { 2, 0 }, { 3, 2 } })
    end },
  }
  assert_complete(losses, function(name) return name:find("Loss$") end)
  local checks = {}
  for name, given in pairs(losses) do
    for _, reduction in ipairs { "mean", "sum", "none" } do
      checks[#checks + 1] = { name .. " " .. reduction, function()
        local loss, prepare = nn[name] { reduction = reduction }, given[2] or function(z) return z end
        local call = given[3] or function(f, z) return f(prepare(z), given[1]) end
        return inspect.gradcheck(function(z) return call(loss, z) end, { nb.randn(6, 3) })
      end }
    end
  end
  assert_all_pass(checks)
end

function T.test_values_are_left_as_they_were()
  local w = nb.randn(3, { dtype = "f64", requires_grad = true })
  local before = w:totable()
  inspect.gradcheck(function() return w:square() end, { w })
  lu.assertEquals(w:totable(), before)
  lu.assertNil(w.grad)
end

function T.test_bad_input()
  numeric.assert_error({ "needs a function" }, inspect.gradcheck, 3, {})
  numeric.assert_error({ "table of input tensors" }, inspect.gradcheck, math.sin, {})
  numeric.assert_error({ "input 1 must be a tensor" }, inspect.gradcheck, math.sin, { 3 })
  numeric.assert_error({ "must return a tensor" }, inspect.gradcheck, function() return 1 end, { nb.ones(1) })
  numeric.assert_error({ "does not depend" }, inspect.gradcheck, function() return nb.ones(1) end, { nb.ones(1) })
  numeric.assert_error({ "tolerance" }, inspect.gradcheck, math.sin, { nb.ones(1) }, { tolerance = 1 })
end

function T.test_a_gradient_that_is_larger_everywhere_fails()
  local c = inspect.gradcheck(spoilt(function(x) return x:square() end, function(x) return x:square() * 2 end),
    { nb.rand(4) + 1 })
  lu.assertFalse(c.ok)
  lu.assertStrContains(tostring(c), "2 times")
end

return T
