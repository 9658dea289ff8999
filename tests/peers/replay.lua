-- SPDX-License-Identifier: MIT
-- Does what PyTorch's cases say: `nablua replay.lua FOLDER COUNT`, which has that many 1.lua and 1.safetensors, 2.lua
-- ...; writes 1.json and 1.results.safetensors ...: nb.compile collects garbage, so that few tensors should be alive.
--
-- Each line of the Lua files is a table: `tensors` the case's own among all, `call` a function of them (and of what
-- `make` makes, once for several calls), `leaves` those whose gradients are taken, `weights` of the outputs
-- (J = Σ weight · output), `directions` of second derivatives.  The elements lie in memory in row-major order, with
-- gaps, or transposed.
local here = arg[0]:match("^(.*)/") or "."
package.path = ("%s/?.lua;%s/../lua/?.lua;%s"):format(here, here, package.path)
package.preload.luaunit = function() return {} end  -- numeric.lua names it; nothing here calls it

local nb = require "nablua"
local draw = require "draw"
local recorder = require "recorder"

local folder = arg[1]
local given, kept  -- tensors of the cases and of the results, of one file
nb.seed(1)
math.randomseed(1)

-- Puts tensors in the places of a module's own: install(net, { ["layers.1.weight"] = t, ... }).
local function install(net, state)
  for path, tensor in pairs(state) do
    local owner = net
    for part in path:gmatch("([^.]+)%.") do owner = owner[math.tointeger(part) or part] end
    owner[path:match("[^.]+$")] = tensor
  end
  return net
end

