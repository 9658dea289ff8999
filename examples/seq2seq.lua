-- SPDX-License-Identifier: MIT
-- A transformer of encoder and decoder that sorts: it reads digits in any order and writes them in theirs.
--
--   seq2seq.lua [STEPS]     a shorter training
local nb = require "nablua"
local nn, optim = nb.nn, nb.optim
local steps = math.tointeger(arg[1]) or 500
local length, width = 6, 32
local BEGIN, count = 11, 11  -- classes 1..10 are the digits 0..9

nb.seed(1)

local Sorter = nn.module("Sorter", function(self)
  self.digit, self.place = nn.Embedding(count, width), nn.Embedding(length + 1, width)
  self.transformer = nn.Transformer(width, 4, 1, 1, { dim_feedforward = 64, dropout = 0, batch_first = true,
    norm_first = true })
  self.scores = nn.Linear(width, count)
end)

function Sorter:embed(x)
  return self.digit(x) + self.place(nb.arange(x:size(2), { dtype = "i64" }))
end

-- Scores of the next digit after each of y, which sees only those before it.
function Sorter:forward(x, y)
  return self.scores(self.transformer(self:embed(x), self:embed(y), { tgt_is_causal = true }))
end

local function samples(n)
  local x = nb.randint(1, 10, n, length)
  local y = x:sort(2)
  return x, nb.cat({ nb.full({ n, 1 }, BEGIN, { dtype = "i64" }), y:narrow(2, 1, length - 1) }, 2), y
end

local net = Sorter()
local opt = optim.Adam(net:parameters(), { lr = 3e-3 })
local schedule = optim.WarmupLR(opt, { warmup = math.max(steps // 10, 1),
  after = optim.CosineLR(opt, { total_steps = steps }) })

-- Writes one digit after the other, each the likeliest after those before.
local function write(x)
  return nb.no_grad(function()
    local y = nb.full({ x:size(1), 1 }, BEGIN, { dtype = "i64" })
    for _ = 1, length do
      local scores = net(x, y)
      y = nb.cat({ y, scores:select(2, y:size(2)):argmax(2):unsqueeze(2) }, 2)
    end
    return y:narrow(2, 2, length)
  end)
end

local function share_right()
  local x, _, y = samples(500)
  return write(x):eq(y):all(2):to("f32"):mean():item()
end

for step = 1, steps do
  local x, before, y = samples(64)
  local J = nn.cross_entropy(net(x, before):view(-1, count), y:view(-1))
  opt:zero_grad()
  J:backward()
  nn.clip_grad_norm(net, 1)
  opt:step()
  schedule:step()
  if step % math.max(steps // 5, 1) == 0 then
    print(("step %4d   loss %.3f   sorted without a mistake %.1f %%"):format(step, J:item(), 100 * share_right()))
  end
end

local x = samples(3)
local y = write(x)
for i = 1, 3 do
  local function text(t) return table.concat((t[i] - 1):totable(), " ") end
  print(text(x) .. "  →  " .. text(y))
end
if steps >= 500 and share_right() < 0.95 then error "19 of 20 should be right" end
