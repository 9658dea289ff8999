-- SPDX-License-Identifier: MIT
-- The module `dist`: computing in a group of processes, on one machine or many.
--
-- The processes are started by MPI's launcher, each runs the same script, and ranks count from 1:
--
--     mpirun -n 4 nablua train.lua
--
-- The same script alone is a group of one, in which every exchange leaves things as they are.
local native = require "nablua.native"
local nb = require "nablua.core"
local group = require "nablua.dist.group"
local options = require "nablua.options"
local parallel = require "nablua.dist.parallel"
local registry = require "nablua.registry"

local dist = registry.home "nablua.dist"

local function define(name, entry)
  registry.define(dist, "dist.", name, entry)
end

local function fail(where, format, ...)
  native.raise(("dist.%s: "):format(where) .. format:format(...))
end

-- ---- who there is ----

dist.rank, dist.size = group.rank, group.size

registry.add { name = "dist.rank", kind = "field", value = dist.rank, example = "dist.rank  --> 1",
  doc = "The number of this process in its group, from 1; 1 alone.", see = { "dist.size" } }
registry.add { name = "dist.size", kind = "field", value = dist.size, example = "dist.size  --> 1",
  doc = "How many processes the group has; 1 alone.", see = { "dist.rank" } }

-- ---- exchanges ----

local SUM, MAX, MIN = 0, 1, 2
local reductions = { sum = SUM, mean = SUM, max = MAX, min = MIN }

local op = { name = "op", choices = { "sum", "mean", "max", "min" }, default = "sum" }

local function rank_param(name, doc, default)
  return { name = name, type = "size", default = default, optional = default == nil, doc = doc }
end

local function check_rank(where, name, rank)
  if rank and rank > dist.size then
    fail(where, "%s must be a rank from 1 to %d, got %s", name, dist.size, options.describe(rank))
  end
end

local function check_tensor(where, t)
  if not nb.is_tensor(t) then fail(where, "needs a tensor, got %s", options.describe(t)) end
end

local function check_op(where, t, how)
  if how == "mean" and t.dtype ~= "f32" and t.dtype ~= "f64" then
    fail(where, "the mean needs f32 or f64, got %s; use t:to(\"f32\")", t.dtype)
  end
  if how == "sum" and t.dtype == "bool" then fail(where, "there is no sum of bool; use max for any, min for all") end
end

-- Writes into a tensor what came from others; no gradient flows through.
local function write(where, t, result, how)
  if not t.is_leaf and nb.grad_enabled() then
    fail(where, "no gradient flows through an exchange; use t:detach(), or nb.no_grad")
  end
  nb.no_grad(function()
    if how == "mean" then result:div_(dist.size) end
    t:copy_(result)
  end)
  return t
end

local function read(where, params, ...)
  return options.read("dist." .. where, params, ...)
end

local tensor = { name = "t", type = "tensor" }

local allreduce_params = { tensor, op }
define("allreduce_", {
  doc = "The sum, mean, maximum or minimum of the ranks' tensors, elementwise, written into t on all of them; the " ..
    "same bits on each.  Shape and dtype must be equal.  Returns t.", params = allreduce_params,
  see = { "dist.reduce_", "dist.gather", "dist.parallel" },
  example = "dist.allreduce_(nb.tensor{1, 2}, {op=\"mean\"})  --> {1, 2}",
  function(...)
    local o = read("allreduce_", allreduce_params, ...)
    check_op("allreduce_", o.t, o.op)
    if dist.size == 1 then return o.t end
    local result = native.dist_move("allreduce_", o.t:detach(), reductions[o.op], 0, " (" .. o.op .. ")")
    return write("allreduce_", o.t, result, o.op)
  end,
})

local reduce_params = { tensor, op, rank_param("to", "the rank that gets it", 1) }
define("reduce_", {
  doc = "As dist.allreduce_, written into t on one rank alone.  Returns t.", params = reduce_params,
  see = { "dist.allreduce_" }, example = "dist.reduce_(nb.tensor{1, 2}, {op=\"max\"})  --> {1, 2}",
  function(...)
    local o = read("reduce_", reduce_params, ...)
    check_op("reduce_", o.t, o.op)
    check_rank("reduce_", "to", o.to)
    if dist.size == 1 then return o.t end
    local result = native.dist_move("reduce_", o.t:detach(), reductions[o.op], o.to,
      (" (%s, to rank %d)"):format(o.op, o.to))
    return o.to == dist.rank and write("reduce_", o.t, result, o.op) or o.t
  end,
})

