-- SPDX-License-Identifier: MIT
-- Functions of Lua's library that the session has its own of: the same lines run in a stock lua5.4.
local lu = require "luaunit"

local T = {}

local function closing(f)
  return setmetatable({}, { __close = f })
end

function T.test_wrap_keeps_the_error_value()
  local value = { code = 2 }
  local ok, got = pcall(coroutine.wrap(function() error(value) end))
  lu.assertFalse(ok)
  lu.assertIs(got, value)
end

function T.test_wrap_gives_the_error_of_a_close_handler()
  local f = coroutine.wrap(function()
    local _ <close> = closing(function(_, e) error("second, after " .. tostring(e), 0) end)
    local _ <close> = closing(function() error("first", 0) end)
    coroutine.yield(1)
    error "never seen"
  end)
  lu.assertEquals(f(), 1)
  local ok, message = pcall(f)
  lu.assertFalse(ok)
  lu.assertStrContains(message, "second, after first")
end

function T.test_a_coroutine_that_died_is_dead()
  local f = coroutine.wrap(function() error "x" end)
  pcall(f)
  local _, message = pcall(f)
  lu.assertStrContains(message, "cannot resume dead coroutine")
end

function T.test_wrap_says_where_it_was_called()
  local ok, message = pcall(function() coroutine.wrap(function() error("bare", 0) end)() end)
  lu.assertFalse(ok)
  lu.assertStrMatches(message, ".*test_standard%.lua:%d+: bare")
end

function T.test_resume_gives_values_and_errors()
  local co = coroutine.create(function(a, b)
    local c = coroutine.yield(a + b, nil)
    error({ c })
  end)
  lu.assertEquals(table.pack(coroutine.resume(co, 1, 2)), { true, 3, nil, n = 3 })
  local ok, value = coroutine.resume(co, "c")
  lu.assertEquals({ ok, value }, { false, { "c" } })
  lu.assertEquals({ coroutine.resume(co) }, { false, "cannot resume dead coroutine" })
  lu.assertErrorMsgContains("bad argument #1 to 'coroutine.resume'", coroutine.resume, 5)
end

function T.test_protected_calls()
  lu.assertEquals(table.pack(pcall(function(...) return ... end, 1, nil)), { true, 1, nil, n = 3 })
  lu.assertEquals({ pcall(error, "x", 0) }, { false, "x" })
  lu.assertEquals(table.pack(xpcall(function(...) return ... end, print, 1, nil)), { true, 1, nil, n = 3 })
  lu.assertEquals({ xpcall(error, function(m) return m .. "!" end, "x", 0) }, { false, "x!" })
  lu.assertErrorMsgContains("bad argument #1 to 'pcall' (value expected)", pcall)
  lu.assertErrorMsgContains("bad argument #2 to 'xpcall' (function expected", xpcall, print)
  local f = coroutine.wrap(function() return pcall(function() return coroutine.yield(1) end) end)
  lu.assertEquals(f(), 1)
  lu.assertEquals({ f(2) }, { true, 2 })
  f = coroutine.wrap(function() return pcall(function() error(coroutine.yield(1), 0) end) end)
  f()
  lu.assertEquals({ f "y" }, { false, "y" })
end

-- What a traceback and an error call the functions.
function T.test_names_of_functions()
  local name
  pcall(function() local _ <close> = closing(function() name = debug.getinfo(2, "n").name end) error "x" end)
  lu.assertEquals(name, "pcall")
  lu.assertErrorMsgContains("'sort'", function() table.sort() end)
  lu.assertErrorMsgContains("'table.sort'", function() table.sort({ 1, 2, 3 }, table.sort) end)
end

