-- SPDX-License-Identifier: MIT
-- How a stepper looks: where it stands, the formula, the values that go in and come out.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local text = require "nablua.inspect.text"

local ROWS = 6  -- of values shown of a tensor

local function norm(t)
  return nb.no_grad(function() return t:detach():to("f64"):norm():item() end)
end

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
  local lines = { "  " .. table.concat(parts, "   ") .. "   →   " .. sized(g.symbol or g.op, g.output) }
  if g.output:dim() > 0 then
    lines[#lines + 1] = ("  %s ="):format(g.symbol or g.op)
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

local function update_lines(self, g)
  local rows = { { "", "shape", "|w|", "|∂J/∂w|", "|Δw|", "|Δw|/|w|" } }
  for i, p in ipairs(g.params) do
    if i > 12 then
      rows[#rows + 1] = { ("… %d more"):format(#g.params - 12), "", "", "", "", "" }
      break
    end
    local name = self.names.leaves[native.id(p)]
    local before = g.old and norm(g.old[i]) or norm(p)
    local moved = g.old and nb.no_grad(function() return norm(p:detach() - g.old[i]) end) or 0
    rows[#rows + 1] = { "  " .. (name and name.text or p.name or "w"), options.shape(p), text.number(before),
      p.grad and text.number(norm(p.grad)) or "–", text.number(moved),
      before > 0 and text.number(moved / before) or "–" }
  end
  return text.columns(rows, { "left", "left", "right", "right", "right", "right" })
end

-- "forward 1/5   z⁽²⁾ = X·W⁽¹⁾+b⁽¹⁾        layer 1  Linear(2 → 4)"
local function heading(self, g, settings)
  local paint = text.painter(settings)
  local of = g.phase == "forward" and #self.forward or g.phase == "backward" and #self.backward or 1
  local at = g.phase == "forward" and self.pos or g.phase == "backward" and self.pos - #self.forward or 1
  local color = g.phase == "forward" and "green" or g.phase == "backward" and "magenta" or "cyan"
  local left = ("%s %d/%d"):format(g.phase, at, of)
  local formula = g.formula
  local right = place(g)
  local taken = text.width(left) + 3 + text.width(formula)
  local gap = math.max(52 - taken, 3)
  gap = taken + gap + text.width(right) <= math.max(settings.width or 80, 80) and (" "):rep(gap) or "\n  "
  return paint(color, left) .. "   " .. paint("bold", formula) .. gap .. paint("dim", right)
end

-- The film at a glance: one mark for each step.
local function strip(self, settings)
  local paint = text.painter(settings)
  local parts = {}
  for i, g in ipairs(self.steps) do
    local mark = g.phase == "forward" and "▸" or g.phase == "backward" and "◂" or "●"
    parts[i] = i == self.pos and paint("bold", "[" .. mark .. "]") or i < self.pos and mark or paint("dim", "·")
  end
  if #parts > 60 then return ("step %d of %d"):format(self.pos, #self.steps) end
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
  local more = g.phase == "forward" and forward_lines(g, width) or g.phase == "backward" and backward_lines(g, width) or
    update_lines(self, g)
  append(lines, more)
  lines[#lines + 1] = strip(self, settings)
  return table.concat(lines, "\n")
end

local function rich(self, settings)
  local plain = form(self, { width = settings.width or 100 })
  local first, rest = plain:match("^([^\n]*)\n?(.*)$")
  local g = self.steps[self.pos]
  local color = not g and "#666" or g.phase == "forward" and "#2a7" or g.phase == "backward" and "#b3b" or "#28a"
  local frame = '<div style="border-left:4px solid %s;padding-left:8px">' ..
    '<b style="white-space:pre">%s</b><pre>%s</pre></div>'
  return { ["text/html"] = frame:format(color, text.escape(first), text.escape(rest)) }
end

return { form = form, rich = rich }
