-- SPDX-License-Identifier: MIT
-- Attention of several heads.  Weights are named, laid out and first drawn as PyTorch has them.
--
--   query L×N×E ─W_q─► heads: N×H×L×d ─┐
--   key   S×N×E ─W_k─► heads: N×H×S×d ─┴ q·kᵀ/√d + mask ─softmax─► weights N×H×L×S ─┐
--   value S×N×E ─W_v─► heads: N×H×S×d ──────────────────────────────────────────────┴► L×N×E ─out_proj─► output
local native = require "nablua.native"
local nb = require "nablua.core"
local init = require "nablua.nn.init"
local linear = require "nablua.nn.linear"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local shared = require "nablua.nn.shared"

-- ---- masks ----

-- A mask of one of the given shapes, viewed as it broadcasts over N×H×L×S.
local function fitted(what, mask, forms)
  if not nb.is_tensor(mask) then
    native.raise(("MultiheadAttention: %s must be a tensor, got %s"):format(what, options.describe(mask)))
  end
  local shapes = {}
  for i, form in ipairs(forms) do
    shapes[i] = options.shape(form.shape)
    if shapes[i] == options.shape(mask) then return mask:reshape(form.view) end
  end
  native.raise(("MultiheadAttention: %s must have shape %s, got %s"):format(what, table.concat(shapes, " or "),
    options.shape(mask)))
end

-- Masks of true (blocked) join to one, those of numbers add up: blocked, added.
local function gather_masks(list)
  local blocked, added
  for _, mask in ipairs(list) do
    if mask.dtype == "bool" then
      blocked = blocked and (blocked | mask) or mask
    else
      added = added and added + mask or mask
    end
  end
  return blocked, added
end

-- Both as one, true where a key is seen or added.
local function one_mask(blocked, added)
  if not blocked then return added end
  return added and added:masked_fill(blocked, -math.huge) or blocked:logical_not()
end

-- softmax over the last dimension of what is neither blocked nor has −∞ added.  A row with nothing left gives zeros,
-- not NaN, as the operator has it: its scores stay finite, so that no gradient is NaN either.
local function masked_softmax(scores, blocked, added)
  if added then
    local hidden = added:eq(-math.huge)
    blocked = blocked and (blocked | hidden) or hidden
    scores = scores + added:masked_fill(hidden, 0)
  end
  if not blocked then return scores:softmax(-1) end
  local none = blocked:all(-1, { keepdim = true })
  return scores:masked_fill(blocked & none:logical_not(), -math.huge):softmax(-1):masked_fill(none, 0)
end

-- ---- the module ----

