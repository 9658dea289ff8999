-- SPDX-License-Identifier: MIT
-- inspect.watch: what flows through a net while it trains, step by step: activations, gradients, updates.
--
-- The history is bounded: where it is full every other step goes, again and again, and the last one stays.
--
-- It listens to the calls of the net's layers for as long as somebody holds it.  A step is a call of the net that is
-- recorded for backward; the gradients of its outputs and its update are read when the next call begins, or when the
-- history is asked for, those of its parameters when they arrive: the next step may clear them first.
local native = require "nablua.native"
local nb = require "nablua.core"
local calls = require "nablua.inspect.calls"
local curves = require "nablua.plot.curves"
local figure = require "nablua.plot.figure"
local measure = require "nablua.inspect.measure"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local style = require "nablua.plot.style"
local terminal = require "nablua.plot.terminal"
local text = require "nablua.inspect.text"

local watch = {}

local Watch = {}
local watches = setmetatable({}, { __mode = "k" })  -- watch → its state

-- Copies of the parameters as they are now, in the tensors that held them at the step before.
local function remember(state)
  nb.no_grad(function()
    for path, p in state.net:named_parameters() do
      local old = state.before[path]
      if old and old.dtype == p.dtype and options.shape(old) == options.shape(p) then
        old:copy_(p)
      else
        state.before[path] = p:detach():clone()
      end
    end
  end)
end

local function remove_hooks(state)
  for _, hook in pairs(state.hooks) do hook:remove() end
  state.hooks = {}
end

-- Hooks on parameters that have none yet: what p.grad comes to, in every backward of a step.  The watch may be
-- collected in the middle of this.
local function follow_parameters(state)
  for path, p in state.net:named_parameters() do
    local id = native.id(p)
    if p.requires_grad and not state.hooks[id] then
      state.hooks[id] = p:register_hook(function(g)
        if state.step and native.depositing() then state.step.gradients[path] = measure.rms(g, p.grad) end
      end)
    end
  end
  if state.stopped then remove_hooks(state) end
end


local MOST = 2000  -- steps in the history

