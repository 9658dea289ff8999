-- SPDX-License-Identifier: MIT
-- Controls that show bytes: pictures, which can be clicked at, sound and films.
local native = require "nablua.native"
local display = require "nablua.display"
local json = require "nablua.json"
local options = require "nablua.options"
local widget = require "nablua.ui.widget"

local media = {}

local function fail(kind, ...)
  native.raise("ui." .. kind.name .. ": " .. string.format(...))
end

-- ---- pictures ----

-- The bytes and format of a picture: PNG or JPEG bytes, SVG, or what shows itself as one of these.
local function picture_of(kind, value)
  if type(value) ~= "string" then
    local bundle = display.bundle(value, { rich = true })
    local data = bundle["image/svg+xml"] or bundle["image/png"]
    if type(data) ~= "string" then
      fail(kind, "value must be a picture or bytes of one, got %s", options.describe(value))
    end
    value = data
  end
  if value:sub(1, 4) == "\137PNG" then return value, "png" end
  if value:sub(1, 2) == "\255\216" then return value, "jpeg" end
  local svg = value:find("<svg", 1, true)
  if svg then return value:sub(svg), "svg+xml" end
  fail(kind, "value must be bytes of a PNG or JPEG picture, or SVG")
end

-- The stock picture tells nobody where it is clicked at.  One that does is a page, whose click writes the place into a
-- field that is not seen, beside it in a box.
local CLASS = "nablua-picture"
local STYLE = "<style>." .. CLASS .. " > .widget-text { display: none; }</style>"
local CLICK = "const box=this.closest('." .. CLASS .. "'),field=box.querySelector('input')," ..
  "r=this.getBoundingClientRect();" ..
  "field.value=[(event.clientX-r.left)/r.width,(event.clientY-r.top)/r.height,performance.now()].join(' ');" ..
  "for(const kind of['input','change'])field.dispatchEvent(new Event(kind,{bubbles:true}))"

local function page_of(bytes, format, width)
  return ('%s<img class="widget-image" style="cursor: crosshair" draggable="false"%s src="data:image/%s;base64,%s" ' ..
    'onclick="%s">'):format(STYLE, width ~= "" and (' width="%s"'):format(width:gsub("[^%w%%.]", "")) or "", format,
    require "nablua.base64"(bytes), CLICK)
end

-- Calls the handlers of a click with its place; of their errors the first is raised behind the last.
local function click(w, x, y)
  local list, first = widget.private(w).clicked, nil
  for _, f in ipairs(table.move(list, 1, #list, 1, {})) do
    local ok, problem = pcall(f, x, y, w)
    if not ok and first == nil then first = problem end
  end
  if first ~= nil then error(first, 0) end
end

local Picture = {
  name = "picture", model = "Image",
  doc = "A picture: bytes of PNG or JPEG, SVG, or a plot; assign another to redraw it.",
  params = {
    { name = "value", type = "any", doc = "the picture" },
    { name = "width", type = "string", default = "", doc = "in pixels; its own" },
  },
  example = "nb.ui.picture(nb.plot.curve{1, 2, 3}).format  --> \"svg+xml\"", see = { "w:on_click", "w.value" },
  brief = false,
  make = function(kind, o)
    o.value, o.format = picture_of(kind, o.value)
    return widget.new(kind, o)
  end,
  check = function(w, field, value)
    local p = widget.private(w)
    if field ~= "value" then return value end
    local bytes, format = picture_of(p.kind, value)
    widget.set(w, "format", format)
    if p.page then widget.set(p.page, "value", page_of(bytes, format, p.values.width)) end
    return bytes
  end,
  encode = function(_, field, value)
    if field == "value" then return { bytes = value } end
    return value
  end,
  decode = function() return nil end,
  text = function(_, o) return ("picture, %d bytes of %s"):format(#o.value, o.format) end,
}

local Clicked = setmetatable({
  model = "VBox",
  encode = function(w, field)
    if field == "classes" then return json.list { CLASS } end
    if field ~= "children" then return nil end
    local ids = json.list {}
    for i, child in ipairs(widget.private(w).children) do ids[i] = "IPY_MODEL_" .. (widget.open(child) or "") end
    return ids
  end,
}, { __index = Picture })

local function make_clicked(w)
  local p = widget.private(w)
  if p.comm then native.raise "w:on_click: the picture is shown already; say so before it is" end
  local o, place = p.values, widget.make.text {}
  p.page = widget.make.html(page_of(o.value, o.format, o.width))
  place:on_change(function(text)
    local x, y = text:match "^(%S+) (%S+) "
    x, y = tonumber(x), tonumber(y)
    if x and y then click(w, math.max(0, math.min(1, x)), math.max(0, math.min(1, y))) end
  end)
  p.kind, p.clicked, p.children = Clicked, {}, { p.page, place }
  o.children, o.classes = p.children, true
end

media[1] = widget.entry(Picture)
Picture.keys.classes = "_dom_classes"

widget.document(":on_click", {
  doc = "Calls f(x, y, w) at each click at a picture in a notebook: how far it is from the left and from the top, " ..
    "from 0 to 1.  To be called before the picture is shown.  Returns w.",
  signature = "w:on_click(f)", see = { "ui.picture" },
  example = "local w = nb.ui.picture(nb.plot.curve{1, 2, 3}):on_click(print); return w.format  --> \"svg+xml\"",
  function(self, f)
    local p = widget.private(self)
    if p.kind.name ~= "picture" then
      native.raise(("w:on_click: expected a picture, got a %s; buttons have w:on_change"):format(p.kind.name))
    end
    if not options.is_callable(f) then
      native.raise(("w:on_click: expected a function, got %s"):format(options.describe(f)))
    end
    if not p.clicked then make_clicked(self) end
    table.insert(p.clicked, f)
    return self
  end,
})

-- ---- sound and films ----

local function define_played(name, model, doc, format)
  media[#media + 1] = widget.entry {
    name = name, model = model, doc = doc, see = { "w.value" }, brief = false,
    params = {
      { name = "value", type = "string", doc = "the bytes of a file" },
      { name = "format", type = "string", default = format, doc = "what they are, the end of a MIME type" },
      { name = "autoplay", type = "boolean", default = false },
      { name = "loop", type = "boolean", default = true },
    },
    example = ("nb.ui.%s(\"bytes\").format  --> %q"):format(name, format),
    encode = function(_, field, value)
      if field == "value" then return { bytes = value } end
      return value
    end,
    decode = function(w, field, sent)
      local o = widget.private(w).values
      return field ~= "value" and type(sent) == type(o[field]) and sent or nil
    end,
    text = function(_, o) return ("%s, %d bytes of %s"):format(name, #o.value, o.format) end,
  }
end
define_played("audio", "Audio", "A sound with its buttons.", "mpeg")
define_played("video", "Video", "A film with its buttons.", "mp4")

return media
