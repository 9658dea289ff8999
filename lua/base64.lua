-- SPDX-License-Identifier: MIT
-- Bytes as text of 64 letters (RFC 4648), for pages that hold pictures.
local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

-- The letters of every 12 bits.
local pairs_of = {}
for i = 0, 4095 do
  local a, b = i >> 6, i & 63
  pairs_of[i] = LETTERS:sub(a + 1, a + 1) .. LETTERS:sub(b + 1, b + 1)
end

return function(bytes)
  local parts = {}
  for i = 1, #bytes - 2, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local n = a << 16 | b << 8 | c
    parts[#parts + 1] = pairs_of[n >> 12] .. pairs_of[n & 4095]
  end
  local rest = #bytes % 3
  if rest > 0 then
    local a, b = bytes:byte(#bytes - rest + 1, #bytes)
    local n = a << 16 | (b or 0) << 8
    parts[#parts + 1] = rest == 1 and pairs_of[n >> 12] .. "==" or pairs_of[n >> 12] .. pairs_of[n & 4095]:sub(1, 1) ..
      "="
  end
  return table.concat(parts)
end
