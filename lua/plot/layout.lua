-- SPDX-License-Identifier: MIT
-- Where the parts of a scene lie on a picture, and the words around them: the same whoever draws, gnuplot or svg.lua.
--
-- A pen draws: it is { width=, height= } in pixels, and in this order is asked for
--   axes(panel, at, x_ticks, y_ticks, turned)  what belongs to axes; `at` is the area {left=, top=, width=, height=}
--   label(text, left, top, {size=, color=, align=, bold=, turn=})  text whose middle line is at a place
--   marks(panel, at)                            the marks
--   bar(bar, box, ticks)                        a colour scale in a box
--   heading(text, left, top, o)                 a label that belongs to no panel
local axis = require "nablua.plot.axis"
local style = require "nablua.plot.style"

local layout = {}

layout.SIZE = 13         -- of the numbers along axes; others relative to it
layout.ADVANCE = 0.56    -- mean width of a letter, in units of its size
local SIZE, ADVANCE = layout.SIZE, layout.ADVANCE
local EDGE = 14          -- pixels between the picture's edge and text

local function text_width(text, size)
  return style.width(text) * ADVANCE * (size or SIZE)
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

-- Title and legend above the area, names of the axes and a note beside it.
local function add_words(pen, panel, box, at, m)
  local left = panel.ylabel and box.left + EDGE or math.max(box.left + EDGE, at.left - 4)
  local head = box.top + 12
  if panel.title then
    pen:label(panel.title, left, head + SIZE * 0.6, { size = SIZE + 2, bold = true })
    head = head + SIZE + 14
  end
  for _, e in ipairs(panel.legend or {}) do
    pen:label(e.mark == "line" and "━" or "●", left, head + SIZE * 0.4, { color = style.tone(e.color.rgb) })
    pen:label(e.text, left + SIZE * 1.3, head + SIZE * 0.4, {})
    left = left + SIZE * 1.3 + text_width(style.clean(e.text)) + 16
  end
  if panel.ylabel then
    pen:label(panel.ylabel, box.left + EDGE + SIZE * 0.4, at.top + at.height / 2, { size = SIZE + 1,
      color = style.ground.soft, align = "center", turn = style.width(style.clean(panel.ylabel)) > 2 })
  end
  local foot = (panel.square and at.top + at.height + m.bottom or box.top + box.height) - 12
  if panel.note then
    pen:label(panel.note, box.left + EDGE, foot - SIZE * 0.4, { size = SIZE - 2, color = style.ground.faint })
    foot = foot - SIZE - 6
  end
  if panel.xlabel then
    pen:label(panel.xlabel, at.left + at.width / 2, foot - SIZE * 0.4, { size = SIZE + 1, color = style.ground.soft,
      align = "center" })
  end
end

-- Direct labels at the right of the area.
local function add_ends(pen, panel, at)
  local ends = {}
  for i, e in ipairs(panel.ends or {}) do
    ends[i] = { text = e.text, color = e.color,
      at = math.max(0, math.min((panel.y.high - e.y) / (panel.y.high - panel.y.low), 1)) * at.height }
  end
  spread(ends, at.height)
  for _, e in ipairs(ends) do
    local color = style.tone(e.color.rgb)
    if e.at >= -SIZE then pen:label(e.text, at.left + at.width + 8, at.top + e.at, { color = color }) end
  end
end

-- The colour scale beside the area, and its numbers.
local function add_bar(pen, bar, at)
  local low, high = bar.low, bar.high > bar.low and bar.high or bar.low + 1
  local list = axis.new(low, high):ticks(math.max(2, math.floor(at.height / 50)))
  if #list < 3 then
    list = {}
    for i, v in ipairs { low, (low + high) / 2, high } do list[i] = { v, style.number(v, 2) } end
  end
  pen:bar({ scale = bar.scale, low = low, high = high }, { left = at.left + at.width + 14, top = at.top, width = 14,
    height = at.height }, function()
    for _, t in ipairs(list) do
      pen:label(t[2], at.left + at.width + 33, at.top + (high - t[1]) / (high - low) * at.height,
        { size = SIZE - 1, color = style.ground.soft })
    end
  end)
end

-- The texts of cells, as large as they fit.
local function add_texts(pen, mark, panel, at)
  local size = math.max(6, math.min(SIZE, at.width / mark.columns / (mark.longest * ADVANCE + 0.6)))
  local across, up = at.width / (panel.x.high - panel.x.low), at.height / (panel.y.high - panel.y.low)
  for _, t in ipairs(mark) do
    pen:label(t.text, at.left + (t.x - panel.x.low) * across, at.top + (panel.y.high - t.y) * up,
      { size = size, bold = t.bold, align = "center", color = t.white and "#FFFFFF" or style.ink.rgb, inside = true })
  end
end

local function add_panel(pen, panel, box)
  local m, x_ticks, y_ticks, turned = margins(panel, box.width, box.height)
  local at = { left = box.left + m.left, top = box.top + m.top, width = math.max(box.width - m.left - m.right, 10),
    height = math.max(box.height - m.top - m.bottom, 10) }
  if panel.square then
    local ratio = (panel.x.high - panel.x.low) / (panel.y.high - panel.y.low)
    local width, height = math.min(at.width, at.height * ratio), math.min(at.height, at.width / ratio)
    at.left, at.width, at.height = at.left + (at.width - width) / 2, width, height
  end
  pen:axes(panel, at, x_ticks, y_ticks, turned)
  add_words(pen, panel, box, at, m)
  add_ends(pen, panel, at)
  for _, mark in ipairs(panel.marks) do
    if mark.type == "texts" then add_texts(pen, mark, panel, at) end
  end
  pen:marks(panel, at)
  if panel.bar then add_bar(pen, panel.bar, at) end
end

-- All panels of a scene, on a picture of the pen's size.
function layout.draw(pen, scene)
  local width, height = pen.width, pen.height
  local top = scene.title and #scene.panels > 1 and 40 or 0
  local across = math.max(1, math.min(scene.columns or 1, #scene.panels))
  local down = math.max(1, math.ceil(#scene.panels / across))
  for i, panel in ipairs(scene.panels) do
    add_panel(pen, panel, { left = (i - 1) % across * width / across, width = width / across,
      top = top + (i - 1) // across * (height - top) / down, height = (height - top) / down })
  end
  if top > 0 then pen:heading(scene.title, EDGE, 24, { size = SIZE + 4, bold = true }) end
end

-- A lone panel of square units has room to spare on one side: the picture is made to fit it.
function layout.fit(scene, width, height)
  local panel = scene.panels[1]
  if scene.fixed or #scene.panels ~= 1 or not panel.square then return width, height end
  local ratio = (panel.x.high - panel.x.low) / (panel.y.high - panel.y.low)
  local m = margins(panel, width, height)
  local inner = math.min(width - m.left - m.right, (height - m.top - m.bottom) * ratio * 1.25)
  return math.floor(inner + m.left + m.right + 0.5), math.floor(inner / ratio + m.top + m.bottom + 0.5)
end

return layout
