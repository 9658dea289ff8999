-- SPDX-License-Identifier: MIT
-- A U-Net that finds the discs in noisy pictures of discs and squares, pixel by pixel (Ronneberger et al. 2015).
--
--   unet.lua [STEPS]     a shorter training
local nb = require "nablua"
local nn, optim = nb.nn, nb.optim
local steps = math.tointeger(arg[1]) or 500
local size = 32

nb.seed(1)

-- n pictures, and for each the pixels that belong to its disc.  The square lies over the disc where they meet.
local function pictures(n)
  local row, column = nb.arange(size):view(1, size, 1), nb.arange(size):view(1, 1, size)
  local function place() return nb.rand(n, 1, 1) * (size - 16) + 8 end
  local function extent() return nb.rand(n, 1, 1) * 4 + 4 end
  local disc = ((row - place()):square() + (column - place()):square()):lt(extent():square())
  local half = extent()
  local square = (row - place()):abs():lt(half) & (column - place()):abs():lt(half)
  local shown = (disc | square):to("f32") * 0.7 + nb.randn(n, size, size) * 0.15
  return shown:unsqueeze(2), (disc & square:logical_not()):to("f32"):unsqueeze(2)
end

local function twice(from, to)
  return nn.Sequential { nn.Conv2d(from, to, 3, { padding = 1 }), nn.BatchNorm2d(to), nn.ReLU(),
    nn.Conv2d(to, to, 3, { padding = 1 }), nn.BatchNorm2d(to), nn.ReLU() }
end

-- Down by halves, up again, and beside what comes up what was there on the way down.
local UNet = nn.module("UNet", function(self, width)
  self.down1, self.down2, self.bottom = twice(1, width), twice(width, 2 * width), twice(2 * width, 4 * width)
  self.pool = nn.MaxPool2d(2)
  self.rise2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, { stride = 2 })
  self.up2 = twice(4 * width, 2 * width)
  self.rise1 = nn.ConvTranspose2d(2 * width, width, 2, { stride = 2 })
  self.up1 = twice(2 * width, width)
  self.last = nn.Conv2d(width, 1, 1)
end)

function UNet:forward(x)
  local a = self.down1(x)
  local b = self.down2(self.pool(a))
  local c = self.bottom(self.pool(b))
  c = self.up2(nb.cat({ self.rise2(c), b }, 2))
  return self.last(self.up1(nb.cat({ self.rise1(c), a }, 2)))
end

local net = UNet(8)
local opt = optim.AdamW(net:parameters(), { lr = 5e-3 })
local schedule = optim.CosineLR(opt, { total_steps = steps })
local loss = nn.BCEWithLogitsLoss()
local test_x, test_y = pictures(200)

-- Of the pixels that are of a disc or taken for one, the share that are both.
local function overlap()
  net:eval()
  local guess, truth = nb.no_grad(function() return net(test_x):gt(0) end), test_y:gt(0.5)
  net:train()
  return (guess & truth):sum():item() / (guess | truth):sum():item()
end

for step = 1, steps do
  local x, y = pictures(16)
  local J = loss(net(x), y)
  opt:zero_grad()
  J:backward()
  opt:step()
  schedule:step()
  if step % math.max(steps // 5, 1) == 0 then
    print(("step %4d   loss %.3f   overlap %.3f"):format(step, J:item(), overlap()))
  end
end
if steps >= 500 and overlap() < 0.9 then error "nine tenths should overlap" end
