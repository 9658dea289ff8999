-- SPDX-License-Identifier: MIT
-- Modules made of modules, and those that only pass on or reshape.
local native = require "nablua.native"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

local M = {}

M.Identity = module.define("nn.Identity", {
  doc = "Passes its input on unchanged.", params = {}, leaf = true,
  example = "nn.Identity()(nb.tensor{1, 2})  --> {1, 2}",
  forward = function(_, ...) return ... end,
})

M.Lambda = module.define("nn.Lambda", {
  doc = "A function as a layer.",
  params = { { name = "f", type = "function", doc = "called with the layer's input" } },
  example = "nn.Lambda(function(x) return x * 2 end)(nb.tensor{1, 2})  --> {2, 4}",
  forward = function(self, ...) return self.f(...) end,
})

M.Flatten = module.define("nn.Flatten", {
  doc = "Joins dimensions start_dim to end_dim: without arguments all but the first, which counts the samples.",
  params = {
    { name = "start_dim", type = "integer", default = 2, positional = true },
    { name = "end_dim", type = "integer", default = -1, positional = true },
  },
  example = "nn.Flatten()(nb.ones(5, 2, 3)).shape  --> {5, 6}", leaf = true,
  forward = function(self, x) return x:flatten(self.start_dim, self.end_dim) end,
})

-- Stores the modules of a list as 1, 2, ...; functions become Lambda layers.
local function adopt(self, where, ...)
  local list, first = table.pack(...), (...)
  if list.n == 1 and type(first) == "table" and not getmetatable(first) then
    list = first
    list.n = nil
    for key in pairs(list) do
      if math.type(key) ~= "integer" or key < 1 or key > #list then
        native.raise(("%s: takes a list of modules, but there is an entry %s"):format(where, options.describe(key)))
      end
    end
  end
  for i = 1, list.n or #list do
    local m = list[i]
    if type(m) == "function" then m = M.Lambda(m) end
    if not module.is(m) then
      local meta = type(m) == "table" and getmetatable(m)
      local hint = meta and meta.__name == "module class" and (", the %s; call it to make a module"):format(tostring(m))
      native.raise(("%s: entry %d must be a module, got %s%s"):format(where, i, options.describe(m), hint or ""))
    end
    self[i] = m
  end
end

M.Sequential = module.define("nn.Sequential", {
  doc = "Modules one after the other, each fed with the one before's result; net[i] is the i-th, net[-1] the last.",
  signature = "nn.Sequential{module, ...}", list = true, chain = true,
  example = "nn.Sequential{ nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2) }(nb.ones(4, 3)).shape  --> {4, 2}",
  init = function(self, ...) adopt(self, "nn.Sequential", ...) end,
  forward = function(self, x)
    for i = 1, #self do x = self[i](x) end
    return x
  end,
})

M.ModuleList = module.define("nn.ModuleList", {
  doc = "A list of modules for a forward of your own; list[i] is the i-th, #list their number.",
  signature = "nn.ModuleList{module, ...}", list = true,
  example = "#nn.ModuleList{ nn.Linear(3, 8), nn.Linear(8, 2) }  --> 2",
  init = function(self, ...) adopt(self, "nn.ModuleList", ...) end,
  forward = function() native.raise("ModuleList has no forward; call its modules: list[i](x)") end,
})

M.Dropout = module.define("nn.Dropout", {
  doc = "While training, sets elements to 0 with probability p and scales the others by 1/(1 − p); " ..
    "in evaluation passes its input on.",
  params = { { name = "p", type = "fraction", default = 0.5, positional = true, doc = "share of elements dropped" } },
  source = "Srivastava et al. 2014", see = { "net:train", "net:eval" },
  example = "nn.Dropout(0.2):eval()(nb.tensor{1, 2})  --> {1, 2}", leaf = true,
  forward = function(self, x)
    return self.training and shared.dropped(x, self.p) or x
  end,
})

return M
