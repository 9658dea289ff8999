-- SPDX-License-Identifier: MIT
-- Flame graphs: a tree of times as rows of frames, each as wide as its time, what is inside a frame below it; in the
-- terminal and as SVG.
--
-- A tree is { name =, seconds =, kind =, children = { tree, ... } }; kind chooses the colour.
local text = require "nablua.inspect.text"

local flame = {}

local LEAST = 0.002  -- of the whole: frames smaller than this are left out

-- 256-colour grounds and SVG fills by kind, two of each so that neighbours differ.
local GROUNDS = { forward = { 68, 74 }, backward = { 173, 179 }, update = { 71, 77 }, between = { 245, 248 },
  all = { 252, 252 } }
local FILLS = { forward = { "#5b9bd5", "#7fb2e0" }, backward = { "#e0964f", "#eab07a" }, update = { "#5bb58e",
  "#83c9aa" }, between = { "#a3a3a3", "#b5b5b5" }, all = { "#cfcfcf", "#cfcfcf" } }

-- Frames by depth: { name, seconds, from, to (shares of the whole), kind, shade }.
local function frames_of(tree)
  local rows, whole = {}, tree.seconds
  local function visit(node, depth, from)
    rows[depth] = rows[depth] or {}
    local row = rows[depth]
    local share = whole > 0 and node.seconds / whole or 0
    row[#row + 1] = { name = node.name, seconds = node.seconds, from = from, to = from + share, kind = node.kind,
      shade = #row % 2 + 1 }
    table.sort(node.children, function(a, b) return a.seconds > b.seconds end)
    for _, child in ipairs(node.children) do
      if whole > 0 and child.seconds / whole >= LEAST then visit(child, depth + 1, from) end
      from = from + (whole > 0 and child.seconds / whole or 0)
    end
  end
  visit(tree, 1, 0)
  return rows
end

function flame.time(s)
  if s < 1e-6 then return ("%.3g ns"):format(s * 1e9) end
  if s < 1e-3 then return ("%.3g µs"):format(s * 1e6) end
  if s < 1 then return ("%.3g ms"):format(s * 1e3) end
  return ("%.3g s"):format(s)
end

-- Lines of at most `width` columns.  Without colours a frame begins with a bar.
function flame.lines(tree, width, color)
  local lines = {}
  for _, row in ipairs(frames_of(tree)) do
    local parts, at = {}, 0
    for _, f in ipairs(row) do
      local from, to = math.floor(f.from * width + 0.5), math.floor(f.to * width + 0.5)
      if to > from then
        if from > at then parts[#parts + 1] = (" "):rep(from - at) end
        local room = to - from
        if color then
          local label = room >= 4 and text.cut(" " .. f.name, room) or ""
          parts[#parts + 1] = ("\27[48;5;%d;38;5;16m%s\27[0m"):format((GROUNDS[f.kind] or GROUNDS.all)[f.shade],
            text.pad(label, room))
        else
          local label = room >= 4 and text.cut(f.name, room - 1) or ""
          parts[#parts + 1] = "▏" .. text.pad(label, room - 1)
        end
        at = to
      end
    end
    lines[#lines + 1] = (table.concat(parts):gsub("%s+$", ""))
  end
  return lines
end

local ROW, GAP = 20, 1

-- What fits of a name into so many pixels, at 6.6 pixels a letter.
local function label_for(name, pixels)
  local letters = math.floor((pixels - 8) / 6.6)
  return letters >= 2 and text.cut(name, letters) or ""
end

function flame.svg(tree, width)
  local rows = frames_of(tree)
  local parts = { ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" ' ..
    'font-family="DejaVu Sans Mono,Menlo,Consolas,monospace" font-size="11">'):format(width, #rows * (ROW + GAP), width,
    #rows * (ROW + GAP)) }
  for depth, row in ipairs(rows) do
    for _, f in ipairs(row) do
      local x, w = f.from * width, (f.to - f.from) * width
      local y = (depth - 1) * (ROW + GAP)
      local label = label_for(f.name, w)
      parts[#parts + 1] = ('<g><title>%s: %s, %.1f %%</title><rect x="%.2f" y="%d" width="%.2f" height="%d" rx="2" ' ..
        'fill="%s"/>%s</g>'):format(text.escape(f.name), flame.time(f.seconds), 100 * (f.to - f.from), x, y,
        math.max(w - 0.6, 0.4), ROW, (FILLS[f.kind] or FILLS.all)[f.shade], label == "" and "" or
        ('<text x="%.2f" y="%d" fill="#16181d">%s</text>'):format(x + 4, y + 14, text.escape(label)))
    end
  end
  parts[#parts + 1] = "</svg>"
  return table.concat(parts)
end

return flame
