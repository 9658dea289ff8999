-- SPDX-License-Identifier: MIT
-- Rules of the loss: does it fit the targets, the net's last layer and the numbers that come out.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local patient = require "nablua.inspect.patient"
local text = require "nablua.inspect.text"

local expression, range, number = patient.expression, patient.range, text.number

local BINARY = { BCELoss = true, BCEWithLogitsLoss = true }
local CLASSES = { CrossEntropyLoss = true, NLLLoss = true }
local REGRESSION = { MSELoss = true, L1Loss = true, HuberLoss = true }

-- ---- targets by themselves ----

-- The distinct numbers of y where they are at most `most`, in order, and how many there are of each; else nil.
local function distinct(y, most)
  local values, _, counts = y:reshape(-1):unique()
  if #values > most then return nil end
  return values:totable(), counts:totable()
end

local function is_whole(t)
  local d = t:to("f64")
  return (d - d:floor()):abs():max():item() == 0
end

-- Whether these are the numbers of classes: 1..K (or 0..K−1), all of them about as often.
local function are_classes(y)
  if not is_whole(y) then return nil end
  local values, counts = distinct(y, 20)
  if not values or #values < 3 or y:numel() < 10 * #values then return nil end
  for k, v in ipairs(values) do
    if v ~= values[1] + k - 1 then return nil end
  end
  if values[1] ~= 0 and values[1] ~= 1 then return nil end
  local least, largest = math.huge, 0
  for _, n in ipairs(counts) do least, largest = math.min(least, n), math.max(largest, n) end
  if largest > 3 * least then return nil end
  return #values, values[1]
end

-- The labels do not lie where the loss wants them.
local function look_at_labels(p, report)
  local y, name = p.y, p.names.y
  local low, high = range(y)
  if BINARY[p.kind] and (low < -1e-6 or high > 1 + 1e-6) then
    local remedy = ("%s = %s:clamp(0, 1)"):format(name, name)
    if low == 1 and high == 2 then
      remedy = ("%s = %s:to(\"f32\") - 1"):format(name, name)
    elseif low >= -1 and high <= 1 then
      remedy = ("%s = (%s:to(\"f32\") + 1) / 2"):format(name, name)
    elseif low >= 0 then
      remedy = ("%s = %s / %s"):format(name, name, high)
      if is_whole(y) and high <= 20 then remedy = "loss = nn.CrossEntropyLoss()  -- with a score for each class" end
    end
    report("y", ("%s takes targets from 0 to 1, but these go from %s to %s%s"):format(p.kind, number(low),
      number(high), is_whole(y) and low == 1 and high == 2 and ": they count from 1" or ""), remedy)
    return true
  end
  local output = p.output
  if CLASSES[p.kind] and nb.is_tensor(output) and output:dim() >= 1 and is_whole(y) and y:dim() < output:dim() then
    local K = output:size(output:dim() == 1 and 1 or 2)
    if low < 1 and p.broken then
      report("y", ("%s takes class numbers from 1 to %d, but these go from %s to %s%s"):format(p.kind, K, number(low),
        number(high), low == 0 and ": they count from 0" or ""), ("%s = %s + %d"):format(name, name,
        math.tointeger(1 - low) or 1))
      return true
    elseif high > K and p.broken then
      local last = patient.last_layer(p)
      report("y", ("%s takes class numbers from 1 to %d, as many as the net has outputs, but these go to %s"):format(
        p.kind, K, number(high)), last and last.kind == "Linear" and
        ("%s = nn.Linear(%d, %d)"):format(expression(last.path), last.module.in_features, math.tointeger(high) or K) or
        ("print(%s:unique())"):format(name))
      return true
    end
  end
  if p.kind == "CrossEntropyLoss" and p.broken and nb.is_tensor(output) and output:dim() == 2 and
    options.shape(y) == options.shape(output) and low == 0 and high == 1 and is_whole(y) then
    local labels = y:to("f64"):sum(2)
    local at = labels:ne(1):to("i64"):argmax():item()
    report("y", ("CrossEntropyLoss takes one class a sample, but these are several at once: sample %d has %s of %d")
      :format(at, number(labels[at]:item()), output:size(2)), "loss = nn.BCEWithLogitsLoss()")
    return true
  end
  if p.kind == "HingeLoss" and (low < -1 or high > 1 or low > -1 and low == 0) then
    report("y", ("HingeLoss takes targets −1 and 1, but these go from %s to %s"):format(number(low), number(high)),
      ("%s = nb.where(%s:eq(%s), 1.0, -1.0)"):format(name, name, high))
    return true
  end
end

-- ---- the last layer ----

