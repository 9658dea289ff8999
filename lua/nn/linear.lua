-- SPDX-License-Identifier: MIT
-- Layers of weights: Linear and Embedding.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

local Linear = module.define("nn.Linear", {
  doc = "y = x·Wᵀ + b on the last dimension; W is out × in.",
  params = {
    { name = "in_features", type = "size", doc = "size of the last dimension of x" },
    { name = "out_features", type = "size", doc = "size of the last dimension of y" },
    { name = "bias", type = "boolean", default = true, doc = "whether there is a b" },
  },
  example = "nn.Linear(3, 2)(nb.ones(4, 3)).shape  --> {4, 2}", leaf = true,
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
    if not native.ends_in(x, self.in_features) then
      if not nb.is_tensor(x) then native.raise("Linear: the input must be a tensor, got " .. options.describe(x)) end
      native.raise(("Linear: the last dimension of the input must be %d, got shape %s%s"):format(self.in_features,
        options.shape(x), x:dim() > 2 and "; nn.Flatten() makes rows of images" or ""))
    end
    return shared.affine(x, self.weight, self.bias)
  end,
})

local Embedding = module.define("nn.Embedding", {
  doc = "A learned vector for each of the numbers 1..num_embeddings: x of any shape gets one more dimension.",
  params = {
    { name = "num_embeddings", type = "size", doc = "how many vectors" },
    { name = "embedding_dim", type = "size", doc = "numbers in a vector" },
    { name = "padding_idx", type = "size", optional = true, doc = "the number whose vector is zeros and never learns" },
  },
  example = "nn.Embedding(10, 3)(nb.tensor{1, 10}).shape  --> {2, 3}", leaf = true,
  init = function(self, o)
    self.weight = shared.embedding_weight("nn.Embedding", o)
  end,
  forward = function(self, x)
    local weight = self.weight
    if weight:dim() ~= 2 then
      native.raise("Embedding: weight must be numbers × features, got shape " .. options.shape(weight))
    end
    -- Counted from the end, as an index may be, a number would be a mistake.
    local y = weight:index_select(1, shared.within("Embedding", x, { kind = "labels", most = weight:size(1) }))
    return self.padding_idx and nb.where(x:eq(self.padding_idx):unsqueeze(-1), y:detach(), y) or y
  end,
})

return { Linear = Linear, Embedding = Embedding }
