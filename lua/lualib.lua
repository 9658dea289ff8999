-- SPDX-License-Identifier: MIT
-- Short pages on Lua's own library, which is here whole: how each function is called, what it does, a line that runs.
local lualib = {}

-- name, parameters, sentence, example
local pages = {
  { "assert", "(v [, message])", "Gives its arguments when v is neither nil nor false, else raises the message.",
    "assert(5, 'never said')  --> 5" },
  { "collectgarbage", "([option [, n]])", "Collects garbage; \"count\" gives the kilobytes that Lua uses, \"stop\", " ..
    "\"restart\", \"step\", \"incremental\" and \"generational\" tune the collector.",
    "collectgarbage 'count' > 0  --> true" },
  { "dofile", "([path])", "Runs a file of Lua and gives what it returns.",
    "pcall(dofile, 'no such file')  --> false" },
  { "error", "(message [, level])", "Raises an error, of any value. Level 1 names the line that called error, " ..
    "2 its caller's, 0 none.", "select(2, pcall(error, 'stop', 0))  --> 'stop'" },
  { "getmetatable", "(v)", "The metatable of a value, or what its field __metatable says; nil where there is none.",
    "getmetatable('').__index == string  --> true" },
  { "ipairs", "(t)", "Walks t[1], t[2] ... up to the first nil: for i, v in ipairs(t) do.",
    "select('#', ipairs{5})  --> 3" },
  { "load", "(chunk [, name [, mode [, env]]])",
    "Makes a function of a text of Lua, or of one that a function gives " ..
    "piece by piece; nil and a message where it is wrong. env takes the place of the globals.",
    "load('return 1 + 1')()  --> 2" },
  { "loadfile", "([path [, mode [, env]]])", "Makes a function of a file of Lua; nil and a message where it cannot.",
    "loadfile 'no such file' == nil  --> true" },
  { "next", "(t [, key])", "The key after this one and its value; nil behind the last. Without a key, the first.",
    "next({}) == nil  --> true" },
  { "pairs", "(t)", "Walks all keys and values, in no order: for k, v in pairs(t) do.",
    "select('#', pairs{5})  --> 3" },
  { "pcall", "(f, ...)", "Calls f(...); true and its results, or false and the error.",
    "pcall(math.floor, 2.5)  --> {true, 2}" },
  { "print", "(...)", "Writes its arguments as texts, tabs between them, and ends the line.", "print('a', 1)" },
  { "rawequal", "(a, b)", "Whether two values are the same, without asking __eq.", "rawequal('a', 'a')  --> true" },
  { "rawget", "(t, key)", "t[key] without asking __index.", "rawget({5}, 1)  --> 5" },
  { "rawlen", "(v)", "The length of a table or a text, without asking __len.", "rawlen{5, 6}  --> 2" },
  { "rawset", "(t, key, value)", "t[key] = value without asking __newindex; gives t.", "rawset({}, 1, 5)[1]  --> 5" },
  { "require", "(name)", "Loads a module once and gives what it returned; looks along package.path.",
    "require 'string' == string  --> true" },
  { "select", "(n, ...)", "The arguments from the n-th on; with \"#\", how many there are.",
    "select(2, 'a', 'b')  --> 'b'" },
  { "setmetatable", "(t, metatable)", "Gives a table a metatable, or with nil takes it away; gives t.",
    "setmetatable({}, {__index = {x = 1}}).x  --> 1" },
  { "tonumber", "(v [, base])", "A number from a text, nil where it is none; in a base from 2 to 36.",
    "tonumber('ff', 16)  --> 255" },
  { "tostring", "(v)", "A text for any value; __tostring says what of a table.", "tostring(1.5)  --> '1.5'" },
  { "type", "(v)",
    "\"nil\", \"number\", \"string\", \"boolean\", \"table\", \"function\", \"thread\" or \"userdata\".",
    "type(print)  --> 'function'" },
  { "warn", "(message, ...)", "Writes a warning; \"@off\" and \"@on\" switch them.", "warn '@on'" },
  { "xpcall", "(f, handler, ...)", "Like pcall, but what went wrong passes through handler where it happened.",
    "xpcall(error, function(m) return m .. '!' end, 'x', 0)  --> {false, 'x!'}" },
  -- string
  { "string.byte", "(s [, i [, j]])", "The bytes of s from i to j as numbers.", "('A'):byte()  --> 65" },
  { "string.char", "(...)", "A text of bytes that are given as numbers.", "string.char(72, 105)  --> 'Hi'" },
  { "string.dump", "(f [, strip])", "Compiled code of a function, for load with mode \"b\".",
    "#string.dump(function() end) > 0  --> true" },
  { "string.find", "(s, pattern [, from [, plain]])",
    "Where a pattern first matches, from and to, and its captures; " ..
    "nil for nowhere. plain takes the pattern as it is.", "('hello'):find('l+')  --> {3, 4}" },
  { "string.format", "(format, ...)",
    "A text with values put in: %d whole numbers, %f %g %e others, %5.2f in width 5 " ..
    "with 2 digits, %s any value, %q as Lua writes it, %x hexadecimal, %c a byte, %% a percent sign.",
    "('%d of %.2f, %s'):format(3, 1.5, 'x')  --> '3 of 1.50, x'" },
  { "string.gmatch", "(s, pattern [, from])", "Walks all matches: for word in s:gmatch(\"%a+\") do.",
    "('a1b2'):gmatch('%d')()  --> '1'" },
  { "string.gsub", "(s, pattern, by [, n])",
    "s with matches replaced, at most n, and how many. by is a text with %1, a " ..
    "table or a function of the captures.", "('a b'):gsub('%a', '<%0>')  --> {'<a> <b>', 2}" },
  { "string.len", "(s)", "How many bytes s has, as #s; utf8.len counts characters.", "('abc'):len()  --> 3" },
  { "string.lower", "(s)", "s in small letters.", "('Ab'):lower()  --> 'ab'" },
  { "string.match", "(s, pattern [, from])",
    "The captures of the first match, or all of it; nil for none. %a letter, %d " ..
    "digit, %s space, %w both; . any, [set], ^ begin, $ end, * + - ? how often.",
    "('x = 5'):match('(%w+) = (%d+)')  --> {'x', '5'}" },
  { "string.pack", "(format, ...)",
    "Values as bytes: b h i j for whole numbers, f d n for others, z s for texts, < > " ..
    "for the order of bytes.", "#string.pack('<i4', 7)  --> 4" },
  { "string.packsize", "(format)", "How many bytes string.pack would make.", "string.packsize('<i4d')  --> 12" },
  { "string.rep", "(s, n [, separator])", "s n times, with a separator between.", "('ab'):rep(2, '-')  --> 'ab-ab'" },
  { "string.reverse", "(s)", "The bytes of s from the last to the first.", "('abc'):reverse()  --> 'cba'" },
  { "string.sub", "(s, i [, j])", "The part of s from i to j, both included; negative ones count from the end.",
    "('hello'):sub(2, -2)  --> 'ell'" },
  { "string.unpack", "(format, s [, from])", "The values that string.pack made bytes of, and where the next begins.",
    "string.unpack('<i4', '\\7\\0\\0\\0')  --> {7, 5}" },
  { "string.upper", "(s)", "s in capital letters.", "('ab'):upper()  --> 'AB'" },
  -- table
  { "table.concat", "(list [, separator [, i [, j]]])", "The texts and numbers of a list as one text.",
    "table.concat({1, 2}, ', ')  --> '1, 2'" },
  { "table.insert", "(list, [place,] value)", "Puts a value at the end, or at a place; those behind move up.",
    "(function(t) table.insert(t, 1, 5) return t end){6}  --> {5, 6}" },
  { "table.move", "(from, i, j, to [, list])",
    "Copies from[i] ... from[j] to places from `to` on, of another list if " ..
    "there is one, which it gives.", "table.move({1, 2}, 1, 2, 2, {0})  --> {0, 1, 2}" },
  { "table.pack", "(...)", "A table of the arguments, with their number in n.", "table.pack(1, nil).n  --> 2" },
  { "table.remove", "(list [, place])", "Takes away the last value, or that at a place, and gives it.",
    "table.remove{5, 6}  --> 6" },
  { "table.sort", "(list [, less])", "Sorts a list in place; less(a, b) says whether a comes before b. Not stable.",
    "(function(t) table.sort(t) return t end){3, 1, 2}  --> {1, 2, 3}" },
  { "table.unpack", "(list [, i [, j]])", "The values of a list, one by one.",
    "math.max(table.unpack{1, 3, 2})  --> 3" },
  -- math
  { "math.abs", "(x)", "x without its sign.", "math.abs(-2)  --> 2" },
  { "math.acos", "(x)", "The angle whose cosine is x, in radians.", "math.acos(1)  --> 0" },
  { "math.asin", "(x)", "The angle whose sine is x, in radians.", "math.asin(0)  --> 0" },
  { "math.atan", "(y [, x])", "The angle of the point (x, y), in radians; x is 1 without.",
    "math.atan(0, 1)  --> 0" },
  { "math.ceil", "(x)", "The least whole number that is not below x.", "math.ceil(1.2)  --> 2" },
  { "math.cos", "(x)", "The cosine of an angle in radians.", "math.cos(0)  --> 1" },
  { "math.deg", "(x)", "Radians in degrees.", "math.deg(math.pi)  --> 180" },
  { "math.exp", "(x)", "e to the power x.", "math.exp(0)  --> 1" },
  { "math.floor", "(x)", "The greatest whole number that is not above x.", "math.floor(-1.2)  --> -2" },
  { "math.fmod", "(x, y)", "The rest of x / y, rounded towards zero; x % y rounds down.",
    "math.fmod(-5, 3)  --> -2" },
  { "math.log", "(x [, base])", "The logarithm, natural without a base.", "math.log(8, 2)  --> 3" },
  { "math.max", "(x, ...)", "The greatest of its arguments.", "math.max(1, 3, 2)  --> 3" },
  { "math.min", "(x, ...)", "The least of its arguments.", "math.min(1, 3, 2)  --> 1" },
  { "math.modf", "(x)", "The whole part of x and the rest.", "math.modf(2.5)  --> {2, 0.5}" },
  { "math.rad", "(x)", "Degrees in radians.", "math.rad(0)  --> 0" },
  { "math.random", "([low,] [high])", "A random number: from 0 to 1, 1 to high, low to high. nb.rand makes tensors.",
    "math.random(1)  --> 1" },
  { "math.randomseed", "([x [, y]])", "Seeds math.random; nb.seed seeds tensors.", "math.randomseed(5)" },
  { "math.sin", "(x)", "The sine of an angle in radians.", "math.sin(0)  --> 0" },
  { "math.sqrt", "(x)", "The square root.", "math.sqrt(9)  --> 3" },
  { "math.tan", "(x)", "The tangent of an angle in radians.", "math.tan(0)  --> 0" },
  { "math.tointeger", "(x)", "x as a whole number, nil where it is none.", "math.tointeger(3.0)  --> 3" },
  { "math.type", "(x)", "\"integer\" or \"float\", nil for what is no number.", "math.type(3.0)  --> 'float'" },
  { "math.ult", "(a, b)", "Whether a is below b, both taken without a sign.", "math.ult(1, -1)  --> true" },
  -- utf8
  { "utf8.char", "(...)", "A text of characters that are given by their numbers.", "utf8.char(8711)  --> '∇'" },
  { "utf8.codepoint", "(s [, i [, j]])", "The numbers of the characters from byte i to j.",
    "utf8.codepoint('∇')  --> 8711" },
  { "utf8.codes", "(s)", "Walks places and numbers of characters: for place, code in utf8.codes(s) do.",
    "select('#', utf8.codes('a'))  --> 3" },
  { "utf8.len", "(s [, i [, j]])", "How many characters s has; nil and a place where it is no UTF-8.",
    "utf8.len('∇J')  --> 2" },
  { "utf8.offset", "(s, n [, i])", "The byte where the n-th character begins.", "utf8.offset('∇J', 2)  --> 4" },
  -- coroutine
  { "coroutine.close", "(co)", "Ends a coroutine that sleeps, and closes what it left open.",
    "coroutine.close(coroutine.create(print))  --> true" },
  { "coroutine.create", "(f)", "A coroutine that will run f, for coroutine.resume.",
    "type(coroutine.create(print))  --> 'thread'" },
  { "coroutine.isyieldable", "([co])", "Whether it can yield.", "type(coroutine.isyieldable())  --> 'boolean'" },
  { "coroutine.resume", "(co, ...)",
    "Runs a coroutine until it yields or ends; true and what it gave, or false and the " ..
    "error.", "coroutine.resume(coroutine.create(math.abs), -1)  --> {true, 1}" },
  { "coroutine.running", "()", "The coroutine that runs, and whether it is the main one.",
    "type((coroutine.running()))  --> 'thread'" },
  { "coroutine.status", "(co)", "\"running\", \"suspended\", \"normal\" or \"dead\".",
    "coroutine.status(coroutine.create(print))  --> 'suspended'" },
  { "coroutine.wrap", "(f)", "A function that resumes a coroutine at each call, and raises its errors.",
    "coroutine.wrap(math.abs)(-1)  --> 1" },
  { "coroutine.yield", "(...)", "Stops the coroutine that runs; resume gives the arguments.",
    "coroutine.wrap(function() coroutine.yield(7) end)()  --> 7" },
  -- io
  { "io.close", "([file])", "Closes a file, or the one that io.write writes to.", "pcall(io.close, 5)  --> false" },
  { "io.flush", "()", "Writes out what io.write holds back.", "io.flush()" },
  { "io.input", "([file])", "The file that io.read reads, after a change of it.",
    "io.input() == io.stdin  --> true" },
  { "io.lines", "([path, ...])", "Walks the lines of a file: for line in io.lines(path) do.",
    "pcall(io.lines, 'no such file')  --> false" },
  { "io.open", "(path [, mode])",
    "Opens a file to read \"r\", write \"w\", add \"a\", with \"b\" for bytes and \"+\" for " ..
    "both; nil and why where it cannot. nb.load and data.csv read whole files.",
    "io.open 'no such file' == nil  --> true" },
  { "io.output", "([file])", "The file that io.write writes to, after a change of it.",
    "io.type(io.output())  --> 'file'" },
  { "io.popen", "(program [, mode])",
    "Runs a program and gives a file with what it prints, or for its input with \"w\".",
    "io.popen('echo hi'):read()  --> 'hi'" },
  { "io.read", "(...)",
    "Reads from the standard input: \"l\" a line, \"n\" a number, \"a\" all, a count of bytes. " ..
    "input(prompt) asks.", "type(io.read)  --> 'function'" },
  { "io.tmpfile", "()", "A file for a while, gone when the program ends.", "io.type(io.tmpfile())  --> 'file'" },
  { "io.type", "(v)", "\"file\", \"closed file\", or nil for what is no file.", "io.type(io.stdout)  --> 'file'" },
  { "io.write", "(...)", "Writes texts and numbers as they are, without a line's end.", "io.write('')" },
  -- os
  { "os.clock", "()", "Seconds of the processor that the program took.", "os.clock() >= 0  --> true" },
  { "os.date", "([format [, time]])", "The date as a text, \"%Y-%m-%d %H:%M:%S\" say, or with \"*t\" as a table.",
    "os.date('!%Y', 0)  --> '1970'" },
  { "os.difftime", "(later, earlier)", "Seconds between two times.", "os.difftime(5, 3)  --> 2" },
  { "os.execute", "([command])",
    "Runs a program in a shell; true, or nil, and how it ended. !PROGRAM does so at the " ..
    "prompt.", "os.execute 'true'  --> {true, 'exit', 0}" },
  { "os.exit", "([status [, close]])", "Ends the program.", "type(os.exit)  --> 'function'" },
  { "os.getenv", "(name)", "An environment variable, or nil.", "os.getenv 'NO_SUCH_VARIABLE' == nil  --> true" },
  { "os.remove", "(path)", "Deletes a file or an empty folder; nil and why where it cannot.",
    "os.remove 'no such file' == nil  --> true" },
  { "os.rename", "(from, to)", "Gives a file another name.", "os.rename('no such file', 'x') == nil  --> true" },
  { "os.setlocale", "([locale [, category]])", "Sets how the C library writes numbers and sorts, or asks.",
    "type(os.setlocale())  --> 'string'" },
  { "os.time", "([table])", "Seconds since 1970, of now or of a table {year=, month=, day=, hour=}.",
    "os.time() > 0  --> true" },
  { "os.tmpname", "()", "A name for a file that nobody has.", "type(os.tmpname)  --> 'function'" },
  -- package
  { "package.loadlib", "(path, name)", "Loads a C library and gives a function of it.",
    "package.loadlib('no such file', 'f') == nil  --> true" },
  { "package.searchpath", "(name, path)",
    "The file that a module's name stands for along a path, or nil and where it " ..
    "looked.", "package.searchpath('no.such', './?.lua') == nil  --> true" },
  -- debug
  { "debug.debug", "()", "Asks for lines and runs them until \"cont\"; breakpoint() does more.",
    "type(debug.debug)  --> 'function'" },
  { "debug.gethook", "([co])", "The hook that is set.", "debug.gethook() == nil  --> true" },
  { "debug.getinfo", "([co,] f|level [, what])",
    "A table about a function or a call: short_src, currentline, name, " ..
    "nparams ...", "debug.getinfo(print).what  --> 'C'" },
  { "debug.getlocal", "([co,] f|level, i)", "Name and value of the i-th local of a call.",
    "debug.getlocal(function(x) return x end, 1)  --> 'x'" },
  { "debug.getmetatable", "(v)", "The metatable, whatever __metatable says.",
    "debug.getmetatable('').__index == string  --> true" },
  { "debug.getregistry", "()", "The table where C libraries keep what is theirs.",
    "type(debug.getregistry())  --> 'table'" },
  { "debug.getupvalue", "(f, i)", "Name and value of the i-th variable from outside that f uses.",
    "debug.getupvalue(function() return print end, 1) == '_ENV'  --> true" },
  { "debug.getuservalue", "(u [, n])", "A value that belongs to a userdata.",
    "debug.getuservalue(io.stdout) == nil  --> true" },
  { "debug.setcstacklimit", "(limit)", "Of earlier versions; does nothing.",
    "debug.setcstacklimit(200) > 0  --> true" },
  { "debug.sethook", "([co,] f, mask [, count])",
    "Calls f at calls \"c\", returns \"r\", lines \"l\"; none with nil.",
    "debug.sethook()" },
  { "debug.setlocal", "([co,] level, i, value)", "Changes the i-th local of a call; gives its name.",
    "(function(x) debug.setlocal(1, 1, 5) return x end)(1)  --> 5" },
  { "debug.setmetatable", "(v, metatable)", "Gives any value a metatable.", "debug.setmetatable(5, nil)  --> 5" },
  { "debug.setupvalue", "(f, i, value)", "Changes the i-th variable from outside that f uses; gives its name.",
    "debug.setupvalue(load 'return x', 1, {x = 5})  --> '_ENV'" },
  { "debug.setuservalue", "(u, value [, n])", "Changes a value that belongs to a userdata.",
    "debug.setuservalue(io.stdout, 1) == nil  --> true" },
  { "debug.traceback", "([co,] [message [, level]])", "A message with the calls that led here.",
    "debug.traceback('x'):match('^x\\nstack')  --> 'x\\nstack'" },
  { "debug.upvalueid", "(f, i)", "What tells whether two functions share a variable.",
    "debug.upvalueid(load 'x()', 1) ~= nil  --> true" },
  { "debug.upvaluejoin", "(f, i, g, k)", "Lets f use the variable that is g's k-th.",
    "type(debug.upvaluejoin)  --> 'function'" },
}

