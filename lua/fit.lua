-- SPDX-License-Identifier: MIT
-- nn.fit: the training loop that people write anyway, with progress, validation and a history.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local progress = require "nablua.progress"
local registry = require "nablua.registry"

local fit = {}

local params = {
  { name = "epochs", type = "size", default = 1 },
  { name = "size", type = "size", default = 32, doc = "samples in a batch, where train or valid is {x, y}" },
  { name = "shuffle", type = "boolean", default = true, doc = "a new order each epoch, where train is {x, y}" },
  { name = "valid", type = "any", optional = true, doc = "{x, y} or batches to measure on after each epoch" },
  { name = "metrics", type = "table", optional = true,
    doc = "{\"accuracy\"}, or functions by name: {error = function(output, target) return number end}" },
  { name = "callback", type = "function", optional = true,
    doc = "called after each epoch with {epoch, loss, net, opt, history}; returning true ends the training" },
  { name = "progress", type = "boolean", default = true, doc = "a bar on a terminal, and one line for each epoch" },
}

-- ---- what is measured ----

-- The share of samples whose class is right: the largest of K scores, or a single score beyond the threshold
-- (0 for logits, ½ for probabilities).
local function accuracy(output, target, threshold)
  local shape = output.shape
  local guess, truth
  if #shape >= 2 and shape[2] > 1 then
    guess = output:argmax(2)
    truth = target:dim() == output:dim() and target:argmax(2) or target
  else
    guess = output:gt(threshold):to("f32")
    truth = target:gt(threshold == 0 and target:lt(0):any():item() and 0 or 0.5):to("f32")
  end
  return guess:eq(truth:view(guess.shape)):to("f32"):mean():item()
end

