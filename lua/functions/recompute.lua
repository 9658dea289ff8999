-- SPDX-License-Identifier: MIT
-- Computing a part of a net again in its backward, in place of keeping what it made on the way.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

-- Gradients of Σ y·g for y = net(inputs), computed with the random numbers of then.
local function gradients(ctx, g, inputs, parameters)
  local before, further = nb.random_state(), nb.grad_enabled()
  local leaves = {}
  for i, x in ipairs(inputs) do
    -- For further derivatives they stay connected.
    leaves[i] = further and x.requires_grad and x:view(x.shape) or x:detach()
    if leaves[i].dtype == "f32" or leaves[i].dtype == "f64" then
      if leaves[i].is_leaf then leaves[i].requires_grad = true end
    end
  end
  nb.random_state(ctx.random)
  nb.set_grad_enabled(true)
  local ok, result = pcall(function()
    local y, wanted, place = ctx.net(table.unpack(leaves)), {}, {}
    for i, x in ipairs(leaves) do
      if x.requires_grad then wanted[#wanted + 1], place[#place + 1] = x, i end
    end
    table.move(parameters, 1, #parameters, #wanted + 1, wanted)
    local got = table.pack(nb.grad((y * g):sum(), wanted, { create_graph = further }))
    local out, flat = {}, {}
    for k, i in ipairs(place) do out[i] = got[k] end
    for k, p in ipairs(parameters) do
      local grad = got[#place + k]
      flat[k] = (grad or nb.zeros_like(p:detach())):flatten()
    end
    return { out, #flat > 0 and nb.cat(flat, 1) or nil }
  end)
  nb.set_grad_enabled(further)
  nb.random_state(before)
  if not ok then error(result, 0) end
  return result[1], result[2]
end

local operator  -- of the parameters as one vector, and up to 8 inputs

local function recomputed()
  operator = operator or native.custom("recompute", 1, function(ctx, net, weights, ...)
    ctx.net, ctx.random, ctx.parameters = net, nb.random_state(), net:parameters()
    ctx:save(weights, ...)
    return net(...)
  end, function(ctx, g)
    local inputs = table.pack(ctx:saved())
    table.remove(inputs, 1)
    local out, flat = gradients(ctx, g, inputs, ctx.parameters)
    return nil, flat, table.unpack(out, 1, #inputs)
  end)
  return operator
end

define.function_of("nb.", "recompute", {
  kind = "function", family = "Gradients", signature = "nb.recompute(net, x, ...)", returns = "tensor",
  doc = "net(x, ...), of which backward keeps only the inputs: it computes the net again, with the same random " ..
    "numbers, which takes one more forward and saves the memory of what lies between.  The net must give one " ..
    "tensor; running values of BatchNorm learn in both passes.",
  source = "Chen et al., Training deep nets with sublinear memory cost, 2016", see = { "nb.grad", "nb.memory" },
  example = [[
local net = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
local x = nb.ones(1, 2)
nb.recompute(net, x):sum():backward()
return net[1].weight.grad.shape  --> {3, 2}]],
  function(net, ...)
    if not require("nablua.nn.module").is(net) then
      native.raise("recompute: the first argument must be a net, got " .. options.describe(net))
    end
    local inputs = table.pack(...)
    for i = 1, inputs.n do
      if not nb.is_tensor(inputs[i]) then
        native.raise(("recompute: input %d must be a tensor, got %s"):format(i, options.describe(inputs[i])))
      end
    end
    if inputs.n < 1 or inputs.n > 7 then
      native.raise(("recompute: needs 1 to 7 inputs, got %d"):format(inputs.n))
    end
    local flat = {}
    for k, p in ipairs(net:parameters()) do flat[k] = p:flatten() end
    local weights = #flat > 0 and nb.cat(flat, 1) or nb.zeros(0)
    return recomputed()(net, weights, ...)
  end,
})
