-- SPDX-License-Identifier: MIT
-- Pictures: PNG files put together here chunk by chunk, a JPEG of one colour, folders of them, and broken ones.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local scratch = require "scratch"
local data = nb.data

local T = {}

local assert_error = numeric.assert_error
local files

function T.setUp() files = scratch.new() end
function T.tearDown() files:remove() end

-- ---- a PNG writer (RFC 2083, with zlib's stored blocks) ----

local function chunk(kind, bytes)
  return string.pack(">I4", #bytes) .. kind .. bytes .. string.pack(">I4", scratch.crc32(kind .. bytes))
end

local function stored(bytes)
  local a, b = 1, 0
  for i = 1, #bytes do
    a = (a + bytes:byte(i)) % 65521
    b = (b + a) % 65521
  end
  return "\x78\x01\x01" .. string.pack("<I2I2", #bytes, ~#bytes & 0xffff) .. bytes .. string.pack(">I2I2", b, a)
end

local SIGNATURE = "\x89PNG\r\n\x1a\n"

-- `rows`: strings of a row's bytes; kind 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha.
local function png(width, rows, kind, depth, extra)
  local header = string.pack(">I4I4BBBBB", width, #rows, depth or 8, kind, 0, 0, 0)
  return SIGNATURE .. chunk("IHDR", header) .. (extra or "") ..
    chunk("IDAT", stored("\0" .. table.concat(rows, "\0"))) .. chunk("IEND", "")
end

local function image(bytes, options)
  return data.image(files:write("t.png", bytes), options)
end

-- 9×5 pixels of grey 200.
local JPEG = ("ffd8ffe000104a46494600010100000100010000ffdb0043000302020302020303030304030304050805050404050a070706" ..
  "080c0a0c0c0b0a0b0b0d0e12100d0e110e0b0b1016101113141515150c0f171816141812141514ffc0000b080005000901011100ffc400" ..
  "1500010100000000000000000000000000000008ffc40014100100000000000000000000000000000000ffda0008010100003f00b007ffd9")
  :gsub("..", function(two) return string.char(tonumber(two, 16)) end)

-- 2×2 pixels of four inks, of which 200, 100, 50 and 128 of 255 let light through.
local INKS = ("ffd8ffee000e41646f626500640000000000ffdb004300020101010101020101010202020202040302020202050404030406" ..
  "0506060605060606070908060709070606080b08090a0a0a0a0a06080b0c0b0a0c090a0a0affc00014080002000204431100" ..
  "4d11005911004b1100ffc400160001010100000000000000000000000000090007ffc4001410010000000000000000000000" ..
  "0000000000ffda000e0443004d0059004b00003f00481878c74fffd9")
  :gsub("..", function(two) return string.char(tonumber(two, 16)) end)

-- ---- tests ----

function T.test_kinds_of_png()
  lu.assertEquals(image(png(3, { "\1\2\3", "\4\5\6" }, 0)):totable(), { { { 1, 2, 3 }, { 4, 5, 6 } } })
  local t = image(png(2, { "\1\2\3\4\5\6" }, 2))
  lu.assertEquals({ t.dtype, t:totable() }, { "u8", { { { 1, 4 } }, { { 2, 5 } }, { { 3, 6 } } } })
  lu.assertEquals(image(png(1, { "\7\8" }, 4)):totable(), { { { 7 } }, { { 8 } } })
  lu.assertEquals(image(png(1, { "\1\2\3\4" }, 6)):totable(), { { { 1 } }, { { 2 } }, { { 3 } }, { { 4 } } })
  local palette = chunk("PLTE", "\10\20\30\40\50\60")
  lu.assertEquals(image(png(2, { "\0\1" }, 3, 8, palette)):totable(),
    { { { 10, 40 } }, { { 20, 50 } }, { { 30, 60 } } })
  lu.assertEquals(image(png(2, { "\0\1" }, 3, 8, palette .. chunk("tRNS", "\9"))):totable()[4], { { 9, 255 } })
  lu.assertEquals(image(png(4, { "\xa0" }, 0, 1)):totable(), { { { 255, 0, 255, 0 } } })
  lu.assertEquals(image(png(1, { "\xff\xff" }, 0, 16)):totable(), { { { 255 } } })
end

function T.test_channels_asked_for()
  local rgb, grey = png(1, { "\200\100\50" }, 2), png(1, { "\7" }, 0)
  lu.assertEquals(image(rgb, { channels = 1 }):item(), math.floor(0.299 * 200 + 0.587 * 100 + 0.114 * 50 + 0.5))
  lu.assertEquals(image(grey, { channels = 3 }):totable(), { { { 7 } }, { { 7 } }, { { 7 } } })
  lu.assertEquals(image(grey, { channels = 4 }):totable()[4], { { 255 } })
  lu.assertEquals(image(png(1, { "\1\2\3\4" }, 6), { channels = 3 }).shape, { 3, 1, 1 })
  assert_error({ "channels", "5" }, image, grey, { channels = 5 })
end

function T.test_jpeg_of_one_grey()
  local t = data.image(files:write("t.jpg", JPEG))
  lu.assertEquals(t.shape, { 1, 5, 9 })
  lu.assertTrue(((t:to("f32") - 200):abs():max():item()) <= 1)
  lu.assertEquals(nb.load(files:path("t.jpg")):totable(), t:totable())
  -- What a file is shows in its first bytes, not in its name.
  lu.assertEquals(data.image(files:write("t.png", JPEG), { channels = 3 }).shape, { 3, 5, 9 })
end

function T.test_jpeg_of_four_inks()
  local t = data.image(files:write("t.jpg", INKS))
  lu.assertEquals(t.shape, { 3, 2, 2 })
  for c, ink in ipairs { 200, 100, 50 } do
    lu.assertTrue((t[c]:to("f32") - ink * 128 / 255):abs():max():item() <= 2)
  end
end

function T.test_broken_pictures()
  local good = png(2, { "\1\2", "\3\4" }, 0)
  local function header(w, h) return SIGNATURE .. chunk("IHDR", string.pack(">I4I4BBBBB", w, h, 8, 0, 0, 0, 0)) end
  for name, case in pairs {
    empty = { "", "neither" }, ["a text"] = { "hello", "neither" }, ["only a beginning"] = { SIGNATURE, "too early" },
    ["a wrong checksum"] = { good:sub(1, 29) .. "\0\0\0\0" .. good:sub(34), "damaged" },
    ["a picture that is too large"] = { header(60000, 60000) .. chunk("IDAT", "\x78\x01") .. chunk("IEND", ""),
      "60000×60000" },
    ["no width"] = { header(0, 5), "damaged" }, ["a million squared"] = { header(2000000, 2000000), "damaged" },
    ["a JPEG cut short"] = { JPEG:sub(1, -6), "damaged" },
    ["a JPEG of zeros"] = { "\xff\xd8\xff" .. ("\0"):rep(50), "damaged" },
    ["a large JPEG"] = { (JPEG:gsub("\0\5\0\9\1", "\xff\xdc\xff\xdc\1")), "65500×65500" },
  } do
    local ok, message = pcall(assert_error, { "t.png", case[2] }, image, case[1])
    if not ok then lu.fail(("%s: %s"):format(name, type(message) == "table" and message.msg or message)) end
  end
  assert_error({ "nowhere.png" }, data.image, files:path("nowhere.png"))
  for _, bytes in ipairs { good, JPEG } do
    for i = 1, #bytes do
      for _, new in ipairs { bytes:sub(1, i - 1), bytes:sub(1, i - 1) .. "\xff" .. bytes:sub(i + 1),
        bytes:sub(1, i - 1) .. "\0" .. bytes:sub(i + 1) } do
        local ok, result = pcall(image, new)
        if not ok then lu.assertStrContains(result, "t.png") end
      end
    end
  end
end

function T.test_a_folder_of_classes()
  for _, name in ipairs { "cat", "dog" } do assert(os.execute("mkdir " .. files:path(name))) end
  files:write("cat/b.png", png(2, { "\1\2" }, 0))
  files:write("cat/a.PNG", png(2, { "\3\4" }, 0))
  files:write("dog/c.jpeg", png(2, { "\5\6" }, 0))
  files:write("dog/notes.txt", "no picture")
  local set = data.images(files.folder)
  lu.assertEquals({ set.x.dtype, set.x:totable(), set.y:totable(), set.classes },
    { "u8", { { { { 3, 4 } } }, { { { 1, 2 } } }, { { { 5, 6 } } } }, { 1, 1, 2 }, { "cat", "dog" } })
  lu.assertEquals(set.paths[3], files:path("dog/c.jpeg"))
  local flat = data.images(files:path("cat"))
  lu.assertEquals({ flat.x.shape, flat.y, flat.classes }, { { 2, 1, 1, 2 } })
  lu.assertEquals(data.images({ set.paths[3] }, { size = { 2, 4 }, channels = 3 }).x.shape, { 1, 3, 2, 4 })
  files:write("dog/d.png", png(3, { "\1\2\3" }, 0))
  assert_error({ "d.png", "1×1×3", "1×1×2", "size=" }, data.images, files.folder)
  lu.assertEquals(data.images(files.folder, { size = { 1, 2 } }).x.shape, { 4, 1, 1, 2 })
  assert(os.execute("mkdir " .. files:path("none")))
  assert_error({ "none", "no PNG" }, data.images, files:path("none"))
  assert_error({ "nowhere" }, data.images, files:path("nowhere"))
end

-- ---- pictures that stay in their files ----

-- A folder of `count` pictures in two classes, every third a JPEG; the sizes differ from the third on.
local function write_set(count)
  for _, name in ipairs { "cat", "dog" } do assert(os.execute("mkdir " .. files:path(name))) end
  for i = 1, count do
    local w, h = i > 2 and 6 + i % 5 or 7, i > 2 and 5 + i % 3 or 6
    local lines = {}
    for y = 1, h do
      local bytes = {}
      for k = 1, 3 * w do bytes[k] = string.char((37 * i + 11 * k * y) % 256) end
      lines[y] = table.concat(bytes)
    end
    local name = ("%s/%03d.png"):format(i % 2 == 0 and "cat" or "dog", i)
    files:write(name, i % 3 == 0 and JPEG or png(w, lines, 2))
  end
  return data.image_folder(files.folder, { size = { 6, 7 }, channels = 3 })
end

function T.test_a_folder_that_stays_on_the_disk()
  local set = write_set(20)
  local whole = data.images(files.folder, { size = { 6, 7 }, channels = 3 })
  lu.assertEquals({ #set, set.shape, set.dtype, set.classes }, { 20, { 20, 3, 6, 7 }, "u8", { "cat", "dog" } })
  lu.assertEquals({ set.y:totable(), set.paths }, { whole.y:totable(), whole.paths })
  local x = set[{ { 1, -1 } }]
  local off = (x:to("f32") - whole.x:to("f32")):abs()
  lu.assertTrue(off:max():item() <= 1)  -- halves of what is made another size may go either way
  lu.assertEquals(set[2]:totable(), x[2]:totable())
  lu.assertEquals(set:rows(nb.tensor { 9, 2 }):totable(), { x[9]:totable(), x[2]:totable() })
  -- What is not given is as the first picture has it.
  local own = data.image_folder { set.paths[1], set.paths[1] }
  lu.assertEquals(own[1]:totable(), data.image(set.paths[1]):totable())
  lu.assertEquals(tostring(own):match ": (.*)", "u8 of shape 2×3×6×7, read row by row")
end

function T.test_pictures_of_a_loader_at_any_number_of_threads()
  local set = write_set(41)
  local transform = data.transforms.Compose { data.transforms.RandomCrop(5, { padding = 1 }),
    data.transforms.RandomHorizontalFlip(), data.transforms.ToFloat() }
  local first
  for _, o in ipairs { { workers = 0 }, { workers = 1 }, { workers = 4, prefetch = 5 } } do
    o.size, o.shuffle, o.transform = 6, true, transform
    nb.seed(5)
    local all = {}
    for _ = 1, 2 do
      for bx, by in data.loader({ set, set.y }, o) do all[#all + 1] = nb.cat({ bx:flatten(), by:to "f32" }, 1) end
    end
    local have = nb.cat(all, 1)
    first = first or have
    lu.assertTrue(have:eq(first):all():item())
  end
end

function T.test_bad_pictures_in_a_loader_are_a_sentence()
  local set = write_set(12)
  local function epoch(given, workers)
    for bx in data.loader({ given }, { size = 4, workers = workers }) do lu.assertEquals(#bx, 4) end
  end
  for workers = 0, 3 do epoch(set, workers) end
  local path = set.paths[10]
  local good = png(2, { "\1\2", "\3\4" }, 0)
  for name, case in pairs {
    text = { "no picture", "neither a PNG nor a JPEG" }, cut = { good:sub(1, -20), "damaged" },
    empty = { "", "neither" }, jpeg = { JPEG:sub(1, -6), "damaged" },
    large = { (JPEG:gsub("\0\5\0\9\1", "\xff\xdc\xff\xdc\1")), "65500×65500" },
  } do
    files:write(path:sub(#files.folder + 2), case[1])
    for workers = 0, 3, 3 do
      local ok, message = pcall(epoch, set, workers)
      lu.assertFalse(ok, name)
      lu.assertStrContains(message, path)
      lu.assertStrContains(message, case[2])
      lu.assertNil(message:find "\n")
    end
  end
  os.remove(path)
  assert_error({ path, "No such file" }, epoch, set, 2)
  local alike = data.image_folder(set.paths)
  assert_error({ set.paths[2], "channels × height × width", "the first picture is 3×6×7", "size=" }, epoch, alike, 1)
  assert_error({ "image_folder", "strings" }, data.image_folder, {})
  assert_error({ "no row 13", "1 to 12" }, set.rows, set, nb.tensor { 13 })
  assert_error({ "nowhere" }, data.image_folder, files:path "nowhere")
end

-- What a thread holds to decode a picture counts against the limit, and is given back.
function T.test_memory_of_threads_that_decode()
  local bytes = ("\0"):rep(3 * 3000)
  local lines = {}
  for y = 1, 1000 do lines[y] = bytes end
  -- Stored blocks hold at most 65,535 bytes each, so that this picture is several chunks of zlib's.
  local raw, parts = "\0" .. table.concat(lines, "\0"), { "\x78\x01" }
  for at = 1, #raw, 60000 do
    local piece = raw:sub(at, at + 59999)
    parts[#parts + 1] = string.pack("<BI2I2", at + 60000 > #raw and 1 or 0, #piece, ~#piece & 0xffff) .. piece
  end
  parts[#parts + 1] = string.pack(">I2I2", #raw % 65521, 1)  -- Adler's sum of so many zeros
  local path = files:write("large.png", SIGNATURE ..
    chunk("IHDR", string.pack(">I4I4BBBBB", 3000, 1000, 8, 2, 0, 0, 0)) .. chunk("IDAT", table.concat(parts)) ..
    chunk("IEND", ""))
  local set = data.image_folder({ path, path }, { size = { 8, 8 }, channels = 3 })
  collectgarbage()
  local before = nb.memory().live
  lu.assertEquals(set[2]:sum():item(), 0)
  collectgarbage()
  lu.assertEquals(nb.memory().live, before)
end

function T.test_resize()
  -- Halving averages with the triangle's weights: 3/8 3/8 1/8 at the edge (normalised by 7/8), 1/8 3/8 3/8 1/8 inside.
  local x = nb.tensor { { 0, 8, 16, 24, 32, 40 } }
  local y = data.resize(x, 1, 3):totable()[1]
  lu.assertAlmostEquals(y[1], (3 * 0 + 3 * 8 + 16) / 7, 1e-5)
  lu.assertAlmostEquals(y[2], (8 + 3 * 16 + 3 * 24 + 32) / 8, 1e-5)
  -- Doubling is linear between the centres.
  lu.assertEquals(data.resize(nb.tensor { { 0, 4 } }, 1, 4):totable(), { { 0, 1, 3, 4 } })
  local grey = data.resize(nb.full({ 2, 3, 7, 5 }, 9, { dtype = "u8" }), 3, 11)
  lu.assertEquals({ grey.dtype, grey.shape, grey:eq(9):all():item() }, { "u8", { 2, 3, 3, 11 }, true })
  assert_error({ "resize", "height" }, data.resize, nb.ones(4), 2, 2)
  assert_error({ "resize", "empty" }, data.resize, nb.ones(0, 4), 2, 2)
end

return T
