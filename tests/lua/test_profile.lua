-- SPDX-License-Identifier: MIT
-- inspect.profile: counts against formulas by hand, times that add up, layers, what raises; nothing when it is off.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"
local nn, optim, inspect = nb.nn, nb.optim, nb.inspect

local T = {}

local function of(p, list, name)
  for _, row in ipairs(p[list]) do
    if row.name == name then return row end
  end
  error(("no %s among %s\n%s"):format(name, list, tostring(p)))
end

local function flops(p, op, phase)
  local total = 0
  for _, row in ipairs(p.rows) do
    if row.op == op and (not phase or row.phase == phase) then total = total + row.flops end
  end
  return total
end

-- ---- operations by hand; a multiplication and an addition are two ----

function T.test_linear()
  local n, inputs, outputs = 6, 5, 7
  local layer, x = nn.Linear(inputs, outputs), nb.randn(n, inputs)
  local p = inspect.profile(function() return layer(x) end)
  lu.assertEquals(p.flops, 2 * n * inputs * outputs + n * outputs)
  lu.assertEquals(of(p, "operators", "linear").bytes, 4 * (n * inputs + inputs * outputs + outputs + n * outputs))
  -- Backward: δᵀ·x for the weight and Σδ for the bias; x wants nothing.
  local J = layer(x):sum()
  p = inspect.profile(function() J:backward() end)
  lu.assertEquals(flops(p, "matmul", "backward"), 2 * n * inputs * outputs)
  lu.assertEquals(flops(p, "sum", "backward"), n * outputs)
end

