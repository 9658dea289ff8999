-- SPDX-License-Identifier: MIT
-- plot.curve, plot.ridgeline and plot.activation: lines over an axis.
local native = require "nablua.native"
local nb = require "nablua.core"
local axis = require "nablua.plot.axis"
local options = require "nablua.options"
local style = require "nablua.plot.style"
local values = require "nablua.plot.values"

local kinds = {}

-- Whether a line goes straight up, as one that marks a place does: its last value says nothing.
local function is_upright(s)
  return s.x and s.x:numel() > 1 and s.x:min():item() == s.x:max():item()
end

-- A panel of lines: each { name=, x=, y= }, coloured in their order.
local function panel_of(series, o)
  local marks, xs, ys, ends, counted = {}, {}, {}, {}, true
  for i, s in ipairs(series) do
    local x = axis.transform(s.x or values.count(s.y:numel()), o.logx)
    local y = axis.transform(s.y, o.logy)
    counted = counted and not s.x
    marks[i] = { type = "line", x = x, y = y, color = s.color or style.series(i, #series), number = i,
      dashed = s.dashed, width = s.width }
    xs[i], ys[i] = { x, y }, { y, x }
    if o.legend ~= false then
      local last = values.last(y)
      if last then
        local number = o.values ~= false and not is_upright(s) and style.number(s.y:at(-1)) or ""
        local text = s.name and (number ~= "" and s.name .. "  " .. number or s.name) or number
        ends[#ends + 1] = { y = last, text = text, color = marks[i].color }
      end
    end
  end
  local lost, all = values.lost(xs)
  return {
    title = o.title, xlabel = o.xlabel, ylabel = o.ylabel, marks = marks, ends = ends,
    x = axis.cover(xs, { log = o.logx, whole = counted }), y = axis.cover(ys, { pad = 0.04, log = o.logy }),
    note = values.note(lost, all, o.logx or o.logy),
  }
end

kinds.curve = {
  doc = "Lines: losses over epochs, or any series.  Each is labelled at its end with its name and last value.  " ..
    "Series are a vector, a matrix of columns, a list, or a table of vectors or {x=, y=} by name, such as what " ..
    "nn.fit returns.",
  signature = "plot.curve(series, {title=, xlabel=, ylabel=, logx=false, logy=false, legend=true, width=, height=})",
  example = "plot.curve({train={3, 2, 1}, valid={3, 2.5, 2}}, {xlabel=\"epoch\", logy=true}).kind  --> \"curve\"",
  see = { "p:update", "p:save", "nn.fit" },
  params = { { name = "series", type = "any" } }, common = axis.options,
  read = function(o) return values.series("plot.curve", o.series) end,
  -- Numbers go on with the series of their names; anything else takes the place of all.
  update = function(self, series, ...)
    if series == nil then return end
    local numbers = type(series) == "table" and not getmetatable(series) and next(series) ~= nil
    if numbers then
      for name, v in pairs(series) do numbers = numbers and type(name) == "string" and type(v) == "number" end
    end
    if not numbers then
      self.data = values.series("plot.curve", self.spec.arguments(series, ...).series)
      return
    end
    local by_name = {}
    for _, s in ipairs(self.data) do by_name[s.name or ""] = s end
    local names = {}
    for name in pairs(series) do names[#names + 1] = name end
    table.sort(names)
    if #self.data == 1 and self.data[1].y and self.data[1].y:numel() == 0 and
      not self.data[1].name then self.data = {} end
    for _, name in ipairs(names) do
      local s = by_name[name]
      if s and s.x then
        native.raise(("update: series %s has x of its own; give all of it anew"):format(name))
      end
      if not s then
        s = { name = name, rows = {} }
        self.data[#self.data + 1] = s
      end
      if not s.rows then s.rows = s.y:totable() end
      s.rows[#s.rows + 1], s.y = series[name], nil
    end
  end,
  scene = function(self)
    for _, s in ipairs(self.data) do
      if not s.y then s.y = nb.tensor(s.rows, { dtype = "f64" }) end
    end
    return { panels = { panel_of(self.data, self.options) } }
  end,
}

-- ---- activations ----

local SAMPLES = 201

-- "sigmoid", nn.Sigmoid(), nb.sigmoid or any function: its name and itself.
local function activation(v)
  if type(v) == "string" then
    local f = nb[v:lower()]
    if type(f) ~= "function" then
      native.raise(('plot.activation: there is no function "%s"; give a name such as "sigmoid", a layer or a function')
        :format(style.clean(v)))
    end
    return v:lower(), f
  end
  if nb.is_tensor(v) or not options.is_callable(v) then
    native.raise("plot.activation: needs a name, a layer or a function, got " .. options.describe(v))
  end
  local entry = require("nablua.registry").find(v)
  local name = type(v) == "table" and v.kind and v:kind() or entry and entry.name:gsub("^nb%.", "") or "f"
  return name, v
end

-- The function's values and slopes at x, and the points where neither is a number.
local function sample(f, name, x)
  local input = x:clone()
  input.requires_grad = true
  local ok, y = pcall(f, input)
  if not ok then native.raise(("plot.activation: %s fails: %s"):format(name, tostring(y))) end
  if not nb.is_tensor(y) or y:numel() ~= x:numel() then
    native.raise(("plot.activation: %s must give one number for each, got %s"):format(name, options.describe(y)))
  end
  local slope = nb.grad(y:sum(), input) or nb.zeros_like(x)
  return y:detach():to("f64"):contiguous(), slope:to("f64"):contiguous()
end

kinds.activation = {
  doc = "An activation and its derivative, as a lecture's slide shows them; several side by side from a list.",
  signature = "plot.activation(f, {range={-5, 5}, title=, width=, height=})",
  example = "plot.activation(\"sigmoid\").data[1].name  --> \"sigmoid\"", see = { "nb.sigmoid", "nn.ReLU" },
  params = { { name = "f", type = "any", doc = "a name, a layer, a function, or a list of them" },
    { name = "range", type = "numbers", default = { -5, 5 }, doc = "the least and largest x" } },
  read = function(o)
    local low, high = o.range[1], o.range[2]
    local rising = high and low < high
    if #o.range ~= 2 or not rising or low == -math.huge or high == math.huge then
      native.raise("plot.activation: range must be two numbers, the smaller first, got " .. options.show(o.range))
    end
    local list, given = {}, o.f
    if type(given) ~= "table" or getmetatable(given) or nb.is_tensor(given) then given = { given } end
    if #given == 0 or #given > 16 then native.raise("plot.activation: needs one to 16 functions, got " .. #given) end
    for i, v in ipairs(given) do
      local name, f = activation(v)
      local x = nb.linspace(low, high, SAMPLES, { dtype = "f64" })
      local y, slope = sample(f, name, x)
      list[i] = { name = name, x = x, y = y, slope = slope }
    end
    return list
  end,
  scene = function(self)
    local panels, n = {}, #self.data
    for i, f in ipairs(self.data) do
      local p = panel_of({ { name = "f", x = f.x, y = f.y, width = 2.5 },
        { name = "f′", x = f.x, y = f.slope, color = style.color(2), dashed = true, width = 2.5 } },
        { title = n > 1 and f.name or self.options.title or f.name, xlabel = "z", values = false })
      local names = n > 1 and { "f", "f′" } or { f.name .. "(z)", f.name .. "′(z)" }
      p.ends, p.legend = nil, {}
      for k = 1, 2 do p.legend[k] = { text = names[k], color = style.color(k), mark = "line", number = k } end
      panels[i] = p
    end
    local columns = n <= 3 and n or n == 4 and 2 or 3
    local rows = math.ceil(n / columns)
    return { title = n > 1 and self.options.title or nil, panels = panels, columns = columns,
      width = n == 1 and 560 or math.min(columns * 340, style.page), height = n == 1 and 380 or rows * 280 }
  end,
}

-- ---- ridgelines ----

local BINS = 160

-- The density of samples over bins, smoothed by a Gaussian of about a fiftieth of the range.
local function density(t, low, high)
  local counts = native.bin(t, low, high, BINS)
  local reach, sigma = 9, 3
  local kernel = (values.count(2 * reach + 1) - (reach + 1)):square():mul(-0.5 / sigma ^ 2):exp()
  kernel = kernel / kernel:sum()
  local padded = nb.cat({ nb.zeros(reach, { dtype = "f64" }), counts, nb.zeros(reach, { dtype = "f64" }) }, 1)
  local smooth = nb.conv1d(padded:view(1, 1, -1), kernel:view(1, 1, -1)):flatten()
  local most = smooth:max():item()
  return (most > 0 and smooth / most or smooth):contiguous()
end

kinds.ridgeline = {
  doc = "Distributions one above another, each scaled to its own highest: gradients layer by layer, or weights " ..
    "step by step.",
  signature = "plot.ridgeline(samples, {title=, xlabel=, logx=false, width=, height=})",
  example = "plot.ridgeline({W1=nb.randn(99), W2=nb.randn(99)}).kind  --> \"ridgeline\"", see = { "plot.histogram" },
  params = { { name = "samples", type = "any",
    doc = "a list of {name=, y=}, or tensors by name; the first is on top" } },
  common = { "title", "xlabel", "logx", "width", "height" },
  read = function(o)
    local list
    if type(o.samples) == "table" and not getmetatable(o.samples) then
      -- Tensors of any shape: their numbers.
      local flat = {}
      for key, v in pairs(o.samples) do
        flat[key] = v
        if nb.is_tensor(v) then flat[key] = v:flatten() end
        if type(v) == "table" and nb.is_tensor(v.y) then flat[key] = { name = v.name, y = v.y:flatten() } end
      end
      list = values.series("plot.ridgeline", flat)
    else
      list = values.series("plot.ridgeline", nb.is_tensor(o.samples) and o.samples:flatten() or o.samples)
    end
    if #list > 64 then native.raise("plot.ridgeline: at most 64 distributions can be told apart, got " .. #list) end
    return list
  end,
  scene = function(self)
    local o, n = self.options, #self.data
    local all, names, marks = {}, {}, {}
    for i, s in ipairs(self.data) do all[i] = { axis.transform(s.y, o.logx) } end
    local x = axis.cover(all, { pad = 0.05, log = o.logx })
    local width = (x.high - x.low) / BINS
    local centres = values.count(BINS) * width + (x.low - width / 2)
    for i, s in ipairs(self.data) do
      names[n + 1 - i] = s.name or tostring(i)
      marks[i] = { type = "area", base = n - i, x = centres, height = density(all[i][1], x.low, x.high), reach = 1.6,
        room = 0.95, color = s.color or style.color(1) }
    end
    local lost, count = values.lost(all)
    local y, cells = axis.named(names), axis.named(names)
    -- Names stand at the areas' feet.
    function y.ticks()
      local list = {}
      for i, name in ipairs(names) do list[i] = { i - 1, style.clean(name) } end
      return list
    end
    y.low, y.high, cells.low, cells.high = -0.05, n + 0.65, 0, n
    return { height = math.max(220, 110 + 42 * n), panels = { { title = o.title, xlabel = o.xlabel, x = x, y = y,
      cells_y = cells, bands = n, marks = marks, note = values.note(lost, count, o.logx) } } }
  end,
}

return kinds
