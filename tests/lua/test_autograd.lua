-- SPDX-License-Identifier: MIT
-- The tape: what it records, what it refuses, and that no gradient is ever silently wrong.
local lu = require "luaunit"
local nb = require "nablua"

local T = {}

local function fails(f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok, "an error was expected")
  return err
end

local function leaf(values)
  return nb.tensor(values, { dtype = "f64", requires_grad = true })
end

-- Where J is a sum of products a gradient is the other factor; it must still be a tensor of its own.
function T.test_gradients_of_products_are_tensors_of_their_own()
  local function square() return nb.tensor({ { 1, 2 }, { 3, 4 } }, { requires_grad = true }) end
  local a, b, fixed = square(), square(), nb.tensor { { 5, 6 }, { 7, 8 } }
  local seen
  local h = (a * b):tanh()
  h:retain_grad()
  a:register_hook(function(g) seen = g end)
  local J = (h * fixed):sum() + (a * b.T):sum()
  J:backward()
  local slope = 1 - h:detach():square()
  for _, g in ipairs { a.grad, b.grad, h.grad, seen } do
    lu.assertFalse(g.requires_grad)
    lu.assertTrue(g.is_leaf)
  end
  lu.assertEquals(h.grad:totable(), fixed:totable())
  local want_a = (fixed * slope * b + b.T):detach()
  local want_b = (fixed * slope * a + a.T):detach()
  lu.assertTrue((a.grad - want_a):abs():max():item() < 1e-5)
  lu.assertTrue((b.grad - want_b):abs():max():item() < 1e-5)
  h.grad:zero_()
  seen:zero_()
  lu.assertEquals(fixed:totable(), { { 5, 6 }, { 7, 8 } })
  local c, d = square(), square()
  d:register_hook(function(g) return g * 2 end);
  (c * d):sum():backward()
  lu.assertEquals(d.grad:totable(), { { 2, 4 }, { 6, 8 } })
  lu.assertEquals(c:totable(), { { 1, 2 }, { 3, 4 } })
  nb.no_grad(function() d:fill_(0) end)
  lu.assertEquals(c.grad:totable(), { { 1, 2 }, { 3, 4 } })
  c.grad:fill_(9)
  lu.assertEquals(d:totable(), { { 0, 0 }, { 0, 0 } })
  -- A factor that nobody else holds.
  local e = square();
  (e * nb.ones({ 2, 2 }, { requires_grad = true })):sum():backward()
  collectgarbage()
  lu.assertFalse(e.grad.requires_grad)
  lu.assertEquals(e.grad:totable(), { { 1, 1 }, { 1, 1 } })
  local g = nb.grad((c * fixed):sum(), c)
  g:zero_()
  lu.assertEquals(fixed:totable(), { { 5, 6 }, { 7, 8 } })
end

function T.test_backward_adds_to_the_leaves()
  local w, x = leaf { 2, 3 }, leaf { 5, 7 }
  local J = (w * x):sum()
  J:backward()
  lu.assertEquals(w.grad:totable(), { 5, 7 })
  lu.assertEquals(x.grad:totable(), { 2, 3 });
  (w * x):sum():backward()
  lu.assertEquals(w.grad:totable(), { 10, 14 })
  w.grad = nil
  lu.assertNil(w.grad)
end

-- Rules write over large gradients that nobody else holds.  Whoever holds one keeps its values.
function T.test_gradients_that_somebody_holds_are_not_written_over()
  nb.seed(8)
  local n = 5000
  local x = nb.randn({ n }, { dtype = "f64", requires_grad = true })
  local seed = nb.rand({ n }, { dtype = "f64" }) + 0.5
  local kept = seed:clone()
  local heard
  local a = (x * 3):tanh()
  local b = a:sigmoid()
  local y = (b * 0.5):relu()
  a:retain_grad()
  b:register_hook(function(g) heard = g end)
  y:backward(seed, { retain_graph = true })
  local db = (y:detach():gt(0):to("f64") * kept) * 0.5
  local s, t = b:detach(), a:detach()
  local da = db * s * (1 - s)
  local function same(have, want) lu.assertTrue((have - want):abs():max():item() < 1e-14) end
  same(seed, kept)
  same(heard, db)
  same(a.grad, da)
  same(x.grad, da * (1 - t * t) * 3)
  local first = x.grad:clone()
  x.grad = nil
  y:backward(seed)
  same(x.grad, first)
  -- One gradient that goes two ways.
  local u, v = nb.ones({ n }, { requires_grad = true }), nb.ones({ n }, { requires_grad = true })
  local sum = u * 2 + v * 3
  sum:square():sum():backward()
  lu.assertEquals({ u.grad:at(n), v.grad:at(1) }, { 20, 30 })
