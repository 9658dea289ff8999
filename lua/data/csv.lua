-- SPDX-License-Identifier: MIT
-- data.csv: tables of text as columns of numbers and of classes, and as the x and y that a net takes.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local AUTO, TEXT, SKIP = 0, 2, 3  -- of the C reader's kinds
local MOST_LABELS = 256  -- that become columns of x

local function fail(format, ...)
  native.raise("csv: " .. format:format(...))
end

-- ---- names ----

-- The place of a column given by name or number (negative from the end).
local function place_of(names, key, what)
  if math.type(key) == "integer" then
    local i = key < 0 and #names + 1 + key or key
    if i < 1 or i > #names then fail("%s names column %d, the file has %d", what, key, #names) end
    return i
  end
  if type(key) ~= "string" then
    fail("%s must name columns by name or number, got %s", what, options.describe(key))
  end
  for i, name in ipairs(names) do
    if name == key then return i end
  end
  fail("%s names a column %s that the file does not have%s", what, options.describe(key),
    options.suggestion(key, names))
end

local function as_list(value)
  return type(value) == "table" and value or { value }
end

-- What the options say of each column: which are read, and which hold labels (with their order, where given).
local function choose(o, found, count)
  local names = {}
  for i = 1, count do names[i] = found[i] or "c" .. i end
  if o.names then
    if #o.names ~= count then fail("names has %d entries, %s has %d columns", #o.names, o.path, count) end
    names = o.names
  end
  for i, name in ipairs(names) do
    if type(name) ~= "string" then fail("names must hold strings, entry %d is %s", i, options.describe(name)) end
    for k = 1, i - 1 do
      if names[k] == name then
        fail("%s: columns %d and %d are both named %s; give names=", o.path, k, i, options.describe(name))
      end
    end
  end
  local plan = { names = names, order = {}, kinds = {}, labels = {}, targets = {} }
  for i = 1, count do plan.kinds[i] = o.columns and SKIP or AUTO end
  local function read(i)
    if plan.kinds[i] == SKIP then plan.kinds[i] = AUTO end
  end
  for k, key in ipairs(o.columns or {}) do
    plan.order[k] = place_of(names, key, "columns")
    read(plan.order[k])
  end
  for k, key in ipairs(o.target ~= nil and as_list(o.target) or {}) do
    local i = place_of(names, key, "target")
    plan.targets[k] = names[i]
    if plan.kinds[i] == SKIP then plan.order[#plan.order + 1] = i end
    read(i)
  end
  if not o.columns then
    for i = 1, count do plan.order[i] = i end
  end
  for key, labels in pairs(o.categories or {}) do
    local listed = type(labels) ~= "table"
    local i = place_of(names, listed and labels or key, "categories")
    plan.kinds[i] = plan.kinds[i] ~= SKIP and TEXT or SKIP
    if not listed then plan.labels[i] = labels end
  end
  return plan
end

-- ---- columns ----

-- Labels in order: as numbers where all are, else as text; or as they were given.
local function order_labels(found, given, path, name)
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
      fail("%s: column %s has the label %s, which is not among those given: %s", path, name, options.describe(label),
        table.concat(order, ", "))
    end
  end
  return order, new
end

-- Puts the mean, or the commonest label, where values are missing.
local function fill_in(column)
  local there = column.gaps:logical_not()
  if not there:any():item() then return end
  local values = column.values:masked_select(there)
  local middle = values:mean():item()
  if column.labels then
    middle = nb.one_hot(values:to("i64"), #column.labels):sum(1):argmax():item()
  end
  column.values = column.values:masked_fill(column.gaps, middle)
end

-- Applies the option `missing` to the columns, each with a mask of its gaps.
local function treat_missing(o, columns)
  local gone
  for _, c in ipairs(columns) do
    c.gaps = c.values:isnan()
    if c.first_missing > 0 then
      if o.missing == "error" then
        native.raise(("%s:%d: column %s has no value; missing=\"drop\" leaves such rows out, \"mean\" puts the " ..
          "mean or the commonest label there, \"nan\" NaN or label 0"):format(o.path, c.first_missing, c.name))
      elseif o.missing == "mean" then
        fill_in(c)
      elseif o.missing == "drop" then
        gone = gone and gone | c.gaps or c.gaps
      elseif c.labels then
        c.values = c.values:masked_fill(c.gaps, 0)
      end
    end
  end
  if not gone then return end
  for _, c in ipairs(columns) do c.values = c.values:masked_select(gone:logical_not()) end
end

-- ---- the table ----

local Csv = {}
local meta = { __name = "csv", __index = Csv }

function meta:__len()
  return self.rows
end

local function column_line(self, name)
  local values, labels = self.columns[name], self.categories[name]
  if labels then
    local parts = {}
    for k = 1, math.min(#labels, 5) do
      parts[k] = ("%s %d"):format(labels[k], values:eq(k):sum():item())
    end
    return ("%d label%s"):format(#labels, #labels == 1 and "" or "s"), table.concat(parts, ", ") ..
      (#labels > 5 and ", …" or "")
  end
  local s = values:stats()
  local gaps = s.nan > 0 and ("  %d missing"):format(s.nan) or ""
  if s.nan == values:numel() then return "numbers", gaps end
  if s.nan > 0 then s = values:masked_select(values:isnan():logical_not()):stats() end
  return "numbers", ("%.4g to %.4g  mean %.4g%s"):format(s.min, s.max, s.mean, gaps)
end

function meta:__tostring()
  local rows, width, kind_width = {}, 0, 0
  for i, name in ipairs(self.names) do
    if i > 40 then break end
    local kind, text = column_line(self, name)
    rows[i] = { name, kind, text }
    width, kind_width = math.max(width, native.width(name)), math.max(kind_width, #kind)
  end
  local function count(n, what) return ("%d %s%s"):format(n, what, n == 1 and "" or "s") end
  local lines = { ("%s: %s, %s"):format(self.path:match("[^/]+$"), count(self.rows, "row"),
    count(#self.names, "column")) }
  for i, row in ipairs(rows) do
    lines[i + 1] = ("  %s  %s  %s"):format(native.pad(row[1], width), native.pad(row[2], kind_width),
      row[3]):gsub("%s+$", "")
  end
  if #self.names > 40 then lines[#lines + 1] = ("  … %d more"):format(#self.names - 40) end
  return table.concat(lines, "\n")
end

-- The columns named, side by side, and the names of what came of them.
local function matrix_of(self, names)
  local parts, titles = {}, {}
  for _, key in ipairs(names) do
    local name = self.names[place_of(self.names, key, "matrix")]
    local values, labels = self.columns[name], self.categories[name]
    if labels and #labels > MOST_LABELS then
      fail("column %s has %d different labels, too many to give each a column of its own (at most %d); choose the " ..
        "columns: columns={...}", name, #labels, MOST_LABELS)
    end
    for k, label in ipairs(labels or { false }) do
      parts[#parts + 1] = label and values:eq(k):to(self.dtype) or values
      titles[#titles + 1] = label and name .. "=" .. label or name
    end
  end
  if #parts == 0 then return nb.zeros(self.rows, 0, { dtype = self.dtype }), titles end
  return nb.stack(parts, 2), titles
end

-- x, y and what belongs to them.
local function add_target(self, plan)
  local features = {}
  for _, name in ipairs(self.names) do
    local is_target = false
    for _, target in ipairs(plan.targets) do is_target = is_target or target == name end
    if not is_target then features[#features + 1] = name end
  end
  self.x, self.features = matrix_of(self, features)
  local labels = self.categories[plan.targets[1]]
  if labels and #plan.targets == 1 then
    self.y, self.classes = self.columns[plan.targets[1]], labels
  elseif labels then
    fail("target names %d columns; of labels there can be one", #plan.targets)
  else
    self.y = self:matrix(plan.targets)
  end
end

local params = {
  { name = "path", type = "string", doc = "plain or gzip" },
  { name = "target", type = "any", optional = true,
    doc = "the column to predict, by name or number: gives y, and x of the others" },
  { name = "columns", type = "table", optional = true, doc = "which columns to read, by name or number" },
  { name = "categories", type = "table", optional = true,
    doc = "columns that hold labels, even if they look like numbers; color={\"red\", \"green\"} sets their order" },
  { name = "missing", choices = { "error", "drop", "mean", "nan" }, default = "error",
    doc = "what a missing value means: an error, no row, the mean or commonest label, NaN or label 0" },
  { name = "na", type = "strings", default = { "", "NA", "N/A", "NaN", "nan", "null", "?" },
    doc = "how a missing value is written" },
  { name = "header", type = "boolean", default = true, doc = "whether the first line holds names" },
  { name = "names", type = "strings", optional = true, doc = "names of all columns, in place of the header's" },
  { name = "delimiter", type = "string", optional = true,
    doc = "one character, \" \" for runs of blanks; found in the first line if not given" },
  { name = "quote", type = "string", default = "\"", doc = "one character, or \"\" for none" },
  { name = "skip", type = "count", default = 0, doc = "lines to pass over at the start" },
  { name = "dtype", choices = { "f32", "f64" }, default = "f32" },
}

local function read(o)
  for _, name in ipairs { "delimiter", "quote" } do
    local text = o[name]
    if text and (#text > 1 or (name == "delimiter" and #text == 0) or text:find("[\r\n\0]")) then
      fail("%s must be one character, got %s", name, options.describe(text))
    end
  end
  local plan
  local found = native.csv_read(o.path, o.delimiter, o.quote, o.header, o.skip, o.na, function(names, count)
    plan = choose(o, names, count)
    return plan.kinds
  end)
  local columns = {}
  for k, i in ipairs(plan.order) do
    local c = found[i]
    c.name = plan.names[i]
    if c.labels then
      local new
      c.labels, new = order_labels(c.labels, plan.labels[i], o.path, c.name)
      local places = c.values:masked_fill(c.values:isnan(), 0):to("i64") + 1
      local numbers = nb.tensor(new, { dtype = "f64" }):index_select(1, places)
      c.values = numbers:masked_fill(c.values:isnan(), 0 / 0)
    end
    columns[k] = c
  end
  treat_missing(o, columns)
  local self = setmetatable({ path = o.path, names = {}, columns = {}, categories = {}, dtype = o.dtype }, meta)
  for k, c in ipairs(columns) do
    self.names[k], self.categories[c.name] = c.name, c.labels
    self.columns[c.name] = c.values:to(c.labels and "i64" or o.dtype)
  end
  self.rows = columns[1] and #columns[1].values or 0
  if #plan.targets > 0 then add_target(self, plan) end
  return self
end

return function(define)
  define("csv", {
    doc = "Reads a CSV file.  The result has `columns` and `names`, `categories` (the labels of columns of text, " ..
      "whose values are numbers from 1 in their order), `rows`; with target= also x, y, `features` (x's column " ..
      "names) and `classes`.",
    params = params, see = { "csv:matrix", "data.split", "data.normalize", "data.batches" },
    example = [[
local path = os.tmpname()
local f <close> = io.open(path, "w")
f:write("length,kind\n4.9,setosa\n6.1,virginica\n5.0,setosa\n"):flush()
local iris = data.csv(path, { target = "kind" })
os.remove(path)
return iris.y  --> {1, 2, 1}]],
    read,
  })

  Csv.matrix = registry.add {
    name = "csv:matrix", kind = "method", signature = "csv:matrix([names])", see = { "data.csv" },
    doc = "The columns of a CSV file, or those named, side by side, a row for each of its rows; a column of labels " ..
      "becomes one column of 0 and 1 for each label.",
    example = [[
local path = os.tmpname()
local f <close> = io.open(path, "w")
f:write("size,color\n1,red\n2,blue\n"):flush()
local t = data.csv(path)
os.remove(path)
return t:matrix()  --> {{1, 0, 1}, {2, 1, 0}}]],
    value = function(self, names)
      names = names or self.names
      if type(names) ~= "table" then fail("matrix needs a list of names, got %s", options.describe(names)) end
      return (matrix_of(self, names))
    end,
  }
end
