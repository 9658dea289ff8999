-- SPDX-License-Identifier: MIT
-- inspect.check: names planted mistakes, says nothing of healthy set-ups, changes nothing.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn, optim, inspect, data = nb.nn, nb.optim, nb.inspect, nb.data

local T = {}

local CE, MSE, BCE = nn.CrossEntropyLoss(), nn.MSELoss(), nn.BCEWithLogitsLoss()

local function mlp(inputs, hidden, outputs, last)
  return nn.Sequential { nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs), last }
end

local function adam(net, lr)
  return optim.Adam(net:parameters(), { lr = lr or 1e-3 })
end

local function sgd(net, lr)
  return optim.SGD(net:parameters(), { lr = lr })
end

local function smooth(n, inputs)
  local x = nb.randn(n, inputs)
  return x, (x:sum(2, { keepdim = true }) * 0.5):tanh() + nb.randn(n, 1) * 0.05
end

-- A module of one function of its layers.
local function custom(layers, forward)
  local class = nn.module("Custom", function(self)
    for name, layer in pairs(layers) do self[name] = layer end
  end)
  class.forward = forward
  return class()
end

local function tokens(samples, length, kinds)
  local ids = nb.randint(1, kinds, samples, length + 1)
  return ids[{ nb.ALL, { 1, length } }], ids[{ nb.ALL, { 2, length + 1 } }]
end

local function next_token(z, y)
  return nn.cross_entropy(z:reshape(-1, z:size(-1)), y:reshape(-1))
end

