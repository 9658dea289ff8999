# SPDX-License-Identifier: MIT
"""Training on several ranks is training on one: batches in shares, nn.fit, statistics over all, checkpoints."""
import os
import re
import tempfile
import unittest

from mpi import ROOT, numbers, run

FIT = """
local what, path = arg[1], arg[2]
nb.seed(5)
local x = nb.randn(203, 6):to("f64")
local y = x:mm(nb.randn(6, 1):to("f64")):tanh()
local norm = what == "norm" and nn.BatchNorm1d(16, { sync = true }) or nn.Tanh()
local net = nn.Sequential(nn.Linear(6, 16, { bias = false }), norm, nn.ReLU(), nn.Linear(16, 1)):to("f64")
local opt = what == "LBFGS" and optim.LBFGS(net:parameters()) or
  optim.SGD(net:parameters(), { lr = what == "sum" and 1e-3 or 0.05, momentum = 0.9 })
local schedule = optim.ReduceLROnPlateau(opt, { patience = 0 })
local history = nn.fit(net, nn.MSELoss { reduction = what == "sum" and "sum" or "mean" }, opt, { x, y }, {
  epochs = (what == "plain" or what == "norm") and 23 or 6, size = what == "few" and 50 or what == "LBFGS" and 203 or 24, valid = { x[{ { 1, 51 } }], y[{ { 1, 51 } }] }, clip = what ~= "LBFGS" and 5 or nil,
  schedule = schedule, schedule_per = what == "few" and "batch" or "epoch",
  metrics = { "r2", off = function(o, t) return (o - t):abs():mean():item() end } })
if dist.rank == 1 then
  local state, all, paths = net:state(), {}, {}
  for p in pairs(state) do paths[#paths + 1] = p end
  table.sort(paths)
  for i, p in ipairs(paths) do all[i] = state[p]:to("f64"):reshape(-1) end
  local function list(name) return nb.tensor(history[name], { dtype = "f64" }) end
  nb.save(path, { state = nb.cat(all), loss = list "loss", valid = list "valid_loss", off = list "valid_off", r2 = list "valid_r2" })
end
"""

# nn.fit with dropout and a checkpoint, whose parameters are shown.
LONG = """
local path, epochs = arg[1], tonumber(arg[2])
nb.seed(3)
local x, y = nb.randn(60, 4), nb.randn(60, 1)
local net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
local opt = optim.Adam(net:parameters(), { lr = 1e-2 })
nn.fit(net, nn.MSELoss(), opt, { x, y }, { epochs = epochs, size = 10, checkpoint = path, checkpoint_every = 2, progress = false })
if dist.rank == 1 then
  local all = {}
  for i, p in ipairs(net:parameters()) do all[i] = p:detach():reshape(-1) end
  print(table.concat(nb.cat(all):totable(), " "))
end
"""

# A run r of a small net in f64, whose state show(name) writes.
RUN = """
local path = "%(path)s"
nb.seed(4)
local x = nb.randn(47, 5):to("f64")
local y = x:mm(nb.randn(5, 1):to("f64")):tanh()
local first = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)):to("f64"):state()
local net
local function make(more)
  net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)):to("f64")
  net:load_state(first)
  more.net, more.loss, more.opt = net, nn.MSELoss(), optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
  more.data, more.size, more.epochs, more.seed = { x, y }, 10, 4, 2
  return nb.run(more)
end
local function show(name, t)
  local all = {}
  for i, p in ipairs(net:parameters()) do all[i] = p:detach():reshape(-1) end
  t = t or nb.cat(all)
  assert(dist.gather(t):eq(t):all():item(), name .. ": the ranks differ")
  if dist.rank == 1 then
    io.write(name)
    for _, v in ipairs(t:totable()) do io.write((" %%.17g"):format(v)) end
    io.write("\\n")
  end
end
local r = make {}
%(steps)s
"""


