-- SPDX-License-Identifier: MIT
-- A notebook: its code cells in order, and the outputs that it keeps of them.
local json = require "nablua.json"
local same = require "nablua.session.check.same"

-- Texts in a notebook are lists of lines, or whole.
local function joined(text)
  if type(text) == "table" and text ~= json.null then return table.concat(text) end
  return type(text) == "string" and text or ""
end

-- What a cell's outputs are, as child.lua gives those of a run.
local function expected_of(outputs)
  local expected, printed = { shown = {} }, {}
  for _, output in ipairs(outputs) do
    local kind = output.output_type
    if kind == "stream" then
      printed[#printed + 1] = joined(output.text)
    elseif kind == "error" then
      expected.error = { name = joined(output.ename), message = joined(output.evalue) }
    elseif kind == "display_data" or kind == "execute_result" then
      local data = {}
      for mime, value in pairs(type(output.data) == "table" and output.data or {}) do data[mime] = joined(value) end
      expected.shown[#expected.shown + 1] = { kind = kind == "execute_result" and "value" or "display", data = data }
    end
  end
  expected.text = table.concat(printed)
  return expected
end

-- The text without what has no meaning of its own: the head of an XML file, which notebooks leave out, and the names by
-- which elements refer to each other.
local function without_names(text)
  text = text:gsub("^%s*<%?xml.-%?>%s*", ""):gsub("^%s*<!DOCTYPE.->%s*", ""):gsub("<!%-%-.-%-%->%s*", "")
  return (text:gsub('(id=")[^"]*', "%1"):gsub("url%(#[^)]*%)", "url()"):gsub('(href="#)[^"]*', "%1"))
end

local compared = { "text/plain", "image/svg+xml", "text/html", "text/markdown", "text/latex", "application/json" }

local function differing_value(expected, got, tolerance)
  for _, mime in ipairs(compared) do
    local a, b = expected.data[mime], got.data[mime]
    if a and not b then return { what = ("it no longer shows %s"):format(mime) } end
    if a and not same.text(without_names(a), without_names(b), tolerance) then
      local picture = mime == "image/svg+xml"
      return { what = picture and "the picture differs" or "what it shows differs",
        expected = not picture and a or nil, got = not picture and b or nil }
    end
  end
end

local function differing(expected, got, tolerance)
  if got.error and not expected.error then
    return { what = "an error that the notebook does not have: " .. same.shown(got.error.message) }
  elseif expected.error and not got.error then
    return { what = "the error that the notebook has does not happen: " .. same.shown(expected.error.message) }
  elseif expected.error and not same.text(expected.error.message, got.error.message, tolerance) then
    return { what = "the error differs", expected = expected.error.message, got = got.error.message }
  elseif not same.text(expected.text, got.text, tolerance) then
    return { what = "what it prints differs", expected = expected.text, got = got.text }
  elseif #expected.shown ~= #got.shown then
    return { what = ("it shows %d values, the notebook has %d"):format(#got.shown, #expected.shown) }
  end
  for i, item in ipairs(expected.shown) do
    local problem = differing_value(item, got.shown[i], tolerance)
    if problem then return problem end
  end
end

local function read(text)
  local book, message = json.decode((text:gsub("^\xef\xbb\xbf", "")))
  if not book then error("it is no JSON: " .. message, 0) end
  if type(book) ~= "table" or type(book.cells) ~= "table" then
    error("it is no notebook of format 4: it has no cells", 0)
  end
  return book
end

-- Numbers of executions that cannot come of a run from top to bottom.
local function note_order(steps)
  local before
  for _, step in ipairs(steps) do
    if not step.count then
      step.faults = { "it was never run, though others were: its outputs are stale or missing" }
    elseif before and step.count < before.count then
      step.faults = { ("it was run before %s: cells were run out of order"):format(before.title) }
    elseif before and step.count == before.count then
      step.faults = { ("it has the number of %s"):format(before.title) }
    end
    if step.count and not (before and step.count < before.count) then before = step end
  end
end

return function(text, path, settings)
  local steps, ran, book = {}, false, read(text)
  local own = type(book.metadata) == "table" and book.metadata.nablua
  for i, cell in ipairs(book.cells) do
    local code = type(cell) == "table" and cell.cell_type == "code" and joined(cell.source) or ""
    if code:match("%S") then
      local count = math.tointeger(cell.execution_count)
      local outputs = type(cell.outputs) == "table" and cell.outputs or {}
      ran = ran or count ~= nil or #outputs > 0
      steps[#steps + 1] = { title = ("cell %d%s"):format(i, count and (" [%d]"):format(count) or ""), code = code,
        count = count, expected = expected_of(outputs) }
    end
  end
  if ran then note_order(steps) end
  return {
    steps = steps, rich = true, width = type(own) == "table" and math.tointeger(own.width) or 100,
    folder = path:match("^(.*)/[^/]*$"),
    notes = not ran and { "it keeps no outputs, so that only errors are looked for" } or nil,
    compare = function(step, got)
      local problem
      if ran then
        problem = differing(step.expected, got, settings.tolerance)
      elseif got.error then
        problem = { what = "an error: " .. same.shown(got.error.message) }
      end
      if not problem and got.ended then problem = { what = "the process ends here" } end
      if not problem and not ran then return false end
      return problem
    end,
  }
end
