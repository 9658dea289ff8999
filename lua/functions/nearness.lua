-- SPDX-License-Identifier: MIT
-- Sizes, distances and angles of vectors.
local nb = require "nablua.core"
local define = require "nablua.functions.define"

local FAMILY = "Reductions"

local function as_float(x)
  return (x.dtype == "f32" or x.dtype == "f64") and x or x:to("f32")
end

local function eps(default)
  return { name = "eps", type = "number", default = default, positional = true }
end

define.operator("normalize", {
  family = FAMILY, sample = "f(2,3); f(2,3), 1, 1; f(2,3), {dim=2, p=3}",
  doc = "x divided by its p-norm along dim, which counts as eps where it is smaller.  data.normalize is that of " ..
    "tables.",
  params = { define.x(), { name = "p", type = "number", default = 2, positional = true },
    { name = "dim", type = "integer", default = 2, positional = true }, eps(1e-12) },
  derivative = "δ/n less its part along x", see = { "nb.norm", "nb.cosine_similarity" },
  example = "nb.normalize(nb.tensor{{3, 4}})  --> {{0.6, 0.8}}",
  function(o)
    local x = as_float(o.x)
    local d = define.dimension("normalize", x, o.dim)
    local n = x:dim() == 0 and x:norm({ p = o.p }) or x:norm(d, { p = o.p, keepdim = true })
    return x / n:clamp(o.eps)
  end,
})

define.operator("cosine_similarity", {
  family = FAMILY, sample = "f(2,3), f(2,3); f(2,3), f(3), 2",
  doc = "The cosines of the angles between vectors along dim (the second), with broadcasting; a size below eps " ..
    "counts as eps.",
  params = { define.x(), define.tensor("y"), { name = "dim", type = "integer", default = 2, positional = true },
    eps(1e-8) },
  derivative = "∂/∂x = (y/|y| − cos·x/|x|)/|x|, ∂/∂y likewise", see = { "nb.normalize", "nb.pairwise_distance" },
  example = "nb.cosine_similarity(nb.tensor{1, 0}, nb.tensor{3, 4}, 1)  --> 0.6",
  function(o)
    local x, y = nb.broadcast_tensors(as_float(o.x), as_float(o.y))
    local d = define.dimension("cosine_similarity", x, o.dim)
    if x:dim() == 0 then x, y = x:reshape(1), y:reshape(1) end
    local function size(t) return t:norm(d, { keepdim = true }):clamp(o.eps) end
    return (x / size(x) * (y / size(y))):sum(d)
  end,
})

define.operator("pairwise_distance", {
  family = FAMILY, sample = "f(2,3), f(2,3); f(2,3), f(3), 1; f(3), f(3), 3",
  doc = "The p-norms of x − y + eps along the last dimension, with broadcasting.",
  params = { define.x(), define.tensor("y"), { name = "p", type = "number", default = 2, positional = true }, eps(1e-6),
    define.keepdim },
  derivative = "∂/∂x = (x − y + eps)/d for p = 2, ∂/∂y its opposite", see = { "nb.cdist", "nb.norm" },
  example = "nb.pairwise_distance(nb.tensor{{0, 0}}, nb.tensor{{3, 4}})  --> {5}",
  function(o)
    local off = as_float(o.x) - as_float(o.y) + o.eps
    if off:dim() == 0 then off = off:reshape(1) end
    return off:norm(-1, { p = o.p, keepdim = o.keepdim })
  end,
})
