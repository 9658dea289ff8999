-- SPDX-License-Identifier: MIT
-- What is the same for many steps in a row, by step: only where it changes takes memory.
local log = {}
log.__index = log

function log.new()
  return setmetatable({ from = {}, value = {} }, log)
end

-- The place of the entry that holds for step k; 0 before the first.
local function place(self, k)
  local from = self.from
  local low, high = 0, #from
  if high > 0 and from[high] <= k then return high end
  while low < high do
    local middle = (low + high + 1) // 2
    if from[middle] <= k then low = middle else high = middle - 1 end
  end
  return low
end

function log:get(k)
  return self.value[place(self, k)]
end

-- From step k on; what was said of steps after it is forgotten.
function log:put(k, value)
  local n = #self.from
  if n > 0 and self.from[n] < k and self.value[n] == value then return end
  self:cut(k - 1)
  n = #self.from
  if self.value[n] == value then return end
  self.from[n + 1], self.value[n + 1] = k, value
end

-- Forgets what is after step k.
function log:cut(k)
  for i = #self.from, place(self, k) + 1, -1 do self.from[i], self.value[i] = nil, nil end
end

-- As text, "1=e;4=r;", up to step k, and back.
function log:text(k)
  local parts = {}
  for i = 1, place(self, k) do parts[i] = ("%d=%s;"):format(self.from[i], self.value[i]) end
  return table.concat(parts)
end

function log.of_text(text)
  local self = log.new()
  for k, value in text:gmatch "(%d+)=([^;]*);" do
    self.from[#self.from + 1], self.value[#self.value + 1] = math.tointeger(tonumber(k)), math.tointeger(value) or value
  end
  return self
end

-- A log of its own, up to step k.
function log:copy(k)
  local copy, n = log.new(), place(self, k)
  table.move(self.from, 1, n, 1, copy.from)
  table.move(self.value, 1, n, 1, copy.value)
  return copy
end

return log
