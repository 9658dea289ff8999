-- SPDX-License-Identifier: MIT
-- Sums that leave NaN out, counts, differences, areas, covariances, histograms.
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local dims = { name = "dim", type = "whole numbers", optional = true, positional = true,
  doc = "one or several; all without" }

local function is_float(x)
  return x.dtype == "f32" or x.dtype == "f64"
end

define.operator("nansum", {
  family = "Reductions", sample = "f(2,3); f(2,3), 2, {keepdim=true}", doc = "The sum of what is not NaN.",
  params = { define.x(), dims, define.keepdim }, derivative = "1, and 0 at NaN", see = { "nb.sum", "nb.nanmean" },
  example = "nb.nansum(nb.tensor{1, 0/0, 3})  --> 4",
  function(o)
    local x = is_float(o.x) and nb.where(o.x:isnan(), 0, o.x) or o.x
    return x:sum(o.dim, { keepdim = o.keepdim })
  end,
})

define.operator("nanmean", {
  family = "Reductions", sample = "f(2,3); f(2,3), 2, {keepdim=true}", doc = "The mean of what is not NaN.",
  params = { define.x(), dims, define.keepdim }, derivative = "1/n, and 0 at NaN", see = { "nb.mean", "nb.nansum" },
  example = "nb.nanmean(nb.tensor{1, 0/0, 3})  --> 2",
  function(o)
    local x = is_float(o.x) and o.x or o.x:to("f32")
    local nan, dim, keep = x:isnan(), o.dim, { keepdim = o.keepdim }
    return nb.where(nan, 0, x):sum(dim, keep) / nan:logical_not():sum(dim, keep)
  end,
})

define.operator("count_nonzero", {
  family = "Reductions", sample = "f(2,3); f(2,3), 2", doc = "How many elements are not 0, over all or dimensions.",
  params = { define.x(), dims }, no_grad = "counts are whole numbers",
  example = "nb.count_nonzero(nb.tensor{1, 0, 3})  --> 2",
  function(o) return o.x:ne(0):sum(o.dim) end,
})

define.operator("aminmax", {
  family = "Reductions", sample = "f(2,3); f(2,3), {dim=2}; f(2,3), {dim=2, keepdim=true}",
  doc = "The smallest and the largest element, over all or along dim; equal ones share the gradient.",
  params = { define.x(), { name = "dim", type = "integer", optional = true }, define.keepdim },
  derivative = "1 at the smallest, 1 at the largest", see = { "nb.amin", "nb.amax" },
  example = "{nb.aminmax(nb.tensor{3, 1, 2})}  --> {1, 3}",
  function(o)
    local dim = o.dim
    if dim and o.x:dim() == 0 then define.dimension("aminmax", o.x, dim) dim = nil end
    return o.x:amin(dim, { keepdim = o.keepdim }), o.x:amax(dim, { keepdim = o.keepdim })
  end,
})

for _, name in ipairs { "var", "std" } do
  define.operator(name .. "_mean", {
    family = "Reductions", sample = "f(2,3); f(2,3), 2, {keepdim=true}; f(2,3), {1, 2}, {correction=0}",
    doc = ("What %s and mean give, over all elements or dimensions."):format(name),
    params = { define.x(), dims, define.keepdim, { name = "correction", type = "number", default = 1 } },
    derivative = ("as %s's and mean's"):format(name), see = { "nb." .. name, "nb.mean" },
    example = ("{nb.%s_mean(nb.tensor{1, 2, 3})}  --> {1, 2}"):format(name),
    function(o)
      local dim = o.dim
      return o.x[name](o.x, dim, { keepdim = o.keepdim, correction = o.correction }),
        o.x:mean(dim, { keepdim = o.keepdim })
    end,
  })
end

-- ---- along a dimension ----

