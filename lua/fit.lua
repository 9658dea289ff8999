-- SPDX-License-Identifier: MIT
-- nn.fit: the training loop that people write anyway, with progress, validation and a history.
local native = require "nablua.native"
local nb = require "nablua.core"
local checkpoint = require "nablua.checkpoint"
local coverage = require "nablua.optim.coverage"
local display = require "nablua.display"
local modes = require "nablua.modes"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local progress = require "nablua.progress"
local registry = require "nablua.registry"
local together = require "nablua.dist.together"

local fit = {}

local params = {
  { name = "epochs", type = "size", default = 1 },
  { name = "size", type = "size", default = 32, doc = "samples in a batch, where train or valid is {x, y}" },
  { name = "shuffle", type = "boolean", default = true, doc = "a new order each epoch, where train is {x, y}" },
  { name = "valid", type = "any", optional = true, doc = "{x, y} or batches to measure on after each epoch" },
  { name = "metrics", type = "table", optional = true,
    doc = "{\"accuracy\", \"f1\", \"precision\", \"recall\", \"auc\", \"r2\", \"top5\"}, what nn.metrics has, or " ..
      "functions by name: {error = function(output, target) return number end}" },
  { name = "schedule", type = "table", optional = true, doc = "a learning rate schedule, stepped by fit" },
  { name = "schedule_per", choices = { "epoch", "batch" }, default = "epoch", doc = "what a step of the schedule is" },
  { name = "clip", type = "positive or huge", optional = true, doc = "largest norm of all gradients together" },
  { name = "patience", type = "size", optional = true,
    doc = "ends the training after so many epochs without a new minimum of valid_loss (without valid: loss)" },
  { name = "keep", choices = { "last", "best" }, default = "last",
    doc = "whose parameters the net has at the end: the last epoch's, or those of the lowest such loss" },
  { name = "checkpoint", type = "string", optional = true,
    doc = "a .safetensors file to go on from if it is there, written after each epoch and every minute" },
  { name = "checkpoint_every", type = "size", optional = true, doc = "batches between checkpoints, in place of time" },
  { name = "callback", type = "function", optional = true,
    doc = "called after each epoch with {epoch, loss, net, opt, history}; returning true ends the training" },
  { name = "plot", type = "boolean", default = false,
    doc = "draws the losses as a curve, anew in its place after each epoch" },
  { name = "record", type = "boolean", default = false,
    doc = "keeps what .run of the history needs to go back to any step; tiny nets train up to twice as long then" },
  { name = "progress", type = "boolean", default = true,
    doc = "a bar in a terminal or notebook, and one line for each epoch" },
}

-- ---- what is measured ----

-- The share of samples whose class is right: the largest of K scores, or a single score beyond the threshold
-- (0 for logits, ½ for probabilities).  Samples of the target `ignored` do not count: returned is how many do, too.
local function accuracy(output, target, threshold, ignored)
  local shape = output.shape
  local guess, truth
  if #shape >= 2 and shape[2] > 1 then
    guess = output:argmax(2)
    truth = target:dim() == output:dim() and target:argmax(2) or target
  else
    local most = target:numel() > 0 and target:abs():max():item() or 0
    if most > 1 then
      native.raise(("nn.fit: accuracy of one score needs targets 0 and 1, or -1 and 1, got one of size %g")
        :format(most))
    end
    guess = output:gt(threshold):to("f32")
    truth = target:gt(threshold == 0 and target:lt(0):any():item() and 0 or 0.5):to("f32")
  end
  local right = guess:eq(truth:view(guess.shape))
  if ignored == nil or truth ~= target then return right:to("f32"):mean():item() end
  local counts = target:ne(ignored):view(guess.shape)
  local n = counts:sum():item()
  return (right & counts):sum():item() / n, n
end

