-- SPDX-License-Identifier: MIT
-- Rules of values that are not finite, and of programs that do not run.
local nb = require "nablua.core"
local patient = require "nablua.inspect.patient"
local text = require "nablua.inspect.text"

local expression = patient.expression

local function first_bad(t)
  return nb.no_grad(function()
    local d = t:detach():to("f64")
    return (d:isnan() | d:isinf()):sum():item()
  end)
end

return function(rule)
  rule("NaN", function(p, report)
    for _, name in ipairs { "x", "y" } do
      local bad = first_bad(p[name])
      if bad > 0 then
        report(name, ("%s holds %d values that are not finite, of %d"):format(name, bad, p[name]:numel()),
          ("%s = nb.where(%s:isnan() | %s:isinf(), 0, %s)"):gsub("%%s", p.names[name]))
        return true
      end
    end
    for path, w in p.net:named_parameters() do
      local bad = first_bad(w)
      if bad > 0 then
        report(path, ("%s holds %d values that are not finite, of %d"):format(path, bad, w:numel()),
          w:dim() >= 2 and ("nn.init.kaiming_normal(%s)"):format(expression(path)) or
            ("nn.init.constant(%s, 0)"):format(expression(path)))
        return true
      end
    end
    for _, layer in ipairs(p.layers) do
      if layer.bad > 0 then
        report(layer.path, ("the output of %s %s is the first with values that are not finite: %d"):format(layer.path,
          layer.kind, layer.bad), "nb.anomaly(true)  -- the next run stops at the operator that makes them")
        return true
      end
    end
    if p.value and (p.value ~= p.value or math.abs(p.value) == math.huge) then
      report("loss", ("the loss is %s while the net's output is finite: it takes log 0, or overflows"):format(
        text.number(p.value)),
        "loss = nn.BCEWithLogitsLoss()  -- or nn.CrossEntropyLoss(): from logits, without log of 0")
      return true
    end
  end)
end
