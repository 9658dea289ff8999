-- SPDX-License-Identifier: MIT
-- Controls of a run: play and pause, a step on and back, a place among its steps, its rate, and its card.
--
-- While run:go() runs, what they ask for is done between two steps; at rest they move the run themselves, and play by
-- the clock.
local native = require "nablua.native"
local display = require "nablua.display"
local options = require "nablua.options"
local controls = require "nablua.ui.controls"
local clock = require "nablua.ui.clock"
local layout = require "nablua.ui.layout"
local widget = require "nablua.ui.widget"

local SLICE = 0.1   -- seconds of steps at a time, when played at rest
local REDRAW = 0.5  -- seconds between two pictures of the card, and at least
local SHARE = 5     -- times as long as one takes to draw

local function make(name, ...)
  for _, part in ipairs { controls, layout, clock } do
    for _, entry in ipairs(part) do
      if entry.name:match "[^.]+$" == name then return (entry.value or entry[1])(...) end
    end
  end
end

-- ---- what is shown of a run ----

local Panel = {}
Panel.__index = Panel

local function sentence(self)
  local run = self.run
  local loss = run.loss
  return ("after step %d%s%s, epoch %d, loss %s%s"):format(run.step, self.total and " of " .. self.total or "",
    run.last > run.step and (", %d done"):format(run.last) or "", run.epoch, loss and ("%.4g"):format(loss) or "–",
    self.problem and "; " .. self.problem or "")
end

local function is_playing(self)
  local going, held = self.runs.standing(self.run)
  return going and not held or self.timer ~= nil
end

-- Moves the controls to where the run stands.
function Panel:follow(draw)
  local run = self.run
  local _, _, total = self.runs.standing(run)
  self.total = total
  self.following = true
  widget.set(self.place, "min", run.first)
  widget.set(self.place, "max", math.max(total or run.last, run.first + 1))
  widget.set(self.place, "value", run.step)
  widget.set(self.rate, "value", run.lr)
  widget.set(self.play, "label", is_playing(self) and "‖ pause" or "▶ play")
  widget.set(self.said, "value", sentence(self))
  self.following = nil
  local now = native.clock()
  if not draw and now < (self.next_drawn or 0) then return end
  self.card:show(run)
  self.next_drawn = native.clock() + math.max(REDRAW, SHARE * (native.clock() - now))
end

-- ---- what they do ----

function Panel:stop()
  if self.timer then self.timer:close() end
  self.timer = nil
end

-- Does something to the run at rest; an error is said among the controls.
local function try(self, f, ...)
  local ok, message = pcall(f, ...)
  self.problem = not ok and tostring(message):gsub("^[^:]*:%d+: ", "") or nil
  if not ok then self:stop() end
  if not ok and native.interrupted() then error(message, 0) end
end

function Panel:go_to(k)
  local run = self.run
  k = math.max(run.first, self.total and math.min(k, self.total) or k)
  if self.runs.ask(run, "to", k) then return end
  self:stop()
  if k > run.last then try(self, run.next, run, k - run.step) else try(self, run.to, run, k) end
  self:follow(true)
end

local function slice(self)
  local run, begun = self.run, native.clock()
  repeat
    local before = run.step
    try(self, run.next, run)
    if run.step == before then self:stop() end
  until not self.timer or native.clock() - begun > SLICE
  self:follow(not self.timer)
end

function Panel:toggle()
  local going, held = self.runs.standing(self.run)
  if going then
    self.runs.ask(self.run, held and "play" or "pause")
  elseif self.timer then
    self:stop()
  else
    self.timer = make("every", 0.02, function() slice(self) end)
  end
  self:follow(false)
end

-- ---- making them ----

local follower = { of_input = true, panels = setmetatable({}, { __mode = "k" }) }
function follower.settle()
  for panel in pairs(follower.panels) do
    if not panel.timer then pcall(panel.follow, panel, true) end
  end
end

local function controls_of(run, runs)
  local self = setmetatable({ run = run, runs = runs }, Panel)
  local _, _, total = runs.standing(run)
  self.play = make("button", { label = "▶ play", style = "primary" })
  self.back, self.step = make("button", { label = "◀ back" }), make("button", { label = "step ▶" })
  self.place = widget.widen(make("slider", { label = "step", min = run.first,
    max = math.max(total or run.last, run.first + 1), value = run.step, step = 1 }))
  self.rate = make("number", { label = "rate", value = run.lr + 0.0 })
  self.said, self.card = make("label", { value = "" }), layout.output()
  self.play:on_change(function() self:toggle() end)
  self.back:on_change(function() self:go_to(run.step - 1) end)
  self.step:on_change(function() self:go_to(run.step + 1) end)
  self.place:on_change(function(k)
    if not self.following then self:go_to(k) end
  end)
  self.rate:on_change(function(v)
    if not self.following then run.opt.lr = v end
  end)
  runs.when_it_steps(run, function()
    local now = native.clock()
    if now < (self.told or 0) then return end
    self.told = now + 0.1
    self:follow(false)
  end)
  follower.panels[self] = true
  display.pending[follower] = true
  self:follow(true)
  local row = make("row", { self.back, self.play, self.step, self.rate })
  local all = make("column", { row, self.place, self.said, self.card })
  widget.private(all).panel = self  -- lives as long as what is shown
  return all
end

return { {
  name = "controls", signature = "ui.controls(run)", see = { "nb.run", "run:go" },
  doc = "Controls of a run: play and pause, a step on and back, a place among all its steps, its rate and card, " ..
    "which follow it.  While run:go() runs they move it between two steps; at rest, in a notebook, they play it by " ..
    "the clock.  In a terminal they stand in the line below what run:go() prints.",
  example = [[
local net, x = nn.Linear(1, 1), nb.rand(8, 1)
local run = nb.run{net=net, loss=nn.MSELoss(), opt=optim.SGD(net:parameters()), data={x, 2 * x}, size=4, epochs=3}
return tostring(nb.ui.controls(run:next(2))):find("after step 2 of 6", 1, true) ~= nil  --> true]],
  function(run)
    local runs = require "nablua.run"
    if not runs.is(run) then
      native.raise(("ui.controls: expected a run, as nb.run makes them, got %s"):format(options.describe(run)))
    end
    return controls_of(run, runs)
  end,
} }
