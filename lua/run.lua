-- SPDX-License-Identifier: MIT
-- nb.run: a training as a value, that goes forward and back by steps, to the same bits.
--
-- Every now and then a keyframe is taken (run/state.lua); between two of them a step is repeated from its inputs: the
-- batch (run/source.lua), the place in the random numbers, the settings.  What was changed between two steps by
-- somebody else forces a keyframe.
local compile = require "nablua.compile"
local native = require "nablua.native"
local nb = require "nablua.core"
local fork = require "nablua.run.fork"
local disk = require "nablua.run.disk"
local frames = require "nablua.run.frames"
local modes = require "nablua.modes"
local module = require "nablua.nn.module"
local notice = require "nablua.notice"
local options = require "nablua.options"
local params = require "nablua.run.options"
local progress = require "nablua.progress"
local registry = require "nablua.registry"
local source = require "nablua.run.source"
local state = require "nablua.run.state"
local together = require "nablua.dist.together"
local step = require "nablua.run.step"
local visits = require "nablua.run.visits"

local run = registry.home "nablua.run"

local Run = {}                                     -- methods
local inner = setmetatable({}, { __mode = "k" })  -- run → what it is
local TIMED = 4                                    -- every so many steps the time that one takes is measured

local function fail(format, ...)
  native.raise("run: " .. format:format(...))
end

-- ---- one step ----

local function end_epoch(self)
  local place = self.place
  self.means[place.epoch] = place.sum / place.count
  together.equal_buffers(self.net)
  if self.schedule and self.schedule_per == "epoch" and not self.fit then
    self.schedule:step(place.sum / place.count)
  end
  self.place = { epoch = place.epoch + 1, batch = 0, sum = 0, count = 0 }
end

-- The batch of the next step, past the end of an epoch; nil at the end of all, and in nn.fit of each epoch.
local function next_batch(self)
  while self.place.epoch <= self.epochs do
    local place = self.place
    if place.batch == 0 then place.start = nb.random_state() end
    local batch = self.source:next(place, self.at + 1, self.at < self.head)
    if batch then
      if batch.n < 2 and not self.step then
        native.raise((self.by_epochs and "nn.fit" or "run") ..
          ": a batch must have an input and a target, it has one value")
      end
      return batch
    end
    if self.by_epochs and place.batch == 0 then return nil end  -- it says itself what is wrong
    if place.batch == 0 then fail("the data has no batches in epoch %d", place.epoch) end
    end_epoch(self)
    if self.by_epochs then return nil end
  end
end

-- From begin_step to end_step the run stands within a step.  An interrupt may come between any two of their
-- assignments: `between`, the place where the step began, says last in one that it has begun, and in the other that
-- it is over; until then it is over where the run does not stand at its beginning any more.
local function begin_step(self)
  state.begin_step(self)
  local between = source.copy(self.place, self.spare)
  between.at = self.at
  self.between, self.spare = between, nil
end

local function end_step(self, k)
  state.end_step(self)
  self.unsettled = true
  if k > self.head then self.head = k end
  self.at = k
  self.spare, self.between = self.between, nil
end

-- Does the next step; false when there is none.
local function advance(self)
  begin_step(self)
  local batch = next_batch(self)
  if not batch then
    -- A stream says only now that its last epoch has ended; from here on that is known.
    if self.place.epoch > self.epochs then self.over_after = self.at end
    native.whole(end_step, self, self.at)
    return false
  end
  local k = self.at + 1
  local value, n = step.once(self, k, batch)
  local place = self.place
  place.batch, place.sum, place.count = place.batch + 1, place.sum + value * n, place.count + n
  if place.batch == self.source.count or k == self.over_after then end_epoch(self) end
  end_step(self, k)
  return true
end

-- ---- going forward and back ----

