-- SPDX-License-Identifier: MIT
-- Dropout of whole channels, and the one that goes with SELU.
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local shared = require "nablua.nn.shared"

local M = {}

local p = { name = "p", type = "fraction", default = 0.5, positional = true, doc = "share dropped" }

-- Ones with probability 1 − p, else zeros: one for each of the first two dimensions of x, or for each element.
local function kept(x, share, per_channel)
  local shape = x.shape
  for d = 3, per_channel and #shape or 0 do shape[d] = 1 end
  return nb.rand(shape, { dtype = x.dtype }):ge(share):to(x.dtype)
end

local SHAPES = { "(batch ×) channels × length", "batch × channels × height × width",
  "batch × channels × depth × height × width" }

for dims = 1, 3 do
  local name = ("Dropout%dd"):format(dims)
  M[name] = module.define("nn." .. name, {
    leaf = true,
    doc = ("While training, sets whole channels of %s to 0 with probability p and scales the others by 1/(1 − p).")
      :format(SHAPES[dims]),
    params = { p }, source = "Tompson et al. 2015", see = { "nn.Dropout" },
    example = ("nn.%s(0.5):eval()(nb.ones(1, 2%s)):sum()  --> 2"):format(name, (", 1"):rep(dims)),
    forward = function(self, x)
      shared.check_rank(self, x, SHAPES[dims], dims + 2, dims == 1)
      if not self.training or self.p == 0 then return x end
      if x:dim() == 2 then return (x:unsqueeze(1) * kept(x:unsqueeze(1), self.p, true) / (1 - self.p)):squeeze(1) end
      return x * (kept(x, self.p, true) / (1 - self.p))
    end,
  })
end

local LOWEST = -1.7580993408473766  -- what SELU tends to: −scale·alpha

-- Dropped elements become SELU's lowest value, then all are scaled and shifted so that mean 0 and variance 1 stay
-- (Klambauer et al., appendix 3).
local function alpha_dropped(self, x, per_channel)
  if not self.training or self.p == 0 then return x end
  local mask, keep = kept(x, self.p, per_channel), 1 - self.p
  local a = (keep + LOWEST ^ 2 * keep * self.p) ^ -0.5
  return (x * mask + (1 - mask) * LOWEST) * a - a * self.p * LOWEST
end

M.AlphaDropout = module.define("nn.AlphaDropout", {
  leaf = true,
  doc = "Dropout after SELU: sets elements to SELU's lowest value with probability p while training, and keeps mean " ..
    "and variance.",
  params = { p }, source = "Klambauer et al. 2017", see = { "nn.SELU" },
  example = "nn.AlphaDropout(0.2):eval()(nb.tensor{1, 2})  --> {1, 2}",
  forward = function(self, x) return alpha_dropped(self, x, false) end,
})

M.FeatureAlphaDropout = module.define("nn.FeatureAlphaDropout", {
  leaf = true,
  doc = "AlphaDropout of whole channels of batch × channels × ....", params = { p }, see = { "nn.AlphaDropout" },
  source = "Klambauer et al. 2017", example = "nn.FeatureAlphaDropout(0.2):eval()(nb.ones(1, 2, 1)):sum()  --> 2",
  forward = function(self, x) return alpha_dropped(self, x, true) end,
})

return M
