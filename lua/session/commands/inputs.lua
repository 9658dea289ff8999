-- SPDX-License-Identifier: MIT
-- Commands about the inputs so far: showing, running, editing and saving them.
local help = require "nablua.help".help
local native = require "nablua.native"
local session = require "nablua.session.native"
local words = require "nablua.session.commands.words"

-- The oldest input that is still held.
local function first_input()
  local first = session.sources.last
  while session.sources["input " .. first - 1] do first = first - 1 end
  return first
end

local function input(n)
  return session.sources["input " .. n]
end

-- The numbers that "3", "3-5" or "" mean, the input before this one; raises a sentence where there are none such.
local function range(name, argument)
  local last = session.sources.last - 1
  local from, to = argument:match("^(%d+)%s*%-%s*(%d+)$")
  from = math.tointeger(tonumber(from or (argument == "" and last or argument)))
  to = to and math.tointeger(tonumber(to)) or from
  if not from or argument:match("%D") and not argument:match("^%d+%s*%-%s*%d+$") then
    native.raise(("%s: takes the number of an input, such as 3 or 3-5, got %s"):format(name, argument))
  end
  for i = from, to do
    if i > last or not input(i) then native.raise(("%s: there is no input %d"):format(name, i)) end
  end
  if from > to then native.raise(("%s: there are no inputs %s"):format(name, argument)) end
  return from, to
end

