-- SPDX-License-Identifier: MIT
-- Rules that take steps: the learning rate, and whether a batch can be learned at all.
local native = require "nablua.native"
local nb = require "nablua.core"
local patient = require "nablua.inspect.patient"
local measure = require "nablua.inspect.measure"
local text = require "nablua.inspect.text"

local number = text.number

local function look_at_large_steps(p, report)
  if not p.opt or not p.backward or p.found > 0 then return end
  local list, most, where = patient.losses_of(p)
  if not list then return end
  local final = list[#list]
  local grew = final ~= final or final == math.huge or final > 1.5 * math.max(p.value, 1e-12)
  if not grew and (most <= 1 or p.value > 0 and final < 0.5 * p.value) then return end
  local lr = p.opt.lr
  for _ = 1, 8 do
    lr = lr / 10
    local l, m = patient.losses_of(p, lr)
    local f = l and l[#l]
    if f and f == f and f <= p.value and m <= 0.3 then break end
  end
  report("opt", ("after %d steps with lr = %s the loss is %s, from %s; %s moved by %s of its size in the first step")
    :format(p.steps, number(p.opt.lr), number(final), number(p.value), where or "a weight", number(most)),
    ("opt.lr = %g"):format(lr))
end

local TINY = 1e-6  -- of a weight's size: steps so small need a million

local function look_at_small_steps(p, report)
  if not p.opt or not p.backward or p.found > 0 or p.opt.lr == nil then return end
  if p.opt.lr == 0 then
    report("opt", "the optimizer's lr is 0: no step moves anything", "opt.lr = 1e-3")
    return
  end
  local list, most = patient.losses_of(p, nil, 5)
  if not list or #list < 6 or most >= TINY then return end
  if math.abs(list[#list] - p.value) > 1e-4 * math.abs(p.value) then return end
  report("opt", ("a step with lr = %s moves no weight by more than %s of its size, and in 5 steps the loss went " ..
    "from %s to %s"):format(number(p.opt.lr), number(most), number(p.value), number(list[#list])),
    most > 0 and ("opt.lr = %.0e"):format(p.opt.lr * 1e-3 / most) or "opt.lr = 1e-3")
end

-- The share of each weight that decay takes away in a step.
local DECOUPLED = { SGD = true, AdamW = true, NAdamW = true }

local function look_at_decay(p, report)
  if not p.opt or p.found > 0 or type(p.opt.groups) ~= "table" then return end
  for k, group in ipairs(p.opt.groups) do
    local decay, lr = tonumber(group.weight_decay) or tonumber(p.opt.weight_decay) or 0,
      tonumber(group.lr) or tonumber(p.opt.lr) or 0
    local name = tostring((getmetatable(p.opt) or {}).__name)
    local plain = DECOUPLED[name]
    if plain and lr * decay > 5e-3 or not plain and decay > 0.3 then
      report("opt", ("weight_decay = %s with lr = %s takes %s of each weight away in a step, whatever the data say")
        :format(number(decay), number(lr), plain and number(lr * decay) or "most"), #p.opt.groups == 1 and
        "opt.weight_decay = 1e-4" or ("opt.groups[%d].weight_decay = 1e-4"):format(k))
      return
    end
  end
end

-- ---- one batch ----

local FEW = 16          -- samples that any net can learn by heart
local STEPS, SECONDS = 300, 2  -- at each rate
local ENOUGH = 0.8      -- of what the loss was above the best there is

-- Which share of a cross-entropy is left where the net says the targets themselves, whatever the loss sums or adds.
local function share_left(p)
  if p.kind ~= "BCELoss" and p.kind ~= "BCEWithLogitsLoss" or not nb.is_tensor(p.logits) then return 0 end
  local q, z = p.targets:detach():to("f64"):clamp(1e-9, 1 - 1e-9), p.logits:detach():to("f64")
  if p.kind == "BCEWithLogitsLoss" then z = z:sigmoid() end
  z = z:clamp(1e-9, 1 - 1e-9)
  local least = (q * q:log() + (1 - q) * (1 - q):log()):mean():item()
  local now = (q * z:log() + (1 - q) * (1 - z):log()):mean():item()
  return now < 0 and math.min(least / now, 1) or 0
end

-- The smallest loss that some steps of Adam on a few samples reach, that of the start, and the least there is; nil
-- where time was too short.
local function learned(p, x, y, lr)
  local optim = require "nablua.optim"
  local before = p.net:state()
  local opt = optim.Adam(p.net:parameters(), { lr = lr })
  local began, first, best, least = native.clock(), nil, math.huge, nil
  local fine, short = pcall(function()
    for k = 1, STEPS do
      opt:zero_grad()
      local J = p.loss(p.net(x), y)
      local v = J:item()
      first = first or v
      least = p.left * first
      if v < best then best = v end
      if best - least < 0.5 * (first - least) then return false end
      J:backward()
      opt:step()
      if native.clock() - began > SECONDS then return k < STEPS / 4 end
    end
    return false
  end)
  p.net:load_state(before)
  if not fine or short then return nil end
  return best, first, least
end

local function without_dropout(net, f)
  local kept = {}
  for _, m in net:named_modules() do
    if m:kind():find("Dropout", 1, true) then
      kept[m] = rawget(m, "training")
      m:eval()
    end
  end
  local results = table.pack(f())
  for m, mode in pairs(kept) do rawset(m, "training", mode) end
  return table.unpack(results, 1, results.n)
end

local function constant_output(p)
  local output = p.output
  if not nb.is_tensor(output) or output:dim() == 0 or #output < 2 or #output ~= #p.x then return false end
  local o = output:detach():to("f64")
  return (o - o[{ { 1, 1 } }]):abs():max():item() <= 1e-6 * math.max(measure.rms(o), 1e-12)
end

local function look_at_one_batch(p, report)
  if not p.backward or p.found > 0 or patient.is_judged(p) then return end  -- a judge need not be won over
  local few = math.min(FEW, #p.x)
  local x, y = p.x, p.y
  if #p.x == #p.y then x, y = x[{ { 1, few } }], y[{ { 1, few } }] end
  p.left = share_left(p)
  local reached, at = math.huge, nil
  local stops = false
  without_dropout(p.net, function()
    for _, lr in ipairs { 3e-3, 3e-2, 0.1, 3e-4 } do
      local best, first, least = learned(p, x, y, lr)
      if not best then
        stops = true
        return
      end
      reached, at = math.min(reached, best), first
      if first <= 0.05 or best - least < ENOUGH * (first - least) then
        stops = true
        return
      end
    end
  end)
  if stops then return end
  local constant = constant_output(p)
  report("net", ("%d samples could not be learned by heart: in %d steps of Adam the loss went from %s to %s at best%s")
    :format(#x, STEPS, number(at), number(reached), constant and "; the net gives all of them the same output" or ""),
    ("print(inspect.step(net, %s, %s, {loss=loss}))"):format(p.names.x, p.names.y))
end

return function(rule, deep)
  rule("learning rate too large", look_at_large_steps)
  deep("learning rate too small", look_at_small_steps)
  deep("weight decay too large", look_at_decay)
  deep("cannot learn one batch", look_at_one_batch)
end
