-- SPDX-License-Identifier: MIT
-- Tensors joined, cut, turned and spread, made of reshape, permute, cat and pad.
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local SHAPES, JOINS = "Shapes", "Joining, repeating, padding"

-- x with dimensions taken from their places to others, the rest in their order.
local function moved(name, x, from, to)
  if type(from) ~= "table" and type(to) ~= "table" then from, to = { from }, { to } end
  if type(from) ~= "table" or type(to) ~= "table" or #from ~= #to then
    define.fail(name, "from and to must name as many dimensions, got %s and %s", options.show(from), options.show(to))
  end
  local order, taken = {}, {}
  for i, d in ipairs(from) do
    local source, place = define.dimension(name, x, d), define.dimension(name, x, to[i])
    if taken[source] or order[place] then define.fail(name, "a dimension is named twice") end
    order[place], taken[source] = source, true
  end
  local rest = 1
  for place = 1, x:dim() do
    if not order[place] then
      while taken[rest] do rest = rest + 1 end
      order[place], rest = rest, rest + 1
    end
  end
  return x:dim() > 0 and x:permute(order) or x
end

for _, name in ipairs { "movedim", "moveaxis" } do
  define.operator(name, {
    family = SHAPES, sample = "f(2,3,4), 1, -1; f(2,3,4), {1, 2}, {3, 1}",
    doc = "x with dimensions moved from their places to others, one or several; the others keep their order.",
    params = { define.x(), { name = "from", type = "whole numbers" }, { name = "to", type = "whole numbers" } },
    derivative = "1", see = { "nb.permute" },
    example = ("nb.%s(nb.zeros(2, 3, 4), 1, 3).shape  --> {3, 4, 2}"):format(name),
    function(o) return moved(name, o.x, o.from, o.to) end,
  })
end

for _, name in ipairs { "swapaxes", "swapdims" } do
  define.operator(name, {
    family = SHAPES, sample = "f(2,3,4), 1, 3", doc = "x with two dimensions swapped; another name of transpose.",
    params = { define.x(), { name = "d", type = "integer" }, { name = "e", type = "integer" } }, derivative = "1",
    see = { "nb.transpose" }, example = ("nb.%s(nb.zeros(2, 3), 1, 2).shape  --> {3, 2}"):format(name),
    function(o) return o.x:transpose(o.d, o.e) end,
  })
end

