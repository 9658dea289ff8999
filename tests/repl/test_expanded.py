#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ctrl-C ends what any operator's row does with tensors that are large without taking memory, and Lua's view of them.

The cases are those of the operator table's samples, with every tensor in them expanded to a trillion elements: what is
small is computed for hours, what is not must be refused at once for want of memory.
"""
import os
import select
import signal
import subprocess
import tempfile
import time
import unittest

NABLUA = os.environ["NABLUA"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WAIT = 0.1    # seconds before the interrupt
LIMIT = 0.5   # seconds after it, on a machine that is not busy

# Says the number of a case, then what came of it.  Cases from `first` on.
SCRIPT = r"""
package.path = "tests/lua/?.lua;" .. package.path
package.loaded.luaunit = package.loaded.luaunit or {}
local numeric = require "numeric"
local native = require "nablua.native"
nb.memory { limit = 4e8 }
io.stdout:setvbuf "line"
local first = tonumber(arg[1])
local LARGE = 1e12

-- A tensor like t whose sizes over 1 are so large that it has a trillion elements, in the memory of one.
local function expanded(t)
  local wide, shape = 0, t.shape
  for _, n in ipairs(shape) do wide = wide + (n > 1 and 1 or 0) end
  for d, n in ipairs(shape) do shape[d] = n > 1 and math.ceil(LARGE ^ (1 / wide)) or n end
  local one = t:detach():flatten()[{ { 1, 1 } }]:clone()
  return wide > 0 and one:expand(shape) or t
end

local cases = {}
local rows = native.rows()
for _, e in ipairs(require("nablua.registry").all()) do  -- and functions that are made of them
  if e.composed then
    rows[#rows + 1] = { name = e.name:match "[^.]+$", params = {}, sample = { lo = 0, hi = 0, args = e.sample or "" } }
  end
end
for _, row in ipairs(rows) do
  for _, case in ipairs(numeric.cases(row) or {}) do
    for _, dtype in ipairs { "f64", "f32", "u8" } do
      cases[#cases + 1] = { ("%s(%s) of %s"):format(row.name, case, dtype), function()
        local args = numeric.arguments(row, case)
        for k = 1, args.n do
          if nb.is_tensor(args[k]) then
            local t = args[k]:detach()
            args[k] = expanded(t.dtype == "f64" and t:abs():to(dtype) or t)
          end
        end
        return numeric.call_of(row)(table.unpack(args, 1, args.n))
      end }
    end
  end
end
local large = nb.ones(1):expand(1e12)
local others = {
  totable = function() large:totable() end,
  tostring = function() tostring(nb.ones(1, 1):expand(1e6, 1e6)) end,
  ["a table of tables"] = function() nb.ones(1, 1):expand(1e4, 1e4):totable() end,
  ["a slice's value"] = function() local t = nb.zeros(3); t[1] = large:sum() end,
  assignment = function() local t = nb.zeros(3, 1); t[{}] = large end,
  ["a walk by sum along the first"] = function() nb.ones(1, 1):expand(1e9, 100):sum(1) end,
  ["runs of three"] = function() nb.ones(1, 3):expand(1e11, 3):transpose(1, 2):max() end,
  rows = function() for _ in nb.ones(1, 1):expand(1e11, 2):rows() do end end,
  ["in place"] = function() nb.zeros(1):add_(large) end,
}
local names = {}
for name in pairs(others) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do cases[#cases + 1] = { name, others[name] } end

print("of", #cases)
for i = first, #cases do
  print("begin", i, cases[i][1])
  local ok, message = pcall(nb.no_grad, cases[i][2])
  print("end", i, ok and "done" or (tostring(message):gsub("\n.*", "")))
end
"""


class Process:
    def __init__(self, path, first):
        self.p = subprocess.Popen([NABLUA, path, str(first)],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
        self.rest = b""

    def line(self, seconds):
        """The next line; None at the time's end, "" at the output's."""
        end = time.monotonic() + seconds
        while b"\n" not in self.rest:
            left = end - time.monotonic()
            if left < 0 or not select.select([self.p.stdout], [], [], max(left, 0))[0]:
                return None
            data = os.read(self.p.stdout.fileno(), 65536)
            if not data:
                return ""
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()

    def end(self):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()


class Interrupts(unittest.TestCase):
    def test_every_row_stops_over_expanded_tensors(self):
        slow, interrupted, ended = [], 0, 0
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as f:
            f.write(SCRIPT)
            f.flush()
            process = Process(f.name, 1)
            count = int(process.line(60).split("\t")[1])
            at = 0
            while at < count:
                begin = process.line(60)
                self.assertTrue(begin, "the process ended after case %d" % at)
                at, name = int(begin.split("\t")[1]), begin.split("\t")[2]
                end = process.line(WAIT)
                if end is None:
                    interrupted += 1
                    process.p.send_signal(signal.SIGINT)
                    begun = time.monotonic()
                    while end is None and time.monotonic() - begun < 3:
                        end = process.line(1)
                    if time.monotonic() - begun > self.patience():
                        slow.append("%s: %.1f s" % (name, time.monotonic() - begun))
                    process.end()
                    process = Process(f.name, at + 1)
                    process.line(60)
                else:
                    ended += 1
                    self.assertNotEqual(end, "", "case %d, %s, ended the process" % (at, name))
            process.end()
        self.assertEqual(slow, [])
        self.assertGreater(interrupted, 20)
        self.assertGreater(ended, 400)

    def patience(self):
        return LIMIT * max(1, os.getloadavg()[0] / (os.cpu_count() or 1))


if __name__ == "__main__":
    unittest.main()
