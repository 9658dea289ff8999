-- SPDX-License-Identifier: MIT
-- inspect.summary: a table of a net's layers and what flows between them; and the lesson of shapes that do not fit.
--
-- The net runs once, on the given input; what that changes (running means, random numbers) is undone.
local native = require "nablua.native"
local registry = require "nablua.registry"
local nb = require "nablua.core"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local calls = require "nablua.inspect.calls"
local places = require "nablua.inspect.places"
local record = require "nablua.inspect.record"
local html = require "nablua.inspect.html"
local text = require "nablua.inspect.text"

local summary = {}

local BYTES = { f32 = 4, f64 = 8, i64 = 8, u8 = 1, bool = 1 }

local function bytes_of(t)
  return t:numel() * BYTES[t.dtype]
end

local function shape_of(v)
  return nb.is_tensor(v) and options.shape(v) or options.describe(v)
end

-- The parameters that a module holds itself; all of them where nothing is inside.
local function own_parameters(m)
  if not module.has_children(m) then return m:parameters() end
  local list = {}
  for _, v in pairs(m) do
    if nb.is_tensor(v) and v.is_leaf and v.requires_grad then list[#list + 1] = v end
  end
  return list
end

local teaching = false  -- errors of a run here need no table of their own

-- Runs net(input) and gives one row for each call of a layer, and the error where one failed.  rows.calls has the calls
-- of modules with others inside: { path =, module =, input =, output =, from, to = the rows of what is inside }.
local function run(net, inputs)
  local rows, open, paths, seen, around = {}, {}, {}, {}, {}
  rows.calls = {}
  for path, m in net:named_modules() do paths[m] = path end
  local function on_composite(m, enters, value)
    if enters then
      local call = { path = paths[m], module = m, input = shape_of(value), from = #rows + 1 }
      rows.calls[#rows.calls + 1], around[#around + 1] = call, call
    else
      local call = table.remove(around)
      call.output, call.to = shape_of(value), #rows
    end
  end
  local function on_call(m, enters, value)
    if paths[m] and module.has_children(m) then on_composite(m, enters, value) end
    if not paths[m] or module.has_children(m) and #own_parameters(m) == 0 then return end
    if enters then
      local row = { path = paths[m], kind = m:kind(), title = module.title(m), input = shape_of(value), module = m,
        params = 0, bytes = 0, given = value }
      for _, p in ipairs(own_parameters(m)) do
        if not seen[p] then
          seen[p] = true
          row.params, row.bytes = row.params + p:numel(), row.bytes + bytes_of(p)
        else
          row.shared = true
        end
      end
      rows[#rows + 1], open[#open + 1] = row, row
      native.profile_place(#rows)
      row.number = #rows
    else
      local row = table.remove(open)
      row.shape = nb.is_tensor(value) and value.shape or nil
      row.output = shape_of(value)
      row.given = nil
      if nb.is_tensor(value) then row.activation = bytes_of(value) end
      native.profile_place(open[#open] and open[#open].number or 0)
    end
  end
  local events = {}
  local anomaly, before = native.anomaly(), teaching
  native.anomaly(false)
  teaching = true
  local counts = native.profile_begin()
  local ok, result = pcall(calls.during, on_call, record.run_whole, events, function()
    return nb.no_grad(function() return net(table.unpack(inputs)) end)
  end)
  local spent = counts and native.profile_end() or {}
  for _, row in ipairs(rows) do row.flops, row.number = counts and 0 or nil, nil end
  rows.outside = 0
  for _, part in ipairs(spent) do
    local row = rows[part.place]
    if row then row.flops = row.flops + part.flops else rows.outside = rows.outside + part.flops end
  end
  native.anomaly(anomaly)
  teaching = before
  if ok then record.undo(events) end
  return rows, ok, result, open[#open]
end

-- ---- what would fit ----

local fits = {}

function fits.Linear(m, x)
  local n = 1
  for d = 2, x:dim() do n = n * x:size(d) end
  local last = x:dim() > 0 and x:size(-1) or 1
  if x:dim() > 2 and n == m.in_features then return "nn.Flatten()", "before it" end
  if x:dim() == 1 and x:numel() ~= m.in_features then
    return ("nn.Linear(%d, %d)"):format(last, m.out_features), "in its place"
  end
  if x:dim() > 2 then
    return ("nn.Flatten(), nn.Linear(%d, %d)"):format(n, m.out_features), "in its place"
  end
  return ("nn.Linear(%d, %d)"):format(last, m.out_features), "in its place"
end

local function convolution(dims)
  return function(m, x)
    local channels = m.in_channels
    if x:dim() == dims + 1 and channels == 1 then
      return "x:unsqueeze(2)", "as the input, for a dimension of 1 channel"
    end
    if x:dim() == dims + 1 and x:size(1) == channels then
      return "x:unsqueeze(1)", "as the input, for a batch of one"
    end
    if x:dim() ~= dims + 2 then return nil end
    if x:size(2) ~= channels then
      if x:size(-1) == channels and dims == 2 then
        return "x:permute(1, 4, 2, 3)", "as the input: channels come before rows and columns"
      end
      local kernel = table.move(m.weight.shape, 3, dims + 2, 1, {})
      kernel = kernel[1] == kernel[#kernel] and tostring(kernel[1]) or options.show(kernel)
      return ("nn.%s(%d, %d, %s)"):format(m:kind(), x:size(2), m.out_channels, kernel), "in its place"
    end
    return "a smaller kernel, or {padding=1}", "in its place"
  end
end
fits.Conv1d, fits.Conv2d, fits.ConvTranspose2d = convolution(1), convolution(2), convolution(2)

local function normalisation(m, x)
  if x:dim() < 2 then return nil end
  return ("nn.%s(%d)"):format(m:kind(), x:size(2)), "in its place"
end
fits.BatchNorm1d, fits.BatchNorm2d = normalisation, normalisation

function fits.LayerNorm(m, x)
  if x:dim() == 0 then return nil end
  return ("nn.%s(%d)"):format(m:kind(), x:size(-1)), "in its place"
end
fits.RMSNorm = fits.LayerNorm

-- What a layer expects of its input.
local expects = {
  Linear = function(m) return "…×" .. m.in_features end,
  Conv1d = function(m) return ("N×%d×L"):format(m.in_channels) end,
  Conv2d = function(m) return ("N×%d×H×W"):format(m.in_channels) end,
  ConvTranspose2d = function(m) return ("N×%d×H×W"):format(m.in_channels) end,
  BatchNorm1d = function(m) return ("N×%d"):format(m.num_features) end,
  BatchNorm2d = function(m) return ("N×%d×H×W"):format(m.num_features) end,
  LayerNorm = function(m) return "…×" .. options.shape(m.sizes) end,
  RMSNorm = function(m) return "…×" .. options.shape(m.sizes) end,
}

local function failure(row)
  local f = { path = row.path, title = row.title, got = row.input }
  local expect, fit = expects[row.kind], fits[row.kind]
  local known, words = pcall(expect or error, row.module)
  f.expected = known and words or nil
  if fit and nb.is_tensor(row.given) then f.change, f.how = fit(row.module, row.given) end
  return f
end

-- ---- the object ----

local Summary = {}
local meta = { __name = "summary", __index = Summary }

local MOST, FEW = 40, 24  -- rows of a table; those of more fold by module, to so many

-- Several rows as that of the module they lie in, whose call is known.
local function folded(self, unit)
  local row = { path = unit.path, params = 0, folded = unit.to - unit.from + 1 }
  for i = unit.from, unit.to do
    local r = self[i]
    row.params = row.params + r.params
    row.shared = row.shared or r.shared
    for _, key in ipairs { "activation", "flops" } do row[key] = r[key] and (row[key] or 0) + r[key] or row[key] end
    if r == self.failed then row.failed = true end
  end
  for _, call in ipairs(self.calls) do
    local at = unit.from + (self.offset or 0)
    if call.path == unit.path and call.from <= at and (not call.to or call.to >= at) then
      row.title, row.input, row.output = call.module:kind(), call.input, call.output
    end
  end
  return row
end

-- The rows as they are shown: all of them where they are few.
local function shown_rows(self)
  if #self <= MOST then return self end
  local list = {}
  for k, unit in ipairs(places.runs(self, FEW, function(row) return row.path end, self.within, true)) do
    list[k] = unit.from == unit.to and self[unit.from] or folded(self, unit)
  end
  return list
end

-- How what is folded is looked into; nil where nothing is.
local function way_in(rows)
  for i = #rows, 1, -1 do
    if rows[i].folded then return ("s:open(%q) shows what is inside"):format(rows[i].path) end
  end
end

local function cells(row, failed)
  local mark = failed and "✗ " or "  "
  if row.folded then
    return { mark .. row.path, row.title and ("%s, %d layers"):format(row.title, row.folded) or
      ("%d layers"):format(row.folded), row.input or "", row.output or "", row.params > 0 and text.count(row.params) or
      row.shared and "shared" or "", row.activation and text.bytes(row.activation) or "",
      row.flops and row.flops > 0 and text.amount(row.flops) or "" }
  end
  return { mark .. (row.path == "" and "·" or row.path), row.title, row.input,
    failed and "" or row.output or "", row.shared and row.params == 0 and "shared" or
      row.params > 0 and text.count(row.params) or "", row.activation and text.bytes(row.activation) or "",
    row.flops and row.flops > 0 and text.amount(row.flops) or "" }
end

local HEAD = { "  layer", "kind", "input", "output", "parameters", "activation", "FLOPs" }
local SIDES = { "left", "left", "left", "left", "right", "right", "right" }

local function failure_lines(f)
  local lines = {}
  if f.expected then lines[1] = ("✗ expected %s, got %s"):format(f.expected, f.got) end
  if f.change then lines[#lines + 1] = ("  what would fit: %s %s"):format(f.change, f.how) end
  return lines
end

local function total_text(self)
  local t = self.total
  return ("%s parameters, %s; activations %s%s for this input"):format(text.count(t.params), text.bytes(t.bytes),
    text.bytes(t.activation), t.flops and t.flops > 0 and ", " .. text.flop(t.flops) or "")
end

local function form(self, settings)
  local paint = text.painter(settings)
  local rows, shown = { HEAD }, shown_rows(self)
  for i, row in ipairs(shown) do rows[i + 1] = cells(row, self.failure and (row.failed or row == self.failed)) end
  local width = math.max(settings.width or 80, 20)
  local lines = text.columns(rows, SIDES)
  local widest, kind = 0, 0
  for i, line in ipairs(lines) do
    widest, kind = math.max(widest, text.width(line)), math.max(kind, text.width(rows[i][2]))
  end
  if widest > width then  -- what a layer is called with gives way first
    local room = math.max(12, kind - (widest - width))
    for _, row in ipairs(rows) do
      if text.width(row[2]) > room then row[2] = text.cut(row[2], room) end
    end
    lines = text.columns(rows, SIDES)
  end
  for i, line in ipairs(lines) do
    line = text.cut(line, width)
    lines[i] = i == 1 and paint("dim", line) or line:find("^✗") and paint("warn", line) or line
  end
  if self.failure then
    for _, line in ipairs(failure_lines(self.failure)) do lines[#lines + 1] = paint("yellow", line) end
    if self.error then lines[#lines + 1] = self.error end
  else
    lines[#lines + 1] = "  " .. total_text(self)
  end
  local hint = way_in(shown)
  if hint then lines[#lines + 1] = "  " .. paint("dim", text.cut(hint, width - 2)) end
  return table.concat(lines, "\n")
end

local function rich(self)
  local rows, most, shown = {}, 1, shown_rows(self)
  for _, row in ipairs(shown) do most = math.max(most, row.params) end
  local function is_failed(row) return self.failure and (row.failed or row == self.failed) end
  for i, row in ipairs(shown) do
    local list = cells(row, is_failed(row))
    for k, cell in ipairs(list) do list[k] = html.escape(cell) end
    list[2] = html.code(list[2]:gsub("^(.-), (%d+ layers)$", "%1</code> " .. html.dim "%2" .. "<code>"))
    list[5] = { list[5], html.bar(row.params / most, html.BLUE) }
    rows[i] = list
  end
  local function style(i)
    return is_failed(shown[i]) and "background:rgba(209,73,91,.2);font-weight:600" or ""
  end
  local below = {}
  if self.failure then
    local f = self.failure
    if f.expected then
      below[1] = html.line(html.badge(html.RED, "✗") .. (" expected <b>%s</b>, got <b>%s</b>"):format(
        html.escape(f.expected), html.escape(f.got)))
    end
    if f.change then
      below[#below + 1] = html.line("what would fit: " .. html.code(f.change) .. " " .. html.escape(f.how))
    end
  else
    below[1] = html.line((html.escape(total_text(self)):gsub("^[%d,]+", "<b>%0</b>")))
  end
  local hint = way_in(shown)
  if hint then below[#below + 1] = html.line(html.dim((html.escape(hint)))) end
  return { ["text/html"] = html.table(HEAD, rows, SIDES, style) .. table.concat(below) }
end
text.shown(meta, form, rich)

-- The first line of an error without the place and without a lesson.
local function plain_error(message)
  return (tostring(message):match("^[^\n]*"))
end

local function about_shapes(message)
  message = tostring(message)
  return message:find("shape", 1, true) or message:find("channels", 1, true)
end

local function add_up(self, params)
  self.total = { params = 0, bytes = 0, activation = 0 }
  for _, p in ipairs(params) do
    self.total.params, self.total.bytes = self.total.params + p:numel(), self.total.bytes + bytes_of(p)
  end
  for _, row in ipairs(self) do
    self.total.activation = self.total.activation + (row.activation or 0)
    self.total.flops = row.flops and (self.total.flops or self.outside or 0) + row.flops
  end
end

Summary.open = registry.add {
  name = "summary:open", kind = "method", signature = "s:open(path)", see = { "inspect.summary", "inspect.explain" },
  doc = "The rows of what is inside a module, as a summary of its own.",
  params = { { name = "path", type = "string", doc = "the module's path, such as \"encoder.3\"" } },
  example = [[
local net = nn.Sequential{ nn.Sequential{ nn.Linear(2, 3), nn.Tanh() }, nn.Linear(3, 1) }
return #inspect.summary(net, nb.ones(1, 2)):open("1")  --> 2]],
  value = function(self, path)
    if type(path) ~= "string" then
      native.raise("open: needs a module's path, such as s:open(\"encoder.3\"), got " .. options.describe(path))
    end
    local inner = setmetatable({ within = path, calls = self.calls, failure = self.failure, failed = self.failed,
      error = self.error, outside = 0, net = self.net }, meta)
    for i, row in ipairs(self) do
      if places.is_inside(row.path, path) and row.path ~= "" then
        inner.offset = inner.offset or (self.offset or 0) + i - 1
        inner[#inner + 1] = row
      end
    end
    if #inner == 0 then
      local known, seen = {}, {}
      for _, call in ipairs(self.calls) do
        if call.path ~= "" and not seen[call.path] then
          seen[call.path] = true
          known[#known + 1] = call.path
        end
      end
      native.raise(("open: there is no module \"%s\" among the rows; there are %s%s"):format(path, #known > 0 and
        table.concat(known, ", ", 1, math.min(#known, 12)) or "none", #known > 12 and ", …" or ""))
    end
    local params = {}
    for at, m in self.net:named_modules() do
      if at == path then params = m:parameters() end
    end
    add_up(inner, params)
    return inner
  end,
}

function summary.summary(net, ...)
  if not module.is(net) then native.raise("inspect.summary: needs a net, got " .. options.describe(net)) end
  local inputs = table.pack(...)
  if inputs.n == 0 then
    native.raise("inspect.summary: needs an input too, such as nb.zeros(1, 784): shapes are those of a run")
  end
  local rows, ok, result, failed = run(net, inputs)
  local self = setmetatable(rows, meta)
  self.net = net
  add_up(self, net:parameters())
  rows.outside = nil
  if not ok then
    if not failed or not about_shapes(result) then error(result, 0) end
    self.failed, self.failure, self.error = failed, failure(failed), plain_error(result)
    failed.given = nil
  end
  return self
end

-- ---- errors that teach ----

-- The table up to the failing layer, for a message about shapes from inside a net.
function module.teach(stack, message)
  if teaching or not about_shapes(message) then return "" end
  if #stack < 2 or not nb.is_tensor(stack.input) or message:find("\n", 1, true) then return "" end
  local ok, lesson = pcall(function()
    local rows, fine, _, failed = run(stack[1], { stack.input })
    if fine or not failed then return "" end
    local self = setmetatable(rows, meta)
    self.failed, self.failure = failed, failure(failed)
    while #rows > 12 do table.remove(rows, 1) end
    return "\n" .. form(self, { width = 100 })
  end)
  return ok and lesson or ""
end

return summary
