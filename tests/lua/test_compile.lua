-- SPDX-License-Identifier: MIT
-- nb.compile: a replayed step equals the step that Lua takes, and what cannot be replayed is refused.
local lu = require "luaunit"
local nb = require "nablua"
local compiling = require "compiling"
local numeric = require "numeric"
local nn, optim = nb.nn, nb.optim

local T = {}

local silently, classes, reals, nets = compiling.silently, compiling.classes, compiling.reals, compiling.nets
local assert_refused = compiling.assert_refused

local optimizers = {
  { "SGD", { lr = 0.05 } }, { "SGD", { lr = 0.05, momentum = 0.9, nesterov = true } }, { "Adam", { lr = 0.01 } },
  { "AdamW", { lr = 0.01, weight_decay = 0.1 } }, { "RMSprop", { lr = 0.01 } },
}

local function trainer(make, loss, name, opts)
  nb.seed(11)
  local net = make()
  local opt = optim[name](net:parameters(), opts)
  return net, opt, function(x, y)
    opt:zero_grad()
    local J = loss(net(x), y)
    J:backward()
    opt:step()
    return J
  end
end

-- Both steps see the same data and random numbers; losses, weights, buffers and gradients must agree.
local function assert_equal_training(case, loss, name, opts, change)
  local make, input, target = case[1], case[2], case[3]
  local net, opt, eager = trainer(make, loss, name, opts)
  local twin, twin_opt, step = trainer(make, loss, name, opts)
  local compiled = nb.compile(step)
  for i = 1, 8 do
    nb.seed(i)
    local x = input()
    local y = target and target() or nil
    if not y then nb.no_grad(function() y = nb.rand_like(net(x):detach()) end) end
    if change and i == 6 then change(opt, twin_opt) end
    nb.seed(100 + i)
    local a = eager(x, y):item()
    nb.seed(100 + i)
    if not target then twin:load_state(net:state(), { strict = false }) end
    local b = compiled(x, y):item()
    lu.assertAlmostEquals(b, a, 1e-6 * math.max(1, math.abs(a)))
  end
  lu.assertStrContains(tostring(compiled), "replays")
  lu.assertNotStrContains(tostring(compiled), " 0 replays")
end

function T.test_replays_equal_training_of_all_layers()
  for i, case in ipairs(nets) do
    local make, input = case[1], case[2]
    local rule = optimizers[i % #optimizers + 1]
    nb.seed(1)
    local shape = make()(input()).shape
    local net, opt, eager = trainer(make, nn.MSELoss(), rule[1], rule[2])
    local twin, twin_opt, step = trainer(make, nn.MSELoss(), rule[1], rule[2])
    local compiled = nb.compile(step)
    for round = 1, 9 do
      nb.seed(round)
      local x, y = input(), nb.rand(shape)
      if round == 7 then opt.lr, twin_opt.lr = 1e-3, 1e-3 end
      nb.seed(100 + round)
      local a = eager(x, y):item()
      nb.seed(100 + round)
      local b = compiled(x, y):item()
      lu.assertAlmostEquals(b, a, 1e-6 * math.max(1, math.abs(a)), ("net %d, round %d"):format(i, round))
    end
    lu.assertStrContains(tostring(compiled), "6 replays", false, ("net %d: %s"):format(i, tostring(compiled)))
    local mine, theirs = net:state(), twin:state()
    for path, value in pairs(mine) do
      lu.assertTrue((value - theirs[path]):abs():max():item() <= 1e-6, ("net %d: %s"):format(i, path))
    end
    local pairs_of = twin:parameters()
    for k, p in ipairs(net:parameters()) do
      lu.assertTrue((p.grad - pairs_of[k].grad):abs():max():item() <= 1e-6)
    end
  end
end

function T.test_losses_and_optimizers_replay()
  local case = { function() return nn.Sequential { nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3) } end, reals(4, 6),
    classes(4, 3) }
  for _, rule in ipairs(optimizers) do
    assert_equal_training(case, nn.CrossEntropyLoss(), rule[1], rule[2], function(a, b) a.lr, b.lr = 0.002, 0.002 end)
  end
end

