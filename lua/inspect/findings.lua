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

local MOST_ROWS = 24  -- of the table of layers; where there are more of them, those inside one module are one row

-- The layers as lists of neighbours in one module, as deep inside as the rows allow: { path =, kind =, layers }.
local function grouped(layers, kinds)
  local deepest, groups = 0, {}
  for _, layer in ipairs(layers) do
    deepest = math.max(deepest, select(2, layer.path:gsub("%.", "")) + 1)
  end
  for depth = deepest, 1, -1 do
    groups = {}
    for _, layer in ipairs(layers) do
      local parts = {}
      for part in layer.path:gmatch "[^.]+" do
        if #parts < depth then parts[#parts + 1] = part end
      end
      local path = table.concat(parts, ".")
      local last = groups[#groups]
      if not last or last.path ~= path then
        last = { path = path, kind = kinds[path] or layer.kind }
        groups[#groups + 1] = last
      end
      last[#last + 1] = layer
    end
    if #groups <= MOST_ROWS then break end
  end
  return groups
end

-- "0.14" or "0.14 to 1.02": a field of the layers of a group.
local function span(group, field)
  local low, high
  for _, layer in ipairs(group) do
    local v = layer[field]
    if v then low, high = math.min(low or v, v), math.max(high or v, v) end
  end
  if not low then return "–" end
  local first, last = text.number(low), text.number(high)
  return first == last and first or first .. " to " .. last
end

local function layer_rows(self)
  local rows = {}
  for i, group in ipairs(self.groups) do
    local after, grad = self.groups[i + 1], group[1].grad
    local next_grad = after and after[1].grad
    local share, units, dead = 0, 0, 0
    for _, layer in ipairs(group) do
      share = math.max(share, layer.saturated or 0)
      units, dead = units + layer.units, dead + #layer.dead
    end
    local notes = {}
    if share >= 0.005 then notes[1] = ("%.0f %% saturated"):format(100 * share) end
    if units > 0 then notes[#notes + 1] = ("%d of %d off"):format(dead, units) end
    rows[i] = { group.path, group.kind, span(group, "std"), span(group, "grad"),
      grad and next_grad and next_grad > 0 and "×" .. text.number(grad / next_grad) or "", table.concat(notes, ", ") }
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
  return function(group)
    local grad = group[1].grad
    if not grad or grad ~= grad or grad == 0 then return 0 end
    return 1 + math.log(grad / most, 10) / 10
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
      row[4] = { row[4], html.bar(share(self.groups[i]), html.ORANGE) .. ";min-width:9em" }
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
  local kinds = {}
  for path, m in p.net:named_modules() do kinds[path] = m:kind() end
  self.groups = grouped(self.layers, kinds)
  self.loss = p.value
  return self
end

function findings.class(name)
  return text.shown({ __name = name }, form, rich)
end

return findings
