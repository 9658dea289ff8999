# SPDX-License-Identifier: MIT
"""Everything that goes wrong around a kernel: bad messages, floods, stalled and killed clients, crashes, races.

With --kernel python3 the tests run against ours and ipykernel, and a table says where each stands; names of tests (Class
or Class.test) after that choose among them.  Another kernel is interrupted as its own manager does it, and its programs
are children that it may end in its way; a bad message that it answers all the same is no fault of its.
"""
import concurrent.futures
import functools
import glob
import hashlib
import hmac
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

import jupyter_client
import zmq

PEER = None
if "--kernel" in sys.argv:
    at = sys.argv.index("--kernel")
    PEER = sys.argv[at + 1]
    del sys.argv[at:at + 2]

import kernels  # noqa: E402
from kernels import KERNEL, SANITIZED, TIMEOUT, connect, kernel, process_of, resident, slack, text_of  # noqa: E402

# Where a sanitizer looks on, somebody visits each kernel all the while.
kernels.VISITED = os.environ.get("NABLUA_VISITED", "1" if SANITIZED else "0") == "1"
NAME, OURS = "nablua", True  # whom the tests look at, see compare()
MB = 1 << 20
LONG = os.environ.get("NABLUA_LONG_TESTS")
BIG = 100 * MB if LONG else 5 * MB if SANITIZED or PEER else 10 * MB
NAP = "6543.%06d" % os.getpid()  # what the children of this run's kernels are known by
TSAN = kernels.BUILD == "tsan"

# The same deeds in both languages.
CODE = {
    "print": ("print('%s')", "print('%s')"),
    "value": ("x", "x"),
    "lines": ("for i = 1, %d do print(i) end", "for i in range(1, %d + 1): print(i)"),
    "displays": ("for i = 1, %d do display(i) end", "for i in range(%d): display(i)"),
    "big output": ("io.write(('x'):rep(%d));", "import sys; sys.stdout.write('x' * %d); None"),
    "sleep": ("nb.sleep(%g)", "import time; time.sleep(%g)"),
    "loop": ("while true do end", "while True: pass"),
    "catching loop": ("while true do pcall(function() while true do end end) end", None),
    "coroutine": ("coroutine.wrap(function() while true do end end)()", None),
    "sort": ("local t = {}; for i = 1, 1000000 do t[i] = (i * 7919) % 1000003 end\n"
             "print('begun') while true do table.sort(t) end",
             "while True: sorted(range(1000000))"),
    "find": ("local s = ('a'):rep(30000); while true do s:find('.-.-.-.-b') end", None),
    "program": ("os.execute('sleep %s')" % NAP, "import subprocess; subprocess.call('sleep %s', shell=True)" % NAP),
    "ask": ("input('who? ')", "input('who? ')"),
    # Long work in C that leaves Python's lock alone, as products of matrices do.
    "native": ("local a = nb.randn(1500, 1500); for i = 1, 100000 do a:matmul(a) end",
               "import hashlib\nwhile True: hashlib.pbkdf2_hmac('sha256', b'', b'', 100000)"),
    "one native": ("local a = nb.randn(6000, 6000); a:matmul(a);",
                   "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 200000000)"),
    "fail": ("error('on purpose')", "raise Exception('on purpose')"),
    "fail when told": ("input('now? ') error('on purpose')", "input('now? '); raise Exception('on purpose')"),
    "set": ("x = %d", "x = %d"),
    "recursion": ("local function f() return 1 + f() end f()", "def f(): return 1 + f()\nf()"),
    "memory": ("('x'):rep(1 << 62)", "'x' * (1 << 62)"),
    "kill": ("os.execute('kill -%s $PPID')", "import os; os.system('kill -%s $PPID')"),
    "child": ("p = io.popen('exec sleep %s')" % NAP, "import subprocess; p = subprocess.Popen(['sleep', '%s'])" % NAP),
    "job": ("os.execute('sleep %s &')" % NAP, "import os; os.system('sleep %s &')" % NAP),
    "stubborn job": ("os.execute('(trap \"\" TERM; exec sleep %s) &')" % NAP,
                     "import os; os.system('(trap \"\" TERM; exec sleep %s) &')" % NAP),
    "flood": ("while true do io.write(('x'):rep(1000), '\\n') end", "while True: print('x' * 1000)"),
}