local TWICE = {
  CrossEntropyLoss = { Softmax = "softmax", LogSoftmax = "softmax", Sigmoid = "softmax" },
  BCEWithLogitsLoss = { Sigmoid = "σ", Softmax = "σ" },
}
local BOUNDED = { ReLU = "no logit can be negative", Tanh = "no logit lies beyond −1 and 1" }
-- What computes the same loss from what such a layer gives.
local FROM_WHAT_IT_GIVES = {
  Softmax = { CrossEntropyLoss = "loss = function(p, y) return nn.nll(p:clamp{min=1e-7}:log(), y) end" },
  LogSoftmax = { CrossEntropyLoss = "loss = nn.NLLLoss()" },
  Sigmoid = { BCEWithLogitsLoss = "loss = nn.BCELoss()" },
}
local GIVES = { Sigmoid = { 0, 1 }, Tanh = { -1, 1 }, ReLU = { 0, math.huge }, Softmax = { 0, 1 } }

-- What gave the scores: its kind, its path where it is a layer, how it is called, and whether the loss itself did it.
local function source(p)
  local last = patient.last_layer(p)
  local kind = p.maker and p.maker.layer
  local by_last = last and nb.is_tensor(p.output) and last.leaves == native.id(p.output)
  if p.maker and not kind and not p.maker.direct then return nil end
  if last and nb.is_tensor(p.output) and (not p.maker or kind == last.kind or not kind and by_last) then
    return last.kind, last.path, "layer " .. last.path
  end
  if by_last then return kind, nil, "the loss's own operator before it", true end
  return kind, nil, "the net's last operator"
end

local function look_at_last_layer(p, report)
  if p.broken then
    if p.broken:find("predictions must be probabilities", 1, true) then
      report("loss", "nn.BCELoss takes probabilities from 0 to 1, but the net's last layer gives other numbers",
        "loss = nn.BCEWithLogitsLoss()")
      return true
    end
    return
  end
  local kind, path, called, in_loss = source(p)
  if not kind then return end
  local remedy = in_loss and ("loss = nn.%s()"):format(p.kind) or path and expression(path) .. " = nn.Identity()" or
    (FROM_WHAT_IT_GIVES[kind] or {})[p.kind] or
    ("print(net)  -- and return from its forward what goes into %s"):format(p.maker and p.maker.name or kind)
  local place = in_loss and "loss" or path or "net"
  if p.kind == "BCELoss" and (kind == "Linear" or kind == "Conv2d" or p.maker and p.maker.role == "product") then
    report("loss", ("BCELoss takes probabilities from 0 to 1, but nothing keeps %s there"):format(path and
      called .. ", a " .. kind .. "," or "the net's output"), "loss = nn.BCEWithLogitsLoss()")
    return true
  end
  local own = (TWICE[p.kind] or {})[kind]
  if own then
    report(place, ("%s works on logits and applies its own %s, but %s already is %s"):format(p.kind, own, called, kind),
      remedy)
    return true
  end
  if (p.kind == "CrossEntropyLoss" or p.kind == "BCEWithLogitsLoss") and BOUNDED[kind] then
    report(place, ("%s works on logits, numbers of any sign and size, but %s is %s: %s"):format(p.kind, called, kind,
      BOUNDED[kind]), remedy)
    return true
  end
  if p.kind == "NLLLoss" and p.output:max():item() > 1e-6 then
    report("loss", ("NLLLoss takes log-probabilities, which are at most 0, but the net gives up to %s"):format(
      number(p.output:max():item())), "loss = nn.CrossEntropyLoss()")
    return true
  end
  if REGRESSION[p.kind] and GIVES[kind] then
    local low, high = range(p.y)
    if low < GIVES[kind][1] - 0.01 or high > GIVES[kind][2] + 0.01 then
      report(place, ("the targets reach from %s to %s, but %s only gives %s to %s"):format(number(low), number(high),
        kind, number(GIVES[kind][1]), number(GIVES[kind][2])), remedy)
      return true
    end
  end
end

local function look_at_output(p, report)
  if p.broken or not nb.is_tensor(p.output) or p.output:dim() < 2 then return end
  local K = p.output:size(2)
  if p.kind == "CrossEntropyLoss" and K == 1 and p.y:dim() < p.output:dim() then
    local last = patient.last_layer(p)
    report(last and last.path or "net", "CrossEntropyLoss compares the scores of classes, but the net has one " ..
      "output: the softmax of one number is 1, and the loss is 0 whatever it says",
      "loss = function(z, y) return nn.bce_with_logits(z, (y - 1):to(\"f32\"):view(z.shape)) end")
    return true
  end
  local kind = source(p)
  if kind == "Softmax" and p.output:size(-1) == 1 then
    report("net", "Softmax over a single output gives 1, whatever goes in", "net[#net] = nn.Sigmoid()")
    return true
  end
