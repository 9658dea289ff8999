-- SPDX-License-Identifier: MIT
-- The module `inspect`: backpropagation made visible, gathered from its files.
local nb = require "nablua.core"
local registry = require "nablua.registry"

registry.load "nablua.nn"

local inspect = registry.home "nablua.inspect"

-- Defines a function of a file that is read when it is first called, or its source is asked for.
local function define(name, file, entry)
  function entry.code() return require("nablua.inspect." .. file)[name] end
  entry.value = function(...) return entry.code()(...) end
  registry.define(inspect, "inspect.", name, entry)
end

define("explain", "step", {
  doc = "∂J/∂w as the product of factors along the paths from J to w: symbols, shapes, sizes, and the factor that " ..
    "shrank it.  J's tape must be live (before J:backward, or with retain_graph).  Fields: formula, latex, factors " ..
    "(symbol, shape, norm, gain, path of a module, :apply(d)), shrank; :value() is the gradient.  In large nets a " ..
    "module is one factor; e:open(\"encoder.3\") shows what is inside it.",
  signature = "inspect.explain(J, w)", see = { "inspect.step", "nb.grad" },
  params = { { name = "J", type = "tensor", doc = "the loss, or a stepper; without it the last stepper is meant" },
    { name = "w", type = "tensor", doc = "a parameter, or another tensor that J was computed from" } },
  example = [[
local net = nn.Sequential{ nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1) }
local J = nn.bce_with_logits(net(nb.ones(1, 2)), nb.ones(1, 1))
return inspect.explain(J, net[1].weight).formula  --> "∂J/∂W⁽¹⁾ = (ŷ−y)·W⁽²⁾·σ'(z⁽²⁾)·X"]],
})

define("step", "step", {
  doc = "One training step as a film: forward, loss, backward, update.  The program runs once and is recorded; " ..
    "s:next(n), s:back(n), s:to(name, \"forward\"|\"backward\"), s:over() (the next module as one), s:into() " ..
    "(to its first step) and s:run() move over the record, and " ..
    "parameters, gradients, buffers, optimizer and random numbers follow bit for bit.  Lua variables and printed " ..
    "output do not.  Fields: pos count phase op layer formula inputs output grad_in grad_out deposits J.",
  signature = "inspect.step(net, x, y, {loss=, opt=, lr=})  or  inspect.step(f, ...)", see = { "inspect.explain" },
  params = { { name = "net", type = "module or function", doc = "or f(...), which returns the loss J" },
    { name = "loss", type = "function", optional = true, doc = "loss(net(x), y)" },
    { name = "opt", type = "optimizer", optional = true, doc = "whose step is the update" },
    { name = "lr", type = "number", optional = true, doc = "instead of opt: plain gradient descent" } },
  example = [[
local net = nn.Sequential{ nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Sigmoid() }
local s = inspect.step(net, nb.ones(4, 2), nb.ones(4, 1), {loss=nn.MSELoss(), lr=0.5})
return s:next().formula  --> "z⁽²⁾ = X·W⁽¹⁾ᵀ+b⁽¹⁾"]],
})

define("summary", "summary", {
  doc = "A table of a net's layers for an input: path, kind, shapes, parameters, memory.  Where a shape does not " ..
    "fit, the table up to that layer, what it expected, what it got, and the smallest change that fits.  Rows have " ..
    "path, kind, shape, params, bytes; .total; .failure where there is one.  In large nets a module is one row; " ..
    "s:open(\"encoder.3\") shows what is inside it.",
  signature = "inspect.summary(net, input)", see = { "inspect.step", "summary:open" },
  params = { { name = "net", type = "module" },
    { name = "input", type = "tensor", doc = "what the net is called with" } },
  example = [[
local net = nn.Sequential{ nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2) }
return inspect.summary(net, nb.zeros(1, 3)).total.params  --> 50]],
})

