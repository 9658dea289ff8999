-- SPDX-License-Identifier: MIT
-- A layer of your own: units that answer to a neighbourhood (radial basis functions), documented like a built-in one.
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data

nb.seed(2)

-- The table names the constructor's arguments: help, their checks and print(net) come from it.
local Radial = nn.module("Radial", {
  doc = "exp(−width²·|x − center|²) for each of `units` centers, which are learned.",
  params = {
    { name = "features", type = "size", doc = "size of the last dimension of x" },
    { name = "units", type = "size" },
    { name = "width", type = "positive", default = 1, doc = "the first width; each unit learns its own" },
  },
  init = function(self, o)
    self.center = nn.init.uniform(nb.zeros(o.units, o.features, { requires_grad = true }), -1, 1)
    self.log_width = nb.full({ o.units }, math.log(o.width), { requires_grad = true })
  end,
})

-- |x − c|² = |x|² − 2·x·c + |c|²; the gradients come from the operators.
function Radial:forward(x)
  local distance = x:square():sum(-1, { keepdim = true }) - 2 * x:matmul(self.center.T) + self.center:square():sum(2)
  return (-distance * (2 * self.log_width):exp()):exp()
end

local net = nn.Sequential { Radial(2, 24, { width = 2 }), nn.Linear(24, 3) }
print(net)
print(nb.help(Radial))

local x, y = data.spirals(600, { classes = 3, noise = 0.03 })
local history = nn.fit(net, nn.CrossEntropyLoss(), optim.Adam(net:parameters(), { lr = 0.03 }), { x, y },
  { epochs = 60, size = 50, metrics = { "accuracy" }, progress = false })
for epoch = 10, 60, 10 do
  print(("epoch %2d   loss %.4f   accuracy %.1f %%"):format(epoch, history.loss[epoch], 100 * history.accuracy[epoch]))
end

-- Its state goes to a file and comes back like any other's.
local path = os.tmpname() .. ".safetensors"
nb.save(path, net:state())
local twin = nn.Sequential { Radial(2, 24), nn.Linear(24, 3) }:load_state(nb.load(path))
os.remove(path)
print("\nthe net from the file gives the same scores: " .. tostring((twin(x) - net(x)):abs():max():item() == 0))
if history.accuracy[60] < 0.9 then error "the net should reach 90 %" end