-- Adds the step in the place of a last one that is not among those to keep; a full history is thinned out.
local function keep(state, step)
  local history = state.history
  local last = history[#history]
  local between = last and (last.number - 1) % (state.every * state.stride) ~= 0
  history[#history + (between and 0 or 1)] = step
  if #history < MOST then return end
  state.stride = 2 * state.stride
  local n = 0
  for i, s in ipairs(table.move(history, 1, #history, 1, {})) do
    history[i] = nil
    if i == MOST or (s.number - 1) % (state.every * state.stride) == 0 then
      n = n + 1
      history[n] = s
    end
  end
end

local SAMPLE = 1000  -- numbers of an output, or of its gradient, that a ridge is drawn from

local function sample(t)
  local stride = math.max(1, t:numel() // SAMPLE)
  return nb.no_grad(function()
    return t:detach():flatten()[{ { 1, t:numel(), stride } }]:clone()
  end)
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
    local weight = state.weight[layer.path]
    layer.weight_grad = weight and step.gradients[weight]
    state.samples[layer.path] = { activations = y:numel() > 0 and sample(y) or nil,
      gradients = ok and g and g:numel() > 0 and nb.no_grad(function() return sample(g):abs() end) or nil }
  end
  for path, p in state.net:named_parameters() do
    local before = state.before[path]
    if before then
      local size, moved = measure.rms(before), measure.rms(p, before, -1)
      step.updates[path] = size > 0 and moved / size or moved > 0 and math.huge or 0
    end
  end
  keep(state, step)
end

local function begin(state)
  finish(state)
  state.seen = state.seen + 1
  if (state.seen - 1) % state.every ~= 0 then return remove_hooks(state) end
  follow_parameters(state)
  remember(state)
  state.step = { layers = {}, updates = {}, gradients = {}, number = state.seen }
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

local function stop(state)
  state.stopped = true
  calls.stop(state.listener)
  remove_hooks(state)
end

-- The hooks are the parameters', and hold the state: nobody else ends a watch that is garbage.
function meta:__gc()
  local state = watches[self]
  if state then stop(state) end
end

-- Stops listening; the history stays.
function Watch:detach()
  local state = watches[self]
  stop(state)
  finish(state)
  return self
end

-- One number of every layer over the steps: { ["1"] = {...} } of "weight_grad", "grad", "std", "mean", "saturated".
function Watch:series(what)
  local list = {}
  for i, step in ipairs(self.history) do
    for _, layer in ipairs(step.layers) do
      local series = list[layer.path] or {}
      while #series < i do series[#series + 1] = 0 / 0 end
      series[i] = layer[what] or series[i]
      list[layer.path] = series
    end
  end
  return list
end

-- ---- pictures ----

local QUANTITIES = { weight_grad = "|∂J/∂W|", grad = "|∂J/∂a|", std = "spread of outputs", mean = "mean of outputs",
  saturated = "share of saturated units" }
local LOGARITHMIC = { weight_grad = true, grad = true, std = true }

-- The layers that have something, in the order of their calls, coloured by depth: { name=, y=, color= }.
local function by_depth(self, of)
  local list, seen = {}, {}
  local history = self.history
  for _, layer in ipairs(#history > 0 and history[#history].layers or {}) do
    local y = not seen[layer.path] and of(layer.path)
    seen[layer.path] = true
    if y then list[#list + 1] = { name = layer.path .. " " .. layer.kind, y = y } end
  end
  for i, s in ipairs(list) do s.color = style.depth(i, #list) end
  return list
end

local function curves_scene(self, o)
  local numbers = self:series(o.what)
  local list = by_depth(self, function(path)
    for _, v in ipairs(numbers[path]) do
      if v == v then return nb.tensor(numbers[path], { dtype = "f64" }) end
    end
  end)
  if watches[self].every * watches[self].stride > 1 then
    local steps = {}
    for i, step in ipairs(self.history) do steps[i] = step.number end
    for _, s in ipairs(list) do s.x = nb.tensor(table.move(steps, 1, s.y:numel(), 1, {}), { dtype = "f64" }) end
  end
  local logy = o.logy
  if logy == nil then logy = LOGARITHMIC[o.what] end
  return curves.curve.scene { data = list, options = { logy = logy, xlabel = o.xlabel or "step",
    title = o.title or QUANTITIES[o.what] .. " by layer" } }
end

local RIDGES = 64

local function ridge_scene(self, o)
  local samples, gradients = watches[self].samples, o.what == "gradients"
  local list = by_depth(self, function(path)
    local t = samples[path] and samples[path][o.what]
    return t and t:to("f64")
  end)
  return curves.ridgeline.scene { data = table.move(list, 1, math.min(#list, RIDGES), 1, {}),
    options = { logx = gradients,
      title = o.title or (gradients and "|∂J/∂a|" or "activations") .. " of the last step" } }
end

local function is_watch(where, w)
  if not watches[w] then native.raise(where .. ": needs a watch, got " .. options.describe(w)) end
end

local EXAMPLE = [[
local net = nn.Sequential{ nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1) }
local w = inspect.watch(net)
net(nb.ones(4, 2)):sum():backward()
return ]]

local function picture(name, spec)
  spec.update = function() end  -- drawn from what the watch holds then
  spec.read = function(o) is_watch("w:" .. name, o.watch) end
  local draw = spec.draw
  spec.scene = function(self) return draw(self.options.watch, self.options) end
  table.insert(spec.params, 1, { name = "watch", type = "any", doc = "the watch itself" })
  figure.define(Watch, "w:", name, spec)
end

picture("curves", {
  doc = "A number of every layer over the steps, one colour scale by depth: the sizes (root mean squares) of " ..
    "∂J/∂W as \"weight_grad\" or ∂J/∂a as \"grad\", or \"std\", \"mean\", \"saturated\" of the outputs.  p:update() " ..
    "in the loop redraws it while the net trains.",
  signature = "w:curves([what], {title=, logy=, width=, height=})", see = { "inspect.watch", "p:update" },
  params = { { name = "what", type = "string", default = "weight_grad", positional = true,
    choices = { "weight_grad", "grad", "std", "mean", "saturated" } },
    { name = "logy", type = "boolean", optional = true, doc = "logarithmic y axis; for sizes without saying so" } },
  common = { "title", "xlabel", "width", "height" },
  example = EXAMPLE .. "w:detach():curves(\"grad\").kind  --> \"curves\"", draw = curves_scene,
})

picture("ridgeline", {
  doc = "The distribution of every layer's \"activations\" in the last step, or of the \"gradients\" |∂J/∂a| that " ..
    "arrived there, one above another.",
  signature = "w:ridgeline([what], {title=, width=, height=})", see = { "inspect.watch", "plot.ridgeline" },
  params = { { name = "what", type = "string", default = "activations", positional = true,
    choices = { "activations", "gradients" } } },
  example = EXAMPLE .. "w:detach():ridgeline().kind  --> \"ridgeline\"", draw = ridge_scene,
})

-- Both beside each other.
local function scene(self)
  local left, right = curves_scene(self, { what = "weight_grad" }), ridge_scene(self, { what = "activations" })
  return { panels = { left.panels[1], right.panels[1] }, columns = 2, width = style.page,
    height = math.max(380, math.min(1.1 * right.height, 1200)) }
end

local params = { { name = "every", type = "size", default = 1 } }

function watch.watch(net, given)
  local o = options.check("inspect.watch", params, given)
  if not module.is(net) then native.raise("inspect.watch: needs a net, got " .. options.describe(net)) end
  local self = setmetatable({}, meta)
  local state = { net = net, every = o.every, stride = 1, seen = 0, history = {}, before = {}, leaf = {}, weight = {},
    samples = {}, hooks = {} }
  for path, m in net:named_modules() do
    if not module.has_children(m) then state.leaf[m] = path == "" and "net" or path end
  end
  for path, p in net:named_parameters() do
    local layer = path:match("^(.*)%.[^.]*$") or "net"
    if not state.weight[layer] or path:find("weight$") and p:dim() > 1 then state.weight[layer] = path end
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

-- How many steps the history has, and of how many where it was thinned out.
local function how_many(self)
  local state = watches[self]
  local all = ("watched %d steps"):format(#state.history)
  if state.stride == 1 then return all end
  local watched = (state.history[#state.history].number - 1) // state.every + 1
  return ("watched %d steps, of which the history holds %d, one in %d"):format(watched, #state.history, state.stride)
end

local function form(self, settings)
  local history = self.history
  if #history == 0 then return "nothing seen yet: train the net, then look again" end
  local paint = text.painter(settings)
  local columns = math.max(8, math.min(40, (settings.width or 80) - 56))
  local rows = { { "layer", "kind", "std", "|∂J/∂a|", "first → last step", "notes" } }
  local grads = self:series("grad")
  local final = history[#history]
  if #final.layers == 0 then
    return ("%s, and no layer computed anything from parameters"):format(how_many(self))
  end
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
  table.insert(lines, 1, paint("bold", how_many(self)))
  local updates = {}
  for path in watches[self].net:named_parameters() do
    local ratio = final.updates[path]
    if ratio then updates[#updates + 1] = path .. " " .. text.number(ratio) end
  end
  local line = "last update, |Δw|/|w|: " .. table.concat(updates, "   ")
  for _, l in ipairs(text.wrap(line, math.max(settings.width or 80, 20))) do lines[#lines + 1] = l end
  return table.concat(lines, "\n")
end

meta.__tostring = function(self) return form(self, { width = 100 }) end

function meta.__display(self, settings)
  local words = form(self, settings)
  if #self.history == 0 or #self.history[#self.history].layers == 0 then return { ["text/plain"] = words } end
  local bundle = { ["text/plain"] = terminal.draw(scene(self), settings) .. "\n" .. words }
  if settings.rich then
    local ok = figure.add_drawings(bundle, function(format, ground)
      return figure.draw(scene(self), format, 2, ground)
    end)
    if not ok then bundle["text/html"] = "<pre>" .. text.escape(words) .. "</pre>" end
  end
  return bundle
end

return watch
