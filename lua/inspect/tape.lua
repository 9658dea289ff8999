-- SPDX-License-Identifier: MIT
-- The tape behind a tensor as plain tables, with the names of its leaves and the layers they belong to.
--
-- tape.read(J) gives { J = J, nodes = {...} }, the nodes in order of creation:
--   op        the operator's name           source, line   where the user applied it
--   args      its arguments that are no tensors, by name
--   inputs    its tensor arguments in order (lists flattened), each
--               { param =, shape =, dtype =, value = the tensor where the tape kept it,
--                 node =, output = which node and which of its outputs made it,
--                 or leaf = the tensor that requires grad, id =, name = "1.weight", layer = "1" }
--             with changed = true where the value was changed in place since
--   edges     how many inputs there are; one that was left out is nil
--   outputs   [k] = { shape =, dtype =, value = where kept }
--   layer     the path of the layer whose parameters it reads, where it does
--   freed     "file:line" of the backward that freed it, where one did
--   node      for native.node_backward
-- Nodes whose values a backward has freed have no inputs.
local native = require "nablua.native"
local module = require "nablua.nn.module"

local tape = {}

-- The parameters of all live nets: id → { name = "1.weight", layer = "1", owner = the module, root = the net }.
function tape.parameters()
  local found = {}
  for root in pairs(module.roots()) do
    local owners = {}
    for path, m in root:named_modules() do owners[path] = m end
    for path, p in root:named_parameters() do
      local layer = path:match("^(.*)%.[^.]*$") or ""
      while layer ~= "" and not owners[layer] do layer = layer:match("^(.*)%.[^.]*$") or "" end
      found[native.id(p)] = { name = path, layer = layer ~= "" and layer or nil, owner = owners[layer], root = root }
    end
  end
  return found
end

function tape.read(J)
  local nodes = native.tape(J)
  local names
  for _, node in ipairs(nodes) do
    for _, input in pairs(node.inputs) do
      if input.leaf then
        names = names or tape.parameters()
        local known = names[input.id]
        input.name = input.leaf.name or known and known.name
        input.layer = known and known.layer
        node.layer = node.layer or input.layer
      end
    end
  end
  return { J = J, nodes = nodes }
end

return tape
