-- SPDX-License-Identifier: MIT
-- data.csv_chunks: a table of text that is larger than memory, in pieces, and batches of them.
local native = require "nablua.native"
local nb = require "nablua.core"
local csv = require "nablua.data.csv"
local options = require "nablua.options"

local chunks = {}
local fail = csv.fail

-- ---- pieces ----

local Chunks = { __name = "csv chunks" }
Chunks.__index = Chunks

function Chunks:__tostring()
  local count = self.rows and (" of %d"):format(self.rows) or ""
  return ("%s: pieces of %d rows%s, %d columns"):format(csv.shown(self.path:match "[^/]*$"), self.size, count,
    #self.names)
end

-- Lists of labels by column, where they are known before reading.
local function labels_of(self)
  return function(plan)
    local lists = {}
    for i, list in pairs(self.scanned or plan.labels) do
      if plan.kinds[i + plan.first - 1] ~= csv.SKIP then lists[i + plan.first - 1] = list end
    end
    self.given = lists
    return lists
  end
end

local function check_lists(o)
  for name, list in pairs(o.categories or {}) do
    local seen = {}
    for k, label in ipairs(type(list) == "table" and list or {}) do
      if type(label) ~= "string" or seen[label] then
        fail("entry %d of the labels of %s must be a text that is there once, got %s", k, csv.shown(tostring(name)),
          options.describe(label))
      end
      seen[label] = true
    end
  end
end

local function open(self, notes)
  local told = { labels = labels_of(self) }
  local handle = native.csv_open(self.options, csv.asker(self.options, notes, told))
  return { handle = handle, plan = told.plan, given = self.given, orders = {}, notes = notes, first = true }
end

-- A column of labels by number: in the order that was given, or of the labels of the first piece, as data.csv has them.
local function number_labels(self, reader, i, c)
  local place = i + reader.plan.first - 1
  local order = reader.orders[i]
  if not order and reader.given[place] then
    order = { labels = reader.given[place] }
  elseif not order and #c.labels > 0 then
    local labels, new = csv.order_labels(c.labels, nil, self.path, c.name)
    order = { labels = labels, new = nb.tensor(new, { dtype = "i64" }) }
  end
  reader.orders[i] = order
  local places = csv.found_numbers(c)
  c.labels = order and order.labels or {}
  c.values = order and order.new and order.new:index_select(1, places + 1) or places
end

-- The next piece; nil at the end.
local function next_piece(self, reader)
  local plan = reader.plan
  local found = native.csv_some(reader.handle, self.size, true)
  if not found then
    native.csv_close(reader.handle)
    return nil
  end
  local columns = {}
  for k, i in ipairs(plan.order) do
    local c = found[i + plan.first - 1]
    c.name = plan.names[i]
    if reader.first and not reader.given[i + plan.first - 1] then csv.note_column(reader.notes, self.options, c) end
    if c.labels or reader.given[i + plan.first - 1] then
      number_labels(self, reader, i, c)
    else
      c.values = c.values:to(self.options.dtype)
    end
    columns[k] = c
  end
  reader.first = false
  return csv.table_of(self.options, columns, plan, csv.row_names(plan, found), {}, "data.csv_chunks")
end

-- The piece after `previous`, or the first: a loop begins anew, and the reader under way is found by what it gave last.
function Chunks:__call(_, previous)
  local reader = previous and self.readers[previous]
  if previous then self.readers[previous] = nil end
  if previous and not reader then return nil end
  reader = reader or open(self, csv.new_notes())
  local piece = next_piece(self, reader)
  if piece then self.readers[piece] = reader end
  return piece
end

-- Reads all once: the labels of each column in order, and how many rows there are.
local function scan(self)
  local notes, told = csv.new_notes(), { labels = labels_of(self) }
  local handle <close> = setmetatable({ native.csv_open(self.options, csv.asker(self.options, notes, told)) },
    { __close = function(h) native.csv_close(h[1]) end })
  local plan, rows = told.plan, 0
  local found, lists
  repeat
    found, lists = native.csv_some(handle[1], self.size, false)
    local first = found and plan.order[1] and found[plan.order[1] + plan.first - 1]
    rows = rows + (first and #first.values or 0)
  until not found
  self.scanned = {}
  for _, i in ipairs(plan.order) do
    local list = lists[i + plan.first - 1]
    self.scanned[i] = plan.labels[i] or list and (csv.order_labels(list, nil, self.path, plan.names[i]))
  end
  if self.options.missing ~= "drop" then self.rows = rows end
end

local function new(o)
  csv.check_marks(o)
  check_lists(o)
  if o.missing == "mean" then
    fail("missing=\"mean\" needs the whole table; of pieces say \"drop\" or \"nan\", or replace NaN in each piece")
  end
  local self = setmetatable({ path = o.path, options = o, size = o.chunk,
    readers = setmetatable({}, { __mode = "k" }) }, Chunks)
  if o.scan then scan(self) end
  -- The first piece tells what the others are.
  local notes = csv.new_notes()
  local reader = open(self, notes)
  local piece = next_piece(self, reader)
  native.csv_close(reader.handle)
  notes:finish(o.path)
  self.names, self.target = {}, o.target
  for k, i in ipairs(reader.plan.order) do self.names[k] = reader.plan.names[i] end
  if piece then
    self.categories = piece.categories
    if not rawget(piece, "refused") then self.features, self.classes = piece.features, piece.classes end
  end
  return self
end

-- ---- batches of pieces ----

local Stream = { __name = "loader" }
Stream.__index = Stream

function Stream:__tostring()
  return ("batches of %d from %s%s"):format(self.size, tostring(self.source),
    self.shuffle and ", shuffled within pieces" or "")
end

local Counted = { __name = "loader", __index = Stream, __tostring = Stream.__tostring }

function Counted:__len()
  local n = self.source.rows / self.size
  return self.last == "drop" and math.floor(n) or math.ceil(n)
end

-- Puts another piece behind what is left of the one before.
local function refill(self, epoch)
  epoch.piece = self.source(nil, epoch.piece)
  if not epoch.piece then return false end
  local parts = self.source.target ~= nil and { epoch.piece.x, epoch.piece.y } or { epoch.piece:matrix() }
  if epoch.left > 0 then
    for k, t in ipairs(parts) do parts[k] = nb.cat({ epoch.parts[k]:narrow(1, epoch.at, epoch.left), t }, 1) end
  end
  local n = #parts[1]
  if self.shuffle then
    local order = nb.randperm(n)
    for k, t in ipairs(parts) do parts[k] = t:index_select(1, order) end
  end
  epoch.parts, epoch.at, epoch.left = parts, 1, n
  return true
end

local function next_batch(self, epoch)
  while epoch.left < self.size and not epoch.ended do epoch.ended = not refill(self, epoch) end
  local n = math.min(self.size, epoch.left)
  if n == 0 or (n < self.size and self.last == "drop") then return nil end
  local out = {}
  -- Copies: a batch that somebody keeps keeps no piece.
  for k, t in ipairs(epoch.parts) do out[k] = t:narrow(1, epoch.at, n):clone() end
  epoch.at, epoch.left = epoch.at + n, epoch.left - n
  return out
end

-- The batch after the one that began with `previous`, as with data.batches.
function Stream:__call(_, previous)
  local epoch = previous and self.epochs[previous] or { left = 0 }
  if previous then self.epochs[previous] = nil end
  local out = nb.no_grad(function() return next_batch(self, epoch) end)
  if not out then return nil end
  if self.transform then out[1] = self.transform(out[1]) end
  self.epochs[out[1]] = epoch
  return table.unpack(out)
end
Counted.__call = Stream.__call

function chunks.is(given)
  return getmetatable(given) == Chunks
end

-- What data.loader gives for such a source.
function chunks.loader(where, o)
  for _, name in ipairs { "sampler", "collate", "n" } do
    if o[name] ~= nil then
      native.raise(("%s: %s= does not go with pieces of a table, whose rows come in order; shuffle=true mixes each " ..
        "piece"):format(where, name))
    end
  end
  return setmetatable({ source = o.source, size = o.size, shuffle = o.shuffle, last = o.last, transform = o.transform,
    epochs = setmetatable({}, { __mode = "k" }) }, o.source.rows and Counted or Stream)
end

local own_params = table.move(csv.params, 1, #csv.params, 1, {})
own_params[#own_params + 1] = { name = "chunk", type = "size", default = 10000, doc = "rows of a piece" }
own_params[#own_params + 1] = { name = "scan", type = "boolean", default = false,
  doc = "read the file once before, to find all labels and to count the rows" }

function chunks.define(define)
  define("csv_chunks", {
    doc = "A CSV file of any size in pieces, each a table as data.csv gives it, for `for t in chunks do`; each loop " ..
      "begins anew.  data.loader(chunks) makes batches of them for nn.fit and nb.run, across pieces, and " ..
      "shuffle=true mixes within each.  What the first piece shows (which columns hold numbers, which labels) holds " ..
      "for all: a value that contradicts it is an error with line and column.  chunks.names, and with target= " ..
      "chunks.features and chunks.classes, are there before a loop.",
    signature = "data.csv_chunks(path, {chunk=10000, scan=false, ...})  as data.csv",
    params = own_params, see = { "data.csv", "data.loader", "data.open" },
    example = [[
local path = os.tmpname()
local f <close> = io.open(path, "w")
f:write("length,kind\n4.9,setosa\n6.1,virginica\n5.0,setosa\n"):flush()
local rows = {}
for t in data.csv_chunks(path, { target = "kind", chunk = 2 }) do rows[#rows + 1] = t.rows end
os.remove(path)
return rows  --> {2, 1}]],
    new,
  })
end

return chunks
