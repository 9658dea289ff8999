-- SPDX-License-Identifier: MIT
-- inspect.lr_find: which learning rate.  On a copy, twice: a ramp over rates shows where the loss falls and where it
-- breaks away (Smith 2017, "Cyclical learning rates for training neural networks"); then rates between train for a
-- while from the same weights over the same batches, the worse half giving up early.  Those that come out best train
-- once more over other batches, for a rate that is too large is the best by luck now and then; the middle of the rates
-- that are as good as the best is suggested.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local modes = require "nablua.modes"
local figure = require "nablua.plot.figure"
local given = require "nablua.inspect.given"
local patient = require "nablua.inspect.patient"
local text = require "nablua.inspect.text"

local rates = {}

local WHERE = "inspect.lr_find"

local params = {
  { name = "low", type = "positive", default = 1e-6 }, { name = "high", type = "positive", default = 10 },
  { name = "ramp", type = "size", default = 100 }, { name = "steps", type = "size", default = 300 },
  { name = "size", type = "size", default = 64 },
}

local SMOOTH = 0.8     -- of the mean of losses, that is the mean before
local BREAKS = 4       -- times the least loss: it will not come back
local STEP = 10 ^ 0.5  -- between the rates that are tried
local CLOSE = 0.05     -- of the best loss: too near to give up
local MORE = 3         -- rates beyond either end of the ramp's
local AGAIN = 6        -- trainings at most that look whether the best was luck
local GOOD = 0.03      -- of the best loss: no difference

local function finite(v)
  return v == v and math.abs(v) < math.huge
end

local function set_rate(opt, lr)
  for _, group in ipairs(opt.groups) do group.lr = lr end
end

-- One step, and the loss before it.
local function step(p, x, y)
  p.opt:zero_grad()
  local J = p.loss(p.net(x), y)
  if not nb.is_tensor(J) or J:numel() ~= 1 then
    given.refuse(WHERE, "the loss must be a single number, got %s", options.describe(J))
  end
  if J.is_leaf then
    given.refuse(WHERE, "the loss depends on no parameter that requires grad; see inspect.check")
  end
  J:backward()
  p.opt:step()
  return J:item()
end

-- Rates and losses of one pass, smoothed; until the loss breaks away.
local function ramp(p, feed, o)
  local curve, mean, least = { rates = {}, losses = {} }, nil, math.huge
  local factor = (o.high / o.low) ^ (1 / math.max(o.ramp - 1, 1))
  for k = 1, o.ramp do
    local lr = o.low * factor ^ (k - 1)
    set_rate(p.opt, lr)
    local J = step(p, feed())
    if k == 1 and not finite(J) then
      given.refuse(WHERE, "the loss is %s before the first step; see inspect.check", text.number(J))
    end
    mean = mean and SMOOTH * mean + (1 - SMOOTH) * J or J
    if not finite(mean) then break end
    curve.rates[k], curve.losses[k] = lr, mean
    least = math.min(least, mean)
    if k > 10 and mean > least + (BREAKS - 1) * math.max(math.abs(least), 1e-12) then break end
  end
  return curve
end

