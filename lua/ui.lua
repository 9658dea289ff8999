-- SPDX-License-Identifier: MIT
-- The module `ui`: controls, gathered from their files.
local registry = require "nablua.registry"

local ui = registry.home "nablua.ui"

local see = {}
registry.add {
  name = "ui", kind = "topic", value = ui,
  doc = "Controls: sliders, buttons and more, which work while something runs.  One is shown by being the last " ..
    "value, in a notebook as a widget, elsewhere as text; w.value is what it is at, w:on_change(f) calls " ..
    "f(value, w) when that changes, in the middle of what runs.  Notebooks need jupyterlab_widgets, or another " ..
    "front end of ipywidgets.  In a terminal those that were shown stand in a line below what is printed while " ..
    "something runs: Tab gives it the keys and goes from one to the next, arrows change it, Enter presses it, " ..
    "Space pauses what runs, q stops it, Esc gives the keys back.",
  example = "local w = nb.ui.slider{label=\"lr\", min=0, max=1, value=0.5}; return w.value  --> 0.5", see = see,
}

for _, part in ipairs { "controls", "media", "layout", "bind", "clock", "run" } do
  local entries = require("nablua.ui." .. part)
  for _, entry in ipairs(entries) do
    local name = entry.name
    registry.define(ui, "ui.", name, entry)
    see[#see + 1] = "ui." .. name
  end
end
table.move({ "w.value", "w:on_change", "w:on_click", "w:close" }, 1, 4, #see + 1, see)

return ui
