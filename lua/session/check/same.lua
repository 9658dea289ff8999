-- SPDX-License-Identifier: MIT
-- Whether two texts say the same: numbers to a tolerance, and what never repeats, times that something took and
-- addresses, left aside.
local same = {}

local units = { ns = true, ["µs"] = true, ms = true, s = true, min = true }

-- The text of a terminal where each line is what its last carriage return left, colours gone.
function same.settled(text)
  text = text:gsub("\27%[[%d;]*m", ""):gsub("\r\n", "\n"):gsub("[^\n]*\r", "")
  return (text:gsub("[ \t]+\n", "\n"):gsub("%s+$", ""))
end

-- Parts of a line: numbers, words, signs.
local function tokens(line)
  line = line:gsub("−", "-"):gsub("0x%x%x%x%x%x%x+", "0x"):gsub("input %d+:", "input:")
  local found, at = {}, 1
  while true do
    at = line:match("^%s*()", at)
    if at > #line then return found end
    local number = line:match("^%-?%d+%.?%d*[eE][+-]?%d+", at) or line:match("^%-?%d+%.?%d*", at)
    local before = line:sub(at - 1, at - 1)
    if number and number:sub(1, 1) == "-" and before:match("[%w_%)%]]") then number = nil end
    local token = number or line:match("^[%a_\x80-\xff][%w_\x80-\xff]*", at) or line:sub(at, at)
    found[#found + 1] = token
    at = at + #token
  end
end

local function is_number(token)
  return token:match("^%-?%d") and tonumber(token) ~= nil
end

local function agree(a, b, next_a, next_b, tolerance)
  if a == b then return true end
  if not (is_number(a) and is_number(b)) then return false end
  if next_a and next_a == next_b and units[next_a] then return true end
  if math.type(tonumber(a)) == "integer" and math.type(tonumber(b)) == "integer" then return false end
  local x, y = tonumber(a), tonumber(b)
  return math.abs(x - y) <= tolerance * math.max(math.abs(x), math.abs(y)) + 1e-9
end

-- Two lines.
local function same_line(expected, got, tolerance)
  if expected == got then return true end
  local a, b = tokens(expected), tokens(got)
  local i, k = 1, 1
  while i <= #a and k <= #b do
    local x, y = a[i], b[k]
    -- Times in units of their own: 3 ms and 1.2 s are both times.
    if is_number(x) and is_number(y) and units[a[i + 1]] and units[b[k + 1]] then
      i, k = i + 2, k + 2
    elseif agree(x, y, a[i + 1], b[k + 1], tolerance) then
      i, k = i + 1, k + 1
    else
      return false
    end
  end
  return i > #a and k > #b
end

local function lines_of(text)
  local lines = {}
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
  return lines
end

function same.text(expected, got, tolerance)
  expected, got = same.settled(expected), same.settled(got)
  if expected == got then return true end
  local a, b = lines_of(expected), lines_of(got)
  if #a ~= #b then return false end
  for i = 1, #a do
    if not same_line(a[i], b[i], tolerance) then return false end
  end
  return true
end

-- Whether a line is what another stands for, in which "..." is anything.
local function fits(pattern, line, tolerance)
  if not pattern:find("...", 1, true) then return same_line(pattern, line, tolerance) end
  local escaped = pattern:gsub("%s+$", ""):gsub("%.%.%.", "\0"):gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0")
  return line:match("^" .. escaped:gsub("%z", ".*") .. "%s*$") ~= nil
end

-- The same where a line "..." of the expected stands for any lines, and "..." within one for anything.
function same.pattern(expected, got, tolerance)
  local a, b = lines_of((expected:gsub("%s+$", ""))), lines_of(same.settled(got))
  local reach = { [0] = true }  -- after the lines of a so far: how many of b they may stand for
  for _, line in ipairs(a) do
    local next_reach = {}
    for k = 0, #b do
      if reach[k] and line == "..." then
        for m = k, #b do next_reach[m] = true end
        break
      elseif reach[k] and k < #b and fits(line, b[k + 1], tolerance) then
        next_reach[k + 1] = true
      end
    end
    reach = next_reach
  end
  return reach[#b] == true or expected:match("^%s*$") ~= nil and got:match("^%s*$") ~= nil
end

-- A text for a report: not too long, nothing in it that moves a cursor.
function same.shown(text)
  text = same.settled(text):gsub("[%c\x7f]", function(c)
    return c ~= "\n" and ("\\x%02x"):format(c:byte()) or nil
  end):gsub("\xc2[\x80-\x9f]", "?")
  local lines = lines_of(text)
  if #lines > 20 then
    lines[20] = ("… %d more lines"):format(#lines - 19)
    for i = #lines, 21, -1 do lines[i] = nil end
  end
  for i, line in ipairs(lines) do
    if #line > 300 then lines[i] = line:sub(1, utf8.offset(line, 0, 300) - 1) .. "…" end
  end
  return text == "" and "(nothing)" or table.concat(lines, "\n")
end

return same
