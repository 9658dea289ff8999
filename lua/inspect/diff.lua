-- SPDX-License-Identifier: MIT
-- inspect.diff: the first operator where two programs, nets, runs or files of activations part, and by how much.
--
-- A trace is a list of entries { op =, layer =, site =, phase =, name =, out = copies of what came out }, in the order
-- in which it happened.  Two traces are compared entry by entry.
local compile = require "nablua.compile"
local native = require "nablua.native"
local nb = require "nablua.core"
local calls = require "nablua.inspect.calls"
local files = require "nablua.files"
local modes = require "nablua.modes"
local module = require "nablua.nn.module"
local options = require "nablua.options"

local diff = {}

local params = {
  { name = "input", type = "any", optional = true, doc = "for nets and functions: what both are called with, or a " ..
    "list of several" },
  { name = "tol", type = "non-negative", optional = true,
    doc = "how far apart values may be, as a share of the largest; 0 but where one side is a file: 1e-4" },
  { name = "from", choices = { "nablua", "pytorch" }, default = "nablua",
    doc = "whose names a file of activations has: PyTorch's lists count from 0" },
}

local function fail(format, ...)
  native.raise("inspect.diff: " .. format:format(...))
end

local function copy(t)
  return nb.no_grad(function() return t:detach():clone() end)
end

local function copies_of(list)
  local out = {}
  for k, t in pairs(list) do
    if nb.is_tensor(t) then out[k] = copy(t) end
  end
  return out
end

-- ---- traces ----

local function layer_of(stack)
  return #stack > 0 and module.path(stack) or nil
end

