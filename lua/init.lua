-- SPDX-License-Identifier: MIT
-- The module `nablua`: what `require "nablua"` returns.
local nb = require "nablua.core"
local json = require "nablua.json"
local registry = require "nablua.registry"

nb.null, nb.array = json.null, json.list
require "nablua.tensor"
require "nablua.einsum"
require "nablua.operator"
require "nablua.files"
nb.progress = require("nablua.progress").progress
nb.pretty = require("nablua.display").pretty
nb.help = require("nablua.help").help
nb.nn = registry.late "nablua.nn"
nb.optim = registry.late "nablua.optim"
nb.data = registry.late "nablua.data"
nb.plot = registry.late "nablua.plot"
nb.inspect = registry.late "nablua.inspect"
nb.ui = registry.late "nablua.ui"
local runs = registry.late "nablua.run"
function nb.run(...) return runs.new(...) end
function nb.compare(...) return runs.compare(...) end
nb.terminal = registry.late "nablua.terminal"
require "nablua.compile"
require "nablua.environment"

registry.add {
  name = "nb", kind = "topic", value = nb, doc = "Tensors, operators and gradients.",
  example = "nb.tensor{1, 2} + 1  --> {2, 3}", see = { "nn", "optim", "data", "plot", "tensor" },
}

return nb
