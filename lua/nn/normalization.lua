-- SPDX-License-Identifier: MIT
-- Normalisation layers: (x − mean)/√(variance + eps), then weight and bias.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

local eps = { name = "eps", type = "non-negative", default = 1e-5, doc = "added to the variance" }
local affine = { name = "affine", type = "boolean", default = true, doc = "whether there is a weight and a bias" }
local has_bias = { name = "bias", type = "boolean", default = true, doc = "whether there is a bias beside the weight" }
local elementwise = { name = "elementwise_affine", type = "boolean", default = true,
  doc = "whether there is a weight for each element" }

local function add_affine(self, weight, bias, sizes)
  if weight then self.weight = nb.ones(sizes, { requires_grad = true }) end
  if bias then self.bias = nb.zeros(sizes, { requires_grad = true }) end
end

-- Weight, bias and running values of a layer that has `count` numbers in each.  Broadcasting, or the rule for groups,
-- would take others in silence.
local fitting = setmetatable({}, { __mode = "k" })  -- tensor → the count that it was found to have
local AFFINE = { "weight", "bias" }
local OF_CHANNELS = { "weight", "bias", "running_mean", "running_var" }
local function check_affine(self, count)
  for _, name in ipairs(self.running_mean and OF_CHANNELS or AFFINE) do
    local t = self[name]
    if t and fitting[t] ~= count then
      if t:numel() ~= count then
        native.raise(("%s: %s must have %d numbers, got shape %s"):format(self:kind(), name, count, options.shape(t)))
      end
      fitting[t] = count
    end
  end
end

local function scaled(self, y)
  if self.weight then y = y * self.weight end
  return self.bias and y + self.bias or y
end

-- Mean and variance (divided by n) over the dimensions `dims`, which stay with size 1.
local function moments(x, dims)
  local mean = x:mean(dims, { keepdim = true })
  return mean, (x - mean):square():mean(dims, { keepdim = true })
end

local function normalize(x, mean, variance, epsilon)
  return (x - mean) * (variance + epsilon):rsqrt()
end

-- The same by their own values, in the parts that operators which are looked at take.
local function standardize(x, dims, epsilon)
  local mean, variance = moments(x, dims)
  return normalize(x, mean, variance, epsilon)
end

-- The product of sizes from the `first` on.
local function numel(sizes, first)
  local n = 1
  for d = first, #sizes do n = n * sizes[d] end
  return n
end

-- weight and bias as 1 × channels × 1 ..., to fit x.
local function scale_channels(self, y)
  if not self.weight then return y end
  local shape = { 1, self.weight:numel() }
  for d = 3, y:dim() do shape[d] = 1 end
  y = y * self.weight:view(shape)
  return self.bias and y + self.bias:view(shape) or y
end

