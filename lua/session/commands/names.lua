-- SPDX-License-Identifier: MIT
-- Commands about the user's variables.
local display = require "nablua.display"
local session = require "nablua.session.native"

return function(command, commands)
  -- The user's names, sorted, with their values: kept locals and globals.
  function commands.names()
    local names = {}
    for name in pairs(session.kept) do
      names[#names + 1] = { name = name, value = session.local_value(name), kept = true }
    end
    for name, value in next, _G do
      local own = rawequal(session.standard[name], nil) or not rawequal(session.standard[name], value)
      if own and type(name) == "string" and not name:match("^_%d*$") and not session.kept[name] then
        names[#names + 1] = { name = name, value = value }
      end
    end
    table.sort(names, function(a, b) return a.name < b.name end)
    return names
  end

  command("who", "%who", "Lists your variables.", function()
    local names, widest = commands.names(), 0
    for _, entry in ipairs(names) do widest = math.max(widest, #entry.name) end
    if #names == 0 then print("no variables yet") end
    for _, entry in ipairs(names) do
      local text = display.brief(entry.value)
      print(("%s%s  %s%s"):format(entry.name, (" "):rep(widest - #entry.name), entry.kept and "local  " or "global ",
        text))
    end
  end, { aliases = { "whos", "who_ls" } })

  command("reset", "%reset", "Forgets your variables.", function()
    for _, entry in ipairs(commands.names()) do
      if entry.kept then session.kept[entry.name] = nil else rawset(_G, entry.name, session.standard[entry.name]) end
    end
    for name in next, _G do
      if type(name) == "string" and name:match("^_%d*$") then rawset(_G, name, nil) end
    end
    collectgarbage()
  end)
end
