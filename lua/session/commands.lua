-- SPDX-License-Identifier: MIT
-- Line commands, the same in every front end: %time, %who, ?name and their kin.
local native = require "nablua.native"
local help = require "nablua.help".help
local session = require "nablua.session.native"
local display = require "nablua.display"
local registry = require "nablua.registry"
local source_lines = require "nablua.session.source"

local commands = {}

-- ---- the functions of the prompt ----

for _, entry in ipairs {
  { "display", "display(value, {id=, metadata=})", "Shows a value at once, as a last expression is shown.  A table " ..
    "by MIME types, {[\"text/html\"]=...}, is shown as what it holds.", "display{1, 2}" },
  { "update_display", "update_display(value, id)", "Shows a value in the place of the one displayed with that id.",
    "display(0, {id=\"count\"}) update_display(1, \"count\")" },
  { "clear_output", "clear_output{wait=}", "Clears what the input has shown so far, or, with wait, when more comes.",
    "clear_output{wait=true}" },
  { "input", "input(prompt, {password=})", "Asks for a line; nil at the end of input.", "name = input(\"who? \")" },
  { "breakpoint", "breakpoint()", "Opens a prompt in the frame that calls it; what is assigned there holds.",
    "function f(x) breakpoint() return x end" },
} do
  registry.add { name = entry[1], kind = "function", signature = entry[2], doc = entry[3], example = entry[4],
    value = rawget(_G, entry[1]) }
end

require "nablua.session.media"

-- ---- the table ----

local list, by_name = {}, {}

