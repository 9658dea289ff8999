-- SPDX-License-Identifier: MIT
-- The reference: what the registry holds, in chapters; pages of names and of topics, as text and as Markdown.
--
-- A chapter is a topic with sections.  An entry's section is its `family`, else what the rules say of its name or
-- kind, so that whatever registers itself has its place.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local reference = {}

-- Pattern of a name, or a kind, and the section.
local rules = {
  { "^t:.*_$", "In place" }, { "^t:", "Methods of tensors" }, { "^t%.", "Fields of tensors" },
  { kind = "layer", "Layers" }, { kind = "activation", "Activation layers" }, { kind = "loss", "Loss layers" },
  { kind = "optimizer", "Optimizers" }, { kind = "scheduler", "Learning rate schedules" },
  { "^net:", "Methods of modules" }, { "^opt:", "Methods of optimizers" }, { "^schedule:", "Methods of schedules" },
  { "^nn%.init%.", "Initial values" }, { "^nn%.", "Modules" }, { "^data%.", "Sets of samples" },
  { "^csv:", "Sets of samples" }, { "^inspect[.:]", "Inspection" }, { "^plot[.:]", "Plots" },
  { "^p:", "Plots" }, { "^nb%.distributions%.", "Distributions" },
}
local OTHERS = "Session and machine"

