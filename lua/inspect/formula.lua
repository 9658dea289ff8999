-- SPDX-License-Identifier: MIT
-- The formulas of operators' rows, "−x/y²": with the arguments' symbols in them, as text and as LaTeX.
--
-- formula.write(text, bind) gives { scale = a number, symbol = { text =, latex = } or nil of a number alone },
-- or nil where the text is no formula (words, δ).  bind(name) gives the symbol or the number that a name stands for,
-- nil where it stands for itself.  Numbers are computed: y·x^(y−1) of y = 2 is 2·x.
local text = require "nablua.inspect.text"

local formula = {}

local GREEK = { ["σ"] = "\\sigma", ["π"] = "\\pi", ["α"] = "\\alpha", ["β"] = "\\beta", ["γ"] = "\\gamma",
  ["Φ"] = "\\Phi", ["φ"] = "\\varphi", ["ŷ"] = "\\hat{y}" }
local RAISED = { ["⁰"] = "0", ["¹"] = "1", ["²"] = "2", ["³"] = "3", ["⁴"] = "4", ["⁵"] = "5", ["⁶"] = "6", ["⁷"] = "7",
  ["⁸"] = "8", ["⁹"] = "9", ["⁻"] = "-", ["ᵀ"] = "\\top" }
local RELATIONS = { ["<"] = "<", [">"] = ">", ["≤"] = "\\le ", ["≥"] = "\\ge ", ["="] = "=" }
local BRACKETS = { ["|"] = { "|", "|", "|" }, ["‖"] = { "‖", "\\|", "\\|" }, ["⌊"] = { "⌋", "\\lfloor ", "\\rfloor " } }

-- How tightly what was written holds together.
local SUM, PRODUCT, POWER, ATOM = 0, 1, 2, 3

-- ---- values: scale × symbol ----

local function number(v)
  return { scale = v }
end

local function value(plain, latex, tight)
  return { scale = 1, text = plain, latex = latex, tight = tight }
end

local function digits(v)
  local size = math.abs(v)
  local plain = size >= 1e-3 and size < 1e5 and ("%.4g"):format(v):gsub("-", "−") or text.number(v)
  return plain, text.latex(plain)
end

-- A value as one piece of text, its number included.
local function whole(a)
  if not a.text then
    local plain, latex = digits(a.scale)
    return value(plain, latex, a.scale < 0 and SUM or ATOM)
  end
  if a.scale == 1 then return a end
  if a.scale == -1 then return value("−" .. a.text, "-" .. a.latex, SUM) end
  local plain, latex = digits(a.scale)
  return value(plain .. "·" .. a.text, latex .. "\\," .. a.latex, a.scale < 0 and SUM or PRODUCT)
end

local function held(a, tight)
  if a.tight >= tight then return a end
  return value("(" .. a.text .. ")", "(" .. a.latex .. ")", ATOM)
end

local function multiply(a, b)
  if not a.text or not b.text then
    local v = a.text and a or b
    return { scale = a.scale * b.scale, text = v.text, latex = v.latex, tight = v.tight }
  end
  local x, y = held(a, PRODUCT), held(b, PRODUCT)
  local v = value(x.text .. "·" .. y.text, x.latex .. " \\cdot " .. y.latex, PRODUCT)
  v.scale = a.scale * b.scale
  return v
end

local function divide(a, b)
  local scale = a.scale / b.scale
  if not b.text then return { scale = scale, text = a.text, latex = a.latex, tight = a.tight } end
  if not a.text then  -- 1/(2·√x) keeps its numbers
    a, b, scale = whole(number(math.abs(a.scale))), whole(b), a.scale < 0 and -1 or 1
  end
  local v = value(held(a, PRODUCT).text .. "/" .. held(b, POWER).text, ("\\frac{%s}{%s}"):format(a.latex, b.latex),
    PRODUCT)
  v.scale = scale
  return v
end

local function add(a, b)
  if not a.text and not b.text then return number(a.scale + b.scale) end
  local negative = b.scale < 0
  local x, y = whole(a), whole { scale = math.abs(b.scale), text = b.text, latex = b.latex, tight = b.tight }
  if y.tight == SUM then y = held(y, PRODUCT) end
  return value(x.text .. (negative and "−" or "+") .. y.text, x.latex .. (negative and "-" or "+") .. y.latex, SUM)
end

local function superscripted(base, exponent)
  return (base:find("^", 1, true) and "{%s}^{%s}" or "%s^{%s}"):format(base, exponent)
end

local function raise(a, e)
  if not e.text then
    if not a.text then return number(a.scale ^ e.scale) end
    if e.scale == 1 then return a end
    if e.scale == 0 then return number(1) end
  end
  local base, power = held(whole(a), ATOM), whole(e)
  local whole_number = not e.text and e.scale == math.floor(e.scale) and math.abs(e.scale) < 1e5
  local plain = whole_number and text.superscript(("%d"):format(e.scale)) or "^" .. held(power, POWER).text
  return value(base.text .. plain, superscripted(base.latex, power.latex), POWER)
end

-- A symbol in brackets where it is a sum, as a factor of a product needs.
function formula.held(s)
  return s.sum and { text = "(" .. s.text .. ")", latex = "(" .. s.latex .. ")" } or s
end

-- A symbol without the brackets round all of it, as the argument of a function is written.
function formula.bare(s)
  if not s.text:find("^%b()$") or not s.latex:find("^%b()$") then return s end
  return { text = s.text:sub(2, -2), latex = s.latex:sub(2, -2) }
end

-- ---- reading ----

