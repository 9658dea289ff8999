-- SPDX-License-Identifier: MIT
-- Optimizers and schedules that are less often used, each by its paper's formulas; read when somebody asks for one.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local parts = require "nablua.optim.parts"

local define, lr, eps, betas, weight_decay = parts.define, parts.lr, parts.eps, parts.betas, parts.weight_decay
local decayed, remembered, one_step = parts.decayed, parts.remembered, parts.one_step

local decoupled = { name = "decoupled_weight_decay", type = "boolean", default = false,
  doc = "take lr·weight_decay·w off the weights, as AdamW does" }

-- The gradient with the decay in it, or the weights with the decay off them.
local function with_decay(p, g, o)
  if not o.decoupled_weight_decay then return decayed(g, p, o.weight_decay) end
  p:mul_(1 - o.lr * o.weight_decay)
  return g
end

-- Running means of the gradient and of its square.
local function means(p, g, m, o)
  local mean = remembered(m, "mean", p):mul_(o.betas[1]):add_(g * (1 - o.betas[1]))
  local square = remembered(m, "square", p):mul_(o.betas[2]):add_(g:square():mul_(1 - o.betas[2]))
  return mean, square
end

-- A number that is remembered: of a parameter that is one itself, a state gives it as a tensor.
local function number(v)
  return nb.is_tensor(v) and v:item() or v
end

-- ---- relatives of Adam ----

define("NAdam", {
  doc = "Adam with Nesterov's momentum: the step looks ahead along the mean of gradients.", source = "Dozat 2016",
  example = one_step:format("NAdam", "lr=0.1", "2.89435"),
  params = { lr(2e-3), betas, eps(1e-8), weight_decay,
    { name = "momentum_decay", type = "fraction", default = 4e-3, doc = "how fast beta 1 comes to its full size" },
    decoupled,
  },
  memory = { mean = true, square = true, product = true },
  shape_of = function(name) return name == "product" and "()" or nil end,
  update = function(p, g, m, o)
    local t, beta1 = m.step:item(), o.betas[1]
    g = with_decay(p, g, o)
    local mean, square = means(p, g, m, o)
    local mu = beta1 * (1 - 0.5 * 0.96 ^ (t * o.momentum_decay))
    local next_mu = beta1 * (1 - 0.5 * 0.96 ^ ((t + 1) * o.momentum_decay))
    m.product = number(m.product or 1) * mu
    local divisor = square:sqrt():mul_(1 / math.sqrt(1 - o.betas[2] ^ t)):add_(o.eps)
    local ahead = g * ((1 - mu) / (1 - m.product)) + mean * (next_mu / (1 - m.product * next_mu))
    p:sub_((ahead / divisor):mul_(o.lr))
  end,
})

define("RAdam", {
  doc = "Adam whose first steps, where the mean of squares says little yet, are not divided by its root, and the " ..
    "next ones shortened.",
  source = "Liu et al. 2020", example = one_step:format("RAdam", "lr=0.1", "2.4"),
  params = { lr(1e-3), betas, eps(1e-8), weight_decay, decoupled }, memory = { mean = true, square = true },
  update = function(p, g, m, o)
    local t, beta2 = m.step:item(), o.betas[2]
    g = with_decay(p, g, o)
    local mean, square = means(p, g, m, o)
    local longest = 2 / (1 - beta2) - 1  -- the length of the average in the end, and now
    local length = longest - 2 * t * beta2 ^ t / (1 - beta2 ^ t)
    local step = mean * (o.lr / (1 - o.betas[1] ^ t))
    if length > 5 then
      local r = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
      step = (step / square:sqrt():add_(o.eps)):mul_(r * math.sqrt(1 - beta2 ^ t))
    end
    p:sub_(step)
  end,
})

define("Adamax", {
  doc = "Adam divided by a decaying maximum of |gradient| in place of the root of its mean square.",
  source = "Kingma and Ba 2015", example = one_step:format("Adamax", "lr=0.1", "2.9"),
  params = { lr(2e-3), betas, eps(1e-8), weight_decay }, memory = { mean = true, largest = true },
  update = function(p, g, m, o)
    g = decayed(g, p, o.weight_decay)
    local mean = remembered(m, "mean", p):mul_(o.betas[1]):add_(g * (1 - o.betas[1]))
    local largest = remembered(m, "largest", p)
    largest:copy_(nb.maximum(largest * o.betas[2], g:abs():add_(o.eps)))
    p:sub_((mean / largest):mul_(o.lr / (1 - o.betas[1] ^ m.step:item())))
  end,
})

