-- SPDX-License-Identifier: MIT
-- Layers beside the commonest: against formulas, sums written out, and what must hold whatever the numbers.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn = nb.nn

local T = {}

local assert_error, assert_close = numeric.assert_error, numeric.assert_close
local f64 = { dtype = "f64" }

-- ---- activations ----

local function sigmoid(x) return 1 / (1 + math.exp(-x)) end
local function clamp(x, low, high) return math.min(math.max(x, low), high) end

local FORMULAS = {
  ReLU6 = function(x) return clamp(x, 0, 6) end, Hardtanh = function(x) return clamp(x, -1, 1) end,
  Hardsigmoid = function(x) return x <= -3 and 0 or x >= 3 and 1 or x / 6 + 0.5 end,
  Hardswish = function(x) return x <= -3 and 0 or x >= 3 and x or x * (x + 3) / 6 end,
  Hardshrink = function(x) return math.abs(x) > 0.5 and x or 0 end,
  Softshrink = function(x) return x > 0.5 and x - 0.5 or x < -0.5 and x + 0.5 or 0 end,
  Tanhshrink = function(x) return x - (1 - 2 / (math.exp(2 * x) + 1)) end,
  Softsign = function(x) return x / (1 + math.abs(x)) end,
  SELU = function(x)
    return 1.0507009873554805 * (x > 0 and x or 1.6732632423543772 * (math.exp(x) - 1))
  end,
  CELU = function(x) return x > 0 and x or math.exp(x) - 1 end,
  Mish = function(x)
    local e = (1 + math.exp(x)) ^ 2
    return x * (e - 1) / (e + 1)
  end,
  LogSigmoid = function(x) return math.log(sigmoid(x)) end,
  PReLU = function(x) return x > 0 and x or 0.25 * x end,
}

function T.test_activations_by_their_formulas()
  local x = nb.linspace(-7, 7, 57, f64)
  for name, f in pairs(FORMULAS) do
    local y, want = nn[name]():to("f64")(x), {}
    for i = 1, 57 do want[i] = f(x:at(i)) end
    lu.assertNil(numeric.difference(numeric.flat(y), want, 1e-12), name)
  end
  assert_close(nn.CELU(2)(x), nn.CELU()(x / 2) * 2, 1e-12)
  assert_close(nn.Hardtanh(-0.5, 3)(x), x:clamp(-0.5, 3))
  assert_close(nn.LogSigmoid()(nb.tensor { -1e4, 1e4 }), { -1e4, 0 })
  local pair = nb.tensor({ { 1, -2, 3, 0.5 } }, f64)
  assert_close(nn.GLU()(pair), { 1 * sigmoid(3), -2 * sigmoid(0.5) })
  assert_close(nn.SwiGLU()(pair), { sigmoid(1) * 3, -2 * sigmoid(-2) * 0.5 })
  assert_close(nn.Softmin(2)(pair), nb.softmax(-pair, 2))
  assert_close(nn.Softmax2d()(nb.randn(2, 3, 4, 5)):sum(2), nb.ones(2, 4, 5))
  assert_error({ "even size", "3×5" }, nn.GLU(), nb.ones(3, 5))
  assert_error({ "Softmax2d", "3×5" }, nn.Softmax2d(), nb.ones(3, 5))
  assert_error({ "PReLU", "4 channels", "2×3" }, nn.PReLU(4), nb.ones(2, 3))
  assert_error({ "min_val must be below" }, nn.Hardtanh, 2, 1)
end

-- ---- pools ----

