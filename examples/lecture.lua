-- SPDX-License-Identifier: MIT
-- The lecture's net, 3-4-4-3 with sigmoids: ∂J/∂W of every layer by its formulas, beside the tape's.
-- Run: ./dev run examples/lecture.lua
local nb = require "nablua"

nb.seed(1)
local f64 = { dtype = "f64" }
local function weights(name, inputs, outputs)
  return nb.randn(inputs, outputs, { dtype = "f64", requires_grad = true, name = name })
end

-- x is a row of 3, y its target; z1 = x·W1, a1 = σ(z1), ... as the lecture numbers them.
local x = nb.randn(1, 3, f64)
local y = nb.tensor({ { 1, 0, 1 } }, f64)
local W1, W2, W3 = weights("W1", 3, 4), weights("W2", 4, 4), weights("W3", 4, 3)

local function forward()
  local z1 = x:matmul(W1)
  local a1 = nb.sigmoid(z1)
  local z2 = a1:matmul(W2)
  local a2 = nb.sigmoid(z2)
  local z3 = a2:matmul(W3)
  return { z1 = z1, a1 = a1, z2 = z2, a2 = a2, z3 = z3, p = nb.sigmoid(z3) }
end

-- σ'(z) = σ(z)·(1 − σ(z)), never above ¼.
local function slope(z)
  local s = nb.sigmoid(z)
  return s * (1 - s)
end

local function compare(title, J, output_factor)
  local f = forward()
  for _, W in ipairs { W1, W2, W3 } do W.grad = nil end
  J(f):backward()
  print(title)
  local by_hand = nb.no_grad(function()
    -- The error at the output, passed back through W and σ' of each layer.
    local d3 = output_factor(f)
    local d2 = d3:matmul(W3.T) * slope(f.z2)
    local d1 = d2:matmul(W2.T) * slope(f.z1)
    return { { "W3", W3, f.a2.T:matmul(d3) }, { "W2", W2, f.a1.T:matmul(d2) }, { "W1", W1, x.T:matmul(d1) } }
  end)
  for _, row in ipairs(by_hand) do
    local name, W, hand = row[1], row[2], row[3]
    local difference = ((hand - W.grad):abs():max() / hand:abs():max()):item()
    print(("  ∂J/∂%s   |by hand| %.6f   |by the tape| %.6f   largest relative difference %.1e"):format(name,
      hand:norm():item(), W.grad:norm():item(), difference))
    assert(difference <= 1e-6, "the formula and the tape disagree for " .. name)
  end
end

print [[
∂J/∂W3 = (ŷ − y) · a2
∂J/∂W2 = (ŷ − y) · W3 · σ'(z2) · a1
∂J/∂W1 = (ŷ − y) · W3 · σ'(z2) · W2 · σ'(z1) · x
]]
compare("Binary cross-entropy, summed over the outputs: the output factor is (ŷ − y)", function(f)
  return nb.bce_with_logits(f.z3, y):sum()
end, function(f) return f.p - y end)

compare("\nSquared error, ½ Σ(ŷ − y)²: one σ'(z3) more, (ŷ − y) · σ'(z3)", function(f)
  return nb.square(f.p - y):sum() / 2
end, function(f) return (f.p - y) * slope(f.z3) end)

print "\nσ' of each layer, at most ¼: each factor shrinks what reaches the layers before it"
local f = forward()
for _, name in ipairs { "z3", "z2", "z1" } do
  print(("  mean σ'(%s) = %.4f"):format(name, slope(f[name]):mean():item()))
end
