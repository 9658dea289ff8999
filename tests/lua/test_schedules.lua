-- SPDX-License-Identifier: MIT
-- Schedules against their formulas in plain Lua numbers.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local optim = nb.optim

local T = {}

local assert_error = numeric.assert_error

local function weight(v)
  return nb.tensor(v, { dtype = "f64", requires_grad = true })
end

-- The rates that a schedule gives, the first before any step.
local function rates(n, name, options, losses)
  local opt = optim.SGD({ weight { 1 } }, { lr = 1 })
  local schedule = optim[name](opt, options)
  local list = { opt.lr }
  for i = 1, n do
    schedule:step(losses and losses[i])
    list[i + 1] = opt.lr
  end
  return list
end

local function assert_rates(have, want)
  lu.assertEquals(#have, #want)
  for i, v in ipairs(want) do lu.assertAlmostEquals(have[i], v, 1e-12) end
end

function T.test_schedules_by_hand()
  assert_rates(rates(4, "StepLR", { step_size = 2, gamma = 0.5 }), { 1, 1, 0.5, 0.5, 0.25 })
  assert_rates(rates(5, "WarmupLR", { warmup = 4, start = 0.2 }), { 0.2, 0.4, 0.6, 0.8, 1, 1 })
  assert_rates(rates(5, "CosineLR", { total_steps = 4, min_lr = 0.2 }), { 1, 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, 0.6,
    0.2 + 0.8 * (1 - math.sqrt(0.5)) / 2, 0.2, 0.2 })
end

function T.test_one_cycle_rises_and_falls()
  local list = rates(9, "OneCycleLR", { max_lr = 2, total_steps = 10, pct_start = 0.4 })
  lu.assertAlmostEquals(list[1], 2 / 25, 1e-12)
  lu.assertAlmostEquals(list[4], 2, 1e-12)
  lu.assertAlmostEquals(list[10], 2 / 25 / 1e4, 1e-12)
  for i = 2, 10 do lu.assertEquals(list[i] > list[i - 1], i <= 4) end
end

function T.test_plateau_waits_for_patience()
  local losses = { 5, 4, 4, 4, 4, 4, 1, 1 }
  assert_rates(rates(8, "ReduceLROnPlateau", { factor = 0.5, patience = 1 }, losses),
    { 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25 })
  assert_error({ "ReduceLROnPlateau", "loss" }, rates, 1, "ReduceLROnPlateau", {})
end

function T.test_warmup_hands_over_to_the_schedule_after_it()
  local function make()
    local opt = optim.SGD({ weight { 1 } }, { lr = 1 })
    return opt, optim.WarmupLR(opt, { warmup = 2, after = optim.StepLR(opt, { step_size = 2, gamma = 0.5 }) })
  end
  local opt, schedule = make()
  local list, state = { opt.lr }, nil
  for i = 1, 6 do
    schedule:step()
    list[i + 1] = opt.lr
    if i == 3 then state = schedule:state() end
  end
  assert_rates(list, { 0, 0.5, 1, 1, 0.5, 0.5, 0.25 })
  local twin, resumed = make()
  resumed:load_state(state)
  twin.lr = 1
  resumed:step()
  lu.assertEquals(twin.lr, 0.5)
  local other = optim.SGD({ weight { 1 } }, { lr = 1 })
  assert_error({ "after", "same optimizer" }, optim.WarmupLR, other, { warmup = 2, after = schedule })
end

function T.test_one_cycle_moves_momentum_the_other_way()
  local opt = optim.Adam({ weight { 1 } })
  local schedule = optim.OneCycleLR(opt, { max_lr = 1, total_steps = 11, pct_start = 6 / 11 })
  lu.assertEquals(opt.betas, { 0.95, 0.999 })
  for _ = 1, 5 do schedule:step() end
  lu.assertAlmostEquals(opt.lr, 1, 1e-12)
  lu.assertAlmostEquals(opt.betas[1], 0.85, 1e-12)
  -- A momentum of 0 is not switched on.
  opt = optim.SGD({ weight { 1 } })
  optim.OneCycleLR(opt, { max_lr = 1, total_steps = 11 }):step()
  lu.assertEquals(opt.momentum, 0)
  assert_error({ "max_lr", "1 groups", "2" }, optim.OneCycleLR, opt, { max_lr = { 1, 2 }, total_steps = 3 })
end

function T.test_plateau_after_a_loss_that_is_no_number()
  assert_rates(rates(6, "ReduceLROnPlateau", { factor = 0.5, patience = 1 }, { 0 / 0, 5, 4, 3, 0 / 0, 2 }),
    { 1, 1, 1, 1, 1, 1, 1 })
end

function T.test_plateau_of_what_should_rise_with_rests()
  assert_rates(rates(6, "ReduceLROnPlateau",
    { mode = "max", factor = 0.5, patience = 0, cooldown = 2, threshold = 0.5, threshold_mode = "abs" },
    { 1, 1.25, 1.25, 1.25, 1.25, 2 }), { 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25 })
end

function T.test_schedules_check_their_arguments()
  local opt = optim.SGD({ weight { 1 } }, { lr = 1 })
  assert_error({ "optim.StepLR", "optimizer" }, optim.StepLR, {}, { step_size = 1 })
  assert_error({ "optim.StepLR", "step_size is missing" }, optim.StepLR, opt)
  assert_error({ '"gama"', '"gamma"' }, optim.StepLR, opt, { step_size = 1, gama = 1 })
end

-- The rates that schedules of functions and chains of schedules give, and what of them a state holds.
function T.test_schedules_of_functions_and_chains()
  local function rates_of(opt, schedule, n)
    local list = { opt.lr }
    for t = 1, n do
      schedule:step()
      list[t + 1] = opt.lr
    end
    return list
  end
  local function sgd() return optim.SGD({ weight { 1 } }, { lr = 1 }) end
  local opt = sgd()
  local halves = optim.LambdaLR(opt, { lr_lambda = function(t) return 2 ^ -t end })
  lu.assertEquals(rates_of(opt, halves, 3), { 1, 0.5, 0.25, 0.125 })
  opt = sgd()
  local factorials = optim.MultiplicativeLR(opt, { lr_lambda = function(t) return t end })
  lu.assertEquals(rates_of(opt, factorials, 4), { 1, 1, 2, 6, 24 })
  local two = optim.SGD({ { params = { weight { 1 } } }, { params = { weight { 1 } } } }, { lr = 1 })
  local each = optim.LambdaLR(two, { lr_lambda = { function() return 2 end, function(t) return t end } })
  each:step()
  each:step()
  lu.assertEquals({ two.groups[1].lr, two.groups[2].lr }, { 2, 2 })
  assert_error({ "lr_lambda", "each of 2 groups" }, optim.LambdaLR, two, { lr_lambda = { math.abs } })
  assert_error({ "lr_lambda", "function" }, optim.LambdaLR, sgd(), { lr_lambda = 3 })
  assert_error({ "lr_lambda must give", "-1" }, optim.LambdaLR, sgd(), { lr_lambda = function() return -1 end })

  local function chain(o)
    return optim.ChainedScheduler(o, { schedulers = { optim.ConstantLR(o, { factor = 0.5, total_iters = 2 }),
      optim.ExponentialLR(o, { gamma = 0.5 }) } })
  end
  opt = sgd()
  local chained = chain(opt)
  lu.assertEquals(rates_of(opt, chained, 3), { 0.5, 0.25, 0.25, 0.125 })
  local other = sgd()
  local again = chain(other)
  again:load_state(chained:state())
  other:load_state(opt:state())
  again:step()
  chained:step()
  lu.assertEquals(other.lr, opt.lr)
  assert_error({ "schedules of the same optimizer" }, optim.ChainedScheduler, sgd(), { schedulers = { chained } })
  assert_error({ "load_state", "2 schedules" }, chained.load_state, chained, { base = { 1 }, steps = 1, parts = {} })
end

function T.test_schedules_one_after_the_other()
  local function sgd() return optim.SGD({ weight { 1 } }, { lr = 1 }) end
  local function sequence(opt)
    local first = optim.ConstantLR(opt, { factor = 0.5, total_iters = 9 })
    local second = optim.ExponentialLR(opt, { gamma = 0.5 })
    return optim.SequentialLR(opt, { schedulers = { first, second, optim.StepLR(opt, { step_size = 1, gamma = 0.1 }) },
      milestones = { 2, 4 } })
  end
  local opt, seen = sgd(), {}
  local s = sequence(opt)
  for t = 0, 5 do
    seen[t + 1] = opt.lr
    if t == 3 then  -- a state goes on in another
      local other = sgd()
      local again = sequence(other)
      again:load_state(s:state())
      other:load_state(opt:state())
      again:step()
      lu.assertAlmostEquals(other.lr, 1, 1e-12)
    end
    s:step()
  end
  -- Half of 1 for two steps; 1 and its half; 1 again, and a tenth.
  for t, want in ipairs { 0.5, 0.5, 1, 0.5, 1, 0.1 } do lu.assertAlmostEquals(seen[t], want, 1e-12) end
  local one = sgd()
  local step = optim.StepLR(one, { step_size = 1 })
  assert_error({ "2 schedules need 1 milestones", "got 2" }, optim.SequentialLR, one,
    { schedulers = { step, step }, milestones = { 1, 2 } })
  assert_error({ "must rise", "2 after 3" }, optim.SequentialLR, one,
    { schedulers = { step, step, step }, milestones = { 3, 2 } })
  assert_error({ "cannot be one" }, optim.SequentialLR, one,
    { schedulers = { optim.ChainedScheduler(one, { schedulers = { step } }), step }, milestones = { 1 } })
end

return T
