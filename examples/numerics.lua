-- SPDX-License-Identifier: MIT
-- "Numerical issues to be considered": naive against stable softmax and cross-entropy, cancellation, first NaNs.
local nb = require "nablua"
local nn = nb.nn

local function show(name, t)
  local text = tostring(t):gsub("\n", "  ")
  if t:numel() == 1 then text = t:isnan():item() and "nan" or ("%.10g"):format(t:item()) end
  print("  " .. name .. (" "):rep(22 - utf8.len(name)) .. text)
end

print "Softmax of large scores: e^1000 overflows; with the largest score taken off first it cannot."
local z = nb.tensor { 1000, 1001, 1002 }
show("e^z / Σ e^z", z:exp() / z:exp():sum())
show("z:softmax()", z:softmax(1))

print "\nIts logarithm: log(softmax) takes log 0 where log_softmax is exact."
local far = nb.tensor { 0, 200 }
show("log(softmax(z))", far:softmax(1):log())
show("z:log_softmax()", far:log_softmax(1))

print "\nBinary cross-entropy at a logit of 40 with target 0, where 1 − σ(40) is 0 in f32:"
local logit, target = nb.tensor { 40 }, nb.tensor { 0 }
local p = logit:sigmoid()
show("−log(1 − σ(z))", -(1 - p):log())
show("bce_with_logits", nn.bce_with_logits(logit, target))

print "\nAnd its gradient, σ(z) − y, at a logit of −120 with target 1:"
local w = nb.tensor({ -120 }, { requires_grad = true })
show("of −log σ(z)", nb.grad(-w:sigmoid():log():sum(), w))
show("of bce_with_logits", nb.grad(nn.bce_with_logits(w, nb.ones(1)), w))

print "\nCancellation: the variance of numbers around 10000 as E[x²] − E[x]² in f32, and as E[(x − E[x])²]:"
nb.seed(1)
local x = nb.randn(1000) + 10000
show("E[x²] − E[x]²", x:square():mean() - x:mean():square())
show("var", x:var({ correction = 0 }))

print "\nIn f32 a small number beside a large one is lost: 10⁸ + 1 − 10⁸."
show("f32", nb.tensor { 1e8 } + 1 - 1e8)
show("f64", nb.tensor({ 1e8 }, { dtype = "f64" }) + 1 - 1e8)

print "\nWhere the first NaN is born: nb.anomaly stops there, names the operator, its operands and the line."
nb.anomaly(true)
local ok, message = pcall(function()
  local guess = nb.tensor { 1, 0.5 }
  return -(1 - guess):log():mean()
end)
nb.anomaly(false)
print("  " .. (ok and "nothing" or message))
