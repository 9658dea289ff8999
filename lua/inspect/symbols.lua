-- SPDX-License-Identifier: MIT
-- The lecture's names for what lies on a tape: z⁽²⁾ = X·W⁽¹⁾, a⁽²⁾ = σ(z⁽²⁾), ŷ, y; and of local derivatives.
--
-- A symbol is { text =, latex = }.  Weights are numbered by their first use, forward; z and a have the number of the
-- layer they are the values of, one more than the weight's.  What has a name of its own keeps it; the rest is v₁, v₂.
local native = require "nablua.native"
local formula = require "nablua.inspect.formula"
local places = require "nablua.inspect.places"
local roles = require "nablua.inspect.roles"
local text = require "nablua.inspect.text"

local symbols = {}

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
  return symbol(name, text.upright(name))
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
  if #roles.of(node.op).params == 2 then  -- either may be the weight
    local first, second = leaf_behind(self, node.inputs[1]), leaf_behind(self, node.inputs[2])
    local swap = first and (not second or #second.shape < 2 and #first.shape >= 2)
    if swap then x, w = 2, 1 end
  end
  return x, w
end

local function name_product(self, i, node)
  if roles.of(node.op).role ~= "product" then return false end
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
  -- A weight that gradients multiply as it is, out × in, is transposed forward.
  local back = roles.of(node.op).products[1]
  local turned = x == 1 and back and back.ahead and not back.other_turned and "ᵀ" or ""
  self.made[i] = ("%s·%s%s"):format(self:input(node, x).text, self:input(node, w).text, turned)
  if node.inputs[3] and node.inputs[3].leaf then
    local b = node.inputs[3]
    self.leaves[b.id] = self.leaves[b.id] or b.leaf.name and named(b.leaf.name) or numbered("b", k)
    self.made[i] = self.made[i] .. "+" .. self.leaves[b.id].text
  end
  return true
end

-- z + b, where b is a vector of the layer's.
local function name_bias(self, i, node)
  if roles.of(node.op).formula ~= "x + y" then return false end
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

-- A number that the program wrote; a target or an input that is a single number has a name instead.
local function constant_number(names, input)
  if input.node or input.leaf or not input.value or numel(input.shape) ~= 1 then return nil end
  if input == names.target or names.constants[constant_key(input)] then return nil end
  return input.value:item() + 0.0
end

-- The name that a row's formulas have for the k-th input.  Tensors that users' operators get have the names of their
-- place among the arguments.
local function param_of(node, k)
  local info = roles.of(node.op)
  return info.own and info.params[k] or node.inputs[k].param
end

-- What the parameters' names of a node's row stand for; `given` goes before its own.
local function meaning(names, node, given)
  return function(name)
    if given and given[name] then return given[name] end
    for k, input in pairs(node.inputs) do
      if param_of(node, k) == name then return constant_number(names, input) or names:input(node, k) end
    end
    local argument = node.args[name]
    return type(argument) == "number" and argument or nil
  end
end

local MOST_ARGUMENTS = 4  -- that a formula lists

-- How a node's result is written: "x+y", or "σ(z)".
local function written(names, node, info)
  local said = info.formula and formula.symbol(info.formula, meaning(names, node))
  if said then return said.text end
  local list = {}
  for k = 1, node.edges do
    if #list == MOST_ARGUMENTS then
      list[#list + 1] = "…"
      break
    end
    if node.inputs[k] then list[#list + 1] = formula.bare(names:input(node, k)).text end
  end
  return ("%s(%s)"):format(info.symbol.text, table.concat(list, ", "))
end

-- The letters of values with the number of their layer.
local LETTERS = { activation = "a", pool = "p" }

local function name_node(self, i, node)
  local first, info = node.inputs[1], roles.of(node.op)
  local out = node.outputs[1]
  if name_product(self, i, node) or name_bias(self, i, node) then
    if out and out.value and out.value.name then self.nodes[i] = named(out.value.name) end
    return
  end
  local from = first and first.node
  if (info.role == "structure" or node.passes) and first then
    self.passed[i] = leaf_behind(self, first)
    self.layer[i] = from and self.layer[from]
    self.nodes[i] = out and out.value and out.value.name and named(out.value.name) or self:input(node, 1)
    return
  end
  local letter = from and self.layer[from] and LETTERS[info.role]
  if out and out.value and out.value.name then
    self.nodes[i] = named(out.value.name)
  elseif letter then
    self.layer[i] = self.layer[from]
    self.nodes[i] = numbered(letter, self.layer[i])
  else
    self.others = self.others + 1
    self.nodes[i] = indexed("v", self.others)
    local path = node.place or ""
    self.within[path] = (self.within[path] or 0) + 1
    self.locals[text.subscript(self.others)] = text.subscript(self.within[path])
  end
  self.plain[#self.plain + 1] = i
end

-- Roles of what stands between the net's output and J: what a loss is written with.
local TAIL = { formula = true, difference = true, reduction = true, structure = true }

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
    local info = roles.of(node.op)
    if info.role == "loss" then
      local key = node.inputs[2] and constant_key(node.inputs[2])
      if key then self.constants[key] = Y end
      local z = node.inputs[1]
      -- A factor in terms of its argument: that is the net's answer, and no logit.
      if not info.factor and z.node then self.nodes[z.node] = Y_HAT end
      self.loss = i
      return
    end
    local k = TAIL[info.role] and only_path(node)
    if not k then return end
    local other = node.inputs[3 - k]
    local differs = info.role == "difference" and other
    if differs and numel(other.shape) >= 1 and numel(node.inputs[k].shape) == numel(other.shape) then
      local key = constant_key(other)
      if key then self.constants[key] = Y end
      self.target = other
      if node.inputs[k].node then self.nodes[node.inputs[k].node] = Y_HAT end
      self.compared = { [node.inputs[k].param] = Y_HAT, [other.param] = Y }
      self.nodes[i] = formula.symbol(info.formula, meaning(self, node, self.compared), true)
      self.difference, self.loss = i, i
      return
    end
    i = node.inputs[k].node
  end
end

-- What a module gives has the module's name, ⟨encoder.3⟩, where it has none of its own.
local function name_modules(self, tape)
  local info, leaves = tape.places or {}, {}
  for i, node in ipairs(tape.nodes) do
    for _, input in pairs(node.inputs) do
      local from = input.node and tape.nodes[input.node]
      local path = from and from.place
      if path and path ~= "" and not (node.place and places.is_inside(node.place, path)) then
        local outermost = path  -- of those that it leaves
        for _, prefix in ipairs(places.prefixes(path)) do
          if not (node.place and places.is_inside(node.place, prefix)) then
            outermost = prefix
            break
          end
        end
        leaves[input.node] = leaves[input.node] and #leaves[input.node] < #outermost and leaves[input.node] or outermost
      end
    end
    if i == #tape.nodes then leaves[i] = nil end
  end
  for i, path in pairs(leaves) do
    if info[path] and self.nodes[i] and self.nodes[i].text:find("^v[\xe2\x82\x80-\x89]+$") then
      self.nodes[i] = symbol("⟨" .. path .. "⟩", "\\langle " .. text.upright(path) .. "\\rangle ")
    end
  end
end

local FEW = 20  -- hidden values that are numbered through

-- A text about one place: where there are many hidden values, v₃₂₂ is v₂ there, the second of its module.
function Names:here(s)
  if self.others <= FEW then return s end
  return (s:gsub("v([\xe2\x82\x80-\x89]+)", function(number)
    local mine = self.locals[number]
    return mine and "v" .. mine
  end))
end

-- The names of all that is on the tape.
function symbols.name(tape)
  local self = setmetatable({ nodes = {}, leaves = {}, constants = {}, layer = {}, passed = {}, made = {}, numbers = {},
    bias = {}, plain = {}, within = {}, locals = {}, count = 0, inputs = 0, others = 0 }, Names)
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
        self.leaves[input.id] = input.name and symbol(input.name, text.upright(input.name)) or
          indexed("w", n)
      end
    end
  end
  name_modules(self, tape)
  for _, i in ipairs(self.plain) do self.made[i] = written(self, tape.nodes[i], roles.of(tape.nodes[i].op)) end
  return self
end

-- ---- local derivatives ----

-- What node number i does to an arriving error on its way to input k:
--   { symbol = nil where it only passes it on, scale = a number it multiplies by, mean = n where it divides by n,
--     kind = "elementwise" | "matrix" | "other", value = the matrix, where it is known,
--     meaning = "σ'(x) = σ(x)·(1 − σ(x))" where the symbol does not say it }
local ONE = symbol("1")

local function rule_product(names, node, k)
  local x, w = product_inputs(names, node)
  if k == 3 then return { symbol = ONE, kind = "other" } end
  local other = k == x and w or x
  local input = node.inputs[other]
  return { symbol = names:input(node, other), kind = "matrix", value = input and (input.value or input.leaf),
    shape = input and input.shape }
end

-- Roles whose factor is what their row says of the derivative, where that is a formula.
local WRITTEN = { formula = true, difference = true, logarithm = true, reduction = true, loss = true }

-- The factor that the row spells out; nil where it has none.
local function rule_written(names, node, k, i, info)
  local param = param_of(node, k)
  local said = k == 1 and info.factor or WRITTEN[info.role] and (info.factors[param] or info.factors[1])
  local w = said and formula.write(said, meaning(names, node, i == names.difference and names.compared))
  if not w then return nil end
  if w.symbol and w.symbol.text == "1/n" then
    local out = node.outputs[1]
    return { mean = numel(node.inputs[k].shape) // math.max(1, out and numel(out.shape) or 1) }
  end
  return { scale = w.scale ~= 1 and w.scale or nil, symbol = w.symbol and formula.held(w.symbol),
    kind = w.symbol and ((info.elementwise or info.role == "loss") and "elementwise" or "other") or nil }
end

-- The factor by its symbol: σ'(z), or ∂f/∂x where there are several tensors.
local function rule_named(names, node, k, info)
  local tensors = 0
  for _ in pairs(node.inputs) do tensors = tensors + 1 end
  local f, argument = info.symbol, formula.bare(names:input(node, k))
  if tensors == 1 then
    local out = node.outputs[1] or node.inputs[k]
    local same = numel(node.inputs[k].shape) == numel(out.shape)
    return { symbol = symbol(f.text .. "'(" .. argument.text .. ")", f.latex .. "'(" .. argument.latex .. ")"),
      kind = same and info.elementwise and "elementwise" or "other", meaning = same and info.elementwise and
        info.derivative and ("%s'(%s) = %s"):format(f.text, info.params[1], info.derivative) or nil }
  end
  return { kind = "other", symbol = symbol("∂" .. f.text .. "/∂" .. argument.text,
    "\\frac{\\partial\\," .. f.latex .. "}{\\partial " .. argument.latex .. "}") }
end

function symbols.rule(names, node, k, i)
  local info = roles.of(node.op)
  if info.role == "product" then return rule_product(names, node, k) end
  if info.role == "structure" or node.passes then return {} end
  if names.bias[i] == k then return { symbol = ONE, kind = "other" } end
  return rule_written(names, node, k, i, info) or rule_named(names, node, k, info)
end

return symbols
