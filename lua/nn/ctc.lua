-- SPDX-License-Identifier: MIT
-- Connectionist temporal classification: −ln of the probability that a sequence of class probabilities spells a target.
--
-- The target is written with blanks around every label, e = ␣ l[1] ␣ l[2] ... ␣; alpha[t][s] is the logarithm of the
-- probability of all ways to have spelt e[1..s] after t steps (Graves et al., equations 6 and 7):
--
--   alpha[t][s] = ln p[t][e[s]] + ln(Σ e^alpha[t-1][s], [s-1] and, where e[s] is a label unlike e[s-2], [s-2])
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local reduction = require "nablua.nn.reduction"
local shared = require "nablua.nn.shared"

local M = {}

local NEVER = -1e30  -- stands for ln 0: finite, so that no gradient is NaN

-- The lengths of n sequences as a tensor of whole numbers from 0 to `most`.
local function lengths_of(where, what, given, n, most)
  if given == nil then return nb.full({ n }, most, { dtype = "i64" }) end
  if type(given) == "number" or type(given) == "table" then
    local ok, t = pcall(nb.tensor, given)
    if ok then given = t end
  end
  if not nb.is_tensor(given) or given:numel() ~= n then
    native.raise(("%s: %s must be %d whole numbers, one for each sequence, got %s"):format(where, what, n,
      options.describe(given)))
  end
  local t = given:view(-1):to("i64")
  if n > 0 and (t:min():item() < 0 or t:max():item() > most) then
    native.raise(("%s: %s must be from 0 to %d, got %d"):format(where, what, most,
      t:min():item() < 0 and t:min():item() or t:max():item()))
  end
  return t
end

-- Targets as n × most labels, and their lengths: rows that are filled up, or all sequences one after the other.
local function targets_of(where, targets, lengths, n)
  if targets:dim() == 1 and n > 1 or targets:dim() == 1 and lengths ~= nil then
    lengths = lengths_of(where, "target_lengths", lengths, n, targets:numel())
    local total = n > 0 and lengths:sum():item() or 0
    if total ~= targets:numel() then
      native.raise(("%s: the target_lengths of targets in one row must sum to their number %d, got %d"):format(where,
        targets:numel(), total))
    end
    local most = n > 0 and lengths:max():item() or 0
    if total == 0 then return nb.zeros({ n, most }, { dtype = "i64" }), lengths end
    local first = lengths:cumsum(1) - lengths
    local place = first:unsqueeze(2) + nb.arange(math.max(most, 1), { dtype = "i64" })
    return targets:index_select(1, place:clamp { max = total }:view(-1)):view(n, math.max(most, 1)), lengths
  end
  if targets:dim() == 1 then targets = targets:unsqueeze(1) end
  if targets:dim() ~= 2 or targets:size(1) ~= n then
    native.raise(("%s: targets must be batch × labels for %d sequences, or all labels in one row, got shape %s"):format(
      where, n, options.shape(targets)))
  end
  if lengths == nil then return targets, targets:le(0):to("i64"):cumsum(2):eq(0):to("i64"):sum(2) end
  return targets, lengths_of(where, "target_lengths", lengths, n, targets:size(2))
end

-- The labels with blanks around each, n × (2·most + 1), and where a step over a blank is allowed.
local function spelt_out(labels, counts, blank)
  local n, most = labels:size(1), labels:size(2)
  local plain = nb.where(counts, labels, blank)
  local blanks = nb.full_like(plain, blank)
  local e = nb.cat({ nb.stack({ blanks, plain }, 3):view(n, 2 * most), blanks:narrow(2, 1, 1) }, 2)
  local before = e:pad({ 2, 0 }):narrow(2, 1, 2 * most + 1)
  return e, e:ne(blank) & e:ne(before)
end

local function shifted(alpha, by)
  return alpha:pad({ by, 0 }, NEVER):narrow(2, 1, alpha:size(2))
