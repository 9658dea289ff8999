-- SPDX-License-Identifier: MIT
-- The module `inspect`: backpropagation made visible, gathered from its files.
local nb = require "nablua.core"
local native = require "nablua.native"
local registry = require "nablua.registry"

local inspect = {}

registry.define(nb, "nb.", "anomaly", {
  doc = "Whether every result is checked, in backward too: with true, the first NaN or infinity is an error at the " ..
    "operator that made it, which names its operands and their ranges.", signature = "nb.anomaly([on])",
  example = "nb.anomaly()  --> false",
  native.anomaly,
})

registry.add {
  name = "inspect", kind = "topic", value = inspect, doc = "Watch backpropagation happen.",
  example = "type(inspect)  --> \"table\"",
}

return inspect
