-- SPDX-License-Identifier: MIT
-- Weights that are computed from others before each call: their length and direction apart, or divided by their
-- largest singular value.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local registry = require "nablua.registry"
local shared = require "nablua.nn.shared"

local M = {}

local function define(name, entry)
  local where, f = "nn." .. name, entry[1]
  entry[1] = function(...) return f(options.read(where, entry.params, ...), where) end
  entry.family = "Training"
  registry.define(M, "nn.", name, entry)
end

-- The norm of each slice of dimension `dim`, which the result keeps; of 0 over all.
local function slice_norm(v, dim)
  if dim == 0 then return v:square():sum():sqrt() end
  local dims = {}
  for d = 1, v:dim() do
    if d ~= dim then dims[#dims + 1] = d end
  end
  return #dims > 0 and v:square():sum(dims, { keepdim = true }):sqrt() or v:abs()
end

local name_param = { name = "name", type = "string", default = "weight", positional = true, doc = "which parameter" }
local module_param = { name = "module", type = "any", doc = "a layer" }

define("weight_norm", {
  doc = "Lets a layer learn the length of its weight's rows, name_g, and their direction, name_v, apart: " ..
    "weight = g·v/|v|.  Make the optimizer afterwards.  Returns the layer.",
  source = "Salimans and Kingma 2016", see = { "nn.spectral_norm" },
  params = { module_param, name_param,
    { name = "dim", type = "integer", default = 1, positional = true,
      doc = "the dimension whose slices have a length each; 0: one length for all" } },
  example = "nn.weight_norm(nn.Linear(3, 2)).weight_g.shape  --> {2, 1}",
  function(o, where)
    local w, name, dim = shared.parameter(where, o), o.name, o.dim
    if dim < 0 then dim = w:dim() + 1 + dim end
    if dim < 0 or dim > w:dim() then
      native.raise(("%s: there is no dimension %d in shape %s"):format(where, o.dim, options.shape(w)))
    end
    local g, v = name .. "_g", name .. "_v"
    o.module[g] = nb.no_grad(slice_norm, w:detach(), dim)
    o.module[v] = w:detach():clone()
    o.module[g].requires_grad, o.module[v].requires_grad = true, true
    module.learn(o.module, g)
    module.learn(o.module, v)
    shared.compute_before(o.module, name, function(m) return m[v] * (m[g] / slice_norm(m[v], dim)) end)
    return o.module
  end,
})

local function unit(v, eps) return v / math.max(v:square():sum():sqrt():item(), eps) end

define("spectral_norm", {
  doc = "Divides a layer's weight by its largest singular value, which power iterations follow while training.  " ..
    "What learns is name_orig.  Make the optimizer afterwards.  Returns the layer.",
  source = "Miyato et al. 2018", see = { "nn.weight_norm" },
  params = { module_param, name_param,
    { name = "n_power_iterations", type = "size", default = 1, positional = true, doc = "iterations in a call" },
    { name = "eps", type = "positive", default = 1e-12, doc = "the least length that is divided by" },
    { name = "dim", type = "size", optional = true,
      doc = "the dimension of the outputs: 1, of transposed convolutions 2" } },
  example = "nn.spectral_norm(nn.Linear(3, 2)).weight_orig.shape  --> {2, 3}",
  function(o, where)
    local w, name = shared.parameter(where, o), o.name
    local dim = o.dim or o.module:kind():find "^ConvTranspose" and 2 or 1
    if dim > w:dim() or w:dim() < 2 then
      native.raise(("%s: the weight must be a matrix or more with a dimension %d, got shape %s"):format(where, dim,
        options.shape(w)))
    end
    local function matrix(t) return (dim == 1 and t or t:transpose(1, dim)):flatten(2, -1) end
    local orig, u, v = name .. "_orig", name .. "_u", name .. "_v"
    local m = o.module
    m[orig] = w:detach():clone()
    m[orig].requires_grad = true
    module.learn(m, orig)
    local rows = matrix(m[orig]:detach())
    m[u] = unit(nb.randn({ rows:size(1) }, { dtype = w.dtype }), o.eps)
    m[v] = unit(nb.randn({ rows:size(2) }, { dtype = w.dtype }), o.eps)
    module.learn(m, u)
    module.learn(m, v)
    local function iterate(self, count)
      local a = matrix(self[orig]:detach())
      for _ = 1, count do
        self[v]:copy_(unit(a.T:matmul(self[u]), o.eps))
        self[u]:copy_(unit(a:matmul(self[v]), o.eps))
      end
    end
    nb.no_grad(iterate, m, 15)
    shared.compute_before(m, name, function(self)
      if self.training then nb.no_grad(iterate, self, o.n_power_iterations) end
      local sigma = (matrix(self[orig]):matmul(self[v]:clone()) * self[u]:clone()):sum()
      return self[orig] / sigma
    end)
    return m
  end,
})

return M
