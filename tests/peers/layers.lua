-- SPDX-License-Identifier: MIT
-- Random layers and losses with random parameters and inputs: `nablua layers.lua FOLDER [SEED]`; see run.py.
--
-- A layer's case has the arguments of its constructor, its options, its state (every parameter requires grad), the
-- inputs, the options of the call, and whether it trains; a loss has its options, prediction and target.
local here = arg[0]:match("^(.*)/") or "."
package.path = ("%s/?.lua;%s/../lua/?.lua;%s"):format(here, here, package.path)
package.preload.luaunit = function() return {} end  -- numeric.lua names it; nothing here calls it

local nb = require "nablua"
local draw = require "draw"
local record = require("recorder").new(arg[1])
local nn = nb.nn

local seed = math.tointeger(tonumber(arg[2])) or 1
nb.seed(seed)
math.randomseed(seed)

local pick, random = draw.pick, math.random
local ROUNDS = 8

-- ---- tensors ----

local function floats(dtype, ...)
  local t = draw.laid_out(nb.randn({ ... }, { dtype = dtype }))
  t.requires_grad = true
  return t
end

local function flag()
  return pick { true, false }
end

-- ---- layers ----

-- New values for all parameters, so that weights of 1 and biases of 0 show too.
local function shake(layer)
  nb.no_grad(function()
    for _, p in ipairs(layer:parameters()) do p:copy_(nb.randn(p.shape, { dtype = p.dtype }) * 0.5) end
  end)
end

local function state_of(layer)
  local state = {}
  for path, t in pairs(layer:state()) do state[path] = t end
  for path, p in layer:named_parameters() do state[path] = p end
  return state
end

