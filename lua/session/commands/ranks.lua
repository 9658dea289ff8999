-- SPDX-License-Identifier: MIT
-- Commands that run on the ranks of a group which dist.start has made.
local native = require "nablua.native"

-- The ranks that a text names: "3", "2,4", "2-4".
local function ranks_of(text)
  local ranks, seen = {}, {}
  for first, last in text:gmatch("(%d+)%-?(%d*)") do
    for rank = tonumber(first), tonumber(last ~= "" and last or first) do
      if rank >= 1 and not seen[rank] and #ranks < 256 then
        seen[rank], ranks[#ranks + 1] = true, rank
      end
    end
  end
  if #ranks == 0 then native.raise("%on: which ranks; it is used as %on 3 CODE, %on 2,4 CODE or %on 2-4 CODE") end
  return ranks
end

return function(command, commands)
  local function run(name, ranks, code)
    return require("nablua.dist.start").run(name, ranks, code, function(own) return commands.run_input(own) end)
  end

  local function on_all(code)
    local ranks = { 1 }
    for _, rank in ipairs(require("nablua.dist.start").workers()) do ranks[#ranks + 1] = rank end
    return run("all", ranks, code)
  end

  command("all", "%all CODE", "Runs the code on every rank of the group that dist.start has made; what the others " ..
    "show stands behind their ranks.", function(code) return on_all(commands.need("%all CODE", code)) end,
    { code = true, cell = function(arguments, body) return on_all(arguments .. "\n" .. body) end })

  command("on", "%on RANKS CODE", "Runs the code on some ranks: %on 3 CODE, %on 2,4 CODE, %on 2-4 CODE.",
    function(text)
      local ranks, code = text:match("^%s*([%d,-]+)%s*(.*)$")
      return run("on", ranks_of(ranks or ""), commands.need("%on RANKS CODE", code or ""))
    end, { cell = function(ranks, body) return run("on", ranks_of(ranks), "\n" .. body) end })
end
