# SPDX-License-Identifier: MIT
"""A server that ends kernels nobody uses: it leaves one alone that trains, whatever else it was asked meanwhile, and ends one
that crashed.  Through its connections the first cell after a restart is heard whole.

Needs a Python with jupyter_server: the one of NABLUA_JUPYTERLAB, or that of `./dev notebook`, else the one that runs
this.  With NABLUA_PROVE=1 the training takes a minute, and there are 50 restarts.
"""
import json
import os
import re
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
for python in (os.environ.get("NABLUA_JUPYTERLAB", ""), os.path.join(ROOT, "build/notebook/bin/python")):
    if os.path.exists(python) and os.path.dirname(python) != os.path.dirname(sys.executable):
        os.environ.pop("NABLUA_JUPYTERLAB", None)
        os.execv(python, [python] + sys.argv)

import kernels  # noqa: E402  (in the Python that was chosen)

try:
    import jupyter_server  # noqa: F401
    import websocket
except ImportError:
    kernels.skip("this needs a Python with jupyter_server, see NABLUA_JUPYTERLAB")
if kernels.SANITIZED:
    kernels.skip("once is enough")

IDLE = 5  # seconds until a kernel is ended
TRAINS, RESTARTS = (60, 50) if os.environ.get("NABLUA_PROVE") == "1" else (4 * IDLE, 8)
CODE = ("w = nb.zeros(4, {requires_grad=true}) opt = optim.SGD({w}, {lr=0.1}) local t = os.time() "
        "while os.time() - t < %d do opt:zero_grad() w:sum():backward() opt:step() nb.sleep(0.02) end return 'whole'" % TRAINS)


class Culling(unittest.TestCase):
    def setUp(self):
        self.server = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--port=0", "--IdentityProvider.token=",
             "--ServerApp.disable_check_xsrf=True", "--MappingKernelManager.cull_idle_timeout=%d" % IDLE,
             "--MappingKernelManager.cull_interval=1", "--MappingKernelManager.cull_connected=True"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=kernels.HOME)
        self.addCleanup(self.server.communicate)
        self.addCleanup(self.server.terminate)
        for line in self.server.stderr:
            found = re.search(r"http://(?:localhost|127\.0\.0\.1):(\d+)/", line)
            if found:
                self.address = "127.0.0.1:" + found.group(1)
                break
        end = time.monotonic() + kernels.TIMEOUT
        while True:
            try:
                self.ask("status")
                break
            except urllib.error.URLError:  # it says where it will be
                self.assertLess(time.monotonic(), end)
                time.sleep(0.2)

    def ask(self, path, content=None):
        data = json.dumps(content).encode() if content is not None else None
        with urllib.request.urlopen(urllib.request.Request("http://%s/api/%s" % (self.address, path), data),
                                    timeout=kernels.TIMEOUT) as r:
            return json.load(r)

    def lives(self, kernel):
        try:
            return self.ask("kernels/" + kernel)
        except urllib.error.HTTPError as e:
            self.assertEqual(e.code, 404)
            return None

    def send(self, socket, kind, content):
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": self.session, "username": "", "version": "5.3",
                  "date": ""}
        socket.send(json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content,
                                "channel": "shell", "buffers": []}))
        return header["msg_id"]

    def reply(self, socket, msg_id):
        while True:
            m = json.loads(socket.recv())
            if m["parent_header"].get("msg_id") == msg_id and m["channel"] == "shell":
                return m["content"]

    def begin(self):
        """A kernel, and a connection to it."""
        kernel = self.ask("kernels", {"name": "nablua"})["id"]
        self.session = uuid.uuid4().hex
        return kernel, websocket.create_connection(
            "ws://%s/api/kernels/%s/channels?session_id=%s" % (self.address, kernel, self.session),
            timeout=TRAINS + kernels.TIMEOUT)

    def execute(self, socket, code):
        return self.send(socket, "execute_request", {"code": code, "silent": False, "store_history": True,
                                                     "user_expressions": {}, "allow_stdin": False, "stop_on_error": True})

    def is_ended(self, kernel):
        """Waits for that; seconds it took."""
        begun = time.monotonic()
        while self.lives(kernel):
            self.assertLess(time.monotonic() - begun, 6 * IDLE)
            time.sleep(0.5)
        return time.monotonic() - begun

    def test_a_kernel_that_crashed_is_ended(self):
        kernel, socket = self.begin()
        self.reply(socket, self.execute(socket, "x = 1"))
        self.execute(socket, "os.execute 'kill -9 $PPID'")
        states = set()
        begun = time.monotonic()
        while "starting" not in states:  # of the next one
            self.assertLess(time.monotonic() - begun, kernels.TIMEOUT)
            states.add(json.loads(socket.recv())["content"].get("execution_state"))
        took = self.is_ended(kernel)
        print("figure: a kernel that crashed was heard starting again and ended %.1f s later, with %d s allowed" % (took, IDLE),
              flush=True)

    def test_the_first_cell_after_a_restart_is_whole(self):
        kernel, socket = self.begin()
        self.reply(socket, self.execute(socket, "x = 1"))
        for i in range(RESTARTS):
            self.ask("kernels/%s/restart" % kernel, {})
            cell = self.execute(socket, "print('first %d') return %d" % (i, i))
            kinds, texts = [], []
            while "idle" not in kinds:
                m = json.loads(socket.recv())
                kind = m["content"].get("execution_state", m["msg_type"])
                if m["parent_header"].get("msg_id") != cell or m["channel"] != "iopub":
                    continue
                if kind != "busy" or not kinds:  # said again when the server has asked something meanwhile
                    kinds.append(kind)
                    texts.append(m["content"].get("text") or m["content"].get("data", {}).get("text/plain"))
            self.assertEqual(kinds, ["busy", "execute_input", "stream", "execute_result", "idle"], "restart %d" % i)
            self.assertEqual(texts[2:4], ["first %d\n" % i, str(i)])
        print("figure: after %d of %d restarts over REST the first cell was whole" % (RESTARTS, RESTARTS), flush=True)

    def test_a_kernel_that_trains_is_not_ended(self):
        kernel, socket = self.begin()
        begun = time.monotonic()
        cell = self.execute(socket, CODE)
        time.sleep(1)
        completion = self.reply(socket, self.send(socket, "complete_request", {"code": "nb.ra", "cursor_pos": 5}))
        self.assertIn("rand", completion["matches"])
        answered = time.monotonic() - begun
        while time.monotonic() - begun < TRAINS - 1:
            model = self.lives(kernel)
            self.assertIsNotNone(model, "ended after %.0f s" % (time.monotonic() - begun))
            self.assertEqual(model["execution_state"], "busy")
            time.sleep(0.5)
        self.assertEqual(self.reply(socket, cell)["status"], "ok")
        took = self.is_ended(kernel)
        print("figure: a completion was answered %.1f s into a training of %d s, which was left alone; idle, the kernel was "
              "ended after %.1f s" % (answered, TRAINS, took), flush=True)
        self.assertGreater(took, IDLE - 1)


if __name__ == "__main__":
    unittest.main()
