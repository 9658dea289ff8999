-- SPDX-License-Identifier: MIT
-- nb.save and nb.load: states in safetensors files, arrays in npy and npz, and by extension what data reads.
--
-- A state is a table, nested as it may be, of tensors, numbers, strings and booleans.  Its tensors are
-- stored under dotted names; what is no tensor, and keys that are numbers, go into the file's notes, so
-- that a state comes back as it was and other programs still find plain names.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local files = {}

local NOTE = "nablua:"  -- begins the keys of our notes

-- A scalar as text with its type: "i:3", "n:0x1.8p+0", "s:text", "b:true".
local function encode(v)
  if math.type(v) == "integer" then return ("i:%d"):format(v) end
  if type(v) == "number" then return ("n:%a"):format(v) end
  if type(v) == "boolean" then return "b:" .. tostring(v) end
  return "s:" .. v
end

local function decode(text)
  local kind, rest = text:match("^([insb]):(.*)$")
  if kind == "i" then return math.tointeger(tonumber(rest)) end
  if kind == "n" then
    local special = rest:match("^%-?(%a+)")
    if special == "nan" then return 0 / 0 end
    if special == "inf" then return rest:sub(1, 1) == "-" and -math.huge or math.huge end
    return tonumber(rest)
  end
  if kind == "b" then return rest == "true" end
  return kind == "s" and rest or nil
end

-- One step of a place: numbers are told from strings that look like them, and keys may hold dots.
local function step_of(key)
  if math.type(key) == "integer" then return ("/#%d"):format(key) end
  return "/." .. key:gsub("[/%%]", { ["/"] = "%2F", ["%"] = "%25" })
end