-- Of files: f:read() and its kin.
local methods = {
  { "close", "()", "Closes the file.", "io.tmpfile():close()  --> true" },
  { "flush", "()", "Writes out what is held back.", "io.stdout:flush()" },
  { "lines", "(...)", "Walks the lines of the file: for line in f:lines() do.",
    "io.tmpfile():lines()() == nil  --> true" },
  { "read", "(...)",
    "Reads \"l\" a line, \"L\" with its end, \"n\" a number, \"a\" all, a count of bytes; nil at the end.",
    "io.tmpfile():read('a')  --> ''" },
  { "seek", "([whence [, offset]])", "Goes to a place from \"set\" the beginning, \"cur\" here, \"end\"; gives it.",
    "io.tmpfile():seek('end')  --> 0" },
  { "setvbuf", "(mode [, size])", "Holds back nothing \"no\", lines \"line\" or blocks \"full\".",
    "io.tmpfile():setvbuf('no')  --> true" },
  { "write", "(...)", "Writes texts and numbers; gives the file.",
    "io.type(io.tmpfile():write('a', 1))  --> 'file'" },
}

local values = {
  { "math.pi", "The ratio of a circle's circumference to its diameter." },
  { "math.huge", "Infinity: greater than any other number." },
  { "math.maxinteger", "The greatest whole number, 2^63 - 1." },
  { "math.mininteger", "The least whole number, -2^63." },
  { "utf8.charpattern", "A pattern that matches one character of a text in UTF-8." },
  { "package.path", "Where require looks for files of Lua; ? stands for the name." },
  { "package.cpath", "Where require looks for C libraries; ? stands for the name." },
  { "package.loaded", "The modules that are loaded, by name." },
  { "package.preload", "Functions that require calls for names of their own." },
  { "package.searchers", "The functions by which require finds modules." },
  { "package.config", "The signs that paths are made with." },
  { "io.stdin", "The standard input, a file." }, { "io.stdout", "The standard output, a file." },
  { "io.stderr", "The standard error, a file." }, { "_G", "The table of the globals." },
  { "_VERSION", "The version of Lua." },
}

