-- SPDX-License-Identifier: MIT
-- What is done by the clock, in the middle of what runs.
local native = require "nablua.native"
local display = require "nablua.display"
local options = require "nablua.options"

local clock = {}

local Timer = { __name = "timer" }
Timer.__index = Timer

local timers = {}  -- those that are not closed

-- Tells the session when the next is due.
local function arrange()
  if not display.show then return end
  local next_due
  for timer in pairs(timers) do next_due = math.min(next_due or timer.due, timer.due) end
  require("nablua.session.native").set_alarm(next_due and math.max(next_due - native.clock(), 0) or nil)
end

-- Calls what is due, each once; one that raises an error is closed.
function clock.run()
  local now, due = native.clock(), {}
  for timer in pairs(timers) do
    if timer.due <= now then due[#due + 1] = timer end
  end
  table.sort(due, function(a, b) return a.due < b.due end)
  local first
  for _, timer in ipairs(due) do
    -- What was missed is not made up for.
    timer.due = math.max(timer.due + timer.seconds, native.clock())
    local ok, problem = pcall(timer.f, timer)
    if not ok then
      timers[timer] = nil
      first = first or problem
    end
  end
  arrange()
  if first ~= nil then error(first, 0) end
end

function Timer:close()
  timers[self] = nil
  arrange()
end

function Timer:__tostring()
  return ("every %g s%s"):format(self.seconds, timers[self] and "" or ", closed")
end

clock[1] = {
  name = "every",
  doc = "Calls f by the clock, also in the middle of what runs, until :close() or an error; in a terminal while " ..
    "something runs.  It does not catch up on what it missed.",
  signature = "ui.every(seconds, f)", see = { "w:on_change", "nb.sleep" },
  example = "local n = 0; local t = nb.ui.every(0.5, function() n = n + 1 end); t:close(); return tostring(t)" ..
    "  --> \"every 0.5 s, closed\"",
  function(seconds, f)
    if type(seconds) ~= "number" or not (seconds > 0 and seconds < 1e9) then
      native.raise(("ui.every: expected a number of seconds above 0, got %s"):format(options.describe(seconds)))
    end
    if not options.is_callable(f) then
      native.raise(("ui.every: expected a function, got %s"):format(options.describe(f)))
    end
    local timer = setmetatable({ seconds = seconds, f = f, due = native.clock() + seconds }, Timer)
    timers[timer] = true
    arrange()
    return timer
  end,
}

return clock
