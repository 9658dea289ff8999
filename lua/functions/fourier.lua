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
  define.operator(name .. "2", {
    family = FAMILY, sample = "f(2,3,2); f(2,2,3,2), {norm=\"forward\"}",
    doc = ("The %sFourier transform along two dimensions, the last before the pairs, of complex numbers."):format(
      inverse and "inverse " or ""),
    params = { define.x(PAIRS), norm }, derivative = "the transform of δ with the other sign", see = { "nb." .. name },
    example = ("nb.%s2(nb.tensor{{{1, 0}}})  --> {{{1, 0}}}"):format(name),
    function(o)
      check_pairs(name .. "2", o.x)
      local d = place(name .. "2", o.x, -2, 1)
      return transformed(transformed(o.x, d + 1, inverse, o.norm), d, inverse, o.norm)
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
