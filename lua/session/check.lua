-- SPDX-License-Identifier: MIT
-- nablua check: runs notebooks, transcripts and scripts again, each in a process of its own, and says what is not as it
-- was written down.
local native = require "nablua.native"
local child = require "nablua.session.check.child"
local same = require "nablua.session.check.same"

local check = {}

local readers = {
  ipynb = "nablua.session.check.notebook", txt = "nablua.session.check.transcript",
  lua = "nablua.session.check.script",
}

local function read_file(path)
  local f <close>, message = io.open(path, "rb")
  local text = f and f:read "a"
  if not text then error(message or path .. ": it is a folder, not a file", 0) end
  return text
end

local function indented(text)
  return "    " .. text:gsub("%s+$", ""):gsub("\n", "\n    ")
end

-- Prints what is wrong with one step.
local function report(path, step, problem)
  print(("%s: %s: %s"):format(native.text_shown(path), step.title, problem.what))
  if problem.expected then
    print("  expected:\n" .. indented(same.shown(problem.expected)))
    print("  got:\n" .. indented(same.shown(problem.got)))
  end
end

local function plural(n, word)
  return ("%d %s%s"):format(n, word, n == 1 and "" or "s")
end

-- Runs the steps of a file; returns how many faults there are, and how many steps agree.
local function run(path, document)
  local wrong, compared = 0, 0
  local process <close> = child.start(document)
  for _, step in ipairs(document.steps) do
    for _, what in ipairs(step.faults or {}) do
      wrong = wrong + 1
      report(path, step, { what = what })
    end
    local got = process:run(step)
    local problem = document.compare(step, got, process)
    if problem then
      wrong = wrong + 1
      report(path, step, problem)
    elseif problem == nil then
      compared = compared + 1
    end
    if got.ended then break end
  end
  return wrong, compared
end

-- Checks one file; true when all is as it was written down, false when not, nil when it cannot be read.
local function check_file(path, settings)
  local reader = readers[path:match("%.(%w+)$") or ""]
  local ok, document = pcall(function()
    if not reader then error("a notebook (.ipynb), a transcript (.txt) or a script (.lua) can be checked", 0) end
    return require(reader)(read_file(path), path, settings)
  end)
  if not ok then
    print(("%s: %s"):format(native.text_shown(path), native.text_shown(tostring(document), 1000)))
    return nil
  end
  for _, note in ipairs(document.notes or {}) do print(("%s: %s"):format(native.text_shown(path), note)) end
  local wrong, compared = run(path, document)
  print(("%s: %s%s, %s"):format(native.text_shown(path), wrong == 0 and "" or plural(wrong, "fault") .. " in ",
    plural(#document.steps, "step"), compared == 0 and wrong == 0 and "no results to compare" or
    compared == 1 and "1 agrees" or compared .. " agree"))
  return wrong == 0
end

-- The exit status of `nablua check` with these arguments: 0 all agrees, 1 something differs, 2 what cannot be read.
function check.main(arguments)
  local settings, paths, status = { tolerance = 1e-3 }, {}, 0
  for _, argument in ipairs(arguments) do
    local tolerance = argument:match("^%-%-tolerance=(.+)$")
    if tolerance then
      settings.tolerance = tonumber(tolerance)
      if not settings.tolerance or settings.tolerance < 0 then
        io.stderr:write("nablua check: --tolerance takes a number that is not negative, got ", tolerance, "\n")
        return 2
      end
    elseif argument:match("^%-") then
      io.stderr:write("nablua check: there is no option '", argument, "'\n")
      return 2
    else
      paths[#paths + 1] = argument
    end
  end
  if #paths == 0 then
    io.stderr:write("nablua check: which file? nablua check [--tolerance=0.001] FILE...\n")
    return 2
  end
  for _, path in ipairs(paths) do
    local right = check_file(path, settings)
    if right == nil then status = 2 elseif not right and status == 0 then status = 1 end
  end
  return status
end

return check
