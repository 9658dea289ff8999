-- SPDX-License-Identifier: MIT
-- data.csv_chunks: tables larger than memory, beside the same read whole.
local lu = require "luaunit"
local nb = require "nablua"
local numeric = require "numeric"
local scratch = require "scratch"
local data, nn, optim = nb.data, nb.nn, nb.optim

local T = {}

local assert_error, assert_close = numeric.assert_error, numeric.assert_close

local files
function T.setUp() files = scratch.new() end
function T.tearDown() files:remove() end

-- Numbers with gaps, decimal commas, labels, row names: n rows.
local function write_table(name, n)
  local lines = { ";length;share;kind;size" }
  for i = 1, n do
    local kind = ({ "red", "green", "blue" })[i % 3 + 1]
    local length = i % 7 == 0 and "NA" or ("%d,25"):format(i * 3)
    lines[i + 1] = ("r%d;%s;%d%%;%s;1.%03d,5"):format(i, length, i % 100, kind, i)
  end
  return files:write(name, table.concat(lines, "\n") .. "\n")
end

-- All pieces of a column one behind another.
local function joined(pieces, name)
  local parts = {}
  for k, t in ipairs(pieces) do parts[k] = t.columns[name] end
  return nb.cat(parts, 1)
end

local function pieces_of(chunks)
  local list = {}
  for t in chunks do list[#list + 1] = t end
  return list
end

function T.test_pieces_are_the_whole()
  local path = write_table("a.csv", 50)
  for _, o in ipairs { { missing = "nan" }, { missing = "drop" }, { missing = "nan", columns = { "size", "kind" } },
    { missing = "nan", dtype = "f64", categories = { kind = { "blue", "red", "green" } } } } do
    local whole = data.csv(path, o)
    for _, chunk in ipairs { 1, 3, 7, 50, 1000 } do
      for _, scan in ipairs { false, true } do
        local own = { chunk = chunk, scan = scan }
        for key, value in pairs(o) do own[key] = value end
        -- One row shows one label; the others are looked for.
        if chunk > 1 or scan or o.categories then
          local chunks = data.csv_chunks(path, own)
          for _ = 1, 2 do
            local pieces, names = pieces_of(chunks), {}
            for _, t in ipairs(pieces) do table.move(t.row_names, 1, #t.row_names, #names + 1, names) end
            lu.assertEquals(names, whole.row_names)
            lu.assertEquals({ chunks.names, chunks.categories }, { whole.names, whole.categories })
            for _, name in ipairs(whole.names) do
              local have = joined(pieces, name)
              lu.assertEquals(have.dtype, whole.columns[name].dtype)
              lu.assertTrue(nb.allclose(have:to "f64", whole.columns[name]:to "f64", { rtol = 0, atol = 0,
                equal_nan = true }), name)
            end
          end
        end
      end
    end
  end
  lu.assertEquals(pieces_of(data.csv_chunks(path, { chunk = 20 }))[2].missing, { length = 3 })
end

function T.test_no_heading_and_packed()
  local path = files:write("b.csv", "1,2\n3,4\n5,6\n7,8\n9,10")
  local list = pieces_of(data.csv_chunks(path, { chunk = 2, header = false }))
  lu.assertEquals({ #list, list[1]:matrix():totable(), list[3]:matrix():totable() },
    { 3, { { 1, 2 }, { 3, 4 } }, { { 9, 10 } } })
  local empty = data.csv_chunks(files:write("c.csv", "a,b\n"))
  lu.assertEquals({ empty.names, #pieces_of(empty) }, { { "a", "b" }, 0 })
  os.execute("gzip -k " .. path)
  lu.assertEquals(#pieces_of(data.csv_chunks(path .. ".gz", { chunk = 2 })), 3)
end

function T.test_what_contradicts_the_first_piece()
  local function reading(text, o)
    o = o or {}
    o.chunk = 2
    return function() return pieces_of(data.csv_chunks(files:write("d.csv", text), o)) end
  end
  assert_error({ "d.csv:5", "column 1 (n)", "a number", "\"many\"" }, reading "n,k\n1,a\n2,b\n3,a\nmany,b\n")
  assert_error({ "d.csv:4", "column 2 (k)", "label \"c\"", "no line up to 3", "scan=true" },
    reading "n,k\n1,a\n2,b\n3,c\n")
  assert_error({ "d.csv:4", "label \"c\"", "not among those given" },
    reading("n,k\n1,a\n2,b\n3,c\n", { categories = { k = { "b", "a" } } }))
  assert_error({ "d.csv:5", "2 values" }, reading "n,k\n1,a\n2,b\n3,a\n4\n")
  assert_error({ "d.csv:4", "column n has no value", "data.csv_chunks" }, function()
    for t in data.csv_chunks(files:write("d.csv", "n,k\n1,a\n2,b\n,a\n"), { chunk = 2, target = "k" }) do
      lu.assertEquals(#t.y, t.rows)
      lu.assertEquals(t.x.shape[1], 2)
    end
  end)
  -- A column of nothing in the first piece is one of numbers; with scan= all labels are found.
  assert_error({ "d.csv:4", "column 1 (n)" }, reading "n,k\n,a\n,b\nx,a\n")
  lu.assertEquals(#reading("n,k\n1,a\n2,b\n3,c\n", { scan = true })(), 2)
  assert_error({ "mean", "whole table" }, data.csv_chunks, files:write("d.csv", "n\n1\n"), { missing = "mean" })
  assert_error({ "chunk" }, data.csv_chunks, files:path "d.csv", { chunk = 0 })
  assert_error({ "nowhere" }, data.csv_chunks, files:path "nowhere")
  assert_error({ "there once" }, data.csv_chunks, files:path "d.csv", { categories = { k = { "a", "a" } } })
  local small = files:write("d.csv", "kind,n\n1,2\n")
  assert_error({ "target", "did you mean" }, data.csv_chunks, small, { target = "kinds" })
end

function T.test_batches_across_pieces()
  local lines = { "a,b,y" }
  for i = 1, 25 do lines[i + 1] = ("%d,%s,%d"):format(i, i % 2 == 0 and "u" or "v", 2 * i) end
  local path = files:write("e.csv", table.concat(lines, "\n"))
  local whole = data.csv(path, { target = "y" })
  for _, chunk in ipairs { 3, 4, 10, 100 } do
    local chunks = data.csv_chunks(path, { target = "y", chunk = chunk, scan = chunk == 4 })
    lu.assertEquals(chunks.features, whole.features)
    local loader = data.loader(chunks, { size = 4 })
    for _ = 1, 2 do
      local x, y, sizes = {}, {}, {}
      for bx, by in loader do x[#x + 1], y[#y + 1], sizes[#sizes + 1] = bx, by, #bx end
      lu.assertEquals(sizes, { 4, 4, 4, 4, 4, 4, 1 })
      assert_close(nb.cat(x, 1), whole.x, 0)
      assert_close(nb.cat(y, 1), whole.y, 0)
    end
  end
  local counted = data.csv_chunks(path, { target = "y", scan = true })
  lu.assertEquals({ #data.loader(counted, { size = 4 }), #data.loader(counted, { size = 4, last = "drop" }) }, { 7, 6 })
  -- Mixed within pieces, by the one stream of chance; all rows once.
  local mixed = data.loader(data.csv_chunks(path, { target = "y", chunk = 10 }), { size = 5, shuffle = true,
    last = "drop", transform = function(x) return x * 2 end })
  local function epoch(seed)
    nb.seed(seed)
    local parts = {}
    for bx, by in mixed do
      assert_close(bx[{ nb.ALL, { 1, 1 } }], by, 0)
      parts[#parts + 1] = by:flatten()
    end
    return nb.cat(parts, 1)
  end
  assert_close(epoch(1), epoch(1), 0)
  lu.assertFalse(epoch(1):eq(epoch(2)):all():item())
  assert_close((epoch(3):sort()), whole.y:flatten(), 0)
  lu.assertTrue(epoch(3)[{ { 1, 10 } }]:max():item() <= 20)
  assert_error({ "sampler", "pieces" }, data.loader, counted, { sampler = data.random_sampler(25) })
  -- One loop within another, and without a target.
  local n, plain = 0, data.loader(data.csv_chunks(path, { chunk = 8 }), { size = 10 })
  for a in plain do
    for b in plain do n = n + #a * #b end
  end
  lu.assertEquals(n, 25 * 25)
end

function T.test_fit_and_runs_take_them()
  nb.seed(4)
  local lines = { "a,b,kind" }
  for i = 1, 120 do
    local a, b = nb.randn(1):item(), nb.randn(1):item()
    lines[i + 1] = ("%.5f,%.5f,%s"):format(a, b, a > b and "more" or "less")
  end
  local chunks = data.csv_chunks(files:write("f.csv", table.concat(lines, "\n")), { target = "kind", chunk = 50 })
  lu.assertEquals(chunks.classes, { "less", "more" })
  local net = nn.Linear(2, #chunks.classes)
  local opt = optim.Adam(net:parameters(), { lr = 0.05 })
  local history = nn.fit(net, nn.CrossEntropyLoss(), opt, data.loader(chunks, { size = 16, shuffle = true }),
    { epochs = 12, progress = false })
  lu.assertTrue(history.loss[12] < history.loss[1] / 2)
  local run = nb.run { net = net, loss = nn.CrossEntropyLoss(), opt = opt, data = data.loader(chunks, { size = 16 }),
    epochs = 2 }
  run:go { progress = false }
  run:back(3)
  run:next(2)
end

-- 800,000 rows, in pieces whose memory does not grow with them.
function T.test_memory_stays_bounded()
  local path, block, times, parts = files:path "large.csv", 20000, 40, {}
  for i = 1, block do
    parts[i] = ("n%d,%d.25,%d,%.9f,%.17f,%s\n"):format(i, i, i * 7 % 1000, i / 3, 1 / i, i % 2 == 0 and "u" or "v")
  end
  local text, rows = table.concat(parts), block * times
  local f <close> = assert(io.open(path, "w"))
  f:write("id,a,b,c,d,kind\n")
  for _ = 1, times do f:write(text) end
  f:flush()
  collectgarbage()
  local chunks = data.csv_chunks(path, { columns = { "a", "b", "c", "d" }, target = "kind", chunk = 2000 })
  local before, most, n = nb.memory().live, 0, 0
  for x, y in data.loader(chunks, { size = 500 }) do
    n = n + #y
    most = math.max(most, nb.memory().live - before)
    lu.assertEquals(x.shape[2], 4)
  end
  lu.assertEquals(n, rows)
  local whole = rows * 5 * 8
  print(("figure: CSV of %.0f MB in pieces takes %.1f MB, %.0f MB whole"):format(f:seek "end" / 1e6, most / 1e6,
    whole / 1e6))
  lu.assertTrue(most < whole / 4, tostring(most))
end

return T
