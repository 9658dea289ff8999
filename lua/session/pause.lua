-- SPDX-License-Identifier: MIT
-- What people see of what is paused: the prompt in its frames, and its words.
--
-- The engine (kernel/session/debugger.c) calls begin, line for each input, and finish; pauses may lie in each other.
local breakpoints = require "nablua.session.breakpoints"
local complete = require "nablua.session.complete"
local display = require "nablua.display"
local engine = require "nablua.session.engine"
local frames_of = require "nablua.frames"
local native = require "nablua.native"
local session = require "nablua.session.native"
local source_lines = require "nablua.session.source"

local pause = {}

local holds = {}  -- the innermost last
local last        -- the word that an empty line repeats, also at the next pause, where a step has led

pause.stops_at = breakpoints.stops_at

-- Called with what begins and ends, where somebody is attached.
pause.on_begin, pause.on_finish, pause.on_source = nil, nil, nil

function pause.current()
  return holds[#holds]
end

-- ---- variables ----

local function is_ours(hold, name)
  return engine.frames[hold.slot].kept[name] ~= nil
end

-- The value of a local that an input of this prompt has declared.
local function own_value(hold, name)
  local kept = engine.frames[hold.slot].kept[name]
  return select(2, debug.getupvalue(kept[1], kept[2]))
end

-- An environment in which the variables of the chosen frame are names.
function pause.environment(frame_now, names)
  return setmetatable({}, {
    __index = function(_, name)
      local frame = frame_now()
      if names and names[name] ~= nil then return names[name] end
      if frame and frames_of.has(frame, name) then return frames_of.value(frame, name) end
      if session.kept[name] then return session.local_value(name) end
      return _G[name]
    end,
    __newindex = function(_, name, value)
      local frame = frame_now()
      local kept = session.kept[name]
      if frame and frames_of.has(frame, name) then
        frames_of.assign(frame, name, value)
      elseif kept and not kept[3] then
        debug.setupvalue(kept[1], kept[2], value)
      else
        _G[name] = value
      end
    end,
  })
end

-- What completion and hints know of the frame.
local function scope_of(hold)
  local frame = hold.frames[hold.at]
  local names = table.move(frame and frame.names or {}, 1, frame and #frame.names or 0, 1, {})
  for name in pairs(engine.frames[hold.slot].kept) do names[#names + 1] = name end
  return {
    names = names,
    has = function(name) return is_ours(hold, name) or frame and frames_of.has(frame, name) end,
    value = function(name)
      if is_ours(hold, name) then return own_value(hold, name) end
      return frames_of.value(frame, name)
    end,
  }
end

local function is_variable(hold, name)
  local frame = hold.frames[hold.at]
  local global = rawget(_G, name)
  return hold.names[name] ~= nil or is_ours(hold, name) or frame and frames_of.has(frame, name) or session.kept[name] or
    global ~= nil and global ~= session.standard[name]  -- Lua's own next is not meant
end

-- ---- showing ----

local function title(frame)
  return frame.where .. (frame.name and (" in '%s'"):format(frame.name) or "")
end

local function source_line(frame)
  local lines = source_lines(frame.source, frame.line, frame.line)
  return lines and lines[1] and lines[1]:match("^%s*(.-)%s*$") or ""
end

local function show_frame(hold)
  local frame = hold.frames[hold.at]
  if not frame then
    print "in the library, which no code of yours has called here"
    return
  end
  print(title(frame))
  local line = source_line(frame)
  if line ~= "" then print("    " .. line) end
  local changed = breakpoints.changed(frame.source)
  if changed and not hold.told_change then print(changed) end
  hold.told_change = hold.told_change or changed
end

local function choose(hold, at)
  hold.at, hold.listed = at, nil
  complete.frame = scope_of(hold)
end

-- ---- the words ----

local words, by_word

local function dead(hold)
  if not hold.over then return false end
  print(hold.reason == "post mortem" and "these frames are over: they can be looked into, and do not go on" or
    "these frames made the node and are over; :continue goes on")
  return true
end

local function go(how)
  return function(hold, argument)
    if dead(hold) then return end
    local frame = hold.frames[hold.at]
    local line = tonumber(argument)
    if how == "until" and frame then
      line = line or frame.line + 1
      if line <= frame.line then
        print((":until %d: it stands at line %d already"):format(line, frame.line))
        return
      end
    end
    if frame then engine.go(how, frame.thread, frame.level, line) else engine.go("into") end
  end
end

local function move(by)
  return function(hold, argument)
    local at = hold.at + by * (tonumber(argument) or 1)
    if #hold.frames == 0 then return show_frame(hold) end
    if at < 1 then print "this is the innermost frame" end
    if at > #hold.frames then print "this is the outermost frame" end
    choose(hold, math.max(1, math.min(at, #hold.frames)))
    show_frame(hold)
  end
end

local function where(hold)
  for i, frame in ipairs(hold.frames) do print((i == hold.at and "> " or "  ") .. title(frame)) end
end

local function locals(hold)
  local scope = scope_of(hold)
  if #scope.names == 0 then print "no local variables here" end
  for _, name in ipairs(scope.names) do print(("  %s = %s"):format(name, display.brief(scope.value(name)))) end
end

local AROUND = 5  -- lines that are listed before and behind

local function list(hold, argument)
  local frame = hold.frames[hold.at]
  if not frame then return show_frame(hold) end
  local first = tonumber(argument) or hold.listed or frame.line - AROUND
  if first < 1 then first = 1 end
  local lines = source_lines(frame.source, first, first + 2 * AROUND)
  if not lines then
    print(("the source of %s is not at hand"):format(frame.where))
  elseif #lines == 0 then
    print "there are no more lines"
  else
    local marked = breakpoints.lines_of(frame.source)
    for i, line in ipairs(lines) do
      local number = first + i - 1
      print(("%s%s %3d  %s"):format(marked[number] and "*" or " ", number == frame.line and ">" or " ", number, line))
    end
    hold.listed = first + #lines
  end
end

local function set_breakpoint(hold, argument)
  if argument == "" then return breakpoints.show() end
  local frame = hold.frames[hold.at]
  if argument:match "^%d+" and frame then argument = breakpoints.place_of(frame.source) .. ":" .. argument end
  print(breakpoints.add_text(argument))
end

local function help()
  for _, word in ipairs(words) do
    print((":%-9s %-2s %s"):format(word.name, word.letter or "", word.doc))
  end
  print "Anything else is Lua, in this frame.  An empty line repeats the last of these words; a word that is a"
  print "variable's name is the variable, and :word is the word."
end

words = {
  { name = "continue", letter = "c", doc = "goes on", run = function() engine.go "continue" end },
  { name = "step", letter = "s", doc = "to the next line, into functions", run = go "into", again = true },
  { name = "next", letter = "n", doc = "to the next line of this frame", run = go "next", again = true },
  { name = "out", letter = "r", doc = "to where this frame returns to", run = go "out", again = true },
  { name = "until", doc = "to a later line of this frame, :until 12", run = go "until", again = true },
  { name = "where", letter = "w", doc = "all frames", run = where },
  { name = "up", letter = "u", doc = "to the caller, :up 2 twice", run = move(1), again = true },
  { name = "down", letter = "d", doc = "to the called", run = move(-1), again = true },
  { name = "list", letter = "l", doc = "the source around, then further; :list 12", run = list, again = true },
  { name = "locals", doc = "the variables here", run = locals },
  { name = "break", letter = "b", doc = "stops there from now on, :break 12 or :break net.lua:12 if x > 3",
    run = set_breakpoint },
  { name = "quit", letter = "q", doc = "ends what is paused", run = function(hold)
    engine.go(hold.reason == "post mortem" and "continue" or "quit")
  end },
  { name = "help", letter = "h", doc = "these words", run = help },
}

by_word = {}
for _, word in ipairs(words) do
  by_word[word.name] = word
  if word.letter then by_word[word.letter] = word end
end

-- What is meant by the beginning of a word; a letter means what pdb means by it.
local function find_word(text)
  if by_word[text] then return by_word[text] end
  for _, word in ipairs(words) do
    if text ~= "" and word.name:sub(1, #text) == text then return word end
  end
end

local function run_word(hold, word, argument)
  last = word.again and word or nil
  word.run(hold, argument)
  if pause.current() == hold then complete.frame = scope_of(hold) end
end

-- Of an input: nothing where it was a word, else the code to evaluate and the place of its frame.
function pause.line(text)
  local hold = pause.current()
  local name, argument = text:match "^%s*:%s*(%a*)%s*(.-)%s*$"
  if name and not text:match "^%s*::" then
    local word = find_word(name)
    if not word then
      if name ~= "" then print((":%s is no word here; these are"):format(name)) end
      help()
      return nil
    end
    return run_word(hold, word, argument)
  end
  if not text:find "%S" then
    if last then run_word(hold, last, "") end
    return nil
  end
  last = nil
  name, argument = text:match "^%s*(%a+)%s*(%d*)%s*$"
  if not name then name, argument = text:match "^%s*(b)%s+(%d.*)$" end
  if not name then name, argument = text:match "^%s*(break)%s+(.*)$" end
  local word = name and by_word[name]
  if word and not is_variable(hold, name) then return run_word(hold, word, argument) end
  local shown = text:match "^%s*pp?%s+(%a[%w_.:%[%]]*)%s*$"
  if shown and not is_variable(hold, "p") then text = shown end
  return text, hold.slot
end

-- ---- beginning and ending ----

local told = false  -- what can be typed

function pause.begin(reason, asks, message, ...)
  local given = pause.given or {}
  pause.given = nil
  local hold = { reason = reason, message = message, over = given.frames ~= nil, names = given.names or {}, at = 1,
    slot = #engine.frames + 1, frames = given.frames or frames_of.of_threads { ... }, before = complete.frame }
  engine.frames[hold.slot] = { kept = {},
    env = pause.environment(function() return hold.frames[hold.at] end, hold.names) }
  holds[#holds + 1] = hold
  choose(hold, 1)
  if pause.on_begin then pause.on_begin(hold) end
  if not asks then return end
  if message then print(message) end
  show_frame(hold)
  if not told then print "Lua in this frame, or continue step next out until where up down list locals quit; :help" end
  told = true
end

function pause.finish()
  local hold = table.remove(holds)
  engine.frames[hold.slot] = nil
  complete.frame = hold.before
  if pause.on_finish then pause.on_finish(hold) end
end

-- ---- what pauses ----

-- Whether breakpoint{when=} wants it.
local function is_wanted(given)
  if given == nil then return true end
  if type(given) ~= "table" then
    native.raise("breakpoint: expected nothing or {when=}, got " .. display.brief(given))
  end
  for key in pairs(given) do
    if key ~= "when" then native.raise(("breakpoint: unknown option %s; it takes when="):format(display.brief(key))) end
  end
  local when = given.when
  if type(when) == "function" then when = when() end
  if type(when) == "userdata" and when.item then when = when:item() end
  return when and when ~= 0
end

function pause.breakpoint(given)
  if is_wanted(given) then engine.stop "breakpoint" end
end

-- Looks into the frames of the last error; they were kept when it happened.
function pause.post_mortem(failed)
  pause.given = { frames = failed }
  engine.stop("post mortem", failed.message)
end

-- The library pauses where somebody would see it; false elsewhere.
function pause.here(reason, message, frames, names)
  if not engine.can_ask() then return false end
  pause.given = { frames = frames, names = names }
  return engine.stop(reason, message)
end

-- An input is about to run.
function pause.note_source(name)
  if pause.on_source then pause.on_source(name) end
end

-- For a prompt beside the one that is paused.
function pause.need()
  return pause.current() or native.raise "nothing is paused; %pause pauses what runs"
end

return pause
