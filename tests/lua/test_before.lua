-- SPDX-License-Identifier: MIT
-- inspect.lr_find against a grid, inspect.top_losses and inspect.per_sample against loops over samples.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn, optim, inspect, data = nb.nn, nb.optim, nb.inspect, nb.data

local T = {}

local PROVE = os.getenv "NABLUA_PROVE" == "1"

local CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()

local function mlp(inputs, hidden, outputs, activation)
  return nn.Sequential { nn.Linear(inputs, hidden), (activation or nn.ReLU)(), nn.Linear(hidden, outputs) }
end

local function display(v, settings)
  return getmetatable(v).__display(v, settings or { width = 80 })
end

-- ---- learning rates ----

local function custom(layers, forward)
  local class = nn.module("Custom", function(self)
    for name, layer in pairs(layers) do self[name] = layer end
  end)
  class.forward = forward
  return class()
end

-- Sequences of noisy waves, whose frequency is their class.
local function waves(n, length, features, classes)
  local y = nb.randint(1, classes, n)
  local t = nb.arange(length):to("f32"):view(1, length, 1)
  local phase = nb.rand(n, 1, features) * 6.28
  return ((y:to("f32"):view(n, 1, 1) * t * 0.3) + phase):sin() + nb.randn(n, length, features) * 0.3, y
end

local function last_of(net)
  return function(self, v) return self.o((self[net](v))[{ nb.ALL, -1 }]) end
end

-- What it is, the optimizers that are tried where not everything is, and net, loss, x, y.
local SETUPS = {
  { "three layers, of which a rate far too large is the best by luck", { "Adam" }, function()
    local x = nb.randn(400, 2)
    return nn.Sequential { nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2) }, CE, x,
      (x * x):sum(2):gt(1.4):to("i64") + 1
  end },
  { "regression", { "SGD" }, function()
    local x = nb.randn(256, 5)
    return mlp(5, 32, 1), MSE, x, x:sum(2, { keepdim = true }):sin()
  end },
  { "a line", { "SGD" }, function()
    local x = nb.randn(256, 5)
    return nn.Linear(5, 1), MSE, x, x:sum(2, { keepdim = true }) + nb.randn(256, 1) * 0.3
  end },
  { "spirals", { "AdamW" }, function()
    local x, y = data.spirals(300)
    return mlp(2, 32, 3), CE, x, y
  end },
  { "blobs", { "RMSprop" }, function()
    local x, y = data.blobs(240)
    return mlp(2, 16, 3, nn.Tanh), CE, x + nb.randn(240, 2) * 0.5, y
  end },
  { "an RNN on a plateau", { "SGD" }, function()
    local x, y = waves(240, 10, 2, 3)
    local net = custom({ r = nn.RNN(2, 24, { batch_first = true }), o = nn.Linear(24, 3) }, last_of "r")
    return net, CE, x, nb.where(nb.rand(240):lt(0.2), nb.randint(1, 3, 240), y)
  end },
  { "an LSTM", {}, function()
    local x, y = waves(256, 12, 1, 4)
    return custom({ r = nn.LSTM(1, 20, { batch_first = true }), o = nn.Linear(20, 4) }, last_of "r"), CE, x, y
  end },
  { "a convolution", {}, function()
    local y = nb.randint(1, 5, 256)
    local x = nb.randn(5, 1, 8, 8):index_select(1, y) + nb.randn(256, 1, 8, 8) * 1.5
    return nn.Sequential { nn.Conv2d(1, 8, 3, { padding = 1 }), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
      nn.Linear(128, 5) }, CE, x, y
  end },
  { "attention", {}, function()
    local x = nb.randint(1, 12, 256, 6)
    return custom({ e = nn.Embedding(12, 16), p = nn.Embedding(6, 16), o = nn.Linear(16, 3),
      t = nn.TransformerEncoderLayer(16, 2, { dim_feedforward = 32, batch_first = true, dropout = 0 }) },
      function(self, v) return self.o(self.t(self.e(v) + self.p(nb.arange(6):to("i64"))):mean(2)) end),
      CE, x, (x[{ nb.ALL, 1 }] + x[{ nb.ALL, 4 }]) % 3 + 1
  end },
  { "batch norm", {}, function()
    local x = nb.randn(300, 8)
    return nn.Sequential { nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 24), nn.BatchNorm1d(24),
      nn.ReLU(), nn.Linear(24, 2) }, CE, x,
      (x[{ nb.ALL, { 1, 4 } }]:sum(2) * 1.5 + nb.randn(300)):gt(0):to("i64") + 1
  end },
  { "an autoencoder", {}, function()
    local x = nb.randn(300, 3):matmul(nb.randn(3, 12)):tanh() + nb.randn(300, 12) * 0.1
    return nn.Sequential { nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 3), nn.Linear(3, 24), nn.ReLU(),
      nn.Linear(24, 12) }, MSE, x, x
  end },
  { "embeddings", {}, function()
    local x = nb.randint(1, 30, 500, 2)
    local a, b = nb.randn(30, 3), nb.randn(30, 3)
    local y = (a:index_select(1, x[{ nb.ALL, 1 }]) * b:index_select(1, x[{ nb.ALL, 2 }])):sum(2, { keepdim = true })
    return custom({ u = nn.Embedding(30, 6), v = nn.Embedding(30, 6), o = nn.Linear(6, 1) },
      function(self, v) return self.o(self.u(v[{ nb.ALL, 1 }]) * self.v(v[{ nb.ALL, 2 }])) end),
      MSE, x, y + nb.randn(500, 1) * 0.3
  end },
}

