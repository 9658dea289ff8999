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
  lu.assertEquals(x:roll({ 1, -1 }, { 1, 2 }):totable(), { { 5, 6, 4 }, { 2, 3, 1 } })
  lu.assertEquals(x:repeat_interleave(nb.tensor { 2, 0, 1 }, 2):totable(), { { 1, 1, 3 }, { 4, 4, 6 } })
  lu.assertEquals(x:repeat_interleave(nb.tensor { 1, 0, 0, 0, 0, 2 }):totable(), { 1, 6, 6 })
  lu.assertEquals(nb.repeat_interleave(x, nb.tensor { 0, 0 }, 1).shape, { 0, 3 })
  lu.assertErrorMsgContains("a shift for each dimension", x.roll, x, { 1 }, { 1, 2 })
  lu.assertErrorMsgContains("a vector of 3", x.repeat_interleave, x, nb.tensor { 1, 2 }, 2)
  lu.assertErrorMsgContains("at least 0", x.repeat_interleave, x, nb.tensor { -1, 2 }, 1)
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

return T
