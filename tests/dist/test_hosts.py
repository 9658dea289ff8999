# SPDX-License-Identifier: MIT
"""Two machines: network namespaces, with names of their own, between which only TCP and datagrams go."""
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest

from mpi import NABLUA, MPIRUN, ROOT, Program, environment, is_alive, run, wait_for

NAME = "nablua%d" % (os.getpid() % 1000)
HOSTS = {"10.77.%d.%d" % (os.getpid() % 250, k): NAME + letter for k, letter in ((1, "a"), (2, "b"))}
A, B = HOSTS

# What the launcher calls in place of ssh: HOST COMMAND...
AGENT = """#!/bin/sh
case $1 in %s *) echo "no route to $1" >&2; exit 255 ;; esac
shift
exec ip netns exec $space unshare -u sh -c 'hostname "$0"; exec sh -c "$*"' $space "$@"
""" % " ".join("%s) space=%s ;;" % pair for pair in HOSTS.items())


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True)


def build():
    """Whether the two could be made."""
    made = [ip("netns", "add", space) for space in HOSTS.values()]
    made.append(ip("link", "add", NAME + "x", "netns", HOSTS[A], "type", "veth", "peer", "name", NAME + "y", "netns",
                   HOSTS[B]))
    for (address, space), end in zip(HOSTS.items(), "xy"):
        for words in (("link", "set", "lo", "up"), ("addr", "add", address + "/24", "dev", NAME + end),
                      ("link", "set", NAME + end, "up")):
            made.append(ip("-n", space, *words))
    bad = [r.stderr.strip() for r in made if r.returncode != 0]
    return bad[0] if bad else None


