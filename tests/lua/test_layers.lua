-- SPDX-License-Identifier: MIT
-- Layers and initial weights: against hand-derived values, finite differences and invariants.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn = nb.nn

local T = {}

local assert_error, assert_close = numeric.assert_error, numeric.assert_close

local flat = numeric.flat

local function f64(...)
  return nb.randn({ ... }, { dtype = "f64" })
end

function T.test_linear_by_hand()
  local fc = nn.Linear(2, 3)
  fc.weight:detach():copy_(nb.tensor { { 1, 2 }, { 3, 4 }, { 5, 6 } })
  fc.bias:detach():copy_(nb.tensor { 10, 20, 30 })
  assert_close(fc(nb.tensor { { 1, -1 } }), { 10 - 1, 20 - 1, 30 - 1 })
  assert_close(fc(nb.tensor { 1, 0 }), { 11, 23, 35 })
  lu.assertEquals(fc(nb.ones(4, 5, 2)).shape, { 4, 5, 3 })
end

function T.test_gradients_of_layers_agree_with_finite_differences()
  nb.seed(11)
  numeric.assert_gradients(nn.Linear(3, 2), f64(4, 3))
  numeric.assert_gradients(nn.Conv1d(2, 3, 3, { padding = 1 }), f64(2, 2, 5))
  numeric.assert_gradients(nn.Conv2d(2, 4, 3, { stride = 2, padding = 1, groups = 2 }), f64(2, 2, 5, 5))
  numeric.assert_gradients(nn.ConvTranspose2d(2, 3, 3, { stride = 2, output_padding = 1 }), f64(1, 2, 3, 3))
  numeric.assert_gradients(nn.BatchNorm1d(3), f64(5, 3))
  numeric.assert_gradients(nn.BatchNorm2d(2), f64(2, 2, 3, 3))
  numeric.assert_gradients(nn.LayerNorm({ 2, 3 }), f64(4, 2, 3))
  numeric.assert_gradients(nn.RMSNorm(3), f64(4, 3))
  numeric.assert_gradients(nn.GroupNorm(2, 4), f64(2, 4, 3))
  numeric.assert_gradients(nn.AvgPool2d(2), f64(1, 2, 4, 4))
  numeric.assert_gradients(nn.MaxPool2d(2, { stride = 1 }), f64(1, 2, 4, 4))
  numeric.assert_gradients(nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.GELU()), f64(2, 3, 4))
end

function T.test_initial_weights_have_the_default_bounds()
  nb.seed(2)
  local fc = nn.Linear(100, 50)
  lu.assertTrue(fc.weight:abs():max():item() <= 0.1 and fc.weight:abs():max():item() > 0.099)
  lu.assertTrue(fc.bias:abs():max():item() <= 0.1)
  local conv = nn.Conv2d(4, 50, 5)
  lu.assertEquals(conv.weight.shape, { 50, 4, 5, 5 })
  lu.assertTrue(conv.weight:abs():max():item() <= 0.1 and conv.weight:abs():max():item() > 0.099)
  local up = nn.ConvTranspose2d(7, 4, 5)
  lu.assertEquals(up.weight.shape, { 7, 4, 5, 5 })
  lu.assertTrue(up.weight:abs():max():item() <= 0.1)
  lu.assertAlmostEquals(nn.Embedding(200, 50).weight:std():item(), 1, 0.05)
end

function T.test_initialisers_reach_their_spread()
  nb.seed(3)
  local w = nb.zeros(200, 300)
  local std = function() return w:std():item() end
  nn.init.xavier_uniform(w)
  lu.assertTrue(w:abs():max():item() <= math.sqrt(6 / 500))
  lu.assertAlmostEquals(std(), math.sqrt(2 / 500), 0.002)
  nn.init.xavier_normal(w, { gain = 2 })
  lu.assertAlmostEquals(std(), 2 * math.sqrt(2 / 500), 0.003)
  nn.init.kaiming_normal(w, { nonlinearity = "relu" })
  lu.assertAlmostEquals(std(), math.sqrt(2 / 300), 0.003)
  nn.init.kaiming_uniform(w, { mode = "fan_out", a = 1 })
  lu.assertAlmostEquals(std(), math.sqrt(1 / 200), 0.003)
  nn.init.uniform(w, 2, 3)
  lu.assertTrue(w:min():item() >= 2 and w:max():item() <= 3)
  assert_error({ "xavier_uniform", "2 dimensions" }, nn.init.xavier_uniform, nb.zeros(3))
  lu.assertTrue(nn.init.normal(nn.Linear(2, 2).weight, 0, 1).requires_grad)
