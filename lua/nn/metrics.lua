-- SPDX-License-Identifier: MIT
-- The module `nn.metrics`: what a net's outputs are judged by, gathered batch by batch; nn.fit takes them by name.
--
-- A metric is a table of its options.  What it has gathered is a table of tensors beside it, so that nn.fit keeps one
-- of the training and one of the validation, and a checkpoint has both: add(self, state, output, target, how) changes
-- it, result(self, state) is the metric's value, join(all, state) adds what another process has gathered, where that is
-- not the sum of all.  `how` has the loss's threshold for a single score, and the target
-- that it ignores.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local M = registry.home "nablua.nn.metrics"

local Metric = {}

local function is_metric(v)
  local meta = type(v) == "table" and getmetatable(v)
  return type(meta) == "table" and meta.methods == Metric
end

local function define(name, short, spec)
  local where = "nn.metrics." .. name
  local meta = { __name = name, __index = Metric, methods = Metric }
  spec.params = spec.params or {}
  function meta.__tostring(self)
    local parts = {}
    for _, p in ipairs(spec.params) do
      local value = self.options[p.name]
      if value ~= p.default then parts[#parts + 1] = p.name .. "=" .. options.show(value) end
    end
    return ("%s(%s)"):format(name, table.concat(parts, ", "))
  end
  registry.define(M, "nn.metrics.", name, {
    kind = "metric", family = "Metrics", doc = spec.doc, example = spec.example, params = spec.params,
    see = { "metric:update", "metric:compute", "nn.fit" }, source = spec.source,
    function(...)
      local given = options.read(where, spec.params, ...)
      return setmetatable({ name = short, spec = spec, options = given, state = {} }, meta)
    end,
  })
  meta.class = M[name]
end

local function check(self, output, target)
  for what, t in pairs { output = output or false, target = target or false } do
    if not nb.is_tensor(t) or t:dim() == 0 then
      native.raise(("%s: the %s must be a tensor of samples, got %s"):format(self.name, what, options.describe(t)))
    end
  end
end

-- Adds a batch to what has been gathered.
function Metric:gather(state, output, target, how)
  check(self, output, target)
  nb.no_grad(self.spec.add, self, state, output:detach(), target, how or {})
end

-- What the gathered comes to; NaN while there is nothing.
function Metric:value_of(state)
  if not next(state) then return 0 / 0 end
  return nb.no_grad(self.spec.result, self, state)
end

local function add_each(all, state)
  for name, value in pairs(state) do
    all[name] = nb.is_tensor(value) and all[name] and all[name] + value or value
  end
end

-- What several have gathered, as if one had.
function Metric:joined(states)
  local all = {}
  for _, state in ipairs(states) do
    local join = next(all) and next(state) and self.spec.join or add_each
    nb.no_grad(join, all, state)
  end
  return all
end

local function method(name, entry)
  entry.name, entry.kind, entry.family, entry.value = "metric:" .. name, "method", "Metrics", entry[1]
  entry[1] = nil
  Metric[name] = registry.add(entry)
end

local two = "local m = nn.metrics.Accuracy(); m:update(nb.tensor{{1, 2}, {3, 0}}, nb.tensor{2, 2}); "

method("update", {
  doc = "Adds a batch: the net's outputs, and the targets.", signature = "metric:update(output, target)",
  example = two .. "return m:compute()  --> 0.5",
  function(self, output, target) self:gather(self.state, output, target) end,
})
method("compute", {
  doc = "The metric of all batches since the last reset.", signature = "metric:compute()",
  example = two .. "return m:compute()  --> 0.5",
  function(self) return self:value_of(self.state) end,
})
method("reset", {
  doc = "Forgets what has been added.", signature = "metric:reset()",
  example = two .. "m:reset(); return m.state  --> {}",
  function(self) self.state = {} end,
})

-- ---- classes ----

-- Guesses and truths as class numbers of all samples that count, and the number of classes: of K scores the largest; of
-- a single score 2 where it is beyond the threshold, of targets 0 and 1 (or −1 and 1).
local function classes_of(self, output, target, how)
  local shape, k = output.shape, 2
  local guess, truth
  if #shape >= 2 and shape[2] > 1 then
    k = shape[2]
    guess = output:argmax(2)
    truth = target:dim() == output:dim() and target:argmax(2) or target
  else
    local threshold = self.options.threshold or how.threshold or 0.5
    local most = target:numel() > 0 and target:abs():max():item() or 0
    if most > 1 then
      native.raise(("%s: a single score needs targets 0 and 1, or -1 and 1, got one of size %g"):format(self.name,
        most))
    end
    guess = output:gt(threshold):to("i64") + 1
    truth = target:gt(target:lt(0):any():item() and 0 or 0.5):to("i64") + 1
  end
  if guess:numel() ~= truth:numel() then
    native.raise(("%s: there must be a target for each output, got shapes %s and %s"):format(self.name,
      options.shape(output), options.shape(target)))
  end
  guess, truth = guess:reshape(-1), truth:reshape(-1):to("i64")
  if how.ignored then
    local counts = truth:ne(how.ignored)
    guess, truth = guess:masked_select(counts), truth:masked_select(counts)
  end
  if truth:numel() > 0 and (truth:min():item() < 1 or truth:max():item() > k) then
    native.raise(("%s: targets must be class numbers from 1 to %d, got %d"):format(self.name, k,
      truth:min():item() < 1 and truth:min():item() or truth:max():item()))
  end
  return guess, truth, k
end

-- Adds to state.counts, K×K: rows are true classes, columns guessed ones.
local function count_pairs(self, state, output, target, how)
  local guess, truth, k = classes_of(self, output, target, how)
  local counts = state.counts or nb.zeros({ k, k }, { dtype = "f64" })
  if counts:size(1) ~= k then
    native.raise(("%s: this batch has %d classes, those before %d"):format(self.name, k, counts:size(1)))
  end
  local places = (truth - 1) * k + guess
  local ones = nb.ones(places.shape, { dtype = "f64" })
  state.counts = (counts:view(k * k):index_add(1, places, ones)):view(k, k)
  state.binary = output:dim() < 2 or output:size(2) == 1
end

define("ConfusionMatrix", "confusion", {
  doc = "How often each class (rows) was taken for each (columns), as a tensor; a single score has two classes.",
  params = { { name = "threshold", type = "finite", optional = true, doc = "of a single score; ½ when left out" } },
  example = [[
local m = nn.metrics.ConfusionMatrix()
m:update(nb.tensor{{2, 1}, {0, 1}, {3, 0}}, nb.tensor{1, 2, 2})
return m:compute()  --> {{1, 0}, {1, 1}}]],
  add = count_pairs,
  result = function(_, state) return state.counts:to("i64") end,
})

local function diagonal(counts)
  return (counts * nb.eye(counts:size(1), { dtype = "f64" })):sum(1)
end

define("Accuracy", "accuracy", {
  doc = "The share of samples whose class is among the top_k largest scores; of a single score, those on the right " ..
    "side of the threshold.",
  params = { { name = "top_k", type = "size", default = 1 },
    { name = "threshold", type = "finite", optional = true, doc = "of a single score; ½ when left out" } },
  example = two .. "return m:compute()  --> 0.5",
  add = function(self, state, output, target, how)
    local k = self.options.top_k
    local right, n
    if k > 1 then
      if output:dim() ~= 2 or output:size(2) < k then
        native.raise(("%s: top_k = %d needs an output of samples × at least %d classes, got shape %s"):format(self.name,
          k, k, options.shape(output)))
      end
      local _, truth = classes_of(self, output, target, {})
      local counts = how.ignored and truth:ne(how.ignored)
      local _, best = output:topk(k, 2)
      right = best:eq(truth:unsqueeze(2)):any(2)
      if counts then right = right & counts end
      n = counts and counts:sum():item() or right:numel()
    else
      local guess, truth = classes_of(self, output, target, how)
      right, n = guess:eq(truth), truth:numel()
    end
    state.right = (state.right or nb.zeros(1, { dtype = "f64" })) + right:sum():item()
    state.n = (state.n or nb.zeros(1, { dtype = "f64" })) + n
  end,
  result = function(_, state) return (state.right / state.n):item() end,
})

-- Precision, recall and F1 of each class: a/b, 0 where b is.
local function ratio(a, b) return nb.where(b:gt(0), a / b:clamp { min = 1e-300 }, 0) end

local averages = { name = "average", choices = { "macro", "micro", "weighted", "none" }, default = "macro",
  doc = "of several classes: all alike, all samples alike, classes by their samples, or a number for each" }

local function averaged(self, state, scores)
  local counts = state.counts
  if state.binary then return scores(diagonal(counts), counts:sum(1), counts:sum(2)):at(2) end
  local how, right, guessed, true_ = self.options.average, diagonal(counts), counts:sum(1), counts:sum(2)
  if how == "micro" then
    return scores(right:sum():view(1), guessed:sum():view(1), true_:sum():view(1)):item()
  end
  local each = scores(right, guessed, true_)
  if how == "none" then return each end
  if how == "weighted" then return ((each * true_):sum() / true_:sum()):item() end
  local seen = (guessed + true_):gt(0):to("f64")  -- a class that neither is nor was guessed does not count
  return ((each * seen):sum() / seen:sum()):item()
end

local function of_classes(name, short, doc, scores, gives)
  define(name, short, {
    doc = doc .. "  Of a single score that of the positive class.",
    params = { averages, { name = "threshold", type = "finite", optional = true,
      doc = "of a single score; ½ when left out" } },
    example = ([[
local m = nn.metrics.%s()
m:update(nb.tensor{0.9, 0.8, 0.4, 0.1}, nb.tensor{1, 0, 1, 0})
return m:compute()  --> %s]]):format(name, gives),
    add = count_pairs,
    result = function(self, state) return averaged(self, state, scores) end,
  })
end

of_classes("Precision", "precision", "Of the samples taken for a class, the share that are of it.",
  function(right, guessed) return ratio(right, guessed) end, "0.5")
of_classes("Recall", "recall", "Of the samples of a class, the share that are taken for it.",
  function(right, _, true_) return ratio(right, true_) end, "0.5")
of_classes("F1Score", "f1", "The harmonic mean of precision and recall.",
  function(right, guessed, true_) return ratio(2 * right, guessed + true_) end, "0.5")

-- ---- scores and numbers ----

-- The share of pairs of a positive and a negative sample in which the positive one has the larger score, equal ones
-- half.
local function area(scores, truth)
  local order = scores:argsort()
  local s, y = scores:index_select(1, order), truth:index_select(1, order)
  local n = s:numel()
  local new = nb.cat({ nb.ones({ 1 }, { dtype = "i64" }), s[{ { 2, n } }]:ne(s[{ { 1, n - 1 } }]):to("i64") }, 1)
  local group = new:cumsum(1)
  local count = group:at(n)
  local function per_group(v) return nb.zeros({ count }, { dtype = "f64" }):index_add(1, group, v) end
  local positive, negative = per_group(y), per_group(1 - y)
  local below = negative:cumsum(1) - negative
  return ((positive * (below + negative / 2)):sum() / (y:sum() * (1 - y):sum())):item()
end

define("AUROC", "auc", {
  doc = "The area under the ROC curve: how often a positive sample has a larger score than a negative one; of K " ..
    "scores the mean over the classes.",
  source = "Hanley and McNeil 1982",
  example = [[
local m = nn.metrics.AUROC()
m:update(nb.tensor{0.1, 0.4, 0.35, 0.8}, nb.tensor{0, 0, 1, 1})
return m:compute()  --> 0.75]],
  add = function(self, state, output, target, how)
    local _, truth, k = classes_of(self, output, target, {})
    local scores = output:to("f64")
    if output:dim() > 2 then
      native.raise(("%s: the output must be samples (× classes), got shape %s"):format(self.name,
        options.shape(output)))
    end
    scores = scores:dim() == 1 and scores:unsqueeze(2) or scores
    if how.ignored then
      local kept = truth:ne(how.ignored):nonzero():view(-1)
      scores, truth = scores:index_select(1, kept), truth:index_select(1, kept)
    end
    local one_hot = k > 2 and nb.one_hot(truth, k, { dtype = "f64" }) or
      scores:size(2) == 2 and nb.one_hot(truth, 2, { dtype = "f64" }) or truth:eq(2):to("f64"):unsqueeze(2)
    state.scores = state.scores and nb.cat({ state.scores, scores }, 1) or scores:clone()
    state.truth = state.truth and nb.cat({ state.truth, one_hot }, 1) or one_hot
  end,
  join = function(all, state)
    for _, name in ipairs { "scores", "truth" } do all[name] = nb.cat({ all[name], state[name] }, 1) end
  end,
  result = function(_, state)
    local sum, n = 0, 0
    if state.scores:size(1) < 2 then return 0 / 0 end
    for c = 1, state.scores:size(2) do
      local a = area(state.scores:select(2, c), state.truth:select(2, c))
      if a == a then sum, n = sum + a, n + 1 end  -- a class of which all or no samples are has none
    end
    return sum / n
  end,
})

define("R2Score", "r2", {
  doc = "1 − Σ(target − output)²/Σ(target − mean)²: the share of the variance that is explained; of several outputs " ..
    "the mean.",
  example = [[
local m = nn.metrics.R2Score()
m:update(nb.tensor{2.5, 0, 2, 8}, nb.tensor{3, -0.5, 2, 7})
return m:compute()  --> 0.948608]],
  add = function(self, state, output, target)
    if options.shape(output) ~= options.shape(target) then
      native.raise(("%s: output and target must have the same shape, got %s and %s"):format(self.name,
        options.shape(output), options.shape(target)))
    end
    local y, x = target:to("f64"):reshape(target:size(1), -1), output:to("f64"):reshape(target:size(1), -1)
    -- Moments about the first batch's mean, so that large targets lose nothing.
    state.about = state.about or y:mean(1)
    y, x = y - state.about, x - state.about
    for name, v in pairs { first = y:sum(1), second = y:square():sum(1), rest = (y - x):square():sum(1) } do
      state[name] = state[name] and state[name] + v or v
    end
    state.n = (state.n or nb.zeros(1, { dtype = "f64" })) + y:size(1)
  end,
  -- Moments about one mean become those about another: Σ(y + d) and Σ(y + d)².
  join = function(all, state)
    local d, n = state.about - all.about, state.n
    all.second = all.second + state.second + state.first * d * 2 + d:square() * n
    all.first, all.rest, all.n = all.first + state.first + d * n, all.rest + state.rest, all.n + n
  end,
  result = function(_, state)
    return (1 - state.rest / (state.second - state.first:square() / state.n)):mean():item()
  end,
})

-- ---- by name ----

local by_name = { precision = "Precision", recall = "Recall", f1 = "F1Score", auc = "AUROC", r2 = "R2Score" }

-- The metric that nn.fit knows by this name; nil where there is none.  "top5" is Accuracy{top_k=5}.
function M.named(name)
  local k = name:match "^top(%d+)$"
  if k and math.tointeger(k) > 0 then return M.Accuracy { top_k = math.tointeger(k) } end
  return by_name[name] and M[by_name[name]]() or nil
end

M.is_metric = is_metric

registry.add {
  name = "nn.metrics", kind = "topic", value = M, doc = "What a net's outputs are judged by, gathered batch by batch.",
  example = "nn.metrics.Accuracy():compute()  --> nan",
}

return M
