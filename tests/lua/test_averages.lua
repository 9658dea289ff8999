-- SPDX-License-Identifier: MIT
-- Helpers around the parameters of a net: vectors, frozen ones, averages, weights made from others, padded sequences.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn, optim = nb.nn, nb.optim

local T = {}

local assert_error, assert_close = numeric.assert_error, numeric.assert_close

function T.test_parameters_as_a_vector_and_back()
  local net, other = nn.Linear(3, 2), nn.Linear(3, 2)
  local v = nn.parameters_to_vector(net:parameters())
  assert_close(v, nb.cat({ net.weight:detach():view(6), net.bias:detach() }, 1), 0)
  nn.vector_to_parameters(v, other:parameters())
  assert_close(other.weight, net.weight:detach(), 0)
  v:square():sum():backward()
  assert_close(net.weight.grad, net.weight:detach() * 2)
  assert_error({ "9 elements", "got shape 8" }, nn.vector_to_parameters, v, { nb.zeros(9) })
  assert_error({ "list such as net:parameters()" }, nn.parameters_to_vector, {})
end

function T.test_frozen_layers_do_not_move_and_thaw()
  local net = nn.Sequential { nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1) }
  net[1]:requires_grad(false)
  lu.assertEquals(#net:parameters(), 4)
  local before = net:state()
  local opt = optim.SGD(net:parameters(), { lr = 0.1 })
  net(nb.randn(5, 2)):square():sum():backward()
  opt:step()
  lu.assertNil(net[1].weight.grad)
  assert_close(net[1].weight, before["1.weight"], 0)
  lu.assertTrue((net[3].weight:detach() - before["3.weight"]):abs():max():item() > 0)
  lu.assertNotNil(net:state()["1.weight"])  -- it belongs to the state all the same
  net:requires_grad(true)
  lu.assertEquals(#net:parameters(), 6)  -- and not the running values
  lu.assertFalse(net[2].running_mean.requires_grad)
  assert_error({ "requires_grad", "true or false" }, net.requires_grad, net, 3)
end

function T.test_averages_of_a_net()
  local function run(decay)
    nb.seed(3)
    local net = nn.Sequential { nn.Linear(2, 2), nn.BatchNorm1d(2) }
    local average, seen = nn.AveragedModel(net, { decay = decay }), {}
    for step = 1, 4 do
      nb.no_grad(function() net[1].weight:copy_(nb.randn(2, 2)) end)
      net(nb.randn(4, 2))
      average:update_parameters(net)
      seen[step] = net[1].weight:detach():clone()
    end
    return net, average, seen
  end
  local net, swa, seen = run(nil)
  assert_close(swa.module[1].weight, (seen[1] + seen[2] + seen[3] + seen[4]) / 4, 1e-6)
  assert_close(swa.module[2].running_mean, net[2].running_mean, 0)
  lu.assertEquals(swa.module[2].num_batches_tracked:item(), 4)
  local _, ema, list = run(0.75)
  local want = list[1]
  for k = 2, 4 do want = want * 0.75 + list[k] * 0.25 end
  assert_close(ema.module[1].weight, want, 1e-6)
  lu.assertEquals(#swa:parameters(), 0)
  local x = nb.randn(3, 2)
  assert_close(swa:eval()(x), swa.module(x), 0)
  local twin = nn.AveragedModel(net)
  twin:load_state(swa:state())
  assert_close(twin.module[1].weight, swa.module[1].weight, 0)
  lu.assertEquals(twin.n_averaged:item(), 4)
  assert_error({ "update_parameters" }, swa.update_parameters, swa, nn.Linear(2, 2))
  assert_error({ "model must be a module" }, nn.AveragedModel, 3)
end

function T.test_weight_norm_keeps_the_function_and_splits_the_gradient()
  nb.seed(5)
  local net = nn.Sequential { nn.Linear(3, 2), nn.Tanh(), nn.Conv1d(1, 2, 2) }
  local x = nb.randn(4, 1, 3)
  local y = net(x)
  nn.weight_norm(net[1])
  nn.weight_norm(net[3])
  assert_close(net(x), y:detach(), 1e-5)
  lu.assertEquals(#net:parameters(), 6)
  lu.assertNil(net:state()["1.weight"])
  numeric.assert_gradients(net, nb.randn(4, 1, 3, { dtype = "f64" }))
  -- The gradient of the direction has no part along it.
  net:zero_grad()
  net(x:to("f64")):square():sum():backward()
  local v, g = net[1].weight_v, net[1].weight_g
  lu.assertTrue((v.grad * v:detach()):sum(2):abs():max():item() < 1e-10)
  nb.no_grad(function() g:mul_(2) end)
  net(x:to("f64"))
  assert_close(net[1].weight:square():sum(2):sqrt(), g:detach():view(2), 1e-10)
  local twin = nn.Sequential { nn.weight_norm(nn.Linear(3, 2)), nn.Tanh(), nn.weight_norm(nn.Conv1d(1, 2, 2)) }
  twin:load_state(net:state())
  nb.no_grad(function() assert_close(twin(x), numeric.flat(net(x:to("f64"))), 1e-5) end)
  lu.assertNil(twin:state()["1.weight"])
  -- A recording sees the weight that is made anew.
  local opt = optim.SGD(twin:parameters(), { lr = 0.1 })
  local function step(b)
    opt:zero_grad()
    local J = twin(b):square():mean()
    J:backward()
    opt:step()
    return J
  end
  local compiled, last = nb.compile(step), math.huge
  for _ = 1, 8 do
    local now = compiled(x):item()
    lu.assertTrue(now < last)
    last = now
  end
  assert_error({ "has no parameter", "other" }, nn.weight_norm, nn.Linear(2, 2), "other")
end

function T.test_spectral_norm_divides_by_the_largest_singular_value()
  nb.seed(6)
  local layer = nn.spectral_norm(nn.Linear(5, 3))
  layer(nb.ones(1, 5))
  local _, s = nb.svd(layer.weight:detach())
  lu.assertAlmostEquals(s:max():item(), 1, 1e-3)
  local _, so = nb.svd(layer.weight_orig:detach())
  assert_close(layer.weight:detach() * so:max(), layer.weight_orig:detach(), 1e-2)
  local before = layer.weight_u:clone()
  layer:eval()(nb.ones(1, 5))
  assert_close(layer.weight_u, before, 0)  -- evaluation leaves the iteration where it is
  lu.assertEquals(#layer:parameters(), 2)
  numeric.assert_gradients(layer, nb.randn(2, 5, { dtype = "f64" }))
  local up = nn.spectral_norm(nn.ConvTranspose2d(2, 3, 2))
  lu.assertEquals(up.weight_u.shape, { 3 })
  lu.assertNotNil(layer:state().weight_v)
end

function T.test_padded_sequences()
  local a, b = nb.tensor { { 1, 2 }, { 3, 4 } }, nb.tensor { { 5, 6 } }
  assert_close(nn.pad_sequence { a, b }, { 1, 2, 5, 6, 3, 4, 0, 0 })
  assert_close(nn.pad_sequence({ a, b }, { batch_first = true, padding_value = -1 }), { 1, 2, 3, 4, 5, 6, -1, -1 })
  assert_error({ "entry 2", "like the first" }, nn.pad_sequence, { a, nb.ones(3) })
  assert_error({ "no sequence" }, nn.pad_sequence, {})
end

-- ---- pruning ----

function T.test_pruned_weights_stay_away()
  nb.seed(4)
  local layer = nn.Linear(4, 2)
  nb.no_grad(function() layer.weight:copy_(nb.tensor { { 1, -2, 3, -4 }, { 0.5, 6, -7, 8 } }) end)
  nn.prune.l1_unstructured(layer, "weight", 0.25)
  lu.assertEquals(layer.weight_mask:totable(), { { 0, 1, 1, 1 }, { 0, 1, 1, 1 } })
  lu.assertEquals(layer.weight:totable(), { { 0, -2, 3, -4 }, { 0, 6, -7, 8 } })
  lu.assertTrue(nn.prune.is_pruned(nn.Sequential(nn.ReLU(), layer)))
  nn.prune.l1_unstructured(layer, "weight", 2)  -- of those that are left
  lu.assertEquals(layer.weight_mask:totable(), { { 0, 0, 0, 1 }, { 0, 1, 1, 1 } })
  -- What is gone gets no gradient and does not move.
  local opt = optim.SGD(layer:parameters(), { lr = 1 })
  layer(nb.ones(1, 4)):sum():backward()
  opt:step()
  lu.assertEquals(layer.weight_orig:detach():totable(), { { 1, -2, 3, -5 }, { 0.5, 5, -8, 7 } })
  layer(nb.ones(1, 4))
  lu.assertEquals(layer.weight:totable(), { { 0, 0, 0, -5 }, { 0, 5, -8, 7 } })
  nn.prune.ln_structured(layer, "weight", 1, 2)  -- a whole row: the shorter
  lu.assertEquals(layer.weight_mask:totable(), { { 0, 0, 0, 0 }, { 0, 1, 1, 1 } })
  nn.prune.random_unstructured(layer, "bias", 1)
  lu.assertEquals(layer.bias_mask:sum():item(), 1)
  nn.prune.remove(layer, "weight")
  lu.assertTrue(nn.prune.is_pruned(layer))
  nn.prune.remove(layer, "bias")
  lu.assertFalse(nn.prune.is_pruned(layer))
  lu.assertEquals({ #layer:parameters(), layer.weight.is_leaf, layer.weight.requires_grad }, { 2, true, true })
  lu.assertEquals(layer.weight:detach():totable(), { { 0, 0, 0, 0 }, { 0, 5, -8, 7 } })
  lu.assertNotNil(layer:state().weight)
  local conv = nn.Conv2d(2, 3, 1)
  nn.prune.custom_from_mask(conv, "weight", nb.ones(3, 2, 1, 1))
  nn.prune.random_structured(conv, "weight", 1, 2)
  lu.assertEquals(conv.weight_mask:sum():item(), 3)
  assert_error({ "amount must be a share", "up to 6" }, nn.prune.l1_unstructured, nn.Linear(3, 2), "weight", 7)
  assert_error({ "no parameter wieght" }, nn.prune.l1_unstructured, nn.Linear(3, 2), "wieght", 1)
  assert_error({ "is not pruned" }, nn.prune.remove, nn.Linear(3, 2), "weight")
  assert_error({ "mask must have shape 2×3" }, nn.prune.custom_from_mask, nn.Linear(3, 2), "weight", nb.ones(3, 2))
  assert_error({ "no dimension 3" }, nn.prune.ln_structured, nn.Linear(3, 2), "weight", 1, 2, 3)
end

-- ---- computed again ----

function T.test_recomputing_changes_no_gradient()
  nb.seed(6)
  local net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Tanh(), nn.Linear(4, 2)):to("f64")
  local x = nb.randn({ 5, 3 }, { dtype = "f64" })
  x.requires_grad = true
  local function gradients(f)
    nb.seed(8)
    return { nb.grad(f(x):square():sum(), { x, table.unpack(net:parameters()) }) }
  end
  local plain = gradients(net)
  local again = gradients(function(v) return nb.recompute(net, v) end)
  lu.assertEquals(#again, #plain)
  for k, g in ipairs(plain) do assert_close(again[k], g, 1e-12) end
  -- The stream of chance goes on as if the net had been computed once.
  local function after(f)
    nb.seed(8)
    f()
    return nb.rand(3):totable()
  end
  lu.assertEquals(after(function() nb.recompute(net, x):sum():backward() end), after(function() net(x) end))
  -- Second derivatives.
  net:eval()
  local function second(f)
    local g = nb.grad(f(x):square():sum(), x, { create_graph = true })
    return nb.grad(g:square():sum(), net[1].weight)
  end
  assert_close(second(function(v) return nb.recompute(net, v) end), second(net), 1e-10)
  -- It keeps less: the inputs alone of ten layers.
  local layers = {}
  for i = 1, 10 do layers[i] = nn.Sequential(nn.Linear(32, 32), nn.Tanh()) end
  local deep = nn.Sequential(layers)
  local function live(f)
    collectgarbage()
    collectgarbage()
    local before = nb.memory().live
    local y = f(nb.ones(512, 32, { requires_grad = true }))
    collectgarbage()
    collectgarbage()
    local kept = nb.memory().live - before
    y:sum():backward()
    deep:zero_grad()
    return kept
  end
  lu.assertTrue(live(function(v) return nb.recompute(deep, v) end) < live(deep) / 3)
  assert_error({ "recompute", "must be a net" }, nb.recompute, nb.sin, x)
  assert_error({ "input 1 must be a tensor" }, nb.recompute, net, 3)
  assert_error({ "needs 1 to 7 inputs" }, nb.recompute, net)
end

return T
