-- SPDX-License-Identifier: MIT
-- Fourier transforms of several dimensions, spectra of stretches, windows: against sums written out.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"

local T = {}

local assert_error, assert_close = numeric.assert_error, numeric.assert_close
local f64 = { dtype = "f64" }

-- The transform of a list of numbers by its definition.
local function by_definition(list)
  local n, out = #list, {}
  for k = 0, n - 1 do
    local re, im = 0, 0
    for t, v in ipairs(list) do
      local angle = -2 * math.pi * k * (t - 1) / n
      re, im = re + v * math.cos(angle), im + v * math.sin(angle)
    end
    out[k + 1] = { re, im }
  end
  return out
end

function T.test_transforms_of_several_dimensions_are_those_of_one()
  nb.seed(1)
  local x = nb.randn({ 3, 4, 5, 2 }, f64)
  assert_close(nb.fftn(x), nb.fft(nb.fft(nb.fft(x, nil, 1), nil, 2), nil, 3), 1e-12)
  assert_close(nb.ifftn(nb.fftn(x)), x, 1e-12)
  assert_close(nb.fft2(x, { 6, 3 }, { 1, 3 }), nb.fft(nb.fft(x, 6, 1), 3, 3), 1e-12)
  assert_close(nb.ifft2(nb.fft2(x, { norm = "ortho" }), { norm = "ortho" }), x, 1e-12)
  local real = nb.randn({ 3, 4, 5 }, f64)
  local pairs_of = nb.stack({ real, real * 0 }, -1)
  assert_close(nb.rfftn(real), nb.fftn(pairs_of):narrow(3, 1, 3), 1e-12)
  assert_close(nb.rfft2(real), nb.fft2(pairs_of):narrow(3, 1, 3), 1e-12)
  assert_close(nb.irfftn(nb.rfftn(real), { 3, 4, 5 }), real, 1e-12)
  assert_close(nb.irfft2(nb.rfft2(real), { 4, 5 }), real, 1e-12)
  assert_error({ "fftn", "named twice" }, nb.fftn, x, { dim = { 1, -3 } })
  assert_error({ "fft2", "each of 2 dimensions, got 1" }, nb.fft2, x, { 4 })
  assert_error({ "rfftn", "no dimension 4" }, nb.rfftn, real, { dim = 4 })
end

function T.test_windows_by_their_formulas()
  local pi = math.pi
  for name, f in pairs {
    hann = function(t) return 0.5 - 0.5 * math.cos(2 * pi * t) end,
    hamming = function(t) return 0.54 - 0.46 * math.cos(2 * pi * t) end,
    blackman = function(t) return 0.42 - 0.5 * math.cos(2 * pi * t) + 0.08 * math.cos(4 * pi * t) end,
    bartlett = function(t) return 1 - math.abs(2 * t - 1) end,
  } do
    for _, periodic in ipairs { true, false } do
      local want, n = {}, 7
      for k = 0, n - 1 do want[k + 1] = f(k / (periodic and n or n - 1)) end
      assert_close(nb[name .. "_window"](n, { periodic = periodic, dtype = "f64" }), want, 1e-12)
    end
    lu.assertEquals(nb[name .. "_window"](1):totable(), { 1 })
    lu.assertEquals(nb[name .. "_window"](0).shape, { 0 })
  end
  local window = nb.hamming_window(4, { alpha = 0.5, beta = 0.25, dtype = "f64" })
  assert_close(window, { 0.25, 0.5, 0.75, 0.5 }, 1e-12)
  assert_error({ "hann_window", "alpha" }, nb.hann_window, 4, { alpha = 0.5 })
end

-- Every stretch is what lies about its middle, reflected at the ends, times the window, transformed.
function T.test_stft_by_its_definition()
  nb.seed(2)
  local x, n, hop = nb.randn({ 23 }, f64), 6, 2
  local list, w = x:totable(), nb.hann_window(5, f64):totable()
  local window = { w[1], w[2], w[3], w[4], w[5], 0 }  -- in the middle of 6: one zero behind
  local y = nb.stft(x, n, { hop_length = hop, win_length = 5, window = nb.hann_window(5, f64) })
  lu.assertEquals(y.shape, { 4, 12, 2 })
  for frame = 1, 12 do
    local part = {}
    for k = 1, n do
      local at = (frame - 1) * hop + k - n // 2
      if at < 1 then at = 2 - at end
      if at > 23 then at = 2 * 23 - at end
      part[k] = list[at] * window[k]
    end
    local want = by_definition(part)
    for bin = 1, 4 do assert_close(y[bin][frame], want[bin], 1e-12) end
  end
end

function T.test_istft_gives_the_signal_back()
  nb.seed(3)
  local x = nb.randn({ 2, 41 }, f64)
  for _, o in ipairs { { hop_length = 2, window = nb.hann_window(8, f64) }, { hop_length = 3, center = false },
    { hop_length = 4, onesided = false, normalized = true }, { win_length = 6, window = nb.hamming_window(6, f64) } } do
    local y = nb.istft(nb.stft(x, 8, o), 8, o)
    assert_close(y, x:narrow(2, 1, y:size(2)), 1e-12)
    lu.assertTrue(y:size(2) > 30)
  end
  lu.assertEquals(nb.istft(nb.stft(x, 8), 8, { length = 50 }).shape, { 2, 50 })
  assert_error({ "stft", "too few to reflect 4" }, nb.stft, nb.ones(4), 8)
  assert_error({ "stft", "a stretch has 8" }, nb.stft, nb.ones(4), 8, { center = false })
  assert_error({ "win_length", "at most n_fft" }, nb.stft, nb.ones(40), 8, { win_length = 9 })
  assert_error({ "window must be a vector of 8" }, nb.stft, nb.ones(40), 8, { window = nb.ones(7) })
  assert_error({ "istft", "5 frequencies" }, nb.istft, nb.ones(4, 3, 2), 8)
  assert_error({ "no window has weight" }, nb.istft, nb.ones(5, 3, 2), 8, { hop_length = 12, center = false })
end

return T
