-- SPDX-License-Identifier: MIT
-- plot.heatmap, plot.confusion, plot.images and plot.filters: matrices as coloured cells and pixels.
local native = require "nablua.native"
local nb = require "nablua.core"
local axis = require "nablua.plot.axis"
local options = require "nablua.options"
local style = require "nablua.plot.style"
local values = require "nablua.plot.values"

local kinds = {}

local function names_option(where, name, list, n)
  if list == nil then return nil end
  if #list ~= n then
    native.raise(("%s: there are %d %s for %d"):format(where, #list, name, n))
  end
  return list
end

-- "1", "2" ... for a few; an axis with numbers for many.
local function index_axis(n, names)
  if names then return axis.named(names) end
  if n > 12 then return axis.new(0.5, n + 0.5) end
  local list = {}
  for i = 1, n do list[i] = tostring(i) end
  return axis.named(list)
end

-- Row 1 is at the top: its axis runs downward, from its last name to its first.
local function downward(n, names)
  local list = {}
  for i = 1, n do list[i] = names and names[n + 1 - i] or tostring(n + 1 - i) end
  if names or n <= 12 then return axis.named(list) end
  local a = axis.new(0.5, n + 0.5)
  local upward = a.ticks
  function a.ticks(self, most)
    local out = {}
    for _, t in ipairs(upward(self, most)) do
      local row = n + 1 - t[1]
      if t[1] % 1 == 0 and t[1] >= 1 and t[1] <= n then out[#out + 1] = { row, t[2] } end
    end
    return out
  end
  return a
end

-- The numbers of a small matrix, in its cells.
local function cell_texts(m, format, low, high, scale, longest)
  local h, w = m:size(1), m:size(2)
  local texts = { type = "texts", columns = w, rows = h, longest = 1 }
  for i, row in ipairs(m:totable()) do
    for j, v in ipairs(row) do
      local text = format(v)
      texts.longest = math.max(texts.longest, style.width(text))
      texts[#texts + 1] = { x = j, y = h + 1 - i, text = text, white = style.dark(v, low, high, scale) }
    end
  end
  return texts.longest <= longest and texts or nil
end

local MOST_CELLS = 4000000

-- ---- matrices ----

kinds.heatmap = {
  doc = "A matrix as coloured cells, row 1 at the top; small ones with their numbers.  Values of both signs are " ..
    "blue below zero and red above it.",
  signature = "plot.heatmap(matrix, {rows=, columns=, range=, scale=, numbers=, title=, xlabel=, ylabel=, ...})",
  example = "plot.heatmap(nb.randn(8, 12), {title=\"W1\"}).kind  --> \"heatmap\"", see = { "plot.confusion" },
  params = { { name = "matrix", type = "any" },
    { name = "rows", type = "strings", optional = true, doc = "names of the rows" },
    { name = "columns", type = "strings", optional = true, doc = "names of the columns" },
    { name = "range", type = "numbers", optional = true, doc = "the values at the ends of the colour scale" },
    { name = "scale", choices = style.scales, optional = true, doc = "the colours" },
    { name = "numbers", type = "boolean", optional = true, doc = "write the numbers into the cells" } },
  common = { "title", "xlabel", "ylabel", "width", "height" },
  read = function(o)
    local m = o.matrix
    if nb.is_tensor(m) and m:dim() == 1 then m = m:unsqueeze(1) end
    m = values.matrix("plot.heatmap", "the matrix", m)
    if m:numel() > MOST_CELLS then
      native.raise(("plot.heatmap: %s has more cells than a picture has pixels; take a part of " ..
        "it"):format(options.shape(m)))
    end
    names_option("plot.heatmap", "rows", o.rows, m:size(1))
    names_option("plot.heatmap", "columns", o.columns, m:size(2))
    local r = o.range
    local span = r and #r == 2 and r[2] - r[1]
    if r and not (span and span > 0 and span < math.huge) then
      native.raise("plot.heatmap: range must be two numbers, the smaller first, got " .. options.show(r))
    end
    return m
  end,
  scene = function(self)
    local o, m = self.options, self.data
    local h, w = m:size(1), m:size(2)
    local low, high, finite = native.range(m:flatten():contiguous())
    local note = values.note(m:numel() - finite, m:numel())
    low, high = low or 0, high or 1
    local scale = o.scale or low < 0 and high > 0 and "diverging" or "sequential"
    if scale == "diverging" and not o.range then
      high = math.max(math.abs(low), math.abs(high))
      low = -high
    end
    if o.range then low, high = o.range[1], o.range[2] end
    local panel = { title = o.title, xlabel = o.xlabel, ylabel = o.ylabel, plain = true, note = note,
      x = index_axis(w, o.columns), y = downward(h, o.rows), marks = {},
      bar = { low = low, high = high, scale = scale }, square = w <= 8 * h and h <= 8 * w }
    if m:numel() > 0 then
      panel.marks[1] = { type = "raster", rgb = style.colorize(m, low, high, scale), x0 = 0.5, x1 = w + 0.5, y0 = 0.5,
        y1 = h + 0.5, mono = style.colorize(m, low, high, "grey") }
      if o.numbers or (o.numbers == nil and w <= 12 and h <= 12) then
        panel.texts = cell_texts(m, function(v) return style.number(v, 2) end, low, high, scale, 8)
        panel.marks[2] = panel.texts
      end
    end
    return { panels = { panel }, width = 560, height = 440 }
  end,
}

-- Class numbers 1..K of n samples, or the largest of each row.
local function labels_of(what, v)
  if nb.is_tensor(v) and v:dim() == 2 and v:size(2) > 1 then return v:argmax(2):to("f64"):contiguous() end
  return values.vector("plot.confusion", what, v)
end

kinds.confusion = {
  doc = "How often each class (rows) was taken for each (columns): from class numbers 1..K, or rows of scores, or " ..
    "the matrix itself.  Colours are shares of the row, so that rare classes show.",
  signature = "plot.confusion(truth, [guess], {classes=, title=, width=, height=})",
  example = "plot.confusion({1, 2, 2}, {1, 2, 1}).data:at(2, 1)  --> 1", see = { "plot.heatmap", "nn.fit" },
  params = { { name = "truth", type = "any", doc = "class numbers, or a K×K matrix of counts" },
    { name = "guess", type = "any", optional = true, positional = true, doc = "class numbers, or n×K scores" },
    { name = "classes", type = "strings", optional = true, doc = "names of the classes" } },
  common = { "title", "width", "height" },
  read = function(o)
    local matrix
    if o.guess == nil then
      matrix = values.matrix("plot.confusion", "the matrix (there is no guess)", o.truth)
      if matrix:size(1) ~= matrix:size(2) or matrix:numel() == 0 then
        native.raise("plot.confusion: the matrix must be K×K, got " .. options.describe(matrix))
      end
    else
      local truth, guess = labels_of("truth", o.truth), labels_of("guess", o.guess)
      if truth:numel() ~= guess:numel() then
        native.raise(("plot.confusion: there are %d true classes and %d guesses"):format(truth:numel(), guess:numel()))
      end
      local k = o.classes and #o.classes or 0
      for _, t in ipairs { truth, guess } do
        local low, high, finite = native.range(t)
        if finite < t:numel() or (low and (low < 1 or high > 1000 or t:ne(t:floor()):any():item())) then
          native.raise("plot.confusion: classes must be whole numbers from 1 to 1000")
        end
        if not o.classes then k = math.max(k, math.tointeger(high or 1)) end
        if (high or 1) > k then
          native.raise(("plot.confusion: there is a class %d, and %d names of classes"):format(math.tointeger(high), k))
        end
      end
      local pairs_of = (truth - 1) * k + guess
      matrix = native.bin(pairs_of:contiguous(), 0.5, k * k + 0.5, k * k):view(k, k)
    end
    names_option("plot.confusion", "classes", o.classes, matrix:size(1))
    return matrix
  end,
  scene = function(self)
    local o, m = self.options, self.data
    local k = m:size(1)
    local total = m:sum(2, { keepdim = true })
    local share = nb.where(total:gt(0), m / total, 0)
    local right, all = m:diag():sum():item(), m:sum():item()
    local note = "no data"
    if all > 0 then
      note = ("%s of %s right (%.1f %%)"):format(style.number(right, 9), style.number(all, 9), 100 * right / all)
    end
    local panel = { title = o.title, xlabel = "predicted", ylabel = "true", plain = true, square = true, note = note,
      x = index_axis(k, o.classes), y = downward(k, o.classes),
      marks = { { type = "raster", rgb = style.colorize(share, 0, 1, "counts"), x0 = 0.5, x1 = k + 0.5, y0 = 0.5,
        y1 = k + 0.5 } } }
    if k <= 25 then
      local texts = cell_texts(m, function(v) return v == 0 and "" or style.number(v, 6) end, 0, 1, "counts", 9)
      if texts then
        local shares = share:totable()
        for i, t in ipairs(texts) do
          local row, column = (i - 1) // k + 1, (i - 1) % k + 1
          t.white, t.bold = style.dark(shares[row][column], 0, 1, "counts"), row == column
        end
        panel.texts, panel.marks[2] = texts, texts
      end
    end
    return { panels = { panel }, width = 560, height = 540 }
  end,
}

-- ---- pixels ----

-- One raster of many images u8 H×W×3, in a grid; the gaps are black, or of four channels, and the page is seen there.
local function compose(list, columns, h, w, gap, channels)
  local rows = math.ceil(#list / columns)
  local sheet = nb.zeros(rows * (h + gap) - gap, columns * (w + gap) - gap, channels, { dtype = "u8" })
  for i, image in ipairs(list) do
    local top, left = (i - 1) // columns * (h + gap), (i - 1) % columns * (w + gap)
    local place = sheet[{ { top + 1, top + h }, { left + 1, left + w }, nb.ALL }]
    place[{ nb.ALL, nb.ALL, { 1, 3 } }] = image
    if channels == 4 then place[{ nb.ALL, nb.ALL, 4 }] = 255 end
  end
  return sheet
end

-- The images as u8 H×W×3 each: numbers 0..255 of u8, else from `low` to `high`.
local function to_pixels(t, low, high, scale)
  local n, channels, list = t:size(1), t:size(2), {}
  for i = 1, n do
    if channels == 3 then
      local x = t[i]:permute(2, 3, 1)
      list[i] = nb.where(x:ne(x), 200, ((x - low) / (high > low and high - low or 1) * 255):clamp(0,
        255) + 0.5):floor():to("u8")
        :contiguous()
    else
      list[i] = style.colorize(t[i][1], low, high, scale)
    end
  end
  return list
end

local MOST_IMAGES = 400

-- Images beside each other for a sheet somewhat wider than high, without a ragged end if that is near.
local function columns_for(n, ratio)
  local ideal = math.ceil(math.sqrt(n * 1.6 * ratio))
  for _, c in ipairs { ideal, ideal + 1, ideal - 1, ideal + 2 } do
    if c >= 1 and c <= n and n % c == 0 then return c end
  end
  return ideal
end

local function sheet_scene(self, list, labels)
  local o = self.options
  local h, w = list[1]:size(1), list[1]:size(2)
  local columns = math.min(o.columns or columns_for(#list, h / w), #list)
  local rows = math.ceil(#list / columns)
  local gap = math.max(1, math.min(h, w) // 12)
  if labels then
    -- A panel each, so that every image has its name.
    local panels = {}
    for i, image in ipairs(list) do
      local x, y = axis.new(0, w), axis.new(0, h)
      x.hidden, y.hidden = true, true
      panels[i] = { title = labels[i], x = x, y = y, square = true, plain = true, pixels = { w, h },
        marks = { { type = "raster", rgb = image, x0 = 0, x1 = w, y0 = 0, y1 = h } } }
    end
    local each = math.min(130, style.page / columns)
    return { title = o.title, panels = panels, columns = columns, width = columns * each,
      height = rows * ((each - 20) * h / w + 50) + 40 }
  end
  local sheet = compose(list, columns, h, w, gap, 4)
  local height, width = sheet:size(1), sheet:size(2)
  local x, y = axis.new(0, width), axis.new(0, height)
  x.hidden, y.hidden = true, true
  local pixels = math.max(480, math.min(style.page, width * 6))
  return { width = pixels, height = pixels * height / width + (o.title and 60 or 30) + (self.bar and 10 or 0),
    panels = { { title = o.title, x = x, y = y, square = true, plain = true, note = self.note, bar = self.bar,
      pixels = { width, height }, marks = { { type = "raster", rgb = sheet, x0 = 0, x1 = width, y0 = 0, y1 = height,
        cells = compose(list, columns, h, w, gap, 3) } } } } }
end

kinds.images = {
  doc = "Images in a grid: n×H×W, n×1×H×W or n×3×H×W; one as H×W.  u8 counts from 0 to 255, other dtypes " ..
    "from their least to their largest number.",
  signature = "plot.images(x, {columns=, labels=, range=, scale=\"grey\", title=, width=, height=})",
  example = "plot.images(nb.rand(6, 8, 8), {columns=3}).kind  --> \"images\"", see = { "plot.filters" },
  params = { { name = "x", type = "tensor" },
    { name = "columns", type = "size", optional = true, doc = "images beside each other" },
    { name = "labels", type = "strings", optional = true, doc = "a text above each image" },
    { name = "range", type = "numbers", optional = true, doc = "the values of black and white" },
    { name = "scale", choices = style.scales, default = "grey", doc = "the colours of one channel" } },
  common = { "title", "width", "height" },
  read = function(o, self)
    local x = o.x
    if x:dim() == 2 then x = x:unsqueeze(1) end
    if x:dim() == 3 then x = x:unsqueeze(2) end
    if x:dim() ~= 4 or (x:size(2) ~= 1 and x:size(2) ~= 3) then
      native.raise("plot.images: images must be n×H×W, n×1×H×W or n×3×H×W, got " .. options.describe(o.x))
    end
    if x:numel() == 0 then native.raise("plot.images: there are no pixels in " .. options.describe(o.x)) end
    local n = math.min(#x, MOST_IMAGES)
    if x:size(3) * x:size(4) > MOST_CELLS then native.raise("plot.images: too large, " .. options.describe(o.x)) end
    if x:size(3) * x:size(4) * n > MOST_CELLS then n = math.max(1, MOST_CELLS // (x:size(3) * x:size(4))) end
    self.note = n < #x and ("the first %d of %d"):format(n, #x) or nil
    if o.labels and #o.labels < n then
      native.raise(("plot.images: there are %d labels for %d images"):format(#o.labels, n))
    end
    local low, high = 0, 255
    local t = values.tensor("plot.images", "x", x[{ { 1, n } }])
    if o.range then
      low, high = o.range[1], o.range[2]
      local rising = high and low < high
      if #o.range ~= 2 or not rising then
        native.raise("plot.images: range must be two numbers, the smaller first, got " .. options.show(o.range))
      end
    elseif o.x.dtype ~= "u8" then
      low, high = native.range(t:flatten():contiguous())
    end
    return to_pixels(t, low or 0, high or 1, o.scale)
  end,
  scene = function(self) return sheet_scene(self, self.data, self.options.labels) end,
}

-- The weight of the first convolution in what was given.
local function weight_of(v)
  if nb.is_tensor(v) then return v end
  if nb.nn.is_module(v) then
    local weight
    v:apply(function(m)
      local w = rawget(m, "weight")
      if not weight and nb.is_tensor(w) and w:dim() == 4 then weight = w end
    end)
    if weight then return weight end
    local first = v:parameters()[1]
    if first and first:dim() == 2 then return first end
    native.raise("plot.filters: there is no convolution or linear layer in " .. v:kind())
  end
  native.raise("plot.filters: needs a layer, a net or a weight, got " .. options.describe(v))
end

kinds.filters = {
  doc = "What a layer's filters look for: of a convolution each filter (in each input channel, or coloured where " ..
    "there are three), of a linear layer over square images each row.  Blue is negative, white zero, red positive.",
  signature = "plot.filters(layer, {columns=, title=, width=, height=})",
  example = "plot.filters(nn.Conv2d(1, 8, 5)).kind  --> \"filters\"", see = { "plot.images", "nn.Conv2d" },
  params = { { name = "layer", type = "any", doc = "a net, whose first convolution is shown, a layer, or a weight" },
    { name = "columns", type = "size", optional = true, doc = "filters beside each other" } },
  common = { "title", "width", "height" },
  read = function(o, self)
    local w = values.tensor("plot.filters", "the weight", weight_of(o.layer))
    if w:dim() == 2 then
      local side = math.floor(math.sqrt(w:size(2)) + 0.5)
      if side * side ~= w:size(2) then
        native.raise(("plot.filters: rows of %d weights make no square image"):format(w:size(2)))
      end
      w = w:view(#w, 1, side, side)
    end
    if w:dim() == 3 then w = w:unsqueeze(3) end
    if w:dim() ~= 4 or w:numel() == 0 then
      native.raise("plot.filters: a weight must be filters×channels×H×W, got " .. options.describe(w))
    end
    local color = w:size(2) == 3
    if not color then w = w:reshape(w:size(1) * w:size(2), 1, w:size(3), w:size(4)) end
    local n = math.min(#w, MOST_IMAGES)
    self.note = n < #w and ("the first %d of %d"):format(n, #w) or nil
    w = w[{ { 1, n } }]:contiguous()
    local low, high = native.range(w:flatten())
    local most = math.max(math.abs(low or 1), math.abs(high or 1))
    self.bar = not color and { low = -most, high = most, scale = "diverging" } or nil
    return to_pixels(w, -most, most, "diverging")
  end,
  scene = function(self) return sheet_scene(self, self.data) end,
}

return kinds