-- Brings the run, when it was left within a step, to the end of the one before; from a keyframe, where the step had
-- moved weights.
local function recover(self)
  local at, between = self.at, self.between
  self.between = nil
  if not between or between.at ~= at then return end
  self.place = between
  step.cut(self, self.head)
  if state.undo(self) then
    state.settle(self)
    return
  end
  if self.fit then return end  -- whoever called it gets the error, and the net as it is
  frames.go_back(self, at)
  if together.size() > 1 then  -- steps are those of all ranks, who are in others: align
    self.owed = at
    return
  end
  native.stops_muted = true
  pcall(function()
    while self.at < at do
      if not advance(self) then break end
    end
  end)
  native.stops_muted = nil
  if self.between then
    self.between = nil
    state.end_step(self)
    frames.go_back(self, self.at)
  end
  if self.at < at then
    notice.say("run: the steps before it differ now, too: it stands after step %d, not %d", self.at, at)
  end
end

-- What visitors have written since is written now, where no other steps are known to follow.
local function let_in(self)
  if self.unsettled then state.settle(self) end
  visits.let_in(self)
end

-- What has to happen before a step: looking whether somebody else has been there, unless that is known, and keyframes.
local function prepare(self, alone)
  if self.waiting and self.at == self.head then
    native.whole(let_in, self)
    alone = false
  end
  local change, list, random
  if not alone then
    change, list = state.change(self)
    random = self.by_epochs and self.at == self.head and state.drawn(self)
  end
  if change and self.at < self.head then
    fail("%s after step %d, so that what follows will not be the steps %d to %d that are kept: go on in run:fork(), " ..
      "or drop them with run:cut()", change, self.at, self.at + 1, self.head)
  end
  if change or random then frames.note(self, change, list, random) end
  if self.at == self.head and frames.due(self) then frames.take(self) end
end

-- Does a step with all that goes with it; false when there is none.  `alone`: nobody else has come since the last one.
local function go_on(self, alone)
  native.border()
  prepare(self, alone)
  local began = self.at % TIMED == 0 and native.clock()
  if not advance(self) then
    disk.note(self, true)
    return false
  end
  frames.pass(self)
  if self.journal then disk.note(self) end
  if began then
    self.lasted, self.took = native.clock() - began, frames.took(self)
    frames.learn(self, self.lasted_on_all or self.lasted, self.took_on_all or self.took)
  end
  return true
end

-- Does steps until `self.at` is `last`, calling told() after each.  All of them have the same line of the user's
-- behind them.
local function forward(self, last, told)
  local alone = false
  native.hold_site()
  while self.at < last and not (told and self.asked) and go_on(self, alone) do
    if told then told() end
    alone = true
    if self.pausing then
      self.pausing, alone = nil, false
      if self.unsettled then state.settle(self) end
      if not (native.pause_here and native.pause_here("pause", ("the run stands after step %d"):format(self.at))) then
        break  -- as an interrupt leaves it
      end
    end
  end
  native.let_site()
  if self.unsettled then state.settle(self) end
end

-- What a film of the next step has moved is put back.
local function look_away(self)
  local looked = self.looked
  if not looked then return end
  state.put_back(self, looked.taken)
  looked.taken.frame:drop()
  self.place, self.looked = looked.place, nil
  state.settle(self)
end

-- The same where the random numbers are not the run's.
local function look_away_outside(self)
  local random = nb.random_state()
  look_away(self)
  nb.random_state(random)
end

local function begin_drive(self)
  self.driven, native.stops_muted = true, nil
  visits.begin(self)
  nb.random_state(self.random)
  look_away(self)
  local change, list = state.change(self)
  self.net:train()
  if change and self.at == self.head then
    frames.note(self, change, list)
  elseif not change then
    state.settle(self)  -- the mode is the run's to set, and no change
  end
end

local function end_drive(self, restore_modes, random)
  if not self.driven then return end
  native.let_site()
  step.unfollow(self)
  together.rest()
  recover(self)
  local change = not self.unsettled and state.change(self)
  restore_modes()
  if not change then state.settle(self) end
  self.driven, self.going, self.asked, self.held, self.random = nil, nil, nil, nil, nb.random_state()
  if not self.by_epochs then nb.random_state(random) end  -- nn.fit draws from the numbers of all
  visits.finish(self)
  visits.let_in(self)
end

