-- SPDX-License-Identifier: MIT
-- What must be as it was after a function however that ends: the modes of a net's modules, and more like it.
local native = require "nablua.native"

local modes = {}

local function call(restore, f, ...)
  local _ <close> = native.undoing(restore)
  return f(...)
end

local function pass(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

-- f(...) and then restore() as a whole, also after an error or an interrupt: so what restore() undoes is done in f.  An
-- error passes with its traceback; a coroutine that dies closes nothing, though, so that there it is caught and raised
-- again.
function modes.restoring(restore, f, ...)
  local _, main = coroutine.running()
  if main then return call(restore, f, ...) end
  return pass(native.protected(call, restore, f, ...))
end

-- What puts every module of a net back into the mode it is in now.
function modes.of(net)
  local before = {}
  for _, m in net:named_modules() do before[m] = rawget(m, "training") == nil and m or rawget(m, "training") end
  return function()
    for m, mode in pairs(before) do
      if mode == m then mode = nil end
      rawset(m, "training", mode)
    end
  end
end

local function call_with(net, training, f, ...)
  net:train(training)
  return f(...)
end

-- f(...) with a net in training mode, or without `training` in evaluation; then its modules are as they were.
function modes.with(net, training, f, ...)
  return modes.restoring(modes.of(net), call_with, net, training, f, ...)
end

return modes
