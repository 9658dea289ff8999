-- SPDX-License-Identifier: MIT
-- Sets of Debian's packages, orders of samples, and the loader; read when somebody asks for one.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"
local steps = require "nablua.data.steps"
local chunks = require "nablua.data.chunks"
local rows = require "nablua.data.rows"

local data = registry.home "nablua.data.others"

local function define(name, entry)
  local f, where, params = entry[1], name, entry.params
  if params then
    entry[1] = function(...) return f(options.read(where, params, ...), where) end
  end
  registry.define(data, "data.", name, entry)
end

-- ---- sets ----

local FOLDER = "/usr/lib/python3/dist-packages/sklearn/datasets/data"

-- A set of scikit-learn's: numbers, and in the last column the class, from 0.
local function set(name, file, doc, spec)
  define(name, {
    doc = doc, signature = ("data.%s([folder])"):format(name),
    params = { { name = "folder", type = "string", default = FOLDER, positional = true } },
    example = ("pcall(data.%s, \"no such folder\")  --> false"):format(name),
    function(o, where)
      local path = ("%s/%s"):format(o.folder, file)
      if not native.exists(path) then
        native.raise(("%s: %s is not there; install it with: apt install python3-sklearn, or name the folder that " ..
          "holds it"):format(where, path))
      end
      local names = {}
      for i = 1, spec.columns do names[i] = ("c%d"):format(i) end
      local all = data.csv(path, { names = names, target = spec.columns, header = spec.header })
      local y = all.y:to("i64"):view(-1) + 1
      return { x = spec.shape and all.x:view(-1, table.unpack(spec.shape)) or all.x, y = y, classes = spec.classes,
        names = spec.names }
    end,
  })
end

set("iris", "iris.csv", "Fisher's irises: x 150×4 (centimetres), y kinds 1..3, classes, names of the columns.", {
  columns = 5, classes = { "setosa", "versicolor", "virginica" },
  names = { "sepal length", "sepal width", "petal length", "petal width" },
})
set("wine", "wine_data.csv", "Italian wines: x 178×13 (chemistry), y cultivars 1..3, classes, names of the columns.", {
  columns = 14, classes = { "class 1", "class 2", "class 3" },
  names = { "alcohol", "malic acid", "ash", "alcalinity of ash", "magnesium", "total phenols", "flavanoids",
    "nonflavanoid phenols", "proanthocyanins", "color intensity", "hue", "od280/od315", "proline" },
})
set("digits", "digits.csv.gz", "Written digits: x 1797×8×8 (0..16), y 1..10 for the digits 0..9, classes.", {
  columns = 65, header = false, shape = { 8, 8 }, classes = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9" },
})

-- ---- orders ----

local Sampler = {}
Sampler.__index = Sampler
Sampler.__name = "sampler"
function Sampler:__call() return self.draw(self) end
function Sampler:__len() return self.count end
function Sampler:__tostring() return ("%s sampler of %d samples"):format(self.kind, self.count) end

local function sampler(kind, count, draw) return setmetatable({ kind = kind, count = count, draw = draw }, Sampler) end

define("sequential_sampler", {
  doc = "The samples 1..n in order: sampler() gives their numbers for an epoch.", see = { "data.loader" },
  params = { { name = "n", type = "count" } }, example = "data.sequential_sampler(3)()  --> {1, 2, 3}",
  function(o) return sampler("sequential", o.n, function(s) return nb.arange(s.count, { dtype = "i64" }) end) end,
})

define("random_sampler", {
  doc = "The samples 1..n in a new order each time, or with replacement `count` of them.", see = { "data.loader" },
  params = { { name = "n", type = "count" }, { name = "replacement", type = "boolean", default = false },
    { name = "count", type = "count", optional = true, doc = "samples in an epoch; n when left out" } },
  example = "#data.random_sampler(5)()  --> 5",
  function(o, where)
    local count = o.count or o.n
    if count > o.n and not o.replacement or count > 0 and o.n == 0 then
      native.raise(("%s: cannot draw %d of %d samples without replacement"):format(where, count, o.n))
    end
    return sampler("random", count, function()
      if o.replacement then return nb.randint(1, math.max(o.n, 1), count) end
      return nb.randperm(o.n):narrow(1, 1, count)
    end)
  end,
})

