-- SPDX-License-Identifier: MIT
-- Products by the names that they have beside matmul, and sums with them.
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local beta = { name = "beta", type = "number", default = 1, doc = "times x; with 0 nothing of x is read" }
local alpha = { name = "alpha", type = "number", default = 1, doc = "times the product" }

local function check_dims(name, ...)
  local list = { ... }
  for i = 1, #list, 3 do
    local what, t, n = list[i], list[i + 1], list[i + 2]
    if t:dim() ~= n then
      define.fail(name, "%s must have %d dimension%s, got shape %s", what, n, n == 1 and "" or "s", options.shape(t))
    end
  end
end

-- beta·x + alpha·product
local function mixed(name, o, product)
  if o.alpha ~= 1 then product = product * o.alpha end
  local ok, shape = pcall(function() return o.x:expand(product.shape) end)
  if not ok then
    define.fail(name, "x, of shape %s, does not broadcast to the product's shape %s", options.shape(o.x),
      options.shape(product))
  end
  if o.beta == 0 then return product end
  return (o.beta == 1 and shape or shape * o.beta) + product
end

local function with_product(name, entry)
  local a, b = entry.names[1], entry.names[2]
  entry.family = "Matrices"
  entry.signature = ("nb.%s(x, %s, %s, {beta=1, alpha=1})"):format(name, a, b)
  entry.params = { define.x(), define.tensor(a), define.tensor(b), beta, alpha }
  entry.derivative = ("∂/∂x = beta, ∂/∂%s and ∂/∂%s as the product's, times alpha"):format(a, b)
  entry.see = { "nb.matmul" }
  local product = entry[1]
  entry[1] = function(o) return mixed(name, o, product(o[a], o[b])) end
  define.operator(name, entry)
end

with_product("addmm", {
  sample = "f(2,4), f(2,3), f(3,4); f(4), f(2,3), f(3,4), {beta=0.5, alpha=2}",
  names = { "a", "b" }, doc = "beta·x + alpha·a·b, of matrices a and b; x broadcasts to the product's shape.",
  example = "nb.addmm(nb.tensor{10, 20}, nb.eye(2), nb.tensor{{1, 2}, {3, 4}})  --> {{11, 22}, {13, 24}}",
  function(a, b)
    check_dims("addmm", "a", a, 2, "b", b, 2)
    return a:matmul(b)
  end,
})

with_product("addmv", {
  sample = "f(2), f(2,3), f(3); f(), f(2,3), f(3), {beta=0.5, alpha=2}",
  names = { "a", "v" }, doc = "beta·x + alpha·a·v, of a matrix a and a vector v; x broadcasts to the product's shape.",
  example = "nb.addmv(nb.tensor{10, 20}, nb.eye(2), nb.tensor{3, 4})  --> {13, 24}",
  function(a, v)
    check_dims("addmv", "a", a, 2, "v", v, 1)
    return a:matmul(v)
  end,
})

with_product("addr", {
  sample = "f(2,3), f(2), f(3); f(3), f(2), f(3), {beta=0.5, alpha=2}",
  names = { "v", "w" }, doc = "beta·x + alpha·v·wᵀ, of vectors v and w; x broadcasts to the product's shape.",
  example = "nb.addr(nb.zeros(2, 2), nb.tensor{1, 2}, nb.tensor{3, 4})  --> {{3, 4}, {6, 8}}",
  function(v, w)
    check_dims("addr", "v", v, 1, "w", w, 1)
    return v:unsqueeze(2) * w
  end,
})

with_product("baddbmm", {
  sample = "f(2,2,4), f(2,2,3), f(2,3,4); f(4), f(2,2,3), f(2,3,4), {beta=0, alpha=2}",
  names = { "a", "b" }, doc = "beta·x + alpha·a·b of each matrix of the batches a and b; x broadcasts to the products.",
  example = "nb.baddbmm(nb.ones(1), nb.ones(2, 1, 3), nb.ones(2, 3, 1))  --> {{{4}}, {{4}}}",
  function(a, b)
    check_dims("baddbmm", "a", a, 3, "b", b, 3)
    return a:matmul(b)
  end,
})

