-- SPDX-License-Identifier: MIT
-- Which module's call made each node of a tape, by the module's path in its net: "encoder.3.linear1".
--
-- places.tell(nodes) sets node.place, nil outside of all nets, and gives path → { module =, composite = whether there
-- are modules inside, closed = whether it is shown as one even where it is a few operators }.
local native = require "nablua.native"
local module = require "nablua.nn.module"

local places = {}

-- Modules that are one thing to a person, however many operators they take, and which take themselves apart for who
-- looks: inside they are alike only from afar.
local CLOSED = { MultiheadAttention = true, LayerNorm = true, RMSNorm = true, GroupNorm = true, BatchNorm1d = true,
  BatchNorm2d = true, InstanceNorm1d = true, InstanceNorm2d = true }

-- Modules that are one where the way only passes: their steps are looked at where w is inside.
local PASSED = { RNN = true, LSTM = true, GRU = true }

-- Address → { root, path, module }, of all live nets.
local function all_modules()
  local found = {}
  for root in pairs(module.roots()) do
    for path, m in root:named_modules() do
      local address = native.module_address(m)
      found[address] = found[address] or { root = root, path = path, module = m }
    end
  end
  return found
end

-- The module whose call made the node.  One that is younger than the node only has the place in memory of one that is
-- gone.
local function maker(known, node)
  local at = known and known[node.caller]
  return at and node.order > module.since(at.module) and at or nil
end

function places.tell(nodes)
  local known, roots, count = nil, {}, 0
  for _, node in ipairs(nodes) do
    if node.caller ~= 0 then
      known = known or all_modules()
      local at = maker(known, node)
      if at and at.path ~= "" and not roots[at.root] then
        count = count + 1
        roots[at.root] = count
      end
    end
  end
  local info = {}
  local function name_of(at)  -- where several nets are on a tape their kinds stand first
    return count > 1 and ("%s%d.%s"):format(at.root:kind(), roots[at.root], at.path) or at.path
  end
  for _, node in ipairs(nodes) do
    local at = maker(known, node)
    if at and at.path ~= "" then
      node.place = name_of(at)
    elseif at and module.has_children(at.module) then
      node.place = ""
    end
  end
  for root in pairs(roots) do
    for path, m in root:named_modules() do
      if path ~= "" then
        local kind = m:kind()
        info[name_of { root = root, path = path }] = { module = m, kind = kind, root = root, path = path,
          composite = module.has_children(m), closed = CLOSED[kind] or false, passed = PASSED[kind] or false }
      end
    end
  end
  return info
end

-- The prefixes of a path, outermost first: "a", "a.b", "a.b.c".
function places.prefixes(path)
  local list, at = {}, 0
  while true do
    at = path:find(".", at + 1, true)
    if not at then break end
    list[#list + 1] = path:sub(1, at - 1)
  end
  if path ~= "" then list[#list + 1] = path end
  return list
end

function places.is_inside(path, of)
  return path == of or of == "" or path:sub(1, #of + 1) == of .. "."
end

-- The innermost module that two places share; nil: one of them is in none.
function places.common(a, b)
  if not a or not b then return nil end
  while not places.is_inside(b, a) do a = a:match("^(.*)%.[^.]*$") or "" end
  return a
end

-- The first components of a path, and how many it has.
local function cut(path, depth)
  local count, at = 0, 0
  for from, to in path:gmatch "()[^.]+()" do
    count = count + 1
    if from and count == depth then at = to - 1 end
  end
  return count <= depth and path or path:sub(1, at), count
end

local DEEPEST = 12

-- A list folded by module: runs { path =, from =, to = } of neighbours that lie in one module, at the deepest level of
-- modules that leaves at most `most` runs.  look(item) gives its path ("" or nil: in none) and what else must be the
-- same in a run; `within` is the path of a module that is not folded itself.  With `apart` what lies directly in a
-- module that is deeper than the level stands alone.
function places.runs(list, most, look, within, apart)
  local _, base = cut(within or "", 0)
  local found
  for depth = base + 1, base + DEEPEST do
    local runs, deeper = {}, false
    for i, item in ipairs(list) do
      local path, other = look(item)
      local short, count = cut(path or "", depth)
      local last = runs[#runs]
      deeper = deeper or count > depth
      local alone = apart and count < depth
      if last and not alone and not last.alone and last.path == short and last.other == other then
        last.to = i
      else
        runs[#runs + 1] = { path = short, other = other, from = i, to = i, alone = alone }
      end
    end
    if found and #runs > most then break end
    found = runs
    if #runs > most or not deeper then break end
  end
  return found
end

return places