-- Ranks of a group that something has stopped in different steps go on from where all have been.
local function align(self)
  local at, furthest = together.range(self.owed or self.at)
  local head, most = together.range(self.head)
  local owes = together.any(self.owed ~= nil)
  self.owed = nil
  if at == furthest and head == most and not owes then return end
  step.cut(self, head)
  self.head, self.over_after = math.min(head, self.head), nil
  frames.cut(self, head)
  frames.go_back(self, at)
  forward(self, at)
end

-- f(self, ...) with the net in training mode and the run's own random numbers; after which the modes and the numbers
-- are as they were and the run stands after a step, however f ends.
local function drive(self, f, ...)
  if self.driven then fail "it is going already; call it when the step is done" end
  local restore_modes, random = modes.of(self.net), nb.random_state()
  return modes.restoring(function() end_drive(self, restore_modes, random) end, function(...)
    native.whole(begin_drive, self)
    align(self)
    return f(self, ...)
  end, ...)
end

local function go_to(self, k)
  if state.change(self) and self.at < self.head then
    notice.say("run: what was changed after step %d is not kept, since other steps follow it", self.at)
  end
  frames.before_leaving(self)
  frames.approach(self, k)
  forward(self, k)
  if self.at < k then fail("it ends after step %d", self.at) end
end

-- What somebody in the middle of run:go() has asked for is done between two steps; unless that was to go on, it then
-- waits for the next.
local function obey(self, told)
  repeat
    local asked = self.asked
    self.asked = nil
    if asked then
      self.held = asked.what ~= "play"
      if self.at == self.head then prepare(self) end
      if asked.what == "to" and asked.step <= self.at then
        go_to(self, math.max(asked.step, self.kept[1].step))
      elseif asked.what == "to" then
        forward(self, asked.step)
      end
      told()
    end
    if self.held and not self.asked then nb.sleep(0.02) end  -- which serves visitors
  until not self.held
end

-- The epoch of the last step.
local function epoch_of(self)
  return self.place.batch == 0 and self.at > 0 and self.place.epoch - 1 or self.place.epoch
end

-- The film of the next step.  What it moves is put back before the next drive.
local function look(self)
  self.looked = { taken = state.take(self), place = source.copy(self.place) }
  local batch = next_batch(self)
  if not batch then fail("there is no step after step %d to look at", self.at) end
  return modes.restoring(function() native.stops_muted = nil end, function()
    native.stops_muted = true
    return nb.inspect.step(function()
      self.opt:zero_grad()
      return step.loss_of(self, batch)
    end, { opt = self.opt })
  end)
end

local function method(name, entry)
  entry.name, entry.kind, entry.value = "run:" .. name, "method", entry[1]
  local f = entry[1]
  entry[1], entry.family = nil, "Runs"
  entry.value = function(self, ...)
    local own = inner[self]
    if not own then native.raise(("run:%s: the first argument must be a run, got %s; call it with a colon"):format(name,
      options.describe(self))) end
    return f(own, self, ...)
  end
  Run[name] = registry.add(entry)
end

local sample = "local net, x = nn.Linear(1, 1), nb.rand(8, 1); local run = nb.run{net=net, loss=nn.MSELoss(), " ..
  "opt=optim.SGD(net:parameters(), {lr=0.1}), data={x, 2 * x}, size=4, epochs=3}; "

local function steps_of(what, n)
  if n == nil then return 1 end
  if math.type(n) ~= "integer" or n < 0 then
    native.raise(("%s: needs a whole number of steps, got %s"):format(what, options.describe(n)))
  end
  return n
end

method("next", {
  signature = "run:next(n)", see = { "run:back", "run:to", "run:go" },
  doc = "Does one step, or n, but not past the end.  Returns the run.", example = sample ..
    "return run:next(2).step  --> 2",
  function(self, proxy, n)
    n = steps_of("run:next", n)
    drive(self, function() forward(self, self.at + n) end)
    return proxy
  end,
})

method("to", {
  signature = "run:to(step)", see = { "run:back", "run:next" },
  doc = "Goes to the end of a step, past or future: weights, buffers, moments, schedule and random numbers have the " ..
    "bits that they had, or will have, there.  Lua's variables stay as they are.  Returns the run.",
  example = sample .. "run:go(); local w = net.weight:item(); run:to(1):to(6); return net.weight:item() == w  --> true",
  function(self, proxy, k)
    k = steps_of("run:to", k == nil and "nothing" or k)
    if k < self.kept[1].step then
      native.raise(("run:to: what is kept begins after step %d, got %d"):format(self.kept[1].step, k))
    end
    if k ~= self.at then drive(self, go_to, k) end
    return proxy
  end,
})

