-- SPDX-License-Identifier: MIT
-- ui.controls of a run, and what visitors write while one goes, with a hook in the place of the session's.
local nb = require "nablua"
local lu = require "luaunit"
local native = require "nablua.native"
local running = require "running"
local widget = require "nablua.ui.widget"
local standing, differences = running.standing, running.differences

local T = {}

local PROVE = os.getenv "NABLUA_PROVE" == "1"

local threads
function T.setUp() threads = nb.threads() nb.threads(1) end
function T.tearDown() nb.threads(threads) end

-- ---- visitors ----

local between = 1009  -- instructions from one visit to the next

-- Calls visit() at random instructions of f(...), as a session does: never where an interrupt would wait.
local function visited(visit, f, ...)
  local watch, inside = nil, 0
  local real_watch, real_visiting = native.watch_visits, native.visiting
  local real = { whole = native.whole, settle = native.settle }
  native.watch_visits = function(g) watch = g end
  for name, call in pairs(real) do
    native[name] = function(...)
      inside = inside + 1
      local results = table.pack(pcall(call, ...))
      inside = inside - 1
      if not results[1] then error(results[2], 0) end
      return table.unpack(results, 2, results.n)
    end
  end
  local own = nb.random_state()
  debug.sethook(function()
    if inside > 0 or not watch then return end
    inside = inside + 1
    local random = nb.random_state()
    nb.random_state(own)
    watch(true)
    native.visiting = function() return true end
    local ok, message = pcall(native.with_grad, visit)
    native.visiting = real_visiting
    if watch then watch(false) end
    own = nb.random_state()
    nb.random_state(random)
    inside = inside - 1
    if not ok then error(message, 0) end
  end, "", between)
  local ok, message = pcall(f, ...)
  debug.sethook()
  native.watch_visits, native.whole, native.settle = real_watch, real.whole, real.settle
  if not ok then error(message, 0) end
end

local rules, schedules = running.sorted(running.optimizers), running.sorted(running.schedules)

-- What sliders and cells of a subshell do to a run.
local writes = {
  function(run) run.opt.lr = 10 ^ -(1 + 3 * math.random()) end,
  function(run) nb.no_grad(function() run.net[1].weight:mul_(0.9 + 0.2 * math.random()) end) end,
  function(run) nb.no_grad(function() run.net[5].bias:add_(0.01) end) end,
  function(run) run.net[4].p = math.random() / 2 end,
  function(run) run.net[2].running_mean:zero_() end,
  function(run) run.opt:zero_grad() end,
  function(run) (run.net(nb.randn(4, 4)):sum() * 100):backward() end,
  function(run) run.opt:load_state(run.opt:state()) end,
}

