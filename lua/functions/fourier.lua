-- SPDX-License-Identifier: MIT
-- Fourier transforms.  There is no complex dtype: every row would need loops of it, for what few nets need.  Complex
-- numbers are pairs of a real and an imaginary part in the last dimension, as PyTorch's view_as_real lays them.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local FAMILY = "Fourier transforms"
local PAIRS = "complex numbers: pairs in the last dimension, which dim does not count"

local norm = { name = "norm", type = "string", default = "backward", choices = { "backward", "ortho", "forward" },
  doc = "which way divides by n: back, both by its root, or forth" }
local length = { name = "n", type = "size", optional = true, positional = true,
  doc = "cut or padded with zeros to that" }

-- The dimension among those before the pairs (`more` = 1) or all.
local function place(name, x, dim, more)
  local n = x:dim() - more
  if n < 1 or dim == 0 or math.abs(dim) > n then
    define.fail(name, "there is no dimension %d among %d%s", dim, math.max(n, 0),
      more > 0 and " before the pairs" or "")
  end
  return dim < 0 and dim + n + 1 or dim
end

local function check_pairs(name, x)
  if x:dim() < 2 or x:size(-1) ~= 2 then
    define.fail(name, "x must have complex numbers, pairs of a real and an imaginary part in the last dimension, " ..
      "got shape %s", options.shape(x))
  end
end

