-- SPDX-License-Identifier: MIT
-- Fashion-MNIST by a small convolutional net, trained with nn.fit.
-- Run: ./dev run examples/fashion_cnn.lua [epochs]
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data

local epochs = tonumber(arg and arg[1]) or 5
nb.seed(1)

local set = data.fashion_mnist()
local function images(x) return x:to("f32"):reshape(-1, 1, 28, 28) / 255 end
local train = data.batches { images(set.train.x), set.train.y, size = 64, shuffle = true }
local test_x, test_y = images(set.test.x), set.test.y

local net = nn.Sequential {
  nn.Conv2d(1, 16, 5, { padding = 2 }), nn.ReLU(), nn.MaxPool2d(2),
  nn.Conv2d(16, 32, 5, { padding = 2 }), nn.ReLU(), nn.MaxPool2d(2),
  nn.Flatten(),
  nn.Dropout(0.2), nn.Linear(32 * 7 * 7, 128), nn.ReLU(),
  nn.Linear(128, 10),
}
print(net)

nn.fit(net, nn.CrossEntropyLoss(), optim.Adam(net:parameters(), { lr = 1e-3 }), train, { epochs = epochs })

net:eval()
local correct = 0
for x, y in data.batches { test_x, test_y, size = 500 } do
  correct = correct + nb.no_grad(function() return net(x):argmax(2):eq(y):sum():item() end)
end
print(("test accuracy %.2f %%"):format(100 * correct / #test_y))
