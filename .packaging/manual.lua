-- SPDX-License-Identifier: MIT
-- Writes a page of the manual from what a program says of itself: nablua manual.lua PROGRAM OUTPUT
--
-- The lines of its --help are rows of a form and what it does, two blanks between them; those below "Environment" are
-- rows of a variable, with what it takes below it.

local path, output = arg[1], arg[2]
local program = path:match("[^/]+$")

local about = {
  ["nablua"] = {
    name = "define, train and inspect neural nets in Lua",
    description = [[
nablua runs Lua 5.4 with a library of tensors, backpropagation, layers, optimizers and plots.  Without arguments it
opens a prompt, where the value of a last expression is shown, locals stay, Tab completes, ?name explains and Ctrl-C
stops what runs and keeps everything.  With a file it runs a script; "local nb = require 'nablua'" makes the same file
run in a stock lua5.4, too.]],
    files = [[
~/.config/nablua/init.lua runs before the prompt's first input; ~/.local/state/nablua/history.sqlite keeps inputs.]],
    status = "0; 1 after an error of Lua's; 2 for a wrong command line; 130 when it was interrupted.",
    see = "nablua-kernel(1), lua5.4(1)",
  },
  ["nablua-kernel"] = {
    name = "Jupyter kernel for neural nets in Lua",
    description = [[
The same session as nablua(1) for notebooks: JupyterLab, Jupyter Notebook, jupyter console and others that speak
Jupyter's protocol start it when a notebook of the language lua is opened.  A package installs it for all users; by hand
it is made known with "nablua-kernel install".]],
    files = [[
share/jupyter/kernels/nablua below a prefix, or ~/.local/share/jupyter/kernels/nablua, tells Jupyter of it.]],
    status = "0; 1 where files could not be written; 2 for a wrong command line.",
    see = "nablua(1), jupyter(1)",
  },
}

local function run(option)
  local pipe = assert(io.popen(("'%s' %s 2>&1"):format(path:gsub("'", "'\\''"), option)))
  local text = pipe:read("a")
  assert(pipe:close(), "cannot run " .. path)
  return text
end

-- Text as roff takes it: no letter of it commands.
local function roff(text)
  text = text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("\n", " ")
  return (text:gsub("^([.'])", "\\&%1"))
end

local lines = {}
local function add(...)
  for _, line in ipairs { ... } do lines[#lines + 1] = line end
end

local function row(form, meaning)
  add(".TP", ".B " .. roff(form))
  if meaning and meaning ~= "" then add(roff(meaning)) end
end

local page = about[program] or error("no page on " .. program)
add((".TH %s 1 \"\" \"%s\" \"User Commands\""):format(program:upper(), run("--version"):gsub("\n", "")))
add(".SH NAME", ("%s \\- %s"):format(roff(program), roff(page.name)))
add(".SH DESCRIPTION", roff(page.description), ".SH USAGE")
local variables
for line in run("--help"):gmatch("[^\n]+") do
  local others = line:match("^Environment[^:]*")
  if others then
    variables = true
    add(".SH ENVIRONMENT", roff(others:gsub("^Environment, besides ", "Besides ") .. ":"))
  elseif variables and line:find("^  %S") then
    row(line:match("^  (%S+)%s+(.*)$"))
  elseif variables then
    add(".br", roff(line:match("^%s*(.-)$")))
  else
    row(line:match("^(.-)%s%s+(%S.*)$") or line, line:match("^.-%s%s+(%S.*)$"))
  end
end
add(".SH FILES", roff(page.files), ".SH EXIT STATUS", roff(page.status), ".SH SEE ALSO", roff(page.see))

local f <close> = assert(io.open(output, "w"))
assert(f:write(table.concat(lines, "\n"), "\n"))
