-- SPDX-License-Identifier: MIT
-- One of each layer, for tests of all of them; test_gradcheck.lua sees that none is missing.
local nb = require "nablua"
local registry = require "nablua.registry"
local nn = nb.nn

local f64 = { dtype = "f64" }

-- Layer → how it is made, and the shape of its input.
local layers = {
  Linear = { function() return nn.Linear(3, 2) end, 4, 3 },
  Conv1d = { function() return nn.Conv1d(2, 3, 3, { padding = 1 }) end, 2, 2, 5 },
  Conv2d = { function() return nn.Conv2d(2, 2, 3, { stride = 2, padding = 1 }) end, 2, 2, 5, 4 },
  ConvTranspose2d = { function() return nn.ConvTranspose2d(2, 2, 3, { stride = 2, padding = 1 }) end, 2, 2, 3, 3 },
  MaxPool2d = { function() return nn.MaxPool2d(2) end, 2, 2, 4, 4 },
  AvgPool2d = { function() return nn.AvgPool2d(2) end, 2, 2, 4, 4 },
  AdaptiveAvgPool2d = { function() return nn.AdaptiveAvgPool2d { 2, 3 } end, 2, 2, 5, 4 },
  BatchNorm1d = { function() return nn.BatchNorm1d(3) end, 5, 3 },
  BatchNorm2d = { function() return nn.BatchNorm2d(2) end, 2, 2, 3, 3 },
  LayerNorm = { function() return nn.LayerNorm(4) end, 3, 4 },
  RMSNorm = { function() return nn.RMSNorm(4) end, 3, 4 },
  GroupNorm = { function() return nn.GroupNorm(2, 4) end, 2, 4, 3 },
  Identity = { function() return nn.Identity() end, 2, 3 },
  Lambda = { function() return nn.Lambda(function(x) return x:sin() end) end, 2, 3 },
  Flatten = { function() return nn.Flatten() end, 2, 3, 2 },
  Sequential = { function() return nn.Sequential { nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1) } end, 2, 3 },
  Dropout = { function() return nn.Dropout(0.5) end, 5, 4 },
  RNN = { function() return nn.RNN(2, 3) end, 3, 2, 2 },
  LSTM = { function() return nn.LSTM(2, 3, 2, { bidirectional = true }) end, 3, 2, 2 },
  GRU = { function() return nn.GRU(2, 3) end, 3, 2, 2 },
  TransformerEncoderLayer = { function()
    return nn.TransformerEncoderLayer(4, 2, { dim_feedforward = 5, activation = "gelu" })
  end, 3, 2, 4 },
  TransformerEncoder = { function()
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(2, 1, { dim_feedforward = 3, activation = "gelu" }), 2)
  end, 3, 2, 2 },
}
for _, name in ipairs { "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus", "Softmax",
  "LogSoftmax", "ReLU6", "PReLU", "SELU", "CELU", "Mish", "Hardsigmoid", "Hardtanh", "Hardswish", "Hardshrink",
  "Softshrink", "Tanhshrink", "Softsign", "Softmin", "LogSigmoid", "GLU", "SwiGLU" } do
  layers[name] = { function() return nn[name]() end, 3, 4 }
