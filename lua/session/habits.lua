-- SPDX-License-Identifier: MIT
-- What people write who come from Python and its kin, and what it is here: hints behind errors.
local habits = {}

-- Names that are not there.
habits.globals = {
  True = "Lua writes true", False = "Lua writes false", None = "Lua writes nil", null = "Lua writes nil",
  len = "the length of x is #x", range = "count with for i = 1, n do ... end", str = "tostring(x) makes a text",
  int = "math.floor(x) or x // 1 gives a whole number", float = "tonumber(text) gives a number",
  list = "a list is a table: {1, 2}", dict = "a table holds names, too: {lr=0.1}", tuple = "a list is a table: {1, 2}",
  enumerate = "walk a list with for i, value in ipairs(list) do ... end",
  zip = "walk a list with for i, value in ipairs(list) do ... end, and index the other with i",
  round = "math.floor(x + 0.5), of a tensor t:round()", sorted = "table.sort(list) sorts a list, t:sort() a tensor",
  isinstance = "type(x) names a type, nb.is_tensor(x) knows tensors",
  dir = "Tab after x. lists what is in x, ?x explains it",
  open = "did you mean 'io.open'?",
  exit = "Ctrl-D leaves, in a program os.exit()",
  random = "did you mean 'math.random'?",
  printf = "print(string.format(...)) or io.write", console = "did you mean 'print'?",
  clear = "Ctrl-L clears the screen, %reset forgets your variables", ls = "os.execute 'ls' runs a program",
  timeit = "%bench measures code",
  torch = "nb, nn and optim do here what torch does",
  F = "functions are in nb and nn, such as nb.relu, nn.mse",
  np = "nb makes tensors and computes with them", plt = "plot draws, see ?plot",
  self = "a method that uses self is defined with a colon: function Net:forward(x) ... end",
  this = "an object is called self in its methods", super = "call the other class's function: Base.forward(self, x)",
}
for name, like in pairs { quit = "exit", pd = "np", numpy = "np", tf = "torch", jax = "torch", matplotlib = "plt",
  NULL = "None", undefined = "None", double = "float" } do
  habits.globals[name] = habits.globals[like]
end

-- Fields and methods that are not there.
habits.members = {
  numpy = "t:totable() gives a Lua table",
  tolist = "t:totable() gives a Lua table",
  cpu = "everything is on the CPU here",
  cuda = "everything is on the CPU here", device = "everything is on the CPU here", double = 't:to("f64") converts',
  float = 't:to("f32") converts',
  long = 't:to("i64") converts',
  int = 't:to("i64") converts',
  astype = 't:to("f64") converts',
  bool = 't:to("bool") converts',
  type = "t.dtype is the type of its elements",
  ndim = "t:dim() is the number of dimensions",
  data = "t:detach() is the tensor without its history", requires_grad_ = "t.requires_grad = true makes it a parameter",
  t = "t.T is the transpose", grad_fn = "inspect.graph(J) shows what made a tensor",
  manual_seed = "nb.seed(n) seeds", Tensor = "nb.tensor{1, 2} makes a tensor", array = "nb.tensor{1, 2} makes a tensor",
  from_numpy = "nb.load reads npy files", concat = "did you mean 'nb.cat'?", concatenate = "did you mean 'nb.cat'?",
  functional = "functions are in nb and nn, such as nb.relu, nn.mse",
  Module = 'nn.module("Name", init) makes a class, see ?nn.module',
  Parameter = "a parameter is a tensor with {requires_grad=true}",
  DataLoader = "data.batches{x, y, size=64} gives batches, and data.loader such of files",
  TensorDataset = "data.batches{x, y, size=64} gives batches",
  lr_scheduler = "schedules are in optim, such as optim.StepLR",
  state_dict = "net:state() is the state", load_state_dict = "net:load_state(state) takes a state",
  param_groups = "opt.groups are the groups of parameters", float32 = 'a dtype is a string: {dtype="f32"}',
  float64 = 'a dtype is a string: {dtype="f64"}', int64 = 'a dtype is a string: {dtype="i64"}',
  append = "list[#list + 1] = value adds to a list", push = "list[#list + 1] = value adds to a list",
  length = "the length of x is #x", len = "the length of x is #x",
}

-- Names of PyTorch's that are called otherwise here.
setmetatable(habits.members, { __index = function(_, name) return require("nablua.torch").hint(name) end })

