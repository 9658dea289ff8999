-- SPDX-License-Identifier: MIT
-- Runs are honest: what makes a repeated step another is noticed at that step, or is part of the record.
local nb = require "nablua"
local lu = require "luaunit"
local native = require "nablua.native"
local compiling = require "compiling"
local running = require "running"
local nn, optim = nb.nn, nb.optim
local standing, differences, walk = running.standing, running.differences, running.walk

local T = {}

local WALKS = os.getenv "NABLUA_PROVE" == "1" and 200 or 20

-- A run of `change(J, k)`, k the number of the call from 1, in place of the plain loss.
local function crooked(change, given)
  nb.seed(7)
  local net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
  local x, y = running.samples(20, { 4 })
  local o = { net = net, opt = optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 }), data = { x, y }, size = 5,
    epochs = 5, seed = 1, step = function(bx, by) return change(nn.mse(net(bx), by), net, x) end }
  for name, value in pairs(given or {}) do o[name] = value end
  return nb.run(o), x
end

-- Between the first time and the second something changes that shows first in step k.
local function noticed(name, k, run, change, said)
  run:next(12)
  change(run)
  lu.assertErrorMsgContains(("step %d "):format(k), function() run:to(0):to(12) end)
  lu.assertEquals(run.step, k - 1, name)
  local ok, message = pcall(function() run:to(12) end)
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(message), said or "a clock, a file or a variable")
end

-- ---- what a step reads ----

function T.test_a_clock()
  local run = crooked(function(J) return J + 1e-3 * (native.clock() % 7) end)
  noticed("clock", 1, run, function() end)
end

function T.test_a_file()
  local path = os.tmpname()
  local function write(text)
    local f <close> = io.open(path, "w")
    f:write(text)
  end
  write "1"
  local run = crooked(function(J)
    local f <close> = io.open(path)
    return J * f:read "n"
  end)
  noticed("file", 1, run, function() write "2" end)
  os.remove(path)
end

function T.test_a_global_that_counts_from_the_fifth_step()
  _G.nablua_test_factor = 1
  local run
  run = crooked(function(J)
    return run.step >= 4 and J * nablua_test_factor or J  -- luacheck: ignore 113
  end)
  run:next(12)
  _G.nablua_test_factor = 2
  local ok, message = pcall(function() run:to(0):to(12) end)
  _G.nablua_test_factor = nil
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(message), "step 5 gave the loss")
  lu.assertEquals(run.step, 4)
end

function T.test_luas_random_numbers()
  noticed("math.random", 1, crooked(function(J) return J * math.random() end), function() end)
end

function T.test_an_upvalue_that_counts()
  local calls = 0
  noticed("upvalue", 1, crooked(function(J)
    calls = calls + 1
    return J * calls
  end), function() end)
end

-- The loss is computed before the weights are written, and says nothing.
function T.test_weights_written_in_a_step_by_what_is_not_recorded()
  local amount = 1
  local run = crooked(function(J, net)
    nb.no_grad(function() net[3].bias:add_(amount) end)
    return J
  end)
  noticed("mid-step", 1, run, function() amount = 0.5 end, "left other weights")
end

function T.test_a_hook_on_a_parameter()
  noticed("hook", 1, crooked(function(J) return J end), function(run)
    run.net[1].weight:register_hook(function(g) return g * 2 end)
  end, "left other weights")
end

function T.test_data_that_changed()
  local run, x = crooked(function(J) return J end, { shuffle = false })
  noticed("data", 3, run, function() nb.no_grad(function() x[{ { 11, 15 } }]:add_(1) end) end, "or the data was")
end

function T.test_a_parameter_that_does_not_require_grad_any_more()
  local run = crooked(function(J) return J end)
  run:next(12):to(4)
  run.net[1].bias.requires_grad = false
  lu.assertErrorMsgContains("after step 4", run.next, run)
  run.net[1].bias.requires_grad = true
  lu.assertEquals(run:to(12).step, 12)
end

-- ---- what is part of the record ----

function T.test_weights_written_in_every_step_are_repeated()
  local run = crooked(function(J, net)
    nb.no_grad(function() net[3].bias:mul_(0.99) end)
    return J
  end)
  walk("decay by hand", run, WALKS)
end

function T.test_a_hook_of_a_module_comes_and_goes_with_the_steps()
  local run = crooked(function(J) return J end)
  run:next(6)
  local before = standing(run)
  run.net[2]:register_forward_hook(function(_, _, out) return out * 0.5 end)
  run:next(6)
  local last = standing(run)
  run:to(0):to(6)
  lu.assertEquals(differences(before, standing(run)), "")
  run:to(12)
  lu.assertEquals(differences(last, standing(run)), "")
end

function T.test_frozen_at_the_end()
  local run = crooked(function(J) return J end)
  run:next(6)
  run.net[1].weight.requires_grad = false
  run:next(6)
  local last = standing(run)
  run:to(2)
  lu.assertTrue(run.net[1].weight.requires_grad)
  run:to(12)
  lu.assertFalse(run.net[1].weight.requires_grad)
  lu.assertEquals(differences(last, standing(run)), "")
end

function T.test_numbers_of_threads_are_those_of_the_step()
  local before, seen = nb.threads(), {}
  local run
  run = crooked(function(J)
    seen[run.step + 1] = nb.threads()
    return J
  end)
  nb.threads(1)
  run:next(4)
  nb.threads(2)
  run:next(4)
  local last = standing(run)
  nb.threads(1)
  run:to(1)
  for k in pairs(seen) do seen[k] = nil end
  run:to(8)
  lu.assertEquals({ seen[2], seen[4], seen[5], seen[8] }, { 1, 1, 2, 2 })
  lu.assertEquals(nb.threads(), 1)
  lu.assertEquals(differences(last, standing(run)), "")
  nb.threads(before)
