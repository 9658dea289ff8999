-- SPDX-License-Identifier: MIT
-- Tests derived from the operator table: indices and dimensions from the end, in sizes of nine and more.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"

local flat, call_of, cases, arguments, each_row = numeric.flat, numeric.call_of, numeric.cases, numeric.arguments,
  numeric.each_row
local T = {}

local function same(have, want)
  lu.assertEquals(have.n, want.n)
  for k = 1, want.n do
    lu.assertEquals(have[k].shape, want[k].shape)
    local wrong = numeric.difference(flat(have[k]), flat(want[k]), 1e-12)
    if wrong then error(("output %d, %s"):format(k, wrong), 0) end
  end
end

local function results(row, args)
  return table.pack(call_of(row)(table.unpack(args, 1, args.n)))
end

local function takes(row, kind)
  for _, p in ipairs(row.params) do
    if p.kind == kind then return true end
  end
end

local function more(n)
  return n < 2 and n or n + 9
end

-- Every other index counted from the end.
local function from_the_end(t, size)
  local shape, list = t.shape, flat(t)
  for i = 1, #list, 2 do list[i] = list[i] - size - 1 end
  return nb.tensor(list, { dtype = "i64" }):reshape(shape)
end

function T.test_index_tensors_count_from_the_end()
  local counted = 0
  -- Where a plane's places are asked for, 0 is the edge.
  each_row(function(row) return takes(row, "index tensor") and row.family ~= "Pooling" end, function(row)
    for _, case in ipairs(cases(row)) do
      for _, grow in ipairs { false, more } do
        local function made(index)
          nb.seed(11)
          return arguments(row, case, nil, grow or nil, index)
        end
        local fits, want = pcall(results, row, made(nil))
        if fits then
          -- Labels and numbers of rows may have to be positive: refused is well, another place is not.
          local ok, have = pcall(results, row, made(from_the_end))
          if ok then
            same(have, want)
            counted = counted + 1
          else
            assert(have:find("1..", 1, true) or have:find("between", 1, true), have)
          end
        else
          assert(grow, want)
        end
      end
    end
  end)
  assert(counted > 20, counted)
end

-- What an integer parameter of these names means of a tensor of numbers 1, 2 ... along a dimension.
local MEANS = {
  select = function(x, d, k) return nb.select(x, d, k), { k } end,
  narrow = function(x, d, k) return nb.narrow(x, d, k, 1), { k } end,
  slice = function(x, d, k, n) return nb.slice(x, d, k, n), k, n end,
}