define("Adadelta", {
  doc = "Steps of the gradient times the root of the mean square of past steps over that of past gradients: they " ..
    "have the unit of the weights.",
  source = "Zeiler 2012", example = one_step:format("Adadelta", "lr=1", "2.99684"),
  params = { lr(1), { name = "rho", type = "fraction", default = 0.9, doc = "share of the old means of squares" },
    eps(1e-6), weight_decay },
  memory = { square = true, steps = true },
  update = function(p, g, m, o)
    g = decayed(g, p, o.weight_decay)
    local square, steps = remembered(m, "square", p), remembered(m, "steps", p)
    square:mul_(o.rho):add_(g:square():mul_(1 - o.rho))
    local step = (steps + o.eps):sqrt_():div_((square + o.eps):sqrt_()):mul_(g)
    steps:mul_(o.rho):add_(step:square():mul_(1 - o.rho))
    p:sub_(step * o.lr)
  end,
})

define("Lion", {
  doc = "Steps of lr along the sign of a mean of gradients, which is then moved on more slowly; the weight decay is " ..
    "taken off the weights.",
  source = "Chen et al. 2023", example = one_step:format("Lion", "lr=0.1", "2.9"),
  params = { lr(1e-4),
    { name = "betas", type = "two fractions", default = { 0.9, 0.99 },
      doc = "shares of the old mean in the step, and in the mean" },
    { name = "weight_decay", type = "non-negative", default = 0, doc = "times lr·w, taken off the weights" } },
  memory = { mean = true },
  update = function(p, g, m, o)
    local mean = remembered(m, "mean", p)
    p:mul_(1 - o.lr * o.weight_decay)
    p:sub_((mean * o.betas[1] + g * (1 - o.betas[1])):sign():mul_(o.lr))
    mean:mul_(o.betas[2]):add_(g * (1 - o.betas[2]))
  end,
})

-- ---- others ----

define("Rprop", {
  doc = "Each weight has a step of its own, which grows while its gradient keeps its sign and shrinks where it " ..
    "turns; for whole sets, not batches.",
  source = "Riedmiller and Braun 1993", example = one_step:format("Rprop", "lr=0.1", "2.9"),
  params = {
    { name = "lr", type = "non-negative", default = 1e-2, doc = "the first step" },
    { name = "etas", type = "two positives", default = { 0.5, 1.2 }, doc = "factors of steps: below 1, above 1" },
    { name = "step_sizes", type = "two positives", default = { 1e-6, 50 }, doc = "the least and the largest step" },
  },
  check = function(where, o)
    if o.etas[1] >= 1 or o.etas[2] <= 1 then
      native.raise(("%s: etas must be below 1 and above 1, got %s"):format(where, options.show(o.etas)))
    end
    if o.step_sizes[1] > o.step_sizes[2] then
      native.raise(("%s: step_sizes must be the least and the largest, got %s"):format(where,
        options.show(o.step_sizes)))
    end
  end,
  memory = { before = true, size = true },
  update = function(p, g, m, o)
    if not m.size then m.size = nb.full_like(p:detach(), o.lr) end
    local before = remembered(m, "before", p)
    local turn = g * before
    local turned = turn:lt(0)
    local factor = nb.where(turned, o.etas[1], nb.where(turn:gt(0), o.etas[2], nb.ones_like(turn)))
    m.size:mul_(factor):clamp_(o.step_sizes[1], o.step_sizes[2])
    g = g:masked_fill(turned, 0)
    p:sub_(g:sign() * m.size)
    before:copy_(g):mul_(1)  -- which flushes what came below the least normal number
  end,
})

define("ASGD", {
  doc = "Gradient descent with a falling rate, lr/(1 + lambd·lr·t)^alpha, that remembers the mean of all weights " ..
    "from step t0 on, state()[\"1.average\"].",
  source = "Polyak and Juditsky 1992", see = { "nn.AveragedModel" },
  example = one_step:format("ASGD", "lr=0.1, lambd=0", "2.4"),
  params = { lr(1e-2), { name = "lambd", type = "non-negative", default = 1e-4, doc = "how fast the rate falls" },
    { name = "alpha", type = "non-negative", default = 0.75, doc = "power of the fall" },
    { name = "t0", type = "non-negative", default = 1e6, doc = "steps before the averaging" }, weight_decay },
  memory = { average = true },
  update = function(p, g, m, o)
    g = decayed(g, p, o.weight_decay)
    local t = m.step:item() - 1
    local rate = o.lr / (1 + o.lambd * o.lr * t) ^ o.alpha
    p:mul_(1 - o.lambd * rate):sub_(g * rate)
    local share = 1 / math.max(1, t - o.t0)
    local average = remembered(m, "average", p)
    average:add_((p:detach() - average):mul_(share))
  end,
})

local function root_mean_square(t)
  return t:numel() > 0 and t:square():mean():sqrt():item() or 0
end

local function is_matrix(p) return p:dim() > 1 end

-- The mean square over a dimension, moved into what is remembered.
local function mean_square(m, name, g, dim, share)
  local now = g:square():mean(dim, { keepdim = true })
  if not m[name] then m[name] = nb.zeros_like(now) end
  m[name]:mul_(1 - share):add_(now * share)
  return m[name]
end

