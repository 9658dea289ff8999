-- SPDX-License-Identifier: MIT
-- What every loss, optimizer, schedule and layer of the registry must keep to, so that a new one is looked at too:
-- targets, ranges of options, states, rates set by hand, modes that come back.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local registry = require "nablua.registry"
local scratch = require "scratch"
local nn, optim, inspect = nb.nn, nb.optim, nb.inspect

local T = {}

local assert_error, assert_close, said = numeric.assert_error, numeric.assert_close, numeric.said

-- The entries of a kind, by the last part of their names; there are some.
local function entries(kind)
  local list = {}
  for _, entry in ipairs(registry.all()) do
    if entry.kind == kind then list[#list + 1] = { entry.name:match "[^.]+$", entry } end
  end
  lu.assertTrue(#list > 1, kind)
  return list
end

local function weight(n)
  return nb.ones(n or 2, { requires_grad = true })
end

-- One that the optimizer takes: Muon has matrices only.
local function weight_for(name, n)
  return name == "Muon" and nb.ones(n or 2, 2, { requires_grad = true }) or weight(n)
end

-- ---- losses ----

-- Of each class of losses: a function of a good prediction, one good target and those that have no meaning for it.
local TARGETS = {
  MSELoss = { { 0.5, 0.5 }, { 7, -3 }, {} }, L1Loss = { { 0.5, 0.5 }, { 7, -3 }, {} },
  HuberLoss = { { 0.5, 0.5 }, { 7, -3 }, {} },
  BCELoss = { { 0.5, 0.5 }, { 0, 0.25 }, { { 1, 2 }, { -1, 1 }, { 0 / 0, 1 } } },
  BCEWithLogitsLoss = { { 0.5, -5 }, { 0, 0.25 }, { { 1, 2 }, { -1, 1 }, { 0 / 0, 1 } } },
  HingeLoss = { { 0.5, -5 }, { -1, 1 }, { { 1, 2 }, { 0, 1 }, { 0 / 0, 1 } } },
  KLDivLoss = { { -1, -2 }, { 0.25, 0.75 }, { { 1, 2 }, { -0.5, 1 }, { 0 / 0, 1 } } },
  CrossEntropyLoss = { { { 1, 2 }, { 3, 4 } }, { 1, 2 },
    { { 0, 1 }, { 1, 3 }, { -1, 1 }, { 1.5, 1 }, { 0 / 0, 1 }, { { 1, 1 }, { 0, 1 } }, { { -1, 2 }, { 0, 1 } } } },
  NLLLoss = { { { -1, -2 }, { -3, -4 } }, { 1, 2 }, { { 0, 1 }, { 1, 3 }, { -1, 1 }, { 1.5, 1 }, { 0 / 0, 1 } } },
  SmoothL1Loss = { { 0.5, 0.5 }, { 7, -3 }, {} },
  PoissonNLLLoss = { { 0.5, -5 }, { 0, 3 }, { { 1, -2 }, { 0 / 0, 1 } } },
  SoftMarginLoss = { { 0.5, -5 }, { -1, 1 }, { { 1, 2 }, { 0, 1 }, { 0 / 0, 1 } } },
  HingeEmbeddingLoss = { { 0.5, 5 }, { -1, 1 }, { { 1, 2 }, { 0, 1 }, { 0 / 0, 1 } } },
  GaussianNLLLoss = { { 0.5, 0.5 }, { 7, -3 }, {}, after = { { 1, 2 } } },
  MarginRankingLoss = { { 0.5, 0.5 }, { -1, 1 }, { { 1, 2 }, { 0, 1 }, { 0 / 0, 1 } }, between = { { 0.1, 0.7 } } },
  CosineEmbeddingLoss = { { { 1, 2 }, { 3, 4 } }, { -1, 1 }, { { 1, 2 }, { 0, 1 }, { 0 / 0, 1 } },
    between = { { { 1, 0 }, { 0, 1 } } } },
  TripletMarginLoss = { { { 1, 2 }, { 3, 4 } }, { { 1, 2 }, { 3, 4 } }, {}, after = { { { 0, 1 }, { 2, 3 } } } },
  MultiMarginLoss = { { { 1, 2 }, { 3, 4 } }, { 1, 2 }, { { 0, 1 }, { 1, 3 }, { -1, 1 }, { 1.5, 1 }, { 0 / 0, 1 } } },
  MultiLabelMarginLoss = { { { 1, 2 }, { 3, 4 } }, { { 1, 0 }, { 2, 1 } }, { { { 3, 0 }, { 2, 1 } },
    { { -1, 0 }, { 2, 1 } }, { { 1.5, 0 }, { 2, 1 } } }, empty = { 0, 3 } },
  MultiLabelSoftMarginLoss = { { { 1, 2 }, { 3, 4 } }, { { 1, 0 }, { 0.5, 1 } }, { { { 1, 2 }, { 0, 1 } } },
    empty = { 0, 3 } },
  CTCLoss = { { { { -1, -2 } }, { { -3, -4 } } }, { { 2 } }, { { { 3 } }, { { 1.5 } } }, empty = { 0, 1 } },
}

-- The arguments of a loss with tensors before or after its target.
local function arguments(case, prediction, target, like)
  local list = { prediction }
  for _, values in ipairs(case.between or {}) do list[#list + 1] = like and prediction:detach() or nb.tensor(values) end
  list[#list + 1] = target
  for _, values in ipairs(case.after or {}) do list[#list + 1] = like and prediction:detach() or nb.tensor(values) end
  return table.unpack(list)
end

function T.test_every_loss_refuses_targets_without_meaning()
  for _, e in ipairs(entries "loss") do
    local name, case = e[1], TARGETS[e[1]]
    lu.assertNotNil(case, name .. " needs targets that it takes and others")
    local prediction = nb.tensor(case[1])
    lu.assertTrue(nb.is_tensor(nn[name]()(arguments(case, prediction, nb.tensor(case[2])))))
    for _, bad in ipairs(case[3]) do
      local ok, message = pcall(nn[name](), arguments(case, prediction, nb.tensor(bad)))
      lu.assertFalse(ok, ("%s takes %s"):format(name, tostring(nb.tensor(bad))))
      lu.assertNotNil(message:find "target" or message:find "label" or message:find "whole", message)
    end
  end
end

function T.test_errors_of_targets_name_the_conversion()
  local z = nb.zeros(2)
  assert_error({ "target 2 is 2", "target - 1" }, nn.bce_with_logits, z, nb.tensor { 1, 2 })
  assert_error({ "target 2 is 2", "2 * target - 3" }, nn.hinge, z, nb.tensor { 1, 2 })
  assert_error({ "target 1 is 0", "2 * target - 1" }, nn.hinge, z, nb.tensor { 0, 1 })
  assert_error({ "sample 2", "sum to 2" }, nn.cross_entropy, nb.zeros(2, 2), nb.tensor { { 0.5, 0.5 }, { 1, 1 } })
  assert_error({ "ignore_index", "probabilities" }, nn.cross_entropy, nb.zeros(1, 2), nb.tensor { { 0.5, 0.5 } },
    { ignore_index = 1 })
  assert_error({ "target 2 is 2" }, nn.bce_with_logits, z, nb.tensor { 1, 2 }, { pos_weight = nb.ones(2) })
  assert_error({ "weight", "shape 2", "2×1" }, nn.bce_with_logits, z, z, { weight = nb.ones(2, 1) })
end

-- PyTorch's rule: the loss is NaN, the gradients are 0; of no samples at all there are none.
function T.test_a_mean_over_nothing_has_gradients_of_zero()
  for _, e in ipairs(entries "loss") do
    local name, case = e[1], TARGETS[e[1]]
    local w = weight(3)
    local shape = type(case[1][1]) == "table" and { 0, 3 } or { 0 }
    local out = (#shape == 2 and nb.ones(0, 3) or nb.ones(0, 3)) * w
    if #shape == 1 then out = out:sum(2) end
    if name == "CTCLoss" then out = out:unsqueeze(1) end
    local J = nn[name]()(arguments(case, out, nb.zeros(case.empty or case.after and shape or { 0 }), true))
    lu.assertTrue(J:item() ~= J:item(), name)
    J:backward()
    lu.assertEquals(w.grad:totable(), { 0, 0, 0 }, name)
    for _, p in ipairs(e[2].params) do
      if p.name == "ignore_index" then
        for _, options in ipairs { {}, { weight = nb.tensor { 1, 2, 3 } } } do
          options.ignore_index = -100
          local v = nb.randn(2, 3, { requires_grad = true })
          J = nn[name](options)(v, nb.tensor { -100, -100 })
          lu.assertTrue(J:item() ~= J:item(), name)
          J:backward()
          lu.assertEquals(numeric.flat(v.grad), { 0, 0, 0, 0, 0, 0 }, name)
          -- What does not count may be anything.
          v = nb.tensor({ { 1, 2, 3 }, { -math.huge, 0, 0 } }, { requires_grad = true })
          J = nn[name](options)(v, nb.tensor { 2, -100 })
          lu.assertTrue(J:item() == J:item(), name)
        end
      end
    end
  end
end

function T.test_tensors_that_losses_were_given_belong_to_the_state()
  for _, e in ipairs(entries "loss") do
    for _, p in ipairs(e[2].params) do
      if p.type == "tensor" then
        local loss = nn[e[1]] { [p.name] = nb.tensor { 1, 2 } }
        local net = nn.Sequential { nn.Linear(1, 2) }
        net.loss = loss
        lu.assertEquals(net:state()["loss." .. p.name]:totable(), { 1, 2 })
        net:load_state(net:state())
        lu.assertEquals(#net:parameters(), 2)
      end
    end
  end
end

-- ---- options ----

local MAKE = {
  StepLR = { step_size = 2 }, CosineLR = { total_steps = 6 }, WarmupLR = { warmup = 4, start = 0.1 },
  OneCycleLR = { max_lr = 1, total_steps = 10 }, ReduceLROnPlateau = { patience = 0, threshold = 1e-9 },
  MultiStepLR = { milestones = { 2, 4 }, gamma = 0.5 }, ExponentialLR = { gamma = 0.9 },
  ConstantLR = { total_iters = 3 }, PolynomialLR = { total_iters = 20, power = 2 },
  CosineAnnealingWarmRestarts = { T_0 = 3, T_mult = 2 }, CyclicLR = { base_lr = 0.1, max_lr = 1, step_size_up = 3 },
  LambdaLR = { lr_lambda = function(t) return 1 / (1 + t) end },
  MultiplicativeLR = { lr_lambda = function() return 0.75 end },
  ChainedScheduler = function(opt)
    local first = optim.StepLR(opt, { step_size = 2, gamma = 0.5 })
    return { schedulers = { first, optim.ConstantLR(opt, { total_iters = 3 }) } }
  end,
  SequentialLR = function(opt)
    local first = optim.StepLR(opt, { step_size = 2, gamma = 0.5 })
    return { schedulers = { first, optim.ConstantLR(opt, { total_iters = 3 }) }, milestones = { 3 } }
  end,
}

-- These options, for an optimizer.
local function options_for(name, opt)
  local make = MAKE[name]
  return type(make) == "function" and make(opt) or make
end

local NUMBERS = { number = true, finite = true, positive = true, ["non-negative"] = true, fraction = true, share = true,
  rates = true, size = true, count = true, ["two fractions"] = true }

-- Schedules of functions or of other schedules have no numbers.
local FUNCTIONS_ONLY = { LambdaLR = true, MultiplicativeLR = true, ChainedScheduler = true,
  SequentialLR = true }

-- Makes an optimizer or schedule with one option set.
local function made(kind, name, option, value)
  if kind == "optimizer" then return optim[name]({ weight_for(name) }, { [option] = value }) end
  local options = option and { [option] = value } or {}
  local opt = optim.SGD({ weight() }, { lr = 1 })
  for key, v in pairs(options_for(name, opt)) do
    if options[key] == nil then options[key] = v end
  end
  return optim[name](opt, options)
end

function T.test_every_number_among_the_options_has_a_range()
  for _, kind in ipairs { "optimizer", "scheduler" } do
    for _, e in ipairs(entries(kind)) do
      local checked = 0
      for _, p in ipairs(e[2].params) do
        if NUMBERS[p.type] then
          checked = checked + 1
          local bad = { math.huge, -math.huge, 0 / 0, -1 }
          if p.type == "fraction" or p.type == "share" or p.name:find "momentum" then bad[#bad + 1] = 2 end
          for _, v in ipairs(bad) do
            local given = p.type == "two fractions" and { 0.5, v } or v
            local ok, message = pcall(made, kind, e[1], p.name, given)
            lu.assertFalse(ok, ("%s takes %s = %s"):format(e[2].name, p.name, tostring(v)))
            lu.assertStrContains(message, p.name)
          end
          lu.assertTrue(p.type ~= "number", ("%s: %s has no range"):format(e[2].name, p.name))
        end
      end
      lu.assertTrue(checked > 0 or FUNCTIONS_ONLY[e[1]], e[1])
    end
  end
end

function T.test_options_that_do_not_go_together_are_refused_by_hand_too()
  local opt = optim.SGD({ weight() }, { lr = 1 })
  assert_error({ "nesterov", "momentum" }, function() opt.nesterov = true end)
  lu.assertFalse(opt.nesterov)
  opt.momentum = 0.5
  opt.nesterov = true
end

-- ---- states ----

-- An optimizer of parameters of the given sizes, that has made two steps.
local function stepped(name, ...)
  local params = {}
  for i, n in ipairs { ... } do params[i] = weight_for(name, n) end
  local opt = optim[name](params, name == "SGD" and { momentum = 0.5 } or nil)
  for _ = 1, 2 do
    opt:step(function()
      opt:zero_grad()
      local J = 0
      for _, p in ipairs(params) do J = J + (p * p):sum() end
      J:backward()
      return J
    end)
  end
  return opt
end

local function without(state, path)
  state[path] = nil
  return state
end

-- Of rules that go element by element: what overflows stays infinite, by none of the options that are off, and its
-- neighbours move as if they were alone.
function T.test_infinities_stay_what_they_are()
  local together = { LBFGS = "it searches by the whole gradient", Adafactor = "it divides by means over all",
    Muon = "it orthogonalizes matrices" }
  for _, e in ipairs(entries "optimizer") do
    local name = e[1]
    for _, given in ipairs(not together[name] and { {}, { momentum = name == "SGD" and 0.9 or nil } } or {}) do
      local w, alone = nb.tensor({ 1, 1 / 0 }, { requires_grad = true }), weight(1)
      local o = { lr = 0.1 }
      for k, v in pairs(given) do o[k] = v end
      local opt, other = optim[name]({ w }, o), optim[name]({ alone }, o)
      for _ = 1, 3 do
        w.grad, alone.grad = nb.tensor { 0.5, 0.25 }, nb.tensor { 0.5 }
        opt:step()
        other:step()
      end
      lu.assertEquals({ w:at(1), w:at(2) }, { alone:at(1), 1 / 0 }, name)
    end
  end
  for _, o in ipairs { {}, { momentum = 0.9 }, { momentum = 0.9, nesterov = true } } do
    o.lr = 0.1
    local w = weight(2)
    local opt = optim.SGD({ w }, o)
    for _ = 1, 2 do
      w.grad = nb.tensor { 1 / 0, 0 }
      opt:step()
    end
    lu.assertEquals(w:totable(), { -1 / 0, 1 })
  end
end

function T.test_states_of_every_optimizer_are_those_of_its_like_only()
  local all = entries "optimizer"
  for _, e in ipairs(all) do
    local name = e[1]
    local opt = stepped(name, 2, 3)
    opt:load_state(opt:state())
    local before = opt:state()
    local function refused(state, what)
      local ok, message = pcall(opt.load_state, opt, state)
      lu.assertFalse(ok, name .. " takes " .. what)
      lu.assertStrContains(message, "load_state")
      for path, t in pairs(before) do lu.assertEquals(numeric.flat(opt:state()[path]), numeric.flat(t), path) end
    end
    refused(stepped(name, 2):state(), "the state of a smaller one")
    refused(stepped(name, 2, 3, 4):state(), "the state of a larger one")
    local remembers = false
    for path in pairs(before) do remembers = remembers or path:find "^%d+%.%a+$" and not path:find "step$" end
    if remembers then refused(stepped(name, 2, 4):state(), "other shapes") end
    refused(optim[name]({ weight_for(name) }):state(), "the state of a smaller one that is new")
    for _, other in ipairs(all) do
      if other[1] ~= name then refused(stepped(other[1], 2, 3):state(), "a state of " .. other[1]) end
    end
    refused(without(opt:state(), "group.1.lr"), "a state without lr")
    local extra = opt:state()
    extra["1.other"] = nb.ones(2)
    refused(extra, "what it does not remember")
    for path, t in pairs(before) do
      if path:find "^1%." then
        local whole = opt:state()
        whole[path] = t:to("i64")
        refused(whole, path .. " as whole numbers")
        local needed = path ~= "1.step" and name ~= "SGD" and path ~= "1.s" and path ~= "1.y"
        if needed then refused(without(opt:state(), path), "a state without " .. path) end
      end
    end
  end
end

function T.test_a_state_in_another_dtype_is_converted()
  local opt = stepped("Adam", 2)
  local w = nb.ones(2, { dtype = "f64", requires_grad = true })
  local other = optim.Adam({ w })
  other:load_state(opt:state())
  lu.assertEquals(other:state()["1.mean"].dtype, "f64")
end

function T.test_states_of_every_schedule_are_those_of_its_like_only()
  for _, e in ipairs(entries "scheduler") do
    local name = e[1]
    lu.assertNotNil(MAKE[name], name .. " needs options to be made with")
    local schedule = made("scheduler", name)
    schedule:step(1)
    local before = schedule:state()
    schedule:load_state(before)
    for key, value in pairs(before) do
      for _, bad in ipairs { type(value) == "number" and -1.5 or 3, "text" } do
        local state = schedule:state()
        state[key] = bad
        if bad ~= value and not (key == "best" and bad ~= "text") then
          assert_error({ "load_state" }, schedule.load_state, schedule, state)
          lu.assertEquals(schedule:state(), before)
        end
      end
    end
    local state = schedule:state()
    state.other = 1
    assert_error({ "load_state", "other" }, schedule.load_state, schedule, state)
    local two = optim.SGD({ { params = { weight() } }, { params = { weight() } } }, { lr = 1 })
    assert_error({ "load_state" }, schedule.load_state, schedule, optim[name](two, options_for(name, two)):state())
  end
end

function T.test_tied_weights_have_both_names()
  local Tied = nn.module("Tied", function(self)
    self.emb, self.out = nn.Embedding(5, 3), nn.Linear(3, 5, { bias = false })
    self.out.weight = self.emb.weight
    self.layers = { self.out }
  end)
  local net = Tied()
  local state = net:state()
  local names = { "emb.weight", "layers.1.weight", "out.weight" }
  for _, name in ipairs(names) do lu.assertNotNil(state[name], name) end
  lu.assertEquals(#net:parameters(), 1)
  net:load_state(state)
  for i, name in ipairs(names) do
    net:load_state { [name] = nb.full({ 5, 3 }, i) }
    lu.assertEquals(net.out.weight:mean():item(), i)
  end
  state["out.weight"] = state["out.weight"] + 1
  assert_error({ "one tensor", "emb.weight", "out.weight" }, net.load_state, net, state)
  lu.assertEquals(net.emb.weight:mean():item(), 3)
  assert_error({ "missing", "emb.weight" }, net.load_state, net, {})
  local list = nn.Sequential { nn.Linear(2, 2), nn.Linear(2, 2) }
  list[2].weight = list[1].weight
  list:load_state({ ["0.weight"] = nb.ones(2, 2), ["1.weight"] = nb.ones(2, 2), ["0.bias"] = nb.ones(2),
    ["1.bias"] = nb.ones(2) }, { from = "pytorch" })
  lu.assertEquals(list[2].weight:sum():item(), 4)
  local files = scratch.new()
  nb.save(files:path "tied.safetensors", net:state())
  net:load_state(nb.load(files:path "tied.safetensors"))
  files:remove()
  net:to("f64")
  lu.assertTrue(rawequal(net.emb.weight, net.out.weight))
end

-- ---- rates that are set by hand ----

-- After a rate is doubled by hand, every later one is twice what it had been (PyTorch's chained schedules: the minimum
-- of a cosine is not scaled, and is 0 here).
function T.test_every_schedule_goes_on_from_a_rate_set_by_hand()
  for _, e in ipairs(entries "scheduler") do
    local function rates(by_hand)
      local opt = optim.SGD({ weight() }, { lr = 1 })
      local schedule, list = optim[e[1]](opt, options_for(e[1], opt)), {}
      for i = 1, 7 do
        schedule:step(i)
        if i == by_hand then opt.lr = opt.lr * 2 end
        list[i] = opt.lr
      end
      return list
    end
    local plain = rates()
    for _, hand in ipairs { 1, 2, 3, 5 } do
      for i, rate in ipairs(rates(hand)) do
        lu.assertAlmostEquals(rate, plain[i] * (i >= hand and 2 or 1), 1e-9, ("%s, step %d"):format(e[1], i))
      end
    end
  end
end

function T.test_a_rate_set_in_the_warmup_reaches_the_schedule_after_it()
  local opt = optim.SGD({ weight() }, { lr = 1 })
  local schedule = optim.WarmupLR(opt, { warmup = 2, after = optim.StepLR(opt, { step_size = 1, gamma = 0.5 }) })
  schedule:step()
  opt.lr = 2 * opt.lr
  local list = {}
  for i = 1, 3 do
    schedule:step()
    list[i] = opt.lr
  end
  lu.assertEquals(list, { 2, 1, 0.5 })
  -- A group that came later moves with the others.
  opt:add_group { params = { weight() }, lr = 8 }
  schedule:step()
  lu.assertEquals({ opt.groups[1].lr, opt.groups[2].lr }, { 0.25, 4 })
end

-- ---- modes ----

-- Every function that is left by an error, in a coroutine that dies and by a return; the modes are mixed before.
function T.test_modes_come_back_from_every_function_that_sets_them()
  local x, y = nb.randn(8, 2), nb.randint(1, 2, 8)
  local ways = {
    function(net, spoil)
      nn.fit(net, nn.CrossEntropyLoss(), optim.SGD(net:parameters()), { x, y }, { progress = false, valid = { x, y },
        metrics = { mine = function() spoil() return 1 end } })
    end,
    function(net, spoil)
      nn.fit(net, function(o, t) spoil(nb.grad_enabled()) return nn.cross_entropy(o, t) end,
        optim.SGD(net:parameters()), { x, y }, { progress = false, valid = { x, y } })
    end,
    function(net, spoil)
      inspect.diagnose(net, x, y, function(o, t) spoil() return nn.cross_entropy(o, t) end)
    end,
    function(net, spoil)
      net.hook = spoil
      nb.plot.boundary(net, { x = x, y = y })
    end,
    function(net, spoil)
      nb.no_grad(function() spoil() return net(x) end)
    end,
    function(net, spoil)
      local opt = optim.LBFGS(net:parameters())
      opt:step(function() spoil() local J = net(x):square():sum(); J:backward(); return J end)
    end,
  }
  local Net = nn.module("Net", function(self) self.a, self.b = nn.Linear(2, 2), nn.Dropout(0.5) end)
  function Net:forward(v)
    if self.hook then self.hook() end
    return self.b(self.a(v))
  end
  for k, way in ipairs(ways) do
    for _, ending in ipairs { "return", "error", "first error" } do
      for _, inside in ipairs { false, true } do
        local net, calls = Net(), 0
        net:eval()
        rawset(net.b, "training", true)
        local function spoil(early)
          calls = calls + 1
          if ending == "first error" and not early or ending == "error" and calls > 1 then error "spoiled" end
        end
        if inside then
          coroutine.resume(coroutine.create(way), net, spoil)
        else
          pcall(way, net, spoil)
        end
        lu.assertEquals({ net.training, net.a.training, net.b.training }, { false, false, true },
          ("way %d, %s%s"):format(k, ending, inside and " in a coroutine" or ""))
        lu.assertTrue(nb.grad_enabled())
        lu.assertTrue((net.a.weight * 2).requires_grad)
        lu.assertTrue(calls > 0, ("way %d, %s"):format(k, ending))
      end
    end
  end
end

function T.test_the_gradient_mode_belongs_to_the_coroutine()
  local function tracked() return (weight() * 2).requires_grad end
  local co = coroutine.create(function()
    nb.no_grad(function()
      coroutine.yield(tracked())
      coroutine.yield(tracked())
    end)
    coroutine.yield(tracked())
  end)
  lu.assertEquals({ select(2, coroutine.resume(co)) }, { false })
  lu.assertTrue(nb.grad_enabled() and tracked())
  lu.assertEquals({ select(2, coroutine.resume(co)) }, { false })
  nb.no_grad(function()
    lu.assertEquals({ select(2, coroutine.resume(co)) }, { false })  -- as of who resumes it
    lu.assertFalse(tracked())
  end)
  lu.assertTrue(tracked())
  local dead = coroutine.create(function() nb.no_grad(error, "x") end)
  coroutine.resume(dead)
  lu.assertTrue(nb.grad_enabled() and tracked())
  lu.assertEquals({ coroutine.close(dead) }, { false, "x" })
  dead = coroutine.create(function() nb.no_grad(coroutine.yield) end)
  coroutine.resume(dead)
  dead = nil  -- luacheck: ignore 311
  collectgarbage()
  collectgarbage()
  lu.assertTrue(tracked())
end

-- ---- optimizers that do not move the net ----

function T.test_an_optimizer_that_moves_nothing_says_so()
  local x = nb.randn(4, 2)
  local function step(net, opt, dtype)
    opt:zero_grad()
    net(x:to(dtype or "f32")):sum():backward()
    opt:step()
  end
  for _, e in ipairs(entries "optimizer") do
    local make = optim[e[1]]
    if e[1] ~= "LBFGS" and e[1] ~= "Muon" then  -- which has no biases
      local net = nn.Sequential { nn.Linear(2, 2), nn.Linear(2, 1) }
      local opt = make(net:parameters())
      lu.assertEquals(said(step, net, opt), "")
      net[2] = nn.Linear(2, 1)
      local text = said(step, net, opt)
      lu.assertStrContains(text, "2 of the net's 4 parameters")
      lu.assertStrContains(text, "2.weight")
      lu.assertEquals(said(step, net, opt), "")
      net:to("f64")
      lu.assertStrContains(said(step, net, opt, "f64"), "none of the net's 4 parameters")
      local fit = function()
        nn.fit(net, nn.MSELoss(), opt, { x:to("f64"), nb.zeros({ 4, 1 }, { dtype = "f64" }) }, { progress = false })
      end
      text = said(fit)
      net:zero_grad()
      lu.assertStrContains(text, "nn.fit: the optimizer holds none of the net's 4 parameters")
      lu.assertStrContains(said(function() optim.SGD({ weight() }):step() end), "has a gradient")
      local findings = inspect.diagnose(net, x:to("f64"), nb.zeros({ 4, 1 }, { dtype = "f64" }), nn.MSELoss(),
        { opt = opt })
      local found = ""
      for _, f in ipairs(findings) do found = found .. f.evidence end
      lu.assertStrContains(found, "none of the net's 4 parameters")
    end
  end
end

-- Two nets with an optimizer each, of which one's loss goes through the other; frozen layers; a step without a module.
function T.test_optimizers_that_share_the_work_are_silent()
  local x = nb.randn(4, 2)
  local a, b = nn.Linear(2, 2), nn.Linear(2, 1)
  local first, second = optim.SGD(a:parameters()), optim.Adam(b:parameters())
  lu.assertEquals(said(function()
    b(a(x)):sum():backward()
    first:step()
    second:step()
    local net = nn.Sequential { nn.Linear(2, 2), nn.Linear(2, 1) }
    net[1].weight.requires_grad, net[1].bias.requires_grad = false, false
    net(x):sum():backward()
    optim.SGD(net[2]:parameters()):step()
    local w = weight()
    w:sum():backward()
    optim.SGD({ w }):step()
  end), "")
end

-- ---- nn.fit ----

function T.test_what_is_ignored_does_not_count()
  local net = nn.Linear(2, 2)
  nb.no_grad(function()
    net.weight:copy_(nb.tensor { { 1, 0 }, { 0, 1 } })
    net.bias:zero_()
  end)
  local x, y = nb.tensor { { 1, 0 }, { 0, 1 }, { 0, 1 }, { 1, 0 } }, nb.tensor { 1, 2, 9, 9 }
  for _, size in ipairs { 4, 1, 2 } do
    local history = nn.fit(net, nn.CrossEntropyLoss { ignore_index = 9 }, optim.SGD(net:parameters(), { lr = 0 }),
      { x, y }, { size = size, shuffle = false, metrics = { "accuracy" }, valid = { x, y }, progress = false })
    lu.assertEquals(history.accuracy, { 1 })
    lu.assertEquals(history.valid_accuracy, { 1 })
    assert_close(history.loss[1], math.log(1 + math.exp(-1)), 1e-6)
  end
end

function T.test_a_loss_that_is_a_sum_is_shown_as_one()
  local net = nn.Linear(1, 1)
  local x, y = nb.ones(6, 1), nb.zeros(6, 1)
  nb.no_grad(function() net.weight:fill_(3) net.bias:zero_() end)
  local history = nn.fit(net, nn.MSELoss { reduction = "sum" }, optim.SGD(net:parameters(), { lr = 0 }), { x, y },
    { size = 2, valid = { x, y }, progress = false })
  lu.assertEquals({ history.loss[1], history.valid_loss[1] }, { 54, 54 })
end

function T.test_data_that_is_nil_is_named()
  local net = nn.Linear(1, 1)
  local function fit(train)
    nn.fit(net, nn.MSELoss(), optim.SGD(net:parameters()), train, { progress = false })
  end
  assert_error({ "train", "got nil" }, fit, nil)
  assert_error({ "train", "shape 4×1, nil" }, fit, { nb.ones(4, 1), nil })
  assert_error({ "train", "{nil, a tensor of shape 4×1}" }, fit, { nil, nb.ones(4, 1) })
end

function T.test_a_checkpoint_says_what_it_overrides()
  local files = scratch.new()
  local path = files:path "c.safetensors"
  local function fit(lr, epochs, gamma, momentum)
    local net = nn.Linear(1, 1)
    local opt = optim.SGD(net:parameters(), { lr = lr, momentum = momentum })
    local schedule = gamma and optim.StepLR(opt, { step_size = 1, gamma = gamma })
    nn.fit(net, nn.MSELoss(), opt, { nb.ones(4, 1), nb.zeros(4, 1) }, { epochs = epochs, checkpoint = path,
      progress = false, schedule = schedule })
    return opt.lr
  end
  lu.assertEquals(said(fit, 0.25, 1), "")
  lu.assertEquals(said(fit, 0.25, 2), "")
  local text = said(function() lu.assertEquals(fit(0.5, 3, nil, 0.5), 0.25) end)
  for _, piece in ipairs { "c.safetensors", "lr = 0.25, not 0.5", "momentum = 0, not 0.5" } do
    lu.assertStrContains(text, piece)
  end
  path = files:path "d.safetensors"
  lu.assertEquals(said(fit, 0.25, 1, 0.5), "")
  lu.assertEquals(said(fit, 0.25, 2, 0.5), "")
  lu.assertStrContains(said(fit, 0.5, 3, 0.25), "gamma = 0.5, not 0.25; lr = 0.25, not 0.5")
  files:remove()
end

-- ---- inspection ----

function T.test_a_gradient_penalty_is_checked()
  local net = nn.Sequential { nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1) }:to("f64")
  local x = nb.randn({ 2, 2 }, { dtype = "f64", requires_grad = true })
  local function penalty(scale)
    return inspect.gradcheck(function(v)
      local g = nb.grad(net(v):sum(), v, { create_graph = true })
      local p = g:square():sum()
      return scale and p * 2 - p:detach() or p
    end, { x, table.unpack(net:parameters()) })
  end
  local result = penalty(false)
  lu.assertTrue(result.ok)
  lu.assertTrue(math.abs(result.worst[1].numeric) > 0)
  lu.assertFalse(penalty(true).ok)
  lu.assertFalse(nb.no_grad(nb.grad_enabled))
end

-- A net whose output is the embedding itself, of size 1: sure and wrong from the start.
function T.test_a_loss_far_above_chance_is_found()
  nb.seed(1)
  local Tied = nn.module("Tied", function(self) self.emb = nn.Embedding(300, 200) end)
  function Tied:forward(x) return self.emb(x):matmul(self.emb.weight:transpose(1, 2)) end
  local net, x, y = Tied(), nb.randint(1, 300, 64), nb.randint(1, 300, 64)
  for _, loss in ipairs { nn.CrossEntropyLoss(), function(o, t) return nn.cross_entropy(o, t) end } do
    local findings = inspect.diagnose(net, x, y, loss)
    lu.assertEquals(#findings, 1)
    lu.assertEquals(findings[1].illness, "loss far above chance")
    lu.assertStrContains(findings[1].evidence, "ln 300 = 5.7")
  end
  assert(load(inspect.diagnose(net, x, y, nn.CrossEntropyLoss())[1].remedy, "remedy", "t", { nb = nb, net = net }))()
  lu.assertEquals(#inspect.diagnose(net, x, y, nn.CrossEntropyLoss()), 0)
end

return T
