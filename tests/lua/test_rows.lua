-- SPDX-License-Identifier: MIT
-- data.open: rows of files that are larger than memory.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local scratch = require "scratch"
local data, nn, optim = nb.data, nb.nn, nb.optim

local T = {}

local assert_error = numeric.assert_error

local files
function T.setUp() files = scratch.new() end
function T.tearDown() files:remove() end

-- An npy file of some bytes.
local function write_npy(path, descr, shape, bytes, order)
  local head = ("{'descr': '%s', 'fortran_order': %s, 'shape': (%s,), }"):format(descr, order or "False",
    table.concat(shape, ", "))
  head = head .. (" "):rep(118 - #head - 1) .. "\n"
  local f = assert(io.open(path, "wb"))
  f:write("\x93NUMPY\1\0", string.pack("<I2", #head), head, bytes)
  f:close()
end

function T.test_rows_are_those_of_the_whole()
  nb.seed(1)
  for _, dtype in ipairs { "f32", "f64", "i64", "u8", "bool" } do
    local x = (nb.rand(9, 2, 3) * 9):to(dtype)
    local path = files:path(dtype .. ".npy")
    nb.save(path, x)
    local file = data.open(path)
    lu.assertEquals({ #file, file.shape, file.dtype }, { 9, { 9, 2, 3 }, dtype })
    for _, index in ipairs { { 1 }, { 3, 4, 5 }, { 9, 1, 1, 2, 3, 8 } } do
      local rows = file:rows(nb.tensor(index))
      lu.assertEquals(rows.dtype, dtype)
      lu.assertEquals(rows:totable(), x:index_select(1, nb.tensor(index)):totable())
    end
    lu.assertEquals(file[2]:totable(), x[2]:totable())
    lu.assertEquals(file[-1]:totable(), x[9]:totable())
    lu.assertEquals(file[{ { 2, -2 } }]:totable(), x[{ { 2, -2 } }]:totable())
    lu.assertEquals(file[{ { 1, 9, 4 } }]:totable(), x[{ { 1, 9, 4 } }]:totable())
    lu.assertEquals(file:rows(nb.zeros({ 0 }, { dtype = "i64" })).shape, { 0, 2, 3 })
  end
end

function T.test_elements_of_other_kinds()
  local path = files:path "a.npy"
  write_npy(path, ">i2", { 3, 2 }, string.pack(">i2i2i2i2i2i2", 1, -2, 300, 4, 5, 6))
  lu.assertEquals(data.open(path):rows(nb.tensor { 3, 1 }):totable(), { { 5, 6 }, { 1, -2 } })
  write_npy(path, "<f2", { 2, 1 }, string.pack("<I2I2", 0x3c00, 0xc000))
  lu.assertEquals(data.open(path)[2]:totable(), { -2 })
  write_npy(path, ">f4", { 2 }, string.pack(">ff", 1.5, 2.5))
  lu.assertEquals(data.open(path)[2]:item(), 2.5)
  local idx = files:path "b-idx2-ubyte"
  local f = assert(io.open(idx, "wb"))
  f:write("\0\0\x08\2", string.pack(">I4I4", 3, 2), "\1\2\3\4\5\6")
  f:close()
  lu.assertEquals(data.open(idx):rows(nb.tensor { 2, 3 }):totable(), { { 3, 4 }, { 5, 6 } })
end

function T.test_what_cannot_be_read_in_rows()
  local path = files:path "a.npy"
  write_npy(path, "<f4", { 2, 2 }, string.pack("<ffff", 1, 2, 3, 4), "True")
  assert_error({ "Fortran order", "ascontiguousarray" }, data.open, path)
  write_npy(path, "<f4", { 3, 2 }, "short")
  assert_error({ "truncated" }, data.open, path)
  assert_error({ "cannot open" }, data.open, files:path "none.npy")
  local f = assert(io.open(path, "wb"))
  f:write("\x1f\x8b and so on")
  f:close()
  assert_error({ "gzip", "unpack it first" }, data.open, path)
  nb.save(path, nb.ones(4, 2))
  local file = data.open(path)
  assert_error({ "no row 5", "1 to 4" }, file.rows, file, nb.tensor { 1, 5 })
  assert_error({ "no row 0" }, file.rows, file, nb.tensor { 0 })
  assert_error({ "vector of numbers" }, file.rows, file, 3)
  write_npy(path, "<f4", { 1, 1 }, "    ")  -- the same file, shorter
  assert_error({ "shorter since it was opened" }, file.rows, file, nb.tensor { 4 })
  local closed
  do
    local other <close> = file
    closed = other
  end
  assert_error({ "closed" }, closed.rows, closed, nb.tensor { 1 })
end

local function anonymous_megabytes()
  local f = io.open "/proc/self/status"
  local text = f and f:read "a" or ""
  if f then f:close() end
  return (tonumber(text:match "RssAnon:%s*(%d+)") or 0) / 1024
end

-- 20 GB on a disk that has none of them: a file with a hole.
function T.test_a_file_larger_than_memory_trains()
  local path, rows, columns = files:path "large.npy", 5000000, 1000
  write_npy(path, "<f4", { rows, columns }, "")
  local f = assert(io.open(path, "r+b"))
  local ok = f:seek("set", 128 + rows * columns * 4 - 4)
  ok = ok and f:write(string.pack("<f", 7)) and f:close()
  if not ok then return end  -- a file system without holes
  local x, before = data.open(path), anonymous_megabytes()
  lu.assertEquals(x[-1]:at(columns), 7)
  nb.seed(2)
  local net = nn.Linear(columns, 1)
  local opt = optim.SGD(net:parameters(), { lr = 0.01 })
  local order = data.random_sampler(rows, { replacement = true, count = 4096 })
  local y = nb.ones(rows)
  local n, loss = 0, nil
  for bx, by in data.loader({ x, y }, { size = 256, sampler = order }) do
    opt:zero_grad()
    loss = nn.mse(net(bx):squeeze(2), by)
    loss:backward()
    opt:step()
    n = n + 1
  end
  lu.assertEquals(n, 16)
  lu.assertTrue(loss:item() < 1.1)
  local grown = anonymous_megabytes() - before
  print(("figure: 20 GB of npy train in %.0f MB of anonymous memory"):format(grown))
  lu.assertTrue(grown < 200, tostring(grown))
end

return T
