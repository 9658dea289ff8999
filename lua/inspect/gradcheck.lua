-- SPDX-License-Identifier: MIT
-- inspect.gradcheck: the tape's gradients against signed central differences in double precision, entry by entry.
--
-- A result of several numbers is weighed into one, with weights that differ, so that no two errors cancel.
local native = require "nablua.native"
local nb = require "nablua.core"
local modes = require "nablua.modes"
local options = require "nablua.options"
local html = require "nablua.inspect.html"
local text = require "nablua.inspect.text"

local gradcheck = {}

local SHOWN, MOST = 5, 2000  -- worst entries kept; entries checked of one input

local params = {
  { name = "eps", type = "positive", default = 1e-6 },
  { name = "tol", type = "positive", default = 1e-5 },
}

-- One number of whatever f returns.
local function weigh(y)
  if not nb.is_tensor(y) then
    native.raise("inspect.gradcheck: f must return a tensor, got " .. options.describe(y))
  end
  local n = y:numel()
  local weights = nb.arange(1, math.max(n, 1), 1, { dtype = "f64" }):mul(0.7):cos():add(1.5)
  return n == 0 and y:sum() or (y:reshape(n):to("f64") * weights:reshape(n)):sum()
end

local function index_of(t, flat)
  local list, shape = {}, t.shape
  for d = #shape, 1, -1 do
    table.insert(list, 1, (flat - 1) % shape[d] + 1)
    flat = (flat - 1) // shape[d] + 1
  end
  return list
end

local function check_inputs(inputs)
  if nb.is_tensor(inputs) then inputs = { inputs } end
  if type(inputs) ~= "table" or #inputs == 0 then
    native.raise("inspect.gradcheck: needs a table of input tensors, got " .. options.describe(inputs))
  end
  local list, owned = {}, {}
  for i, t in ipairs(inputs) do
    if not nb.is_tensor(t) then
      native.raise(("inspect.gradcheck: input %d must be a tensor, got %s"):format(i, options.describe(t)))
    end
    -- A leaf in double precision is checked itself, so that f may also find it elsewhere, in a net.
    if t.dtype == "f64" and t.is_leaf and t.requires_grad then
      list[i] = t
    elseif t.dtype == "f32" or t.dtype == "f64" then
      list[i] = nb.no_grad(function() return t:detach():to("f64"):clone() end)
      list[i].requires_grad = true
    else
      list[i], owned[i] = t, true
    end
  end
  return list, owned
end

local meta = { __name = "gradient check" }

local HEAD = { "input", "entry", "tape", "central difference", "relative difference" }
local SIDES = { "left", "left", "right", "right", "right" }

local function worst_rows(self)
  local rows = {}
  for i, w in ipairs(self.worst) do
    rows[i] = { tostring(w.name or w.input), "[" .. table.concat(w.index, ", ") .. "]", ("%.8g"):format(w.tape),
      ("%.8g"):format(w.numeric), text.number(w.error) }
  end
  return rows
end

