-- SPDX-License-Identifier: MIT
-- Runs that nn.fit drives, epoch by epoch.
local native = require "nablua.native"
local nb = require "nablua.core"
local source = require "nablua.run.source"
local state = require "nablua.run.state"
local states = require "nablua.optim.state"
local step = require "nablua.run.step"
local together = require "nablua.dist.together"

-- `inner` leads from runs to what they are, `ways` has how they go.
return function(run, inner, ways)
  -- A run that nn.fit drives epoch by epoch; `o` has net, loss, opt, data, schedule, schedule_per, clip, epochs, and
  -- seen(output, target, loss), called in each forward pass.  nil where it cannot be recorded.
  function run.of_fit(o, place)
    if together.size() > 1 or not states.memory(o.opt) then return nil end
    local self = { fit = true, by_epochs = true, norms = false, random = nb.random_state(), means = {}, place = place,
      history = { loss = {}, lr = {} }, source = source.of(o.data) }
    for name, value in pairs(o) do self[name] = value end
    self.at = (place.epoch - 1) * (self.source.count or 0) + (self.source.count and place.batch or 0)
    self.head = self.at
    step.open(self)
    step.fill(self, self.at)
    return run.of(self)
  end

  -- f(next) with the run going, where next() does a step and is false at an epoch's end.
  function run.drive_fit(proxy, f)
    local self = inner[proxy]
    local alone, over = false, false  -- over: the epoch's last batch was its last known one
    local function next_step()
      native.hold_site()
      local epoch, done = self.place.epoch, not over and ways.go_on(self, alone)
      native.let_site()
      over = done and self.place.epoch > epoch
      alone = done and not over
      if not alone then state.settle(self) end
      self.seed_after, self.counter_after = native.random_state()
      return done
    end
    return ways.drive(self, function()
      local result = f(next_step)
      self.epochs, self.over_after = math.max(self.place.epoch - 1, 1), self.at
      native.whole(ways.prepare, self, false)  -- what came after the last step is noted
      return result
    end)
  end

  -- It is a run as any other from now on.
  function run.end_fit(proxy)
    local self = inner[proxy]
    self.by_epochs, self.seen = nil, nil
  end
end
