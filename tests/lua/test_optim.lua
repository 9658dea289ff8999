-- SPDX-License-Identifier: MIT
-- Optimizers against their formulas in plain Lua numbers.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local optim = nb.optim

local T = {}

local assert_error = numeric.assert_error

local function weight(v)
  return nb.tensor(v, { dtype = "f64", requires_grad = true })
end

-- Runs an optimizer on J = Σ c·w²/2 and a rule on the same numbers; they must agree after every step.
-- rule(w, g, memory, t) → w
local function assert_follows(name, options, rule)
  local start, c = { 3, -2, 0.5 }, { 1, 4, 0.1 }
  local w = weight(start)
  local opt = optim[name]({ w }, options)
  local have, memory = { table.unpack(start) }, { {}, {}, {} }
  for t = 1, 6 do
    opt:zero_grad()
    local J = (nb.tensor(c, { dtype = "f64" }) * w:square() / 2):sum()
    J:backward()
    opt:step()
    for i = 1, 3 do
      have[i] = rule(have[i], c[i] * have[i], memory[i], t)
      lu.assertAlmostEquals(w:at(i), have[i], 1e-10)
    end
  end
end

function T.test_gradient_descent()
  assert_follows("SGD", { lr = 0.1 }, function(w, g) return w - 0.1 * g end)
  assert_follows("SGD", { lr = 0.1, weight_decay = 0.5 }, function(w, g) return w - 0.1 * (g + 0.5 * w) end)
end

function T.test_momentum()
  assert_follows("SGD", { lr = 0.1, momentum = 0.9 }, function(w, g, m)
    m.v = (m.v or 0) * 0.9 + g
    return w - 0.1 * m.v
  end)
  assert_follows("SGD", { lr = 0.1, momentum = 0.9, nesterov = true }, function(w, g, m)
    m.v = (m.v or 0) * 0.9 + g
    return w - 0.1 * (g + 0.9 * m.v)
  end)
  assert_follows("SGD", { lr = 0.1, momentum = 0.5, dampening = 0.25 }, function(w, g, m)
    m.v = m.v and m.v * 0.5 + 0.75 * g or g
    return w - 0.1 * m.v
  end)
end

-- Options that change what is remembered, a parameter whose gradient comes late, a list that grows, a state that is
-- taken over: after each the steps go on from what was remembered.
function T.test_what_is_remembered_follows_changes()
  local a, b = weight { 3, -2 }, weight { 1 }
  local opt = optim.SGD({ a, b }, { lr = 0.1 })
  local wa, wb, va, vb = 3, 1
  local function step(momentum, sign, late)
    opt.momentum, opt.maximize = momentum, sign < 0
    opt:zero_grad()
    local J = a:square():sum()
    if late then J = J + b:square():sum() end
    J:backward()
    opt:step()
    local ga = sign * 2 * wa
    if momentum > 0 then va = (va or 0) * momentum + ga end
    wa = wa - 0.1 * (momentum > 0 and va or ga)
    if late then
      vb = (vb or 0) * momentum + sign * 2 * wb
      wb = wb - 0.1 * vb
    end
    lu.assertAlmostEquals(a:at(1), wa, 1e-12)
    lu.assertAlmostEquals(b:at(1), wb, 1e-12)
  end
  step(0, 1); step(0, 1); step(0.9, 1); step(0.9, 1); step(0.5, -1); step(0.5, -1, true); step(0.9, 1, true)
  step(0.9, 1, true)
  opt:load_state(opt:state())
  step(0.9, 1, true)
  local state = opt:state()
  step(0.9, 1, true)
  nb.no_grad(function() a:copy_(weight { 7, 7 }); b:copy_(weight { 7 }) end)
  wa, wb, va, vb = 7, 7, state["1.momentum"]:at(1), state["2.momentum"]:at(1)
  opt:load_state(state)
  step(0.9, 1, true)
  local c = weight { 5 }
  table.insert(opt.groups[1].params, 1, c)
  step(0.9, 1, true)
  lu.assertEquals(c:at(1), 5)
end

