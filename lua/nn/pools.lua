-- SPDX-License-Identifier: MIT
-- Pooling layers of one and three dimensions, adaptive ones, of norms, and back; those of images that are one operator
-- are in pooling.lua.
--
-- A window of three dimensions is one of two and then one of one: maxima of maxima, means of means.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

local M = {}

local SHAPES = { "(batch ×) channels × length", "(batch ×) channels × height × width",
  "(batch ×) channels × depth × height × width" }

local function define(name, spec)
  spec.leaf = true
  M[name] = module.define("nn." .. name, spec)
end

local function check(self, x, dims) shared.check_rank(self, x, SHAPES[dims], dims + 2, true) end

-- f(x), where x = ... × a × b × c becomes ... × a × (b·c): the third dimension from the end is a pooled one.
local function over_depth(x, f)
  local shape = x.shape
  local n = #shape
  local y = f(x:flatten(n - 1, n))
  shape[n - 2] = y:size(n - 2)
  return y:reshape(shape)
end

-- Where each window of three dimensions has its largest element, counted row by row in the whole: at the place that
-- the second pass chose among those of the first.
local function places_of_both(first, second, plane)
  local flat = first:flatten(-2, -1)
  local width = flat:size(-1)
  local at = second:flatten(-2, -1)
  local inside = flat:flatten(-2, -1):gather(-1, at)
  return (nb.floordiv(at - 1, width) * plane + inside):reshape(second.shape)
end

-- Operator `pool` of windows over the last 1 or 3 dimensions, with these options; of maxima also their places.
local function pooled(pool, self, x, dims)
  local kernel = shared.each_of(self.kernel_size, dims)
  local stride = shared.each_of(self.stride or kernel, dims)
  local padding, dilation = shared.each_of(self.padding or 0, dims), shared.each_of(self.dilation or 1, dims)
  local function over(v, a, b, divisor)  -- the dimensions a and b; none is a window of one element
    local o = { stride = { stride[a] or 1, stride[b] or 1 }, padding = { padding[a] or 0, padding[b] or 0 },
      ceil_mode = self.ceil_mode or nil }
    if pool == nb.avg_pool2d then
      o.count_include_pad, o.divisor_override = self.count_include_pad or false, divisor
    else
      o.dilation, o.return_indices = { dilation[a] or 1, dilation[b] or 1 }, self.return_indices or nil
    end
    return pool(v, { kernel[a] or 1, kernel[b] or 1 }, o)
  end
  local divisor = self.divisor_override
  if dims == 1 then
    local y, at = over(x:unsqueeze(-2), 0, 1, divisor)
    if not at then return y:squeeze(-2) end
    return y:squeeze(-2), at:squeeze(-2)
  end
  local y, at = over(x, 2, 3, divisor and 1)
  local at_depth
  local z = over_depth(y, function(v)
    local w
    w, at_depth = over(v, 1, 0, divisor)
    return w
  end)
  if not at then return z end
  return z, places_of_both(at, at_depth, x:size(-1) * x:size(-2)):reshape(z.shape)
end

local function window_params(...)
  return {
    { name = "kernel_size", type = "sizes", doc = "size of a window; one number serves for all dimensions" },
    { name = "stride", type = "sizes", optional = true, positional = true,
      doc = "step between windows; the kernel's size when left out" },
    { name = "padding", type = "counts", default = 0, positional = true }, ...,
  }
end

local function window(name, dims, spec)
  spec.init = function(_, o)
    shared.check_lists("nn." .. name, o, dims, "kernel_size", "stride", "padding", "dilation")
  end
  local pool = spec.pool
  spec.pool = nil
  spec.forward = function(self, x)
    check(self, x, dims)
    return pooled(pool, self, x, dims)
  end
  define(name, spec)
end

local of_averages, of_maxima = shared.pool_params.averages, shared.pool_params.maxima
local ceil_mode = of_maxima[1]

window("MaxPool1d", 1, {
  doc = "The largest element of each window of the last dimension.", pool = nb.max_pool2d,
  params = window_params(table.unpack(of_maxima)),
  see = { "nn.MaxPool2d" }, example = "nn.MaxPool1d(2)(nb.tensor{{{1, 2, 4, 3}}})  --> {{{2, 4}}}",
})
window("MaxPool3d", 3, {
  doc = "The largest element of each window of the last three dimensions.", pool = nb.max_pool2d,
  params = window_params(table.unpack(of_maxima)), see = { "nn.MaxPool2d" },
  example = "nn.MaxPool3d(2)(nb.ones(1, 3, 4, 6, 8)).shape  --> {1, 3, 2, 3, 4}",
})
window("AvgPool1d", 1, {
  doc = "The mean of each window of the last dimension.", pool = nb.avg_pool2d,
  params = window_params(table.unpack(of_averages)),
  see = { "nn.AvgPool2d" }, example = "nn.AvgPool1d(2)(nb.tensor{{{1, 2, 4, 3}}})  --> {{{1.5, 3.5}}}",
})
window("AvgPool3d", 3, {
  doc = "The mean of each window of the last three dimensions.", pool = nb.avg_pool2d,
  params = window_params(table.unpack(of_averages)), see = { "nn.AvgPool2d" },
  example = "nn.AvgPool3d(2)(nb.ones(1, 3, 4, 6, 8)).shape  --> {1, 3, 2, 3, 4}",
})

