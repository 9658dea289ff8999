-- SPDX-License-Identifier: MIT
-- Cycles that go through C are garbage like others: memory stays flat, however often they are made.
--
-- With NABLUA_PROVE=1 in the environment 100,000 of each are made, and the figures printed; otherwise fewer.
local lu = require "luaunit"
local nb = require "nablua"
local nn, optim, inspect = nb.nn, nb.optim, nb.inspect

local T = {}

local PROVE = os.getenv "NABLUA_PROVE" == "1"
local TURNS = PROVE and 100000 or 5000

local function collect_all()
  collectgarbage()
  collectgarbage()
end

-- The memory of tensors and of Lua, in bytes.
local function memory()
  collect_all()
  return nb.memory().live + 1024 * collectgarbage "count"
end

-- Makes the pattern again and again: what is alive after the last turns is as much as after the first.
local function assert_flat(turn, share)
  local few = math.max(200, TURNS // 10)
  for k = 1, few do turn(k) end
  local before = memory()
  for k = few + 1, TURNS do turn(k) end
  local grown = memory() - before
  if PROVE then
    local line = debug.getinfo(2, "l").currentline
    print(("line %d: %+.0f bytes in %d turns, at most %.0f"):format(line, grown, TURNS - few, share or 300e3))
  end
  lu.assertTrue(grown < (share or 300e3), ("%.0f bytes more after %d turns"):format(grown, TURNS - few))
end

local function leaf()
  return nb.ones(100, { requires_grad = true })
end

function T.test_a_hook_that_names_its_leaf()
  assert_flat(function()
    local w = leaf()
    w:register_hook(function(g) return g * w:detach() end);
    (w * 2):sum():backward()
  end)
end

function T.test_a_hook_of_an_intermediate_that_names_what_comes_after()
  assert_flat(function()
    local w, J = leaf(), nil
    local z = w * 2
    z:register_hook(function(g) return J and g end)
    J = z:sum()
    if math.random(2) == 1 then J:backward() end
  end)
end

function T.test_a_hook_that_names_its_handle()
  assert_flat(function()
    local w, handle = leaf(), nil
    handle = w:register_hook(function() handle:remove() end)
  end)
end

function T.test_a_hook_that_names_its_net_and_its_optimizer()
  assert_flat(function()
    local net = nn.Linear(4, 3)
    local opt = optim.Adam(net:parameters())
    net.weight:register_hook(function(g) return net and opt and g end)
    net(nb.ones(2, 4)):sum():backward()
    opt:step()
  end, 600e3)
end

function T.test_gradients_with_a_tape_of_their_own()
  assert_flat(function()
    local w = leaf();
    (w * w):sum():backward(nil, { create_graph = true })
  end)
end

function T.test_gradients_of_each_other()
  assert_flat(function()
    local a, b = leaf(), leaf()
    a.grad, b.grad = b, a
  end)
end

function T.test_a_ctx_that_holds_its_own_result()
  nb.operator { name = "holds_itself",
    forward = function(ctx, x)
      ctx.input = x
      return x * 2
    end,
    backward = function(_, g) return g * 2 end }
  assert_flat(function()
    local w, own = leaf(), nil
    nb.operator { name = "holds_result",
      forward = function(ctx, x)
        own = ctx
        return x * 2
      end,
      backward = function(_, g) return g * 2 end }
    local y = w:holds_result():holds_itself()
    rawset(own, "y", y)
  end, 600e3)
end

-- The history of what is written into then leads to the operator that has read it, which holds it.
function T.test_what_is_written_comes_from_what_is_written_into()
  assert_flat(function()
    local t = leaf():clone()
    t:sub_(t:square())
  end)
  assert_flat(function()
    local t = leaf():clone()
    t[1] = t:square()[1]
  end)
  assert_flat(function()
    local t = leaf():clone()
    t[{ { 1, 50 } }]:mul_(t:exp()[{ { 1, 50 } }])
  end)
end

-- Where each holds much, few of them must not wait for many.
function T.test_large_cycles_give_way_to_what_needs_memory()
  local limit = nb.memory().limit
  collect_all()
  nb.memory { limit = nb.memory().live + 60e6 }
  local ok, message = pcall(function()
    for _ = 1, 60 do
      local t = nb.ones(1000000, { requires_grad = true }):clone()
      t:sub_(t:square())
    end
  end)
  nb.memory { limit = limit }
  lu.assertTrue(ok, message)
end

function T.test_a_watch_that_nobody_holds()
  local x = nb.ones(2, 4)
  assert_flat(function()
    local net = nn.Linear(4, 3)
    inspect.watch(net)
    net(x):sum():backward()
  end, 600e3)
  local net = nn.Linear(4, 3)
  assert_flat(function()
    inspect.watch(net)
    net(x):sum():backward()
  end, 600e3)
  assert_flat(function()
    local w = inspect.watch(net)
    net(x)
    return w
  end, 600e3)
  assert_flat(function()
    inspect.watch(nn.Linear(4, 3)):detach()
  end)
end

-- Of many, what is held goes on as ever.
function T.test_a_watch_that_somebody_holds_goes_on()
  local net = nn.Linear(4, 3)
  local kept = inspect.watch(net)
  for k = 1, 300 do
    inspect.watch(net)
    net(nb.ones(2, 4)):sum():backward()
    if k % 100 == 0 then collect_all() end
  end
  lu.assertEquals(#kept.history, 300)
  lu.assertTrue(kept.history[300].layers[1].weight_grad > 0)
end

function T.test_a_compiled_function_that_names_itself()
  local turns = TURNS
  TURNS = turns // 10
  local x = nb.ones(2)
  assert_flat(function()
    local f, w = nil, leaf()
    f = nb.compile(function(y) return f and (w:detach()[1] * y):sum() end)
    for _ = 1, 5 do f(x) end
  end, 900e3)
  TURNS = turns
end

-- What is still reachable, by whatever way, keeps what it needs.
function T.test_what_lives_keeps_its_hooks()
  local kept = {}
  for k = 1, 300 do
    local w = leaf()
    local z = w * 2
    local aside = z * k
    z:register_hook(function(g) return g + aside[1]:detach() end)
    local J = z:sum()
    kept[k] = { w = w, J = J }
    if k % 3 == 0 then kept[k - 1] = nil end
    local own = leaf()
    own:register_hook(function(g) return g * own:detach() * k end)
    if k % 2 == 0 then kept[k].own = own * 3 end
  end
  collect_all()
  for k, entry in pairs(kept) do
    entry.J:backward()
    lu.assertEquals(entry.w.grad:at(1), (1 + 2 * k) * 2)
    if entry.own then entry.own:sum():backward() end
  end
end

return T
