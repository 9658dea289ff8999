-- SPDX-License-Identifier: MIT
-- Programs that call back: hooks, operators of their own, finalizers and coroutines that walk tapes, change lists,
-- collect, and define again what is running.
--
-- A program is a list of statements over shared slots; a statement may hold a function of further statements.  Slots
-- lose what they hold at any time, so whoever borrows must keep.
package.path = (arg[0]:match("^(.*)/") or ".") .. "/?.lua;" .. package.path
local driver = require "driver"

local PRELUDE = [[
local nb = require "nablua"
local native = require "nablua.native"
local nn, optim, inspect = nb.nn, nb.optim, nb.inspect
local S = { t = {}, l = { {}, {}, {} }, h = {}, f = {}, n = {}, c = {}, o = {} }
local depth = 0
-- Calls f unless calls are nested deeply already.
local function go(f, ...)
  if depth > 6 or closing == "quietly" then return end
  depth = depth + 1
  local ok, result = pcall(f, ...)
  depth = depth - 1
  if ok then return result end
end
local function leaf() return nb.tensor({ 1, 2, 3 }, { requires_grad = true }) end
for i = 1, 6 do S.t[i] = leaf() end
for i = 1, 3 do for k = 1, 4 do S.l[i][k] = S.t[k] end end
S.n[1] = nn.Linear(3, 3)
]]