end

function T.test_seeding_in_a_step_is_repeated()
  walk("seed", crooked(function(J)
    nb.seed(5)
    return J * nb.rand(1):sum()
  end), WALKS)
end

-- ---- compiled steps ----

local function compiled(make_net, name, given)
  nb.seed(7)
  local net = make_net()
  local opt = optim[name](net:parameters(), given)
  local x, y = running.samples(20, { 4 })
  local step = nb.compile(function(bx, by)
    opt:zero_grad()
    local J = nn.mse(net(bx), by)
    J:backward()
    opt:step()
    return J
  end)
  return nb.run { net = net, opt = opt, step = step, data = { x, y }, size = 5, epochs = 6, seed = 1 }, step
end

local function plain() return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)) end
local function noisy()
  return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 1))
end

local function replays(step)
  return tonumber(tostring(step):match "(%d+) replays")
end

function T.test_compiled_steps_are_repeated_as_they_went()
  local rules = { { "SGD", { lr = 0.05 } }, { "SGD", { lr = 0.05, momentum = 0.9 } }, { "Adam", { lr = 0.01 } },
    { "RMSprop", { lr = 0.01 } } }
  for _, rule in ipairs(rules) do
    for _, make in ipairs { plain, noisy } do
      local run, step = compiled(make, rule[1], rule[2])
      walk(rule[1], run, WALKS)
      lu.assertTrue(replays(step) > 30, rule[1])
    end
  end
end

-- The first steps, in which there was no plan yet, run as they are once more although there is one now.
function T.test_eager_steps_stay_eager()
  local run, step = compiled(plain, "Adam", { lr = 0.01 })
  run:go()
  local before = replays(step)
  run:to(0):to(3)
  lu.assertEquals(replays(step), before)
  run:to(10)
  lu.assertEquals(replays(step), before + 7)
end

-- A plan knows the moments' memory, which there was not before the first step.
function T.test_a_plan_outlives_going_back_before_the_moments()
  local run, step = compiled(plain, "Adam", { lr = 0.01 })
  run:go()
  local last = standing(run)
  local before = replays(step)
  for _ = 1, 3 do
    run:to(0):to(run.last)
    lu.assertEquals(differences(last, standing(run)), "")
  end
  lu.assertEquals(replays(step), before + 3 * (run.last - 3))
end

function T.test_a_compiled_loss_in_a_plain_step()
  nb.seed(7)
  local net = noisy()
  local penalty = nb.compile(function(x) return nb.no_grad(function() return (x * x).mean(x * x) end) end)
  local x, y = running.samples(20, { 4 })
  local run = nb.run { net = net, opt = optim.Adam(net:parameters()), data = { x, y }, size = 5, epochs = 6, seed = 1,
    step = function(bx, by) return nn.mse(net(bx), by) * (1 + penalty(bx):item()) end }
  walk("compiled inside", run, WALKS)
end

-- Where a plan had to go, the steps run as they are, and other bits would be said with that reason.
function T.test_a_plan_that_was_dropped()
  local run, step = compiled(plain, "Adam", { lr = 0.01 })
  run:next(23)
  local before = standing(run)
  run:next()
  compiling.silently(function()  -- 70 kinds of arguments, of which 64 have plans
    for n = 20, 90 do
      for _ = 1, 4 do step(nb.randn(n, 4), nb.randn(n, 1)) end
    end
  end)
  local count = replays(step)
  run:to(0)
  local ok, message = pcall(run.to, run, 23)
  if ok then
    lu.assertEquals(differences(before, standing(run)), "")
  else
    lu.assertStrContains(tostring(message), "replays of plans then, and compiled functions that ran as they are now")
  end
  lu.assertTrue(replays(step) < count + 20)
end

function T.test_a_fork_of_a_compiled_step_trains_its_own_net()
  local run = compiled(plain, "Adam", { lr = 0.01 })
  run:next(8)
  local before = standing(run)
  local twin = run:fork()
  twin:go()
  lu.assertEquals(differences(before, standing(run)), "")
  run:go()
  for k = 9, run.last do lu.assertAlmostEquals(twin.history.loss[k], run.history.loss[k], 1e-5) end
end

-- Where the run has gone back to before its moments, the fork has none of them.
function T.test_a_fork_of_the_beginning()
  local run, step = compiled(plain, "Adam", { lr = 0.01 })
  run:go()
  local last, count = standing(run), replays(step)
  run:to(0)
  local first = standing(run)
  local twin = run:fork()
  twin:next(5)
  lu.assertEquals(differences(first, standing(run)), "")
  run:to(run.last)
  lu.assertEquals(differences(last, standing(run)), "")
  lu.assertEquals(replays(step), count + run.last - 3)
end

function T.test_a_compiled_step_that_does_nothing_is_refused()
  nb.seed(7)
  local net = plain()
  local x, y = running.samples(20, { 4 })
  local run = nb.run { net = net, opt = optim.SGD(net:parameters()), data = { x, y }, seed = 1,
    step = nb.compile(function(bx, by) return nn.mse(net(bx), by) end) }
  lu.assertErrorMsgContains("it must do all of it", run.next, run)
  lu.assertEquals(run.step, 0)
  lu.assertErrorMsgContains("step must be a function", nb.run, { net = net, opt = optim.SGD(net:parameters()),
    data = { x, y }, step = 3 })
end

return T
