-- SPDX-License-Identifier: MIT
-- What was changed between two steps and is a plain value: a rate, a probability, a schedule's count.  It is noted by
-- the step after which that was, and changed again when a repetition comes there; anything else that was changed takes
-- a keyframe (run/frames.lua).
local native = require "nablua.native"
local nb = require "nablua.core"
local state = require "nablua.run.state"

local events = {}

local EACH = 120  -- bytes that one takes, about

function events.open(self)
  self.events = {}
end

-- A list of { table, key, value } after the step where the run stands, and the place in the random numbers, where
-- somebody else has drawn some of them.
function events.note(self, list, random)
  local here = self.events[self.at]
  if not here then
    here = {}
    self.events[self.at] = here
  end
  table.move(list, 1, #list, #here + 1, here)
  here.random = random or here.random
  self.weight = self.weight + EACH * #list
  state.settle(self)
end

-- Changes again what was changed where the run stands; whether that was anything.
function events.repeat_here(self)
  local here = self.events[self.at]
  if not here then return false end
  for _, d in ipairs(here) do rawset(d[1], d[2], d[3]) end
  if here.random then nb.random_state(here.random) end
  if #here > 0 then
    native.change_options()
    native.built = native.built + 1
  end
  state.settle(self)
  return true
end

local function drop(self, k)
  self.weight = self.weight - EACH * #self.events[k]
  self.events[k] = nil
end

-- Forgets those after step k.
function events.cut(self, k)
  for at in pairs(self.events) do
    if at > k then drop(self, at) end
  end
end

-- Forgets those before step k.
function events.forget(self, k)
  for at in pairs(self.events) do
    if at < k then drop(self, at) end
  end
end

-- Forgets that of where the run stands: a keyframe holds it.
function events.forget_here(self)
  if self.events[self.at] then drop(self, self.at) end
end

return events
