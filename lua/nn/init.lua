-- SPDX-License-Identifier: MIT
-- nn.init: fills tensors with their first values.  Each function writes in place and returns the tensor.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local init = {}

-- The number of inputs and outputs that meet in one weight: outputs × inputs × kernel...
local function fans(where, t)
  local shape = t.shape
  if #shape < 2 then
    native.raise(("%s: needs a weight of at least 2 dimensions, got shape %s"):format(where,
      options.shape(shape)))
  end
  local field = 1
  for d = 3, #shape do field = field * shape[d] end
  return shape[2] * field, shape[1] * field
end

local function fill_uniform(t, bound)
  return t:copy_(nb.rand(t.shape, { dtype = t.dtype }) * (2 * bound) - bound)
end

local function fill_normal(t, mean, std)
  return t:copy_(nb.randn(t.shape, { dtype = t.dtype }) * std + mean)
end

-- The recommended factor for a nonlinearity; a is the leaky slope.
local function gain_of(nonlinearity, a)
  if nonlinearity == "leaky_relu" then return math.sqrt(2 / (1 + a * a)) end
  return ({ linear = 1, sigmoid = 1, tanh = 5 / 3, relu = math.sqrt(2), selu = 3 / 4 })[nonlinearity]
end

local tensor = { name = "t", type = "tensor" }
local gain = { name = "gain", type = "positive", default = 1, doc = "factor for the activation that follows" }
local slope = { name = "a", type = "number", default = 0, doc = "negative slope of a leaky ReLU" }
local mode = { name = "mode", type = "string", default = "fan_in", choices = { "fan_in", "fan_out" },
  doc = "keep the size of activations (fan_in) or of gradients (fan_out)" }
local nonlinearity = { name = "nonlinearity", type = "string", default = "leaky_relu",
  choices = { "linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu" } }

local function define(name, entry)
  local fill = entry[1]
  local where = "nn.init." .. name
  table.insert(entry.params, 1, tensor)
  entry[1] = function(...)
    local o = options.read(where, entry.params, ...)
    return nb.no_grad(fill, o.t, o, where)
  end
  entry.returns = "tensor"
  registry.define(init, "nn.init.", name, entry)
end

define("constant", {
  doc = "Writes one number everywhere.", params = { { name = "value", type = "number" } },
  example = "nn.init.constant(nb.zeros(2), 3)  --> {3, 3}",
  function(t, o) return t:fill_(o.value) end,
})

define("uniform", {
  doc = "Uniform numbers between low and high.",
  params = { { name = "low", type = "number", default = 0, positional = true },
    { name = "high", type = "number", default = 1, positional = true } },
  example = "nn.init.uniform(nb.zeros(100), -1, 1):abs():le(1):all()  --> true",
  function(t, o) return t:copy_(nb.rand(t.shape, { dtype = t.dtype }) * (o.high - o.low) + o.low) end,
})

define("normal", {
  doc = "Normal numbers of the given mean and standard deviation.",
  params = { { name = "mean", type = "number", default = 0, positional = true },
    { name = "std", type = "non-negative", default = 1, positional = true } },
  example = "nn.init.normal(nb.zeros(3), 5, 0)  --> {5, 5, 5}",
  function(t, o) return fill_normal(t, o.mean, o.std) end,
})

define("xavier_uniform", {
  doc = "Uniform numbers within gain·√(6/(fan_in + fan_out)), which keeps signals and gradients of like size " ..
    "through tanh and sigmoid layers.", params = { gain },
  source = "Glorot and Bengio 2010", example = "nn.init.xavier_uniform(nb.zeros(3, 3)):abs():le(1):all()  --> true",
  function(t, o, where)
    local inputs, outputs = fans(where, t)
    return fill_uniform(t, o.gain * math.sqrt(6 / (inputs + outputs)))
  end,
})

define("xavier_normal", {
  doc = "Normal numbers of standard deviation gain·√(2/(fan_in + fan_out)).", params = { gain },
  source = "Glorot and Bengio 2010", example = "nn.init.xavier_normal(nb.zeros(3, 2)).shape  --> {3, 2}",
  function(t, o, where)
    local inputs, outputs = fans(where, t)
    return fill_normal(t, 0, o.gain * math.sqrt(2 / (inputs + outputs)))
  end,
})

local function kaiming_std(t, o, where)
  local inputs, outputs = fans(where, t)
  return gain_of(o.nonlinearity, o.a) / math.sqrt(o.mode == "fan_in" and inputs or outputs)
end

define("kaiming_uniform", {
  doc = "Uniform numbers within gain·√(3/fan), made for ReLU layers.", params = { slope, mode, nonlinearity },
  source = "He et al. 2015", example = "nn.init.kaiming_uniform(nb.zeros(3, 6)):abs():le(1):all()  --> true",
  function(t, o, where) return fill_uniform(t, kaiming_std(t, o, where) * math.sqrt(3)) end,
})

define("kaiming_normal", {
  doc = "Normal numbers of standard deviation gain/√fan, made for ReLU layers.",
  params = { slope, mode, nonlinearity },
  source = "He et al. 2015", example = "nn.init.kaiming_normal(nb.zeros(3, 2)).shape  --> {3, 2}",
  function(t, o, where) return fill_normal(t, 0, kaiming_std(t, o, where)) end,
})

