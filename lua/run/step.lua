-- SPDX-License-Identifier: MIT
-- One step of a run: the batch, forward, loss, backward, update; and what of it is noted, so that doing it again can be
-- compared with the first time.
--
-- Of each step are kept its loss and rate, a sample of the bits that it left in the weights, the threads, and
-- how calls of compiled functions went: "" (there were none), "r" (all replayed a plan), "e" (all ran as they are), or
-- "e" and the numbers of the calls that did, each with a comma.  Where a plan and the function itself differ in the
-- last bits, the step is repeated the way it went.
local compile = require "nablua.compile"
local native = require "nablua.native"
local nb = require "nablua.core"
local disk = require "nablua.run.disk"
local log = require "nablua.run.log"
local options = require "nablua.options"
local states = require "nablua.optim.state"
local together = require "nablua.dist.together"

local step = {}

local function fail(format, ...)
  native.raise("run: " .. format:format(...))
end

function step.open(self)
  self.sums, self.how, self.threads = self.sums or {}, self.how or log.new(), self.threads or log.new()
  self.way = self.way or native.way()
  if self.norms then self.history.grad = self.history.grad or {} end
end

-- Of the steps up to the kth nothing is known.
function step.fill(self, k)
  for i = 1, k do self.history.loss[i], self.history.lr[i], self.sums[i] = 0 / 0, 0 / 0, 0 end
end

-- Forgets the steps after the kth, and one that was left when it had been noted.
function step.cut(self, k)
  for i = k + 1, self.head + 1 do
    for _, list in pairs(self.history) do list[i] = nil end
    self.sums[i] = nil
  end
  self.how:cut(k)
  self.threads:cut(k)
end

