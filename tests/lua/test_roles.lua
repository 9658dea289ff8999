-- SPDX-License-Identifier: MIT
-- What inspection knows of operators, derived from their rows: names, factors, the truth of formulas, counts.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"
local cells = require "nablua.nn.cells"
local formula = require "nablua.inspect.formula"
local roles = require "nablua.inspect.roles"
local symbols = require "nablua.inspect.symbols"
local tape = require "nablua.inspect.tape"
local nn, inspect = nb.nn, nb.inspect

local T = {}

local rows = native.rows()
local internal = {}
for _, row in ipairs(rows) do internal[row.name] = row.internal and row or nil end

local function each_row(filter, check)
  local failures = {}
  for _, row in ipairs(rows) do
    if filter(row) then
      nb.seed(7)
      local ok, err = pcall(check, row)
      if not ok then failures[#failures + 1] = row.name .. ": " .. tostring(err) end
    end
  end
  lu.assertEquals(#failures, 0, "\n" .. table.concat(failures, "\n"))
end

local function differentiable(row)
  return row.has_backward
end

-- Nothing that only the sources call so: no underscore, no row that users never call.
local function is_for_people(shown)
  if shown:find("_", 1, true) then return false, "an underscore in " .. shown end
  for word in shown:gmatch("[%a_][%w_]*") do
    -- What is both a row of ours and an ordinary word is meant as the word.
    local row = internal[word]
    if row and row.symbol ~= word then return false, ("%s in %s"):format(word, shown) end
  end
  return true
end

-- ---- names ----

function T.test_every_row_has_a_role_and_a_name_for_people()
  local known = {}
  each_row(function() return true end, function(row)
    assert(row.role, "no role")
    known[row.role] = true
    assert(not row.internal or row.symbol, "users would see its internal name")
    if row.symbol then assert(is_for_people(row.symbol)) end
    assert(not row.has_backward or is_for_people(row.symbol or row.name))
    assert(not row.has_backward or row.role ~= "test" and row.role ~= "creation" or row.internal, "it has a gradient")
    assert(not row.view or row.role == "structure" or row.role == "part", "a view does nothing to values")
    assert(not row.probability or row.role == "activation", "what ends a classifier is an activation")
    if row.formula then
      local none = function() return nil end
      assert(formula.symbol(row.formula, none), "its formula is none: " .. row.formula)
    end
  end)
  for _, role in ipairs { "function", "formula", "difference", "logarithm", "activation", "product", "pool",
    "normalisation", "attention", "recurrence", "loss", "reduction", "structure", "part", "creation", "test",
    "gradient" } do
    lu.assertTrue(known[role], "no row is a " .. role)
  end
end

function T.test_every_gradient_has_a_named_factor()
  each_row(differentiable, function(row)
    for _, case in ipairs(numeric.cases(row)) do
      local args, made = numeric.arguments(row, case)
      local J = numeric.scalar_of(row, args, {})
      for _, x in ipairs(made) do
        local ok, e = pcall(inspect.explain, J, x)
        if ok then
          assert(#e.factors > 0 and e.formula:match "= (.+)$", "nothing is shown")
          assert(is_for_people(e.formula))
          for _, f in ipairs(e.factors) do assert(f.symbol ~= "" and f.latex ~= "", "an empty factor") end
          assert(not e.latex:find "[\xc2-\xf4][\x80-\xbf]", "letters that are not LaTeX: " .. e.latex)
        else
          assert(tostring(e):find("does not depend", 1, true), e)
        end
      end
      local read = tape.read(J)
      local names = symbols.name(read)
      for i, node in ipairs(read.nodes) do
        for k = 1, node.edges do
          if node.op == row.name and node.inputs[k] then
            local r = symbols.rule(names, node, k, i)
            local passes = row.role == "structure" or (row.derivative .. ","):find "= 1[,%s]" or row.derivative == "1"
            assert(r.symbol or r.scale or r.mean or passes, "no factor for input " .. k)
          end
        end
      end
    end
  end)
end

function T.test_graphs_and_films_call_nothing_by_an_internal_name()
  each_row(function(row) return row.internal and row.has_backward end, function(row)
    local args = numeric.arguments(row, numeric.cases(row)[1])
    local s = inspect.step(function() return numeric.scalar_of(row, args, {}) end)
    for _, step in ipairs(s.steps) do
      assert(is_for_people(step.title))
      assert(is_for_people(step.formula))
      for _, line in ipairs(step.formulas or {}) do assert(is_for_people(line)) end
    end
    for _, box in ipairs(inspect.graph(s.J).data.boxes) do
      if box.kind == "operator" then assert(is_for_people(box.name)) end
    end
  end)
end

-- ---- the truth of what rows say ----

-- A row's formula as Lua, by substitutions of our own.
local function as_lua(s)
  s = s:gsub("⌊(.-)⌋", "floor(%1)"):gsub("|(.-)|", "abs(%1)"):gsub("1%[(.-)%]", "one(%1)")
  s = s:gsub("√(%b())", "sqrt%1"):gsub("√(%w+)", "sqrt(%1)"):gsub("√π", "sqrt(π)"):gsub("π", "pi")
  s = s:gsub("≥", ">="):gsub("≤", "<=")
  s = s:gsub("⁻¹", "^-1"):gsub("²", "^2"):gsub("−", "-"):gsub("·", "*"):gsub("½", "0.5*")
  return (s:gsub("%f[%w](%d)([%a(])", "%1*%2"))
end

local VALUES = { pi = math.pi, e = math.exp(1), sqrt = math.sqrt, abs = math.abs, floor = math.floor, cos = math.cos,
  sin = math.sin, tan = math.tan, log = math.log, ln = math.log, asin = math.asin, acos = math.acos, max = math.max,
  min = math.min, one = function(c) return c and 1 or 0 end, mod = function(x, y) return x - y * (x // y) end,
  atan = function(y, x) return math.atan(y, x) end, atan2 = math.atan,
  sign = function(x) return x > 0 and 1 or x < 0 and -1 or 0 end,
  sinh = function(x) return (math.exp(x) - math.exp(-x)) / 2 end,
  cosh = function(x) return (math.exp(x) + math.exp(-x)) / 2 end,
  trunc = function(x) return (math.modf(x)) end, frac = function(x) return (select(2, math.modf(x))) end,
  fmod = math.fmod, fmax = math.max, fmin = math.min, lerp = function(x, y, t) return x * (1 - t) + y * t end }

local WRITTEN = { formula = true, difference = true, logarithm = true }

-- .formula is what forward computes and .derivative what backward multiplies by, at numbers of the sample's range.
function T.test_formulas_and_derivatives_are_true()
  local checked = 0
  each_row(function(row) return WRITTEN[row.role] and not row.internal end, function(row)
    local lo, hi = row.sample.lo, row.sample.hi
    if lo == 0 and hi == 0 then lo, hi = 0.5, 2 end
    local env = setmetatable({}, { __index = VALUES })
    local args, parts = {}, formula.parts(row.derivative)
    for _ = 1, 5 do
      for i, p in ipairs(row.params) do
        env[p.name] = p.default
        if numeric.is_tensor_kind(p.kind) then
          args[i] = (nb.rand(1, { dtype = "f64" }) * (hi - lo) + lo):detach()
          args[i].requires_grad = true
          env[p.name] = args[i]:item()
        end
      end
      local y = nb[row.name](table.unpack(args))
      if row.formula:find "erf" == nil then
        local want = assert(load("return " .. as_lua(row.formula), row.formula, "t", env))()
        lu.assertAlmostEquals(y:item(), want, 1e-9, row.formula)
        checked = checked + 1
      end
      for i, p in ipairs(row.params) do
        if not args[i] then break end
        local said = assert(parts[p.name] or parts[1], "no derivative for " .. p.name)
        assert(formula.write(said, function() return nil end), "no formula: " .. said)
        local want = assert(load("return " .. as_lua(said), said, "t", env))()
        local g = nb.grad(y, args[i], { retain_graph = true })
        lu.assertAlmostEquals(g and g:item() or 0, want, 1e-6, said)
        checked = checked + 1
      end
    end
  end)
  lu.assertTrue(checked > 200)
end

function T.test_formulas_are_written_with_numbers_computed()
  local x = { text = "z", latex = "z" }
  local function write(s, y)
    local w = formula.symbol(s, function(name) return name == "x" and x or name == "y" and y or nil end)
    return w and w.text, w and w.latex
  end
  lu.assertEquals({ write("y·x^(y−1)", 2) }, { "2·z", "2\\,z" })
  lu.assertEquals({ write("y·x^(y−1)", 3) }, { "3·z²", "3\\,z^{2}" })
  lu.assertEquals({ write("y·x^(y−1)", 1) }, { "1", "1" })
  lu.assertEquals({ write("−x/y²", 2) }, { "−0.25·z", "-0.25\\,z" })
  lu.assertEquals({ write("1/(2√x)") }, { "1/(2·√z)", "\\frac{1}{2\\,\\sqrt{z}}" })
  lu.assertEquals({ write("(x − y)/(x·(1 − x))", { text = "y", latex = "y" }) },
    { "(z−y)/(z·(1−z))", "\\frac{z-y}{z \\cdot (1-z)}" })
  lu.assertEquals({ write("1[x > 0]·e^−x") }, { "1[z>0]·e^(−z)", "\\mathbf{1}[z>0] \\cdot e^{-z}" })
  lu.assertEquals({ write("(x + 1)·x²") }, { "(z+1)·z²", "(z+1) \\cdot z^{2}" })
  for _, words in ipairs { "1 at the largest", "δ·yᵀ", "∏ of the others", "x +", "(x", "" } do
    lu.assertNil(write(words), words)
  end
end

-- ---- operations ----

local function tracked(...)
  return nb.randn({ ... }, { requires_grad = true })
end

-- The operations of the last node behind t, and of all of them.
local function flops(t)
  local list = native.tape(t)
  local total = 0
  for _, node in ipairs(list) do total = total + node.flops end
  return list[#list].flops, total
end

function T.test_operations_of_products()
  lu.assertEquals(flops(tracked(5, 7):matmul(nb.ones(7, 3))), 2 * 5 * 7 * 3)
  lu.assertEquals(flops(tracked(4, 5, 7):matmul(nb.ones(4, 7, 3))), 2 * 4 * 5 * 7 * 3)
  lu.assertEquals(flops(tracked(2, 1, 5, 7):matmul(nb.ones(3, 7, 3))), 2 * 6 * 5 * 7 * 3)
  lu.assertEquals(flops(tracked(7):matmul(nb.ones(7))), 2 * 7)
  lu.assertEquals(flops(nb.linear(tracked(2, 5, 7), nb.ones(3, 7), nb.ones(3))), 2 * 10 * 7 * 3 + 10 * 3)
  lu.assertEquals(flops(nb.linear(tracked(5, 7), nb.ones(3, 7))), 2 * 5 * 7 * 3)
end

function T.test_operations_of_convolutions()
  -- Length (9 + 2·1 − 3)/2 + 1 = 5; 2·channels/groups·kernel for each of 2·6·5 results, and a bias.
  local options = { stride = 2, padding = 1, groups = 2 }
  lu.assertEquals(flops(nb.conv1d(tracked(2, 4, 9), nb.ones(6, 2, 3), nb.ones(6), options)),
    2 * 6 * 5 * (2 * 2 * 3 + 1))
  -- 3×4 places of an 8×9 image under a 3×2 kernel with strides 2 and 2.
  lu.assertEquals(flops(nb.conv2d(tracked(2, 3, 8, 9), nb.ones(5, 3, 3, 2), nil, { stride = 2 })),
    2 * 5 * 3 * 4 * 2 * 3 * 3 * 2)
  lu.assertEquals(flops(nb.conv2d(tracked(1, 4, 6, 6), nb.ones(4, 1, 3, 3), nil, { groups = 4 })),
    4 * 4 * 4 * 2 * 9)
  -- Every pixel times every weight of its channel, and a bias for each of 2·4·6·6 results: (3−1)·2 + 2 = 6.
  lu.assertEquals(flops(nb.conv_transpose2d(tracked(2, 3, 3, 3), nb.ones(3, 4, 2, 2), nb.ones(4), { stride = 2 })),
    2 * 2 * 3 * 9 * 4 * 4 + 2 * 4 * 36)
  lu.assertEquals(flops(tracked(1, 2, 8, 8):max_pool2d(2)), 2 * 16 * 4)
end

function T.test_operations_of_attention()
  local q, k, v = tracked(2, 3, 5, 8), nb.randn(2, 3, 7, 8), nb.randn(2, 3, 7, 4)
  local fused = flops(nb.scaled_dot_product_attention(q, k, v))
  lu.assertEquals(fused, 2 * 3 * 5 * 7 * (2 * 8 + 2 * 4 + 2))
  -- As composed of operators: two products, a scale, softmax.
  local composed = select(2, flops((q:matmul(k:transpose(-1, -2)) * 0.5):softmax(-1):matmul(v)))
  lu.assertEquals(fused, composed)
  local mask = nb.zeros(5, 7)
  lu.assertEquals(flops(nb.scaled_dot_product_attention(q, k, v, mask)), fused + 2 * 3 * 5 * 7)
  -- Two heads of 4: 2·3·(3·3) scores.
  lu.assertEquals(flops((native.self_attention(tracked(3, 3, 24), 2))), 3 * 2 * 9 * (2 * 4 + 2 * 4 + 2))
end

-- A recurrent layer as a whole against the sum over its steps in operators, and against formulas by hand.
function T.test_operations_of_recurrent_layers()
  local steps, batch, I, H = 4, 3, 5, 6
  for kind, layer in pairs { lstm = { nn.LSTM, 4, 13 }, gru = { nn.GRU, 3, 10 }, tanh = { nn.RNN, 1, 2 } } do
    local net, gates, cell = layer[1](I, H), layer[2], layer[3]
    local x = tracked(steps, batch, I)
    local fused
    for _, node in ipairs(native.tape(net(x)[1]:sum())) do
      if node.op == "recurrent" then fused = node.flops end
    end
    lu.assertEquals(fused, steps * batch * H * (gates * (2 * (I + H) + 2) + cell), kind)
    local w = { weight_ih = net.weight_ih_l0, weight_hh = net.weight_hh_l0, bias_ih = net.bias_ih_l0,
      bias_hh = net.bias_hh_l0 }
    local h, c = nb.zeros(batch, H, { requires_grad = true }), nb.zeros(batch, H, { requires_grad = true })
    local all, _, _, all_c = cells.steps(kind, x, w, false, h, c)
    local list = { nb.stack(all, 1) }
    if kind == "lstm" then list[2] = nb.stack(all_c, 1) end
    lu.assertEquals(select(2, flops(nb.cat(list, 1))), fused, kind)
  end
end

function T.test_operations_of_other_rows()
  local x = tracked(3, 4)
  lu.assertEquals(flops(x + nb.ones(4)), 12)
  lu.assertEquals(flops(x:sum(1)), 12)
  lu.assertEquals(flops(x:sigmoid()), 12)
  lu.assertEquals(flops(x:reshape(12)), 0)
  lu.assertEquals(flops(x[x:gt(0)]), 0)
  lu.assertEquals(flops(tracked(2, 5, 5):inverse()), 2 * 2 * 125)
  lu.assertAlmostEquals(flops(nb.solve(tracked(6, 6), nb.ones(6, 2))), 2 / 3 * 216 + 2 * 36 * 2, 1e-9)
  each_row(differentiable, function(row)
    local args = numeric.arguments(row, numeric.cases(row)[1])
    for _, node in ipairs(native.tape(numeric.scalar_of(row, args, {}))) do
      assert(node.flops >= 0 and node.flops < 1e6, ("%s: %s operations"):format(node.op, node.flops))
    end
  end)
end

-- ---- users' operators ----

function T.test_operators_of_users_say_what_they_are()
  local function make(spec)
    spec.forward = spec.forward or function(ctx, x)
      ctx:save(x)
      return x * x * x
    end
    spec.backward = function(ctx, g) return g * 3 * ctx:saved() ^ 2 end
    return nb.operator(spec)
  end
  local w = nb.tensor({ 1, 2 }, { requires_grad = true, name = "w" })
  local function formula_of(f) return inspect.explain(f(w):sum(), w).formula end
  lu.assertEquals(formula_of(make { name = "cube_plain" }), "∂J/∂w = cube_plain'(w)")
  lu.assertEquals(formula_of(make { name = "cube_symbol", symbol = "κ" }), "∂J/∂w = κ'(w)")
  lu.assertEquals(formula_of(make { name = "cube_formula", role = "formula", derivative = "3x²" }), "∂J/∂w = w²·3")
  -- Words are no formula: its symbol is shown.
  lu.assertEquals(formula_of(make { name = "cube_words", role = "formula", derivative = "3 times the square" }),
    "∂J/∂w = cube_words'(w)")
  local e = inspect.explain(make { name = "cube_meaning", symbol = "κ", derivative = "3x²" }(w):sum(), w)
  lu.assertStrContains(tostring(e), "κ'(x) = 3x²")
  local net, act = nn.Linear(2, 3), make { name = "cube_act", symbol = "κ", role = "activation" }
  local s = inspect.step(function() return act(net(nb.ones(1, 2))):sum() end)
  lu.assertEquals(s:to("cube_act", "forward").formula, "a⁽²⁾ = κ(z⁽²⁾)")
  numeric.assert_error({ "role", "must be one of", "activation" }, make, { name = "cube_wrong", role = "dance" })
  -- Made again, it is what it was made again as.
  lu.assertEquals(formula_of(make { name = "cube_symbol", symbol = "ρ" }), "∂J/∂w = ρ'(w)")
end

-- ---- the sources ----

local function sources()
  local here = debug.getinfo(1, "S").source:match "^@(.*)tests/lua/[^/]*$" or ""
  local pipe = assert(io.popen(("find '%slua' -name '*.lua'"):format(here)))
  local list = {}
  for name in pipe:lines() do
    local file = assert(io.open(name))
    list[name] = file:read "a"
    file:close()
  end
  pipe:close()
  lu.assertTrue(next(list) ~= nil)
  return list
end

-- What is known of an operator stands in its row: no source asks for one by name.  Roles that sources name exist.
function T.test_no_source_knows_operators_by_name()
  local known, bad = {}, {}
  for _, row in ipairs(rows) do known[row.role] = true end
  for name, text in pairs(sources()) do
    local n = 0
    for line in (text .. "\n"):gmatch("(.-)\n") do
      n = n + 1
      local place = ("%s:%d: %s"):format(name, n, line)
      if line:find '%.op%s*[=~]=%s*"' or line:find '"%s*[=~]=%s*[%w_]+%.op%f[^%w_]' or
        line:find "[A-Z]%[[%w_%.]-%.op%]" or line:find '[^%w_]op%s*[=~]=%s*"' then
        bad[#bad + 1] = place
      end
      for role in line:gmatch 'role%s*[=~]=%s*"(%w+)"' do
        if not known[role] then bad[#bad + 1] = place end
      end
      local keys = line:match "^local %u+ = { (.*) }$"
      if keys and text:find("%[info%.role%]") and name:find "inspect/" then
        for role in keys:gmatch "(%w+) = " do
          if not known[role] then bad[#bad + 1] = place end
        end
      end
    end
  end
  lu.assertEquals(bad, {})
end

function T.test_titles_are_the_names_that_users_call()
  lu.assertEquals(roles.title "max_pool2d", "max_pool2d")
  lu.assertEquals(roles.title "region", "part")
  lu.assertEquals(roles.title "no such operator", "no such operator")
end

return T