end
local plain = {  -- made without arguments, or with these; the shape of the input
  BatchNorm3d = { { 2 }, 2, 2, 2, 2, 3 }, InstanceNorm1d = { { 2 }, 2, 2, 4 }, InstanceNorm2d = { { 2 }, 2, 2, 3, 2 },
  InstanceNorm3d = { { 2, { affine = true } }, 2, 2, 2, 2, 2 }, LocalResponseNorm = { { 3, { alpha = 0.5 } }, 2, 4, 3 },
  Conv3d = { { 2, 2, 2, { stride = { 2, 1, 1 }, padding = { 1, 0, 1 }, dilation = { 1, 2, 1 } } }, 2, 2, 3, 3, 3 },
  ConvTranspose1d = { { 2, 3, 3, { stride = 2, padding = 1 } }, 2, 2, 4 },
  ConvTranspose3d = { { 2, 2, 2, { stride = 2, padding = { 1, 0, 0 }, output_padding = 1 } }, 2, 2, 2, 2, 3 },
  MaxPool1d = { { 2 }, 2, 2, 5 }, MaxPool3d = { { 2, { padding = 1 } }, 2, 2, 3, 4, 3 },
  AvgPool1d = { { 2 }, 2, 2, 5 }, AvgPool3d = { { 2, { padding = 1, count_include_pad = false } }, 1, 2, 3, 4, 3 },
  AdaptiveAvgPool1d = { { 3 }, 2, 2, 5 }, AdaptiveAvgPool3d = { { { 2, 3, 1 } }, 1, 2, 3, 5, 4 },
  AdaptiveMaxPool1d = { { 3 }, 2, 2, 5 }, AdaptiveMaxPool2d = { { { 2, 3 } }, 2, 2, 5, 4 },
  AdaptiveMaxPool3d = { { 2 }, 1, 2, 3, 5, 2 },
  Dropout1d = { {}, 3, 2, 2 }, Dropout2d = { {}, 3, 2, 2, 2 }, Dropout3d = { {}, 3, 2, 2, 1, 2 },
  AlphaDropout = { {}, 4, 3 }, FeatureAlphaDropout = { {}, 3, 2, 2 },
  Upsample = { { { scale_factor = 2, mode = "bicubic" } }, 2, 1, 3, 4 }, PixelShuffle = { { 2 }, 2, 4, 2, 3 },
  PixelUnshuffle = { { 2 }, 2, 2, 2, 4 }, ChannelShuffle = { { 2 }, 2, 4, 3 }, Unflatten = { { 2, { 2, -1 } }, 3, 6 },
  RNNCell = { { 3, 2 }, 2, 3 }, LSTMCell = { { 3, 2 }, 2, 3 }, GRUCell = { { 3, 2 }, 2, 3 },
}
for kind in ("Zero Reflection Replication Circular"):gmatch "%a+" do
  plain[kind .. "Pad1d"] = { { { 2, 1 } }, 2, 2, 4 }
  plain[kind .. "Pad2d"] = { { { 1, 0, 2, 1 } }, 2, 1, 3, 3 }
  plain[kind .. "Pad3d"] = { { 1 }, 1, 2, 2, 2, 3 }
end
for dims = 1, 3 do
  plain[("ConstantPad%dd"):format(dims)] = { { 1, 0.5 }, 2, 1, table.unpack({ 3, 2, 2 }, 1, dims) }
end
for name, given in pairs(plain) do
  layers[name] = { function() return nn[name](table.unpack(given[1])) end, table.unpack(given, 2) }
end
layers.LPPool1d = { function() return nn.LPPool1d(2, 2) end, 2, 2, 6 }
layers.LPPool2d = { function() return nn.LPPool2d(2, 2) end, 2, 1, 4, 4 }
layers.LPPool3d = { function() return nn.LPPool3d(2, 2) end, 2, 1, 4, 4, 2 }
layers.Softmax2d = { function() return nn.Softmax2d() end, 2, 3, 2, 2 }
layers.Threshold = { function() return nn.Threshold(0.1, -2) end, 3, 4 }
-- Sizes left out: one call sees them.
for name, given in pairs {
  Linear = { { 2 }, 4, 3 }, Conv1d = { { 2, 2 }, 2, 2, 4 }, Conv2d = { { 2, 2 }, 2, 2, 3, 3 },
  Conv3d = { { 2, 2 }, 1, 2, 2, 2, 2 }, ConvTranspose1d = { { 2, 2 }, 2, 2, 3 },
  ConvTranspose2d = { { 2, 2 }, 1, 2, 2, 2 }, ConvTranspose3d = { { 1, 2 }, 1, 2, 2, 2, 2 },
  BatchNorm1d = { {}, 5, 3 }, BatchNorm2d = { {}, 2, 2, 2, 2 }, BatchNorm3d = { {}, 2, 2, 1, 2, 2 },
  InstanceNorm1d = { {}, 2, 2, 4 }, InstanceNorm2d = { { { affine = true } }, 2, 2, 3, 2 },
  InstanceNorm3d = { {}, 1, 2, 2, 2, 2 },
} do
  layers["Lazy" .. name] = { function()
    local m = nn["Lazy" .. name](table.unpack(given[1]))
    m:eval()(nb.zeros({ table.unpack(given, 2) }, f64))
    return m:train()
  end, table.unpack(given, 2) }
end
-- What is called with more than one tensor of numbers: the module and a function of it.
local others = {
  Embedding = { function() return nn.Embedding(4, 3) end, function(m) return m(nb.tensor { 1, 3, 3 }) end },
  ModuleList = { function() return nn.ModuleList { nn.Linear(2, 2), nn.Linear(2, 1) } end,
    function(m) return m[2](m[1](nb.tensor({ { 1, -2 } }, f64)):tanh()) end },
  MultiheadAttention = { function() return nn.MultiheadAttention(4, 2) end, function(m)
    local q, k = nb.linspace(-1, 1, 24, f64):view(3, 2, 4):sin(), nb.linspace(-2, 2, 32, f64):view(4, 2, 4):cos()
    return (m(q, k, k))
  end },
}