-- A command: name, how it is called, a sentence, what it does with the rest of its line; its results are shown.
local function command(name, usage, doc, run)
  local entry = { name = name, usage = usage, doc = doc, run = run }
  list[#list + 1], by_name[name] = entry, entry
end

commands.list = list

local function need(usage, argument)
  if argument == "" then native.raise(("%s: what is missing; it is used as %s"):format(usage:match("^%S+"), usage)) end
  return argument
end

-- ---- time ----

local function seconds_text(s)
  if s < 1e-6 then return ("%.3g ns"):format(s * 1e9) end
  if s < 1e-3 then return ("%.3g µs"):format(s * 1e6) end
  if s < 1 then return ("%.3g ms"):format(s * 1e3) end
  if s < 120 then return ("%.3g s"):format(s) end
  return ("%d min %d s"):format(s // 60, s % 60)
end

command("time", "%time CODE", "Runs the code once and tells how long it took.", function(code)
  need("%time CODE", code)
  local cpu, wall = os.clock(), native.clock()
  local results = table.pack(session.evaluate(code))
  wall, cpu = native.clock() - wall, os.clock() - cpu
  print(("%s (processor %s)"):format(seconds_text(wall), seconds_text(cpu)))
  return table.unpack(results, 1, results.n)
end)

command("bench", "%bench CODE", "Runs the code many times and tells the median time of a run.", function(code)
  need("%bench CODE", code)
  local start = native.clock()
  session.evaluate(code)
  local once = math.max(native.clock() - start, 1e-7)
  local repeats = math.max(1, math.min(100000, math.floor(0.02 / once)))
  local rounds = math.max(3, math.min(25, math.floor(1 / (once * repeats))))
  local loop = ("for _ = 1, %d do %s\nend"):format(repeats, code)
  local ok = pcall(session.evaluate, "local function _() " .. loop .. " end")
  if not ok then loop = ("for _ = 1, %d do local _ = %s\nend"):format(repeats, code) end
  local times = {}
  for i = 1, rounds do
    local t = native.clock()
    session.evaluate(loop)
    times[i] = (native.clock() - t) / repeats
  end
  table.sort(times)
  print(("%s median of %d rounds of %d (%s to %s)"):format(seconds_text(times[(rounds + 1) // 2]), rounds, repeats,
    seconds_text(times[1]), seconds_text(times[rounds])))
end)

-- ---- files ----

-- The path that a command is given.
local function need_path(usage, argument)
  need(usage, argument)
  if argument:find("\0", 1, true) then native.raise(usage:match("^%S+") .. ": a path holds no zero byte") end
  return argument
end

command("run", "%run FILE [args]", "Runs a file; its globals are here afterwards.", function(line)
  need_path("%run FILE [args]", line)
  local arguments = {}
  for word in line:gmatch("%S+") do arguments[#arguments + 1] = word end
  local path = table.remove(arguments, 1)
  local chunk, message = loadfile(path, "t")
  if not chunk then error(message, 0) end
  local before = _G.arg
  arguments[0] = path
  _G.arg = arguments
  local results = table.pack(chunk(table.unpack(arguments)))
  _G.arg = before
  return table.unpack(results, 1, results.n)
end)

-- What %edit opens: the text, and the file to keep it in when that is the user's own.
local function to_edit(what)
  local last = session.sources.last
  if what == "" then return session.sources["input " .. last - 1] or "" end
  if math.tointeger(tonumber(what)) then
    local source = session.sources["input " .. math.tointeger(tonumber(what))]
    return source or native.raise("%edit: there is no input " .. what)
  end
  local value = commands.resolve(what)
  if type(value) == "function" then
    return commands.source_of(value) or native.raise(("%%edit: %s has no Lua source"):format(what))
  end
  return nil, need_path("%edit FILE", what)
end

command("edit", "%edit [N|NAME|FILE]", "Opens the last input, input N, a function or a file in $EDITOR; runs it.",
  function(what)
    if not native.isatty(0) then native.raise("%edit: an editor needs a terminal, and there is none here") end
    local text, path = to_edit(what)
    local own = path
    if not own then
      path = os.tmpname()
      os.rename(path, path .. ".lua")  -- editors go by the ending
      path = path .. ".lua"
      native.replace("%edit", path, text)
    end
    local editor = os.getenv "VISUAL" or os.getenv "EDITOR" or "vi"
    local ok, _, code = os.execute(("%s '%s'"):format(editor, path:gsub("'", "'\\''")))
    local f = io.open(path)
    local edited = f and f:read "a"
    if f then f:close() end
    if not own then os.remove(path) end
    if not ok then native.raise(("%%edit: %s ended with status %s; nothing was run"):format(editor, code)) end
    if own then return by_name.run.run(own) end
    if not edited or edited:match "^%s*$" then return end
    print((edited:gsub("%s+$", "")))
    session.remember(edited)
    return session.evaluate(edited)
  end)

-- The oldest input that is still held.
local function first_input()
  local first = session.sources.last
  while session.sources["input " .. first - 1] do first = first - 1 end
  return first
end

-- The inputs so far without their commands, which are no Lua.
local function inputs_text()
  local inputs, begin = {}, first_input()
  if begin > 1 then inputs[1] = ("-- inputs 1..%d are no longer held\n"):format(begin - 1) end
  for i = begin, session.sources.last do
    local source = session.sources["input " .. i] or ""
    while source:match("^%s*[%%?]") do source = source:gsub("^%s*[^\n]*\n?", "") end
    if source:match("%S") then inputs[#inputs + 1] = source .. "\n" end
  end
  return table.concat(inputs)
end

local saved = {}  -- [path] = what %save wrote there last

local function holds(path, text)
  local f <close> = io.open(path, "rb")
  return f ~= nil and f:read(#text + 1) == (text ~= "" and text or nil)
end

command("save", "%save [-f] FILE", "Writes the inputs of this session into a file.  One that is there already, " ..
  "and is not as %save left it in this session, is replaced with -f only.", function(line)
    local force, path = line:match("^(%-f)%s+(.*)$")
    path = need_path("%save [-f] FILE", path or (line ~= "-f" and line or ""))
    if not force and native.exists(path) and not (saved[path] and holds(path, saved[path])) then
      native.raise(("%%save: %s is there already; %%save -f %s replaces it"):format(path, path))
    end
    local text = inputs_text()
    native.replace("%save", path, text)
    saved[path] = text
    print("saved as " .. path)
  end)

command("reload", "%reload MODULE", "Loads a module of yours again.", function(name)
  need("%reload MODULE", name)
  if not package.loaded[name] then native.raise(("%%reload: no module %s is loaded"):format(name)) end
  if name:match("^nablua") then native.raise("%reload: the library itself cannot be loaded again") end
  local before = package.loaded[name]
  package.loaded[name] = nil
  local ok, result = pcall(require, name)
  if not ok then
    package.loaded[name] = before
    error(result, 0)
  end
  -- Whoever holds the table sees the new functions.
  if type(before) == "table" and type(result) == "table" then
    for key in pairs(before) do before[key] = nil end
    for key, value in pairs(result) do before[key] = value end
    package.loaded[name] = before
    for key, value in pairs(_G) do
      if value == result then _G[key] = before end
    end
  end
end)

-- ---- names ----

-- The user's names, sorted, with their values: kept locals and globals.
function commands.names()
  local names = {}
  for name in pairs(session.kept) do
    names[#names + 1] = { name = name, value = session.local_value(name), kept = true }
  end
  for name, value in pairs(_G) do
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
end)

command("reset", "%reset", "Forgets your variables.", function()
  for _, entry in ipairs(commands.names()) do
    if entry.kept then session.kept[entry.name] = nil else _G[entry.name] = session.standard[entry.name] end
  end
  for name in pairs(_G) do
    if type(name) == "string" and name:match("^_%d*$") then _G[name] = nil end
  end
  collectgarbage()
end)

command("history", "%history [N]", "Shows the inputs of this session, or the last N.", function(n)
  local last = session.sources.last
  for i = math.max(first_input(), last - (tonumber(n) or last)), last - 1 do
    print(("%4d  %s"):format(i, (session.sources["input " .. i]:gsub("%s+$", ""):gsub("\n", "\n      "))))
  end
end)

command("debug", "%debug", "Opens a prompt in the frames of the last error.", function()
  require("nablua.session.debugger").post_mortem()
end)

command("commands", "%commands", "Lists these commands.", function()
  local widest = 0
  for _, entry in ipairs(list) do widest = math.max(widest, #entry.usage) end
  for _, entry in ipairs(list) do
    print(("%s%s  %s"):format(entry.usage, (" "):rep(widest - #entry.usage), entry.doc))
  end
end)

-- ---- help ----

-- The value that a dotted name stands for, without running anything: kept locals, globals, their fields.
function commands.resolve(name)
  local value
  local first, rest = name:match("^([%a_][%w_]*)(.*)$")
  if not first then return nil end
  registry.rows()  -- the modules are loaded
  if session.kept[first] then value = session.local_value(first) else value = rawget(_G, first) end
  for key in rest:gmatch("[.:]([%a_][%w_]*)") do
    if type(value) ~= "table" then return nil end
    value = rawget(value, key)
  end
  return value
end

function commands.source_of(f)
  local info = debug.getinfo(f, "S")
  if info.what == "C" then return nil end
  local lines = source_lines(info.source, info.linedefined, info.lastlinedefined)
  return lines and table.concat(lines, "\n") or help.source(f)
end

-- What there is to know of a name: a page of the reference, or what its value is.
function commands.explain(name, with_source)
  local value = commands.resolve(name)
  local known, page = pcall(function() return value ~= nil and help(value) or help(name) end)
  if not known and value ~= nil and type(value) ~= "function" then
    known, page = pcall(function()
      local class = getmetatable(value)
      return help(type(class) == "table" and class.__name or type(value))
    end)
  end
  local parts, marked = {}, {}
  local function add(text, markdown)
    parts[#parts + 1] = text
    marked[#marked + 1] = markdown or ("```\n%s\n```"):format(text)
  end
  if value ~= nil and not (known and page.entry and page.entry.value == value) then
    local text = ("%s = %s"):format(name, display.brief(value))
    if type(value) == "function" then
      local info = debug.getinfo(value, "Su")
      text = ("%s: a function of %d parameter%s%s"):format(name, info.nparams, info.nparams == 1 and "" or "s",
        info.isvararg and " and more" or "")
      if info.what ~= "C" then text = ("%s, from %s:%d"):format(text, info.short_src, info.linedefined) end
    end
    add(text)
  end
  if known then add(page.text, page.markdown) end
  if #parts == 0 then error(page, 0) end
  if with_source then
    local ok, source = pcall(function()
      return type(value) == "function" and commands.source_of(value) or help.source(value ~= nil and value or name)
    end)
    if ok and source then
      add(source, ("```lua\n%s\n```"):format(source))
    else
      add("written in C; there is no Lua source", "Written in C.")
    end
  end
  return { ["text/plain"] = table.concat(parts, "\n\n"), ["text/markdown"] = table.concat(marked, "\n\n") }
end

local page = { __name = "page" }
function page:__display() return self end
function page:__tostring() return self["text/plain"] end

-- ---- running ----

-- One line: a command or a question.
function commands.run(line)
  line = line:match("^%s*(.-)%s*$")
  if line:match("^%?") or line:match("%?$") then
    local marks, name = line:match("^(%?+)%s*(.-)$")
    if not marks then name, marks = line:match("^(.-)%s*(%?+)$") end
    if name == "" then return help() end
    local entry = by_name[name:match("^%%(%a+)$")]
    if entry then return setmetatable({ ["text/plain"] = ("%s\n  %s"):format(entry.usage, entry.doc) }, page) end
    return setmetatable(commands.explain(name, #marks > 1), page)
  end
  local name, rest = line:match("^%%(%w*)%s*(.*)$")
  local entry = by_name[name]
  if not entry then native.raise(("there is no command %%%s; %%commands lists them"):format(name or "")) end
  return entry.run(rest)
end

return commands
