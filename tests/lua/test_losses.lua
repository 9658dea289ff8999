-- SPDX-License-Identifier: MIT
-- Losses: against hand-derived values and invariants.
local nb = require "nablua"
local numeric = require "numeric"
local nn = nb.nn

local T = {}

local assert_error, assert_close = numeric.assert_error, numeric.assert_close

function T.test_losses_by_hand()
  local p, y = nb.tensor { 0.2, 0.9 }, nb.tensor { 0, 1 }
  assert_close(nn.mse(p, y), (0.04 + 0.01) / 2)
  assert_close(nn.l1(p, y), 0.15)
  assert_close(nn.huber(nb.tensor { 3, 0.5 }, nb.tensor { 0, 0 }), ((3 - 0.5) + 0.125) / 2)
  assert_close(nn.huber(nb.tensor { 3 }, nb.tensor { 0 }, { delta = 2 }), 2 * (3 - 1))
  assert_close(nn.bce(p, y), -(math.log(0.8) + math.log(0.9)) / 2)
  assert_close(nn.hinge(nb.tensor { 0.5, -2, 3 }, nb.tensor { 1, 1, 1 }), (0.5 + 3 + 0) / 3)
  local z = nb.tensor { -1, 2 }
  assert_close(nn.bce_with_logits(z, y), nn.bce(z:sigmoid(), y))
  assert_close(nn.bce_with_logits(z, y, { pos_weight = nb.tensor { 3, 3 } }),
    (math.log(1 + math.exp(-1)) + 3 * math.log(1 + math.exp(-2))) / 2)
  assert_close(nn.bce_with_logits(nb.tensor { 1000, -1000 }, nb.tensor { 0, 1 }), 1000)
  local q = nb.tensor { { 0.25, 0.75 } }
  assert_close(nn.kl_div(nb.tensor { { 0.5, 0.5 } }:log(), q, { reduction = "batchmean" }),
    0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5))
  assert_close(nn.kl_div(nb.tensor { { 0.5, 0.5 } }:log(), nb.tensor { { 1, 0 } }, { reduction = "sum" }), math.log(2))
end

function T.test_reductions()
  local a, b = nb.tensor { 1, 5 }, nb.tensor { 0, 2 }
  assert_close(nn.mse(a, b, { reduction = "none" }), { 1, 9 })
  assert_close(nn.mse(a, b, { reduction = "sum" }), 10)
  assert_close(nn.MSELoss { reduction = "sum" }(a, b), 10)
  assert_error({ "reduction", "mean, sum, none", '"avg"' }, nn.mse, a, b, { reduction = "avg" })
end

-- −log softmax(row)[k]
local function nll_by_hand(row, k)
  local sum = 0
  for _, v in ipairs(row) do sum = sum + math.exp(v) end
  return math.log(sum) - row[k]
end

local rows = { { 1, 2, 0.5 }, { -1, 0, 3 }, { 0.3, 0.1, 0.2 } }
local labels = { 2, 1, 3 }

function T.test_cross_entropy_by_hand()
  local logits, target = nb.tensor(rows), nb.tensor(labels)
  local each, sum = {}, 0
  for i, row in ipairs(rows) do
    each[i] = nll_by_hand(row, labels[i])
    sum = sum + each[i]
  end
  assert_close(nn.cross_entropy(logits, target), sum / 3)
  assert_close(nn.cross_entropy(logits, target, { reduction = "none" }), each)
  assert_close(nn.CrossEntropyLoss()(logits, target:to("i64")), sum / 3)
  assert_close(nn.nll(logits:log_softmax(2), target), sum / 3)
  assert_close(nn.cross_entropy(logits[1], nb.tensor(2)), each[1])
end