-- What a call gave, then more.
local function with(list, more)
  table.move(more, 1, #more, list.n + 1, list)
  return table.unpack(list, 1, list.n + #more)
end

local environment = setmetatable({ nb = nb, nn = nb.nn, optim = nb.optim, install = install, with = with },
  { __index = _G })

local function keep(t)
  if not t then return false end
  kept[#kept + 1] = t:detach():clone()
  return #kept
end

local function keep_all(list, n)
  local places = {}
  for k = 1, n do places[k] = keep(list[k]) end
  return places
end

local function tensors_of(case)
  local t = {}
  for k, place in ipairs(case.tensors) do t[k] = draw.laid_out(given[tostring(place)]:clone()) end
  for _, k in ipairs(case.leaves) do t[k].requires_grad = true end
  return t
end

local function leaves_of(case, t)
  local leaves = {}
  for k, place in ipairs(case.leaves) do leaves[k] = t[place] end
  return leaves
end

-- Σ weight · part, of the parts that have one; nil where there is none.
local function weighed(parts, weights)
  local J
  for k, place in ipairs(weights) do
    if place and parts[k] and parts[k].requires_grad then
      local part = (parts[k] * (given[tostring(place)])):sum()
      J = J and J + part or part
    end
  end
  return J
end

local function gradients(J, leaves, options)
  if not J or #leaves == 0 then return {} end
  return table.pack(nb.grad(J, leaves, options))
end

-- The outputs, then the gradients that there are, as one list.
local function step(case, t, leaves, made)
  local list = table.pack(case.call(t, made))
  local grads = gradients(weighed(list, case.weights), leaves)
  local all = {}
  for k = 1, list.n do all[k] = list[k]:detach() end
  for k = 1, #leaves do all[#all + 1] = grads[k] end
  return all
end

-- Equal but for the order in which numbers of f64 are added, which follows their place in memory; of f32, too, where
-- the case says how far that may go, since what a compiled function is called with is copied to rows.
local function equal(a, b, rounding)
  if a.dtype ~= b.dtype or table.concat(a.shape, " ") ~= table.concat(b.shape, " ") then return false end
  if a:numel() == 0 then return true end
  local fine = nb.logical_or(a:eq(b), nb.logical_and(a:ne(a), b:ne(b)))
  if a.dtype == "f64" or rounding and a.dtype == "f32" then
    local scale = nb.where(a:isfinite(), a, 0):abs():max()
    fine = nb.logical_or(fine, (a - b):abs():le(scale * (a.dtype == "f64" and 1e-13 or rounding)))
  end
  return fine:all():item()
end

-- What differs where the same is recorded and replayed: nil where nothing does, then whether it was replayed.
-- It is recorded with other values of the leaves, `scale` (of the round) times these.
local function replayed(case, t, scale)
  local leaves, made = leaves_of(case, t), case.make(t)
  local expected = step(case, t, leaves, made)
  local values, args = {}, {}
  for k, leaf in ipairs(leaves) do values[k] = leaf:detach():clone() end
  for k, x in ipairs(t) do
    if not x.requires_grad then args[#args + 1] = k end
  end
  local function own(...)
    local all = table.move(t, 1, #t, 1, {})
    for i, k in ipairs(args) do all[k] = select(i, ...) end
    return table.unpack(step(case, all, leaves, made))
  end
  local function call(f)
    local list = {}
    for i, k in ipairs(args) do list[i] = t[k] end
    return table.pack(f(table.unpack(list)))
  end
  local f = nb.compile(own)
  for round = 1, 4 do
    nb.no_grad(function()
      for k, leaf in ipairs(leaves) do leaf:copy_(values[k] * scale(round)) end
    end)
    if round < 4 then call(f) end
  end
  local got = call(f)
  if #got ~= #expected then return ("%d results against %d"):format(#got, #expected) end
  for k, y in ipairs(expected) do
    if not equal(y, got[k], case.rounding) then return ("result %d: %s, eager %s"):format(k, got[k], y) end
  end
  return nil, tostring(f):find("compiled function, [1-9]") ~= nil
end

local function smaller(round)
  return round < 4 and 0.5 + 0.1 * round or 1
end

local function alike()
  return 1
end

local function silently(f, ...)
  local before = io.stderr
  io.stderr = { write = function() end }  -- luacheck: ignore 122
  local results_of_f = table.pack(pcall(f, ...))
  io.stderr = before  -- luacheck: ignore 122
  return table.unpack(results_of_f, 1, results_of_f.n)
end

local function second(case, t, leaves)
  local J = weighed(table.pack(case.call(t, case.make(t))), case.weights)
  local grads = gradients(J, leaves, { create_graph = true })
  return gradients(weighed(grads, case.directions), leaves)
end

local function run(case)
  local t, result = tensors_of(case), {}
  local ok, list = pcall(function() return table.pack(case.call(t, case.make(t))) end)
  if not ok then return { refused = tostring(list) } end
  for k = 1, list.n do
    if not nb.is_tensor(list[k]) then return { refused = ("output %d is a %s"):format(k, type(list[k])) } end
  end
  local leaves = leaves_of(case, t)
  local grads
  result.outputs = keep_all(list, list.n)
  ok, grads = pcall(function() return gradients(weighed(list, case.weights), leaves) end)
  if not ok then return { refused = tostring(grads) } end
  result.gradients = keep_all(grads, #leaves)
  if #case.directions > 0 then
    ok, grads = pcall(second, case, t, leaves)
    if ok then result.second = keep_all(grads, #leaves) else result.no_second = tostring(grads) end
  end
  if case.compile then
    local fine, problem, was = silently(replayed, case, tensors_of(case), smaller)
    if not fine then fine, problem, was = silently(replayed, case, tensors_of(case), alike) end
    result.compiled = fine and problem or not fine and tostring(problem) or nil
    result.replayed = was or false
  end
  return result
end

for n = 1, math.tointeger(tonumber(arg[2])) do
  local path, results = ("%s/%d"):format(folder, n), {}
  given, kept = nb.load(path .. ".safetensors"), {}
  for line in io.lines(path .. ".lua") do
    results[#results + 1] = run(assert(load("return " .. line, "case", "t", environment))())
  end
  nb.save(path .. ".results.safetensors", kept)
  local file = assert(io.open(path .. ".json", "w"))
  file:write(recorder.json(results))
  file:close()
end
