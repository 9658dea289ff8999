-- SPDX-License-Identifier: MIT
-- Commands about files: running, loading and writing them, and modules that change.
local help = require "nablua.help".help
local native = require "nablua.native"
local session = require "nablua.session.native"
local words = require "nablua.session.commands.words"

local function read(name, path)
  local f <close>, message = io.open(path, "rb")
  local text = f and f:read "a"
  if not text then native.raise(("%s: cannot read %s"):format(name, message or path .. ": it is a folder")) end
  return text
end

local function run(line)
  local arguments = words.split(line)
  local path = words.path("%run FILE [args]", table.remove(arguments, 1) or "")
  local chunk, message = loadfile(path, "t")
  if not chunk then error(message, 0) end
  local before = rawget(_G, "arg")
  arguments[0] = path
  rawset(_G, "arg", arguments)
  local _ <close> = setmetatable({}, { __close = function() rawset(_G, "arg", before) end })
  return chunk(table.unpack(arguments))
end

-- ---- modules that change ----

local function reload(name)
  local before = package.loaded[name]
  package.loaded[name] = nil
  local ok, result = pcall(require, name)
  if not ok then
    package.loaded[name] = before
    error(result, 0)
  end
  -- Whoever holds the table sees the new functions.
  if type(before) == "table" and type(result) == "table" then
    for key in next, before do before[key] = nil end
    for key, value in next, result do rawset(before, key, value) end
    package.loaded[name] = before
    for key, value in next, _G do
      if value == result then rawset(_G, key, before) end
    end
  end
end

-- The files of the user's modules.
local function module_files()
  local files = {}
  for name, module in next, package.loaded do
    if type(name) == "string" and not name:match("^nablua%f[%.\0]") and not rawequal(rawget(_G, name), module) then
      files[name] = package.searchpath(name, package.path)
    elseif type(name) == "string" and rawequal(session.standard[name], nil) then
      files[name] = package.searchpath(name, package.path)
    end
  end
  return files
end

local stamps = {}

-- The modules whose files are others than when they were last looked at, sorted.
local function changed_modules()
  local changed = {}
  for name, path in pairs(module_files()) do
    local stamp = session.stamp(path)
    if stamps[name] and stamp and stamp ~= stamps[name] then changed[#changed + 1] = name end
    stamps[name] = stamp
  end
  table.sort(changed)
  return changed
end

local function reload_changed()
  for _, name in ipairs(changed_modules()) do
    local ok, message = pcall(reload, name)
    print(ok and ("loaded %s again"):format(name) or ("%s is as it was: %s"):format(name, message))
  end
end

return function(command, commands)
  command("run", "%run FILE [args]", "Runs a file; its globals are here afterwards.", run, { paths = true })

  command("load", "%load FILE|NAME", "Puts a file, or the source of a function, into the next input, to edit.",
    function(what)
      local value = commands.resolve(commands.need("%load FILE|NAME", what))
      local text = type(value) == "function" and commands.source_of(value)
      if value ~= nil and not text then
        local ok, source = pcall(help.source, value)
        text = ok and source
      end
      text = text or read("%load", words.path("%load FILE|NAME", what))
      text = text:gsub("%s+$", "")
      if not session.next_input(text, true) then print(text) end
    end, { paths = true })

  command("writefile", "%%writefile [-a] FILE", "Writes the lines below into a file, or adds them to it.", nil,
    { paths = true, aliases = { "file" }, cell = function(arguments, body)
      local append, argument = arguments:match("^(%-a)%s+(.*)$")
      local path = words.path("%%writefile [-a] FILE", argument or arguments)
      local there = native.exists(path)
      if body ~= "" then body = body .. "\n" end
      native.replace("%%writefile", path, (append and there and read("%%writefile", path) or "") .. body)
      print(("%s %s"):format(append and there and "added to" or there and "replaced" or "wrote", path))
    end })

  command("reload", "%reload [MODULE]", "Loads a module of yours again, or all whose files have changed.",
    function(name)
      if name == "" then return reload_changed() end
      if not package.loaded[name] then native.raise(("%%reload: no module %s is loaded"):format(name)) end
      if name:match("^nablua") then native.raise("%reload: the library itself cannot be loaded again") end
      reload(name)
    end)

  command("autoreload", "%autoreload [on|off]", "Looks before each input whether files of your modules have " ..
    "changed, and loads those again.", function(word)
      local on = word == "" or word == "on" or word == "1" or word == "2"
      if not on and word ~= "off" and word ~= "0" then native.raise("%autoreload: takes on or off, got " .. word) end
      changed_modules()
      commands.before_input = on and reload_changed or nil
      session.watch(on)
      print("%autoreload is " .. (on and "on" or "off"))
    end)
end
