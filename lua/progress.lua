-- SPDX-License-Identifier: MIT
-- The progress bar: rate, time left and a note such as the loss; a line of the terminal, or a display of a notebook
-- that is updated.  Silent elsewhere.
local display = require "nablua.display"
local native = require "nablua.native"
local options = require "nablua.options"
local registry = require "nablua.registry"

local progress = {}

local Bar = {}
Bar.__index = Bar

local REDRAW = 0.1  -- seconds
local blocks = { "▏", "▎", "▍", "▌", "▋", "▊", "▉" }

local function clock_text(seconds)
  if seconds ~= seconds or seconds > 359999 then return "-:--" end
  local s = math.floor(seconds + 0.5)
  if s >= 3600 then return ("%d:%02d:%02d"):format(s // 3600, s // 60 % 60, s % 60) end
  return ("%d:%02d"):format(s // 60, s % 60)
end

-- The share of `width` cells, in eighths of a cell.
local function bar_text(share, width)
  local eighths = math.floor(share * width * 8 + 0.5)
  local full, rest = eighths // 8, eighths % 8
  local text = ("█"):rep(full) .. (blocks[rest] or "")
  return text .. (" "):rep(width - full - (rest > 0 and 1 or 0))
end

local function line(self, now)
  local seconds = math.max((self.ended or now) - self.start, 1e-9)
  local rate = self.done / seconds
  local share = self.total and self.total > 0 and math.min(self.done / self.total, 1)
  local tail = ("%s%.4g/s"):format(self.total and ("%d/%d  "):format(self.done, self.total) or self.done .. "  ", rate)
  if self.ended then
    tail = ("%s  %.1f s"):format(tail, seconds)
  elseif share then
    tail = tail .. "  ETA " .. clock_text((self.total - self.done) / rate)
  end
  if self.note ~= "" then tail = tail .. "  " .. self.note end
  local head = self.label ~= "" and self.label .. "  " or ""
  local room = native.columns() - native.width(head) - native.width(tail) - 6
  if share and room >= 8 then return head .. "▕" .. bar_text(share, math.min(room, 30)) .. "▏  " .. tail end
  return head .. tail
end

-- Where bars are drawn, one after the other: { bar= the last, drawn= when, id= of the display }.
local Place = {}
Place.__index = Place

local count = 0
local held = {}   -- the places with a bar that closed too soon after it was drawn, until the input's end
local spare = {}  -- the places that a bar has left, for the next ones of the same input
local open = {}   -- the bars of this input that are not closed, in the order of their making

-- Empties the line: with blanks where a terminal knows no escape sequences.
local function wipe()
  local terminal = os.getenv "TERM"
  if terminal and terminal ~= "" and terminal ~= "dumb" then return "\r\27[K" end
  return "\r" .. (" "):rep(native.columns() - 1) .. "\r"
end

-- Displays stand in the order in which they are first shown: a bar that runs inside another comes below it.
local draw

local function show_those_before(self, now)
  if self.place.id then return end
  for _, bar in ipairs(open) do
    if bar == self then return end
    if bar.visible and not bar.place.id then draw(bar, now) end
  end
end

function draw(self, now)
  local place = self.place
  if not native.isatty(1) then show_those_before(self, now) end
  place.drawn, place.bar = now, self
  if native.isatty(1) then
    io.stdout:write(wipe(), line(self, now))
    io.stdout:flush()
  elseif place.id then
    display.update(self, place.id)
  else
    count = count + 1
    place.id = "nablua-progress-" .. count
    display.show(self, { id = place.id })
  end
end

function Place:settle()
  if held[self] and display.show then draw(self.bar, native.clock()) end
  held[self], display.pending[self] = nil, nil
end

-- The end of an input, for those that come to know of it.
local input = { of_input = true }

function input.settle()
  open, spare, display.pending[input] = {}, {}, nil
end

local function forget(bar)
  for i, b in ipairs(open) do
    if b == bar then return table.remove(open, i) end
  end
end

-- Counts one step more; the note stands at the end of the line.
function Bar:step(note)
  self.done = self.done + 1
  if not self.visible then return end
  if note then self.note = note end
  local now = native.clock()
  if now - self.place.drawn >= REDRAW then draw(self, now) end
end

-- Removes the bar from the terminal; in a notebook it stays, as it is at its end, unless it was not to.
function Bar:close()
  local place = self.place
  if not self.visible then return end
  self.visible, self.ended = false, native.clock()
  forget(self)
  if not native.isatty(1) then
    place.bar = self
    if place.id then held[place], display.pending[place] = true, true end
    if not self.leave then spare[#spare + 1] = place end
  elseif place.bar == self then
    io.stdout:write(wipe())
    io.stdout:flush()
  end
end

-- Goes on in the place of a bar that was closed.
function Bar:follow(before)
  self.place = before and before.place or self.place
end

Bar.__close = Bar.close
Bar.__name = "progress bar"
function Bar:__tostring()
  return line(self, native.clock())
end

function Bar:__display()
  if self.ended and not self.leave then return { ["text/plain"] = "", ["text/html"] = "" } end
  return { ["text/plain"] = tostring(self) }
end

local params = {
  { name = "total", type = "count", optional = true, positional = true, doc = "how many steps there will be" },
  { name = "label", type = "string", default = "", doc = "stands before the bar" },
  { name = "leave", type = "boolean", default = true,
    doc = "stays in a notebook when it is closed; without, the next bar takes its place" },
}

registry.define(progress, "nb.", "progress", {
  doc = "A progress bar with rate and time left, in a terminal or a notebook; silent elsewhere.  bar:step(note) " ..
    "counts; bar:close() ends it, which removes it from a terminal.", params = params,
  example = "local bar = nb.progress(3); for i = 1, 3 do bar:step() end; bar:close(); return bar.done  --> 3",
  function(...)
    local o = options.read("nb.progress", params, ...)
    local now = native.clock()
    local bar = setmetatable({ total = o.total, label = o.label, leave = o.leave, note = "", done = 0, start = now,
      place = table.remove(spare) or setmetatable({ drawn = now }, Place),
      visible = native.isatty(1) or display.live ~= nil and display.live() }, Bar)
    if bar.visible then
      open[#open + 1] = bar
      display.pending[input] = true
    end
    return bar
  end,
})

return progress
