-- SPDX-License-Identifier: MIT
-- Sets of samples: batches, splits, and the small sets made on the spot.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local data = nb.data

local T = {}

local assert_error = numeric.assert_error

function T.test_batches_see_every_sample_once_with_its_label()
  nb.seed(1)
  local x, y = nb.arange(10), nb.arange(10) * 2
  for _, shuffle in ipairs { false, true } do
    local train = data.batches { x, y, size = 4, shuffle = shuffle }
    lu.assertEquals(#train, 3)
    local epochs = {}
    for epoch = 1, 2 do
      local seen, sizes, order = {}, {}, {}
      for bx, by in train do
        sizes[#sizes + 1] = #bx
        for i, v in ipairs(bx:totable()) do
          lu.assertNil(seen[v])
          seen[v] = true
          order[#order + 1] = v
          lu.assertEquals(by:at(i), 2 * v)
        end
      end
      lu.assertEquals(sizes, { 4, 4, 2 })
      lu.assertEquals(#order, 10)
      epochs[epoch] = order
    end
    if shuffle then
      lu.assertNotEquals(epochs[1], epochs[2])
    else
      lu.assertEquals(epochs, { x:totable(), x:totable() })
    end
  end
end

function T.test_batches_restart_after_a_break_and_nest()
  local train = data.batches { nb.arange(4), size = 1 }
  for _ = 1, 3 do
    for b in train do
      lu.assertEquals(b:item(), 1)
      if b then break end
    end
  end
  local pairs_seen = 0
  for _ in train do
    for _ in train do pairs_seen = pairs_seen + 1 end
  end
  lu.assertEquals(pairs_seen, 16)
end

function T.test_last_batch_and_the_seed()
  local sizes = {}
  for b in data.batches { nb.arange(10), size = 4, last = "drop" } do sizes[#sizes + 1] = #b end
  lu.assertEquals(sizes, { 4, 4 })
  lu.assertEquals(#data.batches { nb.arange(10), size = 4, last = "drop" }, 2)
  local orders = {}
  for i = 1, 2 do
    nb.seed(3)
    for b in data.batches { nb.arange(50), size = 50, shuffle = true } do orders[i] = b:totable() end
  end
  lu.assertEquals(orders[1], orders[2])
  local none = 0
  for _ in data.batches { nb.zeros(0, 3) } do none = none + 1 end
  lu.assertEquals(none, 0)
end

function T.test_bad_batches_say_why()
  assert_error({ "batches", "table" }, data.batches, nb.ones(3))
  assert_error({ "batches", "no tensor" }, data.batches, {})
  assert_error({ "entry 2", "2 samples", "3" }, data.batches, { nb.ones(3), nb.ones(2) })
  assert_error({ "entry 1" }, data.batches, { 5 })
  assert_error({ "entry 1" }, data.batches, { nb.tensor(5) })
  assert_error({ "size" }, data.batches, { nb.ones(3), size = 0 })
  assert_error({ "size" }, data.batches, { nb.ones(3), size = 1.5 })
  assert_error({ "shufle", "shuffle" }, data.batches, { nb.ones(3), shufle = true })
  assert_error({ "last", "keep", "drop" }, data.batches, { nb.ones(3), last = "pad" })
end

function T.test_split_parts_without_loss()
  nb.seed(2)
  local x = nb.arange(10)
  local a, b = data.split({ x, x * 10 }, 0.7)
  lu.assertEquals({ #a[1], #b[1] }, { 7, 3 })
  local all = nb.cat({ a[1], b[1] }, 1):sort()
  lu.assertEquals(all:totable(), x:totable())
  lu.assertEquals((a[1] * 10):totable(), a[2]:totable())
  local first, second = data.split({ x }, 0.5, { shuffle = false })
  lu.assertEquals(first[1]:totable(), { 1, 2, 3, 4, 5 })
  lu.assertEquals(second[1]:totable(), { 6, 7, 8, 9, 10 })
  local none, whole = data.split({ x }, 0)
  lu.assertEquals({ #none[1], #whole[1] }, { 0, 10 })
  assert_error({ "fraction" }, data.split, { x }, 1.5)
  assert_error({ "fraction" }, data.split, { x }, 0 / 0)
  assert_error({ "entry 2" }, data.split, { x, nb.ones(3) }, 0.5)
end

function T.test_normalize_by_hand()
  local z, mean, std = data.normalize(nb.tensor { { 1, 5 }, { 2, 5 }, { 3, 5 } })
  lu.assertEquals(z:totable(), { { -1, 0 }, { 0, 0 }, { 1, 0 } })  -- a column that does not vary stays finite
  lu.assertEquals(mean:totable(), { { 2, 5 } })
  lu.assertEquals(std:totable(), { { 1, 1 } })
  assert_error({ "normalize", "tensor" }, data.normalize, { 1, 2 })
end

function T.test_made_sets_have_their_shapes_and_repeat()
  local x, y = data.xor()
  for i = 1, 4 do
    local a, b = x:at(i, 1), x:at(i, 2)
    lu.assertEquals(y:at(i, 1), a ~= b and 1 or 0)
  end
  for name, classes in pairs { moons = 2, circles = 2, spirals = 3, blobs = 3 } do
    nb.seed(4)
    local a, labels = data[name](91)
    nb.seed(4)
    local b = data[name](91)
    lu.assertEquals(a.shape, { 91, 2 })
    lu.assertEquals(labels.shape, { 91 })
    lu.assertEquals(labels.dtype, "i64")
    lu.assertEquals(a:totable(), b:totable())
    local counts = {}
    for _, label in ipairs(labels:totable()) do counts[label] = (counts[label] or 0) + 1 end
    lu.assertEquals(#counts, classes)
    for k = 1, classes do lu.assertAlmostEquals(counts[k], 91 / classes, 1) end
    assert_error({ name, "n" }, data[name], -1)
  end
  -- Where there is no noise the radius tells the circle.
  local p, label = data.circles(40, { noise = 0 })
  local radius = (p * p):sum(2):sqrt()
  for i = 1, 40 do lu.assertAlmostEquals(radius:at(i), label:at(i) == 1 and 1 or 0.5, 1e-6) end
end

function T.test_fashion_mnist_names_the_package()
  assert_error({ "nowhere", "apt install dataset-fashion-mnist" }, data.fashion_mnist, "nowhere")
  local ok, set = pcall(data.fashion_mnist)
  if not ok then lu.skip("the package dataset-fashion-mnist is not installed") end
  lu.assertEquals(set.train.x.shape, { 60000, 28, 28 })
  lu.assertEquals(set.test.x.shape, { 10000, 28, 28 })
  lu.assertEquals({ set.train.x.dtype, set.train.y.dtype }, { "u8", "i64" })
  lu.assertEquals({ set.train.y:min():item(), set.train.y:max():item() }, { 1, 10 })
  lu.assertEquals(#set.classes, 10)
  -- The set's authors give every class 6,000 training images.
  for k = 1, 10 do lu.assertEquals(set.train.y:eq(k):sum():item(), 6000) end
end

function T.test_normalize_makes_every_spread_one()
  local x = nb.randn(50, 3) * nb.tensor { 0.1, 1, 20 } + nb.tensor { 5, -2, 100 }
  local z, mean, std = data.normalize(x)
  for column = 1, 3 do
    local part = z:select(2, column)
    lu.assertAlmostEquals(part:mean():item(), 0, 1e-4)
    lu.assertAlmostEquals(part:std():item(), 1, 1e-4)
  end
  lu.assertTrue((z * std + mean - x):abs():max():item() < 1e-3)
end

function T.test_what_batches_and_sets_cannot_be_made_of_is_named()
  local x, y = nb.ones(10, 2), nb.ones(10)
  assert_error({ "batches", "entry 2", "nil" }, data.batches, { x, nil, y })
  assert_error({ "batches", "one table" }, data.batches, { x, y }, { size = 3 })
  for fraction, which in pairs { [0.01] = "first", [0.999] = "second" } do
    assert_error({ "split", "10 samples", which }, data.split, { x, y }, fraction)
  end
  local none, all = data.split({ x, y }, 0)
  lu.assertEquals({ #none[1], #all[1] }, { 0, 10 })
end

function T.test_normalize_gives_numbers_or_says_why_not()
  for _, bad in ipairs { 0 / 0, 1 / 0, -1 / 0 } do
    assert_error({ "normalize", "element 2, 1" }, data.normalize, nb.tensor { { 1, 2 }, { bad, 3 } })
  end
  assert_error({ "normalize", "samples" }, data.normalize, nb.zeros(0, 2))
  assert_error({ "normalize", "samples" }, data.normalize, nb.tensor(3))
  local s = math.sqrt(0.5)
  for _, size in ipairs { 1e-30, 1, 1e30 } do  -- whose squares f32 does not hold
    numeric.assert_close((data.normalize(nb.tensor { { size }, { -size } })), { s, -s })
  end
  numeric.assert_close((data.normalize(nb.tensor({ { 1e9 }, { 1e9 + 1 } }, { dtype = "f64" }))), { -s, s })
  lu.assertEquals((data.normalize(nb.ones(3, 1))):totable(), { { 0 }, { 0 }, { 0 } })
end

return T