end

function T.test_a_tensor_used_twice_collects_both_paths()
  local x = leaf { 3 }
  local y = x * x + x;
  (y * y):sum():backward()  -- d(x²+x)² = 2(x²+x)(2x+1)
  lu.assertEquals(x.grad:totable(), { 2 * 12 * 7 })
end

function T.test_second_and_third_derivatives()
  local x = leaf { 2 }
  local y = (x ^ 4):sum()
  local d1 = nb.grad(y, x, { create_graph = true })
  local d2 = nb.grad(d1:sum(), x, { create_graph = true })
  local d3 = nb.grad(d2:sum(), x)
  lu.assertAlmostEquals(d1:at(1), 32, 1e-9)
  lu.assertAlmostEquals(d2:at(1), 48, 1e-9)
  lu.assertAlmostEquals(d3:at(1), 48, 1e-9)
  lu.assertNil(x.grad)
  local z = leaf { 0.3 }
  local s = nb.sigmoid(z)
  local s1 = nb.grad(s:sum(), z, { create_graph = true })
  local s2 = nb.grad(s1:sum(), z, { create_graph = true })
  local s3 = nb.grad(s2:sum(), z)
  local v = s:at(1)
  lu.assertAlmostEquals(s2:at(1), v * (1 - v) * (1 - 2 * v), 1e-12)
  lu.assertAlmostEquals(s3:at(1), v * (1 - v) * (1 - 6 * v + 6 * v * v), 1e-12)
end

function T.test_second_backward_names_who_freed_the_tape()
  local w = leaf { 1 }
  local J = (w * w):sum()
  J:backward()
  local line = debug.getinfo(1, "l").currentline - 1
  local err = fails(function() J:backward() end)
  lu.assertStrContains(err, "freed")
  lu.assertStrContains(err, "test_autograd.lua:" .. line)
  lu.assertStrContains(err, "retain_graph")
  J = (w * w):sum()
  J:backward { retain_graph = true }
  J:backward()
  lu.assertEquals(w.grad:totable(), { 6 })
end

function T.test_changing_what_backward_needs_names_both_places()
  local w = leaf { 1, 2 }
  local a = w * 2
  local J = (a * a):sum()
  local used = debug.getinfo(1, "l").currentline - 1
  a:add_(1)
  local changed = debug.getinfo(1, "l").currentline - 1
  local err = fails(function() J:backward() end)
  lu.assertStrContains(err, "changed in place")
  lu.assertStrContains(err, "test_autograd.lua:" .. used)
  lu.assertStrContains(err, "test_autograd.lua:" .. changed)
end

function T.test_changing_what_backward_does_not_need_is_fine()
  local w = leaf { 1, 2 }
  local a = w * 2
  a:add_(1)
  a:mul_(3)
  a:sum():backward()
  lu.assertEquals(w.grad:totable(), { 6, 6 })
end

function T.test_in_place_operators_differentiate_what_they_did()
  local w = leaf { 1, 2 }
  local a = w * 1
  a:mul_(a)  -- w²
  a:exp_()
  a:sum():backward()
  lu.assertAlmostEquals(w.grad:at(1), 2 * math.exp(1), 1e-12)
  lu.assertAlmostEquals(w.grad:at(2), 4 * math.exp(4), 1e-10)
end

function T.test_assignment_is_recorded()
  local w, v = leaf { 1, 2, 3 }, leaf { 10 }
  local a = w * 2
  a[2] = v[1] * v[1];
  (a * a):sum():backward()  -- 4w1² + v⁴ + 4w3²
  lu.assertEquals(w.grad:totable(), { 8, 0, 24 })
  lu.assertEquals(v.grad:totable(), { 4000 })