-- For each of the vector u how many of the rising vector `ends` are at most it: both sorted together.
local function counts_below(ends, u)
  local n = ends:numel()
  local order = nb.cat({ ends, u }, 1):argsort()
  local passed = order:le(n):to("i64"):cumsum(1)
  local is_u = order:gt(n)
  local places, counts = order:masked_select(is_u) - n, passed:masked_select(is_u)
  return nb.zeros(u.shape, { dtype = "i64" }):scatter(1, places, counts)
end

define("weighted_sampler", {
  doc = "Samples drawn with probabilities in proportion to their weights, with replacement or, up to all that have " ..
    "weight, without: what is rare is seen as often as the rest.",
  source = "Efraimidis and Spirakis 2006", see = { "data.loader" },
  params = { { name = "weights", type = "tensor", doc = "a number of at least 0 for each sample" },
    { name = "count", type = "count", optional = true, doc = "samples in an epoch; all when left out" },
    { name = "replacement", type = "boolean", default = true } },
  example = "data.weighted_sampler(nb.tensor{0, 1, 0})()  --> {2, 2, 2}",
  function(o, where)
    local w = o.weights:to("f64")
    if w:dim() ~= 1 or w:numel() == 0 or not (w:ge(0):all():item() and w:isfinite():all():item()) or
        w:sum():item() == 0 then
      native.raise(where .. ": weights must be a vector of finite numbers of at least 0, not all 0, got " ..
        options.describe(o.weights))
    end
    local count, able = o.count or w:numel(), w:gt(0):sum():item()
    if not o.replacement and count > able then
      native.raise(("%s: cannot draw %d of %d samples with weight without replacement"):format(where, count, able))
    end
    return sampler("weighted", count, function()
      if not o.replacement then
        local keys = nb.where(w:gt(0), (1 - nb.rand(w.shape, { dtype = "f64" })):log() / w:clamp { min = 1e-300 },
          -math.huge)
        local _, best = keys:topk(count, 1)
        return best
      end
      local ends = w:cumsum(1)
      local u = nb.rand(count, { dtype = "f64" }) * ends:at(w:numel())
      -- A draw at the very end of what has weight belongs to the last sample with some.
      local last = w:gt(0):nonzero():view(-1)
      return (counts_below(ends, u) + 1):clamp { max = last:at(last:numel()) }
    end)
  end,
})

define("stratified_sampler", {
  doc = "All samples in a new order in which every stretch has the classes in nearly their shares of the whole.",
  params = { { name = "labels", type = "tensor", doc = "the class of each sample" } }, see = { "data.loader" },
  example = "#data.stratified_sampler(nb.tensor{1, 1, 2, 2})()  --> 4",
  function(o, where)
    local labels = o.labels
    if labels:dim() ~= 1 or labels:numel() == 0 then
      native.raise(where .. ": labels must be a vector of classes, got " .. options.describe(labels))
    end
    local n = labels:numel()
    return sampler("stratified", n, function()
      local mixed = nb.randperm(n)
      local order = labels:index_select(1, mixed):argsort()
      local sorted = labels:index_select(1, mixed):index_select(1, order)
      local new = nb.cat({ nb.ones({ 1 }, { dtype = "i64" }), sorted:narrow(1, 2, n - 1):ne(sorted:narrow(1, 1, n - 1))
        :to("i64") }, 1)
      local class = new:cumsum(1)
      local sizes = nb.zeros({ class:at(n) }, { dtype = "i64" }):index_add(1, class, nb.ones({ n }, { dtype = "i64" }))
      local first = sizes:cumsum(1) - sizes
      local rank = nb.arange(n, { dtype = "i64" }) - first:index_select(1, class)
      -- The j-th of m samples of a class stands somewhere in the j-th of m parts of the epoch.
      local key = (rank - nb.rand(n, { dtype = "f64" })) / sizes:index_select(1, class)
      return mixed:index_select(1, order:index_select(1, key:argsort()))
    end)
  end,
})

