-- SPDX-License-Identifier: MIT
-- plot.scatter, plot.histogram and plot.boundary: points and how they are spread.
local native = require "nablua.native"
local nb = require "nablua.core"
local axis = require "nablua.plot.axis"
local modes = require "nablua.modes"
local options = require "nablua.options"
local style = require "nablua.plot.style"
local values = require "nablua.plot.values"

local kinds = {}

local MOST_CLASSES = 20

-- Class names of n labels (whole numbers, strings or one-hot rows), and for each class which points belong to it.
local function classes(where, labels, n, names)
  if labels == nil then return nil end
  local order, index = {}, {}
  local list
  if nb.is_tensor(labels) and labels:dim() == 2 and labels:size(2) > 1 and labels:size(1) == n then
    labels = labels:argmax(2)
  end
  if nb.is_tensor(labels) then
    list = values.vector(where, "labels", labels)
  elseif type(labels) == "table" and type(labels[1]) == "string" then
    local numbers = {}
    for i, name in ipairs(labels) do
      name = tostring(name)
      if not index[name] then
        order[#order + 1] = name
        index[name] = #order
      end
      numbers[i] = index[name]
    end
    list, names = values.vector(where, "labels", numbers), names or order
  else
    list = values.vector(where, "labels", labels)
  end
  if list:numel() ~= n then
    native.raise(("%s: there are %d points and %d labels"):format(where, n, list:numel()))
  end
  local found = n > 0 and (list:unique()):totable() or {}
  if #found > MOST_CLASSES then
    native.raise(("%s: the labels have %d different values; at most %d can be told apart"):format(where, #found,
      MOST_CLASSES))
  end
  local out = {}
  for i, v in ipairs(found) do
    local whole = math.tointeger(v)
    out[i] = { value = v, name = tostring(names and whole and names[whole] or whole or v), mask = list:eq(v) }
  end
  return out
end

kinds.scatter = {
  doc = "Points: x and y, or an n×2 tensor; with labels coloured by class.  A million points show their density.",
  signature = "plot.scatter(x, [y], {labels=, classes=, title=, xlabel=, ylabel=, logx=false, logy=false, ...})",
  example = "plot.scatter(nb.randn(50, 2), {labels=nb.arange(50):gt(25)}).kind  --> \"scatter\"",
  see = { "plot.boundary", "plot.histogram" },
  params = { { name = "x", type = "any", doc = "a vector, or a tensor n×2 of points" },
    { name = "y", type = "any", optional = true, positional = true },
    { name = "labels", type = "any", optional = true, doc = "the class of each point: numbers or names" },
    { name = "classes", type = "strings", optional = true, doc = "names of classes 1, 2, ..." } },
  common = axis.options,
  read = function(o)
    local x, y = o.x, o.y
    if y == nil then
      local m = values.matrix("plot.scatter", "the points (x without y)", x)
      if m:size(2) ~= 2 and m:numel() > 0 then
        native.raise("plot.scatter: the points must be n×2, got " .. options.describe(m))
      end
      x, y = m[{ nb.ALL, 1 }]:contiguous(), m[{ nb.ALL, 2 }]:contiguous()
    else
      x, y = values.vector("plot.scatter", "x", x), values.vector("plot.scatter", "y", y)
    end
    if x:numel() ~= y:numel() then
      native.raise(("plot.scatter: there are %d x and %d y"):format(x:numel(), y:numel()))
    end
    return { x = x, y = y, groups = classes("plot.scatter", o.labels, x:numel(), o.classes) }
  end,
  scene = function(self)
    local o, d = self.options, self.data
    local x, y = axis.transform(d.x, o.logx), axis.transform(d.y, o.logy)
    local marks, legend = {}, {}
    for i, g in ipairs(d.groups or { {} }) do
      marks[i] = { type = "points", color = style.color(i), number = g.mask and i,
        x = g.mask and x:masked_select(g.mask) or x, y = g.mask and y:masked_select(g.mask) or y }
      if g.mask and o.legend then
        legend[i] = { text = g.name, color = style.color(i), mark = "point", number = i }
      end
    end
    local lost, all = values.lost { { x, y } }
    return { panels = { { title = o.title, xlabel = o.xlabel, ylabel = o.ylabel, marks = marks, legend = legend,
      x = axis.cover({ { x, y } }, { pad = 0.03, log = o.logx }),
      y = axis.cover({ { y, x } }, { pad = 0.03, log = o.logy }),
      note = values.note(lost, all, o.logx or o.logy) } } }
  end,
}

-- As many bins as Freedman and Diaconis (1981) advise, within reason.
local function bins_for(t, low, high)
  local n = t:numel()
  if n < 2 or high <= low then return 10 end
  local sorted = n > 20000 and t[{ { 1, n, n // 20000 } }]:contiguous() or t
  sorted = (sorted:sort())
  local m = sorted:numel()
  local spread = sorted:at(math.max(1, (3 * m) // 4)) - sorted:at(math.max(1, m // 4))
  local width = 2 * spread / n ^ (1 / 3)
  local bins = width > 0 and (high - low) / width or math.log(n, 2) + 1
  return math.max(5, math.min(math.ceil(bins == bins and bins or 10), 80))
end

kinds.histogram = {
  doc = "How often values occur: bars for one set, outlines for several by name.  Without bins= their number " ..
    "follows the data.",
  signature = "plot.histogram(values, {bins=, title=, xlabel=, ylabel=, logx=false, logy=false, ...})",
  example = "plot.histogram(nb.randn(1000), {bins=20}).kind  --> \"histogram\"", see = { "plot.ridgeline" },
  params = { { name = "values", type = "any", doc = "a tensor of any shape, or several by name" },
    { name = "bins", type = "size", optional = true, doc = "how many equal intervals" } },
  common = axis.options,
  read = function(o)
    if o.bins and o.bins > 2000 then native.raise("plot.histogram: bins must be at most 2000, got " .. o.bins) end
    local given = o.values
    if nb.is_tensor(given) then
      given = given:flatten()
    elseif type(given) == "table" and not getmetatable(given) then
      local flat = {}
      for key, v in pairs(given) do flat[key] = nb.is_tensor(v) and v:flatten() or v end
      given = flat
    end
    return values.series("plot.histogram", given)
  end,
  scene = function(self)
    local o, all = self.options, {}
    local longest
    for i, s in ipairs(self.data) do
      local t = axis.transform(s.y, o.logx)
      all[i] = { t }
      if not longest or t:numel() > longest:numel() then longest = t end
    end
    local x = axis.cover(all, { log = o.logx })
    local finite = longest and longest:masked_select((longest - longest):eq(0)) or nb.zeros(0, { dtype = "f64" })
    local bins = o.bins or bins_for(finite, x.low, x.high)
    local marks, legend, most = {}, {}, 0
    for i in ipairs(self.data) do
      local counts = native.bin(all[i][1], x.low, x.high, bins)
      if o.logy then counts = axis.transform(counts, true) end
      local _, top = native.range(counts)
      most = math.max(most, top or 0)
      if #self.data == 1 then
        marks[1] = { type = "bars", low = x.low, high = x.high, counts = counts:masked_fill(counts:ne(counts),
          -1):contiguous(), color = style.color(1) }
      else
        -- The outline: up and down at every edge.
        local edges = nb.linspace(x.low, x.high, bins + 1, { dtype = "f64" }):repeat_interleave(2)
        local floor = nb.full({ 1 }, o.logy and -1 or 0, { dtype = "f64" })
        local heights = counts:masked_fill(counts:ne(counts), -1):repeat_interleave(2)
        marks[i] = { type = "line", x = edges:contiguous(), y = nb.cat({ floor, heights, floor }, 1):contiguous(),
          color = style.series(i, #self.data), number = i }
        if o.legend then
          legend[i] = { text = self.data[i].name, color = marks[i].color, mark = "line", number = i }
        end
      end
    end
    local y = axis.new(o.logy and -0.3 or 0, math.max(most, o.logy and 0.1 or 1) * 1.05, { log = o.logy })
    local lost, count = values.lost(all)
    return { panels = { { title = o.title, xlabel = o.xlabel, ylabel = o.ylabel or "count", marks = marks,
      legend = legend, x = x, y = y, note = values.note(lost, count, o.logx) } } }
  end,
}

-- ---- decision boundaries ----

local GRID = 160

-- The class of each point of a grid that the net gives, 1..K, and how sure it is, both f64 GRID×GRID, top row first.
local function decide(net, x, y)
  -- The middles of the cells: every second one of a grid twice as fine.
  local columns = nb.linspace(x.low, x.high, 2 * GRID + 1)[{ { 2, 2 * GRID, 2 } }]
  local rows = nb.linspace(y.high, y.low, 2 * GRID + 1)[{ { 2, 2 * GRID, 2 } }]
  local grid = nb.stack({ columns:view(1, GRID):expand(GRID, GRID), rows:view(GRID, 1):expand(GRID, GRID) }, 3)
  grid = grid:contiguous():view(GRID * GRID, 2)
  local function give() return nb.no_grad(net, grid) end
  local ok, out
  local module = package.loaded["nablua.nn.module"]  -- where it is not loaded there are no modules
  if module and module.is(net) then
    ok, out = pcall(modes.with, net, false, give)
  else
    ok, out = pcall(give)
  end
  if not ok then
    native.raise("plot.boundary: the net must take points of two numbers: " .. tostring(out))
  end
  if not nb.is_tensor(out) or out:size(1) ~= GRID * GRID or out:dim() > 2 then
    native.raise("plot.boundary: the net must give a row for each point, got " .. options.describe(out))
  end
  out = out:to("f64"):view(GRID * GRID, -1)
  return out
end

-- Whether numbers are logits or probabilities cannot be seen from one output; its last layer tells.
local function is_probability(net, out)
  local last = type(net) == "table" and net[#net]
  local kind = type(last) == "table" and type(last.kind) == "function" and last:kind()
  if kind then return kind == "Sigmoid" end
  local low, high = native.range(out:flatten():contiguous())
  return low and low >= 0 and high <= 1
end

kinds.boundary = {
  doc = "What a net of two inputs decides over the plane, with the points of a set above it.  Nets of one output " ..
    "decide at 0, or at 0.5 where they end in a sigmoid; those of several by the largest.",
  signature = "plot.boundary(net, {x=, y=, classes=, range=, title=, xlabel=, ylabel=, ...})",
  example = [[
local x, y = data.moons(60)
return plot.boundary(nn.Linear(2, 2), {x=x, y=y}).kind  --> "boundary"]], see = { "plot.scatter", "data.spirals" },
  params = { { name = "net", type = "function", doc = "a module or function of n×2 points" },
    { name = "x", type = "tensor", optional = true, doc = "points n×2" },
    { name = "y", type = "any", optional = true, doc = "their classes" },
    { name = "classes", type = "strings", optional = true, doc = "names of the classes" },
    { name = "range", type = "numbers", optional = true, doc = "{x low, x high, y low, y high}; else what x needs" } },
  common = { "title", "xlabel", "ylabel", "legend", "width", "height" },
  read = function(o)
    local d = {}
    if o.x then
      local m = values.matrix("plot.boundary", "x", o.x)
      if m:size(2) ~= 2 then native.raise("plot.boundary: x must be n×2, got " .. options.describe(o.x)) end
      d.x, d.y = m[{ nb.ALL, 1 }]:contiguous(), m[{ nb.ALL, 2 }]:contiguous()
      d.groups = classes("plot.boundary", o.y, d.x:numel(), o.classes)
    elseif o.y ~= nil then
      native.raise("plot.boundary: there are classes y but no points x")
    end
    local r = o.range
    local span = r and #r == 4 and math.min(r[2] - r[1], r[4] - r[3])
    if r and not (span and span > 0 and math.max(r[2] - r[1], r[4] - r[3]) < math.huge) then
      native.raise("plot.boundary: range must be {x low, x high, y low, y high}, got " .. options.show(r))
    end
    local unit = nb.tensor({ -1, 1 }, { dtype = "f64" })
    d.across = r and axis.new(r[1], r[2]) or axis.cover({ { d.x or unit } }, { pad = 0.08 })
    d.up = r and axis.new(r[3], r[4]) or axis.cover({ { d.y or unit } }, { pad = 0.08 })
    d.out = decide(o.net, d.across, d.up)
    return d
  end,
  scene = function(self)
    local o, d = self.options, self.data
    local x, y, out = d.across, d.up, d.out
    local k = out:size(2)
    local class
    if k == 1 then
      class = out:gt(is_probability(o.net, out) and 0.5 or 0):to("i64"):flatten() + 1
      k = 2
    else
      class = out:argmax(2)
    end
    -- Colour i belongs to class i; of points whose classes are 0 and 1 to 0 first.
    local function lut(field)
      local rows = {}
      for i = 1, k do rows[i] = style.color(i)[field] end
      return nb.tensor(rows, { dtype = "u8" }):index_select(1, class:to("i64")):view(GRID, GRID, 3)
    end
    local shades = ((class:to("f64") - 0.5) * (255 / k)):to("u8"):view(GRID, GRID, 1):expand(GRID, GRID, 3):contiguous()
    local marks = { { type = "raster", classes = true, rgb = lut "tint", cells = lut "shade", mono = shades,
      x0 = x.low, x1 = x.high, y0 = y.low, y1 = y.high } }
    local legend = {}
    local zero = d.groups and d.groups[1] and d.groups[1].value == 0
    for i, g in ipairs(d.groups or d.x and { {} } or {}) do
      local number = g.value and math.tointeger(g.value)
      local at = number and number + (zero and 1 or 0) or i
      local color = g.mask and style.color(math.max(at, 1)) or style.soft
      marks[#marks + 1] = { type = "points", outline = true, number = at, color = color,
        x = g.mask and d.x:masked_select(g.mask) or d.x, y = g.mask and d.y:masked_select(g.mask) or d.y }
      if g.mask and o.legend then legend[#legend + 1] = { text = g.name, color = color, mark = "point",
        number = at } end
    end
    local lost, all = values.lost(d.x and { { d.x, d.y } } or {})
    return { width = 520, height = 460, panels = { { title = o.title, xlabel = o.xlabel, ylabel = o.ylabel,
      marks = marks, legend = legend, x = x, y = y, plain = true, note = all > 0 and values.note(lost, all) or nil } } }
  end,
}

return kinds
