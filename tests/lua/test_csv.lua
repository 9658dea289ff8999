-- SPDX-License-Identifier: MIT
-- data.csv: tables written here in every dialect, what they mean as columns, and every kind of broken one.
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

-- Reads `text` as a file.
local function csv(text, options)
  return data.csv(files:write("t.csv", text), options)
end

local function columns(t)
  local out = {}
  for name, values in pairs(t.columns) do out[name] = values:totable() end
  return out
end

function T.test_numbers_and_labels()
  local t = csv("length,kind,n\n4.5,setosa,1\n-6e1,virginica,2\n0.5,setosa,3\n")
  lu.assertEquals(t.names, { "length", "kind", "n" })
  lu.assertEquals(columns(t), { length = { 4.5, -60, 0.5 }, kind = { 1, 2, 1 }, n = { 1, 2, 3 } })
  lu.assertEquals(t.categories, { kind = { "setosa", "virginica" } })
  lu.assertEquals({ t.rows, #t, t.columns.length.dtype, t.columns.kind.dtype }, { 3, 3, "f32", "i64" })
  lu.assertEquals(csv("a\n0.1\n", { dtype = "f64" }).columns.a:totable(), { 0.1 })
end

function T.test_target_gives_x_and_y()
  local text = "color,size,price\nred,1,10\nblue,2,20\ngreen,3,30\n"
  local t = csv(text, { target = "price" })
  lu.assertEquals(t.features, { "color=blue", "color=green", "color=red", "size" })
  lu.assertEquals(t.x:totable(), { { 0, 0, 1, 1 }, { 1, 0, 0, 2 }, { 0, 1, 0, 3 } })
  lu.assertEquals(t.y:totable(), { { 10 }, { 20 }, { 30 } })
  lu.assertNil(t.classes)
  t = csv(text, { target = 1, columns = { "price", 2 } })
  lu.assertEquals({ t.x:totable(), t.y:totable(), t.classes, t.y.dtype },
    { { { 10, 1 }, { 20, 2 }, { 30, 3 } }, { 3, 1, 2 }, { "blue", "green", "red" }, "i64" })
  t = csv(text, { target = { "price", "size" } })
  lu.assertEquals(t.y:totable(), { { 10, 1 }, { 20, 2 }, { 30, 3 } })
  lu.assertEquals(t:matrix({ "size", -1 }):totable(), { { 1, 10 }, { 2, 20 }, { 3, 30 } })
end

function T.test_categories_have_an_order()
  -- As numbers, not as text; or as told.
  local t = csv("n\n10\n9\n10\n0\n", { categories = { "n" } })
  lu.assertEquals({ t.categories.n, t.columns.n:totable() }, { { "0", "9", "10" }, { 3, 2, 3, 1 } })
  t = csv("c\nlow\nhigh\n", { categories = { c = { "low", "mid", "high" } } })
  lu.assertEquals({ t.categories.c, t.columns.c:totable() }, { { "low", "mid", "high" }, { 1, 3 } })
  assert_error({ "t.csv", "column c", '"top"', "low, high" }, csv, "c\nlow\ntop\n",
    { categories = { c = { "low", "high" } } })
end

function T.test_quoted_fields()
  local t = csv('a,"b ""and"" c",d\n"x, y",1, "two\nlines" \n z ,2,""""\n')
  lu.assertEquals(t.names, { "a", 'b "and" c', "d" })
  lu.assertEquals(t.categories, { a = { "x, y", "z" }, d = { '"', "two\nlines" } })
  lu.assertEquals(csv("a\n'1;2'\n", { quote = "'" }).categories.a, { "1;2" })
  lu.assertEquals(csv('a,b\n1" pipe,2\n').categories.a, { '1" pipe' })
  lu.assertEquals(csv('a,b\n"x,2\n', { quote = "" }).categories.a, { '"x' })
  assert_error({ "t.csv:3", "no closing" }, csv, 'a\n1\n"2\n3\n')
  assert_error({ "t.csv:2", "column 2", "written twice" }, csv, 'a,b\n1,"x"y\n')
end

function T.test_dialects()
  local want = { a = { 1, 3 }, b = { 2, 4 } }
  for _, text in ipairs { "a;b\n1;2\n3;4", "a\tb\r\n1\t2\r\n3\t4\r\n", "a,b\r1,2\r3,4\r",
    "\xef\xbb\xbfa,b\n1,2\n\n3,4\n\n",
    " a , b\n\n 1, 2\n3 ,4 " } do
    lu.assertEquals(columns(csv(text)), want)
  end
  lu.assertEquals(columns(csv("  1  2\n3 \t 4  \n", { header = false, delimiter = " ", names = { "a", "b" } })), want)
  lu.assertEquals(columns(csv("# made by hand\n\na,b\n1,2\n3,4\n", { skip = 2 })), want)
  lu.assertEquals(columns(csv("150,4\n1,2\n3,4\n", { names = { "a", "b" } })), want)
  lu.assertEquals(csv("1|2\n", { header = false, delimiter = "|" }).names, { "c1", "c2" })
  local t = csv("a,b\n")
  lu.assertEquals({ t.rows, t.columns.a.shape }, { 0, { 0 } })
  files:write("p.csv", "a\n7\n")
  assert(os.execute("gzip " .. files:path("p.csv")))
  lu.assertEquals(data.csv(files:path("p.csv.gz")).columns.a:totable(), { 7 })
end

function T.test_missing_values()
  local text = "n,c\n1,x\n,y\n3,y\nNA,?\n"
  assert_error({ "t.csv:3", "column n", "drop", "mean", "nan" }, csv, text)
  lu.assertEquals(columns(csv(text, { missing = "drop" })), { n = { 1, 3 }, c = { 1, 2 } })
  lu.assertEquals(columns(csv(text, { missing = "mean" })), { n = { 1, 2, 3, 2 }, c = { 1, 2, 2, 2 } })
  local t = csv(text, { missing = "nan" })
  lu.assertEquals(t.columns.n:isnan():totable(), { false, true, false, true })
  lu.assertEquals(t.columns.c:totable(), { 1, 2, 2, 0 })
  lu.assertEquals(t:matrix { "c" }:totable(), { { 1, 0 }, { 0, 1 }, { 0, 1 }, { 0, 0 } })
  lu.assertEquals(csv("a\n-9\n4\n", { na = { "-9" }, missing = "drop" }).columns.a:totable(), { 4 })
  lu.assertStrContains(tostring(t), "2 missing")
  -- A column that is not read may have gaps.
  lu.assertEquals(columns(csv(text, { columns = { "c" }, missing = "drop" })), { c = { 1, 2, 2 } })
end

function T.test_broken_files_say_where()
  for name, case in pairs {
    ["a first line of no names"] = { "150,4\n1,2,3\n", "t.csv:2", "has 3", "skipped" },
    ["a long row"] = { "a,b\n1,2\n3,4,5\n", "t.csv:3", "2 values", "has 3" },
    ["a short row"] = { "a,b\n1,2\n\n3\n", "t.csv:4", "2 values", "has 1" },
    ["text among numbers"] = { "a,age\n1,2\n3,4\n5,old\n", "t.csv:4", "column 2 (age)", "number", "line 2", '"old"' },
    ["a number among text"] = { "a\nx\n5\n", "t.csv:3", "column 1 (a)", "text", "line 2", '"5"' },
    ["no number"] = { "a,b\n1,0x10\n2,3\n", "t.csv:3", "column 2" },
    ["no byte of text"] = { "a,b\n1,\0\n", "t.csv:2", "zero byte" },
    ["UTF-16"] = { "\xff\xfea\0,\0", "t.csv", "UTF-16" },
    ["Latin 1"] = { "city\nM\xfcnchen\n", "t.csv:2", "column 1 (city)", "UTF-8" },
    ["Latin 1 in the header"] = { "gr\xf6\xdfe\n1\n", "t.csv:1", "UTF-8" },
    ["nothing"] = { "", "t.csv", "empty" }, ["empty lines"] = { "\n\n \n", "t.csv", "empty" },
    ["a name twice"] = { "a,b,a\n1,2,3\n", '"a"', "1 and 3" },
  } do
    local ok, message = pcall(assert_error, { table.unpack(case, 2) }, csv, case[1])
    if not ok then lu.fail(("%s: %s"):format(name, type(message) == "table" and message.msg or message)) end
  end
  assert_error({ "nowhere.csv" }, data.csv, files:path("nowhere.csv"))
  assert_error({ files.folder, "folder" }, data.csv, files.folder)
  files:write("p.csv", ("a\n" .. ("7\n"):rep(1000)))
  assert(os.execute("gzip " .. files:path("p.csv")))
  assert_error({ "q.csv.gz", "truncated" }, data.csv, files:write("q.csv.gz", files:read("p.csv.gz"):sub(1, -9)))
end

function T.test_options_are_checked()
  local text = "length,width\n1,2\n"
  assert_error({ "target", '"lenght"', '"length"' }, csv, text, { target = "lenght" })
  assert_error({ "columns", "column 3", "has 2" }, csv, text, { columns = { 3 } })
  assert_error({ "categories" }, csv, text, { categories = { true } })
  assert_error({ "names", "1 entries" }, csv, text, { names = { "a" } })
  assert_error({ "delimiter", "one character" }, csv, text, { delimiter = ", " })
  assert_error({ "missing", "drop" }, csv, text, { missing = "zero" })
  assert_error({ '"seperator"' }, csv, text, { seperator = ";" })
  local many = {}
  for i = 1, 300 do many[i] = "label" .. i end
  local t = csv("l,y\n" .. table.concat(many, ",1\n") .. ",1\n")
  lu.assertEquals(#t.categories.l, 300)
  assert_error({ "column l", "300", "columns=" }, t.matrix, t)
end

function T.test_it_prints_what_it_holds()
  local text = tostring(csv("length,kind\n1,a\n3,b\n5,b\n"))
  lu.assertStrContains(text, "3 rows, 2 columns")
  lu.assertStrContains(text, "length  numbers   1 to 5  mean 3")
  lu.assertStrContains(text, "kind    2 labels  a 1, b 2")
end

-- Cut anywhere and with any byte changed, a file is read or refused with its name.
function T.test_files_cut_or_changed_anywhere()
  local bytes = 'a,"b c",d\n1,x,-2e3\r\n"3","y ""z""",\n'
  for i = 0, #bytes do
    for _, byte in ipairs { "", "\0", "\xff", '"', ",", "\n", "9" } do
      local ok, result = pcall(csv, bytes:sub(1, i) .. byte .. bytes:sub(i + 2), { missing = "nan" })
      if not ok then lu.assertStrContains(result, "t.csv") end
    end
  end
end

function T.test_a_large_file_in_more_than_one_block()
  local parts, sum = { "a,b" }, 0
  for i = 1, 40000 do
    parts[i + 1] = ("%d,name %d"):format(i, i % 7)
    sum = sum + i
  end
  local t = csv(table.concat(parts, "\r\n"))
  lu.assertEquals(t.columns.a:to("f64"):sum():item(), sum)
  lu.assertEquals(#t.categories.b, 7)
  lu.assertEquals(t.columns.b:eq(1):sum():item(), 40000 // 7)
end

return T