-- ---- norms ----

local norm_type = { name = "norm_type", type = "positive", doc = "the norm's power p" }

local LP_EXAMPLES = { "nn.LPPool1d(2, 2)(nb.tensor{{{3, 4}}})  --> {{{5}}}",
  "nn.LPPool2d(1, 2)(nb.tensor{{{{1, 2}, {3, 4}}}})  --> {{{{10}}}}",
  "nn.LPPool3d(1, 2)(nb.ones(1, 1, 2, 2, 2))  --> {{{{{8}}}}}" }

for dims = 1, 3 do
  local name = ("LPPool%dd"):format(dims)
  local params = window_params(ceil_mode)
  table.remove(params, 3)
  table.insert(params, 1, norm_type)
  define(name, {
    doc = ("(Σ x^p)^(1/p) over each window of the last %s."):format(
      ({ "dimension", "two dimensions", "three dimensions" })[dims]),
    params = params, see = { ("nn.MaxPool%dd"):format(dims) }, example = LP_EXAMPLES[dims],
    init = function(_, o) shared.check_lists("nn." .. name, o, dims, "kernel_size", "stride") end,
    forward = function(self, x)
      check(self, x, dims)
      local kernel, p = shared.each_of(self.kernel_size, dims), self.norm_type
      local count = kernel[1] * (kernel[2] or 1) * (kernel[3] or 1)
      local powers = p == 1 and x or x ^ p
      local means = dims ~= 2 and pooled(nb.avg_pool2d, self, powers, dims) or
        nb.avg_pool2d(powers, kernel, { stride = self.stride, ceil_mode = self.ceil_mode or nil })
      return p == 1 and means * count or nb.relu(means * count) ^ (1 / p)
    end,
  })
end

-- ---- windows that give sizes asked for ----

local function sizes_param(dims)
  return { { name = "output_size", type = dims == 1 and "sizes" or "sizes or inputs'", doc = dims == 1 and
    "length of the result" or "sizes of the result; one number serves for all dimensions, nil is the input's" } }
end

local function adaptive(name, dims, pool, spec)
  spec.params = table.move(spec.params or {}, 1, 1, 2, sizes_param(dims))
  spec.init = function(_, o)
    local given = o.output_size
    for d = dims + 1, 3 do
      if type(given) == "table" and given[d] then
        native.raise(("nn.%s: output_size must be one number or %d, got %d"):format(name, dims, d))
      end
    end
  end
  spec.forward = function(self, x)
    check(self, x, dims)
    local sizes, given = {}, shared.each_of(self.output_size, dims)
    for d = 1, dims do sizes[d] = given[d] or x:size(x:dim() - dims + d) end
    return pool(x, sizes, self)
  end
  define(name, spec)
end

adaptive("AdaptiveAvgPool1d", 1, function(x, sizes)
  return nb.adaptive_avg_pool2d(x:unsqueeze(-2), { 1, sizes[1] }):squeeze(-2)
end, {
  doc = "Means over windows chosen so that the last dimension gets the given size.", see = { "nn.AdaptiveAvgPool2d" },
  example = "nn.AdaptiveAvgPool1d(2)(nb.tensor{{{1, 2, 3, 4}}})  --> {{{1.5, 3.5}}}",
})

adaptive("AdaptiveAvgPool3d", 3, function(x, sizes)
  local y = nb.adaptive_avg_pool2d(x, { sizes[2], sizes[3] })
  return over_depth(y, function(v) return nb.adaptive_avg_pool2d(v, { sizes[1], v:size(-1) }) end)
end, {
  doc = "Means over windows chosen so that the last three dimensions get the given sizes.",
  see = { "nn.AdaptiveAvgPool2d" },
  example = "nn.AdaptiveAvgPool3d(2)(nb.ones(1, 3, 4, 5, 6)).shape  --> {1, 3, 2, 2, 2}",
})

