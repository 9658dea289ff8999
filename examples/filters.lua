-- SPDX-License-Identifier: MIT
-- What a convolutional net sees in Fashion-MNIST: its images, its filters before and after training, its mistakes.
-- nablua examples/filters.lua [FOLDER]: with a folder, the pictures are saved there.
local nb = require "nablua"
local nn, optim, data, plot = nb.nn, nb.optim, nb.data, nb.plot

nb.seed(1)
local fashion = data.fashion_mnist()
local function images(part, n)
  return part.x[{ { 1, n } }]:to("f32"):unsqueeze(2) / 255, part.y[{ { 1, n } }]
end
local x, y = images(fashion.train, 6000)
local tx, ty = images(fashion.test, 1000)

print(plot.images(fashion.train.x[{ { 1, 24 } }], { title = "Fashion-MNIST" }))

local net = nn.Sequential {
  nn.Conv2d(1, 16, 7), nn.ReLU(), nn.MaxPool2d(2),
  nn.Flatten(), nn.Linear(16 * 11 * 11, 10),
}
local before = plot.filters(net, { title = "Filters before training" })
nn.fit(net, nn.CrossEntropyLoss(), optim.Adam(net:parameters(), { lr = 2e-3 }), { x, y }, { epochs = 3, size = 64 })
local after = plot.filters(net, { title = "Filters after three epochs" })
print(before)
print(after)

local guess = nb.no_grad(function() return net(tx) end)
local confusion = plot.confusion(ty, guess, { classes = fashion.classes, title = "What is taken for what" })
print(confusion)
if guess:argmax(2):eq(ty):to("f32"):mean():item() < 0.75 then error "the net should reach 75 %" end
local folder = ...
if folder then
  after:save(folder .. "/filters.svg")
  confusion:save(folder .. "/confusion.svg")
end
