-- SPDX-License-Identifier: MIT
-- inspect.profile: where the time of a program goes, by operator and by layer, forward and backward, beside what the
-- machine can do (Williams, Waterman, Patterson 2009, "Roofline").
--
-- The counting is done by a listener in C (binding/profile.c); here are the names of places, the roof and the tables.
local native = require "nablua.native"
local nb = require "nablua.core"
local modes = require "nablua.modes"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local registry = require "nablua.registry"
local calls = require "nablua.inspect.calls"
local flame = require "nablua.inspect.flame"
local html = require "nablua.inspect.html"
local roles = require "nablua.inspect.roles"
local text = require "nablua.inspect.text"

local profile = {}

-- ---- the roof ----

local roofs = {}  -- by number of threads

-- The least seconds of a call of f, over some calls.
local function least_seconds(f, rounds)
  local least = math.huge
  for _ = 1, rounds do
    local start = native.clock()
    f()
    least = math.min(least, native.clock() - start)
  end
  return least
end

-- { flops = operations a second, cache =, memory = bytes a second }, measured once: a product of matrices, and sums in
-- place of what stays in the cache and of what does not.
function profile.roof()
  local threads = nb.threads()
  if roofs[threads] then return roofs[threads] end
  return nb.no_grad(function()
    local roof, n = { threads = threads }, 384
    local a, b = nb.ones(n, n), nb.ones(n, n)
    roof.flops = 2 * n ^ 3 / least_seconds(function() return a:matmul(b) end, 12)
    local small, large = nb.ones(1 << 14), nb.ones(1 << 23)
    roof.memory = 2 * 4 * (1 << 23) / least_seconds(function() large:add_(1) end, 4)
    roof.cache = math.max(roof.memory, 2 * 4 * (1 << 14) / least_seconds(function() small:add_(1) end, 400))
    roofs[threads] = roof
    return roof
  end)
end

local IN_CACHE = 1 << 20  -- bytes of a call that may find its operands there

-- The share of the roof: the seconds that the machine needs at best, of those that were taken.
local function share_of_roof(roof, row)
  if row.seconds <= 0 then return nil end
  local speed = row.bytes / math.max(row.calls, 1) <= IN_CACHE and roof.cache or roof.memory
  return math.max(row.flops / roof.flops, row.bytes / speed) / row.seconds
end

-- ---- places ----