local libraries = { string = "Texts; s:upper() is string.upper(s).", table = "Lists.", math = "Numbers.",
  io = "Files and the terminal.", os = "The system: times, programs, environment.", utf8 = "Characters beyond ASCII.",
  coroutine = "Functions that stop and go on.", debug = "Looking into what runs.",
  package = "How require finds modules." }

local by_name, by_value = {}, setmetatable({}, { __mode = "k" })

local function add(name, signature, doc, example, value)
  local entry = { name = name, signature = signature, doc = doc, example = example }
  by_name[name] = entry
  if type(value) == "function" then by_value[value] = entry end
end

local function value_of(name)
  local library, key = name:match("^(.-)%.?([^.]+)$")
  local home = library == "" and _G or package.loaded[library]
  return type(home) == "table" and rawget(home, key) or nil
end

for _, page in ipairs(pages) do add(page[1], page[1] .. page[2], page[3], page[4], value_of(page[1])) end
for _, page in ipairs(methods) do
  add("file:" .. page[1], "file:" .. page[1] .. page[2], page[3], page[4], getmetatable(io.stdout).__index[page[1]])
end
for _, value in ipairs(values) do add(value[1], value[1], value[2]) end

local function names_of(library)
  local names = {}
  for name in pairs(by_name) do
    local short = name:match("^" .. library .. "%.(.+)$")
    if short then names[#names + 1] = short end
  end
  table.sort(names)
  return table.concat(names, "  ")
end

-- The entry of a name, such as "string.format", "s:format" or "f:read", or of a function; nil for none.
function lualib.find(x)
  if type(x) ~= "string" then return by_value[x] end
  local method = x:match("^[%w_]+:([%w_]+)$")
  local entry = by_name[x] or method and (by_name["string." .. method] or by_name["file:" .. method])
  if entry or not libraries[x] then return entry end
  return { name = x, signature = x, doc = libraries[x], names = names_of(x) }
end

-- All entries, for tests.
function lualib.all()
  return by_name
end

-- The page of an entry as text.
function lualib.text(entry)
  local lines = require("nablua.reference").lines
  local parts = { entry.signature }
  table.move(lines("  " .. entry.doc, "  "), 1, 99, 2, parts)
  if entry.names then table.move(lines("  " .. entry.names, "  "), 1, 99, #parts + 1, parts) end
  if entry.example then
    parts[#parts + 1] = "\nExample\n  " .. entry.example
  end
  return table.concat(parts, "\n")
end

return lualib
