-- SPDX-License-Identifier: MIT
-- What is kept from step to step never holds a number below the least normal one, at any number of threads; what Lua
-- and operators elsewhere compute of such numbers is as IEEE 754 has it.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local nn, optim = nb.nn, nb.optim

local T = {}

local LEAST = 2 ^ -126

local function subnormals(t)
  local size = t:detach():to("f64"):abs()
  return size:gt(0):logical_and(size:lt(t.dtype == "f64" and 2 ^ -1022 or LEAST)):sum():item()
end

-- Lua's doubles and operators that nobody asked to flush.
local function assert_untouched(where)
  local x = 2 ^ -1060
  lu.assertEquals({ x * 2, x / 2, x + x, 2 ^ -1022 / 4 }, { 2 ^ -1059, 2 ^ -1061, 2 ^ -1059, 2 ^ -1024 }, where)
  lu.assertTrue(x > 0 and x ~= 0, where)
  lu.assertEquals((nb.tensor { LEAST } * 0.5):at(1), LEAST / 2, where)
end

local OPTIMIZERS = {
  { "SGD", { lr = 0.1, momentum = 0.5 } }, { "SGD", { lr = 0.1, momentum = 0.5, nesterov = true, maximize = true } },
  { "SGD", { lr = 0.9, weight_decay = 0.5 } },
  { "Adam", { betas = { 0.5, 0.6 } } }, { "Adam", { betas = { 0.5, 0.6 }, amsgrad = true } },
  { "AdamW", { betas = { 0.5, 0.6 }, weight_decay = 10, lr = 0.05 } },
  { "RMSprop", { alpha = 0.5, momentum = 0.4 } }, { "RMSprop", { alpha = 0.5, centered = true, momentum = 0.4 } },
  { "Adagrad", {} }, { "NAdam", { betas = { 0.5, 0.6 } } }, { "RAdam", { betas = { 0.5, 0.6 } } },
  { "Adamax", { betas = { 0.5, 0.6 } } }, { "Adadelta", { rho = 0.5 } }, { "Lion", { betas = { 0.5, 0.6 } } },
  { "Rprop", {} }, { "ASGD", { lr = 0.9, weight_decay = 0.5 } }, { "Adafactor", {} }, { "Muon", { momentum = 0.5 } },
}

-- Weights of which some have a gradient at the first step alone, as those of a unit that dies: what is remembered of
-- them halves at each step, and passes the least normal number after some 130 (its square root: 260, in f64 2,100).
local function age(entry, dtype, steps)
  local name, o = entry[1], entry[2]
  local w = nb.full({ 16, 16 }, 0.5, { dtype = dtype, requires_grad = true })
  local alive = nb.zeros(16, 16, { dtype = dtype })
  alive[1] = 1
  local opt = optim[name]({ w }, o)
  for t = 1, steps do
    opt:zero_grad()
    opt:step(function()
      local J = (w * (t == 1 and 0.001 or alive * 0.001)):sum()
      J:backward()
      if t % 100 == 0 then assert_untouched(name) end
      return J
    end)
    if t % 10 == 0 then
      lu.assertEquals(subnormals(w), 0, ("%s: a weight of step %d"):format(name, t))
      for path, kept in pairs(opt:state()) do
        if nb.is_tensor(kept) then lu.assertEquals(subnormals(kept), 0, ("%s: %s, step %d"):format(name, path, t)) end
      end
    end
  end
  assert_untouched(name)
  return opt, w
end

function T.test_optimizers_keep_none()
  for _, entry in ipairs(OPTIMIZERS) do age(entry, "f32", 400) end
  age(OPTIMIZERS[1], "f64", 1200)
  age(OPTIMIZERS[4], "f64", 1200)
end

-- By hand: 0.001·½, and half of it at each step.
function T.test_moments_end_in_zero()
  local opt = age({ "Adam", { betas = { 0.5, 0.6 } } }, "f32", 100)
  lu.assertAlmostEquals(opt:state()["1.mean"]:at(2, 1) / (0.001 * 2 ^ -100), 1, 1e-5)
  opt = age({ "Adam", { betas = { 0.5, 0.6 } } }, "f32", 130)
  lu.assertEquals(opt:state()["1.mean"]:at(2, 1), 0)
  lu.assertAlmostEquals(opt:state()["1.mean"]:at(1, 1), 0.001, 1e-8)
