-- SPDX-License-Identifier: MIT
-- inspect.stop: a training that stops where something happens on the tape, in the frame that made the node.
--
-- While stops are armed C tells of every operator that is applied and of every backward rule (binding/stops.c).  A stop
-- pauses what runs where there is somebody to ask.  Elsewhere it is an error whose value says what happened; the frames
-- that it holds are those that stood when the operator was applied.  Those of nodes that a backward may still visit are
-- kept, the latest of them.
local native = require "nablua.native"
local nb = require "nablua.core"
local frames = require "nablua.frames"
local measure = require "nablua.inspect.measure"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local own = require "nablua.operator"
local registry = require "nablua.registry"

local stop = {}

local MOST = 4000  -- nodes whose frames are kept

local Stop = {}                                    -- methods
local armed = {}                                  -- in the order they were set
local params = {  -- what they mean stands in lua/inspect.lua
  { name = "op", type = "any", optional = true }, { name = "layer", type = "any", optional = true },
  { name = "phase", choices = { "forward", "backward" }, optional = true },
  { name = "when", type = "any", optional = true }, { name = "loss", type = "any", optional = true },
}

local function fail(format, ...)
  native.raise("inspect.stop: " .. format:format(...))
end

-- ---- conditions ----

local compare = {
  [">"] = function(a, b) return a > b end, ["<"] = function(a, b) return a < b end,
  [">="] = function(a, b) return a >= b end, ["<="] = function(a, b) return a <= b end,
}

local function holds(list, what)
  for _, t in pairs(list) do
    if nb.is_tensor(t) and (t.dtype == "f32" or t.dtype == "f64") then
      local found = what == "nan" and t:ne(t) or what == "inf" and t:abs():eq(math.huge)
      if found:any():item() then return true end
    end
  end
  return false
end

-- The tensors that a word of a condition means.
local function tensors_of(e, word)
  if word == "output" then return e.outputs or {} end
  if word == "input" then return e.inputs end
  if word == "grad" then return { e.grad_in } end
  return e.given or {}
end

local function not_finite(what)
  return function(e)
    if not holds(e.phase == "backward" and e.given or e.outputs, what) then return false end
    return true, what == "nan" and "NaN" or "infinite"
  end
end

local function size_of(word, sign, limit)
  return function(e)
    for _, t in pairs(tensors_of(e, word)) do
      local size = nb.is_tensor(t) and t:numel() > 0 and measure.rms(t)
      if size and compare[sign](size, limit) then return true, ("|%s| = %.4g"):format(word, size) end
    end
  end
end

local function element_of(word, sign, limit)
  local most = sign:sub(1, 1) == ">"
  return function(e)
    for _, t in pairs(tensors_of(e, word)) do
      if nb.is_tensor(t) and t:numel() > 0 and t.dtype ~= "bool" then
        local v = (most and t:max() or t:min()):item()
        if compare[sign](v, limit) then return true, ("an element of the %s is %.4g"):format(word, v) end
      end
    end
  end
end

local words = { output = "forward", input = "forward", grad = "backward", given = "backward" }

-- f(e) of a condition, which returns whether it holds and why; and the phase that it is about, or "both".
local function read_when(when)
  if when == nil then return function() return true end, "forward" end
  if options.is_callable(when) then
    return function(e)
      local result = when(e)
      if nb.is_tensor(result) then result = result:item() ~= 0 and result:item() ~= false end
      return result, "when(e) is true"
    end, "forward"
  end
  if when == "nan" or when == "inf" then return not_finite(when), "both" end
  local text = type(when) == "string" and when or ""
  local bar, word, sign, number = text:match "^%s*(|?)(%a+)|?%s*([<>]=?)%s*(%S+)%s*$"
  if not word or not words[word] or not tonumber(number) then
    fail("when must be a function, \"nan\", \"inf\", or a comparison such as \"|grad| < 1e-6\" or \"output > 5\" of " ..
      "output, input, grad or given, got %s", options.describe(when))
  end
  return (bar == "|" and size_of or element_of)(word, sign, tonumber(number)), words[word]
