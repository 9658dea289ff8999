-- SPDX-License-Identifier: MIT
-- Runs on disk: a run that was kept, or killed, goes on to the bits of one that never stopped.
local nb = require "nablua"
local lu = require "luaunit"
local running = require "running"
local scratch = require "scratch"
local nn, optim = nb.nn, nb.optim
local standing, differences, make = running.standing, running.differences, running.make

local T = {}

local PROVE = os.getenv "NABLUA_PROVE" == "1"
local KILLS = PROVE and 100 or 8

local files
function T.setUp()
  math.randomseed(5)
  files = scratch.new()
end
function T.tearDown() files:remove() end

function T.test_a_run_that_was_kept_goes_on()
  local path = files:path "k.safetensors"
  for _, case in ipairs { { "dropout", "Adam", "StepLR" }, { "recurrent", "momentum", "OneCycleLR" },
    { "dense", "LBFGS", "none" }, { "convolution", "AdamW", "ReduceLROnPlateau" }, { "attention", "RMSprop", "none" },
    { "shared", "amsgrad", "StepLR" } } do
    local net, opt, schedule = table.unpack(case)
    local whole = make(net, opt, schedule):go()
    for _, k in ipairs { 1, 6, 7, 13 } do
      make(net, opt, schedule):next(k):keep(path)
      nb.rand(5)
      local run = make(net, opt, schedule, { resume = path })
      lu.assertEquals({ run.step, run.first, run.last }, { k, k, k })
      run:go()
      lu.assertEquals(differences(standing(whole), standing(run)), "", net .. k)
      lu.assertEquals(run.history, whole.history)
      run:to(k):to(run.last)
      lu.assertEquals(differences(standing(whole), standing(run)), "", net .. k)
    end
  end
end

