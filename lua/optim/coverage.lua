-- SPDX-License-Identifier: MIT
-- Whether an optimizer moves the net that is trained: one set of rules for opt:step, nn.fit and inspect.diagnose.
--
-- A net whose dtype was changed, or whose layers were replaced, has new tensors; an optimizer that was made before
-- moves the old ones, and nothing would be said.
local native = require "nablua.native"
local nb = require "nablua.core"
local notice = require "nablua.notice"
local options = require "nablua.options"

local coverage = {}

native.built = native.built or 0  -- counts the parameters that modules were given

-- Optimizer → what that count was when it was last looked at.
coverage.looked = setmetatable({}, { __mode = "k" })

local function holds(set, opt)
  for _, group in ipairs(opt.groups) do
    for _, p in ipairs(group.params) do set[native.id(p)] = true end
  end
  return set
end

-- The paths of the net's parameters that are not in the set, and how many parameters it has.
local function paths_beside(net, set, only_with_gradient)
  local missing, count = {}, 0
  for path, p in net:named_parameters() do
    count = count + 1
    if not set[native.id(p)] and (p.grad or not only_with_gradient) then missing[#missing + 1] = path end
  end
  return missing, count
end

-- The paths of the net's parameters that the optimizer does not hold, and how many parameters it has.
function coverage.missing(net, opt)
  return paths_beside(net, holds({}, opt), false)
end

-- Whether one of the optimizer's groups has this tensor.
function coverage.holds(opt, t)
  return holds({}, opt)[native.id(t)] == true
end

-- What is wrong, as a sentence; nil when nothing is.
function coverage.sentence(missing, count)
  if #missing == 0 then return nil end
  local remedy = "net:to(dtype) and replaced layers make new tensors: make the optimizer afterwards, " ..
    "of net:parameters()"
  if #missing == count then
    return ("the optimizer holds none of the net's %d parameters, so the net will not learn; %s"):format(count, remedy)
  end
  local shown = table.concat(missing, ", ", 1, math.min(#missing, 4)) .. (#missing > 4 and ", …" or "")
  return ("the optimizer holds %d of the net's %d parameters; %s will not learn (%s; or say so by " ..
    "requires_grad = false)"):format(count - #missing, count, shown, remedy)
end

-- Says what is wrong with an optimizer for a net, once for each state of both.
function coverage.look(where, net, opt)
  if type(opt.groups) ~= "table" then return end
  coverage.looked[opt] = native.built
  local sentence = coverage.sentence(coverage.missing(net, opt))
  if sentence then notice.say("%s: %s", where, sentence) end
end

-- Whether a module holds a tensor with a gradient that is not in the set.
local function is_gradient_beside(module, set)
  for m in module.live() do
    for _, t in pairs(m) do
      if nb.is_tensor(t) and t.is_leaf and t.grad and not set[native.id(t)] then return true end
    end
  end
  return false
end

-- Whether the net's parameters are as many and of the same shapes as the optimizer's: the net it was made for.
local function is_twin(net, shapes)
  local k = 0
  for _, p in net:named_parameters() do
    k = k + 1
    if shapes[k] ~= options.shape(p) then return false end
  end
  return k == #shapes
end

-- The same at a step, where the net is not told.  Looked at are live nets with gradients that no optimizer uses: those
-- of which this one holds a part, and while nothing that it holds has a gradient those like the one it was made for.
function coverage.look_at_step(opt, optimizers)
  coverage.looked[opt] = native.built
  local own, all, shapes, moves = holds({}, opt), {}, {}, false
  for _, group in ipairs(opt.groups) do
    for _, p in ipairs(group.params) do
      shapes[#shapes + 1] = options.shape(p)
      moves = moves or p.grad ~= nil
    end
  end
  for other in pairs(optimizers) do holds(all, other) end
  local module = package.loaded["nablua.nn.module"]
  if not module then return end  -- there are no nets
  for net in pairs(is_gradient_beside(module, all) and module.roots() or {}) do
    local missing, n = paths_beside(net, all, true)
    local strange = paths_beside(net, own, false)
    if #missing > 0 and (#strange < n or not moves and is_twin(net, shapes)) then
      return notice.say("opt:step: %s", coverage.sentence(missing, n))
    end
  end
  if not moves then
    notice.say("opt:step: none of the optimizer's %d parameters has a gradient, so nothing moves; call J:backward() " ..
      "on a loss that depends on them, and make the optimizer after net:to(dtype) or a new layer", #shapes)
  end
end

return coverage
