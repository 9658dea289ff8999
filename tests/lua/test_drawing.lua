-- SPDX-License-Identifier: MIT
-- inspect.graph and inspect.diagram: what they read from the tape and the net, as text and through dot.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local pictures = require "pictures"
local nn, inspect = nb.nn, nb.inspect

local T = {}

local has_dot = pictures.has { "dot", "-V" }

local function lecture()
  nb.seed(3)
  return nn.Sequential { nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 3), nn.Sigmoid() }
end

local function box_of(g, name)
  for _, box in ipairs(g.data.boxes) do
    if box.name == name then return box end
  end
end

-- ---- graph ----

function T.test_graph_shows_shapes_values_and_gradients()
  local w = nb.tensor({ { 1, 2 }, { 3, 4 } }, { requires_grad = true, name = "W" })
  local x = nb.tensor { { 1, 0 }, { 2, 1 } }
  local J = x:matmul(w):square():sum()
  local g = inspect.graph(J)
  -- By hand: z = x·W = {{1, 2}, {5, 8}}, J = Σz² = 94, ∂J/∂z = 2z, ∂J/∂W = xᵀ·2z.
  lu.assertEquals(box_of(g, "matmul").shape, { 2, 2 })
  lu.assertEquals(box_of(g, "sum").value, "94")
  lu.assertAlmostEquals(box_of(g, "matmul").gradient, 2 * math.sqrt(94), 1e-4)
  lu.assertAlmostEquals(box_of(g, "W").gradient, math.sqrt(22 ^ 2 + 36 ^ 2 + 10 ^ 2 + 16 ^ 2), 1e-4)
  lu.assertNil(box_of(g, "W").from[1])
  lu.assertStrContains(tostring(g), "v1 = matmul(x, W)")
  lu.assertNil(w.grad)
  J:backward()  -- the tape was kept
  lu.assertNotNil(w.grad)
end

function T.test_graph_gradients_add_where_paths_meet()
  local w = nb.tensor({ 3 }, { requires_grad = true, name = "w" })
  local J = (w * w + w):sum()
  lu.assertAlmostEquals(box_of(inspect.graph(J), "w").gradient, 7, 1e-6)
end

function T.test_graph_after_backward_says_so()
  local net = lecture()
  local J = nn.mse(net(nb.rand(5, 3)), nb.rand(5, 3))
  local before = tostring(inspect.graph(J))
  lu.assertStrContains(before, "layer 3")
  J:backward()
  local line = debug.getinfo(1, "l").currentline - 1
  lu.assertStrContains(tostring(inspect.graph(J)),
    ("a backward at test_drawing.lua:%d has freed the tape"):format(line))
  numeric.assert_error({ "inspect.graph", "nothing was recorded" }, inspect.graph, nb.ones(2))
end

