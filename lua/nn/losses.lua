-- SPDX-License-Identifier: MIT
-- Losses of a prediction and a target; those of more tensors, and rarer ones, are in more_losses.lua.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local reduction = require "nablua.nn.reduction"
local shared = require "nablua.nn.shared"

local M = {}

local weighted, check_same_shape = reduction.weighted, reduction.check_same_shape

local function define(class_name, function_name, spec) reduction.define(M, class_name, function_name, spec) end

define("MSELoss", "mse", {
  doc = "The mean squared error (prediction − target)².",
  example = "nn.mse(nb.tensor{1, 4}, nb.tensor{2, 2})  --> 2.5",
  target = "any",
  each = function(prediction, target) return nb.squared_error(prediction, target) end,
})

define("L1Loss", "l1", {
  doc = "The mean absolute error |prediction − target|.",
  example = "nn.l1(nb.tensor{1, 4}, nb.tensor{2, 2})  --> 1.5",
  target = "any",
  each = function(prediction, target) return (prediction - target):abs() end,
})

define("HuberLoss", "huber", {
  doc = "½d² where |d| ≤ delta, else delta·(|d| − ½delta), for d = prediction − target: outliers pull less.",
  params = { { name = "delta", type = "positive or huge", default = 1 } },
  example = "nn.huber(nb.tensor{1, 4}, nb.tensor{2, 2})  --> 1",
  target = "any",
  each = function(prediction, target, o)
    local d = (prediction - target):abs()
    local capped = d:clamp { max = o.delta }
    return capped * (d - capped * 0.5)
  end,
})

define("BCELoss", "bce", {
  doc = "Binary cross-entropy of probabilities and targets in 0..1; BCEWithLogitsLoss is more accurate.",
  params = { { name = "weight", type = "tensor", optional = true, doc = "multiplies each element's loss" } },
  example = "nn.bce(nb.tensor{0.5, 0.5}, nb.tensor{1, 0})  --> 0.693147",
  target = "checked",
  each = function(prediction, target, o, where)
    return weighted(where, nb.binary_cross_entropy(prediction, target), o.weight)
  end,
})

define("BCEWithLogitsLoss", "bce_with_logits", {
  doc = "Binary cross-entropy of σ(prediction) and targets in 0..1, exact for large logits; ∂/∂z = σ(z) − y.",
  params = {
    { name = "weight", type = "tensor", optional = true, doc = "multiplies each element's loss" },
    { name = "pos_weight", type = "tensor", optional = true, doc = "multiplies the losses of positive targets" },
  },
  example = "nn.bce_with_logits(nb.tensor{0, 0}, nb.tensor{1, 0})  --> 0.693147",
  threshold = 0, target = "checked",
  each = function(z, y, o, where)
    local losses
    if o.pos_weight then
      y = shared.within(where, y, { kind = "unit" })
      local as_one, as_zero = nb.bce_with_logits(z, 1), nb.bce_with_logits(z, 0)
      losses = weighted(where, y * as_one, o.pos_weight) + (1 - y) * as_zero
    else
      losses = nb.bce_with_logits(z, y)
    end
    return weighted(where, losses, o.weight)
  end,
})

-- ---- classes ----

-- Samples are first, classes second; a vector is one sample.
local function class_dim(logits)
  return logits:dim() == 1 and 1 or 2
end

-- A weight for each class, of a shape that multiplies scores.
local function spread_weight(where, weight, scores)
  local d = class_dim(scores)
  local classes = scores:size(d)
  if weight:dim() ~= 1 or weight:numel() ~= classes then
    native.raise(("%s: weight must be a vector of %d numbers, one for each class, got shape %s"):format(where, classes,
      options.shape(weight)))
  end
  local shape = {}
  for e = 1, scores:dim() do shape[e] = e == d and classes or 1 end
  return weight:view(shape)
end

-- Probabilities as targets.
local function soft_cross_entropy(logits, target, o, where)
  local d = class_dim(logits)
  local classes = logits:size(d)
  if o.ignore_index then
    native.raise(where .. ": ignore_index is for targets that are class numbers, but these are probabilities; leave " ..
      "out such samples, or weigh the losses of reduction=\"none\"")
  end
  target = shared.within(where, target, { kind = "distribution", dim = d })
  if o.label_smoothing > 0 then target = target * (1 - o.label_smoothing) + o.label_smoothing / classes end
  local terms = target * nb.log_softmax(logits, d)
  if o.weight then terms = terms * spread_weight(where, o.weight, logits) end
  return -terms:sum(d)