define("Adafactor", {
  doc = "Steps divided by the root of a mean of squares, of which a matrix keeps the sums of its rows and of its " ..
    "columns alone, and scaled by the size of the weights: little memory.",
  source = "Shazeer and Stern 2018", example = one_step:format("Adafactor", "lr=0.1", "2.7"),
  params = {
    { name = "lr", type = "non-negative", default = 1e-2, doc = "the largest relative step" },
    { name = "beta2_decay", type = "non-positive", default = -0.8, doc = "a new square weighs steps^beta2_decay" },
    { name = "eps1", type = "positive", optional = true,
      doc = "keeps the divisor from 0; left out: the dtype's smallest step at 1 (PyTorch's eps[0])" },
    { name = "eps2", type = "positive", default = 1e-3, doc = "the least size that weights count with (eps[1])" },
    { name = "d", type = "positive", default = 1, doc = "cuts steps whose root mean square is larger" },
    { name = "weight_decay", type = "non-negative", default = 0, doc = "times lr·w, taken off the weights" },
  },
  memory = { row = is_matrix, column = is_matrix, square = function(p) return not is_matrix(p) end },
  shape_of = function(name, p)
    if name == "square" then return nil end
    local sizes = p.shape
    if #sizes < 2 then return "(none)" end
    sizes[name == "row" and #sizes or #sizes - 1] = 1
    return options.shape(sizes)
  end,
  update = function(p, g, m, o)
    local t = m.step:item()
    local share, least = t ^ o.beta2_decay, o.eps1 or (p.dtype == "f64" and 2 ^ -52 or 2 ^ -23)
    local size = math.max(o.eps2, root_mean_square(p:detach())) * math.min(o.lr, 1 / math.sqrt(t))
    p:mul_(1 - o.lr * o.weight_decay)
    local square
    if is_matrix(p) then
      local row, column = mean_square(m, "row", g, -1, share), mean_square(m, "column", g, -2, share)
      square = row:matmul(column) / row:mean(-2, { keepdim = true }):clamp_(least)
    else
      square = remembered(m, "square", p):mul_(1 - share):add_(g:square():mul_(share))
    end
    local step = square:clamp(least * least):rsqrt():mul_(g)
    p:sub_(step:mul_(size / math.max(1, root_mean_square(step) / o.d)))
  end,
})

-- A matrix near to U·Vᵀ of G = U·S·Vᵀ: its singular values are drawn towards 1 by a polynomial of odd powers.
local function orthogonal(g, o)
  local a, b, c = table.unpack(o.ns_coefficients)
  local wide = g:size(1) <= g:size(2)
  local x = wide and g or g.T
  x = x / math.max(x:square():sum():sqrt():item(), o.eps)
  for _ = 1, o.ns_steps do
    local square = x:matmul(x.T)
    x = x * a + (square * b + square:matmul(square) * c):matmul(x)
  end
  return wide and x or x.T
end

define("Muon", {
  doc = "Momentum whose steps are made orthogonal by Newton-Schulz iterations, for the matrices inside of a net; " ..
    "all else needs another optimizer.",
  source = "Jordan et al. 2024",
  example = "local w = nb.eye(2):mul_(3) w.requires_grad = true; (w * w):sum():backward(); " ..
    "optim.Muon({w}, {lr=0.1, weight_decay=0}):step(); return w[1][2]:item()  --> 0",
  params = {
    lr(1e-3),
    { name = "weight_decay", type = "non-negative", default = 0.1, doc = "times lr·w, taken off the weights" },
    { name = "momentum", type = "fraction", default = 0.95 },
    { name = "nesterov", type = "boolean", default = true, doc = "look ahead along the momentum" },
    { name = "ns_coefficients", type = "three numbers", default = { 3.4445, -4.775, 2.0315 },
      doc = "of x, x³ and x⁵ in an iteration" },
    { name = "eps", type = "positive", default = 1e-7, doc = "the least norm that is divided by" },
    { name = "ns_steps", type = "count", default = 5, doc = "iterations" },
    { name = "adjust_lr_fn", choices = { "original", "match_rms_adamw" }, default = "original",
      doc = "how lr follows the shape: √max(1, rows/columns), or 0.2·√max(rows, columns)" },
  },
  memory = { momentum = true },
  update = function(p, g, m, o)
    if p:dim() ~= 2 then
      native.raise(("optim.Muon: takes matrices, got a parameter of shape %s; give the others to another optimizer, " ..
        "such as AdamW"):format(options.shape(p)))
    end
    local v = remembered(m, "momentum", p):mul_(o.momentum):add_(g * (1 - o.momentum))
    local step = orthogonal(o.nesterov and g * (1 - o.momentum) + v * o.momentum or v, o)
    local rows, columns = p:size(1), p:size(2)
    local rate = o.lr * (o.adjust_lr_fn == "original" and math.sqrt(math.max(1, rows / math.max(columns, 1))) or
      0.2 * math.sqrt(math.max(rows, columns)))
    p:mul_(1 - o.lr * o.weight_decay):sub_(step * rate)
  end,
})

require "nablua.optim.schedules"
return require "nablua.optim.other_schedules"
