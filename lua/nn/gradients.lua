-- SPDX-License-Identifier: MIT
-- Functions on the gradients of a list of parameters.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local registry = require "nablua.registry"

local M = {}

-- The gradients of a list of parameters, of one tensor, or of a module's.
local function gradients(where, parameters)
  if nb.is_tensor(parameters) then parameters = { parameters } end
  if module.is(parameters) then parameters = parameters:parameters() end
  if type(parameters) ~= "table" or getmetatable(parameters) then
    native.raise(("%s: the parameters must be a list such as net:parameters(), got %s"):format(where,
      options.describe(parameters)))
  end
  local list = {}
  for i, p in ipairs(parameters) do
    if not nb.is_tensor(p) then
      native.raise(("%s: entry %d must be a tensor, got %s"):format(where, i, options.describe(p)))
    end
    list[#list + 1] = p.grad
  end
  return list
end

-- f(g) for every gradient, or for none.
local function change_each(list, f)
  for _, g in ipairs(list) do f(g) end
end

local function define(name, entry)
  local where, f = "nn." .. name, entry[1]
  table.insert(entry.params, 1, { name = "parameters", type = "any", doc = "such as net:parameters()" })
  entry[1] = function(...)
    local o = options.read(where, entry.params, ...)
    return nb.no_grad(f, gradients(where, o.parameters), o)
  end
  entry.family = "Training"
  registry.define(M, "nn.", name, entry)
end

define("clip_grad_norm", {
  doc = "Scales all gradients together so that their common norm is at most max_norm; returns the norm before.",
  params = {
    { name = "max_norm", type = "positive or huge" },
    { name = "norm_type", type = "positive or huge", default = 2, positional = true,
      doc = "the norm's power; math.huge: the largest element" },
    { name = "error_if_nonfinite", type = "boolean", default = false },
  },
  source = "Pascanu, Mikolov and Bengio 2013", see = { "nn.clip_grad_value" },
  example = "local w = nb.tensor({3, 4}, {requires_grad=true}); (w * w):sum():backward(); " ..
    "return nn.clip_grad_norm({w}, 5)  --> 10",
  function(list, o)
    local p, total = o.norm_type, 0
    for _, g in ipairs(list) do
      local magnitude = g:numel() > 0 and (p == math.huge and g:abs():max():item() or g:norm { p = p }:item()) or 0
      total = p == math.huge and math.max(total, magnitude) or total + magnitude ^ p
    end
    local norm = p == math.huge and total or total ^ (1 / p)
    if o.error_if_nonfinite and (norm ~= norm or norm == math.huge) then
      native.raise(("nn.clip_grad_norm: the norm of the gradients is %s"):format(norm ~= norm and "NaN" or "infinite"))
    end
    if norm > o.max_norm then
      native.whole(change_each, list, function(g) g:mul_(o.max_norm / norm) end)
    end
    return norm
  end,
})

define("clip_grad_value", {
  doc = "Cuts every element of the gradients to −clip_value..clip_value.",
  params = { { name = "clip_value", type = "positive or huge" } }, see = { "nn.clip_grad_norm" },
  example = "local w = nb.tensor({3, -4}, {requires_grad=true}); (w * w):sum():backward(); " ..
    "nn.clip_grad_value({w}, 7); return w.grad  --> {6, -7}",
  function(list, o)
    native.whole(change_each, list, function(g) g:clamp_(-o.clip_value, o.clip_value) end)
  end,
})

return M