function T.test_pools_by_hand()
  local x = nb.tensor { { { 1, 5, 2, 4, 3, 0 } } }
  assert_close(nn.MaxPool1d(2)(x), { 5, 4, 3 })
  assert_close(nn.MaxPool1d(3, 1, 1)(x), { 5, 5, 5, 4, 4, 3 })
  assert_close(nn.AvgPool1d(3, 2)(x), { 8 / 3, 3 })
  assert_close(nn.AvgPool1d(2, 2, 1)(x), { 0.5, 3.5, 3.5, 0 })
  assert_close(nn.AvgPool1d(2, 2, 1, { count_include_pad = false })(x), { 1, 3.5, 3.5, 0 })
  assert_close(nn.LPPool1d(2, 2)(x), { math.sqrt(26), math.sqrt(20), 3 })
  assert_close(nn.AdaptiveAvgPool1d(4)(x), { 3, 3.5, 3.5, 1.5 })  -- 1-2, 2-3, 4-5, 5-6
  assert_close(nn.AdaptiveMaxPool1d(4)(x), { 5, 5, 4, 3 })
  assert_close(nn.AdaptiveMaxPool1d(9)(x), { 1, 5, 5, 2, 4, 4, 3, 3, 0 })
end

-- Against loops: of equal elements the first one row by row is taken, and its place, and all of the gradient is its.
function T.test_places_of_adaptive_maxima()
  nb.seed(4)
  local h, w, rows, columns = 7, 5, 3, 4
  local x = nb.randint(1, 3, { 2, h, w }):to("f64")
  x.requires_grad = true
  local y, places = nn.AdaptiveMaxPool2d({ rows, columns }, { return_indices = true })(x)
  lu.assertEquals(places.dtype, "i64")
  local gradient = nb.zeros(2, h, w, f64)
  for c = 1, 2 do
    for i = 1, rows do
      for j = 1, columns do
        local best, at, ai, aj = -math.huge, nil, nil, nil
        for a = (i - 1) * h // rows + 1, -(-i * h // rows) do
          for b = (j - 1) * w // columns + 1, -(-j * w // columns) do
            local v = x[{ c, a, b }]:item()
            if v > best then best, at, ai, aj = v, (a - 1) * w + b, a, b end
          end
        end
        lu.assertEquals(y[{ c, i, j }]:item(), best)
        lu.assertEquals(places[{ c, i, j }]:item(), at)
        gradient[{ c, ai, aj }] = gradient[{ c, ai, aj }] + 1
      end
    end
  end
  y:sum():backward()
  lu.assertTrue(nb.equal(x.grad, gradient))
  lu.assertEquals(select("#", nn.AdaptiveMaxPool1d(2)(nb.ones(1, 4))), 1)
  local line, at = nn.AdaptiveMaxPool1d(2, { return_indices = true })(nb.tensor { { 4, 7, 7, 9 } })
  assert_close(line, { 7, 9 })
  assert_close(at, { 2, 4 })
  local all, where = nn.AdaptiveMaxPool3d(1, { return_indices = true })(nb.arange(24):view(1, 2, 3, 4))
  assert_close(all, { 24 })
  assert_close(where, { 24 })
  lu.assertTrue(nb.equal(nn.AdaptiveMaxPool2d({ nil, nil })(x), x))  -- no size is told: all are the input's
end

-- Windows of three dimensions, each element looked at.
function T.test_volumes_against_sums_written_out()
  nb.seed(6)
  local x = nb.randn(1, 1, 5, 4, 6, f64)
  local k, s = { 2, 3, 2 }, { 1, 1, 2 }
  local largest, mean, norm = nn.MaxPool3d(k, s)(x), nn.AvgPool3d(k, s)(x), nn.LPPool3d(2, k, s)(x)
  local conv = nn.Conv3d(1, 1, k, { stride = s }):to("f64")
  local y = conv(x)
  lu.assertEquals(largest.shape, { 1, 1, 4, 2, 3 })
  for a = 1, 4 do
    for b = 1, 2 do
      for c = 1, 3 do
        local most, sum, product, squares = -math.huge, 0, conv.bias:at(1), 0
        for i = 1, 2 do
          for j = 1, 3 do
            for l = 1, 2 do
              local v = x:at(1, 1, a - 1 + i, b - 1 + j, 2 * (c - 1) + l)
              most, sum, product = math.max(most, v), sum + v, product + v * conv.weight:at(1, 1, i, j, l)
              squares = squares + v * v
            end
          end
        end
        lu.assertAlmostEquals(largest:at(1, 1, a, b, c), most, 1e-12)
        lu.assertAlmostEquals(mean:at(1, 1, a, b, c), sum / 12, 1e-12)
        lu.assertAlmostEquals(norm:at(1, 1, a, b, c), math.sqrt(squares), 1e-12)
        lu.assertAlmostEquals(y:at(1, 1, a, b, c), product, 1e-12)
      end
    end
  end
