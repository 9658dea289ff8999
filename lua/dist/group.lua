-- SPDX-License-Identifier: MIT
-- The group of processes that this one belongs to: joined when the module `dist` is loaded.
--
-- Alone there is nothing to open, and no MPI is needed.  Where a launcher has started several, nablua/dist.so is
-- opened, which joins them.
local native = require "nablua.native"
local nb = require "nablua.core"
local notice = require "nablua.notice"

local group = { rank = 1, size = 1, node_rank = 1, node_size = 1 }

local function exists(path)
  local f <close> = io.open(path, "rb")
  return f ~= nil
end

-- Beside the program or the module that holds the library, where a build or an installation puts it, or on Lua's path.
function group.find_module()
  local folder = native.library_folder() or "."
  for _, place in ipairs { "/nablua/dist.so", "/lib/nablua/dist.so", "/../lib/nablua/dist.so" } do
    if exists(folder .. place) then return folder .. place end
  end
  return package.searchpath("nablua.dist", package.cpath)
end

-- Each rank computes with its share of the machine's threads, where the launcher has not given it cores of its own.
local function share_threads()
  local own = nb.threads()
  local cores, given = native.cores()
  local all = tonumber(given) or cores
  local share = math.max(all // group.node_size, 1)
  if not given and own < cores then share = math.min(own, share) end
  nb.threads(share)
  return share
end

-- The place that this process has from now on, which say(format, ...) tells.
function group.become(say, rank, size, node_rank, node_size, library)
  group.rank, group.size, group.node_rank, group.node_size, group.library = rank, size, node_rank, node_size, library
  group.alone_threads = group.alone_threads or nb.threads()
  group.threads = share_threads()
  if group.rank == 1 then
    say("dist: %d ranks, %d of them on this machine, %d thread%s each; %s", group.size, group.node_size,
      group.threads, group.threads == 1 and "" or "s", group.library)
  end
end

function group.join(path)
  if group.size == 1 then group.become(notice.say, native.dist_open(path)) end
end

-- Alone again.
function group.leave()
  group.rank, group.size, group.node_rank, group.node_size = 1, 1, 1, 1
  nb.threads(group.alone_threads)
  group.alone_threads = nil
end

local function open()
  local launched = native.dist_launched()
  if launched < 2 then return end
  local path = group.find_module()
  if not path then
    native.raise(("dist: this is one of %d processes that mpirun has started, and this nablua has no " ..
      "nablua/dist.so: install MPI (Debian: libopenmpi-dev, openmpi-bin) and build nablua again"):format(launched))
  end
  group.join(path)
end

open()

return group
