-- SPDX-License-Identifier: MIT
-- nn.module: classes of modules, and the methods that every module has.
--
-- A module is a plain Lua table: tensors, other modules and tables of them are stored in its fields.  Beside
-- each one a record keeps the order in which fields were first assigned and which belong to the state:
-- what init stores, and every leaf that requires grad.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local Module = { training = true }  -- inherited by every class
local module = { Module = Module }

native.built = native.built or 0  -- counts the parameters that modules were given: who remembers it sees changes

local records = setmetatable({}, { __mode = "k" })  -- module → { keys =, known =, state =, built =, since = }

module.unsettled = setmetatable({}, { __mode = "k" })  -- modules that have no weights before their first call

-- Whether v is a module (an instance, not a class).
function module.is(v)
  return type(v) == "table" and records[v] ~= nil
end

-- Whether there are modules inside this one.
function module.has_children(m)
  for path in m:named_modules() do
    if path ~= "" then return true end
  end
  return false
end

-- A module of the same class and fields; each value is what map(value) gives for it.  It is nobody's part yet, and has
-- no hooks.
function module.copy(m, map, copy)
  local record = records[m]
  local own = { keys = table.move(record.keys, 1, #record.keys, 1, {}), known = {}, state = {}, built = record.built,
    since = native.last_order() }
  for key in next, record.known do own.known[key] = true end
  for key in next, record.state do own.state[key] = true end
  records[copy] = own
  for key, value in next, m do rawset(copy, key, map(value)) end
  native.built = native.built + 1
  return setmetatable(copy, getmetatable(m))
end

-- Takes a field out of the module's state, or puts it in: for what is computed from others, and those.
function module.forget(m, key) records[m].state[key] = nil end

function module.learn(m, key)
  records[m].state[key] = true
  native.built = native.built + 1
end

-- The order of the last node of a tape that was made before the module.
function module.since(m) return records[m].since end

-- Iterates over all live modules, in no order.
function module.live()
  return next, records
end

-- All live modules that no other one holds, as a set; what inspection finds the names of parameters by.
function module.roots()
  local roots = {}
  for m in pairs(records) do roots[m] = true end
  for m in pairs(records) do
    for path, child in m:named_modules() do
      if path ~= "" then roots[child] = nil end
    end
  end
  return roots
end

local function is_leaf(v)
  return nb.is_tensor(v) and v.is_leaf
end

-- The first assignment of a field.
local function assign(self, key, value)
  local record = records[self]
  if type(Module[key]) == "function" then
    native.raise(('%s: a field cannot be named "%s", which is a method of every module'):format(self:kind(), key))
  end
  if not record.known[key] then
    record.known[key] = true
    record.keys[#record.keys + 1] = key
  end
  local is_parameter = is_leaf(value) and value.requires_grad
  if is_parameter then native.built = native.built + 1 end
  record.state[key] = not record.built or is_parameter or nil
  rawset(self, key, value)
end

-- ---- walking ----

local function sorted_keys(t)
  local keys = {}
  for i = 1, #t do keys[i] = i end
  local n, names = #t, {}
  for key in pairs(t) do
    if type(key) == "string" then names[#names + 1] = key end
  end
  table.sort(names)
  return table.move(names, 1, #names, n + 1, keys)
end

-- Calls visit(path, value, owner, key, in_state) for every tensor and module below `self`, in order of first
-- assignment: each once, or with `all_paths` under each of its names, but never within itself.
local function walk(self, visit, all_paths)
  local seen = { [self] = true }
  local function enter(owner, keys, prefix, record)
    for _, key in ipairs(keys) do
      local value = rawget(owner, key)
      local path = prefix .. tostring(key)
      local is_tensor = nb.is_tensor(value)
      if (is_tensor or type(value) == "table") and not seen[value] then
        local in_state = record == true or record.state[key]
        seen[value] = not is_tensor or not all_paths
        if is_tensor then
          visit(path, value, owner, key, in_state)
        elseif records[value] then
          visit(path, value, owner, key, in_state)
          enter(value, records[value].keys, path .. ".", records[value])
        elseif not getmetatable(value) then
          enter(value, sorted_keys(value), path .. ".", in_state or { state = {} })
        end
        if all_paths then seen[value] = nil end
      end
    end
  end
  enter(self, records[self].keys, "", records[self])
end

local function is_parameter(t)
  return t.is_leaf and t.requires_grad
end

-- Calls visit(path, tensor, owner, key) for all that state() holds, a tensor that several places share under the name
-- of each.
local function walk_state(self, visit)
  walk(self, function(path, value, owner, key, in_state)
    if is_leaf(value) and (in_state or value.requires_grad) then visit(path, value, owner, key) end
  end, true)
end

-- What asks for the weights of a net that has not all of them yet would miss some in silence.
local function refuse_unsettled(self, what)
  if next(module.unsettled) == nil then return end
  for path, m in self:named_modules() do
    if module.unsettled[m] then
      native.raise(("%s: %s has no weights before it is called, since its size was left out; call the net once with " ..
        "an input first"):format(what, path == "" and m:kind() or ("layer %s, %s,"):format(path, m:kind())))
    end
  end
end

-- ---- methods ----

local function method(name, entry)
  entry.name, entry.kind, entry.value = "net:" .. name, "method", entry[1]
  entry[1] = nil
  Module[name] = registry.add(entry)
end

-- Pairs of a path and a tensor that requires grad, as far as they are there.
local function own_parameters(self)
  local list = {}
  walk(self, function(path, value)
    if nb.is_tensor(value) and is_parameter(value) then list[#list + 1] = { path, value } end
  end)
  return list
end

local function own_tensors(self)
  local list = own_parameters(self)
  for i, pair in ipairs(list) do list[i] = pair[2] end
  return list
end

method("parameters", {
  doc = "The tensors that require grad, of this module and those inside it, in order of first assignment.",
  signature = "net:parameters()", example = "#nn.Linear(3, 2):parameters()  --> 2",
  function(self)
    refuse_unsettled(self, "parameters")
    local list = own_tensors(self)  -- not by a tail call: hints on errors look at what parameters was called with
    return list
  end,
})

-- An iterator over pairs collected beforehand, so that the loop's body may change the module.
local function iterate(list)
  local i = 0
  return function()
    i = i + 1
    if list[i] then return list[i][1], list[i][2] end
  end
end

method("named_parameters", {
  doc = "Iterates over dotted paths and the tensors that require grad.",
  signature = "for path, tensor in net:named_parameters() do",
  example = "nn.Sequential(nn.Linear(3, 2)):named_parameters()()  --> \"1.weight\"",
  function(self)
    refuse_unsettled(self, "named_parameters")
    return iterate(own_parameters(self))
  end,
})

method("named_modules", {
  doc = "Iterates over dotted paths and modules, beginning with the module itself, whose path is empty.",
  signature = "for path, module in net:named_modules() do",
  example = "nn.Sequential(nn.ReLU()):named_modules()()  --> \"\"",
  function(self)
    local list = { { "", self } }
    walk(self, function(path, value)
      if module.is(value) then list[#list + 1] = { path, value } end
    end)
    return iterate(list)
  end,
})

method("apply", {
  doc = "Calls f(module, path) for the module itself and every one inside it.  Returns the module.",
  signature = "net:apply(f)", see = { "nn.init.xavier_uniform" },
  example = "nn.Sequential(nn.ReLU()):apply(function(m, path) end)",
  function(self, f)
    for path, m in self:named_modules() do f(m, path) end
    return self
  end,
})

local function set_modes(self, mode)
  for _, m in self:named_modules() do rawset(m, "training", mode) end
end

method("train", {
  doc = "Puts the module and all inside it into training mode (Dropout drops, BatchNorm learns); " ..
    "train(false) is eval().  Returns the module.",
  signature = "net:train([mode])", see = { "net:eval" }, example = "nn.Dropout():train().training  --> true",
  function(self, mode)
    native.whole(set_modes, self, mode ~= false)
    return self
  end,
})

method("eval", {
  doc = "Puts the module and all inside it into evaluation mode.  Returns the module.",
  signature = "net:eval()", see = { "net:train" }, example = "nn.Dropout():eval().training  --> false",
  function(self) return self:train(false) end,
})

method("zero_grad", {
  doc = "Clears the gradients of all parameters (sets them to nil).",
  signature = "net:zero_grad()", see = { "opt:zero_grad" }, example = "nn.Linear(3, 2):zero_grad()",
  function(self)
    native.clear_grads(own_tensors(self))
  end,
})

local frozen = setmetatable({}, { __mode = "k" })  -- tensors that net:requires_grad(false) took it from

local function set_requires_grad(self, on)
  walk(self, function(_, value)
    if nb.is_tensor(value) and value.is_leaf and (frozen[value] or value.requires_grad) then
      value.requires_grad = on
      frozen[value] = not on or nil
      if not on then value.grad = nil end
    end
  end)
  native.built = native.built + 1
end

method("requires_grad", {
  doc = "requires_grad(false) freezes all parameters of the module and of those inside it: they get no gradients " ..
    "and do not move; requires_grad(true) lets those learn again.  Returns the module.",
  signature = "net:requires_grad([on])", see = { "net:parameters" },
  example = "#nn.Linear(3, 2):requires_grad(false):parameters()  --> 0",
  function(self, on)
    if on ~= nil and type(on) ~= "boolean" then
      native.raise("requires_grad: takes true or false, got " .. options.describe(on))
    end
    native.whole(set_requires_grad, self, on ~= false)
    return self
  end,
})

method("state", {
  doc = "A copy of all parameters and buffers as a table: dotted path → tensor.  What init stored belongs to it, " ..
    "and what requires grad; a tensor that several layers share stands under each of its names.",
  signature = "net:state()", see = { "net:load_state", "nb.save" },
  example = "nn.Linear(3, 2):state().weight.shape  --> {2, 3}",
  function(self)
    refuse_unsettled(self, "state")
    local state, copies = {}, {}
    nb.no_grad(function()
      walk_state(self, function(path, value)
        copies[value] = copies[value] or value:detach():clone()
        state[path] = copies[value]
      end)
    end)
    return state
  end,
})

local function listed(title, paths)
  if #paths == 0 then return nil end
  table.sort(paths)
  local shown = #paths > 8 and table.concat(paths, ", ", 1, 8) .. (" and %d more"):format(#paths - 8)
  return title .. " " .. (shown or table.concat(paths, ", "))
end

-- The state with the numbers in its paths moved by `shift`: PyTorch's lists count from 0.
local function renumbered(state, shift)
  local out = {}
  for path, t in pairs(state) do
    out[type(path) ~= "string" and path or (("." .. path):gsub("%.(%d+)%f[.\0]", function(n)
      return "." .. math.tointeger(n) + shift
    end):sub(2))] = t
  end
  return out
end

local function same_values(a, b)
  if rawequal(a, b) then return true end
  return nb.no_grad(function() return (a:eq(b) | (a:ne(a) & b:ne(b))):all():item() end)
end

-- What keeps a state from fitting the tensors that walk_state finds: nil, or lists as text; and the tensors by path.
-- One of the names of a shared tensor is enough; where there are several they must agree.
local function compare_state(self, state, strict)
  local missing, unexpected, misshaped, torn, mine, found = {}, {}, {}, {}, {}, {}
  walk_state(self, function(path, value)
    if state[path] ~= nil then found[value] = found[value] or path end
  end)
  walk_state(self, function(path, value)
    mine[path] = value
    local theirs, first = state[path], found[value]
    if theirs == nil then
      if not first then missing[#missing + 1] = path end
    elseif not nb.is_tensor(theirs) then
      misshaped[#misshaped + 1] = ("%s (%s)"):format(path, options.describe(theirs))
    elseif options.shape(theirs) ~= options.shape(value) then
      misshaped[#misshaped + 1] = ("%s (%s, the module has %s)"):format(path, options.shape(theirs),
        options.shape(value))
    elseif first ~= path and nb.is_tensor(state[first]) and options.shape(state[first]) == options.shape(value) and
        not same_values(state[first], theirs) then
      torn[#torn + 1] = ("%s and %s"):format(first, path)
    end
  end)
  for path in pairs(state) do
    if not mine[path] then unexpected[#unexpected + 1] = tostring(path) end
  end
  local complaints = {}
  if strict then
    complaints[1] = listed("missing:", missing)
    complaints[#complaints + 1] = listed("unexpected:", unexpected)
  end
  complaints[#complaints + 1] = listed("of another shape:", misshaped)
  complaints[#complaints + 1] = listed("one tensor here, but different in the state:", torn)
  return #complaints > 0 and table.concat(complaints, "; ") or nil, mine
end

local load_params = {
  { name = "strict", type = "boolean", default = true },
  { name = "from", choices = { "nablua", "pytorch" }, default = "nablua",
    doc = "whose paths they are: PyTorch's lists count from 0" },
}

method("load_state", {
  doc = "Writes a state into the module's tensors.  Missing, unexpected and wrongly shaped entries are an error " ..
    "that lists them and changes nothing; {strict=false} ignores the missing and unexpected, {from=\"pytorch\"} " ..
    "takes paths with lists that count from 0.  Returns the module.",
  see = { "net:state", "nb.load" }, params = { { name = "state", type = "table" }, table.unpack(load_params) },
  example = "local net = nn.Linear(3, 2); return net:load_state(net:state()).out_features  --> 2",
  function(self, state, given)
    if type(state) ~= "table" then
      native.raise("load_state: the state must be a table, got " .. options.describe(state))
    end
    refuse_unsettled(self, "load_state")
    local o = options.check("load_state", load_params, given)
    if o.from == "pytorch" then state = renumbered(state, 1) end
    local complaint, mine = compare_state(self, state, o.strict)
    if complaint then
      local fits = o.from == "nablua" and next(state) ~= nil and not compare_state(self, renumbered(state, 1), true)
      native.raise(("load_state: the state does not fit %s; %s%s"):format(self:kind(), complaint,
        fits and "; with its lists counted from 0, as PyTorch has them, it does: pass {from=\"pytorch\"}" or ""))
    end
    native.whole(nb.no_grad, function()
      for path, value in pairs(mine) do
        if state[path] then value:copy_(state[path]) end
      end
    end)
    return self
  end,
})

method("to", {
  doc = "Converts all floating tensors to another dtype.  They are new tensors: make the optimizer afterwards.  " ..
    "Returns the module.",
  signature = "net:to(dtype)", example = "nn.Linear(3, 2):to(\"f64\").weight.dtype  --> \"f64\"",
  function(self, dtype)
    if dtype ~= "f32" and dtype ~= "f64" then
      native.raise("to: a module converts to f32 or f64, got " .. options.describe(dtype))
    end
    local changes = {}
    walk_state(self, function(_, value, owner, key)
      if value.dtype ~= dtype and (value.dtype == "f32" or value.dtype == "f64") then
        changes[#changes + 1] = { owner, key, value }
      end
    end)
    local twin = {}
    for _, change in ipairs(changes) do
      local value = change[3]
      local new = value:detach():to(dtype)
      new.requires_grad, new.name = value.requires_grad, value.name
      twin[value] = new
    end
    -- A shared tensor was visited once; every place that holds it gets the new one.
    local function replace(owner, visited)
      visited[owner] = true
      for key, value in pairs(owner) do
        if twin[value] then
          rawset(owner, key, twin[value])
        elseif type(value) == "table" and not visited[value] and (records[value] or not getmetatable(value)) then
          replace(value, visited)
        end
      end
    end
    native.whole(replace, self, {})
    native.built = native.built + 1
    return self
  end,
})

method("kind", {
  doc = "The name of the module's class.",
  signature = "net:kind()", example = "nn.ReLU():kind()  --> \"ReLU\"",
  function(self) return getmetatable(self).__name end,
})

-- ---- text ----

local function own_numel(self)
  local n = 0
  for _, p in ipairs(own_tensors(self)) do n = n + p:numel() end
  return n
end

-- "Linear(784 → 128)"
local function title(self)
  local spec = getmetatable(self).spec
  local text = spec.describe and spec.describe(self)
  return self:kind() .. (text and text ~= "" and "(" .. text .. ")" or "")
end
module.title = title

local function children(self)
  local list = {}
  walk(self, function(path, value)
    if module.is(value) then list[#list + 1] = { path, value } end
  end)
  return list
end

-- One line for a module without children; else a tree with parameter counts.
local function to_text(self)
  local list = children(self)
  if #list == 0 then return title(self) end
  local rows, depth_of, name_width, widest = {}, {}, {}, 0
  for i, child in ipairs(list) do
    -- A child is indented below the nearest module whose path begins its own.
    local path, depth, name = child[1], 0, child[1]
    for dot in path:gmatch("()%.") do
      local above = depth_of[path:sub(1, dot - 1)]
      if above then depth, name = above + 1, path:sub(dot + 1) end
    end
    depth_of[path] = depth
    name_width[depth] = math.max(name_width[depth] or 0, native.width(name))
    rows[i] = { depth = depth, name = name, title = title(child[2]), count = own_numel(child[2]) }
  end
  for _, row in ipairs(rows) do
    row.text = ("  "):rep(row.depth + 1) .. native.pad(row.name, name_width[row.depth]) .. "  " .. row.title
    widest = math.max(widest, native.width(row.text))
  end
  local lines = { ("%s, %d parameters"):format(title(self), own_numel(self)) }
  for i, row in ipairs(rows) do
    lines[i + 1] = row.count > 0 and native.pad(row.text, widest) .. ("%12d"):format(row.count) or row.text
  end
  return table.concat(lines, "\n")
end

-- The same as a tree of tables, each { name=, title=, count=, parameters=, children= }.
local function to_tree(self)
  local by_path = {}
  local function node(m, name)
    return { name = name, title = title(m), count = own_numel(m), parameters = {}, children = {} }
  end
  -- The nearest module above a path, and what is left of the path there.
  local function above(path)
    for dot in path:reverse():gmatch("()%.") do
      local owner = by_path[path:sub(1, #path - dot)]
      if owner then return owner, path:sub(#path - dot + 2) end
    end
    return by_path[""], path
  end
  by_path[""] = node(self)
  for _, child in ipairs(children(self)) do
    local owner, name = above(child[1])
    by_path[child[1]] = node(child[2], name)
    table.insert(owner.children, by_path[child[1]])
  end
  for path, p in iterate(own_parameters(self)) do
    local owner, name = above(path)
    table.insert(owner.parameters, { name, p })
  end
  return by_path[""]
end

local function to_bundle(self, settings)
  local bundle = { ["text/plain"] = to_text(self) }
  if settings.rich then bundle["text/html"] = require("nablua.inspect.cards").net(to_tree(self)) end
  return bundle
end

-- ---- classes ----

-- The arguments given, without options at their defaults: "1, 8, 3, padding=1".
local function describe_arguments(spec, values)
  local parts = {}
  for _, p in ipairs(spec.params) do
    local v = values[p.name]
    if v ~= nil and v ~= p.default and type(v) ~= "function" then
      local text = nb.is_tensor(v) and options.describe(v) or options.show(v)
      local by_place = p.default == nil and not p.optional
      parts[#parts + 1] = by_place and text or p.name .. "=" .. text
    end
  end
  return table.concat(parts, ", ")
end

-- A module of the class: with params of the values that options.read has made of them, else of arguments.
local function make(class, values, ...)
  local meta = class.meta
  local spec = meta.spec
  local self = setmetatable({}, meta)
  local record = { keys = {}, known = {}, state = {}, built = false, since = native.last_order() }
  records[self] = record
  if spec.params then
    record.arguments = describe_arguments(spec, values)
    if spec.init then spec.init(self, values) end
    for _, p in ipairs(spec.params) do
      local value = values[p.name]
      if rawget(self, p.name) == nil and nb.is_tensor(value) then
        self[p.name] = value  -- such as the class weights of a loss: it belongs to the state
      elseif rawget(self, p.name) == nil then
        rawset(self, p.name, value or nil)
      end
    end
  elseif spec.init then
    spec.init(self, ...)
  end
  record.built = true
  return self
end
module.make = make

local function construct(class, ...)
  local spec = class.meta.spec
  return make(class, spec.params and options.read(spec.name, spec.params, ...), ...)
end

-- A module takes the class, fields and record of another, which is no module any more; its mode and its hooks stay.
function module.become(self, other)
  local training = rawget(self, "training")
  records[self], records[other] = records[other], nil
  for key in next, self do rawset(self, key, nil) end
  for key, value in next, other do rawset(self, key, value) end
  rawset(self, "training", training)
  module.unsettled[self] = nil
  native.built = native.built + 1
  return setmetatable(self, getmetatable(other))
end

local function arguments_of(self)
  return records[self].arguments
end

-- Makes a class.  `spec` is an init function, or a table:
--   doc, example, kind ("layer"), see      for help
--   params      how the constructor's arguments are read (options.lua); init gets their values as a table, and
--               those whose names init leaves free become fields; without params init gets the arguments
--   init(self, values), forward(self, ...), describe(self) → what print shows in parentheses
--   list        net[-1] is the last child
--   leaf        of the library's: forward calls operators and the library alone, nothing of the user's, so that
--               breakpoints cost nothing in it; chain: it calls the modules 1, 2, ... of its own
-- A dotted name ("nn.Linear") is where users find the class.
function module.define(name, spec)
  if type(name) ~= "string" or name == "" then
    native.raise("nn.module: the name must be a string, got " .. options.describe(name))
  end
  if type(spec) == "function" then spec = { init = spec } end
  if spec == nil then spec = {} end
  if type(spec) ~= "table" then
    native.raise("nn.module: needs an init function or a table that describes the module, got " ..
      options.describe(spec))
  end
  spec.name = name
  spec.describe = spec.describe or (spec.params and arguments_of)
  local meta = { __name = name:match("[^.]+$"), __call = native.module_call, __newindex = assign, __tostring = to_text,
    __display = to_bundle,
    spec = spec }
  local class = setmetatable({ meta = meta, forward = spec.forward }, {
    __index = Module, __call = construct, __name = "module class",
    __tostring = function() return "class " .. name end,
  })
  if spec.leaf or spec.chain then native.leaf(meta, spec.forward, spec.chain) end
  meta.class = class
  meta.__index = spec.list and native.list_index(class) or class
  registry.add { name = name, kind = spec.kind or "layer", doc = spec.doc or "A module of your own.",
    example = spec.example, params = spec.params, see = spec.see, source = spec.source, value = class,
    signature = spec.signature or (not spec.params and name .. "(...)" or nil) }
  return class
end

-- A parameter of uniform random numbers within ±bound.
function module.parameter(bound, ...)
  local shape = { ... }
  local t = nb.no_grad(function() return nb.rand(shape) * (2 * bound) - bound end)
  t.requires_grad = true
  return t
end

-- ---- errors ----

-- The path of the innermost module of a call stack in the outermost: "3"; nil where it is the outermost itself.
function module.path(stack)
  local outer, inner = stack[1], stack[#stack]
  if outer == inner then return nil end
  for path, m in outer:named_modules() do
    if m == inner then return path end
  end
end

-- Appended to a message from inside a net: " (in layer 3, Linear(784 → 10))", and what module.teach adds.
native.set_describe(function(stack, message)
  local path = module.path(stack)
  local where = (" (in %s%s)"):format(path and "layer " .. path .. ", " or "", title(stack[#stack]))
  local ok, lesson = pcall(module.teach, stack, message)
  return where .. (ok and lesson or "")
end)

-- The lesson about shapes, which the file of the summary puts in this one's place.
function module.teach(stack, message)
  require "nablua.inspect.summary"
  return module.teach(stack, message)
end

return module
