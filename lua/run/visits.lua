-- SPDX-License-Identifier: MIT
-- Visitors of a run that goes: handlers of controls, cells of a subshell, what the clock has done.
--
-- They come between any two instructions, where no step could be repeated with what they write.  So what a visitor has
-- written is taken back when it leaves, and is written at the end of the step: to the tensors and tables that a
-- keyframe holds, the optimizer's options and the number of threads.  The next visitor finds it there.  Gradients are
-- the step's own, and what a visitor does to them is dropped.
local native = require "nablua.native"
local nb = require "nablua.core"
local state = require "nablua.run.state"
local states = require "nablua.optim.state"

local visits = {}

local driven = {}  -- the runs that go, in the order in which they began
local open = {}    -- of each visit under way, a list of { run=, before= how it was found }

-- ---- what was written, apart ----

local function put(self, waiting)
  for _, entry in ipairs(waiting.tables) do rawset(entry[1], entry[2], entry[3]) end
  if waiting.memory then states.put_memory(self.opt, waiting.memory) end
  for t, flag in next, waiting.flags do t.requires_grad = flag end
  if waiting.threads then nb.threads(waiting.threads) end
  if waiting.writes then waiting.writes:write() end
  native.change_options()
  native.built = native.built + 1
end

local function other_flags(before)
  local flags = {}
  if before.noted == native.flags_noted() then return flags end
  for t, flag in next, before.flags do
    if t.requires_grad ~= flag then flags[t] = not flag end
  end
  return flags
end

-- How a run is found, from which all can be taken back.
local function find(self)
  local before = state.take(self)
  before.frame:cover()
  before.noted, before.threads = native.flags_noted(), nb.threads()
  before.grads, before.of_grads = {}, native.keyframes()
  local list = {}
  for _, group in ipairs(self.opt.groups) do
    for _, p in ipairs(group.params) do
      before.grads[p] = p.grad or false
      list[#list + 1] = p.grad
    end
  end
  before.grad_frame = before.of_grads:take(list)
  before.grad_frame:cover()
  return before
end

local function put_back_grads(before)
  before.grad_frame:withdraw()
  before.grad_frame:drop()
  for p, g in next, before.grads do
    if not g then
      if p.grad then native.clear_grads { p } end
    elseif not rawequal(p.grad, g) then
      p.grad = g
    end
  end
end

-- Leaves a run as it was found; what was written, or nil where that is nothing.
local function withdraw(self, before)
  put_back_grads(before)
  local waiting = { tables = state.differences(before.tables, before.copies), flags = other_flags(before) }
  local memory, threads = states.memory(self.opt), nb.threads()
  if memory ~= before.memory then waiting.memory = memory end
  if threads ~= before.threads then waiting.threads = threads end
  waiting.writes = before.frame:withdraw()
  if waiting.writes or waiting.memory or waiting.threads or next(waiting.flags) or next(waiting.tables) then
    state.put_back_tables(before.tables, before.copies)
    if waiting.memory then states.put_memory(self.opt, before.memory) end
    for t, flag in next, waiting.flags do t.requires_grad = not flag end
    if waiting.threads then nb.threads(before.threads) end
    native.change_options()
    native.built = native.built + 1
  else
    waiting = nil
  end
  before.frame:drop()
  return waiting
end

-- ---- visits ----

-- What is known of the step under way, in the library's own table.
local of_step = { "compiled_calls", "run_step", "run_name", "stops_muted" }

local function set_aside(list)
  for _, name in ipairs(of_step) do list[name], native[name] = native[name], nil end
  if list.compiled_calls and list.compiled_calls.script then native.plans_hold(false) end
end

local function set_back(list)
  for _, name in ipairs(of_step) do native[name] = list[name] end
  if list.compiled_calls and list.compiled_calls.script then native.plans_hold(true) end
end

local function leave(list)
  set_back(list)
  for i = #list, 1, -1 do
    local self = list[i].run
    self.visited = nil
    self.waiting = withdraw(self, list[i].before)
  end
  if #driven == 0 and #open == 0 then native.watch_visits(nil) end
end

local function enter(list)
  set_aside(list)
  for _, self in ipairs(driven) do
    if not self.visited then
      list[#list + 1] = { run = self, before = find(self) }
      self.visited = true
      if self.waiting then put(self, self.waiting) end
    end
  end
end

local function watch(begins)
  if not begins then return leave(table.remove(open)) end
  local list = {}
  local ok, message = pcall(enter, list)
  if ok then
    open[#open + 1] = list
  else
    leave(list)
    error(message, 0)
  end
end

-- The run begins to go, and has ceased to.
function visits.begin(self)
  driven[#driven + 1] = self
  native.watch_visits(watch)
end

function visits.finish(self)
  for i = #driven, 1, -1 do
    if driven[i] == self then table.remove(driven, i) end
  end
  if #driven == 0 and #open == 0 then native.watch_visits(nil) end
end

-- Writes what visitors have written since, at the end of a step; whether that is anything.
function visits.let_in(self)
  local waiting = self.waiting
  if not waiting then return false end
  self.waiting = nil
  put(self, waiting)
  return true
end

return visits
