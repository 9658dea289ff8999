-- SPDX-License-Identifier: MIT
-- One training on several processes: Fashion-MNIST, or points made on the spot where the images are not installed.
--
--   nablua examples/parallel.lua                          alone
--   mpirun -n 4 nablua examples/parallel.lua              4 processes of this machine
--   mpirun -n 8 --host a:4,b:4 nablua examples/parallel.lua    4 on each of two, over ssh: nablua, its folder and the
--                                                         script lie at the same paths on both, and ssh asks for no
--                                                         password
--   srun -n 8 nablua examples/parallel.lua                in a job of Slurm; or mpirun without -n, which asks Slurm
--
-- Each process runs this whole script.  nn.fit sees that there are several: every one gets its share of each batch, the
-- gradients are summed while backward runs, and the first one alone speaks and writes.  The net at the end is the one
-- that a single process would have, but for roundings.  NABLUA_THREADS is divided by the processes of a machine.
--
-- Arguments: epochs, and how many samples (all).
local nb = require "nablua"
local nn, optim, data, dist = nb.nn, nb.optim, nb.data, nb.dist

local epochs, most = tonumber(arg and arg[1]) or 3, tonumber(arg and arg[2])

nb.seed(1)

local function prepare(images)
  return (images:reshape(-1, 784):to("f32") / 255 - 0.286) / 0.353
end

-- Rows and classes, for training and for testing.
local function samples()
  local ok, fashion = pcall(data.fashion_mnist)
  if ok then
    return prepare(fashion.train.x), fashion.train.y, prepare(fashion.test.x), fashion.test.y, 10
  end
  if dist.rank == 1 then print("Fashion-MNIST is not installed; three arms of a spiral instead") end
  local x, y = data.spirals(6000, { noise = 0.02 })
  local tx, ty = data.spirals(1000, { noise = 0.02 })
  return x, y, tx, ty, 3
end

local x, y, tx, ty, classes = samples()
if most and most < #x then x, y = x[{ { 1, most } }], y[{ { 1, most } }] end

local net = nn.Sequential {
  nn.Linear(x:size(2), 256), nn.ReLU(),
  nn.Linear(256, 128), nn.ReLU(),
  nn.Linear(128, classes),
}
local opt = optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 })

local begun = os.time()
local history = nn.fit(net, nn.CrossEntropyLoss(), opt, { x, y }, { epochs = epochs, size = 128,
  valid = { tx, ty }, metrics = { "accuracy" } })

if dist.rank == 1 then
  print(("%d process%s: accuracy %.4f on samples it has not seen, after %d s"):format(dist.size,
    dist.size == 1 and "" or "es", history.valid_accuracy[#history.valid_accuracy], os.time() - begun))
  local figures = dist.figures(net)
  if dist.size > 1 then
    print(("%d exchanges of gradients, %.0f %% of them on their way before backward's end"):format(figures.exchanges,
      100 * figures.overlap))
  end
end
