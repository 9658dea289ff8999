-- SPDX-License-Identifier: MIT
-- dist.bench: what an exchange costs between these ranks.
local native = require "nablua.native"
local nb = require "nablua.core"
local group = require "nablua.dist.group"

local SIZES = { 8, 1024, 16384, 262144, 1048576, 4194304, 16777216 }

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

-- Seconds of one allreduce of so many bytes: the median of rounds, of the slowest rank each.
local function measure(bytes)
  local t, times = nb.ones(bytes // 4), {}
  for round = 1, math.max(5, math.min(40, 4194304 // bytes)) do
    native.dist_move("barrier", nil, 0, 0, "")
    local begun = native.clock()
    native.dist_move("allreduce_", t, 0, 0, " (bench)")
    times[round] = native.clock() - begun
  end
  local all = native.dist_move("allreduce_", nb.tensor(times, { dtype = "f64" }), 1, 0, " (bench)"):totable()
  return median(all)
end

-- The least squares line through (bytes, seconds), each weighed by 1/seconds² so that short ones count.
local function line(rows)
  local w, x, y, xx, xy = 0, 0, 0, 0, 0
  for _, row in ipairs(rows) do
    local weight = 1 / row.seconds ^ 2
    w, x, y = w + weight, x + weight * row.bytes, y + weight * row.seconds
    xx, xy = xx + weight * row.bytes ^ 2, xy + weight * row.bytes * row.seconds
  end
  local slope = (w * xy - x * y) / (w * xx - x * x)
  return (y - slope * x) / w, slope
end

local Bench = { __name = "bench" }

function Bench:__tostring()
  local lines = { ("allreduce of %d ranks"):format(self.size) }
  for _, row in ipairs(self) do
    lines[#lines + 1] = ("%10d bytes  %10.1f µs  %8.2f GB/s"):format(row.bytes, row.seconds * 1e6,
      row.bytes / row.seconds / 1e9)
  end
  lines[#lines + 1] = ("about %.1f µs + bytes / %.2f GB/s"):format(self.latency * 1e6, self.bandwidth / 1e9)
  return table.concat(lines, "\n")
end

return function()
  if group.size == 1 then
    native.raise "dist.bench: measures between ranks, of which there is one; start several: mpirun -n 2 nablua FILE"
  end
  local bench = setmetatable({ size = group.size }, Bench)
  for i, bytes in ipairs(SIZES) do bench[i] = { bytes = bytes, seconds = measure(bytes) } end
  local latency, slope = line(bench)
  bench.latency, bench.bandwidth = math.max(latency, 0), 1 / slope
  return bench
end
