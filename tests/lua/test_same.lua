-- SPDX-License-Identifier: MIT
-- What `nablua check` takes for the same text, pair by pair.
local lu = require "luaunit"
require "nablua"
local same = require "nablua.session.check.same"

local T = {}
local TOLERANCE = 1e-3

local SAME = {
  { "loss 0.5000", "loss 0.5004" }, { "a = 12", "a = 12" }, { "x - 0.5", "x-0.5" }, { "f(1) - 2.0", "f(1)-2.0005" },
  { "−0.5", "-0.5" }, { "1e-05 left", "1.0004e-05 left" }, { "in 3 ms", "in 1.2 s" }, { "took 12.5 µs", "took 13 µs" },
  { "table: 0x55d0c0ffee00", "table: 0x7fffc0ffee10" }, { "input 3:1: no", "input 12:1: no" },
  { "\27[31mred\27[0m", "red" }, { "10 %\r100 %", "100 %" }, { "a  \nb\n\n", "a\nb" }, { "nan", "nan" },
  { "0.0", "0.0000000001" },
}

local DIFFERENT = {
  { "loss 0.5000", "loss 0.5020" }, { "a = 12", "a = 13" }, { "a = 12", "a = 12.0 s" },
  { "a = 1000000", "a = 1000001" }, { "x - 0.5", "x + 0.5" }, { "-0.5", "0.5" }, { "1e-05 left", "1.1e-05 left" },
  { "3 ms", "3 kB" },
  { "a\nb", "a\nb\nc" }, { "red", "read" }, { "a b", "a b c" }, { "a b c", "a b" }, { "nan", "0.5" }, { "abc", "" },
}

function T.test_pairs_of_texts()
  for _, pair in ipairs(SAME) do
    lu.assertTrue(same.text(pair[1], pair[2], TOLERANCE), pair[1] .. " | " .. pair[2])
    lu.assertTrue(same.text(pair[2], pair[1], TOLERANCE), pair[2] .. " | " .. pair[1])
  end
  for _, pair in ipairs(DIFFERENT) do
    lu.assertFalse(same.text(pair[1], pair[2], TOLERANCE), pair[1] .. " | " .. pair[2])
    lu.assertFalse(same.text(pair[2], pair[1], TOLERANCE), pair[2] .. " | " .. pair[1])
  end
end

-- "..." alone stands for any lines, within a line for anything.
function T.test_patterns()
  local function fits(pattern, text) return same.pattern(pattern, text, TOLERANCE) end
  for _, pair in ipairs { { "a\n...\nd", "a\nb\nc\nd" }, { "a\n...\nd", "a\nd" }, { "...", "" }, { "...", "a\nb" },
    { "...\nz", "a\nz\nz" }, { "loss ... left", "loss 0.3 left" }, { "loss 0.5\n...", "loss 0.5003\nmore" },
    { "[1] ...", "[1] 2" }, { "", "  \n" }, { "a...%d", "axx%d" } } do
    lu.assertTrue(fits(pair[1], pair[2]), pair[1] .. " | " .. pair[2])
  end
  for _, pair in ipairs { { "a\n...\nd", "a\nb\nc" }, { "...\nz", "a\nb" }, { "a\n...", "b\na" },
    { "loss ... left", "loss 0.3" }, { "a\nb", "a\nx\nb" }, { "", "a" }, { "a...%d", "axx7" } } do
    lu.assertFalse(fits(pair[1], pair[2]), pair[1] .. " | " .. pair[2])
  end
end

return T