end

function T.test_unpool_puts_elements_back()
  local x = nb.tensor { { { 1, 5, 2, 4 } } }
  assert_close(nn.MaxUnpool1d(2)(nb.tensor { { { 5, 4 } } }, nb.tensor { { { 2, 4 } } }), { 0, 5, 0, 4 })
  lu.assertEquals(nn.MaxUnpool1d(2)(x, nb.tensor { { { 1, 3, 5, 7 } } }, { output_size = 9 }).shape, { 1, 1, 9 })
  assert_error({ "indices", "1×1×4" }, nn.MaxUnpool1d(2), x, nb.ones(1, 1, 3))
  assert_error({ "label 1 is 0" }, nn.MaxUnpool1d(2), x, nb.zeros(1, 1, 4))
  assert_error({ "output_size" }, nn.MaxUnpool1d(2), x, nb.ones(1, 1, 4), { output_size = 20 })
end

-- ⟨conv(x), y⟩ = ⟨x, transposed(y)⟩ for the same weights and options.
function T.test_transposed_convolutions_are_adjoint()
  nb.seed(7)
  for dims = 1, 3, 2 do
    for _, o in ipairs { { stride = 2, padding = 1 }, { dilation = 2 }, { groups = 2, padding = 1, stride = 3 } } do
      o.bias = false
      local conv = nn[("Conv%dd"):format(dims)](4, 2, 3, o):to("f64")
      local sizes = { 8, 7, 8 }
      local x = nb.randn({ 2, 4, table.unpack(sizes, 1, dims) }, f64)
      local y = conv(x)
      o.output_padding = {}
      for d = 1, dims do
        local reach = (y:size(d + 2) - 1) * (o.stride or 1) - 2 * (o.padding or 0) + 2 * (o.dilation or 1) + 1
        o.output_padding[d] = sizes[d] - reach
      end
      local back = nn[("ConvTranspose%dd"):format(dims)](2, 4, 3, o):to("f64")
      back.weight = conv.weight
      local z = nb.randn(y.shape, f64)
      lu.assertEquals(back(z).shape, x.shape)
      assert_close((y * z):sum(), (x * back(z)):sum():item(), 1e-10)
    end
  end
  assert_error({ "Conv3d", "2 channels", "1×3×4×4×4" }, nn.Conv3d(2, 1, 2), nb.ones(1, 3, 4, 4, 4))
  assert_error({ "Conv3d", "5 planes", "4" }, nn.Conv3d(1, 1, { 5, 1, 1 }), nb.ones(1, 1, 4, 4, 4))
  assert_error({ "stride must be one number or 3, got 2" }, nn.Conv3d, 1, 1, 2, { stride = { 1, 2 } })
  lu.assertEquals(nn.Conv3d(1, 1, 3, { padding = "same" })(nb.ones(1, 4, 5, 6)).shape, { 1, 4, 5, 6 })
end

-- ---- paddings and sizes ----

