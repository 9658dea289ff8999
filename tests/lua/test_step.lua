-- SPDX-License-Identifier: MIT
-- inspect.step: a film of one training step that runs backwards as well, to the same bits.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"
local nn, optim, inspect = nb.nn, nb.optim, nb.inspect

local T = {}

local function xor()
  return nb.tensor { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }, nb.tensor { { 0 }, { 1 }, { 1 }, { 0 } }
end

local function xor_stepper(options)
  nb.seed(1)
  local net = nn.Sequential { nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Sigmoid() }
  local x, y = xor()
  options = options or { loss = nn.MSELoss(), lr = 0.5 }
  return inspect.step(net, x, y, options), net, x, y
end

function T.test_a_step_goes_layer_by_layer()
  local s, net, x, y = xor_stepper()
  lu.assertEquals({ s.pos, s.count, s.phase }, { 0, 11, "start" })
  lu.assertNil(net[1].weight.grad)
  local formulas = {}
  while s.pos < s.count do
    s:next()
    formulas[s.pos] = s.phase .. " " .. s.formula
  end
  lu.assertEquals(table.move(formulas, 1, 10, 1, {}), {
    "forward z⁽²⁾ = X·W⁽¹⁾ᵀ+b⁽¹⁾", "forward a⁽²⁾ = σ(z⁽²⁾)", "forward z⁽³⁾ = a⁽²⁾·W⁽²⁾ᵀ+b⁽²⁾",
    "forward ŷ = σ(z⁽³⁾)", "forward J = MSELoss(ŷ, y)",
    "backward ∂J/∂ŷ = (ŷ−y)·2/n", "backward δ⁽³⁾ = ∂J/∂ŷ·σ'(z⁽³⁾)", "backward ∂J/∂W⁽²⁾ = δ⁽³⁾ᵀ·a⁽²⁾",
    "backward δ⁽²⁾ = ∂J/∂a⁽²⁾·σ'(z⁽²⁾)", "backward ∂J/∂W⁽¹⁾ = δ⁽²⁾ᵀ·X" })
  s:to("layer 3", "backward")
  lu.assertEquals({ s.phase, s.layer, s.op }, { "backward", "3", "linear" })
  -- The values are those of the formulas.
  nb.no_grad(function()
    local W2 = net[3].weight
    local z = s:to("layer 1", "forward").output
    lu.assertTrue((z - (x:matmul(net[1].weight.T) + net[1].bias)):abs():max():item() < 1e-6)
    local guess = s:to("layer 4", "forward").output
    lu.assertTrue((s:to("layer 4", "backward").grad_in - (guess - y) * 0.5):abs():max():item() < 1e-6)
    local delta = s.grad_in * guess * (1 - guess)
    lu.assertTrue((s.grad_out - delta):abs():max():item() < 1e-6)
    lu.assertTrue((s:next().grad_out - delta:matmul(W2)):abs():max():item() < 1e-6)
  end)
end

function T.test_gradients_come_with_their_step_and_the_update_with_its_own()
  local s, net = xor_stepper()
  local w = net[1].weight
  local before = w:detach():clone()
  s:to("layer 3", "backward")
  lu.assertNil(w.grad)
  lu.assertNotNil(net[3].weight.grad)
  s:to("layer 1", "backward")
  local grad = w.grad:clone()
  lu.assertEquals(w:totable(), before:totable())
  s:run()
  lu.assertEquals(w:totable(), nb.no_grad(function() return before - grad * 0.5 end):totable())
  s:back(s.count)
  lu.assertEquals({ s.pos, w:totable() }, { 0, before:totable() })
  lu.assertNil(w.grad)
end

-- Everything a step can change.
local function snapshot(net, opt)
  local list = { random = { native.random_state() } }
  for name, t in pairs(net:state()) do list[name] = t:totable() end
  for name, p in net:named_parameters() do list["grad " .. name] = p.grad and p.grad:totable() or "none" end
  for name, t in pairs(opt and opt:state() or {}) do list["opt " .. name] = t:totable() end
  return list
end

