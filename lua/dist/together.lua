-- SPDX-License-Identifier: MIT
-- nn.fit on several ranks: what they decide and count together.  In a group of one nothing of it does anything.
local native = require "nablua.native"
local nb = require "nablua.core"
local notice = require "nablua.notice"

local together = {}
local group, share  -- found when they are first asked for: a program that does not train joins no group

local function join()
  if not group then group, share = require "nablua.dist.group", require "nablua.dist.share" end
  return group.size
end

together.size = join

function together.is_first()
  join()
  return group.rank == 1
end

-- Whether it is so on any rank.
function together.any(condition)
  return join() > 1 and share.any(condition) or join() == 1 and condition
end

-- Whether what is measured now counts: a rank without a sample of a batch took part with one that does not.
function together.counts()
  join()
  return share.weight > 0
end

-- The batches in shares; an iterator of the user's own gives what it gives.
function together.shares(what, batches)
  if join() == 1 then return batches end
  local meta = getmetatable(batches)
  local shared = type(meta) == "table" and meta.in_shares and batches:in_shares()
  if not shared then together.tell_own("nn.fit: " .. what) end
  return shared or batches
end

-- Of batches that nobody can cut into shares.
function together.tell_own(what)
  if join() == 1 or group.rank > 1 then return end
  notice.say("%s is an iterator of its own, so every rank takes what its own gives; data.batches would give each " ..
    "its share", what)
end

-- Makes the net parallel, unless it is already.
function together.parallel(net, is_sum)
  if join() == 1 then return end
  local parallel = require "nablua.dist.parallel"
  if not parallel.has(net) then
    parallel.make { net = net, reduce = is_sum and "sum" or "mean", bucket = 4 << 20, drift = 100 }
  end
end

local function sorted(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function number_in(value) return type(value) == "number" and value or 0 end

-- A tally { n, sums, counts, metrics } over all ranks.  `names` of what it may hold, the same on all.
function together.add_up(tally, names, is_sum)
  if join() == 1 then return tally end
  local numbers = { tally.n }
  for _, name in ipairs(names) do
    numbers[#numbers + 1] = number_in(tally.sums[name])
    numbers[#numbers + 1] = number_in(tally.counts[name])
  end
  numbers = share.sums(numbers)
  local all = { n = numbers[1] // 1, sums = {}, counts = {} }
  for i, name in ipairs(names) do
    all.sums[name], all.counts[name] = numbers[2 * i], numbers[2 * i + 1]
    if name == "loss" and is_sum then all.counts[name] = math.min(all.counts[name], 1) end
  end
  for _, m in ipairs(tally.metrics) do
    if m.metric then all.sums[m[1]] = m.metric:joined(share.tables(tally.sums[m[1]] or {})) end
  end
  return all
end

-- A loss over the samples of all ranks, and the sums of other numbers over the ranks.
function together.loss(value, ...)
  join()
  return share.loss(value, ...)
end

-- The loss that an optimizer is given, whose number is `value`: a search along a line goes as that of all ranks says.
function together.loss_for(opt, J, value)
  if join() == 1 or not tostring(opt):find "^LBFGS" then return J end
  return nb.tensor(share.loss(value), { dtype = "f64" })
end

-- The least of the ranks' whole numbers, and the largest.
function together.range(value)
  if join() == 1 then return value, value end
  local own = nb.tensor({ value, -value }, { dtype = "i64" })
  local both = native.dist_move("allreduce_", own, 2, 0, " (range)"):totable()
  return both[1], -both[2]
end

-- This rank's part of the samples from `first` to `last`, whose gradients count accordingly until together.rest.
function together.part(first, last)
  if join() == 1 then return first, last end
  return share.part(first, last)
end

function together.rest()
  if join() > 1 then share.weigh(1) end
end

-- A random order that all ranks share.
function together.order(count)
  join()
  return share.order(count)
end

-- From a place in the random numbers that all ranks have alike, each goes on with a stream of its own.
function together.spread()
  if join() > 1 then require("nablua.dist.parallel").spread_streams() end
end

-- What layers have learned beside parameters becomes rank 1's.
function together.equal_buffers(net)
  if join() == 1 then return end
  local state, learned = net:state(), {}
  for path in net:named_parameters() do state[path] = nil end
  for _, path in ipairs(sorted(state)) do
    learned[path] = native.dist_move("broadcast_", state[path], 0, 1, (" of %s"):format(path))
  end
  if next(learned) and group.rank > 1 then net:load_state(learned, { strict = false }) end
end

-- Whether a file is there, which all ranks must see alike.
function together.exists(path)
  local there = native.exists(path)
  if join() == 1 then return there end
  local count = share.sums { there and 1 or 0 }[1]
  if count > 0 and count < group.size then
    native.raise(("the checkpoint %s is seen by %d of %d ranks; it must lie in a folder that all share"):format(
      path, count // 1, group.size))
  end
  return there
end

-- The places of all ranks in their random numbers, a row each; and taking one's own up again.  Where there were
-- another number of ranks, each but the first gets a stream of its own.
function together.random_states()
  local seed, counter = native.random_state()
  local own = nb.tensor({ seed, counter }, { dtype = "i64" })
  if join() == 1 then return own:view(1, 2) end
  return native.dist_move("gather", own, 0, 0, " of the random numbers' places")
end

function together.take_up(first, states)
  nb.random_state(first)
  if together.is_first() then return end
  if states and #states == join() then
    return native.random_state(states:at(group.rank, 1), states:at(group.rank, 2))
  end
  together.spread()
end

return together