function T.test_long_elementwise_chains_replay_in_tiles()
  nb.seed(2)
  local x = nb.randn(70001)
  x.requires_grad = true
  local function step(a)
    x.grad = nil
    local J = ((x * 1.5 + a):tanh() * x:sigmoid() - x:relu()):sum()
    J:backward()
    return J
  end
  local compiled = nb.compile(step)
  for i = 1, 6 do
    local a = nb.tensor(i / 10)
    local want = step(a):item()
    local grad = x.grad:clone()
    lu.assertAlmostEquals(compiled(a):item(), want, 1e-5 * math.abs(want))
    lu.assertTrue((x.grad - grad):abs():max():item() <= 1e-6)
  end
  lu.assertStrContains(tostring(compiled), "elementwise groups")
end

-- A call between elementwise neighbours stands aside, unless one of them has to do with it.
function T.test_elementwise_steps_are_joined_around_what_they_do_not_need()
  local x, y = nb.rand(2000), nb.rand(50, 40)
  for groups, f in pairs {
    [1] = function(a, b)
      local u, v = (a * 2):exp(), b:cumsum(1)
      return (u + 1):tanh(), v
    end,
    [2] = function(a)
      local u = (a * 2):exp()
      local v = u:cumsum(1)
      return (u + v):tanh(), v
    end,
  } do
    local compiled = nb.compile(f)
    for _ = 1, 4 do
      local have, want = compiled(x, y), f(x, y)
      lu.assertTrue((have - want):abs():max():item() <= 1e-6)
    end
    lu.assertStrContains(tostring(compiled), ("4 of them in %d elementwise groups"):format(groups))
  end
end

-- Sums of all elements end a group: of several at once, of means, and of what else needs the summands.
function T.test_sums_are_taken_tile_by_tile()
  nb.seed(6)
  local threads = nb.threads()
  for _, n in ipairs { 1, 3, 511, 512, 513, 40000 } do
    for _, dtype in ipairs { "f32", "f64" } do
      local w = nb.randn({ n }, { dtype = dtype, requires_grad = true })
      local function step(x)
        w.grad = nil
        local y = (w * x + 0.5):tanh() * x
        local J = y:sum() + (y * y):mean() * 2
        J:backward()
        y = y:detach()
        return J, y:exp():sum({ keepdim = true }), y + 1
      end
      local compiled = nb.compile(step)
      for t = 1, 2 do
        nb.threads(t)
        for _ = 1, 4 do
          local x = nb.randn({ n }, { dtype = dtype })
          local want = table.pack(step(x))
          want[4] = w.grad
          local have = table.pack(compiled(x))
          have[4] = w.grad
          for k = 1, 4 do
            lu.assertEquals(have[k].shape, want[k].shape)
            local off = (have[k] - want[k]):abs():max():item()
            lu.assertTrue(off <= 1e-6 * math.max(1, want[k]:abs():max():item()), ("%d: %g"):format(k, off))
          end
        end
      end
      nb.threads(threads)
      if n > 512 then
        lu.assertStrContains(tostring(compiled), "│ mean")
        lu.assertEquals(select(2, tostring(compiled):gsub("│ sum", "")), 2)
      end
    end
  end
end