local STEPS = 300

-- The loss that a rate trains to, as the mean of those of the last fifth of steps: where rates are large that of the
-- last step alone is luck.
local function train_once(net, start, loss, kind, lr, x, y, seed)
  net:load_state(start)
  nb.seed(seed)
  local opt, steps, sum = optim[kind](net:parameters(), { lr = lr }), 0, 0
  while steps < STEPS do
    for bx, by in data.batches { x, y, size = 64, shuffle = true } do
      opt:zero_grad()
      loss(net(bx), by):backward()
      opt:step()
      steps = steps + 1
      if steps > 0.8 * STEPS and steps <= STEPS and steps % 5 == 0 then
        sum = sum + nb.no_grad(function() return loss(net(x), y):item() end)
      end
    end
  end
  return sum == sum and sum / (0.2 * STEPS / 5) or math.huge
end

-- The median of three orders of the samples: of one alone the best rate of a grid may be luck.
local function trained(...)
  local list, given = {}, table.pack(...)
  for k = 1, 3 do
    given[given.n + 1] = 98 + k
    list[k] = train_once(table.unpack(given, 1, given.n + 1))
  end
  table.sort(list)
  return list[2]
end

local function compare_with_a_grid(k, kind)
  local setup = SETUPS[k]
  nb.seed(k)
  local net, loss, x, y = setup[3]()
  local opt = optim[kind](net:parameters(), { lr = 1e-3 })
  local found = inspect.lr_find(net, loss, opt, { x, y }, { steps = STEPS })
  local start, best = net:state(), math.huge
  local nothing = 1e-4 * found.losses[1]  -- what is left where all is learned by heart
  for e = -8, 2 do best = math.min(best, trained(net, start, loss, kind, 10 ^ (e / 2), x, y)) end
  local mine = trained(net, start, loss, kind, found.lr, x, y)
  local words = ("%s, %s: %g with lr = %g, the grid's best %g"):format(setup[1], kind, mine, found.lr, best)
  lu.assertEquals(found.line, ("opt.lr = %g"):format(found.lr))
  assert(load(found.line, "line", "t", { opt = opt }))()
  lu.assertEquals(opt.lr, found.lr)
  local shown = display(found)["text/plain"]
  lu.assertStrContains(shown, found.line)
  lu.assertStrContains(shown, "learning rate")
  return mine <= 1.2 * best + nothing, words
end

