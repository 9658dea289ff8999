-- SPDX-License-Identifier: MIT
-- Runs one file of tests: `nablua tests/lua/run.lua tests/lua/test_ops.lua [pattern]`, or with a stock lua5.4.
-- A file returns a table of functions named test_...; luaunit runs them in the order of their names.
local lu = require "luaunit"

local path = assert(arg[1], "usage: run.lua FILE [pattern]")
local pattern = arg[2]
local folder = path:match("^(.*)/") or "."
package.path = folder .. "/?.lua;" .. package.path

-- The library must not add globals: whatever appears after this is a failure of its own.
local before = { testNames = true }  -- luaunit's own
for name in pairs(_G) do before[name] = true end

local tests = assert(loadfile(path))(folder)
local suite = {}
for name, f in pairs(tests) do
  if not pattern or name:find(pattern) then
    suite[name] = f
  end
end
function suite.test_zz_no_globals_added()
  local added = {}
  for name in pairs(_G) do
    if not before[name] then added[#added + 1] = tostring(name) end
  end
  lu.assertEquals(added, {})
end

local runner = lu.LuaUnit.new()
runner:setOutputType("text")
local failures = runner:runSuiteByInstances({ { (path:match("([^/]+)%.lua$")), suite } })
io.stdout:flush()
os.exit(failures == 0 and 0 or 1, true)
