-- SPDX-License-Identifier: MIT
-- JSON, as comms send it and notebooks are kept.
local native = require "nablua.native"
local nb = require "nablua.core"

local values = require "nablua.json_values"

local json = {}
json.null, json.list = values.null, values.list

-- ---- encoding ----

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c)
  return escapes[c] or ("\\u%04x"):format(c:byte())
end

local encode

-- `who` begins the sentences of errors, "comm" say.
local function encode_table(t, depth, who)
  if depth > 100 then native.raise(who .. ": the data is nested too deeply, or contains itself") end
  local parts = {}
  if #t > 0 or values.is_list(t) then
    for i = 1, #t do parts[i] = encode(t[i], depth, who) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  local keys, by_text = {}, {}
  for key, value in pairs(t) do
    keys[#keys + 1] = tostring(key)
    by_text[tostring(key)] = value
  end
  table.sort(keys)
  for i, key in ipairs(keys) do parts[i] = encode(key, depth, who) .. ":" .. encode(by_text[key], depth, who) end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode(v, depth, who)
  if v == nil or v == json.null then return "null" end
  if nb.is_tensor(v) then v = v:totable() end
  local kind = type(v)
  if kind == "boolean" then return tostring(v) end
  if kind == "number" then
    if math.type(v) == "integer" then return ("%d"):format(v) end
    return (v ~= v or v == math.huge or v == -math.huge) and "null" or ("%.17g"):format(v)
  end
  if kind == "string" then
    if not utf8.len(v) then
      native.raise(who .. ": a string that is no UTF-8 cannot be sent as JSON; send bytes as a buffer or a picture")
    end
    return '"' .. v:gsub('[%c"\\]', escape) .. '"'
  end
  if kind == "table" then return encode_table(v, depth + 1, who) end
  native.raise(("%s: the data holds a %s, which cannot be sent"):format(who, kind))
end

function json.encode(v, who)
  return encode(v, 0, who or "json")
end

-- ---- decoding ----

local function fail(at, what)
  error(("byte %d: %s"):format(at, what), 0)
end

local plain = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function unescape(s, at)
  s = s:gsub("\\u([dD][89abAB]%x%x)\\u([dD][c-fC-F]%x%x)", function(high, low)
    return utf8.char(0x10000 + ((tonumber(high, 16) - 0xD800) << 10) + tonumber(low, 16) - 0xDC00)
  end)
  return (s:gsub("\\(.)(%x?%x?%x?%x?)", function(c, hex)
    if c ~= "u" then return (plain[c] or fail(at, "a bad escape")) .. hex end
    if #hex < 4 then fail(at, "a bad escape") end
    local code = tonumber(hex, 16)
    return utf8.char((code < 0xD800 or code > 0xDFFF) and code or 0xFFFD)
  end))
end

local function string_at(text, at)
  local i = at + 1
  while true do
    local stop = text:find('["\\]', i) or fail(at, "a string that does not end")
    if text:byte(stop) == 34 then return unescape(text:sub(at + 1, stop - 1), at), stop + 1 end
    i = stop + 2
  end
end

local function skip(text, at)
  return text:find("[^ \t\r\n]", at) or #text + 1
end

local value_at

local function items_at(text, at, close, item)
  at = skip(text, at + 1)
  if text:sub(at, at) == close then return at + 1 end
  while true do
    at = skip(text, item(at))
    local c = text:sub(at, at)
    if c == close then return at + 1 end
    if c ~= "," then fail(at, "expected a comma or " .. close) end
    at = skip(text, at + 1)
  end
end

local words = { { "true", true }, { "false", false }, { "null", json.null } }

function value_at(text, at, depth)
  if depth > 200 then fail(at, "nested too deeply") end
  local c, result = text:sub(at, at), {}
  if c == '"' then return string_at(text, at) end
  if c == "[" then
    local after = items_at(text, at, "]", function(i)
      local item, next_at = value_at(text, i, depth + 1)
      result[#result + 1] = item
      return next_at
    end)
    return json.list(result), after
  end
  if c == "{" then
    local after = items_at(text, at, "}", function(i)
      if text:sub(i, i) ~= '"' then fail(i, "expected a name in quotes") end
      local key, colon = string_at(text, i)
      colon = skip(text, colon)
      if text:sub(colon, colon) ~= ":" then fail(colon, "expected a colon") end
      local item, next_at = value_at(text, skip(text, colon + 1), depth + 1)
      result[key] = item
      return next_at
    end)
    return result, after
  end
  for _, word in ipairs(words) do
    if text:sub(at, at + #word[1] - 1) == word[1] then return word[2], at + #word[1] end
  end
  local number = text:match("^-?%d+%.?%d*[eE]?[+-]?%d*", at)
  if not number or not tonumber(number) then fail(at, "expected a value") end
  return tonumber(number), at + #number
end

-- The value of a text; nil and what is wrong with it.
function json.decode(text)
  local ok, value, at = pcall(function()
    return value_at(text, skip(text, 1), 0)
  end)
  if ok and skip(text, at) <= #text then return nil, ("byte %d: something behind the value"):format(skip(text, at)) end
  if ok then return value end
  return nil, value
end

return json