method("back", {
  signature = "run:back(n)", see = { "run:to", "run:next" },
  doc = "Goes one step back, or n.  Returns the run.", example = sample .. "return run:next(3):back(2).step  --> 1",
  function(self, proxy, n)
    n = steps_of("run:back", n)
    if self.at - n < self.kept[1].step then
      native.raise(("run:back: it stands after step %d, and what is kept begins after step %d; got %d"):format(self.at,
        self.kept[1].step, n))
    end
    if n > 0 then drive(self, go_to, self.at - n) end
    return proxy
  end,
})

method("go", {
  signature = "run:go()", see = { "run:next", "ui.controls", "nn.fit" },
  doc = "Does all steps that are left, with a bar.  An interrupt leaves it after a step, and run:go() goes on; " ..
    "ui.controls(run) moves it meanwhile.  Returns the run.", example = sample .. "return run:go().step  --> 6",
  function(self, proxy)
    local total = self.source.count and self.source.count * self.epochs
    local bar <close> = progress.progress(total, { label = self.name or "run" })
    bar.visible, bar.done = bar.visible and together.is_first(), self.at
    local function told()
      bar.done = self.at - 1
      bar:step(("epoch %d  loss %.4f"):format(epoch_of(self), self.history.loss[self.at] or 0 / 0))
      if self.told then self.told() end
    end
    drive(self, function()
      self.going = true
      forward(self, math.maxinteger, told)
      while self.asked do
        obey(self, told)
        forward(self, math.maxinteger, told)
      end
    end)
    return proxy
  end,
})

method("pause", {
  signature = "run:pause()", see = { "run:go", "inspect.stop" },
  doc = "For a handler or a callback while the run goes: it pauses at the end of this step, at the prompt or in the " ..
    "debugger, and goes on in the same bits.  Where nobody can be asked it stops there, and run:go() goes on.  " ..
    "Returns the run.",
  example = sample .. "local ok, message = pcall(run.pause, run); return ok  --> false",
  function(self, proxy)
    if not self.driven then fail "it does not go, so that it cannot pause" end
    self.pausing = true
    return proxy
  end,
})
local function is_sum(self)
  return module.is(self.loss) and self.loss.reduction == "sum"
end

