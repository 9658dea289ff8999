-- SPDX-License-Identifier: MIT
-- What entries of optimizers share: their commonest parameters, and steps of their rules.
local nb = require "nablua.core"

-- define(name, spec) makes an optimizer of its entry, is_optimizer(x) tells one, schedules are what makes schedules:
-- the module optim and its file of schedules fill these in.
local parts = { define = false, is_optimizer = false, schedules = false }

function parts.lr(default)
  return { name = "lr", type = "non-negative", default = default, doc = "learning rate" }
end
parts.weight_decay = { name = "weight_decay", type = "non-negative", default = 0, doc = "times w, added to gradients" }
function parts.eps(default)
  return { name = "eps", type = "non-negative", default = default, doc = "keeps the divisor from 0" }
end
parts.betas = { name = "betas", type = "two fractions", default = { 0.9, 0.999 },
  doc = "shares of the old mean of gradients and of the old mean of squares" }

function parts.decayed(g, p, rate)
  return rate ~= 0 and g + p * rate or g
end

-- A remembered tensor, zeros at first.
function parts.remembered(m, name, p)
  if not m[name] then m[name] = nb.zeros_like(p:detach()) end
  return m[name]
end

parts.one_step = "local w = nb.tensor({3}, {requires_grad=true}); (w * w):sum():backward(); " ..
  "optim.%s({w}, {%s}):step(); return w  --> {%s}"

return parts