local function make_metrics(given, loss)
  local list = {}
  local threshold = module.is(loss) and loss.threshold or 0.5
  local ignored = module.is(loss) and loss.ignore_index or nil
  for key, value in pairs(given or {}) do
    if value == "accuracy" and math.type(key) == "integer" then
      list[#list + 1] = { "accuracy", function(output, target)
        return accuracy(output, target, threshold, ignored)
      end }
    elseif type(key) == "string" and type(value) == "function" then
      list[#list + 1] = { key, function(...) return (value(...)) end }
    else
      local metrics = require("nablua.nn").metrics
      local gathered = type(value) == "string" and metrics.named(value) or metrics.is_metric(value) and value
      if not gathered then
        native.raise(("nn.fit: metrics must hold \"accuracy\", \"f1\" or another name, what nn.metrics has, or " ..
          "functions by name, got %s"):format(options.describe(value)))
      end
      list[#list + 1] = { type(key) == "string" and key or type(value) == "string" and value or gathered.name,
        metric = gathered, how = { threshold = threshold, ignored = ignored } }
    end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

-- Means over samples of the loss and the metrics; of a loss that is a sum itself, its sum.
local Tally = {}
Tally.__index = Tally

local function new_tally(metrics, loss)
  local self = setmetatable({ metrics = metrics, loss = loss }, Tally)
  self:clear()
  return self
end

function Tally:clear()
  self.n, self.sums, self.counts = 0, {}, {}
end

-- Adds a mean over n things, of which there may be none.
local function add_mean(self, name, value, n)
  self.counts[name] = (self.counts[name] or 0) + n
  if n > 0 then self.sums[name] = (self.sums[name] or 0) + value * n end
end

-- How many things a batch's loss is the mean of: samples, but for those that it ignores.
local function weight_of(loss, output, target)
  local ignored = module.is(loss) and loss.ignore_index
  if not ignored or not nb.is_tensor(target) then return output:dim() > 0 and output:size(1) or 1 end
  return target:ne(ignored):sum():item()
end

function Tally:add(output, target, value)
  if not together.counts() then return end
  local n = output:dim() > 0 and output:size(1) or 1
  self.n = self.n + n
  if module.is(self.loss) and self.loss.reduction == "sum" then
    self.sums.loss, self.counts.loss = (self.sums.loss or 0) + value, 1
  else
    add_mean(self, "loss", value, nb.no_grad(weight_of, self.loss, output, target))
  end
  if #self.metrics == 0 then return end
  nb.no_grad(function()
    for _, m in ipairs(self.metrics) do
      if m.metric then
        self.sums[m[1]] = self.sums[m[1]] or {}
        m.metric:gather(self.sums[m[1]], output, target, m.how)
        goto continue
      end
      local result, count = m[2](output:detach(), target)
      result = nb.is_tensor(result) and result:item() or result
      if type(result) ~= "number" then
        native.raise(("nn.fit: the metric %s must give a number, got %s"):format(m[1], options.describe(result)))
      end
      add_mean(self, m[1], result, math.type(count) == "integer" and count or n)
      ::continue::
    end
  end)
end

-- That of all ranks.
function Tally:of_all()
  local names = { "loss" }
  for i, m in ipairs(self.metrics) do names[i + 1] = m[1] end
  local sum = module.is(self.loss) and self.loss.reduction == "sum"
  local all = together.add_up(self, names, sum)
  all.metrics, all.loss = self.metrics, self.loss
  return setmetatable(all, Tally)
end

function Tally:mean(name)
  for _, m in ipairs(self.metrics) do
    if m.metric and m[1] == name then
      local value = m.metric:value_of(self.sums[name] or {})
      if type(value) ~= "number" then
        native.raise(("nn.fit: the metric %s must give a number, got %s"):format(name, options.describe(value)))
      end
      return value
    end
  end
  return (self.sums[name] or 0) / (self.counts[name] or 0)
end

-- ---- the loop ----

local function is_list_of_tensors(t)
  if type(t) ~= "table" or #t < 2 then return false end
  for i = 1, #t do
    if not nb.is_tensor(t[i]) then return false end
  end
  return true
end

-- What stands in a table that should have been {x, y}: one of them is nil, as a rule.
local function contents(given)
  if type(given) ~= "table" or getmetatable(given) then return options.describe(given) end
  local parts = {}
  for i = 1, math.max(math.min(#given, 4), 2) do parts[i] = options.describe(given[i]) end
  return ("{%s%s}"):format(table.concat(parts, ", "), #given > 4 and ", ..." or "")
end

local function as_batches(what, given, size, shuffle)
  local meta = getmetatable(given)
  if type(given) == "function" or (type(meta) == "table" and meta.__call) then return given end
  if is_list_of_tensors(given) then
    return require("nablua.data").batches { size = size, shuffle = shuffle, table.unpack(given) }
  end
  native.raise(("nn.fit: %s must be {x, y} or what data.batches gives, got %s"):format(what, contents(given)))
end

local function count_of(batches)
  local meta = getmetatable(batches)
  return type(meta) == "table" and meta.__len and #batches or nil
end

-- The batch after the one that began with `previous`: the net's inputs and, last, the target.  nil at the end.
local function next_batch(batches, previous)
  local batch = table.pack(batches(nil, previous))
  if batch[1] == nil then return nil end
  if batch.n < 2 then native.raise("nn.fit: a batch must have an input and a target, it has one value") end
  return batch, batch[batch.n]
end

local function forward(net, batch)
  return net(table.unpack(batch, 1, batch.n - 1))
end

-- The batches of an epoch that a checkpoint has seen are drawn as they were then, and passed over.
local function pass_over(run, batches)
  local now = nb.random_state()
  return modes.restoring(function() nb.random_state(now) end, function()
    local batch = {}
    nb.random_state(run.start)
    for k = 1, run.batch do
      batch = next_batch(batches, batch[1])
      if not batch then
        native.raise(("nn.fit: the checkpoint was made after batch %d of an epoch, but train has %d"):format(run.batch,
          k - 1))
      end
    end
    return batch[1]
  end)
end

-- The loss as a number; one that is none ends the training before it spoils the parameters.  Of a batch whose samples
-- are all ignored it is NaN with gradients of 0, which spoils nothing.
local function value_of(run, J, output, target)
  local value = nb.is_tensor(J) and J:numel() == 1 and J:item()
  if not value then
    native.raise(("nn.fit: the loss must give a tensor of one number, got %s"):format(options.describe(J)))
  end
  if value ~= value and nb.no_grad(weight_of, run.loss, output, target) == 0 then return value end
  if value ~= value or value == math.huge or value == -math.huge then
    native.raise(("nn.fit: the loss is %s in epoch %d, batch %d; the net is as it was before that batch.  A lower " ..
      "learning rate or clip= may help"):format(value ~= value and "NaN" or "infinite", run.epoch, run.batch + 1))
  end
  return value
end

-- Forward, loss, backward, update.  The optimizer calls for the loss, since LBFGS does so several times; what is
-- counted is the first.
local function train_step(run, batch, target, o)
  local output, value
  run.opt:step(function()
    run.opt:zero_grad()
    local out = forward(run.net, batch)
    local J = run.loss(out, target)
    local number = value_of(run, J, out, target)
    if not output then output, value = out, number end
    J:backward()
    if o.clip then require("nablua.nn").clip_grad_norm(run.parameters, o.clip) end
    return together.loss_for(run.opt, J, number)
  end)
  if run.schedule and o.schedule_per == "batch" then run.schedule:step((together.loss(value))) end
  run.tally:add(output, target, value)
end

-- Does the next step where it is recorded: what is counted is the first forward pass.  False at the epoch's end.
local function recorded_step(run)
  run.output = nil
  if not run.next() then return false end
  run.tally:add(run.output, run.target, run.value)
  run.output, run.target = nil, nil
  return true
end

-- The same where it is not.  `previous` is the first of the batch before.
local function plain_step(run, batches, o)
  local batch, target = next_batch(batches, run.previous)
  if not batch then return false end
  run.previous = batch[1]
  native.border()
  train_step(run, batch, target, o)
  return true
end

local function train_epoch(run, batches, o, bar)
  run.previous = nil
  if run.batch > 0 then
    run.previous = not run.next and pass_over(run, batches) or nil
    bar.done = run.batch
  else
    run.start, run.began = nb.random_state(), native.clock()
    run.tally:clear()
  end
  while run.next and recorded_step(run) or not run.next and plain_step(run, batches, o) do
    run.batch = run.batch + 1
    bar:step(("loss %.4f"):format(run.tally:mean "loss"))
    if run.checkpoint then run.checkpoint:after_batch() end
  end
  run.batch = 0
end

local function evaluate(run, batches, metrics)
  local tally = new_tally(metrics, run.loss)
  modes.with(run.net, false, nb.no_grad, function()
    local batch, target = next_batch(batches)
    while batch do
      local output = forward(run.net, batch)
      tally:add(output, target, run.loss(output, target):item())
      batch, target = next_batch(batches, batch[1])
    end
  end)
  return tally
end

local function check(net, loss, opt)
  if not module.is(net) then native.raise("nn.fit: net must be a module, got " .. options.describe(net)) end
  if not module.is(loss) and type(loss) ~= "function" then
    native.raise(("nn.fit: loss must be a module such as nn.MSELoss() or a function, got %s%s"):format(
      options.describe(loss), not nb.is_tensor(loss) and getmetatable(loss) and "; call the class: nn.MSELoss()" or
        "; the order is nn.fit(net, loss, opt, {x, y}, {epochs=})"))
  end
  if type(opt) ~= "table" or type(opt.step) ~= "function" or type(opt.zero_grad) ~= "function" then
    native.raise("nn.fit: opt must be an optimizer, got " .. options.describe(opt))
  end
end

local function check_schedule(schedule, opt)
  if schedule == nil then return end
  if type(schedule) ~= "table" or type(schedule.step) ~= "function" or schedule.optimizer == nil then
    native.raise("nn.fit: schedule must be a learning rate schedule such as optim.StepLR(opt, {step_size=5}), got " ..
      options.describe(schedule))
  end
  if schedule.optimizer ~= opt then native.raise "nn.fit: the schedule is of another optimizer than opt" end
end

-- Puts the means of a tally into the history.
local function record(run, tally, prefix, metrics)
  if tally.n == 0 then
    native.raise(("nn.fit: %s gave no batch in epoch %d; %s"):format(prefix == "" and "train" or "valid", run.epoch,
      run.epoch == 1 and "it has no samples, or fewer than a whole batch" or
      "an iterator must begin anew with each epoch, as that of data.batches does"))
  end
  local names = { "loss" }
  for i, m in ipairs(metrics) do names[i + 1] = m[1] end
  for _, name in ipairs(names) do
    local full = prefix .. name
    run.history[full] = run.history[full] or {}
    run.history[full][run.epoch] = tally:mean(name)
  end
  return names
end

-- The line of an epoch, which a terminal must have room for: names, or only the numbers of the validation in
-- parentheses behind those of the training, or as much of these as fits.
local function line_of(run, label, names, valid, seconds)
  local function value(name) return ("%.4f"):format(run.history[name][run.epoch]) end
  local end_of_line, plain, short = ("  %.1f s"):format(seconds), label, label
  for _, name in ipairs(names) do plain = ("%s  %s %s"):format(plain, name:gsub("_", " "), value(name)) end
  for _, name in ipairs(names) do
    if valid then plain = ("%s  valid %s %s"):format(plain, name:gsub("_", " "), value("valid_" .. name)) end
    short = ("%s  %s %s%s"):format(short, name, value(name), valid and (" (%s)"):format(value("valid_" .. name)) or "")
  end
  local room = native.isatty(1) and native.columns() - 1 or math.huge
  local function fits(line) return native.width(line) <= room end
  if fits(plain .. end_of_line) then return plain .. end_of_line end
  if fits(short .. end_of_line) then return short .. end_of_line end
  return fits(short) and short or short:sub(1, (utf8.offset(short, room) or #short + 1) - 1) .. "…"
end

-- Counts the epochs since the last new minimum of the loss that is watched, and keeps the net of the best.
local function watch(run, o)
  local list = run.history.valid_loss or run.history.loss
  local value = list[run.epoch]
  if not run.best or value < run.best then
    run.best, run.best_epoch, run.waited = value, run.epoch, 0
    if o.keep == "best" then run.best_state = run.net:state() end
  else
    run.waited = run.waited + 1
  end
  return o.patience ~= nil and run.waited >= o.patience
end

local function open_checkpoint(run, o)
  if not o.checkpoint then return end
  run.checkpoint = checkpoint.open(o.checkpoint, o.checkpoint_every, run)
  if not run.checkpoint.resumed or not o.progress then return end
  if run.ended or run.epoch > o.epochs then
    print(("%s: trained to the end already, %d epochs; remove the file to start anew"):format(o.checkpoint,
      run.epoch - 1))
  else
    print(("%s: going on in epoch %d%s"):format(o.checkpoint, run.epoch,
      run.batch > 0 and (" after batch %d"):format(run.batch) or ""))
  end
end

-- Goes on with the curve by what an epoch gave.
local function extend_curve(run, epoch)
  local history = run.history
  run.curve:update { loss = history.loss[epoch], valid_loss = history.valid_loss and history.valid_loss[epoch] }
end

local function open_curve(run, o)
  if not o.plot then return end
  run.curve = nb.plot.curve({}, { title = "training", xlabel = "epoch" })
  for epoch = 1, run.epoch - 1 do extend_curve(run, epoch) end
  return run.curve
end

-- One epoch with all that follows it; true when it was the last.
local function run_epoch(run, train, valid, metrics, o)
  local label = ("epoch %d/%d"):format(run.epoch, o.epochs)
  local bar <close> = progress.progress(count_of(train), { label = label })
  bar.visible = bar.visible and o.progress
  bar:follow(run.bar)
  run.bar = bar
  train_epoch(run, train, o, bar)
  local names = record(run, run.tally:of_all(), "", metrics)
  together.equal_buffers(run.net)
  if valid then record(run, evaluate(run, valid, metrics):of_all(), "valid_", metrics) end
  if run.schedule and o.schedule_per == "epoch" then
    run.schedule:step((run.history.valid_loss or run.history.loss)[run.epoch])
  end
  local seconds = native.clock() - run.began
  run.history.seconds[run.epoch] = seconds
  bar:close()
  if run.curve then extend_curve(run, run.epoch) end
  local drawn = run.curve and display.live and display.live()
  if o.progress and not drawn then print(line_of(run, label, names, valid, seconds)) end
  local patience_over = watch(run, o)
  if patience_over and o.progress then
    print(("no new minimum for %d epochs; the best was epoch %d"):format(run.waited, run.best_epoch))
  end
  local asked = o.callback and o.callback { epoch = run.epoch, loss = run.history.loss[run.epoch], net = run.net,
    opt = run.opt, history = run.history } == true
  run.epoch, run.ended = run.epoch + 1, together.any(patience_over or asked) or nil
  if run.checkpoint then run.checkpoint:after_epoch() end
  return run.ended
end

local function train_all(run, train, valid, metrics, o)
  local _ <close> = open_curve(run, o)
  while run.epoch <= o.epochs and not run.ended do run_epoch(run, train, valid, metrics, o) end
  if run.best_state then run.net:load_state(run.best_state) end
end

-- ---- as a run ----

-- The run that this is; nil where it cannot be recorded.
local function open_record(run, train, o)
  if not o.record then return nil end
  return require("nablua.run").of_fit({ net = run.net, loss = run.loss, opt = run.opt, data = train, clip = o.clip,
    epochs = o.epochs, schedule = o.schedule, schedule_per = o.schedule_per,
    seen = function(output, target, J)
      local number = value_of(run, J, output, target)
      if not run.output then run.output, run.target, run.value = output, target, number end
    end }, { epoch = run.epoch, batch = run.batch, start = run.start, sum = 0, count = 0 })
end

-- The history, which has the run that made it as the field `run`; what goes through its entries finds numbers alone.
local function with_run(history, recorded)
  return setmetatable(history, { __index = function(_, key) return key == "run" and recorded or nil end,
    __metatable = false })
end

local function train_recorded(run, train, valid, metrics, o)
  local runs, recorded = require "nablua.run", open_record(run, train, o)
  if not recorded then
    train_all(run, train, valid, metrics, o)
    return nil
  end
  runs.drive_fit(recorded, function(next_step)
    run.next = next_step
    train_all(run, train, valid, metrics, o)
  end)
  runs.end_fit(recorded)
  return recorded
end

registry.define(fit, "nn.", "fit", {
  family = "Training",
  doc = "Trains a net: for every batch forward, loss, backward, update.  Returns a history of one number an epoch: " ..
    "loss, the metrics, and valid_... of each, means over what is not ignored, sums where the loss is one.  " ..
    "An interrupt or error keeps the net as it is; with checkpoint= the same call goes on later where it stopped, " ..
    "to the same numbers and with the optimizer's options of then.  With record=true history.run is the " ..
    "training as a run, which goes back to any step; it is nil where several processes train.",
  signature = "nn.fit(net, loss, opt, train, {epochs=1, size=32, valid=, metrics=, plot=, checkpoint=, ...})",
  params = { { name = "net", type = "module" },
    { name = "loss", type = "module or function", doc = "of output and target" },
    { name = "opt", type = "optimizer" },
    { name = "train", type = "table or batches",
      doc = "{x, y} or what data.batches gives; the last of a batch is the target" },
    table.unpack(params) },
  see = { "data.batches", "optim", "net:train", "nb.run" },
  example = [[
local net = nn.Linear(1, 1)
local x = nb.linspace(-1, 1, 8):view(8, 1)
local opt = optim.SGD(net:parameters(), {lr=0.1})
local history = nn.fit(net, nn.MSELoss(), opt, {x, 2 * x}, {epochs=3, progress=false})
return #history.loss  --> 3]],
  function(net, loss, opt, train, given)
    check(net, loss, opt)
    local o = options.check("nn.fit", params, given)
    check_schedule(o.schedule, opt)
    local metrics = make_metrics(o.metrics, loss)
    train = together.shares("train", as_batches("train", train, o.size, o.shuffle))
    local valid = o.valid and together.shares("valid", as_batches("valid", o.valid, math.max(o.size, 256), false))
    if not together.is_first() then o.progress, o.plot = false, false end
    together.parallel(net, module.is(loss) and loss.reduction == "sum")
    local run = { net = net, loss = loss, opt = opt, schedule = o.schedule, parameters = net:parameters(), epoch = 1,
      batch = 0, began = native.clock(), waited = 0, tally = new_tally(metrics, loss), history = { seconds = {} } }
    coverage.look("nn.fit", net, opt)
    open_checkpoint(run, o)
    local restore, recorded = modes.of(net), nil
    modes.restoring(function()
      restore()
      opt:zero_grad()
    end, function()
      net:train()
      recorded = train_recorded(run, train, valid, metrics, o)
    end)
    return recorded and with_run(run.history, recorded) or run.history
  end,
})

return fit
