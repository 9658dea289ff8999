-- SPDX-License-Identifier: MIT
-- nb.compile: a function that is recorded while it runs and then replayed as one call.
--
-- The first call with arguments of a kind runs as it is; the next two are recorded and compared; if they did the
-- same on their own arguments, later calls replay the plan.  What cannot be kept is refused with a sentence, and
-- the function goes on as it is.  Whether a plan may be replayed is asked in C (binding/guard.c, compile.c): here
-- plans are made, put away and printed.
local modes = require "nablua.modes"
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local Compiled = { __name = "compiled function" }
local state_of = setmetatable({}, { __mode = "k" })  -- compiled function → its state

local MOST_PLANS = 64   -- of one function; the least recently used goes
local MOST_MODES = 4    -- of them for arguments of one kind, such as in training and in evaluation
local MOST_RENEWALS = 8 -- recordings one after the other that are hardly used

-- ---- what a replay would leave out ----

-- Functions of Lua's libraries that only look or compute; all others of these tables are taken to do something.
local harmless = {
  io = { type = true }, os = { difftime = true }, package = {},
  debug = { traceback = true, getinfo = true, gethook = true, getmetatable = true },
}

local clauses = {
  print = "it prints", warn = "it prints", breakpoint = "it may pause", dofile = "it runs a file", loadfile = "it reads a file",
  require = "require", ["io.write"] = "it prints", ["io.read"] = "it reads input", ["io.open"] = "it opens files",
  ["io.lines"] = "it reads files", ["os.execute"] = "it starts programs", ["io.popen"] = "it starts programs",
  ["os.clock"] = "it reads the clock", ["os.time"] = "it reads the clock", ["os.date"] = "it reads the clock",
  ["math.random"] = "it draws Lua's random numbers", ["math.randomseed"] = "it seeds Lua's random numbers",
  ["coroutine.resume"] = "resume", ["coroutine.yield"] = "yield",
  ["nb.sleep"] = "it waits", ["nb.memory"] = "it asks for the memory in use",
  ["nb.threads"] = "it asks for the threads",
  ["native.clock"] = "it reads the clock",
}

local homes = { [""] = _G, ["nb."] = nb, ["native."] = native, ["io."] = io, ["os."] = os, ["math."] = math,
  ["coroutine."] = coroutine }

local function note_doings(title, owner, only_looking)
  for name, f in pairs(owner) do
    if type(f) == "function" and not only_looking[name] then
      native.doing(f, ("it calls %s%s, which a replay would leave out"):format(title, name))
    end
  end
end

-- The libraries are looked through whenever something is recorded: others may have put functions of theirs in place.
local function note_all()
  for name, only_looking in pairs(harmless) do
    if type(package.loaded[name]) == "table" then note_doings(name .. ".", package.loaded[name], only_looking) end
  end
  local meta = debug.getmetatable(io.stdout)
  local methods = meta and meta.__index
  if type(methods) == "table" then note_doings("file:", methods, {}) end
  local open, lines = pcall(function() return io.stdout:lines() end)
  if open then native.doing(lines, "it reads files") end
  for path, clause in pairs(clauses) do
    local home, name = path:match("^(.-%.?)([^.]+)$")
    local f = rawget(homes[home], name)
    if type(f) == "function" then native.doing(f, clause) end
  end
end
note_all()

-- f(...) while all calls are looked at; the user's functions among them become keys of `called`.  Then, however it
-- ends, over(whether all calls were seen).
local function watching_calls(called, over, f, ...)
  local watched
  local function watch() watched = native.doings_watch(called) end
  return modes.restoring(function() over(watched and native.doings_leave(watched)) end, function(...)
    note_all()
    native.whole(watch)
    return f(...)
  end, ...)
end

-- ---- the trace (NABLUA_TRACE=plan) ----

local function trace(format, ...)
  if native.traces_plans() then native.trace_plan(format:format(...)) end
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

-- What a run left another than it was, as a clause.
local function left_behind(guard, grad)
  local same, name = native.guard_holds(guard)
  if not same then
    return ("it writes to %s, which is another at each call then; return the new value, or keep a tensor there and " ..
      "write into it with copy_"):format(name)
  end
  if nb.grad_enabled() ~= grad then return "it leaves gradients switched " .. (grad and "off" or "on") end
end

