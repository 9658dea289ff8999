-- SPDX-License-Identifier: MIT
-- The patient of inspect.diagnose and inspect.check: a net with data, loss and optimizer, measured once by a forward
-- and a backward pass.  Everything that an examination changes is put back.
--
-- A patient p has net, x, y, loss, opt, steps and
--   names      how the user's lines call x and y      batches    where x and y came from, if from data.batches
--   all        { x=, y= } of more samples than the batch, at most MOST_SAMPLES
--   layers     in the order of their calls: path kind module output shape std mean grad saturated dead units; enters,
--              leaves = the ids of the tensors that went in and came out, made = the operator that made the latter
--   weights    { path=, tensor=, layer=, grad= }      value      J      broken    the error where the program stopped
--   kind       the loss as nn names it, "MSELoss", however it is written; nil where it is another
--   logits, targets    what that loss compares; maker = what made logits: { layer = its class in nn, where it is an
--              activation, role =, name = }; direct: whether it also made the net's output, but for its shape
--   uses       how many operators take what an operator made, by the number of its creation
--   entering   what the first layer with weights was called with; kind_first: its kind
local native = require "nablua.native"
local nb = require "nablua.core"
local calls = require "nablua.inspect.calls"
local measure = require "nablua.inspect.measure"
local modes = require "nablua.modes"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local registry = require "nablua.registry"
local roles = require "nablua.inspect.roles"

local patient = {}

-- ---- putting everything back ----

