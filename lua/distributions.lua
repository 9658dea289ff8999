-- SPDX-License-Identifier: MIT
-- The module `distributions`: distributions of chance with samples, samples that gradients pass through, logarithms of
-- their densities, entropies, and divergences between them.
--
-- A distribution is a table of its parameters as tensors that broadcast; `batch` is their common shape.  Formulas are
-- those of the textbooks: Johnson, Kotz and Balakrishnan 1994.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"
local special = require "nablua.distributions.special"

local M = registry.home "nablua.distributions"

local Distribution = {}  -- methods
local lgamma, digamma = special.lgamma, special.digamma
local LOG_2PI = math.log(2 * math.pi)

-- ---- parameters ----

local function as_tensor(where, name, v)
  if type(v) == "number" then return nb.tensor(v) end
  if nb.is_tensor(v) and (v.dtype == "f32" or v.dtype == "f64") then return v end
  native.raise(("%s: %s must be a number or a tensor of f32 or f64, got %s"):format(where, name, options.describe(v)))
end

-- A recording cannot look at values, so that a function that is compiled is not checked when it is replayed.
local function must(where, name, text, mask)
  if not native.recording() and not nb.no_grad(function() return mask:all():item() end) then
    native.raise(("%s: %s must be %s"):format(where, name, text))
  end
end

local function positive(where, name, v)
  local t = as_tensor(where, name, v)
  must(where, name, "above 0", t:gt(0))
  return t
end

-- The shape that tensors broadcast to.
local function common_shape(where, ...)
  local ok, sum = pcall(function(first, ...)
    first = first:detach() * 0
    for _, t in ipairs { ... } do first = first + t:detach() * 0 end
    return first
  end, ...)
  if not ok then native.raise(where .. ": the parameters' shapes do not go together") end
  return sum.shape
end

-- ---- classes ----

