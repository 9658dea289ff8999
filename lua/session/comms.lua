-- SPDX-License-Identifier: MIT
-- Comms: objects here and their counterparts in a notebook's page, which send each other tables.
local native = require "nablua.native"
local nb = require "nablua.core"
local registry = require "nablua.registry"
local session = require "nablua.session.native"

local comms = {}

local open = session.comms  -- by id
local targets = {}          -- handlers of openings, by name

-- ---- JSON ----

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c)
  return escapes[c] or ("\\u%04x"):format(c:byte())
end

local encode

local function encode_table(t, depth)
  if depth > 100 then native.raise "comm: the data is nested too deeply, or contains itself" end
  local parts = {}
  if #t > 0 then
    for i = 1, #t do parts[i] = encode(t[i], depth) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for key, value in pairs(t) do parts[#parts + 1] = encode(tostring(key), depth) .. ":" .. encode(value, depth) end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode(v, depth)
  if nb.is_tensor(v) then v = v:totable() end
  local kind = type(v)
  if v == nil then return "null" end
  if kind == "boolean" then return tostring(v) end
  if kind == "number" then
    if math.type(v) == "integer" then return ("%d"):format(v) end
    return (v ~= v or v == math.huge or v == -math.huge) and "null" or ("%.17g"):format(v)
  end
  if kind == "string" then
    if not utf8.len(v) then native.raise "comm: a string that is no UTF-8 cannot be sent; send bytes as a buffer" end
    return '"' .. v:gsub('[%c"\\]', escape) .. '"'
  end
  if kind == "table" then return encode_table(v, depth + 1) end
  native.raise(("comm: the data holds a %s, which cannot be sent"):format(kind))
end

-- ---- a comm ----

local Comm = { __name = "comm" }
Comm.__index = Comm

local function new(id, target)
  local comm = setmetatable({ id = id, target = target }, Comm)
  open[id] = comm
  return comm
end

function Comm:send(data, buffers)
  if not open[self.id] then native.raise "comm:send: it is closed" end
  session.send_comm("message", self.id, nil, encode(data or {}, 0), buffers or {})
end

function Comm:close(data)
  if not open[self.id] then return end
  open[self.id] = nil
  session.send_comm("close", self.id, nil, encode(data or {}, 0), {})
end

function Comm:__tostring()
  return ("comm %s %s"):format(self.target, open[self.id] and "open" or "closed")
end

-- ---- the module ----

registry.define(comms, "comms.", "register", {
  doc = "Calls handler(comm, data, buffers) whenever a client opens a comm of this name.  A comm has :send(data, " ..
    "buffers), :close() and the fields on_message and on_close, functions of data and buffers.",
  signature = "comms.register(target, handler)", see = { "comms.open" },
  example = 'require("nablua.session.comms").register("echo", function(comm) ' ..
    "comm.on_message = function(data) comm:send(data) end end)",
  function(target, handler)
    if type(target) ~= "string" or type(handler) ~= "function" then
      native.raise "comms.register: expected a name and a function"
    end
    targets[target] = handler
  end,
})

registry.define(comms, "comms.", "open", {
  doc = "Opens a comm to what the client has under this name.",
  signature = "comms.open(target, data)", see = { "comms.register" },
  example = 'pcall(require("nablua.session.comms").open, "plot", {width = 300})',
  function(target, data)
    if type(target) ~= "string" then native.raise "comms.open: expected a name" end
    local text = encode(data or {}, 0)
    local comm = new(session.new_comm_id(), target)
    local ok, message = pcall(session.send_comm, "open", comm.id, target, text, {})
    if ok then return comm end
    open[comm.id] = nil
    error(message, 0)
  end,
})

-- What shall handle a message of the client: a function of data and buffers; nil when nobody knows the comm.
function comms.find(kind, id, target)
  if kind == "open" then
    local handler = targets[target]
    if not handler then return nil end
    local comm = new(id, target)
    return function(data, buffers) handler(comm, data, buffers) end
  end
  local comm = open[id]
  if not comm then return nil end
  if kind == "close" then open[id] = nil end
  return comm["on_" .. kind] or function() end
end

return comms
