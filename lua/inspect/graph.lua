-- SPDX-License-Identifier: MIT
-- inspect.graph: the computation behind a tensor, with its shapes, values and gradients, through dot and as text.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local places = require "nablua.inspect.places"
local program = require "nablua.plot.program"
local registry = require "nablua.registry"
local roles = require "nablua.inspect.roles"
local style = require "nablua.plot.style"
local tape = require "nablua.inspect.tape"

local MOST_DRAWN = 100   -- boxes in a drawing
local MOST_LISTED = 50   -- lines in a terminal
local MOST, FEW = 40, 24 -- operators; of more, those of a module are one box, so that as few are left

-- ---- reading ----

-- What a tensor holds, in few characters: its number, or the norm of its values.
local function value_text(t)
  if not t or t:numel() == 0 then return "" end
  t = t:detach():to("f64")
  if t:numel() == 1 then return style.number(t:flatten():at(1), 3) end
  return "‖·‖ " .. style.number(t:norm():item(), 3)
end

-- Walks back from J: norms of ∂J by node and output, and by leaf.  Nothing where a backward has freed the tape, or
-- where J is no scalar.
local function gradients(J, nodes)
  local of_node, of_leaf = {}, {}
  for i = 1, #nodes do of_node[i] = {} end
  local freed = false
  for _, node in ipairs(nodes) do freed = freed or node.freed end
  if freed or #nodes == 0 or J:numel() ~= 1 then return of_node, of_leaf end
  local function add(home, key, g) home[key] = home[key] and home[key] + g or g end
  nb.no_grad(function()
    local _, output = native.made_by(J)
    of_node[#nodes][output or 1] = nb.ones_like(J:detach())
    for i = #nodes, 1, -1 do
      local node, given = nodes[i], {}
      for k, g in pairs(of_node[i]) do given[k] = g end
      if next(given) then
        for k = 1, 64 do given[k] = given[k] or false end
        for k, g in ipairs(native.node_backward(node.node, given)) do
          local input = node.inputs[k]
          if g and input and input.node then
            add(of_node[input.node], input.output, g)
          elseif g and input and input.leaf then
            add(of_leaf, input.id, g)
          end
        end
      end
      -- Only sizes are shown: let go of what lies behind.
      for k, g in pairs(of_node[i]) do of_node[i][k] = g:norm():item() end
    end
  end)
  for key, g in pairs(of_leaf) do of_leaf[key] = g:norm():item() end
  return of_node, of_leaf
end

-- f(input) for the inputs of a node, in order.
local function each_input(node, f)
  local last = 0
  for k in pairs(node.inputs) do last = math.max(last, k) end
  for k = 1, last do
    if node.inputs[k] then f(node.inputs[k]) end
  end
end

-- Which nodes are drawn, as runs { path =, from =, to = } of neighbours: each by itself where they are few, else those
-- of a module as one; where `within` is the path of a module what is inside it.
local function units_of(nodes, info, within)
  local first, last = 1, #nodes
  if within then
    local function is_inside(i) return nodes[i].place and places.is_inside(nodes[i].place, within) end
    while first <= last and not is_inside(first) do first = first + 1 end
    while last >= first and not is_inside(last) do last = last - 1 end
    if first > last then return nil end
  end
  local list = table.move(nodes, first, last, 1, {})
  local function path_of(node) return node.place end
  local units = {}
  for _, u in ipairs(places.runs(list, FEW, path_of, within, true)) do
    local from, to = u.from + first - 1, u.to + first - 1
    if from < to and #list > MOST and info[u.path] and u.path ~= within then
      units[#units + 1] = { path = u.path, from = from, to = to }
    else
      for i = from, to do units[#units + 1] = { from = i, to = i } end
    end
  end
  return units
end

-- What is made of a layer's parameters alone (their transpose, say) belongs to the layer, and so does what uses it.
local function tell_layers(nodes)
  local pure = {}
  for i, node in ipairs(nodes) do
    local only = true
    for _, input in pairs(node.inputs) do
      local maker = input.node and pure[input.node]
      node.layer = node.layer or maker or nil
      only = only and (maker or input.leaf)
    end
    pure[i] = only and node.layer or nil
  end
end

-- There is no such module: says which there are.
local function refuse_path(nodes, within)
  local known, seen = {}, {}
  for _, node in ipairs(nodes) do
    for _, path in ipairs(node.place and places.prefixes(node.place) or {}) do
      if not seen[path] then
        seen[path] = true
        known[#known + 1] = path
      end
    end
  end
  native.raise(("inspect.graph: there is no module \"%s\" in the graph; there are %s%s"):format(within, #known > 0 and
    table.concat(known, ", ", 1, math.min(#known, 12)) or "none", #known > 12 and ", …" or ""))
end

-- The graph as a list of boxes in order of creation, each { kind = "operator" | "module" | "parameter" | "input" |
-- "result", name =, shape =, value =, gradient =, layer =, source =, line =, path = of a module, operators = how many
-- it has, from = { box's index, 0 for what was left out } }.
local function boxes_of(self, within)
  local nodes, info = self.nodes, self.info
  local units = units_of(nodes, info, within)
  if not units then return refuse_path(nodes, within) end
  local skipped = math.max(0, #units - MOST_DRAWN)
  local boxes, of_index, known = {}, {}, {}
  local function put(box)
    boxes[#boxes + 1] = box
    return #boxes
  end
  local function here(name)  -- seen from inside the module
    local starts = within and name and name:sub(1, #within + 1) == within .. "."
    return starts and name:sub(#within + 2) or name
  end
  local function outside(input)
    local key = input.id or input.value and native.storage(input.value)
    if key and known[key] then return known[key] end
    local at = put { kind = input.leaf and "parameter" or "input", name = here(input.name or input.param),
      layer = here(input.layer), shape = input.shape, value = value_text(input.value), from = {},
      gradient = input.id and self.of_leaf[input.id] }
    if key then known[key] = at end
    return at
  end
  -- What enters a module that is drawn from outside, by its name.
  local function entering(input)
    if known[-input.node] then return known[-input.node] end
    local maker, left = nodes[input.node], nil
    for _, path in ipairs(maker.place and places.prefixes(maker.place) or {}) do  -- the outermost module that it leaves
      if not places.is_inside(within, path) then
        left = path
        break
      end
    end
    known[-input.node] = put { kind = "input", from = {}, shape = input.shape, value = value_text(input.value),
      name = left and "⟨" .. left .. "⟩" or roles.title(maker.op),
      gradient = self.of_node[input.node][input.output] }
    return known[-input.node]
  end
  for k = skipped + 1, #units do
    local unit, from, linked = units[k], {}, {}
    local function link(at)
      if not linked[at] or not unit.path then from[#from + 1] = at end
      linked[at] = true
    end
    local constants = {}
    for i = unit.from, unit.to do
      each_input(nodes[i], function(input)
        if input.node and (input.node < unit.from or not unit.path) then
          link(of_index[input.node] or within and input.node < units[1].from and entering(input) or 0)
        elseif not input.node and not unit.path then
          link(outside(input))
        elseif not input.node and input.leaf and not input.layer then
          link(outside(input))
        elseif not input.node and not input.leaf then
          constants[#constants + 1] = input
        end
      end)
    end
    -- A module that takes nothing computed takes the data; other numbers of its are its own affair.
    if unit.path and #from == 0 and constants[1] then link(outside(constants[1])) end
    local node = nodes[unit.to]
    local out = node.outputs[1] or {}
    local is_last = unit.to == #nodes
    local value = out.value or (is_last and self.J) or nil
    local at = put { kind = unit.path and "module" or is_last and "result" or "operator", from = from,
      name = unit.path and info[unit.path].kind or roles.title(node.op), path = unit.path,
      operators = unit.to - unit.from + 1, layer = not unit.path and here(node.layer) or nil,
      shape = out.shape or (is_last and self.J.shape) or nil, value = value_text(value),
      gradient = self.of_node[unit.to][1], source = not unit.path and node.source or nil, line = node.line }
    for i = unit.from, unit.to do of_index[i] = at end
  end
  return { boxes = boxes, skipped = skipped, operators = #nodes, freed = nodes[#nodes].freed, within = within }
end

local open

local function read(J, figure)
  local found = tape.read(J)
  local nodes = found.nodes
  if #nodes == 0 then
    native.raise("inspect.graph: nothing was recorded for this tensor; it needs to come from operators on tensors " ..
      "that require grad, outside nb.no_grad")
  end
  local of_node, of_leaf = gradients(J, nodes)
  tell_layers(nodes)
  figure.tape = { J = J, nodes = nodes, info = found.places, of_node = of_node, of_leaf = of_leaf }
  figure.open = open
  return boxes_of(figure.tape, nil)
end

-- A graph of what is inside a module, of the same moment.
function open(self, path)
  if type(path) ~= "string" then
    native.raise("open: needs a module's path, such as g:open(\"encoder.3\"), got " .. options.describe(path))
  end
  local inner = setmetatable({}, getmetatable(self))
  for key, v in pairs(self) do inner[key] = v end
  inner.data, inner.id, inner.stale = boxes_of(self.tape, path), nil, nil
  return inner
end

registry.add {
  name = "graph:open", kind = "method", signature = "g:open(path)", value = open,
  see = { "inspect.graph", "inspect.explain" },
  doc = "What is inside a module, as a graph of its own; what comes from outside is an input.",
  params = { { name = "path", type = "string", doc = "the module's path, such as \"encoder.3\"" } },
  example = [[
local net = nn.Sequential{ nn.Linear(2, 3), nn.Tanh() }
return #inspect.graph(net(nb.ones(1, 2)):sum()):open("1").data.boxes  --> 4]],
}

-- How what is folded is looked into; nil where nothing is.
local function way_in(d)
  for i = #d.boxes, 1, -1 do
    if d.boxes[i].kind == "module" then return ("g:open(%q) shows what is inside"):format(d.boxes[i].path) end
  end
end

-- ---- text: one line for each result, in order of creation ----

local function text(self, settings)
  local width = settings.width or native.columns()
  local d, rows, names, n = self.data, {}, {}, 0
  local widest = { 0, 0, 0, 0, 0 }
  for i, box in ipairs(d.boxes) do
    if box.kind == "operator" or box.kind == "result" or box.kind == "module" then
      n = box.kind == "operator" and n + 1 or n
      names[i] = box.kind == "result" and "J" or box.path and "⟨" .. box.path .. "⟩" or "v" .. n
      local inputs = {}
      for k, from in ipairs(box.from) do inputs[k] = from == 0 and "…" or names[from] end
      local row = { names[i] .. " = " .. box.name .. "(" .. table.concat(inputs, ", ") .. ")",
        box.shape and options.shape(box.shape) or "", box.value or "",
        box.gradient and "∂ " .. style.number(box.gradient, 3) or "", box.layer and "layer " .. box.layer or
          box.path and ("%d operators"):format(box.operators) or "" }
      if box.source then
        row[5] = row[5] .. (row[5] ~= "" and "  " or "") .. box.source:match("[^/]*$") .. ":" .. box.line
      end
      rows[#rows + 1] = row
    else
      names[i] = style.clean(box.name or "?")
      rows[#rows + 1] = { names[i], box.shape and options.shape(box.shape) or "", box.value or "",
        box.gradient and "∂ " .. style.number(box.gradient, 3) or "",
        box.kind == "parameter" and "parameter" or "",
        color = box.kind == "parameter" and style.colors[1].cell or style.soft.cell }
    end
    for k = 1, 5 do widest[k] = math.max(widest[k], style.width(rows[#rows][k])) end
  end
  local others = widest[2] + widest[3] + widest[4] + 8 + math.min(widest[5], 14)
  widest[1] = math.min(widest[1], math.max(12, width - others))
  local lines = d.within and { style.fit(("inside %s:"):format(d.within), width) } or {}
  local hidden = math.max(0, #rows - MOST_LISTED)
  if d.skipped + hidden > 0 then
    lines[#lines + 1] = style.fit(("… %d lines before these"):format(d.skipped + hidden), width)
  end
  for i = hidden + 1, #rows do
    local row = rows[i]
    local line = {}
    for k = 1, 5 do
      local cell = style.fit(style.clean(row[k]), k == 1 and widest[1] or 60)
      line[k] = cell .. (" "):rep((widest[k] or 0) - style.width(cell))
    end
    local whole = style.fit(table.concat(line, "  "):gsub("%s+$", ""), width)
    if settings.color then
      whole = row.color and ("\27[38;5;%dm%s\27[0m"):format(row.color, whole) or whole
    end
    lines[#lines + 1] = whole
  end
  local hint = way_in(d)
  if hint then lines[#lines + 1] = style.fit(hint, width) end
  if d.freed then
    lines[#lines + 1] = style.fit(("a backward at %s has freed the tape: no gradients")
      :format(d.freed:match("[^/]*$")), width)
  end
  return table.concat(lines, "\n")
end

-- ---- through dot ----

local looks = {
  operator = 'fillcolor="#F5F5F5" color="#888888"',
  module = 'fillcolor="#E3EFE8" color="#009E73" penwidth=2',
  result = 'fillcolor="#F8DDCC" color="#D55E00"',
  parameter = 'fillcolor="#CCE3F1" color="#0072B2"',
  input = 'fillcolor="#FFFFFF" color="#BBBBBB"',
}

local function label(box)
  local parts = { "<b>" .. style.xml(box.path or box.name or "?") .. "</b>" }
  if box.path then
    parts[2] = ('<font point-size="10" color="#555555">%s, %d operators</font>'):format(style.xml(box.name),
      box.operators)
  end
  local second = box.shape and #box.shape > 0 and options.shape(box.shape) or ""
  if box.value and box.value ~= "" then second = second .. (second ~= "" and "   " or "") .. box.value end
  if second ~= "" then
    parts[#parts + 1] = ('<font point-size="10" color="#555555">%s</font>'):format(style.xml(second))
  end
  if box.gradient then
    parts[#parts + 1] = ('<font point-size="10" color="#D55E00">∂J  ' ..
      '%s</font>'):format(style.xml(style.number(box.gradient, 3)))
  end
  return table.concat(parts, "<br/>")
end

-- The graph in dot's language.  Lines are the thicker the larger the gradient that flows back along them.
local function to_dot(d)
  local out = { ('digraph { rankdir=TB; bgcolor="%s"; ranksep=0.28; nodesep=0.22; fontname="Helvetica";'):format(
    style.ground.page or "transparent"),
    'node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=12, margin="0.18,0.06", penwidth=1.2];',
    'edge [color="#888888", arrowsize=0.6];' }
  local from = math.max(1, #d.boxes - MOST_DRAWN + 1)
  -- dot's searches for the best places take minutes for a graph such as an unrolled loop.
  if #d.boxes - from > 40 then out[#out + 1] = "nslimit=1; nslimit1=1; mclimit=0.2; splines=polyline;" end
  local largest, smallest
  for i = from, #d.boxes do
    local g = d.boxes[i].gradient
    if g and g > 0 and g < math.huge then largest, smallest = math.max(largest or g, g), math.min(smallest or g, g) end
  end
  local function thickness(g)
    if not g or not largest or g <= 0 or g ~= g then return 1 end
    if largest == smallest then return 2 end
    return 0.6 + 3 * (math.log(g) - math.log(smallest)) / (math.log(largest) - math.log(smallest))
  end
  local layers, order = {}, {}
  for i = from, #d.boxes do
    local box = d.boxes[i]
    local tip = box.source and box.source .. ":" .. box.line or box.kind
    local line = ('n%d [label=<%s>, tooltip="%s", %s];'):format(i, label(box), style.xml(tip):gsub("\\", "\\\\"),
      looks[box.kind])
    if box.layer then
      if not layers[box.layer] then
        layers[box.layer] = {}
        order[#order + 1] = box.layer
      end
      table.insert(layers[box.layer], line)
    else
      out[#out + 1] = line
    end
  end
  for k, layer in ipairs(order) do
    out[#out + 1] = ('subgraph cluster_%d { label=<<font point-size="11" color="%s">layer %s</font>>; ' ..
      'labeljust=l; ' ..
      'style="rounded"; color="%s"; %s }'):format(k, style.ground.soft, style.xml(layer),
      style.ground.page and "#DDDDDD" or "#80808080", table.concat(layers[layer], " "))
  end
  local cut = d.skipped > 0 or from > 1
  if cut then
    out[#out + 1] = ('n0 [label="…", shape=plaintext, style="", fontcolor="%s"];'):format(style.ground.soft)
  end
  for i = from, #d.boxes do
    local seen = {}
    for _, k in ipairs(d.boxes[i].from) do
      k = k < from and 0 or k
      if not (k == 0 and seen[0]) then
        seen[k] = true
        local g = k > 0 and d.boxes[k].gradient
        out[#out + 1] = ('n%d -> n%d [penwidth=%.2f%s];'):format(k, i, thickness(g), g and ', color="#D98E5F"' or "")
      end
    end
  end
  out[#out + 1] = "}"
  return table.concat(out, "\n")
end

return {
  doc = "The computation that made a tensor: operators with their shapes, values and the gradient of J that " ..
    "reaches each; parameters in blue.  Keeps the tape.  A drawing through Graphviz, a list in the terminal.  In " ..
    "large nets a module is one box; g:open(\"encoder.3\") shows what is inside it.",
  signature = "inspect.graph(J)",
  example = [[
local w = nb.tensor({1, 2}, {requires_grad=true, name="w"})
return inspect.graph((w * w):sum()).data.operators  --> 2]], see = { "inspect.diagram", "graph:open" },
  params = { { name = "J", type = "tensor" } }, common = {},
  read = function(o, self) return read(o.J, self) end,
  text = text,
  svg = function(self) return program.dot(to_dot(self.data), "svg") end,
  pdf = function(self) return program.dot(to_dot(self.data), "pdf") end,
  png = function(self, scale) return program.dot(to_dot(self.data), "png", { "-Gdpi=" .. 72 * scale }) end,
}
