-- SPDX-License-Identifier: MIT
-- Lines of the source that a function or frame came from: an input of the session, or a file.
local session = require "nablua.session.native"

-- Lines first..last of the source that debug.getinfo's `source` names, as a list; nil when it is not there.
return function(source, first, last)
  local text = session.sources[source:sub(2)]
  if not text and source:sub(1, 1) == "@" then
    local f = io.open(source:sub(2))
    text = f and f:read("a")
    if f then f:close() end
  end
  if not text then return nil end
  local lines, n = {}, 0
  for line in (text .. "\n"):gmatch("(.-)\n") do
    n = n + 1
    if n >= first and n <= last then lines[#lines + 1] = line end
  end
  return lines
end
