-- SPDX-License-Identifier: MIT
-- Lua values as JSON text.
local native = require "nablua.native"
local nb = require "nablua.core"

local json = {}

local DEPTH = 100
local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c)
  return escapes[c] or ("\\u%04x"):format(c:byte())
end

local encode

local function encode_table(t, where, depth)
  if depth > DEPTH then native.raise(where .. ": the data is nested too deeply, or contains itself") end
  local parts = {}
  if #t > 0 then
    for i = 1, #t do parts[i] = encode(t[i], where, depth) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for key, value in pairs(t) do
    parts[#parts + 1] = encode(tostring(key), where, depth) .. ":" .. encode(value, where, depth)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode(v, where, depth)
  if nb.is_tensor(v) then v = v:totable() end
  local kind = type(v)
  if v == nil then return "null" end
  if kind == "boolean" then return tostring(v) end
  if kind == "number" then
    if math.type(v) == "integer" then return ("%d"):format(v) end
    return (v ~= v or v == math.huge or v == -math.huge) and "null" or ("%.17g"):format(v)
  end
  if kind == "string" then
    if not utf8.len(v) then
      native.raise(where .. ": a string that is no UTF-8 cannot be sent as JSON; send bytes as a buffer or a picture")
    end
    return '"' .. v:gsub('[%c"\\]', escape) .. '"'
  end
  if kind == "table" then return encode_table(v, where, depth + 1) end
  native.raise(("%s: the data holds a %s, which cannot be sent as JSON"):format(where, kind))
end

-- A table whose list part is not empty is an array; what is no finite number is null.  `where` begins errors.
function json.encode(v, where)
  return encode(v, where, 0)
end

return json
