-- SPDX-License-Identifier: MIT
-- Pooling layers.
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local shared = require "nablua.nn.shared"

local function params(...)
  return {
    { name = "kernel_size", type = "sizes", doc = "rows and columns of a window; one number serves for both" },
    { name = "stride", type = "sizes", optional = true, doc = "step between windows; the kernel's size when left out" },
    { name = "padding", type = "counts", default = 0 },
    ...,
  }
end

return {
  MaxPool2d = module.define("nn.MaxPool2d", {
    leaf = true,
    doc = "The largest element of each window of the last two dimensions.",
    params = params(table.unpack(shared.pool_params.maxima)), see = { "nb.max_pool2d" },
    example = "nn.MaxPool2d(2)(nb.tensor{{{{1, 2}, {3, 4}}}})  --> {{{{4}}}}",
    forward = function(self, x)
      return nb.max_pool2d(x, self.kernel_size, { stride = self.stride, padding = self.padding,
        ceil_mode = self.ceil_mode or nil, dilation = self.dilation, return_indices = self.return_indices or nil })
    end,
  }),
  AvgPool2d = module.define("nn.AvgPool2d", {
    leaf = true,
    doc = "The mean of each window of the last two dimensions.", see = { "nb.avg_pool2d" },
    params = params(table.unpack(shared.pool_params.averages)),
    example = "nn.AvgPool2d(2)(nb.tensor{{{{1, 2}, {3, 4}}}})  --> {{{{2.5}}}}",
    forward = function(self, x)
      return nb.avg_pool2d(x, self.kernel_size,
        { stride = self.stride, padding = self.padding, count_include_pad = self.count_include_pad or false,
          ceil_mode = self.ceil_mode or nil, divisor_override = self.divisor_override })
    end,
  }),
  AdaptiveAvgPool2d = module.define("nn.AdaptiveAvgPool2d", {
    leaf = true,
    doc = "Means over windows chosen so that the last two dimensions get the given sizes.",
    params = { { name = "sizes", type = "sizes or input's", doc = "height and width of the result; nil in " ..
      "{3, nil} or {nil, 3}: the input's" } },
    see = { "nb.adaptive_avg_pool2d" },
    example = "nn.AdaptiveAvgPool2d {1, nil}(nb.ones(2, 3, 5, 4)).shape  --> {2, 3, 1, 4}",
    forward = function(self, x)
      local sizes = self.sizes
      if type(sizes) == "table" and x:dim() >= 2 then sizes = { sizes[1] or x:size(-2), sizes[2] or x:size(-1) } end
      return nb.adaptive_avg_pool2d(x, sizes)
    end,
  }),
}
