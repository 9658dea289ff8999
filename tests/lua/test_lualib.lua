-- SPDX-License-Identifier: MIT
-- Help on Lua's own library: a page for every function there is, whose example gives what it says.
local lu = require "luaunit"
local nb = require "nablua"
local lualib = require "nablua.lualib"

local T = {}

local libraries = { "string", "table", "math", "io", "os", "utf8", "coroutine", "debug", "package" }

-- What only some builds of Lua have, for programs of earlier versions.
local added = { ["debug.setcstacklimit"] = true }
local old = { "cosh", "sinh", "tanh", "pow", "frexp", "ldexp", "log10", "atan2" }
for _, name in ipairs(old) do added["math." .. name] = true end

function T.test_every_function_has_a_page()
  for _, library in ipairs(libraries) do
    for name, value in pairs(_G[library]) do
      local full = library .. "." .. name
      local entry = lualib.find(full)
      if not added[full] then lu.assertNotNil(entry, full) end
      if entry and type(value) == "function" then lu.assertNotNil(entry.example, full) end
    end
  end
  for _, name in ipairs { "assert", "collectgarbage", "dofile", "error", "getmetatable", "ipairs", "load", "loadfile",
    "next", "pairs", "pcall", "print", "rawequal", "rawget", "rawlen", "rawset", "require", "select", "setmetatable",
    "tonumber", "tostring", "type", "warn", "xpcall", "_G", "_VERSION" } do
    lu.assertNotNil(lualib.find(name), name)
  end
  for name in pairs(getmetatable(io.stdout).__index) do lu.assertNotNil(lualib.find("f:" .. name), name) end
end

function T.test_no_page_is_of_nothing()
  for name in pairs(lualib.all()) do
    local home, key = name:match("^(.-)[.:]?([^.:]+)$")
    local owner = home == "" and _G or home == "file" and getmetatable(io.stdout).__index or _G[home]
    if not added[name] then lu.assertNotNil(owner[key], name) end
  end
end

function T.test_examples_give_what_they_say()
  local compared = 0
  for name, entry in pairs(lualib.all()) do
    local code, shown = (entry.example or "nil"):match("^(.-)%s*%-%->%s*([^\n]*)$")
    local f = load("return " .. (code or entry.example or "nil")) or assert(load(code or entry.example), name)
    if not shown then
      f()
    elseif not (added[name] and not debug.setcstacklimit) then
      local want = assert(load("return " .. shown), name)()
      local got = table.pack(f())
      if type(want) ~= "table" then want, got = { want }, { got[1] } end
      if type(got[1]) == "table" then got = got[1] end
      for i = 1, #want do
        if type(want[i]) == "number" then
          lu.assertAlmostEquals(got[i], want[i], 1e-12, name)
        else
          lu.assertEquals(got[i], want[i], name)
        end
      end
      compared = compared + 1
    end
  end
  lu.assertTrue(compared > 120, compared)
end

function T.test_help_knows_them()
  lu.assertStrContains(tostring(nb.help("string.format")), "string.format(format, ...)")
  lu.assertStrContains(tostring(nb.help(string.format)), "%q as Lua writes it")
  lu.assertStrContains(tostring(nb.help("f:read")), "file:read(...)")
  lu.assertStrContains(tostring(nb.help("math")), "tointeger")
  lu.assertEquals(nb.help("max").entry.name, "nb.max")  -- the library's own come first
end

return T
