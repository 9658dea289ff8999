-- SPDX-License-Identifier: MIT
-- Backpropagation in full on the smallest net that needs it: 2-3-1, sigmoid, exclusive or.
-- Run: ./dev run examples/xor.lua
local nb = require "nablua"

nb.seed(2)
local x = nb.tensor { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }
local y = nb.tensor { { 0 }, { 1 }, { 1 }, { 0 } }

-- The weights, with a row of biases each.
local W1 = nb.randn(2, 3, { requires_grad = true, name = "W1" })
local b1 = nb.zeros(3, { requires_grad = true, name = "b1" })
local W2 = nb.randn(3, 1, { requires_grad = true, name = "W2" })
local b2 = nb.zeros(1, { requires_grad = true, name = "b2" })
local parameters = { W1, b1, W2, b2 }
local rate = 4

local function step(show)
  -- 1. Forward pass: from the input to the prediction, layer by layer.
  local z1 = x:matmul(W1) + b1
  local a1 = nb.sigmoid(z1)
  local z2 = a1:matmul(W2) + b2
  local p = nb.sigmoid(z2)

  -- 2. Loss: how wrong the prediction is, in one number.
  local J = nb.square(p - y):mean()

  -- 3. Backward pass: ∂J/∂W for every weight, by the chain rule.
  J:backward()
  if show then show(z1, a1, z2, p, J) end

  -- 4. Update: each weight a step against its gradient.
  nb.no_grad(function()
    for _, w in ipairs(parameters) do
      w:sub_(rate * w.grad)
      w.grad = nil
    end
  end)
  return J:item()
end

local function print_all(title, tensors)
  print(title)
  for _, t in ipairs(tensors) do
    print("  " .. t[1] .. " =")
    print("    " .. tostring(t[2]):gsub("\n", "\n    "))
  end
end

print_all("The weights at the start", { { "W1", W1 }, { "W2", W2 } })
step(function(z1, a1, z2, p, J)
  print_all("\n1. Forward pass", { { "z1 = x·W1 + b1", z1 }, { "a1 = σ(z1)", a1 }, { "z2 = a1·W2 + b2", z2 },
    { "p = σ(z2)", p } })
  print_all("\n2. Loss", { { "J = mean (p − y)²", J } })
  print_all("\n3. Backward pass", { { "∂J/∂W1", W1.grad }, { "∂J/∂b1", b1.grad }, { "∂J/∂W2", W2.grad },
    { "∂J/∂b2", b2.grad } })
end)
print_all("\n4. Update: W ← W − " .. rate .. "·∂J/∂W", { { "W1", W1 }, { "W2", W2 } })

print "\nThe same again and again:"
for epoch = 2, 2000 do
  local J = step()
  if epoch == 10 or epoch == 100 or epoch % 500 == 0 then print(("  step %4d   J = %.6f"):format(epoch, J)) end
end

local p = nb.sigmoid(nb.sigmoid(x:matmul(W1) + b1):matmul(W2) + b2)
print "\n  x1  x2   y   prediction"
for i = 1, 4 do print(("   %d   %d   %d   %.3f"):format(x:at(i, 1), x:at(i, 2), y:at(i, 1), p:at(i, 1))) end
assert(p:round():eq(y):all():item(), "XOR was not learned")
