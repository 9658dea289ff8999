-- SPDX-License-Identifier: MIT
-- The decoder of a transformer, and the whole of encoder and decoder.
local native = require "nablua.native"
local attention = require "nablua.nn.attention"
local containers = require "nablua.nn.containers"
local init = require "nablua.nn.init"
local linear = require "nablua.nn.linear"
local module = require "nablua.nn.module"
local normalization = require "nablua.nn.normalization"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"
local transformer = require "nablua.nn.transformer"

local M = {}

local function mask(name) return { name = name, type = "tensor", optional = true } end
local function causal(name) return { name = name, type = "boolean", default = false } end

local call_options = { mask "tgt_mask", mask "memory_mask", mask "tgt_key_padding_mask",
  mask "memory_key_padding_mask", causal "tgt_is_causal", causal "memory_is_causal" }

local layer_params = {
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
}

M.TransformerDecoderLayer = module.define("nn.TransformerDecoderLayer", {
  doc = "x ← norm1(x + attention(x)), x ← norm2(x + attention(x, memory)), x ← norm3(x + linear2(activation(" ..
    "linear1(x)))); norm_first normalises what goes into each instead.  layer(x, memory, {tgt_mask=, memory_mask=, " ..
    "tgt_key_padding_mask=, memory_key_padding_mask=, tgt_is_causal=, memory_is_causal=}).",
  params = layer_params, source = "Vaswani et al. 2017",
  see = { "nn.TransformerEncoderLayer", "nn.MultiheadAttention" },
  example = "nn.TransformerDecoderLayer(8, 2)(nb.randn(3, 5, 8), nb.randn(4, 5, 8)).shape  --> {3, 5, 8}",
  describe = function(self)
    return ("%d, %d heads, %d → %d → %d"):format(self.d_model, self.nhead, self.d_model, self.dim_feedforward,
      self.d_model)
  end,
  init = function(self, o)
    local attend = { dropout = o.dropout, bias = o.bias, batch_first = o.batch_first }
    self.self_attn = attention.MultiheadAttention(o.d_model, o.nhead, attend)
    self.multihead_attn = attention.MultiheadAttention(o.d_model, o.nhead, attend)
    self.linear1 = linear.Linear(o.d_model, o.dim_feedforward, { bias = o.bias })
    self.linear2 = linear.Linear(o.dim_feedforward, o.d_model, { bias = o.bias })
    for _, name in ipairs { "norm1", "norm2", "norm3" } do
      self[name] = normalization.LayerNorm(o.d_model, { eps = o.layer_norm_eps, bias = o.bias })
    end
    self.activation = shared.activation_of("nn.TransformerDecoderLayer", o.activation)
    for _, name in ipairs { "dropout", "dropout1", "dropout2", "dropout3" } do
      self[name] = containers.Dropout(o.dropout)
    end
  end,
  forward = function(self, x, memory, given)
    local o = options.check("TransformerDecoderLayer", call_options, given)
    local function attend(v)
      return self.dropout1((self.self_attn(v, { attn_mask = o.tgt_mask, key_padding_mask = o.tgt_key_padding_mask,
        is_causal = o.tgt_is_causal, need_weights = false })))
    end
    local function look(v)
      return self.dropout2((self.multihead_attn(v, memory, memory, { attn_mask = o.memory_mask,
        key_padding_mask = o.memory_key_padding_mask, is_causal = o.memory_is_causal, need_weights = false })))
    end
    local function feed(v)
      return self.dropout3(self.linear2(self.dropout(self.activation(self.linear1(v)))))
    end
    if self.norm_first then
      x = x + attend(self.norm1(x))
      x = x + look(self.norm2(x))
      return x + feed(self.norm3(x))
    end
    x = self.norm1(x + attend(x))
    x = self.norm2(x + look(x))
    return self.norm3(x + feed(x))
  end,
})

-- Another layer like it, with weights of its own.
local function another(layer)
  return M.TransformerDecoderLayer(layer.d_model, layer.nhead, { dim_feedforward = layer.dim_feedforward,
    dropout = layer.dropout.p, activation = layer.activation, layer_norm_eps = layer.layer_norm_eps,
    batch_first = layer.batch_first or false, norm_first = layer.norm_first or false, bias = layer.bias or false })
end

