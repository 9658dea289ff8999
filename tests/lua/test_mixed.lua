-- SPDX-License-Identifier: MIT
-- Tests derived from the operator table: operands of different dtypes, and what masks and bytes become.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"

local flat, call_of, cases, arguments, each_row = numeric.flat, numeric.call_of, numeric.cases, numeric.arguments,
  numeric.each_row
local T = {}

-- ---- operands of different dtypes ----

local RANK = { bool = 1, u8 = 2, i64 = 3, f32 = 4, f64 = 5 }

local function wider(a, b)
  local dtype = RANK[a] > RANK[b] and a or b
  return RANK[dtype] < RANK.f32 and "f32" or dtype
end

-- The arguments of a case, of which the kth is of dtype `own` and all others of `other`, and the same converted by hand
-- to what holds both; with the leaves of both.  Whole numbers are 20 to 60: their squares and more leave u8.
local function mixed(args, k, own, other)
  local a, b = { n = args.n, leaves = {} }, { n = args.n, leaves = {} }
  for j = 1, args.n do
    local x = args[j]
    a[j], b[j] = x, x
    if nb.is_tensor(x) and x.dtype == "f64" then
      local dtype = j == k and own or other
      local whole = dtype ~= "f32" and dtype ~= "f64"
      local v = x:detach()
      if whole then v = (v * 20):abs():round() + 20 end
      a[j] = v:to(dtype)
      b[j] = a[j]:to(wider(dtype, other)):clone()
      if not whole then
        a[j].requires_grad, b[j].requires_grad = true, true
        a.leaves[#a.leaves + 1], b.leaves[#b.leaves + 1] = a[j], b[j]
      end
    end
  end
  return a, b
end

-- The gradients of the weighed outputs of a row, recorded or not.
local function gradients_of(row, args, weights, create_graph)
  local J
  for k, y in ipairs { call_of(row)(table.unpack(args, 1, args.n)) } do
    if RANK[y.dtype] >= RANK.f32 then
      weights[k] = weights[k] or nb.rand(y.shape, { dtype = "f64" }) + 0.5
      local part = (y * weights[k]:to(y.dtype)):sum()
      J = J and J + part or part
    end
  end
  if not J or not J.requires_grad then return {} end
  return table.pack(nb.grad(J, args.leaves, { create_graph = create_graph }))
end

local function places_of(args)
  local places = {}
  for k = 1, args.n do
    if nb.is_tensor(args[k]) and args[k].dtype == "f64" then places[#places + 1] = k end
  end
  return #places > 1 and places or {}
end

local PAIRS = { { "f32", "f64" }, { "u8", "f64" }, { "i64", "f64" }, { "u8", "f32" }, { "i64", "f32" } }

-- A row computes, and so does its backward, in the dtype that holds all operands, as if they had been converted.
function T.test_gradients_of_mixed_operands_are_those_of_converted_ones()
  local checked = 0
  each_row(function(row) return row.has_backward end, function(row)
    for _, case in ipairs(assert(cases(row))) do
      local args = arguments(row, case)
      for _, k in ipairs(places_of(args)) do
        for _, pair in ipairs(PAIRS) do
          local a, b = mixed(args, k, pair[1], pair[2])
          local ok, y = pcall(call_of(row), table.unpack(a, 1, a.n))
          local want = ok and call_of(row)(table.unpack(b, 1, b.n))
          if ok and y.dtype == want.dtype then  -- what is written into a tensor takes its dtype
            local what = ("[%s] argument %d of %s beside %s: "):format(case, k, pair[1], pair[2])
            local tolerance = y.dtype == "f64" and 1e-12 or 2e-6
            local wrong = numeric.difference(flat(y), flat(want), tolerance)
            assert(not wrong, what .. tostring(wrong))
            local weights = {}
            for _, recorded in ipairs { false, true } do
              local g, h = gradients_of(row, a, weights, recorded), gradients_of(row, b, weights, recorded)
              for i, leaf in ipairs(a.leaves) do
                assert((g[i] == nil) == (h[i] == nil), what .. "a gradient is missing")
                if g[i] then
                  assert(g[i].dtype == leaf.dtype, what .. "a gradient of another dtype")
                  wrong = numeric.difference(flat(g[i]), flat(h[i]:to(leaf.dtype)), tolerance)
                  assert(not wrong, what .. ("gradient %d, %s"):format(i, wrong))
                  checked = checked + 1
                end
              end
            end
          end
        end
      end
    end
  end)
  assert(checked > 1000, checked)
end

-- ---- masks and bytes ----

local COUNTED = { sub = true, neg = true, square = true, pow = true, mod = true, floordiv = true,
  fmod = true }  -- in i64
local KEPT = { maximum = true, minimum = true, mul = true, add = true, abs = true, sign = true, relu = true,
  floor = true, ceil = true, round = true, trunc = true, fmax = true, fmin = true, nan_to_num = true }
local OWN = { add = function(x, y) return x | y end, bitwise_not = function(x) return 1 - x end }  -- 1 + 1 is no mask

-- NumPy's and PyTorch's rule: masks stay masks wherever 0 and 1 become 0 and 1, and with + where it means "or".
function T.test_masks_stay_masks()
  local m, n = nb.tensor { true, true, false, false }, nb.tensor { true, false, true, false }
  local checked = 0
  each_row(function(row) return row.has_i64 and not row.internal and row.name ~= "where" end, function(row)
    local call, operands = call_of(row), 0
    for _, p in ipairs(row.params) do operands = operands + (p.optional and 0 or 1) end
    if operands > 2 then return end
    local binary, divides = operands == 2, row.name == "mod" or row.name == "floordiv" or row.name == "fmod"
    local y = binary and call(m, divides and nb.ones_like(n) or n) or call(m)
    if row.name == "eq" or not row.has_backward and binary and not divides then return end  -- a comparison
    if COUNTED[row.name] or not KEPT[row.name] and y.dtype == "i64" then
      assert(y.dtype == "i64", "gives " .. y.dtype)
      return
    end
    local x, z = m:to("i64"), n:to("i64")
    local want = OWN[row.name] and {} or flat(binary and call(x, z) or call(x))
    for i = 1, OWN[row.name] and 4 or 0 do want[i] = OWN[row.name](x:at(i), z:at(i)) end
    assert(y.dtype == "bool", "gives " .. y.dtype)
    lu.assertEquals(flat(y), want)
    if binary then
      lu.assertEquals(call(m, true).dtype, "bool")
      lu.assertEquals(call(m, 2).dtype, "i64")  -- a number is none
    end
    if row.inplace then
      local own = m:clone()
      if binary then own[row.name .. "_"](own, n) else own[row.name .. "_"](own) end
      lu.assertEquals(flat(own), want)
    end
    checked = checked + 1
  end)
  for _ in pairs(KEPT) do checked = checked - 1 end
  assert(checked >= 0, checked)
  lu.assertEquals(nb.clamp(nb.tensor { true, false }, true).dtype, "bool")
end

-- What is chosen from a tensor has its dtype; what is counted and added up has i64.
function T.test_reductions_have_the_dtype_of_what_they_give()
  local chosen = { max = true, min = true, sort = true, topk = true, unique = true }
  for _, dtype in ipairs { "bool", "u8", "i64", "f32", "f64" } do
    local x = nb.tensor({ { 1, 0, 1 }, { 0, 0, 1 } }, { dtype = dtype })
    for name in pairs(chosen) do
      local y = name == "topk" and nb.topk(x, 2) or nb[name](x)
      lu.assertEquals(y.dtype, dtype, name)
      y = name == "topk" and nb.topk(x, 2, 1) or name ~= "unique" and nb[name](x, 1) or y
      lu.assertEquals(y.dtype, dtype, name)
    end
    lu.assertEquals({ flat(x:max(1)), flat(x:min(2)) }, { { 1, 0, 1 }, { 0, 0 } })
    for _, name in ipairs { "sum", "prod" } do
      lu.assertEquals(nb[name](x).dtype, RANK[dtype] < RANK.f32 and "i64" or dtype, name)
    end
    for _, name in ipairs { "any", "all" } do lu.assertEquals(nb[name](x).dtype, "bool", name) end
  end
end

return T