-- A multiplication by the seed of backward needs no step, and a product that is added to something one with the sum;
-- unless somebody sees the product, writes to a factor in between, or may change the one.
function T.test_products_go_with_ones_and_sums()
  local function steps_of(f, ...)
    local g = nb.compile(f)
    local want = table.pack(f(...))
    for _ = 1, 5 do
      local have = table.pack(g(...))
      for k = 1, want.n do lu.assertEquals(have[k]:totable(), want[k]:totable()) end
    end
    local text = tostring(g)
    return select(2, text:gsub("multiply_add", "")), select(2, text:gsub("mul [0-9]", ""))
  end
  local function assert_steps(want_joined, want_products, f, ...)
    local joined, products = steps_of(f, ...)
    lu.assertEquals({ joined, products }, { want_joined, want_products })
  end
  nb.seed(12)
  local x, y, z = nb.randn(3, 4), nb.randn(3, 4), nb.randn(4)
  local w, one = nb.randn({ 3, 4 }, { requires_grad = true }), nb.ones(1)
  assert_steps(1, 0, function(a, b) return a * b + a end, x, y)
  assert_steps(1, 0, function(a, b) return b + a * 2 end, x, z)
  assert_steps(1, 0, function(a, b) return a * b + b end, x, z)
  assert_steps(1, 0, function(a) return a:to("f64") * 2 + 0.1 end, x)
  assert_steps(0, 1, function(a, b) return a * 2 + b end, z, x)  -- the product is smaller than the sum
  assert_steps(0, 1, function(a, b) local p = a * b; return p + a, p end, x, y)
  assert_steps(0, 1, function(a, b) local p = a * b; return p + p end, x, y)
  assert_steps(0, 1, function(a) return a * one end, x)  -- `one` may change
  assert_steps(0, 0, function(a) return a * 1 + a:exp() end, x)
  assert_steps(0, 1, function(a) return a * 1 end, x)  -- the result is a tensor of its own
  assert_steps(0, 2, function(a) w.grad = nil; (w * a):sum():backward(); return w.grad end, x)  -- it is kept
  assert_steps(0, 2, function(a)
    w.grad = nil
    local J = (w * a):exp():sum()
    J:backward()
    return J, w.grad
  end, x)
  -- A factor is written to before the sum is taken.
  local v = nb.zeros(3, 4)
  local f = nb.compile(function(a)
    local p = v * a
    v:add_(1)
    return p + a
  end)
  for i = 1, 6 do lu.assertEquals(f(x):totable(), (x * (i - 1) + x):totable()) end
  one:fill_(2)
end

-- Options that change between calls reach the replay: numbers, lists and what is in them.
-- A step may write over what it reads for the last time, but not over what another operand sees in other places.
function T.test_steps_work_in_place_where_nobody_looks_again()
  local functions = {
    function(x) return x:matmul(x):relu():matmul(x) end,
    function(x)
      local y = x:matmul(x)
      return (y + y:transpose(1, 2)):matmul(x)
    end,
    function(x)
      local y = x:matmul(x)
      return y:relu():matmul(x) + y
    end,
    function(x)
      local y = x:matmul(x)
      return (y[1] * y):matmul(x)
    end,
    function(x)
      local y = x:matmul(x)
      return (y - x):matmul(x) + (y * y):matmul(x)
    end,
  }
  for _, f in ipairs(functions) do
    local compiled, x = nb.compile(f), nb.randn(70, 70)
    for _ = 1, 4 do
      numeric.assert_close(compiled(x), f(x), 1e-6)
      x = nb.randn(70, 70)
    end
  end
  local chain = nb.compile(functions[1])
  for _ = 1, 3 do chain(nb.randn(70, 70)) end
  lu.assertStrContains(tostring(chain), "19.6 KB of memory")  -- one matrix of 70 × 70 floats, the result apart
end

function T.test_options_of_optimizers_are_watched()
  local function run(wrap)
    nb.seed(4)
    local w = nb.randn({ 5 }, { requires_grad = true })
    local adam = optim.Adam({ w }, { lr = 0.1 })
    local f = wrap(function(x)
      adam:zero_grad()
      local J = (w * x):square():sum()
      J:backward()
      adam:step()
      return J
    end)
    local group = adam.groups[1]
    group.note, group.list = "what a user keeps here", {}
    for i = 1, 1000 do group.list[i] = i end
    local changes = {
      [4] = function() group["k" .. "1"] = 1 end,
      [5] = function() group.lr, group.k1 = 0.01, nil end,
      [6] = function() group.betas[2] = 0.5 end,
      [7] = function() group.betas = { 0.1, 0.9 } end,
      [8] = function() group.weight_decay = 1 end,
      [9] = function() group.eps = 0.1 end,
    }
    for i = 1, 10 do
      if changes[i] then changes[i]() end
      collectgarbage()
      f(nb.tensor { 1, 2, 3, 4, i })
    end
    return w:totable()
  end
  numeric.assert_close(nb.tensor(run(nb.compile)), nb.tensor(run(function(f) return f end)), 1e-6)
end

