-- SPDX-License-Identifier: MIT
-- MurmurHash2 (Austin Appleby), 32 bits: by it clients of the debugger know cells.
local M = 0x5bd1e995
local MASK = 0xffffffff

return function(text, seed)
  local h = (seed ~ #text) & MASK
  local at, left = 1, #text
  while left >= 4 do
    local k = ("<I4"):unpack(text, at) * M & MASK
    k = (k ~ k >> 24) * M & MASK
    h = (h * M & MASK) ~ k
    at, left = at + 4, left - 4
  end
  if left >= 3 then h = h ~ text:byte(at + 2) << 16 end
  if left >= 2 then h = h ~ text:byte(at + 1) << 8 end
  if left >= 1 then h = (h ~ text:byte(at)) * M & MASK end
  h = (h ~ h >> 13) * M & MASK
  return h ~ h >> 15
end
