-- SPDX-License-Identifier: MIT
-- A net learns three spiral arms while its loss and its decision boundary are redrawn in place.
-- nablua examples/live.lua [FOLDER]: with a folder, the last pictures are saved there.
local nb = require "nablua"
local nn, optim, data, plot = nb.nn, nb.optim, nb.data, nb.plot

nb.seed(3)
local x, y = data.spirals(180, { classes = 3, noise = 0.02 })
local net = nn.Sequential { nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3) }
local loss = nn.CrossEntropyLoss()
local opt = optim.Adam(net:parameters(), { lr = 0.01 })

local boundary = plot.boundary(net, { x = x, y = y, title = "What the net decides", legend = false })
local curve = plot.curve({}, { title = "Loss", xlabel = "step", logy = true })
local J
for step = 1, 400 do
  opt:zero_grad()
  J = loss(net(x), y)
  J:backward()
  opt:step()
  curve:update { train = J:item() }
  if step % 20 == 0 then boundary:update() end
end
curve:close()
boundary:close()

local right = net(x):argmax(2):eq(y):to("f32"):mean():item()
print(("loss %.4f, %.1f %% of the points right"):format(J:item(), 100 * right))
if right < 0.97 then error "the net should separate the arms" end
local folder = ...
if folder then
  curve:save(folder .. "/loss.svg")
  boundary:save(folder .. "/boundary.svg")
end