-- What becomes of an optimizer between calls; each of these makes another step of it, in its numbers or in its form.
local turns = {
  momentum = function(opt) opt.momentum = 0.9 end,
  maximize = function(opt) opt.maximize = true end,
  rate = function(opt) opt.groups[1].lr = 0.01 end,
  schedule = function(opt) optim.StepLR(opt, { step_size = 1, gamma = 0.5 }):step() end,
  state = function(opt, before) opt:load_state(before) end,
  group = function(opt, _, other) opt:add_group { params = { other }, lr = 0.02 } end,
  parameters = function(opt, _, other) opt.groups[1].params = { other } end,
}

function T.test_optimizers_may_become_others_between_calls()
  for name, turn in pairs(turns) do
    for _, kind in ipairs { "SGD", "Adam" } do
      local function run(wrap)
        nb.seed(4)
        local w, other = nb.randn({ 5 }, { requires_grad = true }), nb.randn({ 5 }, { requires_grad = true })
        local opt = optim[kind]({ w }, { lr = 0.05 })
        local f = wrap(function(x)
          opt:zero_grad()
          other.grad = nil
          local J = (w * x):square():sum() + (other * x):sum()
          J:backward()
          opt:step()
          return J
        end)
        local before
        for i = 1, 12 do
          f(nb.tensor { 1, 2, 3, 4, i / 3 })
          if i == 2 then before = opt:state() end
          if i == 7 and (name ~= "momentum" or kind == "SGD") then turn(opt, before, other) end
        end
        return nb.cat { w, other }
      end
      local expected = run(function(f) return f end)
      silently(function() numeric.assert_close(run(nb.compile), expected, 1e-6) end)
    end
  end
end

function T.test_options_set_inside_are_refused()
  local function two_steps(before_each)
    local w = nb.tensor({ 4 }, { requires_grad = true })
    local opt = optim.SGD({ w }, { lr = 0.1 })
    local function step(i)
      opt:zero_grad()
      w:square():sum():backward()
      before_each(opt, i)
      opt:step()
    end
    return function() step(1) step(2) return w:detach():clone() end
  end
  local ways = {
    function(opt, i) opt.lr = i / 10 end,
    function(opt, i) opt.groups[1].lr = i / 10 end,
    function(opt) optim.StepLR(opt, { step_size = 3 }):step() end,
  }
  for _, way in ipairs(ways) do
    local f, plain = nb.compile(two_steps(way)), two_steps(way)
    local said = silently(function()
      for _ = 1, 6 do lu.assertEquals(f():totable(), plain():totable()) end
    end)
    lu.assertStrContains(said, "sets options of an optimizer")
  end
end

-- A scalar that a replay gives begins without the parts of a tensor that only few of them need.
function T.test_scalars_that_replays_give_are_tensors()
  local makes = { f32 = 2.5, f64 = 2.5, i64 = 3, u8 = 3, bool = true }
  for dtype, number in pairs(makes) do
    local f = nb.compile(function(x) return x:sum():to(dtype) end)
    local x = nb.tensor { type(number) == "number" and number - 1 or 0, 1 }
    for _ = 1, 4 do f(x) end
    lu.assertEquals(math.type(f(x):item()), math.type(number))
    lu.assertEquals(f(x):item(), number)
    lu.assertEquals(f(x):totable(), number)
    lu.assertEquals(f(x).dtype, dtype)
    lu.assertEquals(f(x).shape, {})
    lu.assertTrue(nb.is_tensor(f(x)))
  end
  local f = nb.compile(function(x) return x:sum(), x:mean() end)
  local x = nb.tensor { 1, 2, 3, 6 }
  for _ = 1, 4 do f(x) end
  local sum, mean = f(x)
  lu.assertEquals((sum / mean):item(), 4)
  lu.assertEquals((2 - -sum):item(), 14)
  lu.assertEquals(nb.stack { sum, mean, sum }:totable(), { 12, 3, 12 })
  lu.assertTrue(mean < sum and sum == sum and mean ~= sum)
  lu.assertEquals(tostring(f(x)), tostring(nb.tensor(12)))
  lu.assertEquals("J = " .. f(x), "J = " .. nb.tensor(12))
  lu.assertErrorMsgContains("no field", function() return sum.nothing end)
  lu.assertErrorMsgContains("no dimension", function() return f(x):size(1) end)
  lu.assertErrorMsgContains("one element", function() return nb.compile(function() return x end)():item() end)
  lu.assertFalse(getmetatable(f(x)))
  local w = f(x)
  w.requires_grad = true
  (w * w):backward()
  lu.assertEquals(w.grad:item(), 24)
  lu.assertEquals(sum:add_(1):item(), 13)
  lu.assertEquals(f(x):item(), 12)
