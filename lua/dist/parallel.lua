-- SPDX-License-Identifier: MIT
-- dist.parallel: a net of which every rank has a copy, kept equal by summing its gradients while backward runs.
local native = require "nablua.native"
local nb = require "nablua.core"
local group = require "nablua.dist.group"
local modes = require "nablua.modes"
local module = require "nablua.nn.module"
local options = require "nablua.options"

local parallel = {}

local buckets_of = setmetatable({}, { __mode = "k" })  -- net → what exchanges its gradients
local names_of = setmetatable({}, { __mode = "k" })    -- and the paths of its parameters

parallel.params = {
  { name = "net", type = "any", doc = "a module" },
  { name = "reduce", choices = { "mean", "sum" }, default = "mean",
    doc = "of the ranks' gradients: the mean where the loss is one over samples, the sum where it is a sum" },
  { name = "bucket", type = "size", default = 4 << 20, doc = "bytes that are exchanged together" },
  { name = "drift", type = "count", default = 100,
    doc = "backwards between two comparisons of the ranks' parameters, 0: none" },
}

-- From the first parallel net on each rank draws random numbers of its own: dropout differs, what was drawn before is
-- equal.  Rank 1 goes on with those that it would have alone.
local own_stream
local ODD = 0x2545F4914F6CDD1D  -- the seeds of ranks lie apart

function parallel.spread_streams()
  own_stream = true
  if group.rank == 1 then return end
  local seed, counter = native.random_state()
  native.random_state(seed ~ (group.rank - 1) * ODD, counter)
end

-- Words that are equal where two ranks have the same net.
local function describe(net, paths)
  local state, sum = net:state(), 0
  for i, path in ipairs(paths) do
    for _, byte in ipairs { (path .. state[path].dtype .. options.shape(state[path])):byte(1, -1) } do
      sum = (sum * 31 + byte + i) & 0xFFFFFFFF
    end
  end
  local first = paths[1]
  return (" for dist.parallel of %d tensors, %s %s first (%08x)"):format(#paths, first or "none",
    first and options.shape(state[first]) or "", sum)
end

-- All that the state holds becomes rank 1's.
local function broadcast(net)
  local state, paths, sent = net:state(), {}, {}
  for path in pairs(state) do paths[#paths + 1] = path end
  table.sort(paths)
  native.dist_move("barrier", nil, 0, 0, describe(net, paths))
  for _, path in ipairs(paths) do
    local t = state[path]
    if not sent[t] then
      sent[t] = true
      local result = native.dist_move("broadcast_", t, 0, 1, (" of %s (from rank 1)"):format(path))
      if group.rank > 1 then nb.no_grad(t.copy_, t, result) end
    end
  end
  if group.rank > 1 then net:load_state(state) end
end

-- dist.parallel(net, options): o is what its parameters gave.
function parallel.make(o)
  local net = o.net
  if not module.is(net) then native.raise("dist.parallel: net must be a module, got " .. options.describe(net)) end
  if group.size == 1 then return net end
  local names, list = {}, {}
  for path, p in net:named_parameters() do names[#names + 1], list[#list + 1] = path, p end
  if #list == 0 then native.raise "dist.parallel: the net has no parameters that require grad" end
  broadcast(net)
  if not own_stream then parallel.spread_streams() end
  if buckets_of[net] then native.dist_forget(buckets_of[net]) end
  require("nablua.dist.share").losses_are_sums(o.reduce == "sum")
  buckets_of[net], names_of[net] = native.dist_buckets(list, names, o.reduce == "sum", o.bucket, o.drift), names
  return net
end

-- The group is gone: nets are as any other.
function parallel.forget()
  for net, buckets in pairs(buckets_of) do
    native.dist_forget(buckets)
    buckets_of[net] = nil
  end
  own_stream = nil
end

function parallel.forget_stream() own_stream = nil end

-- Whether the net's gradients are exchanged.
function parallel.has(net)
  return buckets_of[net] ~= nil
end

local function set_sync(on)
  for _, buckets in pairs(buckets_of) do native.dist_sync(buckets, on) end
end

-- f(...) with the gradients of its backwards staying the rank's own, to be exchanged by the next.
function parallel.no_sync(f, ...)
  if group.size == 1 then return f(...) end
  set_sync(false)
  return modes.restoring(function() set_sync(true) end, f, ...)
end

-- { exchanges=, overlap= share of the buckets that were on their way before backward's end, unused= paths } of a net.
function parallel.figures(net)
  local buckets = buckets_of[net]
  if not buckets then return { exchanges = 0, overlap = 0, unused = {} } end
  local exchanges, early, all, unused = native.dist_state(buckets)
  for i, k in ipairs(unused) do unused[i] = names_of[net][k] end
  return { exchanges = exchanges, overlap = all > 0 and early / all or 0, unused = unused }
end

-- The times of the last exchange of a net, as native.dist_times gives them with the paths of parameters; nil before it.
function parallel.times(net)
  local times = buckets_of[net] and native.dist_times(buckets_of[net])
  for _, bucket in ipairs(times or {}) do bucket.first = names_of[net][bucket.first] end
  return times
end

return parallel
