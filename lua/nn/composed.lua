-- SPDX-License-Identifier: MIT
-- Activations made of operators.  Those that are one operator are in activations.lua.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"

local M = {}

local function define(name, spec)
  spec.kind, spec.leaf, spec.params = "activation", true, spec.params or {}
  spec.example = spec.example or ("nn.%s()(nb.tensor{-1, 0, 2})  --> {%s}"):format(name, spec.gives)
  spec.gives = nil
  M[name] = module.define("nn." .. name, spec)
end

local function number(name, default, kind, doc)
  return { name = name, type = kind or "finite", default = default, positional = true, doc = doc }
end
local dim = { name = "dim", type = "integer", default = -1, positional = true }

define("ReLU6", {
  doc = "min(max(x, 0), 6), elementwise.", source = "Krizhevsky 2010", gives = "0, 0, 2",
  forward = function(_, x) return nb.clamp(x, 0, 6) end,
})

define("Hardtanh", {
  doc = "x, but at least min_val and at most max_val.",
  params = { number("min_val", -1), number("max_val", 1) }, gives = "-1, 0, 1",
  init = function(_, o)
    if o.min_val >= o.max_val then
      native.raise(("nn.Hardtanh: min_val must be below max_val, got %g and %g"):format(o.min_val, o.max_val))
    end
  end,
  forward = function(self, x) return nb.clamp(x, self.min_val, self.max_val) end,
})

define("Hardsigmoid", {
  doc = "A sigmoid of three lines: 0 below −3, 1 above 3, x/6 + ½ between.",
  example = "nn.Hardsigmoid()(nb.tensor{-4, 0, 1.5})  --> {0, 0.5, 0.75}",
  forward = function(_, x) return nb.clamp(x / 6 + 0.5, 0, 1) end,
})

define("Hardswish", {
  doc = "x·min(max(x + 3, 0), 6)/6: SiLU with a sigmoid of three lines.", source = "Howard et al. 2019",
  example = "nn.Hardswish()(nb.tensor{-4, 0, 3})  --> {0, 0, 3}",
  forward = function(_, x) return x * nb.clamp(x / 6 + 0.5, 0, 1) end,
})

define("Hardshrink", {
  doc = "x where |x| is above lambd, else 0.", params = { number("lambd", 0.5, "non-negative") }, gives = "-1, 0, 2",
  forward = function(self, x) return nb.where(nb.abs(x):le(self.lambd), 0, x) end,
})

define("Softshrink", {
  doc = "x brought nearer to 0 by lambd, and 0 where |x| is at most lambd.",
  params = { number("lambd", 0.5, "non-negative") }, gives = "-0.5, 0, 1.5",
  forward = function(self, x) return x - nb.clamp(x, -self.lambd, self.lambd) end,
})

define("Tanhshrink", {
  doc = "x − tanh x, elementwise.", example = "nn.Tanhshrink()(nb.tensor{0, 1})  --> {0, 0.238406}",
  forward = function(_, x) return x - nb.tanh(x) end,
})

define("Softsign", {
  doc = "x/(1 + |x|), elementwise.", gives = "-0.5, 0, 0.666667",
  forward = function(_, x) return x / (nb.abs(x) + 1) end,
})

define("Threshold", {
  doc = "x where it is above threshold, else value.",
  params = { { name = "threshold", type = "finite" }, { name = "value", type = "finite" } },
  example = "nn.Threshold(1, -5)(nb.tensor{0, 1, 2})  --> {-5, -5, 2}",
  forward = function(self, x) return nb.where(x:le(self.threshold), self.value, x) end,
})

-- The constants at which the mean 0 and the variance 1 are a fixed point (Klambauer et al., equation 14).
local SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

define("SELU", {
  doc = "1.0507·x for x > 0, else 1.0507·1.67326·(eˣ − 1): deep nets keep mean 0 and variance 1 without a layer " ..
    "that normalises.",
  source = "Klambauer et al. 2017", see = { "nn.AlphaDropout" },
  example = "nn.SELU()(nb.tensor{0, 1})  --> {0, 1.0507}",
  forward = function(_, x) return nb.elu(x, SELU_ALPHA) * SELU_SCALE end,
})

define("CELU", {
  doc = "max(x, 0) + min(0, alpha·(e^(x/alpha) − 1)): ELU, smooth for every alpha.", source = "Barron 2017",
  params = { number("alpha", 1) }, gives = "-0.632121, 0, 2",
  init = function(_, o)
    if o.alpha == 0 then native.raise("nn.CELU: alpha must not be 0") end
  end,
  forward = function(self, x)
    local a = self.alpha
    if a == 1 then return nb.elu(x, 1) end
    return nb.relu(x) + nb.clamp(nb.expm1(nb.clamp(x, nil, 0) / a) * a, nil, 0)
  end,
})

