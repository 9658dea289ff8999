-- SPDX-License-Identifier: MIT
-- inspect.top_losses: the samples that cost most; inspect.per_sample: what each sample adds to a gradient.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local modes = require "nablua.modes"
local options = require "nablua.options"
local given = require "nablua.inspect.given"
local paths = require "nablua.inspect.paths"
local roles = require "nablua.inspect.roles"
local tape = require "nablua.inspect.tape"
local html = require "nablua.inspect.html"
local text = require "nablua.inspect.text"

local samples = {}

-- ---- the loss of each sample ----

-- Over all but the first dimension.
local function by_sample(losses, n)
  if losses:dim() == 0 or #losses ~= n then return nil end
  return losses:to("f64"):reshape(n, -1):mean(2)
end

-- The losses of a batch one by one: at once where the loss is a module that can leave out its mean.
local function losses_of(loss, output, y)
  local n = #y
  if module.is(loss) and loss.reduction then
    local before = loss.reduction
    loss.reduction = "none"
    local ok, list = pcall(loss, output, y)
    loss.reduction = before
    list = ok and nb.is_tensor(list) and by_sample(list, n)
    if list then return list:totable() end
  end
  local list = {}
  for k = 1, n do
    local J = loss(output[{ { k, k } }], y[{ { k, k } }])
    if not nb.is_tensor(J) or J:numel() ~= 1 then
      given.refuse("inspect.top_losses", "the loss must be a single number, got %s", options.describe(J))
    end
    list[k] = J:item()
  end
  return list
end

