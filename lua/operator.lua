-- SPDX-License-Identifier: MIT
-- nb.operator: operators of the user's own, which join the registry as the built-in ones do.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local own = {}  -- name → what inspection knows of it; what was made here may be made again

local params = {
  { name = "name", type = "string", doc = "nb.NAME and t:NAME" },
  { name = "forward", type = "function",
    doc = "forward(ctx, ...): the result, a tensor; what it does is not recorded" },
  { name = "backward", type = "function", optional = true,
    doc = "backward(ctx, g): for each argument ∂J/∂argument from g = ∂J/∂result; nil for those that have none" },
  { name = "doc", type = "string", default = "An operator of your own." },
  { name = "example", type = "string", optional = true },
  { name = "derivative", type = "string", optional = true,
    doc = "as help shows it: \"σ(x)\", or \"∂/∂x = y, ∂/∂y = x\" by forward's names" },
  { name = "role", type = "string", default = "function",
    choices = { "function", "formula", "activation", "loss", "normalisation", "structure", "part" },
    doc = "what inspection makes of it: a formula's factor is its derivative, an activation's value is a⁽²⁾" },
  { name = "symbol", type = "string", optional = true, doc = "as inspection's formulas write it; the name" },
  { name = "no_grad", type = "string", optional = true, doc = "why it has no gradient, where there is no backward" },
  { name = "outputs", type = "size", default = 1,
    doc = "how many tensors forward returns, 3 at most; backward gets as many gradients" },
}

-- The fields of tensors, which a method would hide.
local reserved = { shape = true, dtype = true, grad = true, requires_grad = true, name = true, T = true,
  is_leaf = true }

local function check_name(name)
  if not name:find("^[%a_][%w_]*$") or not load("local " .. name) then
    native.raise(("operator: name must be a Lua name, got %q"):format(name))
  end
  if #name > 60 then native.raise("operator: name is too long") end
  if not own[name] and (nb[name] ~= nil or native.methods[name] or reserved[name]) then
    native.raise(("operator: there is a built-in %s; choose another name"):format(name))
  end
end

-- The parameters of forward after ctx, as it names them.
local function parameters_of(f)
  local list, info = {}, debug.getinfo(f, "u")
  for i = 2, info.nparams do list[#list + 1] = debug.getlocal(f, i) end
  if info.isvararg then list[#list + 1] = "..." end
  return list
end

registry.define(nb, "nb.", "operator", {
  family = "Gradients",
  doc = "Makes an operator of two Lua functions; it joins nb, the methods of tensors, help and completion.  Making " ..
    "it again replaces it.  In forward, ctx:save(a, b) keeps tensors for backward, where ctx:saved() returns them; " ..
    "other values go into fields of ctx.  A backward written in operators has second derivatives.",
  signature = "nb.operator{name=, forward=, backward=, doc=, example=, derivative=, role=, symbol=, no_grad=, " ..
    "outputs=1}",
  params = params,
  example = [[
local cube = nb.operator{ name="cube", doc="x³, elementwise.",
  forward = function(ctx, x) ctx:save(x) return x ^ 3 end,
  backward = function(ctx, g) local x = ctx:saved() return g * 3 * x ^ 2 end }
local x = nb.tensor({1, 2}, {requires_grad=true}); x:cube():sum():backward(); return x.grad  --> {3, 12}]],
  see = { "nb.grad", "t:register_hook" },
  function(spec)
    if type(spec) ~= "table" or nb.is_tensor(spec) then
      native.raise("operator: needs a table {name=, forward=, backward=}, got " .. options.describe(spec))
    end
    for _, p in ipairs(params) do
      if p.default == nil and not p.optional and spec[p.name] == nil then
        native.raise(("operator: %s is missing"):format(p.name))
      end
    end
    local optional = {}
    for i, p in ipairs(params) do
      optional[i] = setmetatable({ optional = true }, { __index = p })
    end
    local v = options.check("operator", optional, spec)
    check_name(v.name)
    if v.outputs > 3 then native.raise(("operator: outputs must be 3 at most, got %d"):format(v.outputs)) end
    local f = native.custom(v.name, v.outputs, v.forward, v.backward)
    local names = parameters_of(v.forward)
    local listed = {}
    for i, name in ipairs(names) do listed[i] = { name = name, type = "", kind = "tensor" } end
    own[v.name] = { role = v.role, symbol = v.symbol, derivative = v.derivative, params = listed }
    native.methods[v.name] = f
    nb[v.name] = f
    registry.add {
      name = "nb." .. v.name, kind = "operator", family = "Your own operators", doc = v.doc, value = f, params = listed,
      signature = ("nb.%s(%s)"):format(v.name, table.concat(names, ", ")), example = v.example,
      derivative = v.derivative,
      no_grad = not v.backward and (v.no_grad or "it has no backward") or nil,
    }
    return f
  end,
})

return own
