-- SPDX-License-Identifier: MIT
-- What tests of pictures share: saving, well-formed XML, the width of text, titles that try to do harm.
local lu = require "luaunit"
local native = require "nablua.native"
local scratch = require "scratch"
local style = require "nablua.plot.style"

local M = {}

M.place = scratch.new()
M.cleaner = setmetatable({}, { __gc = function() M.place:remove() end })

-- Whether a program can be run.
function M.has(command)
  local process = native.spawn(command)
  if not process then return false end
  process:exchange("", nil, 10)
  return true
end

-- The bytes of a plot saved under a name.
function M.saved(p, name, o)
  p:save(M.place:path(name), o)
  return M.place:read(name)
end

-- XML by the rules that matter here: tags nest, attributes are quoted, nothing raw between them.
function M.check_xml(text)
  text = text:gsub("^<%?xml.-%?>", ""):gsub("<!DOCTYPE.->", ""):gsub("<!%-%-.-%-%->", "")
  lu.assertNotNil(utf8.len(text), "not UTF-8")
  lu.assertNil(text:find("[%z\1-\8\11\12\14-\31]"), "control characters")
  local open, at = {}, 1
  while true do
    local from, to, tag = text:find("<([^<>]*)>", at)
    local between = text:sub(at, (from or 0) - 1)
    lu.assertNil(between:gsub("&%a+;", ""):gsub("&#x?%x+;", ""):find("[<&]"), "raw " .. between:sub(1, 80))
    if not from then break end
    if tag:sub(1, 1) == "/" then
      lu.assertEquals(table.remove(open), tag:sub(2):match("^%S+"))
    else
      local rest = tag:gsub("^[%w:]+", ""):gsub("%s+[%w:%-]+%s*=%s*\"[^\"]*\"", "")
        :gsub("%s+[%w:%-]+%s*=%s*'[^']*'", "")
      lu.assertNotNil(rest:match("^%s*/?$"), "attributes of <" .. tag:sub(1, 200) .. ">")
      if tag:sub(-1) ~= "/" then open[#open + 1] = tag:match("^[%w:]+") end
    end
    at = to + 1
  end
  lu.assertEquals(open, {})
end

-- Width and height of a PNG.
function M.png_size(content)
  lu.assertEquals(content:sub(1, 8), "\137PNG\r\n\26\n")
  return (">I4I4"):unpack(content, 17)
end

-- The lines of a text, without colours.
function M.lines(text)
  local list = {}
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do list[#list + 1] = (line:gsub("\27%[[%d;]*m", "")) end
  return list
end

-- The plot's text, none of whose lines is wider than `width`.
function M.check_width(p, width, color)
  local text = p:__display({ width = width, color = color })["text/plain"]
  for _, line in ipairs(M.lines(text)) do
    lu.assertTrue(style.width(line) <= width, ("%d columns, allowed %d: %s"):format(style.width(line), width, line))
  end
  return text
end

-- What could end a string, start a command, close a tag or move a terminal's cursor; %s is a file that must not appear.
M.hostile = { "`touch %s`", "'; system('touch %s'); '", "\"; !touch %s\n!touch %s", "%%d %%s %%n %%1$n", "a\\", "@x $y",
  "<script>alert(1)</script>&amp;", "\27[2J\27]0;x\7", "\255\254 bad bytes", "\u{202E}reversed", "日本語のタイトル",
  ("x"):rep(5000), "", "{/Symbol a}_1^2", "#comment", "]]>", "\n\n\n" }

return M
