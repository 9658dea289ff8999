-- SPDX-License-Identifier: MIT
-- inspect.explain: ∂J/∂W as the product of factors along the paths from J to W, with symbols and with numbers.
--
-- A factor takes the error that arrives and gives the one that leaves; applied in order to 1 they give ∂J/∂W.  Its
-- symbol is that of one local derivative; what only reshapes or scales on the way to it belongs to it.
local native = require "nablua.native"
local nb = require "nablua.core"
local folding = require "nablua.inspect.folding"
local measure = require "nablua.inspect.measure"
local options = require "nablua.options"
local paths = require "nablua.inspect.paths"
local places = require "nablua.inspect.places"
local roles = require "nablua.inspect.roles"
local symbols = require "nablua.inspect.symbols"
local tape = require "nablua.inspect.tape"
local text = require "nablua.inspect.text"
local looks = require "nablua.inspect.explanation"

local MOST_PATHS = 8  -- of a part that is written out as a sum
local CANCELS = 2e-6  -- a sum whose size is this of its parts is 0 in f32
local SHRINKS = 0.5   -- a factor is marked from here down

local explain = {}

-- ---- symbols of products and sums ----

-- A number as a formula has it: 1/5 rather than 0.200.
local function scale_text(scale)
  local inverse = 1 / scale
  if math.abs(scale) < 1 and math.abs(inverse - math.floor(inverse + 0.5)) < 1e-6 * math.abs(inverse) then
    return (scale < 0 and "−" or "") .. "1/" .. ("%d"):format(math.floor(math.abs(inverse) + 0.5))
  end
  return (text.number(scale):gsub("(%.%d-)0+$", "%1"):gsub("%.$", ""))
end

