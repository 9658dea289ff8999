-- SPDX-License-Identifier: MIT
-- What several layers compute.
local nb = require "nablua.core"

local shared = {}

-- x·weightᵀ + bias on the last dimension of x, whose other dimensions are all rows of one product.
function shared.affine(x, weight, bias)
  local shape = x.shape
  local rows = #shape > 2 and x:reshape(-1, shape[#shape]) or x
  local y = rows:matmul(weight.T)
  if bias then y = y + bias end
  if #shape <= 2 then return y end
  shape[#shape] = weight:size(1)
  return y:view(shape)
end

-- Elements set to 0 with probability p, the others scaled by 1/(1 − p).
function shared.dropped(x, p)
  if p == 0 then return x end
  return x * (nb.rand_like(x):ge(p):to(x.dtype) / (1 - p))
end

return shared