end

function T.test_scalars_of_replays_live_as_long_as_they_are_held()
  local f = nb.compile(function(x) return x:sum() end)
  local kept = {}
  for i = 1, 3000 do kept[i] = f(nb.tensor { i, 1 }) end
  collectgarbage()
  collectgarbage()
  local memory = nb.memory().live
  for round = 1, 2 do
    for i = 1, 3000 do lu.assertEquals((kept[i] + 0):item(), i + 1) end
    if round == 1 then lu.assertTrue(nb.memory().live > memory) end
  end
  -- In the end everything may be looked at once more: finalizers run in the reverse order of what was made.
  local last
  do
    local holder = setmetatable({}, { __gc = function(self) last = pcall(function() return self.J + 1 end) end })
    holder.J = f(nb.tensor { 1, 1 })
    lu.assertEquals((holder.J + 1):item(), 3)
  end
  local taken = kept[3000]
  debug.setuservalue(taken, nil, 1)
  collectgarbage()
  collectgarbage()
  numeric.assert_error({ "tensor" }, function() return taken:add(1) end)
  for i = 1, 3000 do kept[i] = nil end
  collectgarbage()
  collectgarbage()
  lu.assertNotNil(last)
  lu.assertTrue(nb.memory().live <= memory)
end

function T.test_gradients_add_up_where_nothing_clears_them()
  local w = nb.ones(3, { requires_grad = true })
  local f = nb.compile(function(x) (w * x):sum():backward() end)
  silently(function()
    for i = 1, 6 do
      f(nb.tensor { i, 1, 1 })
      lu.assertEquals(w.grad:at(2), i)
    end
  end)
  lu.assertEquals(w.grad:at(1), 21)
end

function T.test_inference_and_several_results()
  local net = nn.Sequential { nn.Linear(4, 3), nn.ReLU() }
  local f = nb.compile(function(x, k) return nb.no_grad(function() return net(x) end), k, x + 1 end)
  for i = 1, 5 do
    local x = nb.randn(2, 4)
    local y, k, z = f(x, 7)
    lu.assertEquals({ y:totable(), k, z:totable() }, { net(x):totable(), 7, (x + 1):totable() }, i)
  end
  local kept = f(nb.ones(2, 4), 7)
  local before = kept:totable()
  f(nb.zeros(2, 4), 7)
  lu.assertEquals(kept:totable(), before)  -- results are the caller's own
end

function T.test_other_shapes_are_recorded_anew()
  local f = nb.compile(function(x) return (x * 2):sum() end)
  for _ = 1, 5 do
    lu.assertEquals(f(nb.ones(3)):item(), 6)
    lu.assertEquals(f(nb.ones(5, 2).T):item(), 20)
  end
end

function T.test_modes_and_upvalues_are_watched()
  local net = nn.Sequential { nn.Dropout(0.5) }
  local scale = nb.tensor(2)
  local f = nb.compile(function(x) return net(x):sum() * scale end)
  for _ = 1, 5 do f(nb.ones(100)) end
  net:eval()
  for _ = 1, 5 do lu.assertEquals(f(nb.ones(100)):item(), 200) end
  scale = nb.tensor(3)
  for _ = 1, 5 do lu.assertEquals(f(nb.ones(100)):item(), 300) end
end

