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

-- Reads with what it says on the standard error.
local function csv_aloud(text, options)
  local said, stderr = {}, io.stderr
  rawset(io, "stderr", { write = function(_, ...) said[#said + 1] = table.concat { ... } end })
  local ok, t = pcall(csv, text, options)
  rawset(io, "stderr", stderr)
  return ok and t or error(t, 0), table.concat(said)
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
  lu.assertEquals(columns((csv_aloud("150,4\n1,2\n3,4\n", { names = { "a", "b" } }))), want)
  lu.assertEquals(csv("1|2\n", { header = false, delimiter = "|" }).names, { "c1", "c2" })
  local t = csv("a,b\n")
  lu.assertEquals({ t.rows, t.columns.a.shape }, { 0, { 0 } })
  files:write("p.csv", "a\n7\n")
  assert(os.execute("gzip " .. files:path("p.csv")))
  lu.assertEquals(data.csv(files:path("p.csv.gz")).columns.a:totable(), { 7 })
end

function T.test_missing_values()
  local text = "n,c\n1,x\n,y\n3,y\nNA,?\n"
  assert_error({ "t.csv:3", "column n", "drop", "mean", "nan" }, csv, text, { missing = "error" })
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
  assert_error({ "names", '"a"', "1 and 2" }, csv, text, { names = { "a", "a" } })
  assert_error({ "decimal", '";"' }, csv, text, { decimal = ";" })
  for _, mark in ipairs { "..", "5", "\27", "-" } do
    assert_error({ "thousands", "one character" }, csv, text, { thousands = mark })
  end
  assert_error({ "thousands and decimal", '"."' }, csv, text, { thousands = "." })
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

-- ---- missing values ----

function T.test_reading_goes_on_and_says_how_many_are_missing_and_where()
  local t = csv("n,c,m\n1,x,1\n,y,2\n3,?,3\nNA,y,4\n")
  lu.assertEquals({ t.rows, t.missing, #t.names }, { 4, { n = 2, c = 1 }, 3 })
  lu.assertEquals(t.columns.n:isnan():totable(), { false, true, false, true })
  lu.assertEquals(t.columns.c:totable(), { 1, 2, 0, 2 })
  lu.assertStrContains(tostring(t), "2 missing, the first in line 3")
  lu.assertStrContains(tostring(t), "1 missing, the first in line 4")
  -- The matrix to train on is what refuses, and shows what to write.
  assert_error({ "t.csv:3", "column n", "1 other row", "1 other column", 'missing = "drop"' }, t.matrix, t)
  assert_error({ "t.csv:4", "column c" }, t.matrix, t, { "m", "c" })
  lu.assertEquals(t:matrix({ "m" }):totable(), { { 1 }, { 2 }, { 3 }, { 4 } })
  lu.assertEquals(t:matrix({ "n", "m" }, { missing = "drop" }):totable(), { { 1, 1 }, { 3, 3 } })
  lu.assertEquals(t:matrix({ "n", "m" }, { missing = "mean" }):totable(), { { 1, 1 }, { 2, 2 }, { 3, 3 }, { 2, 4 } })
  lu.assertEquals(t:matrix({ missing = "drop" }):totable(), { { 1, 1, 0, 1 } })
  assert_error({ "missing", '"zero"' }, t.matrix, t, { "m" }, { missing = "zero" })
end

function T.test_x_and_y_are_refused_until_missing_is_given()
  local text = "n,c,m\n1,x,1\n,y,2\n3,x,3\n"
  local t = csv(text, { target = "c" })
  lu.assertEquals(t.rows, 3)
  for _, name in ipairs { "x", "y" } do
    assert_error({ "t.csv:3", "column n", 'data.csv("t.csv", { target = "c", missing = "drop" })' },
      function() return t[name] end)
  end
  t = csv(text, { target = "c", missing = "drop" })
  lu.assertEquals({ t.x:totable(), t.y:totable(), t.missing }, { { { 1, 1 }, { 3, 3 } }, { 1, 1 }, {} })
  lu.assertStrContains(tostring(t), "1 row with missing values left out")
  t = csv(text, { target = "c", missing = "nan" })
  lu.assertEquals(t.x:isnan():totable(), { { false, false }, { true, false }, { false, false } })
  lu.assertEquals(csv(text, { target = "c", columns = { "m" } }).x:totable(), { { 1 }, { 2 }, { 3 } })
end

function T.test_dashes_among_numbers_are_missing()
  local t = csv("a,b\n1,x\n-,-\nNone,y\n4,-\n.,z\n")
  lu.assertEquals(t.missing, { a = 3 })
  lu.assertEquals(t.categories.b, { "-", "x", "y", "z" })
  lu.assertStrContains(tostring(t), "a: missing where")
  lu.assertEquals(csv("-,1\n3,2\n", { header = false }).missing, { c1 = 1 })
end

-- ---- headings ----

-- Text, names, values of the first row; `doubt` where a sentence must come at once.
local headings = {
  { "1.5,2\n3,4\n", { "c1", "c2" }, { 1.5, 2 } },
  { "1,2,3\n3,1,7\n", { "c1", "c2", "c3" }, { 1, 2, 3 }, doubt = true },
  { "7\n8\n", { "c1" }, { 7 } },
  { "a,b\n3,4\n", { "a", "b" }, { 3, 4 } },
  { "a,,b\n3,4,5\n", { "a", "c2", "b" }, { 3, 4, 5 } },
  { "a,b,a,a.1,a\n1,2,3,4,5\n", { "a", "b", "a.2", "a.1", "a.3" }, { 1, 2, 3, 4, 5 } },
  { "5.1,setosa\n4.9,setosa\n", { "c1", "c2" }, { 5.1, "setosa" } },
  { "39,clerk,77516,male\n50,clerk,83311,male\n", { "c1", "c2", "c3", "c4" }, { 39, "clerk", 77516, "male" } },
  { "3,oak,9\n5,elm,2\n", { "c1", "c2", "c3" }, { 3, "oak", 9 }, doubt = true },
  { "land,1960,1961\nAruba,4.8,4.6\n", { "land", "1960", "1961" }, { "Aruba", 4.8, 4.6 } },
  { "p,x\np,y\ne,x\n", { "c1", "c2" }, { "p", "x" }, doubt = true },
  { "name,color\nbob,red\n", { "name", "color" }, { "bob", "red" } },
  { "mean,0.025,0.975\n1,2,3\n", { "mean", "0.025", "0.975" }, { 1, 2, 3 }, doubt = true },
  { ",2\n1,5\n", { "c1", "c2" }, { 0 / 0, 2 } },
}

function T.test_headings_are_found()
  for _, case in ipairs(headings) do
    local t, said = csv_aloud(case[1], { dtype = "f64" })
    local row = {}
    for i, name in ipairs(t.names) do
      local v = t.columns[name]:at(1)
      row[i] = t.categories[name] and t.categories[name][v] or v
    end
    lu.assertEquals(t.names, case[2], case[1])
    for i, v in ipairs(case[3]) do lu.assertTrue(row[i] == v or v ~= v and row[i] ~= row[i], case[1]) end
    lu.assertEquals(said ~= "", case.doubt == true, case[1] .. said)
    if said ~= "" then lu.assertStrContains(said, "header=") end
  end
end

function T.test_header_overrides_what_was_found()
  lu.assertEquals(csv("1,2\n3,4\n", { header = true }).names, { "1", "2" })
  local t = csv("a,b\nc,d\n", { header = false })
  lu.assertEquals({ t.rows, t.categories.c1, t.notes }, { 2, { "a", "c" }, {} })
  -- names= stands in place of a first line, even of numbers, but not in silence.
  local said
  t, said = csv_aloud("1,2\n3,4\n", { names = { "a", "b" } })
  lu.assertEquals(columns(t), { a = { 3 }, b = { 4 } })
  lu.assertStrContains(said, "header=false")
  t, said = csv_aloud("1,2\n3,4\n", { names = { "a", "b" }, header = false })
  lu.assertEquals({ columns(t), said }, { { a = { 1, 3 }, b = { 2, 4 } }, "" })
end

function T.test_a_first_line_of_counts_is_passed_over()
  local t, said = csv_aloud("3,2,cat,dog\n1.5,2,0\n2.5,3,1\n3.5,4,0\n")
  lu.assertEquals({ columns(t), said }, { { c1 = { 1.5, 2.5, 3.5 }, c2 = { 2, 3, 4 }, c3 = { 0, 1, 0 } }, "" })
  lu.assertStrContains(tostring(t), "counts 3 rows")
  t = csv("2,4,a,b,c\n1,2,3,4,0\n5,6,7,8,1\n")  -- as long as the others
  lu.assertEquals({ t.rows, #t.names, t.columns.c1:totable() }, { 2, 5, { 1, 5 } })
  t, said = csv_aloud("9,2,cat,dog\n1.5,2,0\n2.5,3,1\n")
  lu.assertEquals(t.rows, 2)
  lu.assertStrContains(said, "announces 9 rows, there are 2")
end

function T.test_rows_with_names()
  for _, text in ipairs { '"n","c"\n"r1",1,"x"\n"r2",2,"y"\n"NA",3,"x"\n', '"","n","c"\nr1,1,x\nr2,2,y\nNA,3,x\n',
    "n c\nr1 1 x\nr2 2 y\nNA 3 x\n" } do
    local t = csv(text)
    lu.assertEquals({ t.row_names, t.names, t.columns.n:totable(), t.categories.c },
      { { "r1", "r2", "NA" }, { "n", "c" }, { 1, 2, 3 }, { "x", "y" } })
    lu.assertStrContains(tostring(t), "row_names")
  end
  local t = csv("n\na,1\nb,\nc,3\n", { missing = "drop" })
  lu.assertEquals({ t.row_names, t.columns.n:totable() }, { { "a", "c" }, { 1, 3 } })
  assert_error({ "t.csv:3", "column 1 (n)", '"oops"' }, csv, "n\na,1\nb,oops\n")
  assert_error({ "t.csv:4", "2 values", "line 2", "has 3" }, csv, "n\na,1\nb,2\nc,3,4\n")
  -- Cells under an empty heading that are no names, and all columns named, row names too.
  lu.assertEquals(csv(",b\n0.5,1\n0.7,2\n").names, { "c1", "b" })
  lu.assertEquals(csv(",b\nx,1\nx,2\n").names, { "c1", "b" })
  lu.assertEquals(csv("n\na,1\nb,2\n", { names = { "id", "n" } }).names, { "id", "n" })
  -- Lines that end with a delimiter.
  lu.assertEquals(columns(csv("a,b\n1,2,\n3,4,\n5,6\n")), { a = { 1, 3, 5 }, b = { 2, 4, 6 } })
  assert_error({ "t.csv:2002", "has 3" }, csv, "a,b\n" .. ("1,2,\n"):rep(2000) .. "3,4,5\n")
end

-- ---- numbers ----

-- Cells of one column, what they are, and options; `doubt` where other numbers are as likely.
local numbers = {
  { "1.5 -2.25 3e2 .5 5. +7 inf", { 1.5, -2.25, 300, 0.5, 5, 7, 1 / 0 } },
  { "1,5 -0,25 7 1e3", { 1.5, -0.25, 7, 1000 } },
  { "1,234,567 12 -1,000", { 1234567, 12, -1000 } },
  { "1,234.5 2.25 0.125", { 1234.5, 2.25, 0.125 } },
  { "1.234,5 2,25 1.234.567 1.500", { 1234.5, 2.25, 1234567, 1500 } },
  { "12'345.5 7", { 12345.5, 7 } },
  { "1\u{a0}234,5 9", { 1234.5, 9 } }, { "1\u{202f}234\u{202f}567", { 1234567 } },
  { "1,23,456 12,34,567", { 123456, 1234567 } },  -- lakhs
  { "50% 12.5% -3%", { 0.5, 0.125, -0.03 } }, { "7,5% 0,5%", { 0.075, 0.005 } },
  { "\u{2212}1.5 \u{2013}2 3", { -1.5, -2, 3 } },
  { "1,500 2,750", { 1500, 2750 }, doubt = "," },
  { "1,500 2,750", { 1.5, 2.75 }, { decimal = "," } }, { "1,500 2,750", { 1500, 2750 }, { thousands = "," } },
  { "1.500 2,5", { 1500, 2.5 }, { decimal = "," } }, { "1_500 7", { 1500, 7 }, { thousands = "_" } },
  { "1.500 2.750", { 1.5, 2.75 } }, { "1.500 2", { 1500, 2 }, { decimal = ",", thousands = "." } },
}

function T.test_numbers_as_people_write_them()
  for _, case in ipairs(numbers) do
    local o = { dtype = "f64", delimiter = ";" }
    for k, v in pairs(case[3] or {}) do o[k] = v end
    -- Between commas, as between semicolons, unless the meaning of "1,500" depends on it.
    for _, delimiter in ipairs(case.doubt and { "," } or { ";", "," }) do
      o.delimiter = delimiter
      local lines = { "a" .. delimiter .. "b" }
      for cell in case[1]:gmatch "[^ ]+" do lines[#lines + 1] = ('"%s"%s"%s"'):format(cell, delimiter, cell) end
      local t, said = csv_aloud(table.concat(lines, "\n"), o)
      lu.assertEquals({ t.columns.a:totable(), t.columns.b:totable() }, { case[2], case[2] }, case[1])
      lu.assertEquals(said ~= "", case.doubt ~= nil, case[1] .. said)
    end
  end
end

function T.test_what_was_guessed_of_numbers_is_shown()
  local text = tostring(csv_aloud("a;b;c\n1,5;50%;0,5\n2,5;25%;7\n"))
  lu.assertStrContains(text, "guessed: a, c: read with commas before decimals\n")
  lu.assertStrContains(text, "guessed: b: percent: 50% is 0.5")
  -- "1,500" alone is in doubt: other columns decide, else where it stands.
  local t, said = csv_aloud("a;b\n1,500;0,5\n2,250;1,5\n")
  lu.assertEquals({ t.columns.a:totable(), said }, { { 1.5, 2.25 }, "" })
  t, said = csv_aloud('a,b\n"1,500","2,500.5"\n"2,250",1\n')
  lu.assertEquals({ t.columns.a:totable(), said }, { { 1500, 2250 }, "" })
  t, said = csv_aloud("a;b\n1,500;1\n2,250;2\n")
  lu.assertEquals(t.columns.a:totable(), { 1.5, 2.25 })
  lu.assertStrContains(said, 'decimal="."')
  -- A point among decimal commas parts thousands, which is said.
  t, said = csv_aloud("a;b\n1.500;0,5\n2.250;1,5\n")
  lu.assertEquals(t.columns.a:totable(), { 1500, 2250 })
  lu.assertStrContains(said, 'a: read with commas before decimals, points between thousands; decimal="."')
end

function T.test_numbers_never_become_labels_in_silence()
  for name, case in pairs {
    ["a percent sign once"] = { "a\n50%\n7\n", "t.csv:3", '"7"', "percent sign" },
    ["groups of two"] = { 'a\n"1,234.5"\n"12,34"\n', "t.csv:3", '"12,34"' },
    ["two ways"] = { 'a;b\n1.5;1\n1,5;1\n', "t.csv:3", '"1,5"', "decimal=" },
    ["not the decimal"] = { "a;b\n1,5;1\n1.5;1\n", "t.csv:3", '"1.5"', nil, { decimal = "," } },
    ["later than the sample"] = { "a;b\n" .. ("1;1\n"):rep(90000) .. "1,5;1\n", "t.csv:90002", '"1,5"', "decimal=" },
  } do
    local ok, message = pcall(assert_error, { case[2], case[3], case[4] }, csv, case[1], case[5])
    if not ok then lu.fail(("%s: %s"):format(name, type(message) == "table" and message.msg or message)) end
  end
  -- Of many labels one may look like a number.
  local codes = {}
  for i = 1, 30 do codes[i] = ("A%02d"):format(i) end
  local t = csv("code\n" .. table.concat(codes, "\n") .. "\n0E0\n")
  lu.assertEquals(#t.categories.code, 31)
  lu.assertStrContains(tostring(t), "labels, some of which look like numbers (line 32)")
  local _, said = csv_aloud('price,day\n"$1,500",1/2/99\n"$20",3/4/99\n')
  lu.assertStrContains(said, 'price: labels, though they look like amounts, such as "$1,500"')
  lu.assertNotStrContains(said, "day")
end

-- ---- delimiters and encodings ----

function T.test_delimiters_are_found()
  local want = { { 1.5, 3 }, { 2, 4 } }
  for _, text in ipairs { "a b\n1.5 2\n3 4\n", "  a   b\n1.5   2\n 3 \t4\n", "a|b\n1.5|2\n3|4\n", "a;b\n1,5;2\n3;4\n",
    '"a b" b\n1.5 2\n3 4\n', "1,5;2\n3;4\n", "1.5 2\n3 4\n" } do
    local t = csv(text)
    lu.assertEquals({ t.columns[t.names[1]]:totable(), t.columns[t.names[2]]:totable() }, want, text)
  end
  lu.assertStrContains(tostring(csv "a b\n1 2\n3 4\n"), "blanks part its cells")
  lu.assertEquals(csv("name\nJohn Smith\nAnn Lee\n").names, { "name" })
  lu.assertEquals(csv("address\n12 Main\n14 Oak\n").names, { "address" })
end

function T.test_encodings()
  lu.assertEquals(csv("\xef\xbb\xbf\"a\",b\n1,2\n").names, { "a", "b" })
  for _, bytes in ipairs { "\xff\xfea\0,\0b\0", "\xfe\xff\0a\0,\0b", "a\0,\0b\0\n\0", "\0a\0,\0b" } do
    assert_error({ "t.csv", "UTF-16", "iconv" }, csv, bytes)
  end
end

-- ---- what is shown ----

-- Nothing of a file or its name reaches a terminal as a command, or turns the direction of a line.
function T.test_control_characters_are_escaped()
  local function check(text)
    lu.assertNil(text:find "[\0-\9\11-\31\127]")
    for _, code in utf8.codes(text) do
      lu.assertFalse(code >= 0x80 and code < 0xa0 or code == 0x202e or code == 0x2066, text)
    end
    lu.assertStrContains(text, "\\x1b")
  end
  local evil = "a\27[31m\u{9b}2J\u{202e}\7"
  local t = csv(('"%s",b\n"%s",1\n"x%s",2\n'):format(evil, evil, evil))
  check(tostring(t))
  check(tostring(csv(('"%s","%s"\n1,2\n'):format(evil, evil))))
  local function message(...)
    return select(2, pcall(...))
  end
  check(message(csv, ("n\n1\n%s\n"):format(evil)))
  check(message(csv, ("n,%s\n1,2\n3\27,x\n"):format(evil)))
  check(message(csv, ("%s,b\n,x\n"):format(evil), { missing = "error" }))
  check(message(csv, ("%s,b\n1,x\n"):format(evil), { target = "zzzzzzz" }))
  check(message(csv, ("c\n%s\n"):format(evil), { categories = { c = { "x" } } }))
  check(message(data.csv, files:write("t\27[31m.csv", "a,b\n1\n")))
  check(tostring(data.csv(files:write("t\27[31m.csv", "a,b\n1,2\n"))))
end

-- ---- many columns ----

function T.test_columns_cost_the_same_however_many_there_are()
  local function seconds(n)
    local line = {}
    for i = 1, n do line[i] = "n" .. i end
    local parts = { table.concat(line, ",") }
    for i = 1, n do line[i] = i % 7 end
    for k = 2, 4 do parts[k] = table.concat(line, ",") end
    local path = files:write("wide.csv", table.concat(parts, "\n"))
    local begun = os.clock()
    local t = data.csv(path, { target = "n" .. n })
    lu.assertEquals({ t.rows, #t.features, #tostring(t) > 0 }, { 3, n - 1, true })
    return os.clock() - begun
  end
  seconds(1000)
  local few = math.max(seconds(4000), 0.01)
  lu.assertTrue(seconds(32000) < 32 * few, "eight times the columns take over 32 times as long")
end

return T
