-- SPDX-License-Identifier: MIT
-- Convolution layers.  Weights are laid out, and first drawn, as PyTorch has them.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"

-- One number serves for all dimensions.
local function sizes(v, dims)
  if type(v) == "table" then return v end
  local list = {}
  for d = 1, dims do list[d] = v end
  return list
end

local function params(transposed, more)
  local padding = { name = "padding", type = "counts", default = 0, doc = "zeros added at each edge" }
  if not transposed then
    padding.words, padding.doc = { "same", "valid" }, padding.doc .. "; \"same\": so many that the size stays"
  end
  local list = {
    { name = "in_channels", type = "size" },
    { name = "out_channels", type = "size" },
    { name = "kernel_size", type = "sizes", doc = "rows and columns of a filter; one number serves for both" },
    { name = "stride", type = "sizes", default = 1 },
    padding,
    { name = "dilation", type = "sizes", default = 1 },
    { name = "groups", type = "size", default = 1, doc = "channels are split into so many independent parts" },
    { name = "bias", type = "boolean", default = true },
  }
  return table.move(more or {}, 1, #(more or {}), #list + 1, list)
end

-- What "same" adds: the padding of both edges, and where an odd number is needed amounts for nb.pad, the larger half
-- at the end (as PyTorch has it).
local function same_padding(where, o, dims)
  local both, amounts, odd = {}, {}, false
  local kernel, stride, dilation = sizes(o.kernel_size, dims), sizes(o.stride, dims), sizes(o.dilation, dims)
  for d = 1, dims do
    if stride[d] ~= 1 then
      native.raise(('%s: padding "same" needs a stride of 1, got %d'):format(where, stride[d]))
    end
    local total = (dilation[d] or dilation[1]) * (kernel[d] - 1)
    both[d], odd = total // 2, odd or total % 2 == 1
    amounts[2 * (dims - d) + 1], amounts[2 * (dims - d) + 2] = total // 2, total - total // 2
  end
  if not odd then return both end
  return 0, amounts
end

-- A class of convolutions: `operator` of nb over `dims` dimensions, where `transposed` swaps the channels of
-- the weight.
local function define(name, dims, operator, transposed, spec)
  local where = "nn." .. name
  local apply = nb[operator]
  spec.params = params(transposed, spec.more)
  spec.more = nil
  spec.see = { "nb." .. operator }
  spec.init = function(self, o)
    for _, channels in ipairs { "in_channels", "out_channels" } do
      if o[channels] % o.groups ~= 0 then
        native.raise(("%s: %d groups do not divide %d %s"):format(where, o.groups, o[channels], channels))
      end
    end
    local outer, inner = o.out_channels, o.in_channels
    if transposed then outer, inner = inner, outer end
    local shape, fan = { outer, inner // o.groups }, inner // o.groups
    for d, size in ipairs(sizes(o.kernel_size, dims)) do
      shape[d + 2], fan = size, fan * size
    end
    if #shape ~= dims + 2 then
      native.raise(("%s: kernel_size must be one number or %d, got %d"):format(where, dims, #shape - 2))
    end
    self.weight = module.parameter(1 / math.sqrt(fan), table.unpack(shape))
    if o.bias then self.bias = module.parameter(1 / math.sqrt(fan), o.out_channels) end
    local padding, amounts = o.padding, nil
    if padding == "same" then padding, amounts = same_padding(where, o, dims) end
    if padding == "valid" then padding = 0 end
    rawset(self, "options", { stride = o.stride, padding = padding, dilation = o.dilation, groups = o.groups,
      output_padding = o.output_padding })
    rawset(self, "amounts", amounts)
  end
  spec.forward = function(self, x)
    if self.amounts and nb.is_tensor(x) then x = nb.pad(x, self.amounts) end
    return apply(x, self.weight, self.bias, self.options)
  end
  return module.define(where, spec)
end

local output_padding = { name = "output_padding", type = "counts", default = 0,
  doc = "rows and columns added at one end, where several sizes would shrink to the input's" }

return {
  Conv1d = define("Conv1d", 1, "conv1d", false, {
    doc = "Learned filters slid along signals: batch × channels × length.",
    example = "nn.Conv1d(1, 4, 3)(nb.ones(2, 1, 8)).shape  --> {2, 4, 6}",
  }),
  Conv2d = define("Conv2d", 2, "conv2d", false, {
    doc = "Learned filters slid over images: batch × channels × height × width.",
    example = "nn.Conv2d(1, 4, 3, {padding=\"same\"})(nb.ones(2, 1, 8, 8)).shape  --> {2, 4, 8, 8}",
  }),
  ConvTranspose2d = define("ConvTranspose2d", 2, "conv_transpose2d", true, {
    doc = "The transpose of Conv2d, which enlarges images.", more = { output_padding },
    example = "nn.ConvTranspose2d(4, 1, 2, {stride=2})(nb.ones(2, 4, 3, 3)).shape  --> {2, 1, 6, 6}",
  }),
}
