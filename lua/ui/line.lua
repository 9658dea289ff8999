-- SPDX-License-Identifier: MIT
-- The controls of a terminal, in one line below what is printed while something runs: their text, and what keys do.
-- What ui.output holds is redrawn where it stands.
local native = require "nablua.native"
local display = require "nablua.display"
local session = require "nablua.session.native"
local widget = require "nablua.ui.widget"

local line = {}

local GAP, HINT = "  ", "Tab: keys"
local HELP = "←→ change  Tab next  Enter press  Space pause  q stop  Esc back"

local shown = {}   -- the controls, in the order in which they were shown first
local known = {}   -- control → which showing it came with
local showings = 0
local places, outputs = setmetatable({}, { __mode = "k" }), 0  -- output → its name among what is shown; how many
local chosen       -- the control that keys are for
local help = false
local typing       -- the text that is being typed into the chosen one, or nil

-- ---- which ----

local function drop(w)
  known[w] = nil
  for i = #shown, 1, -1 do
    if shown[i] == w then table.remove(shown, i) end
  end
end

-- One of the same kind and label takes the place of an earlier one, as where an input is run again.
local function supersede(w)
  local p = widget.private(w)
  for i = #shown, 1, -1 do
    local other = widget.private(shown[i])
    if known[shown[i]] < showings and other.kind.name == p.kind.name and p.values.label and p.values.label ~= "" and
      other.values.label == p.values.label then
      drop(shown[i])
    end
  end
end

local function add(w)
  local p = widget.private(w)
  if p.children and p.kind.brief ~= false then
    for _, child in ipairs(p.children) do add(child) end
  elseif p.kind.redrawn then
    if not places[w] then
      outputs = outputs + 1
      places[w] = "output " .. outputs
    end
  elseif p.kind.brief ~= false and not known[w] and not p.closed then
    supersede(w)
    shown[#shown + 1], known[w] = w, showings
    session.controls_changed()
  end
end

-- Adds a control, or what it holds, as it is shown to the user: it stays until it is closed.
function line.show(w)
  showings = showings + 1
  add(w)
end

function widget.changed(w)
  if known[w] then
    if widget.private(w).closed then drop(w) end
    session.controls_changed()
  end
  if places[w] and display.live() and not widget.private(w).closed then display.update(w, places[w]) end
end

local function takes_keys(w)
  local p = widget.private(w)
  return (p.kind.move or p.kind.press or p.kind.typed) and not p.values.disabled
end

-- The next one that takes keys, from the chosen one on, or the one before.
local function choose(list, by)
  local at = 0
  for i, w in ipairs(list) do
    if w == chosen then at = i end
  end
  for _ = 1, #list do
    at = (at + by - 1) % #list + 1
    if takes_keys(list[at]) then
      chosen = list[at]
      return
    end
  end
  chosen = nil
end

-- ---- text ----

local function value_text(v)
  if math.type(v) == "float" then return ("%.4g"):format(v) end
  if type(v) == "boolean" then return v and "on" or "off" end
  return (tostring(v):gsub("%c+", " "))
end

local function brief(w)
  local p = widget.private(w)
  local o = p.values
  if p.kind.brief then return (p.kind.brief(w, o):gsub("%c+", " ")) end
  return (o.label and o.label ~= "" and o.label:gsub("%c+", " ") .. " " or "") .. value_text(o.value)
end

local function item(w)
  if w ~= chosen then return " " .. brief(w) .. " " end
  if not typing then return "[" .. brief(w) .. "]" end
  local label = widget.private(w).values.label or ""
  return ("[%s%s_]"):format(label ~= "" and label .. " " or "", widget.private(w).values.password and
    ("•"):rep(native.width(typing)) or typing)
end

-- As many of the items as there is room for, the chosen one among them.
local function window(items, at, room)
  local first = 1
  local function width_of(i, j)
    local sum = (i > 1 and 2 or 0) + (j < #items and 2 or 0)
    for k = i, j do sum = sum + native.width(items[k]) end
    return sum
  end
  while first < at and width_of(first, at) > room do first = first + 1 end
  local stop = math.max(at, first)
  while stop < #items and width_of(first, stop + 1) <= room do stop = stop + 1 end
  local text = (first > 1 and "… " or "") .. table.concat(items, "", first, stop) .. (stop < #items and " …" or "")
  return native.fit(text, room)
end

-- The line, `columns` wide at most, nil where there is nothing to show; `given`: keys are for it; `paused`: what runs
-- waits.
function line.text(columns, given, paused, color)
  local list = shown
  if #list == 0 then return nil end
  if given and not (chosen and takes_keys(chosen)) then choose(list, 1) end
  if not given then chosen, help, typing = nil, false, nil end
  local items, at, any = {}, 1, false
  for i, w in ipairs(list) do
    items[i], any = item(w), any or takes_keys(w)
    if w == chosen then at = i end
  end
  local hint = paused and "paused, Space: on" or given and "? help" or any and HINT or ""
  if hint == "" or columns < 3 * #hint then hint = paused and "paused" or "" end
  local text = help and native.fit(HELP, columns) or
    window(items, at, columns - (hint ~= "" and #hint + #GAP or 0)) .. (hint ~= "" and GAP .. hint or "")
  if not color then return text end
  local before, mark, after = text:match "^(.-)(%b[])(.*)$"
  if help or not given or not mark then return "\27[2m" .. text .. "\27[0m" end
  return ("\27[2m%s\27[0;7m%s\27[0;2m%s\27[0m"):format(before, mark, after)
end

-- ---- keys ----

local function assign(w, value)
  if value ~= nil and widget.set(w, "value", value) then widget.call_handlers(w) end
end

local steps = { left = -1, right = 1, down = -10, up = 10 }

-- A key while a text is typed.
local function type_key(key)
  if key == "enter" then
    local w, text = chosen, typing
    typing = nil
    assign(w, widget.private(w).kind.typed(w, text))
  elseif key == "escape" then
    typing = nil
  elseif key == "backspace" then
    typing = typing:sub(1, (utf8.offset(typing, -1) or 1) - 1)
  elseif key == "space" then
    typing = typing .. " "
  elseif utf8.len(key) == 1 then
    typing = typing .. key
  end
end

local function press(w)
  local kind = widget.private(w).kind
  if kind.press then
    kind.press(w)
  elseif kind.typed then
    local value = widget.private(w).values.value
    typing = type(value) == "string" and not widget.private(w).values.password and value or ""
  end
end

-- What a key does: "left", "enter", "space", or a character.  Returns "leave", "pause" or "stop" where that is not for
-- a control.
function line.key(key)
  session.controls_changed()
  if typing then return type_key(key) end
  if help then
    help = false
    return
  end
  local list = shown
  if not (chosen and takes_keys(chosen)) then choose(list, 1) end
  if key == "escape" then return "leave" end
  if key == "space" then return "pause" end
  if key == "q" then return "stop" end
  if key == "?" then
    help = true
  elseif key == "tab" or key == "backtab" then
    choose(list, key == "tab" and 1 or -1)
  elseif chosen and key == "enter" then
    press(chosen)
  elseif chosen and steps[key] and widget.private(chosen).kind.move then
    assign(chosen, widget.private(chosen).kind.move(chosen, widget.private(chosen).values, steps[key]))
  end
end

return line