local function fitted(x, d, n)
  local have = x:size(d)
  if n > have then
    local amounts = {}
    for e = x:dim(), d, -1 do
      amounts[#amounts + 1], amounts[#amounts + 2] = 0, e == d and n - have or 0
    end
    return x:pad(amounts)
  end
  return n < have and x:narrow(d, 1, n) or x
end

local function scale(how, n, inverse)
  if how == "ortho" then return 1 / math.sqrt(n) end
  return ((how == "backward") == inverse) and 1 / n or 1
end

-- The transform along dimension d of pairs.
local function transformed(x, d, inverse, how)
  local n = x:size(d)
  if n < 1 then define.fail("fft", "there are no numbers to transform") end
  local last = x:dim() - 1
  local y = native.dft(d ~= last and x:transpose(d, last) or x, inverse)
  if d ~= last then y = y:transpose(d, last) end
  local s = scale(how, n, inverse)
  return s ~= 1 and y * s or y
end

for _, name in ipairs { "fft", "ifft" } do
  local inverse = name == "ifft"
  define.operator(name, {
    family = FAMILY, sample = "f(4,2); f(2,3,2), 5, -1; f(3,4,2), 2, 1, {norm=\"ortho\"}",
    doc = ("The %sFourier transform along dim (the last before the pairs) of complex numbers, pairs in the last " ..
      "dimension; nb.rfft takes real ones."):format(inverse and "inverse " or ""),
    params = { define.x(PAIRS), length, define.dim(-1), norm },
    derivative = "the transform of δ with the other sign", see = { "nb.rfft", "nb.fft2" },
    source = "L. Bluestein, A linear filtering approach to the computation of discrete Fourier transform, 1970",
    example = inverse and "nb.ifft(nb.tensor{{4, 0}, {-2, 0}})  --> {{1, 0}, {3, 0}}" or
      "nb.fft(nb.tensor{{1, 0}, {3, 0}})  --> {{4, 0}, {-2, 0}}",
    function(o)
      check_pairs(name, o.x)
      local d = place(name, o.x, o.dim, 1)
      return transformed(o.n and fitted(o.x, d, o.n) or o.x, d, inverse, o.norm)
    end,
  })
end

define.operator("rfft", {
  family = FAMILY, sample = "f(4); f(2,5), 6; f(3,4), 3, 1, {norm=\"ortho\"}",
  doc = "The Fourier transform along dim (the last) of real numbers: its first n//2 + 1 complex numbers, pairs in a " ..
    "new last dimension; the others are their conjugates.",
  params = { define.x(), length, define.dim(-1), norm }, derivative = "the real part of the transform of δ",
  see = { "nb.irfft", "nb.fft" }, example = "nb.rfft(nb.tensor{1, 3})  --> {{4, 0}, {-2, 0}}",
  function(o)
    local d = place("rfft", o.x, o.dim, 0)
    local x = (o.x.dtype == "f32" or o.x.dtype == "f64") and o.x or o.x:to("f32")
    if o.n then x = fitted(x, d, o.n) end
    local y = transformed(nb.stack({ x, nb.zeros_like(x) }, -1), d, false, o.norm)
    return y:narrow(d, 1, x:size(d) // 2 + 1)
  end,
})

define.operator("irfft", {
  family = FAMILY, sample = "f(3,2); f(2,3,2), 5; f(3,4,2), 4, 1, {norm=\"ortho\"}",
  doc = "The n real numbers (2·(m − 1) of m) whose transform rfft gives, along dim (the last before the pairs).",
  params = { define.x(PAIRS), length, define.dim(-1), norm },
  derivative = "the transform of δ, twice where halves meet", see = { "nb.rfft" },
  example = "nb.irfft(nb.tensor{{4, 0}, {-2, 0}})  --> {1, 3}",
  function(o)
    check_pairs("irfft", o.x)
    local d = place("irfft", o.x, o.dim, 1)
    local n = o.n or 2 * (o.x:size(d) - 1)
    if n < 1 then define.fail("irfft", "there must be at least 1 number in the result; n= says how many") end
    local half = fitted(o.x, d, n // 2 + 1)
    local rest = (n - 1) // 2  -- the conjugates of those after the first, without the middle of an even n
    if rest > 0 then
      local mirrored = half:narrow(d, 2, rest):flip(d) * nb.tensor({ 1, -1 }, { dtype = half.dtype })
      half = nb.cat({ half, mirrored }, d)
    end
    return transformed(half, d, true, o.norm):select(-1, 1)
  end,
})

for _, name in ipairs { "fftshift", "ifftshift" } do
  define.operator(name, {
    family = FAMILY, sample = "f(5); f(2,3), 2; f(2,3), {1, 2}",
    doc = name == "fftshift" and "x with the frequency 0, the first, moved to the middle of one or several " ..
      "dimensions (all); pairs are dimensions like others here." or "What fftshift moved to the middle, moved back.",
    params = { define.x(), { name = "dim", type = "whole numbers", optional = true, positional = true } },
    derivative = "1, moved back", see = { "nb.fft", "nb.roll" },
    example = name == "fftshift" and "nb.fftshift(nb.tensor{0, 1, -1})  --> {-1, 0, 1}" or
      "nb.ifftshift(nb.tensor{-1, 0, 1})  --> {0, 1, -1}",
    function(o)
      local x, dims = o.x, o.dim
      if dims == nil then
        dims = {}
        for d = 1, x:dim() do dims[d] = d end
      end
      for _, d in ipairs(type(dims) == "table" and dims or { dims }) do
        local n = select(2, define.dimension(name, x, d))
        if x:dim() > 0 then x = x:roll(name == "fftshift" and n // 2 or -(n // 2), d) end
      end
      return x
    end,
  })
end

-- ---- several dimensions ----

local sizes = { name = "s", type = "sizes", optional = true, positional = true,
  doc = "sizes that the dimensions are cut or padded to" }
local function dims_param(default)
  return { name = "dim", type = "whole numbers", optional = true, positional = true, default = default,
    doc = "the dimensions" }
end

-- The dimensions from the front and their sizes, where they are given: dim, or the last ones, or all.
local function several(name, x, o, more)
  local dims, n = {}, x:dim() - more
  local given = type(o.s) == "number" and { o.s } or o.s
  if o.dim then
    for i, d in ipairs(type(o.dim) == "table" and o.dim or { o.dim }) do dims[i] = place(name, x, d, more) end
  else
    local count = given and #given or n
    for i = 1, count do dims[i] = place(name, x, i - count - 1, more) end
  end
  local seen = {}
  for _, d in ipairs(dims) do
    if seen[d] then define.fail(name, "dimension %d is named twice", d) end
    seen[d] = true
  end
  if #dims == 0 then define.fail(name, "there is no dimension to transform") end
  if given and #given ~= #dims then
    define.fail(name, "s must have a size for each of %d dimensions, got %d", #dims, #given)
  end
  return dims, given or {}
end

local FORMS = {
  fft = function(name, o)
    local dims, s = several(name, o.x, o, 1)
    local x = o.x
    for i, d in ipairs(dims) do x = transformed(s[i] and fitted(x, d, s[i]) or x, d, false, o.norm) end
    return x
  end,
  ifft = function(name, o)
    local dims, s = several(name, o.x, o, 1)
    local x = o.x
    for i, d in ipairs(dims) do x = transformed(s[i] and fitted(x, d, s[i]) or x, d, true, o.norm) end
    return x
  end,
  rfft = function(name, o)
    local dims, s = several(name, o.x, o, 0)
    local x = nb.rfft(o.x, s[#dims], dims[#dims], { norm = o.norm })
    for i = #dims - 1, 1, -1 do
      x = transformed(s[i] and fitted(x, dims[i], s[i]) or x, dims[i], false, o.norm)
    end
    return x
  end,
  irfft = function(name, o)
    local dims, s = several(name, o.x, o, 1)
    local x = o.x
    for i = 1, #dims - 1 do
      x = transformed(s[i] and fitted(x, dims[i], s[i]) or x, dims[i], true, o.norm)
    end
    return nb.irfft(x, s[#dims], dims[#dims], { norm = o.norm })
  end,
}

local DOCS = {
  fft = "The Fourier transform along %s of complex numbers, pairs in the last dimension.",
  ifft = "The inverse Fourier transform along %s of complex numbers, pairs in the last dimension.",
  rfft = "The Fourier transform along %s of real numbers; of the last one its first n//2 + 1 complex numbers.",
  irfft = "The real numbers whose transform along %s the function without i gives.",
}
local SAMPLES = {
  fft = "f(2,3,2); f(2,2,3,2), {norm=\"forward\"}; f(3,2,2,2), {2, 4}, {1, 3}",
  rfft = "f(2,3); f(2,2,3), {norm=\"forward\"}; f(3,2,2), {2, 4}, {1, 3}",
}
local EXAMPLES = {
  fft = "nb.%s(nb.tensor{{{1, 0}}})  --> {{{1, 0}}}", ifft = "nb.%s(nb.tensor{{{1, 0}}})  --> {{{1, 0}}}",
  rfft = "nb.%s(nb.tensor{{1, 3}})  --> {{{4, 0}, {-2, 0}}}",
  irfft = "nb.%s(nb.tensor{{{4, 0}, {-2, 0}}})  --> {{1, 3}}",
}

for _, form in ipairs { "fft", "ifft", "rfft", "irfft" } do
  for _, how in ipairs { "2", "n" } do
    local name = form .. how
    define.operator(name, {
      family = FAMILY, sample = SAMPLES[form == "rfft" and form or "fft"],
      doc = DOCS[form]:format(how == "2" and "two dimensions, the last" or "several dimensions, all"),
      params = { define.x(form ~= "rfft" and PAIRS or nil), sizes, dims_param(how == "2" and { -2, -1 } or nil), norm },
      derivative = "the transform of δ with the other sign", see = { "nb." .. form },
      example = EXAMPLES[form]:format(name),
      function(o)
        if form ~= "rfft" then check_pairs(name, o.x) end
        return FORMS[form](name, o)
      end,
    })
  end
end