local function shape_of(self, ...)
  local given = type((...)) == "table" and (...) or { ... }
  local shape = {}
  for i, n in ipairs(given) do
    if math.type(n) ~= "integer" or n < 0 then
      native.raise(("%s: a sample's sizes must be whole numbers, got %s"):format(self.name, options.describe(n)))
    end
    shape[i] = n
  end
  table.move(self.batch, 1, #self.batch, #shape + 1, shape)
  return table.move(self.event or {}, 1, #(self.event or {}), #shape + 1, shape)
end

-- A class: make(where, o) gives the parameters as a table with `batch`; draw(self, shape) a sample, through which
-- gradients pass where `through`.
local function define(name, spec)
  local where = "nb.distributions." .. name
  local meta = { __name = name, spec = spec, methods = Distribution }
  function meta.__index(self, key)
    if Distribution[key] then return Distribution[key] end
    local value = spec[key]
    return type(value) == "function" and (key == "mean" or key == "variance" or key == "stddev") and value(self) or nil
  end
  function meta.__tostring(self)
    return ("%s(batch shape %s)"):format(name, options.shape(self.batch))
  end
  registry.define(M, "nb.distributions.", name, {
    kind = "distribution", doc = spec.doc, example = spec.example, params = spec.params,
    see = { "d:sample", "d:log_prob", "nb.distributions.kl_divergence" },
    function(...)
      local self = spec.make(where, options.read(where, spec.params, ...))
      self.name = name
      return setmetatable(self, meta)
    end,
  })
  meta.class = M[name]
end

local function spec_of(self) return getmetatable(self).spec end

local function is_distribution(v)
  local meta = type(v) == "table" and getmetatable(v)
  return type(meta) == "table" and meta.methods == Distribution
end

local function method(name, entry)
  entry.name, entry.kind, entry.value = "d:" .. name, "method", entry[1]
  entry[1], entry.family = nil, "Distributions"
  Distribution[name] = registry.add(entry)
end

local normal = "nb.distributions.Normal(0, 1)"

method("sample", {
  doc = "Random numbers from a distribution; sizes given stand before its own.  No gradients pass.",
  signature = "d:sample([sizes...])", see = { "d:rsample" }, example = normal .. ":sample(2, 3).shape  --> {2, 3}",
  function(self, ...)
    local shape = shape_of(self, ...)
    return nb.no_grad(function() return spec_of(self).draw(self, shape) end)
  end,
})

method("rsample", {
  doc = "Random numbers made from others that do not depend on the parameters, so that gradients pass to those.",
  signature = "d:rsample([sizes...])", see = { "d:sample" },
  example = "local s = nb.tensor(2, {requires_grad=true}); nb.distributions.Exponential(s):rsample(3):sum()" ..
    ":backward(); return s.grad:lt(0)  --> true",
  function(self, ...)
    if not spec_of(self).through then
      native.raise(("%s: has no rsample, whole numbers have no gradients; use sample and log_prob"):format(self.name))
    end
    return spec_of(self).draw(self, shape_of(self, ...))
  end,
})

method("log_prob", {
  doc = "The logarithm of the density, or of the probability, at x: −∞ where x cannot be.", signature = "d:log_prob(x)",
  example = normal .. ":log_prob(0)  --> -0.918939",
  function(self, x)
    if type(x) == "number" then x = nb.tensor(x, { dtype = "f64" }) end
    if not nb.is_tensor(x) then
      native.raise(("%s: log_prob takes a tensor or a number, got %s"):format(self.name, options.describe(x)))
    end
    return spec_of(self).log_prob(self, x)
  end,
})

method("entropy", {
  doc = "The entropy, in nats.", signature = "d:entropy()", example = normal .. ":entropy()  --> 1.418939",
  function(self) return spec_of(self).entropy(self) end,
})

local function outside(x, inside, value) return nb.where(inside, value, nb.full_like(value:detach(), -math.huge)), x end

-- ---- of numbers ----

local function any(name, doc) return { name = name, type = "any", doc = doc } end
local function optional(name, doc) return { name = name, type = "any", optional = true, doc = doc } end

define("Normal", {
  doc = "The normal distribution.", params = { any("loc", "mean"), any("scale", "standard deviation") },
  example = "nb.distributions.Normal(1, 2).mean  --> 1", through = true,
  make = function(where, o)
    local loc, scale = as_tensor(where, "loc", o.loc), positive(where, "scale", o.scale)
    return { loc = loc, scale = scale, batch = common_shape(where, loc, scale) }
  end,
  mean = function(d) return d.loc:expand(d.batch) end,
  variance = function(d) return d.scale:square():expand(d.batch) end,
  stddev = function(d) return d.scale:expand(d.batch) end,
  draw = function(d, shape) return d.loc + d.scale * nb.randn(shape, { dtype = d.loc.dtype }) end,
  log_prob = function(d, x) return ((x - d.loc) / d.scale):square() * -0.5 - d.scale:log() - LOG_2PI / 2 end,
  entropy = function(d) return (d.scale:log() + 0.5 * (1 + LOG_2PI)):expand(d.batch) end,
})

define("Uniform", {
  doc = "Even between low and high.", params = { any("low"), any("high") }, through = true,
  example = "nb.distributions.Uniform(0, 4):entropy()  --> 1.386294",
  make = function(where, o)
    local low, high = as_tensor(where, "low", o.low), as_tensor(where, "high", o.high)
    local batch = common_shape(where, low, high)
    must(where, "low", "below high", low:lt(high))
    return { low = low, high = high, batch = batch }
  end,
  mean = function(d) return (d.low + d.high) / 2 end,
  variance = function(d) return (d.high - d.low):square() / 12 end,
  stddev = function(d) return (d.high - d.low) / math.sqrt(12) end,
  draw = function(d, shape) return d.low + (d.high - d.low) * nb.rand(shape, { dtype = d.low.dtype }) end,
  log_prob = function(d, x)
    return (outside(x, x:ge(d.low) & x:lt(d.high), -(d.high - d.low):log() + x:detach() * 0))
  end,
  entropy = function(d) return (d.high - d.low):log() end,
})

define("Exponential", {
  doc = "Times until something that happens `rate` times in a unit.", params = { any("rate") }, through = true,
  example = "nb.distributions.Exponential(2).mean  --> 0.5",
  make = function(where, o)
    local rate = positive(where, "rate", o.rate)
    return { rate = rate, batch = rate.shape }
  end,
  mean = function(d) return 1 / d.rate end,
  variance = function(d) return 1 / d.rate:square() end,
  stddev = function(d) return 1 / d.rate end,
  draw = function(d, shape) return -nb.log1p(-nb.rand(shape, { dtype = d.rate.dtype })) / d.rate end,
  log_prob = function(d, x) return (outside(x, x:ge(0), d.rate:log() - d.rate * x)) end,
  entropy = function(d) return 1 - d.rate:log() end,
})

define("Gamma", {
  doc = "The gamma distribution: sums of `concentration` times of an exponential one.",
  params = { any("concentration", "α"), any("rate", "β") }, through = true,
  example = "nb.distributions.Gamma(3, 2).mean  --> 1.5",
  make = function(where, o)
    local a, rate = positive(where, "concentration", o.concentration), positive(where, "rate", o.rate)
    return { concentration = a, rate = rate, batch = common_shape(where, a, rate) }
  end,
  mean = function(d) return d.concentration / d.rate end,
  variance = function(d) return d.concentration / d.rate:square() end,
  stddev = function(d) return d.concentration:sqrt() / d.rate end,
  draw = function(d, shape) return special.standard_gamma(d.concentration, shape) / d.rate end,
  log_prob = function(d, x)
    local a, at = d.concentration, x:clamp { min = 1e-300 }
    return (outside(x, x:ge(0), a * d.rate:log() + (a - 1) * at:log() - d.rate * x - lgamma(a)))
  end,
  entropy = function(d)
    local a = d.concentration
    return a - d.rate:log() + lgamma(a) + (1 - a) * digamma(a)
  end,
})

local function log_beta(a, b) return lgamma(a) + lgamma(b) - lgamma(a + b) end

define("Beta", {
  doc = "The beta distribution, of shares from 0 to 1.",
  params = { any("concentration1", "α"), any("concentration0", "β") }, through = true,
  example = "nb.distributions.Beta(1, 3).mean  --> 0.25",
  make = function(where, o)
    local a = positive(where, "concentration1", o.concentration1)
    local b = positive(where, "concentration0", o.concentration0)
    return { concentration1 = a, concentration0 = b, batch = common_shape(where, a, b) }
  end,
  mean = function(d) return d.concentration1 / (d.concentration1 + d.concentration0) end,
  variance = function(d)
    local a, b = d.concentration1, d.concentration0
    return a * b / ((a + b):square() * (a + b + 1))
  end,
  stddev = function(d) return d.variance:sqrt() end,
  draw = function(d, shape)
    local a, b = special.standard_gamma(d.concentration1, shape), special.standard_gamma(d.concentration0, shape)
    return a / (a + b)
  end,
  log_prob = function(d, x)
    local a, b = d.concentration1, d.concentration0
    local value = (a - 1) * x:log() + (b - 1) * nb.log1p(-x) - log_beta(a, b)
    return (outside(x, x:ge(0) & x:le(1), value))
  end,
  entropy = function(d)
    local a, b = d.concentration1, d.concentration0
    return log_beta(a, b) - (a - 1) * digamma(a) - (b - 1) * digamma(b) + (a + b - 2) * digamma(a + b)
  end,
})

-- ---- of classes ----

-- One of probs and logits.
local function chances(where, o)
  if (o.probs == nil) == (o.logits == nil) then
    native.raise(("%s: one of probs and logits must be given, got %s"):format(where, o.probs and "both" or "none"))
  end
  local probs = o.probs and as_tensor(where, "probs", o.probs)
  if probs then must(where, "probs", "from 0 to 1", probs:ge(0) & probs:le(1)) end
  return probs, not probs and as_tensor(where, "logits", o.logits) or nil
end

define("Bernoulli", {
  doc = "1 with probability probs, else 0; or {logits=}.",
  params = { { name = "probs", type = "any", optional = true, positional = true, doc = "probability of 1" },
    optional("logits", "or its log odds") },
  example = "nb.distributions.Bernoulli(0.5):entropy()  --> 0.693147",
  make = function(where, o)
    local probs, logits = chances(where, o)
    return { probs = probs or logits:sigmoid(), logits = logits, batch = (probs or logits).shape }
  end,
  mean = function(d) return d.probs end,
  variance = function(d) return d.probs * (1 - d.probs) end,
  stddev = function(d) return d.variance:sqrt() end,
  draw = function(d, shape) return nb.rand(shape):lt(d.probs):to(d.probs.dtype) end,
  log_prob = function(d, x)
    local p = d.probs
    must("Bernoulli", "x", "0 or 1", x:eq(0) | x:eq(1))
    local shape = common_shape("Bernoulli", x, p)
    x = x:to(p.dtype):expand(shape)
    if d.logits then return -nb.bce_with_logits(d.logits:expand(shape), x) end
    p = p:expand(shape)
    return nb.where(x:gt(0.5), p, 1 - p):log()
  end,
  entropy = function(d)
    if d.logits then return nb.bce_with_logits(d.logits, d.probs) end
    return nb.binary_cross_entropy(d.probs, d.probs)
  end,
})

define("Categorical", {
  doc = "Classes 1..K with the probabilities in the last dimension of probs; or {logits=}.",
  params = { { name = "probs", type = "any", optional = true, positional = true,
    doc = "probabilities, or numbers of at least 0 that are made to sum to 1" }, optional("logits", "or scores") },
  example = "nb.distributions.Categorical(nb.tensor{0, 1}):sample(3)  --> {2, 2, 2}",
  make = function(where, o)
    if (o.probs == nil) == (o.logits == nil) then
      native.raise(("%s: one of probs and logits must be given, got %s"):format(where, o.probs and "both" or "none"))
    end
    local t = as_tensor(where, "probs", o.probs or o.logits)
    if t:dim() == 0 or t:size(-1) == 0 then native.raise(where .. ": there are no classes in the last dimension") end
    if o.probs then
      must(where, "probs", "at least 0, and not all 0", t:ge(0):all(-1) & t:sum(-1):gt(0))
      t = t / t:sum(-1, { keepdim = true })
    end
    local batch = t.shape
    batch[#batch] = nil
    return { probs = o.probs and t or t:softmax(-1), logits = not o.probs and t or nil, batch = batch }
  end,
  draw = function(d, shape)
    local ends = d.probs:detach():to("f64"):cumsum(-1)
    ends = ends / ends:narrow(-1, ends:size(-1), 1)
    local u = nb.rand(shape, { dtype = "f64" }):unsqueeze(-1)
    return (u:ge(ends):to("i64"):sum(-1) + 1):clamp { max = ends:size(-1) }
  end,
  log_prob = function(d, x)
    local log_p = d.logits and d.logits:log_softmax(-1) or d.probs:log()
    local shape = common_shape("Categorical", x:to("f32"), nb.zeros(d.batch))
    local all = table.move(shape, 1, #shape, 1, {})
    all[#all + 1] = log_p:size(-1)
    x = require("nablua.nn.shared").within("Categorical", x, { kind = "labels", most = log_p:size(-1) })
    return log_p:expand(all):gather(-1, x:expand(shape):unsqueeze(-1)):squeeze(-1)
  end,
  entropy = function(d)
    local log_p = d.logits and d.logits:log_softmax(-1) or d.probs:clamp { min = 1e-37 }:log()
    return -(d.probs * log_p):sum(-1)
  end,
})

-- ---- of vectors ----

-- Σ ln of the diagonal of matrices.
local function log_diagonal(l)
  local n = l:size(-1)
  return (l * nb.eye(n, { dtype = l.dtype })):sum(-1):log():sum(-1)
end

-- |L⁻¹·v|² for vectors in the last dimension of v.
local function distance(l, v)
  local shape = v.shape
  local columns = v:unsqueeze(-1)
  local all = table.move(shape, 1, #shape, 1, {})
  all[#all + 1] = shape[#shape]
  return nb.solve_triangular(l:expand(all), columns):square():sum { -2, -1 }
end

define("MultivariateNormal", {
  doc = "The normal distribution of vectors, by a mean and a covariance, or the triangular factor L of L·Lᵀ.",
  params = { any("loc", "mean, in the last dimension"), optional("covariance_matrix", "symmetric, positive definite"),
    optional("scale_tril", "or its lower triangular factor"), optional("precision_matrix", "or its inverse") },
  example = "nb.distributions.MultivariateNormal(nb.zeros(2), {covariance_matrix=nb.eye(2)}):log_prob(nb.zeros(2))" ..
    "  --> -1.837877", through = true,
  make = function(where, o)
    local given, count = nil, 0
    for _, name in ipairs { "covariance_matrix", "scale_tril", "precision_matrix" } do
      if o[name] ~= nil then given, count = name, count + 1 end
    end
    if count ~= 1 then
      native.raise(("%s: one of covariance_matrix, scale_tril and precision_matrix must be given, got %d"):format(where,
        count))
    end
    local loc, m = as_tensor(where, "loc", o.loc), as_tensor(where, given, o[given])
    if loc:dim() == 0 or m:dim() < 2 or m:size(-1) ~= loc:size(-1) or m:size(-2) ~= loc:size(-1) then
      native.raise(("%s: %s must be n×n for a loc of n numbers, got shapes %s and %s"):format(where, given,
        options.shape(m), options.shape(loc)))
    end
    local l = given == "scale_tril" and m:tril() or nb.cholesky(given == "precision_matrix" and nb.inverse(m) or m)
    local n = loc:size(-1)
    local rows = l:select(-1, 1)
    local batch = common_shape(where, loc, rows)
    batch[#batch] = nil
    return { loc = loc, scale_tril = l, batch = batch, event = { n } }
  end,
  mean = function(d) return d.loc end,
  variance = function(d) return d.scale_tril:square():sum(-1) end,
  stddev = function(d) return d.scale_tril:square():sum(-1):sqrt() end,
  draw = function(d, shape)
    local noise = nb.randn(shape, { dtype = d.loc.dtype })
    return d.loc + d.scale_tril:matmul(noise:unsqueeze(-1)):squeeze(-1)
  end,
  log_prob = function(d, x)
    local n = d.loc:size(-1)
    return (distance(d.scale_tril, x - d.loc) + n * LOG_2PI) * -0.5 - log_diagonal(d.scale_tril)
  end,
  entropy = function(d) return log_diagonal(d.scale_tril) + 0.5 * d.loc:size(-1) * (1 + LOG_2PI) end,
})

-- ---- between two ----

local divergence = {}

function divergence.Normal(p, q)
  local ratio = (p.scale / q.scale):square()
  return (ratio + ((p.loc - q.loc) / q.scale):square() - 1 - ratio:log()) * 0.5
end

function divergence.Uniform(p, q)
  local inside = p.low:ge(q.low) & p.high:le(q.high)
  local value = ((q.high - q.low) / (p.high - p.low)):log()
  return nb.where(inside, value, nb.full_like(value:detach(), math.huge))
end

function divergence.Exponential(p, q)
  local ratio = q.rate / p.rate
  return ratio - 1 - ratio:log()
end

function divergence.Gamma(p, q)
  local a, b = p.concentration, q.concentration
  return (a - b) * digamma(a) - lgamma(a) + lgamma(b) + b * (p.rate / q.rate):log() + a * (q.rate / p.rate - 1)
end

function divergence.Beta(p, q)
  local a, b, c, d = p.concentration1, p.concentration0, q.concentration1, q.concentration0
  return log_beta(c, d) - log_beta(a, b) + (a - c) * digamma(a) + (b - d) * digamma(b) +
    (c - a + d - b) * digamma(a + b)
end

-- p·ln(p/q), 0 where p is.
local function part(p, q)
  local safe = nb.where(p:eq(0), nb.ones_like(p:detach()), p)
  return nb.where(p:eq(0), nb.zeros_like(p:detach()), p * (safe:log() - q:log()))
end

function divergence.Bernoulli(p, q) return part(p.probs, q.probs) + part(1 - p.probs, 1 - q.probs) end

function divergence.Categorical(p, q)
  if p.logits and q.logits then
    return (p.probs * (p.logits:log_softmax(-1) - q.logits:log_softmax(-1))):sum(-1)
  end
  return part(p.probs, q.probs):sum(-1)
end

function divergence.MultivariateNormal(p, q)
  local n = p.loc:size(-1)
  local spread = nb.solve_triangular(q.scale_tril, p.scale_tril):square():sum { -2, -1 }
  return (spread + distance(q.scale_tril, q.loc - p.loc) - n) * 0.5 + log_diagonal(q.scale_tril) -
    log_diagonal(p.scale_tril)
end

registry.define(M, "nb.distributions.", "kl_divergence", {
  family = "Distributions", params = { any "p", any "q" }, returns = "tensor",
  doc = "The Kullback-Leibler divergence E[ln p(x)/q(x)], x from p, of two distributions of one kind.",
  example = "nb.distributions.kl_divergence(nb.distributions.Normal(1, 1), nb.distributions.Normal(0, 1))  --> 0.5",
  function(p, q)
    if not is_distribution(p) or not is_distribution(q) then
      native.raise(("kl_divergence: takes two distributions, got %s and %s"):format(options.describe(p),
        options.describe(q)))
    end
    if p.name ~= q.name then
      native.raise(("kl_divergence: both must be of one kind, got %s and %s; the mean of p:log_prob(x) − " ..
        "q:log_prob(x) over samples x of p is near to it"):format(p.name, q.name))
    end
    return divergence[p.name](p, q)
  end,
})

registry.add {
  name = "nb.distributions", kind = "topic", value = M, doc = "Distributions of chance.",
  example = "nb.distributions.Normal(0, 1):sample(2).shape  --> {2}",
}

return M