local Recurrent = nn.module("Recurrent", function(self, n)
  self.w = nb.randn(2 * n, 4 * n, { requires_grad = true })
  self.out = nn.Linear(n, 1)
  self.n = n
end)
function Recurrent:forward(x)
  local h, c = nb.zeros(#x, self.n), nb.zeros(#x, self.n)
  for _ = 1, 4 do
    local g = nb.cat({ x, h }, 2):matmul(self.w):split(self.n, 2)
    c = g[1]:sigmoid() * c + g[2]:sigmoid() * g[3]:tanh()
    h = g[4]:sigmoid() * c:tanh()
  end
  return self.out(h)
end

local Counting = nn.module("Counting", function(self)
  self.fc = nn.Linear(4, 1)
  self.calls = nb.zeros(1)
end)
function Counting:forward(x)
  nb.no_grad(function() self.calls:add_(1) end)
  local h = x * 2
  h:add_(1)
  return self.fc(h) * self.calls
end

local function programs()
  local list = {
    dropout = nn.Sequential { nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1) },
    ["batch norm"] = nn.Sequential { nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1) },
    recurrent = Recurrent(4), ["in place"] = Counting(),
  }
  if nn.LSTM then
    local lstm, head = nn.LSTM(4, 3), nn.Linear(3, 1)
    local Whole = nn.module("Whole", function(self) self.lstm, self.head = lstm, head end)
    function Whole:forward(x) return self.head((self.lstm(x:unsqueeze(2)))):squeeze(2) end
    list.lstm = Whole()
  end
  if nb.operator then
    local cube = nb.operator { name = "cube_of_test", doc = "x³.", forward = function(ctx, x)
      ctx.x = x
      return x * x * x
    end, backward = function(ctx, g) return g * 3 * ctx.x * ctx.x end }
    list.custom = nn.Sequential { nn.Linear(4, 3), function(x) return cube(x) end, nn.Linear(3, 1) }
  end
  return list
end

function T.test_forth_and_back_and_forth_gives_the_same_bits()
  for name, net in pairs(programs()) do
    nb.seed(7)
    local opt = optim.Adam(net:parameters(), { lr = 0.01 })
    local x, y = nb.randn(6, 4), nb.randn(6, 1)
    local start = snapshot(net, opt)
    local ok, s = pcall(inspect.step, net, x, y, { loss = nn.MSELoss(), opt = opt })
    lu.assertTrue(ok, name .. ": " .. tostring(s))
    lu.assertEquals(snapshot(net, opt), start, name)
    local film, outputs = {}, {}
    for i = 1, s.count do
      s:next()
      film[i], outputs[i] = snapshot(net, opt), s.output and s.output:totable()
    end
    for i = s.count - 1, 1, -1 do
      s:back()
      lu.assertEquals(snapshot(net, opt), film[i], ("%s, back at %d"):format(name, i))
    end
    s:back()
    lu.assertEquals(snapshot(net, opt), start, name .. ", back at the start")
    for i = 1, s.count do
      s:next()
      lu.assertEquals(snapshot(net, opt), film[i], ("%s, again at %d"):format(name, i))
      if outputs[i] then lu.assertEquals(s.output:totable(), outputs[i], name) end
      lu.assertTrue(#tostring(s) > 0)
    end
  end
end

function T.test_the_film_ends_where_a_plain_step_does()
  local function run(stepped)
    nb.seed(11)
    local net = nn.Sequential { nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.4), nn.Linear(8, 1) }
    local opt = optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
    local x, y, loss = nb.randn(6, 4), nb.randn(6, 1), nn.MSELoss()
    if stepped then
      inspect.step(net, x, y, { loss = loss, opt = opt }):run()
    else
      loss(net(x), y):backward()
      opt:step()
    end
    return snapshot(net, opt)
  end
  -- But for roundings: BatchNorm is one operator there.
  lu.assertAlmostEquals(run(true), run(false), 1e-6)
end

function T.test_any_function_that_returns_a_loss()
  local w = nb.tensor({ 1, 2 }, { requires_grad = true, name = "w" })
  w.grad = nb.ones(2)
  local s = inspect.step(function(k) return (w * w * k):sum() end, 3)
  lu.assertEquals(w.grad:totable(), { 1, 1 })  -- as it was
  s:run()
  lu.assertEquals(w.grad:totable(), { 6, 12 })
  lu.assertStrContains(tostring(s:to("mul", "forward")), "test_step.lua")
  s:to("start")
  lu.assertEquals(w.grad:totable(), { 1, 1 })
end

