-- SPDX-License-Identifier: MIT
-- Whether two tensors are the same or nearly so, as one true or false.
local nb = require "nablua.core"
local native = require "nablua.native"
local define = require "nablua.functions.define"

define.operator("allclose", {
  sample = "f(3,4), f(3,4); f(3), f(1), {rtol=10}",
  family = "Comparison and logic",
  doc = "Whether every element of x is close to y's, as isclose has it: true or false of Lua.",
  params = { define.x(), define.tensor("y"), { name = "rtol", type = "number", default = 1e-5, positional = true },
    { name = "atol", type = "number", default = 1e-8, positional = true },
    { name = "equal_nan", type = "boolean", default = false, positional = true } },
  no_grad = "true and false are not numbers", see = { "nb.isclose", "nb.equal" },
  example = "nb.allclose(nb.tensor{1, 2}, nb.tensor{1, 2 + 1e-6})  --> true",
  function(o)
    return nb.isclose(o.x, o.y, { rtol = o.rtol, atol = o.atol, equal_nan = o.equal_nan }):all():item()
  end,
})

define.operator("equal", {
  sample = "f(3), f(3)",
  family = "Comparison and logic",
  doc = "Whether x and y have one shape and the same elements: true or false of Lua.  nb.eq gives a mask.",
  params = { define.x(), define.tensor("y") }, no_grad = "true and false are not numbers",
  see = { "nb.eq", "nb.allclose" }, example = "nb.equal(nb.tensor{1, 2}, nb.tensor{1, 2})  --> true",
  function(o) return native.same_shape(o.x, o.y) and o.x:eq(o.y):all():item() end,
})

define.operator("positive", {
  sample = "f(3)",
  family = "Arithmetic", doc = "x itself, as +x in other languages.", params = { define.x() }, derivative = "1",
  example = "nb.positive(nb.tensor{1, -2})  --> {1, -2}",
  function(o) return o.x end,
})