end

local function read_loss(loss)
  if loss == nil then return nil end
  if options.is_callable(loss) then return function(v) return loss(v) end end
  if loss == "nan" then return function(v) return v ~= v end end
  local sign, number = (type(loss) == "string" and loss or ""):match "^%s*([<>]=?)%s*(%S+)%s*$"
  if not sign or not tonumber(number) then
    fail("loss must be \"nan\", a comparison such as \"> 10\", or a function of it, got %s", options.describe(loss))
  end
  local limit = tonumber(number)
  return function(v) return compare[sign](v, limit) end
end

local function read_ops(op)
  if op == nil then return nil end
  local ops = {}
  for _, name in ipairs(type(op) == "table" and op or { op }) do
    if type(name) ~= "string" or not (own[name] or registry.row(name)) then
      fail("there is no operator %s", options.describe(name))
    end
    ops[name] = true
  end
  return ops
end

-- ---- what happened ----

local Event = { __name = "stop" }

local late = {
  site = function(e) return e.source and ("%s:%d"):format(e.source, e.line) or "?" end,
  output = function(e) return e.outputs and e.outputs[1] or nil end,
  grad_in = function(e) return e.grads and e.grads[1] or nil end,
  locals = function(e)
    local frame, values = e.frames and e.frames[1], {}
    for _, name in ipairs(frame and frame.names or {}) do values[name] = frames.value(frame, name) end
    return values
  end,
}

function Event.__index(e, key)
  if not late[key] then return nil end
  local value = late[key](e)
  rawset(e, key, value)
  return value
end

