-- SPDX-License-Identifier: MIT
-- The module `plot`: its kinds, gathered from their files.
local figure = require "nablua.plot.figure"
local registry = require "nablua.registry"

local plot = registry.home "nablua.plot"

local see = {}
registry.add {
  name = "plot", kind = "topic", value = plot,
  doc = "Pictures of series, points, matrices, images and nets: shown as the last value, p:save(\"loss.svg\") for " ..
    "a file, p:update(...) while something runs.",
  example = "tostring(plot.curve{3, 2, 1}):find(\"1\") ~= nil  --> true",
  see = see,
}

for _, part in ipairs { "curves", "points", "images" } do
  local kinds, names = require("nablua.plot." .. part), {}
  for name in pairs(kinds) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    figure.define(plot, "plot.", name, kinds[name])
    see[#see + 1] = "plot." .. name
  end
end
table.move({ "p:save", "p:update" }, 1, 2, #see + 1, see)

return plot
