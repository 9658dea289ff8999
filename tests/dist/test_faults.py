# SPDX-License-Identifier: MIT
"""What goes wrong on a rank ends all of them in time, with a sentence that names it."""
import os
import signal
import tempfile
import time
import unittest

from mpi import Program, is_alive, run, wait_for


# A training of 6 epochs of 4 steps with a checkpoint after each second.  In step 11 one rank stays in
# the place that is named until something happens to it; the checkpoint is some MB, so that it is caught in writing.
TRAIN = """
local path, place, rank = arg[1], arg[2], tonumber(arg[3])
nb.seed(3)
local wide = place == "checkpoint" and 1000 or 8
local x, y = nb.randn(40, 4), nb.randn(40, 1)
local net = nn.Sequential(nn.Linear(4, wide), nn.Dropout(0.5), nn.Linear(wide, wide), nn.Linear(wide, 1))
local opt = optim.Adam(net:parameters(), { lr = 1e-3 })
local loss, n = nn.MSELoss(), 0
local function say()
  local f <close> = io.open("/proc/self/stat")
  io.write(("pid %d %d\\n"):format(dist.rank, f:read "n")) io.flush()
end
local function stay()
  if dist.rank ~= rank then return end
  io.write("there\\n") io.flush()
  while true do nb.ones(100):sum() end
end
say()
nn.fit(net, function(output, target)
  n = n + 1
  if n == 11 and place == "forward" then stay() end
  if n == 11 and place == "backward" then output:register_hook(function() stay() end) end
  return loss(output, target)
end, opt, { x, y }, { epochs = 6, size = 10, checkpoint = path, checkpoint_every = 2, progress = false })
if dist.rank == 1 then
  for _, p in ipairs(net:parameters()) do io.write(("%.9g "):format(p:detach():sum():item())) end
  print()
end
"""


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

    def test_who_validates_for_long_is_no_hang(self):
        # As a validation on rank 1 of a minute is, where NABLUA_STALL is 30 s.
        status, out, err = run(2, """
        local net = nn.Linear(2, 1)
        nn.fit(net, nn.MSELoss(), optim.SGD(net:parameters(), { lr = 0.1 }), { nb.ones(4, 2), nb.ones(4, 1) },
          { epochs = 2, progress = false, callback = function()
            local t = os.clock()
            while dist.rank == 1 and os.clock() - t < 2 do net(nb.ones(1000, 2)) end
          end })
        print("ok")
        """, NABLUA_STALL="1")
        self.assertEqual((status, out), (0, "ok\nok\n"), err)
        self.assertNotIn("nobody has gone on", err)

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


class Deaths(unittest.TestCase):
    """A rank that dies, or is stopped, in a forward pass, a backward, a checkpoint."""

    whole = {}  # what a training of the large net, or of the small one, comes to where nothing happens

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(folder.name, "x.safetensors")

    def train(self, place):
        status, out, err = run(3, TRAIN, self.path, place, "0")
        self.assertEqual(status, 0, err)
        return out.splitlines()[-1]

    def strike(self, place, rank, number, **variables):
        """Sends the signal to the rank once it is there: what it says to the end, and its process."""
        p = Program(3, TRAIN, self.path, place, str(rank), **variables)
        pids, there = {}, place == "checkpoint"
        while len(pids) < 3 or not there:
            line = p.process.stdout.readline()
            self.assertTrue(line, "it ended before")
            there = there or line == "there\n"
            if line.startswith("pid "):
                pids[int(line.split()[1])] = int(line.split()[2])
        if place == "checkpoint":  # there is one, and another is being written
            self.assertTrue(wait_for(lambda: os.path.exists(self.path)))
            begun = os.stat(self.path).st_mtime_ns
            while os.stat(self.path).st_mtime_ns == begun or len(os.listdir(self.folder)) < 2:
                self.assertIsNone(p.process.poll(), "it ended before")
        os.kill(pids[rank], number)
        struck = time.monotonic()
        status, _, err = p.end()
        self.assertNotEqual(status, 0)
        self.assertLess(time.monotonic() - struck, 20)
        self.assertTrue(wait_for(lambda: not any(map(is_alive, pids.values()))), "processes are left")
        return err, pids[rank]

    def check_killed(self, place, rank):
        err, pid = self.strike(place, rank, signal.SIGKILL)
        # mpirun counts from 0, and may be the first to know
        self.assertRegex(err, r"rank %d \(process %d\) has died|process rank %d with PID|rank: %d" % (rank, pid, rank - 1, rank - 1))
        # What is left is whole, and the same command goes on from it to the bits of one that nobody has killed.
        got = self.train(place)
        if (place == "checkpoint") not in self.whole:
            os.unlink(self.path)
            self.whole[place == "checkpoint"] = self.train(place)
        self.assertEqual(got, self.whole[place == "checkpoint"])

    def check_stopped(self, place, rank):
        err, pid = self.strike(place, rank, signal.SIGSTOP, NABLUA_STALL="2.5")
        self.assertRegex(err, r"rank %d \(process %d\) gives no sign of life: it is stopped" % (rank, pid))

    def test_killed_in_a_forward_pass(self):
        self.check_killed("forward", 3)

    def test_killed_in_a_backward(self):
        self.check_killed("backward", 2)

    def test_killed_in_a_checkpoint(self):
        self.check_killed("checkpoint", 1)

    def test_stopped_in_a_forward_pass(self):
        self.check_stopped("forward", 3)

    def test_stopped_in_a_backward(self):
        self.check_stopped("backward", 2)

    def test_stopped_in_a_checkpoint(self):
        self.check_stopped("checkpoint", 1)


if __name__ == "__main__":
    unittest.main()
