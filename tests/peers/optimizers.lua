-- SPDX-License-Identifier: MIT
-- Optimizers over 20 steps and schedules over 30, with random options: `nablua optimizers.lua FOLDER [SEED]`; see
-- run.py.
--
-- An optimizer's case has its options, its groups ({ params =, lr =, ... }) and for each step a gradient for each
-- parameter (LBFGS: nothing, it has a function of its own); the outputs are the parameters at the end.
local here = arg[0]:match("^(.*)/") or "."
package.path = ("%s/?.lua;%s/../lua/?.lua;%s"):format(here, here, package.path)
package.preload.luaunit = function() return {} end  -- numeric.lua names it; nothing here calls it

local nb = require "nablua"
local draw = require "draw"
local record = require("recorder").new(arg[1])
local optim = nb.optim

local seed = math.tointeger(tonumber(arg[2])) or 1
nb.seed(seed)
math.randomseed(seed)

local pick, random = draw.pick, math.random
local STEPS, ROUNDS = 20, 6

local function flag()
  return pick { true, false }
end

-- ---- optimizers ----

local function parameters(dtype, count, name)
  local list = {}
  for k = 1, count do
    local shape = name == "Muon" and pick { { 3, 2 }, { 2, 3 }, { 1, 4 } } or
      pick { { 3 }, { 2, 3 }, { 1 }, { 2, 1, 2 }, name == "Adafactor" and { 4, 1 } or { 0 } }
    list[k] = draw.laid_out(nb.randn(shape, { dtype = dtype }))
    list[k].requires_grad = true
  end
  return list
end

-- Copies that require no gradient, so that the recorder takes none.
local function values(groups)
  local copy = {}
  for k, group in ipairs(groups) do
    copy[k] = {}
    for name, value in pairs(group) do copy[k][name] = value end
    copy[k].params = {}
    for i, p in ipairs(group.params) do copy[k].params[i] = p:detach():clone() end
  end
  return copy
end

local options_of = {
  SGD = function()
    local momentum = pick { 0, 0.9, 0.5 }
    local dampening = momentum > 0 and pick { 0, 0.3 } or 0
    return { lr = pick { 0.1, 0.01 }, momentum = momentum, dampening = dampening, weight_decay = pick { 0, 0.1 },
      nesterov = momentum > 0 and dampening == 0 and flag(), maximize = flag() }
  end,
  Adam = function()
    return { lr = pick { 1e-3, 0.1 }, betas = pick { { 0.9, 0.999 }, { 0.5, 0.9 } }, eps = pick { 1e-8, 1e-3 },
      weight_decay = pick { 0, 0.1 }, amsgrad = flag(), maximize = flag() }
  end,
  RMSprop = function()
    return { lr = pick { 1e-2, 0.1 }, alpha = pick { 0.99, 0.5 }, eps = pick { 1e-8, 1e-3 }, momentum = pick { 0, 0.9 },
      centered = flag(), weight_decay = pick { 0, 0.1 }, maximize = flag() }
  end,
  Adagrad = function()
    return { lr = pick { 1e-2, 0.5 }, lr_decay = pick { 0, 0.1 }, weight_decay = pick { 0, 0.1 },
      initial_accumulator_value = pick { 0, 0.5 }, eps = pick { 1e-10, 1e-3 }, maximize = flag() }
  end,
}
options_of.AdamW = options_of.Adam

local function adam_like(more)
  return function()
    local o = { lr = pick { 1e-3, 0.1 }, betas = pick { { 0.9, 0.999 }, { 0.5, 0.9 } }, eps = pick { 1e-8, 1e-3 },
      weight_decay = pick { 0, 0.1 }, maximize = flag() }
    for key, choices in pairs(more) do o[key] = pick(choices) end
    return o
  end
end
options_of.NAdam = adam_like { momentum_decay = { 4e-3, 0.1 }, decoupled_weight_decay = { true, false } }
options_of.RAdam = adam_like { decoupled_weight_decay = { true, false } }
options_of.Adamax = adam_like {}
options_of.Lion = function()
  return { lr = pick { 1e-3, 0.1 }, betas = pick { { 0.9, 0.99 }, { 0.5, 0.9 } }, weight_decay = pick { 0, 0.1 } }
