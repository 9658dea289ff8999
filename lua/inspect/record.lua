-- SPDX-License-Identifier: MIT
-- Runs a program once and records it: every operator with its values, every backward rule, and what changed, so that
-- the changes can be undone and done again bit for bit.
--
-- A change is { undo = f, redo = f }.  Recorded values are the tensors themselves; one that is about to be written in
-- place is copied first, and the record keeps the copy.
local native = require "nablua.native"
local nb = require "nablua.core"
local modes = require "nablua.modes"

local record = {}

local function copy(t)
  return nb.no_grad(function() return t:detach():clone() end)
end

local function values_change(t, before, before_version, after, after_version)
  return { undo = function() native.overwrite(t, before, before_version) end,
    redo = function() native.overwrite(t, after, after_version) end }
end

local function random_change(before, after)
  return { undo = function() native.random_state(before[1], before[2]) end,
    redo = function() native.random_state(after[1], after[2]) end }
end

function record.grad_change(t, before, after)
  return { undo = function() t.grad = before end, redo = function() t.grad = after end }
end

-- A change of tensors that f makes, which is done at once.
function record.change(tensors, f)
  local before, list = {}, {}
  for i, t in ipairs(tensors) do before[i] = { copy(t), select(2, native.storage(t)) } end
  f()
  for i, t in ipairs(tensors) do
    list[i] = values_change(t, before[i][1], before[i][2], copy(t), select(2, native.storage(t)))
  end
  return list
end

local function new_recorder(events)
  local slots = {}  -- storage → places in the record that show its values: table, key, table, key ...
  local seed, drawn = native.random_state()
  local writing
  local function keep(holder, key)
    local id = native.storage(holder[key])
    local list = slots[id]
    if list then
      list[#list + 1], list[#list + 2] = holder, key
    else
      slots[id] = { holder, key }
    end
  end
  local function before_write(target)
    local id, version = native.storage(target)
    local list = slots[id] or {}
    for i = 1, #list, 2 do list[i][list[i + 1]] = copy(list[i][list[i + 1]]) end
    slots[id] = nil
    writing = { copy(target), version }
  end
  return function(e)
    if e.kind == "write" then return before_write(e.target) end
    e.changes = {}
    if e.kind == "apply" then
      if e.in_place then
        local t = e.outputs[1]
        e.changes[1] = values_change(t, writing[1], writing[2], copy(t), select(2, native.storage(t)))
      end
      for _, input in pairs(e.inputs) do keep(input, "value") end
      for k in ipairs(e.outputs) do keep(e.outputs, k) end
      local seed_now, drawn_now = native.random_state()
      if seed_now ~= seed or drawn_now ~= drawn then
        e.changes[#e.changes + 1] = random_change({ seed, drawn }, { seed_now, drawn_now })
        seed, drawn = seed_now, drawn_now
      end
    end
    events[#events + 1] = e
  end
end

function record.undo(events)
  for i = #events, 1, -1 do
    for k = #events[i].changes, 1, -1 do events[i].changes[k].undo() end
  end
end

local function run(fused, events, f, ...)
  local pause, done
  return modes.restoring(function()
    native.observe(nil)
    if pause then collectgarbage("setpause", pause) end
    if not done then record.undo(events) end
  end, function(...)
    native.whole(function() pause = collectgarbage("setpause", 400) end)  -- nearly all that a recording makes stays
    native.observe(new_recorder(events), fused)
    local results = table.pack(f(...))
    done = true
    return table.unpack(results, 1, results.n)
  end, ...)
end

-- Calls f and appends what it does to `events`; its results.  An error undoes all.
function record.run(events, f, ...)
  return run(false, events, f, ...)
end

-- The same, where layers do not take themselves apart for who looks.
function record.run_whole(events, f, ...)
  return run(true, events, f, ...)
end

function record.redo(events)
  for _, e in ipairs(events) do
    for _, change in ipairs(e.changes) do change.redo() end
  end
end

return record