local broadcast_params = { tensor, rank_param("from", "the rank that has it", 1) }
define("broadcast_", {
  doc = "What t holds on one rank, written into t on all.  Returns t.", params = broadcast_params,
  see = { "dist.scatter" }, example = "dist.broadcast_(nb.tensor{1, 2})  --> {1, 2}",
  function(...)
    local o = read("broadcast_", broadcast_params, ...)
    check_rank("broadcast_", "from", o.from)
    if dist.size == 1 then return o.t end
    local result = native.dist_move("broadcast_", o.t:detach(), SUM, o.from, (" (from rank %d)"):format(o.from))
    return o.from == dist.rank and o.t or write("broadcast_", o.t, result)
  end,
})

local gather_params = { tensor, rank_param("to", "the rank that gets them; without it all do") }
define("gather", {
  doc = "The ranks' tensors, which must be of one shape and dtype, as the rows of a new one: size × shape.  With " ..
    "to= on one rank, and nil on the others.", params = gather_params, see = { "dist.scatter", "dist.allreduce_" },
  example = "dist.gather(nb.tensor{1, 2})  --> {{1, 2}}",
  function(...)
    local o = read("gather", gather_params, ...)
    check_rank("gather", "to", o.to)
    if dist.size == 1 then return o.t:detach():unsqueeze(1):clone() end
    return native.dist_move("gather", o.t:detach(), SUM, o.to or 0, o.to and (" (to rank %d)"):format(o.to) or "")
  end,
})

local scatter_params = { { name = "t", type = "tensor", optional = true, positional = true,
  doc = "size × shape, on the rank that has it" }, rank_param("from", "the rank that has it", 1) }
define("scatter", {
  doc = "The rows of a tensor of one rank, one for each: rank r gets t[r].  The others give nil.",
  params = scatter_params, see = { "dist.gather", "dist.broadcast_" },
  example = "dist.scatter(nb.tensor{{1, 2}})  --> {1, 2}",
  function(...)
    local o = read("scatter", scatter_params, ...)
    check_rank("scatter", "from", o.from)
    if dist.rank == o.from then
      check_tensor("scatter", o.t)
      if o.t:dim() == 0 or #o.t ~= dist.size then
        fail("scatter", "the first dimension must be the %d ranks, got shape %s", dist.size, options.shape(o.t))
      end
    end
    if dist.size == 1 then return o.t[1]:detach():clone() end
    return native.dist_move("scatter", dist.rank == o.from and o.t:detach() or nil, SUM, o.from,
      (" (from rank %d)"):format(o.from))
  end,
})

local function check_other(where, rank)
  check_rank(where, "the rank", rank)
  if rank == dist.rank then fail(where, "rank %d is this one itself", rank) end
end

local send_params = { tensor, { name = "to", type = "size", doc = "the rank" } }
define("send", {
  doc = "Sends a tensor to another rank, which must call dist.receive; comes back once it is on its way.",
  params = send_params, see = { "dist.receive" }, example = "pcall(dist.send, nb.ones(2), 1)  --> false",
  function(...)
    local o = read("send", send_params, ...)
    check_other("send", o.to)
    native.dist_move("send", o.t:detach(), SUM, o.to, (" to rank %d"):format(o.to))
  end,
})

local receive_params = { { name = "from", type = "size", doc = "the rank" } }
define("receive", {
  doc = "The next tensor that another rank sends to this one, whatever its shape and dtype.",
  params = receive_params, see = { "dist.send" }, example = "pcall(dist.receive, 1)  --> false",
  function(...)
    local o = read("receive", receive_params, ...)
    check_other("receive", o.from)
    return native.dist_move("receive", nil, SUM, o.from, (" from rank %d"):format(o.from))
  end,
})

define("barrier", {
  doc = "Waits until all ranks are here.", params = {}, example = "dist.barrier()",
  function()
    if dist.size > 1 then native.dist_move("barrier", nil, SUM, 0, "") end
  end,
})

-- ---- training ----