function T.test_convolution()
  local layer = nn.Conv2d(4, 6, 3, { stride = 2, padding = 1, groups = 2 })
  local p = inspect.profile(layer, nb.randn(2, 4, 9, 9))
  local results = 2 * 6 * 5 * 5  -- (9 + 2 − 3) // 2 + 1 = 5
  lu.assertEquals(p.flops, 2 * results * (4 // 2) * 3 * 3 + results)
end

-- A product of two has two gradients, each of as many multiplications as it has itself.
function T.test_gradients_of_products_cost_what_they_do()
  local function leaf(...) return nb.randn(..., { requires_grad = true }) end
  local products = {
    { 2 * (2 * 6 * 4 * 4) * (2 * 3 * 2), function(x, w)
      return nb.conv2d(x, w, nil, { stride = 2, padding = 1, groups = 2 })
    end, leaf { 2, 4, 7, 6 }, leaf { 6, 2, 3, 2 } },
    { 2 * (2 * 6 * 5) * (4 * 3), nb.conv1d, leaf { 2, 4, 7 }, leaf { 6, 4, 3 } },
    { 2 * (2 * 4 * 7 * 6) * (2 * 3 * 2), function(x, w) return nb.conv_transpose2d(x, w, nil, { stride = 2 }) end,
      leaf { 2, 4, 7, 6 }, leaf { 4, 2, 3, 2 } },
    { 2 * (3 * 4 * 5) * 6, nb.matmul, leaf { 3, 4, 6 }, leaf { 3, 6, 5 } },
    { 2 * (4 * 5) * 6, nb.linear, leaf { 4, 6 }, leaf { 5, 6 } },
  }
  for k, product in ipairs(products) do
    local forward, backward = 0, 0
    local p = inspect.profile(function() product[2](product[3], product[4]):sum():backward() end)
    for _, row in ipairs(p.rows) do
      if row.op ~= "sum" and row.phase == "forward" then forward = forward + row.flops end
      if row.op ~= "sum" and row.phase == "backward" then backward = backward + row.flops end
    end
    lu.assertEquals({ forward, backward }, { product[1], 2 * product[1] }, k)
  end
end

function T.test_attention()
  local b, h, t, s, d = 2, 3, 5, 7, 4
  local q, k, v = nb.randn(b, h, t, d), nb.randn(b, h, s, d), nb.randn(b, h, s, d)
  local p = inspect.profile(nb.scaled_dot_product_attention, q, k, v)
  -- q·kᵀ and the product with v; scaling and softmax are one each for a score.
  lu.assertEquals(p.flops, b * h * t * s * (2 * d + 2 * d + 2))
  -- A layer of it runs as it does unobserved: in one operator.
  local layer = nn.MultiheadAttention(8, 2, { batch_first = true })
  local x = nb.randn(2, 5, 8)
  p = nb.no_grad(function() return (inspect.profile(layer, x, x, x, { need_weights = false })) end)
  local linear = 2 * 2 * 5 * 8 * 24 + 2 * 5 * 24 + 2 * 2 * 5 * 8 * 8 + 2 * 5 * 8
  lu.assertEquals(flops(p, "linear"), linear)
  lu.assertEquals(p.flops - linear, 2 * 2 * 5 * 5 * (2 * 4 + 2 * 4 + 2))
end

function T.test_lstm()
  local n, t, f, h = 3, 4, 5, 6
  local p = inspect.profile(nn.LSTM(f, h, { batch_first = true }), nb.randn(n, t, f))
  -- Four gates of x·W, h·W and two biases, added to each other; their functions; c = f∘c + i∘g, h = o∘tanh(c).
  local units = n * t * h
  lu.assertEquals(p.flops, units * (4 * (2 * f + 2 * h + 2) + 4 + 4 + 3 + 2))
end

function T.test_summary_has_the_same_counts()
  local net = nn.Sequential { nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2) }
  local s = inspect.summary(net, nb.zeros(2, 1, 8, 8))
  lu.assertEquals(s[1].flops, 2 * 2 * 4 * 36 * 9 + 2 * 4 * 36)
  lu.assertEquals(s[2].flops, 2 * 144)
  lu.assertEquals(s[3].flops, 0)
  lu.assertEquals(s[4].flops, 2 * 2 * 144 * 2 + 2 * 2)
  lu.assertEquals(s.total.flops, s[1].flops + s[2].flops + s[4].flops)
  lu.assertStrContains(tostring(s), "FLOPs")
  lu.assertEquals(inspect.profile(net, nb.zeros(2, 1, 8, 8)).flops, s.total.flops)
  -- Layers inside layers, and operators outside of any.
  local C = nn.module("Two", function(self) self.inner, self.o = nn.Sequential { nn.Linear(3, 3) }, nn.Linear(3, 1) end)
  function C:forward(x) return self.o(self.inner(x) * 2) end
  s = inspect.summary(C(), nb.zeros(5, 3))
  lu.assertEquals(s.total.flops, 2 * 5 * 9 + 15 + 15 + 2 * 5 * 3 + 5)
end

-- ---- a training step ----

local function trainer(size)
  local net = nn.Sequential { nn.Linear(size, size), nn.ReLU(), nn.Sequential { nn.Linear(size, 4), nn.Tanh() } }
  local opt, loss = optim.Adam(net:parameters()), nn.CrossEntropyLoss()
  local x, y = nb.randn(64, size), nb.randint(1, 4, 64)
  return function()
    opt:zero_grad()
    local J = loss(net(x), y)
    J:backward()
    opt:step()
    return J, "and more"
  end, net
end

function T.test_times_add_up_to_the_step_and_results_come_back()
  local step = trainer(200)
  step()
  local start = native.clock()
  local p, J, more = inspect.profile(function()
    for _ = 1, 20 do step() end
    return step()
  end)
  local whole = native.clock() - start
  lu.assertTrue(nb.is_tensor(J) and more == "and more")
  local function total(list)
    local sum = 0
    for _, row in ipairs(list) do sum = sum + row.seconds end
    return sum
  end
  for _, list in ipairs { p.rows, p.operators, p.layers } do
    lu.assertAlmostEquals(total(list) / p.seconds, 1, 1e-9)
  end
  lu.assertTrue(p.seconds <= whole)
  lu.assertAlmostEquals((p.phases.forward + p.phases.backward + p.phases.update + p.between) / p.seconds, 1, 1e-9)
  lu.assertAlmostEquals(p.tree.seconds, p.seconds, 1e-12)
  lu.assertEquals(of(p, "operators", "adam step").calls, 21)
  lu.assertEquals(of(p, "operators", "linear").calls, 2 * 21)
end

function T.test_layers_have_their_own_backward()
  local step = trainer(50)
  step()
  local p = inspect.profile(step)
  local names = {}
  for _, layer in ipairs(p.layers) do names[layer.name] = layer end
  lu.assertEquals({ names["1"].kind, names["2"].kind, names["3.1"].kind }, { "Linear", "ReLU", "Linear" })
  for _, name in ipairs { "1", "2", "3.1", "3.2" } do
    lu.assertTrue(names[name].forward > 0 and names[name].backward > 0, name)
  end
  local function backward(layer)
    local sum = 0
    for _, row in ipairs(p.rows) do
      if row.layer == layer and row.phase == "backward" and row.op == "matmul" then sum = sum + row.flops end
    end
    return sum
  end
  lu.assertEquals(backward "1", 2 * 64 * 50 * 50)          -- the weight alone: x wants no gradient
  lu.assertEquals(backward "3.1", 2 * 2 * 64 * 50 * 4)     -- the weight, and what goes on
end

-- Rows of operators have the names that people know, forward and backward.
function T.test_no_internal_name_is_shown()
  local internal = {}
  for _, row in ipairs(native.rows()) do internal[row.name] = row.internal end
  local block = nn.TransformerEncoderLayer(8, 2, { dim_feedforward = 16, batch_first = true, activation = "gelu" })
  local net = nn.Sequential { nn.Conv1d(6, 6, 3, { padding = 1 }), nn.BatchNorm1d(6), block, nn.GRU(8, 4) }
  local x = nb.randn(3, 6, 8)
  local p = inspect.profile(function() net(x):sum():backward() end)
  for _, row in ipairs(p.operators) do
    local name = row.name:gsub(" %(backward%)$", "")
    lu.assertNil((internal[name] or name:find "_grad$") and name:find "_", row.name)
  end
  lu.assertEquals(of(p, "operators", "Norm (backward)").calls, 2)
end

-- What Lua does between operators is nobody else's.
function T.test_time_between_kernels_is_a_row_of_its_own()
  local x = nb.ones(4)
  local p = inspect.profile(function()
    local y = x + 1
    nb.sleep(0.05)
    return y * 2
  end)
  lu.assertTrue(p.between > 0.04, p.between)
  lu.assertTrue(of(p, "operators", "mul").seconds < p.between)
end

function T.test_compiled_functions_are_seen()
  local x, w = nb.randn(8, 5), nb.randn(5, 3)
  local f = nb.compile(function(a) return (a:matmul(w)):tanh():sum() end)
  for _ = 1, 5 do f(x) end
  local p, y = inspect.profile(f, x)
  lu.assertEquals(flops(p, "matmul"), 2 * 8 * 5 * 3)
  lu.assertAlmostEquals(y:item(), f(x):item(), 1e-5)
end

-- ---- how it looks ----

function T.test_text_and_drawings()
  local step = trainer(64)
  step()
  local p = inspect.profile(step)
  local plain = tostring(p)
  for _, piece in ipairs { "forward", "backward", "update", "between kernels", "GFLOP/s", "of roof",
    "outside of layers", "measured roof", "▏all" } do
    lu.assertStrContains(plain, piece)
  end
  for _, width in ipairs { 40, 80, 200 } do
    for line in getmetatable(p).__display(p, { width = width })["text/plain"]:gmatch("[^\n]+") do
      lu.assertTrue(native.width(line) <= width, line)
    end
  end
  local page = getmetatable(p).__display(p, { width = 80, rich = true })["text/html"]
  lu.assertStrContains(page, "<svg")
  lu.assertStrContains(page, "<title>linear")
  local labels = 0
  for width, rest in page:gmatch '<rect [^>]-width="([%d.]+)"[^>]*/>(.-)</g>' do
    local label = rest:match "<text[^>]*>(.-)</text>"
    if label then
      labels = labels + 1
      lu.assertTrue(6.6 * utf8.len(label) < tonumber(width), label .. " in " .. width)
    end
  end
  lu.assertTrue(labels > 3, labels)
  local path = os.tmpname()
  p:save(path .. ".svg"):save(path .. ".txt")
  local f = assert(io.open(path .. ".svg"))
  lu.assertStrContains(f:read "a", "</svg>")
  f:close()
  for _, ending in ipairs { "", ".svg", ".txt" } do os.remove(path .. ending) end
  numeric.assert_error({ "must end in .svg or .txt" }, function() p:save "a.png" end)
end

-- ---- what raises ----

function T.test_bad_input_and_errors()
  local fails = numeric.assert_error
  fails({ "needs a function", "got 3" }, inspect.profile, 3)
  fails({ "by hand" }, inspect.profile, function()
    nb.ones(3)
    error "by hand"
  end)
  fails({ "do not nest" }, inspect.profile, function() inspect.profile(function() end) end)
  local p = inspect.profile(function() return nb.ones(2) + 1 end)  -- and it works after each
  lu.assertEquals(of(p, "operators", "add").calls, 1)
  lu.assertEquals(inspect.profile(function() end).flops, 0)
  -- A layer that raises inside, and goes on outside.
  local net = nn.Linear(2, 3)
  p = inspect.profile(function()
    pcall(net, nb.ones(1, 5))
    return nb.ones(2) * 3
  end)
  lu.assertEquals(of(p, "operators", "mul").calls, 1)
  -- In a coroutine that nobody resumes: the profile ends with it.
  coroutine.wrap(function() pcall(inspect.profile, function() error "inside" end) end)()
  lu.assertEquals(#inspect.profile(function() return nb.ones(2) + 1 end).rows > 0, true)
end

return T