class Hosts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            why = build()
        except OSError as e:
            why = str(e)
        if why:
            cls.tearDownClass()
            raise unittest.SkipTest("no network namespaces can be made here: " + why)
        with tempfile.NamedTemporaryFile("w", prefix="agent", delete=False) as f:
            f.write(AGENT)
        os.chmod(f.name, 0o700)
        cls.agent = f.name

    @classmethod
    def tearDownClass(cls):
        for space in HOSTS.values():
            try:
                ip("netns", "del", space)
            except OSError:
                pass
        if hasattr(cls, "agent"):
            os.unlink(cls.agent)

    def variables(self):
        return {"OMPI_MCA_plm_rsh_agent": self.agent, "PRTE_MCA_plm_ssh_agent": self.agent}

    def inside(self, *words):
        """Words that run a program on the first machine."""
        return ["ip", "netns", "exec", HOSTS[A], "unshare", "-u", "sh", "-c", 'hostname "$0"; exec "$@"', HOSTS[A], *words]

    def program(self, code, *arguments, **more):
        """Two ranks on each of them."""
        launcher = self.inside(MPIRUN, "--host", "%s:2,%s:2" % (A, B), "-n", "4")
        return Program(4, code, *arguments, launcher=launcher, **self.variables(), **more)

    def test_a_training_is_that_of_one_process(self):
        code = """
        nb.seed(5)
        local x = nb.randn(64, 6):to("f64")
        local y = x:sum(2):view(64, 1):tanh()
        local net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)):to("f64")
        local opt = optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
        nn.fit(net, nn.MSELoss(), opt, { x, y }, { epochs = 5, size = 20, progress = false })
        if dist.rank == 1 then
          for _, p in ipairs(net:parameters()) do
            for _, v in ipairs(p:detach():reshape(-1):totable()) do print(("%.17g"):format(v)) end
          end
        end
        """
        status, alone, err = run(1, code)
        self.assertEqual(status, 0, err)
        status, out, err = self.program(code).end()
        self.assertEqual(status, 0, err)
        self.assertIn("4 ranks, 2 of them on this machine", err)
        pairs = list(zip(map(float, alone.split()), map(float, out.split())))
        self.assertEqual(len(pairs), 65)
        self.assertLess(max(abs(a - b) for a, b in pairs), 1e-12)

    def test_who_does_nothing_on_another_machine_is_named_and_ends_all(self):
        p = self.program("""
        dist.barrier()
        if dist.rank == 4 then nb.sleep(100) end
        dist.allreduce_(nb.ones(2, 3))
        """, NABLUA_STALL="3")
        status, _, err = p.end()
        self.assertNotEqual(status, 0)
        self.assertLess(p.seconds, 40)
        self.assertRegex(err, r"rank 4 has not come: it neither computes nor exchanges; its last was barrier at .*:2")
        self.assertRegex(err, r"rank 3 waits in allreduce_ \(sum\) of f32 2×3 at .*\.lua:4 \(exchange 2\)")
        self.assertIn("that is twice the time of NABLUA_STALL; ending all ranks", err)

    def test_who_computes_for_long_on_another_machine_is_no_hang(self):
        p = self.program("""
        if dist.rank == 4 then
          local t = os.clock()
          while os.clock() - t < 4 do nb.ones(1000):sum() end
        end
        dist.barrier()
        io.write("ok\\n")
        """, NABLUA_STALL="3")
        status, out, err = p.end()
        self.assertEqual((status, out), (0, "ok\n" * 4), err)
        self.assertNotIn("nobody has gone on", err)

    def test_a_stopped_rank_of_another_machine_is_named(self):
        p = self.program("""
        local f = io.open("/proc/self/stat")
        io.write(dist.rank, " ", f:read("n"), "\\n") io.flush()
        for i = 1, 1e9 do dist.allreduce_(nb.ones(5)) end
        """, NABLUA_STALL="4")
        pids = dict(p.process.stdout.readline().split() for _ in range(4))
        time.sleep(1)
        os.kill(int(pids["4"]), signal.SIGSTOP)
        status, _, err = p.end()
        self.assertNotEqual(status, 0)
        self.assertRegex(err, r"rank 4 \(process %s on %s\) gives no sign of life: it is stopped" % (pids["4"], HOSTS[B]))
        self.assertFalse(wait_for(lambda: any(is_alive(int(pid)) for pid in pids.values()), 5) and
                         any(is_alive(int(pid)) for pid in pids.values()))

    def test_an_error_on_another_machine_comes_with_its_rank(self):
        status, _, err = self.program("""
        dist.barrier()
        if dist.rank == 3 then error("no such file") end
        dist.barrier()
        """).end()
        self.assertNotEqual(status, 0)
        self.assertRegex(err, r"\[rank 3\] .*\.lua:3: no such file")

    def prompt(self, *lines):
        r = subprocess.run(self.inside(NABLUA, "-i", "--no-banner"), input="\n".join(lines) + "\n", text=True,
                           capture_output=True, timeout=100, env=environment(**self.variables()), cwd=ROOT)
        return re.sub(r"(?m)^(\d+> |  *\| )+", "", r.stdout), r.stderr

    def test_workers_of_a_prompt(self):
        out, err = self.prompt(
            "dist.start(4, {hosts={%r, 'localhost'}})" % B, "%on 2 io.popen('hostname'):read 'l'",  # this one comes first
            "%on 4 io.popen('hostname'):read 'l'", "%all dist.allreduce_(nb.tensor{dist.rank}):item()",
            "%all if dist.rank == 3 then error('bad luck') end dist.barrier()",
            "%all dist.allreduce_(nb.tensor{dist.rank}):item()", "%on 2 nb.sleep(0.8)", "dist.where()")
        self.assertIn('[2] "%s"' % HOSTS[A], out, err)
        self.assertIn('[4] "%s"' % HOSTS[B], out, err)
        self.assertEqual(out.count("[2, 3, 4] 10.0"), 2, out + err)
        self.assertRegex(out, r"\[3\] input \d+:1: bad luck")
        self.assertRegex(out, r"rank 4  process \d+ on %s  exchange" % HOSTS[B])

    def test_an_interrupt_reaches_other_machines(self):
        p = subprocess.Popen(self.inside(NABLUA, "-i", "--no-banner"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, env=environment(**self.variables()), cwd=ROOT)
        p.stdin.write("dist.start(2, {hosts={%r}})\n%%all print('begun') io.flush() while true do end\n" % B)
        p.stdin.flush()
        seen = ""
        while "begun" not in seen:
            seen += p.stdout.read(1)
        time.sleep(1)
        os.kill(p.pid, signal.SIGINT)
        out, _ = p.communicate("%on 2 dist.rank * 100\n", timeout=60)
        self.assertIn("[2] 200", out)

    def test_nothing_is_left_on_another_machine(self):
        p = subprocess.Popen(self.inside(NABLUA, "-i", "--no-banner"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, env=environment(**self.variables()), cwd=ROOT)
        p.stdin.write("dist.start(3, {hosts={%r}})\n%%on 2-3 print('pid', io.open('/proc/self/stat'):read 'n')\n"
                      "%%all while true do end\n" % B)
        p.stdin.flush()
        pids, seen = [], ""
        while len(pids) < 2:
            seen += p.stdout.read(1)
            pids = [int(n) for n in re.findall(r"pid\s+(\d+)\n", seen)]
        time.sleep(1)
        p.kill()  # while they compute
        p.wait()
        p.stdin.close()
        p.stdout.close()
        self.assertTrue(wait_for(lambda: not any(map(is_alive, pids))))

    def test_machines_that_do_not_answer_are_sentences(self):
        _, err = self.prompt("dist.start(2, {hosts={'10.77.0.9'}})", "dist.start(2, {hosts={}})",
                             "dist.start(2, {hosts={'-x'}})")
        self.assertIn("host 10.77.0.9 does not answer: no route to 10.77.0.9", err)
        self.assertIn("hosts must be a list of names of machines, got an empty one", err)
        self.assertIn("hosts must be names of machines, got \"-x\"", err)


if __name__ == "__main__":
    unittest.main()
