-- SPDX-License-Identifier: MIT
-- The module `plot`: its kinds, gathered from their files.
local native = require "nablua.native"
local figure = require "nablua.plot.figure"
local options = require "nablua.options"
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

registry.define(plot, "plot.", "formats", {
  doc = "The formats in which notebooks get plots: any of \"svg\", \"png\" and \"pdf\"; without arguments, those of " ..
    "now.  What makes a PDF of a notebook needs \"pdf\" beside \"svg\", or \"png\" alone.",
  signature = "plot.formats([format, ...])", see = { "p:save" },
  example = 'plot.formats("svg", "pdf"); local n = select("#", plot.formats()); plot.formats "svg"; return n  --> 2',
  function(...)
    local given = { ... }
    for _, format in ipairs(given) do
      if not figure.mimes[format] then
        native.raise(("plot.formats: there are \"svg\", \"png\" and \"pdf\", got %s"):format(options.describe(format)))
      end
    end
    if #given > 0 then figure.formats = given end
    return table.unpack(figure.formats)
  end,
})

return plot