local function sines(...)
  local n = 1
  for _, size in ipairs { ... } do n = n * size end
  return nb.linspace(-2, 2, n, f64):sin():view(...)
end
others.Bilinear = { function() return nn.Bilinear(2, 3, 2) end, function(m) return m(sines(4, 2), sines(4, 3)) end }
others.EmbeddingBag = { function() return nn.EmbeddingBag(5, 2) end,
  function(m) return m(nb.tensor { 1, 3, 3, 5 }, nb.tensor { 1, 2, 2 }) end }
others.TransformerDecoderLayer = { function()
  return nn.TransformerDecoderLayer(4, 2, { dim_feedforward = 5, activation = "gelu", dropout = 0 })
end, function(m) return m(sines(3, 2, 4), sines(2, 2, 4)) end }
others.TransformerDecoder = { function()
  local layer = nn.TransformerDecoderLayer(2, 1, { dim_feedforward = 3, activation = "gelu", dropout = 0 })
  return nn.TransformerDecoder(layer, 2, { norm = nn.LayerNorm(2, { eps = 0.1 }) })
end, function(m) return m(sines(3, 1, 2), sines(2, 1, 2)) end }
others.Transformer = { function()
  return nn.Transformer(2, 1, 1, 1, { dim_feedforward = 3, activation = "gelu", dropout = 0, layer_norm_eps = 0.1 })
end, function(m) return m(sines(3, 1, 2), sines(2, 1, 2)) end }
others.AveragedModel = { function()
  local net = nn.Linear(2, 2)
  local average = nn.AveragedModel(net)
  for _, p in ipairs { average.module.weight, average.module.bias } do p.requires_grad = true end
  return average
end, function(m) return m(sines(3, 2)) end }
others.ModuleDict = { function() return nn.ModuleDict { a = nn.Linear(2, 2), b = nn.Linear(2, 1) } end,
  function(m) return m.b(m.a(nb.tensor({ { 1, -2 } }, f64)):tanh()) end }
others.ParameterList = { function() return nn.ParameterList { nb.ones(2) } end, function(m) return m[1]:sin() end }
others.ParameterDict = { function() return nn.ParameterDict { a = nb.ones(2) } end, function(m) return m.a:sin() end }
-- Without numbers of their own they are checked by a tensor beside them.
local function with_weight(make, call, ...)
  local shape = { ... }
  return { function()
    local m = make()
    m.beside = sines(table.unpack(shape))
    m.beside.requires_grad = true
    return m
  end, function(m) return call(m, m.beside) end }
end
others.CosineSimilarity = with_weight(nn.CosineSimilarity, function(m, t) return m(t, t:cos()) end, 3, 4)
others.PairwiseDistance = with_weight(nn.PairwiseDistance, function(m, t) return m(t, t:cos()) end, 3, 4)
for dims = 1, 3 do
  local name, shape, count = ("MaxUnpool%dd"):format(dims), { 1, 2, 2, 2, 2 }, 2 ^ dims
  for d = dims + 3, 5 do shape[d] = nil end
  local places = (nb.arange(2 * count) - 1):mod(count):view(shape) * 2 + 1  -- of each channel's, every other one
  others[name] = with_weight(function() return nn[name](2) end, function(m, t) return m(t, places) end,
    table.unpack(shape))
end

-- A layer that stands nowhere above is as its example makes it, called with a tensor of the same shape.
local function of_example(name)
  local entry = registry.find("nn." .. name)
  local code = "return " .. (entry and entry.example or "nothing"):match("^(.-)%s*%-%-%>") or ""
  local given, input
  local watched = setmetatable({ [name] = function(...)
    given = table.pack(...)
    local m = nn[name](...)
    return function(x)
      input = x
      return m(x)
    end
  end }, { __index = nn })
  local chunk = load(code, name, "t", setmetatable({ nn = watched }, { __index = _G }))
  assert(chunk and pcall(chunk) and input, name .. " needs an example nn." .. name .. "(...)(x), or a line here")
  return { function() return nn[name](table.unpack(given, 1, given.n)) end, table.unpack(input.shape) }
end
for name in pairs(nn) do
  if name:find "^%u" and not name:find "Loss$" and not layers[name] and not others[name] then
    layers[name] = of_example(name)
  end
end

return { layers = layers, others = others }