M.TransformerDecoder = module.define("nn.TransformerDecoder", {
  doc = "num_layers copies of a decoder layer, each with weights drawn of its own, one after the other; norm after " ..
    "the last where one is given.  decoder(x, memory, {tgt_mask=, ...}) as the layer.",
  params = {
    { name = "decoder_layer", type = "any", doc = "an nn.TransformerDecoderLayer; the first" },
    { name = "num_layers", type = "size" },
    { name = "norm", type = "any", optional = true, doc = "a module such as nn.LayerNorm(d_model)" },
  },
  source = "Vaswani et al. 2017", see = { "nn.TransformerDecoderLayer" },
  example = "nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2), 2)(nb.randn(5, 2, 8), nb.randn(3, 2, 8)).shape" ..
    "  --> {5, 2, 8}",
  describe = function(self) return ("%d layers"):format(#self.layers) end,
  init = function(self, o)
    if not module.is(o.decoder_layer) or o.decoder_layer:kind() ~= "TransformerDecoderLayer" then
      native.raise("nn.TransformerDecoder: decoder_layer must be an nn.TransformerDecoderLayer, got " ..
        options.describe(o.decoder_layer))
    end
    if o.norm and not module.is(o.norm) then
      native.raise("nn.TransformerDecoder: norm must be a module, got " .. options.describe(o.norm))
    end
    local layers = { o.decoder_layer }
    for i = 2, o.num_layers do layers[i] = another(o.decoder_layer) end
    self.layers = containers.ModuleList(layers)
    self.norm = o.norm
  end,
  forward = function(self, x, memory, given)
    for _, layer in ipairs(self.layers) do x = layer(x, memory, given) end
    return self.norm and self.norm(x) or x
  end,
})

-- ---- the whole ----

local whole_params = {}
for i, p in ipairs(layer_params) do
  whole_params[i] = p
  if i <= 2 then
    whole_params[i] = { name = p.name, type = p.type, default = i == 1 and 512 or 8, positional = true, doc = p.doc }
  end
end
table.insert(whole_params, 3, { name = "num_encoder_layers", type = "size", default = 6, positional = true })
table.insert(whole_params, 4, { name = "num_decoder_layers", type = "size", default = 6, positional = true })

local whole_options = { mask "src_mask", mask "tgt_mask", mask "memory_mask", mask "src_key_padding_mask",
  mask "tgt_key_padding_mask", mask "memory_key_padding_mask", causal "src_is_causal", causal "tgt_is_causal",
  causal "memory_is_causal" }

M.Transformer = module.define("nn.Transformer", {
  doc = "An encoder and a decoder that looks at what the encoder gives: net(src, tgt, {src_mask=, tgt_mask=, " ..
    "memory_mask=, src_key_padding_mask=, tgt_key_padding_mask=, memory_key_padding_mask=, src_is_causal=, " ..
    "tgt_is_causal=, memory_is_causal=}).  Embeddings and the last layer are yours.",
  params = whole_params, source = "Vaswani et al. 2017", see = { "nn.TransformerEncoder", "nn.TransformerDecoder" },
  example = "nn.Transformer(8, 2, 1, 1, {dim_feedforward=16})(nb.randn(5, 2, 8), nb.randn(3, 2, 8)).shape" ..
    "  --> {3, 2, 8}",
  describe = function(self)
    return ("%d, %d heads, %d and %d layers"):format(self.d_model, self.nhead, self.num_encoder_layers,
      self.num_decoder_layers)
  end,
  init = function(self, o)
    local layer = { dim_feedforward = o.dim_feedforward, dropout = o.dropout, activation = o.activation,
      layer_norm_eps = o.layer_norm_eps, batch_first = o.batch_first, norm_first = o.norm_first, bias = o.bias }
    local function norm() return normalization.LayerNorm(o.d_model, { eps = o.layer_norm_eps, bias = o.bias }) end
    self.encoder = transformer.TransformerEncoder(transformer.TransformerEncoderLayer(o.d_model, o.nhead, layer),
      o.num_encoder_layers, { norm = norm() })
    self.decoder = M.TransformerDecoder(M.TransformerDecoderLayer(o.d_model, o.nhead, layer), o.num_decoder_layers,
      { norm = norm() })
    for _, p in ipairs(self:parameters()) do
      if p:dim() > 1 then init.xavier_uniform(p) end
    end
  end,
  forward = function(self, src, tgt, given)
    local o = options.check("Transformer", whole_options, given)
    local memory = self.encoder(src, { src_mask = o.src_mask, src_key_padding_mask = o.src_key_padding_mask,
      is_causal = o.src_is_causal })
    return self.decoder(tgt, memory, { tgt_mask = o.tgt_mask, memory_mask = o.memory_mask,
      tgt_key_padding_mask = o.tgt_key_padding_mask, memory_key_padding_mask = o.memory_key_padding_mask,
      tgt_is_causal = o.tgt_is_causal, memory_is_causal = o.memory_is_causal })
  end,
})

return M
