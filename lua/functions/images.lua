-- SPDX-License-Identifier: MIT
-- Images of other sizes, and read at places between their pixels: made of lookups and weights.
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local FAMILY = "Pooling"

local function as_float(x)
  return (x.dtype == "f32" or x.dtype == "f64") and x or x:to("f32")
end

-- ---- interpolate ----

-- 0, 1 ... n − 1 of f64.
local function steps(n)
  return nb.arange(1, n, { dtype = "f64" }) - 1
end

local function whole(t, most)
  return t:clamp(0, most):to("i64") + 1
end

-- The places in an input of `n` that the middles of `m` outputs have, from 0.
local function places(n, m, scale, align, cut)
  if align then return steps(m) * (m > 1 and (n - 1) / (m - 1) or 0) end
  local at = (steps(m) + 0.5) * scale - 0.5
  return cut and at:clamp(0) or at
end

-- The weights of the four pixels around, t behind the second (R. Keys, 1981, with a = −¾).
local function cubic_weights(t)
  local a = -0.75
  local function near(s) return ((s * (a + 2) - (a + 3)) * s) * s + 1 end
  local function far(s) return ((s * a - 5 * a) * s + 8 * a) * s - 4 * a end
  return far(t + 1), near(t), near(-t + 1), far(-t + 2)
end

-- One dimension of x resized to m.
local function resized(x, d, m, scale, mode, align)
  local n, shape = x:size(d), {}
  for e = 1, x:dim() do shape[e] = e == d and m or 1 end
  if mode == "nearest" or mode == "nearest-exact" then
    local at = (steps(m) + (mode == "nearest" and 0 or 0.5)) * scale
    return x:index_select(d, whole(at:floor(), n - 1))
  end
  if mode == "cubic" then
    local at = places(n, m, scale, align, false)
    local low, y = at:floor(), nil
    for k, w in ipairs { cubic_weights(at - low) } do
      local part = x:index_select(d, whole(low + (k - 2), n - 1)) * w:to(x.dtype):reshape(shape)
      y = y and y + part or part
    end
    return y
  end
  local at = places(n, m, scale, align, true)
  local low = at:floor()
  local weight = (at - low):to(x.dtype):reshape(shape)
  return x:index_select(d, whole(low, n - 1)):lerp(x:index_select(d, whole(low + 1, n - 1)), weight)
end

local MODES = { nearest = "nearest", ["nearest-exact"] = "nearest-exact", linear = "linear", bilinear = "linear",
  trilinear = "linear", bicubic = "cubic" }

define.operator("interpolate", {
  family = FAMILY,
  sample = "f(1,2,4), {size=7}; f(1,2,4,3), {scale_factor=2}; f(1,2,4,3), {size={2, 5}, mode=\"bilinear\"}; " ..
    "f(1,2,4,3), {size={6, 5}, mode=\"bilinear\", align_corners=true}; " ..
    "f(1,1,4,5), {scale_factor={1.5, 2}, mode=\"bicubic\"}; f(1,1,2,3,2), {size=4, mode=\"trilinear\"}",
  doc = "x, of batches and channels, with other sizes behind these: size= gives them, or scale_factor= their " ..
    "multiples.  Where align_corners the outermost pixels stand above each other, else the outermost edges.",
  params = { define.x("batch × channels × sizes"), { name = "size", type = "sizes", optional = true },
    { name = "scale_factor", type = "any", optional = true, doc = "a number above 0, or one for each size" },
    { name = "mode", type = "string", default = "nearest",
      choices = { "nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic" } },
    { name = "align_corners", type = "boolean", default = false } },
  derivative = "∂/∂x = the weights, back to where pixels came from", see = { "nb.grid_sample" },
  source = "R. Keys, Cubic convolution interpolation for digital image processing, 1981",
  example = "nb.interpolate(nb.tensor{{{1, 3}}}, {size=4, mode=\"linear\"})  --> {{{1, 1.5, 2.5, 3}}}",
  function(o)
    local x, n = as_float(o.x), o.x:dim() - 2
    if n < 1 then
      define.fail("interpolate", "x must have sizes behind batch and channels, got shape %s", options.shape(x))
    end
    if (o.size == nil) == (o.scale_factor == nil) then
      define.fail("interpolate", "needs either size or scale_factor")
    end
    local given = o.size or o.scale_factor
    for d = 1, n do
      local v = type(given) == "table" and given[d] or given
      if type(v) ~= "number" or type(given) == "table" and #given ~= n or v ~= v or v <= 0 or v == math.huge then
        define.fail("interpolate", "%s must be a number above 0, or %d of them, got %s",
          o.size and "size" or "scale_factor", n, options.show(given))
      end
      local before = x:size(d + 2)
      local after = o.size and v or math.floor(before * v)
      if before < 1 or after < 1 then
        define.fail("interpolate", "dimension %d would go from size %d to %d", d + 2, before, after)
      end
      x = resized(x, d + 2, math.tointeger(after), o.size and before / after or 1 / v, MODES[o.mode], o.align_corners)
    end
    return x
  end,
})

