-- SPDX-License-Identifier: MIT
-- The user's frames on the stack, with the values of their variables as they are: for errors, breakpoints and stops.
--
-- A frame is { where =, name =, func =, line =, source =, names = of its variables in order, values =, slots = of its
-- locals, upvalues = the places of those by name }, and thread and level where it is still there: its values are those
-- of now then.
local frames = {}

local getinfo, getlocal, getupvalue = debug.getinfo, debug.getlocal, debug.getupvalue
local setlocal, setupvalue = debug.setlocal, debug.setupvalue

local MOST_FRAMES, MOST_LEVELS = 12, 100

-- An inner variable hides an outer one of its name.
local function new_frame(info)
  return { where = ("%s:%d"):format(info.short_src, info.currentline), name = info.name, func = info.func,
    line = info.currentline, source = info.source, names = {}, values = {}, slots = {} }
end

local function add_local(frame, i, name, value)
  if name:match("^%(") or name:match("^__nablua_") then return end
  if not frame.slots[name] then frame.names[#frame.names + 1] = name end
  frame.slots[name], frame.values[name] = i, value
end

local function add_upvalues(frame)
  frame.upvalues = {}
  for i = 1, 255 do
    local name = getupvalue(frame.func, i)
    if not name then break end
    if name ~= "_ENV" and name ~= "" and not name:match("^__nablua_") and not frame.slots[name] then
      frame.names[#frame.names + 1] = name
      frame.upvalues[name] = i
    end
  end
end

function frames.is_users(info)
  return info.source:sub(1, 7) ~= "=nablua" and info.what ~= "C"
end

-- The value of the first parameter of the function that runs at a level.
local function note_first(call, level)
  local info = getinfo(level, "u")
  call.has_first = info.nparams > 0
  if call.has_first then call.first = select(2, getlocal(level, 1)) end
end

-- The user's frames from the caller's caller outwards, innermost first; `called` is what the innermost one called, by
-- what name, and with what as its first parameter.  At most `most`, where that is given.
function frames.capture(most)
  local list, called = {}, nil
  for level = 3, MOST_LEVELS do
    local info = getinfo(level, "Slnf")
    if not info or #list == (most or MOST_FRAMES) then break end
    if frames.is_users(info) then
      list.called = list.called or called
      local frame = new_frame(info)
      for i = 1, 250 do
        local name, value = getlocal(level, i)
        if not name then break end
        add_local(frame, i, name, value)
      end
      add_upvalues(frame)
      note_first(frame, level + 1)
      list[#list + 1] = frame
    end
    called = { name = info.name, func = info.func }
    note_first(called, level + 1)
  end
  return list
end

-- The user's frames of threads that wait, each called by the next; innermost first.
function frames.of_threads(threads)
  local list = {}
  for _, thread in ipairs(threads) do
    for level = 0, MOST_LEVELS do
      local info = getinfo(thread, level, "Slnf")
      if not info then break end
      if frames.is_users(info) then
        local frame = new_frame(info)
        frame.thread, frame.level = thread, level
        for i = 1, 250 do
          local name, value = getlocal(thread, level, i)
          if not name then break end
          add_local(frame, i, name, value)
        end
        add_upvalues(frame)
        list[#list + 1] = frame
      end
    end
  end
  return list
end

function frames.has(frame, name)
  return frame.slots[name] or frame.upvalues[name]
end

function frames.value(frame, name)
  local slot = frame.slots[name]
  if slot and frame.thread then return select(2, getlocal(frame.thread, frame.level, slot)) end
  if slot then return frame.values[name] end
  return select(2, getupvalue(frame.func, frame.upvalues[name]))
end

-- Of a frame that is over the value is the frame's alone, but for upvalues, which others have too.
function frames.assign(frame, name, value)
  local slot = frame.slots[name]
  if slot and frame.thread then
    setlocal(frame.thread, frame.level, slot, value)
  elseif slot then
    frame.values[name] = value
  else
    setupvalue(frame.func, frame.upvalues[name], value)
  end
end

return frames