define.operator("unflatten", {
  family = SHAPES, sample = "f(2,6), 2, {2, 3}; f(2,6), -1, {3, -1}",
  doc = "x with dimension dim split into several of these sizes, of which one may be -1.",
  params = { define.x(), { name = "dim", type = "integer" }, { name = "sizes", type = "whole numbers" } },
  derivative = "1", see = { "nb.flatten" }, example = "nb.unflatten(nb.zeros(2, 6), 2, {3, 2}).shape  --> {2, 3, 2}",
  function(o)
    local d, n = define.dimension("unflatten", o.x, o.dim)
    local sizes, product, open = type(o.sizes) == "table" and o.sizes or { o.sizes }, 1, nil
    for i, s in ipairs(sizes) do
      if s == -1 and not open then open = i else product = product * s end
    end
    sizes = table.move(sizes, 1, #sizes, 1, {})
    if open then sizes[open] = product > 0 and n // product or 0 end
    if product * (open and sizes[open] or 1) ~= n or product < 0 then
      define.fail("unflatten", "the sizes %s do not multiply to %d, the size of dimension %d", options.show(o.sizes), n,
        d)
    end
    local shape = table.move(o.x.shape, 1, d - 1, 1, {})
    table.move(sizes, 1, #sizes, #shape + 1, shape)
    return o.x:reshape(table.move(o.x.shape, d + 1, o.x:dim(), #shape + 1, shape))
  end,
})

define.operator("rot90", {
  family = SHAPES, sample = "f(2,3); f(2,3), 2; f(2,3,4), -1, {2, 3}",
  doc = "x turned k times by 90° from the first towards the second of two dimensions.",
  params = { define.x(), { name = "k", type = "integer", default = 1, positional = true },
    { name = "dims", type = "two whole numbers", default = { 1, 2 }, positional = true } },
  derivative = "1, turned back", see = { "nb.flip" },
  example = "nb.rot90(nb.tensor{{1, 2}, {3, 4}})  --> {{2, 4}, {1, 3}}",
  function(o)
    local x, d, e = o.x, define.dimension("rot90", o.x, o.dims[1]), define.dimension("rot90", o.x, o.dims[2])
    if x:dim() < 2 or d == e then define.fail("rot90", "dims must name two dimensions of x") end
    local k = o.k % 4
    if k == 0 then return x:clone() end
    if k == 2 then return x:flip { d, e } end
    return k == 1 and x:flip(e):transpose(d, e) or x:transpose(d, e):flip(e)
  end,
})

for n, name in ipairs { "atleast_1d", "atleast_2d", "atleast_3d" } do
  define.operator(name, {
    family = SHAPES, sample = "f(); f(3); f(2,3)", derivative = "1", see = { "nb.unsqueeze" },
    doc = ("x with at least %d dimension%s: what is missing has size 1%s."):format(n, n > 1 and "s" or "",
      n == 3 and ", for a vector on both sides, for a matrix behind" or ""),
    params = { define.x() }, example = ("nb.%s(nb.tensor(5)):dim()  --> %d"):format(name, n),
    function(o)
      local x = o.x
      if x:dim() == 0 then x = x:reshape(1) end
      if x:dim() == 1 and n > 1 then x = x:unsqueeze(1) end
      if x:dim() == 2 and n > 2 then x = x:unsqueeze(3) end
      return x
    end,
  })
end

-- ---- diagonals ----

define.operator("diagonal", {
  family = SHAPES, sample = "f(3,4); f(2,3,4), -1, 2, 3; f(3,2,4), 1, 1, 3",
  doc = "The diagonals of two dimensions, `offset` above (below where it is negative), as the last dimension; of " ..
    "batches of matrices with dim1 = -2, dim2 = -1.",
  params = { define.x(), { name = "offset", type = "integer", default = 0, positional = true },
    { name = "dim1", type = "integer", default = 1, positional = true },
    { name = "dim2", type = "integer", default = 2, positional = true } },
  derivative = "1 on the diagonal", see = { "nb.diag", "nb.diag_embed" },
  example = "nb.diagonal(nb.tensor{{{1, 2}, {3, 4}}}, 0, 2, 3)  --> {{1, 4}}",
  function(o)
    local x = o.x
    if x:dim() < 2 then
      define.fail("diagonal", "x must have two dimensions or more, got shape %s", options.shape(x))
    end
    local d, e = define.dimension("diagonal", x, o.dim1), define.dimension("diagonal", x, o.dim2)
    if d == e then define.fail("diagonal", "dim1 and dim2 must be two dimensions") end
    x = moved("diagonal", x, { d, e }, { -2, -1 })
    local n, m, k = x:size(-2), x:size(-1), o.offset
    if k < -n or k > m then
      define.fail("diagonal", "offset must be from %d to %d for %d×%d matrices, got %d", -n, m, n, m, k)
    end
    local length = k >= 0 and math.min(n, m - k) or math.min(n + k, m)
    local first = k >= 0 and k + 1 or -k * m + 1
    local shape = x.shape
    shape[#shape] = nil
    shape[#shape] = n * m
    x = x:reshape(shape)
    if length < 1 then return x:narrow(-1, 1, 0) end
    return x:slice(-1, first, first + (length - 1) * (m + 1), m + 1)
  end,
})

local function embedded(name, x, k, d, e)
  local shape, n = x.shape, x:size(-1)
  local m = n + math.abs(k)
  local first = k >= 0 and k or -k * m
  x = x:unsqueeze(-1):pad { 0, m }
  shape[#shape] = n * (m + 1)
  x = x:reshape(shape):pad { first, m * m - first - n * (m + 1) }
  shape[#shape], shape[#shape + 1] = m, m
  return moved(name, x:reshape(shape), { -2, -1 }, { d, e })
end

define.operator("diag_embed", {
  family = SHAPES, sample = "f(3); f(2,3), 1; f(2,3), -1, 1, 3",
  doc = "Matrices of zeros whose diagonals, `offset` above (below where it is negative), are the last dimension of x.",
  params = { define.x(), { name = "offset", type = "integer", default = 0, positional = true },
    { name = "dim1", type = "integer", default = -2, positional = true },
    { name = "dim2", type = "integer", default = -1, positional = true } },
  derivative = "1 on the diagonal", see = { "nb.diag", "nb.diagonal" },
  example = "nb.diag_embed(nb.tensor{1, 2})  --> {{1, 0}, {0, 2}}",
  function(o)
    if o.x:dim() == 0 then define.fail("diag_embed", "x must have a dimension, got a scalar") end
    return embedded("diag_embed", o.x, o.offset, o.dim1, o.dim2)
  end,
})

define.operator("diagflat", {
  family = SHAPES, sample = "f(3); f(2,2), 1", doc = "A matrix of zeros with all elements of x on its diagonal.",
  params = { define.x(), { name = "offset", type = "integer", default = 0, positional = true } },
  derivative = "1 on the diagonal", see = { "nb.diag", "nb.diag_embed" },
  example = "nb.diagflat(nb.tensor{{1}, {2}})  --> {{1, 0}, {0, 2}}",
  function(o) return embedded("diagflat", o.x:reshape(o.x:numel()), o.offset, -2, -1) end,
})

define.of_tensors("block_diag", {
  family = JOINS, sample = "f(2,3), f(1,2), f(3); {f(2,2), f()}",
  doc = "A matrix of zeros with matrices (vectors as rows, numbers) along its diagonal.", derivative = "1 in the block",
  example = "nb.block_diag(nb.tensor{{1, 2}}, nb.tensor{3})  --> {{1, 2, 0}, {0, 0, 3}}",
  function(list)
    local rows, columns, parts = 0, 0, {}
    for i, x in ipairs(list) do
      if x:dim() > 2 then
        define.fail("block_diag", "tensor %d has %d dimensions; a block is a matrix at most", i, x:dim())
      end
      list[i] = x:dim() == 2 and x or x:reshape(1, x:numel())
      columns = columns + list[i]:size(2)
    end
    for i, x in ipairs(list) do
      parts[i] = x:pad { rows, columns - rows - x:size(2) }
      rows = rows + x:size(2)
    end
    return nb.cat(parts, 1)
  end,
})

-- ---- joining ----

local function stacked(name, doc, dims, dim, example, prepare)
  define.of_tensors(name, { family = JOINS, doc = doc, example = example, derivative = "1", see = { "nb.cat" },
    sample = "f(2), f(2); {f(2,3), f(2,3)}", function(list)
      local parts = {}
      for i, x in ipairs(list) do parts[i] = prepare and prepare(x) or nb["atleast_" .. dims .. "d"](x) end
      return nb.cat(parts, (dim == 2 and parts[1]:dim() == 1) and 1 or dim)
    end })
end

stacked("hstack", "Tensors joined side by side: along the second dimension, vectors along the first.", 1, 2,
  "nb.hstack(nb.tensor{{1}, {2}}, nb.tensor{{3}, {4}})  --> {{1, 3}, {2, 4}}")
stacked("vstack", "Tensors joined one above the other: along the first dimension, vectors as rows.", 2, 1,
  "nb.vstack(nb.tensor{1, 2}, nb.tensor{3, 4})  --> {{1, 2}, {3, 4}}")
stacked("dstack", "Tensors joined one behind the other: along the third dimension, matrices and vectors get one.", 3, 3,
  "nb.dstack(nb.tensor{1, 2}, nb.tensor{3, 4})  --> {{{1, 3}, {2, 4}}}")
stacked("column_stack", "Tensors joined side by side along the second dimension, vectors as columns.", 2, 2,
  "nb.column_stack(nb.tensor{1, 2}, nb.tensor{3, 4})  --> {{1, 3}, {2, 4}}",
  function(x) return x:dim() < 2 and x:reshape(x:numel(), 1) or x end)

-- ---- cutting ----

-- At the places before which the parts end, counted as lengths from the start, as PyTorch's.
local function cut(name, x, where, dim)
  local d, n = define.dimension(name, x, dim)
  if x:dim() == 0 then define.fail(name, "a scalar has no parts") end
  local parts, ends = {}, {}
  if math.type(where) == "integer" then
    if where < 1 then define.fail(name, "there must be at least 1 part, got %d", where) end
    for i = 1, where do ends[i] = (ends[i - 1] or 0) + n // where + (i <= n % where and 1 or 0) end
  else
    for i, e in ipairs(where) do ends[i] = math.max(0, math.min(n, e < 0 and e + n or e)) end
    ends[#ends + 1] = n
  end
  local start = 0
  for i, e in ipairs(ends) do
    parts[i] = x:narrow(d, math.min(start, n) + 1, math.max(e - start, 0))
    start = e
  end
  return parts
end

local where = { name = "where", type = "whole numbers",
  doc = "how many parts, or how many elements come before each cut" }

define.operator("tensor_split", {
  family = JOINS, sample = "f(7), 3; f(2,5), {1, 3}, 2",
  doc = "x cut along dim into that many parts, the first ones larger by one where it does not come out even, or at " ..
    "places; as a table.",
  params = { define.x(), where, define.dim(1) }, derivative = "1", see = { "nb.split", "nb.chunk" },
  example = "nb.tensor_split(nb.tensor{1, 2, 3}, {1})[2]  --> {2, 3}",
  function(o) return cut("tensor_split", o.x, o.where, o.dim) end,
})

for i, name in ipairs { "vsplit", "hsplit", "dsplit" } do
  define.operator(name, {
    family = JOINS, sample = "f(4,4,4), 2; f(4,4,4), {1, 3}", derivative = "1", see = { "nb.tensor_split" },
    doc = ("x cut along its %s dimension%s into equal parts or at places; as a table."):format(
      ({ "first", "second", "third" })[i], i == 2 and " (of a vector the first)" or ""),
    params = { define.x(), where }, example = ("#nb.%s(nb.zeros(2, 2, 2), 2)  --> 2"):format(name),
    function(o)
      local d = i == 2 and o.x:dim() == 1 and 1 or i
      if o.x:dim() < (i == 2 and 1 or i == 1 and 2 or 3) then
        define.fail(name, "x has too few dimensions, got shape %s", options.shape(o.x))
      end
      if math.type(o.where) == "integer" and (o.where < 1 or o.x:size(d) % o.where ~= 0) then
        define.fail(name, "%d elements do not make %d equal parts", o.x:size(d), o.where)
      end
      return cut(name, o.x, o.where, d)
    end,
  })
end

-- ---- spreading ----

-- The shape to which all broadcast.
local function common(name, list)
  local shape = {}
  for _, x in ipairs(list) do
    local s = x.shape
    while #s < #shape do table.insert(s, 1, 1) end
    while #shape < #s do table.insert(shape, 1, 1) end
    for d, n in ipairs(s) do
      if shape[d] == 1 then shape[d] = n end
      if n ~= 1 and n ~= shape[d] then
        define.fail(name, "shape %s does not broadcast with the others: sizes %d and %d", options.shape(x), n, shape[d])
      end
    end
  end
  return shape
end
define.common = common

define.of_tensors("broadcast_tensors", {
  family = SHAPES, sample = "f(2,1), f(3); {f(2,3), f()}", derivative = "1, summed over what was repeated",
  doc = "The tensors, each expanded to the shape to which all broadcast, as several values.",
  see = { "nb.broadcast_to" }, example = "nb.broadcast_tensors(nb.tensor{1, 2}, nb.zeros(2, 1))  --> {{1, 2}, {1, 2}}",
  function(list)
    local shape, out = common("broadcast_tensors", list), {}
    for i, x in ipairs(list) do out[i] = x:expand(shape) end
    return table.unpack(out)
  end,
})

define.of_tensors("meshgrid", {
  family = SHAPES, sample = "f(2), f(3); {f(2), f(3)}, {indexing=\"xy\"}",
  doc = "For each vector its elements along a dimension of its own, repeated over the others', as several values; " ..
    "with indexing=\"xy\" the first two dimensions are swapped.",
  params = { { name = "indexing", type = "string", choices = { "ij", "xy" }, default = "ij" } },
  derivative = "1, summed over what was repeated", see = { "nb.cartesian_prod" },
  example = "nb.meshgrid(nb.tensor{1, 2}, nb.tensor{3, 4})  --> {{1, 1}, {2, 2}}",
  function(list, o)
    local out, sizes = {}, {}
    for i, x in ipairs(list) do
      if x:dim() > 1 then
        define.fail("meshgrid", "tensor %d has shape %s; it must be a vector", i, options.shape(x))
      end
      sizes[i] = x:numel()
    end
    local swap = o.indexing == "xy" and #list > 1
    for i, x in ipairs(list) do
      local shape = {}
      for d = 1, #list do shape[d] = d == i and sizes[d] or 1 end
      x = x:reshape(shape):expand(sizes)
      out[i] = swap and x:transpose(1, 2) or x
    end
    return table.unpack(out)
  end,
})

define.of_tensors("cartesian_prod", {
  family = SHAPES, sample = "f(2), f(3); {f(2), f(1), f(2)}",
  doc = "All ways to take an element of each vector, a row each; of one vector itself.",
  derivative = "1, summed over the rows", see = { "nb.meshgrid", "nb.combinations" },
  example = "nb.cartesian_prod(nb.tensor{1, 2}, nb.tensor{3, 4})  --> {{1, 3}, {1, 4}, {2, 3}, {2, 4}}",
  function(list)
    for i, x in ipairs(list) do
      if x:dim() ~= 1 then
        define.fail("cartesian_prod", "tensor %d has shape %s; it must be a vector", i, options.shape(x))
      end
    end
    if #list == 1 then return list[1] end
    local out = { nb.meshgrid(list) }
    for i, x in ipairs(out) do out[i] = x:reshape(x:numel()) end
    return nb.stack(out, 2)
  end,
})

define.operator("combinations", {
  family = SHAPES, sample = "f(4); f(4), 3; f(3), 2, {with_replacement=true}",
  doc = "All ways to take r elements of a vector without regard to their order, a row each; with_replacement takes " ..
    "an element more than once, too.",
  params = { define.x(), { name = "r", type = "count", default = 2, positional = true },
    { name = "with_replacement", type = "boolean", default = false } },
  derivative = "1, summed over the rows", see = { "nb.cartesian_prod" },
  example = "nb.combinations(nb.tensor{1, 2, 3})  --> {{1, 2}, {1, 3}, {2, 3}}",
  function(o)
    local x, n, r = o.x, o.x:numel(), o.r
    if x:dim() ~= 1 then define.fail("combinations", "x must be a vector, got shape %s", options.shape(x)) end
    if r == 0 or n == 0 then return nb.empty(0, { dtype = x.dtype }) end
    if r * n ^ r > 2 ^ 40 then define.fail("combinations", "%d of %d elements are too many ways", r, n) end
    local places, list, mask = nb.arange(1, n, { dtype = "i64" }), {}, nil
    for i = 1, r do list[i] = places end
    local grids = { nb.meshgrid(list) }
    for i = 1, r do grids[i] = grids[i]:reshape(grids[i]:numel()) end
    for i = 2, r do
      local ordered = o.with_replacement and grids[i - 1]:le(grids[i]) or grids[i - 1]:lt(grids[i])
      mask = mask and mask:logical_and(ordered) or ordered
    end
    local parts = {}
    for i = 1, r do parts[i] = x:index_select(1, mask and grids[i]:masked_select(mask) or grids[i]) end
    return nb.stack(parts, 2)
  end,
})

define.operator("vander", {
  family = SHAPES, sample = "f(3); f(3), 4, {increasing=true}; f(2,3), 2",
  doc = "The matrix whose row i has the powers of x[i] from n − 1 down to 0, with increasing=true from 0 up; of a " ..
    "batch of vectors a batch of matrices.",
  params = { define.x(), { name = "n", type = "count", optional = true, positional = true, doc = "that of x without" },
    { name = "increasing", type = "boolean", default = false } },
  derivative = "k·x^(k−1) in column k", example = "nb.vander(nb.tensor{2, 3})  --> {{2, 1}, {3, 1}}",
  function(o)
    local x = o.x:dim() == 0 and o.x:reshape(1) or o.x
    local n = o.n or x:size(-1)
    if x.dtype == "bool" or x.dtype == "u8" then x = x:to("i64") end
    local column = x:unsqueeze(-1)
    local powers = nb.ones(column.shape, { dtype = x.dtype })
    if n == 0 then return powers:narrow(-1, 1, 0) end
    if n > 1 then
      local shape = x.shape
      shape[#shape + 1] = n - 1
      powers = nb.cat({ powers, column:expand(shape):cumprod(-1) }, -1)
    end
    return o.increasing and powers or powers:flip(-1)
  end,
})

-- ---- making ----

define.operator("logspace", {
  family = "Making tensors", sample = "0, 2, 3; 1, 3, 4, {base=2}", no_grad = "it has no tensors",
  doc = "`steps` powers of base whose exponents are evenly spaced from first to last, both included.",
  params = { { name = "first", type = "number" }, { name = "last", type = "number" },
    { name = "steps", type = "count" },
    { name = "base", type = "number", default = 10, positional = true },
    { name = "dtype", type = "string", default = "f32", choices = { "f32", "f64", "i64", "u8" } } },
  see = { "nb.linspace" }, example = "nb.logspace(0, 2, 3)  --> {1, 10, 100}",
  function(o)
    local exponents = nb.linspace(o.first, o.last, o.steps, { dtype = "f64" })
    return nb.tensor(o.base, { dtype = "f64" }):pow(exponents):to(o.dtype)
  end,
})

for _, name in ipairs { "tril_indices", "triu_indices" } do
  local lower = name == "tril_indices"
  define.operator(name, {
    family = "Making tensors", sample = "3, 4; 3, 4, 1", no_grad = "indices are whole numbers",
    doc = ("The places of the %s triangle of a matrix from diagonal `offset` on: rows in the first row, columns in " ..
      "the second."):format(lower and "lower" or "upper"),
    params = { { name = "rows", type = "count" }, { name = "columns", type = "count" },
      { name = "offset", type = "integer", default = 0, positional = true } },
    see = { lower and "nb.tril" or "nb.triu" },
    example = ("nb.%s(2, 2)  --> {{1, %s}, {1, %s}}"):format(name, lower and "2, 2" or "1, 2",
      lower and "1, 2" or "2, 2"),
    function(o)
      local all = nb.ones(o.rows, o.columns, { dtype = "bool" })
      return (lower and all:tril(o.offset) or all:triu(o.offset)):nonzero():transpose(1, 2):contiguous()
    end,
  })
end
