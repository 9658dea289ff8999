-- SPDX-License-Identifier: MIT
-- nb.compare: several runs beside each other, and where they part.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"
local cards = require "nablua.inspect.cards"
local figure = require "nablua.plot.figure"
local html = require "nablua.inspect.html"

local Comparison = { __name = "comparison" }
Comparison.__index = Comparison

local function same_number(a, b)
  return a == b or a ~= a and b ~= b
end

-- The first step that not all have with the same loss; nil where one ends before that.
local function parting(list)
  local first = list[1].history.loss
  for k = 1, list[1].last do
    for i = 2, #list do
      local loss = list[i].history.loss[k]
      if loss == nil then return nil end
      if not same_number(loss, first[k]) then return k end
    end
  end
end

local function least(losses)
  local best
  for k = 1, #losses do
    if not best or losses[k] < losses[best] then best = k end
  end
  return best
end

local function number(v)
  if v ~= v then return "NaN" end
  return v and ("%.5g"):format(v) or "-"
end

local function name_of(list, i)
  return list[i].name or "run " .. i
end

local HEAD = { "run", "steps", "rate", "loss", "least", "at step" }

local function rows_of(list)
  local rows = {}
  for i, r in ipairs(list) do
    local losses = r.history.loss
    local best = least(losses)
    rows[i] = { name_of(list, i), tostring(r.last), number(r.lr), number(losses[r.last]),
      number(best and losses[best]), best and tostring(best) or "-" }
  end
  return rows
end

local function table_text(rows)
  local widths = {}
  table.insert(rows, 1, HEAD)
  for _, row in ipairs(rows) do
    for c, text in ipairs(row) do widths[c] = math.max(widths[c] or 0, native.width(text)) end
  end
  local lines = {}
  for i, row in ipairs(rows) do
    local cells = {}
    for c, text in ipairs(row) do
      local blanks = (" "):rep(widths[c] - native.width(text))
      cells[c] = c == 1 and text .. blanks or blanks .. text
    end
    lines[i] = table.concat(cells, "  ")
  end
  return table.concat(lines, "\n")
end

-- Where they part, in words.
local function said_of(self)
  local said = "the losses are the same, as far as all go"
  if self.step then
    local values = {}
    for i, r in ipairs(self.runs) do values[i] = number(r.history.loss[self.step]) end
    said = ("they part at step %d: losses %s"):format(self.step, table.concat(values, ", "))
  end
  if self.first and self.what ~= "loss" then
    said = ("%s; the %s first, at step %d"):format(said, self.what, self.first)
  end
  return said
end

function Comparison:__tostring()
  return table_text(rows_of(self.runs)) .. "\n" .. said_of(self)
end

local function page_of(self)
  local rows = rows_of(self.runs)
  for _, row in ipairs(rows) do
    for c, text in ipairs(row) do row[c] = html.escape(text) end
  end
  local ok, drawing = pcall(figure.within_page, self.plot)
  if not ok and native.interrupted() then error(drawing, 0) end
  return cards.box((ok and "<div>" .. drawing .. "</div>" or "") ..
    html.table(HEAD, rows, { "left", "right", "right", "right", "right", "right" }) ..
    html.line(html.escape(said_of(self))))
end

function Comparison:__display(settings)
  local bundle = self.plot:__display(settings)
  bundle["text/plain"] = tostring(self) .. "\n" .. (bundle["text/plain"] or "")
  if settings.rich then bundle["text/html"] = page_of(self) end
  return bundle
end

return function(run)
  function run.compare(list)
    local runs = {}
    for i, r in ipairs(type(list) == "table" and not run.is(list) and list or {}) do
      if not run.is(r) then
        native.raise(("nb.compare: entry %d must be a run, got %s"):format(i, options.describe(r)))
      end
      runs[i] = r
    end
    if #runs < 2 then
      native.raise("nb.compare: needs a table of at least two runs, nb.compare{a, b}, got " .. options.describe(list))
    end
    local series, losses = {}, {}
    for i, r in ipairs(runs) do
      losses[i] = r.history.loss
      series[i] = { name = name_of(runs, i), y = losses[i] }
    end
    local first, what
    for i = 2, #runs do
      local k, of = run.parting(runs[1], runs[i])
      if k and (not first or k < first) then first, what = k, of end
    end
    return setmetatable({ runs = runs, step = parting(runs), first = first, what = what,
      plot = nb.plot.curve(series, { title = "loss", xlabel = "step",
        logy = require("nablua.run.card").is_wide(losses) }) }, Comparison)
  end

  registry.add {
    name = "nb.compare", kind = "function", value = nb.compare, code = function() return run.compare end,
    family = "Runs", see = { "run:fork", "inspect.diff", "plot.curve" }, signature = "nb.compare{a, b, ...}",
    doc = "Runs beside each other: their losses on one axis, a table, and `step`, the first whose losses differ.  " ..
      "inspect.diff(a, b) looks into that step.  Fields: runs step plot; first and what: the step that first " ..
      "differs, in its \"rate\", \"loss\" or the \"weights\" it leaves.",
    example = [[
local net, x = nn.Linear(1, 1), nb.rand(8, 1)
local run = nb.run{net=net, loss=nn.MSELoss(), opt=optim.SGD(net:parameters()), data={x, 2 * x}, size=4, epochs=3}
local hot = run:next(2):fork{opt={lr=0.5}, name="hot"}
return nb.compare{run:go(), hot:go()}.step  --> 4]],
  }
end
