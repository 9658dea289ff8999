-- SPDX-License-Identifier: MIT
-- One of each layer, for tests of all of them; test_gradcheck.lua sees that none is missing.
local nb = require "nablua"
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
layers.Softmax2d = { function() return nn.Softmax2d() end, 2, 3, 2, 2 }
layers.Threshold = { function() return nn.Threshold(0.1, -2) end, 3, 4 }
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

return { layers = layers, others = others }
