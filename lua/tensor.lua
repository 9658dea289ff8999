-- SPDX-License-Identifier: MIT
-- What tensors have beyond the operators' rows: functions made of operators, and the documentation of those
-- that C makes by hand.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local methods = native.methods

-- ---- made of operators: as nb.f(t, ...) and t:f(...) ----

local function define(name, entry)
  methods[name] = entry[1]
  entry.kind = "operator"
  registry.define(nb, "nb.", name, entry)
end

local function check_tensor(where, t)
  if not nb.is_tensor(t) then
    native.raise(("%s: the first argument must be a tensor, got %s"):format(where, options.describe(t)))
  end
end

-- The dimension dim, counted from the front, and its size.
local function dimension(where, t, dim)
  dim = dim or 1
  check_tensor(where, t)
  if math.type(dim) ~= "integer" or dim == 0 or math.abs(dim) > t:dim() then
    native.raise(("%s: there is no dimension %s in a tensor of %d"):format(where, options.describe(dim), t:dim()))
  end
  dim = dim < 0 and dim + t:dim() + 1 or dim
  return dim, t:size(dim)
end

define("mm", {
  family = "Matrices",
  doc = "The matrix product; another name of matmul.", signature = "nb.mm(x, y)", see = { "nb.matmul" },
  example = "nb.mm(nb.tensor{{1, 2}, {3, 4}}, nb.eye(2))  --> {{1, 2}, {3, 4}}",
  function(x, y) return nb.matmul(x, y) end,
})

define("dot", {
  family = "Matrices",
  doc = "The scalar product of two vectors.", signature = "nb.dot(x, y)",
  example = "nb.dot(nb.tensor{1, 2}, nb.tensor{3, 4})  --> 11",
  function(x, y)
    check_tensor("dot", x)
    if x:dim() ~= 1 or not nb.is_tensor(y) or y:dim() ~= 1 then
      native.raise(("dot: needs two vectors, got %s and %s"):format(options.describe(x), options.describe(y)))
    end
    return nb.matmul(x, y)
  end,
})

define("outer", {
  family = "Matrices",
  doc = "The outer product of two vectors: a matrix of all products.", signature = "nb.outer(x, y)",
  example = "nb.outer(nb.tensor{1, 2}, nb.tensor{3, 4})  --> {{3, 4}, {6, 8}}",
  function(x, y)
    check_tensor("outer", x)
    if x:dim() ~= 1 or not nb.is_tensor(y) or y:dim() ~= 1 then
      native.raise(("outer: needs two vectors, got %s and %s"):format(options.describe(x), options.describe(y)))
    end
    return x:unsqueeze(2) * y:unsqueeze(1)
  end,
})

define("trace", {
  family = "Matrices",
  doc = "The sum of a matrix's diagonal.", signature = "nb.trace(x)",
  example = "nb.trace(nb.tensor{{1, 2}, {3, 4}})  --> 5",
  function(x)
    check_tensor("trace", x)
    return x:diag():sum()
  end,
})

