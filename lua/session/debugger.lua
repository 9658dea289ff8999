-- SPDX-License-Identifier: MIT
-- Looking into frames: those of the last error, kept as they were, and those of a breakpoint, which go on afterwards.
local native = require "nablua.native"
local complete = require "nablua.session.complete"
local display = require "nablua.display"
local frames_of = require "nablua.frames"
local session = require "nablua.session.native"
local source_lines = require "nablua.session.source"
local suggest = require "nablua.session.suggest"

local debugger = {}

local getinfo, setlocal, setupvalue = debug.getinfo, debug.setlocal, debug.setupvalue
local MOST_LEVELS = 100
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

-- ---- evaluating in a frame ----

-- An environment in which the frame's variables are names.
local function environment(frame)
  return setmetatable({}, {
    __index = function(_, name)
      if has(frame, name) then return value_of(frame, name) end
      if session.kept[name] then return session.local_value(name) end
      return _G[name]
    end,
    __newindex = function(_, name, value)
      if frame.slots[name] then
        frame.values[name] = value
        frame.changed = frame.changed or {}
        frame.changed[name] = true
      elseif frame.upvalues[name] then
        setupvalue(frame.func, frame.upvalues[name], value)
      else
        _G[name] = value
      end
    end,
  })
end

local function evaluate(frame, code)
  local env = environment(frame)
  local f, message = load("return " .. code, "=debug", "t", env)
  if not f then f, message = load(code, "=debug", "t", env) end
  if not f then
    print(message)
    return
  end
  local results = table.pack(pcall(f))
  if not results[1] then
    print(tostring(results[2]))
    return
  end
  for i = 2, results.n do
    if results[i] ~= nil or results.n > 2 then print(display.text(results[i])) end
  end
end

-- ---- the prompt ----

local function title(frame)
  return frame.where .. (frame.name and (" in '%s'"):format(frame.name) or "")
end

local function show_frame(frame)
  print(title(frame))
  local line = source_line(frame)
  if line ~= "" then print("    " .. line) end
end

local function show_variables(frame)
  if #frame.names == 0 then print "no local variables here" end
  for _, name in ipairs(frame.names) do
    print(("  %s = %s"):format(name, display.brief(value_of(frame, name))))
  end
end

local commands = {
  { "up", "to the caller", function(at, frames) return math.min(at + 1, #frames) end },
  { "down", "to the called", function(at) return math.max(at - 1, 1) end },
  { "where", "all frames", function(at, frames)
    for i, frame in ipairs(frames) do print((i == at and "> " or "  ") .. title(frame)) end
  end },
  { "locals", "the variables here", function(at, frames) show_variables(frames[at]) end },
  { "continue", "leave", function() return 0 end },
}

local function run_command(word, at, frames)
  for _, command in ipairs(commands) do
    if word ~= "" and command[1]:sub(1, #word) == word then return command[3](at, frames) end
  end
  for _, command in ipairs(commands) do print((":%-9s %s"):format(command[1], command[2])) end
end

-- Asks for lines and runs each in the chosen frame until it is told to go on.
local function prompt(frames)
  local at = 1
  show_frame(frames[1])
  print "expressions and assignments run in this frame; :up :down :where :locals :continue"
  local _ <close> = setmetatable({}, { __close = function() complete.frame = nil end })
  while true do
    local frame = frames[at]
    complete.frame = scope_of(frame)
    local line = session.ask("debug> ")
    if not line then
      print()
      return
    end
    line = line:match("^%s*(.-)%s*$")
    local word = line:match("^:%s*(%a*)$")
    if word then
      local to = run_command(word, at, frames)
      if to == 0 then return end
      if to then
        at = to
        show_frame(frames[at])
      end
    elseif line ~= "" then
      evaluate(frames[at], line)
    end
  end
end

-- Opens a prompt in the frames of the last error.
function debugger.post_mortem()
  if not failed[1] then native.raise("%debug: there was no error whose frames could be looked into") end
  print(failed.message)
  prompt(failed)
end

-- Opens a prompt in the caller's frame; what is assigned there is so when the program goes on.
function debugger.breakpoint()
  local frames = frames_of.capture()
  if not frames[1] then native.raise("breakpoint: there is no code of yours to stop in") end
  prompt(frames)
  local k = 0
  for level = 2, MOST_LEVELS do
    local info = getinfo(level, "S")
    if not info or k == #frames then break end
    if frames_of.is_users(info) then
      k = k + 1
      for name in pairs(frames[k].changed or {}) do setlocal(level, frames[k].slots[name], frames[k].values[name]) end
    end
  end
end

return debugger
