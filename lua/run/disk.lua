-- SPDX-License-Identifier: MIT
-- What a run leaves on disk: checkpoints (lua/checkpoint.lua) with what a run has beside.
--
-- run: step, place (in the data), loss, lr, grad (where it is asked for), sums (what is noted of each step, as
-- tensors), how and threads (the logs, as text), way (of the kernels), criterion (the state of a loss module).
local checkpoint = require "nablua.checkpoint"
local compile = require "nablua.compile"
local files = require "nablua.files"
local log = require "nablua.run.log"
local modes = require "nablua.modes"
local module = require "nablua.nn.module"
local native = require "nablua.native"
local nb = require "nablua.core"
local notice = require "nablua.notice"
local options = require "nablua.options"
local source = require "nablua.run.source"
local together = require "nablua.dist.together"

local disk = {}

local function fail(format, ...)
  native.raise("run: " .. format:format(...))
end

-- ---- writing ----

local function numbers(list, n, dtype)
  return nb.tensor(table.move(list, 1, n, 1, {}), { dtype = dtype })
end

local function states(self)
  local place, k, zeros, outer = self.place, self.at, {}, nb.random_state()
  for i = 1, place.epoch - 1 do zeros[i] = 0 end
  local all = modes.restoring(function() nb.random_state(outer) end, function(training)
    if not self.driven then nb.random_state(self.random) end
    local found = checkpoint.states(training)
    found.randoms = together.random_states()
    return found
  end, {
    net = self.net, opt = self.opt, schedule = self.schedule, epoch = place.epoch, batch = place.batch,
    start = place.start, began = native.clock(), waited = 0,
    tally = { n = place.count, sums = { loss = place.sum }, counts = { loss = place.count } },
    history = { seconds = zeros, loss = table.move(self.means, 1, place.epoch - 1, 1, {}) },
  })
  all.run = { step = k, place = source.copy(place), way = self.way, how = self.how:text(k),
    threads = self.threads:text(k), loss = numbers(self.history.loss, k, "f64"),
    lr = numbers(self.history.lr, k, "f64"),
    grad = self.history.grad and numbers(self.history.grad, k, "f64"), sums = numbers(self.sums, k, "i64"),
    criterion = module.is(self.loss) and self.loss:state() or nil }
  return all
end

-- The first of a group writes.
local function write(path, all)
  if together.is_first() then files.save(path, all) end
end

function disk.save(self, path)
  if type(path) ~= "string" or not path:match "%.safetensors$" then
    native.raise("run:keep: needs the name of a .safetensors file, got " .. options.describe(path))
  end
  write(path, states(self))
end

-- ---- the journal ----

-- Whether it is time for a keyframe on the disk, after a step.
function disk.is_due(self)
  return self.journal ~= nil and (not self.noted or native.clock() - self.noted >= self.journal_every)
end

-- A file that is there already is not lost without a word.
function disk.open_journal(self)
  local path = self.journal
  if not path then return end
  if not path:match "%.safetensors$" then
    native.raise("nb.run: journal must be the name of a .safetensors file, got " .. options.describe(path))
  end
  if self.resumed then return end
  if together.exists(path) then
    native.raise(("nb.run: the journal %s is there already; go on from it with resume=, or remove it"):format(path))
  end
  write(path, states(self))  -- a folder that cannot be written to is better known now
  self.written, self.noted = self.at, native.clock()
end

-- A keyframe at the end of what has been done, where it is time, as rank 1 said with the step, or `must` be.  A disk
-- that is full is no reason to end a training.
function disk.note(self, must)
  if not self.journal or self.at ~= self.head or self.written == self.at then return end
  if not must and not self.time_to_note then return end
  local ok, message = pcall(write, self.journal, states(self))
  self.written, self.noted = self.at, native.clock()
  if not ok then
    notice.say("run: the journal is not written, and what is there stays: %s",
      (tostring(message):gsub("^[^:]*:%d+: ", "")))
  end
end

-- ---- reading ----

local function lists_of(found, step)
  local lists = {}
  for _, name in ipairs { "loss", "lr", "sums", "grad" } do
    local t = found[name]
    if name == "grad" and t == nil then break end
    if not nb.is_tensor(t) or t:dim() ~= 1 or t:numel() ~= step then return nil end
    lists[name] = t:totable()
  end
  return lists
end

-- Where nn.fit wrote it nothing is known of single steps.
local function of_fit(self, path)
  if not self.source.count then
    fail("the checkpoint %s is nn.fit's, which does not say after how many steps of an iterator; give data as " ..
      "{x, y} or data.batches", path)
  end
  local place, lists = self.place, { loss = {}, lr = {}, sums = {} }
  local step = (place.epoch - 1) * self.source.count + place.batch
  for k = 1, step do lists.loss[k], lists.lr[k], lists.sums[k] = 0 / 0, 0 / 0, 0 end
  return step, lists
end

local function is_place(p)
  return type(p) == "table" and math.type(p.epoch) == "integer" and math.type(p.batch) == "integer" and
    type(p.sum) == "number" and type(p.count) == "number" and (p.batch == 0 or type(p.start) == "table")
end

local function tell_differences(self, path, found)
  local threads = found.threads and self.threads:get(found.step)
  if self.way ~= native.way() then
    notice.say("run: bits will differ from those of the run in %s: it was computed by %s, here are %s", path, self.way,
      native.way())
  elseif threads and threads ~= nb.threads() and not self.way:find "own large" then
    notice.say("run: bits may differ from those of the run in %s: it had %d threads, here are %d", path, threads,
      nb.threads())
  end
  if compile.compiled_of(self.step) and self.how:get(found.step) == "r" then
    notice.say "run: the compiled step is recorded anew: until then it runs as it is, whose last bits may differ"
  end
  self.way = native.way()
end

-- Puts the run where a checkpoint stands.  A file that is not there yet is no error where it is the journal, too.
function disk.resume(self)
  local path = self.resume
  if not path or path == self.journal and not together.exists(path) then return end
  local fit = { net = self.net, opt = self.opt, schedule = self.schedule, tally = {} }
  local outer = nb.random_state()
  local all = checkpoint.read("run", path, fit)
  self.random = nb.random_state()
  nb.random_state(outer)
  local found, step, lists = all.run
  self.place = { epoch = fit.epoch, batch = fit.batch, start = fit.start, sum = fit.tally.sums.loss or 0,
    count = fit.tally.n }
  if found == nil then
    step, lists = of_fit(self, path)
    found = { step = step }
  else
    step = type(found) == "table" and found.step
    lists = math.type(step) == "integer" and lists_of(found, step)
    if not lists or not is_place(found.place) or type(found.how) ~= "string" or type(found.threads) ~= "string" then
      fail("the checkpoint %s is damaged: what it says of its run does not fit together", path)
    end
    self.place, self.way = found.place, found.way
    self.how, self.threads = log.of_text(found.how), log.of_text(found.threads)
    if found.criterion and module.is(self.loss) then self.loss:load_state(found.criterion) end
  end
  self.at, self.head, self.sums, self.resumed = step, step, lists.sums, true
  self.history.loss, self.history.lr = lists.loss, lists.lr
  if self.norms then
    self.history.grad = lists.grad or {}
    for k = #self.history.grad + 1, step do self.history.grad[k] = 0 / 0 end
  end
  self.means = fit.history.loss or {}
  self.written = step
  tell_differences(self, path, found)
end

return disk