local function tensors_of(net)
  local list, seen = {}, {}
  for _, m in net:named_modules() do
    for _, v in pairs(m) do
      if nb.is_tensor(v) and v.is_leaf and not seen[native.id(v)] then
        seen[native.id(v)] = true
        list[#list + 1] = v
      end
    end
  end
  for _, p in ipairs(net:parameters()) do
    if not seen[native.id(p)] then list[#list + 1] = p end
  end
  return list
end

-- f() on the net itself, in training mode; afterwards its tensors, gradients, modes, the optimizer and random numbers
-- are as before.
function patient.on_a_copy(net, opt, f)
  local kept = {}
  for i, t in ipairs(tensors_of(net)) do
    kept[i] = { t, nb.no_grad(function() return t:detach():clone() end), select(2, native.storage(t)), t.grad }
  end
  local state, random, anomaly = opt and opt:state(), { native.random_state() }, native.anomaly()
  return modes.restoring(function()
    native.anomaly(anomaly)
    native.random_state(random[1], random[2])
    if opt then opt:load_state(state) end
    for _, k in ipairs(kept) do
      native.overwrite(k[1], k[2], k[3])
      k[1].grad = k[4]
    end
  end, function()
    native.anomaly(false)
    return modes.with(net, true, f)
  end)
end

-- ---- the loss by its name ----

local LOSSES = { "MSELoss", "L1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "NLLLoss",
  "KLDivLoss", "HingeLoss" }
local FUNCTIONS = { mse = "MSELoss", l1 = "L1Loss", huber = "HuberLoss", bce = "BCELoss",
  bce_with_logits = "BCEWithLogitsLoss", cross_entropy = "CrossEntropyLoss", nll = "NLLLoss", kl_div = "KLDivLoss",
  hinge = "HingeLoss" }

-- The loss that an operator computes, by what its row says of it; nil where it is none.
local function kind_of(op)
  local info = roles.of(op)
  if info.role == "difference" then return info.formula and info.formula:find "²" and "MSELoss" or nil end
  if info.role ~= "loss" then return nil end
  if info.symbol.text == "CE" then return "CrossEntropyLoss" end
  return info.symbol.text == "BCE" and (info.factor and "BCEWithLogitsLoss" or "BCELoss") or nil
end

local function kind_by_itself(loss)
  if module.is(loss) then
    for _, name in ipairs(LOSSES) do
      if loss:kind() == name then return name end
    end
    return nil
  end
  local nn = require "nablua.nn"
  for name, kind in pairs(FUNCTIONS) do
    if nn[name] == loss then return kind end
  end
end

-- The loss that refused, by the sentence it refused with.
local function kind_by_error(message)
  local first = message:gsub("^[^:]*:%d+: ", "")
  local name = first:match("^nn%.([%w_]+): ") or first:match("^([%w_]+): ")
  if not name then return nil end
  for _, kind in ipairs(LOSSES) do
    if kind == name then return kind end
  end
  return FUNCTIONS[name] or registry.row(name) and kind_of(name) or nil
end

local MOST_BEHIND = 16  -- operators of a loss between its comparison and J

-- The comparison in J's tape, and what it compares.
local function read_loss(p, J)
  local nodes = native.with_grad(function() return native.tape(J) end)
  local function behind(input)  -- the node that made it, whatever reshaped it since
    local node = input and input.node and nodes[input.node]
    while node and roles.of(node.op).role == "structure" do
      input = node.inputs[1]
      node = input and input.node and nodes[input.node]
    end
    return node
  end
  local answer = nb.is_tensor(p.output) and native.made_by(p.output)
  for _, node in ipairs(nodes) do
    if node.order == answer then
      answer = roles.of(node.op).role == "structure" and behind(node.inputs[1]) or node
      break
    end
  end
  local function maker(node)
    local op = node and node.op
    local row = op and registry.row(op)
    if not row then return nil end
    local layer
    for _, pair in ipairs(native.layers()) do
      if pair[2] == op then layer = pair[1] end
    end
    return { layer = layer, role = row.role, name = roles.title(op), direct = node == answer }
  end
  p.uses = {}
  for _, node in ipairs(nodes) do
    for _, input in pairs(node.inputs) do
      local order = input.node and nodes[input.node].order
      if order then p.uses[order] = (p.uses[order] or 0) + 1 end
    end
  end
  for i = #nodes, math.max(1, #nodes - MOST_BEHIND), -1 do
    local node = nodes[i]
    local kind = kind_of(node.op)
    if kind then
      local z, y = node.inputs[1], node.inputs[2]
      p.kind = p.kind or kind
      if kind == p.kind then
        p.logits, p.targets = z and z.value or p.logits, y and y.value or p.targets
      end
      p.maker = maker(behind(z))
      break
    end
  end
end

-- ---- measuring ----

-- How a user writes a path: "3.weight" is net[3].weight.
function patient.expression(path)
  local s = "net"
  for part in path:gmatch("[^.]+") do
    s = s .. (part:match("^%d+$") and "[" .. part .. "]" or "." .. part)
  end
  return s
end

-- The layers in the order of their calls, with what came out of them; and J.
local function forward(p)
  p.layers, p.by_path = {}, {}
  local paths, entered = {}, {}
  for path, m in p.net:named_modules() do
    if not module.has_children(m) then paths[m] = path end
  end
  local J = calls.during(function(m, enters, y)
    if enters and nb.is_tensor(y) and paths[m] then
      entered[m] = native.id(y)
      if not p.kind_first and #m:parameters() > 0 then p.kind_first, p.entering = m:kind(), y:detach() end
    end
    if enters or not paths[m] or not nb.is_tensor(y) or p.by_path[paths[m]] then return end
    local layer = measure.output(m:kind(), y)
    layer.path, layer.kind, layer.module, layer.output, layer.shape = paths[m], m:kind(), m, y:detach(), y.shape
    layer.enters, layer.leaves, layer.made = entered[m], native.id(y), native.made_by(y)
    if not y.is_leaf then layer.tracked = y:retain_grad() end
    p.layers[#p.layers + 1], p.by_path[layer.path] = layer, layer
  end, function()
    p.output = p.net(p.x)
    return p.loss(p.output, p.y)
  end)
  return J
end

local function weights(p)
  local list = {}
  for path, w in p.net:named_parameters() do
    if w:dim() >= 2 then
      list[#list + 1] = { path = path, tensor = w, layer = path:match("^(.*)%.[^.]*$") or "" }
    end
  end
  return list
end

function patient.examine(p)
  for _, w in ipairs(p.net:parameters()) do w.grad = nil end
  p.kind = kind_by_itself(p.loss)
  local ok, J = pcall(forward, p)
  if not ok then
    p.broken = tostring(J)
    p.kind = p.kind or p.output and kind_by_error(p.broken)
    return
  end
  if not nb.is_tensor(J) then
    native.raise(("%s: the loss must give a tensor, got %s"):format(p.where, options.describe(J)))
  end
  p.J = J
  if J:numel() ~= 1 then
    native.raise(("%s: the loss must be a single number, got shape %s; reduce it with :mean() or :sum()")
      :format(p.where, options.shape(J)))
  end
  p.value = J:item()
  if nb.is_tensor(p.output) then p.logits, p.targets = p.output:detach(), p.y end
  if J.is_leaf then return end
  read_loss(p, J)
  J:backward()
  p.backward = true
  for _, layer in ipairs(p.layers) do
    layer.grad = layer.tracked and layer.tracked.grad and measure.rms(layer.tracked.grad) or nil
    layer.tracked = nil
  end
  p.weights = weights(p)
  for _, w in ipairs(p.weights) do w.grad = w.tensor.grad and measure.rms(w.tensor.grad) or nil end
end

-- A few training steps, after which net and optimizer are as they were: the losses, and the largest share that a weight
-- moves in the first; nil where the optimizer cannot be stepped so.
function patient.losses_of(p, lr, steps)
  local opt = p.opt
  local state, net_state = opt:state(), p.net:state()
  if lr then opt.lr = lr end
  local list, most, where = { p.value }, 0, nil
  local fine = pcall(function()
    for k = 1, steps or p.steps do
      local before = {}
      if k == 1 then
        for i, w in ipairs(p.weights) do before[i] = nb.no_grad(function() return w.tensor:detach():clone() end) end
      end
      opt:zero_grad()
      local ok, J = pcall(function() return p.loss(p.net(p.x), p.y) end)
      if not ok then break end
      J:backward()
      opt:step()
      for i, b in ipairs(before) do
        local size = measure.rms(b)
        local ratio = size > 0 and measure.rms(p.weights[i].tensor, b, -1) / size or 0
        if ratio > most then most, where = ratio, p.weights[i].path end
      end
      local ok2, J2 = pcall(function() return p.loss(p.net(p.x), p.y) end)  -- with a tape: a loss may take gradients
      list[#list + 1] = ok2 and J2:item() or 0 / 0
    end
  end)
  opt:load_state(state)
  p.net:load_state(net_state)
  if not fine then return nil end
  return list, most, where
end

-- The net's answer to x as it is used, without Dropout and with BatchNorm's running means; nil where it is no tensor.
function patient.answer(p, x)
  local random = { native.random_state() }
  local ok, y = pcall(function()
    return modes.with(p.net, false, function() return nb.no_grad(function() return p.net(x) end) end)
  end)
  native.random_state(random[1], random[2])
  return ok and nb.is_tensor(y) and y or nil
end

-- ---- looking through the layers ----

-- Whether what is compared with y comes from weights behind the net's output, such as those of a judge.
function patient.is_judged(p)
  return p.maker and not p.maker.direct and p.maker.role == "product"
end

function patient.kinds(p, wanted)
  local list = {}
  for _, layer in ipairs(p.layers) do
    if wanted[layer.kind] then list[#list + 1] = layer end
  end
  return list
end

-- The layer of weights before a path, in the order of calls.
function patient.weights_before(p, path)
  local found
  for _, layer in ipairs(p.layers) do
    if layer.path == path then return found end
    local w = layer.module.weight
    if nb.is_tensor(w) and w:dim() >= 2 then found = layer end
  end
  return found
end

-- The net's own last layer, not the loss.
function patient.last_layer(p)
  local of_loss = module.is(p.loss) and p.loss:kind()
  for i = #p.layers, 1, -1 do
    if p.layers[i].kind ~= of_loss then return p.layers[i] end
  end
end

function patient.reinit(path, how)
  return ("nn.init.%s(%s.weight)"):format(how or "kaiming_normal", patient.expression(path))
end

-- The smallest and the largest number of a tensor.
function patient.range(t)
  local numbers = t:to("f64")
  return numbers:min():item(), numbers:max():item()
end

-- ---- data ----

local MOST_SAMPLES = 2000  -- that are looked at where a rule asks for more than a batch

-- Evenly spread samples of a tensor, at most so many.
function patient.spread_samples(t, most)
  local n = #t
  if n <= most then return t end
  return t:index_select(1, ((nb.arange(most, { dtype = "f64" }) - 1) * (n / most)):floor():to("i64") + 1)
end

-- More samples than the batch, for what is asked of a whole set.
function patient.more(p, x, y)
  if not (nb.is_tensor(x) and nb.is_tensor(y) and x:dim() > 0 and y:dim() > 0 and #x == #y) then return end
  local wide = math.max(1, x:numel() // #x)
  local most = math.max(16, math.min(MOST_SAMPLES, 4000000 // wide))
  p.all = { x = patient.spread_samples(x, most), y = patient.spread_samples(y, most) }
end

return patient