function T.test_what_cannot_be_kept_is_refused()
  local x = nb.tensor { 1, 2, 3 }
  local r = assert_refused({ "reads a number", "test_compile.lua" }, function(a)
    if a:sum():item() > 5 then return a * 2 end
    return a
  end, x)
  lu.assertEquals(r[6]:totable(), { 2, 4, 6 })
  assert_refused({ "compares" }, function(a) return a[1] < 2 and a or -a end, x)
  local write = io.write
  io.write = function() end  -- luacheck: ignore 122
  assert_refused({ "prints" }, function(a) io.write("here") return a + 1 end, x)
  io.write = write  -- luacheck: ignore 122
  assert_refused({ "random" }, function(a) return a * math.random() end, x)
  assert_refused({ "seeds" }, function(a) nb.seed(1) return a + 1 end, x)
  assert_refused({ "depends on values" }, function(a) return a:masked_select(a:gt(1)) end, x)
  local v = nb.ones(3, { requires_grad = true })
  v:register_hook(function(g) return g * 2 end)
  assert_refused({ "hooks" }, function(a) v.grad = nil; (a * v):sum():backward() end, x)
  lu.assertEquals(v.grad:totable(), { 2, 4, 6 })
  local n = 0
  assert_refused({ "another at each call" }, function(a) n = n + 1 return a * n end, x)
  local w = nb.ones(3, { requires_grad = true })
  r = assert_refused({ "on the tape" }, function(a) return (a * w):sum() end, x)
  r[6]:backward()
  lu.assertEquals(w.grad:totable(), { 1, 2, 3 })
  numeric.assert_error({ "compile", "function" }, nb.compile, 5)
end

function T.test_errors_inside_leave_no_recording()
  local bad = false
  local f = nb.compile(function(x) if bad then error("stop") end return x + 1 end)
  f(nb.ones(2))
  bad = true
  lu.assertErrorMsgContains("stop", f, nb.ones(2))
  bad = false
  for _ = 1, 4 do lu.assertEquals(f(nb.ones(2)):totable(), { 2, 2 }) end
  -- Errors that only values show come in a replay, too.
  local g = nb.compile(function(z, y) return nn.cross_entropy(z, y) end)
  for _ = 1, 4 do g(nb.zeros(2, 3), nb.tensor { 1, 3 }) end
  lu.assertErrorMsgContains("label 2 is 4", g, nb.zeros(2, 3), nb.tensor { 1, 4 })
end

-- What was compiled can be stepped through and checked like the function itself; a net is called without recording.
function T.test_inspection_takes_what_was_compiled()
  local net = nn.Sequential { nn.Linear(2, 3), nn.Tanh() }
  local f = nb.compile(function(a, b) return nn.mse(net(a), b) end)
  local x, y = nb.rand(4, 2), nb.rand(4, 3)
  silently(function() for _ = 1, 5 do f(x, y) end end)
  local s = nb.inspect.step(f, x, y)
  s:run()
  lu.assertEquals(s.count, nb.inspect.step(function() return nn.mse(net(x), y) end).count)
  local g = nb.compile(function(a) return nb.no_grad(net, a) end)
  for _ = 1, 5 do lu.assertEquals(g(x):totable(), net(x):totable()) end
  lu.assertStrContains(tostring(g), "f32 4×2")
  numeric.assert_error({ "inspect.step", "needs a net" }, nb.inspect.step, nn.Linear, x, y)
  numeric.assert_error({ "no_grad", "needs a function" }, nb.no_grad, x)
end

function T.test_anomaly_looks_into_what_was_compiled()
  local f = nb.compile(function(x) return (x:log() * 2):sum() end)
  for _ = 1, 6 do f(nb.ones(3)) end
  local x = nb.tensor { 1, -1, 2 }
  lu.assertNotEquals(f(x):item(), f(x):item())  -- NaN
  local _ <close> = setmetatable({}, { __close = function() nb.anomaly(false) end })
  nb.anomaly(true)
  numeric.assert_error({ "log", "NaN", "test_compile.lua" }, f, x)
  lu.assertEquals(f(nb.ones(3)):item(), 0)
end

function T.test_a_memory_limit_ends_a_replay_with_a_sentence()
  local f = nb.compile(function(x) return x + 1 end)
  local x = nb.zeros(1000, 1000)
  for _ = 1, 6 do f(x) end
  collectgarbage()
  local limit = nb.memory().limit
  nb.memory { limit = nb.memory().live + 1e6 }
  local _ <close> = setmetatable({}, { __close = function() nb.memory { limit = limit } end })
  numeric.assert_error({ "not enough memory" }, f, x)
  nb.memory { limit = limit }
  lu.assertEquals(f(x):at(1, 1), 1)