-- A hook is told of the program's calls, once each, whatever a function does within.
function T.test_what_a_hook_sees()
  local null = "/dev/null"
  local calls = {
    ["coroutine.close"] = { coroutine.create(print) }, ["coroutine.create"] = { print }, ["coroutine.running"] = {},
    ["coroutine.status"] = { coroutine.create(print) }, ["coroutine.wrap"] = { print }, ["debug.gethook"] = {},
    ["debug.getinfo"] = { 1 }, ["debug.traceback"] = {}, ["io.lines"] = { null }, ["io.open"] = { null },
    ["io.type"] = { 1 }, ["io.write"] = { "" }, ["os.execute"] = { "true" }, ["os.getenv"] = { "HOME" },
    ["string.find"] = { "abc", "(b)" }, ["string.gsub"] = { "abc", "b", "c" }, ["string.match"] = { "abc", "b+" },
    ["string.rep"] = { "a", 3 }, ["table.concat"] = { { 1, 2 } }, ["table.sort"] = { { 3, 1, 2 } },
    collectgarbage = { "count" }, load = { "return 1" }, loadfile = { null }, next = { {} }, print = { "" },
    require = { "string" }, tostring = { 1 }, type = { 1 },
  }
  for name, arguments in pairs(calls) do
    local library, field = name:match "(.*)%.(.*)"
    local f = library and _G[library][field] or _G[name]
    local seen = {}
    debug.sethook(function(event) seen[#seen + 1] = event .. " " .. tostring(debug.getinfo(2, "n").name) end, "cr")
    f(table.unpack(arguments))
    debug.sethook()
    lu.assertEquals(seen, { "return sethook", "call unpack", "return unpack", "call f", "return f", "call sethook" },
      name)
  end
  local count = 0
  debug.sethook(function() count = count + 1 end, "c")
  dofile(null)
  debug.sethook()
  lu.assertEquals(count, 3)  -- of dofile, the file and sethook
end

function T.test_hooks_of_other_coroutines()
  local seen, hook = {}
  local co = coroutine.create(function() coroutine.yield(debug.gethook()) return type(1) end)
  function hook(event) seen[#seen + 1] = event end
  lu.assertEquals({ debug.gethook(co) }, { nil })
  debug.sethook(co, hook, "c", 5)
  lu.assertEquals({ debug.gethook(co) }, { hook, "c", 5 })
  lu.assertEquals({ coroutine.resume(co) }, { true, hook, "c", 5 })
  debug.sethook(co)
  local before = #seen
  coroutine.resume(co)
  lu.assertEquals(#seen, before)
  lu.assertTrue(before > 1)
end

function T.test_where_the_wrong_arguments_of_debug_are()
  local co = coroutine.create(print)
  for _, case in ipairs {
    { "#1 to 'getinfo' (number expected, got string)", function() debug.getinfo "x" end },
    { "#2 to 'getinfo' (number expected, got no value)", function() debug.getinfo(co) end },
    { "#2 to 'getinfo' (invalid option)", function() debug.getinfo(1, "?") end },
    { "#3 to 'getinfo' (invalid option '>')", function() debug.getinfo(co, 1, ">") end },
    { "#2 to 'sethook' (string expected, got no value)", function() debug.sethook(print) end },
    { "#2 to 'sethook' (function expected, got number)", function() debug.sethook(co, 1, "c") end },
    { "#3 to 'sethook' (number expected, got table)", function() debug.sethook(print, "c", {}) end },
  } do
    local _, message = pcall(case[2])
    lu.assertStrMatches(message, ".*test_standard%.lua:%d+: bad argument .*")
    lu.assertStrContains(message, case[1])
  end
end

local function counts_of(t)
  local counts = {}
  for _, v in ipairs(t) do counts[v] = (counts[v] or 0) + 1 end
  return counts
end

function T.test_sorting()
  math.randomseed(3)
  local function more(a, b) return a > b end
  for n = 0, 200 do
    local t = {}
    for i = 1, n do t[i] = math.random(n) end
    local before = counts_of(t)
    table.sort(t, more)
    for i = 2, n do lu.assertFalse(t[i] > t[i - 1]) end
    lu.assertEquals(counts_of(t), before)
    table.sort(t)
    for i = 2, n do lu.assertFalse(t[i] < t[i - 1]) end
  end
  for _, n in ipairs { 30000, 101 } do  -- above and below the length from which plain numbers are sorted apart
    local t = {}
    for _, of in ipairs { function(i) return i end, function(i) return i + 0.5 end } do
      for i = 1, n do t[i] = of(i * 7919 % n) end
      table.sort(t)
      for i = 1, n do assert(t[i] == of(i - 1)) end
    end
    for i = 1, n do t[i] = i % 7 == 0 and i + 0.5 or n - i end
    table.sort(t)
    for i = 2, n do assert(t[i - 1] <= t[i]) end
    for i = 1, n do t[i] = ("%d"):format(i * 7919 % n) end
    table.sort(t)
    for i = 2, n do assert(t[i - 1] <= t[i]) end
  end
  local sorted = { 1, 2, 3, 4, 5 }
  lu.assertErrorMsgContains("invalid order function", table.sort, sorted, function() return true end)
  lu.assertErrorMsgContains("attempt to compare", table.sort, { 1, "x" })
  lu.assertErrorMsgContains("too big", table.sort, setmetatable({}, { __len = function() return math.maxinteger end }))
end

function T.test_sorting_through_metamethods()
  local list, log = { 3, 1, 2 }, {}
  local proxy = setmetatable({}, { __len = function() return 3 end, __index = function(_, i) return list[i] end,
    __newindex = function(_, i, v) log[#log + 1] = i list[i] = v end })
  table.sort(proxy)
  lu.assertEquals(list, { 1, 2, 3 })
  lu.assertNotEquals(log, {})
end

function T.test_strings_that_would_be_too_long()
  lu.assertErrorMsgContains("resulting string too large", string.rep, "aa", 1 << 30)
  lu.assertErrorMsgContains("resulting string too large", string.rep, "a", 1 << 30, ",")
end

return T
