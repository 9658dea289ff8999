# SPDX-License-Identifier: MIT
"""Kernels for the tests: installed in a folder of their own, started, talked to, looked at."""
import atexit
import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KERNEL = os.environ.get("NABLUA_KERNEL", os.path.join(ROOT, "build/release/nablua-kernel"))
BUILD = os.path.basename(os.path.dirname(KERNEL))
SANITIZED = BUILD in ("asan", "tsan", "hostile")
TIMEOUT = int(os.environ.get("NABLUA_TEST_LIMIT") or (120 if SANITIZED else 30))


def skip(why):
    print("skipped: " + why)
    sys.exit(77)


try:
    import jupyter_client
except ImportError:
    skip("this needs jupyter_client")

# Everything that a kernel or a client keeps goes here.
HOME = tempfile.mkdtemp(prefix="nablua-jupyter-")
atexit.register(shutil.rmtree, HOME, True)
for variable, folder in (("JUPYTER_DATA_DIR", "data"), ("JUPYTER_RUNTIME_DIR", "runtime"), ("JUPYTER_CONFIG_DIR", "config"),
                         ("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "xdg"), ("IPYTHONDIR", "ipython")):
    os.environ[variable] = os.path.join(HOME, folder)
    os.makedirs(os.environ[variable], 0o700, exist_ok=True)
os.environ["JUPYTER_PLATFORM_DIRS"] = "1"
for name in [v for v in os.environ if v.startswith("NABLUA_") and v != "NABLUA_KERNEL"]:
    if name in ("NABLUA_MEMORY", "NABLUA_SEED", "NABLUA_THREADS"):
        del os.environ[name]
subprocess.run([KERNEL, "install", "--user"], check=True, stdout=subprocess.DEVNULL)


class Client:
    """A blocking client, and what it heard."""

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        return getattr(self.client, name)

    def outputs(self, msg_id, timeout=TIMEOUT):
        """What iopub says to a request, busy and idle included."""
        messages = []
        end = time.monotonic() + timeout
        while True:
            m = self.client.get_iopub_msg(timeout=max(end - time.monotonic(), 0.01))
            if m["parent_header"].get("msg_id") != msg_id:
                continue
            messages.append(m)
            if m["msg_type"] == "status" and m["content"]["execution_state"] == "idle":
                return messages

    def reply(self, msg_id, timeout=TIMEOUT):
        end = time.monotonic() + timeout
        while True:
            m = self.client.get_shell_msg(timeout=max(end - time.monotonic(), 0.01))
            if m["parent_header"].get("msg_id") == msg_id:
                return m

    def control_reply(self, msg_id, timeout=TIMEOUT):
        end = time.monotonic() + timeout
        while True:
            m = self.client.get_control_msg(timeout=max(end - time.monotonic(), 0.01))
            if m["parent_header"].get("msg_id") == msg_id:
                return m

    def send(self, msg_type, content, channel="shell"):
        m = self.client.session.msg(msg_type, content)
        getattr(self.client, channel + "_channel").send(m)
        return m["header"]["msg_id"]

    def request(self, msg_type, content, channel="shell"):
        """The reply's content."""
        msg_id = self.send(msg_type, content, channel)
        return (self.control_reply if channel == "control" else self.reply)(msg_id)["content"]

    def run(self, code, timeout=TIMEOUT, **options):
        """The reply's content and what was said on the way, without statuses and the echo of the input."""
        msg_id = self.client.execute(code, **options)
        messages = [m for m in self.outputs(msg_id, timeout) if m["msg_type"] not in ("status", "execute_input")]
        return self.reply(msg_id, timeout)["content"], messages

    def text(self, code, **options):
        """What a cell prints and the text of its value."""
        reply, messages = self.run(code, **options)
        if reply["status"] != "ok":
            raise AssertionError("%s failed: %s" % (code, reply))
        return text_of(messages)


def text_of(messages):
    parts = []
    for m in messages:
        if m["msg_type"] == "stream":
            parts.append(m["content"]["text"])
        elif "text/plain" in m["content"].get("data", ()):
            parts.append(m["content"]["data"]["text/plain"] + "\n")
    return "".join(parts)


def connect(client, timeout=TIMEOUT):
    """Starts a client's channels and waits until it is heard and hears; its own waiting takes a second."""
    client.start_channels(hb=False)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        msg_id = client.kernel_info()
        with contextlib.suppress(queue.Empty):
            c = Client(client)
            c.reply(msg_id, timeout=5)
            c.outputs(msg_id, timeout=1)
            return c
    raise AssertionError("the kernel does not answer")


class Visitors:
    """With NABLUA_VISITORS=1, somebody who asks a kernel all the while: completions, and cells of a subshell."""

    def __init__(self, manager):
        self.manager, self.over, self.answers = manager, threading.Event(), 0
        self.thread = threading.Thread(target=self.visit, daemon=True)
        if os.environ.get("NABLUA_VISITORS") == "1":
            self.thread.start()

    def visit(self):
        client = self.manager.client()
        client.start_channels(hb=False, iopub=False, stdin=False)
        try:
            control = client.session.msg("create_subshell_request", {})
            client.control_channel.send(control)
            subshell = client.get_control_msg(timeout=TIMEOUT)["content"]["subshell_id"]
            while not self.over.wait(0.01):
                client.complete("nb.ra", 5)
                cell = client.session.msg("execute_request", {
                    "code": "return 6 * 7", "silent": True, "store_history": False, "user_expressions": {},
                    "allow_stdin": False, "stop_on_error": False})
                cell["header"]["subshell_id"] = subshell
                client.shell_channel.send(cell)
                with contextlib.suppress(queue.Empty):
                    while True:
                        self.answers += client.get_shell_msg(timeout=0)["content"]["status"] == "ok"
        except queue.Empty:
            pass  # the kernel has ended
        finally:
            client.stop_channels()

    def end(self):
        self.over.set()
        if self.thread.is_alive():
            self.thread.join(TIMEOUT)
            print("figure: %d answers to somebody who visits" % self.answers, flush=True)


@contextlib.contextmanager
def kernel(name="nablua", **options):
    """A started kernel: (manager, Client)."""
    manager = jupyter_client.KernelManager(kernel_name=name)
    manager.shutdown_wait_time = 10 if SANITIZED else 5
    manager.start_kernel(**options)
    c = manager.client()
    visitors = None
    try:
        connected = connect(c)
        visitors = Visitors(manager)
        yield manager, connected
    finally:
        if visitors:
            visitors.end()
        c.stop_channels()
        if manager.has_kernel:
            manager.shutdown_kernel(now=False)


def slack():
    """How much longer than alone things may take now: other programs use the processors too, and sanitizers slow."""
    return max(1, 3 * os.getloadavg()[0] / os.cpu_count()) * (20 if SANITIZED else 1)


def process_of(manager):
    return manager.provisioner.process if hasattr(manager, "provisioner") else manager.kernel


def resident(pid):
    """Bytes of memory that a process holds."""
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        for line in f:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
    return 0


def kill(pid, number=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
