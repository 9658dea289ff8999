-- SPDX-License-Identifier: MIT
-- A net learns three spiral arms while its loss and its decision boundary are redrawn in place, and you can touch it:
-- in a terminal its rate, momentum and the noise on its data stand in a line below, which Tab gives the keys.
-- nablua examples/live.lua [FOLDER [STEPS]]: with a folder, the last pictures are saved there.
local nb = require "nablua"
local nn, optim, data, plot, ui = nb.nn, nb.optim, nb.data, nb.plot, nb.ui
local folder, steps = ...
steps = tonumber(steps) or 1000

nb.seed(3)
local x, y = data.spirals(180, { classes = 3, noise = 0.02 })
local net = nn.Sequential { nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3) }
local loss = nn.CrossEntropyLoss()
local opt = optim.SGD(net:parameters(), { lr = 0.2, momentum = 0.9 })

local rate = ui.bind(ui.slider { label = "rate", min = 1e-3, max = 1, value = 0.2, log = true }, opt, "lr")
local momentum = ui.bind(ui.slider { label = "momentum", min = 0, max = 0.99, value = 0.9 }, opt, "momentum")
local noise = ui.slider { label = "noise", min = 0, max = 0.3, value = 0.0 }
local stop = ui.button { label = "stop", style = "danger" }
if display then display(ui.row { rate, momentum, noise, stop }) end  -- a session has a display, stock Lua has none

local boundary = plot.boundary(net, { x = x, y = y, title = "What the net decides", legend = false })
local curve = plot.curve({}, { title = "Loss", xlabel = "step", logy = true })
local step, J = 0, nil
while not stop.pressed and step < steps do
  step = step + 1
  opt:zero_grad()
  local shaken = noise.value > 0 and x + noise.value * nb.randn(table.unpack(x.shape)) or x
  J = loss(net(shaken), y)
  J:backward()
  opt:step()
  curve:update { train = J:item() }
  if step % 20 == 0 then boundary:update() end
end
curve:close()
boundary:close()

local right = net(x):argmax(2):eq(y):to("f32"):mean():item()
print(("%d steps, loss %.4f, %.1f %% of the points right"):format(step, J:item(), 100 * right))
if not stop.pressed and noise.value == 0 and rate.value == 0.2 and steps >= 1000 and right < 0.97 then
  error "the net should separate the arms"
end
if folder then
  curve:save(folder .. "/loss.svg")
  boundary:save(folder .. "/boundary.svg")
end
