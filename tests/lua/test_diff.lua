-- SPDX-License-Identifier: MIT
-- inspect.diff finds the first operator where two programs part: planted differences, activations that PyTorch wrote.
local nb = require "nablua"
local lu = require "luaunit"
local compiling = require "compiling"
local running = require "running"
local scratch = require "scratch"
local nn, inspect = nb.nn, nb.inspect

local T = {}

local function net_of(given)
  local o = { act = nn.Tanh, seed = 4, p = 0.3, eps = 1e-5 }
  for k, v in pairs(given or {}) do o[k] = v end
  nb.seed(o.seed)
  local net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8, { eps = o.eps }), o.act(), nn.Dropout(o.p),
    nn.Linear(8, 2, { bias = o.bias ~= false }))
  if o.dtype then net:to(o.dtype) end
  if o.change then nb.no_grad(o.change, net) end
  return net
end

local x = (function()
  nb.seed(1)
  return nb.randn(3, 4)
end)()

-- Each: its name, two programs, what both are called with, and what is expected of the difference.
local cases = {
  { "nothing", net_of(), net_of(), x, { same = true } },
  { "an activation", net_of(), net_of { act = nn.Sigmoid }, x, { kind = "operator", op = "tanh", layer = "3" } },
  { "a weight", net_of(), net_of { change = function(n) n[1].weight[2][3] = 0.5 end }, x,
    { kind = "value", op = "linear", layer = "1", weights = { "1.weight" } } },
  { "a bias of the last layer", net_of(), net_of { change = function(n) n[5].bias:add_(0.25) end }, x,
    { kind = "value", op = "linear", layer = "5", weights = { "5.bias" }, far = 0.25 } },
  { "a weight that is never felt", net_of(), net_of { change = function(n) n[1].weight:add_(1) end },
    nb.zeros(3, 4), { kind = "weight", op = "1.weight" } },
  { "an option", net_of(), net_of { eps = 1e-2 }, x, { kind = "value", op = "add", layer = "2" } },
  { "a dtype", net_of(), net_of { dtype = "f64" }, { x }, { kind = "dtype", op = "linear", layer = "1" } },
  { "the share that is dropped", net_of(), net_of { p = 0.5 }, x, { kind = "value", layer = "4" } },
  { "the mode", net_of(), net_of { change = function(n) n:eval() end }, x, { kind = "operator", layer = "4" } },
  { "no bias", net_of(), net_of { bias = false }, x, { kind = "value", layer = "5" } },
  { "a dtype within", function(v) return (v * 2):to("f64"):exp() end, function(v) return (v * 2):exp() end, x,
    { kind = "operator", op = "to" } },
  { "a dtype of the same operator", function(v) return nb.ones(2, { dtype = "f64" }) * v[1][1]:item() end,
    function(v) return nb.ones(2) * v[1][1]:item() end, x, { kind = "dtype" } },
  { "a shape", function(v) return (v * 2):sum(1) end, function(v) return (v * 2):sum(2) end, x,
    { kind = "shape", op = "sum" } },
  { "an order", function(v) return (v + 1):exp():sin() end, function(v) return (v + 1):sin():exp() end, x,
    { kind = "operator", op = "exp" } },
  { "an operator more", function(v) return v:exp() end, function(v) return v:exp():abs() end, x,
    { kind = "operator", op = "the result" } },
  { "a constant", function(v) return v:mul(2):exp() end, function(v) return v:mul(2.5):exp() end, x,
    { kind = "value", op = "mul" } },
  { "a seed", function(v) return v + nb.rand(3, 4) end, function(v)
    nb.seed(99)
    return v + nb.rand(3, 4)
  end, x, { kind = "value", op = "rand" } },
  { "a number drawn before", function(v) return nb.rand(3, 4):sub(0.5) * v end, function(v)
    nb.rand(1)
    return nb.rand(3, 4):sub(0.5) * v
  end, x, { kind = "shape", op = "rand" } },
  { "NaN", function(v) return (v * 0):sqrt():exp() end, function(v) return (v * 0 - 1):sqrt():exp() end, x,
    { kind = "operator", op = "sqrt" } },
  { "a change in place", function(v) return v:mul_(2):exp() end, function(v) return v:mul_(3):exp() end, x,
    { kind = "value", op = "mul" } },
  { "a hook in backward", function(v)
    local w = nb.ones(4, { requires_grad = true })
    local y = (v * w):tanh()
    y:sum():backward()
  end, function(v)
    local w = nb.ones(4, { requires_grad = true })
    local y = v * w
    y:register_hook(function(g) return g * 2 end)
    y:tanh():sum():backward()
  end, x, { kind = "value", op = "mul", phase = "backward" } },
  { "a gradient that is cut", function(v)
    local w = nb.ones(4, { requires_grad = true })
    ;(v * w):tanh():sum():backward()
  end, function(v)
    local w = nb.ones(4, { requires_grad = true })
    ;(v * w):tanh():sum():mul(0.5):backward()
  end, x, { kind = "operator" } },
}

