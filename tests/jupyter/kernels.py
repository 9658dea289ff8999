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
VISITED = os.environ.get("NABLUA_VISITED") == "1"  # somebody asks each kernel all the while, see Visitor
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
os.environ["JUPYTER_PREFER_ENV_PATH"] = "0"  # a kernel that was installed beside the Python that runs this is another one
for name in [v for v in os.environ if v.startswith("NABLUA_") and v != "NABLUA_KERNEL"]:
    if name in ("NABLUA_MEMORY", "NABLUA_SEED", "NABLUA_THREADS"):
        del os.environ[name]
subprocess.run([KERNEL, "install", "--user"], check=True, stdout=subprocess.DEVNULL)
meant = jupyter_client.kernelspec.get_kernel_spec("nablua").argv[0]
if not os.path.samefile(meant, KERNEL):
    sys.exit("clients would start %s, not %s" % (meant, KERNEL))


class Client:
    """A blocking client, and what it heard."""

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        return getattr(self.client, name)

    def outputs(self, msg_id, timeout=TIMEOUT):
        """What iopub says to a request, busy and idle included."""
        messages = []
        end = time.monotonic() + timeout * (4 if VISITED else 1)  # behind all that was said to who visits
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


COUNT = """
require("nablua.session.comms").register("visits", function(comm)
  comm.on_message = function(data) comm:send { last = data.i } end
end)
"""


class Visitor:
    """Somebody who asks a kernel all the while: completions and inspections, messages to a comm, cells of subshells."""

    MOST = 24  # questions without an answer, so that a kernel that is busy in C has no mountain before it afterwards
    PAUSE = 0.02 if SANITIZED else 0.005

    def __init__(self, info):
        # A client of the manager's own would have its identity, and get its answers.
        self.client = jupyter_client.BlockingKernelClient()
        self.client.load_connection_info(info)
        self.over, self.answered, self.asked, self.answers, self.wrong = threading.Event(), threading.Event(), {}, 0, []
        self.thread = threading.Thread(target=self.visit, daemon=True)
        self.thread.start()
        self.answered.wait(TIMEOUT)

    def send(self, msg_type, content, channel="shell", **header):
        m = self.client.session.msg(msg_type, content)
        m["header"].update(header)
        getattr(self.client, channel + "_channel").send(m)
        return m["header"]["msg_id"]

    def control(self, msg_type, content):
        """The reply's content; None when there is none before the end."""
        msg_id = self.send(msg_type, content, "control")
        while not self.over.is_set():
            with contextlib.suppress(queue.Empty):
                m = self.client.get_control_msg(timeout=0.1)
                if m["parent_header"].get("msg_id") == msg_id:
                    return m["content"]
        return None

    def execute(self, code, subshell):
        return self.send("execute_request", {"code": code, "silent": False, "store_history": True, "user_expressions": {},
                                             "allow_stdin": False, "stop_on_error": True}, subshell_id=subshell)

    def questions(self):
        """Asks one after the other, for ever; gives the name of each that is answered and what the answer must have."""
        number = 0
        while True:
            made = self.control("create_subshell_request", {})
            if not made:
                return
            subshell = made["subshell_id"]
            yield self.execute(COUNT, subshell), "ok"
            self.send("comm_open", {"comm_id": subshell, "target_name": "visits", "data": {}}, subshell_id=subshell)
            for _ in range(20):
                number += 1
                yield self.send("complete_request", {"code": "nb.ra", "cursor_pos": 5}), "ok"
                self.send("comm_msg", {"comm_id": subshell, "data": {"i": number}})
                yield self.execute("print(%d) return 6 * 7" % number, subshell), "ok"
                self.send("comm_msg", {"comm_id": subshell, "data": {"i": number}}, subshell_id=subshell)
                yield self.send("inspect_request", {"code": "nb.randn", "cursor_pos": 5, "detail_level": 0}), "ok"
            yield self.execute("error 'of the visitor'", subshell), "error"
            for msg_id in self.asked:
                self.asked[msg_id] = None  # those of this subshell may come when it is no more
            self.control("delete_subshell_request", {"subshell_id": subshell})

    def hear(self):
        with contextlib.suppress(queue.Empty):
            while True:
                m = self.client.get_shell_msg(timeout=0)
                expected = self.asked.pop(m["parent_header"]["msg_id"])
                status = m["content"]["status"]
                self.answers += 1
                self.answered.set()
                # An interrupt is for a visitor as well.
                if expected and status not in (expected, "aborted") and m["content"].get("ename") != "KeyboardInterrupt":
                    self.wrong.append(m)

    def visit(self):
        try:
            self.client.start_channels(hb=False, iopub=False, stdin=False)
            for msg_id, status in self.questions():
                self.asked[msg_id] = status
                while not self.over.wait(self.PAUSE):
                    self.hear()
                    if len(self.asked) < self.MOST:
                        break
                if self.over.is_set():
                    return
        finally:
            self.client.stop_channels()

    def end(self):
        self.over.set()
        self.thread.join(TIMEOUT)
        if self.wrong:
            raise AssertionError("a visitor was answered with %s" % self.wrong[0])
        print("figure: %d answers to who visits" % self.answers, flush=True)


@contextlib.contextmanager
def kernel(name="nablua", **options):
    """A started kernel: (manager, Client)."""
    manager = jupyter_client.KernelManager(kernel_name=name)
    manager.shutdown_wait_time = 10 if SANITIZED else 5
    manager.start_kernel(**options)
    c, visitor = manager.client(), None
    try:
        client = connect(c)
        if VISITED and name == "nablua":
            visitor = Visitor(manager.get_connection_info())
        yield manager, client
    finally:
        if visitor:
            visitor.end()
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
