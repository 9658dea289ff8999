-- SPDX-License-Identifier: MIT
-- inspect.check on set-ups that were written after its rules were frozen: ten with a mistake, twenty healthy ones, of
-- kinds that no rule was made with.  At most one mistake may be missed, and one healthy set-up doubted.  As they were
-- first run all ten were named, and of the twenty the variational autoencoder was doubted: the least of its loss was
-- taken for 0.
local lu = require "luaunit"
local nb = require "nablua"
local nn, optim, inspect = nb.nn, nb.optim, nb.inspect

local T = {}

local function custom(layers, forward)
  local class = nn.module("Custom", function(self)
    for name, layer in pairs(layers) do self[name] = layer end
  end)
  class.forward = forward
  return class()
end

-- ---- data, all of which can be learned ----

-- Sequences n × length × features of noisy waves, whose frequency is their class.
local function waves(n, length, features, classes)
  local y = nb.randint(1, classes, n)
  local t = nb.arange(length):to("f32"):view(1, length, 1)
  local phase = nb.rand(n, 1, features) * 6.28
  local x = ((y:to("f32"):view(n, 1, 1) * t * 0.3) + phase):sin() + nb.randn(n, length, features) * 0.1
  return x, y
end

-- Images n × channels × size × size: a pattern of their class, and noise.
local function patterns(n, channels, size, classes)
  local y = nb.randint(1, classes, n)
  return nb.randn(classes, channels, size, size):index_select(1, y) + nb.randn(n, channels, size, size) * 0.5, y
end

-- Images with a bright square, and its mask.
local function squares(n, size)
  local mask = nb.zeros(n, 1, size, size)
  for k = 1, n do
    local i, j = nb.randint(1, size - 4, 1):item(), nb.randint(1, size - 4, 1):item()
    mask[{ k, 1, { i, i + 4 }, { j, j + 4 } }] = 1
  end
  return mask * 0.8 + nb.randn(n, 1, size, size) * 0.2, mask
end

-- A text that repeats itself: tokens, and the tokens that follow.
local function text(samples, length, kinds)
  local start = nb.randint(1, kinds, samples, 1)
  local at = nb.arange(length + 1):to("i64"):view(1, length + 1)
  local ids = (start + at * 3) % kinds + 1
  return ids[{ nb.ALL, { 1, length } }], ids[{ nb.ALL, { 2, length + 1 } }]
end

local function each_token(z, y)
  return nn.cross_entropy(z:reshape(-1, z:size(-1)), y:reshape(-1))
end

-- A table of features of a standard scale and what a line with some curvature makes of them.
local function table_of(n, features)
  local x = nb.randn(n, features)
  local w = nb.randn(features, 1) / math.sqrt(features)
  return x, x:matmul(w)
end

-- ---- ten with a mistake: what it is, what names it, and the set-up ----

local function gru_classifier(features, classes)
  return custom({ r = nn.GRU(features, 24, { batch_first = true }), o = nn.Linear(24, classes) },
    function(self, x) return self.o((self.r(x))[{ nb.ALL, -1 }]) end)
end

local function unet()
  return custom({ a = nn.Conv2d(1, 8, 3, { padding = 1 }), b = nn.Conv2d(8, 16, 3, { padding = 1, stride = 2 }),
    up = nn.ConvTranspose2d(16, 8, 2, { stride = 2 }), o = nn.Conv2d(16, 1, 1) }, function(self, x)
    local h = self.a(x):relu()
    return self.o(nb.cat({ h, self.up(self.b(h):relu()):relu() }, 2))
  end)
end

