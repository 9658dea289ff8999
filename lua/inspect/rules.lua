-- SPDX-License-Identifier: MIT
-- The rules of inspect.diagnose and inspect.check, in the order they are asked.
--
-- A rule is { name =, look = f(p, report), deep = true where only check asks it }.  look examines the patient p
-- (inspect/patient.lua), calls report(place, evidence, remedy) for each finding, and returns true where nothing that
-- comes later can be judged.  Evidence is a clause with the numbers, a remedy a line of Lua in terms of net, x, y (or
-- batches), loss and opt.
local rules = {}

local function rule(name, look)
  rules[#rules + 1] = { name = name, look = look }
end

local function deep(name, look)
  rules[#rules + 1] = { name = name, look = look, deep = true }
end

for _, name in ipairs { "values", "targets", "inputs", "layers", "start", "updates" } do
  require("nablua.inspect.rules." .. name)(rule, deep)
end

return rules
