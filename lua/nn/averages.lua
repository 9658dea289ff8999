-- SPDX-License-Identifier: MIT
-- Parameters as one vector, averages of a net's parameters, and sequences made one tensor.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local registry = require "nablua.registry"

local M = {}

local function define(name, entry)
  local where, f = "nn." .. name, entry[1]
  entry[1] = function(...) return f(options.read(where, entry.params, ...)) end
  entry.family = "Training"
  registry.define(M, "nn.", name, entry)
end

local function list_of(where, parameters)
  if module.is(parameters) then parameters = parameters:parameters() end
  if type(parameters) ~= "table" or getmetatable(parameters) or #parameters == 0 then
    native.raise(("%s: the parameters must be a list such as net:parameters(), got %s"):format(where,
      options.describe(parameters)))
  end
  for i, p in ipairs(parameters) do
    if not nb.is_tensor(p) then
      native.raise(("%s: entry %d must be a tensor, got %s"):format(where, i, options.describe(p)))
    end
  end
  return parameters
end

define("parameters_to_vector", {
  doc = "All elements of a list of parameters as one vector; gradients flow back.",
  params = { { name = "parameters", type = "any", doc = "such as net:parameters()" } },
  see = { "nn.vector_to_parameters" },
  example = "nn.parameters_to_vector(nn.Linear(3, 2):parameters()).shape  --> {8}",
  function(o)
    local parts = {}
    for i, p in ipairs(list_of("nn.parameters_to_vector", o.parameters)) do parts[i] = p:reshape(-1) end
    return nb.cat(parts, 1)
  end,
})

local function write_all(list, vector)
  local first = 1
  for _, p in ipairs(list) do
    local n = p:numel()
    p:copy_(vector:narrow(1, first, n):view(p.shape))
    first = first + n
  end
end

define("vector_to_parameters", {
  doc = "Writes the elements of a vector into a list of parameters, in order.",
  params = { { name = "vector", type = "tensor" },
    { name = "parameters", type = "any", doc = "such as net:parameters()" } },
  see = { "nn.parameters_to_vector" },
  example = "local net = nn.Linear(1, 1); nn.vector_to_parameters(nb.tensor{2, 3}, net:parameters()); " ..
    "return net.bias  --> {3}",
  function(o)
    local list, n = list_of("nn.vector_to_parameters", o.parameters), 0
    for _, p in ipairs(list) do n = n + p:numel() end
    if o.vector:dim() ~= 1 or o.vector:numel() ~= n then
      native.raise(("nn.vector_to_parameters: the vector must have %d elements, got shape %s"):format(n,
        options.shape(o.vector)))
    end
    native.whole(nb.no_grad, write_all, list, o.vector:detach())
  end,
})

define("pad_sequence", {
  doc = "Sequences of several lengths as one tensor, length × batch × ..., the shorter ones filled up.",
  params = {
    { name = "sequences", type = "table", doc = "tensors that agree but for their first dimension" },
    { name = "batch_first", type = "boolean", default = false, positional = true,
      doc = "the result is batch × length × ..." },
    { name = "padding_value", type = "number", default = 0, positional = true },
  },
  example = "nn.pad_sequence({nb.tensor{1, 2}, nb.tensor{3}}, {batch_first=true})  --> {{1, 2}, {3, 0}}",
  function(o)
    local list, longest = o.sequences, 0
    if #list == 0 then native.raise("nn.pad_sequence: there is no sequence") end
    for i, t in ipairs(list) do
      local same = nb.is_tensor(t) and t:dim() > 0 and nb.is_tensor(list[1]) and t:dim() == list[1]:dim() and
        options.shape({ table.unpack(t.shape, 2) }) == options.shape({ table.unpack(list[1].shape, 2) })
      if not same then
        native.raise(("nn.pad_sequence: entry %d must be a tensor like the first but for its length, got %s"):format(i,
          options.describe(t)))
      end
      longest = math.max(longest, t:size(1))
    end
    local padded = {}
    for i, t in ipairs(list) do
      local amounts = {}
      for d = 1, 2 * t:dim() do amounts[d] = 0 end
      amounts[#amounts] = longest - t:size(1)
      padded[i] = t:size(1) < longest and t:pad(amounts, o.padding_value) or t
    end
    return nb.stack(padded, o.batch_first and 1 or 2)
  end,
})

-- ---- averages ----

-- A copy of a module, of what it holds, with tensors of its own that learn nothing.
local function copied(v, memo)
  if memo[v] then return memo[v] end
  if nb.is_tensor(v) then
    memo[v] = v:detach():clone()
  elseif module.is(v) then
    memo[v] = {}
    module.copy(v, function(x) return copied(x, memo) end, memo[v])
  elseif type(v) == "table" and not getmetatable(v) then
    memo[v] = {}
    for key, x in next, v do memo[v][key] = copied(x, memo) end
  else
    return v
  end
  return memo[v]
end

local function average_into(self, net)
  local own = self.module
  local n = math.tointeger(self.n_averaged:item())
  local share = n == 0 and 1 or self.decay and 1 - self.decay or 1 / (n + 1)
  local state = net:state()
  for path, t in pairs(own:state()) do
    if not state[path] or options.shape(state[path]) ~= options.shape(t) then
      native.raise(("update_parameters: the net has no %s of shape %s"):format(path, options.shape(t)))
    end
  end
  local learnt = {}
  for path in net:named_parameters() do learnt[path] = true end
  local new = own:state()
  for path, t in pairs(new) do
    local now = state[path]
    new[path] = learnt[path] and share < 1 and t + (now - t) * share or now
  end
  own:load_state(new)
  self.n_averaged:add_(1)
end

M.AveragedModel = module.define("nn.AveragedModel", {
  doc = "A copy of a net with the average of its parameters: average:update_parameters(net) after each step (or " ..
    "epoch) takes in those of now, all alike, or with decay as an exponential mean.  Called as the net is; buffers " ..
    "are the net's last.",
  source = "Polyak and Juditsky 1992; Izmailov et al. 2018",
  params = {
    { name = "model", type = "any", doc = "the net" },
    { name = "decay", type = "fraction", optional = true,
      doc = "share of the old average (EMA); left out: all count alike (SWA)" },
  },
  see = { "optim.ASGD" },
  example = [[
local net = nn.Linear(2, 1)
local average = nn.AveragedModel(net, {decay=0.9})
average:update_parameters(net)
return average(nb.ones(1, 2)).shape  --> {1, 1}]],
  describe = function(self) return self.decay and ("decay=%g"):format(self.decay) or "" end,
  init = function(self, o)
    if not module.is(o.model) then
      native.raise("nn.AveragedModel: model must be a module, got " .. options.describe(o.model))
    end
    self.module = copied(o.model, {})
    self.n_averaged = nb.tensor(0, { dtype = "i64" })
    rawset(self, "model", false)  -- the net itself is no part of its average
  end,
  forward = function(self, ...) return self.module(...) end,
})

M.AveragedModel.update_parameters = registry.add {
  name = "average:update_parameters", kind = "method", signature = "average:update_parameters(net)",
  doc = "Takes the net's parameters of now into their average (nn.AveragedModel); the first ones are it.",
  see = { "nn.AveragedModel" },
  example = "local net = nn.Linear(2, 1); local a = nn.AveragedModel(net); a:update_parameters(net); " ..
    "return a.n_averaged:item()  --> 1",
  value = function(self, net)
    if not module.is(net) then
      native.raise("update_parameters: takes the net, got " .. options.describe(net))
    end
    native.settle(nb.no_grad, average_into, self, net)
  end,
}

return M
