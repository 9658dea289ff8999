-- SPDX-License-Identifier: MIT
-- A group from a prompt or notebook: dist.start, and cells that run on its ranks.
--
-- The prompt is rank 1.  The others are `nablua --cells` (kernel/repl/cells.h), which MPI starts; cells go to them and
-- their outputs come back by channels of our own (workers.c), so that the prompt waits for them without MPI, and a
-- worker that is gone is a sentence.
local native = require "nablua.native"
local notice = require "nablua.notice"
local nb = require "nablua.core"
local group = require "nablua.dist.group"
local parallel = require "nablua.dist.parallel"

local start = {}

local channels, marker, home  -- of the group that was started; where the table dist is kept up to date
local partial = {}            -- rank → what it has said of a cell that is not done

local PATIENCE = 5  -- seconds for ranks to end after an interrupt
local TURN = 0.005

local function fail(format, ...)
  native.raise("dist." .. format:format(...))
end

-- ---- on a worker ----

-- The first cell of a worker.
function start.join(path)
  local dist = require "nablua.dist"
  group.join(path)
  dist.rank, dist.size = group.rank, group.size
  start.share_stream()
end

-- All ranks draw the random numbers of the prompt, until a net is parallel.
function start.share_stream()
  local seed, counter = native.random_state()
  local place = native.dist_move("broadcast_", nb.tensor({ seed, counter }, { dtype = "i64" }), 0, 1,
    " of the random numbers' place")
  native.random_state(place:at(1), place:at(2))
  parallel.forget_stream()
end

function start.renew()
  native.dist_renew()
end

-- ---- the prompt's side ----

local function program()
  local path = (native.library_folder() or ".") .. "/nablua"
  local f <close> = io.open(path, "rb")
  if not f then fail("start: the workers' program %s is not there", path) end
  return path
end

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function new_marker()
  local f <close> = io.open("/dev/urandom", "rb")
  return "\30" .. (f and f:read(12) or tostring(os.time())):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
end

