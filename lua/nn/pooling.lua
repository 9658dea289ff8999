-- SPDX-License-Identifier: MIT
-- Pooling layers.
local nb = require "nablua.core"
local module = require "nablua.nn.module"

local function params(more)
  return {
    { name = "kernel_size", type = "sizes", doc = "rows and columns of a window; one number serves for both" },
    { name = "stride", type = "sizes", optional = true, doc = "step between windows; the kernel's size when left out" },
    { name = "padding", type = "counts", default = 0 },
    more,
  }
end

return {
  MaxPool2d = module.define("nn.MaxPool2d", {
    doc = "The largest element of each window of the last two dimensions.",
    params = params(), see = { "nb.max_pool2d" },
    example = "nn.MaxPool2d(2)(nb.tensor{{{{1, 2}, {3, 4}}}})  --> {{{{4}}}}",
    forward = function(self, x)
      return nb.max_pool2d(x, self.kernel_size, { stride = self.stride, padding = self.padding })
    end,
  }),
  AvgPool2d = module.define("nn.AvgPool2d", {
    doc = "The mean of each window of the last two dimensions.", see = { "nb.avg_pool2d" },
    params = params { name = "count_include_pad", type = "boolean", default = true, doc = "padded zeros count" },
    example = "nn.AvgPool2d(2)(nb.tensor{{{{1, 2}, {3, 4}}}})  --> {{{{2.5}}}}",
    forward = function(self, x)
      return nb.avg_pool2d(x, self.kernel_size,
        { stride = self.stride, padding = self.padding, count_include_pad = self.count_include_pad or false })
    end,
  }),
  AdaptiveAvgPool2d = module.define("nn.AdaptiveAvgPool2d", {
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
