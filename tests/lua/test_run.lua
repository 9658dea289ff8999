-- SPDX-License-Identifier: MIT
-- Runs: wherever one goes, forward or back, the bits are those of the first time; what would make them others is said.
local nb = require "nablua"
local lu = require "luaunit"
local running = require "running"
local runs = require "nablua.run"
local nn, optim, data = nb.nn, nb.optim, nb.data
local standing, same_bits, differences, walk = running.standing, running.same_bits, running.differences, running.walk
local nets, optimizers, schedules, make = running.nets, running.optimizers, running.schedules, running.make
local samples, sorted, dense = running.samples, running.sorted, running.nets.dense

local T = {}

local PROVE = os.getenv "NABLUA_PROVE" == "1"
local WALKS = PROVE and 200 or 12

function T.setUp() math.randomseed(11) end

function T.test_every_net()
  for _, name in ipairs(sorted(nets)) do walk(name, make(name, "Adam", "StepLR"), WALKS) end
end

function T.test_every_optimizer()
  for _, name in ipairs(sorted(optimizers)) do walk(name, make("dropout", name, "none"), WALKS) end
end

function T.test_every_schedule()
  for _, name in ipairs(sorted(schedules)) do walk(name, make("dense", "momentum", name), WALKS) end
end

function T.test_threads()
  local before = nb.threads()
  local run = make("convolution", "Adam", "none")
  walk("two threads", run, WALKS)
  local w = standing(run:to(5))
  nb.threads(1)
  run:to(9):to(5)
  lu.assertEquals(differences(w, standing(run)), "")
  nb.threads(before)
end

function T.test_a_step_of_ones_own_that_accumulates()
  nb.seed(7)
  local net = dense()
  local x, y = samples(20, { 4 })
  local loss = nn.MSELoss()
  walk("accumulation", nb.run { net = net, opt = optim.Adam(net:parameters()), data = { x, y }, size = 5, epochs = 4,
    seed = 1, clip = 1, step = function(bx, by)
      loss(net(bx[{ { 1, 2 } }]), by[{ { 1, 2 } }]):backward()
      return loss(net(bx[{ { 3, 5 } }]), by[{ { 3, 5 } }]) + 1e-3 * net[1].weight:square():sum()
    end }, WALKS)
end

function T.test_a_stream_of_batches_with_noise()
  nb.seed(7)
  local net = dense()
  local x, y = samples(12, { 4 })
  local k = 0
  local function stream(_, previous)
    if previous == nil then k = 0 end
    k = k + 1
    if k > 3 then return nil end
    local part = { { 4 * k - 3, 4 * k } }
    return x[part] + 0.1 * nb.randn(4, 4), y[part]
  end
  walk("stream", nb.run { net = net, loss = nn.MSELoss(), opt = optim.Adam(net:parameters()), data = stream,
    epochs = 4, seed = 1 }, WALKS)
end

function T.test_the_same_steps_as_by_hand()
  nb.seed(7)
  local x, y = samples(20, { 4 })
  local function build()
    nb.seed(9)
    local net = dense()
    return net, optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
  end
  local net, opt = build()
  nb.seed(3)
  for _ = 1, 3 do
    for bx, by in data.batches { x, y, size = 6, shuffle = true } do
      opt:zero_grad()
      nn.mse(net(bx), by):backward()
      opt:step()
    end
  end
  local other, opt2 = build()
  local run = nb.run { net = other, loss = nn.mse, opt = opt2, data = { x, y }, size = 6, epochs = 3, seed = 3 }:go()
  lu.assertEquals(run.step, 12)
  for path, t in pairs(net:state()) do lu.assertTrue(same_bits(t, other:state()[path]), path) end
end

