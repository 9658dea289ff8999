-- SPDX-License-Identifier: MIT
-- The tensor as a Lua value: making, indexing, assigning, printing, and what it says about mistakes.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"

local T = {}

local function values(t)
  return t:totable()
end

-- The error of f(), which must exist.
local function fails(f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok, "an error was expected")
  lu.assertIsString(err)
  return err
end

local function says(err, ...)
  for _, part in ipairs { ... } do lu.assertStrContains(err, part) end
  lu.assertStrContains(err, "test_tensor.lua:")
end

local function grid()
  return nb.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
end

-- 0 is what the library takes for "left out": whoever says it means Python's first dimension.
function T.test_there_is_no_dimension_0()
  local x = nb.ones(2, 3)
  for _, f in ipairs {
    function() return nb.cat({ x, x }, 0) end, function() return nb.stack({ x, x }, 0) end,
    function() return x:max(0) end, function() return x:argmin { dim = 0 } end, function() return x:softmax(0) end,
    function() return x:sum(0) end, function() return x:cumsum(0) end, function() return x:repeat_interleave(2, 0) end,
  } do
    lu.assertErrorMsgContains("no dimension 0", f)
  end
end

function T.test_tensors_from_tables()
  local t = grid()
  lu.assertEquals(t.shape, { 2, 3 })
  lu.assertEquals(t.dtype, "f32")
  lu.assertEquals(values(t), { { 1, 2, 3 }, { 4, 5, 6 } })
  lu.assertEquals(nb.tensor({ 1, 2 }, { dtype = "i64" }).dtype, "i64")
  lu.assertEquals(nb.tensor { true, false }.dtype, "bool")
  lu.assertEquals(nb.tensor(3).shape, {})
  lu.assertEquals(nb.tensor {}.shape, { 0 })
  lu.assertEquals(values(nb.tensor { nb.tensor(1), 2 }), { 1, 2 })
  lu.assertEquals(nb.tensor({ 2 ^ 53 + 1 | 0 }, { dtype = "i64" }):at(1), 2 ^ 53 + 1 | 0)
  local copy = nb.tensor(t)
  copy[1] = 0
  lu.assertEquals(t:at(1, 1), 1)
end

function T.test_ragged_tables_name_the_odd_one()
  says(fails(nb.tensor, { { 1, 2 }, { 3 } }), "ragged", "[2]", "a table of 2", "one of 1")
  says(fails(nb.tensor, { { 1, 2 }, 3 }), "[2]", "a number")
  says(fails(nb.tensor, { 1, { 2 } }), "[2]", "a table")
  says(fails(nb.tensor, { { { 1 }, { 2 } }, { { 3 }, { "x" } } }), "[2][2][1]", "a string")
  says(fails(nb.tensor, print), "a function")
  local cycle = {}
  cycle[1] = cycle
  says(fails(nb.tensor, cycle), "nested")
end

function T.test_indexing_takes_views()
  local t = grid()
  lu.assertEquals(values(t[1]), { 1, 2, 3 })
  lu.assertEquals(t[-1][-1]:item(), 6)
  lu.assertEquals(t:at(2, 1), 4)
  lu.assertEquals(values(t[{ nb.ALL, 2 }]), { 2, 5 })
  lu.assertEquals(values(t[{ nb.ALL, { 2, 3 } }]), { { 2, 3 }, { 5, 6 } })
  lu.assertEquals(values(t[{ 2, { 1, -1, 2 } }]), { 4, 6 })
  lu.assertEquals(t[{ nb.NEW, 1 }].shape, { 1, 3 })
  lu.assertEquals(t[{ { 2, 1 } }].shape, { 0, 3 })
  lu.assertEquals(values(t[nb.tensor { 2, 1, 2 }]), { { 4, 5, 6 }, { 1, 2, 3 }, { 4, 5, 6 } })
  lu.assertEquals(values(t[{ nb.ALL, nb.tensor { 3, 1 } }]), { { 3, 1 }, { 6, 4 } })
  lu.assertEquals(values(t[t:gt(2)]), { 3, 4, 5, 6 })
  local row = t[1]
  row[2] = 20
  lu.assertEquals(t:at(1, 2), 20)