-- Kingma and Ba's algorithm 1, in its own order.
local function adam(lr, b1, b2, eps, decay, decoupled)
  return function(w, g, s, t)
    if decoupled then w = w - lr * decay * w else g = g + decay * w end
    s.m = b1 * (s.m or 0) + (1 - b1) * g
    s.v = b2 * (s.v or 0) + (1 - b2) * g * g
    return w - lr * (s.m / (1 - b1 ^ t)) / (math.sqrt(s.v / (1 - b2 ^ t)) + eps)
  end
end

function T.test_adam()
  assert_follows("Adam", nil, adam(1e-3, 0.9, 0.999, 1e-8, 0))
  assert_follows("Adam", { lr = 0.1, betas = { 0.8, 0.9 }, eps = 0.01, weight_decay = 0.3 },
    adam(0.1, 0.8, 0.9, 0.01, 0.3))
  assert_follows("AdamW", { lr = 0.1 }, adam(0.1, 0.9, 0.999, 1e-8, 0.01, true))
end

function T.test_rmsprop_and_adagrad()
  assert_follows("RMSprop", { lr = 0.1 }, function(w, g, s)
    s.v = 0.99 * (s.v or 0) + 0.01 * g * g
    return w - 0.1 * g / (math.sqrt(s.v) + 1e-8)
  end)
  assert_follows("RMSprop", { lr = 0.1, momentum = 0.5, alpha = 0.9 }, function(w, g, s)
    s.v = 0.9 * (s.v or 0) + 0.1 * g * g
    s.b = 0.5 * (s.b or 0) + g / (math.sqrt(s.v) + 1e-8)
    return w - 0.1 * s.b
  end)
  assert_follows("Adagrad", { lr = 0.1, lr_decay = 0.5 }, function(w, g, s, t)
    s.v = (s.v or 0) + g * g
    return w - 0.1 / (1 + (t - 1) * 0.5) * g / (math.sqrt(s.v) + 1e-10)
  end)
end

-- The rules of the other papers, in plain numbers.
function T.test_relatives_of_adam()
  local b1, b2, eps = 0.9, 0.999, 1e-8
  assert_follows("NAdam", { lr = 0.1 }, function(w, g, s, t)
    local mu, after = b1 * (1 - 0.5 * 0.96 ^ (t * 0.004)), b1 * (1 - 0.5 * 0.96 ^ ((t + 1) * 0.004))
    s.product = (s.product or 1) * mu
    s.m, s.v = b1 * (s.m or 0) + (1 - b1) * g, b2 * (s.v or 0) + (1 - b2) * g * g
    local mean = after * s.m / (1 - s.product * after) + (1 - mu) * g / (1 - s.product)
    return w - 0.1 * mean / (math.sqrt(s.v / (1 - b2 ^ t)) + eps)
  end)
  for _, beta2 in ipairs { 0.999, 0.9 } do  -- of the second the average is never long enough, of the first from step 6
    assert_follows("RAdam", { lr = 0.1, betas = { b1, beta2 }, eps = 0 }, function(w, g, s, t)
      s.m, s.v = b1 * (s.m or 0) + (1 - b1) * g, beta2 * (s.v or 0) + (1 - beta2) * g * g
      local longest = 2 / (1 - beta2) - 1
      local length = longest - 2 * t * beta2 ^ t / (1 - beta2 ^ t)
      local mean = s.m / (1 - b1 ^ t)
      if length <= 5 then return w - 0.1 * mean end
      local r = ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ^ 0.5
      return w - 0.1 * r * mean / math.sqrt(s.v / (1 - beta2 ^ t))
    end)
  end
  assert_follows("Adamax", { lr = 0.1 }, function(w, g, s, t)
    s.m, s.u = b1 * (s.m or 0) + (1 - b1) * g, math.max(b2 * (s.u or 0), math.abs(g) + eps)
    return w - 0.1 / (1 - b1 ^ t) * s.m / s.u
  end)
  assert_follows("Lion", { lr = 0.1, weight_decay = 0.2 }, function(w, g, s)
    local c = 0.9 * (s.m or 0) + 0.1 * g
    s.m = 0.99 * (s.m or 0) + 0.01 * g
    return w - 0.1 * ((c > 0 and 1 or c < 0 and -1 or 0) + 0.2 * w)
  end)
end

