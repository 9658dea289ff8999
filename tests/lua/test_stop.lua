-- SPDX-License-Identifier: MIT
-- inspect.stop: planted conditions stop at the right operator, layer, phase and step, in the frame that applied the
-- operator with its variables; what stopped goes on as if it had not.
local nb = require "nablua"
local lu = require "luaunit"
local native = require "nablua.native"
local running = require "running"
local nn, optim, inspect = nb.nn, nb.optim, nb.inspect

local T = {}

local AT = 7  -- the step in which something is planted

function T.tearDown()
  for _, s in ipairs(inspect.stops()) do s:remove() end
end

local function fill(t, v) nb.no_grad(t.fill_, t, v) end

-- A run in whose step AT plant(net, bx, by) happens; plant may return another loss.
local function planted(plant, given)
  nb.seed(7)
  local net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
  for _, i in ipairs { 1, 3, 5 } do nb.no_grad(function() net[i].bias:fill_(0.2) end) end
  local x, y = nb.rand(40, 4), nb.rand(40, 1)
  local o = { net = net, opt = optim.SGD(net:parameters(), { lr = 1e-3 }), data = { x, y }, size = 4, seed = 1,
    epochs = 1 }
  for name, value in pairs(given or {}) do o[name] = value end
  local run
  o.step = function(bx, by)
    local secret = run.step + 1
    local extra = secret == AT and plant and plant(net, bx, by)
    local J = nn.mse(net(bx), by)
    return extra and J + extra(J) or J
  end
  run = nb.run(o)
  return run
end

-- Each: what is planted, the stop, and what is expected: operator, layer, phase.
local cases = {
  { "units off", function(net) fill(net[1].bias, -100) end,
    { op = "relu", when = function(e) return e.output:eq(0):to("f32"):mean() > 0.9 end }, "relu", "2", "forward" },
  { "NaN in the data", function(_, bx) bx:fill_(0 / 0) end, { op = "linear", when = "nan" }, "linear", "1",
    "forward" },
  { "NaN in a weight", function(net) fill(net[3].weight, 0 / 0) end, { op = "linear", when = "nan" }, "linear", "3",
    "forward" },
  { "infinite weight", function(net) fill(net[5].bias, math.huge) end, { op = "linear", when = "inf" }, "linear", "5",
    "forward" },
  { "a logarithm", function() return function(J) return (J - 1e3):log() end end, { when = "nan" }, "log", nil,
    "forward" },
  { "a root of 0", function() return function(J) return (J * 0):sqrt() end end, { when = "inf", phase = "backward" },
    "sqrt", nil, "backward" },
  { "no gradient", function(net) fill(net[5].weight, 0) end,
    { layer = "3", phase = "backward", when = "|grad| < 1e-12" }, "linear", "3", "backward" },
  { "no gradient, any layer", function(net) fill(net[5].weight, 0) end, { when = "|grad| < 1e-12" }, "tanh", "4",
    "backward" },
  { "saturated", function(net) fill(net[3].bias, 30) end, { op = "tanh", when = "|output| > 0.999" }, "tanh", "4",
    "forward" },
  { "a large output", function(_, bx) bx:mul_(1e4) end, { layer = "1", when = "output > 500" }, "linear", "1",
    "forward" },
  { "a small input", function(net) fill(net[1].bias, -60) end, { op = "relu", when = "input < -50" }, "relu", "2",
    "forward" },
  { "a large gradient given", function(_, _, by) by:mul_(1e6) end, { op = "squared_error", when = "|given| > 1e3" },
    "squared_error", nil, "backward" },
  { "a large loss", function(_, _, by) by:mul_(100) end, { loss = "> 10" }, "mean", nil, "backward" },
  { "no loss", function(net) fill(net[5].bias, 0 / 0) end, { loss = "nan" }, "mean", nil, "backward" },
  { "a small loss", function() return function(J) return J * -2 end end, { loss = function(v) return v < 0 end },
    "add", nil, "backward" },
  { "one of two operators", nil,
    { op = { "tanh", "relu" }, when = function(e) return e.step == AT and e.op == "tanh" end }, "tanh", "4",
    "forward" },
  { "backward of one operator", nil,
    { op = "tanh", phase = "backward", when = function(e) return e.step == AT and e.grad_in:numel() == 32 end }, "tanh",
    "4", "backward" },
  { "what is changed in place", function(_, bx) bx:mul_(2) end, { when = function(e) return e.in_place end }, "mul",
    nil, "forward" },
  { "an operator of that step alone", function() return function(J) return J:exp() * 0 end end, { op = "exp" }, "exp",
    nil, "forward" },
  { "the backward of one of that step", function() return function(J) return J:sin() * 0 end end,
    { op = "sin", phase = "backward" }, "sin", nil, "backward" },
  { "a tensor as an answer", nil, { layer = "5", when = function(e) return nb.tensor(e.step == AT) end }, "linear",
    "5", "forward" },
}

