-- SPDX-License-Identifier: MIT
-- Comms: objects here and their counterparts in a notebook's page, which send each other tables.
local native = require "nablua.native"
local json = require "nablua.json"
local registry = require "nablua.registry"
local session = require "nablua.session.native"

local comms = {}

local open = session.comms  -- by id
local targets = {}          -- handlers of openings, by name

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
  session.send_comm("message", self.id, nil, json.encode(data or {}, "comm"), buffers or {})
end

function Comm:close(data)
  if not open[self.id] then return end
  open[self.id] = nil
  session.send_comm("close", self.id, nil, json.encode(data or {}, "comm"), {})
end

function Comm:__tostring()
  return ("comm %s %s"):format(self.target, open[self.id] and "open" or "closed")
end

-- ---- the module ----

registry.define(comms, "comms.", "register", {
  doc = "Calls handler(comm, data, buffers) whenever a client opens a comm of this name.  A comm has :send(data, " ..
    "buffers), :close() and the fields on_message and on_close, functions of data, buffers and whether " ..
    "another message for the same comm waits already.",
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
  doc = "Opens a comm to what the client has under this name; metadata is the message's, a table.",
  signature = "comms.open(target, data, [buffers, [metadata]])", see = { "comms.register" },
  example = 'pcall(require("nablua.session.comms").open, "plot", {width = 300})',
  function(target, data, buffers, metadata)
    if type(target) ~= "string" then native.raise "comms.open: expected a name" end
    local text = json.encode(data or {}, "comm")
    local comm = new(session.new_comm_id(), target)
    local ok, message = pcall(session.send_comm, "open", comm.id, target, text, buffers or {},
      metadata and json.encode(metadata, "comm"))
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
