-- SPDX-License-Identifier: MIT
-- How values reach a person: what a session gives for it, and what waits to be drawn.  Their forms are made in
-- bundles.lua, which is read when the first is asked for.
local native = require "nablua.native"
local registry = require "nablua.registry"

local display = {}
registry.later("nablua.bundles", "add_metadata brief bundle pretty text", display)

-- What is wrong with a text as JSON; a session puts its reader here.
function display.json_error() return nil end

-- What a session puts here: show(value, {id=}) and update(value, id), as its globals display and update_display, which
-- a user may hide; and live(), whether updates can be seen before the input ends.  Without a session they are nil, and
-- nothing is shown.

-- Values with a state that is not drawn yet; at an input's end each is told by v:settle().  One with `of_input` is
-- about the input itself, and goes on where one that came in its middle ends.
display.pending = setmetatable({}, { __mode = "k" })

function display.settle()
  local visiting = native.visiting()
  for v in pairs(display.pending) do
    if not (visiting and v.of_input) then v:settle() end
  end
end

return display