end

-- −log p[target] of every sample with class weights, smoothing and ignored samples: losses and their weights.
local function class_losses(log_p, target, o, where)
  local d, ignored = class_dim(log_p), nil
  local samples = log_p.shape
  table.remove(samples, d)
  if options.shape(samples) ~= options.shape(target) then
    native.raise(("%s: targets must be class numbers of shape %s for scores of shape %s, got shape %s"):format(where,
      options.shape(samples), options.shape(log_p), options.shape(target)))
  end
  if o.ignore_index then
    ignored = target:eq(o.ignore_index)
    target = target:masked_fill(ignored, 1)
  end
  target = shared.within(where, target, { kind = "labels", most = log_p:size(d) })
  local losses = -log_p:gather(d, target:unsqueeze(d)):squeeze(d)
  local weights
  if o.weight then
    spread_weight(where, o.weight, log_p)
    weights = o.weight:index_select(1, target)
    losses = losses * weights
  end
  if o.label_smoothing and o.label_smoothing > 0 then
    local spread = o.weight and log_p * spread_weight(where, o.weight, log_p) or log_p
    losses = losses * (1 - o.label_smoothing) - spread:mean(d) * o.label_smoothing
  end
  if ignored then
    losses = losses:masked_fill(ignored, 0)
    weights = weights and weights:masked_fill(ignored, 0) or ignored:logical_not():to(losses.dtype)
  end
  return losses, weights
end

local class_weight = { name = "weight", type = "tensor", optional = true, doc = "a number for each class" }
local ignore_index = { name = "ignore_index", type = "integer", optional = true,
  doc = "samples of this target do not count" }

define("CrossEntropyLoss", "cross_entropy", {
  doc = "−log softmax(logits)[target]: targets are class numbers 1..K, or probabilities in the logits' shape.  " ..
    "Takes logits, not probabilities; ∂/∂z = softmax(z) − y.",
  params = { class_weight, ignore_index,
    { name = "label_smoothing", type = "fraction", default = 0, doc = "share of the target spread over all classes" } },
  example = "nn.cross_entropy(nb.tensor{{0, 0}}, nb.tensor{2})  --> 0.693147",
  elementwise = false, target = "checked",
  each = function(logits, target, o, where)
    if target:dim() == logits:dim() then
      check_same_shape(where, logits, target)
      return soft_cross_entropy(logits, target, o, where)
    end
    if not o.weight and not o.ignore_index and o.label_smoothing == 0 then return nb.cross_entropy(logits, target) end
    return class_losses(nb.log_softmax(logits, class_dim(logits)), target, o, where)
  end,
})

define("NLLLoss", "nll", {
  doc = "−prediction[target], for log-probabilities such as LogSoftmax gives; targets are class numbers 1..K.",
  params = { class_weight, ignore_index },
  example = "nn.nll(nb.tensor{{-1, -2}}, nb.tensor{2})  --> 2",
  elementwise = false, target = "checked",
  each = class_losses,
})

define("KLDivLoss", "kl_div", {
  doc = "The Kullback-Leibler divergence target·(log target − prediction); predictions are log-probabilities.  " ..
    "reduction=\"batchmean\" is the mathematical value.",
  params = { { name = "log_target", type = "boolean", default = false, doc = "targets are log-probabilities too" } },
  reduction = { name = "reduction", type = "string", default = "mean",
    choices = { "mean", "batchmean", "sum", "none" } },
  reduce = { "batchmean", function(losses, prediction) return losses:sum() / prediction:size(1) end },
  example = "nn.kl_div(nb.tensor{0.5, 0.5}:log(), nb.tensor{0.5, 0.5})  --> 0",
  target = "checked",
  each = function(prediction, target, o, where)
    target = shared.within(where, target, { kind = o.log_target and "logs" or "unit" })
    if o.log_target then return target:exp() * (target - prediction) end
    return target * (target:clamp { min = 1e-37 }:log() - prediction)
  end,
})

define("HingeLoss", "hinge", {
  doc = "max(0, margin − target·prediction) for targets −1 and 1.",
  params = { { name = "margin", type = "finite", default = 1 } },
  example = "nn.hinge(nb.tensor{0.5, 2}, nb.tensor{1, 1})  --> 0.25",
  threshold = 0, target = "signs",
  each = function(prediction, target, o) return (o.margin - target * prediction):relu() end,
})

return M