function T.test_the_suggested_rate_is_near_the_best_of_a_grid()
  local count, beyond = 0, {}
  for k, setup in ipairs(SETUPS) do
    for _, kind in ipairs(PROVE and { "SGD", "Adam" } or setup[2]) do
      local near, words = compare_with_a_grid(k, kind)
      count = count + 1
      if not near then beyond[#beyond + 1] = words end
    end
  end
  print(("figure: lr_find is within a fifth of the loss of a grid's best rate on %d of %d set-ups"):format(
    count - #beyond, count))
  lu.assertTrue(#beyond <= count // 8, table.concat(beyond, "\n"))  -- of the sample's six: none
end

function T.test_looking_for_a_rate_changes_nothing()
  nb.seed(5)
  local net = nn.Sequential { nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1) }
  local opt, x = optim.Adam(net:parameters(), { lr = 0.02 }), nb.randn(64, 3)
  local before, moments = net:state(), opt:state()
  nb.seed(6)
  local number = nb.rand(1):item()
  nb.seed(6)
  inspect.lr_find(net, MSE, opt, data.batches { x, x:sum(2, { keepdim = true }), size = 16 }, { steps = 20 })
  lu.assertEquals(nb.rand(1):item(), number)
  lu.assertEquals(opt.lr, 0.02)
  for name, t in pairs(net:state()) do lu.assertEquals(numeric.flat(t), numeric.flat(before[name]), name) end
  lu.assertEquals(#opt:state(), #moments)
  lu.assertNil(net[1].weight.grad)
end

function T.test_bad_input_for_rates()
  local net, x, y = mlp(2, 4, 1), nb.randn(8, 2), nb.randn(8, 1)
  local opt, fails = optim.SGD(net:parameters(), { lr = 0.1 }), numeric.assert_error
  fails({ "needs a net" }, inspect.lr_find, 1, MSE, opt, { x, y })
  fails({ "needs an optimizer" }, inspect.lr_find, net, MSE, nil, { x, y })
  fails({ "data are empty" }, inspect.lr_find, net, MSE, opt, { nb.zeros(0, 2), nb.zeros(0, 1) })
  fails({ "data are empty" }, inspect.lr_find, net, MSE, opt, function() end)
  fails({ "single number" }, inspect.lr_find, net, nn.MSELoss { reduction = "none" }, opt, { x, y })
  fails({ "no parameter" }, inspect.lr_find, net, function(z, t) return MSE(z:detach(), t) end, opt, { x, y })
  fails({ "before the first step", "inspect.check" }, inspect.lr_find, net, MSE, opt, { x / 0, y })
  fails({ "low must be below high" }, inspect.lr_find, net, MSE, opt, { x, y }, { low = 1, high = 0.1 })
  lu.assertTrue(inspect.lr_find(net, MSE, opt, { x, y }, { steps = 1, ramp = 20 }).lr > 0)
  fails({ "LBFGS" }, inspect.lr_find, net, MSE, optim.LBFGS(net:parameters()), { x, y })
end

-- ---- the samples that cost most ----

function T.test_top_losses_are_those_of_a_loop()
  nb.seed(1)
  local x, y = nb.randn(50, 4), nb.randint(1, 3, 50)
  local net = nn.Sequential { nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3) }
  local by_hand = {}
  net:eval()
  for k = 1, 50 do by_hand[k] = { k, CE(net(x[{ { k, k } }]), y[{ { k, k } }]):item() } end
  local answers = nb.no_grad(function() return net(x):argmax(2) end)
  net:train()
  table.sort(by_hand, function(a, b) return a[2] > b[2] end)
  local function own(z, t) return nn.cross_entropy(z, t) end
  for _, loss in ipairs { CE, nn.cross_entropy, own } do
    for _, set in ipairs { { x, y }, data.batches { x, y, size = 7, shuffle = true } } do
      local top = inspect.top_losses(net, loss, set, 5)
      lu.assertEquals(#top, 5)
      for k = 1, 5 do
        lu.assertEquals(top[k].index, by_hand[k][1])
        lu.assertAlmostEquals(top[k].loss, by_hand[k][2], 1e-5)
        lu.assertEquals(numeric.flat(top.x[k]), numeric.flat(x[by_hand[k][1]]))
        if loss ~= own then
          lu.assertEquals(top[k].target, ("%d"):format(y[by_hand[k][1]]:item()))
          lu.assertEquals(top[k].answer, ("%d"):format(answers[by_hand[k][1]]:item()))
        end
      end
      lu.assertAlmostEquals(top.mean, CE(net:eval()(x), y):item(), 1e-5)
      net:train()
    end
  end
  lu.assertTrue(net.training)
  lu.assertEquals(CE.reduction, "mean")
end

function T.test_top_losses_show_pictures_where_samples_are_some()
  nb.seed(2)
  local net = nn.Sequential { nn.Flatten(), nn.Linear(64, 3) }
  local top = inspect.top_losses(net, CE, { nb.rand(20, 1, 8, 8), nb.randint(1, 3, 20) }, 4)
  local shown = display(top, { width = 80 })["text/plain"]
  lu.assertStrContains(shown, "▒")
  lu.assertStrContains(shown, "of 20 samples")
  local plain = inspect.top_losses(nn.Linear(3, 1), MSE, { nb.rand(20, 3), nb.rand(20, 1) }, 4)
  lu.assertNotStrContains(display(plain)["text/plain"], "▒")
  lu.assertStrContains(display(plain, { width = 80, rich = true })["text/html"], "<table")
end

function T.test_bad_input_for_top_losses()
  local net, x, y = nn.Linear(2, 1), nb.randn(8, 2), nb.randn(8, 1)
  local fails = numeric.assert_error
  fails({ "needs a net" }, inspect.top_losses, nil, MSE, { x, y })
  fails({ "needs a loss" }, inspect.top_losses, net, 3, { x, y })
  fails({ "whole number from 1" }, inspect.top_losses, net, MSE, { x, y }, 0)
  fails({ "data are empty" }, inspect.top_losses, net, MSE, { nb.zeros(0, 2), nb.zeros(0, 1) })
  fails({ "as many samples" }, inspect.top_losses, net, MSE, { x, nb.randn(7, 1) })
  fails({ "single number" }, inspect.top_losses, net, function(z) return z:expand(1, 3) end, { x, y })
  lu.assertEquals(inspect.top_losses(net, MSE, { x, y / 0 * 0 }, 2)[1].index, 1)  -- NaN
end

-- ---- gradients by sample ----

-- ∂J/∂w of each sample's part alone: f over one sample, times its share.
local function by_loop(f, w, x, share)
  local list = {}
  for k = 1, #x do
    list[k] = nb.grad(f(x[{ { k, k } }], k) * share, w)
  end
  return nb.stack(list, 1)
end

local function compare(f, params, x)
  local J = f(x)
  for name, w in pairs(params) do
    local have = inspect.per_sample(J, w)
    numeric.assert_close(have, numeric.flat(by_loop(f, w, x, 1 / #x)), 1e-9)
    numeric.assert_close(have:sum(1), numeric.flat(nb.grad(J, w, { retain_graph = true })), 1e-9)
    lu.assertEquals(#have, #x, name)
  end
end

function T.test_gradients_by_sample_are_those_of_a_loop()
  nb.seed(3)
  local net = mlp(3, 5, 2):to("f64")
  local x, y = nb.randn(6, 3, { dtype = "f64" }), nb.randn(6, 2, { dtype = "f64" })
  compare(function(v, k) return nn.mse(net(v), k and y[{ { k, k } }] or y) end,
    { net[1].weight, net[1].bias, net[3].weight, net[3].bias }, x)
  -- A layer over the places of each sample, used twice.
  local layer = nn.Linear(4, 4):to("f64")
  local s = nb.randn(5, 7, 4, { dtype = "f64" })
  compare(function(v) return (layer(layer(v):tanh()) ^ 2):mean() end, { layer.weight, layer.bias }, s)
  -- Convolutions with everything that they can have.
  local conv = nn.Conv2d(4, 6, 3, { stride = 2, padding = 1, groups = 2 }):to("f64")
  local up = nn.ConvTranspose2d(6, 2, 2, { stride = 2 }):to("f64")
  compare(function(v) return (up(conv(v):relu()) ^ 2):mean() end, { conv.weight, conv.bias, up.weight, up.bias },
    nb.randn(4, 4, 8, 8, { dtype = "f64" }))
  local line = nn.Conv1d(2, 3, 4, { dilation = 2 }):to("f64")
  compare(function(v) return line(v):sigmoid():mean() end, { line.weight, line.bias },
    nb.randn(4, 2, 12, { dtype = "f64" }))
  local W = nb.randn(3, 2, { dtype = "f64", requires_grad = true })
  compare(function(v) return v:matmul(W):sin():mean() end, { W }, x)
end

function T.test_bad_input_for_gradients_by_sample()
  local net = mlp(2, 3, 1)
  local J, fails = net(nb.randn(4, 2)):mean(), numeric.assert_error
  fails({ "J must be" }, inspect.per_sample, 3, net[1].weight)
  fails({ "w must be" }, inspect.per_sample, J, 3)
  fails({ "does not depend" }, inspect.per_sample, J, nb.randn(2, { requires_grad = true }))
  local w = nb.randn(2, { requires_grad = true })
  fails({ "is used by" }, inspect.per_sample, (w * 2):sum(), w)
  J:backward()
  fails({ "was freed", "test_before" }, inspect.per_sample, J, net[1].weight)
end

return T