end

function T.test_a_stale_view_is_refused_not_wrong()
  local w = leaf { 1, 2 }
  local buffer = nb.zeros(2, { dtype = "f64" })
  local view = buffer[1]
  buffer[1] = w[1] * 3
  lu.assertStrContains(fails(function() return view * 2 end), "changed in place")
  buffer:sum():backward()
  lu.assertEquals(w.grad:totable(), { 3, 0 })
end

function T.test_a_change_through_a_view_is_a_change_of_the_whole()
  local w = leaf { { 1, 2, 3 }, { 4, 5, 6 } }
  local whole = nb.zeros(2, 2, { dtype = "f64" })
  whole[1][2] = w[{ 2, 1 }] * 3
  whole.T[{ 2, 2 }]:copy_(w[{ 1, 1 }])
  lu.assertEquals(whole:totable(), { { 0, 12 }, { 0, 1 } });
  (whole * nb.tensor({ { 5, 7 }, { 11, 13 } }, { dtype = "f64" })):sum():backward()
  lu.assertEquals(w.grad:totable(), { { 13, 0, 0 }, { 21, 0, 0 } })
  -- the view goes on too, and its siblings are out of date
  local x = w * 1
  local row, other = x[1], x[2]
  row:mul_(row):mul_(2)
  lu.assertStrContains(fails(function() return other * 2 end), "changed in place")
  local gw = nb.grad((x * x):sum() + row:sum(), w)  -- 4w⁴ + 2w² in the first row, w² in the second
  lu.assertEquals(gw:totable(), { { 16 + 4, 128 + 8, 432 + 12 }, { 8, 10, 12 } })
  -- constants stop the gradient where they are written, also through a view that was taken without recording
  local y = w * 1
  y[1]:fill_(9)
  nb.no_grad(function() return y[2] end):zero_()
  lu.assertEquals(nb.grad(y:sum(), w):totable(), { { 0, 0, 0 }, { 0, 0, 0 } })
  local z = w * 2.5
  z[1]:floor_()
  z[2]:mul_(2)
  lu.assertEquals(nb.grad(z:sum(), w):totable(), { { 0, 0, 0 }, { 5, 5, 5 } })
  z = w * 2.5
  z:sign_()
  lu.assertFalse(z.requires_grad)
end

-- What reads the old values through such a view would lose their gradient: 0 1 in place of 5 1.
function T.test_a_view_taken_without_recording_is_no_way_to_compute()
  local w = leaf { 1, 2 }
  local whole = w * 1
  local view = nb.no_grad(function() return whole[{ { 1, 1 } }]:view(1) end)
  lu.assertStrContains(fails(function() view:mul_(5) end), "made while gradients were off")
  lu.assertEquals(whole:totable(), { 1, 2 })
  whole[{ { 1, 1 } }]:mul_(5)
  lu.assertEquals(nb.grad(whole:sum(), w):totable(), { 5, 1 })
  local plain = nb.zeros(2)  -- of what has no gradient it is as good as any
  nb.no_grad(function() return plain[1] end):add_(3)
  lu.assertEquals(plain:totable(), { 3, 0 })
end

function T.test_a_view_of_a_leaf_cannot_be_changed_while_recording()
  local w = leaf { 1, 2 }
  lu.assertStrContains(fails(function() w[1]:add_(1) end), "a view of a leaf")
  nb.no_grad(function() w[1]:add_(1) end)
  lu.assertEquals(w:totable(), { 2, 2 })
  lu.assertEquals(nb.grad((w * w):sum(), w):totable(), { 4, 4 })
end