def code(what, *values):
    text = CODE[what][0 if OURS else 1]
    if text is None:
        raise unittest.SkipTest("has no counterpart there")
    return text % values if values else text


def ours_only(test):
    @functools.wraps(test)
    def run(self):
        if not OURS:
            raise unittest.SkipTest("is ours")
        test(self)
    return run


class Wire:
    """A client that can send anything."""

    def __init__(self, manager, channel="shell", identity=None):
        self.info = manager.get_connection_info()
        key = self.info["key"]
        self.key = key if isinstance(key, bytes) else key.encode()
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        if identity:
            self.socket.setsockopt(zmq.IDENTITY, identity)
        self.socket.connect("tcp://127.0.0.1:%d" % self.info[channel + "_port"])
        self.session = uuid.uuid4().hex

    def header(self, msg_type):
        return {"msg_id": uuid.uuid4().hex, "session": self.session, "username": "u", "msg_type": msg_type,
                "version": "5.3", "date": "2024-01-01T00:00:00.000000Z"}

    def frames(self, msg_type, content, header=None):
        parts = [json.dumps(p).encode() for p in (header or self.header(msg_type), {}, {}, content)]
        return [b"<IDS|MSG>", self.sign(parts)] + parts

    def sign(self, parts):
        if not self.key:
            return b""
        mac = hmac.new(self.key, digestmod=hashlib.sha256)
        for p in parts:
            mac.update(p)
        return mac.hexdigest().encode()

    def send(self, frames):
        self.socket.send_multipart(frames)

    def receive(self, timeout=TIMEOUT):
        """The header of a message's parent, and its content; None when nothing comes."""
        if not self.socket.poll(timeout * 1000):
            return None
        frames = self.socket.recv_multipart()
        at = frames.index(b"<IDS|MSG>")
        return json.loads(frames[at + 3]), json.loads(frames[at + 5])

    def ask(self, others=0):
        """Whether a good request is answered, after at most so many other answers."""
        header = self.header("kernel_info_request")
        self.send(self.frames("", {}, header))
        for _ in range(others + 1):
            answer = self.receive()
            if answer and answer[0]["msg_id"] == header["msg_id"]:
                return True
        return False

    def close(self):
        self.socket.close()