with_product("addbmm", {
  sample = "f(2,4), f(2,2,3), f(2,3,4)",
  names = { "a", "b" }, doc = "beta·x + alpha·Σ a·b, the sum of the products of two batches of matrices.",
  example = "nb.addbmm(nb.ones(1), nb.ones(2, 1, 3), nb.ones(2, 3, 1))  --> {{7}}",
  function(a, b)
    check_dims("addbmm", "a", a, 3, "b", b, 3)
    return a:matmul(b):sum(1)
  end,
})

define.operator("mv", {
  sample = "f(2,3), f(3)",
  family = "Matrices", doc = "The product of a matrix and a vector; matmul with its shapes checked.",
  params = { define.tensor("a"), define.tensor("v") }, see = { "nb.matmul" },
  derivative = "∂/∂a = δ·vᵀ, ∂/∂v = aᵀ·δ",
  example = "nb.mv(nb.tensor{{1, 2}, {3, 4}}, nb.tensor{1, 1})  --> {3, 7}",
  function(o)
    check_dims("mv", "a", o.a, 2, "v", o.v, 1)
    return o.a:matmul(o.v)
  end,
})

define.operator("bmm", {
  sample = "f(2,2,3), f(2,3,4)",
  family = "Matrices", doc = "The products of two batches of matrices; matmul with its shapes checked.",
  params = { define.tensor("a"), define.tensor("b") }, see = { "nb.matmul" },
  derivative = "∂/∂a = δ·bᵀ, ∂/∂b = aᵀ·δ",
  example = "nb.bmm(nb.ones(2, 1, 3), nb.ones(2, 3, 1))  --> {{{3}}, {{3}}}",
  function(o)
    check_dims("bmm", "a", o.a, 3, "b", o.b, 3)
    if o.a:size(1) ~= o.b:size(1) then
      define.fail("bmm", "the batches must have one size, got %d and %d", o.a:size(1), o.b:size(1))
    end
    return o.a:matmul(o.b)
  end,
})

define.operator("vdot", {
  sample = "f(3), f(3)",
  family = "Matrices", doc = "The scalar product of two vectors; another name of dot.",
  params = { define.tensor("x"), define.tensor("y") }, see = { "nb.dot" }, derivative = "∂/∂x = y, ∂/∂y = x",
  example = "nb.vdot(nb.tensor{1, 2}, nb.tensor{3, 4})  --> 11",
  function(o) return nb.dot(o.x, o.y) end,
})

define.operator("inner", {
  sample = "f(2,3), f(4,3); f(3), f(3); f(), f(2)",
  family = "Matrices",
  doc = "Sums of products over the last dimension of both: of vectors their scalar product; of a number the product.",
  params = { define.tensor("x"), define.tensor("y") }, see = { "nb.einsum" },
  derivative = "∂/∂x = δ·y, ∂/∂y = δ·x",
  example = "nb.inner(nb.tensor{{1, 2}, {3, 4}}, nb.tensor{1, 10})  --> {21, 43}",
  function(o)
    local x, y = o.x, o.y
    if x:dim() == 0 or y:dim() == 0 then return x * y end
    if x:size(-1) ~= y:size(-1) then
      define.fail("inner", "the last dimensions must have one size, got shapes %s and %s", options.shape(x),
        options.shape(y))
    end
    local shape = x.shape
    shape[#shape] = nil
    for d = 1, y:dim() - 1 do shape[#shape + 1] = y:size(d) end
    local n = x:size(-1)
    local function rows(t) return t:reshape(n > 0 and t:numel() // n or t:narrow(-1, 1, 0):sum(-1):numel(), n) end
    return rows(x):matmul(rows(y):transpose(1, 2)):reshape(shape)
  end,
})