function T.test_adadelta_rprop_and_averaged_descent()
  assert_follows("Adadelta", nil, function(w, g, s)
    s.v = 0.9 * (s.v or 0) + 0.1 * g * g
    local d = math.sqrt((s.d or 0) + 1e-6) / math.sqrt(s.v + 1e-6) * g
    s.d = 0.9 * (s.d or 0) + 0.1 * d * d
    return w - d
  end)
  assert_follows("Rprop", { lr = 2 }, function(w, g, s)  -- large, so that gradients turn
    s.size = s.size or 2
    local turn = g * (s.g or 0)
    if turn > 0 then s.size = math.min(50, s.size * 1.2) end
    if turn < 0 then s.size, g = math.max(1e-6, s.size * 0.5), 0 end
    s.g = g
    return w - (g > 0 and 1 or g < 0 and -1 or 0) * s.size
  end)
  assert_follows("ASGD", { lr = 0.1, lambd = 0.01, alpha = 0.5 }, function(w, g, _, t)
    local rate = 0.1 / (1 + 0.01 * 0.1 * (t - 1)) ^ 0.5
    return w * (1 - 0.01 * rate) - rate * g
  end)
  local w = weight { 4 }
  local opt, sum = optim.ASGD({ w }, { lr = 0.1, t0 = 1, lambd = 0 }), 0
  for t = 1, 6 do
    opt:zero_grad()
    w:square():sum():backward()
    opt:step()
    if t >= 3 then sum = sum + w:at(1) end  -- until the second step after t0 the mean is the weight
  end
  lu.assertAlmostEquals(opt:state()["1.average"]:at(1), sum / 4, 1e-12)
end

-- What stands in Adafactor's place of the whole matrix of squares: rows·columns over their mean.
function T.test_adafactor_keeps_rows_and_columns()
  local w = weight { { 1, -2, 0.5 }, { 2, 1, -1 } }
  local opt = optim.Adafactor({ w }, { lr = 0.5, d = 1e9 })
  local start = w:totable()
  w.grad = weight { { 1, 2, 3 }, { -1, 0.5, 2 } }:detach()
  opt:step()
  local g, size = { { 1, 2, 3 }, { -1, 0.5, 2 } }, math.sqrt((1 + 4 + 0.25 + 4 + 1 + 1) / 6)
  for i = 1, 2 do
    for j = 1, 3 do
      local row = (g[i][1] ^ 2 + g[i][2] ^ 2 + g[i][3] ^ 2) / 3
      local column = (g[1][j] ^ 2 + g[2][j] ^ 2) / 2
      local mean = 0
      for _, v in ipairs { 1, 2, 3, -1, 0.5, 2 } do mean = mean + v * v / 6 end
      local want = start[i][j] - 0.5 * size * g[i][j] / math.sqrt(row * column / mean)
      lu.assertAlmostEquals(w:at(i, j), want, 1e-12)
    end
  end
  local state = opt:state()
  lu.assertEquals(state["1.row"].shape, { 2, 1 })
  lu.assertEquals(state["1.column"].shape, { 1, 3 })
  lu.assertNil(state["1.square"])
  opt:load_state(state)
  state["1.row"] = nil
  assert_error({ "1.row", "Adafactor" }, opt.load_state, opt, state)
end

-- The singular values of a step of Muon are all near lr, whatever those of the gradient were.
function T.test_muon_steps_are_orthogonal()
  nb.seed(3)
  for _, shape in ipairs { { 4, 6 }, { 6, 4 } } do
    local w = nb.zeros(shape, { dtype = "f64", requires_grad = true })
    local u, v = nb.qr(nb.randn(6, 4, { dtype = "f64" })), nb.qr(nb.randn(4, 4, { dtype = "f64" }))
    local g = u:matmul(nb.diag(nb.tensor({ 5, 1, 0.2, 0.1 }, { dtype = "f64" }))):matmul(v.T)
    w.grad = shape[1] == 6 and g or g.T
    optim.Muon({ w }, { lr = 1, weight_decay = 0 }):step()
    local scale = math.sqrt(math.max(1, shape[1] / shape[2]))
    local _, s = nb.svd(w:detach())
    for _, value in ipairs(s:totable()) do
      lu.assertTrue(value / scale > 0.65 and value / scale < 1.25, tostring(value / scale))
    end
    -- It goes down, along the same singular vectors.
    lu.assertTrue((w:detach() * w.grad):sum():item() < 0)
    local inner = (shape[1] == 6 and u.T:matmul(w:detach()):matmul(v) or v.T:matmul(w:detach()):matmul(u))
    lu.assertTrue((inner - nb.diag(nb.diag(inner))):abs():max():item() < 1e-12)
  end
  assert_error({ "optim.Muon", "matrices", "shape 3" }, function()
    local b = weight { 1, 2, 3 }
    b.grad = weight { 1, 1, 1 }:detach()
    optim.Muon({ b }):step()
  end)
  assert_error({ "etas" }, optim.Rprop, { weight { 1 } }, { etas = { 1.5, 2 } })
  assert_error({ "step_sizes" }, optim.Rprop, { weight { 1 } }, { step_sizes = { 2, 1 } })
