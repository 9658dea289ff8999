-- SPDX-License-Identifier: MIT
-- nn.fit is a run that was driven to its end: the same numbers as without one, and any of its steps again.
local nb = require "nablua"
local lu = require "luaunit"
local running = require "running"
local nn, optim, data = nb.nn, nb.optim, nb.data
local standing, differences = running.standing, running.differences

local T = {}

local threads
function T.setUp() threads = nb.threads() nb.threads(1) end
function T.tearDown() nb.threads(threads) end

-- ways(o, net, opt, x, y): what is changed of the options of a training, and what train is; the default is {x, y}.
local ways = {
  plain = function() end,
  valid_and_schedule = function(o, _, opt, x, y)
    o.valid, o.schedule, o.metrics = { x, y }, optim.ReduceLROnPlateau(opt, { patience = 0, factor = 0.5 }), { "r2" }
  end,
  schedule_per_batch = function(o, _, opt)
    o.schedule, o.schedule_per = optim.OneCycleLR(opt, { max_lr = 0.1, total_steps = 100 }), "batch"
  end,
  clipped = function(o) o.clip = 0.1 end,
  best = function(o) o.keep, o.patience = "best", 2 end,
  callback_that_draws_and_sets = function(o, net)
    o.callback = function(at)
      nb.rand(3)
      at.opt.lr = at.opt.lr * 0.7
      net[4].p = 0.1 * at.epoch
    end
  end,
  callback_that_writes_and_freezes = function(o, net)
    o.callback = function(at)
      if at.epoch == 2 then net[1].weight.requires_grad = false end
      if at.epoch == 3 then nb.no_grad(function() net[5].weight:mul_(0.5) end) end
    end
  end,
  batches = function(o, _, _, x, y)
    o.size = nil
    return data.batches { x, y, size = 5, shuffle = true, last = "drop" }
  end,
  stream_with_noise = function(_, _, _, x, y)
    local k = 0
    return function(_, previous)
      if previous == nil then k = 0 end
      k = k + 1
      if k > 4 then return nil end
      local part = { { 5 * k - 4, 5 * k } }
      return x[part] + 0.1 * nb.randn(5, 4), y[part]
    end
  end,
}

local function fit(name, rule, record)
  nb.seed(7)
  local net, loss = running.nets.dropout()
  local opt = running.optimizers[rule](net:parameters())
  local x, y = running.samples(22, { 4 })
  local o = { epochs = 4, size = 5, progress = false, record = record }
  nb.seed(3)
  local train = ways[name](o, net, opt, x, y) or { x, y }
  local history = nn.fit(net, loss, opt, train, o)
  return history, net, opt, nb.random_state()
end

local function state_of(net, opt)
  local all = {}
  for path, t in pairs(net:state()) do all["net." .. path] = t end
  for path, t in pairs(opt:state()) do all["opt." .. path] = t end
  return all
end

function T.test_the_same_numbers_as_without_a_run_and_all_steps_again()
  math.randomseed(3)
  for name in pairs(ways) do
    for _, rule in ipairs { "momentum", "Adam", "LBFGS" } do
      local case = name .. ", " .. rule
      local plain, net, opt, random = fit(name, rule, false)
      local history, net2, opt2, random2 = fit(name, rule, true)
      lu.assertNil(plain.run)
      for key, list in pairs(plain) do
        if key ~= "seconds" then lu.assertEquals(history[key], list, case .. " " .. key) end
      end
      lu.assertEquals(random2, random, case)
      lu.assertEquals(differences(state_of(net, opt), state_of(net2, opt2)), "", case)
      local run = history.run
      lu.assertEquals({ run.first, run.last, run.step, #run.history.loss }, { 0, run.last, run.last, run.last }, case)
      local last, places = standing(run), {}
      for _ = 1, 12 do
        local k = math.random(0, run.last)
        run:to(k)
        if places[k] then lu.assertEquals(differences(places[k], standing(run)), "", case) end
        places[k] = standing(run)
      end
      lu.assertEquals(differences(last, standing(run:to(0):to(run.last))), "", case)
      lu.assertEquals(run:go().step, #run.history.loss, case)
    end
  end
end

-- The state after each epoch, which the callback has seen.
function T.test_steps_are_those_that_the_callback_saw()
  nb.seed(7)
  local net, loss = running.nets.dropout()
  local opt = optim.Adam(net:parameters(), { lr = 0.01 })
  local x, y = running.samples(22, { 4 })
  local seen = {}
  local history = nn.fit(net, loss, opt, { x, y }, { epochs = 3, size = 5, progress = false, record = true,
    callback = function(at) seen[at.epoch] = state_of(net, opt) end })
  for _, epoch in ipairs { 2, 1, 3 } do
    history.run:to(5 * epoch)
    lu.assertEquals(differences(seen[epoch], state_of(net, opt)), "", epoch)
  end
  local hot = history.run:to(7):fork { opt = { lr = 0.3 } }
  lu.assertEquals(hot:go().step, 15)
  lu.assertTrue(hot.history.loss[9] ~= history.run.history.loss[9])
  lu.assertEquals(history.run.step, 7)
end

function T.test_the_history_holds_numbers_alone()
  local history = fit("plain", "Adam", true)
  for _, list in pairs(history) do lu.assertEquals(type(list[1]), "number") end
  lu.assertStrContains(tostring(history.run), "after step 20")
  lu.assertNil(history.other)
  local path = os.tmpname() .. ".safetensors"
  nb.save(path, history)
  lu.assertEquals(nb.load(path).loss, history.loss)
  os.remove(path)
  lu.assertEquals(nb.plot.curve(history.loss).kind, "curve")
end

-- What is kept of a stream counts, too.
function T.test_batches_of_a_stream_are_within_the_memory()
  local net = nn.Linear(50, 1)
  local k = 0
  local run = nb.run { net = net, loss = nn.MSELoss(), opt = optim.SGD(net:parameters(), { lr = 1e-3 }), epochs = 1,
    memory = 400000, data = function()
      k = k + 1
      if k > 3000 then return nil end
      return nb.rand(4, 50), nb.rand(4, 1)
    end }
  run:go()
  lu.assertTrue(run.kept_bytes <= 400000, run.kept_bytes)
  lu.assertTrue(run.first > 2400 and run.first < 2900, run.first)
  local last = standing(run)
  lu.assertEquals(differences(last, standing(run:to(run.first):to(run.last))), "")
end

-- A rate that is moved a thousand times takes numbers, not keyframes.
function T.test_plain_changes_take_little()
  local run = running.make("dropout", "Adam", "none", { epochs = 300 })
  run:next(10)
  local before = run.kept_bytes
  local rates = {}
  for k = 11, 1000 do
    run.opt.lr = 0.01 + k * 1e-5
    rates[k] = run.opt.lr
    run:next()
  end
  lu.assertTrue(run.kept_bytes < before + 400000, run.kept_bytes)
  local last = standing(run)
  run:to(0):to(500)
  lu.assertEquals(run.history.lr[500], rates[500])
  lu.assertEquals(differences(last, standing(run:to(1000))), "")
  run:to(700):cut():next(5)  -- the rate of step 700 goes on
  lu.assertEquals(run.history.lr[705], rates[701])
end

return T
