-- SPDX-License-Identifier: MIT
-- The encoder of a transformer, whose layers are self-attention, then two linear layers, each with a path around it.
local native = require "nablua.native"
local attention = require "nablua.nn.attention"
local containers = require "nablua.nn.containers"
local linear = require "nablua.nn.linear"
local module = require "nablua.nn.module"
local normalization = require "nablua.nn.normalization"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

local call_options = {
  { name = "src_mask", type = "tensor", optional = true },
  { name = "src_key_padding_mask", type = "tensor", optional = true },
  { name = "is_causal", type = "boolean", default = false },
}

local M = {
  TransformerEncoderLayer = module.define("nn.TransformerEncoderLayer", {
    doc = "x ← norm1(x + attention(x)), then x ← norm2(x + linear2(activation(linear1(x)))); norm_first " ..
      "normalises what goes into each instead.  layer(x, {src_mask=, src_key_padding_mask=, is_causal=}); " ..
      "is_causal hides later places.",
    params = {
      { name = "d_model", type = "size", doc = "features of x" },
      { name = "nhead", type = "size", doc = "heads of the attention" },
      { name = "dim_feedforward", type = "size", default = 2048, doc = "features between the two linear layers" },
      { name = "dropout", type = "fraction", default = 0.1 },
      { name = "activation", type = "any", default = "relu", doc = "\"relu\", \"gelu\" or a function" },
      { name = "layer_norm_eps", type = "non-negative", default = 1e-5 },
      { name = "batch_first", type = "boolean", default = false,
        doc = "x is batch × length × features, not length × batch × features" },
      { name = "norm_first", type = "boolean", default = false },
      { name = "bias", type = "boolean", default = true },
    },
    source = "Vaswani et al. 2017", see = { "nn.MultiheadAttention" },
    example = "nn.TransformerEncoderLayer(8, 2, {batch_first=true})(nb.randn(3, 5, 8)).shape  --> {3, 5, 8}",
    describe = function(self)
      return ("%d, %d heads, %d → %d → %d"):format(self.d_model, self.nhead, self.d_model, self.dim_feedforward,
        self.d_model)
    end,
    init = function(self, o)
      self.self_attn = attention.MultiheadAttention(o.d_model, o.nhead,
        { dropout = o.dropout, bias = o.bias, batch_first = o.batch_first })
      self.linear1 = linear.Linear(o.d_model, o.dim_feedforward, { bias = o.bias })
      self.linear2 = linear.Linear(o.dim_feedforward, o.d_model, { bias = o.bias })
      local norm = { eps = o.layer_norm_eps, bias = o.bias }
      self.norm1 = normalization.LayerNorm(o.d_model, norm)
      self.norm2 = normalization.LayerNorm(o.d_model, norm)
      self.activation = shared.activation_of("nn.TransformerEncoderLayer", o.activation)
      for _, name in ipairs { "dropout", "dropout1", "dropout2" } do self[name] = containers.Dropout(o.dropout) end
    end,
    forward = function(self, x, given)
      local o = options.check("TransformerEncoderLayer", call_options, given)
      local function attend(v)
        return self.dropout1((self.self_attn(v, { attn_mask = o.src_mask, key_padding_mask = o.src_key_padding_mask,
          is_causal = o.is_causal, need_weights = false })))
      end
      local function feed(v)
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(v)))))
      end
      if self.norm_first then
        x = x + attend(self.norm1(x))
        return x + feed(self.norm2(x))
      end
      x = self.norm1(x + attend(x))
      return self.norm2(x + feed(x))
    end,
  }),
}

-- Another layer like it, with weights of its own.
local function another(layer)
  return M.TransformerEncoderLayer(layer.d_model, layer.nhead, { dim_feedforward = layer.dim_feedforward,
    dropout = layer.dropout.p, activation = layer.activation, layer_norm_eps = layer.layer_norm_eps,
    batch_first = layer.batch_first or false, norm_first = layer.norm_first or false, bias = layer.bias or false })
end

M.TransformerEncoder = module.define("nn.TransformerEncoder", {
  doc = "num_layers copies of an encoder layer, each with weights drawn of its own, one after the other; norm after " ..
    "the last where one is given.  encoder(x, {src_mask=, src_key_padding_mask=, is_causal=}).",
  params = {
    { name = "encoder_layer", type = "any", doc = "an nn.TransformerEncoderLayer; the first" },
    { name = "num_layers", type = "size" },
    { name = "norm", type = "any", optional = true, doc = "a module such as nn.LayerNorm(d_model)" },
  },
  source = "Vaswani et al. 2017", see = { "nn.TransformerEncoderLayer" },
  example = "nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 3)(nb.randn(5, 2, 8)).shape  --> {5, 2, 8}",
  describe = function(self) return ("%d layers"):format(#self.layers) end,
  init = function(self, o)
    if not module.is(o.encoder_layer) or o.encoder_layer:kind() ~= "TransformerEncoderLayer" then
      native.raise("nn.TransformerEncoder: encoder_layer must be an nn.TransformerEncoderLayer, got " ..
        options.describe(o.encoder_layer))
    end
    if o.norm and not module.is(o.norm) then
      native.raise("nn.TransformerEncoder: norm must be a module, got " .. options.describe(o.norm))
    end
    local layers = { o.encoder_layer }
    for i = 2, o.num_layers do layers[i] = another(o.encoder_layer) end
    self.layers = containers.ModuleList(layers)
    self.norm = o.norm
  end,
  forward = function(self, x, given)
    for _, layer in ipairs(self.layers) do x = layer(x, given) end
    return self.norm and self.norm(x) or x
  end,
})

return M