define("Mish", {
  doc = "x·tanh(ln(1 + eˣ)), elementwise.", source = "Misra 2019", gives = "-0.303401, 0, 1.94396",
  forward = function(_, x) return x * nb.tanh(nb.softplus(x)) end,
})

define("LogSigmoid", {
  doc = "ln σ(x), exact where σ(x) is next to nothing.", see = { "nn.BCEWithLogitsLoss" },
  example = "nn.LogSigmoid()(nb.tensor{-1000, 0})  --> {-1000, -0.693147}",
  forward = function(_, x) return -nb.softplus(-x, 1, 40) end,  -- beyond 40 the rest is below the last bit of f64
})

define("Softmin", {
  doc = "softmax(−x) along a dimension: the least element gets the most.", params = { dim },
  example = "nn.Softmin()(nb.tensor{0, 0})  --> {0.5, 0.5}",
  forward = function(self, x) return nb.softmax(-x, self.dim) end,
})

define("Softmax2d", {
  doc = "softmax over the channels, at every place of images: (batch ×) channels × height × width.",
  example = "nn.Softmax2d()(nb.zeros(1, 2, 1, 1))  --> {{{{0.5}}, {{0.5}}}}",
  forward = function(_, x)
    if x:dim() ~= 3 and x:dim() ~= 4 then
      native.raise("Softmax2d: the input must be (batch ×) channels × height × width, got shape " .. options.shape(x))
    end
    return nb.softmax(x, -3)
  end,
})

-- The two halves of x along a dimension.
local function halves(self, x)
  local d, rank = self.dim, x:dim()
  local n = d ~= 0 and math.abs(d) <= rank and x:size(d) or nil
  if not n or n % 2 == 1 then
    native.raise(("%s: dimension %d of the input must have an even size, got shape %s"):format(self:kind(), d,
      options.shape(x)))
  end
  return x:narrow(d, 1, n // 2), x:narrow(d, n // 2 + 1, n // 2)
end

define("GLU", {
  doc = "a·σ(b), where a and b are the halves of x along a dimension.", params = { dim },
  source = "Dauphin et al. 2017", see = { "nn.SwiGLU" }, example = "nn.GLU()(nb.tensor{4, 0})  --> {2}",
  forward = function(self, x)
    local a, b = halves(self, x)
    return a * nb.sigmoid(b)
  end,
})

define("SwiGLU", {
  doc = "silu(a)·b, where a and b are the halves of x along a dimension: after nn.Linear(n, 2·m) the feed-forward " ..
    "layer of today's transformers.",
  params = { dim }, source = "Shazeer 2020", see = { "nn.GLU", "nn.SiLU" },
  example = "nn.SwiGLU()(nb.tensor{0, 5})  --> {0}",
  forward = function(self, x)
    local a, b = halves(self, x)
    return nb.silu(a) * b
  end,
})

define("PReLU", {
  doc = "x for x > 0, else weight·x with a learned weight: one, or one for each channel (dimension 2).",
  source = "He et al. 2015", see = { "nn.LeakyReLU" },
  params = {
    { name = "num_parameters", type = "size", default = 1, positional = true, doc = "1, or the number of channels" },
    { name = "init", type = "finite", default = 0.25, positional = true, doc = "what the weights are at first" },
  },
  gives = "-0.25, 0, 2",
  init = function(self, o) self.weight = nb.full({ o.num_parameters }, o.init, { requires_grad = true }) end,
  forward = function(self, x)
    local weight, n = self.weight, self.num_parameters
    if weight:dim() ~= 1 or weight:numel() ~= n then
      native.raise(("PReLU: weight must have shape %d, got %s"):format(n, options.shape(weight)))
    end
    if n > 1 then
      local channel = x:dim() == 1 and 1 or 2  -- a vector is one sample
      if x:dim() == 0 or x:size(channel) ~= n then
        native.raise(("PReLU: the input must have %d channels (dimension 2), got shape %s"):format(n, options.shape(x)))
      end
      local shape = {}
      for d = 1, x:dim() do shape[d] = d == channel and n or 1 end
      weight = weight:view(shape)
    elseif x:dim() == 0 then
      weight = weight:squeeze(1)
    end
    return nb.where(x:gt(0), x, x * weight)
  end,
})

return M
