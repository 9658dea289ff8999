-- SPDX-License-Identifier: MIT
-- The programs that draw for us: gnuplot, which stays and waits for more, and Graphviz's dot, once for each drawing.
local native = require "nablua.native"
local style = require "nablua.plot.style"

local program = {}

local packages = { gnuplot = "gnuplot-nox", dot = "graphviz" }
local SECONDS = 30
local MARKER = "nablua: drawn\n"

local function start(arguments)
  local process, why = native.spawn(arguments)
  if process then return process end
  local name = arguments[1]
  local missing = why:find("No such file") and ("%s is not installed; install it with: apt install %s"):format(name,
    packages[name]) or ("%s could not be started: %s"):format(name, why)
  native.raise(("plot: %s (in the terminal plots need no other program)"):format(missing))
end

local gnuplot

-- What gnuplot writes for a script.  An error in it ends gnuplot, and the next script starts another.
function program.gnuplot(script)
  if not (gnuplot and gnuplot:alive()) then gnuplot = start { "gnuplot", "-d" } end
  local out, complaints = gnuplot:exchange(script .. "\nset print '-'\nprint '" .. MARKER:sub(1, -2) .. "'\n", MARKER,
    SECONDS)
  if not gnuplot:alive() or out == "" then
    gnuplot:close()
    local line = complaints:match("line %d+: ([^\n]+)") or complaints:match("([^\n]*%S[^\n]*)%s*$") or "it said nothing"
    native.raise("plot: gnuplot could not draw this: " .. line:sub(1, 300))
  end
  return out
end

-- A drawing that is wider than a page of so many pixels, made to fit it.
local function fit(svg, page)
  local width, height = svg:match('<svg width="([%d.]+)pt" height="([%d.]+)pt"')
  local most = page * 3 / 4
  if not width or tonumber(width) <= most then return svg end
  return (svg:gsub('<svg width="[%d.]+pt" height="[%d.]+pt"', ('<svg width="%.0fpt" height="%.0fpt"'):format(most,
    height * most / width), 1))
end

-- What dot writes for a graph, as "svg", "png" or "pdf".
function program.dot(graph, format, arguments)
  local command = { "dot", "-T" .. format, table.unpack(arguments or {}) }
  local process = start(command)
  local out, complaints = process:exchange(graph, nil, SECONDS)
  if out == "" then
    native.raise("plot: dot could not draw this: " .. (complaints:match("[^\n]+") or "it said nothing"):sub(1, 300))
  end
  return format == "svg" and fit(out, style.page) or out
end

return program