function T.test_graph_of_a_long_tape_is_cut()
  local w = nb.tensor({ 1 }, { requires_grad = true })
  local J = w
  for _ = 1, 3000 do J = J + w end
  local g = inspect.graph(J:sum())
  lu.assertEquals(g.data.operators, 3001)
  lu.assertTrue(#pictures.lines(tostring(g)) < 60)
  lu.assertStrContains(tostring(g), "lines before these")
  if has_dot then pictures.check_xml(pictures.saved(g, "long.svg")) end
end

function T.test_graph_drawing_escapes_names()
  if not has_dot then lu.skip "dot is not installed" end
  for _, name in ipairs(pictures.hostile) do
    local w = nb.tensor({ 1, 2 }, { requires_grad = true, name = name })
    local g = inspect.graph((w * w):sum())
    pictures.check_width(g, 60)
    pictures.check_xml(pictures.saved(g, "g.svg"))
  end
end

-- ---- large graphs ----

local function chain(count)
  local net = nn.Sequential()
  for k = 1, count do net[k] = nn.Sequential { nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh() } end
  return net
end

function T.test_a_large_graph_folds_by_module()
  nb.seed(5)
  local net = chain(15)
  local x = nb.randn(3, 4)
  local h, outputs = x, {}
  for k = 1, 15 do
    h = net[k](h)
    outputs[k] = h
  end
  local J = h:square():mean()
  local whole = inspect.graph(net(x):square():mean())
  lu.assertEquals(whole.data.operators, 62)
  local modules = {}
  for _, box in ipairs(whole.data.boxes) do
    if box.kind == "module" then modules[#modules + 1] = box end
  end
  lu.assertEquals(#modules, 15)
  for k, box in ipairs(modules) do
    lu.assertEquals({ box.path, box.operators, box.shape }, { tostring(k), 4, { 3, 4 } })
    local g = nb.grad(J, outputs[k], { retain_graph = true }):norm():item()
    lu.assertAlmostEquals(box.gradient, g, 1e-5 * g)
    lu.assertEquals(#box.from, 1)
    local from = whole.data.boxes[box.from[1]]
    lu.assertEquals(from.path or from.kind, k == 1 and "input" or tostring(k - 1))
  end
  lu.assertEquals(#whole.data.boxes, 1 + 15 + 2)  -- x, the blocks, square and mean
  local plain = tostring(whole)
  for _, piece in ipairs { "⟨4⟩ = Sequential(⟨3⟩)", "4 operators", 'g:open("15") shows what is inside' } do
    lu.assertStrContains(plain, piece)
  end
  pictures.check_width(whole, 60, true)
  -- Inside: its operators and parameters, and what comes from the block before.
  local inner = whole:open "4"
  lu.assertEquals(box_of(inner, "⟨3⟩").kind, "input")
  lu.assertEquals(box_of(inner, "1.weight").shape, { 4, 4 })
  local counts = {}
  for _, box in ipairs(inner.data.boxes) do counts[box.kind] = (counts[box.kind] or 0) + 1 end
  lu.assertEquals(counts, { input = 1, parameter = 4, operator = 4 })
  lu.assertStrContains(tostring(inner), "inside 4:")
  lu.assertEquals(#whole.data.boxes, 18)  -- and it is itself as before
  lu.assertEquals(#inspect.graph(net[1](x):sum()).data.boxes, 1 + 4 + 4 + 1)  -- few are drawn one by one
  if has_dot then pictures.check_xml(pictures.saved(whole, "folded.svg")) end
  numeric.assert_error({ "no module \"encoder\"", "1, 1.1, 1.2" }, whole.open, whole, "encoder")
  numeric.assert_error({ "module's path", "got 3" }, whole.open, whole, 3)
end

-- ---- diagram ----

function T.test_diagram_reads_the_net()
  local net = lecture()
  local x = nb.rand(3)
  local d = inspect.diagram(net, { x = x }).data
  local sizes, titles = {}, {}
  for i, c in ipairs(d.columns) do sizes[i], titles[i] = c.n, c.title end
  lu.assertEquals(sizes, { 3, 4, 4, 3 })
  lu.assertEquals(titles, { "x", "Sigmoid", "Sigmoid", "Sigmoid" })
  local a1 = (net[1].weight:matmul(x) + net[1].bias):sigmoid()
  for k = 1, 4 do lu.assertAlmostEquals(d.columns[2].values[k], a1:at(k), 1e-6) end
  lu.assertEquals(d.weights[2][3][1], net[3].weight:at(3, 1))
  lu.assertEquals(d.columns[4].values, net(x:unsqueeze(1)):detach():to("f64"):flatten():totable())
  lu.assertNil(rawget(net[1], "forward"))
end

function T.test_diagram_elides_and_shows_gradients()
  local net = nn.Sequential { nn.Linear(50, 20), nn.ReLU(), nn.Linear(20, 2) }
  local d = inspect.diagram(net).data
  lu.assertEquals(#d.columns[1].shown, 10)
  lu.assertEquals(d.columns[1].shown[10], 50)
  lu.assertFalse(d.columns[1].shown[7])
  numeric.assert_error({ "no gradient yet" }, inspect.diagram, net, { show = "gradient" })
  net(nb.rand(3, 50)):sum():backward()
  lu.assertEquals(inspect.diagram(net, { show = "gradient" }).data.weights[2][1][1], net[3].weight.grad:at(1, 1))
end

function T.test_diagram_is_drawn()
  local net = lecture()
  local d = inspect.diagram(net, { x = nb.randn(3), title = "3-4-4-3 <&>" })
  for _, width in ipairs { 1, 10, 30, 80, 120 } do
    pictures.check_width(d, width, true)
    pictures.check_width(d, width, false)
  end
  local svg = pictures.saved(d, "d.svg")
  pictures.check_xml(svg)
  local _, circles = svg:gsub("<circle", "")
  lu.assertEquals(circles, 3 + 4 + 4 + 3)
  local _, lines = svg:gsub("<line", "")
  lu.assertEquals(lines, 3 * 4 + 4 * 4 + 4 * 3)
  if not has_dot then lu.skip "dot is not installed" end
  local width = pictures.png_size(pictures.saved(d, "d.png"))
  lu.assertTrue(width > 800)
end

function T.test_diagram_of_what_has_no_neurons()
  numeric.assert_error({ "inspect.diagram", "net" }, inspect.diagram, 5)
  numeric.assert_error({ "Conv2d" }, inspect.diagram, nn.Sequential { nn.Conv2d(1, 2, 3), nn.Linear(2, 2) })
  numeric.assert_error({ "no Linear" }, inspect.diagram, nn.ReLU())
  numeric.assert_error({ "do not follow" }, inspect.diagram, nn.Sequential { nn.Linear(2, 3), nn.Linear(4, 2) })
  local net = nn.Sequential { nn.Linear(2, 3) }
  nb.no_grad(function() net[1].weight:fill_(0 / 0) end)
  pictures.check_width(inspect.diagram(net), 50, true)
  pictures.check_xml(pictures.saved(inspect.diagram(net), "n.svg"))
end

return T
