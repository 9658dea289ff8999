-- SPDX-License-Identifier: MIT
-- Random numbers beside the same in Lua: Philox4x32-10 and what is made of its words.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"

local T = {}
local SEED, LOW = 0x123456789ABCDEF, 0xFFFFFFFF
local MANY, HEAD, TAIL = 70001, 3000, 101  -- several threads share MANY; what is compared of them

-- Word i of the stream of a seed: two of the four numbers of a block, the first in the low half.
local function word(i, seed)
  local at, k0, k1 = i // 2, seed & LOW, seed >> 32
  local c0, c1, c2, c3 = at & LOW, at >> 32, 0, 0
  for _ = 1, 10 do
    local a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
    c0, c1, c2, c3 = b >> 32 ~ c1 ~ k0, b & LOW, a >> 32 ~ c3 ~ k1, a & LOW
    k0, k1 = k0 + 0x9E3779B9 & LOW, k1 + 0xBB67AE85 & LOW
  end
  if i % 2 == 0 then return c0 | c1 << 32 end
  return c2 | c3 << 32
end

local function unit(i)
  local w = word(i, SEED)
  return (w & LOW) * 2.0 ^ -32 + (w >> 43) * 2.0 ^ -53
end

-- Of unsigned numbers: the halves of a product, and a remainder.
local function product(a, b)
  local ah, al, bh, bl = a >> 32, a & LOW, b >> 32, b & LOW
  local middle = ah * bl + (al * bl >> 32)
  local other = al * bh + (middle & LOW)
  return ah * bh + (middle >> 32) + (other >> 32), a * b
end