define("concat", {
  doc = "Sets {x, y, ...} one after the other as one.", params = { { name = "sets", type = "table", doc = "a list" } },
  example = "#data.concat{ {nb.ones(2)}, {nb.zeros(3)} }[1]  --> 5",
  function(o, where)
    local first, out = o.sets[1], {}
    if type(first) ~= "table" or #first == 0 then
      native.raise(where .. ": needs a list of sets {x, y}, got " .. options.describe(first))
    end
    for k = 1, #first do
      local parts = {}
      for i, s in ipairs(o.sets) do
        if type(s) ~= "table" or #s ~= #first or not nb.is_tensor(s[k]) then
          native.raise(("%s: set %d must have %d tensors as the first has"):format(where, i, #first))
        end
        parts[i] = s[k]
      end
      out[k] = nb.cat(parts, 1)
    end
    return out
  end,
})

rows.define(define)
chunks.define(define)

-- ---- the loader ----

local Loader = {}
Loader.__index = Loader
Loader.__name = "loader"

function Loader:__len()
  local n = #self.sampler / self.size
  return self.last == "drop" and math.floor(n) or math.ceil(n)
end

function Loader:__tostring()
  return ("%d batches of %d from %d samples, %s"):format(#self, self.size, #self.source, self.sampler.kind or "sampled")
end

-- A batch of the samples at the places of an index tensor, as a list.
local function fetch(self, index)
  local source, out = self.source, {}
  if source.tensors then
    for k, t in ipairs(source.tensors) do out[k] = nb.is_tensor(t) and t:index_select(1, index) or t:rows(index) end
    return out
  end
  local samples = {}
  for i, at in ipairs(index:totable()) do samples[i] = table.pack(source.get(at)) end
  if self.collate then return table.pack(self.collate(samples)) end
  for k = 1, samples[1].n do
    local column = {}
    for i, s in ipairs(samples) do
      column[i] = type(s[k]) == "number" and nb.tensor(s[k], math.type(s[k]) == "integer" and { dtype = "i64" } or nil)
        or s[k]
      if not nb.is_tensor(column[i]) then
        native.raise(("loader: entry %d of a sample must be a tensor or a number, got %s; collate= makes batches of " ..
          "others"):format(k, options.describe(s[k])))
      end
    end
    out[k] = nb.stack(column, 1)
  end
  return out
end

-- What threads beside the evaluator can make: rows of files, and pictures; others have nothing that takes long.  A
-- tensor with gradients, or whose rows are scattered, is the evaluator's.
local function is_for_threads(self)
  local tensors = self.source.tensors
  if not tensors or #tensors > 8 then return false end
  local reads = #self.steps > 0
  for _, t in ipairs(tensors) do
    if not nb.is_tensor(t) then
      reads = true
    elseif t.requires_grad or not t:is_contiguous() then
      return false
    end
  end
  return reads
end

local function new_epoch(self)
  local epoch = { at = 1, order = self.sampler() }
  if is_for_threads(self) then
    epoch.order = nb.no_grad(function() return epoch.order:to("i64"):contiguous() end)
    epoch.key, epoch.ahead, epoch.feed = steps.key(self.steps), 1, native.feed_open(self.workers)
  end
  return epoch
end

-- The last sample of the batch that begins at a number of the epoch; nil where there is none.
local function last_of(self, epoch, first)
  local n = #epoch.order
  local last = math.min(first + self.size - 1, n)
  return first <= n and (self.last == "keep" or last - first + 1 == self.size) and last or nil
end

local function submit(self, epoch)
  local first = epoch.ahead
  local last = last_of(self, epoch, first)
  if not last then return end
  local columns = {}
  for k, t in ipairs(self.source.tensors) do
    columns[k] = nb.is_tensor(t) and t or rows.handle(t)
  end
  epoch.feed:submit(columns, epoch.order:narrow(1, first, last - first + 1), self.steps, epoch.key, first)
  epoch.ahead = last + 1
end

-- The next batch of an epoch, to the sample `last`.
local function made(self, epoch, last)
  if not epoch.feed then
    local out = fetch(self, epoch.order:narrow(1, epoch.at, last - epoch.at + 1))
    if self.transform then out[1] = self.transform(out[1]) end
    return out
  end
  -- As many batches as threads shall be ahead of this one.
  while epoch.ahead <= last do submit(self, epoch) end
  for _ = 1, self.workers > 0 and self.prefetch or 0 do
    if epoch.ahead - last > self.prefetch * self.size then break end
    submit(self, epoch)
  end
  local out = table.pack(epoch.feed:take())
  for _, t in ipairs(self.rest) do out[1] = t(out[1]) end
  return out
end

-- The next batch of the epoch whose state stands beside the batch before, as with data.batches.
function Loader:__call(_, previous)
  local epoch = previous and self.epochs[previous]
  if previous then self.epochs[previous] = nil end
  if not epoch then epoch = new_epoch(self) end
  local last = last_of(self, epoch, epoch.at)
  if not last then
    if epoch.feed then epoch.feed:close() end
    return nil
  end
  local out = made(self, epoch, last)
  epoch.at = last + 1
  self.epochs[out[1]] = epoch
  return table.unpack(out)
end

-- The samples: tensors (or files that are read in parts) side by side, or what gives one at a number.
local function source_of(where, given)
  if type(given) == "table" and not getmetatable(given) and #given > 0 and type(given[1]) ~= "number" then
    local n
    for i, t in ipairs(given) do
      if not (nb.is_tensor(t) and t:dim() > 0 or rows.is_rows(t)) then
        native.raise(("%s: entry %d must be a tensor of samples or what data.open or data.image_folder gives, got %s")
          :format(where, i, options.describe(t)))
      end
      n = n or #t
      if #t ~= n then
        native.raise(("%s: entry %d has %d samples, entry 1 has %d"):format(where, i, #t, n))
      end
    end
    return setmetatable({ tensors = given }, { __len = function() return n end })
  end
  local meta = getmetatable(given)
  if type(given) == "table" and meta and meta.__len and meta.__index then
    return setmetatable({ get = function(i) return given[i] end }, { __len = function() return #given end })
  end
  native.raise(("%s: the samples must be {x, y}, or an object with # and [i], got %s"):format(where,
    options.describe(given)))
end

define("loader", {
  doc = "Batches of samples, for `for bx, by in loader do` and nn.fit: of tensors {x, y}, of files opened by " ..
    "data.open or data.image_folder, of pieces of data.csv_chunks, of an object of yours with # and [i], or of a " ..
    "function with n=; each loop is a new epoch.  transform changes the first of a batch, collate makes a batch of " ..
    "a list of samples.  Reading files, decoding pictures and data.transforms go on in threads beside the step, " ..
    "some batches ahead; the same seed gives the same batches whatever their number.  Functions of yours run where " ..
    "the batch is used.",
  signature = "data.loader(source, {size=64, shuffle=false, sampler=, transform=, collate=, last=\"keep\", n=, " ..
    "workers=1, prefetch=2})",
  see = { "data.batches", "data.transforms.Compose", "data.weighted_sampler" },
  params = {
    { name = "source", type = "any", doc = "{x, y}, an object, or a function of the number of a sample" },
    { name = "size", type = "size", default = 64, doc = "samples in a batch" },
    { name = "shuffle", type = "boolean", default = false, doc = "a new order for each epoch" },
    { name = "sampler", type = "any", optional = true, doc = "gives an epoch's numbers of samples, in order" },
    { name = "transform", type = "function", optional = true, doc = "of the first tensor of a batch" },
    { name = "collate", type = "function", optional = true, doc = "of a list of samples, each a list of its parts" },
    { name = "last", choices = { "keep", "drop" }, default = "keep", doc = "what becomes of a smaller last batch" },
    { name = "n", type = "count", optional = true, doc = "the number of samples of a function" },
    { name = "workers", type = "count", default = 1, doc = "threads that make batches ready; 0: none" },
    { name = "prefetch", type = "size", default = 2, doc = "batches that they are ahead" },
  },
  example = [[
local squares = data.loader(function(i) return nb.tensor{i}, i * i end, {n=5, size=2, last="drop"})
for bx, by in squares do assert(#bx == 2) end
return #squares  --> 2]],
  function(o, where)
    local source
    if chunks.is(o.source) then return chunks.loader(where, o) end
    if type(o.source) == "function" then
      if not o.n then native.raise(where .. ": a function needs n=, the number of samples") end
      source = setmetatable({ get = o.source }, { __len = function() return o.n end })
    else
      source = source_of(where, o.source)
    end
    local order = o.sampler or data[o.shuffle and "random_sampler" or "sequential_sampler"](#source)
    if not options.is_callable(order) or getmetatable(order) and not getmetatable(order).__len then
      native.raise(where .. ": the sampler must be one of data's, or an object with # that gives numbers when called")
    end
    if o.sampler and o.shuffle then
      native.raise(where .. ": a sampler gives the order; shuffle=true does not go with it")
    end
    if o.workers > 64 then native.raise(("%s: workers must be at most 64, got %d"):format(where, o.workers)) end
    local list, rest = steps.of(o.transform)
    return setmetatable({ source = source, sampler = order, size = o.size, last = o.last, transform = o.transform,
      workers = o.workers, prefetch = o.prefetch, steps = list, rest = rest,
      collate = o.collate, epochs = setmetatable({}, { __mode = "k" }) }, Loader)
  end,
})

return data