-- ∂J/∂w of (x·w − y)² by hand: 2·x·(x·w − y).
function T.test_norms_of_gradients_are_part_of_the_history()
  local net = nn.Linear(1, 1, { bias = false })
  nb.no_grad(function() net.weight:fill_(0.5) end)
  local x, y = nb.tensor { { 1 }, { 2 }, { 3 } }, nb.tensor { { 2 }, { 2 }, { 0 } }
  local path = os.tmpname() .. ".safetensors"
  local o = { net = net, loss = nn.MSELoss(), opt = optim.SGD(net:parameters(), { lr = 0.01 }), data = { x, y },
    size = 1, shuffle = false, norms = true, clip = 1 }
  local run = nb.run(o):go()
  lu.assertAlmostEquals(run.history.grad[1], 3, 1e-6)            -- 2·1·(0.5 − 2); clipped to 1 afterwards
  local w = 0.5 + 0.01
  lu.assertAlmostEquals(run.history.grad[2], 4 * (2 - 2 * w), 1e-6)
  run:to(1):to(3):keep(path)
  o.resume = path
  lu.assertEquals(nb.run(o).history.grad, run.history.grad)
  lu.assertNil(make("dense", "SGD", "none"):next().history.grad)
  os.remove(path)
end

-- The optimizer's own pass gives the norm that a pass of its own does, for any number of threads; so do
-- several groups, and rules without one pass.
function T.test_norms_come_out_of_the_optimizers_pass()
  local x, y = nb.randn(60, 300), nb.randn(60, 90)
  local before = nb.threads()
  local ways = {
    SGD = function(net) return optim.SGD(net:parameters(), { lr = 1e-3, weight_decay = 0.1, momentum = 0.9 }) end,
    Adam = function(net) return optim.Adam(net:parameters(), { lr = 1e-4 }) end,
    RMSprop = function(net) return optim.RMSprop(net:parameters(), { lr = 1e-4 }) end,
    Adagrad = function(net) return optim.Adagrad(net:parameters(), { lr = 1e-4 }) end,
    groups = function(net)
      return optim.SGD({ { params = { net.weight } }, { params = { net.bias }, maximize = true } }, { lr = 1e-3 })
    end,
  }
  for name, rule in pairs(ways) do
    local histories = {}
    for i, threads in ipairs { 1, 2 } do
      nb.threads(threads)
      nb.seed(4)
      local net = nn.Linear(300, 90)
      local want = {}
      local run = nb.run { net = net, opt = rule(net), data = { x, y }, size = 10, seed = 1, norms = true,
        step = function(bx, by)
          local J = nn.mse(net(bx), by)
          local twin = nn.mse(net(bx), by)
          local sum = 0
          for _, g in ipairs { nb.grad(twin, { net.weight, net.bias }) } do
            for _, t in ipairs(nb.is_tensor(g) and { g } or g) do sum = sum + t:to("f64"):square():sum():item() end
          end
          want[#want + 1] = math.sqrt(sum)
          return J
        end }
      run:next(5)
      for k = 1, 5 do lu.assertAlmostEquals(run.history.grad[k] / want[k], 1, 1e-5, name) end
      histories[i] = run.history.grad
    end
    lu.assertEquals(histories[1], histories[2], name)
  end
  nb.threads(before)
  -- Too large for a sum of squares in f32.
  local w = nb.full({ 1000 }, 1e18, { requires_grad = true })
  local Own = nn.module("Own", { init = function(self) self.w = w end, forward = function(self, v)
    return self.w * v
  end })
  local run = nb.run { net = Own(), opt = optim.SGD({ w }, { lr = 0 }), data = { nb.full({ 1, 1000 }, 3e19),
    nb.zeros(1, 1) }, loss = function(out) return out:sum() end, norms = true }
  run:next()
  lu.assertAlmostEquals(run.history.grad[1] / (3e19 * math.sqrt(1000)), 1, 1e-5)
end

-- ---- what is kept ----


function T.test_memory_stays_within_its_bound()
  local bound = 60000
  local run = make("dense", "Adam", "none", { epochs = 120, memory = bound })
  for _ = 1, 12 do
    run:next(60)
    lu.assertTrue(run.kept_bytes <= bound, run.kept_bytes)
  end
  local last = standing(run)
  run:to(run.first):to(run.last)
  lu.assertEquals(differences(last, standing(run)), "")
end

-- Steps of a second each, and keyframes of a second each: few of them, however slow the steps.
function T.test_keyframes_take_little_of_the_time()
  local native = require "nablua.native"
  local clock, seconds = native.clock, 0
  local _ <close> = setmetatable({}, { __close = function() native.clock = clock end })
  function native.clock()
    seconds = seconds + 1
    return seconds
  end
  local run = make("dense", "Adam", "none", { epochs = 100 })
  run:next(500)
  local count = #runs.known_of(run).kept
  lu.assertTrue(count > 5 and count < 20, count)
end

function T.test_where_not_two_fit_the_last_stays()
  local run = make("dense", "Adam", "none", { epochs = 200, memory = 1 })
  run:next(1100)
  lu.assertTrue(run.first > 0)
  lu.assertErrorMsgContains("what is kept begins after step " .. run.first, run.to, run, 0)
  lu.assertEquals(run.step, 1100)
end

function T.test_a_keyframe_copies_only_what_is_written()
  local net = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 1))
  for _, p in ipairs { net[1].weight, net[1].bias, net[2].bias } do p.requires_grad = false end
  local x, y = samples(8, { 100 })
  local run = nb.run { net = net, loss = nn.MSELoss(), opt = optim.SGD({ net[2].weight }, { lr = 0.01 }),
    data = { x, y }, size = 4, epochs = 3 }
  run:go()
  run:to(2):to(4)
  lu.assertTrue(run.kept_bytes < 30000, run.kept_bytes)  -- 40,000 is the frozen weight alone
