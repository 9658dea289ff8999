-- SPDX-License-Identifier: MIT
-- How a run is shown: where it stands, its curve with a mark there, its forks as branches of it.
local native = require "nablua.native"
local nb = require "nablua.core"
local axis = require "nablua.plot.axis"
local cards = require "nablua.inspect.cards"
local html = require "nablua.inspect.html"
local style = require "nablua.plot.style"
local svg = require "nablua.plot.svg"
local terminal = require "nablua.plot.terminal"
local text = require "nablua.inspect.text"

local card = {}

local WIDE = 1000  -- a curve over so many times its least is drawn on a logarithmic scale

-- ---- words ----

local function number(v)
  return v ~= nil and text.number(v + 0.0) or "–"
end

-- { name, value } pairs about a run: `self` is what it is, `at` an epoch.
local function facts(self, epoch, bytes)
  local ahead = self.head > self.at and (" of %d done"):format(self.head) or ""
  local total = self.source.count and self.source.count * self.epochs
  return { { "after step", ("%d%s"):format(self.at, ahead) },
    { "epoch", ("%d/%d"):format(math.min(epoch, self.epochs), self.epochs) },
    { "loss", number(self.history.loss[self.at]) }, { "rate", number(self.opt.lr) },
    { "at hand", ("steps %d to %d, %.3g MB"):format(self.kept[1].step, self.head, bytes / 1e6) }, total = total }
end