class Messages(unittest.TestCase):
    """Bad messages are dropped; the next good one is answered."""

    @classmethod
    def setUpClass(cls):
        cls.context = kernel(NAME, stderr=subprocess.DEVNULL)
        cls.manager, cls.client = cls.context.__enter__()
        if kernels.VISITED:
            cls.client.stop_channels()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def setUp(self):
        if kernels.VISITED:  # what is said to who visits would pile up while nobody reads it
            self.client = connect(self.manager.client())
            self.addCleanup(self.client.stop_channels)
        if not OURS:  # a message that breaks another kernel shall not be the next test's misfortune
            self.tearDownClass()
            self.setUpClass()

    def dropped(self, make):
        for channel in ("shell", "control"):
            wire = Wire(self.manager, channel)
            frames = make(wire)
            wire.send(frames)
            self.assertTrue(wire.ask(others=0 if OURS else 1), "%s after %r" % (channel, frames))
            wire.close()

    def test_wrong_signature(self):
        def make(w):
            frames = w.frames("kernel_info_request", {})
            frames[1] = b"0" * 64
            return frames
        self.dropped(make)

    def test_a_signature_that_is_wrong_in_one_digit(self):
        for place in (0, 1, 31, 32, 33, 62, 63):
            def make(w):
                frames = w.frames("kernel_info_request", {})
                digit = b"1" if frames[1][place:place + 1] == b"0" else b"0"
                frames[1] = frames[1][:place] + digit + frames[1][place + 1:]
                return frames
            self.dropped(make)

    def test_a_signature_of_other_frames(self):
        for part in range(4):
            def make(w):
                frames = w.frames("kernel_info_request", {})
                frames[2 + part] = frames[2 + part][:-1] + b" }"
                return frames
            self.dropped(make)

    def test_short_signature(self):
        def make(w):
            frames = w.frames("kernel_info_request", {})
            frames[1] = frames[1][:10]
            return frames
        self.dropped(make)

    def test_no_signature(self):
        def make(w):
            frames = w.frames("kernel_info_request", {})
            frames[1] = b""
            return frames
        self.dropped(make)

    def test_a_signature_that_came_before(self):
        def make(w):
            frames = w.frames("kernel_info_request", {})
            w.send(frames)
            w.receive()
            return frames
        self.dropped(make)

    def test_malformed_json(self):
        for part in range(4):
            def make(w):
                frames = w.frames("kernel_info_request", {})
                frames[2 + part] = b"{'a': "
                frames[1] = w.sign(frames[2:])
                return frames
            self.dropped(make)

    def test_parts_that_are_no_objects(self):
        for value in (b"[]", b"3", b"null", b"\"x\"", b""):
            for part in range(4):
                def make(w):
                    frames = w.frames("kernel_info_request", {})
                    frames[2 + part] = value
                    frames[1] = w.sign(frames[2:])
                    return frames
                self.dropped(make)

    def test_a_header_without_type(self):
        def make(w):
            return w.frames("", {}, {"msg_id": "1"})
        self.dropped(make)

    def test_missing_frames(self):
        for n in range(1, 6):
            self.dropped(lambda w: w.frames("kernel_info_request", {})[:n])

    def test_no_delimiter(self):
        self.dropped(lambda w: w.frames("kernel_info_request", {})[1:])

    def test_invalid_utf8_in_json(self):
        def make(w):
            frames = w.frames("kernel_info_request", {})
            frames[5] = b"{\"code\": \"\xff\xfe\"}"
            frames[1] = w.sign(frames[2:])
            return frames
        self.dropped(make)

    def test_deeply_nested_json(self):
        def make(w):
            frames = w.frames("kernel_info_request", {})
            frames[5] = b"{\"a\":" * 100000 + b"1" + b"}" * 100000
            frames[1] = w.sign(frames[2:])
            return frames
        self.dropped(make)

    def test_unknown_requests_get_busy_and_idle_but_no_reply(self):
        for channel in ("shell", "control"):
            msg_id = self.client.send("no_such_request", {}, channel)
            states = [m["content"]["execution_state"] for m in self.client.outputs(msg_id)]
            self.assertEqual(states, ["busy", "idle"])

    @ours_only
    def test_contents_of_the_wrong_kind_are_answered_with_an_error(self):
        for request in ("execute", "complete", "inspect", "is_complete"):
            for content in ({}, {"code": 3}, {"code": None}, {"code": []}):
                msg_id = self.client.send(request + "_request", content)
                self.assertEqual(self.client.reply(msg_id)["content"]["status"], "error")
                states = [m["content"]["execution_state"] for m in self.client.outputs(msg_id) if m["msg_type"] == "status"]
                self.assertEqual(states, ["busy", "idle"])

    @ours_only
    def test_long_code_is_completed_and_looked_up_in_a_moment(self):
        for piece in ("x", "x.", "x:", "(", "f{", "'", "--", "[[", " ", "x\n", "("):
            text = piece * (100000 // len(piece))
            for request in ("complete", "inspect", "is_complete"):
                begin = time.monotonic()
                self.client.request(request + "_request", {"code": text, "cursor_pos": len(text)})
                self.assertLess(time.monotonic() - begin, 2 * slack(), "%s of %r" % (request, piece))

    def test_a_nul_byte_in_the_code(self):
        self.client.run("x = 1\0")
        self.assertEqual(self.client.run(code("set", 2))[0]["status"], "ok")

    def test_a_huge_cell(self):
        comment = ("-- " if OURS else "# ") + "x" * BIG + "\n"
        self.assertEqual(self.client.run(comment + code("set", 5), timeout=4 * TIMEOUT)[0]["status"], "ok")
        self.assertEqual(self.client.text("x"), "5\n")

    def test_huge_output(self):
        reply, messages = self.client.run(code("big output", BIG), timeout=4 * TIMEOUT)
        self.assertEqual(reply["status"], "ok")
        self.assertEqual(len(text_of(messages)), BIG)

    def test_huge_buffers(self):
        wire = Wire(self.manager)
        wire.send(wire.frames("comm_msg", {"comm_id": "none", "data": {}}) + [b"x" * (BIG // 2)])
        self.assertTrue(wire.ask())
        wire.close()

    def test_many_prints_are_few_messages_in_order(self):
        reply, messages = self.client.run(code("lines", 10000))
        self.assertEqual(text_of(messages), "".join("%d\n" % i for i in range(1, 10001)))
        self.assertLess(len(messages), 100)


class Keyless(unittest.TestCase):
    def test_without_a_key_nothing_is_checked(self):
        manager = jupyter_client.KernelManager(kernel_name=NAME)
        manager.session.key = b""
        manager.start_kernel(stderr=subprocess.DEVNULL)
        c = manager.client()
        c.session.key = b""
        self.assertEqual(connect(c).run(code("set", 3))[0]["status"], "ok")
        c.stop_channels()
        manager.shutdown_kernel()


LISTENER = """
import sys, zmq
s = zmq.Context().socket(zmq.SUB)
s.rcvhwm = 10
s.subscribe(b"")
s.connect(sys.argv[1])
print("ready", flush=True)
while True:
    s.recv_multipart()
"""


class Clients(unittest.TestCase):
    def test_a_client_that_stopped_reading(self):
        with kernel(NAME, stderr=subprocess.DEVNULL) as (manager, c):
            pid = process_of(manager).pid
            address = "tcp://127.0.0.1:%d" % manager.get_connection_info()["iopub_port"]
            listener = subprocess.Popen([sys.executable, "-c", LISTENER, address], stdout=subprocess.PIPE)
            listener.stdout.readline()
            time.sleep(0.3)
            os.kill(listener.pid, signal.SIGSTOP)
            before = resident(pid)
            count = 50000 if LONG else 5000 if SANITIZED or PEER else 20000
            try:
                reader = zmq.Context.instance().socket(zmq.SUB)
                reader.subscribe(b"")
                reader.connect(address)
                time.sleep(0.3)
                cell = c.execute(code("displays", count)).encode()
                seen, idle = 0, False
                while not idle and reader.poll(TIMEOUT * 1000):
                    frames = reader.recv_multipart()
                    parent, _, content = frames[frames.index(b"<IDS|MSG>") + 3:][:3]
                    seen += cell in parent and b"text/plain" in content
                    idle = cell in parent and b'"idle"' in content
                reader.close(0)
                self.assertTrue(idle)
                self.assertEqual(seen, count)
                grown = resident(pid) - before
                self.assertLess(grown, 250 * MB)
            finally:
                kernels.kill(listener.pid)
                listener.wait()
                listener.stdout.close()

    def test_a_client_that_is_killed_and_comes_again_under_its_name(self):
        with kernel(NAME, stderr=subprocess.DEVNULL) as (manager, c):
            c.execute(code("sleep", 1))
            wires = []
            for _ in range(3):  # these do not say farewell: the kernel holds their connections
                wires.append(Wire(manager, identity=b"the same"))
                wires[-1].send(wires[-1].frames("kernel_info_request", {}))
                time.sleep(0.3)  # connected before the next one is: the latest has the name
            wires.append(Wire(manager, identity=b"the same"))
            self.assertTrue(wires[3].ask(others=3))
            for wire in wires:
                wire.close()

    def test_many_clients_at_once(self):
        with kernel(NAME, stderr=subprocess.DEVNULL) as (manager, c):
            def talk(number):
                # One of the manager's own would share its identity.
                client = jupyter_client.BlockingKernelClient()
                client.load_connection_info(manager.get_connection_info())
                try:
                    one = connect(client)
                    for i in range(2):
                        word = "c%d-%d" % (number, i)
                        reply, messages = one.run(code("print", word))
                        self.assertEqual(reply["status"], "ok")
                        self.assertEqual(text_of(messages), word + "\n")
                        one.request("complete_request", {"code": "pri", "cursor_pos": 3})
                finally:
                    client.stop_channels()
                return number

            with concurrent.futures.ThreadPoolExecutor(20) as pool:
                self.assertEqual(sorted(pool.map(talk, range(20))), list(range(20)))

    def test_an_error_aborts_what_is_queued_and_nothing_else(self):
        with kernel(NAME, stderr=subprocess.DEVNULL) as (_, c):
            for _ in range(3):
                c.run(code("set", 0))
                cells = [c.execute(code("fail when told"), allow_stdin=True)] + [c.execute(code("set", i)) for i in range(1, 6)]
                info = c.kernel_info()
                c.get_stdin_msg(timeout=TIMEOUT)
                # Ours answers it while the first cell runs, when all cells have come; another behind all of them.
                replies = [c.get_shell_msg(timeout=TIMEOUT)] if OURS else []
                c.input("")
                replies += [c.get_shell_msg(timeout=TIMEOUT) for _ in range(len(cells) + 1 - len(replies))]
                content = {m["parent_header"]["msg_id"]: m["content"] for m in replies}
                self.assertEqual(content[cells[0]]["status"], "error")
                for cell in cells[1:]:
                    self.assertEqual(content[cell]["status"], "aborted")
                    self.assertNotIn("execution_count", content[cell])
                self.assertEqual(content[info]["status"], "ok")
                self.assertEqual(c.text("x"), "0\n")

    def test_without_stop_on_error_the_rest_runs(self):
        with kernel(NAME, stderr=subprocess.DEVNULL) as (_, c):
            c.execute(code("fail"), stop_on_error=False)
            self.assertEqual(c.reply(c.execute(code("set", 7)))["content"]["status"], "ok")
            self.assertEqual(c.text("x"), "7\n")


class Interrupts(unittest.TestCase):
    """An interrupt stops the cell, keeps the variables, and the next cell runs."""

    def setUp(self):
        context = kernel(NAME, stderr=subprocess.DEVNULL)
        self.manager, self.client = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def interrupt(self, by_signal=False):
        if not OURS:
            self.manager.interrupt_kernel()
        elif by_signal:
            os.kill(process_of(self.manager).pid, signal.SIGINT)
        else:
            self.client.send("interrupt_request", {}, "control")

    def wait_for_begin(self):
        while "begun" not in self.client.get_iopub_msg(timeout=TIMEOUT)["content"].get("text", ""):
            pass

    def stops(self, what, by_signal=False, after=0.2, limit=0.5):
        """The interrupt comes `after` seconds from when the cell has said that it runs."""
        if TSAN and what in ("loop", "catching loop", "coroutine", "sort"):
            self.skipTest("a thread sanitizer defers signals until the program calls the system")
        c = self.client
        c.run(code("set", 11))
        text = code(what)
        if "begun" not in text:
            text = code("print", "begun") + "\n" + text
        # Another kernel may abort what comes right after an error, for a moment.
        msg_id = c.execute(text, allow_stdin=True, stop_on_error=OURS)
        self.wait_for_begin()
        time.sleep(after)
        begin = time.monotonic()
        self.interrupt(by_signal)
        content = c.reply(msg_id)["content"]
        took = time.monotonic() - begin
        self.assertEqual((content["status"], content["ename"]), ("error", "KeyboardInterrupt"))
        self.assertLess(took, limit * slack())
        self.assertEqual(c.text("x"), "11\n")

    def test_loop(self):
        self.stops("loop")

    def test_loop_by_signal(self):
        self.stops("loop", by_signal=True)

    def test_loop_that_catches_errors(self):
        self.stops("catching loop")

    def test_coroutine(self):
        self.stops("coroutine")

    def test_sort(self):
        self.stops("sort")

    def test_find(self):
        self.stops("find")

    def test_program(self):
        self.addCleanup(end_sleepers)
        self.stops("program")
        self.assertTrue(wait_until(lambda: not sleepers(), 5))

    def test_sleep(self):
        CODE["long sleep"] = (code("sleep", 600),) * 2
        self.stops("long sleep")

    def test_input(self):
        self.stops("ask")

    def test_native(self):
        self.stops("native")

    def test_one_long_operation(self):
        self.stops("one native", after=1)  # beyond its random numbers

    def test_flood_of_output(self):
        self.stops("flood", limit=3)

    def test_idle(self):
        c = self.client
        for _ in range(3):
            if OURS:
                self.assertEqual(c.request("interrupt_request", {}, "control")["status"], "ok")
            else:
                self.interrupt()
        self.assertEqual(c.run(code("set", 12))[0]["status"], "ok")
        self.assertEqual(c.text("x"), "12\n")

    def test_control_answers_during_a_long_operation(self):
        c = self.client
        msg_id = c.execute(code("print", "begun") + "\n" + code("native"))
        self.wait_for_begin()
        times = []
        for _ in range(7):
            begin = time.monotonic()
            c.request("kernel_info_request", {}, "control")
            times.append(time.monotonic() - begin)
        self.interrupt()
        c.reply(msg_id)
        self.assertLess(sorted(times)[3], 0.1 * slack())

    def test_queued_cells_are_aborted_too(self):
        c = self.client
        c.run(code("set", 1))
        long = c.execute(code("print", "begun") + "\n" + code("sleep", 600))
        queued = [c.execute(code("set", 2)) for _ in range(3)]
        self.wait_for_begin()
        if OURS:
            c.reply(c.kernel_info())  # they have come when that is answered
        self.interrupt()
        self.assertEqual(c.reply(long)["content"]["status"], "error")
        self.assertEqual([c.reply(q)["content"]["status"] for q in queued], ["aborted"] * 3)
        self.assertEqual(c.text("x"), "1\n")


def sleepers():
    """The children that this run's kernels left running."""
    found = set()
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                if f.read() == b"sleep\0%s\0" % NAP.encode():
                    found.add(int(path.split("/")[2]))
        except OSError:
            pass
    return found


def end_sleepers():
    for pid in sleepers():
        kernels.kill(pid)


def wait_until(what, timeout=TIMEOUT):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return False


def has_ended(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


PARENT = """
import sys, time, jupyter_client
m = jupyter_client.KernelManager(kernel_name=sys.argv[1])
m.start_kernel()
c = m.client(); c.start_channels(); c.wait_for_ready(timeout=60)
print((m.provisioner.process if hasattr(m, "provisioner") else m.kernel).pid, flush=True)
time.sleep(600)
"""


class Ends(unittest.TestCase):
    def setUp(self):
        self.addCleanup(end_sleepers)

    def crash(self, number):
        # Not a pipe: a child that outlives its kernel would keep that open.
        with tempfile.TemporaryFile() as errors, kernel(NAME, stderr=errors) as (manager, c):
            c.run(code("child"))
            c.run(code("job"))
            c.execute(code("kill", number))
            self.assertTrue(wait_until(lambda: not manager.is_alive()))
            if not SANITIZED:  # sanitizers end the process in their own way
                self.assertTrue(wait_until(lambda: not sleepers(), 5), "a child outlives the kernel")
            errors.seek(0)
            return errors.read().decode(errors="replace")

    def test_a_crash_is_seen_and_says_where(self):
        text = self.crash("SEGV")
        if OURS and not SANITIZED:
            self.assertIn("crashed: Segmentation fault", text)
            self.assertRegex(text, r"nablua-kernel\(.*\[0x|nablua-kernel\[0x")

    def test_abort(self):
        text = self.crash("ABRT")
        if OURS and not SANITIZED:
            self.assertIn("crashed: Aborted", text)

    def test_running_out_of_memory_or_stack_is_an_error(self):
        with kernel(NAME, stderr=subprocess.DEVNULL) as (_, c):
            for what in ("recursion", "memory"):
                self.assertEqual(c.run(code(what), stop_on_error=False)[0]["status"], "error")
            if OURS:
                for text in ("load(('('):rep(100000) .. ')')()", "('x'):rep(300000):find(('.-'):rep(300000))",
                             "local t = {}; for i = 1, 1e5 do t = {t} end; return t",
                             "string.gsub(('a'):rep(250), ('(a'):rep(250), '')",
                             "nb.zeros(1 << 40, 1 << 20)"):
                    c.run(text)
            self.assertEqual(c.run(code("set", 1))[0]["status"], "ok")

    def test_the_end_of_the_parent_is_the_end_of_the_kernel(self):
        parent = subprocess.Popen([sys.executable, "-c", PARENT, NAME], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        pid = int(parent.stdout.readline())
        kernels.kill(parent.pid)
        parent.wait()
        parent.stdout.close()
        self.assertTrue(wait_until(lambda: has_ended(pid)))

    def shutdown(self, what, channel="control", children=0):
        with kernel(NAME, stderr=subprocess.DEVNULL) as (manager, c):
            pid = process_of(manager).pid
            if what:
                c.execute(code(what))
                time.sleep(0.4)
            if children:
                self.assertTrue(wait_until(lambda: len(sleepers()) == children), sleepers())
            begin = time.monotonic()
            msg_id = c.send("shutdown_request", {"restart": False}, channel)
            if channel == "control":
                self.assertEqual(c.control_reply(msg_id)["content"]["status"], "ok")
            self.assertTrue(wait_until(lambda: has_ended(pid)), "it goes on")
            took = time.monotonic() - begin
            said = []
            while True:
                try:
                    said.append(c.client.get_iopub_msg(timeout=0.2)["msg_type"])
                except Exception:  # the queue is empty
                    break
            self.assertIn("shutdown_reply", said)
            self.assertLess(took, 2.5 * slack())
            self.assertTrue(wait_until(lambda: not sleepers(), 5), "a child outlives the kernel")

    def test_shutdown(self):
        self.shutdown(None)

    def test_shutdown_by_the_shell_channel(self):
        self.shutdown(None, channel="shell")

    def test_shutdown_in_a_loop(self):
        self.shutdown("loop")

    def test_shutdown_in_a_long_operation(self):
        self.shutdown("one native")

    def test_shutdown_while_a_program_runs(self):
        self.shutdown("program", children=1)

    def test_shutdown_while_asking(self):
        self.shutdown("ask")

    def test_shutdown_ends_children(self):
        self.shutdown("child", children=1)

    def test_shutdown_ends_jobs_in_the_background(self):
        self.shutdown("job", children=1)

    def test_shutdown_ends_what_does_not_heed_signals(self):
        self.shutdown("stubborn job", children=1)

    @ours_only
    def test_a_cell_that_exits_is_heard_to_its_end(self):
        for text in ("print('bye') os.exit()", "print('bye') os.exit(true, true)"):
            with kernel(NAME, stderr=subprocess.DEVNULL) as (manager, c):
                c.execute(text)
                while "bye" not in c.get_iopub_msg(timeout=TIMEOUT)["content"].get("text", ""):
                    pass
                self.assertTrue(wait_until(lambda: not manager.is_alive(), 2.5 * slack()))

    def test_sigterm_ends_it(self):
        with kernel(NAME, stderr=subprocess.DEVNULL) as (manager, c):
            c.execute(code("sleep", 600) if TSAN else code("loop"))  # see Interrupts.stops
            time.sleep(0.5)
            os.kill(process_of(manager).pid, signal.SIGTERM)
            self.assertTrue(wait_until(lambda: not manager.is_alive(), 2.5 * slack()))


class Starts(unittest.TestCase):
    @ours_only
    def test_many_starts_at_once(self):
        count = 8 if SANITIZED else 50

        def start(number):
            with kernel(NAME, stderr=subprocess.DEVNULL) as (_, c):
                return c.text("%d" % number)

        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            self.assertEqual(list(pool.map(start, range(count))), ["%d\n" % i for i in range(count)])

    @ours_only
    def test_a_port_that_is_taken(self):
        s = zmq.Context.instance().socket(zmq.ROUTER)
        port = s.bind_to_random_port("tcp://127.0.0.1")
        path = self.connection(shell_port=port)
        r = subprocess.run([KERNEL, "-f", path], capture_output=True, text=True, timeout=TIMEOUT)
        s.close()
        self.assertEqual(r.returncode, 1)
        self.assertRegex(r.stderr, r"^nablua-kernel: cannot bind tcp://127.0.0.1, shell_port %d: Address already in use\n$" % port)

    def connection(self, **values):
        path = os.path.join(kernels.HOME, uuid.uuid4().hex + ".json")
        info = {"transport": "tcp", "ip": "127.0.0.1", "key": "k", "signature_scheme": "hmac-sha256"}
        info.update({p + "_port": 0 for p in ("shell", "iopub", "stdin", "control", "hb")})
        info.update(values)
        with open(path, "w", encoding="utf-8") as f:
            json.dump(info, f)
        return path

    @ours_only
    def test_bad_connection_files(self):
        for values, expected in (({"transport": "carrier pigeon"}, "transport"), ({"ip": 3}, "at: ip"),
                                 ({"signature_scheme": "md5"}, "hmac-sha256"), ({"shell_port": "x"}, "at: shell_port"),
                                 ({"shell_port": 99999}, "at: shell_port"), ({"key": []}, "at: key"),
                                 ({"ip": "no such host"}, "cannot bind"),
                                 ({"curve_publickey": "x", "curve_secretkey": "y"}, "CURVE")):
            r = subprocess.run([KERNEL, "-f", self.connection(**values)], capture_output=True, text=True, timeout=TIMEOUT)
            self.assertEqual(r.returncode, 1, values)
            self.assertIn(expected, r.stderr)
            self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        for path, text in (("/nowhere", None), ("list.json", "[]"), ("cut.json", "{\"key\": ")):
            path = os.path.join(kernels.HOME, path)
            if text:
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
            r = subprocess.run([KERNEL, "-f", path], capture_output=True, text=True, timeout=TIMEOUT)
            self.assertEqual(r.returncode, 1)
            self.assertIn("cannot read the connection file", r.stderr)

    @ours_only
    def test_ports_of_zero_are_chosen_and_written_back(self):
        path = self.connection()
        process = subprocess.Popen([KERNEL, "-f", path], stderr=subprocess.DEVNULL)

        def ports():
            with open(path, encoding="utf-8") as f:
                info = json.load(f)
            return [info[p + "_port"] for p in ("shell", "iopub", "stdin", "control", "hb")]

        self.assertTrue(wait_until(lambda: all(ports())))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertEqual(len(set(ports())), 5)
        c = jupyter_client.BlockingKernelClient(connection_file=path)
        c.load_connection_file()
        self.assertEqual(connect(c).text("1 + 1"), "2\n")
        c.shutdown()
        c.stop_channels()
        process.wait(TIMEOUT)


class Outcomes(unittest.TestResult):
    """What became of each test, by its name; says it as it comes."""

    def __init__(self, say):
        super().__init__()
        self.say, self.rows = say, {}

    def startTest(self, test):
        super().startTest(test)
        self.begun = time.monotonic()

    def note(self, test, what, err=(None, None)):
        name = test.id().split(".", 1)[1]
        why = str(err[1] or "").rsplit(" : ", 1)[-1].split("\n")[0][:60]
        self.rows[name] = (what, "%s, %.1f s" % (what, time.monotonic() - self.begun) + (why and "  (%s)" % why))
        self.say(name)

    def addSuccess(self, test):
        self.note(test, "passes")

    def addFailure(self, test, err):
        self.note(test, "fails", err)

    def addError(self, test, err):
        self.note(test, "no answer" if err[0] is queue.Empty else "fails", err)

    def addSkip(self, test, reason):
        self.note(test, reason)


def compare(names):
    """The tests against ours and the peer, a line for each test; whether ours is never the worse."""
    global NAME, OURS
    here, loader = sys.modules["__main__"], unittest.TestLoader()
    suite = [test for group in ([loader.loadTestsFromName(name, here) for name in names] or loader.loadTestsFromModule(here))
             for test in group]
    ours, theirs = Outcomes(lambda name: None), None

    def say(name):
        if theirs.rows[name][0] != "is ours":
            print("%-68s %-20s %s" % (name.replace(".test_", ": ").replace("_", " "), ours.rows[name][1],
                                      theirs.rows[name][1]), flush=True)

    theirs = Outcomes(say)
    unittest.TestSuite(suite).run(ours)
    print("%-68s %-20s %s" % ("", "nablua", PEER), flush=True)
    NAME, OURS = PEER, False
    unittest.TestSuite(suite).run(theirs)
    both = [(ours.rows[name][0], what) for name, (what, _) in theirs.rows.items()]
    alone = [sum(a == "passes" and b in ("fails", "no answer") for a, b in pairs) for pairs in (both, [p[::-1] for p in both])]
    print("nablua alone passes %d, %s alone %d" % (alone[0], PEER, alone[1]))
    return alone[1] == 0


if __name__ == "__main__":
    if PEER:
        sys.exit(not compare(sys.argv[1:]))
    unittest.main()
