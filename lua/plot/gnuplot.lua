-- SPDX-License-Identifier: MIT
-- Draws a scene as PNG or PDF through gnuplot.
--
-- A gnuplot script can run shell commands, so that nothing of the user's goes into it but numbers and strings in single
-- quotes, which gnuplot does not look into; in the terminals' noenhanced mode letters mean themselves.
local native = require "nablua.native"
local nb = require "nablua.core"
local layout = require "nablua.plot.layout"
local marks = require "nablua.plot.marks"
local program = require "nablua.plot.program"
local style = require "nablua.plot.style"

local gnuplot = {}

local FONT = "Helvetica"
local SIZE = layout.SIZE
local MOST_PNG = 6e7        -- pixels of a file

local function quote(text)
  return "'" .. style.clean(text):gsub("'", "''") .. "'"
end

local function num(v)
  return ("%.17g"):format(v)
end

-- ---- marks: each returns a piece of the plot command and the data that follow ----

local function inline(columns, format)
  local n = columns[1]:numel()
  local t = nb.stack(columns, 2):contiguous()
  return ("'-' binary record=(%d) format='%s'"):format(n, ("%float64"):rep(format)), native.bytes(t)
end

-- An image u8 H×W×3, or ×4 with opacity, between two corners.
local function image(pixels, x0, x1, y0, y1)
  local h, w = pixels:size(1), pixels:size(2)
  local dx, dy = (x1 - x0) / w, (y1 - y0) / h
  local how = pixels:size(3) == 4 and "1:2:3:4 with rgbalpha" or "1:2:3 with rgbimage"
  return ("'-' binary array=(%d,%d) format='%%uchar' origin=(%s,%s) dx=%s dy=%s using %s"):format(w, h,
    num(x0 + dx / 2), num(y0 + dy / 2), num(dx), num(dy), how), native.bytes(pixels:flip(1):contiguous())
end

-- What marks.lua made of too many points or lines.
local function density(rgba, panel)
  return image(rgba, panel.x.low, panel.x.high, panel.y.low, panel.y.high)
end

local draw = {}

function draw.line(mark, panel)
  local x, y, rgba = marks.line(mark, panel)
  if rgba then return density(rgba, panel) end
  if not x then return end
  local source, data = inline({ x, y }, 2)
  local dash = mark.dashed and " dt (9,6)" or ""
  return ("%s using 1:2 with lines lw %s lc rgb '%s'%s"):format(source, num(mark.width or 2),
    style.tone(mark.color.rgb), dash), data
end

function draw.points(mark, panel)
  if mark.x:numel() == 0 then return end
  local rgba = marks.crowd(mark, panel)
  if rgba then return density(rgba, panel) end
  local source, data = inline({ mark.x, mark.y }, 2)
  local size = marks.size(mark)
  if mark.outline then
    -- A white rim, so that points stand out from what lies below.
    local rim, again = inline({ mark.x, mark.y }, 2)
    return ("%s using 1:2 with points pt 7 ps %s lc rgb 'white', %s using 1:2 with points pt 7 ps %s lc rgb " ..
      "'%s'"):format(rim, num(size * 1.5), source, num(size), style.tone(mark.color.rgb)), again .. data
  end
  return ("%s using 1:2 with points pt 7 ps %s lc rgb '%s'"):format(source, num(size), style.tone(mark.color.rgb)), data
end

function draw.bars(mark, panel)
  local n = mark.counts:numel()
  local share = (mark.high - mark.low) / n
  local x = nb.arange(n, { dtype = "f64" }) * share + (mark.low - share / 2)
  local base = math.max(panel.y.low, 0)
  local source, data = inline({ x, mark.counts, x - share / 2, x + share / 2, nb.full_like(x, base) }, 5)
  return ("%s using 1:2:3:4:5:2 with boxxyerror fs solid 0.85 border rgb 'white' lw 0.5 lc rgb '%s'"):format(source,
    style.tone(mark.color.rgb)), data
end

function draw.area(mark)
  local x, top = mark.x, mark.height * (mark.reach or 1) + mark.base
  local base = nb.full_like(top, mark.base)
  local source, data = inline({ x, base, top }, 3)
  local line, again = inline({ x, top }, 2)
  return ("%s using 1:2:3 with filledcurves fs solid 1 noborder lc rgb '%s', %s using 1:2 with lines lw 1.5 lc rgb " ..
    "'%s'"):format(
    source, mark.color.fill, line, style.tone(mark.color.rgb)), data .. again
end

function draw.raster(mark)
  return image(marks.pixels(mark.rgb), mark.x0, mark.x1, mark.y0, mark.y1)
end

-- ---- one panel ----

local function ticks(name, list)
  if #list == 0 then return ("unset %stics"):format(name) end
  local parts = {}
  for i, t in ipairs(list) do
    parts[i] = ("%s %s"):format(quote((t[2]:gsub("%%", "%%%%"))), num(t[1]))
  end
  return ("set %stics (%s) nomirror out scale 0.6 font '%s,%d' textcolor rgb '%s'"):format(name,
    table.concat(parts, ", "), FONT, SIZE, style.ground.soft)
end

-- A script in the making for a picture of some pixels; places are pixels from its left and top.
local Script = {}
Script.__index = Script

