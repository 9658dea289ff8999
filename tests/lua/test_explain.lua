-- SPDX-License-Identifier: MIT
-- inspect.explain: the lecture's formulas to the letter, and factors whose product is the gradient.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn, inspect = nb.nn, nb.inspect

local T = {}

local function lecture_net(last)
  nb.seed(3)
  return nn.Sequential { nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 3), last }
end

local function formulas(net, J)
  local list = {}
  for _, i in ipairs { 5, 3, 1 } do list[#list + 1] = inspect.explain(J, net[i].weight).formula end
  return list
end

local LECTURE = {
  "∂J/∂W⁽³⁾ = (ŷ−y)·a⁽³⁾",
  "∂J/∂W⁽²⁾ = (ŷ−y)·W⁽³⁾·σ'(z⁽³⁾)·a⁽²⁾",
  "∂J/∂W⁽¹⁾ = (ŷ−y)·W⁽³⁾·σ'(z⁽³⁾)·W⁽²⁾·σ'(z⁽²⁾)·X",
}

function T.test_the_lectures_three_formulas_with_binary_cross_entropy()
  local x, y = nb.randn(1, 3), nb.tensor { { 1, 0, 1 } }
  local net, ends = lecture_net(), lecture_net(nn.Sigmoid())
  lu.assertEquals(formulas(net, nn.bce_with_logits(net(x), y, { reduction = "sum" })), LECTURE)
  lu.assertEquals(formulas(ends, nn.bce(ends(x), y, { reduction = "sum" })), LECTURE)
  local function by_hand()
    local guess = ends(x)
    return -(y * guess:log() + (1 - y) * (1 - guess):log()):sum()
  end
  lu.assertEquals(formulas(ends, by_hand()), LECTURE)
  local mean = inspect.explain(nn.bce_with_logits(net(x), y), net[1].weight)
  lu.assertEquals(mean.formula, "∂J/∂W⁽¹⁾ = (ŷ−y)/n·W⁽³⁾·σ'(z⁽³⁾)·W⁽²⁾·σ'(z⁽²⁾)·X")
  lu.assertEquals(inspect.explain(nn.bce_with_logits(net(x), y, { reduction = "sum" }), net[1].bias).formula,
    "∂J/∂b⁽¹⁾ = (ŷ−y)·W⁽³⁾·σ'(z⁽³⁾)·W⁽²⁾·σ'(z⁽²⁾)·1")
end

function T.test_the_squared_error_has_one_more_factor()
  local x, y = nb.randn(1, 3), nb.tensor { { 1, 0, 1 } }
  local net = lecture_net(nn.Sigmoid())
  local J = (net(x) - y):square():sum() / 2
  lu.assertEquals(formulas(net, J), {
    "∂J/∂W⁽³⁾ = (ŷ−y)·σ'(z⁽⁴⁾)·a⁽³⁾",
    "∂J/∂W⁽²⁾ = (ŷ−y)·σ'(z⁽⁴⁾)·W⁽³⁾·σ'(z⁽³⁾)·a⁽²⁾",
    "∂J/∂W⁽¹⁾ = (ŷ−y)·σ'(z⁽⁴⁾)·W⁽³⁾·σ'(z⁽³⁾)·W⁽²⁾·σ'(z⁽²⁾)·X",
  })
  lu.assertEquals(inspect.explain(nn.mse(net(x), y), net[5].weight).formula, "∂J/∂W⁽³⁾ = (ŷ−y)·2/n·σ'(z⁽⁴⁾)·a⁽³⁾")
end

function T.test_classes_have_the_same_error()
  local x, labels = nb.randn(4, 3), nb.tensor { 1, 3, 2, 2 }
  local net = lecture_net()
  local want = "∂J/∂W⁽²⁾ = (ŷ−y)/n·W⁽³⁾·σ'(z⁽³⁾)·a⁽²⁾"
  lu.assertEquals(inspect.explain(nn.cross_entropy(net(x), labels), net[3].weight).formula, want)
  lu.assertEquals(inspect.explain(nn.nll(net(x):log_softmax(2), labels), net[3].weight).formula, want)
  lu.assertEquals(inspect.explain(nn.cross_entropy(net(x), nb.one_hot(labels, 3):to("f32")), net[3].weight).formula,
    want)
end

function T.test_the_same_as_latex()
  local net = lecture_net()
  local J = nn.bce_with_logits(net(nb.randn(1, 3)), nb.ones(1, 3), { reduction = "sum" })
  local e = inspect.explain(J, net[1].weight)
  lu.assertEquals(e.latex, "\\frac{\\partial J}{\\partial W^{(1)}} = (\\hat{y}-y) \\cdot W^{(3)} \\cdot " ..
    "\\sigma'(z^{(3)}) \\cdot W^{(2)} \\cdot \\sigma'(z^{(2)}) \\cdot X")
  local bundle = getmetatable(e).__display(e, { rich = true, width = 80 })
  -- The drawing says what the text does, line by line.
  local drawn = bundle["image/svg+xml"]:gsub("&quot;", '"'):gsub("&lt;", "<"):gsub("&gt;", ">"):gsub("&amp;", "&")
  for line in getmetatable(e).__display(e, { width = 88 })["text/plain"]:gmatch("[^\n]+") do
    lu.assertStrContains(drawn, ">" .. line .. "</text>")
  end
  lu.assertStrContains(bundle["text/latex"], "\\underbrace{\\sigma'(z^{(3)})}")
  local open, close = 0, 0
  for _ in bundle["text/latex"]:gmatch("{") do open = open + 1 end
  for _ in bundle["text/latex"]:gmatch("}") do close = close + 1 end
  lu.assertEquals(open, close)
end

function T.test_small_numbers_keep_their_size_in_latex()
  local w = nb.tensor({ 1e-7, 2e-7 }, { requires_grad = true, name = "w" })
  local e = inspect.explain((w * w:detach()):sum() * 3e-6, w)
  local latex = getmetatable(e).__display(e, { rich = true, width = 80 })["text/latex"]
  lu.assertStrContains(latex, "\\cdot 10^{-")
  lu.assertNil(latex:find("[\x80-\xff]"), latex)
end

-- The factors applied in order to 1 against the tape's own gradient.
local function check(J, w, what)
  local e = inspect.explain(J, w)
  local d = nb.ones_like(J:detach())
  for _, f in ipairs(e.factors) do d = f:apply(d) end
  local want = nb.grad(J, w, { retain_graph = true })
  for _, have in ipairs { d, e:value() } do
    lu.assertEquals(have.shape, w.shape, what)
    local size = math.max(want:abs():max():item(), 1e-3)
    lu.assertTrue((have - want):abs():max():item() <= 1e-5 * size, what .. ": " .. e.formula)
  end
  lu.assertAlmostEquals(e.norm, want:norm():item(), 1e-4 * math.max(1, e.norm))
  return e
end

local ACTIVATIONS = { nn.Sigmoid, nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus }

function T.test_random_nets_of_all_depths_and_activations()
  for depth = 1, 6 do
    for k, activation in ipairs(ACTIVATIONS) do
      nb.seed(100 * depth + k)
      local net, n = nn.Sequential(), 3
      for i = 1, depth do
        net[2 * i - 1], net[2 * i], n = nn.Linear(n, 4), activation(), 4
      end
      local x = nb.randn(5, 3)
      for _, J in ipairs { nn.mse(net(x), nb.randn(5, 4)), nn.cross_entropy(net(x), nb.randint(1, 4, 5)) } do
        for i = 1, depth do
          check(J, net[2 * i - 1].weight, ("depth %d, %s"):format(depth, tostring(activation())))
        end
        check(J, net[1].bias, "bias")
      end
    end
  end
end

local Block = nn.module("Block", function(self, n)
  self.a, self.b = nn.Linear(n, n), nn.Linear(n, n)
end)
function Block:forward(x) return x + self.b(self.a(x):tanh()) end

function T.test_paths_that_meet_stay_a_sum()
  local net = nn.Sequential { nn.Linear(3, 4), Block(4), Block(4), nn.Linear(4, 2) }
  local J = nn.mse(net(nb.randn(5, 3)), nb.randn(5, 2))
  local e = check(J, net[1].weight, "residual")
  lu.assertStrContains(e.formula, "(I + W⁽⁵⁾·tanh'(z⁽⁵⁾)·W⁽⁴⁾)·(I + W⁽³⁾·tanh'(z⁽³⁾)·W⁽²⁾)·X")
  check(J, net[2].a.weight, "inside a branch")
end

function T.test_shared_weights()
  nb.seed(1)
  local shared = nn.Linear(4, 4)
  local net = nn.Sequential { shared, nn.Tanh(), shared, nn.Tanh(), shared }
  local J = nn.mse(net(nb.randn(5, 4)), nb.randn(5, 4))
  local e = check(J, shared.weight, "shared")
  lu.assertEquals(#e.factors[#e.factors].uses, 3)
  lu.assertStrContains(tostring(e), "used 3 times")
  local w = nb.tensor({ 1, 2 }, { requires_grad = true })
  check((w * w * w + w):sum(), w, "powers")
end

function T.test_convolutions_and_pools()
  nb.seed(2)
  local net = nn.Sequential { nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 5) }
  local J = nn.cross_entropy(net(nb.randn(2, 1, 8, 8)), nb.tensor { 1, 5 })
  local e = check(J, net[1].weight, "convolution")
  lu.assertStrContains(e.formula, "W⁽²⁾·MaxPool'(a⁽²⁾)·ReLU'(z⁽²⁾)·X")
  check(J, net[1].bias, "bias of a convolution")
  local normed = nn.Sequential { nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2) }
  J = nn.mse(normed(nb.randn(5, 3)), nb.randn(5, 2))
  check(J, normed[1].weight, "normalisation")
  check(J, normed[2].weight, "weight of a normalisation")
