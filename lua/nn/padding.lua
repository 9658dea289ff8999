-- SPDX-License-Identifier: MIT
-- Layers that pad the last dimensions: by a number, or by what is there already.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local shared = require "nablua.nn.shared"

local M = {}

-- Where each element of a dimension of n elements comes from when `low` are put before it and `high` behind.
local sources = {}

function sources.Reflection(at, n)  -- without the element at the edge
  at = nb.abs(at - 1) + 1
  return -nb.abs(n - at) + n
end

function sources.Replication(at, n) return at:clamp(1, n) end

function sources.Circular(at, n) return nb.mod(at - 1, n) + 1 end

-- How many elements a kind can take from a dimension of n.
local most = {
  Reflection = function(n) return n - 1, "less than the dimension's size" end,
  Replication = function(n) return n > 0 and math.huge or 0, "nothing where there are no elements" end,
  Circular = function(n) return n, "at most the dimension's size" end,
}

local function padded(self, x, dims, kind)
  local amounts = self.amounts
  for d = 1, dims do
    local at = x:dim() + 1 - d
    local low, high, n = amounts[2 * d - 1], amounts[2 * d], x:size(at)
    if low > 0 or high > 0 then
      local limit, text = most[kind](n)
      if low > limit or high > limit then
        native.raise(("%s: padding must be %s, got %d for a dimension of %d"):format(self:kind(), text,
          math.max(low, high), n))
      end
      x = x:index_select(at, sources[kind](nb.arange(1 - low, n + high, { dtype = "i64" }), n))
    end
  end
  return x
end

local SHAPES = { "(batch ×) channels × length", "(batch ×) channels × height × width",
  "(batch ×) channels × depth × height × width" }

local function define(kind, dims, spec)
  local name = ("%sPad%dd"):format(kind, dims)
  local text = dims == 1 and "elements before and behind: one number, or {left, right}" or
    "one number, or the amounts from the last dimension on: {left, right, top, bottom, ...}"
  local params = { { name = "padding", type = "counts", doc = text } }
  if kind == "Constant" then params[2] = { name = "value", type = "number" } end
  M[name] = module.define("nn." .. name, {
    doc = spec.doc:format(({ "the last dimension", "the last two dimensions", "the last three dimensions" })[dims]),
    params = params, see = { "nb.pad" }, example = spec[dims],
    init = function(self, o)
      local amounts = o.padding
      if type(amounts) == "number" then amounts = shared.each_of(amounts, 2 * dims) end
      if #amounts ~= 2 * dims then
        native.raise(("nn.%s: padding must be one number or %d, got %d"):format(name, 2 * dims, #amounts))
      end
      rawset(self, "amounts", amounts)
    end,
    forward = function(self, x)
      shared.check_rank(self, x, SHAPES[dims], dims + 2, true)
      if sources[kind] then return padded(self, x, dims, kind) end
      return nb.pad(x, self.amounts, self.value or 0)
    end,
  })
end

local KINDS = {
  Zero = { doc = "Zeros around %s.",
    "nn.ZeroPad1d(1)(nb.tensor{{{1, 2}}})  --> {{{0, 1, 2, 0}}}" },
  Constant = { doc = "A number around %s.",
    "nn.ConstantPad1d({0, 2}, 7)(nb.tensor{{{1, 2}}})  --> {{{1, 2, 7, 7}}}" },
  Reflection = { doc = "Mirrors %s at its edges, which are not repeated.",
    "nn.ReflectionPad1d(2)(nb.tensor{{{1, 2, 3}}})  --> {{{3, 2, 1, 2, 3, 2, 1}}}" },
  Replication = { doc = "Repeats the elements at the edges of %s.",
    "nn.ReplicationPad1d(2)(nb.tensor{{{1, 2}}})  --> {{{1, 1, 1, 2, 2, 2}}}" },
  Circular = { doc = "Goes round: the end of %s stands before its beginning.",
    "nn.CircularPad1d(1)(nb.tensor{{{1, 2, 3}}})  --> {{{3, 1, 2, 3, 1}}}" },
}

for _, kind in ipairs { "Zero", "Constant", "Reflection", "Replication", "Circular" } do
  local spec = KINDS[kind]
  local value = kind == "Constant" and ", 7" or ""
  spec[2] = ("nn.%sPad2d({1, 0, 1, 1}%s)(nb.ones(1, 2, 3, 4)).shape  --> {1, 2, 5, 5}"):format(kind, value)
  spec[3] = ("nn.%sPad3d(1%s)(nb.ones(1, 2, 3, 4, 5)).shape  --> {1, 2, 5, 6, 7}"):format(kind, value)
  for dims = 1, 3 do define(kind, dims, spec) end
end

return M
