-- SPDX-License-Identifier: MIT
-- What follows for every layer from its being one: replays equal it, second derivatives, states, dtypes, strides.
local lu = require "luaunit"
local nb = require "nablua"
local every = require "every_layer"
local numeric = require "numeric"
local registry = require "nablua.registry"
local scratch = require "scratch"
local nn, inspect = nb.nn, nb.inspect

local T = {}

-- Calls check(name, module, input) for every layer; reports all that fail.
local function each_layer(dtype, check)
  local failures, n = {}, 0
  for name, layer in pairs(every.layers) do
    n = n + 1
    nb.seed(5)
    local ok, err = pcall(function()
      local x = nb.randn({ table.unpack(layer, 2) }, { dtype = dtype })
      check(name, layer[1]():to(dtype), x)
    end)
    if not ok then failures[#failures + 1] = name .. ": " .. tostring(err) end
  end
  table.sort(failures)
  lu.assertEquals(#failures, 0, "\n" .. table.concat(failures, "\n"))
  lu.assertTrue(n > 30)
end

local function first(m, x) return (m(x)) end

-- The value and the gradients of Σ weights·m(x).
local function gradients_of(m, x, weights)
  local y = first(m, x)
  local inputs = { x, table.unpack(m:parameters()) }
  local grads = { nb.grad((y * weights):sum(), inputs) }
  return y:detach(), grads
end

function T.test_replays_equal_every_layer()
  each_layer("f32", function(_, m, x)
    m:eval()  -- what is drawn is compared in test_compile.lua
    local scale = nb.ones(1, { requires_grad = true })
    local function step(v)
      m:zero_grad()
      scale.grad = nil
      local J = first(m, v * scale):square():sum()
      J:backward()
      return J
    end
    local compiled, leaves = nb.compile(step), { scale, table.unpack(m:parameters()) }
    for round = 1, 6 do
      local v = x + round / 8
      local want = step(v):item()
      local grads = {}
      for k, p in ipairs(leaves) do grads[k] = p.grad and p.grad:clone() end
      numeric.assert_close(compiled(v), want, 1e-5)
      for k, p in ipairs(leaves) do
        if grads[k] then numeric.assert_close(p.grad, grads[k], 1e-4) end
      end
    end
    lu.assertStrContains(tostring(compiled), "3 replays")
  end)
end

-- The gradient of a weighted sum of all first derivatives, against finite differences.
function T.test_second_derivatives_of_every_layer()
  each_layer("f64", function(_, m, x)
    m:eval()
    x.requires_grad = true
    local weights = nb.rand_like(first(m, x):detach()) + 0.5
    local inputs = { x, table.unpack(m:parameters()) }
    local by = {}
    for k, t in ipairs(inputs) do by[k] = nb.rand_like(t:detach()) + 0.5 end
    local function slope()
      local grads, total = { nb.grad((first(m, x):square() * weights):sum(), inputs, { create_graph = true }) }, 0
      for k, g in ipairs(grads) do total = total + (g * by[k]):sum() end
      return total
    end
    local c = inspect.gradcheck(slope, inputs)
    lu.assertTrue(c.ok, tostring(c))
  end)
end

function T.test_states_of_every_layer_come_back()
  local files = scratch.new()
  local at = 0
  each_layer("f32", function(name, m, x)
    at = at + 1
    m:train()
    first(m, x)  -- so that what is learnt by running is there
    m:eval()
    local path = files:path(("%d.safetensors"):format(at))
    local state, any = m:state(), false
    for _ in pairs(state) do any = true end
    if any then nb.save(path, state) end
    local other = every.layers[name][1]():to("f32"):eval()
    if any then other:load_state(nb.load(path)) end
    numeric.assert_close(first(other, x), first(m, x), 0)
  end)
  files:remove()
end

function T.test_every_layer_is_the_same_in_both_dtypes_and_of_any_strides()
  each_layer("f64", function(name, m, x)
    m:eval()
    x.requires_grad = true
    local weights = nb.rand_like(first(m, x):detach()) + 0.5
    local y, grads = gradients_of(m, x, weights)
    local twin = numeric.strided(x)
    local ys, strided = gradients_of(m, twin, weights)
    numeric.assert_close(ys, y, 1e-12)
    for k, g in ipairs(strided) do numeric.assert_close(g, grads[k], 1e-10) end
    local single = every.layers[name][1]():to("f32"):eval()
    local state = {}
    for path, t in pairs(m:state()) do state[path] = t end
    single:load_state(state)
    local v = x:detach():to("f32")
    v.requires_grad = true
    local ysingle, gsingle = gradients_of(single, v, weights:to("f32"))
    lu.assertEquals(ysingle.dtype, "f32")
    numeric.assert_close(ysingle, numeric.flat(y), 1e-4)
    for k, g in ipairs(gsingle) do numeric.assert_close(g, numeric.flat(grads[k]), 1e-3) end
  end)
end

function T.test_every_layer_prints_its_class()
  for name, layer in pairs(every.layers) do
    local class = name:gsub("^Lazy", "")  -- what it is from its first call on
    lu.assertStrContains(tostring(layer[1]()), class)
    lu.assertEquals(layer[1]():kind(), class)
  end
  lu.assertTrue(nn.is_module(nn.ReLU6()))
end

-- What an option of a layer puts into its state, by patterns of the last part of the names; torch has the same.
local PARTS = {
  bias = { "bias" }, affine = { "^weight$", "^bias$" }, elementwise_affine = { "^weight$", "^bias$" },
  track_running_stats = { "^running_mean$", "^running_var$", "^num_batches_tracked$" },
}

local function belongs(name, patterns)
  for _, pattern in ipairs(patterns) do
    if name:match("[^.]+$"):find(pattern) then return true end
  end
end

-- f() while nn[name] makes its layer with an option more.
local function with_option(name, option, value, f)
  local own = nn[name]
  local _ <close> = setmetatable({}, { __close = function() nn[name] = own end })
  nn[name] = function(...)
    local args = table.pack(...)
    local last = args[args.n]
    if type(last) ~= "table" or nb.is_tensor(last) or #last > 0 then
      args.n = args.n + 1
      last = {}
    end
    args[args.n] = {}
    for key, v in pairs(last) do args[args.n][key] = v end
    args[args.n][option] = value
    return own(table.unpack(args, 1, args.n))
  end
  return f()
end

function T.test_options_leave_out_what_they_say_and_nothing_else()
  local tried = 0
  for name, layer in pairs(every.layers) do
    local entry = registry.find("nn." .. name)
    for _, p in ipairs(entry and entry.params or {}) do
      if PARTS[p.name] then
        local on = with_option(name, p.name, true, layer[1])
        local off = with_option(name, p.name, false, layer[1])
        local without = off:state()
        for path in pairs(on:state()) do
          local wanted = not belongs(path, PARTS[p.name])
          lu.assertEquals(without[path] ~= nil, wanted, ("%s without %s: %s"):format(name, p.name, path))
        end
        for path in pairs(without) do lu.assertNotNil(on:state()[path], name .. " " .. path) end
        for _, m in ipairs { on, off } do
          local x = nb.randn { table.unpack(layer, 2) }
          lu.assertTrue(first(m, x):isfinite():all():item(), name)
          lu.assertTrue(first(m:eval(), x):isfinite():all():item(), name)
        end
        tried = tried + 1
      end
    end
  end
  lu.assertTrue(tried >= 20, tried)
end

return T
