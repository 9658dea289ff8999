-- SPDX-License-Identifier: MIT
-- Folding an explanation by module: which parts of the way from J to w are shown as one factor.
--
-- What is closed (normalisation, attention) is one factor always; modules that hold others are where `by_module` is set
-- and w is not inside, a Sequential only where it is "all"; what was opened is not.
local places = require "nablua.inspect.places"
local symbols = require "nablua.inspect.symbols"
local text = require "nablua.inspect.text"

local folding = {}

-- The path under which a node is folded; nil where it is shown itself.
function folding.of(self, place)
  if not place then return nil end
  for _, path in ipairs(places.prefixes(place)) do
    local info = self.places[path]
    if info and not self.opened[path] then
      local outside = not (self.home and places.is_inside(self.home, path))
      if info.closed or info.passed and outside then return path end
      local holds = info.composite and (self.by_module == "all" or info.kind ~= "Sequential")
      if self.by_module and holds and outside then return path end
    end
  end
end

-- "blocks.2'": what the module makes of an error that arrives at its output.
function folding.symbol(path)
  return symbols.new(path .. "'", text.upright(path) .. "'")
end

-- The same where the way ends inside.
function folding.last_symbol(path, w)
  return symbols.new(("∂%s/∂%s"):format(path, w.text), ("\\frac{\\partial %s}{\\partial %s}"):format(text.upright(path),
    w.latex))
end

local function place_of(self, s)
  local nodes, place = self.paths.nodes, nil
  for k, i in ipairs(self.paths:part(s.from, s.to)) do
    place = k == 1 and nodes[i].place or places.common(place, nodes[i].place)
    if not place then return nil end
  end
  return place
end

-- The segments in order as { segments =, path = where they are folded }.
function folding.units(self, segments)
  local units = {}
  for k, s in ipairs(segments) do
    local path = next(self.places) and folding.of(self, place_of(self, s))
    local last = units[#units]
    if path and last and last.path == path then
      last.segments[#last.segments + 1] = s
    else
      units[#units + 1] = { segments = { s }, path = path, first = k }
    end
  end
  return units
end

-- From node i of a folded module to the first vertex behind it that all paths pass.
function folding.leave(self, i, path, to)
  local nodes, over = self.paths.nodes, self.paths.over
  while i ~= to and nodes[i] and nodes[i].place and places.is_inside(nodes[i].place, path) do i = over[i] end
  return i
end

-- In how many ways an error gets from one vertex to another that all of them pass, where what is folded is one.
function folding.ways(self, from, to, known)
  known = known or {}
  local count = 0.0
  for _, edge in ipairs(self.paths.next[from]) do
    local i, n = edge.to, 1.0
    while i ~= to do
      local path = folding.of(self, self.paths.nodes[i].place)
      local over, edges = self.paths.over[i], self.paths.next[i]
      if path then
        over = folding.leave(self, i, path, to)
      elseif #edges ~= 1 or edges[1].to ~= over then
        known[i] = known[i] or folding.ways(self, i, over, known)
        n = n * known[i]
      end
      i = over
    end
    count = count + n
  end
  return count
end

-- The vertex at which errors enter a module, and the segments from there to where they leave it; nil where none do.
function folding.inside(self, path)
  local nodes, entry = self.paths.nodes, nil
  for i = #nodes, 1, -1 do
    if self.paths.next[i] and nodes[i].place and places.is_inside(nodes[i].place, path) then
      entry = i
      break
    end
  end
  if not entry then return nil end
  local list, i = {}, entry
  while i ~= 0 and nodes[i].place and places.is_inside(nodes[i].place, path) do
    local to, edges = self.paths.over[i], self.paths.next[i]
    list[#list + 1] = { from = i, to = to, edge = #edges == 1 and edges[1].to == to and edges[1] or nil }
    i = to
  end
  return entry, list
end

-- v₃₂₂ as v₁: numbers in the order in which they are seen.
function folding.renumber(list, fields)
  local seen, count = {}, 0
  local function number(k)
    if not seen[k] then
      count = count + 1
      seen[k] = count
    end
    return seen[k]
  end
  local digits = {}
  for d = 0, 9 do digits[text.subscript(d)] = tostring(d) end
  for _, f in ipairs(list) do
    if f[fields[1]] then
      f[fields[1]] = f[fields[1]]:gsub("v([\xe2\x82\x80-\x89]+)", function(run)
        local plain = run:gsub(utf8.charpattern, digits)
        return plain:match("^%d+$") and "v" .. text.subscript(number(plain)) or nil
      end)
    end
    if f[fields[2]] then
      f[fields[2]] = f[fields[2]]:gsub("v_{(%d+)}", function(k) return "v_{" .. number(k) .. "}" end)
    end
  end
end

return folding
