-- SPDX-License-Identifier: MIT
-- Draws a scene as SVG or PNG through gnuplot.
--
-- A gnuplot script can run shell commands, so that nothing of the user's goes into it but numbers and strings in single
-- quotes, which gnuplot does not look into; in the terminals' noenhanced mode letters mean themselves.
local native = require "nablua.native"
local nb = require "nablua.core"
local axis = require "nablua.plot.axis"
local program = require "nablua.plot.program"
local style = require "nablua.plot.style"

local gnuplot = {}

local FONT = "Helvetica"
local SIZE = 13             -- points of the numbers along axes; others relative to it
local COLUMNS = 1200        -- that lines are reduced to
local MOST_POINTS = 4000    -- drawn one by one; more become an image of their density
local MOST_PIXELS = 640     -- of an image's sides
local ADVANCE = 0.56        -- mean width of a letter, in units of its size
local MOST_PNG = 6e7        -- pixels of a file
local EDGE = 14             -- pixels between the picture's edge and text

local function quote(text)
  return "'" .. style.clean(text):gsub("'", "''") .. "'"
end

local function num(v)
  return ("%.17g"):format(v)
end

local function text_width(text, size)
  return style.width(text) * ADVANCE * (size or SIZE)
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

-- Where there are too many points or lines for a drawing of each: an image of how many there are.
local function density(mark, panel, lines)
  local height, width = 400, 640
  local count
  if lines then
    local picture = nb.zeros(height, width, { dtype = "u8" })
    native.draw_line(picture, mark.x, mark.y, panel.x.low, panel.x.high, panel.y.low, panel.y.high)
    count = picture:to("f64")
  else
    count = nb.zeros(height, width, { dtype = "f64" })
    native.draw_points(count, mark.x, mark.y, panel.x.low, panel.x.high, panel.y.low, panel.y.high)
    count = (count + 1):log()
  end
  local most = math.max(count:max():item(), 1e-9)
  local alpha = nb.where(count:gt(0), 60 + 195 * count / most, 0)
  local r, g, b = mark.color.rgb:match("#(%x%x)(%x%x)(%x%x)")
  local planes = {}
  for i, c in ipairs { r, g, b } do planes[i] = nb.full({ height, width }, tonumber(c, 16), { dtype = "f64" }) end
  planes[4] = alpha
  local rgba = nb.stack(planes, 3):to("u8")
  return image(rgba, panel.x.low, panel.x.high, panel.y.low, panel.y.high)
end

local draw = {}

function draw.line(mark, panel)
  if mark.x:numel() == 0 then return end
  local x, y = mark.x, mark.y
  if x:numel() > 2 * COLUMNS then
    local rx, ry, n = native.reduce(x, y, panel.x.low, panel.x.high, COLUMNS)
    if n == 0 then return end
    x, y = rx[{ { 1, n } }]:contiguous(), ry[{ { 1, n } }]:contiguous()
  end
  if x:numel() > 20 * COLUMNS then return density(mark, panel, true) end
  local source, data = inline({ x, y }, 2)
  local dash = mark.dashed and " dt (9,6)" or ""
  return ("%s using 1:2 with lines lw %s lc rgb '%s'%s"):format(source, num(mark.width or 2),
    style.tone(mark.color.rgb), dash), data
end

function draw.points(mark, panel)
  if mark.x:numel() == 0 then return end
  if mark.x:numel() > MOST_POINTS then return density(mark, panel) end
  local source, data = inline({ mark.x, mark.y }, 2)
  local n = mark.x:numel()
  local size = mark.size or n <= 50 and 0.9 or n <= 500 and 0.65 or 0.4
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
  local rgb = mark.rgb
  local h, w = rgb:size(1), rgb:size(2)
  -- Larger ones than the picture carry pixels that nobody sees.
  if math.max(h, w) > MOST_PIXELS then
    h, w = math.min(h, MOST_PIXELS), math.min(w, MOST_PIXELS)
    rgb = native.resize(rgb, h, w)
  end
  -- Small images are enlarged here, so that no viewer smooths them.
  local k = math.max(1, math.min(math.ceil(600 / w), math.ceil(600 / h)))
  if k > 1 then
    h, w = h * k, w * k
    rgb = native.resize(rgb, h, w)
  end
  return image(rgb, mark.x0, mark.x1, mark.y0, mark.y1)
