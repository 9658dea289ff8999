-- SPDX-License-Identifier: MIT
-- Losses beside those of losses.lua: of variances, rates, signs, pairs, margins and sets of labels.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local reduction = require "nablua.nn.reduction"
local shared = require "nablua.nn.shared"

local M = {}

local function define(class_name, function_name, spec) reduction.define(M, class_name, function_name, spec) end
local function define_of(names, class_name, function_name, spec)
  reduction.define_of(M, names, class_name, function_name, spec)
end

local check_same_shape = reduction.check_same_shape

local function margin(default)
  return { name = "margin", type = "finite", default = default }
end

-- The tensor, whose numbers must be at least 0: their negatives are what logarithms of probabilities are.
local function not_negative(where, what, t)
  local ok, negated = pcall(native.within, -t, { kind = "logs" })
  if not ok then native.raise(("%s: %s must be at least 0, and numbers"):format(where, what)) end
  return -negated
end

-- ln(1 + e^x), to the last bit of f64.
local function log_one_plus_exp(x) return nb.softplus(x, 1, 40) end

-- ---- elementwise ----

define("SmoothL1Loss", "smooth_l1", {
  doc = "½d²/beta where |d| < beta, else |d| − ½beta, for d = prediction − target: HuberLoss divided by beta.",
  params = { { name = "beta", type = "non-negative", default = 1, doc = "0: the absolute error" } },
  source = "Girshick 2015", example = "nn.smooth_l1(nb.tensor{1, 4}, nb.tensor{2, 2})  --> 1", target = "any",
  each = function(prediction, target, o)
    local d = (prediction - target):abs()
    if o.beta == 0 then return d end
    local capped = d:clamp { max = o.beta }
    return capped * (d - capped * 0.5) / o.beta
  end,
})

define("PoissonNLLLoss", "poisson_nll", {
  doc = "The negative log-likelihood of counts under a Poisson distribution of rate e^prediction (log_input=false: " ..
    "of rate prediction), without the terms of the target alone unless full.",
  params = {
    { name = "log_input", type = "boolean", default = true, doc = "predictions are logarithms of rates" },
    { name = "full", type = "boolean", default = false, doc = "adds Stirling's formula for ln target! above 1" },
    { name = "eps", type = "positive", default = 1e-8, doc = "added to rates whose logarithm is taken" },
  },
  example = "nn.poisson_nll(nb.tensor{0, 0}, nb.tensor{1, 3})  --> 1", target = "checked",
  each = function(prediction, target, o, where)
    target = not_negative(where, "the target", target)
    local losses = o.log_input and nb.exp(prediction) - target * prediction or
      prediction - target * nb.log(prediction + o.eps)
    if not o.full then return losses end
    local t = target:clamp { min = 1 }
    local stirling = t * nb.log(t) - t + nb.log(t * (2 * math.pi)) * 0.5
    return losses + nb.where(target:gt(1), stirling, 0)
  end,
})

define("SoftMarginLoss", "soft_margin", {
  doc = "ln(1 + e^(−target·prediction)) for targets −1 and 1.", threshold = 0, target = "signs",
  example = "nn.soft_margin(nb.tensor{0, 0}, nb.tensor{-1, 1})  --> 0.693147",
  each = function(prediction, target) return log_one_plus_exp(-target * prediction) end,
})

define("HingeEmbeddingLoss", "hinge_embedding", {
  doc = "For distances of pairs: prediction where the target is 1 (alike), max(0, margin − prediction) where it is −1.",
  params = { margin(1) }, target = "signs",
  example = "nn.hinge_embedding(nb.tensor{0.5, 0.5}, nb.tensor{1, -1})  --> 0.5",
  each = function(prediction, target, o)
    return nb.where(target:gt(0), prediction, nb.relu(o.margin - prediction))
  end,
})

