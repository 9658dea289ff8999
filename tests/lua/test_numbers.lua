-- SPDX-License-Identifier: MIT
-- Tests derived from the operator table: plain numbers among the arguments, whole numbers, bytes, sizes and bools.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"

local flat, call_of, cases, arguments, scalar_of = numeric.flat, numeric.call_of, numeric.cases, numeric.arguments,
  numeric.scalar_of
local each_row = numeric.each_row
local T = {}

-- ---- numbers where numbers stand ----

-- Rows that draw take sizes alone; what has no backward has no gradient to lose.
local PLAIN = { number = true, integer = true, integers = true, dimension = true,
  ["dimension or table of dimensions"] = true }

-- Places of plain numbers among a case's arguments: a parameter, and where its number (the last of a list) stands.
local function plain_places(row, args)
  local places, k = {}, 0
  local function note(p, holder, key)
    local v = holder[key]
    if not PLAIN[p.kind] then return end
    if type(v) == "number" then places[#places + 1] = { param = p, holder = holder, key = key } end
    if type(v) == "table" and not nb.is_tensor(v) and #v > 0 then
      places[#places + 1] = { param = p, holder = v, key = #v }
    end
  end
  for _, p in ipairs(row.params) do
    if not p.named then
      k = k + 1
      note(p, args, k)
    end
  end
  local options = args[args.n]
  if type(options) == "table" and not nb.is_tensor(options) and #options == 0 then
    for _, p in ipairs(row.params) do note(p, options, p.name) end
  end
  return places
end

-- A tensor that requires grad has one, or is refused: never a result that lost it.
function T.test_no_gradient_is_lost_in_a_plain_number()
  local refused, taken = 0, 0
  each_row(function(row) return row.name ~= "random_state" end, function(row)
    for _, case in ipairs(assert(cases(row))) do
      local args = arguments(row, case)
      local places = plain_places(row, args)
      for _, place in ipairs(places) do
        local holder, key = place.holder, place.key
        local keep = holder[key]
        holder[key] = nb.tensor(keep, { dtype = "f64", requires_grad = true })
        local ok, err = pcall(call_of(row), table.unpack(args, 1, args.n))
        assert(not ok and err:find("requires grad", 1, true) and err:find(row.name, 1, true),
          ("[%s] %s: %s"):format(case, place.param.name, ok and "accepted" or err))
        assert(nb.no_grad(pcall, call_of(row), table.unpack(args, 1, args.n)))
        holder[key] = keep
        refused = refused + 1
      end
    end
    for k, p in ipairs(row.params) do  -- and a number that an operand may be is a tensor that has a gradient
      if p.kind == "tensor or number" and row.has_backward and row.family ~= "Losses" then
        local args = arguments(row, cases(row)[1])
        args[k] = nb.tensor(0.7, { dtype = "f64", requires_grad = true })
        local ok, J = pcall(scalar_of, row, args, {})
        if ok and J then
          assert(nb.grad(J, args[k]) ~= nil, p.name .. " has no gradient")
          taken = taken + 1
        end
      end
    end
  end)
  assert(refused > 80 and taken > 12, refused .. " refused, " .. taken .. " taken")
end

function T.test_a_table_of_numbers_loses_no_gradient()
  local w = nb.tensor(2, { requires_grad = true })
  lu.assertErrorMsgContains("nb.stack", nb.tensor, { 1, w })
  lu.assertErrorMsgContains("nb.stack", function()
    local t = nb.zeros(2)
    t[{ { 1, 2 } }] = { w, 1 }
  end)
  lu.assertEquals(nb.no_grad(nb.tensor, { 1, w }):totable(), { 1, 2 })
end

-- ---- whole numbers ----

local function i64(v) return nb.tensor(v, { dtype = "i64" }) end

local LARGE = { 0, 1, -1, 2, -3, 7, (1 << 53) + 1, -(1 << 53) - 1, (1 << 62) + 1, -(1 << 62) - 1, math.maxinteger,
  math.mininteger }

local function power(x, y)
  local z = 1
  for _ = 1, y do z = z * x end
  return z
end

local function b(v) return v and 1 or 0 end

-- What Lua's own 64 bits make of a row's operands.  A row with a loop of i64 that stands neither here nor below is
-- held to its loop of f64, as far as that one knows.
local EXACT = {
  add = function(x, y) return x + y end, sub = function(x, y) return x - y end, mul = function(x, y) return x * y end,
  mod = function(x, y) return y ~= 0 and x % y or nil end,
  floordiv = function(x, y) return y ~= 0 and x // y or nil end,
  maximum = math.max, minimum = math.min,
  pow = function(x, y) return y >= 0 and y < 64 and power(x, y) or nil end,
  neg = function(x) return -x end, abs = function(x) return x < 0 and -x or x end,
  square = function(x) return x * x end,
  sign = function(x) return x > 0 and 1 or x < 0 and -1 or 0 end,
  relu = function(x) return math.max(x, 0) end,
  floor = function(x) return x end, ceil = function(x) return x end, round = function(x) return x end,
  eq = function(x, y) return b(x == y) end, ne = function(x, y) return b(x ~= y) end,
  lt = function(x, y) return b(x < y) end, le = function(x, y) return b(x <= y) end,
  gt = function(x, y) return b(x > y) end, ge = function(x, y) return b(x >= y) end,
  fmax = math.max, fmin = math.min, trunc = function(x) return x end, nan_to_num = function(x) return x end,
  signbit = function(x) return b(x < 0) end, fmod = function(x, y) return y ~= 0 and math.fmod(x, y) or nil end,
  heaviside = function(x, y) return x == 0 and y or b(x > 0) end,
  bitwise_and = function(x, y) return x & y end, bitwise_or = function(x, y) return x | y end,
  bitwise_xor = function(x, y) return x ~ y end, bitwise_not = function(x) return ~x end,
  bitwise_left_shift = function(x, y) return y >= 0 and x << y or 0 end,
  bitwise_right_shift = function(x, y) return y >= 0 and y < 63 and x // (1 << y) or x < 0 and -1 or 0 end,
}

-- Rows of more than two operands, or of a mask: the result of tensors, that of numbers, and both as they should be.
local OF_SEVERAL = {
  where = function(x, y)
    local mask = i64(x):gt(y)
    return nb.where(mask, i64(x), i64(y)), nb.where(mask, i64(x), y), math.max(x, y)
  end,
  clamp = function(x, y)
    local lo, hi = math.min(x, y), math.max(x, y)
    return nb.clamp(i64(x), i64(y), i64(hi)), nb.clamp(i64(lo), lo, hi), math.max(x, y), lo
  end,
  addcmul = function(x, y)
    return nb.addcmul(i64(x), i64(y), i64(x)), nb.addcmul(i64(x), i64(y), i64(1), { value = x }), x + y * x
  end,
  isclose = function(x, y)
    local exact = { rtol = 0, atol = 0 }
    return nb.isclose(i64(x), i64(y), exact), nb.isclose(i64(x), y, exact), x == y
  end,
}

local function near_f64(row, call)
  local two = row.params[2] ~= nil and numeric.is_tensor_kind(row.params[2].kind)
  for _, x in ipairs(LARGE) do
    for _, y in ipairs(two and LARGE or { x }) do
      local operands, known = { i64(x), two and i64(y) or nil }, { i64(x):to "f64", two and i64(y):to "f64" or nil }
      local have, want = flat(call(table.unpack(operands)))[1], flat(call(table.unpack(known)))[1]
      if math.abs(want) < 2 ^ 63 then
        assert(numeric.close(have, want, 1e-15), ("%s of %d, %d: %s against %s"):format(row.name, x, y, have, want))
      end
    end
  end
end

function T.test_whole_numbers_are_exact_in_every_loop()
  local tested = {}
  each_row(function(row) return row.has_i64 and not row.internal end, function(row)
    tested[row.name] = true
    local call, exact, several = call_of(row), EXACT[row.name], OF_SEVERAL[row.name]
    if not exact and not several then return near_f64(row, call) end
    for _, x in ipairs(LARGE) do
      if exact and not row.params[2] or row.name == "nan_to_num" then
        local y = call(i64(x))
        local have = y:item() == true and 1 or y:item() or 0
        assert(y.dtype == (row.name == "signbit" and "bool" or "i64") and have == exact(x),
          ("%s(%d): %s"):format(row.name, x, have))
      end
      for _, y in ipairs(LARGE) do
        if several then
          local of_tensors, of_numbers, want, other = several(x, y)
          assert(of_tensors:item() == want, ("%s of %d, %d"):format(row.name, x, y))
          assert(of_numbers:item() == (other or want), ("%s of %d, %d as numbers"):format(row.name, x, y))
        elseif #row.params == 2 and exact(x, y) ~= nil then
          local want = exact(x, y)
          local two = call(i64 { x, 1 }, i64 { y, 1 })
          local forms = { call(i64(x), i64(y)), call(i64(x), y), call(x, i64(y)), two[1] }
          for k, z in ipairs(forms) do
            local have = flat(z)[1]
            assert(math.type(have) == "integer" and have == want,
              ("%s of %d, %d, form %d: %s"):format(row.name, x, y, k, have))
          end
        end
      end
    end
  end)
  for _, list in ipairs { EXACT, OF_SEVERAL } do
    for name in pairs(list) do assert(tested[name], name .. " has no loop of i64") end
  end
end

-- All other ways of a whole number into a tensor, through operators and out again.
function T.test_whole_numbers_are_exact_on_every_way()
  for _, v in ipairs(LARGE) do
    local t, mask = i64 { v, 3 }, nb.tensor { true, false }
    local function check(name, have) assert(have == v, ("%s of %d: %s"):format(name, v, have)) end
    check("item", i64(v):item())
    check("totable", t:totable()[1])
    check("at", t:at(1))
    check("full", nb.full({ 1 }, v, { dtype = "i64" }):item())
    check("full_like", nb.full_like(t, v):at(2))
    check("fill_", nb.zeros(2, { dtype = "i64" }):fill_(v):at(2))
    check("fill_ of a tensor", nb.zeros(2, { dtype = "i64" }):fill_(i64(v)):at(2))
    check("copy_", nb.zeros(2, { dtype = "i64" }):copy_(v):at(2))
    check("masked_fill", t:masked_fill(nb.logical_not(mask), v):at(2))
    check("pad", nb.pad(t, { 0, 1 }, v):at(3))
    check("a scalar in a table", nb.tensor({ i64(v) }, { dtype = "i64" }):at(1))
    check("arange", nb.arange(v, v, { dtype = "i64" }):item())
    local s = i64 { 0, 0 }
    s[1] = v
    check("an element set", s:at(1))
    for _, place in ipairs { nb.tensor { 1 }, i64 { 1 } } do  -- whatever dtype says where
      check("scatter", i64 { 0, 0 }:scatter(1, place, v):at(1))
      check("scatter_add", i64 { 0, 0 }:scatter_add(1, place, v):at(1))
      check("index_fill", nb.index_fill(i64 { 0, 0 }, 1, place, v):at(1))
      check("index_put", nb.index_put(i64 { 0, 0 }, { place }, v):at(1))
      check("put", nb.put(i64 { 0, 0 }, place, v):at(1))
      check("an indexed element set", (function(z) z[place] = v return z end)(i64 { 0, 0 }):at(1))
    end
    check("linspace from it", nb.linspace(v, 0, 2, { dtype = "i64" }):at(1))
    check("linspace to it", nb.linspace(0, v, 3, { dtype = "i64" }):at(3))
    check("fmax", nb.fmax(i64 { v, v }, math.mininteger):at(1))
    check("heaviside", nb.heaviside(i64 { 0 }, v):item())
    check("addcmul", nb.addcmul(i64 { 0 }, i64 { 1 }, i64 { 1 }, { value = v }):item())
    check("addcmul of it", nb.addcmul(i64(v), i64 { 0 }, i64 { 1 }):item())
    check("nan_to_num", nb.nan_to_num(i64 { v }):item())
    check("isclose", nb.isclose(i64 { v }, v, { rtol = 0, atol = 0 }):item() and v)
    check("isclose beside it", nb.isclose(i64 { v }, v ~ 1, { rtol = 0, atol = 0 }):item() or v)
    s[mask] = v
    check("a masked element set", s:at(1))
    s[i64 { 2 }] = v
    check("an indexed element set", s:at(2))
    check("sum", i64 { v, 5, -5 }:sum():item())
    check("prod", i64 { v, -1, -1 }:prod():item())
    check("cumsum", i64 { v, 5, -5 }:cumsum(1):at(3))
    check("max", i64 { v }:max():item())
    check("dot", i64 { v, 1 }:dot(i64 { 1, 0 }):item())
    check("matmul", (i64 { { 1, 0 }, { 0, 1 } }:matmul(i64 { { v }, { 2 } })):at(1, 1))
    check("einsum", nb.einsum("ij,j->i", i64 { { 1, 0 } }, t):at(1))
    lu.assertEquals(i64(v) < i64(math.maxinteger), v < math.maxinteger)
    lu.assertEquals(i64(v) <= math.maxinteger - 1, v <= math.maxinteger - 1)
  end
end

function T.test_bits_of_masks_and_of_fractions()
  local x, y = nb.tensor { true, true, false, false }, nb.tensor { true, false, true, false }
  for name, want in pairs { ["and"] = x:logical_and(y), ["or"] = x:logical_or(y), xor = x:logical_xor(y) } do
    local bits = nb["bitwise_" .. name]
    lu.assertEquals(bits(x, y).dtype, "bool")
    lu.assertTrue(nb.equal(bits(x, y), want))
    numeric.assert_error({ "bitwise_" .. name }, bits, nb.tensor { 1.5 }, 1)
    numeric.assert_error({ "bitwise_" .. name }, bits, i64 { 1 }, 1.5)
  end
  lu.assertTrue(nb.equal(x:bitwise_not(), x:logical_not()))
  lu.assertEquals(i64 { 0, 200 }:to("u8"):bitwise_not():totable(), { 255, 55 })
  numeric.assert_error({ "bitwise_not" }, nb.bitwise_not, nb.tensor { 1.5 })
end

-- ---- u8 ----

local function u8(v) return nb.tensor(v, { dtype = "u8" }) end

local DIVIDES = { mod = true, floordiv = true, fmod = true }

-- Of every row with a loop of u8: modulo 256 what i64 has, and u8 (masks are masks).
function T.test_bytes_stay_bytes_and_wrap()
  local values = { 0, 1, 2, 7, 128, 200, 255 }
  local checked = 0
  each_row(function(row) return row.has_i64 and not row.internal end, function(row)
    local call = call_of(row)
    local function check(have, want)
      assert(have.dtype == (want.dtype == "bool" and "bool" or "u8"), row.name .. " gives " .. have.dtype)
      local a, c = flat(have)[1], flat(want)[1]
      assert(a % 256 == c % 256, ("%s: %s, not %s"):format(row.name, a, c))
      checked = checked + 1
    end
    for _, x in ipairs(values) do
      if #row.params == 1 then check(call(u8(x)), call(i64(x))) end
      for _, y in ipairs(values) do
        if row.name == "where" then
          check(nb.where(u8(x):gt(y), u8(x), u8(y)), nb.where(i64(x):gt(y), i64(x), i64(y)))
        elseif row.name == "clamp" then
          check(nb.clamp(u8(100), math.min(x, y), math.max(x, y)), nb.clamp(i64(100), math.min(x, y), math.max(x, y)))
        elseif #row.params == 2 and not (y == 0 and DIVIDES[row.name]) then
          local want = call(i64(x), i64(y))
          check(call(u8(x), u8(y)), want)
          check(call(u8(x), y), want)
          check(call(x, u8(y)), want)
        end
      end
    end
  end)
  assert(checked > 1500, checked)
end

-- What does not fit is named, wherever a number becomes elements.
function T.test_numbers_that_do_not_fit_are_refused()
  for dtype, bad in pairs { u8 = { 300, -1, 0.5, 0 / 0, 1 / 0, 256 }, i64 = { 0.5, 2 ^ 63, -1 / 0, 0 / 0 } } do
    for _, v in ipairs(bad) do
      local t, o = nb.tensor({ 1, 2 }, { dtype = dtype }), { dtype = dtype }
      local ways = { tensor = function() nb.tensor({ v }, o) end,
        ["tensor of a number"] = function() nb.tensor(v, o) end,
        full = function() nb.full({ 2 }, v, o) end, full_like = function() nb.full_like(t, v) end,
        fill_ = function() t:fill_(v) end, masked_fill = function() t:masked_fill(t:gt(0), v) end,
        pad = function() nb.pad(t, { 1, 1 }, v) end, set = function() t[1] = v end,
        ["set by a mask"] = function() t[t:gt(0)] = v end, ["set by an index"] = function() t[i64 { 1 }] = v end,
        ["a table set"] = function() t[{ { 1, 2 } }] = { 1, v } end,
        scatter = function() nb.scatter(t, 1, nb.tensor { 1 }, v) end,
        index_fill = function() nb.index_fill(t, 1, nb.tensor { 1 }, v) end,
        put = function() nb.put(t, nb.tensor { 1 }, v) end,
        index_put = function() nb.index_put(t, { nb.tensor { 1 } }, v) end }
      if dtype == "u8" and math.type(v) == "integer" then
        for _, name in ipairs { "add", "sub", "mul", "mod", "floordiv", "maximum", "minimum", "clamp", "fmod", "fmax",
          "fmin", "heaviside" } do
          ways[name] = function() nb[name](t, v) end
        end
        ways.copy_ = function() t:copy_(v) end
        ways.where = function() nb.where(t:gt(0), t, v) end
        ways.arange = function() nb.arange(v, v, o) end
        ways.linspace = function() nb.linspace(1, v, 3, o) end
      end
      for name, way in pairs(ways) do
        local ok, err = pcall(way)
        assert(not ok and err:find("does not fit", 1, true) and err:find(dtype, 1, true),
          ("%s of %s with %s: %s"):format(name, dtype, v, ok and "accepted" or err))
      end
      lu.assertEquals(t:totable(), { 1, 2 })
    end
  end
  lu.assertEquals(u8 { 1, 2 }:eq(300):totable(), { false, false })  -- a comparison makes no elements of it
  lu.assertEquals(u8 { 1, 2 }:gt(-1):totable(), { true, true })
end

-- ---- sizes ----

-- No size, count or dimension below what a case has is taken for another in silence: an error, or a result that a zero
-- or a number from the end can mean.
function T.test_senseless_sizes_are_refused()
  local minus_one = { expand = true, broadcast_to = true, reshape = true, view = true }  -- where it has a meaning
  local senseless = { size = true, sizes = true, shape = true, kernel = true, stride = true, dilation = true,
    groups = true, heads = true, count = true, n = true, m = true, classes = true, repeats = true, length = true,
    blocks = true, factor = true }
  local tried = 0
  each_row(function(row) return not row.internal end, function(row)
    if minus_one[row.name] then return end
    for _, case in ipairs(assert(cases(row))) do
      local args = arguments(row, case)
      local places = plain_places(row, args)
      for _, place in ipairs(places) do
        if senseless[place.param.name] then
          local holder, key = place.holder, place.key
          local keep = holder[key]
          for _, v in ipairs { -1, -2, math.mininteger, math.maxinteger } do
            holder[key] = v
            local ok, err = pcall(call_of(row), table.unpack(args, 1, args.n))
            local one_place = v > 0 and place.param.name == "stride"  -- the first, of any stride
            assert(one_place or not ok and (err:find(row.name, 1, true) or err:find("larger than any memory", 1, true)),
              ("[%s] %s = %d: %s"):format(case, place.param.name, v, ok and "accepted" or tostring(err)))
            tried = tried + 1
          end
          holder[key] = keep
        end
      end
    end
  end)
  assert(tried > 100, tried)
  lu.assertErrorMsgContains("m must not be negative, got -3", nb.eye, 2, -3)
  lu.assertErrorMsgContains("m must not be negative, got -1", nb.eye, 2, -1)
end

function T.test_an_empty_list_of_dimensions_is_none()
  local x = nb.tensor { { 1, 2 }, { 3, 5 } }
  lu.assertEquals(nb.flip(x, {}):totable(), x:totable())
  lu.assertEquals(nb.sum(x, {}):totable(), x:totable())
  lu.assertEquals(nb.flip(x):totable(), { { 5, 3 }, { 2, 1 } })
  lu.assertEquals(nb.sum(x, { 1 }, {}):totable(), { 4, 7 })
  -- Over no dimension nothing is reduced: of all that take several, as rows or made of such.
  local tried = 0
  local function check(name)
    lu.assertEquals(nb[name](x, {}).shape, x.shape, name)
    tried = tried + 1
  end
  for _, row in ipairs(require("nablua.native").rows()) do
    local p = row.params[2]
    if p and p.kind == "dimension or table of dimensions" and not row.internal then check(row.name) end
  end
  for _, entry in ipairs(require("nablua.registry").all()) do
    local p = entry.composed and entry.params[2]
    if p and p.name == "dim" and p.type == "whole numbers" and p.positional then check(entry.name:match "[^.]+$") end
  end
  assert(tried > 16, tried)
end

-- ---- bools ----

function T.test_bools_are_the_values_of_bool_tensors()
  local m = nb.tensor { true, false }
  lu.assertEquals(nb.zeros(2, { dtype = "bool" }):fill_(true):totable(), { true, true })
  for _, t in ipairs { nb.full({ 2 }, true), nb.full({ 2 }, true, { dtype = "bool" }), nb.full_like(m, true) } do
    lu.assertEquals({ t.dtype, t:at(1), t:at(2) }, { "bool", true, true })
  end
  lu.assertEquals(nb.pad(m, { 1, 1 }, true):totable(), { true, true, false, true })
  lu.assertEquals({ (m & true):totable(), (true & m):totable(), (m | true):totable(), (m ~ true):totable() },
    { { true, false }, { true, false }, { true, true }, { false, true } })
  lu.assertEquals(m:masked_fill(m, false):totable(), { false, false })
  local chosen = nb.where(m, false, true)
  lu.assertEquals({ chosen.dtype, chosen:at(1), chosen:at(2) }, { "bool", false, true })
  lu.assertEquals(nb.where(true, nb.tensor { 1 }, 2):totable(), { 1 })
  local second = nb.tensor { 2 }
  for name, changed in pairs { scatter = nb.scatter(m, 1, second, true), put = nb.put(m, second, true),
    index_fill = nb.index_fill(m, 1, second, true), index_put = nb.index_put(m, { second }, true) } do
    lu.assertEquals({ changed.dtype, changed:totable() }, { "bool", { true, true } }, name)
    lu.assertErrorMsgContains("must be a tensor or a number beside a tensor of f32", nb[name], nb.zeros(2),
      name == "index_put" and { second } or name == "put" and second or 1,
      name:find "put" and true or second, true)
  end
  lu.assertEquals(nb.isin(m, true):totable(), { true, false })
  lu.assertEquals(nb.isin(m, 0.5):totable(), { false, false })
  lu.assertErrorMsgContains("fill_: value must be", function() nb.zeros(2):fill_(true) end)
  lu.assertErrorMsgContains("full: value must be a number beside a tensor of f32, got true", nb.full, { 2 }, true,
    { dtype = "f32" })
  lu.assertErrorMsgContains("pad: value must be", nb.pad, nb.zeros(2), { 1, 1 }, true)
end

function T.test_the_last_number_of_full_is_the_value()
  lu.assertEquals(nb.full(2, 3, 7):totable(), { { 7, 7, 7 }, { 7, 7, 7 } })
  lu.assertEquals(nb.full(2, 0.5):totable(), { 0.5, 0.5 })
  lu.assertEquals(nb.full(2, 3, 7, { dtype = "i64" }).dtype, "i64")
  lu.assertErrorMsgContains("full: value is missing", nb.full, 7)
end

return T