define("zeros", {
  doc = "Writes 0 everywhere.", params = {}, example = "nn.init.zeros(nb.ones(2))  --> {0, 0}",
  function(t) return t:fill_(0) end,
})

define("ones", {
  doc = "Writes 1 everywhere.", params = {}, example = "nn.init.ones(nb.zeros(2))  --> {1, 1}",
  function(t) return t:fill_(1) end,
})

define("eye", {
  doc = "Makes a matrix the identity: as many inputs as can pass unchanged.", params = {},
  example = "nn.init.eye(nb.zeros(2, 2))  --> {{1, 0}, {0, 1}}",
  function(t, _, where)
    if t:dim() ~= 2 then
      native.raise(("%s: needs a matrix, got shape %s"):format(where, options.shape(t)))
    end
    return t:copy_(nb.eye(t:size(1), t:size(2)))
  end,
})

-- Standard normal numbers between low and high: uniform shares of the distribution, turned back by bisection.
local function normal_between(shape, low, high)
  local function share(x) return (x / math.sqrt(2)):erf() end
  local function at(v) return nb.full(shape, v, { dtype = "f64" }) end
  local left, right = at(low), at(high)
  local first, last = share(left), share(right)
  local wanted = first + nb.rand(shape, { dtype = "f64" }) * (last - first)
  for _ = 1, 50 do
    local middle = (left + right) / 2
    local below = share(middle):lt(wanted)
    left, right = nb.where(below, middle, left), nb.where(below, right, middle)
  end
  return (left + right) / 2
end

define("trunc_normal", {
  doc = "Normal numbers between a and b: the distribution cut off there.",
  params = { { name = "mean", type = "number", default = 0, positional = true },
    { name = "std", type = "positive", default = 1, positional = true },
    { name = "a", type = "number", default = -2, positional = true },
    { name = "b", type = "number", default = 2, positional = true } },
  example = "nn.init.trunc_normal(nb.zeros(100)):abs():le(2):all()  --> true",
  function(t, o, where)
    local low, high = math.max((o.a - o.mean) / o.std, -9), math.min((o.b - o.mean) / o.std, 9)
    if low >= high then
      native.raise(("%s: a..b must hold a part of the distribution, got %g..%g for mean %g, std %g"):format(where, o.a,
        o.b, o.mean, o.std))
    end
    return t:copy_((normal_between(t.shape, low, high) * o.std + o.mean):clamp(o.a, o.b))
  end,
})

-- Each row of a normal matrix less its part along the rows before, twice for accuracy, at length 1.
local function orthonormal_rows(x)
  for i = 1, x:size(1) do
    local row = x[i]
    if i > 1 then
      local before = x:narrow(1, 1, i - 1)
      for _ = 1, 2 do row = row - before:matmul(row):matmul(before) end
    end
    x[i] = row / row:norm()
  end
  return x
end

define("orthogonal", {
  doc = "Rows (or columns, whichever are fewer) at right angles and of length gain; dimensions after the first " ..
    "count as one.",
  params = { gain }, source = "Saxe, McClelland and Ganguli 2014",
  example = "local w = nn.init.orthogonal(nb.zeros(2, 3)); " ..
    "return (w:matmul(w.T) - nb.eye(2)):abs():max():lt(1e-5)  --> true",
  function(t, o, where)
    fans(where, t)
    local rows = t:size(1)
    local columns = t:numel() // math.max(rows, 1)
    local wide = rows <= columns
    local x = orthonormal_rows(nb.randn(math.min(rows, columns), math.max(rows, columns), { dtype = "f64" }))
    return t:copy_(((wide and x or x.T) * o.gain):reshape(t.shape))
  end,
})

define("dirac", {
  doc = "Makes a convolution's weight pass its input channels on unchanged.", params = {},
  example = "nn.Conv2d(2, 2, 3, {padding=1, bias=false}):apply(function(m) nn.init.dirac(m.weight) end)",
  function(t, _, where)
    local shape = t.shape
    if #shape < 3 or #shape > 5 then
      native.raise(("%s: needs a convolution's weight of 3 to 5 dimensions, got shape %s"):format(where,
        options.shape(shape)))
    end
    t:fill_(0)
    local at = {}
    for d = 3, #shape do at[d] = shape[d] // 2 + 1 end
    for c = 1, math.min(shape[1], shape[2]) do
      at[1], at[2] = c, c
      t[at] = 1
    end
    return t
  end,
})

local gain_params = {
  { name = "nonlinearity", choices = nonlinearity.choices },
  { name = "a", type = "number", default = 0.01, positional = true, doc = "negative slope of a leaky ReLU" },
}

registry.define(init, "nn.init.", "gain", {
  doc = "The factor that keeps the size of activations through a nonlinearity: √2 for relu, 5/3 for tanh.",
  params = gain_params, example = "nn.init.gain(\"tanh\")  --> 1.66667",
  function(...)
    local o = options.read("nn.init.gain", gain_params, ...)
    return gain_of(o.nonlinearity, o.a)
  end,
})

return init