local function form(self, settings)
  local paint = text.painter(settings)
  local head = self.ok and paint("green", "✓ gradients agree") or paint("warn", "✗ gradients differ")
  local lines = { ("%s: %d entries, largest relative difference %s (tolerance %s)"):format(head, self.checked,
    text.number(self.max_error), text.number(self.tol)) }
  if self.skipped > 0 then lines[#lines + 1] = ("  %d entries were left out, evenly"):format(self.skipped) end
  local rows = worst_rows(self)
  if #rows > 0 then
    table.insert(rows, 1, HEAD)
    for i, row in ipairs(rows) do rows[i] = { "  " .. row[1], table.unpack(row, 2) } end
    table.move(text.columns(rows, SIDES), 1, #rows, #lines + 1, lines)
  end
  if self.hint then lines[#lines + 1] = paint("yellow", self.hint) end
  return table.concat(lines, "\n")
end

local function rich(self)
  local color, words = html.GREEN, "gradients agree"
  if not self.ok then color, words = html.RED, "gradients differ" end
  local rows = worst_rows(self)
  for _, row in ipairs(rows) do row[1] = html.escape(row[1]) end
  local head = html.badge(color, self.ok and "✓" or "✗") .. html.span("font-weight:600", words)
  local right = ("%d entries%s, tolerance %s"):format(self.checked,
    self.skipped > 0 and (", %d left out, evenly"):format(self.skipped) or "", text.number(self.tol))
  local body = html.line("largest relative difference " .. text.number(self.max_error)) ..
    (self.hint and html.line("<b>" .. html.escape(self.hint) .. "</b>") or "") ..
    (#rows > 0 and html.table(HEAD, rows, SIDES) or "")
  return { ["text/html"] = html.card(color, head, right, body) }
end
text.shown(meta, form, rich)

-- What all differences have in common, where they do: the usual mistakes.
local function find_hint(entries)
  local ratio
  local n = 0
  for _, e in ipairs(entries) do
    if math.abs(e.numeric) > 1e-6 then
      local r = e.tape / e.numeric
      if ratio and math.abs(r - ratio) > 1e-3 * math.max(1, math.abs(ratio)) then return nil end
      ratio, n = ratio or r, n + 1
    end
  end
  if not ratio or n < 2 or math.abs(ratio - 1) < 1e-3 then return nil end
  if math.abs(ratio + 1) < 1e-3 then return "every entry has the wrong sign" end
  if math.abs(ratio) < 1e-6 then return "the tape's gradient is 0 throughout: does f detach, or round?" end
  return ("every entry is %.4g times what it should be"):format(ratio)
end

-- What is found of f, given a list of inputs some of which are fixed; `random` is where the random numbers began.
local function compare(f, list, fixed, o, random)
  local function value()
    native.random_state(random[1], random[2])  -- dropout drops the same each time
    return weigh((f(table.unpack(list))))
  end
  local J = native.with_grad(value)
  local tracked = {}
  for i, t in ipairs(list) do
    if not fixed[i] then tracked[#tracked + 1] = t end
  end
  if J.is_leaf then
    native.raise("inspect.gradcheck: the result of f does not depend on its inputs; parameters that f finds " ..
      "elsewhere must be f64 leaves to be checked: net:to(\"f64\")")
  end
  local gradients = table.pack(nb.grad(J, tracked))
  local self = setmetatable({ worst = {}, checked = 0, skipped = 0, max_error = 0, tol = o.tol, ok = true }, meta)
  local entries, at = {}, 0
  for i, t in ipairs(list) do
    if not fixed[i] then
      at = at + 1
      local g = gradients[at]
      local flat = nb.no_grad(function() return t:detach():view(-1) end)
      local g_flat = g and nb.no_grad(function() return g:reshape(-1) end)
      local n = t:numel()
      local stride = math.max(1, math.ceil(n / MOST))
      for k = 1, n, stride do
        local x = flat:at(k)
        local h = o.eps * math.max(1, math.abs(x))
        -- Recorded as f was at first: it may take gradients itself, of which a penalty is made.
        local function at_value(v)
          nb.no_grad(function() flat[k] = v end)
          return native.with_grad(value):item()
        end
        local numeric = modes.restoring(function()
          nb.no_grad(function() flat[k] = x end)
        end, function() return (at_value(x + h) - at_value(x - h)) / (2 * h) end)
        local tape = g_flat and g_flat:at(k) or 0.0
        local difference = math.abs(tape - numeric) / math.max(1, math.abs(tape), math.abs(numeric))
        if difference ~= difference then difference = math.huge end
        entries[#entries + 1] = { input = i, name = t.name, index = index_of(t, k), tape = tape, numeric = numeric,
          error = difference }
      end
      self.skipped = self.skipped + n - (n + stride - 1) // stride
    end
  end
  self.checked = #entries
  table.sort(entries, function(a, b) return a.error > b.error end)
  self.max_error = entries[1] and entries[1].error or 0
  self.ok = self.max_error <= o.tol
  for i = 1, math.min(SHOWN, #entries) do self.worst[i] = entries[i] end
  if not self.ok then self.hint = find_hint(entries) end
  return self
end

function gradcheck.gradcheck(f, inputs, given)
  local o = options.check("inspect.gradcheck", params, given)
  if not options.is_callable(f) then
    native.raise("inspect.gradcheck: needs a function, got " .. options.describe(f))
  end
  local list, fixed = check_inputs(inputs)
  local random = { native.random_state() }
  return modes.restoring(function() native.random_state(random[1], random[2]) end, compare, f, list, fixed, o, random)
end

return gradcheck
