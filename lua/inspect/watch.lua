-- SPDX-License-Identifier: MIT
-- inspect.watch: what flows through a net while it trains, step by step: activations, gradients, updates.
--
-- It listens to the calls of the net's layers.  A step is a call of the net that is recorded for backward; its
-- gradients and its update are read when the next call begins, or when the history is asked for.
local native = require "nablua.native"
local nb = require "nablua.core"
local calls = require "nablua.inspect.calls"
local measure = require "nablua.inspect.measure"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local text = require "nablua.inspect.text"

local watch = {}

local Watch = {}
local watches = setmetatable({}, { __mode = "k" })  -- watch → its state

local function has_children(m)
  for path in m:named_modules() do
    if path ~= "" then return true end
  end
  return false
end

local function parameters_now(net)
  local list = {}
  for path, p in net:named_parameters() do
    list[path] = nb.no_grad(function() return p:detach():clone() end)
  end
  return list
end

-- Ends the step under way: the gradients that arrived at its layers, and how far the parameters moved.
local function finish(state)
  local step = state.step
  if not step then return end
  state.step = nil
  for _, layer in ipairs(step.layers) do
    local y = layer.output
    layer.output = nil
    local ok, g = pcall(function() return y.grad end)
    layer.grad = ok and g and measure.rms(g) or nil
  end
  for path, p in state.net:named_parameters() do
    local before = step.before[path]
    if before then
      local size = measure.rms(before)
      local moved = nb.no_grad(function() return measure.rms(p:detach() - before) end)
      step.updates[path] = size > 0 and moved / size or moved > 0 and math.huge or 0
    end
  end
  step.before = nil
  state.history[#state.history + 1] = step
end

local function begin(state)
  finish(state)
  state.step = { layers = {}, updates = {}, before = parameters_now(state.net), number = #state.history + 1 }
end

local function on_call(state, m, enters, value)
  if m == state.net and enters then
    state.inside = nb.grad_enabled() and m.training and (state.inside or 0) + 1 or nil
    if state.inside == 1 then begin(state) end
    return
  end
  if m == state.net then
    state.inside = state.inside and state.inside > 1 and state.inside - 1 or nil
    if state.step and state.leaf[m] == nil then return end
  end
  local path = state.leaf[m]
  if enters or not path or not state.step or not nb.is_tensor(value) or value.is_leaf then return end
  local layer = measure.output(m:kind(), value)
  layer.path, layer.kind, layer.output = path, m:kind(), value:retain_grad()
  table.insert(state.step.layers, layer)
end

local meta = { __name = "watch" }
function meta.__index(self, key)
  if key == "history" then
    finish(watches[self])
    return watches[self].history
  end
  return Watch[key]
end

-- Stops listening; the history stays.
function Watch:detach()
  local state = watches[self]
  calls.stop(state.listener)
  finish(state)
  return self
end

-- One number of every layer over the steps: curves{ ["1"] = {...} } of "grad", "std", "mean", "saturated".
function Watch:curves(what)
  local curves = {}
  for i, step in ipairs(self.history) do
    for _, layer in ipairs(step.layers) do
      curves[layer.path] = curves[layer.path] or {}
      curves[layer.path][i] = layer[what] or 0
    end
  end
  return curves
end

function watch.watch(net)
  if not module.is(net) then native.raise("inspect.watch: needs a net, got " .. options.describe(net)) end
  local self = setmetatable({}, meta)
  local state = { net = net, history = {}, leaf = {} }
  for path, m in net:named_modules() do
    if not has_children(m) then state.leaf[m] = path == "" and "net" or path end
  end
  state.listener = function(m, enters, value) on_call(state, m, enters, value) end
  watches[self] = state
  calls.listen(state.listener)
  return self
end

-- A curve in one line; on a logarithmic scale, since what vanishes does so by factors.
local function sparkline(list, columns)
  local logs, low, high = {}, math.huge, -math.huge
  for i, v in ipairs(list) do
    logs[i] = v > 0 and math.log(v, 10) or false
    if logs[i] then low, high = math.min(low, logs[i]), math.max(high, logs[i]) end
  end
  local stride, parts = math.max(1, #list / columns), {}
  for k = 0, math.min(columns, #list) - 1 do
    local v = logs[math.floor(k * stride) + 1]
    local level = v and high - low > 0.05 and (v - low) / (high - low) or 0.5
    parts[#parts + 1] = not v and " " or utf8.char(0x2581 + math.min(7, math.floor(level * 7.999)))
  end
  return table.concat(parts)
end

local function form(self, settings)
  local history = self.history
  if #history == 0 then return "nothing seen yet: train the net, then look again" end
  local paint = text.painter(settings)
  local columns = math.max(8, math.min(40, (settings.width or 80) - 56))
  local rows = { { "layer", "kind", "std", "|∂J/∂a|", "first → last step", "notes" } }
  local grads = self:curves("grad")
  local final = history[#history]
  for _, layer in ipairs(final.layers) do
    local notes = {}
    if layer.saturated and layer.saturated > 0.5 then notes[1] = ("%d%% saturated"):format(layer.saturated * 100) end
    if #layer.dead > 0 then notes[#notes + 1] = ("%d of %d units off"):format(#layer.dead, layer.units) end
    if layer.bad > 0 then notes[#notes + 1] = layer.bad .. " not finite" end
    rows[#rows + 1] = { layer.path, layer.kind, text.number(layer.std), layer.grad and text.number(layer.grad) or "–",
      sparkline(grads[layer.path] or {}, columns), table.concat(notes, ", ") }
  end
  local lines = text.columns(rows, { "left", "left", "right", "right" })
  lines[1] = paint("dim", lines[1])
  table.insert(lines, 1, paint("bold", ("watched %d steps"):format(#history)))
  local updates = {}
  for path, ratio in pairs(final.updates) do updates[#updates + 1] = { path, ratio } end
  table.sort(updates, function(a, b) return a[1] < b[1] end)
  for i, u in ipairs(updates) do updates[i] = u[1] .. " " .. text.number(u[2]) end
  local line = "last update, |Δw|/|w|: " .. table.concat(updates, "   ")
  for _, l in ipairs(text.wrap(line, math.max(settings.width or 80, 20))) do lines[#lines + 1] = l end
  return table.concat(lines, "\n")
end

text.shown(meta, form, function(self, settings)
  return { ["text/html"] = "<pre>" .. text.escape(form(self, { width = settings.width or 100 })) .. "</pre>" }
end)

return watch
