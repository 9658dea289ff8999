-- SPDX-License-Identifier: MIT
-- Rules of layers: parameters that cannot learn, weights and units in a bad state, layers that undo one another.
local native = require "nablua.native"
local nb = require "nablua.core"
local coverage = require "nablua.optim.coverage"
local measure = require "nablua.inspect.measure"
local patient = require "nablua.inspect.patient"
local text = require "nablua.inspect.text"

local expression, kinds, reinit = patient.expression, patient.kinds, patient.reinit
local weights_before = patient.weights_before

local own = {}

local function rule(name, look)
  own[#own + 1] = { name, look }
end

rule("frozen layer", function(p, report)
  for path, m in p.net:named_modules() do
    for _, field in ipairs { "weight", "bias" } do
      local w = rawget(m, field)
      local frozen = nb.is_tensor(w) and w.is_leaf and not w.requires_grad and (w.dtype == "f32" or w.dtype == "f64")
      -- Where the optimizer leaves it out, too, it is frozen on purpose.
      if frozen and not (p.checks and p.opt and not coverage.holds(p.opt, w)) then
        local e = expression(path .. "." .. field)
        report(path, ("%s does not require grad: it will not learn"):format(e), e .. ".requires_grad = true")
      end
    end
  end
end)

rule("parameters beside the optimizer", function(p, report)
  local missing, count = {}, 0
  if p.opt then missing, count = coverage.missing(p.net, p.opt) end
  if missing[1] then
    report(missing[1], ("%s is none of the optimizer's parameters; %s"):format(missing[1],
      coverage.sentence(missing, count)), ("opt = optim.SGD(net:parameters(), {lr=%s})"):format(tostring(p.opt.lr)))
  end
end)

rule("unused parameter", function(p, report)
  if not p.backward then return end
  for path, w in p.net:named_parameters() do
    if not w.grad then
      report(path, ("%s got no gradient: the loss does not depend on it"):format(path),
        expression(path) .. ".requires_grad = false")
    end
  end
end)

-- All rows alike, so that all units stay alike.
local function rows_apart(t)
  return nb.no_grad(function()
    local rows = t:detach():reshape(#t, -1)
    return (rows - rows[{ { 1, 1 }, nb.ALL }]):abs():max():item()
  end)
end

rule("symmetric weights", function(p, report)
  for k, w in ipairs(p.weights or {}) do
    local t = w.tensor
    if #t > 1 and t:numel() > #t and rows_apart(t) == 0 then
      -- Equal weights whose gradients differ part in the first step: those of the last layer, and what zeros begin.
      local g = t.grad
      local parts = g and rows_apart(g) > 1e-3 * measure.rms(g) and (k == #p.weights or p.checks)
      if not parts then
        report(w.layer, ("all %d units of %s have the same weights (%s): they get the same gradient and stay alike")
          :format(#t, w.path, text.number(t:detach():reshape(-1)[1]:item())),
          ("nn.init.xavier_uniform(%s)"):format(expression(w.path)))
        return true
      end
    end
  end
end)

rule("exploding values", function(p, report)
  local before = math.max(measure.rms(p.x:to("f64")), 1e-3)
  for _, layer in ipairs(p.layers) do
    local w = layer.module.weight
    if nb.is_tensor(w) and w:dim() >= 2 and layer.std > 0 and layer.kind ~= "Embedding" then
      local fan = w:numel() / #w
      local size = measure.rms(w)
      if size > 8 * math.sqrt(2 / fan) then
        report(layer.path, ("the weights of %s have size %s where √(2/%d) = %s keeps values in range; its output " ..
          "has standard deviation %s"):format(layer.path, text.number(size), fan, text.number(math.sqrt(2 / fan)),
          text.number(layer.std)), reinit(layer.path))
        return true
      end
      if layer.std > 1e3 * before then
        report(layer.path, ("the output of %s has standard deviation %s"):format(layer.path, text.number(layer.std)),
          reinit(layer.path))
        return true
      end
    end
  end
end)

-- Where all samples look alike to a layer, half of its units are off at the start and nothing is wrong; of a few units
-- more of them by chance.
local function too_many_off(layer)
  local share = #layer.dead / math.max(layer.units, 1)
  return share >= (layer.units >= 16 and 0.7 or 0.9)
end

rule("dead ReLUs", function(p, report)
  for _, layer in ipairs(kinds(p, { ReLU = true })) do
    if #p.x >= 8 and too_many_off(layer) then
      local shown = table.concat(layer.dead, ", ", 1, math.min(#layer.dead, 8)) .. (#layer.dead > 8 and ", …" or "")
      local w = weights_before(p, layer.path)
      local lines = {}
      if w then
        lines[1] = reinit(w.path)
        if nb.is_tensor(w.module.bias) then
          lines[2] = ("nn.init.constant(%s.bias, 0)"):format(expression(w.path))
        end
      end
      report(layer.path, ("%d of %d units are 0 for all %d samples: units %s"):format(#layer.dead, layer.units, #p.x,
        shown), table.concat(lines, "; "))
    end
  end
end)

rule("saturated units", function(p, report)
  for i, layer in ipairs(kinds(p, { Tanh = true, Sigmoid = true })) do
    local last = p.layers[#p.layers].path == layer.path
    if layer.saturated and layer.saturated > 0.5 and not (last and i > 1) then
      local w = weights_before(p, layer.path)
      report(layer.path, ("%.0f %% of the outputs of %s are at its ends, where its derivative is below %s"):format(
        layer.saturated * 100, layer.kind, layer.kind == "Tanh" and "0.02" or "0.01"),
        w and reinit(w.path, "xavier_uniform") or "x = x / x:abs():max()")
      return
    end
  end
end)

rule("vanishing gradients", function(p, report)
  if not p.backward or #(p.weights or {}) < 3 then return end
  local first, last
  for _, w in ipairs(p.weights) do
    if w.grad then
      first = first or w
      last = w
    end
  end
  if not first or first == last or last.grad == 0 or measure.rms(last.tensor) == 0 then return end
  local ratio = first.grad / last.grad
  if ratio > 1e-3 then return end
  local shrinking = kinds(p, { Sigmoid = true, Tanh = true })
  local names, list = {}, {}
  for _, layer in ipairs(shrinking) do
    if layer.path ~= p.layers[#p.layers].path then names[layer.kind], list[#list + 1] = true, layer end
  end
  local remedy = "net:apply(function(m) if m.weight and m.weight:dim() > 1 then " ..
    "nn.init.kaiming_normal(m.weight) end end)"
  if #list > 0 then
    local edits, flat = {}, true
    for i, layer in ipairs(list) do
      edits[i] = expression(layer.path) .. " = nn.ReLU()"
      flat = flat and layer.kind == list[1].kind and layer.path:match("^%d+$")
    end
    if flat and #list > 2 then
      edits = { ("for i = 1, #net - 1 do if net[i]:kind() == %q then net[i] = nn.ReLU() end end"):format(list[1].kind) }
    end
    remedy = table.concat(edits, "; ") .. "; " .. remedy
  end
  report(first.layer, ("the gradient of %s is %s of that of %s (%s against %s)%s"):format(first.path,
    text.number(ratio), last.path, text.number(first.grad), text.number(last.grad),
    names.Sigmoid and "; σ' is at most ¼ in each of " ..
      #list .. " layers" or ""), remedy)
end)

-- ---- layers that undo one another ----

local PASSES = { Dropout = true, Identity = true }

rule("no activation between layers", function(p, report)
  local from = {}  -- a tensor's id → the Linear layer that made it
  for _, layer in ipairs(p.layers) do
    local before = layer.enters and from[layer.enters]
    if before and (p.uses or {})[before.made] ~= 1 then before = nil end  -- what else takes it may be what it is for
    if before and layer.kind == "Linear" then
      local inner = before.module.out_features
      if inner >= math.min(before.module.in_features, layer.module.out_features) and inner > 1 then
        local flat = before.path:match("^%d+$") and layer.path:match("^%d+$")
        report(layer.path, ("layers %s and %s are linear with nothing between: together they can do no more than " ..
          "one Linear(%d, %d)"):format(before.path, layer.path, before.module.in_features, layer.module.out_features),
          flat and ("%s = nn.Sequential{ nn.ReLU(), %s }"):format(expression(layer.path), expression(layer.path)) or
          "print(net)  -- and put an activation such as :relu() between them in its forward")
      end
    elseif before and PASSES[layer.kind] then
      from[layer.leaves] = before
    end
    if layer.kind == "Linear" then from[layer.leaves] = layer end
  end
end)

rule("too much dropout", function(p, report)
  for _, layer in ipairs(kinds(p, { Dropout = true })) do
    local e = expression(layer.path)
    if layer.module.p > 0.8 then
      report(layer.path, ("%s drops %.0f %% of its inputs: little gets through"):format(layer.path,
        100 * layer.module.p), e .. ".p = 0.2")
    elseif nb.is_tensor(p.output) and layer.leaves == native.id(p.output) and layer.module.p > 0 then
      report(layer.path, ("%s drops parts of the net's answer itself: no weight can learn around that"):format(
        layer.path), e .. " = nn.Identity()")
    end
  end
end)

-- ---- samples that see one another ----

local SEQUENCES_FIRST = { RNN = true, LSTM = true, GRU = true, MultiheadAttention = true,
  TransformerEncoderLayer = true, TransformerDecoderLayer = true }

-- Whether dimension 1 may be the places of a sequence rather than samples.
local function may_be_time(p)
  if p.batches then return false end
  for _, m in p.net:named_modules() do
    if SEQUENCES_FIRST[m:kind()] and not m.batch_first then return true end
  end
  return false
end

-- How far the answer to sample `at` moves when all others are sample `other`; nil where there is no such answer.
local function moved_by_others(p, at, other)
  local x, n = p.x, #p.x
  local places = nb.full({ n }, other, { dtype = "i64" })
  places[at] = at
  local a, b = patient.answer(p, x), patient.answer(p, x:index_select(1, places))
  if not a or not b or a:dim() == 0 or #a ~= n then return nil end
  return (a[at] - b[at]):abs():max():item(), a:abs():max():item()
end

rule("samples mix", function(p, report)
  local x = p.x
  if p.broken or x:dim() < 2 or #x < 4 or #p.y ~= #x or may_be_time(p) then return end
  for _, at in ipairs { 1, #x } do
    local apart, size = moved_by_others(p, at, #x + 1 - at)
    if apart and apart > 1e-3 * math.max(size, 1e-6) then
      report("net", ("the answer to sample %d changes by %s when the samples around it are others: dimension 1, the " ..
        "batch, is taken for something else"):format(at, text.number(apart)), "print(net)  -- look for batch_first, " ..
        "a softmax or a mean over dimension 1, and a view that mixes it")
      return
    end
  end
end)

rule("same answer to all samples", function(p, report)
  local output, last = p.output, nil
  if p.broken or p.found > 0 or not nb.is_tensor(output) or output:dim() == 0 or #output ~= #p.x or #p.x < 2 then
    return
  end
  for _, w in ipairs(p.weights or {}) do last = w end
  if not last or measure.rms(last.tensor) == 0 or p.x:eq(p.x[{ { 1, 1 } }]):all():item() then return end
  local o = output:detach():to("f64")
  if (o - o[{ { 1, 1 } }]):abs():max():item() > 1e-6 * math.max(measure.rms(o), 1e-12) then return end
  report("net", ("all %d samples get the same answer, whatever x is: x does not come through"):format(#p.x),
    ("print(inspect.step(net, %s, %s, {loss=loss}))"):format(p.names.x, p.names.y))
  return true
end)

return function(add)
  for _, r in ipairs(own) do add(r[1], r[2]) end
end
