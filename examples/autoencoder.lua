-- SPDX-License-Identifier: MIT
-- An autoencoder: 28×28 pixels of Fashion-MNIST through a bottleneck of 16 numbers and back.
--
--   autoencoder.lua [EPOCHS [PICTURE]]     a shorter training; a file for the pictures and what came back
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data
local epochs = math.tointeger(arg[1]) or 3

nb.seed(1)
local fashion = data.fashion_mnist()
local function pixels(images)
  return images:reshape(-1, 784):to "f32" / 255
end
local train, test = pixels(fashion.train.x), pixels(fashion.test.x)

local encoder = nn.Sequential { nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 16) }
local decoder = nn.Sequential { nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 784), nn.Sigmoid() }
local net = nn.Sequential { encoder, decoder }
print(net)

-- The picture is the net's input and its target.
local history = nn.fit(net, nn.MSELoss(), optim.Adam(net:parameters(), { lr = 2e-3 }), { train, train },
  { epochs = epochs, size = 128, valid = { test, test }, progress = false })
for epoch, loss in ipairs(history.valid_loss) do
  print(("epoch %d   mean squared error on unseen pictures %.4f"):format(epoch, loss))
end

-- What a net could do that gave the mean picture for all.
local dull = nn.mse(train:mean(1, { keepdim = true }):expand(10000, 784):contiguous(), test):item()
local final = history.valid_loss[epochs]
print(("\nerror %.4f; of the mean picture %.4f"):format(final, dull))

-- Eight pictures, and below each what came back through 16 numbers.
local few = test:narrow(1, 1, 8)
local back = nb.no_grad(function() return net(few) end)
local grid = nb.cat({ few, back }, 1):view(16, 28, 28)
nb.plot.images(grid, { columns = 8, title = "784 pixels, 16 numbers, 784 pixels" }):save(arg[2] or "autoencoder.png")
if final > 0.02 then error "the error should fall below 0.02" end