local function stopped_by(f, ...)
  local ok, e = pcall(f, ...)
  lu.assertFalse(ok)
  lu.assertEquals(type(e), "table", tostring(e))
  return e
end

function T.test_planted_conditions()
  lu.assertTrue(#cases >= 20)
  for _, case in ipairs(cases) do
    local name, plant, given, op, layer, phase = table.unpack(case, 1, 6)
    local twin, run = planted(plant), planted(plant)
    twin:go()
    local s = inspect.stop(given)
    local e = stopped_by(run.go, run)
    lu.assertEquals({ e.op, e.layer, e.phase, e.step }, { op, layer, phase, AT }, name)
    lu.assertEquals(e.locals.secret or e.frames[2].values.secret, AT, name)  -- 2: what was planted applied it
    lu.assertStrContains(e.site, "test_stop.lua:")
    lu.assertStrContains(tostring(e), ("stopped at %s (%s%s, step 7)"):format(op, layer and "layer " .. layer .. ", " or
      "", phase))
    lu.assertEquals({ run.step, s.hits }, { AT - 1, 1 }, name)
    s:remove()
    run:go()
    lu.assertEquals(running.differences(running.standing(twin), running.standing(run)), "", name)
  end
end

function T.test_a_layer_may_be_the_module_or_hold_others()
  local run = planted()
  local s = inspect.stop { layer = run.net[4], when = function(e) return e.step == 3 end }
  lu.assertEquals(stopped_by(run.go, run).op, "tanh")
  s:remove()
  local net = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Linear(2, 1))
  inspect.stop { layer = "1" }
  local e = stopped_by(net, nb.ones(1, 2))
  lu.assertEquals({ e.op, e.layer }, { "linear", "1.1" })
end

-- The frame of a forward that is over when its gradient comes.
function T.test_the_frame_that_made_the_node_is_gone_but_its_variables_are_not()
  local Net = nn.module("Net", { init = function(self) self.w = nb.ones(3, { requires_grad = true }) end,
    forward = function(self, x)
      local inner = "here"
      local y = self.w * x
      inner = inner .. "!"
      return y, inner
    end })
  local net = Net()
  inspect.stop { op = "mul", phase = "backward" }
  local J = net(nb.ones(3)):sum()
  local e = stopped_by(J.backward, J)
  lu.assertEquals({ e.locals.inner, e.step, e.op }, { "here", nil, "mul" })
  lu.assertEquals(e.inputs[2]:totable(), { 1, 1, 1 })
  lu.assertEquals(e.grad_in:totable(), { 1, 1, 1 })
end

function T.test_in_fit_and_in_a_coroutine()
  nb.seed(1)
  local net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
  local x = nb.rand(8, 2)
  local s = inspect.stop { layer = "2", when = function(e) return e.output:size(1) == 4 end }
  local e = stopped_by(nb.nn.fit, net, nn.MSELoss(), optim.SGD(net:parameters()), { x, nb.rand(8, 1) },
    { size = 4, progress = false })
  lu.assertEquals(e.layer, "2")
  s:remove()
  inspect.stop { op = "relu" }
  local co = coroutine.create(function()
    local within = 5
    return within, net(x)
  end)
  local ok, event = coroutine.resume(co)
  lu.assertFalse(ok)
  lu.assertEquals(event.locals.within, 5)
end

function T.test_a_compiled_step_runs_as_it_is_while_stops_are_set()
  nb.seed(3)
  local net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
  local opt = optim.SGD(net:parameters(), { lr = 0.1 })
  local x = nb.rand(40, 2)
  local step = nb.compile(function(bx, by)
    opt:zero_grad()
    local J = nn.mse(net(bx), by)
    J:backward()
    opt:step()
    return J
  end)
  local run = nb.run { net = net, opt = opt, data = { x, nb.rand(40, 1) }, size = 4, seed = 1, step = step }
  run:next(5)
  local s = inspect.stop { op = "tanh", phase = "backward", when = function(e) return e.step == 7 end }
  local e = stopped_by(run.go, run)
  lu.assertEquals({ e.op, e.layer, e.step, run.step }, { "tanh", "2", 7, 6 })
  s:remove()
  lu.assertEquals(run:go().step, 10)
end

function T.test_looking_at_the_step_that_stopped()
  local run = planted(function(net) fill(net[3].bias, 30) end)
  inspect.stop { op = "tanh", when = "|output| > 0.999" }
  stopped_by(run.go, run)
  local film = run:look()
  lu.assertEquals(film:to("4", "forward").op, "tanh")
  lu.assertTrue(film.output:abs():min():item() > 0.99)
