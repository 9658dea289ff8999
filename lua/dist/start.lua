-- SPDX-License-Identifier: MIT
-- A group from a prompt or notebook: dist.start, and cells that run on its ranks.
--
-- The prompt is rank 1.  It starts MPI's launcher, whose first process carries the prompt's exchanges (relay.h): so the
-- prompt itself calls no MPI, which could block or end it.  The others are `nablua --cells` (kernel/repl/cells.h);
-- cells go to them and their outputs come back by channels of our own (workers.c), and a worker that is gone is a
-- sentence.
local native = require "nablua.native"
local notice = require "nablua.notice"
local nb = require "nablua.core"
local group = require "nablua.dist.group"
local hosts = require "nablua.dist.hosts"
local parallel = require "nablua.dist.parallel"

local start = {}

local channels, marker, home  -- of the group that was started; where the table dist is kept up to date
local machines                -- rank → the machine that a worker was asked for, where that is another one
local partial = {}            -- rank → what it has said of a cell that is not done

local PATIENCE = 5  -- seconds for ranks to end after an interrupt
local TURN = 0.005

local function fail(format, ...)
  native.raise("dist." .. format:format(...))
end

-- ---- on a worker ----

-- The first cell of a worker, which has joined its group when this was loaded.
function start.join()
  local dist = require "nablua.dist"
  if group.size == 1 then fail "start: this worker was started alone; mpirun is of another MPI than nablua/dist.so" end
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
  channels, machines = nil, nil
  parallel.forget()
  group.leave()
  home.rank, home.size = 1, 1
end

-- What has ended the group, as a clause.
local function death()
  for _, row in ipairs(native.dist_rows()) do
    if row.dead then return ("rank %d (process %d) has died"):format(row.rank, row.pid) end
    if machines[row.rank] and channels:gone(row.rank - 1) then
      return ("rank %d on %s has gone"):format(row.rank, machines[row.rank])
    end
  end
  local said = native.dist_ended()
  if said then return "the workers' launcher has ended" .. (said ~= "" and " (" .. said .. ")" or "") end
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
    local dead = death()
    if dead then
      drop()
      fail("start: %s, and the group with it; what it held is lost, and dist.start(n) makes a new one", dead)
    end
    if seconds then native.pause(TURN) else nb.sleep(TURN) end
  end
  return got
end

local function ranks_to(n)
  local ranks = {}
  for rank = 2, n do ranks[#ranks + 1] = rank end
  return ranks
end

local function workers() return ranks_to(group.size) end

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
    native.protected(collect, others, 1)  -- who waits for what will not come finds that out
    if not channels then return end
    for _, rank in ipairs(others) do
      if not ending(rank) then channels:interrupt(rank - 1, row_of(rank).pid or 0) end
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

local function check_root(names)
  if names[1] == "mpirun.openmpi" and native.root_is_refused() then
    fail("start: Open MPI starts nothing for root unless OMPI_ALLOW_RUN_AS_ROOT=1 and " ..
      "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 are set in the environment of this program")
  end
end

-- What each process runs, by its number: the carrier, which is 0, or a worker.  (Several command lines in one would say
-- the same, but the launcher of Debian 13's Open MPI ends with a segmentation fault then.)
local script = [[
n=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}
if [ "$n" = 0 ]; then exec %s -E -e %s; fi
case "$n" in %s) exec %s --cells '%s' plain 100 %s '%s' "$n" ;; esac
cd %s
exec <in.$n >>out.$n 2>&1
rm -f in.$n out.$n
rmdir "$PWD" 2>/dev/null
exec %s --cells '%s' plain 100 %s
]]

-- What the launcher, known by `names`, is told to start the carrier and the workers 2 to n.  `wanted`: the
-- machines for them.
local function command_line(names, path, n, wanted)
  local binary, pid, fd = quoted(program()), native.dist_relay()
  local words, folder, far = { "-n", tostring(n) }, quoted(native.working_folder()), {}
  for rank in pairs(machines) do far[#far + 1] = tostring(rank - 1) end
  if wanted then table.move(hosts.options(names, n, wanted), 1, 2, #words + 1, words) end
  -- What is open needs no name: nothing is left behind, however this ends.
  table.move({ "/bin/sh", "-c", script:format(binary,
    quoted(([[require("nablua.native").dist_carry(%q, %d, %d)]]):format(path, pid, fd)),
    #far > 0 and table.concat(far, "|") or "none", binary, marker, folder, channels:door(),
    quoted(channels:place()), binary, marker, folder) }, 1, 3, #words + 1, words)
  return words
end

local JOIN = [[require("nablua.native").dist_serve_prompt() require("nablua.dist.start").join()]]

function start.start(n, dist, wanted)
  if channels then fail("start: there is a group of %d already; dist.stop() ends it", group.size) end
  if group.size > 1 then fail("start: this is one of %d ranks that mpirun has started", group.size) end
  if n < 2 then fail("start: a group has at least 2 ranks, this prompt among them, got %d", n) end
  local path = group.find_module()
  if not path then
    fail("start: this nablua has no nablua/dist.so: install MPI (Debian: libopenmpi-dev, openmpi-bin) and build it " ..
      "again")
  end
  local names = native.dist_launchers(path)
  check_root(names)
  machines = wanted and hosts.of_ranks(n, wanted) or {}
  hosts.look(machines, program())
  local far = {}
  for rank in pairs(machines) do far[#far + 1] = rank - 1 end
  channels, marker, home = native.dist_channels(n - 1, far), new_marker(), dist
  local ok, message = pcall(function()
    local words = command_line(names, path, n, wanted)
    for _, rank in ipairs(ranks_to(n)) do send(rank, JOIN) end
    group.become(function(...) print(string.format(...)) end, native.dist_spawn(path, words))
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
    lines[i] = ("rank %d  process %d%s  exchange %d  %.1f s of its processor  %.0f MB  %s"):format(row.rank, row.pid,
      self.several and " on " .. row.host or "", row.number, row.seconds, row.bytes / 1e6, what)
  end
  return #lines > 0 and table.concat(lines, "\n") or "one rank, this"
end

function start.where()
  local rows = setmetatable(native.dist_rows(), Where)
  for _, row in ipairs(rows) do rows.several = rows.several or not row.here or nil end
  return rows
end

return start