local SICK = {
  { "a GRU whose labels count from 0", { "labels outside the loss's range" }, function()
    local x, y = waves(120, 20, 2, 4)
    local net = gru_classifier(2, 4)
    return net, nn.CrossEntropyLoss(), optim.Adam(net:parameters(), { lr = 2e-3 }), { x, y - 1 }
  end },
  { "sound as 16-bit numbers", { "unscaled inputs" }, function()
    local x, y = waves(96, 64, 1, 3)
    local net = nn.Sequential { nn.Conv1d(1, 8, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 5), nn.ReLU(),
      nn.Flatten(), nn.Linear(208, 3) }
    return net, nn.CrossEntropyLoss(), optim.SGD(net:parameters(), { lr = 0.01 }),
      { (x * 9000):round():permute(1, 3, 2), y }
  end },
  { "masks of 0 and 255", { "labels outside the loss's range" }, function()
    local x, mask = squares(40, 16)
    local net = unet()
    return net, nn.BCEWithLogitsLoss(), optim.Adam(net:parameters(), { lr = 1e-3 }), { x, mask * 255 }
  end },
  { "probabilities for a loss of log-probabilities", { "loss/activation mismatch" }, function()
    local x, y = waves(100, 12, 16, 3)
    local net = custom({ t = nn.TransformerEncoderLayer(16, 2, { dim_feedforward = 32, batch_first = true }),
      o = nn.Linear(16, 3), p = nn.Softmax(2) }, function(self, v) return self.p(self.o(self.t(v):mean(2))) end)
    return net, nn.NLLLoss(), optim.AdamW(net:parameters(), { lr = 1e-3 }), { x, y }
  end },
  { "a new last layer after the optimizer was made", { "parameters beside the optimizer" }, function()
    local x, y = patterns(80, 3, 8, 6)
    local net = nn.Sequential { nn.Conv2d(3, 8, 3, { padding = 1 }), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
      nn.Linear(32, 10) }
    local opt = optim.RMSprop(net:parameters(), { lr = 1e-3 })
    net[5] = nn.Linear(32, 6)
    return net, nn.CrossEntropyLoss(), opt, { x, y }
  end },
  { "tied embeddings of size 1 behind an LSTM", { "loss far above chance" }, function()
    local x, y = text(24, 16, 60)
    local net = custom({ e = nn.Embedding(60, 96), norm = nn.LayerNorm(96), r = nn.LSTM(96, 96, { batch_first = true }),
      o = nn.Linear(96, 60, { bias = false }) }, function(self, ids)
      local h = self.e(ids)
      return self.o(self.norm(h + (self.r(h))))
    end)
    net.o.weight = net.e.weight
    return net, each_token, optim.AdamW(net:parameters(), { lr = 1e-3 }), { x, y }
  end },
  { "a tanh that cannot reach its targets", { "loss/activation mismatch", "unscaled targets" }, function()
    local x, y = table_of(150, 9)
    local net = nn.Sequential { nn.Linear(9, 24), nn.GELU(), nn.Linear(24, 1), nn.Tanh() }
    return net, nn.L1Loss(), optim.Adam(net:parameters(), { lr = 3e-3 }), { x, y * 20 + 70 }
  end },
  { "a missing value in a table", { "NaN" }, function()
    local x, y = table_of(150, 12)
    x[{ 42, 7 }] = 0 / 0
    local net = nn.Sequential { nn.LayerNorm(12), nn.Linear(12, 16), nn.Softplus(), nn.Linear(16, 1) }
    return net, nn.SmoothL1Loss(), optim.NAdam(net:parameters(), { lr = 2e-3 }), { x, y }
  end },
  { "a window that holds what it is to foretell", { "leaked labels" }, function()
    local series = nb.randn(200, 13):cumsum(2) * 0.3
    local x, y = series:unsqueeze(2), series[{ nb.ALL, { 13, 13 } }]
    local net = nn.Sequential { nn.Conv1d(1, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(88, 1) }
    return net, nn.HuberLoss(), optim.Adam(net:parameters(), { lr = 1e-3 }), { x, y }
  end },
  { "a block that forward leaves out", { "unused parameter" }, function()
    local x, y = waves(100, 10, 4, 3)
    local net = custom({ a = nn.Linear(40, 24), norm = nn.LayerNorm(24), b = nn.Linear(24, 24), o = nn.Linear(24, 3) },
      function(self, v) return self.o(self.norm(self.a(v:flatten(2))):tanh()) end)
    return net, nn.CrossEntropyLoss(), optim.Adam(net:parameters(), { lr = 1e-3 }), { x, y }
  end },
}

-- ---- twenty healthy ones ----

local function graph_net(nodes)
  local near = nb.eye(nodes) + nb.eye(nodes):roll(1, 1) + nb.eye(nodes):roll(-1, 1)
  return custom({ a = nn.Linear(5, 16), b = nn.Linear(16, 16), o = nn.Linear(16, 1) }, function(self, x)
    local h = (near / 3):matmul(self.a(x)):relu()
    return self.o((near / 3):matmul(self.b(h)):relu():mean(2))
  end)
end

local function variational(size)
  local net = custom({ a = nn.Linear(size, 32), m = nn.Linear(32, 4), s = nn.Linear(32, 4), d = nn.Linear(4, 32),
    o = nn.Linear(32, size) }, function(self, x)
    local h = self.a(x):relu()
    local mu, logvar = self.m(h), self.s(h)
    self.kl = 0.5 * (mu ^ 2 + logvar:exp() - 1 - logvar):sum(2):mean()
    return self.o(self.d(mu + (logvar / 2):exp() * nb.randn(mu.shape)):relu())
  end)
  return net, function(z, x)
    return nn.bce_with_logits(z, x, { reduction = "sum" }) / #x + net.kl
  end
end

local HEALTHY = {
  { "a bidirectional GRU that tags", function()
    local ids = nb.randint(1, 15, 60, 9)
    local net = custom({ e = nn.Embedding(15, 12), r = nn.GRU(12, 16, { batch_first = true, bidirectional = true }),
      o = nn.Linear(32, 3) }, function(self, v) return self.o((self.r(self.e(v)))) end)
    return net, each_token, optim.Adam(net:parameters(), { lr = 5e-3 }), { ids, ids % 3 + 1 }
  end },
  { "images, group norm and momentum", function()
    local x, y = patterns(96, 3, 8, 5)
    local net = nn.Sequential { nn.Conv2d(3, 12, 3, { padding = 1, bias = false }), nn.GroupNorm(3, 12), nn.GELU(),
      nn.AvgPool2d(2), nn.Flatten(), nn.Linear(192, 5) }
    return net, nn.CrossEntropyLoss(), optim.SGD(net:parameters(), { lr = 0.02, momentum = 0.9, nesterov = true }),
      { x, y }
  end },
  { "an LSTM language model", function()
    local x, y = text(32, 14, 25)
    local net = custom({ e = nn.Embedding(25, 24), r = nn.LSTM(24, 32, 2, { batch_first = true }),
      o = nn.Linear(32, 25) }, function(self, v) return self.o((self.r(self.e(v)))) end)
    return net, each_token, optim.Adam(net:parameters(), { lr = 3e-3 }), { x, y }
  end },
  { "tied embeddings, small", function()
    local x, y = text(32, 10, 40)
    local net = custom({ e = nn.Embedding(40, 32), p = nn.Embedding(10, 32),
      t = nn.TransformerEncoderLayer(32, 4, { dim_feedforward = 64, batch_first = true, norm_first = true,
        dropout = 0 }),
      n = nn.LayerNorm(32), o = nn.Linear(32, 40, { bias = false }) }, function(self, v)
      local h = self.e(v) + self.p(nb.arange(v:size(2)):to("i64"))
      return self.o(self.n(self.t(h, { is_causal = true })))
    end)
    net.o.weight = net.e.weight
    nb.no_grad(function()
      net.e.weight:mul_(0.02)
      net.p.weight:mul_(0.02)
    end)
    return net, each_token, optim.AdamW(net:parameters(), { lr = 2e-3 }), { x, y }
  end },
  { "a variational autoencoder", function()
    local y = nb.randint(1, 6, 120)
    local x = (nb.rand(6, 36):index_select(1, y) + nb.randn(120, 36) * 0.05):clamp(0, 1)
    local net, loss = variational(36)
    return net, loss, optim.Adam(net:parameters(), { lr = 1e-3 }), { x, x }
  end },
  { "a small U-net", function()
    local x, mask = squares(40, 16)
    local net = unet()
    return net, nn.BCEWithLogitsLoss(), optim.Adam(net:parameters(), { lr = 1e-3 }), { x, mask }
  end },
  { "pictures from pictures", function()
    local x = (squares(40, 12)):clamp(0, 1)
    local net = nn.Sequential { nn.Conv2d(1, 8, 3, { stride = 2, padding = 1 }), nn.ReLU(), nn.Conv2d(8, 4, 1),
      nn.ReLU(), nn.ConvTranspose2d(4, 8, 2, { stride = 2 }), nn.ReLU(), nn.Conv2d(8, 1, 3, { padding = 1 }),
      nn.Sigmoid() }
    return net, nn.MSELoss(), optim.Adam(net:parameters(), { lr = 2e-3 }), { x, x }
  end },
  { "counts", function()
    local x, z = table_of(200, 6)
    local y = (z:exp() * 3):round()
    local net = nn.Sequential { nn.Linear(6, 16), nn.ELU(), nn.Linear(16, 1) }
    return net, nn.PoissonNLLLoss(), optim.Adam(net:parameters(), { lr = 1e-3 }), { x, y }
  end },
  { "a mean and its spread", function()
    local x, z = table_of(200, 4)
    local net = nn.Sequential { nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 2) }
    return net, function(o, y)
      return nn.gaussian_nll(o[{ nb.ALL, { 1, 1 } }], y, o[{ nb.ALL, { 2, 2 } }]:softplus() + 1e-3)
    end, optim.Adam(net:parameters(), { lr = 2e-3 }), { x, z + nb.randn(200, 1) * 0.2 }
  end },
  { "bags of words", function()
    local ids = nb.randint(1, 50, 120, 8)
    local y = ids:lt(20):to("f32"):sum(2, { keepdim = true }):gt(3):to("f32")
    local net = nn.Sequential { nn.EmbeddingBag(50, 16), nn.Linear(16, 1) }
    return net, nn.BCEWithLogitsLoss(), optim.Adagrad(net:parameters(), { lr = 0.05 }), { ids, y }
  end },
  { "one in ten is ill", function()
    local x, z = table_of(300, 7)
    local y = z:gt(1.28):to("f32")
    local net = nn.Sequential { nn.Linear(7, 20), nn.LeakyReLU(), nn.Linear(20, 1) }
    return net, nn.BCEWithLogitsLoss(), optim.AdamW(net:parameters(), { lr = 3e-3 }), { x, y }
  end },
  { "a mixer of patches", function()
    local x, y = patterns(80, 1, 8, 4)
    local net = custom({ e = nn.Linear(16, 24), n1 = nn.LayerNorm(24), t = nn.Linear(4, 4), n2 = nn.LayerNorm(24),
      c = nn.Linear(24, 24), o = nn.Linear(24, 4) }, function(self, v)
      local h = self.e(v:reshape(-1, 2, 4, 2, 4):permute(1, 2, 4, 3, 5):reshape(-1, 4, 16))
      h = h + self.t(self.n1(h):transpose(2, 3)):gelu():transpose(2, 3)
      return self.o((h + self.c(self.n2(h)):gelu()):mean(2))
    end)
    return net, nn.CrossEntropyLoss(), optim.AdamW(net:parameters(), { lr = 2e-3 }), { x, y }
  end },
  { "sines of coordinates", function()
    local x = nb.rand(256, 2) * 2 - 1
    local y = (x[{ nb.ALL, { 1, 1 } }] * 5):sin() * (x[{ nb.ALL, { 2, 2 } }] * 4):cos()
    local net = custom({ a = nn.Linear(2, 32), b = nn.Linear(32, 32), o = nn.Linear(32, 1) }, function(self, v)
      return self.o(self.b((self.a(v) * 10):sin()):sin())
    end)
    return net, nn.MSELoss(), optim.Adam(net:parameters(), { lr = 1e-3 }), { x, y }
  end },
  { "twelve residual layers", function()
    local x, y = table_of(160, 10)
    local net = nn.Sequential { nn.Linear(10, 24) }
    for _ = 1, 12 do
      net[#net + 1] = custom({ n = nn.LayerNorm(24), a = nn.Linear(24, 24) },
        function(self, h) return h + self.a(self.n(h)):silu() end)
    end
    net[#net + 1] = nn.Linear(24, 1)
    return net, nn.MSELoss(), optim.AdamW(net:parameters(), { lr = 1e-3 }), { x, y }
  end },
  { "dilated convolutions over time", function()
    local x, y = waves(100, 40, 2, 4)
    local net = nn.Sequential { nn.Conv1d(2, 12, 3), nn.BatchNorm1d(12), nn.ReLU(),
      nn.Conv1d(12, 12, 3, { dilation = 2 }), nn.BatchNorm1d(12), nn.ReLU(), nn.Conv1d(12, 12, 3, { dilation = 4 }),
      nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(12, 4) }
    return net, nn.CrossEntropyLoss(), optim.Adam(net:parameters(), { lr = 3e-3 }), { x:permute(1, 3, 2), y }
  end },
  { "a quantile", function()
    local x, z = table_of(200, 5)
    local net = nn.Sequential { nn.Linear(5, 16), nn.Mish(), nn.Linear(16, 1) }
    return net, function(p, y)
      local d = y - p
      return (d * 0.9):maximum(d * -0.1):mean()
    end, optim.Adam(net:parameters(), { lr = 2e-3 }), { x, z + nb.randn(200, 1) * 0.3 }
  end },
  { "smoothed labels, dropout and a table of several scales", function()
    local x, z = table_of(240, 8)
    local y = z:gt(-0.5):to("i64"):add(z:gt(0.5):to("i64")):view(-1) + 1
    local net = nn.Sequential { nn.BatchNorm1d(8), nn.Linear(8, 32), nn.SELU(), nn.Dropout(0.3), nn.Linear(32, 3) }
    return net, nn.CrossEntropyLoss { label_smoothing = 0.1 }, optim.RAdam(net:parameters(), { lr = 3e-3 }),
      { x * nb.tensor { 1, 2, 0.5, 1, 3, 1, 0.3, 1 }, y }
  end },
  { "tomorrow's value of a series", function()
    local walk = (nb.randn(150, 17) * 0.5):cumsum(2)
    local net = custom({ r = nn.LSTM(1, 16, { batch_first = true }), o = nn.Linear(16, 1) },
      function(self, v) return self.o((self.r(v))[{ nb.ALL, -1 }]) end)
    return net, nn.MSELoss(), optim.Adam(net:parameters(), { lr = 5e-3 }),
      { walk[{ nb.ALL, { 1, 16 } }]:unsqueeze(3), walk[{ nb.ALL, { 17, 17 } }] }
  end },
  { "graphs in a batch", function()
    local x = nb.randn(120, 8, 5)
    local net = graph_net(8)
    local y = x:tanh():mean(3):mean(2, { keepdim = true }) * 3
    return net, nn.MSELoss(), optim.Adam(net:parameters(), { lr = 3e-3 }), { x, y }
  end },
  { "a teacher's answers", function()
    local x = nb.randn(160, 10)
    local teacher = nn.Sequential { nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 5) }
    local net = nn.Sequential { nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 5), nn.LogSoftmax(2) }
    local soft = nb.no_grad(function() return teacher(x):mul(3):softmax(2) end)
    return net, nn.KLDivLoss { reduction = "batchmean" }, optim.Adam(net:parameters(), { lr = 3e-3 }), { x, soft }
  end },
}

local function illnesses(k, make)
  nb.seed(k)
  local list = {}
  for i, f in ipairs(inspect.check(make())) do list[i] = f.illness end
  return list
end

function T.test_set_ups_that_no_rule_was_made_with()
  local missed, doubted = {}, {}
  for k, case in ipairs(SICK) do
    local found = false
    for _, illness in ipairs(illnesses(1000 + k, case[3])) do
      for _, name in ipairs(case[2]) do found = found or illness == name end
    end
    if not found then missed[#missed + 1] = case[1] end
  end
  for k, case in ipairs(HEALTHY) do
    local list = illnesses(1100 + k, case[2])
    if #list > 0 then doubted[#doubted + 1] = case[1] .. ": " .. table.concat(list, ", ") end
  end
  print(("figure: inspect.check names %d of %d mistakes and doubts %d of %d healthy set-ups of a trial"):format(
    #SICK - #missed, #SICK, #doubted, #HEALTHY))
  lu.assertEquals({ #SICK, #HEALTHY }, { 10, 20 })
  lu.assertTrue(#missed <= 1, table.concat(missed, "\n"))
  lu.assertTrue(#doubted <= 1, table.concat(doubted, "\n"))
end

return T
