-- SPDX-License-Identifier: MIT
-- Distributions: densities against their integrals, samples against means and variances, gradients through samples.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local D = nb.distributions

local T = {}

local assert_error, assert_close = numeric.assert_error, numeric.assert_close
local f64 = { dtype = "f64" }
local function t(v) return nb.tensor(v, f64) end

-- Pairs of one kind, and where their densities lie.
local CONTINUOUS = {
  { D.Normal(t(0.5), t(1.5)), D.Normal(t(-0.3), t(2)), -14, 15 },
  { D.Uniform(t(-1), t(2)), D.Uniform(t(-3), t(2.5)), -4, 4 },
  { D.Exponential(t(1.5)), D.Exponential(t(0.7)), 0, 40 },
  { D.Gamma(t(2.5), t(1.5)), D.Gamma(t(4), t(2)), 0, 40 },
  { D.Gamma(t(60), t(4)), D.Gamma(t(50), t(3)), 0, 60 },
  { D.Beta(t(2.5), t(3)), D.Beta(t(2), t(5)), 0, 1 },
}

-- ∫ f(x) dx over the middles of many narrow strips.
local function integral(low, high, f)
  local n = 400000
  local x = (nb.arange(n, f64) - 0.5) * ((high - low) / n) + low
  return f(x):sum():item() * (high - low) / n
end

function T.test_densities_integrate_to_what_they_say()
  for _, case in ipairs(CONTINUOUS) do
    local p, q, low, high = table.unpack(case)
    local name = tostring(p)
    local function density(x) return p:log_prob(x):exp() end
    lu.assertAlmostEquals(integral(low, high, density), 1, 1e-4, name)
    local mean = integral(low, high, function(x) return density(x) * x end)
    lu.assertAlmostEquals(p.mean:item(), mean, 1e-4 * math.max(1, mean), name)
    local variance = integral(low, high, function(x) return density(x) * (x - mean):square() end)
    lu.assertAlmostEquals(p.variance:item(), variance, 2e-4 * math.max(1, variance), name)
    lu.assertAlmostEquals(p.stddev:item(), math.sqrt(variance), 2e-4, name)
    local function weighted(other)
      return integral(low, high, function(x)
        local log_p = p:log_prob(x)
        local inside = log_p:gt(-math.huge)
        return nb.where(inside, log_p:exp() * other(x, nb.where(inside, log_p, 0)), 0)
      end)
    end
    lu.assertAlmostEquals(p:entropy():item(), -weighted(function(_, log_p) return log_p end), 1e-3, name)
    local kl = weighted(function(x, log_p) return log_p - q:log_prob(x):clamp { min = -1e4 } end)
    lu.assertAlmostEquals(D.kl_divergence(p, q):item(), kl, 1e-3, name)
    lu.assertAlmostEquals(D.kl_divergence(p, p):item(), 0, 1e-12, name)
  end
  lu.assertEquals(D.Exponential(1):log_prob(-1):item(), -math.huge)
  lu.assertEquals(D.Beta(2, 2):log_prob(1.5):item(), -math.huge)
  lu.assertEquals(D.kl_divergence(D.Uniform(0, 2), D.Uniform(0, 1)):item(), math.huge)
end

function T.test_samples_have_the_mean_and_the_variance()
  nb.seed(11)
  local n = 100000
  local all = { D.Normal(1, 2), D.Uniform(-1, 3), D.Exponential(2), D.Gamma(0.4, 2), D.Gamma(7, 3), D.Beta(0.5, 2),
    D.Bernoulli(0.3), D.Bernoulli { logits = -1 } }
  for _, d in ipairs(all) do
    local x = d:sample(n):to("f64")
    local mean, spread = d.mean:item(), d.stddev:item()
    lu.assertTrue(math.abs(x:mean():item() - mean) < 5 * spread / math.sqrt(n), tostring(d))
    lu.assertTrue(math.abs(x:var():item() / spread ^ 2 - 1) < 0.05, tostring(d))
    lu.assertEquals(x.shape, { n })
    lu.assertTrue(d:log_prob(x):gt(-math.huge):all():item())
    lu.assertTrue(math.abs(-d:log_prob(x):mean():item() - d:entropy():item()) < 0.03, tostring(d))
  end
  nb.seed(11)
  local first = D.Gamma(2, 1):sample(5)
  nb.seed(11)
  assert_close(D.Gamma(2, 1):sample(5), first, 0)
  lu.assertEquals(D.Normal(nb.zeros(3), nb.ones(2, 1)):sample(4).shape, { 4, 2, 3 })
  lu.assertEquals(D.Normal(nb.zeros(3), 1):sample({ 2 }).shape, { 2, 3 })