function T.test_paddings_by_hand()
  local x = nb.tensor { { { 1, 2, 3, 4 } } }
  assert_close(nn.ReflectionPad1d { 3, 1 }(x), { 4, 3, 2, 1, 2, 3, 4, 3 })
  assert_close(nn.ReplicationPad1d { 1, 5 }(x), { 1, 1, 2, 3, 4, 4, 4, 4, 4, 4 })
  assert_close(nn.CircularPad1d { 2, 4 }(x), { 3, 4, 1, 2, 3, 4, 1, 2, 3, 4 })
  assert_close(nn.ReflectionPad2d { 1, 0, 0, 1 }(nb.tensor { { { 1, 2 }, { 3, 4 } } }), { 2, 1, 2, 4, 3, 4, 2, 1, 2 })
  assert_close(nn.ZeroPad2d { 1, 0, 0, 1 }(nb.tensor { { { 1, 2 } } }), { 0, 1, 2, 0, 0, 0 })
  assert_error({ "ReflectionPad1d", "less than", "4" }, nn.ReflectionPad1d(4), x)
  assert_error({ "CircularPad1d", "at most", "5" }, nn.CircularPad1d(5), x)
  assert_error({ "padding must be one number or 4, got 3" }, nn.ZeroPad2d, { 1, 2, 3 })
  assert_error({ "ZeroPad3d", "depth" }, nn.ZeroPad3d(1), nb.ones(2, 2))
end

function T.test_upsampling_by_hand()
  local x = nb.tensor { { { 1, 3 } } }
  assert_close(nn.Upsample { scale_factor = 2, mode = "linear" }(x), { 1, 1.5, 2.5, 3 })
  assert_close(nn.Upsample { size = 3, mode = "linear", align_corners = true }(x), { 1, 2, 3 })
  assert_close(nn.Upsample { size = 5 }(x), { 1, 1, 1, 3, 3 })
  -- Whatever is computed between pixels of a plane lies on it; at the edges the nearest pixels are repeated.
  local plane = (nb.arange(6):view(6, 1) * 2 + nb.arange(7)):view(1, 1, 6, 7):to("f64")
  local y = nn.Upsample { size = { 11, 13 }, mode = "bilinear", align_corners = true }(plane)
  assert_close(y, (nb.linspace(1, 6, 11, f64):view(11, 1) * 2 + nb.linspace(1, 7, 13, f64)):view(1, 1, 11, 13), 1e-12)
  local cubic = nn.Upsample { size = { 11, 13 }, mode = "bicubic", align_corners = true }(plane)
  local inner = { nb.ALL, nb.ALL, { 3, 9 }, { 3, 11 } }
  assert_close(cubic[inner], y[inner], 1e-12)
  assert_error({ "one of size and scale_factor" }, nn.Upsample, {})
  assert_error({ "align_corners" }, nn.Upsample, { size = 2, align_corners = true })
  assert_error({ "mode bilinear", "1×1×2" }, nn.Upsample { size = 2, mode = "bilinear" }, x)
end

function T.test_shuffles_come_back()
  local x = nb.randn(2, 12, 3, 4)
  assert_close(nn.PixelUnshuffle(2)(nn.PixelShuffle(2)(x)), x, 0)
  assert_close(nn.PixelShuffle(2)(nb.arange(4):view(1, 4, 1, 1)), { 1, 2, 3, 4 })
  assert_close(nn.ChannelShuffle(4)(nn.ChannelShuffle(3)(x)), x, 0)
  assert_close(nn.Unflatten(2, { 3, -1 })(x), x:view(2, 3, 4, 3, 4), 0)
  assert_error({ "12 channels", "9 pixels" }, nn.PixelShuffle(3), x)
  assert_error({ "whole squares" }, nn.PixelUnshuffle(2), x)
  assert_error({ "Unflatten", "12 elements", "{5, -1}" }, nn.Unflatten(2, { 5, -1 }), x)
end

-- ---- normalisation and chance ----

