-- SPDX-License-Identifier: MIT
-- inspect.step: one training step as a film: forward operator by operator, the loss, backward, the update.
--
-- The program runs once and is recorded (inspect/record.lua); the stepper is a cursor over the record.  Operators of
-- one call of a layer are one step; others are steps of their own, together with what only reshapes before them.
local native = require "nablua.native"
local nb = require "nablua.core"
local explain = require "nablua.inspect.explain"
local modes = require "nablua.modes"
local moves = require "nablua.inspect.moves"
local module = require "nablua.nn.module"
local optim = require "nablua.optim"
local options = require "nablua.options"
local record = require "nablua.inspect.record"
local roles = require "nablua.inspect.roles"
local symbols = require "nablua.inspect.symbols"
local tape = require "nablua.inspect.tape"
local text = require "nablua.inspect.text"

local step = {}

local Stepper = {}

-- ---- recording ----

local params = {
  { name = "loss", type = "function", optional = true },
  { name = "opt", type = "any", optional = true },
  { name = "lr", type = "positive", optional = true },
}

local function is_option_table(v)
  if type(v) ~= "table" or getmetatable(v) or nb.is_tensor(v) or next(v) == nil then return false end
  for key in pairs(v) do
    if key ~= "loss" and key ~= "opt" and key ~= "lr" then return type(key) == "string" and #v == 0 end
  end
  return true
end

-- The program, its arguments and its options.
local function read_arguments(first, ...)
  local args = table.pack(...)
  local given = args.n > 0 and is_option_table(args[args.n]) and args[args.n] or nil
  if given then args.n = args.n - 1 end
  local o = options.check("inspect.step", params, given)
  if not module.is(first) then
    if not options.is_callable(first) then
      native.raise("inspect.step: needs a net, or a function that returns the loss J, got " .. options.describe(first))
    end
    return function() return first(table.unpack(args, 1, args.n)) end, o
  end
  if not nb.is_tensor(args[1]) or args[2] == nil then
    native.raise("inspect.step: a net needs an input and a target: inspect.step(net, x, y, {loss=nn.MSELoss()})")
  end
  if not o.loss then native.raise("inspect.step: the loss is missing: {loss=nn.MSELoss(), lr=0.5}") end
  return function() return o.loss(first(args[1]), args[2]) end, o, first
end