local function make_metrics(given, loss)
  local list = {}
  local threshold = module.is(loss) and loss.threshold or 0.5
  for key, value in pairs(given or {}) do
    if value == "accuracy" and math.type(key) == "integer" then
      list[#list + 1] = { "accuracy", function(output, target) return accuracy(output, target, threshold) end }
    elseif type(key) == "string" and type(value) == "function" then
      list[#list + 1] = { key, value }
    else
      native.raise(("nn.fit: metrics must hold \"accuracy\" or functions by name, got %s")
        :format(options.describe(value)))
    end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

-- Means over samples of the loss and the metrics.
local function new_tally(metrics)
  local tally = { n = 0, sums = {} }
  function tally.add(output, target, loss)
    local n = output:dim() > 0 and output:size(1) or 1
    tally.n = tally.n + n
    tally.sums.loss = (tally.sums.loss or 0) + loss * n
    if #metrics == 0 then return end
    nb.no_grad(function()
      for _, m in ipairs(metrics) do
        local value = m[2](output:detach(), target)
        value = nb.is_tensor(value) and value:item() or value
        tally.sums[m[1]] = (tally.sums[m[1]] or 0) + value * n
      end
    end)
  end
  function tally.mean(name)
    return tally.n > 0 and tally.sums[name] / tally.n or 0 / 0
  end
  return tally
end

-- ---- the loop ----

local function as_batches(what, given, size, shuffle)
  local meta = getmetatable(given)
  if type(given) == "function" or (type(meta) == "table" and meta.__call) then return given end
  if type(given) == "table" and nb.is_tensor(given[1]) and nb.is_tensor(given[2]) then
    return require("nablua.data").batches { given[1], given[2], size = size, shuffle = shuffle }
  end
  native.raise(("nn.fit: %s must be {x, y} or what data.batches gives, got %s"):format(what, options.describe(given)))
end

local function count_of(batches)
  local meta = getmetatable(batches)
  return type(meta) == "table" and meta.__len and #batches or nil
end

local function train_epoch(net, loss, opt, batches, metrics, bar)
  local tally = new_tally(metrics)
  for x, y in batches do
    opt:zero_grad()
    local output = net(x)
    local J = loss(output, y)
    J:backward()
    opt:step()
    tally.add(output, y, J:item())
    bar:step(("loss %.4f"):format(tally.mean "loss"))
  end
  return tally
end

local function evaluate(net, loss, batches, metrics)
  local tally = new_tally(metrics)
  net:eval()
  nb.no_grad(function()
    for x, y in batches do
      local output = net(x)
      tally.add(output, y, loss(output, y):item())
    end
  end)
  net:train()
  return tally
end

-- Restores every module's mode and clears gradients, however the loop ends.
local function guard(net, opt)
  local modes = {}
  for _, m in net:named_modules() do modes[m] = m.training end
  return setmetatable({}, { __close = function()
    for m, mode in pairs(modes) do rawset(m, "training", mode) end
    opt:zero_grad()
  end })
end

local function check(net, loss, opt)
  if not module.is(net) then native.raise("nn.fit: net must be a module, got " .. options.describe(net)) end
  if not module.is(loss) and type(loss) ~= "function" then
    native.raise(("nn.fit: loss must be a module such as nn.MSELoss() or a function, got %s%s"):format(
      options.describe(loss), type(loss) == "table" and "; call the class: nn.MSELoss()" or ""))
  end
  if type(opt) ~= "table" or type(opt.step) ~= "function" or type(opt.zero_grad) ~= "function" then
    native.raise("nn.fit: opt must be an optimizer, got " .. options.describe(opt))
  end
end

local function record(history, epoch, name, value)
  history[name] = history[name] or {}
  history[name][epoch] = value
  return ("  %s %.4f"):format(name:gsub("_", " "), value)
end

registry.define(fit, "nn.", "fit", {
  doc = "Trains a net: for every batch forward, loss, backward, update.  Returns a history of one number an epoch: " ..
    "loss, the metrics, and valid_... of each.  An interrupt or error keeps the net as it is.",
  signature = "nn.fit(net, loss, opt, train, {epochs=1, size=32, shuffle=true, valid=, metrics=, callback=, " ..
    "progress=true})",
  params = { { name = "net" }, { name = "loss", doc = "a module or function of output and target" },
    { name = "opt" }, { name = "train", doc = "{x, y} or what data.batches gives" }, table.unpack(params) },
  see = { "data.batches", "optim", "net:train" },
  example = [[
local net = nn.Linear(1, 1)
local x = nb.linspace(-1, 1, 8):view(8, 1)
local history = nn.fit(net, nn.MSELoss(), optim.SGD(net:parameters(), {lr=0.1}), {x, 2 * x}, {epochs=3, progress=false})
return #history.loss  --> 3]],
  function(net, loss, opt, train, given)
    check(net, loss, opt)
    local o = options.check("nn.fit", params, given)
    local metrics = make_metrics(o.metrics, loss)
    train = as_batches("train", train, o.size, o.shuffle)
    local valid = o.valid and as_batches("valid", o.valid, math.max(o.size, 256), false)
    local history = { seconds = {} }
    local _ <close> = guard(net, opt)
    net:train()
    for epoch = 1, o.epochs do
      local start = native.clock()
      local label = ("epoch %d/%d"):format(epoch, o.epochs)
      local bar <close> = progress.progress(count_of(train), { label = label })
      bar.visible = bar.visible and o.progress
      local tally = train_epoch(net, loss, opt, train, metrics, bar)
      local line = label .. record(history, epoch, "loss", tally.mean "loss")
      for _, m in ipairs(metrics) do line = line .. record(history, epoch, m[1], tally.mean(m[1])) end
      if valid then
        tally = evaluate(net, loss, valid, metrics)
        line = line .. record(history, epoch, "valid_loss", tally.mean "loss")
        for _, m in ipairs(metrics) do
          line = line .. record(history, epoch, "valid_" .. m[1], tally.mean(m[1]))
        end
      end
      history.seconds[epoch] = native.clock() - start
      bar:close()
      if o.progress then print(("%s  %.1f s"):format(line, history.seconds[epoch])) end
      if o.callback and o.callback { epoch = epoch, loss = history.loss[epoch], net = net, opt = opt,
        history = history } == true then break end
    end
    return history
  end,
})

return fit