end

function T.test_hand_written_programs()
  local W1 = nb.randn(4, 3, { requires_grad = true, name = "W1" })
  local V = nb.randn(2, 4, { requires_grad = true, name = "readout" })
  local x, y = nb.randn(3), nb.randn(2)
  local J = (V:matmul(W1:matmul(x):tanh()) - y):square():sum()
  lu.assertEquals(check(J, W1, "named").formula, "∂J/∂W⁽¹⁾ = (ŷ−y)·2·readout·tanh'(z⁽²⁾)·X")
  local a = nb.tensor({ 2, 3 }, { requires_grad = true, name = "a" })
  check((a:exp() / (1 + a:log()) * 3):mean(), a, "elementwise")
  local z = a * 2
  check((z * z):sum(), z, "an intermediate")
  check(nb.cat({ a, a * 2 }, 1):square():sum(), a, "lists")
end

-- An LSTM cell by hand, over many steps.
local function long_recurrence(steps)
  local n = 4
  local W = nb.randn(8, 4 * n, { requires_grad = true, name = "W" })
  local h, c, x = nb.zeros(2, n), nb.zeros(2, n), nb.randn(2, n)
  for _ = 1, steps do
    local g = nb.cat({ x, h }, 2):matmul(W):split(n, 2)
    c = g[1]:sigmoid() * c + g[2]:sigmoid() * g[3]:tanh()
    h = g[4]:sigmoid() * c:tanh()
  end
  return h:square():mean(), W
