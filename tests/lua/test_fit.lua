-- SPDX-License-Identifier: MIT
-- nn.fit against the loop it stands for, its history, and what it leaves behind when it is stopped.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn, optim, data = nb.nn, nb.optim, nb.data

local T = {}

local assert_error = numeric.assert_error

function T.setUp() nb.seed(11) end

-- Ten points on a line.
local function line()
  local x = nb.linspace(-1, 1, 10):view(10, 1)
  return x, x * 3 - 1
end

local function fit_line(options)
  local x, y = line()
  local net = nn.Linear(1, 1)
  local opt = optim.SGD(net:parameters(), { lr = 0.1 })
  return net, nn.fit(net, nn.MSELoss(), opt, { x, y }, options)
end

function T.test_fit_is_the_loop_written_out()
  local x, y = line()
  nb.seed(5)
  local net = nn.Linear(1, 1)
  local opt, loss = optim.SGD(net:parameters(), { lr = 0.1 }), nn.MSELoss()
  local batches = data.batches { x, y, size = 4 }
  local want = {}
  for epoch = 1, 3 do
    local sum = 0
    for bx, by in batches do
      opt:zero_grad()
      local J = loss(net(bx), by)
      J:backward()
      opt:step()
      sum = sum + J:item() * #bx
    end
    want[epoch] = sum / 10
  end
  nb.seed(5)
  local twin = nn.Linear(1, 1)
  opt = optim.SGD(twin:parameters(), { lr = 0.1 })
  local history = nn.fit(twin, loss, opt, batches, { epochs = 3, progress = false })
  lu.assertEquals(twin.weight:item(), net.weight:item())
  lu.assertEquals(twin.bias:item(), net.bias:item())
  for epoch = 1, 3 do lu.assertAlmostEquals(history.loss[epoch], want[epoch], 1e-9) end
  lu.assertEquals(#history.seconds, 3)
end

function T.test_it_finds_a_line()
  nb.seed(1)
  local net = fit_line { epochs = 200, size = 5, progress = false }
  lu.assertAlmostEquals(net.weight:item(), 3, 1e-3)
  lu.assertAlmostEquals(net.bias:item(), -1, 1e-3)
end

function T.test_metrics_are_means_over_samples()
  local x = nb.tensor { { 3, 0 }, { 0, 2 }, { 1, 0 } }
  local y = nb.tensor { 1, 1, 1 }
  local net = nn.Lambda(function(v) return v end)
  local scale = nb.ones(1, { requires_grad = true })
  local opt = optim.SGD({ scale }, { lr = 0 })
  local history = nn.fit(nn.Sequential(nn.Lambda(function(v) return v * scale end), net), nn.CrossEntropyLoss(), opt,
    { x, y }, { size = 2, shuffle = false, progress = false, valid = { x[{ { 1, 2 } }], y[{ { 1, 2 } }] },
      metrics = { "accuracy", largest = function(output) return output:max() end } })
  lu.assertAlmostEquals(history.accuracy[1], 2 / 3, 1e-9)
  lu.assertAlmostEquals(history.valid_accuracy[1], 1 / 2, 1e-9)
  lu.assertAlmostEquals(history.largest[1], (2 * 3 + 1) / 3, 1e-6)
  lu.assertAlmostEquals(history.valid_loss[1], (math.log(1 + math.exp(-3)) + math.log(1 + math.exp(2))) / 2, 1e-6)
end

-- A net without change: accuracy of its outputs.
local function accuracy_of(loss, output, target)
  local scale = nb.ones(1, { requires_grad = true })
  local net = nn.Lambda(function(v) return v * scale end)
  return nn.fit(net, loss, optim.SGD({ scale }, { lr = 0 }), { output, target },
    { metrics = { "accuracy" }, progress = false }).accuracy[1]
end

function T.test_accuracy_knows_logits_from_probabilities()
  local y = nb.tensor { { 1 }, { 0 }, { 1 }, { 0 } }
  lu.assertEquals(accuracy_of(nn.BCEWithLogitsLoss(), nb.tensor { { 0.2 }, { 0.3 }, { 5 }, { -1 } }, y), 0.75)
  lu.assertEquals(accuracy_of(nn.BCELoss(), nb.tensor { { 0.2 }, { 0.3 }, { 0.9 }, { 0.1 } }, y), 0.75)
  lu.assertEquals(accuracy_of(nn.HingeLoss(), nb.tensor { 0.2, 0.3, -0.9, -1 }, nb.tensor { 1, -1, -1, -1 }), 0.75)
  lu.assertEquals(accuracy_of(nn.CrossEntropyLoss(), nb.tensor { { 0.2, 0.3 }, { 5, 1 } },
    nb.tensor { { 0, 1 }, { 0, 1 } }), 0.5)
end

function T.test_modes_come_back()
  local modes = {}
  local probe = nn.Lambda(function(v) return v end)
  local net = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.1), probe)
  local Watch = nn.module("Watch", function(self) self.net = net end)
  function Watch:forward(x)
    modes[#modes + 1] = self.training
    return self.net(x)
  end
  local watch = Watch()
  watch:eval()
  net[2]:train()
  local x, y = line()
  nn.fit(watch, nn.MSELoss(), optim.SGD(net:parameters()), { x, y }, { valid = { x, y }, progress = false })
  lu.assertEquals(modes, { true, false })
  lu.assertFalse(watch.training)
  lu.assertTrue(net[2].training)
end

function T.test_an_error_keeps_the_net_and_clears_up()
  local x, y = line()
  local net = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0))
  net:eval()
  local before = net[1].weight:item()
  local calls = 0
  local function loss(output, target)
    calls = calls + 1
    if calls == 3 then error "stop here" end
    return nn.mse(output, target)
  end
  local opt = optim.SGD(net:parameters(), { lr = 0.1 })
  assert_error({ "stop here" }, nn.fit, net, loss, opt, { x, y }, { size = 2, progress = false })
  lu.assertNotEquals(net[1].weight:item(), before)
  lu.assertFalse(net[2].training)
  lu.assertNil(net[1].weight.grad)
  lu.assertTrue(nb.grad_enabled())
