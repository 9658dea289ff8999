-- SPDX-License-Identifier: MIT
-- inspect.summary, and errors about shapes that show the net up to the failing layer.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local nn, inspect = nb.nn, nb.inspect

local T = {}

local function cnn()
  return nn.Sequential { nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(1352, 10) }
end

function T.test_a_table_of_layers()
  local s = inspect.summary(cnn(), nb.zeros(2, 1, 28, 28))
  lu.assertEquals(#s, 6)
  lu.assertEquals({ s[1].path, s[1].kind, s[1].params, s[1].bytes }, { "1", "Conv2d", 80, 320 })
  lu.assertEquals(s[1].shape, { 2, 8, 26, 26 })
  lu.assertEquals(s.total.params, 80 + 16 + 13530)
  lu.assertStrContains(tostring(s), "13,626 parameters")
  local html = getmetatable(s).__display(s, { rich = true, width = 80 })["text/html"]
  lu.assertStrContains(html, "Conv2d(1, 8, 3)</code>")
end

local Scaled = nn.module("Scaled", function(self)
  self.scale = nb.ones(3, { requires_grad = true })
  self.inner = nn.Linear(3, 3)
end)
function Scaled:forward(x) return self.inner(x) * self.scale end

function T.test_a_module_that_holds_both_has_a_row_for_its_own()
  local s = inspect.summary(nn.Sequential { Scaled() }, nb.zeros(1, 3))
  lu.assertEquals({ s[1].path, s[1].params, s[2].path, s[2].params }, { "1", 3, "1.inner", 12 })
  lu.assertEquals(s[1].shape, { 1, 3 })
end

function T.test_looking_changes_nothing()
  local net = cnn()
  local mean = net[2].running_mean:totable()
  nb.seed(5)
  local want = nb.rand(1):item()
  nb.seed(5)
  inspect.summary(nn.Sequential { nn.Dropout(0.5), net }, nb.ones(2, 1, 28, 28))
  lu.assertEquals(nb.rand(1):item(), want)
  lu.assertEquals(net[2].running_mean:totable(), mean)
end

-- What is suggested in place of the layer, tried.
local function try(change)
  return assert(load("return " .. change, "change", "t", { nn = nn, nb = nb }))()
end

function T.test_what_does_not_fit_is_shown_with_what_would()
  local x = nb.zeros(2, 1, 32, 32)
  local net = cnn()
  local s = inspect.summary(net, x)
  lu.assertEquals(s.failure, { path = "6", title = "Linear(1352 → 10)", got = "2×1800", expected = "…×1352",
    change = "nn.Linear(1800, 10)", how = "in its place" })
  net[6] = try(s.failure.change)
  lu.assertNil(inspect.summary(net, x).failure)
  s = inspect.summary(cnn(), nb.zeros(2, 3, 28, 28))
  lu.assertEquals(s.failure.change, "nn.Conv2d(3, 8, 3)")
  lu.assertEquals(inspect.summary(cnn(), nb.zeros(2, 28, 28)).failure.change, "x:unsqueeze(2)")
  s = inspect.summary(nn.Sequential { nn.Linear(784, 10) }, nb.zeros(2, 28, 28))
  lu.assertEquals({ s.failure.change, s.failure.how }, { "nn.Flatten()", "before it" })
  s = inspect.summary(nn.Sequential { nn.Linear(4, 6), nn.BatchNorm1d(5) }, nb.zeros(2, 4))
  lu.assertEquals(s.failure.change, "nn.BatchNorm1d(6)")
end

function T.test_an_error_teaches()
  local net = nn.Sequential { nn.Linear(784, 10), nn.ReLU(), nn.Linear(12, 3) }
  numeric.assert_error({ "test_summary.lua", "must be 12, got shape 2×10", "in layer 3", "1      Linear(784 → 10)",
    "✗ 3", "expected …×12, got 2×10", "nn.Linear(10, 3)" }, function() return net(nb.zeros(2, 784)) end)
  -- An error about something else has no table.
  local ok, message = pcall(function() return nn.Sequential { function() error("other") end }(nb.zeros(1)) end)
  lu.assertFalse(ok)
  lu.assertNil(message:find("\n", 1, true))
end

function T.test_bad_input()
  numeric.assert_error({ "needs a net" }, inspect.summary, 3, nb.zeros(1))
  numeric.assert_error({ "needs an input" }, inspect.summary, nn.ReLU())
  lu.assertEquals(inspect.summary(nn.ReLU(), nb.zeros(3)).total.params, 0)
  numeric.assert_error({ "mine" }, inspect.summary, nn.Lambda(function() error("mine") end), nb.zeros(1))
end

function T.test_a_failure_is_told_once()
  local s = inspect.summary(nn.Sequential { nn.Linear(3, 8), nn.ReLU(), nn.Linear(9, 2) }, nb.zeros(6, 3))
  local paths = {}
  for i, row in ipairs(s) do paths[i] = row.path end
  lu.assertEquals(paths, { "1", "2", "3" })
  lu.assertEquals(s.failure.change, "nn.Linear(8, 2)")
  local html = getmetatable(s).__display(s, { rich = true })["text/html"]
  lu.assertStrContains(html, "expected <b>…×9</b>, got <b>6×8</b>")
end

-- ---- large nets ----

local function blocks(count)
  local net = nn.Sequential()
  for k = 1, count do
    net[k] = nn.Sequential { nn.Linear(4, 8), nn.Tanh(), nn.Sequential { nn.Linear(8, 4), nn.ReLU() } }
  end
  net[count + 1] = nn.Linear(4, 2)
  return net
end

function T.test_a_large_net_folds_by_module()
  local net, x = blocks(12), nb.ones(3, 4)
  local s = inspect.summary(net, x)
  lu.assertEquals(#s, 12 * 4 + 1)  -- a script sees every row
  local plain = tostring(s)
  local _, lines = plain:gsub("\n", "")
  lu.assertEquals(lines + 1, 1 + 12 + 1 + 2)
  -- 4·8 + 8 and 8·4 + 4 parameters; 2·3·(4·8)·2 operations of products, 3·(8 + 4) of biases, 3·(8 + 4) of activations.
  local row = plain:match "\n(  7 [^\n]*)"
  lu.assertStrContains(row, "Sequential, 4 layers")
  lu.assertStrContains(row, "3×4    3×4")
  for _, number in ipairs { " 76 ", " 456" } do lu.assertStrContains(row, number) end
  lu.assertStrContains(plain, "s:open(\"12\") shows what is inside")
  local html = getmetatable(s).__display(s, { rich = true })["text/html"]
  lu.assertStrContains(html, "4 layers")
  -- Inside.
  local inner = s:open "7"
  lu.assertEquals({ #inner, inner[1].path, inner[4].path }, { 4, "7.1", "7.3.2" })
  lu.assertEquals({ inner.total.params, inner.total.flops }, { 76, 456 })
  lu.assertEquals(#s:open("7"):open "7.3", 2)
  lu.assertNotStrContains(tostring(inner), "shows what is inside")
  -- A net that is as large inside: folded there, too.
  local deep = nn.Sequential { nn.Linear(4, 4), blocks(12) }
  inner = inspect.summary(deep, x):open "2"
  lu.assertStrContains(tostring(inner), "2.7")
  lu.assertStrContains(tostring(inner), "Sequential, 4 layers")
  lu.assertEquals(inner.total.params, 12 * 76 + 10)
  -- Few layers are listed as they are.
  lu.assertStrContains(tostring(inspect.summary(blocks(3), x)), "3.3.2")
end

function T.test_what_fails_in_a_large_net_is_seen_folded()
  local net = blocks(12)
  net[13] = nn.Linear(5, 2)
  local s = inspect.summary(net, nb.ones(3, 4))
  lu.assertStrContains(tostring(s), "✗ 13")
  net[9][3][1] = nn.Linear(9, 4)
  s = inspect.summary(net, nb.ones(3, 4))
  lu.assertEquals(s.failed.path, "9.3.1")
  lu.assertStrContains(tostring(s:open "9"), "✗ 9.3.1")
end

function T.test_bad_input_for_open()
  local s = inspect.summary(blocks(2), nb.ones(3, 4))
  numeric.assert_error({ "no module \"encoder\"", "1, 1.3, 2" }, s.open, s, "encoder")
  numeric.assert_error({ "module's path", "got 3" }, s.open, s, 3)
end

-- Formulas of the terminal in HTML: raised and lowered parts, letters slanted; nothing for a page to typeset.
function T.test_formulas_in_notebooks()
  local math = require("nablua.inspect.html").math
  for plain, html in pairs {
    ["z⁽²⁾ = X·W⁽¹⁾ᵀ+b⁽¹⁾"] = "<i>z</i><sup>(2)</sup> = <i>X</i>·<i>W</i><sup>(1)⊤</sup>+<i>b</i><sup>(1)</sup>",
    ["|∂J/∂W⁽¹²⁾|"] = "|∂<i>J</i>/∂<i>W</i><sup>(12)</sup>|",
    ["v₁₂ = log_softmax(v₀)"] = "<i>v</i><sub>12</sub> = log_softmax(<i>v</i><sub>0</sub>)",
    ["δ·σ'(z⁽³⁾)"] = "δ·σ'(<i>z</i><sup>(3)</sup>)",
    ["a$b<i>\"&"] = "<i>a</i>$<i>b</i>&lt;<i>i</i>&gt;&quot;&amp;",
  } do
    lu.assertEquals(math(plain):match("^<span style=\"[^\"]*\">(.*)</span>$"), html)
  end
end

-- What gradients are written as multiplies to their shapes, whichever way the weight lies.
function T.test_products_fit_as_written()
  local function shapes_fit(formula, shape_of)
    local left, right = formula:match("^(.-) = (.*)$")
    local rows, columns
    for factor in (right .. "·"):gmatch("(.-)·") do
      local name = factor:gsub("ᵀ", ""):gsub("^%((.*)%)$", "%1")
      local shape = shape_of[name]
      lu.assertTable(shape, formula .. ": " .. name)
      local r, c = shape[1], shape[2]
      if factor:find("ᵀ") then r, c = c, r end
      lu.assertTrue(not columns or columns == r, formula)
      rows, columns = rows or r, c
    end
    lu.assertEquals({ rows, columns }, shape_of[left], formula)
  end
  local W = nb.rand(3, 5, { requires_grad = true, name = "W1" })
  local x = nb.rand(7, 3)
  local s = inspect.step(function() return ((x:matmul(W):tanh()) ^ 2):sum() end)
  s:to("matmul", "backward")
  shapes_fit(s.formula, { ["∂J/∂W⁽¹⁾"] = { 3, 5 }, ["δ⁽²⁾"] = { 7, 5 }, X = { 7, 3 } })
  local net = nn.Sequential { nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2), nn.Tanh() }
  s = inspect.step(net, x, nb.rand(7, 2), { loss = nn.MSELoss() })
  local known = { ["∂J/∂W⁽¹⁾"] = { 5, 3 }, ["∂J/∂W⁽²⁾"] = { 2, 5 }, ["δ⁽²⁾"] = { 7, 5 }, ["δ⁽³⁾"] = { 7, 2 },
    X = { 7, 3 }, ["a⁽²⁾"] = { 7, 5 },
    ["W⁽¹⁾"] = { 5, 3 }, ["W⁽²⁾"] = { 2, 5 }, ["z⁽²⁾"] = { 7, 5 }, ["z⁽³⁾"] = { 7, 2 } }
  for _, layer in ipairs { "layer 1", "layer 3" } do
    shapes_fit(s:to(layer, "forward").formula:gsub("%+.*", ""), known)
    shapes_fit(s:to(layer, "backward").formula, known)
  end
end

-- A page has room for 76 characters of a row of numbers: wide ones leave out more columns, none fewer than 3.
function T.test_a_grid_of_numbers_fits_its_page()
  local html = require "nablua.inspect.html"
  local function widths(t)
    local columns, widest
    for row in html.grid(t):gmatch "<tr.-</tr>" do
      local n, width = 0, 0
      for cell in row:gmatch "<td[^>]*>(.-)</td>" do n, width = n + 1, width + math.max(utf8.len(cell), 4) + 2 end
      columns, widest = n, math.max(widest or 0, width)
    end
    return columns, widest
  end
  lu.assertEquals({ widths(nb.ones(3, 30)) }, { 10, 60 })
  lu.assertEquals((widths(nb.ones(3, 4))), 4)
  local columns, widest = widths(nb.arange(90):view(3, 30) * -1.2345e-7)
  lu.assertTrue(columns >= 3 and columns < 10 and widest <= 76, columns .. " columns, " .. widest)
end

return T
