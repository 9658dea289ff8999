-- SPDX-License-Identifier: MIT
-- Metrics: by hand, batch by batch as at once, and in nn.fit by their names.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local scratch = require "scratch"
local nn, optim = nb.nn, nb.optim
local metrics = nn.metrics

local T = {}

local assert_error, assert_close = numeric.assert_error, numeric.assert_close

local function of(metric, ...)
  metric:reset()
  metric:update(...)
  return metric:compute()
end

-- Scores whose largest is at the given class.
local function scores_for(guesses, k)
  return nb.one_hot(nb.tensor(guesses), k) + nb.rand(#guesses, k) * 0.1
end

function T.test_classes_by_hand()
  local output, target = scores_for({ 1, 2, 2, 3, 1, 3 }, 4), nb.tensor { 1, 2, 3, 3, 3, 1 }
  lu.assertEquals(of(metrics.ConfusionMatrix(), output, target):totable(),
    { { 1, 0, 1, 0 }, { 0, 1, 0, 0 }, { 1, 1, 1, 0 }, { 0, 0, 0, 0 } })
  lu.assertAlmostEquals(of(metrics.Accuracy(), output, target), 0.5)
  -- Class 4 neither is nor was guessed.
  local p, r = { 1 / 2, 1 / 2, 1 / 2 }, { 1 / 2, 1, 1 / 3 }
  local f, macro = {}, 0
  for k = 1, 3 do
    f[k] = 2 * p[k] * r[k] / (p[k] + r[k])
    macro = macro + f[k] / 3
  end
  assert_close(of(metrics.Precision { average = "none" }, output, target), { p[1], p[2], p[3], 0 })
  assert_close(of(metrics.Recall { average = "none" }, output, target), { r[1], r[2], r[3], 0 })
  lu.assertAlmostEquals(of(metrics.F1Score(), output, target), macro, 1e-12)
  lu.assertAlmostEquals(of(metrics.F1Score { average = "weighted" }, output, target), (2 * f[1] + f[2] + 3 * f[3]) / 6,
    1e-12)
  lu.assertAlmostEquals(of(metrics.Precision { average = "micro" }, output, target), 0.5)
  local top = nb.tensor { { 3, 2, 1 }, { 1, 2, 3 }, { 3, 1, 2 } }
  lu.assertAlmostEquals(of(metrics.Accuracy { top_k = 2 }, top, nb.tensor { 2, 1, 1 }), 2 / 3)
  -- Places: samples × classes × length.
  lu.assertAlmostEquals(of(metrics.Accuracy(), nb.one_hot(nb.tensor { { 1, 2 }, { 3, 3 } }, 3):transpose(2, 3),
    nb.tensor { { 1, 3 }, { 3, 3 } }), 0.75)
end

function T.test_single_scores_by_hand()
  local s, y = nb.tensor { 0.9, 0.6, 0.4, 0.7, 0.2 }, nb.tensor { 1, 0, 1, 1, 0 }
  lu.assertAlmostEquals(of(metrics.Accuracy(), s, y), 3 / 5)
  lu.assertAlmostEquals(of(metrics.Precision(), s, y), 2 / 3)
  lu.assertAlmostEquals(of(metrics.Recall(), s, y), 2 / 3)
  lu.assertAlmostEquals(of(metrics.Recall { threshold = 0.3 }, s, y), 1)
  lu.assertAlmostEquals(of(metrics.F1Score(), s:view(5, 1), y:view(5, 1)), 2 / 3)
  lu.assertAlmostEquals(of(metrics.Accuracy { threshold = 0 }, s - 0.5, y * 2 - 1), 3 / 5)
  -- Pairs in the right order: 0.9 above both, 0.7 above both, 0.4 above 0.2 only.
  lu.assertAlmostEquals(of(metrics.AUROC(), s, y), 5 / 6)
  lu.assertAlmostEquals(of(metrics.AUROC(), nb.tensor { 1, 1, 1, 0 }, nb.tensor { 1, 0, 1, 0 }), 0.75)
  lu.assertTrue(of(metrics.AUROC(), s, nb.ones(5)) ~= of(metrics.AUROC(), s, nb.ones(5)))  -- NaN
  lu.assertAlmostEquals(of(metrics.R2Score(), s, y), 1 - (0.01 + 0.36 + 0.36 + 0.09 + 0.04) / 1.2, 1e-7)
  local far = nb.randn(50, 2, { dtype = "f64" })
  local near = far + nb.randn(50, 2, { dtype = "f64" }) * 0.1
  lu.assertAlmostEquals(of(metrics.R2Score(), near + 1e6, far + 1e6), of(metrics.R2Score(), near, far), 1e-7)
end

-- All pairs looked at one by one, with ties.
function T.test_the_area_is_the_share_of_pairs()
  nb.seed(4)
  local s, y = nb.randint(1, 9, 60):to("f32"), nb.randint(0, 1, 60):to("f32")
  local sum, n = 0, 0
  for i = 1, 60 do
    for j = 1, 60 do
      if y:at(i) == 1 and y:at(j) == 0 then
        n = n + 1
        sum = sum + (s:at(i) > s:at(j) and 1 or s:at(i) == s:at(j) and 0.5 or 0)
      end
    end
  end
  lu.assertAlmostEquals(of(metrics.AUROC(), s, y), sum / n, 1e-12)
end

function T.test_batches_are_as_the_whole()
  nb.seed(5)
  local output, target = nb.randn(40, 3), nb.randint(1, 3, 40)
  for name in ("Accuracy Precision Recall F1Score AUROC"):gmatch "%w+" do
    local m = metrics[name]()
    lu.assertTrue(m:compute() ~= m:compute(), name)  -- NaN
    for first = 1, 40, 15 do
      local part = { first, math.min(first + 14, 40) }
      m:update(output[{ part }], target[{ part }])
    end
    lu.assertAlmostEquals(m:compute(), of(metrics[name](), output, target), 1e-12, name)
    lu.assertStrContains(tostring(m), name)
  end
end

function T.test_fit_takes_metrics_by_name()
  nb.seed(6)
  local x = nb.randn(64, 4)
  local y = x:narrow(2, 1, 3):argmax(2)
  local function run(o)
    nb.seed(7)
    local net = nn.Linear(4, 3)
    local last
    o.progress, o.epochs, o.size, o.valid, o.shuffle = false, o.epochs or 2, 16, { x, y }, false
    o.metrics = { "accuracy", "f1", "precision", "recall", "auc", "top2", mine = metrics.F1Score { average = "micro" } }
    local history = nn.fit(net, nn.CrossEntropyLoss(), optim.SGD(net:parameters(), { lr = 0.1 }), { x, y }, o)
    last = net
    return history, last
  end
  local history, net = run {}
  for name in pairs { f1 = 1, valid_f1 = 1, precision = 1, recall = 1, auc = 1, top2 = 1, valid_auc = 1 } do
    lu.assertEquals(#history[name], 2, name)
  end
  local out = nb.no_grad(function() return net(x) end)
  lu.assertAlmostEquals(history.valid_f1[2], of(metrics.F1Score(), out, y), 1e-9)
  lu.assertAlmostEquals(history.valid_auc[2], of(metrics.AUROC(), out, y), 1e-9)
  lu.assertAlmostEquals(history.valid_mine[2], history.valid_accuracy[2], 1e-9)
  -- What a checkpoint has in the middle of an epoch is gone on from.
  local files = scratch.new()
  local path, steps = files:path "run.safetensors", 0
  local twin = nn.Linear(4, 3)
  local loss = nn.CrossEntropyLoss()
  local function stopping(output, target)
    steps = steps + 1
    if steps == 4 then error "enough" end
    return loss(output, target)
  end
  local function fit(f)
    nb.seed(8)
    local opt = optim.SGD(twin:parameters(), { lr = 0.1 })
    return nn.fit(twin, f, opt, { x, y }, { progress = false, size = 16, shuffle = false, metrics = { "f1", "auc" },
      checkpoint = path, checkpoint_every = 1 })
  end
  local start = twin:state()
  local whole = nn.fit(twin, loss, optim.SGD(twin:parameters(), { lr = 0.1 }), { x, y }, { progress = false, size = 16,
    shuffle = false, metrics = { "f1", "auc" } })
  twin:load_state(start)
  lu.assertFalse(pcall(fit, stopping))
  local resumed = fit(function(...) return loss(...) end)
  lu.assertAlmostEquals(resumed.f1[1], whole.f1[1], 1e-9)
  lu.assertAlmostEquals(resumed.auc[1], whole.auc[1], 1e-9)
  files:remove()
  -- Of one score: the loss says where the threshold is.
  local one = nn.Linear(4, 1)
  local h = nn.fit(one, nn.BCEWithLogitsLoss(), optim.SGD(one:parameters()), { x, y:eq(1):to("f32"):view(64, 1) },
    { progress = false, metrics = { "recall", "accuracy" } })
  lu.assertTrue(h.recall[1] >= 0 and h.recall[1] <= 1)
  assert_error({ "metrics must hold", '"nonsense"' }, nn.fit, one, nn.MSELoss(), optim.SGD(one:parameters()),
    { x, y }, { metrics = { "nonsense" }, progress = false })
end

function T.test_bad_input()
  assert_error({ "accuracy", "target must be a tensor" }, of, metrics.Accuracy(), nb.ones(2, 2), 3)
  assert_error({ "class numbers from 1 to 2", "got 0" }, of, metrics.F1Score(), nb.ones(2, 2), nb.tensor { 0, 1 })
  assert_error({ "targets 0 and 1" }, of, metrics.F1Score(), nb.ones(2), nb.tensor { 0, 3 })
  assert_error({ "a target for each output" }, of, metrics.F1Score(), nb.ones(2), nb.tensor { 0, 1, 1 })
  assert_error({ "top_k = 3" }, of, metrics.Accuracy { top_k = 3 }, nb.ones(2, 2), nb.tensor { 1, 1 })
  assert_error({ "same shape" }, of, metrics.R2Score(), nb.ones(2, 1), nb.ones(2))
  local m = metrics.ConfusionMatrix()
  m:update(nb.ones(2, 3), nb.tensor { 1, 1 })
  assert_error({ "2 classes, those before 3" }, m.update, m, nb.ones(2, 2), nb.tensor { 1, 1 })
end

return T
