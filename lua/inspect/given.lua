-- SPDX-License-Identifier: MIT
-- What the verbs around training are given: a net, a loss, an optimizer and data.  `where` names the verb in errors.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"

local given = {}

function given.refuse(where, what, ...)
  native.raise((where .. ": " .. what):format(...))
end
local refuse = given.refuse

function given.net(where, net)
  if not module.is(net) then refuse(where, "needs a net, got %s", options.describe(net)) end
  if #net:parameters() == 0 then
    refuse(where, "the net has no parameters that require grad: there is nothing to train")
  end
end

function given.loss(where, loss)
  if type(loss) ~= "function" and not module.is(loss) then
    refuse(where, "needs a loss such as nn.MSELoss(), got %s", options.describe(loss))
  end
end

function given.optimizer(where, opt, optional)
  if optional and opt == nil then return end
  if not (type(opt) == "table" and opt.step and opt.groups) then
    refuse(where, "needs an optimizer such as optim.Adam(net:parameters())%s, got %s", optional and " or nil" or "",
      options.describe(opt))
  end
end

-- Whether it is what data.batches gives.
function given.is_batches(x)
  return type(x) == "table" and (getmetatable(x) or {}).__name == "batches"
end

-- Data as { x=, y= of a whole set } or { next = an iterator over batches }, with batches = what data.batches gave.
function given.data(where, set)
  if given.is_batches(set) then
    if #set.tensors < 2 then
      refuse(where, "batches hold x and y: data.batches{x, y}, but these have one tensor")
    end
    if set.count == 0 then refuse(where, "the data are empty: there is no sample") end
    return { batches = set, x = set.tensors[1], y = set.tensors[2] }
  end
  if options.is_callable(set) then return { next = set } end
  if type(set) ~= "table" then
    refuse(where, "data must be {x, y}, what data.batches gives, or an iterator, got %s", options.describe(set))
  end
  local x, y = set[1] or set.x, set[2] or set.y
  if not (nb.is_tensor(x) and nb.is_tensor(y)) then
    refuse(where, "data must be {x, y}, two tensors, got %s and %s", options.describe(x), options.describe(y))
  end
  return { x = x, y = y }
end

-- That a batch holds two tensors with something in them.
function given.batch(where, x, y)
  if not (nb.is_tensor(x) and nb.is_tensor(y)) then
    refuse(where, "a batch must be two tensors x and y, got %s and %s", options.describe(x), options.describe(y))
  end
  if x:numel() == 0 or y:numel() == 0 then
    refuse(where, "the data are empty: x is %s, y is %s", options.shape(x), options.shape(y))
  end
  return x, y
end

-- A function that gives one batch after another, epoch after epoch; sets without batches in parts of `size`.
function given.feed(where, set, size)
  local source = given.data(where, set)
  local batches = source.batches
  if not batches and source.x then
    given.batch(where, source.x, source.y)
    if source.x:dim() == 0 or source.y:dim() == 0 or #source.x ~= #source.y then
      return function() return source.x, source.y end
    end
    batches = require("nablua.data").batches { source.x, source.y, size = size, shuffle = true }
  end
  local call, previous = batches or source.next, nil
  return function()
    local x, y = call(nil, previous)
    if x == nil then x, y = call(nil, nil) end
    if x == nil then refuse(where, "the data are empty: there is no batch") end
    previous = x
    return given.batch(where, x, y)
  end
end

return given