function T.test_planted_differences()
  lu.assertTrue(#cases >= 20)
  local random = nb.random_state()
  for _, case in ipairs(cases) do
    local name, a, b, input, expected = table.unpack(case)
    local kept = nb.is_tensor(input) and input:clone()
    local ok, d = pcall(inspect.diff, a, b, { input = input })
    lu.assertTrue(ok, name .. ": " .. tostring(d))
    lu.assertEquals(d.same, expected.same or false, name .. ": " .. tostring(d))
    for field, value in pairs(expected) do
      if field == "far" then
        lu.assertAlmostEquals(d.far, value, 1e-6)
      else
        lu.assertEquals(d[field], value, name .. ", " .. field .. ": " .. tostring(d))
      end
    end
    if not d.same then lu.assertStrContains(tostring(d), "they part at " .. d.op) end
    if kept then lu.assertTrue(running.same_bits(kept, input), name) end
  end
  lu.assertEquals(nb.random_state(), random)
end

function T.test_a_site_and_a_tolerance()
  local function a(v) return (v * 2):exp() end
  local function b(v) return (v * (2 + 1e-6)):exp() end
  local d = inspect.diff(a, b, { input = x })
  lu.assertStrContains(d.site, "test_diff.lua:")
  lu.assertStrContains(tostring(d), "values differ, by")
  lu.assertTrue(inspect.diff(a, b, { input = x, tol = 1e-3 }).same)
end

function T.test_eager_against_compiled()
  local function f(v) return (v * 2):tanh():sum() end
  local wrong = nb.compile(function(v) return (v * 2.001):tanh():sum() end)
  lu.assertTrue(inspect.diff(f, nb.compile(f), { input = x, tol = 1e-6 }).same)
  local d = inspect.diff(f, wrong, { input = x, tol = 1e-6 })
  lu.assertEquals({ d.kind, d.op }, { "value", "the result" })
  local said = compiling.silently(function() return inspect.diff(f, nb.compile(function(v)
    os.clock()
    return f(v)
  end), { input = x }) end)
  lu.assertStrContains(said, "clock")
end

-- ---- activations ----

-- What torch 2 gave for nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)) with these weights.
local function of_pytorch()
  local net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
  net:load_state({ ["0.weight"] = nb.tensor { { 0.5, -1 }, { 2, 0.25 }, { -0.75, 1.5 } },
    ["0.bias"] = nb.tensor { 0.1, -0.2, 0.3 }, ["2.weight"] = nb.tensor { { 1, -2, 0.5 } },
    ["2.bias"] = nb.tensor { 0.25 } }, { from = "pytorch" })
  return net, nb.tensor { { 1, 2 }, { -0.5, 0.75 } }, {
    ["0"] = nb.tensor { { -1.399999976, 2.299999952, 2.549999952 }, { -0.899999976, -1.012500048, 1.799999952 } },
    ["1"] = nb.tensor { { -0.885351658, 0.980096400, 0.987880409 }, { -0.716297865, -0.766794086, 0.946806014 } },
    ["2"] = nb.tensor { { -2.101604223 }, { 1.540693283 } },
  }
end

function T.test_against_activations_that_pytorch_wrote()
  local files = scratch.new()
  local net, input, acts = of_pytorch()
  for _, name in ipairs { "a.safetensors", "a.npz" } do
    nb.save(files:path(name), acts)
    lu.assertTrue(inspect.diff(net, files:path(name), { input = input, from = "pytorch" }).same)
  end
  nb.no_grad(function() net[3].weight:mul_(1.01) end)
  local d = inspect.diff(net, acts, { input = input, from = "pytorch" })
  lu.assertEquals({ d.layer, d.op, d.kind }, { "3", "Linear", "value" })
  nb.no_grad(function() net[1].bias:add_(1) end)
  d = inspect.diff(acts, net, { input = input, from = "pytorch" })
  lu.assertEquals({ d.layer, d.kind }, { "1", "value" })
  lu.assertAlmostEquals(d.far, 1, 1e-5)
  lu.assertErrorMsgContains("no name in the file is that of a layer", inspect.diff, net, { w = input },
    { input = input })
  files:remove()