end

function T.test_a_callback_may_end_the_training()
  local seen = {}
  local _, history = fit_line { epochs = 9, progress = false, callback = function(at)
    seen[#seen + 1] = at.epoch
    lu.assertEquals(at.loss, at.history.loss[at.epoch])
    return at.epoch == 3
  end }
  lu.assertEquals(seen, { 1, 2, 3 })
  lu.assertEquals(#history.loss, 3)
end

function T.test_one_line_for_each_epoch()
  local lines, keep = {}, print
  rawset(_G, "print", function(text) lines[#lines + 1] = text end)
  local ok, err = pcall(fit_line, { epochs = 2 })
  rawset(_G, "print", keep)
  lu.assertTrue(ok, err)
  lu.assertEquals(#lines, 2)
  lu.assertStrMatches(lines[2], "epoch 2/2  loss %d+%.%d+  %d+%.%d s")
end

function T.test_patience_ends_the_training_and_the_best_is_kept()
  local x, y = line()
  local net = nn.Linear(1, 1)
  local opt = optim.SGD(net:parameters(), { lr = 0.1 })
  local seen, best = {}, nil
  -- The rate turns round after epoch 4: from there on the loss rises.
  local history = nn.fit(net, nn.MSELoss(), opt, { x, y }, { epochs = 50, shuffle = false, patience = 3, keep = "best",
    valid = { x, y }, progress = false, callback = function(at)
      seen[at.epoch] = net.weight:item()
      if at.epoch == 4 then
        opt.lr, opt.maximize = 0.05, true
        best = net.weight:item()
      end
    end })
  lu.assertEquals(#seen, 7)
  lu.assertEquals(net.weight:item(), best)
  lu.assertTrue(history.valid_loss[7] > history.valid_loss[4])
end

function T.test_a_schedule_is_stepped_for_epochs_or_batches()
  local x, y = line()
  for per, want in pairs { epoch = 0.5 ^ 3, batch = 0.5 ^ 6 } do
    local net = nn.Linear(1, 1)
    local opt = optim.SGD(net:parameters(), { lr = 1e-3 })
    nn.fit(net, nn.MSELoss(), opt, { x, y }, { epochs = 3, size = 5, progress = false, schedule_per = per,
      schedule = optim.StepLR(opt, { step_size = 1, gamma = 0.5 }) })
    lu.assertAlmostEquals(opt.lr, 1e-3 * want, 1e-12)
  end
  local net = nn.Linear(1, 1)
  local opt, other = optim.SGD(net:parameters(), { lr = 1 }), optim.SGD(net:parameters(), { lr = 1 })
  assert_error({ "another optimizer" }, nn.fit, net, nn.MSELoss(), opt, { x, y },
    { schedule = optim.StepLR(other, { step_size = 1 }) })
end

function T.test_gradients_are_clipped_together()
  local x = nb.tensor { { 3, 4 } }
  local net = nn.Linear(2, 1, { bias = false })
  local before = net.weight:detach():clone()
  -- The gradient is (30, 40): clipped to length 1 the step is (0.6, 0.8).
  nn.fit(net, function(output) return output:sum() * 10 end, optim.SGD(net:parameters(), { lr = 1 }), { x, x },
    { clip = 1, progress = false })
  local step = numeric.flat(before - net.weight:detach())
  lu.assertAlmostEquals(step[1], 0.6, 1e-4)
  lu.assertAlmostEquals(step[2], 0.8, 1e-4)
end

function T.test_lbfgs_asks_for_the_loss_itself()
  local x, y = line()
  local net = nn.Linear(1, 1)
  local history = nn.fit(net, nn.MSELoss(), optim.LBFGS(net:parameters(), { lr = 0.5 }), { x, y },
    { epochs = 15, size = 10, progress = false })
  lu.assertAlmostEquals(net.weight:item(), 3, 1e-3)
  lu.assertTrue(history.loss[1] > history.loss[15])
end

function T.test_a_loss_that_is_no_number_stops_before_the_step()
  local x, y = line()
  local net = nn.Linear(1, 1)
  local opt = optim.SGD(net:parameters(), { lr = 0.1 })
  local calls, before = 0, nil
  local function loss(output, target)
    calls = calls + 1
    before = { net.weight:item(), net.bias:item() }
    return nn.mse(output, target) * (calls == 5 and 0 / 0 or 1)
  end
  assert_error({ "NaN", "epoch 2", "batch 2" }, nn.fit, net, loss, opt, { x, y }, { epochs = 3, size = 4,
    progress = false })
  lu.assertEquals({ net.weight:item(), net.bias:item() }, before)
  assert_error({ "one number", "10×1" }, nn.fit, net, function(output) return output end, opt, { x, y },
    { progress = false })
end

function T.test_batches_of_several_inputs()
  nb.seed(3)
  local a, b = nb.randn(8, 2), nb.randn(8, 3)
  local Two = nn.module("Two", function(self) self.fc = nn.Linear(5, 1) end)
  function Two:forward(x, z) return self.fc(nb.cat({ x, z }, 2)) end
  local net = Two()
  local opt, y = optim.SGD(net:parameters(), { lr = 0.1 }), a:sum(2, { keepdim = true })
  local history = nn.fit(net, nn.MSELoss(), opt, { a, b, y }, { epochs = 100, size = 4,
    progress = false })
  lu.assertTrue(history.loss[100] < 1e-3)
end

function T.test_a_curve_of_the_losses()
  local curve, real = nil, nb.plot.curve
  nb.plot.curve = function(...)
    curve = real(...)
    return curve
  end
  local x, y = line()
  local ok, _, history = pcall(fit_line, { epochs = 3, plot = true, progress = false, valid = { x, y } })
  nb.plot.curve = real
  lu.assertTrue(ok)
  local series = {}
  for _, s in ipairs(curve.data) do series[s.name] = s.rows or s.y:totable() end
  lu.assertEquals(series, { loss = history.loss, valid_loss = history.valid_loss })
end

function T.test_arguments_are_checked()
  local x, y = line()
  local net = nn.Linear(1, 1)
  local opt, loss = optim.SGD(net:parameters()), nn.MSELoss()
  assert_error({ "nn.fit", "net must be a module" }, nn.fit, 3, loss, opt, { x, y })
  assert_error({ "nn.fit", "call the class" }, nn.fit, net, nn.MSELoss, opt, { x, y })
  assert_error({ "nn.fit", "the order is nn.fit(net, loss, opt" }, nn.fit, net, { x, y }, { epochs = 2 })
  assert_error({ "nn.fit", "opt must be an optimizer" }, nn.fit, net, loss, {}, { x, y })
  assert_error({ "nn.fit", "train must be {x, y}" }, nn.fit, net, loss, opt, { x })
  assert_error({ '"epoch"', '"epochs"' }, nn.fit, net, loss, opt, { x, y }, { epoch = 3 })
  assert_error({ "metrics", '"acuracy"' }, nn.fit, net, loss, opt, { x, y }, { metrics = { "acuracy" } })
  lu.assertEquals(#nn.fit(net, loss, opt, { x, y }, { progress = false }).loss, 1)
end

-- Nothing to train or to measure on would be NaN in the history.
function T.test_epochs_without_a_batch_are_named()
  local net, x, y = nn.Linear(1, 1), line()
  local opt, loss = optim.SGD(net:parameters()), nn.MSELoss()
  local none = { nb.zeros(0, 1), nb.zeros(0, 1) }
  assert_error({ "train", "no batch in epoch 1" }, nn.fit, net, loss, opt, none, { progress = false })
  assert_error({ "valid", "no batch in epoch 1" }, nn.fit, net, loss, opt, { x, y }, { valid = none, progress = false })
  local given = false
  local function once()
    if given then return nil end
    given = true
    return x, y
  end
  assert_error({ "train", "no batch in epoch 2", "begin anew" }, nn.fit, net, loss, opt, once,
    { epochs = 3, progress = false })
end

function T.test_accuracy_of_one_score_needs_targets_of_two_classes()
  local net, x = nn.Linear(1, 1), nb.ones(4, 1)
  local opt = optim.SGD(net:parameters())
  assert_error({ "accuracy", "0 and 1", "2" }, nn.fit, net, nn.MSELoss(), opt, { x, x * 2 },
    { metrics = { "accuracy" }, progress = false })
end

return T
