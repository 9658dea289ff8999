-- SPDX-License-Identifier: MIT
-- inspect.diagram: a net of linear layers as a lecture draws it, neurons in columns and a line for each weight.
local native = require "nablua.native"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local program = require "nablua.plot.program"
local registry = require "nablua.registry"
local Screen = require "nablua.plot.screen"
local style = require "nablua.plot.style"
local svg = require "nablua.plot.svg"

local MOST = 12          -- neurons of a column that are drawn; of more the first and the last
local FIRST, LAST = 6, 3
local MOST_LINES = 24    -- between two columns in a terminal
local POSITIVE, NEGATIVE = style.colors[2], style.colors[1]  -- as in heatmaps: red above zero, blue below

-- ---- reading ----

-- The linear layers in order, each with the activation that follows it.
local function layers_of(net)
  local list = {}
  for path, m in net:named_modules() do
    local w = rawget(m, "weight")
    local entry = registry.find(m)
    if m:kind() == "Linear" then
      list[#list + 1] = { path = path, module = m, weight = w }
    elseif nb.is_tensor(w) and w:dim() > 1 then
      native.raise(("inspect.diagram: %s at %s has no neurons that could be drawn; inspect.graph shows any " ..
        "computation"):format(
        m:kind(), path == "" and "the top" or path))
    elseif entry and entry.kind == "activation" and #list > 0 and not list[#list].activation then
      list[#list].activation = m:kind()
    end
  end
  if #list == 0 then
    native.raise("inspect.diagram: there is no Linear layer in " .. net:kind())
  end
  for i = 2, #list do
    if list[i].weight:size(2) ~= list[i - 1].weight:size(1) then
      native.raise(("inspect.diagram: layer %s takes %d numbers and layer %s before it gives %d: they do not " ..
        "follow one " ..
        "another; inspect.graph shows any computation"):format(list[i].path, list[i].weight:size(2), list[i - 1].path,
        list[i - 1].weight:size(1)))
    end
  end
  return list
end

-- The activations of every column for one input: what each linear layer was given, and what the net gave.
local function activations(net, list, x)
  if x:dim() == 1 then x = x:unsqueeze(1) end
  x = x[{ { 1, 1 } }]
  local seen = {}
  for i, layer in ipairs(list) do
    local forward = layer.module.forward
    rawset(layer.module, "forward", function(self, input)
      seen[i] = input
      return forward(self, input)
    end)
  end
  local ok, out = pcall(nb.no_grad, function() return net(x) end)
  for _, layer in ipairs(list) do rawset(layer.module, "forward", nil) end
  if not ok then error(out, 0) end
  seen[#list + 1] = out
  local columns = {}
  for i = 1, #list + 1 do
    if not nb.is_tensor(seen[i]) then
      native.raise("inspect.diagram: the net did not use layer " .. list[i].path)
    end
    columns[i] = seen[i]:detach():to("f64"):flatten():totable()
  end
  return columns
end

-- Which neurons of n are drawn: a list of numbers, with false for those left out.
local function shown(n)
  local list = {}
  if n <= MOST then
    for i = 1, n do list[i] = i end
    return list
  end
  for i = 1, FIRST do list[i] = i end
  list[FIRST + 1] = false
  for i = n - LAST + 1, n do list[#list + 1] = i end
  return list
end

-- { columns = { { n =, shown =, title =, values = } }, weights = { rows of numbers }, largest = }
local function read(o)
  local list = layers_of(o.net)
  local d = { columns = {}, weights = {}, largest = 0, what = o.show }
  local values = o.x and activations(o.net, list, o.x)
  for i = 1, #list + 1 do
    local n = i == 1 and list[1].weight:size(2) or list[i - 1].weight:size(1)
    local title = i == 1 and "x" or list[i - 1].activation or i == #list + 1 and "output" or "linear"
    d.columns[i] = { n = n, shown = shown(n), title = title, values = values and values[i] }
  end
  for i, layer in ipairs(list) do
    local w = layer.weight
    if o.show == "gradient" then
      w = w.grad
      if not w then
        native.raise(("inspect.diagram: layer %s has no gradient yet; call J:backward() first"):format(layer.path))
      end
    end
    w = w:detach():to("f64")
    local rows = {}
    for _, to in ipairs(d.columns[i + 1].shown) do
      for _, from in ipairs(d.columns[i].shown) do
        if to and from then
          local v = w:at(to, from)
          rows[to] = rows[to] or {}
          rows[to][from] = v
          if v == v and math.abs(v) < math.huge then d.largest = math.max(d.largest, math.abs(v)) end
        end
      end
    end
    d.weights[i] = rows
  end
  return d
end

-- Calls f(layer, from place, to place, value, share of the largest) for every drawn weight, small ones first.
local function each_weight(d, f)
  local list = {}
  for i, rows in ipairs(d.weights) do
    for b, to in ipairs(d.columns[i + 1].shown) do
      for a, from in ipairs(d.columns[i].shown) do
        if to and from then
          local v = rows[to][from]
          local share = d.largest > 0 and math.min(math.abs(v) / d.largest, 1) or 0
          list[#list + 1] = { i, a, b, v, share == share and share or 0 }
        end
      end
    end
  end
  table.sort(list, function(p, q)
    if p[5] ~= q[5] then return p[5] < q[5] end
    if p[1] ~= q[1] then return p[1] < q[1] end
    if p[2] ~= q[2] then return p[2] < q[2] end
    return p[3] < q[3]
  end)
  for _, e in ipairs(list) do f(table.unpack(e)) end
end

local function legend(d)
  local what = d.what == "gradient" and "∂J/∂w" or "w"
  return what .. " > 0", what .. " < 0", "largest |" .. what .. "| " .. style.number(d.largest, 3)
end

-- ---- in a terminal ----

local function text(self, settings)
  local d = self.data
  local width = math.max(1, math.min(settings.width or native.columns(), 200))
  local most = 1
  for _, c in ipairs(d.columns) do most = math.max(most, #c.shown) end
  local rows = 2 * most - 1
  if width < 6 * #d.columns then
    local sizes = {}
    for i, c in ipairs(d.columns) do sizes[i] = tostring(c.n) end
    return style.fit(table.concat(sizes, " → "), width)
  end
  local screen = Screen.new(width, rows + 3)
  local gap = (width - 8) / math.max(#d.columns - 1, 1)
  gap = math.min(gap, 26)
  local function place(i, k)
    local n = #d.columns[i].shown
    -- Columns are centred; a place is the middle of a cell.
    return 4 + (i - 1) * gap, (rows - (2 * n - 1)) // 2 + 2 * (k - 1) + 1
  end
  local dots = {}
  -- In a crowd only the largest: how many of each layer still come.
  local left = {}
  for i = 1, #d.weights do left[i] = #d.columns[i].shown * #d.columns[i + 1].shown end
  each_weight(d, function(i, a, b, v, share)
    left[i] = left[i] - 1
    if share < 0.03 or left[i] >= MOST_LINES then return end
    local x1, y1 = place(i, a)
    local x2, y2 = place(i + 1, b)
    local picture = nb.zeros(rows * 4, width * 2, { dtype = "u8" })
    local dash = share > 0.5 and { 1, 0 } or share > 0.2 and { 2, 1 } or { 1, 3 }
    native.draw_line(picture, nb.tensor({ x1 + 0.5, x2 - 0.5 }, { dtype = "f64" }), nb.tensor({ rows - y1 + 0.5,
      rows - y2 + 0.5 }, { dtype = "f64" }), 0, width, 0, rows, dash[1], dash[2])
    local color = v > 0 and POSITIVE or NEGATIVE
    for k, code in ipairs(native.braille(picture)) do
      if code > 0 then
        dots[k] = (dots[k] or 0) | code
        screen:cell((k - 1) % width + 1, (k - 1) // width + 1, utf8.char(0x2800 + dots[k]), color.cell)
      end
    end
  end)
  for i, c in ipairs(d.columns) do
    for k, neuron in ipairs(c.shown) do
      local x, y = place(i, k)
      if neuron and c.values then
        local v = c.values[neuron]
        local label = style.number(v, 2)
        if #label > 6 then label = ("%.1g"):format(v) end
        screen:write(math.floor(x + 1 - style.width(label) / 2), y, label, v < 0 and NEGATIVE.cell or v > 0 and
          POSITIVE.cell, true)
      else
        screen:write(math.floor(x) + 1, y, neuron and "●" or "⋮")
      end
    end
    local x = place(i, 1)
    local size, title = tostring(c.n), style.clean(c.title)
    screen:write(math.max(1, math.floor(x + 1 - #size / 2)), rows + 1, size, style.soft.cell)
    title = style.fit(title, math.floor(gap) - 1)
    screen:write(math.min(math.max(1, math.floor(x + 1 - style.width(title) / 2)), width - style.width(title) + 1),
      rows + 2, title, style.soft.cell)
  end
  local plus, minus, largest = legend(d)
  local column = screen:write(1, rows + 3, "━━ " .. plus .. "  ", POSITIVE.cell)
  column = screen:write(column, rows + 3, "━━ " .. minus .. "  ", NEGATIVE.cell)
  screen:write(column, rows + 3, largest, style.soft.cell)
  local head = self.options.title and style.fit(style.clean(self.options.title), width) .. "\n" or ""
  return head .. screen:text(settings.color)
end

-- ---- drawings: every neuron has its place ----

local DOWN, SIZE = 52, 0.5  -- points, inches
local EDGE = 40             -- points around the middles of neurons

-- The colour of a neuron by its activation, and whether text on it is white.
local function fill(v, largest)
  if not v or v ~= v then return "#FFFFFF", false end
  local share = largest > 0 and math.max(-1, math.min(v / largest, 1)) or 0
  local end_color = share < 0 and { 33, 102, 172 } or { 178, 24, 43 }
  local c = {}
  for k = 1, 3 do c[k] = math.floor(255 + (end_color[k] - 255) * math.abs(share) * 0.85 + 0.5) end
  return ("#%02X%02X%02X"):format(c[1], c[2], c[3]), math.abs(share) > 0.6
end

-- How many neurons the tallest column shows, and the points between columns.
local function measure(d)
  local most = 1
  for _, c in ipairs(d.columns) do most = math.max(most, #c.shown) end
  return most, math.max(150, most * 26)
end

-- The largest finite number of a column's values, without their signs.
local function largest_of(column)
  local largest = 0
  for _, v in ipairs(column.values or {}) do
    if v == v and math.abs(v) < math.huge then largest = math.max(largest, math.abs(v)) end
  end
  return largest
end

local function add_neurons(pen, column, place, i)
  local largest = largest_of(column)
  for k, neuron in ipairs(column.shown) do
    local x, y = place(i, k)
    if not neuron then
      pen:label("⋮", x, y, { size = 24, align = "center", color = style.ground.soft })
    else
      local v = column.values and column.values[neuron]
      local color, white = fill(v, largest)
      pen:add('<g><circle cx="%g" cy="%g" r="%g" fill="%s" stroke="#444444" stroke-width="1.4"/>' ..
        "<title>neuron %d</title>", x, y, SIZE * 36, color, neuron)
      if v then
        pen:label(style.number(v, 2), x, y, { size = 11, align = "center", color = white and "#FFFFFF" or "#222222" })
      end
      pen:add("</g>")
    end
  end
end

local function to_svg(self)
  local d = self.data
  local most, across = measure(d)
  local title = self.options.title
  local top = title and 70 or EDGE
  local width, height = (#d.columns - 1) * across + 2 * EDGE, top + (most - 1) * DOWN + EDGE + 75
  width = math.max(width, 300)
  local left = (width - (#d.columns - 1) * across) / 2
  local function place(i, k)
    return left + (i - 1) * across, top + (most - #d.columns[i].shown) * DOWN / 2 + (k - 1) * DOWN
  end
  return svg.picture(width, height, title or "a net", function(pen)
    each_weight(d, function(i, a, b, v, share)
      local x1, y1 = place(i, a)
      local x2, y2 = place(i + 1, b)
      pen:add('<line x1="%g" y1="%g" x2="%g" y2="%g" stroke="%s" stroke-opacity="%.2f" stroke-width="%.2f"><title>%s' ..
        '</title></line>', x1, y1, x2, y2, (v > 0 and POSITIVE or NEGATIVE).rgb, (70 + 185 * share) / 255,
        0.3 + 4.2 * share, style.number(v, 4))
    end)
    for i, c in ipairs(d.columns) do
      add_neurons(pen, c, place, i)
      local x, y = left + (i - 1) * across, top + (most - 1) * DOWN + EDGE + 8
      pen:label(c.title, x, y, { align = "center", color = style.ground.soft })
      pen:label(tostring(c.n), x, y + 16, { size = 11, align = "center", color = style.ground.soft })
    end
    local plus, minus, largest = legend(d)
    local y = height - 16
    pen:label("━ " .. plus, width / 2 - 90, y, { size = 12, align = "right", color = style.tone(POSITIVE.rgb) })
    pen:label("━ " .. minus, width / 2 - 80, y, { size = 12, color = style.tone(NEGATIVE.rgb) })
    pen:label(largest, width / 2 - 10, y, { size = 12, color = style.ground.soft })
    if title then pen:label(title, width / 2, 22, { size = 16, bold = true, align = "center" }) end
  end, true)
end

-- For PNG and PDF dot draws.
local function to_dot(self)
  local d = self.data
  local most, across = measure(d)
  local out = { ('digraph { bgcolor="%s"; splines=line; outputorder=edgesfirst; pad=0.25; fontname="Helvetica";')
    :format(style.ground.page or "transparent"),
    ('node [shape=circle, fixedsize=true, width=%s, style=filled, fillcolor=white, color="#444444", penwidth=1.4, ' ..
      'fontname="Helvetica", fontsize=11, label=""];'):format(SIZE), 'edge [arrowhead=none];' }
  local function place(i, k)
    local n = #d.columns[i].shown
    return (i - 1) * across, (most - n) * DOWN / 2 + (n - k) * DOWN
  end
  each_weight(d, function(i, a, b, v, share)
    local color = v > 0 and POSITIVE or NEGATIVE
    out[#out + 1] = ('c%d_%d -> c%d_%d [color="%s%02X", penwidth=%.2f, tooltip="%s"];'):format(i, a, i + 1, b,
      color.rgb, math.floor(70 + 185 * share), 0.3 + 4.2 * share, style.number(v, 4))
  end)
  for i, c in ipairs(d.columns) do
    local largest = largest_of(c)
    for k, neuron in ipairs(c.shown) do
      local x, y = place(i, k)
      if not neuron then
        out[#out + 1] = ('c%d_%d [pos="%g,%g!", shape=plaintext, style="", label="⋮", fontsize=24, ' ..
          'fontcolor="%s"];'):format(i, k, x, y, style.ground.soft)
      else
        local v = c.values and c.values[neuron]
        local color, white = fill(v, largest)
        out[#out + 1] = ('c%d_%d [pos="%g,%g!", fillcolor="%s", fontcolor="%s", label="%s", tooltip="neuron ' ..
          '%d"];'):format(i, k, x, y, color, white and "white" or "#222222", v and style.number(v, 2) or "", neuron)
      end
    end
    out[#out + 1] = ('t%d [pos="%g,%g!", shape=plaintext, style="", fixedsize=false, fontsize=13, ' ..
      'fontcolor="%s", label=<%s<br/><font point-size="11">%d</font>>];'):format(i, (i - 1) * across, -DOWN * 0.95,
        style.ground.soft, style.xml(c.title),
        c.n)
  end
  local plus, minus, largest = legend(d)
  out[#out + 1] = ('legend [pos="%g,%g!", shape=plaintext, style="", fixedsize=false, fontsize=12, label=<<font ' ..
    'color="%s">' ..
    '━ %s</font>   <font color="%s">━ %s</font>   <font ' ..
    'color="%s">%s</font>>];'):format((#d.columns - 1) * across / 2,
    -DOWN * 1.75, POSITIVE.rgb, style.xml(plus), NEGATIVE.rgb, style.xml(minus), style.ground.soft, style.xml(largest))
  if self.options.title then
    out[#out + 1] = ('title [pos="%g,%g!", shape=plaintext, style="", fixedsize=false, fontsize=16, ' ..
      'fontcolor="%s", label=<<b>%s</b>>];'):format(
      (#d.columns - 1) * across / 2, most * DOWN, style.ground.dark, style.xml(self.options.title))
  end
  out[#out + 1] = "}"
  return table.concat(out, "\n")
end

local layout = { "-Kneato", "-n2" }

return {
  doc = "A net of linear layers as a lecture draws it: a line for each weight, red above zero and blue below, the " ..
    "thicker the larger; with x the activations for one input, with show=\"gradient\" ∂J/∂w in place of w.  " ..
    "Large layers are elided.",
  signature = "inspect.diagram(net, {x=, show=\"weight\", title=})",
  example = "#inspect.diagram(nn.Sequential{ nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2) }).data.columns  --> 3",
  see = { "inspect.graph", "plot.heatmap" },
  params = { { name = "net", type = "any" },
    { name = "x", type = "tensor", optional = true, doc = "one input, or several of which the first counts" },
    { name = "show", choices = { "weight", "gradient" }, default = "weight", doc = "what the lines are" } },
  common = { "title" },
  read = function(o)
    if not module.is(o.net) then
      native.raise("inspect.diagram: needs a net, got " .. options.describe(o.net))
    end
    return read(o)
  end,
  text = text,
  svg = to_svg,
  pdf = function(self) return program.dot(to_dot(self), "pdf", layout) end,
  png = function(self, scale)
    return program.dot(to_dot(self), "png", { "-Kneato", "-n2", "-Gdpi=" .. 72 * scale })
  end,
}
