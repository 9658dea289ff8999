-- SPDX-License-Identifier: MIT
-- The lecture's names for what lies on a tape: z⁽²⁾ = X·W⁽¹⁾, a⁽²⁾ = σ(z⁽²⁾), ŷ, y; and of local derivatives.
--
-- A symbol is { text =, latex = }.  Weights are numbered by their first use, forward; z and a have the number of the
-- layer they are the values of, one more than the weight's.  What has a name of its own keeps it; the rest is v₁, v₂.
local native = require "nablua.native"
local text = require "nablua.inspect.text"

local symbols = {}

-- Operators that only pass values on, in another shape or with other strides.
local STRUCTURAL = {}
for name in ([[reshape view flatten transpose permute squeeze unsqueeze expand contiguous clone to detach
  sum_to identity]]):gmatch("%S+") do STRUCTURAL[name] = true end

-- Activations, as the lecture writes them.
local ACTIVATIONS = { sigmoid = "σ", tanh = "tanh", relu = "ReLU", leaky_relu = "LeakyReLU", elu = "ELU", gelu = "GELU",
  silu = "SiLU", softplus = "softplus", softmax = "softmax", log_softmax = "log softmax" }

-- Products of a value and a weight (and a bias, where there is a third input).
local WEIGHTED = { matmul = true, linear = true, conv1d = true, conv2d = true, conv_transpose2d = true }

local POOLS = { max_pool2d = true, avg_pool2d = true, adaptive_avg_pool2d = true }

local LOSSES = { bce_with_logits = true, binary_cross_entropy = true, cross_entropy = true }

local function symbol(plain, latex)
  return { text = plain, latex = latex or plain }
end
symbols.new = symbol

local function numbered(letter, k)
  return symbol(letter .. "⁽" .. text.superscript(k) .. "⁾", ("%s^{(%d)}"):format(letter, k))
end

local function indexed(letter, k)
  return symbol(letter .. text.subscript(k), ("%s_{%d}"):format(letter, k))
end

