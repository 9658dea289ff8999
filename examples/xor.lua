-- SPDX-License-Identifier: MIT
-- The smallest net worth training: exclusive or, with every step of one training round printed.
local nb = require "nablua"

nb.seed(7)

-- Four samples x and the answers y that the net should learn.
local x = nb.tensor { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }
local y = nb.tensor { { 0 }, { 1 }, { 1 }, { 0 } }

-- The net F(x; W): two inputs, three hidden units, one output, all with σ.
local W1 = nb.randn(2, 3, { requires_grad = true, name = "W1" })
local b1 = nb.zeros(3, { requires_grad = true, name = "b1" })
local W2 = nb.randn(3, 1, { requires_grad = true, name = "W2" })
local b2 = nb.zeros(1, { requires_grad = true, name = "b2" })
local weights = { W1, b1, W2, b2 }
local learning_rate = 2

-- A name, and beside it the rows of a tensor.
local function show(name, t)
  local margin = 14
  local rows = tostring(t):gsub("\n[^\n]*$", "")  -- the last line tells dtype and shape
  print(name .. (" "):rep(margin - utf8.len(name)) .. rows:gsub("\n", "\n" .. (" "):rep(margin)))
end

-- One training round: forward, loss, backward, update.
local function train(verbose)
  local z1 = x:matmul(W1) + b1
  local a1 = z1:sigmoid()
  local z2 = a1:matmul(W2) + b2
  local guess = z2:sigmoid()
  local J = (guess - y):square():mean()

  for _, w in ipairs(weights) do w.grad = nil end
  J:backward()

  if verbose then
    print("1. forward: from the inputs through the hidden units to the guesses")
    show("x", x)
    show("z1 = x·W1+b1", z1)
    show("a1 = σ(z1)", a1)
    show("z2 = a1·W2+b2", z2)
    show("ŷ = σ(z2)", guess)
    print("\n2. loss: how far the guesses are from the answers")
    show("ŷ − y", guess - y)
    print(("J = mean (ŷ − y)² = %.4f"):format(J:item()))
    print("\n3. backward: the chain rule, from J to every weight")
    show("∂J/∂W2", W2.grad)
    show("∂J/∂W1", W1.grad)
  end

  nb.no_grad(function()
    for _, w in ipairs(weights) do w:sub_(w.grad * learning_rate) end
  end)
  if verbose then
    print(("\n4. update: every weight a step against its gradient, W ← W − %g·∂J/∂W"):format(learning_rate))
    show("W2", W2)
    show("W1", W1)
    print()
  end
  return J:item(), guess
end

train(true)
local guess
for round = 2, 5000 do
  local J
  J, guess = train(false)
  if round % 1000 == 0 then print(("round %4d   J = %.5f"):format(round, J)) end
end

print("\nwhat the net says now")
for i = 1, 4 do
  print(("%d xor %d = %.3f   (should be %d)"):format(x:at(i, 1), x:at(i, 2), guess:at(i, 1), y:at(i, 1)))
end
