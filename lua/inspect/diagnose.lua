-- SPDX-License-Identifier: MIT
-- inspect.diagnose: looks for illnesses of a net, its data, its loss and its optimizer; each finding has evidence and a
-- remedy, a line of Lua in terms of net, x, y (or batches), loss and opt.
--
-- A patient is measured once: a forward and a backward pass, and with an optimizer a few steps.  Everything the
-- examination changes is put back.  An illness is one entry of the list: it looks at the patient and reports.
local native = require "nablua.native"
local nb = require "nablua.core"
local calls = require "nablua.inspect.calls"
local measure = require "nablua.inspect.measure"
local coverage = require "nablua.optim.coverage"
local modes = require "nablua.modes"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local html = require "nablua.inspect.html"
local text = require "nablua.inspect.text"

local diagnose = {}

local params = {
  { name = "opt", type = "any", optional = true },
  { name = "steps", type = "size", default = 5 },
}

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
local function on_a_copy(net, opt, f)
  local kept = {}
  for i, t in ipairs(tensors_of(net)) do
    kept[i] = { t, nb.no_grad(function() return t:detach():clone() end), select(2, native.storage(t)), t.grad }
  end
  local state, random, anomaly = opt and opt:state(), { native.random_state() }, native.anomaly()
  modes.restoring(function()
    native.anomaly(anomaly)
    native.random_state(random[1], random[2])
    if opt then opt:load_state(state) end
    for _, k in ipairs(kept) do
      native.overwrite(k[1], k[2], k[3])
      k[1].grad = k[4]
    end
  end, function()
    native.anomaly(false)
    modes.with(net, true, f)
  end)
end

-- ---- the patient ----

-- How a user writes a path: "3.weight" is net[3].weight.
local function expression(path)
  local s = "net"
  for part in path:gmatch("[^.]+") do
    s = s .. (part:match("^%d+$") and "[" .. part .. "]" or "." .. part)
  end
  return s
end

local function first_bad(t)
  return nb.no_grad(function()
    local d = t:detach():to("f64")
    return (d:isnan() | d:isinf()):sum():item()
  end)
end