-- A user's name: "W1" is the lecture's W⁽¹⁾, other names are themselves.
local function named(name)
  local letter, k = name:match("^(%a)(%d+)$")
  if letter then return numbered(letter, tonumber(k)) end
  return symbol(name, #name == 1 and name or "\\mathrm{" .. name:gsub("([_#%%&$])", "\\%1") .. "}")
end

local Y_HAT, Y = symbol("ŷ", "\\hat{y}"), symbol("y")
symbols.error = symbol("(ŷ−y)", "(\\hat{y}-y)")

-- ---- naming ----

local function numel(shape)
  local n = 1
  for _, size in ipairs(shape) do n = n * size end
  return n
end
symbols.numel = numel

local Names = {}
Names.__index = Names

local function constant_key(input)
  return input.value and native.storage(input.value)
end

-- The name of the k-th input of a node.
function Names:input(node, k)
  local input = node.inputs[k]
  if not input then return symbol("·", "\\cdot") end
  if input == self.target then return Y end
  if input.leaf then return self.leaves[input.id] or symbol("w") end
  if input.node then return self:output(input.node) end
  local key = constant_key(input)
  if key and self.constants[key] then return self.constants[key] end
  if input.value and numel(input.shape) == 1 then
    local number = text.number(input.value:item() + 0.0)
    return symbol(number, text.latex(number))
  end
  if input.value and input.value.name then return named(input.value.name) end
  return symbol("c")
end

-- The name of what node number i made.
function Names:output(i)
  local leaf = self.passed[i]
  return leaf and self.leaves[leaf.id] or self.nodes[i] or symbol("v")
end

-- Follows operators that only reshape back to a leaf; nil where there is another operator on the way.
local function leaf_behind(self, input)
  if input and input.leaf then return input end
  return input and input.node and self.passed[input.node]
end

local function name_weight(self, leaf, vector)
  local id = leaf.id
  if not self.numbers[id] then
    self.count = self.count + 1
    self.numbers[id] = self.count
    self.leaves[id] = leaf.leaf.name and named(leaf.leaf.name) or numbered(vector and "w" or "W", self.count)
  end
  return self.numbers[id]
end

-- Which inputs of a product are the value and the weight.
local function product_inputs(self, node)
  local x, w = 1, 2
  if node.op == "matmul" then
    local first, second = leaf_behind(self, node.inputs[1]), leaf_behind(self, node.inputs[2])
    local swap = first and (not second or #second.shape < 2 and #first.shape >= 2)
    if swap then x, w = 2, 1 end
  end
  return x, w
end

local function name_product(self, i, node)
  if not WEIGHTED[node.op] then return false end
  local x, w = product_inputs(self, node)
  local leaf = leaf_behind(self, node.inputs[w])
  if not leaf then return false end
  local k = name_weight(self, leaf)
  local value = node.inputs[x]
  if value and value.leaf then
    self.leaves[value.id] = self.leaves[value.id] or value.leaf.name and named(value.leaf.name) or symbol("X")
  elseif value and not value.node then
    local key = constant_key(value)
    if key and not self.constants[key] then
      self.inputs = self.inputs + 1
      self.constants[key] = value.value.name and named(value.value.name) or
        (self.inputs == 1 and symbol("X") or indexed("X", self.inputs))
    end
  end
  self.layer[i] = k + 1
  self.nodes[i] = numbered("z", k + 1)
  self.made[i] = ("%s·%s"):format(self:input(node, x).text, self:input(node, w).text)
  if node.inputs[3] and node.inputs[3].leaf then
    local b = node.inputs[3]
    self.leaves[b.id] = self.leaves[b.id] or b.leaf.name and named(b.leaf.name) or numbered("b", k)
    self.made[i] = self.made[i] .. "+" .. self.leaves[b.id].text
  end
  return true
end

-- z + b, where b is a vector of the layer's.
local function name_bias(self, i, node)
  if node.op ~= "add" then return false end
  for k = 1, 2 do
    local z, b = node.inputs[k], node.inputs[3 - k]
    local leaf = leaf_behind(self, b)
    local layer = z and z.node and self.layer[z.node]
    if layer and leaf and self.nodes[z.node].text == numbered("z", layer).text then
      self.leaves[leaf.id] = self.leaves[leaf.id] or leaf.leaf.name and named(leaf.leaf.name) or
        numbered("b", layer - 1)
      self.layer[i], self.nodes[i] = layer, self.nodes[z.node]
      self.bias[i] = 3 - k
      self.made[i] = ("%s+%s"):format(self.made[z.node] or self.nodes[z.node].text, self.leaves[leaf.id].text)
      return true
    end
  end
  return false
end

local function name_node(self, i, node)
  local first = node.inputs[1]
  local out = node.outputs[1]
  if name_product(self, i, node) or name_bias(self, i, node) then
    if out and out.value and out.value.name then self.nodes[i] = named(out.value.name) end
    return
  end
  local from = first and first.node
  if STRUCTURAL[node.op] and first then
    self.passed[i] = leaf_behind(self, first)
    self.layer[i] = from and self.layer[from]
    self.nodes[i] = out and out.value and out.value.name and named(out.value.name) or self:input(node, 1)
    return
  end
  local argument = self:input(node, 1)
  if out and out.value and out.value.name then
    self.nodes[i] = named(out.value.name)
  elseif ACTIVATIONS[node.op] and from and self.layer[from] then
    self.layer[i] = self.layer[from]
    self.nodes[i] = numbered("a", self.layer[i])
  elseif POOLS[node.op] and from and self.layer[from] then
    self.layer[i] = self.layer[from]
    self.nodes[i] = numbered("p", self.layer[i])
  else
    self.others = self.others + 1
    self.nodes[i] = indexed("v", self.others)
  end
  self.made[i] = ("%s(%s)"):format(ACTIVATIONS[node.op] or node.op, argument.text)
end

-- Operators between the net's output and J: what a loss is written with.
local TAIL = {}
for name in ("sum mean neg square abs pow mul div add sub squared_error reshape view squeeze"):gmatch("%S+") do
  TAIL[name] = true
end

local function only_path(node)
  local from
  for k, input in pairs(node.inputs) do
    if input.node or input.leaf then
      if from then return nil end
      from = k
    end
  end
  return from
end

-- Names ŷ and y: from J back to the loss.
local function name_loss(self, nodes)
  local i = #nodes
  while i do
    local node = nodes[i]
    if LOSSES[node.op] then
      local key = node.inputs[2] and constant_key(node.inputs[2])
      if key then self.constants[key] = Y end
      local z = node.inputs[1]
      if node.op == "binary_cross_entropy" and z.node then self.nodes[z.node] = Y_HAT end
      self.loss = i
      return
    end
    local k = TAIL[node.op] and only_path(node)
    if not k then return end
    local other = node.inputs[3 - k]
    local differs = node.op == "sub" or node.op == "squared_error"
    if differs and other and numel(other.shape) >= 1 and numel(node.inputs[k].shape) == numel(other.shape) then
      local key = constant_key(other)
      if key then self.constants[key] = Y end
      self.target = other
      if node.inputs[k].node then self.nodes[node.inputs[k].node] = Y_HAT end
      self.error = k == 1 and symbols.error or symbol("(y−ŷ)", "(y-\\hat{y})")
      self.nodes[i] = node.op == "sub" and self.error or symbol(self.error.text .. "²", self.error.latex .. "^2")
      self.difference, self.loss = i, i
      return
    end
    i = node.inputs[k].node
  end
end

-- The names of all that is on the tape.
function symbols.name(tape)
  local self = setmetatable({ nodes = {}, leaves = {}, constants = {}, layer = {}, passed = {}, made = {}, numbers = {},
    bias = {}, count = 0, inputs = 0, others = 0 }, Names)
  for _, node in ipairs(tape.nodes) do
    for _, input in pairs(node.inputs) do
      if input.leaf and input.leaf.name then self.leaves[input.id] = named(input.leaf.name) end
    end
  end
  for i, node in ipairs(tape.nodes) do name_node(self, i, node) end
  name_loss(self, tape.nodes)
  -- What is left: parameters that no product has, in their order.
  local n = 0
  for _, node in ipairs(tape.nodes) do
    for _, input in pairs(node.inputs) do
      if input.leaf and not self.leaves[input.id] then
        n = n + 1
        self.leaves[input.id] = input.name and symbol(input.name, "\\mathrm{" .. input.name:gsub("_", "\\_") .. "}") or
          indexed("w", n)
      end
    end
  end
  return self
end

-- ---- local derivatives ----

-- What node number i does to an arriving error on its way to input k:
--   { symbol = nil where it only passes it on, scale = a number it multiplies by, mean = n where it divides by n,
--     kind = "elementwise" | "matrix" | "other", value = the matrix, where it is known }
local function rule_product(names, node, k)
  local x, w = product_inputs(names, node)
  if k == 3 then return { symbol = symbol("1"), kind = "other" } end
  local other = k == x and w or x
  local input = node.inputs[other]
  return { symbol = names:input(node, other), kind = "matrix", value = input and (input.value or input.leaf),
    shape = input and input.shape }
end

local function constant_number(input)
  if input and not input.node and not input.leaf and input.value and numel(input.shape) == 1 then
    return input.value:item() + 0.0
  end
end

local rules = {}

for name in pairs(STRUCTURAL) do rules[name] = function() return {} end end
function rules.add(names, _, k, i)
  return names.bias[i] == k and { symbol = symbol("1"), kind = "other" } or {}
end
function rules.sub(_, _, k) return k == 2 and { scale = -1 } or {} end
function rules.neg() return { scale = -1 } end
function rules.sum() return {} end
function rules.mean(_, node)
  local out = node.outputs[1]
  return { mean = numel(node.inputs[1].shape) // math.max(1, out and numel(out.shape) or 1) }
end
function rules.mul(names, node, k)
  local number = constant_number(node.inputs[3 - k])
  if number then return { scale = number } end
  return { symbol = names:input(node, 3 - k), kind = "elementwise" }
end
function rules.div(names, node, k)
  local number = constant_number(node.inputs[2])
  if k == 1 and number then return { scale = 1 / number } end
  local y = names:input(node, 2)
  if k == 1 then return { symbol = symbol("1/" .. y.text, "\\frac{1}{" .. y.latex .. "}"), kind = "elementwise" } end
  local x = names:input(node, 1)
  return { scale = -1, kind = "elementwise",
    symbol = symbol(x.text .. "/" .. y.text .. "²", "\\frac{" .. x.latex .. "}{" .. y.latex .. "^2}") }
end
function rules.square(names, node)
  return { scale = 2, symbol = names:input(node, 1), kind = "elementwise" }
end
function rules.squared_error(names, node, k, i)
  local x, y = names:input(node, 1), names:input(node, 2)
  local difference = i == names.difference and names.error or
    symbol("(" .. x.text .. "−" .. y.text .. ")", "(" .. x.latex .. "-" .. y.latex .. ")")
  return { scale = k == 1 and 2 or -2, symbol = difference, kind = "elementwise" }
end
function rules.pow(names, node, k)
  local p = constant_number(node.inputs[2])
  if k == 1 and p == 2 then return rules.square(names, node) end
end
function rules.cross_entropy() return { symbol = symbols.error, kind = "elementwise" } end
function rules.bce_with_logits(_, _, k)
  if k == 1 then return { symbol = symbols.error, kind = "elementwise" } end
end
function rules.exp(names, node)
  local x = names:input(node, 1)
  return { symbol = symbol("e^" .. x.text, "e^{" .. x.latex .. "}"), kind = "elementwise" }
end
function rules.log(names, node)
  local x = names:input(node, 1)
  return { symbol = symbol("1/" .. x.text, "\\frac{1}{" .. x.latex .. "}"), kind = "elementwise" }
end
function rules.binary_cross_entropy(_, _, k)
  if k == 1 then
    return { symbol = symbol("(ŷ−y)/(ŷ(1−ŷ))", "\\frac{\\hat{y}-y}{\\hat{y}(1-\\hat{y})}"), kind = "elementwise" }
  end
end

local function function_name(op)
  local plain = ACTIVATIONS[op] or op
  return plain, plain == "σ" and "\\sigma" or "\\mathrm{" .. plain:gsub("_", "\\_") .. "}"
end

function symbols.rule(names, node, k, i)
  if WEIGHTED[node.op] then return rule_product(names, node, k) end
  local rule = rules[node.op] and rules[node.op](names, node, k, i)
  if rule then return rule end
  local plain, latex = function_name(node.op)
  local tensors = 0
  for _ in pairs(node.inputs) do tensors = tensors + 1 end
  local argument = names:input(node, k)
  local same = numel(node.inputs[k].shape) == numel((node.outputs[1] or node.inputs[k]).shape)
  local kind = same and tensors == 1 and node.op ~= "softmax" and node.op ~= "log_softmax" and "elementwise" or "other"
  if tensors == 1 then
    return { symbol = symbol(plain .. "'(" .. argument.text .. ")", latex .. "'(" .. argument.latex .. ")"),
      kind = kind }
  end
  return { symbol = symbol("∂" .. plain .. "/∂" .. argument.text,
    "\\frac{\\partial\\," .. latex .. "}{\\partial " .. argument.latex .. "}"), kind = kind }
end

return symbols
