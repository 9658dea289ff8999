-- SPDX-License-Identifier: MIT
-- Spectra of signals, stretch by stretch, and the windows that stretches are weighed with.
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local FAMILY = "Fourier transforms"

-- ---- windows ----

local WINDOWS = {
  hann = { "½ − ½·cos(2πk/n)", function(t) return t:cos() * -0.5 + 0.5 end, "{0, 0.5, 1, 0.5}" },
  hamming = { "alpha − beta·cos(2πk/n)", function(t, o) return t:cos() * -o.beta + o.alpha end, "{0.08, 0.54, 1, 0.54}",
    { name = "alpha", type = "number", default = 0.54 }, { name = "beta", type = "number", default = 0.46 } },
  blackman = { "0.42 − ½·cos(2πk/n) + 0.08·cos(4πk/n)",
    function(t) return t:cos() * -0.5 + (t * 2):cos() * 0.08 + 0.42 end, "{0, 0.34, 1, 0.34}" },
  bartlett = { "1 − |2k/n − 1|", function(t) return 1 - (t / math.pi - 1):abs() end, "{0, 0.5, 1, 0.5}" },
}

for _, kind in ipairs { "hann", "hamming", "blackman", "bartlett" } do
  local formula, f, shown, alpha, beta = table.unpack(WINDOWS[kind])
  local params = { { name = "n", type = "count" }, { name = "periodic", type = "boolean", default = true },
    { name = "dtype", choices = { "f32", "f64" }, default = "f32" }, alpha, beta }
  define.function_of("nb.", kind .. "_window", {
    kind = "function", family = FAMILY,
    signature = ("nb.%s_window(n, {periodic=true, dtype=\"f32\"%s})"):format(kind,
      alpha and ", alpha=0.54, beta=0.46" or ""),
    doc = ("The window %s at k = 0..n − 1; with periodic=false over n − 1 in place of n, so that it ends as it " ..
      "begins."):format(formula),
    params = params, see = { "nb.stft" }, example = ("nb.%s_window(4)  --> %s"):format(kind, shown), returns = "tensor",
    function(...)
      local o = options.read(kind .. "_window", params, ...)
      if o.n == 1 then return nb.ones({ 1 }, { dtype = o.dtype }) end
      local t = (nb.arange(o.n, { dtype = "f64" }) - 1) * (2 * math.pi / (o.periodic and o.n or o.n - 1))
      return f(t, o):to(o.dtype)
    end,
  })
end

-- ---- stretches ----

local SHARED = {
  { name = "n_fft", type = "size", doc = "numbers in a stretch" },
  { name = "hop_length", type = "size", optional = true, doc = "from one stretch to the next; n_fft//4 when left out" },
  { name = "win_length", type = "size", optional = true, doc = "the window's length; n_fft when left out" },
  { name = "window", type = "tensor", optional = true, doc = "such as nb.hann_window(win_length); ones when left out" },
  { name = "center", type = "boolean", default = true, doc = "stretch k is about number k·hop_length of x" },
  { name = "normalized", type = "boolean", default = false, doc = "divided by √n_fft" },
  { name = "onesided", type = "boolean", default = true, doc = "only the first n_fft//2 + 1 numbers" },
}