end

function T.test_parameters_without_gradient_stay()
  local a, b = weight { 1 }, weight { 2 }
  local opt = optim.SGD({ a, b }, { lr = 1, weight_decay = 1 })
  local J = (a * a):sum()
  J:backward()
  opt:step()
  lu.assertEquals(b:item(), 2)
  lu.assertEquals(a:item(), 1 - (2 + 1))
  lu.assertTrue(a.is_leaf and a.requires_grad)
  opt:zero_grad()
  lu.assertNil(a.grad)
end

function T.test_options_read_and_assign()
  local w = weight { 1 }
  local opt = optim.SGD({ w }, { lr = 0.5 })
  lu.assertEquals(opt.lr, 0.5)
  opt.lr = 0.25
  w.grad = nb.ones_like(w:detach())
  opt:step()
  lu.assertEquals(w:item(), 0.75)
  assert_error({ '"rl"', '"lr"' }, function() opt.rl = 1 end)
  assert_error({ "lr", "at least 0" }, function() opt.lr = -1 end)
end

function T.test_a_default_list_belongs_to_one_optimizer()
  local first = optim.Adam({ nb.zeros(1, { requires_grad = true }) }, {})
  first.groups[1].betas[2] = 0.5
  lu.assertEquals(optim.Adam({ nb.zeros(1, { requires_grad = true }) }, {}).groups[1].betas, { 0.9, 0.999 })
end

function T.test_groups_have_their_own_options()
  local a, b = weight { 1 }, weight { 1 }
  local opt = optim.SGD({ { params = { a }, lr = 0.5 }, { params = { b } } }, { lr = 0.125 })
  a.grad, b.grad = nb.ones_like(a:detach()), nb.ones_like(b:detach())
  opt:step()
  lu.assertEquals(a:item(), 0.5)
  lu.assertEquals(b:item(), 0.875)
  opt.lr = 1
  lu.assertEquals(opt.groups[1].lr, 1)
  lu.assertEquals(opt.groups[2].lr, 1)
end

function T.test_a_resumed_run_equals_an_unbroken_one()
  for _, name in ipairs { "SGD", "Adam", "AdamW", "RMSprop", "Adagrad" } do
    local options = name == "SGD" and { lr = 0.1, momentum = 0.9 } or { lr = 0.1 }
    local function steps(w, opt, n)
      for _ = 1, n do
        opt:zero_grad()
        local J = (w * w):sum()
        J:backward()
        opt:step()
      end
    end
    local a = weight { 3, -2 }
    local whole = optim[name]({ a }, options)
    steps(a, whole, 3)
    local state, b = whole:state(), weight(a:totable())
    steps(a, whole, 3)
    local resumed = optim[name]({ b }, { lr = 9 })
    resumed:load_state(state)
    lu.assertEquals(resumed.lr, 0.1)
    steps(b, resumed, 3)
    lu.assertEquals(b:totable(), a:totable(), name)
  end
end

function T.test_bad_states_change_nothing()
  local w = weight { 1, 2 }
  local opt = optim.Adam({ w })
  assert_error({ "1.mean", "shape 2", "3" }, opt.load_state, opt, { ["1.mean"] = nb.zeros(3) })
  assert_error({ "7.mean", "1 parameters" }, opt.load_state, opt,
    { ["7.mean"] = nb.zeros(2), ["1.step"] = nb.tensor(1) })
  assert_error({ "table" }, opt.load_state, opt, 3)
  for path in pairs(opt:state()) do lu.assertStrMatches(path, "group%.1%..*") end
