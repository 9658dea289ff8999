-- SPDX-License-Identifier: MIT
-- The lecture, step by step: forward propagation, the loss, ∂J/∂W of every layer as a product, the update.
local nb = require "nablua"
local nn, inspect = nb.nn, nb.inspect

nb.seed(4)
local net = nn.Sequential {
  nn.Linear(3, 4), nn.Sigmoid(),
  nn.Linear(4, 4), nn.Sigmoid(),
  nn.Linear(4, 3),
}
local x = nb.tensor { { 0.5, -1.2, 0.8 } }
local y = nb.tensor { { 1, 0, 1 } }
local loss = nn.BCEWithLogitsLoss { reduction = "sum" }  -- σ and the binary cross-entropy in one

print "The net:"
print(inspect.summary(net, x))

print "\nForward, the loss, backward, the update, one layer at a time:"
local s = inspect.step(net, x, y, { loss = loss, lr = 0.5 })
while s.pos < s.count do
  print()
  print(s:next())
end

print "\nAnd back to the middle, as if the update had never been:"
print(s:to("layer 3", "backward"))

print "\n∂J/∂W of every layer, from the last to the first:"
for _, layer in ipairs { 5, 3, 1 } do
  print()
  print(inspect.explain(s, net[layer].weight))
end

print "\nWith the squared error each has one more factor, σ'(z⁽⁴⁾):"
local J = (net(x):sigmoid() - y):square():sum() / 2
print(inspect.explain(J, net[1].weight).formula)

print "\nThe same gradient by central differences:"
local double = net:to("f64")
print(inspect.gradcheck(function() return loss(double(x), y) end, double:parameters()))
