-- SPDX-License-Identifier: MIT
-- Tests derived from the operator table: every row is held to the same demands.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"

local flat, call_of, cases, arguments, scalar_of = numeric.flat, numeric.call_of, numeric.cases, numeric.arguments,
  numeric.scalar_of
local T = {}

local rows, each_row, each_case = native.rows(), numeric.each_row, numeric.each_case

local function all()
  return true
end

-- ---- the demands ----

function T.test_every_row_is_documented()
  lu.assertTrue(#rows >= 60)
  each_row(all, function(row)
    assert(row.doc and #row.doc > 5, "no doc")
    assert(row.example, "no example")
    assert((row.no_grad ~= nil) ~= row.has_backward, "a row has just one of backward and no_grad")
    assert(not row.has_backward or row.derivative, "no symbolic derivative")
    assert(cases(row), "no sample, and none can be derived")
  end)
end

local function differentiable(row)
  return row.has_backward
end

function T.test_gradients_agree_with_finite_differences()
  each_row(differentiable, function(row)
    each_case(row, function(case)
      local args, made = arguments(row, case)
      assert(#made > 0, "the sample has no f tensor")
      local weights = {}
      local J = scalar_of(row, args, weights)
      local got = table.pack(nb.grad(J, made))
      for k, x in ipairs(made) do
        local want = numeric.finite_difference(function()
          return scalar_of(row, args, weights):item()
        end, x, 1e-6)
        local have = got[k] and flat(got[k]) or flat(nb.zeros(x.shape))
        local wrong = numeric.difference(have, want, 2e-6)
        if wrong then error(("gradient of input %d, %s"):format(k, wrong), 0) end
      end
    end)
  end)
end

function T.test_second_derivatives_agree_with_finite_differences()
  each_row(differentiable, function(row)
    each_case(row, function(case)
      local args, made = arguments(row, case)
      local weights, directions = {}, {}
      for k, x in ipairs(made) do directions[k] = nb.rand(x.shape, { dtype = "f64" }) + 0.5 end
      -- K = Σ v·∂J/∂x, whose gradient is the second derivative in the direction v.
      local function slope(create_graph)
        local J = scalar_of(row, args, weights)
        local g = table.pack(nb.grad(J, made, { create_graph = create_graph }))
        local K
        for k = 1, #made do
          if g[k] then
            local part = (g[k] * directions[k]):sum()
            K = K and K + part or part
          end
        end
        return K
      end
      local K = slope(true)
      if not K then return end
      local got = K.requires_grad and table.pack(nb.grad(K, made)) or {}
      for k, x in ipairs(made) do
        local want = numeric.finite_difference(function()
          return slope(false):item()
        end, x, 1e-5)
        local have = got[k] and flat(got[k]) or flat(nb.zeros(x.shape))
        local wrong = numeric.difference(have, want, 2e-5)
        if wrong then error(("second derivative of input %d, %s"):format(k, wrong), 0) end
      end
    end)
  end)
end

local function outputs(row, args)
  local out = table.pack(call_of(row)(table.unpack(args, 1, args.n)))
  for k = 1, out.n do out[k] = flat(out[k]) end
  return out
end

local function draws(row)
  return row.family == "Random numbers"
end

local function has_inputs(row)
  return not draws(row) and row.sample.args ~= "" and #row.params > 0 and row.params[1].kind:find("tensor") ~= nil
end

function T.test_strided_inputs_give_what_contiguous_ones_give()
  each_row(has_inputs, function(row)
    if row.name == "view" then return end  -- it demands the strides that this test takes away
    each_case(row, function(case)
      local state = { native.random_state() }
      local args, made = arguments(row, case)
      native.random_state(state[1], state[2])
      local twins, made_twins = arguments(row, case, numeric.strided)
      local want, have = outputs(row, args), outputs(row, twins)
      lu.assertEquals(have.n, want.n)
      for k = 1, want.n do
        local wrong = numeric.difference(have[k], want[k], 1e-12)
        if wrong then error(("output %d, %s"):format(k, wrong), 0) end
      end
      if not row.has_backward then return end
      local weights = {}
      local g = table.pack(nb.grad(scalar_of(row, args, weights), made))
      local h = table.pack(nb.grad(scalar_of(row, twins, weights), made_twins))
      for k = 1, #made do
        assert((g[k] == nil) == (h[k] == nil), "a gradient is missing")
        local wrong = g[k] and numeric.difference(flat(h[k]), flat(g[k]), 1e-12)
        if wrong then error(("gradient %d, %s"):format(k, wrong), 0) end
      end
    end)
  end)
end

-- Freed blocks of the outputs' size hold a poison when the next call asks for memory.
local function assert_written(row, args)
  local want = outputs(row, args)
  for _, poison in ipairs { 77, 78 } do
    local first = table.pack(call_of(row)(table.unpack(args, 1, args.n)))
    for k = 1, first.n do
      if first[k].dtype ~= "bool" then nb.full_like(first[k], poison) end
    end
    collectgarbage()
    local have = outputs(row, args)
    for k = 1, want.n do
      local wrong = numeric.difference(have[k], want[k], 1e-12)
      if wrong then error(("output %d, %s"):format(k, wrong), 0) end
    end
  end
end

local function computes(row)
  return has_inputs(row) and not row.view and row.name ~= "empty_like"
end

function T.test_every_output_element_is_written()
  each_row(computes, function(row)
    each_case(row, function(case) assert_written(row, (arguments(row, case))) end)
  end)
end

-- Sizes of 1, and of 0.  What has another number in its sample may not fit them, and says so.
function T.test_the_smallest_sizes()
  local taken = { [0] = 0, 0 }
  each_row(computes, function(row)
    each_case(row, function(case)
      for size in pairs(taken) do
        local ok, args = pcall(arguments, row, case, nil, function() return size end)
        if ok and pcall(outputs, row, args) then
          assert_written(row, args)
          taken[size] = taken[size] + 1
        end
      end
    end)
  end)
  assert(taken[1] > 100 and taken[0] > 50, taken[1] .. " of one, " .. taken[0] .. " of none")
end

local function elementwise(row)
  return row.elementwise and not row.of_whole and has_inputs(row)
end

-- Long rows go through loops with wider vectors, short ones do not.
function T.test_an_element_does_not_depend_on_its_neighbours()
  each_row(elementwise, function(row)
    local lo, hi = row.sample.lo, row.sample.hi
    if lo == 0 and hi == 0 then lo, hi = -2, 2 end
    for _, dtype in ipairs { "f32", "f64" } do
      local args = {}
      for _, p in ipairs(row.params) do
        if p.kind == "mask" then
          args[#args + 1] = nb.rand(43):gt(0.4)
        elseif numeric.is_tensor_kind(p.kind) and not p.optional then
          args[#args + 1] = nb.rand(43, { dtype = dtype }) * (hi - lo) + lo
        elseif not p.optional then
          return
        end
      end
      local want, have = flat(call_of(row)(table.unpack(args))), {}
      for first = 1, 43, 7 do
        local part = {}
        for k, x in ipairs(args) do part[k] = x:narrow(1, first, math.min(7, 44 - first)) end
        for _, v in ipairs(flat(call_of(row)(table.unpack(part)))) do have[#have + 1] = v end
      end
      lu.assertEquals(have, want, row.name .. " of " .. dtype)
    end
  end)
end

function T.test_empty_tensors_pass_through_elementwise_rows()
  each_row(elementwise, function(row)
    for _, shape in ipairs { { 0 }, { 2, 0, 3 } } do
      local args, made = {}, {}
      for _, p in ipairs(row.params) do
        if p.kind == "mask" then
          args[#args + 1] = nb.zeros(shape, { dtype = "bool" })
        elseif numeric.is_tensor_kind(p.kind) and not p.optional then
          args[#args + 1] = nb.zeros(shape, { dtype = "f64", requires_grad = true })
          made[#made + 1] = args[#args]
        elseif not p.optional then
          return
        end
      end
      local y = call_of(row)(table.unpack(args))
      lu.assertEquals(y.shape, shape)
      if row.has_backward then
        for k, g in ipairs { nb.grad(y:sum(), made) } do lu.assertEquals(g.shape, made[k].shape) end
      end
    end
  end)
end

function T.test_binary_rows_broadcast_with_right_gradients()
  local shapes = { { { 2, 3, 4 }, { 4 } }, { { 3, 1 }, { 1, 4 } }, { { 2, 3 }, {} }, { { 1 }, { 2, 1, 3 } } }
  each_row(function(row)
    return elementwise(row) and row.has_backward and #row.params == 2 and numeric.is_tensor_kind(row.params[2].kind) and
      not row.sample.args
  end, function(row)
    for _, pair in ipairs(shapes) do
      for _, order in ipairs { { 1, 2 }, { 2, 1 } } do
        local a, b = pair[order[1]], pair[order[2]]
        local case = ("f(%s), f(%s)"):format(table.concat(a, ","), table.concat(b, ","))
        local args, made = arguments(row, case)
        local weights = {}
        local g = { nb.grad(scalar_of(row, args, weights), made) }
        for k, x in ipairs(made) do
          local want = numeric.finite_difference(function()
            return scalar_of(row, args, weights):item()
          end, x, 1e-6)
          lu.assertEquals(g[k].shape, x.shape)
          local wrong = numeric.difference(flat(g[k]), want, 2e-6)
          if wrong then error(("[%s] gradient %d, %s"):format(case, k, wrong), 0) end
        end
      end
    end
  end)
end

function T.test_single_precision_agrees_with_double()
  each_row(has_inputs, function(row)
    each_case(row, function(case)
      local args = arguments(row, case)
      local single = { n = args.n }
      for k = 1, args.n do
        local a = args[k]
        if nb.is_tensor(a) and a.dtype == "f64" then
          args[k] = a:detach():to("f32"):to("f64")
          a = args[k]:to("f32")
        elseif type(a) == "table" and nb.is_tensor(a[1]) then
          local list, copy = {}, {}
          for j, t in ipairs(a) do
            list[j] = t:detach():to("f32"):to("f64")
            copy[j] = list[j]:to("f32")
          end
          args[k], a = list, copy
        end
        single[k] = a
      end
      local want, have = outputs(row, args), outputs(row, single)
      for k = 1, want.n do
        if row.name == "svd" or row.name == "eigh" then  -- whose vectors may have either sign
          for i = 1, #want[k] do want[k][i], have[k][i] = math.abs(want[k][i]), math.abs(have[k][i]) end
        end
        local wrong = numeric.difference(have[k], want[k], 2e-5)
        if wrong then error(("output %d, %s"):format(k, wrong), 0) end
      end
    end)
  end)
end

-- A rule may look whether there are zeros; while a graph is recorded it may not.
function T.test_gradients_are_the_same_where_a_graph_is_made_of_them()
  local function compare(row, case, plant)
    local args, made = arguments(row, case)
    if plant then
      for _, x in ipairs(made) do
        if x:numel() > 0 then nb.no_grad(function() x:view(x:numel())[1] = 0 end) end
      end
    end
    local weights = {}
    local want = table.pack(nb.grad(scalar_of(row, args, weights), made, { create_graph = true }))
    local have = table.pack(nb.grad(scalar_of(row, args, weights), made))
    for k = 1, #made do
      assert((have[k] == nil) == (want[k] == nil), "a gradient is missing")
      local wrong = have[k] and numeric.difference(flat(have[k]), flat(want[k]), 1e-9)
      if wrong then error(("gradient %d, %s"):format(k, wrong), 0) end
    end
  end
  each_row(function(row) return differentiable(row) and has_inputs(row) end, function(row)
    each_case(row, function(case)
      compare(row, case, false)
      -- Where 0 is refused, or makes a matrix singular, there is nothing to compare.
      local ok, err = pcall(compare, row, case, true)
      if not ok and tostring(err):find("^gradient") then error("with zeros, " .. err, 0) end
    end)
  end)
end

-- Numbers take the dtype of the tensors beside them, however a row keeps them.
function T.test_numbers_are_what_tensors_of_one_element_are()
  local checked = 0
  each_row(function(row) return differentiable(row) and has_inputs(row) end, function(row)
    for k, p in ipairs(row.params) do
      local case = assert(cases(row))[1]
      if k > 1 and p.kind == "tensor or number" and not row.name:find("_grad$") then
        for _, dtype in ipairs { "f32", "f64" } do
          local number = row.sample.lo > 0 and row.sample.lo or 0.3
          local function gradients(value)
            nb.seed(3)
            local args, made = arguments(row, case, function(x) return x:to(dtype) end)
            local first, at = args[1], args.n < k and args.n + 1 or k
            args[at], args.n = p.optional and { [p.name] = value } or value, at
            local weights = {}
            local J = scalar_of(row, args, weights)
            return J:item(), flat(nb.grad(J, first or made[1]))
          end
          local ok, want, slopes = pcall(gradients, nb.tensor(number, { dtype = dtype }))
          if ok then
            local have, mine = gradients(number)
            lu.assertEquals(have, want, p.name)
            lu.assertEquals(mine, slopes, p.name)
            checked = checked + 1
          end
        end
      end
    end
  end)
  assert(checked > 20, checked)
end

function T.test_in_place_forms_write_what_the_plain_forms_return()
  each_row(function(row) return row.inplace and not row.internal end, function(row)
    each_case(row, function(case)
      local args, made = arguments(row, case)
      if made[1] ~= args[1] then return end
      local ok, want = pcall(call_of(row), table.unpack(args, 1, args.n))
      if not ok or table.concat(want.shape, "x") ~= table.concat(args[1].shape, "x") then return end
      local weights = nb.rand(want.shape, { dtype = "f64" }) + 0.5
      local g = row.has_backward and { nb.grad((want * weights):sum(), made) } or {}
      local x = args[1] * 1  -- not a leaf
      local held = { table.unpack(args, 1, args.n) }
      held[1] = x
      local same = native.methods[row.name .. "_"](table.unpack(held, 1, args.n))
      assert(same == x, "the result is not the tensor itself")
      local wrong = numeric.difference(flat(x), flat(want), 1e-12)
      if wrong then error(wrong, 0) end
      if not row.has_backward then return end
      local h = { nb.grad((x * weights):sum(), made) }
      for k = 1, #made do
        wrong = g[k] and numeric.difference(flat(h[k]), flat(g[k]), 1e-10)
        if wrong then error(("gradient %d, %s"):format(k, wrong), 0) end
      end
    end)
  end)
end

function T.test_in_place_forms_refuse_elements_that_share_memory()
  local refused = 0
  each_row(function(row) return row.inplace and not row.internal end, function(row)
    each_case(row, function(case)
      local args, made = arguments(row, case)
      local shape = args[1].shape
      if made[1] ~= args[1] or #shape == 0 or shape[1] < 2 then return end
      nb.no_grad(function()
        args[1] = args[1]:detach():narrow(1, 1, 1):clone():expand(shape)
        local before = flat(args[1])
        local ok, err = pcall(native.methods[row.name .. "_"], table.unpack(args, 1, args.n))
        assert(not ok and (err:find("share memory", 1, true) or err:find("does not fit", 1, true)), err)
        assert(not numeric.difference(flat(args[1]), before, 0), "it was written all the same")
      end)
      refused = refused + 1
    end)
  end)
  assert(refused > 30, refused)
end

-- ---- arguments ----

function T.test_wrong_arguments_are_named()
  each_row(has_inputs, function(row)
    local case = assert(cases(row))[1]
    for k, p in ipairs(row.params) do
      if (numeric.is_tensor_kind(p.kind) or p.kind == "index tensor" or p.kind == "mask") and not p.optional then
        local args = arguments(row, case)
        for _, bad in ipairs { "seven", print } do
          args[k] = bad
          local ok, err = pcall(call_of(row), table.unpack(args, 1, args.n))
          assert(not ok, "a " .. type(bad) .. " passed as " .. p.name)
          assert(err:find(row.name, 1, true) and err:find(p.name, 1, true), "unclear: " .. tostring(err))
        end
      end
    end
    local args = arguments(row, case)
    local count = args.n
    if type(args[count]) == "table" and not nb.is_tensor(args[count]) and #args[count] == 0 then count = count - 1 end
    args[count + 1] = { no_such_option = 1 }
    local ok, err = pcall(call_of(row), table.unpack(args, 1, count + 1))
    assert(not ok and err:find("no_such_option", 1, true) and err:find(row.name, 1, true), "unclear: " .. tostring(err))
    ok = pcall(call_of(row))
    assert(not ok, "it accepts no arguments at all")
  end)
end

function T.test_missing_sizes_are_named()
  local checked = 0
  each_row(has_inputs, function(row)
    for k, p in ipairs(row.params) do
      if p.name == "kernel" then
        local args = arguments(row, assert(cases(row))[1])
        local ok, err = pcall(call_of(row), table.unpack(args, 1, k - 1))
        assert(not ok and err:find(row.name .. ": " .. p.name .. " is missing", 1, true), "unclear: " .. tostring(err))
        checked = checked + 1
      end
    end
  end)
  assert(checked > 0)
end

function T.test_options_may_follow_many_sizes()
  local sizes = {}
  for i = 1, 40 do sizes[i] = 1 end
  sizes[41] = {}
  lu.assertErrorMsgContains("at most 8 dimensions", nb.zeros, table.unpack(sizes))
end

function T.test_booleans_are_no_numbers()
  local t, mask = nb.tensor { 1, 2 }, nb.tensor { true, false }
  lu.assertErrorMsgContains("add: y must be a tensor or a number beside a tensor of f32, got true",
    function() return t + true end)
  lu.assertErrorMsgContains("got false", function() return false * t end)
  lu.assertErrorMsgContains("mul_: y must be", function() t:mul_(true) end)
  lu.assertEquals(t:totable(), { 1, 2 })
  lu.assertEquals(mask:eq(true):totable(), { true, false })
end

-- Numbers that no size, dimension or index should be: an error or a result, never a crash.
function T.test_absurd_numbers_do_no_harm()
  local absurd = { 0, -1, -100, 1e15, -1e15, math.maxinteger, math.mininteger, 0 / 0, 1 / 0, 0.5, 2 ^ 40 }
  each_row(function(row) return row.name ~= "empty" end, function(row)
    for _, case in ipairs(assert(cases(row))) do
      local args = arguments(row, case)
      for k = 1, args.n do
        if type(args[k]) == "number" then
          local keep = args[k]
          for _, v in ipairs(absurd) do
            args[k] = v
            pcall(call_of(row), table.unpack(args, 1, args.n))
          end
          args[k] = keep
        elseif type(args[k]) == "table" and not nb.is_tensor(args[k]) then
          for key, keep in pairs(args[k]) do
            if type(keep) == "number" then
              for _, v in ipairs(absurd) do
                args[k][key] = v
                pcall(call_of(row), table.unpack(args, 1, args.n))
              end
              args[k][key] = keep
            end
          end
        end
      end
    end
  end)
end

-- ---- in place, and far from 1 ----

function T.test_second_derivatives_pass_through_changes_in_place()
  local checked = 0
  each_row(function(row) return row.inplace and row.has_backward and not row.internal end, function(row)
    each_case(row, function(case)
      local args, made = arguments(row, case)
      if made[1] ~= args[1] then return end
      local ok, plain = pcall(call_of(row), table.unpack(args, 1, args.n))
      if not ok or table.concat(plain.shape, "x") ~= table.concat(args[1].shape, "x") then return end
      local weights = nb.rand(plain.shape, { dtype = "f64" }) + 0.5
      local function second(y)
        local slopes = table.pack(nb.grad((y * y * weights):sum(), made, { create_graph = true }))
        local K
        for k = 1, #made do
          if slopes[k] then K = (K or 0) + (slopes[k] * slopes[k]):sum() end
        end
        return K and K.requires_grad and table.pack(nb.grad(K, made)) or {}
      end
      local want = second(plain)
      local held = { table.unpack(args, 1, args.n) }
      held[1] = args[1] * 1
      local have = second(native.methods[row.name .. "_"](table.unpack(held, 1, args.n)))
      for k = 1, #made do
        assert((want[k] == nil) == (have[k] == nil), "a second derivative is missing")
        local wrong = want[k] and numeric.difference(flat(have[k]), flat(want[k]), 1e-10)
        if wrong then error(("second derivative %d, %s"):format(k, wrong), 0) end
        checked = checked + 1
      end
    end)
  end)
  assert(checked > 30, checked)
end

-- Elementwise rows at small, middling and large numbers: derivatives against differences of each element.
function T.test_elementwise_derivatives_are_right_at_every_magnitude()
  local compared = 0
  local function slopes(call, args, made, directions)
    local y = call(table.unpack(args))
    if not directions then return y end
    local K
    for k, g in pairs { nb.grad(y:sum(), made, { create_graph = true }) } do
      local part = g * directions[k]
      K = K and K + part or part
    end
    return K
  end
  each_row(function(row) return elementwise(row) and row.has_backward end, function(row)
    for _, magnitude in ipairs { 1e-3, 2, 30 } do
      local args, made, directions = {}, {}, {}
      local free = row.sample.lo <= 0
      for _, p in ipairs(row.params) do
        if p.kind == "mask" then
          args[#args + 1] = nb.rand(12):gt(0.4)
        elseif numeric.is_tensor_kind(p.kind) and not p.optional then
          local x = (nb.rand(12, { dtype = "f64" }) * 0.5 + 0.5) * (p.name == "target" and 0.9 or magnitude)
          if free and p.name ~= "target" then x = x * (nb.rand(12):gt(0.5):to("f64") * 2 - 1) end
          x.requires_grad = true
          args[#args + 1], made[#made + 1] = x, x
          directions[#directions + 1] = nb.rand(12, { dtype = "f64" }) + 0.5
        elseif not p.optional then
          return
        end
      end
      -- What takes probabilities refuses larger numbers.
      local refused = magnitude > 1 and not pcall(call_of(row), table.unpack(args))
      for order, d in ipairs(refused and {} or { false, directions }) do
        local y = slopes(call_of(row), args, made, d)
        local got = y and y.requires_grad and table.pack(nb.grad(y:sum(), made)) or {}
        for k, x in ipairs(made) do
          local h, center = x:detach():abs() * 2e-6, x:detach():clone()
          nb.no_grad(function() x:copy_(center + h) end)
          local up = slopes(call_of(row), args, made, d)
          nb.no_grad(function() x:copy_(center - h) end)
          local down = slopes(call_of(row), args, made, d)
          nb.no_grad(function() x:copy_(center) end)
          local want = flat(up and ((up - down) / (h * 2)):detach() or nb.zeros_like(x))
          -- What rounding and, near poles, the width of the difference leave of it.
          local noise = up and flat(((up:abs() + 1) * 1e-14 / h + (up - y * 2 + down):abs() / h * 1e-2):detach())
          local have = got[k] and flat(got[k]) or flat(nb.zeros_like(x))
          for i, w in ipairs(want) do
            if w == w and math.abs(w) < 1e300 then
              if have[i] ~= have[i] or math.abs(w - have[i]) > 1e-6 * math.abs(w) + (noise and noise[i] or 0) then
                error(("derivative %d of input %d at %.10g: %.10g against %.10g"):format(order, k, x:at(i), have[i], w),
                  0)
              end
              compared = compared + 1
            end
          end
        end
      end
    end
  end)
  assert(compared > 2000, compared)
end

-- ---- examples ----

-- "--> {1, 2}" as a flat list of numbers.
local function shown_values(text)
  local value = assert(load("return " .. text, "shown", "t", { nan = 0 / 0, inf = 1 / 0, e = math.exp(1) }))()
  local out = {}
  local function walk(v)
    if type(v) == "table" then
      for i = 1, #v do walk(v[i]) end
    else
      out[#out + 1] = v == true and 1 or v == false and 0 or v
    end
  end
  walk(value)
  return out
end

function T.test_examples_run_and_show_what_they_say()
  local parsed, compared = 0, 0
  each_row(all, function(row)
    local code, shown = row.example:match("^(.-)%s*%-%->%s*(.+)$")
    code = code or row.example
    local env = setmetatable({ nb = nb }, { __index = _G })
    local chunk = load("return " .. code, "example", "t", env) or assert(load(code, "example", "t", env))
    local value = chunk()
    parsed = parsed + 1
    if not shown then return end
    local want = shown_values(shown)
    local have = nb.is_tensor(value) and flat(value) or { value == true and 1 or value == false and 0 or value }
    local wrong = numeric.difference(have, want, 1e-4)
    if wrong then error(("%s: %s"):format(row.example, wrong), 0) end
    compared = compared + 1
  end)
  lu.assertTrue(parsed >= 60 and compared >= 50)
end

return T