end

function T.test_assignment_reaches_every_kind_of_index()
  local t = nb.zeros(2, 3)
  t[1] = 7
  t[{ 2, { 2, 3 } }] = nb.tensor { 8, 9 }
  lu.assertEquals(values(t), { { 7, 7, 7 }, { 0, 8, 9 } })
  t[t:gt(7)] = 1
  lu.assertEquals(values(t), { { 7, 7, 7 }, { 0, 1, 1 } })
  t[nb.tensor { 2 }] = nb.tensor { { 4, 5, 6 } }
  lu.assertEquals(values(t[2]), { 4, 5, 6 })
  t[{ nb.ALL, 1 }] = { 1, 2 }
  lu.assertEquals(values(t[{ nb.ALL, 1 }]), { 1, 2 })
  t[{ nb.ALL, nb.tensor { 1, -1 } }] = { { 10, 30 }, { 40, 60 } }
  lu.assertEquals(values(t), { { 10, 7, 30 }, { 40, 5, 60 } })
  t[{ 2, nb.tensor { 2 } }] = 0
  lu.assertEquals(values(t[2]), { 40, 0, 60 })
  -- A value that overlaps the target is read before it is written.
  local v = nb.tensor { 1, 2, 3, 4 }
  v[{ { 2, 4 } }] = v[{ { 1, 3 } }]
  lu.assertEquals(values(v), { 1, 1, 2, 3 })
end

function T.test_assignment_to_whole_numbers_refuses_what_would_be_lost()
  local t = nb.tensor({ 1, 2, 3 }, { dtype = "i64" })
  for _, value in ipairs { 0.5, { 0.5, 1, 2 }, nb.tensor { 0.5, 1, 2 }, 0 / 0, 1e30 } do
    local ok, err = pcall(function() t[{ { 1, 3 } }] = value end)
    lu.assertFalse(ok)
    says(err, "does not fit", "i64")
  end
  t[{ { 1, 2 } }] = { 7.0, 1 << 60 }
  lu.assertEquals(values(t), { 7, 1 << 60, 3 })
  local b = nb.tensor({ 1, 2 }, { dtype = "u8" })
  local ok, err = pcall(function() b[1] = 256 end)
  lu.assertFalse(ok)
  says(err, "256", "0..255")
  local m = nb.tensor { true, false }
  m[2] = true
  lu.assertEquals(values(m), { true, true })
end

function T.test_assignment_through_an_index_keeps_the_tape()
  local x = nb.tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, { requires_grad = true })
  local v = nb.tensor({ 1, 1 }, { requires_grad = true })
  local y = x * 2
  y[{ 2, nb.tensor { 1, 3 } }] = v
  local J = (y * y):sum()
  J:backward()
  lu.assertEquals(values(x.grad), { { 8, 16, 24 }, { 0, 40, 0 } })
  lu.assertEquals(values(v.grad), { 2, 2 })
end

function T.test_out_of_range_names_index_dimension_and_size()
  local t = grid()
  says(fails(function() return t[3] end), "index 3", "dimension 1", "size 2")
  says(fails(function() return t[0] end), "index 0")
  says(fails(function() return t[{ 1, -4 }] end), "index -4", "dimension 2", "size 3")
  says(fails(function() t[{ 1, { 1, 9 } }] = 0 end), "index 9", "dimension 2")
  says(fails(function() return t[{ 1, 1, 1 }] end), "3 indices", "2×3")
  says(fails(function() return t[1.5] end), "whole number", "1.5")
  says(fails(function() return t:at(1, 9) end), "index 9", "dimension 2", "size 3")
  says(fails(function() return t[nb.tensor { 5 }] end), "5")
  says(fails(function() return t[{ { 1, 2, 0 } }] end), "step")
end

