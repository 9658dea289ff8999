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

-- ---- formulas ----

local LETTERS = { ["ŷ"] = "\\hat{y}", ["δ"] = "\\delta ", ["σ"] = "\\sigma ", ["∂"] = "\\partial ", ["×"] = "\\times ",
  ["−"] = "-", ["…"] = "\\ldots ", ["∞"] = "\\infty ", ["←"] = "\\leftarrow ", ["→"] = "\\rightarrow ",
  ["Δ"] = "\\Delta ", ["·"] = "\\cdot " }

local RAISED, LOWERED = {}, {}
for plain, raised in pairs { ["("] = "⁽", [")"] = "⁾", ["-"] = "⁻" } do RAISED[raised] = plain end
for digit = 0, 9 do
  RAISED[text.superscript(digit)], LOWERED[text.subscript(digit)] = tostring(digit), tostring(digit)
end

-- A formula as the terminal shows it, such as "∂J/∂W⁽¹⁾ = δ⁽²⁾·X", as LaTeX between dollars.
function html.math(formula)
  local s = formula:gsub("[$\\{}%%#&~^]", ""):gsub("%a[%a_][%w_]*", function(word)
    return "\\mathrm{" .. word:gsub("_", "\\_") .. "}"
  end)
  s = s:gsub("·", "\1"):gsub("∂J/∂([^%s\1=+)|/]+)", "\\tfrac{∂J}{∂%1}")
  local parts, open = {}, nil
  for c in s:gsub("\1", "·"):gmatch(utf8.charpattern) do
    local kind = RAISED[c] and "^" or LOWERED[c] and "_" or nil
    if open and kind ~= open then parts[#parts + 1] = "}" end
    if kind and kind ~= open then parts[#parts + 1] = kind .. "{" end
    open = kind
    parts[#parts + 1] = RAISED[c] or LOWERED[c] or LETTERS[c] or c
  end
  if open then parts[#parts + 1] = "}" end
  return "$" .. text.escape((table.concat(parts):gsub("   +", "\\quad "))) .. "$"
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
  return ('<div style="border:1px solid rgba(128,128,128,.3);border-left:5px solid %s;border-radius:4px;' ..
    'padding:8px 14px;margin:4px 0;max-width:64em;overflow-x:auto"><div style="display:flex;flex-wrap:wrap;' ..
    'align-items:baseline;gap:4px 14px">%s<span style="margin-left:auto;opacity:.65">%s</span></div>%s</div>'):format(
    color, heading, right or "", body or "")
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
  local lines = { '<table style="border-collapse:collapse;border:none;margin:6px 0;' ..
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

-- A tensor's first values as a grid: orange above 0, blue below, as in diagrams, the stronger the further.
function html.values(t)
  local corner = nb.no_grad(function()
    local c = t:detach():to("f64")
    while c:dim() > 2 do c = c[1] end
    return c:dim() == 2 and c or c:reshape(1, -1)
  end)
  local rows, columns = corner:size(1), corner:size(2)
  local list = nb.no_grad(function()
    return corner[{ { 1, math.min(rows, ROWS) }, { 1, math.min(columns, COLUMNS) } }]:totable()
  end)
  local most = 0
  for _, row in ipairs(list) do
    for _, v in ipairs(row) do
      if math.abs(v) > most and math.abs(v) < math.huge then most = math.abs(v) end
    end
  end
  local cells = {}
  for i, row in ipairs(list) do
    cells[i] = {}
    for k, v in ipairs(row) do
      local depth = v ~= v and 0 or most > 0 and math.min(math.abs(v) / most, 1) or 0
      cells[i][k] = { text.number(v), ("text-align:right;background:rgba(%s,%.2f);"):format(
        v < 0 and "59,139,208" or "217,121,31", 0.5 * depth) }
    end
    if columns > COLUMNS then cells[i][#cells[i] + 1] = "…" end
  end
  if rows > ROWS then cells[#cells + 1] = { "⋮" } end
  local note = (t:dim() > 2 and "the first of each outer dimension; " or "") .. "shape " .. options.shape(t)
  return html.table(nil, cells) .. (t:dim() > 2 and html.dim(note) or "")
end

return html
