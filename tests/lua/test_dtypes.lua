-- SPDX-License-Identifier: MIT
-- Tests derived from the operator table: every dtype's loop gives what that of f64 gives, on numbers that both hold.
local nb = require "nablua"
local numeric = require "numeric"

local flat, call_of, cases, arguments, each_row = numeric.flat, numeric.call_of, numeric.cases, numeric.arguments,
  numeric.each_row
local T = {}

local DTYPES = { "bool", "u8", "i64", "f32" }

-- ---- two calls with the same numbers ----

-- nil when a result of that dtype is the one of f64, else a sentence.  u8 wraps, and what is not 0 is true.  f32 rounds
-- in proportion to the number; to the largest of the result when it is `summed` from many.
local function compare(have, want, summed)
  local a, b = flat(have), flat(want)
  if #a ~= #b then return ("%d values against %d"):format(#a, #b) end
  local exact = have.dtype ~= "f32"
  local scale = 0
  for _, y in ipairs(summed and b or {}) do
    if math.abs(y) < 1e300 then scale = math.max(scale, math.abs(y)) end
  end
  for i = 1, #a do
    local x, y = a[i], b[i]
    local same = x == y or x ~= x and y ~= y
    if not same and have.dtype == "bool" then same = (x == 1) == (y ~= 0) end
    if not same and have.dtype == "u8" and want.dtype ~= "bool" then same = (x - y) % 256 == 0 end
    -- What a whole number of 64 bits, or f32, cannot hold says nothing.
    if not same and exact and math.abs(y) >= 2 ^ 53 then same = true end
    if not same and not exact then
      same = math.abs(y) > 1e38 or numeric.close(x, y, 2e-5) or math.abs(x - y) <= 2e-5 * scale
    end
    if not same then
      return ("value %d of %d: %.10g (%s) against %.10g (%s)"):format(i, #a, x, have.dtype, y, want.dtype)
    end
  end
end

-- The arguments with every f64 tensor replaced by other(tensor), inside tables, too.
local function replaced(args, other)
  local out = { n = args.n }
  for k = 1, args.n do
    local a = args[k]
    if nb.is_tensor(a) then
      out[k] = a.dtype == "f64" and other(a) or a
    elseif type(a) == "table" then
      out[k] = {}
      for key, v in pairs(a) do out[k][key] = nb.is_tensor(v) and v.dtype == "f64" and other(v) or v end
    else
      out[k] = a
    end
  end
  return out
end

-- Compares a row's results of arguments in a dtype with those in f64; false when the row refuses the dtype.
local function same_as_f64(row, args, dtype, summed)
  local function converted(to)
    return table.pack(call_of(row)(table.unpack(replaced(args, function(t) return to(t) end), 1, args.n)))
  end
  local ok, have = pcall(converted, function(t) return t:to(dtype) end)
  if not ok then return false, have end
  local want = converted(function(t) return t end)
  assert(have.n == want.n, "another number of results")
  for k = 1, have.n do
    local a, b = have[k], want[k]
    if row.name == "svd" or row.name == "eigh" then a, b = a:abs(), b:abs() end  -- vectors may have either sign
    local wrong = compare(a, b, summed)
    if wrong then error(("%s, output %d: %s"):format(dtype, k, wrong), 0) end
  end
  return true
end

-- ---- elementwise rows ----

local RANGES = { bool = { 0, 1 }, u8 = { 0, 200 }, i64 = { -50, 50 } }

-- Numbers that the dtype holds, as f64.  `kind`: of second operands some rows take but those that are not zero, or
-- not negative.
local function numbers(row, dtype, shape, kind)
  if dtype == "f32" then
    local lo, hi = row.sample.lo, row.sample.hi
    if lo == 0 and hi == 0 then lo, hi = -2, 2 end
    return (nb.rand(shape, { dtype = "f64" }) * (hi - lo) + lo):to("f32"):to("f64")
  end
  local lo, hi = table.unpack(RANGES[dtype])
  if kind == "not negative" then lo, hi = 0, math.min(hi, 5) end
  local x = nb.randint(lo, hi, shape, { dtype = "i64" }):to("f64")
  return kind == "not zero" and nb.where(x:eq(0), 1, x) or x
end

-- A tensor of every other row and every third column of a larger one, and one whose dimensions are swapped.
local function swapped(t)
  return #t.shape == 2 and t:transpose(1, 2):contiguous():transpose(1, 2) or t
end

-- Shapes of up to three operands: alone, long enough for vectors with a rest, broadcast either way, without elements.
local SHAPES = {
  { { 1 }, { 1 }, { 1 } }, { { 16 }, { 16 }, { 16 } }, { { 43 }, { 43 }, { 43 } }, { { 1031 }, { 1031 }, { 1031 } },
  { { 5, 37 }, { 5, 37 }, { 5, 37 } }, { { 5, 37 }, { 37 }, { 5, 1 } }, { { 37 }, { 5, 37 }, {} },
  { { 5, 37 }, { 5, 1 }, { 37 } }, { { 5, 1 }, { 5, 37 }, { 1, 37 } }, { { 300 }, {}, {} }, { {}, { 300 }, { 300 } },
  { { 0 }, { 0 }, { 0 } }, { { 2, 0, 3 }, { 3 }, { 2, 1, 1 } },
}
local LAYOUTS = { function(t) return t end, numeric.strided, swapped }

local function operands(row, dtype, shapes, kind)
  return numeric.operands(row, function(p, n)
    return numbers(row, p.kind == "mask" and "bool" or dtype, shapes[n], n > 1 and kind or nil)
  end)
end

-- Rows that take no fractions have no loop of f64 to agree with: of long ones each part is what it is alone.
function T.test_whole_numbers_in_long_rows_are_those_of_their_parts()
  local rows = 0
  each_row(function(row) return row.of_whole end, function(row)
    rows = rows + 1
    local call = call_of(row)
    for _, dtype in ipairs { "bool", "u8", "i64" } do
      local args = {}
      for k in ipairs(row.params) do args[k] = nb.randint(0, 9, { 1031 }):to(dtype) end
      local whole, n = call(table.unpack(args)), 0
      for first = 1, 1031, 7 do
        local part, size = {}, math.min(7, 1032 - first)
        for k, x in ipairs(args) do part[k] = x:narrow(1, first, size) end
        assert(nb.equal(call(table.unpack(part)), whole:narrow(1, first, size)), dtype .. " from " .. first)
        n = n + size
      end
      assert(n == 1031)
    end
  end)
  assert(rows >= 6)
end

function T.test_every_loop_agrees_with_that_of_f64()
  local compared = 0
  each_row(function(row) return row.elementwise and not row.of_whole end, function(row)
    for _, dtype in ipairs(DTYPES) do
      local accepted, why = 0, nil
      for _, shapes in ipairs(SHAPES) do
        for _, kind in ipairs { "any", "not zero", "not negative" } do
          local args = assert(operands(row, dtype, shapes, kind), "the row takes more than tensors")
          for k, layout in ipairs(LAYOUTS) do
            local ok, err = same_as_f64(row, replaced(args, layout), dtype)
            if ok then accepted = accepted + 1 else why = err end
            if not ok or #shapes[1] == 1 and k == 2 then break end
          end
          if dtype == "f32" then break end
        end
      end
      compared = compared + accepted
      local needed = dtype == "f32" or dtype == "i64" and row.has_i64 or dtype == "u8" and row.has_u8
      assert(not needed or accepted >= 20, ("%s: %d calls accepted; %s"):format(dtype, accepted, why))
    end
  end)
  assert(compared > 8000, compared)
end

-- ---- all others ----

local function other_rows(row)
  return not row.elementwise and row.family ~= "Random numbers" and #row.params > 0 and row.name ~= "empty_like" and
    row.sample.args ~= "" and cases(row) and table.concat(cases(row)):find("[fws]%(") ~= nil
end

-- Whole numbers about those of the sample, some of them the same; or ±1 and 0 alone, whose products fit any dtype.
local WHOLE = {
  function(t) return (t * 3):round() end,
  function(t) return t:sign() end,
}

-- Results that only make sense together: two dtypes may well find other vectors of the same matrix.
local AMBIGUOUS = { svd = true, eigh = true, qr = true, lu = true, eig = true }
-- Of matrices whose condition grows with them.
local LINEAR = { ["Linear algebra"] = true, Decompositions = true, Factors = true }
local LARGEST = 20000  -- elements of a grown result that is looked at

local function whole(t, dtype, form)
  t = WHOLE[form](t:detach())
  return dtype == "bool" and t:gt(0):to("f64") or dtype == "u8" and t:abs() or t
end

local function more(n)
  return n < 2 and n or n + 17
end

function T.test_other_rows_agree_with_f64()
  local compared = { bool = 0, u8 = 0, i64 = 0, f32 = 0 }
  each_row(other_rows, function(row)
    for _, case in ipairs(cases(row)) do
      -- Rows that serve others are given what these have: floating point, and shapes that fit.
      for _, grow in ipairs { false, not (row.internal or LINEAR[row.family]) and more or nil } do
        local ok, args = pcall(arguments, row, case, nil, grow or nil)
        if ok then
          args = nb.no_grad(replaced, args, function(t) return t:detach() end)
          -- Grown, some cases ask for shapes that they do not have.
          local fits, result = pcall(call_of(row), table.unpack(args, 1, args.n))
          assert(fits or grow, result)
          fits = fits and (not grow or result:numel() < LARGEST)
          for _, dtype in ipairs(fits and ((row.internal or AMBIGUOUS[row.name]) and { "f32" } or DTYPES) or {}) do
            for form = 1, dtype == "f32" and 1 or 2 do
              for _, layout in ipairs { LAYOUTS[1], row.name ~= "view" and numeric.strided or nil } do
                local numbers_of = replaced(args, function(t)
                  return layout(dtype == "f32" and t:to("f32"):to("f64") or whole(t, dtype, form))
                end)
                -- Bools as an attention's mask mean another thing than numbers do.
                if dtype == "bool" and row.name:find("attention") then break end
                local good, same = pcall(same_as_f64, row, numbers_of, dtype, grow)
                if not good then error(("[%s]%s %s"):format(case, grow and " grown" or "", same), 0) end
                if same then compared[dtype] = compared[dtype] + 1 end
              end
            end
          end
        end
      end
    end
  end)
  for dtype, least in pairs { bool = 200, u8 = 200, i64 = 200, f32 = 200 } do
    assert(compared[dtype] > least, dtype .. ": " .. compared[dtype])
  end
end

-- ---- from one dtype to another, and powers of a number ----

function T.test_every_dtype_converts_to_every_other()
  for _, from in ipairs { "bool", "u8", "i64", "f32", "f64" } do
    for _, to in ipairs { "bool", "u8", "i64", "f32", "f64" } do
      local list, want = {}, {}
      for i = 1, 43 do
        list[i] = i * 5 % 7
        want[i] = (from == "bool" or to == "bool") and (list[i] ~= 0 and 1 or 0) or list[i]
      end
      local x = nb.tensor(list, { dtype = "i64" }):ne(0)
      if from ~= "bool" then x = nb.tensor(list, { dtype = from }) end
      for _, layout in ipairs { LAYOUTS[1], numeric.strided } do
        local y = layout(x):to(to)
        assert(y.dtype == to and not numeric.difference(flat(y), want, 0), from .. " to " .. to)
      end
      local all = x[1]:expand(43):to(to)
      assert(not numeric.difference(flat(all), flat(nb.full({ 43 }, want[1])), 0), from .. " expanded to " .. to)
    end
  end
end

-- Some powers have loops of their own.
function T.test_powers_of_a_number_are_products()
  for _, dtype in ipairs { "f32", "f64" } do
    local x = (nb.rand(43, { dtype = dtype }) + 0.5) * nb.where(nb.rand(43):gt(0.5), 1, -1):to(dtype)
    local y = x * x
    for power, want in pairs { [2] = y, [3] = y * x, [-1] = 1 / x, [1] = x, [0] = x * 0 + 1, [4] = y * y } do
      for _, layout in ipairs { LAYOUTS[1], numeric.strided } do
        local wrong = numeric.difference(flat(layout(x) ^ power), flat(want), dtype == "f32" and 1e-6 or 1e-14)
        assert(not wrong, ("%s ^ %d: %s"):format(dtype, power, wrong))
      end
    end
  end
end

-- The gradient of a mean is spread over many elements at once.
function T.test_the_gradient_of_a_mean_is_one_over_the_number()
  for _, dtype in ipairs { "f32", "f64" } do
    local x = nb.rand({ 5, 40 }, { dtype = dtype })
    x.requires_grad = true
    local g = nb.grad((x:mean(1) * nb.arange(40)):sum(), x)
    for i = 1, 5 do assert(not numeric.difference(flat(g[i]), flat(nb.arange(40) / 5), 1e-6)) end
  end
end

-- ---- far from 1 ----

-- The elements of one operand at a magnitude, in f64 but held by f32; of either sign where the row's sample has both.
local function about(row, p, magnitude)
  local x = (nb.rand(43, { dtype = "f64" }) * 0.5 + 0.5) * (p.name == "target" and 0.9 or magnitude)
  if row.sample.lo <= 0 then x = x * (nb.rand(43):gt(0.5):to("f64") * 2 - 1) end
  return x:to("f32"):to("f64")
end

function T.test_single_precision_agrees_with_double_at_every_magnitude()
  local compared = 0
  each_row(function(row) return row.elementwise and not row.whole end, function(row)
    for _, magnitude in ipairs { 1e-3, 2, 30 } do
      local args, leaves = { n = 0 }, {}
      for _, p in ipairs(row.params) do
        if p.kind == "mask" or numeric.is_tensor_kind(p.kind) and not p.optional then
          args.n = args.n + 1
          args[args.n] = p.kind == "mask" and nb.rand(43):gt(0.4) or about(row, p, magnitude)
        end
      end
      -- Values, and slopes along with them.
      local function both(dtype)
        leaves = {}
        local given = replaced(args, function(t)
          local leaf = t:to(dtype):clone():detach()
          leaf.requires_grad = row.has_backward
          leaves[#leaves + 1] = leaf
          return leaf
        end)
        local y = call_of(row)(table.unpack(given, 1, given.n))
        if not y.requires_grad then return { y } end
        local out = { y:detach() }
        for k, g in pairs { nb.grad(y:sum(), leaves) } do out[k + 1] = g end
        return out
      end
      local ok, want = pcall(both, "f64")
      if ok then  -- what takes probabilities refuses larger numbers
        for k, have in pairs(both("f32")) do
          local wrong = compare(have, want[k])
          if wrong then error(("about %g, %s: %s"):format(magnitude, k == 1 and "value" or "slope", wrong), 0) end
          compared = compared + 43
        end
      end
    end
  end)
  assert(compared > 14000, compared)
end

return T
