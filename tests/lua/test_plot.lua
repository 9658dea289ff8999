-- SPDX-License-Identifier: MIT
-- Plots: every kind as text of the right width, as SVG that is XML and as PNG of the right size; bad data, hostile
-- text.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local registry = require "nablua.registry"
local style = require "nablua.plot.style"
local numeric = require "numeric"
local pictures = require "pictures"
local plot, data, nn = nb.plot, nb.data, nb.nn

local T = {}

local has_gnuplot = pictures.has { "gnuplot", "--version" }
local check_xml, check_width, saved = pictures.check_xml, pictures.check_width, pictures.saved

local function f64(...) return nb.tensor({ ... }, { dtype = "f64" }) end

-- One of each kind, on data such as people have.
local function each_kind()
  nb.seed(4)
  local x, y = data.moons(60)
  local kinds = {
    curve = plot.curve({ train = { 3, 2, 1, 0.5 }, valid = { 3, 2.5, 2, 2.1 } }, { title = "Loss", xlabel = "epoch" }),
    scatter = plot.scatter(x, { labels = y, title = "Moons" }),
    histogram = plot.histogram(nb.randn(500), { title = "Normal" }),
    heatmap = plot.heatmap(nb.randn(5, 7), { title = "W" }),
    confusion = plot.confusion({ 1, 2, 2, 3, 3, 3 }, { 1, 2, 1, 3, 3, 1 }, { classes = { "a", "b", "c" } }),
    boundary = plot.boundary(nn.Linear(2, 2), { x = x, y = y }),
    activation = plot.activation { "sigmoid", "tanh", nn.ReLU(), function(z) return z * z end },
    images = plot.images(nb.rand(6, 7, 5)),
    filters = plot.filters(nn.Conv2d(1, 8, 5)),
    ridgeline = plot.ridgeline { { name = "W1", y = nb.randn(200) }, { name = "W2", y = nb.randn(200) * 2 } },
  }
  -- A kind that is not among them is drawn as its own example draws it.
  for name in pairs(plot) do
    local entry = registry.find("plot." .. name)
    if entry and name ~= "formats" and not kinds[name] then
      local code = entry.example:gsub("%s*%-%->.*", ""):gsub("%.kind$", "")
      kinds[name] = assert(load("local plot, nb, nn, data = ... return " .. code))(plot, nb, nn, data)
    end
  end
  return kinds
end

-- ---- every kind ----

