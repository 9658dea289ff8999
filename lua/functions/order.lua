-- SPDX-License-Identifier: MIT
-- Medians, quantiles, modes and the kth smallest: of each lane along a dimension, or of all elements.
--
-- Where the result is an element of x, its place is found first, and the value is read there, which has a gradient.
local nb = require "nablua.core"
local define = require "nablua.functions.define"

local whole_dim = { name = "dim", type = "integer", optional = true, positional = true, doc = "all elements without" }

-- Where floats are NaN, else nil.
local function nans(x)
  return (x.dtype == "f32" or x.dtype == "f64") and x:isnan() or nil
end

-- x as lanes along a dimension that is there, the last of all elements where dim is nil; the name of an empty lane's
-- operator for the error.
local function lanes(name, x, dim)
  local d, n
  if dim == nil then
    x, d, n = x:reshape(x:numel()), 1, x:numel()
  else
    d, n = define.dimension(name, x, dim)
    if x:dim() == 0 then x = x:reshape(1) end
  end
  if n == 0 then define.fail(name, "there are no elements to choose from") end
  return x, d, n
end

-- Values and places of what stands at `place` (with the dimension kept), as o says.
local function found(o, x, d, place)
  local value = x:gather(d, place)
  if o.x:dim() == 0 then return value:reshape {}, place:reshape {} end
  if not o.keepdim then value, place = value:squeeze(d), place:squeeze(d) end
  return value, place
end

define.operator("kthvalue", {
  family = "Sorting", sample = "f(2,5,3), 2, 2; f(7), 3, {keepdim=true}",
  doc = "The kth smallest element along dim (the last), and its place; NaN is the largest.",
  params = { define.x(), { name = "k", type = "integer" }, define.dim(-1), define.keepdim },
  derivative = "∂/∂x = 1 at its place", see = { "nb.topk", "nb.median", "nb.quantile" },
  example = "{nb.kthvalue(nb.tensor{5, 1, 3}, 2)}  --> {3, 3}",
  function(o)
    local x, d, n = lanes("kthvalue", o.x, o.dim)
    if o.k < 1 or o.k > n then define.fail("kthvalue", "k must be from 1 to %d, got %d", n, o.k) end
    local _, places = x:detach():topk(o.k, d, { largest = false })
    return found(o, x, d, places:narrow(d, o.k, 1))
  end,
})

