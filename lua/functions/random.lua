-- SPDX-License-Identifier: MIT
-- Numbers drawn from further distributions, made of uniform and normal ones: the same at any number of threads.
local nb = require "nablua.core"
local native = require "nablua.native"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local FAMILY, NONE = "Random numbers", "it draws numbers"

local function is_float(x)
  return x.dtype == "f32" or x.dtype == "f64"
end

define.operator("normal", {
  family = FAMILY, sample = "f(2,3), 2; f(2,1), f(3,{lo=1,hi=2}); 5, 1, {2, 3}",
  doc = "Normal random numbers of these means and standard deviations, numbers or tensors, which broadcast; of two " ..
    "numbers in a given shape.  Gradients flow to both.",
  params = { { name = "mean", type = "tensor or number" },
    { name = "std", type = "tensor or number", default = 1, positional = true },
    { name = "shape", type = "whole numbers", optional = true, positional = true } },
  derivative = "∂/∂mean = 1, ∂/∂std = the standard normal number", see = { "nb.randn" },
  example = "nb.normal(5, 0, {2})  --> {5, 5}",
  function(o)
    local mean, std = o.mean, o.std
    local low = not nb.is_tensor(std) and std or std:numel() > 0 and std:detach():amin():item() or 0
    if low < 0 or low ~= low then define.fail("normal", "std must be at least 0, got %g", low) end
    local both = nb.is_tensor(mean) and (nb.is_tensor(std) and mean:detach() + std:detach() or mean) or
      nb.is_tensor(std) and std
    if both and o.shape then define.fail("normal", "a shape goes with two numbers alone") end
    if not both and not o.shape then define.fail("normal", "needs a shape beside two numbers") end
    local z = both and nb.randn_like(both:detach()) or nb.randn(o.shape)
    return z * std + mean
  end,
})
define.methodless("normal")

define.operator("exponential", {
  family = FAMILY, sample = "f(2,3,{lo=1,hi=2})",
  doc = "Exponential random numbers, elementwise with the rates of x: their mean is 1/x.",
  params = { define.x() }, derivative = "−y/x", see = { "nb.poisson", "t:exponential_" },
  example = "nb.exponential(nb.tensor{1 / 0})  --> {0}",
  function(o)
    local x = is_float(o.x) and o.x or o.x:to("f32")
    if not x:detach():gt(0):all():item() then define.fail("exponential", "rates must be above 0") end
    return -(-nb.rand_like(x:detach())):log1p() / x
  end,
})