-- The batches of one pass over the data, with the place of their first sample.
local function passes(where, set)
  local source = given.data(where, set)
  if source.x then
    local x, y = given.batch(where, source.x, source.y)
    if x:dim() == 0 or y:dim() == 0 or #x ~= #y then
      given.refuse(where, "x and y must have as many samples, got shapes %s and %s", options.shape(x),
        options.shape(y))
    end
    local size = source.batches and source.batches.size or 256
    local at = 1 - size
    return function()
      at = at + size
      if at > #x then return nil end
      local last = math.min(at + size - 1, #x)
      return x[{ { at, last } }], y[{ { at, last } }], at
    end
  end
  local previous, at = nil, 1
  return function()
    local x, y = source.next(nil, previous)
    previous = x
    if x == nil then return nil end
    given.batch(where, x, y)
    at = at + #x
    return x, y, at - #x
  end
end

-- ---- the samples that cost most ----

local meta = { __name = "top_losses" }

-- What the net says of a sample, and what is right: a class and its probability, or the numbers.
local function answer_of(kind, z, y)
  if kind == "CrossEntropyLoss" or kind == "NLLLoss" then
    if z:dim() == 1 and y:dim() == 0 then
      local p = kind == "NLLLoss" and z:exp() or z:softmax(1)
      local best, class = p:max(1)
      return ("%d"):format(class:item()), ("%d"):format(y:item()), best:item()
    end
  elseif kind == "BCEWithLogitsLoss" or kind == "BCELoss" then
    local p = kind == "BCELoss" and z or z:sigmoid()
    if p:numel() == 1 then return text.number(p:reshape(-1)[1]:item()), text.number(y:reshape(-1)[1]:item() + 0.0) end
  end
  local function few(t)
    local parts = {}
    t = t:reshape(-1)
    for k = 1, math.min(#t, 4) do parts[k] = text.number(t[k]:item() + 0.0) end
    return table.concat(parts, " ") .. (#t > 4 and " …" or "")
  end
  return few(z), few(y)
end

-- The samples as images, where they are some: n×H×W, n×1×H×W, n×3×H×W, or squares written in rows.
local function images_of(self)
  local x = self.x
  if x:dim() == 3 and x:size(2) >= 4 and x:size(3) >= 4 then return x end
  if x:dim() == 4 and (x:size(2) == 1 or x:size(2) == 3) then return x end
  if x:dim() == 2 and (x.dtype == "u8" or x.dtype == "f32" or x.dtype == "f64") then
    local side = math.floor(x:size(2) ^ 0.5 + 0.5)
    if side >= 8 and side * side == x:size(2) then return x:reshape(#x, side, side) end
  end
end

local function pictures(self)
  local x = images_of(self)
  if not x then return nil end
  local labels = {}
  for k, s in ipairs(self) do
    labels[k] = ("%s, is %s: %s"):format(s.answer, s.target, text.number(s.loss))
  end
  return require("nablua.plot").images(x, { labels = labels, columns = math.min(#x, 5) })
end

local HEAD, SIDES = { "sample", "loss", "target", "answer" }, { "right", "right", "left", "left" }

local function rows_of(self)
  local rows = {}
  for k, s in ipairs(self) do
    rows[k] = { ("%d"):format(s.index), text.number(s.loss), s.target, s.answer .. (s.probability and
      (" (%.0f %%)"):format(100 * s.probability) or "") }
  end
  return rows
end

local function form(self, settings)
  local paint, rows = text.painter(settings), rows_of(self)
  table.insert(rows, 1, HEAD)
  local lines = text.columns(rows, SIDES, "   ")
  lines[1] = paint("dim", lines[1])
  for k, line in ipairs(lines) do lines[k] = text.cut(line, math.max(settings.width or 80, 30)) end
  lines[#lines + 1] = paint("dim", ("of %s samples, whose loss is %s on average"):format(text.count(self.count),
    text.number(self.mean)))
  return table.concat(lines, "\n")
end

meta.__tostring = function(self) return form(self, { width = 100 }) end

function meta.__display(self, settings)
  local picture = pictures(self)
  local bundle = picture and picture:__display(settings) or {}
  local words = form(self, settings)
  bundle["text/plain"] = (bundle["text/plain"] and bundle["text/plain"] .. "\n" or "") .. words
  if settings.rich then
    local rows = rows_of(self)
    for _, row in ipairs(rows) do
      for k, cell in ipairs(row) do row[k] = html.escape(cell) end
    end
    local svg = require("nablua.plot.figure").mimes.svg
    bundle["text/html"] = (bundle[svg] or "") .. html.table(HEAD, rows, SIDES) .. html.line(html.dim(
      ("of %s samples, whose loss is %s on average"):format(text.count(self.count), text.number(self.mean))))
    bundle[svg] = nil
  end
  return bundle
end

-- NaN costs most.
local function costs_more(a, b)
  if a.loss ~= a.loss or b.loss ~= b.loss then return a.loss ~= a.loss and b.loss == b.loss end
  if a.loss ~= b.loss then return a.loss > b.loss end
  return a.index < b.index
end

function samples.top_losses(net, loss, set, count)
  local where = "inspect.top_losses"
  if not module.is(net) then given.refuse(where, "needs a net, got %s", options.describe(net)) end
  given.loss(where, loss)
  count = count == nil and 9 or count
  if math.type(count) ~= "integer" or count < 1 then
    given.refuse(where, "how many must be a whole number from 1, got %s", options.describe(count))
  end
  local self = setmetatable({ count = 0, mean = 0 }, meta)
  local kind = module.is(loss) and loss:kind() or loss == nb.nn.cross_entropy and "CrossEntropyLoss" or
    loss == nb.nn.bce_with_logits and "BCEWithLogitsLoss" or nil
  local kept, total = {}, 0
  modes.with(net, false, function()
    nb.no_grad(function()
      for x, y, at in passes(where, set) do
        local output = net(x)
        if not nb.is_tensor(output) or output:dim() == 0 or #output ~= #y then
          given.refuse(where, "the net must give an answer for each of the %d samples, got %s", #y,
            options.describe(output))
        end
        for k, J in ipairs(losses_of(loss, output, y)) do
          kept[#kept + 1] = { loss = J, index = at + k - 1, x = x[k], output = output[k], y = y[k] }
          total, self.count = total + J, self.count + 1
        end
        table.sort(kept, costs_more)
        for k = #kept, count + 1, -1 do kept[k] = nil end
      end
    end)
  end)
  if #kept == 0 then given.refuse(where, "the data are empty: there is no batch") end
  local list = {}
  nb.no_grad(function()
    for k, s in ipairs(kept) do
      local answer, target, probability = answer_of(kind, s.output, s.y)
      self[k] = { index = s.index, loss = s.loss, answer = answer, target = target, probability = probability }
      list[k] = s.x
    end
    self.x = nb.stack(list, 1)
  end)
  self.mean = total / self.count
  return self
end

-- ---- the gradient by sample ----

-- The error at what a node made: ∂J/∂ of its output.
local function error_at(read, i)
  local found = paths.find(read, { node = i, output = 1 })
  local J = read.J
  local grads = { [select(2, native.made_by(J))] = nb.ones_like(J:detach()) }
  if not found then return i == #read.nodes and grads[1] or nil end
  for _, s in ipairs(found:segments()) do grads = found:carry(grads, s.from, s.to, s.edge) end
  return grads[1] or select(2, next(grads))
end

-- δᵢ⊗xᵢ, summed over the places that a sample has between.
local function outer(delta, x)
  local n = #x
  return delta:reshape(n, -1, delta:size(-1)):transpose(2, 3):matmul(x:reshape(n, -1, x:size(-1)))
end

local by_operator = {}

function by_operator.linear(node, k, delta)
  local x = node.inputs[1].value
  if x:dim() < 2 then return nil end
  if k == 3 then return delta:reshape(#x, -1, delta:size(-1)):sum(2) end
  return k == 2 and outer(delta, x) or nil
end

function by_operator.matmul(node, k, delta)
  local x = node.inputs[1].value
  if k ~= 2 or x:dim() < 2 or #node.inputs[2].shape ~= 2 then return nil end
  return outer(x, delta)
end

-- A convolution of each sample by itself.
local function convolution(node, k, delta)
  local x, w = node.inputs[1].value, node.inputs[2].value or node.inputs[2].leaf
  local n = #x
  if k == 3 then return delta:reshape(n, delta:size(2), -1):sum(3) end
  if k ~= 2 then return nil end
  local list = {}
  for i = 1, n do
    local weight = w:detach():clone()
    weight.requires_grad = true
    list[i] = native.with_grad(function()
      local y = nb[node.op](x[{ { i, i } }]:detach(), weight, nil, node.args)
      return nb.grad((y * delta[{ { i, i } }]):sum(), weight)
    end)
  end
  return nb.stack(list, 1)
end
by_operator.conv1d, by_operator.conv2d, by_operator.conv_transpose2d = convolution, convolution, convolution

function samples.per_sample(J, w)
  local where = "inspect.per_sample"
  if not nb.is_tensor(J) or J:numel() ~= 1 or J.is_leaf then
    given.refuse(where, "J must be a single number that was computed from tensors that require grad, got %s",
      options.describe(J))
  end
  if not nb.is_tensor(w) then given.refuse(where, "w must be a tensor, such as net[1].weight, got %s",
    options.describe(w)) end
  return nb.no_grad(function()
    local read, id, sum = tape.read(J), native.id(w), nil
    for i, node in ipairs(read.nodes) do
      if node.freed then
        given.refuse(where, "the tape was freed by the backward at %s; call it before, or " ..
          "J:backward({retain_graph=true})", node.freed)
      end
      for k = 1, node.edges or 0 do
        local input = node.inputs[k]
        if input and input.leaf and input.id == id then
          local rule = by_operator[node.op]
          local delta = rule and error_at(read, i)
          local part = rule and (delta and rule(node, k, delta))
          if rule == nil or delta and not part then
            given.refuse(where, "%s is used by %s; what each sample adds is known for weights and biases of linear " ..
              "and convolution layers over batches", w.name or input.name or "this tensor", roles.title(node.op))
          end
          if part and sum and #part ~= #sum then
            given.refuse(where, "w is used over batches of %d and %d samples", #sum, #part)
          end
          sum = part and (sum and sum + part or part) or sum
        end
      end
    end
    if not sum then
      given.refuse(where, "J does not depend on this tensor (%s); its gradient is zero", w.name or options.describe(w))
    end
    return sum
  end)
end

return samples