function T.test_arithmetic_follows_lua_and_numpy()
  local t = nb.tensor { 7, -7 }
  lu.assertEquals(values(t % 3), { 1, 2 })
  lu.assertEquals(values(t // 3), { 2, -3 })
  lu.assertEquals(values(-t), { -7, 7 })
  lu.assertEquals(values(10 - t), { 3, 17 })
  lu.assertEquals(values(2 ^ nb.tensor { 3 }), { 8 })
  lu.assertEquals((nb.tensor({ 1 }, { dtype = "i64" }) + 1).dtype, "i64")
  lu.assertEquals((nb.tensor({ 1 }, { dtype = "i64" }) + 0.5).dtype, "f32")
  lu.assertEquals((nb.tensor({ 1 }, { dtype = "i64" }) / 2).dtype, "f32")
  lu.assertEquals((nb.tensor({ 1 }, { dtype = "f64" }) + 0.1):item(), 1.1)
  lu.assertEquals(values(nb.tensor { true, false } & nb.tensor { true, true }), { true, false })
  lu.assertEquals(values(~nb.tensor { true, false }), { false, true })
  says(fails(function() return nb.tensor({ 1 }, { dtype = "i64" }) // 0 end), "zero")
end

function T.test_comparisons_say_what_lua_cannot()
  local a, b = nb.tensor { 1, 2 }, nb.tensor { 2, 2 }
  lu.assertTrue(nb.tensor(1) < nb.tensor(2))
  lu.assertTrue(nb.tensor(1) <= 1)
  says(fails(function() return a < b end), "a:lt(b)")
  lu.assertTrue(a == a)
  lu.assertFalse(a == b)
  lu.assertTrue(a[1] == a[1])
  lu.assertEquals(#a, 2)
  lu.assertEquals(fails(function() return #nb.tensor(1) end):match("scalar"), "scalar")
end

function T.test_unknown_names_suggest_the_nearest()
  local t = grid()
  says(fails(function() return t.shpe end), "shpe", "shape")
  says(fails(function() return t:tranpose() end), "transpose")
  says(fails(function() t.grd = 1 end), "grad")
  says(fails(function() t.shape = {} end), "cannot be assigned")
  says(fails(function() return t:sum(1, { keepdims = true }) end), "keepdims", "keepdim")
  says(fails(function() return nb.zeros(2, { dtype = "float" }) end), "float", "f32")
  says(fails(function() return nb.tensor({ 1 }, { require_grad = true }) end), "requires_grad")
end

function T.test_absurd_sizes_are_errors()
  says(fails(nb.zeros, 1e15 | 0), "larger than any memory")
  says(fails(nb.zeros, 1 << 40, 1 << 40), "larger than any memory")
  says(fails(nb.zeros, 1 << 40), "memory")
  says(fails(nb.zeros, -1), "negative")
  says(fails(nb.zeros, 1, 1, 1, 1, 1, 1, 1, 1, 1), "8 dimensions")
  says(fails(function() return nb.ones(3):reshape(2, -1) end), "reshape")
end

function T.test_text_is_aligned_and_elided()
  lu.assertEquals(tostring(grid()), "1  2  3\n4  5  6\nf32 2×3")
  lu.assertEquals(tostring(nb.tensor { 1, 2.5, -0.001 }), " 1.000   2.500  -0.001\nf32 3")
  lu.assertEquals(tostring(nb.tensor(3)), "3")
  lu.assertEquals(tostring(nb.zeros(0, 3)), "f32 0×3 (empty)")
  local large = tostring(nb.zeros(1000, 1000))
  lu.assertTrue(#large < 1000)
  lu.assertStrContains(large, "…")
  lu.assertStrContains(large, "f32 1000×1000")
  lu.assertStrContains(tostring(nb.tensor { 0 / 0, 1 / 0, -1 / 0 }), "nan   inf  -inf")
  for line in tostring(nb.randn(50, 60)):gmatch("[^\n]+") do lu.assertTrue(utf8.len(line) <= 100) end
  -- With four dimensions each block says where it is, as one would index it.
  local t = nb.arange(1, 24):reshape(2, 3, 2, 2)
  for i = 1, 2 do
    for j = 1, 3 do
      local b = t[i][j]
      lu.assertStrContains(tostring(t), ("[%d, %d, :, :]\n%2d  %2d\n%2d  %2d\n"):format(i, j, b[1][1]:item(),
        b[1][2]:item(), b[2][1]:item(), b[2][2]:item()))
    end
  end
  lu.assertNotStrContains(tostring(nb.zeros(2, 2, 2)), "[")
end

function T.test_released_and_foreign_values_are_refused()
  says(fails(nb.add, grid(), io.stdout), "add", "userdata")
  says(fails(nb.relu), "relu", "x is missing")
  says(fails(nb.relu, grid(), grid()), "too many arguments")
  local gc = debug.getmetatable(grid()).__gc
  local t = grid()
  gc(t)
  says(fails(function() return t + 1 end), "add")
  lu.assertEquals(tostring(t), "tensor (released)")
  gc(t)
end

function T.test_deep_recursion_is_a_lua_error()
  local t = grid()
  local function down(x) return down(x + 1) + 1 end
  -- Collections that walk a stack of 200,000 calls again and again would take minutes where they are as frequent.
  local hostile = native.hostile and require "nablua.T"
  local every = hostile and hostile.collect_every(0)
  local ok, err = pcall(down, t)
  if hostile then hostile.collect_every(every) end
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(err), "overflow")
end

function T.test_memory_limit_is_a_lua_error_and_work_goes_on()
  collectgarbage()
  local m = nb.memory()
  nb.memory { limit = m.live + 10e6 }
  local ok, err = pcall(nb.zeros, 5000, 5000)
  nb.memory { limit = m.limit }
  lu.assertFalse(ok)
  says(err, "not enough memory", "limit")
  lu.assertEquals(nb.zeros(5000, 50).shape, { 5000, 50 })
end

function T.test_seeds_repeat_and_threads_do_not_matter()
  local threads = nb.threads()
  nb.seed(5)
  local a = nb.randn(300, 300)
  nb.threads(threads == 1 and 2 or 1)
  nb.seed(5)
  local b = nb.randn(300, 300)
  nb.threads(threads)
  lu.assertTrue(a:eq(b):all():item())
  lu.assertFalse(nb.randn(300, 300):eq(b):all():item())
  lu.assertAlmostEquals(a:mean():item(), 0, 0.02)
  lu.assertAlmostEquals(a:std():item(), 1, 0.02)
  local u = nb.rand(100000)
  lu.assertAlmostEquals(u:mean():item(), 0.5, 0.01)
  lu.assertTrue(u:ge(0):all():item() and u:lt(1):all():item())
  local seen = nb.randperm(1000):sort()
  lu.assertTrue(seen:eq(nb.arange(1000)):all():item())
end

function T.test_sizes_by_dimension()
  local t = nb.zeros(2, 3, 4)
  lu.assertEquals(t:size(), { 2, 3, 4 })
  for d = 1, 3 do
    lu.assertEquals(t:size(d), d + 1)
    lu.assertEquals(t:size(d - 4), d + 1)
  end
  lu.assertErrorMsgContains("4", t.size, t, 4)
end

function T.test_tables_in_one_line()
  local brief = require "nablua.display".brief
  lu.assertEquals({ brief {}, brief { 1 }, brief { 1, k = 2 } }, { "table, 0 entries", "table, 1 entry",
    "table, 2 entries" })
end

-- What takes a tensor first is a method, too, whether the table of operators has it or Lua makes it of others.
function T.test_every_operator_is_a_method_too()
  local x, checked = nb.ones(2), 0
  for _, e in ipairs(require("nablua.registry").all()) do
    local name, first = e.name:match "^nb%.(%l[%w_]*)$", (e.signature or ""):match "^nb%.[%w_]+%((%w+)"
    if name and e.kind == "operator" and (first == "x" or first == "t") then
      lu.assertIsFunction(x[name], name)
      checked = checked + 1
    end
  end
  lu.assertTrue(checked > 200, checked)
end

return T
