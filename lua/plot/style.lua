-- SPDX-License-Identifier: MIT
-- How plots look: the colours of series, the colour scales of numbers, and text that cannot break a drawing.
local native = require "nablua.native"
local nb = require "nablua.core"

local style = {}

style.page = 740  -- pixels across: a notebook's cell beside its list of files, in a window of 1200

-- ---- colours ----

-- Okabe and Ito's palette, which colour-blind people can tell apart (Color Universal Design, 2008), with the yellow
-- darkened for white paper.  `cell` is the terminal's, lighter, for dark and light backgrounds; `shade` a dark one.
style.colors = {
  { rgb = "#0072B2", cell = 75, tint = { 204, 227, 241 }, shade = { 0, 0, 135 } },     -- blue
  { rgb = "#D55E00", cell = 208, tint = { 248, 221, 204 }, shade = { 95, 0, 0 } },   -- vermilion
  { rgb = "#009E73", cell = 78, tint = { 204, 236, 227 }, shade = { 0, 95, 0 } },     -- green
  { rgb = "#CC79A7", cell = 176, tint = { 246, 228, 238 }, shade = { 95, 0, 95 } },   -- purple
  { rgb = "#B58900", cell = 220, tint = { 246, 234, 196 }, shade = { 95, 95, 0 } },    -- ochre
  { rgb = "#56B4E9", cell = 117, tint = { 221, 240, 251 }, shade = { 0, 95, 135 } },  -- sky
  { rgb = "#666666", cell = 250, tint = { 228, 228, 228 }, shade = { 58, 58, 58 } },   -- grey
  { rgb = "#882255", cell = 168, tint = { 234, 210, 222 }, shade = { 135, 0, 95 } },   -- wine
  { rgb = "#999933", cell = 143, tint = { 235, 235, 214 }, shade = { 95, 95, 95 } },   -- olive
  { rgb = "#332288", cell = 105, tint = { 214, 210, 231 }, shade = { 0, 0, 95 } },   -- indigo
}

style.colors[1].fill = "#B3D4E8"

