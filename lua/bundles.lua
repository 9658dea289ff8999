-- SPDX-License-Identifier: MIT
-- Any Lua value as text for people, tables with their contents, tensors inside them by shape, and as a MIME bundle.
local display = require "nablua.display"
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local bundles = {}

local WIDTH, DEPTH, ENTRIES = 80, 4, 40
local LINES = 12    -- of an object inside a table
local BUDGET = 120  -- entries in all, after which inner tables are only counted

local function key_text(key)
  if type(key) == "string" then
    return key:match("^[%a_][%w_]*$") and key or ("[%q]"):format(key)
  end
  return "[" .. tostring(key) .. "]"
end

local order = { number = 1, string = 2, boolean = 3 }

local function comes_before(a, b)
  local x, y = order[type(a)] or 4, order[type(b)] or 4
  if x ~= y then return x < y end
  if x <= 2 then return a < b end
  return tostring(a) < tostring(b)
end

-- The first keys, at most ENTRIES, beyond the list part: numbers, then names, then the rest; and how many there are.
-- One pass that keeps the first in order: sorting all of a large table would take seconds.
local function other_keys(t, n)
  local keys, count = {}, 0
  for key in next, t do
    if math.type(key) ~= "integer" or key < 1 or key > n then
      count = count + 1
      if #keys < ENTRIES or comes_before(key, keys[ENTRIES]) then
        local low, high = 1, #keys + 1
        while low < high do
          local middle = (low + high) // 2
          if comes_before(key, keys[middle]) then high = middle else low = middle + 1 end
        end
        table.insert(keys, low, key)
        keys[ENTRIES + 1] = nil
      end
    end
  end
  return keys, count
end

local function tensor_text(t)
  if t:dim() == 0 then return tostring(t) end
  if t:dim() == 1 and t:numel() <= 8 then
    local parts = {}
    for i, v in ipairs(t:totable()) do parts[i] = type(v) == "number" and ("%.4g"):format(v) or tostring(v) end
    return "tensor {" .. table.concat(parts, ", ") .. "}"
  end
  return ("tensor %s %s"):format(t.dtype, options.shape(t))
end