end

-- A sample's quantile stays where it is as the parameters change: z moves by −(∂F/∂a)/f.  F by an integral.
function T.test_gradients_pass_through_samples()
  nb.seed(12)
  for _, a in ipairs { 0.6, 2.5, 30 } do
    local concentration = t { a, a }
    concentration.requires_grad = true
    local z = D.Gamma(concentration, t(1)):rsample()
    z:sum():backward()
    for k = 1, 2 do
      local at, h = z:at(k), 1e-4 * a
      local function below(c)  -- with x = y^(1/c) the integrand is smooth at 0, where c is below 1
        local d = D.Gamma(t(c), t(1))
        if a > 1 then return integral(0, at, function(x) return d:log_prob(x):exp() end) end
        return integral(0, at ^ c, function(y)
          local x = y ^ (1 / c)
          return d:log_prob(x):exp() * x / (y * c)
        end)
      end
      local slope = -(below(a + h) - below(a - h)) / (2 * h) / D.Gamma(t(a), t(1)):log_prob(z[k]):exp():item()
      lu.assertAlmostEquals(concentration.grad:at(k), slope, 2e-3 * math.max(1, math.abs(slope)), tostring(a))
    end
  end
  local loc, scale = nb.zeros(1, { requires_grad = true }), nb.ones(1, { requires_grad = true })
  local x = D.Normal(loc, scale):rsample(3)
  x:sum():backward()
  assert_close(loc.grad, { 3 })
  assert_close(scale.grad, { x:sum():item() })
  -- The mean of Beta(a, b) over many samples: ∂/∂a of a/(a + b).
  local one, other = t(2), t(3)
  one.requires_grad, other.requires_grad = true, true
  D.Beta(one, other):rsample(20000):mean():backward()
  lu.assertAlmostEquals(one.grad:item(), 3 / 25, 0.01)
  lu.assertAlmostEquals(other.grad:item(), -2 / 25, 0.01)
  lu.assertFalse(D.Normal(loc, scale):sample(2).requires_grad)
  assert_error({ "Bernoulli", "no rsample" }, D.Bernoulli(0.5).rsample, D.Bernoulli(0.5))
end

function T.test_gamma_functions()
  -- ln Γ(½) = ½ ln π, Γ(n + 1) = n!, ψ(1) = −γ, ψ(x + 1) = ψ(x) + 1/x
  local special = require "nablua.distributions.special"
  local want = { 0.5 * math.log(math.pi), 0, 0, math.log(24), 706.573062245787 }
  assert_close(special.lgamma(t { 0.5, 1, 2, 5, 171 }), want, 1e-13)
  assert_close(special.digamma(t { 1 }), -0.57721566490153286, 1e-13)
  local x = t { 0.01, 0.3, 4.2, 80 }
  assert_close(special.digamma(x + 1), special.digamma(x) + 1 / x, 1e-12)
  x.requires_grad = true
  assert_close(nb.grad(special.lgamma(x):sum(), x), special.digamma(x:detach()), 1e-11)
end

function T.test_classes_count_from_one()
  nb.seed(13)
  local c = D.Categorical(nb.tensor { 1, 0, 3 })
  local x = c:sample(20000)
  local counts = nb.one_hot(x, 3):sum(1)
  lu.assertEquals(counts:at(2), 0)
  lu.assertTrue(math.abs(counts:at(3) / 20000 - 0.75) < 0.02)
  assert_close(c:log_prob(nb.tensor { 1, 3 }), { math.log(0.25), math.log(0.75) })
  assert_close(c:entropy(), -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
  local z = D.Categorical { logits = nb.tensor { { 0, 0 }, { 5, 5 } } }
  lu.assertEquals(z:sample(7).shape, { 7, 2 })
  assert_close(z:log_prob(nb.tensor { { 1, 2 } }), { math.log(0.5), math.log(0.5) })
  assert_close(D.kl_divergence(D.Categorical(nb.tensor { 0.5, 0.5 }), D.Categorical(nb.tensor { 0.25, 0.75 })),
    0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75))
  assert_close(D.kl_divergence(D.Bernoulli(0.5), D.Bernoulli(0.25)), 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75))
  assert_close(D.Bernoulli(0.25):log_prob(nb.tensor { 0, 1 }), { math.log(0.75), math.log(0.25) })
  assert_error({ "label 1 is 4" }, c.log_prob, c, nb.tensor { 4 })