local function send(rank, code)
  partial[rank] = ""
  channels:send(rank - 1, ("%d 0 0\n%s"):format(#code, code))
end

local function row_of(rank)
  for _, row in ipairs(native.dist_rows()) do
    if row.rank == rank then return row end
  end
  return {}
end

-- The prompt is alone again.
local function drop()
  native.dist_drop()
  channels:shut()
  channels = nil
  parallel.forget()
  group.leave()
  home.rank, home.size = 1, 1
end

-- The first rank that has died.
local function dead_rank()
  for _, row in ipairs(native.dist_rows()) do
    if row.dead then return row.rank, row.pid end
  end
end

-- Where a worker's output of its cell ends; nil while it does not.
local function ending(rank)
  partial[rank] = partial[rank] .. channels:read(rank - 1)
  return partial[rank]:find("\n?" .. marker .. " end\n")
end

-- Waits until the ranks are done: { rank = output }.  `seconds`: as long at most, then those that are not are missing.
local function collect(ranks, seconds)
  local got, left, until_ = {}, #ranks, native.clock() + (seconds or math.huge)
  while left > 0 do
    for _, rank in ipairs(ranks) do
      local at = not got[rank] and ending(rank)
      if at then
        got[rank], left = partial[rank]:sub(1, at - 1), left - 1
      end
    end
    if left == 0 or native.clock() > until_ then break end
    local rank, pid = dead_rank()
    if rank then
      drop()
      fail("start: rank %d (process %d) has died, and the group with it; what it held is lost, and dist.start(n) " ..
        "makes a new one", rank, pid)
    end
    if seconds then native.pause(TURN) else nb.sleep(TURN) end
  end
  return got
end

local function workers()
  local ranks = {}
  for rank = 2, group.size do ranks[#ranks + 1] = rank end
  return ranks
end

-- After a failure on any rank, so that all can go on; where one does not, the group is ended.
local function renew()
  for _, rank in ipairs(workers()) do send(rank, "require('nablua.dist.start').renew()") end
  local ok = native.protected(native.dist_renew)
  local got = ok and collect(workers(), PATIENCE) or {}
  for _, rank in ipairs(workers()) do
    if not got[rank] then
      drop()
      return notice.say("rank %d does not go on, so the group is ended; dist.start(n) makes a new one", rank)
    end
  end
end

-- What a worker showed, as text, and whether it failed.
local function read_events(output)
  local parts, at, failed = {}, 1, false
  while true do
    local first, last = output:find(marker .. " ", at, true)
    if not first then break end
    parts[#parts + 1] = output:sub(at, first - 1)
    local kind, count, after = output:match("^(%l+) ?(%d*)[^\n]*\n()", last + 1)
    if not kind then break end
    at = after
    local data = {}
    for _ = 1, tonumber(count) or 0 do
      local mime, length, begin = output:match("^(%S+) (%d+)\n()", at)
      if not mime then break end
      at = begin + tonumber(length)
      data[mime] = output:sub(begin, at - 1)
    end
    if kind == "error" then
      failed = true
      parts[#parts + 1] = data.message .. "\n" .. (data.frames ~= "" and "  " .. data.frames:gsub("\n", "\n  ") .. "\n"
        or "")
    elseif data["text/plain"] then
      parts[#parts + 1] = data["text/plain"] .. "\n"
    end
  end
  parts[#parts + 1] = output:sub(at)
  return table.concat(parts), failed
end

-- "[2, 3] text": outputs that are equal stand once.
local function show(outputs)
  local texts, by_text, failed = {}, {}, false
  for _, rank in ipairs(workers()) do
    if outputs[rank] then
      local text, bad = read_events(outputs[rank])
      failed = failed or bad
      text = text:gsub("%[rank %d+%] ", ""):gsub("%s+$", "")
      if text ~= "" then
        if not by_text[text] then
          by_text[text] = {}
          texts[#texts + 1] = text
        end
        table.insert(by_text[text], rank)
      end
    end
  end
  for _, text in ipairs(texts) do
    local head = ("[%s] "):format(table.concat(by_text[text], ", "))
    io.write(head, (text:gsub("\n", "\n" .. (" "):rep(#head))), "\n")
  end
  return failed
end

local function check_started(name)
  if not channels then fail("%s: there is no group; dist.start(3) makes one of this prompt and two workers", name) end
end

-- Runs code on ranks; where the prompt is among them, by own(code), whose results are returned.
function start.run(name, ranks, code, own)
  check_started(name)
  local others, here = {}, false
  for _, rank in ipairs(ranks) do
    if rank > group.size then fail("%s: there is no rank %d; the group has %d", name, rank, group.size) end
    if rank == 1 then here = true else others[#others + 1] = rank end
  end
  for _, rank in ipairs(others) do send(rank, code) end
  local whole = false
  -- Whatever ends it, the others are not left running.
  local _ <close> = native.undoing(function()
    if whole or not channels then return end
    native.protected(collect, others, 0.3)  -- who waits for what will not come finds that out
    if not channels then return end
    for _, rank in ipairs(others) do
      if not ending(rank) then channels:interrupt(row_of(rank).pid or 0) end
    end
    local ok, got = native.protected(collect, others, PATIENCE)
    if not ok then return notice.say("%s", got) end
    show(got)
    renew()
  end)
  local results = here and table.pack(own(code)) or { n = 0 }
  local outputs = collect(others)
  whole = true
  if show(outputs) then renew() end
  return table.unpack(results, 1, results.n)
end

start.workers = workers

function start.start(n, dist)
  if channels then fail("start: there is a group of %d already; dist.stop() ends it", group.size) end
  if group.size > 1 then fail("start: this is one of %d ranks that mpirun has started", group.size) end
  if n < 2 then fail("start: a group has at least 2 ranks, this prompt among them, got %d", n) end
  if native.root_is_refused() then
    fail("start: Open MPI starts nothing for root unless OMPI_ALLOW_RUN_AS_ROOT=1 and " ..
      "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 are set in the environment of this program")
  end
  local path = group.find_module()
  if not path then
    fail("start: this nablua has no nablua/dist.so: install MPI (Debian: libopenmpi-dev, openmpi-bin) and build it " ..
      "again")
  end
  local binary = program()
  channels, marker, home = native.dist_channels(n - 1), new_marker(), dist
  local commands, folder = {}, channels:place()
  for rank = 2, n do
    -- What is open needs no name: nothing is left behind, however this ends.
    local fifo, file = ("%s/in.%d"):format(folder, rank - 1), ("%s/out.%d"):format(folder, rank - 1)
    commands[rank - 1] = ("exec <%s >>%s 2>&1; rm -f %s %s; rmdir %s 2>/dev/null; exec %s --cells '%s' plain 100 %s")
      :format(quoted(fifo), quoted(file), quoted(fifo), quoted(file), quoted(folder), quoted(binary), marker,
        quoted(native.working_folder()))
    send(rank, ("require('nablua.dist.start').join(%q)"):format(path))
  end
  local ok, message = pcall(function()
    group.become(native.dist_spawn(path, commands))
    dist.rank, dist.size = group.rank, group.size
    start.share_stream()
    collect(workers(), 30)
  end)
  if not ok then
    if channels then drop() end
    error(message, 0)
  end
end

function start.stop()
  check_started "stop"
  drop()
end

-- What the ranks do: a list of { rank=, pid=, state=, text=, number=, seconds=, bytes= }, which prints as lines.
local Where = { __name = "ranks" }

function Where:__tostring()
  local lines = {}
  for i, row in ipairs(self) do
    local what = row.dead and "has died" or row.state == "waits" and "waits in " .. row.text or
      row.state == "failed" and "failed: " .. row.text or row.state == "left" and "has left" or
      row.number > 0 and "after " .. row.text or "has exchanged nothing"
    lines[i] = ("rank %d  process %d  exchange %d  %.1f s of its processor  %.0f MB  %s"):format(row.rank, row.pid,
      row.number, row.seconds, row.bytes / 1e6, what)
  end
  return #lines > 0 and table.concat(lines, "\n") or "one rank, this"
end

function start.where()
  local rows = native.dist_rows()
  for _, row in ipairs(rows) do
    local f <close> = io.open(("/proc/%d/statm"):format(row.pid))
    local _, resident = (f and f:read "l" or ""):match("(%d+) (%d+)")
    row.bytes = (tonumber(resident) or 0) * 4096
  end
  table.sort(rows, function(a, b) return a.rank < b.rank end)
  return setmetatable(rows, Where)
end

return start
