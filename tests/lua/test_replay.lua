-- SPDX-License-Identifier: MIT
-- What nb.compile replays is never stale: whatever a function finds outside may change, what it does beside computing
-- is refused, and plans are bounded.
local lu = require "luaunit"
local nb = require "nablua"
local compiling = require "compiling"
local numeric = require "numeric"
local native = require "nablua.native"
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

-- ---- bounds ----

function T.test_plans_are_bounded()
  local f = nb.compile(function(x) return (x * 2 + 1):tanh():sum() end)
  local function run(from, to)
    for n = from, to do
      local x = nb.ones(n * 10)
      for _ = 1, 4 do f(x) end
    end
    collectgarbage()
    collectgarbage()
    return nb.memory().live
  end
  run(1, 200)
  local before = run(901, 1000)
  lu.assertTrue(run(1, 1000) <= before * 1.1, "1,000 shapes")
  local _, entries = tostring(f):gsub("\n%(", "")
  lu.assertTrue(entries <= 64, entries)
  local long = nb.compile(function(x) local y = x for _ = 1, 5 do y = y:matmul(x):tanh() end return y end)
  local most = 0
  for n = 1, 600 do
    local x = nb.ones(n % 100 + 1, n % 100 + 1)
    for _ = 1, 3 do long(x) end
    if n == 200 then most = nb.memory().live end
  end
  collectgarbage()
  lu.assertTrue(nb.memory().live <= most * 1.3 + 1e6)
end

function T.test_plans_give_way_before_memory_ends()
  local limit = nb.memory().limit
  local _ <close> = setmetatable({}, { __close = function() nb.memory { limit = limit } end })
  collectgarbage()
  collectgarbage()
  local base = nb.memory().live
  nb.memory { limit = base + 40e6 }
  local f = nb.compile(function(x) return (x:matmul(x) + x):matmul(x):sum() end)
  for n = 300, 330 do
    local x = nb.ones(n, n)
    for _ = 1, 4 do f(x) end
  end
  collectgarbage()
  collectgarbage()
  lu.assertTrue(nb.memory().live - base <= nb.memory().limit / 4 + 3e6, nb.memory().live - base)
  local all = nb.zeros(8000000)  -- 32 MB: no room for plans
  lu.assertEquals(all:numel(), 8000000)
  all = nil  -- luacheck: ignore 311
  collectgarbage()
  lu.assertEquals(f(nb.ones(300, 300)):item(), f(nb.ones(300, 300)):item())
end

function T.test_memory_of_recordings_is_that_of_training()
  local function peaks(wrap)
    nb.seed(1)
    local layers = { nn.Embedding(500, 64) }
    for i = 2, 4 do layers[i] = nn.TransformerEncoderLayer(64, 4, { dim_feedforward = 256 }) end
    layers[5] = nn.Linear(64, 500)
    local net = nn.Sequential(layers)
    local opt = optim.SGD(net:parameters(), { lr = 0.01 })
    local x, y = nb.randint(1, 500, 8, 64), nb.randint(1, 500, 8 * 64)
    local f = wrap(function(a, b)
      opt:zero_grad()
      local J = nn.cross_entropy(net(a):view(8 * 64, 500), b)
      J:backward()
      opt:step()
      return J
    end)
    collectgarbage()
    collectgarbage()
    local base = nb.memory().live
    nb.memory { reset_peak = true }
    for _ = 1, 6 do f(x, y) end
    return nb.memory().peak - base
  end
  local eager = peaks(function(f) return f end)
  local compiled = peaks(nb.compile)
  lu.assertTrue(compiled <= 1.1 * eager, ("%.3g MB against %.3g"):format(compiled / 1e6, eager / 1e6))
end

-- What passes through a replay may lie where the gradients of the one before lay: a step that fails leaves none, as
-- one that has cleared them does; and whoever passes such a gradient as an argument gets what the function gives.
function T.test_gradients_lend_their_memory_between_steps()
  local function run(wrap)
    nb.seed(5)
    local net = nn.Sequential { nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 200) }
    local opt = optim.SGD(net:parameters(), { lr = 0.01, momentum = 0.9 })
    local f = wrap(function(x, y)
      opt:step()  -- with the gradients of the call before
      opt:zero_grad()
      local J = nn.cross_entropy(net(x), y)
      J:backward()
      return J
    end)
    local out = {}
    local x, y = nb.rand(200, 200), nb.randint(1, 200, 200)
    for i = 1, 7 do
      out[i] = f(x, y):item()
      if i == 5 then x = net:parameters()[1].grad end
      if i == 6 then x = nb.rand(200, 200) end
    end
    y[7] = 1000
    lu.assertFalse(pcall(f, x, y))
    for _, p in ipairs(net:parameters()) do lu.assertNil(p.grad) end
    y[7] = 1
    for i = 8, 12 do out[i] = f(x, y):item() end
    return nb.tensor(out), f
  end
  local want = run(function(f) return f end)
  local have, f = run(nb.compile)
  numeric.assert_close(have, want, 1e-5)
  lu.assertNotStrContains(tostring(f), " 0 replays")
end

