-- SPDX-License-Identifier: MIT
-- A variational autoencoder (Kingma and Welling 2014): two numbers are enough to draw a spot anywhere in a picture, and
-- the net finds such two by itself.
--
--   vae.lua [STEPS]     a shorter training
local nb = require "nablua"
local nn, optim, distributions = nb.nn, nb.optim, nb.distributions
local steps = math.tointeger(arg[1]) or 2000
local size, latent = 12, 2

nb.seed(1)

-- Spots, and where each lies.
local function spots(n)
  local row, column = nb.arange(size):view(1, size, 1), nb.arange(size):view(1, 1, size)
  local y, x = nb.rand(n, 1, 1) * 7 + 3, nb.rand(n, 1, 1) * 7 + 3
  local pictures = (-((row - y):square() + (column - x):square()) / 4):exp()
  return pictures:view(n, -1), nb.cat({ y:view(n, 1), x:view(n, 1) }, 2)
end

local VAE = nn.module("VAE", function(self)
  self.encoder = nn.Sequential { nn.Linear(size * size, 64), nn.Tanh(), nn.Linear(64, 2 * latent) }
  self.decoder = nn.Sequential { nn.Linear(latent, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(),
    nn.Linear(64, size * size) }
end)

-- The distribution of the numbers that a picture may come from.
function VAE:encode(x)
  local out = self.encoder(x)
  return distributions.Normal(out:narrow(2, 1, latent), out:narrow(2, latent + 1, latent):exp())
end

-- The loss: what the picture costs when it is drawn from a sample, and what the sample tells beyond chance.
function VAE:forward(x)
  local q = self:encode(x)
  local p = distributions.Normal(nb.zeros(1, latent), nb.ones(1, latent))
  local drawn = distributions.Normal(self.decoder(q:rsample()):sigmoid(), nb.tensor(0.1))
  return -drawn:log_prob(x):sum(2):mean(), distributions.kl_divergence(q, p):sum(2):mean()
end

local net = VAE()
local opt = optim.NAdam(net:parameters(), { lr = 3e-3 })
local schedule = optim.CosineLR(opt, { total_steps = steps })
local test, places = spots(500)

local function error_of_pictures()
  return nb.no_grad(function() return (net.decoder(net:encode(test).mean):sigmoid() - test):abs():mean():item() end)
end

for step = 1, steps do
  local cost, divergence = net(spots(64))
  local J = cost + divergence
  opt:zero_grad()
  J:backward()
  opt:step()
  schedule:step()
  if step % math.max(steps // 5, 1) == 0 then
    print(("step %4d   loss %.2f, of which divergence %.2f   mean error of a pixel %.4f"):format(step, J:item(),
      divergence:item(), error_of_pictures()))
  end
end

-- How well a place follows from the two numbers: a small net learns it from half of them.
local codes = nb.no_grad(function() return net:encode(test).mean:clone() end)
local probe = nn.Sequential { nn.Linear(latent, 32), nn.Tanh(), nn.Linear(32, 2) }
nn.fit(probe, nn.MSELoss(), optim.Adam(probe:parameters(), { lr = 0.02 }), { codes[{ { 1, 250 } }],
  places[{ { 1, 250 } }] }, { epochs = math.max(steps // 10, 1), progress = false })
local r2 = nn.metrics.R2Score()
r2:update(nb.no_grad(probe, codes[{ { 251, 500 } }]), places[{ { 251, 500 } }])
print(("the two numbers explain %.1f %% of where the spots lie"):format(100 * r2:compute()))
if steps >= 2000 and (error_of_pictures() > 0.03 or r2:compute() < 0.9) then
  error "spots should be drawn to 3 % and found to 90 %"
end
