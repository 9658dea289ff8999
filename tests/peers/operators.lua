-- SPDX-License-Identifier: MIT
-- Random calls of every operator, made from its row: `nablua operators.lua FOLDER [SEED]`; see run.py.
--
-- A row's sample is taken as it is and with other sizes (0 and 1 among them); rows of tensors, numbers and dimensions
-- get shapes and dimensions of their own, elementwise ones shapes that broadcast.  In f32 and f64; the elements lie in
-- memory in row-major order, with gaps, or transposed.
local here = arg[0]:match("^(.*)/") or "."
package.path = ("%s/?.lua;%s/../lua/?.lua;%s"):format(here, here, package.path)
package.preload.luaunit = function() return {} end  -- numeric.lua names it; nothing here calls it

local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"
local draw = require "draw"
local record = require("recorder").new(arg[1])
local pick = draw.pick

local seed = math.tointeger(tonumber(arg[2])) or 1
nb.seed(seed)
math.randomseed(seed)

-- f, i, m, w and s of a sample, for the row and dtype.
local function environment(row, dtype)
  local env = { nb = nb }
  local lo, hi = row.sample.lo, row.sample.hi
  if lo == 0 and hi == 0 then lo, hi = -2, 2 end
  local function leaf(t)
    t = draw.laid_out(t)
    t.requires_grad = true
    return t
  end
  function env.f(...)
    local shape, a, b = { ... }, lo, hi
    if type(shape[#shape]) == "table" then
      local range = table.remove(shape)
      a, b = range.lo or a, range.hi or b
    end
    return leaf(nb.rand(shape, { dtype = dtype }) * (b - a) + a)
  end
  function env.w(...)
    return leaf(numeric.matrices(false, dtype, ...))
  end
  function env.s(...)
    return leaf(numeric.matrices(true, dtype, ...))
  end
  function env.i(max, ...)
    return draw.laid_out(nb.randint(1, math.max(max, 1), { ... }))
  end
  function env.m(...)
    return draw.laid_out(nb.rand({ ... }):gt(0.4))
  end
  return env
end

-- ---- arguments as Python counts ----

local function from_zero(d)
  return math.type(d) == "integer" and d > 0 and d - 1 or d
end

local translate = {
  dimension = from_zero,
  ["dimension or table of dimensions"] = function(v)
    if type(v) ~= "table" then return from_zero(v) end
    local out = {}
    for k, d in ipairs(v) do out[k] = from_zero(d) end
    return out
  end,
  ["index tensor"] = function(t) return t - 1 end,
}

local function is_options(v)
  return type(v) == "table" and not nb.is_tensor(v) and #v == 0 and next(v) ~= nil
end

local function for_python(row, args)
  local out, options, n = {}, nil, args.n
  if is_options(args[n]) then
    options, n = args[n], n - 1
  end
  while n > 0 and args[n] == nil do n = n - 1 end
  out.n = n
  for k = 1, n do
    local change = translate[row.params[k] and row.params[k].kind]
    out[k] = args[k]
    if change and args[k] ~= nil then out[k] = change(args[k]) end
  end
  return out, options
end

-- Of singular vectors only pairs have a sign that means something: here the first's elements have a positive sum.
local function signed(u, ...)
  local sign = u:detach():sum(-2, { keepdim = true }):sign()
  local out = { u * sign }
  for _, v in ipairs { ... } do out[#out + 1] = v * sign end
  return table.unpack(out)
end

-- Near each other the values' vectors are ill-conditioned: such a case is refused.
local function apart(values)
  local n = values:size(-1)
  if n < 2 or values:numel() == 0 then return end
  local gaps = (values:narrow(-1, 2, n - 1) - values:narrow(-1, 1, n - 1)):abs()
  assert(gaps:min() > 0.05 and values:abs():min() > 0.05)
end

-- The same of nearly singular matrices, or leading columns.
local function solid(x)
  local k = math.min(x:size(-1), x:size(-2))
  local _, s = nb.svd(x:detach():narrow(-1, 1, k))
  assert(s:numel() == 0 or s:min() > 0.2)
end

local calls = setmetatable({
  qr = function(x)
    solid(x)
    return nb.qr(x)
  end,
  -- Where queries see one key each, the gradient is 0 but for roundings.
  scaled_dot_product_attention = function(q, ...)
    local y = nb.scaled_dot_product_attention(q, ...)
    local g = nb.grad(y:square():sum(), q, { retain_graph = true })
    assert(g:numel() == 0 or g:abs():max() > 1e-3)
    return y
  end,
  pinv = function(x)
    solid(x)
    return nb.pinv(x)
  end,
  svd = function(x)
    local u, s, v = nb.svd(x)
    apart(s)
    u, v = signed(u, v)
    return u, s, v
  end,
  eig = function(x)
    local l, v = nb.eig(x)
    apart(l)
    return l, (signed(v))
  end,
  eigh = function(x)
    local l, v = nb.eigh(x)
    apart(l)
    return l, (signed(v))
  end,
}, { __index = nb })

-- Records the call unless the arguments do not fit together.
local function try(row, chunk, dtype)
  local ok, args = pcall(function() return table.pack(chunk(environment(row, dtype))) end)
  if not ok then return false end
  local outputs
  ok, outputs = pcall(function() return table.pack(calls[row.name](table.unpack(args, 1, args.n))) end)
  if not ok then return false end
  local list, options = for_python(row, args)
  record:add("nb." .. row.name, list, outputs, options)
  return true
end

-- ---- cases ----

local function sample_cases(row)
  local list = {}
  for case in ((row.sample.args or "") .. ";"):gmatch("(.-);") do
    if case:find("%S") then list[#list + 1] = case end
  end
  return list
end

-- The case with other sizes in its tensors; equal sizes stay equal.
local function resized(case)
  local sizes = {}
  return (case:gsub("%f[%a]([fimws])(%b())", function(kind, inside)
    return kind .. inside:gsub("^[^{]*", function(numbers)
      return (numbers:gsub("%d+", function(n)
        sizes[n] = sizes[n] or pick { 0, 1, 1, 2, 3, 4, 5, 6, 7 }
        return sizes[n]
      end))
    end)
  end))
end

local function compiled(row, case)
  return function(env)
    return assert(load("return " .. case, row.name, "t", env))()
  end
end

-- Records up to `count` of the cases that next() gives; false when there is none.
local function tries(row, count, dtype, next)
  local made, left = 0, 30 * count
  while made < count and left > 0 do
    if try(row, compiled(row, next()), dtype) then made = made + 1 end
    left = left - 1
  end
  return made > 0
end

local function random_shape(least)
  local shape = {}
  for d = 1, math.random(least, 4) do shape[d] = pick { 0, 1, 2, 3, 4, 5 } end
  return shape
end

-- A shape that broadcasts with `shape`.
local function partner(shape)
  local other, drop = {}, math.random(0, #shape)
  for d = drop + 1, #shape do other[#other + 1] = pick { shape[d], shape[d], 1 } end
  return other
end

local function random_dims(ndim)
  local dims = {}
  for d = 1, ndim do
    if pick { true, false } then dims[#dims + 1] = pick { d, d - ndim - 1 } end
  end
  return #dims > 0 and dims or nil
end

-- Arguments of a row whose parameters are tensors, dimensions and flags; nil for other rows.
local makers = {
  tensor = function(env, shape) return env.f(table.unpack(shape)) end,
  ["tensor or number"] = function(env, shape) return env.f(table.unpack(shape)) end,
  mask = function(env, shape) return env.m(table.unpack(shape)) end,
}

local function generated(row)
  local tensors, dims, keepdim = 0, nil, false
  for k, p in ipairs(row.params) do
    if makers[p.kind] and not p.optional then
      tensors = tensors + 1
    elseif k == 2 and p.kind:find("^dimension") then
      dims = p.kind
    elseif p.name == "keepdim" then
      keepdim = true
    elseif not p.optional then
      return nil
    end
  end
  if tensors == 0 or (tensors > 1 and not row.elementwise) then return nil end
  return function(env)
    local shape, args = random_shape(dims == "dimension" and 1 or 0), {}
    for k, p in ipairs(row.params) do
      if makers[p.kind] and not p.optional then
        local swap = k > 1 and tensors > 1
        args[k] = makers[p.kind](env, swap and partner(shape) or shape)
      end
    end
    if tensors == 2 and pick { true, false } then args[1], args[2] = args[2], args[1] end
    if dims == "dimension" then
      args[2] = math.random(#shape) * pick { 1, -1 }
    elseif dims then
      args[2] = random_dims(#shape)
    end
    if keepdim and args[2] and pick { true, false } then args[3] = { keepdim = true } end
    return table.unpack(args)
  end
end

-- What gives other values at every call, or none.
local without_peer = { empty = true, empty_like = true, ["Random numbers"] = true }

for _, row in ipairs(native.rows()) do
  if not row.internal and not without_peer[row.name] and not without_peer[row.family] then
    local list, make, before = sample_cases(row), generated(row), #record.cases
    for _, dtype in ipairs { "f32", "f64" } do
      for _, case in ipairs(list) do
        assert(tries(row, 1, dtype, function() return case end), row.name .. " does not take its own sample")
        if case:find("%f[%a][fimws]%(") then tries(row, 3, dtype, function() return resized(case) end) end
      end
      for _ = 1, make and 8 or 0 do try(row, make, dtype) end
    end
    assert(#record.cases > before, row.name .. " has no case")
  end
end

-- ---- einsum, which has no row ----

local equations = {
  "ij,jk->ik", "ij,jk", "ij,j->i", "i,j->ij", "i,i->", "bij,bjk->bik", "bij,bkj", "ii->i", "ii", "ij->ji", "ij->",
  "ba", "iij->j", "iji,j->i", "ij,ij->ij", "ij,ij,ij->i", "ij,jk,kl->il", "...ij,...jk->...ik", "...i->...",
  "i...,i...->...", "bn,anm,bm->ba", "...,...->...", "abcd,cd->ba",
}

local function operands(equation, dtype)
  local sizes, list = {}, {}
  for part in (equation:match("^(.-)%->") or equation):gmatch("[^,]+") do
    local shape = {}
    for label in part:gmatch("%.?%.?[%a.]") do
      sizes[label] = sizes[label] or pick { 0, 1, 2, 3, 4 }
      shape[#shape + 1] = sizes[label]
    end
    local x = draw.laid_out(nb.rand(shape, { dtype = dtype }) * 4 - 2)
    x.requires_grad = true
    list[#list + 1] = x
  end
  return list
end

for _, dtype in ipairs { "f32", "f64" } do
  for _, equation in ipairs(equations) do
    for _ = 1, 3 do
      local list = operands(equation, dtype)
      record:add("nb.einsum", { equation, list }, { nb.einsum(equation, list) })
    end
  end
end

record:close()