-- Those of a run's forks that somebody holds.
local function living(forks)
  local list = setmetatable({}, { __mode = "v" })
  for _, f in pairs(forks or {}) do list[#list + 1] = f end
  return list
end

method("fork", {
  signature = "run:fork({opt={lr=0.1}, name=\"hot\"})", see = { "run:cut", "nb.run" },
  doc = "Another run from where this one stands, with copies of the net, the loss, the optimizer and the schedule, " ..
    "and other options of the optimizer where `opt` gives them, or another `clip`; functions that name these get " ..
    "the copies.  This one stays as it is.  A compiled step is recorded anew.",
  example = sample .. "local hot = run:next(2):fork{opt={lr=0.5}}; hot:next(); " ..
    "return {run.step, hot.step, run.lr, hot.lr}  --> {2, 3, 0.1, 0.5}",
  function(self, _, given)
    if self.driven then fail "it is going; fork it when the step is done" end
    look_away_outside(self)
    local o = options.check("run:fork", params.fork, given)
    local new = fork.of(self, o)
    new.from, new.forks = self.at, nil
    together.parallel(new.net, is_sum(new))
    local child = run.of(new)
    local list = living(self.forks)
    list[#list + 1] = child
    self.forks = list
    return child
  end,
})

method("look", {
  signature = "run:look()", see = { "inspect.step", "run:to" },
  doc = "The next step as inspect.step's film: its batch, its dropout, these weights.  What the film does to the " ..
    "net is undone when the run goes on.", example = sample ..
    "local film = run:next(2):look(); return {#film.steps > 2, run.step}  --> {true, 2}",
  function(self)
    return drive(self, function() return look(self) end)
  end,
})

method("keep", {
  signature = "run:keep(path)", see = { "nb.run", "nn.fit" },
  doc = "Writes where it stands to a .safetensors file, from which nb.run{resume=path, ...}, and nn.fit with " ..
    "checkpoint=path, go on.  Returns the run.", example = sample ..
    "local path = os.tmpname() .. \".safetensors\"; run:next(2):keep(path); local n = nb.load(path).run.step; " ..
    "os.remove(path); return n  --> 2",
  function(self, proxy, path)
    if self.driven then fail "it is going; keep it when the step is done" end
    look_away_outside(self)
    disk.save(self, path)
    return proxy
  end,
})

method("cut", {
  signature = "run:cut()", see = { "run:fork", "run:to" },
  doc = "Drops the steps that were done after the one it stands at, so that others can follow.  Returns the run.",
  example = sample .. "run:next(3):back(2):cut(); return #run.history.loss  --> 1",
  function(self, proxy)
    frames.cut(self, self.at)
    step.cut(self, self.at)
    if self.at < self.head then self.over_after, self.fit = nil, nil end
    self.head = self.at
    return proxy
  end,
})

-- ---- what it shows ----

-- The step of the least loss.
local function best_of(losses)
  local best
  for k, loss in ipairs(losses) do
    if loss == loss and (not best or loss < losses[best]) then best = k end
  end
  return best
end

local fields = {
  step = function(self) return self.at end,
  epoch = function(self) return epoch_of(self) end,
  loss = function(self) return self.history.loss[self.at] end,
  lr = function(self) return self.opt.lr end,
  history = function(self) return self.history end,
  net = function(self) return self.net end,
  opt = function(self) return self.opt end,
  schedule = function(self) return self.schedule end,
  name = function(self) return self.name end,
  first = function(self) return self.kept[1].step end,
  last = function(self) return self.head end,
  best = function(self) return best_of(self.history.loss) end,
  kept_bytes = function(self) return frames.bytes(self) end,
}

local names = {}
for name in pairs(fields) do names[#names + 1] = name end
for name in pairs(Run) do names[#names + 1] = name end
table.sort(names)

local meta = { __name = "run", methods = Run }

function meta.__index(self, key)
  if Run[key] then return Run[key] end
  local field = fields[key]
  if field then return field(inner[self]) end
  native.no_option("run", key, names)
end

function meta.__newindex(_, key)
  native.raise(("run: its field %s cannot be set"):format(options.describe(key)))
end

-- What plot.curve draws of it.
function meta.__series(proxy)
  local self = inner[proxy]
  return { name = self.name or "loss", y = self.history.loss }
end

function meta.__tostring(proxy)
  local self = inner[proxy]
  local ahead = self.head > self.at and (" of %d done"):format(self.head) or ""
  local loss = self.history.loss[self.at]
  return ("run%s(after step %d%s, epoch %d/%d%s, kept from step %d in %.3g MB)"):format(
    self.name and " " .. self.name or "", self.at, ahead, epoch_of(self), self.epochs,
    loss and (", loss %.4g"):format(loss) or "", self.kept[1].step, frames.bytes(self) / 1e6)
end

function meta.__display(proxy, settings)
  local self = inner[proxy]
  self.forks = living(self.forks)
  return require("nablua.run.card").display(self, inner, settings, epoch_of(self), frames.bytes(self))
end

-- ---- making one ----

local function check(o)
  if o.step ~= nil and not options.is_callable(o.step) then
    native.raise("nb.run: step must be a function, got " .. options.describe(o.step))
  end
  if not module.is(o.net) then native.raise("nb.run: net must be a module, got " .. options.describe(o.net)) end
  if not o.step and not module.is(o.loss) and type(o.loss) ~= "function" then
    native.raise("nb.run: loss must be a module such as nn.MSELoss() or a function, got " .. options.describe(o.loss) ..
      "; or give step=, a function of a batch that returns the loss")
  end
  if type(o.opt) ~= "table" or type(o.opt.step) ~= "function" or not o.opt.groups then
    native.raise("nb.run: opt must be an optimizer, got " .. options.describe(o.opt))
  end
  if o.schedule and o.schedule.optimizer ~= o.opt then
    native.raise "nb.run: the schedule must be one of the optimizer opt"
  end
end

function run.is(v)
  return inner[v] ~= nil
end

-- f(doing) at step k, where doing() is its forward and backward; then the run stands where it stood.
function run.during_step(proxy, k, f)
  local self = inner[proxy]
  local at = self.at
  proxy:to(k - 1)
  local result = drive(self, function()
    self.looked = { taken = state.take(self), place = source.copy(self.place) }
    local batch = next_batch(self)
    return f(function()
      self.opt:zero_grad()
      local J = step.loss_of(self, batch)
      if not compile.compiled_of(self.step) then J:backward() end
      return J
    end)
  end)
  proxy:to(at)
  return result
end

-- The first step that two runs did otherwise, and what of it: "rate", "loss" or "weights"; nil where one ends before.
function run.parting(a, b)
  local x, y = inner[a], inner[b]
  local first, second = x.history, y.history
  for k = 1, math.min(x.head, y.head) do
    if first.loss[k] ~= second.loss[k] and (first.loss[k] == first.loss[k] or second.loss[k] == second.loss[k]) then
      return k, "loss"
    end
    if first.lr[k] ~= second.lr[k] then return k, "rate" end
    if x.sums[k] ~= y.sums[k] then return k, "weights" end
  end
end

-- ---- for controls ----

-- Asks a run that goes, by run:go(), to do something between two steps: what = "play", "pause", or "to" with a step.
-- False where it does not go.
function run.ask(proxy, what, k)
  local self = inner[proxy]
  if not self.going then return false end
  self.asked = { what = what, step = k }
  return true
end

-- Where it stands: whether it goes by run:go(), whether it is held there, and its total of steps, where that is known.
function run.standing(proxy)
  local self = inner[proxy]
  return self.going, self.held, self.source.count and math.max(self.source.count * self.epochs, self.head) or nil
end

-- f() is called after steps of run:go().
function run.when_it_steps(proxy, f)
  inner[proxy].told = f
end

-- What is known of a run, for those who write it down.
function run.known_of(proxy)
  return inner[proxy]
end

-- The value that stands for a run; the first keyframe is of where it stands.
function run.of(self)
  local proxy = setmetatable({}, meta)
  inner[proxy] = self
  frames.open(self)
  state.settle(self)
  return proxy
end

registry.add {
  name = "nb.run", kind = "function", value = nb.run, code = function() return run.new end,
  family = "Runs", see = { "run:go", "run:to", "run:next", "run:back", "nn.fit" },
  doc = "A training as a value, which has not begun: run:go() does it, run:next(n) some steps, run:back(n) and " ..
    "run:to(step) go to any step, to the same bits.  run.step, run.epoch, run.loss and run.history say where it " ..
    "stands; run.first and run.last between which steps it can go without training on; run.best is the step of " ..
    "the least loss.",
  signature = "nb.run{net=, loss=, opt=, data=, epochs=1, size=32, shuffle=true, schedule=, seed=, step=, ...}",
  params = params.run, example = sample .. "run:next(4):back(); return {run.step, run.last}  --> {3, 4}",
}

function run.new(given)
  local self = options.check("nb.run", params.run, given)
  check(self)
  self.source = source.of(self.data, self.size, self.shuffle)
  together.parallel(self.net, is_sum(self))
  local outer = nb.random_state()
  if self.seed then
    nb.seed(self.seed)
    together.spread()
  end
  self.random = nb.random_state()
  nb.random_state(outer)
  self.at, self.head, self.history = 0, 0, { loss = {}, lr = {} }
  step.open(self)
  self.place, self.means = { epoch = 1, batch = 0, sum = 0, count = 0 }, {}
  self.opt:zero_grad()
  native.whole(disk.resume, self)
  disk.open_journal(self)
  return run.of(self)
end

require "nablua.run.compare"(run)
require "nablua.run.fitting"(run, inner, { drive = drive, go_on = go_on, prepare = prepare })
run.journals = require "nablua.run.journals"

return run
