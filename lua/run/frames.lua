-- SPDX-License-Identifier: MIT
-- The keyframes of a run: when one is taken, which are kept, and going to a step from the one before it.
--
-- They are even over the last 10,000 steps and ever sparser before, and fit in the memory given.  A forced one stands
-- where somebody else changed something that is no event (run/events.lua): it cannot be reached by repeating the steps
-- before it.
local events = require "nablua.run.events"
local native = require "nablua.native"
local nb = require "nablua.core"
local notice = require "nablua.notice"
local source = require "nablua.run.source"
local state = require "nablua.run.state"
local together = require "nablua.dist.together"

local frames = {}

local EVEN = 10000      -- steps over which they are even
local APART = 500       -- the most steps between two
local GOTO = 0.2        -- seconds that repeating the steps between two may take
local SHARE = 0.02      -- of the steps' time that keyframes may take
local SLOWER = 1.008    -- how much longer each step that is timed may take than the shortest lately
local DEARER = 1.2      -- how much longer each keyframe may take than the shortest lately
local STREAMED = 0.1    -- of the memory that the batches of a stream may take between two
local FIELD = 40        -- bytes that a field of a table takes, about

-- About how many bytes a keyframe has in Lua.
local function weight_of(taken)
  local n = 0
  for _, copy in ipairs(taken.copies) do
    n = n + 2
    for _ in pairs(copy) do n = n + 1 end
  end
  return n * FIELD
end

function frames.bytes(self)
  return self.frames:copied() + self.weight + (self.source.bytes or 0)
end

-- ---- which are kept ----

local function remove(self, i)
  local f = table.remove(self.kept, i)
  self.ask_at = 0
  self.weight = self.weight - f.weight
  if self.forced[f.step] == f then self.forced[f.step] = nil end
  f.taken.frame:drop()
  if i > 1 or not self.kept[1] then return end
  if self.source.forget then self.source:forget(self.kept[1].step + 1) end
  events.forget(self, self.kept[1].step)
end

-- The one whose absence makes the widest gap for its age, least of all; nil when only the first and last are left.
local function least_needed(self)
  local best, least
  for i = 2, #self.kept - 1 do
    local gap = self.kept[i + 1].step - self.kept[i - 1].step
    local worth = gap / (self.head - self.kept[i].step + APART)
    if not self.kept[i].forced and (not least or worth < least) then best, least = i, worth end
  end
  return best
end

-- Drops those that could not be copied for want of memory.
local function drop_lost(self)
  if self.frames:lost() == self.lost then return end
  self.lost = self.frames:lost()
  local dropped
  for i = #self.kept, 1, -1 do
    if not self.kept[i].taken.frame:intact() then
      for _ = 1, i do remove(self, 1) end  -- nothing reaches the steps before it from the next one
      dropped = true
      break
    end
  end
  if dropped then notice.say("run: there was no memory for keyframes; steps before the next one cannot be gone to") end
end

-- Before the last EVEN steps the gap between neighbours may be a tenth of the age.
local function thin_by_age(self)
  local i = 2
  while i < #self.kept and self.head - self.kept[i].step > EVEN do
    local gap = self.kept[i + 1].step - self.kept[i - 1].step
    if not self.kept[i].forced and gap * 10 <= self.head - self.kept[i].step then
      remove(self, i)
    else
      i = i + 1
    end
  end
end

local function thin(self)
  drop_lost(self)
  thin_by_age(self)
  -- Of a stream more comes until the next keyframe.
  local most = self.source.bytes and (1 - STREAMED) * self.memory or self.memory
  while frames.bytes(self) > most and #self.kept > 1 do
    local streamed = (self.source.bytes or 0) > self.memory / 2  -- batches, which only the first one's going gives back
    local i = streamed and 1 or least_needed(self)
    if not i and not self.said then
      self.said = true
      notice.say("run: the memory of %.3g MB holds only the latest keyframe; memory= sets it", self.memory / 1e6)
    end
    remove(self, i or 1)
  end
end

-- ---- taking ----

-- What the last one has taken is known now.
local function learn_cost(self)
  if self.spent > 0 then self.cost = math.min(self.spent, DEARER * (self.cost or self.spent)) end
  self.spent = 0
end

