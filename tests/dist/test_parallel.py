# SPDX-License-Identifier: MIT
"""Parallel nets: the mean over ranks is what one process has of the whole batch."""
import os
import re
import tempfile
import unittest

from mpi import run

# A small net on made data; arguments: what to try, dtype, the file for its parameters.
TRAIN = """
local what, dtype, path = arg[1], arg[2], arg[3]
nb.seed(5)
local n, d = 64, 10
local x = nb.randn(4 * n, d):to(dtype)
local y = (x:mm(nb.randn(d, 1):to(dtype)) + 0.1 * nb.randn(4 * n, 1):to(dtype)):tanh()
local net = nn.Sequential(nn.Linear(d, 32), nn.Tanh(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1)):to(dtype)
if dist.rank > 1 then for _, p in ipairs(net:parameters()) do nb.no_grad(p.fill_, p, 0) end end  -- rank 1's count
dist.parallel(net, { bucket = 1000 })
local opt = what == "Adam" and optim.Adam(net:parameters()) or
  optim.SGD(net:parameters(), { lr = 0.05, momentum = 0.9 })
local loss, times = nn.MSELoss(), what == "accumulate" and 2 or 1
local function part(k)
  local m = n // dist.size
  local first = k * n + (dist.rank - 1) * m + 1
  return x[{ { first, first + m - 1 } }], y[{ { first, first + m - 1 } }]
end
for step = 1, 200 do
  opt:zero_grad()
  for a = 1, times do
    local function back()
      local bx, by = part((step * times + a) % 4)
      local J = loss(net(bx), by) / times
      J:backward()
    end
    if a < times then dist.no_sync(back) else back() end
  end
  opt:step()
end
local all = {}
for i, p in ipairs(net:parameters()) do all[i] = p:detach():reshape(-1) end
local flat = nb.cat(all)
assert(dist.gather(flat):eq(flat):all():item(), "the ranks differ")
if dist.rank == 1 then
  nb.save(path, { p = flat })
  local f = dist.figures(net)
  print(f.exchanges, f.overlap)
end
"""


