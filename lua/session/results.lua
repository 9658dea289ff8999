-- SPDX-License-Identifier: MIT
-- The values of inputs as globals _1, _2 ...: the last ones, as long as together they take no more than a share of
-- memory.  `_` is the last one in any case.
local native = require "nablua.native"
local nb = require "nablua.core"

local results = {}

local MOST, SHARE = 1000, 1 / 4
local DEPTH, ENTRIES = 3, 1000  -- of tables, whose tensors are looked for

-- What was kept, in order; the values weakly: who says _3 = nil wants the memory back.
local kept, first, last, total = {}, 1, 0, 0

-- About how much a value keeps alive: its text, its tensors, and those in plain tables.
local function bytes_of(v, depth, left)
  if nb.is_tensor(v) then return native.kept_bytes(v) end
  if type(v) == "string" then return #v end
  if type(v) ~= "table" or depth == 0 or getmetatable(v) then return 0 end
  local bytes = 0
  for _, item in next, v do
    left.entries = left.entries - 1
    if left.entries < 0 then break end
    bytes = bytes + 16 + bytes_of(item, depth - 1, left)
  end
  return bytes
end

local function drop()
  local entry = kept[first]
  if rawequal(rawget(_G, entry.name), entry.held.value) then rawset(_G, entry.name, nil) end
  total = total - entry.bytes
  kept[first] = nil
  first = first + 1
end

-- Makes it the global _<number>.
function results.keep(number, value)
  local name = "_" .. number
  local entry = { name = name, bytes = bytes_of(value, DEPTH, { entries = ENTRIES }),
    held = setmetatable({ value = value }, { __mode = "v" }) }
  rawset(_G, name, value)
  last, total = last + 1, total + entry.bytes
  kept[last] = entry
  local limit = SHARE * nb.memory().limit
  while first < last and (last - first >= MOST or total > limit) do drop() end
end

return results
