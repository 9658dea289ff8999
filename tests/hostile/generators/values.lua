-- SPDX-License-Identifier: MIT
-- Values that no function expects: values.make(name) makes one afresh, values.names lists them.
local nb = require "nablua"
local native = require "nablua.native"
local nn, optim = nb.nn, nb.optim

local values = { names = {} }
local made = {}

local function add(name, make)
  made[name] = make
  values.names[#values.names + 1] = name
end

local function plain(name, value)
  add(name, function() return value end)
end

add("nil", function() return nil end)
plain("true", true)
plain("false", false)
for _, n in ipairs { 0, 1, 2, 3, -1, -2, 0.5, -0.0, 1e300, -1e300, 1 / 0, -1 / 0, 0 / 0, math.mininteger,
  math.maxinteger, math.mininteger + 1, 2 ^ 31, -(1 << 31), 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 53) + 1, 1 << 62,
  100, 256,
  65536 } do
  plain(("number %s"):format(n), n)
end
for _, text in ipairs { "", "a\0b", "\27[31mred\27[0m\27]0;x\7", "f32", "i64", "bool", "mean", "none", "\xff\xfe",
  "%s%n%99999d", "x.npy", "no/such/file.safetensors", "1", "weight", ("long "):rep(20000) } do
  plain(("text %q"):format(text:sub(1, 12)):gsub("\n", " "), text)
end

add("{}", function() return {} end)
add("list of numbers", function() return { 1, 2, 3 } end)
add("list of sizes", function() return { 2, 3 } end)
add("list of huge sizes", function() return { math.maxinteger, 2, math.maxinteger } end)
add("list of negative sizes", function() return { -1, math.mininteger } end)
add("long list", function() local t = {} for i = 1, 3000 do t[i] = i end return t end)
add("nested lists", function() return { { 1, 2 }, { 3, 4 } } end)
add("ragged lists", function() return { { 1, 2 }, { 3 }, 4 } end)
add("list with a hole", function() return { 1, nil, 3, nil, 5 } end)
add("list of tensors", function() return { nb.ones(2, 3), nb.ones(2, 3) } end)
add("list of odd tensors", function() return { nb.ones(2), nb.zeros(0, 3), nb.ones(1, 1, 1):sum(), 3, "x" } end)
add("cyclic table", function() local t = { 1 } t[2], t.self = t, t return t end)
add("cyclic deep", function() local t = {} local s = t for _ = 1, 300 do s[1] = {} s = s[1] end s[1] = t return t end)
add("options", function() return { dtype = "f64", requires_grad = true, keepdim = true, dim = -1 } end)
add("wrong options", function() return { [1] = 2, dim = "x", [true] = false, dtype = 3, retain_graph = "yes" } end)

local events = { "__index", "__newindex", "__len", "__pairs", "__eq", "__lt", "__tostring", "__call", "__name", "__unm",
  "__add", "__mul", "__concat", "__close" }
local function with(handler)
  local meta = {}
  for _, event in ipairs(events) do meta[event] = handler end
  return setmetatable({}, meta)
end
add("raising table", function() return with(function() error({ "raised" }) end) end)
add("yielding table", function() return with(function() return coroutine.yield(1) end) end)
add("table that says numbers", function() return with(function() return 3 end) end)
add("table that collects", function() return with(function() collectgarbage() return nil end) end)
add("table with huge length", function() return setmetatable({}, { __len = function() return 1 << 40 end }) end)
add("finalized", function() return setmetatable({ 1, 2 }, { __gc = function(t) t[1] = nb.ones(2):sum() end }) end)

add("function", function() return function(...) return ... end end)
add("function that gives nothing", function() return function() end end)
add("function that raises", function() return function() error("raised") end end)
add("function that yields", function() return function(x) coroutine.yield(x) return x end end)
add("function of tensors", function() return function(x) return x * 2 end end)
plain("C function", math.abs)
add("coroutine", function() return coroutine.create(function() end) end)
add("dead coroutine", function() local co = coroutine.create(error) coroutine.resume(co) return co end)
add("file", function() return io.tmpfile() end)
add("closed file", function() local f = io.tmpfile() f:close() return f end)
plain("nb.ALL", nb.ALL)
plain("nb.NEW", nb.NEW)

