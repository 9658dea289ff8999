-- SPDX-License-Identifier: MIT
-- A training loop without manual freeing runs in flat memory.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local numeric = require "numeric"

local T = {}

-- Resident set in MB; nil where the system does not tell.
local function rss()
  local f = io.open("/proc/self/status")
  local text = f and f:read("a")
  if f then f:close() end
  return text and tonumber(text:match("VmRSS:%s*(%d+)")) / 1024
end

function T.test_200000_steps_of_xor_keep_the_memory_of_1000()
  nb.seed(3)
  local x = nb.tensor { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } }
  local y = nb.tensor { { 0 }, { 1 }, { 1 }, { 0 } }
  local w1, b1 = nb.randn(2, 4, { requires_grad = true }), nb.zeros(4, { requires_grad = true })
  local w2, b2 = nb.randn(4, 1, { requires_grad = true }), nb.zeros(1, { requires_grad = true })
  local parameters = { w1, b1, w2, b2 }
  local J
  local function step()
    local a = (x:matmul(w1) + b1):sigmoid()
    J = ((a:matmul(w2) + b2):sigmoid() - y):square():mean()
    J:backward()
    nb.no_grad(function()
      for _, w in ipairs(parameters) do
        w:sub_(w.grad * 2)
        w.grad = nil
      end
    end)
  end
  -- Under a sanitizer freed blocks are not reused, so the resident set says nothing.
  step()
  collectgarbage()
  local sanitized = nb.memory().cached == 0
  local steps = native.hostile and 5000 or sanitized and 20000 or 200000
  for _ = 1, 1000 do step() end
  local first_rss, first_live = rss(), nb.memory().live
  for _ = 1001, steps do step() end
  lu.assertTrue(J:item() < 0.01, "XOR was not learned: J = " .. J:item())
  lu.assertTrue(nb.memory().live - first_live < 20e6)
  if first_rss and not sanitized then lu.assertTrue(rss() - first_rss < 20) end
end

function T.test_6000_temporaries_of_1_MB_peak_under_100_MB()
  local t = nb.ones(512, 512)
  collectgarbage()
  nb.memory { reset_peak = true }
  for _ = 1, 6000 do local _ = t + 1 end
  lu.assertTrue(nb.memory().peak < 100e6)
end

-- Rows that reduce, but for those that are formulas of others.
local composed = { var = true, std = true, norm = true, logsumexp = true }

