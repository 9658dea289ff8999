-- SPDX-License-Identifier: MIT
-- Layers for sequences: recurrent ones and attention, against their formulas written out, and finite differences.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"
local nn = nb.nn

local T = {}

local assert_error = numeric.assert_error

local function assert_close(have, want, tolerance)
  lu.assertEquals(have.shape, want.shape)
  local wrong = numeric.difference(numeric.flat(have), numeric.flat(want), tolerance or 1e-5)
  if wrong then lu.fail(wrong) end
end

local function f64(...)
  return nb.randn({ ... }, { dtype = "f64" })
end

-- ---- recurrent layers ----

local function sigmoid(v) return 1 / (1 + math.exp(-v)) end

local function tanh(v)
  return (math.exp(v) - math.exp(-v)) / (math.exp(v) + math.exp(-v))
end

-- One step of each cell for numbers: w and u are the columns of weight_ih and weight_hh, b and d the biases.
local steps = {}

function steps.RNN(w, u, b, d, x, h)
  return tanh(w[1] * x + b[1] + u[1] * h + d[1])
end

function steps.LSTM(w, u, b, d, x, h, c)
  local z = {}
  for k = 1, 4 do z[k] = w[k] * x + b[k] + u[k] * h + d[k] end
  c = sigmoid(z[2]) * c + sigmoid(z[1]) * tanh(z[3])
  return sigmoid(z[4]) * tanh(c), c
end

function steps.GRU(w, u, b, d, x, h)
  local r = sigmoid(w[1] * x + b[1] + u[1] * h + d[1])
  local z = sigmoid(w[2] * x + b[2] + u[2] * h + d[2])
  local n = tanh(w[3] * x + b[3] + r * (u[3] * h + d[3]))
  return (1 - z) * n + z * h
end

function T.test_cells_of_one_number_follow_their_formulas()
  nb.seed(1)
  local input = { 0.5, -1, 2 }
  for name, step in pairs(steps) do
    local layer = nn[name](1, 1):to("f64")
    local w, u = numeric.flat(layer.weight_ih_l0), numeric.flat(layer.weight_hh_l0)
    local b, d = numeric.flat(layer.bias_ih_l0), numeric.flat(layer.bias_hh_l0)
    local h, c, want = 0.25, -0.5, {}
    for t, x in ipairs(input) do
      h, c = step(w, u, b, d, x, h, c)
      want[t] = { { h } }
    end
    local y, last, last_c = layer(nb.tensor(input, { dtype = "f64" }):view(3, 1, 1),
      nb.full({ 1, 1, 1 }, 0.25, { dtype = "f64" }),
      name == "LSTM" and nb.full({ 1, 1, 1 }, -0.5, { dtype = "f64" }) or nil)
    assert_close(y, nb.tensor(want, { dtype = "f64" }), 1e-12)
    lu.assertAlmostEquals(last:item(), h, 1e-12)
    if c and name == "LSTM" then lu.assertAlmostEquals(last_c:item(), c, 1e-12) end
  end
end

function T.test_gradients_of_recurrent_layers_agree_with_finite_differences()
  nb.seed(2)
  numeric.assert_gradients(nn.RNN(3, 2, 2), f64(5, 2, 3))
  numeric.assert_gradients(nn.RNN(2, 3, { nonlinearity = "relu", bias = false }), f64(3, 1, 2))
  numeric.assert_gradients(nn.LSTM(3, 2, { num_layers = 2, bidirectional = true }), f64(4, 2, 3))
  numeric.assert_gradients(nn.LSTM(2, 3, { proj_size = 2, batch_first = true }), f64(2, 3, 2))
  numeric.assert_gradients(nn.GRU(3, 2, { bidirectional = true }), f64(4, 2, 3))
  numeric.assert_gradients(nn.GRU(3, 2), f64(4, 3))
end