-- Maxima of `count` windows of a dimension of size n, and the elements of `places` that stand where they do: window i
-- takes the elements from ⌊(i−1)·n/count⌋ + 1 to ⌈i·n/count⌉, the last one again where it is shorter than others.
local function adaptive_max(x, places, dim, count)
  local n = x:size(dim)
  if n == 0 then native.raise("there are no elements to take the largest of") end
  local first = nb.floordiv((nb.arange(count, { dtype = "i64" }) - 1) * n, count) + 1
  local last = nb.floordiv(nb.arange(count, { dtype = "i64" }) * n + (count - 1), count)
  local width = math.min(n, -(-n // count) + 1)
  local index = nb.minimum(first:unsqueeze(2) + (nb.arange(width, { dtype = "i64" }) - 1), last:unsqueeze(2)):view(-1)
  local shape = x.shape
  table.remove(shape, dim)
  table.insert(shape, dim, count)
  table.insert(shape, dim + 1, width)
  local largest, which = x:index_select(dim, index):view(shape):max(dim + 1)
  if not places then return largest end
  places = places:index_select(dim, index):view(shape):gather(dim + 1, which:unsqueeze(dim + 1)):squeeze(dim + 1)
  return largest, places
end

-- The number of each element within its channel, counted row by row from 1.
local function places_of(x, dims)
  local shape, inner = x.shape, {}
  table.move(shape, #shape - dims + 1, #shape, 1, inner)
  local count = 1
  for _, n in ipairs(inner) do count = count * n end
  return nb.arange(count, { dtype = "i64" }):view(inner):expand(shape)
end

for dims = 1, 3 do
  adaptive(("AdaptiveMaxPool%dd"):format(dims), dims, function(x, sizes, self)
    local rank, places = x:dim(), self.return_indices and places_of(x, dims) or nil
    -- The last dimension goes first: of equal elements the first one row by row is taken, as the other pools do.
    for d = dims, 1, -1 do x, places = adaptive_max(x, places, rank - dims + d, sizes[d]) end
    if not places then return x end
    return x, places
  end, {
    params = { shared.pool_params.maxima[3] },
    doc = ("The largest elements of windows chosen so that the last %s the given size%s."):format(
      ({ "dimension gets", "two dimensions get", "three dimensions get" })[dims], dims > 1 and "s" or ""),
    see = { ("nn.AdaptiveAvgPool%dd"):format(dims) },
    example = ({ "nn.AdaptiveMaxPool1d(2)(nb.tensor{{{1, 2, 3, 4, 5}}})  --> {{{3, 5}}}",
      "nn.AdaptiveMaxPool2d(2)(nb.ones(1, 3, 5, 7)).shape  --> {1, 3, 2, 2}",
      "nn.AdaptiveMaxPool3d(1)(nb.ones(1, 3, 5, 7, 2)).shape  --> {1, 3, 1, 1, 1}" })[dims],
  })
end

-- ---- back ----

for dims = 1, 3 do
  local name = ("MaxUnpool%dd"):format(dims)
  define(name, {
    doc = "Puts each element at the place that it was pooled from, all else is 0: unpool(x, indices, " ..
      "{output_size=}).  indices count each channel's elements from 1, row by row.",
    params = window_params(), see = { ("nn.MaxPool%dd"):format(dims) },
    example = ({ "nn.MaxUnpool1d(2)(nb.tensor{{{7}}}, nb.tensor{{{2}}})  --> {{{0, 7}}}",
      "nn.MaxUnpool2d(2)(nb.tensor{{{{7}}}}, nb.tensor{{{{3}}}})  --> {{{{0, 0}, {7, 0}}}}",
      "nn.MaxUnpool3d(2)(nb.ones(1, 1, 1, 1, 1), nb.ones(1, 1, 1, 1, 1)):sum()  --> 1" })[dims],
    init = function(_, o) shared.check_lists("nn." .. name, o, dims, "kernel_size", "stride", "padding") end,
    forward = function(self, x, indices, given)
      check(self, x, dims)
      if not nb.is_tensor(indices) or options.shape(indices) ~= options.shape(x) then
        native.raise(("%s: indices must have the input's shape %s, got %s"):format(name, options.shape(x),
          options.describe(indices)))
      end
      local o = options.check(name, { { name = "output_size", type = "sizes", optional = true } }, given)
      local kernel, shape, numel = shared.each_of(self.kernel_size, dims), x.shape, 1
      local stride = shared.each_of(self.stride or kernel, dims)
      local padding, rank = shared.each_of(self.padding, dims), x:dim()
      local wanted = o.output_size and shared.each_of(o.output_size, dims)
      for d = 1, dims do
        local at = rank - dims + d
        local size = (shape[at] - 1) * stride[d] - 2 * padding[d] + kernel[d]
        shape[at] = wanted and wanted[#wanted - dims + d] or size
        if wanted and math.abs(shape[at] - size) >= stride[d] then
          native.raise(("%s: output_size %s is too far from %d in dimension %d"):format(name, options.shape(wanted),
            size, at))
        end
        numel = numel * shape[at]
      end
      local places = shared.within(name, indices, { kind = "labels", most = numel }):flatten(rank - dims + 1, rank)
      local flat = x.shape
      for _ = 1, dims - 1 do flat[#flat] = nil end
      flat[#flat] = numel
      return nb.zeros(flat, { dtype = x.dtype }):scatter(-1, places, x:flatten(rank - dims + 1, rank)):view(shape)
    end,
  })
end

return M
