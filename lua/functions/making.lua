-- SPDX-License-Identifier: MIT
-- Tensors of another's dtype.
local nb = require "nablua.core"
local options = require "nablua.options"
local define = require "nablua.functions.define"

local shape = { name = "shape", type = "whole numbers" }
local dtype = { name = "dtype", type = "string", optional = true, choices = { "f32", "f64", "i64", "u8", "bool" } }
local grad = { name = "requires_grad", type = "boolean", default = false }

-- Sizes may stand one by one.
local function gathered(x, ...)
  local args, sizes = table.pack(...), {}
  while math.type(args[#sizes + 1]) == "integer" do sizes[#sizes + 1] = args[#sizes + 1] end
  if #sizes == 0 then return x, ... end
  return x, sizes, table.unpack(args, #sizes + 1, args.n)
end

local function made(name, doc, params, example, make)
  local all = { define.x(), table.unpack(params) }
  all[#all + 1], all[#all + 2] = dtype, grad
  define.method(name, { family = "Making tensors", doc = doc, example = example,
    params = table.move(all, 2, #all, 1, {}),
    function(...)
      local o = options.read(name, all, (name == "new_tensor" and function(...) return ... end or gathered)(...))
      return make(o, { dtype = o.dtype or o.x.dtype, requires_grad = o.requires_grad or nil })
    end })
end

made("new_zeros", "Zeros of a shape in t's dtype.", { shape },
  "nb.zeros(1, {dtype=\"f64\"}):new_zeros(2).dtype  --> \"f64\"",
  function(o, how) return nb.zeros(o.shape, how) end)
made("new_ones", "Ones of a shape in t's dtype.", { shape }, "nb.zeros(1):new_ones(2)  --> {1, 1}",
  function(o, how) return nb.ones(o.shape, how) end)
made("new_empty", "A tensor of a shape in t's dtype whose elements are whatever was there.", { shape },
  "nb.zeros(1):new_empty(2, 3).shape  --> {2, 3}", function(o, how) return nb.empty(o.shape, how) end)
made("new_full", "A tensor of a shape in t's dtype, all of one value.", { shape, { name = "value", type = "any" } },
  "nb.zeros(1):new_full({2}, 7)  --> {7, 7}", function(o, how) return nb.full(o.shape, o.value, how) end)
made("new_tensor", "A tensor of these values in t's dtype; a copy.", { { name = "value", type = "any" } },
  "nb.zeros(1):new_tensor{1, 2}  --> {1, 2}",
  function(o, how)
    if nb.is_tensor(o.value) then return o.value:detach():to(how.dtype):clone() end
    return nb.tensor(o.value, how)
  end)