end

local function bits_of(threads, name, o)
  local before = nb.threads()
  nb.threads(threads)
  nb.seed(3)
  local w = nb.full({ 100000 }, 0.5, { requires_grad = true })
  local c = nb.randn(100000):exp() * LEAST
  local opt = optim[name]({ w }, o)
  for _ = 1, 5 do
    opt:zero_grad();
    (w * c):sum():backward()
    opt:step()
  end
  nb.threads(before)
  return opt:state(), w
end

function T.test_the_same_bits_at_any_number_of_threads()
  for _, entry in ipairs { { "Adam", { eps = 1e-30 } }, { "NAdam", { eps = 1e-30 } }, { "SGD", { momentum = 0.3 } } } do
    local one, w1 = bits_of(1, entry[1], entry[2])
    for threads = 2, 4 do
      local more, w = bits_of(threads, entry[1], entry[2])
      lu.assertTrue(w:eq(w1):all():item(), entry[1])
      for path, t in pairs(one) do
        if nb.is_tensor(t) then lu.assertTrue(t:eq(more[path]):all():item(), entry[1] .. " " .. path) end
      end
    end
  end
end

-- A channel whose values are 0 from some call on: its running values are halved.
local function decaying(call)
  local norm = nn.BatchNorm1d(3, { momentum = 0.5 })
  norm(nb.tensor { { 1, 2, 3 }, { 4, 5, 7 } })
  local zeros = nb.zeros(2, 3)
  local run = call(function(x) return norm(x) end)
  for _ = 1, 140 do run(zeros) end
  return norm, run
end

function T.test_running_values_keep_none()
  local function compiled(f)
    return nb.compile(function(x) return f(x):detach() end)
  end
  for _, call in ipairs { function(f) return f end, compiled } do
    local norm, run = decaying(call)
    if call == compiled then lu.assertStrMatches(tostring(run), ".* 13%d replays.*") end
    lu.assertEquals(norm.running_mean:totable(), { 0, 0, 0 })
    lu.assertEquals(norm.running_var:totable(), { 0, 0, 0 })
  end
  assert_untouched("BatchNorm1d")
end

function T.test_averages_keep_none()
  local net = nn.Linear(2, 1)
  local average = nn.AveragedModel(net, { decay = 0.5 })
  average:update_parameters(net)
  nb.no_grad(function() for _, p in ipairs(net:parameters()) do p:zero_() end end)
  for _ = 1, 140 do average:update_parameters(net) end
  lu.assertTrue(average.module.weight:abs():max():item() < 2 * LEAST)
  lu.assertEquals(subnormals(average.module.weight), 0)
end

-- With tanh(w·h) and w = ½ the state halves at each of 140 steps.
function T.test_recurrent_states_keep_none()
  local rnn = nn.RNN(1, 1)
  nb.no_grad(function()
    for _, p in ipairs(rnn:parameters()) do p:fill_(0) end
    rnn.weight_hh_l0:fill_(0.5)
  end)
  local y = rnn(nb.zeros(140, 1, 1), nb.full({ 1, 1, 1 }, 0.01))
  lu.assertEquals(subnormals(y), 0)
  lu.assertEquals(y:at(140, 1, 1), 0)
  lu.assertAlmostEquals(y:at(100, 1, 1) / (y:at(50, 1, 1) * 2 ^ -50), 1, 1e-5)
  assert_untouched("RNN")
end

-- An error in the middle of a step takes the mode along.
function T.test_an_error_ends_it()
  local w = nb.zeros(3, { requires_grad = true })
  w:sum():backward()
  local muon = optim.Muon({ w })
  for _, call in ipairs { pcall, function(f, ...) return coroutine.resume(coroutine.create(f), ...) end } do
    lu.assertFalse((call(muon.step, muon)))
    assert_untouched("after an error")
    lu.assertFalse((call(native.settle, error, "stop")))
    assert_untouched("after another")
  end
  lu.assertEquals(native.settle(function(x) return (x * 0.5):at(1) end, nb.tensor { LEAST }), 0)
end

return T
