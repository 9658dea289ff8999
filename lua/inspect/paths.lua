-- SPDX-License-Identifier: MIT
-- The paths from J to one tensor on the tape: the nodes all of them pass, and the walk between two of those.
--
--   J ──► d₁ ──► d₂ ═══► d₃ ──► w        a node that every path passes ends a segment; between two such nodes lies a
--                ╰────►╯                 single edge, or a part where paths part and meet again
--
-- An error travels as the list of gradients of a node's outputs.  All costs grow with the number of nodes.
local native = require "nablua.native"

local paths = {}

local Paths = {}
Paths.__index = Paths

-- Where the paths end: vertex 0.
local END = 0

-- Is this input the target, or on the way to it?  Returns the vertex it leads to.
local function leads_to(self, input)
  local t = self.target
  if input.leaf then return input.id == t.id and END or nil end
  if not input.node then return nil end
  if input.node == t.node and input.output == t.output then return END end
  return self.next[input.node] and input.node
end

-- The nearest vertex that all paths from a and from b pass; both numbers fall towards the end.
local function meet(over, a, b)
  while a ~= b do
    if a > b then a = over[a] else b = over[b] end
  end
  return a
end

-- Paths of `tape` (inspect/tape.lua) from J to a target { id = } (a leaf) or { node =, output = }; nil where there
-- is none.
function paths.find(tape, target)
  local self = setmetatable({ nodes = tape.nodes, target = target, next = {}, over = {} }, Paths)
  for i, node in ipairs(tape.nodes) do
    local edges, over
    for k = 1, node.edges or 0 do
      local input = node.inputs[k]
      local to = input and leads_to(self, input)
      if to then
        edges = edges or {}
        edges[#edges + 1] = { input = k, to = to, output = to ~= END and input.output or 1 }
        over = over and meet(self.over, over, to) or to
      end
    end
    self.next[i], self.over[i] = edges, over
  end
  self.root = #tape.nodes
  return self.next[self.root] and self
end

-- The nodes of a part, from `from` (first) to before `to`, latest first.
function Paths:part(from, to)
  local list, seen = { from }, { [from] = true }
  local at = 1
  while list[at] do
    for _, edge in ipairs(self.next[list[at]]) do
      if edge.to ~= to and not seen[edge.to] then
        seen[edge.to] = true
        list[#list + 1] = edge.to
      end
    end
    at = at + 1
  end
  table.sort(list, function(a, b) return a > b end)
  return list
end

local function add_to(grads, output, g)
  grads[output] = grads[output] and grads[output] + g or g
end

-- Takes an error at `from` to `to` along every path between, or along the one edge `only` of `from`.  Call it
-- without recording.  uses(node, input, gradient) hears of what arrives at `to`.
function Paths:carry(grads, from, to, only, uses)
  if only and only.to == to and not uses then
    return { [only.output] = native.node_backward(self.nodes[from].node, grads)[only.input] }
  end
  local pending, arrived = { [from] = grads }, {}
  for _, i in ipairs(self:part(from, to)) do
    local mine = pending[i]
    pending[i] = nil
    local given = mine and native.node_backward(self.nodes[i].node, mine)
    for _, edge in ipairs(mine and self.next[i] or {}) do
      local g = given[edge.input]
      if g and edge.to == to then
        add_to(arrived, edge.output, g)
        if uses then uses(i, edge.input, g) end
      elseif g then
        pending[edge.to] = pending[edge.to] or {}
        add_to(pending[edge.to], edge.output, g)
      end
    end
  end
  return arrived
end

-- The number of paths from one vertex to another that all of them pass; a float, since whole numbers would wrap.
function Paths:between(from, to)
  local list, count = self:part(from, to), { [to] = 1.0 }
  for at = #list, 1, -1 do
    local n = 0.0
    for _, edge in ipairs(self.next[list[at]]) do n = n + count[edge.to] end
    count[list[at]] = n
  end
  return count[from]
end

-- All that every path passes, from J: { from =, to =, edge = the edge where it is one, else nil }.
function Paths:segments()
  local list, i = {}, self.root
  while i ~= END do
    local to, edges = self.over[i], self.next[i]
    list[#list + 1] = { from = i, to = to, edge = #edges == 1 and edges[1].to == to and edges[1] or nil }
    i = to
  end
  return list
end

paths.END = END
return paths