end

-- Numbers of classes taken as quantities.
local function look_at_classes(p, report)
  if p.broken or not REGRESSION[p.kind] then return end
  local y = (p.all or p).y
  local output = p.output
  if not nb.is_tensor(output) or y:dim() > 2 or y:dim() == 2 and y:size(2) > 1 then return end
  local K, first = are_classes(y)
  if not K and p.y.dtype == "i64" then
    local values = distinct(y, 20)
    if values and #values > 1 and #values * 4 <= y:numel() then K, first = #values, values[1] end
  end
  if not K then return end
  report("loss", ("the targets are the whole numbers %s to %s, class numbers as it seems, but %s takes them as " ..
    "quantities, between which lies something"):format(number(first), number(first + K - 1), p.kind),
    K == 2 and ("loss = function(z, y) return nn.bce_with_logits(z, (y - %d):to(\"f32\"):view(z.shape)) end"):format(
      math.tointeger(first) or 0) or
    ("loss = nn.CrossEntropyLoss()  -- with %d outputs, and y = y:view(-1):to(\"i64\")%s"):format(K,
      first == 0 and " + 1" or ""))
  return true
end

-- ---- targets, and what J makes of them ----

-- Whether the loss is the same with other targets.
local function ignores(p, y)
  local random = { native.random_state() }
  local ok, other = pcall(function() return nb.no_grad(function() return p.loss(p.output, y) end) end)
  native.random_state(random[1], random[2])
  return ok and nb.is_tensor(other) and other:item() == p.value
end

