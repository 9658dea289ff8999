-- SPDX-License-Identifier: MIT
-- Controls tied to something: a field of an object, or a function's arguments.
local native = require "nablua.native"
local display = require "nablua.display"
local nb = require "nablua.core"
local options = require "nablua.options"
local layout = require "nablua.ui.layout"
local widget = require "nablua.ui.widget"

local bind = {}

-- ---- a field ----

local ties = setmetatable({}, { __mode = "k" })  -- control → { object, field }

-- Moves controls to what their fields have become; told at the end of inputs.
local follower = { of_input = true }
function follower.settle()
  for w, tie in pairs(ties) do
    local value = tie.object[tie.field]
    if value ~= nil and value ~= w.value then pcall(widget.set, w, "value", value) end
  end
end

bind[1] = {
  name = "bind",
  doc = "Ties a control to a field: the control begins at its value, a change of the control is assigned to it, and " ..
    "at the end of each input the control follows what the field has become; the value of another control it " ..
    "follows at once.  Returns the control.",
  signature = "ui.bind(w, object, field)", see = { "w:on_change", "ui.interact" },
  example = "local t = {lr=0.5}; local w = nb.ui.bind(nb.ui.slider{}, t, \"lr\"); w.value = 0.25; " ..
    "return t.lr  --> 0.25",
  function(w, object, field)
    if not widget.is(w) then
      native.raise(("ui.bind: expected a control, got %s; make one with ui.slider and its kin")
        :format(options.describe(w)))
    end
    if type(object) ~= "table" and type(object) ~= "userdata" then
      native.raise(("ui.bind: expected an object with fields, got %s"):format(options.describe(object)))
    end
    if field == nil then native.raise "ui.bind: the name of the field is missing" end
    if object[field] ~= nil then w.value = object[field] end
    ties[w] = { object = object, field = field }
    display.pending[follower] = true
    if widget.is(object) and field == "value" then object:on_change(function(value) w.value = value end) end
    return w:on_change(function(value) object[field] = value end)
  end,
}

-- ---- a function's arguments ----

-- The control that an example of a value asks for.
local function control_for(name, v)
  if widget.is(v) then return v end
  if type(v) == "boolean" then return widget.make.toggle { label = name, value = v, box = true } end
  if type(v) == "string" then return widget.make.text { label = name, value = v } end
  if type(v) == "number" then
    local far = v == 0 and 1 or math.abs(v)
    local low, high = math.min(0, 2 * v), math.max(2 * far, 2 * v)
    if v < 0 then high = 0 end
    return widget.make.slider { label = name, min = low, max = high, value = v }
  end
  if type(v) == "table" and type(v[1]) == "number" and type(v[2]) == "number" and #v <= 3 then
    return widget.make.slider { label = name, min = v[1], max = v[2], step = v[3], value = v.value, log = v.log }
  end
  if type(v) == "table" and #v > 0 then return widget.make.choice(v, { label = name }) end
  native.raise(("ui.interact: %s must be a number, {min, max}, a list, a string, true or false, or a control, got %s")
    :format(name, options.describe(v)))
end

-- The names of a function's parameters, in their order.
local function parameters(f)
  local names = {}
  for i = 1, debug.getinfo(f, "u").nparams do names[i] = debug.getlocal(f, i) end
  return names
end

bind[2] = {
  name = "interact",
  doc = "Controls for a function's arguments, and what it prints and returns below them: it is called again at each " ..
    "change.  Each is {min, max}, {min, max, log=true}, a number, a list of choices, a string, true or false, or a " ..
    "control.",
  signature = "ui.interact(f, {name={min, max}, ...})", see = { "ui.output", "ui.bind" },
  example = "tostring(nb.ui.interact(function(x) return 2 * x end, {x=3})):find(\"6\") ~= nil  --> true",
  function(f, given)
    if type(f) ~= "function" then
      native.raise(("ui.interact: expected a function, got %s"):format(options.describe(f)))
    end
    if type(given) ~= "table" or nb.is_tensor(given) then
      native.raise(("ui.interact: expected a table of arguments by name, got %s"):format(options.describe(given)))
    end
    local names, known, list = parameters(f), {}, {}
    for i, name in ipairs(names) do
      known[name] = true
      if given[name] == nil then
        native.raise(("ui.interact: the function's argument %s has no control; add %s={min, max}"):format(name, name))
      end
      list[i] = control_for(name, given[name])
    end
    for name in pairs(given) do
      if not known[name] then native.no_option("ui.interact", tostring(name), names) end
    end
    local out = layout.output()
    local function run()
      local values = {}
      for i, w in ipairs(list) do values[i] = w.value end
      out:run(f, table.unpack(values, 1, #list))
    end
    for _, w in ipairs(list) do w:on_change(run) end
    run()
    list[#list + 1] = out
    return widget.make.column(list)
  end,
}

return bind
