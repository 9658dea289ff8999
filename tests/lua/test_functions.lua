-- SPDX-License-Identifier: MIT
-- Functions that are made of operators, all held to the same demands by what their entries say.
local lu = require "luaunit"
local nb = require "nablua"
local registry = require "nablua.registry"
local numeric = require "numeric"

local flat = numeric.flat
local T = {}

-- What numeric.lua calls a row, of each entry that has a sample.
local function rows()
  local list = {}
  for _, e in ipairs(registry.all()) do
    if e.composed then
      list[#list + 1] = { name = e.name:match("[^.]+$"), params = {}, entry = e,
        sample = { lo = 0, hi = 0, args = e.sample or "" } }
    end
  end
  lu.assertTrue(#list > 10, #list)
  return list
end

local function each(check)
  local failures = {}
  for _, row in ipairs(rows()) do
    for _, case in ipairs(numeric.cases(row)) do
      nb.seed(7)
      local ok, err = pcall(check, row, case)
      if not ok then failures[#failures + 1] = ("%s [%s] %s"):format(row.name, case, err) end
    end
  end
  lu.assertEquals(#failures, 0, "\n" .. table.concat(failures, "\n"))
end

-- The same of a call whose first results may be tables of tensors.
local function call(row, args)
  local out = {}
  local function add(v)
    if type(v) == "table" and not nb.is_tensor(v) then
      for _, part in ipairs(v) do add(part) end
    else
      out[#out + 1] = v
    end
  end
  if row.entry.family == "Random numbers" then nb.seed(11) end  -- the same numbers at every call
  for _, v in ipairs(table.pack(nb[row.name](table.unpack(args, 1, args.n)))) do add(v) end
  return out
end

local function scalar_of(row, args, weights)
  local J
  for k, y in ipairs(call(row, args)) do
    if nb.is_tensor(y) and y.dtype == "f64" and y.requires_grad then
      weights[k] = weights[k] or nb.rand(y.shape, { dtype = "f64" }) + 0.5
      local part = (y * weights[k]):sum()
      J = J and J + part or part
    end
  end
  return J
end

local function numbers(row, args)
  local out = {}
  for _, y in ipairs(call(row, args)) do
    for _, v in ipairs(nb.is_tensor(y) and flat(y) or { y == true and 1 or y == false and 0 or y }) do
      out[#out + 1] = v
    end
  end
  return out
end

function T.test_every_function_has_a_sample_and_a_derivative_or_a_reason()
  local bad = {}
  for _, row in ipairs(rows()) do
    local e = row.entry
    if #numeric.cases(row) == 0 then bad[#bad + 1] = row.name .. " has no sample" end
    if (e.derivative ~= nil) == (e.no_grad ~= nil) then bad[#bad + 1] = row.name .. " has both or none" end
  end
  lu.assertEquals(bad, {})
end

function T.test_gradients_and_second_derivatives_agree_with_finite_differences()
  local checked = 0
  each(function(row, case)
    local args, made = numeric.arguments(row, case)
    if row.entry.no_grad or #made == 0 then return end
    local weights, directions = {}, {}
    local J = scalar_of(row, args, weights)
    assert(J, "no output has a gradient")
    for k, x in ipairs(made) do directions[k] = nb.rand(x.shape, { dtype = "f64" }) + 0.5 end
    local function slope()
      local K
      for k, g in pairs { nb.grad(scalar_of(row, args, weights), made, { create_graph = true }) } do
        local part = (g * directions[k]):sum()
        K = K and K + part or part
      end
      return K
    end
    local got = table.pack(nb.grad(J, made))
    local K = slope()
    local second = K and K.requires_grad and table.pack(nb.grad(K, made)) or {}
    for k, x in ipairs(made) do
      local want = numeric.finite_difference(function() return scalar_of(row, args, weights):item() end, x, 1e-6)
      local wrong = numeric.difference(got[k] and flat(got[k]) or flat(nb.zeros(x.shape)), want, 2e-6)
      if wrong then error(("gradient %d, %s"):format(k, wrong), 0) end
      want = numeric.finite_difference(function() return slope():item() end, x, 1e-5)
      wrong = numeric.difference(second[k] and flat(second[k]) or flat(nb.zeros(x.shape)), want, 5e-5)
      if wrong then error(("second derivative %d, %s"):format(k, wrong), 0) end
      checked = checked + 1
    end
  end)
  lu.assertTrue(checked > 10, checked)
end

function T.test_strided_inputs_give_what_contiguous_ones_give()
  each(function(row, case)
    local state = nb.random_state()
    local want = numbers(row, (numeric.arguments(row, case)))
    nb.random_state(state)
    local wrong = numeric.difference(numbers(row, (numeric.arguments(row, case, numeric.strided))), want, 1e-12)
    if wrong then error(wrong, 0) end
  end)
end

function T.test_single_precision_agrees_with_double()
  each(function(row, case)
    local state = nb.random_state()
    local want = numbers(row, (numeric.arguments(row, case, function(x) return x:to("f32"):to("f64") end)))
    nb.random_state(state)
    local have = numbers(row, (numeric.arguments(row, case, function(x) return x:to("f32") end)))
    local wrong = numeric.difference(have, want, 1e-4)
    if wrong then error(wrong, 0) end
  end)
end

function T.test_wrong_arguments_are_named()
  each(function(row, case)
    local args = numeric.arguments(row, case)
    for k, p in ipairs(row.entry.params) do
      if p.type == "tensor" and nb.is_tensor(args[k]) then
        local bad = table.pack(table.unpack(args, 1, args.n))
        bad[k] = "seven"
        local ok, err = pcall(nb[row.name], table.unpack(bad, 1, bad.n))
        assert(not ok and err:find(row.name, 1, true) and err:find(p.name, 1, true), "unclear: " .. tostring(err))
      end
    end
    local count = args.n
    local last = args[count]
    if type(last) == "table" and not nb.is_tensor(last) and #last == 0 then count = count - 1 end
    args[count + 1] = { no_such_option = 1 }
    local ok, err = pcall(nb[row.name], table.unpack(args, 1, count + 1))
    assert(not ok and err:find("no_such_option", 1, true) and err:find(row.name, 1, true), "unclear: " .. tostring(err))
  end)
end

-- Numbers that no size, dimension or index should be, and shapes that fit nothing: an error or a result.
function T.test_absurd_arguments_do_no_harm()
  each(function(row, case)
    local args = numeric.arguments(row, case)
    for k = 1, args.n do
      local keep = args[k]
      local absurd = nb.is_tensor(keep) and { nb.zeros(0), nb.zeros(2, 0, 3), nb.tensor(1), nb.tensor { 0 / 0 },
        nb.zeros(1, 1, 1, 1, 1, 1, 1, 1), nb.tensor { true }, nb.tensor({ 1 }, { dtype = "i64" }) } or
        type(keep) == "number" and { 0, -1, 1e15, math.mininteger, 0 / 0, 1 / 0, 0.5 } or {}
      for _, v in ipairs(absurd) do
        args[k] = v
        pcall(nb[row.name], table.unpack(args, 1, args.n))
      end
      args[k] = keep
    end
  end)
end

-- ---- what rows of C do with more than one number ----

function T.test_roll_and_repeat_interleave_take_several()
  local x = nb.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
  local function counts(...) return nb.tensor({ ... }, { dtype = "i64" }) end
  lu.assertEquals(x:roll({ 1, -1 }, { 1, 2 }):totable(), { { 5, 6, 4 }, { 2, 3, 1 } })
  lu.assertEquals(x:repeat_interleave(counts(2, 0, 1), 2):totable(), { { 1, 1, 3 }, { 4, 4, 6 } })
  lu.assertEquals(x:repeat_interleave(counts(1, 0, 0, 0, 0, 2)):totable(), { 1, 6, 6 })
  lu.assertEquals(nb.repeat_interleave(x, counts(0, 0), 1).shape, { 0, 3 })
  lu.assertErrorMsgContains("a shift for each dimension", x.roll, x, { 1 }, { 1, 2 })
  lu.assertErrorMsgContains("a vector of 3", x.repeat_interleave, x, counts(1, 2), 2)
  lu.assertErrorMsgContains("at least 0", x.repeat_interleave, x, counts(-1, 2), 1)
end

function T.test_unique_slices_are_sorted_by_their_elements()
  local x = nb.tensor { { 2, 1 }, { 1, 9 }, { 2, 0 }, { 1, 9 } }
  local values, inverse, counts = x:unique { dim = 1 }
  lu.assertEquals({ values:totable(), inverse:totable(), counts:totable() },
    { { { 1, 9 }, { 2, 0 }, { 2, 1 } }, { 3, 1, 2, 1 }, { 2, 1, 1 } })
  lu.assertEquals((x.T:unique { dim = -1 }):totable(), { { 1, 2, 2 }, { 9, 0, 1 } })
  lu.assertErrorMsgContains("no dimension 3", x.unique, x, { dim = 3 })
end

function T.test_decompositions_may_be_completed()
  local x = nb.randn(4, 2, { dtype = "f64" })
  local q, r = nb.qr(x, { mode = "complete" })
  lu.assertEquals({ q.shape, r.shape }, { { 4, 4 }, { 4, 2 } })
  numeric.assert_close(q:matmul(r), x, 1e-12)
  numeric.assert_close(q:matmul(q.T), nb.eye(4), 1e-12)
  local u, s, v = nb.svd(x, { full_matrices = true })
  lu.assertEquals({ u.shape, s.shape, v.shape }, { { 4, 4 }, { 2 }, { 2, 2 } })
  numeric.assert_close(u:narrow(2, 1, 2):mul(s):matmul(v.T), x, 1e-12)
  numeric.assert_close(u:matmul(u.T), nb.eye(4), 1e-12)
end

function T.test_weights_of_columns_are_counts_or_weights()
  local x = nb.tensor { { 1, 2, 4 }, { 3, 1, 5 } }
  local twice = nb.tensor { { 1, 2, 2, 4 }, { 3, 1, 1, 5 } }
  numeric.assert_close(nb.cov(x, { fweights = nb.tensor { 1, 2, 1 } }), nb.cov(twice))
  for name, bad in pairs { fweights = { { -1, 1, 1 }, { 0.5, 1, 1 }, { 0 / 0, 1, 1 } }, aweights = { { -1, 1, 1 } } } do
    for _, w in ipairs(bad) do
      lu.assertErrorMsgContains("cov: " .. name, nb.cov, x, { [name] = nb.tensor(w) })
    end
  end
end

function T.test_an_empty_vector_joins_anything()
  lu.assertEquals(nb.cat({ nb.tensor {}, nb.ones(1, 2) }):totable(), { { 1, 1 } })
  lu.assertEquals(nb.cat({ nb.ones(1, 2), nb.zeros(0) }, 2):totable(), { { 1, 1 } })
end

function T.test_a_scalar_has_dimension_1()
  local x = nb.tensor(3, { requires_grad = true })
  lu.assertEquals(x:sum(1):item() + x:softmax(1):item() + x:cumsum(-1):item() + x:max(1):item(), 10)
  lu.assertEquals(x:gather(1, nb.tensor(1)):item(), 3)
  local g = nb.grad(x:gather(1, nb.tensor { 1, 1 }):sum(), x)
  lu.assertEquals(g:item(), 2)
  lu.assertErrorMsgContains("no dimension 2", x.sum, x, 2)
end

-- ---- numbers that are drawn ----

-- Mean and variance of n numbers against the distribution's, within five standard errors.
local function assert_moments(x, mean, variance, fourth)
  local n = x:numel()
  local off = math.abs(x:mean():item() - mean)
  lu.assertTrue(off < 5 * math.sqrt(variance / n), ("mean off by %g"):format(off))
  off = math.abs(x:var():item() - variance)
  lu.assertTrue(off < 5 * math.sqrt((fourth - variance ^ 2) / n), ("variance off by %g"):format(off))
end

function T.test_drawn_numbers_have_their_distributions_moments()
  nb.seed(5)
  local n = 40000
  for _, rate in ipairs { 0.3, 4, 9.9, 10.1, 60, 1e4 } do
    local x = nb.poisson(nb.full({ n }, rate, { dtype = "f64" }))
    assert_moments(x, rate, rate, rate * (1 + 3 * rate))
    lu.assertTrue(x:eq(x:floor()):all():item() and x:ge(0):all():item())
  end
  assert_moments(nb.exponential(nb.full({ n }, 2, { dtype = "f64" })), 0.5, 0.25, 9 / 16)
  assert_moments(nb.zeros(n, { dtype = "f64" }):exponential_(2), 0.5, 0.25, 9 / 16)
  assert_moments(nb.normal(3, 2, { n }), 3, 4, 48)
  assert_moments(nb.zeros(n):normal_(3, 2), 3, 4, 48)
  assert_moments(nb.zeros(n, { dtype = "f64" }):uniform_(-1, 3), 1, 16 / 12, 256 / 80)
  assert_moments(nb.zeros(n):bernoulli_(0.25), 0.25, 3 / 16, 0.25 * 0.75 ^ 4 + 0.75 * 0.25 ^ 4)
  assert_moments(nb.zeros(n, { dtype = "i64" }):random_(1, 6):to("f64"), 3.5, 35 / 12, 14.73)
  -- Places in proportion to weights, with and without replacement.
  local weights = nb.tensor { 1, 0, 2, 5 }
  local counts = nb.bincount(nb.multinomial(weights, n, true), { minlength = 4 })
  lu.assertEquals(counts:at(2), 0)
  for k, p in ipairs { 1 / 8, 0, 1 / 4, 5 / 8 } do
    lu.assertTrue(math.abs(counts:at(k) - n * p) <= 5 * math.sqrt(n * p * (1 - p)))
  end
  local firsts = nb.multinomial(weights:expand(n, 4), 2)
  lu.assertTrue(firsts:select(2, 1):ne(firsts:select(2, 2)):all():item())
  lu.assertTrue(math.abs(firsts:select(2, 1):eq(4):sum():item() - n * 5 / 8) <= 5 * math.sqrt(n * 15 / 64))
  lu.assertErrorMsgContains("without replacement", nb.multinomial, weights, 4)
  lu.assertErrorMsgContains("at least 0", nb.multinomial, nb.tensor { -1, 2 }, 1)
  lu.assertErrorMsgContains("a rate lies between", nb.poisson, nb.tensor { -1 })
end

function T.test_numbers_are_the_same_at_any_number_of_threads()
  local before = nb.threads()
  local function draw(threads)
    nb.threads(threads)
    nb.seed(9)
    local x = nb.poisson(nb.full({ 50000 }, 12))
    return { x:sum():item(), (x * nb.arange(1, 50000)):sum():item(), nb.exponential(nb.ones(50000)):sum():item() }
  end
  local one, two = draw(1), draw(2)
  nb.threads(before)
  lu.assertEquals(two, one)
end

-- ---- Fourier transforms ----

-- The defining sum, by a loop.
local function by_definition(x, sign)
  local n, out = #x, {}
  for j = 0, n - 1 do
    local re, im = 0, 0
    for k = 0, n - 1 do
      local angle = sign * 2 * math.pi * (j * k % n) / n
      re = re + x[k + 1][1] * math.cos(angle) - x[k + 1][2] * math.sin(angle)
      im = im + x[k + 1][1] * math.sin(angle) + x[k + 1][2] * math.cos(angle)
    end
    out[j + 1] = { re, im }
  end
  return out
end

function T.test_transforms_are_the_defining_sums()
  nb.seed(3)
  for _, n in ipairs { 1, 2, 3, 5, 7, 8, 12, 16, 31, 60, 97 } do
    local x = nb.randn(n, 2, { dtype = "f64" })
    numeric.assert_close(nb.fft(x), nb.tensor(by_definition(x:totable(), -1), { dtype = "f64" }), 1e-12)
    numeric.assert_close(nb.ifft(x) * n, nb.tensor(by_definition(x:totable(), 1), { dtype = "f64" }), 1e-12)
    numeric.assert_close(nb.ifft(nb.fft(x)), x, 1e-13)
    local r = nb.randn(n, { dtype = "f64" })
    numeric.assert_close(nb.irfft(nb.rfft(r), n), r, 1e-13)
  end
  -- A long one of odd length gives back what went in, in f32 to its precision.
  local long = nb.randn(100003, 2)
  numeric.assert_close(nb.ifft(nb.fft(long)), long, 1e-5)
  lu.assertErrorMsgContains("pairs of a real and an imaginary part", nb.fft, nb.ones(3))
  lu.assertErrorMsgContains("before the pairs", nb.fft, nb.ones(3, 2), 3, 2)
end

-- ---- derivatives of functions ----

function T.test_derivatives_of_functions_agree_with_formulas()
  local a = nb.tensor({ { 2, 1 }, { 0, 3 } }, { dtype = "f64" })
  local x = nb.tensor({ 1, -2 }, { dtype = "f64" })
  local function square(t) return t:mul(t):matmul(a) end  -- yⱼ = Σ xᵢ²·aᵢⱼ
  lu.assertEquals(nb.jacobian(square, x):totable(), { { 4, 0 }, { 2, -12 } })
  local y, g = nb.vjp(square, x, nb.tensor({ 1, 10 }, { dtype = "f64" }))
  lu.assertEquals({ y:totable(), g:totable() }, { { 2, 13 }, { 24, -120 } })
  y, g = nb.jvp(square, x, nb.tensor({ 1, 10 }, { dtype = "f64" }))
  lu.assertEquals({ y:totable(), g:totable() }, { { 2, 13 }, { 4, -118 } })
  local function cubes(t, u) return (t ^ 3):sum() + (t * u):sum() end
  lu.assertEquals(nb.hessian(function(t) return cubes(t, t) end, x):totable(), { { 8, 0 }, { 0, -10 } })
  local H = nb.hessian(cubes, { x, a[1] })
  lu.assertEquals({ H[1][1]:totable(), H[1][2]:totable(), H[2][2]:totable() },
    { { { 6, 0 }, { 0, -12 } }, { { 1, 0 }, { 0, 1 } }, { { 0, 0 }, { 0, 0 } } })
  local _, hv = nb.hvp(function(t) return cubes(t, t) end, x, x)
  lu.assertEquals(hv:totable(), { 8, 20 })
  -- They compose, and leave gradients and modes alone.
  local third = nb.jacobian(function(t) return nb.hessian(function(u) return (u ^ 3):sum() end, t,
    { create_graph = true }):sum() end, x)
  lu.assertEquals(third:totable(), { 6, 6 })
  nb.no_grad(function()
    lu.assertEquals(nb.jacobian(function(t) return t:sum() end, x):totable(), { 1, 1 })
    lu.assertEquals(nb.grad_enabled(), false)
  end)
  lu.assertErrorMsgContains("must return one number", nb.hessian, square, x)
  lu.assertErrorMsgContains("must be a tensor of f32 or f64", nb.jacobian, square, nb.tensor({ 1 }, { dtype = "i64" }))
  lu.assertEquals(nb.vmap(function(t, k) return t * k, t:sum() end)(nb.tensor { { 1, 2 }, { 3, 4 } }, 10):totable(),
    { { 10, 20 }, { 30, 40 } })
  lu.assertErrorMsgContains("has 3 samples, not 2", nb.vmap(function(p, q) return p + q end), nb.ones(2), nb.ones(3))
end

function T.test_new_tensors_have_the_dtype()
  local t = nb.zeros(2, { dtype = "f64" })
  lu.assertEquals(t:new_ones(2, 3).shape, { 2, 3 })
  lu.assertEquals(t:new_full({ 2 }, 5, { dtype = "i64" }).dtype, "i64")
  lu.assertEquals(t:new_zeros({ 2 }, { requires_grad = true }).requires_grad, true)
  lu.assertEquals(nb.zeros(2, 3).T:stride(), { 1, 3 })
  lu.assertEquals(nb.zeros(2, 3):stride(-1), 1)
  lu.assertErrorMsgContains("no dimension 3", t.stride, t, 3)
end

-- Whatever a function or a loss is given, what is refused names it, and is no error of Lua's within the library.
function T.test_what_is_refused_names_the_function()
  local scalars = { 0, 1, -1, 2, 3.5, 0 / 0, math.huge, math.maxinteger, math.mininteger }
  local tables = { {}, { 1, 2 }, { 2, 2, 2, 2 }, { "a" }, { dim = 1 }, { size = 3 } }
  local tensors = { nb.rand(2, 3), nb.rand(5, 7), nb.rand(4), nb.rand(2, 3, 4), nb.ones(2, 2, 5, 5), nb.tensor(3),
    nb.zeros(0, 3), nb.tensor { 1, 2, 3 }:to("i64"), nb.tensor { 1, 0 }:to("bool"), nb.rand(3, 3, { dtype = "f64" }) }
  local kinds = { scalars, tables, tensors, tensors, tensors, { "sum", "", true, false, print } }
  local random = math.random
  math.randomseed(3)
  local failures, refused = {}, 0
  for _, e in ipairs(registry.all()) do
    local f = e.value
    if e.composed or type(f) == "function" and e.family == "Loss functions" then
      for _ = 1, 40 do
        local args = {}
        for k = 1, random(0, 4) do
          local kind = kinds[random(#kinds)]
          args[k] = kind[random(#kind)]
        end
        local ok, message = pcall(function()
          local results = table.pack(f(table.unpack(args)))
          return results
        end)
        if not ok then
          refused = refused + 1
          local named = tostring(message):find(e.name:match("[%w_]+$"), 1, true)
          if not named or message:find("attempt to", 1, true) or message:find("bad argument", 1, true) then
            failures[#failures + 1] = e.name .. ": " .. tostring(message)
          end
        end
      end
    end
  end
  lu.assertEquals(failures, {})
  lu.assertTrue(refused > 1000, refused)
end

-- Between its voxels a volume that is linear is read as it is; beyond, as zeros or as its border.
function T.test_volumes_are_read_between_their_voxels()
  local f64 = { dtype = "f64" }
  local function at(n) return nb.arange(1, n, f64) - 1 end
  local volume = at(3):reshape(3, 1, 1) * 100 + at(4):reshape(4, 1) * 10 + at(5)
  local x, grid = volume:reshape(1, 1, 3, 4, 5), nb.tensor({ { -0.5, 0, 0.25 }, { 1, -1, -1 }, { 3, 0, 0 } }, f64)
  local function read(o) return nb.grid_sample(x, grid:reshape(1, 1, 1, 3, 3), o):reshape(3):totable() end
  lu.assertAlmostEquals(read { align_corners = true }[1], 1.25 * 100 + 1.5 * 10 + 1, 1e-12)
  lu.assertEquals(read { align_corners = true, mode = "nearest" }, { 100 + 20 + 1, 4, 0 })
  lu.assertAlmostEquals(read { padding_mode = "border" }[3], 100 + 15 + 4, 1e-12)
  local same = nb.affine_grid(nb.tensor({ { { 1, 0, 0, 0 }, { 0, 1, 0, 0 }, { 0, 0, 1, 0 } } }, f64), { 1, 1, 3, 4, 5 })
  lu.assertTrue(nb.allclose(nb.grid_sample(x, same), x))
  lu.assertErrorMsgContains("bicubic", nb.grid_sample, x, same, { mode = "bicubic" })
end

return T