-- A function by its signature where it has an entry; of another one in Lua its parameters and where it is.
local function function_text(f)
  local entry = registry.find(f)
  if entry and entry.signature then return "function " .. entry.signature end
  local info = debug.getinfo(f, "Su")
  if info.what == "C" then return tostring(f) end
  local names = {}
  for i = 1, info.nparams do names[i] = debug.getlocal(f, i) end
  if info.isvararg then names[#names + 1] = "..." end
  return ("function(%s)  %s:%d"):format(table.concat(names, ", "), info.short_src, info.linedefined)
end

local to_text

local function table_text(t, indent, depth, path)
  if path[t] then return "<the table itself>" end
  local n = rawlen(t)
  local keys, count = other_keys(t, n)
  if n + count == 0 then return "{}" end
  path.left = path.left or BUDGET
  if depth <= 0 or path.left <= 0 then
    return ("{… %d entr%s}"):format(n + count, n + count == 1 and "y" or "ies")
  end
  path[t] = true
  path.left = path.left - math.min(n, ENTRIES) - #keys
  local parts = {}
  local inner = indent .. "  "
  for i = 1, math.min(n, ENTRIES) do parts[#parts + 1] = to_text(rawget(t, i), inner, depth - 1, path) end
  for _, key in ipairs(keys) do
    parts[#parts + 1] = key_text(key) .. " = " .. to_text(rawget(t, key), inner, depth - 1, path)
  end
  path[t] = nil
  local left = math.max(n - ENTRIES, 0) + count - #keys
  if left > 0 then parts[#parts + 1] = ("… %d more"):format(left) end
  local one_line = "{ " .. table.concat(parts, ", ") .. " }"
  if not one_line:find("\n") and native.width(one_line) + #indent <= WIDTH then return one_line end
  return "{\n" .. inner .. table.concat(parts, ",\n" .. inner) .. "\n" .. indent .. "}"
end

-- C1 controls, and what turns the direction of reading or breaks lines unseen.
local function steers(code)
  return code < 0xa0 or code == 0x61c or code == 0x200e or code == 0x200f or code >= 0x2028 and code <= 0x202e or
    code >= 0x2066 and code <= 0x2069 or code == 0xfeff
end

-- A character beyond ASCII as a terminal may have it: bytes that are none, and those that steer, as Lua writes them.
local function shown_character(piece)
  if utf8.len(piece) ~= 1 then
    return (piece:gsub(".", function(c) return ("\\x%02x"):format(c:byte()) end))
  end
  local code = utf8.codepoint(piece)
  return steers(code) and ("\\u{%x}"):format(code) or nil
end

-- A string as Lua reads it, in one line.
local function quoted(s)
  local text = ("%q"):format(s):gsub("\\\n", "\\n"):gsub("\\9", "\\t")
  return (text:gsub("[\x80-\xff][\x80-\xbf]*", shown_character))
end

function to_text(v, indent, depth, path)
  if nb.is_tensor(v) then return tensor_text(v) end
  if type(v) == "string" then return quoted(v) end
  if type(v) == "table" then
    local meta = getmetatable(v)
    if type(meta) == "table" and meta.__tostring then
      local text = tostring(v)
      local _, lines = text:gsub("\n", "")
      if indent ~= "" and lines > LINES then return text:match("^[^\n]*") .. " …" end
      return (text:gsub("\n", "\n" .. indent))
    end
    return table_text(v, indent, depth, path)
  end
  if type(v) == "function" then return function_text(v) end
  return tostring(v)
end

registry.define(bundles, "nb.", "pretty", {
  doc = "Any value as text: tables with their contents, tensors inside them by shape.", signature = "nb.pretty(x)",
  example = "nb.pretty{1, 2, name = \"x\"}  --> '{ 1, 2, name = \"x\" }'",
  function(...)
    if select("#", ...) == 0 then return "" end
    local v = (...)
    if nb.is_tensor(v) then return tostring(v) end
    return to_text(v, "", DEPTH, {})
  end,
})

local function plain_table(v)
  local meta = getmetatable(v)
  return type(v) == "table" and not (type(meta) == "table" and rawget(meta, "__tostring"))
end

-- A value in one short line.
function bundles.brief(v)
  local text
  if plain_table(v) then
    local n = 0
    for _ in next, v do n = n + 1 end
    text = ("table, %d entr%s"):format(n, n == 1 and "y" or "ies")
  else
    text = to_text(v, "", 1, {})
  end
  return native.fit(text:match("^[^\n]*"), 60)
end

-- ---- bundles ----

local MOST = 15  -- types in a bundle, beside text/plain

local function is_json(mime)
  return mime == "application/json" or mime:find("%+json$")
end

local function type_list(bundle)
  local list = {}
  for mime in pairs(bundle) do list[#list + 1] = mime end
  table.sort(list)
  return table.concat(list, ", ")
end

-- The data of one type, checked; tables as JSON where the type is JSON's.
local function checked(where, mime, data)
  if type(mime) ~= "string" or not mime:find("^[%w.+-]+/[%w.+-]+$") then
    native.raise(("%s: the keys must be MIME types such as text/html, got %s"):format(where, options.describe(mime)))
  end
  if is_json(mime) and (type(data) == "table" or nb.is_tensor(data)) then
    return require("nablua.json").encode(data, where)
  end
  if type(data) ~= "string" then
    native.raise(("%s: %s must be a string%s, got %s"):format(where, mime, is_json(mime) and " or a table" or "",
      options.describe(data)))
  end
  local wrong = is_json(mime) and display.json_error(data)
  if wrong then native.raise(("%s: %s is no JSON: %s"):format(where, mime, wrong)) end
  return data
end

local function plain_of_html(text)
  text = text:gsub("<[sS][ct][rRyY].-</[sS][^>]*>", ""):gsub("<[bB][rR][^>]*>", "\n"):gsub("<[^>]*>", "")
  text = text:gsub("&lt;", "<"):gsub("&gt;", ">"):gsub("&quot;", '"'):gsub("&#39;", "'"):gsub("&nbsp;", " ")
  return (text:gsub("&amp;", "&"))
end

-- Text for who shows no more, from the best of what there is.
local function plain_of(bundle)
  local words = bundle["text/markdown"] or bundle["text/latex"] or bundle["application/json"] or
    bundle["text/html"] and plain_of_html(bundle["text/html"])
  if words then return words end
  local types = type_list(bundle)
  local mime = types:match("^[^,]*")
  return mime == "" and "" or ("<%s, %d bytes>"):format(types, #bundle[mime])
end

-- A table of MIME types as the bundle that is shown: checked, JSON encoded, with text/plain, and metadata as JSON.
local function finished(where, given, metadata)
  local bundle, count = {}, 0
  for mime, data in next, given do
    bundle[mime], count = checked(where, mime, data), count + 1
  end
  if count > MOST + 1 then native.raise(("%s: a bundle can have %d types, got %d"):format(where, MOST + 1, count)) end
  bundle["text/plain"] = bundle["text/plain"] or plain_of(bundle)
  if metadata ~= nil then bundles.add_metadata(bundle, metadata, where) end
  return bundle
end

-- Adds what tells a client how to show it: a table by MIME type, or of what holds for all.
function bundles.add_metadata(bundle, metadata, where)
  where = where or "display"
  if type(metadata) ~= "table" or #metadata > 0 then
    native.raise(("%s: metadata must be a table with names, got %s"):format(where, options.describe(metadata)))
  end
  if next(metadata) ~= nil then bundle.metadata = require("nablua.json").encode(metadata, where) end
end

local function is_bundle(v)
  if type(v) ~= "table" or getmetatable(v) or next(v) == nil then return false end
  for key in next, v do
    if type(key) ~= "string" or not key:find("^%w+/[%w.+-]+$") then return false end
  end
  return true
end

-- The forms beyond text of what has no __display: tensors, and lists of records.
local function rich_form(v)
  if not nb.is_tensor(v) and (type(v) ~= "table" or getmetatable(v)) then return nil end
  local ok, form = pcall(require("nablua.inspect.cards").html, v)
  if not ok and native.interrupted() then error(form, 0) end
  return ok and form or nil  -- without memory for it, say, the text is enough
end

-- The MIME bundle of a value: its own __display, or its text.  settings: {width=, color=, rich=, raw=}.
function bundles.bundle(v, settings)
  settings = settings or {}
  settings.width = settings.width or native.columns()
  if settings.raw and is_bundle(v) then return finished("display", v) end
  if nb.is_tensor(v) then
    return { ["text/plain"] = native.text(v, settings.width), ["text/html"] = settings.rich and rich_form(v) or nil }
  end
  local meta = getmetatable(v)
  local own = type(meta) == "table" and (meta.__display or type(meta.__index) == "table" and meta.__index.__display)
  if type(own) == "function" then
    local bundle, metadata = own(v, settings)
    if type(bundle) ~= "table" then
      error("__display must return a table such as {[\"text/html\"]=...}, got " .. options.describe(bundle), 0)
    end
    return finished("__display", bundle, metadata)
  end
  local entry = type(v) == "table" and registry.find(v)
  if entry and entry.kind == "topic" and rawequal(entry.value, v) then
    return { ["text/plain"] = require("nablua.reference").contents(entry) }
  end
  return { ["text/plain"] = bundles.pretty(v), ["text/html"] = settings.rich and rich_form(v) or nil }
end

-- What a terminal shows of a value.
function bundles.text(v)
  return bundles.bundle(v)["text/plain"]
end

return bundles
