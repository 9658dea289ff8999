-- SPDX-License-Identifier: MIT
-- nb.compile: a function that is recorded while it runs and then replayed as one call.
--
-- The first call with arguments of a kind runs as it is; the next two are recorded and compared; if they did the
-- same on their own arguments, later calls replay the plan.  What cannot be kept is refused with a sentence, and
-- the function goes on as it is.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local Compiled = { __name = "compiled function" }
local state_of = setmetatable({}, { __mode = "k" })  -- compiled function → its state

-- ---- what a replay would leave out ----

local doings = {
  { _G, "print", "it prints" }, { io, "write", "it prints" }, { io, "read", "it reads input" },
  { io, "open", "it opens files" }, { io, "lines", "it reads files" }, { os, "execute", "it starts programs" },
  { math, "random", "it draws Lua's random numbers" }, { os, "clock", "it reads the clock" },
  { os, "time", "it reads the clock" },
}

-- Replaces functions whose doings a replay would not repeat, until the value is closed.
local function watch_doings()
  local before = {}
  for i, doing in ipairs(doings) do
    local owner, name, sentence = doing[1], doing[2], doing[3]
    local f = rawget(owner, name)
    before[i] = f
    if f then
      rawset(owner, name, function(...)
        native.plan_refuse(sentence)
        return f(...)
      end)
    end
  end
  return setmetatable({}, { __close = function()
    for i, doing in ipairs(doings) do rawset(doing[1], doing[2], before[i]) end
  end })
end

-- ---- recording ----

local function stand_ins(args)
  local list = table.move(args, 1, args.n, 1, { n = args.n })
  for i = 1, args.n do
    if nb.is_tensor(args[i]) then list[i] = args[i]:detach():clone() end
  end
  return list
end

-- What f wrote to stand-ins reaches the arguments.
local function write_back(plan, args, given)
  local k = 0
  for i = 1, args.n do
    if nb.is_tensor(args[i]) then
      k = k + 1
      if native.plan_changed(plan, k) then args[i]:copy_(given[i]) end
    end
  end
end