define("parallel", {
  doc = "Makes a net parallel, and returns it: parameters and buffers become those of rank 1, and from then on " ..
    "every backward leaves the mean of the ranks' gradients, which are exchanged while it runs.  A parameter " ..
    "without a gradient on any rank keeps none, and is named once.  From then on each rank draws random numbers of " ..
    "its own.  Alone it does nothing.", params = parallel.params, see = { "dist.no_sync", "data.batches", "nn.fit" },
  signature = options.signature("dist.parallel", parallel.params),
  example = "dist.parallel(nn.Linear(2, 1)).in_features  --> 2",
  function(...) return parallel.make(read("parallel", parallel.params, ...)) end,
})

define("no_sync", {
  doc = "Calls f(...) with the gradients of parallel nets left a rank's own: several backwards add up, and the " ..
    "first one outside exchanges their sum.  Returns what f returns.", signature = "dist.no_sync(f, ...)",
  see = { "dist.parallel" },
  example = "dist.no_sync(function(x) x:sum():backward() end, nb.ones(2, {requires_grad=true}))",
  function(f, ...)
    if not options.is_callable(f) then fail("no_sync", "needs a function, got %s", options.describe(f)) end
    return parallel.no_sync(f, ...)
  end,
})

define("figures", {
  doc = "What is known of the exchanges of a parallel net: {exchanges= how many backwards, overlap= the share of " ..
    "buckets that were on their way before their backward's end, unused= the paths of parameters without a gradient " ..
    "on any rank}.", signature = "dist.figures(net)", see = { "dist.timeline", "dist.parallel" },
  example = "dist.figures(dist.parallel(nn.Linear(2, 1))).exchanges  --> 0",
  function(net) return parallel.figures(net) end,
})

define("timeline", {
  doc = "When the gradients of a parallel net were exchanged in its last backward: a row for backward and one for " ..
    "each bucket, from where it was full over where it left to where the sum was there.  A picture in notebooks; " ..
    "print(dist.timeline(net)) in scripts.  Fields, in seconds from backward's beginning: walked (its end), done " ..
    "(that of the exchange), hidden (the share of the exchange that went on beside backward), buckets, a list of " ..
    "{first= parameter, count=, bytes=, full=, begun=, ended=}.", signature = "dist.timeline(net)",
  see = { "dist.figures", "inspect.profile" },
  example = "#dist.timeline(dist.parallel(nn.Linear(2, 1))).buckets  --> 0",
  function(net) return require "nablua.dist.timeline" (net) end,
})

-- ---- from a prompt ----

local start_params = { { name = "ranks", type = "size", doc = "how many, this prompt among them" },
  { name = "hosts", type = "table", optional = true,
    doc = "names of machines for the workers, which ssh reaches without a password and which have nablua and the " ..
      "working folder at the same paths; without it this machine" } }
define("start", {
  doc = "Starts workers beside this prompt or notebook, which becomes rank 1 of a group; %%all and %%on run cells " ..
    "on its ranks.  They are fresh: they know what cells define on them, and not this prompt's variables.",
  signature = "dist.start(ranks, {hosts={\"a\", \"b\"}})",
  params = start_params, see = { "dist.stop", "dist.where", "dist.parallel" },
  example = "pcall(dist.start, 1)  --> false",
  function(...)
    local o = read("start", start_params, ...)
    require("nablua.dist.start").start(o.ranks, dist, o.hosts)
  end,
})

define("stop", {
  doc = "Ends the workers that dist.start has started; what they hold is gone, and this prompt is alone again.",
  params = {}, see = { "dist.start" }, example = "pcall(dist.stop)  --> false",
  function() require("nablua.dist.start").stop() end,
})

define("where", {
  doc = "What the ranks do: a list of {rank=, pid=, host=, state=, text=, number=, seconds=, bytes=}, " ..
    "with the last exchange of each, its place in the program, and what it waits for.", params = {},
  see = { "dist.start" }, example = "#dist.where()  --> 0",
  function() return require("nablua.dist.start").where() end,
})

define("bench", {
  doc = "What an exchange costs between these ranks: the medians of allreduce of 8 bytes to 16 MB, a list of " ..
    "{bytes=, seconds=}, and the line near them: latency in seconds, bandwidth in bytes a second.  On all ranks alike.",
  params = {}, see = { "dist.allreduce_" }, example = "pcall(dist.bench)  --> false",
  function() return require "nablua.dist.bench" () end,
})

registry.add {
  name = "dist", kind = "topic", value = dist,
  doc = "Computing in a group of processes: mpirun -n 4 nablua train.lua.  Alone, every exchange leaves things as " ..
    "they are.", example = "dist.allreduce_(nb.ones(2))  --> {1, 1}",
}

return dist
