-- SPDX-License-Identifier: MIT
-- inspect.diagnose: looks for illnesses of a net, its data, its loss and its optimizer; each finding has evidence and a
-- remedy, a line of Lua in terms of net, x, y (or batches), loss and opt.
local native = require "nablua.native"
local nb = require "nablua.core"
local modes = require "nablua.modes"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local findings = require "nablua.inspect.findings"
local given_data = require "nablua.inspect.given"

local diagnose = {}

local params = {
  { name = "opt", type = "any", optional = true },
  { name = "steps", type = "size", default = 5 },
}

local class = findings.class "diagnosis"

-- x and y as they are, or the first batch, in which case the arguments after it move up.
local function read_data(x, y, loss, given)
  if not given_data.is_batches(x) then return x, y, loss, given end
  if #x.tensors < 2 then
    native.raise("inspect.diagnose: batches hold x and y: data.batches{x, y}, but these have one tensor")
  end
  local bx, by = x()
  return bx, by, y, loss, x
end

function diagnose.diagnose(net, first, second, third, fourth)
  local random = { native.random_state() }
  local x, y, loss, given, batches = modes.restoring(function() native.random_state(random[1], random[2]) end,
    read_data, first, second, third, fourth)
  local o = options.check("inspect.diagnose", params, given)
  if not module.is(net) then native.raise("inspect.diagnose: needs a net, got " .. options.describe(net)) end
  if not nb.is_tensor(x) or not nb.is_tensor(y) then
    native.raise(("inspect.diagnose: x and y must be tensors, got %s and %s"):format(options.describe(x),
      options.describe(y)))
  end
  if type(loss) ~= "function" and not module.is(loss) then
    native.raise("inspect.diagnose: needs a loss such as nn.MSELoss(), got " .. options.describe(loss))
  end
  if #net:parameters() == 0 then native.raise("inspect.diagnose: the net has no parameters that require grad") end
  if x:numel() == 0 then native.raise("inspect.diagnose: x has no elements") end
  local p = { where = "inspect.diagnose", net = net, x = x, y = y, loss = loss, opt = o.opt, steps = o.steps,
    batches = batches, names = batches and { x = "batches.tensors[1]", y = "batches.tensors[2]" } or
      { x = "x", y = "y" } }
  local self = findings.of(class, p, false)
  if not o.opt then self.note = "without {opt=} the size of updates was not looked at" end
  return self
end

return diagnose
