-- SPDX-License-Identifier: MIT
-- The library T of the hostile build: failures that are asked for, counts that are right, and nets that train while all
-- that must hold of tensors, storages and the tape is checked at every operator.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"

local T = {}
local has, hostile = pcall(require, "nablua.T")

function T.setup()
  if not has then lu.skip "only the hostile build has it" end
  collectgarbage()
  collectgarbage()
end

function T.teardown()
  if not has then return end
  hostile.fail_memory(0)
  hostile.fail_file(0)
  hostile.check_always(false)
end

function T.test_the_hostile_build_has_it_and_no_other()
  lu.assertEquals(has, native.hostile)
end

function T.test_it_counts_what_lives()
  local before = hostile.count()
  local x = nb.ones(100)                     -- a tensor and a storage of 400 bytes
  local view = x[{ { 1, 50 } }]              -- another tensor over it
  local now = hostile.count()
  lu.assertEquals({ now.handles - before.handles, view:numel() }, { 2, 50 })
  lu.assertEquals(now.tensors - before.tensors, 2)
  lu.assertEquals(now.storages - before.storages, 1)
  lu.assertEquals(now.bytes - before.bytes, 400)
  lu.assertEquals(now.nodes, before.nodes)
  x.requires_grad = true
  local y = (x * 2 + 1):sum()                -- three nodes
  lu.assertEquals(hostile.count().nodes - before.nodes, 3)
  y:backward()
  collectgarbage()
  collectgarbage()
  lu.assertEquals(hostile.count().storages - before.storages, 3)  -- x, its gradient, y
  x, view, y = nil, nil, nil                 -- luacheck: ignore
  collectgarbage()
  collectgarbage()
  local after = hostile.count()
  lu.assertEquals({ after.handles, after.tensors, after.nodes, after.bytes },
    { before.handles, before.tensors, before.nodes, before.bytes })
end

function T.test_it_queries_a_tensor()
  local x = nb.ones(4)
  local q = hostile.query(x)
  lu.assertEquals({ q.refs, q.storage_refs, q.version, q.bytes, q.node }, { 1, 1, 0, 16, nil })
  local view = x[{ { 1, 2 } }]
  x:add_(1)
  q = hostile.query(view)
  lu.assertEquals({ q.storage_refs, q.version, q.storage }, { 2, 1, hostile.query(x).storage })
  x.requires_grad = true
  local a = x * 2
  local b = a * 3
  lu.assertEquals({ hostile.query(a).node, hostile.query(b).node }, { "mul", "mul" })
  lu.assertTrue(hostile.query(a).order < hostile.query(b).order)
end

function T.test_the_nth_allocation_fails_and_the_next_does_not()
  hostile.fail_memory(1)
  local ok, message = pcall(nb.ones, 10)
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(message), "memory")
  lu.assertFalse(hostile.failing())
  lu.assertTrue(pcall(nb.ones, 10))
  hostile.fail_memory(100000000)
  nb.ones(10)
  lu.assertTrue(hostile.failing())
end

-- What f() does where the kth allocation fails, for every k: what it does otherwise, or an error that says so.
local function fails_or_works(what, f, same)
  local want = f()
  for k = 1, 60 do
    hostile.fail_memory(k)
    local ok, have = pcall(f)
    local spent = not hostile.failing()
    hostile.fail_memory(0)
    if not spent then return k end
    if ok then
      assert(same(have, want), ("%s: allocation %d failed, and it gave something else in silence"):format(what, k))
    elseif not tostring(have):find("memory", 1, true) then
      error(("%s: allocation %d failed: %s"):format(what, k, have), 0)
    end
  end
end

function T.test_memory_that_is_refused_is_told()
  local tried = 0
  numeric.each_row(function(row)
    return not row.internal and row.family ~= "Random numbers" and numeric.cases(row) and numeric.cases(row)[1]
  end, function(row)
    local args = numeric.arguments(row, numeric.cases(row)[1])
    fails_or_works(row.name, function() return (numeric.call_of(row)(table.unpack(args, 1, args.n))) end, function(a, b)
      return not nb.is_tensor(a) or numeric.difference(numeric.flat(a), numeric.flat(b), 1e-12) == nil
    end)
    tried = tried + 1
  end)
  lu.assertTrue(tried > 100)
end

function T.test_fields_that_find_no_memory_stay()
  local x = nb.ones(3)
  local fields = { { "name", "weights" }, { "requires_grad", true, false }, { "grad", nb.ones(3) } }
  for _, field in ipairs(fields) do
    local name, value, before = table.unpack(field, 1, 3)
    fails_or_works(name, function()
      x[name] = before
      x[name] = value
      return x[name]
    end, rawequal)
  end
end

function T.test_the_nth_operation_on_files_fails()
  local path = os.tmpname()
  nb.save(path .. ".safetensors", { x = nb.ones(2) })
  for how, clause in pairs { full = "space", denied = "denied", broken = "error" } do
    hostile.fail_file(2, how)
    local ok, message = pcall(nb.save, path .. ".safetensors", { x = nb.zeros(2) })
    lu.assertFalse(ok)
    lu.assertStrContains(tostring(message), clause)
    lu.assertEquals(nb.load(path .. ".safetensors").x:sum():item(), 2)
  end
  os.remove(path)
  os.remove(path .. ".safetensors")
end

-- Everything that holds references in a way of its own, under the eyes of the check.
function T.test_all_holds_at_every_operator()
  nb.seed(1)
  local net = nb.nn.Sequential { nb.nn.Linear(3, 5), nb.nn.LayerNorm(5), nb.nn.Tanh(), nb.nn.Linear(5, 2) }
  local opt = nb.optim.Adam(net:parameters(), { lr = 0.01 })
  local x, y = nb.randn(4, 3), nb.randn(4, 2)
  hostile.check_always(true)
  for _ = 1, 3 do
    opt:zero_grad()
    local z = net(x)
    z:register_hook(function(g) return g * 1 end)
    local J = (z - y):square():mean()
    J:backward()
    opt:step()
  end
  local w = nb.randn(3, { requires_grad = true })
  local g = nb.grad((w ^ 3):sum(), { w }, { create_graph = true })
  ;(g[1] or g):sum():backward()
  local v = nb.zeros(4, 3)
  v[{ 1 }]:copy_(w)
  v:mul_(2):sum():backward()
  local f = nb.compile(function(t) return (t * 2):sum() end)
  for _ = 1, 5 do f(x) end
  hostile.check()
end

function T.test_a_collection_may_come_at_every_tensor()
  local before = hostile.collect_every(1)
  local gone = setmetatable({}, { __mode = "v" })
  gone[1] = nb.ones(3)
  local kept = nb.ones(3)
  hostile.collect_every(before)
  lu.assertNil(gone[1])
  lu.assertEquals(kept:sum():item(), 3)
  lu.assertEquals(hostile.collect_every(before), before)
  lu.assertError(hostile.collect_every, -1)
end

return T
