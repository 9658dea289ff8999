-- SPDX-License-Identifier: MIT
-- Transforms of pictures as lists of steps that C does, and what is left of them for the evaluator.
--
-- A transform's metatable has steps(options), a list as native.pictures takes it; one that is made of others has
-- parts(options).
local native = require "nablua.native"
local nb = require "nablua.core"

local steps = {}

-- Adds the steps of a transform to `list`, or it itself to `rest` where threads cannot do it, or one before it.
local function add(t, list, rest)
  local meta = getmetatable(t)
  if type(t) == "table" and meta and meta.parts then
    for _, part in ipairs(meta.parts(t.options)) do add(part, list, rest) end
  elseif #rest == 0 and type(t) == "table" and meta and meta.steps then
    local own = meta.steps(t.options)
    table.move(own, 1, #own, #list + 1, list)
  else
    rest[#rest + 1] = t
  end
end

-- The steps of a transform, or nil, and the functions that follow them.
function steps.of(t)
  local list, rest = {}, {}
  if t ~= nil then add(t, list, rest) end
  return list, rest
end

-- What is drawn for pictures is that of a key, which the one stream gives.
function steps.key(list)
  return native.pictures_random(list) and native.pictures_key() or 0
end

-- Does steps on a batch; errors are in the name of `where`.
function steps.apply(where, x, list)
  local plain = nb.no_grad(function() return x:detach():contiguous() end)
  local ok, y = pcall(native.pictures, plain, list, steps.key(list))
  if not ok then native.raise(where .. ": " .. tostring(y):gsub("^[^:]-%.lua:%d+: ", "")) end
  return y
end

return steps
