-- SPDX-License-Identifier: MIT
-- Commands about the world around: programs, the working folder, the environment.
local native = require "nablua.native"
local session = require "nablua.session.native"
local words = require "nablua.session.commands.words"

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- Says how a program ended that did not end well.
local function note_end(program, ok, how, code)
  if ok then return end
  print(("%s ended %s %s"):format(native.fit(program:match("^[^\n]*"), 60),
    how == "signal" and "by signal" or "with status", tostring(code)))
end

local function run(program)
  note_end(program, session.execute(program))
end

-- A script below a command, for a shell that reads it from its arguments.
local function script(shell)
  return function(arguments, body)
    note_end("%%" .. shell, session.execute(("%s -c %s %s %s"):format(shell, quoted(body), shell, arguments)))
  end
end

return function(command, commands)
  -- What a program prints, as a list of lines.
  function commands.output_lines(program)
    local f = session.popen(commands.need("!PROGRAM", program), "r")
    local text = f:read "a"
    note_end(program, f:close())
    local lines = {}
    for line in (text:match("\n$") and text or text ~= "" and text .. "\n" or ""):gmatch("([^\n]*)\n") do
      lines[#lines + 1] = line
    end
    return lines
  end

  command("sh", "!PROGRAM", "Runs a program in a shell, as %sh does; x = !PROGRAM keeps the lines that it prints.",
    function(program) return run(commands.need("!PROGRAM", program)) end,
    { cell = script "sh", paths = true, aliases = { "sx", "system" } })

  command("bash", "%%bash [args]", "Runs the lines below as a script of bash.",
    function(program) return run("bash -c " .. quoted(commands.need("%bash PROGRAM", program))) end,
    { cell = script "bash", paths = true })

  local before  -- the folder before the last change
  command("cd", "%cd [FOLDER|-]", "Changes the working folder, to yours without one, to the one before with -.",
    function(argument)
      local here = session.folder()
      local to = argument == "" and (os.getenv "HOME" or "/") or argument == "-" and before or
        argument ~= "-" and words.path("%cd [FOLDER|-]", argument)
      if not to then native.raise "%cd: there was no folder before" end
      local path, message = session.folder(to)
      if not path then native.raise("%cd: cannot go to " .. message) end
      before = here
      print(path)
    end, { paths = true })

  command("pwd", "%pwd", "The working folder.", function() return session.folder() end)

  command("env", "%env [NAME[=VALUE]]", "Shows environment variables or one of them, or sets one.", function(argument)
    local name, value = argument:match("^([^%s=]+)%s*=%s*(.*)$")
    if not name then name, value = argument:match("^(%S+)%s+(.+)$") end
    if name then
      if not session.set_variable(name, words.split(value)[2] and value or words.split(value)[1] or "") then
        native.raise(("%%env: %s cannot be set"):format(name))
      end
      print(("%s=%s"):format(name, os.getenv(name)))
    elseif argument ~= "" then
      return os.getenv(argument) or native.raise(("%%env: %s is not set"):format(argument))
    else
      local found = session.variables()
      table.sort(found)
      for _, line in ipairs(found) do
        local secret = line:match("^([^=]*)="):lower():match("secret") or line:lower():match("^[^=]*token") or
          line:lower():match("^[^=]*key") or line:lower():match("^[^=]*passw")
        print(native.text_shown(secret and line:gsub("=.*", "=<hidden>") or line))
      end
    end
  end, { aliases = { "set_env" } })
end