-- Runs f on stand-ins while a plan is recorded: the record and f's results.
local function record(f, args, guard, called)
  local given, grad = stand_ins(args), nb.grad_enabled()
  local r, steps, results = { guard = guard, replays = 0, reads = {} }, {}, nil
  local function begin()
    r.plan, r.reason = native.plan_begin(table.unpack(given, 1, given.n))
    if r.plan then native.recorded_steps, native.recorded_reads = steps, r.reads end
  end
  local function over(whole)
    r.missed = not whole
    if native.recorded_steps == steps then native.recorded_steps, native.recorded_reads = nil, nil end
    if not r.plan then return end
    if results then
      local ok, reason = native.plan_end(r.plan, table.unpack(results, 1, results.n))
      if not ok then r.reason = reason end
    else
      native.plan_end(r.plan)
    end
    write_back(r.plan, args, given)
  end
  watching_calls(called, over, function()
    native.whole(begin)
    local list = r.plan and given or args
    results = table.pack(f(table.unpack(list, 1, list.n)))
  end)
  if not r.plan then return r, results end
  r.reason = r.reason or left_behind(guard, grad)
  trace("recorded %d steps", native.plan_stats(r.plan))
  r.rules = rules_of(steps)
  r.results = { n = results.n }
  for i = 1, results.n do r.results[i] = nb.is_tensor(results[i]) and native.plan_begin or results[i] end
  return r, results
end

local function changes(name)
  return name .. " changes from call to call; pass it as an argument"
end

-- Why two records differ, if they do.  What is kept of the results that are no tensors must be the same each time.
local function compare(a, b)
  local same, reason = native.plan_same(a.plan, b.plan)
  if not same then
    local still, name = native.guard_holds(a.guard)
    return still and reason or changes(name)
  end
  if a.results.n ~= b.results.n then return "it returns another number of values at each call" end
  for i = 1, a.results.n do
    if a.results[i] ~= b.results[i] then return ("its value number %d is another at each call"):format(i) end
  end
end

-- ---- plans ----

local function refuse(state, reason)
  trace("refused: %s", reason)
  state.reason, state.entries, state.count = reason, {}, 0
  native.plan_arm(state.compiled, nil)
  io.stderr:write(("nb.compile: %s; it goes on as it is, uncompiled\n"):format(reason))
end

local function set_rule(plan, rule, kind, ...)
  return kind and native.plan_rule(plan, rule, kind, ...)
end

