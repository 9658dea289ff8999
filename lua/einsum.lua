-- SPDX-License-Identifier: MIT
-- nb.einsum: sums of products named by index letters, made of diagonals, sums and matrix products, whose gradients it
-- therefore has.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local function fail(format, ...)
  native.raise("einsum: " .. format:format(...))
end

-- ---- the equation ----

-- The labels of one operand or of the result as a list; "..." is one label.
local function labels_of(text, where)
  local labels, at, dots = {}, 1, false
  while at <= #text do
    local letter = text:sub(at, at)
    if text:sub(at, at + 2) == "..." then
      if dots then fail("%s has ... twice: %q", where, text) end
      dots = true
      labels[#labels + 1] = "..."
      at = at + 3
    elseif letter:find("%a") then
      labels[#labels + 1] = letter
      at = at + 1
    else
      fail("%s may have letters and ... only, got %q in %q", where, letter, text)
    end
  end
  return labels
end

-- Inputs as lists of labels, and the result's, or nil where it is implied.
local function parse(equation, count)
  local text = equation:gsub("%s", "")
  local left, right = text:match("^(.-)%->(.*)$")
  left = left or text
  local inputs = {}
  for part in (left .. ","):gmatch("(.-),") do
    inputs[#inputs + 1] = labels_of(part, ("operand %d"):format(#inputs + 1))
  end
  if #inputs ~= count then
    fail("%q is for %d tensor%s, got %d", equation, #inputs, #inputs == 1 and "" or "s", count)
  end
  return inputs, right and labels_of(right, "the result")
end

-- Replaces "..." by labels of their own, "...1" for the last dimension it stands for, "...2" for the one before.
local function spread(labels, hidden)
  local out = {}
  for _, label in ipairs(labels) do
    if label == "..." then
      for d = hidden, 1, -1 do out[#out + 1] = "..." .. d end
    else
      out[#out + 1] = label
    end
  end
  return out
end

-- Dimensions that "..." stands for in x.
local function hidden_dims(x, labels, k)
  local named, dots = 0, false
  for _, label in ipairs(labels) do
    if label == "..." then dots = true else named = named + 1 end
  end
  local hidden = x:dim() - named
  if hidden < 0 or (hidden > 0 and not dots) then
    fail("operand %d has %d dimensions, of shape %s, but %d letters%s", k, x:dim(), options.shape(x), named,
      dots and " beside ..." or "")
  end
  return hidden
end

-- What the result has when it is not said: ... first, then the letters that appear once, in the alphabet's order.
local function implied(inputs, hidden)
  local seen, out = {}, {}
  for _, labels in ipairs(inputs) do
    for _, label in ipairs(labels) do seen[label] = (seen[label] or 0) + 1 end
  end
  for d = hidden, 1, -1 do out[#out + 1] = "..." .. d end
  local once = {}
  for label, n in pairs(seen) do
    if n == 1 and #label == 1 then once[#once + 1] = label end
  end
  table.sort(once)
  return table.move(once, 1, #once, #out + 1, out)
end

-- ---- operands: a tensor and the labels of its dimensions ----

local function position(labels, label)
  for d, l in ipairs(labels) do
    if l == label then return d end
  end
end

-- Takes the diagonal of dimensions that share a label.
local function with_single_labels(x, labels)
  for d = #labels, 1, -1 do
    local first = position(labels, labels[d])
    if first < d then
      local n, order = x:size(d), {}
      for e = 1, #labels do
        if e ~= first and e ~= d then order[#order + 1] = e end
      end
      order[#order + 1], order[#order + 2] = first, d
      x = x:permute(order)
      local shape = x.shape
      shape[#shape], shape[#shape - 1] = nil, n * n
      x = x:reshape(shape)
      if n > 1 then x = x:slice(-1, 1, n * n, n + 1) end
      local rest = {}
      for e = 1, #order - 1 do rest[e] = labels[order[e]] end
      labels = rest
    end
  end
  return x, labels
end

-- Sums over the dimensions whose labels nobody else needs.
local function without(x, labels, needed)
  local dims, rest = {}, {}
  for d, label in ipairs(labels) do
    if needed[label] then rest[#rest + 1] = label else dims[#dims + 1] = d end
  end
  if #dims > 0 then x = x:sum(dims) end
  return x, rest
end

-- x with its dimensions in the order of the labels, then reshaped into three: sizes of the groups.
local function grouped(x, labels, ...)
  local order, shape = {}, {}
  for k, group in ipairs { ... } do
    shape[k] = 1
    for _, label in ipairs(group) do
      local d = position(labels, label)
      order[#order + 1] = d
      shape[k] = shape[k] * x:size(d)
    end
  end
  if #order > 0 then x = x:permute(order) end
  return x:reshape(shape)
end

-- The product of two operands, summed over what nobody else needs: one batched matrix product.
local function contract(x, xl, y, yl, needed, sizes)
  x, xl = without(x, xl, setmetatable({}, { __index = function(_, l) return needed[l] or position(yl, l) end }))
  y, yl = without(y, yl, setmetatable({}, { __index = function(_, l) return needed[l] or position(xl, l) end }))
  local batch, left, inner, right = {}, {}, {}, {}
  for _, label in ipairs(xl) do
    table.insert(position(yl, label) and (needed[label] and batch or inner) or left, label)
  end
  for _, label in ipairs(yl) do
    if not position(xl, label) then right[#right + 1] = label end
  end
  local product = grouped(x, xl, batch, left, inner):matmul(grouped(y, yl, batch, inner, right))
  local labels, shape = {}, {}
  for _, group in ipairs { batch, left, right } do
    for _, label in ipairs(group) do
      labels[#labels + 1] = label
      shape[#shape + 1] = sizes[label]
    end
  end
  return product:reshape(shape), labels
end

local function einsum(equation, ...)
  if type(equation) ~= "string" then
    fail("the first argument must be an equation such as \"ij,jk->ik\", got %s", options.describe(equation))
  end
  local operands = table.pack(...)
  if operands.n == 1 and type(operands[1]) == "table" and not nb.is_tensor(operands[1]) then
    operands = table.pack(table.unpack(operands[1]))
  end
  for k = 1, operands.n do
    if not nb.is_tensor(operands[k]) then
      fail("operand %d must be a tensor, got %s", k, options.describe(operands[k]))
    end
  end
  local inputs, result = parse(equation, operands.n)
  local hidden, sizes = 0, {}
  for k = 1, operands.n do
    local own = hidden_dims(operands[k], inputs[k], k)
    inputs[k] = spread(inputs[k], own)
    hidden = math.max(hidden, own)
  end
  result = result and spread(result, hidden) or implied(inputs, hidden)
  -- Sizes; 1 goes with any other.
  for k, labels in ipairs(inputs) do
    for d, label in ipairs(labels) do
      local n, known = operands[k]:size(d), sizes[label]
      if known and known ~= n and known ~= 1 and n ~= 1 then
        fail("%s has size %d in operand %d, but %d before", #label > 1 and "a dimension of ..." or label, n, k, known)
      end
      if not known or known == 1 then sizes[label] = n end
    end
  end
  local taken = {}
  for _, label in ipairs(result) do
    if taken[label] then fail("the result has %s twice", label) end
    if not sizes[label] then fail("the result has %s, which no operand has", label) end
    taken[label] = true
  end
  for k, labels in ipairs(inputs) do
    local shape = {}
    for d, label in ipairs(labels) do shape[d] = sizes[label] end
    local x = operands[k]
    if #shape > 0 then x = x:expand(shape) end
    operands[k], inputs[k] = with_single_labels(x, labels)
  end
  -- From left to right; a label is needed as long as the result or a later operand has it.
  local x, labels = operands[1], inputs[1]
  for k = 2, #inputs do
    local needed = {}
    for _, label in ipairs(result) do needed[label] = true end
    for j = k + 1, #inputs do
      for _, label in ipairs(inputs[j]) do needed[label] = true end
    end
    x, labels = contract(x, labels, operands[k], inputs[k], needed, sizes)
  end
  x, labels = without(x, labels, taken)
  local order = {}
  for d, label in ipairs(result) do order[d] = position(labels, label) end
  return #order > 0 and x:permute(order) or x
end

registry.define(nb, "nb.", "einsum", {
  kind = "operator", family = "Matrices", signature = "nb.einsum(equation, x, y, ...)",
  doc = "Sums of products named by index letters: those that the result, after ->, lacks are summed over.  A letter " ..
    "twice in one operand takes the diagonal, ... stands for any other dimensions; without -> the result has the " ..
    "letters that appear once, in the alphabet's order.",
  params = { { name = "equation", type = "string", doc = "as in \"ij,jk->ik\"" },
    { name = "x, y, ...", type = "tensors", doc = "one for each part of the equation, or a table of them" } },
  derivative = "∂/∂x = the sum of δ times the other operands, over the letters that x lacks",
  example = "nb.einsum(\"ij,j->i\", nb.tensor{{1, 2}, {3, 4}}, nb.tensor{1, 1})  --> {3, 7}", see = { "nb.matmul" },
  einsum,
})

return einsum
