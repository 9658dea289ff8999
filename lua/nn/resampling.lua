-- SPDX-License-Identifier: MIT
-- Layers that enlarge images, and those that move elements between dimensions.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

local M = {}

local function define(name, spec) M[name] = module.define("nn." .. name, spec) end

-- ---- between pixels ----

-- Where, counted from 0 and between pixels, the `count` new pixels of a dimension of n lie in the old one.  `step` is
-- the old pixels to a new one.
local function positions(count, n, step, aligned)
  local at = nb.arange(count, { dtype = "f64" }) - 1
  if aligned then return at * (count > 1 and (n - 1) / (count - 1) or 0) end
  return (at + 0.5) * step - 0.5
end

-- A vector along dimension `dim` of something with `rank` dimensions.
local function along(v, dim, rank)
  local shape = {}
  for d = 1, rank do shape[d] = d == dim and v:numel() or 1 end
  return v:view(shape)
end

local function pick(x, dim, at, n) return x:index_select(dim, at:to("i64"):clamp(0, n - 1) + 1) end

-- Catmull-Rom's cubic with a = −3/4 for the pixels at −1, 0, 1, 2 from t in 0..1.
local A = -0.75
local function cubic(t)
  local function near(d) return ((A + 2) * d - (A + 3)) * d * d + 1 end
  local function far(d) return ((d * A - 5 * A) * d + 8 * A) * d - 4 * A end
  return { far(t + 1), near(t), near(1 - t), far(2 - t) }
end

local one_dimension = {}  -- by mode: x with `count` pixels along a dimension

function one_dimension.nearest(x, dim, count, step)
  local n = x:size(dim)
  return pick(x, dim, nb.floor((nb.arange(count, { dtype = "f64" }) - 1) * step), n)
end

one_dimension["nearest-exact"] = function(x, dim, count, step)
  return pick(x, dim, nb.floor(positions(count, x:size(dim), step, false) + 0.5), x:size(dim))
end

function one_dimension.linear(x, dim, count, step, aligned)
  local n = x:size(dim)
  local at = positions(count, n, step, aligned):clamp { min = 0 }
  local low = nb.floor(at)
  local share = along((at - low):to(x.dtype), dim, x:dim())
  local a, b = pick(x, dim, low, n), pick(x, dim, low + 1, n)
  return a + (b - a) * share
end

function one_dimension.cubic(x, dim, count, step, aligned)
  local n = x:size(dim)
  local at = positions(count, n, step, aligned)
  local low, y = nb.floor(at), nil
  for k, weight in ipairs(cubic(at - low)) do
    local part = pick(x, dim, low + (k - 2), n) * along(weight:to(x.dtype), dim, x:dim())
    y = y and y + part or part
  end
  return y
end

local MODES = {  -- mode → how a dimension is done, and of how many dimensions it is
  nearest = { "nearest" }, ["nearest-exact"] = { "nearest-exact" }, linear = { "linear", 1 },
  bilinear = { "linear", 2 }, trilinear = { "linear", 3 }, bicubic = { "cubic", 2 },
}

define("Upsample", {
  doc = "Enlarges (or shrinks) all dimensions after the first two: nearest repeats pixels, linear (of signals), " ..
    "bilinear, bicubic (images) and trilinear (volumes) compute new ones between them.",
  params = {
    { name = "size", type = "sizes", optional = true, doc = "the new sizes; one number serves for all" },
    { name = "scale_factor", type = "rates", optional = true, doc = "or how many times larger" },
    { name = "mode", choices = { "nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear" },
      default = "nearest" },
    { name = "align_corners", type = "boolean", default = false,
      doc = "the pixels at the corners keep their places, not the image's edges" },
  },
  see = { "nn.PixelShuffle", "nn.ConvTranspose2d" },
  example = "nn.Upsample{scale_factor=2}(nb.tensor{{{1, 2}}})  --> {{{1, 1, 2, 2}}}",
  init = function(_, o)
    if (o.size == nil) == (o.scale_factor == nil) then
      native.raise("nn.Upsample: one of size and scale_factor must be given, got " .. (o.size and "both" or "none"))
    end
    if o.align_corners and MODES[o.mode][1]:find "nearest" then
      native.raise('nn.Upsample: align_corners needs mode "linear", "bilinear", "bicubic" or "trilinear"')
    end
  end,
  forward = function(self, x)
    local how, needed = table.unpack(MODES[self.mode])
    local dims = nb.is_tensor(x) and x:dim() - 2 or 0
    if dims < 1 or dims > 3 or needed and dims ~= needed then
      native.raise(("Upsample: the input must be batch × channels and %s dimensions for mode %s, got %s"):format(
        needed or "1 to 3", self.mode, options.describe(x)))
    end
    shared.check_lists("Upsample", self, dims, "size", "scale_factor")
    local sizes = self.size and shared.each_of(self.size, dims)
    local factors = self.scale_factor and shared.each_of(self.scale_factor, dims)
    for d = 1, dims do
      local n = x:size(d + 2)
      local count = sizes and sizes[d] or math.floor(n * factors[d])
      if n == 0 or count == 0 then
        native.raise(("Upsample: makes %d pixels of %d in dimension %d"):format(count, n, d + 2))
      end
      x = one_dimension[how](x, d + 2, count, factors and 1 / factors[d] or n / count, self.align_corners)
    end
    return x
  end,
})

-- ---- between dimensions ----

