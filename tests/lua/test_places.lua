-- SPDX-License-Identifier: MIT
-- What is done to each number alone is done to it wherever it stands: kernels cut long tensors into pieces, for threads
-- and for vectors, and no piece may forget its first number or its last.  The same numbers shifted by a length that no
-- piece has must give the same results, shifted.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local registry = require "nablua.registry"
local optim = nb.optim

local T = {}

local LONG, SHIFT = 40003, 1009  -- several pieces with a rest; a number of vectors with a rest

-- The largest difference in proportion to the numbers; 1/0 where one of two alone is none.
local function difference(a, b)
  a, b = a:detach():to("f64"), b:detach():to("f64")
  local same = a:eq(b) | (a:ne(a) & b:ne(b))
  local off = nb.where(same, 0, (a - b):abs() / (a:abs() + 1e-30))
  return nb.where(off:ne(off), 1 / 0, off):max():item()
end

local function with_threads(f)
  local before = nb.threads()
  local _ <close> = setmetatable({}, { __close = function() nb.threads(before) end })
  for _, count in ipairs { 1, 2 } do
    nb.threads(count)
    f()
  end
end

local NEAR = { f32 = 2e-6, f64 = 1e-14, i64 = 0, u8 = 0 }

-- ---- rows ----

local WHOLE = { u8 = { 1, 9 }, i64 = { 1, 40 } }

local function operands(row, dtype)
  return numeric.operands(row, function(p)
    if p.kind == "mask" then return nb.rand(LONG):gt(0.5) end
    if WHOLE[dtype] then return nb.randint(WHOLE[dtype][1], WHOLE[dtype][2], { LONG }):to(dtype) end
    local lo, hi = row.sample.lo, row.sample.hi
    if lo == 0 and hi == 0 then lo, hi = -2, 2 end
    return (nb.rand({ LONG }, { dtype = "f64" }) * (hi - lo) + lo):to(dtype)
  end)
end

-- What a row gives of arguments and a weight for each of its numbers, and the slopes where it has any.
local function results(row, args, weights)
  for _, a in ipairs(args) do
    if a.dtype == "f32" or a.dtype == "f64" then a.requires_grad = true end
  end
  local list = { (numeric.call_of(row)(table.unpack(args))) }
  if list[1].requires_grad then
    (list[1] * weights:to(list[1].dtype)):sum():backward()
    for _, a in ipairs(args) do list[#list + 1] = a.grad end
  end
  return list
end

function T.test_rows_of_each_number()
  local compared = 0
  with_threads(function()
    numeric.each_row(function(row) return row.elementwise and not row.internal end, function(row)
      for dtype, near in pairs(NEAR) do
        local args, weights = assert(operands(row, dtype)), nb.rand({ LONG }, { dtype = "f64" }) + 0.5
        local shifted = {}
        for k, a in ipairs(args) do shifted[k] = a:roll(SHIFT, 1) end
        local ok, list = pcall(results, row, args, weights)
        if ok then
          for k, r in ipairs(results(row, shifted, weights:roll(SHIFT, 1))) do
            local off = difference(list[k]:detach():roll(SHIFT, 1), r)
            assert(off <= near, ("%s, %s: they differ by %g"):format(dtype, k == 1 and "the result" or "a slope", off))
            compared = compared + 1
          end
        end
      end
    end)
  end)
  assert(compared > 1000, compared)
end

-- ---- optimizers ----

local WHOLE_TENSORS = { ["optim.LBFGS"] = true, ["optim.Adafactor"] = true, ["optim.Muon"] = true }

-- The options that an optimizer has, each away from what it is by itself, alone and with a momentum.
local function settings_of(entry)
  local list, has = { {} }, {}
  for _, p in ipairs(entry.params) do has[p.name] = true end
  for _, p in ipairs(entry.params) do
    if p.type == "boolean" then
      list[#list + 1] = { [p.name] = not p.default }
      if has.momentum then list[#list + 1] = { [p.name] = not p.default, momentum = 0.9 } end
    end
  end
  if has.momentum then list[#list + 1] = { momentum = 0.9 } end
  if has.weight_decay then list[#list + 1] = { weight_decay = 0.1 } end
  return list
end

local function stepped(make, w, gradients, shift)
  w = w:roll(shift, 1)
  w.requires_grad = true
  local opt = make({ w })
  for _, g in ipairs(gradients) do
    w.grad = g:roll(shift, 1)
    opt:step()
  end
  return w
end

function T.test_optimizers_of_each_number()
  local tried = 0
  with_threads(function()
    for _, entry in ipairs(registry.all()) do
      if entry.kind == "optimizer" and not WHOLE_TENSORS[entry.name] then
        local construct = optim[entry.name:match "[^.]+$"]
        for _, settings in ipairs(settings_of(entry)) do
          for _, dtype in ipairs { "f32", "f64" } do
            local w, gradients = nb.randn({ LONG }, { dtype = dtype }), {}
            for k = 1, 3 do gradients[k] = nb.randn({ LONG }, { dtype = dtype }) end
            local function make(list) return construct(list, settings) end
            if pcall(make, { nb.ones(1, { requires_grad = true }) }) then  -- some options need others
              local here, there = stepped(make, w, gradients, 0), stepped(make, w, gradients, SHIFT)
              lu.assertTrue(difference(here:detach():roll(SHIFT, 1), there) <= 50 * NEAR[dtype], entry.name)
              local stay = here:eq(w):sum():item() / LONG  -- where a step is less than the last bit
              assert(stay < 0.01, ("%s leaves %g of the numbers where they were"):format(entry.name, stay))
              tried = tried + 1
            end
          end
        end
      end
    end
  end)
  assert(tried > 100, tried)
end

return T
