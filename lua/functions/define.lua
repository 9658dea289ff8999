-- SPDX-License-Identifier: MIT
-- How functions that are made of operators join nb, the methods of tensors and the registry: what they take is one
-- list, by which arguments are read and help is written.
local native = require "nablua.native"
local nb = require "nablua.core"
local options = require "nablua.options"
local registry = require "nablua.registry"

local define = {}

local function is_list(v)
  return type(v) == "table" and not nb.is_tensor(v) and getmetatable(v) == nil
end

-- Through this a function returns what another gives without a tail call, which would take its own place on the stack:
-- errors are to find there what the user has called.
local function as_they_are(...)
  return ...
end

-- define.operator(name, { family=, doc=, example=, params=, derivative= or no_grad=, sample=, function(o) }): the
-- function gets the arguments by name.  Where the first parameter is a tensor it is a method, too.  The
-- sample is that of a row.
function define.operator(name, entry)
  local params, body = entry.params, entry[1]
  entry.kind, entry.composed = "operator", true
  entry[1] = function(...) return as_they_are(body(options.read(name, params, ...))) end
  entry.code = function() return body end
  if params[1] and params[1].type == "tensor" then native.methods[name] = entry[1] end
  return registry.define(nb, "nb.", name, entry)
end

-- The same of tensors that stand one by one or in a table: function(list, o).
function define.of_tensors(name, entry)
  local params, body = entry.params or {}, entry[1]
  entry.kind, entry.composed = "operator", true
  entry.params = { { name = "tensors", type = "tensors", doc = "or one by one" } }
  for _, p in ipairs(params) do table.insert(entry.params, p) end
  entry[1] = function(...)
    local list, rest = {}, table.pack(...)
    local first = 1
    if is_list(rest[1]) then
      list, first = table.move(rest[1], 1, #rest[1], 1, {}), 2
    else
      while nb.is_tensor(rest[first]) do
        list[first] = rest[first]
        first = first + 1
      end
    end
    return as_they_are(body(options.read(name, entry.params, list, table.unpack(rest, first, rest.n)).tensors,
      options.read(name, params, table.unpack(rest, first, rest.n))))
  end
  entry.code = function() return body end
  return registry.define(nb, "nb.", name, entry)
end

-- Takes away the method of a name whose first argument may be no tensor.
function define.methodless(name)
  native.methods[name] = nil
end

-- A method of tensors that is no function of nb; `params` are those after the tensor.
function define.method(name, entry)
  entry.kind = "method"
  entry.signature = options.signature("t:" .. name, entry.params)
  return registry.define(native.methods, "t:", name, entry)
end

-- A plain function of nb, which reads its arguments itself.
function define.function_of(prefix, name, entry)
  return registry.define(nb, prefix, name, entry)
end

-- The entry of a form that writes into its first argument.
function define.in_place(name, f, entry)
  registry.add { name = "t:" .. name .. "_", kind = "method", value = f, see = { "nb." .. name },
    signature = ("t:%s_(...)"):format(name), doc = ("As nb.%s, written into t itself."):format(name),
    example = entry.example }
end

-- A sentence for what cannot be: fail("cov", "x must be ...", ...)
function define.fail(name, format, ...)
  native.raise(name .. ": " .. format:format(...))
end

-- A value, as parameters of that type take it, as a tensor of x's dtype where it is a number.  True and false are
-- values of masks alone.
function define.value(name, what, x, value)
  if nb.is_tensor(value) then return value end
  if type(value) == "boolean" and x.dtype ~= "bool" then
    define.fail(name, "%s must be a tensor or a number beside a tensor of %s, got %s", what, x.dtype, tostring(value))
  end
  return nb.tensor(value, { dtype = x.dtype })
end

-- Parameters that many share.
function define.x(doc)
  return { name = "x", type = "tensor", doc = doc }
end

function define.tensor(name, doc)
  return { name = name, type = "tensor", doc = doc }
end

-- A dimension that may be left out.
function define.dim(default, doc)
  return { name = "dim", type = "integer", default = default, optional = true, positional = true, doc = doc }
end

define.keepdim = { name = "keepdim", type = "boolean", default = false }

-- The dimension from the front, and its size; a scalar has one of size 1.
function define.dimension(name, x, dim, what)
  local n = x:dim()
  if dim == 0 or math.abs(dim) > math.max(n, 1) then
    define.fail(name, "there is no dimension %d%s in a tensor of %d (count from 1, or from -1 at the end)", dim,
      what or "", n)
  end
  if n == 0 then return 1, 1 end
  dim = dim < 0 and dim + n + 1 or dim
  return dim, x:size(dim)
end

return define
