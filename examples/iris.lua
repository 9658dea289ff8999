-- SPDX-License-Identifier: MIT
-- Three kinds of iris told apart by the sizes of their petals and sepals: a table from a CSV file, a net, a test.
-- nablua examples/iris.lua [FILE]; without one, the file that Debian's package python3-sklearn brings.
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data

local path = arg[1] or "/usr/lib/python3/dist-packages/sklearn/datasets/data/iris.csv"
if not io.open(path) then
  print(path .. " is not there; get it with: apt install python3-sklearn, or give a file as argument")
  os.exit(1)
end

nb.seed(1)
-- This file's first line holds counts in place of names, and numbers stand for the kinds.
local iris = data.csv(path, {
  names = { "sepal length", "sepal width", "petal length", "petal width", "kind" },
  target = "kind", categories = { "kind" },
})
print(iris)

-- What the net never sees tells how well it learned; the test's scale is the training set's.
local train, test = data.split({ iris.x, iris.y }, 0.7)
local train_x, mean, std = data.normalize(train[1])
local test_x = (test[1] - mean) / std

local net = nn.Sequential { nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3) }
local history = nn.fit(net, nn.CrossEntropyLoss(), optim.Adam(net:parameters(), { lr = 0.01 }), { train_x, train[2] }, {
  epochs = 60, size = 16, valid = { test_x, test[2] }, metrics = { "accuracy" }, progress = false,
})
print(("\nafter %d epochs: loss %.3f, accuracy %.1f %% on the %d flowers kept apart\n"):format(#history.loss,
  history.valid_loss[60], 100 * history.valid_accuracy[60], #test_x))

-- Rows: the kind it is; columns: the kind the net says.
local names = { "setosa", "versicolor", "virginica" }
local guess = nb.no_grad(function() return net(test_x):argmax(2) end)
print(("%12s %10s %10s %10s"):format("", table.unpack(names)))
for k, name in ipairs(names) do
  local row = {}
  for j = 1, 3 do row[j] = (test[2]:eq(k) & guess:eq(j)):sum():item() end
  print(("%12s %10d %10d %10d"):format(name, table.unpack(row)))
end
if history.valid_accuracy[60] < 0.9 then error "the net should reach 90 %" end
