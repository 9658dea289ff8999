-- SPDX-License-Identifier: MIT
-- Gradient descent by hand, with nb.grad, and by an optimizer: the same numbers.
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data

local LR, STEPS = 0.5, 300

local function make()
  nb.seed(7)
  return nn.Sequential { nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1) }
end
local x, y = data.xor()
local loss = nn.BCEWithLogitsLoss()

-- By hand: w ← w − lr·∂J/∂w for every weight.
local by_hand = make()
for step = 1, STEPS do
  local J = loss(by_hand(x), y)
  local weights = by_hand:parameters()
  local gradients = { nb.grad(J, weights) }
  nb.no_grad(function()
    for i, w in ipairs(weights) do w:sub_(gradients[i] * LR) end
  end)
  if step % 100 == 0 then print(("by hand       step %3d   J %.6f"):format(step, J:item())) end
end

-- By an optimizer.
local net = make()
local opt = optim.SGD(net:parameters(), { lr = LR })
for step = 1, STEPS do
  opt:zero_grad()
  local J = loss(net(x), y)
  J:backward()
  opt:step()
  if step % 100 == 0 then print(("optim.SGD     step %3d   J %.6f"):format(step, J:item())) end
end

for i, w in ipairs(net:parameters()) do
  if (w - by_hand:parameters()[i]):abs():max():item() > 1e-5 then error("the two disagree") end
end
print "\nThe weights agree.  The other optimizers from the same start:"
for _, make_opt in ipairs {
  { "momentum 0.9", function(p) return optim.SGD(p, { lr = 0.1, momentum = 0.9 }) end },
  { "RMSprop", function(p) return optim.RMSprop(p, { lr = 0.01 }) end },
  { "Adam", function(p) return optim.Adam(p, { lr = 0.05 }) end },
} do
  net = make()
  opt = make_opt[2](net:parameters())
  local J
  for _ = 1, STEPS do
    opt:zero_grad()
    J = loss(net(x), y)
    J:backward()
    opt:step()
  end
  print(("%-13s step %3d   J %.6f"):format(make_opt[1], STEPS, J:item()))
end
print("\nσ(net(x)) of the last:")
print(net(x):sigmoid())
