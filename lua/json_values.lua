-- SPDX-License-Identifier: MIT
-- Values that JSON has and Lua has not.
local native = require "nablua.native"
local options = require "nablua.options"

local values = {}

-- Stands for null in what is decoded, and makes one where it is encoded.
values.null = setmetatable({}, { __tostring = function() return "null" end })

local list = {}

-- The table as a list, also where it is empty.
function values.list(t)
  if type(t) ~= "table" then native.raise("array: takes a table, got " .. options.describe(t)) end
  return setmetatable(t, list)
end

function values.is_list(t)
  return getmetatable(t) == list
end

return values
