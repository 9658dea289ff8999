-- SPDX-License-Identifier: MIT
-- Fifty trainings of all kinds, each walked about at random: every place has the bits of the first time, and forks
-- leave their run as it was.  A seeded sample, and all of them, with longer walks, where everything is proved.
local nb = require "nablua"
local lu = require "luaunit"
local compiling = require "compiling"
local running = require "running"
local every = require "every_layer"
local nn = nb.nn

local T = {}

local PROVE = os.getenv "NABLUA_PROVE" == "1"
local ALL, SAMPLE = 50, 8
local MOVES = PROVE and 200 or 25

-- ---- nets: a function that makes one, and a function that makes some inputs ----

local nets = table.move(compiling.nets, 1, #compiling.nets, 1, {})

local names = {}
for name in pairs(every.layers) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do
  local layer = every.layers[name]
  local shape = table.move(layer, 2, #layer, 1, {})
  -- A layer that has parameters or draws numbers, behind one that learns; the others are in the nets above.
  nets[#nets + 1] = { function()
    local Behind = nn.module("Behind", { init = function(self)
      self.scale, self.layer = nb.ones(shape[#shape], { requires_grad = true }), layer[1]()
    end, forward = function(self, x) return (self.layer(x * self.scale)) end })
    return Behind()
  end, function() return nb.randn(shape) end }
end

local cube
local function own_operator()
  cube = cube or nb.operator { name = "swept_cube", doc = "x³.", example = "nb.swept_cube(nb.tensor{2})  --> {8}",
    forward = function(ctx, x)
      ctx:save(x)
      return x * x * x
    end, backward = function(ctx, g) return g * ctx:saved():square() * 3 end }
  return cube
end

nets[#nets + 1] = { function()
  local Own = nn.module("Own", { init = function(self) self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2) end,
    forward = function(self, x) return self.b(own_operator()(self.a(x):tanh())) end })
  return Own()
end, function() return nb.randn(3, 4) end }

nets[#nets + 1] = { function()  -- a buffer that it moves itself, and a count in a field
  local Mean = nn.module("Mean", { init = function(self)
    self.mean, self.seen, self.out = nb.zeros(4), 0, nn.Linear(4, 2)
  end, forward = function(self, x)
    self.seen = self.seen + 1
    nb.no_grad(function() self.mean:mul_(0.9):add_(x:mean(1) * 0.1) end)
    return self.out(x - self.mean) / self.seen
  end })
  return Mean()
end, function() return nb.randn(3, 4) end }

local optimizers = running.sorted(running.optimizers)
local schedules = running.sorted(running.schedules)

-- ---- trainings ----

local function floats(t) return t.dtype == "f32" or t.dtype == "f64" end

local function compiled_step(net, opt)
  return nb.compile(function(bx, by)
    opt:zero_grad()
    local J = nn.mse(net(bx), by)
    J:backward()
    opt:step()
    return J
  end)
end

local function accumulating_step(net)
  return function(bx, by)
    nn.mse(net(bx), by):backward()
    return 0.5 * nn.mse(net(bx * 1), by)
  end
end

-- Batches one after the other, with noise on them that is drawn anew.
local function stream_of(x, y, size)
  local k = 0
  return function(_, previous)
    if previous == nil then k = 0 end
    k = k + 1
    if k * size > x:size(1) then return nil end
    local part = { { (k - 1) * size + 1, k * size } }
    return floats(x) and x[part] + 0.05 * nb.randn_like(x[part]) or x[part], y[part]
  end
end

-- The ith of the sweep, and how it is called in messages.
local function training(i)
  local make, input = table.unpack(nets[i <= 2 and #nets - i + 1 or i * 7 % #nets + 1])
  local rule, schedule_name = optimizers[i % #optimizers + 1], schedules[i % #schedules + 1]
  nb.seed(100 + i)
  local net = make()
  local parts = {}
  for k = 1, 5 do parts[k] = input() end
  local x, size = nb.cat(parts, 1), parts[1]:size(1)
  local y = nb.no_grad(function() return nb.rand_like(net:eval()(x):to("f32")) end)
  net:train()
  if #net:parameters() == 0 then return training(i + ALL) end  -- it has nothing to learn: another in its place
  local opt = running.optimizers[rule](net:parameters())
  local o = { net = net, loss = nn.MSELoss(), opt = opt, data = { x, y }, size = size, epochs = 4, seed = i,
    schedule = running.schedules[schedule_name](opt),
    schedule_per = schedule_name == "OneCycleLR" and "batch" or "epoch",
    clip = i % 7 == 0 and 1 or nil, memory = i % 6 == 0 and 40000 or nil }
  local how = "shuffled"
  if i % 3 == 0 then o.data, how = stream_of(x, y, size), "streamed" end
  if i % 4 == 1 then
    o.step, o.clip, how = compiled_step(net, opt), nil, how .. ", compiled"
  elseif i % 5 == 0 and floats(x) and rule ~= "LBFGS" then
    o.step, how = accumulating_step(net), how .. ", accumulating"
  end
  return nb.run(o), ("%d: %s, %s, %s, %s"):format(i, net:kind(), rule, schedule_name, how)
end

local function fork_and_compare(run, name)
  local before, at = running.standing(run), run.step
  local twin, hot = run:fork(), run:fork { opt = { lr = 0.37 } }
  lu.assertEquals(running.differences(before, running.standing(twin)), "", name)
  twin:next(2)
  hot:next(2)
  lu.assertEquals(run.step, at)
  lu.assertEquals(running.differences(before, running.standing(run)), "", name)
  return twin, hot
end

function T.test_walks()
  math.randomseed(PROVE and 2 or 1)
  local threads, order = nb.threads(), {}
  for i = 1, ALL do order[i] = i end
  if not PROVE then
    for i = ALL, 2, -1 do
      local k = math.random(i)
      order[i], order[k] = order[k], order[i]
    end
    order = table.move(order, 1, SAMPLE, 1, {})
  end
  local walked = 0
  compiling.silently(function()
    for _, i in ipairs(order) do
      nb.threads(i % 2 + 1)
      local run, name = training(i)
      running.walk(name, run, MOVES)
      walked = walked + MOVES
      if not name:find "streamed" then
        run:to(math.max(run.first, 5))
        local twin = fork_and_compare(run, name)
        -- A compiled step is recorded anew in a fork: as it is and as a plan the last bits may differ.
        if not name:find "compiled" then
          lu.assertEquals(running.differences(running.standing(twin), running.standing(run:next(2))), "", name)
        end
      end
    end
  end)
  nb.threads(threads)
  if PROVE then print(("figure: %d trainings, %d random moves, every place with its bits"):format(#order, walked)) end
end

-- What a person at a prompt changes between two steps; each gets the run.
local changes = {
  function(run) run.opt.lr = 10 ^ -math.random(1, 4) end,
  function(run) nb.no_grad(function() run.net:parameters()[1]:mul_(0.5 + math.random()) end) end,
  function(run) nb.no_grad(function() run.net:parameters()[2]:add_(0.1) end) end,
  function(run)
    local p = run.net:parameters()[1]
    p.requires_grad = false
    nb.no_grad(function() p[1] = 0.25 end)
    p.requires_grad = true
  end,
  function(run) run.net.frozen = run.net[1].weight run.net.frozen.requires_grad = false end,
  function(run)
    if run.net.frozen then run.net.frozen.requires_grad = true end
  end,
  function(run) run.net[3] = math.random(2) == 1 and nn.Tanh() or nn.GELU() end,
  function(run) run.net[4].p = math.random() / 2 end,
  function(run) run.opt:load_state(run.opt:state()) end,
  function(run) run.net[2].running_mean:zero_() end,
  function(run) run.net[2].momentum = 0.1 + math.random() / 2 end,
}

function T.test_changes_at_the_prompt()
  math.randomseed(3)
  local runs, changed = PROVE and 100 or 6, 0
  for i = 1, runs do
    local run = running.make("dropout", optimizers[i % #optimizers + 1], schedules[i % #schedules + 1], { seed = i })
    running.walk(("changed %d"):format(i), run, MOVES, function(r)
      if math.random(3) > 1 then return end
      changed = changed + 1
      changes[math.random(#changes)](r)
    end)
  end
  if PROVE then print(("figure: %d runs with %d changes at the prompt, %d moves each"):format(runs, changed, MOVES)) end
end

return T
