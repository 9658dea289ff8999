-- SPDX-License-Identifier: MIT
-- LBFGS: quasi-Newton steps from the last changes of the parameters and of the gradient (Nocedal and Wright 2006,
-- algorithms 7.4, 7.5, 3.5 and 3.6), for losses that are the same at every evaluation.
--
-- All parameters count as one vector w.  Remembered, from step to step: s (k × n, rows w' − w), y (k × n, rows of the
-- gradient's changes), the direction, the gradient, the rate, the scale of the first guess of the inverse Hessian.
local native = require "nablua.native"
local nb = require "nablua.core"
local modes = require "nablua.modes"

-- ---- the vector ----

local function gather(params, field)
  local parts = {}
  for i, p in ipairs(params) do
    local t = field == "grad" and p.grad or p:detach()
    if field == "grad" and not p.grad then t = nb.zeros_like(p:detach()) end
    parts[i] = t:reshape(-1)
  end
  return nb.cat(parts, 1)
end

local function scatter(params, vector)
  local first = 1
  for _, p in ipairs(params) do
    local n = p:numel()
    p:copy_(vector:narrow(1, first, n):view(p.shape))
    first = first + n
  end
end

local function dot(a, b)
  return (a * b):sum():item()
end

local function largest(v)
  return v:numel() > 0 and v:abs():max():item() or 0
end

-- ---- the direction ----

-- Adds a row; the oldest goes when there would be more than `most`.
local function pushed(rows, row, most)
  row = row:unsqueeze(1)
  if not rows or most == 1 then return row end
  local n = rows:size(1)
  return nb.cat({ n >= most and rows:narrow(1, n - most + 2, most - 1) or rows, row }, 1)
end

-- −H·gradient by the two loops over the remembered changes.
local function direction(m, gradient)
  local q = -gradient
  if not m.s then return q end
  local n, alpha, rho = m.s:size(1), {}, {}
  for i = n, 1, -1 do
    rho[i] = 1 / dot(m.y[i], m.s[i])
    alpha[i] = rho[i] * dot(m.s[i], q)
    q = q - m.y[i] * alpha[i]
  end
  q = q * m.scale
  for i = 1, n do q = q + m.s[i] * (alpha[i] - rho[i] * dot(m.y[i], q)) end
  return q
end

-- Adds what the last step, which m remembers, taught to `next`.
local function learn(m, next, gradient, o)
  local y, s = gradient - m.gradient, m.direction * m.rate
  local curvature = dot(y, s)
  if curvature <= 1e-10 then return end
  next.s, next.y = pushed(m.s, s, o.history_size), pushed(m.y, y, o.history_size)
  next.scale = curvature / dot(y, y)
end

-- ---- the line search ----

-- A place on the line: rate t, loss f, gradient g, slope = g·direction.  The minimum of the cubic through the values
-- and slopes at a and b, kept between low and high.
local function cubic_minimum(a, b, low, high)
  local d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
  local square = d1 * d1 - a.slope * b.slope
  if square ~= square or square < 0 then return (low + high) / 2 end
  if a.t > b.t then a, b = b, a end
  local d2 = math.sqrt(square)
  local t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
  if t ~= t then return (low + high) / 2 end
  return math.min(math.max(t, low), high)
end

local LONGEST, SUFFICIENT, FLAT = 25, 1e-4, 0.9  -- evaluations; Wolfe's constants c1 and c2

-- Widens the step until two places hold between them one that fulfils Wolfe's conditions, or one does itself.
local function bracket(at, start, t)
  local previous, here = start, at(t)
  for count = 1, LONGEST do
    if here.f > start.f + SUFFICIENT * here.t * start.slope or (count > 2 and here.f >= previous.f) then
      return previous, here, count
    end
    if math.abs(here.slope) <= -FLAT * start.slope then return here, nil, count end
    if here.slope >= 0 then return previous, here, count end
    local wider = cubic_minimum(previous, here, here.t + 0.01 * (here.t - previous.t), here.t * 10)
    previous, here = here, at(wider)
  end
  return start, here, LONGEST + 1
end

-- Narrows a bracket down to a place that fulfils the conditions.  `low` is the end with the lower loss.
local function zoom(at, start, a, b, count, tolerance)
  local low, high = a, b
  if a.f > b.f then low, high = b, a end
  local stuck = false
  while count <= LONGEST do
    local left, right = math.min(low.t, high.t), math.max(low.t, high.t)
    if (right - left) * start.reach < tolerance then break end
    local t = cubic_minimum(a, b, left, right)
    local margin = 0.1 * (right - left)
    -- A second time so near an end: a tenth away from it.
    if math.min(right - t, t - left) < margin then
      if stuck or t >= right or t <= left then
        t = math.abs(t - right) < math.abs(t - left) and right - margin or left + margin
        stuck = false
      else
        stuck = true
      end
    else
      stuck = false
    end
    local here = at(t)
    count = count + 1
    if here.f > start.f + SUFFICIENT * t * start.slope or here.f >= low.f then
      high = here
      if low.f > high.f then low, high = high, low end
    else
      local done = math.abs(here.slope) <= -FLAT * start.slope
      if not done and here.slope * (high.t - low.t) >= 0 then high = low end
      low = here
      if done then break end
    end
    a, b = low, high
  end
  return low
end

local function strong_wolfe(at, start, t, tolerance)
  local a, b, count = bracket(at, start, t)
  return b and zoom(at, start, a, b, count, tolerance) or a
end

-- ---- the optimizer ----

-- What is remembered once a step along the direction begins, made without a change of m: an interrupt or an error while
-- the loss is evaluated leaves a step that has not begun.
local function prepare(m, gradient, o)
  local next = { s = m.s, y = m.y, scale = m.scale }
  if m.gradient then
    learn(m, next, gradient, o)
  else
    next.scale = 1
  end
  next.direction, next.gradient = direction(next, gradient), gradient
  next.rate = m.step:item() == 0 and math.min(1, 1 / gradient:abs():sum():item()) * o.lr or o.lr
  return next
end

-- Takes a step: the parameters move to `to`, where there is one, and m remembers it.
local function take(params, to, m, next)
  m.step:add_(1)
  for name, value in pairs(next) do m[name] = value end
  if to then scatter(params, to) end
end

-- The best place on the line by evaluations with the parameters moved, which are back at `from` after it.
local function search(params, from, start, direct, rate, evaluate, tolerance)
  return modes.restoring(function() scatter(params, from) end, strong_wolfe, function(t)
    scatter(params, from + direct * t)
    local f, g = evaluate()
    return { t = t, f = f, g = g, slope = dot(g, direct) }
  end, start, rate, tolerance)
end

local function step(o, m, closure)
  local params, evaluations, result = o.params, 0, nil
  local most = o.max_eval or o.max_iter * 5 // 4
  local function evaluate()
    evaluations = evaluations + 1
    local J = closure()
    local loss, gradient = nb.is_tensor(J) and J:item() or J, gather(params, "grad")
    result = result or J
    if o.maximize then return -loss, -gradient end
    return loss, gradient
  end
  local loss, gradient = evaluate()
  local iteration = 0
  while iteration < o.max_iter and largest(gradient) > o.tolerance_grad do
    iteration = iteration + 1
    local next = prepare(m, gradient, o)
    local d = next.direction
    local before, slope = loss, dot(gradient, d)
    if slope > -o.tolerance_change then
      native.whole(take, params, nil, m, next)
      break
    end
    local from = gather(params)
    if o.line_search_fn then
      local start = { t = 0, f = loss, g = gradient, slope = slope, reach = largest(d) }
      local found = search(params, from, start, d, next.rate, evaluate, o.tolerance_change)
      loss, gradient, next.rate = found.f, found.g, found.t
    end
    native.whole(take, params, from + d * next.rate, m, next)
    if not o.line_search_fn and iteration < o.max_iter then loss, gradient = evaluate() end
    if evaluations >= most or largest(d * m.rate) <= o.tolerance_change or
        math.abs(loss - before) < o.tolerance_change then
      break
    end
  end
  return result
end

local function count_of(parameters)
  local n = 0
  for _, p in ipairs(parameters) do n = n + p:numel() end
  return n
end

return {
  doc = "Quasi-Newton steps for losses without chance in them (all data at once, no dropout): few, but each of " ..
    "several evaluations.  opt:step(closure) makes up to max_iter of them.",
  source = "Liu and Nocedal 1989", step = step,
  example = [[
local w = nb.tensor({3, -2}, {requires_grad=true})
local opt = optim.LBFGS({w}, {line_search_fn="strong_wolfe"})
opt:step(function() opt:zero_grad(); local J = (w * w):sum(); J:backward(); return J end)
return w:abs():max():lt(1e-6):item()  --> true]],
  params = {
    { name = "lr", type = "non-negative", default = 1, doc = "length of a step, where there is no line search" },
    { name = "max_iter", type = "size", default = 20, doc = "most steps within one opt:step" },
    { name = "max_eval", type = "size", optional = true,
      doc = "most evaluations within one; 1.25·max_iter when left out" },
    { name = "tolerance_grad", type = "non-negative", default = 1e-7, doc = "ends when no gradient is larger" },
    { name = "tolerance_change", type = "non-negative", default = 1e-9,
      doc = "ends when neither loss nor parameters change more" },
    { name = "history_size", type = "size", default = 100, doc = "changes remembered" },
    { name = "line_search_fn", choices = { "strong_wolfe" }, optional = true,
      doc = "choose the length of each step by Wolfe's conditions: dependable, a few evaluations more" },
  },
  memory = { direction = true, gradient = true, rate = true, scale = true, s = false, y = false },
  shape_of = function(name, _, value, parameters)
    local n = count_of(parameters)
    if name == "direction" or name == "gradient" then return tostring(n) end
    if (name == "s" or name == "y") and nb.is_tensor(value) and value:dim() == 2 then
      return ("%d×%d"):format(value:size(1), n)
    end
    return "()"
  end,
}
