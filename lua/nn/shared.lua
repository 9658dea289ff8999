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