class Fit(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name + ".safetensors")

    def train(self, n, what):
        status, out, err = run(n, FIT, what, self.path(str(n)))
        self.assertEqual(status, 0, err)
        return out, err

    def compare(self, n, most):
        status, out, err = run(1, """
        local a, b = nb.load(arg[1]), nb.load(arg[2])
        for _, name in ipairs { "state", "loss", "valid", "off", "r2" } do print((a[name] - b[name]):abs():max():item()) end
        """, self.path("1"), self.path(str(n)))
        self.assertEqual(status, 0, err)
        for difference in numbers(out):
            self.assertLess(difference, most)
        self.assertEqual(len(numbers(out)), 5)

    def check(self, what, most=1e-9, ranks=(2, 3)):
        self.train(1, what)
        for n in ranks:
            out, err = self.train(n, what)
            epochs = re.findall(r"epoch (\d+)/(\d+)  loss", out)
            self.assertEqual([int(k) for k, _ in epochs], list(range(1, int(epochs[0][1]) + 1)), out)  # one rank speaks
            self.compare(n, most)

    def test_an_uneven_last_batch(self):
        self.check("plain", ranks=(2, 4))  # 207 steps, as below

    def test_synchronised_batch_norm(self):
        self.check("norm", ranks=(2, 4))

    def test_losses_that_are_sums(self):
        self.check("sum")

    def test_a_last_batch_with_fewer_samples_than_ranks(self):
        self.check("few")  # 203 is 4 batches of 50 and one of 3; of the valid ones the last has one sample

    def test_a_search_along_a_line(self):
        self.check("LBFGS", 1e-6)

    def test_metrics_that_gather_are_those_of_all(self):
        code = """
        nb.seed(2)
        local x, y = nb.randn(103, 4), nb.randint(1, 3, { 103 })
        local net = nn.Linear(4, 3)
        local h = nn.fit(net, nn.CrossEntropyLoss(), optim.SGD(net:parameters(), { lr = 0.1 }), { x, y }, { size = 20,
          progress = false, valid = { x, y }, metrics = { "accuracy", "f1", "auc", "top2" } })
        if dist.rank == 1 then
          for _, name in ipairs { "valid_accuracy", "valid_f1", "valid_auc", "valid_top2" } do print(h[name][1]) end
        end
        """
        results = []
        for n in (1, 3):
            status, out, err = run(n, code)
            self.assertEqual(status, 0, err)
            results.append(numbers(out))
        self.assertEqual(len(results[0]), 4)
        for alone, three in zip(*results):
            self.assertAlmostEqual(alone, three, delta=1e-6)  # accuracy is a mean of f32 of each batch

    def test_shares_are_disjoint_and_together_all(self):
        status, out, err = run(3, """
        local x = nb.arange(10, { dtype = "i64" })
        for epoch = 1, 2 do
          for bx in data.batches { x, size = 4, shuffle = true, shard = true } do
            io.write(epoch, ":", table.concat(bx:totable(), ","), "\\n")
          end
        end
        """)
        self.assertEqual(status, 0, err)
        for epoch in "12":
            rows = [line[2:].split(",") for line in out.splitlines() if line[0] == epoch]
            self.assertEqual(len(rows), 9)  # 3 batches on each rank
            # 4 = 1+1+2 twice, and the last 2 = 0+1+1: rank 1 repeats one there, of weight 0
            self.assertEqual(sorted(len(row) for row in rows), [1] * 7 + [2] * 2)
            self.assertEqual({int(v) for row in rows for v in row}, set(range(1, 11)))
        status, out, _ = run(1, """
        for bx in data.batches { nb.arange(5, { dtype = "i64" }), size = 2, shard = true } do print(#bx, bx[1]:item()) end
        """)
        self.assertEqual(out, "2\t1\n2\t3\n1\t5\n")

    def test_dropout_differs_and_weights_do_not(self):
        status, out, err = run(2, """
        local net = dist.parallel(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)))
        print(net[1].weight:sum():item())
        print(table.concat(net[2](nb.ones(40)):totable(), ""))
        """)
        self.assertEqual(status, 0, err)
        lines = out.splitlines()
        self.assertEqual(len(set(lines)), 3)  # one sum, two masks

    def test_another_number_of_ranks_goes_on(self):
        path = self.path("x")
        status, _, err = run(2, LONG, path, "2")
        self.assertEqual(status, 0, err)
        for n in (3, 1):
            status, out, err = run(n, LONG, path, str(6 - n))
            self.assertEqual(status, 0, err)
            self.assertEqual(len(numbers(out)), 49)

    def test_the_example(self):
        with open(os.path.join(ROOT, "examples/parallel.lua"), encoding="utf-8") as f:
            example = f.read()
        losses = []
        for n in (1, 2):
            status, out, err = run(n, example, "1", "1280")
            self.assertEqual(status, 0, err)
            losses.append(re.search(r"epoch 1/1  loss ([\d.]+)", out).group(1))
            self.assertRegex(out, r"%d process(es)?: accuracy 0\.\d+" % n)
        self.assertAlmostEqual(float(losses[0]), float(losses[1]), delta=2e-4)

    def test_the_bench_finds_times_that_grow(self):
        status, out, err = run(2, """
        local b = dist.bench()
        assert(b[7].bytes == 16777216 and b[7].seconds > b[1].seconds and b.bandwidth > 0 and b.latency >= 0)
        local all = dist.gather(nb.tensor({ b.latency }, { dtype = "f64" }))
        assert(all:eq(b.latency):all():item(), "ranks say other things")
        if dist.rank == 1 then print(b) end
        """)
        self.assertEqual(status, 0, err)
        self.assertRegex(out, r"about [\d.]+ µs \+ bytes / [\d.]+ GB/s")

    def run_of(self, n, *steps):
        """Losses, weights and the places of a run on n ranks: {name: numbers} of rank 1, all ranks being equal."""
        status, out, err = run(n, RUN % {"steps": "\n".join(steps), "path": self.path("journal")})
        self.assertEqual(status, 0, err)
        # A launcher may give the first rank a terminal, in which the run has its bar.
        return {name: [float(word) for word in values.split()]
                for name, values in re.findall(r"(?m)^(?:.*\x1b\[K)?(\w+)((?: -?[\d.][-+.e\d]*)+)$", out)}

    def test_a_run_is_that_of_one_process(self):
        steps = 'r:go() show("whole") show("loss", nb.tensor(r.history.loss, { dtype = "f64" }))'
        alone = self.run_of(1, steps)
        self.assertEqual(len(alone["loss"]), 20)  # 47 samples in tens, the last of them seven, four times
        for n in (2, 3):
            got = self.run_of(n, steps)
            for name in ("whole", "loss"):
                self.assertEqual(len(got[name]), len(alone[name]))
                self.assertLess(max(abs(a - b) for a, b in zip(got[name], alone[name])), 1e-9)

    def test_a_run_goes_back_and_to_the_same_bits(self):
        got = self.run_of(2, 'r:next(13) show("a") r:next(4):back(4) show("b") r:to(2):to(17) show("c")',
                          'r:cut() r:next(1):back(1) show("d") r:next(3) show("e")',
                          'local f = r:back(5):fork { opt = { lr = 0.2 } } f:next(2) r:to(20) show("f")')
        self.assertEqual(got["a"], got["b"])
        self.assertEqual(got["c"], got["d"])
        self.assertEqual(got["e"], got["f"])
        self.assertNotEqual(got["a"], got["c"])

    def test_a_runs_journal_goes_on_with_as_many_ranks_and_with_others(self):
        whole = self.run_of(2, 'r:go() show("w")')
        for n in (2, 3, 1):
            first = self.run_of(2, 'os.remove(path) r = make{journal = path, journal_every = 0} r:next(7)',
                                'dist.barrier() show("x")')
            got = self.run_of(n, 'r = make{journal = path, resume = path}',
                              'assert(r.step == 7) show("x") r:go() show("w")')
            self.assertEqual(got["x"], first["x"])
            if n == 2:
                self.assertEqual(got["w"], whole["w"])
            else:
                self.assertLess(max(abs(a - b) for a, b in zip(got["w"], whole["w"])), 1e-9)

    def test_ranks_that_stand_after_other_steps_go_on_together(self):
        code = """
        r:next(9)
        -- As an interrupt leaves one rank a step behind the others.
        local known = require "nablua.run".known_of(r)
        if dist.rank == 2 then
          local frames = require "nablua.run.frames"
          known.owed = 8
          require "nablua.run.step".cut(known, 8)
          known.head = 8
          frames.cut(known, 8)
          frames.go_back(known, 8)
        end
        r:next(1) assert(r.step == 9, r.step) show("a")
        r:go() show("w")
        """
        self.assertEqual(self.run_of(2, code)["w"], self.run_of(2, 'r:go() show("w")')["w"])

    def test_an_iterator_of_ones_own_is_said(self):
        status, _, err = run(2, """
        local net = nn.Linear(1, 1)
        local function batches(_, previous)
          if not previous then return nb.full({ 2, 1 }, dist.rank), nb.ones(2, 1) end
        end
        nn.fit(net, nn.MSELoss(), optim.SGD(net:parameters(), { lr = 0.1 }), batches, { progress = false })
        """)
        self.assertEqual(status, 0, err)
        self.assertEqual(err.count("train is an iterator of its own"), 1)


if __name__ == "__main__":
    unittest.main()
