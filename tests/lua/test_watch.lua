-- SPDX-License-Identifier: MIT
-- inspect.watch records what flows through a net while it trains.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn, optim, inspect = nb.nn, nb.optim, nb.inspect

local T = {}

local function train(net, steps)
  local opt, loss = optim.SGD(net:parameters(), { lr = 0.1 }), nn.MSELoss()
  local x, y = nb.randn(8, 3), nb.randn(8, 1)
  for _ = 1, steps do
    opt:zero_grad()
    loss(net(x), y):backward()
    opt:step()
  end
  return x
end

function T.test_activations_gradients_and_updates_by_step()
  nb.seed(1)
  local net = nn.Sequential { nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 1) }
  local w = inspect.watch(net)
  local before = net[1].weight:detach():clone()
  train(net, 1)
  local step = w.history[1]
  lu.assertEquals({ #w.history, #step.layers, step.layers[2].path, step.layers[2].kind }, { 1, 3, "2", "Sigmoid" })
  lu.assertTrue(step.layers[2].mean > 0 and step.layers[2].mean < 1 and step.layers[2].saturated < 0.1)
  lu.assertTrue(step.layers[1].grad > 0)
  local moved = nb.no_grad(function() return (net[1].weight - before):norm():item() / before:norm():item() end)
  lu.assertAlmostEquals(step.updates["1.weight"], moved, 1e-6)
  local x = train(net, 4)
  lu.assertEquals({ #w.history, #w:curves("grad")["1"] }, { 5, 5 })
  -- Neither evaluation nor a detached watch records.
  net:eval()(x)
  nb.no_grad(function() net:train()(x) end)
  w:detach()
  train(net, 2)
  lu.assertEquals(#w.history, 5)
  lu.assertStrContains(tostring(w), "watched 5 steps")
end

function T.test_gradients_vanish_towards_the_input_of_a_deep_sigmoid_net()
  nb.seed(2)
  local net = nn.Sequential()
  net[1] = nn.Linear(3, 8)
  for i = 2, 10, 2 do net[i], net[i + 1] = nn.Sigmoid(), nn.Linear(8, i == 10 and 1 or 8) end
  local w = inspect.watch(net)
  train(net, 3)
  w:detach()
  local layers = w.history[3].layers
  lu.assertTrue(layers[1].grad < 1e-2 * layers[#layers].grad)
end

function T.test_bad_input()
  numeric.assert_error({ "needs a net" }, inspect.watch, 3)
  lu.assertStrContains(tostring(inspect.watch(nn.ReLU()):detach()), "nothing seen yet")
end

return T