local function section_of(entry)
  if entry.family then return entry.family end
  for _, rule in ipairs(rules) do
    local title = rule[#rule]
    if rule.kind and rule.kind == entry.kind or not rule.kind and entry.name:find(rule[1]) then return title end
  end
  return OTHERS
end

-- The topic of each chapter, its title, and the sections it has; those that no chapter names are operators'.
local chapters = {
  { "tensor", "Tensors", "Making tensors", "Random numbers", "Methods of tensors", "Fields of tensors" },
  { "operators", "Operators", "*", "In place" },
  { "gradients", "Gradients", "Gradients" },
  { "nn", "Nets", "Modules", "Methods of modules", "Layers", "Activation layers", "Loss layers", "Loss functions",
    "Initial values", "Metrics" },
  { "optim", "Training", "Training", "Optimizers", "Methods of optimizers", "Learning rate schedules",
    "Methods of schedules" },
  { "data", "Data", "Sets of samples", "Transforms of pictures", "Files" },
  { "nb.distributions", "Distributions", "Distributions" },
  { "inspect", "Inspection", "Inspection" },
  { "plot", "Plots", "Plots" },
  { "session", OTHERS, OTHERS, "The prompt in the terminal", "Environment variables" },
}

-- { topic =, title =, sections = { { title =, entry ... }, ... } }, in order.
function reference.chapters()
  local by_title, titles, known = {}, {}, {}
  for _, entry in ipairs(registry.all()) do
    if entry.kind ~= "topic" then
      local title = section_of(entry)
      if not by_title[title] then
        by_title[title] = { title = title }
        titles[#titles + 1] = title
      end
      table.insert(by_title[title], entry)
    end
  end
  for _, chapter in ipairs(chapters) do
    for i = 3, #chapter do known[chapter[i]] = true end
  end
  local list = {}
  for _, chapter in ipairs(chapters) do
    local sections = {}
    for i = 3, #chapter do
      if chapter[i] == "*" then
        for _, title in ipairs(titles) do
          if not known[title] then sections[#sections + 1] = by_title[title] end
        end
      else
        sections[#sections + 1] = by_title[chapter[i]]
      end
    end
    local topic = registry.find(chapter[1])
    if topic and topic.kind == "topic" then
      list[#list + 1] = { topic = topic, title = chapter[2], sections = sections }
    end
  end
  return list
end

local function chapter_of(entry)
  for _, chapter in ipairs(entry.kind == "topic" and reference.chapters() or {}) do
    if chapter.topic == entry then return chapter end
  end
end

-- ---- text ----

local function append(lines, more)
  table.move(more, 1, #more, #lines + 1, lines)
end

-- Lines of at most `width` columns, all but the first begun by `indent`.
local function wrap(text, width, indent)
  local lines, line = {}, ""
  for space, word in text:gmatch("(%s*)(%S+)") do
    if line ~= "" and native.width(line) + #space + native.width(word) > width then
      lines[#lines + 1] = line
      line = indent .. word
    else
      line = line .. space .. word
    end
  end
  lines[#lines + 1] = line
  return lines
end

local function columns()
  return math.min(native.columns(), 100)
end

-- A sentence in lines that fit, further ones begun by `indent`.
function reference.lines(text, indent)
  return wrap(text, columns(), indent)
end

local WIDEST = 26  -- a cell beyond it does not widen its column

-- Rows of cells in columns; the last of them goes on below itself, or where there is little room in lines of its own.
local function aligned(rows, indent)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i = 1, #row - 1 do
      local width = native.width(row[i])
      widths[i] = math.max(widths[i] or 0, width <= WIDEST and width or 0)
    end
  end
  for _, row in ipairs(rows) do
    local head, last = indent, row[#row]
    for i = 1, #row - 1 do
      if widths[i] > 0 then head = head .. native.pad(row[i], widths[i]) .. "  " end
    end
    local room = columns() - native.width(head)
    if native.width(last) > room and room < 36 then
      lines[#lines + 1] = head:gsub("%s+$", "")
      head = indent .. "    "
    end
    local part = wrap(last, columns() - native.width(head), "")
    for i, line in ipairs(part) do
      lines[#lines + 1] = ((i == 1 and head or (" "):rep(native.width(head))) .. line):gsub("%s+$", "")
    end
  end
  return lines
end

-- The text in one line, cut where it gets too long.
local function cut(text, width)
  if native.width(text) <= width then return text end
  return (native.fit(text, width - 1):gsub("[%s,;:]*%S*$", "")) .. " …"
end

-- The first sentence, without its full stop.
local function brief(entry)
  local doc = entry.doc or ""
  doc = doc:match("^(.-[^.])%.%s") or doc
  return (doc:gsub("%.$", ""))
end

-- "relu" of "nb.relu": what else an entry is called in its own chapter.
local function short_name(entry)
  return (entry.name:gsub("^nb%.", ""))
end

-- ---- one entry ----

-- Types of parameters whose names say too little.
local kinds = { size = "integer ≥ 1", count = "integer ≥ 0", sizes = "integers ≥ 1", counts = "integers ≥ 0",
  positive = "number > 0", ["non-negative"] = "number ≥ 0", fraction = "number in [0, 1)",
  finite = "number", share = "number in [0, 1]", ["positive or huge"] = "number > 0",
  ["two fractions"] = "two in [0, 1)", ["two sizes"] = "two integers ≥ 1" }

-- Lines of a parameter list: name, type, default, doc.
local function parameter_rows(entry)
  local rows = {}
  for _, p in ipairs(entry.params or {}) do
    local kind = p.choices and table.concat(p.choices, " | ") or kinds[p.type] or p.type or ""
    if p.words then kind = kind .. " | " .. table.concat(p.words, " | ") end
    local needed = p.needed and "needed" or p.optional and "optional" or ""
    local default = p.default ~= nil and "default " .. options.show(p.default) or needed
    rows[#rows + 1] = { p.name, kind, default, p.doc or "" }
  end
  return rows
end

local function split_lines(text)
  local lines = {}
  for line in (text .. "\n"):gmatch("(.-)\n") do
    if line ~= "" then lines[#lines + 1] = line end
  end
  return lines
end

-- The entries of a topic: by sections, a line each; of the forms in place, which repeat what is said above, the names.
local function topic_lines(chapter)
  local lines = {}
  for _, section in ipairs(chapter.sections) do
    lines[#lines + 1] = ""
    lines[#lines + 1] = section.title
    local rows, names, widest = {}, {}, 0
    for i, entry in ipairs(section) do
      names[i] = short_name(entry)
      widest = math.max(widest, native.width(names[i]))
    end
    for i, entry in ipairs(section) do rows[i] = { names[i], cut(brief(entry), columns() - widest - 4) } end
    if section.title == "In place" then
      append(lines, wrap("  " .. table.concat(names, "  "), columns(), "  "))
    else
      append(lines, aligned(rows, "  "))
    end
  end
  return lines
end

reference.aligned = aligned

-- What a topic's table holds, as a value that is looked at: its doc, and the names of each section in a few lines.
function reference.contents(entry)
  local prefix, rows, row_of, left = entry.name .. ".", {}, {}, {}
  local function put(title, name)
    if not row_of[title] then
      row_of[title] = { title, "" }
      rows[#rows + 1] = row_of[title]
    end
    local row = row_of[title]
    row[2] = row[2] .. (row[2] ~= "" and "  " or "") .. name
    left[name] = nil
  end
  for name in next, entry.value do
    if type(name) == "string" then left[name] = true end
  end
  for _, chapter in ipairs(reference.chapters()) do
    for _, section in ipairs(chapter.sections) do
      for _, item in ipairs(section) do
        local name = item.name:sub(1, #prefix) == prefix and item.name:sub(#prefix + 1)
        if name and left[name] then put(section.title, name) end
      end
    end
  end
  local others = {}
  for name in pairs(left) do others[#others + 1] = name end
  table.sort(others)
  for _, name in ipairs(others) do
    local value = rawget(entry.value, name)
    local known = (type(value) == "table" or type(value) == "function") and registry.find(value)
    put(not known and "Others" or known.kind == "topic" and "Modules" or section_of(known), name)
  end
  local lines = wrap(entry.name .. ": " .. (entry.doc or ""), columns(), "  ")
  append(lines, aligned(rows, "  "))
  lines[#lines + 1] = ("?%s says a line of each, ?%sNAME explains one."):format(entry.name, prefix)
  return table.concat(lines, "\n")
end

-- The page of an entry as text; of a topic with the names that belong to it.
function reference.text(entry)
  local lines = wrap(entry.signature or entry.name, columns(), "    ")
  local function add(title, list)
    if not list or #list == 0 then return end
    lines[#lines + 1] = ""
    if title then lines[#lines + 1] = title end
    append(lines, list)
  end
  append(lines, wrap("  " .. (entry.doc or ""), columns(), "  "))
  add("Parameters", aligned(parameter_rows(entry), "  "))
  if entry.derivative then add(nil, { "Derivative: " .. entry.derivative }) end
  if entry.no_grad then add(nil, wrap("No gradient: " .. entry.no_grad .. ".", columns(), "  ")) end
  local example = split_lines(entry.example or "")
  for i, line in ipairs(example) do example[i] = "  " .. line end
  add("Example", example)
  if entry.source then add(nil, { "Source: " .. entry.source }) end
  local chapter = chapter_of(entry)
  if chapter then append(lines, topic_lines(chapter)) end
  if entry.see and #entry.see > 0 then
    add(nil, wrap("See also: " .. table.concat(entry.see, ", "), columns(), "  "))
  end
  return table.concat(lines, "\n")
end

local function cell(text)
  return (text:gsub("|", "\\|"):gsub("\n", " "))
end

function reference.markdown(entry, level)
  local lines = {}
  local function add(...)
    if #lines > 0 then lines[#lines + 1] = "" end
    for _, line in ipairs { ... } do lines[#lines + 1] = line end
  end
  add(("%s %s"):format(("#"):rep(level), entry.name))
  if entry.signature then add("```lua", entry.signature, "```") end
  add((entry.doc or ""))
  local rows = parameter_rows(entry)
  if #rows > 0 then
    add("| parameter | type | default | meaning |", "|---|---|---|---|")
    for _, row in ipairs(rows) do
      local default = row[3]:gsub("^default ", "")
      lines[#lines + 1] = ("| `%s` | %s | %s | %s |"):format(cell(row[1]), cell(row[2]), cell(default), cell(row[4]))
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

function reference.overview()
  local rows = {}
  for i, chapter in ipairs(reference.chapters()) do
    rows[i] = { chapter.topic.name, cut(brief(chapter.topic), columns() - 14) }
  end
  local lines = { 'help("topic") lists the names of a topic, help("name") or ?name explains one.', "" }
  append(lines, aligned(rows, "  "))
  lines[#lines + 1] = ""
  lines[#lines + 1] = "help(value) works too, ??name shows its source, and nablua --doc prints the whole reference."
  return table.concat(lines, "\n")
end

-- A heading's name in a link, as GitHub makes it.
local function anchor(title)
  return (title:lower():gsub("[^%w%- _]", ""):gsub(" ", "-"))
end

local function section_markdown(section, parts)
  if section.title == "In place" then
    local rows = { "| | |", "|---|---|" }
    for _, entry in ipairs(section) do
      rows[#rows + 1] = ("| `%s` | %s |"):format(cell(entry.signature or entry.name), cell(entry.doc))
    end
    parts[#parts + 1] = table.concat(rows, "\n")
  else
    for _, entry in ipairs(section) do parts[#parts + 1] = reference.markdown(entry, 4) end
  end
end

-- Whether a section has a heading: not one that is all its chapter has.
local function stands_out(chapter, section)
  return section.title ~= chapter.title
end

function reference.whole()
  local chapter_list, contents = reference.chapters(), {}
  for i, chapter in ipairs(chapter_list) do
    contents[#contents + 1] = ("%d. [%s](#%s): %s."):format(i, chapter.title, anchor(chapter.title),
      brief(chapter.topic))
    local links = {}
    for _, section in ipairs(chapter.sections) do
      if stands_out(chapter, section) then
        links[#links + 1] = ("[%s](#%s)"):format(section.title, anchor(section.title))
      end
    end
    if #links > 0 then contents[#contents + 1] = "   " .. table.concat(links, ", ") end
  end
  local parts = { "# nablua " .. nb.version, table.concat(contents, "\n") }
  for _, chapter in ipairs(chapter_list) do
    parts[#parts + 1] = reference.markdown(setmetatable({ name = chapter.title }, { __index = chapter.topic }), 2)
    for _, section in ipairs(chapter.sections) do
      if stands_out(chapter, section) then parts[#parts + 1] = "### " .. section.title end
      section_markdown(section, parts)
    end
  end
  return table.concat(parts, "\n\n") .. "\n"
end

-- A topic's page in Markdown: its text and a list of its names.
function reference.topic_markdown(entry)
  local chapter, parts = chapter_of(entry), { reference.markdown(entry, 3) }
  for _, section in ipairs(chapter and chapter.sections or {}) do
    local rows = { ("**%s**"):format(section.title), "", "| | |", "|---|---|" }
    for _, item in ipairs(section) do rows[#rows + 1] = ("| `%s` | %s |"):format(item.name, cell(brief(item))) end
    parts[#parts + 1] = table.concat(rows, "\n")
  end
  return table.concat(parts, "\n\n")
end

return reference
