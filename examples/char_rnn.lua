-- SPDX-License-Identifier: MIT
-- A net that writes: an LSTM learns, character by character, what comes next in the King James Bible.
--
--   char_rnn.lua [FILE [STEPS [HIDDEN]]]     another text, a shorter training, a smaller net
local nb = require "nablua"
local nn, optim = nb.nn, nb.optim
local text = dofile((arg[0]:match("^.*/") or "") .. "text.lua").open(arg[1], 1000000)
local steps, hidden = math.tointeger(arg[2]) or 400, math.tointeger(arg[3]) or 128

nb.seed(1)

-- Characters in, for each place the scores of the next character and the state out.
local Writer = nn.module("Writer", function(self, characters, width)
  self.embed = nn.Embedding(characters, 32)
  self.lstm = nn.LSTM(32, width, { batch_first = true })
  self.scores = nn.Linear(width, characters)
end)

function Writer:forward(x, h, c)
  local y
  y, h, c = self.lstm(self.embed(x), h, c)
  return self.scores(y), h, c
end

local net = Writer(text.count, hidden)
local opt = optim.Adam(net:parameters(), { lr = 4e-3 })
local schedule = optim.CosineLR(opt, { total_steps = steps, min_lr = 2e-4 })
print(net)

-- The last tenth of the text is kept for measuring.
local known = #text.ids * 9 // 10
local function loss_of(x, y)
  return nn.cross_entropy(net(x):view(-1, text.count), y:view(-1))
end
local unseen_x, unseen_y = text:pieces(known + 1, #text.ids, 32, 128)
local function unseen_loss()
  return nb.no_grad(loss_of, unseen_x, unseen_y):item()
end

local function write(start, count)
  return nb.no_grad(function()
    local out, h, c = { start }, nil, nil
    local x = text:encode(start):view(1, -1)
    for k = 1, count do
      local scores
      scores, h, c = net(x, h, c)
      local i = text:draw(scores[{ 1, -1 }], 0.7)
      out[k + 1], x = text.characters[i], nb.tensor({ { i } }, { dtype = "i64" })
    end
    return table.concat(out)
  end)
end

local first = unseen_loss()
print(("step %4d   loss on unseen text %.3f"):format(0, first))
for step = 1, steps do
  local x, y = text:pieces(1, known, 32, 64)
  local J = loss_of(x, y)
  opt:zero_grad()
  J:backward()
  nn.clip_grad_norm(net, 1)
  opt:step()
  schedule:step()
  if step % math.max(steps // 8, 1) == 0 then
    print(("step %4d   loss on unseen text %.3f"):format(step, unseen_loss()))
  end
end

local final = unseen_loss()
print(("\nloss %.3f, that is %.2f bits a character\n"):format(final, final / math.log(2)))
print(write("And God said", 400))
if not arg[1] and steps >= 400 and final > 1.75 then error "the loss should fall below 1.75" end