function T.test_numbers_changed_in_place_are_shown_as_the_program_used_them()
  local scale = nb.zeros(1)
  local w = nb.tensor({ 2 }, { requires_grad = true, name = "w" })
  local s = inspect.step(function()
    scale:add_(3)
    return (w * scale):sum()
  end)
  s:next()
  s:back()
  lu.assertEquals(scale:item(), 0)
  s:to("mul", "backward")
  lu.assertEquals(s.formula, "∂J/∂w = ∂J/∂v₁·3")
  s:to("start")
  lu.assertEquals(s.steps[#s.steps].formula, "∂J/∂w = ∂J/∂v₁·3")
  lu.assertEquals(scale:item(), 0)
end

function T.test_an_error_of_an_observer_stays_the_value_it_is()
  local value = { code = 7 }
  native.observe(function() error(value) end)
  local ok, err = pcall(function() return nb.ones(1) + 1 end)
  native.observe(nil)
  lu.assertFalse(ok)
  lu.assertIs(err, value)
end

function T.test_explain_at_any_place_of_the_film()
  local s, net = xor_stepper()
  s:run()
  local after = net[1].weight:totable()
  local e = inspect.explain(s, net[1].weight)
  lu.assertEquals(e.formula, "∂J/∂W⁽¹⁾ = (ŷ−y)·2/n·σ'(z⁽³⁾)·W⁽²⁾·σ'(z⁽²⁾)·X")
  lu.assertTrue((e:value() - net[1].weight.grad):abs():max():item() < 1e-7)
  lu.assertEquals(net[1].weight:totable(), after)
  lu.assertEquals(inspect.explain(net[1].weight).formula, e.formula)
end

function T.test_a_layer_that_is_one_thing_shows_no_parts()
  for _, kind in ipairs { "LayerNorm", "RMSNorm", "GroupNorm" } do
    local layer = kind == "GroupNorm" and nn.GroupNorm(2, 4) or nn[kind](4)
    local s = inspect.step(nn.Sequential(layer, nn.Linear(4, 3)), nb.randn(2, 4), nb.tensor { 1, 2 },
      { loss = nn.CrossEntropyLoss(), lr = 0.1 }):next()
    local names = {}
    for i, input in ipairs(s.inputs) do names[i] = input.name end
    lu.assertEquals(names, { "x", "1.weight", kind ~= "RMSNorm" and "1.bias" or nil }, kind)
  end
end

function T.test_how_it_looks()
  local s = xor_stepper()
  for _, settings in ipairs { { width = 1 }, { width = 80, color = true }, { width = 100, rich = true } } do
    s:to("start")
    for _ = 0, s.count do
      local bundle = getmetatable(s).__display(s, settings)
      lu.assertTrue(#bundle["text/plain"] > 20)
      if settings.rich then lu.assertStrContains(bundle["text/html"], "step " .. s.pos .. " of") end
      s:next()
    end
  end
  s:to("layer 1", "forward")
  lu.assertStrContains(tostring(s), "X 4×2   W⁽¹⁾ 4×2   b⁽¹⁾ 4   →   z⁽²⁾ 4×4")
end

function T.test_what_cannot_be_stepped()
  local x, y = xor()
  local net = nn.Linear(2, 1)
  numeric.assert_error({ "loss is missing" }, inspect.step, net, x, y)
  numeric.assert_error({ "input and a target" }, inspect.step, net, x)
  numeric.assert_error({ "a net, or a function" }, inspect.step, 3)
  numeric.assert_error({ "single number", "4×1" }, inspect.step, net, x, y,
    { loss = nn.MSELoss { reduction = "none" } })
  numeric.assert_error({ "no tensor that requires grad" }, inspect.step, nn.ReLU(), x, x, { loss = nn.MSELoss() })
  numeric.assert_error({ "must return the loss" }, inspect.step, function() end)
  numeric.assert_error({ "oops" }, inspect.step, function() error("oops") end)
  local s = inspect.step(net, x, y, { loss = nn.MSELoss(), lr = 0.1 })
  numeric.assert_error({ "no step", "nowhere", "start" }, s.to, s, "nowhere")
  numeric.assert_error({ "whole number" }, s.next, s, 1.5)
  lu.assertEquals(s:next(1000).pos, s.count)
  lu.assertEquals(s:back(1000).pos, 0)
  -- An error in the middle leaves things as they were, and nothing is observed any more.
  local norm = nn.BatchNorm1d(2)
  local before = norm.running_mean:totable()
  pcall(inspect.step, function()
    norm(x)
    error("stop")
  end)
  lu.assertEquals(norm.running_mean:totable(), before)
end

return T
