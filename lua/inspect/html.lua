-- SPDX-License-Identifier: MIT
-- The notebook's forms: cards, tables and values as HTML with inline styles that hold on light and dark pages.
--
-- Text has the page's own colour; what is coloured is so half transparent, or so mid-toned, that both pages carry it.
-- Blue and orange are told apart by everybody.
local nb = require "nablua.core"
local options = require "nablua.options"
local text = require "nablua.inspect.text"

local html = {}

html.BLUE, html.ORANGE, html.GREEN, html.RED, html.GRAY = "#3b8bd0", "#d9791f", "#2a9d78", "#d1495b", "#888888"

html.escape = text.escape

-- Classes that keep a page's own typesetting away: what stands between dollars, in a name say, is no formula.
html.PLAIN = "tex2jax_ignore mathjax_ignore"

-- ---- formulas ----

local RAISED, LOWERED = { ["ᵀ"] = "⊤" }, {}
for plain, raised in pairs { ["("] = "⁽", [")"] = "⁾", ["-"] = "⁻" } do RAISED[raised] = plain end
for digit = 0, 9 do
  RAISED[text.superscript(digit)], LOWERED[text.subscript(digit)] = tostring(digit), tostring(digit)
end

local SERIF = "font-family:'STIX Two Math','Latin Modern Math','Cambria Math','DejaVu Serif',Georgia,serif"

