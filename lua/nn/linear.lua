-- SPDX-License-Identifier: MIT
-- Layers of weights: Linear and Embedding.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"

local Linear = module.define("nn.Linear", {
  doc = "y = x·Wᵀ + b on the last dimension; W is out × in.",
  params = {
    { name = "in_features", type = "size", doc = "size of the last dimension of x" },
    { name = "out_features", type = "size", doc = "size of the last dimension of y" },
    { name = "bias", type = "boolean", default = true, doc = "whether there is a b" },
  },
  example = "nn.Linear(3, 2)(nb.ones(4, 3)).shape  --> {4, 2}",
  describe = function(self)
    return ("%d → %d%s"):format(self.in_features, self.out_features, self.bias and "" or ", bias=false")
  end,
  init = function(self, o)
    -- Uniform within 1/√in, as PyTorch has it.
    local bound = 1 / math.sqrt(o.in_features)
    self.weight = module.parameter(bound, o.out_features, o.in_features)
    if o.bias then self.bias = module.parameter(bound, o.out_features) end
  end,
  forward = function(self, x)
    if not nb.is_tensor(x) then native.raise("Linear: the input must be a tensor, got " .. options.describe(x)) end
    local shape = x.shape
    if shape[#shape] ~= self.in_features then
      native.raise(("Linear: the last dimension of the input must be %d, got shape %s%s"):format(self.in_features,
        options.shape(shape), #shape > 2 and "; nn.Flatten() makes rows of images" or ""))
    end
    local y = x:matmul(self.weight.T)
    return self.bias and y + self.bias or y
  end,
})

local Embedding = module.define("nn.Embedding", {
  doc = "A learned vector for each of the numbers 1..count: x of any shape gets one more dimension.",
  params = {
    { name = "count", type = "size", doc = "how many vectors" },
    { name = "size", type = "size", doc = "numbers in a vector" },
  },
  example = "nn.Embedding(10, 3)(nb.tensor{1, 10}).shape  --> {2, 3}",
  init = function(self, o)
    self.weight = nb.randn(o.count, o.size, { requires_grad = true })
  end,
  forward = function(self, x) return self.weight:index_select(1, x) end,
})

return { Linear = Linear, Embedding = Embedding }