define("gradcheck", "gradcheck", {
  doc = "The tape's gradients of f(inputs...) against signed central differences in f64, entry by entry.  Inputs " ..
    "are converted to f64; f64 leaves, such as net:to(\"f64\"):parameters(), are checked themselves.  Fields: ok, " ..
    "worst (input, index, tape, numeric, error), max_error.",
  signature = "inspect.gradcheck(f, {inputs}, {eps=, tol=})", see = { "nb.grad" },
  params = { { name = "f", type = "function" }, { name = "inputs", type = "table" },
    { name = "eps", type = "number", default = 1e-6 }, { name = "tol", type = "number", default = 1e-5 } },
  example = "inspect.gradcheck(function(x) return x:sin() end, { nb.randn(3) }).ok  --> true",
})

define("watch", "watch", {
  doc = "Listens to a net while it trains: for every step the spread of each layer's output, the gradient that " ..
    "arrives there and at its weights, saturated and dead units, and how far each parameter moved.  Shown as a " ..
    "picture: |∂J/∂W| over the steps, activations of the last.  It reads every number of every layer's output, " ..
    "parameters and gradients once, about as much work as an optimizer's step; {every=10} looks at each tenth " ..
    "step, and the others cost next to nothing.  w:curves(\"grad\") and w:ridgeline(\"gradients\") " ..
    "are plots, w:series(\"grad\") numbers, w.history all there is: at most 2,000 steps, of longer runs one in 2, " ..
    "4, 8 ... and the last; w:detach() ends it, and it ends when nobody holds w any more.",
  signature = "inspect.watch(net, {every=1})", see = { "inspect.diagnose", "w:curves", "w:ridgeline" },
  params = { { name = "net", type = "module" },
    { name = "every", type = "integer", default = 1, doc = "of so many steps one is looked at" } },
  example = [[
local net = nn.Linear(2, 1)
local w = inspect.watch(net)
net(nb.ones(1, 2)):sum():backward()
return #w:detach().history  --> 1]],
})

define("diagnose", "diagnose", {
  doc = "Looks for what keeps a net from learning: vanishing gradients, exploding values, dead ReLUs, saturated " ..
    "units, unscaled inputs, NaN, a loss that does not fit and more; with opt, steps that are too large.  A list of " ..
    "findings {illness, layer, evidence, remedy}; the remedy is a line of Lua.  Nothing is changed.",
  signature = "inspect.diagnose(net, x, y, loss, {opt=, steps=5})  or  inspect.diagnose(net, batches, loss, {...})",
  see = { "inspect.watch", "inspect.explain", "data.batches" },
  params = { { name = "net", type = "module" },
    { name = "x", type = "tensor", doc = "or what data.batches{x, y} gives, whose first batch is taken for x and y" },
    { name = "y", type = "tensor" },
    { name = "loss", type = "function" }, { name = "opt", type = "optimizer", optional = true },
    { name = "steps", type = "integer", default = 5, doc = "of training, to judge the learning rate by" } },
  example = [[
local net = nn.Sequential{ nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Sigmoid() }
local x, y = data.xor()
return inspect.diagnose(net, x, y, nn.BCEWithLogitsLoss())[1].remedy  --> "net[4] = nn.Identity()"]],
})

define("stop", "stop", {
  doc = "Pauses where something happens, at the prompt or in the debugger that is attached, in the frame that " ..
    "applied the operator, whose variables are there, with e for what happened; in scripts it is an error whose " ..
    "value is e.  The condition is asked after each operator, or each " ..
    "backward rule, that op, layer and phase leave.  Fields of e: op layer phase inputs " ..
    "output outputs grad_in given site step locals loss why.  In a run it stands after the step before, so that " ..
    "run:look() shows that step.  Without stops nothing costs anything; while there are some compiled functions run " ..
    "as they are.",
  signature = "inspect.stop{op=, layer=, phase=, when=, loss=}", family = "Runs",
  see = { "inspect.stops", "stop:remove", "nb.anomaly", "run:look" },
  params = { { name = "op", type = "string", optional = true, doc = "an operator's name, or a list of them" },
    { name = "layer", type = "string", optional = true,
      doc = "a layer's path, such as \"3\", or the module; what is inside it counts" },
    { name = "phase", choices = { "forward", "backward" }, optional = true,
      doc = "without it forward, but backward for |grad| and |given|, and both for nan and inf" },
    { name = "when", type = "function", optional = true,
      doc = "f(e), or \"nan\", \"inf\", \"|output| > 10\", \"|grad| < 1e-6\", \"output > 5\" (some element), and so " ..
        "of input and of given, what a rule gives to its inputs; |x| is the root mean square" },
    { name = "loss", type = "string", optional = true,
      doc = "\"> 10\", \"nan\", or f(loss), asked when a backward begins" } },
  example = [[
local s = inspect.stop{op="relu", when=function(e) return e.output:eq(0):any() end}
local ok, e = pcall(function() local x = nb.tensor{-1, 3}; return x:relu() end)
s:remove()
return {e.op, e.locals.x:size(1)}  --> {"relu", 2}]],
})

define("stops", "stop", {
  doc = "The stops that are set, as a list.", signature = "inspect.stops()", family = "Runs", see = { "inspect.stop" },
  example = "#inspect.stops()  --> 0",
})
registry.later("nablua.inspect.stop", "")  -- for what a stop can do

define("diff", "diff", {
  doc = "The first operator where two programs part, and by how much.  Functions and nets are called with copies of " ..
    "`input` and the same random numbers, and compared operator by operator, backward rules included; runs are " ..
    "compared in the first step that differs, and one with itself by doing its next step twice; tables of tensors, " ..
    ".safetensors and .npz files by name; a net with a file of activations by the paths of its layers (\"output\" " ..
    "for all of it).  Of compiled functions only the results are known.  Fields: same kind op layer phase site far " ..
    "how a b weights step.",
  signature = "inspect.diff(a, b, {input=, tol=, from=})", see = { "nb.compare", "inspect.gradcheck" },
  params = { { name = "a", type = "function, net, run, file or table" }, { name = "b", type = "the same" },
    { name = "input", type = "any", optional = true,
      doc = "what nets and functions are called with; a list for several" },
    { name = "tol", type = "number", optional = true,
      doc = "share of the largest value by which values may differ: 0, and 1e-4 between a net and a file" },
    { name = "from", type = "string", default = "nablua", doc = "\"pytorch\" where a file's lists count from 0" } },
  example = [[
local function a(x) return (x * 2):tanh() end
local function b(x) return (x * 2):sigmoid() end
return inspect.diff(a, b, {input=nb.ones(2)}).op  --> "tanh"]],
})

define("check", "check", {
  doc = "What to look at before training: labels against the loss, inputs' and targets' scale, leaked or constant " ..
    "labels, the last layer, the loss at the start against that of guessing, the optimizer's parameters and rates, " ..
    "samples that mix, and whether a few samples can be learned by heart.  Findings as in inspect.diagnose, by the " ..
    "same rules: {illness, layer, evidence, remedy}.  A copy trains for a moment; nothing is changed.",
  signature = "inspect.check(net, loss, opt, data)", see = { "inspect.diagnose", "inspect.lr_find" },
  params = { { name = "net", type = "module" }, { name = "loss", type = "function", doc = "loss(net(x), y)" },
    { name = "opt", type = "optimizer", optional = true, doc = "nil: its parameters and steps are not looked at" },
    { name = "data", type = "table", doc = "{x, y}, what data.batches gives, or an iterator over batches" } },
  example = [[
local x, y = data.moons(40)
local net = nn.Sequential{ nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1) }
return inspect.check(net, nn.BCEWithLogitsLoss(), nil, {x, y:view(40, 1)})[1].remedy  --> "y = y:to(\"f32\") - 1"]],
})

define("lr_find", "rates", {
  doc = "Which learning rate: a ramp over rates on a copy shows where the loss falls and where it breaks away, then " ..
    "rates between train for a while from the same weights over the same batches, the best of them once more over " ..
    "others.  Shown as the curve, the trials, and the line that sets the best.  Fields: lr, line, rates, losses, " ..
    "trials.  Nothing is changed.",
  signature = "inspect.lr_find(net, loss, opt, data, {low=1e-6, high=10, ramp=100, steps=300, size=64})",
  see = { "inspect.check", "inspect.diagnose" },
  params = { { name = "net", type = "module" }, { name = "loss", type = "function", doc = "loss(net(x), y)" },
    { name = "opt", type = "optimizer", doc = "as it will train" },
    { name = "data", type = "table", doc = "{x, y}, what data.batches gives, or an iterator over batches" },
    { name = "low", type = "number", default = 1e-6, doc = "the ramp's first rate" },
    { name = "high", type = "number", default = 10, doc = "the ramp's last rate" },
    { name = "ramp", type = "integer", default = 100, doc = "steps of the ramp" },
    { name = "steps", type = "integer", default = 300, doc = "steps that the better trials take" },
    { name = "size", type = "integer", default = 64, doc = "of batches of {x, y}" } },
  example = [[
local x = nb.randn(32, 2)
local net = nn.Linear(2, 1)
local opt = optim.SGD(net:parameters(), {lr=1})
local found = inspect.lr_find(net, nn.MSELoss(), opt, {x, x:sum(2, {keepdim=true})}, {steps=20})
return found.lr > 0.01 and found.lr < 3  --> true]],
})

define("top_losses", "samples", {
  doc = "The samples that cost most, as the net is used: without Dropout, with BatchNorm's running means.  Shown as " ..
    "pictures where they are some.  A list of {index, loss, target, answer, probability}; .x the samples, .mean and " ..
    ".count of all.",
  signature = "inspect.top_losses(net, loss, data, [count])", see = { "inspect.per_sample", "plot.images" },
  params = { { name = "net", type = "module" }, { name = "loss", type = "function", doc = "loss(net(x), y)" },
    { name = "data", type = "table", doc = "{x, y}, what data.batches gives, or an iterator over batches" },
    { name = "count", type = "integer", default = 9 } },
  example = [[
local net = nn.Linear(1, 1)
nb.no_grad(function() net.weight:fill_(1) net.bias:fill_(0) end)
return inspect.top_losses(net, nn.MSELoss(), {nb.tensor{{1}, {2}}, nb.tensor{{1}, {5}}}, 1)[1].loss  --> 9]],
})

define("per_sample", "samples", {
  doc = "∂J/∂w sample by sample, n×(w's shape), whose sum is w's gradient: δᵢ⊗xᵢ for weights and biases of linear " ..
    "layers, and likewise for convolutions.  J's tape must be live.  Samples are the first dimension.",
  signature = "inspect.per_sample(J, w)", see = { "inspect.explain", "nb.grad" },
  params = { { name = "J", type = "tensor", doc = "the loss, a single number" },
    { name = "w", type = "tensor", doc = "a weight or bias" } },
  example = [[
local net = nn.Linear(1, 1)
local J = net(nb.tensor{{1}, {3}}):sum()
return inspect.per_sample(J, net.weight)  --> {{{1}}, {{3}}}]],
})

define("profile", "profile", {
  doc = "Calls f once and tells where the time went: by operator and by layer, forward, backward and update, with " ..
    "floating point operations, bytes, and the share of what the machine can do at best, which is measured once.  " ..
    "Shown as tables and a flame graph; then come f's results.  Compiled functions run uncompiled meanwhile.  " ..
    "Fields: seconds, flops, bytes, between (what is no kernel), phases, operators, layers (lists by time, of name, " ..
    "calls, seconds, flops, bytes), rows (all of these with op, layer, phase), roof.  %profile CODE does it to an " ..
    "input.  p:save(\"flame.svg\").",
  signature = "inspect.profile(f, ...)", see = { "inspect.summary", "profile:save" },
  params = { { name = "f", type = "function", doc = "one step, or several; what comes after goes to it" } },
  example = [[
local x, w = nb.ones(4, 5), nb.ones(5, 6)
return inspect.profile(function() return x:matmul(w) end).flops  --> 240]],
})

registry.add {
  name = "inspect", kind = "topic", value = inspect, doc = "Watch backpropagation happen.",
  example = "type(inspect)  --> \"table\"",
}

assert(nb.plot.curve)  -- loads plot first, in whose place figures register
for _, name in ipairs { "graph", "diagram" } do
  require("nablua.plot.figure").define(inspect, "inspect.", name, require("nablua.inspect." .. name))
end
require "nablua.inspect.watch"  -- registers the methods of what it gives
require "nablua.inspect.profile"
require "nablua.inspect.summary"

return inspect
