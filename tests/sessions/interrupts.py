# SPDX-License-Identifier: MIT
"""Programs that are interrupted anywhere, and what must hold then; whoever runs a session drives them.

Each is Lua: `setup` once; `run` until it is interrupted; `check` after it, an expression that is true, or a text that
says what is half-done.  The weights of `moving` all begin at 0 and have gradients of 1, so that every element of every
parameter moves alike, as often as the optimizer has counted.
"""
import os
import random

# Each takes seconds where the thread sanitizer looks on.
THREADS = "/tsan/" in os.environ.get("NABLUA", "") + os.environ.get("NABLUA_KERNEL", "")
TIMES = int(os.environ.get("NABLUA_INTERRUPTS") or (200 if os.environ.get("NABLUA_PROVE") else 2 if THREADS else 20))

PRELUDE = """
function alike(list)
  local low, high = math.huge, -math.huge
  for _, t in ipairs(list) do
    low, high = math.min(low, t:detach():min():item()), math.max(high, t:detach():max():item())
  end
  return low, high
end
function moving(count, n)
  local list = {}
  for i = 1, count do
    list[i] = nb.zeros(n, {requires_grad=true, dtype="f64"})
    list[i].grad = nb.ones(n, {dtype="f64"})
  end
  return list
end
-- Whether all have moved as `place` says after as many steps as each parameter has counted.
function moved(opt, list, place, near)
  local low, high = alike(list)
  local state, steps = opt:state()
  for i = 1, #list do
    local s = state[i .. ".step"]
    s = s and s:item() or 0
    if steps and s ~= steps then return ("parameter %d counts %d, the first %d"):format(i, s, steps) end
    steps = s
  end
  local want = place(steps)
  if math.abs(low - want) > near or math.abs(high - want) > near then
    return ("after %d steps at %g to %g, not %g"):format(steps, low, high, want)
  end
  return true
end
function one_mode(net, mode)
  for path, m in net:named_modules() do
    if m.training ~= mode then return path .. " has another mode" end
  end
  return nb.grad_enabled() or "gradients are off"
end
"""

