-- SPDX-License-Identifier: MIT
-- Runs what a generator makes: programs as text, one after the other, in processes of their own.
--
--   nablua tests/hostile/generators/arguments.lua            some seconds with the fixed seed, as the tests do; with
--                                                            NABLUA_PROVE=1 ten minutes
--   SECONDS=600 SEED=7 nablua tests/hostile/generators/reentrant.lua
--   nablua tests/hostile/generators/reentrant.lua program FILE      one program again
--
-- A program may fail with any Lua error.  It fails the test when it ends the process, or the process does not end: then
-- the program and what the process said last are printed.
local driver = {}

local ROUND = 12       -- seconds that one process works, so that closing its state is tried too
local A_PROGRAM = 0.5  -- seconds for one program; what it calls back is stopped by a hook
local GRACE = 120      -- seconds for an operator that is under way, and for closing

local SECONDS = os.getenv "NABLUA_PROVE" and 600 or 20

local folder = arg[0]:match("^(.*)/") or "."

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function read(path)
  local file = io.open(path, "rb")
  if not file then return "" end
  local text = file:read("a")
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- Calls f so that Lua code of it, in coroutines too, ends soon.
local function bounded(f)
  local nb = require "nablua"
  local stop = os.clock() + A_PROGRAM
  local function look()
    if os.clock() > stop then error("it takes too long", 0) end
  end
  local library = _G.coroutine
  local create, wrap = library.create, library.wrap
  function library.create(g)
    local co = create(g)
    debug.sethook(co, look, "", 1000)
    return co
  end
  function library.wrap(g)
    return wrap(function(...)
      debug.sethook(look, "", 1000)
      return g(...)
    end)
  end
  debug.sethook(look, "", 1000)
  local ok, message = pcall(f)
  debug.sethook()
  library.create, library.wrap = create, wrap
  nb.set_grad_enabled(true)
  return ok, message
end

local function run(text)
  local nb = require "nablua"
  nb.memory { limit = 400e6 }
  local f = assert(load(text, "=program", "t"))
  return bounded(f)
end

-- Works on programs first, first + 1, ... for some seconds, each of them written down before it runs.
local function work(make, first, seconds, note, closing)
  local stop, n = os.time() + seconds, first
  local nb = require "nablua"
  local hostile, T = pcall(require, "nablua.T")
  if hostile then T.collect_every(0) end
  repeat
    math.randomseed(n)
    nb.seed(n)
    local text = ("-- program %d\n%s"):format(n, make(n))
    write(note, text)
    run(text)
    n = n + 1
  until os.time() >= stop
  write(note .. ".count", tostring(n - first))
  rawset(_G, "closing", closing)
  os.exit(0, true)
end

-- This interpreter, as it was called.
local function interpreter()
  return read("/proc/self/cmdline"):match("^[^%z]+")
end

-- What finalizers make while the state closes Lua frees without finalizing it, so leaks are looked for only where
-- programs are told not to make anything then.
local function start(arguments, limit, output, closing)
  local options = (os.getenv "ASAN_OPTIONS" or "") .. ":detect_leaks=" .. (closing == "quietly" and 1 or 0)
  return os.execute(("ASAN_OPTIONS=%s timeout -k 5 %d %s %s %s >%s 2>&1 </dev/null"):format(quoted(options), limit,
    quoted(interpreter()), quoted(arg[0]), arguments, quoted(output)))
end

local function supervise(name)
  local seconds, first = tonumber(os.getenv "SECONDS" or SECONDS), tonumber(os.getenv "SEED" or 1)
  local note = os.tmpname()
  local output, stop, count = note .. ".out", os.time() + seconds, 0
  local closing = "loudly"
  repeat
    closing = closing == "loudly" and "quietly" or "loudly"
    local slice = math.min(ROUND, math.max(1, stop - os.time()))
    os.remove(note .. ".count")
    local ok, how, code = start(("work %d %d %s %s"):format(first, slice, quoted(note), closing), slice + GRACE, output,
      closing)
    local done = tonumber(read(note .. ".count"))
    if not ok or not done then
      local said = read(output)
      io.stdout:write(("%s: a process ended with %s %s after this program:\n\n%s\n\nIt said:\n%s\n"):format(name, how,
        code, read(note), said:sub(-6000)))
      os.exit(1)
    end
    count, first = count + done, first + done
  until os.time() >= stop
  for _, suffix in ipairs { "", ".out", ".count" } do os.remove(note .. suffix) end
  print(("figure: %d programs, the last of them %d"):format(count, first - 1))
end

-- make(n) is the text of the nth program.
function driver.main(name, make)
  package.path = folder .. "/?.lua;" .. folder .. "/../../lua/?.lua;" .. package.path
  if arg[1] == "work" then
    work(make, tonumber(arg[2]), tonumber(arg[3]), arg[4], arg[5])
  elseif arg[1] == "program" then
    print(run(read(arg[2])))
  elseif arg[1] == "show" then
    local n = tonumber(arg[2])
    math.randomseed(n)
    print(make(n))
  else
    supervise(name)
  end
end

return driver
