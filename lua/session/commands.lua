-- SPDX-License-Identifier: MIT
-- Line commands, the same in every front end: %time, %who, ?name and their kin.
local native = require "nablua.native"
local help = require "nablua.help".help
local session = require "nablua.session.native"
local display = require "nablua.display"
local options = require "nablua.options"
local registry = require "nablua.registry"
local source_lines = require "nablua.session.source"

local commands = {}

-- ---- the functions of the prompt ----

for _, entry in ipairs {
  { "display", "display(value, ..., {id=, metadata=})", "Shows values at once, each as a last expression is shown.  " ..
    "A table by MIME types, {[\"text/html\"]=...}, is shown as what it holds.", "display{1, 2}" },
  { "update_display", "update_display(value, id)", "Shows a value in the place of the one displayed with that id.",
    "display(0, {id=\"count\"}) update_display(1, \"count\")" },
  { "clear_output", "clear_output{wait=}", "Clears what the input has shown so far, or, with wait, when more comes.",
    "clear_output{wait=true}" },
  { "input", "input(prompt, {password=})", "Asks for a line; nil at the end of input.", "name = input(\"who? \")" },
  { "breakpoint", "breakpoint{when=}", "Pauses here, or where when is true or a function that returns what is: at a " ..
    "prompt in this frame, whose variables can be looked at and assigned, or in the debugger that is attached.  " ..
    "Continued, all goes on as if nothing had been.", "function f(x) breakpoint{when=x > 9} return x end" },
} do
  registry.add { name = entry[1], kind = "function", signature = entry[2], doc = entry[3], example = entry[4],
    value = rawget(_G, entry[1]) }
end

require "nablua.session.media"

-- ---- the table ----

local list, by_name = {}, {}