-- An optimizer moves what has a gradient now, whatever had one when it was recorded.
function T.test_gradients_from_before_come_and_go()
  local function run(wrap)
    local a, b = nb.ones(3, { requires_grad = true }), nb.ones(3, { requires_grad = true })
    local opt = optim.SGD({ a, b }, { lr = 0.1 })
    local only = wrap(function() opt:step() opt:zero_grad() end)
    local both = wrap(function(x)
      a.grad = nil
      (a * x):sum():backward()
      opt:step()
    end)
    local x = nb.tensor { 1, 2, 3 }
    for i = 1, 14 do
      if i ~= 8 and i ~= 9 then a.grad = x:clone() end
      if i > 9 then b.grad = x * 2 end
      only()
    end
    for i = 1, 14 do
      if i == 8 or i == 9 then b.grad = x * 3 elseif i > 9 then b.grad = nil end
      both(x * i)
    end
    return nb.cat { a:detach(), b:detach() }
  end
  local want = run(function(f) return f end)
  silently(function() numeric.assert_close(run(nb.compile), want, 1e-6) end)
end

function T.test_a_dropped_stepper_ends_nothing()
  local f = nb.compile(function(x) return (x * 2):sum() end)
  local x = nb.ones(3)
  for _ = 1, 4 do f(x) end
  local w = nb.ones(3, { requires_grad = true })
  local co = coroutine.create(function()
    nb.inspect.step(function()
      local J = (w * x):sum()
      coroutine.yield()
      return J
    end)
  end)
  coroutine.resume(co)
  local before = tostring(f):match("%d+ replays")
  f(x)
  lu.assertNotEquals(tostring(f):match("%d+ replays"), before)
  co = nil  -- luacheck: ignore 311
  collectgarbage()
  collectgarbage()
  lu.assertFalse(native.observed())
  local g = nb.compile(function(a) return a * 3 end)
  for _ = 1, 4 do g(x) end
  lu.assertStrContains(tostring(g), "1 replays")
end

local function assert_replays(what)
  local f, x = nb.compile(function(v) return v * 3 end), nb.ones(3)
  lu.assertFalse(native.recording(), what)
  for _ = 1, 5 do f(x) end
  lu.assertStrContains(tostring(f), "2 replays", false, what)
end

-- Stopped between any two instructions, as an interrupt does.
function T.test_a_recording_that_is_stopped_ends()
  local x, n, stopped = nb.ones(2), 0, true
  while stopped and n < 600 do
    local inside = false
    local f = nb.compile(function(v)
      inside = true
      return v * 2
    end)
    f(x)
    n, inside, stopped = n + 1, false, false
    local function stop()
      debug.sethook()
      if inside then return end
      stopped = true
      error("stopped", 0)
    end
    pcall(function()
      debug.sethook(stop, "", n)
      f(x)
    end)
    debug.sethook()
    lu.assertFalse(native.recording(), "stopped at instruction " .. n)
    lu.assertNil(native.recorded_steps)
  end
  assert_replays "after all"
end

function T.test_recordings_end_with_their_coroutines()
  local x = nb.ones(3)
  local ways = {
    ["yields and is dropped"] = function() coroutine.yield() end,
    ["yields and is kept"] = function() coroutine.yield() end,
    ["dies"] = function() error("mine", 0) end,
    ["yields and is closed"] = function() coroutine.yield() end,
  }
  for what, way in pairs(ways) do
    local said = silently(function()
      local entered, kept = false, {}
      local f = nb.compile(function(v)
        if entered then way() end
        return v * 2
      end)
      f(x)
      entered = true
      for k = 1, 3 do
        local co = coroutine.create(function(v) return f(v) end)
        coroutine.resume(co, x)
        assert_replays(what)
        if what:find("closed", 1, true) then coroutine.close(co) end
        if what:find("kept", 1, true) then kept[k] = co end
      end
      for _, co in ipairs(kept) do
        local ok, y = coroutine.resume(co)
        lu.assertEquals({ ok, y:totable() }, { true, { 2, 2, 2 } })
      end
      assert_replays(what)
    end)
    if what:find("kept", 1, true) then lu.assertStrContains(said, "it yields while it is recorded") end
    lu.assertNil(native.recorded_steps)
  end
end

-- What a compiled function calls after another one that it has called is seen, too.
function T.test_calls_are_seen_around_another_compiled_function()
  local inner = nb.compile(function(x) return x * 2 end)
  local factor, hidden = { 3 }, {}
  debug.setmetatable(print, { __index = function(_, k) return hidden[k] end })
  local _ <close> = setmetatable({}, { __close = function() debug.setmetatable(print, nil) end })
  function hidden.scale(x) return x * factor[1] end
  local f = nb.compile(function(x) return inner(x) + (print).scale(x) end)  -- luacheck: ignore 143
  local x = nb.ones(2)
  silently(function()
    for _ = 1, 5 do f(x) end
    factor[1] = 10
    lu.assertEquals(f(x):totable(), { 12, 12 })
  end)
end

-- A compiled function that reaches itself, its net and its plans is collected with them.
function T.test_compiled_functions_that_hold_themselves_are_collected()
  collectgarbage()
  collectgarbage()
  local before = nb.memory().live
  for _ = 1, 20 do
    local o = { w = nb.ones(1000, 100, { requires_grad = true }) }
    function o.helper() return o end
    o.f = nb.compile(function(x) return (o.helper().w:detach() * x):sum() end)
    for _ = 1, 5 do o.f(nb.ones(1)) end
  end
  collectgarbage()
  collectgarbage()
  collectgarbage()
  lu.assertTrue(nb.memory().live - before < 500000, nb.memory().live - before)
end

return T
