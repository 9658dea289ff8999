-- SPDX-License-Identifier: MIT
-- How an explanation looks: the formula, its factors with shapes, sizes and gains, as text and as LaTeX.
local options = require "nablua.options"
local roles = require "nablua.inspect.roles"
local text = require "nablua.inspect.text"

local MOST_FACTORS = 24  -- beyond which the middle is left out

local function shown_factors(self)
  local list = self.factors
  if #list <= MOST_FACTORS then return list end
  local shown = {}
  for i = 1, MOST_FACTORS // 2 do shown[#shown + 1] = list[i] end
  shown[#shown + 1] = { gap = #list - 2 * (MOST_FACTORS // 2) }
  for i = #list - MOST_FACTORS // 2 + 1, #list do shown[#shown + 1] = list[i] end
  return shown
end

local function size_text(f)
  if not f.norm then return "" end
  return (f.kind == "elementwise" and "⌀ " or "‖·‖ ") .. text.number(f.norm)
end

local function cells(f, last)
  if f.gap then return { "…", ("%d more"):format(f.gap), "", "", "" } end
  return { f.symbol, options.shape(f.shape), size_text(f), f.cancels and "≈ 0" or text.number(f.delta),
    last and "" or "×" .. text.number(f.gain) .. (f.shrinks and " ▼" or "") }
end

local HEADINGS = { "", "shape", "size", "|δ| after", "gain" }

local function paint_cell(self, f, k, cell, paint)
  if k == 1 then return paint("bold", cell) end
  if f.shrinks and (k == 3 or k == 5) then return paint(f == self.shrank and "warn" or "yellow", cell) end
  return cell
end

-- The first factor makes the error and the last one leaves it: they have no gain.  Inside a module all have one.
local function is_end(self, list, i)
  return i == 1 and not self.within or i == #list and (not self.within or self.ends)
end

-- One factor a line.
local function listed(self, list, settings)
  local paint, rows, lines = text.painter(settings), { { "", table.unpack(HEADINGS, 2) } }, {}
  for i, f in ipairs(list) do
    rows[i + 1] = cells(f, is_end(self, list, i))
    rows[i + 1][1] = text.cut(rows[i + 1][1], math.max(8, (settings.width or 80) - 42))
  end
  local widths = {}
  for _, row in ipairs(rows) do
    for k, cell in ipairs(row) do widths[k] = math.max(widths[k] or 0, text.width(cell)) end
  end
  for i, row in ipairs(rows) do
    local parts = {}
    for k, cell in ipairs(row) do
      cell = text.pad(cell, widths[k], (k == 3 or k == 4) and "right" or nil)
      parts[k] = i == 1 and paint("dim", cell) or paint_cell(self, list[i - 1], k, cell, paint)
    end
    lines[i] = table.concat(parts, "  "):gsub("%s+$", "")
  end
  return lines
end

-- Factors side by side in blocks, each factor as wide as it needs; nil where that takes more than two.
local function side_by_side(self, list, settings)
  local paint = text.painter(settings)
  local width, left, found, at = settings.width or 80, 2, {}, 1
  for _, h in ipairs(HEADINGS) do left = math.max(left, text.width(h) + 2) end
  while at <= #list do
    local row, total = {}, left
    while at <= #list do
      local c, w = cells(list[at], is_end(self, list, at)), 0
      for _, cell in ipairs(c) do w = math.max(w, text.width(cell)) end
      if total + w + 3 > width then break end
      row[#row + 1] = { cells = c, width = w, factor = list[at], last = at == #list }
      total, at = total + w + 3, at + 1
    end
    if #row == 0 or #found == 2 then return nil end
    found[#found + 1] = row
  end
  local lines = {}
  for b, row in ipairs(found) do
    if b > 1 then lines[#lines + 1] = "" end
    for k = 1, #HEADINGS do
      local line = paint("dim", text.pad(HEADINGS[k], left))
      for _, block in ipairs(row) do
        local cell = paint_cell(self, block.factor, k, text.pad(block.cells[k], block.width, "center"), paint)
        line = line .. cell .. (k == 1 and not block.last and " · " or "   ")
      end
      lines[#lines + 1] = (line:gsub("%s+$", ""))
    end
  end
  return lines
end

local function blocks(self, settings)
  local list = shown_factors(self)
  return side_by_side(self, list, settings) or listed(self, list, settings)
end

-- The formula over several lines where one is too narrow.
local function formula_lines(self, width)
  if text.width(self.formula) <= width then return { self.formula } end
  local head = self.left .. " = "
  local indent = (" "):rep(text.width(head))
  local lines, line = {}, head
  local list = shown_factors(self)
  for i, f in ipairs(list) do
    local part = (f.gap and "…" or f.symbol) .. (i < #list and "·" or "")
    if text.width(line) + text.width(part) > width and line ~= indent and line ~= head then
      lines[#lines + 1], line = line, indent
    end
    line = line .. part
  end
  lines[#lines + 1] = line
  return lines
end

-- What the symbols of weights and of derivatives stand for.
local function legend(self)
  local parts, known = {}, {}
  for _, node in ipairs(self.paths.nodes) do
    for _, input in pairs(node.inputs) do
      if input.leaf and not known[input.id] and input.name and self.names.leaves[input.id] then
        known[input.id] = true
        local s = self.names.leaves[input.id].text
        if s ~= input.name and self.formula:find(s, 1, true) then parts[#parts + 1] = s .. " = " .. input.name end
      end
    end
  end
  if #parts > 8 then parts = table.move(parts, 1, 8, 1, {}); parts[9] = "…" end
  if self.n then parts[#parts + 1] = "n = " .. self.n end
  for _, f in ipairs(self.factors) do
    if f.meaning and not known[f.meaning] then
      known[f.meaning] = true
      parts[#parts + 1] = f.meaning
    end
  end
  return parts
end

local function verdict(self)
  if not self.shrank then return nil end
  local f, count = self.shrank, 0
  for _, g in ipairs(self.factors) do if g.shrinks then count = count + 1 end end
  local why = roles.of(f.op).shrinks
  why = why and "; " .. why or ""
  if count == 1 then
    return ("▼ one factor shrinks the signal: %s, to ×%s%s"):format(f.symbol, text.number(f.gain), why)
  end
  return ("▼ %d factors shrink the signal, most of all %s, to ×%s%s"):format(count, f.symbol, text.number(f.gain), why)
end

-- Where a weight that is used several times gets its gradient from, by use.
local function uses_lines(self)
  local uses = self.factors[#self.factors].uses
  if not uses or #uses < 2 then return {} end
  local lines = { ("%s is used %d times; what each use adds, from the last to the first:"):format(self.symbol.text,
    #uses) }
  local most = 0
  for _, u in ipairs(uses) do most = math.max(most, u.norm) end
  local shown = {}
  local step = math.max(1, #uses // 60)
  for i = 1, #uses, step do
    local level = most > 0 and uses[i].norm / most or 0
    shown[#shown + 1] = utf8.char(0x2581 + math.min(7, math.floor(level * 7.999)))
  end
  lines[2] = ("  %s   |∂| %s … %s"):format(table.concat(shown), text.number(uses[1].norm),
    text.number(uses[#uses].norm))
  return lines
end

-- What all factors together give: ∂J/∂w, or the error behind the module that was opened.
local function result_line(self)
  if self.within and not self.ends then
    return ("|δ| behind %s = %s"):format(self.within, text.number(self.norm))
  end
  local last = self.factors[#self.factors]
  return ("|∂J/∂%s| = %s   %s"):format(self.symbol.text, last and last.cancels and "0, up to rounding" or
    text.number(self.norm), options.shape(self.w))
end

-- How to look into a module that is one factor.
local function way_in(self)
  local found
  for _, f in ipairs(self.factors) do
    for path in f.symbol:gmatch("([%w_.]+)'") do
      local info = self.places[path]
      if info and path ~= self.within and (not found or info.composite and not self.places[found].composite) then
        found = path
      end
    end
  end
  return found and ("e:open(%q) shows what is inside"):format(found) or nil
end

local function form(self, settings)
  local paint, width = text.painter(settings), math.max(settings.width or 80, 20)
  local lines = formula_lines(self, width)
  for i, line in ipairs(lines) do lines[i] = paint("bold", line) end
  lines[#lines + 1] = ""
  for _, line in ipairs(blocks(self, settings)) do lines[#lines + 1] = line end
  lines[#lines + 1] = ""
  lines[#lines + 1] = result_line(self)
  local sentence = verdict(self)
  for _, line in ipairs(sentence and text.wrap(sentence, math.max(width, 40)) or {}) do
    lines[#lines + 1] = paint("yellow", line)
  end
  for _, line in ipairs(uses_lines(self)) do lines[#lines + 1] = line end
  local words = legend(self)
  if #words > 0 then lines[#lines + 1] = paint("dim", text.cut(table.concat(words, "   "), width)) end
  local hint = way_in(self)
  if hint then lines[#lines + 1] = paint("dim", text.cut(hint, width)) end
  return table.concat(lines, "\n")
end

local function rich(self)
  local parts, list = {}, shown_factors(self)
  for i, f in ipairs(list) do
    if f.gap then
      parts[i] = "\\cdots"
    else
      local under = { options.shape(f.shape):gsub("×", "\\times "):gsub("%(%)", "1") .. "" }
      if f.norm then under[2] = text.latex(text.number(f.norm)) end
      if f.shrinks and i < #list then
        under[3] = ("\\color{red}{\\times %s\\,\\blacktriangledown}"):format(text.latex(text.number(f.gain)))
      end
      parts[i] = ("\\underbrace{%s}_{\\substack{%s}}"):format(f.latex, table.concat(under, "\\\\[2pt] "))
    end
  end
  local rows = {}
  for i = 1, #parts, 6 do rows[#rows + 1] = table.concat(parts, " \\cdot ", i, math.min(i + 5, #parts)) end
  local left = self.left_latex
  local body = ("%s ={}& %s"):format(left, table.concat(rows, " \\\\[8pt] &\\cdot "))
  -- A page that knows no TeX, as nbconvert's where there is no network, shows the drawing.
  return { ["text/latex"] = ("$$\\begin{aligned}%s\\end{aligned}$$"):format(body),
    ["image/svg+xml"] = text.drawn(form(self, { width = 88 })) }
end

return { form = form, rich = rich }