-- Whether an option of an optimizer that the function has read is the same.
local function reads_same(read)
  local value, copy = read.options[read.name], read.copy
  if value ~= read.value then return value ~= value and read.value ~= read.value end
  for i = 1, copy and math.max(#value, #copy) or 0 do
    if value[i] ~= copy[i] then return false end
  end
  return true
end

-- Gives the plan the numbers of its optimizers as they are now: the lists among their options, each followed by a copy
-- because who writes into one does not tell; nil when they would take other steps.
local function renew_rules(r)
  local lists, n = {}, 0
  for _, read in ipairs(r.reads) do
    if not reads_same(read) then return nil end
    if read.copy then lists[n + 1], lists[n + 2], n = read.value, read.copy, n + 2 end
  end
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

local function drop(state, entry, k)
  trace "dropped"
  native.plan_drop(table.remove(entry.plans, k).plan)
  state.count = state.count - 1
end

-- Entries by key, each { plans =, the last used first, ... }: room for another entry or plan.
local function make_room(state, but)
  while state.count >= MOST_PLANS or state.kinds >= MOST_PLANS do
    local oldest
    for key, entry in pairs(state.entries) do
      if entry ~= but and not (oldest and state.entries[oldest].used < entry.used) then oldest = key end
    end
    if not oldest then return end
    local entry = state.entries[oldest]
    for k = #entry.plans, 1, -1 do drop(state, entry, k) end
    state.entries[oldest], state.kinds = nil, state.kinds - 1
  end
end

local function entry_of(state, key)
  local entry = state.entries[key]
  state.clock = state.clock + 1
  if not entry then
    make_room(state)
    entry = { plans = {}, calls = 0, again = 0 }
    state.entries[key], state.kinds = entry, state.kinds + 1
  end
  entry.used = state.clock
  return entry
end

-- The plan of an entry that may be replayed now, if there is one; those that have given way are forgotten.
local function find(state, entry, args)
  for k = #entry.plans, 1, -1 do
    if not native.plan_used(entry.plans[k].plan) then drop(state, entry, k) end
  end
  for k, r in ipairs(entry.plans) do
    if native.plan_serves(r.plan, table.unpack(args, 1, args.n)) then
      table.insert(entry.plans, 1, table.remove(entry.plans, k))
      return r
    end
  end
end

-- Puts a plan away whose recording was repeated.
local function keep(state, entry, r)
  collectgarbage()
  collectgarbage()
  local recorded = native.plan_stats(r.plan)
  native.plan_keep(r.plan, r.guard, function() return renew_rules(r) end)
  local steps, groups, grouped, arena = native.plan_stats(r.plan)
  trace("matched; rewritten to %d of %d steps, %d of them in %d groups, %d bytes", steps, recorded, grouped, groups,
    arena)
  if #entry.plans == MOST_MODES then drop(state, entry, MOST_MODES) end
  make_room(state, entry)
  table.insert(entry.plans, 1, r)
  state.count, entry.calls = state.count + 1, 1
end

-- Whether recording anew has become a habit, and why.
local function is_restless(entry)
  local last = entry.plans[1]
  if not last then return false end
  entry.again = last.replays + native.plan_replays(last.plan) < MOST_RENEWALS and entry.again + 1 or 0
  if entry.again <= MOST_RENEWALS then return false end
  local same, name = native.guard_holds(last.guard)
  return true, changes(same and "what it finds outside" or name)
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
  local parts = {}
  for i = 1, args.n do
    local a = args[i]
    local kind = type(a)
    if nb.is_tensor(a) then
      parts[i] = a.dtype .. " " .. options.shape(a)
    elseif kind == "number" or kind == "string" then
      parts[i] = ("%q"):format(a)
    elseif kind == "nil" or kind == "boolean" then
      parts[i] = tostring(a)
    else
      parts[i] = kind .. " " .. number_of(state, a)
    end
  end
  return table.concat(parts, ";")
end

-- Runs f as it is; the functions that it calls and called before are kept in the entry, weakly.
local function run_watched(state, args, entry)
  local called = setmetatable({}, { __mode = "k" })
  local results = table.pack(watching_calls(called, function() end, state.f, table.unpack(args, 1, args.n)))
  entry.called = called
  return table.unpack(results, 1, results.n)
end

-- What the guard walks from beside the function: tables and functions among the arguments, and what was called before.
-- What one call alone has called was made by it.
local function roots_of(state, args, entry)
  local roots = { [state.given] = true }
  if entry.record then
    for f in pairs(entry.called) do roots[f] = true end
  end
  for i = 1, args.n do
    if not nb.is_tensor(args[i]) and args[i] ~= nil then roots[args[i]] = true end
  end
  return roots
end

-- Results that share nothing with the recording.
local function copies(results)
  local out = {}
  for i = 1, results.n do out[i] = nb.is_tensor(results[i]) and results[i]:detach():clone() or results[i] end
  return out
end

-- What is not replayed: the first calls of their kind, and those that the plans do not serve.
local function slow(state, args, entry)
  local unpack, f = table.unpack, state.f
  entry.calls = entry.calls + 1
  if state.objects > MOST_PLANS then
    refuse(state, "its arguments are other tables or functions at each call; pass tensors and numbers")
  elseif entry.calls == 1 then
    return run_watched(state, args, entry)
  elseif not entry.record then
    local restless, reason = is_restless(entry)
    if restless then refuse(state, reason) end
  end
  for i = 1, args.n do
    if not state.reason and nb.is_tensor(args[i]) and args[i].requires_grad then
      refuse(state, ("argument %d requires grad; let the function find such tensors itself"):format(i))
    end
  end
  local guard, unseen
  if not state.reason then guard, unseen = native.guard(f, roots_of(state, args, entry)) end
  if unseen then refuse(state, unseen) end
  if not guard then return f(unpack(args, 1, args.n)) end
  local called = setmetatable({}, { __mode = "k" })
  local r, results = record(f, args, guard, called)
  for g in pairs(called) do
    if entry.called and not entry.called[g] then called[g] = nil end
  end
  local reason, before = r.reason, entry.record
  if not reason and before then reason = compare(before, r) end
  if r.missed and not r.reason then
    entry.record, entry.calls = nil, 1
  elseif reason and not (before and not r.reason and entry.calls < 4) then
    refuse(state, reason)
  elseif not before or reason then   -- the state may have been on its way: one more look
    if reason then trace("does not match: %s", reason) end
    entry.record, entry.called = r, called
  else
    entry.record, before = nil, nil  -- luacheck: ignore 311
    local out, n = copies(results), results.n
    results = nil  -- luacheck: ignore 311 331
    keep(state, entry, r)
    return unpack(out, 1, n)
  end
  return unpack(results, 1, results.n)
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
local function arm(self, r)
  for i = 1, r.results.n do
    if r.results[i] ~= native.plan_begin then return end
  end
  native.plan_arm(self, r.plan)
end

local function call_now(self, ...)
  local state = state_of[self]
  if state.reason or native.recording() or native.observed() then return state.f(...) end
  local args = table.pack(...)
  local entry = entry_of(state, key_of(state, args))
  for i = 1, args.n do
    if nb.is_tensor(args[i]) then
      if args[i].requires_grad and entry.plans[1] then return state.f(...) end
      if not args[i]:is_contiguous() then args[i] = args[i]:contiguous() end
    end
  end
  local r = find(state, entry, args)
  if not r then return slow(state, table.pack(...), entry) end
  r.replays = r.replays + 1
  state.replays = state.replays + 1
  arm(self, r)
  return replay(r, args)
end

-- A call within a step of a run (run/step.lua), which asks and notes how calls go: once over, it is among the eager
-- ones unless a plan was replayed.
local function over(calls, n, before, ...)
  calls.within = false
  if native.plans_replayed() == before then
    calls.eager = calls.eager or {}
    calls.eager[#calls.eager + 1] = n
  end
  return ...
end

local function follow(calls, self, ...)
  local before = native.plans_replayed()
  local n = before - calls.start + (calls.eager and #calls.eager or 0) + 1
  calls.within = true
  if calls.script and calls.script(n) then return over(calls, n, before, state_of[self].f(...)) end
  return over(calls, n, before, call_now(self, ...))
end

Compiled.__call = native.compiled_call(function(self, ...)
  local calls = native.compiled_calls
  if calls and not calls.within and not native.recording() then return follow(calls, self, ...) end
  return call_now(self, ...)
end)

function Compiled.__tostring(self)
  local state = state_of[self]
  if state.reason then return "compiled function, runs as it is: " .. state.reason end
  local replays, lines = state.replays, { "" }
  for title, entry in pairs(state.entries) do
    local alive = false
    for _, r in ipairs(entry.plans) do
      local plan = r.plan
      replays = replays + native.plan_replays(plan)
      if native.plan_used(plan) then
        alive = true
        local steps, groups, grouped, arena, apart = native.plan_stats(plan)
        lines[#lines + 1] = ("(%s): %d steps, %d of them in %d elementwise groups; %.3g KB of memory in place of %.3g")
          :format(title, steps, grouped, groups, arena / 1e3, apart / 1e3)
        for i = 1, math.min(steps, 60) do lines[#lines + 1] = "  " .. native.plan_describe(plan, i) end
        if steps > 60 then lines[#lines + 1] = ("  ... and %d more"):format(steps - 60) end
      end
    end
    if not alive then lines[#lines + 1] = ("(%s): not recorded yet"):format(title) end
  end
  lines[1] = ("compiled function, %d replays"):format(replays)
  return table.concat(lines, "\n")
end

registry.define(nb, "nb.", "compile", {
  doc = "Records what f does with tensors, a training step, many of them or an inference, and replays it as one " ..
    "call without Lua.  Give what changes from call to call as arguments; other shapes are recorded anew, and so is " ..
    "f once something that it finds outside is another: a layer, a field, a global, a hook, a mode.  Where f reads " ..
    "values, prints, branches, writes to variables from outside or sets an optimizer's options, it is refused with " ..
    "a sentence and runs as it is.  Of each function the 64 plans used last are kept, as far as memory allows.  " ..
    "Print it to see them.",
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
    native.compiled_function(self, f)
    state_of[self] = { compiled = self, f = call, given = f, entries = {}, count = 0, kinds = 0, clock = 0, replays = 0,
      objects = 0, numbers = setmetatable({}, { __mode = "k" }) }
    return self
  end,
})

local compile = {}

-- What a compiled function was made of, or nil.
function compile.compiled_of(f)
  return state_of[f] and state_of[f].given
end

return compile