end

function T.test_memory_of_a_replay_is_constant()
  local net = nn.Sequential { nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 10) }
  local opt = optim.Adam(net:parameters())
  local x, y = nb.rand(16, 32), nb.randint(1, 10, 16)
  local f = nb.compile(function(a, b)
    opt:zero_grad()
    nn.cross_entropy(net(a), b):backward()
    opt:step()
  end)
  for _ = 1, 5 do f(x, y) end
  collectgarbage()
  local before = nb.memory().live
  for _ = 1, 50 do f(x, y) end
  collectgarbage()
  lu.assertEquals(nb.memory().live, before)
end

-- Every call sees its own writes, and the plan is refused.
function T.test_writes_to_arguments_reach_the_caller()
  local f = nb.compile(function(x) x:mul_(3); return x:sum() end)
  local said = silently(function()
    for i = 1, 5 do
      local x = nb.tensor { i, 2 * i }
      lu.assertEquals(f(x):item(), 9 * i)
      lu.assertEquals(x:totable(), { 3 * i, 6 * i })
    end
  end)
  lu.assertStrContains(said, "changes an argument in place")
  local fails = nb.compile(function(x) x[1] = 7; error("stop") end)
  for _ = 1, 3 do
    local x = nb.zeros(2)
    lu.assertErrorMsgContains("stop", fails, x)
    lu.assertEquals(x:totable(), { 7, 0 })
  end
end

-- Of arguments that are no tensors each other one is recorded anew, also where its text or address is the same.
function T.test_other_values_are_told_apart()
  local f = nb.compile(function(x, a) return x * (a - 2 ^ 53) end)
  local x = nb.ones({ 1 }, { dtype = "f64" })
  for _, a in ipairs { 2 ^ 53, 2 ^ 53 + 2 } do
    for _ = 1, 5 do lu.assertEquals(f(x, a):item(), a - 2 ^ 53) end
  end
  local g = nb.compile(function(_, list) return x * list[1] end)
  local said = silently(function()
    for i = 0, 3999 do
      local r = g(x, { i // 1000 })
      if r:item() ~= i // 1000 then error("call " .. i .. " gave " .. r:item()) end
    end
  end)
  lu.assertStrContains(said, "other tables or functions at each call")
  local net = nn.Linear(2, 1)
  local h = nb.compile(function(m, z) return nb.no_grad(function() return m(z) end) end)
  for _ = 1, 5 do h(net, nb.ones(1, 2)) end
  lu.assertStrContains(tostring(h), "2 replays")
end

function T.test_many_tensors_are_refused_and_leave_no_recording_behind()
  local function many(x)
    local list = {}
    for k = 1, 20 do list[k] = x * k end
    return table.unpack(list)
  end
  local returning = nb.compile(many)
  local taking = nb.compile(function(...)
    local sum = 0
    for _, x in ipairs { ... } do sum = sum + x end
    return sum
  end)
  local said = silently(function()
    for call = 1, 5 do
      local list = { returning(nb.full({ 2 }, call)) }
      lu.assertEquals(#list, 20)
      lu.assertEquals(list[20]:totable(), { 20 * call, 20 * call })
      lu.assertEquals(taking(table.unpack(list)):totable(), { 210 * call, 210 * call })
    end
  end)
  lu.assertStrContains(said, "it returns 20 tensors, and can return 16")
  lu.assertStrContains(said, "it takes 20 tensors, and can take 16")
  local small = nb.compile(function(x) return x + 1 end)
  for _ = 1, 5 do small(nb.ones(2)) end
  lu.assertStrContains(tostring(small), "2 replays")
end

-- Two stand-ins for what other C libraries make: one that names itself, one that does not.
function T.test_objects_of_other_libraries_are_refused()
  local own = debug.getmetatable(io.stdout)
  for _, name in ipairs { "other.object", false } do
    local object = io.tmpfile()
    debug.setmetatable(object, { __name = name or nil, __index = function() return 2 end })
    assert_refused({ "an object of another C library" }, function(a) return a * object.scale end, nb.ones(2))
    debug.setmetatable(object, own)
    object:close()
  end
end

return T
