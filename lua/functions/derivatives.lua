-- SPDX-License-Identifier: MIT
-- Derivatives of functions as matrices and products with vectors, made of nb.grad.
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local FAMILY = "Gradients"
local f = { name = "f", type = "function", doc = "gets the inputs as arguments and returns a tensor" }
local inputs = { name = "inputs", type = "any", doc = "a tensor or a table of tensors" }
local create_graph = { name = "create_graph", type = "boolean", default = false,
  doc = "record, for further derivatives" }

-- The inputs as leaves of their own, and whether there was one alone.  With create_graph they stay connected.
local function leaves_of(name, given, connected)
  local one = nb.is_tensor(given)
  local list = one and { given } or given
  if type(list) ~= "table" or #list == 0 then
    define.fail(name, "inputs must be a tensor or a table of tensors, got %s", options.describe(given))
  end
  local leaves = {}
  for i, x in ipairs(list) do
    if not nb.is_tensor(x) or x.dtype ~= "f32" and x.dtype ~= "f64" then
      define.fail(name, "input %d must be a tensor of f32 or f64, got %s", i,
        nb.is_tensor(x) and x.dtype or options.describe(x))
    end
    if connected and x.requires_grad then
      leaves[i] = x:view(x.shape)
    else
      leaves[i] = x:detach()
      leaves[i].requires_grad = true
    end
  end
  return leaves, one
end

local function recorded(body)
  local before = nb.grad_enabled()
  nb.set_grad_enabled(true)
  local results = table.pack(pcall(body))
  nb.set_grad_enabled(before)
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

local function value_of(name, g, leaves)
  local y = g(table.unpack(leaves))
  if not nb.is_tensor(y) then define.fail(name, "f must return a tensor, got %s", options.describe(y)) end
  return y
end

local function scalar_of(name, g, leaves)
  local y = value_of(name, g, leaves)
  if y:numel() ~= 1 then define.fail(name, "f must return one number, got shape %s", options.shape(y)) end
  return y
end

-- ∂y/∂x of each leaf, zeros where it does not depend on it.
local function gradients(y, leaves, how)
  local out = {}
  if y.requires_grad then out = table.pack(nb.grad(y, leaves, how)) end
  for i, x in ipairs(leaves) do out[i] = out[i] or nb.zeros_like(x) end
  return out
end

local function result(list, one, detach)
  if detach then for i, t in ipairs(list) do list[i] = t:detach() end end
  if one then return list[1] end
  list.n = nil
  return list
end

