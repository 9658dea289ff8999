-- SPDX-License-Identifier: MIT
-- The frames of the last error, kept as they were.
local native = require "nablua.native"
local display = require "nablua.display"
local frames_of = require "nablua.frames"
local source_lines = require "nablua.session.source"
local suggest = require "nablua.session.suggest"

local debugger = {}

local has, value_of = frames_of.has, frames_of.value

-- The frame's variables for whoever looks names up: completion, suggestions.
local function scope_of(frame)
  return { names = frame.names, has = function(name) return has(frame, name) end,
    value = function(name) return value_of(frame, name) end }
end

local function source_line(frame)
  local lines = source_lines(frame.source, frame.line, frame.line)
  return lines and lines[1] and lines[1]:match("^%s*(.-)%s*$") or ""
end

local failed = {}  -- of the last error

-- What the innermost frames called when the error happened, as suggest.lua wants it.
local function calls_of(frames)
  local calls, called = {}, frames.called
  for i = 1, math.min(#frames, 2) do
    local frame = frames[i]
    local call = { scope = scope_of(frame), line = source_line(frame), where = frame.where }
    if called then
      call.name, call.func, call.has_first, call.first = called.name, called.func, called.has_first, called.first
    end
    calls[i], called = call, frame
  end
  return calls
end

-- The lines of the source that an error of syntax is about, and the number of the wrong one.
local function syntax_place(message)
  local source, number = message:match("^([^:\n]+):(%d+): ")
  local lines = source and source_lines("@" .. source, 1, math.huge)
  number = tonumber(number)
  if lines and lines[number] then return lines, number, ("%s:%d"):format(source, number) end
end

-- The line with a caret below what the message is about, where that stands in it once.
local function marked(line, message)
  line = line:match("^%s*(.-)%s*$")
  local token = message:match("near '(.+)'$")
  if not token then return line end
  local pattern = token:gsub("%W", "%%%0")
  if token:find("^[%w_]+$") then pattern = "%f[%w_]" .. pattern .. "%f[^%w_]" end
  local at = line:find(pattern)
  if not at or line:find(pattern, at + 1) then return line end
  return ("%s\n    %s^"):format(line, (" "):rep(native.width(line:sub(1, at - 1))))
end

-- What to say of an error whose value has no text of its own: what it holds, in one line.
local function table_message(value)
  return "the error value is " .. native.fit((display.pretty(value):gsub("%s*\n%s*", " ")), 200)
end

-- Keeps the frames of an error.  Returns its message with what may help, and, where there are no frames, the place.
function debugger.note_error(message, value)
  if type(value) == "table" and rawget(value, "frames") then  -- a stop of inspection's: it stands elsewhere
    failed = value.frames
    failed.message = message
    return message
  end
  failed = frames_of.capture()
  local meta = getmetatable(value)
  if type(value) == "table" and not (type(meta) == "table" and rawget(meta, "__tostring")) then
    message = table_message(value)
  end
  failed.message = message
  if failed[1] then
    failed.message = suggest.of_error(message, calls_of(failed)) or message
    return failed.message
  end
  local lines, number, where = syntax_place(message)
  if not lines then return message end
  return suggest.of_syntax(message, lines, number) or message,
    #lines > 1 and lines[number]:find("%S") and ("%s\n    %s"):format(where, marked(lines[number], message)) or nil
end

-- Opens a prompt in the frames of the last error.
function debugger.post_mortem()
  if not failed[1] then native.raise("%debug: there was no error whose frames could be looked into") end
  require("nablua.session.pause").post_mortem(failed)
end

return debugger
