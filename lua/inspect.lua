-- SPDX-License-Identifier: MIT
-- The module `inspect`: backpropagation made visible, gathered from its files.
local nb = require "nablua.core"
local native = require "nablua.native"
local explain = require "nablua.inspect.explain"
local registry = require "nablua.registry"

local inspect = {}

local function define(name, entry)
  registry.define(inspect, "inspect.", name, entry)
end

registry.define(nb, "nb.", "anomaly", {
  family = "Gradients",
  doc = "Whether every result is checked, in backward too: with true, the first NaN or infinity is an error at the " ..
    "operator that made it, which names its operands and their ranges.", signature = "nb.anomaly([on])",
  example = "nb.anomaly()  --> false",
  native.anomaly,
})

define("explain", {
  doc = "∂J/∂w as the product of factors along the paths from J to w: symbols, shapes, sizes, and the factor that " ..
    "shrank it.  J's tape must be live (before J:backward, or with retain_graph).  Fields: formula, latex, factors " ..
    "(symbol, shape, norm, gain, :apply(d)), shrank; :value() is the gradient.",
  signature = "inspect.explain(J, w)", see = { "nb.grad" },
  params = { { name = "J", type = "tensor", doc = "the loss, a single number" },
    { name = "w", type = "tensor", doc = "a parameter, or another tensor that J was computed from" } },
  example = [[
local net = nn.Sequential{ nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1) }
local J = nn.bce_with_logits(net(nb.ones(1, 2)), nb.ones(1, 1))
return inspect.explain(J, net[1].weight).formula  --> "∂J/∂W⁽¹⁾ = (ŷ−y)·W⁽²⁾·σ'(z⁽²⁾)·X"]],
  explain.explain,
})

registry.add {
  name = "inspect", kind = "topic", value = inspect, doc = "Watch backpropagation happen.",
  example = "type(inspect)  --> \"table\"",
}

return inspect
