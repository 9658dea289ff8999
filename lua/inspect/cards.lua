-- SPDX-License-Identifier: MIT
-- How a notebook shows values that have no form of their own: tensors with what their numbers are like, nets as trees
-- that fold, lists of records as tables.  What folds does so in HTML alone: no script runs.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local html = require "nablua.inspect.html"
local text = require "nablua.inspect.text"

local cards = {}

local BOX = "border:1px solid rgba(128,128,128,.3);border-radius:4px;padding:6px 12px;margin:4px 0;max-width:736px;" ..
  "box-sizing:border-box;overflow-x:auto;width:fit-content"
local SLICES = 24  -- that can be paged through

local function box(content)
  return ('<div class="%s" style="%s">%s</div>'):format(html.PLAIN, BOX, content)
end

cards.box = box

local function folded(summary, content, open, more)
  return ('<details%s style="margin:2px 0;%s"><summary style="cursor:pointer">%s</summary>%s</details>'):format(
    open and " open" or "", more or "", summary, content)
end

-- ---- tensors ----

local BINS = 24

-- The counts of the finite values in equal steps from the least to the largest.
local function histogram(values, low, high)
  if high <= low then return nil end
  local at = ((values - low) / (high - low) * BINS):clamp(0, BINS - 0.5):floor():to("i64"):totable()
  local counts = {}
  for i = 1, BINS do counts[i] = 0 end
  for _, k in ipairs(at) do counts[k + 1] = counts[k + 1] + 1 end
  return counts
end

local function bars(counts)
  local most, parts = math.max(table.unpack(counts)), {}
  for i, n in ipairs(counts) do
    parts[i] = html.span(("display:inline-block;width:4px;margin-right:1px;vertical-align:bottom;height:%dpx;" ..
      "background:%s;opacity:.8"):format(n > 0 and math.max(1, math.ceil(n / most * 18)) or 0, html.BLUE), "")
  end
  return html.span("display:inline-block;height:18px;line-height:0;vertical-align:middle", table.concat(parts))
end

local MOST = 1 << 22   -- numbers that are looked at; of more, one in so many
local SAMPLE = 20000  -- numbers that a histogram is made of

local function number_pair(name, v)
  return html.dim(name) .. " " .. html.escape(text.number(v))
end