-- Takes one of where the run stands.
function frames.take(self, forced)
  local last = self.kept[#self.kept]
  if last and last.step == self.at then
    if not forced then return end
    remove(self, #self.kept)
  end
  if forced then events.forget_here(self) end
  learn_cost(self)
  local began = native.clock()
  local taken = state.take(self)
  local f = { step = self.at, place = source.copy(self.place), taken = taken, forced = forced,
    weight = weight_of(taken), outside = not self.driven }
  self.kept[#self.kept + 1] = f
  if forced then self.forced[f.step] = f end
  self.weight = self.weight + f.weight
  state.settle(self)
  thin(self)
  self.streamed = self.source.bytes
  self.taking = self.taking + native.clock() - began
end

function frames.open(self)
  self.frames, self.kept, self.weight, self.lost, self.seconds = native.keyframes(), {}, 0, 0, 0
  self.taking, self.counted, self.spent = 0, 0, 0
  self.forced = {}  -- of those, by step
  self.ask_at = 0   -- the step from which it may be time for another
  events.open(self)
  self.memory = (together.range(self.memory or math.min(1 << 30, nb.memory().limit // 9)))
  frames.take(self, true)
end

-- How long keyframes have taken since this was last asked: taking them, and the copies that were made when what they
-- hold was written.
function frames.took(self)
  local all, before = self.taking + self.frames:copying(), self.counted
  self.counted = all
  return all - before
end

-- How long a step took, and keyframes meanwhile.  What counts is the least lately: other programs that want the
-- processor make both longer, by chance and not alike, and going somewhere is to be soon when they do not, too.
function frames.learn(self, seconds, spent)
  self.seconds = self.seconds == 0 and seconds or math.min(seconds, SLOWER * self.seconds)
  self.spent = self.spent + spent
end

-- Whether it is time for another: often enough to go anywhere soon, seldom enough to cost little.
function frames.due(self)
  if self.at < self.ask_at and not self.streamed then return false end
  local since = self.at - (self.kept[#self.kept] and self.kept[#self.kept].step or -APART)
  if self.seconds == 0 or since == 0 then return false end
  if self.streamed and self.source.bytes - self.streamed > STREAMED * self.memory then return true end
  local enough = math.min(APART, math.max(GOTO, (self.cost or self.spent) / SHARE) / self.seconds)
  -- Until half of what is missing has gone by nothing makes it due: steps get longer by little.
  self.ask_at = self.at + (enough - since) // 2
  return since >= enough
end

-- ---- going ----

-- The place in `kept` of the last one at or before a step; one exactly there only where it was forced, since repeating
-- the step also gives back its gradients.
local function before(self, step)
  for i = #self.kept, 1, -1 do
    local f = self.kept[i]
    if f.step < step or f.step == step and (f.forced or i == 1) then return i end
  end
  return 1
end

-- Within a step of the run, whose random numbers they are.
local function put_back(self, f)
  native.whole(function()
    state.put_back(self, f.taken)
    self.at, self.place = f.step, source.copy(f.place)
    if f.outside then self.net:train() end
    if not events.repeat_here(self) then state.settle(self) end
  end)
end

-- Where a step that was repeated ends at a forced keyframe, what was changed there then is changed again.
function frames.pass(self)
  local f = self.forced[self.at]
  if f then put_back(self, f) elseif self.events[self.at] then native.whole(events.repeat_here, self) end
end

-- Notes what somebody else changed after the step where the run stands: a clause, the plain values where it is nothing
-- else, and the place in the random numbers where these moved.
function frames.note(self, change, list, random)
  if change and not list then return frames.take(self, true) end
  events.note(self, list or {}, random)
end

-- Goes to the keyframe at or before a step.
function frames.go_back(self, step)
  put_back(self, self.kept[before(self, step)])
end

-- The end of what has been done is kept before it is left, with what others changed there.
function frames.before_leaving(self)
  if self.at < self.head then return end
  local change, list = state.change(self)
  if change then frames.note(self, change, list) end
  frames.take(self)
end

-- Goes to a keyframe from which a step is near, where that saves steps.
function frames.approach(self, step)
  local f = self.kept[before(self, step)]
  if step < self.at or f.step > self.at then put_back(self, f) end
end

-- Drops those after a step.
function frames.cut(self, step)
  while #self.kept > 1 and self.kept[#self.kept].step > step do remove(self, #self.kept) end
  events.cut(self, step)
end

return frames