function Script:add(format, ...)
  self[#self + 1] = format:format(...)
end

function Script:x(px) return num(px / self.width) end

function Script:y(px) return num(1 - px / self.height) end

-- Where the next plot's area lies.
function Script:area(left, top, width, height)
  self:add("reset\nset lmargin at screen %s; set rmargin at screen %s", self:x(left), self:x(left + width))
  self:add("set tmargin at screen %s; set bmargin at screen %s", self:y(top), self:y(top + height))
end

-- Text whose middle line is at a place.  o: {size=, color=, align=, bold=, turn=}
function Script:label(text, left, top, o)
  self:add("set label %s at screen %s, screen %s %s front font '%s%s,%s' tc rgb '%s'%s", quote(text), self:x(left),
    self:y(top), o.align or "left", FONT, o.bold and ":Bold" or "", num(o.size or SIZE), o.color or style.ground.dark,
    o.turn and " rotate by 90" or "")
end

-- Text that stands in no area: a plot of nothing has it.
function Script:heading(...)
  self:area(0, 0, self.width, self.height)
  self[#self + 1] = "unset border; unset tics; unset key; set xrange [0:1]; set yrange [0:1]"
  self:label(...)
  self[#self + 1] = "plot NaN"
end

-- The colour scale: a plot of its own, a thin image.
function Script:bar(bar, box, numbers)
  local low, high = bar.low, bar.high
  self:area(box.left, box.top, box.width, box.height)
  self:add("set xrange [0:1]; set yrange [%s:%s]; unset key; unset xtics; unset ytics; set border 0", num(low),
    num(high))
  numbers()
  -- Two pixels wide: gnuplot draws no thinner image.
  local rgb = style.scale(bar.scale)[{ { 1, 256 } }]:repeat_interleave(2, { dim = 1 }):contiguous()
  self:add("plot '-' binary array=(2,256) format='%%uchar' origin=(0.25,%s) dx=0.5 dy=%s using 1:2:3 with rgbimage",
    num(low + (high - low) / 512), num((high - low) / 256))
  self[#self + 1] = native.bytes(rgb)
end

function Script:axes(panel, at, x_ticks, y_ticks, turned)
  self:area(at.left, at.top, at.width, at.height)
  self:add("set xrange [%s:%s]; set yrange [%s:%s]; unset key", num(panel.x.low), num(panel.x.high),
    num(panel.y.low), num(panel.y.high))
  self:add("set border %d lw 1 lc rgb '#888888'", (panel.x.hidden and 0 or 1) + (panel.y.hidden and 0 or 2))
  self[#self + 1] = ticks("x", x_ticks) .. (turned and " rotate by -35" or "")
  self[#self + 1] = ticks("y", y_ticks)
  if not panel.plain and not panel.x.names and not panel.y.names then
    self:add("set grid %s back lt 1 lw 0.7 lc rgb '%s'", panel.y.hidden and "xtics" or "ytics", style.ground.grid)
  end
end

function Script:marks(panel)
  local pieces, data = {}, {}
  for _, mark in ipairs(panel.marks) do
    local piece, bytes
    if draw[mark.type] then piece, bytes = draw[mark.type](mark, panel) end
    if piece then pieces[#pieces + 1], data[#data + 1] = piece, bytes end
  end
  -- Without marks the axes are still drawn.
  self[#self + 1] = "plot " .. (#pieces > 0 and table.concat(pieces, ", ") or "NaN")
  self[#self + 1] = table.concat(data)
end

-- ---- all panels ----

-- The commands for a scene, without those that choose the terminal.
local function commands(scene, width, height)
  local script = setmetatable({ "set multiplot", width = width, height = height }, Script)
  layout.draw(script, scene)
  script[#script + 1] = "unset multiplot"
  return table.concat(script, "\n")
end

-- The scene as "png" with `scale` times as many pixels, or "pdf".
local function draw_on_ground(scene, format, scale)
  local width, height = layout.fit(scene, math.floor(scene.width or 640), math.floor(scene.height or 400))
  local body = commands(scene, width, height)
  if format == "png" then
    scale = scale or 2
    if width * height * scale ^ 2 > MOST_PNG then
      native.raise(("save: a PNG of %d×%d pixels is too large; give a smaller width, height or scale"):format(
        width * scale, height * scale))
    end
    return program.gnuplot(("set encoding utf8\nset terminal pngcairo noenhanced font '%s,%d' size %d,%d fontscale " ..
      "%s linewidth %s pointscale %s background rgb 'white'\nset output\n")
      :format(FONT, SIZE, width * scale, height * scale, num(scale * 0.75), num(scale), num(scale)) .. body)
  end
  if format ~= "pdf" then native.raise("gnuplot draws png and pdf here, not " .. tostring(format)) end
  return program.gnuplot(("set encoding utf8\nset terminal pdfcairo noenhanced font '%s,%d' size %sin,%sin " ..
    "background rgb 'white'\nset output\n"):format(FONT, SIZE * 3 // 4, num(width / 96), num(height / 96)) .. body ..
    "\nset terminal unknown\n")  -- the end of the document
end

-- The same; `ground` is one of style.grounds, paper unless it is said.
function gnuplot.draw(scene, format, scale, ground)
  return style.on(ground or style.grounds.paper, draw_on_ground, scene, format, scale)
end

return gnuplot