local function check_channels(self, x, count, ranks)
  local shape = x.shape
  if ranks[#shape] and shape[2] == count then return end
  native.raise(("%s: the input must be %s with %d channels, got shape %s"):format(self:kind(), ranks.text, count,
    options.shape(shape)))
end

-- Moves the running values towards those of a batch of n elements a channel.
local function learn_running(self, mean, variance, n)
  self.num_batches_tracked:add_(1)
  local m = self.momentum or 1 / self.num_batches_tracked:item()
  self.running_mean:mul_(1 - m):add_(mean:detach():view(-1) * m)
  self.running_var:mul_(1 - m):add_(variance:detach():view(-1) * (m * n / (n - 1)))
end

-- Mean, variance and number of a channel's elements over the batches of all ranks, whose gradients flow between them.
local function moments_of_all(x, dims, n)
  local share = require "nablua.dist.share"
  local sums = share.sum(nb.cat { x:sum(dims):view(-1), nb.full({ 1 }, n, { dtype = x.dtype }) })
  local channels, shape = sums:numel() - 1, { 1, sums:numel() - 1 }
  for d = 3, x:dim() do shape[d] = 1 end
  n = sums:detach():at(channels + 1)
  local mean = (sums[{ { 1, channels } }] / n):view(shape)
  return mean, (share.sum((x - mean):square():sum(dims)) / n):view(shape), n
end

local function is_shared(self)
  return self.sync and require("nablua.dist.group").size > 1
end

local function define_batch_norm(name, ranks, example)
  return module.define("nn." .. name, {
    leaf = true,
    doc = "Normalises each channel of " .. ranks.text .. " over the batch; evaluation uses running values.  A call " ..
      "from a handler or a subshell while something else runs leaves these as they are.",
    source = "Ioffe and Szegedy 2015", see = { "net:train", "net:eval" }, example = example,
    params = {
      { name = "num_features", type = "size", doc = "channels" },
      eps,
      { name = "momentum", type = "share or false", default = 0.1,
        doc = "weight of a new batch in the running values; false: that of all batches alike" },
      affine,
      { name = "track_running_stats", type = "boolean", default = true,
        doc = "whether there are running values; without, evaluation uses the batch's too" },
      has_bias,
      { name = "sync", type = "boolean", default = false,
        doc = "over the batches of all ranks of a group, in training" },
    },
    init = function(self, o)
      o.bias = o.bias and o.affine
      add_affine(self, o.affine, o.bias, { o.num_features })
      if not o.track_running_stats then return end
      self.running_mean = nb.zeros(o.num_features)
      self.running_var = nb.ones(o.num_features)
      self.num_batches_tracked = nb.tensor(0, { dtype = "i64" })
    end,
    forward = function(self, x)
      check_channels(self, x, self.num_features, ranks)
      check_affine(self, self.num_features)
      local shape, dims = { 1, self.num_features }, { 1 }
      for d = 3, x:dim() do
        shape[d], dims[#dims + 1] = 1, d
      end
      local mean, variance
      if self.training or not self.running_mean then
        local n = x:numel() / self.num_features
        local together = self.training and is_shared(self)
        if together then mean, variance, n = moments_of_all(x, dims, n) end
        if n < 2 and self.training then
          native.raise(("%s: training needs more than one value for each channel, got shape %s"):format(self:kind(),
            options.shape(x)))
        end
        local y  -- one operator, and its parts where operators are looked at
        if not together and native.observed() then
          mean, variance = moments(x, dims)
        elseif not together then
          y, mean, variance = native.batch_norm(x, self.weight, self.bias, self.eps)
        end
        if self.running_mean and not native.visiting() then
          native.settle(nb.no_grad, learn_running, self, mean, variance, n)
        end
        if y then return y end
      else
        mean, variance = self.running_mean:view(shape), self.running_var:view(shape)
      end
      return scale_channels(self, normalize(x, mean, variance, self.eps))
    end,
  })
end

-- Each channel of each sample by itself.
local function define_instance_norm(name, text, rank, example)
  return module.define("nn." .. name, {
    leaf = true,
    doc = "Normalises each channel of each sample of " .. text .. " by itself.",
    source = "Ulyanov, Vedaldi and Lempitsky 2016", see = { "nn.GroupNorm" }, example = example,
    params = {
      { name = "num_features", type = "size", doc = "channels" },
      eps,
      { name = "momentum", type = "share", default = 0.1, doc = "weight of a new batch in the running values" },
      { name = "affine", type = "boolean", default = false, doc = "whether there is a weight and a bias" },
      { name = "track_running_stats", type = "boolean", default = false,
        doc = "whether there are running values, which evaluation uses" },
    },
    init = function(self, o)
      add_affine(self, o.affine, o.affine, { o.num_features })
      if not o.track_running_stats then return end
      self.running_mean = nb.zeros(o.num_features)
      self.running_var = nb.ones(o.num_features)
      self.num_batches_tracked = nb.tensor(0, { dtype = "i64" })
    end,
    forward = function(self, x)
      shared.check_rank(self, x, text, rank, true)
      local single = x:dim() == rank - 1
      if single then x = x:unsqueeze(1) end
      check_channels(self, x, self.num_features, { text = text, [rank] = true })
      check_affine(self, self.num_features)
      local shape, y = x.shape
      local size = numel(shape, 3)
      local own = self.training or not self.running_mean
      if own and size < 2 then
        native.raise(("%s: needs more than one value for each channel of a sample, got shape %s"):format(self:kind(),
          options.shape(shape)))
      end
      if own and self.running_mean then
        local mean, variance = moments(x:reshape(shape[1], shape[2], size), { -1 })
        native.settle(nb.no_grad, learn_running, self, mean:mean(1), variance:mean(1), size)
      end
      if not own then
        local channels = { 1, self.num_features }
        for d = 3, rank do channels[d] = 1 end
        y = scale_channels(self, normalize(x, self.running_mean:view(channels), self.running_var:view(channels),
          self.eps))
      elseif native.observed() then
        y = scale_channels(self, standardize(x:reshape(shape[1], shape[2], size), { -1 }, self.eps):reshape(shape))
      else
        y = native.row_norm(x, self.weight, self.bias, size, self.eps, self.num_features)
      end
      return single and y:squeeze(1) or y
    end,
  })
end

local function trailing(shape)
  local dims = {}
  for d = 1, #shape do dims[d] = -d end
  return dims
end

local function check_trailing(self, x)
  local shape, own = x.shape, self.sizes
  for d = 1, #own do
    if shape[#shape - #own + d] ~= own[d] then
      native.raise(("%s: the input's last dimensions must be %s, got shape %s"):format(self:kind(),
        options.shape(own), options.shape(shape)))
    end
  end
end

local function as_list(v)
  return type(v) == "table" and v or { v }
end

local shape_param = { name = "normalized_shape", type = "sizes",
  doc = "the last dimension's size, or a table of the last ones'" }

return {
  BatchNorm1d = define_batch_norm("BatchNorm1d", { text = "batch × channels (× length)", [2] = true, [3] = true },
    "nn.BatchNorm1d(2)(nb.tensor{{1, 5}, {3, 9}})  --> {{-1, -1}, {1, 1}}"),
  BatchNorm2d = define_batch_norm("BatchNorm2d", { text = "batch × channels × height × width", [4] = true },
    "nn.BatchNorm2d(3)(nb.randn(2, 3, 4, 4)).shape  --> {2, 3, 4, 4}"),
  BatchNorm3d = define_batch_norm("BatchNorm3d",
    { text = "batch × channels × depth × height × width", [5] = true },
    "nn.BatchNorm3d(3)(nb.randn(2, 3, 4, 4, 4)).shape  --> {2, 3, 4, 4, 4}"),
  InstanceNorm1d = define_instance_norm("InstanceNorm1d", "(batch ×) channels × length", 3,
    "nn.InstanceNorm1d(1)(nb.tensor{{{1, 3}}, {{5, 9}}})  --> {{{-1, 1}}, {{-1, 1}}}"),
  InstanceNorm2d = define_instance_norm("InstanceNorm2d", "(batch ×) channels × height × width", 4,
    "nn.InstanceNorm2d(3)(nb.randn(2, 3, 4, 4)).shape  --> {2, 3, 4, 4}"),
  InstanceNorm3d = define_instance_norm("InstanceNorm3d", "(batch ×) channels × depth × height × width", 5,
    "nn.InstanceNorm3d(3)(nb.randn(2, 3, 4, 4, 4)).shape  --> {2, 3, 4, 4, 4}"),
  LocalResponseNorm = module.define("nn.LocalResponseNorm", {
    leaf = true,
    doc = "Divides each element by (k + alpha·m)^beta, m the mean of squares of the `size` channels around its own.",
    source = "Krizhevsky, Sutskever and Hinton 2012",
    params = {
      { name = "size", type = "size", doc = "neighbouring channels" },
      { name = "alpha", type = "finite", default = 1e-4 }, { name = "beta", type = "finite", default = 0.75 },
      { name = "k", type = "finite", default = 1 },
    },
    example = "nn.LocalResponseNorm(3, {alpha=0})(nb.tensor{{{1, 2}}})  --> {{{1, 2}}}",
    forward = function(self, x)
      if not nb.is_tensor(x) or x:dim() < 3 then
        native.raise("LocalResponseNorm: the input must be batch × channels × ..., got " .. options.describe(x))
      end
      local rows = x:square():flatten(3, -1):pad { 0, 0, self.size // 2, (self.size - 1) // 2 }
      local means = nb.avg_pool2d(rows, { self.size, 1 }, { stride = 1 }):reshape(x.shape)
      return x / (means * self.alpha + self.k) ^ self.beta
    end,
  }),
  LayerNorm = module.define("nn.LayerNorm", {
    leaf = true,
    doc = "Normalises the last dimension, or the last few, of every sample by itself.",
    source = "Ba, Kiros and Hinton 2016", params = { shape_param, eps, elementwise, has_bias },
    example = "nn.LayerNorm(2)(nb.tensor{{1, 3}, {10, 30}})  --> {{-1, 1}, {-1, 1}}",
    init = function(self, o)
      rawset(self, "sizes", as_list(o.normalized_shape))
      o.bias = o.bias and o.elementwise_affine
      add_affine(self, o.elementwise_affine, o.bias, self.sizes)
    end,
    forward = function(self, x)
      check_trailing(self, x)
      check_affine(self, numel(self.sizes, 1))
      if native.observed() then return scaled(self, standardize(x, trailing(self.sizes), self.eps)) end
      return (native.row_norm(x, self.weight, self.bias, numel(self.sizes, 1), self.eps))
    end,
  }),
  RMSNorm = module.define("nn.RMSNorm", {
    leaf = true,
    doc = "Divides the last dimension, or the last few, by their root mean square: x/√(mean(x²) + eps).",
    source = "Zhang and Sennrich 2019", params = { shape_param, { name = "eps", type = "non-negative", optional = true,
      doc = "added to the mean of squares; left out: the dtype's smallest step at 1" }, elementwise },
    example = "nn.RMSNorm(2)(nb.tensor{3, 3})  --> {1, 1}",
    init = function(self, o)
      rawset(self, "sizes", as_list(o.normalized_shape))
      add_affine(self, o.elementwise_affine, false, self.sizes)
    end,
    forward = function(self, x)
      check_trailing(self, x)
      check_affine(self, numel(self.sizes, 1))
      local added = self.eps or (x.dtype == "f64" and 2 ^ -52 or 2 ^ -23)
      if native.observed() then
        return scaled(self, x * (x:square():mean(trailing(self.sizes), { keepdim = true }) + added):rsqrt())
      end
      return (native.row_norm(x, self.weight, nil, numel(self.sizes, 1), added, 1, false))
    end,
  }),
  GroupNorm = module.define("nn.GroupNorm", {
    leaf = true,
    doc = "Normalises groups of channels of every sample by itself.", source = "Wu and He 2018",
    params = { { name = "num_groups", type = "size" }, { name = "num_channels", type = "size" }, eps, affine,
      has_bias },
    example = "nn.GroupNorm(2, 4)(nb.randn(2, 4, 3, 3)).shape  --> {2, 4, 3, 3}",
    init = function(self, o)
      if o.num_channels % o.num_groups ~= 0 then
        native.raise(("nn.GroupNorm: %d groups do not divide %d channels"):format(o.num_groups, o.num_channels))
      end
      o.bias = o.bias and o.affine
      add_affine(self, o.affine, o.bias, { o.num_channels })
    end,
    forward = function(self, x)
      local shape = x.shape
      if #shape < 2 or shape[2] ~= self.num_channels then
        check_channels(self, x, self.num_channels, { text = "batch × channels × ..." })
      end
      check_affine(self, self.num_channels)
      local size = numel(shape, 2) // self.num_groups
      if native.observed() then
        local parts = x:reshape(shape[1], self.num_groups, size)
        return scale_channels(self, standardize(parts, { -1 }, self.eps):reshape(shape))
      end
      return (native.row_norm(x, self.weight, self.bias, size, self.eps, self.num_groups))
    end,
  }),
}
