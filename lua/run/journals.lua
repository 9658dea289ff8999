-- SPDX-License-Identifier: MIT
-- nb.journal and nb.journals: a file of runs, a line of JSON for each, that only grows.
--
-- A line is an object: name, note, time, program, net, parameters, optimizer, loss_of, schedule, size, seed, steps,
-- epochs, options (what else the user noted), loss (the last), best, best_step, way, threads, git = { commit, branch,
-- changes = of how many files }, curve = { step =, loss =, lr = } of at most MOST points.
local native = require "nablua.native"
local nb = require "nablua.core"
local json = require "nablua.json"
local module = require "nablua.nn.module"
local notice = require "nablua.notice"
local options = require "nablua.options"
local registry = require "nablua.registry"
local text = require "nablua.inspect.text"

local journals = {}

local MOST = 1000    -- points of a curve
local PATIENCE = 10  -- seconds for git

-- ---- what is written ----

local function ask_git(...)
  local process = native.spawn { "git", ... }
  if not process then return nil end
  local ok, output = pcall(process.exchange, process, "", nil, PATIENCE)
  process:close()
  return ok and output or nil
end

-- The state of the repository around the folder one is in; nil where there is none, or no git.
local function git_state()
  local status = ask_git("status", "--porcelain=v2", "--branch")
  local commit = status and status:match "# branch%.oid (%x+)"
  if not commit then return nil end
  local changes = 0
  for line in status:gmatch "[^\n]+" do
    if not line:find "^#" then changes = changes + 1 end
  end
  return { commit = commit, branch = status:match "# branch%.head ([^\n]+)", changes = changes }
end

-- Evenly chosen points, the last one included.
local function curve_of(history, last)
  local curve = { step = {}, loss = {}, lr = {} }
  local n = math.min(last, MOST)
  for i = 1, n do
    local k = n == 1 and last or 1 + (i - 1) * (last - 1) // (n - 1)
    curve.step[i], curve.loss[i], curve.lr[i] = k, history.loss[k] or json.null, history.lr and history.lr[k] or
      json.null
  end
  return curve
end

local function count_of(net)
  local n = 0
  for _, p in ipairs(net:parameters()) do n = n + p:numel() end
  return n
end

local function name_of(v)
  if v == nil then return nil end
  if module.is(v) then return module.title(v) end
  if options.is_callable(v) and not v.step then return "a function" end
  return tostring(v)
end

local function first_line(v)
  return v ~= nil and (tostring(v):gsub("\n.*", "")) or nil
end

-- Of a run; `self` is what is known of it.
local function of_run(run, self)
  local best = run.best
  return { name = run.name, net = first_line(run.net), layers = tostring(run.net), parameters = count_of(run.net),
    optimizer = tostring(run.opt), loss_of = type(self.loss) == "function" and "a function" or name_of(self.loss),
    schedule = self.schedule and first_line(self.schedule) or nil, size = self.step == nil and self.size or nil,
    seed = self.seed, steps = run.last, epochs = self.epochs, loss = run.history.loss[run.last], best_step = best,
    best = best and run.history.loss[best], way = self.way, curve = curve_of(run.history, run.last) }
end

