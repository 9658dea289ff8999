-- SPDX-License-Identifier: MIT
-- nn.prune: weights of a layer that are taken away: name = name_orig · name_mask before each call.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local registry = require "nablua.registry"
local shared = require "nablua.nn.shared"

local prune = {}

local module_param = { name = "module", type = "any", doc = "a layer" }
local name_param = { name = "name", type = "string", doc = "which parameter: \"weight\"" }
local amount_param = { name = "amount", type = "non-negative",
  doc = "a share of those that are left (0.3; 1.0 is all), or how many (1 is one)" }
local dim_param = { name = "dim", type = "size", default = 1, positional = true,
  doc = "the dimension whose slices are taken whole: 1, outputs" }

local function define(name, entry)
  local where, f = "nn.prune." .. name, entry[1]
  entry[1] = function(...) return f(options.read(where, entry.params, ...), where) end
  entry.family = "Training"
  registry.define(prune, "nn.prune.", name, entry)
end

-- The weight before pruning, and the mask so far, ones where there is none.
local function parts_of(where, o)
  if module.is(o.module) then
    local orig, mask = rawget(o.module, o.name .. "_orig"), rawget(o.module, o.name .. "_mask")
    if orig and mask then return orig, mask end
  end
  local w = shared.parameter(where, o)
  return w, nb.ones(w.shape, { dtype = w.dtype })
end

-- Puts a mask in place, over the one that may be there.
local function masked(o, orig, mask)
  local m, name = o.module, o.name
  if rawget(m, name .. "_mask") then
    rawget(m, name .. "_mask"):copy_(mask)
    rawset(m, name, nb.no_grad(function() return orig * mask end))
    return m
  end
  local twin = orig:detach():clone()
  twin.requires_grad = true
  m[name .. "_orig"], m[name .. "_mask"] = twin, mask:detach():clone()
  module.learn(m, name .. "_orig")
  module.learn(m, name .. "_mask")
  shared.compute_before(m, name, function(self)
    return rawget(self, name .. "_orig") * rawget(self, name .. "_mask")
  end)
  return m
end

-- How many of n an amount means: 1 is one, 1.0 all.
local function count_of(where, amount, n)
  local share = math.type(amount) == "float" and amount <= 1
  local count = share and math.floor(amount * n + 0.5) or math.tointeger(amount)
  if not count or count > n then
    native.raise(("%s: amount must be a share up to 1.0 or a whole number up to %d, which are left, got %g"):format(
      where, n, amount))
  end
  return count
end

-- The mask without the `count` smallest of a vector of scores; what is gone already counts as larger than all.
local function without_smallest(scores, mask, count)
  if count == 0 then return mask end
  local left = nb.where(mask:ne(0), scores, math.huge)
  local _, at = left:topk(count, 1, { largest = false })
  return mask:scatter(1, at, 0)
end

local function unstructured(name, doc, score)
  define(name, {
    doc = doc .. "  Make the optimizer afterwards: what learns is name_orig.  Returns the layer.",
    params = { module_param, name_param, amount_param }, see = { "nn.prune.remove" },
    example = ("nn.prune.%s(nn.Linear(4, 2), \"weight\", 0.5).weight_mask:sum()  --> 4"):format(name),
    function(o, where)
      return nb.no_grad(function()
        local orig, mask = parts_of(where, o)
        local flat = mask:flatten()
        local count = count_of(where, o.amount, math.tointeger(flat:ne(0):sum():item()))
        return masked(o, orig, without_smallest(score(orig):flatten(), flat, count):view(mask.shape))
      end)
    end,
  })
end

unstructured("l1_unstructured", "Takes the smallest weights away.", function(w) return w:detach():abs() end)
unstructured("random_unstructured", "Takes weights away at random.", function(w) return nb.rand_like(w:detach()) end)