-- A formula as the terminal shows it, such as "∂J/∂W⁽¹⁾ = δ⁽²⁾·X", in HTML: raised and lowered parts as such, letters
-- slanted, words upright.
function html.math(formula)
  local parts, open = {}, nil
  local function close()
    if open then parts[#parts + 1] = "</" .. open .. ">" end
    open = nil
  end
  local at = 1
  while at <= #formula do
    local word = formula:match("^[%a_][%w_]*", at)
    local c = word or formula:match("^" .. utf8.charpattern, at) or formula:sub(at, at)
    local kind = RAISED[c] and "sup" or LOWERED[c] and "sub" or nil
    if kind ~= open then
      close()
      if kind then parts[#parts + 1] = "<" .. kind .. ">" end
      open = kind
    end
    local plain = text.escape(RAISED[c] or LOWERED[c] or c)
    parts[#parts + 1] = word and #word == 1 and "<i>" .. plain .. "</i>" or plain
    at = at + #c
  end
  close()
  return ('<span style="%s">%s</span>'):format(SERIF, (table.concat(parts):gsub("   +", " &emsp; ")))
end

-- ---- pieces ----

function html.span(style, content)
  return ('<span style="%s">%s</span>'):format(style, content)
end

function html.dim(content)
  return html.span("opacity:.65", content)
end

function html.code(content)
  return ('<code style="padding:1px 5px;border-radius:3px;background:rgba(128,128,128,.16);color:inherit">%s</code>')
    :format(text.escape(content))
end

-- A word on a coloured ground.
function html.badge(color, content)
  return html.span(("background:%s;color:#fff;border-radius:9px;padding:1px 9px;font-size:85%%;font-weight:600;" ..
    "white-space:nowrap"):format(color), content)
end

-- A box with a coloured edge: a heading, what stands at its right, and a body.
function html.card(color, heading, right, body)
  return ('<div class="%s" style="border:1px solid rgba(128,128,128,.3);border-left:5px solid %s;border-radius:4px;' ..
    'padding:8px 14px;margin:4px 0;max-width:736px;box-sizing:border-box;overflow-x:auto"><div style="display:flex;' ..
    'flex-wrap:wrap;align-items:baseline;gap:4px 14px">%s<span style="margin-left:auto;opacity:.65">%s</span></div>' ..
    '%s</div>'):format(html.PLAIN, color, heading, right or "", body or "")
end

function html.line(content)
  return '<div style="margin-top:6px">' .. content .. "</div>"
end

-- A ground that fills a share of a cell from the left.
function html.bar(share, color)
  local percent = math.max(0, math.min(100, 100 * share))
  return ("background:linear-gradient(to right,%s55 %.1f%%,transparent %.1f%%)"):format(color, percent, percent)
end

local CELL = "padding:3px 12px;border:none;white-space:nowrap;"

-- Rows of cells, each a string of HTML or { HTML, style }; sides[i] is "right" for a column of numbers.  `row_style`
-- gives the style of row i.
function html.table(head, rows, sides, row_style)
  local function line(cells, tag, more)
    local parts = {}
    for i, cell in ipairs(cells) do
      local content, style = cell, ""
      if type(cell) == "table" then content, style = cell[1], cell[2] end
      local side = sides and sides[i] or "left"
      parts[i] = ('<%s style="%stext-align:%s;%s%s">%s</%s>'):format(tag, CELL, side, more, style, content, tag)
    end
    return table.concat(parts)
  end
  local lines = { '<table class="' .. html.PLAIN .. '" style="border-collapse:collapse;border:none;margin:6px 0;' ..
    'font-variant-numeric:tabular-nums">' }
  if head then
    lines[2] = '<thead><tr style="background:none;border-bottom:1px solid rgba(128,128,128,.5)">' ..
      line(head, "th", "font-weight:600;opacity:.75;") .. "</tr></thead>"
  end
  lines[#lines + 1] = "<tbody>"
  for i, row in ipairs(rows) do
    lines[#lines + 1] = ('<tr style="background:none;border-bottom:1px solid rgba(128,128,128,.15);%s">%s</tr>'):format(
      row_style and row_style(i) or "", line(row, "td", ""))
  end
  lines[#lines + 1] = "</tbody></table>"
  return table.concat(lines, "\n")
end

-- ---- values ----

local ROWS, COLUMNS = 8, 10
local CHARACTERS = 76  -- of a row: what a page has room for

local VALUE = "padding:2px 6px;"

-- Where the shown entries of a dimension are: all of them, or the first and the last with a gap.
local function shown_places(size, most)
  local list = {}
  if size <= most then
    for i = 1, size do list[i] = i end
    return list
  end
  for i = 1, most - 2 do list[i] = i end
  list[most - 1], list[most] = false, size
  return list
end

-- The numbers of the matrix at those places; false where there is a gap.
local function numbers_at(matrix, rows, columns)
  local values = {}
  for i, r in ipairs(rows) do
    values[i] = {}
    for k, c in ipairs(columns) do values[i][k] = r and c and matrix:at(r, c) end
  end
  return values
end

local function value_cells(values)
  local most, widest, cells = 0, 0, {}
  for _, row in ipairs(values) do
    for _, v in ipairs(row) do
      if v and math.abs(v) > most and math.abs(v) < math.huge then most = math.abs(v) end
    end
  end
  for i, row in ipairs(values) do
    local columns = 0
    cells[i] = {}
    for k, v in ipairs(row) do
      local depth = not v and 0 or v ~= v and 0 or most > 0 and math.min(math.abs(v) / most, 1) or 0
      local shown = v and text.number(v) or "…"
      columns = columns + math.max(text.width(shown), 4) + 2
      cells[i][k] = { shown, ("%stext-align:right;background:rgba(%s,%.2f);"):format(VALUE,
        v and v < 0 and "59,139,208" or "217,121,31", 0.5 * depth) }
    end
    widest = math.max(widest, columns)
  end
  return cells, widest
end

-- A vector or matrix as a grid, the middle of a large one left out: orange above 0, blue below, as in diagrams, the
-- stronger the further.
function html.grid(t)
  local matrix = nb.no_grad(function()
    local m = t:detach():to("f64")
    return m:dim() == 2 and m or m:reshape(1, -1)
  end)
  local rows = shown_places(matrix:size(1), ROWS)
  for columns = COLUMNS, 3, -1 do
    local cells, widest = value_cells(numbers_at(matrix, rows, shown_places(matrix:size(2), columns)))
    if widest <= CHARACTERS or columns == 3 then return html.table(nil, cells) end
  end
end

-- The first matrix of a tensor, and a word on the others.
function html.values(t)
  local corner = t
  while corner:dim() > 2 do corner = corner[1] end
  local note = (t:dim() > 2 and "the first of each outer dimension; " or "") .. "shape " .. options.shape(t)
  return html.grid(corner) .. (t:dim() > 2 and html.dim(note) or "")
end

return html
