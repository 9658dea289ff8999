-- SPDX-License-Identifier: MIT
-- Training that stops anywhere and goes on from its checkpoint: the same bits as training that never stopped.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local scratch = require "scratch"
local nn, optim, data = nb.nn, nb.optim, nb.data

local T = {}

local assert_error = numeric.assert_error
local files

function T.setUp() files = scratch.new() end
function T.tearDown() files:remove() end

local function samples()
  nb.seed(7)
  local x = nb.randn(50, 6)
  return x, (x:sum(2):gt(0):to("i64") + 1)
end

-- A net with all that a seed decides: weights, dropout, and (by the batches) the order of the samples.
local function make(kind)
  local net = nn.Sequential { nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 2) }
  local opt, schedule
  if kind == "Adam" then
    opt = optim.Adam(net:parameters(), { lr = 0.02, weight_decay = 0.01 })
  elseif kind == "LBFGS" then
    opt = optim.LBFGS(net:parameters(), { lr = 0.1, max_iter = 3 })
  else
    opt = optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
  end
  local per = "epoch"
  if kind == "StepLR" then
    schedule = optim.StepLR(opt, { step_size = 1, gamma = 0.7 })
  elseif kind == "OneCycleLR" then
    schedule, per = optim.OneCycleLR(opt, { max_lr = 0.2, total_steps = 28 }), "batch"
  elseif kind == "ReduceLROnPlateau" then
    schedule = optim.ReduceLROnPlateau(opt, { patience = 0, threshold = 0.2 })
  end
  return net, opt, schedule, per
end

-- Trains for 4 epochs of 7 batches; `stop` ends the run by an error when the loss is asked for that often.
local function train(kind, seed, path, stop)
  local x, y = samples()
  nb.seed(seed)
  local net, opt, schedule, per = make(kind)
  local criterion, batches = nn.CrossEntropyLoss(), 0
  local function loss(output, target)
    if nb.grad_enabled() then batches = batches + 1 end
    if batches == stop then error "the power fails" end
    return criterion(output, target)
  end
  local ok, result = pcall(nn.fit, net, loss, opt, data.batches { x, y, size = 8, shuffle = true }, {
    epochs = 4, valid = { x, y }, metrics = { "accuracy" }, schedule = schedule, schedule_per = per, clip = 5,
    keep = "best", checkpoint = path, checkpoint_every = 3, progress = false,
  })
  if not ok then
    lu.assertNotNil(stop)
    lu.assertStrContains(result, "the power fails")
  end
  return net:state(), result, opt:state(), nb.random_state()
end

local function bits(state)
  local out = {}
  for path, t in pairs(state) do
    local parts = {}
    for i, v in ipairs(numeric.flat(t)) do parts[i] = ("%a"):format(v) end
    out[path] = table.concat(parts, " ")
  end
  return out
end

