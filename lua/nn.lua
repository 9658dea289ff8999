-- SPDX-License-Identifier: MIT
-- The module `nn`: layers, losses, their initial values and the training loop, gathered from their files.
local native = require "nablua.native"
local module = require "nablua.nn.module"
local registry = require "nablua.registry"

local nn = registry.home "nablua.nn"
nn.init = require "nablua.nn.init"

registry.define(nn, "nn.", "module", {
  signature = "nn.module(name, init)", see = { "net:parameters", "nn.Sequential" },
  doc = "Makes a class of modules: init(self, ...) stores layers and tensors in fields, the method forward that you " ..
    "define computes.  A table with doc, params, init and forward takes the place of init for a documented layer.",
  example = [[
local Block = nn.module("Block", function(self, n) self.fc = nn.Linear(n, n) end)
function Block:forward(x) return x + self.fc(x):relu() end
return Block(3)(nb.ones(2, 3)).shape  --> {2, 3}]],
  module.define,
})

registry.define(nn, "nn.", "is_module", {
  doc = "Whether a value is a module.", signature = "nn.is_module(x)", example = "nn.is_module(nn.ReLU())  --> true",
  module.is,
})

registry.add {
  name = "nn", kind = "topic", value = nn, doc = "Layers, losses and the training loop.",
  example = "nn.Sequential{ nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1) }(nb.zeros(1, 2)).shape  --> {1, 1}",
}
registry.add {
  name = "nn.init", kind = "topic", value = nn.init, doc = "Functions that fill tensors with their first values.",
  example = "nn.init.constant(nb.zeros(2), 3)  --> {3, 3}",
}

nn.metrics = registry.late "nablua.nn.metrics"

-- Help lists these files' layers in this order.
local parts, helpers = { "linear", "convolution", "pooling", "normalization", "containers", "activations", "recurrent",
  "attention", "transformer", "losses", "gradients", "hooks" }, { "init", "module", "modes", "shared", "cells",
  "reduction", "metrics" }

for _, part in ipairs(parts) do
  for name, value in pairs(require("nablua.nn." .. part)) do nn[name] = value end
end
for name, value in pairs(require "nablua.fit") do nn[name] = value end

-- All other files of nn/ are read when somebody asks for a name that the first ones do not have.
local known = {}
for _, list in ipairs { parts, helpers } do
  for _, part in ipairs(list) do known[part] = true end
end
package.preload["nablua.nn.others"] = function()
  registry.home "nablua.nn.others"
  for _, name in ipairs(native.source_names()) do
    local part = name:match "^nablua%.nn%.([^.]+)$"
    if part and not known[part] then
      for key, value in pairs(require(name)) do nn[key] = value end
    end
  end
  return nn
end
registry.late("nablua.nn.others", nn)

return nn