-- Random changes through views of views, beside the same done by making new tensors.
function T.test_random_changes_through_views_have_the_gradient_of_what_they_do()
  nb.seed(4)
  math.randomseed(4)
  local function part(t)  -- a view, and the same place as a mask of the whole
    local view, mask = t, nb.arange(1, 24):view(2, 3, 4)
    for _ = 1, math.random(1, 3) do
      local kind = math.random(4)
      if kind == 1 and view:dim() > 1 then
        local i = math.random(view:size(1))
        view, mask = view[i], mask[i]
      elseif kind == 2 and view:dim() > 1 then
        view, mask = view:transpose(1, -1), mask:transpose(1, -1)
      elseif kind == 3 then
        local n = view:size(-1)
        local first = math.random(n)
        view, mask = view:slice(-1, first, n), mask:slice(-1, first, n)
      else
        view, mask = view:unsqueeze(1), mask:unsqueeze(1)
      end
    end
    return view, mask
  end
  for _ = 1, 40 do
    local w = nb.rand(2, 3, 4, { dtype = "f64", requires_grad = true })
    local x, y = w * 1, w * 1
    for _ = 1, 4 do
      local view, places = part(x)
      local flat, index = y:reshape(24), places:reshape(-1)
      local old = flat[index]
      local kind = math.random(3)
      if kind == 1 then
        view:mul_(view)
        old = old * old
      elseif kind == 2 then
        view:add_(x:sum() * 0.1)
        old = old + y:sum() * 0.1
      else
        view:sin_()
        old = old:sin()
      end
      y = flat:scatter(1, index, old):view(2, 3, 4)
    end
    lu.assertTrue((x - y):abs():max():item() < 1e-12)
    local weight = nb.rand(2, 3, 4, { dtype = "f64" })
    local function derivatives(t)
      local d = nb.grad((t * t * weight):sum(), w, { create_graph = true })
      return d, nb.grad((d * d):sum(), w)
    end
    local dx, ddx = derivatives(x)
    local dy, ddy = derivatives(y)
    lu.assertTrue((dx - dy):abs():max():item() < 1e-9 * (1 + dy:abs():max():item()))
    lu.assertTrue((ddx - ddy):abs():max():item() < 1e-9 * (1 + ddy:abs():max():item()))
  end
end

function T.test_views_of_parameters_stay_usable_after_a_step()
  local w = leaf { { 1, 2 }, { 3, 4 } }
  local t = w.T
  nb.no_grad(function() w:sub_(1) end)
  t:sum():backward()
  lu.assertEquals(w.grad:totable(), { { 1, 1 }, { 1, 1 } })
  lu.assertEquals(t:totable(), { { 0, 2 }, { 1, 3 } })
end

function T.test_leaves_cannot_be_changed_while_recording()
  local w = leaf { 1 }
  lu.assertStrContains(fails(function() w:add_(1) end), "no_grad")
  lu.assertStrContains(fails(function() w[1] = 5 end), "no_grad")
  nb.no_grad(function() w[1] = 5 end)
  lu.assertEquals(w:at(1), 5)
end

function T.test_no_grad_restores_its_mode()
  lu.assertTrue(nb.grad_enabled())
  lu.assertEquals({ nb.no_grad(function(a, b) return a + b, nb.grad_enabled() end, 1, 2) }, { 3, false })
  lu.assertTrue(nb.grad_enabled())
  pcall(nb.no_grad, error, "x")
  lu.assertTrue(nb.grad_enabled())
  local y = nb.no_grad(function() return leaf { 1 } * 2 end)
  lu.assertFalse(y.requires_grad)
  lu.assertStrContains(fails(nb.no_grad, 1), "function")
end

function T.test_intermediates_keep_gradients_when_asked()
  local w = leaf { 2 }
  local z = w * 3
  local err = fails(function() return z.grad end)
  lu.assertStrContains(err, "retain_grad")
  z:retain_grad();
  (z * z):sum():backward()
  lu.assertEquals(z.grad:totable(), { 12 })
  lu.assertEquals(w.grad:totable(), { 36 })
end

function T.test_roots_are_checked()
  local w = leaf { 1, 2 }
  lu.assertStrContains(fails(function() (w * 1):backward() end), "single number")
  lu.assertStrContains(fails(function() nb.ones(1):backward() end), "requires grad")
  lu.assertStrContains(fails(function() (w * 1):backward(nb.ones(3)) end), "shape 3")
  lu.assertStrContains(fails(function() w:sum():backward { retain_grph = true } end), "retain_graph");
  (w * 2):backward(nb.tensor { 1, 10 })
  lu.assertEquals(w.grad:totable(), { 2, 20 })
  lu.assertStrContains(fails(nb.tensor, { 1 }, { dtype = "i64", requires_grad = true }), "f32")