end

function T.test_constructors_check_their_arguments()
  local w = weight { 1 }
  assert_error({ "optim.SGD", "empty" }, optim.SGD, {})
  assert_error({ "optim.SGD", "list of tensors" }, optim.SGD, w)
  assert_error({ "optim.SGD", "net:parameters()" }, optim.SGD, nb.nn.Linear(1, 1))
  assert_error({ "optim.SGD", "list of tensors" }, optim.SGD)
  assert_error({ "parameter 2", "got 3" }, optim.SGD, { w, 3 })
  assert_error({ "parameter 1", "require grad" }, optim.SGD, { nb.zeros(1) })
  assert_error({ "parameter 1", "leaf" }, optim.SGD, { w * 2 })
  assert_error({ "parameter 2", "twice" }, optim.SGD, { w, w })
  assert_error({ '"momentun"', '"momentum"' }, optim.SGD, { w }, { momentun = 0.9 })
  assert_error({ "lr", "number", '"fast"' }, optim.SGD, { w }, { lr = "fast" })
  assert_error({ "nesterov", "momentum" }, optim.SGD, { w }, { nesterov = true })
  assert_error({ "betas" }, optim.Adam, { w }, { betas = { 0.9 } })
end

-- ---- closures and LBFGS ----

-- The closure of f(w), for opt:step.
local function closure(opt, f)
  return function()
    opt:zero_grad()
    local J = f()
    J:backward()
    return J
  end
end

function T.test_a_closure_is_called_first_and_its_loss_returned()
  local w = weight { 3 }
  local opt = optim.SGD({ w }, { lr = 0.1 })
  local f = closure(opt, function() return (w * w):sum() end)
  lu.assertEquals(nb.no_grad(function() return opt:step(f) end):item(), 9)
  lu.assertAlmostEquals(w:item(), 2.4, 1e-6)
  lu.assertTrue(nb.grad_enabled())
  assert_error({ "step", "function" }, opt.step, opt, 3)
  lu.assertNil(opt:step())
end

-- Rosenbrock's valley, whose only minimum is at (1, 1).
local function rosenbrock(w)
  return (1 - w[1]) ^ 2 + 100 * (w[2] - w[1] ^ 2) ^ 2
end

function T.test_lbfgs_finds_the_end_of_a_bent_valley()
  local w = nb.tensor({ -1.2, 1 }, { dtype = "f64", requires_grad = true })
  local opt, evaluations = optim.LBFGS({ w }, { line_search_fn = "strong_wolfe", max_iter = 60, max_eval = 200,
    tolerance_change = 1e-14 }), 0
  opt:step(closure(opt, function()
    evaluations = evaluations + 1
    return rosenbrock(w)
  end))
  lu.assertAlmostEquals(w[1]:item(), 1, 1e-6)
  lu.assertAlmostEquals(w[2]:item(), 1, 1e-6)
  lu.assertTrue(evaluations < 80)
end

function T.test_lbfgs_goes_on_from_its_state()
  local function run(w, opt, n)
    for _ = 1, n do opt:step(closure(opt, function() return rosenbrock(w) end)) end
  end
  local options = { lr = 1e-3, max_iter = 2, history_size = 3 }
  local a = nb.tensor({ 0.5, 1 }, { dtype = "f64", requires_grad = true })
  local whole = optim.LBFGS({ a }, options)
  run(a, whole, 4)
  local state, b = whole:state(), nb.tensor(a:totable(), { dtype = "f64", requires_grad = true })
  run(a, whole, 4)
  local resumed = optim.LBFGS({ b }, { lr = 9 })
  resumed:load_state(state)
  for name, value in pairs(options) do resumed[name] = value end
  run(b, resumed, 4)
  lu.assertEquals(b:totable(), a:totable())
  assert_error({ "1.s", "2×2" }, resumed.load_state, resumed, { ["1.s"] = nb.zeros(2, 3) })
end