end

function T.test_normal_vectors()
  nb.seed(14)
  local cov = t { { 2, 0.6 }, { 0.6, 1 } }
  local d = D.MultivariateNormal(t { 1, -1 }, { covariance_matrix = cov })
  local x = t { 0.5, 0.25 }
  local v = x - t { 1, -1 }
  local square = v:matmul(cov:inverse()):matmul(v):item()
  local want = -0.5 * (square + math.log(cov:det():item()) + 2 * math.log(2 * math.pi))
  lu.assertAlmostEquals(d:log_prob(x):item(), want, 1e-12)
  lu.assertAlmostEquals(d:entropy():item(), 0.5 * math.log((2 * math.pi * math.exp(1)) ^ 2 * cov:det():item()), 1e-12)
  local s = d:sample(50000)
  local centred = s - s:mean(1, { keepdim = true })
  lu.assertTrue((centred.T:matmul(centred) / 50000 - cov):abs():max():item() < 0.05)
  for _, form in ipairs { { scale_tril = cov:cholesky() }, { precision_matrix = cov:inverse() } } do
    assert_close(D.MultivariateNormal(t { 1, -1 }, form):log_prob(x), want, 1e-10)
  end
  local one_by_one = nb.stack({ d:log_prob(s[1]), d:log_prob(s[2]), d:log_prob(s[3]) }, 1)
  assert_close(d:log_prob(s[{ { 1, 3 } }]), one_by_one, 1e-12)
  -- Of independent numbers all is the sum of theirs.
  local p = D.MultivariateNormal(t { 0, 1 }, { covariance_matrix = nb.diag(t { 4, 9 }) })
  local q = D.MultivariateNormal(t { 1, 1 }, { covariance_matrix = nb.diag(t { 1, 16 }) })
  local parts = D.kl_divergence(D.Normal(t { 0, 1 }, t { 2, 3 }), D.Normal(t { 1, 1 }, t { 1, 4 }))
  assert_close(D.kl_divergence(p, q), parts:sum():item(), 1e-12)
  assert_error({ "one of covariance_matrix" }, D.MultivariateNormal, t { 0, 0 })
  assert_error({ "n×n" }, D.MultivariateNormal, t { 0, 0 }, { scale_tril = nb.eye(3) })
  assert_error({ "cholesky" }, D.MultivariateNormal, t { 0, 0 }, { covariance_matrix = nb.zeros({ 2, 2 }, f64) })
end

function T.test_impossible_parameters()
  assert_error({ "Normal", "scale must be above 0" }, D.Normal, 0, 0)
  assert_error({ "Normal", "scale must be above 0" }, D.Normal, 0, nb.tensor { 1, 0 / 0 })
  assert_error({ "Uniform", "low must be below high" }, D.Uniform, 1, 1)
  assert_error({ "probs must be from 0 to 1" }, D.Bernoulli, 1.5)
  assert_error({ "one of probs and logits" }, D.Bernoulli)
  assert_error({ "Categorical", "not all 0" }, D.Categorical, nb.zeros(3))
  assert_error({ "shapes do not go together" }, D.Normal, nb.zeros(2), nb.ones(3))
  assert_error({ "loc must be a number or a tensor" }, D.Normal, "a", 1)
  assert_error({ "kl_divergence", "Normal and Gamma" }, D.kl_divergence, D.Normal(0, 1), D.Gamma(1, 1))
  assert_error({ "whole numbers" }, D.Normal(0, 1).sample, D.Normal(0, 1), -1)
end

return T
