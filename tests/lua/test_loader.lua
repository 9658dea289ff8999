-- SPDX-License-Identifier: MIT
-- Samplers, the loader, transforms of pictures, and small sets of Debian's packages.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local scratch = require "scratch"
local nn, data, optim = nb.nn, nb.data, nb.optim
local transforms = data.transforms

local T = {}

local assert_error, assert_close = numeric.assert_error, numeric.assert_close

-- ---- samplers ----

local function sorted(t) return t:sort():totable() end

local function up_to(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

function T.test_orders_have_every_sample_once()
  lu.assertEquals(data.sequential_sampler(4)():totable(), { 1, 2, 3, 4 })
  lu.assertEquals(sorted(data.random_sampler(20)()), up_to(20))
  lu.assertEquals(#data.random_sampler(20, { count = 5 })(), 5)
  local drawn = data.random_sampler(3, { replacement = true, count = 50 })()
  lu.assertEquals(#drawn, 50)
  lu.assertTrue(drawn:min():item() >= 1 and drawn:max():item() <= 3)
  local labels = nb.tensor { 1, 1, 1, 1, 1, 1, 2, 2, 2, 7, 7, 7 }
  local s = data.stratified_sampler(labels)
  for _ = 1, 20 do
    local order = s()
    lu.assertEquals(sorted(order), up_to(12))
    -- Every third of the epoch has its third of each class.
    for part = 0, 2 do
      local classes = labels:index_select(1, order:narrow(1, 4 * part + 1, 4))
      lu.assertEquals(classes:eq(1):sum():item(), 2)
      lu.assertEquals(classes:eq(2):sum():item(), 1)
      lu.assertEquals(classes:eq(7):sum():item(), 1)
    end
  end
  assert_error({ "without replacement", "5 of 3" }, data.random_sampler, 3, { count = 5 })
end

function T.test_weights_are_the_shares()
  nb.seed(2)
  local w = nb.tensor { 1, 0, 5, 4, 0 }
  local n = 50000
  local counts = nb.one_hot(data.weighted_sampler(w, { count = n })(), 5):sum(1)
  for k = 1, 5 do
    local share = w:at(k) / 10
    lu.assertTrue(math.abs(counts:at(k) / n - share) <= 5 * math.sqrt(share * (1 - share) / n), tostring(k))
  end
  lu.assertEquals(sorted(data.weighted_sampler(w, { replacement = false, count = 3 })()), { 1, 3, 4 })
  local first = { 0, 0, 0, 0, 0 }
  for _ = 1, 2000 do
    local k = data.weighted_sampler(w, { replacement = false, count = 1 })():at(1)
    first[k] = first[k] + 1
  end
  lu.assertTrue(math.abs(first[3] / 2000 - 0.5) < 0.06 and first[2] == 0)
  assert_error({ "weights must be" }, data.weighted_sampler, nb.tensor { 1, -1 })
  assert_error({ "4 of 3" }, data.weighted_sampler, w, { replacement = false, count = 4 })
end

-- ---- the loader ----

function T.test_a_loader_of_tensors_is_as_batches()
  local x, y = nb.randn(10, 3), nb.arange(10)
  local have, want = {}, {}
  for bx, by in data.loader({ x, y }, { size = 4 }) do have[#have + 1] = { bx, by } end
  for bx, by in data.batches { x, y, size = 4 } do want[#want + 1] = { bx, by } end
  lu.assertEquals(#have, #want)
  for k, pair in ipairs(want) do
    assert_close(have[k][1], pair[1], 0)
    assert_close(have[k][2], pair[2], 0)
  end
  lu.assertEquals(#data.loader({ x, y }, { size = 4, last = "drop" }), 2)
  local seen = {}
  for _, by in data.loader({ x, y }, { size = 3, shuffle = true }) do
    for _, v in ipairs(by:totable()) do seen[#seen + 1] = v end
  end
  table.sort(seen)
  lu.assertEquals(seen, y:totable())
  -- Two loops at once, one within the other.
  local loader, n = data.loader({ y }, { size = 5 }), 0
  for _ in loader do
    for _ in loader do n = n + 1 end
  end
  lu.assertEquals(n, 4)
end

function T.test_a_loader_of_objects_and_functions()
  local squares = data.loader(function(i) return nb.tensor { i, 0 }, i * i, i / 2 end, { n = 5, size = 2 })
  local list = {}
  for bx, by, bz in squares do list[#list + 1] = { bx.shape, by:totable(), by.dtype, bz:totable() } end
  lu.assertEquals(list[1], { { 2, 2 }, { 1, 4 }, "i64", { 0.5, 1 } })
  lu.assertEquals(list[3], { { 1, 2 }, { 25 }, "i64", { 2.5 } })
  local object = setmetatable({}, { __len = function() return 3 end,
    __index = function(_, i) return nb.full({ 2 }, i) end })
  local sum = 0
  for b in data.loader(object, { size = 2 }) do sum = sum + b:sum():item() end
  lu.assertEquals(sum, 12)
  local padded = data.loader(function(i) return nb.ones(i) end, { n = 3, size = 3, collate = function(samples)
    local parts = {}
    for k, s in ipairs(samples) do parts[k] = s[1] end
    return nn.pad_sequence(parts, true)
  end })
  for b in padded do lu.assertEquals(b.shape, { 3, 3 }) end
  assert_error({ "n=" }, data.loader, function() end)
  assert_error({ "# and [i]" }, data.loader, 3)
  assert_error({ "entry 2 has 3 samples" }, data.loader, { nb.ones(2), nb.ones(3) })
  assert_error({ "shuffle" }, data.loader, { nb.ones(2) }, { shuffle = true, sampler = data.random_sampler(2) })
  assert_error({ "entry 1 of a sample" }, function()
    data.loader(function() return "a" end, { n = 1 })()
  end)
end

function T.test_fit_takes_a_loader()
  nb.seed(3)
  local x = nb.randn(40, 1, 4, 4)
  local y = x:mean { 2, 3, 4 }:gt(0):to("i64") + 1
  local net = nn.Sequential { nn.Flatten(), nn.Linear(16, 2) }
  local history = nn.fit(net, nn.CrossEntropyLoss(), optim.Adam(net:parameters(), { lr = 0.05 }),
    data.loader({ x, y }, { size = 8, sampler = data.stratified_sampler(y),
      transform = transforms.RandomHorizontalFlip() }), { epochs = 15, progress = false })
  lu.assertTrue(history.loss[15] < history.loss[1] / 2)
end

-- ---- threads beside the step ----

local AUGMENT = transforms.Compose { transforms.RandomCrop(8, { padding = 2 }), transforms.RandomHorizontalFlip(),
  transforms.ToFloat(), transforms.RandomRotation(10), transforms.ColorJitter { brightness = 0.2, contrast = 0.2 },
  transforms.RandomErasing(), transforms.Normalize(0.5, { 0.2, 0.3, 0.4 }) }

-- All batches of two epochs, with draws of the step's own in between.
local function two_epochs(source, o)
  nb.seed(7)
  local loader, all = data.loader(source, o), {}
  for _ = 1, 2 do
    for bx, by in loader do
      all[#all + 1] = bx:to("f64"):flatten()
      all[#all + 1] = by:to("f64"):flatten()
      nb.rand(3)
    end
  end
  all[#all + 1] = nb.rand(4, { dtype = "f64" })
  return nb.cat(all, 1)
end

function T.test_the_same_batches_at_any_number_of_threads()
  nb.seed(1)
  local x = (nb.rand(53, 3, 9, 8) * 255):to("u8")
  local y = nb.arange(53, { dtype = "i64" })
  local files = scratch.new()
  nb.save(files:path "x.npy", x)
  local from_file = data.open(files:path "x.npy")
  for _, source in ipairs { { x, y }, { from_file, y } } do
    local first
    for _, o in ipairs { { workers = 0 }, { workers = 1 }, { workers = 1, prefetch = 7 }, { workers = 4 } } do
      o.size, o.shuffle, o.transform = 8, true, AUGMENT
      local have = two_epochs(source, o)
      first = first or have
      assert_close(have, first, 0)
    end
  end
  assert_close(two_epochs({ x, y }, { size = 8, transform = AUGMENT }),
    two_epochs({ from_file, y }, { size = 8, transform = AUGMENT, workers = 3 }), 0)
  -- The pictures of an epoch are all drawn anew.
  nb.seed(3)
  local same = data.loader({ x:narrow(1, 1, 1):expand(6, 3, 9, 8):contiguous() }, { size = 6, transform = AUGMENT })
  local a, b = same(), same()
  lu.assertTrue((a - b):abs():max():item() > 0.1 and (a[1] - a[2]):abs():max():item() > 0.1)
  files:remove()
end

-- A batch holds what its tensors hold when it is used, though threads have made it before.
function T.test_what_is_written_meanwhile_is_read_again()
  local x, y = nb.zeros({ 12, 1, 2, 2 }, { dtype = "u8" }), nb.zeros(12)
  local seen = {}
  for bx, by in data.loader({ x, y }, { size = 3, prefetch = 4, transform = transforms.ToFloat() }) do
    seen[#seen + 1] = { bx:max():item(), by:max():item() }
    x:add_(51)
    y:add_(1)
  end
  for k, pair in ipairs(seen) do
    lu.assertAlmostEquals(pair[1], (k - 1) / 5, 1e-6)
    lu.assertEquals(pair[2], k - 1)
  end
end

function T.test_transforms_and_functions_in_their_order()
  local order = {}
  local function note(name, f)
    return function(t)
      order[#order + 1] = name
      return f(t)
    end
  end
  local t = transforms.Compose { transforms.ToFloat(), note("a", function(v) return v + 1 end),
    transforms.Normalize(1, 2), note("b", function(v) return -v end) }
  local x = nb.full({ 2, 1, 2, 2 }, 51, { dtype = "u8" })
  for bx in data.loader({ x }, { size = 2, transform = t }) do assert_close(bx, nb.full({ 2, 1, 2, 2 }, -0.1), 1e-6) end
  assert_close(t(x), nb.full({ 2, 1, 2, 2 }, -0.1), 1e-6)
  lu.assertEquals(order, { "a", "b", "a", "b" })
  -- Left early, and one within another.
  local loader, n = data.loader({ nb.rand(20, 4, 4) }, { size = 4, transform = transforms.RandomVerticalFlip() }), 0
  for _ in loader do
    for _ in loader do
      n = n + 1
      if n % 2 == 0 then break end
    end
  end
  lu.assertEquals(n, 10)
  collectgarbage()
end

-- Sizes of pictures by two ways: products of matrices, and sums in C.
function T.test_resizing_pictures_is_data_resize()
  nb.seed(2)
  for _, sizes in ipairs { { 3, 4 }, { 9, 11 }, { 5, 7 }, { 1, 1 }, { 20, 2 } } do
    local x = nb.rand({ 3, 2, 5, 7 }, { dtype = "f64" })
    assert_close(transforms.Resize(sizes)(x), data.resize(x, sizes[1], sizes[2]), 1e-6)
    local bytes = (x * 255):to("u8")
    local off = transforms.Resize(sizes)(bytes):to("f32") - data.resize(bytes, sizes[1], sizes[2]):to("f32")
    lu.assertTrue(off:abs():max():item() <= 1)  -- halves may go either way
  end
end

function T.test_what_threads_cannot_do_is_a_sentence()
  local files = scratch.new()
  local x = nb.zeros({ 40, 3, 4 }, { dtype = "u8" })
  nb.save(files:path "x.npy", x)
  local open = data.open(files:path "x.npy")
  nb.save(files:path "short.npy", x)
  local short = data.open(files:path "short.npy")
  local whole = assert(io.open(files:path "short.npy", "rb")):read "a"
  local cut <close> = assert(io.open(files:path "short.npy", "wb"))
  cut:write(whole:sub(1, 300))
  cut:flush()
  assert_error({ "has become shorter" }, function()
    for b in data.loader({ short }, { size = 8 }) do lu.assertEquals(#b, 8) end
  end)
  assert_error({ "smaller than 6×6" }, function()
    for _ in data.loader({ x }, { transform = transforms.RandomCrop(6) }) do error "no" end
  end)
  assert_error({ "there is no sample 41" }, function()
    local order = setmetatable({}, { __len = function() return 1 end, __call = function() return nb.tensor { 41 } end })
    for _ in data.loader({ x }, { sampler = order, transform = transforms.ToFloat() }) do error "no" end
  end)
  assert_error({ "workers must be at most 64" }, data.loader, { x }, { workers = 65 })
  assert_error({ "prefetch" }, data.loader, { x }, { prefetch = 0 })
  assert_error({ "value 0.5 does not fit" }, transforms.RandomErasing(1, { value = 0.5 }), x)
  lu.assertEquals(#open, 40)
  files:remove()
end

-- ---- transforms ----

-- The same seed, the same pictures; another one, others.
function T.test_one_stream_of_chance()
  local x = nb.rand(6, 3, 8, 8)
  local t = transforms.Compose { transforms.RandomCrop(6, { padding = 1 }), transforms.RandomRotation(20),
    transforms.RandomHorizontalFlip(), transforms.ColorJitter { brightness = 0.3, contrast = 0.3, saturation = 0.3 },
    transforms.RandomErasing(), transforms.Normalize(0.5, { 0.1, 0.2, 0.3 }) }
  local function at(seed)
    nb.seed(seed)
    return t(x)
  end
  local first = at(1)
  assert_close(at(1), first, 0)
  lu.assertTrue((at(2) - first):abs():max():item() > 0.1)
  lu.assertEquals(first.shape, { 6, 3, 6, 6 })
end

function T.test_crops_and_flips_are_parts_of_the_picture()
  nb.seed(4)
  local n = 200
  local x = nb.arange(n * 20):view(n, 4, 5):to("f32")
  local y = transforms.RandomCrop { 2, 3 }(x)
  local corners = {}
  for i = 1, n do
    local a = y:at(i, 1, 1)
    local row, column = (a - 1) % 20 // 5 + 1, (a - 1) % 5 + 1
    corners[row * 10 + column] = true
    assert_close(y[i], x[i][{ { row, row + 1 }, { column, column + 2 } }], 0)
  end
  local count = 0
  for _ in pairs(corners) do count = count + 1 end
  lu.assertEquals(count, 9)  -- 3·3 places, all of them drawn
  assert_close(transforms.CenterCrop(2)(x)[1], x[1][{ { 2, 3 }, { 2, 3 } }], 0)
  local flipped = transforms.RandomHorizontalFlip()(x)
  local share = 0
  for i = 1, n do
    local same = (flipped[i] - x[i]):abs():max():item() == 0
    if not same then assert_close(flipped[i], x[i]:flip(2), 0) end
    share = share + (same and 0 or 1 / n)
  end
  lu.assertTrue(math.abs(share - 0.5) < 0.18)
  assert_close(transforms.RandomVerticalFlip(1)(x), x:flip(2), 0)
  assert_error({ "4×5", "smaller than 6×6" }, transforms.RandomCrop(6), x)
  assert_error({ "batch × height × width" }, transforms.RandomCrop(2), nb.ones(3))
end

-- A turn by exactly 90 degrees is a permutation of pixels; small ones keep the middle, and all is between 0 and 1.
function T.test_rotation_by_hand()
  nb.seed(5)
  local x = nb.zeros(1, 5, 5)
  x[1][2][3] = 1  -- above the middle
  local quarter = { left = 0, right = 0 }
  for _ = 1, 300 do
    local y = transforms.RandomRotation(180)(x)
    lu.assertTrue(y:min():item() >= 0 and y:max():item() <= 1 + 1e-6)
    lu.assertTrue(y:sum():item() < 1.6 and y:sum():item() > 0.6)  -- bilinear weights of one pixel, seen from new ones
    if y:at(1, 3, 2) > 0.9 then quarter.left = quarter.left + 1 end
    if y:at(1, 3, 4) > 0.9 then quarter.right = quarter.right + 1 end
  end
  lu.assertTrue(quarter.left > 0 and quarter.right > 0)
  local centre = nb.zeros(3, 5, 5)
  centre[{ nb.ALL, 3, 3 }] = 1
  assert_close(transforms.RandomRotation(180)(centre)[{ nb.ALL, 3, 3 }], nb.ones(3), 1e-6)
  local bytes = (nb.rand(2, 3, 6, 6) * 255):to("u8")
  lu.assertEquals(transforms.RandomAffine(10, { translate = 0.1, scale = { 0.8, 1.2 } })(bytes).dtype, "u8")
  assert_close(transforms.RandomAffine(0)(bytes):to("f32"), bytes:to("f32"), 0)
  -- Twice as large: the middle pixels stand for their surroundings.
  local big = transforms.RandomAffine(0, { scale = { 2, 2 } })(centre)
  assert_close(big[1], nb.tensor { { 0, 0, 0, 0, 0 }, { 0, 0.25, 0.5, 0.25, 0 }, { 0, 0.5, 1, 0.5, 0 },
    { 0, 0.25, 0.5, 0.25, 0 }, { 0, 0, 0, 0, 0 } }, 1e-5)
end

function T.test_colours_and_numbers()
  nb.seed(6)
  local x = nb.full({ 400, 3, 2, 2 }, 0.5)
  local bright = transforms.ColorJitter { brightness = 0.2 }(x)
  lu.assertTrue(bright:min():item() >= 0.4 - 1e-6 and bright:max():item() <= 0.6 + 1e-6)
  assert_close(bright:std({ 2, 3, 4 }), nb.zeros(400), 1e-5)  -- one factor a picture
  assert_close(transforms.ColorJitter { contrast = 0.5, saturation = 0.5 }(x), x, 1e-6)  -- plain grey stays
  assert_close(transforms.Normalize({ 0.5, 0, 1 }, { 1, 2, 0.5 })(x)[1]:mean { 2, 3 }, { 0, 0.25, -1 })
  local erased = transforms.RandomErasing(1, { scale = { 0.25, 0.25 }, value = 9 })(nb.zeros(50, 16, 16))
  local share = erased:eq(9):to("f32"):mean { 2, 3 }
  lu.assertTrue(share:min():item() > 0.1 and share:max():item() < 0.35)
  assert_error({ "ToFloat" }, transforms.Normalize(0, 1), nb.zeros({ 1, 2, 2 }, { dtype = "u8" }))
  assert_error({ "std", "above 0" }, transforms.Normalize, 0, 0)
  assert_error({ "one for each of 3 channels, got 2" }, transforms.Normalize({ 1, 2 }, 1), x)
  assert_error({ "entry 2 must be a transform" }, transforms.Compose, { transforms.ToFloat(), 3 })
  assert_error({ "scale must be two shares" }, transforms.RandomErasing, 1, { scale = { 0.5, 0.2 } })
end

-- ---- sets ----

function T.test_sets_join_and_read()
  local a, b = { nb.ones(2, 3), nb.zeros(2) }, { nb.zeros(4, 3), nb.ones(4) }
  local both = data.concat { a, b }
  lu.assertEquals(both[1].shape, { 6, 3 })
  assert_close(both[2], { 0, 0, 1, 1, 1, 1 })
  assert_error({ "set 2 must have 2 tensors" }, data.concat, { a, { nb.ones(1) } })
  -- Files as scikit-learn writes them.
  local files = scratch.new()
  local folder = files:path "sets"
  os.execute("mkdir -p '" .. folder .. "'")
  local function write(name, text)
    local f = assert(io.open(folder .. "/" .. name, "w"))
    f:write(text)
    f:close()
  end
  write("iris.csv", "3,4,setosa,versicolor,virginica\n5.1,3.5,1.4,0.2,0\n7,3.2,4.7,1.4,1\n6.3,3.3,6,2.5,2\n")
  local iris = data.iris(folder)
  assert_close(iris.x[2], { 7, 3.2, 4.7, 1.4 })
  lu.assertEquals(iris.y:totable(), { 1, 2, 3 })
  lu.assertEquals(iris.classes[3], "virginica")
  local pixels = {}
  for i = 1, 64 do pixels[i] = i % 17 end
  write("digits.csv.gz", table.concat(pixels, ",") .. ",7\n" .. table.concat(pixels, ",") .. ",0\n")
  local digits = data.digits(folder)
  lu.assertEquals(digits.x.shape, { 2, 8, 8 })
  lu.assertEquals(digits.y:totable(), { 8, 1 })
  lu.assertEquals(digits.classes[8], "7")
  assert_error({ "wine_data.csv is not there", "apt install python3-sklearn" }, data.wine, folder)
  files:remove()
end

-- Every step, and all of them after one another, on pictures in f64 beside the same in f32.
function T.test_pictures_in_f64_are_those_in_f32()
  local steps = { transforms.RandomCrop(6, { padding = 2 }), transforms.RandomHorizontalFlip(),
    transforms.RandomVerticalFlip(), transforms.RandomAffine(30, { translate = 0.2, scale = { 0.7, 1.3 } }),
    transforms.ColorJitter { brightness = 0.3, contrast = 0.3, saturation = 0.3 }, transforms.RandomErasing(1),
    transforms.Normalize({ 0.1, 0.2, 0.3 }, { 0.5, 1, 2 }) }
  steps[#steps + 1] = transforms.Compose { table.unpack(steps) }
  local x = nb.rand(6, 3, 8, 8)
  for k, step in ipairs(steps) do
    nb.seed(k)
    local want = step(x)
    nb.seed(k)
    local have = step(x:to "f64")
    lu.assertEquals(have.dtype, "f64")
    assert_close(have:to "f32", want, 1e-4)
    lu.assertTrue(want.shape[3] ~= 8 or (want - x):abs():max():item() > 0, k)
  end
end

return T
