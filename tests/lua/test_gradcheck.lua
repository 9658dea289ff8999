-- SPDX-License-Identifier: MIT
-- inspect.gradcheck finds wrong gradients of every common kind, and none where they are right.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
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

function T.test_all_activations_layers_and_losses_pass()
  nb.seed(21)
  for _, f in ipairs { "sigmoid", "tanh", "elu", "gelu", "silu", "softplus", "exp", "sin", "square", "erf", "expm1" } do
    local c = inspect.gradcheck(function(x) return x[f](x) end, { nb.randn(2, 3) })
    lu.assertTrue(c.ok, f .. "\n" .. tostring(c))
  end
  local nets = {
    nn.Sequential { nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3) },
    nn.Sequential { nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Sigmoid(), nn.LayerNorm(5), nn.Linear(5, 3) },
    nn.Sequential { nn.Linear(4, 8), nn.Dropout(0.5), nn.SiLU(), nn.Linear(8, 3), nn.LogSoftmax() },
    nn.Sequential { function(x) return x:view(6, 1, 2, 2) end, nn.Conv2d(1, 2, 2, { padding = 1 }), nn.GELU(),
      nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 3) },
  }
  for i, net in ipairs(nets) do
    net:to("f64")
    local x = nb.randn(6, 4, { dtype = "f64" })
    local y = nb.randn(6, 3, { dtype = "f64" })
    local c = inspect.gradcheck(function() return nn.mse(net(x), y) end, net:parameters())
    lu.assertTrue(c.ok, ("net %d\n%s"):format(i, tostring(c)))
  end
  local labels, probabilities = nb.randint(1, 3, 6), nb.rand(6, 3, { dtype = "f64" })
  for name, loss in pairs {
    cross_entropy = function(z) return nn.cross_entropy(z, labels) end,
    bce_with_logits = function(z) return nn.bce_with_logits(z, probabilities) end,
    bce = function(z) return nn.bce(z:sigmoid(), probabilities) end,
    mse = function(z) return nn.mse(z, probabilities) end,
    kl_div = function(z) return nn.kl_div(z:log_softmax(2), probabilities) end,
    huber = function(z) return nn.huber(z, probabilities) end,
    nll = function(z) return nn.nll(z:log_softmax(2), labels) end,
  } do
    local c = inspect.gradcheck(loss, { nb.randn(6, 3) })
    lu.assertTrue(c.ok, name .. "\n" .. tostring(c))
  end
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

return T