-- Walks a state; calls see(name, path, value) for all that is no table.
local function walk(where, state, name, path, see, above)
  for _, seen in ipairs(above) do
    if seen == state then
      native.raise(("%s: the table %s contains itself"):format(where, name == "" and "given" or name))
    end
  end
  above[#above + 1] = state
  local keys = {}
  for key in pairs(state) do
    if type(key) ~= "string" and math.type(key) ~= "integer" then
      native.raise(("%s: a key must be a string or a whole number, got a %s%s"):format(where, type(key),
        name == "" and "" or " in " .. name))
    end
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    if math.type(a) == math.type(b) then return a < b end
    return math.type(a) == "integer"
  end)
  if #keys == 0 then see(name, path, state) end
  for _, key in ipairs(keys) do
    local value = state[key]
    local full = name == "" and tostring(key) or name .. "." .. tostring(key)
    if type(value) == "table" and not nb.is_tensor(value) then
      walk(where, value, full, path .. step_of(key), see, above)
    else
      see(full, path .. step_of(key), value)
    end
  end
  above[#above] = nil
end

local function save_safetensors(path, state)
  local names, tensors, keys, values, taken = {}, {}, {}, {}, {}
  local function note(key, value)
    keys[#keys + 1], values[#values + 1] = NOTE .. key, value
  end
  if nb.is_tensor(state) then
    names[1], tensors[1] = "tensor", state
    note("single", "b:true")
  else
    walk("save", state, "", "", function(name, place, value)
      if nb.is_tensor(value) then
        if taken[name] then native.raise(("save: two entries have the name %s"):format(name)) end
        taken[name] = true
        names[#names + 1], tensors[#tensors + 1] = name, value
        if place ~= step_of(name) then note("place:" .. name, place) end  -- else the name is the key
      elseif type(value) == "table" then
        note("empty:" .. place, "")
      elseif type(value) == "number" or type(value) == "string" or type(value) == "boolean" then
        note("value:" .. place, encode(value))
      else
        native.raise(("save: %s is a %s; a state holds tensors, numbers, strings, booleans and tables of them")
          :format(name, type(value)))
      end
    end, {})
  end
  native.safetensors_write(path, names, tensors, keys, values)
end

-- Puts a value at a place such as "/.layer/#1/.weight".
local function put(state, place, value)
  local steps = {}
  for kind, text in place:gmatch("/([.#])([^/]*)") do
    text = text:gsub("%%2F", "/"):gsub("%%25", "%%")
    steps[#steps + 1] = kind == "#" and math.tointeger(tonumber(text)) or text
  end
  if #steps == 0 then return end
  for i = 1, #steps - 1 do
    if type(state[steps[i]]) ~= "table" then state[steps[i]] = {} end
    state = state[steps[i]]
  end
  state[steps[#steps]] = value
end

local function load_safetensors(path)
  local names, tensors, notes = native.safetensors_read(path)
  if notes[NOTE .. "single"] and #names == 1 then return tensors[1] end
  local state = {}
  for i, name in ipairs(names) do
    local place = notes[NOTE .. "place:" .. name]
    if place then put(state, place, tensors[i]) else state[name] = tensors[i] end
  end
  for key, text in pairs(notes) do
    local place = key:match("^" .. NOTE .. "value:(.*)$")
    if place then put(state, place, decode(text)) end
    place = key:match("^" .. NOTE .. "empty:(.*)$")
    if place then put(state, place, {}) end
  end
  return state
end

local function save_npz(path, state, o)
  if nb.is_tensor(state) then state = { arr_0 = state } end  -- NumPy's name for one without
  local names, tensors, taken = {}, {}, {}
  walk("save", state, "", "", function(name, _, value)
    if type(value) == "number" then
      value = nb.tensor(value, { dtype = math.type(value) == "integer" and "i64" or "f64" })
    elseif type(value) == "boolean" then
      value = nb.tensor(value)
    elseif type(value) == "table" then
      return
    elseif not nb.is_tensor(value) then
      native.raise(("save: %s is a %s; an npz file holds tensors and numbers"):format(name, type(value)))
    end
    if taken[name] then native.raise(("save: two entries have the name %s"):format(name)) end
    taken[name] = true
    names[#names + 1], tensors[#tensors + 1] = name, value
  end, {})
  native.npz_write(path, names, tensors, o.compress)
end

local function load_npz(path)
  local names, tensors = native.npz_read(path)
  local state = {}
  for i, name in ipairs(names) do state[name] = tensors[i] end
  return state
end

-- A reader that is a function of `data`, which is made later.
local function by_data(name)
  return function(path) return nb.data[name](path) end
end

-- By extension, in the order that messages have them.
local formats = {
  { "safetensors", save = save_safetensors, load = load_safetensors },
  { "npy",
    save = function(path, t)
      if not nb.is_tensor(t) then native.raise("save: an npy file holds one tensor, got a " .. type(t)) end
      native.npy_write(path, t)
    end,
    load = native.npy_read },
  { "npz", save = save_npz, load = load_npz, params = { { name = "compress", type = "boolean", default = false } } },
  { "csv", load = by_data "csv" },
  { "tsv", load = by_data "csv" },
  { "png", load = by_data "image" },
  { "jpg", load = by_data "image" },
  { "jpeg", load = by_data "image" },
  { "idx", load = native.idx_read },
}

-- The extension, without a ".gz" behind it.
local function extension_of(path)
  local name = path:match("[^/]*$"):gsub("%.[gG][zZ]$", "")
  if name:match("idx%d%-ubyte$") then return "idx" end
  local extension = name:match("%.([%w]+)$")
  return extension and extension:lower()
end

local function format_of(where, path, way)
  if type(path) ~= "string" then native.raise(("%s: the path must be a string, got a %s"):format(where, type(path))) end
  local extension, there = extension_of(path), {}
  for _, format in ipairs(formats) do
    if format[way] and format[1] == extension then return format end
    if format[way] then there[#there + 1] = "." .. format[1] end
  end
  native.raise(("%s: %s: the extension must be one of %s%s"):format(where, path, table.concat(there, ", "),
    (extension == "pt" or extension == "pth") and "; PyTorch's own files hold code, write them anew there with " ..
    "safetensors.torch.save_file" or ""))
end

function files.save(path, state, given)
  local format = format_of("save", path, "save")
  if type(state) ~= "table" and not nb.is_tensor(state) then
    native.raise(("save: needs a tensor or a table of tensors, got a %s"):format(type(state)))
  end
  format.save(path, state, options.check("save", format.params or {}, given))
end

function files.load(path)
  return format_of("load", path, "load").load(path)
end

registry.define(nb, "nb.", "save", {
  family = "Files",
  doc = "Writes a state (a table of tensors, numbers, strings and such tables, or one tensor) to a .safetensors, " ..
    ".npz or .npy file, replacing it as a whole.  npz, NumPy's, has dotted names in place of tables inside.",
  signature = "nb.save(path, state, {compress=false})", see = { "nb.load", "net:state", "opt:state" },
  params = { { name = "path", type = "string" }, { name = "state", type = "table or tensor" },
    { name = "compress", type = "boolean", default = false, doc = "for npz" } },
  example = [[
local path = os.tmpname() .. ".safetensors"
nb.save(path, { w = nb.ones(2), step = 7 })
local s = nb.load(path)
os.remove(path)
return s.step  --> 7]],
  files.save,
})
registry.define(nb, "nb.", "load", {
  family = "Files",
  doc = "Reads what nb.save wrote, or any .safetensors, .npz, .npy, .csv, .png, .jpg or IDX file, as its extension " ..
    "says.",
  signature = "nb.load(path)", see = { "nb.save", "net:load_state", "data.csv" },
  example = [[
local path = os.tmpname() .. ".npy"
nb.save(path, nb.tensor{1, 2})
local t = nb.load(path)
os.remove(path)
return t  --> {1, 2}]],
  files.load,
})

return files
