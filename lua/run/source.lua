-- SPDX-License-Identifier: MIT
-- Where a run has its batches from, so that each can be had again.
--
-- A place in the data is { epoch=, batch= how many of the epoch are done, start= the place in the random numbers at
-- the epoch's begin, sum=, count= of its losses so far }.  A source has next(place, step, again): the batch of that
-- step as table.pack gives it, with how many `samples` it has where that is known, or nil where the epoch is over;
-- `again` says that the step has been done before.  In a group it is this rank's share of the batch.
-- `count` is how many batches an epoch has, where that is known.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local together = require "nablua.dist.together"

local source = {}

-- A copy of a place, in a table that is given or a new one.
function source.copy(place, copy)
  copy = copy or {}
  copy.epoch, copy.batch, copy.start = place.epoch, place.batch, place.start
  copy.sum, copy.count = place.sum, place.count
  return copy
end

-- ---- sets of samples, by their places ----

local Samples = {}
Samples.__index = Samples

local function same_place(a, b)
  return a and a.seed == b.seed and a.counter == b.counter
end

function Samples:new_order()
  return (self.shared and together.order or nb.randperm)(self.samples)
end

-- The order of the samples in an epoch: drawn where it begins, and drawn once more when somebody comes back into it.
local function order_of(self, place)
  if not self.shuffle then return nil end
  if place.batch == 0 then
    self.drawn, self.order = place.start, self:new_order()
  elseif not same_place(self.drawn, place.start) then
    local now = nb.random_state()
    nb.random_state(place.start)
    self.drawn, self.order = place.start, self:new_order()
    nb.random_state(now)
  end
  return self.order
end

function Samples:next(place)
  if place.batch >= self.count then return nil end
  local first = place.batch * self.size + 1
  local last = math.min(first + self.size - 1, self.samples)
  local order, out = order_of(self, place), { n = #self.tensors }
  if self.shared then first, last = together.part(first, last) end
  out.samples = last - first + 1
  local places = order and order[{ { first, last } }]
  for i, t in ipairs(self.tensors) do
    out[i] = places and t:index_select(1, places) or t[{ { first, last } }]
  end
  return out
end

-- ---- streams: what comes is kept ----

local Stream = {}
Stream.__index = Stream

local function bytes_of(batch)
  local bytes = 200
  for i = 1, batch.n do
    local t = batch[i]
    if nb.is_tensor(t) then bytes = bytes + t:numel() * t:element_size() end
  end
  return bytes
end

-- The batches of an epoch that a resumed run has seen are drawn as they were then.
local function pass_over(self, place)
  local now = nb.random_state()
  nb.random_state(place.start)
  for k = 1, place.batch do
    self.previous = self.batches(nil, self.previous)
    if self.previous == nil then
      native.raise(("run: the checkpoint was made after batch %d of an epoch, but the data has %d"):format(place.batch,
        k - 1))
    end
  end
  nb.random_state(now)
end

function Stream:next(place, step, again)
  local known = again and self.log[step]
  if known then
    if known.begins and place.batch > 0 then return nil end
    nb.random_state(known.random)
    return known.batch
  end
  if place.batch > 0 and not self.begun then pass_over(self, place) end
  self.begun = true
  local batch = table.pack(self.batches(nil, place.batch > 0 and self.previous or nil))
  self.previous = batch[1]
  if batch[1] == nil then return nil end
  local bytes = bytes_of(batch)
  self.log[step] = { batch = batch, bytes = bytes, random = nb.random_state(), begins = place.batch == 0 }
  self.bytes = self.bytes + bytes
  return batch
end

-- What is before a step is not needed any more.
function Stream:forget(step)
  for k = self.first, step - 1 do
    if self.log[k] then self.bytes = self.bytes - self.log[k].bytes end
    self.log[k] = nil
  end
  self.first = step
end

-- ---- making them ----

local function is_list_of_tensors(t)
  if type(t) ~= "table" or #t < 1 then return false end
  for i = 1, #t do
    if not nb.is_tensor(t[i]) then return false end
  end
  return true
end

-- Of {x, y}, of what data.batches gives, or of any iterator over batches.
function source.of(given, size, shuffle)
  if is_list_of_tensors(given) then
    given = require("nablua.data").batches { size = size, shuffle = shuffle, table.unpack(given) }
  end
  local meta = getmetatable(given)
  if type(meta) == "table" and meta.__name == "batches" then
    return setmetatable({ tensors = given.tensors, samples = given.count, size = given.size,
      shuffle = given.shuffle, count = #given, shared = given.shard ~= false }, Samples)
  end
  if options.is_callable(given) then
    together.tell_own "nb.run: data"
    return setmetatable({ batches = given, log = {}, first = 1, bytes = 0 }, Stream)
  end
  native.raise("nb.run: data must be {x, y}, what data.batches gives, or an iterator, got " .. options.describe(given))
end

return source