# name: setup, run, check, the longest wait in seconds
PROGRAMS = {
    "SGD": ("""
w = moving(8, 200000); opt = optim.SGD(w, {lr=1})""",
            "while true do opt:step() end",
            "moved(opt, w, function(n) return -n end, 0)", 0.03),
    "Adam with two groups": ("""
w = moving(8, 100000)
opt = optim.Adam({{params={w[1], w[2], w[3], w[4]}}, {params={w[5], w[6], w[7], w[8]}}}, {lr=1})""",
                             "while true do opt:step() end",
                             "moved(opt, w, function(n) return -n end, 0.4)", 0.03),
    "a rule in Lua": ("""
w = moving(8, 50000); opt = optim.Adagrad(w, {lr=1})
function place(n)
  local sum = 0
  for t = 1, n do sum = sum - 1 / math.sqrt(t) end
  return sum
end""", "while true do opt:step() end", "moved(opt, w, place, 1e-3)", 0.03),
    "LBFGS": ("""
five = nb.full({20000}, 5, {dtype="f64"})
w = five:clone()
w.requires_grad = true
-- The first place that is tried, at -7, is worse than that at 5.
function loss()
  if w.grad then w.grad = nil end
  local J = (w - 1):square():sum()
  J:backward()
  return J
end""", """
while true do
  nb.no_grad(w.copy_, w, five)
  optim.LBFGS({w}, {lr=240000, line_search_fn="strong_wolfe", max_iter=2}):step(loss)
end""", """
(function()
  local low, high = alike{w}
  return low == high and high <= 5 and low >= -3 or ("a place that was tried, %g to %g"):format(low, high)
end)()""", 0.03),
    "compiled steps": ("""
w = moving(6, 100000); opt = optim.SGD(w, {lr=1})
train = nb.compile(function(x)
  opt:zero_grad()
  local J = 0
  for i = 1, #w do J = J + (w[i] * x):sum() end
  J:backward()
  opt:step()
  return J
end)
x = nb.ones(100000, {dtype="f64"})
for _ = 1, 5 do train(x) end""", "while true do train(x) end",
                       "moved(opt, w, function(n) return -n end, 0)", 0.03),
    "recordings": ("""
native = require "nablua.native"
w = moving(3, 1000); opt = optim.SGD(w, {lr=1})
x = nb.ones(1000, {dtype="f64"})
function make()
  return nb.compile(function(x)
    opt:zero_grad()
    local J = 0
    for i = 1, #w do J = J + (w[i] * x):sum() end
    J:backward()
    opt:step()
    return J
  end)
end""", "while true do train = make() for _ = 1, 4 do train(x) end end", """
(function()
  if native.recording() or native.recorded_steps then return "it is still recorded" end
  local f = nb.compile(function(y) return y * 2 end)
  for _ = 1, 5 do f(x) end
  return tostring(f):find("2 replays", 1, true) and moved(opt, w, function(n) return -n end, 0) or tostring(f)
end)()""", 0.03),
    "in-place operators": ("""
a, b = nb.zeros(6000000), nb.ones(6000000)
writes = { function() a:add_(1) end, function() a:sub_(b) end, function() a:mul_(2) end, function() a:copy_(b) end,
  function() a:clamp_(-3, 3) end, function() a:maximum_(b) end, function() a:neg_() end, function() a:exp_() end,
  function() a[{}] = 0.5 end }""", "while true do for _, write in ipairs(writes) do write() end end",
                           "(function() local low, high = alike{a} return low == high or low .. ' to ' .. high end)()",
                           0.05),
    "nn.fit with valid": ("""
nb.seed(1)
x, y = nb.randn(64, 16), nb.randn(64, 1)
net = nn.Sequential{nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Dropout(0.1), nn.Linear(32, 1)}
opt = optim.Adam(net:parameters(), {lr=1e-4})
a = nb.randn(300, 300)
function loss(output, target)  -- most of the time goes by here, in no module, while the net is evaluated
  if not net.training then a:matmul(a) end
  return (output - target):square():mean()
end
function ended()
  local state, steps = opt:state()
  for i = 1, #net:parameters() do
    local s = state[i .. ".step"]
    s = s and s:item() or 0
    if steps and s ~= steps then return "steps differ" end
    steps = s
  end
  return one_mode(net, true)
end""", """
nn.fit(net, loss, opt, {x, y}, {epochs=1000000, size=64, progress=false,
  valid={x:tile(24, 1), y:tile(24, 1)}})""", "nb.grad_enabled() and ended() or 'gradients are off'", 0.1),
    "plot.boundary": ("""
nb.seed(1)
x, y = nb.randn(40, 2), nb.randn(40):gt(0):to("i64") + 1
net = nn.Sequential{nn.Linear(2, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2)}""",
                      "while true do plot.boundary(net, {x=x, y=y}) end", "one_mode(net, true)", 0.05),
    "inspect.diagnose": ("""
nb.seed(1)
x, y = nb.randn(40, 8), nb.randn(40, 1)
net = nn.Sequential{nn.Linear(8, 32), nn.BatchNorm1d(32), nn.Dropout(0.1), nn.Linear(32, 1)}
net:eval()
before, random = net:state(), nb.random_state()
function untouched()
  for path, t in pairs(net:state()) do
    if not (t:eq(before[path]):all():item()) then return path .. " has changed" end
  end
  for _, p in ipairs(net:parameters()) do if p.grad then return "a gradient is left" end end
  local now = nb.random_state()
  if now.seed ~= random.seed or now.counter ~= random.counter then return "random numbers were drawn" end
  return one_mode(net, false)
end""", "while true do inspect.diagnose(net, x, y, nn.MSELoss()) end", "untouched()", 0.2),
    "pcall of no_grad": ("""
a = nb.randn(200, 200)""", "while true do pcall(nb.no_grad, function() a:matmul(a) end) end",
                         "nb.grad_enabled() or 'gradients are off'", 0.03),
    "coroutines": ("""
a, inside = nb.randn(150, 150), 0
function body()
  local _ <close> = setmetatable({}, {__close=function() inside = 0 end})
  inside = 1
  for _ = 1, 20 do nb.no_grad(function() a:matmul(a) end) end
end
function run_all()
  inside = 0
  while true do
    coroutine.wrap(body)()
    coroutine.resume(coroutine.create(body))
    coroutine.wrap(function() coroutine.resume(coroutine.create(body)) end)()
  end
end""", "run_all()", "inside == 0 and (nb.grad_enabled() or 'gradients are off') or 'not closed'", 0.03),
    "__close handlers": ("""
a, inside, log = nb.randn(100, 100), 0, {}
function guarded(f)
  local _ <close> = setmetatable({}, {__close=function()
    for k = 1, 200 do log[k] = k end
    inside = 0
  end})
  inside = 1
  return f()
end""", """
while true do
  pcall(guarded, function() return a:matmul(a) end)
  guarded(function() return #log end)
  local close = setmetatable({}, {__close=function() inside = 0 end})
  for _ in function(_, k) if not k then return 1 end end, nil, nil, close do inside = 1 end
end""", "inside == 0 or 'not closed'", 0.03),
    "__close handlers of errors and coroutines": ("""
a, begun, ended, inside, log, life = nb.randn(60, 60), 0, 0, 0, {}, {}
function close()
  begun = begun + 1
  for k = 1, 100 do log[k] = k end
  a:matmul(a):add_(1)[1] = 2
  coroutine.wrap(function() for k = 1, 50 do log[k] = k end end)()
  ended = ended + 1
  inside, life.closed = 0, true
end
guard = setmetatable({}, {__close=close})
function guarded(f, ...)
  local _ <close> = guard
  inside = 1
  return f(...)
end
function many(...)
  local _ <close> = guard
  inside = 1
  return #select("#", ...)
end
function body(mine)
  local _ <close> = guard
  mine.held = true  -- one that is stopped before has nothing to close
  coroutine.yield()
end""", """
while true do
  pcall(guarded, error, "mine")
  xpcall(guarded, function(m) return m end, error, "mine")
  pcall(many, 1, 2, 3)
  pcall(nb.no_grad, many)
  pcall(coroutine.wrap(guarded), error, "mine")
  life = {co=coroutine.create(body)}
  coroutine.resume(life.co, life)
  coroutine.close(life.co)
end""", """
begun == ended and (inside == 0 or 'not closed')
  and (not life.held or coroutine.status(life.co) ~= 'dead' or life.closed or 'skipped') or 'cut'""", 0.03),
    "BatchNorm's running values": ("""
nb.seed(1)
x = nb.ones(2, 200000, {dtype="f64"})
x[1] = 3
bn = nn.BatchNorm1d(200000, {momentum=1e-3}):to("f64")
function running()
  local n = bn.num_batches_tracked:item()
  local kept = (1 - 1e-3) ^ n
  local near = 0.2e-3 * kept
  local function off(t, want) return (t - want):abs():max():item() > near end
  if off(bn.running_mean, 2 * (1 - kept)) or off(bn.running_var, kept + 2 * (1 - kept)) then
    return ("not those of %d batches"):format(n)
  end
  return true
end""", "bn = nn.BatchNorm1d(200000, {momentum=1e-3}):to('f64') while true do bn(x) end", "running()", 0.1),
    "load_state": ("""
net = nn.Sequential{nn.Linear(300, 300), nn.Linear(300, 300), nn.Linear(300, 300)}
opt = optim.Adam(net:parameters())
states = {}
for k = 1, 2 do
  states[k] = {net = net:state(), opt = opt:state()}
  for _, t in pairs(states[k].net) do nb.no_grad(t.copy_, t, nb.tensor(k):to("f32")) end
  for _, name in ipairs{"lr", "eps"} do states[k].opt["group.1." .. name] = nb.tensor(k):to("f64") end
end
net:load_state(states[1].net); opt:load_state(states[1].opt)""", """
while true do
  for k = 1, 2 do net:load_state(states[k].net); opt:load_state(states[k].opt) end
end""", """
(function()
  local low, high = alike(net:parameters())
  if low ~= high then return "parts of two states" end
  return opt.lr == opt.eps or "options of two states"
end)()""", 0.03),
    "schedules": ("""
local groups = {}
for k = 1, 20 do groups[k] = {params=moving(1, 1)} end
opt = optim.SGD(groups, {lr=1})
schedule = optim.StepLR(opt, {step_size=1, gamma=1 - 1e-6})""", "while true do schedule:step() end", """
(function()
  for _, group in ipairs(opt.groups) do
    if math.abs(group.lr / (1 - 1e-6) ^ schedule.steps - 1) > 1e-7 then return "a rate of another step" end
  end
  return true
end)()""", 0.03),
    "modes": ("""
net = nn.Sequential{}
for k = 1, 500 do net[k] = nn.Dropout() end""", "while true do net:eval(); net:train() end",
              "one_mode(net, net.training)", 0.01),
    "a run": ("""
nb.seed(1)
net = nn.Sequential{nn.Linear(200, 200), nn.BatchNorm1d(200), nn.ReLU(), nn.Dropout(0.5), nn.Linear(200, 1)}
opt = optim.Adam(net:parameters())
run = nb.run{net=net, loss=nn.MSELoss(), opt=opt, data={nb.randn(64, 200), nb.randn(64, 1)}, size=16, epochs=8, seed=2}
function standing()
  local all = net:state()
  for name, t in pairs(opt:state()) do all["opt." .. name] = t end
  return all
end
places = {[0]=standing()}
for k = 1, 32 do run:next() places[k] = standing() end""", """
while true do run:to(math.random(0, 32)); run:go() end""", """
(function()
  local here, there = standing(), places[run.step]
  for name, t in pairs(there) do
    if not here[name] then return name .. " is missing after step " .. run.step end
    if not t:eq(here[name]):all():item() then return name .. " is another after step " .. run.step end
  end
  return net.training
end)()""", 0.05),
    "a run whose steps are short": ("""
function make()
  nb.seed(1)
  local net = nn.Sequential{nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)}
  local x, y = nb.randn(40, 4), nb.randn(40, 1)
  return nb.run{net=net, loss=nn.MSELoss(), opt=optim.SGD(net:parameters(), {lr=0.01}), data={x, y}, size=8,
    epochs=100000, seed=2}
end
places = make()
run = make()""", "run:next(200000)", """
(function()
  local at = run.step
  if #run.history.loss ~= run.last then return "steps are noted that were not done" end
  run:next(3)
  places:to(run.step)
  if places.epoch ~= run.epoch or places.history.loss[run.step] ~= run.loss then return "another loss after " .. at end
  for name, t in pairs(places.net:state()) do
    if not t:eq(run.net:state()[name]):all():item() then return name .. " is another after step " .. at end
  end
  return true
end)()""", 0.05),
    "clipping": ("""
w, limit = moving(8, 30000), 400""", "while true do limit = limit * 0.999 nn.clip_grad_norm(w, limit) end", """
(function()
  local list = {}
  for k, p in ipairs(w) do list[k] = p.grad end
  local low, high = alike(list)
  return low == high or low .. " to " .. high
end)()""", 0.02),
}


def faults(name, start, interrupt_in, value):
    """How often what was promised did not hold after an interrupt, and what was said first.

    start(code) begins an input, interrupt_in(seconds) stops it, value(code) is the text that an expression gives.
    """
    setup, run, check, longest = PROGRAMS[name]
    choose = random.Random(name)
    value("(function() %s %s end)()" % (PRELUDE, setup))
    broken, first = 0, None
    for _ in range(TIMES):
        start(run)
        interrupt_in(choose.uniform(0, longest))
        said = value(check)
        if said != "true":
            broken, first = broken + 1, first or said
            value("(function() %s end)()" % setup)
            value("nb.set_grad_enabled(true)")
    return broken, first