function style.color(i)
  return style.colors[(i - 1) % #style.colors + 1]
end

local many = {}

-- The colour of layer i of n in their order, along the sequential scale.
function style.depth(i, n)
  local share = n > 1 and math.floor((i - 1) / (n - 1) * 205) or 0  -- its yellow end is too light for a wall
  if not many[share] then
    local rgb = style.scale("sequential")[share + 1]
    local c = rgb:totable()
    local function hex(part)
      local mixed = nb.tensor(c):mul(part):add(255 * (1 - part)):to("u8"):totable()
      return ("#%02X%02X%02X"):format(table.unpack(mixed))
    end
    many[share] = { rgb = hex(1), fill = hex(0.35),
      cell = native.xterm(style.scale("sequential")[{ { 26 + share * 229 // 205,
        26 + share * 229 // 205 } }]:contiguous()
        :view(1, 1, 3))[1] }
  end
  return many[share]
end

-- The colour of series i of n; of more than the palette has as of layers.
function style.series(i, n)
  return n <= #style.colors and style.color(i) or style.depth(i, n)
end

-- What is neither data nor text of the user.
style.ink = { rgb = "#222222", cell = nil }
style.soft = { rgb = "#666666", cell = 245 }
style.faint = { rgb = "#E4E4E4", cell = 242 }

-- What drawings stand on.  A page may be light or dark and does not say which: there they have no ground of their own,
-- and inks of a middle tone, which both carry at a contrast above 4.
style.grounds = {
  paper = { page = "#FFFFFF", dark = "#222222", soft = "#444444", faint = "#888888", grid = "#E4E4E4" },
  clear = { dark = "#777777", soft = "#777777", faint = "#808080", grid = "#80808040" },
}
style.ground = style.grounds.paper  -- of the drawing that is made

-- f(...) with drawings on that ground.
function style.on(ground, f, ...)
  local before = style.ground
  local _ <close> = setmetatable({}, { __close = function() style.ground = before end })
  style.ground = ground
  return f(...)
end

-- The relative luminance of a colour's three parts, from 0 to 1, as WCAG 2 defines it.
local function luminance(parts)
  local sum, weights = 0, { 0.2126, 0.7152, 0.0722 }
  for i, v in ipairs(parts) do
    v = v / 255
    sum = sum + weights[i] * (v <= 0.04045 and v / 12.92 or ((v + 0.055) / 1.055) ^ 2.4)
  end
  return sum
end

local LEAST = 0.17  -- luminance of lines and their names: four times a dark page's, and a light one's five times it
local toned = {}

-- A line's colour on the ground that is drawn on: mixed with white where it is too dark for a page that may be.
function style.tone(rgb)
  if style.ground.page then return rgb end
  if not toned[rgb] then
    local parts = {}
    for part in rgb:sub(2):gmatch "%x%x" do parts[#parts + 1] = tonumber(part, 16) end
    while #parts == 3 and luminance(parts) < LEAST do
      for i, v in ipairs(parts) do parts[i] = v + (255 - v) * 0.05 end
    end
    toned[rgb] = #parts == 3 and ("#%02X%02X%02X"):format(math.floor(parts[1]), math.floor(parts[2]),
      math.floor(parts[3])) or rgb
  end
  return toned[rgb]
end

-- ---- scales: number → colour ----

local stops = {
  -- viridis (Smith and van der Walt 2015), sampled at ninths
  sequential = { { 68, 1, 84 }, { 71, 44, 122 }, { 59, 81, 139 }, { 44, 113, 142 }, { 33, 144, 141 }, { 39, 173, 129 },
    { 92, 200, 99 }, { 170, 220, 50 }, { 253, 231, 37 } },
  -- after ColorBrewer's RdBu: blue below zero, white at it, red above
  diverging = { { 5, 48, 97 }, { 33, 102, 172 }, { 67, 147, 195 }, { 146, 197, 222 }, { 247, 247, 247 },
    { 244, 165, 130 }, { 214, 96, 77 }, { 178, 24, 43 }, { 103, 0, 31 } },
  grey = { { 0, 0, 0 }, { 255, 255, 255 } },
  -- white to blue, for counts that carry their number
  counts = { { 255, 255, 255 }, { 222, 235, 247 }, { 158, 202, 225 }, { 66, 146, 198 }, { 8, 81, 156 }, { 8, 48,
    107 } },
}
style.scales = { "sequential", "diverging", "grey", "counts" }

local MISSING = { 200, 200, 200 }
local tables = {}

-- The scale's 256 colours, and one for what is no number: u8 257×3.
function style.scale(name)
  if not tables[name] then
    local rows, list = {}, stops[name]
    for i = 0, 255 do
      local at = i / 255 * (#list - 1)
      local k = math.min(math.floor(at), #list - 2)
      local a, b, rest = list[k + 1], list[k + 2], at - k
      local row = {}
      for c = 1, 3 do row[c] = math.floor(a[c] + (b[c] - a[c]) * rest + 0.5) end
      rows[i + 1] = row
    end
    rows[257] = MISSING
    tables[name] = nb.tensor(rows, { dtype = "u8" })
  end
  return tables[name]
end

-- Colours of a matrix of f64, u8 H×W×3.  What is no number is grey; infinities have the colours of the ends.
function style.colorize(values, low, high, name)
  local h, w = values:size(1), values:size(2)
  if high <= low then low, high = low - 0.5, high + 0.5 end
  -- By halves: the span of the largest numbers has no number.
  local at = ((values / 2 - low / 2) / (high / 2 - low / 2) * 255):clamp(0, 255)
  local index = nb.where(at:ne(at), 256, at + 0.5):floor() + 1
  return style.scale(name):index_select(1, index:to("i64"):flatten()):view(h, w, 3)
end

-- Whether text on the colour of value `v` should be white.
function style.dark(v, low, high, name)
  if v ~= v then return false end
  local list = stops[name]
  local at = (v / 2 - low / 2) / (high / 2 - low / 2)
  at = at ~= at and 0.5 or math.min(math.max(at, 0), 1)
  local c = list[math.floor(at * (#list - 1) + 1.5)]
  return 0.299 * c[1] + 0.587 * c[2] + 0.114 * c[3] < 140
end

-- ---- text ----

local LONGEST = 200

-- Control characters, and those that turn the direction of what follows.
local function harmful(code)
  return code < 32 or (code >= 127 and code < 160) or (code >= 0x200E and code <= 0x200F) or
    (code >= 0x2028 and code <= 0x202E) or (code >= 0x2066 and code <= 0x2069) or code >= 0xFFFE and code <= 0xFFFF or
    (code >= 0xD800 and code <= 0xDFFF) or code > 0x10FFFF
end

-- The text in one line of valid UTF-8, without what a terminal or XML would choke on.
function style.clean(text)
  text = tostring(text)
  if not text:find("[^\32-\126]") and #text <= LONGEST then return text end
  local out, i = {}, 1
  while i <= #text and #out < LONGEST do
    local next_bad = utf8.len(text, i, i)
    if next_bad then
      local code = utf8.codepoint(text, i)
      out[#out + 1] = harmful(code) and " " or utf8.char(code)
      i = utf8.offset(text, 2, i)
    else
      out[#out + 1] = "\u{FFFD}"
      i = i + 1
    end
  end
  if i <= #text then out[#out] = "…" end
  return table.concat(out)
end

-- The text as XML, and dot's labels, have it.
function style.xml(text)
  return (style.clean(text):gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

-- Columns of a text in a terminal; the text cut to at most so many.
style.width, style.fit = native.width, native.fit

-- ---- numbers ----

local raised = { ["0"] = "⁰", ["1"] = "¹", ["2"] = "²", ["3"] = "³", ["4"] = "⁴", ["5"] = "⁵", ["6"] = "⁶",
  ["7"] = "⁷",
  ["8"] = "⁸", ["9"] = "⁹", ["-"] = "⁻" }

-- "10⁻³"
function style.power(exponent)
  return "10" .. ("%d"):format(exponent):gsub(".", raised)
end

-- A number for people, of about `digits` digits: 0.01234, 1.2·10⁻⁷.
function style.number(v, digits)
  digits = digits or 4
  if v ~= v then return "nan" end
  if v == math.huge then return "∞" end
  if v == -math.huge then return "−∞" end
  local size = math.abs(v)
  if size ~= 0 and (size < 1e-4 or size >= 1e6) then
    local mantissa, exponent = ("%." .. digits - 1 .. "e"):format(v):match("^(.-)e(.*)$")
    mantissa = mantissa:gsub("%.?0+$", "")
    local power = style.power(math.tointeger(tonumber(exponent)))
    if mantissa == "1" or mantissa == "-1" then return mantissa:gsub("1", "") .. power end
    return mantissa .. "·" .. power
  end
  return (("%." .. digits .. "g"):format(v):gsub("e%+?(-?)0*(%d+)", "e%1%2"))
end

return style