end

function T.test_orthogonal_matrices_keep_lengths()
  nb.seed(6)
  for _, shape in ipairs { { 5, 8 }, { 8, 5 }, { 4, 2, 3 }, { 1, 4 } } do
    local w = nn.init.orthogonal(nb.zeros(shape, { dtype = "f64" }), { gain = 2 }):view(shape[1], -1)
    local gram = shape[1] <= w:size(2) and w:matmul(w.T) or w.T:matmul(w)
    assert_close(gram, nb.eye(#gram, { dtype = "f64" }) * 4, 1e-12)
  end
end

function T.test_initialisers_with_patterns()
  nb.seed(7)
  local w = nn.init.trunc_normal(nb.zeros(100, 100), { mean = 1, std = 2, a = 0, b = 2 })
  lu.assertTrue(w:min():item() >= 0 and w:max():item() <= 2)
  lu.assertAlmostEquals(w:mean():item(), 1, 0.02)
  local tail = nn.init.trunc_normal(nb.zeros(50, { dtype = "f64" }), { a = 4, b = 4.5 })
  lu.assertTrue(tail:min():item() >= 4 and tail:max():item() <= 4.5 and tail:std():item() > 0)
  assert_error({ "a..b" }, nn.init.trunc_normal, w, { a = 1, b = 1 })
  local x = nb.randn(2, 3, 5)
  local conv = nn.Conv1d(3, 4, 3, { padding = 1, bias = false })
  nn.init.dirac(conv.weight)
  assert_close(conv(x)[{ nb.ALL, { 1, 3 } }], x)
  assert_close(conv(x)[{ nb.ALL, 4 }], nb.zeros(2, 5))
  assert_close(nn.init.eye(nb.ones(2, 3)), { 1, 0, 0, 0, 1, 0 }, 0)
  lu.assertAlmostEquals(nn.init.gain("leaky_relu", 1), 1, 1e-12)
  assert_error({ "nonlinearity", "tanh" }, nn.init.gain, "tan")
end

function T.test_clipping_takes_lists_tensors_and_modules()
  local w = nb.tensor({ 3, 4 }, { requires_grad = true })
  local function fresh() w.grad = nb.tensor { 6, -8 } end
  fresh()
  lu.assertEquals(nn.clip_grad_norm(w, 5), 10)
  assert_close(w.grad, { 3, -4 })
  fresh()
  lu.assertEquals(nn.clip_grad_norm({ w }, 4, math.huge), 8)
  assert_close(w.grad, { 3, -4 })
  fresh()
  lu.assertAlmostEquals(nn.clip_grad_norm({ w }, 7, { norm_type = 1 }), 14, 1e-5)
  assert_close(w.grad, { 3, -4 })
  nn.clip_grad_value({ w }, 3.5)
  assert_close(w.grad, { 3, -3.5 })
  local net = nn.Linear(2, 1)
  net(nb.full({ 1, 2 }, 100)):sum():backward()
  lu.assertTrue(nn.clip_grad_norm(net, 1) > 100)
  assert_close(net.weight.grad:square():sum() + net.bias.grad:square():sum(), 1)
  w.grad = nb.tensor { 0 / 0, 1 }
  assert_error({ "NaN" }, nn.clip_grad_norm, { w }, 1, { error_if_nonfinite = true })
  assert_error({ "parameters", "3" }, nn.clip_grad_norm, 3, 1)
  assert_error({ "entry 1" }, nn.clip_grad_value, { 3 }, 1)
end

function T.test_a_padding_vector_is_zero_and_never_learns()
  local e = nn.Embedding(4, 2, { padding_idx = 2 })
  assert_close(e(nb.tensor { 2 }), { 0, 0 })
  e(nb.tensor { 1, 2, 2 }):sum():backward()
  assert_close(e.weight.grad, { 1, 1, 0, 0, 0, 0, 0, 0 })
  assert_error({ "padding_idx", "1 to 4", "5" }, nn.Embedding, 4, 2, { padding_idx = 5 })
end

function T.test_dropout_keeps_the_mean_and_stops_in_evaluation()
  nb.seed(4)
  local drop = nn.Dropout(0.25)
  local y = drop(nb.ones(100, 100))
  lu.assertAlmostEquals(y:mean():item(), 1, 0.02)
  lu.assertAlmostEquals(y:eq(0):to("f32"):mean():item(), 0.25, 0.02)
  assert_close(y:max(), 1 / 0.75)
  local x = nb.randn(3)
  assert_close(drop:eval()(x), x, 0)
end

function T.test_batch_norm_normalises_and_learns_running_values()
  nb.seed(5)
  local norm = nn.BatchNorm2d(3)
  local x = nb.randn(8, 3, 4, 4) * 5 + 2
  local y = norm(x)
  assert_close(y:mean({ 1, 3, 4 }), { 0, 0, 0 }, 1e-5)
  assert_close(y:var({ 1, 3, 4 }, { correction = 0 }), { 1, 1, 1 }, 1e-4)
  assert_close(norm.running_mean, x:mean({ 1, 3, 4 }) * 0.1)
  assert_close(norm.running_var, x:var({ 1, 3, 4 }) * 0.1 + 0.9)  -- unbiased, as PyTorch has it
  norm:eval()
  local before = norm:state()
  local shape = { 1, 3, 1, 1 }
  assert_close(norm(x), (x - norm.running_mean:view(shape)) / (norm.running_var:view(shape) + 1e-5):sqrt())
  assert_close(norm.running_mean, before.running_mean, 0)
  lu.assertEquals(#norm:parameters(), 2)
  assert_error({ "BatchNorm2d", "3 channels", "2×4×3×3" }, norm, nb.ones(2, 4, 3, 3))
  assert_error({ "more than one value" }, nn.BatchNorm1d(3), nb.ones(1, 3))
end

function T.test_layer_norm_rows_have_mean_0_and_variance_1()
  local y = nn.LayerNorm(50, { elementwise_affine = false })(nb.randn(4, 50) * 3 + 1)
  assert_close(y:mean(2), { 0, 0, 0, 0 }, 1e-5)
  assert_close(y:var(2, { correction = 0 }), { 1, 1, 1, 1 }, 1e-4)
  -- One group over all channels is LayerNorm of the sample, one for each is instance normalisation.
  local x = nb.randn(2, 4, 5)
  assert_close(nn.GroupNorm(1, 4)(x), nn.LayerNorm({ 4, 5 })(x), 1e-5)
  assert_close(nn.GroupNorm(4, 4)(x), nn.LayerNorm(5)(x), 1e-5)
end

function T.test_convolution_by_hand()
  local conv = nn.Conv2d(1, 1, 2)
  conv.weight:detach():copy_(nb.tensor { { { { 1, 2 }, { 3, 4 } } } })
  conv.bias:detach():fill_(0.5)
  local x = nb.tensor { { { { 1, 0, 2 }, { 0, 1, 0 }, { 3, 0, 1 } } } }
  -- 1·1 + 4·1, 2·2 + 3·1; 2·1 + 3·3, 1·1 + 4·1
  assert_close(conv(x), { 5.5, 7.5, 11.5, 5.5 })
end

-- As many shapes as there are ways through the code: images in one window, in several, in many blocks; wide rows;
-- weights that are better multiplied with columns; groups, dilation, padding, strides.  The reference unfolds and
-- multiplies.
function T.test_convolution_is_a_product_with_unfolded_images()
  local function reference(x, w, o)
    local n, kh, kw = x:size(1), w:size(3), w:size(4)
    local lines = nb.unfold(x, { kh, kw }, { stride = o.stride, padding = o.padding, dilation = o.dilation })
    local groups, out = o.groups, {}
    local each, rows = lines:size(2) // groups, w:size(1) // groups
    for g = 1, groups do
      local filters = w:narrow(1, (g - 1) * rows + 1, rows):reshape(rows, each)
      out[g] = filters:matmul(lines:narrow(2, (g - 1) * each + 1, each))
    end
    local function side(d)
      return (x:size(d) + 2 * o.padding - o.dilation * (w:size(d) - 1) - 1) // o.stride + 1
    end
    return nb.cat(out, 2):reshape(n, w:size(1), side(3), side(4))
  end
  for _, case in ipairs {
    { { 2, 3, 6, 7 }, { 5, 3, 3, 2 } },
    { { 1, 40, 30, 38 }, { 2, 40, 3, 3 }, padding = 1 },
    { { 70, 2, 9, 8 }, { 3, 2, 2, 5 }, padding = 2 },
    { { 2, 1, 2, 1300 }, { 2, 1, 1, 9 }, padding = 4 },
    { { 2, 9, 8, 8 }, { 6, 3, 3, 3 }, groups = 3, dilation = 2, padding = 3 },
    { { 3, 8, 10, 10 }, { 8, 1, 3, 3 }, groups = 8, padding = 1 },
    { { 2, 8, 7, 7 }, { 40, 8, 3, 3 }, padding = 1 },
    { { 2, 64, 5, 5 }, { 80, 64, 3, 3 }, padding = 1 },
    { { 2, 3, 9, 9 }, { 4, 3, 3, 3 }, stride = 2, padding = 1 },
    { { 2, 2, 3, 3 }, { 3, 2, 2, 2 }, padding = 3 },  -- more padding than the kernel reaches
    { { 5, 16, 40, 40 }, { 3, 16, 3, 3 }, stride = 2, padding = 1, threads = 1 },  -- more images than a block has
    { { 2, 0, 5, 6 }, { 3, 0, 2, 2 } },
    { { 1, 3, 6, 7 }, { 6, 3, 3, 3 } },
    { { 1, 3, 6, 50 }, { 6, 3, 3, 3 } },
    { { 1, 3, 6, 20 }, { 8, 3, 3, 3 } },
    { { 1, 3, 6, 50 }, { 20, 3, 3, 3 } },
    { { 1, 3, 6, 7 }, { 12, 3, 3, 3 } },
  } do
    local o = { stride = case.stride or 1, padding = case.padding or 0 }
    o.dilation, o.groups = case.dilation or 1, case.groups or 1
    local threads = nb.threads()
    local _ <close> = setmetatable({}, { __close = function() nb.threads(threads) end })
    nb.threads(case.threads or threads)
    for dtype, tolerance in pairs { f64 = 1e-11, f32 = 1e-3 } do
      local x, w = nb.randn(case[1], { dtype = dtype }), nb.randn(case[2], { dtype = dtype })
      x.requires_grad, w.requires_grad = true, true
      local want, have = reference(x, w, o), nb.conv2d(x, w, o)
      assert_close(have, want, tolerance)
      local g = nb.randn(want.shape, { dtype = dtype })
      local wx, ww = nb.grad((want * g):sum(), { x, w })
      local hx, hw = nb.grad((have * g):sum(), { x, w })
      assert_close(hx, wx, tolerance)
      assert_close(hw, ww, tolerance)
    end
  end
end

-- Whole numbers have equals, of which the first is taken; NaN is larger than all.
function T.test_the_largest_of_each_window_is_found_with_its_place()
  for _, size in ipairs { { 2, 2 }, { 3, 5 }, { 4, 9 }, { 9, 17 }, { 8, 40 } } do
    for _, dtype in ipairs { "f32", "f64" } do
      local x = nb.randint(0, 3, { 3, size[1], size[2] }):to(dtype)
      x[{ 2, 1, 1 }], x[{ 3, 2, 2 }] = 0 / 0, 0 / 0
      x.requires_grad = true
      local y = nb.max_pool2d(x, 2)
      y:sum():backward()
      local all, grads = flat(x), nb.zeros_like(x)
      local h, w = size[1], size[2]
      local values = {}
      for plane = 1, 3 do
        for i = 1, h // 2 do
          for j = 1, w // 2 do
            local best, place
            for k = 0, 3 do
              local at = { 2 * i - 1 + k // 2, 2 * j - 1 + k % 2 }
              local v = all[((plane - 1) * h + at[1] - 1) * w + at[2]]
              if not best or (best == best and (v > best or v ~= v)) then best, place = v, at end
            end
            values[#values + 1] = best
            grads[{ plane, place[1], place[2] }] = 1
          end
        end
      end
      assert_close(y, values, 0)
      assert_close(x.grad, grads, 0)
    end
  end
end

function T.test_embedding_gives_rows_and_gathers_gradients()
  local e = nn.Embedding(4, 2)
  local y = e(nb.tensor { { 1, 4 }, { 1, 2 } })
  lu.assertEquals(y.shape, { 2, 2, 2 })
  assert_close(y[{ 1, 2 }], e.weight[4])
  y:sum():backward()
  assert_close(e.weight.grad, { 2, 2, 1, 1, 0, 0, 1, 1 })
end

function T.test_activations_are_their_operators()
  local x = nb.randn(3, 4)
  assert_close(nn.LeakyReLU(0.2)(x), nb.leaky_relu(x, 0.2), 0)
  assert_close(nn.Softmax()(x), nb.softmax(x, 2), 0)
  assert_close(nn.Softmax(1)(x), nb.softmax(x, 1), 0)
  assert_close(nn.GELU { approximate = "tanh" }(x), nb.gelu(x, { approximate = "tanh" }), 0)
  assert_close(nn.ELU { alpha = 0.5 }(x), nb.elu(x, 0.5), 0)
  lu.assertEquals(tostring(nn.LeakyReLU(0.2)), "LeakyReLU(negative_slope=0.2)")
end

function T.test_clip_grad_norm()
  local a, b = nb.ones(2, { requires_grad = true }), nb.ones(1, { requires_grad = true })
  a.grad, b.grad = nb.tensor { 2, 4 }, nb.tensor { 4 }
  lu.assertAlmostEquals(nn.clip_grad_norm({ a, b }, 3), 6, 1e-6)
  assert_close(a.grad, { 1, 2 })
  assert_close(b.grad, { 2 })
  lu.assertAlmostEquals(nn.clip_grad_norm({ a, b }, 10), 3, 1e-6)
  assert_close(b.grad, { 2 })
end

function T.test_same_padding_keeps_the_size()
  for kernel = 1, 5 do
    for dilation = 1, 3 do
      local layer = nn.Conv2d(2, 3, { kernel, 3 }, { padding = "same", dilation = { dilation, 1 } })
      lu.assertEquals(layer(nb.ones(1, 2, 9, 7)).shape, { 1, 3, 9, 7 })
    end
  end
  -- An even filter's odd zero stands at the end: y[i] = x[i] + x[i + 1].
  local pairs_of = nn.Conv1d(1, 1, 2, { padding = "same", bias = false })
  nb.no_grad(function() pairs_of.weight:fill_(1) end)
  lu.assertEquals(pairs_of(nb.tensor { { { 1, 2, 3 } } }):totable(), { { { 3, 5, 3 } } })
  assert_error({ "nn.Conv2d", "same", "stride of 1", "2" }, nn.Conv2d, 1, 1, 3, { padding = "same", stride = 2 })
  assert_error({ "padding", '"same" or "valid"', '"some"' }, nn.Conv2d, 1, 1, 3, { padding = "some" })
end

-- One operator, or its parts while operators are observed: the same values and gradients.
function T.test_standardised_rows_and_channels_equal_their_formula()
  nb.seed(21)
  local native = require "nablua.native"
  for _, case in ipairs { { nn.LayerNorm(7), 5, 7 }, { nn.LayerNorm { 3, 4 }, 2, 3, 4 }, { nn.LayerNorm(1), 3, 1 },
    { nn.GroupNorm(2, 6), 3, 6, 5 }, { nn.LayerNorm(5, { elementwise_affine = false }), 0, 5 },
    { nn.LayerNorm(600), 2, 600 }, { nn.LayerNorm(9), 200, 9 }, { nn.RMSNorm(7), 5, 7 },
    { nn.RMSNorm { 2, 3 }, 70, 2, 3 }, { nn.RMSNorm(5, { elementwise_affine = false }), 2, 5 },
    { nn.GroupNorm(3, 6), 50, 6, 2, 5 }, { nn.GroupNorm(6, 6, { affine = false }), 2, 6, 5 },
    { nn.GroupNorm(2, 6), 0, 6, 5 }, { nn.BatchNorm1d(20), 9, 20 }, { nn.BatchNorm1d(3), 4, 3, 7 },
    { nn.BatchNorm2d(5), 3, 5, 24, 25 }, { nn.BatchNorm2d(4, { affine = false, eps = 0.1 }), 2, 4, 2, 2 },
    { nn.BatchNorm1d(2, { track_running_stats = false }), 2, 2, 1 } } do
    local layer = case[1]:to("f64")
    nb.no_grad(function()
      for _, p in ipairs(layer:parameters()) do p:add_(nb.rand(p.shape, { dtype = "f64" })) end
    end)
    local x = nb.randn({ table.unpack(case, 2) }, { dtype = "f64" }) * 3 + 2
    x.requires_grad = true
    local function run()
      local y = layer(x)
      return { y, nb.grad((y * y * y):sum(), { x, table.unpack(layer:parameters()) }) }
    end
    native.observe(function() end)
    local ok, want = pcall(run)
    native.observe(nil)
    lu.assertTrue(ok, want)
    local have = run()
    lu.assertEquals(#have, #want)
    for k = 1, #want do
      lu.assertEquals(have[k].shape, want[k].shape)
      if want[k]:numel() > 0 then lu.assertTrue((have[k] - want[k]):abs():max():item() < 1e-9) end
    end
  end
end

function T.test_norms_of_rows_far_from_0()
  nb.seed(23)
  local x = nb.randn(40, 6, 30) + 1e4
  for _, layer in ipairs { nn.LayerNorm(30), nn.LayerNorm { 6, 30 }, nn.GroupNorm(3, 6) } do
    assert_close(layer(x), layer:to("f64")(x:to("f64")), 2e-4)
  end
  assert_close(nn.LayerNorm(5)(nb.full({ 2, 5 }, 0.1)), nb.zeros(2, 5), 1e-9)
  lu.assertTrue(nn.LayerNorm(2)(nb.tensor { 1, 0 / 0 }):isnan():all():item())
end

function T.test_weights_must_fit_rows()
  local native = require "nablua.native"
  local x, three = nb.ones(2, 3), nb.ones(3)
  assert_error({ "fit rows of 3" }, native.row_norm, x, three, three, 3, 1e-5, 2)  -- two neighbours do not divide three
  assert_error({ "fit rows of 3" }, native.row_norm, x, nil, three, 3)
end

-- The sums of rows for the weights do not depend on the threads.
function T.test_norms_of_rows_are_the_same_with_any_threads()
  local before, layer, x, g = nb.threads(), nn.LayerNorm(33), nb.randn(999, 33), nb.randn(999, 33)
  local grads = {}
  for threads = 1, 3 do
    nb.threads(threads)
    layer:zero_grad()
    layer(x):backward(g)
    grads[threads] = layer.weight.grad:totable()
  end
  nb.threads(before)
  lu.assertEquals(grads[2], grads[1])
  lu.assertEquals(grads[3], grads[1])
end

-- Far from 0 the digits of the mean must not cost those of the variance.
function T.test_batch_norm_far_from_0()
  nb.seed(22)
  for _, shape in ipairs { { 6, 2, 40 }, { 300, 2 }, { 4, 2, 1100 } } do
    local x = nb.randn(shape) + 1e4
    x:view(-1)[1] = 0  -- and one that is unlike the others
    assert_close(nn.BatchNorm1d(2)(x), nn.BatchNorm1d(2):to("f64")(x:to("f64")), 2e-4)
  end
  local same = nn.BatchNorm2d(2, { eps = 0 })
  lu.assertTrue(same(nb.full({ 2, 2, 3, 3 }, 0.1)):isnan():all():item())
  assert_close(same.running_var, { 0.9, 0.9 }, 1e-7)
  lu.assertEquals(nn.BatchNorm1d(1)(nb.full({ 5, 1 }, 3)):totable(), { { 0 }, { 0 }, { 0 }, { 0 }, { 0 } })
end

function T.test_a_size_of_adaptive_pooling_may_be_the_inputs()
  local x = nb.randn(2, 3, 5, 4)
  lu.assertEquals(nn.AdaptiveAvgPool2d({ 3, nil })(x).shape, { 2, 3, 3, 4 })
  lu.assertEquals(nn.AdaptiveAvgPool2d({ nil, 2 })(x):totable(), nb.adaptive_avg_pool2d(x, { 5, 2 }):totable())
  lu.assertTrue(nb.equal(nn.AdaptiveAvgPool2d({ nil, nil })(x), x))
  for _, bad in ipairs { { 1, 2, 3 }, { 0, 1 }, { nil, 1.5 } } do
    assert_error({ "AdaptiveAvgPool2d", "sizes" }, nn.AdaptiveAvgPool2d, bad)
  end
end

function T.test_normalisation_without_a_bias()
  local x = nb.randn(4, 4, 3)
  for _, make in ipairs { function(o) return nn.BatchNorm1d(4, o) end, function(o) return nn.GroupNorm(2, 4, o) end } do
    local with, without = make(), make { bias = false }
    lu.assertNil(without.bias)
    lu.assertEquals(#without:parameters(), 1)
    without.weight = with.weight
    assert_close(without(x), with(x), 1e-6)
    assert_close(without:eval()(x), with:eval()(x), 1e-6)
  end
end

return T