local function add_layer(name, dtype, args, options, inputs, call, training)
  local arguments = table.pack(table.unpack(args))
  arguments[#arguments + 1] = options
  local layer = nn[name](table.unpack(arguments)):to(dtype)
  shake(layer)
  layer:train(training ~= false)
  local state = state_of(layer)
  local given = table.pack(table.unpack(inputs))
  given[#given + 1] = call
  local outputs = table.pack(layer(table.unpack(given)))
  -- What a layer has learnt by running comes last.
  if layer.running_mean then
    outputs[#outputs + 1], outputs[#outputs + 2] = layer.running_mean, layer.running_var
    outputs.n = #outputs
  end
  record:add("nn." .. name, { args, options or {}, state, inputs, call or {}, training ~= false, n = 6 }, outputs)
end

local function size() return random(1, 4) end
local function batch() return pick { 0, 1, 2, 3 } end

-- Each gets the dtype and records one case.
local layers = {}

function layers.Linear(dtype)
  local a, b = random(1, 6), random(1, 6)
  local x = pick { function() return floats(dtype, a) end, function() return floats(dtype, batch(), a) end,
    function() return floats(dtype, 2, batch(), a) end }()
  add_layer("Linear", dtype, { a, b }, { bias = flag() }, { x })
end

function layers.Embedding(dtype)
  local n = random(2, 6)
  local shape = pick { { 4 }, { 0 }, { 2, 3 }, { 1, 1 } }
  add_layer("Embedding", dtype, { n, size() }, { padding_idx = pick { nil, random(1, n) } or nil },
    { nb.randint(1, n, shape) })
end

local function convolution_options(dims, more)
  local function each(low, high)
    if flag() then return random(low, high) end
    local list = {}
    for d = 1, dims do list[d] = random(low, high) end
    return dims > 1 and list or list[1]
  end
  local options = { stride = each(1, 2), padding = each(0, 2), dilation = each(1, 2), groups = pick { 1, 2 },
    bias = flag() }
  for name, value in pairs(more or {}) do options[name] = value end
  return options, each(1, 3)
end

local function convolution(name, dims)
  return function(dtype)
    local options, kernel = convolution_options(dims)
    if random(1, 4) == 1 then options.padding, options.stride = pick { "same", "valid" }, 1 end
    local shape = { size(), 2 * size() }
    for d = 3, dims + 2 do shape[d] = random(6, 9) end
    add_layer(name, dtype, { shape[2], 2 * size(), kernel }, options, { floats(dtype, table.unpack(shape)) })
  end
end

layers.Conv1d = convolution("Conv1d", 1)
layers.Conv2d = convolution("Conv2d", 2)

function layers.ConvTranspose2d(dtype)
  local options, kernel = convolution_options(2, { stride = 2, output_padding = pick { 0, 1 } })
  local channels = 2 * size()
  add_layer("ConvTranspose2d", dtype, { channels, 2 * size(), kernel }, options,
    { floats(dtype, size(), channels, random(3, 6), random(3, 6)) })
end

function layers.MaxPool2d(dtype)
  local kernel = pick { 2, 3, { 2, 3 } }
  add_layer("MaxPool2d", dtype, { kernel }, { stride = pick { 1, 2, kernel }, padding = pick { 0, 1 } },
    { floats(dtype, size(), size(), random(5, 8), random(5, 8)) })
end

function layers.AvgPool2d(dtype)
  add_layer("AvgPool2d", dtype, { pick { 2, 3, { 2, 3 } } },
    { stride = pick { 1, 2, 3 }, padding = pick { 0, 1 }, count_include_pad = flag() },
    { floats(dtype, size(), size(), random(5, 8), random(5, 8)) })
end

function layers.AdaptiveAvgPool2d(dtype)
  add_layer("AdaptiveAvgPool2d", dtype, { pick { 1, 3, { 2, 5 } } }, nil, { floats(dtype, 2, 3, random(5, 8), 7) })
end

local function batch_norm(name, shapes)
  return function(dtype)
    local channels, shape = random(1, 4), pick(shapes)
    add_layer(name, dtype, { channels },
      { eps = pick { 1e-5, 1e-2 }, momentum = pick { 0.1, 0.5, false }, affine = flag(), track_running_stats = flag() },
      { floats(dtype, shape[1], channels, table.unpack(shape, 2)) }, nil, flag())
  end
end

layers.BatchNorm3d = batch_norm("BatchNorm3d", { { 2, 3, 2, 2 }, { 1, 2, 1, 2 } })

local function instance_norm(dims)
  return function(dtype)
    local channels, name = random(1, 4), ("InstanceNorm%dd"):format(dims)
    local shape = { pick { 1, 3 }, channels, 4, 3, 2 }
    for d = dims + 3, 5 do shape[d] = nil end
    add_layer(name, dtype, { channels }, { eps = pick { 1e-5, 1e-2 }, momentum = pick { 0.1, 0.5 }, affine = flag(),
      track_running_stats = flag() }, { floats(dtype, table.unpack(shape)) }, nil, flag())
  end
end

for dims = 1, 3 do layers[("InstanceNorm%dd"):format(dims)] = instance_norm(dims) end

function layers.LocalResponseNorm(dtype)
  add_layer("LocalResponseNorm", dtype, { random(1, 4) }, { alpha = pick { 1e-4, 1 }, beta = pick { 0.75, 2 },
    k = pick { 1, 2 } }, { floats(dtype, 2, random(1, 5), table.unpack(pick { { 4 }, { 3, 2 }, { 2, 2, 2 } })) })
end

-- The first `dims` of some sizes behind batch and channels, or without a batch.
local function input_of(dtype, dims, sizes, channels)
  local shape = { pick { 1, 2 }, channels or random(1, 3), table.unpack(sizes, 1, dims) }
  if flag() then table.remove(shape, 1) end
  return floats(dtype, table.unpack(shape))
end

for dims = 1, 3 do
  local sizes = { 7, 6, 5 }
  local function each(list)
    if flag() or dims == 1 then return pick(list) end
    return { pick(list), pick(list), dims == 3 and pick(list) or nil }
  end
  local function named(format) return format:format(dims) end
  if dims ~= 2 then
    layers[named "MaxPool%dd"] = function(dtype)
      local kernel = each { 2, 3 }
      add_layer(named "MaxPool%dd", dtype, { kernel }, { stride = pick { 1, 2, kernel }, padding = each { 0, 1 } },
        { input_of(dtype, dims, sizes) })
    end
    layers[named "AvgPool%dd"] = function(dtype)
      local kernel = each { 2, 3 }
      add_layer(named "AvgPool%dd", dtype, { kernel }, { stride = pick { 1, 2, kernel }, padding = each { 0, 1 },
        count_include_pad = flag() }, { input_of(dtype, dims, sizes) })
    end
    layers[named "AdaptiveAvgPool%dd"] = function(dtype)
      add_layer(named "AdaptiveAvgPool%dd", dtype, { each { 1, 2, 3, 9 } }, nil, { input_of(dtype, dims, sizes) })
    end
    local name = named "ConvTranspose%dd"
    layers[name] = function(dtype)
      local options = { stride = dims == 1 and pick { 2, 3 } or { 2, 3, 2 }, padding = each { 0, 1 },
        output_padding = each { 0, 1 }, dilation = each { 1, 2 }, groups = pick { 1, 2 }, bias = flag() }
      local channels = 2 * size()
      add_layer(name, dtype, { channels, 2 * size(), each { 2, 3 } }, options,
        { input_of(dtype, dims, { 4, 3, 4 }, channels) })
    end
  end
  layers[named "AdaptiveMaxPool%dd"] = function(dtype)
    add_layer(named "AdaptiveMaxPool%dd", dtype, { each { 1, 2, 3, 9 } }, nil, { input_of(dtype, dims, sizes) })
  end
  layers[named "MaxUnpool%dd"] = function(dtype)
    local shape, count = { 2, 2, 2, 3, 2 }, ({ 2, 6, 12 })[dims]
    for d = dims + 3, 5 do shape[d] = nil end
    local numel, places = count * 2 ^ dims, {}
    for k = 1, 4 do places[k] = nb.randperm(math.tointeger(numel)):narrow(1, 1, count) end
    add_layer(named "MaxUnpool%dd", dtype, { 2 }, nil, { floats(dtype, table.unpack(shape)),
      nb.stack(places, 1):view(shape) })
  end
  if dims < 3 then
    layers[named "LPPool%dd"] = function(dtype)
      local kernel = each { 2, 3 }
      local x = input_of(dtype, dims, sizes):detach():abs() + 0.1
      x.requires_grad = true
      add_layer(named "LPPool%dd", dtype, { pick { 1, 2, 3 }, kernel }, { stride = pick { 1, 2, kernel } }, { x })
    end
  end
  for kind in ("Zero Constant Reflection Replication Circular"):gmatch "%a+" do
    local name = kind .. named "Pad%dd"
    layers[name] = function(dtype)
      local amounts = pick { 1, 0, 2 }
      if flag() then
        amounts = {}
        for k = 1, 2 * dims do amounts[k] = random(0, 3) end
      end
      add_layer(name, dtype, { amounts, kind == "Constant" and 0.5 or nil }, nil,
        { input_of(dtype, dims, { 4, 5, 6 }) })
    end
  end
end

layers.Conv3d = convolution("Conv3d", 3)

function layers.Upsample(dtype)
  local mode = pick { "nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic" }
  local dims = ({ linear = 1, bilinear = 2, bicubic = 2, trilinear = 3 })[mode] or random(1, 3)
  local options = { mode = mode }
  if not mode:find "nearest" then options.align_corners = flag() end
  local function list(make)
    local values = {}
    for d = 1, dims do values[d] = make() end
    return values
  end
  if flag() then
    options.size = flag() and random(1, 9) or list(function() return random(1, 9) end)
  else
    options.scale_factor = flag() and pick { 2, 1.5, 0.5 } or list(function() return pick { 2, 3, 0.5, 1.5 } end)
  end
  add_layer("Upsample", dtype, {}, options, { floats(dtype, 2, 2, table.unpack({ 4, 5, 3 }, 1, dims)) })
end

function layers.PixelShuffle(dtype)
  local r = pick { 2, 3 }
  add_layer("PixelShuffle", dtype, { r }, nil, { input_of(dtype, 2, { 2, 3 }, r * r * size()) })
end

function layers.PixelUnshuffle(dtype)
  local r = pick { 2, 3 }
  add_layer("PixelUnshuffle", dtype, { r }, nil, { input_of(dtype, 2, { 2 * r, 3 * r }, size()) })
end

function layers.ChannelShuffle(dtype)
  local g = pick { 2, 3 }
  add_layer("ChannelShuffle", dtype, { g }, nil,
    { floats(dtype, 2, g * size(), table.unpack(pick { { 3 }, { 2, 2 } })) })
end

function layers.Unflatten(dtype)
  add_layer("Unflatten", dtype, { pick { 2, -2 }, pick { { 2, 3 }, { -1, 2 }, { 6 }, { 1, 3, 2 } } }, nil,
    { floats(dtype, 2, 6, 3) })
end

function layers.Bilinear(dtype)
  local a, b = random(1, 4), random(1, 4)
  local lead = pick { {}, { 3 }, { 2, 2 } }
  local function input(n)
    local shape = table.move(lead, 1, #lead, 1, {})
    shape[#shape + 1] = n
    return floats(dtype, table.unpack(shape))
  end
  add_layer("Bilinear", dtype, { a, b, size() }, { bias = flag() }, { input(a), input(b) })
end

function layers.CosineSimilarity(dtype)
  add_layer("CosineSimilarity", dtype, {}, { dim = pick { 1, 2, -1 } },
    { floats(dtype, 3, 4, 2), floats(dtype, 3, 4, 2) })
end

function layers.PairwiseDistance(dtype)
  add_layer("PairwiseDistance", dtype, {}, { p = pick { 1, 2, 3 }, keepdim = flag() },
    { floats(dtype, 3, 4), floats(dtype, 3, 4) })
end

function layers.EmbeddingBag(dtype)
  local n = random(3, 6)
  local options = { mode = pick { "mean", "sum", "max" }, padding_idx = flag() and random(1, n) or nil }
  local x, offsets = nb.randint(1, n, { 3, 4 }), nil
  if flag() then x, offsets = x:view(-1), nb.tensor(pick { { 1, 4, 9 }, { 1, 1, 5, 13 }, { 1 } }):to("i64") end
  add_layer("EmbeddingBag", dtype, { n, size() }, options, { x, offsets })
end

for name in ("RNNCell LSTMCell GRUCell"):gmatch "%a+" do
  layers[name] = function(dtype)
    local a, b, n = random(1, 4), random(1, 4), random(1, 3)
    local inputs = { floats(dtype, n, a) }
    if flag() then
      inputs[2] = floats(dtype, n, b)
      if name == "LSTMCell" then inputs[3] = floats(dtype, n, b) end
    end
    local options = { bias = flag(), nonlinearity = name == "RNNCell" and pick { "tanh", "relu" } or nil }
    add_layer(name, dtype, { a, b }, options,
      inputs)
  end
end

layers.BatchNorm1d = batch_norm("BatchNorm1d", { { 5 }, { 2, 4 }, { 3, 1 } })
layers.BatchNorm2d = batch_norm("BatchNorm2d", { { 2, 3, 4 }, { 1, 5, 1 } })

local function trailing_norm(name, more)
  return function(dtype)
    local shape, last = pick { { 3, 4 }, { 2, 3, 4 }, { 1, 6 }, { 0, 4 } }, {}
    for d = random(1, 2) == 1 and #shape or 2, #shape do last[#last + 1] = shape[d] end
    local options = { eps = pick { 1e-5, 1e-2 }, elementwise_affine = flag() }
    if more then options.bias = flag() end
    add_layer(name, dtype, { #last == 1 and flag() and last[1] or last }, options,
      { floats(dtype, table.unpack(shape)) })
  end
end

layers.LayerNorm = trailing_norm("LayerNorm", true)
layers.RMSNorm = trailing_norm("RMSNorm")

function layers.GroupNorm(dtype)
  local groups = random(1, 3)
  local channels = groups * random(1, 2)
  add_layer("GroupNorm", dtype, { groups, channels }, { eps = pick { 1e-5, 1e-2 }, affine = flag() },
    { floats(dtype, random(1, 3), channels, table.unpack(pick { { 4 }, { 3, 2 } })) })
end

function layers.Flatten(dtype)
  add_layer("Flatten", dtype, pick { {}, { 1 }, { 2, 3 }, { -2 }, { 2, -1 } }, nil, { floats(dtype, 2, 3, batch(), 2) })
end

local function recurrent(name)
  return function(dtype)
    local features, hidden, n = random(1, 4), random(2, 4), random(1, 3)
    local options = { num_layers = random(1, 2), bias = flag(), batch_first = flag(), bidirectional = flag() }
    if name == "RNN" then options.nonlinearity = pick { "tanh", "relu" } end
    if name == "LSTM" and flag() then options.proj_size = hidden - 1 end
    local length, batched = random(1, 5), random(1, 4) > 1
    local shape = not batched and { length, features } or options.batch_first and { n, length, features } or
      { length, n, features }
    local inputs = { floats(dtype, table.unpack(shape)) }
    if flag() then
      local rows = options.num_layers * (options.bidirectional and 2 or 1)
      local function state(width)
        return batched and floats(dtype, rows, n, width) or floats(dtype, rows, width)
      end
      inputs[2] = state(options.proj_size or hidden)
      if name == "LSTM" then inputs[3] = state(hidden) end
    end
    add_layer(name, dtype, { features, hidden }, options, inputs)
  end
end

for _, name in ipairs { "RNN", "LSTM", "GRU" } do layers[name] = recurrent(name) end

-- A mask that leaves the first key to all: PyTorch has NaN where a query sees none.
-- Masks of numbers for keys are newer than PyTorch 1.13: dtype is nil for a mask of truth.
local function mask(dtype, ...)
  local blocked = nb.rand({ ... }):gt(0.6)
  local first = nb.zeros({ ... }):narrow(-1, 1, 1)
  blocked = nb.cat({ first:gt(0), blocked:narrow(-1, 2, blocked:size(-1) - 1) }, -1)
  if not dtype or flag() then return blocked end
  return nb.zeros(blocked.shape, { dtype = dtype }):masked_fill(blocked, -math.huge) +
    nb.randn(blocked.shape, { dtype = dtype })
end

function layers.MultiheadAttention(dtype)
  local heads = random(1, 3)
  local width, n, rows = heads * random(1, 3), random(1, 3), random(2, 4)
  local options = { bias = flag(), batch_first = flag(), add_bias_kv = flag(), add_zero_attn = flag() }
  local cross = flag()
  local columns = cross and random(2, 5) or rows
  if cross and flag() then options.kdim, options.vdim = random(1, 4), random(1, 4) end
  local function input(length, features)
    return floats(dtype, options.batch_first and n or length, options.batch_first and length or n, features)
  end
  local inputs = { input(rows, width) }
  inputs[2] = cross and input(columns, options.kdim or width) or inputs[1]
  inputs[3] = cross and input(columns, options.vdim or width) or inputs[1]
  local call = { need_weights = flag(), average_attn_weights = flag() }
  if not cross and flag() then
    call.is_causal = true
  elseif flag() then
    call.attn_mask = flag() and mask(dtype, rows, columns) or mask(dtype, n * heads, rows, columns)
  end
  if flag() then call.key_padding_mask = mask(nil, n, columns) end
  if not cross then inputs[2], inputs[3] = nil, nil end
  add_layer("MultiheadAttention", dtype, { width, heads }, options, inputs, call)
end

function layers.TransformerEncoderLayer(dtype)
  local heads = random(1, 2)
  local width, n, length = heads * random(2, 3), random(1, 3), random(2, 4)
  local options = { dim_feedforward = random(2, 5), dropout = 0, activation = pick { "relu", "gelu" },
    layer_norm_eps = pick { 1e-5, 1e-2 }, batch_first = flag(), norm_first = flag() }
  local call = {}
  if flag() then
    call.is_causal = true
  elseif flag() then
    call.src_mask = mask(dtype, length, length)
  end
  if flag() then call.src_key_padding_mask = mask(nil, n, length) end
  local x = floats(dtype, options.batch_first and n or length, options.batch_first and length or n, width)
  add_layer("TransformerEncoderLayer", dtype, { width, heads }, options, { x }, call)
end

function layers.TransformerDecoderLayer(dtype)
  local heads = random(1, 2)
  local width, n, length, columns = heads * random(2, 3), random(1, 3), random(2, 4), random(2, 4)
  local options = { dim_feedforward = random(2, 5), dropout = 0, activation = pick { "relu", "gelu" },
    layer_norm_eps = pick { 1e-5, 1e-2 }, batch_first = flag(), norm_first = flag() }
  local function input(l)
    return floats(dtype, options.batch_first and n or l, options.batch_first and l or n, width)
  end
  local call = {}
  if flag() then call.tgt_mask = mask(dtype, length, length) end
  if flag() then call.memory_mask = mask(dtype, length, columns) end
  if flag() then call.tgt_key_padding_mask = mask(nil, n, length) end
  if flag() then call.memory_key_padding_mask = mask(nil, n, columns) end
  add_layer("TransformerDecoderLayer", dtype, { width, heads }, options, { input(length), input(columns) }, call)
end

function layers.Transformer(dtype)
  local options = { num_encoder_layers = random(1, 2), num_decoder_layers = random(1, 2), dim_feedforward = 3,
    dropout = 0, norm_first = flag(), batch_first = flag(), layer_norm_eps = 1e-2 }
  local src = floats(dtype, 3, 2, 4)
  local tgt = floats(dtype, options.batch_first and 3 or 2, 2, 4)
  add_layer("Transformer", dtype, { 4, 2 }, options, { src, tgt }, flag() and { tgt_mask = mask(dtype, 2, 2) } or nil)
end

local activations = {
  Sigmoid = {}, Tanh = {}, ReLU = {}, SiLU = {}, GELU = { "approximate", "none", "tanh" },
  LeakyReLU = { "negative_slope", 0.01, 0.3 }, ELU = { "alpha", 1, 0.5 }, Softplus = { "beta", 1, 2 },
  Softmax = { "dim", -1, 1, 2 }, LogSoftmax = { "dim", -1, 1, 2 },
  ReLU6 = {}, Mish = {}, Hardsigmoid = {}, Hardswish = {}, Tanhshrink = {}, Softsign = {}, LogSigmoid = {}, SELU = {},
  CELU = { "alpha", 1, 0.25, 2 }, Hardtanh = { "max_val", 1, 0.25 }, Hardshrink = { "lambd", 0.5, 0 },
  Softshrink = { "lambd", 0.5, 0.1 }, Softmin = { "dim", -1, 1, 2 },
}

for name, choices in pairs(activations) do
  layers[name] = function(dtype)
    local options = {}
    if #choices > 0 then options[choices[1]] = choices[random(2, #choices)] end
    add_layer(name, dtype, {}, options, { floats(dtype, batch(), random(1, 5), 3) })
  end
end

function layers.GLU(dtype)
  add_layer("GLU", dtype, {}, { dim = pick { -1, 1, 2 } }, { floats(dtype, 4, 2 * size(), 6) })
end

function layers.SwiGLU(dtype)
  add_layer("SwiGLU", dtype, {}, { dim = pick { -1, 1, 2 } }, { floats(dtype, 4, 2 * size(), 6) })
end

function layers.Softmax2d(dtype)
  add_layer("Softmax2d", dtype, {}, nil, { floats(dtype, table.unpack(pick { { 3, 2, 2 }, { 2, 3, 1, 4 } })) })
end

function layers.Threshold(dtype)
  add_layer("Threshold", dtype, { pick { 0, 0.5 }, pick { -1, 0 } }, nil, { floats(dtype, batch(), 5) })
end

function layers.PReLU(dtype)
  local n = pick { 1, 3 }
  add_layer("PReLU", dtype, {}, { num_parameters = n }, { floats(dtype, table.unpack(pick { { 2, 3 }, { 2, 3, 4 } })) })
end

-- ---- losses ----

local function add_loss(name, options, prediction, target)
  record:add("nn." .. name, { options, prediction, target }, { nn[name](options)(prediction, target) })
end

local function reduction()
  return pick { "mean", "sum", "none" }
end

local function shape()
  return pick { { 4 }, { 3, 2 }, { 1 }, { 2, 1, 3 } }
end

local function elementwise(name, make, more)
  return function(dtype)
    local dims = shape()
    local options = { reduction = reduction() }
    for key, choices in pairs(more or {}) do options[key] = pick(choices) end
    local prediction, target = make(dtype, dims, options)
    add_loss(name, options, prediction, target)
  end
end

local function two_floats(dtype, dims)
  return floats(dtype, table.unpack(dims)), floats(dtype, table.unpack(dims))
end

local function shares(dtype, dims)
  return draw.laid_out(nb.rand(dims, { dtype = dtype }) * 0.98 + 0.01)
end

local losses = {
  MSELoss = elementwise("MSELoss", two_floats),
  L1Loss = elementwise("L1Loss", two_floats),
  HuberLoss = elementwise("HuberLoss", two_floats, { delta = { 1, 0.3, 2 } }),
  HingeLoss = elementwise("HingeLoss", function(dtype, dims)
    return floats(dtype, table.unpack(dims)), nb.randn(dims, { dtype = dtype }):sign()
  end, { margin = { 1, 0.5 } }),
  BCELoss = elementwise("BCELoss", function(dtype, dims, options)
    local p = shares(dtype, dims)
    p.requires_grad = true
    if flag() then options.weight = shares(dtype, dims) end
    return p, shares(dtype, dims)
  end),
  BCEWithLogitsLoss = elementwise("BCEWithLogitsLoss", function(dtype, dims, options)
    if flag() then options.weight = shares(dtype, dims) end
    if flag() then options.pos_weight = shares(dtype, { dims[#dims] }) * 3 end
    return floats(dtype, table.unpack(dims)), shares(dtype, dims)
  end),
  KLDivLoss = elementwise("KLDivLoss", function(dtype, dims, options)
    local target = shares(dtype, dims)
    if flag() then options.reduction = "batchmean" end
    return floats(dtype, table.unpack(dims)), options.log_target and target:log() or target
  end, { log_target = { true, false } }),
}

-- Scores of n samples (in places) for k classes, and a class for each.
local function classes(dtype, k)
  local places = pick { {}, {}, { 3 }, { 2, 2 } }
  local n = random(1, 4)
  local scores = floats(dtype, n, k, table.unpack(places))
  return scores, nb.randint(1, k, { n, table.unpack(places) })
end

-- Some samples, but not all, of the class that does not count.
local function ignoring(target, options)
  if not flag() then return end
  options.ignore_index = -100
  local flat = target:view(-1)
  for i = 2, flat:numel() do
    if flag() then flat[i] = -100 end
  end
end

function losses.CrossEntropyLoss(dtype)
  local k = random(2, 5)
  local options = { reduction = reduction(), label_smoothing = pick { 0, 0, 0.1, 0.3 } }
  if flag() then options.weight = shares(dtype, { k }) + 0.1 end
  local scores, target = classes(dtype, k)
  if random(1, 3) == 1 then
    target = nb.softmax(nb.randn(scores.shape, { dtype = dtype }), 2)
  else
    ignoring(target, options)
  end
  add_loss("CrossEntropyLoss", options, scores, target)
end

function losses.NLLLoss(dtype)
  local k = random(2, 5)
  local options = { reduction = reduction() }
  if flag() then options.weight = shares(dtype, { k }) + 0.1 end
  local scores, target = classes(dtype, k)
  ignoring(target, options)
  add_loss("NLLLoss", options, scores, target)
end

losses.SmoothL1Loss = elementwise("SmoothL1Loss", two_floats, { beta = { 1, 0.25, 2, 0 } })
losses.PoissonNLLLoss = elementwise("PoissonNLLLoss", function(dtype, dims, options)
  local rate = floats(dtype, table.unpack(dims))
  if not options.log_input then rate = draw.laid_out(nb.rand(dims, { dtype = dtype }) + 0.1) end
  rate.requires_grad = true
  return rate, nb.randint(0, 5, dims):to(dtype)
end, { log_input = { true, false }, full = { true, false } })
local function signs(dtype, dims)
  return floats(dtype, table.unpack(dims)), nb.randn(dims, { dtype = dtype }):sign()
end
losses.SoftMarginLoss = elementwise("SoftMarginLoss", signs)
losses.HingeEmbeddingLoss = elementwise("HingeEmbeddingLoss", signs, { margin = { 1, 0.25 } })
losses.MultiLabelSoftMarginLoss = elementwise("MultiLabelSoftMarginLoss", function(dtype, dims, options)
  if flag() then options.weight = shares(dtype, { dims[#dims] }) end
  return floats(dtype, table.unpack(dims)), shares(dtype, dims)
end)

-- What takes more than a prediction and a target.
local function add_loss_of(name, options, ...)
  record:add("nn." .. name, { options, ... }, { nn[name](options)(...) })
end

function losses.GaussianNLLLoss(dtype)
  local dims = pick { { 4, 3 }, { 2, 1, 3 } }
  local var = floats(dtype, table.unpack(pick { dims, #dims == 3 and { 2, 1, 1 } or { 4, 1 } }))
    :detach():square()
  var.requires_grad = true
  add_loss_of("GaussianNLLLoss", { reduction = reduction(), full = flag() }, floats(dtype, table.unpack(dims)),
    floats(dtype, table.unpack(dims)), var)
end

function losses.MarginRankingLoss(dtype)
  local x, y = signs(dtype, shape())
  add_loss_of("MarginRankingLoss", { reduction = reduction(), margin = pick { 0, 0.5 } }, x,
    floats(dtype, table.unpack(x.shape)), y)
end

function losses.CosineEmbeddingLoss(dtype)
  local n, k = random(1, 4), random(1, 5)
  add_loss_of("CosineEmbeddingLoss", { reduction = reduction(), margin = pick { 0, 0.5 } }, floats(dtype, n, k),
    floats(dtype, n, k), nb.randn({ n }, { dtype = dtype }):sign())
end

function losses.TripletMarginLoss(dtype)
  local dims = pick { { 4, 3 }, { 2, 1, 3 }, { 5 } }
  local function t() return floats(dtype, table.unpack(dims)) end
  add_loss_of("TripletMarginLoss", { reduction = reduction(), margin = pick { 1, 2.5 }, p = pick { 2, 1, 3 },
    swap = flag() }, t(), t(), t())
end

function losses.MultiMarginLoss(dtype)
  local k = random(2, 5)
  local options = { reduction = reduction(), p = pick { 1, 2 }, margin = pick { 1, 0.5 } }
  if flag() then options.weight = shares(dtype, { k }) + 0.1 end
  local n = random(1, 4)
  add_loss("MultiMarginLoss", options, floats(dtype, n, k), nb.randint(1, k, { n }))
end

function losses.MultiLabelMarginLoss(dtype)
  local n, k = random(1, 4), random(2, 5)
  local rows = {}
  for i = 1, n do rows[i] = nb.randperm(k) end
  local labels = nb.stack(rows, 1)
  labels = nb.where(nb.arange(k):gt(nb.randint(0, k, { n, 1 })), 0, labels)
  add_loss("MultiLabelMarginLoss", { reduction = reduction() }, floats(dtype, n, k), labels)
end

function losses.CTCLoss(dtype)
  local steps, n, k, most = random(4, 9), random(1, 3), random(2, 5), random(1, 3)
  local blank = random(1, k)
  local targets = nb.randint(1, k - 1, { n, most })
  targets = nb.where(targets:ge(blank), targets + 1, targets)
  local lengths, inputs = nb.randint(1, most, { n }), nb.randint(2 * most, math.max(steps, 2 * most), { n })
  inputs = inputs:clamp { max = steps }
  local options = { blank = blank, reduction = reduction(), zero_infinity = true }
  if flag() then
    local rows = {}
    for i = 1, n do rows[i] = targets[i]:narrow(1, 1, lengths:at(i)) end
    targets = nb.cat(rows, 1)
  end
  local z = floats(dtype, steps, n, k)
  record:add("nn.CTCLoss", { options, z, targets, inputs, lengths },
    { nn.CTCLoss(options)(z:log_softmax(-1), targets, inputs, lengths) })
end

-- ---- all ----

local function run(makers)
  local names = {}
  for name in pairs(makers) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    for _, dtype in ipairs { "f32", "f64" } do
      for _ = 1, ROUNDS do makers[name](dtype) end
    end
  end
end

run(layers)
run(losses)
record:close()
