-- SPDX-License-Identifier: MIT
-- What all controls have: a value, handlers, and a counterpart in a notebook's page that both keep alike, by the
-- widgets' message protocol 2.1 (ipywidgets, packages/schema/messages.md).
--
-- A kind is { name=, model=, view=, package=, version=, params=, keys=, encode=, decode=, check= }: `keys` tells how
-- what users call a field is called in messages; encode(w, field, value) and decode(w, field, sent) translate values,
-- decode gives nil for what is none; check(w, field, value) raises what is wrong with a value that the user assigns.
-- `main` is the field that handlers are told of, where it is not the value.  For a terminal's line (line.lua): brief(w,
-- values) is its text, move(w, values, by) the value so many steps on, press(w) what Enter does, typed(w, text) the
-- value that a text stands for.
local native = require "nablua.native"
local nb = require "nablua.core"
local display = require "nablua.display"
local json = require "nablua.json"
local options = require "nablua.options"
local registry = require "nablua.registry"

local widget = {}

local VIEW = "application/vnd.jupyter.widget-view+json"
local VERSION = { version = "2.1.0" }

local own = setmetatable({}, { __mode = "k" })  -- control → what it keeps to itself
local shown = {}                                -- id → control that a page knows

local Control = { __name = "control" }
local methods = {}

-- Told of each control that has changed; what draws controls puts another here.
function widget.changed() end

-- ---- messages ----

-- The comms of a session whose client may have widgets; nil elsewhere.
local function comms()
  if not display.show then return nil end
  local session = require "nablua.session.native"
  if not session.has_client() then return nil end
  return require "nablua.session.comms"
end

