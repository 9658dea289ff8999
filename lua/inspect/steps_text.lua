-- SPDX-License-Identifier: MIT
-- How a stepper looks: where it stands, the formula, the values that go in and come out.
local native = require "nablua.native"
local nb = require "nablua.core"
local html = require "nablua.inspect.html"
local measure = require "nablua.inspect.measure"
local moves = require "nablua.inspect.moves"
local options = require "nablua.options"
local text = require "nablua.inspect.text"

local ROWS = 6  -- of values shown of a tensor

local norm = measure.norm

local function sized(name, t)
  return ("%s %s"):format(name, t:dim() == 0 and text.number(t:item() + 0.0) or options.shape(t))
end

-- The first rows of a tensor's values, indented.
local function values(t, width)
  if t:dim() == 0 then return { "    " .. text.number(t:item() + 0.0) } end
  local lines = {}
  local corner = nb.no_grad(function()
    local c = t:detach()
    while c:dim() > 2 do c = c[1] end
    return c
  end)
  local all = native.text(corner, math.max(width - 4, 20))
  for line in all:gmatch("[^\n]+") do lines[#lines + 1] = "    " .. line end
  lines[#lines] = nil  -- dtype and shape, said already
  if #lines > ROWS then
    lines[ROWS] = "    …"
    for i = #lines, ROWS + 1, -1 do lines[i] = nil end
  end
  if t:dim() > 2 then lines[#lines + 1] = "    (the first of each outer dimension)" end
  return lines
end

local function append(lines, more)
  for _, line in ipairs(more) do lines[#lines + 1] = line end
end

local function place(g)
  if g.path then return ("layer %s  %s"):format(g.path, g.title) end
  if g.module then return g.title end
  return g.line and ("%s  %s:%d"):format(g.title, g.source, g.line) or g.title
end

local function forward_lines(g, width)
  local parts = {}
  for _, input in ipairs(g.inputs) do parts[#parts + 1] = sized(input.name, input.value) end
  local lines = { "  " .. table.concat(parts, "   ") .. "   →   " .. sized(g.symbol or g.name, g.output) }
  if g.output:dim() > 0 then
    lines[#lines + 1] = ("  %s ="):format(g.symbol or g.name)
    append(lines, values(g.output, width))
  end
  return lines
end

local function backward_lines(g, width)
  local lines = {}
  for i = 2, #g.formulas do lines[#lines + 1] = (" "):rep(2) .. g.formulas[i] end
  local parts = {}
  local function size(name, t) return ("|%s| %s"):format(name, text.number(norm(t))) end
  if g.grad_in and g.of.symbol ~= "J" then parts[1] = size(text.error_name(g.of.symbol or "·"), g.grad_in) .. "   →" end
  for _, o in ipairs(g.outgoing) do parts[#parts + 1] = size(text.error_name(o.name), o.grad) end
  for _, d in ipairs(g.deposits) do parts[#parts + 1] = size("∂J/∂" .. d.name, d.grad) end
  lines[#lines + 1] = "  " .. table.concat(parts, "   ")
  local shown = g.deposits[1] or g.outgoing[1]
  if shown then
    lines[#lines + 1] = ("  %s =   %s"):format(shown.leaf and "∂J/∂" .. shown.name or text.error_name(shown.name),
      options.shape(shown.grad))
    append(lines, values(shown.grad, width))
  end
  return lines
end

local UPDATE = { "", "shape", "|w|", "|∂J/∂w|", "|Δw|", "|Δw|/|w|" }
local UPDATE_SIDES = { "left", "left", "right", "right", "right", "right" }

-- What happened to each parameter, the first dozen of them.
local function update_rows(self, g)
  local rows = {}
  for i, p in ipairs(g.params) do
    if i > 12 then
      rows[i] = { ("… %d more"):format(#g.params - 12), "", "", "", "", "" }
      break
    end
    local name = self.names.leaves[native.id(p)]
    local before = g.old and norm(g.old[i]) or norm(p)
    local moved = g.old and nb.no_grad(function() return norm(p:detach() - g.old[i]) end) or 0
    rows[i] = { name and name.text or p.name or "w", options.shape(p), text.number(before),
      p.grad and text.number(norm(p.grad)) or "–", text.number(moved),
      before > 0 and text.number(moved / before) or "–" }
  end
  return rows
end

local function update_lines(self, g)
  local rows = update_rows(self, g)
  for _, row in ipairs(rows) do row[1] = "  " .. row[1] end
  table.insert(rows, 1, UPDATE)
  return text.columns(rows, UPDATE_SIDES)
end

-- Which of how many of its phase a step is.
local function count_of(self, g)
  if g.phase == "forward" then return self.pos, #self.forward end
  if g.phase == "backward" then return self.pos - #self.forward, #self.backward end
  return 1, 1
end

-- "forward 1/5   z⁽²⁾ = X·W⁽¹⁾ᵀ+b⁽¹⁾       layer 1  Linear(2 → 4)"
local function heading(self, g, settings)
  local paint = text.painter(settings)
  local at, of = count_of(self, g)
  local color = g.phase == "forward" and "green" or g.phase == "backward" and "magenta" or "cyan"
  local left = ("%s %d/%d"):format(g.phase, at, of)
  local formula = g.formula
  local right = place(g)
  local taken = text.width(left) + 3 + text.width(formula)
  local gap = math.max(52 - taken, 3)
  gap = taken + gap + text.width(right) <= math.max(settings.width or 80, 80) and (" "):rep(gap) or "\n  "
  return paint(color, left) .. "   " .. paint("bold", formula) .. gap .. paint("dim", right)
end

local MARKS = { forward = "▸", backward = "◂", update = "●" }

-- The film of many steps: a mark for each passage through a module, the one under the cursor with its name.
local function folded_strip(self, paint)
  local parts = {}
  for k, p in ipairs(moves.passages(self)) do
    local here = self.pos >= p.from and self.pos <= p.to
    parts[k] = here and paint("bold", ("[%s %s]"):format(MARKS[p.phase], p.path == "" and "·" or p.path)) or
      p.to < self.pos and MARKS[p.phase] or paint("dim", "·")
  end
  if #parts > 60 then return ("step %d of %d"):format(self.pos, #self.steps) end
  return table.concat(parts) .. ("   step %d of %d"):format(self.pos, #self.steps)
end

-- The error that leaves a passage: all that its steps send to what is before it, summed where they meet.
local function error_behind(self, p)
  local inside, sums, list = {}, {}, {}
  for i = p.from, p.to do
    for node in pairs(self.steps[i].nodes or {}) do inside[node] = true end
  end
  for i = p.from, p.to do
    for _, o in ipairs(self.steps[i].outgoing or {}) do
      if o.node and not inside[o.node] then
        local before = sums[o.node]
        sums[o.node] = before and nb.no_grad(function() return before + o.grad end) or o.grad
        if not before then list[#list + 1] = o.node end
      end
    end
  end
  return #list == 1 and sums[list[1]] or nil
end

-- What a module did that was passed as one: the size of what came and of what left.
local function passage(self)
  local p = self.passed
  if not p or not p.path then return nil end
  local first, last = self.steps[p.from], self.steps[p.to]
  local came, left
  if first.phase == "forward" then
    came, left = first.inputs[1] and first.inputs[1].value, last.output
  elseif first.phase == "backward" then
    came, left = first.grad_in, error_behind(self, p)
  end
  local sizes = {}
  if came then sizes[1] = text.number(norm(came)) end
  if left then sizes[#sizes + 1] = text.number(norm(left)) end
  local gain = came and left and norm(came) > 0 and ("   ×" .. text.number(norm(left) / norm(came))) or ""
  return ("over %s: steps %d to %d%s%s"):format(p.path, p.from, p.to, #sizes > 0 and ("   |%s| %s"):format(
    first.phase == "forward" and "a" or "δ", table.concat(sizes, " → ")) or "", gain)
end

-- The film at a glance: one mark for each step.
local function strip(self, settings)
  local paint = text.painter(settings)
  local parts = {}
  for i, g in ipairs(self.steps) do
    local mark = g.phase == "forward" and "▸" or g.phase == "backward" and "◂" or "●"
    parts[i] = i == self.pos and paint("bold", "[" .. mark .. "]") or i < self.pos and mark or paint("dim", "·")
  end
  if #parts > 60 then return folded_strip(self, paint) end
  return table.concat(parts) .. ("   step %d of %d"):format(self.pos, #self.steps)
end

local function form(self, settings)
  local g = self.steps[self.pos]
  local width = math.max(settings.width or 80, 20)
  if not g then
    return ("%s\nat the start; %d forward, %d backward%s; :next() goes on, :to(name), :run()"):format(
      strip(self, settings), #self.forward, #self.backward, self.update and ", 1 update" or "")
  end
  local lines = { heading(self, g, settings) }
  local passed = passage(self)
  if passed then table.insert(lines, 1, text.painter(settings)("bold", passed)) end
  local more = g.phase == "forward" and forward_lines(g, width) or g.phase == "backward" and backward_lines(g, width) or
    update_lines(self, g)
  append(lines, more)
  lines[#lines + 1] = strip(self, settings)
  return table.concat(lines, "\n")
end

-- ---- the notebook ----

local COLORS = { forward = html.GREEN, backward = html.ORANGE, update = html.BLUE }

-- The film as a row of boxes, filled as far as it has run.
local function film(self)
  local parts = {}
  local list = moves.passages(self)
  for i, g in ipairs(#self.steps <= 60 and self.steps or #list <= 60 and list or {}) do
    local from, to = g.from or i, g.to or i
    local here = self.pos >= from and self.pos <= to
    local width, opacity = here and 22 or 10, from <= self.pos and "1" or ".25"
    parts[i] = ('<span title="%s" style="display:inline-block;width:%dpx;height:10px;margin-right:3px;' ..
      'border-radius:2px;background:%s;opacity:%s"></span>'):format(html.escape(g.path or ""), width, COLORS[g.phase],
      opacity)
  end
  parts[#parts + 1] = "&nbsp; " .. html.dim(("step %d of %d"):format(self.pos, #self.steps))
  return html.line(table.concat(parts))
end

local function sized_html(name, t)
  return html.math(name) .. " " .. html.dim(t:dim() == 0 and text.number(t:item() + 0.0) or options.shape(t))
end

local function forward_html(g)
  local parts = {}
  for i, input in ipairs(g.inputs) do parts[i] = sized_html(input.name, input.value) end
  local flow = table.concat(parts, " &nbsp; ") .. " &nbsp;→&nbsp; " .. sized_html(g.symbol or g.name, g.output)
  if g.output:dim() == 0 then return html.line(flow) end
  return html.line(flow) .. html.values(g.output)
end

local function backward_html(g)
  local rows = {}
  local function row(name, formula, grad)
    rows[#rows + 1] = { html.math(formula), html.dim(options.shape(grad)), html.math("|" .. name .. "|"),
      text.number(norm(grad)) }
  end
  for i, d in ipairs(g.deposits) do row("∂J/∂" .. d.name, g.formulas[i], d.grad) end
  for i, o in ipairs(g.outgoing) do row(text.error_name(o.name), g.formulas[#g.deposits + i], o.grad) end
  local arrives = g.grad_in and g.of.symbol ~= "J" and html.line(html.dim("arrives: ") ..
    html.math(("|%s|"):format(text.error_name(g.of.symbol or "·"))) .. " " .. text.number(norm(g.grad_in))) or ""
  local shown = g.deposits[1] or g.outgoing[1]
  local name = shown and (shown.leaf and "∂J/∂" .. shown.name or text.error_name(shown.name))
  return arrives .. html.table({ "", "shape", "", "norm" }, rows, { "left", "left", "right", "right" }) ..
    (shown and html.line(sized_html(name, shown.grad)) .. html.values(shown.grad) or "")
end

local function update_html(self, g)
  local rows = update_rows(self, g)
  for _, row in ipairs(rows) do
    row[1] = row[1]:find("^…") and html.escape(row[1]) or html.math(row[1])
  end
  return html.table(UPDATE, rows, UPDATE_SIDES)
end

local function rich(self)
  local g = self.steps[self.pos]
  if not g then
    return { ["text/html"] = html.card(html.GRAY, html.badge(html.GRAY, "start"),
      ("%d forward, %d backward%s"):format(#self.forward, #self.backward, self.update and ", 1 update" or ""),
      html.line(html.code(":next()") .. " goes on, " .. html.code(":to(name)") .. " to a layer, " ..
        html.code(":run()") .. " to the end") .. film(self)) }
  end
  local at, of = count_of(self, g)
  local passed = passage(self)
  passed = passed and html.line("<b>" .. html.escape(passed):gsub("   +", " &emsp; ") .. "</b>") or ""
  local head = passed .. html.badge(COLORS[g.phase], ("%s %d/%d"):format(g.phase, at, of)) ..
    html.span("font-size:125%", html.math(g.formula))
  local body = g.phase == "forward" and forward_html(g) or g.phase == "backward" and backward_html(g) or
    update_html(self, g)
  return { ["text/html"] = html.card(COLORS[g.phase], head, html.escape(place(g)), body .. film(self)) }
end

return { form = form, rich = rich }
