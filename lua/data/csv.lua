-- SPDX-License-Identifier: MIT
-- data.csv: tables of text as columns of numbers and of classes, and as the x and y that a net takes.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local csv = {}  -- what data.csv_chunks shares

local AUTO, TEXT, SKIP = 0, 2, 3  -- of the C reader's kinds
local MOST_LABELS = 256  -- that become columns of x
local SHOWN = 40  -- columns that print shows

local function fail(format, ...)
  native.raise("csv: " .. format:format(...))
end

-- ---- names ----

local function shown(text)
  return native.text_shown(text, 60)
end

-- The first few of a list of names, as a sentence has them.
local function some(names)
  local parts = {}
  for k = 1, math.min(#names, 3) do parts[k] = shown(names[k]) end
  return table.concat(parts, ", ") .. (#names > 3 and (" and %d more"):format(#names - 3) or "")
end

-- names[i] == name where places[name] == i.
local function places_of(names)
  local places = {}
  for i = #names, 1, -1 do places[names[i]] = i end
  return places
end

-- The place of a column given by name or number (negative from the end).
local function place_of(names, places, key, what)
  if math.type(key) == "integer" then
    local i = key < 0 and #names + 1 + key or key
    if i < 1 or i > #names then fail("%s names column %d, the file has %d", what, key, #names) end
    return i
  end
  if type(key) ~= "string" then
    fail("%s must name columns by name or number, got %s", what, options.describe(key))
  end
  if places[key] then return places[key] end
  local near = options.nearest(key, names)
  fail("%s names a column %q that the file does not have; %s", what, shown(key),
    near and ('did you mean "%s"?'):format(shown(near)) or "there are " .. some(names))
end

local function as_list(value)
  return type(value) == "table" and value or { value }
end

-- The names in the file: columns without one are called c1, c2, ..., those named like another a.1, a.2, as in pandas.
local function name_columns(found, first, count, notes)
  local names, taken, unnamed, again = {}, {}, {}, {}
  for i = first, count do
    if found[i] and found[i] ~= "" then taken[found[i]] = (taken[found[i]] or 0) + 1 end
  end
  local used, next_number = {}, {}
  for i = first, count do
    local k = i - first + 1
    local given = found[i] and found[i] ~= "" and found[i] or "c" .. k
    local name, n = given, next_number[given] or 1
    while used[name] or (name ~= given and taken[name]) do
      name, n = given .. "." .. n, n + 1
    end
    next_number[given], used[name], names[k] = n, true, name
    if found[i] == "" then unnamed[#unnamed + 1] = name end
    if found[i] and found[i] ~= "" and name ~= given then again[#again + 1] = name end
  end
  if #unnamed > 0 then notes:add(unnamed, "no name in the file") end
  if #again > 0 then notes:add(again, "named like a column before") end
  return names
end

-- What the options say of each column: which are read, and which hold labels (with their order, where given).
local function choose(o, found, file, notes)
  local first, names = file.row_names and 2 or 1, o.names
  if o.names and #o.names == file.count then first = 1 end
  local count = file.count - first + 1
  if names then
    if #names ~= count then fail("names has %d entries, %s has %d columns", #names, shown(o.path), count) end
    local places = places_of(names)
    for i, name in ipairs(names) do
      if places[name] ~= i then fail("names has %s at %d and %d", options.describe(name), places[name], i) end
    end
  else
    names = name_columns(found, first, file.count, notes)
  end
  local places = places_of(names)
  local plan = { names = names, places = places, first = first, order = {}, kinds = {}, labels = {}, targets = {} }
  if first == 2 then plan.kinds[1] = TEXT end
  local function kind(i, value)
    if value then plan.kinds[i + first - 1] = value end
    return plan.kinds[i + first - 1]
  end
  for i = 1, count do kind(i, o.columns and SKIP or AUTO) end
  for k, key in ipairs(o.columns or {}) do
    plan.order[k] = place_of(names, places, key, "columns")
    kind(plan.order[k], AUTO)
  end
  for k, key in ipairs(o.target ~= nil and as_list(o.target) or {}) do
    local i = place_of(names, places, key, "target")
    plan.targets[k] = names[i]
    if kind(i) == SKIP then plan.order[#plan.order + 1] = i end
    kind(i, AUTO)
  end
  if not o.columns then
    for i = 1, count do plan.order[i] = i end
  end
  for key, labels in pairs(o.categories or {}) do
    local listed = type(labels) ~= "table"
    local i = place_of(names, places, listed and labels or key, "categories")
    if kind(i) ~= SKIP then kind(i, TEXT) end
    if not listed then plan.labels[i] = labels end
  end
  return plan
end

-- ---- what was guessed ----

-- Sentences for print(t), each once for all columns that it is true of; those in doubt are told at once too.
local Notes = {}
Notes.__index = Notes

function Notes:say(sentence, doubtful)
  self[#self + 1] = sentence
  if doubtful then self.doubts[#self.doubts + 1] = sentence end
end

function Notes:add(names, what, doubtful)
  self:say(("%s: %s"):format(some(names), what), doubtful)
end

-- Collects a column for a sentence that Notes:finish makes.
function Notes:column(name, what, doubtful)
  local names = self.of[what]
  if not names then
    names = { doubtful = doubtful }
    self.of[what], self.order[#self.order + 1] = names, what
  end
  names[#names + 1] = name
end

function Notes:finish(path)
  for _, what in ipairs(self.order) do self:add(self.of[what], what, self.of[what].doubtful) end
  for _, sentence in ipairs(self.doubts) do
    io.stderr:write(("nablua: data.csv: %s: %s\n"):format(shown(path), sentence))
  end
end

local function new_notes()
  return setmetatable({ of = {}, order = {}, doubts = {} }, Notes)
end

local function note_heading(notes, o, file)
  if file.replaced then
    notes:say("names= stands in place of its first line, which looks like values; header=false keeps it", true)
  elseif file.heading == "data" and o.header == nil then
    notes:say("its first line was taken for values" ..
      (file.doubtful and "; header=true takes it for names" or ", not for names"), file.doubtful)
  elseif file.heading == "names" and file.doubtful then
    notes:say("its first line was taken for names; header=false takes it for values", true)
  elseif file.heading == "counts" then
    notes:say(("its first line was passed over: it counts %d rows and names no columns"):format(file.announced))
  end
  if o.delimiter == nil and file.delimiter == " " then notes:say "blanks part its cells" end
  if file.row_names then notes:say "its first column, which has no heading, names the rows: row_names" end
  if file.trailing then notes:say "its lines end with a delimiter" end
end

local part_names = { [","] = "commas", ["."] = "points", [" "] = "blanks", ["'"] = "apostrophes", [""] = "nothing" }

-- Whether all labels are numbers beside a sign, such as "$1,500" and "(20)".
local function are_amounts(labels)
  for _, label in ipairs(labels) do
    if not (label:find "^[-+]?[^%w%s]*%s*%d[%d.,' ]*%s*[^%w%s]*$" and label:find "[$(\128-\255]") then return false end
  end
  return #labels > 0
end

local function note_column(notes, o, c)
  local f = c.form
  if f and not (o.decimal and o.thousands) and (f.decimal ~= "." or f.thousands ~= "") then
    local how = f.decimal == "," and "commas before decimals" or "points before decimals"
    if f.thousands ~= "" then how = how .. ", " .. (part_names[f.thousands] or "blanks") .. " between thousands" end
    local other = f.decimal == "," and 'decimal="."' or 'decimal=","'
    notes:column(c.name, "read with " .. how .. (f.doubtful and "; " .. other .. " reads other numbers" or ""),
      f.doubtful)
  end
  if f and f.percent then notes:column(c.name, "percent: 50% is 0.5") end
  if (c.typographic or 0) > 0 then notes:column(c.name, "some minus signs are dashes of print") end
  if (c.dashes or 0) > 0 then notes:column(c.name, "missing where \"-\", \".\" or \"None\" stands among numbers") end
  if c.labels and not o.categories and are_amounts(c.labels) then
    notes:column(c.name, ("labels, though they look like amounts, such as %q"):format(shown(c.labels[1])), true)
  end
  if (c.numeric or 0) > 0 then
    notes:column(c.name, ("labels, some of which look like numbers (line %d)"):format(c.first_numeric))
  end
end

-- ---- columns ----

-- Labels in order: as numbers where all are, else as text; or as they were given.
function csv.order_labels(found, given, path, name)
  local order = table.move(given or found, 1, #(given or found), 1, {})
  if not given then
    local numbers = true
    for _, label in ipairs(order) do numbers = numbers and tonumber(label) ~= nil end
    table.sort(order, function(a, b)
      if numbers and tonumber(a) ~= tonumber(b) then return tonumber(a) < tonumber(b) end
      return a < b
    end)
  end
  local number = {}
  for k, label in ipairs(order) do number[label] = k end
  local new = { 0 }  -- new[1 + number in the file]
  for k, label in ipairs(found) do
    new[k + 1] = number[label]
    if not number[label] then
      fail("%s: column %s has the label \"%s\", which is not among those given: %s", shown(path), shown(name),
        shown(label), shown(table.concat(order, ", ")))
    end
  end
  return order, new
end

-- Puts the mean, or the commonest label, where values are missing.
local function fill_in(values, labels, gaps)
  local there = gaps:logical_not()
  if not there:any():item() then return values end
  local known = values:masked_select(there)
  local middle = labels and nb.one_hot(known:to("i64"), #labels):sum(1):argmax():item() or known:mean():item()
  return values:masked_fill(gaps, middle)
end

-- "t.csv:3: column n has no value (5 in all, and 2 columns more)".
local function gap_sentence(path, columns)
  local first, more = nil, 0
  for _, c in ipairs(columns) do
    if c.missing > 0 then
      if first then more = more + 1 else first = c end
    end
  end
  if not first then return nil end
  local rest = first.missing > 1 and (", nor do %d other rows"):format(first.missing - 1) or ""
  if more > 0 then rest = rest .. ("; %d other column%s have gaps too"):format(more, more == 1 and "" or "s") end
  return ("%s:%d: column %s has no value%s"):format(shown(path), first.first_missing, shown(first.name), rest)
end

local RULES = "\"drop\" leaves such rows out, \"mean\" puts the mean or the commonest label there, \"nan\" NaN or " ..
  "label 0"

-- Values of columns { name=, values=, labels=, missing=, first_missing= } as a rule for missing ones has them: NaN in
-- numbers, 0 in labels unless it says otherwise.
local function treat_missing(rule, columns)
  local gone
  for _, c in ipairs(columns) do
    if c.missing > 0 then
      local gaps = c.labels and c.values:eq(0) or c.values:isnan()
      if rule == "mean" then
        c.values = fill_in(c.values, c.labels, gaps)
      elseif rule == "drop" then
        gone = gone and gone | gaps or gaps
      end
    end
  end
  if not gone then return 0 end
  local kept = gone:logical_not()
  for _, c in ipairs(columns) do c.values = c.values:masked_select(kept) end
  return gone:sum():item()
end

-- ---- the table ----

local Csv = {}
local meta = { __name = "csv", methods = Csv }

-- x and y are made at once, unless values are missing that nothing was said of.
function meta:__index(key)
  if (key == "x" or key == "y") and rawget(self, "refused") then native.raise(self.refused) end
  return Csv[key]
end

function meta:__len()
  return self.rows
end

local function gaps_text(self, name)
  local missing = self.missing[name]
  if not missing then return "" end
  return ("  %d missing, the first in line %d"):format(missing, self.first_missing[name])
end

local function column_line(self, name)
  local values, labels = self.columns[name], self.categories[name]
  local gaps = gaps_text(self, name)
  if labels then
    local parts = {}
    for k = 1, math.min(#labels, 5) do
      parts[k] = ("%s %d"):format(native.text_shown(labels[k], 40), values:eq(k):sum():item())
    end
    return ("%d label%s"):format(#labels, #labels == 1 and "" or "s"), table.concat(parts, ", ") ..
      (#labels > 5 and ", …" or "") .. gaps
  end
  local s = values:stats()
  if s.nan == values:numel() then return "numbers", gaps end
  if s.nan > 0 then s = values:masked_select(values:isnan():logical_not()):stats() end
  return "numbers", ("%.4g to %.4g  mean %.4g%s"):format(s.min, s.max, s.mean, gaps)
end

function meta:__tostring()
  local rows, width, kind_width = {}, 0, 0
  for i = 1, math.min(#self.names, SHOWN) do
    local kind, text = column_line(self, self.names[i])
    local name = shown(self.names[i])
    rows[i] = { name, kind, text }
    width, kind_width = math.max(width, native.width(name)), math.max(kind_width, #kind)
  end
  local function count(n, what) return ("%d %s%s"):format(n, what, n == 1 and "" or "s") end
  local lines = { ("%s: %s, %s"):format(shown(self.path:match("[^/]*$")), count(self.rows, "row"),
    count(#self.names, "column")) }
  for i, row in ipairs(rows) do
    lines[i + 1] = ("  %s  %s  %s"):format(native.pad(row[1], width), native.pad(row[2], kind_width),
      row[3]):gsub("%s+$", "")
  end
  if #self.names > SHOWN then
    local gaps = 0
    for i = SHOWN + 1, #self.names do
      if self.missing[self.names[i]] then gaps = gaps + 1 end
    end
    lines[#lines + 1] = ("  … %d more%s"):format(#self.names - SHOWN,
      gaps > 0 and (", %d of them with missing values"):format(gaps) or "")
  end
  for _, note in ipairs(self.notes) do lines[#lines + 1] = "  guessed: " .. note end
  if self.dropped > 0 then
    lines[#lines + 1] = ("  %s with missing values left out"):format(count(self.dropped, "row"))
  end
  return table.concat(lines, "\n")
end

-- The columns of these names or numbers, as lists that treat_missing takes.
local function columns_of(self, names)
  local columns = {}
  self.places = self.places or places_of(self.names)
  for k, key in ipairs(names) do
    local name = self.names[place_of(self.names, self.places, key, "matrix")]
    columns[k] = { name = name, values = self.columns[name], labels = self.categories[name],
      missing = self.missing[name] or 0, first_missing = self.first_missing[name] }
  end
  return columns
end

-- Columns side by side, and the names of what came of them.
local function join(self, columns)
  local parts, titles = {}, {}
  for _, c in ipairs(columns) do
    if c.labels and #c.labels > MOST_LABELS then
      fail("column %s has %d different labels, too many to give each a column of its own (at most %d); choose the " ..
        "columns: columns={...}", shown(c.name), #c.labels, MOST_LABELS)
    end
    for k, label in ipairs(c.labels or { false }) do
      parts[#parts + 1] = label and c.values:eq(k):to(self.dtype) or c.values
      titles[#titles + 1] = label and c.name .. "=" .. label or c.name
    end
  end
  if #parts == 0 then return nb.zeros(self.rows, 0, { dtype = self.dtype }), titles end
  return nb.stack(parts, 2), titles
end

-- x, y and what belongs to them.
local function add_target(self, o, plan)
  local features, is_target = {}, {}
  for _, target in ipairs(plan.targets) do is_target[target] = true end
  for _, name in ipairs(self.names) do
    if not is_target[name] then features[#features + 1] = name end
  end
  local labels = self.categories[plan.targets[1]]
  if labels and #plan.targets > 1 then fail("target names %d columns; of labels there can be one", #plan.targets) end
  local gaps = not o.missing and gap_sentence(self.path, columns_of(self, self.names))
  if gaps then
    self.refused = ("%s; %s(%q, { target = %s, missing = \"drop\" }) gives x and y: %s"):format(gaps, self.reader,
      shown(self.path:match("[^/]*$")), options.show(o.target), RULES)
    return
  end
  self.x, self.features = join(self, columns_of(self, features))
  if labels then
    self.y, self.classes = self.columns[plan.targets[1]], labels
  else
    self.y = join(self, columns_of(self, plan.targets))
  end
end

local missing_param = { name = "missing", choices = { "error", "drop", "mean", "nan" }, optional = true,
  doc = "what a missing value means: an error, no row, the mean or commonest label, NaN or label 0; if not given, " ..
    "reading goes on with NaN or label 0 and x, y and matrix refuse it" }

local params = {
  { name = "path", type = "string", doc = "plain or gzip" },
  { name = "target", type = "any", optional = true,
    doc = "the column to predict, by name or number: gives y, and x of the others" },
  { name = "columns", type = "table", optional = true, doc = "which columns to read, by name or number" },
  { name = "categories", type = "table", optional = true,
    doc = "columns that hold labels, even if they look like numbers; color={\"red\", \"green\"} sets their order" },
  missing_param,
  { name = "na", type = "strings", default = { "", "NA", "N/A", "NaN", "nan", "null", "?", "n/a", "NULL", "<NA>",
    "#N/A", "#NA", "-nan", "-NaN" }, doc = "how a missing value is written" },
  { name = "header", type = "boolean", optional = true,
    doc = "whether the first line holds names; found by what stands below it if not given" },
  { name = "names", type = "strings", optional = true, doc = "names of all columns, in place of the header's" },
  { name = "delimiter", type = "string", optional = true,
    doc = "one character, \" \" for runs of blanks; found in the first lines if not given" },
  { name = "quote", type = "string", default = "\"", doc = "one character, or \"\" for none" },
  { name = "decimal", choices = { ".", "," }, optional = true,
    doc = "what stands before a fraction; found in the numbers if not given" },
  { name = "thousands", type = "string", optional = true,
    doc = "what parts the digits of large numbers, such as \",\", or \"\" for nothing; found if not given" },
  { name = "skip", type = "count", default = 0, doc = "lines to pass over at the start" },
  { name = "dtype", choices = { "f32", "f64" }, default = "f32" },
}

local function check_marks(o)
  for _, name in ipairs { "delimiter", "quote" } do
    local text = o[name]
    if text and (#text > 1 or (name == "delimiter" and #text == 0) or text:find("[\r\n\0]")) then
      fail("%s must be one character, got %s", name, options.describe(text))
    end
  end
  local mark = o.thousands
  if mark and mark ~= "" and (utf8.len(mark) ~= 1 or mark:find("[%w%c+-]")) then
    fail("thousands must be one character that is no digit, or \"\", got %s", options.describe(mark))
  end
  if mark and mark ~= "" and mark == (o.decimal or ".") then
    fail("thousands and decimal must differ, both are %s", options.describe(mark))
  end
end

-- A column of labels as numbers in the order in which they were found, 0 where missing.
function csv.found_numbers(c)
  return (c.missing > 0 and c.values:masked_fill(c.values:isnan(), 0) or c.values):to "i64"
end

-- A column of labels: their numbers in the order of the labels, 0 where missing.
local function number_labels(c, given, path)
  local new
  c.labels, new = csv.order_labels(c.labels, given, path, c.name)
  c.values = nb.tensor(new, { dtype = "i64" }):index_select(1, csv.found_numbers(c) + 1)
end

-- What the reader asks when it has seen the first lines: which columns are read, and as what.  `told` gets the plan.
function csv.asker(o, notes, told)
  return function(names, file)
    local plan = choose(o, names, file, notes)
    file.row_names = plan.first == 2
    file.replaced = o.names and o.header == nil and file.heading == "data"
    note_heading(notes, o, file)
    plan.file, told.plan = file, plan
    return plan.kinds, file.row_names, file.replaced, told.labels and told.labels(plan)
  end
end

function csv.row_names(plan, found)
  if plan.first ~= 2 then return nil end
  local rows, labels = {}, found[1].labels
  for i, number in ipairs(found[1].values:totable()) do rows[i] = labels[math.tointeger(number)] end
  return rows
end

-- The columns that were asked for, in their order, and the names of the rows.
local function read_columns(o, notes)
  local told = {}
  local found = native.csv_read(o, csv.asker(o, notes, told))
  local plan, columns = told.plan, {}
  for k, i in ipairs(plan.order) do
    local c = found[i + plan.first - 1]
    c.name = plan.names[i]
    note_column(notes, o, c)
    if c.labels then
      number_labels(c, plan.labels[i], o.path)
    else
      c.values = c.values:to(o.dtype)
    end
    columns[k] = c
  end
  return columns, plan, csv.row_names(plan, found)
end

-- Does to all columns what missing= says, and leaves the names of the rows that are left.
local function apply_missing(self, o, columns)
  if o.missing == "error" then
    local gaps = gap_sentence(o.path, columns)
    if gaps then native.raise(("%s; missing=%s"):format(gaps, RULES)) end
  end
  if o.missing ~= "drop" and o.missing ~= "mean" then return end
  local rows = { missing = 0, values = columns[1] and nb.arange(1, #columns[1].values, { dtype = "i64" }) }
  self.dropped = treat_missing(o.missing, rows.values and table.move(columns, 1, #columns, 2, { rows }) or {})
  if self.row_names and self.dropped > 0 then
    local names = self.row_names
    self.row_names = rows.values:totable()
    for i, k in ipairs(self.row_names) do self.row_names[i] = names[k] end
  end
end

-- The table of these columns.
function csv.table_of(o, columns, plan, row_names, notes, reader)
  local self = setmetatable({ path = o.path, names = {}, columns = {}, categories = {}, missing = {},
    first_missing = {}, dtype = o.dtype, rule = o.missing, dropped = 0, row_names = row_names, reader = reader }, meta)
  self.notes = table.move(notes, 1, #notes, 1, {})
  apply_missing(self, o, columns)
  for k, c in ipairs(columns) do
    self.names[k], self.categories[c.name], self.columns[c.name] = c.name, c.labels, c.values
    if c.missing > 0 and (not o.missing or o.missing == "nan") then
      self.missing[c.name], self.first_missing[c.name] = c.missing, c.first_missing
    end
  end
  self.rows = columns[1] and #columns[1].values or 0
  if #plan.targets > 0 then add_target(self, o, plan) end
  return self
end

local function read(o)
  check_marks(o)
  local notes = new_notes()
  local columns, plan, row_names = read_columns(o, notes)
  local announced = plan.file.heading == "counts" and columns[1] and plan.file.announced
  if announced and #columns[1].values ~= announced then
    notes:say(("its first line announces %d rows, there are %d"):format(announced, #columns[1].values), true)
  end
  notes:finish(o.path)
  return csv.table_of(o, columns, plan, row_names, notes, "data.csv")
end

local matrix_params = { missing_param }

local function matrix(self, names, given)
  if given == nil and type(names) == "table" and #names == 0 and next(names) ~= nil then names, given = nil, names end
  names = names or self.names
  if type(names) ~= "table" then fail("matrix needs a list of names, got %s", options.describe(names)) end
  local rule = options.check("csv:matrix", matrix_params, given).missing or self.rule
  local columns = columns_of(self, names)
  if not rule or rule == "error" then
    local gaps = gap_sentence(self.path, columns)
    if gaps then
      native.raise(("%s; t:matrix(names, { missing = \"drop\" }) gives one, or data.csv(%q, { missing = \"drop\" }) " ..
        "for all columns: %s"):format(gaps, shown(self.path:match("[^/]*$")), RULES))
    end
  else
    treat_missing(rule, columns)
  end
  return (join(self, columns))
end

csv.fail, csv.shown, csv.SKIP, csv.params = fail, shown, SKIP, params
csv.check_marks, csv.note_column, csv.new_notes = check_marks, note_column, new_notes

function csv.define(define)
  define("csv", {
    doc = "Reads a CSV file.  The result has `columns` and `names`, `categories` (the labels of columns of text, " ..
      "whose values are numbers from 1 in their order), `rows`, `missing` (how many values a column lacks: NaN, or " ..
      "label 0), `row_names` where rows have names; with target= also x, y, `features` (x's column names) and " ..
      "`classes`.  print shows what was guessed about the file: its delimiter, whether names come first, decimal " ..
      "commas, percent.  x and y are refused while values are missing, until missing= says what they mean.",
    params = params, see = { "csv:matrix", "data.csv_chunks", "data.split", "data.normalize", "data.batches" },
    example = [[
local path = os.tmpname()
local f <close> = io.open(path, "w")
f:write("length,kind\n4.9,setosa\n6.1,virginica\n5.0,setosa\n"):flush()
local iris = data.csv(path, { target = "kind", missing = "drop" })
os.remove(path)
return iris.y  --> {1, 2, 1}]],
    read,
  })

  Csv.matrix = registry.add {
    name = "csv:matrix", kind = "method", signature = "csv:matrix([names], {missing=})", see = { "data.csv" },
    doc = "The columns of a CSV file, or those named, side by side, a row for each of its rows; a column of labels " ..
      "becomes one column of 0 and 1 for each label.  While values are missing it is refused, until missing= " ..
      "(\"drop\", \"mean\" or \"nan\", here or of data.csv) says what they mean.",
    example = [[
local path = os.tmpname()
local f <close> = io.open(path, "w")
f:write("size,color\n1,red\n2,blue\n"):flush()
local t = data.csv(path)
os.remove(path)
return t:matrix()  --> {{1, 0, 1}, {2, 1, 0}}]],
    value = matrix,
  }
end

return csv
