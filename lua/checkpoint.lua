-- SPDX-License-Identifier: MIT
-- The checkpoints of nn.fit and of runs: all that a training needs to go on as if nothing had happened, in one file.
--
--   net opt schedule best    states of the net (now, and at its best), the optimizer, the schedule
--   random                   the place in the random numbers; of other ranks than the first in `randoms`, a row each
--   fit                      where the training is; `start` is the place in the random numbers at the epoch's begin,
--                            from which the batches already seen are drawn once more
--   history                  what nn.fit returns
--   run                      what a run has beside (run/disk.lua)
local native = require "nablua.native"
local nb = require "nablua.core"
local files = require "nablua.files"
local notice = require "nablua.notice"
local options = require "nablua.options"
local together = require "nablua.dist.together"

local checkpoint = {}

local FORMAT = 1
local SECONDS = 60  -- between two checkpoints, where no number of batches is given

local function fail(self, format, ...)
  native.raise(("%s: the checkpoint %s "):format(self.where or "nn.fit", self.path) .. format:format(...))
end

-- Of a training that has the fields of nn.fit's; of all ranks where its tally is theirs.
function checkpoint.states(run)
  local tally = run.tally.of_all and run.tally:of_all() or run.tally
  return {
    checkpoint = FORMAT, net = run.net:state(), opt = run.opt:state(), schedule = run.schedule and run.schedule:state(),
    best = run.best_state, random = nb.random_state(), history = run.history,
    fit = { epoch = run.epoch, batch = run.batch, start = run.start, seconds = native.clock() - run.began,
      tally = { n = tally.n, sums = tally.sums, counts = tally.counts }, best = run.best,
      best_epoch = run.best_epoch, waited = run.waited, ended = run.ended },
  }
end

