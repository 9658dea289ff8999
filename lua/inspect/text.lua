-- SPDX-License-Identifier: MIT
-- How inspection writes: numbers, superscripts, columns that align, colours, HTML.
local native = require "nablua.native"
local text = {}

local SUPERSCRIPT = { ["0"] = "⁰", ["1"] = "¹", ["2"] = "²", ["3"] = "³", ["4"] = "⁴", ["5"] = "⁵", ["6"] = "⁶",
  ["7"] = "⁷", ["8"] = "⁸", ["9"] = "⁹", ["-"] = "⁻" }
local SUBSCRIPT = { ["0"] = "₀", ["1"] = "₁", ["2"] = "₂", ["3"] = "₃", ["4"] = "₄", ["5"] = "₅", ["6"] = "₆",
  ["7"] = "₇", ["8"] = "₈", ["9"] = "₉" }

function text.superscript(n)
  return (tostring(n):gsub(".", SUPERSCRIPT))
end

function text.subscript(n)
  return (tostring(n):gsub(".", SUBSCRIPT))
end

text.width, text.pad = native.width, native.pad

-- Cut to so many columns, with … where something is missing.
text.cut = native.fit

-- Lines of at most so many columns, parted at spaces.
function text.wrap(s, columns)
  local lines, line = {}, nil
  for word in s:gmatch("%S+") do
    if line and text.width(line) + text.width(word) + 1 > columns then
      lines[#lines + 1], line = line, word
    else
      line = line and line .. " " .. word or word
    end
  end
  lines[#lines + 1] = line
  return lines
end

-- Three significant digits, without exponents where they can be avoided.
function text.number(v)
  if v ~= v then return "NaN" end
  if v == math.huge or v == -math.huge then return v > 0 and "∞" or "−∞" end
  if v == 0 then return "0" end
  local size = math.abs(v)
  if size >= 1e5 or size < 1e-3 then
    local mantissa, exponent = ("%.1e"):format(v):match("^(.*)e(.*)$")
    mantissa = mantissa == "1.0" and "" or mantissa == "-1.0" and "−" or mantissa:gsub("-", "−") .. "·"
    return mantissa .. "10" .. text.superscript(math.tointeger(tonumber(exponent)))
  end
  local whole = math.floor(v + 0.5)
  if math.abs(v - whole) <= 1e-12 * size then return (("%d"):format(whole):gsub("-", "−")) end  -- but for rounding
  local digits = math.max(0, 2 - math.floor(math.log(size, 10)))
  return ((("%." .. digits .. "f"):format(v):gsub("-", "−")))
end

local PLAIN = {}
for plain, raised in pairs(SUPERSCRIPT) do PLAIN[raised] = plain end

-- A number's text as LaTeX: 3.2·10⁻⁵ is 3.2\cdot 10^{-5}.
function text.latex(s)
  s = s:gsub("−", "-"):gsub("∞", "\\infty")
  s = s:gsub("10([^%w%p]+)$", function(raised)
    return "10^{" .. raised:gsub(utf8.charpattern, PLAIN) .. "}"
  end)
  return (s:gsub("·", "\\cdot "))
end

local UPRIGHT = { ["\\"] = "\\backslash ", ["{"] = "\\{", ["}"] = "\\}", ["^"] = "\\wedge ", ["~"] = "\\sim ",
  ["<"] = "\\lt ", [">"] = "\\gt ", [" "] = "\\ " }
for c in ("_#%&$"):gmatch "." do UPRIGHT[c] = "\\" .. c end

-- A name as LaTeX writes a function, \mathrm{log\ softmax}: whatever it holds is text, in LaTeX and in a page.
function text.upright(name)
  if name:find "^%a$" then return name end
  return "\\mathrm{" .. name:gsub("[\\{}^~<> _#%%&$%c]", function(c) return UPRIGHT[c] or "\\ " end) .. "}"
end

-- 1234567 → 1,234,567
function text.count(n)
  local s = ("%d"):format(n):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (s:gsub("^,", ""))
end

-- 1234567 → 1.23 M
function text.amount(n)
  if n < 1000 then return ("%.0f"):format(n) end
  for _, unit in ipairs { "k", "M", "G", "T" } do
    n = n / 1000
    if n < 999.5 or unit == "T" then return ("%.3g %s"):format(n, unit) end
  end
end

-- "1.23 MFLOP", "640 FLOP"
function text.flop(n)
  return (text.amount(n):gsub("%d$", "%0 ")) .. "FLOP"
end

function text.bytes(n)
  if n < 1000 then return ("%d B"):format(n) end
  for _, unit in ipairs { "kB", "MB", "GB" } do
    n = n / 1000
    if n < 1000 or unit == "GB" then return ("%.3g %s"):format(n, unit) end
  end
end

-- ∂J/∂ of a symbol: the lecture's δ⁽²⁾ for z⁽²⁾.
function text.error_name(s)
  local k = s:match("^z(⁽.*⁾)$")
  return k and "δ" .. k or "∂J/∂" .. s
end

local COLORS = { red = "31", green = "32", yellow = "33", blue = "34", magenta = "35", cyan = "36", bold = "1",
  dim = "2", warn = "1;31" }

-- A function that colours where the settings want it, and passes on where not.
function text.painter(settings)
  if not settings or not settings.color then return function(_, s) return s end end
  return function(color, s) return ("\27[%sm%s\27[0m"):format(COLORS[color], s) end
end

function text.escape(s)
  return (s:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

-- A text as SVG, in an ink that light and dark pages carry; 90 columns are 700 pixels.
function text.drawn(s)
  local LETTER, LINE = 7.6, 18
  local parts, columns, n = {}, 1, 0
  for line in (s .. "\n"):gmatch("([^\n]*)\n") do
    n, columns = n + 1, math.max(columns, text.width(line))
    parts[n] = ('<text x="4" y="%d" xml:space="preserve">%s</text>'):format(n * LINE, text.escape(line))
  end
  local width, height = math.ceil(columns * LETTER) + 8, n * LINE + 8
  return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" fill="#777777" ' ..
    'font-family="DejaVu Sans Mono,Menlo,Consolas,monospace" font-size="12.5">%s</svg>'):format(width, height, width,
    height, table.concat(parts))
end

-- Rows of strings as aligned lines; sides[i] is "right" for a column of numbers.  `between` goes between columns.
function text.columns(rows, sides, between)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, text.width(cell)) end
  end
  for k, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do cells[i] = text.pad(cell, widths[i], sides and sides[i]) end
    lines[k] = table.concat(cells, between or "  "):gsub("%s+$", "")
  end
  return lines
end

-- Gives a class of objects its text: `form(self, settings)` for the terminal and tostring.
function text.shown(meta, form, rich)
  meta.__tostring = function(self) return form(self, { width = 100 }) end
  meta.__display = function(self, settings)
    local bundle = rich and settings.rich and rich(self, settings) or {}
    bundle["text/plain"] = form(self, settings)
    return bundle
  end
  return meta
end

return text
