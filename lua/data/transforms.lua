-- SPDX-License-Identifier: MIT
-- The module `data.transforms`: what is done to batches of pictures before a net sees them, all of a batch at once and
-- with numbers of its own for each picture.
--
-- Pictures are batch × height × width or batch × channels × height × width.  What is drawn comes from the one stream of
-- random numbers, in the order of the transforms: the same seed gives the same pictures.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local M = registry.home "nablua.data.transforms"

-- x as batch × channels × height × width, and what makes it as it was.
local function as_images(where, x)
  if not nb.is_tensor(x) or x:dim() ~= 3 and x:dim() ~= 4 then
    native.raise(("%s: takes batch × height × width or batch × channels × height × width, got %s"):format(where,
      options.describe(x)))
  end
  if x:dim() == 4 then return x, function(y) return y end end
  return x:unsqueeze(2), function(y) return y:squeeze(2) end
end

-- A class of transforms: apply(o, x) for x with channels.  Called with a batch, a transform gives another.
local function define(name, spec)
  local where = "data.transforms." .. name
  local meta = { __name = name }
  function meta.__call(self, x)
    if spec.any then return spec.apply(self.options, x, where) end
    local images, back = as_images(where, x)
    return back(nb.no_grad(spec.apply, self.options, images, where))
  end
  function meta.__tostring(self)
    local parts = {}
    for _, p in ipairs(spec.params) do
      local v = self.options[p.name]
      if v ~= nil then parts[#parts + 1] = p.name .. "=" .. (type(v) == "table" and getmetatable(v) == nil and
        type(v[1]) ~= "number" and "{...}" or options.show(v)) end
    end
    return ("%s(%s)"):format(name, table.concat(parts, ", "))
  end
  registry.define(M, "data.transforms.", name, {
    kind = "transform", family = "Transforms of pictures", doc = spec.doc, example = spec.example, params = spec.params,
    see = spec.see or { "data.transforms.Compose", "data.loader" }, signature = spec.signature, source = spec.source,
    function(...)
      local o = options.read(where, spec.params, ...)
      if spec.check then spec.check(where, o) end
      return setmetatable({ options = o }, meta)
    end,
  })
  meta.class = M[name]
end

define("Compose", {
  doc = "Several transforms, or functions of a batch, one after the other.", any = true,
  params = { { name = "transforms", type = "table", doc = "a list" } },
  see = { "data.loader" }, example = [[
local t = data.transforms.Compose{ data.transforms.RandomCrop(28, {padding=2}), data.transforms.ToFloat() }
return t(nb.zeros({4, 28, 28}, {dtype="u8"})).dtype  --> "f32"]],
  check = function(where, o)
    for i, t in ipairs(o.transforms) do
      if not options.is_callable(t) then
        native.raise(("%s: entry %d must be a transform or a function, got %s"):format(where, i, options.describe(t)))
      end
    end
  end,
  apply = function(o, x)
    for _, t in ipairs(o.transforms) do x = t(x) end
    return x
  end,
})

-- ---- numbers ----

define("ToFloat", {
  doc = "Makes bytes 0..255 numbers 0..1 of f32; what is f32 or f64 stays.", params = {},
  example = "data.transforms.ToFloat()(nb.full({1, 1, 1}, 51, {dtype=\"u8\"}))  --> {{{0.2}}}",
  apply = function(_, x) return x.dtype == "u8" and x:to("f32") / 255 or x end,
})

