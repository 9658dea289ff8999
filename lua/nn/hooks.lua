-- SPDX-License-Identifier: MIT
-- Hooks of modules: functions called before and after forward, and when the gradients have passed through.
--
-- The first hook gives the module a forward of its own, which calls the class's; modules without hooks pay nothing.
-- For backward hooks the inputs go in as aliases, views of their whole: an alias has a node of its own on the tape,
-- whose gradient is what came back through this module alone.  Both hooks of tensors sit on the node that made the
-- value, so a change in place of an output later, or of an input within the module, leaves them where they belong.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local registry = require "nablua.registry"

local hooks_of = setmetatable({}, { __mode = "k" })  -- module → kind → list of { f = }

local function list_of(self, kind)
  local lists = hooks_of[self]
  return lists and lists[kind] or {}
end

-- The hooks as they are now: one may remove itself, or add another.
local function each(self, kind)
  local list = list_of(self, kind)
  return ipairs(table.move(list, 1, #list, 1, {}))
end

-- The values with what a hook returned in their place, if it did.
local function replaced(values, ...)
  return (...) == nil and values or table.pack(...)
end

-- ---- backward ----

local function alias(x)
  return x:expand(x.shape)
end

local function is_tracked(v)
  return nb.is_tensor(v) and v.requires_grad
end

local function call_backward(self, grads, tracked)
  for _, hook in each(self, "backward") do
    local new = hook.f(self, grads.inputs, grads.outputs)
    if new ~= nil then
      if type(new) == "table" and not nb.is_tensor(new) then new = new[tracked[1]] end
      if #tracked ~= 1 or not nb.is_tensor(new) then
        native.raise(("%s: a backward hook may return the gradient of the input, where one input has a gradient; " ..
          "here %d have"):format(self:kind(), #tracked))
      end
      grads.inputs[tracked[1]] = new
    end
  end
  return grads.inputs[tracked[1]]
end

-- Aliases for the inputs; `grads` collects what comes back.  The first input's is visited last, and calls the hooks.
local function watch_inputs(self, inputs, grads)
  local tracked = {}
  for i = 1, inputs.n do
    if is_tracked(inputs[i]) then tracked[#tracked + 1] = i end
  end
  for k, i in ipairs(tracked) do
    inputs[i] = alias(inputs[i])
    inputs[i]:register_hook(function(g)
      grads.inputs[i] = g
      if k == 1 then return call_backward(self, grads, tracked) end
    end)
  end
  return tracked
end

local function watch_outputs(self, outputs, inputs, grads, tracked)
  for k = 1, outputs.n do
    for i = 1, inputs.n do
      if rawequal(outputs[k], inputs[i]) and nb.is_tensor(outputs[k]) then outputs[k] = alias(outputs[k]) end
    end
    if is_tracked(outputs[k]) then
      outputs[k]:register_hook(function(g)
        grads.outputs[k] = g
        if #tracked == 0 and k == 1 then call_backward(self, grads, tracked) end
      end)
    end
  end
end

-- ---- forward ----

local function hooked_forward(self, ...)
  local inputs = table.pack(...)
  for _, hook in each(self, "forward_pre") do inputs = replaced(inputs, hook.f(self, inputs)) end
  local class, watched = getmetatable(self).class, #list_of(self, "backward") > 0 and nb.grad_enabled()
  local grads, tracked
  if watched then
    grads = { inputs = { n = inputs.n }, outputs = {} }
    tracked = watch_inputs(self, inputs, grads)
  end
  local outputs = table.pack(class.forward(self, table.unpack(inputs, 1, inputs.n)))
  if watched then
    grads.outputs.n = outputs.n
    watch_outputs(self, outputs, inputs, grads, tracked)
  end
  for _, hook in each(self, "forward") do
    outputs = replaced(outputs, hook.f(self, inputs, table.unpack(outputs, 1, outputs.n)))
  end
  return table.unpack(outputs, 1, outputs.n)
end

-- ---- registering ----

local Handle = {}
Handle.__index = Handle
Handle.__name = "hook"

function Handle:__tostring()
  return self.list and ("a %s hook of %s; :remove() takes it away"):format(self.kind, self.owner:kind()) or
    "a removed hook"
end

function Handle:remove()
  native.change_hooks()
  for i, hook in ipairs(self.list or {}) do
    if hook == self then table.remove(self.list, i) end
  end
  self.list = nil
end

local function define(kind, entry)
  local name = "register_" .. kind .. "_hook"
  entry.name, entry.kind, entry.signature = "net:" .. name, "method", ("net:%s(f)"):format(name)
  entry.params = { { name = "f", type = "function" } }
  entry.value = function(self, f)
    if not module.is(self) then
      native.raise(("%s: the first argument must be a module, got %s"):format(name, options.describe(self)))
    end
    local meta = getmetatable(f)
    if type(f) ~= "function" and not (type(meta) == "table" and meta.__call) then
      native.raise(("%s: needs a function, got %s"):format(name, options.describe(f)))
    end
    hooks_of[self] = hooks_of[self] or {}
    local list = hooks_of[self][kind] or {}
    hooks_of[self][kind] = list
    rawset(self, "forward", hooked_forward)
    native.change_hooks()
    local handle = setmetatable({ f = f, list = list, owner = self, kind = kind:gsub("_", " ") }, Handle)
    list[#list + 1] = handle
    return handle
  end
  module.Module[name] = registry.add(entry)
end

define("forward_pre", {
  doc = "Calls f(module, inputs) before each forward; what f returns takes the place of the inputs.  Returns a " ..
    "handle whose :remove() takes the hook away.",
  see = { "net:register_forward_hook" },
  example = "local fc = nn.Linear(2, 2); local hook = fc:register_forward_pre_hook(function(m, inputs) " ..
    "return inputs[1] * 0 end); return (fc(nb.ones(2)) - fc.bias):abs():max()  --> 0",
})

define("forward", {
  doc = "Calls f(module, inputs, output, ...) after each forward; what f returns takes the place of the outputs.  " ..
    "Returns a handle whose :remove() takes the hook away.",
  see = { "net:register_forward_pre_hook", "net:register_backward_hook" },
  example = "local seen; local fc = nn.Linear(2, 3); fc:register_forward_hook(function(m, inputs, output) " ..
    "seen = output end); fc(nb.ones(2)); return seen.shape  --> {3}",
})

define("backward", {
  doc = "Calls f(module, grad_inputs, grad_outputs) once the gradients have passed through the module: lists of " ..
    "∂J/∂x through this module, and of ∂J/∂y, with nil for what has none.  Where one input has a gradient, f may " ..
    "return another in its place.  Returns a handle whose :remove() takes the hook away.",
  see = { "net:register_forward_hook" },
  example = "local seen; local fc = nn.Linear(2, 3); " ..
    "fc:register_backward_hook(function(m, gx, gy) seen = gy[1] end); " ..
    "fc(nb.ones(2)):sum():backward(); return seen  --> {1, 1, 1}",
})

return {}
