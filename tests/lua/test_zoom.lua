-- SPDX-License-Identifier: MIT
-- Explanations of large nets: modules as factors that open, the same from a tape and from a stepper, without names that
-- nobody knows.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"
local nn, inspect = nb.nn, nb.inspect

local T = {}

local EACH = os.getenv "NABLUA_PROVE" == "1" and 1 or 7  -- of so many weights one is looked at

local function custom(layers, forward)
  local class = nn.module("Custom", function(self)
    for name, layer in pairs(layers) do self[name] = layer end
  end)
  class.forward = forward
  return class()
end

local function transformer(depth, width, options)
  local blocks = nn.Sequential()
  for k = 1, depth do
    local o = { dim_feedforward = 2 * width, batch_first = true, norm_first = true, activation = "gelu", dropout = 0 }
    for name, v in pairs(options or {}) do o[name] = v end
    blocks[k] = nn.TransformerEncoderLayer(width, 2, o)
  end
  return custom({ emb = nn.Embedding(20, width), pos = nn.Embedding(9, width), blocks = blocks,
    norm = nn.LayerNorm(width), head = nn.Linear(width, 20) }, function(self, ids)
    local h = self.emb(ids) + self.pos(nb.arange(ids:size(2)):to("i64"))
    return self.head(self.norm(self.blocks(h)))
  end)
end

local function next_token(net)
  local ids = nb.randint(1, 20, 3, 8)
  return function()
    local z = net(ids[{ nb.ALL, { 1, 7 } }])
    return nn.cross_entropy(z:reshape(-1, 20), ids[{ nb.ALL, { 2, 8 } }]:reshape(-1))
  end
end

local function residual(channels, norm)
  return custom({ a = nn.Conv2d(channels, channels, 3, { padding = 1 }), n = norm and nn.BatchNorm2d(channels) or nil,
    b = nn.Conv2d(channels, channels, 3, { padding = 1 }) }, function(self, x)
    local h = self.a(x)
    if self.n then h = self.n(h) end
    return (x + self.b(h:relu())):relu()
  end)
end