local function of_channels(where, name, v, x)
  local list = type(v) == "table" and v or { v }
  if #list ~= 1 and #list ~= x:size(2) then
    native.raise(("%s: %s must be one number or one for each of %d channels, got %d"):format(where, name, x:size(2),
      #list))
  end
  return nb.tensor(list, { dtype = x.dtype }):view(1, #list, 1, 1)
end

define("Normalize", {
  doc = "(x − mean)/std, for each channel.",
  params = { { name = "mean", type = "any", doc = "a number, or one for each channel" },
    { name = "std", type = "any", doc = "likewise" } },
  example = "data.transforms.Normalize(1, 2)(nb.full({1, 1, 1}, 5))  --> {{{2}}}",
  check = function(where, o)
    for _, name in ipairs { "mean", "std" } do
      for i, v in ipairs(type(o[name]) == "table" and o[name] or { o[name] }) do
        if type(v) ~= "number" or v ~= v or name == "std" and v <= 0 then
          native.raise(("%s: number %d of %s must be a number%s, got %s"):format(where, i, name,
            name == "std" and " above 0" or "", options.describe(v)))
        end
      end
    end
  end,
  apply = function(o, x, where)
    if x.dtype ~= "f32" and x.dtype ~= "f64" then
      native.raise(("%s: needs f32 or f64, got %s; data.transforms.ToFloat() goes before it"):format(where, x.dtype))
    end
    return (x - of_channels(where, "mean", o.mean, x)) / of_channels(where, "std", o.std, x)
  end,
})

-- ---- parts of pictures ----

local function two(v) return type(v) == "table" and v or { v, v } end
local size_param = { name = "size", type = "sizes", doc = "height and width; one number serves for both" }

-- The h × w part of each picture that begins at its own row and column (vectors, from 1).
local function part_of(x, top, left, h, w)
  local n, c, width = x:size(1), x:size(2), x:size(4)
  local rows = (top:unsqueeze(2) + nb.arange(h, { dtype = "i64" }) - 1):view(n, 1, h, 1):expand(n, c, h, width)
  local columns = (left:unsqueeze(2) + nb.arange(w, { dtype = "i64" }) - 1):view(n, 1, 1, w):expand(n, c, h, w)
  return x:gather(3, rows):gather(4, columns)
end

local function check_fits(where, x, size)
  if x:size(3) < size[1] or x:size(4) < size[2] then
    native.raise(("%s: the pictures are %d×%d, smaller than %d×%d"):format(where, x:size(3), x:size(4), size[1],
      size[2]))
  end
end

define("CenterCrop", {
  doc = "The middle of each picture.", params = { size_param },
  example = "data.transforms.CenterCrop(2)(nb.ones(3, 6, 6)).shape  --> {3, 2, 2}",
  apply = function(o, x, where)
    local size = two(o.size)
    check_fits(where, x, size)
    return x:narrow(3, (x:size(3) - size[1]) // 2 + 1, size[1]):narrow(4, (x:size(4) - size[2]) // 2 + 1, size[2])
  end,
})

define("RandomCrop", {
  doc = "A part of each picture at a place of its own, after zeros were put around it.",
  params = { size_param, { name = "padding", type = "count", default = 0, doc = "zeros at each edge before" } },
  example = "data.transforms.RandomCrop(6, {padding=1})(nb.ones(3, 6, 6)).shape  --> {3, 6, 6}",
  apply = function(o, x, where)
    local size = two(o.size)
    if o.padding > 0 then x = x:pad { o.padding, o.padding, o.padding, o.padding } end
    check_fits(where, x, size)
    local n = x:size(1)
    return part_of(x, nb.randint(1, x:size(3) - size[1] + 1, n), nb.randint(1, x:size(4) - size[2] + 1, n), size[1],
      size[2])
  end,
})

define("Resize", {
  doc = "Pictures of another size, by a triangle filter.", params = { size_param }, see = { "data.resize" },
  example = "data.transforms.Resize {3, 4}(nb.ones(2, 6, 6)).shape  --> {2, 3, 4}",
  apply = function(o, x)
    local size = two(o.size)
    return require("nablua.data").resize(x, size[1], size[2])
  end,
})

-- Each picture or its changed twin, the twin with probability p.
local function sometimes(x, p, twin)
  return nb.where(nb.rand(x:size(1)):lt(p):view(-1, 1, 1, 1), twin, x)
end

local p = { name = "p", type = "share", default = 0.5, positional = true, doc = "the probability" }

for dim = 4, 3, -1 do
  local name = dim == 4 and "RandomHorizontalFlip" or "RandomVerticalFlip"
  define(name, {
    doc = dim == 4 and "Exchanges left and right of some pictures." or "Exchanges top and bottom of some pictures.",
    params = { p }, example = ("data.transforms.%s(1)(nb.tensor{{{1, 2}, {3, 4}}})  --> %s"):format(name,
      dim == 4 and "{{{2, 1}, {4, 3}}}" or "{{{3, 4}, {1, 2}}}"),
    apply = function(o, x) return sometimes(x, o.p, x:flip(dim)) end,
  })
end

define("RandomErasing", {
  doc = "Writes `value` into a rectangle of some pictures, of a share of their area between the scales and any place.",
  source = "Zhong et al. 2017",
  params = { p, { name = "scale", type = "numbers", default = { 0.02, 0.33 }, doc = "least and largest share" },
    { name = "value", type = "finite", default = 0 } },
  example = "data.transforms.RandomErasing(1)(nb.ones(3, 8, 8)).shape  --> {3, 8, 8}",
  check = function(where, o)
    local a, b = o.scale[1], o.scale[2]
    if #o.scale ~= 2 or a < 0 or b > 1 or a > b then
      native.raise(where .. ": scale must be two shares from 0 to 1, the smaller first, got " .. options.show(o.scale))
    end
  end,
  apply = function(o, x)
    local n, h, w = x:size(1), x:size(3), x:size(4)
    local area = nb.rand(n) * (o.scale[2] - o.scale[1]) + o.scale[1]
    local stretch = (nb.rand(n) * (2 * math.log(3)) - math.log(3)):exp():sqrt()  -- height to width, from 1/3 to 3
    local high, wide = (area:sqrt() * stretch):clamp { max = 1 }, (area:sqrt() / stretch):clamp { max = 1 }
    local function within(share, size, dim)
      local shape = { n, 1, 1, 1 }
      local long = (share * size):view(shape)
      local first = nb.rand(shape) * (size - long)
      local at = nb.arange(size, { dtype = "f32" }) - 0.5
      at = dim == 3 and at:view(1, 1, size, 1) or at:view(1, 1, 1, size)
      return at:ge(first) & at:lt(first + long)
    end
    local hidden = within(high, h, 3) & within(wide, w, 4) & nb.rand(n):lt(o.p):view(n, 1, 1, 1)
    return x:masked_fill(hidden, o.value)
  end,
})

-- ---- turned and moved ----

-- Pictures seen through a map of their own: the pixel at (y, x) from the middle is that at a·(y, x) + b of the picture
-- before, between pixels a mean of the four around it, zero outside.
local function mapped(x, a, b)
  local n, c, h, w = table.unpack(x.shape)
  local function axis(size, shape) return (nb.arange(size, { dtype = "f32" }) - (size + 1) / 2):view(shape) end
  local y0, x0 = axis(h, { 1, h, 1 }), axis(w, { 1, 1, w })
  local function coefficient(v) return v:view(n, 1, 1) end
  local at_y = coefficient(a[1]) * y0 + coefficient(a[2]) * x0 + coefficient(b[1]) + (h - 1) / 2
  local at_x = coefficient(a[3]) * y0 + coefficient(a[4]) * x0 + coefficient(b[2]) + (w - 1) / 2
  local flat, sum = x:to("f32"):reshape(n, c, h * w), nil
  local low_y, low_x = at_y:floor(), at_x:floor()
  for dy = 0, 1 do
    for dx = 0, 1 do
      local py, px = low_y + dy, low_x + dx
      local weight = (1 - (at_y - py):abs()) * (1 - (at_x - px):abs())
      local inside = py:ge(0) & py:lt(h) & px:ge(0) & px:lt(w)
      local place = (py:clamp(0, h - 1) * w + px:clamp(0, w - 1) + 1):to("i64"):view(n, 1, h * w):expand(n, c, h * w)
      local part = flat:gather(3, place) * (weight * inside:to("f32")):view(n, 1, h * w)
      sum = sum and sum + part or part
    end
  end
  local y = sum:view(n, c, h, w)
  if x.dtype == "u8" then return y:round():clamp(0, 255):to("u8") end
  return y:to(x.dtype)
end

local function between(n, low, high) return nb.rand(n) * (high - low) + low end

local function affine(x, degrees, translate, low, high)
  local n = x:size(1)
  local angle = between(n, -degrees, degrees) * (math.pi / 180)
  local scale = between(n, low, high)
  local cos, sin = angle:cos() / scale, angle:sin() / scale
  local dy, dx = between(n, -translate, translate) * x:size(3), between(n, -translate, translate) * x:size(4)
  return mapped(x, { cos, sin, -sin, cos }, { -(cos * dy + sin * dx), sin * dy - cos * dx })
end

local degrees = { name = "degrees", type = "non-negative", doc = "the largest angle, either way" }

define("RandomRotation", {
  doc = "Turns each picture about its middle by an angle of its own; zero where nothing comes from.",
  params = { degrees }, see = { "data.transforms.RandomAffine" },
  example = "data.transforms.RandomRotation(0)(nb.tensor{{{1, 2}, {3, 4}}})  --> {{{1, 2}, {3, 4}}}",
  apply = function(o, x) return affine(x, o.degrees, 0, 1, 1) end,
})

define("RandomAffine", {
  doc = "Turns, moves and scales each picture by numbers of its own.",
  params = { degrees,
    { name = "translate", type = "fraction", default = 0, doc = "the largest share of the size that is moved" },
    { name = "scale", type = "numbers", default = { 1, 1 }, doc = "least and largest factor" } },
  example = "data.transforms.RandomAffine(10, {translate=0.1, scale={0.9, 1.1}})(nb.ones(2, 8, 8)).shape" ..
    "  --> {2, 8, 8}",
  check = function(where, o)
    if #o.scale ~= 2 or o.scale[1] <= 0 or o.scale[1] > o.scale[2] then
      native.raise(where .. ": scale must be two numbers above 0, the smaller first, got " .. options.show(o.scale))
    end
  end,
  apply = function(o, x) return affine(x, o.degrees, o.translate, o.scale[1], o.scale[2]) end,
})

-- ---- colours ----

-- The grey of each pixel (ITU-R BT.601); of what has no three channels the channel itself.
local function grey(x)
  if x:size(2) ~= 3 then return x end
  return (x * nb.tensor({ 0.299, 0.587, 0.114 }, { dtype = x.dtype }):view(1, 3, 1, 1)):sum(2, { keepdim = true })
end

define("ColorJitter", {
  doc = "Changes brightness, contrast and saturation of each picture (of numbers 0..1) by factors of its own, from " ..
    "1 − v to 1 + v.",
  params = {
    { name = "brightness", type = "fraction", default = 0 }, { name = "contrast", type = "fraction", default = 0 },
    { name = "saturation", type = "fraction", default = 0, doc = "of three channels" },
  },
  example = "data.transforms.ColorJitter{brightness=0.2}(nb.rand(2, 3, 4, 4)).shape  --> {2, 3, 4, 4}",
  apply = function(o, x, where)
    if x.dtype ~= "f32" and x.dtype ~= "f64" then
      native.raise(("%s: needs numbers 0..1, got %s; data.transforms.ToFloat() goes before it"):format(where, x.dtype))
    end
    local function factor(v) return between(x:size(1), 1 - v, 1 + v):to(x.dtype):view(-1, 1, 1, 1) end
    if o.brightness > 0 then x = (x * factor(o.brightness)):clamp(0, 1) end
    if o.contrast > 0 then
      local mean = grey(x):mean({ 2, 3, 4 }, { keepdim = true })
      x = (mean + (x - mean) * factor(o.contrast)):clamp(0, 1)
    end
    if o.saturation > 0 and x:size(2) == 3 then
      local plain = grey(x)
      x = (plain + (x - plain) * factor(o.saturation)):clamp(0, 1)
    end
    return x
  end,
})

registry.add {
  name = "data.transforms", kind = "topic", value = M,
  doc = "What is done to batches of pictures before a net sees them.",
  example = "data.transforms.RandomHorizontalFlip()(nb.ones(2, 4, 4)).shape  --> {2, 4, 4}",
}

return M
