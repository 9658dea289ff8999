-- SPDX-License-Identifier: MIT
-- Three interleaved spirals told apart by a net of two hidden layers, drawn as text at the end.
-- Run: ./dev run examples/spirals.lua
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data

nb.seed(4)
local x, y = data.spirals(600, { noise = 0.02 })
local net = nn.Sequential { nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3) }
local loss = nn.CrossEntropyLoss()
local opt = optim.Adam(net:parameters(), { lr = 0.01 })

local function accuracy()
  return nb.no_grad(function() return net(x):argmax(2):eq(y):to("f32"):mean():item() end)
end

for epoch = 1, 60 do
  local total = 0
  for bx, by in data.batches { x, y, size = 50, shuffle = true } do
    opt:zero_grad()
    local J = loss(net(bx), by)
    J:backward()
    opt:step()
    total = total + J:item()
  end
  if epoch % 10 == 0 then print(("epoch %2d   loss %.4f   accuracy %.1f %%"):format(epoch, total / 12, 100 * accuracy())) end
end

-- What the net says at each point of the plane.
local marks = { "·", "o", "#" }
local columns, rows = nb.linspace(-1.2, 1.2, 64), nb.linspace(1.2, -1.2, 28)
for i = 1, #rows do
  local grid = nb.stack({ columns, nb.full({ 64 }, rows:at(i)) }, 2)
  local class = nb.no_grad(function() return net(grid):argmax(2) end)
  local line = {}
  for j = 1, 64 do line[j] = marks[class:at(j)] end
  print(table.concat(line))
end
assert(accuracy() > 0.97, "the spirals were not told apart")
