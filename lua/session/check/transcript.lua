-- SPDX-License-Identifier: MIT
-- A transcript: what a terminal shows, prompts included.  "..." as a line stands for any lines, within a line for
-- anything; ‹text› is what the user answered, «text» the same unseen; "^C" behind an input is an interrupt, "⇥" a Tab.
local same = require "nablua.session.check.same"

local function answers_in(shown)
  local answers = {}
  for answer in shown:gsub("«(.-)»", "‹%1›"):gmatch("‹(.-)›") do answers[#answers + 1] = answer end
  return answers, (shown:gsub("([^\n]*)‹[^\n]-›\n?", "%1"):gsub("([^\n]*)«[^\n]-»\n?", "%1"))
end

return function(text, _, settings)
  local steps, below = {}, nil
  for line in (text:gsub("%s+$", "") .. "\n"):gmatch("([^\n]*)\n") do
    local prompt = ("%d> "):format(#steps + 1)
    if not below and line:match("^%-%-") then
      below = nil  -- what it is about
    elseif line:sub(1, #prompt) == prompt and line:sub(-3) == "⇥" then
      below = {}  -- what Tab offers is not looked at
    elseif line:sub(1, #prompt) == prompt then
      below = {}
      steps[#steps + 1] = { title = "input " .. #steps + 1, lines = { line:sub(#prompt + 1) }, below = below }
    elseif steps[1] and below == steps[#steps].below and #below == 0 and line:match("^ +| ?") then
      table.insert(steps[#steps].lines, (line:gsub("^ +| ?", "")))
    elseif below then
      below[#below + 1] = line
    else
      error("a transcript begins with the prompt of its first input, \"1> \"", 0)
    end
  end
  if #steps == 0 then error("there is no input in it, such as \"1> x = 5\"", 0) end
  for _, step in ipairs(steps) do
    step.code = table.concat(step.lines, "\n")
    step.answers, step.expected = answers_in(table.concat(step.below, "\n"))
    local stopped = step.code:match("^(.*) %^C$")
    step.code, step.interrupt = stopped or step.code, stopped ~= nil
  end
  return {
    steps = steps, width = text:match("^%-%- (%d+) columns wide") or 160,
    compare = function(step, got)
      local shown = got.plain
      if same.pattern(step.expected, shown, settings.tolerance) then return nil end
      return { what = "what it shows differs", expected = step.expected, got = shown }
    end,
  }
end