function T.test_every_kind_has_text_of_the_width_asked_for()
  for kind, p in pairs(each_kind()) do
    for _, width in ipairs { 1, 2, 5, 13, 20, 33, 80, 150 } do
      local text = check_width(p, width, false)
      lu.assertNil(text:find("\27"), kind)
      lu.assertTrue(#text > 0, kind)
    end
    lu.assertStrContains(check_width(p, 80, true), "\27[0;", false, kind)
  end
end

function T.test_every_kind_is_well_formed_svg()
  for kind, p in pairs(each_kind()) do
    local svg = saved(p, kind .. ".svg")
    lu.assertStrContains(svg, "<svg")
    lu.assertStrContains(svg, "drawn by nablua")
    check_xml(svg)
    check_xml(p:__display({ rich = true, width = 80 })["image/svg+xml"])
  end
end

function T.test_png_has_the_size_asked_for()
  if not has_gnuplot then lu.skip "gnuplot is not installed" end
  local width, height = pictures.png_size(saved(plot.curve({ 1, 2 }, { width = 300, height = 200 }), "a.png"))
  lu.assertEquals({ width, height }, { 600, 400 })
  width, height = pictures.png_size(saved(plot.heatmap(nb.rand(3, 3), { width = 300, height = 200 }), "b.png",
    { scale = 1 }))
  lu.assertEquals({ width, height }, { 300, 200 })
end

function T.test_a_png_has_white_paper_and_ink_of_the_line()
  if not has_gnuplot then lu.skip "gnuplot is not installed" end
  plot.curve({ 1, 2, 1 }, { legend = false }):save(pictures.place:path("c.png"))
  local pixels = nb.load(pictures.place:path("c.png"))
  lu.assertEquals({ pixels:size(2), pixels:size(3) }, { 800, 1280 })
  lu.assertEquals(pixels[{ { 1, 3 }, 1, 1 }]:totable(), { 255, 255, 255 })
  -- The line's colour, #0072B2, in some hundred pixels.
  local count = (pixels[1]:eq(0) & pixels[2]:eq(0x72) & pixels[3]:eq(0xB2)):sum():item()
  lu.assertTrue(count > 1000 and count < 20000)
  numeric.assert_error({ "too large" }, function()
    plot.curve({ 1 }, { width = 8000, height = 8000 }):save(pictures.place:path("huge.png"))
  end)
end

-- ---- what is in a drawing ----

function T.test_a_rising_line_rises_in_svg_and_has_gaps()
  local svg = saved(plot.curve({ 0, 1, 0 / 0, 2, 3 }, { legend = false, width = 400, height = 300 }), "line.svg")
  local points, pieces = {}, {}
  for step, x, y in svg:match('<path d="([^"]*)" fill="none"'):gmatch("([ML])([%d.]+) ([%d.]+)") do
    points[#points + 1], pieces[#pieces + 1] = { tonumber(x), tonumber(y) }, step
  end
  lu.assertEquals(table.concat(pieces), "MLML")
  for i = 2, 4 do
    lu.assertTrue(points[i][1] > points[i - 1][1] and points[i][2] < points[i - 1][2])
  end
  -- x is 1, 2, 4, 5 and y is 0, 1, 2, 3: places are in proportion.
  local step = points[2][1] - points[1][1]
  lu.assertAlmostEquals(points[3][1] - points[2][1], 2 * step, 0.03)
  lu.assertAlmostEquals(points[4][2] - points[3][2], points[2][2] - points[1][2], 0.03)
end

function T.test_pixels_of_a_drawing_come_back()
  local rgb = nb.randint(0, 256, { 5, 7, 3 }):to("u8")
  local path = pictures.place:path("pixels.png")
  native.replace("test", path, native.png(rgb))
  lu.assertTrue(nb.load(path):eq(rgb:permute(3, 1, 2)):all():item())
  numeric.assert_error({ "three channels" }, native.png, nb.zeros(2, 2, 2, { dtype = "u8" }))
  -- RFC 4648, section 10
  local base64 = require "nablua.base64"
  for text, coded in pairs { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==" } do
    lu.assertEquals(base64(text), coded)
  end
end

-- ---- what a curve shows ----

-- In each row with dots the column of the first.
local function first_dots(curve)
  local text = plot.curve(curve, { legend = false }):__display({ width = 40 })["text/plain"]
  local columns = {}
  for _, line in ipairs(pictures.lines(text)) do
    for at, code in utf8.codes(line) do
      if code > 0x2800 and code <= 0x28FF then
        columns[#columns + 1] = utf8.len(line, 1, at)
        break
      end
    end
  end
  return columns
end

-- Dots of a straight line from the bottom left to the top right: each row's first dot is left of the one above.  So are
-- those of a line of more points than there is room for, in the same places.
function T.test_a_rising_line_rises_in_dots()
  local columns = first_dots { 0, 1 }
  lu.assertTrue(#columns >= 8)
  for i = 2, #columns do lu.assertTrue(columns[i] < columns[i - 1]) end
  local many = first_dots(nb.linspace(0, 1, 50000))
  lu.assertEquals(#many, #columns)
  for i, column in ipairs(many) do lu.assertTrue(math.abs(column - columns[i]) <= 1) end
end

function T.test_labels_carry_the_last_values()
  local text = tostring(plot.curve { train = { 3, 2, 0.125 }, valid = { 3, 2, 1.5 } })
  lu.assertStrContains(text, "train  0.125")
  lu.assertStrContains(text, "valid  1.5")
end

function T.test_update_goes_on_and_replaces()
  local p = plot.curve {}
  for i = 1, 5 do p:update { loss = 1 / i } end
  lu.assertStrContains(tostring(p), "loss  0.2")
  p:update { loss = { 7, 8 } }
  lu.assertStrContains(tostring(p), "loss  8")
  p:update { loss = 9, accuracy = 1 }
  lu.assertStrContains(tostring(p), "accuracy  1")
  lu.assertEquals(p.data[1].y:totable(), { 7, 8, 9 })
end

function T.test_update_reads_anew_what_has_changed()
  local w = nb.zeros(2, 2)
  local p = plot.heatmap(w, { title = "W" })
  w[{ 1, 2 }] = 7
  lu.assertEquals(p:update().data:totable(), { { 0, 7 }, { 0, 0 } })
  lu.assertEquals(p:update(nb.ones(1, 3)).data:totable(), { { 1, 1, 1 } })
  lu.assertStrContains(tostring(p:update(nil, { title = "another" })), "another")
  lu.assertEquals(p.data:size(2), 3)
  local s = plot.scatter({ 1, 2 }, { 3, 4 }, { labels = { "a", "b" } })
  lu.assertEquals(s:update({ 5, 6 }, { 7, 8 }).data.y:totable(), { 7, 8 })
  lu.assertEquals(#s.data.groups, 2)
  lu.assertEquals(s:update().data.y:totable(), { 7, 8 })
  lu.assertEquals(s:update(nb.rand(2, 2)).data.x:numel(), 2)
  local net = nn.Sequential { nn.Linear(2, 2) }
  local x, y = data.moons(20)
  local b = plot.boundary(net, { x = x, y = y })
  nb.no_grad(function()
    net[1].weight:zero_()
    net[1].bias:copy_(nb.tensor { 0, 1 })
  end)
  lu.assertEquals(b:update().data.out:argmax(2):eq(2):all():item(), true)
  lu.assertEquals(b:update(nil, { x = x[{ { 1, 5 } }], y = y[{ { 1, 5 } }] }).data.x:numel(), 5)
  numeric.assert_error({ "net must be a function" }, b.update, b, 5)
  numeric.assert_error({ "no option" }, b.update, b, net, { z = 1 })
  lu.assertEquals(#plot.histogram({ a = { 1 } }):update({ a = { 1 }, b = { 2 } }).data, 2)
end

function T.test_series_by_name_have_an_order()
  local names = {}
  for i, s in ipairs(plot.curve({ ["layer 10"] = { 1 }, ["layer 9"] = { 1 }, loss = { 1 }, accuracy = { 1 } }).data) do
    names[i] = s.name
  end
  lu.assertEquals(names, { "loss", "accuracy", "layer 9", "layer 10" })
  -- What nn.fit returns, without its seconds.
  lu.assertEquals(#plot.curve({ loss = { 1, 2 }, seconds = { 3, 3 } }).data, 1)
  local series = {}
  for i = 1, 30 do series[i] = { i, i + 1 } end
  local p, colors = plot.curve(series), {}
  for _, mark in ipairs(p.spec.scene(p).panels[1].marks) do colors[mark.color.rgb] = true end
  local different = 0
  for _ in pairs(colors) do different = different + 1 end
  lu.assertEquals(different, 30)
  check_width(p, 80, true)
end

-- ---- axes ----

function T.test_ticks_are_round_and_inside()
  local axis = require "nablua.plot.axis"
  for _, span in ipairs { { 0, 1 }, { -3, 7 }, { 0.0001, 0.0002 }, { 1e9, 3e9 }, { -1e-7, 1e-7 }, { 99.5, 100.5 },
    { -1e300, 1e300 }, { 5e-324, 1e-320 } } do
    local a = axis.new(span[1], span[2])
    local ticks = a:ticks(6)
    lu.assertTrue(#ticks <= 8)
    for i, t in ipairs(ticks) do
      lu.assertTrue(t[1] >= a.low - 1e-9 * (a.high - a.low) and t[1] <= a.high + 1e-9 * (a.high - a.low))
      if i > 1 then lu.assertNotEquals(t[2], ticks[i - 1][2]) end
    end
  end
  local texts = {}
  for i, t in ipairs(axis.new(0, 1):ticks(5)) do texts[i] = t[2] end
  lu.assertEquals(texts, { "0.0", "0.2", "0.4", "0.6", "0.8", "1.0" })
  texts = {}
  for i, t in ipairs(axis.new(-6, 0, { log = true }):ticks(7)) do texts[i] = t[2] end
  lu.assertEquals(texts, { "10⁻⁶", "10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1", "1" })
end

function T.test_numbers_for_people()
  local want = { [0.07088] = "0.07088", [1e-7] = "10⁻⁷", [-2.5e9] = "-2.5·10⁹", [0] = "0",
    [12345678] = "1.235·10⁷" }
  for v, text in pairs(want) do lu.assertEquals(style.number(v), text) end
  lu.assertEquals(style.number(0 / 0), "nan")
  lu.assertEquals(style.number(-math.huge), "−∞")
end

function T.test_a_line_that_marks_a_place_has_no_last_value()
  local p = plot.curve({ loss = { x = { 1, 2 }, y = { 3, 4.25 } }, here = { x = { 2, 2 }, y = { 0, 7.5 } } })
  local text = tostring(p)
  lu.assertStrContains(text, "4.25")
  lu.assertStrContains(text, "here")
  lu.assertNotStrContains(text, "here  7.5")
end

-- ---- data reduced ----

function T.test_a_reduced_line_keeps_its_extremes_and_ends()
  nb.seed(2)
  local n = 50000
  local x, y = nb.arange(n):to("f64"), nb.randn(n):to("f64")
  local rx, ry, count = native.reduce(x, y, 1, n, 100)
  lu.assertTrue(count <= 4 * 101)
  rx, ry = rx[{ { 1, count } }]:totable(), ry[{ { 1, count } }]:totable()
  lu.assertEquals(ry[1], y:at(1))
  lu.assertEquals(ry[#ry], y:at(n))
  -- In every column the same least and largest as a plain loop finds.
  local low, high, low2, high2 = {}, {}, {}, {}
  local function note(lows, highs, a, b)
    local c = math.floor((a - 1) * 100 / (n - 1))
    lows[c], highs[c] = math.min(lows[c] or b, b), math.max(highs[c] or b, b)
  end
  for i, v in ipairs(y:totable()) do note(low, high, i, v) end
  for i, v in ipairs(ry) do note(low2, high2, rx[i], v) end
  lu.assertEquals(low2, low)
  lu.assertEquals(high2, high)
end

function T.test_bins_count_as_a_loop_does()
  nb.seed(3)
  local x = nb.randn(5000):to("f64")
  local counts, want = native.bin(x, -2, 2, 13):totable(), {}
  for i = 1, 13 do want[i] = 0 end
  for _, v in ipairs(x:totable()) do
    if v >= -2 and v <= 2 then
      local k = math.min(math.floor((v + 2) * (13 / 4)) + 1, 13)
      want[k] = want[k] + 1
    end
  end
  lu.assertEquals(counts, want)
end

function T.test_dots_of_lines_and_points()
  -- Two columns and four rows to a cell, numbered as Unicode numbers them: dots 1, 2, 3 and 7 are the left ones.
  local picture = nb.zeros(4, 4, { dtype = "u8" })
  native.draw_line(picture, f64(0.25, 0.25), f64(0, 1), 0, 1, 0, 1)
  lu.assertEquals(picture:totable(), { { 0, 1, 0, 0 }, { 0, 1, 0, 0 }, { 0, 1, 0, 0 }, { 0, 1, 0, 0 } })
  lu.assertEquals(native.braille(picture), { 0x08 + 0x10 + 0x20 + 0x80, 0 })
  -- What lies far outside is cut off, and does not last.
  picture = nb.zeros(4, 4, { dtype = "u8" })
  native.draw_line(picture, f64(-1e12, 1e12), f64(0.99, 0.99), 0, 1, 0, 1)
  native.draw_line(picture, f64(0, 1 / 0, 0 / 0, 5, 1e308), f64(9, 0.5, 0.5, 5, 1e308), 0, 1, 0, 1)
  lu.assertEquals(picture:sum(2):totable(), { 4, 0, 0, 0 })
  -- A gap stays a gap.
  picture = nb.zeros(1, 10, { dtype = "u8" })
  native.draw_line(picture, f64(0.05, 0.15, 0.5, 0.85, 0.95), f64(0, 0, 0 / 0, 0, 0), 0, 1, -1, 1)
  lu.assertEquals(picture:totable(), { { 1, 1, 0, 0, 0, 0, 0, 0, 1, 1 } })
  nb.seed(5)
  local x, y, want = nb.randn(500):to("f64"), nb.randn(500):to("f64"), {}
  local count = nb.zeros(3, 5, { dtype = "f64" })
  native.draw_points(count, x, y, -1, 1, -1, 1)
  for i = 1, 3 do want[i] = { 0, 0, 0, 0, 0 } end
  for i = 1, 500 do
    local column, row = math.floor((x:at(i) + 1) / 2 * 5) + 1, math.floor((1 - y:at(i)) / 2 * 3) + 1
    if want[row] and want[row][column] then want[row][column] = want[row][column] + 1 end
  end
  lu.assertEquals(count:totable(), want)
end

function T.test_pixels()
  local rgb = nb.tensor({ { { 0, 0, 0 }, { 255, 0, 0 }, { 128, 128, 128 }, { 255, 255, 255 } } }, { dtype = "u8" })
  lu.assertEquals(native.xterm(rgb), { 16, 196, 244, 231 })
  lu.assertEquals(native.resize(rgb, 1, 2):totable(), { { { 128, 0, 0 }, { 192, 192, 192 } } })
  lu.assertEquals(native.resize(rgb, 1, 2, true):totable(), { { { 255, 0, 0 }, { 255, 255, 255 } } })
  lu.assertEquals(native.resize(rgb, 1, 4, true):totable(), rgb:totable())
  lu.assertEquals(native.resize(rgb, 2, 4)[2]:totable(), rgb[1]:totable())
  local colors = style.colorize(nb.tensor({ { -1, 0, 1, 0 / 0, 1 / 0 } }, { dtype = "f64" }), -1, 1, "diverging")
  lu.assertEquals(colors[{ 1, 1 }]:totable(), { 5, 48, 97 })
  lu.assertEquals(colors[{ 1, 3 }]:totable(), { 103, 0, 31 })
  lu.assertEquals(colors[{ 1, 4 }]:totable(), { 200, 200, 200 })
  lu.assertEquals(colors[{ 1, 5 }]:totable(), { 103, 0, 31 })
end

function T.test_confusion_counts()
  local p = plot.confusion(f64(1, 1, 2, 3, 3), f64(1, 2, 2, 3, 1))
  lu.assertEquals(p.data:totable(), { { 1, 1, 0 }, { 0, 1, 0 }, { 1, 0, 1 } })
  lu.assertStrContains(tostring(p), "3 of 5 right (60.0 %)")
end

-- A page, light or dark, is seen between the images, and nothing of it through them.
function T.test_gaps_between_images_have_no_colour_of_their_own()
  local p = plot.images(nb.zeros(2, 3, 3), { columns = 2 })
  local alpha = p.spec.scene(p).panels[1].marks[1].rgb[{ nb.ALL, nb.ALL, 4 }]
  lu.assertEquals(alpha[1]:totable(), { 255, 255, 255, 0, 255, 255, 255 })
end

function T.test_a_boundary_follows_the_net()
  -- Class 2 where x > 0: in every row of the picture the colours change once, in the middle.
  local p = plot.boundary(function(x) return nb.stack({ -x[{ nb.ALL, 1 }], x[{ nb.ALL, 1 }] }, 2) end,
    { range = { -1, 1, -1, 1 } })
  local rgb = p.spec.scene(p).panels[1].marks[1].rgb
  local left, right = rgb[{ 1, 1 }]:totable(), rgb[{ 1, -1 }]:totable()
  lu.assertEquals(left, style.color(1).tint)
  lu.assertEquals(right, style.color(2).tint)
  local half = rgb:size(2) // 2
  lu.assertEquals(rgb[{ 80, half }]:totable(), left)
  lu.assertEquals(rgb[{ 80, half + 1 }]:totable(), right)
end

function T.test_an_activation_and_its_slope()
  local d = plot.activation("sigmoid").data[1]
  lu.assertAlmostEquals(d.y:at(101), 0.5, 1e-12)
  lu.assertAlmostEquals(d.slope:at(101), 0.25, 1e-12)
end

-- ---- bad data, each in a sentence or a picture ----

function T.test_empty_constant_and_infinite_data_are_drawn()
  local nan, inf = 0 / 0, 1 / 0
  local sets = { {}, { 5 }, { 5, 5, 5 }, { nan, nan }, { inf, -inf }, { 1, nan, 2, inf, 3 }, { 0, 0 }, { 1e308,
    -1e308 },
    { 5e-324, 0 }, { -1, -2 } }
  for _, set in ipairs(sets) do
    for _, o in ipairs { {}, { logy = true }, { logx = true } } do
      local made = { plot.curve(set, o), plot.curve({ a = set, b = { 1, 2 } }, o),
        plot.scatter(set, set, { logx = o.logx, logy = o.logy }), plot.histogram(set, { logx = o.logx, logy = o.logy }),
        plot.ridgeline({ a = set, b = set }, { logx = o.logx }) }
      for _, p in ipairs(made) do
        check_width(p, 60, true)
        if p.kind == "curve" and not o.logx then check_xml(saved(p, "bad.svg")) end
      end
    end
    if #set > 0 then check_width(plot.heatmap { set }, 60, true) end
  end
  lu.assertStrContains(tostring(plot.curve {}), "no data")
  lu.assertStrContains(tostring(plot.curve { 1, 0 / 0, 2 }), "1 of 3 values are not finite")
  lu.assertStrContains(tostring(plot.curve({ 1, -1 }, { logy = true })), "1 of 2 values have no place")
  check_width(plot.heatmap(nb.zeros(0, 3)), 60, true)
  check_width(plot.images(nb.full({ 2, 3, 3 }, 0 / 0)), 60, true)
  check_width(plot.filters(nb.zeros(2, 1, 3, 3)), 60, true)
end

function T.test_wrong_arguments_are_named()
  local wrong = {
    { { "plot.curve", "series" }, plot.curve },
    { { "plot.curve", "needs a tensor" }, plot.curve, "x" },
    { { "plot.curve", "loss" }, plot.curve, { loss = { 1, "x" } } },
    { { "plot.curve", "titel", "title" }, plot.curve, { 1 }, { titel = "x" } },
    { { "2 x and 3 y" }, plot.scatter, { 1, 2 }, { 1, 2, 3 } },
    { { "3 points and 2 labels" }, plot.scatter, nb.rand(3, 2), { labels = { 1, 2 } } },
    { { "n×2" }, plot.scatter, nb.rand(3, 3) },
    { { "bins" }, plot.histogram, { 1 }, { bins = 1e6 } },
    { { "matrix" }, plot.heatmap, nb.rand(2, 2, 2) },
    { { "K×K" }, plot.confusion, nb.rand(2, 3) },
    { { "whole numbers" }, plot.confusion, { 0, 1 }, { 1, 1 } },
    { { "a class 3, and 2 names" }, plot.confusion, { 1, 3 }, { 1, 1 }, { classes = { "a", "b" } } },
    { { "two numbers" }, plot.boundary, nn.Linear(3, 1) },
    { { "sigmoide" }, plot.activation, "sigmoide" },
    { { "range" }, plot.activation, "tanh", { range = { 1, 1 } } },
    { { "n×H×W" }, plot.images, nb.rand(2, 2, 2, 2) },
    { { "square" }, plot.filters, nb.rand(2, 7) },
    { { "width", "pixels" }, plot.curve, { 1 }, { width = 5 } },
  }
  for _, w in ipairs(wrong) do numeric.assert_error(table.unpack(w)) end
  numeric.assert_error({ ".svg" }, function() plot.curve({ 1 }):save("x.gif") end)
  numeric.assert_error({ "save", "No such file" }, function() plot.curve({ 1 }):save("/no such folder/x.svg") end)
end

function T.test_hostile_text_stays_text()
  local trap = pictures.place:path("trap")
  os.remove(trap)
  for _, text in ipairs(pictures.hostile) do
    text = text:gsub("%%s", trap)
    local o = { title = text, xlabel = text, ylabel = text }
    local curve = plot.curve({ { name = text, y = { 1, 2 } }, { name = text, y = { 2, 1 } } }, o)
    local matrix = plot.confusion({ 1, 2 }, { 1, 2 }, { classes = { text, text }, title = text })
    local points = plot.scatter(nb.rand(4, 2), { labels = { text, text, "b", "b" }, title = text })
    for i, p in ipairs { curve, matrix, points } do
      local shown = check_width(p, 70, false)
      lu.assertNil(shown:find("[\27\7]"))
      if i == 1 or text:find("touch") then check_xml(saved(p, "hostile.svg")) end
    end
  end
  local f = io.open(trap)
  lu.assertNil(f, "a title ran a command")
  lu.assertStrContains(saved(plot.curve({ 1, 2 }, { title = "100 % <b> `x` 'y' \\n @a" }), "t.svg"),
    "100 % &lt;b&gt; `x` 'y' \\n @a")
  lu.assertStrContains(saved(plot.heatmap({ { 1 } }, { rows = { "5 %d" } }), "t.svg"), "5 %d<")
end

-- ---- without gnuplot ----

function T.test_programs_that_are_missing_or_fail()
  local process, why = native.spawn { "nablua-no-such-program" }
  lu.assertNil(process)
  lu.assertStrContains(why, "No such file")
  process = native.spawn { "sh", "-c", "echo no >&2; exit 3" }
  local out, complaints = process:exchange(("x"):rep(300000), nil, 10)  -- more than a pipe holds, nobody reads it
  lu.assertEquals({ out, complaints }, { "", "no\n" })
  lu.assertFalse(process:alive())
  lu.assertErrorMsgContains("ended", process.exchange, process, "x", nil, 1)
  process = native.spawn { "cat" }
  local long = ("0123456789"):rep(100000)
  lu.assertEquals((process:exchange(long .. "END", "END", 30)), long)
  lu.assertEquals((process:exchange("again END", "END", 30)), "again ")
  process:close()
  -- Nothing that is open here is open there.
  local open <close> = assert(io.open(pictures.place:path("open"), "w"))
  process = native.spawn { "sh", "-c", "ls -l /proc/self/fd" }
  lu.assertNil(process:exchange("", nil, 10):find(pictures.place.folder, 1, true), open)
  process = native.spawn { "sleep", "60" }
  lu.assertErrorMsgContains("in time", process.exchange, process, "", "never", 0.1)
  lu.assertFalse(process:alive())
end

-- ---- many points ----

function T.test_a_million_points_take_a_second()
  if native.hostile then lu.skip "slow on purpose" end
  nb.seed(1)
  local n = os.getenv "ASAN_OPTIONS" and 100000 or 1000000
  local start = native.clock()
  local walk = nb.randn(n):to("f64"):cumsum(1)
  local cloud = nb.randn(n, 2)
  for _, p in ipairs { plot.curve(walk), plot.scatter(cloud), plot.histogram(cloud) } do
    check_width(p, 80, true)
    lu.assertTrue(#saved(p, "many.svg") < 400000)
  end
  lu.assertTrue(native.clock() - start < 30)  -- three kinds, twice each; a busy machine
end

return T