-- The recorded steps of optimizers by their options: { options=, numbers=, places of such steps, ... }.
local function rules_of(steps)
  local rules, by_options = {}, {}
  for k, step in ipairs(steps) do
    local rule = by_options[step.options]
    if not rule then
      rule = { options = step.options, numbers = step.numbers }
      rules[#rules + 1], by_options[step.options] = rule, rule
    end
    rule[#rule + 1] = k
  end
  return rules
end

-- Runs f on stand-ins while a plan is recorded: the record and f's results.
local function record(f, args)
  local given = stand_ins(args)
  local r, steps = {}, {}
  native.recorded_steps = steps
  r.plan, r.reason = native.plan_begin(table.unpack(given, 1, given.n))
  if not r.plan then
    native.recorded_steps = nil
    return r, table.pack(f(table.unpack(args, 1, args.n)))
  end
  local results
  do
    local _ <close> = setmetatable({}, { __close = function()
      native.recorded_steps = nil
      if results then return end
      native.plan_end(r.plan)
      write_back(r.plan, args, given)
    end })
    local watched <close> = watch_doings()  -- luacheck: ignore 211
    results = table.pack(f(table.unpack(given, 1, given.n)))
  end
  local ok, reason = native.plan_end(r.plan, table.unpack(results, 1, results.n))
  write_back(r.plan, args, given)
  if not ok then r.reason = reason end
  r.rules = rules_of(steps)
  r.results = { n = results.n }
  for i = 1, results.n do r.results[i] = nb.is_tensor(results[i]) and native.plan_begin or results[i] end
  return r, results
end

-- What is kept of the results that are no tensors must be the same each time.
local function compare(a, b)
  local same, reason = native.plan_same(a.plan, b.plan)
  if not same then return reason end
  if a.results.n ~= b.results.n then return "it returns another number of values at each call" end
  for i = 1, a.results.n do
    if a.results[i] ~= b.results[i] then return ("its value number %d is another at each call"):format(i) end
  end
end

-- ---- calling ----

-- Tables, functions and such among the arguments are known by a number: an address may become another's.
local function number_of(state, object)
  local numbers = state.numbers
  if not numbers[object] then
    state.objects = state.objects + 1
    numbers[object] = state.objects
  end
  return numbers[object]
end

-- Arguments of a kind share a plan: dtypes and shapes of tensors, other values as they are.
local function key_of(state, args)
  local parts = { tostring(native.modes()) }
  for i = 1, args.n do
    local a = args[i]
    local kind = type(a)
    if nb.is_tensor(a) then
      parts[i + 1] = a.dtype .. " " .. options.shape(a)
    elseif kind == "number" or kind == "string" then
      parts[i + 1] = ("%q"):format(a)
    elseif kind == "nil" or kind == "boolean" then
      parts[i + 1] = tostring(a)
    else
      parts[i + 1] = kind .. " " .. number_of(state, a)
    end
  end
  return table.concat(parts, ";")
end

-- The values that f has seen outside: another one means another recording.
local function upvalues(f)
  local list, i = {}, 0
  repeat
    i = i + 1
    local name, value = debug.getupvalue(f, i)
    list[i] = value
  until not name
  list.n = i - 1
  return list
end

local function changed(f, seen)
  for i = 1, seen.n do
    local _, value = debug.getupvalue(f, i)
    if not rawequal(value, seen[i]) then return true end
  end
end

local function refuse(state, reason)
  state.reason = reason
  native.plan_disarm(state.compiled)
  io.stderr:write(("nb.compile: %s; it goes on as it is, uncompiled\n"):format(reason))
end

local function slow(state, args, key)
  local entry = state.entries[key]
  if not entry then
    if state.objects > 64 then
      refuse(state, "its arguments are other tables or functions at each call; pass tensors and numbers")
      return state.f(table.unpack(args, 1, args.n))
    end
    state.entries[key] = { calls = 1 }
    return state.f(table.unpack(args, 1, args.n))
  end
  for i = 1, args.n do
    if nb.is_tensor(args[i]) and args[i].requires_grad then
      refuse(state, ("argument %d requires grad; let the function find such tensors itself"):format(i))
      return state.f(table.unpack(args, 1, args.n))
    end
  end
  local r, results = record(state.f, args)
  local reason = r.reason
  if not reason and entry.record then reason = compare(entry.record, r) end
  if reason and not (entry.record and not r.reason and entry.calls < 3) then
    refuse(state, reason)
  elseif not entry.record or reason then   -- the state may have been on its way: one more look
    entry.record, entry.calls = r, entry.calls + 1
  else
    entry.record = nil
    local out = {}
    for i = 1, results.n do out[i] = nb.is_tensor(results[i]) and results[i]:detach():clone() or results[i] end
    out.n, results = results.n, nil  -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    native.plan_finish(r.plan)
    entry.ready, entry.seen = r, upvalues(state.f)
    return table.unpack(out, 1, out.n)
  end
  return table.unpack(results, 1, results.n)
end

local function set_rule(plan, rule, kind, ...)
  return kind and native.plan_rule(plan, rule, kind, ...)
end

-- Gives the plan the numbers of its optimizers as they are now: the lists among their options, each followed by a copy
-- because who writes into one does not tell; nil when they would take other steps.
local function renew_rules(r)
  local lists, n = {}, 0
  for _, rule in ipairs(r.rules) do
    if not set_rule(r.plan, rule, rule.numbers()) then return nil end
    for name, value in pairs(rule.options) do
      if name ~= "params" and type(value) == "table" and #value <= 8 then
        lists[n + 1], lists[n + 2], n = value, { table.unpack(value) }, n + 2
      end
    end
  end
  return lists
end

local function replay(r, args)
  local template = r.results
  if template.n == 1 and template[1] == native.plan_begin then
    return native.plan_run(r.plan, table.unpack(args, 1, args.n))
  end
  local got, out, k = { native.plan_run(r.plan, table.unpack(args, 1, args.n)) }, {}, 0
  for i = 1, template.n do
    if template[i] == native.plan_begin then
      k = k + 1
      out[i] = got[k]
    else
      out[i] = template[i]
    end
  end
  return table.unpack(out, 1, template.n)
end

-- Where all is tensors, C replays the plan of the last call without coming back here.
local function arm(self, state, entry)
  local r = entry.ready
  for i = 1, r.results.n do
    if r.results[i] ~= native.plan_begin then return end
  end
  native.plan_arm(self, r.plan, state.f, entry.seen, function() return renew_rules(r) end)
end

Compiled.__call = native.compiled_call(function(self, ...)
  local state = state_of[self]
  if state.reason or native.recording() or native.observed() then return state.f(...) end
  local args = table.pack(...)
  local key = key_of(state, args)
  local entry = state.entries[key]
  local r = entry and entry.ready
  if r and (changed(state.f, entry.seen) or not native.plan_ready(r.plan) or not renew_rules(r)) then
    native.plan_disarm(self)
    state.entries[key] = { calls = 1, again = (entry.again or 0) + 1 }
    r = nil
    if state.entries[key].again > 8 then
      refuse(state, "what it finds outside changes from call to call; pass it as an argument")
      return state.f(...)
    end
  end
  if not r then return slow(state, args, key) end
  for i = 1, args.n do
    if nb.is_tensor(args[i]) then
      if args[i].requires_grad then return state.f(...) end
      if not args[i]:is_contiguous() then args[i] = args[i]:contiguous() end
    end
  end
  state.replays = state.replays + 1
  arm(self, state, entry)
  return replay(r, args)
end)

function Compiled.__tostring(self)
  local state = state_of[self]
  if state.reason then return "compiled function, runs as it is: " .. state.reason end
  local replays = state.replays
  for _, entry in pairs(state.entries) do
    if entry.ready then replays = replays + native.plan_replays(entry.ready.plan) end
  end
  local lines = { ("compiled function, %d replays"):format(replays) }
  for key, entry in pairs(state.entries) do
    local title = key:gsub("^[^;]*;?", "")
    if not entry.ready then
      lines[#lines + 1] = ("(%s): not recorded yet"):format(title)
    else
      local plan = entry.ready.plan
      local steps, groups, grouped, arena, apart = native.plan_stats(plan)
      lines[#lines + 1] = ("(%s): %d steps, %d of them in %d elementwise groups; %.3g KB of memory in place of %.3g")
        :format(title, steps, grouped, groups, arena / 1e3, apart / 1e3)
      for i = 1, math.min(steps, 60) do lines[#lines + 1] = "  " .. native.plan_describe(plan, i) end
      if steps > 60 then lines[#lines + 1] = ("  ... and %d more"):format(steps - 60) end
    end
  end
  return table.concat(lines, "\n")
end

registry.define(nb, "nb.", "compile", {
  doc = "Records what f does with tensors, a training step, many of them or an inference, and replays it as one " ..
    "call without Lua.  Give what changes from call to call as arguments; other shapes are recorded anew.  Where f " ..
    "reads values, prints, branches or sets an optimizer's options, it is refused with a sentence and runs as it " ..
    "is.  Print it to see the plan.",
  signature = "nb.compile(f)", see = { "nb.no_grad", "optim" },
  example = "local w = nb.ones(2); local f = nb.compile(function(x) return (x * w):sum() end); " ..
    "for i = 1, 4 do f(nb.tensor{i, i}) end; return f(nb.tensor{5, 6})  --> 11",
  params = { { name = "f", type = "function", doc = "takes and returns tensors" } },
  function(f)
    if not options.is_callable(f) then
      native.raise("compile: needs a function, got " .. options.describe(f))
    end
    local self = setmetatable({}, Compiled)
    local call = type(f) == "function" and f or function(...) return f(...) end
    state_of[self] = { compiled = self, f = call, entries = {}, replays = 0, objects = 0,
      numbers = setmetatable({}, { __mode = "k" }) }
    return self
  end,
})

return nb.compile