local function params(first, ...)
  local list = { first, table.unpack(SHARED) }
  for _, p in ipairs { ... } do list[#list + 1] = p end
  return list
end

-- The window in the middle of n_fft zeros, and the step.
local function window_of(name, o, dtype)
  local n, length = o.n_fft, o.win_length or o.n_fft
  if length > n then define.fail(name, "win_length must be at most n_fft, %d, got %d", n, length) end
  local w = o.window and o.window:to(dtype) or nb.ones({ length }, { dtype = dtype })
  if w:dim() ~= 1 or w:numel() ~= length then
    define.fail(name, "window must be a vector of %d numbers, got shape %s", length, options.shape(w))
  end
  local left = (n - length) // 2
  if length < n then w = w:pad { left, n - length - left } end
  return w, o.hop_length or math.max(n // 4, 1)
end

-- x with `amount` more numbers at both ends.
local function extended(x, amount, mode)
  local n = x:size(-1)
  if mode == "constant" then return x:pad { amount, amount } end
  if n == 0 or mode == "reflect" and amount >= n then
    define.fail("stft", "x has %d numbers, too few to reflect %d at each end; center=false or pad_mode=\"constant\"", n,
      amount)
  end
  local at = nb.arange(n + 2 * amount, { dtype = "i64" }) - amount
  if mode == "replicate" then return x:index_select(-1, at:clamp(1, n)) end
  at = (at - 1):abs()
  return x:index_select(-1, nb.where(at:ge(n), (2 * n - 2) - at, at) + 1)
end

define.operator("stft", {
  family = FAMILY, sample = "f(12), 4; f(2,9), 4, {hop_length=2, center=false, normalized=true}; " ..
    "f(8), 5, {win_length=3, onesided=false, pad_mode=\"constant\"}",
  doc = "Spectra of stretches of x, each weighed with a window: (batch ×) frequencies × stretches × 2, complex " ..
    "numbers as pairs.",
  params = params(define.x("numbers, or batch × numbers"), { name = "pad_mode", type = "string", default = "reflect",
    choices = { "reflect", "constant", "replicate" }, doc = "what stands beyond the ends where center" }),
  derivative = "the transform of δ, added up where stretches meet", see = { "nb.istft", "nb.rfft", "nb.windows" },
  example = "nb.stft(nb.ones(16), 8, {window=nb.hann_window(8)}).shape  --> {5, 9, 2}",
  function(o)
    local x = (o.x.dtype == "f32" or o.x.dtype == "f64") and o.x or o.x:to("f32")
    if x:dim() ~= 1 and x:dim() ~= 2 then
      define.fail("stft", "x must be numbers or batch × numbers, got shape %s", options.shape(x))
    end
    local w, hop = window_of("stft", o, x.dtype)
    if o.center then x = extended(x, o.n_fft // 2, o.pad_mode) end
    if x:size(-1) < o.n_fft then
      define.fail("stft", "a stretch has %d numbers, x only %d", o.n_fft, x:size(-1))
    end
    local parts = x:windows(-1, o.n_fft, hop) * w
    local y = o.onesided and nb.rfft(parts) or nb.fft(nb.stack({ parts, nb.zeros_like(parts) }, -1))
    y = y:transpose(-2, -3)
    return o.normalized and y / math.sqrt(o.n_fft) or y
  end,
})

-- Stretches (... × stretches × n) added up, each `hop` after the one before.
local function overlapped(parts, hop)
  local shape, n = parts.shape, parts:size(-1)
  local count = parts:size(-2)
  local length = (count - 1) * hop + n
  local at = ((nb.arange(count, { dtype = "i64" }) - 1) * hop):unsqueeze(2) + nb.arange(n, { dtype = "i64" })
  shape[#shape] = nil
  shape[#shape] = length
  return nb.zeros(shape, { dtype = parts.dtype }):index_add(-1, at:view(-1), parts:flatten(-2, -1))
end

define.operator("istft", {
  family = FAMILY, sample = "f(3,4,2), 4; f(2,3,5,2), 4, {hop_length=2, center=false}; f(3,5,2), 5, {length=4}",
  doc = "The signal whose spectra nb.stft gave with the same options: what comes back of each stretch, weighed with " ..
    "the window, added up and divided by the sum of the squared windows.",
  params = params({ name = "x", type = "tensor", doc = "(batch ×) frequencies × stretches × 2" },
    { name = "length", type = "count", optional = true, doc = "numbers of the signal" }),
  derivative = "stft of δ over the sum of the squared windows", see = { "nb.stft" },
  source = "D. Griffin, J. Lim, Signal estimation from modified short-time Fourier transform, 1984",
  example = "local x = nb.arange(16); return nb.istft(nb.stft(x, 4), 4)[16]  --> 16",
  function(o)
    local x, n = o.x, o.n_fft
    local bins = o.onesided and n // 2 + 1 or n
    if x:dim() ~= 3 and x:dim() ~= 4 or x:size(-1) ~= 2 or x:size(-3) ~= bins or x:size(-2) == 0 then
      define.fail("istft", "x must be (batch ×) %d frequencies × stretches × 2 for n_fft = %d, got shape %s", bins, n,
        options.shape(x))
    end
    local w, hop = window_of("istft", o, x.dtype)
    if o.normalized then x = x * math.sqrt(n) end
    x = x:transpose(-2, -3)
    local parts = o.onesided and nb.irfft(x, n) or nb.ifft(x):select(-1, 1)
    local y = overlapped(parts * w, hop)
    local weight = overlapped((w * w):unsqueeze(1):expand(x:size(-3), n):contiguous(), hop)
    local first = o.center and n // 2 + 1 or 1
    local last = y:size(-1) - (o.center and n // 2 or 0)
    if o.length then last = math.min(first + o.length - 1, y:size(-1)) end
    if last < first then define.fail("istft", "nothing is left between the ends") end
    y, weight = y:narrow(-1, first, last - first + 1), weight:narrow(1, first, last - first + 1)
    if weight:min():item() < 1e-11 then
      define.fail("istft", "somewhere no window has weight: hop_length must be smaller than the window, and the " ..
        "window not 0 where no other covers it")
    end
    y = y / weight
    local lacking = (o.length or 0) - y:size(-1)
    return lacking > 0 and y:pad { 0, lacking } or y
  end,
})
