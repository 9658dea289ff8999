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

-- Help lists these files' layers in this order.  Those with names are read when somebody asks for one of them, so that
-- the others cost a small program nothing; a name that is missing here is found with all that is left, below.
local parts = {
  { "linear" },
  { "convolution", "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d" },
  { "pooling", "AdaptiveAvgPool2d AvgPool2d MaxPool2d" },
  { "normalization", "BatchNorm1d BatchNorm2d BatchNorm3d GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d " ..
    "LayerNorm LocalResponseNorm RMSNorm" },
  { "containers" },
  { "activations" },
  { "recurrent", "GRU LSTM RNN" },
  { "attention", "MultiheadAttention" },
  { "transformer", "TransformerEncoder TransformerEncoderLayer" },
  { "losses" },
  { "gradients", "clip_grad_norm clip_grad_value" },
  { "hooks" },
}
local known = { init = true, module = true, shared = true, cells = true, reduction = true, metrics = true }

for _, part in ipairs(parts) do
  local name, names = part[1], part[2]
  known[name] = true
  if names then
    registry.later("nablua.nn." .. name, names, nn)
  else
    for key, value in pairs(require("nablua.nn." .. name)) do nn[key] = value end
  end
end
registry.later("nablua.fit", "fit", nn)

-- All other files of nn/.
package.preload["nablua.nn.others"] = function()
  local all = {}
  for _, name in ipairs(native.source_names()) do
    local part = name:match "^nablua%.nn%.([^.]+)$"
    if part and not known[part] then
      for key, value in pairs(require(name)) do all[key] = value end
    end
  end
  return all
end
registry.later("nablua.nn.others", nil, nn)

return nn