local function reductions()
  local list = {}
  for _, row in ipairs(native.rows()) do
    if row.family == "Reductions" and not row.internal and not composed[row.name] then list[#list + 1] = row.name end
  end
  return list
end

local function peak_of(f)
  collectgarbage()
  nb.memory { reset_peak = true }
  local before = nb.memory().live
  f()
  return nb.memory().peak - before
end

function T.test_no_reduction_copies_what_it_reads()
  local names = reductions()
  lu.assertTrue(#names >= 9)
  for _, name in ipairs(names) do
    for _, dtype in ipairs { "f32", "f64", "i64", "u8", "bool" } do
      local x = nb.rand(1000, 300):mul(3):to(dtype)
      for _, view in ipairs { x, x:transpose(1, 2), x:flip(1)[{ { 1, 1000, 3 } }] } do
        for _, dims in ipairs { {}, { 1 }, { 2 } } do
          local bytes = peak_of(function() return nb[name](view, dims[1]) end)
          -- One or two results for each of up to 1,000 places, of 8 bytes.
          lu.assertTrue(bytes < 40000, ("%s of %s: %d bytes"):format(name, dtype, bytes))
        end
      end
    end
  end
end

-- The gradient of what reads a part of a million numbers is made where it stays; of a table that is used twice, beside
-- the first.
function T.test_gradients_of_what_reads_parts_take_their_room_once()
  local bytes, words = 10000 * 100 * 4, nb.randint(1, 10000, { 20 })
  local w = nb.rand(10000, 100, { requires_grad = true })
  local layer = nb.nn.Embedding(10000, 100)
  layer.weight = w
  local few = nb.zeros(10000, 100, { dtype = "bool" })
  few[3] = true
  local reads = {
    embedding = function() return layer(words) end,
    index_select = function() return w:index_select(1, words) end,
    gather = function() return w:gather(1, words:reshape(20, 1)) end,
    masked_select = function() return w:masked_select(few) end,
    max = function() return (w:max(2)) end,
    topk = function() return (w:topk(3, 2)) end,
  }
  local function walk(J)
    w.grad = nil
    return peak_of(function() J:backward() end)
  end
  for name, read in pairs(reads) do lu.assertTrue(walk(read():sum()) < 1.3 * bytes, name) end
  lu.assertTrue(walk(layer(words):sum() + nb.linear(nb.ones(2, 100), w):sum()) < 2.3 * bytes)
  local want = nb.zeros(10000, 100):index_add(1, words, nb.ones(20, 100)) + 2
  lu.assertTrue((w.grad - want):abs():max():item() < 1e-5)
end

-- What a reduction must give, element by element, from the numbers in Lua.
local expected = {
  sum = function(v)
    local total = 0
    for _, x in ipairs(v) do total = total + x end
    return total
  end,
  prod = function(v)
    local total = 1
    for _, x in ipairs(v) do total = total * x end
    return total
  end,
  max = function(v) return math.max(table.unpack(v)) end,
  min = function(v) return math.min(table.unpack(v)) end,
}
function expected.mean(v) return expected.sum(v) / #v end
local function first(v, value)
  for i, x in ipairs(v) do
    if x == value then return i end
  end
end
function expected.argmax(v) return first(v, expected.max(v)) end
function expected.argmin(v) return first(v, expected.min(v)) end
function expected.any(v) return expected.max(v) > 0 and 1 or 0 end
function expected.all(v) return expected.min(v) > 0 and 1 or 0 end

-- Sizes around those at which the loops change: rows, columns, runs and blocks of them.
function T.test_reductions_of_every_dtype_and_layout()
  nb.seed(5)
  for _, name in ipairs(reductions()) do
    local want_of = assert(expected[name], "no expectation of " .. name)
    for _, dtype in ipairs { "f32", "f64", "i64", "u8", "bool" } do
      for _, shape in ipairs { { 3, 5 }, { 40, 17 }, { 300, 9 } } do
        local x = nb.randint(0, name == "prod" and 1 or 3, shape)
        if name == "all" then x = x:ne(0):logical_or(nb.rand(shape):gt(0.02)) end
        if name == "any" then x = nb.rand(shape):gt(0.98) end
        x = x:to(dtype)
        local twice = x:unsqueeze(1):expand(2, shape[1], shape[2])
        for _, view in ipairs { x, x:transpose(1, 2), x[{ { 1, shape[1], 2 } }], twice } do
          for dim = 1, view:dim() do
            local lanes = view:transpose(dim, -1):reshape(-1, view.shape[dim]):to("f64"):totable()
            local have = numeric.flat(nb[name](view, dim):transpose(math.min(dim, view:dim() - 1), -1):reshape(-1))
            if view:dim() == 3 then have = nil end
            for k, lane in ipairs(have and lanes or {}) do
              for i, v in ipairs(lane) do lane[i] = v == true and 1 or v == false and 0 or v end
              local what = ("%s of %s along %d, lane %d"):format(name, dtype, dim, k)
              lu.assertAlmostEquals(have[k], want_of(lane), 1e-5, what)
            end
          end
          local all = view:reshape(-1):to("f64"):totable()
          local whole = numeric.flat(nb[name](view):reshape(1))[1]
          lu.assertAlmostEquals(whole, want_of(all), 1e-3, name .. " of all, " .. dtype)
        end
      end
    end
  end
end

function T.test_the_largest_of_many_runs()
  local x = nb.zeros(3, 70000)
  x[2][69999] = 5
  x[3][2] = -7
  for _, dtype in ipairs { "f32", "f64", "i64" } do
    local t = x:to(dtype):transpose(1, 2)
    local top, place = nb.max(t, 1)
    lu.assertEquals(numeric.flat(top), { 0, 5, 0 })
    lu.assertEquals(numeric.flat(place), { 1, 69999, 1 })
    lu.assertEquals(nb.argmin(t):item(), 3 * 1 + 3)
    lu.assertEquals(nb.sum(t:expand(70000, 3)):item(), -2)
    lu.assertEquals(nb.any(t):item(), true)
  end
end

-- A collector that has much else to look at comes late: what is garbage must not be an error.
function T.test_garbage_is_collected_before_memory_is_short()
  local much = {}
  for i = 1, 400000 do much[i] = { i } end
  collectgarbage()
  local limit = nb.memory().limit
  nb.memory { limit = nb.memory().live + 30e6 }
  local failed
  for _ = 1, 50 do
    local ok, message = pcall(function() return nb.zeros(2500000):numel() end)
    if not ok then failed = message end
  end
  local ok = pcall(nb.zeros, 10000000)
  nb.memory { limit = limit }
  lu.assertNil(failed)
  lu.assertFalse(ok)
  lu.assertEquals(#much, 400000)
end

function T.test_tables_become_tensors_where_garbage_was()
  local much, numbers = {}, {}
  for i = 1, 400000 do much[i] = { i } end
  for i = 1, 250000 do numbers[i] = i end
  collectgarbage()
  local limit, failed = nb.memory().limit, nil
  nb.memory { limit = nb.memory().live + 3e6 }
  for _ = 1, 50 do
    local ok, message = pcall(function() return nb.tensor(numbers, { dtype = "f64" }):numel() end)
    if not ok then failed = message end
  end
  nb.memory { limit = limit }
  lu.assertNil(failed)
  lu.assertEquals(#much, 400000)
end

return T