-- Outputs, last states, and the gradients of all that has one, as the operator or the steps apart give them.
local function everything(layer, x, states, weights, apart)
  if apart then native.observe(function() end) end
  local out = { layer(x, table.unpack(states)) }
  native.observe(nil)
  local J = 0
  for k, y in ipairs(out) do
    weights[k] = weights[k] or nb.rand(y.shape, { dtype = y.dtype }) - 0.3
    J = J + (y * weights[k]):sum()
  end
  local inputs = { x, table.unpack(states) }
  for _, p in ipairs(layer:parameters()) do inputs[#inputs + 1] = p end
  for _, g in ipairs { nb.grad(J, inputs) } do out[#out + 1] = g end
  return out
end

function T.test_the_operator_over_a_sequence_equals_its_steps()
  nb.seed(12)
  local threads = nb.threads()
  for _, case in ipairs {
    { "LSTM", 3, 5 }, { "LSTM", 3, 40, 2, { bidirectional = true }, batch = 9, length = 11 }, { "GRU", 4, 3, 2 },
    { "GRU", 1, 33, { bias = false, batch_first = true }, batch = 2 }, { "RNN", 2, 3, { bidirectional = true } },
    { "RNN", 5, 20, { nonlinearity = "relu" }, batch = 7 }, { "LSTM", 2, 1, { bias = false }, batch = 1, length = 1 },
    { "GRU", 3, 17, { bidirectional = true }, batch = 0 }, { "LSTM", 33, 130, batch = 34, length = 3 },
  } do
    local layer = nn[case[1]](table.unpack(case, 2))
    local rows = layer.num_layers * (layer.bidirectional and 2 or 1)
    local batch, length = case.batch or 3, case.length or 4
    for _, dtype in ipairs { "f32", "f64" } do
      layer:to(dtype)
      local function leaf(...) return nb.randn({ ... }, { dtype = dtype, requires_grad = true }) end
      local x = layer.batch_first and leaf(batch, length, case[2]) or leaf(length, batch, case[2])
      local states = { leaf(rows, batch, layer.hidden_size) }
      if case[1] == "LSTM" then states[2] = leaf(rows, batch, layer.hidden_size) end
      local weights = {}
      local want = everything(layer, x, states, weights, true)
      for t = 1, 2 do
        nb.threads(t)
        local have = everything(layer, x, states, weights)
        lu.assertEquals(#have, #want)
        for k = 1, #want do assert_close(have[k], want[k], dtype == "f32" and 3e-5 or 1e-11) end
      end
      nb.threads(threads)
    end
  end
end

function T.test_second_derivatives_of_recurrent_layers()
  nb.seed(13)
  for _, layer in ipairs { nn.LSTM(2, 3, { bidirectional = true }), nn.GRU(2, 2, 2), nn.RNN(2, 3) } do
    layer:to("f64")
    local x = nb.randn({ 3, 2, 2 }, { dtype = "f64", requires_grad = true })
    local function slope(apart)
      if apart then native.observe(function() end) end
      local y, h = layer(x)
      native.observe(nil)
      local g = nb.grad(y:square():sum() + h:sum(), { x }, { create_graph = true })
      return { nb.grad((g * g):sum(), { x, table.unpack(layer:parameters()) }) }
    end
    local want = slope(true)
    for k, g in ipairs(slope()) do assert_close(g, want[k], 1e-10) end
  end
end

function T.test_a_change_in_place_of_what_a_recurrent_backward_needs_is_an_error()
  local lstm = nn.LSTM(2, 3)
  local y = lstm(nb.ones(4, 1, 2))
  nb.no_grad(function() y:mul_(2) end)
  assert_error({ "changed in place" }, function() y:sum():backward() end)
end

function T.test_the_backward_direction_is_a_layer_on_the_reversed_sequence()
  nb.seed(3)
  for _, name in ipairs { "RNN", "LSTM", "GRU" } do
    local both, one = nn[name](3, 4, { bidirectional = true }), nn[name](3, 4)
    local state = {}
    for path, t in pairs(both:state()) do
      local forward = path:match("^(.*)_reverse$")
      if forward then state[forward] = t end
    end
    one:load_state(state)
    local x = nb.randn(6, 2, 3)
    local y, h = both(x)
    local z, last = one(x:flip(1))
    assert_close(y[{ nb.ALL, nb.ALL, { 5, 8 } }], z:flip(1), 1e-6)
    assert_close(h[2], last[1], 1e-6)
  end
end

function T.test_layers_stack_and_batches_are_independent()
  nb.seed(4)
  local two, first, second = nn.LSTM(3, 4, 2), nn.LSTM(3, 4), nn.LSTM(4, 4)
  local state = two:state()
  for k, layer in ipairs { first, second } do
    local own = {}
    for path in pairs(layer:state()) do own[path] = state[path:gsub("l0$", "l" .. k - 1)] end
    layer:load_state(own)
  end
  local x = nb.randn(5, 2, 3)
  local y, h, c = two(x)
  assert_close(y, (second((first(x)))), 1e-6)
  lu.assertEquals({ h.shape, c.shape }, { { 2, 2, 4 }, { 2, 2, 4 } })
  assert_close(y[5], h[2], 0)
  -- One sequence without a batch dimension, and the batch first.
  local alone = two(x[{ nb.ALL, 2 }])
  assert_close(alone, y[{ nb.ALL, 2 }], 1e-6)
  local turned = nn.LSTM(3, 4, 2, { batch_first = true }):load_state(state)
  assert_close(turned(x:transpose(1, 2)), y:transpose(1, 2), 1e-6)
end

function T.test_a_sequence_goes_on_from_the_state_of_its_first_part()
  nb.seed(5)
  for _, name in ipairs { "RNN", "LSTM", "GRU" } do
    local layer, x = nn[name](3, 4, 2), nb.randn(7, 2, 3)
    local whole, h_end = layer(x)
    local a, h, c = layer(x:narrow(1, 1, 3))
    local b, h2 = layer(x:narrow(1, 4, 4), h, c)
    assert_close(nb.cat({ a, b }, 1), whole, 1e-6)
    assert_close(h2, h_end, 1e-6)
    if c then assert_close((layer(x:narrow(1, 4, 4), { h, c })), b, 0) end
  end
end

function T.test_dropout_is_between_layers_in_training_only()
  nb.seed(6)
  local layer, x = nn.GRU(3, 40, 2, { dropout = 0.5 }), nb.randn(4, 2, 3)
  lu.assertNotEquals(layer(x):sum():item(), layer(x):sum():item())
  layer:eval()
  lu.assertEquals(layer(x):sum():item(), layer(x):sum():item())
  local single = nn.GRU(3, 40, { dropout = 0.5 })
  lu.assertEquals(single(x):sum():item(), single(x):sum():item())
end

function T.test_recurrent_layers_serve_in_a_sequence_and_name_what_does_not_fit()
  local net = nn.Sequential { nn.Embedding(5, 3), nn.LSTM(3, 4), nn.Linear(4, 2) }
  lu.assertEquals(net(nb.randint(1, 5, 6, 2)).shape, { 6, 2, 2 })
  assert_error({ "layer 2, LSTM(3, 4)", "3 features", "6×2×5" },
    function() return nn.Sequential { nn.Identity(), nn.LSTM(3, 4) }(nb.ones(6, 2, 5)) end)
  local lstm = nn.LSTM(3, 4)
  assert_error({ "state c", "1×2×4", "1×2×5" }, lstm, nb.ones(6, 2, 3), nb.zeros(1, 2, 4), nb.zeros(1, 2, 5))
  assert_error({ "no elements", "0×2×3" }, lstm, nb.ones(0, 2, 3))
  assert_error({ "must be a tensor", "3" }, lstm, 3)
  assert_error({ "hidden_size is missing" }, nn.LSTM, 3)
  assert_error({ "nonlinearity", "tanh, relu" }, nn.RNN, 3, 4, { nonlinearity = "gelu" })
end

-- ---- attention ----

-- One head after the other, one query after the other.
local function attention_by_hand(m, x, allowed)
  local n, length, width = table.unpack(x.shape)
  local size = width // m.num_heads
  local out = nb.zeros({ n, length, width }, { dtype = x.dtype })
  for i = 1, n do
    local q, k, v = table.unpack((x[i]:matmul(m.in_proj_weight.T) + m.in_proj_bias):chunk(3, 2))
    for head = 1, m.num_heads do
      local columns = { (head - 1) * size + 1, head * size }
      for row = 1, length do
        local scores, values = {}, {}
        for key = 1, length do
          if allowed(i, row, key) then
            scores[#scores + 1] = (q[{ row, columns }] * k[{ key, columns }]):sum():item() / math.sqrt(size)
            values[#values + 1] = v[{ key, columns }]
          end
        end
        local total, sum = 0, nb.zeros(size)
        for j, s in ipairs(scores) do
          total = total + math.exp(s)
          sum = sum + values[j] * math.exp(s)
        end
        if total > 0 then out[{ i, row, columns }] = sum / total end
      end
    end
  end
  return out:matmul(m.out_proj.weight.T) + m.out_proj.bias
end

local function attention(width, heads, options)
  local m = nn.MultiheadAttention(width, heads, options):to("f64")
  nb.no_grad(function()
    for _, p in ipairs(m:parameters()) do p:copy_(f64(table.unpack(p.shape)) * 0.5) end
  end)
  return m
end

function T.test_attention_by_hand()
  nb.seed(7)
  local m, x = attention(6, 3, { batch_first = true }), f64(2, 4, 6)
  nb.no_grad(function()
    assert_close((m(x)), attention_by_hand(m, x, function() return true end), 1e-10)
    assert_close((m(x, { is_causal = true })), attention_by_hand(m, x, function(_, q, k) return k <= q end), 1e-10)
    local hidden = nb.tensor({ { 0, 0, 1, 1 }, { 0, 1, 0, 0 } }, { dtype = "bool" })
    assert_close((m(x, { key_padding_mask = hidden })), attention_by_hand(m, x, function(i, _, k)
      return hidden:at(i, k) == false
    end), 1e-10)
    -- A query that sees no key gets zeros, which the last layer takes to its bias.
    local nothing = nb.zeros({ 4, 4 }, { dtype = "bool" })
    nothing[2] = true
    assert_close((m(x, { attn_mask = nothing })), attention_by_hand(m, x, function(_, q) return q ~= 2 end), 1e-10)
  end)
end

function T.test_masks_of_numbers_and_of_truth_agree()
  nb.seed(8)
  local m, x = attention(4, 2), f64(5, 2, 4)
  local later = nb.ones({ 5, 5 }, { dtype = "bool" }):triu(1)
  local numbers = nb.zeros({ 5, 5 }, { dtype = "f64" }):masked_fill(later, -math.huge)
  local want, weights = m(x, { is_causal = true })
  assert_close((m(x, x, x, { attn_mask = later })), want, 1e-12)
  assert_close((m(x, { attn_mask = numbers })), want, 1e-12)
  assert_close((m(x, { attn_mask = later:expand(4, 5, 5) })), want, 1e-12)
  lu.assertEquals(weights.shape, { 2, 5, 5 })
  assert_close(weights:sum(3), nb.ones({ 2, 5 }, { dtype = "f64" }), 1e-12)
  lu.assertEquals(weights:triu(1):abs():max():item(), 0)
  local _, each = m(x, { average_attn_weights = false })
  lu.assertEquals(each.shape, { 2, 2, 5, 5 })
  lu.assertEquals(select("#", m(x, { need_weights = false })), 1)
end

-- softmax(q·kᵀ·scale + mask)·v, of operators that are tested on their own; zeros where a query sees nothing.
local function composed(q, k, v, mask, causal, scale)
  local scores = q:matmul(k:transpose(-2, -1)) * (scale or 1 / math.sqrt(q:size(-1)))
  local blocked = nb.zeros({ q:size(-2), k:size(-2) }, { dtype = "bool" })
  if causal then blocked = blocked:logical_not():triu(1) end
  if mask and mask.dtype == "bool" then
    blocked = blocked | mask:logical_not()
  elseif mask then
    scores, blocked = scores + mask, blocked | mask:eq(-math.huge)
  end
  local none = blocked:all(-1, { keepdim = true })
  scores = scores:masked_fill(blocked, -math.huge):masked_fill(none, 0)
  return scores:softmax(-1):masked_fill(none, 0):matmul(v)
end

local function assert_like_composed(shapes, mask, options, dtype)
  local made, twins = {}, {}
  for i, shape in ipairs(shapes) do
    made[i] = nb.randn(shape, { dtype = dtype }):transpose(-2, -1):contiguous():transpose(-2, -1)
    made[i].requires_grad = true
    twins[i] = made[i]:detach():contiguous()
    twins[i].requires_grad = true
  end
  options = options or {}
  local y = nb.scaled_dot_product_attention(made[1], made[2], made[3], mask, options)
  local want = composed(twins[1], twins[2], twins[3], mask, options.is_causal, options.scale)
  local tolerance = dtype == "f32" and 2e-5 or 1e-11
  assert_close(y, want, tolerance)
  local g = nb.randn(y.shape, { dtype = dtype }) / 8
  local have, expected = { nb.grad((y * g):sum(), made) }, { nb.grad((want * g):sum(), twins) }
  for i = 1, 3 do assert_close(have[i], expected[i], tolerance) end
end

function T.test_attention_in_tiles_is_attention()
  nb.seed(12)
  local function seen(...)
    local m = nb.rand({ ... }):gt(0.4)
    m:view(-1, m:size(-1))[1] = false
    return m
  end
  local function added(...)
    local m = nb.randn({ ... })
    m:view(-1, m:size(-1))[1] = -math.huge
    return m:masked_fill(nb.rand({ ... }):gt(0.8), -math.huge)
  end
  local threads = nb.threads()
  for _, count in ipairs { 1, 3 } do
    nb.threads(count)
    for _, dtype in ipairs { "f32", "f64" } do
      for _, options in ipairs { {}, { is_causal = true }, { scale = -0.3 } } do
        assert_like_composed({ { 130, 9 }, { 200, 9 }, { 200, 17 } }, nil, options, dtype)
        assert_like_composed({ { 2, 3, 64, 8 }, { 2, 3, 64, 8 }, { 2, 3, 64, 8 } }, nil, options, dtype)
        assert_like_composed({ { 150, 4 }, { 70, 4 }, { 70, 4 } }, seen(150, 70), options, dtype)
        assert_like_composed({ { 2, 150, 4 }, { 70, 4 }, { 2, 70, 1 } }, added(2, 1, 70), options, dtype)
        assert_like_composed({ { 3, 2, 65, 33 }, { 2, 129, 33 }, { 3, 1, 129, 5 } }, seen(3, 1, 65, 129), options,
          dtype)
        assert_like_composed({ { 2, 1, 3 }, { 2, 1, 3 }, { 2, 1, 1 } }, added(1, 1), options, dtype)
        assert_like_composed({ { 0, 3 }, { 2, 3 }, { 2, 3 } }, nil, options, dtype)
        assert_like_composed({ { 0, 2, 3 }, { 0, 2, 3 }, { 0, 2, 3 } }, nil, options, dtype)
      end
    end
  end
  nb.threads(threads)
end

-- Where a query sees one key alone the gradient of its scores is the difference of equal numbers: in f32 it is as near
-- to that in f64 as what is composed of softmax and products.
function T.test_gradients_of_the_sure_keep_their_digits()
  nb.seed(2)
  for _, scale in ipairs { 1, 10, 100, 1000 } do
    for _, n in ipairs { 8, 33, 64 } do
      local x, w = {}, nb.randn(2, n, 4)
      for i = 1, 3 do x[i] = nb.randn(2, n, 4) * (i == 1 and scale or 1) end
      local function gradients(dtype, f)
        local own = {}
        for i = 1, 3 do
          own[i] = x[i]:to(dtype):clone()
          own[i].requires_grad = true
        end
        return { nb.grad((f(own[1], own[2], own[3]) * w:to(dtype)):sum(), own) }
      end
      local function in_parts(q, k, v) return (q:matmul(k:transpose(2, 3)) * 0.5):softmax(3):matmul(v) end
      local exact = gradients("f64", in_parts)
      local fused, plain = gradients("f32", nb.scaled_dot_product_attention), gradients("f32", in_parts)
      for i = 1, 3 do
        local size = exact[i]:abs():max():item()
        local function off(g) return (g[i]:to("f64") - exact[i]):abs():max():item() / size end
        lu.assertTrue(off(fused) <= 2.5 * off(plain) + 2e-7, ("%d keys, scale %g, gradient %d: %g against %g"):format(n,
          scale, i, off(fused), off(plain)))
      end
    end
  end
end

function T.test_attention_to_nothing_is_zero_and_NaN_stays()
  local attend = nb.scaled_dot_product_attention
  local q, none = nb.ones({ 2, 3 }, { requires_grad = true }), nb.ones({ 0, 3 })
  local y = attend(q, none, none)
  lu.assertEquals(y:totable(), { { 0, 0, 0 }, { 0, 0, 0 } })
  y:sum():backward()
  lu.assertEquals(q.grad:totable(), { { 0, 0, 0 }, { 0, 0, 0 } })
  local bad = nb.tensor { { 0 / 0 }, { 1 } }
  local rows = attend(bad, nb.ones(3, 1), nb.ones(3, 2))
  lu.assertTrue(rows[1]:isnan():all():item())
  lu.assertEquals(rows[2]:totable(), { 1, 1 })
  -- Scores far above what e^x can hold.
  lu.assertEquals(attend(nb.tensor { { 1000 } }, nb.tensor { { 1 }, { -1 } }, nb.tensor { { 5 }, { 7 } }):item(), 5)
end

function T.test_a_mask_that_learns_gets_its_gradient()
  nb.seed(13)
  local q, k, v = f64(2, 3, 2), f64(2, 4, 2), f64(2, 4, 5)
  local mask = f64(3, 4)
  local twin = mask:clone()
  mask.requires_grad, twin.requires_grad = true, true
  local g = f64(2, 3, 5)
  local have = nb.grad((nb.scaled_dot_product_attention(q, k, v, mask) * g):sum(), mask)
  assert_close(have, nb.grad((composed(q, k, v, twin) * g):sum(), twin), 1e-12)
end

function T.test_attention_refuses_what_does_not_fit()
  local attend, x = nb.scaled_dot_product_attention, nb.ones(2, 3)
  assert_error("shapes 2×3, 2×4 and 2×4", attend, x, nb.ones(2, 4), nb.ones(2, 4))
  assert_error("shapes 2×3, 2×3 and 5×3", attend, x, x, nb.ones(5, 3))
  assert_error("shapes 3, 2×3 and 2×3", attend, nb.ones(3), x, x)
  assert_error("must broadcast to 2 queries × 2 keys, got shape 3×2", attend, x, x, x, nb.ones(3, 2))
  assert_error("got i64", attend, x, x, x, nb.ones({ 2, 2 }, { dtype = "i64" }))
end

-- The operator and its parts: asking for the weights takes the parts.
function T.test_attention_with_and_without_weights_agrees()
  nb.seed(14)
  for _, options in ipairs { {}, { add_bias_kv = true, add_zero_attn = true } } do
    local m, x = attention(6, 2, options), f64(70, 3, 6)
    local padding = nb.zeros({ 3, 70 }, { dtype = "bool" })
    padding[{ 2, { 60, 70 } }] = true
    local numbers = f64(70, 70)
    for _, call in ipairs { {}, { is_causal = true }, { key_padding_mask = padding }, { attn_mask = numbers },
      { key_padding_mask = padding, attn_mask = numbers, is_causal = true } } do
      local want = (m(x, call))
      local expected = { nb.grad(want:square():sum(), m:parameters()) }
      call.need_weights = false
      local have = m(x, call)
      assert_close(have, want, 1e-11)
      for i, grad in ipairs { nb.grad(have:square():sum(), m:parameters()) } do
        assert_close(grad, expected[i], 1e-9)
      end
    end
  end
end

function T.test_gradients_of_attention_agree_with_finite_differences()
  nb.seed(9)
  local Causal = nn.module("Causal", function(self, m) self.m = m end)
  function Causal:forward(x) return (self.m(x, { is_causal = true })) end
  numeric.assert_gradients(Causal(nn.MultiheadAttention(4, 2)), f64(3, 2, 4))
  local Cross = nn.module("Cross", function(self, m) self.m = m end)
  local memory = f64(4, 2, 3)
  function Cross:forward(x) return (self.m(x, memory)) end
  numeric.assert_gradients(Cross(nn.MultiheadAttention(4, 2, { kdim = 3, vdim = 3, add_bias_kv = true,
    add_zero_attn = true })), f64(3, 2, 4))
  for _, first in ipairs { true, false } do
    local layer = nn.TransformerEncoderLayer(4, 2, { dim_feedforward = 3, dropout = 0, norm_first = first,
      activation = "gelu", batch_first = true })
    numeric.assert_gradients(layer, f64(2, 3, 4))
  end
end

function T.test_gradients_stay_numbers_where_a_query_sees_nothing()
  local m, x = attention(4, 2), f64(3, 1, 4)
  x.requires_grad = true
  m(x, { attn_mask = nb.ones({ 3, 3 }, { dtype = "bool" }) }):sum():backward()
  lu.assertEquals(x.grad:ne(x.grad):any():item(), false)
end

function T.test_attention_names_what_does_not_fit()
  local m, x = nn.MultiheadAttention(4, 2), nb.ones(3, 2, 4)
  assert_error({ "heads", "3", "4" }, nn.MultiheadAttention, 4, 3)
  assert_error({ "query", "4 features", "3×2×5" }, m, nb.ones(3, 2, 5))
  assert_error({ "one batch size" }, m, x, nb.ones(3, 1, 4))
  assert_error({ "key and value" }, m, x, nb.ones(3, 2, 4), nb.ones(5, 2, 4))
  assert_error({ "attn_mask", "3×3 or 4×3×3", "2×2" }, m, x, { attn_mask = nb.zeros(2, 2) })
  assert_error({ "key_padding_mask", "2×3", "3×2" }, m, x, { key_padding_mask = nb.zeros(3, 2) })
  assert_error({ '"attn_mask"' }, m, x, { atn_mask = nb.zeros(3, 3) })
  assert_error({ "activation", '"sine"' }, nn.TransformerEncoderLayer, 4, 2, { activation = "sine" })
end

function T.test_a_transformer_layer_keeps_its_parts_under_their_usual_names()
  local names = {}
  for path in nn.TransformerEncoderLayer(4, 2):named_parameters() do names[#names + 1] = path end
  lu.assertEquals(names, { "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight",
    "self_attn.out_proj.bias", "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias", "norm1.weight",
    "norm1.bias", "norm2.weight", "norm2.bias" })
  lu.assertEquals(#nn.TransformerEncoderLayer(4, 2, { bias = false }):parameters(), 6)
end

function T.test_a_transformer_is_its_layers_one_after_the_other()
  local norm = nn.LayerNorm(4)
  local encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, { dim_feedforward = 3, norm_first = true,
    bias = false, dropout = 0.5 }), 3, { norm = norm }):eval()
  local x = nb.randn(5, 2, 4)
  local y = x
  for i = 1, 3 do y = encoder.layers[i](y, { is_causal = true }) end
  lu.assertEquals(encoder(x, { is_causal = true }):totable(), norm(y):totable())
  lu.assertEquals(#encoder:parameters(), 3 * 6 + 2)
  lu.assertEquals({ encoder.layers[3].dropout.p, encoder.layers[3].norm_first }, { 0.5, true })
  local own = (encoder.layers[1].linear1.weight - encoder.layers[2].linear1.weight):abs():max():item()
  lu.assertTrue(own > 0)
  assert_error({ "encoder_layer", "TransformerEncoderLayer" }, nn.TransformerEncoder, nn.Linear(2, 2), 2)
  assert_error({ "norm", "module" }, nn.TransformerEncoder, nn.TransformerEncoderLayer(4, 2), 2, { norm = 3 })
end

-- Whichever of its inputs is f64, so is the result.
function T.test_one_input_of_double_precision_is_enough()
  local shapes = { { 3, 2, 4 }, { 12, 4 }, { 12, 3 }, { 12 }, { 12 }, { 2, 3 }, { 2, 3 } }
  for wide = 0, #shapes do
    local args = {}
    for k, shape in ipairs(shapes) do args[k] = nb.rand(shape, { dtype = k == wide and "f64" or "f32" }) end
    lu.assertEquals(require("nablua.native").recurrent(table.unpack(args)).dtype, wide == 0 and "f32" or "f64")
  end
end

-- ---- packed sequences ----

-- Each packed sequence comes out as it does alone, whatever its neighbours' lengths, forth and back.
function T.test_packed_sequences_are_as_each_alone()
  nb.seed(21)
  local lengths = { 3, 5, 1, 5, 2 }
  for _, kind in ipairs { "RNN", "GRU", "LSTM" } do
    for _, both in ipairs { false, true } do
      local net = nn[kind](3, 4, 2, { bidirectional = both, batch_first = true }):to("f64")
      local list, rows = {}, both and 4 or 2
      for i, n in ipairs(lengths) do list[i] = nb.randn({ n, 3 }, { dtype = "f64" }) end
      local h0 = nb.randn({ rows, 5, 4 }, { dtype = "f64" })
      local c0 = kind == "LSTM" and nb.randn({ rows, 5, 4 }, { dtype = "f64" }) or nil
      local x = nn.pad_sequence(list, true)
      x.requires_grad = true
      local y, h, c = net(nn.pack_padded_sequence(x, lengths, true), h0, c0)
      local padded, counts = nn.pad_packed_sequence(y, true)
      lu.assertEquals(counts:totable(), lengths)
      lu.assertEquals(padded.shape, { 5, 5, both and 8 or 4 })
      for i, n in ipairs(lengths) do
        local alone, h1, c1 = net(list[i], h0[{ nb.ALL, i }], c0 and c0[{ nb.ALL, i }])
        assert_close(padded[{ i, { 1, n } }], alone, 1e-12)
        assert_close(h[{ nb.ALL, i }], h1, 1e-12)
        if c then assert_close(c[{ nb.ALL, i }], c1, 1e-12) end
        if n < 5 then lu.assertEquals(padded[{ i, { n + 1, 5 } }]:abs():sum():item(), 0) end
      end
      -- Padding has no gradient.
      (padded * padded):sum():backward()
      lu.assertEquals(x.grad[{ 3, { 2, 5 } }]:abs():sum():item(), 0)
      lu.assertTrue(x.grad[{ 3, 1 }]:abs():sum():item() > 0)
    end
  end
  local packed = nn.pack_padded_sequence(nb.arange(6):view(3, 2, 1), nb.tensor { 1, 3 })
  lu.assertEquals(packed.data:totable(), { { 2 }, { 1 }, { 4 }, { 6 } })
  lu.assertEquals(packed.batch_sizes, { 2, 1, 1 })
  lu.assertEquals(nn.pad_packed_sequence(packed, { total_length = 4, padding_value = 9 }):totable(),
    { { { 1 }, { 2 } }, { { 9 }, { 4 } }, { { 9 }, { 6 } }, { { 9 }, { 9 } } })
  assert_error({ "length 2", "from 1 to 3", "4" }, nn.pack_padded_sequence, nb.ones(3, 2, 1), { 1, 4 })
  assert_error({ "each of 2 sequences, got 1" }, nn.pack_padded_sequence, nb.ones(3, 2, 1), { 1 })
  assert_error({ "length 2, 3,", "enforce_sorted=false" }, nn.pack_padded_sequence, nb.ones(3, 2, 1), { 1, 3 },
    { enforce_sorted = true })
  assert_error({ "total_length must be at least 3" }, nn.pad_packed_sequence, packed, { total_length = 2 })
  assert_error({ "needs packed sequences" }, nn.pad_packed_sequence, nb.ones(2))
  assert_error({ "GRU", "3 features", "4×1" }, nn.GRU(3, 2), packed)
  assert_error({ "state h", "1×2×2" }, nn.GRU(1, 2), packed, nb.zeros(1, 3, 2))
end

return T