function T.test_norms_of_instances()
  nb.seed(8)
  local x = nb.randn(3, 2, 4, 5, f64) * 3 + 1
  local norm = nn.InstanceNorm2d(2, { affine = true, eps = 0 }):to("f64")
  nb.no_grad(function()
    norm.weight:copy_(nb.tensor { 2, 3 })
    norm.bias:copy_(nb.tensor { -1, 4 })
  end)
  local y = norm(x)
  assert_close(y:mean { 3, 4 }, { -1, 4, -1, 4, -1, 4 }, 1e-10)
  assert_close(y:var({ 3, 4 }, { correction = 0 }):sqrt(), { 2, 3, 2, 3, 2, 3 }, 1e-10)
  local tracking = nn.InstanceNorm2d(2, { track_running_stats = true, momentum = 1 }):to("f64")
  tracking(x)
  assert_close(tracking.running_mean, x:mean { 3, 4 }:mean(1), 1e-12)
  assert_close(tracking.running_var, x:var { 3, 4 }:mean(1), 1e-12)
  assert_close(tracking:eval()(x), (x - tracking.running_mean:view(1, 2, 1, 1)) /
    (tracking.running_var:view(1, 2, 1, 1) + 1e-5):sqrt(), 1e-12)
  assert_error({ "InstanceNorm1d", "more than one value" }, nn.InstanceNorm1d(2), nb.ones(3, 2, 1))
  local r = nn.LocalResponseNorm(3, { alpha = 3, beta = 0.5 })(nb.tensor { { { 1 }, { 2 }, { 3 } } })
  assert_close(r, { 1 / math.sqrt(1 + 5), 2 / math.sqrt(1 + 14), 3 / math.sqrt(1 + 13) })
end

function T.test_dropouts_of_channels()
  nb.seed(9)
  local y = nn.Dropout2d(0.25)(nb.ones(50, 40, 3, 2))
  local channels = y:view(2000, 6)
  lu.assertTrue((channels:max(2) - channels:min(2)):abs():max():item() == 0)  -- whole channels
  local kept = channels:narrow(2, 1, 1):gt(0):to("f32"):mean():item()
  lu.assertTrue(math.abs(kept - 0.75) < 0.04, tostring(kept))
  assert_close(channels:max(), 1 / 0.75)
  lu.assertEquals(nn.Dropout1d(0.5)(nb.ones(4, 3)).shape, { 4, 3 })
  -- Mean 0 and variance 1 stay (the fourth moment of a normal number is 3: 400,000 of them are enough).
  local x = nb.randn(400000, f64)
  local dropped = nn.AlphaDropout(0.3)(x)
  lu.assertTrue(math.abs(dropped:mean():item()) < 0.01 and math.abs(dropped:var():item() - 1) < 0.02)
  local share = dropped:eq(dropped:min()):to("f64"):mean():item()
  lu.assertTrue(math.abs(share - 0.3) < 0.01 or share < 0.001)  -- the lowest value, or numbers below it
  assert_error({ "Dropout2d", "batch × channels × height × width" }, nn.Dropout2d(), nb.ones(2, 3))
end

-- ---- embeddings and distances ----

function T.test_bags_are_sums_of_embeddings()
  nb.seed(10)
  local rows = nb.tensor { { 1, 3, 3 }, { 2, 4, 1 } }
  for mode, f in pairs { sum = "sum", mean = "mean", max = "max" } do
    local bag = nn.EmbeddingBag(4, 5, { mode = mode })
    local e = nn.Embedding(4, 5)
    e.weight = bag.weight
    assert_close(bag(rows), (e(rows)[f](e(rows), 2)))
    assert_close(bag(nb.tensor { 1, 3, 3, 2 }, nb.tensor { 1, 4, 4 }),
      nb.stack({ bag(nb.tensor { { 1, 3, 3 } })[1], nb.zeros(5), e(nb.tensor(2)) }, 1))
  end
  local sum = nn.EmbeddingBag(4, 2, { mode = "sum", padding_idx = 2 })
  local weighted = sum(rows, nil, nb.tensor { { 1, 2, 3 }, { 7, 5, 1 } })
  assert_close(weighted, nb.stack({ sum.weight[1] + sum.weight[3] * 5, sum.weight[4] * 5 + sum.weight[1] }, 1))
  assert_error({ "offsets must be 1" }, sum, nb.tensor { 1, 2 }, nb.tensor { 2 })
  assert_error({ "must not fall" }, sum, nb.tensor { 1, 2 }, nb.tensor { 1, 3, 2 })
  assert_error({ "label 2 is 5" }, sum, nb.tensor { 1, 5 }, nb.tensor { 1 })
  assert_error({ "bags × numbers" }, sum, nb.tensor { 1, 5 })
  local b = nn.Bilinear(2, 2, 1)
  b.weight = nb.tensor({ { { 1, 2 }, { 3, 4 } } }, { requires_grad = true })
  b.bias = nb.tensor({ 10 }, { requires_grad = true })
  assert_close(b(nb.tensor { { 1, 2 } }, nb.tensor { { 5, 6 } }), 10 + 1 * (5 + 12) + 2 * (15 + 24))
  assert_close(nn.CosineSimilarity()(nb.tensor { { 1, 1 } }, nb.tensor { { 0, 2 } }), math.sqrt(0.5))
  assert_close(nn.PairwiseDistance(1, 0)(nb.tensor { { 1, 1 } }, nb.tensor { { 0, 3 } }), 3)
  assert_error({ "Bilinear", "input 2 must be 2", "1×3" }, b, nb.ones(1, 2), nb.ones(1, 3))