for _, kind in ipairs { "SGD", "Adam", "LBFGS", "StepLR", "OneCycleLR", "ReduceLROnPlateau" } do
  T["test_going_on_gives_the_same_bits_" .. kind] = function()
    local want, history, opt_state, random = train(kind, 1)
    for _, stop in ipairs { 2, 6, 12, 23, 28 } do
      local path = files:path(kind .. stop .. ".safetensors")
      train(kind, 1, path, stop)
      -- Another net, another seed, another order: all that counts comes out of the file.
      local got, again, again_opt, again_random = train(kind, 99, path)
      lu.assertEquals(bits(got), bits(want), "stopped at loss " .. stop)
      lu.assertEquals(bits(again_opt), bits(opt_state))
      lu.assertEquals(again_random, random)
      for name, list in pairs(history) do
        if name ~= "seconds" then lu.assertEquals(again[name], list) end
      end
      lu.assertEquals(#again.seconds, 4)
    end
  end
end

function T.test_stopping_twice_and_training_on()
  local want = train("Adam", 1)
  local path = files:path("c.safetensors")
  train("Adam", 1, path, 5)
  train("Adam", 2, path, 9)
  train("Adam", 3, path, 11)
  lu.assertEquals(bits(train("Adam", 4, path)), bits(want))
  -- A run that is over is not trained further.
  local before = files:read("c.safetensors")
  lu.assertEquals(bits(train("Adam", 5, path)), bits(want))
  lu.assertEquals(files:read("c.safetensors"), before)
end

function T.test_a_checkpoint_that_does_not_fit_changes_nothing()
  local x, y = samples()
  local path = files:path("c.safetensors")
  train("Adam", 1, path, 9)
  local net = nn.Sequential { nn.Linear(6, 3), nn.Linear(3, 2) }
  local opt = optim.Adam(net:parameters())
  local before, random = bits(net:state()), nb.random_state()
  local function fit(options)
    return nn.fit(net, nn.CrossEntropyLoss(), opt, { x, y }, options)
  end
  assert_error({ "c.safetensors", "does not fit", "unexpected", "5.weight", "12×6" }, fit, { checkpoint = path })
  lu.assertEquals(bits(net:state()), before)
  lu.assertEquals(nb.random_state(), random)
  -- The net fits and the optimizer's state does not: the net too stays as it was.
  local state = nb.load(path)
  state.net, state.opt = net:state(), { ["1.mean"] = nb.zeros(5) }
  state.net["1.weight"] = state.net["1.weight"] + 1
  nb.save(path, state)
  assert_error({ "c.safetensors", "1.mean", "3×6" }, fit, { checkpoint = path })
  lu.assertEquals(bits(net:state()), before)
  assert_error({ "has no schedule" }, fit, { checkpoint = path, schedule = optim.StepLR(opt, { step_size = 1 }) })
  nb.save(files:path("model.safetensors"), net:state())
  assert_error({ "model.safetensors", "is no checkpoint" }, fit, { checkpoint = files:path("model.safetensors") })
  assert_error({ ".safetensors" }, fit, { checkpoint = files:path("c.npy") })
  assert_error({ "nowhere" }, fit, { checkpoint = files:path("nowhere/c.safetensors") })
  state.fit = 3
  nb.save(path, state)
  assert_error({ "c.safetensors", "fit", "table" }, fit, { checkpoint = path })
  nb.save(path, { checkpoint = 2 })
  assert_error({ "format 2" }, fit, { checkpoint = path })
  files:write("c.safetensors", "torn")
  assert_error({ "c.safetensors" }, fit, { checkpoint = path })
end

function T.test_one_file_for_a_loop_of_ones_own()
  local net, opt = make "Adam"
  local schedule = optim.CosineLR(opt, { total_steps = 10 })
  local function step()
    opt:zero_grad()
    net(nb.randn(4, 6)):square():sum():backward()
    opt:step()
    schedule:step()
  end
  step()
  nb.save(files:path("all.safetensors"), { net = net:state(), opt = opt:state(), schedule = schedule:state(),
    random = nb.random_state() })
  step()
  local want = bits(net:state())
  local all = nb.load(files:path("all.safetensors"))
  nb.seed(3)
  local twin, twin_opt = make "Adam"
  local twin_schedule = optim.CosineLR(twin_opt, { total_steps = 10 })
  twin:load_state(all.net)
  twin_opt:load_state(all.opt)
  twin_schedule:load_state(all.schedule)
  nb.random_state(all.random)
  net, opt, schedule = twin, twin_opt, twin_schedule
  step()
  lu.assertEquals(bits(net:state()), want)
end

function T.test_states_of_schedules_are_checked()
  local _, opt = make "Adam"
  local schedule = optim.StepLR(opt, { step_size = 3 })
  assert_error({ "load_state", "nil" }, schedule.load_state, schedule, nil)
  assert_error({ "steps", "number" }, schedule.load_state, schedule, { base = { 1 }, step_size = 3, gamma = 0.1 })
  local state = schedule:state()
  state.max_lr = 1
  assert_error({ '"max_lr"' }, schedule.load_state, schedule, state)
  assert_error({ "random_state" }, nb.random_state, { seed = 1 })
  assert_error({ "random_state" }, nb.random_state, 5)
end

return T
