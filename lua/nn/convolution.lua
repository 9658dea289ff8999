-- SPDX-License-Identifier: MIT
-- Convolution layers.  Weights are laid out, and first drawn, as PyTorch has them.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

local sizes = shared.each_of

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
  local apply = nb[operator] or operator
  spec.params = params(transposed, spec.more)
  spec.more = nil
  spec.see = spec.see or { "nb." .. operator }
  spec.init = function(self, o)
    for _, channels in ipairs { "in_channels", "out_channels" } do
      if o[channels] % o.groups ~= 0 then
        native.raise(("%s: %d groups do not divide %d %s"):format(where, o.groups, o[channels], channels))
      end
    end
    shared.check_lists(where, o, dims, "stride", "padding", "dilation", "output_padding")
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
  spec.leaf = true
  spec.forward = function(self, x)
    if self.amounts and nb.is_tensor(x) then x = nb.pad(x, self.amounts) end
    return apply(x, self.weight, self.bias, self.options)
  end
  return module.define(where, spec)
end

-- ---- three dimensions, by two ----

-- x as batch × channels × depth × height × width, and whether it had no batch.
local function volumes(where, x, channels)
  if not nb.is_tensor(x) or x:dim() ~= 5 and x:dim() ~= 4 or x:size(-4) ~= channels then
    native.raise(("%s: the input must be (batch ×) channels × depth × height × width with %d channels, got %s"):format(
      where, channels, options.describe(x)))
  end
  return x:dim() == 4 and x:unsqueeze(1) or x, x:dim() == 4
end

local function check_weight(where, weight, rank)
  if weight:dim() ~= rank then
    native.raise(("%s: weight must have %d dimensions, got shape %s"):format(where, rank, options.shape(weight)))
  end
end

-- The sum over the filter's depth of convolutions of planes.
local function conv3d(x, weight, bias, o)
  check_weight("Conv3d", weight, 5)
  local single
  x, single = volumes("Conv3d", x, weight:size(2) * o.groups)
  local stride, padding, dilation = sizes(o.stride, 3), sizes(o.padding, 3), sizes(o.dilation, 3)
  if padding[1] > 0 then x = x:pad { 0, 0, 0, 0, padding[1], padding[1] } end
  local n, depth, kernel = x:size(1), x:size(3), weight:size(3)
  local reach = dilation[1] * (kernel - 1) + 1
  if depth < reach then
    native.raise(("Conv3d: the filter reaches over %d planes, but the input has %d with its padding"):format(reach,
      depth))
  end
  local count = (depth - reach) // stride[1] + 1
  local planes, sum = x:transpose(2, 3), nil
  local flat = { stride = { stride[2], stride[3] }, padding = { padding[2], padding[3] },
    dilation = { dilation[2], dilation[3] }, groups = o.groups }
  for k = 1, kernel do
    local first = (k - 1) * dilation[1] + 1
    local part = planes:slice(2, first, first + (count - 1) * stride[1], stride[1])
    local y = nb.conv2d(part:flatten(1, 2), weight:select(3, k), k == 1 and bias or nil, flat)
    sum = sum and sum + y or y
  end
  local shape = sum.shape
  local y = sum:view(n, count, shape[2], shape[3], shape[4]):transpose(2, 3):contiguous()
  return single and y:squeeze(1) or y
end

-- Each plane of the filter spreads each plane of the input, to a place of the result's depth.
local function conv_transpose3d(x, weight, bias, o)
  check_weight("ConvTranspose3d", weight, 5)
  local single
  x, single = volumes("ConvTranspose3d", x, weight:size(1))
  local stride, padding, dilation = sizes(o.stride, 3), sizes(o.padding, 3), sizes(o.dilation, 3)
  local more = sizes(o.output_padding, 3)
  local n, depth, kernel = x:size(1), x:size(3), weight:size(3)
  local reach = (depth - 1) * stride[1] + dilation[1] * (kernel - 1) + 1
  local count = reach - 2 * padding[1] + more[1]
  if count < 1 then native.raise(("ConvTranspose3d: padding %d leaves no planes"):format(padding[1])) end
  local planes, parts, places = x:transpose(2, 3):flatten(1, 2), {}, {}
  local flat = { stride = { stride[2], stride[3] }, padding = { padding[2], padding[3] },
    output_padding = { more[2], more[3] }, dilation = { dilation[2], dilation[3] }, groups = o.groups }
  for k = 1, kernel do
    local y = nb.conv_transpose2d(planes, weight:select(3, k), nil, flat)
    parts[k] = y:view(n, depth, table.unpack(y.shape, 2))
    places[k] = (nb.arange(depth, { dtype = "i64" }) - 1) * stride[1] + (k - 1) * dilation[1] + 1
  end
  local all = nb.cat(parts, 2)
  local shape = all.shape
  shape[2] = math.max(reach, padding[1] + count)
  local y = nb.zeros(shape, { dtype = x.dtype }):index_add(2, nb.cat(places, 1), all)
  y = y:narrow(2, padding[1] + 1, count):transpose(2, 3):contiguous()
  if bias then
    shared.check_bias("ConvTranspose3d", bias, y:size(2))
    y = y + bias:view(-1, 1, 1, 1)
  end
  return single and y:squeeze(1) or y
end

-- A signal is an image of one row.
local function conv_transpose1d(x, weight, bias, o)
  check_weight("ConvTranspose1d", weight, 3)
  if not nb.is_tensor(x) or x:dim() ~= 3 and x:dim() ~= 2 then
    native.raise("ConvTranspose1d: the input must be (batch ×) channels × length, got " .. options.describe(x))
  end
  local function of_row(name, none) return { none, sizes(o[name], 1)[1] } end
  return nb.conv_transpose2d(x:unsqueeze(-2), weight:unsqueeze(-2), bias, { stride = of_row("stride", 1),
    padding = of_row("padding", 0), output_padding = of_row("output_padding", 0), dilation = of_row("dilation", 1),
    groups = o.groups }):squeeze(-2)
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
  Conv3d = define("Conv3d", 3, conv3d, false, {
    doc = "Learned filters slid through volumes: batch × channels × depth × height × width.", see = { "nn.Conv2d" },
    example = "nn.Conv3d(1, 4, 3, {padding=1})(nb.ones(2, 1, 5, 6, 7)).shape  --> {2, 4, 5, 6, 7}",
  }),
  ConvTranspose1d = define("ConvTranspose1d", 1, conv_transpose1d, true, {
    doc = "The transpose of Conv1d, which lengthens signals.", more = { output_padding }, see = { "nn.Conv1d" },
    example = "nn.ConvTranspose1d(4, 1, 2, {stride=2})(nb.ones(2, 4, 3)).shape  --> {2, 1, 6}",
  }),
  ConvTranspose3d = define("ConvTranspose3d", 3, conv_transpose3d, true, {
    doc = "The transpose of Conv3d, which enlarges volumes.", more = { output_padding }, see = { "nn.Conv3d" },
    example = "nn.ConvTranspose3d(4, 1, 2, {stride=2})(nb.ones(2, 4, 3, 3, 3)).shape  --> {2, 1, 6, 6, 6}",
  }),
  ConvTranspose2d = define("ConvTranspose2d", 2, "conv_transpose2d", true, {
    doc = "The transpose of Conv2d, which enlarges images.", more = { output_padding },
    example = "nn.ConvTranspose2d(4, 1, 2, {stride=2})(nb.ones(2, 4, 3, 3)).shape  --> {2, 1, 6, 6}",
  }),
}