-- Names the layers that are called, and tells the counter where it is.  Those that exist are named before anything is
-- counted: it takes longer than a step of a small net.
local function new_guide()
  local paths, names, numbers, kinds = {}, { [0] = "" }, { [""] = 0 }, {}
  local places, stack, depth = {}, {}, 0  -- layer → its number; the layers that are called, outermost first
  local function name_all()
    for root in pairs(module.roots()) do
      for path, inner in root:named_modules() do paths[inner] = paths[inner] or path end
    end
  end
  name_all()
  local function place_of(m)
    if not paths[m] then
      name_all()
      paths[m] = paths[m] or m:kind()
    end
    local path = paths[m]
    if not numbers[path] then
      names[#names + 1] = path
      numbers[path] = #names
    end
    kinds[path] = kinds[path] or m:kind()
    places[m] = numbers[path]
    return places[m]
  end
  return names, kinds, function(m, enters)
    if enters then
      depth = depth + 1
      stack[depth] = m
      native.profile_place(places[m] or place_of(m))
      return
    end
    while depth > 0 and stack[depth] ~= m do depth = depth - 1 end
    depth = math.max(depth - 1, 0)
    native.profile_place(depth > 0 and places[stack[depth]] or 0)
  end
end

-- ---- summing up ----

local BETWEEN = "between kernels"

local function add(into, row)
  for _, k in ipairs { "calls", "seconds", "flops", "bytes" } do into[k] = (into[k] or 0) + row[k] end
  return into
end

-- Rows with the same key, summed, those that took longest first.
local function by(rows, key_of)
  local list, found = {}, {}
  for _, row in ipairs(rows) do
    local key = key_of(row)
    if key and not found[key] then
      found[key] = { name = key }
      list[#list + 1] = found[key]
    end
    if key then
      add(found[key], row)
      local phase = found[key]
      phase[row.phase] = (phase[row.phase] or 0) + row.seconds
    end
  end
  table.sort(list, function(a, b) return a.seconds > b.seconds end)
  return list
end

-- How users know an operator that they never call: "the gradient of ...".
local function title(op)
  if #op == 0 then return BETWEEN end
  local row = registry.row(op)
  if row and row.internal then
    local base = op:match("^(.-)_grad$") or op:match("^(.-)_weight$")
    if base then return roles.title(base) .. " (backward)" end
  end
  return row and roles.title(op) or op .. " step"
end

local function tree_of(rows, seconds)
  local root = { name = "all " .. flame.time(seconds), seconds = seconds, kind = "all", children = {}, inside = {} }
  local function inside(node, name, kind)
    if not node.inside[name] then
      node.inside[name] = { name = name, seconds = 0, kind = kind, children = {}, inside = {} }
      node.children[#node.children + 1] = node.inside[name]
    end
    return node.inside[name]
  end
  for _, row in ipairs(rows) do
    local node = inside(root, row.phase, row.phase)
    node.seconds = node.seconds + row.seconds
    for part in row.layer:gmatch("[^.]+") do
      node = inside(node, part, row.phase)
      node.seconds = node.seconds + row.seconds
    end
    node = inside(node, row.op, row.op == BETWEEN and "between" or row.phase)
    node.seconds = node.seconds + row.seconds
  end
  return root
end

-- ---- the object ----

local Profile = {}
local meta = { __name = "profile", __index = Profile }

local function percent(part, whole)
  local share = whole > 0 and 100 * part / whole or 0
  return share >= 10 and ("%.0f %%"):format(share) or ("%.1f %%"):format(share)
end

local function rate_text(n, seconds)
  local rate = n > 0 and seconds > 0 and n / seconds / 1e9
  return rate and (rate < 0.01 and "<0.01" or ("%.3g"):format(rate)) or "–"
end

local MOST_ROWS = 12

local function operator_rows(self)
  local rows, rest = {}, nil
  for k, o in ipairs(self.operators) do
    if k > MOST_ROWS and o.name ~= BETWEEN then
      rest = add(rest or { count = 0 }, o)
      rest.count = rest.count + 1
    else
      local roof = o.name ~= BETWEEN and share_of_roof(self.roof, o)
      rows[#rows + 1] = { o.name, o.name == BETWEEN and "" or text.count(o.calls), flame.time(o.seconds),
        percent(o.seconds, self.seconds), o.flops > 0 and text.amount(o.flops) or "–",
        rate_text(o.flops, o.seconds), rate_text(o.bytes, o.seconds), roof and ("%.0f %%"):format(100 * roof) or "",
        share = o.seconds / self.seconds }
    end
  end
  if rest then
    rows[#rows + 1] = { ("%d others"):format(rest.count), text.count(rest.calls), flame.time(rest.seconds),
      percent(rest.seconds, self.seconds), rest.flops > 0 and text.amount(rest.flops) or "–",
      rate_text(rest.flops, rest.seconds), rate_text(rest.bytes, rest.seconds), "",
      share = rest.seconds / self.seconds }
  end
  return rows
end

local function layer_rows(self)
  local rows = {}
  for k, l in ipairs(self.layers) do
    if k > MOST_ROWS then break end
    rows[k] = { l.name == "" and "outside of layers" or l.name, l.kind or "", flame.time(l.forward or 0),
      flame.time(l.backward or 0), percent(l.seconds, self.seconds), l.flops > 0 and text.amount(l.flops) or "–",
      rate_text(l.flops, l.seconds), share = l.seconds / self.seconds }
  end
  if #self.layers > MOST_ROWS then
    rows[#rows + 1] = { ("… %d more"):format(#self.layers - MOST_ROWS), "", "", "", "", "", "", share = 0 }
  end
  return rows
end

local OPERATORS = { "operator", "calls", "time", "share", "FLOPs", "GFLOP/s", "GB/s", "of roof" }
local OPERATOR_SIDES = { "left", "right", "right", "right", "right", "right", "right", "right" }
local LAYERS = { "layer", "kind", "forward", "backward", "share", "FLOPs", "GFLOP/s" }
local LAYER_SIDES = { "left", "left", "right", "right", "right", "right", "right" }

local function headline(self)
  return ("%s   %s   %s GFLOP/s"):format(flame.time(self.seconds), text.flop(self.flops),
    rate_text(self.flops, self.seconds))
end

local function split_line(self)
  local parts = {}
  for _, phase in ipairs { "forward", "backward", "update" } do
    if self.phases[phase] then parts[#parts + 1] = phase .. " " .. percent(self.phases[phase], self.seconds) end
  end
  parts[#parts + 1] = BETWEEN .. " " .. percent(self.between, self.seconds)
  return table.concat(parts, "   ")
end

local function roof_line(self)
  local r = self.roof
  return ("measured roof of %d thread%s: %.3g GFLOP/s, %.3g GB/s from memory, %.3g GB/s from the cache"):format(
    r.threads, r.threads == 1 and "" or "s", r.flops / 1e9, r.memory / 1e9, r.cache / 1e9)
end

local function form(self, settings)
  local paint, width = text.painter(settings), math.max(settings.width or 80, 40)
  local lines = { paint("bold", text.cut(headline(self), width)) }
  local split = split_line(self)
  for _, line in ipairs(text.width(split) <= width and { split } or text.wrap(split, width)) do
    lines[#lines + 1] = line
  end
  lines[#lines + 1] = ""
  local function add_table(head, rows, sides)
    table.insert(rows, 1, head)
    for k, line in ipairs(text.columns(rows, sides)) do
      line = text.cut(line, width)
      lines[#lines + 1] = k == 1 and paint("dim", line) or line
    end
    lines[#lines + 1] = ""
  end
  add_table(OPERATORS, operator_rows(self), OPERATOR_SIDES)
  if #self.layers > 1 then add_table(LAYERS, layer_rows(self), LAYER_SIDES) end
  for _, line in ipairs(flame.lines(self.tree, math.min(width, 160), settings.color)) do lines[#lines + 1] = line end
  lines[#lines + 1] = ""
  for _, line in ipairs(text.wrap(roof_line(self), width)) do lines[#lines + 1] = paint("dim", line) end
  return table.concat(lines, "\n")
end

local function table_of(head, rows, sides, at)
  for _, row in ipairs(rows) do
    for k, cell in ipairs(row) do row[k] = html.escape(cell) end
    row[at] = { row[at], html.bar(row.share, html.BLUE) }
  end
  return html.table(head, rows, sides)
end

local function rich(self)
  local function wide(s) return (html.escape(s):gsub("   +", " &emsp; ")) end
  local parts = { html.line("<b>" .. wide(headline(self)) .. "</b>"), html.line(wide(split_line(self))),
    html.line(flame.svg(self.tree, 736)), table_of(OPERATORS, operator_rows(self), OPERATOR_SIDES, 4) }
  if #self.layers > 1 then parts[#parts + 1] = table_of(LAYERS, layer_rows(self), LAYER_SIDES, 5) end
  parts[#parts + 1] = html.line(html.dim(html.escape(roof_line(self))))
  return { ["text/html"] = table.concat(parts) }
end
text.shown(meta, form, rich)

Profile.save = registry.add {
  name = "profile:save", kind = "method",
  doc = "Writes the flame graph as .svg, or all of the profile as .txt.  Returns the profile.",
  signature = "p:save(path)", params = { { name = "path", type = "string" } }, see = { "inspect.profile" },
  example = "pcall(function() inspect.profile(function() end):save(\"a.doc\") end)  --> false",
  value = function(self, path)
    local kind = type(path) == "string" and path:match("%.(%w+)$")
    if kind ~= "svg" and kind ~= "txt" then
      native.raise("save: the file's name must end in .svg or .txt, got " .. options.describe(path))
    end
    native.replace("save", path, kind == "svg" and flame.svg(self.tree, 1200) .. "\n" or
      form(self, { width = 120 }) .. "\n")
    return self
  end,
}

-- ---- running ----

-- Calls f and counts; the results of f follow the profile.
function profile.profile(f, ...)
  if not options.is_callable(f) then
    native.raise("inspect.profile: needs a function, such as function() step() end, got " .. options.describe(f))
  end
  local roof = profile.roof()
  local names, kinds, guide = new_guide()
  local rows, seconds, lost
  collectgarbage()  -- what was left until now would be collected on f's time
  local results = modes.restoring(native.profile_drop, function(...)
    if not native.profile_begin() then
      native.raise("inspect.profile: a profile is under way; profiles do not nest")
    end
    local results = table.pack(calls.during(guide, f, ...))
    rows, seconds, lost = native.profile_end()
    return results
  end, ...)
  local self = setmetatable({ seconds = seconds, rows = rows, roof = roof, flops = 0, bytes = 0, between = 0,
    phases = {}, incomplete = lost or nil }, meta)
  for _, row in ipairs(rows) do
    row.layer, row.place, row.op = names[row.place], nil, title(row.op)
    self.flops, self.bytes = self.flops + row.flops, self.bytes + row.bytes
    if row.op == BETWEEN then
      self.between = self.between + row.seconds
    else
      self.phases[row.phase] = (self.phases[row.phase] or 0) + row.seconds
    end
  end
  self.operators = by(rows, function(row) return row.op end)
  self.layers = by(rows, function(row) return row.layer end)
  for _, layer in ipairs(self.layers) do layer.kind = layer.name ~= "" and kinds[layer.name] or nil end
  self.tree = tree_of(rows, seconds)
  return self, table.unpack(results, 1, results.n)
end

return profile
