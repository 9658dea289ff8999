-- SPDX-License-Identifier: MIT
-- The file that editors read (Lua Language Server's ---@meta): every name of the registry with its parameters' types.
local registry = require "nablua.registry"

local meta = {}

-- What a parameter may be, in the language server's words.
local types = {
  any = "any", boolean = "boolean", integer = "integer", size = "integer", count = "integer", dimension = "integer",
  sizes = "integer|integer[]", counts = "integer|integer[]", integers = "integer|integer[]",
  ["two sizes"] = "integer[]",
  ["dimension or table of dimensions"] = "integer|integer[]", number = "number", positive = "number",
  ["non-negative"] = "number", fraction = "number", finite = "number", share = "number",
  ["positive or huge"] = "number", ["two fractions"] = "number[]", numbers = "number[]",
  string = "string", strings = "string[]", ["string or strings"] = "string|string[]", ["function"] = "function",
  table = "table", tensor = "Tensor", mask = "Tensor", ["index tensor"] = "Tensor",
  ["tensor or number"] = "Tensor|number",
  ["number or table"] = "any", ["tensor or table"] = "Tensor|Tensor[]", ["table or tensor"] = "table|Tensor",
  module = "Module", ["module or function"] = "Module|function", optimizer = "Optimizer",
  ["table of tensors"] = "Tensor[]", dtype = '"f32"|"f64"|"i64"|"u8"|"bool"',
}

-- The objects whose methods have a prefix of their own.
local classes = {
  t = { "Tensor", "A tensor: numbers in a shape." }, net = { "Module", "A layer or net." },
  opt = { "Optimizer", "What moves parameters against their gradients." },
  run = { "Run", "A training that goes forward and back." },
  schedule = { "Schedule", "What changes a learning rate." },
}

local results = { operator = "Tensor", layer = "Module", activation = "Module", loss = "Module",
  optimizer = "Optimizer", scheduler = "Schedule" }

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch("%S+") do keywords[word] = true end

local function identifier(name)
  local plain = name:gsub("[^%w_]", "_")
  return keywords[plain] and plain .. "_" or plain
end

local function type_of(p)
  if p.choices then
    local list = {}
    for i, choice in ipairs(p.choices) do list[i] = type(choice) == "string" and ("%q"):format(choice) or choice end
    return table.concat(list, "|")
  end
  local words = ""
  for _, word in ipairs(p.words or {}) do words = ("%s|%q"):format(words, word) end
  return (types[p.type] or "any") .. words
end

local function one_line(text)
  return (text or ""):gsub("%s*\n%s*", " ")
end

-- The parameters of an entry: by position, and named ones; of one that lists none, those its signature shows.
local function parameters(entry, skip)
  local places, named = {}, {}
  for _, p in ipairs(entry.params or {}) do
    local needed = p.default == nil and not p.optional
    if needed or p.positional then
      places[#places + 1] = { name = identifier(p.name), type = type_of(p), optional = not needed, doc = p.doc,
        rest = p.type == "integers" }
    else
      named[#named + 1] = p
    end
  end
  if not entry.params then
    local inside = (entry.signature or ""):match("[%w_]%((.-)%)") or ""
    named.open = inside:find("{", 1, true) ~= nil
    for piece in inside:gsub("%[?{.*", ""):gmatch("[^,]+") do
      local optional, name = piece:match("^%s*(%[?)([%a_.][%w_.]*)")
      if name and name:find("^%.%.%.") then
        places[#places + 1] = { name = "...", type = "any" }
      elseif name and not name:find(".", 1, true) then
        places[#places + 1] = { name = identifier(name), type = "any", optional = optional ~= "" }
      end
    end
  end
  if skip then table.remove(places, 1) end
  return places, named
end

local function add_function(lines, target, entry, skip)
  local places, named = parameters(entry, skip)
  local names = {}
  lines[#lines + 1] = "---" .. one_line(entry.doc)
  for _, p in ipairs(places) do
    local name = p.rest and "..." or p.name
    names[#names + 1] = name
    lines[#lines + 1] = ("---@param %s%s %s%s"):format(name, p.optional and name ~= "..." and "?" or "", p.type,
      p.doc and " # " .. one_line(p.doc) or "")
    if name == "..." then break end
  end
  if #named > 0 or named.open then
    local fields = {}
    for i, p in ipairs(named) do fields[i] = ("%s?: %s"):format(p.name, type_of(p)) end
    -- After a variable number of sizes the options are one of the rest.
    if names[#names] ~= "..." then
      names[#names + 1] = "options"
      lines[#lines + 1] = "---@param options? " ..
        (#fields > 0 and "{ " .. table.concat(fields, ", ") .. " }" or "table")
    end
  end
  local result = entry.returns == "tensor" and "Tensor" or results[entry.kind]
  if result then lines[#lines + 1] = "---@return " .. result end
  lines[#lines + 1] = ("function %s(%s) end"):format(target, table.concat(names, ", "))
  lines[#lines + 1] = ""
end

-- What Lua's own operators give.
local arithmetic = { "add", "sub", "mul", "div", "pow", "mod", "idiv" }

local function open_class(lines, prefix, entries)
  local class = classes[prefix]
  lines[#lines + 1] = "---" .. class[2]
  lines[#lines + 1] = "---@class " .. class[1]
  for _, entry in ipairs(entries) do
    local name = entry.name:match("^" .. prefix .. "%.([%w_]+)$")
    if name then lines[#lines + 1] = ("---@field %s any # %s"):format(name, one_line(entry.doc)) end
  end
  if prefix == "t" then
    for _, name in ipairs(arithmetic) do lines[#lines + 1] = ("---@operator %s(Tensor|number): Tensor"):format(name) end
    lines[#lines + 1] = "---@operator unm: Tensor"
  elseif prefix == "net" then
    lines[#lines + 1] = "---@overload fun(...): Tensor"
  end
  lines[#lines + 1] = ("local %s = {}"):format(class[1])
  lines[#lines + 1] = ""
end

-- The tables on the way to a dotted name, each opened once: nb, nn, nn.init.
local function open_tables(lines, opened, name)
  local path
  for part in name:gmatch("([%w_]+)%.") do
    path = path and path .. "." .. part or part
    if not opened[path] then
      opened[path] = true
      local topic = registry.find(path)
      lines[#lines + 1] = "---" .. one_line(topic and topic.name == path and topic.doc or "")
      lines[#lines + 1] = path .. " = {}"
      lines[#lines + 1] = ""
    end
  end
end

-- The whole file as text.
function meta.text()
  local entries = registry.all()
  local lines = { "---@meta nablua", "-- Made from the registry by nablua --meta.", "" }
  local opened = {}
  for _, entry in ipairs(entries) do  -- objects that others brought: "s:next"
    local prefix = entry.name:match("^([%a_]%w*):")
    if prefix and not classes[prefix] then
      classes[prefix] = { prefix:gsub("^%l", string.upper), ("What %s stands for in help."):format(prefix) }
    end
  end
  local prefixes = {}
  for prefix in pairs(classes) do prefixes[#prefixes + 1] = prefix end
  table.sort(prefixes)
  for _, prefix in ipairs(prefixes) do open_class(lines, prefix, entries) end
  for _, entry in ipairs(entries) do
    local prefix, method = entry.name:match("^([%a_]%w*):([%w_]+)$")
    if entry.kind == "topic" or entry.name:match("^t%.") then
      open_tables(lines, opened, entry.name)
    elseif prefix then
      add_function(lines, classes[prefix][1] .. ":" .. method, entry)
    elseif entry.name:match("^[%w_.]+$") then
      open_tables(lines, opened, entry.name)
      if entry.kind == "field" then
        lines[#lines + 1] = "---" .. one_line(entry.doc)
        lines[#lines + 1] = "---@type any"
        lines[#lines + 1] = entry.name .. " = nil"
        lines[#lines + 1] = ""
      else
        add_function(lines, entry.name, entry)
        if entry.kind == "operator" and entry.params and entry.params[1] and
            type_of(entry.params[1]):find("^Tensor") and not type_of(entry.params[1]):find("%[%]") then
          add_function(lines, "Tensor:" .. entry.name:match("[%w_]+$"), entry, true)
        end
      end
    end
  end
  for _, name in ipairs { "nn", "optim", "data", "inspect", "plot", "dist" } do
    if opened[name] then lines[#lines + 1] = ("nb.%s = %s"):format(name, name) end
  end
  lines[#lines + 1] = "return nb"
  return table.concat(lines, "\n") .. "\n"
end

return meta
