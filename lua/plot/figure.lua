-- SPDX-License-Identifier: MIT
-- The plot object: made by a kind of plot, shown in a terminal or notebook, saved, updated while something runs.
--
-- A kind describes what to draw as a scene, which knows neither characters nor pixels:
--   { title=, width=, height=, columns=, panels = { panel, ... } }
--   panel  { title=, xlabel=, ylabel=, note=, x = axis, y = axis, marks = { mark, ... },
-- ends = direct labels { y=, text=, color= }, legend = { text=, color=, mark= }, bar = { scale=, low=, high= }, square
-- = one unit is as long on both axes, plain = no grid, bands = areas one above another } mark { type = "line" |
-- "points" | "bars" | "area" | "raster" | "texts", ... }, see terminal.lua, svg.lua and gnuplot.lua
local native = require "nablua.native"
local display = require "nablua.display"
local gnuplot = require "nablua.plot.gnuplot"
local options = require "nablua.options"
local registry = require "nablua.registry"
local style = require "nablua.plot.style"
local svg = require "nablua.plot.svg"
local terminal = require "nablua.plot.terminal"

local figure = {}

local Figure = { __name = "plot" }
Figure.__index = Figure

-- ---- showing ----

-- A scene as "svg", which needs no other program, or through gnuplot as "png" (with `scale` times as many pixels) or
-- "pdf", on a ground of style.grounds.
function figure.draw(scene, format, scale, ground)
  if format == "svg" then return svg.draw(scene, ground) end
  return gnuplot.draw(scene, format, scale, ground)
end

local function scene_of(self)
  local scene = self.spec.scene(self)
  scene.fixed = self.options.width and self.options.height
  scene.width, scene.height = self.options.width or scene.width, self.options.height or scene.height
  return scene
end

-- The plot as one of these.  A PNG has twice as many pixels.
local function drawn(self, format, ground)
  local own = self.spec[format]
  if own then return style.on(ground, own, self, 2) end
  return figure.draw(scene_of(self), format, 2, ground)
end

-- What notebooks get, by plot.formats.
figure.mimes = { svg = "image/svg+xml", png = "image/png", pdf = "application/pdf" }
figure.formats = { "svg" }

-- Adds drawings to the bundle, each made by draw(format, ground); false and why where it fails.
function figure.add_drawings(bundle, draw)
  for _, format in ipairs(figure.formats) do
    local ok, drawing = pcall(draw, format, format == "svg" and style.grounds.clear or style.grounds.paper)
    if not ok and native.interrupted() then error(drawing, 0) end
    if not ok then return false, drawing end
    bundle[figure.mimes[format]] = drawing
  end
  return true
end

-- The plot as SVG for a page of any ground.
function figure.within_page(plot)
  return (drawn(plot, "svg", style.grounds.clear):gsub("^.-(<svg)", "%1", 1))
end

local function text(self, settings)
  if self.spec.text then return self.spec.text(self, settings) end
  return terminal.draw(scene_of(self), settings)
end

function Figure:__display(settings)
  local bundle = { ["text/plain"] = text(self, settings) }
  if settings.rich then
    local ok, why = figure.add_drawings(bundle, function(format, ground) return drawn(self, format, ground) end)
    if not ok then
      bundle["text/plain"] = bundle["text/plain"] .. "\n(" .. tostring(why):gsub("^[^\n]-: ", "", 1) .. ")"
    end
  end
  return bundle
end

function Figure:__tostring()
  return text(self, { color = false })
end

-- ---- methods ----

local function method(name, entry)
  entry.name, entry.kind, entry.value = "p:" .. name, "method", entry[1]
  entry[1] = nil
  Figure[name] = registry.add(entry)
end

method("save", {
  doc = "Writes the plot to a file: .svg, .png (with twice as many pixels as width and height say, or scale=) or " ..
    ".txt.  Returns the plot.  PNG needs gnuplot, graphs need Graphviz; an error says how to install them.",
  signature = "p:save(path, {scale=2})", see = { "plot.curve" },
  params = { { name = "path", type = "string" },
    { name = "scale", type = "size", default = 2, doc = "pixels of a PNG in a unit of width and height" } },
  example = "pcall(function() plot.curve({3, 2, 1}):save(\"loss.doc\") end)  --> false",
  function(self, path, given)
    if type(path) ~= "string" then
      native.raise("save: the path must be a string, got " .. options.describe(path))
    end
    local o = options.check("save", { { name = "scale", type = "size", default = 2 } }, given)
    local extension = path:match("%.(%w+)$")
    local kind = extension and extension:lower()
    local content
    if kind == "svg" then
      content = drawn(self, "svg", style.grounds.paper)
    elseif kind == "png" then
      if o.scale > 8 then native.raise("save: scale must be 1 to 8, got " .. o.scale) end
      content = self.spec.png and self.spec.png(self, o.scale) or gnuplot.draw(scene_of(self), "png", o.scale)
    elseif kind == "txt" then
      content = text(self, { width = 80, color = false }) .. "\n"
    else
      native.raise(("save: the file's name must end in .svg, .png or .txt, got %s"):format(options.describe(path)))
    end
    native.replace("save", path, content)
    return self
  end,
})