end

function T.test_nothing_is_left_when_a_run_is_dropped()
  local function turn()
    local run = make("dropout", "Adam", "StepLR")
    run:go()
    run:to(3):fork():go()
  end
  turn()
  collectgarbage() collectgarbage()
  local before = nb.memory().live
  for _ = 1, 5 do turn() end
  collectgarbage() collectgarbage()
  lu.assertTrue(nb.memory().live <= before + 2000, nb.memory().live - before)
end

-- ---- honesty ----


local function changes(name, change, said)
  local run = make("dropout", "Adam", "none")
  run:next(8):to(3)
  change(run)
  for _ = 1, 2 do
    lu.assertErrorMsgContains(said or "steps 4 to 8 that are kept", run.next, run)
    lu.assertEquals(run.step, 3, name)
  end
end

function T.test_changes_in_the_past_are_noticed()
  changes("rate", function(run) run.opt.lr = 0.5 end)
  changes("weight", function(run) nb.no_grad(function() run.net[1].weight:mul_(2) end) end)
  changes("one element", function(run) nb.no_grad(function() run.net[1].bias[1] = 7 end) end)
  changes("buffer", function(run) run.net[2].running_mean:zero_() end)
  changes("field", function(run) run.net[4].p = 0.9 end)
  changes("layer", function(run) run.net[3] = nn.Tanh() end)
  changes("frozen", function(run) run.net[1].weight = run.net[1].weight:detach() end)
  changes("moments", function(run) run.opt:load_state(run.opt:state()) end)
end

function T.test_changes_at_the_end_are_part_of_the_record()
  local run = make("dropout", "Adam", "none")
  run:next(5)
  nb.no_grad(function() run.net[1].weight:mul_(2) end)
  run.opt.lr = 0.3
  run:next(5)
  local last, middle = standing(run), standing(run:to(7))
  run:to(2):to(7)
  lu.assertEquals(differences(middle, standing(run)), "")
  run:to(2):next(5)  -- past the changes, step by step
  lu.assertEquals(differences(middle, standing(run)), "")
  run:to(10)
  lu.assertEquals(differences(last, standing(run)), "")
  lu.assertEquals(run.history.lr[6], 0.3)
end

function T.test_changes_at_the_end_outlast_going_away()
  local run, other = make("dropout", "Adam", "none"), make("dropout", "Adam", "none")
  other:next(9)
  run:next()
  local first = standing(run)
  run:next(4)
  run.opt:load_state(other.opt:state())
  run.net:load_state(other.net:state())
  local changed = standing(run)
  lu.assertEquals(differences(first, standing(run:to(1))), "")
  run:to(5)
  lu.assertEquals(differences(changed, standing(run)), "")
  run:next(3)
  local after = standing(run)
  run:to(2):to(8)
  lu.assertEquals(differences(after, standing(run)), "")
end

function T.test_numbers_drawn_between_steps_change_nothing()
  local a, b = make("dropout", "Adam", "none"), make("dropout", "Adam", "none")
  a:go()
  for _ = 1, 24 do
    b:next()
    nb.rand(3)
    b.net:eval()
    b.net(nb.randn(2, 4))
  end
  lu.assertEquals(b.last, 24)
  lu.assertEquals(differences(standing(a), standing(b)), "")
  lu.assertFalse(b.net.training)
end

