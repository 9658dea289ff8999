-- SPDX-License-Identifier: MIT
-- The one register of everything public: what help, completion, the reference and the tests are made from.
--
-- An entry is { name=, kind=, doc=, example=, signature=, params=, see=, family=, value=, returns= }: `name` is what a
-- user types ("nn.Linear", "nb.relu", "t:item"), `value` what it names; returns = "tensor" tells completion what a
-- call gives, where the kind does not; code() the functions whose source is shown in place of value's.  Operators come
-- from their rows.
local native = require "nablua.native"
local core = require "nablua.core"
local options = require "nablua.options"

local registry = {}

local by_name = {}                                -- full name → entry
local entries                                     -- in the order of their registration, once they are asked for
local by_last                                     -- "Linear" → list of entries, likewise
local order = {}                                  -- until then: names, and lists of a module's that is loaded late
local by_value = setmetatable({}, { __mode = "k" })
local rows                                        -- operator name → row

local function last_part(name)
  return name:match("[^.:]+$")
end

local function add_signature(entry)
  if entry.params and not entry.signature then entry.signature = options.signature(entry.name, entry.params) end
end

local function append(entry)
  local last = last_part(entry.name)
  entries[#entries + 1] = entry
  by_last[last] = by_last[last] or {}
  table.insert(by_last[last], entry)
end

local function replace(list, old, entry)
  for i, e in ipairs(list) do
    if e == old then list[i] = entry end
  end
end

-- Adds an entry, or replaces the one of that name.  Returns its value.
function registry.add(entry)
  local old = by_name[entry.name]
  by_name[entry.name] = entry
  if not rows then
    if not old then order[#order + 1] = entry.name end
  else
    add_signature(entry)
    if old then
      replace(entries, old, entry)
      replace(by_last[last_part(entry.name)], old, entry)
    else
      append(entry)
    end
  end
  if entry.value ~= nil and type(entry.value) ~= "number" and type(entry.value) ~= "string" then
    by_value[entry.value] = entry
  end
  return entry.value
end

-- ---- modules that are loaded late ----

-- What the module registers when it is loaded, whoever asks for it, stands at this place.
local function keep_place(name)
  local place, loader = {}, package.preload[name]
  if not rows then order[#order + 1] = place end
  package.preload[name] = loader and function(...)
    local before = order
    order = place
    local ok, given = pcall(loader, ...)
    order = before
    if not ok then error(given, 0) end
    return given
  end
end

local homes = {}  -- name of a module → the table that users know
local late = {}   -- what loads each, in their order and by name

-- The table that a module fills, where registry.late has made one.
function registry.home(name)
  homes[name] = homes[name] or {}
  return setmetatable(homes[name], nil)
end

-- The table of a module that is loaded when somebody first looks into it, or asks the registry: programs that do not
-- use it start sooner.  What it registers stands at this place.  With a table `into` the module fills that one, and is
-- loaded when somebody asks it for what it does not have.
-- With `called` it is one that is called, and has a text.
function registry.late(name, into, called)
  homes[name] = into or homes[name]
  local home, meta = registry.home(name), {}
  keep_place(name)
  local function load()
    if getmetatable(home) ~= meta then return end
    local ok, message = pcall(require, name)
    if ok then return end
    setmetatable(home, meta)
    error(message, 0)
  end
  function meta.__index(_, key)
    load()
    return home[key]
  end
  function meta.__newindex(_, key, value)
    load()
    home[key] = value
  end
  function meta.__pairs()
    load()
    return pairs(home)
  end
  if called then
    function meta.__call(_, ...)
      load()
      return home(...)
    end
    function meta.__tostring()
      load()
      return tostring(home)
    end
  end
  late[#late + 1], late[name] = load, load
  return setmetatable(home, meta)
end

-- Loads such a module where it stands: before parts of it are required by themselves.
function registry.load(name)
  late[name]()
end

-- ---- names in tables that are loaded late ----

local behind = {}  -- table → the modules that fill it: { names =, load = }

-- Whether the name is among "a b c"; all are where there is no list.
local function is_listed(names, name)
  return not names or (" " .. names .. " "):find(" " .. name .. " ", 1, true) ~= nil
end

local function look_behind(home, key)
  if type(key) ~= "string" then return nil end
  for _, module in ipairs(behind[home]) do
    if is_listed(module.names, key) then
      module.load()
      local value = rawget(home, key)
      if value ~= nil then return value end
    end
  end
end

local function load_all(home)
  for _, module in ipairs(behind[home]) do module.load() end
  return next, home, nil
end

-- Says that a module gives these names, "a b c", when somebody first asks for one of them: functions of nb and methods
-- of tensors, which it defines, or fields of the table `home`, which it returns.  Without names, which belong after all
-- others of their table, it is asked for every name that is not there.
function registry.later(name, names, home)
  local loaded = false
  keep_place(name)
  local function load()
    if loaded then return end
    loaded = true
    local ok, given = pcall(require, name)
    loaded = ok
    if not ok then error(given, 0) end
    for key, value in pairs(home and given or {}) do
      if rawget(home, key) == nil and is_listed(names, key) then home[key] = value end
    end
  end
  for _, t in ipairs { home or core, not home and native.methods or nil } do
    if not behind[t] then
      behind[t] = {}
      setmetatable(t, { __index = look_behind, __pairs = load_all })
    end
    table.insert(behind[t], { names = names, load = load })
  end
  late[#late + 1], late[name] = load, load
end

-- Adds a function of `home` (a table such as nb, called `prefix`) together with its documentation.
function registry.define(home, prefix, name, entry)
  entry.name, entry.kind, entry.value = prefix .. name, entry.kind or "function", entry.value or entry[1]
  entry[1] = nil
  home[name] = entry.value
  return registry.add(entry)
end

local function row_param(p)
  local choices
  if p.choices then
    choices = {}
    for choice in p.choices:gmatch("[^|]+") do choices[#choices + 1] = choice end
  end
  return { name = p.name, type = p.kind, doc = p.doc, default = p.default, optional = p.optional, choices = choices,
    positional = p.optional and not p.named }
end

-- The form that writes into its first argument: t:add_(y).
local function add_in_place(row, plain)
  local name = row.name .. "_"
  local example, calls = row.example, 1
  if not row.internal then example, calls = example:gsub("([:.])" .. row.name .. "%(", "%1" .. name .. "(") end
  if calls == 0 then
    example = ("nb.ones(2):%s(%s)"):format(name, row.params[2] and not row.params[2].optional and "2" or "")
  end
  registry.add {
    name = "t:" .. name, kind = "method", value = native.methods[name], example = example,
    signature = row.signature:gsub("^[^(]*%(%w+,? ?", "t:" .. name .. "("),
    params = table.move(row.parameters, 2, #row.parameters, 1, {}), see = not row.internal and { plain } or nil,
    doc = row.internal and row.doc or ("As %s, written into t itself: %s"):format(plain, row.doc),
  }
  by_value[core[name]] = by_name["t:" .. name]
end

local function with_parameters(row)
  row.parameters = {}
  for i, p in ipairs(row.params) do row.parameters[i] = row_param(p) end
  return row
end

local function add_row(row)
  rows[row.name] = with_parameters(row)
  local entry = {
    name = "nb." .. row.name, kind = "operator", family = row.family, doc = row.doc, example = row.example,
    signature = row.signature, params = row.parameters, derivative = row.derivative, no_grad = row.no_grad,
    source = row.source, value = core[row.name],
  }
  local method = native.methods[row.name]
  if not row.internal then
    if not by_name[entry.name] then registry.add(entry) end
    if method then by_value[method] = by_name[entry.name] end
  end
  if row.inplace and native.methods[row.name .. "_"] then add_in_place(row, entry.name) end
end

local function append_all(names)
  for _, name in ipairs(names) do
    if type(name) == "table" then
      append_all(name)
    else
      add_signature(by_name[name])
      append(by_name[name])
    end
  end
end

-- The operator rows by name.  They are read when they are first asked for, since they take a third of a start, and
-- stand before what was registered meanwhile, whose signatures are made now too.
function registry.rows()
  if rows then return rows end
  for _, load in ipairs(late) do load() end
  if rows then return rows end  -- a module that was loaded asked
  rows, entries, by_last = {}, {}, {}
  for _, row in ipairs(native.rows()) do add_row(row) end
  append_all(order)
  return rows
end

-- One row, without reading all.
function registry.row(name)
  if rows then return rows[name] end
  local row = native.row(name)
  return row and with_parameters(row)
end

-- All entries, in the order of registration.
function registry.all()
  registry.rows()
  return entries
end

-- The entries whose names end so: "Linear" is nn.Linear.
function registry.ending(name)
  registry.rows()
  return by_last[name] or {}
end

-- The entry of a value, or of a name as a user writes it: "nn.Linear", "Linear", "tensor.item", "t:item".
-- nil and the nearest name where there is none.
function registry.find(x)
  registry.rows()
  if type(x) ~= "string" then
    if by_value[x] then return by_value[x] end
    local meta = not core.is_tensor(x) and getmetatable(x)
    if core.is_tensor(x) then return by_name.tensor end
    return type(meta) == "table" and by_value[meta.class] or nil
  end
  local name = x:gsub("%(.*$", ""):gsub("^nablua%.", "nb.")
  if by_name[name] then return by_name[name] end
  local found = by_last[last_part(name) or ""]
  if found then return found[1], nil, found end
  local names = {}
  for _, e in ipairs(entries) do names[#names + 1] = e.name end
  local near = options.nearest(name, names)
  if not near then
    local lasts = {}
    for last in pairs(by_last) do lasts[#lasts + 1] = last end
    table.sort(lasts)
    near = options.nearest(last_part(name) or name, lasts)
  end
  return nil, near
end

-- Appended to a message that speaks of an operator which the user has not called, or of none: " (in nb.addmm)".
native.set_describe_call(function(called, message)
  local entry = by_value[called]
  local last = entry and entry.name:match("[%w_]+$")
  local speaks_of = message:match("^[^\n]-:%d+: ([%w_.:]+): ") or message:match("^([%w_.:]+): ")
  if not last or speaks_of and speaks_of:match("[%w_]+$") == last then return nil end
  return (" (in %s)"):format(entry.name)
end)

return registry