define.operator("diff", {
  family = "Running totals", sample = "f(2,5); f(2,5), 2, 1; f(4), 2; f(2,3), {append=f(2,1)}",
  doc = "Differences of neighbours along dim (the last), n times; of masks where they differ.  prepend and append " ..
    "are joined to x before.",
  params = { define.x(), { name = "n", type = "count", default = 1, positional = true }, define.dim(-1),
    { name = "prepend", type = "tensor", optional = true }, { name = "append", type = "tensor", optional = true } },
  derivative = "−δ's differences", see = { "nb.cumsum" }, example = "nb.diff(nb.tensor{1, 4, 9})  --> {3, 5}",
  function(o)
    if o.x:dim() == 0 then define.fail("diff", "a scalar has no neighbours") end
    if o.n == 0 then return o.x end
    local x, d = o.x, define.dimension("diff", o.x, o.dim)
    local parts = {}
    for _, part in ipairs { o.prepend or false, x, o.append or false } do
      if part and part:dim() == 0 then
        local shape = x.shape
        shape[d] = 1
        part = part:expand(shape)
      end
      if part then parts[#parts + 1] = part end
    end
    if #parts > 1 then x = nb.cat(parts, d) end
    for _ = 1, o.n do
      local left = x:size(d) - 1
      if left < 0 then break end
      local high, low = x:narrow(d, 2, left), x:narrow(d, 1, left)
      x = x.dtype == "bool" and high:logical_xor(low) or high - low
    end
    return x
  end,
})

-- The areas between neighbours.
local function areas(name, o)
  local y = o.y
  if y:dim() == 0 then define.fail(name, "a scalar has no neighbours") end
  local d, n = define.dimension(name, y, o.dim)
  if not is_float(y) then y = y:to("f32") end
  if n < 2 then return y:narrow(d, 1, 0), d end
  local sums = y:narrow(d, 2, n - 1) + y:narrow(d, 1, n - 1)
  if type(o.x) == "number" then return sums * (o.x / 2), d end
  local x = is_float(o.x) and o.x or o.x:to(y.dtype)
  if x:dim() == 1 and y:dim() > 1 then
    local shape = {}
    for e = 1, y:dim() do shape[e] = e == d and x:size(1) or 1 end
    x = x:reshape(shape)
  end
  local at = d - y:dim() - 1  -- broadcast from the right
  if x:dim() < -at or x:size(at) ~= n then
    define.fail(name, "x must have %d points along the dimension, got shape %s", n, options.shape(o.x))
  end
  return sums * (x:narrow(at, 2, n - 1) - x:narrow(at, 1, n - 1)) / 2, d
end

local points = { define.tensor("y"),
  { name = "x", type = "tensor or number", default = 1, positional = true,
    doc = "where y was taken, or the step between" },
  define.dim(-1) }

define.operator("trapezoid", {
  family = "Reductions", sample = "f(2,5); f(2,5), 0.5, 1; f(2,5), f(5)",
  doc = "The area under y along dim (the last) by the trapezoid rule.", params = points,
  derivative = "∂/∂y = half the steps beside it, ∂/∂x = half the differences of y", see = { "nb.cumulative_trapezoid" },
  example = "nb.trapezoid(nb.tensor{1, 2, 3})  --> 4",
  function(o)
    local parts, d = areas("trapezoid", o)
    return parts:sum(d)
  end,
})

define.operator("cumulative_trapezoid", {
  family = "Running totals", sample = "f(2,5); f(2,5), 0.5, 1; f(2,5), f(5)",
  doc = "The areas under y up to each point after the first along dim (the last), by the trapezoid rule.",
  params = points, derivative = "∂/∂y = half the steps beside it, ∂/∂x = half the differences of y",
  see = { "nb.trapezoid" }, example = "nb.cumulative_trapezoid(nb.tensor{1, 2, 3})  --> {1.5, 4}",
  function(o)
    local parts, d = areas("cumulative_trapezoid", o)
    return parts:cumsum(d)
  end,
})

-- ---- covariances ----

define.operator("cov", {
  family = "Reductions", sample = "f(3,5); f(5); f(2,4), {correction=0}",
  doc = "The covariances of the rows of x, each a variable; of a vector or a single row its variance.",
  params = { define.x(), { name = "correction", type = "integer", default = 1 },
    { name = "fweights", type = "tensor", optional = true, doc = "how often each column counts, whole numbers" },
    { name = "aweights", type = "tensor", optional = true, doc = "how much each column counts" } },
  derivative = "∂/∂x = (δ + δᵀ)·(x − mean)/(n − correction)", see = { "nb.corrcoef", "nb.var" },
  example = "nb.cov(nb.tensor{{1, 2, 3}, {6, 4, 2}})  --> {{1, -2}, {-2, 4}}",
  function(o)
    local x = is_float(o.x) and o.x or o.x:to("f32")
    if x:dim() > 2 then define.fail("cov", "x must be a matrix or a vector, got shape %s", options.shape(x)) end
    if x:dim() < 2 then x = x:reshape(1, x:numel()) end
    local n, w = x:size(2)
    for _, name in ipairs { "fweights", "aweights" } do
      local given = o[name]
      if given and (given:dim() > 1 or given:numel() ~= n) then
        define.fail("cov", "%s must be a vector of %d, one for each column, got shape %s", name, n,
          options.shape(given))
      end
      local least = given and given:numel() > 0 and given:detach():amin():item() or 0
      if least < 0 or least ~= least then
        define.fail("cov", "%s must be at least 0 everywhere", name)
      end
      if given and name == "fweights" and is_float(given) and not given:detach():floor():eq(given):all():item() then
        define.fail("cov", "fweights counts columns, in whole numbers; aweights takes any weights")
      end
      if given then w = (w or 1) * (is_float(given) and given or given:to(x.dtype)):reshape(n) end
    end
    local total = w and w:sum() or n
    local once = o.aweights and o.correction ~= 0 and (w * o.aweights:reshape(n)):sum() / total or 1
    local count = total - once * o.correction
    local mean = w and (x * w):sum(2, { keepdim = true }) / total or x:mean(2, { keepdim = true })
    local off = x - mean
    local scale = nb.is_tensor(count) and count:clamp(0) or nb.tensor(math.max(count, 0), { dtype = x.dtype })
    local result = (w and off * w or off):matmul(off:transpose(1, 2)) / scale
    return result:numel() == 1 and result:reshape {} or result
  end,
})

define.operator("corrcoef", {
  family = "Reductions", sample = "f(3,5)",
  doc = "Pearson's correlations of the rows of x, each a variable.", params = { define.x() },
  derivative = "as cov's over the deviations", see = { "nb.cov" },
  example = "nb.corrcoef(nb.tensor{{1, 2, 3}, {6, 4, 2}})  --> {{1, -1}, {-1, 1}}",
  function(o)
    local c = nb.cov(o.x)
    if c:dim() == 0 then return c / c end
    local deviation = c:diag():sqrt()
    return (c / deviation:unsqueeze(2) / deviation):clamp(-1, 1)
  end,
})

-- ---- counts ----

define.operator("bincount", {
  family = "Reductions", sample = "i(3, 9); i(3, 9), {weights=f(9)}; i(3, 9), {minlength=7}",
  doc = "How often each whole number from 1 on occurs in a vector, or the sum of its weights: classes count from 1 " ..
    "here, so that element 1 of the result belongs to 1 (to 0 in PyTorch).",
  params = { define.x("whole numbers of at least 1"), { name = "weights", type = "tensor", optional = true },
    { name = "minlength", type = "count", default = 0 } },
  derivative = "∂/∂weights = δ at the weight's number", see = { "nb.unique", "nb.histc" },
  example = "nb.bincount(nb.tensor({1, 3, 3}, {dtype=\"i64\"}))  --> {1, 0, 2}",
  function(o)
    local x = o.x
    if x:dim() ~= 1 or is_float(x) then
      define.fail("bincount", "x must be a vector of whole numbers, got %s of %s", options.describe(x), x.dtype)
    end
    if o.weights and (o.weights:dim() ~= 1 or o.weights:numel() ~= x:numel()) then
      define.fail("bincount", "weights must be a vector of %d, got shape %s", x:numel(), options.shape(o.weights))
    end
    local n = x:numel() > 0 and x:amax():item() or 0
    if n == true then n = 1 end
    if x:numel() > 0 and x:to("i64"):amin():item() < 1 then
      define.fail("bincount", "x must be at least 1 everywhere: numbers count from 1 here")
    end
    if n > 2 ^ 40 then define.fail("bincount", "the largest number, %d, is too large", n) end
    local weights = o.weights or nb.ones(x:numel(), { dtype = "i64" })
    if o.weights and weights.dtype ~= "f32" then weights = weights:to("f64") end
    local zeros = nb.zeros(math.max(n, o.minlength), { dtype = weights.dtype })
    if x:numel() == 0 then return zeros end
    return zeros:scatter_add(1, x, weights)
  end,
})

-- The edges of `bins` from low to high, or of the elements' range where both are 0.
local function edges_of(name, x, bins, low, high)
  if low == 0 and high == 0 then
    low, high = 0, 1  -- of no elements, as in NumPy
    if x:numel() > 0 then low, high = x:amin():item(), x:amax():item() end
  end
  if low ~= low or high ~= high or low > high or low == -math.huge or high == math.huge then
    define.fail(name, "the range must go from one finite number up to another, got %g to %g", low, high)
  end
  if low == high then low, high = low - (name == "histc" and 1 or 0.5), high + (name == "histc" and 1 or 0.5) end
  return nb.linspace(low, high, bins + 1, { dtype = x.dtype })
end

-- How many elements, or how much weight, lies between each two edges; the last holds its upper edge.
local function counts(x, edges, weights)
  local n = edges:numel() - 1
  local low, high = edges:narrow(1, 1, 1), edges:narrow(1, n + 1, 1)
  local inside = x:ge(low):logical_and(x:le(high))
  local bin = edges:searchsorted(x, { right = true }) - 1
  bin = nb.where(inside, bin:clamp(1, n), 1)
  local one = inside:to(x.dtype)
  return nb.zeros(n, { dtype = x.dtype }):scatter_add(1, bin, weights and weights * one or one)
end

define.operator("histc", {
  family = "Reductions", sample = "f(20), 4; f(20), 3, -1, 1",
  doc = "How many elements lie in each of `bins` equal parts of min..max, or of the range of x where both are 0.",
  params = { define.x(), { name = "bins", type = "size", default = 100, positional = true },
    { name = "min", type = "number", default = 0, positional = true },
    { name = "max", type = "number", default = 0, positional = true } },
  no_grad = "counts are piecewise constant", see = { "nb.histogram", "nb.bincount" },
  example = "nb.histc(nb.tensor{1, 2, 1}, 4, 0, 3)  --> {0, 2, 1, 0}",
  function(o)
    local x = is_float(o.x) and o.x or o.x:to("f32")
    x = x:detach():reshape(x:numel())
    return counts(x, edges_of("histc", x, o.bins, o.min, o.max))
  end,
})

define.operator("histogram", {
  family = "Reductions", sample = "f(20), 4; f(20), nb.tensor{-1, 0, 1}; f(20), 3, {range={-1, 1}, density=true}",
  doc = "How many elements lie in each bin, or how much weight, and the edges of the bins.  With density the area " ..
    "under it is 1.",
  params = { define.x(), { name = "bins", type = "tensor or number", doc = "how many, or their ascending edges" },
    { name = "range", type = "numbers", optional = true, doc = "{from, to}, where bins is a number; that of x" },
    { name = "weight", type = "tensor", optional = true }, { name = "density", type = "boolean", default = false } },
  no_grad = "counts are piecewise constant", see = { "nb.histc" },
  example = "{nb.histogram(nb.tensor{1, 2, 1}, 2)}  --> {2, 1, 1, 1.5, 2}",
  function(o)
    local x = is_float(o.x) and o.x or o.x:to("f32")
    x = x:detach():reshape(x:numel())
    local edges = o.bins
    if type(edges) == "number" then
      if math.type(edges) ~= "integer" or edges < 1 then
        define.fail("histogram", "bins must be a whole number of at least 1 or a tensor of edges, got %s",
          tostring(edges))
      end
      local range = o.range or { 0, 0 }
      if #range ~= 2 then define.fail("histogram", "range must be a table of two numbers") end
      edges = edges_of("histogram", x, edges, range[1], range[2])
    end
    if edges:dim() ~= 1 or edges:numel() < 2 then
      define.fail("histogram", "the edges must be a vector of at least 2, got shape %s", options.shape(edges))
    end
    edges = edges:to(x.dtype)
    local weight = o.weight and o.weight:detach():to(x.dtype):reshape(o.weight:numel())
    if weight and weight:numel() ~= x:numel() then
      define.fail("histogram", "weight must have x's %d elements, got %d", x:numel(), weight:numel())
    end
    local n = counts(x, edges, weight)
    if o.density then n = n / n:sum() / edges:diff() end
    return n, edges
  end,
})

-- ---- membership, runs ----

define.operator("bucketize", {
  family = "Sorting", sample = "f(2,3), nb.tensor{-1, 0, 1}; f(2,3), nb.tensor{-1, 0, 1}, {right=true}",
  doc = "Which bucket each element falls into: 1 up to the first of the ascending boundaries, 2 up to the second " ..
    "...; with right=true a boundary belongs to the bucket behind it.  PyTorch counts from 0.",
  params = { define.x(), define.tensor("boundaries"), { name = "right", type = "boolean", default = false } },
  no_grad = "buckets are whole numbers", see = { "nb.searchsorted" },
  example = "nb.bucketize(nb.tensor{0, 1, 5}, nb.tensor{1, 3})  --> {1, 1, 3}",
  function(o)
    if o.boundaries:dim() ~= 1 then
      define.fail("bucketize", "boundaries must be a vector, got shape %s", options.shape(o.boundaries))
    end
    return o.boundaries:searchsorted(o.x, { right = o.right })
  end,
})

define.operator("isin", {
  family = "Comparison and logic", sample = "f(2,3), f(4); i(5, 6), i(5, 3), {invert=true}",
  doc = "Where an element of x is one of `values`, as a mask; with invert=true where it is none.",
  params = { define.x(), { name = "values", type = "value" },
    { name = "invert", type = "boolean", default = false } },
  no_grad = "a mask is not a number", see = { "nb.eq", "nb.unique" },
  example = "nb.isin(nb.tensor{1, 2, 3}, nb.tensor{3, 1})  --> {true, false, true}",
  function(o)
    local x, v = o.x:detach(), o.values
    if type(v) == "number" then
      v = nb.tensor({ v }, { dtype = is_float(x) and x.dtype or math.type(v) == "integer" and "i64" or "f64" })
    end
    v = define.value("isin", "values", x, v):detach()
    v = v:reshape(v:numel())
    if v:numel() == 0 then return nb.full(x.shape, o.invert, { dtype = "bool" }) end
    local sorted = v:sort()
    local place = sorted:searchsorted(x):clamp(1, v:numel())
    local mask = sorted:index_select(1, place:reshape(place:numel())):reshape(x.shape):eq(x)
    return o.invert and mask:logical_not() or mask
  end,
})

define.operator("unique_consecutive", {
  family = "Sorting", sample = "i(3, 9); i(2, 6, 2), {dim=1}",
  doc = "x without the repetitions of the element (with dim: of the slice) just before; then for each which of the " ..
    "result's it is, and how often each was there.",
  params = { define.x(), { name = "dim", type = "integer", optional = true, doc = "all elements in a row without" } },
  no_grad = "which values are equal jumps", see = { "nb.unique" },
  example = "nb.unique_consecutive(nb.tensor{2, 2, 1, 2})  --> {2, 1, 2}",
  function(o)
    local x = o.x:detach()
    local shape = o.dim == nil and x.shape
    if shape then x = x:reshape(x:numel()) end
    local d, n = define.dimension("unique_consecutive", x, o.dim or 1)
    if x:dim() == 0 then x = x:reshape(1) end
    local starts = nb.ones(math.min(n, 1), { dtype = "bool" })
    if n > 1 then
      local new = x:narrow(d, 2, n - 1):ne(x:narrow(d, 1, n - 1))
      for e = x:dim(), 1, -1 do if e ~= d then new = new:any(e) end end
      starts = nb.cat { starts, new }
    end
    local at = starts:nonzero():reshape(-1)
    local inverse = starts:cumsum(1):to("i64")
    local counts_of = nb.cat({ at, nb.tensor({ n + 1 }, { dtype = "i64" }) }):diff()
    return x:index_select(d, at), shape and inverse:reshape(shape) or inverse, counts_of
  end,
})
