-- SPDX-License-Identifier: MIT
-- gather and index_select beside loops in Lua: dtypes, strides, short and long lines, threads, what is out of range.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"

local T = {}
local DTYPES = { "f32", "f64", "i64", "u8", "bool" }

-- 1-based offsets of all elements of a shape, in order, as lists of indices.
local function each(shape, f)
  local at, n = {}, 1
  for d, size in ipairs(shape) do
    at[d] = 1
    n = n * size
  end
  for i = 1, n do
    f(at, i)
    for d = #shape, 1, -1 do
      at[d] = at[d] + 1
      if at[d] <= shape[d] then break end
      at[d] = 1
    end
  end
end

local function offset(shape, at)
  local o = 0
  for d, size in ipairs(shape) do o = o * size + at[d] - 1 end
  return o + 1
end

local function from_end(place, size) return place < 0 and place + size + 1 or place end

local function gathered(x, dim, index)
  local xs, values, places, out = x.shape, numeric.flat(x), numeric.flat(index), {}
  each(index.shape, function(at, i)
    local there = table.move(at, 1, #at, 1, {})
    there[dim] = from_end(places[i], xs[dim])
    out[i] = values[offset(xs, there)]
  end)
  return out
end

local function selected(x, dim, index)
  local xs, values, places, out = x.shape, numeric.flat(x), numeric.flat(index), {}
  local shape = table.move(xs, 1, #xs, 1, {})
  shape[dim] = #places
  each(shape, function(at, i)
    local there = table.move(at, 1, #at, 1, {})
    there[dim] = from_end(places[at[dim]], xs[dim])
    out[i] = values[offset(xs, there)]
  end)
  return out, shape
end

-- Indices from both ends of a dimension.
local function indices(size, ...)
  local t = nb.randint(1, 2 * size, ...)
  return nb.where(t:le(size), t, t - 2 * size - 1)
end

-- The same values in other memory: as a transpose, and as every second element from the second on.
local function forms(t)
  local n = #t.shape
  if t:numel() == 0 then return { t } end
  local wide = t.shape
  wide[n] = 2 * wide[n] + 1
  local apart = nb.zeros(wide, { dtype = t.dtype }):slice(n, 2, -2, 2)
  apart:copy_(t)
  return { t, t:transpose(1, n):contiguous():transpose(1, n), apart }
end

local function both(f)
  local threads = nb.threads()
  nb.threads(1)
  local one = f()
  nb.threads(2)
  local two = f()
  nb.threads(threads)
  lu.assertTrue(one:eq(two):all():item())
  return one
end

local SHAPES = {  -- of x and of the index, and the dimension
  { { 7 }, { 20 }, 1 }, { { 3, 5 }, { 3, 40 }, 2 }, { { 5, 40 }, { 9, 33 }, 1 }, { { 30, 3 }, { 600, 2 }, 1 },
  { { 3, 300 }, { 3, 520 }, 2 }, { { 4, 5, 6 }, { 3, 7, 5 }, 2 }, { { 2, 3, 17 }, { 2, 2, 17 }, -2 },
  { { 4, 5 }, { 0, 5 }, 1 }, { { 4, 5 }, { 4, 0 }, 2 },
}

function T.test_gather_is_the_loop()
  nb.seed(8)
  for _, case in ipairs(SHAPES) do
    local dim = case[3] < 0 and case[3] + #case[1] + 1 or case[3]
    local base, places = nb.randint(0, 250, case[1]), indices(case[1][dim], case[2])
    for _, dtype in ipairs(DTYPES) do
      local x = base:to(dtype)
      local want = gathered(x, dim, places)
      for _, of in ipairs(forms(x)) do
        for _, at in ipairs(forms(places)) do
          local have = both(function() return of:gather(case[3], at) end)
          lu.assertEquals(have.dtype, dtype)
          lu.assertEquals(have.shape, case[2])
          lu.assertEquals(numeric.flat(have), want)
        end
      end
    end
  end
  local x, index = nb.randn(300, 200), indices(300, 250, 200)  -- several threads
  lu.assertEquals(numeric.flat(both(function() return x:gather(1, index) end)), gathered(x, 1, index))
  lu.assertEquals(numeric.flat(both(function() return x.T:gather(2, index.T) end)), gathered(x.T, 2, index.T))
end

function T.test_index_select_is_the_loop()
  nb.seed(9)
  for _, case in ipairs(SHAPES) do
    local dim = case[3] < 0 and case[3] + #case[1] + 1 or case[3]
    local base, places = nb.randint(0, 250, case[1]), indices(case[1][dim], case[2][dim])
    for _, dtype in ipairs(DTYPES) do
      local x = base:to(dtype)
      local want, shape = selected(x, dim, places)
      for _, of in ipairs(forms(x)) do
        for _, at in ipairs(forms(places)) do
          local have = both(function() return of:index_select(case[3], at) end)
          lu.assertEquals(have.shape, shape)
          lu.assertEquals(numeric.flat(have), want)
        end
      end
    end
  end
  local x, index = nb.randn(200, 150), indices(150, 400)
  lu.assertEquals(numeric.flat(both(function() return x:index_select(2, index) end)), (selected(x, 2, index)))
end

function T.test_the_first_index_out_of_range_is_named()
  local sentence = "index %d (element %d of the index) is out of range in dimension %d of size %d"
  local x = nb.zeros(40, 30)
  for _, wrong in ipairs { 0, 41, -41, math.mininteger, math.maxinteger } do
    local index = nb.ones(40, 30, { dtype = "i64" })
    index[{ 20, 7 }] = wrong
    index[{ 35, 1 }] = 99
    local want = sentence:format(wrong, 19 * 30 + 7, 1, 40)
    numeric.assert_error({ "gather", want }, x.gather, x, 1, index)
    numeric.assert_error({ "gather", want }, x.gather, x, 1, index.T:contiguous().T)
    numeric.assert_error({ "scatter", want }, x.scatter, x, 1, index, x)
    local list = nb.ones(600, { dtype = "i64" })
    list[500] = wrong
    numeric.assert_error({ "index_select", sentence:format(wrong, 500, 1, 40) }, x.index_select, x, 1, list)
    list = nb.ones(40, 600, { dtype = "i64" })
    list[{ 3, 300 }] = wrong == 41 and 31 or wrong
    numeric.assert_error({ "gather", ("(element %d of the index)"):format(2 * 600 + 300), "dimension 2 of size 30" },
      x.gather, x, 2, list)
  end
  numeric.assert_error({ "out of range" }, x.gather, nb.zeros(0, 3), 1, nb.ones(1, 3, { dtype = "i64" }))
end

return T