-- On all ranks; the first writes.
local function save(self)
  local state = checkpoint.states(self.run)
  state.randoms = together.random_states()
  if together.is_first() then files.save(self.path, state) end
  self.saved = native.clock()
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for i = 1, math.max(#a, #b) do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- The options that the program gives now and the checkpoint has otherwise, as text.  What a schedule moves is compared
-- where the schedule has it from.
local function differences(run, state)
  local list = {}
  local function compare(name, now, then_)
    if then_ ~= nil and not same(now, then_) then
      list[#list + 1] = ("%s = %s, not %s"):format(name, options.show(then_), options.show(now))
    end
  end
  local schedule, moved = run.schedule, run.schedule and { lr = true, momentum = true, betas = true } or {}
  for k, group in ipairs(run.opt.groups or {}) do
    for name, now in pairs(group) do
      local then_ = state.opt[("group.%d.%s"):format(k, name)]
      if nb.is_tensor(then_) and not moved[name] then
        compare(name, now, then_:dim() == 0 and then_:item() or then_:totable())
      end
    end
  end
  if schedule and schedule.base and type(state.schedule.base) == "table" then
    compare("lr", #schedule.base == 1 and schedule.base[1] or schedule.base,
      #state.schedule.base == 1 and state.schedule.base[1] or state.schedule.base)
    for _, p in ipairs(schedule.params or {}) do
      if not p.unsaved then compare(p.name, schedule[p.name], state.schedule[p.name]) end
    end
  end
  table.sort(list)
  return table.concat(list, "; ")
end

-- Applies all of a checkpoint, or nothing.
local function restore(self, state)
  local run = self.run
  local before = { net = run.net:state(), opt = run.opt:state(), schedule = run.schedule and run.schedule:state() }
  local function apply(s)
    run.net:load_state(s.net)
    run.opt:load_state(s.opt)
    if run.schedule then run.schedule:load_state(s.schedule) end
  end
  local other = differences(run, state)
  local ok, message = pcall(apply, state)
  if not ok then
    apply(before)
    fail(self, "does not fit: %s", tostring(message):gsub("^[^:]*:%d+: ", ""))
  end
  if other ~= "" then
    notice.say("%s: the checkpoint %s goes on with its own options: %s; set them once it runs%s, or remove the file",
      self.where or "nn.fit", self.path, other, self.where and "" or " (callback=)")
  end
  together.take_up(state.random, state.randoms)
  local fit = state.fit
  run.epoch, run.batch, run.start, run.began = fit.epoch, fit.batch, fit.start, native.clock() - fit.seconds
  run.tally.n, run.tally.sums, run.tally.counts = fit.tally.n, fit.tally.sums, fit.tally.counts or {}
  if run.tally.of_all and not together.is_first() then run.tally:clear() end  -- the first goes on with those of all
  for name in pairs(run.tally.sums) do run.tally.counts[name] = run.tally.counts[name] or fit.tally.n end
  run.best, run.best_epoch, run.waited, run.ended = fit.best, fit.best_epoch, fit.waited, fit.ended
  run.best_state, run.history = state.best, state.history
end

-- Whether the file holds what restore needs, each of its kind.
local function check(self, state)
  local function has(t, kinds)
    for name, kind in pairs(kinds) do
      local optional = kind:match("^%?(.*)")
      if not (optional and t[name] == nil) and type(t[name]) ~= (optional or kind) then
        fail(self, "should have %s as a %s, it has %s", name, optional or kind, options.describe(t[name]))
      end
    end
  end
  if type(state) ~= "table" or state.checkpoint == nil then
    fail(self, "is no checkpoint but some other file; remove it or choose another name")
  end
  if state.checkpoint ~= FORMAT then
    fail(self, "has format %s, this version of nablua knows %d", tostring(state.checkpoint), FORMAT)
  end
  has(state, { net = "table", opt = "table", random = "table", history = "table", fit = "table", best = "?table" })
  if (state.schedule ~= nil) ~= (self.run.schedule ~= nil) then
    fail(self, state.schedule and "has a schedule's state, but there is no schedule" or "has no schedule's state")
  end
  has(state.fit, { epoch = "number", batch = "number", start = "?table", seconds = "number", tally = "table",
    best = "?number", best_epoch = "?number", waited = "number" })
  has(state.fit.tally, { n = "number", sums = "table", counts = "?table" })
end

local Checkpoint = {}
Checkpoint.__index = Checkpoint

-- Called between two batches.
function Checkpoint:after_batch()
  if self.every then
    if self.run.batch % self.every == 0 then save(self) end
  elseif together.any(native.clock() - self.saved > SECONDS and together.is_first()) then
    save(self)
  end
end

function Checkpoint:after_epoch()
  save(self)
end

local function read(self)
  local state = files.load(self.path)
  check(self, state)
  native.whole(restore, self, state)
  return state
end

-- Puts what a checkpoint holds into `run`, which has net, opt, schedule and tally; returns all of it.  An error, which
-- begins with `where`, changes nothing.
function checkpoint.read(where, path, run)
  return read { where = where, path = path, run = run }
end

-- The checkpoints of a run at `path`, every `every` batches; a file that is there already is gone on from.
-- `run` has net, opt, schedule, history, epoch, batch, tally and the rest of what nn.fit keeps of its place.
function checkpoint.open(path, every, run)
  local self = setmetatable({ path = path, every = every, run = run, saved = native.clock() }, Checkpoint)
  if not path:match("%.safetensors$") then
    native.raise(("nn.fit: the checkpoint must be a .safetensors file, got %s"):format(options.describe(path)))
  end
  for name, object in pairs { net = run.net, opt = run.opt, schedule = run.schedule } do
    if type(object.state) ~= "function" or type(object.load_state) ~= "function" then
      native.raise(("nn.fit: %s has no state and load_state, without which there is no checkpoint"):format(name))
    end
  end
  if together.exists(path) then
    read(self)
    self.resumed = true
  else
    save(self)  -- a folder that cannot be written to is better known now
  end
  return self
end

return checkpoint