local function check_image(self, x)
  if not nb.is_tensor(x) or x:dim() < 3 then
    native.raise(("%s: the input must be (batch ×) channels × height × width, got %s"):format(self:kind(),
      options.describe(x)))
  end
end

-- The sizes of x but for its last three, then others.
local function leading(x, ...)
  local shape = x.shape
  local list = table.move(shape, 1, #shape - 3, 1, {})
  for _, n in ipairs { ... } do list[#list + 1] = n end
  return list
end

-- x with its last five dimensions in another order, given from 1 to 5.
local function reordered(x, ...)
  local n, order = x:dim(), {}
  for d = 1, n - 5 do order[d] = d end
  for k, d in ipairs { ... } do order[n - 5 + k] = n - 5 + d end
  return x:permute(order)
end

define("PixelShuffle", {
  doc = "Makes one pixel of r² channels a square of r × r pixels: C·r² × H × W becomes C × H·r × W·r.",
  params = { { name = "upscale_factor", type = "size", doc = "r" } }, source = "Shi et al. 2016",
  see = { "nn.PixelUnshuffle" }, example = "nn.PixelShuffle(2)(nb.ones(1, 8, 3, 3)).shape  --> {1, 2, 6, 6}",
  forward = function(self, x)
    check_image(self, x)
    local r, c, h, w = self.upscale_factor, x:size(-3), x:size(-2), x:size(-1)
    if c % (r * r) ~= 0 then
      native.raise(("PixelShuffle: %d channels cannot be shared among %d pixels"):format(c, r * r))
    end
    local k = c // (r * r)
    return reordered(x:reshape(leading(x, k, r, r, h, w)), 1, 4, 2, 5, 3):reshape(leading(x, k, h * r, w * r))
  end,
})

define("PixelUnshuffle", {
  doc = "Makes squares of r × r pixels one pixel of r² channels: C × H·r × W·r becomes C·r² × H × W.",
  params = { { name = "downscale_factor", type = "size", doc = "r" } }, see = { "nn.PixelShuffle" },
  example = "nn.PixelUnshuffle(2)(nb.ones(1, 2, 6, 6)).shape  --> {1, 8, 3, 3}",
  forward = function(self, x)
    check_image(self, x)
    local r, c, h, w = self.downscale_factor, x:size(-3), x:size(-2), x:size(-1)
    if h % r ~= 0 or w % r ~= 0 then
      native.raise(("PixelUnshuffle: an image of %d×%d has no whole squares of %d×%d"):format(h, w, r, r))
    end
    h, w = h // r, w // r
    return reordered(x:reshape(leading(x, c, h, r, w, r)), 1, 3, 5, 2, 4):reshape(leading(x, c * r * r, h, w))
  end,
})

define("ChannelShuffle", {
  doc = "Deals the channels of `groups` groups out in turn: 1 2 3 4 in two groups become 1 3 2 4.",
  params = { { name = "groups", type = "size" } }, source = "Zhang et al. 2018",
  example = "nn.ChannelShuffle(2)(nb.tensor{{{1}, {2}, {3}, {4}}})  --> {{{1}, {3}, {2}, {4}}}",
  forward = function(self, x)
    if not nb.is_tensor(x) or x:dim() < 3 or x:size(2) % self.groups ~= 0 then
      native.raise(("ChannelShuffle: the input must be batch × channels × ... with channels in %d groups, got %s")
        :format(self.groups, options.describe(x)))
    end
    local shape = x.shape
    local split = { shape[1], self.groups, shape[2] // self.groups, table.unpack(shape, 3) }
    return x:reshape(split):transpose(2, 3):reshape(shape)
  end,
})

define("Unflatten", {
  doc = "Gives one dimension several sizes, of which one may be −1: Flatten's way back.",
  params = { { name = "dim", type = "integer" }, { name = "unflattened_size", type = "table", doc = "the sizes" } },
  see = { "nn.Flatten" }, example = "nn.Unflatten(2, {2, 3})(nb.ones(4, 6)).shape  --> {4, 2, 3}",
  init = function(_, o)
    for i, n in ipairs(o.unflattened_size) do
      if math.type(n) ~= "integer" or n < -1 then
        native.raise(("nn.Unflatten: size %d must be a whole number, got %s"):format(i, options.describe(n)))
      end
    end
    if #o.unflattened_size == 0 then native.raise("nn.Unflatten: the sizes must be a list such as {2, 3}") end
  end,
  forward = function(self, x)
    local shape, d, given = x.shape, self.dim, self.unflattened_size
    if d == 0 or math.abs(d) > #shape then
      native.raise(("Unflatten: there is no dimension %d in shape %s"):format(d, options.shape(shape)))
    end
    if d < 0 then d = #shape + 1 + d end
    local known, unknown, sizes = 1, 0, table.move(given, 1, #given, 1, {})
    for _, n in ipairs(given) do
      if n == -1 then unknown = unknown + 1 else known = known * n end
    end
    if unknown == 1 and known > 0 and shape[d] % known == 0 then
      for k, n in ipairs(sizes) do
        if n == -1 then sizes[k] = shape[d] // known end
      end
    elseif unknown > 0 or known ~= shape[d] then
      native.raise(("Unflatten: %d elements of dimension %d cannot have sizes %s"):format(shape[d], d,
        options.show(given)))
    end
    local all = table.move(shape, 1, d - 1, 1, {})
    table.move(sizes, 1, #sizes, #all + 1, all)
    table.move(shape, d + 1, #shape, #all + 1, all)
    return x:reshape(all)
  end,
})

return M
