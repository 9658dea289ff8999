-- SPDX-License-Identifier: MIT
-- inspect.watch records what flows through a net while it trains.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local pictures = require "pictures"
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
  lu.assertEquals({ #w.history, #w:series("grad")["1"] }, { 5, 5 })
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

function T.test_gradients_of_weights_are_those_that_the_optimizer_sees()
  local net = nn.Sequential { nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1) }
  local w = inspect.watch(net)
  local x = nb.randn(8, 3)
  net(x):sum():backward()
  net(x):square():sum():backward()  -- adds to the first
  local function rms(t) return t:norm():item() / math.sqrt(t:numel()) end
  local weight = net[1].weight
  local history, size = w.history, rms(weight.grad)
  local first = nb.grad(net:eval()(x):sum(), weight)
  net:train()
  lu.assertAlmostEquals(history[1].layers[1].weight_grad, rms(first), 1e-6)
  lu.assertAlmostEquals(history[2].layers[1].weight_grad, size, 1e-6)
  lu.assertAlmostEquals(w:series("weight_grad")["1"][2], size, 1e-6)
  lu.assertNil(w.history[1].layers[2].weight_grad)  -- Tanh has none
  w:detach()
  net(x):sum():backward()
  lu.assertEquals(#w.history, 2)
  lu.assertAlmostEquals(w.history[2].gradients["1.weight"], size, 1e-6)
end

function T.test_a_gradient_that_is_only_asked_for_is_not_the_steps()
  nb.seed(6)
  local net = nn.Sequential { nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1) }
  local w, x = inspect.watch(net), nb.randn(8, 3)
  local J = net(x):square():sum()
  J:backward { retain_graph = true }
  nb.grad(J * 100, net[1].weight)
  local weight = net[1].weight
  lu.assertAlmostEquals(w.history[1].gradients["1.weight"],
    weight.grad:norm():item() / math.sqrt(weight:numel()), 1e-6)
end

function T.test_only_every_nth_step_is_looked_at()
  nb.seed(4)
  local net = nn.Sequential { nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 1) }
  local w = inspect.watch(net, { every = 3 })
  local before = net[1].weight:detach():clone()
  train(net, 1)
  local moved = nb.no_grad(function() return (net[1].weight - before):norm():item() / before:norm():item() end)
  train(net, 6)
  w:detach()
  lu.assertEquals({ #w.history, w.history[2].number, w.history[3].number }, { 3, 4, 7 })
  -- The update is that of the step itself, not of the three.
  lu.assertAlmostEquals(w.history[1].updates["1.weight"], moved, 1e-6)
  lu.assertNotNil(w.history[3].gradients["1.weight"])
  lu.assertStrMatches(tostring(w:curves("grad")), ".*2 +4 +6 *\n.*")  -- the axis counts all steps
  numeric.assert_error({ "inspect.watch", "every" }, inspect.watch, net, { every = 0 })
end

-- Against the plain operators, of values far from 0, of views, of what is not finite.
function T.test_measures()
  local measure = require "nablua.inspect.measure"
  nb.seed(5)
  for _, t in ipairs { nb.randn(7, 300), nb.randn(7, 300, { dtype = "f64" }) * 3 + 1e6, nb.randn(40, 9).T,
    nb.randn(3, 5, 4, 4), nb.randn(1), nb.arange(5, { dtype = "i64" }) } do
    local m, d = measure.output("ReLU", t), t:to("f64")
    lu.assertAlmostEquals(m.mean, d:mean():item(), 1e-9 * math.max(1, m.max))
    lu.assertAlmostEquals(m.std, d:std({ correction = 0 }):item(), 1e-6)
    lu.assertEquals({ m.max, m.bad }, { d:abs():max():item(), 0 })
    lu.assertAlmostEquals(measure.rms(t), math.sqrt(d:square():mean():item()), 1e-9 * math.max(1, m.max))
    lu.assertAlmostEquals(measure.rms(t, t, -1), 0, 1e-12)
  end
  local bad = measure.output("Tanh", nb.tensor { 1, 0 / 0, 0.5, -math.huge })
  lu.assertEquals({ bad.bad, bad.mean ~= bad.mean, bad.saturated }, { 2, true, 0.5 })
  local y = nb.zeros(4, 3, 2)
  y[2][3][1] = 5
  local off = measure.output("ReLU", y)
  lu.assertEquals({ off.dead, off.units }, { { 1, 2 }, 3 })
end

function T.test_a_watch_is_a_picture()
  nb.seed(3)
  local net = nn.Sequential { nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 1) }
  local w = inspect.watch(net)
  local live = w:curves()
  lu.assertStrContains(tostring(live), "no data")
  for n = 1, 3 do
    train(net, 1)
    live:update()
    lu.assertStrContains(tostring(live), "|∂J/∂W| by layer")
    lu.assertStrContains(tostring(live), ("1 Linear  %.3g"):format(w:series("weight_grad")["1"][n]):sub(1, 12))
  end
  for _, p in ipairs { w:curves("grad"), w:curves("saturated", { title = "σ" }), w:ridgeline(),
    w:ridgeline("gradients") } do
    lu.assertStrContains(tostring(p), "2 Sigmoid")
  end
  local bundle = getmetatable(w).__display(w, { rich = true, width = 90, color = false })
  for _, words in ipairs { "|∂J/∂W|", "activations", "watched 3 steps" } do
    lu.assertStrContains(bundle["text/plain"], words)
  end
  for _, line in ipairs(pictures.lines(bundle["text/plain"])) do lu.assertTrue(utf8.len(line) <= 90, line) end
  local drawing = bundle["image/svg+xml"]
  if not drawing then return lu.assertStrContains(bundle["text/html"], "watched 3 steps") end
  pictures.check_xml(drawing)
  lu.assertStrContains(drawing, "3 Linear")
end

function T.test_values_that_are_not_finite_are_drawn_as_far_as_they_can_be()
  local net = nn.Sequential { nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1) }
  local w = inspect.watch(net)
  nn.mse(net(nb.full({ 2, 3 }, 0 / 0)), nb.zeros(2, 1)):backward()
  local shown = getmetatable(w).__display(w, { width = 20 })["text/plain"]
  lu.assertStrContains(shown, "not finite")
  tostring(w:ridgeline("gradients"))
