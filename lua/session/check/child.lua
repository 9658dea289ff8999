-- SPDX-License-Identifier: MIT
-- The fresh process in which a file is checked: `nablua --cells`, whose protocol kernel/repl/cells.h describes.
local native = require "nablua.native"

local child = {}
child.__index = child

-- An environment variable's worth of randomness is no matter: a text that no program prints by chance.
local function new_marker()
  local f <close> = io.open("/dev/urandom", "rb")
  local bytes = f and f:read(12) or tostring(os.time()) .. tostring(f)
  return "\30" .. bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
end

-- document: { rich=, width=, folder= } say how its values are shown, and where it runs.
function child.start(document)
  local marker = new_marker()
  local process, message = native.spawn { "/proc/self/exe", "--cells", marker, document.rich and "rich" or "plain",
    tostring(document.width or 0), document.folder or "." }
  if not process then native.raise("check: cannot start a process: " .. message) end
  return setmetatable({ process = process, marker = marker }, child)
end

child.__close = function(self) self.process:close() end

-- Reads the events of a cell's output: { { kind=, text=, data=, id= }, ... }.
local function events_of(output, marker)
  local events, at = {}, 1
  local function text(to)
    if to >= at then events[#events + 1] = { kind = "text", text = output:sub(at, to) } end
  end
  while true do
    local first, last = output:find(marker .. " ", at, true)
    if not first then break end
    text(first - 1)
    local head, after = output:match("^([^\n]*)\n()", last + 1)
    if not head then break end
    local kind, count, id = head:match("^(%l+) ?(%d*) ?(.*)$")
    local event = { kind = kind, id = id ~= "" and id or nil, data = {} }
    for _ = 1, tonumber(count) or 0 do
      local mime, length, begin = output:match("^(%S+) (%d+)\n()", after)
      if not mime then break end
      after = begin + tonumber(length)
      event.data[mime] = output:sub(begin, after - 1)
    end
    events[#events + 1], at = event, after
  end
  text(#output)
  return events
end

-- What a cell shows in the end, as a notebook keeps it: { text = all that was printed, shown = { data, ... }, error =,
-- plain = everything in its order as a terminal shows it, ended = whether the process ended }.
local function settle(events)
  local got = { shown = {} }
  local by_id, printed, plain, clear_next = {}, {}, {}, false
  local function clear()
    got.shown, by_id, printed, plain = {}, {}, {}, {}
  end
  for _, event in ipairs(events) do
    local kind = event.kind
    if clear_next and kind ~= "wait" and kind ~= "clear" then
      clear()
      clear_next = false
    end
    if kind == "text" then
      printed[#printed + 1], plain[#plain + 1] = event.text, event.text
    elseif kind == "clear" then
      clear()
    elseif kind == "wait" then
      clear_next = true
    elseif kind == "error" then
      got.error = event.data
      plain[#plain + 1] = event.data.message .. "\n" ..
        (event.data.frames ~= "" and "  " .. event.data.frames:gsub("\n", "\n  ") .. "\n" or "")
    elseif kind ~= "end" and event.data["text/plain"] then
      local known = event.id and by_id[event.id]
      if known and kind == "update" then
        known.data, plain[known.at] = event.data, event.data["text/plain"] .. "\n"
      else
        local item = { data = event.data, at = #plain + 1, kind = kind }
        if event.id then by_id[event.id] = item end
        if kind ~= "page" then got.shown[#got.shown + 1] = item end
        plain[item.at] = event.data["text/plain"] .. "\n"
      end
    end
  end
  got.text, got.plain = table.concat(printed), table.concat(plain)
  return got
end

-- Runs a step, { code=, answers=, interrupt= }, and gives what it shows.
function child:run(step)
  local code, answers = step.code, step.answers
  answers = answers and #answers > 0 and table.concat(answers, "\n") .. "\n" or ""
  local head = ("%d %d %d\n"):format(#code, #answers, step.interrupt and 1 or 0)
  local output = self.process:exchange(head .. code .. answers, self.marker .. " end\n", math.huge)
  local got = settle(events_of(output, self.marker))
  got.ended = not self.process:alive()
  return got
end

child.settled = settle

return child