-- Short rows, long ones, classes across, and some of each in one tile and in several; every sample counts differently.
function T.test_cross_entropy_of_all_sizes()
  for _, dtype in ipairs { "f32", "f64" } do
    for _, shape in ipairs { { 1, 1 }, { 65, 10 }, { 3, 24 }, { 9, 25 }, { 130, 7 }, { 2, 300 }, { 2, 5, 70 } } do
      local n, classes, inner = shape[1], shape[2], shape[3] or 1
      local z = nb.randn(n, inner, classes, { dtype = dtype }) * 3
      local target, g = nb.randint(1, classes, n, inner), nb.rand(n, inner, { dtype = dtype })
      local losses, slopes = {}, {}  -- element by element, the classes innermost
      for i = 1, n do
        for j = 1, inner do
          local row, k, weight = z[i][j]:totable(), target[i][j]:item(), g[i][j]:item()
          losses[#losses + 1] = nll_by_hand(row, k)
          for q = 1, classes do
            slopes[#slopes + 1] = weight * (math.exp(-nll_by_hand(row, q)) - (q == k and 1 or 0))
          end
        end
      end
      local logits = z:transpose(2, 3):contiguous()
      if not shape[3] then logits, target, g = logits:squeeze(3), target:squeeze(2), g:squeeze(2) end
      logits.requires_grad = true
      local each, tolerance = nb.cross_entropy(logits, target), dtype == "f32" and 2e-6 or 1e-13
      assert_close(each, losses, tolerance)
      each:backward(g)
      assert_close(logits.grad:view(n, classes, inner):transpose(2, 3), slopes, tolerance)
    end
  end
end

-- Where a net is sure of the right class, 1 − p is below what f32 knows of p: the gradient still has all its digits.
function T.test_cross_entropy_of_the_sure()
  for _, classes in ipairs { 2, 40 } do
    local z = nb.full({ classes }, -20, { requires_grad = true })
    nb.no_grad(function() z[1] = 0 end)
    nb.cross_entropy(z, nb.tensor(1)):backward()
    local others = (classes - 1) * math.exp(-20)
    assert_close(z.grad[1] / (-others / (1 + others)), 1, 1e-6)
    assert_close(z.grad[2] / (math.exp(-20) / (1 + others)), 1, 1e-6)
  end
end

function T.test_cross_entropy_weights_ignores_and_smooths()
  local logits, target = nb.tensor(rows), nb.tensor(labels)
  local w = { 0.5, 2, 1 }
  local sum, weights = 0, 0
  for i, row in ipairs(rows) do
    sum, weights = sum + w[labels[i]] * nll_by_hand(row, labels[i]), weights + w[labels[i]]
  end
  assert_close(nn.cross_entropy(logits, target, { weight = nb.tensor(w) }), sum / weights)
  assert_close(nn.cross_entropy(logits, nb.tensor { 2, 1, -100 }, { ignore_index = -100 }),
    (nll_by_hand(rows[1], 2) + nll_by_hand(rows[2], 1)) / 2)
  -- Smoothing by ε is the loss against (1 − ε)·one_hot + ε/K.
  local soft = nb.one_hot(target, 3) * 0.9 + 0.1 / 3
  assert_close(nn.cross_entropy(logits, target, { label_smoothing = 0.1 }), nn.cross_entropy(logits, soft))
  assert_close(nn.cross_entropy(logits, nb.one_hot(target, 3), { label_smoothing = 0.1 }),
    nn.cross_entropy(logits, soft))
  assert_close(nn.cross_entropy(logits, target, { label_smoothing = 0.1, weight = nb.tensor(w), reduction = "sum" }),
    nn.cross_entropy(logits, soft, { weight = nb.tensor(w), reduction = "sum" }))
end

function T.test_cross_entropy_of_images()
  local logits = nb.randn(2, 3, 4, 5)
  local target = nb.randint(1, 3, 2, 4, 5)
  local pixels = nn.cross_entropy(logits:permute(1, 3, 4, 2):reshape(-1, 3), target:view(-1))
  assert_close(nn.cross_entropy(logits, target), pixels)
  assert_close(nn.cross_entropy(logits, target, { weight = nb.ones(3) }), pixels)
end

function T.test_the_lectures_output_factors()
  local z = nb.randn(4, 3, { requires_grad = true })
  local y = nb.rand(4, 3)
  assert_close(nb.grad(nn.bce_with_logits(z, y, { reduction = "sum" }), z), (z:sigmoid() - y):detach())
  local target = nb.tensor { 1, 3, 2, 2 }
  assert_close(nb.grad(nn.cross_entropy(z, target, { reduction = "sum" }), z),
    (z:softmax(2) - nb.one_hot(target, 3)):detach())
end

function T.test_losses_never_broadcast()
  assert_error({ "nn.mse", "4 and 4×1", "target:view(4)" }, nn.mse, nb.ones(4), nb.ones(4, 1))
  assert_error({ "BCEWithLogitsLoss", "2×2 and 2" }, nn.BCEWithLogitsLoss(), nb.ones(2, 2), nb.ones(2))
  assert_error({ "target must be a tensor" }, nn.mse, nb.ones(4), 3)
  assert_error({ "probabilities" }, nn.bce, nb.tensor { 1.5 }, nb.tensor { 1 })
end

function T.test_bad_labels_are_named()
  assert_error({ "1..2", "3" }, nn.cross_entropy, nb.ones(2, 2), nb.tensor { 1, 3 })
  assert_error({ "0" }, nn.cross_entropy, nb.ones(2, 2), nb.tensor { 1, 0 })
  assert_error({ "cross_entropy" }, nn.cross_entropy, nb.ones(2, 2), nb.tensor { 1, 0 / 0 })
  assert_error({ "cross_entropy" }, nn.cross_entropy, nb.ones(2, 2), nb.tensor { 1, 1.5 })
  assert_error({ "2×2", "3" }, nn.cross_entropy, nb.ones(2, 2), nb.tensor { 1, 1, 1 })
  assert_error({ "1..2", "3" }, nn.nll, nb.ones(2, 2), nb.tensor { 1, 3 })
  assert_error({ "1..2", "label 1 is -1" }, nn.nll, nb.ones(2, 2), nb.tensor { -1, 2 })
  assert_error({ "nll" }, nn.nll, nb.ones(2, 2), nb.tensor { 1, 0 / 0 })
  assert_error({ "weight", "2 numbers" }, nn.cross_entropy, nb.ones(2, 2), nb.tensor { 1, 2 },
    { weight = nb.ones(3) })
end

function T.test_options_must_be_a_table()
  numeric.assert_error({ "nn.mse", "options", "reduction", "5" }, nn.mse, nb.ones(2), nb.ones(2), 5)
  numeric.assert_error({ "nn.mse", "options" }, nn.mse, nb.ones(2), nb.ones(2), nb.ones(2))
end

-- ---- the rarer ones, by their formulas ----

function T.test_losses_of_pairs_and_margins_by_hand()
  local p, y = nb.tensor { 3, 0.5 }, nb.tensor { 0, 0 }
  assert_close(nn.smooth_l1(p, y), ((3 - 0.5) + 0.125) / 2)
  assert_close(nn.smooth_l1(p, y, { beta = 2 }), ((3 - 1) + 0.25 / 4) / 2)
  assert_close(nn.smooth_l1(p, y, { beta = 0 }), nn.l1(p, y))
  local rate, count = nb.tensor { 0.3, -1, 2 }, nb.tensor { 0, 1, 5 }
  local plain, full = 0, 0
  for i = 1, 3 do
    local x, k = rate:at(i), count:at(i)
    plain = plain + (math.exp(x) - k * x) / 3
    if k > 1 then full = full + (k * math.log(k) - k + math.log(2 * math.pi * k) / 2) / 3 end
  end
  assert_close(nn.poisson_nll(rate, count), plain)
  assert_close(nn.poisson_nll(rate, count, { full = true }), plain + full)
  assert_close(nn.poisson_nll(rate:exp(), count, { log_input = false }), plain)
  assert_close(nn.gaussian_nll(p, y, nb.tensor { 4, 1 }), ((math.log(4) + 9 / 4) / 2 + 0.25 / 2) / 2)
  assert_close(nn.gaussian_nll(p, y, nb.tensor { 4, 1 }, { full = true }),
    ((math.log(4) + 9 / 4) / 2 + 0.25 / 2 + math.log(2 * math.pi)) / 2)
  assert_close(nn.soft_margin(p, nb.tensor { -1, 1 }), (math.log(1 + math.exp(3)) + math.log(1 + math.exp(-0.5))) / 2)
  assert_close(nn.soft_margin(nb.tensor { 1000 }, nb.tensor { -1 }), 1000)
  assert_close(nn.hinge_embedding(p, nb.tensor { 1, -1 }, { margin = 2 }), (3 + 1.5) / 2)
  assert_close(nn.margin_ranking(p, nb.tensor { 1, 1 }, nb.tensor { -1, 1 }, { margin = 0.5 }), ((2 + 0.5) + 1) / 2)
  local a, b = nb.tensor { { 1, 0 }, { 3, 4 } }, nb.tensor { { 1, 1 }, { 4, 3 } }
  assert_close(nn.cosine_embedding(a, b, nb.tensor { 1, -1 }, { margin = 0.5 }), (1 - math.sqrt(0.5) + 0.96 - 0.5) / 2)
  assert_close(nn.triplet_margin(a, b, -a), ((1 - 2 + 1) + 0) / 2, 1e-4)
  assert_close(nn.triplet_margin(a, b, a, { margin = 2 }), ((1 + 2) + (math.sqrt(2) + 2)) / 2, 1e-4)
end

function T.test_margins_of_classes_by_hand()
  local x = nb.tensor { { 0.1, 0.2, 0.4, 0.8 } }
  -- Labels 4 and 1, none of 2 and 3.
  assert_close(nn.multi_label_margin(x, nb.tensor { { 4, 1, 0, 2 } }),
    (1 - (0.1 - 0.2) + 1 - (0.1 - 0.4) + 1 - (0.8 - 0.2) + 1 - (0.8 - 0.4)) / 4)
  assert_close(nn.multi_label_margin(x, nb.tensor { { 0, 1, 2, 3 } }), 0)
  assert_close(nn.multi_label_margin(x[1], nb.tensor { 4, 1, 0, 2 }), 0.85)
  assert_close(nn.multi_margin(x, nb.tensor { 4 }), (1 - 0.7 + 1 - 0.6 + 1 - 0.4) / 4)
  assert_close(nn.multi_margin(x, nb.tensor { 4 }, { p = 2, weight = nb.tensor { 1, 1, 1, 3 } }),
    3 * (0.3 ^ 2 + 0.4 ^ 2 + 0.6 ^ 2) / 4)
  assert_close(nn.multi_margin(x[1], nb.tensor(4)), 1.3 / 4)
  assert_close(nn.multi_label_soft_margin(x, nb.tensor { { 0, 1, 1, 0 } }),
    nn.bce_with_logits(x, nb.tensor { { 0, 1, 1, 0 } }))
end

-- The sum over all ways to spell the target, one by one.
local function ctc_by_hand(p, target, blank)
  local steps, classes, total = #p, #p[1], 0
  local function walk(t, way, product)
    if t > steps then
      local spelt, last = {}, nil
      for _, k in ipairs(way) do
        if k ~= blank and k ~= last then spelt[#spelt + 1] = k end
        last = k
      end
      if table.concat(spelt, ",") == table.concat(target, ",") then total = total + product end
      return
    end
    for k = 1, classes do
      way[t] = k
      walk(t + 1, way, product * p[t][k])
    end
    way[t] = nil
  end
  walk(1, {}, 1)
  return -math.log(total)
end

function T.test_ctc_counts_every_way_to_spell()
  nb.seed(4)
  local z = nb.randn(5, 3, 3, { dtype = "f64" })
  local p, targets = z:softmax(-1), { { 2, 3, 3 }, { 3 }, { 2, 2 } }
  local want = {}
  for blank = 1, 2 do
    for i, target in ipairs(targets) do
      local own, p_rows = {}, {}
      for k, label in ipairs(target) do own[k] = label == blank and 1 or label end
      for t = 1, 5 do p_rows[t] = p[t][i]:totable() end
      want[i] = ctc_by_hand(p_rows, own, blank)
    end
    local padded = nb.tensor { { 2, 3, 3 }, { 3, 0, 0 }, { 2, 2, 0 } }
    local flat = nb.tensor { 2, 3, 3, 3, 2, 2 }
    if blank == 2 then padded, flat = nb.where(padded:eq(2), 1, padded), nb.where(flat:eq(2), 1, flat) end
    assert_close(nn.ctc(z:log_softmax(-1), padded, { blank = blank, reduction = "none" }), want, 1e-12)
    assert_close(nn.ctc(z:log_softmax(-1), flat, nil, { 3, 1, 2 }, { blank = blank, reduction = "none" }), want, 1e-12)
    assert_close(nn.CTCLoss { blank = blank }(z:log_softmax(-1), padded),
      (want[1] / 3 + want[2] + want[3] / 2) / 3, 1e-12)
    assert_close(nn.ctc(z:log_softmax(-1), padded, { 4, 5, 5 }, { 3, 1, 2 }, { blank = blank, reduction = "none" })[2],
      want[2], 1e-12)
  end
  -- Three labels, two of them alike, need four steps.
  local short = nn.ctc(z:log_softmax(-1), nb.tensor { { 2, 2, 3 }, { 2, 0, 0 }, { 2, 3, 0 } }, { 3, 5, 5 }, { 3, 1, 2 },
    { reduction = "none" })
  assert_close(short[1], math.huge)
  z.requires_grad = true
  local J = nn.ctc(z:log_softmax(-1), nb.tensor { { 2, 2, 3 }, { 2, 0, 0 }, { 2, 3, 0 } }, { 3, 5, 5 }, { 3, 1, 2 },
    { zero_infinity = true })
  J:backward()
  assert_close(z.grad:transpose(1, 2)[1], nb.zeros(5, 3))
end

function T.test_errors_of_the_rarer_losses()
  local x = nb.ones(2, 3)
  assert_error({ "var", "at least 0" }, nn.gaussian_nll, x, x, -x)
  assert_error({ "var", "2×3", "3×2" }, nn.gaussian_nll, x, x, nb.ones(3, 2))
  assert_error({ "target", "at least 0" }, nn.poisson_nll, x, -x)
  assert_error({ "same shape" }, nn.triplet_margin, x, x, nb.ones(3))
  assert_error({ "input2 must be a tensor" }, nn.margin_ranking, x)
  assert_error({ "log_probs", "length × batch × classes" }, nn.ctc, nb.ones(3), nb.tensor { 1 })
  assert_error({ "target_lengths", "sum to their number 3" }, nn.ctc, nb.zeros(4, 2, 3), nb.tensor { 2, 2, 3 }, nil,
    { 1, 1 })
  assert_error({ "input_lengths", "from 0 to 4" }, nn.ctc, nb.zeros(4, 1, 3), nb.tensor { { 2 } }, { 5 })
  assert_error({ "blank" }, nn.ctc, nb.zeros(4, 1, 3), nb.tensor { { 2 } }, { blank = 4 })
  assert_error({ "p must be one of 1, 2" }, nn.multi_margin, x, nb.tensor { 1, 2 }, { p = 3 })
end

return T
