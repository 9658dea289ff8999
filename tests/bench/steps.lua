-- SPDX-License-Identifier: MIT
-- What the benchmarks written in Lua share: a training step, and the time of one.
local now = require "nablua.native".clock

local M = {}

-- A function that takes one training step.
function M.trainer(net, loss, opt, x, y)
  return function()
    opt:zero_grad()
    local J = loss(net(x), y)
    J:backward()
    opt:step()
    return J
  end
end

-- The same step after 1,500 of them.
function M.aged(step)
  for _ = 1, 1500 do step() end
  return step
end

-- Microseconds of f: the median of runs that take so many seconds together.
function M.time(f, seconds)
  for _ = 1, 3 do f() end
  local start = now()
  f()
  local batch = math.max(1, math.floor(seconds / 15 / math.max(now() - start, 1e-7)))
  local per, stop = {}, now() + seconds
  repeat
    start = now()
    for _ = 1, batch do f() end
    per[#per + 1] = (now() - start) / batch
  until now() > stop and #per >= 3
  table.sort(per)
  return per[(#per + 1) // 2] * 1e6
end

return M
