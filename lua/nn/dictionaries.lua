-- SPDX-License-Identifier: MIT
-- Containers by name, and of tensors.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"

local M = {}

-- The names of a table's entries, sorted: the order in which they become fields.
local function names_of(where, given)
  if type(given) ~= "table" or getmetatable(given) then
    native.raise(("%s: takes a table {name = ..., ...}, got %s"):format(where, options.describe(given)))
  end
  local names = {}
  for name in pairs(given) do
    if type(name) ~= "string" then
      native.raise(("%s: names must be strings, got %s"):format(where, options.describe(name)))
    end
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local function as_parameter(where, name, t)
  if not nb.is_tensor(t) or not t.is_leaf then
    native.raise(("%s: entry %s must be a tensor that is no result of a computation, got %s"):format(where, name,
      options.describe(t)))
  end
  if t.dtype ~= "f32" and t.dtype ~= "f64" then
    native.raise(("%s: entry %s must be f32 or f64 to require grad, got %s"):format(where, name, t.dtype))
  end
  t.requires_grad = true
  return t
end

local function no_forward(what, how)
  return function() native.raise(("%s has no forward; %s"):format(what, how)) end
end

M.ModuleDict = module.define("nn.ModuleDict", {
  doc = "Modules by name for a forward of your own: dict.name, dict[\"name\"]; more are added by assigning.",
  signature = "nn.ModuleDict{name=module, ...}", see = { "nn.ModuleList" },
  example = "nn.ModuleDict{up=nn.Linear(2, 4), down=nn.Linear(4, 2)}.up.out_features  --> 4",
  init = function(self, given)
    for _, name in ipairs(names_of("nn.ModuleDict", given or {})) do
      if not module.is(given[name]) then
        native.raise(("nn.ModuleDict: entry %s must be a module, got %s"):format(name, options.describe(given[name])))
      end
      self[name] = given[name]
    end
  end,
  forward = no_forward("ModuleDict", "call its modules: dict.name(x)"),
})

M.ParameterList = module.define("nn.ParameterList", {
  doc = "A list of tensors that learn; list[i] is the i-th, #list their number.",
  signature = "nn.ParameterList{tensor, ...}", list = true, see = { "nn.ModuleList" },
  example = "#nn.ParameterList{nb.zeros(2), nb.ones(3)}:parameters()  --> 2",
  init = function(self, given)
    if given ~= nil and (type(given) ~= "table" or getmetatable(given)) then
      native.raise("nn.ParameterList: takes a list of tensors, got " .. options.describe(given))
    end
    for i, t in ipairs(given or {}) do self[i] = as_parameter("nn.ParameterList", tostring(i), t) end
  end,
  forward = no_forward("ParameterList", "use its tensors: list[i]"),
})

M.ParameterDict = module.define("nn.ParameterDict", {
  doc = "Tensors that learn, by name.", signature = "nn.ParameterDict{name=tensor, ...}", see = { "nn.ModuleDict" },
  example = "nn.ParameterDict{scale=nb.ones(3)}.scale.requires_grad  --> true",
  init = function(self, given)
    for _, name in ipairs(names_of("nn.ParameterDict", given or {})) do
      self[name] = as_parameter("nn.ParameterDict", name, given[name])
    end
  end,
  forward = no_forward("ParameterDict", "use its tensors: dict.name"),
})

return M