end
options_of.Adadelta = function()
  return { lr = pick { 1, 0.1 }, rho = pick { 0.9, 0.5 }, eps = pick { 1e-6, 1e-3 }, weight_decay = pick { 0, 0.1 },
    maximize = flag() }
end
options_of.Rprop = function()
  return { lr = pick { 1e-2, 0.1 }, etas = pick { { 0.5, 1.2 }, { 0.3, 2 } },
    step_sizes = pick { { 1e-6, 50 }, { 0.01, 0.2 } }, maximize = flag() }
end
options_of.ASGD = function()
  return { lr = pick { 1e-2, 0.1 }, lambd = pick { 1e-4, 0.1 }, alpha = pick { 0.75, 1 }, t0 = pick { 1e6, 3 },
    weight_decay = pick { 0, 0.1 }, maximize = flag() }
end
options_of.Adafactor = function()
  return { lr = pick { 1e-2, 0.5 }, beta2_decay = pick { -0.8, -0.5 }, eps2 = pick { 1e-3, 0.1 }, d = pick { 1, 2 },
    weight_decay = pick { 0, 0.1 }, maximize = flag() }
end
options_of.Muon = function()
  return { lr = pick { 1e-2, 0.1 }, weight_decay = pick { 0, 0.1 }, momentum = pick { 0.95, 0.5 }, nesterov = flag(),
    ns_steps = pick { 5, 2 }, adjust_lr_fn = pick { "original", "match_rms_adamw" } }
end

