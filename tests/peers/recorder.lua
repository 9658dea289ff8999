-- SPDX-License-Identifier: MIT
-- Records calls for a peer to repeat: arguments, outputs and gradients, one safetensors file and one JSON file.
--
--   local record = require("recorder").new(folder)
--   record:add("nb.relu", { x }, { y })     -- y computed from x, which may require grad
--   record:close()
--
-- Arguments are tensors, numbers, strings, booleans and tables of these, nested as they may be; `options`, if given,
-- become Python's named arguments.  The gradients of all tensors that require grad are taken of J = Σ weight · output,
-- with random weights that are recorded too.
local nb = require "nablua"

local Recorder = {}
Recorder.__index = Recorder

local M = {}

function M.new(folder)
  return setmetatable({ folder = folder, tensors = {}, cases = {} }, Recorder)
end

local function text(v)
  return '"' .. v:gsub('[%c"\\]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
end

local function json(v)
  if v == nil then return "null" end
  if type(v) == "string" then return text(v) end
  if type(v) ~= "table" then
    if v == math.huge then return "Infinity" end
    if v == -math.huge then return "-Infinity" end
    return v ~= v and "NaN" or type(v) == "number" and ("%.17g"):format(v) or tostring(v)
  end
  local parts = {}
  if v.n or #v > 0 or next(v) == nil then
    for i = 1, v.n or #v do parts[i] = json(v[i]) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for key, value in pairs(v) do parts[#parts + 1] = text(key) .. ":" .. json(value) end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end
M.json = json

function Recorder:keep(t)
  self.tensors[#self.tensors + 1] = t:detach():clone()
  return #self.tensors
end

-- The value as JSON tables; tensors that require grad go to `leaves`.
function Recorder:encode(v, leaves)
  if nb.is_tensor(v) then
    local node = { tensor = self:keep(v), grad = false }
    if v.requires_grad then leaves[#leaves + 1] = { tensor = v, node = node } end
    return node
  end
  if type(v) ~= "table" then return v end
  local copy = {}
  for key, value in pairs(v) do copy[key] = key == "n" and value or self:encode(value, leaves) end
  return copy
end

-- What a call with these arguments gave.  `args` and `outputs` are lists (or from table.pack).
function Recorder:add(name, args, outputs, options)
  local leaves, case = {}, { name = name, outputs = {}, weights = {} }
  case.args = self:encode(args, leaves)
  case.options = self:encode(options, leaves)
  local J
  for k = 1, outputs.n or #outputs do
    local y = outputs[k]
    case.outputs[k] = self:keep(y)
    case.weights[k] = false
    if y.requires_grad then
      local weight = nb.rand(y.shape, { dtype = y.dtype }) + 0.5
      case.weights[k] = self:keep(weight)
      local part = (y * weight):sum()
      J = J and J + part or part
    end
  end
  local inputs = {}
  for k, leaf in ipairs(leaves) do inputs[k] = leaf.tensor end
  local ok, grads = true, {}
  if J and #inputs > 0 then ok, grads = pcall(function() return table.pack(nb.grad(J, inputs)) end) end
  if not ok then case.problem, grads = grads, {} end
  for k, leaf in ipairs(leaves) do
    leaf.node.requires_grad = true
    leaf.node.grad = grads[k] and self:keep(grads[k]) or false
  end
  self.cases[#self.cases + 1] = case
end

function Recorder:close()
  nb.save(self.folder .. "/tensors.safetensors", self.tensors)
  local file = assert(io.open(self.folder .. "/cases.json", "w"))
  file:write(json(self.cases))
  file:close()
end

return M