-- The fields as messages call them; bytes stand apart, with the paths at which they belong.
local function wire_state(w, fields)
  local p = own[w]
  local state, paths, buffers = {}, json.list {}, {}
  for field in pairs(fields) do
    local value, key = p.values[field], p.kind.keys[field] or field
    if p.kind.encode then value = p.kind.encode(w, field, value) end
    if type(value) == "table" and value.bytes then
      paths[#paths + 1], buffers[#buffers + 1] = json.list { key }, value.bytes
    elseif value ~= nil then
      state[key] = value
    end
  end
  return state, paths, buffers
end

local function whole_state(w)
  local kind = own[w].kind
  local state, paths, buffers = wire_state(w, own[w].values)
  state._model_module, state._model_module_version = kind.package, kind.version
  state._view_module, state._view_module_version = kind.package, kind.version
  state._model_name, state._view_name = kind.model .. "Model", (kind.view or kind.model) .. "View"
  local layout = own[w].layout
  if layout and own[layout].comm then state.layout = "IPY_MODEL_" .. own[layout].comm.id end
  return state, paths, buffers
end

local function send(w, fields, method)
  local p = own[w]
  if not p.comm then return end
  local state, paths, buffers = wire_state(w, fields)
  if next(state) == nil and #buffers == 0 then return end  -- nothing of it concerns the page
  p.comm:send({ method = method or "update", state = state, buffer_paths = paths }, buffers)
end

-- ---- handlers ----

-- Calls all handlers; of their errors the first is raised behind the last.
function widget.call_handlers(w)
  local p, first = own[w], nil
  if p.calling > 20 then
    native.raise(("ui.%s: its handler changes it over and over; let it assign another control"):format(p.kind.name))
  end
  p.calling = p.calling + 1
  for _, handler in ipairs(table.move(p.handlers, 1, #p.handlers, 1, {})) do
    local ok, problem = pcall(handler, p.values[p.kind.main or "value"], w)
    if not ok and first == nil then first = problem end
  end
  p.calling = p.calling - 1
  if first ~= nil then error(first, 0) end
end

-- What the page says of its state; what is none is answered with ours.
local function take_update(w, state)
  local p, changed, taken, refused = own[w], false, {}, {}
  for field, value in pairs(p.values) do
    local sent = state[p.kind.keys[field] or field]
    if sent ~= nil then
      local new
      if p.kind.decode then
        new = p.kind.decode(w, field, sent)
      elseif type(sent) == type(value) then
        new = sent
      end
      if new == nil then refused[field] = true else taken[field] = new end
    end
  end
  for field, new in pairs(taken) do
    if p.values[field] ~= new then
      p.values[field] = new
      changed = changed or field == (p.kind.main or "value")
    end
  end
  if next(taken) then send(w, taken, "echo_update") end
  if next(refused) then send(w, refused) end
  return changed
end

-- A change that waited for the last of a drag is handled before whatever else comes.
local function settle_change(w)
  local p = own[w]
  if not p.changed then return end
  p.changed = false
  widget.call_handlers(w)
end

local function receive(w, data, more)
  local p = own[w]
  if type(data) ~= "table" then data = {} end
  if data.method == "update" and type(data.state) == "table" then
    p.changed = take_update(w, data.state) or p.changed
    if more then return end
  end
  if data.method == "request_state" then  -- from a page that knows no more than the id
    local state, paths, buffers = whole_state(w)
    p.comm:send({ method = "update", state = state, buffer_paths = paths }, buffers)
  end
  settle_change(w)
  if data.method == "custom" and p.kind.custom and type(data.content) == "table" then
    p.kind.custom(w, data.content)
  end
end

-- ---- in a page ----

-- Gives the control, and what it holds, a counterpart; its id, nil where there is no page.
function widget.open(w)
  local p, c = own[w], comms()
  if p.comm then return p.comm.id end
  if not c or p.closed then return nil end
  for _, child in ipairs(p.children or {}) do widget.open(child) end
  if p.layout then widget.open(p.layout) end
  local state, paths, buffers = whole_state(w)
  p.comm = c.open("jupyter.widget", { state = state, buffer_paths = paths }, buffers, VERSION)
  p.comm.on_message = function(data, _, more) receive(w, data, more) end
  p.comm.on_close = function()
    shown[p.comm.id], p.comm = nil, nil
    settle_change(w)
  end
  shown[p.comm.id] = w
  return p.comm.id
end

-- A page that is loaded anew asks for all of them at once.
local function answer_states(comm, data)
  if type(data) ~= "table" or data.method ~= "request_states" then return end
  local states, all_paths, all_buffers = {}, json.list {}, {}
  for id, w in pairs(shown) do
    local state, paths, buffers = whole_state(w)
    states[id] = { model_name = state._model_name, model_module = state._model_module,
      model_module_version = state._model_module_version, state = state }
    for i, path in ipairs(paths) do
      all_paths[#all_paths + 1] = json.list { id, "state", table.unpack(path) }
      all_buffers[#all_buffers + 1] = buffers[i]
    end
  end
  comm:send({ method = "update_states", states = states, buffer_paths = all_paths }, all_buffers)
end

if display.show then
  require("nablua.session.comms").register("jupyter.widget.control", function(comm)
    comm.on_message = function(data) answer_states(comm, data) end
  end)
end

-- ---- as a value ----

local function text_of(value)
  if math.type(value) == "float" then return ("%.5g"):format(value) end
  if type(value) == "string" then return ("%q"):format(#value > 60 and value:sub(1, 57) .. "..." or value) end
  return display.pretty(value)
end

function widget.text(w)
  local p = own[w]
  if p.kind.text then return p.kind.text(w, p.values) end
  local label = p.values.label
  return ("%s%s%s"):format(p.kind.name, label and label ~= "" and " " .. label or "",
    p.values.value ~= nil and " = " .. text_of(p.values.value) or "")
end

function Control:__tostring() return widget.text(self) end

function Control:__display(settings)
  local bundle = { ["text/plain"] = widget.text(self) }
  local id = settings.rich and widget.open(self)
  if id then bundle[VIEW] = { version_major = 2, version_minor = 0, model_id = id } end
  if display.show and not comms() then require("nablua.ui.line").show(self) end
  return bundle
end

function Control:__index(key)
  local p = own[self]
  if methods[key] then return methods[key] end
  if p.kind.methods and p.kind.methods[key] then return p.kind.methods[key] end
  if p.kind.get and p.kind.get[key] then return p.kind.get[key](self, p.values) end
  return p.values[key]
end

-- Sets a field as the user does, without a word to the handlers; whether that changed it.
function widget.set(w, field, value)
  local p = own[w]
  if p.kind.check then value = p.kind.check(w, field, value) end
  if rawequal(p.values[field], value) or (type(value) ~= "table" and p.values[field] == value) then return false end
  p.values[field] = value
  send(w, { [field] = true })
  widget.changed(w)
  return true
end

function Control:__newindex(key, value)
  local p = own[self]
  local where = ("ui.%s"):format(p.kind.name)
  if p.kind.set and p.kind.set[key] then return p.kind.set[key](self, value) end
  local param = p.fields[key]
  if not param then
    local names = {}
    for name in pairs(p.fields) do names[#names + 1] = name end
    table.sort(names)
    native.no_option(where, tostring(key), names)
  end
  if param.fixed then native.raise(("%s: %s is as it was made; make another"):format(where, key)) end
  if value == nil then native.raise(("%s: %s cannot be nil"):format(where, key)) end
  if widget.set(self, key, options.check_value(where, param, value)) and key == (own[self].kind.main or "value") then
    widget.call_handlers(self)
  end
end

-- ---- what users call ----

-- Adds a method (":name") or field (".name") of controls to the registry.
function widget.document(name, entry)
  entry.name, entry.kind = "w" .. name, name:sub(1, 1) == ":" and "method" or "field"
  if entry.kind == "method" then
    entry.value = entry[1]
    methods[name:sub(2)] = entry.value
  end
  entry[1] = nil
  registry.add(entry)
end

widget.document(":on_change", {
  doc = "Calls f(value, w) whenever the value changes: by hand, in the middle of what runs, or by assignment.  " ..
    "Returns w.",
  signature = "w:on_change(f)", see = { "w.value", "ui.bind" },
  example = "local seen; local w = nb.ui.slider{}:on_change(function(v) seen = v end); w.value = 0.25; return seen" ..
    "  --> 0.25",
  function(self, f)
    if not options.is_callable(f) then
      native.raise(("w:on_change: expected a function, got %s"):format(options.describe(f)))
    end
    table.insert(own[self].handlers, f)
    return self
  end,
})

widget.document(":close", {
  doc = "Removes a control from the page; its value stays.",
  signature = "w:close()", example = "local w = nb.ui.toggle{value=true}; w:close(); return w.value  --> true",
  function(self)
    local p = own[self]
    p.closed = true
    widget.changed(self)
    if p.layout then p.layout:close() end
    if not p.comm then return end
    shown[p.comm.id] = nil
    p.comm:close()
    p.comm = nil
  end,
})

widget.document(".value", {
  doc = "What a control is at; assign it to move the control, which calls its handlers.", see = { "w:on_change" },
  example = "local w = nb.ui.number{value=3}; w.value = 4; return w.value  --> 4",
})
widget.document(".label", {
  doc = "What stands beside a control; can be assigned.",
  example = "local w = nb.ui.text{label=\"name\"}; return w.label  --> \"name\"",
})
widget.document(".disabled", {
  doc = "Whether a control can be moved by hand; can be assigned.",
  example = "local w = nb.ui.button{label=\"go\"}; w.disabled = true; return w.disabled  --> true",
})

-- ---- making ----

local common = {
  { name = "label", type = "string", default = "", doc = "what stands beside it" },
  { name = "disabled", type = "boolean", default = false, doc = "it cannot be moved by hand" },
}

function widget.is(v)
  return own[v] ~= nil
end

function widget.private(w)
  return own[w]
end

-- A control of a kind with these values.
function widget.new(kind, values, children)
  local w = setmetatable({}, Control)
  local fields = {}
  for _, param in ipairs(kind.params) do fields[param.name] = param end
  own[w] = { kind = kind, values = values, fields = fields, handlers = {}, calling = 0, children = children }
  return w
end

-- Lets a control be as wide as what holds it, in place of the width that its kind has.
function widget.widen(w)
  own[w].layout = widget.new({ name = "layout", model = "Layout", package = "@jupyter-widgets/base", version = "2.0.0",
    params = {}, keys = {} }, { width = "98%" })
  return w
end

-- What users call, by name.
widget.make = {}

-- The entry of a kind for the registry; make(o), where a kind has it, changes the options into values.
function widget.entry(kind)
  local params = table.move(kind.params, 1, #kind.params, 1, {})
  if not kind.plain then table.move(common, 1, #common, #params + 1, params) end
  kind.params = params
  kind.package, kind.version = kind.package or "@jupyter-widgets/controls", kind.version or "2.0.0"
  kind.keys = kind.keys or {}
  kind.keys.label = kind.keys.label or "description"
  widget.make[kind.name] = function(...)
    return (kind.make or widget.new)(kind, options.read("ui." .. kind.name, params, ...))
  end
  return {
    name = kind.name, doc = kind.doc, params = params, example = kind.example, see = kind.see or { "w.value" },
    widget.make[kind.name],
  }
end

-- Whether a value is a tensor or a number that stands for one; numbers of either are numbers.
function widget.number(v)
  return nb.is_tensor(v) and v:item() or v
end

return widget
