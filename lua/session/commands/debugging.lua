-- SPDX-License-Identifier: MIT
-- Commands that pause, go on, and look into what is paused.
local display = require "nablua.display"
local engine = require "nablua.session.engine"
local native = require "nablua.native"

return function(command, commands)
  local function pause() return require "nablua.session.pause" end

  command("debug", "%debug", "Opens a prompt in the frames of the last error.", function()
    require("nablua.session.debugger").post_mortem()
  end)

  command("pdb", "%pdb on|off", "Whether an error that nobody catches pauses where it happens; without a word the " ..
    "other way from now on.", function(word)
    if word ~= "" and word ~= "on" and word ~= "off" then
      native.raise("%pdb: expected on or off, got " .. display.brief(word))
    end
    local on = word == "on"
    if word == "" then on = not engine.catches() end
    engine.catch(on, false)
    print(on and "errors pause where they happen" or "errors pause no more")
  end)

  command("break", "%break [FILE:LINE [if|hits|log ...]]", "Pauses at a line of a file, or of an input such as " ..
    "input 3:2: always, if an expression is true, from so many hits on, or only prints a text with {expressions}; " ..
    "%break off [NUMBER] removes them; alone it lists them.", function(argument)
    local breakpoints = require "nablua.session.breakpoints"
    local off, number = argument:match "^(off)%s*(%d*)$"
    if argument == "" then return breakpoints.show() end
    if not off then
      print(breakpoints.add_text(argument))
    elseif not breakpoints.remove(tonumber(number)) and number ~= "" then
      native.raise(("%%break: there is no breakpoint %s; %%break lists them"):format(number))
    end
  end, { paths = true })

  command("pause", "%pause", "Pauses what runs, from a prompt beside it, a subshell of Jupyter's say; Ctrl-\\ does in " ..
    "the terminal.", function()
    if pause().current() then native.raise "%pause: it is paused already; %continue lets it go on" end
    if not engine.pause_below() then native.raise "%pause: nothing runs that could pause" end
    print "what runs pauses now: %paused gives its prompt a line, %continue lets it go on"
  end)

  command("paused", "%paused LINE", "Gives a line to the prompt of what is paused, from a prompt beside it: a word " ..
    "such as :where or :step, or Lua in its frame.", function(line)
    commands.need("%paused LINE", line)
    pause().need()
    local code, frame = pause().line(line)
    if code then return engine.evaluate(code, frame) end
  end)

  command("continue", "%continue", "Lets what is paused go on.", function()
    pause().need()
    engine.go "continue"
  end)
end
