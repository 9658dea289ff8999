# SPDX-License-Identifier: MIT
"""The kernel beside ipykernel in one run: start, round trip, printed lines, memory.

Both are spawned alike, on ports that are chosen before, and a client connects once these accept: libzmq would repeat a
refused connection only after 100 ms.  Medians.  What the first request of a start asks of the control channel is answered
at once; on shell, ours waits until listeners have had time to come back (200 ms after the last), so that none of them
misses an output.
"""
import contextlib
import hashlib
import hmac
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

try:
    import ipykernel
    import zmq
except ImportError:
    print("skipped: this needs ipykernel and pyzmq")
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KERNEL = os.environ.get("NABLUA_KERNEL", os.path.join(ROOT, "build/release/nablua-kernel"))
STARTS, TRIPS, LINES, PRINTS = 9, 500, 10000, 9
KEY = b"a key"
COMMANDS = {"nablua": [KERNEL, "-f"], "ipykernel": [sys.executable, "-m", "ipykernel_launcher", "-f"]}
PRINT = {"nablua": "for i = 1, %d do print(i) end" % LINES, "ipykernel": "for i in range(%d): print(i)" % LINES}


class Kernel:
    def __init__(self, name):
        held = [socket.socket() for _ in range(5)]
        for s in held:
            s.bind(("127.0.0.1", 0))
        self.ports = dict(zip(("shell", "iopub", "stdin", "control", "hb"), (s.getsockname()[1] for s in held)))
        info = {p + "_port": n for p, n in self.ports.items()}
        info.update(transport="tcp", ip="127.0.0.1", key=KEY.decode(), signature_scheme="hmac-sha256")
        self.file = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump(info, self.file)
        self.file.flush()
        for s in held:
            s.close()
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(COMMANDS[name] + [self.file.name], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        for port in self.ports.values():
            self.wait_for(port)
        self.context = zmq.Context()
        self.shell, self.control = self.context.socket(zmq.DEALER), self.context.socket(zmq.DEALER)
        self.shell.connect("tcp://127.0.0.1:%d" % self.ports["shell"])
        self.control.connect("tcp://127.0.0.1:%d" % self.ports["control"])
        self.iopub = self.context.socket(zmq.SUB)
        self.iopub.subscribe(b"")
        self.iopub.connect("tcp://127.0.0.1:%d" % self.ports["iopub"])

    def wait_for(self, port):
        while self.process.poll() is None:
            with contextlib.closing(socket.socket()) as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.0005)
        raise SystemExit("the kernel ended")

    def request(self, msg_type, content, channel="shell"):
        """Sends a request and receives its reply."""
        header = {"msg_id": uuid.uuid4().hex, "session": "s", "username": "u", "msg_type": msg_type, "version": "5.3",
                  "date": "2024-01-01T00:00:00Z"}
        parts = [json.dumps(p).encode() for p in (header, {}, {}, content)]
        mac = hmac.new(KEY, b"".join(parts), hashlib.sha256).hexdigest().encode()
        channel = getattr(self, channel)
        channel.send_multipart([b"<IDS|MSG>", mac] + parts)
        channel.recv_multipart()
        return header["msg_id"].encode()

    def execute(self, code):
        return self.request("execute_request", {"code": code, "silent": False, "store_history": True, "allow_stdin": False,
                                                "stop_on_error": True, "user_expressions": {}})

    def wait_idle(self, msg_id):
        text = 0
        while True:
            frames = self.iopub.recv_multipart()
            at = frames.index(b"<IDS|MSG>")
            content = json.loads(frames[at + 5])
            text += len(content.get("text", ""))
            if msg_id in frames[at + 3] and content.get("execution_state") == "idle":
                return text

    def close(self):
        self.process.kill()
        self.process.wait()
        self.context.destroy(0)
        self.file.close()


def start_ms(name):
    """Milliseconds to the first reply on control, and to the one on shell."""
    k, took = Kernel(name), []
    for channel in ("control", "shell"):
        k.request("kernel_info_request", {}, channel)
        took.append((time.perf_counter() - k.begin) * 1e3)
    k.close()
    return took


def measure(name):
    k = Kernel(name)
    k.wait_idle(k.request("kernel_info_request", {}))
    with open("/proc/%d/status" % k.process.pid, encoding="ascii") as f:
        resident = next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS"))
    trips, prints = [], []
    for _ in range(TRIPS):
        begin = time.perf_counter()
        msg_id = k.execute("1")
        trips.append((time.perf_counter() - begin) * 1e3)
        k.wait_idle(msg_id)
    for _ in range(PRINTS):
        begin = time.perf_counter()
        text = k.wait_idle(k.execute(PRINT[name]))
        prints.append((time.perf_counter() - begin) * 1e3)
        assert text == sum(len(str(i)) + 1 for i in range(LINES)) + (4 if name == "nablua" else 0), text
    k.close()
    return statistics.median(trips), statistics.median(prints), resident


def main():
    os.environ["XDG_STATE_HOME"] = os.environ["IPYTHONDIR"] = tempfile.mkdtemp()
    starts = {name: [] for name in COMMANDS}
    for _ in range(STARTS):
        for name in COMMANDS:
            starts[name].append(start_ms(name))
    rows = {name: tuple(map(statistics.median, zip(*starts[name]))) + measure(name) for name in COMMANDS}
    print("beside ipykernel %s              nablua  ipykernel    ratio   at least" % ipykernel.__version__)
    for i, (what, goal) in enumerate((("start to kernel_info_reply, ms", 15), ("  on shell, for listeners, ms", 1),
                                      ("execute_request round trip, ms", 3),
                                      ("%d printed lines, ms" % LINES, 3), ("memory when idle, MB", 5))):
        ours, theirs = rows["nablua"][i], rows["ipykernel"][i]
        print("%-32s %9.2f  %9.2f  %6.1f×  %6d×" % (what, ours, theirs, theirs / ours, goal))


if __name__ == "__main__":
    main()