-- Its forks, and theirs: a list of { run =, from =, depth = }.
local function branches(self, inner, depth, list)
  for _, f in ipairs(self.forks or {}) do
    local own = inner[f]
    if own then
      list[#list + 1] = { own = own, from = own.from, depth = depth }
      branches(own, inner, depth + 1, list)
    end
  end
  return list
end

local function name_of(own, i)
  return own.name or "fork " .. i
end

local function branch_rows(list)
  local rows = {}
  for i, b in ipairs(list) do
    rows[i] = { ("  "):rep(b.depth - 1) .. "└ " .. name_of(b.own, i), "from step " .. b.from,
      "after step " .. b.own.at, "loss " .. number(b.own.history.loss[b.own.at]), "rate " .. number(b.own.opt.lr) }
  end
  return rows
end

-- ── ● ── where it stands among what is done, and what is still to come as dots.
local function bar(self, total, columns)
  local last = math.max(total or self.head, self.head, 1)
  local room = math.max(10, math.min(columns - 24, 60))
  local function place(k) return math.floor(k / last * (room - 1) + 0.5) end
  local parts = {}
  for i = 0, room - 1 do
    local done = i >= place(self.kept[1].step) and i <= place(self.head)
    parts[i + 1] = i == place(self.at) and "●" or done and "━" or "·"
  end
  return ("0 %s %d"):format(table.concat(parts), last)
end

-- ---- the curve ----

-- The losses of a fork, of which those far above its parent's would press that one's curve flat: they run along the
-- upper edge, as high again.
local function within_sight(losses, parent)
  local low, high, seen = math.huge, -math.huge, {}
  for _, v in ipairs(parent) do
    if v > -math.huge and v < math.huge then low, high = math.min(low, v), math.max(high, v) end
  end
  local most = high > low and high + (high - low) or math.huge
  for i, v in ipairs(losses) do seen[i] = v > most and most or v end
  return seen
end

-- Steps first .. last of these losses as a line.
local function line_of(losses, first, last, log, fields)
  if last < first then return nil end
  local x = nb.arange(first, last, { dtype = "f64" })
  local y = nb.tensor(table.move(losses, first, last, 1, {}), { dtype = "f64" })
  fields.type, fields.x, fields.y = "line", x, axis.transform(y, log)
  return fields
end

-- Whether losses, a list for each run, are so far apart that they need a logarithmic scale, and can have one.
function card.is_wide(lists)
  local low, high = math.huge, 0
  for _, losses in ipairs(lists) do
    for _, v in ipairs(losses) do
      if v <= 0 then return false end
      if v < math.huge then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  return high > WIDE * low
end

local function label_of(own, name)
  return ("%s  %s"):format(name, style.number(own.history.loss[own.head]))
end

local function scene_of(self, list)
  local losses = { self.history.loss }
  for i, b in ipairs(list) do losses[i + 1] = within_sight(b.own.history.loss, self.history.loss) end
  local log, marks, ends, xs, ys = card.is_wide(losses), {}, {}, {}, {}
  local function add(mark, label)
    if not mark then return end
    marks[#marks + 1] = mark
    xs[#xs + 1], ys[#ys + 1] = { mark.x, mark.x }, { mark.y, mark.x }
    if label then ends[#ends + 1] = { y = mark.y:at(-1), text = label, color = mark.color } end
  end
  local own, first = style.color(1), math.max(1, self.missing or 1)
  add(line_of(losses[1], first, self.at, log, { color = own, number = 1 }), self.head == self.at and
    label_of(self, self.name or "loss") or nil)
  if self.head > self.at then
    add(line_of(losses[1], math.max(self.at, 1), self.head, log, { color = own, number = 1, dashed = true }),
      label_of(self, self.name or "loss"))
  end
  for i, b in ipairs(list) do
    local color = style.color((i - 1) % 7 + 2)  -- the parent has the first
    add(line_of(losses[i + 1], math.max(b.from, 1), b.own.head, log, { color = color, number = i + 1 }),
      label_of(b.own, name_of(b.own, i)))
  end
  if self.at >= 1 and self.history.loss[self.at] == self.history.loss[self.at] then
    add { type = "points", color = own, x = nb.tensor({ self.at }, { dtype = "f64" }),
      y = axis.transform(nb.tensor({ self.history.loss[self.at] }, { dtype = "f64" }), log) }
  end
  return { panels = { { xlabel = "step", ylabel = "loss", marks = marks, ends = ends,
    x = axis.cover(xs, { whole = true }), y = axis.cover(ys, { pad = 0.04, log = log }) } } }
end

-- ---- both forms ----

-- The facts in as many lines as they need.
local function head_of(self, known, settings)
  local paint, columns = text.painter(settings), settings.width or 80
  local title = "run" .. (self.name and " " .. self.name or "")
  local lines, line, width = {}, paint("bold", title), text.width(title)
  for _, fact in ipairs(known) do
    local more = text.width(fact[1]) + text.width(fact[2]) + 3
    if width + more > columns then
      lines[#lines + 1], line, width = line, "", -2
    end
    line = (line == "" and "  " or line .. "  ") .. paint("dim", fact[1]) .. " " .. fact[2]
    width = width + more
  end
  lines[#lines + 1] = line
  return lines
end

-- The bundle of MIME types; `inner` leads from runs to what they are.
function card.display(self, inner, settings, epoch, bytes)
  local known, list = facts(self, epoch, bytes), branches(self, inner, 1, {})
  local lines = head_of(self, known, settings)
  local scene = self.head > 0 and scene_of(self, list)
  if scene then lines[#lines + 1] = terminal.draw(scene, settings) end
  lines[#lines + 1] = bar(self, known.total, settings.width or 80)
  local rows = branch_rows(list)
  if #rows > 0 then
    lines[#lines + 1] = table.concat(text.columns(rows, { "left", "left", "left", "left", "left" }), "\n")
  end
  local bundle = { ["text/plain"] = table.concat(lines, "\n") }
  if settings.rich then bundle["text/html"] = card.page(self, known, rows, scene) end
  return bundle
end

-- The same as HTML, with the curve.
function card.page(self, known, rows, scene)
  local cells = {}
  for i, fact in ipairs(known) do
    cells[i] = html.span("white-space:nowrap", html.dim(html.escape(fact[1])) .. " " .. html.escape(fact[2]))
  end
  local parts = { ("<div><b>run%s</b> &nbsp; %s</div>"):format(self.name and " " .. html.escape(self.name) or "",
    table.concat(cells, " &nbsp; ")) }
  local ok, drawing = pcall(svg.draw, scene or {}, style.grounds.clear)
  if not ok and native.interrupted() then error(drawing, 0) end
  if scene and ok then parts[#parts + 1] = "<div>" .. drawing:gsub("^.-(<svg)", "%1", 1) .. "</div>" end
  local last = math.max(known.total or self.head, self.head, 1)
  local function share(k) return k / last * 100 end
  parts[#parts + 1] = ('<div style="position:relative;height:10px;margin:4px 6px;max-width:700px;border-radius:5px;' ..
    'background:rgba(128,128,128,.2)"><div style="position:absolute;left:%.2f%%;width:%.2f%%;height:10px;' ..
    'border-radius:5px;background:%s;opacity:.5"></div><div style="position:absolute;left:calc(%.2f%% - 5px);' ..
    'width:10px;height:10px;border-radius:5px;background:%s"></div></div>'):format(share(self.kept[1].step),
    share(self.head - self.kept[1].step), html.BLUE, share(self.at), html.BLUE)
  if #rows > 0 then
    local lines = {}
    for i, row in ipairs(rows) do
      for k, cell in ipairs(row) do row[k] = ('<td style="padding:0 10px 0 0;text-align:left">%s</td>'):format(
        html.escape(cell)) end
      lines[i] = "<tr>" .. table.concat(row) .. "</tr>"
    end
    parts[#parts + 1] = '<table style="margin:2px 6px">' .. table.concat(lines) .. "</table>"
  end
  return cards.box(table.concat(parts))
end

return card
