-- SPDX-License-Identifier: MIT
-- What may stand at the cursor, and which name stands there.  Looks at values with raw reads only: no metamethod and
-- no other code of the user runs.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"
local session = require "nablua.session.native"

local complete = {}

local MOST = 500

local keywords = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
  "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while" }

-- The variables of the frame that %debug or a breakpoint looks into: set by the debugger while it asks.
complete.frame = nil

-- What the input that is being typed assigns, none of which exists yet: name → the expression, "" where there is none
-- that could be looked at.
local typed = {}

local function variable(name)
  local frame = complete.frame
  if frame and frame.has(name) then return frame.value(name) end
  if session.kept[name] then return session.local_value(name) end
  return rawget(_G, name)
end

-- ---- fields of a value ----

local function kind_of(value)
  local entry = value ~= nil and type(value) ~= "number" and type(value) ~= "string" and type(value) ~= "boolean" and
    not nb.is_tensor(value) and registry.find(value)
  -- The class of an object has an entry, too; a function's may be its method's.
  if entry and (entry.value == value or type(value) == "function") then return entry.kind, entry.doc end
  if nb.is_tensor(value) then return "tensor" end
  local page = type(value) == "function" and require("nablua.lualib").find(value)
  return type(value), page and page.doc
end

local tensor_fields

