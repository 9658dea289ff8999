-- SPDX-License-Identifier: MIT
-- The controls that hold one value.
local native = require "nablua.native"
local display = require "nablua.display"
local json = require "nablua.json"
local options = require "nablua.options"
local widget = require "nablua.ui.widget"

local controls = {}

local function define(kind)
  controls[#controls + 1] = widget.entry(kind)
  return kind
end

local function fail(kind, ...)
  native.raise("ui." .. kind.name .. ": " .. string.format(...))
end

-- ---- numbers ----

local function is_whole(...)
  for _, v in ipairs { ... } do
    if math.type(v) ~= "integer" then return false end
  end
  return true
end

local function is_finite(v)
  return math.type(v) ~= nil and v == v and v ~= math.huge and v ~= -math.huge
end

local function check_range(w, field, value)
  local kind, o = widget.private(w).kind, widget.private(w).values
  if field ~= "value" then return value end
  if not is_finite(value) then fail(kind, "value must be a finite number, got %s", tostring(value)) end
  if o.min and (value < o.min or value > o.max) then
    fail(kind, "value must be from %s to %s, got %s", options.show(o.min), options.show(o.max), options.show(value))
  end
  if o.whole and math.type(value) ~= "integer" then
    return math.tointeger(value) or fail(kind, "value must be a whole number as min and max are, got %g", value)
  end
  return o.whole and value or value + 0.0
end

-- What a page says is moved into the range.
local function decode_number(w, field, sent)
  local o = widget.private(w).values
  if field ~= "value" then return type(sent) == type(o[field]) and sent or nil end
  if not is_finite(sent) then return nil end
  if o.min then sent = math.max(o.min, math.min(o.max, sent)) end
  if o.whole then return math.tointeger(sent) or math.floor(sent + 0.5) end
  return sent + 0.0
end

-- So many steps on; of a logarithmic slider by equal ratios.
local function move_number(_, o, by)
  local step = o.step or 1
  local value = o.log and 10 ^ (math.log(o.value, 10) + by * step) or o.value + by * step
  if not o.min then return value end
  return math.max(o.min, math.min(o.max, value))
end

local function typed_number(w, text)
  local value = tonumber(text)
  if not is_finite(value) then
    fail(widget.private(w).kind, "value must be a number, got %s", options.describe(text))
  end
  return decode_number(w, "value", value)
end

local function check_limits(kind, o)
  if not (is_finite(o.min) and is_finite(o.max) and o.min < o.max) then
    fail(kind, "min must be below max, got %s and %s", options.show(o.min), options.show(o.max))
  end
  if o.step and not (is_finite(o.step) and o.step > 0) then
    fail(kind, "step must be above 0, got %s", options.show(o.step))
  end
end

-- Whole where all that is given is.
local function make_number(kind, o)
  o.whole = is_whole(o.min or 0, o.max or 0, o.value or o.min or 0, o.step or 1)
  o.value = o.value or math.max(o.min or 0, math.min(o.max or 0, 0))
  if o.min or o.max then
    if not (o.min and o.max) then fail(kind, "min and max go together, got one of them") end
    check_limits(kind, o)
  end
  local base = (o.whole and "Int" or "Float") .. kind.model
  local model = o.min and "Bounded" .. base or base
  local w = widget.new(setmetatable({ model = model, view = base }, { __index = kind }), o)
  o.value = check_range(w, "value", o.value)
  return w
end

local function make_slider(kind, o)
  if o.min == nil and o.max == nil then o.min, o.max = 0.0, 1.0 end
  if not (o.min and o.max) then fail(kind, "min and max go together, got one of them") end
  o.value = o.value or o.min
  check_limits(kind, o)
  o.whole = not o.log and is_whole(o.min, o.max, o.value, o.step or 1) and (o.step ~= nil or o.max - o.min > 1)
  if o.log and o.min <= 0 then fail(kind, "with log, min must be above 0, got %s", options.show(o.min)) end
  if not o.step then
    o.step = o.whole and 1 or (o.log and math.log(o.max / o.min, 10) or o.max - o.min) / 100
  end
  local model = (o.log and "FloatLog" or o.whole and "Int" or "Float") .. "Slider"
  local w = widget.new(setmetatable({ model = model }, { __index = kind }), o)
  o.value = check_range(w, "value", o.value)
  return w
end

local function encode_slider(w, field, value)
  local o = widget.private(w).values
  if field == "log" or field == "whole" then return nil end
  if o.log and (field == "min" or field == "max") then return math.log(value, 10) end
  return value
end

local function range_text(w, o)
  return ("%s%s = %s, from %s to %s"):format(widget.private(w).kind.name, o.label ~= "" and " " .. o.label or "",
    ("%.5g"):format(o.value), ("%.5g"):format(o.min), ("%.5g"):format(o.max))
end

define {
  name = "slider", doc = "A number between two, by a handle; whole where all that is given is, but for 0 to 1.",
  params = {
    { name = "min", type = "number", optional = true, fixed = true, doc = "0 without both" },
    { name = "max", type = "number", optional = true, fixed = true, doc = "1 without both" },
    { name = "value", type = "number", optional = true, doc = "where it begins; min" },
    { name = "step", type = "number", optional = true, fixed = true,
      doc = "between places; 1 of whole numbers, else a hundredth of the way" },
    { name = "log", type = "boolean", default = false, fixed = true, doc = "places stand at equal ratios" },
  },
  keys = { readout = "readout_format" },
  example = "local w = nb.ui.slider{label=\"lr\", min=1e-4, max=1, value=0.01, log=true}; return w.value  --> 0.01",
  see = { "w:on_change", "ui.bind", "ui.interact" },
  make = function(kind, o)
    local w = make_slider(kind, o)
    if not o.whole then o.readout = ".3~g" end
    return w
  end,
  check = check_range, decode = decode_number, encode = encode_slider, text = range_text,
  move = move_number, typed = typed_number,
}

define {
  name = "number", model = "Text", doc = "A number that is typed; whole where all that is given is.",
  params = {
    { name = "value", type = "number", optional = true, doc = "what it begins with; what is nearest to 0" },
    { name = "min", type = "number", optional = true, fixed = true },
    { name = "max", type = "number", optional = true, fixed = true },
    { name = "step", type = "number", optional = true, fixed = true, doc = "of its arrows" },
  },
  example = "nb.ui.number{label=\"epochs\", value=10}.value  --> 10",
  make = make_number, check = check_range, decode = decode_number, move = move_number, typed = typed_number,
  encode = function(_, field, value)
    if field == "whole" then return nil end
    return value
  end,
}

define {
  name = "progress", model = "FloatProgress", view = "Progress", doc = "A bar that shows how far a value has come.",
  params = {
    { name = "value", type = "number", optional = true, doc = "where it begins; min" },
    { name = "min", type = "number", default = 0, fixed = true },
    { name = "max", type = "number", default = 1, fixed = true },
    { name = "style", choices = { "", "success", "info", "warning", "danger" }, default = "", doc = "its colour" },
  },
  keys = { style = "bar_style" },
  example = "local w = nb.ui.progress{max=10}; w.value = 4; return w.value  --> 4.0",
  make = function(kind, o)
    check_limits(kind, o)
    o.value = o.value or o.min
    local w = widget.new(kind, o)
    o.value = check_range(w, "value", o.value)
    return w
  end,
  check = check_range, decode = decode_number, text = range_text,
  brief = function(_, o)
    return ("%s%.0f %%"):format(o.label ~= "" and o.label .. " " or "", 100 * (o.value - o.min) / (o.max - o.min))
  end,
}

define {
  name = "play", model = "Play", doc = "Counts from min to max by the clock, with buttons to start and to stop it.",
  params = {
    { name = "min", type = "integer", default = 0, fixed = true },
    { name = "max", type = "integer", default = 100, fixed = true },
    { name = "value", type = "integer", optional = true },
    { name = "step", type = "integer", default = 1, fixed = true },
    { name = "interval", type = "integer", default = 100, doc = "milliseconds between steps" },
  },
  example = "nb.ui.play{max=5}.value  --> 0",
  make = make_slider and function(kind, o)
    check_limits(kind, o)
    o.value, o.whole = o.value or o.min, true
    local w = widget.new(kind, o)
    o.value = check_range(w, "value", o.value)
    return w
  end,
  check = check_range, decode = decode_number, move = move_number,
  encode = function(_, field, value)
    if field == "whole" then return nil end
    return value
  end,
}

-- ---- pressed or not ----

local function press_button(w)
  local p = widget.private(w)
  p.values.pressed, p.values.value = true, p.values.value + 1
  widget.changed(w)
  widget.call_handlers(w)
end

define {
  name = "button", model = "Button",
  doc = "A button.  w.pressed is true from a press until it is assigned false; w:on_change(f) calls f(clicks, w) at " ..
    "each; w:press() presses it.",
  params = {
    { name = "tooltip", type = "string", default = "", doc = "what the pointer is told" },
    { name = "style", choices = { "", "primary", "success", "info", "warning", "danger" }, default = "" },
    { name = "icon", type = "string", default = "", doc = "a name of Font Awesome" },
  },
  keys = { style = "button_style" },
  example = "local stop = nb.ui.button{label=\"stop\"}; return stop.pressed  --> false",
  make = function(kind, o)
    o.value, o.pressed = 0, false
    return widget.new(kind, o)
  end,
  encode = function(_, field, value)
    if field == "value" or field == "pressed" then return nil end
    return value
  end,
  decode = function() return nil end,
  custom = function(w, content)
    if content.event == "click" and not widget.private(w).values.disabled then press_button(w) end
  end,
  press = press_button, methods = { press = press_button },
  set = {
    pressed = function(w, value)
      widget.private(w).values.pressed = value and true or false
      widget.changed(w)
    end,
  },
  brief = function(_, o) return ("(%s%s)"):format(o.label, o.pressed and " ✓" or "") end,
  text = function(_, o) return ("button %s%s"):format(o.label, o.pressed and ", pressed" or "") end,
}

define {
  name = "toggle", model = "ToggleButton", doc = "A button that stays in, or a box that stays ticked.",
  params = {
    { name = "value", type = "boolean", default = false },
    { name = "box", type = "boolean", default = false, fixed = true, doc = "a box to tick" },
    { name = "tooltip", type = "string", default = "" },
    { name = "icon", type = "string", default = "", doc = "a name of Font Awesome; a box has none" },
  },
  example = "nb.ui.toggle{label=\"noise\", value=true}.value  --> true",
  make = function(kind, o)
    return widget.new(setmetatable({ model = o.box and "Checkbox" or "ToggleButton" }, { __index = kind }), o)
  end,
  encode = function(w, field, value)
    if field == "box" or field == "icon" and w.box then return nil end
    return value
  end,
  move = function(_, o) return not o.value end,
  press = function(w) w.value = not w.value end,
}

-- ---- one of several ----

local function place_of(o, value)
  for i, option in ipairs(o.options) do
    if option == value then return i end
  end
end

define {
  name = "choice", model = "Dropdown", doc = "One of several values, from a list that unfolds.",
  params = {
    { name = "options", type = "table", fixed = true, doc = "the values, in their order" },
    { name = "value", type = "any", optional = true, doc = "the one it begins with; the first" },
    { name = "as", choices = { "list", "buttons", "radio", "slider" }, default = "list", fixed = true,
      doc = "how it looks" },
  },
  keys = { value = "index", options = "_options_labels" },
  example = "nb.ui.choice{\"sgd\", \"adam\"}.value  --> \"sgd\"",
  make = function(kind, o)
    if #o.options == 0 then fail(kind, "options must be a list of at least one value") end
    local models = { list = "Dropdown", buttons = "ToggleButtons", radio = "RadioButtons",
      slider = "SelectionSlider" }
    if o.value == nil then o.value = o.options[1] end
    local w = widget.new(setmetatable({ model = models[o.as] }, { __index = kind }), o)
    o.value = kind.check(w, "value", o.value)
    return w
  end,
  check = function(w, field, value)
    local p = widget.private(w)
    if field == "value" and not place_of(p.values, value) then
      fail(p.kind, "value must be one of its options, got %s", options.describe(value))
    end
    return value
  end,
  encode = function(w, field, value)
    local o = widget.private(w).values
    if field == "as" then return nil end
    if field == "value" then return place_of(o, value) - 1 end
    if field ~= "options" then return value end
    local labels = json.list {}
    for i, option in ipairs(value) do labels[i] = type(option) == "string" and option or display.pretty(option) end
    return labels
  end,
  decode = function(w, field, sent)
    local o = widget.private(w).values
    if field == "value" then return math.type(sent) == "integer" and o.options[sent + 1] or nil end
    return type(sent) == type(o[field]) and field ~= "options" and sent or nil
  end,
  move = function(_, o, by) return o.options[(place_of(o, o.value) - 1 + by) % #o.options + 1] end,
  press = function(w)
    local o = widget.private(w).values
    w.value = o.options[place_of(o, o.value) % #o.options + 1]
  end,
}

-- ---- text ----

define {
  name = "text", model = "Text", doc = "A line that is typed, or several.",
  params = {
    { name = "value", type = "string", default = "" },
    { name = "placeholder", type = "string", default = "", doc = "what an empty one shows" },
    { name = "lines", type = "size", default = 1, fixed = true },
    { name = "password", type = "boolean", default = false, fixed = true, doc = "dots stand for what is typed" },
    { name = "at_end", type = "boolean", default = false, fixed = true,
      doc = "the value changes when Enter is pressed or the field is left, not at each key" },
  },
  keys = { lines = "rows", at_end = "continuous_update" },
  example = "nb.ui.text{label=\"name\", value=\"Ada\"}.value  --> \"Ada\"",
  make = function(kind, o)
    local model = o.password and "Password" or o.lines > 1 and "Textarea" or "Text"
    return widget.new(setmetatable({ model = model }, { __index = kind }), o)
  end,
  encode = function(w, field, value)
    if field == "password" or (field == "lines" and widget.private(w).values.lines == 1) then return nil end
    if field == "at_end" then return not value end
    return value
  end,
  decode = function(w, field, sent)
    local o = widget.private(w).values
    return field ~= "at_end" and type(sent) == type(o[field]) and sent or nil
  end,
  text = function(_, o)
    local shown = o.password and "(hidden)" or ("%q"):format(o.value)
    return ("text%s = %s"):format(o.label ~= "" and " " .. o.label or "", shown)
  end,
  brief = function(_, o)
    local text = o.password and ("•"):rep(native.width(o.value)) or ("%q"):format(o.value)
    return (o.label ~= "" and o.label .. " " or "") .. text
  end,
  typed = function(_, text) return text end,
}

define {
  name = "valid", model = "Valid", doc = "A mark that says whether something is right.",
  params = {
    { name = "value", type = "boolean", default = false },
    { name = "text", type = "string", default = "", doc = "what stands beside a mark that says it is not" },
  },
  keys = { text = "readout" },
  example = "nb.ui.valid{label=\"converged\", value=true}.value  --> true",
  brief = function(_, o) return (o.label ~= "" and o.label .. " " or "") .. (o.value and "✓" or "✗ " .. o.text) end,
}

define {
  name = "label", model = "Label", doc = "A line of text, which may hold $TeX$.",
  params = { { name = "value", type = "string", default = "", positional = true } },
  example = "nb.ui.label(\"ready\").value  --> \"ready\"",
  text = function(_, o) return o.value end,
}

define {
  name = "html", model = "HTML", doc = "HTML that is shown; elsewhere its text.",
  params = { { name = "value", type = "string", default = "", positional = true } },
  example = "nb.ui.html(\"<b>ready</b>\").value  --> \"<b>ready</b>\"",
  text = function(_, o) return (o.value:gsub("<[^>]*>", "")) end,
  brief = false,
}

define {
  name = "colour", model = "ColorPicker", doc = "A colour, as \"#rrggbb\" or by its name in HTML.",
  params = { { name = "value", type = "string", default = "#000000" } },
  example = "nb.ui.colour{value=\"#ff0000\"}.value  --> \"#ff0000\"",
  typed = function(_, text) return text end,
}

local function date_parts(value)
  local y, m, d = tostring(value):match("^(%d%d%d%d)%-(%d%d)%-(%d%d)$")
  y, m, d = tonumber(y), tonumber(m), tonumber(d)
  if not y or m < 1 or m > 12 or d < 1 or d > 31 then return nil end
  return y, m, d
end

define {
  name = "date", model = "DatePicker", doc = "A day, as \"2026-12-31\".",
  params = { { name = "value", type = "string", default = "2026-01-01" } },
  example = "nb.ui.date{value=\"2026-12-31\"}.value  --> \"2026-12-31\"",
  make = function(kind, o)
    local w = widget.new(kind, o)
    kind.check(w, "value", o.value)
    return w
  end,
  check = function(w, field, value)
    if field == "value" and not date_parts(value) then
      fail(widget.private(w).kind, "value must be a day as \"2026-12-31\", got %s", options.describe(value))
    end
    return value
  end,
  encode = function(_, field, value)
    if field ~= "value" then return value end
    local y, m, d = date_parts(value)
    return { year = y, month = m - 1, date = d }
  end,
  decode = function(w, field, sent)
    if field ~= "value" then return type(sent) == type(widget.private(w).values[field]) and sent or nil end
    local text = type(sent) == "table" and math.type(sent.year) == "integer" and math.type(sent.month) == "integer" and
      math.type(sent.date) == "integer" and ("%04d-%02d-%02d"):format(sent.year, sent.month + 1, sent.date)
    return text and date_parts(text) and text or nil
  end,
  typed = function(_, text) return text end,
}

return controls
