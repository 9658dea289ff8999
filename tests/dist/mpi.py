# SPDX-License-Identifier: MIT
"""Programs that run on several ranks, started by mpirun; without it, or without nablua/dist.so, tests are skipped (77)."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))
FOLDER = os.path.dirname(NABLUA)
MPIRUN = shutil.which("mpirun")
TIMEOUT = 120

if not MPIRUN:
    print("skipped: there is no mpirun (Debian: openmpi-bin)")
    sys.exit(77)
if not any(os.path.exists(os.path.join(FOLDER, place, "nablua/dist.so")) for place in ("lib", "../lib")):
    print("skipped: nablua was built without MPI (Debian: libopenmpi-dev)")
    sys.exit(77)


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NABLUA", "OMPI", "PMI"))}
    env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", LC_ALL="C.UTF-8", NABLUA_SEED="7")
    env.update(more)
    return env


class Program:
    """A script on `n` ranks, under way."""

    def __init__(self, n, code, *arguments, program=None, launcher=None, **variables):
        self.script = tempfile.NamedTemporaryFile("w", suffix=".lua", prefix="t", delete=False)
        self.script.write(code)
        self.script.close()
        launcher = launcher or ([MPIRUN, "--oversubscribe", "-n", str(n)] if n > 1 else [])
        self.process = subprocess.Popen([*launcher, *(program or [NABLUA]), self.script.name, *arguments],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env=environment(**variables), start_new_session=True, cwd=ROOT)
        self.begun = time.monotonic()

    def end(self, timeout=TIMEOUT):
        """exit status, output, complaints; what does not end is killed, and an error."""
        try:
            self.out, self.err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.out, self.err = self.process.communicate()
            raise AssertionError("it hangs: " + self.out + self.err) from None
        finally:
            os.unlink(self.script.name)
        self.seconds = time.monotonic() - self.begun
        return self.process.returncode, self.out, self.err


def run(n, code, *arguments, **variables):
    return Program(n, code, *arguments, **variables).end()


def is_alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def numbers(text):
    return [float(word) for word in re.findall(r"-?\d+\.?\d*(?:e[-+]?\d+)?", text)]
