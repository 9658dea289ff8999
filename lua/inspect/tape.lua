-- SPDX-License-Identifier: MIT
-- The tape behind a tensor as plain tables, with the names of its leaves and the layers they belong to.
--
-- tape.read(J) gives { J = J, nodes = {...}, places = as places.tell gives them }, the nodes in order of creation:
--   op        the operator's name           source, line   where the user applied it
--   args      its arguments that are no tensors, by name
--   inputs    its tensor arguments in order (lists flattened), each
--               { param =, shape =, dtype =, value = the tensor where the tape kept it,
--                 node =, output = which node and which of its outputs made it,
--                 or leaf = the tensor that requires grad, id =, name = "1.weight", layer = "1" }
--             with changed = true where the value was changed in place since
--   flops     floating point operations of the call, as nablua/op.h counts them
--   edges     how many inputs there are; one that was left out is nil
--   outputs   [k] = { shape =, dtype =, value = where kept }
--   place     the path of the module whose call made it (inspect/places.lua)
--   passes    true of what only chooses among the steps of a recurrent layer that were unfolded
--   layer     the path of the layer whose parameters it reads, where it does
--   freed     "file:line" of the backward that freed it, where one did
--   node      for native.node_backward
--   order     the number of its creation
-- An operator that stands for many, a recurrent layer over a sequence, is unfolded into those; what shows its own
-- outputs has its order, and as_output = which of them.
-- Nodes whose values a backward has freed have no inputs.
local native = require "nablua.native"
local nb = require "nablua.core"
local modes = require "nablua.modes"
local cells = require "nablua.nn.cells"
local module = require "nablua.nn.module"
local places = require "nablua.inspect.places"
local roles = require "nablua.inspect.roles"

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

-- ---- unfolding ----

-- The nodes of a recurrent layer step by step, computed again: a list, and for each output in use its place there.
local function steps_of(node, used)
  local given, w, ids = {}, {}, {}
  for k, name in ipairs { "x", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "h", "c" } do
    local input = node.inputs[k]
    if input then
      local t = input.value:detach()
      t.requires_grad = input.node ~= nil or input.leaf ~= nil
      given[name], w[name], ids[native.id(t)] = t, t, k
    end
  end
  local reverse = node.args.reverse
  local h, _, _, c = cells.steps(node.args.cell, given.x, w, reverse, given.h, given.c)
  local outputs = {}
  for k, list in ipairs { h, c } do
    if used[k] then
      table.insert(list, reverse and #list + 1 or 1, k == 1 and given.h or given.c)
      outputs[k] = nb.stack(list, 1)
    end
  end
  local all = outputs[1] and outputs[2] and nb.cat({ outputs[1], outputs[2] }, 1)
  local list, found = native.tape(all or outputs[1] or outputs[2]), {}
  if all then list[#list] = nil end
  for k, y in pairs(outputs) do
    local order = native.made_by(y)
    for i, n in ipairs(list) do
      if n.order == order then
        found[k] = i
        n.order, n.as_output, n.outputs = node.order, k, { node.outputs[k] }
      end
    end
  end
  for _, n in ipairs(list) do
    n.source, n.line, n.caller = node.source, node.line, node.caller
    for k, input in pairs(n.inputs) do
      local original = node.inputs[ids[input.id]]
      if original then
        n.inputs[k] = { param = input.param, shape = input.shape, dtype = input.dtype, value = input.value,
          node = original.node, output = original.output, leaf = original.leaf, id = original.id, outside = true }
      end
    end
  end
  return list, found
end

local function can_unfold(nodes, i)
  local node = nodes[i]
  if roles.of(node.op).role ~= "recurrence" or node.freed or i == #nodes then return false end
  for _, input in pairs(node.inputs) do
    if not input.value then return false end
  end
  return true
end

-- The list with every node that stands for many replaced by those.
local function unfolded(nodes)
  local used, any = {}, false
  for i, node in ipairs(nodes) do
    used[i] = {}
    any = any or can_unfold(nodes, i)
    for _, input in pairs(node.inputs) do
      if input.node then used[input.node][input.output] = true end
    end
  end
  if not any then return nodes end
  local list, place, callers = {}, {}, {}  -- place: old node → output → new node
  local function moved(input)
    local to = input.node and place[input.node]
    if type(to) == "table" then
      input.node, input.output = to[input.output], 1
    elseif to then
      input.node = to
    end
  end
  for i, node in ipairs(nodes) do
    if can_unfold(nodes, i) then
      local steps, found = steps_of(node, used[i])
      local base = #list
      for _, n in ipairs(steps) do
        for _, input in pairs(n.inputs) do
          if input.outside then
            moved(input)
          elseif input.node then
            input.node = input.node + base
          end
        end
        list[#list + 1] = n
      end
      place[i] = {}
      for k, at in pairs(found) do place[i][k] = at + base end
      callers[node.caller] = node.caller ~= 0 or nil
    else
      for _, input in pairs(node.inputs) do moved(input) end
      -- The layer's own choice among all states, which is none where the steps stand themselves.
      local from = node.inputs[1] and list[node.inputs[1].node]
      node.passes = from and from.as_output and callers[node.caller] and roles.of(node.op).role == "part" or nil
      list[#list + 1] = node
      place[i] = #list
    end
  end
  return list
end

function tape.read(J)
  local nodes = native.with_grad(function()
    local collecting = collectgarbage "isrunning"
    return unfolded(modes.restoring(function()
      if collecting then collectgarbage "restart" end
    end, function()
      collectgarbage "stop"  -- all that native.tape makes is kept
      return native.tape(J)
    end))
  end)
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
  return { J = J, nodes = nodes, places = places.tell(nodes) }
end

-- Which node of a tape that was read made a tensor, and which of its outputs it is.
function tape.maker(read, t)
  local order, output = native.made_by(t)
  for i, node in ipairs(order and read.nodes or {}) do
    if node.order == order and (node.as_output or output) == output then
      return i, node.as_output and 1 or output
    end
  end
end

return tape