local function inputs_between(from, to)
  local texts = {}
  for i = from, to do texts[#texts + 1] = (input(i):gsub("%s+$", "")) end
  return table.concat(texts, "\n")
end

local function show(i)
  print(("%4d  %s"):format(i, (input(i):gsub("%s+$", ""):gsub("\n", "\n      "))))
end

-- ---- editing ----

-- What %edit opens: the text, the file to keep it in when that is the user's own, and whether it is only to look at.
local function to_edit(what, commands)
  if what == "" then return input(session.sources.last - 1) or "" end
  if math.tointeger(tonumber(what)) then
    return input(math.tointeger(tonumber(what))) or native.raise("%edit: there is no input " .. what)
  end
  local value = commands.resolve(what)
  if type(value) == "function" and commands.source_of(value) then return commands.source_of(value) end
  if value ~= nil then
    local ok, source = pcall(help.source, value)
    if ok and source then return source, nil, true end
    native.raise(("%%edit: %s has no Lua source"):format(what))
  end
  return nil, words.path("%edit FILE", what)
end

local function variable(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function edit(what, commands)
  if not native.isatty(0) then native.raise("%edit: an editor needs a terminal, and there is none here") end
  local text, path, only_look = to_edit(what, commands)
  local own = path
  if not own then
    path = os.tmpname()
    os.rename(path, path .. ".lua")  -- editors go by the ending
    path = path .. ".lua"
    native.replace("%edit", path, text)
  end
  local editor = variable "VISUAL" or variable "EDITOR" or "vi"
  local ok, _, code = session.execute(("%s '%s'"):format(editor, path:gsub("'", "'\\''")))
  local f = io.open(path)
  local edited = f and f:read "a"
  if f then f:close() end
  if not own then os.remove(path) end
  if not ok then native.raise(("%%edit: %s ended with status %s; nothing was run"):format(editor, code)) end
  if only_look then
    if edited ~= text then print("%edit: this is the library's own source; the copy that was changed is not run") end
    return
  end
  if own then return commands.by_name.run.run(("'%s'"):format(own)) end
  if not edited or edited:match "^%s*$" then return end
  print((edited:gsub("%s+$", "")))
  session.remember(edited)
  return commands.run_input(edited)
end

-- ---- saving ----

local function no_longer_held()
  local begin = first_input()
  return begin > 1 and ("-- inputs 1..%d are no longer held\n"):format(begin - 1) or ""
end

-- The inputs so far without their commands, which are no Lua.
local function inputs_text(commands)
  local inputs = { no_longer_held() }
  for i = first_input(), session.sources.last do
    local code = commands.split(input(i) or "")
    if code then inputs[#inputs + 1] = code:gsub("^%s*\n", "") .. "\n" end
  end
  return table.concat(inputs)
end

-- The inputs before this one with what they showed, and with their commands, unless it is for a script.
local function inputs_with_outputs(kind, commands)
  local inputs = {}
  for i = first_input(), session.sources.last - (kind == "lua" and 0 or 1) do
    local text = input(i) or ""
    local code = kind ~= "lua" and text or commands.split(text)
    if code and code:match("%S") and not text:match("^%s*%%save%f[%W]") then
      local events = {}
      for k, item in ipairs(session.outputs[i] or {}) do
        events[k] = { kind = item.kind, text = item.text, data = item.data or {}, id = item.id }
      end
      inputs[#inputs + 1] = { text = code:gsub("^%s*\n", ""), events = events, bare = code ~= text }
    end
  end
  return inputs
end

local saved = {}  -- [path] = what %save wrote there last

local function holds(path, text)
  local f <close> = io.open(path, "rb")
  return f ~= nil and f:read(#text + 1) == (text ~= "" and text or nil)
end

local SAVE = "%save [-f] FILE"

local function save(line, commands)
  local force, path = line:match("^(%-f)%s+(.*)$")
  path = words.path(SAVE, path or (line ~= "-f" and line or ""))
  if not force and native.exists(path) and not (saved[path] and holds(path, saved[path])) then
    native.raise(("%%save: %s is there already; %%save -f %s replaces it"):format(path, path))
  end
  local kind = path:match("%.(%w+)$")
  local write = (kind == "ipynb" or kind == "txt" or kind == "lua") and require("nablua.session.writing")[kind]
  local text = write and write(inputs_with_outputs(kind, commands)) or inputs_text(commands)
  if kind == "lua" then text = no_longer_held() .. text end
  native.replace("%save", path, text)
  saved[path] = text
  print("saved as " .. path)
end

return function(command, commands)
  command("edit", "%edit [N|NAME|FILE]", "Opens the last input, input N, a function or a file in $EDITOR; runs it.",
    function(what) return edit(what, commands) end, { paths = true, aliases = { "ed" } })

  command("save", SAVE, "Writes the inputs of this session into a file, with what they showed where it is " ..
    "a notebook (.ipynb), a transcript (.txt) or a script (.lua), whose comments nablua check compares.  One that " ..
    "is there already, and is not as %save left it in this session, is replaced with -f only.",
    function(line) save(line, commands) end,
    { paths = true })

  command("history", "%history [N|A-B|-g TEXT]", "Shows the inputs of this session, the last N, inputs A to B, or " ..
    "those with a text.", function(argument)
      local last, text = session.sources.last - 1, argument:match("^%-g%s+(.+)$")
      if argument:match("^%d+%s*%-%s*%d+$") then
        local from, to = range("%history", argument)
        for i = from, to do show(i) end
        return
      end
      local count = tonumber(argument)
      if argument ~= "" and not text and not count then
        native.raise(("%%history: takes a number, two with - between, or -g and a text, got %s"):format(argument))
      end
      for i = math.max(first_input(), last - (count or last) + (count and 1 or 0)), last do
        if not text or input(i):find(text, 1, true) then show(i) end
      end
    end, { aliases = { "hist" } })

  command("recall", "%recall [N|A-B]", "Puts the input before this one, or others, into the next, to edit.",
    function(argument)
      local from, to = range("%recall", argument)
      local text = inputs_between(from, to)
      if not session.next_input(text, false) then print(text) end
    end, { aliases = { "rep" } })

  command("rerun", "%rerun [N|A-B]", "Runs the input before this one, or others, again.", function(argument)
    local from, to = range("%rerun", argument)
    local results
    for i = from, to do
      local text = input(i)
      print((text:gsub("%s+$", "")))
      if i == to then session.remember(text) end
      results = table.pack(commands.run_input(text))
    end
    return table.unpack(results, 1, results.n)
  end)
end
