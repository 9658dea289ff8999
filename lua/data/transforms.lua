-- SPDX-License-Identifier: MIT
-- The module `data.transforms`: what is done to batches of pictures before a net sees them, all of a batch at once and
-- with numbers of its own for each picture.
--
-- Pictures are batch × height × width or batch × channels × height × width.  For each batch the one stream of random
-- numbers gives a key, from which each picture has numbers of its own: the same seed gives the same pictures.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"
local steps = require "nablua.data.steps"

local M = registry.home "nablua.data.transforms"

-- A class of transforms: steps(o) are what it does, as C knows it, or parts(o) the transforms that it is made of.
-- Called with a batch, a transform gives another.
local function define(name, spec)
  local where = "data.transforms." .. name
  local meta = { __name = name, steps = spec.steps, parts = spec.parts }
  function meta.__call(self, x)
    if spec.steps and not nb.is_tensor(x) then
      native.raise(("%s: takes batch × height × width or batch × channels × height × width, got %s"):format(where,
        options.describe(x)))
    end
    local list, rest = steps.of(self)
    if #list > 0 then x = steps.apply(where, x, list) end
    for _, t in ipairs(rest) do x = t(x) end
    return x
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
  doc = "Several transforms, or functions of a batch, one after the other.",
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
  parts = function(o) return o.transforms end,
})

-- ---- numbers ----

define("ToFloat", {
  doc = "Makes bytes 0..255 numbers 0..1 of f32; what is f32 or f64 stays.", params = {},
  example = "data.transforms.ToFloat()(nb.full({1, 1, 1}, 51, {dtype=\"u8\"}))  --> {{{0.2}}}",
  steps = function() return { { "ToFloat" } } end,
})

local function list_of(v) return type(v) == "table" and v or { v } end

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
  steps = function(o) return { { "Normalize", mean = list_of(o.mean), std = list_of(o.std) } } end,
})

-- ---- parts of pictures ----

local function two(v) return type(v) == "table" and v or { v, v } end
local size_param = { name = "size", type = "sizes", doc = "height and width; one number serves for both" }

local function of_size(kind, o, more)
  local size = two(o.size)
  return { { kind, size[1], size[2], more } }
end

define("CenterCrop", {
  doc = "The middle of each picture.", params = { size_param },
  example = "data.transforms.CenterCrop(2)(nb.ones(3, 6, 6)).shape  --> {3, 2, 2}",
  steps = function(o) return of_size("CenterCrop", o) end,
})

define("RandomCrop", {
  doc = "A part of each picture at a place of its own, after zeros were put around it.",
  params = { size_param, { name = "padding", type = "count", default = 0, doc = "zeros at each edge before" } },
  example = "data.transforms.RandomCrop(6, {padding=1})(nb.ones(3, 6, 6)).shape  --> {3, 6, 6}",
  steps = function(o) return of_size("RandomCrop", o, o.padding) end,
})

define("Resize", {
  doc = "Pictures of another size, by a triangle filter.", params = { size_param }, see = { "data.resize" },
  example = "data.transforms.Resize {3, 4}(nb.ones(2, 6, 6)).shape  --> {2, 3, 4}",
  steps = function(o) return of_size("Resize", o) end,
})

local p = { name = "p", type = "share", default = 0.5, positional = true, doc = "the probability" }

for dim = 4, 3, -1 do
  local name = dim == 4 and "RandomHorizontalFlip" or "RandomVerticalFlip"
  define(name, {
    doc = dim == 4 and "Exchanges left and right of some pictures." or "Exchanges top and bottom of some pictures.",
    params = { p }, example = ("data.transforms.%s(1)(nb.tensor{{{1, 2}, {3, 4}}})  --> %s"):format(name,
      dim == 4 and "{{{2, 1}, {4, 3}}}" or "{{{3, 4}, {1, 2}}}"),
    steps = function(o) return { { dim == 4 and "FlipColumns" or "FlipRows", o.p } } end,
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
  steps = function(o) return { { "Erase", o.p, o.scale[1], o.scale[2], o.value } } end,
})

-- ---- turned and moved ----

local degrees = { name = "degrees", type = "non-negative", doc = "the largest angle, either way" }

define("RandomRotation", {
  doc = "Turns each picture about its middle by an angle of its own; zero where nothing comes from.",
  params = { degrees }, see = { "data.transforms.RandomAffine" },
  example = "data.transforms.RandomRotation(0)(nb.tensor{{{1, 2}, {3, 4}}})  --> {{{1, 2}, {3, 4}}}",
  steps = function(o) return { { "Affine", o.degrees, 0, 1, 1 } } end,
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
  steps = function(o) return { { "Affine", o.degrees, o.translate, o.scale[1], o.scale[2] } } end,
})

-- ---- colours ----

define("ColorJitter", {
  doc = "Changes brightness, contrast and saturation of each picture (of numbers 0..1) by factors of its own, from " ..
    "1 − v to 1 + v.",
  params = {
    { name = "brightness", type = "fraction", default = 0 }, { name = "contrast", type = "fraction", default = 0 },
    { name = "saturation", type = "fraction", default = 0, doc = "of three channels" },
  },
  example = "data.transforms.ColorJitter{brightness=0.2}(nb.rand(2, 3, 4, 4)).shape  --> {2, 3, 4, 4}",
  steps = function(o) return { { "Jitter", o.brightness, o.contrast, o.saturation } } end,
})

registry.add {
  name = "data.transforms", kind = "topic", value = M,
  doc = "What is done to batches of pictures before a net sees them.",
  example = "data.transforms.RandomHorizontalFlip()(nb.ones(2, 4, 4)).shape  --> {2, 4, 4}",
}

return M