local function structured(name, doc, params, score)
  define(name, {
    doc = doc .. "  Make the optimizer afterwards: what learns is name_orig.  Returns the layer.",
    params = { module_param, name_param, amount_param, table.unpack(params) }, see = { "nn.prune.l1_unstructured" },
    example = ("nn.prune.%s(nn.Linear(4, 2), \"weight\", 1%s).weight_mask:sum()  --> 4"):format(name,
      #params > 1 and ", 2" or ""),
    function(o, where)
      return nb.no_grad(function()
        local orig, mask = parts_of(where, o)
        if o.dim > orig:dim() then
          native.raise(("%s: there is no dimension %d in shape %s"):format(where, o.dim, options.shape(orig)))
        end
        local function slices(t) return t:transpose(1, o.dim):flatten(2, -1) end
        local alive = slices(mask):ne(0):any(2):to(mask.dtype)
        local count = count_of(where, o.amount, math.tointeger(alive:sum():item()))
        local kept = without_smallest(score(slices(orig:detach() * mask), o), alive, count)
        local shape = {}
        for d = 1, orig:dim() do shape[d] = d == o.dim and orig:size(d) or 1 end
        return masked(o, orig, mask * kept:view(shape))
      end)
    end,
  })
end

structured("ln_structured", "Takes the slices of a dimension with the smallest n-norms away.",
  { { name = "n", type = "number", doc = "the norm's power" }, dim_param },
  function(rows, o) return rows:norm(2, { p = o.n }) end)
structured("random_structured", "Takes slices of a dimension away at random.", { dim_param },
  function(rows) return nb.rand(rows:size(1), { dtype = rows.dtype }) end)

define("custom_from_mask", {
  doc = "Takes the weights away where a mask is 0.  Make the optimizer afterwards.  Returns the layer.",
  params = { module_param, name_param, { name = "mask", type = "tensor", doc = "of the weight's shape" } },
  see = { "nn.prune.remove" },
  example = "nn.prune.custom_from_mask(nn.Linear(2, 1), \"weight\", nb.tensor{{1, 0}}).weight[1][2]  --> 0",
  function(o, where)
    return nb.no_grad(function()
      local orig, mask = parts_of(where, o)
      if options.shape(o.mask) ~= options.shape(mask) then
        native.raise(("%s: mask must have shape %s, got %s"):format(where, options.shape(mask),
          options.shape(o.mask)))
      end
      return masked(o, orig, mask * o.mask:ne(0):to(mask.dtype))
    end)
  end,
})

define("remove", {
  doc = "Makes pruning last: the parameter holds zeros where weights were taken away, and learns again.  Returns " ..
    "the layer.", params = { module_param, name_param }, see = { "nn.prune.is_pruned" },
  example = "local m = nn.prune.l1_unstructured(nn.Linear(2, 1), \"weight\", 1); " ..
    "return #nn.prune.remove(m, \"weight\"):parameters()  --> 2",
  function(o, where)
    local m, name = o.module, o.name
    if not module.is(m) or not rawget(m, name .. "_mask") then
      native.raise(("%s: %s of %s is not pruned"):format(where, name, options.describe(m)))
    end
    local w = nb.no_grad(function() return rawget(m, name .. "_orig") * rawget(m, name .. "_mask") end)
    w.requires_grad = true
    shared.stop_computing(m, name)
    for _, key in ipairs { name .. "_orig", name .. "_mask" } do
      module.forget(m, key)
      rawset(m, key, nil)
    end
    rawset(m, name, w)
    module.learn(m, name)
    return m
  end,
})

define("is_pruned", {
  doc = "Whether weights were taken away from a module, or from one inside it.", params = { module_param },
  example = "nn.prune.is_pruned(nn.Linear(2, 1))  --> false",
  function(o, where)
    if not module.is(o.module) then
      native.raise(("%s: needs a module, got %s"):format(where, options.describe(o.module)))
    end
    for _, m in o.module:named_modules() do
      for key in next, m do
        if type(key) == "string" and key:find "_mask$" and rawget(m, (key:gsub("_mask$", "_orig"))) then return true end
      end
    end
    return false
  end,
})

registry.add {
  name = "nn.prune", kind = "topic", value = prune, doc = "Weights that are taken away from layers.",
  example = "nn.prune.is_pruned(nn.ReLU())  --> false",
}

return { prune = prune }
