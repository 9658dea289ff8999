-- SPDX-License-Identifier: MIT
-- The layers that only apply an operator: the row names its layer, documentation and options are the row's.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local registry = require "nablua.registry"

-- The layer's parameters: all of the operator's but x.  A dimension is the last one when left out.
local function parameters(row)
  local list = {}
  for i = 2, #row.parameters do
    local p = {}
    for key, value in pairs(row.parameters[i]) do p[key] = value end
    if p.type == "dimension" then
      p.type, p.default, p.positional = "integer", -1, true
    end
    list[i - 1] = p
  end
  return list
end

local M = {}

for _, pair in ipairs(native.layers()) do
  local name, operator = table.unpack(pair)
  local row, apply = registry.row(operator), nb[operator]
  local params = parameters(row)
  M[name] = module.define("nn." .. name, {
    kind = "activation", leaf = true, doc = row.doc, source = row.source, params = params, see = { "nb." .. operator },
    example = ("nn.%s()(nb.tensor{-1, 0, 2}).shape  --> {3}"):format(name),
    forward = #params == 0 and function(_, x) return apply(x) end or function(self, x)
      local given = {}
      for _, p in ipairs(params) do
        if p.positional then given[#given + 1] = self[p.name] end
      end
      for _, p in ipairs(params) do
        if not p.positional then given[#given + 1] = { [p.name] = self[p.name] } end
      end
      return apply(x, table.unpack(given))
    end,
  })
end

return M
