-- SPDX-License-Identifier: MIT
-- inspect.check: what an experienced person looks at before training: data, labels, loss, optimizer, the loss at the
-- start, one batch learned by heart.  The rules are those of inspect.diagnose and some that take longer.
local native = require "nablua.native"
local modes = require "nablua.modes"
local findings = require "nablua.inspect.findings"
local given = require "nablua.inspect.given"
local patient = require "nablua.inspect.patient"

local check = {}

local class = findings.class "check"

local WHERE = "inspect.check"
local MOST_AT_ONCE = 256  -- samples of a set without batches

-- The batch that is examined.
local function first_batch(source)
  if source.batches or source.next then
    local x, y = (source.batches or source.next)()
    if x == nil then given.refuse(WHERE, "the data are empty: there is no batch") end
    return x, y
  end
  local x, y = source.x, source.y
  if x:dim() == 0 or y:dim() == 0 or #x ~= #y then return x, y end
  return patient.spread_samples(x, MOST_AT_ONCE), patient.spread_samples(y, MOST_AT_ONCE)
end

function check.check(net, loss, opt, set)
  given.net(WHERE, net)
  given.loss(WHERE, loss)
  given.optimizer(WHERE, opt, true)
  local source = given.data(WHERE, set)
  local random = { native.random_state() }
  local x, y = modes.restoring(function() native.random_state(random[1], random[2]) end, first_batch, source)
  given.batch(WHERE, x, y)
  local p = { where = WHERE, net = net, x = x, y = y, loss = loss, opt = opt, steps = 5, batches = source.batches,
    names = source.batches and { x = "batches.tensors[1]", y = "batches.tensors[2]" } or { x = "x", y = "y" } }
  if source.x then patient.more(p, source.x, source.y) end
  local self = findings.of(class, p, true)
  if not opt then self.note = "without an optimizer the size of updates was not looked at" end
  return self
end

return check