for _, dtype in ipairs { "f32", "f64", "i64", "u8", "bool" } do
  add(dtype .. " matrix", function() return nb.ones(2, 3):to(dtype) end)
  add(dtype .. " scalar", function() return nb.ones(1):sum():to(dtype) end)
  add(dtype .. " empty", function() return nb.zeros(0):to(dtype) end)
  add(dtype .. " views", function()
    return nb.arange(1, 24):to(dtype):reshape(2, 3, 4):transpose(1, 3)[{ { 2, 4, 2 } }]
  end)
end
add("bare scalar", function() return nb.compile(function(x) return x:sum() end)(nb.ones(2)) end)
add("empty cube", function() return nb.zeros(2, 0, 3) end)
add("eight dimensions", function() return nb.ones(1, 2, 1, 2, 1, 2, 1, 2) end)
add("expanded", function() return nb.ones(1):expand(2, 3) end)
add("expanded far", function() return nb.ones(1, 1):expand(1 << 10, 1 << 11) end)
add("vector", function() return nb.randn(5) end)
add("cube", function() return nb.randn(2, 3, 4) end)
add("f64 quad", function() return nb.randn(2, 2, 3, 4, { dtype = "f64" }) end)
add("square", function() return nb.randn(3, 3) end)
add("images", function() return nb.randn(2, 1, 6, 6) end)
add("wide", function() return nb.ones(1, 70000) end)
add("odd numbers", function() return nb.tensor { 0 / 0, 1 / 0, -1 / 0, -0.0, 1e38, -1e-45 } end)
add("far indices", function() return nb.tensor({ 1 << 40, -5, 0, math.mininteger }, { dtype = "i64" }) end)
add("indices", function() return nb.tensor({ 1, 2 }, { dtype = "i64" }) end)
add("leaf", function() return nb.ones(2, 3, { requires_grad = true, name = "w\0\27[1m" }) end)
add("f64 leaf", function() return nb.ones(3, { dtype = "f64", requires_grad = true }) end)
add("tracked", function() return nb.ones(2, 3, { requires_grad = true }) * 2 end)
add("tracked scalar", function() return (nb.ones(2, 3, { requires_grad = true }) * 2):sum() end)
add("freed", function()
  local J = (nb.ones(2, 3, { requires_grad = true }) ^ 2):sum()
  J:backward()
  return J
end)
add("view of a leaf", function() return nb.ones(2, 3, { requires_grad = true })[1] end)
add("hook", function() return nb.ones(2, { requires_grad = true }):register_hook(function(g) return g end) end)
add("tape node", function() return native.tape((nb.ones(2, { requires_grad = true }) * 2):sum())[1].node end)
add("compiled", function() return nb.compile(function(x) return x * 2 end) end)

add("net", function() return nn.Linear(3, 2) end)
add("deep net", function() return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) end)
add("convolution", function() return nn.Conv2d(1, 2, 3) end)
add("norm", function() return nn.BatchNorm1d(3) end)
add("recurrent", function() return nn.LSTM(3, 2) end)
add("activation", function() return nn.ReLU() end)
add("optimizer", function() return optim.SGD(nn.Linear(3, 2):parameters(), { lr = 0.1 }) end)
add("adam", function() return optim.Adam(nn.Linear(3, 2):parameters()) end)
add("schedule", function()
  return optim.StepLR(optim.SGD(nn.Linear(3, 2):parameters(), { lr = 0.1 }), { step_size = 1 })
end)
add("state", function() return nn.Linear(3, 2):state() end)
plain("nb", nb)
plain("nn", nn)
plain("strings' metatable", getmetatable "")
add("a tensor's metatable", function() return debug.getmetatable(nb.ones(2)) end)

function values.make(name)
  return made[name]()
end

return values