-- The product of a list of rules: symbol (nil where it is the identity) and number.
local function product(list)
  local parts, latex, scale = {}, {}, 1
  for _, r in ipairs(list) do
    scale = scale * (r.scale or 1) / (r.mean or 1)
    if r.symbol then
      parts[#parts + 1], latex[#latex + 1] = r.symbol.text, r.symbol.latex
    end
  end
  if #parts == 0 then return nil, scale end
  return symbols.new(table.concat(parts, "·"), table.concat(latex, " ")), scale
end

local sum_of

-- What one edge of `from` and all behind it up to `to` do.
local function branch(self, from, edge, to)
  local list = { symbols.rule(self.names, self.paths.nodes[from], edge.input, from) }
  local i = edge.to
  while i ~= to do
    local over, edges = self.paths.over[i], self.paths.next[i]
    local path = folding.of(self, self.paths.nodes[i].place)
    if path then
      over = folding.leave(self, i, path, to)
      list[#list + 1] = { symbol = over == paths.END and folding.last_symbol(path, self.symbol) or
        folding.symbol(path) }
    elseif #edges == 1 and edges[1].to == over then
      list[#list + 1] = symbols.rule(self.names, self.paths.nodes[i], edges[1].input, i)
    else
      list[#list + 1] = { symbol = sum_of(self, i, over) }
    end
    i = over
  end
  return product(list)
end

-- The symbol of a part where paths part and meet again: (I + W⁽²⁾·σ'(z⁽²⁾)·W⁽¹⁾).
function sum_of(self, from, to)
  local count = folding.ways(self, from, to)
  if count > MOST_PATHS then
    local n = count < 1e6 and ("%d"):format(count) or count == math.huge and ">10³⁰⁸" or text.number(count)
    return symbols.new("Σ(" .. n .. " paths)", "\\sum_{" .. text.latex(n) .. "\\,\\mathrm{paths}}")
  end
  local plain, latex = {}, {}
  for k, edge in ipairs(self.paths.next[from]) do
    local s, scale = branch(self, from, edge, to)
    local sign = scale < 0 and (k == 1 and "−" or " − ") or (k == 1 and "" or " + ")
    local size = math.abs(scale)
    local body = s or symbols.new("I")
    local number = size ~= 1 and scale_text(size) or nil
    local drop = number and not s
    plain[k] = sign .. (number or "") .. (drop and "" or (number and "·" or "") .. body.text)
    latex[k] = sign:gsub("−", "-") .. (number and text.latex(number) or "") ..
      (drop and "" or (number and "\\," or "") .. body.latex)
  end
  return symbols.new("(" .. table.concat(plain) .. ")", "\\left(" .. table.concat(latex) .. "\\right)")
end

-- ---- factors ----

local function norm(grads)
  local total = 0
  for _, g in pairs(grads) do
    local n = measure.norm(g)
    total = total + n * n
  end
  return math.sqrt(total)
end

local Factor = {}
Factor.__index = Factor
Factor.__name = "factor"
Factor.__tostring = function(self) return self.symbol end

local function wrap(self, d)
  if not nb.is_tensor(d) then
    native.raise("explain: a factor applies to a tensor, got " .. options.describe(d))
  end
  return { [self.output] = d }
end

local function carry(self, grads, uses)
  for _, s in ipairs(self.segments) do grads = self.whole.paths:carry(grads, s.from, s.to, s.edge, uses) end
  return grads
end

-- What is expensive and asked for again: the errors behind segments, their sizes, those of weights.  An explanation is
-- put together up to three times until it is short enough, each time from the same segments.
local function remember(self)
  self.memory = { carried = {}, uses = {}, norms = {}, sizes = {} }
end

local function norm_of(self, grads)
  local norms = self.memory.norms
  norms[grads] = norms[grads] or norm(grads)
  return norms[grads]
end

-- The error behind the segment at which `grads` arrives, and of the last segment how each use of w adds to it.
local function advance(self, grads, s, wants_uses)
  local memory = self.memory
  local uses = wants_uses and memory.uses[s.from] == nil and {} or nil
  if not memory.carried[s.from] or uses then
    memory.carried[s.from] = self.paths:carry(grads, s.from, s.to, s.edge, uses and function(i, input, g)
      local node = self.paths.nodes[i]
      uses[#uses + 1] = { op = node.op, input = input, norm = norm { g }, line = node.line, source = node.source }
    end)
    memory.uses[s.from] = uses or memory.uses[s.from]
  end
  return memory.carried[s.from], wants_uses and memory.uses[s.from] or nil
end

-- The error this factor makes of the arriving one.
function Factor:apply(d)
  local grads = self.whole.inside(function() return nb.no_grad(carry, self, wrap(self, d)) end)
  return grads[self.output_after] or select(2, next(grads))
end

-- J's gradient by itself.
local function start(J)
  return { [select(2, native.made_by(J))] = nb.ones_like(J:detach()) }
end

local function close_to(a, b)
  local size = math.max(b:abs():max():item(), 1e-6)
  return (a - b):abs():max():item() <= 1e-3 * size + 1e-6
end

local function has_logarithm(op)
  local role = roles.of(op).role
  return role == "logarithm" or role == "loss"
end

-- Whether the error δ at a σ or log softmax is scale·(ŷ − y) for the y of the loss: the cross-entropies, however they
-- are written.
local function is_error(self, segments, delta, scale)
  local last = segments[#segments]
  local node = self.paths.nodes[last.from]
  local out = node.outputs[1]
  local d = delta[1]
  if not (out and out.value and d and last.edge) then return false end
  local guess = out.value:detach()
  if roles.of(node.op).probability == "e^y" then
    guess = guess:exp()
    local target = guess - d / math.abs(scale)
    local dim = node.args.dim or -1
    return target:min():item() > -1e-3 and target:max():item() < 1 + 1e-3 and
      close_to(target:sum(dim), nb.ones_like(target:sum(dim)))
  end
  local logs = false
  local found
  for s = 1, #segments - 1 do
    for _, i in ipairs(self.paths:part(segments[s].from, segments[s].to)) do
      local n = self.paths.nodes[i]
      logs = logs or has_logarithm(n.op)
      for _, input in pairs(n.inputs) do
        local y = not input.node and not input.leaf and input.value
        if y and y:numel() == guess:numel() and symbols.numel(input.shape) == guess:numel() then
          found = found or close_to((guess - y:detach():reshape(guess.shape)) * math.abs(scale), d)
        end
      end
    end
  end
  return logs and found
end

local function segment_rule(self, s)
  if not s.edge then return { symbol = sum_of(self, s.from, s.to), kind = "sum" } end
  local node = self.paths.nodes[s.from]
  return symbols.rule(self.names, node, s.edge.input, s.from)
end

-- The values of an elementwise factor: its rule applied to ones.
local function local_derivative(self, s)
  local node = self.paths.nodes[s.from]
  local out = node.outputs[s.output or 1]
  if not out then return nil end
  local ones = nb.ones(out.shape, { dtype = out.dtype })
  local given = self.paths:carry({ [s.output or 1] = ones }, s.from, s.to, s.edge)
  return given[1] or select(2, next(given))
end

local function finish(self, f, delta)
  f.whole = self
  f.delta = norm_of(self, delta)
  f.shape_after = (select(2, next(delta)) or nb.zeros(1)).shape
  f.output_after = next(delta)
  return setmetatable(f, Factor)
end

-- The product of numbers before the first symbol: "2/n" of n elements.
local function coefficient(scale, n)
  local negative = scale < 0
  local size = math.abs(scale)
  local number = size ~= 1 and scale_text(size) or nil
  local plain = n > 1 and ("%s/n"):format(number or "") or number or ""
  local over = number and text.latex(number)
  local latex = n > 1 and ("\\frac{%s}{n}"):format(over or "1") or over or ""
  return negative, plain, latex
end

-- The loss's own factor, with its numbers: (ŷ−y)·2/n.
local function with_coefficient(s, scale, n)
  local negative, plain, latex = coefficient(scale, n)
  local sign = negative and "−" or ""
  if plain == "" then return symbols.new(sign .. s.text, (negative and "-" or "") .. s.latex) end
  local join = plain:sub(1, 1) == "/" and "" or "·"
  return symbols.new(sign .. s.text .. join .. plain, (negative and "-" or "") .. s.latex .. "\\," .. latex)
end

-- The shape and size of a factor's own values.
local function weigh(self, f, r, s, delta, scale)
  local sizes = self.memory.sizes
  f.kind = r.kind or "other"
  if r.kind == "elementwise" then
    local known = not r.values and sizes[s.from]
    local d = not known and (r.values or local_derivative(self, s))
    if d then
      known = { shape = d.shape, mean = d:detach():to("f64"):abs():mean():item() }
      if not r.values then sizes[s.from] = known end
    end
    if known then f.shape, f.norm = known.shape, known.mean * math.abs(scale or 1) end
  elseif r.kind == "matrix" then
    f.shape = r.shape
    if r.value then
      sizes[r.value] = sizes[r.value] or measure.norm(r.value)
      f.norm = sizes[r.value]
    end
  end
  f.shape = f.shape or (select(2, next(delta)) or nb.zeros(1)).shape
end

local function build(self)
  local grads = self.start or start(self.J)
  local factors, pending = {}, {}        -- pending: segments without a symbol so far
  local scale, n = 1, 1                  -- the numbers among them
  local before = 1
  local list = self.units
  local head = not self.start
  local output = next(grads)
  if self.start then before = norm_of(self, grads) end
  local arrived = 0  -- how many numbers
  local current  -- the path of the module that is folded
  local function emit(r, s, symbol, uses)
    local f = { path = r.kind == "module" and current or nil, symbol = symbol.text, latex = symbol.latex,
      segments = pending, output = output, gain = 0, op = self.paths.nodes[s.from].op, uses = uses,
      meaning = r.meaning }
    weigh(self, f, r, s, grads, head and scale / n or scale)
    factors[#factors + 1] = finish(self, f, grads)
    f.gain = before > 0 and f.delta / before or 0
    -- A sum of numbers that cancel: what is left is their rounding, another in another order.
    f.cancels = f.kind == "other" and f.gain < CANCELS and symbols.numel(f.shape_after) < arrived
    before, arrived, output, pending, scale, head = f.delta, symbols.numel(f.shape_after), next(grads), {}, 1, false
    if factors[1] == f then self.n, n = n > 1 and n or nil, 1 end
  end
  for _, unit in ipairs(list) do
    local s = unit.segments[#unit.segments]
    current = unit.path
    s.output = next(grads)
    local r = not unit.path and segment_rule(self, s) or { kind = "module", symbol = s.to == paths.END and
      folding.last_symbol(unit.path, self.symbol) or folding.symbol(unit.path) }
    local node = self.paths.nodes[s.from]
    local several, uses = s.to == paths.END and not s.edge and not unit.path, nil
    for _, part in ipairs(unit.segments) do
      pending[#pending + 1] = part
      grads, uses = advance(self, grads, part, several and part == s)
    end
    local ends = not unit.path and roles.of(node.op).probability
    if head and ends and #pending > 1 and is_error(self, pending, grads, 1 / n) then
      local out = node.outputs[1].value:detach()
      r = { kind = "elementwise", values = select(2, next(grads)) * n,
        symbol = symbols.error, shape = out.shape }
      for j = #factors, 1, -1 do factors[j] = nil end
      before, scale = 1, 1
      emit(r, s, with_coefficient(symbols.error, 1, n), uses)
    elseif head and r.symbol and not (ends and #pending == 1) and self.hold[unit.first] and
      not unit.path then
      scale = scale * (r.scale or 1)  -- may yet turn out to be the error: wait for the σ
      n = n * (r.mean or 1)
    elseif r.symbol then
      scale = scale * (r.scale or 1)
      n = n * (r.mean or 1)
      local symbol = r.symbol
      if head then
        symbol = with_coefficient(symbol, scale, n)
      elseif scale ~= 1 or n > 1 then
        local number = scale_text(scale / n)
        symbol = symbols.new(number .. "·" .. symbol.text, text.latex(number) .. "\\," .. symbol.latex)
        n = 1
      end
      emit(r, s, symbol, uses)
    else
      scale = scale * (r.scale or 1)
      n = n * (r.mean or 1)
    end
  end
  if #pending > 0 then
    local last = factors[#factors]
    if last and scale == 1 and n == 1 then  -- what only reshapes belongs to the factor before
      for _, s in ipairs(pending) do last.segments[#last.segments + 1] = s end
      finish(self, last, grads)
    else
      local negative, plain, latex = coefficient(scale, n)
      if plain:sub(1, 1) == "/" then plain = "1" .. plain end
      local symbol = symbols.new((negative and "−" or "") .. (plain == "" and "1" or plain),
        (negative and "-" or "") .. (latex == "" and "1" or latex))
      emit({ kind = "other" }, pending[#pending], symbol)
    end
  end
  self.grads = grads
  return factors
end

-- Which of the first segments may be parts of a cross-entropy written by hand, up to the σ that ends it.
local function find_hold(self)
  local hold, list = {}, self.paths:segments()
  local logs = false
  for k, s in ipairs(list) do
    local node = self.paths.nodes[s.from]
    local probability = roles.of(node.op).probability
    if probability and s.edge then
      if not logs and probability == "y" then return {} end
      local segments, grads, n = {}, start(self.J), 1
      for j = 1, k do
        segments[j] = list[j]
        grads = advance(self, grads, list[j])
        n = n * (list[j].edge and segment_rule(self, list[j]).mean or 1)
      end
      if not is_error(self, segments, grads, 1 / n) then return {} end
      for j = 1, k - 1 do hold[j] = true end
      return hold
    end
    if k > 12 then return {} end
    for _, i in ipairs(self.paths:part(s.from, s.to)) do
      local op = self.paths.nodes[i].op
      if roles.of(op).role == "product" or #self.paths:part(s.from, s.to) > 40 then return {} end
      logs = logs or has_logarithm(op)
    end
  end
  return {}
end

-- ---- the object ----

local Explanation = {}
local meta = { __name = "explanation", __index = Explanation }

-- ∂J/∂w: the factors applied in order to 1.
function Explanation:value()
  local grads = self.inside(function()
    return nb.no_grad(function()
      local g = self.start or start(self.J)
      for _, f in ipairs(self.factors) do g = carry(f, g) end
      return g
    end)
  end)
  return select(2, next(grads))
end

local function target_of(w, read)
  if not native.made_by(w) then return { id = native.id(w) } end
  local node, output = tape.maker(read, w)
  return node and { node = node, output = output } or { id = 0 }
end

local function name_of(self, target)
  if target.node then return self.names:output(target.node) end
  return self.names.leaves[target.id] or symbols.new("w")
end

-- The place of the module that holds a parameter.
local function home_of(self, target)
  if not target.id then return self.read.nodes[target.node].place end
  local known = tape.parameters()[target.id]
  for path, info in pairs(known and self.places or {}) do
    if info.module == known.owner then return path end
  end
end

local function refuse(what, ...)
  native.raise("explain: " .. what:format(...))
end

local function check(J, w)
  if not nb.is_tensor(J) then
    refuse("J must be a tensor, the loss as a single number, got %s", options.describe(J))
  end
  if not nb.is_tensor(w) then
    refuse("w must be a tensor, such as net[1].weight, got %s", options.describe(w))
  end
  if J:numel() ~= 1 then
    refuse("J must be a single number, got shape %s; reduce it with :mean() or :sum()", options.shape(J))
  end
  if J.is_leaf then
    refuse("J was not computed from tensors that require grad, or outside of recording (nb.no_grad)")
  end
end

local FEW, WIDE = 12, 240  -- factors, and columns of a formula, beyond which modules fold
local MANY = 24            -- factors beyond which lists of modules fold, too

-- Builds the factors of the segments and what is shown of them.
local function compose(self, segments, left, left_latex)
  self.left, self.left_latex = left, left_latex
  self.units = folding.units(self, segments)
  self.factors = build(self)
  local function write()
    local plain, latex = {}, {}
    for i, f in ipairs(self.factors) do plain[i], latex[i] = f.symbol, f.latex end
    self.formula = left .. " = " .. table.concat(plain, "·")
    self.latex = left_latex .. " = " .. table.concat(latex, " \\cdot ")
  end
  write()
  for _, how in ipairs { "most", "all" } do
    local many = how == "most" and (#self.factors > FEW or text.width(self.formula) > WIDE) or #self.factors > MANY
    if many and self.by_module ~= "all" then
      self.by_module, self.n = how, nil
      self.units = folding.units(self, segments)
      self.factors = build(self)
    end
  end
  folding.renumber(self.factors, { "symbol", "latex" })
  write()
  self.norm = norm_of(self, self.grads)
  self.grads, self.memory = nil, nil
  for i = 2, #self.factors - 1 do
    local f = self.factors[i]
    f.shrinks = f.gain < SHRINKS
    if f.shrinks and (not self.shrank or f.gain < self.shrank.gain) then self.shrank = f end
  end
  return self
end

-- The error at what a node makes.
local function error_at(self, i)
  local found = paths.find(self.read, { node = i, output = 1 })
  local grads = start(self.J)
  for _, s in ipairs(found and found:segments() or {}) do grads = found:carry(grads, s.from, s.to, s.edge) end
  return grads
end

-- The modules that lie on the way, those that have others inside first.
local function on_the_way(self)
  local list, seen = {}, {}
  for i = #self.paths.nodes, 1, -1 do
    local place = self.paths.next[i] and self.paths.nodes[i].place
    for _, path in ipairs(place and places.prefixes(place) or {}) do
      if not seen[path] and self.places[path] then
        seen[path] = true
        list[#list + 1] = path
      end
    end
  end
  return list
end

-- What happens inside a module: its own explanation, whose product leads from the error at the module's output to that
-- at its input, or to ∂J/∂w where w is inside.
function Explanation:open(path)
  if type(path) ~= "string" then
    refuse("open needs a module's path, such as e:open(\"encoder.3\"), got %s", options.describe(path))
  end
  return self.inside(function()
    return nb.no_grad(function()
      local entry, segments = folding.inside(self, path)
      if not entry then
        local known = on_the_way(self)
        refuse("there is no module \"%s\" between J and %s; there are %s%s", path, self.symbol.text,
          #known > 0 and table.concat(known, ", ", 1, math.min(#known, 12)) or "none", #known > 12 and ", …" or "")
      end
      local inner = setmetatable({ J = self.J, w = self.w, inside = self.inside, read = self.read, paths = self.paths,
        names = self.names, symbol = self.symbol, places = self.places, home = self.home, hold = {}, within = path,
        opened = setmetatable({ [path] = true }, { __index = self.opened }), start = error_at(self, entry) }, meta)
      for _, prefix in ipairs(places.prefixes(path)) do inner.opened[prefix] = true end
      remember(inner)
      inner.ends = segments[#segments].to == paths.END
      local s = inner.ends and folding.last_symbol(path, self.symbol) or folding.symbol(path)
      return compose(inner, segments, s.text, s.latex)
    end)
  end)
end

-- Explains ∂J/∂w.  `inside(f)` calls f while the tape's values are what they were.
function explain.explain(J, w, inside)
  check(J, w)
  local self = setmetatable({ J = J, w = w, inside = inside or function(f) return f() end }, meta)
  return self.inside(function()
    return nb.no_grad(function()
      local read = tape.read(J)
      for _, node in ipairs(read.nodes) do
        if node.freed then
          refuse("the tape was freed by the backward at %s; explain before it, compute J again, or call " ..
            "J:backward({retain_graph=true})", node.freed)
        end
      end
      local target = target_of(w, read)
      self.paths = paths.find(read, target)
      if not self.paths then
        refuse("J does not depend on this tensor (%s); its gradient is zero", w.name or options.describe(w))
      end
      self.read, self.places, self.opened = read, read.places, {}
      self.names = symbols.name(read)
      self.symbol = name_of(self, target)
      self.home = home_of(self, target)
      remember(self)
      self.hold = find_hold(self)
      return compose(self, self.paths:segments(), "∂J/∂" .. self.symbol.text,
        ("\\frac{\\partial J}{\\partial %s}"):format(self.symbol.latex))
    end)
  end)
end

text.shown(meta, looks.form, looks.rich)

return explain
