-- SPDX-License-Identifier: MIT
-- Layers of weights and of distances for two inputs, and sums of embeddings.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

local M = {}

M.Bilinear = module.define("nn.Bilinear", {
  doc = "y[k] = x1ᵀ·W[k]·x2 + b[k] on the last dimensions; W is out × in1 × in2.",
  params = {
    { name = "in1_features", type = "size" }, { name = "in2_features", type = "size" },
    { name = "out_features", type = "size" },
    { name = "bias", type = "boolean", default = true, doc = "whether there is a b" },
  },
  see = { "nn.Linear" }, example = "nn.Bilinear(3, 4, 2)(nb.ones(5, 3), nb.ones(5, 4)).shape  --> {5, 2}",
  init = function(self, o)
    local bound = 1 / math.sqrt(o.in1_features)
    self.weight = module.parameter(bound, o.out_features, o.in1_features, o.in2_features)
    if o.bias then self.bias = module.parameter(bound, o.out_features) end
  end,
  forward = function(self, first, second)
    local n, m, out = self.in1_features, self.in2_features, self.out_features
    shared.check_sizes(self, "weight", out, n, m)
    shared.check_sizes(self, "bias", out)
    for i, x in ipairs { first or false, second or false } do
      local want = i == 1 and n or m
      if not nb.is_tensor(x) or x:dim() == 0 or x:size(-1) ~= want then
        native.raise(("Bilinear: the last dimension of input %d must be %d, got %s"):format(i, want,
          options.describe(x or nil)))
      end
    end
    local lead = first.shape
    lead[#lead] = nil
    local other = second.shape
    other[#other] = nil
    if options.shape(lead) ~= options.shape(other) then
      native.raise(("Bilinear: the inputs must agree but for their last dimension, got shapes %s and %s"):format(
        options.shape(first), options.shape(second)))
    end
    local rows = first:reshape(-1, n):matmul(self.weight:permute(2, 1, 3):reshape(n, out * m))
    local y = (rows:view(-1, out, m) * second:reshape(-1, 1, m)):sum(3)
    if self.bias then y = y + self.bias end
    lead[#lead + 1] = out
    return y:view(lead)
  end,
})

local function check_pair(self, a, b)
  if not nb.is_tensor(a) or not nb.is_tensor(b) then
    native.raise(("%s: needs two tensors, got %s and %s"):format(self:kind(), options.describe(a), options.describe(b)))
  end
end

M.CosineSimilarity = module.define("nn.CosineSimilarity", {
  doc = "x1·x2/(|x1|·|x2|) along a dimension.",
  params = {
    { name = "dim", type = "integer", default = 2, positional = true },
    { name = "eps", type = "positive", default = 1e-8, positional = true, doc = "the least length that is divided by" },
  },
  see = { "nn.CosineEmbeddingLoss" },
  example = "nn.CosineSimilarity()(nb.tensor{{3, 4}}, nb.tensor{{4, 3}})  --> {0.96}",
  forward = function(self, a, b)
    check_pair(self, a, b)
    local d = self.dim
    local function unit(x) return x / nb.norm(x, d, { keepdim = true }):clamp { min = self.eps } end
    return (unit(a) * unit(b)):sum(d)
  end,
})

M.PairwiseDistance = module.define("nn.PairwiseDistance", {
  doc = "The norm of x1 − x2 + eps along the last dimension.",
  params = {
    { name = "p", type = "positive", default = 2, positional = true, doc = "the norm's power" },
    { name = "eps", type = "finite", default = 1e-6, positional = true, doc = "keeps the gradient at 0 finite" },
    { name = "keepdim", type = "boolean", default = false },
  },
  see = { "nn.TripletMarginLoss" },
  example = "nn.PairwiseDistance(2, 0)(nb.tensor{{0, 0}}, nb.tensor{{3, 4}})  --> {5}",
  forward = function(self, a, b)
    check_pair(self, a, b)
    return nb.norm(a - b + self.eps, -1, { p = self.p, keepdim = self.keepdim or false })
  end,
})

-- ---- sums of embeddings ----

-- Which bag each element of x belongs to: its row, or by the places (from 1) where bags begin.
local function bags_of(where, offsets, x)
  if x:dim() == 2 then
    local count, length = x:size(1), x:size(2)
    return nb.arange(count, { dtype = "i64" }):unsqueeze(2):expand(count, length):reshape(-1), count
  end
  if not nb.is_tensor(offsets) or offsets:dim() ~= 1 or offsets:numel() == 0 then
    native.raise(("%s: offsets must be a vector of the places where bags begin, got %s"):format(where,
      options.describe(offsets)))
  end
  if offsets:at(1) ~= 1 then
    native.raise(("%s: the first of the offsets must be 1, got %g"):format(where, offsets:at(1)))
  end
  local count, n = offsets:numel(), x:numel()
  if count > 1 and (offsets[{ { 2, -1 } }] - offsets[{ { 1, -2 } }]):lt(0):any():item() then
    native.raise(where .. ": the offsets must not fall")
  end
  offsets = shared.within(where, offsets, { kind = "labels", most = n + 1 }):to("i64")
  local begun = nb.zeros({ n + 1 }, { dtype = "i64" }):scatter_add(1, offsets, nb.ones({ count }, { dtype = "i64" }))
  return begun:cumsum(1):narrow(1, 1, n), count
end

M.EmbeddingBag = module.define("nn.EmbeddingBag", {
  doc = "The sum, mean or maximum of the vectors of bags of numbers 1..num_embeddings: each row of a matrix is a " ..
    "bag; of a vector bag(x, offsets) says at which places bags begin.  bag(x, offsets, weights) weighs the sum.",
  params = {
    { name = "num_embeddings", type = "size", doc = "how many vectors" },
    { name = "embedding_dim", type = "size", doc = "numbers in a vector" },
    { name = "mode", choices = { "mean", "sum", "max" }, default = "mean" },
    { name = "padding_idx", type = "size", optional = true, doc = "the number that does not count and never learns" },
  },
  see = { "nn.Embedding" },
  example = "nn.EmbeddingBag(10, 3)(nb.tensor{1, 2, 4, 5}, nb.tensor{1, 3}).shape  --> {2, 3}",
  init = function(self, o)
    self.weight = shared.embedding_weight("nn.EmbeddingBag", o)
  end,
  forward = function(self, x, offsets, weights)
    local weight = self.weight
    shared.check_sizes(self, "weight", self.num_embeddings, self.embedding_dim)
    if not nb.is_tensor(x) or x:dim() ~= 1 and x:dim() ~= 2 or (x:dim() == 1) == (offsets == nil) then
      native.raise("EmbeddingBag: the input must be bags × numbers, or a vector of numbers and offsets, got " ..
        options.describe(x))
    end
    if weights and (self.mode ~= "sum" or options.shape(weights) ~= options.shape(x)) then
      native.raise('EmbeddingBag: weights need mode="sum" and the input\'s shape')
    end
    local n = x:numel()
    local bags, count = bags_of("EmbeddingBag", offsets, x)
    local flat = shared.within("EmbeddingBag", x:reshape(-1), { kind = "labels", most = weight:size(1) })
    local rows = weight:index_select(1, flat)
    local seen = self.padding_idx and flat:ne(self.padding_idx)
    if self.mode == "max" then return self:largest(rows, bags, count, seen) end
    if weights then rows = rows * weights:reshape(-1, 1) end
    if seen then rows = rows * seen:to(rows.dtype):unsqueeze(2) end
    local sums = nb.zeros({ count, self.embedding_dim }, { dtype = rows.dtype }):index_add(1, bags, rows)
    if self.mode == "sum" then return sums end
    local ones = seen and seen:to(rows.dtype) or nb.ones({ n }, { dtype = rows.dtype })
    local sizes = nb.zeros({ count }, { dtype = rows.dtype }):index_add(1, bags, ones):clamp { min = 1 }
    return sums / sizes:unsqueeze(2)
  end,
})

-- Maxima of bags: rows stand side by side, as many places for each bag as the largest has.
function M.EmbeddingBag:largest(rows, bags, count, seen)
  local n = rows:size(1)
  local sizes = nb.zeros({ count }, { dtype = "i64" }):index_add(1, bags, nb.ones({ n }, { dtype = "i64" }))
  local most = n > 0 and sizes:max():item() or 0
  if most == 0 then return nb.zeros({ count, self.embedding_dim }, { dtype = rows.dtype }) end
  local first = sizes:cumsum(1) - sizes
  local place = first:unsqueeze(2) + nb.arange(most, { dtype = "i64" })
  local counts = nb.arange(most, { dtype = "i64" }):le(sizes:unsqueeze(2))
  place = place:clamp { max = n }:view(-1)
  if seen then counts = counts & seen:index_select(1, place):view(count, most) end
  local side = rows:index_select(1, place):view(count, most, self.embedding_dim)
  local hidden = counts:logical_not():unsqueeze(3)
  local largest = side:masked_fill(hidden, -math.huge):max(2)
  return nb.where(counts:any(2):unsqueeze(2), largest, 0)
end

return M
