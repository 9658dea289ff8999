-- SPDX-License-Identifier: MIT
-- A net of three layers learns to tell clothes apart: Fashion-MNIST, 60,000 images of 28×28 pixels.
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data

nb.seed(1)
local fashion = data.fashion_mnist()

-- Pixels 0..255 become rows of 784 numbers around 0.
local function prepare(images)
  return (images:reshape(-1, 784):to("f32") / 255 - 0.286) / 0.353
end
local train = data.batches { prepare(fashion.train.x), fashion.train.y, size = 64, shuffle = true }
local test = data.batches { prepare(fashion.test.x), fashion.test.y, size = 1000 }

local net = nn.Sequential {
  nn.Linear(784, 256), nn.ReLU(),
  nn.Linear(256, 128), nn.ReLU(),
  nn.Linear(128, 10),
}
local loss = nn.CrossEntropyLoss()
local opt = optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 })
print(net)

local function accuracy()
  local right = 0
  nb.no_grad(function()
    for x, y in test do right = right + net(x):argmax(2):eq(y):sum():item() end
  end)
  return right / test.count
end

local epochs = 8
for epoch = 1, epochs do
  local total = 0
  local bar = nb.progress(#train, { label = ("epoch %d/%d"):format(epoch, epochs) })
  for x, y in train do
    local scores = net(x)            -- forward: the net's scores for the ten classes
    local J = loss(scores, y)        -- loss: how wrong they are
    opt:zero_grad()
    J:backward()                     -- backward: ∂J/∂W for every weight
    opt:step()                       -- update: every weight a step against its gradient
    total = total + J:item()
    bar:step(("loss %.3f"):format(J:item()))
  end
  bar:close()
  print(("epoch %d   loss %.6f   test accuracy %.2f %%"):format(epoch, total / #train, 100 * accuracy()))
  if epoch == 5 then opt.lr = opt.lr / 10 end  -- finer steps towards the end
end

local final = accuracy()
print(("\ntest accuracy %.2f %% on %d images"):format(100 * final, test.count))
if final < 0.88 then error "the net should reach 88 %" end