local function rows_of(y, leaves, create)
  local rows, n = {}, y:numel()
  for i = 1, #leaves do rows[i] = {} end
  local shape = y.shape
  for k = 1, n do
    local one = nb.zeros(n, { dtype = y.dtype })
    one[k] = 1
    local g = gradients(y, leaves, { grad = one:reshape(shape), retain_graph = true, create_graph = create })
    for i = 1, #leaves do rows[i][k] = g[i] end
  end
  for i, x in ipairs(leaves) do
    local full = table.move(x.shape, 1, x:dim(), #shape + 1, table.move(shape, 1, #shape, 1, {}))
    rows[i] = n > 0 and nb.stack(rows[i]):reshape(full) or nb.zeros(full, { dtype = x.dtype })
  end
  return rows
end

local function derivative(name, entry)
  local body = entry[1]
  entry.family, entry.kind = FAMILY, "function"
  entry[1] = function(...)
    local o = options.read(name, entry.params, ...)
    return recorded(function() return body(o) end)
  end
  define.function_of("nb.", name, entry)
end

derivative("jacobian", {
  doc = "∂y/∂x of y = f(inputs) for each element of y and of the input: the shape of y followed by that of x; of " ..
    "several inputs a table.  One backward for each element of y.",
  params = { f, inputs, create_graph }, see = { "nb.grad", "nb.vjp", "nb.hessian" },
  example = "nb.jacobian(function(x) return x * x end, nb.tensor{1, 2})  --> {{2, 0}, {0, 4}}",
  function(o)
    local leaves, one = leaves_of("jacobian", o.inputs, o.create_graph)
    local y = value_of("jacobian", o.f, leaves)
    return result(rows_of(y, leaves, o.create_graph), one, not o.create_graph)
  end,
})

derivative("hessian", {
  doc = "The second derivatives of a number f(inputs): the shape of x twice; of several inputs a table of tables.  " ..
    "One backward for each element of the inputs.",
  params = { f, inputs, create_graph }, see = { "nb.jacobian", "nb.hvp" },
  example = "nb.hessian(function(x) return (x ^ 3):sum() end, nb.tensor{1, 2})  --> {{6, 0}, {0, 12}}",
  function(o)
    local leaves, one = leaves_of("hessian", o.inputs, o.create_graph)
    local first = gradients(scalar_of("hessian", o.f, leaves), leaves, { create_graph = true })
    local out = {}
    for i, g in ipairs(first) do out[i] = result(rows_of(g, leaves, o.create_graph), one, not o.create_graph) end
    return one and out[1] or out
  end,
})

derivative("vjp", {
  doc = "y = f(inputs), and vᵀ·∂y/∂x: the gradient of (y·v):sum().  v has y's shape, and may be left out where y is " ..
    "one number.",
  params = { f, inputs, { name = "v", type = "tensor", optional = true, positional = true }, create_graph },
  see = { "nb.jvp", "nb.grad" },
  example = "{nb.vjp(function(x) return x * x end, nb.tensor{1, 2}, nb.tensor{1, 10})}  --> {{1, 4}, {2, 40}}",
  function(o)
    local leaves, one = leaves_of("vjp", o.inputs, o.create_graph)
    local y = value_of("vjp", o.f, leaves)
    if not o.v and y:numel() ~= 1 then define.fail("vjp", "needs v, of shape %s", options.shape(y)) end
    local g = gradients(y, leaves, { grad = o.v or nb.ones_like(y:detach()), create_graph = o.create_graph })
    return o.create_graph and y or y:detach(), result(g, one, not o.create_graph)
  end,
})

derivative("jvp", {
  doc = "y = f(inputs), and ∂y/∂x·v: how y changes as the inputs change by v, which has their shapes.  By two " ..
    "backwards.",
  params = { f, inputs, { name = "v", type = "any", doc = "a tensor or a table of tensors, as inputs" }, create_graph },
  see = { "nb.vjp", "nb.hvp" },
  example = "{nb.jvp(function(x) return x * x end, nb.tensor{1, 2}, nb.tensor{1, 10})}  --> {{1, 4}, {2, 40}}",
  function(o)
    local leaves = leaves_of("jvp", o.inputs, o.create_graph)
    local v = nb.is_tensor(o.v) and { o.v } or o.v
    if type(v) ~= "table" or #v ~= #leaves then define.fail("jvp", "v must have a tensor for each input") end
    local y = value_of("jvp", o.f, leaves)
    -- g(u) = uᵀ·∂y/∂x is linear in u: its derivative along v is the product.
    local u = nb.zeros_like(y:detach())
    u.requires_grad = true
    local g = gradients(y, leaves, { grad = u, create_graph = true, retain_graph = true })
    local J
    for i, t in ipairs(g) do
      if t.requires_grad then
        local part = (t * v[i]):sum()
        J = J and J + part or part
      end
    end
    local product = J and gradients(J, { u }, { create_graph = o.create_graph })[1] or nb.zeros_like(y:detach())
    return o.create_graph and y or y:detach(), o.create_graph and product or product:detach()
  end,
})

derivative("hvp", {
  doc = "y = f(inputs), one number, and its second derivatives times v, which has the inputs' shapes; without the " ..
    "matrix.",
  params = { f, inputs, { name = "v", type = "any", doc = "a tensor or a table of tensors, as inputs" }, create_graph },
  see = { "nb.hessian", "nb.jvp" },
  example = "{nb.hvp(function(x) return (x ^ 3):sum() end, nb.tensor{1, 2}, nb.tensor{1, 1})}  --> {9, {6, 12}}",
  function(o)
    local leaves, one = leaves_of("hvp", o.inputs, o.create_graph)
    local v = nb.is_tensor(o.v) and { o.v } or o.v
    if type(v) ~= "table" or #v ~= #leaves then define.fail("hvp", "v must have a tensor for each input") end
    local y = scalar_of("hvp", o.f, leaves)
    local J
    for i, g in ipairs(gradients(y, leaves, { create_graph = true })) do
      if g.requires_grad then
        local part = (g * v[i]):sum()
        J = J and J + part or part
      end
    end
    local g = J and gradients(J, leaves, { create_graph = o.create_graph }) or gradients(nb.zeros {}, leaves)
    return o.create_graph and y or y:detach(), result(g, one, not o.create_graph)
  end,
})

define.function_of("nb.", "vmap", {
  family = FAMILY, kind = "function",
  doc = "A function that calls f for each element of the first dimension of its tensors and stacks what it returns; " ..
    "other arguments go to every call as they are.  A loop over samples: it saves writing, not time.",
  params = { f }, see = { "nb.jacobian", "nb.stack" },
  example = "nb.vmap(function(x, y) return x:dot(y) end)(nb.ones(2, 3), nb.ones(2, 3))  --> {3, 3}",
  function(...)
    local g = options.read("vmap", { f }, ...).f
    return function(...)
      local args, n = table.pack(...), nil
      for k = 1, args.n do
        local x = args[k]
        if nb.is_tensor(x) then
          if x:dim() == 0 then define.fail("vmap", "argument %d is a scalar, which has no samples", k) end
          n = n or x:size(1)
          if x:size(1) ~= n then define.fail("vmap", "argument %d has %d samples, not %d", k, x:size(1), n) end
        end
      end
      if not n or n == 0 then define.fail("vmap", "there are no samples among the arguments") end
      local out = {}
      for i = 1, n do
        local sample = table.pack(...)
        for k = 1, args.n do if nb.is_tensor(args[k]) then sample[k] = args[k]:select(1, i) end end
        local results = table.pack(g(table.unpack(sample, 1, args.n)))
        for k = 1, results.n do
          if not nb.is_tensor(results[k]) then
            define.fail("vmap", "f must return tensors, got %s", options.describe(results[k]))
          end
          out[k] = out[k] or {}
          out[k][i] = results[k]
        end
      end
      for k, list in ipairs(out) do out[k] = nb.stack(list) end
      return table.unpack(out)
    end
  end,
})