end

function draw.texts(mark, panel, script, at)
  local size = math.max(6, math.min(SIZE, at.width / mark.columns / (mark.longest * ADVANCE + 0.6)))
  local across, up = at.width / (panel.x.high - panel.x.low), at.height / (panel.y.high - panel.y.low)
  for _, t in ipairs(mark) do
    script:label(t.text, at.left + (t.x - panel.x.low) * across, at.top + (panel.y.high - t.y) * up,
      { size = size, bold = t.bold, align = "center", color = t.white and "#FFFFFF" or style.ink.rgb })
  end
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

-- Direct labels at the ends of lines, kept apart: places in pixels from the top.
local function spread(list, height)
  local gap = SIZE * 1.25
  table.sort(list, function(a, b) return a.at < b.at end)
  for i = 2, #list do list[i].at = math.max(list[i].at, list[i - 1].at + gap) end
  if #list > 0 and list[#list].at > height then
    list[#list].at = height
    for i = #list - 1, 1, -1 do list[i].at = math.min(list[i].at, list[i + 1].at - gap) end
  end
end

-- Room around the area, in pixels.
local function margins(panel, width, height)
  local m = { left = EDGE, right = 18, top = 12, bottom = 12 }
  local across = math.max(2, math.floor((width - 100) / 80))
  local up = math.max(2, math.floor(height / 55))
  local x, y = panel.x:ticks(across), panel.y:ticks(up)
  local longest = 0
  for _, t in ipairs(y) do longest = math.max(longest, text_width(t[2])) end
  m.left = m.left + math.min(longest, width * 0.35) + (panel.ylabel and SIZE + 12 or 0) + (#y > 0 and 10 or 0)
  local turned = false
  if #x > 0 then
    local widest = 0
    for _, t in ipairs(x) do widest = math.max(widest, text_width(t[2])) end
    turned = panel.x.names and widest > (width - m.left - m.right) / #x - 4
    m.bottom = m.bottom + (turned and math.min(widest, height * 0.4) * 0.6 + 14 or SIZE + 9)
    if turned then m.right = math.max(m.right, widest * 0.8 - (width - m.left - m.right) / #x / 2 + 8) end
  end
  if panel.xlabel then m.bottom = m.bottom + SIZE + 14 end
  if panel.note then m.bottom = m.bottom + SIZE + 6 end
  if panel.title then m.top = m.top + SIZE + 16 end
  if panel.legend and #panel.legend > 0 then m.top = m.top + SIZE + 10 end
  local ends = 0
  for _, e in ipairs(panel.ends or {}) do ends = math.max(ends, text_width(style.clean(e.text))) end
  m.right = m.right + math.min(ends, width * 0.4)
  if panel.bar then m.right = m.right + 72 end
  return m, x, y, turned
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

-- Title and legend above the area, names of the axes and a note beside it.
local function add_words(script, panel, box, at, m)
  local left = panel.ylabel and box.left + EDGE or math.max(box.left + EDGE, at.left - 4)
  local head = box.top + 12
  if panel.title then
    script:label(panel.title, left, head + SIZE * 0.6, { size = SIZE + 2, bold = true })
    head = head + SIZE + 14
  end
  for _, e in ipairs(panel.legend or {}) do
    script:label(e.mark == "line" and "━" or "●", left, head + SIZE * 0.4, { color = style.tone(e.color.rgb) })
    script:label(e.text, left + SIZE * 1.3, head + SIZE * 0.4, {})
    left = left + SIZE * 1.3 + text_width(style.clean(e.text)) + 16
  end
  if panel.ylabel then
    script:label(panel.ylabel, box.left + EDGE + SIZE * 0.4, at.top + at.height / 2, { size = SIZE + 1,
      color = style.ground.soft, align = "center", turn = style.width(style.clean(panel.ylabel)) > 2 })
  end
  local foot = (panel.square and at.top + at.height + m.bottom or box.top + box.height) - 12
  if panel.note then
    script:label(panel.note, box.left + EDGE, foot - SIZE * 0.4, { size = SIZE - 2, color = style.ground.faint })
    foot = foot - SIZE - 6
  end
  if panel.xlabel then
    script:label(panel.xlabel, at.left + at.width / 2, foot - SIZE * 0.4, { size = SIZE + 1, color = style.ground.soft,
      align = "center" })
  end
end

-- Direct labels at the right of the area.
local function add_ends(script, panel, at)
  local ends = {}
  for i, e in ipairs(panel.ends or {}) do
    ends[i] = { text = e.text, color = e.color,
      at = math.max(0, math.min((panel.y.high - e.y) / (panel.y.high - panel.y.low), 1)) * at.height }
  end
  spread(ends, at.height)
  for _, e in ipairs(ends) do
    local color = style.tone(e.color.rgb)
    if e.at >= -SIZE then script:label(e.text, at.left + at.width + 8, at.top + e.at, { color = color }) end
  end
end

-- The colour scale: a plot of its own, a thin image beside the area.
local function add_bar(script, bar, at)
  local low, high = bar.low, bar.high > bar.low and bar.high or bar.low + 1
  local list = axis.new(low, high):ticks(math.max(2, math.floor(at.height / 50)))
  if #list < 3 then
    list = {}
    for i, v in ipairs { low, (low + high) / 2, high } do list[i] = { v, style.number(v, 2) } end
  end
  script:area(at.left + at.width + 14, at.top, 14, at.height)
  script:add("set xrange [0:1]; set yrange [%s:%s]; unset key; unset xtics; unset ytics; set border 0", num(low),
    num(high))
  for _, t in ipairs(list) do
    script:label(t[2], at.left + at.width + 33, at.top + (high - t[1]) / (high - low) * at.height,
      { size = SIZE - 1, color = style.ground.soft })
  end
  -- Two pixels wide: gnuplot draws no thinner image.
  local rgb = style.scale(bar.scale)[{ { 1, 256 } }]:repeat_interleave(2, { dim = 1 }):contiguous()
  script:add("plot '-' binary array=(2,256) format='%%uchar' origin=(0.25,%s) dx=0.5 dy=%s using 1:2:3 with rgbimage",
    num(low + (high - low) / 512), num((high - low) / 256))
  script[#script + 1] = native.bytes(rgb)
end

-- Adds what draws a panel into a rectangle of the picture.
local function add_panel(script, panel, box)
  local m, x_ticks, y_ticks, turned = margins(panel, box.width, box.height)
  local at = { left = box.left + m.left, top = box.top + m.top, width = math.max(box.width - m.left - m.right, 10),
    height = math.max(box.height - m.top - m.bottom, 10) }
  if panel.square then
    local ratio = (panel.x.high - panel.x.low) / (panel.y.high - panel.y.low)
    local width, height = math.min(at.width, at.height * ratio), math.min(at.height, at.width / ratio)
    at.left, at.width, at.height = at.left + (at.width - width) / 2, width, height
  end
  script:area(at.left, at.top, at.width, at.height)
  script:add("set xrange [%s:%s]; set yrange [%s:%s]; unset key", num(panel.x.low), num(panel.x.high),
    num(panel.y.low), num(panel.y.high))
  script:add("set border %d lw 1 lc rgb '#888888'", (panel.x.hidden and 0 or 1) + (panel.y.hidden and 0 or 2))
  script[#script + 1] = ticks("x", x_ticks) .. (turned and " rotate by -35" or "")
  script[#script + 1] = ticks("y", y_ticks)
  if not panel.plain and not panel.x.names and not panel.y.names then
    script:add("set grid %s back lt 1 lw 0.7 lc rgb '%s'", panel.y.hidden and "xtics" or "ytics", style.ground.grid)
  end
  add_words(script, panel, box, at, m)
  add_ends(script, panel, at)
  local pieces, data = {}, {}
  for _, mark in ipairs(panel.marks) do
    local piece, bytes = draw[mark.type](mark, panel, script, at)
    if piece then pieces[#pieces + 1], data[#data + 1] = piece, bytes end
  end
  -- Without marks the axes are still drawn.
  script[#script + 1] = "plot " .. (#pieces > 0 and table.concat(pieces, ", ") or "NaN")
  script[#script + 1] = table.concat(data)
  if panel.bar then add_bar(script, panel.bar, at) end
end

-- ---- all panels ----

-- The commands for a scene, without those that choose the terminal.
local function commands(scene, width, height)
  local script = setmetatable({ "set multiplot", width = width, height = height }, Script)
  local top = scene.title and #scene.panels > 1 and 40 or 0
  local across = math.max(1, math.min(scene.columns or 1, #scene.panels))
  local down = math.max(1, math.ceil(#scene.panels / across))
  for i, panel in ipairs(scene.panels) do
    add_panel(script, panel, { left = (i - 1) % across * width / across, width = width / across,
      top = top + (i - 1) // across * (height - top) / down, height = (height - top) / down })
  end
  if top > 0 then
    -- A plot of nothing, for its label.
    script:area(0, 0, width, height)
    script[#script + 1] = "unset border; unset tics; unset key; set xrange [0:1]; set yrange [0:1]"
    script:label(scene.title, EDGE, 24, { size = SIZE + 4, bold = true })
    script[#script + 1] = "plot NaN"
  end
  script[#script + 1] = "unset multiplot"
  return table.concat(script, "\n")
end

-- A lone panel of square units has room to spare on one side: the picture is made to fit it.
local function fit(scene, width, height)
  local panel = scene.panels[1]
  if scene.fixed or #scene.panels ~= 1 or not panel.square then return width, height end
  local ratio = (panel.x.high - panel.x.low) / (panel.y.high - panel.y.low)
  local m = margins(panel, width, height)
  local inner = math.min(width - m.left - m.right, (height - m.top - m.bottom) * ratio * 1.25)
  return math.floor(inner + m.left + m.right + 0.5), math.floor(inner / ratio + m.top + m.bottom + 0.5)
end

local FAMILY = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
local finish

-- The scene as "svg", "png" or "pdf".  A PNG has `scale` times as many pixels.
local function draw_on_ground(scene, format, scale)
  local width, height = math.floor(scene.width or 640), math.floor(scene.height or 400)
  width, height = fit(scene, width, height)
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
  if format == "pdf" then
    return program.gnuplot(("set encoding utf8\nset terminal pdfcairo noenhanced font '%s,%d' size %sin,%sin " ..
      "background rgb 'white'\nset output\n"):format(FONT, SIZE * 3 // 4, num(width / 96), num(height / 96)) .. body ..
      "\nset terminal unknown\n")  -- the end of the document
  end
  local ground = style.ground.page and (" background rgb '%s'"):format(style.ground.page) or ""
  local svg = program.gnuplot(("set encoding utf8\nset terminal svg noenhanced font '%s,%d' size %d,%d%s\n" ..
    "set output\n"):format(FONT, SIZE, width, height, ground) .. body)
  return finish(svg, scene)
end

-- The same; `ground` is one of style.grounds, paper unless it is said.
function gnuplot.draw(scene, format, scale, ground)
  return style.on(ground or style.grounds.paper, draw_on_ground, scene, format, scale)
end

-- What gnuplot leaves to be wished for: fonts to fall back on, the drawing's own title.
function finish(svg, scene)
  local family = ('font-family="%s"'):format(FAMILY)
  svg = svg:gsub('font%-family="Helvetica:Bold"', family .. ' font-weight="bold"'):gsub('font%-family="Helvetica"',
    family)
  -- What it drew with is no title for people.
  svg = svg:gsub("<title>'%-' binary.-</title>", ""):gsub("<title>NaN</title>", "")
  local title = scene.title or scene.panels[1] and scene.panels[1].title or "plot"
  svg = svg:gsub("<title>Gnuplot</title>", function() return "<title>" .. style.xml(title) .. "</title>" end, 1)
  return (svg:gsub("<desc>.-</desc>", "<desc>drawn by nablua</desc>", 1))
end

return gnuplot