-- Each: the mistake, its finding, its place, and net, loss, optimizer, data.
local PLANTED = {
  { "labels from 1 in BCE", "labels outside the loss's range", "y", function()
    local x, y = data.moons(100)
    local net = mlp(2, 16, 1)
    return net, BCE, adam(net), { x, y:view(-1, 1) }
  end },
  { "labels from 0 in cross-entropy", "labels outside the loss's range", "y", function()
    local x, y = data.moons(100)
    local net = mlp(2, 16, 2)
    return net, function(z, t) return nn.cross_entropy(z, t) end, adam(net), { x, y - 1 }
  end },
  { "a tied embedding that is too large", "loss far above chance", "o", function()
    local net = custom({ e = nn.Embedding(50, 64), l = nn.Linear(64, 64), o = nn.Linear(64, 50) },
      function(self, x)
        local h = self.e(x)
        return self.o(h + self.l(h):relu())
      end)
    net.o.weight = net.e.weight
    return net, next_token, adam(net), { tokens(32, 8, 50) }
  end },
  { "softmax twice", "loss/activation mismatch", "4", function()
    local x, y = data.moons(100)
    local net = mlp(2, 16, 2, nn.Softmax(2))
    return net, CE, adam(net), { x, y }
  end },
  { "softmax twice, by a method", "loss/activation mismatch", "net", function()
    local x, y = data.moons(100)
    local net = custom({ a = mlp(2, 16, 2) }, function(self, v) return self.a(v):softmax(2) end)
    return net, CE, adam(net), { x, y }
  end },
  { "softmax twice, in the loss", "loss/activation mismatch", "loss", function()
    local x, y = data.moons(100)
    local net = mlp(2, 16, 2)
    return net, function(z, t) return nn.cross_entropy(z:softmax(2), t) end, adam(net), { x, y }
  end },
  { "pixels from 0 to 255", "unscaled inputs", "x", function()
    local x, y = nb.rand(100, 1, 8, 8) * 255, nb.randint(1, 3, 100)
    local net = nn.Sequential { nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3) }
    return net, CE, adam(net), { x, y }
  end },
  { "squares of class numbers", "class numbers as quantities", "loss", function()
    local x, y = data.blobs(120)
    local net = mlp(2, 16, 1)
    return net, MSE, adam(net), { x, y:to("f32"):view(-1, 1) }
  end },
  { "probabilities wanted, logits given", "loss/activation mismatch", "loss", function()
    local x, y = data.moons(100)
    local net = mlp(2, 16, 1)
    return net, nn.BCELoss(), adam(net), { x, (y - 1):view(-1, 1) }
  end },
  { "the optimizer of another net", "parameters beside the optimizer", "1.weight", function()
    local x, y = data.moons(100)
    return mlp(2, 16, 2), CE, adam(mlp(2, 16, 2)), { x, y }
  end },
  { "one class only", "constant labels", "y", function()
    local net = mlp(2, 16, 2)
    return net, CE, adam(net), { nb.randn(100, 2), nb.ones(100, { dtype = "i64" }) }
  end },
  { "one class nearly only", "one class dominates", "y", function()
    local net, y = mlp(4, 16, 1), nb.zeros(500, 1)
    y[3], y[77] = 1, 1
    return net, BCE, adam(net), { nb.randn(500, 4), y }
  end },
  { "a column of labels", "leaked labels", "x", function()
    local x, y = data.moons(100)
    local net = mlp(3, 16, 2)
    return net, CE, adam(net), { nb.cat({ x, y:to("f32"):view(-1, 1) }, 2), y }
  end },
  { "a model of language that sees ahead", "leaked labels", "net", function()
    local net = custom({ e = nn.Embedding(20, 16), t = nn.TransformerEncoderLayer(16, 2, { dim_feedforward = 32,
      batch_first = true }), o = nn.Linear(16, 20) }, function(self, x) return self.o(self.t(self.e(x))) end)
    return net, next_token, adam(net), { tokens(32, 12, 20) }
  end },
  { "a set sorted by class", "sorted samples", "y", function()
    local x, y = data.blobs(300)
    local net = mlp(2, 16, 3)
    return net, CE, adam(net), data.batches { x, y, size = 150 }
  end },
  { "a rate of 300", "learning rate too large", "opt", function()
    local x, y = data.moons(100)
    local net = mlp(2, 16, 2)
    return net, CE, sgd(net, 300), { x, y }
  end },
  { "a rate of 1e-8", "learning rate too small", "opt", function()
    local x, y = data.moons(100)
    local net = mlp(2, 16, 2)
    return net, CE, sgd(net, 1e-8), { x, y }
  end },
  { "layers of zeros", "symmetric weights", "1", function()
    local x, y = data.moons(100)
    local net = mlp(2, 16, 2)
    nb.no_grad(function() for _, p in ipairs(net:parameters()) do p:zero_() end end)
    return net, CE, adam(net), { x, y }
  end },
  { "no activation", "no activation between layers", "2", function()
    local x, y = data.moons(100)
    local net = nn.Sequential { nn.Linear(2, 16), nn.Linear(16, 2) }
    return net, CE, adam(net), { x, y }
  end },
  { "batch_first forgotten", "samples mix", "net", function()
    local x = nb.randn(64, 10, 3)
    local net = custom({ l = nn.LSTM(3, 8), o = nn.Linear(8, 1) }, function(self, v) return self.o((self.l(v))) end)
    return net, MSE, adam(net), data.batches { x, x:sum(3, { keepdim = true }):tanh(), size = 16 }
  end },
  { "a detached output", "no gradient", "loss", function()
    local x, y = data.moons(100)
    local net = mlp(2, 16, 2)
    return net, function(z, t) return nn.cross_entropy(z:detach(), t) end, adam(net), { x, y }
  end },
  { "the sign of the loss", "wrong sign", "loss", function()
    local x, y = data.moons(100)
    local net = mlp(2, 16, 2)
    return net, function(z, t) return -nn.cross_entropy(z, t) end, adam(net), { x, y }
  end },
  { "a log-likelihood that is minimised", "wrong sign", "loss", function()
    local x, y = data.blobs(150)
    local net = mlp(2, 16, 3)
    return net, function(z, t) return z:log_softmax(2):gather(2, t:view(-1, 1)):mean() end, adam(net), { x, y }
  end },
  { "several labels at once in a cross-entropy of one", "labels outside the loss's range", "y", function()
    local x = nb.randn(150, 10)
    local net = mlp(10, 32, 6)
    return net, CE, adam(net), { x, x:matmul(nb.randn(10, 6)):gt(0.3):to("f32") }
  end },
  { "answers that meet every target", "targets not used", "loss", function()
    local x, y = smooth(64, 3)
    local net = mlp(3, 8, 1)
    return net, function(p, t) return ((p - t:view(-1)) ^ 2):mean() end, adam(net), { x, y:view(-1) }
  end },
  { "house prices", "unscaled targets", "y", function()
    local x, y = smooth(64, 3)
    local net = mlp(3, 8, 1)
    return net, MSE, adam(net), { x, y * 5000 + 2e5 }
  end },
  { "a net that sees one sign of its input", "cannot learn one batch", "net", function()
    local net = custom({ a = mlp(1, 16, 2) }, function(self, v) return self.a(v[{ nb.ALL, { 1, 1 } }]:sign()) end)
    return net, CE, adam(net), { nb.randn(100, 4), nb.randint(1, 2, 100) }
  end },
  { "a shape that does not fit", "does not run", "net", function()
    local x, y = smooth(64, 3)
    local net = mlp(4, 8, 1)
    return net, MSE, adam(net), { x, y }
  end },
}