local function pick(list)
  return list[math.random(#list)]
end

local function tensor()
  return ("S.t[%d]"):format(math.random(6))
end

local function list()
  return ("S.l[%d]"):format(math.random(3))
end

local statements

-- A function of a few statements, which may give something back.
local function body(depth, results)
  local lines = {}
  for i = 1, depth > 0 and math.random(0, 3) or 0 do lines[i] = statements(depth - 1) end
  lines[#lines + 1] = results and pick(results) or nil
  return table.concat(lines, "\n")
end

local unary = { "exp", "relu", "sum", "mean", "neg", "sigmoid", "cumsum", "sort", "detach", "clone", "contiguous",
  "square", "max", "softmax", "unsqueeze" }
local writes = { "mul_(2)", "add_(1)", "relu_()", "exp_()", "zero_()", "fill_(3)", "copy_(nb.ones(3))", "sub_(S.t[1])" }
local names = { "own_one", "own_two", "own_three" }

local kinds = {
  function() return ("%s = leaf()"):format(tensor()) end,
  function() return ("%s = nil"):format(tensor()) end,
  function() return ("%s = go(function() return %s:%s() end)"):format(tensor(), tensor(), pick(unary)) end,
  function() return ("%s = go(function() return %s %s %s end)"):format(tensor(), tensor(), pick { "*", "+", "-", "/" },
    tensor()) end,
  function() return ("%s = go(function() return %s[{ { 1, 2 } }] end)"):format(tensor(), tensor()) end,
  function() return ("go(function() %s:%s end)"):format(tensor(), pick(writes)) end,
  function() return ("go(function() %s[%d] = %s end)"):format(tensor(), math.random(3),
    pick { tensor(), "5", "{ 1 }" }) end,
  function() return ("go(function() %s:sum():backward(%s) end)"):format(tensor(),
    pick { "", "", "{ retain_graph = true }", "{ create_graph = true }" }) end,
  function() return ("go(function() S.o.J = %s:sum() S.o.J:backward { retain_graph = true } end)"):format(tensor()) end,
  function() return "go(function() S.o.J:backward() end)" end,
  function() return ("S.o.g = { go(nb.grad, go(function() return %s:sum() end), %s%s) }"):format(tensor(),
    pick { list(), tensor() }, pick { "", ", { create_graph = true }" }) end,
  function() return ("go(function() %s.grad = %s end)"):format(tensor(), pick { tensor(), "nil" }) end,
  function() return ("go(function() %s:retain_grad() end)"):format(tensor()) end,
  function() return ("go(function() %s.requires_grad = %s end)"):format(tensor(), pick { "true", "false" }) end,
  function() return pick { "collectgarbage()", "collectgarbage() collectgarbage()", 'collectgarbage("step")',
    'collectgarbage("generational")', 'collectgarbage("incremental")' } end,
  function() return ("%s[%d] = %s"):format(list(), math.random(5), pick { "nil", tensor(), "7", "{}" }) end,
  function() return ("table.remove(%s)"):format(list()) end,
  function() return ("%s = go(nb.%s, %s)"):format(tensor(), pick { "stack", "cat" }, list()) end,
  function() return ("go(function() S.h[%d]:remove() end)"):format(math.random(3)) end,
  function() return ("go(function() %s = S.n[1](%s) end)"):format(tensor(), tensor()) end,
  function() return "S.n[1] = nn.Linear(3, 3)" end,
  function() return ("go(function() %s = nb.%s(%s, %s) end)"):format(tensor(), pick(names), tensor(), tensor()) end,
  function() return ("go(function() S.o.opt = optim.%s(%s, { lr = 0.1 }) end)"):format(pick { "SGD", "Adam" },
    pick { list(), "S.n[1]:parameters()" }) end,
  function() return "go(function() S.o.opt:step() S.o.opt:zero_grad() end)" end,
  function() return ("go(function() S.c[%d]() end)"):format(math.random(2)) end,
  function() return ("go(function() coroutine.close(S.c[%d]) end)"):format(math.random(2)) end,
  function() return ("go(function() S.f[1](%s) end)"):format(tensor()) end,
  function() return ("go(function() %s = nb.tensor(%s) end)"):format(tensor(),
    pick { list(), "{ 1, 2, 3 }" }) end,
  function() return ("S.o.tape = go(native.tape, %s)"):format(tensor()) end,
  function() return "go(function() native.node_backward(S.o.tape[#S.o.tape].node, { nb.ones(3) }) end)" end,
  function() return ("go(function() S.o.copy = S.n[1]:state() S.n[1]:load_state(S.o.copy) S.n[1]:to(%q) end)"):format(
    pick { "f32", "f64" }) end,
}

local nested = {
  function(d) return ("S.h[%d] = go(function() return %s:register_hook(function(g)\n%s\nend) end)"):format(
    math.random(3), tensor(),
    body(d, { "return g", "return g * 2", "return " .. tensor(), "", "error 'hook'", "g:mul_(2)" })) end,
  function(d) return ([[
go(function() nb.operator { name = %q, outputs = %d,
  forward = function(ctx, x, y) go(function() ctx:save(%s) end) ctx.kept = %s
%s
end,
  backward = function(ctx, g)
%s
end } end)]]):format(pick(names), math.random(2), pick { "x", "x, y", tensor(), "" }, pick { tensor(), "x", "nil" },
    body(d, { "return x * 2", "return x", "return " .. tensor(), "return x * 1, x + 1", "return nil", "" }),
    body(d, { "return g", "return g * 2, g", "return g * ctx:saved()", "return " .. tensor(), "return nil",
      "error 'rule'" }))
  end,
  function(d) return ("setmetatable({}, { __gc = function() go(function()\n%s\nend) end })"):format(body(d)) end,
  function(d) return ("S.c[%d] = coroutine.wrap(function()\n%s\ncoroutine.yield(1)\n%s\nend)"):format(math.random(2),
    body(d), body(d)) end,
  function(d) return ("S.c[%d] = coroutine.create(function() local _ <close> = setmetatable({}, { __close = function()"
    .. "\n%s\nend })\ncoroutine.yield(1) end) go(coroutine.resume, S.c[%d])"):format(math.random(2), body(d),
    math.random(2)) end,
  function(d) return ("go(nb.no_grad, function()\n%s\nend)"):format(body(d,
    { "", "error 'x'", "coroutine.yield()" })) end,
  function(d) return ("go(function() S.f[1] = nb.compile(function(x)\n%s\nend) end)"):format(body(math.min(d, 1),
    { "return x * 2", "return x:sum()", "return " .. tensor() })) end,
  function(d) return ("S.h[%d] = go(function() return S.n[1]:register_%s(function(...)\n%s\nend) end)"):format(
    math.random(3), pick { "forward_hook", "forward_pre_hook", "backward_hook" }, body(d)) end,
  function(d) return ("go(function()\n%s\nend)"):format(body(d)) end,
  function(d) return ("go(nb.anomaly, function()\n%s\nend)"):format(body(d)) end,
  function(d) return ("S.l[%d] = setmetatable({ S.t[1], S.t[2] }, { __len = function()\n%s\nreturn 2 end, __index = "
    .. "function(_, k)\n%s\nreturn S.t[3] end })"):format(math.random(3), body(d), body(d)) end,
  function(d) return ("go(table.sort, { 3, 1, 2 }, function(a, b)\n%s\nreturn a < b end)"):format(body(d)) end,
}

function statements(depth)
  return math.random(3) == 1 and pick(nested)(depth) or pick(kinds)()
end

local function make()
  local lines = { PRELUDE }
  for _ = 1, math.random(10, 40) do lines[#lines + 1] = statements(3) end
  return table.concat(lines, "\n")
end

driver.main("reentrant", make)
