-- SPDX-License-Identifier: MIT
-- What tests share: samples of operators, finite differences, strided twins, expecting errors.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"

local M = {}

-- The call fails, and its message has all the given pieces.
function M.assert_error(pieces, f, ...)
  local ok, message = pcall(f, ...)
  lu.assertFalse(ok)
  for _, piece in ipairs(pieces) do lu.assertStrContains(message, piece) end
end

-- What is written to the standard error while f runs.
function M.said(f, ...)
  local text, stderr = {}, io.stderr
  rawset(io, "stderr", { write = function(_, ...)
    for _, part in ipairs { ... } do text[#text + 1] = part end
  end })
  local ok, err = pcall(f, ...)
  rawset(io, "stderr", stderr)
  lu.assertTrue(ok, err)
  return table.concat(text)
end

-- A tensor or a number, and a tensor, a list or a number, are the same up to a relative tolerance (1e-5 when left out).
function M.assert_close(have, want, tolerance)
  have = nb.is_tensor(have) and M.flat(have) or { have }
  want = nb.is_tensor(want) and M.flat(want) or type(want) == "table" and want or { want }
  local wrong = M.difference(have, want, tolerance or 1e-5)
  if wrong then lu.fail(wrong) end
end

-- All elements of a tensor in row-major order, as Lua numbers.
function M.flat(t)
  local out = {}
  local function walk(v)
    if type(v) == "table" then
      for i = 1, #v do walk(v[i]) end
    else
      out[#out + 1] = v == true and 1 or v == false and 0 or v
    end
  end
  walk(t:totable())
  return out
end

local function close(a, b, tol)
  if a ~= a or b ~= b then return a ~= a and b ~= b end
  if a == b then return true end
  return math.abs(a - b) <= tol * math.max(1, math.abs(a), math.abs(b))
end
M.close = close

-- nil when all numbers agree, else a sentence about the worst.
function M.difference(a, b, tol)
  if #a ~= #b then return ("%d values against %d"):format(#a, #b) end
  local worst, at = -1, nil
  for i = 1, #a do
    if not close(a[i], b[i], tol) then
      local d = math.abs(a[i] - b[i])
      if d ~= d or d > worst then worst, at = d, i end
      if d ~= d then break end
    end
  end
  if at then return ("value %d of %d: %.10g against %.10g"):format(at, #a, a[at], b[at]) end
end

-- A tensor of the same values whose elements do not lie side by side: in a larger tensor, with a step
-- in every dimension.  Requires grad as the original does.
function M.strided(t)
  local shape = t.shape
  if #shape == 0 then return t end
  local sizes, key = {}, {}
  for d, n in ipairs(shape) do
    if n == 0 then return t end
    sizes[d], key[d] = 2 * n + 1, { 2, 2 * n, 2 }
  end
  local twin
  nb.no_grad(function()
    local big = nb.full(sizes, 77, { dtype = t.dtype })
    big[key] = t:detach()
    twin = big[key]
  end)
  twin.requires_grad = t.requires_grad
  return twin
end

-- Square matrices, the last of the sizes twice: far from singular, or symmetric and positive definite.
function M.matrices(symmetric, dtype, ...)
  local shape = { ... }
  local n = shape[#shape]
  shape[#shape + 1] = n
  local x = nb.rand(shape, { dtype = dtype }) * 2 - 1
  if symmetric then x = x:matmul(x:transpose(-1, -2)) / math.max(n, 1) end
  return x + nb.eye(n, { dtype = dtype }) * (symmetric and 1 or n)
end

-- The signed central difference of f() with respect to every element of x (f64, a contiguous leaf).
function M.finite_difference(f, x, eps)
  local out = {}
  local flat = x:detach():view(x:numel())
  for i = 1, x:numel() do
    local v = flat:at(i)
    local h = eps * math.max(1, math.abs(v))
    flat[i] = v + h
    local up = f()
    flat[i] = v - h
    local down = f()
    flat[i] = v
    out[i] = (up - down) / (2 * h)
  end
  return out
end

-- Every gradient of a module, of its input and its parameters, against finite differences.
function M.assert_gradients(net, x)
  net:to("f64")
  x.requires_grad = true
  local weights = nb.rand(net(x).shape, { dtype = "f64" }) + 0.5
  local function value() return (net(x) * weights):sum() end
  local inputs = { x, table.unpack(net:parameters()) }
  local gradients = { nb.grad(value(), inputs) }
  for k, input in ipairs(inputs) do
    local want = M.finite_difference(function() return value():item() end, input, 1e-6)
    local wrong = M.difference(M.flat(gradients[k]), want, 1e-5)
    if wrong then lu.fail(("%s, gradient %d: %s"):format(tostring(net), k, wrong)) end
  end
end

-- ---- samples of the operator table's rows ----
--
-- A row's sample makes its inputs.  It is Lua, with cases separated by ";", where
--   f(shape..., {lo=, hi=})  a random f64 tensor that requires grad
--   i(max, shape...)         whole numbers 1..max
--   m(shape...)              a mask
--   w(..., n), s(..., n)     like f: n×n matrices far from singular, symmetric positive definite ones

function M.call_of(row)
  return row.internal and native[row.name] or nb[row.name]
end

function M.is_tensor_kind(kind)
  return kind == "tensor" or kind == "tensor or number"
end

-- Tensors for an elementwise row, which make(p, n) gives for the nth that it takes; nil where it needs more than these.
function M.operands(row, make)
  local args = { n = 0 }
  for _, p in ipairs(row.params) do
    if p.kind == "mask" or M.is_tensor_kind(p.kind) and not (p.optional and row.name ~= "clamp") then
      args.n = args.n + 1
      args[args.n] = make(p, args.n)
    elseif not p.optional then
      return nil
    end
  end
  return args
end

local function default_sample(row)
  local args = {}
  for _, p in ipairs(row.params) do
    if M.is_tensor_kind(p.kind) and not p.optional then
      args[#args + 1] = "f(2,3,4)"
    elseif p.kind == "mask" then
      args[#args + 1] = "m(2,3,4)"
    elseif not p.optional then
      return nil
    end
  end
  return table.concat(args, ", ")
end

-- The environment of a sample; `made` collects its f tensors in order.  `grow`, when given, makes other sizes of sizes
-- and other largest indices of those; `index` changes index tensors, given the largest.
local function sample_env(row, made, change, grow, index)
  local lo, hi = row.sample.lo, row.sample.hi
  if lo == 0 and hi == 0 then lo, hi = -2, 2 end
  local env = { nb = nb }
  local function sized(shape)
    for d, n in ipairs(grow and shape or {}) do shape[d] = grow(n) end
    return shape
  end
  local function leaf(t)
    if change then t = change(t) end
    t.requires_grad = true
    made[#made + 1] = t
    return t
  end
  function env.f(...)
    local shape = { ... }
    local a, b = lo, hi
    if type(shape[#shape]) == "table" then
      local o = table.remove(shape)
      a, b = o.lo or a, o.hi or b
    end
    return leaf(nb.rand(sized(shape), { dtype = "f64" }) * (b - a) + a)
  end
  function env.w(...)
    return leaf(M.matrices(false, "f64", table.unpack(sized { ... })))
  end
  function env.s(...)
    return leaf(M.matrices(true, "f64", table.unpack(sized { ... })))
  end
  function env.i(max, ...)
    if grow then max = grow(max) end
    local t = nb.randint(1, max, sized { ... })
    return index and index(t, max) or t
  end
  function env.m(...)
    return nb.rand(sized { ... }):gt(0.4)
  end
  return env
end

function M.cases(row)
  local text = row.sample.args or default_sample(row)
  if not text then return nil end
  local list = {}
  for case in (text .. ";"):gmatch("(.-);") do
    case = case:match("^%s*(.-)%s*$")
    if case ~= "" then list[#list + 1] = case end
  end
  return list
end

-- The arguments of a case (packed), and its f tensors.
function M.arguments(row, case, change, grow, index)
  local made = {}
  local chunk = assert(load("return " .. case, row.name, "t", sample_env(row, made, change, grow, index)))
  return table.pack(chunk()), made
end

-- A scalar of all floating outputs, each weighted by fixed random numbers, so that no sign or
-- transposition can cancel.
function M.scalar_of(row, args, weights)
  local out = table.pack(M.call_of(row)(table.unpack(args, 1, args.n)))
  local J
  for k = 1, out.n do
    local y = out[k]
    if y.dtype == "f64" or y.dtype == "f32" then
      weights[k] = weights[k] or nb.rand(y.shape, { dtype = "f64" }) + 0.5
      local part = (y * weights[k]):sum()
      J = J and J + part or part
    end
  end
  return J
end

-- Holds every row that the filter lets through to a check, and reports all that fail.
function M.each_row(filter, check)
  local failures = {}
  for _, row in ipairs(native.rows()) do
    if filter(row) then
      nb.seed(7)  -- a row's numbers do not depend on the rows before it
      local ok, err = pcall(check, row)
      if not ok then failures[#failures + 1] = row.name .. ": " .. tostring(err) end
    end
  end
  lu.assertEquals(#failures, 0, "\n" .. table.concat(failures, "\n"))
end

function M.each_case(row, check)
  local list = M.cases(row)
  assert(list, "the row needs a sample")
  for _, case in ipairs(list) do
    local ok, err = pcall(check, case)
    if not ok then error(("[%s] %s"):format(case, err), 0) end
  end
end

return M
