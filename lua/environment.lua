-- SPDX-License-Identifier: MIT
-- What help and the reference say of the environment variables that the library obeys.
local native = require "nablua.native"
local registry = require "nablua.registry"

for _, row in ipairs(native.environment()) do
  registry.add {
    name = row.name, kind = "variable", family = "Environment variables", see = { "session" },
    doc = ("%s.  An environment variable, read when the library opens: %s; without it: %s."):format(row.doc,
      row.takes, row.fallback),
    example = ("os.getenv %q"):format(row.name),
  }
end