-- Calls see(name, value, kind, doc) for what value.name, or value:name, may be.
local function each_field(value, see)
  if value == nb or nb.is_tensor(value) then registry.all() end  -- what is loaded late is there, too
  if nb.is_tensor(value) then
    if not tensor_fields then
      tensor_fields = {}
      for _, entry in ipairs(registry.all()) do
        if entry.kind == "field" and entry.name:match("^t%.") then tensor_fields[#tensor_fields + 1] = entry end
      end
    end
    for _, entry in ipairs(tensor_fields) do see(entry.name:sub(3), nil, "field", entry.doc) end
    for name, method in next, native.methods do
      local entry = registry.find(method)
      see(name, method, "method", entry and entry.doc)
    end
    return
  end
  if type(value) == "string" then value = string end
  local seen = 0
  while type(value) == "table" and seen < 20 do
    for name, field in next, value do
      if type(name) == "string" then see(name, field) end
    end
    local meta = getmetatable(value)
    local index = type(meta) == "table" and rawget(meta, "__index")
    -- Where __index is a function, the metatable says which table has the methods.
    value = type(index) == "function" and (rawget(meta, "methods") or rawget(meta, "class")) or index
    seen = seen + 1
  end
end

-- The field of a value, read raw through tables of metatables.
local function field(value, name)
  if nb.is_tensor(value) then return native.methods[name] end
  if type(value) == "string" then return string[name] end
  for _ = 1, 20 do
    if type(value) ~= "table" then return nil end
    local found = rawget(value, name)
    if found ~= nil then return found end
    local meta = getmetatable(value)
    local index = type(meta) == "table" and rawget(meta, "__index")
    value = type(index) == "function" and (rawget(meta, "methods") or rawget(meta, "class")) or index
  end
end

-- ---- expressions ----

-- What is known of an expression without running it: a value, a class whose instance it is, or that it is a tensor.
local A_TENSOR = { tensor = true }

-- The last byte up to i that is not of a kind such as "^%s"; 0 for none.
local function last_other(text, i, kind)
  while i > 0 and text:find(kind, i) do i = i - 1 end
  return i
end

-- The first byte of the expression that ends the text, such as `net[1]`, `f(x):sum()`, `"text"`; nil for none.
local function expression_start(text)
  local i, start = #text, nil
  while i > 0 do
    local c = text:sub(i, i)
    if c:match("[%w_]") then
      start = last_other(text, i, "^[%w_]") + 1
      local before = last_other(text, start - 1, "^%s")
      if not text:sub(before, before):match("[.:]") or text:sub(before - 1, before) == ".." then return start end
      i = last_other(text, before - 1, "^%s")
    elseif c:match("[%)%]}\"']") then
      local depth = 0
      if c == '"' or c == "'" then
        i = i - 1
        while i > 0 and text:sub(i, i) ~= c do i = i - 1 end
      else
        repeat
          local d = text:sub(i, i)
          depth = depth + (d:match("[%)%]}]") and 1 or d:match("[%(%[{]") and -1 or 0)
          i = i - 1
        until depth == 0 or i == 0
        i = i + 1
      end
      if i <= 0 then return nil end
      start = i
      i = last_other(text, i - 1, "^%s")
      if not text:sub(i, i):match("[%w_%)%]\"']") then return start end
    else
      return start
    end
  end
  return start
end

-- What a call of `f` gives.
local function result_of(f, method)
  if f.class then return A_TENSOR end  -- a module applied
  local value = f.value
  if value == nil then return nil end
  local meta = type(value) == "table" and getmetatable(value)
  if type(meta) == "table" and rawget(meta, "class") and not rawget(value, "forward") then return A_TENSOR end
  local entry = registry.find(value)
  if not entry or entry.value ~= value and not method then return nil end
  if entry.kind == "operator" or entry.returns == "tensor" or entry.name:match("^t:.*[^_]_$") then return A_TENSOR end
  if type(value) == "table" and rawget(value, "forward") then return { class = value } end
end

local member

-- What is known of the whole of `text`, an expression; nil when nothing is.
local function known(text)
  local at, name, rest = nil, text:match("^([%a_][%w_]*)(.*)$")
  local method = false
  if name then
    at = { value = variable(name) }
    local expression = typed[name]
    if at.value == nil and expression and expression ~= "" then
      typed[name] = nil  -- it may be made of itself
      at = known(expression) or at
      typed[name] = expression
    end
  elseif text:match("^[\"']") then
    local quote = text:sub(1, 1)
    at, rest = { value = "" }, text:match("^" .. quote .. "[^" .. quote .. "]*" .. quote .. "(.*)$")
  elseif text:match("^%b()") then
    local inner
    inner, rest = text:match("^(%b())(.*)$")
    inner = inner:sub(2, -2):match("^%s*(.-)%s*$")
    -- Arithmetic of a tensor is one: the operand that ends the expression tells.
    local start = expression_start(inner)
    at = start and known(inner:sub(start))
    if start and start > 1 and not (at and member(at) == "tensor") then at = nil end
  end
  while at and rest and rest:match("%S") do
    local separator, key, after = rest:match("^%s*([.:])%s*([%a_][%w_]*)(.*)$")
    if key then
      local value
      if at.tensor then value = native.methods[key] else value = field(at.class or at.value, key) end
      if member(at) == "tensor" and (key == "T" or key == "grad") then
        at = A_TENSOR
      else
        at = value ~= nil and { value = value } or nil
      end
      method = separator == ":"
    elseif rest:match("^%s*%b()") or rest:match("^%s*%b{}") then
      at, after = result_of(at, method), rest:match("^%s*%b()(.*)$") or rest:match("^%s*%b{}(.*)$")
    elseif rest:match("^%s*%b[]") then
      local index
      index, after = rest:match("^%s*(%b[])(.*)$")
      key = math.tointeger(tonumber(index:match("^%[%s*(%-?%d+)%s*%]$"))) or index:match("^%[[\"']([^\"']*)[\"']%]$")
      if member(at) == "tensor" then  -- an element or a row of a tensor is one
        at = A_TENSOR
      elseif key and type(at.value) == "table" then
        at = { value = rawget(at.value, key) }
      else
        at = nil
      end
    else
      at = nil
    end
    rest = after
  end
  if at and (at.value ~= nil or at.class or at.tensor) then return at end
end

function member(at)
  return (at.tensor or nb.is_tensor(at.value)) and "tensor" or type(at.class or at.value)
end

-- The value whose fields an expression has, or a tensor to stand for one that would have to be computed.
local some_tensor
local function value_of(text)
  local at = known(text)
  if not at then return nil end
  if at.tensor then
    some_tensor = some_tensor or nb.zeros(1)
    return some_tensor
  end
  return at.class or at.value
end

-- ---- the input that is being typed ----

local function note_typed(names, expression)
  for name in names:gmatch("[%a_][%w_]*") do typed[name] = expression or "" end
end

-- Learns the names in the text before the cursor: of locals, parameters, loops and assignments.
local function read_typed(text)
  typed = {}
  text = text:gsub("(['\"])[^\n'\"]*%1", "''"):gsub("%-%-[^\n]*", "")
  for name, expression in text:gmatch("%f[%w_]([%a_][%w_]*)[ \t]*=[ \t]*([^=\n][^\n]*)") do
    note_typed(name, expression:match("^(.-)[%s;]*$"))
  end
  for names in text:gmatch("%f[%w_]local[ \t]+([%a_][%w_ \t,]*)") do
    if not names:find("^function%f[^%w_]") then
      for name in names:gmatch("[%a_][%w_]*") do typed[name] = typed[name] or "" end
    end
  end
  for name in text:gmatch("%f[%w_]function[ \t]+([%a_][%w_]*)[ \t]*%(") do note_typed(name) end
  for names in text:gmatch("%f[%w_]function[^(\n]*(%b())") do note_typed(names) end
  for names in text:gmatch("%f[%w_]for[ \t]+([%a_][%w_ \t,]-)[ \t]*=") do note_typed(names) end
  for names in text:gmatch("%f[%w_]for[ \t]+([%a_][%w_ \t,]-)[ \t]+in%f[^%w_]") do note_typed(names) end
end

-- ---- fields of an expression ----

-- Calls see(name, value) for the fields of the expression that ends the text, in the frame given.  Returns its value
-- and how it is written; nil where it is not known without running it.
function complete.fields(text, frame, see)
  local before <close> = setmetatable({ complete.frame }, { __close = function(b) complete.frame = b[1] end })
  complete.frame = frame or before[1]
  registry.rows()
  read_typed(text)
  local start = expression_start(text)
  local value = start and value_of(text:sub(start))
  if value == nil then return nil end
  if see then each_field(value, see) end
  return value, text:sub(start)
end

complete.field = field

-- ---- matches ----

-- Names that begin with _ come last.
local function key_of(text)
  return (text:byte() == 95 and "1" or "0") .. text
end

-- Sorts the matches and keeps the first MOST of them.  Returns the key of the last.
local function keep_first(found)
  local keys, by_key = {}, {}
  for i, match in ipairs(found) do
    keys[i] = key_of(match.text)
    by_key[keys[i]] = match
  end
  table.sort(keys)
  for i, key in ipairs(keys) do found[i] = i <= MOST and by_key[key] or nil end
  return keys[MOST]
end

local function sorted(found)
  keep_first(found)
  for _, match in ipairs(found) do  -- only now: there may be many more
    if not match.kind then
      match.kind, match.note = kind_of(match.value)
      match.value, match.note = nil, match.note or ""
    end
  end
  return found
end

-- The ways a name may fit what is typed, the best first: it begins so, it does but for capitals, it begins with the
-- same letter and has the others in this order.
local ways = {
  function(name, prefix) return name:sub(1, #prefix) == prefix end,
  function(name, prefix) return name:sub(1, #prefix):lower() == prefix:lower() end,
  function(name, prefix)
    return #prefix > 1 and name:lower():find("^" .. prefix:lower():gsub("%W", "%%%0"):gsub("%%?.", "%0.-")) ~= nil
  end,
}

-- A list, and what puts a name into it, once.  Of thousands those that come first are sorted out as they come.
local function collector(prefix, fit)
  local found, seen, last = {}, {}, nil
  return found, function(text, value, kind, doc)
    if seen[text] or not fit(text, prefix) or last and key_of(text) > last then return end
    seen[text] = true
    found[#found + 1] = { text = text, value = value, kind = kind, note = doc or "" }
    if #found == 2 * MOST then last = keep_first(found) end
  end
end

-- What each(see) tells, as far as it fits in the best way in which anything does.
local function matches(prefix, each)
  for _, fit in ipairs(ways) do
    local found, see = collector(prefix, fit)
    each(see)
    if #found > 0 then return found end
  end
  return {}
end

local function each_name(see)
  for _, name in ipairs(complete.frame and complete.frame.names or {}) do see(name, complete.frame.value(name)) end
  for name in next, session.kept do see(name, session.local_value(name)) end
  for name, value in next, _G do
    if type(name) == "string" and name:match("^[%a_][%w_]*$") then see(name, value) end
  end
  for name in pairs(typed) do see(name, nil, "local") end
  for _, word in ipairs(keywords) do see(word, nil, "keyword") end
end

-- Names of files and folders; a folder ends with "/".
local function paths(prefix)
  local found = {}
  for _, name in ipairs(session.files(prefix)) do
    found[#found + 1] = { text = name, kind = "path", note = "" }
  end
  return found
end

-- Modules that require would find: those that are there by name, and the files along package.path.
local function each_module(prefix, see)
  for _, known_modules in ipairs { package.loaded, package.preload } do
    for name in next, known_modules do
      if type(name) == "string" and not name:match("^nablua%.") then see(name, nil, "module") end
    end
  end
  local folder = prefix:gsub("[^.]*$", ""):gsub("%.", "/")
  for template in package.path:gmatch("[^;]+") do
    local before, after = template:match("^([^?]*)%?(.*)$")
    for _, path in ipairs(before and session.files(before .. folder) or {}) do
      local name = path:sub(#before + 1)
      if after ~= "" and name:sub(-#after) == after then
        name = name:sub(1, -#after - 1):gsub("/", ".")
        if name ~= "" then see(name, nil, "module") end
      end
    end
  end
end

-- The dotted name up to byte i, apart from spaces; nil for none.
local function name_before(text, i)
  return text:sub(math.max(i - 200, 1), i):match("([%a_][%w_.:]*)%s*$")
end

-- The call that the cursor is in the options table of: `nn.Linear(2, 3, {bi` gives "nn.Linear", "bi".
local function open_call(text)
  local depth = 0
  for i = #text, 1, -1 do
    local c = text:sub(i, i)
    if c == ")" or c == "}" or c == "]" then depth = depth + 1 end
    if c == "(" or c == "{" or c == "[" then
      if depth > 0 then
        depth = depth - 1
      elseif c == "{" then
        -- Either f{ or f(..., {
        local name = name_before(text, i - 1)
        if name then return name, text:sub(i + 1) end
        local nested = 0
        for k = i - 1, 1, -1 do
          local d = text:sub(k, k)
          if d == ")" or d == "}" or d == "]" then nested = nested + 1 end
          if d == "(" or d == "{" or d == "[" then
            if nested == 0 then return d == "(" and name_before(text, k - 1), text:sub(i + 1) end
            nested = nested - 1
          end
        end
        return nil
      else
        return nil
      end
    end
  end
end

local function options_of(text)
  local name, inside = open_call(text)
  if not name or not inside:match("^[^=]*$") and not inside:match(",%s*[%w_]*$") then return nil end
  local value = value_of(name)
  local entry = value ~= nil and registry.find(value) or registry.ending(name:match("[%w_]*$"))[1]
  if not entry or not entry.params then return nil end
  local prefix = text:sub(-200):match("([%a_][%w_]*)$") or ""
  local found = {}
  for _, p in ipairs(entry.params) do
    if (p.default ~= nil or p.optional) and p.name:sub(1, #prefix) == prefix then
      local default = p.default ~= nil and "default " .. options.show(p.default) or nil
      local note = p.doc and default and p.doc .. ", " .. default or p.doc or default or ""
      found[#found + 1] = { text = p.name .. "=", kind = "option", note = note }
    end
  end
  return #found > 0 and found, prefix
end

-- Whether the text ends inside a string that begins with a quote; gives what is in it so far.
local function open_string(text)
  local line, i, quote, start = text:match("[^\n]*$"), 1, nil, nil
  while i <= #line do
    local c = line:sub(i, i)
    if quote then
      if c == "\\" then i = i + 1 elseif c == quote then quote = nil end
    elseif c == '"' or c == "'" then
      quote, start = c, i
    elseif line:sub(i, i + 1) == "--" then
      return nil
    end
    i = i + 1
  end
  if quote then return line:sub(start + 1), line:sub(1, start - 1), quote end
end

-- Within a command's name, and where a command takes a file: what is typed, and what may stand there.
local function commands_at(text)
  local marks, name = text:match("^%s*(%%+)([%w_]*)$")
  local commands = (marks or text:match("^%s*[%%!]")) and require("nablua.session.commands")
  if marks then
    local found = {}
    for called, entry in pairs(commands.by_name) do
      local fits = marks == "%" and entry.run or marks == "%%" and entry.cell
      -- An alias where the command's own name begins otherwise.
      local own = entry.name:sub(1, #name) == name
      if fits and called:sub(1, #name) == name and (called == entry.name or not own) then
        found[#found + 1] = { text = called, kind = "command", note = entry.doc }
      end
    end
    return { name, found }
  end
  local called, file = text:match("^%s*%%+([%w_]+)[^\n]-(%S*)$")
  if not called then called, file = text:match("^%s*(!)[^\n]-(%S*)$") end
  local entry = commands and called and commands.by_name[called == "!" and "sh" or called]
  if entry and entry.paths then return { file, paths(file) } end
end

-- Completions of the text before the cursor: the bytes they replace, and a list of { text=, kind=, note= }.
function complete.complete(text)
  registry.rows()  -- what is looked at raw below is loaded
  read_typed((text:gsub("[%w_]*$", "")))  -- the name at the cursor is none yet
  local command = commands_at(text)
  if command then return #command[1], sorted(command[2]) end
  local inside, head, quote = open_string(text)
  if inside then
    local chain = head:match("([%a_][%w_.:%[%]\"']*)%[$")
    local value = chain and value_of(chain)
    if value then
      local found = matches(inside, function(see) each_field(value, see) end)
      for _, match in ipairs(found) do match.text = match.text .. quote .. "]" end
      return #inside, sorted(found)
    end
    if head:match("%f[%w_]require%s*%(?%s*$") then
      return #inside, sorted(matches(inside, function(see) each_module(inside, see) end))
    end
    return #inside, sorted(paths(inside))
  end
  text = text:gsub("^%s*%?+%s*", "")
  local word = last_other(text, #text, "^[%w_]")
  local dot, prefix = last_other(text, word, "^%s"), text:sub(word + 1)
  local separator = text:sub(dot, dot)
  local object = (separator == "." or separator == ":") and text:sub(1, last_other(text, dot - 1, "^%s"))
  if object and not object:match("%.$") and not (separator == "." and object:match("^.*%f[%w_]%d+$")) then
    local start = expression_start(object)
    local value
    if start then value = value_of(object:sub(start)) end
    if value == nil then return #prefix, {} end
    return #prefix, sorted(matches(prefix, function(see)
      each_field(value, function(name, item, kind, doc)
        if not name:match("^[%a_][%w_]*$") then return end
        if prefix == "" and name:byte() == 95 then return end
        local meta = type(item) == "table" and getmetatable(item)
        local callable = type(item) == "function" or type(meta) == "table" and rawget(meta, "__call") ~= nil
        if separator == ":" and not callable then return end
        see(name, item, kind, doc)
      end)
    end))
  end
  local found, begun = options_of(text)
  if found then return #begun, found end
  prefix = prefix:match("[%a_].*") or ""
  local before = last_other(text, #text, "^%s")
  if prefix == "" and text:find("^[%w_%)%]}\"']", before) and not text:find("\n", before, true) then return 0, {} end
  return #prefix, sorted(matches(prefix, each_name))
end

-- The dotted name at a place of the text, or of the call that it is in.
function complete.name_at(before, after)
  local head = before:sub(-200):match("[%a_][%w_.:]*$") or ""
  local name = head .. (after:match("^[%w_]*") or "")
  name = name:gsub("[.:]+$", "")
  if name ~= "" then return name end
  local depth = 0
  for i = #before, 1, -1 do
    local c = before:sub(i, i)
    if c == ")" or c == "}" then depth = depth + 1 end
    if c == "(" or c == "{" then
      if depth == 0 then
        local called = name_before(before, i - 1)
        if called then return called end
      else
        depth = depth - 1
      end
    end
  end
end

return complete
