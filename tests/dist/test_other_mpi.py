# SPDX-License-Identifier: MIT
"""Open MPI and MPICH side by side: each one's launcher with a module of its own, and with the other's."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from mpi import NABLUA, ROOT, Program

# As Debian calls them where both are installed.
OTHERS = {"Open MPI": ("mpicc.openmpi", "mpirun.openmpi"), "MPICH": ("mpicc.mpich", "mpirun.mpich")}
missing = [name for names in OTHERS.values() for name in names if not shutil.which(name)]
if missing:
    print("skipped: there is no %s (Debian: libopenmpi-dev, openmpi-bin, libmpich-dev, mpich)" % ", ".join(missing))
    sys.exit(77)

TRAIN = """
nb.seed(1)
local net = dist.parallel(nn.Linear(400, 300))
net(nb.full({ 1, 400 }, dist.rank)):sum():backward()
local g = net.weight.grad
io.write(("%d/%d %.1f %.1f\\n"):format(dist.rank, dist.size, g:min():item(), g:max():item()))
"""


class OtherMPI(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.programs = {}
        for name, (compiler, _) in OTHERS.items():
            place = os.path.join(cls.folder.name, name.replace(" ", ""))
            os.makedirs(os.path.join(place, "lib/nablua"))
            cls.programs[name] = shutil.copy(NABLUA, place)
            subprocess.run([compiler, "-std=c17", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC",
                            os.path.join(ROOT, "lua/dist/mpi.c"), "-o", os.path.join(place, "lib/nablua/dist.so")],
                           check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_with(self, launcher, module):
        slots = ["--oversubscribe"] if launcher == "Open MPI" else []
        return Program(2, TRAIN, launcher=[OTHERS[launcher][1], *slots, "-n", "2"], program=[self.programs[module]]).end()

    def test_each_with_its_own(self):
        for name in OTHERS:
            status, out, err = self.run_with(name, name)
            self.assertEqual(status, 0, err)
            self.assertEqual(sorted(out.splitlines()), ["1/2 1.5 1.5", "2/2 1.5 1.5"])
            self.assertIn("dist: 2 ranks", err)
            self.assertIn(name, err)

    def check(self, launcher, module):
        status, out, err = self.run_with(launcher, module)
        self.assertNotEqual(status, 0)
        self.assertEqual(out, "")
        self.assertIn("the launcher started 2 ranks, but this process finds itself alone: its MPI is " + module, err)
        self.assertIn("use the mpirun of that MPI", err)

    def test_mpichs_mpirun_with_a_module_of_open_mpi(self):
        self.check("MPICH", "Open MPI")

    def test_open_mpis_mpirun_with_a_module_of_mpich(self):
        self.check("Open MPI", "MPICH")


if __name__ == "__main__":
    unittest.main()