function T.test_planted_mistakes_are_named()
  for k, case in ipairs(PLANTED) do
    nb.seed(500 + k)
    local net, loss, opt, set = case[4]()
    local c = inspect.check(net, loss, opt, set)
    lu.assertTrue(#c > 0, case[1] .. " was not found")
    lu.assertEquals({ c[1].illness, c[1].layer }, { case[2], case[3] }, case[1] .. "\n" .. tostring(c))
    for _, f in ipairs(c) do
      lu.assertNotNil(load(f.remedy), f.remedy)
      lu.assertStrContains(tostring(c), f.illness)
    end
  end
end

local function transformer(kinds, width, length)
  local layers = { e = nn.Embedding(kinds, width), p = nn.Embedding(length, width), norm = nn.LayerNorm(width),
    o = nn.Linear(width, kinds) }
  for k = 1, 2 do
    layers["t" .. k] = nn.TransformerEncoderLayer(width, 4, { dim_feedforward = 2 * width, batch_first = true,
      norm_first = true })
  end
  return custom(layers, function(self, x)
    local h = self.e(x) + self.p(nb.arange(x:size(2)):to("i64"))
    for k = 1, 2 do h = self["t" .. k](h, { is_causal = true }) end
    return self.o(self.norm(h))
  end)
end

local HEALTHY = {
  function()  -- labels as probabilities' targets
    local x, y = data.moons(100)
    local net = mlp(2, 16, 1)
    return net, BCE, adam(net), { x, (y - 1):to("f32"):view(-1, 1) }
  end,
  function()  -- shuffled batches of a sorted set
    local x, y = data.blobs(150)
    local net = mlp(2, 16, 3)
    return net, CE, sgd(net, 0.1), data.batches { x, y, size = 32, shuffle = true }
  end,
  function()  -- four samples
    local x, y = data.xor()
    local net = nn.Sequential { nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Sigmoid() }
    return net, MSE, sgd(net, 0.5), { x, y }
  end,
  function()
    local x, y = smooth(100, 5)
    local net = mlp(5, 32, 1)
    return net, nn.HuberLoss(), adam(net), { x, y }
  end,
  function()  -- images
    local y = nb.randint(1, 5, 96)
    local x = nb.rand(5, 1, 8, 8):index_select(1, y) + nb.randn(96, 1, 8, 8) * 0.3
    local net = nn.Sequential { nn.Conv2d(1, 8, 3, { padding = 1 }), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
      nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, 5) }
    return net, CE, sgd(net, 0.05), data.batches { x, y, size = 32, shuffle = true }
  end,
  function()  -- autoencoder, through a narrow linear layer
    local x = nb.randn(100, 20)
    local net = nn.Sequential { nn.Linear(20, 4), nn.Linear(4, 20) }
    return net, MSE, adam(net, 1e-2), { x, x }
  end,
  function()  -- a net that scales bytes itself
    local x, y = nb.randint(0, 255, 100, 12), nb.randint(1, 4, 100)
    local net = custom({ a = mlp(12, 32, 4) }, function(self, v) return self.a(v:to("f32") / 255) end)
    return net, CE, adam(net), { x, y }
  end,
  function()  -- time first, as recurrent layers have it when nothing else is said
    local x = nb.randn(12, 32, 3)
    local net = custom({ l = nn.LSTM(3, 16), o = nn.Linear(16, 1) }, function(self, v) return self.o((self.l(v))) end)
    return net, MSE, adam(net, 1e-2), { x, x:sum(3, { keepdim = true }):tanh() }
  end,
  function()
    local net = transformer(30, 32, 12)
    return net, next_token, optim.AdamW(net:parameters(), { lr = 1e-3 }), { tokens(32, 12, 30) }
  end,
  function()  -- several labels at once
    local x = nb.randn(100, 10)
    local net = mlp(10, 32, 6)
    return net, BCE, adam(net), { x, x:matmul(nb.randn(10, 6)):gt(0.5):to("f32") }
  end,
  function()  -- a part frozen on purpose
    local x, y = data.moons(100)
    local net = mlp(2, 32, 2)
    for _, p in ipairs(net[1]:parameters()) do p.requires_grad = false end
    return net, CE, optim.Adam(net[3]:parameters(), { lr = 1e-2 }), { x, y }
  end,
  function()  -- a last layer of zeros, and a penalty
    local x, y = data.moons(100)
    local net = mlp(2, 16, 2)
    nn.init.constant(net[3].weight, 0)
    return net, function(z, t) return nn.cross_entropy(z, t) + 1e-4 * (net[1].weight ^ 2):sum() end, adam(net), { x, y }
  end,
  function()  -- a flow: a density has no targets
    local x = data.moons(200)
    local net = custom({ a = mlp(1, 24, 2), b = mlp(1, 24, 2) }, function(self, v)
      local p, q = v[{ nb.ALL, { 1, 1 } }], v[{ nb.ALL, { 2, 2 } }]
      self.log_det = 0
      for _, name in ipairs { "a", "b" } do
        local o = self[name](p)
        local scale = o[{ nb.ALL, { 1, 1 } }]:tanh()
        p, q, self.log_det = q * scale:exp() + o[{ nb.ALL, { 2, 2 } }], p, self.log_det + scale
      end
      return nb.cat({ p, q }, 2)
    end)
    return net, function(z) return (0.5 * (z ^ 2):sum(2, { keepdim = true }) - net.log_det):mean() end, adam(net),
      { x, x }
  end,
  function()  -- triplets, with targets that nobody looks at
    local c = nb.randn(100, 10)
    local net = mlp(10, 24, 8)
    return net, function(z)
      local a, near, far = z[{ nb.ALL, 1 }], z[{ nb.ALL, 2 }], z[{ nb.ALL, 3 }]
      return (((a - near) ^ 2):sum(2) - ((a - far) ^ 2):sum(2) + 1):relu():mean()
    end, adam(net), { nb.stack({ c, c + nb.randn(100, 10) * 0.3, nb.randn(100, 10) }, 2), nb.zeros(100) }
  end,
  function()  -- a generator, whose pictures a judge behind its tanh takes for real or not
    local judge = mlp(6, 16, 1)
    for _, p in ipairs(judge:parameters()) do p.requires_grad = false end
    local net = mlp(4, 24, 6, nn.Tanh())
    return net, function(z, y) return nn.bce_with_logits(judge(z), y) end, adam(net), { nb.randn(100, 4),
      nb.ones(100, 1) }
  end,
  function()  -- an equation, f'' = −f: a loss that takes gradients itself
    local x = nb.rand(64, 1) * 3
    local net = nn.Sequential { nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1) }
    return net, function(_, v)
      local t = v:clone()
      t.requires_grad = true
      local f = net(t)
      local slope = nb.grad(f:sum(), t, { create_graph = true })
      local bend = nb.grad(slope:sum(), t, { create_graph = true })
      return ((bend + f) ^ 2):mean() + ((net(nb.zeros(1, 1)) - 1) ^ 2):mean()
    end, adam(net, 3e-3), { x, x }
  end,
  function()  -- batches from a function, without optimizer
    return mlp(3, 8, 1), MSE, nil, function() return smooth(32, 3) end
  end,
}

