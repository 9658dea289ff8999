-- SPDX-License-Identifier: MIT
-- Draws a scene as SVG, without any other program: lines, points, areas, pixels and texts.
local native = require "nablua.native"
local base64 = require "nablua.base64"
local layout = require "nablua.plot.layout"
local marks = require "nablua.plot.marks"
local style = require "nablua.plot.style"

local svg = {}

local SIZE = layout.SIZE
local FAMILY = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
local POINT = 3.6       -- the radius of a point of size 1
local TICK = 4          -- pixels
local BASE = 0.36       -- of a text's size lies its base line below its middle

-- Pixels of two decimals; places that no drawing needs are cut, since readers of SVG count in floats.
local function px(v)
  v = math.max(-1e6, math.min(v, 1e6))
  return (("%.2f"):format(v):gsub("%.?0+$", ""))
end

local Pen = {}
Pen.__index = Pen

function Pen:add(format, ...)
  self[#self + 1] = format:format(...)
end

function Pen:label(text, left, top, o)
  local anchor = o.align == "center" and ' text-anchor="middle"' or o.align == "right" and ' text-anchor="end"' or ""
  local size = o.size or SIZE
  local turn = o.turn and (' transform="rotate(%s %s %s)"'):format(px(o.turn == true and -90 or o.turn), px(left),
    px(top)) or ""
  self:add('<text x="%s" y="%s" font-size="%s" fill="%s"%s%s%s>%s</text>', px(left), px(top + size * BASE), px(size),
    o.color or style.ground.dark, o.bold and ' font-weight="bold"' or "", anchor, turn, style.xml(text))
  if o.inside then self.cells, self[#self] = self.cells .. self[#self] .. "\n", nil end
end

Pen.heading = Pen.label

function Pen:line(x1, y1, x2, y2, color, width)
  self:add('<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s" stroke-width="%s"/>', px(x1), px(y1), px(x2), px(y2),
    color, px(width or 1))
end

-- Pixels u8 H×W×3 or ×4 in a box.
function Pen:image(pixels, left, top, width, height)
  self:add('<image x="%s" y="%s" width="%s" height="%s" preserveAspectRatio="none" href="data:image/png;base64,%s"/>',
    px(left), px(top), px(width), px(height), base64(native.png(pixels:contiguous())))
end

-- ---- axes ----

-- Functions that give the pixels of coordinates.
local function places(panel, at)
  local across, up = at.width / (panel.x.high - panel.x.low), at.height / (panel.y.high - panel.y.low)
  return function(x) return at.left + (x - panel.x.low) * across end,
    function(y) return at.top + (panel.y.high - y) * up end
end

function Pen:axes(panel, at, x_ticks, y_ticks, turned)
  local to_x, to_y = places(panel, at)
  local right, bottom = at.left + at.width, at.top + at.height
  if not panel.plain and not panel.x.names and not panel.y.names then
    for _, t in ipairs(panel.y.hidden and x_ticks or y_ticks) do
      local x, y = to_x(t[1]), to_y(t[1])
      if panel.y.hidden then
        self:line(x, at.top, x, bottom, style.ground.grid, 0.7)
      else
        self:line(at.left, y, right, y, style.ground.grid, 0.7)
      end
    end
  end
  self.cells = ""
  -- Axes lie above the marks.
  local pen = setmetatable({ cells = "" }, Pen)
  if not panel.x.hidden then pen:line(at.left, bottom, right, bottom, "#888888") end
  if not panel.y.hidden then pen:line(at.left, at.top, at.left, bottom, "#888888") end
  for _, t in ipairs(x_ticks) do
    local x = to_x(t[1])
    pen:line(x, bottom, x, bottom + TICK, "#888888")
    pen:label(t[2], turned and x - 3 or x, bottom + TICK + SIZE * 0.8, { color = style.ground.soft,
      align = not turned and "center", turn = turned and 35 or nil })
  end
  for _, t in ipairs(y_ticks) do
    local y = to_y(t[1])
    pen:line(at.left - TICK, y, at.left, y, "#888888")
    pen:label(t[2], at.left - TICK - 4, y, { color = style.ground.soft, align = "right" })
  end
  self.above = table.concat(pen, "\n")
end

-- ---- marks ----

local function finite(v)
  return v == v and v ~= math.huge and v ~= -math.huge
end

-- Points as a path, which begins anew behind what is no number.
local function path(x, y, to_x, to_y)
  local parts, pen = {}, false
  for i = 1, #x do
    if finite(x[i]) and finite(y[i]) then
      parts[#parts + 1] = (pen and "L" or "M") .. px(to_x(x[i])) .. " " .. px(to_y(y[i]))
      pen = true
    else
      pen = false
    end
  end
  return table.concat(parts)
end

local draw = {}

function draw.line(self, mark, panel, at, to_x, to_y)
  local x, y, rgba = marks.line(mark, panel)
  if rgba then return self:image(rgba, at.left, at.top, at.width, at.height) end
  if not x then return end
  self:add('<path d="%s" fill="none" stroke="%s" stroke-width="%s" stroke-linejoin="round"%s/>', path(x:totable(),
    y:totable(), to_x, to_y), style.tone(mark.color.rgb), px(mark.width or 2),
    mark.dashed and ' stroke-dasharray="9 6"' or "")
end

function draw.points(self, mark, panel, at, to_x, to_y)
  if mark.x:numel() == 0 then return end
  local rgba = marks.crowd(mark, panel)
  if rgba then return self:image(rgba, at.left, at.top, at.width, at.height) end
  local x, y, radius = mark.x:totable(), mark.y:totable(), marks.size(mark) * POINT
  -- A white rim lets points stand out from what lies below.
  self:add('<g fill="%s"%s>', style.tone(mark.color.rgb), mark.outline and
    (' stroke="#FFFFFF" stroke-width="%s" paint-order="stroke"'):format(px(radius)) or "")
  for i = 1, #x do
    if finite(x[i]) and finite(y[i]) then
      self:add('<circle cx="%s" cy="%s" r="%s"/>', px(to_x(x[i])), px(to_y(y[i])), px(radius))
    end
  end
  self:add("</g>")
end

function draw.bars(self, mark, panel, _, to_x, to_y)
  local counts = mark.counts:totable()
  local share, base = (mark.high - mark.low) / #counts, math.max(panel.y.low, 0)
  self:add('<g fill="%s" fill-opacity="0.85" stroke="#FFFFFF" stroke-width="0.5">', style.tone(mark.color.rgb))
  for i, v in ipairs(counts) do
    local left, right = to_x(mark.low + (i - 1) * share), to_x(mark.low + i * share)
    local top, bottom = to_y(math.max(v, base)), to_y(base)
    if bottom > top then
      self:add('<rect x="%s" y="%s" width="%s" height="%s"/>', px(left), px(top), px(right - left), px(bottom - top))
    end
  end
  self:add("</g>")
end

function draw.area(self, mark, _, _, to_x, to_y)
  local x, top = mark.x:totable(), (mark.height * (mark.reach or 1) + mark.base):totable()
  if #x == 0 then return end
  local line, foot = path(x, top, to_x, to_y), px(to_y(mark.base))
  self:add('<path d="%sL%s %sL%s %sZ" fill="%s"/>', line, px(to_x(x[#x])), foot, px(to_x(x[1])), foot, mark.color.fill)
  self:add('<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>', line, style.tone(mark.color.rgb))
end

function draw.raster(self, mark, _, _, to_x, to_y)
  local left, top = to_x(mark.x0), to_y(mark.y1)
  self:image(marks.pixels(mark.rgb), left, top, to_x(mark.x1) - left, to_y(mark.y0) - top)
end

function Pen:marks(panel, at)
  local to_x, to_y = places(panel, at)
  -- A picture within the picture cuts what is beyond its edges, and needs no name that others on the page might have.
  local left, top, width, height = px(at.left - 1), px(at.top - 1), px(at.width + 2), px(at.height + 2)
  self:add('<svg x="%s" y="%s" width="%s" height="%s" viewBox="%s %s %s %s">', left, top, width, height, left, top,
    width, height)
  for _, mark in ipairs(panel.marks) do
    if draw[mark.type] then draw[mark.type](self, mark, panel, at, to_x, to_y) end
  end
  self:add("</svg>")
  self[#self + 1] = self.cells .. self.above
end

function Pen:bar(bar, box, numbers)
  self:image(style.scale(bar.scale)[{ { 1, 256 } }]:view(256, 1, 3):flip(1):repeat_interleave(2, { dim = 2 }), box.left,
    box.top, box.width, box.height)
  numbers()
end

-- ---- the whole ----

-- A picture of some pixels that draw_all(pen) fills; a fitted one that is wider than a page is shown smaller.
function svg.picture(width, height, title, draw_all, fitted)
  local pen = setmetatable({ width = width, height = height, cells = "" }, Pen)
  local share = fitted and math.min(1, style.page / width) or 1
  pen:add('<svg xmlns="http://www.w3.org/2000/svg" width="%s" height="%s" viewBox="0 0 %s %s" font-family="%s" ' ..
    'role="img">', px(width * share), px(height * share), px(width), px(height), FAMILY)
  pen:add("<title>%s</title>\n<desc>drawn by nablua</desc>", style.xml(title))
  if style.ground.page then
    pen:add('<rect width="%s" height="%s" fill="%s"/>', px(width), px(height), style.ground.page)
  end
  draw_all(pen)
  pen:add("</svg>\n")
  return table.concat(pen, "\n")
end

local function draw_on_ground(scene)
  local width, height = layout.fit(scene, math.floor(scene.width or 640), math.floor(scene.height or 400))
  local title = scene.title or scene.panels[1] and scene.panels[1].title or "plot"
  return svg.picture(width, height, title, function(pen) layout.draw(pen, scene) end)
end

-- The scene as SVG; `ground` is one of style.grounds, paper unless it is said.
function svg.draw(scene, ground)
  return style.on(ground or style.grounds.paper, draw_on_ground, scene)
end

return svg
