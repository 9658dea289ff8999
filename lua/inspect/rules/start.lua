-- SPDX-License-Identifier: MIT
-- Rules of the loss at the start, against that of guessing: ln K, or the spread of the targets.
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local patient = require "nablua.inspect.patient"
local measure = require "nablua.inspect.measure"
local text = require "nablua.inspect.text"

local expression, number = patient.expression, text.number

local BINARY = { BCELoss = true, BCEWithLogitsLoss = true }
local CLASSES = { CrossEntropyLoss = true, NLLLoss = true }
local REGRESSION = { MSELoss = true, L1Loss = true, HuberLoss = true }

-- What a cross-entropy is where all classes are as likely: ln K, and K; nil where the loss is none.
local function chance(p)
  local z, y = p.logits, p.targets
  if not nb.is_tensor(z) or z:numel() == 0 then return nil end
  if module.is(p.loss) and p.loss.reduction and p.loss.reduction ~= "mean" then return nil end
  local nn = require "nablua.nn"
  local function is(f) return nb.no_grad(function()
    local ok, J = pcall(f, z, y)
    return ok and math.abs(J:item() - p.value) <= 1e-3 * math.abs(p.value)
  end) end
  local K = z:dim() > 0 and z:size(z:dim() == 1 and 1 or 2) or 1
  if CLASSES[p.kind] and (module.is(p.loss) or K > 1 and is(nn.cross_entropy) or is(nn.nll)) then
    return math.log(K), K
  end
  if BINARY[p.kind] and (module.is(p.loss) or is(nn.bce_with_logits) or is(nn.bce)) then return math.log(2), 2 end
end

local function last_weights(p)
  local last
  for _, layer in ipairs(p.layers) do
    local w = layer.module.weight
    if nb.is_tensor(w) and w:dim() >= 2 and layer.module ~= p.loss then last = layer end
  end
  return last
end

local function shrink_last(last, factor)
  return ("nb.no_grad(function() %s.weight:mul_(%.2g) end)"):format(expression(last.path), factor)
end

local function look_at_chance(p, report)
  local guess, K
  if p.value and p.found == 0 then guess, K = chance(p) end
  if not guess or p.value <= 2 * guess + 2 then return end
  local spread = measure.rms(p.logits:detach():to("f64"))
  local last = last_weights(p)
  report(last and last.path or "loss", ("the loss is %s, but ln %d = %s where the net takes all classes to be as " ..
    "likely: its outputs, of size %s, are sure and wrong"):format(number(p.value), K, number(guess), number(spread)),
    last and shrink_last(last, 1 / spread) or "print(net(x):stats())")
end

-- How far single numbers of y lie from the mean of their column, and the largest mean.
local function spread_of(y)
  local d = y:to("f64")
  if d:dim() < 2 then d = d:reshape(-1, 1) end
  d = d:reshape(#d, -1)
  local mean = d:mean(1, { keepdim = true })
  return measure.rms(d - mean), mean:abs():max():item()
end

local function look_at_scale_of_targets(p, report)
  if p.broken or not REGRESSION[p.kind] or not p.value or p.found > 0 or #p.y < 2 then return end
  local y, name = (p.all or p).y, p.names.y
  local spread, mean = spread_of(y)
  local output = nb.is_tensor(p.output) and measure.rms(p.output:detach():to("f64")) or 0
  if spread > 20 and output < spread / 4 or mean / 10 > math.max(spread, 2) and output < mean / 4 then
    report("y", ("the targets have mean %s and standard deviation %s, the net's outputs size %s: the steps go into " ..
      "getting there"):format(number(y:to("f64"):mean():item()), number(spread), number(output)),
      ("%s = (%s - %s:mean()) / %s:std()"):gsub("%%s", name))
  elseif spread > 0 and spread < 1e-3 and mean < 1e-2 and output > 10 * spread then
    report("y", ("the targets have standard deviation %s, the net's outputs size %s: what is to be learned is lost " ..
      "in the noise of its steps"):format(number(spread), number(output)),
      ("%s = (%s - %s:mean()) / %s:std()"):gsub("%%s", name))
  elseif p.kind == "MSELoss" and p.value > 30 * spread ^ 2 and output > 10 * math.max(spread + mean, 1) then
    local last = last_weights(p)
    report(last and last.path or "loss", ("the loss is %s, but %s where the net says the targets' mean: its " ..
      "outputs, of size %s, are %s times the targets' spread"):format(number(p.value), number(spread ^ 2),
      number(output), number(output / math.max(spread, 1e-12))),
      last and shrink_last(last, math.max(spread, 1e-3) / output) or
      "print(net(x):stats())")
  end
end

return function(rule)
  rule("unscaled targets", look_at_scale_of_targets)
  rule("loss far above chance", look_at_chance)
end
