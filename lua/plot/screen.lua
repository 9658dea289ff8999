-- SPDX-License-Identifier: MIT
-- A rectangle of character cells with colours, from which lines of text are made.
local style = require "nablua.plot.style"

local Screen = {}
Screen.__index = Screen

-- Cell (column, row), both from 1, is entry (row - 1)·width + column of each list; "" is the right half of a character
-- of two columns.
function Screen.new(width, height)
  return setmetatable({ width = width, height = height, char = {}, fg = {}, bg = {}, bold = {} }, Screen)
end

-- Sets one cell; what lies outside is left out.  Without a background the one there stays.
function Screen:cell(column, row, char, fg, bg)
  if column < 1 or row < 1 or column > self.width or row > self.height then return end
  local i = (row - 1) * self.width + column
  if char then self.char[i], self.fg[i] = char, fg end
  if bg then self.bg[i] = bg end
end

-- Writes clean text from a cell on, cut at the right edge.  Returns the column after it.
function Screen:write(column, row, text, fg, bold)
  column, row = math.floor(column), math.floor(row)
  for _, code in utf8.codes(text) do
    local n = style.width(utf8.char(code))
    if column >= 1 and column + n - 1 <= self.width and row >= 1 and row <= self.height then
      local i = (row - 1) * self.width + column
      if n == 0 then
        if self.char[i - 1] then self.char[i - 1] = self.char[i - 1] .. utf8.char(code) end
      else
        self.char[i], self.fg[i], self.bold[i] = utf8.char(code), fg, bold
        if n == 2 then self.char[i + 1] = "" end
      end
    end
    column = column + n
  end
  return column
end

-- The rows as lines, without blanks at their ends; with colours as xterm's 256.
function Screen:text(color)
  local lines = {}
  for row = 1, self.height do
    local parts, last, now = {}, 0, ""
    local from = (row - 1) * self.width
    for column = 1, self.width do
      local i = from + column
      if self.char[i] and self.char[i] ~= " " or (color and self.bg[i]) then last = column end
    end
    for column = 1, last do
      local i = from + column
      if color then
        local want = (self.bold[i] and ";1" or "") .. (self.fg[i] and ";38;5;" .. self.fg[i] or "") ..
          (self.bg[i] and ";48;5;" .. self.bg[i] or "")
        if want ~= now then
          parts[#parts + 1] = "\27[0" .. want .. "m"
          now = want
        end
      end
      parts[#parts + 1] = self.char[i] or " "
    end
    if now ~= "" then parts[#parts + 1] = "\27[0m" end
    lines[row] = table.concat(parts)
  end
  return table.concat(lines, "\n")
end

return Screen
