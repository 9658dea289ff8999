-- SPDX-License-Identifier: MIT
-- What inspection knows of an operator: its row's fields role, symbol, latex, formula, factor ..., with defaults.
--
-- roles.of(op) gives a table: role, name, symbol = { text =, latex = }, formula, factor, factors = the derivative by
-- argument, params = the names of its tensors in order, elementwise, view, own, internal, probability, shrinks.
local formula = require "nablua.inspect.formula"
local own = require "nablua.operator"
local registry = require "nablua.registry"
local text = require "nablua.inspect.text"

local roles = {}

local known = {}  -- built-in operator → what roles.of gives

local function upright(name)
  return (text.upright(name):gsub("ᵀ", "^{\\top}"))
end

-- What a product's row says of the gradient of each argument in turn, "∂/∂W = δᵀ·x": whether the error stands first,
-- and whether it and the other argument are transposed.
local function products(derivative)
  local list = {}
  for part in (derivative .. ", "):gmatch("= (.-), ") do
    local first, turned, second, turned_too = part:gsub("ᵀ", "'"):match("^([^·']+)('?)·([^·']+)('?)$")
    local ahead = first == "δ"
    if not first or not ahead and second ~= "δ" then break end
    if not ahead then turned, turned_too = turned_too, turned end
    list[#list + 1] = { ahead = ahead, error_turned = turned == "'", other_turned = turned_too == "'" }
  end
  return list
end

local function read(op)
  local row = own[op] or registry.row(op) or {}
  local params = {}
  for _, p in ipairs(row.params or {}) do
    if p.kind:find "tensor" or p.kind == "mask" then params[#params + 1] = p.name end
  end
  local symbol = row.symbol or op
  return { role = row.role or "function", name = op, params = params, formula = row.formula, factor = row.factor,
    symbol = { text = symbol, latex = row.latex or upright(symbol) }, derivative = row.derivative,
    factors = row.derivative and formula.parts(row.derivative) or {}, elementwise = row.elementwise or own[op] ~= nil,
    own = own[op] ~= nil, internal = row.internal, view = row.view, probability = row.probability,
    shrinks = row.shrinks, products = row.role == "product" and products(row.derivative or "") or {} }
end

function roles.of(op)
  local made = own[op]
  if made then
    made.known = made.known or read(op)
    return made.known
  end
  known[op] = known[op] or read(op)
  return known[op]
end

-- How users know it: by the name they call it by, or by its symbol where they never call it.
function roles.title(op)
  local info = roles.of(op)
  return info.internal and info.symbol.text or op
end

return roles