local function resnet(depth, norm)
  local net = nn.Sequential { nn.Conv2d(1, 4, 3, { padding = 1 }) }
  for _ = 1, depth do net[#net + 1] = residual(4, norm) end
  net[#net + 1] = nn.Flatten()
  net[#net + 1] = nn.Linear(4 * 36, 3)
  return net
end

local function classify(net, shape, classes)
  local x, y = nb.randn(shape), nb.randint(1, classes, shape[1])
  return function() return nn.cross_entropy(net(x), y) end
end

local function mlp(sizes, activation, norm)
  local net = nn.Sequential()
  for k = 1, #sizes - 1 do
    net[#net + 1] = nn.Linear(sizes[k], sizes[k + 1])
    if k < #sizes - 1 then
      if norm then net[#net + 1] = norm(sizes[k + 1]) end
      net[#net + 1] = activation()
    end
  end
  return net
end

-- ---- who made a node ----

local function places_of(J)
  local list = {}
  for i, node in ipairs(require("nablua.inspect.tape").read(J).nodes) do list[i] = node.place or "-" end
  return list
end

-- The collector gives the frames of ended calls back, and later ones lie elsewhere: the call around them is not lost.
function T.test_a_module_is_known_after_collections()
  local kept = {}
  local block = custom({ a = nn.Sequential { nn.Linear(2, 2) } }, function(self, h)
    for _ = 1, 20 do
      collectgarbage()
      for i = 1, 300 do kept[#kept + 1] = ("%43d"):format(#kept + i) end  -- takes the frames' memory
      h = self.a(h)
    end
    return h:tanh()
  end)
  local net = nn.Sequential { block }
  local list = places_of(net(nb.ones(1, 2)):sum())
  lu.assertEquals({ list[1], list[#list - 1], list[#list] }, { "1.a.1", "1", "-" })
  lu.assertEquals(#net, 1)  -- it is held until here, for places are those in nets that live
end

function T.test_a_module_is_known_however_deep_calls_nest()
  local depth = 60
  local net = custom({ l = nn.Linear(2, 2) }, function(self, x) return self.l(x):tanh() end)
  for _ = 1, depth do
    net = custom({ inner = net }, function(self, x) return self.inner(x):sigmoid() end)
  end
  local list = places_of(net(nb.ones(1, 2)):sum())
  lu.assertEquals(#list, depth + 3)
  for k = 1, depth do  -- sigmoid after sigmoid, from the innermost to the outermost
    lu.assertEquals(list[k + 2], ("inner."):rep(depth - k):sub(1, -2), k)
  end
end

-- Forty programs: { what, net, f }.
local function programs()
  local list = {}
  local function add(what, net, f) list[#list + 1] = { what, net, f } end
  for _, activation in ipairs { nn.Sigmoid, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU } do
    for _, norm in ipairs { false, nn.LayerNorm, nn.BatchNorm1d, nn.RMSNorm } do
      local net = mlp({ 4, 6, 6, 3 }, activation, norm or nil)
      add("MLP with " .. net[2]:kind(), net, classify(net, { 5, 4 }, 3))
    end
  end
  for depth = 1, 3 do
    for _, norm_first in ipairs { true, false } do
      local net = transformer(depth, 8, { norm_first = norm_first })
      add("transformer " .. depth, net, next_token(net))
    end
    for _, norm in ipairs { false, true } do
      local net = resnet(2 * depth, norm)
      add("ResNet " .. 2 * depth, net, classify(net, { 4, 1, 6, 6 }, 3))
    end
  end
  for _, kind in ipairs { "RNN", "LSTM", "GRU" } do
    local net = custom({ r = nn[kind](3, 4, { batch_first = true }), o = nn.Linear(4, 2) },
      function(self, x) return self.o((self.r(x))[{ nb.ALL, -1 }]) end)
    add(kind, net, classify(net, { 4, 5, 3 }, 2))
  end
  local attention = custom({ a = nn.MultiheadAttention(8, 2, { batch_first = true }), o = nn.Linear(8, 2) },
    function(self, x) return self.o(self.a(x, x, x, { need_weights = false }):mean(2)) end)
  add("attention", attention, classify(attention, { 3, 4, 8 }, 2))
  local nested = nn.Sequential { nn.Sequential { nn.Linear(4, 5), nn.Tanh() }, nn.Sequential { nn.Linear(5, 3) } }
  add("nested", nested, classify(nested, { 5, 4 }, 3))
  local shared = custom({ a = nn.Linear(4, 4), o = nn.Linear(4, 3) },
    function(self, x) return self.o(self.a(self.a(x):tanh()):tanh()) end)
  add("a layer twice", shared, classify(shared, { 5, 4 }, 3))
  local tokens = custom({ e = nn.Embedding(9, 4), o = nn.Linear(4, 2) },
    function(self, ids) return self.o(self.e(ids):mean(2)) end)
  local ids, y = nb.randint(1, 9, 5, 3), nb.randint(1, 2, 5)
  add("embeddings", tokens, function() return nn.cross_entropy(tokens(ids), y) end)
  local regression = mlp({ 3, 5, 1 }, nn.Tanh)
  local x, t = nb.randn(6, 3), nb.randn(6, 1)
  add("regression", regression, function() return nn.mse(regression(x), t) end)
  return list
end

-- What no person calls anything: names of rows that users do not call, and numbers of hidden values.
local internal = {}
for _, row in ipairs(native.rows()) do
  if row.internal then internal[#internal + 1] = row.name end
end

local function assert_readable(words, what)
  for _, name in ipairs(internal) do
    lu.assertNil(words:find("%f[%w_]" .. name .. "%f[^%w_]['(]"), what .. ": " .. name .. "\n" .. words)
    lu.assertNil(words:find("∂" .. name .. "/", 1, true), what .. ": " .. name .. "\n" .. words)
  end
  for run in words:gmatch "v([\xe2\x82\x80-\x89]+)" do
    lu.assertTrue(utf8.len(run) <= 2, what .. ": v" .. run .. "\n" .. words)
  end
end

function T.test_a_tape_and_a_stepper_say_the_same()
  nb.seed(1)
  local list = programs()
  lu.assertEquals(#list, 40)
  for k, p in ipairs(list) do
    local what, net, f = p[1], p[2], p[3]
    nb.seed(k)
    local J = f()
    nb.seed(k)
    local s, params = inspect.step(f), {}
    for path, w in net:named_parameters() do params[#params + 1] = { path, w } end
    for _, at in ipairs(EACH == 1 and { 1, 1 + k % #params, #params - 1 } or { 1 + k % #params }) do
      local path, w = params[at][1], params[at][2]
      local words = tostring(inspect.explain(J, w))
      assert_readable(words, what .. ", " .. path)
      lu.assertEquals(tostring(inspect.explain(s, w)), words, what .. ", " .. path)
    end
  end
end

-- A norm that is summed in another order differs in its last bit, from a tape and from a stepper: nobody is shown that.
function T.test_rounding_does_not_make_a_gain_another()
  local text = require "nablua.inspect.text"
  lu.assertEquals({ text.number(1), text.number(1 + 2 ^ -52), text.number(1 - 2 ^ -53) }, { "1", "1", "1" })
  lu.assertEquals({ text.number(-3 - 2 ^ -50), text.number(1 + 2 ^ -23), text.number(0.5) }, { "−3", "1.00", "0.500" })
end

local function product(e)
  local d = nb.ones_like(e.J:detach())
  for _, f in ipairs(e.factors) do d = f:apply(d) end
  return d
end

function T.test_the_product_of_the_printed_factors_is_the_gradient()
  nb.seed(2)
  local checked = 0
  local function check(net, f)
    net:to("f64")
    local J = f()
    for path, w in net:named_parameters() do
      local want = nb.grad(J, w, { retain_graph = true })
      local have = product(inspect.explain(J, w))
      lu.assertEquals(have.shape, w.shape)
      lu.assertTrue((have - want):abs():max():item() <= 1e-5 * math.max(want:abs():max():item(), 1e-8), path)
      checked = checked + 1
    end
  end
  for _, depth in ipairs { 1, 3, 9 } do
    local net = transformer(depth, 8)
    check(net, next_token(net))
  end
  for _, depth in ipairs { 2, 12 } do
    local net = resnet(depth, true)
    local x, y = nb.randn(4, 1, 6, 6, { dtype = "f64" }), nb.randint(1, 3, 4)
    check(net, function() return nn.cross_entropy(net(x), y) end)
  end
  lu.assertTrue(checked >= 200, checked)
end

function T.test_any_weight_of_a_deep_net_fits_a_screen()
  nb.seed(3)
  local deep = transformer(12, 16)
  local wide = resnet(12, true)
  for _, case in ipairs { { deep, next_token(deep) }, { wide, classify(wide, { 2, 1, 6, 6 }, 3) } } do
    local J, k = case[2](), 0
    for path, w in case[1]:named_parameters() do
      k = k + 1
      if k % EACH ~= 1 % EACH then goto continue end
      local start = os.clock()
      local words = tostring(inspect.explain(J, w))
      lu.assertTrue(os.clock() - start < 1, path)
      local _, lines = words:gsub("\n", "")
      lu.assertTrue(lines + 1 <= 40, path .. "\n" .. words)
      assert_readable(words, path)
      ::continue::
    end
  end
end

-- GPT-2's small shape with its whole vocabulary, tied.
function T.test_any_weight_of_gpt2_is_explained_within_a_second()
  if os.getenv "NABLUA_PROVE" ~= "1" then lu.skip "takes 1 GB" end
  nb.seed(8)
  local words, width = 50257, 768
  local h = nn.Sequential()
  for k = 1, 12 do
    h[k] = nn.TransformerEncoderLayer(width, 12, { dim_feedforward = 4 * width, batch_first = true, norm_first = true,
      activation = "gelu", dropout = 0 })
  end
  local net = custom({ wte = nn.Embedding(words, width), wpe = nn.Embedding(1024, width), h = h,
    ln_f = nn.LayerNorm(width), lm_head = nn.Linear(width, words, { bias = false }) }, function(self, ids)
    local x = self.wte(ids) + self.wpe(nb.arange(ids:size(2)):to("i64"))
    for k = 1, 12 do x = self.h[k](x, { is_causal = true }) end
    return self.lm_head(self.ln_f(x))
  end)
  net.lm_head.weight = net.wte.weight
  nb.no_grad(function() net.wte.weight:mul_(0.02) end)
  local ids = nb.randint(1, words, 1, 33)
  local J = nn.cross_entropy(net(ids[{ nb.ALL, { 1, 32 } }]):reshape(-1, words), ids[{ nb.ALL, { 2, 33 } }]:reshape(-1))
  local k, worst, most = 0, 0, 0
  for path, w in net:named_parameters() do
    k = k + 1
    if k % 13 == 1 or not path:find "^h" then
      local start = os.clock()
      local explanation = tostring(inspect.explain(J, w))
      worst = math.max(worst, os.clock() - start)
      local _, lines = explanation:gsub("\n", "")
      most = math.max(most, lines + 1)
      assert_readable(explanation, path)
    end
  end
  print(("figure: explaining a weight of GPT-2's shape: at most %.2f s, %d lines"):format(worst, most))
  lu.assertTrue(worst < 1, worst)
  lu.assertTrue(most <= 40, most)
end

function T.test_modules_are_factors_and_open()
  nb.seed(4)
  local net = transformer(12, 8)
  local J = next_token(net)()
  local e = inspect.explain(J, net.blocks[1].linear1.weight)
  lu.assertStrContains(e.formula, "·norm'·blocks.12'·blocks.11'·")
  lu.assertStrContains(tostring(e), 'e:open("blocks.12")')
  -- What is inside takes the error that arrives at the factor to the one that leaves it.
  local d = nb.ones_like(J:detach())
  for _, f in ipairs(e.factors) do
    local after = f:apply(d)
    if f.path then
      local inner = e:open(f.path)
      numeric.assert_close(inner:value(), numeric.flat(after), 1e-5)
      lu.assertAlmostEquals(inner.norm, f.delta, 1e-5 * f.delta)
      lu.assertStrContains(inner.formula, f.path .. "' = ")
      lu.assertFalse(inner.formula == e.formula)
    end
    d = after
  end
  local block = e:open "blocks.7"
  lu.assertStrContains(block.formula, "blocks.7.self_attn'·blocks.7.norm1'")
  local inner = block:open "blocks.7.self_attn"  -- it lies on one of two paths
  lu.assertStrContains(inner.formula, "blocks.7.self_attn' = W⁽")
  lu.assertStrContains(inner.formula, "attention'(")
  lu.assertStrContains(e:open("blocks.1").formula, "∂blocks.1/∂W⁽")
  -- Every operator on the way is reached.
  local function reach(x, path, seen)
    local open = x:open(path)
    for _, f in ipairs(open.factors) do seen[f.op] = true end
    for name in open.formula:gmatch "([%w_.]+)'" do
      if e.places[name] and name ~= path then reach(open, name, seen) end
    end
    return seen
  end
  local seen = reach(e, "blocks.7", {})
  local found = {}
  for op in pairs(seen) do found[#found + 1] = op end
  lu.assertTrue(#found >= 4, table.concat(found, " "))
  local latex = getmetatable(e).__display(e, { rich = true, width = 80 })["text/latex"]
  lu.assertStrContains(latex, "\\mathrm{blocks.12}'")
end

function T.test_small_nets_are_written_out_as_before()
  nb.seed(5)
  local net = nn.Sequential { nn.Sequential { nn.Linear(3, 4), nn.Tanh() }, nn.Linear(4, 1) }
  local J = nn.bce_with_logits(net(nb.randn(2, 3)), nb.ones(2, 1))
  lu.assertEquals(inspect.explain(J, net[1][1].weight).formula, "∂J/∂W⁽¹⁾ = (ŷ−y)/n·W⁽²⁾·tanh'(z⁽²⁾)·X")
end

-- ---- the film by module ----

local function film()
  nb.seed(7)
  local net = transformer(4, 8)
  local f = next_token(net)
  return inspect.step(f), net, f
end

local function inside(s, path)
  return s.layer and (s.layer == path or s.layer:sub(1, #path + 1) == path .. ".")
end

function T.test_a_film_moves_to_into_and_over_modules()
  local s = film()
  s:to "blocks.3"
  lu.assertEquals(s.phase, "forward")
  lu.assertTrue(inside(s, "blocks.3"))
  local first = s.pos
  s:back()
  lu.assertFalse(inside(s, "blocks.3"))  -- it went to where the module begins
  s:over()
  lu.assertTrue(s.pos > first and inside(s, "blocks.3"))
  local last = s.pos
  lu.assertStrContains(tostring(s), ("over blocks.3: steps %d to %d"):format(first, last))
  s:next()
  lu.assertTrue(inside(s, "blocks.4"))
  lu.assertNotStrContains(tostring(s), "over blocks")
  -- Into: then one after the other of what is inside.
  s:to("start"):to "blocks.3"
  s:back():into()
  lu.assertEquals(s.pos, first)
  local seen = {}
  while s.pos < last do
    s:over()
    seen[#seen + 1] = s.layer
    lu.assertTrue(inside(s, "blocks.3"), s.layer)
  end
  lu.assertEquals(s.pos, last)
  lu.assertTrue(#seen >= 5 and #seen < last - first, #seen)
  s:over()  -- and out of it again, over the next
  lu.assertTrue(inside(s, "blocks.4"))
  -- Backward, too; over everything from the start is a handful of moves.
  s:to("blocks.3", "backward")
  lu.assertEquals({ s.phase, inside(s, "blocks.3") }, { "backward", true })
  s:to "start"
  local moves = 0
  while s.pos < s.count do
    s:over()
    moves = moves + 1
  end
  lu.assertTrue(moves < 30, moves)
  lu.assertEquals(s:over().pos, s.count)
  lu.assertEquals(s:into().pos, s.count)
end

-- What the film says of a module's gain is what the gradients at its ends say.
function T.test_the_gain_of_a_passage()
  local s, net, f = film()
  local outputs = {}
  for k = 2, 3 do
    local forward = net.blocks[k].forward
    net.blocks[k].forward = function(...)
      outputs[k] = forward(...)
      return outputs[k]
    end
  end
  local J = f()
  local before, behind = nb.grad(J, { outputs[2], outputs[3] })
  local want = before:norm():item() / behind:norm():item()
  s:to("blocks.3", "backward")
  s:back():over()
  local gain = tonumber(tostring(s):match "over blocks%.3.-×([%d.]+)")
  lu.assertAlmostEquals(gain, want, 0.01 * want)
end

function T.test_a_film_is_readable_at_every_step()
  for _, p in ipairs { { transformer(3, 8) }, { resnet(3, true) } } do
    local f = p[1].emb and next_token(p[1]) or classify(p[1], { 2, 1, 6, 6 }, 3)
    local s = inspect.step(f)
    for _ = 1, s.count do
      s:next()
      assert_readable(tostring(s), "step " .. s.pos)
      local line = tostring(s):match "[^\n]*$"
      lu.assertTrue(native.width(line) <= 100, line)
    end
  end
end

function T.test_long_programs_are_stepped_in_time()
  local count = os.getenv "NABLUA_PROVE" == "1" and 100000 or 5000
  local x = nb.ones(2, { requires_grad = true })
  local s = inspect.step(function()
    local y = x
    for _ = 1, count do y = y * 1.0001 end
    return y:sum()
  end)
  local start = os.clock()
  s:run():to "start"
  local seconds = os.clock() - start
  lu.assertTrue(seconds < 2, seconds)
  print(("figure: stepping through %d operators and back: %.2f s"):format(count, seconds))
end

-- A tape knows modules by their addresses, which the memory of a younger one may have when the first is gone.
function T.test_a_module_in_the_memory_of_another_made_none_of_its_nodes()
  local function net() return nn.Sequential { nn.Linear(2, 2), nn.Sequential { nn.Linear(2, 1) } } end
  local J = 0
  for _ = 1, 100 do J = J + net()(nb.ones(1, 2)):sum() end
  local places, made_by = require "nablua.inspect.places", {}
  for _, node in ipairs(native.tape(J)) do made_by[node.caller] = true end
  collectgarbage()
  collectgarbage()
  local kept, met = {}, false
  for i = 1, 20000 do
    kept[i] = nn.Sequential()
    met = met or made_by[native.module_address(kept[i])]
    if met then break end
  end
  kept.net = nn.Sequential(kept)  -- with a path in a net, so that the place would be told
  local nodes = native.tape(J)
  places.tell(nodes)
  for _, node in ipairs(nodes) do lu.assertNil(node.place) end
  if met then return end
  lu.skip "no module came to lie where another had been"
end

function T.test_bad_input()
  nb.seed(6)
  local net = transformer(1, 8)
  local e = inspect.explain(next_token(net)(), net.blocks[1].linear1.weight)
  numeric.assert_error({ "no module \"encoder\"", "head", "blocks.1" }, e.open, e, "encoder")
  numeric.assert_error({ "module's path", "got 3" }, e.open, e, 3)
  numeric.assert_error({ "no module" }, e.open, e, "blocks.1.linear1.weight")
end

return T