define("split", {
  family = "Joining, repeating, padding",
  doc = "Parts of x along dim as a table: of `size` elements each (the last may be smaller), or of several sizes.",
  signature = "nb.split(x, size, [dim=1])", see = { "nb.chunk" },
  example = "nb.tensor{1, 2, 3}:split(2)[2]  --> {3}",
  function(x, size, dim)
    local d, n = dimension("split", x, dim)
    local sizes = size
    if type(size) ~= "table" then
      if math.type(size) ~= "integer" or size < 1 then
        native.raise("split: size must be a whole number of at least 1 or a table of sizes, got " ..
          options.describe(size))
      end
      sizes = {}
      for first = 1, n, size do sizes[#sizes + 1] = math.min(size, n - first + 1) end
    end
    local total = 0
    for _, s in ipairs(sizes) do total = total + (math.type(s) == "integer" and s >= 0 and s or math.huge) end
    if total ~= n then
      native.raise(("split: the sizes %s do not add up to %d, the size of dimension %d"):format(options.show(sizes), n,
        d))
    end
    local parts, first = {}, 1
    for i, s in ipairs(sizes) do
      parts[i] = x:narrow(d, first, s)
      first = first + s
    end
    return parts
  end,
})

define("chunk", {
  family = "Joining, repeating, padding",
  doc = "At most `count` parts of x along dim, of equal size but for the last, as a table.",
  signature = "nb.chunk(x, count, [dim=1])", see = { "nb.split" },
  example = "#nb.arange(1, 5):chunk(3)  --> 3",
  function(x, count, dim)
    local _, n = dimension("chunk", x, dim)
    if math.type(count) ~= "integer" or count < 1 then
      native.raise("chunk: count must be a whole number of at least 1, got " .. options.describe(count))
    end
    return nb.split(x, math.max((n + count - 1) // count, 1), dim)
  end,
})

-- ---- methods made here ----

local function method(name, entry)
  entry.kind = "method"
  registry.define(methods, "t:", name, entry)
end

method("rows", {
  doc = "Iterates over the first dimension: index and row.", signature = "for i, row in t:rows() do",
  example = "local n = 0; for i, row in nb.eye(3):rows() do n = n + i end; return n  --> 6",
  function(t)
    check_tensor("rows", t)
    if t:dim() == 0 then native.raise("rows: a scalar has no rows") end
    local i, n = 0, #t
    return function()
      i = i + 1
      if i <= n then return i, t[i] end
    end
  end,
})

local Stats = { __name = "statistics" }
function Stats:__tostring()
  local text = ("%s %s  mean %.4g  std %.4g  min %.4g  max %.4g"):format(self.dtype, self.shape, self.mean, self.std,
    self.min, self.max)
  if self.nan > 0 then text = ("%s  NaN %d"):format(text, self.nan) end
  if self.inf > 0 then text = ("%s  infinite %d"):format(text, self.inf) end
  return text
end

method("stats", {
  doc = "Mean, standard deviation, smallest and largest element, and how many are NaN, infinite or zero.",
  signature = "t:stats()", example = "nb.tensor{1, 2, 3}:stats().mean  --> 2",
  function(t)
    check_tensor("stats", t)
    return nb.no_grad(function()
      local x = t:detach():to("f64")
      local s = { dtype = t.dtype, shape = options.shape(t), nan = x:isnan():sum():item(),
        inf = x:isinf():sum():item(), zero = x:eq(0):sum():item(), mean = 0 / 0, std = 0 / 0, min = 0 / 0,
        max = 0 / 0 }
      if x:numel() > 0 then
        s.mean, s.std = x:mean():item(), x:std({ correction = 0 }):item()
        s.min, s.max = x:min():item(), x:max():item()
      end
      return setmetatable(s, Stats)
    end)
  end,
})

-- ---- the random numbers' place ----

registry.define(nb, "nb.", "random_state", {
  family = "Random numbers",
  doc = "The place in the random numbers, {seed=, counter=}, to be saved and come back to; with one, goes there.",
  signature = "nb.random_state([state])", see = { "nb.seed", "nb.save" },
  example = "local s = nb.random_state(); local a = nb.rand(1):item(); nb.random_state(s); " ..
    "return nb.rand(1):item() == a  --> true",
  function(state)
    if state == nil then
      local seed, counter = native.random_state()
      return { seed = seed, counter = counter }
    end
    if type(state) ~= "table" or math.type(state.seed) ~= "integer" or math.type(state.counter) ~= "integer" then
      native.raise("random_state: needs what nb.random_state() gave, got " .. options.describe(state))
    end
    native.random_state(state.seed, state.counter)
  end,
})

nb.anomaly = native.anomaly

-- ---- documentation of what C makes ----

local function document(entries)
  for _, e in ipairs(entries) do
    local last = e.name:match("[^.:]+$")
    e.kind = e.kind or (e.name:find("^t:") and "method") or "function"
    if e.kind == "method" then e.value = methods[last] elseif e.kind == "function" then e.value = nb[last] end
    registry.add(e)
  end
end

document {
  { name = "nb.tensor", family = "Making tensors",
    signature = "nb.tensor(value, {dtype=, requires_grad=false, name=})", returns = "tensor",
    doc = "A tensor of a number, a boolean or nested tables; f32 unless told, bool for booleans.",
    params = { { name = "value", type = "number or table" },
      { name = "dtype", type = "dtype", optional = true, choices = { "f32", "f64", "i64", "u8", "bool" } },
      { name = "requires_grad", type = "boolean", default = false, doc = "backward leaves a gradient in t.grad" },
      { name = "name", type = "string", optional = true, doc = "how inspection calls it" } },
    example = "nb.tensor{{1, 2}, {3, 4}}.shape  --> {2, 2}", see = { "nb.zeros", "nb.arange", "nb.randn" } },
  { name = "nb.is_tensor", family = "Making tensors",
    signature = "nb.is_tensor(x)", doc = "Whether a value is a tensor.",
    example = "nb.is_tensor(nb.zeros(1))  --> true" },
  { name = "nb.no_grad", family = "Gradients",
    signature = "nb.no_grad(f, ...)", see = { "nb.grad_enabled", "t:detach" },
    doc = "Calls f(...) without recording for backward and returns its results; the mode comes back on error too.",
    example = "nb.no_grad(function() return nb.grad_enabled() end)  --> false" },
  { name = "nb.grad_enabled", family = "Gradients",
    signature = "nb.grad_enabled()", doc = "Whether operators are recorded for backward.",
    example = "nb.grad_enabled()  --> true" },
  { name = "nb.set_grad_enabled", family = "Gradients", signature = "nb.set_grad_enabled(on)", see = { "nb.no_grad" },
    doc = "Switches recording for backward on or off; nb.no_grad switches back by itself.",
    example = "nb.set_grad_enabled(true)" },
  { name = "nb.anomaly", family = "Gradients",
    signature = "nb.anomaly([on])", example = "nb.anomaly()  --> false",
    doc = "Whether every result is checked, in backward too: with true, the first NaN or infinity is an error at " ..
      "the operator that made it, which names its operands and their ranges." },
  { name = "nb.grad", family = "Gradients",
    signature = "nb.grad(J, {a, b, ...}, {grad=, retain_graph=false, create_graph=false})",
    doc = "∂J/∂a, ∂J/∂b ... as values, leaving every .grad alone; nil for a tensor J does not depend on.",
    params = { { name = "J", type = "tensor" }, { name = "tensors", type = "tensor or table" },
      { name = "grad", type = "tensor", optional = true, doc = "the gradient of J, where J is no scalar" },
      { name = "retain_graph", type = "boolean", default = false, doc = "keep the tape for another backward" },
      { name = "create_graph", type = "boolean", default = false, doc = "record, for second derivatives" } },
    example = "local x = nb.tensor(3, {requires_grad=true}); return nb.grad(x * x, x)  --> 6",
    see = { "t:backward" } },
  { name = "nb.seed", family = "Random numbers",
    signature = "nb.seed(n)", doc = "Starts the random numbers anew: same seed, same numbers.",
    see = { "nb.random_state" },
    example = "nb.seed(1); local a = nb.rand(1):item(); nb.seed(1); return nb.rand(1):item() == a  --> true" },
  { name = "nb.threads", signature = "nb.threads([n])", doc = "The number of threads operators use; with n, sets it.",
    example = "nb.threads() >= 1  --> true" },
  { name = "nb.memory", signature = "nb.memory([{limit=, reset_peak=}])",
    doc = "Bytes that tensors hold: live, cached, peak, limit.  A limit turns too large requests into Lua errors.",
    params = { { name = "limit", type = "number", optional = true, doc = "bytes" },
      { name = "reset_peak", type = "boolean", default = false } },
    example = "nb.memory().live >= 0  --> true" },
  { name = "nb.sleep", signature = "nb.sleep(seconds)", doc = "Waits; an interrupt ends it.", example = "nb.sleep(0)" },
  { name = "nb.null", kind = "field", value = nb.null,
    doc = "JSON's null, where nil would be no entry at all: for comms.",
    example = "tostring(nb.null)  --> \"null\"", see = { "nb.array" } },
  { name = "nb.array", signature = "nb.array(list)", value = nb.array,
    doc = "Marks a table as a list of JSON's, also where it is empty, and returns it: for comms.",
    example = "#nb.array{}  --> 0", see = { "nb.null" } },
  { name = "nb.ALL", family = "Indexing",
    kind = "field", value = nb.ALL, doc = "In an index: the whole dimension, t[{nb.ALL, 2}].",
    example = "nb.tensor{{1, 2}, {3, 4}}[{nb.ALL, 2}]  --> {2, 4}" },
  { name = "nb.NEW", family = "Indexing",
    kind = "field", value = nb.NEW, doc = "In an index: a new dimension of size 1.",
    example = "nb.tensor{1, 2}[{nb.NEW, nb.ALL}].shape  --> {1, 2}" },
  { name = "nb.version", kind = "field", doc = "The version of nablua.", example = "type(nb.version)  --> \"string\"" },

  { name = "operators", kind = "topic", see = { "tensor", "gradients" },
    doc = "What computes with tensors, as nb.f(x, ...) and x:f(...).  Shapes broadcast as in NumPy; dimensions and " ..
      "indices count from 1, and from -1 at the end.  Every result knows how it came about, so that backward can " ..
      "follow it, unless its page gives the reason why not.  A trailing underscore writes into the tensor itself.",
    example = "nb.tensor{{1}, {2}}:mul(nb.tensor{10, 20}):sum(-1)  --> {30, 60}" },
  { name = "gradients", kind = "topic", see = { "t:backward", "nb.grad", "nb.no_grad" },
    doc = "The way back from a loss.  Tensors with requires_grad=true are recorded as they are used; J:backward() " ..
      "walks that record back by the chain rule and adds ∂J/∂w to w.grad of each, nb.grad(J, w) returns it.",
    example = "local w = nb.tensor({2, 3}, {requires_grad=true}); (w * w):sum():backward(); " ..
      "return w.grad  --> {4, 6}" },
  { name = "session", kind = "topic", see = { "nb.help" },
    doc = "Help, display, progress, and the machine: threads, memory, time.  At a prompt and in a notebook _ is the " ..
      "last value and _1, _2 ... are those of the inputs of these numbers: of the last 1,000, as long as together " ..
      "they take no more than a quarter of nb.memory().limit.",
    example = "nb.memory().live >= 0  --> true" },
  { name = "tensor", kind = "topic", see = { "nb.tensor", "t:at", "t:item", "t:rows" },
    doc = "A tensor: numbers in a shape.  t[i] and t[{i, {first, last, step}, nb.ALL}] are views, from 1, and " ..
      "from -1 at the end; t[i] is a tensor, so t[i] == 5 is never true: t:at(i) gives the number.  < and > compare " ..
      "single numbers; t:lt(x) gives a mask.  Fields: shape dtype grad requires_grad is_leaf name T.",
    example = "nb.tensor{{1, 2}, {3, 4}}[{nb.ALL, {1, 1}}]  --> {{1}, {3}}" },
  { name = "t.shape", kind = "field", doc = "The sizes of the dimensions, as a table.",
    example = "nb.zeros(2, 3).shape  --> {2, 3}" },
  { name = "t.dtype", kind = "field", doc = "The type of the elements: \"f32\", \"f64\", \"i64\", \"u8\" or \"bool\".",
    example = "nb.zeros(2).dtype  --> \"f32\"" },
  { name = "t.grad", family = "Gradients",
    kind = "field", doc = "The gradient that backward left, or nil; assign nil to clear it.",
    example = "local w = nb.tensor(3, {requires_grad=true}); (w * w):backward(); return w.grad  --> 6",
    see = { "t:backward", "t:retain_grad" } },
  { name = "t.requires_grad", family = "Gradients",
    kind = "field", doc = "Whether backward computes a gradient; can be set on leaves.",
    example = "nb.zeros(2, {requires_grad=true}).requires_grad  --> true" },
  { name = "t.is_leaf", family = "Gradients",
    kind = "field", doc = "Whether t is not the recorded result of an operator.",
    example = "nb.zeros(2).is_leaf  --> true" },
  { name = "t.name", kind = "field", doc = "A name that inspection shows; can be set.",
    example = "nb.zeros(2, {name=\"b\"}).name  --> \"b\"" },
  { name = "t.T", kind = "field", doc = "The transpose of a matrix; a view.",
    example = "nb.tensor{{1, 2}, {3, 4}}.T  --> {{1, 3}, {2, 4}}" },
  { name = "t:backward", family = "Gradients",
    signature = "J:backward([g], [{retain_graph=false, create_graph=false}])",
    doc = "Walks the tape back from J and adds ∂J/∂w to w.grad of every leaf w that requires grad.",
    params = { { name = "g", type = "tensor", optional = true, doc = "the gradient of J, where J is no scalar" },
      { name = "retain_graph", type = "boolean", default = false, doc = "keep the tape for another backward" },
      { name = "create_graph", type = "boolean", default = false, doc = "record, for second derivatives" } },
    example = "local w = nb.tensor(3, {requires_grad=true}); (w * w):backward(); return w.grad  --> 6",
    see = { "nb.grad", "t.grad" } },
  { name = "t:item", signature = "t:item()", doc = "The Lua number of a tensor of one element.",
    example = "nb.tensor{7}:item()  --> 7", see = { "t:at" } },
  { name = "t:at", signature = "t:at(i, j, ...)", doc = "The Lua number of one element.",
    example = "nb.tensor{{1, 2}, {3, 4}}:at(2, -1)  --> 4", see = { "t:item" } },
  { name = "t:totable", signature = "t:totable()", doc = "Nested Lua tables of the elements.",
    example = "nb.tensor{1, 2}:totable()  --> {1, 2}" },
  { name = "t:size", signature = "t:size([dim])", doc = "The size of a dimension; without one, the shape.",
    example = "nb.zeros(2, 3):size(-1)  --> 3" },
  { name = "t:dim", signature = "t:dim()", doc = "The number of dimensions.", example = "nb.zeros(2, 3):dim()  --> 2" },
  { name = "t:numel", signature = "t:numel()", doc = "The number of elements.",
    example = "nb.zeros(2, 3):numel()  --> 6" },
  { name = "t:element_size", signature = "t:element_size()", doc = "The bytes of an element.",
    example = "nb.zeros(2):element_size()  --> 4" },
  { name = "t:stride", signature = "t:stride([dim])", see = { "t:is_contiguous", "t:storage_offset" },
    doc = "How many elements of the memory a step in a dimension passes; without one, of all dimensions.",
    example = "nb.zeros(2, 3):stride()  --> {3, 1}" },
  { name = "t:storage_offset", signature = "t:storage_offset()",
    doc = "How many elements of the memory come before the first.",
    example = "nb.zeros(2, 3)[2]:storage_offset()  --> 3" },
  { name = "t:is_contiguous", signature = "t:is_contiguous()",
    doc = "Whether the elements lie in memory in row-major order.",
    example = "nb.zeros(2, 3).T:is_contiguous()  --> false" },
  { name = "t:detach", family = "Gradients", signature = "t:detach()", returns = "tensor",
    doc = "The same memory without history: no gradient flows through.",
    example = "nb.zeros(2, {requires_grad=true}):detach().requires_grad  --> false" },
  { name = "t:register_hook", family = "Gradients", signature = "t:register_hook(f)",
    doc = "Calls f(g) with the whole gradient g of t in every backward; what f returns takes its place.  Returns a " ..
      "handle: handle:remove() ends it.  A later change of t in place makes a new value, which the hook is not for.",
    params = { { name = "f", type = "function", doc = "gets the gradient; returns another of its shape, or nothing" } },
    example = "local w = nb.tensor(3, {requires_grad=true}); w:register_hook(function(g) return g / 2 end); " ..
      "(w * w):backward(); return w.grad  --> 3", see = { "t:backward", "t:retain_grad" } },
  { name = "t:retain_grad", family = "Gradients", signature = "t:retain_grad()",
    doc = "Makes backward leave the gradient of this intermediate result in its .grad.  Returns the tensor.",
    example = "local w = nb.tensor(3, {requires_grad=true}); local z = (w * 2):retain_grad(); (z * z):backward(); " ..
      "return z.grad  --> 12" },
}

return methods
