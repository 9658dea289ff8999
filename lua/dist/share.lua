-- SPDX-License-Identifier: MIT
-- A rank's share of every batch, and what its gradients count for because of it.
--
-- A batch of the whole is cut into as many parts as there are ranks, in the order of the samples; where they do not
-- divide, sizes differ by one.  The mean over ranks is then not that of the samples: a rank's gradients are weighed by
-- its samples times ranks over the samples of all.  A rank without a sample takes part with one of weight 0.
local native = require "nablua.native"
local nb = require "nablua.core"
local group = require "nablua.dist.group"

local share = { weight = 1 }
local are_sums  -- losses are sums over samples, of which each counts as it is

-- What a rank's loss counts for in the loss of all, but for a factor.
local function weight_of_loss()
  return are_sums and share.weight > 0 and 1 or share.weight
end

-- Whether losses are sums in place of means.
function share.losses_are_sums(on) are_sums = on end

-- What gradients, statistics and means of this rank count for from now on.
function share.weigh(weight)
  if weight == share.weight then return end
  share.weight = weight
  native.dist_weigh(weight)
end

-- The first and last sample of this rank's part of those from `first` to `last`, which is weighed.
function share.part(first, last)
  local all, n, r = last - first + 1, group.size, group.rank
  local from, to = all * (r - 1) // n, all * r // n
  share.weigh((to - from) * n / all)
  if from == to then return first, first end
  return first + from, first + to - 1
end

-- A random order that all ranks share: rank 1's.  All draw one, so that their places in the random numbers move alike.
function share.order(count)
  local order = nb.randperm(count)
  if group.size == 1 then return order end
  return native.dist_move("broadcast_", order, 0, 1, " of the order of the samples")
end

-- Sums of numbers over the ranks: a list.
function share.sums(numbers)
  if group.size == 1 or #numbers == 0 then return numbers end
  return native.dist_move("allreduce_", nb.tensor(numbers, { dtype = "f64" }), 0, 0, " (sum of figures)"):totable()
end

-- The loss over the samples of all ranks, whose own is `value`, and the sums of other numbers over the ranks.
function share.loss(value, ...)
  if group.size == 1 then return value, ... end
  local weight = weight_of_loss()
  local sums = share.sums { weight > 0 and value * weight or 0, ... }
  return are_sums and sums[1] or sums[1] / group.size, table.unpack(sums, 2)
end

-- Whether it is so on any rank.
function share.any(condition)
  return share.sums { condition and 1 or 0 }[1] > 0
end

local function sorted_names(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- The texts of all ranks.
local function texts(text)
  local lengths = native.dist_move("gather", nb.tensor({ #text }, { dtype = "i64" }), 0, 0, " of lengths"):totable()
  local most = 1
  for _, length in ipairs(lengths) do most = math.max(most, length[1]) end
  local padded = nb.tensor({ (text .. (" "):rep(most - #text)):byte(1, -1) }, { dtype = "u8" })
  local all = native.dist_move("gather", padded, 0, 0, " of names"):totable()
  for r, bytes in ipairs(all) do all[r] = string.char(table.unpack(bytes, 1, lengths[r][1])) end
  return all
end

-- The tables of all ranks, each of tensors and booleans by name, which may be others on each.
function share.tables(own)
  if group.size == 1 then return { own } end
  local lines, all = {}, {}
  for i, name in ipairs(sorted_names(own)) do
    local value = own[name]
    lines[i] = ("%s %s %s\n"):format(name, nb.is_tensor(value) and value.dtype or tostring(value),
      nb.is_tensor(value) and table.concat(value.shape, " ") or "")
  end
  for rank, text in ipairs(texts(table.concat(lines))) do
    all[rank] = {}
    for name, dtype, sizes in text:gmatch "(%S+) (%S+) ([^\n]*)\n" do
      if dtype == "true" or dtype == "false" then
        all[rank][name] = dtype == "true"
      else
        local shape = {}
        for size in sizes:gmatch "%d+" do shape[#shape + 1] = math.tointeger(size) end
        local t = rank == group.rank and own[name]:detach() or nb.zeros(shape, { dtype = dtype })
        all[rank][name] = native.dist_move("broadcast_", t, 0, rank, (" of %s of rank %d"):format(name, rank))
      end
    end
  end
  return all
end

-- The sum of a tensor over the ranks, through which gradients flow: each rank's loss depends on all ranks' numbers.
-- The ranks' gradients are added as they are weighed, so that what weighs the sum afterwards finds it so.
share.sum = native.custom("sum_over_ranks", 1, function(ctx, x)
  ctx.weight = weight_of_loss()
  if group.size == 1 then return x:clone() end
  return native.dist_move("allreduce_", ctx.weight == 0 and x * 0 or x, 0, 0, " (sum of statistics)")
end, function(ctx, g)
  if group.size == 1 then return g end
  local all = native.dist_move("allreduce_", g * ctx.weight, 0, 0, " (gradient of statistics)")
  return ctx.weight == 0 and all * 0 or all / ctx.weight
end)

return share
