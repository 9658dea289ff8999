# SPDX-License-Identifier: MIT
"""The string functions and table.sort that stop at an interrupt do what Lua's own do: the same program, run by both."""
import os
import shutil
import subprocess
import unittest

from terminal import NABLUA, ROOT, SANITIZED, TIMEOUT

# Random patterns over a small alphabet, so that they often match, and often are wrong.
PROGRAM = r"""
local state = SEED
local function random(n)
  state = (state * 1103515245 + 12345) % 2147483648
  return state // 65536 % n + 1
end
local function pick(list) return list[random(#list)] end
local pieces = { "a", "b", "%a", "%d", "%w", "%W", "%s", ".", "[ab]", "[^a]", "[a-c]", "[%d-]", "[]]", "[^]b]", "%1", "%2", "(",
  ")", "()", "(a", "b)", "*", "+", "-", "?", "^", "$", "%bab", "%b()", "%f[%a]", "%f[^b]", "%%", "%.", "%", "[", "[^", "%f",
  "%b", "%ba", "x", "\0", "[\0-a]", "%z", "%A", "[%a_]", "é", "(.-)", "(%w+)", "[[:]", "[a-]", "[%a-z]", "%g", "%p", "%x", "%c" }
local letters = { "a", "b", "c", "ab", "aa", "1", " ", "(", ")", "x", "\0", "é", "-", "]", "^", "A", "%" }
local function text(from, most)
  local t = {}
  for i = 1, random(most) - 1 do t[i] = pick(from) end
  return table.concat(t)
end
local function sorted(n, make)
  local t = {}
  for i = 1, n do t[i] = make(i) end
  table.sort(t)
  for i = 1, n, n // 50 do io.write(tostring(t[i]), " ") end
  for i = 2, n do assert(not (t[i] < t[i - 1])) end
end
local replacements = { "", "x", "%0", "%1", "%2", "<%0>", "%%", "%", "%x", "%1%2%1", 5, 1.5, print, true,
  function(a, b) return b end, function(a) return a == "a" and nil or "f" end, function() return {} end,
  { a = "A", [1] = "one", b = false, ab = 2 }, setmetatable({}, { __index = function(_, k) return "i" end }) }
local function shown(...)
  local t = table.pack(...)
  for i = 1, t.n do t[i] = tostring(t[i]):gsub("^.-: ", "") end
  return table.concat(t, "|")
end
local function try(name, ...) io.write(name, " ", shown(pcall(...)), "\n") end
local starts = { nil, 1, 0, -1, 2, 3, -3, 100, -100, math.mininteger, math.maxinteger }
for i = 1, COUNT do
  local s, p, start = text(letters, 10), text(pieces, 6), starts[random(11)]
  io.write(("%q %q %s\n"):format(s, p, start))
  try("find", string.find, s, p, start, random(8) == 1)
  try("match", string.match, s, p, start)
  try("gmatch", function()
    local t = {}
    for a, b in string.gmatch(s, p, start) do t[#t + 1] = shown(a, b) end
    return table.concat(t, ";")
  end)
  local r = pick(replacements)
  if r ~= print then try("gsub", string.gsub, s, p, r, random(3) == 1 and random(4) - 2 or nil) end
  try("rep", string.rep, s, random(6) - 2, text(letters, 3))
end
try("few", string.find, "a") try("few", string.gsub, "a", "b") try("kind", string.gsub, "a", "b", nil)
try("kind", string.match, {}, "a") try("number", string.gsub, 121, 1, 3) try("large", string.rep, "ab", 1 << 62)
try("deep", string.find, ("a"):rep(300), (".?"):rep(300) .. "b")
try("deep", string.match, "a", ("("):rep(40) .. "a" .. (")"):rep(40))
for _, n in ipairs { 20001, 32768, 40000 } do
  sorted(n, function() return random(32768) end)
  sorted(n, function() return random(32768) / 7 end)
  sorted(n, function(i) return random(32768) + (i % 2 == 0 and 0.5 or 0) end)
  sorted(n, function() return text(letters, 6) end)
end
try("sort", table.sort, setmetatable({}, { __len = function() return 3 end, __index = function(_, i) return 4 - i end }))
try("sort", function() local t = {} for i = 1, 30000 do t[i] = i == 20000 and "x" or i end table.sort(t) end)
try("method", function() return ("x=1, y=2"):gsub("(%w+)=(%w+)", "%2=%1") end)
"""


class Patterns(unittest.TestCase):
    def output(self, interpreter, seed):
        program = PROGRAM.replace("SEED", str(seed)).replace("COUNT", "2000" if SANITIZED else "20000")
        r = subprocess.run([interpreter, "-"], input=program, capture_output=True, text=True, encoding="latin-1",
                           timeout=TIMEOUT, cwd=ROOT)
        self.assertEqual((r.stderr, r.returncode), ("", 0))
        return r.stdout.replace(" in replacement string", "").split("\n")  # not every 5.4 says this

    def test_they_agree_with_luas_own(self):
        lua = shutil.which("lua5.4")
        if not lua:
            self.skipTest("there is no lua5.4")
        for seed in (1, 2):
            ours, theirs = self.output(NABLUA, seed), self.output(lua, seed)
            self.assertGreater(sum(" true" in line for line in theirs), len(theirs) / 4)
            self.assertEqual(len(ours), len(theirs))
            case = ""
            for a, b in zip(ours, theirs):
                case = a if a.startswith('"') else case  # its line comes first
                self.assertEqual(a, b, case)


if __name__ == "__main__":
    os.environ["LC_ALL"] = "C.UTF-8"
    unittest.main()
