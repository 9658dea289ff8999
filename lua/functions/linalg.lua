-- SPDX-License-Identifier: MIT
-- Products of tensors and functions of matrices, made of matmul, solve and the decompositions.
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local MATRICES, ALGEBRA = "Matrices", "Linear algebra"

local function as_float(x)
  return (x.dtype == "f32" or x.dtype == "f64") and x or x:to("f32")
end

local function check_matrices(name, x, square)
  if x:dim() < 2 or square and x:size(-1) ~= x:size(-2) then
    define.fail(name, "x must be %s, got shape %s", square and "square matrices" or "matrices", options.shape(x))
  end
end

-- ---- products ----

-- The product of numbers, 1 of none.
local function product(list, first, last)
  local n = 1
  for i = first, last do n = n * list[i] end
  return n
end

define.operator("tensordot", {
  family = MATRICES, sample = "f(2,3,4), f(3,4,2); f(2,3), f(3,2), 1; f(2,3), f(4,2), {{1}, {2}}; f(2), f(3), 0",
  doc = "Sums of products over the last `dims` dimensions of x and the first of y, or over those that two tables name.",
  params = { define.x(), define.tensor("y"),
    { name = "dims", type = "any", default = 2, positional = true, doc = "how many, or {dimensions of x, of y}" } },
  derivative = "∂/∂x = δ·y, ∂/∂y = δ·x", see = { "nb.einsum", "nb.matmul" },
  example = "nb.tensordot(nb.tensor{{1, 2}, {3, 4}}, nb.tensor{1, 10}, 1)  --> {21, 43}",
  function(o)
    local x, y, dx, dy = o.x, o.y, {}, {}
    if math.type(o.dims) == "integer" and o.dims >= 0 and o.dims <= math.min(x:dim(), y:dim()) then
      for i = 1, o.dims do dx[i], dy[i] = x:dim() - o.dims + i, i end
    elseif type(o.dims) == "table" and #o.dims == 2 then
      dx, dy = o.dims[1], o.dims[2]
      if type(dx) ~= "table" then dx, dy = { dx }, { dy } end
    else
      define.fail("tensordot", "dims must be a whole number from 0 to %d or a table of two tables, got %s",
        math.min(x:dim(), y:dim()), options.show(o.dims))
    end
    if type(dy) ~= "table" or #dx ~= #dy then
      define.fail("tensordot", "dims must name as many dimensions of y as of x")
    end
    local function split(t, dims, inner_last)
      local used, order, sizes, inner = {}, {}, {}, 1
      local named = {}
      for i, d in ipairs(dims) do
        d = define.dimension("tensordot", t, d)
        if used[d] then define.fail("tensordot", "dimension %d is named twice", d) end
        used[d], named[i], inner = true, d, inner * t:size(d)
      end
      for d = 1, t:dim() do if not used[d] then order[#order + 1], sizes[#sizes + 1] = d, t:size(d) end end
      local outer = product(sizes, 1, #sizes)
      local all = inner_last and table.move(named, 1, #named, #order + 1, order) or
        table.move(order, 1, #order, #named + 1, named)
      local turned = t:dim() > 0 and t:permute(all) or t
      return turned:reshape(inner_last and { outer, inner } or { inner, outer }), sizes
    end
    for i = 1, #dx do
      local d, e = define.dimension("tensordot", x, dx[i]), define.dimension("tensordot", y, dy[i])
      local n, m = x:size(d), y:size(e)
      if n == 1 and m ~= 1 then y, m = y:sum(e, { keepdim = true }), 1 end
      if m == 1 and n ~= 1 then x, n = x:sum(d, { keepdim = true }), 1 end
      if n ~= m then define.fail("tensordot", "dimension %d of x has size %d, %d of y has %d", dx[i], n, dy[i], m) end
    end
    local a, left = split(x, dx, true)
    local b, right = split(y, dy, false)
    return a:matmul(b):reshape(table.move(right, 1, #right, #left + 1, left))
  end,
})

define.operator("kron", {
  family = MATRICES, sample = "f(2,3), f(2,2); f(2), f(3); f(2,3), f(2)",
  doc = "Kronecker's product: each element of x replaced by itself times y.",
  params = { define.x(), define.tensor("y") }, derivative = "∂/∂x = Σ δ·y, ∂/∂y = Σ δ·x", see = { "nb.outer" },
  example = "nb.kron(nb.tensor{1, 10}, nb.tensor{1, 2})  --> {1, 2, 10, 20}",
  function(o)
    local n = math.max(o.x:dim(), o.y:dim())
    local xs, ys, out = o.x.shape, o.y.shape, {}
    while #xs < n do table.insert(xs, 1, 1) end
    while #ys < n do table.insert(ys, 1, 1) end
    local a, b = {}, {}
    for d = 1, n do
      a[2 * d - 1], a[2 * d], b[2 * d - 1], b[2 * d], out[d] = xs[d], 1, 1, ys[d], xs[d] * ys[d]
    end
    if 2 * n > 8 then define.fail("kron", "tensors may have 4 dimensions, got %d", n) end
    return (o.x:reshape(a) * o.y:reshape(b)):reshape(out)
  end,
})

define.operator("cross", {
  family = MATRICES, sample = "f(2,3), f(2,3); f(3,2), f(3,1), 1",
  doc = "The vector product along dim (the last), of size 3, with broadcasting.",
  params = { define.x(), define.tensor("y"), define.dim(-1) }, derivative = "∂/∂x = y × δ, ∂/∂y = δ × x",
  example = "nb.cross(nb.tensor{1, 0, 0}, nb.tensor{0, 1, 0})  --> {0, 0, 1}",
  function(o)
    local x, y = nb.broadcast_tensors(o.x, o.y)
    local d, n = define.dimension("cross", x, o.dim)
    if n ~= 3 or x:dim() == 0 then define.fail("cross", "dimension %d must have size 3, got %d", d, n) end
    return x:roll(-1, d) * y:roll(-2, d) - x:roll(-2, d) * y:roll(-1, d)
  end,
})

define.operator("vecdot", {
  family = MATRICES, sample = "f(2,3), f(2,3); f(3,2), f(3,1), 1",
  doc = "The scalar products along dim (the last), with broadcasting.", see = { "nb.dot" },
  params = { define.x(), define.tensor("y"), define.dim(-1) }, derivative = "∂/∂x = y, ∂/∂y = x",
  example = "nb.vecdot(nb.tensor{{1, 2}, {3, 4}}, nb.tensor{1, 10})  --> {21, 43}",
  function(o)
    local xy = o.x * o.y
    return xy:sum((define.dimension("vecdot", xy, o.dim)))
  end,
})

define.operator("cdist", {
  family = MATRICES, sample = "f(3,2), f(4,2); f(2,3,2), f(4,2), 1; f(3,2), f(4,2), 3",
  doc = "The p-norms of the differences of each row of x and each of y.  More than 2^24 differences are not laid " ..
    "out: then the distances for p = 2 come from a product, which cancels where rows are nearly equal.",
  params = { define.x(), define.tensor("y"), { name = "p", type = "number", default = 2, positional = true } },
  derivative = "∂/∂x = Σ δ·(x − y)/d for p = 2, ∂/∂y its opposite", see = { "nb.pairwise_distance", "nb.norm" },
  example = "nb.cdist(nb.tensor{{0, 0}}, nb.tensor{{3, 4}, {0, 1}})  --> {{5, 1}}",
  function(o)
    local x, y = as_float(o.x), as_float(o.y)
    if x:dim() < 2 or y:dim() < 2 or x:size(-1) ~= y:size(-1) then
      define.fail("cdist", "x and y must be matrices of rows of one size, got shapes %s and %s", options.shape(x),
        options.shape(y))
    end
    if o.p < 0 or o.p ~= o.p then define.fail("cdist", "p must be at least 0, got %g", o.p) end
    if o.p == 2 and x:numel() * y:size(-2) > 2 ^ 24 then
      local squares = (x * x):sum(-1, { keepdim = true }) + (y * y):sum(-1):unsqueeze(-2)
      return (squares - x:matmul(y:transpose(-1, -2)) * 2):clamp(0):sqrt()
    end
    local off = x:unsqueeze(-2) - y:unsqueeze(-3)
    if off:size(-1) == 0 then return off:sum(-1) end
    return off:norm(-1, { p = o.p })
  end,
})

define.of_tensors("multi_dot", {
  family = MATRICES, sample = "f(2,3), f(3,4), f(4,2); f(3), f(3,4), f(4); f(2,3), f(3,2)",
  doc = "The product of matrices in the order that takes fewest operations; the first and the last may be vectors.",
  derivative = "of each the others' products", see = { "nb.matmul" },
  example = "nb.multi_dot(nb.tensor{{1, 2}}, nb.eye(2), nb.tensor{{3}, {4}})  --> {{11}}",
  function(list)
    local n = #list
    if n < 2 then define.fail("multi_dot", "needs at least two tensors, got %d", n) end
    local first, last = list[1]:dim() == 1, list[n]:dim() == 1
    if first then list[1] = list[1]:unsqueeze(1) end
    if last then list[n] = list[n]:unsqueeze(2) end
    local sizes = { 0 }
    for i, x in ipairs(list) do
      if x:dim() ~= 2 or i > 1 and x:size(1) ~= sizes[i] then
        define.fail("multi_dot", "tensor %d, of shape %s, does not fit the one before", i, options.shape(x))
      end
      sizes[i], sizes[i + 1] = x:size(1), x:size(2)
    end
    -- The least cost of each stretch, and where it is divided.
    local cost, at = {}, {}
    for i = 1, n do cost[i], at[i] = { [i] = 0 }, {} end
    for length = 2, n do
      for i = 1, n - length + 1 do
        local j = i + length - 1
        cost[i][j] = math.huge
        for k = i, j - 1 do
          local c = cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1]
          if c < cost[i][j] then cost[i][j], at[i][j] = c, k end
        end
      end
    end
    local function multiply(i, j)
      if i == j then return list[i] end
      return multiply(i, at[i][j]):matmul(multiply(at[i][j] + 1, j))
    end
    local y = multiply(1, n)
    if first then y = y:squeeze(1) end
    return last and y:squeeze(-1) or y
  end,
})

-- ---- functions of matrices ----

define.operator("matrix_power", {
  family = ALGEBRA, sample = "w(3), 3; w(2,2), -2; w(3), 1",
  doc = "Each square matrix to a whole power; negative ones are those of the inverse.",
  params = { define.x(), { name = "n", type = "integer" } }, derivative = "as that of the products",
  see = { "nb.matmul", "nb.inverse" },
  example = "nb.matrix_power(nb.tensor{{1, 1}, {0, 1}}, 3)  --> {{1, 3}, {0, 1}}",
  function(o)
    local x, n = o.x, o.n
    check_matrices("matrix_power", x, true)
    if math.abs(n) > 2 ^ 53 or n == math.mininteger then
      define.fail("matrix_power", "n must be at most 2^53 in size, got %d", n)
    end
    if n == 0 then return nb.eye(x:size(-1), { dtype = x.dtype }):expand(x.shape):clone() end
    if n < 0 then x, n = nb.inverse(x), -n end
    local y
    while true do
      if n % 2 == 1 then y = y and y:matmul(x) or x end
      n = n // 2
      if n == 0 then return y end
      x = x:matmul(x)
    end
  end,
})

define.operator("matrix_exp", {
  family = ALGEBRA, sample = "f(3,3); f(2,2,2)",
  doc = "e to the power of each square matrix: Σ xᵏ/k!, of x halved until that is exact, squared as often.",
  params = { define.x() }, derivative = "as that of the series", see = { "nb.matrix_power" },
  example = "nb.matrix_exp(nb.zeros(2, 2))  --> {{1, 0}, {0, 1}}",
  function(o)
    local x = as_float(o.x)
    check_matrices("matrix_exp", x, true)
    local one = nb.eye(x:size(-1), { dtype = x.dtype })
    if x:numel() == 0 then return x:clone() end
    local size = x:detach():abs():sum(-1):amax():item()
    if size ~= size or size == math.huge then define.fail("matrix_exp", "the matrix holds NaN or infinity") end
    -- The first term that is left out, sizeᵏ/k! for k = 19, is then below rounding.
    local halvings = size > 0 and math.max(0, math.ceil(math.log(size / (x.dtype == "f32" and 3 or 1), 2))) or 0
    if halvings > 0 then x = x * 0.5 ^ halvings end
    local y = one + x / 18
    for k = 17, 1, -1 do y = one + x:matmul(y) / k end
    for _ = 1, halvings do y = y:matmul(y) end
    return y
  end,
})

local dims = { name = "dims", type = "two whole numbers", default = { -2, -1 }, doc = "rows, columns" }

-- The norms of the last two dimensions.
local function norm_of(name, x, ord)
  if ord == "fro" then return x:norm({ -2, -1 }) end
  if ord == "nuc" or ord == 2 or ord == -2 then
    local _, s = nb.svd(x)
    if ord == "nuc" then return s:sum(-1) end
    return ord == 2 and s:amax(-1) or s:amin(-1)
  end
  if ord == 1 or ord == -1 or ord == math.huge or ord == -math.huge then
    local sums = x:abs():sum(math.abs(ord) == 1 and -2 or -1)
    return ord > 0 and sums:amax(-1) or sums:amin(-1)
  end
  define.fail(name, "ord must be \"fro\", \"nuc\", 1, 2, math.huge or one of these below 0, got %s",
    options.show(ord))
end

define.operator("matrix_norm", {
  family = ALGEBRA, sample = "f(2,3); f(2,3), 1; f(2,3), 1/0; f(2,3), \"nuc\"; f(2,2,3), 2; f(2,3), -1",
  doc = "Norms of matrices: \"fro\" √Σx², \"nuc\" the sum of singular values, 2 the largest, 1 the largest sum of " ..
    "a column's |x|, math.huge of a row's; -2, -1, -math.huge the smallest.  nb.norm is that of all elements.",
  params = { define.x(), { name = "ord", type = "any", default = "fro", positional = true }, dims, define.keepdim },
  derivative = "as those of the sums, extremes and singular values",
  see = { "nb.norm", "nb.cond" },
  example = "nb.matrix_norm(nb.tensor{{1, -2}, {3, 4}}, 1)  --> 6",
  function(o)
    local x = as_float(o.x)
    check_matrices("matrix_norm", x)
    local d, e = define.dimension("matrix_norm", x, o.dims[1]), define.dimension("matrix_norm", x, o.dims[2])
    if d == e then define.fail("matrix_norm", "dims must name two dimensions") end
    local y = norm_of("matrix_norm", nb.movedim(x, { d, e }, { -2, -1 }), o.ord)
    if not o.keepdim then return y end
    return y:unsqueeze(math.min(d, e)):unsqueeze(math.max(d, e))
  end,
})

define.operator("cond", {
  family = ALGEBRA, sample = "w(3); w(3), 1; w(2,2), \"fro\"; f(3,2), -2",
  doc = "The condition of matrices: the norm times that of the inverse; by default the largest singular value by " ..
    "the smallest.  Of singular matrices math.huge.",
  params = { define.x(), { name = "p", type = "any", default = 2, positional = true, doc = "as matrix_norm's ord" } },
  derivative = "as those of the norms", see = { "nb.matrix_norm" },
  example = "nb.cond(nb.tensor{{1, 0}, {0, 4}})  --> 4",
  function(o)
    local x = as_float(o.x)
    check_matrices("cond", x, o.p ~= 2 and o.p ~= -2)
    if o.p == 2 or o.p == -2 then
      local _, s = nb.svd(x)
      if s:size(-1) == 0 then return s:sum(-1) end
      local large, small = s:select(-1, 1), s:select(-1, -1)
      return o.p == 2 and large / small or small / large
    end
    local ok, inverse = pcall(nb.inverse, x)
    if not ok then return nb.full(x:select(-1, 1):select(-1, 1).shape, math.huge, { dtype = x.dtype }) end
    return norm_of("cond", x, o.p) * norm_of("cond", inverse, o.p)
  end,
})

define.operator("matrix_rank", {
  family = ALGEBRA, sample = "f(3,2); w(3), {rtol=0.1}", no_grad = "ranks are whole numbers",
  doc = "How many singular values are above the larger of atol and rtol times the largest; rtol is the larger " ..
    "side's size times the dtype's precision, or 0 with an atol.",
  params = { define.x(), { name = "rtol", type = "number", optional = true }, { name = "atol", type = "number",
    default = 0 } },
  see = { "nb.svd", "nb.pinv" }, example = "nb.matrix_rank(nb.tensor{{1, 2}, {2, 4}})  --> 1",
  function(o)
    local x = as_float(o.x):detach()
    check_matrices("matrix_rank", x)
    local _, s = nb.svd(x)
    if s:size(-1) == 0 then return s:ne(0):sum(-1) end
    local precision = x.dtype == "f32" and 2.0 ^ -23 or 2.0 ^ -52
    local rtol = o.rtol or o.atol > 0 and 0 or math.max(x:size(-1), x:size(-2)) * precision
    return s:gt((s:narrow(-1, 1, 1) * rtol):clamp(o.atol)):sum(-1)
  end,
})

define.operator("logdet", {
  family = ALGEBRA, sample = "s(3); s(2,2)", doc = "The logarithm of each determinant: NaN where that is below 0.",
  params = { define.x() }, derivative = "x⁻ᵀ", see = { "nb.slogdet", "nb.det" },
  example = "nb.logdet(nb.tensor{{2, 0}, {0, 0.5}})  --> 0",
  function(o)
    local sign, log = nb.slogdet(o.x)
    return nb.where(sign:eq(-1), 0 / 0, log)
  end,
})

define.operator("cholesky_solve", {
  family = ALGEBRA, sample = "f(3,2), w(3); f(3,2), w(3), {upper=true}",
  doc = "The solution y of l·lᵀ·y = b, where nb.cholesky gave l; with upper=true of lᵀ·l·y = b.",
  params = { define.tensor("b"), define.tensor("l"), { name = "upper", type = "boolean", default = false,
    positional = true } },
  derivative = "∂/∂b = (l·lᵀ)⁻¹·δ, ∂/∂l as those of the two solves",
  see = { "nb.cholesky", "nb.solve_triangular" },
  example = "nb.cholesky_solve(nb.tensor{{4}}, nb.tensor{{2}})  --> {{1}}",
  function(o)
    local lower = o.upper and o.l:transpose(-1, -2) or o.l
    local y = nb.solve_triangular(lower, o.b)
    return nb.solve_triangular(lower:transpose(-1, -2), y, { upper = true })
  end,
})

define.operator("cholesky_inverse", {
  family = ALGEBRA, sample = "w(3); w(3), {upper=true}",
  doc = "The inverse of l·lᵀ, where nb.cholesky gave l; with upper=true of lᵀ·l.",
  params = { define.tensor("l"), { name = "upper", type = "boolean", default = false, positional = true } },
  derivative = "as that of the solve", see = { "nb.cholesky", "nb.inverse" },
  example = "nb.cholesky_inverse(nb.tensor{{2}})  --> {{0.25}}",
  function(o)
    check_matrices("cholesky_inverse", o.l, true)
    return nb.cholesky_solve(nb.eye(o.l:size(-1), { dtype = o.l.dtype }):expand(o.l.shape), o.l, o.upper)
  end,
})

define.operator("lstsq", {
  family = ALGEBRA, sample = "f(4,2), f(4,3); f(2,4), f(2); w(3), f(3,2)",
  doc = "The y with the least |a·y − b|², and among those the least size; then a's rank and singular values.  b is " ..
    "a vector or a matrix.",
  params = { define.tensor("a"), define.tensor("b"), { name = "rtol", type = "number", optional = true,
    doc = "singular values below rtol times the largest count as 0" } },
  derivative = "as that of pinv(a)·b", see = { "nb.pinv", "nb.solve" },
  example = "nb.lstsq(nb.tensor{{1}, {1}}, nb.tensor{1, 3})  --> {2}",
  function(o)
    local a, b = as_float(o.a), o.b
    check_matrices("lstsq", a)
    local vector = b:dim() == a:dim() - 1
    if vector then b = b:unsqueeze(-1) end
    if b:dim() < 2 or b:size(-2) ~= a:size(-2) then
      define.fail("lstsq", "a, of shape %s, and b, of shape %s, must have as many rows", options.shape(a),
        options.shape(o.b))
    end
    local y = nb.pinv(a, { rtol = o.rtol }):matmul(b:to(a.dtype))
    local _, s = nb.svd(a:detach())
    return vector and y:squeeze(-1) or y, nb.matrix_rank(a, { rtol = o.rtol }), s
  end,
})