end

function T.test_bad_input()
  local watched = inspect.watch(nn.Sequential { nn.ReLU() })
  numeric.assert_error({ "w:curves", "must be one of", "depth" }, watched.curves, watched, "depth")
  numeric.assert_error({ "needs a watch", "3" }, watched.ridgeline, 3)
  nn.Sequential { nn.ReLU() }(nb.ones(2))
  lu.assertStrContains(tostring(watched), "nothing seen yet")
  watched:detach()
  numeric.assert_error({ "needs a net" }, inspect.watch, 3)
  lu.assertStrContains(tostring(inspect.watch(nn.ReLU()):detach()), "nothing seen yet")
end

-- The history is thinned out where it is full: the first and the last step stay, and equal steps lie between.
function T.test_long_runs_keep_a_bounded_history()
  local net = nn.Linear(1, 1)
  local w = inspect.watch(net, { every = 2 })
  local x = nb.ones(1, 1)
  local function steps(n)
    for _ = 1, n do net(x):sum():backward() end
  end
  steps(3000)
  lu.assertEquals(#w.history, 1500)
  lu.assertStrContains(tostring(w), "watched 1500 steps\n")
  local history = w.history
  steps(13003)
  lu.assertTrue(#w.history > 900 and #w.history <= 2000)
  lu.assertIs(w.history, history)
  local stride = history[2].number - history[1].number
  lu.assertEquals({ history[1].number, stride }, { 1, 16 })
  for i = 2, #history - 1 do lu.assertEquals(history[i].number, 1 + (i - 1) * stride) end
  lu.assertEquals(history[#history].number, 16003)
  lu.assertStrContains(tostring(w), ("watched 8002 steps, of which the history holds %d, one in 8"):format(#history))
  lu.assertEquals(#w:series("weight_grad").net, #history)
end

return T
