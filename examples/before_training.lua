-- SPDX-License-Identifier: MIT
-- Before training: a set-up with several mistakes in it, none of which is an error; what inspect.check says of them, one
-- after the other; then the learning rate, the training, and the samples that cost most.
local nb = require "nablua"
local nn, optim, inspect, data = nb.nn, nb.optim, nb.inspect, nb.data

nb.seed(1)

-- Two classes, of which somebody saved the labels as 1 and 2, the first reading in thousandths, and a column too many.
local x, y = data.moons(400)
y = y:view(-1, 1)
x = nb.cat({ x[{ nb.ALL, { 1, 1 } }] * 1000, x[{ nb.ALL, { 2, 2 } }], y:to("f32") * 2 - 3 }, 2)

local net = nn.Sequential { nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 1), nn.Sigmoid() }
local loss = nn.BCEWithLogitsLoss()
local opt = optim.SGD(net:parameters(), { lr = 1e-9 })

-- A finding's remedy is a line of Lua: here it is run, in terms of what it names.
local function apply(remedy)
  local names = { net = net, x = x, y = y, loss = loss, opt = opt, nb = nb, nn = nn, optim = optim, print = print }
  assert(load(remedy, "=remedy", "t", names))()
  net, x, y, loss, opt = names.net, names.x, names.y, names.loss, names.opt
end

local function cut_column()  -- the remedy for a leaked label is a question; the answer is to leave it out
  x = x[{ nb.ALL, { 1, 2 } }]:contiguous()
  net[1] = nn.Linear(2, 16)
  opt = optim.SGD(net:parameters(), { lr = opt.lr })
end

for round = 1, 12 do
  local findings = inspect.check(net, loss, opt, { x, y })
  if #findings == 0 then
    print(("\nround %d: ✓ no findings"):format(round))
    break
  end
  local f = findings[1]
  print(("\nround %d: %s (%s)\n  %s\n  > %s"):format(round, f.illness, f.layer, f.evidence, f.remedy))
  if f.illness == "leaked labels" then cut_column() else apply(f.remedy) end
end

-- Which rate, then.
local found = inspect.lr_find(net, loss, opt, { x, y })
print(("\nlearning rate: %s   (a step after the other up to %.2g; %d rates tried)"):format(found.line,
  found.rates[#found.rates], #found.trials))
apply(found.line)

local before = loss(net(x), y):item()
for _ = 1, 40 do
  for bx, by in data.batches { x, y, size = 64, shuffle = true } do
    opt:zero_grad()
    loss(net(bx), by):backward()
    opt:step()
  end
end
local right = nb.no_grad(function() return (net(x):gt(0):to("f32")):eq(y):to("f32"):mean():item() end)
print(("trained: J from %.3f to %.3f, %.1f %% right\n"):format(before, loss(net(x), y):item(), 100 * right))

print(inspect.top_losses(net, loss, { x, y }, 5))
