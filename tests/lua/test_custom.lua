-- SPDX-License-Identifier: MIT
-- Hooks of tensors, and operators that users write in Lua: what passes through them, and what they are refused.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"

local T = {}

local function leaf(values)
  return nb.tensor(values, { dtype = "f64", requires_grad = true })
end

local fails = numeric.assert_error

-- ---- hooks ----

function T.test_hooks_see_and_replace_the_whole_gradient_of_a_leaf()
  local w, seen = leaf { 1, 2 }, {}
  w:register_hook(function(g) seen[#seen + 1] = g:totable() end)
  local double = w:register_hook(function(g) return g * 2 end)
  w:register_hook(function(g) seen[#seen + 1] = g:totable() end);
  (w * w + w):sum():backward()  -- two paths, added up before the hooks
  lu.assertEquals(seen, { { 3, 5 }, { 6, 10 } })
  lu.assertEquals(w.grad:totable(), { 6, 10 })
  double:remove()
  double:remove()
  lu.assertEquals(nb.grad((w * w):sum(), w):totable(), { 2, 4 })
  lu.assertEquals(seen[3], { 2, 4 })
end

function T.test_a_hook_of_an_intermediate_changes_what_lies_behind_it()
  local w = leaf { 1, 2 }
  local z = w * 3
  z:retain_grad()
  z:register_hook(function(g) return g:clamp(-1, 1) end);
  (z * 10):sum():backward()
  lu.assertEquals(z.grad:totable(), { 1, 1 })
  lu.assertEquals(w.grad:totable(), { 3, 3 })
end

function T.test_a_hook_belongs_to_the_value_not_to_what_a_change_in_place_makes_of_it()
  local w, before, after = leaf { 1, 2 }, nil, nil
  local z = w * 1
  z:register_hook(function(g) before = g:totable() end)
  z:mul_(5)
  z:register_hook(function(g) after = g:totable() end)
  z[1] = 0;
  (z * 7):sum():backward()
  lu.assertEquals(after, { 0, 7 })    -- before the assignment
  lu.assertEquals(before, { 0, 35 })  -- before the product
  lu.assertEquals(w.grad:totable(), { 0, 35 })
end

function T.test_hooks_of_views_and_of_several_outputs()
  local w, seen = leaf { { 1, 2 }, { 3, 4 } }, nil
  local row = w[2]
  row:register_hook(function(g) seen = g:totable() return g * 10 end);
  (w:sum() + (row * row):sum()):backward()
  lu.assertEquals(seen, { 6, 8 })
  lu.assertEquals(w.grad:totable(), { { 1, 1 }, { 61, 81 } })
  local values = leaf { 3, 1, 2 }:sort()
  values:register_hook(function(g) seen = g:totable() end)
  values[1]:backward()
  lu.assertEquals(seen, { 1, 0, 0 })
end

function T.test_second_derivatives_go_through_hooks()
  local w = leaf { 2 }
  local z = w * w
  z:register_hook(function(g) return g * g end)
  local d = nb.grad((z * 3):sum(), w, { create_graph = true })  -- 9·2w
  lu.assertEquals(d:totable(), { 36 })
  lu.assertEquals(nb.grad(d:sum(), w):totable(), { 18 })
end

function T.test_hooks_that_misbehave_stop_the_backward()
  local w = leaf { 1, 2 }
  local function with(hook)
    local z = w * 1
    z:register_hook(hook)
    return (z * z):sum()
  end
  fails({ "a tensor, the new gradient", "a number" }, function() with(function() return 3 end):backward() end)
  fails({ "shape 3 for one of shape 2" }, function() with(function() return nb.ones(3) end):backward() end)
  fails({ "changed its gradient in place" }, function() with(function(g) g:mul_(2) end):backward() end)
  local mine = {}
  local ok, err = pcall(function() with(function() error(mine) end):backward() end)
  lu.assertFalse(ok)
  lu.assertTrue(err == mine)  -- the value itself
  lu.assertNil(w.grad)
  lu.assertTrue(nb.grad_enabled())
  fails({ "test_custom.lua", "boom" }, function() with(function() error("boom") end):backward() end)
  fails({ "requires grad" }, function() nb.ones(2):register_hook(print) end)
  fails({ "needs a function", "a number" }, function() w:register_hook(3) end)
  with(function(g) return g:to("f32") end):backward()
  lu.assertEquals(w.grad.dtype, "f64")
end

function T.test_a_hook_may_run_another_backward_and_coroutines()
  local w, v = leaf { 1 }, leaf { 5 }
  local z, other = w * 2, (v * v):sum()
  z:register_hook(function(g)
    other:backward()
    return coroutine.wrap(function() return g * v.grad end)()
  end);
  (z * 3):sum():backward()
  lu.assertEquals(w.grad:totable(), { 60 })
  -- of the same tape
  local a = leaf { 3 }
  local b = a * a
  local J = (b * b):sum()
  local inner
  b:register_hook(function()
    if inner then return end
    inner = true
    inner = nb.grad(J, a, { retain_graph = true })
  end)
  J:backward { retain_graph = true }
  lu.assertEquals(inner:totable(), { 108 })
  lu.assertEquals(a.grad:totable(), { 108 })
end

function T.test_a_hooks_function_goes_with_its_tape()
  local w = leaf { 1 }
  local watch = setmetatable({}, { __mode = "k" })
  for _ = 1, 3 do
    local z = w * 2
    local big = {}
    watch[big] = true
    z:register_hook(function() return big and z and nil end)  -- holds the tensor it hangs on
    z:sum():backward()
  end
  collectgarbage()
  collectgarbage()
  lu.assertNil(next(watch))
end

-- ---- operators ----

local function make(spec)
  spec.name = spec.name or "mine"
  return nb.operator(spec)
end

-- Where J is a sum of products the gradient is the other factor, which stays as it is even then.
function T.test_a_rule_that_writes_into_its_gradient_is_refused()
  local twice = make { name = "twice_over",
    forward = function(_, x) return x * 2 end, backward = function(_, g) return g:mul_(2) end }
  local x, fixed = leaf { 1, 2 }, nb.tensor({ 3, 4 }, { dtype = "f64" })
  local J = (twice(x) * fixed):sum()
  fails({ "twice_over", "in place" }, J.backward, J)
  lu.assertEquals(fixed:totable(), { 3, 4 })
end

function T.test_an_operator_of_ones_own_is_a_function_a_method_and_documented()
  local f = make { name = "swoosh", doc = "x·σ(βx).", derivative = "σ + βxσ(1−σ)",
    example = "nb.swoosh(nb.zeros(1), 1)",
    forward = function(ctx, x, beta)
      ctx:save(x)
      ctx.beta = beta
      return x * (x * beta):sigmoid()
    end,
    backward = function(ctx, g)
      local x = ctx:saved()
      local s = (x * ctx.beta):sigmoid()
      return g * (s + ctx.beta * x * s * (1 - s))
    end }
  local x = leaf { -1, 0.5, 2 }
  lu.assertTrue(f == nb.swoosh and f == x.swoosh)
  local y = x:swoosh(1.5)
  lu.assertNil(numeric.difference(numeric.flat(y), numeric.flat(x * (x * 1.5):sigmoid()), 1e-15))
  local function J() return (f(x, 1.5) * nb.tensor({ 1, 2, 3 }, { dtype = "f64" })):sum() end
  local d = nb.grad(J(), x, { create_graph = true })
  local dd = nb.grad(d:square():sum(), x)
  local want = numeric.finite_difference(function() return J():item() end, x, 1e-6)
  lu.assertNil(numeric.difference(numeric.flat(d), want, 1e-7))
  want = numeric.finite_difference(function() return nb.grad(J(), x):square():sum():item() end, x, 1e-6)
  lu.assertNil(numeric.difference(numeric.flat(dd), want, 1e-6))
  local text = nb.help.text(f)
  for _, piece in ipairs { "nb.swoosh(x, beta)", "x·σ(βx).", "Derivative: σ + βxσ(1−σ)" } do
    lu.assertStrContains(text, piece)
  end
  lu.assertEquals(nb.help("swoosh").entry.name, "nb.swoosh")
  -- again, as at the prompt; what is on a tape keeps what it was made with
  local old = x:swoosh(1):sum()
  make { name = "swoosh", forward = function(_, v) return v + 1 end, backward = function(_, g) return g end }
  lu.assertEquals(leaf { 1 }:swoosh():totable(), { 2 })
  collectgarbage()
  old:backward()
  local s = 1 / (1 + math.exp(1))
  lu.assertAlmostEquals(x.grad:at(1), s - s * (1 - s), 1e-12)
end

function T.test_saved_results_keep_second_derivatives()
  make { name = "my_exp",
    forward = function(ctx, x)
      local y = x:exp()
      ctx:save(y)
      return y
    end,
    backward = function(ctx, g) return g * ctx:saved() end }
  local x = leaf { 0.3, 1 }
  local d1 = nb.grad(x:my_exp():sum(), x, { create_graph = true })
  local d2 = nb.grad(d1:sum(), x, { create_graph = true })
  local d3 = nb.grad(d2:sum(), x)
  local want = numeric.flat(x:exp())
  for _, d in ipairs { d1, d2, d3 } do lu.assertNil(numeric.difference(numeric.flat(d), want, 1e-14)) end
end

function T.test_a_second_derivative_through_what_forward_made_is_refused()
  make { name = "hidden",
    forward = function(ctx, x)
      local inner = x * x
      ctx:save(inner, x)
      return inner * x
    end,
    backward = function(ctx, g) return 3 * g * (ctx:saved()) end }
  local x = leaf { 2 }
  lu.assertEquals(nb.grad(x:hidden():sum(), x):totable(), { 12 })
  fails({ "hidden", "saved tensor 1", "second derivative", "test_custom.lua" }, nb.grad, x:hidden():sum(), x,
    { create_graph = true })
end

function T.test_several_arguments_and_results()
  local f = make { outputs = 2,
    forward = function(ctx, a, k, b)
      ctx:save(a, b)
      ctx.k = k
      return a * b * k, a + b
    end,
    backward = function(ctx, g, h)
      local a, b = ctx:saved()
      return g * b * ctx.k + h, nil, g * a * ctx.k + h
    end }
  local a, b = leaf { 2 }, leaf { 3 }
  local p, s = f(a, 10, b);
  (p + 100 * s):sum():backward()
  lu.assertEquals({ a.grad:item(), b.grad:item() }, { 130, 120 })
  local _, only = f(a, 10, b)  -- the other's gradient is zeros
  lu.assertEquals(nb.grad(only:sum(), a):item(), 1)
  local c = nb.tensor({ 1 }, { dtype = "f64" })
  lu.assertFalse(f(c, 1, c).requires_grad)
  lu.assertEquals(nb.no_grad(f, a, 1, b).requires_grad, false)
end

function T.test_mistakes_in_forward_and_backward_are_named()
  local x = leaf { 1, 2 }
  local function try(forward, backward)
    local f = make { forward = forward, backward = backward }
    return function() f(x, 5):square():sum():backward() end
  end
  local function same(_, v) return v * 1 end
  fails({ "mine", "return 1 tensor", "got 0 values" }, try(function() end))
  fails({ "mine", "tensors, got a number" }, try(function() return 3 end))
  fails({ "mine", "shape 3 for argument 1, which has shape 2" }, try(same, function() return nb.ones(3) end))
  fails({ "mine", "argument 2, which is no tensor" }, try(same, function(_, g) return g, g end))
  fails({ "mine", "argument 3, which is no tensor" }, try(same, function(_, g) return g, nil, g end))
  fails({ "mine", "a tensor or nil", "a string" }, try(same, function() return "g" end))
  fails({ "mine", "changed its gradient in place" }, try(same, function(_, g) return g:mul_(2) end))
  fails({ "test_custom.lua", "oops" }, try(function() error("oops") end))
  fails({ "test_custom.lua", "oops" }, try(same, function() error("oops") end))
  fails({ "add", "3", "2" }, try(function(_, v) return v + nb.ones(3) end))
  fails({ "saved nothing" }, try(same, function(ctx) return ctx:saved() end))
  fails({ "save", "must be a tensor" }, try(function(ctx, v, n) ctx:save(n) return v end))
  fails({ "no gradient" }, function() error(nb.help.text(make { forward = same }):lower(), 0) end)
  fails({ "table with a tensor that requires grad" }, function() nb.mine { x } end)
  lu.assertTrue(nb.grad_enabled())
  local mine = {}
  local ok, err = pcall(try(same, function() error(mine) end))
  lu.assertTrue(not ok and err == mine)
end

function T.test_a_saved_tensor_that_was_changed_is_refused()
  local f = make { forward = function(ctx, x) ctx:save(x) return x * 1 end,
    backward = function(ctx, g) return g * ctx:saved() end }
  local x = leaf { 1, 2 } * 1
  local J = f(x):sum()
  x:add_(1)
  fails({ "mine", "changed in place", "test_custom.lua" }, function() J:backward() end)
end

function T.test_wrong_definitions_are_refused()
  local function f(_, x) return x end
  fails({ "name is missing" }, nb.operator, { forward = f })
  fails({ "forward is missing" }, nb.operator, { name = "a" })
  fails({ "built-in relu" }, nb.operator, { name = "relu", forward = f })
  fails({ "built-in shape" }, nb.operator, { name = "shape", forward = f })
  fails({ "Lua name" }, nb.operator, { name = "end", forward = f })
  fails({ "Lua name" }, nb.operator, { name = "a b", forward = f })
  fails({ "backwards", '"backward"' }, nb.operator, { name = "a", forward = f, backwards = f })
  fails({ "3 at most" }, nb.operator, { name = "a", forward = f, outputs = 4 })
  fails({ "needs a table", "got 3" }, nb.operator, 3)
end

-- A call's record goes when its tape goes, however it goes.
function T.test_calls_leave_nothing_behind()
  local f = make { forward = function(ctx, x) ctx:save(x) ctx.watched = {} return x * 1 end,
    backward = function(ctx, g) return g * ctx:saved() end }
  local watch = setmetatable({}, { __mode = "k" })
  local g = make { name = "watching", forward = function(ctx, x) watch[ctx] = true ctx:save(x) return x * 2 end,
    backward = function(_, d) return 2 * d end }
  local x = leaf { 1 }
  for i = 1, 30 do
    local y = g(f(x))
    if i % 2 == 0 then y:sum():backward() end
  end
  collectgarbage()
  collectgarbage()
  lu.assertNil(next(watch))
end

function T.test_operators_of_ones_own_are_methods_that_completion_finds()
  make { name = "a_name_of_mine", forward = function(_, x) return x end }
  lu.assertIsFunction(native.methods.a_name_of_mine)
  lu.assertEquals(nb.ones(2):a_name_of_mine():totable(), { 1, 1 })
end

return T
