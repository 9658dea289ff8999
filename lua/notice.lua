-- SPDX-License-Identifier: MIT
-- Sentences for a person whose program goes on: one line of the standard error each.
local notice = {}

function notice.say(format, ...)
  io.stderr:write(format:format(...), "\n")
end

return notice
