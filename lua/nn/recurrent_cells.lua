-- SPDX-License-Identifier: MIT
-- One step of recurrent layers.  Weights are named, laid out and first drawn as PyTorch has them.
local native = require "nablua.native"
local nb = require "nablua.core"
local cells = require "nablua.nn.cells"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

-- A state before the step: zeros where none is given.
local function state_of(self, what, given, x)
  local shape = x.shape
  shape[#shape] = self.hidden_size
  if given == nil then return nb.zeros(shape, { dtype = x.dtype }) end
  if not nb.is_tensor(given) or options.shape(given) ~= options.shape(shape) then
    native.raise(("%s: the state %s must have shape %s, got %s"):format(self:kind(), what, options.shape(shape),
      options.describe(given)))
  end
  return given
end

-- A class of cells of `gates` blocks of hidden_size rows in its weights; with `has_c` of two states.
local function define(name, gates, spec)
  local params = {
    { name = "input_size", type = "size", doc = "features of x" },
    { name = "hidden_size", type = "size", doc = "numbers in the state" },
    { name = "bias", type = "boolean", default = true },
    spec.more,
  }
  return module.define("nn." .. name, {
    doc = spec.doc, params = params, source = spec.source, see = spec.see, example = spec.example,
    init = function(self, o)
      local bound = 1 / math.sqrt(o.hidden_size)
      self.weight_ih = module.parameter(bound, gates * o.hidden_size, o.input_size)
      self.weight_hh = module.parameter(bound, gates * o.hidden_size, o.hidden_size)
      if o.bias then
        self.bias_ih = module.parameter(bound, gates * o.hidden_size)
        self.bias_hh = module.parameter(bound, gates * o.hidden_size)
      end
    end,
    forward = function(self, x, h, c)
      if not nb.is_tensor(x) or x:dim() ~= 1 and x:dim() ~= 2 or x:size(-1) ~= self.input_size then
        native.raise(("%s: the input must be (batch ×) %d features, got %s"):format(name, self.input_size,
          options.describe(x)))
      end
      local rows = gates * self.hidden_size
      shared.check_sizes(self, "weight_ih", rows, self.input_size)
      shared.check_sizes(self, "weight_hh", rows, self.hidden_size)
      shared.check_sizes(self, "bias_ih", rows)
      shared.check_sizes(self, "bias_hh", rows)
      if type(h) == "table" and c == nil then h, c = h[1], h[2] end
      h = state_of(self, "h", h, x)
      c = spec.has_c and state_of(self, "c", c, x) or nil
      return cells[spec.cell or self.nonlinearity](shared.affine(x, self.weight_ih, self.bias_ih),
        shared.affine(h, self.weight_hh, self.bias_hh), h, c)
    end,
  })
end

return {
  RNNCell = define("RNNCell", 1, {
    doc = "One step of RNN: h ← tanh(W_ih·x + b_ih + W_hh·h + b_hh); cell(x, [h]) returns the new h.",
    source = "Elman 1990", see = { "nn.RNN" },
    more = { name = "nonlinearity", choices = { "tanh", "relu" }, default = "tanh" },
    example = "nn.RNNCell(3, 5)(nb.ones(2, 3)).shape  --> {2, 5}",
  }),
  LSTMCell = define("LSTMCell", 4, {
    doc = "One step of LSTM: cell(x, [h, c]) returns the new h and c.", source = "Hochreiter and Schmidhuber 1997",
    see = { "nn.LSTM" }, cell = "lstm", has_c = true,
    example = "local h, c = nn.LSTMCell(3, 5)(nb.ones(2, 3)); return c.shape  --> {2, 5}",
  }),
  GRUCell = define("GRUCell", 3, {
    doc = "One step of GRU: cell(x, [h]) returns the new h.", source = "Cho et al. 2014", see = { "nn.GRU" },
    cell = "gru", example = "nn.GRUCell(3, 5)(nb.ones(2, 3)).shape  --> {2, 5}",
  }),
}
