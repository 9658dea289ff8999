-- SPDX-License-Identifier: MIT
-- A convolutional net in the manner of LeNet on Fashion-MNIST, trained with nn.fit.
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data

nb.seed(1)
local fashion = data.fashion_mnist()

-- Images of one channel, with pixels around 0.
local function prepare(images)
  return (images:unsqueeze(2):to("f32") / 255 - 0.286) / 0.353
end
local train = data.batches { prepare(fashion.train.x), fashion.train.y, size = 64, shuffle = true }
local test = data.batches { prepare(fashion.test.x), fashion.test.y, size = 500 }

local net = nn.Sequential {
  nn.Conv2d(1, 16, 5, { padding = 2 }), nn.ReLU(), nn.MaxPool2d(2),   -- 16 × 14 × 14
  nn.Conv2d(16, 32, 5, { padding = 2 }), nn.ReLU(), nn.MaxPool2d(2),  -- 32 × 7 × 7
  nn.Flatten(),
  nn.Linear(32 * 7 * 7, 128), nn.ReLU(),
  nn.Linear(128, 10),
}
print(net)

local epochs = 4
local opt = optim.Adam(net:parameters(), { lr = 1e-3 })
local schedule = optim.CosineLR(opt, { total_steps = epochs, min_lr = 1e-4 })
local history = nn.fit(net, nn.CrossEntropyLoss(), opt, train, {
  epochs = epochs, valid = test, metrics = { "accuracy" },
  callback = function() schedule:step() end,
})

local final = history.valid_accuracy[epochs]
print(("\ntest accuracy %.2f %%"):format(100 * final))
if final < 0.90 then error "the net should reach 90 %" end
