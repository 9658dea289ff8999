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

return init
