-- SPDX-License-Identifier: MIT
-- Controls that hold others, and a place for what is shown.
local native = require "nablua.native"
local display = require "nablua.display"
local json = require "nablua.json"
local options = require "nablua.options"
local widget = require "nablua.ui.widget"

local layout = {}

-- ---- boxes ----

local function indented(text, by)
  return (by .. text:gsub("\n", "\n" .. (" "):rep(#by)))
end

local function children_of(kind, o)
  local list = o.children
  if widget.is(list) then list = { list } end
  for i = 1, #list do
    if not widget.is(list[i]) then list[i] = layout.shown(list[i]) end
  end
  if #list == 0 then native.raise(("ui.%s: expected a list of controls, got an empty one"):format(kind.name)) end
  return list
end

local function encode(w, field, value)
  if field ~= "children" then return value end
  local ids = json.list {}
  for i, child in ipairs(widget.private(w).children) do ids[i] = "IPY_MODEL_" .. (widget.open(child) or "") end
  return ids
end

local function define(kind)
  kind.params = { { name = "children", type = "table", fixed = true, doc = "controls, or values to show" } }
  table.move(kind.more or {}, 1, #(kind.more or {}), 2, kind.params)
  kind.plain, kind.encode = true, kind.encode or encode
  kind.decode = kind.decode or function() return nil end
  kind.make = function(k, o)
    o.children = children_of(k, o)
    if k.begin then k.begin(k, o) end
    return widget.new(k, o, o.children)
  end
  kind.text = kind.text or function(w)
    local parts = {}
    for i, child in ipairs(widget.private(w).children) do parts[i] = widget.text(child) end
    return table.concat(parts, kind.between)
  end
  layout[#layout + 1] = widget.entry(kind)
end

define {
  name = "row", model = "HBox", between = "   ", doc = "Controls beside each other.",
  example = "tostring(nb.ui.row{nb.ui.label(\"a\"), nb.ui.label(\"b\")})  --> \"a   b\"",
  see = { "ui.column", "ui.tabs" },
}
define {
  name = "column", model = "VBox", between = "\n", doc = "Controls above each other.",
  example = "tostring(nb.ui.column{nb.ui.label(\"a\"), nb.ui.label(\"b\")})  --> \"a\\nb\"",
  see = { "ui.row", "ui.tabs" },
}

local function define_titled(name, model, doc, first)
  define {
    name = name, model = model, doc = doc, see = { "ui.row", "ui.column" }, main = "selected",
    more = { { name = "titles", type = "table", fixed = true, optional = true, doc = "a text for each" },
      { name = "selected", type = "integer", default = first, doc = "the one that is open; 0: none" } },
    keys = { selected = "selected_index" },
    example = ("nb.ui.%s({nb.ui.label \"a\", nb.ui.label \"b\"}, {selected=2}).selected  --> 2"):format(name),
    begin = function(kind, o)
      o.titles = o.titles or {}
      for i = 1, #o.children do o.titles[i] = tostring(o.titles[i] or i) end
      if o.selected < 0 or o.selected > #o.children then
        native.raise(("ui.%s: selected must be from 0 to %d, got %d"):format(kind.name, #o.children, o.selected))
      end
    end,
    encode = function(w, field, value)
      if field == "titles" then return json.list(value) end
      if field == "selected" then return value > 0 and value - 1 or json.null end
      return encode(w, field, value)
    end,
    check = function(w, field, value)
      local p = widget.private(w)
      if field == "selected" and (value < 0 or value > #p.children) then
        native.raise(("ui.%s: selected must be from 0 to %d, got %d"):format(p.kind.name, #p.children, value))
      end
      return value
    end,
    decode = function(w, field, sent)
      local count = #widget.private(w).children
      return field == "selected" and math.type(sent) == "integer" and sent >= 0 and sent < count and sent + 1 or nil
    end,
    text = function(w, o)
      local parts = {}
      for i, child in ipairs(widget.private(w).children) do
        parts[i] = ("%s\n%s"):format(o.titles[i], indented(widget.text(child), "  "))
      end
      return table.concat(parts, "\n")
    end,
  }
end
define_titled("tabs", "Tab", "Controls behind each other, each with a tab; handlers are told which is open.", 1)
define_titled("accordion", "Accordion", "Controls above each other that fold; handlers are told which is open.", 0)

-- ---- what is shown ----

local Output = {
  name = "output", model = "Output", package = "@jupyter-widgets/output", version = "1.0.0", plain = true,
  brief = false, redrawn = true,
  doc = "A place for what is shown: w:show(value) replaces what stands there, w:run(f, ...) does so by what f " ..
    "prints and returns.",
  params = {}, see = { "ui.interact" },
  example = "local w = nb.ui.output(); w:show(42); return tostring(w)  --> \"42\"",
  make = function(kind, o)
    o.outputs = {}
    return widget.new(kind, o)
  end,
  encode = function(_, field, value)
    if field ~= "outputs" then return value end
    local list = json.list {}
    for i, item in ipairs(value) do
      if type(item) == "string" then
        list[i] = { output_type = "stream", name = "stdout", text = item }
      else
        list[i] = { output_type = "display_data", metadata = {}, data = item }
      end
    end
    return list
  end,
  decode = function() return nil end,
  text = function(_, o)
    local parts = {}
    for i, item in ipairs(o.outputs) do parts[i] = type(item) == "string" and item or item["text/plain"] end
    return (table.concat(parts, "\n"):gsub("\n$", ""))
  end,
}

-- A bundle as JSON holds it: SVG and what is text already.
local function plain_bundle(value)
  local bundle, kept = display.bundle(value, { rich = true }), {}
  for mime, data in pairs(bundle) do
    if mime ~= "metadata" and (mime:find "^text/" or mime == "image/svg+xml" or type(data) == "table") then
      kept[mime] = data
    end
  end
  return kept
end

local function printed_by(f, ...)
  local arguments, results = table.pack(...), nil
  local function call() results = table.pack(f(table.unpack(arguments, 1, arguments.n))) end
  if not display.show then return call(), results end
  local text = require("nablua.session.native").capture(call)
  return text ~= "" and text or nil, results
end

Output.methods = {
  show = function(w, value)
    widget.set(w, "outputs", value ~= nil and { plain_bundle(value) } or {})
    return w
  end,
  run = function(w, f, ...)
    if not options.is_callable(f) then
      native.raise(("w:run: expected a function, got %s"):format(options.describe(f)))
    end
    local text, results = printed_by(f, ...)
    local outputs = { text }
    if results[1] ~= nil then outputs[#outputs + 1] = plain_bundle(results[1]) end
    widget.set(w, "outputs", outputs)
    return table.unpack(results, 1, results.n)
  end,
}
layout[#layout + 1] = widget.entry(Output)

-- A value that is no control, as one that shows it.
function layout.shown(value)
  if type(value) == "string" then return widget.new(Output, { outputs = { value } }) end
  return widget.new(Output, { outputs = { plain_bundle(value) } })
end

function layout.output()
  return widget.new(Output, { outputs = {} })
end

return layout