-- What f does, and its results as a last entry.
local function trace_of(f)
  local trace, made = {}, {}
  local function see(e)
    if e.kind == "write" then return end
    local entry
    if e.kind == "apply" then
      entry = { phase = "forward", op = e.op, layer = layer_of(e.modules), out = copies_of(e.outputs),
        site = e.source and ("%s:%d"):format(e.source, e.line) }
      if e.order then made[e.order] = entry end
    else
      local of = made[e.order] or {}
      entry = { phase = "backward", op = of.op or "a rule", layer = of.layer, site = of.site, out = copies_of(e.given) }
    end
    trace[#trace + 1] = entry
  end
  local results = modes.restoring(function() native.observe(nil) end, function()
    native.observe(see)
    return table.pack(f())
  end)
  trace[#trace + 1] = { phase = "result", op = "the result", out = copies_of(results) }
  return trace
end

-- Compiled functions do not run as such while they are looked at: only what they give is known.
local function results_of(f, again)
  for _ = 1, 4 do again(f) end
  return { { phase = "result", op = "the result", out = copies_of(table.pack(f())) } }
end

-- Both from the same random numbers, which are as before afterwards.
local function from_one_place(f, ...)
  local before = nb.random_state()
  return modes.restoring(function() nb.random_state(before) end, function(...)
    return f(...)
  end, ...)
end

-- ---- comparing ----

local function shape_of(t)
  return t.dtype .. " " .. options.shape(t)
end

-- How far apart two tensors of one shape are: the largest distance, and the largest size; nil where nowhere.
local function distance(a, b)
  return nb.no_grad(function()
    if a.dtype == "bool" then a, b = a:to("u8"), b:to("u8") end
    local other = a:ne(b) & (a:eq(a) | b:eq(b))
    if not other:any():item() then return nil end
    a, b = a:to("f64"), b:to("f64")
    local far, size = (a - b):abs(), a:abs():maximum(b:abs())
    local function largest(t)
      local finite = t:eq(t) & t:lt(math.huge)
      return finite:any():item() and nb.where(finite, t, nb.zeros_like(t)):max():item() or 0
    end
    local odd = (far:ne(far) & other) | far:eq(math.huge)
    return odd:any():item() and math.huge or largest(far), largest(size), other:to("f64"):sum():item()
  end)
end

-- What makes two lists of tensors others, as a clause, and how far; nil where they are near enough.
local function other_values(a, b, tol)
  local keys = {}
  for k in pairs(a) do keys[#keys + 1] = k end
  for k in pairs(b) do
    if a[k] == nil then return "value", "one gives a tensor where the other gives none" end
  end
  table.sort(keys)
  for _, k in ipairs(keys) do
    local x, y = a[k], b[k]
    if not y then return "value", "one gives a tensor where the other gives none" end
    if options.shape(x) ~= options.shape(y) then return "shape", ("%s and %s"):format(shape_of(x), shape_of(y)) end
    if x.dtype ~= y.dtype then return "dtype", ("%s and %s"):format(x.dtype, y.dtype) end
    local far, size, count = distance(x, y)
    if far and far > tol * size then
      return "value", ("%d of %d values differ, by %.3g at most (the largest is %.3g)"):format(count, x:numel(), far,
        size), far
    end
  end
end

local Difference = { __name = "difference" }
Difference.__index = Difference

local function place_of(entry)
  local parts = {}
  if entry.layer then parts[1] = "layer " .. entry.layer end
  if entry.phase == "backward" then parts[#parts + 1] = "backward" end
  return ("%s%s%s"):format(entry.op, #parts > 0 and " (" .. table.concat(parts, ", ") .. ")" or "",
    entry.site and " at " .. entry.site or "")
end

function Difference:__tostring()
  if self.same then
    local what = self.runs and "steps" or self.count == 1 and "result" or "results"
    return ("the same: %d %s%s"):format(self.count, what, self.tol > 0 and (", within %g"):format(self.tol) or "")
  end
  local head = self.step and ("step %d, "):format(self.step) or ""
  local weights = self.weights and #self.weights > 0 and "; different from the start: " .. table.concat(self.weights,
    ", ", 1, math.min(#self.weights, 6)) .. (#self.weights > 6 and " ..." or "") or ""
  return ("%sthey part at %s: %s%s"):format(head, self.where, self.how, weights)
end

local function different(entry, fields)
  for name, value in pairs { op = entry.op, layer = entry.layer, site = entry.site, phase = entry.phase } do
    if fields[name] == nil then fields[name] = value end
  end
  fields.same, fields.where = false, fields.where or place_of(entry)
  return setmetatable(fields, Difference)
end

-- Where two traces part.
local function compare(a, b, tol)
  for i = 1, math.max(#a, #b) do
    local x, y = a[i], b[i]
    if not x or not y or x.op ~= y.op or x.phase ~= y.phase then
      local theirs = y and place_of(y) or "the end"
      if not x then return different(y, { number = i, kind = "operator", how = "the first ends before" }) end
      return different(x, { number = i, kind = "operator", how = ("there the second has %s"):format(theirs) })
    end
    local kind, how, far = other_values(x.out, y.out, tol)
    if kind then return different(x, { number = i, kind = kind, how = how, far = far, a = x.out, b = y.out }) end
  end
  return setmetatable({ same = true, count = #a, tol = tol }, Difference)
end

-- ---- nets and functions ----

local function list_of(input)
  if input == nil then return { n = 0 } end
  if nb.is_tensor(input) or type(input) ~= "table" or getmetatable(input) then return { n = 1, input } end
  return table.pack(table.unpack(input))
end

-- What inputs are written to stays as it was for the second.
local function fresh(args)
  local list = { n = args.n }
  for i = 1, args.n do
    list[i] = args[i]
    if nb.is_tensor(args[i]) then
      list[i] = copy(args[i])
      list[i].requires_grad = args[i].requires_grad
    end
  end
  return list
end

-- The names of parameters and buffers that two nets have otherwise.
local function weights_apart(a, b)
  if not (module.is(a) and module.is(b)) then return nil end
  local mine, theirs, list = a:state(), b:state(), {}
  for path, t in pairs(mine) do
    local u = theirs[path]
    if not u or shape_of(t) ~= shape_of(u) or distance(t, u) then list[#list + 1] = path end
  end
  for path in pairs(theirs) do
    if not mine[path] then list[#list + 1] = path end
  end
  table.sort(list)
  return list
end

local function compare_programs(a, b, o)
  local args, start = list_of(o.input), nb.random_state()
  local weights = weights_apart(a, b)
  local compiled = compile.compiled_of(a) or compile.compiled_of(b)
  local function trace(f)
    return from_one_place(function()
      nb.random_state(start)
      local function call()
        local list = fresh(args)
        return f(table.unpack(list, 1, list.n))
      end
      if not compiled then return trace_of(call) end
      return results_of(call, function(again)
        again()
        nb.random_state(start)
      end)
    end)
  end
  local first = trace(a)
  local found = compare(first, trace(b), o.tol or 0)
  found.weights = weights
  if found.same and weights and #weights > 0 then
    return different({ op = weights[1] }, { kind = "weight", weights = weights, count = found.count,
      how = "it is another, and what comes out is the same" })
  end
  return found
end

-- ---- activations ----

local function shifted(path, by)
  return (("." .. path):gsub("%.(%d+)%f[.\0]", function(n) return "." .. math.tointeger(tonumber(n)) + by end):sub(2))
end

-- What the layers of a net give for an input, in the order of their calls.
local function activations(net, o)
  local path_of, trace = {}, {}
  for path, m in net:named_modules() do path_of[m] = path end
  local args = list_of(o.input)
  if args.n == 0 then fail "needs input=, what the net is called with" end
  from_one_place(function()
    nb.no_grad(function()
      calls.during(function(m, enters, value)
        if enters or not path_of[m] or not nb.is_tensor(value) then return end
        trace[#trace + 1] = { op = m:kind(), layer = path_of[m] ~= "" and path_of[m] or nil, phase = "forward",
          name = path_of[m], out = { copy(value) } }
      end, net, table.unpack(args, 1, args.n))
    end)
  end)
  return trace
end

-- Tensors by dotted name.
local function flat(state, prefix, into)
  for key, value in pairs(state) do
    local name = prefix .. tostring(key)
    if nb.is_tensor(value) then
      into[name] = value
    elseif type(value) == "table" then
      flat(value, name .. ".", into)
    end
  end
  return into
end

local function tensors_in(v)
  if type(v) == "string" then v = files.load(v) end
  if nb.is_tensor(v) then v = { output = v } end
  return flat(v, "", {})
end

local function compare_net_with_file(net, file, o)
  local theirs, a, b, seen = tensors_in(file), {}, {}, {}
  for _, entry in ipairs(activations(net, o)) do
    local name = o.from == "pytorch" and shifted(entry.name, -1) or entry.name
    if name == "" then name = "output" end
    local t = theirs[name] or theirs[name .. ".output"]
    if t and not seen[name] then  -- a layer that is called twice is known by its first call
      seen[name] = true
      a[#a + 1] = entry
      b[#b + 1] = { op = entry.op, phase = "forward", out = { t } }
    end
  end
  if #a == 0 then
    local names = {}
    for name in pairs(theirs) do names[#names + 1] = name end
    table.sort(names)
    fail("no name in the file is that of a layer, such as \"1\" or \"output\"; it has %s", #names == 0 and "none" or
      table.concat(names, ", ", 1, math.min(#names, 6)))
  end
  return compare(a, b, o.tol or 1e-4)
end

-- Names are in the order of their numbers where they have some.
local function order_of(name)
  return (name:gsub("%d+", function(n) return ("%09d"):format(tonumber(n) or 0) end))
end

local function compare_files(a, b, o)
  local x, y, names, first, second = tensors_in(a), tensors_in(b), {}, {}, {}
  for name in pairs(x) do names[#names + 1] = name end
  for name in pairs(y) do
    if x[name] == nil then names[#names + 1] = name end
  end
  table.sort(names, function(p, q) return order_of(p) < order_of(q) end)
  for i, name in ipairs(names) do
    first[i] = { op = name, name = name, phase = "forward", out = { x[name] } }
    second[i] = { op = name, phase = "forward", out = { y[name] } }
    if not x[name] or not y[name] then
      return different({ op = name }, { kind = "missing", how = ("the %s has no such tensor"):format(x[name] and
        "second" or "first") })
    end
  end
  return compare(first, second, o.tol or 0)
end

-- ---- runs ----

local function compare_runs(a, b, o)
  local run = require "nablua.run"
  if a == b then  -- whether a step does the same twice
    local k = a.step + 1
    local found = compare(run.during_step(a, k, trace_of), run.during_step(a, k, trace_of), o.tol or 0)
    found.step = k
    return found
  end
  local k, what = run.parting(a, b)
  if not k then
    return setmetatable({ same = true, runs = true, count = math.min(a.last, b.last), tol = 0 }, Difference)
  end
  local found = compare(run.during_step(a, k, trace_of), run.during_step(b, k, trace_of), o.tol or 0)
  if found.same then
    local how = ("rates %g and %g, or what the optimizers remember"):format(a.history.lr[k], b.history.lr[k])
    found = different({ op = "the update" }, { kind = "update", how = how })
  end
  found.step, found.event = k, what
  return found
end

local function kind_of(v)
  if require("nablua.run").is(v) then return "run" end
  if module.is(v) then return "net" end
  if options.is_callable(v) then return "function" end
  if type(v) == "string" or nb.is_tensor(v) or type(v) == "table" and not getmetatable(v) then return "file" end
  fail("needs two functions, nets, runs, or names of files (or tables of tensors), got %s", options.describe(v))
end

function diff.diff(a, b, given)
  local o = options.check("inspect.diff", params, given)
  local x, y = kind_of(a), kind_of(b)
  if x == "run" and y == "run" then return compare_runs(a, b, o) end
  if x == "file" and y == "file" then return compare_files(a, b, o) end
  if x == "net" and y == "file" then return compare_net_with_file(a, b, o) end
  if x == "file" and y == "net" then return compare_net_with_file(b, a, o) end
  if x == "run" or y == "run" or x == "file" or y == "file" then
    fail("a %s cannot be compared with a %s", x, y)
  end
  if module.is(a) and list_of(o.input).n == 0 then fail "needs input=, what the nets are called with" end
  return compare_programs(a, b, o)
end

return diff
