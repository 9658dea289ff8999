-- SPDX-License-Identifier: MIT
-- Draws a scene in character cells: braille dots for lines and points, half blocks for pixels, eighths for areas.
local native = require "nablua.native"
local nb = require "nablua.core"
local Screen = require "nablua.plot.screen"
local style = require "nablua.plot.style"

local terminal = {}

-- Without colours series differ by their dashes and points by their letters.
local dashes = { { 1, 0 }, { 5, 3 }, { 1, 2 }, { 8, 2 }, { 2, 2 }, { 3, 5 } }
local letters = { "o", "x", "+", "*", "#", "@", "%", "&", "=", "~" }
local shades = { " ", "░", "▒", "▓", "█" }
local eighths = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

local function nth(list, number)
  return list[((number or 1) - 1) % #list + 1]
end

local popcount = {}
for i = 0, 255 do
  local n, v = 0, i
  while v > 0 do n, v = n + v % 2, v // 2 end
  popcount[i] = n
end

-- ---- marks ----

-- An area to draw in: cells (left, top) to (left + columns - 1, top + rows - 1) of a screen, over the panel's axes.
local function to_column(at, x)
  return at.left + math.floor((x - at.x.low) / (at.x.high - at.x.low) * at.columns)
end

local function to_row(at, y)
  return at.top + math.floor((at.y.high - y) / (at.y.high - at.y.low) * at.rows)
end

local function clamp(v, low, high)
  return math.max(low, math.min(v, high))
end

-- Puts the dots of one mark over what is there; the colour of a cell is that of the mark with most dots in it.
local function put_braille(at, screen, picture, color)
  local codes = native.braille(picture)
  for i, code in ipairs(codes) do
    if code > 0 then
      local column, row = (i - 1) % at.columns + 1, (i - 1) // at.columns + 1
      local before = at.dots[i] or 0
      local both = before | code
      local fg = at.owner[i]
      if popcount[code] >= popcount[before] then fg = color end
      at.dots[i], at.owner[i] = both, fg
      screen:cell(at.left + column - 1, at.top + row - 1, utf8.char(0x2800 + both), fg)
    end
  end
end

local function dots(at, dtype)
  return nb.zeros(at.rows * 4, at.columns * 2, { dtype = dtype })
end

local draw = {}

function draw.line(at, screen, mark, settings)
  local picture = dots(at, "u8")
  local dash = mark.dashed and dashes[2] or settings.color and dashes[1] or nth(dashes, mark.number)
  local x, y = mark.x, mark.y
  if x:numel() > 32 * at.columns then
    local n
    x, y, n = native.reduce(x, y, at.x.low, at.x.high, 2 * at.columns)
    if n == 0 then return end
    x, y = x[{ { 1, n } }], y[{ { 1, n } }]
  end
  native.draw_line(picture, x, y, at.x.low, at.x.high, at.y.low, at.y.high, dash[1], dash[2])
  put_braille(at, screen, picture, mark.color.cell)
end

local FEW = 80    -- points that have a character each
local CROWD = 3   -- points on each dot, from which on colours count them

function draw.points(at, screen, mark, settings)
  if mark.x:numel() <= FEW or at.painted or not settings.color then
    local glyph = settings.color and "●" or nth(letters, mark.number)
    -- Of many points at most one a cell: first count, then write.
    local count = nb.zeros(at.rows, at.columns, { dtype = "f64" })
    native.draw_points(count, mark.x, mark.y, at.x.low, at.x.high, at.y.low, at.y.high)
    for i, row in ipairs(count:gt(0):totable()) do
      for j, is in ipairs(row) do
        if is then screen:cell(at.left + j - 1, at.top + i - 1, glyph, mark.color.cell) end
      end
    end
    return
  end
  local count = dots(at, "f64")
  native.draw_points(count, mark.x, mark.y, at.x.low, at.x.high, at.y.low, at.y.high)
  local set = count:gt(0)
  put_braille(at, screen, set:to("u8"):contiguous(), mark.color.cell)
  local filled = set:sum():item()
  if mark.number or filled == 0 or mark.x:numel() / filled < CROWD then return end
  -- Where points of one kind crowd, colours tell how many there are.
  local many = (count:view(at.rows, 4, at.columns, 2):sum({ 2, 4 }) + 1):log()
  local most = many:max():item()
  local colors = native.xterm(style.colorize(many:contiguous(), -most / 3, most, "sequential"))  -- without the darkest
  for i, code in pairs(at.dots) do
    screen:cell(at.left + (i - 1) % at.columns, at.top + (i - 1) // at.columns, utf8.char(0x2800 + code), colors[i])
  end
end

-- The value of a function given by points, at a place between them; nil outside.
local function interpolate(xs, ys, x, from)
  local n = #xs
  local i = from
  while i < n and xs[i + 1] < x do i = i + 1 end
  if n == 0 or x < xs[1] or x > xs[n] then return nil, i end
  if i >= n then return ys[n], i end
  local share = xs[i + 1] > xs[i] and (x - xs[i]) / (xs[i + 1] - xs[i]) or 0
  return ys[i] + (ys[i + 1] - ys[i]) * clamp(share, 0, 1), i
end

-- A column of blocks from `base` to `top`, both in eighths of a cell above the area's bottom.
local function column_of_blocks(at, screen, column, base, top, fg)
  local cell = base // 8
  while cell * 8 < top do
    local level = clamp(math.floor(top - cell * 8 + 0.5), 0, 8)
    if level > 0 then screen:cell(column, at.top + at.rows - 1 - cell, eighths[level], fg) end
    cell = cell + 1
  end
end

-- In a terminal areas do not overlap: each has one unit of height.
function draw.area(at, screen, mark)
  local xs, hs = mark.x:totable(), mark.height:totable()
  local units = at.rows * 8 / (at.y.high - at.y.low)
  local base = math.floor((mark.base - at.y.low) * units / 8 + 0.5) * 8
  local from = 1
  for c = 0, at.columns - 1 do
    local x = at.x.low + (c + 0.5) / at.columns * (at.x.high - at.x.low)
    local h
    h, from = interpolate(xs, hs, x, from)
    if h and h > 0 then
      column_of_blocks(at, screen, at.left + c, base, base + math.max(h * (mark.room or 1) * units, 0.5),
        mark.color.cell)
    end
  end
end

function draw.bars(at, screen, mark)
  local counts = mark.counts:totable()
  local units = at.rows * 8 / (at.y.high - at.y.low)
  local share = (mark.high - mark.low) / #counts
  for c = 0, at.columns - 1 do
    -- The highest of the bars that fall into this column.
    local a = at.x.low + c / at.columns * (at.x.high - at.x.low)
    local b = at.x.low + (c + 1) / at.columns * (at.x.high - at.x.low)
    local first = math.max(1, math.floor((a - mark.low) / share + 1e-9) + 1)
    local last = math.min(#counts, math.max(first, math.ceil((b - mark.low) / share - 1e-9)))
    local h = 0
    for k = first, last do h = math.max(h, counts[k]) end
    if a < mark.high and h > 0 then
      column_of_blocks(at, screen, at.left + c, 0, math.max((h - at.y.low) * units, 1), mark.color.cell)
    end
  end
end

-- Pixels, two to a cell; without colours, shades.
function draw.raster(at, screen, mark, settings)
  local left, right = to_column(at, mark.x0), to_column(at, mark.x1 - 1e-12)
  local top, bottom = to_row(at, mark.y1 - 1e-12), to_row(at, mark.y0 + 1e-12)
  left, right = clamp(left, at.left, at.left + at.columns - 1), clamp(right, at.left, at.left + at.columns - 1)
  top, bottom = clamp(top, at.top, at.top + at.rows - 1), clamp(bottom, at.top, at.top + at.rows - 1)
  local columns, rows = right - left + 1, bottom - top + 1
  if columns < 1 or rows < 1 then return end
  at.painted = true
  local rgb = mark.cells or mark.rgb
  if not settings.color and at.texts then return end
  if not settings.color then
    local small = native.resize(mark.mono or rgb, rows, columns, mark.classes)
    local light = small:to("f64"):mean(3):totable()
    for i = 1, rows do
      for j = 1, columns do
        local level = clamp(math.floor(light[i][j] / 255 * #shades) + 1, 1, #shades)
        screen:cell(left + j - 1, top + i - 1, shades[level])
      end
    end
    return
  end
  local pixels = native.xterm(native.resize(rgb, rows * 2, columns, mark.classes))
  for i = 1, rows do
    for j = 1, columns do
      local upper, lower = pixels[(2 * i - 2) * columns + j], pixels[(2 * i - 1) * columns + j]
      if upper == lower then
        screen:cell(left + j - 1, top + i - 1, " ", nil, upper)
      else
        screen:cell(left + j - 1, top + i - 1, "▀", upper, lower)
      end
    end
  end
end

-- Text in the middle of a cell of a matrix.
function draw.texts(at, screen, mark, settings)
  for _, t in ipairs(mark) do
    local room = math.max(1, math.floor(at.columns / mark.columns))
    local text = style.fit(style.clean(t.text), room)
    local middle = at.left + (t.x - at.x.low) / (at.x.high - at.x.low) * at.columns
    local row = to_row(at, t.y)
    local start = math.floor(middle - style.width(text) / 2)
    if not settings.color then
      for c = start, start + style.width(text) - 1 do screen:cell(c, row, " ") end
    end
    local column = start
    for _, code in utf8.codes(text) do
      local i = (row - 1) * screen.width + column
      screen:cell(column, row, utf8.char(code), settings.color and (t.white and 231 or 16) or nil)
      screen.bold[i] = t.bold
      column = column + 1
    end
  end
end

-- ---- one panel ----

-- Direct labels at the ends of lines, apart by at least a row.
local function spread(ends, rows)
  table.sort(ends, function(a, b) return a.row < b.row end)
  for i = 2, #ends do ends[i].row = math.max(ends[i].row, ends[i - 1].row + 1) end
  local over = #ends > 0 and ends[#ends].row - rows or 0
  if over > 0 then
    ends[#ends].row = rows
    for i = #ends - 1, 1, -1 do ends[i].row = math.min(ends[i].row, ends[i + 1].row - 1) end
  end
end

local function legend_lines(legend, width, settings)
  local lines, line, used = {}, {}, 0
  for _, e in ipairs(legend) do
    local glyph = e.mark == "line" and "━━ " or (settings.color and "●" or nth(letters, e.number)) .. " "
    local text = style.fit(style.clean(e.text), math.max(width - 4, 1))
    local n = style.width(glyph .. text)
    if used > 0 and used + n + 2 > width then
      lines[#lines + 1], line, used = line, {}, 0
    end
    line[#line + 1] = { column = used, glyph = glyph, text = text, color = e.color }
    used = used + n + 2
  end
  if #line > 0 then lines[#lines + 1] = line end
  return lines
end

local function widest(ticks)
  local n = 0
  for _, t in ipairs(ticks) do n = math.max(n, style.width(t[2])) end
  return n
end

-- Cells for a matrix with a text in each: as wide as the texts, if they fit.
local function cell_size(panel, columns)
  local texts = panel.texts
  local wide = 3
  for _, t in ipairs(texts) do wide = math.max(wide, style.width(style.clean(t.text)) + 2) end
  wide = math.min(wide, columns // texts.columns)
  return wide >= 1 and wide * texts.columns or columns, texts.rows
end

-- Columns and rows for pixels that should be square: a cell is twice as high as wide.
local function square_size(panel, columns, rows)
  local ratio = (panel.x.high - panel.x.low) / (panel.y.high - panel.y.low)  -- width to height
  if panel.pixels then
    -- Whole numbers of pixels where they fit.
    local w, h = panel.pixels[1], panel.pixels[2]
    local k = math.min(columns // w, rows * 2 // h)
    if k >= 1 then return w * k, math.ceil(h * k / 2) end
  end
  local c = math.min(columns, math.floor(rows * 2 * ratio + 0.5))
  return math.max(c, 1), math.max(math.min(rows, math.floor(c / ratio / 2 + 0.5)), 1)
end

local function draw_bar(screen, bar, left, row, width, settings)
  local low, high = style.number(bar.low, 3), style.number(bar.high, 3)
  local column = screen:write(left, row, low .. " ", style.soft.cell)
  local n = math.min(24, width - style.width(low .. high) - 2)
  if n < 2 then return end
  local colors = native.xterm(style.scale(bar.scale)[{ { 1, 256 } }]:contiguous():view(1, 256, 3))
  for i = 0, n - 1 do
    local at = math.floor((i + 0.5) / n * 256) + 1
    if settings.color then
      screen:cell(column + i, row, " ", nil, colors[at])
    else
      screen:cell(column + i, row, shades[math.floor(i / n * #shades) + 1])
    end
  end
  screen:write(column + n, row, " " .. high .. (bar.label and "  " .. style.clean(bar.label) or ""), style.soft.cell)
end

-- Title, legend and the y axis' name, from row `top` on.  Returns the row below them, and the labels that stand beside
-- the lines' ends; where there is no room for those they join the legend.
local function draw_head(screen, panel, left, top, width, settings)
  local ends, widest_end = {}, 0
  for i, e in ipairs(panel.ends or {}) do
    ends[i] = { text = style.clean(e.text), color = e.color, y = e.y, mark = "line" }
    widest_end = math.max(widest_end, style.width(ends[i].text) + 1)
  end
  local legend = panel.legend or {}
  if widest_end > width // 3 then
    legend, ends, widest_end = #legend > 0 and legend or ends, {}, 0
  end
  if panel.title then
    screen:write(left, top, style.fit(style.clean(panel.title), width), nil, true)
    top = top + 1
  end
  for _, line in ipairs(legend_lines(legend, width, settings)) do
    for _, e in ipairs(line) do
      screen:write(screen:write(left + e.column, top, e.glyph, e.color.cell), top, e.text)
    end
    top = top + 1
  end
  if panel.ylabel then
    screen:write(left, top, style.fit(style.clean(panel.ylabel), width), style.soft.cell)
    top = top + 1
  end
  return top, ends, widest_end
end

local function draw_y_axis(screen, panel, at, ticks, margin, settings)
  local soft, taken = style.soft.cell, {}
  for r = 0, at.rows - 1 do
    if not panel.y.hidden then screen:cell(at.left - 1, at.top + r, "│", soft) end
  end
  for _, t in ipairs(ticks) do
    local row = t[1] == at.y.low and at.top + at.rows - 1 or to_row(at, t[1])
    if row >= at.top and row < at.top + at.rows and not taken[row] then
      taken[row] = true
      local text = style.fit(t[2], margin)
      screen:write(at.left - 1 - style.width(text), row, text, soft)
      if not panel.y.names then screen:cell(at.left - 1, row, "┤", soft) end
      if settings.color and not panel.x.names and not panel.plain then
        for c = 0, at.columns - 1, 2 do screen:cell(at.left + c, row, "·", style.faint.cell) end
      end
    end
  end
end

-- The x axis below the area, with as many of its numbers as fit between `left` and `right`.
local function draw_x_axis(screen, panel, at, left, right)
  local soft, top = style.soft.cell, at.top + at.rows
  if not panel.y.hidden then screen:cell(at.left - 1, top, "└", soft) end
  for c = 0, at.columns - 1 do screen:cell(at.left + c, top, "─", soft) end
  local names = panel.x.names
  local free = left - 1  -- the column after which a number may stand
  local room = names and math.max(1, at.columns // #names - 1) or at.columns
  for _, t in ipairs(panel.x:ticks(math.max(2, at.columns // 11))) do
    local text = style.fit(t[2], room)
    local column = clamp(to_column(at, t[1]), at.left, at.left + at.columns - 1)
    local start = column - style.width(text) // 2
    if names then start = math.floor(at.left + (t[1] - 0.5) / #names * at.columns - style.width(text) / 2) end
    start = math.min(start, right + 1 - style.width(text))
    if start > free or (free < left and start >= left) then
      screen:cell(column, top, "┬", soft)
      screen:write(start, top + 1, text, soft)
      free = start + style.width(text)
    end
  end
end

-- The x axis' name, the colour scale and the note.  Returns the row below them.
local function draw_foot(screen, panel, at, left, top, width, settings)
  if panel.xlabel then
    local text = style.fit(style.clean(panel.xlabel), width)
    screen:write(math.max(left, at.left + (at.columns - style.width(text)) // 2), top, text, style.soft.cell)
    top = top + 1
  end
  if panel.bar then
    draw_bar(screen, panel.bar, left, top, width, settings)
    top = top + 1
  end
  if panel.note then
    screen:write(left, top, style.fit(style.clean(panel.note), width), style.soft.cell)
    top = top + 1
  end
  return top
end

local function draw_marks(screen, panel, at, settings)
  for _, mark in ipairs(panel.marks) do draw[mark.type](at, screen, mark, settings) end
end

-- Draws a panel into `width` columns from `left` on, about `height` rows.  Returns how many rows it took.
local function draw_panel(screen, panel, left, width, height, settings)
  local at = { left = left, top = 1, columns = width, rows = height, x = panel.x, y = panel.cells_y or panel.y,
    dots = {}, owner = {}, texts = panel.texts }
  if width < 16 or height < 5 then  -- nothing but the data
    if panel.texts then at.texts, panel = nil, { marks = { panel.marks[1] } } end
    draw_marks(screen, panel, at, settings)
    return height
  end
  local top, ends, labels = draw_head(screen, panel, left, 1, width, settings)
  local below = (panel.x.hidden and 0 or 2) + (panel.xlabel and 1 or 0) + (panel.bar and 1 or 0) + (panel.note and
    1 or 0)
  at.top, at.rows = top, math.max(1, height - (top - 1) - below)
  local ticks = panel.y:ticks(math.max(2, at.rows // 3))
  local margin = math.min(widest(ticks), math.max(width // 3, 4))
  local frame = panel.y.hidden and 0 or 1
  at.left, at.columns = left + margin + frame, math.max(1, width - margin - frame - labels)
  if panel.texts then
    at.columns, at.rows = cell_size(panel, at.columns)
  elseif panel.square then
    at.columns, at.rows = square_size(panel, at.columns, at.rows)
  elseif panel.bands then
    at.rows = math.max(panel.bands, at.rows // panel.bands * panel.bands)
  end
  draw_y_axis(screen, panel, at, ticks, margin, settings)
  draw_marks(screen, panel, at, settings)
  for _, e in ipairs(ends) do e.row = clamp(to_row(at, e.y) - top + 1, 1, at.rows) end
  spread(ends, at.rows)
  for _, e in ipairs(ends) do
    if e.row >= 1 then screen:write(at.left + at.columns + 1, top + e.row - 1, e.text, e.color.cell) end
  end
  top = top + at.rows
  if not panel.x.hidden then
    draw_x_axis(screen, panel, at, left, left + width - 1)
    top = top + 2
  end
  return draw_foot(screen, panel, at, left, top, width, settings) - 1
end

-- ---- all panels ----

local MOST_ROWS = 22  -- of a panel, where its data do not need more
local TALLEST = 300

-- The scene as text of at most settings.width columns.  settings: {width=, height=, color=}.
function terminal.draw(scene, settings)
  local columns, lines = native.columns()
  local width = math.max(1, math.min(settings.width or columns, 400))
  local ratio = (scene.height or 400) / (scene.width or 640)
  local across = math.max(1, math.min(scene.columns or 1, #scene.panels, width // 24))
  local each = across > 1 and (width - 3 * (across - 1)) // across or width
  local rows = settings.height or math.max(1, math.min(math.floor(each * ratio * 0.36 + 0.5) + 4, MOST_ROWS,
    math.max(lines - 3, 6)))
  if #scene.panels > across and not settings.height then rows = math.max(11, math.min(rows, 14)) end
  local parts = {}
  if scene.title then
    local head = Screen.new(width, 1)
    head:write(1, 1, style.fit(style.clean(scene.title), width), nil, true)
    parts[1] = head:text(settings.color)
  end
  for i = 1, #scene.panels, across do
    local screen, used = Screen.new(width, TALLEST), 1
    for k = 0, math.min(across, #scene.panels - i + 1) - 1 do
      used = math.max(used, draw_panel(screen, scene.panels[i + k], 1 + k * (each + 3), each, rows, settings))
    end
    screen.height = math.min(used, TALLEST)
    parts[#parts + 1] = screen:text(settings.color)
  end
  return table.concat(parts, "\n")
end

return terminal
