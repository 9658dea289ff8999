-- SPDX-License-Identifier: MIT
-- What every layer must keep to: weights of its own shape, queries that see nothing, options that act nowhere.
local lu = require "luaunit"
local nb = require "nablua"
local every = require "every_layer"
local numeric = require "numeric"
local nn = nb.nn

local T = {}

local assert_error, assert_close, said = numeric.assert_error, numeric.assert_close, numeric.said

-- ---- attention ----

-- Every path of attention where one query sees nothing, by masks of truth and of −∞, compiled too: zeros, and
-- gradients as of the same without that query.
function T.test_a_query_that_sees_nothing_gets_zeros_everywhere()
  local m = nn.MultiheadAttention(4, 2, { batch_first = true })
  local layer = nn.TransformerEncoderLayer(4, 2, { batch_first = true, dropout = 0 })
  local nets = { attention = m, encoder = nn.TransformerEncoder(layer, 2) }
  local truth = nb.tensor({ { false, true, true }, { true, true, true }, { false, false, true } }, { dtype = "bool" })
  local numbers = nb.zeros(3, 3):masked_fill(truth, -math.huge)
  local all = nb.tensor({ { true, true, true }, { false, false, true } }, { dtype = "bool" })
  local all_numbers = nb.zeros(2, 3):masked_fill(all, -math.huge)
  local out_bias = function(y) return y - m.out_proj.bias end
  local x = nb.randn(2, 3, 4)
  local function finite(t) return not (t:ne(t) | t:abs():eq(math.huge)):any():item() end
  for _, masks in ipairs { { attn_mask = truth }, { attn_mask = numbers }, { key_padding_mask = all },
    { key_padding_mask = all_numbers }, { attn_mask = truth, key_padding_mask = all_numbers } } do
    local seen
    for _, need in ipairs { true, false } do
      for _, compiled in ipairs { false, true } do
        local function run(v)
          m:zero_grad()
          local y = m(v, { attn_mask = masks.attn_mask, key_padding_mask = masks.key_padding_mask,
            need_weights = need })
          local J = (y * y):sum()
          J:backward()
          return y:detach()
        end
        local f, y = compiled and nb.compile(run) or run, nil
        for _ = 1, compiled and 5 or 1 do y = f(x) end
        if compiled then lu.assertStrContains(tostring(f), "replays") end
        local blind = masks.attn_mask and out_bias(y)[1][2] or out_bias(y)[1][1]
        lu.assertEquals(blind:abs():max():item(), 0)
        lu.assertTrue(finite(y))
        local grads = {}
        for k, p in ipairs(m:parameters()) do
          lu.assertTrue(finite(p.grad))
          grads[k] = p.grad:clone()
        end
        if seen then
          assert_close(y, seen.y, 1e-5)
          for k, g in ipairs(grads) do assert_close(g, seen.grads[k], 1e-4) end
        end
        seen = { y = y, grads = grads }
      end
    end
    local y, weights = m(x, { attn_mask = masks.attn_mask, key_padding_mask = masks.key_padding_mask })
    lu.assertTrue(finite(y) and finite(weights))
    local e = nets.encoder
    e:zero_grad()
    e(x, { src_mask = masks.attn_mask, src_key_padding_mask = masks.key_padding_mask }):square():sum():backward()
    for _, p in ipairs(e:parameters()) do lu.assertTrue(finite(p.grad)) end
  end
  for _, mask in ipairs { truth:logical_not(), numbers } do
    local q = nb.randn(1, 3, 2, { requires_grad = true })
    local y = nb.scaled_dot_product_attention(q, q, q, mask)
    lu.assertEquals(y[1][2]:abs():max():item(), 0)
    y:square():sum():backward(nil, { create_graph = true })
    lu.assertTrue(finite(q.grad))
    lu.assertTrue(finite(nb.grad(q.grad:square():sum(), q)))
  end
end

-- ---- layers ----

-- Puts a tensor at a path such as "layers.1.weight".
local function put(net, path, t)
  local owner = net
  for part in path:gmatch("([^.]+)%.") do owner = owner[math.tointeger(part) or part] end
  local last = path:match("[^.]+$")
  owner[math.tointeger(last) or last] = t
end

-- What has other sizes than t: twice as much in each dimension, one element, one dimension more or less.
local function misfits(t)
  local list = { nb.ones(1, 1, 1, 1, 1) }
  for d = 1, t:dim() do list[#list + 1] = nb.cat({ t, t }, d) end
  if t:dim() > 1 then list[#list + 1] = t[1] end
  if t:numel() > 1 then
    list[#list + 1] = nb.ones(1)
    list[#list + 1] = nb.stack { t, t }
  end
  return list
end

-- Every layer refuses tensors of another shape in place of its own, with its name, where its result would not have
-- another shape, too: broadcasting would take some.  More rows to look up are more rows.
function T.test_weights_of_another_shape_are_refused()
  local tried = 0
  local function check(name, m, call)
    local own = {}
    for path, t in pairs(m:state()) do
      if t:dim() > 0 and path ~= "beside" then own[path] = t end  -- that one is no part of the layer
    end
    for _, training in ipairs { true, false } do
      m:train(training)
      local right = call(m).shape
      for path, t in pairs(own) do
        for k, misfit in ipairs(misfits(t)) do
          local unlike = misfit:to(t.dtype):clone()
          put(m, path, unlike)
          local ok, y = pcall(call, m)
          local seen = ok and table.concat(y.shape, "×") ~= table.concat(right, "×")
          if name ~= "Embedding" or k ~= 2 then
            lu.assertTrue(seen or not ok, ("%s takes a %s of shape %s"):format(name, path,
              table.concat(unlike.shape, "×")))
          end
          if not ok then lu.assertStrContains(y, path:find "%." and ":" or m:kind()) end
          tried = tried + 1
        end
        put(m, path, t:clone())
        call(m)
      end
    end
  end
  for name, layer in pairs(every.layers) do
    check(name, layer[1](), function(m) return m(nb.randn({ table.unpack(layer, 2) })) end)
  end
  for name, layer in pairs(every.others) do
    local m = layer[1]()
    if name ~= "Transformer" and name ~= "TransformerDecoder" then  -- all of whose parts are here by themselves
      check(name, m, function() return layer[2](m:to("f64")) end)
    end
  end
  lu.assertTrue(tried > 100)
  for _, bad in ipairs { 0, -1, 4, 1.5, 0 / 0 } do
    assert_error({ "Embedding" }, nn.Embedding(3, 2), nb.tensor { 1, bad })
  end
end

function T.test_dropout_that_acts_nowhere_says_so()
  for _, name in ipairs { "RNN", "LSTM", "GRU" } do
    lu.assertStrContains(said(nn[name], 2, 3, { dropout = 0.5 }), "nn." .. name .. ": dropout = 0.5 drops nothing")
    lu.assertEquals(said(nn[name], 2, 3, { dropout = 0.5, num_layers = 2 }), "")
    lu.assertEquals(said(nn[name], 2, 3), "")
  end
end

return T
