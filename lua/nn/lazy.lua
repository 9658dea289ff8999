-- SPDX-License-Identifier: MIT
-- Layers whose input size is left out: the first call sees it, and makes them what they stand for.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"

local layers = {}

-- The classes: what each becomes, the size that is left out, and how many dimensions follow it; `whole` where a batch
-- must stand before it.
local KINDS = {
  { "Linear", "in_features", 0 },
  { "Conv1d", "in_channels", 1 }, { "Conv2d", "in_channels", 2 }, { "Conv3d", "in_channels", 3 },
  { "ConvTranspose1d", "in_channels", 1 }, { "ConvTranspose2d", "in_channels", 2 },
  { "ConvTranspose3d", "in_channels", 3 },
  { "BatchNorm1d", "num_features", 1, whole = true }, { "BatchNorm2d", "num_features", 2, whole = true },
  { "BatchNorm3d", "num_features", 3, whole = true },
  { "InstanceNorm1d", "num_features", 1 }, { "InstanceNorm2d", "num_features", 2 },
  { "InstanceNorm3d", "num_features", 3 },
}

local EXAMPLES = {
  Linear = "local net = nn.Sequential(nn.Flatten(), nn.LazyLinear(10)); net(nb.zeros(2, 3, 4)); " ..
    "return net[2].in_features  --> 12",
  Conv = "nn.Lazy%s(8, 1)(nb.zeros(%s)).shape  --> {%s}",
  Norm = "local n = nn.Lazy%s(); n(nb.ones(%s)); return n.num_features  --> 3",
}

local function example(name, dims)
  if name == "Linear" then return EXAMPLES.Linear end
  local sizes = "2, 3" .. (", 4"):rep(dims)
  if name:find "^Conv" then return EXAMPLES.Conv:format(name, sizes, "2, 8" .. (", 4"):rep(dims)) end
  return EXAMPLES.Norm:format(name, sizes)
end

-- Where x has the size: from the end, but for what may be batch × channels alone.
local function size_in(self, kind, x)
  local dims = kind[3]
  local ranks = kind.whole and { [dims + 2] = true, [2] = dims == 1 } or { [dims + 1] = true, [dims + 2] = true }
  if not nb.is_tensor(x) or x:dim() == 0 or dims > 0 and not ranks[x:dim()] then
    native.raise(("%s: the input must be a tensor of %s, got %s"):format(self:kind(), dims == 0 and "features" or
      ("%schannels and %d dimensions behind them"):format(kind.whole and "a batch of " or "", dims),
      options.describe(x)))
  end
  local d = kind.whole and 2 or x:dim() - dims
  if x:size(d) == 0 then
    native.raise(("%s: dimension %d of the input has size 0: shape %s"):format(self:kind(), d, options.shape(x)))
  end
  return x:size(d)
end

local function define(base, kind)
  local name, size = kind[1], kind[2]
  local params = {}
  for _, p in ipairs(base.meta.spec.params) do
    if p.name ~= size then params[#params + 1] = p end
  end
  layers["Lazy" .. name] = module.define("nn.Lazy" .. name, {
    doc = ("nn.%s whose %s the first call sees: from then on it is one.  Call the net once before you make the " ..
      "optimizer: until then it has no weights."):format(name, size),
    params = params, see = { "nn." .. name }, example = example(name, kind[3]),
    init = function(self) module.unsettled[self] = true end,
    forward = function(self, x)
      local values = {}
      for _, p in ipairs(params) do values[p.name] = rawget(self, p.name) end
      values[size] = size_in(self, kind, x)
      local real = module.make(base, values)
      if x.dtype == "f64" then real:to("f64") end
      module.become(self, real)
      return self:forward(x)
    end,
  })
end

for _, kind in ipairs(KINDS) do
  local file = kind[1] == "Linear" and "linear" or kind[1]:find "^Conv" and "convolution" or "normalization"
  define(require("nablua.nn." .. file)[kind[1]], kind)
end

return layers
