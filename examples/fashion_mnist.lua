-- SPDX-License-Identifier: MIT
-- Fashion-MNIST, 60,000 images of clothes in ten classes, by a net of three layers.
-- Run: ./dev run examples/fashion_mnist.lua [epochs]
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data

local epochs = tonumber(arg and arg[1]) or 6
nb.seed(1)

local set = data.fashion_mnist()
local function pixels(x) return x:to("f32"):reshape(-1, 784) / 255 end
local train = data.batches { pixels(set.train.x), set.train.y, size = 64, shuffle = true }
local test_x, test_y = pixels(set.test.x), set.test.y

local net = nn.Sequential {
  nn.Linear(784, 256), nn.ReLU(),
  nn.Linear(256, 128), nn.ReLU(),
  nn.Linear(128, 10),
}
local loss = nn.CrossEntropyLoss()
local opt = optim.Adam(net:parameters(), { lr = 1e-3 })
print(net)

local function test_accuracy()
  return nb.no_grad(function() return net(test_x):argmax(2):eq(test_y):to("f32"):mean():item() end)
end

for epoch = 1, epochs do
  local bar = nb.progress(#train, { label = ("epoch %d/%d"):format(epoch, epochs) })
  local total = 0
  for x, y in train do
    local J = loss(net(x), y)  -- forward pass and loss
    opt:zero_grad()
    J:backward()               -- backward pass: ∂J/∂W of every layer
    opt:step()                 -- update
    total = total + J:item()
    bar:step(("loss %.4f"):format(J:item()))
  end
  bar:close()
  print(("epoch %d   loss %.6f   test accuracy %.2f %%"):format(epoch, total / #train, 100 * test_accuracy()))
end

print(("test accuracy %.2f %%"):format(100 * test_accuracy()))