function T.test_lbfgs_needs_a_closure_and_one_group()
  local w = weight { 1 }
  local opt = optim.LBFGS({ w })
  assert_error({ "LBFGS", "opt:step(function()" }, opt.step, opt)
  assert_error({ "one group" }, optim.LBFGS, { { params = { w } }, { params = { weight { 2 } } } })
  assert_error({ "line_search_fn", "strong_wolfe" }, optim.LBFGS, { w }, { line_search_fn = "armijo" })
  -- A loss that is not a number ends the step, with the parameters as they were.
  opt:step(closure(opt, function() return (w * (0 / 0)):sum() end))
  lu.assertEquals(w:item(), 1)
end

-- ---- groups ----

function T.test_groups_are_added_with_options_of_their_own()
  local a, b, c = weight { 1 }, weight { 1 }, weight { 1 }
  local opt = optim.SGD({ a }, { lr = 0.5 })
  opt:add_group { params = { b }, lr = 0.25 }
  opt:add_group { params = { c } }
  for _, p in ipairs { a, b, c } do p.grad = nb.ones_like(p:detach()) end
  opt:step()
  lu.assertEquals({ a:item(), b:item(), c:item() }, { 0.5, 0.75, 0.5 })
  assert_error({ "groups 2 and 4", "share" }, opt.add_group, opt, { params = { b } })
  lu.assertEquals(#opt.groups, 3)
  assert_error({ '"lrr"' }, opt.add_group, opt, { params = { weight { 1 } }, lrr = 1 })
  assert_error({ "groups 1 and 2", "share" }, optim.SGD, { { params = { a } }, { params = { a } } })
end

function T.test_groups_check_their_options()
  local a = weight { 1 }
  local opt = optim.Adam({ a }, { lr = 0.5 })
  local group = opt.groups[1]
  assert_error({ "optim.Adam", "lr", "at least 0", "-1" }, function() group.lr = -1 end)
  assert_error({ "betas", "two numbers" }, function() group.betas = { 0.9 } end)
  assert_error({ "parameters is empty" }, function() group.params = {} end)
  group.note = "anything else is the user's"
  lu.assertEquals(group.lr, 0.5)
  lu.assertEquals(group.note, "anything else is the user's")
  local seen = {}
  for name, value in pairs(group) do seen[name] = value end
  lu.assertEquals(seen.lr, 0.5)
  lu.assertEquals(seen.params, { a })
  lu.assertEquals(tostring(group), "group(1 parameter, lr=0.5, betas={0.9, 0.999}, eps=1e-08, weight_decay=0)")
  local state = opt:state()
  state["group.1.lr"] = nb.tensor(-1)
  assert_error({ "load_state", "group.1.lr", "at least 0" }, opt.load_state, opt, state)
  lu.assertEquals(opt.lr, 0.5)
  opt.groups[2] = { params = { weight { 2 } }, lr = 1 }
  assert_error({ "group 2", "opt:add_group" }, opt.step, opt)
end

function T.test_betas_are_part_of_the_state()
  local w = weight { 1 }
  local opt = optim.Adam({ w }, { betas = { 0.5, 0.75 } })
  local other = optim.Adam({ w })
  other:load_state(opt:state())
  lu.assertEquals(other.betas, { 0.5, 0.75 })
end

-- Parameters that do not lie in a row take the rules written in operators; those that do, the pass in C.
function T.test_one_pass_equals_the_rules()
  for _, case in ipairs {
    { "SGD", { lr = 0.1 } }, { "SGD", { lr = 0.1, weight_decay = 0.1 } },
    { "SGD", { lr = 0.1, momentum = 0.9, dampening = 0.3, weight_decay = 0.1 } },
    { "SGD", { lr = 0.1, momentum = 0.9, nesterov = true } },
    { "Adam", { lr = 0.1 } }, { "Adam", { lr = 0.1, weight_decay = 0.1, betas = { 0.8, 0.9 } } },
    { "AdamW", { lr = 0.1, weight_decay = 0.3 } },
    { "RMSprop", {} }, { "RMSprop", { momentum = 0.9, weight_decay = 0.1, eps = 1e-3 } },
  } do
    for _, dtype in ipairs { "f32", "f64" } do
      nb.seed(7)
      local start = nb.randn(5, 3):to(dtype)
      local row = start:clone()
      local column = start.T:clone().T:detach()
      lu.assertFalse(column:is_contiguous())
      row.requires_grad, column.requires_grad = true, true
      local a, b = optim[case[1]]({ row }, case[2]), optim[case[1]]({ column }, case[2])
      for _ = 1, 5 do
        local g = nb.randn(5, 3):to(dtype)
        row.grad, column.grad = g, g
        a:step()
        b:step()
      end
      local away = (row:detach() - column:detach()):abs():max():item()
      lu.assertTrue(away <= (dtype == "f32" and 2e-6 or 1e-14), ("%s %s: %g"):format(case[1], dtype, away))
      lu.assertTrue((row:detach() - start):abs():max():item() > 1e-3)
    end
  end
end

function T.test_gradients_of_all_groups_are_cleared()
  local a, b = nb.ones(2, { requires_grad = true }), nb.ones(2, { requires_grad = true })
  local opt = optim.SGD({ { params = { a } }, { params = { b }, lr = 0.2 } }, { lr = 0.1 });
  (a * b):sum():backward()
  opt:zero_grad()
  lu.assertNil(a.grad)
  lu.assertNil(b.grad)
end

-- Two steps of Liu and Nocedal's two loops, with one pair remembered, written out.
function T.test_lbfgs_by_hand()
  local scales = { 3, 1, 0.5 }
  local w = nb.tensor({ 1, -2, 4 }, { dtype = "f64", requires_grad = true })
  local opt = optim.LBFGS({ w }, { lr = 0.3, max_iter = 1, history_size = 1 })
  local function loss_of()
    opt:zero_grad()
    local J = (w * w * nb.tensor(scales, { dtype = "f64" })):sum() / 2
    J:backward()
    return J
  end
  local function dot(a, b) return a[1] * b[1] + a[2] * b[2] + a[3] * b[3] end
  local function gradient(p) return { scales[1] * p[1], scales[2] * p[2], scales[3] * p[3] } end
  local function moved(p, d, t) return { p[1] + t * d[1], p[2] + t * d[2], p[3] + t * d[3] } end
  local p = { 1, -2, 4 }
  local g = gradient(p)
  local t = math.min(1, 1 / (math.abs(g[1]) + math.abs(g[2]) + math.abs(g[3]))) * 0.3
  local before, last = g, p
  p = moved(p, g, -t)
  opt:step(loss_of)
  lu.assertTrue(numeric.difference(numeric.flat(w), p, 1e-12) == nil)
  for _ = 1, 3 do
    g = gradient(p)
    local s, y = moved(p, last, -1), moved(g, before, -1)
    local rho, q = 1 / dot(y, s), g
    local alpha = rho * dot(s, q)
    q = moved(q, y, -alpha)
    local scale = dot(s, y) / dot(y, y)
    q = { q[1] * scale, q[2] * scale, q[3] * scale }
    q = moved(q, s, alpha - rho * dot(y, q))
    before, last = g, p
    p = moved(p, q, -0.3)
    opt:step(loss_of)
    local wrong = numeric.difference(numeric.flat(w), p, 1e-10)
    lu.assertNil(wrong, wrong)
  end
end

function T.test_lbfgs_goes_up_as_it_goes_down()
  for _, search in ipairs { false, "strong_wolfe" } do
    local found = {}
    for _, sign in ipairs { 1, -1 } do
      local w = nb.tensor({ 1.0, -2.0 }, { dtype = "f64", requires_grad = true })
      local opt = optim.LBFGS({ w }, { maximize = sign < 0, line_search_fn = search or nil, max_iter = 3 })
      opt:step(function()
        opt:zero_grad()
        local J = sign * (w ^ 4 + (w - 1) ^ 2):sum()
        J:backward()
        return J
      end)
      found[#found + 1] = w:detach():totable()
    end
    lu.assertEquals(found[1], found[2])
  end
end

function T.test_a_step_is_a_write_that_backward_notices()
  for _, class in ipairs { "SGD", "Adam", "RMSprop" } do
    local w = nb.tensor({ 1, 2 }, { requires_grad = true })
    local opt = optim[class]({ w }, { lr = 0.1 })
    local J = (w * w):sum()
    J:backward { retain_graph = true }
    opt:step()
    lu.assertErrorMsgContains("changed in place", function() J:backward() end)
  end
end

return T
