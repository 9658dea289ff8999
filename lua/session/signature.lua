-- SPDX-License-Identifier: MIT
-- The parameters of what is called at the end of a text, for whoever types the arguments.  Looks at values as
-- completion does: no code of the user runs.
local complete = require "nablua.session.complete"
local nb = require "nablua.core"
local registry = require "nablua.registry"

local signature = {}

-- The names of a Lua function's parameters from number `first` on; nil for one of C.
local function parameters(f, first)
  local info = debug.getinfo(f, "Su")
  if info.what == "C" then return nil end
  local names = {}
  for i = first, info.nparams do names[#names + 1] = debug.getlocal(f, i) end
  if info.isvararg then names[#names + 1] = "..." end
  return table.concat(names, ", ")
end

-- What is written in one line.
local function line(text)
  return (text:gsub("%s*\n%s*", " "))
end

-- The signature of the function that the text ends with ("y = nn.Linear"), or nil.
function signature.of(text)
  if text:match("%f[%w_]function%s+[%w_.:]*%s*$") then return nil end  -- it is being defined
  local value, written = complete.fields(text)
  if value == nil then return nil end
  local entry = not nb.is_tensor(value) and registry.find(value)
  if entry and entry.value == value and entry.signature then return line(entry.signature) end
  local name = written:match("[%a_][%w_.:]*%s*$")
  name = name and name:gsub("%s", "") or "f"
  local inside
  if type(value) == "function" then
    entry = entry or require("nablua.lualib").find(value)
    if entry and entry.signature then return line(entry.signature) end
    inside = parameters(value, name:find(":", 1, true) and 2 or 1)
  elseif type(value) == "table" then
    local forward = complete.field(value, "forward")
    local meta = getmetatable(value)
    local call = type(meta) == "table" and rawget(meta, "__call")
    if type(forward) == "function" then
      inside = parameters(forward, 2)
    elseif type(call) == "function" then
      inside = parameters(call, 2)
    end
  end
  return inside and ("%s(%s)"):format(name, inside)
end

return signature
