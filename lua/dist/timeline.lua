-- SPDX-License-Identifier: MIT
-- dist.timeline: when the gradients of a net were exchanged, beside its backward.
local native = require "nablua.native"
local flame = require "nablua.inspect.flame"
local html = require "nablua.inspect.html"
local module = require "nablua.nn.module"
local options = require "nablua.options"
local parallel = require "nablua.dist.parallel"
local text = require "nablua.inspect.text"

local MOST = 32  -- rows; of more buckets several share one

-- ---- what is seen ----

-- The share of the time with anything on its way that lay before `walked`.
local function hidden(buckets, walked)
  local spans, all, before, to = {}, 0, 0, -math.huge
  for i, b in ipairs(buckets) do spans[i] = b end
  table.sort(spans, function(a, b) return a.begun < b.begun end)
  for _, b in ipairs(spans) do
    local from = math.max(b.begun, to)
    if b.ended > from then
      all, before = all + b.ended - from, before + math.max(math.min(b.ended, walked) - from, 0)
      to = b.ended
    end
  end
  return all > 0 and before / all or 0
end

-- Rows { name, size, full, begun, ended }, each of as many neighbours as are needed for few rows.
local function rows_of(buckets)
  local rows, each = {}, (#buckets + MOST - 1) // MOST
  for i = 1, #buckets, each do
    local row = { full = math.huge, begun = math.huge, ended = 0, count = 0, bytes = 0 }
    for k = i, math.min(i + each - 1, #buckets) do
      local b = buckets[k]
      row.full, row.begun = math.min(row.full, b.full), math.min(row.begun, b.begun)
      row.ended, row.count, row.bytes = math.max(row.ended, b.ended), row.count + b.count, row.bytes + b.bytes
    end
    row.name = buckets[i].first .. (row.count > 1 and (" and %d more"):format(row.count - 1) or "")
    rows[#rows + 1] = row
  end
  return rows
end

-- ---- the object ----

local meta = { __name = "timeline" }

local function headline(self)
  if #self.buckets == 0 then return "nothing has been exchanged" end
  return ("backward %s, all gradients there %s later; %.0f %% of the exchange beside it"):format(
    flame.time(self.walked), flame.time(self.done - self.walked), 100 * self.hidden)
end

-- Parts { from, to, kind } of a row, in seconds.
local function parts_of(self, row)
  if not row then return { { 0, self.walked, "backward" }, { self.walked, self.done, "waits" } } end
  return { { row.full, row.begun, "waits" }, { row.begun, row.ended, "moves" } }
end

local SIGNS = { backward = { "▓", "yellow" }, waits = { "·", "dim" }, moves = { "█", "blue" } }

-- A row's cells: one that anything falls into is filled.
local function cells(self, row, width, paint)
  local line, at = {}, 0
  for _, part in ipairs(parts_of(self, row)) do
    local from = math.floor(part[1] / self.done * width + 0.5)
    local to = math.floor(part[2] / self.done * width + 0.5)
    if part[3] == "moves" then from, to = math.min(from, width - 1), math.max(to, math.min(from, width - 1) + 1) end
    from = math.max(from, at)
    if to > from then
      line[#line + 1] = (" "):rep(from - at) .. paint(SIGNS[part[3]][2], SIGNS[part[3]][1]:rep(to - from))
      at = to
    end
  end
  return table.concat(line)
end

local function form(self, settings)
  local paint, width = text.painter(settings), math.max(settings.width or 80, 40)
  local lines = { paint("bold", text.cut(headline(self), width)) }
  if #self.buckets == 0 then return lines[1] end
  local rows = rows_of(self.buckets)
  local names, sizes = { "backward" }, { "" }
  for i, row in ipairs(rows) do names[i + 1], sizes[i + 1] = row.name, text.bytes(row.bytes) end
  local longest, widest = 0, 0
  for i, name in ipairs(names) do
    names[i] = text.cut(name, width // 3)
    longest, widest = math.max(longest, text.width(names[i])), math.max(widest, #sizes[i])
  end
  local room = width - longest - widest - 2
  for i, name in ipairs(names) do
    lines[#lines + 1] = ("%s %" .. widest .. "s %s"):format(text.pad(name, longest), sizes[i],
      cells(self, rows[i - 1], room, paint))
  end
  lines[#lines + 1] = paint("dim", text.cut("█ on its way   · waits   ▓ backward computes", width))
  return table.concat(lines, "\n")
end

local WIDTH, NAMES, ROW = 736, 220, 18
local FILLS = { backward = html.ORANGE, waits = "#88888855", moves = html.BLUE }

local function picture(self)
  local rows = rows_of(self.buckets)
  local parts = { ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" ' ..
    'font-family="DejaVu Sans,Helvetica,Arial,sans-serif" font-size="11">'):format(WIDTH, (#rows + 1) * ROW, WIDTH,
    (#rows + 1) * ROW) }
  local scale = (WIDTH - NAMES) / self.done
  for i = 0, #rows do
    local row, y = rows[i], i * ROW
    local label = row and row.name .. "  " .. text.bytes(row.bytes) or "backward"
    parts[#parts + 1] = ('<text x="0" y="%d" fill="currentColor">%s</text>'):format(y + 12,
      text.escape(text.cut(label, 34)))
    for _, part in ipairs(parts_of(self, row)) do
      local from, to, kind = table.unpack(part)
      local wide = math.max((to - from) * scale, kind == "moves" and 1 or 0)
      parts[#parts + 1] = ('<rect x="%.2f" y="%d" width="%.2f" height="%d" fill="%s"><title>%s %s</title></rect>')
        :format(NAMES + from * scale, y + 2, wide, ROW - 4, FILLS[kind], kind, flame.time(to - from))
    end
  end
  parts[#parts + 1] = ('<line x1="%.2f" x2="%.2f" y1="0" y2="%d" stroke="%s" stroke-dasharray="3 3"/></svg>'):format(
    NAMES + self.walked * scale, NAMES + self.walked * scale, (#rows + 1) * ROW, html.GRAY)
  return table.concat(parts)
end

local function rich(self)
  local line = html.line("<b>" .. html.escape(headline(self)) .. "</b>")
  return { ["text/html"] = #self.buckets == 0 and line or line .. html.line(picture(self)) }
end
text.shown(meta, form, rich)

return function(net)
  if not module.is(net) then native.raise("dist.timeline: net must be a module, got " .. options.describe(net)) end
  local times = parallel.times(net) or { walked = 0, done = 0 }
  local buckets = table.move(times, 1, #times, 1, {})
  return setmetatable({ walked = times.walked, done = times.done, hidden = hidden(buckets, times.walked),
    buckets = buckets }, meta)
end
