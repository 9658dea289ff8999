-- SPDX-License-Identifier: MIT
-- The debugger of Jupyter's clients: requests of the Debug Adapter Protocol, and Jupyter's own beside them
-- (jupyter-client.readthedocs.io, "Messaging", debug_request; microsoft.github.io/debug-adapter-protocol).
--
-- Files that clients see are files, or stand for cells: a cell's path holds a hash of its text.
local base64 = require "nablua.base64"
local breakpoints = require "nablua.session.breakpoints"
local display = require "nablua.display"
local engine = require "nablua.session.engine"
local frames_of = require "nablua.frames"
local json = require "nablua.json"
local murmur = require "nablua.session.dap.murmur"
local native = require "nablua.native"
local pause = require "nablua.session.pause"
local session = require "nablua.session.native"
local variables = require "nablua.session.dap.variables"

local dap = {}

local SEED = 0x6e61626c  -- of the hash, any number
local THREAD = 1         -- the only one: coroutines take turns in it
local MOST_FRAMES = 100

local started = false
local sequence = 0
local filters = {}   -- of errors that stop
local cells = {}     -- path → the text of a cell
local paths = {}     -- name of an input → path
local by_hash = {}   -- path → names of inputs of that text
local folder

local function fail(format, ...)
  native.raise(format:format(...))
end

local function event(name, body)
  sequence = sequence + 1
  engine.event(json.encode({ type = "event", seq = sequence, event = name, body = body or {} }, "debugger"))
end

-- ---- sources ----

local function tmp_folder()
  folder = folder or ("%s/nablua_%d"):format(os.getenv "TMPDIR" or "/tmp", engine.process())
  return folder
end

local function path_of_cell(text)
  return ("%s/%d.lua"):format(tmp_folder(), murmur(text, SEED))
end

local function note_text(text)
  local path = path_of_cell(text)
  cells[path] = text
  return path
end

-- The path of an input, by its name.
local function path_of_input(name)
  local text = session.sources[name]
  if not text then return nil end
  paths[name] = paths[name] or note_text(text)
  return paths[name]
end

-- The source of the protocol that a frame's is.
local function source_of(frame_source)
  local name = frame_source:sub(2)
  if frame_source:sub(1, 1) == "@" then
    local path = engine.real_path(name) or name
    return { name = path:match "[^/]*$", path = path }
  end
  local path = path_of_input(name)
  return path and { name = path:match "[^/]*$", path = path } or { name = name, path = name }
end

