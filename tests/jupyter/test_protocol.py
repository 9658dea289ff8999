# SPDX-License-Identifier: MIT
"""The protocol message by message: order, counters, parents, displays, questions, places in code, history, comms."""
import json
import os
import queue
import re
import subprocess
import time
import unittest
import uuid

import jupyter_client
import zmq

import kernels
from kernels import ROOT, connect, kernel, text_of


class Protocol(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = kernel()
        cls.manager, cls.client = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def types(self, messages):
        return [m["msg_type"] for m in messages]

    def test_every_row_of_the_table_answers_on_its_channels(self):
        with open(os.path.join(ROOT, "kernel/jupyter/requests.c"), encoding="utf-8") as f:
            rows = re.findall(r'\{"(\w+)", (?:"(\w+)"|NULL), ON_(SHELL|CONTROL|BOTH), \w+[,}]', f.read())
        self.assertGreater(len(rows), 10)
        for request, reply, channels in rows:
            if not reply or request == "shutdown_request":
                continue
            for channel in ("shell", "control") if channels == "BOTH" else (channels.lower(),):
                with self.subTest(request, channel=channel):
                    msg_id = self.client.send(request, {}, channel)
                    answer = (self.client.reply if channel == "shell" else self.client.control_reply)(msg_id)
                    self.assertEqual(answer["msg_type"], reply)
                    self.assertIn(answer["content"]["status"], ("ok", "error"))

    def test_every_request_is_between_busy_and_idle_with_the_right_parent(self):
        c = self.client
        for msg_type, content, channel in (
                ("kernel_info_request", {}, "shell"), ("complete_request", {"code": "x", "cursor_pos": 1}, "shell"),
                ("inspect_request", {"code": "nb", "cursor_pos": 1, "detail_level": 0}, "shell"),
                ("is_complete_request", {"code": "x"}, "shell"), ("history_request", {"hist_access_type": "tail", "n": 1}, "shell"),
                ("comm_info_request", {}, "shell"), ("connect_request", {}, "shell"),
                ("kernel_info_request", {}, "control"), ("interrupt_request", {}, "control"), ("debug_request", {}, "control")):
            msg_id = c.send(msg_type, content, channel)
            reply = (c.control_reply if channel == "control" else c.reply)(msg_id)
            self.assertEqual(reply["msg_type"], msg_type.replace("_request", "_reply"))
            self.assertIn("status", reply["content"])
            self.assertEqual(reply["parent_header"]["msg_type"], msg_type)
            outputs = c.outputs(msg_id)
            self.assertEqual([m["content"]["execution_state"] for m in outputs], ["busy", "idle"])
            ids = [m["header"]["msg_id"] for m in [reply, *outputs]]
            self.assertEqual(len(set(ids)), len(ids))

    def test_the_heartbeat_answers_with_what_it_got_while_a_cell_runs(self):
        socket = zmq.Context.instance().socket(zmq.REQ)
        self.addCleanup(socket.close, 0)
        socket.connect("tcp://127.0.0.1:%d" % self.manager.get_connection_info()["hb_port"])
        msg_id = self.client.execute("nb.sleep(1)")
        for beat in (b"ping", b"", b"\x00" * 1000):
            socket.send(beat)
            self.assertTrue(socket.poll(20000), "no answer")
            self.assertEqual(socket.recv(), beat)
        self.client.outputs(msg_id)
        self.client.reply(msg_id)

    def test_lines_are_counted_from_the_first_of_the_cell(self):
        for code, line in (("error 'here'", 1), ("\n\nerror 'here'", 3), ("%time 1\n\nerror 'here'", 3), (" \n  \n\n error 'here'", 4)):
            msg_id = self.client.execute(code)
            self.assertRegex(self.client.reply(msg_id)["content"]["evalue"], r":%d: here" % line)
            self.client.outputs(msg_id)

    def test_order_of_output(self):
        code = "io.write('a') io.stderr:write('b') io.write('c') display(1) print('d') os.execute('echo e; echo f >&2') " \
               "print('g') clear_output() io.write('h') return 5"
        msg_id = self.client.execute(code)
        seen = []
        for m in self.client.outputs(msg_id):
            content = m["content"]
            seen.append({"stream": lambda: content["name"][3:] + ":" + content["text"], "status": lambda: content["execution_state"],
                         "execute_input": lambda: "input", "clear_output": lambda: "clear"}
                        .get(m["msg_type"], lambda: content["data"]["text/plain"])())
        self.assertEqual("".join(seen).replace("out:", ""),
                         "busyinputaerr:bc1d\ne\nerr:f\ng\nclearh5idle")

    def test_a_long_cell_shows_what_it_prints_while_it_runs(self):
        msg_id = self.client.execute("io.write('now') nb.sleep(2);")
        begin = time.monotonic()
        while True:
            m = self.client.get_iopub_msg(timeout=5)
            if m["msg_type"] == "stream":
                break
        self.assertEqual(m["content"]["text"], "now")
        self.assertLess(time.monotonic() - begin, 1.5)
        self.client.outputs(msg_id)
        self.client.reply(msg_id)

    def test_counter(self):
        c = self.client
        first = c.run("1")[0]["execution_count"]
        msg_id = c.execute("2")
        reply, outputs = c.reply(msg_id)["content"], c.outputs(msg_id)
        counts = {m["content"]["execution_count"] for m in outputs if "execution_count" in m["content"]}
        self.assertEqual(counts | {reply["execution_count"]}, {first + 1})
        for options in ({"silent": True}, {"store_history": False}):
            self.assertEqual(c.run("3", **options)[0]["status"], "ok")
        self.assertEqual(c.run("4")[0]["execution_count"], first + 2)
        self.assertEqual(c.run("error()")[0]["execution_count"], first + 3)
        self.assertEqual(c.run("5")[0]["execution_count"], first + 4)

    def test_silent(self):
        msg_id = self.client.execute("print(1) io.stderr:write(2) display(3) return 4", silent=True)
        self.assertEqual(self.types(self.client.outputs(msg_id)), ["status", "status"])
        self.assertEqual(self.client.reply(msg_id)["content"]["status"], "ok")
        reply, messages = self.client.run("error('x')", silent=True)
        self.assertEqual((reply["status"], messages), ("error", []))

    def test_without_history_the_value_is_shown_but_not_kept(self):
        c = self.client
        c.run("111")
        reply, messages = c.run("222", store_history=False)
        self.assertEqual(text_of(messages), "222\n")
        self.assertEqual(c.text("_"), "111\n")

    def test_errors(self):
        reply, messages = self.client.run("local function f(x) return x.y.z end\nf{}")
        self.assertEqual(self.types(messages), ["error"])
        for content in (reply, messages[0]["content"]):
            self.assertEqual(content["ename"], "Error")
            self.assertRegex(content["evalue"], r"attempt to index a nil value \(field 'y'\)")
            self.assertIn("f{}", "\n".join(content["traceback"]))
        self.assertEqual((reply["status"], reply["payload"]), ("error", []))

    def test_user_expressions(self):
        reply, _ = self.client.run("ux = 2", user_expressions={"a": "ux + 1", "b": "error('no')", "c": "nil", "d": "x ="})
        e = reply["user_expressions"]
        self.assertEqual(e["a"], {"status": "ok", "data": {"text/plain": "3"}, "metadata": {}})
        self.assertEqual((e["b"]["status"], e["d"]["status"]), ("error", "error"))
        self.assertIn("no", e["b"]["evalue"])
        self.assertEqual(e["c"]["data"]["text/plain"], "nil")

    def test_displays_with_ids(self):
        _, messages = self.client.run("display(1, {id='one'}) update_display(2, 'one') display(3)")
        self.assertEqual(self.types(messages), ["display_data", "update_display_data", "display_data"])
        self.assertEqual([m["content"]["transient"].get("display_id") for m in messages], ["one", "one", None])
        for m in messages:
            self.assertIsInstance(m["content"]["metadata"], dict)
        reply, _ = self.client.run("update_display(2)")
        self.assertEqual(reply["status"], "error")

    def test_bundles(self):
        _, messages = self.client.run(
            "display(setmetatable({}, {__display = function() return {['text/plain'] = 'p', ['application/json'] = "
            "'{\"a\": [1, 2]}', ['image/png'] = '\\x89PNG\\0\\xff', ['image/svg+xml'] = '<svg/>', ['text/html'] = '<b>h</b>'} end}))")
        data = messages[0]["content"]["data"]
        self.assertEqual(data["application/json"], {"a": [1, 2]})
        self.assertEqual(data["image/png"], "iVBORwD/")
        self.assertEqual((data["image/svg+xml"], data["text/html"], data["text/plain"]), ("<svg/>", "<b>h</b>", "p"))

    def test_text_that_is_no_utf8(self):
        self.assertEqual(self.client.text("print('a\\xffb\\xe2\\x82') print('\\u{20ac}')"), "a\ufffdb\ufffd\n€\n")
        # A character may be written in pieces, and a stream may end within one.
        self.assertEqual(self.client.text("io.write('\\xe2'); io.stdout:flush(); nb.sleep(0.3); io.write('\\x82\\xac');"), "€")
        self.assertEqual(self.client.text("io.write('x\\xe2\\x82');"), "x\ufffd")
        self.assertEqual(self.client.text("print('next')"), "next\n")
        self.assertEqual(self.client.text("'\\xff'"), '"\\xff"\n')

    def test_places_are_code_points(self):
        code = "s = 'äöü€𝄞'; string.form"
        r = self.client.request("complete_request", {"code": code, "cursor_pos": len(code)})
        self.assertIn("format", r["matches"])
        self.assertEqual((r["cursor_start"], r["cursor_end"]), (len(code) - 4, len(code)))
        kinds = r["metadata"]["_jupyter_types_experimental"]
        self.assertEqual((kinds[0]["text"], kinds[0]["start"], kinds[0]["end"]), ("format", len(code) - 4, len(code)))
        code = "'𝄞𝄞'; nb.ones"
        r = self.client.request("inspect_request", {"code": code, "cursor_pos": len(code), "detail_level": 0})
        self.assertTrue(r["found"])
        for place in (-5, 10 ** 12, 0):
            self.assertEqual(self.client.request("complete_request", {"code": code, "cursor_pos": place})["status"], "ok")

    def test_inspect_shows_source_at_level_one(self):
        self.client.run("function doubled(v) return v + v end")
        pages = [self.client.request("inspect_request", {"code": "doubled", "cursor_pos": 3, "detail_level": level})["data"]["text/plain"]
                 for level in (0, 1)]
        self.assertNotIn("return v + v", pages[0])
        self.assertIn("return v + v", pages[1])
        r = self.client.request("inspect_request", {"code": "no_such_name", "cursor_pos": 3, "detail_level": 0})
        self.assertEqual((r["status"], r["found"], r["data"]), ("ok", False, {}))

    def test_indent(self):
        r = self.client.request("is_complete_request", {"code": "for i = 1, 2 do\n  if i then"})
        self.assertEqual(r, {"status": "incomplete", "indent": "    "})
        self.assertEqual(self.client.request("is_complete_request", {"code": "x = 1"}), {"status": "complete"})

    def test_history(self):
        with kernel() as (_, c):
            for code in ("h1 = 1", "41 + 1", "h1 = 1"):
                c.run(code)

            def ask(**content):
                return c.request("history_request", dict({"output": False, "raw": True}, **content))["history"]

            tail = ask(hist_access_type="tail", n=2)
            self.assertEqual([h[1:] for h in tail], [[2, "41 + 1"], [3, "h1 = 1"]])
            session = tail[0][0]
            for number in (session, 0):
                got = ask(hist_access_type="range", session=number, start=1, stop=3, output=True)
                self.assertEqual([h[1:] for h in got], [[1, ["h1 = 1", None]], [2, ["41 + 1", "42"]]])
            self.assertEqual([h[2] for h in ask(hist_access_type="search", pattern="h1*", unique=True, n=10)], ["h1 = 1"])
            self.assertEqual(len(ask(hist_access_type="search", pattern="h1*", n=10)), 2)
            with kernel() as (_, later):
                later.run("'later'")
                c = later
                self.assertEqual([h[2] for h in ask(hist_access_type="range", session=-1, start=1, stop=0)],
                                 ["h1 = 1", "41 + 1", "h1 = 1"])

    def answer(self, code, value, password=False, **options):
        msg_id = self.client.execute(code, allow_stdin=True, **options)
        m = self.client.get_stdin_msg(timeout=kernels.TIMEOUT)
        self.assertEqual(m["msg_type"], "input_request")
        self.assertEqual(m["parent_header"]["msg_id"], msg_id)
        self.assertEqual(m["content"]["password"], password)
        self.client.input(value)
        self.assertEqual(self.client.reply(msg_id)["content"]["status"], "ok")
        return m["content"]["prompt"], text_of(m for m in self.client.outputs(msg_id)
                                               if m["msg_type"] in ("stream", "execute_result"))

    def test_input(self):
        self.assertEqual(self.answer("print('before') return input('name? ')", "Ada"), ("name? ", 'before\n"Ada"\n'))
        self.assertEqual(self.answer("return #input('word: ', {password=true})", "geheim", password=True), ("word: ", "6\n"))
        # An answer that nobody waited for is not the next one's.
        self.client.input("stale")
        time.sleep(0.2)
        self.assertEqual(self.answer("input()", "fresh")[1], '"fresh"\n')

    def test_input_of_a_client_that_listens_late(self):
        late = jupyter_client.BlockingKernelClient(connection_file=self.manager.connection_file)
        late.load_connection_file()
        late.start_channels(stdin=False, hb=False)
        client = kernels.Client(late)
        msg_id = client.send("execute_request", {"code": "return input('late? ')", "allow_stdin": True})
        time.sleep(0.3)
        late.stdin_channel.start()  # connects
        self.assertEqual(late.get_stdin_msg(timeout=kernels.TIMEOUT)["content"]["prompt"], "late? ")
        late.input("here")
        self.assertEqual(client.reply(msg_id)["content"]["status"], "ok")
        late.stop_channels()

    def test_input_where_nobody_can_be_asked(self):
        reply, _ = self.client.run("input('?')", allow_stdin=False)
        self.assertEqual(reply["status"], "error")
        with self.assertRaises(queue.Empty):
            self.client.get_stdin_msg(timeout=0.1)

    def test_kernel_info(self):
        info = self.client.request("kernel_info_request", {})
        self.assertEqual(info["protocol_version"], "5.5")
        self.assertEqual((info["debugger"], info["supported_features"]), (True, ["kernel subshells", "debugger"]))
        self.assertEqual(info["language_info"]["mimetype"], "text/x-lua")
        self.assertEqual(info, self.client.request("kernel_info_request", {}, "control"))

    def test_an_empty_cell_counts_nothing(self):
        first = self.client.run("1")[0]["execution_count"]
        self.client.run(" \n ")
        self.assertEqual(self.client.run("1")[0]["execution_count"], first + 1)

    def test_comms(self):
        c = self.client
        self.assertEqual(self.types(c.run(
            "comms = require 'nablua.session.comms'; comms.register('echo', function(comm, data) print(data.hello[2]) "
            "comm.on_message = function(d, b) comm:send({got = d.n, of = #b}) end "
            "comm.on_close = function() print('closed') end end)")[1]), [])
        outputs = c.outputs(c.send("comm_open", {"comm_id": "i1", "target_name": "echo", "data": {"hello": [1, "two"]}}))
        self.assertEqual(text_of(m for m in outputs if m["msg_type"] == "stream"), "two\n")
        self.assertEqual(c.request("comm_info_request", {})["comms"], {"i1": {"target_name": "echo"}})
        self.assertEqual(c.request("comm_info_request", {"target_name": "other"})["comms"], {})
        outputs = c.outputs(c.send("comm_msg", {"comm_id": "i1", "data": {"n": 7}}))
        sent = [m["content"] for m in outputs if m["msg_type"] == "comm_msg"]
        self.assertEqual(sent, [{"comm_id": "i1", "data": {"got": 7, "of": 0}}])
        outputs = c.outputs(c.send("comm_close", {"comm_id": "i1", "data": {}}))
        self.assertEqual(text_of(m for m in outputs if m["msg_type"] == "stream"), "closed\n")
        self.assertEqual(c.request("comm_info_request", {})["comms"], {})
        outputs = c.outputs(c.send("comm_open", {"comm_id": "i2", "target_name": "nobody", "data": {}}))
        self.assertEqual([m["content"]["comm_id"] for m in outputs if m["msg_type"] == "comm_close"], ["i2"])
        messages = c.run("local m = comms.open('page', {a = nb.tensor{1, 2}, b = 0/0}) m:send('x', {'\\0\\1'}) m:close()")[1]
        self.assertEqual(self.types(messages), ["comm_open", "comm_msg", "comm_close"])
        self.assertEqual(messages[0]["content"]["data"], {"a": [1, 2], "b": None})
        self.assertEqual([bytes(b) for b in messages[1]["buffers"]], [b"\0\1"])


class Welcome(unittest.TestCase):
    def test_a_subscriber_is_welcomed_first(self):
        with kernel() as (manager, c):
            c.execute("for i = 1, 1000 do display(i) end")
            for topic in (b"", b"stream"):
                s = zmq.Context.instance().socket(zmq.SUB)
                s.subscribe(topic)
                s.connect("tcp://127.0.0.1:%d" % manager.get_connection_info()["iopub_port"])
                self.assertTrue(s.poll(kernels.TIMEOUT * 1000))
                frames = s.recv_multipart()
                s.close(0)
                self.assertEqual(frames[0], topic)
                self.assertIn(b'"iopub_welcome"', frames[3])
                self.assertEqual(frames[4], b"{}")


class Transports(unittest.TestCase):
    def test_ipc(self):
        manager = jupyter_client.KernelManager(kernel_name="nablua", transport="ipc", ip=kernels.HOME + "/kernel-ipc")
        manager.start_kernel()
        c = manager.client()
        self.assertEqual(connect(c).text("6 * 7"), "42\n")
        c.stop_channels()
        manager.shutdown_kernel()


class Files(unittest.TestCase):
    """Connection files that Debian's client does not write: CURVE, a registration port, localhost."""

    def start(self, info):
        path = os.path.join(kernels.HOME, uuid.uuid4().hex + ".json")
        info = dict({"transport": "tcp", "ip": "127.0.0.1", "key": "k", "signature_scheme": "hmac-sha256"}, **info)
        with open(path, "w", encoding="utf-8") as f:
            json.dump(info, f)
        process = subprocess.Popen([kernels.KERNEL, "-f", path])
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return path, process

    def start_at_any_port(self, **info):
        path, _ = self.start(dict({p + "_port": 0 for p in ("shell", "iopub", "stdin", "control", "hb")}, **info))
        port = 0
        while not port:
            time.sleep(0.02)
            with open(path, encoding="utf-8") as f:
                port = json.load(f)["shell_port"]
        return port

    def ask(self, port, prepare=lambda s: None, timeout=kernels.TIMEOUT):
        """The type of the answer to a request on the shell channel, or None."""
        session = jupyter_client.session.Session(key=b"k")
        s = zmq.Context.instance().socket(zmq.DEALER)
        s.linger, s.sndtimeo = 0, timeout * 1000  # who is refused may find nobody to send to
        prepare(s)
        s.connect("tcp://127.0.0.1:%d" % port)
        try:
            session.send(s, "kernel_info_request", {})
        except zmq.Again:
            s.close(0)
            return None
        answer = session.recv(s, mode=0)[1]["msg_type"] if s.poll(timeout * 1000) else None
        s.close(0)
        return answer

    @unittest.skipUnless(zmq.has("curve"), "this libzmq has no CURVE")
    def test_curve(self):
        public, secret = zmq.curve_keypair()
        port = self.start_at_any_port(curve_publickey=public.decode(), curve_secretkey=secret.decode())

        def encrypted(s):
            s.curve_secretkey, s.curve_publickey, s.curve_serverkey = secret, public, public

        self.assertEqual(self.ask(port, encrypted), "kernel_info_reply")
        self.assertIsNone(self.ask(port, timeout=1))

    def test_localhost(self):
        self.assertEqual(self.ask(self.start_at_any_port(ip="localhost")), "kernel_info_reply")

    def test_handshake(self):
        session = jupyter_client.session.Session(key=b"k")
        s = zmq.Context.instance().socket(zmq.ROUTER)
        port = s.bind_to_random_port("tcp://127.0.0.1")
        self.start({"registration_port": port})
        self.assertTrue(s.poll(kernels.TIMEOUT * 1000))
        idents, m = session.recv(s, mode=0)
        self.assertEqual(m["msg_type"], "handshake_request")
        self.assertEqual(sorted(m["content"]), ["control_port", "hb_port", "iopub_port", "shell_port", "stdin_port"])
        session.send(s, "handshake_reply", {"status": "ok"}, parent=m, ident=idents)
        self.assertEqual(self.ask(m["content"]["shell_port"]), "kernel_info_reply")
        s.close(0)


if __name__ == "__main__":
    unittest.main()
