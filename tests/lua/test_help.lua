-- SPDX-License-Identifier: MIT
-- Every public name is documented with an example that runs and shows what it says; and how help finds names.
local lu = require "luaunit"
local nb = require "nablua"
local native = require "nablua.native"
local registry = require "nablua.registry"
local numeric = require "numeric"

local T = {}
local entries = table.move(registry.all(), 1, #registry.all(), 1, {})  -- examples add some of their own

-- name → value of all that a user can reach.
local function public_names()
  local names = {}
  local function add(prefix, home, skip)
    for name, value in pairs(home) do
      if type(name) == "string" and not (skip and skip[name]) then names[prefix .. name] = value end
    end
  end
  add("nb.", nb, { nn = true, optim = true, data = true, plot = true })
  add("nb.help.", nb.help)
  add("nn.", nb.nn, { init = true })
  add("nn.init.", nb.nn.init)
  add("optim.", nb.optim)
  add("data.", nb.data)
  add("plot.", nb.plot)
  add("t:", native.methods)
  add("net:", require("nablua.nn.module").Module, { training = true })
  local opt = nb.optim.SGD { nb.zeros(1, { requires_grad = true }) }
  for _, name in ipairs { "save", "update", "close" } do names["p:" .. name] = nb.plot.curve({ 1 })[name] end
  for _, name in ipairs { "step", "zero_grad", "state", "load_state" } do names["opt:" .. name] = opt[name] end
  return names
end


local function each_name(check)
  local failures, sorted, names = {}, {}, public_names()
  for name in pairs(names) do sorted[#sorted + 1] = name end
  table.sort(sorted)
  lu.assertTrue(#sorted > 200)
  for _, name in ipairs(sorted) do
    local ok, err = pcall(check, name, names[name])
    if not ok then failures[#failures + 1] = name .. ": " .. tostring(err) end
  end
  lu.assertEquals(#failures, 0, "\n" .. table.concat(failures, "\n"))
end

function T.test_every_public_name_is_documented()
  each_name(function(name, value)
    local entry = registry.find(name)
    if not entry or entry.name ~= name then entry = type(value) == "function" and registry.find(value) or entry end
    assert(entry, "is not in the registry")
    assert(entry.name:match("[^.:]+$") == name:match("[^.:]+$"), "is documented as " .. entry.name)
    assert(entry.doc and #entry.doc > 5, "has no doc")
    assert(entry.signature or entry.kind == "field" or entry.kind == "topic", "has no signature")
    assert(entry.example, "has no example")
  end)
end

-- Every line of the table of PyTorch's names leads to a page, or says why there is none.
function T.test_names_of_pytorch_lead_to_pages()
  local torch = require "nablua.torch"
  local bad = {}
  for _, name in ipairs(torch.names()) do
    local entry, sentence = torch.find(name)
    if not entry and not sentence then bad[#bad + 1] = name end
  end
  lu.assertEquals(bad, {})
  for name, want in pairs { ["torch.mm"] = "nb.mm", ["torch.nn.functional.mse_loss"] = "nn.mse", ["F.relu"] = "nb.relu",
    ["torch.Tensor.unfold"] = "nb.windows", ["torch.nn.functional.unfold"] = "nb.unfold",
    ["torch.optim.Adam"] = "optim.Adam", ["torch.nn.Linear"] = "nn.Linear", ["torch.linalg.inv"] = "nb.inverse",
    ["torch.Tensor.item"] = "t:item", ["torch.clip"] = "nb.clamp",
    ["torch.utils.data.DataLoader"] = "data.loader", ["torch.utils.data.ConcatDataset"] = "data.concat" } do
    lu.assertEquals(nb.help.torch(name).entry.name, want, name)
    lu.assertStrContains(tostring(nb.help.torch(name)), name:find("^torch") and name or "torch." .. name)
  end
  lu.assertStrContains(tostring(nb.help.torch("torch.linalg.eig")), "nb.eigvals")
  lu.assertErrorMsgContains("did you mean", nb.help.torch, "torch.true_divid")
  lu.assertErrorMsgContains("needs a name", nb.help.torch, 5)
end

function T.test_no_public_name_is_a_keyword()
  each_name(function(name)
    assert(load("local x = " .. name:gsub(":", ".")))
  end)
end

-- A shown value and a result as lists of numbers and strings.
local function flatten(v, out)
  out = out or {}
  if nb.is_tensor(v) then
    for _, x in ipairs(numeric.flat(v)) do out[#out + 1] = x end
  elseif type(v) == "table" then
    for i = 1, #v do flatten(v[i], out) end
  elseif type(v) == "boolean" then
    out[#out + 1] = v and 1 or 0
  else
    out[#out + 1] = v
  end
  return out
end

local function run(example)
  local env = setmetatable({ nb = nb, nn = nb.nn, optim = nb.optim, data = nb.data, inspect = nb.inspect,
    plot = nb.plot, dist = nb.dist, ui = nb.ui }, { __index = _G })
  local code, shown = example:match("^(.-)%s*%-%->%s*([^\n]*)$")
  code = code or example
  local chunk = load("return " .. code, "example", "t", env) or assert(load(code, "example", "t", env))
  local value = chunk()
  if not shown then return end
  local want = flatten(assert(load("return " .. shown, "shown", "t", { nan = 0 / 0, inf = 1 / 0, e = math.exp(1) }))())
  local have = flatten(value)
  assert(#have == #want, ("%d values against %d"):format(#have, #want))
  for i = 1, #want do
    local same = have[i] == want[i] or (type(have[i]) == "number" and type(want[i]) == "number" and
      numeric.close(have[i], want[i], 1e-4))
    assert(same, ("shows %s, gives %s"):format(tostring(want[i]), tostring(have[i])))
  end
  return true
end

function T.test_examples_run_and_show_what_they_say()
  nb.seed(9)
  local failures, compared, n = {}, 0, 0
  for _, entry in ipairs(registry.all()) do
    if entry.example then
      n = n + 1
      local ok, shown = pcall(run, entry.example)
      if not ok then failures[#failures + 1] = ("%s: %s\n    %s"):format(entry.name, shown, entry.example) end
      if shown == true then compared = compared + 1 end
    end
  end
  lu.assertEquals(#failures, 0, "\n" .. table.concat(failures, "\n"))
  lu.assertTrue(n > 200 and compared > 150)
end

function T.test_references_lead_somewhere()
  for _, entry in ipairs(registry.all()) do
    for _, name in ipairs(entry.see or {}) do
      local found = registry.find(name)
      lu.assertTrue(found ~= nil and found.name == name, entry.name .. " refers to " .. name)
    end
  end
end

function T.test_help_finds_names_and_values()
  lu.assertEquals(nb.help("nn.Linear").entry.name, "nn.Linear")
  lu.assertEquals(nb.help("Linear").entry.name, "nn.Linear")
  lu.assertEquals(nb.help(nb.nn.Linear).entry.name, "nn.Linear")
  lu.assertEquals(nb.help(nb.nn.Linear(1, 1)).entry.name, "nn.Linear")
  lu.assertEquals(nb.help(nb.relu).entry.name, "nb.relu")
  lu.assertEquals(nb.help(nb.zeros(1).relu).entry.name, "nb.relu")
  lu.assertEquals(nb.help(nb.optim.Adam { nb.zeros(1, { requires_grad = true }) }).entry.name, "optim.Adam")
  lu.assertEquals(nb.help(nb.zeros(1)).entry.name, "tensor")
  lu.assertEquals(nb.help(nb.nn).entry.name, "nn")
  lu.assertEquals(nb.help("t:backward").entry.name, "t:backward")
end

function T.test_a_class_of_ones_own_has_help()
  local Mine = nb.nn.module("Mine", { doc = "Adds one.", params = { { name = "n", type = "size", doc = "a size" } } })
  local text = nb.help.text(Mine)
  lu.assertStrContains(text, "Mine(n)")
  lu.assertStrContains(text, "Adds one.")
  lu.assertStrContains(text, "a size")
end

function T.test_an_unknown_name_gets_the_nearest()
  local function message(x) return select(2, pcall(nb.help, x)) end
  lu.assertStrContains(message "nn.Liner", '"nn.Linear"')
  lu.assertStrContains(message "sigmiod", '"sigmoid"')
  lu.assertStrContains(message "optim.Adm", '"optim.Adam"')
  lu.assertStrContains(message {}, "no help on a table")
  lu.assertStrContains(select(2, pcall(nb.help, nil)), "nil")
end

function T.test_a_page_shows_signature_parameters_example()
  local text = tostring(nb.help("nn.Conv2d"))
  for _, piece in ipairs { "nn.Conv2d(in_channels, out_channels, kernel_size, {stride=1, padding=0,", "Parameters",
    "zeros added at each edge", "Example", "See also: nb.conv2d" } do
    lu.assertStrContains(text, piece)
  end
  lu.assertStrContains(nb.help.text "tanh", "Derivative: 1 − tanh² x")
  lu.assertStrContains(nb.help.text "floor", "No gradient")
end

function T.test_topics_list_their_names()
  local overview = tostring(nb.help())
  for _, topic in ipairs { "tensor", "operators", "gradients", "nn", "optim", "data", "inspect", "session" } do
    lu.assertStrContains(overview, "\n  " .. topic .. " ")
    local page = nb.help(topic)
    lu.assertEquals(page.entry.kind, "topic")
    for line in page.text:gmatch("[^\n]+") do
      if not line:find("%-%->") then lu.assertTrue(utf8.len(line) <= 100, line) end
    end
  end
  lu.assertStrContains(nb.help.text "nn", "  nn.Linear ")
  lu.assertStrContains(nb.help.text "operators", "  relu ")
  lu.assertStrContains(nb.help.text "gradients", "  t:backward ")
  lu.assertStrContains(nb.help.text "data", "Files\n  save  Writes")
  lu.assertStrContains(nb.help "optim".markdown, "| `optim.Adam` | Steps scaled")
  lu.assertTrue(select(2, overview:gsub("\n", "")) < 20)
end

-- Whatever is registered has its place in one chapter, and the order does not change from run to run.
function T.test_every_entry_is_in_one_section()
  local seen = {}
  for _, chapter in ipairs(require("nablua.reference").chapters()) do
    for _, section in ipairs(chapter.sections) do
      for _, entry in ipairs(section) do
        lu.assertNil(seen[entry.name], entry.name)
        seen[entry.name] = true
      end
    end
  end
  for _, entry in ipairs(registry.all()) do
    if entry.kind ~= "topic" then lu.assertTrue(seen[entry.name], entry.name) end
  end
end

function T.test_the_file_for_editors_is_lua_and_complete()
  local text = nb.help.meta()
  lu.assertNotNil(load(text, "meta", "t"))
  local declared = {}
  for name in text:gmatch("\nfunction ([%w_.:]+)%(") do declared[name] = true end
  local names = { t = "Tensor", net = "Module", opt = "Optimizer", schedule = "Schedule" }
  local missing, n = {}, 0
  for _, entry in ipairs(registry.all()) do
    local prefix, method = entry.name:match("^(%a%w*):([%w_]+)$")
    local name = prefix and (names[prefix] or prefix:gsub("^%l", string.upper)) .. ":" .. method or entry.name
    if entry.kind ~= "topic" and entry.kind ~= "field" and name:match("^[%w_.:]+$") then
      n = n + 1
      if not declared[name] then missing[#missing + 1] = name end
    end
  end
  lu.assertEquals(missing, {})
  lu.assertTrue(n > 200)
  lu.assertStrContains(text, "---@param in_channels integer\n")
  lu.assertStrContains(text, "function Tensor:sum(dim, options) end")
  lu.assertStrContains(text, "---@param options? { keepdim?: boolean }\n---@return Tensor")
end

function T.test_the_reference_has_every_entry()
  local text = nb.help.markdown()
  for _, entry in ipairs(registry.all()) do
    if entry.kind ~= "topic" then
      local heading = text:find("\n#### " .. entry.name .. "\n", 1, true)
      lu.assertTrue(heading ~= nil or text:find("| `" .. entry.signature:gsub("|", "\\|"), 1, true) ~= nil, entry.name)
    end
  end
  lu.assertStrContains(text, "\n### Activations\n")
  -- Links of the contents lead to headings.
  for title in text:gmatch("%[([^%]\n]+)%]%(#") do lu.assertTrue(text:find("\n##+ " .. title .. "\n") ~= nil, title) end
end

-- Whatever file registers a name, and however late it is read.
function T.test_every_name_is_known_from_the_start()
  local known, missing, n = {}, {}, 0
  for _, entry in ipairs(entries) do known[entry.name] = true end
  local files <close> = assert(io.popen("find lua -name '*.lua'"))
  for path in files:lines() do
    local file <close> = assert(io.open(path))
    for name in file:read("a"):gmatch('[{%s]name = "(%l+[:.][%w_.]*%w)"') do
      n = n + 1
      if not known[name] then missing[#missing + 1] = path .. ": " .. name end
    end
  end
  lu.assertEquals(missing, {})
  lu.assertTrue(n > 40, n)
end

-- What each name is called in PyTorch, or "-".  That none is left out is asked before a release.
function T.test_the_table_for_who_comes_from_pytorch_names_what_is_there()
  local asked = {}
  for _, entry in ipairs(entries) do
    local kind = entry.kind
    asked[entry.name] = kind ~= "topic" and kind ~= "variable" and kind ~= "setting" and kind ~= "settings"
  end
  local told, strangers = {}, {}
  for line in io.lines("docs/pytorch.tsv") do
    local name = line:match("^([^#\t]+)\t[^\t]+")
    local elsewhere = name and name:find("^comms%.") and _G.comms == nil  -- in a stock interpreter
    if name and asked[name] == nil and not elsewhere then strangers[#strangers + 1] = name end
    lu.assertNil(told[name or ""], name)
    if name then told[name] = true end
  end
  lu.assertEquals(strangers, {})
end

function T.test_nearest_names()
  local options = require "nablua.options"
  lu.assertEquals(options.nearest("rl", { "momentum", "lr" }), "lr")
  lu.assertEquals(options.nearest("Momentum", { "momentum", "lr" }), "momentum")
  lu.assertNil(options.nearest("banana", { "momentum", "lr" }))
  lu.assertEquals(options.nearest("sape", { "tape", "shape", "same" }), "shape")
  lu.assertEquals(options.nearest("bape", { "tape", "bake" }), "bake", "another first letter weighs more")
  lu.assertNil(options.nearest(("x"):rep(61), { ("x"):rep(60) }))
end

-- One rule and one sentence for options, whoever reads them: C by hand, the operators' rows, lists of parameters.
function T.test_unknown_options_are_named_alike()
  local w = nb.tensor({ 1, 2 }, { requires_grad = true })
  local net = nb.nn.Linear(1, 1)
  for where, f in pairs {
    tensor = function(o) nb.tensor({ 1 }, o) end, memory = nb.memory, zeros = function(o) nb.zeros(2, o) end,
    sum = function(o) nb.sum(w, o) end, backward = function(o) w:sum():backward(nil, o) end,
    grad = function(o) nb.grad(w:sum(), w, o) end, ["nn.Linear"] = function(o) nb.nn.Linear(1, 1, o) end,
    ["optim.SGD"] = function(o) nb.optim.SGD(net:parameters(), o) end,
  } do
    for option, pattern in pairs { Qqqqqqqqqq = '"Qqqqqqqqqq"; there are %l[%w_, ]+$' } do
      lu.assertErrorMsgMatches(".*" .. where .. ": there is no option " .. pattern, f, { [option] = 1 })
    end
  end
  for _, case in ipairs { { "dtype", "DTYPE", function(o) nb.zeros(2, o) end },
    { "dtype", "dtpye", function(o) nb.tensor({ 1 }, o) end },
    { "bias", "Bias", function(o) nb.nn.Linear(1, 1, o) end },
    { "limit", "Limit", nb.memory }, { "retain_graph", "retaingraph", function(o) w:sum():backward(nil, o) end } } do
    lu.assertErrorMsgMatches(('.*: there is no option "%s"; did you mean "%s"%%?$'):format(case[2], case[1]), case[3],
      { [case[2]] = 1 })
  end
  for _, f in ipairs { nb.memory, function(o) nb.tensor({ 1 }, o) end, function(o) nb.grad(w:sum(), w, o) end } do
    lu.assertErrorMsgMatches(".*: the options must be a table such as {%l+[%w_]*=...}, got a string$", f, "none")
  end
end

-- ---- columns ----

function T.test_columns_of_texts()
  for _, case in ipairs { { "", 0 }, { "abc", 3 }, { "日本", 4 }, { "e\u{301}", 1 }, { "한", 2 }, { "∂J/∂w", 5 },
    { "\27[1;31mab\27[0m", 2 }, { "\xff\xfe", 2 }, { "\xe6\x97", 2 }, { "\xed\xa0\x80", 3 }, { "\u{1F600}", 2 } } do
    lu.assertEquals(native.width(case[1]), case[2], ("%q"):format(case[1]))
  end
  lu.assertEquals({ native.fit("日本語", 6), native.fit("日本語", 5), native.fit("日本語", 4), native.fit("日本語", 1),
    native.fit("日", 0) }, { "日本語", "日本…", "日…", "…", "" })
  lu.assertEquals(native.fit("\27[31mabcdef\27[0m", 3), "\27[31mab…\27[0m")
  lu.assertEquals({ native.pad("日", 4), native.pad("日", 4, "right"), native.pad("日", 4, "center"),
    native.pad("日本", 3) }, { "日  ", "  日", " 日 ", "日本" })
end

-- Whatever aligns names aligns wide ones: what follows them begins in one column, as many bytes as they have.
function T.test_wide_names_stay_in_their_columns()
  local function assert_aligned(text, pattern)
    local columns = {}
    for line in text:gmatch("[^\n]+") do
      local wide, narrow = line:find("日本", 1, true), line:find("kurz", 1, true)
      local at = (wide or narrow) and line:find(pattern)
      if at then columns[#columns + 1] = wide and at - 2 or at end  -- six bytes in four columns
    end
    lu.assertEquals(#columns, 2, text)
    lu.assertEquals(columns[1], columns[2], text)
  end
  local net = nb.nn.Sequential()
  net["日本"], net.kurz = nb.nn.Linear(1, 1), nb.nn.Linear(1, 1)
  assert_aligned(tostring(net), "Linear")
  local path = os.tmpname()
  local f <close> = assert(io.open(path, "w"))
  f:write("日本,kurz\n1,2\n")
  f:close()
  assert_aligned(tostring(nb.data.csv(path)), "numbers")
  os.remove(path)
  local rows = require("nablua.inspect.text").columns { { "日本", "x" }, { "kurz", "x" } }
  assert_aligned(table.concat(rows, "\n"), "x")
  for _, name in ipairs { "日本", "kurz" } do
    registry.add { name = "zz." .. name, kind = "function", family = "Training", doc = "Xyzzy.", example = "1" }
  end
  assert_aligned(nb.help.text("optim"), "Xyzzy")
end

-- ---- pretty printing ----

-- Lua's instructions for each name, in thousands of which they are counted, of showing a table of so many.
local function instructions_to_show(count)
  local t, thousands = {}, 0
  for i = count, 1, -1 do t["k" .. i] = i end
  debug.sethook(function() thousands = thousands + 1 end, "", 1000)
  local text = nb.pretty(t)
  debug.sethook()
  lu.assertStrContains(text, ("… %d more"):format(count - 40))
  lu.assertStrContains(text, "k1 = 1,\n  k10 = 10,")
  return 1000 * thousands / count
end

function T.test_tables_of_many_names_are_shown_in_one_pass()
  for _, count in ipairs { 30000, 300000 } do
    local each = instructions_to_show(count)
    lu.assertTrue(each < 80, ("%.0f instructions for each of %d names"):format(each, count))
  end
end

function T.test_names_are_shown_in_order()
  local t = { [2.5] = 1, [-3] = 2, [true] = 3 }
  for i = 60, 1, -1 do t[("%03d"):format(i)] = i end
  local keys = {}
  for key in nb.pretty(t):gmatch("\n%s*%[(.-)%] =") do keys[#keys + 1] = key end
  lu.assertEquals({ keys[1], keys[2], keys[3], keys[40], #keys }, { "-3", "2.5", '"001"', '"038"', 40 })
end

function T.test_tables_print_readably()
  lu.assertEquals(nb.pretty { 1, 2, { "a" } }, '{ 1, 2, { "a" } }')
  lu.assertEquals(nb.pretty { b = 1, a = 2, [10] = true, ["x y"] = 0 }, '{ [10] = true, a = 2, b = 1, ["x y"] = 0 }')
  lu.assertEquals(nb.pretty { w = nb.zeros(3, 4) }, "{ w = tensor f32 3×4 }")
  lu.assertEquals(nb.pretty {}, "{}")
  local loop = {}
  loop.me = loop
  lu.assertEquals(nb.pretty(loop), "{ me = <the table itself> }")
  local long = {}
  for i = 1, 1000 do long[i] = i end
  lu.assertStrContains(nb.pretty(long), "… 960 more")
  lu.assertTrue(select(2, nb.pretty { ("x"):rep(50), ("y"):rep(50) }:gsub("\n", "")) == 3)
  lu.assertEquals(nb.pretty(nil), "nil")
  lu.assertEquals(nb.pretty("a\n\"b\""), [["a\n\"b\""]])
end

function T.test_display_uses_the_objects_own_bundle()
  local display = require "nablua.display"
  local bundle = { ["text/plain"] = "me", ["text/html"] = "<b>" }
  local object = setmetatable({}, { __display = function() return bundle end })
  lu.assertEquals(display.text(object), "me")
  lu.assertEquals(display.bundle(object)["text/html"], "<b>")
  lu.assertEquals(display.text(nb.help "relu"), nb.help.text "relu")
end

function T.test_what_pictures_are_made_by()
  for _, name in ipairs { "plot.curve", "inspect.graph", "inspect.diagram" } do
    local source = nb.help.source(name)
    lu.assertNotStrContains(source, "setmetatable({ kind = name")
    lu.assertStrContains(source, "function")
  end
  lu.assertStrContains(nb.help.source("plot.curve"), "panel_of")
  lu.assertStrContains(nb.help.text("w:curves"), "w:curves([what]")  -- before a watch was made
  lu.assertStrContains(nb.help.text("w:ridgeline"), "ridgeline")
end

return T
