-- SPDX-License-Identifier: MIT
-- How the time of a training step grows with the batch, the width and the depth of an MLP, beside its arithmetic, and
-- what an operator costs apart from it.  growth.lua [picture.svg]
--
-- `growth` is by how much the time rose for each doubling of the work, over that of the work: above 1 for long would be
-- a cliff.
local nb = require "nablua"
local nn, optim = nb.nn, nb.optim
local steps = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "steps.lua")

local function time(f) return steps.time(f, 0.25) end

-- One step of an MLP of `depth` square layers, and its floating point operations: each layer multiplies for its output,
-- its weight's gradient and, but for the first, its input's.
local function training(batch, width, depth)
  local layers = {}
  for i = 1, depth do
    layers[2 * i - 1] = nn.Linear(width, width)
    layers[2 * i] = nn.ReLU()
  end
  local net = nn.Sequential(layers)
  local opt, loss = optim.SGD(net:parameters(), { lr = 1e-3 }), nn.MSELoss()
  local x, y = nb.rand(batch, width), nb.rand(batch, width)
  return steps.trainer(net, loss, opt, x, y), (6 * depth - 2) * batch * width * width
end

local sweeps = {
  { "batch", 4096, function(n) return n, 128, 3 end, 1 },
  { "width", 4096, function(n) return 16, n, 2 end, 16 },
  { "depth", 256, function(n) return 16, 32, n end, 1 },
}
local series = {}
for _, sweep in ipairs(sweeps) do
  local name, last, sizes, n = table.unpack(sweep)
  local before = {}
  print(("\n%s: batch × width × layers, microseconds a step, GFLOP/s, growth"):format(name))
  print(("%16s%12s%12s%10s%10s%10s%10s"):format("", "eager", "compiled", "GFLOP/s", "", "growth", ""))
  local curves = { eager = { x = {}, y = {} }, compiled = { x = {}, y = {} } }
  while n <= last do
    local step, flop = training(sizes(n))
    local t = { eager = time(step), compiled = time(nb.compile(step)) }
    local function growth(mode)
      if not before.flop then return "" end
      return ("%.2f"):format(t[mode] / before[mode] / (flop / before.flop))
    end
    print(("%16s%12.1f%12.1f%10.1f%10.1f%10s%10s"):format(table.concat({ sizes(n) }, "×"), t.eager, t.compiled,
      flop / t.eager / 1e3, flop / t.compiled / 1e3, growth("eager"), growth("compiled")))
    for mode, curve in pairs(curves) do
      curve.x[#curve.x + 1], curve.y[#curve.y + 1] = flop, t[mode]
    end
    before = { flop = flop, eager = t.eager, compiled = t.compiled }
    step = nil  -- luacheck: ignore 311
    collectgarbage()
    n = 2 * n
  end
  for mode, curve in pairs(curves) do series[name .. ", " .. mode] = curve end
end

-- Chains of operators on four numbers: what one costs when its work costs nothing.
print("\nnanoseconds an operator on 4 numbers")
local x, w, length = nb.ones(4), nb.ones({ 4 }, { requires_grad = true }), 100
local function chain(v)
  for _ = 1, length do v = v + x end
  return v
end
local function there_and_back()
  w.grad = nil
  chain(w):sum():backward()
end
for _, row in ipairs {
  { "without a tape", function() nb.no_grad(chain, x) end },
  { "recorded", function() chain(w) end },
  { "recorded, and its backward", there_and_back },
  { "compiled", nb.compile(function() nb.no_grad(chain, x) end) },
} do
  print(("%-28s%8.0f"):format(row[1], time(row[2]) / length * 1e3))
end

if arg and arg[1] then
  nb.plot.curve(series, {
    title = "Time of a training step against its arithmetic", xlabel = "floating point operations", ylabel = "µs",
    logx = true, logy = true, width = 900, height = 560,
  }):save(arg[1])
end
