-- SPDX-License-Identifier: MIT
-- Values of operators against what a search, a loop or a formula gives.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"

local flat = numeric.flat
local T = {}

-- The rows (d = 2) or columns of a matrix as lists of numbers.
local function slices(t, d)
  local lines, list = t:totable(), {}
  if d == 2 then return lines end
  for j = 1, #lines[1] do
    list[j] = {}
    for i = 1, #lines do list[j][i] = lines[i][j] end
  end
  return list
end

local function place_of(slice, better)
  local at = 1
  for i, v in ipairs(slice) do
    local best = slice[at]
    if best ~= best then break end
    if v ~= v or better(v, best) then at = i end
  end
  return at
end

function T.test_extremes_are_the_first_that_a_search_finds()
  local values = { -1 / 0, -2.5, -1e-40, -0.0, 0.0, 1e-40, 3, 1 / 0, 0 / 0, -(0 / 0) }
  local larger, smaller = function(a, b) return a > b end, function(a, b) return a < b end
  nb.seed(3)
  for _, shape in ipairs { { 1, 1 }, { 3, 17 }, { 17, 3 }, { 9, 40 }, { 300, 20 }, { 20, 700 }, { 40, 300 } } do
    for most = 4, #values do  -- without and with infinities and NaN
      local x = nb.tensor(values)[nb.randint(1, most, shape[1], shape[2])]
      for d = 1, 2 do
        local largest, smallest = {}, {}
        for i, slice in ipairs(slices(x, d)) do
          largest[i], smallest[i] = place_of(slice, larger), place_of(slice, smaller)
        end
        lu.assertEquals(nb.argmax(x, d):totable(), largest)
        lu.assertEquals(nb.argmin(x, d):totable(), smallest)
      end
    end
  end
end

-- The places of a list's elements in the order that sorts it: equal ones as they came, NaN the largest.
local function order_of(list, descending)
  local order = {}
  for i = 1, #list do order[i] = i end
  table.sort(order, function(i, j)
    local a, b = list[i], list[j]
    if descending then a, b = b, a end
    if a < b or (a == a and b ~= b) then return true end
    return not (b < a or (b == b and a ~= a)) and i < j
  end)
  return order
end

