-- SPDX-License-Identifier: MIT
-- Who listens to the calls of modules: any number of functions f(module, enters, input or result).
local native = require "nablua.native"
local modes = require "nablua.nn.modes"

local calls = {}

local listeners = {}

local function tell(m, enters, value)
  for _, f in ipairs(listeners) do f(m, enters, value) end
end

function calls.listen(f)
  listeners[#listeners + 1] = f
  native.trace(tell)
end

function calls.stop(f)
  for i = #listeners, 1, -1 do
    if listeners[i] == f then table.remove(listeners, i) end
  end
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