end

-- A condition sees the numbers of a pass, and changes none of them.
function T.test_looking_changes_nothing()
  local a, b = planted(nil, { epochs = 2 }), planted(nil, { epochs = 2 })  -- whose second epoch draws its order
  a:go()
  inspect.stop { when = function(e)
    nb.rand(3)
    return e.output and e.output:numel() < 0
  end }
  inspect.stop { when = "|grad| > 1e30" }
  inspect.stop { loss = "> 1e30" }
  b:go()
  lu.assertEquals(running.differences(running.standing(a), running.standing(b)), "")
end

function T.test_nobody_listens_without_stops()
  lu.assertFalse(native.observed())
  local s, s2 = inspect.stop { when = "nan" }, inspect.stop { op = "relu" }
  lu.assertEquals(#inspect.stops(), 2)
  lu.assertStrContains(tostring(inspect.stops()), 'inspect.stop{op="relu"}, no hit')
  lu.assertTrue(native.observed())
  s:remove()
  s:remove()
  s2:remove()
  lu.assertFalse(native.observed())
  lu.assertEquals(tostring(inspect.stops()), "no stops are set")
end

-- What is kept for backward walks is bounded, and goes when the last stop does.
function T.test_frames_that_are_kept_are_bounded()
  local s = inspect.stop { op = "exp", phase = "backward", when = "nan" }
  local w = nb.ones(100, { requires_grad = true })
  local function passes(n)
    for _ = 1, n do
      local y = w * 2
      y:sum():backward()
    end
    collectgarbage()
    collectgarbage()
    return nb.memory().live
  end
  local before = passes(10)
  lu.assertTrue(passes(200) < before + 5000)
  -- Passes that no backward follows: the latest are kept, and those before are let go.
  for _ = 1, 5000 do
    local y = w * 2  -- luacheck: ignore 211
  end
  collectgarbage()
  collectgarbage()
  lu.assertTrue(nb.memory().live < before + 4100 * 600)
  s:remove()
  collectgarbage()
  collectgarbage()
  lu.assertTrue(nb.memory().live < before + 5000)
end

function T.test_an_error_in_a_condition_is_its_own()
  inspect.stop { op = "relu", when = function() error "broken condition" end }
  lu.assertErrorMsgContains("broken condition", function() nb.ones(2):relu() end)
end

function T.test_bad_input()
  for given, said in pairs {
    [{}] = "needs at least one of", [{ op = "rellu" }] = "there is no operator \"rellu\"",
    [{ layer = 3 }] = "layer must be a path", [{ when = "large" }] = "when must be a function",
    [{ when = "|foo| > 3" }] = "when must be a function", [{ when = "|grad| > x" }] = "when must be a function",
    [{ loss = "10" }] = "loss must be", [{ loss = "> 1", op = "relu" }] = "a condition of its own",
    [{ phase = "update" }] = "phase", [{ wen = "nan" }] = "wen",
  } do
    lu.assertErrorMsgContains(said, inspect.stop, given)
  end
  lu.assertEquals(#inspect.stops(), 0)
end

-- The library remembers lines while frames of its own run; a function of the user's may come to stand where one stood.
function T.test_the_line_is_that_of_whoever_calls_at_any_depth()
  local seen, lines = {}, {}
  local function here() return tostring(debug.getinfo(2, "l").currentline) end
  local function deep(depth)
    if depth > 0 then local r = deep(depth - 1) return r end
    local w = nb.ones(2, { requires_grad = true })
    lines.prod = here() return w:prod()
  end
  local function at_all_depths(J)
    for depth = 0, 14 do J = J + deep(depth) end
    return J
  end
  local net, x, y = nn.Linear(4, 3), nb.rand(16, 4), nb.randint(1, 3, { 16 })
  local opt, loss = optim.SGD(net:parameters(), { lr = 0.1 }), nn.CrossEntropyLoss()
  local stop = inspect.stop { when = function(e)
    seen[e.op] = seen[e.op] or {}
    seen[e.op][e.site:match "(%d+)$"] = true
  end }
  lines.fit = here() nn.fit(net, loss, opt, { x, y }, { epochs = 2, progress = false,
    callback = function() at_all_depths(0) end })
  local run = nb.run { net = net, opt = opt, data = { x, y }, epochs = 2, size = 8,
    step = function(bx, by) return at_all_depths(loss(net(bx), by)) end,
    schedule = optim.LambdaLR(opt, { lr_lambda = function() at_all_depths(0) return 1 end }) }
  lines.run = here() run:next(3)
  at_all_depths(0)
  stop:remove()
  lu.assertEquals(seen.prod, { [lines.prod] = true })
  lu.assertEquals(seen.randperm, { [lines.fit] = true, [lines.run] = true })
end

return T
