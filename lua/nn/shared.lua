-- SPDX-License-Identifier: MIT
-- What several layers compute.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"

local shared = {}

-- x·weightᵀ + bias on the last dimension of x.
function shared.affine(x, weight, bias)
  if bias then return nb.linear(x, weight, bias) end
  return nb.linear(x, weight)
end

-- Sees that a module's tensor, where it has one, has the given sizes; which is remembered.
local fitting = setmetatable({}, { __mode = "k" })  -- tensor → the module that it fits
function shared.check_sizes(self, field, ...)
  local t = self[field]
  if not t or fitting[t] == self then return end
  local sizes = { ... }
  if options.shape(t) ~= options.shape(sizes) then
    native.raise(("%s: %s must have shape %s, got %s"):format(self:kind(), field, options.shape(sizes),
      options.shape(t)))
  end
  fitting[t] = self
end

-- A vector for each of num_embeddings numbers, that of padding_idx zeros, as options of a layer say.
function shared.embedding_weight(where, o)
  if o.padding_idx and o.padding_idx > o.num_embeddings then
    native.raise(("%s: padding_idx must be a number from 1 to %d, got %d"):format(where, o.num_embeddings,
      o.padding_idx))
  end
  local weight = nb.randn(o.num_embeddings, o.embedding_dim)
  if o.padding_idx then weight[o.padding_idx] = 0 end
  weight.requires_grad = true
  return weight
end

-- What a name or a function of the user's says about an activation.
function shared.activation_of(where, given)
  if given == "relu" or given == "gelu" then return nb[given] end
  if type(given) ~= "string" and options.is_callable(given) then return given end
  native.raise(("%s: activation must be relu, gelu or a function, got %s"):format(where, options.describe(given)))
end

-- Elements set to 0 with probability p, the others scaled by 1/(1 − p).
function shared.dropped(x, p)
  if p == 0 then return x end
  return x * (nb.rand_like(x):ge(p):to(x.dtype) / (1 - p))
end

-- The tensor, whose numbers must be of a kind that native.within knows; else an error in the name of `where`.
function shared.within(where, t, kind)
  local ok, result = pcall(native.within, t, kind)
  if not ok then native.raise(where .. ": " .. tostring(result):gsub("^.-within: ", ""):gsub(" %(in .*$", "")) end
  return result
end

-- Sees that x is a tensor with as many dimensions as a layer takes: "(batch ×) channels × length" has one less without
-- its batch.
function shared.check_rank(self, x, text, rank, or_less)
  if nb.is_tensor(x) then
    local own = x:dim()
    if own == rank or or_less and own == rank - 1 then return end
  end
  native.raise(("%s: the input must be %s, got %s"):format(self:kind(), text, options.describe(x)))
end

-- Sees that a bias is a vector of n numbers; broadcasting would take others.
function shared.check_bias(where, bias, n)
  if bias:dim() ~= 1 or bias:numel() ~= n then
    native.raise(("%s: bias must have shape %d, got %s"):format(where, n, options.shape(bias)))
  end
end

-- One number serves for all dimensions of a list.
function shared.each_of(v, dims)
  if type(v) == "table" then return v end
  local list = {}
  for d = 1, dims do list[d] = v end
  return list
end

-- Sees that lists among a layer's options are of one number for each of its dimensions.
function shared.check_lists(where, o, dims, ...)
  for _, name in ipairs { ... } do
    if type(o[name]) == "table" and #o[name] ~= dims then
      native.raise(("%s: %s must be one number or %d, got %d"):format(where, name, dims, #o[name]))
    end
  end
end

-- The parameter of a layer that functions of one such take, {module=, name=}.
function shared.parameter(where, o)
  local module = require "nablua.nn.module"
  if not module.is(o.module) then
    native.raise(("%s: needs a module, got %s"):format(where, options.describe(o.module)))
  end
  local w = rawget(o.module, o.name)
  if not nb.is_tensor(w) or not w.is_leaf then
    native.raise(("%s: %s has no parameter %s"):format(where, o.module:kind(), o.name))
  end
  return w
end

local computed = setmetatable({}, { __mode = "k" })  -- a forward of compute_before's → { forward, name, compute }

-- Has compute(m) give the field `name` of m before each call.  A copy of the module does the same, since this stands in
-- the field `forward` of both.
function shared.compute_before(m, name, compute)
  local module = require "nablua.nn.module"
  local forward = m.forward
  module.forget(m, name)
  rawset(m, name, nb.no_grad(compute, m))
  local function wrapped(self, ...)
    rawset(self, name, compute(self))
    return forward(self, ...)
  end
  computed[wrapped] = { forward, name, compute }
  rawset(m, "forward", wrapped)
end

-- Ends it, for the field of that name alone.
function shared.stop_computing(m, name)
  local forward, others = m.forward, {}
  while computed[forward] do
    local base, own, compute = table.unpack(computed[forward])
    if own ~= name then table.insert(others, 1, { own, compute }) end
    forward = base
  end
  rawset(m, "forward", forward ~= getmetatable(m).class.forward and forward or nil)
  for _, other in ipairs(others) do shared.compute_before(m, table.unpack(other)) end
end

-- What layers of windows take beside kernel, stride and padding.
local ceil_mode = { name = "ceil_mode", type = "boolean", default = false,
  doc = "a last window that reaches over the edge counts" }
shared.pool_params = {
  maxima = { ceil_mode,
    { name = "dilation", type = "sizes", default = 1, doc = "steps between the elements of a window" },
    { name = "return_indices", type = "boolean", default = false,
      doc = "also gives the places of the elements, counted row by row in each channel: what nn.MaxUnpool takes" } },
  averages = { { name = "count_include_pad", type = "boolean", default = true, doc = "padded zeros count" }, ceil_mode,
    { name = "divisor_override", type = "finite", optional = true,
      doc = "what sums are divided by, in place of how many elements count" } },
}

local function collect_steps(x, list)
  local n = x:size(1)
  if n == 1 then
    list[#list + 1] = x:squeeze(1)
  else
    collect_steps(x:narrow(1, 1, n // 2), list)
    collect_steps(x:narrow(1, n // 2 + 1, n - n // 2), list)
  end
  return list
end

-- The list of x[1], x[2], ...  They are split off by halves: the gradient of a part of size s then costs s, not the
-- whole sequence.
function shared.steps_of(x)
  return collect_steps(x, {})
end

return shared
