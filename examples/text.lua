-- SPDX-License-Identifier: MIT
-- The text that char_rnn.lua and transformer.lua read, as numbers: one for each different character.
local nb = require "nablua"

-- The King James Bible as Debian has it, or the file at `path`.
local function read(path)
  local f
  if path then
    f = assert(io.open(path))
  else
    f = io.popen("bible -f genesis1:1-revelation22:21 2>/dev/null")
  end
  local text = f:read("a"):gsub("(%f[^\n\0]%S+) ", "")  -- without the verses' numbers
  f:close()
  if #text < 1000 then
    error("there is no text: install the Debian package bible-kjv (apt install bible-kjv), or name a file of your own",
      0)
  end
  return text
end

local Text = {}
Text.__index = Text

-- Reads at most `most` characters of the text: .ids (i64 1..count), .count different characters.
local function open(path, most)
  local text = read(path):sub(1, most)
  local self = setmetatable({ characters = {}, id = {}, count = 0 }, Text)
  local seen = {}
  for c in text:gmatch "." do seen[c] = true end
  seen["\n"] = true
  for c in pairs(seen) do self.characters[#self.characters + 1] = c end
  table.sort(self.characters)
  self.count = #self.characters
  for i, c in ipairs(self.characters) do self.id[c] = i end
  self.ids = self:encode(text)
  return self
end

function Text:encode(s)
  local list = {}
  for i = 1, #s do list[i] = self.id[s:sub(i, i)] or 1 end
  return nb.tensor(list, { dtype = "i64" })
end

-- `count` pieces of `length` characters from places first..last at random, and what follows each: two tensors.
function Text:pieces(first, last, count, length)
  local starts = nb.randint(first, last - length, count, 1)
  local at = starts + nb.arange(0, length - 1):to "i64"
  return self.ids:index_select(1, at), self.ids:index_select(1, at + 1)
end

-- Draws a character from scores; a low temperature prefers the likely ones.
function Text:draw(scores, temperature)
  local shares = (scores / temperature):softmax(1):cumsum(1)
  return math.min(shares:lt(nb.rand(1)):sum():item() + 1, self.count)
end

return { open = open }
