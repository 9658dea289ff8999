# SPDX-License-Identifier: MIT
"""Exchanges between ranks: what each is given follows from the ranks' numbers."""
import subprocess
import unittest

from mpi import NABLUA, FOLDER, environment, run

# Each line that is printed begins with the rank.
SHOW = """
local r, n = dist.rank, dist.size
local function show(name, t)
  local values = nb.is_tensor(t) and table.concat(t:to("f64"):reshape(-1):totable(), " ") or tostring(t)
  io.write(("%d %s %s %s\\n"):format(r, name, nb.is_tensor(t) and t.dtype or "-", values))
end
"""


def lines(n, code, **variables):
    """{(rank, name): "dtype values"} of what show() wrote."""
    status, out, err = run(n, SHOW + code, **variables)
    assert status == 0, err
    found = {}
    for line in out.splitlines():
        rank, name, rest = line.split(" ", 2)
        found[int(rank), name] = rest
    return found


class Exchanges(unittest.TestCase):
    def test_reductions_of_every_dtype(self):
        got = lines(3, """
        for _, dtype in ipairs{"f32", "f64", "i64", "u8"} do
          show("sum-" .. dtype, dist.allreduce_(nb.tensor({r, 10 * r}, {dtype=dtype})))
          show("max-" .. dtype, dist.allreduce_(nb.tensor({r, -r % 7}, {dtype=dtype}), {op="max"}))
          show("min-" .. dtype, dist.allreduce_(nb.tensor({r, -r % 7}, {dtype=dtype}), {op="min"}))
        end
        show("mean", dist.allreduce_(nb.tensor{r, 10 * r}, {op="mean"}))
        show("any", dist.allreduce_(nb.tensor{r == 2, false}, {op="max"}))
        show("all", dist.allreduce_(nb.tensor{r < 4, r == 2}, {op="min"}))
        """)
        for r in (1, 2, 3):
            for dtype in ("f32", "f64", "i64", "u8"):
                self.assertEqual(got[r, "sum-" + dtype], dtype + " 6.0 60.0")
                self.assertEqual(got[r, "max-" + dtype], dtype + " 3.0 6.0")
                self.assertEqual(got[r, "min-" + dtype], dtype + " 1.0 4.0")
            self.assertEqual(got[r, "mean"], "f32 2.0 20.0")
            self.assertEqual(got[r, "any"], "bool 1.0 0.0")
            self.assertEqual(got[r, "all"], "bool 1.0 0.0")

    def test_one_to_all_and_all_to_one(self):
        got = lines(3, """
        show("broadcast", dist.broadcast_(nb.tensor{r, 2 * r}, {from=2}))
        show("reduce", dist.reduce_(nb.tensor{r}, {to=3}))
        show("gather", dist.gather(nb.tensor({r, -r}, {dtype="i64"})))
        show("gather3", dist.gather(nb.tensor{r}, {to=3}))
        show("scatter", dist.scatter(r == 2 and nb.tensor{{1, 2}, {3, 4}, {5, 6}} or nil, {from=2}))
        """)
        for r in (1, 2, 3):
            self.assertEqual(got[r, "broadcast"], "f32 2.0 4.0")
            self.assertEqual(got[r, "reduce"], "f32 6.0" if r == 3 else "f32 %.1f" % r)
            self.assertEqual(got[r, "gather"], "i64 1.0 -1.0 2.0 -2.0 3.0 -3.0")
            self.assertEqual(got[r, "gather3"], "f32 1.0 2.0 3.0" if r == 3 else "- nil")
            self.assertEqual(got[r, "scatter"], "f32 %.1f %.1f" % (2 * r - 1, 2 * r))

    def test_one_to_one_in_a_ring(self):
        got = lines(3, """
        if r == 1 then
          dist.send(nb.tensor({{true, false}}), 2)
          show("ring", dist.receive(3))
        else
          local t = dist.receive(r - 1)
          show("shape", nb.tensor(t.shape))
          dist.send(t, r % n + 1)
        end
        """)
        self.assertEqual(got[1, "ring"], "bool 1.0 0.0")
        self.assertEqual(got[3, "shape"], "f32 1.0 2.0")

    def test_sums_in_pieces(self):
        # Longer than a piece, and of lengths that no number of ranks divides; whole numbers are exact.
        got = lines(3, """
        for _, count in ipairs { 1, 15, 1025, 3000001 } do
          for _, dtype in ipairs { "f32", "f64" } do
            local t = (nb.arange(1, count) % 1000):to(dtype)
            local sum = dist.allreduce_(t * (r == 3 and 10 or r))
            show(dtype .. "-" .. count, (sum - t * 13):abs():max())
          end
        end
        """)
        self.assertEqual(len(got), 24)
        for (rank, name), value in got.items():
            self.assertEqual(value, name[:3] + " 0.0", name)

    def test_views_empties_and_large_ones(self):
        got = lines(2, """
        local x = nb.zeros(3, 4)
        dist.allreduce_(x.T[2]:fill_(r))
        show("column", x)
        dist.broadcast_(x[{{2, 3}, {3, 4}}]:fill_(10 * r), {from=2})
        show("block", x)
        show("empty", nb.tensor(dist.allreduce_(nb.zeros(0, 3)).shape))
        show("none", nb.tensor(dist.gather(nb.zeros(0)).shape))
        show("scalar", dist.allreduce_(nb.tensor(r)))
        local large = nb.full(3000001, r)
        dist.allreduce_(large)
        show("large", nb.stack{large:min(), large:max()})
        local w = nb.tensor({r}, {requires_grad=true})
        dist.allreduce_(w)
        show("leaf", w:detach())
        """)
        for r in (1, 2):
            self.assertEqual(got[r, "column"], "f32 " + " ".join(["0.0 3.0 0.0 0.0"] * 3))
            self.assertEqual(got[r, "block"], "f32 0.0 3.0 0.0 0.0 " + " ".join(["0.0 3.0 20.0 20.0"] * 2))
            self.assertEqual(got[r, "empty"], "f32 0.0 3.0")
            self.assertEqual(got[r, "none"], "f32 2.0 0.0")
            self.assertEqual(got[r, "scalar"], "f32 3.0")
            self.assertEqual(got[r, "large"], "f32 3.0 3.0")
            self.assertEqual(got[r, "leaf"], "f32 3.0")

    def test_random_numbers_are_alike_until_the_net_is_parallel(self):
        got = lines(2, """
        show("before", nb.rand(3))
        dist.parallel(nn.Linear(2, 2))
        show("after", nb.rand(3))
        """)
        self.assertEqual(got[1, "before"], got[2, "before"])
        self.assertNotEqual(got[1, "after"], got[2, "after"])
        alone = lines(1, 'nb.rand(3) nn.Linear(2, 2) show("after", nb.rand(3))')
        self.assertEqual(alone[1, "after"], got[1, "after"])

    def test_bad_arguments_are_sentences(self):
        got = lines(2, """
        local function why(name, f, ...)
          local _, message = pcall(f, ...)
          show(name, (message:gsub("^[^ ]+ ", "")))
        end
        why("mean", dist.allreduce_, nb.tensor({1}, {dtype="i64"}), {op="mean"})
        why("bool", dist.allreduce_, nb.tensor{true})
        why("rank", dist.broadcast_, nb.ones(1), {from=3})
        why("self", dist.send, nb.ones(1), r)
        why("tape", dist.allreduce_, nb.ones(1, {requires_grad=true}) * 2)
        why("rows", dist.scatter, nb.ones(3), {from=r})
        """)
        for r in (1, 2):
            self.assertEqual(got[r, "mean"], '- dist.allreduce_: the mean needs f32 or f64, got i64; use t:to("f32")')
            self.assertEqual(got[r, "bool"], "- dist.allreduce_: there is no sum of bool; use max for any, min for all")
            self.assertEqual(got[r, "rank"], "- dist.broadcast_: from must be a rank from 1 to 2, got 3")
            self.assertEqual(got[r, "self"], "- dist.send: rank %d is this one itself" % r)
            self.assertIn("no gradient flows through an exchange", got[r, "tape"])
            self.assertIn("the first dimension must be the 2 ranks, got shape 3", got[r, "rows"])

    def test_alone_everything_is_as_it_was(self):
        code = """
        show("sum", dist.allreduce_(nb.tensor{3, 4}))
        show("mean", dist.allreduce_(nb.tensor{3, 4}, {op="mean"}))
        show("gather", nb.tensor(dist.gather(nb.ones(2)).shape))
        show("scatter", dist.scatter(nb.tensor{{5, 6}}))
        show("size", nb.tensor{dist.rank, dist.size})
        dist.barrier()
        """
        expected = {"sum": "f32 3.0 4.0", "mean": "f32 3.0 4.0", "gather": "f32 1.0 2.0", "scatter": "f32 5.0 6.0",
                    "size": "f32 1.0 1.0"}
        self.assertEqual(lines(1, code), {(1, name): value for name, value in expected.items()})

    def test_programs_that_a_rank_runs_are_alone(self):
        status, out, err = run(2, """
        dist.barrier()
        os.execute(arg[1] .. " -e 'print(dist.size, dist.allreduce_(nb.ones(1)):item())'")
        """, NABLUA)
        self.assertEqual((status, out), (0, "1\t1.0\n" * 2), err)

    def test_a_stock_interpreter_has_it_too(self):
        code = SHOW.replace("local r", "local nb = require 'nablua' local dist = nb.dist local r") + """
        show("sum", dist.allreduce_(nb.tensor{r}))
        """
        from mpi import Program
        status, out, err = Program(2, code, program=["lua5.4"], LUA_CPATH=FOLDER + "/?.so;;").end()
        self.assertEqual((status, sorted(out.splitlines())), (0, ["1 sum f32 3.0", "2 sum f32 3.0"]), err)

    def test_without_the_module_a_sentence_says_what_to_install(self):
        import os
        import shutil
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copy(NABLUA, os.path.join(folder, "nablua"))
            env = environment(OMPI_COMM_WORLD_SIZE="2")
            r = subprocess.run([copy, "-e", "print(dist.rank)"], capture_output=True, text=True, env=env, timeout=60)
            self.assertEqual(r.returncode, 1)
            self.assertIn("no nablua/dist.so: install MPI (Debian: libopenmpi-dev, openmpi-bin)", r.stderr)
            r = subprocess.run([copy, "-e", "print(dist.rank)"], capture_output=True, text=True, env=environment(),
                               timeout=60)
            self.assertEqual((r.returncode, r.stdout), (0, "1\n"))


if __name__ == "__main__":
    unittest.main()