-- What is kept is where it stands, not where it has been.
function T.test_keeping_in_the_past()
  local path = files:path "k.safetensors"
  local run = make("dropout", "Adam", "StepLR"):next(12):to(5):keep(path)
  local there = standing(run)
  local other = make("dropout", "Adam", "StepLR", { resume = path })
  lu.assertEquals({ other.step, #other.history.loss }, { 5, 5 })
  lu.assertEquals(differences(there, standing(other)), "")
  lu.assertEquals(differences(standing(run:to(12)), standing(other:next(7))), "")
end

function T.test_a_stream_is_gone_through_to_its_place()
  local function stream()
    nb.seed(7)
    local net = running.nets.dense()
    local x, y = running.samples(12, { 4 })
    local k = 0
    return { net = net, loss = nn.MSELoss(), opt = optim.Adam(net:parameters()), epochs = 3, seed = 1,
      data = function(_, previous)
        if previous == nil then k = 0 end
        k = k + 1
        if k > 3 then return nil end
        local part = { { 4 * k - 3, 4 * k } }
        return x[part] + 0.1 * nb.randn(4, 4), y[part]
      end }
  end
  local whole = nb.run(stream()):go()
  for k = 1, 8 do
    local path = files:path(k .. ".safetensors")
    nb.run(stream()):next(k):keep(path)
    local o = stream()
    o.resume = path
    lu.assertEquals(differences(standing(whole), standing(nb.run(o):go())), "", k)
  end
end

function T.test_fit_and_runs_read_each_other()
  local path = files:path "c.safetensors"
  local function parts()
    nb.seed(9)
    local net, loss = running.nets.dense()
    local x, y = running.samples(20, { 4 })
    return net, loss, optim.Adam(net:parameters(), { lr = 0.01 }), { x, y }
  end
  local function fit(o)
    local net, loss, opt, data = parts()
    nb.seed(3)
    o.size, o.progress = 5, false
    local history = nn.fit(net, loss, opt, data, o)
    return net, history
  end
  local function run(o)
    o.net, o.loss, o.opt, o.data = parts()
    o.size, o.seed = 5, 3
    return nb.run(o)
  end
  local whole, means = fit { epochs = 4 }
  -- by fit, then by a run
  fit { epochs = 2, checkpoint = path }
  local second = run { epochs = 4, resume = path }
  lu.assertEquals(second.step, 8)
  second:go()
  for name, t in pairs(whole:state()) do lu.assertTrue(running.same_bits(t, second.net:state()[name]), name) end
  -- by a run, within an epoch, then by fit
  os.remove(path)
  run { epochs = 4 }:next(6):keep(path)
  local third, curve = fit { epochs = 4, checkpoint = path }
  for name, t in pairs(whole:state()) do lu.assertTrue(running.same_bits(t, third:state()[name]), name) end
  for k = 1, 4 do lu.assertAlmostEquals(curve.loss[k], means.loss[k], 1e-6) end
end

-- ---- the journal ----

local script = [[
local nb = require "nablua"
local path, final = ...
nb.seed(7)
local net = nb.nn.Sequential(nb.nn.Linear(4, 16), nb.nn.BatchNorm1d(16), nb.nn.ReLU(), nb.nn.Dropout(0.3),
  nb.nn.Linear(16, 1))
local opt = nb.optim.Adam(net:parameters(), { lr = 0.01 })
local x = nb.randn(64, 4)
local run = nb.run { net = net, loss = nb.nn.MSELoss(), opt = opt, data = { x, x:sum(2):view(64, 1) }, size = 16,
  epochs = %d, seed = 3, schedule = nb.optim.StepLR(opt, { step_size = 100 }), journal = path, resume = path,
  journal_every = 0.01 }
run:go()
nb.save(final, { net = net:state(), opt = opt:state(), random = nb.random_state(), loss = nb.tensor(run.history.loss,
  { dtype = "f64" }) })
]]

function T.test_killed_at_any_moment()
  if os.execute "command -v timeout >/dev/null" == nil then lu.skip "there is no timeout here" end
  local program, interpreter = files:path "train.lua", assert(arg[-1])
  local f <close> = io.open(program, "w")
  f:write(script:format(500))
  f:close()
  local function train(name, seconds)
    local limit = seconds and ("timeout -s KILL %.3f "):format(seconds) or ""
    local done = os.execute(("{ %s'%s' '%s' '%s' '%s'; } >/dev/null 2>'%s'"):format(limit, interpreter, program,
      files:path(name .. ".safetensors"), files:path(name .. "-end.safetensors"), files:path "said"))
    local said <close> = io.open(files:path "said")
    if not done and not seconds then lu.fail(said:read "a") end
    return done
  end
  local began = os.time()
  train "whole"
  local whole = nb.load(files:path "whole-end.safetensors")
  local kills, ends, number = 0, 0, 0
  while kills < KILLS or ends == 0 do
    number = number + 1
    local name = "run" .. number
    while not train(name, kills < KILLS and 0.01 + 0.5 * math.random() or nil) do kills = kills + 1 end
    ends = ends + 1
    local last = nb.load(files:path(name .. "-end.safetensors"))
    for path, t in pairs(whole.net) do lu.assertTrue(running.same_bits(t, last.net[path]), path) end
    for path, t in pairs(whole.opt) do lu.assertTrue(running.same_bits(t, last.opt[path]), path) end
    lu.assertTrue(running.same_bits(whole.loss, last.loss))
    lu.assertEquals(last.random, whole.random)
  end
  print(("figure: a journal's run was killed %d times, %d ended in the same bits, %d s"):format(kills, ends,
    os.time() - began))
end

function T.test_the_journal_is_written_now_and_then()
  local path = files:path "j.safetensors"
  local run = make("dense", "Adam", "none", { journal = path })
  local function step() return nb.load(path).run.step end
  lu.assertEquals(step(), 0)
  run:next(10)
  lu.assertEquals(step(), 0)  -- less than a minute has passed
  run:go()
  lu.assertEquals(step(), 24)
  local eager = make("dense", "Adam", "none", { journal = files:path "e.safetensors", journal_every = 0 })
  eager:next(3)
  lu.assertEquals(nb.load(files:path "e.safetensors").run.step, 3)
  eager:to(1):to(3)
  eager:fork():next(2)  -- has none of its own
  lu.assertEquals(nb.load(files:path "e.safetensors").run.step, 3)
end

function T.test_a_full_disk_does_not_end_a_training()
  local path = files:path "j.safetensors"
  local run = make("dense", "Adam", "none", { journal = path, journal_every = 0 })
  run:next(2)
  os.execute(("chmod u-w '%s'"):format(files.folder))
  os.execute(("rm -f '%s' && mkdir '%s'"):format(path, path))
  local before, said = io.stderr, {}
  io.stderr = { write = function(_, ...) said[#said + 1] = table.concat { ... } end }  -- luacheck: ignore 122
  local ok, message = pcall(run.next, run, 2)
  io.stderr = before  -- luacheck: ignore 122
  os.execute(("chmod u+w '%s'"):format(files.folder))
  lu.assertTrue(ok, tostring(message))
  lu.assertEquals(run.step, 4)
end

-- ---- sentences ----

function T.test_bad_input()
  local path = files:path "j.safetensors"
  lu.assertErrorMsgContains(".safetensors file", make, "dense", "Adam", "none", { journal = "x.bin" })
  lu.assertErrorMsgContains("nowhere", make, "dense", "Adam", "none", { journal = files:path "nowhere/j.safetensors" })
  lu.assertErrorMsgContains("gone.safetensors", make, "dense", "Adam", "none",
    { resume = files:path "gone.safetensors" })
  local run = make("dense", "Adam", "none", { journal = path })
  run:go()
  lu.assertErrorMsgContains("is there already", make, "dense", "Adam", "none", { journal = path })
  lu.assertErrorMsgContains("does not fit", make, "dropout", "Adam", "none", { resume = path })
  lu.assertErrorMsgContains("has no schedule", make, "dense", "Adam", "StepLR", { resume = path })
  lu.assertErrorMsgContains(".safetensors", run.keep, run, "x")
  lu.assertErrorMsgContains(".safetensors", run.keep, run)
  nb.save(files:path "other.safetensors", { w = nb.ones(2) })
  lu.assertErrorMsgContains("is no checkpoint", make, "dense", "Adam", "none",
    { resume = files:path "other.safetensors" })
  local state = nb.load(path)
  state.run.loss = nb.ones(3)
  nb.save(path, state)
  lu.assertErrorMsgContains("is damaged", make, "dense", "Adam", "none", { resume = path })
end

function T.test_other_kernels_are_said()
  local path = files:path "k.safetensors"
  make("dense", "Adam", "none"):next(3):keep(path)
  local state = nb.load(path)
  state.run.way = "portable kernels, libother.so large products"
  nb.save(path, state)
  local before, said = io.stderr, {}
  io.stderr = { write = function(_, ...) said[#said + 1] = table.concat { ... } end }  -- luacheck: ignore 122
  local ok, run = pcall(make, "dense", "Adam", "none", { resume = path })
  io.stderr = before  -- luacheck: ignore 122
  lu.assertTrue(ok, tostring(run))
  lu.assertStrContains(table.concat(said), "it was computed by portable kernels, libother.so large products, here are")
end

return T