-- Of what nn.fit returns.
local function of_history(history)
  local entry = { steps = #history.loss, epochs = #history.loss, curve = curve_of(history, #history.loss) }
  for name, list in pairs(history) do
    if type(list) == "table" then entry["last_" .. name] = list[#list] end
  end
  entry.loss = history.loss[#history.loss]
  for k, v in ipairs(history.loss) do
    if not entry.best or v < entry.best then entry.best, entry.best_step = v, k end
  end
  return entry
end

local add_params = {
  { name = "name", type = "string", optional = true, doc = "what it is called, where the run has no name" },
  { name = "note", type = "string", optional = true, doc = "a sentence about it" },
  { name = "options", type = "table", optional = true, doc = "settings of one's own, numbers, strings and such" },
}

local Journal = { __name = "journal" }
Journal.__index = Journal

function Journal:__tostring()
  return ("journal %s"):format(self.path)
end

local function add(self, of, given)
  local run = require "nablua.run"
  local o = options.check("journal:add", add_params, given)
  local entry
  if run.is(of) then
    entry = of_run(of, run.known_of(of))
  elseif type(of) == "table" and not getmetatable(of) and type(of.loss) == "table" then
    entry = of_history(of)
  else
    native.raise("journal:add: needs a run, or the history that nn.fit returns, got " .. options.describe(of))
  end
  entry.name, entry.note, entry.options = o.name or entry.name, o.note, o.options
  entry.time, entry.program, entry.threads = os.date "!%Y-%m-%dT%H:%M:%SZ", type(arg) == "table" and arg[0] or nil,
    nb.threads()
  entry.git = git_state()
  native.append("journal:add", self.path, json.encode(entry, "journal:add") .. "\n")
  return self
end

Journal.add = registry.add {
  name = "journal:add", kind = "method", family = "Runs", value = add, params = add_params,
  signature = "journal:add(run, {name=, note=, options=})", see = { "nb.journal", "nb.journals" },
  doc = "Adds a line about a run, or about the history that nn.fit returns: options, curve, git's state, time.",
  example = [[
local path = os.tmpname()
nb.journal{path}:add({loss={0.5, 0.25}}, {name="first"})
local name = nb.journals(path)[1].name
os.remove(path)
return name  --> "first"]],
}

-- ---- what is read ----

local List = { __name = "journals" }
List.__index = List

local function number(v)
  return type(v) == "number" and text.number(v + 0.0) or "–"
end

local function rows_of(list)
  local rows = { { "", "name", "time", "steps", "loss", "least", "optimizer", "commit" } }
  for i, e in ipairs(list) do
    local git = e.git and e.git.commit and e.git.commit:sub(1, 7) .. (e.git.changes ~= 0 and "+" or "") or "–"
    rows[i + 1] = { tostring(i), e.name or "–", (e.time or "–"):gsub("T", " "):gsub(":%d%dZ$", ""), tostring(e.steps),
      number(e.loss), number(e.best), text.cut(e.optimizer or "–", 32), git }
  end
  return rows
end

function List:__tostring()
  if #self == 0 then return "no runs" end
  return table.concat(text.columns(rows_of(self), { "right", "left", "left", "right", "right", "right" }), "\n")
end

local function label(list, i)
  local name = list[i].name
  for k, e in ipairs(list) do
    if k ~= i and e.name == name then return ("%s (%d)"):format(name or "run", i) end
  end
  return name or "run " .. i
end

local function series_of(list)
  local series = {}
  for i, e in ipairs(list) do
    local x, y = {}, {}
    for k, v in ipairs(e.curve and e.curve.loss or {}) do
      if type(v) == "number" then x[#x + 1], y[#y + 1] = e.curve.step[k], v end
    end
    if #y > 0 then
      series[#series + 1] = { name = label(list, i), x = nb.tensor(x, { dtype = "f64" }),
        y = nb.tensor(y, { dtype = "f64" }) }
    end
  end
  return series
end

local sample = "local path = os.tmpname(); local j = nb.journal{path}; j:add({loss={0.5, 0.25}}, {name=\"a\"}); " ..
  "j:add({loss={0.5, 0.125}}, {name=\"b\"}); local l = nb.journals(path); os.remove(path); "

-- The losses of all, as a picture.
local function plot(self, given)
  local o = { title = "loss", xlabel = "step" }
  for name, value in pairs(given or {}) do o[name] = value end
  return nb.plot.curve(series_of(self), o)
end

List.plot = registry.add {
  name = "journals:plot", kind = "method", family = "Runs", value = plot,
  signature = "journals:plot({title=, logy=, ...})", see = { "nb.journals", "plot.curve" },
  doc = "The losses of all runs on one axis; options are those of plot.curve.",
  example = sample .. "return #l:plot().data  --> 2",
}

local function flat(value, prefix, into)
  for key, v in pairs(value) do
    local name = prefix .. tostring(key)
    if type(v) == "table" and v ~= json.null then
      if key ~= "curve" then flat(v, name .. ".", into) end
    else
      into[name] = tostring(v)
    end
  end
  return into
end

-- What two entries have otherwise, as text.
local function compare(self, i, k)
  for _, at in ipairs { i or 0, k or 0 } do
    if not self[at] then
      native.raise(("journals: there is no entry %s, they are 1 to %d"):format(options.show(at), #self))
    end
  end
  local a, b, names, rows = flat(self[i], "", {}), flat(self[k], "", {}), {}, { { "", label(self, i), label(self, k) } }
  for name in pairs(a) do names[#names + 1] = name end
  for name in pairs(b) do
    if a[name] == nil then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    if a[name] ~= b[name] then
      rows[#rows + 1] = { name, text.cut((a[name] or "–"):gsub("\n.*", " …"), 40),
        text.cut((b[name] or "–"):gsub("\n.*", " …"), 40) }
    end
  end
  return table.concat(text.columns(rows, { "left", "left", "left" }), "\n")
end

List.compare = registry.add {
  name = "journals:compare", kind = "method", family = "Runs", value = compare, signature = "journals:compare(i, k)",
  see = { "nb.journals", "nb.compare" }, doc = "What two entries have otherwise, as a table.",
  example = sample .. "return l:compare(1, 2):find(\"0.125\", 1, true) ~= nil  --> true",
}

function List:__display(settings)
  if #self == 0 or #series_of(self) == 0 then return { ["text/plain"] = tostring(self) } end
  local bundle = self:plot():__display(settings)
  bundle["text/plain"] = tostring(self) .. "\n" .. (bundle["text/plain"] or "")
  return bundle
end

-- ---- the two functions ----

local function path_of(where, given)
  local path = type(given) == "table" and (given.path or given[1]) or given
  if type(path) ~= "string" or path == "" then
    native.raise(("%s: needs the name of a file, got %s"):format(where, options.describe(path)))
  elseif path:find "\0" then
    native.raise(("%s: the name of a file must not hold a zero byte, got %q"):format(where, path:gsub("%z", "\\0")))
  end
  return path
end

function journals.journal(given)
  local path = path_of("nb.journal", given)
  native.append("nb.journal", path, "")  -- a folder that cannot be written to is better known now
  return setmetatable({ path = path }, Journal)
end

function journals.read(given)
  local path = path_of("nb.journals", given)
  local f <close>, why = io.open(path)  -- luacheck: ignore 411
  if not f then native.raise("nb.journals: " .. tostring(why)) end
  local list, number_of_line = setmetatable({}, List), 0
  for line in f:lines() do
    number_of_line = number_of_line + 1
    local ok, entry = pcall(json.decode, line)
    if ok and type(entry) == "table" then
      list[#list + 1] = entry
    elseif line:find "%S" then
      notice.say("nb.journals: line %d of %s is no whole entry and is left out", number_of_line, path)
    end
  end
  return list
end

registry.add {
  name = "nb.journal", kind = "function", value = nb.journal, code = function() return journals.journal end,
  family = "Runs", signature = "nb.journal{path}", see = { "journal:add", "nb.journals", "nb.run" },
  doc = "A file of runs, a line of JSON each, to which journal:add(run) adds: options, curve, git's commit and " ..
    "whether files were changed since, time.  The file only grows, and nothing is sent anywhere.",
  example = "local path = os.tmpname(); local j = nb.journal{path}; os.remove(path); return tostring(j) == " ..
    "\"journal \" .. path  --> true",
}

registry.add {
  name = "nb.journals", kind = "function", value = nb.journals, code = function() return journals.read end,
  family = "Runs", signature = "nb.journals(path)", see = { "nb.journal", "nb.compare" },
  doc = "The runs of a journal: a list of tables, shown as a table with the curves of their losses.  :plot() draws " ..
    "these, :compare(1, 2) says what two have otherwise.",
  example = "local path = os.tmpname(); nb.journal{path}; local n = #nb.journals(path); os.remove(path); " ..
    "return n  --> 0",
}

return journals
