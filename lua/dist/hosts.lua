-- SPDX-License-Identifier: MIT
-- The machines on which dist.start puts workers.
local native = require "nablua.native"
local options = require "nablua.options"

local hosts = {}

local PATIENCE = 8  -- seconds for a machine to answer

local function fail(format, ...)
  native.raise("dist.start: " .. format:format(...))
end

-- { { machine, how many workers }, ... } in the order in which launchers fill them: this machine, where the prompt is,
-- comes first.
local function spread(n, wanted)
  local order, place = { { "localhost", 0 } }, { localhost = 1 }
  for i, host in ipairs(wanted) do
    if not place[host] then
      order[#order + 1] = { host, 0 }
      place[host] = #order
    end
    local o = order[place[host]]
    o[2] = o[2] + (n - 1) // #wanted + (i <= (n - 1) % #wanted and 1 or 0)
  end
  return order
end

-- { rank = machine } of those that are not this one.
function hosts.of_ranks(n, wanted)
  if #wanted == 0 then fail "hosts must be a list of names of machines, got an empty one" end
  for _, host in ipairs(wanted) do
    if type(host) ~= "string" or not host:match "^[%w_.:%-]+$" or host:match "^%-" then
      fail("hosts must be names of machines, got %s", options.describe(host))
    end
  end
  local far, rank = {}, 1
  for i, o in ipairs(spread(n, wanted)) do
    for _ = 1, o[2] do
      rank = rank + 1
      if i > 1 then far[rank] = o[1] end
    end
  end
  return far
end

-- What the launcher, known by these names, is told of them: the prompt's carrier is here.
function hosts.options(names, n, wanted)
  local list = {}
  for i, o in ipairs(spread(n, wanted)) do
    local count = o[2] + (i == 1 and 1 or 0)
    if count > 0 then list[#list + 1] = ("%s:%d"):format(o[1], count) end
  end
  return { names[1] == "mpirun.openmpi" and "--host" or "-hosts", table.concat(list, ",") }
end

-- What reaches a machine: the launcher's own way where one is set.
local function agent()
  for _, name in ipairs { "OMPI_MCA_plm_rsh_agent", "PRTE_MCA_plm_ssh_agent", "HYDRA_LAUNCHER_EXEC" } do
    local set = os.getenv(name)
    if set then
      local words = {}
      for word in set:gmatch "%S+" do words[#words + 1] = word end
      return words
    end
  end
  return { "ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5" }
end

local function look(host, program)
  local words = agent()
  words[#words + 1], words[#words + 2] = host, ("test -x '%s' && echo nablua is there"):format(program)
  local process, why = native.spawn(words)
  if not process then fail("host %s cannot be reached: %s: %s", host, words[1], why) end
  local ok, out, said = pcall(process.exchange, process, "", nil, PATIENCE)
  if ok and out:find "nablua is there" then return end
  if ok and said == "" then
    fail("host %s has no %s; nablua must lie at the same path on all machines", host, program)
  end
  fail("host %s does not answer: %s", host, ok and said:gsub("%s+", " "):gsub(" $", "") or
    ("%s took more than %d s"):format(words[1], PATIENCE))
end

-- Looks whether each of them answers and has the program: a launcher would wait for minutes.
function hosts.look(machines, program)
  for _, name in ipairs { "SLURM_JOB_ID", "PBS_JOBID" } do
    if os.getenv(name) then return end  -- the job's machines are the scheduler's to start on
  end
  local known = {}
  for _, host in pairs(machines) do
    if not known[host] then
      known[host] = true
      look(host, program)
    end
  end
end

return hosts