local function look_at_constant_labels(p, report)
  if p.y:numel() < 2 or p.x:dim() == 0 or #p.y < 2 or patient.is_judged(p) then return end
  local low, high = range(p.y)
  if low == high and not module.is(p.loss) and not p.broken and ignores(p, p.y + 1) then return end  -- a stopgap
  local of_all_low, of_all_high = range(p.batches and p.batches.tensors[2] or p.all and p.all.y or p.y)
  if low == high and of_all_low < of_all_high then
    report("y", ("all %d targets of the first batch are %s, but those of all %d samples go from %s to %s: the set " ..
      "is sorted, and each batch unlearns the one before"):format(p.y:numel(), number(low), p.batches and
      p.batches.count or #p.all.y, number(of_all_low), number(of_all_high)), p.batches and "batches.shuffle = true" or
      "print(y)")
  elseif low == high then
    report("y", ("all %d targets are %s: there is nothing to tell apart"):format(p.y:numel(), number(low)),
      "print(y:stats())  -- no change of the net helps: look at where y is read; where it is cut from a sorted " ..
      "set, take data.batches{x, y, shuffle=true}")
  end
end

-- Labels in an order: far fewer changes between neighbours than chance would make.
local function look_at_order(p, report)
  local b = p.batches
  if not b or b.shuffle or p.found > 0 or b.count <= b.size or b.count < 30 then return end
  local y = b.tensors[2]
  if y:numel() ~= b.count or not is_whole(y) then return end
  y = y:reshape(-1)[{ { 1, math.min(b.count, 20000) } }]
  local values, counts = distinct(y, 50)
  if not values or #values < 2 then return end
  local n, same = #y, 0
  for _, c in ipairs(counts) do same = same + (c / n) ^ 2 end
  local changes = y[{ { 2, n } }]:ne(y[{ { 1, n - 1 } }]):sum():item()
  local expected = (n - 1) * (1 - same)
  if changes >= 0.2 * expected then return end
  report("y", ("neighbours in the set differ in class %d times where %.0f would be chance: it is sorted, and " ..
    "batches in its order each hold a part of the classes"):format(changes, expected), "batches.shuffle = true")
end

local function look_at_balance(p, report)
  local y = (p.all or p).y
  if p.found > 0 or not (BINARY[p.kind] or CLASSES[p.kind]) or not is_whole(y) or y:numel() ~= #y or #y < 50 then
    return
  end
  local values, counts = distinct(y, 1000)
  if not values or #values < 2 then return end
  local most, n = 1, #y
  for k, c in ipairs(counts) do
    if c > counts[most] then most = k end
  end
  local share = counts[most] / n
  if share < 0.95 then return end
  local name = p.names.y
  report("y", ("%.1f %% of the targets are %s: a net that always says so is right that often, and learns to"):format(
    100 * share, number(values[most])), p.kind == "BCEWithLogitsLoss" and
    ("loss = nn.BCEWithLogitsLoss{pos_weight=nb.tensor{%.3g}}"):format(values[most] == 0 and share / (1 - share) or
      (1 - share) / share) or CLASSES[p.kind] and nb.is_tensor(p.output) and p.output:dim() == 2 and
    ("loss = nn.CrossEntropyLoss{weight=1 / nb.stack{%s}:clamp{min=1}}"):format((function()
      local parts = {}
      for k = 1, math.min(p.output:size(2), 12) do parts[k] = ("%s:eq(%d):to(\"f32\"):sum()"):format(name, k) end
      return table.concat(parts, ", ")
    end)()) or ("print(%s:unique())"):format(name))
end

-- The loss without the targets: J must change with them.
local function look_at_dependence(p, report)
  if p.broken or p.found > 0 or module.is(p.loss) or #p.y < 3 or not nb.is_tensor(p.output) then return end
  if p.output:dim() == 0 or #p.output ~= #p.y then return end
  local reversed = p.y:flip(1)
  if reversed:eq(p.y):all():item() then return end
  if options.shape(p.x) == options.shape(p.y) and p.x:eq(p.y):all():item() then return end  -- there are no targets
  local output = p.output:detach()
  if (output - output:flip(1)):abs():max():item() <= 1e-4 * output:abs():max():item() then return end
  if not ignores(p, reversed) then return end
  if p.output:numel() == p.y:numel() and options.shape(p.output) ~= options.shape(p.y) then
    report("loss", ("the loss stays %s when the targets are those of other samples: the net gives %s and y is %s, " ..
      "so that each answer meets every target"):format(number(p.value), options.shape(p.output), options.shape(p.y)),
      ("%s = %s:view(%s)"):format(p.names.y, p.names.y, table.concat({ "-1", table.unpack(p.output.shape, 2) }, ", ")))
    return true
  end
  report("loss", ("the loss stays %s when the targets are those of other samples: it does not look at y"):format(
    number(p.value)), "loss = nn.MSELoss()  -- or another that compares the net's output with y")
  return true
end

-- Whether the loss rises for each sample with the score of its own class, and how many there are; where y are classes
-- and the loss is none that has a name.
local function rises_with_the_right_score(p)
  local z, y = p.output, p.y
  if p.kind or not nb.is_tensor(z) or z:dim() ~= 2 or z:size(2) < 2 or y:numel() ~= #z or #z < 8 then return false end
  local low, high = range(y)
  if not is_whole(y) or low < 1 or high > z:size(2) or low == high then return false end
  local random = { native.random_state() }
  local ok, g = pcall(function()
    local scores = z:detach():clone()
    scores.requires_grad = true
    return nb.grad(p.loss(scores, y), scores)
  end)
  native.random_state(random[1], random[2])
  return ok and g:gather(2, y:to("i64"):reshape(-1, 1)):gt(0):all():item()
end

local function look_at_sign(p, report)
  if not p.broken and not module.is(p.loss) and rises_with_the_right_score(p) then
    report("loss", ("the loss rises with the score of the right class, for each of %d samples: minimised, it " ..
      "teaches what is wrong"):format(#p.y), "loss = nn.CrossEntropyLoss()")
    return true
  end
  if p.broken or not p.kind or module.is(p.loss) or p.value >= 0 then return end
  report("loss", ("the loss is %s, below 0, where %s never is: it is minimised, and so the error grows"):format(
    number(p.value), p.kind), ("loss = nn.%s()"):format(p.kind))
  return true
end

-- ---- programs that stop ----

-- A program that stops says why.
local function look_at_running(p, report)
  if not p.broken then return end
  if not p.checks then error(p.broken, 0) end
  local sentence = p.broken:match("^[^\n]*"):gsub("^[^:]*:%d+: ", "")
  report(p.output and "loss" or "net", sentence, p.output and ("print(net(%s):size(), %s:size())"):format(p.names.x,
    p.names.y) or ("print(inspect.summary(net, %s))"):format(p.names.x))
  return true
end

return function(rule, deep)
  rule("labels outside the loss's range", look_at_labels)
  rule("loss/activation mismatch", look_at_last_layer)
  rule("does not run", look_at_running)
  rule("no gradient", function(p, report)
    if p.backward then return end
    report("loss", "the loss depends on no parameter that requires grad: it was cut off by :detach(), :item(), " ..
      "nb.no_grad, or by an operator without derivative such as argmax", "print(net(x).requires_grad)")
    return true
  end)
  rule("one output for classes", look_at_output)
  rule("wrong sign", look_at_sign)
  rule("class numbers as quantities", look_at_classes)
  rule("constant labels", look_at_constant_labels)
  rule("sorted samples", look_at_order)
  deep("one class dominates", look_at_balance)
  rule("targets not used", look_at_dependence)
end
