-- SPDX-License-Identifier: MIT
-- How losses are made: each entry gives a function, nn.mse(prediction, target, options), and a module,
-- nn.MSELoss(options).
--
-- An entry's `each` gives the loss element by element or sample by sample, and where the mean is weighted
-- the weights; the reduction (mean, sum or none) is done here.  `target` is the kind of numbers that its targets are
-- (see native.within; "any", and "checked" where `each` or its operator looks itself).
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local registry = require "nablua.registry"
local shared = require "nablua.nn.shared"

local reduction = {}

local how_to_reduce = { name = "reduction", type = "string", default = "mean", choices = { "mean", "sum", "none" } }

local function check_tensors(where, prediction, target)
  if not nb.is_tensor(prediction) then
    native.raise(("%s: the prediction must be a tensor, got %s"):format(where, options.describe(prediction)))
  end
  if not nb.is_tensor(target) then
    native.raise(("%s: the target must be a tensor, got %s"):format(where, options.describe(target)))
  end
end

-- Elementwise losses never broadcast: (4) against (4×1) would silently become 4×4.
function reduction.check_same_shape(where, prediction, target)
  if options.shape(prediction) == options.shape(target) then return end
  local hint = prediction:numel() == target:numel() and
    ("; target:view(%s) has the prediction's shape"):format(table.concat(prediction.shape, ", ")) or ""
  native.raise(("%s: prediction and target must have the same shape, got %s and %s%s"):format(where,
    options.shape(prediction), options.shape(target), hint))
end

-- A weighted mean where nothing has weight is NaN; the 0/0 stays outside of the graph, whose gradients are 0.
local function weighted_mean(losses, weights)
  local total = weights:sum()
  local nothing = total:eq(0)
  return nb.where(nothing, 0 / 0, losses:sum() / total:masked_fill(nothing, 1))
end

local function reduce(how, losses, weights)
  if how == "none" then return losses end
  if how == "sum" then return losses:sum() end
  return weights and weighted_mean(losses, weights) or losses:mean()
end

-- The losses times a weight that broadcasts to them, and does not make more of them.
function reduction.weighted(where, losses, weight)
  if not weight then return losses end
  local product = losses * weight
  if not native.same_shape(product, losses) then
    native.raise(("%s: weight must broadcast to the losses' shape %s, got shape %s"):format(where,
      options.shape(losses), options.shape(weight)))
  end
  return product
end

-- Adds a class and its function to M: compute(where, options, ...) gives the loss of tensors of the given names.
local function register(M, class_name, function_name, spec, names, compute)
  local params = table.move(spec.params or {}, 1, #(spec.params or {}), 1, {})
  params[#params + 1] = spec.reduction or how_to_reduce
  local where, shown = "nn." .. function_name, {}
  for i, name in ipairs(names) do shown[i] = { name = name } end
  local at = #names + 1
  registry.define(M, "nn.", function_name, {
    family = "Loss functions",
    doc = spec.doc, example = spec.example, see = { "nn." .. class_name, table.unpack(spec.see or {}) },
    params = params, returns = "tensor",
    source = spec.source, signature = options.signature(where, table.move(params, 1, #params, at, shown)),
    at == 3 and function(prediction, target, given)
      return compute(where, options.check(where, params, given), prediction, target)
    end or function(...)
      local last = math.min(select("#", ...), at)
      local given = last > 0 and select(last, ...) or nil
      if last < at and (type(given) ~= "table" or getmetatable(given) or #given > 0) then
        given, last = nil, last + 1
      end
      return compute(where, options.check(where, params, given), table.unpack({ ... }, 1, last - 1))
    end,
  })
  local leaf = true
  for _, p in ipairs(params) do leaf = leaf and p.type ~= "function" end
  M[class_name] = module.define("nn." .. class_name, {
    kind = "loss", leaf = leaf,
    doc = spec.doc, params = params, see = { where, table.unpack(spec.see or {}) }, source = spec.source,
    example = spec.example:gsub("nn%." .. function_name .. "%(", "nn." .. class_name .. "()(", 1),
    forward = at == 3 and function(self, prediction, target) return compute(class_name, self, prediction, target) end
      or function(self, ...) return compute(class_name, self, ...) end,
  })
  M[class_name].threshold = spec.threshold
end

function reduction.define(M, class_name, function_name, spec)
  local each, elementwise = spec.each, spec.elementwise ~= false
  local in_domain = spec.target ~= "any" and spec.target ~= "checked" and { kind = spec.target } or nil
  local function compute(where, o, prediction, target)
    if not elementwise or not native.same_shape(prediction, target) then
      check_tensors(where, prediction, target)
      if elementwise then reduction.check_same_shape(where, prediction, target) end
    end
    if in_domain then target = shared.within(where, target, in_domain) end
    if spec.reduce and o.reduction == spec.reduce[1] then
      return spec.reduce[2](each(prediction, target, o, where), prediction)
    end
    return reduce(o.reduction, each(prediction, target, o, where))
  end
  register(M, class_name, function_name, spec, { "prediction", "target" }, compute)
end

-- A loss of tensors of other names, the first `needed` of which (all when left out) must be given:
-- each(where, options, ...).
function reduction.define_of(M, names, class_name, function_name, spec)
  local function compute(where, o, ...)
    for i = 1, spec.needed or #names do
      local t = select(i, ...)
      if not nb.is_tensor(t) then
        native.raise(("%s: %s must be a tensor, got %s"):format(where, names[i], options.describe(t)))
      end
    end
    return reduce(o.reduction, spec.each(where, o, ...))
  end
  register(M, class_name, function_name, spec, names, compute)
end

return reduction
