-- SPDX-License-Identifier: MIT
-- Regression with a Gaussian process (Rasmussen and Williams 2006, algorithm 2.1): a smooth curve through noisy points,
-- and how sure it is of each place.  Its three numbers are learned by going up the likelihood, through a Cholesky
-- factor.
--
--   gaussian_process.lua [STEPS]     fewer steps
local nb = require "nablua"
local optim, distributions = nb.optim, nb.distributions
local steps = math.tointeger(arg[1]) or 150

nb.seed(1)
local f64 = { dtype = "f64" }
local NOISE = 0.2
local function curve(x) return nb.sin(x) + x / 4 end
local x = nb.rand(60, f64) * 10 - 5
local y = curve(x) + nb.randn(60, f64) * NOISE

-- Logarithms, so that no step makes one negative.
local log_length, log_height, log_noise = nb.zeros(1, f64), nb.zeros(1, f64), nb.zeros(1, f64)
local parameters = { log_length, log_height, log_noise }
for _, p in ipairs(parameters) do p.requires_grad = true end

-- How much places have to do with each other: the nearer, the more.
local function kernel(a, b)
  local distance = (a:unsqueeze(2) - b:unsqueeze(1)):square()
  return (distance / (log_length:exp():square() * -2)):exp() * log_height:exp():square()
end

local function covariance()
  return kernel(x, x) + nb.eye(#x, f64) * (log_noise:exp():square() + 1e-8)
end

local opt = optim.Adam(parameters, { lr = 0.05 })
for step = 1, steps do
  local J = -distributions.MultivariateNormal(nb.zeros(#x, f64), { covariance_matrix = covariance() }):log_prob(y)
  opt:zero_grad()
  J:backward()
  opt:step()
  if step % math.max(steps // 5, 1) == 0 then
    print(("step %4d   −log likelihood %7.3f   length %.3f   height %.3f   noise %.3f"):format(step, J:item(),
      log_length:exp():item(), log_height:exp():item(), log_noise:exp():item()))
  end
end

-- The mean and the spread of all curves that go through the points.
local grid = nb.linspace(-5, 5, 101, f64)
local mean, spread = nb.no_grad(function()
  local l = covariance():cholesky()
  local between = kernel(x, grid)
  local weights = nb.solve_triangular(l.T, nb.solve_triangular(l, y:unsqueeze(2)), { upper = true })
  local explained = nb.solve_triangular(l, between):square():sum(1)
  return between.T:matmul(weights):squeeze(2), (log_height:exp():square() - explained):clamp { min = 0 }:sqrt()
end)
local off = (mean - curve(grid)):abs()
local rms = off:square():mean():sqrt():item()
local covered = off:lt(spread * 2 + 1e-6):to("f64"):mean():item()
print(("\nroot mean square error %.3f; within two spreads at %.0f %% of places; noise %.3f, really %.3f"):format(rms,
  100 * covered, log_noise:exp():item(), NOISE))
if steps >= 150 and (rms > 0.15 or math.abs(log_noise:exp():item() - NOISE) > 0.07) then
  error "the curve should be found to 0.15, the noise to a third"
end