function T.test_what_reads_elsewhere_is_found_at_its_step()
  local factor = 1
  local net, loss = dense()
  local x, y = samples(20, { 4 })
  local run = nb.run { net = net, opt = optim.Adam(net:parameters()), data = { x, y }, size = 5, epochs = 3, seed = 1,
    step = function(bx, by) return factor * loss(net(bx), by) end }
  run:next(9)
  factor = 2
  lu.assertErrorMsgContains("step 1 gave the loss", run.to, run, 4)
  lu.assertEquals(run.step, 0)
  factor = 1
  run:to(9)
  lu.assertEquals(run.step, 9)
end

function T.test_an_error_in_a_step_leaves_the_run_between_two()
  local fails = false
  local net, loss = nets.dropout()
  local x, y = samples(20, { 4 })
  local run = nb.run { net = net, opt = optim.Adam(net:parameters()), data = { x, y }, size = 5, epochs = 3, seed = 1,
    step = function(bx, by)
      local J = loss(net(bx), by)
      if fails then error "broken" end
      return J
    end }
  run:next(6)
  local before = standing(run)
  fails = true
  lu.assertErrorMsgContains("broken", run.next, run)
  lu.assertEquals(run.step, 6)
  fails = false
  -- Batch norm had seen the batch, and dropout had drawn: both are as they were.
  run:to(0):to(6)
  lu.assertEquals(differences(before, standing(run)), "")
  run:next()
  local after = standing(run)
  run:to(2):to(7)
  lu.assertEquals(differences(after, standing(run)), "")
end

