-- SPDX-License-Identifier: MIT
-- Moving a stepper by module: to one, into one, over one; and its film folded so that a large net's fits a line.
--
-- Steps in a row with the same phase whose paths lie inside a module are one passage through it.
local places = require "nablua.inspect.places"

local moves = {}

-- The component of a path just below `level`: ("a.b.c", "a") → "a.b"; nil where the path does not go deeper.
local function below(path, level)
  if not path or path == level or not places.is_inside(path, level) then return nil end
  local rest = level == "" and path or path:sub(#level + 2)
  local first = rest:match("^[^.]+")
  return level == "" and first or level .. "." .. first
end

-- Whether step i goes on with what step i − 1 was in.
local function goes_on(steps, i, path)
  local g, before = steps[i], steps[i - 1]
  return before and before.phase == g.phase and before.path and places.is_inside(before.path, path)
end

-- The last step of the passage through a module that step i is in.
local function last_of(steps, i, path)
  local g = steps[i]
  while steps[i + 1] and steps[i + 1].phase == g.phase and steps[i + 1].path and
    places.is_inside(steps[i + 1].path, path) do
    i = i + 1
  end
  return i
end

-- The first step of the next passage through a module, round past the end; nil where there is none.
function moves.entry(self, path, phase)
  for k = 1, self.count do
    local at = (self.pos + k - 1) % self.count + 1
    local g = self.steps[at]
    if g.path and places.is_inside(g.path, path) and (not phase or g.phase == phase) and
      not goes_on(self.steps, at, path) then
      return at
    end
  end
end

-- The level that holds where it stands: what was entered, as far as the next step is still inside.
local function level_now(self, at)
  local level, path = self.level or "", self.steps[at].path or ""
  while level ~= "" and not places.is_inside(path, level) do level = level:match("^(.*)%.[^.]*$") or "" end
  return level
end

-- What `over` would take as one from the next step on: its path and last step; the step alone where no module is.
local function next_unit(self)
  local at = self.pos + 1
  local level = level_now(self, at)
  local path = below(self.steps[at].path, level)
  return path, path and last_of(self.steps, at, path) or at, level
end

-- Where `over` leads to, and what it passes: { path =, from =, to = }.
function moves.over(self)
  if self.pos >= self.count then return self.pos end
  local path, to, level = next_unit(self)
  return to, { path = path, from = self.pos + 1, to = to }, level
end

-- Where `into` leads to: the first step inside what comes next, which is from then on looked at step by step.
function moves.into(self)
  if self.pos >= self.count then return self.pos end
  local path, to = next_unit(self)
  return self.pos + 1, path and to > self.pos + 1 and path or level_now(self, self.pos + 1)
end

local MOST = 40  -- marks of a film

-- The film as passages { path =, phase =, from =, to = }: through modules as deep as leave at most MOST of them.
function moves.passages(self)
  local list = places.runs(self.steps, MOST, function(g) return g.path, g.phase end)
  for _, p in ipairs(list) do p.phase = p.other end
  return list
end

return moves
