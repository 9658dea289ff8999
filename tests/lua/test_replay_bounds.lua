-- SPDX-License-Identifier: MIT
-- What nb.compile keeps is bounded: its plans, their memory, and recordings that are left or stopped.
local lu = require "luaunit"
local nb = require "nablua"
local compiling = require "compiling"
local numeric = require "numeric"
local native = require "nablua.native"
local nn, optim = nb.nn, nb.optim
local silently = compiling.silently

local T = {}

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
  lu.assertFalse(native.observed())
  local g = nb.compile(function(a) return a * 3 end)
  for _ = 1, 4 do g(x) end
  lu.assertStrContains(tostring(g), "1 replays")
end

local function assert_replays(what)
  local f, x = nb.compile(function(v) return v * 3 end), nb.ones(3)
  lu.assertFalse(native.recording(), what)
  for _ = 1, 5 do f(x) end
  lu.assertStrContains(tostring(f), "2 replays", false, what)
end

-- Stopped between any two instructions, as an interrupt does.
function T.test_a_recording_that_is_stopped_ends()
  local x, n, stopped = nb.ones(2), 0, true
  while stopped and n < 600 do
    local inside = false
    local f = nb.compile(function(v)
      inside = true
      return v * 2
    end)
    f(x)
    n, inside, stopped = n + 1, false, false
    local function stop()
      debug.sethook()
      if inside then return end
      stopped = true
      error("stopped", 0)
    end
    pcall(function()
      debug.sethook(stop, "", n)
      f(x)
    end)
    debug.sethook()
    lu.assertFalse(native.recording(), "stopped at instruction " .. n)
    lu.assertNil(native.recorded_steps)
  end
  assert_replays "after all"
end

function T.test_recordings_end_with_their_coroutines()
  local x = nb.ones(3)
  local ways = {
    ["yields and is dropped"] = function() coroutine.yield() end,
    ["yields and is kept"] = function() coroutine.yield() end,
    ["dies"] = function() error("mine", 0) end,
    ["yields and is closed"] = function() coroutine.yield() end,
  }
  for what, way in pairs(ways) do
    local said = silently(function()
      local entered, kept = false, {}
      local f = nb.compile(function(v)
        if entered then way() end
        return v * 2
      end)
      f(x)
      entered = true
      for k = 1, 3 do
        local co = coroutine.create(function(v) return f(v) end)
        coroutine.resume(co, x)
        assert_replays(what)
        if what:find("closed", 1, true) then coroutine.close(co) end
        if what:find("kept", 1, true) then kept[k] = co end
      end
      for _, co in ipairs(kept) do
        local ok, y = coroutine.resume(co)
        lu.assertEquals({ ok, y:totable() }, { true, { 2, 2, 2 } })
      end
      assert_replays(what)
    end)
    if what:find("kept", 1, true) then lu.assertStrContains(said, "it yields while it is recorded") end
    lu.assertNil(native.recorded_steps)
  end
end

-- What a compiled function calls after another one that it has called is seen, too.
function T.test_calls_are_seen_around_another_compiled_function()
  local inner = nb.compile(function(x) return x * 2 end)
  local factor, hidden = { 3 }, {}
  debug.setmetatable(print, { __index = function(_, k) return hidden[k] end })
  local _ <close> = setmetatable({}, { __close = function() debug.setmetatable(print, nil) end })
  function hidden.scale(x) return x * factor[1] end
  local f = nb.compile(function(x) return inner(x) + (print).scale(x) end)  -- luacheck: ignore 143
  local x = nb.ones(2)
  silently(function()
    for _ = 1, 5 do f(x) end
    factor[1] = 10
    lu.assertEquals(f(x):totable(), { 12, 12 })
  end)
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