function T.test_a_step_that_ends_in_an_error_is_in_no_list()
  local net, x, fails = nn.Linear(2, 1), nb.randn(8, 2), false
  local opt = optim.SGD(net:parameters(), { lr = 0.1 })
  local schedule = optim.LambdaLR(opt, { lr_lambda = function(epochs)
    if fails and epochs == 2 then error "mine" end
    return 1
  end })
  local run = nb.run { net = net, loss = nn.MSELoss(), opt = opt, data = { x, x:sum(2, { keepdim = true }) }, size = 4,
    epochs = 3, schedule = schedule, seed = 1 }
  run:next(3)
  fails = true
  lu.assertErrorMsgContains("mine", run.next, run)  -- at the end of the second epoch, when the step is noted
  lu.assertEquals({ run.step, run.last, #run.history.loss, #run.history.lr }, { 3, 3, 3, 3 })
  fails = false
  lu.assertEquals(#run:go().history.loss, 6)
end

function T.test_cutting_drops_what_followed()
  local run = make("dense", "SGD", "none")
  run:next(10):to(4)
  run.opt.lr = 0.5
  run:cut():next(2)
  lu.assertEquals({ run.step, run.last, #run.history.loss }, { 6, 6, 6 })
  lu.assertEquals(run.history.lr[5], 0.5)
  local here = standing(run)
  run:to(1):to(6)
  lu.assertEquals(differences(here, standing(run)), "")
end

-- ---- forks ----


function T.test_a_fork_goes_where_the_run_would()
  for _, name in ipairs(sorted(nets)) do
    local run = make(name, "Adam", "StepLR")
    run:next(7)
    local before = standing(run)
    local twin = run:fork()
    twin:go()
    lu.assertEquals(differences(before, standing(run)), "", name)
    run:go()
    lu.assertEquals(differences(standing(run), standing(twin)), "", name)
    lu.assertEquals(twin.history.loss, run.history.loss)
  end
end

function T.test_every_optimizer_is_copied_with_what_it_remembers()
  for _, name in ipairs(sorted(optimizers)) do
    local run = make("dense", name, "none")
    run:next(5)
    local twin = run:fork():go()
    run:go()
    lu.assertEquals(differences(standing(run), standing(twin)), "", name)
  end
end

function T.test_options_and_functions()
  local net, loss = dense()
  local x, y = samples(20, { 4 })
  local function penalty() return net[1].weight:square():sum() end
  local run = nb.run { net = net, opt = optim.SGD(net:parameters(), { lr = 0.01 }), data = { x, y }, size = 5,
    epochs = 3, seed = 1, step = function(bx, by) return loss(net(bx), by) + 1e-2 * penalty() end }
  run:next(3)
  local before = standing(run)
  local same, hot = run:fork(), run:fork { opt = { lr = 0.2 }, name = "hot" }
  lu.assertEquals({ hot.lr, run.lr, hot.name }, { 0.2, 0.01, "hot" })
  same:go()
  hot:go()
  lu.assertEquals(differences(before, standing(run)), "")
  run:go()
  lu.assertEquals(differences(standing(run), standing(same)), "")
  lu.assertNotEquals(hot.loss, run.loss)
  lu.assertErrorMsgContains("begins after step 3", hot.to, hot, 1)
  lu.assertErrorMsgContains("rat", run.fork, run, { opt = { rat = 1 } })
end

-- ---- looking and comparing ----

function T.test_looking_changes_nothing()
  local run, twin = make("dropout", "Adam", "StepLR"), make("dropout", "Adam", "StepLR")
  twin:go()
  run:next(9)
  local before = standing(run)
  local film = run:look()
  lu.assertEquals(film.J:item(), twin.history.loss[10])
  film:run()
  lu.assertNotEquals(differences(before, standing(run)), "")
  run:next()
  lu.assertEquals(run.step, 10)
  run:back()
  lu.assertEquals(differences(before, standing(run)), "")
  run:look():next(3)
  run:go()
  lu.assertEquals(differences(standing(twin), standing(run)), "")
  lu.assertErrorMsgContains("no step after step 24", run.look, run)
  lu.assertEquals(differences(standing(twin), standing(run:to(3):to(24))), "")
end

function T.test_a_fork_that_breaks_away_leaves_the_curve_readable()
  nb.seed(1)
  local net = nn.Sequential { nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1) }
  local opt, x, y = optim.SGD(net:parameters(), { lr = 0.05 }), nb.randn(64, 3), nb.randn(64, 1)
  local run = nb.run { net = net, loss = nn.MSELoss(), opt = opt, data = { x, y }, epochs = 60 }
  run:next(40)
  local hot = run:to(10):fork { opt = { lr = 30 } }:next(20)
  lu.assertTrue(hot.loss ~= hot.loss or hot.loss > 1e6, hot.loss)
  local shown = getmetatable(run).__display(run, { width = 80 })["text/plain"]
  local top = tonumber((shown:match("\n%s*(%S-)┤")))
  lu.assertTrue(top and top < 2 * math.max(table.unpack(run.history.loss)), shown)
end

-- A film that was moved, and the random numbers of whoever forks or keeps.
function T.test_forking_and_keeping_while_a_film_is_open()
  local run, path = make("dropout", "Adam", "none"), os.tmpname() .. ".safetensors"
  run:next(5)
  local before = standing(run)
  run:look():run()
  local random = nb.random_state()
  local twin = run:fork()
  lu.assertEquals(nb.random_state(), random)
  lu.assertEquals(differences(before, standing(twin)), "")
  run:look():run()
  random = nb.random_state()
  run:keep(path)
  lu.assertEquals(nb.random_state(), random)
  lu.assertEquals(differences(before, standing(make("dropout", "Adam", "none", { resume = path }))), "")
  os.remove(path)
  lu.assertEquals(run:fork { clip = 0.1 }:next(2).step, 7)
end

function T.test_the_film_moves_the_weights_as_the_step_does()
  local run = make("dense", "Adam", "none")
  run:next(5)
  run:look():run()
  local seen = standing(run)
  run:next()
  lu.assertEquals(differences(seen, standing(run)), "")
end

function T.test_comparing_finds_where_runs_part()
  local a = make("dense", "SGD", "none", { name = "a" })
  a:next(5)
  local b = a:fork { opt = { lr = 0.5 }, name = "b" }
  local same = a:fork()
  a:go() b:go() same:go()
  lu.assertEquals(nb.compare({ a, b }).step, 7)  -- the step after the fork still has the loss of both
  lu.assertNil(nb.compare({ a, same }).step)
  local shown = nb.compare({ a, b }):__display { width = 60 }["text/plain"]
  lu.assertStrContains(shown, "they part at step 7")
  lu.assertStrContains(shown, "┤")  -- the curves
  lu.assertErrorMsgContains("at least two runs", nb.compare, { a })
  lu.assertErrorMsgContains("entry 2 must be a run", nb.compare, { a, 3 })
  lu.assertEquals(nb.plot.curve(a).data[1].y:totable(), nb.tensor(a.history.loss):totable())
end

-- ---- sentences ----


function T.test_bad_input()
  local net, loss = dense()
  local x, y = samples(8, { 4 })
  local opt = optim.SGD(net:parameters())
  local good = { net = net, loss = loss, opt = opt, data = { x, y } }
  local function with(name, value, said)
    local o = {}
    for k, v in pairs(good) do o[k] = v end
    o[name] = value
    lu.assertErrorMsgContains(said, nb.run, o)
  end
  with("net", nil, "net must be a module")
  with("loss", 3, "loss must be a module")
  with("opt", {}, "opt must be an optimizer")
  with("data", 5, "data must be {x, y}")
  with("schedule", optim.StepLR(optim.SGD(net:parameters()), { step_size = 1 }), "schedule must be one of")
  with("rat", 5, "rat")
  local run = nb.run(good)
  lu.assertErrorMsgContains("ends after step", run.to, run, 1000)
  lu.assertErrorMsgContains("what is kept begins", run.back, run, 1000)
  lu.assertErrorMsgContains("whole number", run.to, run, "x")
  lu.assertErrorMsgContains("whole number", run.next, run, 1.5)
  lu.assertErrorMsgContains("with a colon", run.next, 3)
  lu.assertErrorMsgContains("cannot be set", function() run.step = 3 end)
  lu.assertErrorMsgContains("there is no option", function() return run.steps end)
end

function T.test_a_net_that_was_changed_in_shape()
  local run = make("dense", "Adam", "none")
  run:next(6)
  local before = standing(run)
  run.net[1] = nn.Linear(5, 8)
  lu.assertErrorMsgContains("layer 1", run.next, run)
  lu.assertEquals(run.step, 6)
  run:to(4)
  lu.assertErrorMsgContains("layer 1", function() run:to(6):next() end)
  run:cut()
  lu.assertEquals(run.step, 6)
  run:to(2):to(5)
  lu.assertEquals(run.net[1].in_features, 4)
  lu.assertEquals(differences(before, standing(run:to(5):cut():next())), "")
end

function T.test_it_shows_where_it_stands()
  local run = make("dense", "SGD", "none")
  run:next(8):back(2)
  lu.assertStrContains(tostring(run), "after step 6 of 8 done, epoch 1/4")
end

local function display_of(run, settings) return getmetatable(run).__display(run, settings) end

function T.test_its_card_has_the_curve_and_the_forks()
  local run = make("dense", "SGD", "none", { name = "cold" })
  lu.assertStrContains(display_of(run, { width = 80 })["text/plain"], "run cold  after step 0")
  run:next(8)
  local hot = run:fork { opt = { lr = 0.3 }, name = "<hot>" }
  local hotter = hot:next(3):fork { name = "hotter" }
  run:go():to(5)
  for _, width in ipairs { 20, 40, 80, 200 } do
    local text = display_of(run, { width = width })["text/plain"]
    for _, words in ipairs { "step 5 of 24 done", "┤", "●", "└ <hot>", "from step 8", "  └ hotter", "from step 11" } do
      lu.assertStrContains(text, words)
    end
  end
  local page = display_of(run, { width = 80, rich = true })["text/html"]
  lu.assertStrContains(page, "<svg")
  lu.assertNotNil(utf8.len(page), "the card is text")
  lu.assertStrContains(page, "&lt;hot&gt;")
  lu.assertNotStrContains(page, "<hot>")
  lu.assertEquals({ hot.step, hotter.step }, { 11, 11 })
  hot, hotter = nil, nil  -- luacheck: ignore 311
  collectgarbage() collectgarbage()
  lu.assertNotStrContains(display_of(run, { width = 80 })["text/plain"], "hot")
  nb.no_grad(function() run:to(24).net[1].weight:fill_(0 / 0) end)
  run:cut()
  lu.assertStrContains(display_of(run, { width = 80 })["text/plain"], "after step 24")
end

function T.test_a_loss_that_is_no_number_goes_on()
  local run = make("dense", "SGD", "none")
  run:next(4)
  nb.no_grad(function() run.net[1].weight:fill_(0 / 0) end)
  run:next(3)
  lu.assertTrue(run.loss ~= run.loss)
  run:to(2):to(7)
  lu.assertTrue(run.loss ~= run.loss)
end

return T