-- What a fork at step k goes on from.
function step.copy_notes(self, k)
  local history = {}
  for name, list in pairs(self.history) do history[name] = table.move(list, 1, k, 1, {}) end
  return { history = history, means = table.move(self.means, 1, #self.means, 1, {}),
    sums = table.move(self.sums, 1, k, 1, {}), how = self.how:copy(k), threads = self.threads:copy(k) }
end

-- ---- training ----

local function number_of(J)
  local value = nb.is_tensor(J) and J:numel() == 1 and J:item()
  if not value then fail("the loss must be a tensor of one number, got %s", options.describe(J)) end
  return value
end

function step.loss_of(self, batch)
  if self.step then return self.step(table.unpack(batch, 1, batch.n)) end
  if not self.seen then return self.loss(self.net(table.unpack(batch, 1, batch.n - 1)), batch[batch.n]) end
  local output = self.net(table.unpack(batch, 1, batch.n - 1))
  local J = self.loss(output, batch[batch.n])
  self.seen(output, batch[batch.n], J)
  return J
end

-- The norm of all gradients together, which are scaled to be at most `most`.
local function norm_of(self, most)
  return require("nablua.nn").clip_grad_norm(self.net:parameters(), most)
end

-- Whether the optimizer moves all that the net learns, so that the norm comes out of its own pass, where it has one.
local function moves_all(self)
  if self.moves_at == native.built then return self.moves_all end
  local count = 0
  for _, group in ipairs(self.opt.groups) do count = count + #group.params end
  self.moves_at, self.moves_all = native.built, count == #self.net:parameters()
  return self.moves_all
end

local function gradients(self)
  local count = 0
  for _, p in ipairs(self.net:parameters()) do
    if p.grad then count = count + 1 end
  end
  return count
end

-- f(...) with the norm of the gradients, where the optimizer has read all of them in one pass; nil elsewhere.
local function measured(self, f, ...)
  if not self.norms or self.clip or not moves_all(self) then return f(...), nil end
  native.measure(true)
  local result = f(...)
  local norm, count = native.measure()
  if count ~= self.measures then self.measures = count > 0 and count == gradients(self) and count or nil end
  return result, self.measures and norm or nil
end

-- A compiled step does all of it, and what it gives has no history.
local function train_whole(self, batch)
  local before = self.frames:writes()
  self.opt:zero_grad()
  local J, norm = measured(self, self.step, table.unpack(batch, 1, batch.n))
  if self.frames:writes() == before and not states.memory(self.opt)[self.opt.groups[1].params[1]] then
    fail("the compiled step moved no weights; it must do all of it: zero_grad, the loss, backward, opt:step()")
  end
  return number_of(J), norm or self.norms and norm_of(self, math.huge) or nil
end

-- The function that the optimizer calls, once or several times.  What counts is the first: the loss, and ‖∂J/∂W‖ where
-- asked for.
local function trainer_of(self)
  return function()
    native.hold_site "too"
    self.opt:zero_grad()
    local J = step.loss_of(self, self.batch)
    local value = number_of(J)
    self.value = self.value or value
    J:backward()
    if self.clip or self.norms and not self.measures then
      local before = norm_of(self, self.clip or math.huge)
      self.norm = self.norm or before
    end
    return together.loss_for(self.opt, J, value)
  end
end

local function train(self, batch)
  if compile.compiled_of(self.step) then return train_whole(self, batch) end
  self.trainer = self.trainer or trainer_of(self)
  self.batch, self.value, self.norm = batch, nil, nil
  native.hold_site "too"
  local _, norm = measured(self, self.opt.step, self.opt, self.trainer)
  self.batch = nil
  return self.value, norm or self.norm or self.norms and norm_of(self, math.huge) or nil
end

-- ---- how compiled functions are called ----

-- f(n): whether the nth call ran as it is the first time.
local function script_of(how)
  if how == "e" then return function() return true end end
  if how == "" or how == "r" then return nil end
  local eager = {}
  for n in how:gmatch "%d+" do eager[tonumber(n)] = true end
  return function(n) return eager[n] end
end

local function how_they_went(calls)
  local replays = native.plans_replayed() - calls.start
  if not calls.eager then return replays > 0 and "r" or "" end
  return replays == 0 and "e" or "e" .. table.concat(calls.eager, ",") .. ","
end

-- The loss of a step, and how its calls went.  A step that is repeated goes in the way `how`, with so many threads;
-- `now` is how many there are outside of it.
local function follow(self, k, batch, how, threads, now)
  local script = how and script_of(how)
  local calls = self.calls or {}
  self.calls, calls.outer = calls, native.compiled_calls
  calls.start, calls.eager, calls.within, calls.script = native.plans_replayed(), nil, false, script
  calls.threads = threads ~= now and now or nil
  native.compiled_calls = calls
  native.run_step, native.run_name = k, self.name
  if calls.threads then nb.threads(threads) end
  if script then native.plans_hold(true) end
  local value, norm = train(self, batch)
  return value, how_they_went(calls), norm
end

-- After follow, however it ended.
function step.unfollow(self)
  local calls = self.calls
  if not calls or native.compiled_calls ~= calls then return end
  native.compiled_calls, native.run_step, native.run_name, calls.outer = calls.outer, nil, nil, nil
  if calls.script then native.plans_hold(false) end
  if self.norms then native.measure() end
  if calls.threads then nb.threads(calls.threads) end
end

-- ---- comparing with the first time ----

local function same_number(a, b)
  return a == b or a ~= a and b ~= b
end

local function said_of(how)
  return how == "" and "no compiled function" or how == "r" and "replays of plans" or how == "e" and
    "compiled functions that ran as they are" or "some replays of plans"
end

local function difference(self, k, value, sum, how)
  local what
  if not same_number(self.history.loss[k], value) then
    what = ("gave the loss %.17g the first time and %.17g now"):format(self.history.loss[k], value)
  elseif self.sums[k] ~= sum then
    what = ("had the same loss of %.6g as the first time, but left other weights"):format(value)
  else
    return
  end
  local why = "it reads something that is neither data nor state of the training, such as a clock, a file or a " ..
    "variable that was changed, or the data was; inspect.diff(run, run) does it twice and names the operator where " ..
      "that shows"
  if how ~= self.how:get(k) then
    why = ("it had %s then, and %s now"):format(said_of(self.how:get(k)), said_of(how))
    if native.observed() then why = why .. ", since no plan is replayed while stops are set or somebody looks" end
  elseif self.way ~= native.way() then
    why = ("it was computed by %s then, and by %s now"):format(self.way, native.way())
  end
  return ("step %d %s: %s; the run stands after step %d"):format(k, what, why, self.at)
end

-- Of what the optimizer moves.
local function sample_of(opt, k)
  local sum = 0
  for i, group in ipairs(opt.groups) do sum = sum ~ native.sample(group.params, k + i) end
  return sum
end

-- How many samples a batch has on this rank.
local function samples_of(batch)
  return batch.samples or batch[1]:dim() > 0 and batch[1]:size(1) or 1
end

-- In a group all ranks know the same of a step: its loss and the number of its samples, how long the one before took,
-- and keyframes in it, whether rank 1 finds it time to write to the disk.
local function of_all(self, value, batch)
  if together.size() == 1 then
    if self.journal then self.time_to_note = disk.is_due(self) end
    return value, samples_of(batch)
  end
  local count = together.counts() and samples_of(batch) or 0
  local size, due = together.size(), together.is_first() and disk.is_due(self)
  local lasted, spent
  value, count, lasted, spent, due = together.loss(value, count, self.lasted or 0, self.took or 0, due and 1 or 0)
  self.lasted_on_all, self.took_on_all, self.time_to_note = lasted / size, spent / size, due > 0
  return value, count
end

-- Does step k with a batch; its loss and how many samples it had.  One that was done before is compared, and raises
-- an error when it differs.
function step.once(self, k, batch)
  local rate, again = self.opt.lr, k <= self.head
  local now = nb.threads()
  local threads = again and self.threads:get(k) or now
  local value, how, norm = follow(self, k, batch, again and self.how:get(k) or nil, threads, now)
  native.hold_site "alone"
  step.unfollow(self)
  local count
  value, count = of_all(self, value, batch)
  if self.schedule and self.schedule_per == "batch" then self.schedule:step(value) end
  local sum = sample_of(self.opt, k)
  if again then
    local message = difference(self, k, value, sum, how)
    if message then fail("%s", message) end
  else
    self.how:put(k, how)
    self.threads:put(k, threads)
    local history = self.history
    history.loss[k], history.lr[k], self.sums[k] = value, rate, sum
    if self.norms then history.grad[k] = norm end
  end
  return value, count
end

return step
