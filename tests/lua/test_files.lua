-- SPDX-License-Identifier: MIT
-- Files of tensors: round trips, files built byte by byte, and every kind of broken file.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local scratch = require "scratch"

local T = {}

local assert_error = numeric.assert_error

local files

function T.setUp() files = scratch.new() end
function T.tearDown() files:remove() end

local function path(name) return files:path(name) end
local function write(name, bytes) return files:write(name, bytes) end
local function read(name) return files:read(name) end
local function names() return files:names() end

local function safetensors(header, data)
  return string.pack("<I8", #header) .. header .. (data or "")
end

local function same(a, b)
  lu.assertEquals(a.dtype, b.dtype)
  lu.assertEquals(a.shape, b.shape)
  lu.assertEquals(numeric.flat(a), numeric.flat(b))
end

local function samples()
  return {
    f32 = nb.tensor { { 1.5, -0.0, 1 / 0 }, { 1e-40, 3e38, -1 / 0 } },
    f64 = nb.tensor({ 0.1, 1e300, 5e-324 }, { dtype = "f64" }),
    i64 = nb.tensor({ { math.mininteger }, { math.maxinteger } }, { dtype = "i64" }),
    u8 = nb.tensor({ 0, 128, 255 }, { dtype = "u8" }),
    bool = nb.tensor { true, false, true },
    scalar = nb.tensor(7.25),
    empty = nb.zeros(3, 0, 2),
    strided = nb.arange(6):reshape(2, 3).T,
    part = nb.arange(10)[{ { 2, 9, 3 } }],
  }
end

function T.test_all_dtypes_and_layouts_come_back()
  local state = samples()
  nb.save(path("a.safetensors"), state)
  local back = nb.load(path("a.safetensors"))
  for name, t in pairs(state) do
    same(back[name], t)
    nb.save(path("a.npy"), t)
    same(nb.load(path("a.npy")), t)
    nb.save(path("one.safetensors"), t)
    same(nb.load(path("one.safetensors")), t)
  end
  for _, compress in ipairs { false, true } do
    nb.save(path("a.npz"), state, { compress = compress })
    back = nb.load(path("a.npz"))
    for name, t in pairs(state) do same(back[name], t) end
  end
  lu.assertEquals(#names(), 4)
end

function T.test_tables_of_a_state_come_back_as_they_were()
  local state = { step = 7, lr = 0.1, name = "ä/%.b", on = true, nothing = {}, big = math.huge,
    ["a.b"] = nb.ones(2), a = { c = nb.zeros(1), [1] = nb.ones(1), ["2"] = nb.zeros(2) }, list = { 1, 2.0, "3" } }
  nb.save(path("s.safetensors"), state)
  local back = nb.load(path("s.safetensors"))
  same(back["a.b"], state["a.b"])
  same(back.a.c, state.a.c)
  same(back.a[1], state.a[1])
  same(back.a["2"], state.a["2"])
  for _, t in ipairs { state, back } do t["a.b"], t.a = nil, nil end
  lu.assertEquals(back, state)
  lu.assertEquals(math.type(back.step), "integer")
  lu.assertEquals(math.type(back.list[2]), "float")
end

function T.test_bytes_are_the_formats()
  -- Written by hand as other programs write them, dtypes of theirs included.
  local header = '{"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},' ..
    '"h":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[12,14]},' ..
    '"i":{"dtype":"I32","shape":[],"data_offsets":[14,18]},"__metadata__":{"format":"pt"}}   '
  local t = nb.load(write("x.safetensors", safetensors(header,
    string.pack("<ffI2I2I2i4", 1.5, -2, 0x3c00, 0xc500, 0x4049, -9))))
  lu.assertEquals(t.w:totable(), { { 1.5 }, { -2 } })
  lu.assertEquals(t.h:totable(), { 1, -5 })
  lu.assertEquals(t.b:totable(), { 3.140625 })
  lu.assertEquals(t.i:item(), -9)
  -- And ours read back as bytes.
  nb.save(path("y.safetensors"), { w = nb.tensor { 1, 2 } })
  local bytes = read("y.safetensors")
  local length = string.unpack("<I8", bytes)
  lu.assertEquals(length % 8, 0)
  lu.assertEquals(#bytes, 8 + length + 8)
  lu.assertStrContains(bytes:sub(9, 8 + length), '"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}')
  lu.assertEquals({ string.unpack("<ff", bytes, 9 + length) }, { 1, 2, #bytes + 1 })
  nb.save(path("y.npy"), nb.tensor({ { 1, 2 } }, { dtype = "u8" }))
  bytes = read("y.npy")
  lu.assertEquals(bytes:sub(1, 6), "\x93NUMPY")
  lu.assertStrContains(bytes, "'descr': '|u1', 'fortran_order': False, 'shape': (1, 2)")
  lu.assertEquals(bytes:sub(-2), "\1\2")
  local fortran = "{'descr': '<i2', 'fortran_order': True, 'shape': (2, 2), }"
  lu.assertEquals(nb.load(write("f.npy", "\x93NUMPY\1\0" .. string.pack("<s2", fortran) ..
    string.pack("<i2i2i2i2", 1, 2, 3, 4))):totable(), { { 1, 3 }, { 2, 4 } })
end

function T.test_what_cannot_be_saved_leaves_the_old_file()
  nb.save(path("k.safetensors"), { w = nb.ones(2) })
  local before = read("k.safetensors")
  local loop = {}
  loop.loop = loop
  for _, case in ipairs {
    { { f = print }, "f is a function" }, { loop, "contains itself" }, { { [{}] = 1 }, "key" },
    { { ["\xff"] = nb.ones(1) }, "UTF-8" }, { { [1] = nb.ones(1), ["1"] = nb.ones(1) }, "name 1" },
    { { a = { b = nb.ones(1) }, ["a.b"] = nb.ones(1) }, "a.b" }, { 5, "table" },
  } do
    assert_error({ case[2] }, nb.save, path("k.safetensors"), case[1])
    lu.assertEquals(read("k.safetensors"), before)
  end
  assert_error({ "k.pth", "safetensors", "save_file" }, nb.save, path("k.pth"), {})
  assert_error({ "nowhere" }, nb.save, path("nowhere/k.safetensors"), {})
  os.execute("chmod u-w " .. files.folder)
  if not io.open(path("probe"), "w") then  -- root writes everywhere
    assert_error({ "k.safetensors" }, nb.save, path("k.safetensors"), { w = nb.zeros(2) })
  end
  os.execute("chmod u+w " .. files.folder)
  os.remove(path("probe"))
  lu.assertEquals(read("k.safetensors"), before)
  lu.assertEquals(names(), { "k.safetensors" })
end

function T.test_whole_numbers_of_other_sizes_become_i64()
  for name, case in pairs { I8 = { "b", -128, 127 }, I16 = { "<h", -32768, 32767 }, U16 = { "<H", 0, 65535 },
    I32 = { "<i4", -2147483648, 2147483647 }, U32 = { "<I4", 0, 4294967295 } } do
    local data = string.pack(case[1], case[2]) .. string.pack(case[1], case[3]) .. string.pack(case[1], 7)
    local header = ('{"w":{"dtype":"%s","shape":[3],"data_offsets":[0,%d]}}'):format(name, #data)
    local t = nb.load(write("w.safetensors", safetensors(header, data))).w
    lu.assertEquals({ t.dtype, t:totable() }, { "i64", { case[2], case[3], 7 } })
  end
end

function T.test_devices_are_not_replaced()
  os.execute("ln -s /dev/full " .. path("full.npy"))
  assert_error({ "full.npy", "a device" }, nb.save, path("full.npy"), nb.ones(100000))
  lu.assertEquals(names(), { "full.npy" })
end

-- The rights of a file as ls shows them.
local function rights(name)
  local p <close> = assert(io.popen("ls -ld " .. path(name)))
  return p:read("a"):sub(1, 10)
end

function T.test_links_are_followed_and_rights_kept()
  os.execute("mkdir " .. path("models"))
  for link, target in pairs { ["a.npy"] = "models/a.npy", ["b.npy"] = path("models/b.npy"), ["c.npy"] = "b.npy" } do
    os.execute(("ln -s %s %s"):format(target, path(link)))
  end
  nb.save(path("a.npy"), nb.ones(2))  -- the target of a dangling link is made
  nb.save(path("c.npy"), nb.ones(3))  -- a link to a link
  lu.assertEquals({ rights("a.npy"):sub(1, 1), rights("b.npy"):sub(1, 1), rights("c.npy"):sub(1, 1) },
    { "l", "l", "l" })
  lu.assertEquals(#nb.load(path("models/a.npy")), 2)
  lu.assertEquals(#nb.load(path("models/b.npy")), 3)
  os.execute("chmod 4751 " .. path("models/a.npy"))
  nb.save(path("a.npy"), nb.ones(4))
  lu.assertEquals(rights("models/a.npy"), "-rwsr-x--x")
  os.execute(("ln -s y.npy %s; ln -s x.npy %s"):format(path("x.npy"), path("y.npy")))
  assert_error({ "x.npy" }, nb.save, path("x.npy"), nb.ones(1))
end

function T.test_what_killed_processes_left_is_swept()
  for _, name in ipairs { ".nablua-1-0.tmp", ".nablua-99999-12.tmp", ".nablua-notes", "nablua-1-0.tmp",
    ".nablua-1-0.tmp.txt" } do write(name, "left") end
  nb.save(path("a.npy"), nb.ones(1))
  local left = names()
  table.sort(left)
  lu.assertEquals(left, { ".nablua-1-0.tmp.txt", ".nablua-notes", "a.npy", "nablua-1-0.tmp" })
end

-- ---- zero bytes, and what steers a terminal ----

-- All of nablua that takes a path, from the registry: a parameter of one of these names, or such a word in the
-- signature.
local PATHS = { path = true, folder = true, checkpoint = true, file = true }

local function takes_path(entry)
  for _, p in ipairs(entry.params or {}) do
    if PATHS[p.name] then return true end
  end
  for word in (entry.signature or ""):gmatch("%a+") do
    if PATHS[word] then return true end
  end
  return false
end

function T.test_paths_with_zero_bytes_are_refused_everywhere()
  local net = nb.nn.Linear(1, 1)
  local calls = {  -- of those that need more than a path
    ["nb.save"] = function(f, bad) return f(bad, nb.ones(1)) end,
    ["p:save"] = function(f, bad) return f(nb.plot.curve { 1, 2 }, bad) end,
    ["nn.fit"] = function(f, bad)
      return f(net, nb.nn.MSELoss(), nb.optim.SGD(net:parameters(), { lr = 1 }), { nb.ones(1, 1), nb.ones(1, 1) },
        { checkpoint = bad, progress = false })
    end,
  }
  write("evil", "")
  local seen = 0
  for _, entry in ipairs(require "nablua.registry".all()) do
    local name, f = entry.name, entry.value
    for _, ending in ipairs { ".npy", ".npz", ".safetensors", ".csv", ".png", ".txt", ".svg", ".idx", "" } do
      if not takes_path(entry) then break end
      if ending == "" then seen = seen + 1 end
      local ok, message = pcall(calls[name] or function(g, bad) return g(bad) end, f, path("evil") .. "\0" .. ending)
      lu.assertFalse(ok, name .. ending)
      lu.assertNil(tostring(message):find("\0", 1, true), name)
    end
  end
  lu.assertTrue(seen >= 8, seen .. " functions take paths")
  lu.assertEquals(names(), { "evil" })
  lu.assertEquals(read("evil"), "")
end

function T.test_names_with_zero_bytes_are_refused()
  for _, ending in ipairs { "npz", "safetensors" } do
    assert_error({ "zero byte", "a\\x00b" }, nb.save, path("a." .. ending), { ["a\0b"] = nb.ones(1) })
    assert_error({ "zero byte" }, nb.save, path("a." .. ending), { x = { ["a\0b"] = nb.ones(1) } })
  end
  assert_error({ "zero byte" }, nb.save, path("a.safetensors"), { ["a\0b"] = 5 })
  assert_error({ "zero byte" }, nb.save, path("a.safetensors"), { ["a\0b"] = {} })
  lu.assertEquals(names(), {})
  nb.save(path("a.safetensors"), { text = "a\0b" })  -- a value may
  lu.assertEquals(nb.load(path("a.safetensors")).text, "a\0b")
end

function T.test_sentences_steer_no_terminal()
  local red, reverse, c1 = "\27[31m", "\u{202e}", "\u{9b}31m"
  for _, text in ipairs { red, reverse, c1, "\xff\xfe", "\a\b\r", "\127" } do
    for _, call in ipairs {
      function() nb.load(path(text .. ".npy")) end,
      function() nb.load(text) end,
      function() nb.save(path("none/" .. text .. ".npy"), nb.ones(1)) end,
      function() nb.plot.curve({ 1 }):save(path("none/" .. text .. ".txt")) end,
      function() nb.data.images(path(text)) end,
      function() nb.nn.Linear(1, 1):load_state { [text] = nb.ones(1) } end,
      function() nb.load(write("t.safetensors", safetensors('{"' .. text:gsub("%c", "?") .. '":{"dtype":"' ..
        text:gsub("%c", "?") .. '"}}'))) end,
      function() nb.save(path("a.npz"), { [text] = print }) end,
    } do
      local ok, message = pcall(call)
      lu.assertFalse(ok)
      lu.assertNil(message:find("[\0-\8\11-\31\127]"), message)
      lu.assertNil(message:find("\u{202e}", 1, true), message)
      lu.assertNil(message:find("\xc2[\x80-\x9f]"), message)
      lu.assertNotNil(utf8.len(message), message)
    end
  end
  assert_error({ "x\\x1b[31m.npy" }, nb.load, path("x" .. red .. ".npy"))
  assert_error({ "x\\u{202e}.npy" }, nb.load, path("x" .. reverse .. ".npy"))
  assert_error({ "é√.npy" }, nb.load, path("é√.npy"))
end

function T.test_safetensors_entries_may_say_more()
  -- As the reference reader has it: what it does not know it passes over, and no metadata may be null.
  local t = nb.load(write("x.safetensors", safetensors('{"__metadata__":null,' ..
    '"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"x":1,"note":{"a":[]}}}', "\1\2")))
  lu.assertEquals(t.w:totable(), { 1, 2 })
end

function T.test_broken_safetensors_say_what_is_wrong()
  local function entry(dtype, shape, offsets)
    return ('{"w":{"dtype":"%s","shape":%s,"data_offsets":%s}}'):format(dtype, shape, offsets)
  end
  for name, case in pairs {
    empty = { "", "8 bytes" }, short = { "1234", "8 bytes" },
    ["longer than the file"] = { string.pack("<I8", 1000) .. "{}", "1000" },
    ["a huge header"] = { string.pack("<I8", 1 << 62) .. "{}", "header" },
    ["no JSON"] = { safetensors("{nonsense}"), "JSON" }, ["no object"] = { safetensors("[1]"), "object" },
    ["no UTF-8"] = { safetensors('{"\xff":1}'), "JSON" },
    ["deep nesting"] = { safetensors(("["):rep(100000)), "JSON" },
    ["no entry"] = { safetensors('{"w":5}'), '"w"' },
    ["no dtype"] = { safetensors('{"w":{"shape":[],"data_offsets":[0,4]}}', "1234"), "dtype" },
    ["a dtype of no one"] = { safetensors(entry("F7", "[1]", "[0,4]"), "1234"), "F7" },
    ["a negative size"] = { safetensors(entry("F32", "[-1]", "[0,4]"), "1234"), "shape" },
    ["a fraction for a size"] = { safetensors(entry("F32", "[1.5]", "[0,4]"), "1234"), "shape" },
    ["sizes that overflow"] = { safetensors(entry("F32", "[4294967296,4294967296]", "[0,0]")), "bytes" },
    ["nine dimensions"] = { safetensors(entry("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), "1234"), "8 dimensions" },
    ["too few bytes"] = { safetensors(entry("F32", "[2]", "[0,4]"), "1234"), "8 bytes" },
    ["past the end"] = { safetensors(entry("F32", "[2]", "[0,8]"), "1234"), "truncated" },
    ["end before begin"] = { safetensors(entry("F32", "[1]", "[4,0]"), "1234"), "data_offsets" },
    ["a negative offset"] = { safetensors(entry("F32", "[1]", "[-4,0]"), "1234"), "data_offsets" },
    ["bytes left over"] = { safetensors(entry("F32", "[1]", "[0,4]"), "12345678"), "left over" },
    ["a gap"] = { safetensors(entry("F32", "[1]", "[4,8]"), "12345678"), "start at byte 0" },
    ["an overlap"] = { safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},' ..
      '"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', "12345678"), '"b"' },
    ["a name twice"] = { safetensors('{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' ..
      '"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', "12"), "duplicate" },
    ["metadata that is no text"] = { safetensors('{"__metadata__":{"a":1}}'), "string" },
  } do
    local ok, message = pcall(assert_error, { "bad.safetensors", case[2] }, nb.load, write("bad.safetensors", case[1]))
    if not ok then lu.fail(("%s: %s"):format(name, type(message) == "table" and message.msg or message)) end
  end
  assert_error({ "missing.safetensors" }, nb.load, path("missing.safetensors"))
  os.execute("mkdir " .. path("dir.npy"))
  assert_error({ "dir.npy" }, nb.load, path("dir.npy"))
end

local function idx(kind, sizes, bytes)
  return string.pack(">I2BB", 0, kind, #sizes) ..
    string.pack((">I4"):rep(#sizes), table.unpack(sizes)) .. bytes
end

function T.test_idx_files_plain_and_packed()
  local bytes = idx(8, { 2, 3 }, "\0\1\2\3\4\255")
  local t = nb.data.idx(write("x-idx2-ubyte", bytes))
  lu.assertEquals({ t.dtype, t:totable() }, { "u8", { { 0, 1, 2 }, { 3, 4, 255 } } })
  write("p", bytes)
  assert(os.execute("gzip " .. path("p")))
  same(nb.data.idx(path("p.gz")), t)
  lu.assertEquals(nb.data.idx(write("f", idx(0x0D, { 2 }, string.pack(">ff", 1.5, -2)))):totable(), { 1.5, -2 })
  for name, case in pairs {
    empty = { "", "truncated" }, ["another file"] = { "PK\3\4 and more", "IDX" },
    ["a type of no one"] = { idx(7, { 1 }, "1"), "type" }, truncated = { idx(8, { 4 }, "12"), "truncated" },
    ["bytes left over"] = { idx(8, { 1 }, "12"), "left" },
    ["sizes that overflow"] = { idx(0x0E, { 0xffffffff, 0xffffffff, 0xffffffff }, ""), "" },
    ["many dimensions"] = { string.pack(">I2BB", 0, 8, 200) .. ("\0\0\0\1"):rep(200) .. "1", "dimensions" },
  } do
    local ok, message = pcall(assert_error, { "bad", case[2] }, nb.data.idx, write("bad", case[1]))
    if not ok then lu.fail(("%s: %s"):format(name, type(message) == "table" and message.msg or message)) end
  end
  local packed = read("p.gz")
  assert_error({ "cut.gz" }, nb.data.idx, write("cut.gz", packed:sub(1, -6)))
end

-- ---- npz ----

-- A zip archive of stored members, with what `change` does to each header and record.
local function zip(members, change)
  change = change or {}
  local body, directory = "", ""
  for i, m in ipairs(members) do
    local c = change[i] or {}
    local crc, size = c.crc or 0, c.size or #m[2]
    local common = string.pack("<I2I2I2I2I4I4I4I2I2", c.flags or 0, c.method or 0, 0, 33, crc, c.packed or #m[2], size,
      #m[1], 0)
    directory = directory .. "PK\1\2" .. string.pack("<I2I2", 20, 20) .. common ..
      string.pack("<I2I2I2I4I4", 0, 0, 0, 0, c.at or #body) .. (c.name or m[1])
    body = body .. "PK\3\4" .. string.pack("<I2", 20) .. common .. m[1] .. m[2]
  end
  return body .. directory .. "PK\5\6" .. string.pack("<I2I2I2I2I4I4I2", 0, 0, change.count or #members,
    change.count or #members, change.directory_size or #directory, change.directory or #body, 0)
end

-- Crafted once by NumPy's rules: u8 7 8 9.
local ARRAY = "\x93NUMPY\1\0" .. string.pack("<s2", "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }") ..
  "\7\8\9"

function T.test_npz_holds_arrays_by_name()
  local good = { crc = scratch.crc32(ARRAY) }
  local state = nb.load(write("t.npz", zip({ { "w.npy", ARRAY }, { "b/c.npy", ARRAY } }, { good, good })))
  lu.assertEquals({ state.w:totable(), state["b/c"]:totable() }, { { 7, 8, 9 }, { 7, 8, 9 } })
  lu.assertEquals(nb.load(write("t.npz", zip {})), {})
  nb.save(path("t.npz"), { net = { ["1.weight"] = nb.ones(2) }, epoch = 3, lr = 0.5, on = true })
  state = nb.load(path("t.npz"))
  lu.assertEquals({ state["net.1.weight"]:totable(), state.epoch:item(), state.epoch.dtype, state.lr:item(),
    state.lr.dtype, state.on.dtype }, { { 1, 1 }, 3, "i64", 0.5, "f64", "bool" })
  nb.save(path("t.npz"), nb.ones(3))
  lu.assertEquals(nb.load(path("t.npz")).arr_0:totable(), { 1, 1, 1 })
  nb.save(path("small.npz"), nb.zeros(100000), { compress = true })
  lu.assertTrue(#read("small.npz") < 2000)
  assert_error({ "a string" }, nb.save, path("t.npz"), { a = "text" })
  assert_error({ '"compres"' }, nb.save, path("t.npz"), nb.ones(1), { compres = true })
  assert_error({ '"compress"' }, nb.save, path("t.safetensors"), nb.ones(1), { compress = true })
end

function T.test_broken_archives_say_what_is_wrong()
  local a, b, good = { "a.npy", ARRAY }, { "b.npy", ARRAY }, { crc = scratch.crc32(ARRAY) }
  local function one(change) return zip({ a }, { setmetatable(change, { __index = good }) }) end
  for name, case in pairs {
    empty = { "", "record at its end" }, ["no archive"] = { ("x"):rep(100), "record at its end" },
    ["cut short"] = { zip({ a }, { good }):sub(1, -5), "record at its end" },
    ["a wrong checksum"] = { one { crc = 5 }, 'member "a.npy"', "checksum" },
    ["a text"] = { zip { { "notes.txt", "hi" } }, '"notes.txt"', ".npy" },
    ["a name twice"] = { zip({ a, a }, { good, good }), 'two arrays', '"a"' },
    ["bytes shared"] = { zip({ a, b }, { good, { crc = good.crc, at = 0, name = "a.npy" } }), "overlap" },
    ["two names"] = { one { name = "c.npy" }, "two names" }, ["two sizes"] = { one { size = 5 }, "two sizes" },
    ["a member outside"] = { one { at = 5000 }, "lies outside" },
    ["data outside"] = { one { packed = 5000, size = 5000 }, '"a.npy"', "end before" },
    ["another method"] = { one { method = 14 }, "method 14" }, ["a secret"] = { one { flags = 1 }, "encrypted" },
    ["a directory outside"] = { zip({ a }, { good, directory = 100000 }), "outside" },
    ["many members"] = { zip({ a }, { good, count = 60000 }), "60000 members" },
    ["zip64 without its record"] = { zip({ a }, { good, count = 65535 }), "zip64" },
    ["a bomb"] = { one { method = 8, size = 4000000000 }, "4000000000 bytes", "more than" },
    ["no deflated data"] = { one { method = 8 }, 'member "a.npy"' },
    ["a broken array"] = { zip({ { "a.npy", "nonsense of its own" } }, { { crc = 0 } }), 'member "a.npy"', "npy" },
    ["an array cut short"] = { zip({ { "a.npy", ARRAY:sub(1, -2) } }, { good }), 'member "a.npy"', "truncated" },
  } do
    local ok, message = pcall(assert_error, { "bad.npz", table.unpack(case, 2) }, nb.load, write("bad.npz", case[1]))
    if not ok then lu.fail(("%s: %s"):format(name, type(message) == "table" and message.msg or message)) end
  end
end

function T.test_formats_by_extension()
  lu.assertEquals(nb.load(write("t.CSV", "a,b\n1,2\n")).columns.b:totable(), { 2 })
  lu.assertEquals(nb.load(write("x-idx1-ubyte", idx(8, { 2 }, "\1\2"))):totable(), { 1, 2 })
  assert_error({ "t.txt", ".safetensors, .npy, .npz" }, nb.save, path("t.txt"), {})
  assert_error({ "model", ".csv" }, nb.load, path("model"))
  assert_error({ "t.idx" }, nb.save, path("t.idx"), nb.ones(1))
end

-- Cut anywhere and with any byte changed, a file is read or refused, and nothing else happens.
local function torture(name, bytes, load)
  for n = 0, #bytes - 1 do assert_error({ name }, load, write(name, bytes:sub(1, n))) end
  for i = 1, #bytes do
    for _, byte in ipairs { "\0", "\xff", "9", '"' } do
      local ok, result = pcall(load, write(name, bytes:sub(1, i - 1) .. byte .. bytes:sub(i + 1)))
      if not ok then lu.assertStrContains(result, name) end
    end
  end
end

function T.test_files_cut_or_changed_anywhere()
  nb.save(path("t.safetensors"), { w = nb.tensor { { 1, 2 } }, n = 5 })
  torture("t.safetensors", read("t.safetensors"), nb.load)
  nb.save(path("t.npy"), nb.tensor { { 1, 2 } })
  torture("t.npy", read("t.npy"), nb.load)
  nb.save(path("t.npz"), { w = nb.tensor { { 1, 2 } } }, { compress = true })
  torture("t.npz", read("t.npz"), nb.load)
  torture("t-idx", idx(8, { 2, 2 }, "1234"), nb.data.idx)
end

-- Files are closed at once, also where they cannot be read: the collector may come late.
function T.test_what_cannot_be_read_is_closed()
  local function count()
    local n, list = 0, io.popen "ls /proc/$PPID/fd 2>/dev/null"
    for _ in list:lines() do n = n + 1 end
    list:close()
    return n
  end
  local file = os.tmpname()
  local function put(text)
    local f <close> = assert(io.open(file, "wb"))
    f:write(text)
  end
  local before = count()
  if before == 0 then return end  -- the system does not tell
  collectgarbage "stop"
  for text, load_it in pairs {
    ["a,b\n1,2\n3\n"] = function() return nb.data.csv(file, { header = true }) end,
    ["a,b\n1,2\n"] = function() return nb.data.csv(file, { columns = { "none" } }) end,
    ["\x93NUMPY"] = function() return nb.load(file, { format = "npy" }) end,
  } do
    put(text)
    for _ = 1, 20 do pcall(load_it) end
  end
  local after = count()
  collectgarbage "restart"
  os.remove(file)
  lu.assertTrue(after < before + 10, ("%d files open, then %d"):format(before, after))
end

function T.test_bytes_that_are_left_over_are_named()
  nb.save(path("w.npy"), nb.tensor { 1, 2 })
  local bytes = read("w.npy")
  for _, more in ipairs { "x", ("x"):rep(8) } do
    local long = write("w.npy", bytes .. more)
    assert_error({ "w.npy", "bytes left over", "136 bytes are expected", tostring(136 + #more) }, nb.load, long)
  end
  assert_error({ "w.npy", "truncated" }, nb.load, write("w.npy", bytes:sub(1, -2)))
end

return T
