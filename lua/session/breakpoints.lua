-- SPDX-License-Identifier: MIT
-- Breakpoints: where they stand, on what condition and how often they stop.
--
-- A place is what people write: a file's path, or "input 3".  The engine knows sources as Lua does: "@" and the path
-- without links, or "=input 3".
local display = require "nablua.display"
local engine = require "nablua.session.engine"
local frames_of = require "nablua.frames"
local native = require "nablua.native"
local nb = require "nablua.core"
local session = require "nablua.session.native"

local breakpoints = {}

local list, last = {}, 0  -- in the order they were set

-- What Lua calls the source of a place.
local function source_of(place)
  if session.sources[place] then return "=" .. place end
  return "@" .. (engine.real_path(place) or place)
end

function breakpoints.place_of(source)
  return source:sub(2)
end

-- A source as the engine knows it.
local function known_as(source)
  if source:sub(1, 1) ~= "@" then return source end
  return "@" .. (engine.real_path(source:sub(2)) or source:sub(2))
end

-- Tells the engine of the lines of a source.
local function remark(source)
  local lines = {}
  for _, b in ipairs(list) do
    if b.source == source then lines[#lines + 1] = b.line end
  end
  engine.mark(source, lines)
end

-- The lines of a source that have one.
function breakpoints.lines_of(source)
  local lines = {}
  source = known_as(source)
  for _, b in ipairs(list) do
    if b.source == source then lines[b.line] = b end
  end
  return lines
end

-- What to say of a file whose text is no longer the one that was loaded; nil of all else.
function breakpoints.changed(source)
  local path = source:sub(1, 1) == "@" and engine.real_path(source:sub(2))
  local loaded = path and session.stamps[path]
  if not loaded or loaded == session.stamp(path) then return nil end
  return ("%s has changed since it was loaded, and what runs has its old lines; load it again"):format(source:sub(2))
end

-- ---- lines with code ----

-- The text of a source, nil where it is not at hand.
function breakpoints.text_of(source)
  local text = session.sources[source:sub(2)]
  if text or source:sub(1, 1) ~= "@" then return text end
  local f = io.open(source:sub(2))
  text = f and f:read "a"
  if f then f:close() end
  return text
end

-- An input without the commands that it begins with, whose lines stay.
local function lua_of_input(text)
  local code, parts = require("nablua.session.commands").split(text)
  local _, lines = table.concat(parts):gsub("\n", "")
  return ("\n"):rep(lines) .. (code or "")
end

-- The first line from `line` on that has code, nil where none has; and why it is not known, which is no error.
function breakpoints.next_line(text, line, is_input)
  if is_input then text = lua_of_input(text) end
  local f, message = engine.compile(text, is_input)
  if not f then return line, message end
  local best
  for number in pairs(native.code_lines(f) or {}) do
    if number >= line and (not best or number < best) then best = number end
  end
  return best
end

-- ---- setting ----

local function check_condition(what, text)
  if not text or text == "" then return nil end
  local f, message = load("return " .. text, "=" .. what, "t")
  if not f then native.raise(("the %s %s is no expression: %s"):format(what, text, message)) end
  return text
end

-- How often it is to be passed: a number, or a comparison or a remainder of one.
local function read_hits(text)
  if not text or text == "" then return nil end
  local sign, number = tostring(text):match "^%s*([<>=%%]*)%s*(%d+)%s*$"
  number = tonumber(number)
  local tests = {
    [""] = function(n) return n >= number end, [">="] = function(n) return n >= number end,
    [">"] = function(n) return n > number end, ["=="] = function(n) return n == number end,
    ["="] = function(n) return n == number end, ["<"] = function(n) return n < number end,
    ["<="] = function(n) return n <= number end, ["%"] = function(n) return n % number == 0 end,
  }
  if not number or not tests[sign] or (sign == "%" and number == 0) then
    native.raise(("the hit count %s is no number such as 3, \">= 3\" or \"%% 3\""):format(display.brief(text)))
  end
  return tests[sign]
end

-- Sets one: { line=, condition=, hits=, log= } in a source; returns it.  A line without code moves to the next with.
local function new(source, given, text)
  last = last + 1
  local b = { id = last, source = source, asked = given.line, line = given.line, hit = 0, log = given.log }
  b.condition = check_condition("condition", given.condition)
  b.hits = read_hits(given.hits)
  b.said = (b.condition and " if " .. b.condition or "") .. (given.hits and " hits " .. given.hits or "") ..
    (b.log and " log " .. b.log or "")
  local line, why
  if text then line, why = breakpoints.next_line(text, given.line, source:sub(1, 1) ~= "@") end
  if text and not line then
    b.message = ("line %d and those behind it have no code"):format(given.line)
  else
    b.line, b.verified = line or given.line, text ~= nil and not why
    if b.line ~= b.asked then b.message = ("line %d has no code; it stands in line %d"):format(b.asked, b.line) end
    if why then b.message = "the source does not compile: " .. tostring(why) end
    if not text then b.message = "the source is not there yet" end
    if b.verified then b.message = b.message or breakpoints.changed(source) end
  end
  return b
end

-- Sets those of a source, in the place of those that were there; returns them.
function breakpoints.set(source, given, text)
  breakpoints.clear(source)
  local set = {}
  for i, g in ipairs(given) do
    local ok, b = pcall(new, source, g, text)
    if not ok then b = { id = last, line = g.line, message = b } end
    set[i] = b
    if ok and (b.verified or not text) then list[#list + 1] = b end
  end
  remark(source)
  return set
end

function breakpoints.clear(source)
  local left = {}
  for _, b in ipairs(list) do
    if b.source ~= source then left[#left + 1] = b end
  end
  list = left
  engine.mark(source, {})
end

-- The same breakpoints stand in another source of the same text.
function breakpoints.copy(from, to)
  local more = {}
  for _, b in ipairs(list) do
    if b.source == from then
      local copy = {}
      for key, value in pairs(b) do copy[key] = value end
      copy.source = to
      more[#more + 1] = copy
    end
  end
  for _, b in ipairs(more) do list[#list + 1] = b end
  if #more > 0 then remark(to) end
end

-- All of them, in the order they were set.
function breakpoints.all()
  return table.move(list, 1, #list, 1, {})
end

-- ---- as people write them ----

local function text_of(b)
  return ("%d  %s:%d%s%s"):format(b.id, breakpoints.place_of(b.source), b.line, b.said,
    b.hit > 0 and (", passed %d time%s"):format(b.hit, b.hit == 1 and "" or "s") or "")
end

function breakpoints.show()
  if #list == 0 then print "no breakpoints are set" end
  for _, b in ipairs(list) do print(text_of(b)) end
end

-- "net.lua:12 if x > 3": sets it and says so.
function breakpoints.add_text(argument)
  local usage = "%break FILE:LINE, with \"if CONDITION\", \"hits COUNT\" or \"log TEXT\" behind it"
  local place, line, rest = argument:match "^(.-):(%d+)%s*(.-)$"
  if not place then native.raise("%break: expected " .. usage .. ", got " .. argument) end
  local given = { line = tonumber(line) }
  local kind, what = rest:match "^(%a+)%s+(.+)$"
  local keys = { ["if"] = "condition", hits = "hits", log = "log" }
  if rest ~= "" and not keys[kind] then native.raise("%break: expected " .. usage .. ", got " .. argument) end
  if kind then given[keys[kind]] = what end
  local source = source_of(place)
  local text = breakpoints.text_of(source)
  if not text then native.raise(("%%break: there is no file and no input %s"):format(place)) end
  local b = new(source, given, text)
  if not b.verified then native.raise("%break: " .. b.message) end
  list[#list + 1] = b
  remark(source)
  return text_of(b) .. (b.message and "\n" .. b.message or "")
end

-- Removes one by its number, or all.
function breakpoints.remove(id)
  local left, sources, found = {}, {}, false
  for _, b in ipairs(list) do
    if id == nil or b.id == id then
      sources[b.source], found = true, true
    else
      left[#left + 1] = b
    end
  end
  list = left
  for source in pairs(sources) do remark(source) end
  return found
end

-- ---- stopping ----

-- What {expressions} in a text of a log are worth.
local function filled(text, env)
  return (text:gsub("{([^{}]+)}", function(expression)
    local f = load("return " .. expression, "=log", "t", env)
    local ok, value = pcall(f or error, not f and "no expression" or nil)
    return ok and display.brief(value) or "{" .. expression .. ": " .. tostring(value) .. "}"
  end))
end

local function stops(b, env)
  if b.condition then
    local ok, value = pcall(load("return " .. b.condition, "=condition", "t", env))
    if not ok then
      print(("the condition of breakpoint %d fails: %s"):format(b.id, tostring(value)))
      return true
    end
    if nb.is_tensor(value) then value = value:item() end
    if not value or value == 0 then return false end
  end
  b.hit = b.hit + 1
  if b.hits and not b.hits(b.hit) then return false end
  if b.log then print(filled(b.log, env)) end
  return not b.log
end

-- Whether the breakpoints of a line that a thread has come to stop it.
function breakpoints.stops_at(thread, source, line)
  local env, stop = nil, false
  source = known_as(source)
  breakpoints.met = {}
  for _, b in ipairs(list) do
    if b.source == source and b.line == line then
      if not env and (b.condition or b.log) then
        local frame = frames_of.of_threads({ thread })[1]
        env = require("nablua.session.pause").environment(function() return frame end)
      end
      if stops(b, env) then
        stop = true
        breakpoints.met[#breakpoints.met + 1] = b.id
      end
    end
  end
  return stop
end

return breakpoints
