-- SPDX-License-Identifier: MIT
-- Recurrent layers: RNN, LSTM and GRU.  Weights are named, laid out and first drawn as PyTorch has them.
--
-- A pass over a sequence is one operator of the runtime.  cells.lua has it step by step: it serves where steps are
-- looked at, and for projected states, which the operator does not know.
local native = require "nablua.native"
local nb = require "nablua.core"
local cells = require "nablua.nn.cells"
local module = require "nablua.nn.module"
local notice = require "nablua.notice"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

-- ---- shapes ----

local function check_input(self, x)
  if not nb.is_tensor(x) then
    native.raise(("%s: the input must be a tensor, got %s"):format(self:kind(), options.describe(x)))
  end
  local shape = x.shape
  if (#shape ~= 2 and #shape ~= 3) or shape[#shape] ~= self.input_size then
    native.raise(("%s: the input must be %s (or length × features) with %d features, got shape %s"):format(self:kind(),
      self.batch_first and "batch × length × features" or "length × batch × features", self.input_size,
      options.shape(shape)))
  end
  if shape[#shape == 3 and self.batch_first and 2 or 1] == 0 then
    native.raise(("%s: the sequence has no elements: shape %s"):format(self:kind(), options.shape(shape)))
  end
end

-- The states of all layers and directions before the first step; zeros where none is given.
local function initial_state(self, what, given, x, batched, size, batch)
  local rows = self.num_layers * (self.bidirectional and 2 or 1)
  local shape = { rows, batch or x:size(2), size }
  if given == nil then return nb.zeros(shape, { dtype = x.dtype }) end
  local wanted = options.shape(batched and shape or { rows, size })
  if not nb.is_tensor(given) or options.shape(given) ~= wanted then
    native.raise(("%s: the state %s must have shape %s (layers%s%s × size), got %s"):format(self:kind(), what, wanted,
      self.bidirectional and "·2" or "", batched and " × batch" or "", options.describe(given)))
  end
  return batched and given or given:unsqueeze(2)
end

-- ---- passes ----

local WEIGHTS = { "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr" }

-- One layer in one direction over x, length × batch × features: all h, the last h and c.
local function pass(self, kind, x, suffix, reverse, h, c)
  local w = {}
  for _, name in ipairs(WEIGHTS) do w[name] = self[name .. "_" .. suffix] end
  if w.weight_hr or native.observed() then
    local outputs
    outputs, h, c = cells.steps(kind, x, w, reverse, h, c)
    return nb.stack(outputs, 1), h, c
  end
  local n = x:size(1)
  local last = reverse and 1 or n + 1
  local all, all_c = native.recurrent(x, w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh, h, c,
    { cell = kind, reverse = reverse })
  return all:narrow(1, reverse and 1 or 2, n), all[last], all_c and all_c[last]
end

-- All layers over x, or over the data of packed sequences.
local function run(self, kind, x, h0, c0, packed)
  local last_h, last_c = {}, {}
  for layer = 1, self.num_layers do
    local directions = {}
    for d = 1, self.bidirectional and 2 or 1 do
      local at = #last_h + 1
      local suffix = ("l%d%s"):format(layer - 1, d == 2 and "_reverse" or "")
      if packed then
        directions[d], last_h[at], last_c[at] = packed.pass(x, packed.batch_sizes, d == 2, h0[at], c0 and c0[at],
          function(part, h, c) return pass(self, kind, part, suffix, d == 2, h, c) end)
      else
        directions[d], last_h[at], last_c[at] = pass(self, kind, x, suffix, d == 2, h0[at], c0 and c0[at])
      end
    end
    x = #directions == 2 and nb.cat(directions, -1) or directions[1]
    if layer < self.num_layers and self.training then x = shared.dropped(x, self.dropout) end
  end
  return x, nb.stack(last_h, 1), c0 and nb.stack(last_c, 1)
end

local function run_packed(self, kind, packed, h, c, has_c)
  local data = packed.data
  if data:dim() ~= 2 or data:size(2) ~= self.input_size then
    native.raise(("%s: the packed sequences must have %d features, got shape %s"):format(self:kind(), self.input_size,
      options.shape(data)))
  end
  local size = (self.proj_size or 0) > 0 and self.proj_size or self.hidden_size
  local function state(what, given, width)
    return initial_state(self, what, given, data, true, width, #packed):index_select(2, packed.sorted_indices)
  end
  h, c = state("h", h, size), has_c and state("c", c, self.hidden_size) or nil
  local y
  y, h, c = run(self, kind, data, h, c, packed)
  local back = packed.unsorted_indices
  y, h = packed.with(packed, y), h:index_select(2, back)
  if c then return y, h, c:index_select(2, back) end
  return y, h
end

-- ---- classes ----

local function add_weights(self, o, gates)
  local hidden, bound = o.hidden_size, 1 / math.sqrt(o.hidden_size)
  local state = (o.proj_size or 0) > 0 and o.proj_size or hidden
  local width = o.input_size
  for layer = 0, o.num_layers - 1 do
    for d = 1, o.bidirectional and 2 or 1 do
      local suffix = ("l%d%s"):format(layer, d == 2 and "_reverse" or "")
      self["weight_ih_" .. suffix] = module.parameter(bound, gates * hidden, width)
      self["weight_hh_" .. suffix] = module.parameter(bound, gates * hidden, state)
      if o.bias then
        self["bias_ih_" .. suffix] = module.parameter(bound, gates * hidden)
        self["bias_hh_" .. suffix] = module.parameter(bound, gates * hidden)
      end
      if state ~= hidden then self["weight_hr_" .. suffix] = module.parameter(bound, state, hidden) end
    end
    width = state * (o.bidirectional and 2 or 1)
  end
end

-- A class of recurrent layers: `gates` blocks of hidden_size rows in its weights, and the kind of its cell; without one
-- the layer's nonlinearity.  `has_c` says whether there is a second state.
local function define(name, spec)
  local params = {
    { name = "input_size", type = "size", doc = "features of one step" },
    { name = "hidden_size", type = "size", doc = "numbers in the state" },
    { name = "num_layers", type = "size", default = 1, positional = true,
      doc = "layers, each fed with the outputs of the one below" },
    { name = "bias", type = "boolean", default = true },
    { name = "batch_first", type = "boolean", default = false,
      doc = "sequences are batch × length × features, not length × batch × features" },
    { name = "dropout", type = "fraction", default = 0, doc = "share of outputs dropped between layers" },
    { name = "bidirectional", type = "boolean", default = false,
      doc = "a second pass goes from the end; the outputs of both are joined" },
  }
  table.move(spec.params or {}, 1, #(spec.params or {}), #params + 1, params)
  local state_text = spec.has_c and "h, c" or "h"
  return module.define("nn." .. name, {
    doc = spec.doc .. ("  Called with a sequence and, if wanted, the state to begin with (%s: layers × batch × " ..
      "size), returns the outputs of all steps and the last state: y, %s."):format(state_text, state_text),
    params = params, source = spec.source, see = spec.see, example = spec.example,
    init = function(self, o)
      if o.dropout > 0 and o.num_layers == 1 then
        notice.say("nn.%s: dropout = %g drops nothing: it acts between layers, and there is one (num_layers=2)", name,
          o.dropout)
      end
      add_weights(self, o, spec.gates)
    end,
    forward = function(self, x, h, c)
      if type(h) == "table" and c == nil then h, c = h[1], h[2] end
      if type(x) == "table" and x.batch_sizes then
        return run_packed(self, spec.cell or self.nonlinearity, x, h, c, spec.has_c)
      end
      check_input(self, x)
      local batched = x:dim() == 3
      if not batched then
        x = x:unsqueeze(2)
      elseif self.batch_first then
        x = x:transpose(1, 2)
      end
      local size = (self.proj_size or 0) > 0 and self.proj_size or self.hidden_size
      h = initial_state(self, "h", h, x, batched, size)
      c = spec.has_c and initial_state(self, "c", c, x, batched, self.hidden_size) or nil
      local y
      y, h, c = run(self, spec.cell or self.nonlinearity, x, h, c)
      if not batched then
        y, h, c = y:squeeze(2), h:squeeze(2), c and c:squeeze(2)
      elseif self.batch_first then
        y = y:transpose(1, 2)
      end
      if c then return y, h, c end
      return y, h
    end,
  })
end

return {
  RNN = define("RNN", {
    doc = "Elman's recurrent layer: h ← tanh(W_ih·x + b_ih + W_hh·h + b_hh).", source = "Elman 1990", gates = 1,
    see = { "nn.LSTM", "nn.GRU" },
    params = { { name = "nonlinearity", choices = { "tanh", "relu" }, default = "tanh" } },
    example = "nn.RNN(3, 5)(nb.ones(7, 2, 3)).shape  --> {7, 2, 5}",
  }),
  LSTM = define("LSTM", {
    doc = "Long short-term memory: gates i, f, o = σ(...) and g = tanh(...) of W_ih·x + b_ih + W_hh·h + b_hh; " ..
      "c ← f·c + i·g, h ← o·tanh(c).",
    source = "Hochreiter and Schmidhuber 1997", gates = 4, has_c = true, see = { "nn.GRU", "nn.clip_grad_norm" },
    params = { { name = "proj_size", type = "count", default = 0, doc = "projects h to so many numbers; 0: not" } },
    example = "local y, h, c = nn.LSTM(3, 5, {num_layers=2})(nb.ones(7, 1, 3)); return h.shape  --> {2, 1, 5}",
    cell = "lstm",
  }),
  GRU = define("GRU", {
    doc = "Gated recurrent unit: r, z = σ(W_ih·x + b_ih + W_hh·h + b_hh), " ..
      "n = tanh(W_in·x + b_in + r·(W_hn·h + b_hn)); h ← (1 − z)·n + z·h.",
    source = "Cho et al. 2014", gates = 3, see = { "nn.LSTM" },
    example = "nn.GRU(3, 5, {batch_first=true, bidirectional=true})(nb.ones(2, 7, 3)).shape  --> {2, 7, 10}",
    cell = "gru",
  }),
}