function T.test_what_visitors_write_is_repeated()
  math.randomseed(5)
  local runs, written = PROVE and 100 or 4, 0
  for i = 1, runs do
    local run = running.make("dropout", rules[i % #rules + 1], schedules[i % #schedules + 1], { seed = i, epochs = 4 })
    visited(function()
      if math.random(4) > 1 then return end
      written = written + 1
      writes[math.random(#writes)](run)
    end, run.go, run)
    lu.assertEquals(run.step, run.last)
    local last = standing(run)
    run:to(0):to(run.last)  -- compares the loss and a sample of the weights after each step
    lu.assertEquals(differences(last, standing(run)), "", i)
    local places = {}
    for _ = 1, PROVE and 40 or 10 do
      local k = math.random(0, run.last)
      run:to(k)
      if places[k] then lu.assertEquals(differences(places[k], standing(run)), "", i) end
      places[k] = standing(run)
    end
    lu.assertEquals(differences(last, standing(run:to(run.last))), "", i)
  end
  lu.assertTrue(written > 5 * runs, written)
  if PROVE then print(("figure: %d runs with %d writes of visitors, all steps repeated"):format(runs, written)) end
end

function T.test_visitors_that_look_change_nothing()
  local plain, looked = running.make("dropout", "Adam", "StepLR"), running.make("dropout", "Adam", "StepLR")
  plain:go()
  local seen = 0
  visited(function()
    seen = seen + 1
    local _ = { looked.loss, looked.opt.lr }
    nb.rand(2)
    nb.no_grad(looked.net, nb.randn(4, 4))
  end, looked.go, looked)
  lu.assertTrue(seen > 20, seen)
  lu.assertEquals(differences(standing(plain), standing(looked)), "")
end

-- What one visitor wrote the next one sees, and the step does not.
function T.test_what_is_written_waits_for_the_end_of_the_step()
  local run = running.make("dense", "SGD", "none")
  local written, seen = false, nil
  local rates = {}
  between = 101  -- many within each step
  visited(function()
    if run.step == 3 and not written then
      written, run.opt.lr = true, 0.125
    elseif written and not seen then
      seen = run.opt.lr
    end
  end, function() run:next(8) end)
  between = 1009
  for k = 1, 8 do rates[k] = run.history.lr[k] end
  lu.assertEquals(seen, 0.125)
  lu.assertEquals(rates[3], 0.05)
  lu.assertEquals(rates[8], 0.125)
  lu.assertEquals(run:to(0):to(8).opt.lr, 0.125)
  lu.assertEquals(run:to(2).opt.lr, 0.05)
end

-- ---- controls ----

local function parts(run)
  local all = nb.ui.controls(run)
  local top = widget.private(all).children
  local row = widget.private(top[1]).children
  return { back = row[1], play = row[2], step = row[3], rate = row[4], place = top[2], said = top[3], all = all }
end

function T.test_controls_at_rest()
  local run = running.make("dense", "Adam", "none")
  local c = parts(run)
  lu.assertEquals(c.said.value, "after step 0 of 24, epoch 1, loss –")
  c.step:press()
  c.step:press()
  lu.assertEquals({ run.step, c.place.value }, { 2, 2 })
  c.back:press()
  lu.assertEquals(run.step, 1)
  lu.assertStrContains(c.said.value, "after step 1 of 24, 2 done, epoch 1")
  c.place.value = 20
  lu.assertEquals({ run.step, run.last }, { 20, 20 })
  c.place.value = 5
  lu.assertEquals(run.step, 5)
  c.back:press()
  c.rate.value = 0.5  -- others follow: said, and nothing is lost
  c.step:press()
  lu.assertStrContains(c.said.value, "go on in run:fork()")
  lu.assertEquals(run.step, 4)
  c.place.value = 0
  c.place.value = 24
  lu.assertEquals(run.step, 24)
  lu.assertEquals(c.said.value:match "^[^,]*", "after step 24 of 24")
  c.step:press()
  lu.assertEquals(run.step, 24)
  lu.assertErrorMsgContains("expected a run", nb.ui.controls, 3)
end

-- While run:go() runs, they move it between two steps.
function T.test_controls_while_it_goes()
  local run, twin = running.make("dropout", "Adam", "StepLR"), running.make("dropout", "Adam", "StepLR"):go()
  local c = parts(run)
  local told, real = 0, nb.sleep
  local script = { { 6, function() c.play:press() end } }
  local seen = {}
  local waits = { function() c.step:press() end, function() c.back:press() end, function() c.back:press() end,
    function() c.place.value = 3 end, function() c.place.value = 12 end, function() c.play:press() end }
  nb.sleep = function()  -- where visitors come while it is held
    seen[#seen + 1] = run.step
    table.remove(waits, 1)()
  end
  require("nablua.run").when_it_steps(run, function()
    told = told + 1
    if script[1] and run.step == script[1][1] then table.remove(script, 1)[2]() end
  end)
  local ok, message = pcall(run.go, run)
  nb.sleep = real
  lu.assertTrue(ok, tostring(message))
  lu.assertEquals(seen, { 6, 7, 6, 5, 3, 12 })
  lu.assertEquals({ run.step, run.last, told > 20 }, { 24, 24, true })
  lu.assertEquals(differences(standing(twin), standing(run)), "")
end

return T
