-- SPDX-License-Identifier: MIT
-- A residual net on Fashion-MNIST (He et al. 2016), whose pictures are moved, mirrored and hidden in part as they come.
--
--   resnet.lua [PICTURES [EPOCHS [FOLDER]]]     fewer of them, and where the set is
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data
local transforms = data.transforms
local count, epochs = math.tointeger(arg[1]) or 20000, math.tointeger(arg[2]) or 3

nb.seed(1)
local fashion = arg[3] and data.fashion_mnist(arg[3]) or data.fashion_mnist()

local plain = transforms.Compose { transforms.ToFloat(), transforms.Normalize(0.286, 0.353),
  function(x) return x:unsqueeze(2) end }
local train = data.loader({ fashion.train.x[{ { 1, count } }], fashion.train.y[{ { 1, count } }] }, {
  size = 64, sampler = data.stratified_sampler(fashion.train.y[{ { 1, count } }]),
  transform = transforms.Compose { transforms.RandomCrop(28, { padding = 2 }), transforms.RandomHorizontalFlip(),
    transforms.RandomErasing(0.3, { scale = { 0.02, 0.15 } }), plain },
})
local some = math.min(#fashion.test.x, 2000)
local test = data.loader({ fashion.test.x[{ { 1, some } }], fashion.test.y[{ { 1, some } }] }, {
  size = 500, transform = plain })

-- x + f(x): what a block does not change passes by.  Where the size changes, a convolution of one pixel fits it.
local Block = nn.module("Block", function(self, from, to, stride)
  self.conv1 = nn.Conv2d(from, to, 3, { stride = stride, padding = 1, bias = false })
  self.conv2 = nn.Conv2d(to, to, 3, { padding = 1, bias = false })
  self.norm1, self.norm2 = nn.BatchNorm2d(to), nn.BatchNorm2d(to)
  self.short = (stride > 1 or from ~= to) and nn.Conv2d(from, to, 1, { stride = stride, bias = false }) or nn.Identity()
end)

function Block:forward(x)
  local y = self.norm1(self.conv1(x)):relu()
  return (self.norm2(self.conv2(y)) + self.short(x)):relu()
end

local net = nn.Sequential {
  nn.Conv2d(1, 16, 3, { padding = 1, stride = 2, bias = false }), nn.BatchNorm2d(16), nn.ReLU(),
  Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2),
  nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
}
local opt = optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9, nesterov = true, weight_decay = 5e-4 })
local history = nn.fit(net, nn.CrossEntropyLoss { label_smoothing = 0.05 }, opt, train, {
  epochs = epochs, valid = test, metrics = { "accuracy", "top2", "f1" },
  schedule = optim.OneCycleLR(opt, { max_lr = 0.1, total_steps = epochs * #train }), schedule_per = "batch",
})
local final = history.valid_accuracy[epochs]
print(("\naccuracy %.2f %%, among the first two %.2f %%"):format(100 * final, 100 * history.valid_top2[epochs]))
if not arg[1] and final < 0.86 then error "the net should reach 86 %" end
