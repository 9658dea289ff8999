# SPDX-License-Identifier: MIT
"""What odd clients send is answered: numbers beyond JSON, halves of characters, marks of files; and what is left behind."""
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

from kernels import KERNEL, TIMEOUT, kernel, process_of, text_of


class OddMessages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = kernel()
        cls.manager, cls.client = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def send_raw(self, msg_type, content, channel="shell", header=None, metadata=b"{}"):
        """Sends a request whose content is these bytes; its name."""
        session = self.client.session
        h = session.msg_header(msg_type)
        frames = [header or session.pack(h), b"{}", metadata, content]
        getattr(self.client, channel + "_channel").socket.send_multipart([b"<IDS|MSG>", session.sign(frames)] + frames)
        return h["msg_id"]

    def test_contents_that_a_strict_reader_refuses(self):
        place = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9223372036854775808", b"-" + b"9" * 400, b"9" * 400,
                 b"1.5", b"1e2")
        for number in place:
            msg_id = self.send_raw("complete_request", b'{"code": "string.form", "cursor_pos": ' + number + b"}")
            self.assertEqual(self.client.reply(msg_id)["content"]["status"], "ok", number)
            self.client.outputs(msg_id)
        # A place beyond the end is the end.
        for number in (b"9223372036854775808", b"1e300", b"NaN", b"1e999"):
            msg_id = self.send_raw("complete_request", b'{"code": "string.form", "cursor_pos": ' + number + b"}")
            self.assertIn("format", self.client.reply(msg_id)["content"]["matches"])
        for extra in (b"NaN", b"[1, NaN, {\"a\": Infinity}]", b"12345678901234567890", b"1E+400", b'"\\ud83d"', b'"\\udc00\\ud83d x"',
                      b'"NaN 1e999 \\" NaN"'):
            msg_id = self.send_raw("execute_request", b'{"x": ' + extra + b', "code": "return [[NaN 1e999 \\u20ac]]"}')
            self.assertEqual(text_of(m for m in self.client.outputs(msg_id) if m["msg_type"] == "execute_result"),
                             '"NaN 1e999 €"\n', extra)
            self.client.reply(msg_id)
        msg_id = self.send_raw("execute_request", b'{"code": "return [[a\\ud83d\\ude00b\\ud83dc]]"}')
        self.assertEqual(text_of(m for m in self.client.outputs(msg_id) if m["msg_type"] == "execute_result"), '"a😀b\ufffdc"\n')
        self.client.reply(msg_id)

    def test_metadata_and_control_too(self):
        msg_id = self.send_raw("execute_request", b'{"code": "1 + 1"}', metadata=b'{"time": NaN}')
        self.assertEqual(self.client.reply(msg_id)["content"]["status"], "ok")
        self.client.outputs(msg_id)
        msg_id = self.send_raw("kernel_info_request", b'{"x": 1e999}', "control")
        self.assertEqual(self.client.control_reply(msg_id)["content"]["status"], "ok")

    def test_numbers_of_comms(self):
        self.client.run("require('nablua.session.comms').register('odd', function(comm, data) seen = data end)")
        self.client.send("comm_open", {"comm_id": "1", "target_name": "odd", "data": {}})
        msg_id = self.send_raw("comm_open", b'{"comm_id": "2", "target_name": "odd", "data": {"a": NaN, "b": 18446744073709551616, '
                               b'"c": 9007199254740993, "d": 1e999, "e": [1, 2]}}')
        self.client.outputs(msg_id)
        self.assertEqual(self.client.text("print(seen.a, seen.b == 2.0^64, seen.c, seen.d, #seen.e)"),
                         "nil\ttrue\t9007199254740993\tnil\t2\n")

    def test_usage(self):
        first = self.client.request("usage_request", {}, "control")
        self.client.run("local t = nb.zeros(1000, 1000); local e = os.clock() + 0.2 while os.clock() < e do end")
        second = self.client.request("usage_request", {}, "control")
        for r in (first, second):
            self.assertEqual((r["status"], r["pid"], r["cpu_count"]), ("ok", process_of(self.manager).pid, os.cpu_count()))
            with open("/proc/%d/statm" % r["pid"], encoding="ascii") as f:
                resident = int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")
            self.assertLess(abs(r["kernel_memory"] - resident), 64 << 20)
            memory = r["host_virtual_memory"]
            self.assertEqual(memory["total"] // 4096, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") // 4096)
            self.assertTrue(0 < memory["available"] <= memory["total"] and 0 <= memory["percent"] <= 100)
        self.assertGreater(second["kernel_cpu"], 0)
        self.assertTrue(0 < second["host_cpu_percent"] <= 100)

    def test_marks_of_files_at_a_cells_start(self):
        for code in ("\ufeff1 + 1", "#!/usr/bin/env nablua\n1 + 1", "\ufeff#!x\nreturn 1 + 1", "#!/bin/x\n%time 1 + 1"):
            self.assertIn("2\n", self.client.text(code), code)
            self.assertEqual(self.client.request("is_complete_request", {"code": code})["status"], "complete", code)
        self.assertEqual(self.client.text("#!/usr/bin/env nablua"), "")
        self.assertEqual(self.client.text("#'abc'"), "3\n")
        reply, _ = self.client.run("#!x\n\nerror('here')")
        self.assertIn(":3", "\n".join(reply["traceback"]))
        self.assertEqual(self.client.request("is_complete_request", {"code": "#!x\nfor i = 1, 2 do"})["status"], "incomplete")

    def test_help_links(self):
        links = self.client.request("kernel_info_request", {})["help_links"]
        self.assertGreater(len(links), 1)
        for link in links:
            self.assertRegex(link["url"], "^https://[^ ]+$")
            self.assertTrue(link["text"])


class Environment(unittest.TestCase):
    def test_the_kernel_obeys_the_variables_of_the_library(self):
        texts = []
        for _ in range(2):
            with kernel(env=dict(os.environ, NABLUA_SEED="7", NABLUA_MEMORY="64M")) as (_, client):
                reply, messages = client.run("nb.rand(3)")
                self.assertEqual(reply["execution_count"], 1)
                texts.append(text_of(messages))
                reply, _ = client.run("nb.zeros(1e8)")
                self.assertIn("limit 64 MB", reply["evalue"])
        self.assertEqual(texts[0], texts[1])


class Sockets(unittest.TestCase):
    def test_no_files_of_sockets_stay(self):
        for end in (signal.SIGTERM, signal.SIGHUP):
            for busy in (False, True):
                with self.subTest(end=end, busy=busy), tempfile.TemporaryDirectory() as folder:
                    path = os.path.join(folder, "connection.json")
                    names = ("shell", "iopub", "stdin", "control", "hb")
                    with open(path, "w", encoding="utf-8") as f:
                        json.dump(dict({n + "_port": i + 1 for i, n in enumerate(names)}, transport="ipc", key="k",
                                       ip=os.path.join(folder, "s"), signature_scheme="hmac-sha256"), f)
                    process = subprocess.Popen([KERNEL, "-f", path], stderr=subprocess.DEVNULL)
                    limit = time.monotonic() + TIMEOUT
                    while len(os.listdir(folder)) < 6 and time.monotonic() < limit:
                        time.sleep(0.01)
                    if busy:
                        import jupyter_client
                        c = jupyter_client.BlockingKernelClient(connection_file=path)
                        c.load_connection_file()
                        c.start_channels(hb=False)
                        c.execute("while true do pcall(string.rep, 'x', 100) end")
                        time.sleep(1)
                    process.send_signal(end)
                    process.wait(timeout=TIMEOUT)
                    self.assertEqual(os.listdir(folder), ["connection.json"])
                    if busy:
                        c.stop_channels()


if __name__ == "__main__":
    unittest.main(warnings="ignore")
