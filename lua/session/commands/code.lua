-- SPDX-License-Identifier: MIT
-- Commands that take Lua: how long it takes, what it prints.
local native = require "nablua.native"
local session = require "nablua.session.native"

local function seconds_text(s)
  if s < 1e-6 then return ("%.3g ns"):format(s * 1e9) end
  if s < 1e-3 then return ("%.3g µs"):format(s * 1e6) end
  if s < 1 then return ("%.3g ms"):format(s * 1e3) end
  if s < 120 then return ("%.3g s"):format(s) end
  return ("%d min %d s"):format(s // 60, s % 60)
end

local function time(code)
  local cpu, wall = os.clock(), native.clock()
  local results = table.pack(session.evaluate(code))
  wall, cpu = native.clock() - wall, os.clock() - cpu
  print(("%s (processor %s)"):format(seconds_text(wall), seconds_text(cpu)))
  return table.unpack(results, 1, results.n)
end

-- Code that runs the given code n times; none of its names is one that code may mean.
local function loop_of(code, n)
  local body = load("return " .. code, "=code", "t") and "local __nablua_result = " .. code or code
  return ("for __nablua_round = 1, %d do %s\nend"):format(n, body)
end

local function bench(code)
  local start = native.clock()
  session.evaluate(loop_of(code, 1))
  local once = math.max(native.clock() - start, 1e-7)
  local repeats = math.max(1, math.min(100000, math.floor(0.02 / once)))
  local rounds = math.max(3, math.min(25, math.floor(1 / (once * repeats))))
  local loop = loop_of(code, repeats)
  local times = {}
  for i = 1, rounds do
    local t = native.clock()
    session.evaluate(loop)
    times[i] = (native.clock() - t) / repeats
  end
  table.sort(times)
  print(("%s median of %d rounds of %d (%s to %s)"):format(seconds_text(times[(rounds + 1) // 2]), rounds, repeats,
    seconds_text(times[1]), seconds_text(times[rounds])))
end

-- The body of a cell, whose lines count from the line below the command's.
local function below(run, usage)
  return function(arguments, body)
    if arguments:match("%S") then body = arguments .. "\n" .. body else body = "\n" .. body end
    if not body:match("%S") then native.raise(("%%%s: what is missing; its code stands below it"):format(usage)) end
    return run(body)
  end
end

return function(command, commands)
  command("time", "%time CODE", "Runs the code once and tells how long it took.", function(code)
    return time(commands.need("%time CODE", code))
  end, { code = true, cell = below(time, "%time") })

  local function profile(code)
    local seen = table.pack(require("nablua.core").inspect.profile(session.evaluate, code))
    require("nablua.display").show(seen[1])
    return table.unpack(seen, 2, seen.n)
  end
  command("profile", "%profile CODE", "Runs the code once and tells where the time went, by operator and by layer.",
    function(code) return profile(commands.need("%profile CODE", code)) end,
    { code = true, cell = below(profile, "%profile") })

  command("bench", "%bench CODE", "Runs the code many times and tells the median time of a run.", function(code)
    return bench(commands.need("%bench CODE", code))
  end, { code = true, cell = below(bench, "%bench"), aliases = { "timeit" } })

  command("capture", "%%capture [NAME]", "Runs the lines below, shows nothing; what they print becomes the text NAME.",
    nil, { cell = function(name, body)
      if name ~= "" and not name:match("^[%a_][%w_.]*$") then
        native.raise(("%%%%capture: %s is no name"):format(name))
      end
      local text = session.capture(function()
        local results = table.pack(commands.run_input("\n" .. body))
        for i = 1, results.n do
          if results[i] ~= nil then require("nablua.display").show(results[i]) end
        end
      end)
      if name ~= "" then session.evaluate(name .. " = ...", text) end
    end })

  for _, kind in ipairs { { "html", "text/html" }, { "markdown", "text/markdown" }, { "latex", "text/latex" },
    { "svg", "image/svg+xml" } } do
    local name, mime = kind[1], kind[2]
    command(name, "%%" .. name, ("Shows the lines below as %s, where that can be shown."):format(name), nil,
      { cell = function(_, body)
        require("nablua.display").show(setmetatable({}, { __display = function()
          return { ["text/plain"] = (body:gsub("%s+$", "")), [mime] = body }
        end }))
      end })
  end
end