-- ---- grids ----

define.operator("affine_grid", {
  family = FAMILY,
  sample = "f(2,2,3), {2, 1, 3, 2}; f(1,2,3), {1, 1, 2, 3}, {align_corners=true}; f(1,3,4), {1, 1, 2, 2, 2}",
  doc = "For images of that size (batch, channels, sizes) the places theta·(x, y, 1) of all pixels, as grid_sample " ..
    "takes them; theta holds 2×3 matrices, or 3×4 ones of volumes.",
  params = { define.tensor("theta"), { name = "size", type = "sizes" },
    { name = "align_corners", type = "boolean", default = false } },
  derivative = "∂/∂theta = δᵀ·(x, y, 1)", see = { "nb.grid_sample" },
  example = "nb.affine_grid(nb.tensor{{{1, 0, 0}, {0, 1, 0}}}, {1, 1, 1, 2})  --> {{{{-0.5, 0}, {0.5, 0}}}}",
  function(o)
    if type(o.size) ~= "table" then
      define.fail("affine_grid", "size must be a list (batch, channels, sizes), got %s", options.show(o.size))
    end
    local theta, n = as_float(o.theta), #o.size - 2
    if theta:dim() ~= 3 or theta:size(2) ~= n or theta:size(3) ~= n + 1 or theta:size(1) ~= o.size[1] then
      define.fail("affine_grid", "theta must have shape %s for that size, got %s",
        options.shape { o.size[1], n, n + 1 }, options.shape(theta))
    end
    local sizes, parts = table.move(o.size, 3, n + 2, 1, {}), {}
    for d = n, 1, -1 do  -- x, the last size, comes first
      local m, view = sizes[d], {}
      for e = 1, n do view[e] = e == d and m or 1 end
      local at = (steps(m) * 2 + 1) / m - 1
      if o.align_corners then at = m > 1 and steps(m) * (2 / (m - 1)) - 1 or steps(m) end
      parts[#parts + 1] = at:to(theta.dtype):reshape(view):expand(sizes)
    end
    parts[#parts + 1] = nb.ones(sizes, { dtype = theta.dtype })
    local count = 1
    for _, m in ipairs(sizes) do count = count * m end
    local base = nb.stack(parts, n + 1):reshape(count, n + 1)
    local shape = { o.size[1], table.unpack(sizes) }
    shape[#shape + 1] = n
    return base:matmul(theta:transpose(2, 3)):reshape(shape)
  end,
})

-- Places from −1..1 in pixels from 0, and what padding makes of them.
local function in_pixels(g, n, align)
  return align and (g + 1) * ((n - 1) / 2) or ((g + 1) * n - 1) / 2
end

local function reflected(at, low, high)
  local span = high - low
  if span <= 0 then return at * 0 end
  local off = (at - low):abs()
  local turns = (off / span):detach():floor()
  local rest = off - turns * span
  return nb.where((turns % 2):eq(0), rest + low, -rest + high)
end

local function padded(at, n, padding, align)
  if padding == "reflection" then
    at = reflected(at, align and 0 or -0.5, align and n - 1 or n - 0.5):clamp(0, n - 1)
  elseif padding == "border" then
    at = at:clamp(0, n - 1)
  end
  return at
end

-- Reads `images` at whole places, a tensor for each dimension, the last first: 0 outside, for all channels.
local function reader(images, sizes, of_pixel)
  local batch, channels = images:size(1), images:size(2)
  local flat = images:flatten(3, -1)
  return function(at)
    local inside, place
    for k = #sizes, 1, -1 do
      local p = of_pixel(at[k], sizes[k])
      local here = p:ge(0):logical_and(p:lt(sizes[k]))
      inside, place = inside and inside:logical_and(here) or here, place and place * sizes[k] + p or p
    end
    local index = nb.where(inside, place, 0):to("i64") + 1
    local values = flat:gather(3, index:reshape(batch, 1, -1):expand(batch, channels, -1))
    return nb.where(inside:unsqueeze(2), values:unflatten(3, table.move(inside.shape, 2, #sizes + 1, 1, {})), 0)
  end
end

-- Between the pixels before and behind each place, dimension by dimension.
local function between(read, low, share, k, at)
  if k == 0 then return read(at) end
  at[k] = low[k]
  local before = between(read, low, share, k - 1, at)
  at[k] = low[k] + 1
  return before:lerp(between(read, low, share, k - 1, at), share[k])
end

local function sampled(x, grid, n, o)
  local sizes, at, low, share = {}, {}, {}, {}
  local cubic = o.mode == "bicubic"
  for k = 1, n do
    sizes[k] = x:size(-k)
    if sizes[k] == 0 then define.fail("grid_sample", "the images have no pixels") end
    local p = in_pixels(grid:select(-1, k), sizes[k], o.align_corners)
    at[k] = cubic and p or padded(p, sizes[k], o.padding_mode, o.align_corners)
    low[k] = at[k]:detach():floor()
    share[k] = (at[k] - low[k]):unsqueeze(2)
  end
  local read = reader(x, sizes, function(p, size)
    return cubic and padded(p, size, o.padding_mode, o.align_corners) or p
  end)
  if o.mode == "nearest" then
    for k = 1, n do at[k] = at[k]:detach():round() end
    return read(at)
  end
  if not cubic then return between(read, low, share, n, {}) end
  local y, across, down = nil, { cubic_weights(share[1]) }, { cubic_weights(share[2]) }
  for i = 1, 4 do
    local row
    for j = 1, 4 do
      local part = read { low[1] + (j - 2), low[2] + (i - 2) } * across[j]
      row = row and row + part or part
    end
    y = y and y + row * down[i] or row * down[i]
  end
  return y
end

define.operator("grid_sample", {
  family = FAMILY,
  sample = "f(1,2,3,4), f(1,2,2,2,{lo=-0.9,hi=0.9}); " ..
    "f(1,2,3,4), f(1,2,2,2,{lo=-0.9,hi=0.9}), {align_corners=true}; " ..
    "f(1,1,3,4), f(1,2,2,2,{lo=-1.6,hi=1.6}), {padding_mode=\"reflection\"}; " ..
    "f(1,1,4,4), f(1,2,2,2,{lo=-0.9,hi=0.9}), {mode=\"bicubic\", padding_mode=\"border\"}; " ..
    "f(1,2,2,3,4), f(1,2,1,2,3,{lo=-0.9,hi=0.9})",
  doc = "Images read at the places (x, y) that grid holds for each pixel of the result, from −1 at the left and " ..
    "upper edge (with align_corners: the middle of the outermost pixel) to 1; outside by padding_mode.  Volumes are " ..
    "read at places (x, y, z).",
  params = { define.x("batch × channels (× depth) × height × width"),
    define.tensor("grid", "batch (× depth) × height × width × 2, or 3 of volumes"),
    { name = "mode", type = "string", default = "bilinear", choices = { "bilinear", "nearest", "bicubic" } },
    { name = "padding_mode", type = "string", default = "zeros", choices = { "zeros", "border", "reflection" } },
    { name = "align_corners", type = "boolean", default = false } },
  derivative = "∂/∂x = the weights, back to the pixels, ∂/∂grid = the differences of the pixels around",
  see = { "nb.affine_grid", "nb.interpolate" },
  example = "nb.grid_sample(nb.tensor{{{{1, 3}}}}, nb.tensor{{{{0, 0}}}})  --> {{{{2}}}}",
  function(o)
    local x, grid = as_float(o.x), o.grid
    local n = x:dim() - 2
    if n < 2 or n > 3 or grid:dim() ~= n + 2 or grid:size(-1) ~= n or grid:size(1) ~= x:size(1) then
      define.fail("grid_sample",
        "x must be images and grid their places, batch × height × width × 2, or volumes and theirs, " ..
        "batch × depth × height × width × 3, got shapes %s and %s", options.shape(x), options.shape(grid))
    end
    if n == 3 and o.mode == "bicubic" then
      define.fail("grid_sample", "mode=\"bicubic\" is for images, x has shape %s", options.shape(x))
    end
    return sampled(x, grid, n, o)
  end,
})
