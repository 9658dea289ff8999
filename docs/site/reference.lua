-- SPDX-License-Identifier: MIT
-- Writes the pages that come from the registry: nablua docs/site/reference.lua FOLDER TABLE
--
-- A page for each name with what its example gives, as text or as a drawing; a page for each chapter; and what names
-- are called in PyTorch, from TABLE, both ways.
local nb = require "nablua"
local native = require "nablua.native"
local reference = require "nablua.reference"
local registry = require "nablua.registry"

local folder, table_path = arg[1], arg[2]
local names = table.move(registry.all(), 1, #registry.all(), 1, {})  -- examples add some of their own

local function write(path, text)
  native.replace("pages", folder .. "/" .. path, text)
end

-- "nn.Linear" → "nn.Linear.md"; what stands for nothing in paths becomes "-".
local function file_of(name)
  return name:gsub("[^%w._]", "-") .. ".md"
end

local function link(name, from)
  return ("[`%s`](%s%s)"):format(name, from or "", file_of(name))
end

-- Text of the registry in Markdown: it has no marks of its own outside of code.
local function plain(text)
  local parts = {}
  for outside, code in (text .. "``"):gmatch("([^`]*)(`[^`]*`)") do
    parts[#parts + 1] = outside:gsub("[*_<]", { ["*"] = "\\*", ["_"] = "\\_", ["<"] = "&lt;" }) .. code
  end
  return (table.concat(parts):gsub("``$", ""))
end

-- ---- what an example gives ----

-- The value, and what was printed on the way to it.
local function run(code)
  local printed = {}
  local env = setmetatable({ nb = nb, nn = nb.nn, optim = nb.optim, data = nb.data, inspect = nb.inspect,
    plot = nb.plot, print = function(...)
      local parts = table.pack(...)
      for i = 1, parts.n do parts[i] = tostring(parts[i]) end
      printed[#printed + 1] = table.concat(parts, "\t")
    end }, { __index = _G })
  nb.seed(9)
  local chunk = load("return " .. code, "=example", "t", env) or assert(load(code, "=example", "t", env))
  return chunk(), table.concat(printed, "\n")
end

local function bundle_of(value)
  local meta = (type(value) == "table" or type(value) == "userdata") and getmetatable(value)
  local show = type(meta) == "table" and meta.__display
  return show and show(value, { rich = true, width = 80, color = false }) or {}
end

-- Lines for the page: a drawing where there is one, else text where the example does not say its result itself.
local function result(entry)
  local code = entry.example:gsub("%s*%-%->[^\n]*$", "")
  -- Of an object that is only asked for something the object is the sight.
  local whole = code:gsub("^(.-return )#", "%1"):gsub("^#", ""):gsub("%)%.kind$", ")"):gsub("%)%.data%.[%w_.]+$", ")")
  local ok, value, printed = pcall(run, whole)
  if not ok then return {} end
  local bundle = bundle_of(value)
  if bundle["image/svg+xml"] then
    local picture = entry.name:gsub("[^%w._]", "-") .. ".svg"
    write("reference/" .. picture, bundle["image/svg+xml"])
    return { "", ("![What the example of %s draws](%s)"):format(entry.name, picture) }
  end
  if entry.example:find("-->", 1, true) and printed == "" then return {} end
  local text = printed
  if value ~= nil then text = text .. (text ~= "" and "\n" or "") .. (bundle["text/plain"] or tostring(value)) end
  if text == "" or #text > 4000 or text:find("0x%x%x%x") then return {} end
  return { "", "gives", "", "```text", text, "```" }
end

-- ---- PyTorch ----

local elsewhere, known, torch = {}, {}, {}
for line in io.lines(table_path) do
  local name, there, note = line:match("^([^#\t][^\t]*)\t([^\t]+)\t?(.*)$")
  if name then
    elsewhere[#elsewhere + 1] = { name, there, note }
    known[name] = there
    if not registry.find(name) then error(table_path .. " names " .. name .. ", which is not there") end
    if there:find("^torch") then torch[#torch + 1] = { there, name, note } end
  end
end
-- ---- pages ----

local chapters, paged = reference.chapters(), {}
for _, chapter in ipairs(chapters) do
  for _, section in ipairs(chapter.sections) do
    for _, entry in ipairs(section) do paged[entry.name] = true end
  end
end


local function page_of(entry, chapter, following)
  local lines = { "# " .. entry.name, "" }
  local function add(...)
    for _, line in ipairs { ... } do lines[#lines + 1] = line end
  end
  if entry.signature then add("```lua", entry.signature, "```", "") end
  local whole = reference.markdown(entry, 2)
  add(plain(entry.doc or ""), "")
  local rows = whole:match("\n(| parameter.-)\n\n") or whole:match("\n(| parameter.*)$")
  if rows then add((rows:gsub("<", "&lt;")), "") end
  if entry.derivative then add("Derivative: " .. plain(entry.derivative), "") end
  if entry.no_grad then add("No gradient: " .. plain(entry.no_grad) .. ".", "") end
  if entry.example then
    add("## Example", "", "```lua", entry.example, "```")
    add(table.unpack(result(entry)))
    add("")
  end
  local there = known[entry.name]
  if there and there ~= "-" then
    -- The last part too, which is what people search for.
    add(("Elsewhere: %s, `%s`."):format(there:match("[%w_]+$") or there, there), "")
  end
  if entry.source then add("Source: " .. plain(entry.source) .. ".", "") end
  local see = {}
  for _, name in ipairs(entry.see or {}) do
    local found = registry.find(name)
    see[#see + 1] = found and paged[found.name] and link(found.name) or ("`%s`"):format(name)
  end
  if #see > 0 then add("See also " .. table.concat(see, ", ") .. ".", "") end
  add("---", "", ("Chapter [%s](%s)"):format(chapter.title, "index-" .. file_of(chapter.topic.name)) ..
    (following and ". Next: " .. following or "."), "")
  return table.concat(lines, "\n")
end

local function brief(entry)
  local doc = entry.doc or ""
  return plain((doc:match("^(.-[^.])%.%s") or doc):gsub("\n", " "):gsub("|", "\\|"))
end

local function chapter_page(chapter, following)
  local lines = { "# " .. chapter.title, "", plain(chapter.topic.doc or ""), "" }
  if chapter.topic.example then
    for _, line in ipairs { "```lua", chapter.topic.example, "```", "" } do lines[#lines + 1] = line end
  end
  for _, section in ipairs(chapter.sections) do
    lines[#lines + 1] = "## " .. section.title
    lines[#lines + 1] = "\n| | |\n|---|---|"
    for _, entry in ipairs(section) do
      lines[#lines + 1] = ("| %s | %s |"):format(link(entry.name), brief(entry))
    end
    lines[#lines + 1] = ""
  end
  lines[#lines + 1] = "---\n\n" .. (following and "Next: " .. following or "Back to the [reference](index.md).") .. "\n"
  return table.concat(lines, "\n")
end

local index = { "# Reference", "",
  "Each public name has a page; the search finds it. At the prompt `?name` shows the same.", "" }
for c, chapter in ipairs(chapters) do
  local next_chapter = chapters[c + 1]
  local to_chapter = next_chapter and
    ("[%s](%s)"):format(next_chapter.title, "index-" .. file_of(next_chapter.topic.name))
  write("reference/index-" .. file_of(chapter.topic.name), chapter_page(chapter, to_chapter))
  index[#index + 1] = ("- [%s](index-%s): %s"):format(chapter.title, file_of(chapter.topic.name), brief(chapter.topic))
  local list = {}
  for _, section in ipairs(chapter.sections) do
    for _, entry in ipairs(section) do list[#list + 1] = entry end
  end
  for i, entry in ipairs(list) do
    write("reference/" .. file_of(entry.name), page_of(entry, chapter, list[i + 1] and link(list[i + 1].name) or
      to_chapter))
  end
end
index[#index + 1] = "\nNext: [what names are called in PyTorch](../pytorch.md).\n"
write("reference/index.md", table.concat(index, "\n"))

-- ---- coming from PyTorch ----

local missing = {}
for _, entry in ipairs(names) do
  local kind = entry.kind
  if not known[entry.name] and kind ~= "topic" and kind ~= "variable" and kind ~= "setting" and kind ~= "settings" then
    missing[#missing + 1] = entry.name
  end
end
if #missing > 0 then io.stderr:write(table_path, " says nothing of: ", table.concat(missing, " "), "\n") end

local function row(a, b, note)
  return ("| %s | %s | %s |"):format(a, b, plain((note:gsub("|", "\\|"))))
end

local lines = {}
for line in io.lines(folder .. "/pytorch.md") do lines[#lines + 1] = line end
table.sort(torch, function(a, b) return a[1] < b[1] end)
lines[#lines + 1] = "\n## From PyTorch to nablua\n\n| PyTorch | nablua | |\n|---|---|---|"
for _, r in ipairs(torch) do lines[#lines + 1] = row(("`%s`"):format(r[1]), link(r[2], "reference/"), r[3]) end
lines[#lines + 1] = "\n## From nablua to PyTorch\n\n| nablua | PyTorch and its companions | |\n|---|---|---|"
for _, r in ipairs(elsewhere) do
  lines[#lines + 1] = row(link(r[1], "reference/"), r[2] == "-" and "–" or ("`%s`"):format(r[2]), r[3])
end
lines[#lines + 1] = "\nNext: [the architecture](architecture.md).\n"
write("pytorch.md", table.concat(lines, "\n"))
