-- SPDX-License-Identifier: MIT
-- nb.compile: a replayed step equals the step that Lua takes, and what cannot be replayed is refused.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn, optim = nb.nn, nb.optim

local T = {}

-- Runs f with standard error put aside: what f returns.
local function silently(f, ...)
  local before = io.stderr
  local said = {}
  io.stderr = { write = function(_, text) said[#said + 1] = text end }  -- luacheck: ignore 122
  local results = table.pack(pcall(f, ...))
  io.stderr = before  -- luacheck: ignore 122
  if not results[1] then error(results[2], 0) end
  return table.concat(said), table.unpack(results, 2, results.n)
end

local function classes(n, k) return function() return nb.randint(1, k, n) end end
local function reals(...) local shape = { ... } return function() return nb.randn(shape) end end

-- A net of the first result of what it holds, and one whose halves share a layer and add up.
local First = nn.module("First", function(self, inner) self.inner = inner end)
function First:forward(...) return (self.inner(...)) end
local Shared = nn.module("Shared", function(self)
  self.layer, self.bias = nn.Linear(6, 6), nb.zeros(6, { requires_grad = true })
end)
function Shared:forward(x) return x + self.layer(self.layer(x):tanh()) * self.bias:exp() end

local nets = {
  { function() return nn.Linear(6, 3) end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3), nn.Tanh() } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.LeakyReLU(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.ELU(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.Softmax(), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3) } end, reals(4, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8, { bias = false }), nn.Dropout(0.2), nn.ReLU() } end,
    reals(4, 6) },
  { function()
    return nn.Sequential { nn.Conv2d(2, 4, 3, { padding = 1 }), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
      nn.Linear(36, 3) }
  end, reals(2, 2, 6, 6) },
  { function()
    return nn.Sequential { nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten() }
  end, reals(2, 2, 6, 6) },
  { function() return nn.Sequential { nn.ConvTranspose2d(2, 3, 2), nn.GroupNorm(3, 3), nn.Flatten() } end,
    reals(2, 2, 4, 4) },
  { function() return nn.Sequential { nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten() } end, reals(2, 2, 7) },
  { function() return nn.Sequential { nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3) } end,
    function() return nb.randint(1, 9, 4, 3) end },
  { function() return First(nn.LSTM(5, 4)) end, reals(6, 3, 5) },
  { function() return First(nn.LSTM(5, 4, { num_layers = 2, bidirectional = true, dropout = 0.5 })) end,
    reals(6, 3, 5) },
  { function() return First(nn.GRU(5, 4, { batch_first = true })) end, reals(3, 6, 5) },
  { function() return First(nn.RNN(5, 4)) end, reals(6, 3, 5) },
  { function() return First(nn.MultiheadAttention(8, 2)) end, reals(3, 5, 8) },
  { function() return nn.TransformerEncoderLayer(8, 2, { dim_feedforward = 16 }) end, reals(3, 5, 8) },
  { function() return nn.Sequential { nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LogSoftmax() } end,
    reals(2, 2, 6, 6) },
  { function() return nn.Sequential { nn.Embedding(9, 5), First(nn.LSTM(5, 4, { batch_first = true })) } end,
    function() return nb.randint(1, 9, 4, 3) end },
  { Shared, reals(4, 6) },
  { function() return nn.Sequential { nn.Conv2d(4, 4, 3, { groups = 2 }), nn.GELU(), nn.ConvTranspose2d(4, 2, 3) } end,
    reals(2, 4, 6, 6) },
  { function() return nn.Sequential { nn.Linear(6, 8), nn.RMSNorm(8), nn.Lambda(function(x) return x * x + 1 end) } end,
    reals(4, 6) },
}
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

local function assert_refused(words, f, ...)
  local compiled = nb.compile(f)
  local args = table.pack(...)
  local said, results = silently(function()
    local list = {}
    for i = 1, 6 do list[i] = compiled(table.unpack(args, 1, args.n)) end
    return list
  end)
  for _, word in ipairs(words) do lu.assertStrContains(said, word) end
  lu.assertStrContains(tostring(compiled), words[1])
  return results
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

-- ---- never stale ----

