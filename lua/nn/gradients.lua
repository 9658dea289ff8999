-- SPDX-License-Identifier: MIT
-- Functions on the gradients of a list of parameters.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local M = {}

local params = {
  { name = "parameters", type = "table", doc = "such as net:parameters()" },
  { name = "max_norm", type = "positive" },
}

registry.define(M, "nn.", "clip_grad_norm", {
  family = "Training",
  doc = "Scales all gradients together so that their common norm is at most max_norm; returns the norm before.",
  params = params, source = "Pascanu, Mikolov and Bengio 2013",
  example = "local w = nb.tensor({3, 4}, {requires_grad=true}); (w * w):sum():backward(); " ..
    "return nn.clip_grad_norm({w}, 5)  --> 10",
  function(...)
    local o = options.read("nn.clip_grad_norm", params, ...)
    return nb.no_grad(function()
      local total = 0
      for i, p in ipairs(o.parameters) do
        if not nb.is_tensor(p) then
          native.raise(("nn.clip_grad_norm: entry %d must be a tensor, got %s"):format(i, options.describe(p)))
        end
        if p.grad then total = total + p.grad:norm():item() ^ 2 end
      end
      local norm = math.sqrt(total)
      if norm > o.max_norm then
        for _, p in ipairs(o.parameters) do
          if p.grad then p.grad:mul_(o.max_norm / norm) end
        end
      end
      return norm
    end)
  end,
})

return M
