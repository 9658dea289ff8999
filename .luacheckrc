-- SPDX-License-Identifier: MIT
-- luacheck's settings.
std = "lua54"
max_line_length = 120
codes = true
-- What every front end preloads.
files["examples"] = { read_globals = { "nb", "nn", "optim", "data", "inspect", "plot", "dist", "help", "display" } }
