-- SPDX-License-Identifier: MIT
-- What an undefined global in an error's message was meant to be.
local options = require "nablua.options"
local registry = require "nablua.registry"
local session = require "nablua.session.native"

-- The name of the library's that ends so: Linear is nn.Linear.
local function of_library(name)
  local _, _, found = registry.find(name)
  for _, entry in ipairs(found or {}) do
    if entry.name:match("^%l[%w_.]+$") and entry.value ~= nil then return entry.name end
  end
end

-- One of the user's, or a global of the library: of short names only those that begin alike.
local function of_user(name)
  local names = {}
  local function see(candidate)
    if type(candidate) == "string" and candidate:match("^%a") and #candidate > 1 and
        (#name > 5 or candidate:sub(1, 1):lower() == name:sub(1, 1):lower()) then
      names[#names + 1] = candidate
    end
  end
  for kept in next, session.kept do see(kept) end
  for global in next, _G do see(global) end
  table.sort(names)
  return #name > 2 and #name < 60 and options.nearest(name, names)
end

-- The message with the nearest name, where it is of an undefined global; else nil.
return function(message)
  local name = message:match("a nil value %(global '([%a_][%w_]*)'%)$")
  local near = name and (of_library(name) or of_user(name))
  return near and ("%s; did you mean '%s'?"):format(message, near)
end
