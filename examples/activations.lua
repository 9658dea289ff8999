-- SPDX-License-Identifier: MIT
-- The lecture's slides of activations, f and f′, and what they do to a gradient on its way back through ten layers.
-- nablua examples/activations.lua [FOLDER]: with a folder, the pictures are saved there.
local nb = require "nablua"
local nn, plot = nb.nn, nb.plot

local slides = plot.activation({ "sigmoid", "tanh", "relu" }, { title = "Activations and their derivatives" })
print(slides)

-- |∂J/∂W| of each of ten layers, from the output back, for the same net with another activation.
local DEPTH, WIDTH = 10, 32
local function norms(activation)
  nb.seed(7)
  local layers = {}
  for i = 1, DEPTH do
    local linear = nn.Linear(WIDTH, WIDTH)
    nn.init.xavier_uniform(linear.weight)
    layers[2 * i - 1], layers[2 * i] = linear, activation
  end
  local net = nn.Sequential(layers)
  net(nb.randn(64, WIDTH)):square():mean():backward()
  local list = {}
  for i = 1, DEPTH do list[i] = net[2 * i - 1].weight.grad:norm():item() end
  return list
end

local sigmoid, tanh, relu = norms(nn.Sigmoid()), norms(nn.Tanh()), norms(nn.ReLU())
local vanishing = plot.curve(
  { { name = "sigmoid", y = sigmoid }, { name = "tanh", y = tanh }, { name = "relu", y = relu } },
  { title = "|∂J/∂W| by layer: σ′ ≤ ¼ starves the early ones", xlabel = "layer", logy = true })
print(vanishing)
if sigmoid[1] > 1e-3 * sigmoid[DEPTH] or tanh[1] < 1e-3 * tanh[DEPTH] then
  error "sigmoid's gradients should vanish, tanh's should not"
end
local folder = ...
if folder then
  slides:save(folder .. "/activations.svg")
  vanishing:save(folder .. "/vanishing.svg")
end
