-- SPDX-License-Identifier: MIT
-- nb.help: what the registry knows of a name or value, as text and as Markdown.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local help = {}

-- ---- one entry ----

-- Lines of a parameter list: name, type, default, doc.
local function parameter_rows(entry)
  local rows = {}
  for _, p in ipairs(entry.params or {}) do
    local kind = p.choices and table.concat(p.choices, " | ") or p.type or ""
    local default = p.default ~= nil and not (type(p.default) == "number" and p.default ~= p.default) and
      "default " .. options.show(p.default) or p.optional and "optional" or ""
    rows[#rows + 1] = { p.name, kind, default, p.doc or "" }
  end
  return rows
end

local function aligned(rows, indent)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, utf8.len(cell) or #cell) end
  end
  local lines = {}
  for r, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      if widths[i] > 0 then cells[#cells + 1] = cell .. (" "):rep(widths[i] - (utf8.len(cell) or #cell)) end
    end
    lines[r] = (indent .. table.concat(cells, "  ")):gsub("%s+$", "")
  end
  return lines
end

local function entry_text(entry)
  local lines = { entry.signature or entry.name, "  " .. (entry.doc or "") }
  local function add(title, list)
    if not list or #list == 0 then return end
    lines[#lines + 1] = ""
    if title then lines[#lines + 1] = title end
    table.move(list, 1, #list, #lines + 1, lines)
  end
  add("Parameters", aligned(parameter_rows(entry), "  "))
  if entry.derivative then add(nil, { "Derivative: " .. entry.derivative }) end
  if entry.no_grad then add(nil, { "No gradient: " .. entry.no_grad .. "." }) end
  local example = {}
  for line in ((entry.example or "") .. "\n"):gmatch("(.-)\n") do
    if line ~= "" then example[#example + 1] = "  " .. line end
  end
  add("Example", example)
  if entry.source then add(nil, { "Source: " .. entry.source }) end
  if entry.see and #entry.see > 0 then add(nil, { "See also: " .. table.concat(entry.see, ", ") }) end
  return table.concat(lines, "\n")
end

local function cell(text)
  return (text:gsub("|", "\\|"))
end

local function entry_markdown(entry, level)
  local lines = { ("%s %s"):format(("#"):rep(level), entry.name), "", "```lua", entry.signature or entry.name, "```",
    entry.doc or "" }
  local function add(...)
    lines[#lines + 1] = ""
    for _, line in ipairs { ... } do lines[#lines + 1] = line end
  end
  local rows = parameter_rows(entry)
  if #rows > 0 then
    add("| parameter | type | | |", "|---|---|---|---|")
    for _, row in ipairs(rows) do
      lines[#lines + 1] = ("| `%s` | %s | %s | %s |"):format(cell(row[1]), cell(row[2]), cell(row[3]), cell(row[4]))
    end
  end
  if entry.derivative then add("Derivative: " .. entry.derivative) end
  if entry.no_grad then add("No gradient: " .. entry.no_grad .. ".") end
  if entry.example then add("```lua", entry.example, "```") end
  if entry.source then add("Source: " .. entry.source .. ".") end
  if entry.see and #entry.see > 0 then add("See also: `" .. table.concat(entry.see, "`, `") .. "`.") end
  return table.concat(lines, "\n")
end

-- ---- all of it ----

-- Lists of entries with their headings, in the reference's order; operators by family.
local function sections()
  local list, by_title = {}, {}
  local function section(title)
    if not by_title[title] then
      by_title[title] = { title = title }
      list[#list + 1] = by_title[title]
    end
    return by_title[title]
  end
  for _, kind in ipairs(registry.kinds) do
    for _, entry in ipairs(registry.all()) do
      if entry.kind == kind[1] then
        table.insert(section(entry.family or kind[2]), entry)
      end
    end
  end
  return list
end

local function wrapped(words, indent, width)
  local lines, line = {}, indent
  for _, word in ipairs(words) do
    if #line + #word > width and line ~= indent then
      lines[#lines + 1] = line
      line = indent
    end
    line = line .. (line == indent and "" or "  ") .. word
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

local function overview()
  local lines = { "help(\"name\") or help(value) says more; nablua --doc prints all of it.", "" }
  for _, s in ipairs(sections()) do
    local names = {}
    for i, entry in ipairs(s) do names[i] = entry.name:gsub("^nb%.", "") end
    table.sort(names)
    lines[#lines + 1] = s.title
    lines[#lines + 1] = wrapped(names, "  ", 78)
  end
  return table.concat(lines, "\n")
end

local function no_entry(x, near)
  local shown = type(x) == "string" and ("%q"):format(x) or options.describe(x)
  return ("there is no help on %s%s"):format(shown, near and ('; did you mean "%s"?'):format(near) or
    "; help() lists what there is")
end

-- The entry of a name or value; raises a sentence with the nearest name.
local function entry_of(x)
  local entry, near = registry.find(x)
  if not entry then native.raise("help: " .. no_entry(x, near)) end
  return entry
end

-- What several names share: "max" is nb.max; others are mentioned.
local function text_of(x)
  local entry, near, others = registry.find(x)
  if not entry then native.raise("help: " .. no_entry(x, near)) end
  local text = entry_text(entry)
  if others and #others > 1 then
    local names = {}
    for i = 2, #others do names[i - 1] = others[i].name end
    text = text .. "\n\nAlso: " .. table.concat(names, ", ")
  end
  return text
end

-- ---- the public object ----

-- What help(...) gives: shows itself, and is a plain value with the entry's fields.
local page = { __name = "help page" }
page.__index = page
function page:__tostring()
  return self.text
end
function page:__display()
  return { ["text/plain"] = self.text, ["text/markdown"] = self.markdown }
end

local function make_page(...)
  if select("#", ...) == 0 then
    return setmetatable({ text = overview(), markdown = "```\n" .. overview() .. "\n```" }, page)
  end
  local x = (...)
  if x == nil then native.raise("help: the value is nil; a name can be asked for in quotes: help(\"relu\")") end
  local entry = entry_of(x)
  return setmetatable({ text = text_of(x), markdown = entry_markdown(entry, 3), entry = entry }, page)
end

help.help = setmetatable({}, {
  __name = "help",
  __call = function(_, ...) return make_page(...) end,
  __tostring = function() return overview() end,
})

registry.add {
  name = "nb.help", kind = "function", value = help.help, signature = "nb.help([name or value])",
  doc = "What there is to know of a name or value: signature, parameters, example.  Without arguments, all names.",
  example = "nb.help(\"relu\").entry.name  --> \"nb.relu\"", see = { "nb.help.text", "nb.help.markdown" },
}

registry.define(help.help, "nb.help.", "text", {
  doc = "The help on a name or value as text.", signature = "nb.help.text(name or value)",
  example = "#nb.help.text(\"nn.Linear\") > 100  --> true",
  text_of,
})

registry.define(help.help, "nb.help.", "markdown", {
  doc = "The help on a name as Markdown; without a name the whole reference.", signature = "nb.help.markdown([name])",
  example = "nb.help.markdown(\"relu\"):match(\"^### nb.relu\")  --> \"### nb.relu\"",
  function(name)
    if name ~= nil then return entry_markdown(entry_of(name), 3) end
    local parts = { "# nablua " .. nb.version }
    for _, s in ipairs(sections()) do
      parts[#parts + 1] = "## " .. s.title
      for _, entry in ipairs(s) do parts[#parts + 1] = entry_markdown(entry, 3) end
    end
    return table.concat(parts, "\n\n") .. "\n"
  end,
})

-- The functions a name stands for: one, or those of a class.
local function functions_of(value)
  if type(value) ~= "table" then return { value } end
  local spec = value.meta and value.meta.spec or {}
  return { spec.init, value.forward }
end

registry.define(help.help, "nb.help.", "source", {
  doc = "The Lua source of a function or of a class's init and forward, or nil where it is written in C.",
  signature = "nb.help.source(name or value)",
  example = "nb.help.source(\"nn.Linear\"):match(\"forward\")  --> \"forward\"",
  function(x)
    local parts = {}
    for _, f in pairs(functions_of(entry_of(x).value)) do
      local info = type(f) == "function" and debug.getinfo(f, "S")
      local text = info and info.what == "Lua" and native.sources[info.source:sub(2)]
      local n, lines = 0, {}
      for line in ((text or "") .. "\n"):gmatch("(.-)\n") do
        n = n + 1
        if text and n >= info.linedefined and n <= info.lastlinedefined then lines[#lines + 1] = line end
      end
      if #lines > 0 then parts[#parts + 1] = table.concat(lines, "\n") end
    end
    return #parts > 0 and table.concat(parts, "\n") or nil
  end,
})

return help
