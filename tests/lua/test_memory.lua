-- SPDX-License-Identifier: MIT
-- A training loop without manual freeing runs in flat memory.
local lu = require "luaunit"
local nb = require "nablua"

local T = {}

-- Resident set in MB; nil where the system does not tell.
local function rss()
  local f = io.open("/proc/self/status")
  local text = f and f:read("a")
  if f then f:close() end
  return text and tonumber(text:match("VmRSS:%s*(%d+)")) / 1024
end

function T.test_200000_steps_of_xor_keep_the_memory_of_1000()
  nb.seed(3)
  local x = nb.tensor { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }
  local y = nb.tensor { { 0 }, { 1 }, { 1 }, { 0 } }
  local w1, b1 = nb.randn(2, 4, { requires_grad = true }), nb.zeros(4, { requires_grad = true })
  local w2, b2 = nb.randn(4, 1, { requires_grad = true }), nb.zeros(1, { requires_grad = true })
  local parameters = { w1, b1, w2, b2 }
  local J
  local function step()
    local a = (x:matmul(w1) + b1):sigmoid()
    J = ((a:matmul(w2) + b2):sigmoid() - y):square():mean()
    J:backward()
    nb.no_grad(function()
      for _, w in ipairs(parameters) do
        w:sub_(w.grad * 2)
        w.grad = nil
      end
    end)
  end
  -- Under a sanitizer freed blocks are not reused, so the resident set says nothing.
  step()
  collectgarbage()
  local sanitized = nb.memory().cached == 0
  local steps = sanitized and 20000 or 200000
  for _ = 1, 1000 do step() end
  local first_rss, first_live = rss(), nb.memory().live
  for _ = 1001, steps do step() end
  lu.assertTrue(J:item() < 0.01, "XOR was not learned: J = " .. J:item())
  lu.assertTrue(nb.memory().live - first_live < 20e6)
  if first_rss and not sanitized then lu.assertTrue(rss() - first_rss < 20) end
end

function T.test_6000_temporaries_of_1_MB_peak_under_100_MB()
  local t = nb.ones(512, 512)
  collectgarbage()
  nb.memory { reset_peak = true }
  for _ = 1, 6000 do local _ = t + 1 end
  lu.assertTrue(nb.memory().peak < 100e6)
end

return T
