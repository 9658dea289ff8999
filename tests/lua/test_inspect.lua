-- SPDX-License-Identifier: MIT
-- What all verbs of inspection do with programs that are too long, freed, not scalar, without parameters, or all NaN.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"
local nn, optim, inspect = nb.nn, nb.optim, nb.inspect

local T = {}

local function net()
  return nn.Sequential { nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 3) }
end

-- The call fails with one sentence that has the pieces and nothing of the inside.
local function assert_sentence(pieces, f, ...)
  numeric.assert_error(pieces, f, ...)
  local _, message = pcall(f, ...)
  lu.assertNotStrContains(message, "\n")
  lu.assertNotStrContains(message, "lua/inspect")
end

-- Operators; deeper than Lua lets calls of C nest.
local LONG = (os.getenv "ASAN_OPTIONS" or native.hostile) and 2000 or 10000

function T.test_a_long_program_is_shown_without_recursion()
  local w = nb.tensor({ 1 }, { requires_grad = true, dtype = "f64", name = "w" })
  local function long(x)
    for _ = 1, LONG // 2 do x = x * 0.9999 + 0 end
    return x
  end
  local slope = 0.9999 ^ (LONG // 2)
  local J = long(w):sum()
  lu.assertEquals(inspect.graph(J).data.operators, LONG + 1)
  lu.assertTrue(#tostring(inspect.graph(J)) < 10000)
  local explained = inspect.explain(J, w)
  lu.assertAlmostEquals(explained:value():item(), slope, 1e-9)
  lu.assertTrue(#tostring(explained) < 10000)
  local s = inspect.step(function() return long(w):sum() end)
  s:run()
  lu.assertAlmostEquals(w.grad:item(), slope, 1e-9)
  s:to "start"
  lu.assertNil(w.grad)
  lu.assertTrue(#tostring(s) < 10000)

  local deep = nn.Sequential { nn.Linear(1, 1), nn.Lambda(long) }
  local x, y = nb.tensor { { 1 }, { -1 } }, nb.tensor { { 1 }, { 2 } }
  lu.assertEquals(inspect.summary(deep, x).total.params, 2)
  tostring(inspect.diagnose(deep, x, y, nn.MSELoss(), { opt = optim.SGD(deep:parameters(), { lr = 0.01 }) }))
  lu.assertTrue(inspect.gradcheck(function(v) return long(v) end, { nb.ones(1) }).ok)
end

function T.test_nets_without_parameters()
  local bare, x, y = nn.Sequential { nn.ReLU(), nn.Sigmoid() }, nb.rand(4, 3), nb.rand(4, 3)
  lu.assertEquals(inspect.summary(bare, x).total.params, 0)
  assert_sentence({ "no tensor that requires grad" }, inspect.step, bare, x, y, { loss = nn.MSELoss(), lr = 0.1 })
  assert_sentence({ "no parameters" }, inspect.diagnose, bare, x, y, nn.MSELoss())
  assert_sentence({ "not computed from tensors that require grad" }, inspect.explain, nn.mse(bare(x), y), x)
  assert_sentence({ "nothing was recorded" }, inspect.graph, nn.mse(bare(x), y))
  assert_sentence({ "no Linear layer" }, inspect.diagram, bare)
  local w = inspect.watch(bare)
  nn.mse(bare(x), y)
  w:detach()
  lu.assertStrContains(tostring(w), "no layer computed anything from parameters")
  lu.assertStrContains(getmetatable(w).__display(w, { rich = true })["text/plain"], "no layer computed")
end

function T.test_losses_that_are_not_scalar()
  local n, x, y = net(), nb.rand(4, 3), nb.rand(4, 3)
  local function loss(a, b) return (a - b):square() end
  assert_sentence({ "single number", "4×3" }, inspect.step, n, x, y, { loss = loss, lr = 0.1 })
  assert_sentence({ "single number", "4×3" }, inspect.step, function() return loss(n(x), y) end)
  assert_sentence({ "single number", "4×3" }, inspect.diagnose, n, x, y, loss)
  assert_sentence({ "single number", "4×3" }, inspect.explain, loss(n(x), y), n[1].weight)
  assert_sentence({ "must return the loss", "3" }, inspect.step, function() return 3 end)
  lu.assertStrContains(tostring(inspect.graph(loss(n(x), y))), "4×3")  -- values, no gradients
end

function T.test_tapes_that_a_backward_has_freed()
  local n, x, y = net(), nb.rand(4, 3), nb.rand(4, 3)
  local J = nn.mse(n(x), y)
  J:backward()
  local function freed() return J end
  local before = n[1].weight.grad:totable()
  lu.assertStrContains(tostring(inspect.graph(J)), "has freed the tape")
  assert_sentence({ "freed", "compute J again" }, inspect.explain, J, n[1].weight)
  assert_sentence({ "freed", "compute J again" }, inspect.step, freed)
  assert_sentence({ "freed", "compute J again" }, inspect.diagnose, n, x, y, freed)
  assert_sentence({ "freed", "compute J again" }, inspect.gradcheck, freed, { nb.ones(1) })
  lu.assertEquals(n[1].weight.grad:totable(), before)
  assert_sentence({ "freed" }, inspect.step, function()
    local own = nn.mse(n(x), y)
    own:backward()
    return own
  end)
end

function T.test_nothing_but_nan()
  local n, bad = net(), nb.full({ 4, 3 }, 0 / 0)
  for _, p in ipairs(n:parameters()) do nb.no_grad(function() p:fill_(0 / 0) end) end
  lu.assertEquals(inspect.summary(n, bad).total.params, 31)
  local s = inspect.step(n, bad, bad, { loss = nn.MSELoss(), lr = 0.1 })
  lu.assertStrContains(tostring(s:to("layer 1", "backward")), "NaN")
  s:run():back(99)
  lu.assertEquals(s.pos, 0)
  local J = nn.mse(n(bad), bad)
  lu.assertStrContains(tostring(inspect.explain(J, n[1].weight)), "NaN")
  lu.assertStrContains(tostring(inspect.graph(J)), "nan")
  tostring(inspect.diagram(n, { x = bad[1] }))
  local findings = inspect.diagnose(n, bad, bad, nn.MSELoss(), { opt = optim.SGD(n:parameters(), { lr = 0.1 }) })
  lu.assertEquals({ findings[1].illness, findings[1].layer }, { "NaN", "x" })
  lu.assertFalse(inspect.gradcheck(function(v) return v * bad end, { nb.ones(4, 3) }).ok)
end

return T
