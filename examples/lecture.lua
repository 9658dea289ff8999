-- SPDX-License-Identifier: MIT
-- The lecture's net, 3-4-4-3 with σ everywhere: its ∂J/∂W by the lecture's formulas beside the tape's.
--
-- Forward:   z1 = W1·x,  a1 = σ(z1),  z2 = W2·a1,  a2 = σ(z2),  z3 = W3·a2,  ŷ = σ(z3)
-- With the binary cross-entropy J = −Σ (y·ln ŷ + (1 − y)·ln(1 − ŷ)) the output factor is (ŷ − y):
--   ∂J/∂W3 = (ŷ − y)·a2
--   ∂J/∂W2 = (ŷ − y)·W3·σ'(z2)·a1
--   ∂J/∂W1 = (ŷ − y)·W3·σ'(z2)·W2·σ'(z1)·x
-- With the squared error J = ½·Σ (ŷ − y)² each has one further factor, σ'(z3).
local nb = require "nablua"

nb.seed(5)
local f64 = { dtype = "f64" }

local x = nb.tensor({ 0.5, -1.2, 0.8 }, f64)
local y = nb.tensor({ 1, 0, 1 }, f64)
local function weight(rows, columns, name)
  local w = nb.randn(rows, columns, f64)
  w.requires_grad, w.name = true, name
  return w
end
local W1, W2, W3 = weight(4, 3, "W1"), weight(4, 4, "W2"), weight(3, 4, "W3")

local function forward()
  local z1 = W1:matmul(x)
  local a1 = z1:sigmoid()
  local z2 = W2:matmul(a1)
  local a2 = z2:sigmoid()
  local z3 = W3:matmul(a2)
  return z1, a1, z2, a2, z3, z3:sigmoid()
end

local losses = {
  { name = "binary cross-entropy", output_slope = false,
    J = function(guess) return -(y * guess:log() + (1 - y) * (1 - guess):log()):sum() end },
  { name = "squared error", output_slope = true,
    J = function(guess) return ((guess - y):square() / 2):sum() end },
}

-- σ'(z) = σ(z)·(1 − σ(z)), at most ¼
local function slope(z)
  local s = z:sigmoid()
  return s * (1 - s)
end

-- The formulas, from the output back: δ is the error that arrives at z3, z2, z1.
local function by_hand(output_slope)
  local z1, a1, z2, a2, z3, guess = forward()
  local delta3 = guess - y
  if output_slope then delta3 = delta3 * slope(z3) end
  local delta2 = W3.T:matmul(delta3) * slope(z2)
  local delta1 = W2.T:matmul(delta2) * slope(z1)
  return nb.outer(delta1, x), nb.outer(delta2, a1), nb.outer(delta3, a2)
end

local function by_tape(loss)
  local guess = select(6, forward())
  return nb.grad(loss.J(guess), { W1, W2, W3 })
end

local function relative_difference(a, b)
  return (a - b):abs():max():item() / b:abs():max():item()
end

for _, loss in ipairs(losses) do
  print(loss.name .. (loss.output_slope and ": one further σ'(z3)" or ": the output factor is (ŷ − y)"))
  local hand = nb.no_grad(function() return { by_hand(loss.output_slope) } end)
  local tape = { by_tape(loss) }
  for k = 1, 3 do
    local difference = relative_difference(hand[k], tape[k])
    print(("  ∂J/∂W%d   |by hand| %.6f   |by the tape| %.6f   largest relative difference %.1e"):format(k,
      hand[k]:norm():item(), tape[k]:norm():item(), difference))
    if difference > 1e-6 then error(("∂J/∂W%d by hand and by the tape disagree"):format(k)) end
  end
end

print("\nσ' is at most ¼, so every layer further back gets less:")
local z1, _, z2, _, z3 = forward()
for name, z in pairs { z1 = z1, z2 = z2, z3 = z3 } do
  assert(slope(z):max():item() <= 0.25, name)
end
print(("  largest σ'(z3) %.3f   σ'(z2) %.3f   σ'(z1) %.3f"):format(slope(z3):max():item(), slope(z2):max():item(),
  slope(z1):max():item()))