-- ---- syntax ----
--
-- Each is a pattern of the line that Lua did not understand, without its texts and comments, and what to say; with a
-- third, only behind a message that has this.
local syntax = {
  { "^%s*import%f[^%w_]",
    'nb, nn, optim, data, inspect and plot are here without import; others come with local m = require "m"' },
  { "^%s*from%s+%S+%s+import",
    'nb, nn, optim, data, inspect and plot are here without import; others come with local m = require "m"' },
  { "^%s*def%f[^%w_]", "a function is written function f(x) ... end" },
  { "^%s*class%f[^%w_]", 'a class of modules is made by nn.module("Name", function(self) ... end), see ?nn.module' },
  { "^%s*with%f[^%w_].*no_grad", "it is written nb.no_grad(function() ... end)" },
  { "%f[%w_]lambda%f[^%w_]", "it is written function(x) return ... end" },
  { "%f[%w_]elif%f[^%w_]", "it is written elseif c then" },
  { "^%s*try%s*:", "local ok, message = pcall(f) catches errors" },
  { "^%s*except%f[^%w_]", "local ok, message = pcall(f) catches errors" },
  { "^%s*raise%f[^%w_]", 'error("what is wrong") raises one' },
  { "!=", "not equal is written ~=" },
  { "[%+%-%*/%%]=", "it is written x = x + 1; Lua has no +=" },
  { "%+%+", "it is written x = x + 1; Lua has no ++" },
  { "&&", "it is written a and b" },
  { "||", "it is written a or b" },
  { "![%w_(]", "it is written not x; programs are run by os.execute 'ls'" },
  { "%*%*", "a power is written x^2" },
  { "%f[%w_]is%s+not%f[^%w_]", "it is written x ~= nil" },
  { "%f[%w_]is%f[^%w_]", "it is written x == y" },
  { "[%w_%)%]\"]%s+if%s.*%selse%f[^%w_]", "it is written c and a or b" },
  { "%?.+:", "it is written c and a or b" },
  { "%f[%w_]continue%f[^%w_]", "it is written goto continue, with ::continue:: before the loop's end" },
  { "=%s*%[", "a list is written {1, 2, 3}, a tensor nb.tensor{1, 2, 3}" },
  { "[%(,{]%s*%[[^%[%]]*,", "a list is written {1, 2, 3}, a tensor nb.tensor{1, 2, 3}" },
  { "^%s*%[", "a list is written {1, 2, 3}, a tensor nb.tensor{1, 2, 3}" },
  { "%[[^%[%]]*:[^%[%]]*%]", "a slice is written t[{ {first, last} }], both included; see ?tensor" },
  { "%[[^%[%]]*,[^%[%]]*%]", "several indices go in a table: t[{1, 2}]" },
  { "%(.-[%w_]+%s*=[^=]", "options are named in a table at the end: f(x, {lr=0.1})", "near '='" },
  { "%(%s*%(", "a list is written {2, 3}; parentheses make none", "near ','" },
  { "local%s+[%w_]+%s*==", "a value is given with a single =" },
  { "%f[%w_]if%f[^%w_]", "a comparison is written ==", "'then' expected near '='" },
  { "%f[%w_]while%f[^%w_]", "a comparison is written ==", "'do' expected near '='" },
  { "@", "a matrix product is written a:matmul(b)" },
  { "{%s*return%f[^%w_]", "a body stands between function f(x) and end, without braces" },
  { "%)%s*{", "a body ends with end, without braces", "near '{'" },
  { "=>", "a function is written function(x) return ... end" },
  { "^%s*//", "a comment begins with --" },
  { "#%s*%a", "a comment begins with --" },
  { "[\"'][\"']%s*[\"'][\"']", "texts are joined by .., as in a .. b", "near '\"" },
  { "^%s*int%s+[%a_]", "a variable is written local x = 1" }, { "^%s*float%s+[%a_]",
    "a variable is written local x = 1" },
  { "^%s*var%s+[%a_]", "a variable is written local x = 1" }, { "^%s*let%s+[%a_]",
    "a variable is written local x = 1" },
  { "^%s*const%s+[%a_]", "a variable is written local x <const> = 1" },
  { ":%s*[%a_][%w_]*%s*$", "a method is called with parentheses: x:name()", "function arguments expected" },
  { ":%s*[%a_][%w_]*%s*[%),;]", "a method is called with parentheses: x:name()", "function arguments expected" },
}

-- Beginnings of Python's blocks; any line of the input may be one.
local blocks = {
  ["for"] = "a loop is written for i = 1, n do ... end", ["while"] = "a loop is written while c do ... end",
  ["if"] = "it is written if c then ... end", ["else"] = "it is written if c then ... else ... end",
  ["with"] = "a block is written do ... end",
}

-- The line with texts emptied and without a comment.
local function bare(line)
  return (line:gsub("\\.", ""):gsub('"[^"]*"', '""'):gsub("'[^']*'", "''"):gsub("%-%-.*$", ""))
end

