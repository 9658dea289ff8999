-- SPDX-License-Identifier: MIT
-- inspect.diagnose: names the illness, the place and a remedy that heals; says nothing of healthy nets.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn, optim, inspect = nb.nn, nb.optim, nb.inspect

local T = {}

local function mlp(sizes, activation, last)
  local net = nn.Sequential()
  for i = 1, #sizes - 1 do
    net[#net + 1] = nn.Linear(sizes[i], sizes[i + 1])
    if i < #sizes - 1 then net[#net + 1] = activation() end
  end
  if last then net[#net + 1] = last end
  return net
end

local function data(n, inputs, classes)
  local x = nb.randn(n, inputs)
  return x, classes and nb.randint(1, classes, n) or x:sum(2, { keepdim = true }):tanh()
end

local function examine(p)
  if p.batches then return inspect.diagnose(p.net, p.batches, p.loss, { opt = p.opt }) end
  return inspect.diagnose(p.net, p.x, p.y, p.loss, { opt = p.opt })
end

local Extra = nn.module("Extra", function(self)
  self.used, self.extra = nn.Linear(3, 1), nn.Linear(3, 1)
end)
function Extra:forward(x) return self.used(x) end

-- Each: the patient { net=, x=, y=, loss=, opt= }, the illness, its place.
local SICK = {
  { "vanishing gradients", "1", function()
    local x, y = data(32, 4)
    return { net = mlp({ 4, 16, 16, 16, 16, 16, 16, 1 }, nn.Sigmoid), x = x, y = y, loss = nn.MSELoss() }
  end },
  { "exploding values", "1", function()
    local x, y = data(32, 4)
    local net = mlp({ 4, 16, 16, 1 }, nn.ReLU)
    nb.no_grad(function() net[1].weight:mul_(100) end)
    return { net = net, x = x, y = y, loss = nn.MSELoss() }
  end },
  { "dead ReLUs", "2", function()
    local x, y = data(32, 4)
    local net = mlp({ 4, 16, 1 }, nn.ReLU)
    nb.no_grad(function() net[1].bias:fill_(-10) end)
    return { net = net, x = x, y = y, loss = nn.MSELoss() }
  end },
  { "saturated units", "2", function()
    local x, y = data(32, 4)
    local net = mlp({ 4, 16, 1 }, nn.Tanh)
    nb.no_grad(function() net[1].weight:mul_(8) end)
    return { net = net, x = x * 5, y = y, loss = nn.MSELoss() }
  end },
  { "learning rate too large", "opt", function()
    local x, y = data(32, 4)
    local net = mlp({ 4, 16, 1 }, nn.Tanh)
    return { net = net, x = x, y = y, loss = nn.MSELoss(), opt = optim.SGD(net:parameters(), { lr = 30 }) }
  end },
  { "unscaled inputs", "x", function()
    local x, y = data(32, 4)
    return { net = mlp({ 4, 16, 1 }, nn.Softplus), x = x * 300 + 1000, y = y, loss = nn.MSELoss() }
  end },
  { "constant labels", "y", function()
    local x, y = nb.data.blobs(96, { classes = 3 })  -- in order of class
    return { net = mlp({ 2, 16, 3 }, nn.ReLU), batches = nb.data.batches { x, y, size = 32 },
      loss = nn.CrossEntropyLoss() }
  end },
  { "unused parameter", "extra.weight", function()
    local x, y = data(32, 3)
    return { net = Extra(), x = x, y = y, loss = nn.MSELoss() }
  end },
  { "loss/activation mismatch", "4", function()
    local x, y = data(32, 4, 3)
    return { net = mlp({ 4, 16, 3 }, nn.ReLU, nn.Softmax()), x = x, y = y, loss = nn.CrossEntropyLoss() }
  end },
  { "NaN", "x", function()
    local x, y = data(32, 4)
    x[3][2] = 0 / 0
    return { net = mlp({ 4, 16, 1 }, nn.ReLU), x = x, y = y, loss = nn.MSELoss() }
  end },
  { "frozen layer", "1", function()
    local x, y = data(32, 4)
    local net = mlp({ 4, 16, 1 }, nn.ReLU)
    net[1].weight.requires_grad = false
    return { net = net, x = x, y = y, loss = nn.MSELoss() }
  end },
  { "symmetric weights", "1", function()
    local x, y = data(32, 4)
    local net = mlp({ 4, 16, 1 }, nn.Tanh)
    nn.init.constant(net[1].weight, 0)
    return { net = net, x = x, y = y, loss = nn.MSELoss() }
  end },
}

function T.test_sick_nets_are_named_and_healed()
  lu.assertEquals(#SICK, 12)
  for k, case in ipairs(SICK) do
    nb.seed(40 + k)
    local p = case[3]()
    local lr = p.opt and p.opt.lr
    local d = examine(p)
    lu.assertEquals(p.opt and p.opt.lr, lr)  -- whatever rates it tried
    if case[1] == "learning rate too large" then
      lu.assertStrContains(tostring(d), "with lr = 30 ")
      -- Smaller ones are tried from where it was, so that it need not be the smallest of all.
      local remedy = tonumber(d[1].remedy:match("^opt%.lr = (%S+)$"))
      lu.assertTrue(remedy >= 0.003 and remedy <= 3, d[1].remedy)
    end
    lu.assertTrue(#d >= 1, case[1] .. " was not found")
    lu.assertEquals({ d[1].illness, d[1].layer }, { case[1], case[2] }, tostring(d))
    lu.assertTrue(#d[1].evidence > 20 and #tostring(d) > 40)
    -- The remedy is a line of Lua, and after it the illness is gone.
    p.nn, p.optim, p.nb, p.print = nn, optim, nb, function() end
    local remedy = assert(load(d[1].remedy, "remedy", "t", setmetatable(p, { __index = _G })))
    nb.no_grad(remedy)
    local after = examine(p)
    for _, f in ipairs(after) do
      lu.assertFalse(f.illness == case[1] and f.layer == case[2], case[1] .. "\n" .. d[1].remedy .. "\n" ..
        tostring(after))
    end
  end
end

function T.test_batches_of_a_sorted_set_teach_nothing_until_they_are_shuffled()
  nb.seed(5)
  local x, y = nb.data.blobs(96, { classes = 6 })
  local batches, loss = nb.data.batches { x, y, size = 16 }, nn.CrossEntropyLoss()
  local function accuracy()
    nb.seed(6)
    local net = mlp({ 2, 16, 6 }, nn.ReLU)
    local opt = optim.SGD(net:parameters(), { lr = 1 })
    for _ = 1, 3 do
      for bx, by in batches do
        opt:zero_grad()
        loss(net(bx), by):backward()
        opt:step()
      end
    end
    return nb.no_grad(function() return net(x):argmax(2):eq(y):to("f32"):mean():item() end), net
  end
  local before, net = accuracy()
  local d = inspect.diagnose(net, batches, loss)
  lu.assertEquals({ d[1].illness, d[1].remedy }, { "constant labels", "batches.shuffle = true" })
  lu.assertStrContains(d[1].evidence, "sorted")
  assert(load(d[1].remedy, "remedy", "t", { batches = batches }))()
  local after = accuracy()
  lu.assertTrue(after > before + 0.1, ("%g, then %g"):format(before, after))
  -- Remedies of the data name the batches' own.
  batches.tensors[1] = x * 300 + 1000
  d = inspect.diagnose(net, batches, loss)
  lu.assertEquals(d[1].illness, "unscaled inputs")
  assert(load(d[1].remedy, "remedy", "t", { batches = batches }))()
  lu.assertTrue(math.abs(batches.tensors[1]:mean():item()) < 1e-2)
  -- All labels alike: nothing is promised.
  d = inspect.diagnose(net, x, nb.ones(96), loss)
  lu.assertStrContains(d[1].remedy, "no change of the net helps")
  numeric.assert_error({ "hold x and y" }, inspect.diagnose, net, nb.data.batches { x }, loss)
end

function T.test_other_mismatches()
  nb.seed(1)
  local x, y = data(32, 4)
  local function first(net, target, loss)
    local d = inspect.diagnose(net, x, target, loss)
    return d[1] and { d[1].illness, d[1].remedy }
  end
  lu.assertEquals(first(mlp({ 4, 8, 1 }, nn.ReLU), y:gt(0):to("f32"), nn.BCELoss()),
    { "loss/activation mismatch", "loss = nn.BCEWithLogitsLoss()" })
  lu.assertEquals(first(mlp({ 4, 8, 1 }, nn.ReLU, nn.Sigmoid()), y:gt(0):to("f32"), nn.BCEWithLogitsLoss()),
    { "loss/activation mismatch", "net[4] = nn.Identity()" })
  lu.assertEquals(first(mlp({ 4, 8, 1 }, nn.ReLU, nn.Sigmoid()), y * 5, nn.MSELoss()),
    { "loss/activation mismatch", "net[4] = nn.Identity()" })
  lu.assertEquals(first(mlp({ 4, 8, 3 }, nn.ReLU), nb.randint(1, 3, 32), nn.NLLLoss()),
    { "loss/activation mismatch", "loss = nn.CrossEntropyLoss()" })
end

local function healthy()
  local x, y = data(48, 4)
  local _, labels = data(48, 4, 3)
  local binary = y:gt(0):to("f32")
  local images = nb.randn(16, 1, 8, 8)
  local function with(net, target, loss, lr, input)
    return { net = net, x = input or x, y = target, loss = loss,
      opt = optim.SGD(net:parameters(), { lr = lr or 0.05 }) }
  end
  local Block = nn.module("Residual", function(self) self.fc = nn.Linear(8, 8) end)
  function Block:forward(h) return h + self.fc(h):relu() end
  local adam = with(mlp({ 4, 16, 1 }, nn.Tanh), y, nn.MSELoss())
  adam.opt = optim.Adam(adam.net:parameters(), { lr = 1e-2 })
  return {
    with(mlp({ 4, 16, 1 }, nn.Tanh), y, nn.MSELoss()),
    with(mlp({ 4, 32, 32, 1 }, nn.ReLU), y, nn.MSELoss()),
    with(mlp({ 4, 16, 3 }, nn.ReLU), labels, nn.CrossEntropyLoss()),
    with(mlp({ 4, 8, 1 }, nn.Sigmoid), binary, nn.BCEWithLogitsLoss()),
    with(mlp({ 4, 8, 1 }, nn.Sigmoid, nn.Sigmoid()), binary, nn.BCELoss()),
    with(mlp({ 4, 16, 3 }, nn.GELU, nn.LogSoftmax()), labels, nn.NLLLoss()),
    with(nn.Sequential { nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1) }, y,
      nn.MSELoss()),
    with(nn.Sequential { nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3) },
      nb.randint(1, 3, 16), nn.CrossEntropyLoss(), 0.05, images),
    with(nn.Sequential { nn.Linear(4, 8), Block(), Block(), Block(), nn.Linear(8, 1) }, y, nn.MSELoss(), 0.02),
    with(mlp({ 4, 16, 16, 1 }, nn.LeakyReLU), y, nn.HuberLoss()),
    with(nn.Linear(4, 1), y, nn.MSELoss()),
    adam,
  }
end

function T.test_of_healthy_nets_it_says_nothing()
  for seed = 1, 3 do
    nb.seed(seed)
    local nets = healthy()
    lu.assertEquals(#nets, 12)
    for i, p in ipairs(nets) do
      local d = examine(p)
      lu.assertEquals(#d, 0, ("seed %d, net %d\n%s"):format(seed, i, tostring(d)))
      lu.assertStrContains(tostring(d), "no findings")
    end
  end
end

function T.test_an_examination_changes_nothing()
  nb.seed(9)
  local net = nn.Sequential { nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1) }
  net:eval()
  local opt = optim.Adam(net:parameters(), { lr = 0.01 })
  local x, y = data(16, 4)
  net[1].weight.grad = nb.ones(8, 4)
  local before = net:state()
  nb.seed(3)
  local random = nb.rand(1):item()
  nb.seed(3)
  inspect.diagnose(net, x, y, nn.MSELoss(), { opt = opt })
  lu.assertEquals(nb.rand(1):item(), random)
  for name, t in pairs(net:state()) do lu.assertEquals(t:totable(), before[name]:totable(), name) end
  lu.assertEquals(net[1].weight.grad:totable(), nb.ones(8, 4):totable())
  lu.assertNil(net[4].weight.grad)
  lu.assertFalse(net.training)
end

function T.test_bad_input()
  local x, y = nb.randn(4, 2), nb.randn(4, 1)
  numeric.assert_error({ "needs a net" }, inspect.diagnose, 3, x, y, nn.MSELoss())
  numeric.assert_error({ "no parameters" }, inspect.diagnose, nn.ReLU(), x, y, nn.MSELoss())
  numeric.assert_error({ "must be tensors" }, inspect.diagnose, nn.Linear(2, 1), x, 3, nn.MSELoss())
  numeric.assert_error({ "needs a loss" }, inspect.diagnose, nn.Linear(2, 1), x, y)
  numeric.assert_error({ "single number" }, inspect.diagnose, nn.Linear(2, 1), x, y, nn.MSELoss { reduction = "none" })
  numeric.assert_error({ "must be 2" }, inspect.diagnose, nn.Linear(2, 1), nb.randn(4, 3), y, nn.MSELoss())
  local nan = inspect.diagnose(nn.Linear(2, 1), x / 0 * 0, y / 0 * 0, nn.MSELoss())
  lu.assertEquals(nan[1].illness, "NaN")
end

-- Whatever it tries, with whatever rates.
function T.test_the_optimizer_is_as_it_was()
  for _, lr in ipairs { 1e-9, 0.1, 1e3 } do
    local x, y = data(16, 3)
    local net = mlp({ 3, 4, 1 }, nn.Tanh)
    local opt = optim.SGD(net:parameters(), { lr = lr, momentum = 0.5 })
    local before, weights = opt:state(), net:state()
    inspect.diagnose(net, x, y, nn.MSELoss(), { opt = opt })
    lu.assertEquals(opt.lr, lr)
    for name, value in pairs(opt:state()) do
      lu.assertEquals(nb.is_tensor(value) and numeric.flat(value) or value,
        nb.is_tensor(before[name]) and numeric.flat(before[name]) or before[name], name)
    end
    for name, value in pairs(net:state()) do lu.assertEquals(numeric.flat(value), numeric.flat(weights[name]), name) end
  end
end

return T
