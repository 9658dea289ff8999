-- SPDX-License-Identifier: MIT
-- A small transformer that looks back with attention to write the next character of the King James Bible.
--
--   transformer.lua [FILE [STEPS]]     another text, a shorter training
local nb = require "nablua"
local nn, optim = nb.nn, nb.optim
local text = dofile((arg[0]:match("^.*/") or "") .. "text.lua").open(arg[1], 1000000)
local steps = math.tointeger(arg[2]) or 500
local width, heads, context = 64, 4, 32

nb.seed(1)

-- What a character is, plus where it stands; then two layers that see each place and those before it.
local Writer = nn.module("Writer", function(self, characters)
  self.character = nn.Embedding(characters, width)
  self.place = nn.Embedding(context, width)
  self.layers = nn.ModuleList {}
  for i = 1, 2 do
    self.layers[i] = nn.TransformerEncoderLayer(width, heads, { dim_feedforward = 4 * width, dropout = 0,
      activation = "gelu", batch_first = true, norm_first = true })
  end
  self.norm = nn.LayerNorm(width)
  self.scores = nn.Linear(width, characters)
end)

function Writer:forward(x)
  local y = self.character(x) + self.place(nb.arange(1, x:size(2)):to "i64")
  for i = 1, #self.layers do y = self.layers[i](y, { is_causal = true }) end
  return self.scores(self.norm(y))
end

local net = Writer(text.count)
local opt = optim.AdamW(net:parameters(), { lr = 3e-3 })
local warm = math.max(steps // 10, 1)
local schedule = optim.WarmupLR(opt, { warmup = warm, after = optim.CosineLR(opt, { total_steps = steps - warm + 1 }) })
print(net)

-- The last tenth of the text is kept for measuring.
local known = #text.ids * 9 // 10
local function loss_of(x, y)
  return nn.cross_entropy(net(x):view(-1, text.count), y:view(-1))
end
local unseen_x, unseen_y = text:pieces(known + 1, #text.ids, 128, context)
local function unseen_loss()
  return nb.no_grad(loss_of, unseen_x, unseen_y):item()
end

print(("step %4d   loss on unseen text %.3f"):format(0, unseen_loss()))
for step = 1, steps do
  local x, y = text:pieces(1, known, 32, context)
  local J = loss_of(x, y)
  opt:zero_grad()
  J:backward()
  opt:step()
  schedule:step()
  if step % math.max(steps // 5, 1) == 0 then
    print(("step %4d   loss on unseen text %.3f"):format(step, unseen_loss()))
  end
end
local final = unseen_loss()

local written = nb.no_grad(function()
  local s = "And God said"
  for _ = 1, 300 do
    local scores = net(text:encode(s:sub(-context)):view(1, -1))
    s = s .. text.characters[text:draw(scores[{ 1, -1 }], 0.7)]
  end
  return s
end)
print(("\nloss %.3f, that is %.2f bits a character\n\n%s"):format(final, final / math.log(2), written))
if not arg[1] and steps >= 500 and final > 2.1 then error "the loss should fall below 2.1" end