function Event.__tostring(e)
  local parts = { e.phase }
  if rawget(e, "layer") then table.insert(parts, 1, "layer " .. e.layer) end
  if rawget(e, "step") then parts[#parts + 1] = ("step %d%s"):format(e.step, e.run and " of " .. e.run or "") end
  return ("inspect.stop: stopped at %s (%s), %s at %s: %s"):format(e.op, table.concat(parts, ", "),
    e.phase == "forward" and "applied" or "which was applied", e.site, e.why)
end

-- ---- listening ----

local made = {}            -- node's number → what is kept of its making
local order, first, latest = {}, 1, 0  -- their numbers as they came, at `first` to `latest`
local last_visited         -- within a walk numbers fall

local function remember(e, list)
  local kept = { layer = e.layer, modules = e.modules, frames = list, loss = nil }
  local out = e.outputs[1]
  if out and out:numel() == 1 then kept.loss = out end
  made[e.order] = kept
  latest = latest + 1
  order[latest] = e.order
  if latest - first < MOST then return end
  made[order[first]], order[first] = nil, nil
  first = first + 1
end

local function is_in_layer(s, e)
  if s.layer == nil then return true end
  if module.is(s.layer) then
    for _, m in ipairs(e.modules or {}) do
      if m == s.layer then return true end
    end
    return false
  end
  local path = e.layer
  return path ~= nil and (path == s.layer or path:sub(1, #s.layer + 1) == s.layer .. ".")
end

local function raise(s, e, why)
  s.hits = s.hits + 1
  e.why, e.stop = why or s.text, s
  setmetatable(e, Event)
  local kept = e.frames
  if not kept then e.frames = frames.capture() end
  if native.pause_here and native.pause_here("stop", tostring(e), kept, { e = e }) then return end
  error(e, 0)
end

local function ask(s, e)
  if s.wanted and s.wanted ~= e.phase or s.ops and not s.ops[e.op] or not is_in_layer(s, e) then return end
  local yes, why = nb.no_grad(s.condition, e)
  if yes then raise(s, e, why) end
end

-- Conditions may draw random numbers; who is looked at does not notice.
local function look(e, loss)
  local seed, counter = native.random_state()
  local _ <close> = native.undoing(function() native.random_state(seed, counter) end)
  setmetatable(e, Event)
  for _, s in ipairs(armed) do
    if s.loss_condition then
      if loss ~= nil and s.loss_condition(loss) then
        e.loss = loss
        raise(s, e, ("the loss is %.6g"):format(loss))
      end
    else
      ask(s, e)
    end
  end
end

local needs_frames = false

local function on_event(e)
  if native.stops_muted then return end  -- a run looks, or repairs
  e.step, e.run = native.run_step, native.run_name
  if e.outputs then
    e.phase = "forward"
    if #e.modules > 0 then e.layer = module.path(e.modules) end
    local inputs = {}
    for place, input in pairs(e.inputs) do inputs[place] = input.value end
    e.inputs = inputs
    if e.order and needs_frames then remember(e, frames.capture()) end
    return look(e)
  end
  e.phase = "backward"
  local begins = not last_visited or e.order >= last_visited
  last_visited = e.order
  local kept, loss = made[e.order], nil
  if kept then
    e.layer, e.modules, e.frames = kept.layer, kept.modules, kept.frames
    loss = begins and kept.loss and nb.no_grad(function() return kept.loss:item() end) or nil
    made[e.order] = nil
  end
  return look(e, loss)
end

local function rearm(list)
  armed = list
  needs_frames = false
  for _, s in ipairs(list) do needs_frames = needs_frames or s.loss_condition ~= nil or s.wanted ~= "forward" end
  if not needs_frames then made, order, first, latest = {}, {}, 1, 0 end
  last_visited = nil
  native.stops(#list > 0 and on_event or nil)
end

-- ---- stops ----

local meta = { __name = "stop", __index = Stop, methods = Stop }

local function text_of(o)
  local parts = {}
  for _, p in ipairs(params) do
    local value = o[p.name]
    if module.is(value) then value = value:kind() end
    if value ~= nil then
      parts[#parts + 1] = ("%s=%s"):format(p.name, options.is_callable(value) and "function" or options.show(value))
    end
  end
  return ("inspect.stop{%s}"):format(table.concat(parts, ", "))
end

function meta:__tostring()
  return ("%s, %s"):format(self.text, self.hits == 0 and "no hit" or self.hits == 1 and "one hit" or
    self.hits .. " hits")
end

Stop.remove = registry.add {
  name = "stop:remove", kind = "method", family = "Runs", signature = "s:remove()",
  see = { "inspect.stop", "inspect.stops" }, doc = "Ends a stop; without stops nothing is looked at.",
  example = "local s = inspect.stop{when=\"nan\"}; s:remove(); return #inspect.stops()  --> 0",
  value = function(self)
    local list = {}
    for _, s in ipairs(armed) do
      if s ~= self then list[#list + 1] = s end
    end
    rearm(list)
  end,
}

function stop.stop(given)
  local o = options.check("inspect.stop", params, given)
  if next(o) == nil then fail "needs at least one of op, layer, phase, when and loss: inspect.stop{when=\"nan\"}" end
  if o.layer ~= nil and not module.is(o.layer) and type(o.layer) ~= "string" then
    fail("layer must be a path such as \"3\", or a module, got %s", options.describe(o.layer))
  end
  if o.loss ~= nil and next(o, next(o)) ~= nil then
    fail "loss= is a condition of its own; set another stop for what else is to be looked at"
  end
  local condition, phase = read_when(o.when)
  local self = setmetatable({ op = o.op, layer = o.layer, phase = o.phase, when = o.when, loss = o.loss,
    ops = read_ops(o.op), condition = condition, loss_condition = read_loss(o.loss),
    wanted = o.phase or phase ~= "both" and phase or nil, text = text_of(o), hits = 0 }, meta)
  local list = table.move(armed, 1, #armed, 1, {})
  list[#list + 1] = self
  rearm(list)
  return self
end

local List = { __name = "stops" }
function List.__tostring(list)
  local lines = {}
  for i, s in ipairs(list) do lines[i] = tostring(s) end
  return #lines > 0 and table.concat(lines, "\n") or "no stops are set"
end

function stop.stops()
  return setmetatable(table.move(armed, 1, #armed, 1, {}), List)
end

return stop