end

function T.test_the_cost_is_linear_in_the_tape()
  local net = nn.Sequential()
  net[1] = nn.Linear(3, 4)
  for i = 2, 65 do net[i] = Block(4) end
  local J = nn.mse(net(nb.randn(2, 3)), nb.randn(2, 4))
  local start = os.clock()
  local e = inspect.explain(J, net[1].weight)
  local text = tostring(e)
  local residual = os.clock() - start
  lu.assertEquals(#e.factors, 66)
  lu.assertStrContains(text, "more")
  check(J, net[1].weight, "64 blocks")
  J, net = long_recurrence(256)
  start = os.clock()
  e = inspect.explain(J, net)
  text = tostring(e)
  local recurrent = os.clock() - start
  lu.assertStrContains(text, "used 256 times")
  check(J, net, "256 steps")
  -- Generous, for sanitizers; an exponential walk would never end.
  lu.assertTrue(residual < 20 and recurrent < 20)
end

function T.test_the_factor_that_shrank_it_is_marked()
  nb.seed(4)
  local net = nn.Sequential { nn.Linear(3, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 1) }
  local e = inspect.explain(nn.mse(net(nb.randn(9, 3)), nb.randn(9, 1)), net[1].weight)
  lu.assertStrContains(e.shrank.symbol, "σ'")
  lu.assertTrue(e.shrank.gain <= 0.25 and e.shrank.norm <= 0.25)
  lu.assertStrContains(tostring(e), "▼")
  for _, width in ipairs { 1, 20, 40, 80, 200 } do
    local text = getmetatable(e).__display(e, { width = width })["text/plain"]
    for line in text:gmatch("[^\n]+") do
      lu.assertTrue(utf8.len(line) <= math.max(width, 60), ("%d: %s"):format(width, line))
    end
  end
end

function T.test_what_cannot_be_explained()
  local w, v = nb.tensor({ 1, 2 }, { requires_grad = true }), nb.tensor({ 1 }, { requires_grad = true, name = "v" })
  local J = (w * w):sum()
  numeric.assert_error({ "single number", "2" }, inspect.explain, w * w, w)
  numeric.assert_error({ "does not depend", "v" }, inspect.explain, J, v)
  numeric.assert_error({ "must be a tensor" }, inspect.explain, J, "w")
  numeric.assert_error({ "must be a tensor" }, inspect.explain, 3, w)
  numeric.assert_error({ "not computed from tensors that require grad" }, inspect.explain, nb.ones(1), w)
  J:backward()
  numeric.assert_error({ "freed", "test_explain.lua", "retain_graph" }, inspect.explain, J, w)
  J = (w * w):sum()
  nb.no_grad(function() w:add_(1) end)
  numeric.assert_error({ "changed in place" }, inspect.explain, J, w)
  -- Nothing is deposited, and the tape is kept.
  w.grad = nil
  J = (w * w):sum()
  inspect.explain(J, w):value()
  lu.assertNil(w.grad)
  J:backward()
  lu.assertEquals(w.grad:totable(), { 4, 6 })
  local nan = (nb.tensor({ 0 / 0 }, { dtype = "f32" }) * v):sum()
  lu.assertStrContains(tostring(inspect.explain(nan, v)), "NaN")
end

-- A recurrent layer over a sequence is one operator, and is explained as the steps it stands for.
function T.test_recurrent_layers_are_explained_step_by_step()
  nb.seed(9)
  local lstm = nn.LSTM(2, 3)
  local x = nb.randn(6, 2, 2)
  local y = lstm(x)
  local e = check(y[6]:square():sum(), lstm.weight_hh_l0, "an LSTM")
  lu.assertStrContains(e.formula, " paths)")
  local gru, rnn = nn.GRU(2, 3, 2, { bidirectional = true }), nn.RNN(6, 2)
  local last
  y, last = gru(x)
  local z = rnn(y)
  local J = (z * z):sum() + last:sum()
  for _, w in ipairs { gru.weight_ih_l0, gru.weight_hh_l1_reverse, gru.bias_hh_l0_reverse, rnn.bias_ih_l0, y, z } do
    check(J, w, "layers upon layers")
  end
  -- With the states given, and what was computed from the last c.
  local h, c = nb.randn(1, 2, 3, { requires_grad = true }), nb.randn(1, 2, 3, { requires_grad = true })
  local out, _, c_end = lstm(x, h * 2, c)
  J = (c_end * c_end):sum() + out:sum()
  check(J, h, "the first h")
  check(J, c, "the first c")
  check(c_end:sum(), lstm.bias_ih_l0, "by way of c alone")
  lu.assertStrContains(tostring(inspect.graph(c_end:sum())), "sigmoid")
end

-- 4^256 paths do not fit a whole number: wrapped to a small one they were all written out.
function T.test_more_paths_than_can_be_counted()
  local lstm = nb.nn.LSTM(2, 3, { batch_first = true })
  local y = lstm(nb.randn(1, 256, 2))
  local text = tostring(inspect.explain((y * y):mean(), lstm:parameters()[1]))
  lu.assertStrContains(text, "paths)")
  lu.assertTrue(#text < 5000)
end

function T.test_paths_that_are_subtracted_have_a_minus()
  local x = nb.randn(2, 3)
  local inner, outer = nn.Linear(3, 3), nn.Linear(3, 3)
  local h = outer(x)
  local less = inspect.explain(((h - inner(h):tanh()) * nb.ones(2, 3)):sum(), outer.weight).formula
  lu.assertStrContains(less, "(I − ")
  local more = inspect.explain(((h + inner(h):tanh()) * nb.ones(2, 3)):sum(), outer.weight).formula
  lu.assertStrContains(more, "(I + ")
end

function T.test_a_slope_by_one_of_two_tensors_says_by_which()
  local w = nb.tensor({ 1, 2, 3 }, { requires_grad = true, name = "w" })
  for name, formula in pairs {
    hypot = "2·∂hypot/∂v₁ + ∂hypot/∂v₂", logaddexp = "2·∂logaddexp/∂v₁ + ∂logaddexp/∂v₂",
    maximum = "2·1[v₁>v₂] + 1[v₂>v₁]", atan2 = "2·v₁/(v₁²+v₂²) − v₂/(v₁²+v₂²)",
  } do
    lu.assertEquals(inspect.explain(nb[name](w * 2, w + 1):sum(), w).formula, "∂J/∂w = (" .. formula .. ")")
  end
end

return T
