-- SPDX-License-Identifier: MIT
-- nb.journal and nb.journals: a file of runs that only grows.
local nb = require "nablua"
local lu = require "luaunit"
local json = require "nablua.json"
local running = require "running"
local scratch = require "scratch"

local T = {}

local files
function T.setUp() files = scratch.new() end
function T.tearDown() files:remove() end

local function quietly(f, ...)
  local before, said = io.stderr, {}
  io.stderr = { write = function(_, ...) said[#said + 1] = table.concat { ... } end }  -- luacheck: ignore 122
  local results = table.pack(pcall(f, ...))
  io.stderr = before  -- luacheck: ignore 122
  lu.assertTrue(results[1], tostring(results[2]))
  return table.concat(said), table.unpack(results, 2)
end

function T.test_lines_are_added()
  local path = files:path "runs.jsonl"
  local j = nb.journal { path }
  local run = running.make("dense", "SGD", "StepLR", { name = "cold", seed = 11 })
  run:next(5)
  local hot = run:fork { opt = { lr = 0.2 }, name = "hot" }
  run:go() hot:go()
  j:add(run, { note = "the first", options = { width = 8, tags = { "a", "b" } } })
  local one = files:read "runs.jsonl"
  j:add(hot)
  nb.journal(path):add({ loss = { 1, 0.5 }, valid_loss = { 2, 1.5 } }, { name = "fitted" })
  local text = files:read "runs.jsonl"
  lu.assertEquals(text:sub(1, #one), one)  -- it only grows
  lu.assertEquals(select(2, text:gsub("\n", "")), 3)
  local first = json.decode(text:match "^[^\n]*")  -- what another program reads
  lu.assertEquals({ first.name, first.steps, first.seed, first.parameters, first.loss_of, first.note, first.size },
    { "cold", 24, 11, 49, "MSELoss", "the first", 4 })
  lu.assertEquals(first.curve.loss[24], run.history.loss[24])
  lu.assertEquals(first.best, math.min(table.unpack(run.history.loss)))
  lu.assertEquals(first.options.tags[2], "b")
  lu.assertStrMatches(first.time, "%d+%-%d%d%-%d%dT%d%d:%d%d:%d%dZ")
  local list = nb.journals(path)
  lu.assertEquals({ #list, list[2].name, list[3].last_valid_loss }, { 3, "hot", 1.5 })
  lu.assertStrContains(tostring(list), "cold")
  lu.assertEquals(#list:plot().data, 3)
  local other = list:compare(1, 2)
  lu.assertStrContains(other, "options.width")
  lu.assertNotStrContains(other, "loss_of")
  for _, text_of in ipairs { other, list:compare(2, 1) } do  -- of either's names each has one line
    lu.assertEquals(select(2, text_of:gsub("options%.width", "")), 1)
  end
  local bundle = list:__display { width = 60 }
  lu.assertStrContains(bundle["text/plain"], "┤")
end

function T.test_long_curves_are_thinned_and_hold_what_is_no_number()
  local path, loss = files:path "runs.jsonl", {}
  for k = 1, 12345 do loss[k] = 1 / k end
  loss[1], loss[12345] = 0 / 0, math.huge
  nb.journal { path }:add { loss = loss }
  local list = nb.journals(path)
  local curve = list[1].curve
  lu.assertTrue(#curve.step <= 1000)
  lu.assertEquals({ curve.step[1], curve.step[#curve.step] }, { 1, 12345 })
  for i = 2, #curve.step - 1 do lu.assertEquals(curve.loss[i], 1 / curve.step[i]) end
  lu.assertEquals(list:plot().data[1].y:numel(), #curve.step - 2)
  lu.assertStrContains(tostring(list), "12345")
end

function T.test_a_line_that_was_cut_is_left_out()
  local path = files:path "runs.jsonl"
  nb.journal { path }:add({ loss = { 1 } }, { name = "whole" })
  local f <close> = io.open(path, "a")
  f:write '{"name":"cut","curve":{"lo'
  f:close()
  nb.journal { path }:add({ loss = { 2 } }, { name = "after" })
  local said, list = quietly(nb.journals, path)
  lu.assertStrContains(said, "line 2")
  lu.assertEquals({ #list, list[2].name }, { 2, "after" })
end

function T.test_the_state_of_git()
  local where = files.folder
  if not os.execute "git --version >/dev/null 2>&1" then lu.skip "there is no git here" end
  local program = files:write("add.lua", [[
    local nb = require "nablua"
    nb.journal { "runs.jsonl" }:add { loss = { 1 } }]])
  local interpreter = arg[-1]
  if interpreter:find "^[^/]+/" then interpreter = os.getenv "PWD" .. "/" .. interpreter end
  local function add() lu.assertTrue(os.execute(("cd '%s' && '%s' '%s'"):format(where, interpreter, program))) end
  local function git(command)
    local name = "-c user.name=a -c user.email=a@b"
    local p <close> = io.popen(("cd '%s' && git %s %s 2>/dev/null"):format(where, name, command))
    return (p:read "a":gsub("%s+$", ""))
  end
  local environment = os.getenv "LUA_CPATH"
  if environment and not environment:find "^/" then lu.skip "the module is not found from another folder" end
  add()
  git "init -q -b trunk ."
  git "add add.lua"
  git "commit -qm first"
  add()
  local list = nb.journals(files:path "runs.jsonl")
  lu.assertNil(list[1].git)
  lu.assertEquals({ list[2].git.commit, list[2].git.branch, list[2].git.changes }, { git "rev-parse HEAD", "trunk", 1 })
end

function T.test_bad_input()
  local path = files:path "runs.jsonl"
  lu.assertErrorMsgContains("needs the name of a file", nb.journal, {})
  lu.assertErrorMsgContains("nowhere", nb.journal, { files:path "nowhere/runs.jsonl" })
  lu.assertErrorMsgContains("gone", nb.journals, files:path "gone.jsonl")
  local j = nb.journal { path }
  lu.assertErrorMsgContains("needs a run", j.add, j, 3)
  lu.assertErrorMsgContains("needs a run", j.add, j, {})
  lu.assertErrorMsgContains("nam", j.add, j, { loss = { 1 } }, { nam = "x" })
  lu.assertErrorMsgContains("cannot be sent", j.add, j, { loss = { 1 } }, { options = { f = print } })
  lu.assertEquals(files:read "runs.jsonl", "")
  lu.assertEquals(tostring(nb.journals(path)), "no runs")
  lu.assertErrorMsgContains("there is no entry 4", function() return nb.journals(path):compare(4, 1) end)
end

return T
