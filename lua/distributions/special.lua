-- SPDX-License-Identifier: MIT
-- The gamma function's logarithm and its derivative, and samples of the gamma distribution with gradients.
local native = require "nablua.native"
local nb = require "nablua.core"

local special = {}

-- Stirling's series is good to f64 from here on; what is smaller is moved up by Γ(x + 1) = x·Γ(x).
local UP = 10

-- ln Γ(x) for x > 0 (Abramowitz and Stegun 6.1.41).
function special.lgamma(x)
  local product = x
  for k = 1, UP - 1 do product = product * (x + k) end
  local y = x + UP
  local w = 1 / y:square()
  local series = ((((w / 1188 - 1 / 1680) * w + 1 / 1260) * w - 1 / 360) * w + 1 / 12) / y
  return (y - 0.5) * y:log() - y + 0.5 * math.log(2 * math.pi) + series - product:log()
end

-- Its derivative (6.3.18).
function special.digamma(x)
  local sum = 1 / x
  for k = 1, UP - 1 do sum = sum + 1 / (x + k) end
  local y = x + UP
  local w = 1 / y:square()
  local series = ((((w * (-1 / 132) + 1 / 240) * w - 1 / 252) * w + 1 / 120) * w - 1 / 12) * w
  return y:log() - 0.5 / y + series - sum
end

-- Samples for concentrations a of at least 1 (Marsaglia and Tsang 2000): all that are refused are drawn again.
local function large_gamma(a)
  local d = a - 1 / 3
  local c = 1 / (d * 9):sqrt()
  local out = nb.zeros_like(a)
  local left = nb.ones(a.shape, { dtype = "bool" })
  while left:any():item() do
    local x, u = nb.randn(a.shape, { dtype = "f64" }), nb.rand(a.shape, { dtype = "f64" })
    local v = (c * x + 1) ^ 3
    local good = v:gt(0)
    local safe = nb.where(good, v, nb.ones_like(v))
    local taken = good & (1 - u):log():lt(x:square() * 0.5 + d - d * v + d * safe:log())
    out = nb.where(left & taken, d * v, out)
    left = left & taken:logical_not()
  end
  return out
end

-- ∂z/∂a of samples z = F⁻¹(u; a): −(∂F/∂a)/f, since u stays as it is (Figurnov, Mohamed and Mnih 2018).  F is its power
-- series (Abramowitz and Stegun 6.5.29), differentiated on the tape; beyond BIG, where it would be long, F is that of
-- Wilson and Hilferty 1931: z = a·(1 − 1/(9a) + g/(3√a))³ with g normal.
local BIG = 400
local function slope_of(a, z)
  local root = a:sqrt()
  local inner = (z / a) ^ (1 / 3)
  local g = (inner - 1 + 1 / (a * 9)) * root * 3
  local slope = inner ^ 3 + a * 3 * inner:square() * (1 / (a:square() * 9) - g / (a * root * 6))
  local small = a:lt(BIG)
  if not small:any():item() then return slope end
  local at, y = nb.where(small, a, 1), nb.where(small, z, 1)
  at.requires_grad = true
  local by = native.with_grad(function()
    local most = y:max():item()
    local term = nb.ones_like(y)
    local sum = term
    for n = 1, math.ceil(most + 12 * math.sqrt(most) + 40) do
      term = term * y / (at + n)
      sum = sum + term
    end
    local f = (at * y:log() - y - special.lgamma(at + 1)):exp() * sum
    return nb.grad(f:sum(), at)
  end)
  local density = ((at:detach() - 1) * y:log() - y - special.lgamma(at:detach())):exp()
  return nb.where(small, -by / density, slope)
end

-- Samples of concentration a (rate 1) in the given shape; gradients pass to a.
function special.standard_gamma(a, shape)
  local wide = nb.no_grad(function() return a:detach():to("f64"):expand(shape):contiguous() end)
  local z = nb.no_grad(function()
    -- What is below 1: Γ(a) = Γ(a + 1)·u^(1/a).
    local below = wide:lt(1)
    local drawn = large_gamma(nb.where(below, wide + 1, wide))
    local u = 1 - nb.rand(shape, { dtype = "f64" })
    return nb.where(below, drawn * u ^ (1 / wide), drawn):clamp { min = 1e-300 }
  end)
  local out = z:to(a.dtype)
  if not a.requires_grad or not nb.grad_enabled() then return out end
  local slope = nb.no_grad(slope_of, wide, z):to(a.dtype)
  return out + (a - a:detach()) * slope
end

return special