-- ---- in place, while something runs ----

local SHARE = 10     -- of the time at most a tenth is spent drawing
local LEAST = 0.1    -- seconds between drawings
local count = 0

local function redraw(self)
  local start = native.clock()
  self.stale = nil
  if self.id then
    display.update(self, self.id)
  else
    count = count + 1
    self.id = "nablua-plot-" .. count
    display.show(self, { id = self.id })
  end
  self.drawn = native.clock()
  self.pause = math.max(LEAST, math.min(SHARE * (self.drawn - start), 10))
end

-- Reads the data anew: from the arguments given, as far as they are, and those of before.
local function renew(self, ...)
  local args, n, merged = { ... }, select("#", ...), {}
  local required, places = 0, {}
  for _, p in ipairs(self.spec.params) do
    if p.default == nil and not p.optional then required = required + 1 end
    if p.positional or p.default == nil and not p.optional then places[#places + 1] = p.name end
  end
  for key, v in pairs(self.options) do merged[key] = v end
  if n > required and type(args[n]) == "table" and not getmetatable(args[n]) and #args[n] == 0 then
    for key, v in pairs(args[n]) do merged[key] = v end
    args[n] = nil
  end
  local same = args[1] == nil
  for i, name in ipairs(places) do
    if same then args[i] = self.options[name] end
    merged[name] = nil
  end
  args[#places + 1] = merged
  self.options = self.spec.arguments(table.unpack(args, 1, #places + 1))
  self.data = self.spec.read(self.options, self)
end

method("update", {
  doc = "Takes new data, as the plot's function does, and redraws the plot in its place, at most ten times a " ..
    "second.  A curve takes numbers by name too, and goes on with them: p:update{loss=0.3}.  What is left out " ..
    "stays; without data the net or tensor of before is read as it is now.  Returns the plot.",
  signature = "p:update(...)", see = { "p:close", "plot.curve" },
  example = "plot.curve({loss={3, 2}}):update{loss=1}.kind  --> \"curve\"",
  function(self, ...)
    local take = self.spec.update or renew
    take(self, ...)
    if display.show then
      self.stale = true
      if display.live() and (not self.drawn or native.clock() - self.drawn >= self.pause) then redraw(self) end
      display.pending[self] = self.stale
    end
    return self
  end,
})

method("close", {
  doc = "Draws the last update, if the plot has not yet; this happens by itself at the input's end.",
  signature = "p:close()", see = { "p:update" }, example = "plot.curve({3, 2, 1}):close()",
  function(self)
    display.pending[self] = nil
    if self.stale and display.show then redraw(self) end
  end,
})

Figure.settle = Figure.close
Figure.__close = Figure.close

-- ---- kinds ----

local common = {
  title = { type = "string", doc = "above the plot" },
  xlabel = { type = "string", doc = "below the x axis" },
  ylabel = { type = "string", doc = "beside the y axis" },
  logx = { type = "boolean", default = false, doc = "logarithmic x axis" },
  logy = { type = "boolean", default = false, doc = "logarithmic y axis" },
  legend = { type = "boolean", default = true, doc = "name the series" },
  width = { type = "pixels", doc = "pixels of drawings" },
  height = { type = "pixels", doc = "pixels of drawings" },
}

-- Defines plot.NAME in `home`.  `spec`:
--   params, common   how its arguments are read: its own (options.lua), and the names of the common ones
--   read(o)          the data, checked, from the arguments' values
--   scene(self)      what to draw, from self.data and self.options
--   update           how p:update takes data, where it is not as the function does
--   text, svg, png   for what is no scene
--   doc, signature, example, see
function figure.define(home, prefix, name, spec)
  local where, params = prefix .. name, {}
  for _, p in ipairs(spec.params) do params[#params + 1] = p end
  for _, key in ipairs(spec.common or { "title", "width", "height" }) do
    local p = { name = key }
    for k, v in pairs(common[key]) do p[k] = v end
    if p.default == nil then p.optional = true end
    params[#params + 1] = p
  end
  spec.params = params
  function spec.arguments(...) return options.read(where, params, ...) end
  registry.define(home, prefix, name, {
    doc = spec.doc, signature = spec.signature, params = params, example = spec.example, see = spec.see,
    code = function() return spec.read, spec.scene or spec.text end,
    value = function(...)
      local o = spec.arguments(...)
      local self = setmetatable({ kind = name, spec = spec, options = o }, Figure)
      self.data = spec.read(o, self)
      return self
    end,
  })
end

return figure
