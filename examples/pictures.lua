-- SPDX-License-Identifier: MIT
-- Draws what the examples draw, and the lecture's net, into a folder: nablua examples/pictures.lua [FOLDER]
local nb = require "nablua"
local nn, inspect = nb.nn, nb.inspect

local folder = arg and arg[1] or "."
for _, name in ipairs { "live", "activations" } do
  local path = arg[0]:gsub("pictures%.lua$", name .. ".lua")
  assert(loadfile(path))(folder)
end

-- The lecture's net with one input on its way through.
nb.seed(4)
local net = nn.Sequential {
  nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 3), nn.Sigmoid(),
}
net:apply(function(m) if m.weight then nn.init.normal(m.weight, 0, 1) end end)
inspect.diagram(net, { x = nb.tensor { 0.5, -1.2, 0.8 } }):save(folder .. "/diagram.svg")
