-- SPDX-License-Identifier: MIT
-- The names that the library's Lua takes out of its own modules, against what the modules hold: of those that C fills
-- and of those in Lua.  Run by the executable: nablua tests/lint/names.lua FILE...
local native = require "nablua.native"
local session = require "nablua.session.native"

-- The code of a line: without strings and comments.
local function code_of(line)
  return (line:gsub("\\.", ""):gsub('"[^"]*"', '""'):gsub("'[^']*'", "''"):gsub("%-%-.*", ""))
end

local used, given, offences = {}, {}, {}

-- What a line gives a module that is not there from the start: display.show, which a session sets.
local function note_assignments(code, alias, module)
  local name = "%f[%w_]" .. alias .. "%.([%a_][%w_]*)"
  for field in (code:match "^%s*([%w_., ]-)%s*=[^=]" or ""):gmatch(name) do given[module .. "." .. field] = true end
  for field in code:gmatch(name .. "%s*=[^=]") do given[module .. "." .. field] = true end
end

local function each_line(path, see)
  local number = 0
  for line in io.lines(path) do
    number = number + 1
    see(line, number)
  end
end

for _, path in ipairs(arg) do
  local aliases = {}
  each_line(path, function(line, number)
    local alias, module = line:match '^%s*local ([%a_][%w_]*) = require%(?%s*"(nablua[%w_.]*)"%)?$'
    if alias then aliases[alias] = module end
    for home, name in line:gmatch 'require%(?%s*"(nablua[%w_.]-native)"%)?%.([%a_][%w_]*)' do
      used[home .. "." .. name] = true
    end
    local code = code_of(line)
    for known, home in pairs(aliases) do
      note_assignments(code, known, home)
      for name in code:gmatch("%f[%w_.:]" .. known .. "%.([%a_][%w_]*)") do
        local key = home .. "." .. name
        local judged = path:match "^lua/" or home:match "native$"  -- others may use what they have defined before
        used[key] = used[key] or not judged or ("%s:%d: %s.%s"):format(path, number, known, name)
      end
    end
  end)
end

for key, where in pairs(used) do
  local module, name = key:match "^(.*)%.([^.]*)$"
  local ok, home = pcall(require, module)
  if where ~= true and not given[key] and not (ok and type(home) == "table" and home[name] ~= nil) then
    offences[#offences + 1] = ("%s is used, but %s has no such name"):format(where, module)
  end
end
for module, names in pairs { ["nablua.native"] = native, ["nablua.session.native"] = session } do
  for name in pairs(names) do
    local operator = native.row(name:match "^(.-)_?$")
    if not used[module .. "." .. name] and not operator and name ~= "core" then  -- that is for require "nablua.core"
      offences[#offences + 1] = ("%s.%s is there, but nothing uses it"):format(module, name)
    end
  end
end

table.sort(offences)
if #offences > 0 then print(table.concat(offences, "\n")) end
os.exit(#offences == 0)