end

function T.test_files()
  local files = scratch.new()
  local _, _, acts = of_pytorch()
  nb.save(files:path "a.safetensors", acts)
  acts["1"] = acts["1"] + nb.tensor { { 0, 0, 0 }, { 0, 0.5, 0 } }
  acts["10"] = nb.ones(1)
  nb.save(files:path "b.npz", acts)
  local d = inspect.diff(files:path "a.safetensors", files:path "b.npz")
  lu.assertEquals({ d.op, d.kind }, { "10", "missing" })
  acts["10"] = nil
  d = inspect.diff(files:path "a.safetensors", acts)
  lu.assertEquals({ d.op, d.kind, d.far }, { "1", "value", 0.5 })
  lu.assertStrContains(tostring(d), "1 of 6 values differ, by 0.5")
  acts["0"] = acts["0"]:to("f64")
  lu.assertEquals(inspect.diff(files:path "a.safetensors", acts).kind, "dtype")
  files:remove()
end

-- ---- runs ----

function T.test_runs()
  local run = running.make("dense", "SGD", "none", { name = "a" })
  run:next(5)
  local same, hot = run:fork(), run:fork { opt = { lr = 0.5 } }
  run:go() same:go() hot:go()
  lu.assertTrue(inspect.diff(run, same).same)
  local d = inspect.diff(run, hot)
  lu.assertEquals({ d.step, d.kind, d.event }, { 6, "update", "rate" })
  lu.assertEquals({ run.step, hot.step }, { 24, 24 })
  -- other weights from the start: the first layer's operator, with its weights
  local other = running.make("dense", "SGD", "none", { seed = 8 })
  other:go()
  d = inspect.diff(run, other)
  lu.assertEquals({ d.step, d.kind, d.layer }, { 1, "value", "1" })  -- another order of the samples
  -- a weight that was changed by hand in one of them
  local changed = running.make("dense", "SGD", "none")
  changed:next(9)
  nb.no_grad(function() changed.net[3].bias:add_(1) end)
  changed:go()
  d = inspect.diff(run, changed)
  lu.assertEquals({ d.step, d.layer, d.op, d.kind }, { 10, "3", "linear", "value" })
  lu.assertAlmostEquals(d.far, 1, 1e-5)
  lu.assertStrContains(tostring(d), "step 10, they part at linear (layer 3)")
  lu.assertStrContains(tostring(nb.compare { run, hot }), "the rate first, at step 6")
end

-- A step that reads a clock: which operator has it.
function T.test_a_run_with_itself()
  local calls = 0
  nb.seed(2)
  local net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
  local x4, y = nb.randn(20, 4), nb.randn(20, 1)
  local clock = false
  local run = nb.run { net = net, opt = nb.optim.SGD(net:parameters(), { lr = 0.1 }), data = { x4, y }, size = 5,
    epochs = 2, seed = 1, step = function(bx, by)
      calls = calls + 1
      local out = net(bx)
      return nn.mse(clock and out * calls or out, by)
    end }
  run:next(5):to(3)
  lu.assertTrue(inspect.diff(run, run).same)
  clock = true
  local d = inspect.diff(run, run)
  lu.assertEquals({ d.op, d.step, d.kind, run.step }, { "mul", 4, "value", 3 })
  lu.assertErrorMsgContains("inspect.diff(run, run)", run.next, run)
  clock = false
  lu.assertEquals(run:to(5).step, 5)
end

function T.test_bad_input()
  local net, input, acts = of_pytorch()
  lu.assertErrorMsgContains("needs input=", inspect.diff, net, net)
  lu.assertErrorMsgContains("needs input=", inspect.diff, net, acts)
  lu.assertErrorMsgContains("cannot be compared", inspect.diff, net, running.make("dense", "SGD", "none"))
  lu.assertErrorMsgContains("needs two functions, nets, runs", inspect.diff, 3, 4)
  lu.assertErrorMsgContains("nowhere.npz", inspect.diff, "nowhere.npz", acts)
  lu.assertErrorMsgContains("tol", inspect.diff, net, net, { input = input, tol = -1 })
  lu.assertErrorMsgContains("broken", inspect.diff, function() error "broken" end, net, { input = input })
end

return T
