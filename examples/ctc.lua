-- SPDX-License-Identifier: MIT
-- Reading strips of digits of unknown places with connectionist temporal classification (Graves et al. 2006): the net
-- is told what a strip says, not where.
--
--   ctc.lua [STEPS]     a shorter training
local nb = require "nablua"
local nn, optim = nb.nn, nb.optim
local steps = math.tointeger(arg[1]) or 500

nb.seed(1)

-- Digits of 3 × 5 pixels, row by row.
local GLYPHS = { "111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001",
  "111100111001111", "111100111101111", "111001001001001", "111101111101111", "111101111001111" }
local glyphs = nb.zeros(10, 5, 3)
for d, bits in ipairs(GLYPHS) do
  for k = 1, 15 do
    if bits:sub(k, k) == "1" then glyphs[d][(k - 1) // 3 + 1][(k - 1) % 3 + 1] = 1 end
  end
end

local height, width, most = 7, 28, 5

-- A strip with one to five digits, spaced by chance, in noise; and the classes 2..11 of its digits (1 is the blank).
local function strip()
  local x, labels, at = nb.randn(height, width) * 0.2, {}, 1 + math.random(0, 2)
  for _ = 1, math.random(1, most) do
    if at + 3 > width then break end
    local d, top = math.random(1, 10), math.random(1, height - 4)
    local place = { { top, top + 4 }, { at, at + 2 } }
    x[place] = x[place] + glyphs[d]
    labels[#labels + 1] = d + 1
    at = at + 4 + math.random(0, 2)
  end
  return x, labels
end

local function strips(n)
  local x, y = {}, nb.zeros({ n, most }, { dtype = "i64" })
  for i = 1, n do
    local labels
    x[i], labels = strip()
    for k, label in ipairs(labels) do y[i][k] = label end
  end
  return nb.stack(x, 1):unsqueeze(2), y
end

-- Columns become steps in time: each is seen with its neighbours, then in both directions along the strip.
local Reader = nn.module("Reader", function(self)
  self.look = nn.Sequential { nn.Conv2d(1, 16, 3, { padding = 1 }), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 16, 3, { padding = 1 }), nn.BatchNorm2d(16), nn.ReLU() }
  self.walk = nn.GRU(16 * height, 32, { bidirectional = true })
  self.scores = nn.Linear(64, 11)
end)

function Reader:forward(x)
  local columns = self.look(x):permute(4, 1, 2, 3):flatten(3, 4)
  return self.scores((self.walk(columns))):log_softmax(-1)
end

local net = Reader()
local opt = optim.RAdam(net:parameters(), { lr = 5e-3 })
local loss = nn.CTCLoss()
math.randomseed(1)
local test_x, test_y = strips(200)

-- The likeliest class of each column, repeats joined and blanks left out.
local function read(x)
  net:eval()
  local best = nb.no_grad(function() return net(x):argmax(3).T:totable() end)
  net:train()
  for i, classes in ipairs(best) do
    local text, last = {}, nil
    for _, k in ipairs(classes) do
      if k ~= 1 and k ~= last then text[#text + 1] = k - 2 end
      last = k
    end
    best[i] = table.concat(text, " ")
  end
  return best
end

local function truth(y, i)
  local text = {}
  for k = 1, most do
    if y:at(i, k) > 0 then text[#text + 1] = y:at(i, k) - 2 end
  end
  return table.concat(text, " ")
end

local function share_right()
  local right = 0
  for i, text in ipairs(read(test_x)) do
    if text == truth(test_y, i) then right = right + 1 end
  end
  return right / #test_x
end

for step = 1, steps do
  local x, y = strips(32)
  local J = loss(net(x), y)
  opt:zero_grad()
  J:backward()
  nn.clip_grad_norm(net, 5)
  opt:step()
  if step % math.max(steps // 5, 1) == 0 then
    print(("step %4d   loss %.3f   strips without a mistake %.1f %%"):format(step, J:item(), 100 * share_right()))
  end
end
for i = 1, 3 do print(("%s  is read as  %s"):format(truth(test_y, i), read(test_x)[i])) end
if steps >= 500 and share_right() < 0.9 then error "nine of ten strips should be read" end
