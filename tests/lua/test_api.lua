-- SPDX-License-Identifier: MIT
-- Every promised name exists, can be called, and is documented with an example that runs.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local registry = require "nablua.registry"
local names = require "api_names"

local T = {}

local net = nb.nn.Linear(1, 1)
local opt = nb.optim.SGD(net:parameters())
local homes = { nb = nb, distributions = nb.distributions, d = nb.distributions.Normal(0, 1),
  transforms = nb.data.transforms, metrics = nb.nn.metrics, metric = nb.nn.metrics.Accuracy(),
  nn = nb.nn, init = nb.nn.init, prune = nb.nn.prune, optim = nb.optim, data = nb.data, t = native.methods, net = net,
  opt = opt, schedule = nb.optim.StepLR(opt, { step_size = 1 }), plot = nb.plot, inspect = nb.inspect, dist = nb.dist,
  p = nb.plot.curve { 1 } }

-- What the name names: nb.relu, nn.init.constant, t:item; nil for a field, which only a tensor has.
local function value_of(name)
  local home, last = name:match("([^.:]+)[.:]([^.:]+)$")
  return homes[home] and homes[home][last]
end

local function is_callable(v)
  local meta = getmetatable(v)
  return type(v) == "function" or (type(meta) == "table" and meta.__call ~= nil)
end

local function run(example)
  local env = setmetatable({ nb = nb, nn = nb.nn, optim = nb.optim, data = nb.data, plot = nb.plot,
    inspect = nb.inspect, dist = nb.dist }, { __index = _G })
  local code = example:match("^(.-)%s*%-%->") or example
  local chunk = load("return " .. code, "example", "t", env) or assert(load(code, "example", "t", env))
  chunk()
end

local function check(name)
  local value = value_of(name)
  local entry = registry.find(name)
  -- A method of an operator shares the function's entry.
  if not entry or entry.name ~= name then entry = value ~= nil and registry.find(value) or nil end
  assert(entry, "is not in the registry")
  assert(entry.name:match("[^.:]+$") == name:match("[^.:]+$"), "is documented as " .. entry.name)
  assert(entry.kind == "field" or entry.kind == "topic" or is_callable(value), "cannot be called")
  assert(entry.doc and #entry.doc > 5, "has no doc")
  assert(entry.example, "has no example")
  run(entry.example)
end

function T.test_every_promised_name_is_there()
  local failures, n = {}, 0
  for _, group in ipairs(names) do
    for prefix in group[1]:gmatch("[^|]+") do
      for last in group[2]:gmatch("%S+") do
        n = n + 1
        local ok, err = pcall(check, prefix .. last)
        if not ok then failures[#failures + 1] = ("%s%s: %s"):format(prefix, last, tostring(err)) end
      end
    end
  end
  lu.assertEquals(#failures, 0, "\n" .. table.concat(failures, "\n"))
  lu.assertTrue(n > 250)
end

return T