function T.test_integers_count_from_the_end()
  local n = 13
  local line = nb.arange(1, n, { dtype = "i64" })
  for d, x in ipairs { line:reshape(n, 1), line:reshape(1, n) } do
    for k = 1, n do
      for _, place in ipairs { k, k - n - 1 } do
        lu.assertEquals(flat((MEANS.select(x, d, place))), { k })
        lu.assertEquals(flat((MEANS.narrow(x, d, place))), { k })
        for last = k, n do
          local want = {}
          for i = k, last do want[#want + 1] = i end
          lu.assertEquals(flat((MEANS.slice(x, d, place, last))), want)
          lu.assertEquals(flat((MEANS.slice(x, d, place, last - n - 1))), want)
        end
      end
    end
    for _, bad in ipairs { 0, n + 1, -n - 1 } do
      lu.assertErrorMsgContains(tostring(bad), MEANS.select, x, d, bad)
      lu.assertErrorMsgContains(tostring(bad), MEANS.narrow, x, d, bad)
    end
  end
end

-- The same with brackets, for reading and for writing.
function T.test_brackets_count_from_the_end()
  local n = 11
  local x = nb.arange(1, n, { dtype = "i64" })
  local table_of = nb.stack { x, x * 100 }:transpose(1, 2):contiguous()  -- n rows of {k, 100k}
  for k = 1, n do
    for _, place in ipairs { k, k - n - 1 } do
      lu.assertEquals(x[place]:item(), k)
      lu.assertEquals(x:at(place), k)
      lu.assertEquals(flat(table_of[place]), { k, 100 * k })
      lu.assertEquals(table_of:at(place, -1), 100 * k)
      lu.assertEquals(flat(table_of[{ place, 2 }]), { 100 * k })
      lu.assertEquals(flat(table_of[{ { place, place }, 1 }]), { k })
      lu.assertEquals(flat(x[nb.tensor({ place, 2 }, { dtype = "i64" })]), { k, 2 })
      local copy, rows = x:clone(), table_of:clone()
      copy[place] = -7
      rows[{ place, -2 }] = -7
      for i = 1, n do
        lu.assertEquals(copy:at(i), i == k and -7 or i)
        lu.assertEquals(rows:at(i, 1), i == k and -7 or i)
        lu.assertEquals(rows:at(i, 2), 100 * i)
      end
      copy = x:clone()
      copy[nb.tensor({ place }, { dtype = "i64" })] = -9
      for i = 1, n do lu.assertEquals(copy:at(i), i == k and -9 or i) end
    end
    for last = k, n do
      local want = {}
      for i = k, last do want[#want + 1] = i end
      lu.assertEquals(flat(x[{ { k, last } }]), want)
      lu.assertEquals(flat(x[{ { k - n - 1, last - n - 1 } }]), want)
    end
  end
  for _, bad in ipairs { 0, n + 1, -n - 1 } do
    lu.assertError(function() return x[bad] end)
    lu.assertError(function() return x:at(bad) end)
    lu.assertError(function() x[bad] = 1 end)
    lu.assertError(function() return x[nb.tensor({ bad }, { dtype = "i64" })] end)
  end
end

-- ---- dimensions ----

local DIMENSIONS = { dimension = true, ["dimension or table of dimensions"] = true }

-- One more dimension of the result than of the first tensor.
local ONE_MORE = { unsqueeze = true, stack = true }

-- How many dimensions a call's dimensions count.
local function rank(row, args)
  local first = args[1]
  if not nb.is_tensor(first) then first = first[1] end
  return #first.shape + (ONE_MORE[row.name] and 1 or 0)
end

-- The arguments of the case with every dimension counted from the other end.
local function turned(row, args)
  local n, out = rank(row, args), { n = args.n }
  local function turn(d) return d > 0 and d - n - 1 or d + n + 1 end
  for k = 1, args.n do out[k] = args[k] end
  local place = 0
  for _, p in ipairs(row.params) do
    if not p.named then
      place = place + 1
      local v = args[place]
      if DIMENSIONS[p.kind] and type(v) == "number" then out[place] = turn(v) end
      if (DIMENSIONS[p.kind] or row.name == "permute") and type(v) == "table" and not nb.is_tensor(v) and #v > 0 then
        out[place] = {}
        for i, d in ipairs(v) do out[place][i] = turn(d) end
      end
    end
  end
  return out
end

function T.test_dimensions_count_from_the_end()
  local counted = 0
  each_row(function(row)
    return (takes(row, "dimension") or takes(row, "dimension or table of dimensions") or row.name == "permute") and
      row.name ~= "overwritten"
  end, function(row)
    for _, case in ipairs(cases(row)) do
      local args = arguments(row, case)
      same(results(row, turned(row, args)), results(row, args))
      counted = counted + 1
    end
  end)
  assert(counted > 60, counted)
end

-- Each of eight dimensions has its own size, so that no other passes for it.
function T.test_eight_dimensions_count_from_the_end()
  local x, counted = nb.rand({ 2, 1, 3, 1, 2, 4, 1, 2 }, { dtype = "f64" }), 0
  each_row(function(row)
    local p = row.params
    return p[1] and p[1].kind == "tensor" and p[2] and DIMENSIONS[p[2].kind] and not row.internal and
      not (p[3] and not p[3].optional) and not ONE_MORE[row.name]
  end, function(row)
    for d = 1, 8 do
      same(results(row, { x, d - 9, n = 2 }), results(row, { x, d, n = 2 }))
      counted = counted + 1
    end
    for _, bad in ipairs { 0, 9, -9 } do
      local ok, err = pcall(results, row, { x, bad, n = 2 })
      assert(not ok and err:find(tostring(bad), 1, true), err)
    end
  end)
  assert(counted > 100, counted)
end

-- ---- steps ----

function T.test_slices_by_every_step()
  local n = 13
  local x = nb.arange(1, n, { dtype = "i64" })
  for step = 1, 5 do
    for first = 1, n do
      for last = first, n do
        local want = {}
        for i = first, last, step do want[#want + 1] = i end
        lu.assertEquals(flat(x[{ { first, last, step } }]), want)
        lu.assertEquals(flat(nb.slice(x, 1, first - n - 1, last - n - 1, step)), want)
      end
    end
  end
end

-- ---- several index tensors at once ----

-- What nested loops read at x[i][j] ..., in the shape of the indices.
local function by_loops(x, i, j)
  local out = {}
  for k = 1, #i do out[k] = x[i[k]][j[k]] end
  return out
end

function T.test_several_index_tensors_read_element_by_element()
  local x = nb.arange(1, 12):reshape(3, 4)
  local i, j = { 3, 1, -1 }, { 4, -4, 2 }
  local want = by_loops({ x[1]:totable(), x[2]:totable(), x[3]:totable() }, { 3, 1, 3 }, { 4, 1, 2 })
  lu.assertEquals(x[{ nb.tensor(i), nb.tensor(j) }]:totable(), want)
  -- They broadcast, and stand where the first stood; with others between, in front.
  local y = nb.arange(1, 24):reshape(2, 3, 4)
  local part = y[{ nb.ALL, nb.tensor { { 1 }, { 3 } }, nb.tensor { 2, 4 } }]
  lu.assertEquals(part.shape, { 2, 2, 2 })
  lu.assertEquals(part[2]:totable(), { { 14, 16 }, { 22, 24 } })
  lu.assertEquals(y[{ nb.tensor { 1, 2 }, nb.ALL, nb.tensor { 4, 1 } }]:totable(), { { 4, 8, 12 }, { 13, 17, 21 } })
  lu.assertEquals(y[{ 2, nb.tensor { 1, 3 }, nb.tensor { 1, 2 } }]:totable(), { 13, 22 })
  lu.assertEquals(x[{ nb.tensor { true, false, true }, 2 }]:totable(), { 2, 10 })
  lu.assertErrorMsgContains("out of range", function() return x[{ nb.tensor { 4 }, nb.tensor { 1 } }] end)
  lu.assertErrorMsgContains("broadcast", function() return x[{ nb.tensor { 1, 2 }, nb.tensor { 1, 2, 3 } }] end)
end

function T.test_several_index_tensors_write_element_by_element()
  local x = nb.zeros(3, 4)
  x[{ nb.tensor { 3, 1 }, nb.tensor { 4, -4 } }] = nb.tensor { 5, 6 }
  lu.assertEquals(x:totable(), { { 6, 0, 0, 0 }, { 0, 0, 0, 0 }, { 0, 0, 0, 5 } })
  x.T[{ nb.tensor { 2, 3 }, 2 }] = 9
  lu.assertEquals(x[2]:totable(), { 0, 9, 9, 0 })
  local w = nb.tensor({ 1, 2 }, { requires_grad = true })
  local z = nb.zeros(2, 2)
  z[{ nb.tensor { 1, 2 }, nb.tensor { 2, 2 } }] = w;
  (z * nb.tensor { { 1, 10 }, { 100, 1000 } }):sum():backward()
  lu.assertEquals(w.grad:totable(), { 10, 1000 })
  lu.assertErrorMsgContains("does not broadcast", function()
    x[{ nb.tensor { 1, 2 }, nb.tensor { 1, 2 } }] = nb.zeros(3)
  end)
end

return T
