-- SPDX-License-Identifier: MIT
-- What nb.compile replays is never stale: whatever a function finds outside may change, and what it does beside
-- computing is refused.  Its bounds: test_replay_bounds.lua.
local lu = require "luaunit"
local nb = require "nablua"
local compiling = require "compiling"
local numeric = require "numeric"
local nn, optim = nb.nn, nb.optim
local silently, nets, assert_refused = compiling.silently, compiling.nets, compiling.assert_refused

local T = {}

-- ---- never stale ----

-- Each makes a function of a tensor, and something that changes what it finds outside.
local outside = {
  field = function()
    local lr = { v = 2 }
    return function(x) return x * lr.v end, function() lr.v = 5 end
  end,
  ["field of a field"] = function()
    local o = { inner = { list = { 2, 3 } } }
    return function(x) return x * o.inner.list[2] end, function() o.inner.list[2] = 5 end
  end,
  ["field that was not there"] = function()
    local o = { a = 1 }
    return function(x) return x * (o.k or 1) end, function() o.k = 5 end
  end,
  ["field that goes"] = function()
    local o = { a = 1, k = 4 }
    return function(x) return x * (o.k or 1) end, function() o.k = nil end
  end,
  ["element of a list"] = function()
    local list = { 1, 2, 3 }
    return function(x)
      for _, v in ipairs(list) do x = x * v end
      return x
    end, function() list[#list + 1] = 7 end
  end,
  ["global by a name that is computed"] = function()
    _G.nablua_test_k = 2
    local name = "nablua_test_k"
    return function(x) return x * _G[name] end, function() _G.nablua_test_k = 5 end
  end,
  ["global by rawget"] = function()
    _G.nablua_test_k = 2
    local name, globals = "nablua_test_k", _G
    return function(x) return x * rawget(globals, name) end, function() _G.nablua_test_k = 5 end
  end,
  ["method of strings"] = function()
    string.nablua_test = function() return 2 end  -- luacheck: ignore 122 142 143
    return function(x) return x * ("a"):nablua_test() end,
      function() string.nablua_test = function() return 5 end end,  -- luacheck: ignore 122 142 143
      function() string.nablua_test = nil end  -- luacheck: ignore 122 142 143
  end,
  ["whether a tensor requires grad"] = function()
    local w = nb.ones(3)
    return function(x) return w.requires_grad and x * 5 or x * 2 end, function() w.requires_grad = true end
  end,
  ["whether a tensor has a gradient"] = function()
    local w = nb.ones(3, { requires_grad = true })
    return function(x) return w.grad and x * 5 or x * 2 end, function() w.grad = nb.ones(3) end
  end,
  ["gradient that is gone"] = function()
    local w = nb.ones(3, { requires_grad = true })
    w.grad = nb.full({ 3 }, 2)
    return function(x) return w.grad and x * w.grad or x end, function() w.grad = nil end
  end,
  ["gradient that is another"] = function()
    local w = nb.ones(3, { requires_grad = true })
    w.grad = nb.full({ 3 }, 2)
    return function(x) return x * w.grad end, function() w.grad = nb.full({ 3 }, 5) end
  end,
  ["option of an optimizer"] = function()
    local opt = optim.SGD({ nb.ones(3, { requires_grad = true }) }, { lr = 2 })
    return function(x) return x * opt.lr end, function() opt.lr = 5 end
  end,
  ["option of a group"] = function()
    local opt = optim.SGD({ nb.ones(3, { requires_grad = true }) }, { lr = 2 })
    return function(x) return x * opt.groups[1].lr end, function() optim.StepLR(opt, { step_size = 1 }):step() end
  end,
  ["list among the options"] = function()
    local opt = optim.Adam { nb.ones(3, { requires_grad = true }) }
    return function(x) return x * opt.betas[1] end, function() opt.betas[1] = 0.5 end
  end,
  ["global number"] = function()
    _G.nablua_test_k = 2
    return function(x) return x * nablua_test_k end, function() _G.nablua_test_k = 5 end  -- luacheck: ignore 113
  end,
  ["global that _G's metatable finds"] = function()
    local behind = { nablua_test_behind = 2 }
    setmetatable(_G, { __index = behind })
    return function(x) return x * nablua_test_behind end,  -- luacheck: ignore 113
      function() behind.nablua_test_behind = 5 end, function() setmetatable(_G, nil) end
  end,
  ["global function"] = function()
    _G.nablua_test_f = function(x) return x * 2 end
    return function(x) return nablua_test_f(x) end,  -- luacheck: ignore 113
      function() _G.nablua_test_f = function(x) return x + 9 end end
  end,
  ["global table"] = function()
    _G.nablua_test_t = { k = 2 }
    return function(x) return x * nablua_test_t.k end,  -- luacheck: ignore 113
      function() _G.nablua_test_t.k = 7 end  -- luacheck: ignore 113
  end,
  ["global of an inner function"] = function()
    _G.nablua_test_k = 2
    return function(x) return nb.no_grad(function() return x * nablua_test_k end) end,  -- luacheck: ignore 113
      function() _G.nablua_test_k = 5 end
  end,
  ["global of a chunk with many strings"] = function()
    local strings = {}
    for i = 1, 300 do strings[i] = ("'s%d'"):format(i) end
    _G.nablua_test_k = 2
    local text = "return function(x) local t = {%s} return x * nablua_test_k, #t end"
    return load(text:format(table.concat(strings, ",")))(),
      function() _G.nablua_test_k = 5 end
  end,
  ["upvalue"] = function()
    local k = 2
    return function(x) return x * k end, function() k = 5 end
  end,
  ["upvalue of a helper"] = function()
    local k = 2
    local function helper(x) return x * k end
    local function between(x) return helper(x) end
    return function(x) return between(x) end, function() k = 5 end
  end,
  ["upvalue of a function in a table"] = function()
    local k = 2
    local o = { f = function(x) return x * k end }
    return function(x) return o.f(x) end, function() k = 5 end
  end,
  ["method"] = function()
    local P = {}
    P.__index = P
    function P.go(_, x) return x * 2 end
    local o = setmetatable({}, P)
    return function(x) return o:go(x) end, function() function P.go(_, x) return x * 11 end end
  end,
  ["metamethod"] = function()
    local P = { __call = function(_, x) return x * 2 end }
    local o = setmetatable({}, P)
    return function(x) return o(x) end, function() P.__call = function(_, x) return x * 3 end end
  end,
  ["metatable"] = function()
    local o = setmetatable({}, { __index = { k = 2 } })
    return function(x) return x * o.k end, function() setmetatable(o, { __index = { k = 3 } }) end
  end,
  ["class of a module"] = function()
    local Own = nn.module("Own", function() end)
    function Own.forward(_, x) return x * 2 end
    local net = Own()
    return function(x) return net(x) end, function() function Own.forward(_, x) return x * 3 end end
  end,
  ["class of the library"] = function()
    local net, forward = nn.Sequential { nn.ReLU() }, nn.ReLU.forward
    return function(x) return net(x) end, function() nn.ReLU.forward = function(_, x) return x * 3 end end,
      function() nn.ReLU.forward = forward end
  end,
  ["function of the library"] = function()
    local before = nb.relu
    return function(x) return nb.relu(x) end, function() nb.relu = function(x) return x * 3 end end,
      function() nb.relu = before end
  end,
  ["function of Lua's"] = function()
    local before = math.sqrt
    return function(x) return x * math.sqrt(4) end,
      function() math.sqrt = function() return 5 end end,  -- luacheck: ignore 122
      function() math.sqrt = before end  -- luacheck: ignore 122
  end,
  ["table among the arguments"] = function()
    local o = { k = 2 }
    return function(x, t) return x * t.k end, function() o.k = 5 end, nil, o
  end,
  ["compiled function inside"] = function()
    local o = { k = 2 }
    local inner = nb.compile(function(x) return x * o.k end)
    return function(x) return inner(x) end, function() o.k = 5 end
  end,
  ["net that was compiled itself"] = function()
    local net = nn.Sequential { nn.Linear(3, 2), nn.Tanh() }
    for _, p in ipairs(net:parameters()) do p.requires_grad = false end
    return net, function() net[1].weight = nb.ones(2, 3) end
  end,
  ["callable inside a compiled one"] = function()
    local o = setmetatable({ k = 2 }, { __call = function(self, x) return x * self.k end })
    local inner, plain = nb.compile(nb.compile(o)), nb.compile(nb.exp)
    return function(x) return plain(inner(x)) end, function() o.k = 3 end
  end,
  ["gradient mode"] = function()
    local w = nb.ones(3, { requires_grad = true })
    return function(x)
      w.grad = nil
      local J = (x * w):sum()
      if nb.grad_enabled() then J:backward() end
      return w.grad or nb.zeros(3)
    end, function() nb.set_grad_enabled(false) end, function() nb.set_grad_enabled(true) end
  end,
  ["flag of a parameter"] = function()
    local w, v = nb.ones(3, { requires_grad = true }), nb.ones(3, { requires_grad = true })
    return function(x)
      w.grad, v.grad = nil, nil
      (x * w * v):sum():backward()
      return w.grad or nb.zeros(3), v.grad
    end, function() w.requires_grad = false end, function() w.requires_grad = true end
  end,
  ["flag of what was constant"] = function()
    local w, v = nb.ones(3), nb.ones(3, { requires_grad = true })
    return function(x)
      w.grad, v.grad = nil, nil
      (x * w * v):sum():backward()
      return w.grad or nb.zeros(3), v.grad
    end, function() w.requires_grad = true end, function() w.requires_grad = false end
  end,
  ["hook of a parameter"] = function()
    local w = nb.ones(3, { requires_grad = true })
    local handle
    return function(x)
      w.grad = nil
      (x * w):sum():backward()
      return w.grad
    end, function() handle = w:register_hook(function(g) return g * 2 end) end, function() handle:remove() end
  end,
  ["bias that goes"] = function()
    local net = nn.Linear(3, 2)
    return function(x) return nb.no_grad(net, x) end, function() net.bias = nil end
  end,
  ["layer"] = function()
    local net = nn.Sequential { nn.Linear(3, 2), nn.Tanh() }
    return function(x) return nb.no_grad(net, x) end, function() net[2] = nn.Sigmoid() end
  end,
  ["forward hook"] = function()
    local net = nn.Sequential { nn.Linear(3, 2), nn.Tanh() }
    return function(x) return nb.no_grad(net, x) end,
      function() net[1]:register_forward_hook(function(_, _, y) return y * 2 end) end
  end,
  ["second forward hook, and its upvalue"] = function()
    local net, k = nn.Sequential { nn.Linear(3, 2), nn.Tanh() }, 2
    net[1]:register_forward_hook(function(_, _, y) return y * k end)
    return function(x) return nb.no_grad(net, x) end, function() k = 3 end
  end,
  ["forward hook removed"] = function()
    local net = nn.Sequential { nn.Linear(3, 2), nn.Tanh() }
    net[1]:register_forward_hook(function(_, _, y) return y end)
    local handle = net[1]:register_forward_hook(function(_, _, y) return y * 2 end)
    return function(x) return nb.no_grad(net, x) end, function() handle:remove() end
  end,
  ["mode of a net"] = function()
    local net = nn.BatchNorm1d(3)
    net:eval()
    return function(x) return nb.no_grad(net, x:view(1, 3):expand(4, 3) * nb.tensor { { 1 }, { 2 }, { 3 }, { 4 } }) end,
      function() net:train() end
  end,
  ["mode of one layer"] = function()
    local net = nn.Sequential { nn.Linear(3, 3), nn.BatchNorm1d(3) }
    net:eval()
    return function(x) return nb.no_grad(net, x:view(1, 3):expand(4, 3) * nb.tensor { { 1 }, { 2 }, { 3 }, { 4 } }) end,
      function() net[2].training = true end
  end,
}

-- Reading files and names of tensors is refused.
function T.test_what_may_change_unseen_is_refused()
  local path = os.tmpname()
  local f <close> = assert(io.open(path, "w"))
  f:write("a,b\n1,2\n3,4\n")
  f:flush()
  local w = nb.ones(2, { name = "w" })
  assert_refused({ "reads or writes files" }, function(x) return x * nb.data.csv(path).columns.a end, nb.ones(2))
  assert_refused({ "name of a tensor" }, function(x) return x * (w.name == "w" and 2 or 3) end, nb.ones(2))
  os.remove(path)
end

local function without_globals()
  return setmetatable({}, { __close = function()
    for _, name in ipairs { "k", "f", "t" } do _G["nablua_test_" .. name] = nil end
  end })
end

local function values(...)
  local list = table.pack(...)
  for i = 1, list.n do list[i] = nb.is_tensor(list[i]) and list[i]:totable() or list[i] end
  return list
end

-- What the function gives after the change is what it gives as it is; and it is replayed again soon.
function T.test_whatever_it_finds_outside_may_change()
  local _ <close> = without_globals()
  for name, make in pairs(outside) do
    local said = silently(function()
      local f, change, back, more = make()
      local compiled = nb.compile(f)
      local x = nb.tensor { 1, 2, 3 }
      for _ = 1, 5 do compiled(x, more) end
      lu.assertStrContains(tostring(compiled), "2 replays", false, name)
      local before = values(f(x, more))
      local _ <close> = setmetatable({}, { __close = back or function() end })
      change()
      local want, have = values(f(x, more)), values(compiled(x, more))
      lu.assertNotEquals(want, before, name .. ": the case must change something")
      lu.assertEquals(have, want, name)
      for _ = 1, 4 do lu.assertEquals(values(compiled(x, more)), want, name) end
      if not name:match("^hook") then lu.assertStrContains(tostring(compiled), "5 replays", false, name) end
    end)
    if not name:match("^hook") then lu.assertEquals(said, "", name) end
  end
end

-- Every tensor that a module of any layer holds may be replaced, and all be converted.
function T.test_what_layers_hold_may_be_replaced()
  local count = 0
  for i, case in ipairs(nets) do
    nb.seed(i)
    local net, x = case[1](), case[2]()
    net:eval()
    local function f(a)
      local y = nb.no_grad(net, a)
      return y
    end
    local compiled = nb.compile(f)
    for _ = 1, 4 do compiled(x) end
    lu.assertStrContains(tostring(compiled), "1 replays", false, "net " .. i)
    for path, m in net:named_modules() do
      for key, value in pairs(m) do
        if nb.is_tensor(value) and nb.no_grad(function() return value.dtype == "f32" end) then
          local new = value:detach():clone():mul_(1.5):add_(0.25)
          new.requires_grad = value.requires_grad
          m[key] = new
          numeric.assert_close(compiled(x), f(x), 1e-6)
          for _ = 1, 2 do compiled(x) end
          numeric.assert_close(compiled(x), f(x), 1e-6)
          count = count + 1
          lu.assertStrContains(tostring(compiled), "replays", false, ("net %d, %s.%s"):format(i, path, key))
          compiled = nb.compile(f)
          for _ = 1, 4 do compiled(x) end
        end
      end
    end
    if x.dtype == "f32" then
      net:to("f64")
      local ok, want = pcall(f, x)
      local same, have = pcall(compiled, x)
      lu.assertEquals(same, ok, "net " .. i)
      if ok then lu.assertEquals(have.dtype, want.dtype) end
    end
  end
  lu.assertTrue(count > 90, count)
end

function T.test_modes_keep_a_plan_each()
  local net = nn.Sequential { nn.Linear(3, 3), nn.Dropout(0.5) }
  local f = nb.compile(function(x) return nb.no_grad(net, x) end)
  for epoch = 1, 12 do
    net:train(epoch % 2 == 0)
    for _ = 1, 5 do f(nb.ones(3)) end
  end
  lu.assertStrContains(tostring(f), "55 replays")
end

-- ---- what a replay would leave out ----

-- Functions of Lua's libraries that only look or compute.
local looking = { io = { type = true }, os = { difftime = true },
  debug = { debug = true, traceback = true, getinfo = true, gethook = true, getmetatable = true } }

-- Called through another name, wrongly, within pcall: it is the call that counts.
function T.test_no_doing_of_lua_is_replayed()
  local functions = { print = print, warn = warn, dofile = dofile, loadfile = loadfile,
    ["math.random"] = math.random, ["math.randomseed"] = math.randomseed, ["nb.sleep"] = nb.sleep,
    ["nb.memory"] = nb.memory, ["nb.threads"] = nb.threads }
  for library, harmless in pairs(looking) do
    for name, f in pairs(package.loaded[library]) do
      if type(f) == "function" and not harmless[name] then functions[library .. "." .. name] = f end
    end
  end
  for name, f in pairs(debug.getmetatable(io.stdout).__index) do
    if type(f) == "function" then functions["file:" .. name] = f end
  end
  local count = 0
  for name, alias in pairs(functions) do
    local argument = name == "print" and "" or setmetatable({}, { __name = "bad" })
    local ways = {
      function(x) pcall(alias, argument) return x + 1 end,
      function(x)
        local co = coroutine.wrap(function() coroutine.yield() pcall(alias, argument) end)
        co() co()
        return x + 1
      end,
    }
    for _, f in ipairs(ways) do
      local compiled = nb.compile(f)
      local said = silently(function() for _ = 1, 3 do compiled(nb.ones(2)) end end)
      lu.assertStrContains(said, "goes on as it is", false, name)
      lu.assertStrContains(tostring(compiled), "runs as it is", false, name)
      count = count + 1
    end
  end
  math.randomseed(1)
  lu.assertTrue(count > 90, count)
  for _, line in ipairs { "print", "io.stderr:write", "os.date", "os.getenv" } do
    local f = load("local f = ... return function(x) " .. (line == "io.stderr:write" and "io.stdout:write('')" or
      "local g = " .. line .. " g('')") .. " return x + 1 end")()
    local compiled = nb.compile(f)
    lu.assertStrContains(silently(function() for _ = 1, 3 do compiled(nb.ones(2)) end end), "goes on as it is")
  end
end

function T.test_results_may_lie_in_arguments()
  local functions = {
    function(x) return x end, function(x) return x:view(4), x + 1 end, function(x) return x:detach()[2] end,
    function(x) return x:transpose(1, 2), x end,
  }
  for i, f in ipairs(functions) do
    local compiled = nb.compile(f)
    for k = 1, 6 do
      local x = nb.tensor { { 1, 2 }, { 3, k } }
      lu.assertEquals(values(compiled(x)), values(f(x)), ("function %d, call %d"):format(i, k))
    end
    lu.assertStrContains(tostring(compiled), "3 replays")
  end
end

function T.test_what_only_looks_is_replayed()
  local x = nb.ones(4, 2)
  local function f(a)
    local m = require "string"
    collectgarbage("step")
    local co = coroutine.wrap(function() coroutine.yield(2) end)
    local parts = { m.format("%d", a:size(1)), tostring(a:dim()), table.concat({ 1, 2 }) }
    table.sort(parts)
    return a:sum() / a:numel() * a:dim() * #a.shape * co() * #parts * math.floor(2.5) * utf8.len("aé")
  end
  local compiled = nb.compile(f)
  for _ = 1, 5 do lu.assertEquals(compiled(x):item(), f(x):item()) end
  lu.assertStrContains(tostring(compiled), "2 replays")
end

function T.test_coroutines_from_outside_are_refused()
  local made = coroutine.create(function() while true do coroutine.yield(1) end end)
  local wrapped = coroutine.wrap(function() while true do coroutine.yield(1) end end)
  assert_refused({ "made outside" }, function(x) coroutine.resume(made) return x + 1 end, nb.ones(2))
  assert_refused({ "made outside" }, function(x) return x + wrapped() end, nb.ones(2))
end

function T.test_writes_to_what_was_there_are_refused()
  local losses, n, o = {}, 0, { inner = { n = 0 } }
  local net = nn.Linear(2, 2)
  local _ <close> = without_globals()
  _G.nablua_test_k = 0
  local ways = {
    ["losses%["] = function(x) losses[#losses + 1] = x:sum() return x + 1 end,
    ["to n,"] = function(x) n = n + 1 return x + 1 end,
    ["o%.inner%.n"] = function(x) o.inner.n = o.inner.n + 1 return x + 1 end,
    ["nablua_test_k"] = function(x) nablua_test_k = nablua_test_k + 1 return x + 1 end,  -- luacheck: ignore 111 112 113
    ["net%.h"] = function(x) net.h = x:sum() return nb.no_grad(net, x) end,
  }
  for words, f in pairs(ways) do
    local compiled, calls = nb.compile(f), 0
    local said = silently(function()
      for _ = 1, 8 do compiled(nb.ones(2)) calls = calls + 1 end
    end)
    lu.assertTrue(said:match(words) ~= nil, words .. ": " .. said)
    lu.assertStrContains(said, "copy_")
  end
  lu.assertEquals({ #losses, n, o.inner.n, _G.nablua_test_k }, { 8, 8, 8, 8 })
end

function T.test_what_cannot_be_watched_is_refused()
  local big = {}
  for i = 1, 5000 do big[i] = i end
  assert_refused({ "big has too many fields" }, function(x) return x * big[1] end, nb.ones(2))
  assert_refused({ "gradients switched" }, function(x) nb.set_grad_enabled(not nb.grad_enabled()) return x + 1 end,
    nb.ones(2))
  nb.set_grad_enabled(true)
  local k = 0
  local compiled = nb.compile(function(x) return x * k end)
  local said = silently(function() for i = 1, 60 do k = i lu.assertEquals(compiled(nb.ones(1)):item(), i) end end)
  lu.assertStrContains(said, "k changes from call to call")
end

return T