-- The place of the median: the lower of two, of the numbers alone; with `strict` of the first NaN where there is one.
local function median_place(x, d, n, strict)
  x = x:detach()
  local nan = nans(x)
  if nan and not strict then
    local k = (nan:logical_not():sum(d, { keepdim = true }) + 1) // 2
    return x:argsort(d):gather(d, k:clamp(1))
  end
  local _, places = x:topk((n + 1) // 2, d, { largest = false })
  local place = places:narrow(d, (n + 1) // 2, 1)
  if not nan then return place end
  return nb.where(nan:any(d, { keepdim = true }), nan:to("u8"):argmax(d, { keepdim = true }), place)
end

local function median(name, strict, doc, example)
  define.operator(name, {
    family = "Sorting", sample = "f(7); f(2,5,3), 2; f(4), 1, {keepdim=true}", doc = doc, example = example,
    params = { define.x(), whole_dim, define.keepdim }, derivative = "∂/∂x = 1 at its place",
    see = { "nb.kthvalue", "nb.quantile" },
    function(o)
      local x, d, n = lanes(name, o.x, o.dim)
      local value, place = found(o, x, d, median_place(x, d, n, strict))
      if o.dim ~= nil then return value, place end
      return value:reshape {}
    end,
  })
end

median("median", true, "The median: the middle element, the lower one of two; along a dimension also its place.  " ..
  "NaN where there is one.", "nb.median(nb.tensor{5, 1, 3, 9})  --> 3")
median("nanmedian", false, "The median of what is not NaN: the middle element, the lower one of two; along a " ..
  "dimension also its place.", "nb.nanmedian(nb.tensor{5, 0/0, 1, 3})  --> 3")

define.operator("mode", {
  family = "Sorting", sample = "f(2,5,3), 2; f(7)",
  doc = "The commonest value along dim (the last), the smallest of several, and the last of its places.",
  params = { define.x(), define.dim(-1), define.keepdim }, derivative = "∂/∂x = 1 at its place",
  example = "{nb.mode(nb.tensor{4, 2, 4, 2, 7})}  --> {2, 4}",
  function(o)
    local x, d, n = lanes("mode", o.x, o.dim)
    local values, order = x:detach():sort(d)
    local shape = {}
    for e = 1, x:dim() do shape[e] = e == d and n or 1 end
    local at = nb.arange(1, n, { dtype = "i64" }):reshape(shape)
    local first = at:narrow(d, 1, 1):expand(values:narrow(d, 1, 1).shape)
    if n > 1 then  -- each element's place, or that where its run of equal ones begins
      local new = values:narrow(d, 2, n - 1):ne(values:narrow(d, 1, n - 1))
      first = nb.cat({ first, nb.where(new, at:narrow(d, 2, n - 1), 1) }, d):cummax(d)
    end
    local last = (at - first):argmax(d, { keepdim = true })
    return found(o, x, d, order:gather(d, last))
  end,
})

-- ---- quantiles ----

-- q as a tensor of x's dtype; whether it was one number.
local function shares(name, q, x)
  local one = type(q) == "number" or nb.is_tensor(q) and q:dim() == 0
  local ok, t = pcall(function() return nb.is_tensor(q) and q:to(x.dtype) or nb.tensor(q, { dtype = x.dtype }) end)
  if not ok or t:dim() > 1 then define.fail(name, "q must be a number, a list of numbers or a vector of them") end
  local low = t:numel() > 0 and nb.logical_and(t:ge(0), t:le(1)):all():item()
  if t:numel() > 0 and not low then define.fail(name, "q must be from 0 to 1") end
  return t:reshape(t:numel()), one
end

local function quantile(name, strict, doc, example)
  define.operator(name, {
    family = "Sorting", doc = doc, example = example,
    sample = "f(7), 0.3; f(2,5,3), {0.25, 0.5}, 2; f(4), 1, {keepdim=true, interpolation=\"midpoint\"}; " ..
      "f(2,6), 0.45, 2, {interpolation=\"lower\"}; f(2,6), 0.45, 2, {interpolation=\"higher\"}; " ..
      "f(2,6), 0.45, 2, {interpolation=\"nearest\"}",
    params = { define.x(), { name = "q", type = "any", doc = "from 0 to 1: a number, or several, which come first" },
      whole_dim, define.keepdim,
      { name = "interpolation", type = "string", choices = { "linear", "lower", "higher", "midpoint", "nearest" },
        default = "linear", doc = "what counts between two elements" } },
    derivative = "∂/∂x = the shares of the two elements around", see = { "nb.median", "nb.kthvalue" },
    function(o)
      if o.x.dtype ~= "f32" and o.x.dtype ~= "f64" then o.x = o.x:to("f32") end
      local x, d, n = lanes(name, o.x, o.dim)
      local q, one = shares(name, o.q, x)
      local sorted = x:transpose(d, -1):sort(-1)
      local nan, ranks = sorted:detach():isnan(), q * (n - 1)
      if strict then
        ranks = nb.where(nan:any(-1, { keepdim = true }), n - 1, ranks)
      else
        ranks = q * (nan:logical_not():sum(-1, { keepdim = true }) - 1):clamp(0)
      end
      if o.interpolation == "lower" then ranks = ranks:floor() end
      if o.interpolation == "higher" then ranks = ranks:ceil() end
      if o.interpolation == "nearest" then ranks = ranks:round() end
      local low = ranks:detach():floor()
      local value = sorted:gather(-1, low:to("i64") + 1)
      if o.interpolation == "linear" or o.interpolation == "midpoint" then
        local high = sorted:gather(-1, ranks:detach():ceil():to("i64") + 1)
        value = value:lerp(high, o.interpolation == "midpoint" and 0.5 or ranks - low)
      end
      -- The lanes' dimensions with that of q where d was; q's moves to the front, and d is kept or not.
      value = value:transpose(d, -1)
      if o.dim == nil then
        local shape = { q:numel() }
        for e = 1, o.keepdim and o.x:dim() or 0 do shape[e + 1] = 1 end
        value = value:reshape(shape)
      else
        local order = { d }
        for e = 1, x:dim() do if e ~= d then order[#order + 1] = e end end
        value = value:permute(order)
        if o.keepdim and o.x:dim() > 0 then value = value:unsqueeze(d + 1) end
      end
      return one and value:squeeze(1) or value
    end,
  })
end

quantile("quantile", true, "The elements below which the shares q of all lie, over all elements or along dim, " ..
  "interpolated between two; NaN where there is one.", "nb.quantile(nb.tensor{1, 2, 3, 4}, 0.5)  --> 2.5")
quantile("nanquantile", false, "The elements below which the shares q of what is not NaN lie, over all elements or " ..
  "along dim, interpolated between two.", "nb.nanquantile(nb.tensor{1, 0/0, 3}, 0.5)  --> 2")