local function remainder(a, b)
  if b < 0 then return math.ult(a, b) and a or a - b end
  local r = a - (((a >> 1) // b) << 1) * b
  return math.ult(r, b) and r or r - b
end

-- Number i below range (0: 2^64) out of 64 bits, from try `try` on.
local function long(i, range, try)
  if range == 0 then return word(i, SEED) end
  for again = try, math.huge do
    local high, low = product(word(i, SEED ~ again * 0x9E3779B97F4A7C15), range)
    if not math.ult(low, remainder(-range, range)) then return high, again end
  end
end

local function short(i, range)
  local p = (word(i // 2, SEED) >> i % 2 * 32 & LOW) * range
  if p & LOW < (1 << 32) % range then return long(i, range, 1) end
  return p >> 32, 0
end

-- The tensor of a fresh stream, which must be the same with one thread and with two.
local function made(make)
  local threads, tensors = nb.threads(), {}
  for count = 1, 2 do
    nb.threads(count)
    nb.seed(SEED)
    tensors[count] = make()
  end
  nb.threads(threads)
  lu.assertTrue(tensors[1]:eq(tensors[2]):all():item())
  return tensors[1]
end

-- Compares the ends of a tensor of MANY elements with want(i), i from 0.
local function assert_ends(t, want, tolerance)
  for _, part in ipairs { { 0, HEAD }, { MANY - TAIL, TAIL } } do
    local list = numeric.flat(t:narrow(1, part[1] + 1, part[2]))
    for k, have in ipairs(list) do
      local w = want(part[1] + k - 1)
      if not (have == w or math.abs(have - w) <= (tolerance or 0)) then
        lu.fail(("element %d is %s and should be %s"):format(part[1] + k, have, w))
      end
    end
  end
end

function T.test_whole_numbers_are_those_of_the_stream()
  local again = 0
  for _, case in ipairs { { 1, 10 }, { -3, -3 }, { 0, 16711935 }, { 1, 1 << 24 }, { 1, (1 << 24) + 1 }, { -7, 1 << 40 },
                          { -(1 << 62), 1 << 62 }, { math.mininteger, math.maxinteger } } do
    local low, high = case[1], case[2]
    local range = high - low + 1
    local draw = range > 0 and range <= 1 << 24 and short or function(i, r) return long(i, r, 0) end
    assert_ends(made(function() return nb.randint(low, high, MANY) end), function(i)
      local number, try = draw(i, range)
      again = again + (try or 0)
      return low + number
    end)
  end
  lu.assertTrue(again > 1000)  -- the last but one range takes every second number again
end

function T.test_whole_numbers_have_all_dtypes()
  local want = made(function() return nb.randint(0, 200, MANY) end)
  for _, dtype in ipairs { "f32", "f64", "u8", "bool" } do
    local have = made(function() return nb.randint(0, 200, MANY, { dtype = dtype }) end)
    lu.assertEquals(have.dtype, dtype)
    lu.assertTrue(have:eq(want:to(dtype)):all():item())
  end
end

function T.test_uniform_numbers_are_those_of_the_stream()
  assert_ends(made(function() return nb.rand(MANY, { dtype = "f64" }) end), unit)
  assert_ends(made(function() return nb.rand(MANY) end),
    function(i) return ((word(i, SEED) & LOW) >> 8) * 2.0 ^ -24 end)
end

function T.test_normal_numbers_are_those_of_the_stream()
  local function normal(i)
    local u, v = unit(i - i % 2), unit(i - i % 2 + 1)
    return math.sqrt(-2 * math.log(1 - u)) * (i % 2 == 0 and math.cos or math.sin)(2 * math.pi * v)
  end
  assert_ends(made(function() return nb.randn(MANY, { dtype = "f64" }) end), normal, 1e-14)
  assert_ends(made(function() return nb.randn(MANY) end), normal, 3e-7)
  for n = 1, 70 do  -- the same, however few are drawn
    nb.seed(SEED)
    for i, have in ipairs(numeric.flat(nb.randn(n, { dtype = "f64" }))) do
      lu.assertAlmostEquals(have, normal(i - 1), 1e-14)
    end
  end
end

function T.test_permutations_are_those_of_the_stream()
  for _, n in ipairs { 0, 1, 2, 3, 64, 65, 1000 } do
    local want = {}
    for i = 1, n do want[i] = i end
    for i = 0, n - 1 do
      local j = 1 + long(i, n - i, 0)
      want[n - i], want[j] = want[j], want[n - i]
    end
    lu.assertEquals(numeric.flat(made(function() return nb.randperm(n) end)), want)
  end
  lu.assertTrue(nb.randperm(100000):sort():eq(nb.arange(100000)):all():item())
end

-- What is drawn for a tensor is of its dtype; for whole numbers and masks f32 with the numbers that f32 gets.
function T.test_whole_numbers_get_fractions_of_f32()
  local rows = 0
  numeric.each_row(function(row)
    return row.family == "Random numbers" and row.params[1] and row.params[1].kind == "tensor"
  end, function(row)
    local function drawn(dtype)
      nb.seed(SEED)
      return nb[row.name](nb.ones(2, 30, { dtype = dtype }))
    end
    local want = drawn "f32"
    for _, dtype in ipairs { "bool", "u8", "i64" } do
      lu.assertEquals(drawn(dtype).dtype, "f32")
      lu.assertTrue(nb.equal(drawn(dtype), want), dtype)
    end
    lu.assertEquals({ want.dtype, drawn("f64").dtype }, { "f32", "f64" })
    rows = rows + 1
  end)
  lu.assertTrue(rows >= 4)
end

-- Counts of equally likely outcomes; the bound is passed once in a million times, and the seed is fixed.
local function assert_even(counts, outcomes, total, bound)
  local chi = 0
  for k = 1, outcomes do chi = chi + ((counts[k] or 0) - total / outcomes) ^ 2 / (total / outcomes) end
  lu.assertTrue(chi < bound, ("chi-square %g"):format(chi))
  for k in pairs(counts) do lu.assertTrue(k >= 1 and k <= outcomes) end
end

function T.test_all_outcomes_are_equally_likely()
  nb.seed(4)
  local counts = {}
  for _, v in ipairs(numeric.flat(nb.randint(1, 10, 50000))) do counts[v] = (counts[v] or 0) + 1 end
  assert_even(counts, 10, 50000, 46)
  counts = {}
  local width = (1 << 40) // 8
  for _, v in ipairs(numeric.flat(nb.randint(0, (1 << 40) - 1, 20000))) do
    local k = math.tointeger(v) // width + 1
    counts[k] = (counts[k] or 0) + 1
  end
  assert_even(counts, 8, 20000, 42)
  counts = {}
  local place = { ["123"] = 1, ["132"] = 2, ["213"] = 3, ["231"] = 4, ["312"] = 5, ["321"] = 6 }
  for _ = 1, 6000 do
    local k = place[("%d%d%d"):format(table.unpack(numeric.flat(nb.randperm(3))))]
    counts[k] = (counts[k] or 0) + 1
  end
  assert_even(counts, 6, 6000, 37)
end

return T
