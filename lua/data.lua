-- SPDX-License-Identifier: MIT
-- data: reading sets of samples, batches of them, and small sets made on the spot.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local data = registry.home "nablua.data"

local function define(name, entry)
  local f = entry[1]
  if entry.params then
    local where, params = name, entry.params
    entry[1] = function(...) return f(options.read(where, params, ...)) end
  end
  registry.define(data, "data.", name, entry)
end

-- ---- batches ----

local Batches = {}
Batches.__index = Batches
Batches.__name = "batches"

function Batches:__len()
  local n = self.count / self.size
  return self.last == "drop" and math.floor(n) or math.ceil(n)
end

function Batches:__tostring()
  local order = (self.shuffle and ", shuffled" or "") .. (self.shard and ", a share for each rank" or "")
  return ("%d batches of %d from %d samples%s"):format(#self, self.size, self.count, order)
end

local function new_order(self)
  if not self.shuffle then return nil end
  if self.shard then return require("nablua.dist.share").order(self.count) end
  return nb.randperm(self.count)
end

-- A new epoch, reshuffled: `for bx, by in batches do` calls this once for each step, with the state
-- that the first call made kept in the control variables of the loop.  Since a generic `for` calls the
-- object itself, the epoch under way is found by the previous first value.
function Batches:__call(_, previous)
  local epoch = previous and self.epochs[previous]
  if previous then self.epochs[previous] = nil end
  if not epoch then epoch = { at = 1, order = new_order(self) } end
  local first, last = epoch.at, math.min(epoch.at + self.size - 1, self.count)
  local share = self.shard and require "nablua.dist.share"
  if first > self.count or (self.last == "drop" and last - first + 1 < self.size) then
    if share then share.weigh(1) end
    return nil
  end
  epoch.at = last + 1
  if share then first, last = share.part(first, last) end
  local out = {}
  for i, t in ipairs(self.tensors) do
    out[i] = epoch.order and t:index_select(1, epoch.order[{ { first, last } }]) or t[{ { first, last } }]
  end
  self.epochs[out[1]] = epoch
  return table.unpack(out)
end

-- The same batches in shares, where that was left open; for nn.fit.
function Batches:in_shares()
  if self.shard ~= nil then return self end
  local shared = { shard = true, epochs = setmetatable({}, { __mode = "k" }) }
  for _, name in ipairs { "tensors", "count", "size", "shuffle", "last" } do shared[name] = self[name] end
  return setmetatable(shared, Batches)
end

local batch_params = {
  { name = "size", type = "size", default = 64, doc = "samples in a batch" },
  { name = "shuffle", type = "boolean", default = false, doc = "draw a new order for each epoch" },
  { name = "last", choices = { "keep", "drop" }, default = "keep", doc = "what becomes of a smaller last batch" },
  { name = "shard", type = "boolean", optional = true,
    doc = "each rank of a group gets its share of every batch, from one order; size is that of all shares together, " ..
      "and where they differ gradients are weighed.  nn.fit does so unless this is false" },
}

define("batches", {
  signature = "data.batches{x, y, size=64, shuffle=false, last=\"keep\", shard=}",
  doc = "Batches of any number of tensors, for `for bx, by in data.batches{x, y} do`; each loop is a new epoch.",
  see = { "nn.fit", "data.split" },
  example = "for bx in data.batches{nb.arange(5), size=2, last=\"drop\"} do assert(#bx == 2) end",
  function(given, ...)
    if select("#", ...) > 0 then
      native.raise("batches: needs one table of tensors and options: data.batches{x, y, size=64}, got more")
    end
    if type(given) ~= "table" or nb.is_tensor(given) then
      native.raise("batches: needs a table: data.batches{x, y, size=64}, got " .. options.describe(given))
    end
    local tensors, named, most = {}, {}, 0
    for key, value in pairs(given) do
      if math.type(key) == "integer" then
        tensors[key], most = value, math.max(most, key)
      else
        named[key] = value
      end
    end
    local self = options.check("batches", batch_params, named)
    if #tensors == 0 then native.raise("batches: there is no tensor; give at least one: data.batches{x, y}") end
    for i = 1, most do
      local t = tensors[i]
      if not nb.is_tensor(t) or #t.shape == 0 then
        native.raise(("batches: entry %d must be a tensor of samples, got %s"):format(i, options.describe(t)))
      end
      if #t ~= #tensors[1] then
        native.raise(("batches: entry %d has %d samples, entry 1 has %d"):format(i, #t, #tensors[1]))
      end
    end
    self.tensors, self.count, self.epochs = tensors, #tensors[1], setmetatable({}, { __mode = "k" })
    return setmetatable(self, Batches)
  end,
})

define("split", {
  signature = "data.split({x, y}, fraction, {shuffle=true})",
  doc = "Two sets of the same samples: the first gets `fraction` of them, the second the rest.",
  example = [[
local train, valid = data.split({ nb.arange(10) }, 0.8)
return #valid[1]  --> 2]],
  params = {
    { name = "tensors", type = "table" }, { name = "fraction", type = "fraction" },
    { name = "shuffle", type = "boolean", default = true, doc = "take samples at random" },
  },
  function(o)
    if #o.tensors == 0 then native.raise("split: there is no tensor") end
    local n = #o.tensors[1]
    local k = math.floor(n * o.fraction + 0.5)
    if o.fraction > 0 and (k == 0 or k == n) then
      native.raise(("split: %g of %d samples leaves the %s set empty; give another fraction"):format(o.fraction, n,
        k == 0 and "first" or "second"))
    end
    local order = o.shuffle and nb.randperm(n) or nb.arange(n, { dtype = "i64" })
    local a, b = {}, {}
    for i, t in ipairs(o.tensors) do
      if not nb.is_tensor(t) or #t ~= n then
        native.raise(("split: entry %d must be a tensor of %d samples, got %s"):format(i, n, options.describe(t)))
      end
      a[i], b[i] = t:index_select(1, order[{ { 1, k } }]), t:index_select(1, order[{ { k + 1, n } }])
    end
    return a, b
  end,
})

define("normalize", {
  doc = "x with mean 0 and standard deviation 1 in each column, and the mean and deviation used; a column of equal " ..
    "numbers becomes 0.",
  example = "(data.normalize(nb.tensor{{1}, {3}}))  --> {{-0.70711}, {0.70711}}",
  params = { { name = "x", type = "tensor" } },
  function(o)
    if o.x:dim() == 0 or #o.x == 0 then
      native.raise("normalize: needs samples, the rows of x, got " .. options.describe(o.x))
    end
    local x, dtype = o.x:to("f64"), o.x.dtype == "f64" and "f64" or "f32"
    local odd = nb.no_grad(function() return x:isfinite():logical_not():nonzero() end)
    if #odd > 0 then
      local place = odd[1]:totable()
      local v = x:at(table.unpack(place))
      native.raise(("normalize: element %s is %s, of which there is no mean (%d such); replace them, or leave their " ..
        "samples out"):format(table.concat(place, ", "), v ~= v and "NaN" or v, #odd))
    end
    local mean, std = x:mean(1, { keepdim = true }), x:std(1, { keepdim = true })
    std = nb.where(std:gt(0), std, 1)  -- of equal numbers, and of a single one
    return ((x - mean) / std):to(dtype), mean:to(dtype), std:to(dtype)
  end,
})

-- ---- files ----

require("nablua.data.csv").define(define)
require("nablua.data.images").define(define)

define("idx", {
  doc = "Reads an IDX file (the format of MNIST), plain or gzip.", signature = "data.idx(path)",
  example = "pcall(data.idx, \"no such file\")  --> false",
  params = { { name = "path", type = "string" } },
  function(o) return native.idx_read(o.path) end,
})

local FASHION = "/usr/share/datasets/fashion-mnist"

define("fashion_mnist", {
  signature = "data.fashion_mnist([folder])",
  doc = "Fashion-MNIST: 60,000 and 10,000 images of clothes, " ..
    "{train={x=u8 60000×28×28, y=i64 1..10}, test=, classes=}.",
  example = "pcall(data.fashion_mnist, \"no such folder\")  --> false",
  params = { { name = "folder", type = "string", default = FASHION, positional = true } },
  function(o)
    local function read(name)
      local path = ("%s/%s.gz"):format(o.folder, name)
      if not native.exists(path) then
        native.raise(("fashion_mnist: %s is not there; install it with: apt install dataset-fashion-mnist, or name " ..
          "the folder that holds it"):format(path))
      end
      return native.idx_read(path)
    end
    local function part(name)
      local x, y = read(name .. "-images-idx3-ubyte"), read(name .. "-labels-idx1-ubyte")
      return { x = x, y = y:to("i64") + 1 }
    end
    return {
      train = part("train"), test = part("t10k"),
      classes = { "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot" },
    }
  end,
})

-- ---- sets made on the spot ----

define("xor", {
  doc = "The four cases of exclusive or: x 4×2, y 4×1.", signature = "data.xor()", params = {},
  example = "select(2, data.xor())  --> {{0}, {1}, {1}, {0}}",
  function()
    return nb.tensor { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }, nb.tensor { { 0 }, { 1 }, { 1 }, { 0 } }
  end,
})

local function points(name, doc, extra, make)
  local params = { { name = "n", type = "size", doc = "points in all" } }
  for _, p in ipairs(extra) do params[#params + 1] = p end
  params[#params + 1] = { name = "noise", type = "non-negative", default = 0.1, doc = "standard deviation added" }
  define(name, {
    doc = doc .. ": x n×2, y class numbers.", params = params,
    example = ("data.%s(30).shape  --> {30, 2}"):format(name),
    function(o)
      local x, y = make(o)
      return x + nb.randn(x.shape) * o.noise, y:to("i64")
    end,
  })
end

-- Class numbers 1..k for n points, as even as can be, in order.
local function even_classes(n, k)
  return ((nb.arange(n) - 1) * k // n) + 1
end

points("moons", "Two interleaved half circles", {}, function(o)
  local y = even_classes(o.n, 2)
  local angle = nb.rand(o.n) * math.pi
  local lower = y:eq(2)
  local a, b = nb.where(lower, 1 - angle:cos(), angle:cos()), nb.where(lower, 0.5 - angle:sin(), angle:sin())
  return nb.stack({ a, b }, 2), y
end)

points("circles", "A circle inside another", {}, function(o)
  local y = even_classes(o.n, 2)
  local angle = nb.rand(o.n) * (2 * math.pi)
  local radius = nb.where(y:eq(2), 0.5, nb.ones(o.n))
  return nb.stack({ radius * angle:cos(), radius * angle:sin() }, 2), y
end)

points("spirals", "Interleaved spiral arms", { { name = "classes", type = "size", default = 3, doc = "arms" } },
  function(o)
    local y = even_classes(o.n, o.classes)
    local radius = nb.rand(o.n)
    local angle = radius * 4 + (y - 1) * (2 * math.pi / o.classes)
    return nb.stack({ radius * angle:cos(), radius * angle:sin() }, 2), y
  end)

points("blobs", "Gaussian blobs on a circle", { { name = "classes", type = "size", default = 3, doc = "blobs" } },
  function(o)
    local y = even_classes(o.n, o.classes)
    local angle = (y - 1) * (2 * math.pi / o.classes)
    return nb.stack({ angle:cos(), angle:sin() }, 2), y
  end)

data.transforms = registry.late "nablua.data.transforms"
registry.late("nablua.data.others", data)  -- read when somebody asks for what is not here

registry.add {
  name = "data", kind = "topic", value = data, doc = "Sets of samples: files, batches, small made ones.",
  example = "for bx, by in data.batches{nb.rand(6, 2), nb.arange(6), size=4} do assert(#bx == #by) end",
}

return data
