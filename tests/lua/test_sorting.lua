-- SPDX-License-Identifier: MIT
-- Sorting beside a plain sort of Lua's: long lanes are sorted by the digits of their numbers, so numbers that differ in
-- one digit alone, and one number among many that are the same, must find their place, too.
local lu = require "luaunit"
local nb = require "nablua"

local T = {}

local LENGTHS = { 7, 64, 300, 3000 }  -- by comparing, by choosing, by digits

-- name → a list of n numbers of a dtype, all of which it holds.
local kinds = {
  i64 = {}, u8 = {}, f64 = {}, f32 = {},
}
for byte = 0, 7 do
  for _, base in ipairs { 0, -1, 0x123456789abcdef, math.mininteger } do
    kinds.i64[("one other in byte %d of %x"):format(byte, base)] = function(n, k)
      local list = {}
      for i = 1, n do list[i] = i == k and base ~ 1 << 8 * byte + k % 8 or base end
      return list
    end
  end
  kinds.i64[("all in byte %d"):format(byte)] = function(n)
    local list = {}
    for i = 1, n do list[i] = (i * 7919 % 256) << 8 * byte end
    return list
  end
end
kinds.u8["one other"] = function(n, k)
  local list = {}
  for i = 1, n do list[i] = i == k and 200 or 73 end
  return list
end
for _, dtype in ipairs { "f32", "f64" } do
  local bits = dtype == "f32" and 23 or 52
  for power = -bits, 0, 3 do
    kinds[dtype][("one other by 2^%d"):format(power)] = function(n, k)
      local list = {}
      for i = 1, n do list[i] = i == k and -1 - 2.0 ^ power or -1.0 end
      return list
    end
  end
  for power = -100, 100, 25 do
    kinds[dtype][("one other of about 2^%d"):format(power)] = function(n, k)
      local list = {}
      for i = 1, n do list[i] = i == k and 2.0 ^ power or 0.0 end
      return list
    end
  end
  kinds[dtype]["both signs"] = function(n)
    local list = {}
    for i = 1, n do list[i] = (i * 7919 % 1000 - 500) / 8 end
    return list
  end
end

function T.test_rows_that_sort_find_every_digit()
  for dtype, makers in pairs(kinds) do
    for name, make in pairs(makers) do
      for _, n in ipairs(LENGTHS) do
        for _, k in ipairs { 1, n // 2, n } do
          local list = make(n, k)
          local x, places = nb.tensor(list, { dtype = dtype }), {}
          for i = 1, n do places[i] = i end
          local what = ("%s, %s, %d numbers, the other at %d"):format(dtype, name, n, k)
          for _, descending in ipairs { false, true } do
            table.sort(places, function(a, b)
              local one, two = list[a], list[b]
              if one == two then return a < b end
              if descending then return one > two end
              return one < two
            end)
            local sorted, order = nb.sort(x, 1, { descending = descending })
            local half = n // 2 + 1
            local first, where = nb.topk(x, half, 1, { largest = descending })
            local wanted, at = {}, {}
            for i = 1, n do wanted[i], at[i] = list[places[i]], places[i] end
            assert(sorted:eq(nb.tensor(wanted, { dtype = dtype })):all():item(), what)
            assert(order:eq(nb.tensor(at, { dtype = "i64" })):all():item(), what .. ": the order")
            assert(first:eq(sorted:narrow(1, 1, half)):all():item(), what .. ": topk")
            assert(x:index_select(1, where):eq(first):all():item(), what .. ": the places of topk")
          end
          lu.assertEquals(nb.unique(x):numel(), nb.sort(x):unique():numel())
        end
      end
    end
  end
end

return T