end

-- −ln p of every sequence; where none spells the target, infinity, with gradients of 0.
local function each(where, o, log_probs, targets, input_lengths, target_lengths)
  local single = log_probs:dim() == 2
  if single then log_probs = log_probs:unsqueeze(2) end
  if log_probs:dim() ~= 3 then
    native.raise(("%s: log_probs must be length × batch × classes, got shape %s"):format(where,
      options.shape(log_probs)))
  end
  local steps, n, classes = table.unpack(log_probs.shape)
  if o.blank > classes then
    native.raise(("%s: blank must be a class from 1 to %d, got %d"):format(where, classes, o.blank))
  end
  local labels
  input_lengths = lengths_of(where, "input_lengths", input_lengths, n, steps)
  labels, target_lengths = targets_of(where, targets, target_lengths, n)
  if steps == 0 or n == 0 then return log_probs:sum { 1, 3 } * (0 / 0), target_lengths end
  local places = nb.arange(math.max(labels:size(2), 1), { dtype = "i64" })
  if labels:size(2) == 0 then labels = nb.zeros({ n, 1 }, { dtype = "i64" }) end
  local counts = places:le(target_lengths:unsqueeze(2))
  labels = shared.within(where, nb.where(counts, labels, 1), { kind = "labels", most = classes })
  local e, skips = spelt_out(labels, counts, o.blank)
  local width = e:size(2)
  local p = log_probs:gather(3, e:unsqueeze(1):expand(steps, n, width)):clamp { min = NEVER }
  local at_start = nb.arange(width, { dtype = "i64" }):le(2)
  local alpha
  for t, p_t in ipairs(shared.steps_of(p)) do
    if not alpha then
      alpha = nb.where(at_start, p_t, NEVER)
    else
      local ways = nb.stack({ alpha, shifted(alpha, 1), nb.where(skips, shifted(alpha, 2), NEVER) }, 3)
      local later = nb.logsumexp(ways, 3) + p_t
      alpha = nb.where(input_lengths:ge(t):unsqueeze(2), later, alpha)
    end
  end
  -- The way ends in the last blank or in the last label.
  local last = target_lengths:unsqueeze(2) * 2 + 1
  local ends = nb.cat({ alpha:gather(2, last), nb.where(last:gt(1), alpha:gather(2, (last - 1):clamp { min = 1 }),
    NEVER) }, 2)
  local losses = -nb.logsumexp(ends, 2)
  losses = nb.where(losses:ge(-NEVER / 10), o.zero_infinity and 0 or math.huge, losses)
  return single and losses:squeeze(1) or losses, target_lengths
end

reduction.define_of(M, { "log_probs", "targets", "input_lengths", "target_lengths" }, "CTCLoss", "ctc", {
  doc = "Connectionist temporal classification: −ln of the probability that log_probs (length × batch × classes, as " ..
    "LogSoftmax gives) spell the targets, repeated labels joined and blanks left out.  Targets are batch × labels " ..
    "(class numbers 1..K, never the blank), or all in one row; lengths left out are whole sequences, and the labels " ..
    "before the first 0.  The mean divides by the number of labels first.",
  needed = 2,
  params = {
    { name = "blank", type = "size", default = 1, doc = "the class that stands for no label (PyTorch's 0)" },
    { name = "zero_infinity", type = "boolean", default = false,
      doc = "sequences too short for their target have loss 0" },
  },
  source = "Graves et al. 2006",
  example = "nn.ctc(nb.zeros(1, 1, 2):log_softmax(-1), nb.tensor{{2}})  --> 0.693147",
  each = function(where, o, ...)
    local losses, lengths = each(where, o, ...)
    if o.reduction == "mean" then
      lengths = lengths:clamp { min = 1 }:to(losses.dtype)
      losses = losses / (losses:dim() == 0 and lengths:squeeze(1) or lengths)
    end
    return losses
  end,
})

return M
