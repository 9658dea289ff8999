-- SPDX-License-Identifier: MIT
-- Vanishing gradients: what reaches the first layer as nets grow deeper, for σ, tanh, ReLU and leaky ReLU.
local nb = require "nablua"
local nn, inspect = nb.nn, nb.inspect

local WIDTH, SAMPLES = 16, 64
local activations = {
  { "σ", nn.Sigmoid, "xavier_normal" }, { "tanh", nn.Tanh, "xavier_normal" },
  { "ReLU", nn.ReLU, "kaiming_normal" }, { "leaky ReLU", nn.LeakyReLU, "kaiming_normal" },
}
local depths = { 1, 2, 4, 8, 16 }

local function make(depth, activation, init)
  local net = nn.Sequential()
  for i = 1, depth do
    net[2 * i - 1], net[2 * i] = nn.Linear(WIDTH, WIDTH), activation()
  end
  net[2 * depth + 1] = nn.Linear(WIDTH, 1)
  net:apply(function(m) if m.weight then nn.init[init](m.weight) end end)
  return net
end

nb.seed(2)
local x = nb.randn(SAMPLES, WIDTH)
local y = x:sum(2, { keepdim = true }):tanh()

print("|∂J/∂W| of the first layer as a share of the last one's, by the number of hidden layers:\n")
io.write(("%-12s"):format "")
for _, d in ipairs(depths) do io.write(("%10d"):format(d)) end
print()
for _, a in ipairs(activations) do
  io.write(a[1] .. (" "):rep(12 - utf8.len(a[1])))
  for _, depth in ipairs(depths) do
    local net = make(depth, a[2], a[3])
    nn.mse(net(x), y):backward()
    local first, last = net[1].weight.grad:norm():item(), net[#net].weight.grad:norm():item()
    io.write(("%10.1e"):format(first / last))
  end
  print()
end

print "\nWhy, for σ and four hidden layers: every σ' takes at least three quarters of the signal away.\n"
local net = make(4, nn.Sigmoid, "xavier_normal")
print(inspect.explain(nn.mse(net(x), y), net[1].weight))

print "\nWhat the doctor says of eight hidden layers of σ:\n"
net = make(8, nn.Sigmoid, "xavier_normal")
local findings = inspect.diagnose(net, x, y, nn.MSELoss())
print(findings)

print "\nAfter the remedy:\n"
for _, finding in ipairs(findings) do
  assert(load(finding.remedy, "remedy", "t", { net = net, nn = nn }))()
end
print(inspect.diagnose(net, x, y, nn.MSELoss()))

print "\nTraining it, watched:\n"
local watch = inspect.watch(net)
local opt = nb.optim.SGD(net:parameters(), { lr = 0.01 })
for _ = 1, 40 do
  opt:zero_grad()
  nn.mse(net(x), y):backward()
  opt:step()
end
print(watch:detach())
