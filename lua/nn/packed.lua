-- SPDX-License-Identifier: MIT
-- Sequences of different lengths without the padding between them, as recurrent layers take them.
--
-- Steps lie one after the other: at each those sequences that are so long, the longest first.  Stretches of steps with
-- as many sequences are matrices of their own, which a recurrent layer passes one by one.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local M = {}

local Packed = { __name = "PackedSequence" }
Packed.__index = Packed
function Packed:__tostring()
  return ("%d sequences of up to %d steps, %d numbers each, packed: %s"):format(self.batch_sizes[1],
    #self.batch_sizes, self.data:size(2), options.describe(self.data))
end
function Packed.__len(self) return self.batch_sizes[1] end

local function define(name, entry)
  local where, f = "nn." .. name, entry[1]
  entry[1] = function(...) return f(options.read(where, entry.params, ...), where) end
  entry.family = "Recurrent layers"
  registry.define(M, "nn.", name, entry)
end

-- The stretches of steps that have as many sequences: { first =, steps =, count = }.
local function stretches(batch_sizes)
  local list = {}
  for t, count in ipairs(batch_sizes) do
    local last = list[#list]
    if last and last.count == count then
      last.steps = last.steps + 1
    else
      list[#list + 1] = { first = t, steps = 1, count = count }
    end
  end
  return list
end

-- The lengths as a list of whole numbers, and as many as there are sequences.
local function lengths_of(where, given, batch, most)
  local list = nb.is_tensor(given) and given:flatten():totable() or given
  if type(list) ~= "table" or #list ~= batch then
    native.raise(("%s: lengths must be a number for each of %d sequences, got %s"):format(where, batch,
      type(list) == "table" and #list or options.describe(given)))
  end
  local out = {}
  for i, n in ipairs(list) do
    out[i] = math.tointeger(n)
    if not out[i] or out[i] < 1 or out[i] > most then
      native.raise(("%s: length %d must be a whole number from 1 to %d, got %s"):format(where, i, most,
        options.show(n)))
    end
  end
  return out
end

define("pack_padded_sequence", {
  doc = "Padded sequences without what lies behind their lengths, for nn.RNN, nn.LSTM and nn.GRU: a table of " ..
    "data, batch_sizes, sorted_indices and unsorted_indices.  Steps beyond a sequence cost nothing and change no " ..
    "state.",
  params = { { name = "x", type = "tensor", doc = "length × batch × features" },
    { name = "lengths", type = "any", doc = "a list or vector of a number for each sequence" },
    { name = "batch_first", type = "boolean", default = false, positional = true,
      doc = "x is batch × length × features" },
    { name = "enforce_sorted", type = "boolean", default = false, positional = true,
      doc = "lengths that do not fall are an error" } },
  see = { "nn.pad_packed_sequence", "nn.pad_sequence" }, example = [[
local x = nn.pad_sequence{ nb.ones(2, 3), nb.ones(5, 3) }
local y, h = nn.GRU(3, 4)(nn.pack_padded_sequence(x, {2, 5}))
return (nn.pad_packed_sequence(y)).shape  --> {5, 2, 4}]],
  function(o, where)
    local x = o.x
    if x:dim() < 2 then
      native.raise(("%s: x must be length × batch × features, got shape %s"):format(where, options.shape(x)))
    end
    if o.batch_first then x = x:transpose(1, 2) end
    local lengths = lengths_of(where, o.lengths, x:size(2), x:size(1))
    local order = {}
    for i = 1, #lengths do order[i] = i end
    table.sort(order, function(a, b) return lengths[a] > lengths[b] or lengths[a] == lengths[b] and a < b end)
    for i, k in ipairs(order) do
      if o.enforce_sorted and k ~= i and lengths[k] ~= lengths[i] then
        native.raise(("%s: length %d, %d, is more than one before; enforce_sorted=false sorts them"):format(where, k,
          lengths[k]))
      end
    end
    local index = nb.tensor(order, { dtype = "i64" })
    local sorted = x:index_select(2, index)
    local parts, batch_sizes, first = {}, {}, 1
    for i = #order, 1, -1 do
      local n = lengths[order[i]]
      if n >= first then
        local part = sorted:narrow(1, first, n - first + 1):narrow(2, 1, i)
        parts[#parts + 1] = part:flatten(1, 2)
        for t = first, n do batch_sizes[t] = i end
        first = n + 1
      end
    end
    return setmetatable({ data = nb.cat(parts, 1), batch_sizes = batch_sizes, sorted_indices = index,
      unsorted_indices = index:argsort() }, Packed)
  end,
})

define("pad_packed_sequence", {
  doc = "The padded sequences of packed ones, and their lengths.",
  params = { { name = "packed", type = "any", doc = "what nn.pack_padded_sequence or a recurrent layer gave" },
    { name = "batch_first", type = "boolean", default = false, positional = true,
      doc = "gives batch × length × features" },
    { name = "padding_value", type = "number", default = 0, positional = true },
    { name = "total_length", type = "size", optional = true, doc = "at least the longest" } },
  see = { "nn.pack_padded_sequence" }, example = [[
local packed = nn.pack_padded_sequence(nb.tensor{{{1}, {2}}, {{3}, {0}}}, {2, 1})
return select(2, nn.pad_packed_sequence(packed))  --> {2, 1}]],
  function(o, where)
    local p = o.packed
    if getmetatable(p) ~= Packed then
      native.raise(("%s: needs packed sequences, got %s"):format(where, options.describe(p)))
    end
    local batch, length, at, parts = p.batch_sizes[1], #p.batch_sizes, 1, {}
    local total = o.total_length or length
    if total < length then
      native.raise(("%s: total_length must be at least %d, got %d"):format(where, length, total))
    end
    local rest = p.data.shape
    table.remove(rest, 1)
    local lengths = {}
    for _, s in ipairs(stretches(p.batch_sizes)) do
      local part = p.data:narrow(1, at, s.steps * s.count):view(s.steps, s.count, table.unpack(rest))
      at = at + s.steps * s.count
      if s.count < batch then
        local none = nb.full({ s.steps, batch - s.count, table.unpack(rest) }, o.padding_value, { dtype = part.dtype })
        part = nb.cat({ part, none }, 2)
      end
      parts[#parts + 1] = part
      for i = 1, s.count do lengths[i] = s.first + s.steps - 1 end
    end
    if total > length then
      parts[#parts + 1] = nb.full({ total - length, batch, table.unpack(rest) }, o.padding_value,
        { dtype = p.data.dtype })
    end
    local x = nb.cat(parts, 1):index_select(2, p.unsorted_indices)
    local n = nb.tensor(lengths, { dtype = "i64" }):index_select(1, p.unsorted_indices)
    return o.batch_first and x:transpose(1, 2) or x, n
  end,
})

-- ---- a recurrent layer over them ----

local function rows(t, first, count) return t and t:narrow(1, first, count) end

local function cat_if(a, b) return a and nb.cat({ a, b }, 1) end

-- One direction of one layer over packed data: pass(x, h, c) → all h, last h, last c of a stretch.
function Packed.pass(data, batch_sizes, reverse, h0, c0, pass)
  local list, at, parts = stretches(batch_sizes), 1, {}
  for _, s in ipairs(list) do
    s.at = at
    at = at + s.steps * s.count
  end
  local n = #list
  local h, c, ended_h, ended_c
  for k = reverse and n or 1, reverse and 1 or n, reverse and -1 or 1 do
    local s = list[k]
    if not h then
      h, c = rows(h0, 1, s.count), rows(c0, 1, s.count)
    elseif reverse then  -- sequences that end here begin
      local before = h:size(1)
      h = nb.cat({ h, rows(h0, before + 1, s.count - before) }, 1)
      c = cat_if(c, c0 and rows(c0, before + 1, s.count - before))
    else  -- those that have ended keep their state
      local gone = h:size(1) - s.count
      local last_h, last_c = rows(h, s.count + 1, gone), rows(c, s.count + 1, gone)
      ended_h = ended_h and nb.cat({ last_h, ended_h }, 1) or last_h
      ended_c = c and (ended_c and nb.cat({ last_c, ended_c }, 1) or last_c)
      h, c = rows(h, 1, s.count), rows(c, 1, s.count)
    end
    local x = data:narrow(1, s.at, s.steps * s.count):view(s.steps, s.count, -1)
    local all
    all, h, c = pass(x, h, c)
    parts[k] = all:flatten(1, 2)
  end
  if ended_h then h, c = nb.cat({ h, ended_h }, 1), c and nb.cat({ c, ended_c }, 1) end
  return nb.cat(parts, 1), h, c
end

-- The same packing with other data.
function Packed.with(packed, data)
  return setmetatable({ data = data, batch_sizes = packed.batch_sizes, sorted_indices = packed.sorted_indices,
    unsorted_indices = packed.unsorted_indices }, Packed)
end

return M
