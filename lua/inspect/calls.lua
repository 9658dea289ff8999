-- SPDX-License-Identifier: MIT
-- Who listens to the calls of modules: any number of functions f(module, enters, input or result).
local native = require "nablua.native"
local modes = require "nablua.modes"

local calls = {}

-- A listener stands in a weak box: it lives as long as who listens, and a box that is empty hears nothing.  The list is
-- replaced rather than changed, since a listener, or a finalizer meanwhile, may stop another one.
local weak = { __mode = "v" }
local listeners = {}

local FEW = 16
local enough = FEW

local function tell(m, enters, value)
  local list = listeners
  for i = 1, #list do  -- without a call for each
    local f = list[i][1]
    if f then f(m, enters, value) end
  end
end

-- The list without empty boxes and without the one that holds f, which is emptied.
local function others(f)
  local list = {}
  for _, box in ipairs(listeners) do
    if box[1] == f then box[1] = nil end
    if box[1] then list[#list + 1] = box end
  end
  return list
end

-- f hears of the calls as long as the caller keeps it.  Those that nobody keeps hear, and cost time, until they are
-- collected: where they may be many that is now.
function calls.listen(f)
  if #listeners > enough then
    collectgarbage()
    enough = 2 * #others(nil) + FEW
  end
  local list = others(nil)
  list[#list + 1] = setmetatable({ f }, weak)
  listeners = list
  native.trace(tell)
end

function calls.stop(f)
  listeners = others(f)
  if #listeners == 0 then native.trace(nil) end
end

-- Results of g(...) while f listens; an error ends the listening too.
function calls.during(f, g, ...)
  return modes.restoring(function() calls.stop(f) end, function(...)
    calls.listen(f)
    return g(...)
  end, ...)
end

return calls