end

function T.test_grad_returns_and_deposits_nothing()
  local a, b, c = leaf { 2 }, leaf { 3 }, leaf { 4 }
  local m = a * b
  local J = (m * m):sum()
  local ga, gm, gc = nb.grad(J, { a, m, c })
  lu.assertEquals(ga:totable(), { 36 })
  lu.assertEquals(gm:totable(), { 12 })
  lu.assertNil(gc)
  lu.assertNil(a.grad)
end

function T.test_mixed_dtypes_get_gradients_of_their_own()
  local w = nb.tensor({ 1, 2 }, { requires_grad = true })
  local x = leaf { 3, 4 };
  (w * x):sum():backward()
  lu.assertEquals(w.grad.dtype, "f32")
  lu.assertEquals(x.grad.dtype, "f64")
end

function T.test_a_long_tape_is_walked_and_freed_without_recursion()
  local x = leaf { 1 }
  local y = x
  for _ = 1, 100000 do y = y + 1 end
  y:sum():backward()
  lu.assertEquals(x.grad:totable(), { 1 })
  local function discard()
    local z = x
    for _ = 1, 100000 do z = z * 1 end
  end
  discard()
  collectgarbage()
end

-- Kept losses must not keep the tapes behind them.
function T.test_kept_losses_keep_nothing_else()
  local w = nb.ones(1000, 100, { requires_grad = true })
  local losses = {}
  collectgarbage()
  local before = nb.memory().live
  for i = 1, 50 do
    local J = (w * w):sum()
    J:backward()
    w.grad = nil
    losses[i] = J
  end
  collectgarbage()
  collectgarbage()
  lu.assertEquals(#losses, 50)
  lu.assertTrue(nb.memory().live - before < 100000)
end

function T.test_the_lecture_net_by_hand()
  -- z = x·W, a = σ(z), J = Σ(a − y)²: ∂J/∂W = xᵀ·(2(a − y)·a(1 − a))
  local x = nb.tensor({ { 0.5, -1 }, { 2, 0.1 } }, { dtype = "f64" })
  local y = nb.tensor({ { 1 }, { 0 } }, { dtype = "f64" })
  local W = leaf { { 0.3 }, { -0.7 } }
  local a = x:matmul(W):sigmoid();
  (a - y):square():sum():backward()
  for j = 1, 2 do
    local want = 0
    for i = 1, 2 do
      local z = x:at(i, 1) * 0.3 + x:at(i, 2) * -0.7
      local s = 1 / (1 + math.exp(-z))
      want = want + x:at(i, j) * 2 * (s - y:at(i, 1)) * s * (1 - s)
    end
    lu.assertAlmostEquals(W.grad:at(j, 1), want, 1e-12)
  end
end

function T.test_too_many_arguments_of_backward_are_counted()
  local J = nb.ones(1, { requires_grad = true }):sum()
  lu.assertErrorMsgContains("got 3 arguments", J.backward, J, nil, nil, nil)
end

-- Large gradients of a walk's own are written over in place; while second derivatives are recorded none is.
function T.test_gradients_that_are_written_over_are_right()
  nb.seed(9)
  for _, dtype in ipairs { "f32", "f64" } do
    for _, shape in ipairs { { 500, 11 }, { 3, 2000 } } do
      local x, w = nb.randn(shape, { dtype = dtype, requires_grad = true }), nb.randn(shape, { dtype = dtype })
      for _, name in ipairs { "softmax", "log_softmax", "sigmoid", "tanh", "relu", "silu", "gelu", "leaky_relu", "elu",
        "softplus", "exp", "square", "sqrt", "abs", "sin" } do
        local function value()
          local y = name:find "softmax" and nb[name](x, -1) or nb[name](name == "sqrt" and x:square() + 1 or x)
          return (y * w):sum()
        end
        local plain, recorded = nb.grad(value(), x), nb.grad(value(), x, { create_graph = true })
        local wrong = (plain - recorded:detach()):abs():max():item()
        lu.assertTrue(wrong < (dtype == "f32" and 1e-4 or 1e-12), ("%s: %g"):format(name, wrong))
      end
    end
  end
end

return T
