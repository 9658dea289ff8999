-- SPDX-License-Identifier: MIT
-- Reading and writing at places: several index tensors at once, rows, windows, and reductions into places.
local nb = require "nablua.core"
local native = require "nablua.native"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local BY_ROWS, BY_ELEMENTS, MASKS = "Lookup by rows", "Lookup by elements", "Masks"

local indexing = {}

-- ---- t[{i, j}] with several index tensors ----

local function is_simple(entry)
  return not nb.is_tensor(entry)
end

-- The key's tensors, masks as the places where they are true, and the dimensions of the part of x which all other
-- entries make that they stand for; the part itself.
local function taken_apart(x, key)
  local simple, tensors, dims, d = {}, {}, {}, 0
  for _, entry in ipairs(key) do
    if is_simple(entry) then
      simple[#simple + 1] = entry
      if type(entry) ~= "number" then d = d + 1 end
    elseif entry.dtype == "bool" then
      local places = entry:nonzero()
      for e = 1, entry:dim() do
        simple[#simple + 1], d = nb.ALL, d + 1
        tensors[#tensors + 1], dims[#dims + 1] = places:select(2, e), d
        if d <= x:dim() and #simple <= x:dim() and entry:size(e) ~= x:size(#simple) then
          define.fail("index", "the mask has shape %s, which does not fit a tensor of shape %s", options.shape(entry),
            options.shape(x))
        end
      end
    else
      simple[#simple + 1], d = nb.ALL, d + 1
      tensors[#tensors + 1], dims[#dims + 1] = entry, d
    end
  end
  return x[simple], tensors, dims
end

-- 0-based places in dimension d, checked, of the shape that all indices broadcast to.
local function places_in(x, d, index, shape)
  local range = { nb.arange(1, x:size(d), { dtype = "i64" }) }
  local leading = {}
  for e = 1, d do leading[e] = e == d and x:size(d) or 1 end
  return range[1]:reshape(leading):index_select(d, index):reshape(index.shape):expand(shape) - 1
end

local function in_order(dims)
  for i = 2, #dims do if dims[i] ~= dims[i - 1] + 1 then return false end end
  return true
end

-- Dimensions of the indices stand where theirs stood, or, where others lie between, first.
function indexing.get(x, key)
  local part, tensors, dims = taken_apart(x, key)
  define.shapes = define.shapes or require "nablua.functions.shapes"
  local shape = define.common("index", tensors)
  local first = in_order(dims) and dims[1] or 1
  local order, used, sizes = {}, {}, {}
  for _, d in ipairs(dims) do used[d] = true end
  for d = 1, part:dim() do if not used[d] then order[#order + 1] = d end end
  for i, d in ipairs(dims) do table.insert(order, first + i - 1, d) end
  local place
  for i, d in ipairs(dims) do
    local p = places_in(part, d, tensors[i], shape)
    place = place and place * part:size(d) + p or p
  end
  local moved = part:permute(order)
  local product = 1
  for d, n in ipairs(moved.shape) do
    if d >= first and d < first + #dims then product = product * n end
    if d < first or d >= first + #dims then sizes[#sizes + 1] = n end
    if d == first + #dims - 1 then sizes[#sizes + 1] = product end
  end
  return moved:reshape(sizes):index_select(first, place + 1)
end

-- The places of x's elements that the key names, in row-major order from 1, as get gives elements.
local function flat_places(x, key)
  return indexing.get(nb.arange(1, x:numel(), { dtype = "i64" }):reshape(x.shape), key)
end

-- x with value, a tensor, or with it added, at these places of its elements; in place where `into` says so.
local function put(x, places, value, accumulate, into)
  value = value:expand(places.shape):reshape(places:numel())
  places = places:reshape(places:numel())
  local name = accumulate and "scatter_add" or "scatter"
  if not into then return x:reshape(x:numel())[name](x:reshape(x:numel()), 1, places, value):reshape(x.shape) end
  if x:is_contiguous() then
    local flat = x:view(x:numel())
    flat[name .. "_"](flat, 1, places, value)
  else
    x:copy_(put(x, places, value, accumulate))
  end
  return x
end

function indexing.set(x, key, value)
  local places = flat_places(x, key)
  value = define.value("index", "the value", x, value)
  local ok, fits = pcall(value.expand, value, places.shape)
  if not ok then
    define.fail("index", "the value, %s, does not broadcast into the part, which has shape %s", options.describe(value),
      options.shape(places))
  end
  put(x, places, fits, false, true)
end

local function key_of(name, indices)
  if nb.is_tensor(indices) then indices = { indices } end
  local any = false
  for _, entry in ipairs(type(indices) == "table" and indices or {}) do any = any or nb.is_tensor(entry) end
  if not any then define.fail(name, "indices must be a table with index tensors, got %s", options.describe(indices)) end
  return indices
end

-- Defines an operator and its form that writes into its first argument.
local function with_in_place(name, entry)
  local body = entry[1]
  entry[1] = function(o) return body(o, false) end
  define.operator(name, entry)
  native.methods[name .. "_"] = function(...)
    local o = options.read(name .. "_", entry.params, ...)
    return body(o, true)
  end
  define.in_place(name, native.methods[name .. "_"], entry)
end

with_in_place("index_put", {
  family = BY_ELEMENTS,
  sample = "f(3,4), {i(3,5), i(4,5)}, f(5), {accumulate=true}; f(3,4), {nb.tensor{1, 2}, nb.tensor{3, 4}}, f(2); " ..
    "f(3,4), nb.tensor{3, 1}, f(2,4)",
  doc = "x with values at the places that one index tensor for each dimension (or a mask) names, as in x[{i, j}] = " ..
    "values; accumulate=true adds them up where places are named twice, else the last counts.",
  params = { define.x(), { name = "indices", type = "any", doc = "a table of index tensors, numbers, slices, nb.ALL" },
    { name = "values", type = "value" },
    { name = "accumulate", type = "boolean", default = false, positional = true } },
  derivative = "∂/∂x = 1 elsewhere, ∂/∂values = δ at the places", see = { "nb.scatter", "nb.index_copy" },
  example = "nb.index_put(nb.zeros(2, 2), {nb.tensor{1, 2}, nb.tensor{2, 1}}, 7)  --> {{0, 7}, {7, 0}}",
  function(o, into)
    local values = define.value("index_put", "values", o.x, o.values)
    return put(o.x, flat_places(o.x, key_of("index_put", o.indices)), values, o.accumulate, into)
  end,
})

-- ---- elements by their place in all ----

with_in_place("put", {
  family = BY_ELEMENTS, sample = "f(3,4), i(12,3), f(3), {accumulate=true}; f(5), nb.tensor{2, 4}, f(2)",
  doc = "x with values at places in the row-major order of all its elements; accumulate=true adds them up.",
  params = { define.x(), define.tensor("index"), { name = "values", type = "value" },
    { name = "accumulate", type = "boolean", default = false, positional = true } },
  derivative = "∂/∂x = 1 elsewhere, ∂/∂values = δ at the places", see = { "nb.take", "nb.index_put" },
  example = "nb.put(nb.zeros(2, 2), nb.tensor{1, -1}, nb.tensor{5, 6})  --> {{5, 0}, {0, 6}}",
  function(o, into)
    local values = define.value("put", "values", o.x, o.values)
    if values:dim() > 0 then values = values:reshape(values:numel()) end
    return put(o.x, o.index:reshape(o.index:numel()), values, o.accumulate, into)
  end,
})

define.operator("take", {
  family = BY_ELEMENTS, sample = "f(3,4), i(12,2,3)",
  doc = "The elements at places in the row-major order of all, in the shape of the index.",
  params = { define.x(), define.tensor("index") }, derivative = "∂/∂x = 1 at the places, added up",
  see = { "nb.put", "nb.gather" }, example = "nb.take(nb.tensor{{1, 2}, {3, 4}}, nb.tensor{2, -1})  --> {2, 4}",
  function(o)
    return o.x:reshape(o.x:numel()):index_select(1, o.index)
  end,
})

define.operator("take_along_dim", {
  family = BY_ELEMENTS, sample = "f(3,4), i(4,3,2), 2; f(3,4), i(12,5); f(3,4), i(3,1,1), 1",
  doc = "What gather gives, with x and the index broadcast to each other; without dim places in all elements.",
  params = { define.x(), define.tensor("index"),
    { name = "dim", type = "integer", optional = true, positional = true } },
  derivative = "∂/∂x = 1 at the places, added up", see = { "nb.gather", "nb.take" },
  example = "nb.take_along_dim(nb.tensor{{3, 1}, {2, 4}}, nb.argsort(nb.tensor{{3, 1}, {2, 4}}), 2)  " ..
    "--> {{1, 3}, {2, 4}}",
  function(o)
    local x, index = o.x, o.index
    if o.dim == nil then return nb.take(x, index:reshape(index:numel())) end
    local d = define.dimension("take_along_dim", x, o.dim)
    if index:dim() ~= x:dim() then
      define.fail("take_along_dim", "x and the index must have as many dimensions, got shapes %s and %s",
        options.shape(x), options.shape(index))
    end
    if x:dim() == 0 then return x:reshape(1):gather(1, index:reshape(1)):reshape {} end
    local xs, is = x.shape, index.shape
    for e = 1, #xs do
      if e ~= d and xs[e] ~= is[e] then
        if xs[e] == 1 then xs[e] = is[e] elseif is[e] == 1 then is[e] = xs[e] end
      end
    end
    return x:expand(xs):gather(d, index:expand(is))
  end,
})

-- ---- rows ----

-- The index spread over the rows of dimension d: of src's shape.
local function row_index(name, x, d, index, shape)
  if index:dim() > 1 then
    define.fail(name, "the index must be a vector, got shape %s", options.shape(index))
  end
  local view = {}
  for e = 1, x:dim() do view[e] = e == d and index:numel() or 1 end
  return index:reshape(view):expand(shape)
end

local function with_rows(name, x, dim, index)
  local d = define.dimension(name, x, dim)
  local shape = x.shape
  if #shape == 0 then shape, x = { 1 }, x:reshape(1) end
  shape[d] = index:numel()
  return x, d, row_index(name, x, d, index, shape), shape
end

-- A row method of C with an index as above; of scalars too.
local function scattered(name, o, src, into)
  local x, d, index, shape = with_rows(name, o.x, o.dim, o.index)
  if nb.is_tensor(src) and src:dim() > 0 then
    if options.shape(src) ~= options.shape(shape) then
      define.fail(name, "src must have shape %s, got %s", options.shape(shape), options.shape(src))
    end
  end
  if into and o.x:dim() > 0 then return o.x:scatter_(d, index, src) end
  local result = x:scatter(d, index, src):reshape(o.x.shape)
  return into and o.x:copy_(result) or result
end

with_in_place("index_copy", {
  family = BY_ROWS, sample = "f(3,4), 1, nb.tensor{3, 1}, f(2,4); f(3,4), 2, nb.tensor{2}, f(3,1)",
  doc = "x with the parts of src written to the places an index names in dimension dim; the last counts.",
  params = { define.x(), { name = "dim", type = "integer" }, define.tensor("index"), define.tensor("src") },
  derivative = "∂/∂x = 1 elsewhere, ∂/∂src = δ at the places", see = { "nb.index_add", "nb.index_select" },
  example = "nb.index_copy(nb.zeros(3), 1, nb.tensor{3, 1}, nb.tensor{5, 6})  --> {6, 0, 5}",
  function(o, into)
    local src = o.src
    if src:dim() == 0 and o.x:dim() > 0 then src = src:reshape(1) end
    return scattered("index_copy", o, o.x:dim() == 0 and src:reshape(1) or src, into)
  end,
})

with_in_place("index_fill", {
  family = BY_ROWS, sample = "f(3,4), 1, nb.tensor{3, 1}, 2; f(3,4), 2, nb.tensor{2}, f()",
  doc = "x with one value at the places an index names in dimension dim.",
  params = { define.x(), { name = "dim", type = "integer" }, define.tensor("index"),
    { name = "value", type = "value", doc = "or a tensor of one element" } },
  derivative = "∂/∂x = 1 elsewhere, ∂/∂value = the sum of δ there", see = { "nb.masked_fill", "nb.index_copy" },
  example = "nb.index_fill(nb.zeros(3), 1, nb.tensor{3, 1}, 5)  --> {5, 0, 5}",
  function(o, into)
    local value = define.value("index_fill", "value", o.x, o.value)
    if value:numel() ~= 1 then
      define.fail("index_fill", "value must be one number, got shape %s", options.shape(value))
    end
    local _, _, _, shape = with_rows("index_fill", o.x, o.dim, o.index)
    -- each place has its share of the gradient, the last of several all
    return scattered("index_fill", o, value:reshape {}:expand(shape), into)
  end,
})

-- ---- masks ----

with_in_place("masked_scatter", {
  family = MASKS, sample = "f(2,3), m(2,3), f(6); f(2,3), m(3), f(7)",
  doc = "x with the elements of source, one after the other, where the mask is true.",
  params = { define.x(), define.tensor("mask"), define.tensor("source") },
  derivative = "∂/∂x = 1 outside the mask, ∂/∂source = δ at its places",
  see = { "nb.masked_fill", "nb.masked_select" },
  example = "nb.masked_scatter(nb.zeros(3), nb.tensor{true, false, true}, nb.tensor{5, 6})  --> {5, 0, 6}",
  function(o, into)
    define.shapes = define.shapes or require "nablua.functions.shapes"
    local shape = define.common("masked_scatter", { o.x, o.mask })
    local x, mask = o.x:expand(shape), o.mask:to("bool"):expand(shape)
    local n, source = mask:sum():item(), o.source:reshape(o.source:numel())
    if n > source:numel() then
      define.fail("masked_scatter", "the mask is true at %d places, and source has %d elements", n, source:numel())
    end
    local result = x
    if source:numel() > 0 and mask:numel() > 0 then
      local place = mask:reshape(mask:numel()):cumsum(1):clamp(1, source:numel())
      result = nb.where(mask, source:index_select(1, place):reshape(shape), x)
    end
    return into and o.x:copy_(result) or result
  end,
})

-- ---- windows ----

define.operator("windows", {
  family = BY_ROWS, sample = "f(7), 1, 3, 2; f(2,5,3), 2, 2, 1",
  doc = "All windows of `size` elements along dim, every `step` apart: dim counts them, and the last dimension has " ..
    "theirs.  PyTorch calls it Tensor.unfold; nb.unfold takes patches out of images.",
  params = { define.x(), { name = "dim", type = "integer" }, { name = "size", type = "count" },
    { name = "step", type = "size", default = 1, positional = true } },
  derivative = "1, summed over the windows", see = { "nb.unfold", "nb.narrow" },
  example = "nb.windows(nb.tensor{1, 2, 3, 4}, 1, 2, 2)  --> {{1, 2}, {3, 4}}",
  function(o)
    local x, d, n = o.x, define.dimension("windows", o.x, o.dim)
    if o.size > n then
      define.fail("windows", "a window of %d is larger than dimension %d of size %d", o.size, d, n)
    end
    if x:dim() == 0 then x = x:reshape(1) end
    local count = (n - o.size) // o.step + 1
    local starts = (nb.arange(1, count, { dtype = "i64" }) - 1) * o.step
    if o.size == 0 then
      local shape = x.shape
      shape[d], shape[#shape + 1] = count, 0
      return nb.zeros(shape, { dtype = x.dtype })
    end
    local out = x:index_select(d, starts:unsqueeze(2) + nb.arange(1, o.size, { dtype = "i64" }))
    out = nb.movedim(out, d + 1, -1)
    return o.x:dim() == 0 and out:reshape(o.size) or out
  end,
})

define.operator("as_strided", {
  family = BY_ELEMENTS, sample = "f(12), {3, 2}, {4, 1}; f(3,4), {2, 2}, {1, 1}, 3",
  doc = "The elements that steps of these strides reach in the row-major order of x, `offset` elements from its " ..
    "beginning; a copy, whose gradient is summed where it takes an element twice.  PyTorch's looks at the memory.",
  params = { define.x(), { name = "sizes", type = "whole numbers" }, { name = "strides", type = "whole numbers" },
    { name = "offset", type = "count", default = 0, positional = true } },
  derivative = "∂/∂x = 1 at the places, added up", see = { "nb.windows" },
  example = "nb.as_strided(nb.tensor{1, 2, 3}, {2, 2}, {1, 1})  --> {{1, 2}, {2, 3}}",
  function(o)
    local sizes, strides = o.sizes, o.strides
    if type(sizes) ~= "table" then sizes, strides = { sizes }, { strides } end
    if type(strides) ~= "table" or #sizes ~= #strides then
      define.fail("as_strided", "there must be a stride for each size")
    end
    local last, place, empty = o.offset, nb.tensor({ o.offset + 1 }, { dtype = "i64" }):reshape {}, false
    for d, n in ipairs(sizes) do
      if n < 0 or strides[d] < 0 then define.fail("as_strided", "sizes and strides must not be negative") end
      last, empty = last + (n - 1) * strides[d], empty or n == 0
    end
    if not empty and last >= o.x:numel() then
      define.fail("as_strided", "the last element would be number %d of %d", last + 1, o.x:numel())
    end
    if empty then return nb.zeros(sizes, { dtype = o.x.dtype }) end
    for d, n in ipairs(sizes) do
      local shape = {}
      for e = 1, #sizes do shape[e] = e == d and n or 1 end
      place = place + ((nb.arange(1, n, { dtype = "i64" }) - 1) * strides[d]):reshape(shape)
    end
    return o.x:reshape(o.x:numel()):index_select(1, place)
  end,
})

-- ---- parts replaced ----

local function replaced(name, o, part, src)
  local d = o.dim and define.dimension(name, o.x, o.dim)
  local places = part(nb.arange(1, o.x:numel(), { dtype = "i64" }):reshape(o.x.shape), d)
  if options.shape(places) ~= options.shape(src) then
    define.fail(name, "src must have shape %s, got %s", options.shape(places), options.shape(src))
  end
  return put(o.x, places, src, false)
end

define.operator("select_scatter", {
  family = BY_ROWS, sample = "f(3,4), f(4), 1, 2", doc = "x with src in place of what select(dim, index) takes.",
  params = { define.x(), define.tensor("src"), { name = "dim", type = "integer" },
    { name = "index", type = "integer" } },
  derivative = "∂/∂x = 1 elsewhere, ∂/∂src = δ there", see = { "nb.select" },
  example = "nb.select_scatter(nb.zeros(2, 2), nb.ones(2), 1, 2)  --> {{0, 0}, {1, 1}}",
  function(o)
    return replaced("select_scatter", o, function(t, d) return t:select(d, o.index) end, o.src)
  end,
})

define.operator("slice_scatter", {
  family = BY_ROWS, sample = "f(5,2), f(2,2), 1, 2, 4, 2",
  doc = "x with src in place of what slice(dim, first, last, step) takes.",
  params = { define.x(), define.tensor("src"), { name = "dim", type = "integer" }, { name = "first", type = "integer" },
    { name = "last", type = "integer" }, { name = "step", type = "size", default = 1, positional = true } },
  derivative = "∂/∂x = 1 elsewhere, ∂/∂src = δ there", see = { "nb.slice" },
  example = "nb.slice_scatter(nb.zeros(3), nb.ones(2), 1, 2, 3)  --> {0, 1, 1}",
  function(o)
    return replaced("slice_scatter", o, function(t, d) return t:slice(d, o.first, o.last, o.step) end, o.src)
  end,
})

define.operator("diagonal_scatter", {
  family = BY_ROWS, sample = "f(3,4), f(3); f(3,4), f(2), -1",
  doc = "x with src in place of what diagonal(offset, dim1, dim2) takes.",
  params = { define.x(), define.tensor("src"), { name = "offset", type = "integer", default = 0, positional = true },
    { name = "dim1", type = "integer", default = 1, positional = true },
    { name = "dim2", type = "integer", default = 2, positional = true } },
  derivative = "∂/∂x = 1 elsewhere, ∂/∂src = δ there", see = { "nb.diagonal" },
  example = "nb.diagonal_scatter(nb.zeros(2, 2), nb.tensor{5, 6})  --> {{5, 0}, {0, 6}}",
  function(o)
    return replaced("diagonal_scatter", o, function(t) return nb.diagonal(t, o.offset, o.dim1, o.dim2) end, o.src)
  end,
})

return indexing