-- What the numbers are like: least, largest, mean, spread, what is not finite, and their distribution.
local function statistics(t)
  return nb.no_grad(function()
    local values = t:detach():reshape(-1)
    local stride = math.max(1, t:numel() // MOST)
    if stride > 1 then values = values[{ { 1, t:numel(), stride } }] end
    values = values:to("f64")
    if t.dtype == "bool" then
      local n = values:sum():item()
      return ("%s %d of %d"):format(html.dim("true"), n, values:numel())
    end
    local finite = values:isfinite()
    local bad = values:numel() - finite:sum():item()
    if bad > 0 then values = values[finite] end
    local parts = {}
    if values:numel() > 0 then
      local low, high, mean = values:min():item(), values:max():item(), values:mean():item()
      parts = { number_pair("min", low), number_pair("max", high), number_pair("mean", mean) }
      if values:numel() > 1 then parts[4] = number_pair("std", values:std():item()) end
      local step = math.max(1, values:numel() // SAMPLE)
      local counts = values:numel() > 8 and histogram(values[{ { 1, values:numel(), step } }], low, high)
      if counts then parts[#parts + 1] = bars(counts) end
    end
    if bad > 0 then
      parts[#parts + 1] = html.badge(html.RED, ("%d not finite"):format(math.tointeger(bad)))
    end
    if stride > 1 then parts[#parts + 1] = html.dim(("of one number in %d"):format(stride)) end
    return table.concat(parts, " &nbsp;")
  end)
end

-- The indices of the outer dimensions, "[2, 1, :, :]", in order, at most so many.
local function outer_indices(shape, most)
  local list, index = {}, {}
  for d = 1, #shape - 2 do index[d] = 1 end
  while #list < most do
    list[#list + 1] = table.move(index, 1, #index, 1, {})
    local d = #index
    while d > 0 and index[d] == shape[d] do
      index[d] = 1
      d = d - 1
    end
    if d == 0 then break end
    index[d] = index[d] + 1
  end
  return list
end

-- A number that no other card of this process has: slices of one card fold together.
local cards_made = 0

local function slices(t)
  local shape, parts = t.shape, {}
  local list = outer_indices(shape, SLICES)
  local all = 1
  for d = 1, #shape - 2 do all = all * shape[d] end
  cards_made = cards_made + 1
  for i, index in ipairs(list) do
    local slice = t
    for _, k in ipairs(index) do slice = slice[k] end
    local label = ("[%s, :, :]"):format(table.concat(index, ", "))
    parts[i] = ('<details name="nablua-%d-%d"%s style="margin:1px 0"><summary style="cursor:pointer">%s</summary>%s' ..
      '</details>'):format(native.id(t), cards_made, i == 1 and " open" or "", html.dim(label), html.grid(slice))
  end
  if all > #list then parts[#parts + 1] = html.line(html.dim(("… %d more of %d"):format(all - #list, all))) end
  return table.concat(parts)
end

local function tensor_html(t)
  if t:dim() == 0 or t:numel() == 0 then return nil end
  local head = { html.badge(html.GRAY, t.dtype), "<b>" .. html.escape(options.shape(t)) .. "</b>" }
  if t.requires_grad then head[#head + 1] = html.badge(html.ORANGE, t.is_leaf and "requires grad" or "recorded") end
  if t.name then head[#head + 1] = html.code(t.name) end
  local body = nb.no_grad(function()
    local values = t:detach()
    return t:dim() > 2 and slices(values) or html.grid(values)
  end)
  return box(("%s &nbsp; %s%s"):format(table.concat(head, " "), statistics(t), body))
end

-- ---- nets ----

local function parameter_html(name, p)
  return html.line(("%s %s %s &nbsp; %s"):format(html.code(name), html.escape(options.shape(p)), html.dim(p.dtype),
    p:numel() > 0 and statistics(p) or ""))
end

local function node_html(node, open)
  local parts = {}
  for _, p in ipairs(node.parameters) do parts[#parts + 1] = parameter_html(p[1], p[2]) end
  for _, child in ipairs(node.children) do parts[#parts + 1] = node_html(child, open and #node.children <= 24) end
  local summary = ("%s<b>%s</b>%s"):format(node.name and html.dim(html.escape(node.name)) .. " &nbsp;" or "",
    html.escape(node.title), node.count > 0 and " &nbsp;" .. html.dim(("%s parameter%s"):format(text.count(node.count),
      node.count == 1 and "" or "s")) or "")
  if #parts == 0 then return ('<div style="margin:2px 0 2px 1.05em">%s</div>'):format(summary) end
  local inner = ('<div style="margin-left:.45em;padding-left:1em;border-left:1px solid rgba(128,128,128,.3)">%s</div>')
    :format(table.concat(parts))
  return folded(summary, inner, open and #node.children > 0)
end

-- A tree { name=, title=, count=, parameters = { { name, tensor } }, children = }.
function cards.net(tree)
  return box(node_html(tree, true))
end

-- ---- lists of records ----

local ROWS, COLUMNS = 20, 12

local function is_scalar(v)
  local kind = type(v)
  return kind == "string" or kind == "number" or kind == "boolean" or nb.is_tensor(v) and v:dim() == 0
end

-- The columns of a list of at least two tables by name, all of scalars; nil where it is none.
local function columns_of(list)
  local n = #list
  if n < 2 then return nil end
  for key in next, list do
    if math.type(key) ~= "integer" or key < 1 or key > n then return nil end
  end
  local names, seen = {}, {}
  for i = 1, math.min(n, 200) do
    local record = list[i]
    if type(record) ~= "table" or getmetatable(record) or next(record) == nil then return nil end
    local found = {}
    for key, v in next, record do
      if type(key) ~= "string" or not is_scalar(v) then return nil end
      if not seen[key] then
        seen[key] = true
        found[#found + 1] = key
      end
    end
    table.sort(found)
    for _, key in ipairs(found) do names[#names + 1] = key end
  end
  return names
end

local function cell_html(v)
  if v == nil then return html.dim("–") end
  if type(v) == "number" then return html.escape(math.type(v) == "integer" and tostring(v) or text.number(v)) end
  if nb.is_tensor(v) then return html.escape(tostring(v)) end
  return html.escape(text.cut(tostring(v):gsub("%s+", " "), 60))
end

local function records_html(list)
  local names = columns_of(list)
  if not names then return nil end
  local head, rows, sides = { "" }, {}, { "right" }
  for k = 1, math.min(#names, COLUMNS) do
    head[k + 1] = html.escape(names[k])
    sides[k + 1] = type(list[1][names[k]]) == "number" and "right" or "left"
  end
  for i = 1, math.min(#list, ROWS) do
    rows[i] = { html.dim(tostring(i)) }
    for k = 1, math.min(#names, COLUMNS) do rows[i][k + 1] = cell_html(list[i][names[k]]) end
  end
  local more = ""
  if #list > ROWS or #names > COLUMNS then
    more = html.line(html.dim(("%d rows, %d columns"):format(#list, #names)))
  end
  return box(html.table(head, rows, sides) .. more)
end

-- The form of a tensor or a list of records; nil where it has none.
function cards.html(v)
  if nb.is_tensor(v) then return tensor_html(v) end
  return records_html(v)
end

return cards
