-- SPDX-License-Identifier: MIT
-- What a command is given: words, with quotes around those that hold blanks, as a shell reads them; and paths.
local native = require "nablua.native"

local words = {}

-- The words of a line: 'a b' and "a b" are one, and so is a\\ b.
function words.split(line)
  local found, word, quote, i = {}, nil, nil, 1
  while i <= #line do
    local c = line:sub(i, i)
    if quote then
      if c == quote then quote = nil else word = word .. c end
    elseif c == "'" or c == '"' then
      quote, word = c, word or ""
    elseif c == "\\" and i < #line then
      i, word = i + 1, (word or "") .. line:sub(i + 1, i + 1)
    elseif c:match("%s") then
      found[#found + 1], word = word, nil
    else
      word = (word or "") .. c
    end
    i = i + 1
  end
  found[#found + 1] = word
  return found
end

local function without_home(path)
  local home = os.getenv "HOME"
  return home and (path:gsub("^~%f[/\0]", (home:gsub("%%", "%%%%")))) or path
end

-- The path that a command is given: its whole argument, with quotes around it or without.
function words.path(usage, argument)
  local name = usage:match("^%S+")
  local quoted = argument:match("^'([^']*)'$") or argument:match('^"([^"]*)"$')
  local path = quoted or (argument:find("\\ ", 1, true) and words.split(argument)[1]) or argument
  if path == "" then native.raise(("%s: what is missing; it is used as %s"):format(name, usage)) end
  if path:find("\0", 1, true) then native.raise(name .. ": a path holds no zero byte") end
  return without_home(path)
end

return words
