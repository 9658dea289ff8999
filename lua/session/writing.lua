-- SPDX-License-Identifier: MIT
-- A session written down with what its inputs showed: as a notebook, a transcript or a script.
local native = require "nablua.native"
local json = require "nablua.json"
local same = require "nablua.session.check.same"
local settled = require "nablua.session.check.child".settled

local writing = {}

-- inputs: a list of { number=, text=, events= }, events as child.lua has them.

-- ---- a transcript ----

-- What an input showed, as lines: what a carriage return left of them, without colours.
local function plain_of(input)
  return (same.settled(settled(input.events).plain))
end

function writing.txt(inputs)
  local lines = { ("-- %d columns wide"):format(native.columns()) }
  for i, input in ipairs(inputs) do
    local prompt = ("%d> "):format(i)
    local continued = (" "):rep(#prompt - 2) .. "| "
    lines[#lines + 1] = (prompt .. input.text:gsub("%s+$", ""):gsub("\n", "\n" .. continued))
    local shown = plain_of(input)
    if shown ~= "" then lines[#lines + 1] = shown end
  end
  return table.concat(lines, "\n") .. "\n"
end

-- ---- a script ----

-- What an input showed stands in comments behind it, as nablua check reads them; one that failed is a comment whole, so
-- that the script goes on.  An input that was given by a command shows what the code alone does not: `bare` says so.
function writing.lua(inputs)
  local lines = {}
  for _, input in ipairs(inputs) do
    local code = input.text:gsub("%s+$", "")
    local got, shown = settled(input.events), plain_of(input)
    if got.error then code = ("-- " .. code:gsub("\n", "\n-- ")) end
    lines[#lines + 1] = code
    if shown ~= "" and not input.bare then
      local mark = got.error and "-- " or "--> "
      lines[#lines + 1] = (mark .. shown:gsub("\n", "\n" .. mark):gsub("[ \t]+%f[\n\0]", ""))
    end
  end
  return #lines > 0 and table.concat(lines, "\n") .. "\n" or ""
end

-- ---- a notebook ----

local function lines_of(text)
  local lines = json.list {}
  for line in text:gmatch("[^\n]*\n?") do
    if line ~= "" then lines[#lines + 1] = line end
  end
  return lines
end

local function valid(text)
  return utf8.len(text) and text or text:gsub("[\x80-\xff]", "?")
end

local function bundle(data)
  local out = {}
  for mime, value in pairs(data) do
    out[mime] = type(value) == "string" and lines_of(valid(value)) or nil
  end
  return out
end

local function outputs_of(input, count)
  local got, outputs = settled(input.events), json.list {}
  if got.text ~= "" then
    outputs[1] = { output_type = "stream", name = "stdout", text = lines_of(valid(got.text)) }
  end
  for _, item in ipairs(got.shown) do
    local value = item.kind == "value"
    outputs[#outputs + 1] = { output_type = value and "execute_result" or "display_data", data = bundle(item.data),
      metadata = {}, execution_count = value and count or nil }
  end
  if got.error then
    local traceback = json.list { valid(got.error.message) }
    for line in got.error.frames:gmatch("[^\n]+") do traceback[#traceback + 1] = "  " .. valid(line) end
    outputs[#outputs + 1] = { output_type = "error", ename = got.error.name, evalue = valid(got.error.message),
      traceback = traceback }
  end
  return outputs
end

function writing.ipynb(inputs)
  local cells = json.list {}
  for i, input in ipairs(inputs) do
    cells[i] = { cell_type = "code", id = ("input-%d"):format(i), metadata = {}, execution_count = i,
      source = lines_of(valid((input.text:gsub("%s+$", "")))), outputs = outputs_of(input, i) }
  end
  return json.encode({ nbformat = 4, nbformat_minor = 5, cells = cells, metadata = {
    nablua = { width = native.columns() },
    kernelspec = { name = "nablua", display_name = "nablua", language = "lua" },
    language_info = { name = "lua", file_extension = ".lua", mimetype = "text/x-lua" },
  } }, "%save") .. "\n"
end

return writing
