-- SPDX-License-Identifier: MIT
-- Regression: how far diabetes will have gone in a year, from ten measurements of 442 patients, by a straight line and
-- by a net.  nablua examples/regression.lua [FOLDER]; without one, the files of Debian's package python3-sklearn.
local nb = require "nablua"
local nn, optim, data = nb.nn, nb.optim, nb.data

local folder = arg[1] or "/usr/lib/python3/dist-packages/sklearn/datasets/data"
if not io.open(folder .. "/diabetes_data_raw.csv.gz") then
  print(folder .. "/diabetes_data_raw.csv.gz is not there; get it with: apt install python3-sklearn")
  os.exit(1)
end

nb.seed(2)
local table_of = { header = false, delimiter = " " }
table_of.names = { "age", "sex", "body mass", "pressure", "s1", "s2", "s3", "s4", "s5", "s6" }
local measured = data.csv(folder .. "/diabetes_data_raw.csv.gz", table_of)
local progress = data.csv(folder .. "/diabetes_target.csv.gz", { header = false, names = { "progress" } })
print(measured)
print(progress)

local train, test = data.split({ measured:matrix(), progress:matrix() }, 0.75)
local x, x_mean, x_std = data.normalize(train[1])
local y, y_mean, y_std = data.normalize(train[2])
local test_x, test_y = (test[1] - x_mean) / x_std, test[2]

-- The share of the variance that a guess explains: 1 is all, 0 no better than the mean.
local function explained(net)
  net:eval()
  local guess = nb.no_grad(function() return net(test_x) * y_std + y_mean end)
  local rest, all = (test_y - guess):square():sum(), (test_y - test_y:mean()):square():sum()
  return 1 - (rest / all):item()
end

local models = {
  { "straight line", nn.Linear(10, 1), 0 },
  { "net of 32", nn.Sequential { nn.Linear(10, 32), nn.Tanh(), nn.Dropout(0.2), nn.Linear(32, 1) }, 0.01 },
}
print()
for _, model in ipairs(models) do
  local name, net, decay = table.unpack(model)
  local opt = optim.AdamW(net:parameters(), { lr = 0.01, weight_decay = decay })
  local history = nn.fit(net, nn.MSELoss(), opt, { x, y }, { epochs = 100, size = 32, progress = false })
  model.score = explained(net)
  print(("%-14s loss %.3f   explains %.0f %% of the variance in the test set"):format(name, history.loss[100],
    100 * model.score))
end

-- Measurements count as much as their weights, since all have the same scale.
local weights = {}
for i, name in ipairs(measured.names) do weights[i] = { name, models[1][2].weight:at(1, i) } end
table.sort(weights, function(a, b) return math.abs(a[2]) > math.abs(b[2]) end)
print "\nWhat the straight line goes by:"
for i = 1, 4 do print(("  %-10s %+.2f"):format(table.unpack(weights[i]))) end
if models[1].score < 0.35 then error "a straight line should explain 35 %" end
