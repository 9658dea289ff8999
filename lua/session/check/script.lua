-- SPDX-License-Identifier: MIT
-- A script with results in comments: `print(1 + 2) --> 3`, `local x = f() --> 5`, and lines of `--> ...` for more.
-- Its statements are run one after another, so that what each prints is known.
local same = require "nablua.session.check.same"

-- Whether the code is complete; what is wrong for good is complete, too.
local function is_complete(code)
  local f, message = load(code, "=code", "t")
  return f ~= nil or not message:match("<eof>$") or load("return " .. code, "=code", "t") ~= nil
end

-- What a line has behind "-->" outside of texts, and the line without it.
local function result_in(line)
  local i, quote = 1, nil
  while i <= #line do
    local c = line:sub(i, i)
    if quote then
      if c == "\\" then i = i + 1 elseif c == quote then quote = nil end
    elseif c == '"' or c == "'" then
      quote = c
    elseif line:sub(i, i + 1) == "--" then
      local result = line:match("^%-%->%s?(.-)%s*$", i)
      return result, result and line:sub(1, i - 1) or line
    end
    i = i + 1
  end
  return nil, line
end

-- The names that `local a, b = ...` or `a.b = ...` gives values, as an expression.
local function assigned(code)
  local names = code:match("^%s*local%s+([%w_,%s]-)%s*=[^=]") or code:match("^%s*([%a_][%w_.,%s]-)%s*=[^=]")
  return names and load("return " .. names, "=code", "t") and names
end

local function steps_of(text)
  local steps, unit, expected, begin, number = {}, {}, {}, 1, 0
  local function close()
    if #unit > 0 then
      steps[#steps + 1] = { title = "line " .. number, code = ("\n"):rep(begin - 1) .. table.concat(unit, "\n"),
        source = table.concat(unit, "\n"), results = expected }
    end
    unit, expected, begin = {}, {}, number + 1
  end
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    number = number + 1
    local result, code = result_in(line)
    if result and not code:match("%S") and #unit == 0 and steps[#steps] then
      table.insert(steps[#steps].results, result)  -- more of the result above
      begin = number + 1
    else
      if #unit > 0 or code:match("%S") then unit[#unit + 1] = code end
      expected[#expected + 1] = result
      if #unit == 0 then begin = number + 1 elseif is_complete(table.concat(unit, "\n")) then close() end
    end
  end
  close()
  return steps
end

return function(text, path, settings)
  local steps = steps_of((text:gsub("^\xef\xbb\xbf", ""):gsub("^#[^\n]*", "")))
  table.insert(steps, 1, { title = "start", code = ("arg = {[0] = %q};"):format(path), source = "", results = {} })
  return {
    steps = steps,
    compare = function(step, got, process)
      if got.error then return { what = "an error: " .. same.shown(got.error.message) } end
      if got.ended then return { what = "the script ends here" } end
      if #step.results == 0 then return false end
      local expected, shown = table.concat(step.results, "\n"), got.plain
      local names = not shown:match("%S") and assigned(step.source)
      if names then shown = process:run({ code = names }).plain end
      if same.pattern(expected, shown, settings.tolerance) then return nil end
      -- Several values in one line, as a comment has them.
      local line = same.settled(shown):gsub("[\n\t]", ", ")
      if #step.results == 1 and same.pattern(expected, line, settings.tolerance) then return nil end
      return { what = "the result differs", expected = expected, got = shown }
    end,
  }
end
