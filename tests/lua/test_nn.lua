-- SPDX-License-Identifier: MIT
-- Modules and layers: against hand-derived values, finite differences and invariants.
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

-- ---- modules ----

local Block = nn.module("Block", function(self, n)
  self.second = nn.Linear(n, n)
  self.first = nn.Linear(n, n)
  self.scale = nb.ones(n, { requires_grad = true })
  self.count = 3
  self.offset = nb.zeros(n)
end)

function Block:forward(x)
  return self.first(self.second(x):relu()) * self.scale + self.offset
end

function T.test_parameters_come_in_order_of_first_assignment()
  local names = {}
  for path in Block(2):named_parameters() do names[#names + 1] = path end
  lu.assertEquals(names, { "second.weight", "second.bias", "first.weight", "first.bias", "scale" })
end

function T.test_reassigning_a_field_keeps_its_place()
  local block = Block(2)
  block.second = nn.Identity()
  block.second = nn.Linear(2, 2, { bias = false })
  local names = {}
  for path in block:named_parameters() do names[#names + 1] = path end
  lu.assertEquals(names, { "second.weight", "first.weight", "first.bias", "scale" })
end

function T.test_plain_tables_of_modules_are_searched()
  local Wide = nn.module("Wide", function(self)
    self.branches = { nn.Linear(1, 1), nn.Linear(1, 1), extra = { nb.ones(1, { requires_grad = true }) } }
  end)
  local names = {}
  for path in Wide():named_parameters() do names[#names + 1] = path end
  lu.assertEquals(names, { "branches.1.weight", "branches.1.bias", "branches.2.weight", "branches.2.bias",
    "branches.extra.1" })
end

function T.test_a_shared_tensor_counts_once()
  local a, b = nn.Linear(3, 3), nn.Linear(3, 3)
  b.weight = a.weight
  lu.assertEquals(#nn.Sequential(a, b):parameters(), 3)
  lu.assertEquals(#nn.Sequential(a, a):parameters(), 2)
end

function T.test_intermediate_results_are_no_parameters()
  local Keeps = nn.module("Keeps", function(self) self.fc = nn.Linear(2, 2) end)
  function Keeps:forward(x)
    self.seen = self.fc(x)
    self.values = self.seen:detach()
    return self.seen
  end
  local net = Keeps()
  net(nb.ones(1, 2))
  lu.assertEquals(#net:parameters(), 2)
  local paths = {}
  for path in pairs(net:state()) do paths[#paths + 1] = path end
  table.sort(paths)
  lu.assertEquals(paths, { "fc.bias", "fc.weight" })
end

function T.test_a_field_cannot_hide_a_method()
  assert_error({ '"parameters"', "method" }, function() nn.Linear(1, 1).parameters = 1 end)
  local Bad = nn.module("Bad", function(self) self.state = nb.zeros(1) end)
  assert_error({ '"state"', "Bad" }, Bad)
end

function T.test_a_missing_field_is_nil()
  lu.assertNil(Block(2).no_such_field)
  lu.assertNil(nn.Linear(2, 2, { bias = false }).bias)
end

function T.test_modes_reach_every_module()
  local net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
  lu.assertTrue(net[2][1].training)
  lu.assertTrue(rawequal(net:eval(), net))
  lu.assertFalse(net[2][1].training)
  net:train()
  lu.assertTrue(net[2][1].training)
end

function T.test_apply_visits_every_module_with_its_path()
  local seen = {}
  nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh())):apply(function(m, path) seen[path] = m:kind() end)
  lu.assertEquals(seen, { [""] = "Sequential", ["1"] = "ReLU", ["2"] = "Sequential", ["2.1"] = "Tanh" })
end

function T.test_zero_grad_clears()
  local net = nn.Linear(2, 1)
  net(nb.ones(1, 2)):sum():backward()
  lu.assertNotNil(net.weight.grad)
  net:zero_grad()
  lu.assertNil(net.weight.grad)
end

function T.test_state_returns_into_another_net()
  local a, b = Block(3), Block(3)
  local x = nb.randn(2, 3)
  b:load_state(a:state())
  assert_close(b(x), a(x), 0)
  -- A state is a copy.
  local state = a:state()
  a.scale:detach():fill_(7)
  lu.assertEquals(state.scale:totable(), { 1, 1, 1 })
  lu.assertNotNil(state.offset)  -- a buffer
end

function T.test_a_frozen_weight_stays_in_the_state()
  local net = nn.Linear(2, 2)
  net.weight.requires_grad = false
  lu.assertEquals(#net:parameters(), 1)
  lu.assertNotNil(net:state().weight)
end

function T.test_load_state_lists_what_does_not_fit_and_changes_nothing()
  local net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
  local before = net:state()
  local state = { ["1.weight"] = nb.zeros(3, 2), ["2.weight"] = nb.zeros(3, 1), ["2.bias"] = nb.zeros(1),
    ["9.weight"] = nb.zeros(1) }
  assert_error({ "missing: 1.bias", "unexpected: 9.weight", "2.weight (3×1, the module has 1×3)" }, net.load_state, net,
    state)
  for path, t in pairs(net:state()) do assert_close(t, before[path], 0) end
  state["2.weight"] = nb.zeros(1, 3)
  net:load_state(state, { strict = false })
  assert_close(net[1].weight, nb.zeros(3, 2), 0)
  assert_close(net[1].bias, before["1.bias"], 0)
  assert_error({ "stirct", "strict" }, net.load_state, net, state, { stirct = false })
end

function T.test_a_state_of_pytorch_counts_its_lists_from_0()
  local net = nn.Sequential { nn.Linear(2, 3), nn.Sequential { nn.LSTM(3, 2, 2) } }
  local theirs = {}
  for path, t in pairs(net:state()) do
    theirs[path:gsub("^1", "0"):gsub("^2%.1", "1.0")] = t + 1
  end
  lu.assertNotNil(theirs["1.0.weight_ih_l1"])
  local want = theirs["0.bias"]
  assert_error({ "missing: 1.bias", "unexpected: 0.bias", '{from="pytorch"}' }, net.load_state, net, theirs)
  net:load_state(theirs, { from = "pytorch" })
  assert_close(net[1].bias, want, 0)
  assert_close(net[2][1].weight_ih_l1, theirs["1.0.weight_ih_l1"], 0)
  assert_error({ "from", "pytorch" }, net.load_state, net, theirs, { from = "jax" })
end

function T.test_to_converts_shared_tensors_once()
  local a, b = nn.Linear(3, 3), nn.BatchNorm1d(3)
  local net = nn.Sequential(a, b, nn.Linear(3, 3))
  net[3].weight = a.weight
  net:to("f64")
  lu.assertEquals(a.weight.dtype, "f64")
  lu.assertEquals(b.running_mean.dtype, "f64")
  lu.assertTrue(rawequal(net[3].weight, a.weight))
  lu.assertTrue(a.weight.is_leaf and a.weight.requires_grad)
  lu.assertEquals(net(f64(4, 3)).dtype, "f64")
end

function T.test_sequential_is_a_list()
  local net = nn.Sequential { nn.Linear(2, 3), nb.relu, nn.Linear(3, 1) }
  lu.assertEquals(#net, 3)
  lu.assertTrue(rawequal(net[-1], net[3]))
  lu.assertEquals(net[2]:kind(), "Lambda")
  net[4] = nn.Sigmoid()
  lu.assertEquals(net(nb.ones(5, 2)).shape, { 5, 1 })
  assert_error({ "entry 2", "nn.ReLU", "call it" }, nn.Sequential, { nn.Linear(1, 1), nn.ReLU })
  assert_error({ "entry 1", "3" }, nn.Sequential, { 3 })
end

function T.test_a_module_prints_as_a_tree()
  local text = tostring(nn.Sequential { nn.Linear(784, 128), nn.ReLU(), nn.Sequential(nn.Conv2d(1, 8, 3)) })
  lu.assertStrContains(text, "Sequential, 100560 parameters")  -- 784·128 + 128 + 8·9 + 8
  lu.assertStrContains(text, "1  Linear(784 → 128)")
  lu.assertStrContains(text, "\n    1  Conv2d(1, 8, 3)")
  lu.assertEquals(tostring(nn.Conv2d(1, 8, 3, { padding = 1 })), "Conv2d(1, 8, 3, padding=1)")
end

function T.test_errors_name_the_layer_by_its_path()
  local net = nn.Sequential { nn.Linear(4, 8), nn.Sequential { nn.ReLU(), nn.Linear(9, 2) } }
  assert_error({ "must be 9", "2×8", "layer 2.2, Linear(9 → 2)", "test_nn.lua" },
    function() return (net(nb.ones(2, 4))) end)
  assert_error({ "must be 4", "2×3", "(in Linear(4 → 8))" }, nn.Linear(4, 8), nb.ones(2, 3))
  local _, alone = pcall(nb.matmul, nb.ones(2, 3), nb.ones(2, 3))
  lu.assertNotStrContains(alone, "(in ")
  local conv = nn.Sequential { nn.Conv2d(3, 4, 3) }
  assert_error({ "conv2d", "layer 1, Conv2d(3, 4, 3)" }, conv, nb.ones(1, 2, 8, 8))
end

function T.test_constructors_check_their_arguments()
  assert_error({ "nn.Linear", "out_features is missing" }, nn.Linear, 3)
  assert_error({ "nn.Linear", "in_features", "at least 1", "0" }, nn.Linear, 0, 3)
  assert_error({ "nn.Linear", "in_features", "at least 1", "1e+300" }, nn.Linear, 1e300, 3)
  assert_error({ "nn.RNN", "hidden_size", "at least 1", "inf" }, nn.RNN, 2, 1 / 0)
  assert_error({ "nn.Linear", '"bais"', '"bias"' }, nn.Linear, 3, 3, { bais = true })
  assert_error({ "nn.Linear", "bias", "true or false" }, nn.Linear, 3, 3, { bias = 1 })
  assert_error({ "nn.Conv2d", "too many arguments" }, nn.Conv2d, 1, 8, 3, 1)
  assert_error({ "nn.Conv2d", "groups", "divide" }, nn.Conv2d, 3, 8, 3, { groups = 2 })
  assert_error({ "nn.Dropout", "p must be" }, nn.Dropout, 1.5)
  assert_error({ "nn.module", "string" }, nn.module, 3)
end

-- ---- hooks ----

function T.test_forward_hooks_see_and_replace_until_they_are_removed()
  local net, log = nn.Sequential { nn.Linear(2, 3), nn.ReLU() }, {}
  local x = nb.ones(1, 2)
  local want = net(x)
  local first = net[1]:register_forward_pre_hook(function(m, inputs)
    log[#log + 1] = m:kind() .. " gets " .. inputs[1]:dim()
    return inputs[1] * 0
  end)
  local second = net[1]:register_forward_hook(function(_, inputs, output)
    log[#log + 1] = ("gave %d of %g"):format(output:size(2), inputs[1]:sum():item())
  end)
  local third = net[2]:register_forward_hook(function(_, _, output) return output + 1 end)
  assert_close(net(x), nb.relu(net[1].bias) + 1)
  lu.assertEquals(log, { "Linear gets 2", "gave 3 of 0" })
  lu.assertStrContains(tostring(first), "forward pre hook of Linear")
  for _, hook in ipairs { first, second, third } do hook:remove() end
  first:remove()
  assert_close(net(x), want, 0)
  lu.assertEquals(#log, 2)
  -- A hook may remove itself; one that fails is an error in the layer.
  local once
  local count = 0
  once = net:register_forward_hook(function()
    count = count + 1
    once:remove()
  end)
  net(x)
  net(x)
  lu.assertEquals(count, 1)
  net[2]:register_forward_hook(function(_, _, y) return y:matmul(nb.ones(7)) end)
  assert_error({ "layer 2, ReLU" }, net, x)
  assert_error({ "register_forward_hook", "function", "3" }, net.register_forward_hook, net, 3)
end

function T.test_hooks_of_layers_with_several_outputs()
  local lstm, shapes = nn.LSTM(2, 3), {}
  lstm:register_forward_hook(function(_, _, y, h, c)
    shapes = { y.shape, h.shape, c.shape }
    return y, h * 0, c
  end)
  local _, h, c = lstm(nb.ones(4, 1, 2))
  lu.assertEquals(shapes, { { 4, 1, 3 }, { 1, 1, 3 }, { 1, 1, 3 } })
  lu.assertEquals(h:abs():max():item(), 0)
  lu.assertTrue(c:abs():max():item() > 0)
end

function T.test_backward_hooks_see_what_passes_through_this_module_alone()
  local fc = nn.Linear(2, 2)
  local x = nb.tensor({ { 1, 2 } }, { requires_grad = true })
  local gx, gy
  local hook = fc:register_backward_hook(function(_, inputs, outputs) gx, gy = inputs[1], outputs[1] end)
  local function run()
    x.grad = nil
    local J = (fc(x) * nb.tensor { 2, 3 } + x * 10):sum()  -- x goes another way too
    J:backward()
    return x.grad
  end
  local want = nb.tensor { { 2, 3 } }:matmul(fc.weight:detach())
  assert_close(run(), want + 10)
  assert_close(gy, { 2, 3 })
  assert_close(gx, want)
  -- What it returns goes on instead.
  local double = fc:register_backward_hook(function(_, inputs) return inputs[1] * 2 end)
  assert_close(run(), want * 2 + 10)
  hook:remove()
  double:remove()
  gx = nil
  assert_close(run(), want + 10)
  lu.assertNil(gx)
end

function T.test_backward_hooks_live_with_changes_in_place()
  local x = nb.tensor({ -1, 2 }, { requires_grad = true })
  local log = {}
  local function watch(m)
    m:register_backward_hook(function(_, inputs, outputs)
      log[#log + 1] = { flat(inputs[1]), flat(outputs[1]) }
    end)
    return m
  end
  -- The module changes its input, the caller changes its output.
  local scale = watch(nn.Lambda(function(v) return v * 5 end))
  local relu = watch(nn.Lambda(function(v) return v:relu_() end))
  local y = scale(relu(scale(x)))
  y:mul_(3)
  y:sum():backward()
  assert_close(x.grad, { 0, 75 })
  lu.assertEquals(log, { { { 15, 15 }, { 3, 3 } }, { { 0, 15 }, { 15, 15 } }, { { 0, 75 }, { 0, 15 } } })
end

function T.test_backward_hooks_of_first_layers_and_of_several_inputs()
  local fc, seen = nn.Linear(2, 1), nil
  fc:register_backward_hook(function(_, inputs, outputs) seen = { inputs.n, inputs[1], flat(outputs[1]) } end)
  fc(nb.ones(3, 2)):sum():backward()
  lu.assertEquals(seen, { 1, nil, { 1, 1, 1 } })
  nb.no_grad(function() return fc(nb.ones(3, 2)) end)
  local Product = nn.module("Product")
  function Product.forward(_, a, b) return a * b end
  local m, a, b = Product(), nb.tensor({ 2 }, { requires_grad = true }), nb.tensor({ 3 }, { requires_grad = true })
  local got
  local hook = m:register_backward_hook(function(_, inputs) got = { inputs[1]:item(), inputs[2]:item() } end)
  m(a, b):backward()
  lu.assertEquals(got, { 3, 2 })
  hook:remove()
  m:register_backward_hook(function(_, inputs) return inputs[1] end)
  assert_error({ "Product", "one input", "2" }, function() m(a, b):backward() end)
  -- The very input as output.
  local id = nn.Identity()
  id:register_backward_hook(function(_, inputs, outputs) got = { inputs[1]:item(), outputs[1]:item() } end)
  a.grad = nil
  (id(a) * 7):backward()
  lu.assertEquals(got, { 7, 7 })
  lu.assertEquals(a.grad:item(), 7)
end

function T.test_clipping_by_every_norm()
  local values = { 3, -4, 12 }
  for _, p in ipairs { 1, 2, 3, 0.5, math.huge } do
    local norm = 0
    for _, v in ipairs(values) do
      norm = p == math.huge and math.max(norm, math.abs(v)) or norm + math.abs(v) ^ p
    end
    norm = p == math.huge and norm or norm ^ (1 / p)
    for _, share in ipairs { 0.5, 0.99, 1.01, 1.9 } do
      local a, b = nb.zeros(2, { requires_grad = true }), nb.zeros(1, { requires_grad = true });
      ((a * nb.tensor { 3, -4 }):sum() + b:sum() * 12):backward()
      lu.assertAlmostEquals(nn.clip_grad_norm({ a, b }, norm * share, { norm_type = p }), norm, norm * 1e-5)
      local by = math.min(share, 1)
      numeric.assert_close(nb.cat { a.grad, b.grad }, { 3 * by, -4 * by, 12 * by })
    end
  end
end

function T.test_a_shared_tensor_stands_in_the_state_under_every_name()
  local net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
  net[2].weight = net[1].weight
  local state = net:state()
  lu.assertEquals(numeric.flat(state["2.weight"]), numeric.flat(state["1.weight"]))
  lu.assertTrue(state["1.weight"] ~= nil and state["1.bias"] ~= nil and state["2.bias"] ~= nil)
end

-- ---- modules that name each other ----

-- A part may name the net that it is in, and two parts share a tensor: whatever walks through modules comes to an end,
-- and to each once.
function T.test_a_part_may_name_its_net()
  local net = nn.Sequential { nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1) }
  net[1].owner, net[3].shared = net, net[1].weight
  lu.assertEquals(#net:parameters(), 4)
  local modules = 0
  for _ in net:named_modules() do modules = modules + 1 end
  lu.assertEquals(modules, 4)
  net:load_state(net:state())
  lu.assertIs(net:to("f64"), net)
  lu.assertEquals({ net[1].weight.dtype, net[3].bias.dtype }, { "f64", "f64" })
  lu.assertIs(net[3].shared, net[1].weight)
  net:eval():train():requires_grad(false):requires_grad(true):zero_grad()
  lu.assertTrue(net[3].training)
  local called = 0
  net:apply(function() called = called + 1 end)
  lu.assertEquals(called, 4)
  local x = nb.ones(2, 2, { dtype = "f64" })
  lu.assertEquals(net(x).shape, { 2, 1 })
  lu.assertStrContains(tostring(net), "Linear(2 → 3)")
  lu.assertStrContains(tostring(nb.inspect.summary(net, x)), "Tanh")
end

return T