-- Holds sort, argsort and topk of x (three dimensions) along dimension d to that order.
local function check_order(x, d, descending, ks)
  local function along(t)  -- lanes of three dimensions, as lists, in the order of the other two
    return t:transpose(d, 3):reshape(-1, t:size(d)):totable()
  end
  local lanes, orders = along(x), {}
  for l, lane in ipairs(lanes) do orders[l] = order_of(lane, descending) end
  local function check(name, k, places, values)
    places, values = along(places), values and along(values)
    for l, lane in ipairs(lanes) do
      for i = 1, k do
        local want = orders[l][i]
        if places[l][i] ~= want or (values and ("%q"):format(values[l][i]) ~= ("%q"):format(lane[want])) then
          error(("%s of %d in dimension %d, %s, descending=%s: element %d of lane %d is that at %d, not at %d"):format(
            name, #lane, d, x:dtype(), descending, i, l, places[l][i], want))
        end
      end
      lu.assertEquals(#places[l], k)
    end
  end
  local n = x:size(d)
  local values, places = x:sort(d, { descending = descending })
  check("sort", n, places, values)
  check("argsort", n, x:argsort(d, { descending = descending }))
  for _, k in ipairs(ks) do
    if k >= 1 and k <= n then
      values, places = x:topk(k, d, { largest = descending })
      check("topk " .. k, k, places, values)
    end
  end
end

-- Numbers for the ways that elements can be ordered: many ties, few ties, all digits of a number in use.
local function to_be_sorted(dtype, ...)
  local floats = { 0 / 0, 1 / 0, -1 / 0, 0.0, -0.0, 1e-40, -1e-40, 1.5, -1.5, 3e38, -3e38, -(0 / 0) }
  local whole = { math.maxinteger, math.mininteger, 0, -1, 1, 255, 256, -256, 1 << 53, (1 << 53) + 1, -(1 << 40) }
  local float = dtype == "f32" or dtype == "f64"
  local special = nb.tensor(float and floats or dtype == "i64" and whole or { 0, 1, 127, 128, 255 }, { dtype = dtype })
  local some = special[nb.randint(1, special:numel(), ...)]
  local wide = float and (nb.randn(...) * nb.exp(nb.randn(...) * 9)):to(dtype) or
    nb.randint(0, 255, ...):to(dtype) * nb.tensor(dtype == "i64" and 1 << 52 or 1, { dtype = dtype })
  return { some, wide, nb.where(nb.rand(...):lt(0.1), some, wide) }
end

function T.test_sorted_elements_are_those_of_a_search_for_each()
  nb.seed(5)
  local ks = { 1, 2, 10, 16, 17, 40, 299, 300 }
  for _, dtype in ipairs { "f32", "f64", "i64", "u8" } do
    for _, n in ipairs { 1, 2, 3, 16, 17, 48, 49, 300 } do
      for _, x in ipairs(to_be_sorted(dtype, 2, n, 3)) do
        for _, descending in ipairs { false, true } do
          check_order(x, 2, descending, ks)                                        -- a dimension in the middle
          check_order(x:transpose(2, 3), 3, descending, ks)                        -- the last one, with a stride
          check_order(x:transpose(2, 3):contiguous(), 3, descending, ks)           -- laid out as it is sorted
          check_order(x:transpose(1, 2):narrow(3, 2, 2), 1, descending, ks)        -- part of each row
        end
      end
    end
  end
end

-- Several threads, lanes longer than what is sorted between two looks at the interrupt flag, runs that are in order.
function T.test_long_and_many_lanes_are_sorted()
  nb.seed(5)
  local threads = nb.threads()
  nb.threads(3)
  for _, dtype in ipairs { "f32", "i64" } do
    check_order(to_be_sorted(dtype, 1, 70000, 1)[3], 2, true, { 16, 1000, 69999 })
    for _, x in ipairs(to_be_sorted(dtype, 10, 10, 200)) do check_order(x, 3, false, { 3, 100 }) end
    local rising = nb.arange(1, 600):to(dtype):reshape(1, 600, 1)
    check_order(rising, 2, true, { 1, 16, 17, 600 })
    check_order(rising, 2, false, { 1, 16, 17, 600 })
    check_order(rising * 0, 2, true, { 1, 16, 17, 600 })
  end
  nb.threads(threads)
end

function T.test_nothing_can_be_taken_of_lanes()
  local values, places = nb.topk(nb.randn(3, 5), 0)
  lu.assertEquals({ values:size(1), values:size(2), places:size(1), places:size(2) }, { 3, 0, 3, 0 })
  values, places = nb.topk(nb.randn(3, 0, 2), 0, 2)
  lu.assertEquals({ values:numel(), places:numel() }, { 0, 0 })
  values, places = nb.sort(nb.tensor(4))
  lu.assertEquals({ values:item(), places:item() }, { 4, 1 })
end

-- A value's first element stands for it, and NaN for itself alone.
function T.test_distinct_values_are_those_of_a_search()
  nb.seed(5)
  for _, dtype in ipairs { "f32", "f64", "i64", "u8" } do
    for _, n in ipairs { 1, 2, 40, 500 } do
      for _, x in ipairs(to_be_sorted(dtype, n)) do
        local list, values, counts, inverse = x:totable(), {}, {}, {}
        for _, place in ipairs(order_of(list)) do
          local v = list[place]
          if #values == 0 or v ~= values[#values] then values[#values + 1], counts[#counts + 1] = v, 0 end
          counts[#counts] = counts[#counts] + 1
          inverse[place] = #values
        end
        local got, got_inverse, got_counts = x:unique()
        got = got:totable()
        lu.assertEquals(#got, #values)
        for i, v in ipairs(values) do lu.assertEquals(("%q"):format(got[i]), ("%q"):format(v)) end
        lu.assertEquals(got_inverse:totable(), inverse)
        lu.assertEquals(got_counts:totable(), counts)
      end
    end
  end
end

function T.test_sums_and_softmax_agree_with_a_loop()
  nb.seed(3)
  for _, shape in ipairs { { 1, 1 }, { 3, 1003 }, { 259, 9 }, { 1030, 270 }, { 64, 10 }, { 2, 300 } } do
    local x = nb.randn(shape[1], shape[2]) * 3
    for d = 1, 2 do
      local sums = nb.sum(x, d):totable()
      local soft, logs = slices(nb.softmax(x, d), d), slices(nb.log_softmax(x, d), d)
      for i, slice in ipairs(slices(x, d)) do
        local total, all_exp = 0, 0
        for _, v in ipairs(slice) do total, all_exp = total + v, all_exp + math.exp(v) end
        lu.assertAlmostEquals(sums[i], total, 1e-7 * math.abs(total) + 1e-12)
        for k, v in ipairs(slice) do
          local want = math.exp(v) / all_exp
          lu.assertAlmostEquals(soft[i][k], want, 3e-6 * want)  -- x − max is rounded
          lu.assertAlmostEquals(logs[i][k], math.log(want), 4e-6)
        end
      end
    end
  end
end

-- f32 functions that compute in double are the nearest floats to what libm's doubles give, but for ties.
function T.test_functions_in_double_are_rounded_once()
  nb.seed(6)
  local scales = { tan = { 1e-6, 1, 100, 1e5, 1e9 }, atan = { 1e-6, 0.3, 1, 5, 1e9 }, sinh = { 1e-6, 0.3, 1, 30, 90 },
    cosh = { 1e-6, 0.3, 1, 30, 90 }, asin = { 1e-6, 0.3, 1 }, acos = { 1e-6, 0.3, 1 } }
  for name, list in pairs(scales) do
    for _, scale in ipairs(list) do
      local x = (nb.rand(3000) * 2 - 1) * scale
      local have, want = nb[name](x):to("f64"), nb[name](x:to("f64"))
      local off = (have - want):abs() / (want:abs() * 2 ^ -24 + 1e-45)  -- half an ulp is 0.5 to 1 of this
      lu.assertTrue(nb.where(have:isfinite(), off, nb.zeros_like(off)):max():item() <= 1.01, name .. " " .. scale)
    end
    for _, x in ipairs { 0, -0.0, 1, -1, 2, 1e-40, 100, 1e30, 1 / 0, -1 / 0, 0 / 0 } do
      local many = flat(nb[name](nb.full({ 20 }, x)))
      local want = nb[name](nb.tensor { x }:to("f64")):to("f32")[1]:item()
      for _, have in ipairs { many[1], many[20], flat(nb[name](nb.tensor { x }))[1] } do
        lu.assertTrue(have == want and 1 / have == 1 / want or (have ~= have and want ~= want),
          ("%s(%g): %g, not %g"):format(name, x, have, want))
      end
    end
  end
end

-- Copies whose rows are another's columns, of sizes about those of the squares they go by, and within larger tensors.
function T.test_turned_copies_agree_with_a_loop()
  for _, shape in ipairs { { 16, 16 }, { 17, 15 }, { 15, 40 }, { 16, 33 }, { 64, 31 }, { 100, 130 } } do
    local rows, columns = shape[1], shape[2]
    for _, dtype in ipairs { "f32", "f64", "i64", "u8" } do
      local x = (nb.arange(3 * rows * (columns + 2)) % 251):to(dtype):view(3, rows, columns + 2):narrow(3, 2, columns)
      local turned, first = x:transpose(2, 3):contiguous(), x:permute(3, 2, 1):contiguous()
      lu.assertTrue(turned:is_contiguous() and first:is_contiguous())
      local have, other = turned:totable(), first:totable()
      for k = 1, 3 do
        for i = 1, rows do
          for j = 1, columns do
            local want = (((k - 1) * rows + i - 1) * (columns + 2) + j + 1) % 251  -- counted from 1
            if have[k][j][i] ~= want or other[j][i][k] ~= want then
              lu.fail(("%s of %d × %d at %d, %d, %d"):format(dtype, rows, columns, k, i, j))
            end
          end
        end
      end
      local into = nb.zeros(columns + 1, rows + 3, { dtype = dtype })
      into:narrow(1, 1, columns):narrow(2, 3, rows):copy_(x[2].T)
      lu.assertTrue(into:narrow(1, 1, columns):narrow(2, 3, rows):eq(turned[2]):all():item())
      lu.assertEquals(into:sum():item(), turned[2]:sum():item())
    end
  end
end

-- Lanes in groups of all sizes, side by side and apart; whole numbers, which are exact.
function T.test_running_totals_agree_with_a_loop()
  nb.seed(7)
  local shapes = { { 1, 5 }, { 7, 3 }, { 8, 4 }, { 17, 30 }, { 3, 6, 65 }, { 2, 4, 131 }, { 3, 0, 2 }, { 70, 300 } }
  for _, shape in ipairs(shapes) do
    local x = nb.randint(-3, 3, table.unpack(shape)):to("f32")
    local function in_rows(t, d) return t:transpose(d, -1):contiguous():view(-1, math.max(shape[d], 1)):totable() end
    for d = 1, #shape do
      local lanes = in_rows(x, d)
      for name, of in pairs { cumsum = function(a, b) return a + b end, cumprod = function(a, b) return a * b end } do
        if name == "cumsum" or shape[d] <= 12 then
          for _, dtype in ipairs { "f32", "f64", "i64" } do
            local have = in_rows(nb[name](x:to(dtype), d), d)
            for r, lane in ipairs(lanes) do
              local total
              for k, v in ipairs(lane) do
                total = total and of(total, v) or v
                lu.assertTrue(have[r][k] == total, ("%s of %s along %d"):format(name, dtype, d))
              end
            end
          end
        end
      end
    end
  end
end

function T.test_products_and_norms_agree_with_a_loop()
  nb.seed(5)
  for _, n in ipairs { 1, 2, 15, 16, 17, 63, 64, 65, 1000 } do
    local x = nb.rand(3, n) + 0.5
    local products, norms = x:prod(2):totable(), x:norm(2):totable()
    for i, row in ipairs(x:totable()) do
      local product, squares = 1, 0
      for _, v in ipairs(row) do product, squares = product * v, squares + v * v end
      lu.assertAlmostEquals(products[i], product, 1e-7 * product)
      lu.assertAlmostEquals(norms[i], math.sqrt(squares), 3e-7 * math.sqrt(squares))
      lu.assertAlmostEquals(x[i]:norm():item(), math.sqrt(squares), 1e-7 * math.sqrt(squares))
    end
  end
  -- Neither what many factors make before others, nor a square, leaves the range.
  local factors = nb.tensor { 1e38, 1e-38 }:tile(500)
  lu.assertAlmostEquals(factors:prod():item(), 1, 1e-4)
  lu.assertAlmostEquals(nb.tensor { 3e30, 4e30 }:norm():item() / 5e30, 1, 1e-6)
  lu.assertEquals(nb.cat({ nb.ones(40), nb.zeros(1) }, 1):prod():item(), 0)
  for n = 40, 110 do  -- the powers of two are exact, however far one side of them is out of range
    local far = nb.cat({ nb.full({ n }, 2 ^ 100), nb.full({ n + 1 }, -(2 ^ -100)), nb.full({ 1 }, 3 * 2 ^ 90) }, 1)
    lu.assertEquals(far:prod():item(), (n % 2 == 0 and -3 or 3) * 2 ^ -10)
    lu.assertEquals(1 / nb.cat({ far, nb.tensor { -0.0 } }, 1):prod():item(), n % 2 == 0 and 1 / 0 or -1 / 0)
    lu.assertEquals(nb.cat({ far, nb.tensor { 1 / 0 } }, 1):prod():item(), n % 2 == 0 and -1 / 0 or 1 / 0)
    lu.assertTrue(nb.cat({ far, nb.tensor { 1 / 0, 0 } }, 1):prod():isnan():item())
  end
  lu.assertEquals(nb.full({ 3000 }, 0.5):prod():item(), 0)
  lu.assertEquals(nb.full({ 3001 }, -2):prod():item(), -1 / 0)
  lu.assertTrue(nb.cat({ nb.zeros(40), nb.tensor { 0 / 0 } }, 1):prod():isnan():item())
  lu.assertEquals(nb.full({ 40 }, 1e30):prod():item(), 1 / 0)
  local halves, ones = nb.full({ 2000 }, 0.5), nb.ones(9)  -- 2⁻²⁰⁰⁰ is 0, whose sign and fate later factors decide
  lu.assertEquals(1 / nb.cat({ halves, ones }, 1):prod():item(), 1 / 0)
  lu.assertEquals(1 / nb.cat({ halves, nb.tensor { -1 }, ones }, 1):prod():item(), -1 / 0)
  lu.assertEquals(1 / nb.cat({ nb.tensor { -1 }, halves, nb.tensor { -2 } }, 1):prod():item(), 1 / 0)
  for _, last in ipairs { 1 / 0, 0 / 0 } do
    lu.assertTrue(nb.cat({ halves, nb.tensor { last }, ones }, 1):prod():isnan():item())
  end
  lu.assertEquals({ nb.zeros(0):norm():item(), nb.zeros(0):prod():item(), nb.zeros(2, 0):sum():item() }, { 0, 1, 0 })
end

-- Some exponents have ways of their own when they are one number for all.
function T.test_powers_of_one_exponent_are_those_of_many()
  for _, dtype in ipairs { "f32", "f64" } do
    local x = nb.tensor({ 0, -0.0, 1, -1, 2.5, -3, 1e-3, 1e9, 1 / 0, -1 / 0, 0 / 0 }, { dtype = dtype })
    for _, y in ipairs { 2, 3, -1, 1, 0, 0.5, -2 } do
      local have, want = flat(x ^ y), flat(x ^ nb.full_like(x, y))
      local wrong = numeric.difference(have, want, dtype == "f32" and 2e-7 or 4e-16)
      if wrong then lu.fail(("x ^ %g: %s"):format(y, wrong)) end
      for i = 1, #want do
        if want[i] == 0 then lu.assertEquals(1 / have[i], 1 / want[i]) end
      end
    end
  end
end

function T.test_normal_numbers_are_those_of_box_and_muller()
  for _, n in ipairs { 1, 2, 3, 127, 128, 129, 1000, 40001 } do
    local even = n + n % 2
    nb.seed(n)
    local u = nb.rand(even, { dtype = "f64" }):totable()
    nb.seed(n)
    local z = nb.randn(n, { dtype = "f64" }):totable()
    nb.seed(n)
    local single = nb.randn(n):totable()
    for i = 1, n do
      local pair = i - (i - 1) % 2
      local radius, turn = math.sqrt(-2 * math.log(1 - u[pair])), 2 * math.pi * u[pair + 1]
      local want = radius * (i % 2 == 1 and math.cos(turn) or math.sin(turn))
      assert(math.abs(z[i] - want) < 1e-14 and math.abs(single[i] - want) <= 2 ^ -24 * math.abs(want) + 1e-14, want)
    end
  end
end

-- ---- derivatives where a formula's own are no numbers ----

-- The gradients of f(x₁, x₂, ...) at numbers, and the second derivatives row by row; both ways to the first agree.
local function derivatives(f, ...)
  local x = { ... }
  for k, v in ipairs(x) do x[k] = nb.tensor(v, { dtype = "f64", requires_grad = true }) end
  local first, second, plain = {}, {}, {}
  local g = table.pack(nb.grad(f(table.unpack(x)), x, { create_graph = true }))
  local p = table.pack(nb.grad(f(table.unpack(x)), x))
  for k = 1, #x do
    first[k], plain[k] = g[k] and g[k]:item() or 0, p[k] and p[k]:item() or 0
    local h = g[k] and g[k].requires_grad and table.pack(nb.grad(g[k], x, { retain_graph = true })) or {}
    for j = 1, #x do second[#second + 1] = h[j] and h[j]:item() or 0 end
  end
  lu.assertNil(numeric.difference(plain, first, 1e-15))
  return first, second
end

local function norm(p)
  return function(...) return nb.stack { ... }:norm { p = p } end
end

-- Each is {name, function, point, gradients, second derivatives}: kinks have the slope of PyTorch, and what has no
-- slope, 0.
function T.test_derivatives_at_special_points_are_numbers()
  local function soft(x) return nb.softplus(x, 1, 1) end
  local inf, s = math.huge, 1 / (1 + math.exp(-0.5))
  local function power(y) return function(x) return x ^ y end end
  local function product(...) return nb.stack({ ... }):prod() end
  for _, case in ipairs {
    { "softplus above its threshold", soft, { 2 }, { 1 }, { 0 } },
    { "softplus below it", soft, { 0.5 }, { s }, { s * (1 - s) } },
    { "softplus of a steep one above it", function(x) return nb.softplus(x, 4, 2) end, { 0.75 }, { 1 }, { 0 } },
    { "atan2", nb.atan2, { 0, 0 }, { 0, 0 }, { 0, 0, 0, 0 } },
    { "atan2 beside", nb.atan2, { 0, 2 }, { 0.5, 0 }, { 0, -0.25, -0.25, 0 } },
    { "x^0", power(0), { 0 }, { 0 }, { 0 } }, { "x^0 at 3", power(0), { 3 }, { 0 }, { 0 } },
    { "x^1", power(1), { 0 }, { 1 }, { 0 } }, { "x^2", power(2), { 0 }, { 0 }, { 2 } },
    { "x^3", power(3), { 0 }, { 0 }, { 0 } }, { "x^0.5", power(0.5), { 0 }, { inf }, { -inf } },
    { "x^y at 0", function(x, y) return x ^ y end, { 0, 0 }, { 0, 0 }, { 0, 0, 0, 0 } },
    { "x^0 at the smallest x", power(0), { 5e-324 }, { 0 }, { 0 } },
    { "x^1 at the smallest x", power(1), { 5e-324 }, { 1 }, { 0 } },
    { "0/y of the smallest y", nb.div, { 0, 5e-324 }, { inf, 0 } },
    { "x mod y", nb.mod, { 6, 0.1 }, { 1, -59 }, { 0, 0, 0, 0 } },
    { "x mod -∞", nb.mod, { 1, -inf }, { 1, 1 }, { 0, 0, 0, 0 } },
    { "a product of infinity", product, { inf, 2, 3 }, { 6, inf, inf } },
    { "a product out of range", product, { 1e200, 1e200, 1e-300 }, { 1e-100, 1e-100, inf } },
    { "a product below range", product, { 1e-200, 1e-200, 5 }, { 5e-200, 5e-200, 0 } },
    { "a product of NaN and zero", product, { 0 / 0, 0 }, { 0, 0 / 0 } },
    { "max beside NaN", function(...) return nb.stack({ ... }):max() end, { 1, 0 / 0, 2 }, { 0, 1, 0 } },
    { "norm of infinity beside NaN", norm(inf), { 1, 0 / 0 }, { 0, 0 } },
    { "relu of NaN", nb.relu, { 0 / 0 }, { 1 }, { 0 } },
    { "maximum of NaN", nb.maximum, { 0 / 0, 2 }, { 1, 1 }, { 0, 0, 0, 0 } },
    { "minimum of NaN", nb.minimum, { 2, 0 / 0 }, { 1, 1 }, { 0, 0, 0, 0 } },
    { "x^y at y = 0", function(x, y) return x ^ y end, { 2, 0 }, { 0, math.log(2) }, { 0, 0.5, 0.5, math.log(2) ^ 2 } },
    { "norm", norm(2), { 0, 0 }, { 0, 0 }, { 0, 0, 0, 0 } },
    { "norm beside", norm(2), { 3, 4 }, { 0.6, 0.8 }, { 0.128, -0.096, -0.096, 0.072 } },
    { "norm of 1/2", norm(0.5), { 0, 4 }, { 0, 1 }, { 0, 0, 0, 0 } },
    { "norm of 1/2 at 0", norm(0.5), { 0, 0 }, { 0, 0 }, { 0, 0, 0, 0 } },
    { "norm of 3", norm(3), { 0, -2 }, { 0, -1 }, { 0, 0, 0, 0 } },
    { "norm of 0", norm(0), { 0, -2 }, { 0, 0 }, { 0, 0, 0, 0 } },
    { "norm of -1", norm(-1), { 0, -2 }, { 0, 0 }, { 0, 0, 0, 0 } },
    { "norm of infinity", norm(inf), { 1, -2 }, { 0, -1 }, { 0, 0, 0, 0 } },
    { "norm of infinity, equal ones", norm(inf), { 2, -2 }, { 0.5, -0.5 }, { 0, 0, 0, 0 } },
    { "norm of -infinity", norm(-inf), { 1, -2 }, { 1, 0 }, { 0, 0, 0, 0 } },
    { "std of equal ones", function(...) return nb.stack({ ... }):std() end, { 2, 2 }, { 0, 0 }, { 0, 0, 0, 0 } },
    { "maximum of equal ones", nb.maximum, { 2, 2 }, { 0.5, 0.5 }, { 0, 0, 0, 0 } },
    { "max of equal ones", function(...) return nb.stack({ ... }):max() end, { 2, 2 }, { 0.5, 0.5 }, { 0, 0, 0, 0 } },
    { "relu", nb.relu, { 0 }, { 0 }, { 0 } }, { "abs", nb.abs, { 0 }, { 0 }, { 0 } },
    { "leaky_relu", nb.leaky_relu, { 0 }, { 0.01 }, { 0 } }, { "elu", nb.elu, { 0 }, { 1 }, { 0 } },
    { "clamp at a limit", nb.clamp, { 1, 1, 3 }, { 0.5, 0.5, 0 }, { 0, 0, 0, 0, 0, 0, 0, 0, 0 } },
    { "clamp at the upper limit", nb.clamp, { 3, 1, 3 }, { 0.5, 0, 0.5 }, { 0, 0, 0, 0, 0, 0, 0, 0, 0 } },
    { "clamp without room", nb.clamp, { 1, 1, 1 }, { 0, 0, 1 }, { 0, 0, 0, 0, 0, 0, 0, 0, 0 } },
    { "clamp at a number", function(x) return x:clamp(1, 3) end, { 1 }, { 0 }, { 0 } },
    { "clamp at an upper number", function(x) return x:clamp(1, 3) end, { 3 }, { 0 }, { 0 } },
    { "clamp without a limit", function(x) return x:clamp(1) end, { inf }, { 1 }, { 0 } },
    { "clamp below", function(x, lo) return nb.clamp(x, lo) end, { 1, 2 }, { 0, 1 }, { 0, 0, 0, 0 } },
    { "sqrt", nb.sqrt, { 0 }, { inf }, { -inf } }, { "log", nb.log, { 0 }, { inf }, { -inf } },
    { "tanh", nb.tanh, { inf }, { 0 }, { 0 } }, { "sigmoid", nb.sigmoid, { -inf }, { 0 }, { 0 } },
    { "exp", nb.exp, { -inf }, { 0 }, { 0 } },
  } do
    local first, second = derivatives(case[2], table.unpack(case[3]))
    local wrong = numeric.difference(first, case[4], 1e-12) or
      case[5] and numeric.difference(second, case[5], 1e-12)
    if wrong then lu.fail(case[1] .. ": " .. wrong) end
  end
end

function T.test_norms_of_every_order()
  local x = nb.tensor { { 0, -3, 4 }, { 1, 1, -1 } }
  for p, want in pairs { [math.huge] = { 4, 1 }, [-math.huge] = { 0, 1 }, [0] = { 2, 3 }, [1] = { 7, 3 },
    [2] = { 5, math.sqrt(3) }, [-1] = { 0, 1 / 3 } } do
    numeric.assert_close(x:norm(2, { p = p }), want)
  end
  numeric.assert_close(x:norm { p = math.huge }, 4)
  lu.assertErrorMsgContains("no elements", nb.norm, nb.zeros(0), { p = math.huge })
  lu.assertErrorMsgContains("p must be a number", nb.norm, x, { p = 0 / 0 })
end

-- NaN behind the branch not taken reaches the gradient, as in PyTorch; the guard that the page shows keeps it out.
function T.test_the_guard_of_where_keeps_nan_out()
  local x = nb.tensor({ 0, 2 }, { requires_grad = true })
  local bare = nb.grad(nb.where(x:gt(0), x:log(), 0):sum(), x):totable()
  lu.assertTrue(bare[1] ~= bare[1] and bare[2] == 0.5)
  local guarded = nb.where(x:gt(0), nb.where(x:gt(0), x, 1):log(), 0)
  lu.assertEquals(nb.grad(guarded:sum(), x):totable(), { 0, 0.5 })
end

-- ---- whole numbers that f32 would round ----

function T.test_counting_beyond_f32_gives_whole_numbers()
  local t = nb.arange(16777216, 16777225)
  lu.assertEquals({ t.dtype, #t, t:at(2), t:at(10) }, { "i64", 10, 16777217, 16777225 })
  lu.assertEquals(nb.arange(16777216).dtype, "f32")
  lu.assertEquals(nb.arange(0, 1e8, 1e6).dtype, "f32")  -- all of which f32 holds
  lu.assertEquals(nb.arange(16777216, 16777225, { dtype = "f32" }).dtype, "f32")
  lu.assertEquals(nb.arange(-16777217, -16777215):totable(), { -16777217, -16777216, -16777215 })
  lu.assertEquals(nb.arange(math.maxinteger - 1, math.maxinteger):totable(), { math.maxinteger - 1, math.maxinteger })
  lu.assertEquals(nb.arange(3, 1, -1):totable(), { 3, 2, 1 })
  lu.assertEquals(nb.arange(1, 2.5):totable(), { 1, 2 })
  lu.assertEquals(nb.arange(5, 1):numel(), 0)
end

function T.test_powers_of_whole_numbers_are_such()
  local x = nb.tensor({ 3, -2 }, { dtype = "i64" })
  lu.assertEquals((x ^ 3):totable(), { 27, -8 })
  lu.assertEquals((x ^ 0):totable(), { 1, 1 })
  lu.assertErrorMsgContains("negative power", function() return x ^ -1 end)
  numeric.assert_close(x ^ -1.0, { 1 / 3, -0.5 })
  numeric.assert_close(x ^ 0.5, { math.sqrt(3), 0 / 0 })
end

function T.test_products_of_whole_matrices_agree_with_a_loop()
  nb.seed(4)
  local function at(t, i, j, k) return t:at(i, j, k) end
  local a, b = nb.randint(math.mininteger, math.maxinteger, 3, 5, 4), nb.randint(-9, 9, 3, 4, 6)
  for _, x in ipairs { a, a:transpose(2, 3):contiguous():transpose(2, 3) } do
    for _, y in ipairs { b, b:transpose(2, 3):contiguous():transpose(2, 3) } do
      local c = x:matmul(y)
      lu.assertEquals(c.dtype, "i64")
      for n = 1, 3 do
        for i = 1, 5 do
          for j = 1, 6 do
            local sum = 0
            for k = 1, 4 do sum = sum + at(a, n, i, k) * at(b, n, k, j) end
            assert(c:at(n, i, j) == sum)
          end
        end
      end
    end
  end
  local bytes, none = nb.tensor({ { 200, 100 } }, { dtype = "u8" }), nb.zeros(2, 0, { dtype = "i64" })
  lu.assertEquals(bytes:matmul(nb.tensor({ 2, 3 }, { dtype = "u8" })):item(), 700)
  lu.assertEquals(none:matmul(none.T):totable(), { { 0, 0 }, { 0, 0 } })
end

-- The largest of a row is taken off before e is raised to it, wherever it stands.
function T.test_softmax_of_one_large_number()
  for _, n in ipairs { 2, 3, 8, 17, 40, 300, 1031 } do
    for _, place in ipairs { 1, n // 2 + 1, n } do
      for _, dtype in ipairs { "f32", "f64" } do
        local row = nb.zeros(n, { dtype = dtype })
        row[place] = 1000
        local rows = nb.stack { row, row, row }
        local want, log = row / 1000, row - 1000
        for dim, x in ipairs { rows.T, rows } do
          local part = dim == 1 and function(t) return t.T[2] end or function(t) return t[2] end
          lu.assertEquals(flat(part(nb.softmax(x, dim))), flat(want), ("%s %d of %d"):format(dtype, place, n))
          lu.assertEquals(numeric.flat(part(nb.log_softmax(x, dim))), numeric.flat(log))
          lu.assertEquals(numeric.flat(nb.logsumexp(x, dim)), { 1000, 1000, 1000 })
        end
        lu.assertEquals(numeric.flat(nb.cross_entropy(rows, nb.tensor { place, place % n + 1, place })), { 0, 1000, 0 })
      end
    end
  end
end

-- x = y·⌊x/y⌋ + x mod y, judged by Lua's own remainder, which is exact.
function T.test_floors_of_quotients_are_those_of_exact_ones()
  local list = { 6, 0.1, 1, -1, 0.3, -0.7, 1e-5, 3, 7, 1e300, 5e-324, -5e-324, 2.5, -1e15, 1 / 3, 1 / 0, -1 / 0, 0.0 }
  for _, dtype in ipairs { "f32", "f64" } do
    for _, x in ipairs(list) do
      for _, y in ipairs(list) do
        local a, b = nb.tensor({ x }, { dtype = dtype }), nb.tensor({ y }, { dtype = dtype })
        local q = nb.floordiv(a, b):item()
        x, y = a:item(), b:item()
        local rest = x % y
        local most = dtype == "f32" and 2 ^ 24 or 2 ^ 50  -- what is larger is rounded
        if math.abs(x) < 1 / 0 and y ~= 0 and math.abs(x / y) < most and math.abs(x) / math.abs(y) > 2 ^ -50 then
          local want = (x - rest) / y
          lu.assertEquals(q, want >= 0 and math.floor(want + 0.5) or math.ceil(want - 0.5), x .. " // " .. y)
        elseif math.abs(y) == 1 / 0 and math.abs(x) < 1 / 0 then
          lu.assertEquals(q, x ~= 0 and (x < 0) ~= (y < 0) and -1 or 0, x .. " // " .. y)
        elseif x / y ~= x / y then
          lu.assertTrue(q ~= q, x .. " // " .. y)
        end
      end
    end
  end
end

-- A NaN that was not taken gets nothing, and equal ones share, as those of maximum do.
function T.test_who_gets_the_gradient_of_the_larger_number()
  local nan = 0 / 0
  for _, name in ipairs { "fmax", "fmin" } do
    local x = nb.tensor({ nan, nan, 1, 2, 1 }, { requires_grad = true })
    local y = nb.tensor({ nan, 1, nan, 2, 3 }, { requires_grad = true })
    nb[name](x, y):sum():backward()
    local last = name == "fmax" and 0 or 1
    lu.assertEquals({ table.unpack(x.grad:totable(), 2) }, { 0, 1, 0.5, last }, name)
    lu.assertEquals({ table.unpack(y.grad:totable(), 2) }, { 1, 0, 0.5, 1 - last }, name)
  end
end

function T.test_logit_has_a_slope_where_it_has_a_value()
  local x = nb.tensor({ -0.5, 0.5, 1.5 }, { requires_grad = true })
  nb.logit(x):sum():backward()
  lu.assertEquals({ x.grad:isnan():totable(), x.grad:at(2) }, { { true, false, true }, 4 })
  lu.assertErrorMsgContains("eps must be a number from 0 to 1", nb.logit, x, -0.1)
end

-- Σ 1/(x + k)^(n+1) as it stands, of a million terms on either side of 0.
function T.test_polygamma_far_below_zero()
  for _, n in ipairs { 2, 3 } do
    local x, sum, factorial = -20000.25, 0, n == 2 and 2 or 6
    for k = 1000000, 0, -1 do sum = sum + 1 / (x + k) ^ (n + 1) end
    local want = (n % 2 == 0 and -1 or 1) * factorial * sum
    numeric.assert_close(nb.polygamma(nb.tensor({ x }, { dtype = "f64" }), n), want, 1e-11)
  end
end

return T
