-- SPDX-License-Identifier: MIT
-- What inspect.diagnose and inspect.check give: a list of findings { illness, layer, evidence, remedy }, and the layers
-- that were measured, shown as text and as HTML.
local rules = require "nablua.inspect.rules"
local patient = require "nablua.inspect.patient"
local html = require "nablua.inspect.html"
local text = require "nablua.inspect.text"

local findings = {}

local HEAD = { "layer", "kind", "output std", "|∂J/∂a|", "to next", "notes" }
local SIDES = { "left", "left", "right", "right", "right" }

-- "layer 3", "x", "extra.weight"
local function place_of(finding)
  return finding.layer:find("^%d+$") and "layer " .. finding.layer or finding.layer
end

local function layer_rows(self)
  local rows = {}
  for i, layer in ipairs(self.layers) do
    local next_grad = self.layers[i + 1] and self.layers[i + 1].grad
    local notes = {}
    local share = layer.saturated or 0
    if share >= 0.005 then notes[1] = ("%.0f %% saturated"):format(100 * share) end
    if layer.units > 0 then notes[#notes + 1] = ("%d of %d off"):format(#layer.dead, layer.units) end
    rows[i] = { layer.path, layer.kind, text.number(layer.std), layer.grad and text.number(layer.grad) or "–",
      layer.grad and next_grad and next_grad > 0 and "×" .. text.number(layer.grad / next_grad) or "",
      table.concat(notes, ", ") }
  end
  return rows
end

local function form(self, settings)
  local paint, width = text.painter(settings), math.max(settings.width or 80, 30)
  local lines = {}
  if #self == 0 then lines[1] = paint("green", "✓ no findings") end
  for i, f in ipairs(self) do
    lines[#lines + 1] = paint("warn", ("%d. %s"):format(i, f.illness)) .. "   " .. paint("bold", place_of(f))
    for _, l in ipairs(text.wrap(f.evidence, width - 4)) do lines[#lines + 1] = "   " .. l end
    lines[#lines + 1] = "   " .. paint("dim", "remedy: ") .. paint("cyan", f.remedy)
  end
  if self.note then lines[#lines + 1] = paint("dim", self.note) end
  local rows = layer_rows(self)
  if #rows > 0 and #rows < 60 then
    table.insert(rows, 1, HEAD)
    for i, row in ipairs(rows) do rows[i] = { "  " .. row[1], table.unpack(row, 2) } end
    lines[#lines + 1] = ""
    for i, l in ipairs(text.columns(rows, SIDES)) do
      lines[#lines + 1] = i == 1 and paint("dim", l) or l
    end
  end
  return table.concat(lines, "\n")
end

-- How much of a cell a gradient fills: a tenth for each power of ten below the largest is missing.
local function grad_share(self)
  local most = 0
  for _, layer in ipairs(self.layers) do
    if layer.grad and layer.grad < math.huge then most = math.max(most, layer.grad) end
  end
  return function(layer)
    if not layer.grad or layer.grad ~= layer.grad or layer.grad == 0 then return 0 end
    return 1 + math.log(layer.grad / most, 10) / 10
  end
end

local function rich(self)
  local parts = {}
  for i, f in ipairs(self) do
    parts[i] = html.card(html.RED, html.badge(html.RED, tostring(i)) .. html.span("font-size:115%;font-weight:600",
      html.escape(f.illness)), html.code(place_of(f)), html.line(html.escape(f.evidence)) ..
      html.line(html.dim("remedy: ") .. html.code(f.remedy)))
  end
  if #self == 0 then parts[1] = html.card(html.GREEN, html.badge(html.GREEN, "✓") .. " no findings") end
  if self.note then parts[#parts + 1] = html.line(html.dim(html.escape(self.note))) end
  local rows, share = layer_rows(self), grad_share(self)
  if #rows > 0 and #rows < 60 then
    for i, row in ipairs(rows) do
      for k, cell in ipairs(row) do row[k] = html.escape(cell) end
      row[4] = { row[4], html.bar(share(self.layers[i]), html.ORANGE) .. ";min-width:9em" }
    end
    parts[#parts + 1] = html.table(HEAD, rows, SIDES)
  end
  return { ["text/html"] = table.concat(parts) }
end


-- Asks all rules about a patient; with `deep` those too that train.
local function ask(self, p, deep)
  patient.examine(p)
  for _, r in ipairs(rules) do
    local over
    if deep or not r.deep then
      over = r.look(p, function(layer, evidence, remedy)
        p.found = p.found + 1
        self[#self + 1] = { illness = r.name, layer = layer, evidence = evidence, remedy = remedy }
      end)
    end
    if over then break end
  end
end

-- The findings of a patient as an object of a class that findings.class made.
function findings.of(class, p, deep)
  local self = setmetatable({ layers = {} }, class)
  p.found, p.layers, p.checks = 0, {}, deep
  patient.on_a_copy(p.net, p.opt, function() ask(self, p, deep) end)
  for k, layer in ipairs(p.layers) do
    self.layers[k] = { path = layer.path, kind = layer.kind, std = layer.std, mean = layer.mean, grad = layer.grad,
      saturated = layer.saturated, dead = layer.dead, units = layer.units, bad = layer.bad }
  end
  self.loss = p.value
  return self
end

function findings.class(name)
  return text.shown({ __name = name }, form, rich)
end

return findings