class Parallel(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name + ".safetensors")

    def train(self, n, what, dtype, name):
        status, out, err = run(n, TRAIN, what, dtype, self.path(name))
        self.assertEqual(status, 0, err)
        return out

    def difference(self, a, b):
        status, out, err = run(1, 'local a, b = nb.load(arg[1]).p, nb.load(arg[2]).p print((a - b):abs():max():item())',
                               self.path(a), self.path(b))
        self.assertEqual(status, 0, err)
        return float(out)

    def check(self, what, dtype, most):
        self.train(1, what, dtype, "alone")
        for n in (2, 4):
            out = self.train(n, what, dtype, "group%d" % n)
            self.assertEqual(out.split()[0], "200")
            self.assertLess(self.difference("alone", "group%d" % n), most)

    def test_sgd(self):
        self.check("SGD", "f32", 1e-6)

    def test_adam(self):
        # The mathematics is seen in f64.  In f32 Adam makes other roundings as large as its steps are: at ten times this
        # rate a single process is some 1e-6 from its own f64.
        self.check("Adam", "f64", 1e-12)
        self.check("Adam", "f32", 1e-6)

    def test_accumulation(self):
        self.check("accumulate", "f32", 1e-6)

    def test_the_same_bits_twice(self):
        for name in ("first", "second"):
            self.train(4, "Adam", "f32", name)
        with open(self.path("first"), "rb") as a, open(self.path("second"), "rb") as b:
            self.assertEqual(a.read(), b.read())

    def test_buckets_are_on_their_way_before_the_end(self):
        self.assertGreater(float(self.train(2, "SGD", "f32", "x").split()[1]), 0.3)

    def test_parameters_that_some_or_no_ranks_use(self):
        status, out, err = run(2, """
        local net = nn.Module and nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 1))
          or nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 1))
        for _, p in ipairs(net:parameters()) do nb.no_grad(p.fill_, p, 1) end
        dist.parallel(net)
        for _ = 1, 2 do
          net:zero_grad()
          local h = net[1](nb.ones(1, 2))
          if dist.rank == 1 then h = net[2](h) end
          h:sum():backward()
          if dist.rank == 2 then
            print(net[2].weight.grad:sum():item(), net[2].bias.grad:item(), net[3].weight.grad)
          end
        end
        if dist.rank == 1 then print(table.concat(dist.figures(net).unused, " ")) end
        """)
        self.assertEqual(status, 0, err)
        # h = 3, 3: of rank 1 the weight's gradient is {3, 3}, of rank 2 there is none; the mean is {1.5, 1.5}.
        self.assertEqual(sorted(out.splitlines()), ["3.0\t0.5\tnil", "3.0\t0.5\tnil", "3.weight 3.bias"])
        self.assertEqual(len(re.findall(r"2 of 6 parameters had no gradient on any rank.*: 3\.weight, 3\.bias", err)), 1)

    def test_sums_in_place_of_means(self):
        status, out, err = run(2, """
        local net = nn.Linear(1, 1)
        dist.parallel(net, { reduce = "sum" })
        net(nb.full({ 1, 1 }, dist.rank)):sum():backward()
        print(net.weight.grad:item(), net.bias.grad:item())
        """)
        self.assertEqual((status, out), (0, "3.0\t2.0\n" * 2), err)

    def test_a_shared_parameter_and_hooks(self):
        status, out, err = run(2, """
        local w = nn.Linear(1, 1, { bias = false })
        nb.no_grad(w.weight.fill_, w.weight, 2)
        local net = nn.Sequential(w, w)
        w.weight:register_hook(function(g) return g * 10 end)
        dist.parallel(net)
        net(nb.full({ 1, 1 }, dist.rank)):sum():backward()
        print(w.weight.grad:item())
        """)
        # d(w·w·x)/dw = 2·w·x = 4·x; the hook makes it 40·x; the mean of x is 1.5.
        self.assertEqual((status, out), (0, "60.0\n" * 2), err)

    def test_large_gradients_lie_where_they_are_summed(self):
        status, out, err = run(2, """
        local net = nn.Sequential(nn.Linear(600, 601, { bias = false }), nn.Linear(3, 3, { bias = false }))
        local w, small = net[1].weight, net[2].weight
        dist.parallel(net)
        local function back(k) (w * (dist.rank * k)):sum():backward() end
        local function all(t) return t:min():item() == t:max():item() and t:max():item() end
        back(1)
        local held = w.grad
        dist.no_sync(back, 2)
        local own = all(w.grad) - 2 * dist.rank
        back(1)
        small:sum():backward()  -- w takes part with what it has
        local seen = { all(held), own, all(w.grad), all(small.grad) }
        w.grad = nil
        local J = w.T:sum() * dist.rank
        J = J + (w * 0):sum()
        J:backward()
        seen[5] = all(w.grad)
        w.grad = nil
        if dist.rank == 1 then w:sum():backward() else small:sum():backward() end
        seen[6] = all(w.grad)
        io.write(table.concat(seen, " ") .. "\\n")
        """)
        # Of ranks 1 and 2: 1.5; then 1.5 + 2·rank, and with rank more of both the mean is 1.5 + 3·1.5.
        self.assertEqual((status, out), (0, "1.5 1.5 6.0 1.0 1.5 0.5\n" * 2), err)

    def test_two_nets_in_one_backward(self):
        status, out, err = run(3, """
        local a, b = nn.Linear(300, 300, { bias = false }), nn.Linear(300, 301, { bias = false })
        for _, net in ipairs { a, b } do
          nb.no_grad(net.weight.fill_, net.weight, 1)
          dist.parallel(net)
        end
        for _ = 1, 5 do
          a:zero_grad() b:zero_grad()
          b(a(nb.full({ 1, 300 }, dist.rank))):sum():backward()
        end
        local function all(t) return t:min():item() == t:max():item() and t:max():item() end
        io.write(("%g %g\\n"):format(all(a.weight.grad), all(b.weight.grad)))
        """)
        # With x = rank everywhere da = 301·x and db = 300·x; the mean of ranks is 2.
        self.assertEqual((status, out), (0, "602 600\n" * 3), err)

    def test_a_parameter_of_two_parallel_nets_is_summed_once(self):
        status, out, err = run(2, """
        local part = nn.Linear(600, 600)
        local whole = nn.Sequential(part, nn.Linear(600, 1))
        dist.parallel(part, { reduce = "sum" })
        dist.parallel(whole, { reduce = "sum" })
        whole(nb.full({ 1, 600 }, dist.rank)):sum():backward()
        local ratio = part.weight.grad[1][1] / part.bias.grad[1]
        io.write(("%.4f %g\\n"):format(ratio:item(), whole[2].bias.grad:item()))
        """)
        # The weight's gradient is x times the bias', which are equal on all ranks: of the sums it is 3 to 2.
        self.assertEqual((status, out), (0, "1.5000 2\n" * 2), err)

    def test_the_timeline_shows_when_buckets_went(self):
        status, out, err = run(2, """
        local layers = {}
        for i = 1, 6 do layers[i] = nn.Linear(400, 400) end
        local net = nn.Sequential(layers)
        dist.parallel(net)
        print(dist.rank, #dist.timeline(net).buckets)
        for _ = 1, 3 do
          net:zero_grad()
          net(nb.rand(200, 400)):sum():backward()
        end
        local t = dist.timeline(net)
        assert(t.walked > 0 and t.done >= t.walked and t.hidden >= 0 and t.hidden <= 1)
        local bytes, params = 0, 0
        for i, b in ipairs(t.buckets) do
          assert(0 < b.full and b.full <= b.begun and b.begun <= b.ended and b.ended <= t.done)
          assert(i == 1 or b.begun >= t.buckets[i - 1].begun)
          bytes, params = bytes + b.bytes, params + b.count
        end
        assert(bytes == 6 * (400 * 400 + 400) * 4 and params == 12)
        assert(t.buckets[1].full < t.walked and t.buckets[1].first == "6.weight")
        if dist.rank == 1 then print(t) end
        """)
        self.assertEqual(status, 0, err)
        self.assertIn("1\t0\n", out)
        self.assertRegex(out, r"backward \S+ .?s, all gradients there \S+ .?s later; \d+ % of the exchange beside it")
        self.assertRegex(out, r"(?m)^6\.weight +640 kB [ ·]*█+")

    def test_a_compiled_step_is_not_replayed(self):
        status, out, err = run(2, """
        local net = dist.parallel(nn.Linear(1, 1, { bias = false }))
        nb.no_grad(net.weight.fill_, net.weight, 1)
        local opt = optim.SGD(net:parameters(), { lr = 1 })
        local step = nb.compile(function(x)
          opt:zero_grad()
          net(x):sum():backward()
          opt:step()
        end)
        for _ = 1, 4 do step(nb.full({ 1, 1 }, dist.rank)) end
        print(net.weight:item())
        """)
        self.assertEqual((status, out), (0, "-5.0\n" * 2), err)
        self.assertIn("its gradients are taken as they arrive", err)

    def test_nets_that_differ_are_told_apart(self):
        status, _, err = run(2, "dist.parallel(nn.Linear(2, dist.rank))")
        self.assertNotEqual(status, 0)
        self.assertRegex(err, r"the ranks do not meet in exchange 1: rank 1: barrier for dist.parallel of 2 tensors, "
                         r"bias 1 first \(\w+\) at .*; rank 2: barrier for dist.parallel of 2 tensors, bias 2 first")

    def test_drift_is_named(self):
        status, _, err = run(3, """
        local net = dist.parallel(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), { drift = 5 })
        local opt = optim.SGD(net:parameters(), { lr = 0.1 })
        for step = 1, 20 do
          if step == 3 and dist.rank == 2 then nb.no_grad(net[2].weight.mul_, net[2].weight, 1.001) end
          opt:zero_grad()
          net(nb.ones(1, 2)):sum():backward()
          opt:step()
        end
        """)
        self.assertEqual(status, 1)
        self.assertIn("the ranks have drifted apart: 2.weight is another on rank 2 than on rank 1 (compared after 5 "
                      "exchanges)", err)


if __name__ == "__main__":
    unittest.main()