local function leaves_of(read)
  local list, seen = {}, {}
  for _, node in ipairs(read.nodes) do
    for _, input in pairs(node.inputs) do
      if input.leaf and not seen[input.id] then
        seen[input.id] = true
        list[#list + 1] = input.leaf
      end
    end
  end
  return list
end

local function check_loss(J)
  if not nb.is_tensor(J) then
    native.raise("inspect.step: the function must return the loss J as a tensor, got " .. options.describe(J))
  end
  if J:numel() ~= 1 then
    native.raise(("inspect.step: the loss must be a single number, got shape %s; reduce it with :mean() or :sum()")
      :format(options.shape(J)))
  end
  if J.is_leaf then
    native.raise("inspect.step: the loss depends on no tensor that requires grad, so there is no backward to show" ..
      " (a net without parameters, or nb.no_grad)")
  end
end

-- ---- grouping ----

-- What is only for the eye, names and formulas, is found out when it is first asked for: a long program has more steps
-- than anybody looks at.
local describe = {}  -- phase → f(stepper, group), which fills these fields
local DESCRIBED = { symbol = true, formula = true, formulas = true, inputs = true, deposits = true, outgoing = true,
  grad_out = true }

local Group = {}
function Group.__index(g, key)
  if DESCRIBED[key] and not rawget(g, "described") and describe[g.phase] then
    g.described = true
    g.stepper:settled(function() describe[g.phase](g.stepper, g) end)
    return rawget(g, key)
  end
end

-- Whether an operator only looks at values in another way: it belongs to the step that uses them.
local function reshapes(op)
  local info = roles.of(op)
  return info.role == "structure" or info.view
end

-- Forward events as steps.
local function group_forward(self, events)
  local groups, current, leafy = {}, nil, {}
  local function opened(e, own)
    local path = e.modules[1] and module.path(e.modules) or nil
    current = setmetatable({ phase = "forward", stepper = self, events = {}, module = own, seen = own and {},
      source = e.source, line = e.line, path = path }, Group)
    groups[#groups + 1] = current
  end
  for _, e in ipairs(events) do
    if e.kind == "apply" then
      local m = e.modules[#e.modules]
      if m and leafy[m] == nil then leafy[m] = not module.has_children(m) end
      local own = m and leafy[m] and m or nil
      local again = false
      if current and own and current.module == own then
        for _, input in pairs(e.inputs) do
          again = again or input.value.is_leaf and input.value.requires_grad and current.seen[input.id .. e.op]
        end
      end
      if not current or current.module ~= own or again or not own and not current.open then opened(e, own) end
      if own then
        for _, input in pairs(e.inputs) do current.seen[input.id .. e.op] = true end
      end
      current.events[#current.events + 1] = e
      self.in_place = self.in_place or e.in_place
      current.open = not own and reshapes(e.op)
    end
  end
  return groups
end

-- ---- symbols ----

-- What the error at node i becomes on its way to a place outside of the group, as a product or a sum of products.
local function local_factors(self, group, i, to)
  local found = {}
  local function walk(at, parts, depth)
    local node = self.read.nodes[at]
    if depth > 12 or #found > 4 then return end
    for k = 1, node.edges do
      local input = node.inputs[k]
      if input then
        local r = symbols.rule(self.names, node, k, at)
        local mine = table.move(parts, 1, #parts, 1, {})
        mine.scale, mine.mean = (parts.scale or 1) * (r.scale or 1), parts.mean or r.mean and r.mean > 1
        if r.symbol then mine[#mine + 1] = r.symbol.text end
        if to(input) then
          local number = mine.scale ~= 1 and text.number(mine.scale) or (mine.mean and #mine == 0 and "1") or ""
          if mine.mean then number = number .. "/n" end
          local product = table.concat(mine, "·")
          local join = product ~= "" and number ~= "" and number ~= "/n" and "·" or ""
          found[#found + 1] = number == "−1" and "−" .. product or product .. join .. number
        elseif input.node and group.nodes[input.node] then
          walk(input.node, mine, depth + 1)
        end
      end
    end
  end
  walk(i, {}, 0)
  if #found == 0 or #found > 4 then return "…" end
  for k, f in ipairs(found) do if f == "" then found[k] = "1" end end
  return #found == 1 and found[1] or "(" .. table.concat(found, " + ") .. ")"
end

-- Ties the groups to the nodes of the tape.
local function tie(self)
  local by_order = {}
  for i, node in ipairs(self.read.nodes) do by_order[node.order] = i end
  self.by_order = by_order
  for _, g in ipairs(self.forward) do
    g.nodes = {}
    for _, e in ipairs(g.events) do
      local i = e.order and by_order[e.order]
      if i then
        g.nodes[i] = true
        g.last = i
      end
    end
    local e = g.events[#g.events]
    g.op, g.output = e.op, e.outputs[1]
    g.name = roles.title(e.op)
    g.title = g.module and module.title(g.module) or g.name
  end
end

-- What the loss is made from, where the group is one.
local function loss_formula(self, g)
  for k in pairs(g.nodes) do
    local node = self.read.nodes[k]
    local info = roles.of(node.op)
    if info.role == "loss" then
      return ("%s(%s, y)"):format(info.symbol.text, self.names:input(node, 1).text)
    elseif k == self.names.difference then
      return ("%s(ŷ, y)"):format(g.module and g.module:kind() or "loss")
    end
  end
end

-- The inputs of a group that come from outside, with their names; but for numbers within what is one thing to a person.
local function outer_inputs(self, g, closed)
  local list, seen, made = {}, {}, {}
  for _, e in ipairs(g.events) do
    local i = e.order and self.by_order[e.order]
    local node = i and self.read.nodes[i]
    for k, input in pairs(e.inputs) do
      local on_tape = node and node.inputs[k]
      local from = on_tape and on_tape.node
      local inside = from and g.nodes[from] or not from and made[input.id]
      local own = closed and input.value:dim() == 0 and not from and not (on_tape and on_tape.leaf)
      if not inside and not own and not seen[input.id] and input.value:numel() > 0 then
        seen[input.id] = true
        list[#list + 1] = { name = on_tape and self.names:input(node, k).text or input.param, value = input.value,
          leaf = on_tape and on_tape.leaf, id = input.id }
      end
    end
    for _, t in ipairs(e.outputs) do made[native.id(t)] = true end
  end
  -- What flows in comes before what the layer holds.
  local ordered = {}
  for _, held in ipairs { false, true } do
    for _, input in ipairs(list) do
      if (input.leaf ~= nil) == held then ordered[#ordered + 1] = input end
    end
  end
  return ordered
end

-- What is known of the group's module where that is one thing to a person: a normalisation, an attention.
local function closed_of(self, g)
  local place = g.last and self.read.nodes[g.last].place
  local info = place and self.read.places[place]
  return g.module and info and info.closed and info or nil
end

function describe.forward(self, g)
  local e, i = g.events[#g.events], g.last
  local node = i and self.read.nodes[i]
  g.symbol = i and (i == #self.read.nodes and "J" or self.names.nodes[i].text) or nil
  local closed = i and closed_of(self, g)
  g.inputs = outer_inputs(self, g, closed)
  local made = g.symbol == "J" and loss_formula(self, g) or g.symbol ~= "J" and i and self.names.made[i]
  if not made then
    local names = {}
    for k, input in pairs(e.inputs) do
      names[#names + 1] = node and node.inputs[k] and self.names:input(node, k).text or options.shape(input.value)
    end
    made = ("%s(%s)"):format(roles.of(e.op).symbol.text, table.concat(names, ", "))
  end
  if closed and g.inputs[1] then made = ("%s(%s)"):format(closed.kind, g.inputs[1].name) end
  g.formula = self.names:here(("%s = %s"):format(g.symbol or "·", made))
  for _, input in ipairs(g.inputs) do input.name = self.names:here(input.name) end
  g.symbol = g.symbol and self.names:here(g.symbol)
end

-- Backward steps: for each forward one that was visited, in reverse, what arrived and what was deposited.
local function group_backward(self, events)
  local visits = {}
  for _, e in ipairs(events) do
    if e.kind == "backward" then visits[self.by_order[e.order]] = e end
  end
  local groups, totals = {}, {}
  for at = #self.forward, 1, -1 do
    local f = self.forward[at]
    local indices = {}
    for i in pairs(f.nodes) do
      if visits[i] then indices[#indices + 1] = i end
    end
    table.sort(indices, function(a, b) return a > b end)
    local g = #indices > 0 and setmetatable({ phase = "backward", stepper = self, events = {}, module = f.module,
      path = f.path, op = f.op, title = f.title, source = f.source, line = f.line, of = f, deposited = {},
      nodes = f.nodes, indices = indices }, Group)
    for n, i in ipairs(indices) do
      local e, node = visits[i], self.read.nodes[i]
      g.events[n] = e
      if n == 1 then g.grad_in = e.grads[1] or nil end
      for k = 1, node.edges do
        local input, given = node.inputs[k], e.given[k]
        if input and given and input.leaf then
          local before = totals[input.id]
          local total = before and nb.no_grad(function() return before + given end) or given
          totals[input.id] = total
          g.deposited[#g.deposited + 1] = { leaf = input.leaf, id = input.id, grad = total, own = given,
            before = before, event = e, node = i, input = k }
        end
      end
    end
    if g then
      table.sort(g.deposited, function(a, b) return a.leaf:dim() > b.leaf:dim() end)
      groups[#groups + 1] = g
    end
  end
  return groups
end

-- What leaves a backward step towards others.
local function outgoing(self, g)
  local list, merged, closed = {}, {}, closed_of(self, g.of)
  for n, i in ipairs(g.indices) do
    local node = self.read.nodes[i]
    for k = 1, node.edges do
      local input, given = node.inputs[k], g.events[n].given[k]
      if input and given and not input.leaf and not g.nodes[input.node] then
        local before = merged[input.node]
        if before then
          before.grad = nb.no_grad(function() return before.grad + given end)
        else
          list[#list + 1] = { name = self.names:input(node, k).text, grad = given, node = input.node, at = i,
            input = k }
          if closed then merged[input.node or 0] = list[#list] end
        end
      end
    end
  end
  return list
end

-- The product of the arriving error and the other argument that gives the gradient of argument k as its shape is;
-- nil of what is no product of matrices.
local function fitting(self, i, k, incoming)
  local node = self.read.nodes[i]
  local how, other = roles.of(node.op).products[k], node.inputs[3 - k]
  if not how or not other or #node.inputs[k].shape ~= 2 or #other.shape ~= 2 then return nil end
  local name = self.names:input(node, 3 - k).text .. (how.other_turned and "ᵀ" or "")
  local arrives = how.error_turned and incoming:find("/", 1, true) and ("(%s)ᵀ"):format(incoming) or
    incoming .. (how.error_turned and "ᵀ" or "")
  return how.ahead and arrives .. "·" .. name or name .. "·" .. arrives
end

function describe.backward(self, g)
  g.outgoing, g.deposits = outgoing(self, g), g.deposited
  for _, d in ipairs(g.deposits) do d.name = self.names:input(self.read.nodes[d.node], d.input).text end
  local incoming, closed = text.error_name(g.of.symbol or "·"), closed_of(self, g.of)
  local lines = {}
  local function line(left, to, at, k)
    local factor = not closed and local_factors(self, g, g.indices[1], to)
    if closed then
      local what = left:match("^∂J/∂(.*)$")
      lines[#lines + 1] = k and ("%s = %s·∂%s/∂%s"):format(left, incoming, closed.path, what) or
        ("%s = %s·%s'"):format(left, incoming, closed.path)
      return
    end
    local fits = at == g.indices[1] and g.of.symbol ~= "J" and fitting(self, at, k, incoming)
    if fits then
      lines[#lines + 1] = ("%s = %s"):format(left, fits)
      return
    end
    lines[#lines + 1] = g.of.symbol == "J" and ("%s = %s"):format(left, factor) or
      factor == "1" and ("%s = %s"):format(left, incoming) or ("%s = %s·%s"):format(left, incoming, factor)
  end
  for _, d in ipairs(g.deposits) do
    line("∂J/∂" .. d.name, function(input) return input.id == d.id end, d.node, d.input)
  end
  for _, o in ipairs(g.outgoing) do
    line(text.error_name(o.name), function(input) return input.node == o.node end, o.at, not closed and o.input or nil)
  end
  for k, l in ipairs(lines) do lines[k] = self.names:here(l) end
  for _, o in ipairs(g.outgoing) do o.name = self.names:here(o.name) end
  g.formulas = lines
  g.formula = lines[1] or incoming
  g.grad_out = g.outgoing[1] and g.outgoing[1].grad
end

-- The deposits as changes of .grad; the last one of each leaf is what backward itself left there.
local function add_deposits(self)
  local final = {}
  for _, g in ipairs(self.backward) do
    for _, d in ipairs(g.deposited) do final[d.id] = d end
  end
  for _, g in ipairs(self.backward) do
    for _, d in ipairs(g.deposited) do
      if final[d.id] == d then d.grad = self.left[d.id] or d.grad end
      table.insert(d.event.changes, record.grad_change(d.leaf, d.before, d.grad))
    end
  end
end

-- ---- the update ----

local function update_group(self)
  local o = self.options
  local opt = o.opt
  if not opt and not o.lr then return nil end
  if not opt then opt = optim.SGD(self.leaves, { lr = o.lr }) end
  local list = {}
  for _, group in ipairs(opt.groups) do
    for _, p in ipairs(group.params) do list[#list + 1] = p end
  end
  return { phase = "update", events = {}, opt = opt, params = list, op = "update", title = tostring(opt),
    formula = ("w ← w − lr·∂J/∂w   lr = %s"):format(text.number(opt.lr + 0.0)) }
end

local function run_update(g)
  local before = g.opt:state()
  local old = {}
  for i, p in ipairs(g.params) do old[i] = nb.no_grad(function() return p:detach():clone() end) end
  local changes = record.change(g.params, function() g.opt:step() end)
  local after = g.opt:state()
  changes[#changes + 1] = { undo = function() g.opt:load_state(before) end,
    redo = function() g.opt:load_state(after) end }
  g.events = { { changes = changes } }
  g.old = old
end

-- ---- the object ----

local last

-- s.pos, s.count, s.phase and so on: what the step under the cursor has.
local FIELDS = { phase = true, op = true, formula = true, output = true, grad_in = true, grad_out = true, layer = true,
  line = true, source = true, deposits = true, formulas = true, title = true, params = true }

local meta = { __name = "stepper" }
function meta.__index(self, key)
  if Stepper[key] then return Stepper[key] end
  if key == "names" then
    rawset(self, "names", self:settled(function() return symbols.name(self.read) end))
    return rawget(self, "names")
  end
  local state = rawget(self, "steps")
  if key == "count" then return state and #state end
  local g = state and state[rawget(self, "pos")]
  if key == "phase" and not g then return "start" end
  if not g then return nil end
  if key == "layer" then return g.path end
  if key == "inputs" then
    local list = {}
    for i, input in ipairs((g.of or g).inputs or {}) do list[i] = input end
    return list
  end
  if key == "output" and g.of then return g.of.output end
  return FIELDS[key] and g[key] or nil
end

local function seek(self, pos)
  local steps = self.steps
  rawset(self, "passed", nil)
  while self.pos < pos do
    local g = steps[self.pos + 1]
    if g.phase == "update" and not g.old then
      run_update(g)
    else
      record.redo(g.events)
    end
    rawset(self, "pos", self.pos + 1)
  end
  while self.pos > pos do
    record.undo(steps[self.pos].events)
    rawset(self, "pos", self.pos - 1)
  end
  return self
end

local function whole(n, what)
  if n == nil then return 1 end
  if math.type(n) ~= "integer" and not (type(n) == "number" and n % 1 == 0) or n < 0 then
    native.raise(("%s: needs a whole number of steps, got %s"):format(what, options.describe(n)))
  end
  return math.tointeger(n)
end

-- n steps on.
function Stepper:next(n)
  return seek(self, math.min(self.count, self.pos + whole(n, "next")))
end

-- n steps back: values, gradients, parameters, optimizer and random numbers as they were.
function Stepper:back(n)
  return seek(self, math.max(0, self.pos - whole(n, "back")))
end

-- To the end.
function Stepper:run()
  return seek(self, self.count)
end

local function is_called(g, name)
  local plain = name:match("^layer%s+(.+)$") or name
  return g.path == plain or g.op == name or g.title == name or g.module and g.module:kind() == name or g.phase == name
end

local function is_of_symbol(g, name)
  return (g.of or g).symbol == name
end

-- The next step, round past the end, that fits.
local function find(self, fits, name, phase)
  for i = 1, self.count do
    local at = (self.pos + i - 1) % self.count + 1
    local g = self.steps[at]
    if (not phase or g.phase == phase) and fits(g, name) then return at end
  end
end

-- To the next step (round past the end) of that layer, operator or symbol; phase "forward" or "backward" narrows it.
function Stepper:to(name, phase)
  if name == "start" then return seek(self, 0) end
  if name == "end" then return seek(self, self.count) end
  if type(name) ~= "string" then
    native.raise("to: needs the name of a layer or operator, got " .. options.describe(name))
  end
  local at = find(self, is_called, name, phase) or find(self, is_of_symbol, name, phase)
  local plain = name:match("^layer%s+(.+)$") or name
  local entry = moves.entry(self, plain, phase)  -- of a module with others inside: where it begins
  if entry and (not at or self.steps[at].path == plain and self.steps[entry].path ~= plain) then at = entry end
  if at then
    seek(self, at)
    rawset(self, "level", entry == at and plain:match("^(.*)%.[^.]*$") or "")
    return self
  end
  local known, seen = {}, {}
  for _, g in ipairs(self.steps) do
    local label = g.path and "layer " .. g.path or g.name or g.op
    if not seen[label] then
      seen[label] = true
      known[#known + 1] = label
    end
  end
  native.raise(("to: there is no step \"%s\"%s; there are start, %s, end"):format(name, phase and " " .. phase or "",
    table.concat(known, ", ", 1, math.min(#known, 12))))
end

-- Over the next module as one: to its last step, forward or backward; from inside one, over the next in it.
function Stepper:over()
  local to, passed, level = moves.over(self)
  seek(self, to)
  rawset(self, "level", level or self.level)
  rawset(self, "passed", passed and passed.to > passed.from and passed or nil)
  return self
end

-- Into the next module: to its first step, from where over() goes on inside.
function Stepper:into()
  local to, level = moves.into(self)
  seek(self, to)
  rawset(self, "level", level or self.level)
  return self
end

-- f() while the tape's values are what backward needs.
function Stepper:inside(f)
  local pos = self.pos
  return modes.restoring(function() seek(self, pos) end, function()
    seek(self, #self.forward + #self.backward)
    return f()
  end)
end

-- f() while numbers that the program changes in place are what it left, as formulas show them.
function Stepper:settled(f)
  if not self.in_place then return f() end
  return self:inside(f)
end

function step.step(...)
  local program, o, net = read_arguments(...)
  local self = setmetatable({ pos = 0, options = o }, meta)
  local events = {}
  local J = record.run(events, program)
  local ok, err = pcall(check_loss, J)
  if not ok then
    record.undo(events)
    error(err, 0)
  end
  rawset(self, "J", J)
  self.read = tape.read(J)
  self.leaves = net and net:parameters() or leaves_of(self.read)
  local before = {}
  for i, p in ipairs(leaves_of(self.read)) do
    before[i] = { p, p.grad }
    p.grad = nil
  end
  local visited = {}
  local done, message = pcall(record.run, visited, function() J:backward { retain_graph = true } end)
  self.left = {}
  for _, entry in ipairs(before) do
    self.left[native.id(entry[1])] = entry[1].grad
    entry[1].grad = entry[2]
  end
  if not done then
    record.undo(events)
    error(message, 0)
  end
  self.forward = group_forward(self, events)
  tie(self)
  self.backward = group_backward(self, visited)
  add_deposits(self)
  self.update = update_group(self)
  self.steps = {}
  for _, list in ipairs { self.forward, self.backward, { self.update } } do
    for _, g in ipairs(list) do self.steps[#self.steps + 1] = g end
  end
  record.undo(events)
  -- A training step begins without gradients.
  for _, entry in ipairs(before) do
    if entry[2] then table.insert(self.steps[1].events[1].changes, 1, record.grad_change(entry[1], entry[2], nil)) end
  end
  last = self
  return self
end

function step.last()
  return last
end

function step.is(x)
  return getmetatable(x) == meta
end

-- inspect.explain(J, w), (stepper, w) or (w).
function step.explain(J, w)
  if w == nil and nb.is_tensor(J) then
    if not last then
      native.raise("explain: needs J and a parameter: inspect.explain(J, net[1].weight); with one argument it takes " ..
        "the last inspect.step, and there was none")
    end
    J, w = last, J
  end
  if not step.is(J) then return explain.explain(J, w) end
  return explain.explain(J.J, w, function(f) return J:inside(f) end)
end

local looks = require "nablua.inspect.steps_text"
text.shown(meta, looks.form, looks.rich)

return step
