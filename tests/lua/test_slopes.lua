-- SPDX-License-Identifier: MIT
-- Tests derived from the operator table: slopes at special points, and of forms in place.
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"

local flat, call_of, cases, arguments, each_row = numeric.flat, numeric.call_of, numeric.cases, numeric.arguments,
  numeric.each_row
local T = {}

-- Rows that are differentiated element by element, and those that reduce.
local function is_smooth_in_parts(row)
  return row.has_backward and (row.elementwise or row.family == "Reductions") and row.name ~= "within"
end

-- ---- kinks ----

local POINTS = { 0, 1, -1, 2, -2, 0.5, 20, -20, 0.0, 3 }
local H = 2 ^ -20

-- The f tensors of a case with special points instead, so that they meet in many ways: other strides for each tensor
-- and draw.
local function place_points(made, draw)
  nb.no_grad(function()
    for k, x in ipairs(made) do
      local v = x:detach():view(-1)
      for i = 1, v:numel() do v[i] = POINTS[((i - 1) * (2 * k + draw) + k * draw) % #POINTS + 1] end
    end
  end)
end

-- A row's first output, as a vector.
local function value_of(row, args)
  local y = call_of(row)(table.unpack(args, 1, args.n))
  return y:to("f64"):reshape(-1)
end

-- Bounds of the slope of Σ f, whose value is a vector, at element i of the flat tensor v: each element's is between its
-- slopes on either side, by two steps each.  nil where these are none: jumps, infinities, bends within the steps.
local function sides(f, v, i)
  local x = v:at(i)
  local middle = f()
  local function off(d)
    v[i] = x + d
    local y = f() - middle
    v[i] = x
    return y / d
  end
  local list = {}
  for k, sign in ipairs { -1, 1 } do
    local near, far = off(sign * H), off(sign * 2 * H)
    local close = (near - far):abs():le(nb.maximum(near:abs(), 1) * 1e-3)
    if not (near:abs():le(1e4) & close):all():item() then return nil end
    list[k] = near
  end
  return nb.minimum(list[1], list[2]):sum():item(), nb.maximum(list[1], list[2]):sum():item()
end

local function assert_between(g, low, high, what)
  local margin = 2e-3 * math.max(1, math.abs(low), math.abs(high))
  assert(g >= low - margin and g <= high + margin,
    ("%s: slope %g, but %g and %g beside it"):format(what, g, low, high))
end

-- Of all rows: wherever there is a slope on either side, also at 0, at equal operands and at thresholds, the gradient
-- is between them, and so is the second derivative where the first has one on either side.
function T.test_slopes_at_kinks_are_between_those_beside()
  local first, second = 0, 0
  each_row(is_smooth_in_parts, function(row)
    for _, case in ipairs(assert(cases(row))) do
      for draw = 0, 2 do
        local args, made = arguments(row, case)
        place_points(made, draw)
        local ok, y = pcall(value_of, row, args)
        if ok and y.requires_grad then
          for k, x in ipairs(made) do
            local v = x:detach():view(-1)
            local function slopes(create_graph)
              local g = nb.grad(value_of(row, args):sum(), x, { create_graph = create_graph })
              return g and g:reshape(-1) or nb.zeros({ v:numel() }, { dtype = "f64" })
            end
            for i = 1, math.min(v:numel(), 12) do
              local what = ("[%s] input %d, element %d, %g"):format(case, k, i, v:at(i))
              local slope = slopes(true)[i]
              local bend = slope.requires_grad and nb.grad(slope, x, { retain_graph = true })
              bend = bend and bend:reshape(-1):at(i) or 0
              local low, high = nb.no_grad(sides, function() return value_of(row, args) end, v, i)
              if low then
                assert_between(slope:item(), low, high, what)
                first = first + 1
                low, high = sides(function() return slopes(false)[{ { i, i } }] end, v, i)
              end
              if low then
                assert_between(bend, math.min(low, 0), math.max(high, 0), "second, " .. what)
                second = second + 1
              end
            end
          end
        end
      end
    end
  end)
  assert(first > 1000 and second > 500, first .. ", " .. second)
end

-- ---- in place ----

-- Each case of a row that has a form in place for results of its first argument's shape, with the plain result.
local function each_in_place(check)
  local count = 0
  each_row(function(row) return row.inplace and row.has_backward end, function(row)
    for _, case in ipairs(assert(cases(row))) do
      local args, made = arguments(row, case)
      local ok, y = pcall(call_of(row), table.unpack(args, 1, args.n))
      if ok and rawequal(made[1], args[1]) and table.concat(y.shape, "×") == table.concat(args[1].shape, "×") then
        check(row, args, made, y)
        count = count + 1
      end
    end
  end)
  assert(count > 40, count)
end

local function in_place(row, x, args)
  local held = { table.unpack(args, 1, args.n) }
  held[1] = x
  return (row.internal and native[row.name .. "_"] or native.methods[row.name .. "_"])(table.unpack(held, 1, args.n))
end

function T.test_second_derivatives_through_forms_in_place()
  each_in_place(function(row, args, made, y)
    if row.internal then return end
    local weights, direction = nb.rand(y.shape, { dtype = "f64" }) + 0.5, nb.rand(args[1].shape, { dtype = "f64" })
    local function second(result)
      local g = nb.grad((result * result * weights):sum(), made[1], { create_graph = true })
      if not g then return {} end
      return flat(nb.grad((g * direction):sum(), made[1]) or nb.zeros_like(made[1]))
    end
    local x = args[1] * 1  -- no leaf
    local have, want = second(in_place(row, x, args)), second(y)
    local wrong = numeric.difference(have, want, 1e-10)
    if wrong then error(wrong, 0) end
  end)
end

-- What reads old values through a view that was taken without recording would lose their gradient.
function T.test_no_form_in_place_computes_through_a_view_taken_without_recording()
  each_in_place(function(row, args)
    if row.internal then return end
    local whole = args[1] * 1
    local view = nb.no_grad(function() return whole:view(whole.shape) end)
    local ok, message = pcall(in_place, row, view, args)
    assert(not ok and message:find("made while gradients were off", 1, true), ok and "accepted" or message)
  end)
end

return T