end

-- ---- cells and transformers ----

-- A cell, step by step, gives what the layer of the same weights gives.
function T.test_cells_are_steps_of_layers()
  for _, name in ipairs { "RNN", "LSTM", "GRU" } do
    local layer, cell = nn[name](3, 4), nn[name .. "Cell"](3, 4)
    for _, part in ipairs { "weight_ih", "weight_hh", "bias_ih", "bias_hh" } do cell[part] = layer[part .. "_l0"] end
    local x = nb.randn(5, 2, 3)
    local y = layer(x)
    local h, c
    for t = 1, 5 do
      h, c = cell(x[t], h, c)
      assert_close(h, y[t], 1e-5)
    end
    lu.assertEquals(cell(nb.ones(3)).shape, { 4 })
    assert_error({ name .. "Cell", "3 features" }, cell, nb.ones(2, 4))
    assert_error({ "state h", "2×4" }, cell, nb.ones(2, 3), nb.ones(3, 4))
  end
end

-- With tgt_is_causal a later place changes nothing before it; padded places of the source change nothing at all.
function T.test_a_transformer_looks_where_it_may()
  nb.seed(12)
  local net = nn.Transformer(8, 2, 2, 2, { dim_feedforward = 16, dropout = 0, batch_first = true })
  local src, tgt = nb.randn(2, 5, 8), nb.randn(2, 4, 8)
  local hidden = nb.tensor({ { false, false, false, true, true }, { false, false, false, true, true } },
    { dtype = "bool" })
  local o = { tgt_is_causal = true, src_key_padding_mask = hidden, memory_key_padding_mask = hidden }
  local y = net(src, tgt, o)
  local other = tgt:clone()
  other[{ nb.ALL, 4 }] = nb.randn(2, 8)
  assert_close(net(src, other, o)[{ nb.ALL, { 1, 3 } }], y[{ nb.ALL, { 1, 3 } }], 1e-6)
  lu.assertTrue((net(src, other, o)[{ nb.ALL, 4 }] - y[{ nb.ALL, 4 }]):abs():max():item() > 1e-3)
  local padded = src:clone()
  padded[{ nb.ALL, { 4, 5 } }] = 7
  assert_close(net(padded, tgt, o), y, 1e-6)
  local mask = nb.ones({ 4, 4 }, { dtype = "bool" }):triu(1)
  assert_close(net(src, tgt, { tgt_mask = mask, src_key_padding_mask = hidden, memory_key_padding_mask = hidden }), y,
    1e-6)
  lu.assertEquals(#net.decoder.layers, 2)
  assert_error({ "decoder_layer must be" }, nn.TransformerDecoder, nn.ReLU(), 2)
  assert_error({ "activation" }, nn.TransformerDecoderLayer, 4, 2, { activation = "sine" })
end

-- ---- containers ----

function T.test_dictionaries_hold_what_learns()
  local dict = nn.ModuleDict { b = nn.Linear(2, 3), a = nn.ReLU() }
  lu.assertEquals(#dict:parameters(), 2)
  dict.c = nn.Linear(3, 1)
  lu.assertEquals(#dict:parameters(), 4)
  lu.assertNotNil(dict:state()["c.weight"])
  lu.assertEquals(dict["b"].out_features, 3)
  local list = nn.ParameterList { nb.zeros(2), nb.ones(3) }
  lu.assertEquals(#list, 2)
  lu.assertEquals(list[-1].shape, { 3 })
  lu.assertTrue(list[1].requires_grad)
  lu.assertEquals(nn.ParameterDict { w = nb.zeros(2) }:state().w.shape, { 2 })
  assert_error({ "entry a must be a module" }, nn.ModuleDict, { a = 3 })
  assert_error({ "names must be strings" }, nn.ModuleDict, { nn.ReLU() })
  assert_error({ "entry 1 must be a tensor" }, nn.ParameterList, { 3 })
  assert_error({ "f32 or f64", "i64" }, nn.ParameterList, { nb.arange(3, { dtype = "i64" }) })
  assert_error({ "ModuleDict has no forward" }, dict, nb.ones(2))
  assert_error({ "train" }, nn.ModuleDict, { train = nn.ReLU() })
end

-- ---- sizes left out ----

function T.test_the_first_call_sees_what_size_was_left_out()
  nb.seed(3)
  local net = nn.Sequential(nn.LazyConv2d(4, 3, { padding = 1 }), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(5))
  local text = tostring(net)
  lu.assertStrContains(text, "LazyConv2d(4, 3, padding=1)")
  for _, ask in ipairs { "parameters", "named_parameters", "state" } do
    assert_error({ ask, "layer 1, LazyConv2d", "call the net once" }, net[ask], net)
  end
  assert_error({ "load_state", "call the net once" }, net.load_state, net, {})
  net:zero_grad()
  net:eval()
  lu.assertEquals(net(nb.zeros(2, 3, 6, 6)).shape, { 2, 5 })
  lu.assertEquals({ net[1]:kind(), net[2]:kind(), net[4]:kind() }, { "Conv2d", "BatchNorm2d", "Linear" })
  lu.assertEquals({ net[1].in_channels, net[2].num_features, net[4].in_features }, { 3, 4, 4 * 6 * 6 })
  lu.assertEquals({ net[1].training, #net:parameters() }, { false, 6 })
  -- It is what it stands for: the same draws, the same state.
  nb.seed(9)
  local lazy = nn.LazyLinear(2, { bias = false })
  local x = nb.randn({ 3, 4 }, f64)
  nb.seed(10)
  local y = lazy(x)
  nb.seed(10)
  assert_close(nn.Linear(4, 2, { bias = false }):to("f64")(x), y, 1e-12)
  lu.assertEquals({ lazy.weight.dtype, tostring(lazy) }, { "f64", "Linear(4 → 2, bias=false)" })
  lu.assertEquals(nn.LazyConv1d(2, 2)(nb.zeros(3, 4)).shape, { 2, 3 })
  assert_error({ "LazyConv2d", "channels and 2 dimensions", "2×4" }, nn.LazyConv2d(1, 1), nb.zeros(2, 4))
  assert_error({ "LazyBatchNorm1d", "a batch of" }, nn.LazyBatchNorm1d(), nb.zeros(2))
  assert_error({ "LazyLinear", "size 0" }, nn.LazyLinear(1), nb.zeros(2, 0))
  assert_error({ "LazyLinear", "a tensor of features", "got 3" }, nn.LazyLinear(1), 3)
  -- A call that fails leaves it as it was.
  local failing = nn.LazyConv2d(1, 9)
  lu.assertFalse((pcall(failing, nb.zeros(1, 2, 4, 4))))
  local copy = nn.LazyLinear(1)
  assert_error({ "missing" }, nn.LazyLinear)
  lu.assertEquals(copy(nb.zeros(2, 3)).shape, { 2, 1 })
end

return T
