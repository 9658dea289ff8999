-- SPDX-License-Identifier: MIT
-- An operator of one's own: a step function that learns, since its backward is that of a smooth one.
--
-- A neuron that says only 0 or 1 has the derivative 0 nearly everywhere: no error flows back through it.  The
-- straight-through trick (Bengio, Léonard and Courville 2013) keeps the step forward and takes σ'(z) backward.
local nb = require "nablua"
local nn, optim, data, inspect = nb.nn, nb.optim, nb.data, nb.inspect

local function sigmoid_slope(z)
  local s = z:sigmoid()
  return s * (1 - s)
end

nb.operator {
  name = "fire", doc = "1 where z is above 0, else 0; backward as if it were σ(z).",
  derivative = "σ'(z), in place of 0",
  example = "nb.fire(nb.tensor{-1, 2})  --> {0, 1}",
  forward = function(ctx, z)
    ctx:save(z)
    return z:gt(0):to(z.dtype)
  end,
  backward = function(ctx, g) return g * sigmoid_slope(ctx:saved()) end,
}
print(nb.help "fire")

-- What the step lets through, beside what the sigmoid would.
local z = nb.tensor({ -2, 0.5, 3 }, { requires_grad = true })
z:fire():sum():backward()
print(("\nslopes of fire at -2, 0.5, 3:  %.4f  %.4f  %.4f"):format(z.grad:at(1), z.grad:at(2), z.grad:at(3)))

-- The check against finite differences sees that this is not the step's own derivative.
local honest = inspect.gradcheck(function(x) return x:fire() end, { nb.tensor({ -2, 0.5, 3 }, { dtype = "f64" }) })
print("a true derivative: " .. tostring(honest.ok))

-- Two moons, told apart by neurons that are on or off.
nb.seed(4)
local x, y = data.moons(400, { noise = 0.1 })
local net = nn.Sequential { nn.Linear(2, 24), nn.Lambda(nb.fire), nn.Linear(24, 2) }
local history = nn.fit(net, nn.CrossEntropyLoss(), optim.Adam(net:parameters(), { lr = 0.02 }), { x, y },
  { epochs = 60, metrics = { "accuracy" }, progress = false })
print(("after 60 epochs: loss %.3f, accuracy %.1f %%"):format(history.loss[60], 100 * history.accuracy[60]))
if history.accuracy[60] < 0.95 then error "the net should reach 95 %" end
