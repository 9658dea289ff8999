# SPDX-License-Identifier: MIT
"""What goes wrong on a rank ends all of them in time, with a sentence that names it."""
import os
import re
import signal
import time
import unittest

from mpi import Program, run


class Faults(unittest.TestCase):
    def fails(self, n, code, pattern, seconds=30, **variables):
        p = Program(n, code, **variables)
        status, _, err = p.end()
        self.assertNotEqual(status, 0, err)
        self.assertRegex(err, pattern)
        self.assertLess(p.seconds, seconds)
        return err

    def test_another_shape(self):
        self.fails(3, "dist.allreduce_(nb.zeros(2, dist.rank == 2 and 3 or 4))",
                   r"\[rank \d\].*the ranks do not meet in exchange 1: ranks 1 and 3: allreduce_ \(sum\) of f32 2×4 at "
                   r".*\.lua:1; rank 2: allreduce_ \(sum\) of f32 2×3")

    def test_another_dtype(self):
        self.fails(2, 'dist.broadcast_(nb.zeros(2, { dtype = dist.rank == 2 and "f64" or "f32" }))',
                   r"rank 1: broadcast_ \(from rank 1\) of f32 2 at .*; rank 2: broadcast_ \(from rank 1\) of f64 2")

    def test_another_order(self):
        self.fails(2, """
        local function a() dist.barrier() end
        local function b() dist.allreduce_(nb.ones(1)) end
        if dist.rank == 1 then a() b() else b() a() end
        """, r"rank 1: barrier at .*\.lua:2; rank 2: allreduce_ \(sum\) of f32 1 at .*\.lua:3")

    def test_a_rank_that_leaves_out_an_exchange(self):
        self.fails(3, "if dist.rank ~= 2 then dist.barrier() end",
                   r"barrier at .*\.lua:1: rank 2 has ended its program and will not come")
        self.fails(2, "if dist.rank == 1 then dist.barrier() end dist.allreduce_(nb.ones(2))",
                   r"rank 1: barrier at .*; rank 2: allreduce_")

    def test_a_rank_that_leaves_out_a_backward(self):
        self.fails(2, """
        local net = dist.parallel(nn.Linear(2, 1))
        for step = 1, 5 do
          local J = net(nb.ones(1, 2)):sum()
          if step ~= 3 or dist.rank == 1 then J:backward() end
          dist.allreduce_(nb.ones(3))
        end
        """, r"rank 1: backward of 2 parameters, the mean of \w+ first at .*\.lua:5; rank 2: allreduce_")

    def test_an_error_on_one_rank_ends_all(self):
        err = self.fails(3, """
        local net = dist.parallel(nn.Linear(2, 1))
        if dist.rank == 3 then error("no such file") end
        net(nb.ones(1, 2)):sum():backward()
        """, r"\[rank 3\] .*\.lua:3: no such file", seconds=20)
        complaints = [line for line in err.splitlines() if "[rank" in line]
        self.assertIn("no such file", complaints[0])  # it comes first

    def test_who_does_nothing_is_named_and_ends_all(self):
        err = self.fails(3, """
        dist.barrier()
        if dist.rank == 2 then nb.sleep(100) end
        dist.allreduce_(nb.ones(2, 3))
        """, r"rank 2 has not come: it neither computes nor exchanges; its last was barrier at .*\.lua:2",
                         NABLUA_STALL="1.5")
        self.assertRegex(err, r"rank 3 waits in allreduce_ \(sum\) of f32 2×3 at .*\.lua:4 \(exchange 2\)")
        self.assertIn("that is twice the time of NABLUA_STALL; ending all ranks", err)

    def test_who_computes_for_long_is_no_hang(self):
        status, out, err = run(2, """
        if dist.rank == 1 then
          local begun = nb.ones(1)
          local t = os.clock()
          while os.clock() - t < 7 do begun = begun + nb.ones(1000):sum() end
        end
        dist.barrier()
        print("ok")
        """, NABLUA_STALL="3")
        self.assertEqual((status, out), (0, "ok\nok\n"), err)
        self.assertNotIn("nobody has gone on", err)

    def pid_of(self, p, rank):
        """The process of a rank, which it has printed."""
        for line in p.process.stdout:
            found = re.match(r"(\d+) (\d+)", line)
            if found and int(found.group(1)) == rank:
                return int(found.group(2))
        self.fail("no process")

    TRAIN = """
    local f = io.open("/proc/self/stat") local pid = f:read("n") f:close()
    local net = dist.parallel(nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 1)))
    local opt = optim.SGD(net:parameters(), { lr = 1e-3 })
    io.write(dist.rank, " ", pid, "\\n") io.flush()
    for step = 1, 1e9 do
      opt:zero_grad()
      net(nb.ones(20, 50)):sum():backward()
      opt:step()
    end
    """

    def test_a_killed_rank(self):
        p = Program(3, self.TRAIN)
        os.kill(self.pid_of(p, 3), signal.SIGKILL)
        killed = time.monotonic()
        status, _, err = p.end()
        self.assertNotEqual(status, 0)
        self.assertLess(time.monotonic() - killed, 15)
        # mpirun counts from 0
        self.assertRegex(err, r"rank 3 \(process \d+\) has died|process rank 2 with PID")

    def test_a_stopped_rank(self):
        p = Program(3, self.TRAIN, NABLUA_STALL="4")
        pid = self.pid_of(p, 2)
        os.kill(pid, signal.SIGSTOP)
        status, _, err = p.end()
        self.assertNotEqual(status, 0)
        self.assertRegex(err, r"rank 2 \(process %d\) gives no sign of life: it is stopped" % pid)
        self.assertRegex(err, r"rank [13] waits in the gradient of \d\.\w+: backward of 4 parameters")

    def test_the_wrong_mpirun(self):
        # As MPICH's mpirun starts a process: this MPI does not know of the others.
        status, _, err = run(1, "print(dist.rank)", PMI_SIZE="4", PMI_RANK="1")
        self.assertEqual(status, 1)
        self.assertRegex(err, r"the launcher started 4 ranks, but this process finds itself alone: its MPI is Open MPI")

    def test_nothing_more_is_exchanged_after_a_failure(self):
        status, out, err = run(2, """
        print(pcall(dist.allreduce_, nb.ones(dist.rank)))
        print(select(2, pcall(dist.barrier)))
        """)
        # The first that comes to its end ends the other, which may not have come to the second line.
        self.assertIn("the group exchanges nothing more since this failed: dist: the ranks do not", out, err)


if __name__ == "__main__":
    unittest.main()
