-- SPDX-License-Identifier: MIT
-- inspect.check: what an experienced person looks at before training: data, labels, loss, optimizer, the loss at the
-- start, one batch learned by heart.  The rules are those of inspect.diagnose and some that take longer.
local native = require "nablua.native"
local nb = require "nablua.core"
local modes = require "nablua.modes"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local findings = require "nablua.inspect.findings"
local patient = require "nablua.inspect.patient"

local check = {}

local class = findings.class "check"

local MOST_AT_ONCE = 256  -- samples of a set without batches

local function refuse(what, ...)
  native.raise(("inspect.check: " .. what):format(...))
end

-- The batch that is examined, the batches it comes from where they are data.batches', and more samples where there are.
local function read_data(given)
  if patient.is_batches(given) then
    if #given.tensors < 2 then refuse("batches hold x and y: data.batches{x, y}, but these have one tensor") end
    if given.count == 0 then refuse("the data are empty: there is no sample") end
    local x, y = given()
    if not x then refuse("the data are empty: there is no whole batch of %d", given.size) end
    return x, y, given, given.tensors
  end
  if options.is_callable(given) then
    local x, y = given()
    if not x then refuse("the data are empty: the iterator gave nothing") end
    return x, y
  end
  if type(given) ~= "table" then
    refuse("data must be {x, y}, what data.batches gives, or an iterator, got %s", options.describe(given))
  end
  local x, y = given[1] or given.x, given[2] or given.y
  if not (nb.is_tensor(x) and nb.is_tensor(y)) then
    refuse("data must be {x, y}, two tensors, got %s and %s", options.describe(x), options.describe(y))
  end
  if x:dim() > 0 and y:dim() > 0 and #x == #y then
    return patient.spread_samples(x, MOST_AT_ONCE), patient.spread_samples(y, MOST_AT_ONCE), nil, { x, y }
  end
  return x, y
end

local function need(net, loss, opt)
  if not module.is(net) then refuse("needs a net, got %s", options.describe(net)) end
  if type(loss) ~= "function" and not module.is(loss) then
    refuse("needs a loss such as nn.MSELoss(), got %s", options.describe(loss))
  end
  if opt ~= nil and not (type(opt) == "table" and opt.step and opt.groups) then
    refuse("needs an optimizer such as optim.Adam(net:parameters()) or nil, got %s", options.describe(opt))
  end
  if #net:parameters() == 0 then refuse("the net has no parameters that require grad: there is nothing to train") end
end

function check.check(net, loss, opt, given)
  need(net, loss, opt)
  local random = { native.random_state() }
  local x, y, batches, all = modes.restoring(function() native.random_state(random[1], random[2]) end, read_data, given)
  if not (nb.is_tensor(x) and nb.is_tensor(y)) then
    refuse("a batch must be two tensors x and y, got %s and %s", options.describe(x), options.describe(y))
  end
  if x:numel() == 0 or y:numel() == 0 then refuse("the data are empty: x is %s, y is %s", options.shape(x),
    options.shape(y)) end
  local p = { where = "inspect.check", net = net, x = x, y = y, loss = loss, opt = opt, steps = 5, batches = batches,
    names = batches and { x = "batches.tensors[1]", y = "batches.tensors[2]" } or { x = "x", y = "y" } }
  if all then patient.more(p, all[1], all[2]) end
  local self = findings.of(class, p, true)
  if not opt then self.note = "without an optimizer the size of updates was not looked at" end
  return self
end

return check
