-- SPDX-License-Identifier: MIT
-- What roll and repeat_interleave do with several numbers: shifts and dimensions in tables, counts in a tensor.
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local several = {}

local shifts = { define.x(), { name = "shift", type = "whole numbers" }, { name = "dim", type = "whole numbers" } }

function several.roll(...)
  local o = options.read("roll", shifts, ...)
  local dims = type(o.dim) == "table" and o.dim or { o.dim }
  if type(o.shift) ~= "table" or #o.shift ~= #dims then
    define.fail("roll", "there must be a shift for each dimension, got %s for %s", options.show(o.shift),
      options.show(o.dim))
  end
  local x = o.x
  for i, d in ipairs(dims) do
    define.dimension("roll", x, d)
    if x:dim() > 0 then x = x:roll(o.shift[i], d) end
  end
  return x
end

local counts = { define.x(), define.tensor("repeats"), { name = "dim", type = "integer", optional = true,
  positional = true } }

function several.repeat_interleave(...)
  local o = options.read("repeat_interleave", counts, ...)
  local x = o.x
  if o.dim == nil then x = x:reshape(x:numel()) end
  local d, n = define.dimension("repeat_interleave", x, o.dim or 1)
  if o.repeats.requires_grad and nb.grad_enabled() then
    define.fail("repeat_interleave", "repeats are counts, through which no gradient flows, but this tensor requires " ..
      "grad; pass :detach()")
  end
  local repeats = o.repeats:detach():to("i64")
  if not o.repeats:eq(repeats):all():item() then
    define.fail("repeat_interleave", "repeats must be whole numbers")
  end
  if repeats:numel() == 1 then repeats = repeats:reshape(1):expand(n) end  -- one count for all
  if repeats:dim() ~= 1 or repeats:numel() ~= n then
    define.fail("repeat_interleave", "repeats must be a vector of %d, one for each element, got shape %s", n,
      options.shape(o.repeats))
  end
  if n > 0 and repeats:amin():item() < 0 then
    define.fail("repeat_interleave", "repeats must be at least 0 everywhere")
  end
  if x:dim() == 0 then x = x:reshape(1) end
  local ends = repeats:cumsum(1)
  local total = n > 0 and ends:at(n) or 0
  if total == 0 then return x:narrow(d, 1, 0) end
  return x:index_select(d, ends:searchsorted(nb.arange(1, total, { dtype = "i64" })))
end

local along = { define.x(), { name = "dim", type = "integer", default = 1 } }

-- The distinct slices along a dimension in the order of their first differing element: sorted by one column after the
-- other, the last first, which keeps the order of what is equal.
function several.unique(...)
  local o = options.read("unique", along, ...)
  local x, d, n = o.x:detach(), define.dimension("unique", o.x, o.dim)
  if x:dim() == 0 then x = x:reshape(1) end
  if n == 0 then return x, nb.zeros(0, { dtype = "i64" }), nb.zeros(0, { dtype = "i64" }) end
  if x:numel() == 0 then define.fail("unique", "there are no elements to compare, of shape %s", options.shape(x)) end
  local rows = nb.movedim(x, d, 1):reshape(n, x:numel() // n)
  local order = nb.arange(1, n, { dtype = "i64" })
  for k = rows:size(2), 1, -1 do
    order = order:index_select(1, rows:select(2, k):index_select(1, order):argsort())
  end
  local values, run, counts_of = nb.unique_consecutive(x:index_select(d, order), { dim = d })
  return values, nb.zeros(n, { dtype = "i64" }):scatter(1, order, run), counts_of
end

return several