function T.test_of_healthy_set_ups_it_says_nothing()
  for seed = 1, 2 do
    for k, make in ipairs(HEALTHY) do
      nb.seed(10 * seed + k)
      local c = inspect.check(make())
      lu.assertEquals(#c, 0, ("seed %d, set-up %d\n%s"):format(seed, k, tostring(c)))
    end
  end
end

-- Neighbours in one module are one row where there are many, with the range of what is inside.
function T.test_layers_of_a_deep_net_fold_by_module()
  nb.seed(8)
  local blocks = nn.Sequential()
  for k = 1, 12 do
    blocks[k] = nn.Sequential { nn.LayerNorm(8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh() }
  end
  local net = custom({ i = nn.Linear(3, 8), blocks = blocks, o = nn.Linear(8, 1) },
    function(self, v) return self.o(self.blocks(self.i(v))) end)
  local x, y = smooth(32, 3)
  local c = inspect.check(net, MSE, nil, { x, y })
  lu.assertEquals(#c.layers, 62)
  local shown = tostring(c)
  local _, lines = shown:gsub("\n", "")
  lu.assertTrue(lines < 24, shown)
  local low, high = math.huge, 0
  for _, layer in ipairs(c.layers) do
    if layer.path:find "^blocks%.7%." then low, high = math.min(low, layer.std), math.max(high, layer.std) end
  end
  local first, last = shown:match "blocks%.7 +Sequential +([%d.]+) to ([%d.]+)"
  lu.assertAlmostEquals(tonumber(first), low, 0.01)
  lu.assertAlmostEquals(tonumber(last), high, 0.01)
  local gain = tonumber(shown:match "blocks%.7 [^\n]*×([%d.]+)")
  local grads = {}
  for _, layer in ipairs(c.layers) do grads[layer.path] = layer.grad end
  lu.assertAlmostEquals(gain, grads["blocks.7.1"] / grads["blocks.8.1"], 0.01 * gain)
end

function T.test_it_changes_nothing()
  nb.seed(3)
  local net = nn.Sequential { nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1) }
  net:eval()
  local opt, x, y = adam(net), smooth(40, 4)
  local batches = data.batches { x, y, size = 16, shuffle = true }
  net(x):sum():backward()
  local weights, moments, grad = net:state(), opt:state(), net[1].weight.grad:clone()
  nb.seed(9)
  local number = nb.rand(1):item()
  nb.seed(9)
  inspect.check(net, MSE, opt, batches)
  lu.assertEquals(nb.rand(1):item(), number)
  for name, t in pairs(net:state()) do lu.assertEquals(numeric.flat(t), numeric.flat(weights[name]), name) end
  for name, v in pairs(opt:state()) do
    lu.assertEquals(nb.is_tensor(v) and numeric.flat(v) or v,
      nb.is_tensor(moments[name]) and numeric.flat(moments[name]) or moments[name], name)
  end
  lu.assertEquals(numeric.flat(net[1].weight.grad), numeric.flat(grad))
  lu.assertFalse(net.training)
  lu.assertFalse(net[3].training)
end

function T.test_the_rules_are_those_of_diagnose()
  nb.seed(4)
  local x, y = data.moons(100)
  local net = mlp(2, 16, 2, nn.ReLU())
  local c, d = inspect.check(net, CE, nil, { x, y }), inspect.diagnose(net, x, y, CE)
  lu.assertEquals({ c[1].illness, c[1].evidence, c[1].remedy }, { d[1].illness, d[1].evidence, d[1].remedy })
end

function T.test_bad_input()
  local net, x, y = mlp(2, 4, 1), nb.randn(8, 2), nb.randn(8, 1)
  local fails = numeric.assert_error
  fails({ "needs a net", "got 3" }, inspect.check, 3, MSE, nil, { x, y })
  fails({ "needs a loss" }, inspect.check, net, nil, nil, { x, y })
  fails({ "needs an optimizer" }, inspect.check, net, MSE, "adam", { x, y })
  fails({ "no parameters" }, inspect.check, nn.ReLU(), MSE, nil, { x, y })
  fails({ "data must be {x, y}" }, inspect.check, net, MSE, nil, { x })
  fails({ "data must be {x, y}" }, inspect.check, net, MSE)
  fails({ "data are empty" }, inspect.check, net, MSE, nil, { nb.zeros(0, 2), nb.zeros(0, 1) })
  fails({ "data are empty" }, inspect.check, net, MSE, nil, function() end)
  fails({ "data are empty" }, inspect.check, net, MSE, nil, data.batches { x, y, size = 9, last = "drop" })
  fails({ "single number" }, inspect.check, net, nn.MSELoss { reduction = "none" }, nil, { x, y })
  fails({ "must give a tensor" }, inspect.check, net, function() return 3 end, nil, { x, y })
  lu.assertEquals(inspect.check(net, MSE, nil, { x / 0 * 0, y / 0 * 0 })[1].illness, "NaN")
  nb.no_grad(function() for _, p in ipairs(net:parameters()) do p:fill_(0 / 0) end end)
  lu.assertEquals(inspect.check(net, MSE, nil, { x, y })[1].illness, "NaN")
  local broken = inspect.check(mlp(2, 4, 1), function() error "by hand" end, nil, { x, y })
  lu.assertEquals(broken[1].illness, "does not run")
  lu.assertStrContains(broken[1].evidence, "by hand")
end

return T