local Reader = {}
Reader.__index = Reader

local function tokens_of(s)
  local list, name = {}, nil
  for _, code in utf8.codes(s) do
    local c = utf8.char(code)
    local letter = c:find("^[%w_.]$") ~= nil
    if letter and name then
      list[#list] = list[#list] .. c
    elseif c ~= " " then
      list[#list + 1] = c
    end
    -- A number ends where a letter follows: 2x.
    if letter and name and list[#list]:find("^%d+%a$") then
      list[#list] = list[#list]:sub(1, -2)
      list[#list + 1] = c
    end
    name = letter
  end
  return list
end

local function fail()
  error("no formula", 0)
end

function Reader:peek()
  return self.list[self.at]
end

function Reader:next()
  self.at = self.at + 1
  return self.list[self.at - 1]
end

function Reader:take(token)
  if self:peek() ~= token then return false end
  self.at = self.at + 1
  return true
end

function Reader:demand(token)
  return self:take(token) or fail()
end

-- What stands between brackets that are part of the formula: a list, relations.
function Reader:inside(close)
  local plain, latex = {}, {}
  while true do
    local v = formula.bare(whole(self:sum()))
    plain[#plain + 1], latex[#latex + 1] = v.text, v.latex
    local token = self:next()
    if token == close then break end
    if token ~= "," and not RELATIONS[token] then fail() end
    plain[#plain + 1] = token == "," and ", " or token
    latex[#latex + 1] = token == "," and ", " or RELATIONS[token]
  end
  return table.concat(plain), table.concat(latex)
end

function Reader:name(token)
  local plain, latex = token, GREEK[token] or text.upright(token)
  if self:take "(" then
    local argument, argument_latex = self:inside ")"
    return value(plain .. "(" .. argument .. ")", latex .. "(" .. argument_latex .. ")", ATOM)
  end
  local bound = self.bind(token)
  if type(bound) == "number" then return number(bound) end
  return bound and value(bound.text, bound.latex, bound.sum and SUM or ATOM) or value(plain, latex, ATOM)
end

function Reader:base()
  local token = self:next() or fail()
  if token == "(" then
    local v = self:sum()
    self:demand ")"
    return v
  elseif token == "√" then
    local v = whole(self:base())
    return value("√" .. held(v, ATOM).text, "\\sqrt{" .. v.latex .. "}", ATOM)
  elseif token == "1" and self:take "[" then
    local condition, latex = self:inside "]"
    return value("1[" .. condition .. "]", "\\mathbf{1}[" .. latex .. "]", ATOM)
  elseif BRACKETS[token] then
    local b = BRACKETS[token]
    local inner, latex = self:inside(b[1])
    return value(token .. inner .. b[1], b[2] .. latex .. b[3], ATOM)
  elseif tonumber(token) then
    return number(tonumber(token))
  elseif GREEK[token] or token:find("^%a[%w_]*$") then
    return self:name(token)
  end
  return fail()
end

function Reader:power()
  local v = self:base()
  local raised = ""
  while self:peek() and RAISED[self:peek()] do raised = raised .. RAISED[self:next()] end
  if raised ~= "" then
    if tonumber(raised) then return raise(v, number(tonumber(raised))) end
    local base = held(whole(v), ATOM)
    return value(base.text .. raised:gsub("\\top", "ᵀ"), superscripted(base.latex, raised), POWER)
  end
  if self:take "^" then return raise(v, self:take "−" and multiply(number(-1), self:power()) or self:power()) end
  return v
end

function Reader:product()
  local v = self:take "−" and multiply(number(-1), self:power()) or self:power()
  while true do
    local token, before = self:peek(), self.list[self.at - 1]
    if self:take "·" then
      v = multiply(v, self:power())
    elseif self:take "/" then
      v = divide(v, self:power())
    elseif token and tonumber(before) and (token == "(" or token == "√" or GREEK[token] or token:find "^%a") then
      v = multiply(v, self:power())  -- 2x
    else
      return v
    end
  end
end

function Reader:sum()
  local v = self:product()
  while true do
    if self:take "+" then
      v = add(v, self:product())
    elseif self:take "−" then
      v = add(v, multiply(number(-1), self:product()))
    else
      return v
    end
  end
end

function formula.write(s, bind)
  local reader = setmetatable({ list = tokens_of(s), at = 1, bind = bind }, Reader)
  local ok, v = pcall(function()
    local read = reader:sum()
    return reader.at > #reader.list and read or fail()
  end)
  if not ok or s:find("δ", 1, true) then return nil end
  if not v.text then return { scale = v.scale } end
  local sum = v.tight == SUM
  local symbol = { text = v.text, latex = v.latex, sum = sum or nil }
  return { scale = v.scale, symbol = symbol }
end

-- The same as one symbol; brackets around a sum where `closed`.
function formula.symbol(s, bind, closed)
  local w = formula.write(s, bind)
  if not w then return nil end
  local v = whole { scale = w.scale, text = w.symbol and w.symbol.text, latex = w.symbol and w.symbol.latex,
    tight = w.symbol and (w.symbol.sum and SUM or PRODUCT) }
  return closed and held(v, PRODUCT) or v
end

-- What a row's derivative says of each argument: { x = "y", y = "x" }; [1] where it is of one alone.
function formula.parts(derivative)
  local parts = {}
  if not derivative:find("^∂/∂") then return { derivative } end
  for name, part in (derivative .. ", "):gmatch("∂/∂([%w_]+) = (.-), ") do parts[name] = parts[name] or part end
  return parts
end

return formula
