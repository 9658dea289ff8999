-- SPDX-License-Identifier: MIT
-- nb.terminal: how the prompt in the terminal looks and which keys it knows, for init.lua and at the prompt itself.
-- What is assigned is checked here; the front end asks for it in its own words.
local native = require "nablua.native"
local options = require "nablua.options"
local registry = require "nablua.registry"

local terminal = registry.home "nablua.terminal"
local state = {}  -- for the session: sequences of colours and keys, and a count of changes
state.changes = 0

local function refuse(name, expected, value)
  native.raise(("nb.terminal.%s: expected %s, got %s"):format(name, expected, options.describe(value)))
end

-- ---- colours ----

local color_names = { "black", "red", "green", "yellow", "blue", "magenta", "cyan", "white" }
local weights = { plain = "", bold = "1", dim = "2", italic = "3", underline = "4", reverse = "7", gray = "90",
  grey = "90" }
for i, name in ipairs(color_names) do
  weights[name], weights["bright_" .. name] = tostring(29 + i), tostring(89 + i)
end

local parts = { "keyword", "number", "string", "comment", "command", "prompt", "note", "suggestion", "bracket", "found",
  "chosen" }
local is_part = {}
for i, name in ipairs(parts) do is_part[name] = i end

-- "bold magenta", "#ff8800" or 208 as the numbers that a terminal is sent; nil for anything else.
local function color_code(value)
  if math.type(value) == "integer" and value >= 0 and value <= 255 then return "38;5;" .. value end
  if type(value) ~= "string" then return nil end
  local codes = {}
  for word in value:gmatch("%S+") do
    local r, g, b = word:match("^#(%x%x)(%x%x)(%x%x)$")
    local code = r and ("38;2;%d;%d;%d"):format(tonumber(r, 16), tonumber(g, 16), tonumber(b, 16)) or weights[word]
    if not code then return nil end
    if code ~= "" then codes[#codes + 1] = code end
  end
  return table.concat(codes, ";")
end

local colors, color_codes = {}, {}

local function set_color(part, value)
  if not is_part[part] then
    native.raise(("nb.terminal.colors: there is no part %s; there are %s"):format(options.describe(part),
      table.concat(parts, ", ")))
  end
  local code = value ~= nil and color_code(value) or nil
  if value ~= nil and not code then
    refuse("colors." .. part, 'names such as "bold bright_blue", "#rrggbb" or a number from 0 to 255', value)
  end
  colors[part], color_codes[part] = value, code
end

-- ---- keys ----

local key_names = { Up = "\\e[A", Down = "\\e[B", Right = "\\e[C", Left = "\\e[D", Home = "\\e[H", End = "\\e[F",
  Insert = "\\e[2~", Delete = "\\e[3~", PageUp = "\\e[5~", PageDown = "\\e[6~", Tab = "\\t", Enter = "\\r",
  Space = " ", Backspace = "\\C-?", Escape = "\\e" }
for i, code in ipairs { "OP", "OQ", "OR", "OS", "[15~", "[17~", "[18~", "[19~", "[20~", "[21~", "[23~", "[24~" } do
  key_names["F" .. i] = "\\e" .. code
end

-- "C-x M-p F5" as readline writes it, or nil.
local function sequence_of(text)
  if type(text) ~= "string" then return nil end
  local out = {}
  for key in text:gmatch("%S+") do
    local modifiers, name = key:match("^([CM%-]*%-)(.+)$")
    modifiers, name = modifiers or "", name or key
    local plain = key_names[name]
    if plain and modifiers == "C-" and plain:match("^\\e%[%u$") then
      plain = plain:gsub("%[", "[1;5")
    elseif plain and modifiers == "M-" and plain:match("^\\e%[%u$") then
      plain = plain:gsub("%[", "[1;3")
    elseif plain and modifiers == "M-" then
      plain = "\\e" .. plain
    elseif not plain and #name == 1 and (modifiers == "" or modifiers == "M-" or modifiers == "C-" or
      modifiers == "C-M-" or modifiers == "M-C-") then
      plain = name:match('[\\"]') and "\\" .. name or name
      if modifiers:match("C") then plain = "\\C-" .. plain end
      if modifiers:match("M") then plain = "\\e" .. plain end
    elseif modifiers ~= "" then
      return nil
    end
    if not plain then return nil end
    out[#out + 1] = plain
  end
  return #out > 0 and table.concat(out) or nil
end

local keys, sequences = {}, {}

local function set_key(key, value)
  local sequence = sequence_of(key)
  if not sequence then
    native.raise(('nb.terminal.keys: %s is no key; keys are written as "C-x", "M-p", "F5", "C-Left" or several with ' ..
      "spaces between"):format(options.describe(key)))
  end
  if value ~= nil and type(value) ~= "string" and type(value) ~= "function" then
    refuse(("keys[%q]"):format(key), "the name of a command of readline, or a function", value)
  end
  keys[key], sequences[sequence] = value, value
end

-- ---- the table ----

local function is_prompt(value) return type(value) == "string" or type(value) == "function" end
local function is_boolean(value) return type(value) == "boolean" end
local prompt_kind = "a string, or a function of the input's number that gives one"

local fields = {
  prompt = { is_prompt, prompt_kind, nil,
    "What stands before an input: a text, which may hold colours, or a function of the input's number that gives " ..
    "one.  Without it, stock Lua's _PROMPT is asked.",
    'nb.terminal.prompt = function(n) return ("[%d] "):format(n) end' },
  continuation = { is_prompt, prompt_kind, nil,
    "What stands before the further lines of an input; without it, stock Lua's _PROMPT2 is asked.",
    'nb.terminal.continuation = ".. "' },
  editing = { function(v) return v == "emacs" or v == "vi" end, '"emacs" or "vi"', nil,
    "How keys edit: \"emacs\" or \"vi\"; without it as the file ~/.inputrc says.", 'nb.terminal.editing = "vi"' },
  suggestions = { is_boolean, "true or false", true,
    "Whether the rest of an earlier input is shown in grey while one is typed that begins like it.",
    "nb.terminal.suggestions = false" },
  signatures = { is_boolean, "true or false", true,
    "Whether the parameters of the call that is being typed are shown below it.", "nb.terminal.signatures = false" },
  brackets = { is_boolean, "true or false", true, "Whether the bracket at the cursor and its partner are marked.",
    "nb.terminal.brackets = false" },
}
local tables = { colors = { colors, set_color }, keys = { keys, set_key } }
local values = {}

-- A table whose fields are checked as they are set.
local function checked(name)
  local content, set = table.unpack(tables[name])
  return setmetatable({}, {
    __index = content,
    __newindex = function(_, key, value)
      set(key, value)
      state.changes = state.changes + 1
    end,
    __pairs = function() return next, content end,
  })
end
for name, t in pairs(tables) do t.proxy = checked(name) end

local meta = { __name = "nb.terminal" }

function meta.__index(_, name)
  if tables[name] then return tables[name].proxy end
  local field = fields[name]
  if not field then return nil end
  if values[name] == nil then return field[3] end
  return values[name]
end

function meta.__newindex(_, name, value)
  local field = fields[name]
  if tables[name] then
    if type(value) ~= "table" then refuse(name, "a table", value) end
    for key, v in pairs(value) do tables[name].proxy[key] = v end
  elseif not field then
    local names = {}
    for known in pairs(fields) do names[#names + 1] = known end
    for known in pairs(tables) do names[#names + 1] = known end
    table.sort(names)
    native.raise(("nb.terminal: there is no setting %s; there are %s"):format(options.describe(name),
      table.concat(names, ", ")))
  elseif value ~= nil and not field[1](value) then
    refuse(name, field[2], value)
  else
    values[name] = value
  end
  state.changes = state.changes + 1
end

function meta.__pairs()
  local all = {}
  for name in pairs(fields) do all[name] = meta.__index(nil, name) end
  for name, t in pairs(tables) do all[name] = t[1] end
  return next, all
end

setmetatable(terminal, meta)
meta.state = state

-- ---- for the session ----

-- What stands before an input, or its further lines; nil for what the front end has.
function state.prompt(continued, number)
  local value = values[continued and "continuation" or "prompt"]
  if value == nil then value = rawget(_G, continued and "_PROMPT2" or "_PROMPT") end
  if value == nil then return nil end
  if type(value) == "function" then value = value(number) end
  return tostring(value)
end

-- A setting as text: a colour by the name of its part.
function state.text(name)
  local part = name:match("^colors%.(.*)$")
  if part then return color_codes[part] and "\27[0;" .. color_codes[part] .. "m" end
  local value = meta.__index(nil, name)
  if value ~= nil and not is_prompt(value) or type(value) == "string" then return tostring(value) end
end

-- The keys that were set: their sequences and the names of commands, "" for functions.
function state.keys()
  local list = {}
  for sequence, value in pairs(sequences) do
    list[#list + 1] = { sequence, type(value) == "string" and value or "" }
  end
  return list
end

-- What the function of a key makes of a text with the cursor behind so many of its bytes.
function state.press(sequence, text, cursor)
  local f = sequences[sequence]
  if type(f) ~= "function" then return nil end
  local new, at = f(text, cursor + 1)
  if new == nil then return nil end
  if type(new) ~= "string" then refuse("keys", "a function that gives the new text and the cursor's place", new) end
  at = math.tointeger(at) or #new + 1
  return new, math.max(0, math.min(#new, at - 1))
end

for _, name in ipairs { "prompt", "continuation", "editing", "suggestions", "signatures", "brackets" } do
  local field = fields[name]
  registry.add { name = "nb.terminal." .. name, kind = "setting", family = "The prompt in the terminal", doc = field[4],
    example = field[5], see = { "nb.terminal" } }
end
registry.add { name = "nb.terminal.colors", kind = "setting", family = "The prompt in the terminal",
  doc = "The colours of " .. table.concat(parts, ", ") .. ": names (\"bold bright_blue\"), \"#rrggbb\" or a number " ..
    "from 0 to 255.", example = 'nb.terminal.colors.keyword = "bold blue"', see = { "nb.terminal" } }
registry.add { name = "nb.terminal.keys", kind = "setting", family = "The prompt in the terminal",
  doc = "What keys do: [\"C-x p\"] = the name of a command of readline, or a function that is given the text and " ..
    "the cursor's place in it, and returns both anew.",
  example = 'nb.terminal.keys["M-u"] = function(text, at) return text:upper(), at end', see = { "nb.terminal" } }
registry.add { name = "nb.terminal", kind = "settings", family = "The prompt in the terminal", value = terminal,
  doc = "How the prompt in the terminal looks and which keys it knows; init.lua in the folder for settings is the " ..
    "place to set it.", signature = "nb.terminal", example = "type(nb.terminal.keys)  --> \"table\"",
  see = { "nb.terminal.prompt", "nb.terminal.continuation", "nb.terminal.colors", "nb.terminal.keys",
    "nb.terminal.editing", "nb.terminal.suggestions", "nb.terminal.signatures", "nb.terminal.brackets" } }

return terminal