define.operator("multinomial", {
  family = FAMILY, sample = "nb.tensor{0.5, 0.25, 0.25}, 2; nb.rand(2, 4), 5, {replacement=true}",
  doc = "n places for each row of weights, drawn in proportion to these, which need no sum of 1: each place once, " ..
    "or with replacement=true again and again.  Places count from 1.",
  params = { define.x("weights, a vector or rows"), { name = "n", type = "size", default = 1, positional = true },
    { name = "replacement", type = "boolean", default = false, positional = true } },
  no_grad = "places are whole numbers", see = { "nb.randperm", "nb.bernoulli" },
  example = "nb.multinomial(nb.tensor{0, 1, 0}, 1)  --> {2}",
  function(o)
    local x = (is_float(o.x) and o.x or o.x:to("f32")):detach()
    if x:dim() < 1 or x:dim() > 2 or x:size(-1) == 0 then
      define.fail("multinomial", "weights must be a vector or rows, got shape %s", options.shape(x))
    end
    local sums = x:sum(-1)
    if x:numel() > 0 and not (x:amin():item() >= 0 and sums:amin():item() > 0 and sums:amax():item() < math.huge) then
      define.fail("multinomial", "weights must be finite and at least 0, with some above it in each row")
    end
    if o.replacement then
      local totals, shape = x:cumsum(-1), x.shape
      shape[#shape] = o.n
      local u = nb.rand(shape, { dtype = x.dtype }) * totals:narrow(-1, x:size(-1), 1)
      local last = nb.where(x:gt(0), nb.arange(1, x:size(-1), { dtype = "i64" }), 1):amax(-1, { keepdim = true })
      return totals:searchsorted(u, { right = true }):minimum(last)
    end
    local some = x:numel() > 0 and x:gt(0):sum(-1):amin():item() or x:size(-1)
    if o.n > some then
      define.fail("multinomial", "cannot draw %d of %d places whose weight is above 0 without replacement", o.n, some)
    end
    -- The smallest of exponential numbers with these rates (Efraimidis, Spirakis 2006).
    local _, places = (x / -(-nb.rand_like(x)):log1p()):topk(o.n, -1)
    return places
  end,
})

define.operator("randint_like", {
  family = FAMILY, sample = "f(2,3), 1, 6",
  doc = "Random whole numbers from low to high, both included, of x's shape and dtype.",
  params = { define.x(), { name = "low", type = "integer" }, { name = "high", type = "integer" } },
  no_grad = NONE, see = { "nb.randint" }, example = "nb.randint_like(nb.zeros(2), 7, 7)  --> {7, 7}",
  function(o) return nb.randint(o.low, o.high, o.x.shape, { dtype = o.x.dtype }) end,
})

define.operator("gumbel_softmax", {
  family = FAMILY, sample = "f(2,3); f(2,3), {tau=0.5, dim=1}",
  doc = "Softmax of x plus Gumbel noise, over tau, along dim (the last): a draw of a class that has a gradient; " ..
    "with hard=true 1 for the class drawn and 0 for the others, with the gradient of the soft one.",
  params = { define.x(), { name = "tau", type = "positive", default = 1, positional = true },
    { name = "hard", type = "boolean", default = false, positional = true }, define.dim(-1) },
  derivative = "as softmax's, over tau", see = { "nb.softmax", "nb.multinomial" },
  source = "E. Jang, S. Gu, B. Poole, Categorical reparameterization with Gumbel-Softmax, 2017",
  example = "nb.gumbel_softmax(nb.zeros(4)):sum()  --> 1",
  function(o)
    local x = is_float(o.x) and o.x or o.x:to("f32")
    local noise = -(-(-nb.rand_like(x:detach())):log1p()):log()
    local soft = ((x + noise) / o.tau):softmax(o.dim)
    if not o.hard then return soft end
    local d = define.dimension("gumbel_softmax", x, o.dim)
    if x:dim() == 0 then return soft end
    local place = soft:detach():argmax(d, { keepdim = true })
    local hard = nb.zeros(x.shape, { dtype = x.dtype }):scatter(d, place, 1)
    return hard + (soft - soft:detach())
  end,
})

-- ---- written into the tensor itself ----

local function in_place(name, doc, params, draw)
  local all = { define.x() }
  for _, p in ipairs(params) do all[#all + 1] = p end
  define.method(name, { family = FAMILY, doc = doc, params = params,
    example = ("nb.zeros(3):%s()"):format(name),
    function(...)
      local o = options.read(name, all, ...)
      return nb.no_grad(function() return o.x:copy_(draw(o, o.x.shape, is_float(o.x) and o.x.dtype or "f32")) end)
    end })
end

local function number(name, default)
  return { name = name, type = "finite", default = default, positional = true }
end

in_place("uniform_", "Fills t with uniform random numbers from low to high.", { number("low", 0), number("high", 1) },
  function(o, shape, dtype)
    if o.high < o.low then define.fail("uniform_", "low must not exceed high, got %g and %g", o.low, o.high) end
    return nb.rand(shape, { dtype = dtype }) * (o.high - o.low) + o.low
  end)

in_place("normal_", "Fills t with normal random numbers.", { number("mean", 0), { name = "std", type = "non-negative",
  default = 1, positional = true } },
  function(o, shape, dtype) return nb.randn(shape, { dtype = dtype }) * o.std + o.mean end)

in_place("exponential_", "Fills t with exponential random numbers of this rate: their mean is 1/rate.",
  { { name = "rate", type = "positive", default = 1, positional = true } },
  function(o, shape, dtype) return -(-nb.rand(shape, { dtype = dtype })):log1p() / o.rate end)

in_place("bernoulli_", "Fills t with 1 with this probability, else 0; p is a number or a tensor that broadcasts to t.",
  { { name = "p", type = "tensor or number", default = 0.5, positional = true } },
  function(o, shape, dtype)
    local p = nb.is_tensor(o.p) and o.p:detach():expand(shape) or nb.full(shape, o.p, { dtype = dtype })
    return nb.bernoulli(p)
  end)

in_place("random_", "Fills t with random whole numbers from low to high, both included; from 0 to the largest that " ..
  "its dtype counts exactly without.", { { name = "low", type = "integer", optional = true, positional = true },
  { name = "high", type = "integer", optional = true, positional = true } },
  function(o, shape)
    local most = ({ f32 = 2 ^ 24, f64 = 2 ^ 53, u8 = 255, bool = 1, i64 = math.maxinteger })[o.x.dtype]
    local high = o.high or math.tointeger(most)
    return nb.randint(o.low or 0, high, shape, { dtype = o.x.dtype ~= "bool" and o.x.dtype or "u8" })
  end)

return native