-- A command: name, how it is called, a sentence, what it does with the rest of its line; its results are shown.
-- With `code` Lua follows, over as many lines as it has; with `cell` it may be a %%command, which takes lines below it;
-- with `paths` files are completed; `aliases` are further names, those of other programs.
local function command(name, usage, doc, run, more)
  local entry = { name = name, usage = usage, doc = doc, run = run }
  for key, value in pairs(more or {}) do entry[key] = value end
  list[#list + 1], by_name[name] = entry, entry
  for _, alias in ipairs(entry.aliases or {}) do by_name[alias] = entry end
end

commands.list, commands.by_name = list, by_name

-- Raises a sentence when the command was given nothing.
function commands.need(usage, argument)
  if argument == "" then native.raise(("%s: what is missing; it is used as %s"):format(usage:match("^%S+"), usage)) end
  return argument
end

function commands.takes_code(name)
  local entry = by_name[name]
  return entry ~= nil and entry.code == true
end

for _, name in ipairs { "code", "files", "shell", "inputs", "names", "ranks", "debugging" } do
  require("nablua.session.commands." .. name)(command, commands)
end

command("exit", "%exit", "Leaves the prompt, as exit and quit do.", function() session.leave() end,
  { aliases = { "quit" } })

command("commands", "%commands", "Lists these commands.", function()
  local reference = require "nablua.reference"
  local rows = {}
  for i, entry in ipairs(list) do rows[i] = { entry.usage, entry.doc } end
  print(table.concat(reference.aligned(rows, ""), "\n"))
  print(table.concat(reference.lines("A %%command takes the lines below it, up to an empty one at the prompt.", ""),
    "\n"))
end, { aliases = { "lsmagic", "magic", "quickref" } })

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
      local kind = type(class) == "table" and class.__name or type(value)
      return rawequal(package.loaded[name], value) and help(name) or registry.find(kind) and help(kind) or error "none"
    end)
  end
  local parts, marked = {}, {}
  local function add(text, markdown)
    parts[#parts + 1] = text
    marked[#marked + 1] = markdown or ("```\n%s\n```"):format(text)
  end
  local is_its_page = known and page.entry and (page.entry.value == value or page.entry.name == name)
  if value ~= nil and not is_its_page then
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

-- What some commands of other programs are for, and is here without them.
local elsewhere = {
  matplotlib = "plots are shown without it", pylab = "plots are shown without it",
  load_ext = "what is installed is loaded by require", config = "settings are Lua, in init.lua, see ?session",
  pip = "!luarocks install NAME installs modules", conda = "!luarocks install NAME installs modules",
  paste = "what is pasted runs as it is", cpaste = "what is pasted runs as it is", prun = "%bench measures code",
  xmode = "nablua --traceback shows all frames",
  ls = "!ls lists files", mkdir = "!mkdir makes folders", cat = "!cat FILE shows a file", cp = "!cp copies files",
  mv = "!mv moves files", rm = "!rm removes files", man = "?name explains", store = "nb.save keeps values in files",
}

local function no_command(name)
  local hint = elsewhere[name]
  if not hint then
    local names = {}
    for known in pairs(by_name) do names[#names + 1] = known end
    table.sort(names)
    local near = #name > 1 and options.nearest(name, names)
    hint = near and ("did you mean %%%s? %%commands lists them"):format(near) or "%commands lists them"
  end
  native.raise(("there is no command %%%s; %s"):format(name, hint))
end

local function command_help(entry)
  local names = {}
  for i, alias in ipairs(entry.aliases or {}) do names[i] = "%" .. alias end
  local lines = require("nablua.reference").lines("  " .. entry.doc, "  ")
  if names[1] then lines[#lines + 1] = "  Also: " .. table.concat(names, ", ") end
  return setmetatable({ ["text/plain"] = entry.usage .. "\n" .. table.concat(lines, "\n") }, page)
end

-- What a pattern such as nn.Lin*, whatever the case of its letters, stands for: a line of each name.
local function matching_names(wanted)
  local head, last = wanted:match("^(.-)([^.:]*)$")
  local pattern = "^" .. last:lower():gsub("%*", ".*") .. "$"
  local complete = require "nablua.session.complete"
  local _, found = complete.complete(head)
  local rows = {}
  for _, match in ipairs(found or {}) do
    if match.text:lower():match(pattern) then rows[#rows + 1] = { head .. match.text, match.note or "" } end
  end
  if #rows == 0 then native.raise(("no name is like %s"):format(wanted)) end
  return setmetatable({ ["text/plain"] = table.concat(require("nablua.reference").aligned(rows, ""), "\n") }, page)
end

local function question(line)
  local marks, name = line:match("^(%?+)%s*(.-)$")
  if not marks then name, marks = line:match("^(.-)%s*(%?+)$") end
  if name == "" then return help() end
  if name:find("*", 1, true) then return matching_names(name) end
  local entry = by_name[name:match("^%%+([%w_]+)$")]
  if entry then return command_help(entry) end
  return setmetatable(commands.explain(name, #marks > 1), page)
end

-- What begins an input: a command with what belongs to it, a question, a program.
function commands.run(text)
  text = text:match("^%s*(.-)%s*$")
  local cell, arguments, body = text:match("^%%%%([%w_]*)[ \t]*([^\n]*)\n?(.*)$")
  if cell then
    local entry = by_name[cell]
    if not entry then no_command(cell) end
    if not entry.cell then
      native.raise(("%%%%%s: this command takes one line, as %s"):format(cell, entry.usage))
    end
    return entry.cell(arguments, body)
  end
  local name, rest = text:match("^%%([%w_]*)%s*(.*)$")
  if name then
    local entry = by_name[name] or no_command(name)
    if not entry.run then
      native.raise(("%%%s: this command takes the lines below it, as %s"):format(name, entry.usage))
    end
    return entry.run(rest)
  end
  if text:match("^!") then return by_name.sh.run(text:match("^!%s*(.*)$")) end
  local target, program = text:match("^([%w_. ]-)%s*=%s*!%s*(.*)$")
  if target then return session.evaluate(target .. " = ...", commands.output_lines(program)) end
  return question(text)
end

-- The code of an input without the commands that it begins with, nil where it has none; and those commands.
function commands.split(text)
  local at, parts = 1, {}
  while true do
    local last = session.command(text:sub(at))
    if not last then break end
    parts[#parts + 1] = text:sub(at, at + last - 1)
    at = at + last
  end
  local code = text:sub(at)
  return code:match("%S") and code or nil, parts
end

-- Runs a whole input, its commands too, as a part of the one that runs.  The values of commands are shown, those of the
-- code at its end returned.
function commands.run_input(text)
  local code, parts = commands.split(text)
  for i, part in ipairs(parts) do
    local results = table.pack(commands.run(part))
    if i == #parts and not code then return table.unpack(results, 1, results.n) end
    for k = 1, results.n do
      if results[k] ~= nil then display.show(results[k]) end
    end
  end
  if code then return session.evaluate(code) end
end

return commands