local function add_optimizer(name, dtype)
  local options = options_of[name]()
  local groups = { { params = parameters(dtype, 2, name) } }
  if flag() then
    groups[2] = { params = parameters(dtype, 1, name), lr = 0.05, weight_decay = name ~= "Rprop" and 0.2 or nil }
  end
  local start, all = values(groups), {}
  for _, group in ipairs(groups) do table.move(group.params, 1, #group.params, #all + 1, all) end
  local opt, gradients = optim[name](groups, options), {}
  for step = 1, STEPS do
    gradients[step] = {}
    for i, p in ipairs(all) do
      local g = draw.laid_out(nb.randn(p.shape, { dtype = dtype }))
      if random(1, 6) == 1 then g = false end  -- a parameter without a gradient stays as it is
      p.grad = g or nil
      gradients[step][i] = g
    end
    opt:step()
  end
  local outputs = {}
  for i, p in ipairs(all) do outputs[i] = p:detach() end
  record:add("optim." .. name, { options, start, gradients }, outputs)
end

-- Convex, so that the last bits do not decide about the way.
local function valley(w)
  local d = w - nb.arange(1, #w, { dtype = w.dtype })
  local steps = w[{ { 2, -1 } }] - w[{ { 1, -2 } }]
  return (d ^ 2 + d ^ 4 / 2):sum() + 3 * (steps ^ 2):sum() + w:exp():sum() / 10
end

local function add_lbfgs(dtype)
  local w = nb.randn(random(2, 5), { dtype = dtype })
  w.requires_grad = true
  local start = w:detach():clone()
  local options = { lr = 1e-3, max_iter = pick { 1, 2 }, max_eval = 100, history_size = pick { 2, 100 } }
  local steps = STEPS
  if random(1, 3) > 1 then
    options.lr, options.line_search_fn = 1, "strong_wolfe"
    -- Near the minimum the last bits of a loss in f32 decide where the search goes.
    if dtype == "f32" then steps = 3 end
  end
  local opt = optim.LBFGS({ w }, options)
  for _ = 1, steps do
    opt:step(function()
      opt:zero_grad()
      local J = valley(w)
      J:backward()
      return J
    end)
  end
  record:add("optim.LBFGS", { options, start, steps }, { w:detach() })
end

-- ---- schedules ----

local schedules = {
  StepLR = function() return { step_size = random(1, 7), gamma = pick { 0.1, 0.5, 0.9 } } end,
  CosineLR = function() return { total_steps = 30, min_lr = pick { 0, 0.01 } } end,
  WarmupLR = function() return { warmup = random(1, 12), start = pick { 0.1, 0.5 } } end,
  OneCycleLR = function()
    return { max_lr = pick { 1, 0.3 }, total_steps = random(31, 40), pct_start = pick { 0.3, 0.25 },
      anneal_strategy = pick { "cos", "linear" }, div_factor = pick { 25, 5 }, final_div_factor = pick { 1e4, 10 },
      three_phase = flag(), cycle_momentum = flag() }
  end,
  ReduceLROnPlateau = function()
    return { factor = pick { 0.1, 0.5 }, patience = random(0, 3), mode = pick { "min", "max" },
      threshold = pick { 1e-4, 0.05 }, threshold_mode = pick { "rel", "abs" }, cooldown = random(0, 3),
      min_lr = pick { 0, 0.01 } }
  end,
  MultiStepLR = function() return { milestones = { random(1, 5), random(6, 12), random(13, 40) }, gamma = 0.5 } end,
  ExponentialLR = function() return { gamma = pick { 0.9, 0.5, 1.1 } } end,
  ConstantLR = function() return { factor = pick { 0.25, 0.5 }, total_iters = random(1, 12) } end,
  PolynomialLR = function() return { total_iters = random(1, 40), power = pick { 1, 2, 0.5 } } end,
  CosineAnnealingWarmRestarts = function()
    return { T_0 = random(1, 9), T_mult = random(1, 3), eta_min = pick { 0, 0.01 } }
  end,
  CyclicLR = function()
    return { base_lr = pick { 0.01, 0.1 }, max_lr = pick { 0.3, 1 }, step_size_up = random(1, 9),
      step_size_down = pick { nil, random(1, 9) } or nil, mode = pick { "triangular", "triangular2", "exp_range" },
      gamma = pick { 1, 0.95 }, cycle_momentum = flag() }
  end,
}

local function add_schedule(name, after)
  local optimizer, options = pick { "SGD", "Adam" }, schedules[name]()
  local given = { lr = pick { 0.1, 0.5 } }
  if optimizer == "SGD" then given.momentum = 0.9 end
  local opt = optim[optimizer]({ nb.zeros(1, { requires_grad = true }) }, given)
  local full, next_options = {}, after and schedules[after]()
  for key, value in pairs(options) do full[key] = value end
  if after then full.after = optim[after](opt, next_options) end
  local schedule = optim[name](opt, full)
  local rates, momenta, losses = {}, {}, nb.rand({ 30 }, { dtype = "f64" }):cumsum(1):rsqrt() + 1
  for t = 0, 30 do
    if t > 0 then schedule:step(losses:at(t)) end
    rates[t + 1], momenta[t + 1] = opt.lr, optimizer == "SGD" and opt.momentum or opt.betas[1]
  end
  record:add("optim." .. name, { optimizer, given, options, losses, after or false, next_options or {} },
    { nb.tensor(rates, { dtype = "f64" }), nb.tensor(momenta, { dtype = "f64" }) })
end

-- ---- all ----

for _, dtype in ipairs { "f32", "f64" } do
  for _, name in ipairs { "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax", "Lion", "Adadelta",
    "Rprop", "ASGD", "Adafactor", "Muon" } do
    for _ = 1, 2 * ROUNDS do add_optimizer(name, dtype) end
  end
  for _ = 1, 2 * ROUNDS do add_lbfgs(dtype) end
end
for _, name in ipairs { "StepLR", "CosineLR", "WarmupLR", "OneCycleLR", "ReduceLROnPlateau", "MultiStepLR",
  "ExponentialLR", "ConstantLR", "PolynomialLR", "CosineAnnealingWarmRestarts", "CyclicLR" } do
  for _ = 1, 2 * ROUNDS do add_schedule(name) end
end
for _ = 1, ROUNDS do
  add_schedule("WarmupLR", "StepLR")
  add_schedule("WarmupLR", "CosineLR")
end
record:close()