-- Whether the code uses a variable of that name.
function habits.uses(code, name)
  for line in (code .. "\n"):gmatch("(.-)\n") do
    line = bare(line)
    local at = 1
    while true do
      local first, last = line:find("%f[%w_]" .. name .. "%f[^%w_]", at)
      if not first then break end
      if not line:sub(1, first - 1):match("[.:]%s*$") and not line:sub(last + 1):match("^%s*=[^=]") then return true end
      at = last + 1
    end
  end
  return false
end

-- What looks like a sign of Lua's, and is another character: "“", "−".
local alike = { ["“"] = '"', ["”"] = '"', ["„"] = '"', ["‘"] = "'", ["’"] = "'", ["−"] = "-", ["–"] = "-",
  ["×"] = "*", ["·"] = "*", ["÷"] = "/", ["≠"] = "~=", ["≤"] = "<=", ["≥"] = ">=", ["…"] = "...",
  ["\u{A0}"] = "a space" }

local function strange_character(line)
  local character = line:match("[\xC2-\xF4][\x80-\xBF]+")
  if not character or not utf8.len(character) then return nil end
  if alike[character] then return ("'%s' is written %s here"):format(character, alike[character]) end
  return ("names are written with letters a to z, digits and _, without '%s'"):format(character)
end

-- A hint on an error of syntax in lines[number], or nil.
function habits.of_syntax(message, lines, number)
  local text = bare(lines[number])
  if message:find("near '<\\", 1, true) then return strange_character(text) end
  for _, rule in ipairs(syntax) do
    if text:find(rule[1]) and (not rule[3] or message:find(rule[3], 1, true)) then return rule[2] end
  end
  for _, block in ipairs(lines) do
    block = bare(block)
    local word = block:match("^%s*(%l+)%f[^%w_]")
    if word and blocks[word] and (block:match(":%s*$") or block:match(":%s")) then return blocks[word] end
  end
  local first, second = text:match("^%s*([%a_][%w_.]*)%s+([%a_{][%w_.]*)")
  if first and message:find(("near '%s"):format(second:match("^[%w_]+") or second), 1, true) then
    return ("a call has parentheses: %s(%s)"):format(first, second)
  end
end

-- ---- what is said while a program runs ----

-- Patterns of a message, or of it and of the line, and what to add, where %1 is what the first captures.
local messages = {
  { "attempt to get length of a nil value", "#%s", "a comment begins with --" },
  { "is out of range in dimension 1 ", "ipairs%s*%(", "ipairs cannot see a tensor's end: for i, row in t:rows() do" },
  { "attempt to call a tensor value %(for iterator", nil, "rows are walked by for i, row in t:rows() do" },
  { "attempt to call a table value %(for iterator", nil,
    "a table is walked by for i, value in ipairs(list) do, or pairs(list)" },
  { "bad argument #1 to 'for iterator' %(table expected, got nil%)", nil, "what ipairs or pairs was given is nil" },
  { "attempt to call a [^n]%l+ value %(%l+ '([%w_]+)'%)$",
    "[.:]", "%1 is no function: read it as .%1, without parentheses" },
  { "attempt to call a number value %(%l+ '([%w_]+)'%)$",
    "[.:]", "%1 is no function: read it as .%1, without parentheses" },
  { "attempt to add a 'string'", nil, "texts are joined by .., as in a .. b" },
  { "attempt to perform arithmetic on a string value", nil, "texts are joined by .., as in a .. b" },
  { "attempt to concatenate a (%l+) value", nil, "tostring(x) makes a text of any value" },
  { "attempt to index a nil value %(field 'integer index'%)", nil,
    "the table has no such entry; counting begins with 1" },
  { "attempt to index a nil value %(field '%?'%)", nil, "the table has no such entry; counting begins with 1" },
  { ": tensor: the options must be a table.*, got a number", nil, "the numbers go in one table: nb.tensor{1, 2, 3}" },
  { "nn%.%w+Loss: too many arguments: a tensor", nil,
    "a loss is made first: local loss = nn.MSELoss(), then loss(prediction, target)" },
  { "nn%.fit: the options must be a table", nil,
    "samples go in one table: nn.fit(net, loss, opt, {x, y}, {epochs=10})" },
  { "Loss: the prediction must be a tensor, got nil", nil, "does the net's forward return its result?" },
  { "module 'torch", nil, "nb, nn and optim do here what torch does" },
  { "module 'numpy", nil, "nb makes tensors and computes with them" },
  { "a nil value %(global 'f'%)", "f[\"']", "a text with values is ('%g'):format(x)" },
}

-- A hint on an error whose `line` of source is known, or nil.
function habits.of_message(message, line)
  for _, rule in ipairs(messages) do
    local found, _, part = message:find(rule[1])
    if found and (not rule[2] or line:find(rule[2])) then return (rule[3]:gsub("%%1", part or "")) end
  end
  local name = message:match('a tensor has no field or method "([%w_]+)"')
  return name and habits.members[name]
end

return habits