-- The layers in the order of their calls, with what came out of them; and J.
local function forward(p)
  p.layers, p.by_path = {}, {}
  local paths = {}
  for path, m in p.net:named_modules() do
    if not module.has_children(m) then paths[m] = path end
  end
  local J = calls.during(function(m, enters, y)
    if enters or not paths[m] or not nb.is_tensor(y) or p.by_path[paths[m]] then return end
    local layer = measure.output(m:kind(), y)
    layer.path, layer.kind, layer.module, layer.output, layer.shape = paths[m], m:kind(), m, y:detach(), y.shape
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

local function examine(p)
  for _, w in ipairs(p.net:parameters()) do w.grad = nil end
  local ok, J = pcall(forward, p)
  if not ok then
    p.broken = tostring(J)
    return
  end
  p.J = J
  if J:numel() ~= 1 then
    native.raise(("inspect.diagnose: the loss must be a single number, got shape %s; reduce it with :mean() or :sum()")
      :format(options.shape(J)))
  end
  p.value = J:item()
  if J.is_leaf then return end
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
-- moves in one.
local function losses_of(p, lr)
  local opt = p.opt
  local state, net_state = opt:state(), p.net:state()
  if lr then opt.lr = lr end
  local list, most, where = { p.value }, 0, nil
  for k = 1, p.steps do
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
    local ok2, J2 = pcall(function() return nb.no_grad(function() return p.loss(p.net(p.x), p.y) end) end)
    list[#list + 1] = ok2 and J2:item() or 0 / 0
  end
  opt:load_state(state)
  p.net:load_state(net_state)
  return list, most, where
end

-- ---- illnesses ----

local illnesses = {}

local function illness(name, look)
  illnesses[#illnesses + 1] = { name = name, look = look }
end

local function kinds(p, wanted)
  local list = {}
  for _, layer in ipairs(p.layers) do
    if wanted[layer.kind] then list[#list + 1] = layer end
  end
  return list
end

local function reinit(layer, how)
  return ("nn.init.%s(%s.weight)"):format(how or "kaiming_normal", expression(layer))
end

-- The layer of weights before a path, in the order of calls.
local function weights_before(p, path)
  local found
  for _, layer in ipairs(p.layers) do
    if layer.path == path then return found end
    local w = layer.module.weight
    if nb.is_tensor(w) and w:dim() >= 2 then found = layer end
  end
  return found
end

illness("NaN", function(p, report)
  local bad = first_bad(p.x)
  if bad > 0 then
    report("x", ("x holds %d values that are not finite, of %d"):format(bad, p.x:numel()),
      ("%s = nb.where(%s:isnan() | %s:isinf(), 0, %s)"):gsub("%%s", p.names.x))
    return true
  end
  local bad_y = first_bad(p.y)
  if bad_y > 0 then
    report("y", ("y holds %d values that are not finite"):format(bad_y),
      ("%s = nb.where(%s:isnan() | %s:isinf(), 0, %s)"):gsub("%%s", p.names.y))
    return true
  end
  for path, w in p.net:named_parameters() do
    if first_bad(w) > 0 then
      report(path, ("%s holds %d values that are not finite, of %d"):format(path, first_bad(w), w:numel()),
        w:dim() >= 2 and ("nn.init.kaiming_normal(%s)"):format(expression(path)) or
          ("nn.init.constant(%s, 0)"):format(expression(path)))
      return true
    end
  end
  for _, layer in ipairs(p.layers) do
    if layer.bad > 0 then
      report(layer.path, ("the output of %s %s is the first with values that are not finite: %d"):format(layer.path,
        layer.kind, layer.bad), "nb.anomaly(true)  -- the next run stops at the operator that makes them")
      return true
    end
  end
  if p.value and (p.value ~= p.value or math.abs(p.value) == math.huge) then
    report("loss", ("the loss is %s while the net's output is finite: it takes log 0, or overflows"):format(
      text.number(p.value)),
      "loss = nn.BCEWithLogitsLoss()  -- or nn.CrossEntropyLoss(): from logits, without log of 0")
    return true
  end
end)

illness("loss/activation mismatch", function(p, report)
  local last = p.layers[#p.layers]
  local of_loss = module.is(p.loss) and p.loss:kind()
  for i = #p.layers, 1, -1 do  -- the net's own last layer, not the loss
    if p.layers[i].kind ~= of_loss then
      last = p.layers[i]
      break
    end
  end
  if p.broken then
    if p.broken:find("probabilities", 1, true) then
      report("loss", "nn.BCELoss takes probabilities from 0 to 1, but the net's last layer gives other numbers",
        "loss = nn.BCEWithLogitsLoss()")
      return true
    end
    error(p.broken, 0)
  end
  if not last then return end
  local place = expression(last.path)
  local twice = { CrossEntropyLoss = { Softmax = true, LogSoftmax = true, Sigmoid = true },
    BCEWithLogitsLoss = { Sigmoid = true, Softmax = true } }
  if twice[of_loss] and twice[of_loss][last.kind] then
    report(last.path, ("%s works on logits and applies its own %s, but layer %s already is %s"):format(of_loss,
      of_loss == "CrossEntropyLoss" and "softmax" or "σ", last.path, last.kind), place .. " = nn.Identity()")
    return true
  end
  if of_loss == "NLLLoss" and p.output:max():item() > 1e-6 then
    report("loss", ("NLLLoss takes log-probabilities, which are at most 0, but the net gives up to %s"):format(
      text.number(p.output:max():item())), "loss = nn.CrossEntropyLoss()")
    return true
  end
  if of_loss == "MSELoss" or of_loss == "L1Loss" or of_loss == "HuberLoss" then
    local low, high = p.y:to("f64"):min():item(), p.y:to("f64"):max():item()
    local range = ({ Sigmoid = { 0, 1 }, Tanh = { -1, 1 }, ReLU = { 0, math.huge }, Softmax = { 0, 1 } })[last.kind]
    if range and (low < range[1] - 0.01 or high > range[2] + 0.01) then
      report(last.path, ("the targets reach from %s to %s, but %s only gives %s to %s"):format(text.number(low),
        text.number(high), last.kind, text.number(range[1]), text.number(range[2])), place .. " = nn.Identity()")
      return true
    end
  end
end)

-- The smallest and the largest number of a tensor.
local function range_of(t)
  local numbers = t:to("f64")
  return numbers:min():item(), numbers:max():item()
end

illness("constant labels", function(p, report)
  if p.y:numel() < 2 or p.x:dim() == 0 or #p.y < 2 then return end
  local low, high = range_of(p.y)
  if low ~= high then return end
  local of_all_low, of_all_high = range_of(p.batches and p.batches.tensors[2] or p.y)
  if of_all_low < of_all_high then
    report("y", ("all %d targets of the first batch are %s, but those of all %d samples go from %s to %s: the set " ..
      "is sorted, and each batch unlearns the one before"):format(p.y:numel(), text.number(low), p.batches.count,
      text.number(of_all_low), text.number(of_all_high)), "batches.shuffle = true")
  else
    report("y", ("all %d targets are %s: there is nothing to tell apart"):format(p.y:numel(), text.number(low)),
      "print(y:stats())  -- no change of the net helps: look at where y is read; where it is cut from a sorted " ..
      "set, take data.batches{x, y, shuffle=true}")
  end
end)

illness("unscaled inputs", function(p, report)
  local x = p.x
  if x:dim() < 2 or x.dtype ~= "f32" and x.dtype ~= "f64" or #x < 2 then return end
  local d = x:to("f64")
  local rest = {}
  for k = 1, x:dim() do
    if k ~= 2 then rest[#rest + 1] = k end
  end
  local mean, std = d:mean(rest):totable(), d:std(rest, { correction = 0 }):totable()
  local worst, at = 0, nil
  for k, s in ipairs(std) do
    local size = math.max(math.abs(mean[k]) / 10, s)
    if size > worst then worst, at = size, k end
  end
  if worst <= 20 then return end
  local line = ("%s = (%s - %s:mean(1, {keepdim=true})) / (%s:std(1, {keepdim=true}) + 1e-6)"):gsub("%%s", p.names.x)
  local cancels = x.dtype == "f32" and std[at] > 0 and math.abs(mean[at]) / std[at] > 1e4
  report("x", ("column %d of x has mean %s and standard deviation %s%s"):format(at, text.number(mean[at]),
    text.number(std[at]), cancels and "; in f32 what differs between samples cancels to a few digits" or
      "; nets expect about 0 and 1"), line)
end)

illness("frozen layer", function(p, report)
  for path, m in p.net:named_modules() do
    for _, field in ipairs { "weight", "bias" } do
      local w = rawget(m, field)
      if nb.is_tensor(w) and w.is_leaf and not w.requires_grad and (w.dtype == "f32" or w.dtype == "f64") then
        local e = expression(path .. "." .. field)
        report(path, ("%s does not require grad: it will not learn"):format(e), e .. ".requires_grad = true")
      end
    end
  end
  local missing, count = {}, 0
  if p.opt then missing, count = coverage.missing(p.net, p.opt) end
  if missing[1] then
    report(missing[1], ("%s is none of the optimizer's parameters; %s"):format(missing[1],
      coverage.sentence(missing, count)), ("opt = optim.SGD(net:parameters(), {lr=%s})"):format(tostring(p.opt.lr)))
  end
end)

illness("unused parameter", function(p, report)
  if not p.backward then return end
  for path, w in p.net:named_parameters() do
    if not w.grad then
      report(path, ("%s got no gradient: the loss does not depend on it"):format(path),
        expression(path) .. ".requires_grad = false")
    end
  end
end)

-- All rows alike, so that all units stay alike.
illness("symmetric weights", function(p, report)
  for _, w in ipairs(p.weights or {}) do
    local t = w.tensor
    if #t > 1 and t:numel() > #t then
      local same = nb.no_grad(function()
        local rows = t:detach():reshape(#t, -1)
        return (rows - rows[{ { 1, 1 }, nb.ALL }]):abs():max():item() == 0
      end)
      if same then
        report(w.layer, ("all %d units of %s have the same weights (%s): they get the same gradient and stay alike")
          :format(#t, w.path, text.number(t:detach():reshape(-1)[1]:item())),
          ("nn.init.xavier_uniform(%s)"):format(expression(w.path)))
        return true
      end
    end
  end
end)

illness("exploding values", function(p, report)
  local before = math.max(measure.rms(p.x:to("f64")), 1e-3)
  for _, layer in ipairs(p.layers) do
    local w = layer.module.weight
    if nb.is_tensor(w) and w:dim() >= 2 and layer.std > 0 and layer.kind ~= "Embedding" then
      local fan = w:numel() / #w
      local size = measure.rms(w)
      if size > 8 * math.sqrt(2 / fan) then
        report(layer.path, ("the weights of %s have size %s where √(2/%d) = %s keeps values in range; its output " ..
          "has standard deviation %s"):format(layer.path, text.number(size), fan, text.number(math.sqrt(2 / fan)),
          text.number(layer.std)), reinit(layer.path))
        return true
      end
      if layer.std > 1e3 * before then
        report(layer.path, ("the output of %s has standard deviation %s"):format(layer.path, text.number(layer.std)),
          reinit(layer.path))
        return true
      end
    end
  end
end)

local function nn_loss(name)
  return require("nablua.nn")[name]
end

-- What a cross-entropy is where all classes are as likely: ln K, and K; nil where the loss is none.
local function chance(p)
  local kind, output = module.is(p.loss) and p.loss:kind(), p.output
  if not nb.is_tensor(output) or output:numel() == 0 then return nil end
  local function is(f) return nb.no_grad(function()
    local ok, J = pcall(f, output, p.y)
    return ok and math.abs(J:item() - p.value) <= 1e-4 * math.abs(p.value)
  end) end
  local K = output:dim() > 0 and output:size(output:dim() == 1 and 1 or 2) or 1
  if kind and p.loss.reduction ~= "mean" then return nil end
  if kind == "CrossEntropyLoss" or kind == "NLLLoss" or not kind and K > 1 and is(nn_loss "cross_entropy") then
    return math.log(K), K
  end
  if kind == "BCEWithLogitsLoss" or kind == "BCELoss" or not kind and is(nn_loss "bce_with_logits") then
    return math.log(2), 2
  end
end

illness("loss far above chance", function(p, report)
  local guess, K
  if p.value and p.found == 0 then guess, K = chance(p) end
  if not guess or p.value <= 2 * guess + 2 then return end
  local spread = measure.rms(p.output:detach():to("f64"))
  local last
  for _, layer in ipairs(p.layers) do
    local w = layer.module.weight
    if nb.is_tensor(w) and w:dim() >= 2 and layer.module ~= p.loss then last = layer end
  end
  report(last and last.path or "loss", ("the loss is %s, but ln %d = %s where the net takes all classes to be as " ..
    "likely: its outputs, of size %s, are sure and wrong"):format(text.number(p.value), K, text.number(guess),
    text.number(spread)), last and ("nb.no_grad(function() %s.weight:mul_(%.2g) end)"):format(expression(last.path),
    1 / spread) or "print(net(x):stats())")
end)

illness("dead ReLUs", function(p, report)
  for _, layer in ipairs(kinds(p, { ReLU = true })) do
    if #layer.dead > 0 and #layer.dead / layer.units >= 0.4 and #p.x >= 8 then
      local shown = table.concat(layer.dead, ", ", 1, math.min(#layer.dead, 8)) .. (#layer.dead > 8 and ", …" or "")
      local w = weights_before(p, layer.path)
      local lines = {}
      if w then
        lines[1] = reinit(w.path)
        if nb.is_tensor(w.module.bias) then
          lines[2] = ("nn.init.constant(%s.bias, 0)"):format(expression(w.path))
        end
      end
      report(layer.path, ("%d of %d units are 0 for all %d samples: units %s"):format(#layer.dead, layer.units, #p.x,
        shown), table.concat(lines, "; "))
    end
  end
end)

illness("saturated units", function(p, report)
  for i, layer in ipairs(kinds(p, { Tanh = true, Sigmoid = true })) do
    local last = p.layers[#p.layers].path == layer.path
    if layer.saturated and layer.saturated > 0.5 and not (last and i > 1) then
      local w = weights_before(p, layer.path)
      report(layer.path, ("%.0f %% of the outputs of %s are at its ends, where its derivative is below %s"):format(
        layer.saturated * 100, layer.kind, layer.kind == "Tanh" and "0.02" or "0.01"),
        w and reinit(w.path, "xavier_uniform") or "x = x / x:abs():max()")
      return
    end
  end
end)

illness("vanishing gradients", function(p, report)
  if not p.backward or #(p.weights or {}) < 3 then return end
  local first, last
  for _, w in ipairs(p.weights) do
    if w.grad then
      first = first or w
      last = w
    end
  end
  if not first or first == last or last.grad == 0 then return end
  local ratio = first.grad / last.grad
  if ratio > 1e-3 then return end
  local shrinking = kinds(p, { Sigmoid = true, Tanh = true })
  local names, list = {}, {}
  for _, layer in ipairs(shrinking) do
    if layer.path ~= p.layers[#p.layers].path then names[layer.kind], list[#list + 1] = true, layer end
  end
  local remedy = "net:apply(function(m) if m.weight and m.weight:dim() > 1 then " ..
    "nn.init.kaiming_normal(m.weight) end end)"
  if #list > 0 then
    local edits, flat = {}, true
    for i, layer in ipairs(list) do
      edits[i] = expression(layer.path) .. " = nn.ReLU()"
      flat = flat and layer.kind == list[1].kind and layer.path:match("^%d+$")
    end
    if flat and #list > 2 then
      edits = { ("for i = 1, #net - 1 do if net[i]:kind() == %q then net[i] = nn.ReLU() end end"):format(list[1].kind) }
    end
    remedy = table.concat(edits, "; ") .. "; " .. remedy
  end
  report(first.layer, ("the gradient of %s is %s of that of %s (%s against %s)%s"):format(first.path,
    text.number(ratio), last.path, text.number(first.grad), text.number(last.grad),
    names.Sigmoid and "; σ' is at most ¼ in each of " ..
      #list .. " layers" or ""), remedy)
end)

illness("learning rate too large", function(p, report)
  if not p.opt or not p.backward or p.found > 0 then return end
  local list, most, where = losses_of(p)
  local final = list[#list]
  local grew = final ~= final or final == math.huge or final > 1.5 * math.max(p.value, 1e-12)
  if not grew and most <= 1 then return end
  local lr = p.opt.lr
  for _ = 1, 8 do
    lr = lr / 10
    local l, m = losses_of(p, lr)
    local f = l[#l]
    if f == f and f <= p.value and m <= 0.3 then break end
  end
  report("opt", ("after %d steps with lr = %s the loss is %s, from %s; %s moved by %s of its size in the first step")
    :format(p.steps, text.number(p.opt.lr), text.number(final), text.number(p.value), where or "a weight",
      text.number(most)), ("opt.lr = %g"):format(lr))
end)

-- ---- the object ----

local meta = { __name = "diagnosis" }

local HEAD = { "layer", "kind", "output std", "|∂J/∂a|", "to next", "notes" }
local SIDES = { "left", "left", "right", "right", "right" }

-- "layer 3", "x", "extra.weight"
local function place_of(finding)
  return finding.layer:find("^%d+$") and "layer " .. finding.layer or finding.layer
end

local function layer_rows(self)
  local rows = {}
  for i, layer in ipairs(self.layers) do
    local next_grad = self.layers[i + 1] and self.layers[i + 1].grad
    local notes = {}
    local share = layer.saturated or 0
    if share >= 0.005 then notes[1] = ("%.0f %% saturated"):format(100 * share) end
    if layer.units > 0 then notes[#notes + 1] = ("%d of %d off"):format(#layer.dead, layer.units) end
    rows[i] = { layer.path, layer.kind, text.number(layer.std), layer.grad and text.number(layer.grad) or "–",
      layer.grad and next_grad and next_grad > 0 and "×" .. text.number(layer.grad / next_grad) or "",
      table.concat(notes, ", ") }
  end
  return rows
end

local function form(self, settings)
  local paint, width = text.painter(settings), math.max(settings.width or 80, 30)
  local lines = {}
  if #self == 0 then lines[1] = paint("green", "✓ no findings") end
  for i, f in ipairs(self) do
    lines[#lines + 1] = paint("warn", ("%d. %s"):format(i, f.illness)) .. "   " .. paint("bold", place_of(f))
    for _, l in ipairs(text.wrap(f.evidence, width - 4)) do lines[#lines + 1] = "   " .. l end
    lines[#lines + 1] = "   " .. paint("dim", "remedy: ") .. paint("cyan", f.remedy)
  end
  if self.note then lines[#lines + 1] = paint("dim", self.note) end
  local rows = layer_rows(self)
  if #rows > 0 and #rows < 60 then
    table.insert(rows, 1, HEAD)
    for i, row in ipairs(rows) do rows[i] = { "  " .. row[1], table.unpack(row, 2) } end
    lines[#lines + 1] = ""
    for i, l in ipairs(text.columns(rows, SIDES)) do
      lines[#lines + 1] = i == 1 and paint("dim", l) or l
    end
  end
  return table.concat(lines, "\n")
end

-- How much of a cell a gradient fills: a tenth for each power of ten below the largest is missing.
local function grad_share(self)
  local most = 0
  for _, layer in ipairs(self.layers) do
    if layer.grad and layer.grad < math.huge then most = math.max(most, layer.grad) end
  end
  return function(layer)
    if not layer.grad or layer.grad ~= layer.grad or layer.grad == 0 then return 0 end
    return 1 + math.log(layer.grad / most, 10) / 10
  end
end

local function rich(self)
  local parts = {}
  for i, f in ipairs(self) do
    parts[i] = html.card(html.RED, html.badge(html.RED, tostring(i)) .. html.span("font-size:115%;font-weight:600",
      html.escape(f.illness)), html.code(place_of(f)), html.line(html.escape(f.evidence)) ..
      html.line(html.dim("remedy: ") .. html.code(f.remedy)))
  end
  if #self == 0 then parts[1] = html.card(html.GREEN, html.badge(html.GREEN, "✓") .. " no findings") end
  if self.note then parts[#parts + 1] = html.line(html.dim(html.escape(self.note))) end
  local rows, share = layer_rows(self), grad_share(self)
  if #rows > 0 and #rows < 60 then
    for i, row in ipairs(rows) do
      for k, cell in ipairs(row) do row[k] = html.escape(cell) end
      row[4] = { row[4], html.bar(share(self.layers[i]), html.ORANGE) .. ";min-width:9em" }
    end
    parts[#parts + 1] = html.table(HEAD, rows, SIDES)
  end
  return { ["text/html"] = table.concat(parts) }
end
text.shown(meta, form, rich)

-- Whether x is what data.batches gives.
local function is_batches(x)
  return type(x) == "table" and (getmetatable(x) or {}).__name == "batches"
end

-- x and y as they are, or the first batch, in which case the arguments after it move up.
local function read_data(x, y, loss, given)
  if not is_batches(x) then return x, y, loss, given end
  if #x.tensors < 2 then
    native.raise("inspect.diagnose: batches hold x and y: data.batches{x, y}, but these have one tensor")
  end
  local bx, by = x()
  return bx, by, y, loss, x
end

function diagnose.diagnose(net, first, second, third, fourth)
  local random = { native.random_state() }
  local x, y, loss, given, batches = modes.restoring(function() native.random_state(random[1], random[2]) end,
    read_data, first, second, third, fourth)
  local o = options.check("inspect.diagnose", params, given)
  if not module.is(net) then native.raise("inspect.diagnose: needs a net, got " .. options.describe(net)) end
  if not nb.is_tensor(x) or not nb.is_tensor(y) then
    native.raise(("inspect.diagnose: x and y must be tensors, got %s and %s"):format(options.describe(x),
      options.describe(y)))
  end
  if type(loss) ~= "function" and not module.is(loss) then
    native.raise("inspect.diagnose: needs a loss such as nn.MSELoss(), got " .. options.describe(loss))
  end
  if #net:parameters() == 0 then native.raise("inspect.diagnose: the net has no parameters that require grad") end
  if x:numel() == 0 then native.raise("inspect.diagnose: x has no elements") end
  local self = setmetatable({ layers = {} }, meta)
  local p = { net = net, x = x, y = y, loss = loss, opt = o.opt, steps = o.steps, found = 0, layers = {},
    batches = batches, names = batches and { x = "batches.tensors[1]", y = "batches.tensors[2]" } or
      { x = "x", y = "y" } }
  on_a_copy(net, o.opt, function()
    examine(p)
    local over = false
    for _, i in ipairs(illnesses) do
      if not over then
        over = i.look(p, function(layer, evidence, remedy)
          p.found = p.found + 1
          self[#self + 1] = { illness = i.name, layer = layer, evidence = evidence, remedy = remedy }
        end)
      end
    end
  end)
  for k, layer in ipairs(p.layers) do
    self.layers[k] = { path = layer.path, kind = layer.kind, std = layer.std, mean = layer.mean, grad = layer.grad,
      saturated = layer.saturated, dead = layer.dead, units = layer.units, bad = layer.bad }
  end
  self.loss = p.value
  if not o.opt then self.note = "without {opt=} the size of updates was not looked at" end
  return self
end

return diagnose