define_of({ "prediction", "target", "var" }, "GaussianNLLLoss", "gaussian_nll", {
  doc = "The negative log-likelihood of targets under normal distributions: ½(ln var + (prediction − target)²/var); " ..
    "var has the prediction's shape, or the last dimension 1 or left out.",
  params = {
    { name = "full", type = "boolean", default = false, doc = "adds ½ ln 2π" },
    { name = "eps", type = "positive", default = 1e-6, doc = "the least variance" },
  },
  source = "Nix and Weigend 1994",
  example = "nn.gaussian_nll(nb.tensor{1, 3}, nb.tensor{1, 1}, nb.tensor{1, 1})  --> 1",
  each = function(where, o, prediction, target, var)
    check_same_shape(where, prediction, target)
    local rows = prediction.shape
    rows[#rows] = nil
    if prediction:dim() > 0 and options.shape(rows) == options.shape(var) then var = var:unsqueeze(-1) end
    local ok, broadcast = pcall(nb.broadcast_to, var, prediction.shape)
    if not ok or var:dim() ~= prediction:dim() then
      native.raise(("%s: var must have shape %s, or 1 for some of its sizes, got %s"):format(where,
        options.shape(prediction), options.shape(var)))
    end
    var = broadcast
    var = not_negative(where, "var", var)
    -- Kept from 0 in value only: the gradient still says where to go.
    var = var + (var:clamp { min = o.eps } - var):detach()
    local losses = (nb.log(var) + nb.squared_error(prediction, target) / var) * 0.5
    return o.full and losses + 0.5 * math.log(2 * math.pi) or losses
  end,
})

-- ---- pairs and triples ----

define_of({ "input1", "input2", "target" }, "MarginRankingLoss", "margin_ranking", {
  doc = "max(0, margin − target·(input1 − input2)): input1 should be the larger where the target is 1, input2 " ..
    "where it is −1.",
  params = { margin(0) },
  example = "nn.margin_ranking(nb.tensor{1, 2}, nb.tensor{3, 1}, nb.tensor{1, 1})  --> 1",
  each = function(where, o, first, second, target)
    check_same_shape(where, first, second)
    check_same_shape(where, first, target)
    return nb.relu(o.margin - shared.within(where, target, { kind = "signs" }) * (first - second))
  end,
})

define_of({ "input1", "input2", "target" }, "CosineEmbeddingLoss", "cosine_embedding", {
  doc = "1 − cos of two vectors where the target is 1, max(0, cos − margin) where it is −1; inputs are batch × " ..
    "features.",
  params = { margin(0) }, see = { "nn.CosineSimilarity" },
  example = "nn.cosine_embedding(nb.tensor{{1, 0}}, nb.tensor{{0, 1}}, nb.tensor{1})  --> 1",
  each = function(where, o, first, second, target)
    check_same_shape(where, first, second)
    if first:dim() ~= 1 and first:dim() ~= 2 or first:dim() ~= target:dim() + 1 or
        first:dim() == 2 and target:size(1) ~= first:size(1) then
      native.raise(("%s: a target for each row of the inputs is needed, got shapes %s and %s"):format(where,
        options.shape(first), options.shape(target)))
    end
    target = shared.within(where, target, { kind = "signs" })
    local tiny = 1e-12  -- added to squared lengths, as PyTorch has it
    local lengths = (first:square():sum(-1) + tiny) * (second:square():sum(-1) + tiny)
    local cosine = (first * second):sum(-1) / nb.sqrt(lengths)
    return nb.where(target:gt(0), 1 - cosine, nb.relu(cosine - o.margin))
  end,
})

define_of({ "anchor", "positive", "negative" }, "TripletMarginLoss", "triplet_margin", {
  doc = "max(0, |anchor − positive| − |anchor − negative| + margin) along the last dimension: what is alike should " ..
    "be nearer by the margin.",
  params = {
    { name = "margin", type = "positive", default = 1 },
    { name = "p", type = "positive", default = 2, doc = "the norm's power" },
    { name = "eps", type = "finite", default = 1e-6, doc = "added to differences" },
    { name = "swap", type = "boolean", default = false,
      doc = "the negative is also compared with the positive, and the nearer of both counts (Balntas et al. 2016)" },
  },
  source = "Schroff, Kalenichenko and Philbin 2015", see = { "nn.PairwiseDistance" },
  example = "nn.triplet_margin(nb.tensor{{0, 0}}, nb.tensor{{0, 0}}, nb.tensor{{3, 4}})  --> 0",
  each = function(where, o, anchor, positive, negative)
    check_same_shape(where, anchor, positive)
    check_same_shape(where, anchor, negative)
    if anchor:dim() == 0 then native.raise(where .. ": the inputs must be vectors or rows of them, got one number") end
    local function distance(a, b) return nb.norm(a - b + o.eps, -1, { p = o.p }) end
    local far = distance(anchor, negative)
    if o.swap then far = nb.minimum(far, distance(positive, negative)) end
    return nb.relu(distance(anchor, positive) - far + o.margin)
  end,
})

-- ---- classes ----

-- Scores of one sample or of several, as rows.
local function rows_of(where, scores)
  if scores:dim() ~= 1 and scores:dim() ~= 2 then
    native.raise(("%s: the prediction must be (batch ×) classes, got shape %s"):format(where, options.shape(scores)))
  end
  return scores:dim() == 1 and scores:unsqueeze(1) or scores
end

define("MultiMarginLoss", "multi_margin", {
  doc = "The mean over the classes k ≠ target of max(0, margin − prediction[target] + prediction[k])^p; targets are " ..
    "class numbers 1..K.",
  params = {
    { name = "p", choices = { 1, 2 }, default = 1 }, margin(1),
    { name = "weight", type = "tensor", optional = true, doc = "a number for each class" },
  },
  source = "Crammer and Singer 2001", elementwise = false, target = "checked",
  example = "nn.multi_margin(nb.tensor{{0, 0}}, nb.tensor{2})  --> 0.5",
  each = function(prediction, target, o, where)
    local scores, single = rows_of(where, prediction), prediction:dim() == 1
    local classes = scores:size(2)
    if target:dim() ~= 1 and not (single and target:dim() == 0) or target:numel() ~= scores:size(1) then
      native.raise(("%s: a target for each row of the prediction is needed, got shapes %s and %s"):format(where,
        options.shape(prediction), options.shape(target)))
    end
    target = shared.within(where, target:view(-1), { kind = "labels", most = classes })
    local right = target:unsqueeze(2)
    local terms = nb.relu(scores - scores:gather(2, right) + o.margin)
    if o.p == 2 then terms = terms:square() end
    if o.weight then
      if o.weight:dim() ~= 1 or o.weight:numel() ~= classes then
        native.raise(("%s: weight must be a vector of %d numbers, one for each class, got shape %s"):format(where,
          classes, options.shape(o.weight)))
      end
      terms = terms * o.weight:index_select(1, target):unsqueeze(2)
    end
    local losses = (terms * (1 - nb.one_hot(target, classes, { dtype = terms.dtype }))):sum(2) / classes
    return single and target:dim() == 0 and losses:squeeze(1) or losses
  end,
})

define("MultiLabelMarginLoss", "multi_label_margin", {
  doc = "The sum over labels j and classes k that are none of max(0, 1 − (prediction[j] − prediction[k])), divided " ..
    "by the number of classes.  Targets have the prediction's shape: the labels 1..K of each sample, then 0.",
  elementwise = true, target = "checked",
  example = "nn.multi_label_margin(nb.tensor{{0, 0, 2}}, nb.tensor{{3, 0, 0}})  --> 0",
  each = function(prediction, target, _, where)
    local scores = rows_of(where, prediction)
    local labels = rows_of(where, target)
    local n, classes = scores:size(1), scores:size(2)
    local counts = labels:eq(0):to("i64"):cumsum(2):eq(0)  -- what stands before the first 0
    labels = shared.within(where, nb.where(counts, labels, 1), { kind = "labels", most = classes })
    -- The labels as a mask over the classes; what does not count goes into a column beside them.
    local column = nb.where(counts, labels, classes + 1)
    local is_label = nb.zeros({ n, classes + 1 }, { dtype = scores.dtype }):scatter(2, column,
      nb.ones({ n, classes }, { dtype = scores.dtype })):narrow(2, 1, classes)
    local margins = nb.relu(1 - scores:gather(2, labels):unsqueeze(3) + scores:unsqueeze(2))
    local losses = (margins * counts:to(scores.dtype):unsqueeze(3) * (1 - is_label):unsqueeze(2)):sum { 2, 3 } / classes
    return prediction:dim() == 1 and losses:squeeze(1) or losses
  end,
})

define("MultiLabelSoftMarginLoss", "multi_label_soft_margin", {
  doc = "The mean over the classes of the binary cross-entropy of σ(prediction) and targets in 0..1.",
  params = { { name = "weight", type = "tensor", optional = true, doc = "a number for each class" } },
  target = "checked", threshold = 0, see = { "nn.BCEWithLogitsLoss" },
  example = "nn.multi_label_soft_margin(nb.tensor{{0, 0}}, nb.tensor{{0, 1}})  --> 0.693147",
  each = function(prediction, target, o, where)
    local losses = reduction.weighted(where, nb.bce_with_logits(prediction, target), o.weight)
    return losses:dim() > 0 and losses:mean(-1) or losses
  end,
})

return M