-- N×L×E → N×H×L×d
local function split_heads(x, heads)
  local n, length, width = table.unpack(x.shape)
  return x:reshape(n, length, heads, width // heads):transpose(2, 3)
end

local function appended(x, row, zeros)
  local n, _, width = table.unpack(x.shape)
  local parts = { x }
  if row then parts[#parts + 1] = row:expand(n, 1, width) end
  if zeros then parts[#parts + 1] = nb.zeros({ n, 1, width }, { dtype = x.dtype }) end
  return #parts > 1 and nb.cat(parts, 2) or x
end

-- Queries, keys and values, N×L×E; one product serves where they come from the same tensor.
local function project(self, query, key, value)
  local bias, width = self.in_proj_bias, self.embed_dim
  if self.in_proj_weight and rawequal(query, key) and rawequal(key, value) then
    return table.unpack(shared.affine(query, self.in_proj_weight, bias):chunk(3, -1))
  end
  local weights = self.in_proj_weight and self.in_proj_weight:chunk(3, 1) or
    { self.q_proj_weight, self.k_proj_weight, self.v_proj_weight }
  local out = {}
  for i, x in ipairs { query, key, value } do
    out[i] = shared.affine(x, weights[i], bias and bias:narrow(1, (i - 1) * width + 1, width))
  end
  return table.unpack(out)
end

local function check_own(self)
  local width = self.embed_dim
  shared.check_sizes(self, "in_proj_weight", 3 * width, width)
  shared.check_sizes(self, "in_proj_bias", 3 * width)
  shared.check_sizes(self, "q_proj_weight", width, width)
  shared.check_sizes(self, "k_proj_weight", width, self.kdim)
  shared.check_sizes(self, "v_proj_weight", width, self.vdim)
  shared.check_sizes(self, "bias_k", 1, 1, width)
  shared.check_sizes(self, "bias_v", 1, 1, width)
end

local function check_inputs(self, query, key, value)
  local dims, sizes = query:dim(), { self.embed_dim, self.kdim, self.vdim }
  for i, x in ipairs { query, key, value } do
    local shape = x.shape
    if (#shape ~= 2 and #shape ~= 3) or #shape ~= dims or shape[#shape] ~= sizes[i] then
      native.raise(("MultiheadAttention: the %s must be %s (or length × features) with %d features, got shape %s")
        :format(({ "query", "key", "value" })[i],
          self.batch_first and "batch × length × features" or "length × batch × features", sizes[i],
          options.shape(shape)))
    end
  end
  local last = #key.shape - 1
  for d = 1, last do
    if key:size(d) ~= value:size(d) then
      native.raise(("MultiheadAttention: key and value must agree but for their features, got shapes %s and %s"):format(
        options.shape(key), options.shape(value)))
    end
  end
  local batch = self.batch_first and 1 or 2
  if dims == 3 and query:size(batch) ~= key:size(batch) then
    native.raise(("MultiheadAttention: query and key must have one batch size, got shapes %s and %s"):format(
      options.shape(query), options.shape(key)))
  end
end

local flag = "boolean"
local call_options = {
  { name = "key_padding_mask", type = "tensor", optional = true },
  { name = "need_weights", type = flag, default = true },
  { name = "attn_mask", type = "tensor", optional = true },
  { name = "average_attn_weights", type = flag, default = true },
  { name = "is_causal", type = flag, default = false },
}

-- The inputs in any of the forms attn(x), attn(query, key), attn(query, key, value), and the options.
local function read_call(...)
  local args, given = table.pack(...), nil
  local last = args[args.n]
  if type(last) == "table" and not nb.is_tensor(last) then
    given = last
    args[args.n] = nil
  end
  for i = 1, math.max(#args, 1) do
    if not nb.is_tensor(args[i]) then
      native.raise("MultiheadAttention: the inputs must be tensors, got " .. options.describe(args[i]))
    end
  end
  local key = args[2] or args[1]
  return args[1], key, args[3] or key, options.check("MultiheadAttention", call_options, given)
end

-- All masks, of which `causal` is one, as they broadcast over N×H×L×S; `extra` keys at the end are seen by all.
local function masks_of(self, o, causal, n, rows, columns, batched, extra)
  local list = {}
  local function add(mask)
    list[#list + 1] = extra > 0 and mask:pad { 0, extra } or mask
  end
  if o.key_padding_mask then
    local view = { n, 1, 1, columns }
    add(fitted("key_padding_mask", o.key_padding_mask,
      { batched and { shape = { n, columns }, view = view } or { shape = { columns }, view = view } }))
  end
  if o.attn_mask then
    add(fitted("attn_mask", o.attn_mask, {
      { shape = { rows, columns }, view = { 1, 1, rows, columns } },
      { shape = { n * self.num_heads, rows, columns }, view = { n, self.num_heads, rows, columns } },
    }))
  end
  if causal then
    add(nb.ones({ rows, columns }, { dtype = "bool" }):triu(1):view(1, 1, rows, columns))
  end
  return gather_masks(list)
end

local function forward(self, ...)
  local query, key, value, o = read_call(...)
  check_own(self)
  check_inputs(self, query, key, value)
  local batched, same = query:dim() == 3, rawequal(query, key) and rawequal(key, value)
  local function batch_first(x)
    if not batched then return x:unsqueeze(1) end
    return self.batch_first and x or x:transpose(1, 2)
  end
  query = batch_first(query)
  key = same and query or batch_first(key)
  value = same and query or batch_first(value)
  local n, rows, columns = query:size(1), query:size(2), key:size(2)
  local extra = (self.bias_k and 1 or 0) + (self.add_zero_attn and 1 or 0)
  -- Without the weights and without dropout one operator does it all, in tiles.
  local fused = not o.need_weights and not (self.training and self.dropout > 0) and not native.observed()
  local flagged = fused and o.is_causal and extra == 0
  local blocked, added = masks_of(self, o, o.is_causal and not flagged, n, rows, columns, batched, extra)

  local y, weights
  if fused and same and self.in_proj_weight and extra == 0 then
    y = native.self_attention(shared.affine(query, self.in_proj_weight, self.in_proj_bias), self.num_heads,
      one_mask(blocked, added), { is_causal = flagged })
  else
    local q, k, v = project(self, query, key, value)
    k = appended(k, self.bias_k, self.add_zero_attn)
    v = appended(v, self.bias_v, self.add_zero_attn)
    q, k, v = split_heads(q, self.num_heads), split_heads(k, self.num_heads), split_heads(v, self.num_heads)
    if fused then
      y = nb.scaled_dot_product_attention(q, k, v, one_mask(blocked, added), { is_causal = flagged })
    else
      local scores = (q * (1 / math.sqrt(self.embed_dim // self.num_heads))):matmul(k:transpose(3, 4))
      weights = masked_softmax(scores, blocked, added)
      if self.training then weights = shared.dropped(weights, self.dropout) end
      y = weights:matmul(v)
    end
    y = y:transpose(2, 3):reshape(n, rows, self.embed_dim)
  end
  y = self.out_proj(y)
  if not batched then
    y = y:squeeze(1)
  elseif not self.batch_first then
    y = y:transpose(1, 2)
  end
  if not o.need_weights then return y end
  if o.average_attn_weights then weights = weights:mean(2) end
  return y, batched and weights or weights:squeeze(1)
end

return {
  MultiheadAttention = module.define("nn.MultiheadAttention", {
    doc = "Attention: every query gets a mean of the values, weighted by softmax(q·kᵀ/√d), in several heads side " ..
      "by side.  attn(query, key, value, {attn_mask=, key_padding_mask=, is_causal=, need_weights=, " ..
      "average_attn_weights=}) returns the output and the weights (batch × queries × keys); attn(x) is " ..
      "attn(x, x, x).  Masks are true where a key is not seen, or numbers added to the scores; is_causal hides " ..
      "later keys.",
    params = {
      { name = "embed_dim", type = "size", doc = "features of queries and of the output" },
      { name = "num_heads", type = "size" },
      { name = "dropout", type = "fraction", default = 0, doc = "share of the weights dropped in training" },
      { name = "bias", type = flag, default = true },
      { name = "add_bias_kv", type = flag, default = false, doc = "a learned key and value after the others" },
      { name = "add_zero_attn", type = flag, default = false, doc = "a key and value of zeros after the others" },
      { name = "kdim", type = "size", optional = true, doc = "features of keys, if not embed_dim" },
      { name = "vdim", type = "size", optional = true, doc = "features of values, if not embed_dim" },
      { name = "batch_first", type = flag, default = false,
        doc = "inputs are batch × length × features, not length × batch × features" },
    },
    source = "Vaswani et al. 2017", see = { "nn.TransformerEncoderLayer" },
    example = "nn.MultiheadAttention(8, 2)(nb.randn(5, 3, 8)).shape  --> {5, 3, 8}",
    init = function(self, o)
      local width = o.embed_dim
      if width % o.num_heads ~= 0 then
        native.raise(("nn.MultiheadAttention: %d heads do not divide embed_dim %d"):format(o.num_heads, width))
      end
      o.kdim, o.vdim = o.kdim or width, o.vdim or width
      local function parameter(...) return nb.zeros({ ... }, { requires_grad = true }) end
      if o.kdim == width and o.vdim == width then
        self.in_proj_weight = init.xavier_uniform(parameter(3 * width, width))
      else
        self.q_proj_weight = init.xavier_uniform(parameter(width, width))
        self.k_proj_weight = init.xavier_uniform(parameter(width, o.kdim))
        self.v_proj_weight = init.xavier_uniform(parameter(width, o.vdim))
      end
      if o.bias then self.in_proj_bias = parameter(3 * width) end
      self.out_proj = linear.Linear(width, width, { bias = o.bias })
      if o.bias then init.constant(self.out_proj.bias, 0) end
      if o.add_bias_kv then
        self.bias_k = init.xavier_normal(parameter(1, 1, width))
        self.bias_v = init.xavier_normal(parameter(1, 1, width))
      end
    end,
    forward = forward,
  }),
}
