-- SPDX-License-Identifier: MIT
-- What a training consists of between two steps: the tables of its modules, its optimizer and its schedule with what
-- they hold, and the tensors in them.  Taken down, written back, and looked at for changes.
--
-- Tables are modules, and plain ones without a metatable; of other objects the reference is kept, not what is in them.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local states = require "nablua.optim.state"

local state = {}

-- Every table that can be reached from the roots, in the order met; tables in `closed` are not entered.
local function reach(roots, closed)
  local list, seen = {}, {}
  local function enter(t)
    if seen[t] or closed[t] then return end
    seen[t] = true
    list[#list + 1] = t
    for _, v in next, t do
      if type(v) == "table" and (module.is(v) or not getmetatable(v)) then enter(v) end
    end
  end
  for _, t in ipairs(roots) do enter(t) end
  return list
end

local function copy_of(t)
  local copy = {}
  for k, v in next, t do copy[k] = v end
  return copy
end

local function copies_of(list)
  local copies = {}
  for i, t in ipairs(list) do copies[i] = copy_of(t) end
  return copies
end

-- Modules, and whatever else the user gave that is one: a loss.
local function module_roots(self)
  local roots = {}
  for _, m in ipairs { self.net, self.loss } do
    if module.is(m) then roots[#roots + 1] = m end
  end
  return roots
end

local function schedule_roots(schedule, roots)
  roots = roots or {}
  while schedule do
    roots[#roots + 1] = schedule
    for _, part in ipairs(schedule.schedulers or {}) do schedule_roots(part, roots) end
    schedule = schedule.after
  end
  return roots
end

-- What a step does not change by itself, as a rule: where it is another now, somebody else was there.
local function settings_of(self)
  local roots, settings, schedules = module_roots(self), states.settings(self.opt), schedule_roots(self.schedule)
  table.move(settings, 1, #settings, #roots + 1, roots)
  return table.move(schedules, 1, #schedules, #roots + 1, roots)
end

-- The tensors among the values of tables, each once.
local function tensors_in(list)
  local tensors, seen = {}, {}
  for _, t in ipairs(list) do
    for _, v in next, t do
      if nb.is_tensor(v) and not seen[v] then
        seen[v] = true
        tensors[#tensors + 1] = v
      end
    end
  end
  return tensors
end

-- Whether each leaf requires grad.
local function flags_of(tensors)
  local flags = {}
  for _, t in ipairs(tensors) do
    if t.is_leaf then flags[t] = t.requires_grad end
  end
  return flags
end

local function put_back_flags(flags)
  for t, flag in next, flags do
    if t.requires_grad ~= flag then t.requires_grad = flag end
  end
end

local function other_flag(flags)
  for t, flag in next, flags do
    if t.requires_grad ~= flag then return true end
  end
end

-- Takes all of it down.  `self` has net, opt, loss, schedule, and `frames`, the sequence of keyframes in C.
function state.take(self)
  local memory = states.memory(self.opt)
  local roots = settings_of(self)
  roots[#roots + 1] = memory
  local tables = reach(roots, { [self.opt] = true })
  local tensors = tensors_in(tables)
  return { tables = tables, copies = copies_of(tables), memory = memory, frame = self.frames:take(tensors),
    flags = flags_of(tensors), random = self.driven and nb.random_state() or self.random }
end

local function same_value(a, b)
  return rawequal(a, b) or a ~= a and b ~= b
end

-- Where tables differ from their copies, as a list of { table, key, value now }.
function state.differences(tables, copies)
  local list = {}
  for i, t in ipairs(tables) do
    local copy = copies[i]
    for k, v in next, t do
      if not same_value(copy[k], v) then list[#list + 1] = { t, k, v } end
    end
    for k in next, copy do
      if rawget(t, k) == nil then list[#list + 1] = { t, k } end
    end
  end
  return list
end

local function put_back_tables(tables, copies)
  for i, t in ipairs(tables) do
    local copy = copies[i]
    for k in next, t do
      if copy[k] == nil then rawset(t, k, nil) end
    end
    for k, v in next, copy do
      if not rawequal(rawget(t, k), v) then rawset(t, k, v) end
    end
  end
end

state.put_back_tables = put_back_tables

-- ---- what the optimizer did not remember yet ----

-- Plans of compiled functions know the tensors that an optimizer remembers.  Where it goes back to before it had them,
-- they are put aside, by the table and the key where they stood.
local function put_aside(self, taken)
  local old, now = {}, states.memory(self.opt)
  if now ~= taken.memory then return end
  for i, t in ipairs(taken.tables) do old[t] = taken.copies[i] end
  local function look(t)
    for k, v in next, t do
      local there = old[t] and old[t][k]
      if there == nil and (nb.is_tensor(v) or type(v) == "table" and nb.is_tensor(k)) then
        self.aside = self.aside or {}
        self.aside[#self.aside + 1] = { t, k, v }
      elseif type(v) == "table" and there ~= nil and not getmetatable(v) then
        look(v)
      end
    end
  end
  look(now)
end

local function same_kind(a, b)
  return nb.is_tensor(a) and nb.is_tensor(b) and a.dtype == b.dtype and options.shape(a) == options.shape(b)
end

-- Puts `old` in the place of `new` with what that holds; false where they do not fit.
local function take_over(old, new)
  if nb.is_tensor(old) then
    if not same_kind(old, new) then return false end
    nb.no_grad(old.copy_, old, new)
    return true
  end
  for k, v in next, new do
    if nb.is_tensor(v) and not same_kind(old[k], v) then return false end
  end
  for k, v in next, new do
    if nb.is_tensor(v) then nb.no_grad(old[k].copy_, old[k], v) else old[k] = v end
  end
  for k in next, old do
    if new[k] == nil then old[k] = nil end
  end
  return true
end

-- Once the optimizer remembers the same again, in other tensors, those put aside take over.
local function reunite(self)
  local rest, came = {}, false
  for _, a in ipairs(self.aside) do
    local new = rawget(a[1], a[2])
    if new == nil then
      rest[#rest + 1] = a
    elseif not rawequal(new, a[3]) and take_over(a[3], new) then
      rawset(a[1], a[2], a[3])
      came = true
    end
  end
  self.aside = #rest > 0 and rest or nil
  if not came then return end
  for _, group in ipairs(self.opt.groups) do states.memory(self.opt)[group.params] = nil end  -- what C found there
end

local function put_back(self, taken)
  put_aside(self, taken)
  taken.frame:restore()
  put_back_tables(taken.tables, taken.copies)
  put_back_flags(taken.flags)
  states.put_memory(self.opt, taken.memory)
  native.built = native.built + 1
  native.clear_grads(self.net:parameters())
  nb.random_state(taken.random)
end

-- Writes it back as a whole, or raises an error with nothing changed.
function state.put_back(self, taken)
  native.whole(put_back, self, taken)
end

-- ---- changes by others ----

-- Remembers how the settings and the tensors are now.
function state.settle(self)
  local settled = self.settled
  if not settled or settled.memory ~= states.memory(self.opt) or native.first_other(settled.tables, settled.copies) then
    local tables = reach(settings_of(self), { [self.opt] = true })
    settled = { tables = tables, copies = copies_of(tables), memory = states.memory(self.opt) }
    self.settled = settled
  end
  if settled.noted ~= native.flags_noted() then
    settled.noted, settled.flags = native.flags_noted(), flags_of(tensors_in(settled.tables))
  end
  settled.writes = self.frames:writes()
  self.unsettled = nil
end

local plain = { ["nil"] = true, number = true, boolean = true, string = true }

-- The differences of settings, as state.differences has them, where all are of plain values.
local function plain_differences(before)
  local list, copy_of_table = state.differences(before.tables, before.copies), {}
  for i, t in ipairs(before.tables) do copy_of_table[t] = before.copies[i] end
  for _, d in ipairs(list) do
    if not (plain[type(d[3])] and plain[type(copy_of_table[d[1]][d[2]])]) then return nil end
  end
  return list
end

-- What is another since then, as a clause, or nil; and where only plain values of settings are, these.
function state.change(self)
  local before = self.settled
  local others = native.first_other(before.tables, before.copies)
  local more = before.memory ~= states.memory(self.opt) and "another state was loaded into the optimizer" or
    before.noted ~= native.flags_noted() and other_flag(before.flags) and "parameters were frozen, or are no more" or
    self.frames:writes() ~= before.writes and "weights, or what the optimizer remembers, were written" or nil
  if others then
    return "the net, the loss, the optimizer or the schedule was changed", not more and plain_differences(before) or nil
  end
  return more
end

-- The place in the random numbers where it is another than after the last step, or nil.
function state.drawn(self)
  local seed, counter = native.random_state()
  if not self.seed_after or seed == self.seed_after and counter == self.counter_after then return nil end
  return { seed = seed, counter = counter }
end

-- ---- undoing a step that was left before its end ----

-- The tensors of modules that no optimizer moves, which a forward pass may change: running means.
local function buffers_of(self)
  local list, moved = {}, {}
  for _, group in ipairs(self.opt.groups) do
    for _, p in ipairs(group.params) do moved[p] = true end
  end
  for _, t in ipairs(tensors_in(reach(module_roots(self), {}))) do
    if not moved[t] then list[#list + 1] = t end
  end
  return list
end

local function hold_buffers(self)
  self.undo = self.undo or native.keyframes()
  self.undo_frame = self.undo:take(self.buffers)
  self.undo_before = self.undo:writes()
end

-- Remembers what a step changes before its optimizer moves the weights.
function state.begin_step(self)
  if self.built ~= native.built then self.buffers, self.built = buffers_of(self), native.built end
  self.seed_before, self.counter_before = native.random_state()
  self.writes_before = self.frames:writes()
  if #self.buffers > 0 then native.whole(hold_buffers, self) end
end

local function let_go(self)
  if self.aside then reunite(self) end
  if self.undo_frame then self.undo_frame:drop() end
  self.undo_frame = nil
end

function state.end_step(self)
  if self.aside or self.undo_frame then native.whole(let_go, self) end
end

local function undo_step(self)
  if self.undo_frame then self.undo_frame:restore() end
  put_back_tables(self.settled.tables, self.settled.copies)
  native.clear_grads(self.net:parameters())
  native.random_state(self.seed_before, self.counter_before)
end

-- Puts back what a step that was left has changed; false where it changed more than that, or where tables differ and
-- the steps before it may have done so.
function state.undo(self)
  local own = self.undo_frame and self.undo:writes() - self.undo_before or 0
  local possible = self.frames:writes() - self.writes_before == own and not (self.unsettled and
    native.first_other(self.settled.tables, self.settled.copies))
  if possible then native.whole(undo_step, self) end
  state.end_step(self)
  return possible
end

return state