-- What Lua calls the sources at a path: a file, or the inputs of a cell's text, and the text itself.
local function sources_at(path)
  if not cells[path] then
    local real = engine.real_path(path)
    return { "@" .. (real or path) }, real and breakpoints.text_of("@" .. real)
  end
  local list = { "=" .. path }  -- stands for those to come
  for name in pairs(by_hash[path] or {}) do list[#list + 1] = "=" .. name end
  return list, cells[path]
end

-- An input is about to run: what was set for its text holds in it.
pause.on_source = function(source)
  local name = source:sub(2)
  paths[name] = nil
  local path = path_of_input(name)
  if not path then return end
  by_hash[path] = by_hash[path] or {}
  if by_hash[path][name] then return end
  by_hash[path][name] = true
  breakpoints.copy("=" .. path, source)
end

-- ---- frames ----

local function hold_now(what)
  return pause.current() or fail("%s: nothing is paused now", what)
end

local function frame_at(id, what)
  local hold = hold_now(what)
  local first = hold.first_frame
  local frame = hold.frames[id - first + 1]
  return frame or fail("%s: that frame is over; there is none of number %s", what, tostring(id))
end

local stops, next_frame = { breakpoint = "breakpoint", step = "step", pause = "pause", exception = "exception" }, 1

pause.on_begin = function(hold)
  hold.first_frame = next_frame
  next_frame = next_frame + #hold.frames
  if not started then return end
  event("stopped", { reason = stops[hold.reason] or "pause", threadId = THREAD, allThreadsStopped = true,
    description = hold.message and "Paused on an error" or nil, text = hold.message,
    hitBreakpointIds = hold.reason == "breakpoint" and breakpoints.met and json.list(breakpoints.met) or nil })
  breakpoints.met = nil
end

pause.on_finish = function()
  variables.forget()
  if started then event("continued", { threadId = THREAD, allThreadsContinued = true }) end
end

-- ---- evaluating ----

local current_environment = { now = function() local hold = pause.current() return hold and hold.frames[hold.at] end }

local function environment_of(id, what)
  local frame = id and frame_at(id, what)
  return pause.environment(frame and function() return frame end or current_environment.now)
end

-- The values of an expression or of statements.
local function evaluate(code, env)
  local f, message = load("return " .. code, "=evaluate", "t", env)
  if not f then f, message = load(code, "=evaluate", "t", env) end
  if not f then error(message, 0) end
  return f()
end

-- ---- requests ----

local answers = {}

local capabilities = {
  supportsConfigurationDoneRequest = true, supportsConditionalBreakpoints = true,
  supportsHitConditionalBreakpoints = true, supportsLogPoints = true, supportsEvaluateForHovers = true,
  supportsSetVariable = true, supportsExceptionInfoRequest = true, supportsModulesRequest = true,
  supportsLoadedSourcesRequest = true, supportsTerminateRequest = true, supportTerminateDebuggee = false,
  supportsDelayedStackTraceLoading = true, supportsSetExpression = true,
  exceptionBreakpointFilters = {
    { filter = "uncaught", label = "Uncaught Errors", default = true, description = "Errors that end a cell" },
    { filter = "raised", label = "Raised Errors", default = false, description = "Also those that pcall catches" },
  },
}

function answers.initialize()
  started = true
  return capabilities
end

function answers.attach()
  started = true
  engine.attach(true)
  event "initialized"
  return {}
end
answers.launch = answers.attach

function answers.configurationDone()
  return {}
end

local function all_filters()
  local list = {}
  for name in pairs(filters) do list[#list + 1] = name end
  table.sort(list)
  return json.list(list)
end

function answers.debugInfo()
  local by_path, list = {}, {}
  for _, b in ipairs(breakpoints.all()) do
    local path = b.source:sub(2)
    if b.source:sub(1, 1) == "@" or cells[path] then
      if not by_path[path] then
        by_path[path] = { source = path, breakpoints = json.list {} }
        list[#list + 1] = by_path[path]
      end
      table.insert(by_path[path].breakpoints, { line = b.line, verified = b.verified or false })
    end
  end
  return {
    isStarted = started, hashMethod = "Murmur2", hashSeed = SEED, tmpFilePrefix = tmp_folder() .. "/",
    tmpFileSuffix = ".lua", breakpoints = json.list(list), richRendering = true, copyToGlobals = true,
    stoppedThreads = json.list(pause.current() and { THREAD } or {}), exceptionPaths = json.list { "Lua errors" },
  }
end

function answers.dumpCell(o)
  if type(o.code) ~= "string" then fail "dumpCell: needs a string at code" end
  return { sourcePath = note_text(o.code) }
end

local function breakpoint_answer(b)
  return { id = b.id, verified = b.verified or false, line = b.line, message = b.message }
end

function answers.setBreakpoints(o)
  local source = type(o.source) == "table" and o.source or fail "setBreakpoints: needs a source"
  local path = source.path or fail "setBreakpoints: needs the path of the source"
  local given = {}
  local asked = type(o.breakpoints) == "table" and o.breakpoints or {}
  if #asked == 0 and type(o.lines) == "table" then
    for i, line in ipairs(o.lines) do asked[i] = { line = line } end
  end
  for i, b in ipairs(asked) do
    local line = math.tointeger(type(b) == "table" and b.line) or fail "setBreakpoints: each needs a line"
    given[i] = { line = line, condition = b.condition, hits = b.hitCondition, log = b.logMessage }
  end
  local names, text = sources_at(path)
  local first
  for _, name in ipairs(names) do
    local set = breakpoints.set(name, given, text)
    first = first or set
  end
  local list = {}
  for i, b in ipairs(first) do
    list[i] = breakpoint_answer(b)
    list[i].source = { path = path }
  end
  return { breakpoints = json.list(list) }
end

function answers.setFunctionBreakpoints()
  fail "setFunctionBreakpoints: breakpoints stand in lines here"
end

function answers.setExceptionBreakpoints(o)
  filters = {}
  for _, name in ipairs(type(o.filters) == "table" and o.filters or {}) do
    if name ~= "uncaught" and name ~= "raised" then
      fail("setExceptionBreakpoints: there is no filter %s; uncaught and raised are", tostring(name))
    end
    filters[name] = true
  end
  engine.catch(filters.uncaught or filters.raised, filters.raised)
  return { breakpoints = json.list {} }
end

function answers.exceptionInfo()
  local hold = hold_now "exceptionInfo"
  return { exceptionId = "Error", description = hold.message or "", breakMode = filters.raised and "always" or "unhandled" }
end

function answers.threads()
  return { threads = { { id = THREAD, name = "Lua" } } }
end

function answers.stackTrace(o)
  local hold = hold_now "stackTrace"
  local list, start, levels = {}, o.startFrame or 0, o.levels or 0
  if levels == 0 then levels = MOST_FRAMES end
  for i = start + 1, math.min(#hold.frames, start + levels) do
    local frame = hold.frames[i]
    list[#list + 1] = { id = hold.first_frame + i - 1, name = frame.name or "main chunk", line = frame.line, column = 1,
      source = source_of(frame.source) }
  end
  return { stackFrames = json.list(list), totalFrames = #hold.frames }
end

-- The variables of the user that are no frame's: globals, and the locals that inputs keep.
local function users_names()
  local names = {}
  for name, value in next, _G do
    if type(name) == "string" and session.standard[name] ~= value and not name:match "^_%d*$" and
      not session.kept[name] then
      names[#names + 1] = name
    end
  end
  for name in pairs(session.kept) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function global_value(name)
  if session.kept[name] then return session.local_value(name) end
  return rawget(_G, name)
end

local function set_global(name, value)
  local kept = session.kept[name]
  if kept and kept[3] then fail("%s is a constant", name) end
  if kept then debug.setupvalue(kept[1], kept[2], value) else _G[name] = value end
end

local function globals_node()
  return variables.names(users_names(), global_value, set_global)
end

local function scope(name, hint, node, expensive)
  return { name = name, presentationHint = hint, variablesReference = variables.number(node),
    namedVariables = node.named, expensive = expensive or false }
end

function answers.scopes(o)
  local frame = frame_at(o.frameId, "scopes")
  local locals, upvalues = {}, {}
  for _, name in ipairs(frame.names) do
    local list = frame.slots[name] and locals or upvalues
    list[#list + 1] = name
  end
  local function value(name) return frames_of.value(frame, name) end
  local function set(name, v) frames_of.assign(frame, name, v) end
  local list = { scope("Locals", "locals", variables.names(locals, value, set)) }
  if #upvalues > 0 then list[#list + 1] = scope("Upvalues", "locals", variables.names(upvalues, value, set)) end
  list[#list + 1] = scope("Globals", "globals", globals_node())
  return { scopes = json.list(list) }
end

local function node_of(reference, what)
  return variables.node(reference) or
    fail("%s: what number %s stood for is over; what is paused went on since", what, tostring(reference))
end

function answers.variables(o)
  local list = variables.list(node_of(o.variablesReference, "variables"), o.start, o.count)
  return { variables = json.list(list) }
end

function answers.setVariable(o)
  local node = node_of(o.variablesReference, "setVariable")
  if not node.set then fail "setVariable: what is here cannot be set" end
  local value = evaluate(o.value, environment_of(nil, "setVariable"))
  node.set(o.name, value)
  return variables.variable(o.name, value)
end

function answers.setExpression(o)
  local env = environment_of(o.frameId, "setExpression")
  evaluate(("%s = %s"):format(o.expression, o.value), env)
  return variables.variable(o.expression, (evaluate(o.expression, env)))
end

function answers.inspectVariables()
  return { variables = json.list(variables.list(globals_node(), 0, 1000)) }
end

function answers.richInspectVariables(o)
  local name = type(o.variableName) == "string" and o.variableName or fail "richInspectVariables: needs variableName"
  local value = evaluate(name, environment_of(o.frameId, "richInspectVariables"))
  local bundle = display.bundle(value, { rich = true, color = false, width = 100 })
  local data = {}
  for mime, text in pairs(bundle) do
    if mime ~= "metadata" then
      data[mime] = utf8.len(text) and text or base64(text)
      if mime:match "json$" then data[mime] = json.decode(text) end
    end
  end
  return { data = data, metadata = json.decode(bundle.metadata or "{}") }
end

function answers.copyToGlobals(o)
  local frame = frame_at(o.srcFrameId, "copyToGlobals")
  if not frames_of.has(frame, o.srcVariableName) then
    fail("copyToGlobals: the frame has no variable %s", tostring(o.srcVariableName))
  end
  local value = frames_of.value(frame, o.srcVariableName)
  set_global(o.dstVariableName, value)
  return variables.variable(o.dstVariableName, value)
end

function answers.evaluate(o)
  if type(o.expression) ~= "string" then fail "evaluate: needs a string at expression" end
  local results = table.pack(evaluate(o.expression, environment_of(o.frameId, "evaluate")))
  if results.n == 0 then return { result = "", variablesReference = 0 } end
  local v = variables.variable(o.expression, results[1])
  return { result = v.value, type = v.type, variablesReference = v.variablesReference,
    indexedVariables = v.indexedVariables, namedVariables = v.namedVariables }
end

function answers.source(o)
  local path = type(o.source) == "table" and o.source.path or o.sourceReference or fail "source: needs a path"
  local text = cells[path] or breakpoints.text_of("@" .. path) or session.sources[path]
  if not text then fail("source: there is no file %s, and no cell", tostring(path)) end
  return { content = text, mimeType = "text/x-lua" }
end

-- Modules of the user that are loaded, by their files.
local function loaded_files()
  local list = {}
  for name, value in pairs(package.loaded) do
    local path = type(name) == "string" and not name:match "^nablua" and session.standard[name] == nil and
      value ~= nil and package.searchpath(name, package.path)
    if path then list[#list + 1] = { name = name, path = engine.real_path(path) or path } end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

function answers.modules(o)
  local list, start, count = {}, o.startModule or 0, o.moduleCount or 0
  local files = loaded_files()
  for i = start + 1, count > 0 and math.min(#files, start + count) or #files do
    list[#list + 1] = { id = i, name = files[i].name, path = files[i].path }
  end
  return { modules = json.list(list), totalModules = #files }
end

function answers.loadedSources()
  local list = {}
  for _, file in ipairs(loaded_files()) do list[#list + 1] = { name = file.path:match "[^/]*$", path = file.path } end
  return { sources = json.list(list) }
end

-- ---- going on ----

local function go(how, what)
  return function()
    local hold = hold_now(what)
    local frame = hold.frames[1]
    if how == "continue" or not frame then
      engine.go(how == "continue" and how or "into")
    else
      engine.go(how, frame.thread, frame.level)
    end
    return how == "continue" and { allThreadsContinued = true } or {}
  end
end

answers["continue"] = go("continue", "continue")
answers.next = go("next", "next")
answers.stepIn = go("into", "stepIn")
answers.stepOut = go("out", "stepOut")

function answers.pause()
  if not pause.current() and not engine.pause_below() then fail "pause: nothing runs that could pause" end
  return {}
end

-- Nobody listens any more: nothing stays paused for him.
local function detach()
  engine.attach(false)
  for _, b in ipairs(breakpoints.all()) do breakpoints.clear(b.source) end
  filters = {}
  engine.catch(false, false)
  if pause.current() then engine.go "continue" end
  started = false
  return {}
end

answers.disconnect, answers.terminate = detach, detach

-- ---- answering ----

local function message_of(problem)
  return type(problem) == "string" and problem or display.brief(problem)
end

-- What JSON has as null is nothing.
local function without_nulls(t)
  for key, value in pairs(t) do
    if value == json.null then t[key] = nil elseif type(value) == "table" then without_nulls(value) end
  end
  return t
end

-- The answer to a request, both as JSON.
function dap.answer(text)
  local request = without_nulls(json.decode(text))
  local command = type(request) == "table" and request.command
  local answer = { type = "response", command = command, request_seq = type(request) == "table" and request.seq or 0,
    success = true }
  sequence = sequence + 1
  answer.seq = sequence
  local arguments = type(request) == "table" and request.arguments
  if type(arguments) ~= "table" then arguments = {} end
  local handler = type(command) == "string" and answers[command]
  if not handler then
    answer.success, answer.message = false, ("the debugger knows no request %s"):format(display.brief(command))
  elseif not started and command ~= "initialize" and command ~= "debugInfo" and command ~= "inspectVariables" and
    command ~= "richInspectVariables" and command ~= "dumpCell" and command ~= "attach" and command ~= "evaluate" and
    command ~= "variables" and command ~= "disconnect" and command ~= "terminate" then
    answer.success, answer.message = false, ("%s: the debugger is not started; initialize and attach begin"):format(command)
  else
    local ok, body = pcall(handler, arguments)
    answer.success = ok
    if ok then answer.body = body else answer.message, answer.body = message_of(body), {} end
  end
  local ok, encoded = pcall(json.encode, answer, "debugger")
  if ok then return encoded end
  return json.encode({ type = "response", command = command, request_seq = answer.request_seq, success = false,
    message = message_of(encoded), body = {} }, "debugger")
end

-- The answer to one that an interrupt has stopped.
function dap.refuse(text)
  local request = json.decode(text)
  return json.encode({ type = "response", command = request.command, request_seq = request.seq, success = false,
    message = "interrupted", body = {} }, "debugger")
end

return dap
