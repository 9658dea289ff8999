-- SPDX-License-Identifier: MIT
-- The tape as inspection reads it, and the check for NaN and infinities.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local tape = require "nablua.inspect.tape"
local nn = nb.nn

local T = {}

function T.test_a_net_as_nodes_with_names_and_layers()
  local net = nn.Sequential { nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 1) }
  local x, y = nb.randn(5, 3), nb.ones(5, 1)
  local J = nn.BCEWithLogitsLoss()(net(x), y)
  local nodes = tape.read(J).nodes
  local ops, layers = {}, {}
  for i, node in ipairs(nodes) do
    ops[i], layers[i] = node.op, node.layer or ""
    lu.assertStrContains(node.source, "test_tape.lua")
    for _, input in pairs(node.inputs) do
      if input.node then
        lu.assertTrue(input.node < i)
        lu.assertEquals(nodes[input.node].outputs[input.output].shape, input.shape)
      end
      if input.leaf then lu.assertEquals(input.name, input.layer .. (#input.shape == 2 and ".weight" or ".bias")) end
    end
  end
  lu.assertEquals(ops[#ops], "mean")
  lu.assertEquals(ops[#ops - 1], "bce_with_logits")
  lu.assertEquals(nodes[#nodes].outputs[1].value, J)
  lu.assertEquals(layers[1], "1")
  J:backward()
  nodes = tape.read(J).nodes
  lu.assertStrContains(nodes[#nodes].freed, "test_tape.lua")
  lu.assertEquals(nodes[#nodes].inputs, {})
  lu.assertEquals(tape.read(x).nodes, {})
end

function T.test_a_node_applies_its_own_rule()
  local x = nb.tensor({ 1, 2 }, { requires_grad = true, dtype = "f64" })
  local y = x * nb.tensor({ 3, 4 }, { dtype = "f64" })
  local nodes = native.tape(y)
  local given = native.node_backward(nodes[1].node, { nb.ones(2, { dtype = "f64" }) })
  lu.assertEquals(given[1]:totable(), { 3, 4 })
  lu.assertFalse(given[2])
  lu.assertErrorMsgContains("node of a tape", native.node_backward, x, {})
  nb.no_grad(function() x:add_(1) end)
  lu.assertNil(native.tape(y)[1].inputs[1].value)
  lu.assertTrue(native.tape(y)[1].inputs[1].changed)
end

function T.test_numbers_that_stay_such_are_arguments()
  local x = nb.tensor({ -3, 0.5, 3 }, { requires_grad = true })
  local y = x:clamp(-1, 2)
  local node = native.tape(y)[1]
  lu.assertEquals({ node.args.min, node.args.max }, { -1, 2 })
  lu.assertNil(node.inputs[2])
  y:sum():backward()
  lu.assertEquals(x.grad:totable(), { 0, 1, 0 })
  lu.assertNil(native.tape(y)[1].args.min)
  local low = nb.tensor(-1, { requires_grad = true })
  node = native.tape(x:clamp(low, 2))[1]
  lu.assertNil(node.args.min)
  lu.assertEquals({ node.inputs[2].value:item(), node.inputs[3].value:item() }, { -1, 2 })
end

function T.test_a_long_tape_is_read_without_recursion()
  local x = nb.tensor({ 1 }, { requires_grad = true })
  local y = x
  for _ = 1, 100000 do y = y + 1 end
  lu.assertEquals(#tape.read(y).nodes, 100000)
end

local function events_of(f)
  local list = {}
  native.observe(function(e) list[#list + 1] = e end)
  local ok, err = pcall(f)
  native.observe(nil)
  if not ok then error(err, 0) end
  return list
end

function T.test_an_observer_sees_what_the_user_applies()
  local net = nn.Sequential { nn.Linear(2, 1), nn.Tanh() }
  local list = events_of(function() net(nb.ones(1, 2)):sum():backward() end)
  local kinds = {}
  for _, e in ipairs(list) do kinds[e.kind] = (kinds[e.kind] or 0) + 1 end
  lu.assertEquals(kinds.apply - 1, kinds.backward)  -- all but nb.ones
  for _, e in ipairs(list) do
    if e.op == "tanh" then lu.assertEquals({ #e.modules, e.modules[2] }, { 2, net[2] }) end
  end
  list = events_of(function() nb.zeros(2):add_(1) end)
  lu.assertEquals({ list[2].kind, list[3].kind, list[3].in_place }, { "write", "apply", true })
  lu.assertErrorMsgContains("stop here", events_of, function()
    native.observe(function() error("stop here") end)
    nb.zeros(2)
  end)
end

return T
