-- SPDX-License-Identifier: MIT
-- Three spiral arms that no straight line separates: a small net bends its boundary round them.
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data

nb.seed(3)
local x, y = data.spirals(600, { classes = 3, noise = 0.03 })

local net = nn.Sequential {
  nn.Linear(2, 32), nn.Tanh(),
  nn.Linear(32, 32), nn.Tanh(),
  nn.Linear(32, 3),
}
local history = nn.fit(net, nn.CrossEntropyLoss(), optim.Adam(net:parameters(), { lr = 0.01 }), { x, y }, {
  epochs = 60, size = 50, metrics = { "accuracy" }, progress = false,
  callback = function(at)
    if at.epoch % 10 == 0 then
      print(("epoch %2d   loss %.4f   accuracy %.1f %%"):format(at.epoch, at.loss, 100 * at.history.accuracy[at.epoch]))
    end
  end,
})

-- The plane as the net sees it: one letter for the class it would give each point.
print()
for row = 1, 0, -0.05 do
  local line = {}
  local points = nb.linspace(-1.1, 1.1, 64):unsqueeze(2)
  local height = nb.full({ 64, 1 }, 2.2 * row - 1.1)
  local classes = nb.no_grad(function() return net(nb.cat({ points, height }, 2)):argmax(2) end)
  for i, k in ipairs(classes:totable()) do line[i] = ("o.#"):sub(k, k) end
  print(table.concat(line))
end
local final = history.accuracy[60]
if final < 0.95 then error "the net should reach 95 %" end