-- Each makes a function of a tensor, and something that changes what it finds outside.
local outside = {
  field = function()
    local lr = { v = 2 }
    return function(x) return x * lr.v end, function() lr.v = 5 end
  end,
  ["field of a field"] = function()
    local o = { inner = { list = { 2, 3 } } }
    return function(x) return x * o.inner.list[2] end, function() o.inner.list[2] = 5 end
  end,
  ["field that was not there"] = function()
    local o = { a = 1 }
    return function(x) return x * (o.k or 1) end, function() o.k = 5 end
  end,
  ["field that goes"] = function()
    local o = { a = 1, k = 4 }
    return function(x) return x * (o.k or 1) end, function() o.k = nil end
  end,
  ["element of a list"] = function()
    local list = { 1, 2, 3 }
    return function(x)
      for _, v in ipairs(list) do x = x * v end
      return x
    end, function() list[#list + 1] = 7 end
  end,
  ["global number"] = function()
    _G.nablua_test_k = 2
    return function(x) return x * nablua_test_k end, function() _G.nablua_test_k = 5 end  -- luacheck: ignore 113
  end,
  ["global function"] = function()
    _G.nablua_test_f = function(x) return x * 2 end
    return function(x) return nablua_test_f(x) end,  -- luacheck: ignore 113
      function() _G.nablua_test_f = function(x) return x + 9 end end
  end,
  ["global table"] = function()
    _G.nablua_test_t = { k = 2 }
    return function(x) return x * nablua_test_t.k end,  -- luacheck: ignore 113
      function() _G.nablua_test_t.k = 7 end  -- luacheck: ignore 113
  end,
  ["global of an inner function"] = function()
    _G.nablua_test_k = 2
    return function(x) return nb.no_grad(function() return x * nablua_test_k end) end,  -- luacheck: ignore 113
      function() _G.nablua_test_k = 5 end
  end,
  ["global of a chunk with many strings"] = function()
    local strings = {}
    for i = 1, 300 do strings[i] = ("'s%d'"):format(i) end
    _G.nablua_test_k = 2
    return load("return function(x) local t = {" .. table.concat(strings, ",") .. "} return x * nablua_test_k, #t end")(),
      function() _G.nablua_test_k = 5 end
  end,
  ["upvalue"] = function()
    local k = 2
    return function(x) return x * k end, function() k = 5 end
  end,
  ["upvalue of a helper"] = function()
    local k = 2
    local function helper(x) return x * k end
    local function between(x) return helper(x) end
    return function(x) return between(x) end, function() k = 5 end
  end,
  ["upvalue of a function in a table"] = function()
    local k = 2
    local o = { f = function(x) return x * k end }
    return function(x) return o.f(x) end, function() k = 5 end
  end,
  ["method"] = function()
    local P = {}
    P.__index = P
    function P.go(_, x) return x * 2 end
    local o = setmetatable({}, P)
    return function(x) return o:go(x) end, function() function P.go(_, x) return x * 11 end end
  end,
  ["metamethod"] = function()
    local P = { __call = function(_, x) return x * 2 end }
    local o = setmetatable({}, P)
    return function(x) return o(x) end, function() P.__call = function(_, x) return x * 3 end end
  end,
  ["metatable"] = function()
    local o = setmetatable({}, { __index = { k = 2 } })
    return function(x) return x * o.k end, function() setmetatable(o, { __index = { k = 3 } }) end
  end,
  ["class of a module"] = function()
    local Own = nn.module("Own", function() end)
    function Own.forward(_, x) return x * 2 end
    local net = Own()
    return function(x) return net(x) end, function() function Own.forward(_, x) return x * 3 end end
  end,
  ["class of the library"] = function()
    local net, forward = nn.Sequential { nn.ReLU() }, nn.ReLU.forward
    return function(x) return net(x) end, function() nn.ReLU.forward = function(_, x) return x * 3 end end,
      function() nn.ReLU.forward = forward end
  end,
  ["function of the library"] = function()
    local before = nb.relu
    return function(x) return nb.relu(x) end, function() nb.relu = function(x) return x * 3 end end,
      function() nb.relu = before end
  end,
  ["function of Lua's"] = function()
    local before = math.sqrt
    return function(x) return x * math.sqrt(4) end,
      function() math.sqrt = function() return 5 end end,  -- luacheck: ignore 122
      function() math.sqrt = before end  -- luacheck: ignore 122
  end,
  ["table among the arguments"] = function()
    local o = { k = 2 }
    return function(x, t) return x * t.k end, function() o.k = 5 end, nil, o
  end,
  ["compiled function inside"] = function()
    local o = { k = 2 }
    local inner = nb.compile(function(x) return x * o.k end)
    return function(x) return inner(x) end, function() o.k = 5 end
  end,
  ["gradient mode"] = function()
    local w = nb.ones(3, { requires_grad = true })
    return function(x)
      w.grad = nil
      local J = (x * w):sum()
      if nb.grad_enabled() then J:backward() end
      return w.grad or nb.zeros(3)
    end, function() nb.set_grad_enabled(false) end, function() nb.set_grad_enabled(true) end
  end,
  ["flag of a parameter"] = function()
    local w, v = nb.ones(3, { requires_grad = true }), nb.ones(3, { requires_grad = true })
    return function(x)
      w.grad, v.grad = nil, nil
      (x * w * v):sum():backward()
      return w.grad or nb.zeros(3), v.grad
    end, function() w.requires_grad = false end, function() w.requires_grad = true end
  end,
  ["flag of what was constant"] = function()
    local w, v = nb.ones(3), nb.ones(3, { requires_grad = true })
    return function(x)
      w.grad, v.grad = nil, nil
      (x * w * v):sum():backward()
      return w.grad or nb.zeros(3), v.grad
    end, function() w.requires_grad = true end, function() w.requires_grad = false end
  end,
  ["hook of a parameter"] = function()
    local w = nb.ones(3, { requires_grad = true })
    local handle
    return function(x)
      w.grad = nil
      (x * w):sum():backward()
      return w.grad
    end, function() handle = w:register_hook(function(g) return g * 2 end) end, function() handle:remove() end
  end,
  ["bias that goes"] = function()
    local net = nn.Linear(3, 2)
    return function(x) return nb.no_grad(net, x) end, function() net.bias = nil end
  end,
  ["layer"] = function()
    local net = nn.Sequential { nn.Linear(3, 2), nn.Tanh() }
    return function(x) return nb.no_grad(net, x) end, function() net[2] = nn.Sigmoid() end
  end,
  ["forward hook"] = function()
    local net = nn.Sequential { nn.Linear(3, 2), nn.Tanh() }
    return function(x) return nb.no_grad(net, x) end,
      function() net[1]:register_forward_hook(function(_, _, y) return y * 2 end) end
  end,
  ["second forward hook, and its upvalue"] = function()
    local net, k = nn.Sequential { nn.Linear(3, 2), nn.Tanh() }, 2
    net[1]:register_forward_hook(function(_, _, y) return y * k end)
    return function(x) return nb.no_grad(net, x) end, function() k = 3 end
  end,
  ["forward hook removed"] = function()
    local net = nn.Sequential { nn.Linear(3, 2), nn.Tanh() }
    net[1]:register_forward_hook(function(_, _, y) return y end)
    local handle = net[1]:register_forward_hook(function(_, _, y) return y * 2 end)
    return function(x) return nb.no_grad(net, x) end, function() handle:remove() end
  end,
  ["mode of a net"] = function()
    local net = nn.BatchNorm1d(3)
    net:eval()
    return function(x) return nb.no_grad(net, x:view(1, 3):expand(4, 3) * nb.tensor { { 1 }, { 2 }, { 3 }, { 4 } }) end,
      function() net:train() end
  end,
  ["mode of one layer"] = function()
    local net = nn.Sequential { nn.Linear(3, 3), nn.BatchNorm1d(3) }
    net:eval()
    return function(x) return nb.no_grad(net, x:view(1, 3):expand(4, 3) * nb.tensor { { 1 }, { 2 }, { 3 }, { 4 } }) end,
      function() net[2].training = true end
  end,
}

local function without_globals()
  return setmetatable({}, { __close = function()
    for _, name in ipairs { "k", "f", "t" } do _G["nablua_test_" .. name] = nil end
  end })
end

local function values(...)
  local list = table.pack(...)
  for i = 1, list.n do list[i] = nb.is_tensor(list[i]) and list[i]:totable() or list[i] end
  return list
end

-- What the function gives after the change is what it gives as it is; and it is replayed again soon.
function T.test_whatever_it_finds_outside_may_change()
  local _ <close> = without_globals()
  for name, make in pairs(outside) do
    local said = silently(function()
      local f, change, back, more = make()
      local compiled = nb.compile(f)
      local x = nb.tensor { 1, 2, 3 }
      for _ = 1, 5 do compiled(x, more) end
      lu.assertStrContains(tostring(compiled), "2 replays", false, name)
      local before = values(f(x, more))
      local _ <close> = setmetatable({}, { __close = back or function() end })
      change()
      local want, have = values(f(x, more)), values(compiled(x, more))
      lu.assertNotEquals(want, before, name .. ": the case must change something")
      lu.assertEquals(have, want, name)
      for _ = 1, 4 do lu.assertEquals(values(compiled(x, more)), want, name) end
      if not name:match("^hook") then lu.assertStrContains(tostring(compiled), "5 replays", false, name) end
    end)
    if not name:match("^hook") then lu.assertEquals(said, "", name) end
  end
end

-- Every tensor that a module of any layer holds may be replaced, and all be converted.
function T.test_what_layers_hold_may_be_replaced()
  local count = 0
  for i, case in ipairs(nets) do
    nb.seed(i)
    local net, x = case[1](), case[2]()
    net:eval()
    local function f(a)
      local y = nb.no_grad(net, a)
      return y
    end
    local compiled = nb.compile(f)
    for _ = 1, 4 do compiled(x) end
    lu.assertStrContains(tostring(compiled), "1 replays", false, "net " .. i)
    for path, m in net:named_modules() do
      for key, value in pairs(m) do
        if nb.is_tensor(value) and nb.no_grad(function() return value.dtype == "f32" end) then
          local new = value:detach():clone():mul_(1.5):add_(0.25)
          new.requires_grad = value.requires_grad
          m[key] = new
          numeric.assert_close(compiled(x), f(x), 1e-6)
          for _ = 1, 2 do compiled(x) end
          numeric.assert_close(compiled(x), f(x), 1e-6)
          count = count + 1
          lu.assertStrContains(tostring(compiled), "replays", false, ("net %d, %s.%s"):format(i, path, key))
          compiled = nb.compile(f)
          for _ = 1, 4 do compiled(x) end
        end
      end
    end
    if x.dtype == "f32" then
      net:to("f64")
      local ok, want = pcall(f, x)
      local same, have = pcall(compiled, x)
      lu.assertEquals(same, ok, "net " .. i)
      if ok then lu.assertEquals(have.dtype, want.dtype) end
    end
  end
  lu.assertTrue(count > 90, count)
end

function T.test_modes_keep_a_plan_each()
  local net = nn.Sequential { nn.Linear(3, 3), nn.Dropout(0.5) }
  local f = nb.compile(function(x) return nb.no_grad(net, x) end)
  for epoch = 1, 12 do
    net:train(epoch % 2 == 0)
    for _ = 1, 5 do f(nb.ones(3)) end
  end
  lu.assertStrContains(tostring(f), "55 replays")
end

-- ---- what a replay would leave out ----

-- Functions of Lua's libraries that only look or compute.
local looking = { io = { type = true }, os = { difftime = true },
  debug = { debug = true, traceback = true, getinfo = true, gethook = true, getmetatable = true } }

-- Called through another name, wrongly, within pcall: it is the call that counts.
function T.test_no_doing_of_lua_is_replayed()
  local functions = { print = print, warn = warn, dofile = dofile, loadfile = loadfile,
    ["math.random"] = math.random, ["math.randomseed"] = math.randomseed, ["nb.sleep"] = nb.sleep,
    ["nb.memory"] = nb.memory, ["nb.threads"] = nb.threads }
  for library, harmless in pairs(looking) do
    for name, f in pairs(package.loaded[library]) do
      if type(f) == "function" and not harmless[name] then functions[library .. "." .. name] = f end
    end
  end
  for name, f in pairs(debug.getmetatable(io.stdout).__index) do
    if type(f) == "function" then functions["file:" .. name] = f end
  end
  local count = 0
  for name, alias in pairs(functions) do
    local argument = name == "print" and "" or setmetatable({}, { __name = "bad" })
    local ways = {
      function(x) pcall(alias, argument) return x + 1 end,
      function(x)
        local co = coroutine.wrap(function() coroutine.yield() pcall(alias, argument) end)
        co() co()
        return x + 1
      end,
    }
    for _, f in ipairs(ways) do
      local compiled = nb.compile(f)
      local said = silently(function() for _ = 1, 3 do compiled(nb.ones(2)) end end)
      lu.assertStrContains(said, "goes on as it is", false, name)
      lu.assertStrContains(tostring(compiled), "runs as it is", false, name)
      count = count + 1
    end
  end
  math.randomseed(1)
  lu.assertTrue(count > 90, count)
  for _, line in ipairs { "print", "io.stderr:write", "os.date", "os.getenv" } do
    local f = load("local f = ... return function(x) " .. (line == "io.stderr:write" and "io.stdout:write('')" or
      "local g = " .. line .. " g('')") .. " return x + 1 end")()
    local compiled = nb.compile(f)
    lu.assertStrContains(silently(function() for _ = 1, 3 do compiled(nb.ones(2)) end end), "goes on as it is")
  end
end

function T.test_results_may_lie_in_arguments()
  local functions = {
    function(x) return x end, function(x) return x:view(4), x + 1 end, function(x) return x:detach()[2] end,
    function(x) return x:transpose(1, 2), x end,
  }
  for i, f in ipairs(functions) do
    local compiled = nb.compile(f)
    for k = 1, 6 do
      local x = nb.tensor { { 1, 2 }, { 3, k } }
      lu.assertEquals(values(compiled(x)), values(f(x)), ("function %d, call %d"):format(i, k))
    end
    lu.assertStrContains(tostring(compiled), "3 replays")
  end
end

function T.test_what_only_looks_is_replayed()
  local x = nb.ones(4, 2)
  local function f(a)
    local m = require "string"
    collectgarbage("step")
    local co = coroutine.wrap(function() coroutine.yield(2) end)
    local parts = { m.format("%d", a:size(1)), tostring(a:dim()), table.concat({ 1, 2 }) }
    table.sort(parts)
    return a:sum() / a:numel() * a:dim() * #a.shape * co() * #parts * math.floor(2.5) * utf8.len("aé")
  end
  local compiled = nb.compile(f)
  for _ = 1, 5 do lu.assertEquals(compiled(x):item(), f(x):item()) end
  lu.assertStrContains(tostring(compiled), "2 replays")
end

function T.test_coroutines_from_outside_are_refused()
  local made = coroutine.create(function() while true do coroutine.yield(1) end end)
  local wrapped = coroutine.wrap(function() while true do coroutine.yield(1) end end)
  assert_refused({ "made outside" }, function(x) coroutine.resume(made) return x + 1 end, nb.ones(2))
  assert_refused({ "made outside" }, function(x) return x + wrapped() end, nb.ones(2))
end

function T.test_writes_to_what_was_there_are_refused()
  local losses, n, o = {}, 0, { inner = { n = 0 } }
  local net = nn.Linear(2, 2)
  local _ <close> = without_globals()
  _G.nablua_test_k = 0
  local ways = {
    ["losses%["] = function(x) losses[#losses + 1] = x:sum() return x + 1 end,
    ["to n,"] = function(x) n = n + 1 return x + 1 end,
    ["o%.inner%.n"] = function(x) o.inner.n = o.inner.n + 1 return x + 1 end,
    ["nablua_test_k"] = function(x) nablua_test_k = nablua_test_k + 1 return x + 1 end,  -- luacheck: ignore 111 112 113
    ["net%.h"] = function(x) net.h = x:sum() return nb.no_grad(net, x) end,
  }
  for words, f in pairs(ways) do
    local compiled, calls = nb.compile(f), 0
    local said = silently(function()
      for _ = 1, 8 do compiled(nb.ones(2)) calls = calls + 1 end
    end)
    lu.assertTrue(said:match(words) ~= nil, words .. ": " .. said)
    lu.assertStrContains(said, "copy_")
  end
  lu.assertEquals({ #losses, n, o.inner.n, _G.nablua_test_k }, { 8, 8, 8, 8 })
end

function T.test_what_cannot_be_watched_is_refused()
  local big = {}
  for i = 1, 5000 do big[i] = i end
  assert_refused({ "big has too many fields" }, function(x) return x * big[1] end, nb.ones(2))
  assert_refused({ "gradients switched" }, function(x) nb.set_grad_enabled(not nb.grad_enabled()) return x + 1 end,
    nb.ones(2))
  nb.set_grad_enabled(true)
  local k = 0
  local compiled = nb.compile(function(x) return x * k end)
  local said = silently(function() for i = 1, 60 do k = i lu.assertEquals(compiled(nb.ones(1)):item(), i) end end)
  lu.assertStrContains(said, "k changes from call to call")
end

-- ---- bounds ----

function T.test_plans_are_bounded()
  local f = nb.compile(function(x) return (x * 2 + 1):tanh():sum() end)
  local function run(from, to)
    for n = from, to do
      local x = nb.ones(n * 10)
      for _ = 1, 4 do f(x) end
    end
    collectgarbage()
    collectgarbage()
    return nb.memory().live
  end
  run(1, 200)
  local before = run(901, 1000)
  lu.assertTrue(run(1, 1000) <= before * 1.1, "1,000 shapes")
  local _, entries = tostring(f):gsub("\n%(", "")
  lu.assertTrue(entries <= 64, entries)
  local long = nb.compile(function(x) local y = x for _ = 1, 5 do y = y:matmul(x):tanh() end return y end)
  local most = 0
  for n = 1, 600 do
    local x = nb.ones(n % 100 + 1, n % 100 + 1)
    for _ = 1, 3 do long(x) end
    if n == 200 then most = nb.memory().live end
  end
  collectgarbage()
  lu.assertTrue(nb.memory().live <= most * 1.3 + 1e6)
end

function T.test_plans_give_way_before_memory_ends()
  local limit = nb.memory().limit
  local _ <close> = setmetatable({}, { __close = function() nb.memory { limit = limit } end })
  collectgarbage()
  collectgarbage()
  local base = nb.memory().live
  nb.memory { limit = base + 40e6 }
  local f = nb.compile(function(x) return (x:matmul(x) + x):matmul(x):sum() end)
  for n = 300, 330 do
    local x = nb.ones(n, n)
    for _ = 1, 4 do f(x) end
  end
  collectgarbage()
  collectgarbage()
  lu.assertTrue(nb.memory().live - base <= nb.memory().limit / 4 + 3e6, nb.memory().live - base)
  local all = nb.zeros(8000000)  -- 32 MB: no room for plans
  lu.assertEquals(all:numel(), 8000000)
  all = nil  -- luacheck: ignore 311
  collectgarbage()
  lu.assertEquals(f(nb.ones(300, 300)):item(), f(nb.ones(300, 300)):item())
end

function T.test_memory_of_recordings_is_that_of_training()
  local function peaks(wrap)
    nb.seed(1)
    local layers = { nn.Embedding(500, 64) }
    for i = 2, 4 do layers[i] = nn.TransformerEncoderLayer(64, 4, { dim_feedforward = 256 }) end
    layers[5] = nn.Linear(64, 500)
    local net = nn.Sequential(layers)
    local opt = optim.SGD(net:parameters(), { lr = 0.01 })
    local x, y = nb.randint(1, 500, 8, 64), nb.randint(1, 500, 8 * 64)
    local f = wrap(function(a, b)
      opt:zero_grad()
      local J = nn.cross_entropy(net(a):view(8 * 64, 500), b)
      J:backward()
      opt:step()
      return J
    end)
    collectgarbage()
    collectgarbage()
    local base = nb.memory().live
    nb.memory { reset_peak = true }
    for _ = 1, 6 do f(x, y) end
    return nb.memory().peak - base
  end
  local eager = peaks(function(f) return f end)
  local compiled = peaks(nb.compile)
  lu.assertTrue(compiled <= 1.1 * eager, ("%.3g MB against %.3g"):format(compiled / 1e6, eager / 1e6))
end

-- What passes through a replay may lie where the gradients of the one before lay: a step that fails leaves none, as
-- one that has cleared them does; and whoever passes such a gradient as an argument gets what the function gives.
function T.test_gradients_lend_their_memory_between_steps()
  local function run(wrap)
    nb.seed(5)
    local net = nn.Sequential { nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 200) }
    local opt = optim.SGD(net:parameters(), { lr = 0.01, momentum = 0.9 })
    local f = wrap(function(x, y)
      opt:step()  -- with the gradients of the call before
      opt:zero_grad()
      local J = nn.cross_entropy(net(x), y)
      J:backward()
      return J
    end)
    local out = {}
    local x, y = nb.rand(200, 200), nb.randint(1, 200, 200)
    for i = 1, 7 do
      out[i] = f(x, y):item()
      if i == 5 then x = net:parameters()[1].grad end
      if i == 6 then x = nb.rand(200, 200) end
    end
    y[7] = 1000
    lu.assertFalse(pcall(f, x, y))
    for _, p in ipairs(net:parameters()) do lu.assertNil(p.grad) end
    y[7] = 1
    for i = 8, 12 do out[i] = f(x, y):item() end
    return nb.tensor(out), f
  end
  local want = run(function(f) return f end)
  local have, f = run(nb.compile)
  numeric.assert_close(have, want, 1e-5)
  lu.assertNotStrContains(tostring(f), " 0 replays")
end

-- An optimizer moves what has a gradient now, whatever had one when it was recorded.
function T.test_gradients_from_before_come_and_go()
  local function run(wrap)
    local a, b = nb.ones(3, { requires_grad = true }), nb.ones(3, { requires_grad = true })
    local opt = optim.SGD({ a, b }, { lr = 0.1 })
    local only = wrap(function() opt:step() opt:zero_grad() end)
    local both = wrap(function(x)
      a.grad = nil
      (a * x):sum():backward()
      opt:step()
    end)
    local x = nb.tensor { 1, 2, 3 }
    for i = 1, 14 do
      if i ~= 8 and i ~= 9 then a.grad = x:clone() end
      if i > 9 then b.grad = x * 2 end
      only()
    end
    for i = 1, 14 do
      if i == 8 or i == 9 then b.grad = x * 3 elseif i > 9 then b.grad = nil end
      both(x * i)
    end
    return nb.cat { a:detach(), b:detach() }
  end
  local want = run(function(f) return f end)
  silently(function() numeric.assert_close(run(nb.compile), want, 1e-6) end)
end

function T.test_a_dropped_stepper_ends_nothing()
  local f = nb.compile(function(x) return (x * 2):sum() end)
  local x = nb.ones(3)
  for _ = 1, 4 do f(x) end
  local w = nb.ones(3, { requires_grad = true })
  local co = coroutine.create(function()
    nb.inspect.step(function()
      local J = (w * x):sum()
      coroutine.yield()
      return J
    end)
  end)
  coroutine.resume(co)
  local before = tostring(f):match("%d+ replays")
  f(x)
  lu.assertNotEquals(tostring(f):match("%d+ replays"), before)
  co = nil  -- luacheck: ignore 311
  collectgarbage()
  collectgarbage()
  lu.assertFalse(require("nablua.native").observed())
  local g = nb.compile(function(a) return a * 3 end)
  for _ = 1, 4 do g(x) end
  lu.assertStrContains(tostring(g), "1 replays")
end

-- A compiled function that reaches itself, its net and its plans is collected with them.
function T.test_compiled_functions_that_hold_themselves_are_collected()
  collectgarbage()
  collectgarbage()
  local before = nb.memory().live
  for _ = 1, 20 do
    local o = { w = nb.ones(1000, 100, { requires_grad = true }) }
    function o.helper() return o end
    o.f = nb.compile(function(x) return (o.helper().w:detach() * x):sum() end)
    for _ = 1, 5 do o.f(nb.ones(1)) end
  end
  collectgarbage()
  collectgarbage()
  collectgarbage()
  lu.assertTrue(nb.memory().live - before < 500000, nb.memory().live - before)
end

return T