-- The rates worth trying: from where a twentieth of the fall is done to the last.
local function candidates(curve, o)
  local first, least = curve.losses[1], math.huge
  for _, J in ipairs(curve.losses) do least = math.min(least, J) end
  local from = #curve.rates
  for k, J in ipairs(curve.losses) do
    if first - J >= 0.05 * (first - least) and least < first then
      from = k
      break
    end
  end
  local list, lr = {}, curve.rates[#curve.rates]
  local low = math.max(curve.rates[from] / STEP, o.low)
  while lr >= low and #list < 10 do
    list[#list + 1] = lr
    lr = lr / STEP
  end
  return list
end

-- Goes on with a trial until so many steps are done; its loss is the mean of those of the last fifth.
local function go_on(p, trial, last, batches)
  if trial.done >= last then return end
  p.net:load_state(trial.net)
  p.opt:load_state(trial.opt)
  set_rate(p.opt, trial.lr)
  native.random_state(trial.random[1], trial.random[2])
  local sum, count = 0, 0
  local fine = pcall(function()
    for k = trial.done + 1, last do
      local batch = batches(k)
      local J = step(p, batch[1], batch[2])
      if not finite(J) then error("broke away", 0) end
      if k > last - math.max(1, (last - trial.done) // 5) then sum, count = sum + J, count + 1 end
    end
  end)
  if native.interrupted() then error("interrupted!", 0) end
  trial.done, trial.loss = last, fine and sum / count or math.huge
  trial.net, trial.opt, trial.random = p.net:state(), p.opt:state(), { native.random_state() }
end

-- Batches by number, the same for all trials.
local function keep(feed)
  local kept = {}
  return function(k)
    while #kept < k do kept[#kept + 1] = { feed() } end
    return kept[k]
  end
end

-- Best first: those that went all the way before those that gave up.
local function sort(trials)
  table.sort(trials, function(a, b)
    if a.done ~= b.done then return a.done > b.done end
    return a.loss < b.loss
  end)
end

-- The trials as good as the best, which is the first: what is left of the loss may differ by chance.
local function good_ones(trials)
  local best, good = trials[1].loss, {}
  local limit = best + GOOD * math.abs(best)
  for _, t in ipairs(trials) do
    if t.done == trials[1].done and t.loss <= limit then good[#good + 1] = t end
  end
  return good
end

-- The trials, best first.
local function compare(p, feed, list, steps, start)
  local batches = keep(feed)
  local random = { native.random_state() }
  local trials = {}
  for k, lr in ipairs(list) do
    trials[k] = { lr = lr, net = start.net, opt = start.opt, done = 0, random = random }
  end
  local left = table.move(trials, 1, #trials, 1, {})
  for _, last in ipairs { math.max(1, steps // 4), steps } do
    for _, t in ipairs(left) do go_on(p, t, last, batches) end
    table.sort(left, function(a, b) return a.loss < b.loss end)
    local half = math.max(2, (#left + 1) // 2)
    local close = left[1].loss + CLOSE * math.abs(left[1].loss)  -- on a plateau nobody has lost yet
    for k = #left, half + 1, -1 do
      if left[k].loss > close then left[k] = nil end
    end
  end
  local function train(lr, those)
    local t = { lr = lr, net = start.net, opt = start.opt, done = 0, random = random }
    go_on(p, t, steps, those)
    return t
  end
  local function try(lr)
    local t = train(lr, batches)
    trials[#trials + 1] = t
    return t
  end
  -- The ramp takes a rate for too large that a longer training bears, and for too small one that needs longer.
  for _, factor in ipairs { STEP, 1 / STEP } do
    for _ = 1, MORE do
      local best = left[1]
      for _, t in ipairs(trials) do
        if (t.lr - best.lr) * (factor - 1) > 0 then best = nil break end
      end
      if not best then break end
      local t = try(best.lr * factor)
      if t.loss < best.loss then left[1] = t end
    end
  end
  local best = left[1].lr
  try(best * STEP ^ 0.5)
  try(best / STEP ^ 0.5)
  sort(trials)
  local others = keep(feed)
  for _ = 1, AGAIN do
    local once
    for _, t in ipairs(good_ones(trials)) do once = once or not t.again and t end
    if not once then break end
    once.loss, once.again = (once.loss + train(once.lr, others).loss) / 2, true
    sort(trials)
  end
  for _, t in ipairs(trials) do t.net, t.opt, t.random, t.again = nil, nil, nil, nil end
  return trials
end

-- ---- the object ----

local meta = { __name = "lr_find" }

local function curve_of(self, width)
  local low, high = math.huge, -math.huge
  for _, J in ipairs(self.losses) do low, high = math.min(low, J), math.max(high, J) end
  local last = self.losses[1] + 0.5 * math.abs(self.losses[1] - low)
  local x, y = {}, {}
  for k, J in ipairs(self.losses) do x[k], y[k] = self.rates[k], math.min(J, last + (last - low)) end
  return require("nablua.plot").curve({ loss = { x = x, y = y }, [self.line] = { x = { self.lr, self.lr },
    y = { low, math.min(high, last + (last - low)) } } }, { logx = true, xlabel = "learning rate",
    ylabel = "loss, smoothed", title = "learning rates, one step each", width = width })
end

local function lines_of(self, settings)
  local paint = text.painter(settings)
  local rows = { { "rate", "loss after", "steps" } }
  for k, t in ipairs(self.trials) do
    rows[k + 1] = { ("%.2g"):format(t.lr), t.loss < math.huge and text.number(t.loss) or "broke away",
      ("%d"):format(t.done) }
  end
  local lines = text.columns(rows, { "right", "right", "right" }, "   ")
  for k, line in ipairs(lines) do lines[k] = k == 1 and paint("dim", line) or k == 2 and paint("bold", line) or line end
  lines[#lines + 1] = "suggestion: " .. paint("cyan", self.line)
  return table.concat(lines, "\n")
end

meta.__tostring = function(self) return lines_of(self, { width = 100 }) end

function meta.__display(self, settings)
  local plot = curve_of(self)
  local bundle = plot:__display(settings)
  bundle["text/plain"] = bundle["text/plain"] .. "\n" .. lines_of(self, settings)
  if settings.rich and bundle[figure.mimes.svg] then
    local html = require "nablua.inspect.html"
    local rows = {}
    for k, t in ipairs(self.trials) do
      rows[k] = { ("%.2g"):format(t.lr), t.loss < math.huge and text.number(t.loss) or "broke away",
        ("%d"):format(t.done) }
    end
    bundle["text/html"] = bundle[figure.mimes.svg] .. html.table({ "rate", "loss after", "steps" }, rows,
      { "right", "right", "right" }, function(k) return k == 1 and "font-weight:600" or "" end) ..
      html.line("suggestion: " .. html.code(self.line))
    bundle[figure.mimes.svg] = nil
  end
  return bundle
end

function rates.lr_find(net, loss, opt, set, asked)
  local o = options.check(WHERE, params, asked)
  given.net(WHERE, net)
  given.loss(WHERE, loss)
  given.optimizer(WHERE, opt)
  if o.low >= o.high then given.refuse(WHERE, "low must be below high, got %g and %g", o.low, o.high) end
  if opt.lr == nil then given.refuse(WHERE, "this optimizer has no lr") end
  if getmetatable(opt).__name == "LBFGS" then
    given.refuse(WHERE, "LBFGS looks for the length of its steps itself; leave its lr at 1")
  end
  local self = setmetatable({}, meta)
  local random = { native.random_state() }
  modes.restoring(function() native.random_state(random[1], random[2]) end, patient.on_a_copy, net, opt, function()
    local p = { net = net, loss = loss, opt = opt }
    local feed = given.feed(WHERE, set, o.size)
    local start = { net = net:state(), opt = opt:state() }
    local curve = ramp(p, feed, o)
    self.rates, self.losses = curve.rates, curve.losses
    self.trials = compare(p, feed, candidates(curve, o), o.steps, start)
  end)
  local best = self.trials[1]
  if not best or best.loss == math.huge then
    given.refuse(WHERE, "no rate from %g to %g lowers the loss; see inspect.check", o.low, o.high)
  end
  local good = good_ones(self.trials)
  table.sort(good, function(a, b) return a.lr < b.lr end)
  self.lr = tonumber(("%.2g"):format(good[(#good + 1) // 2].lr))
  self.line = ("opt.lr = %g"):format(self.lr)
  return self
end

return rates
