# SPDX-License-Identifier: MIT
"""A client that keeps its connection over a restart loses nothing of its first cell, and hears that the kernel starts."""
import json
import os
import queue
import signal
import time
import unittest

import zmq

from kernels import TIMEOUT, kernel, process_of, text_of

TIMES = 50 if os.environ.get("NABLUA_PROVE") else 12


def heard(client, seconds):
    """The states that iopub tells within so many seconds."""
    states, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            m = client.get_iopub_msg(timeout=0.1)
        except queue.Empty:
            continue
        if m["msg_type"] == "status":
            states.append(m["content"]["execution_state"])
    return states


def listen(manager):
    """A plain socket that hears what iopub says, and keeps its connection."""
    s = zmq.Context.instance().socket(zmq.SUB)
    s.linger = 0
    s.subscribe(b"")
    s.connect("tcp://%s:%d" % (manager.ip, manager.iopub_port))
    return s


def printed(sockets, msg_id, seconds):
    """What each heard a request print; None where its end was not heard.  ZeroMQ subscribes again while it is asked, so
    that all must be, again and again."""
    texts, ended, end = [""] * len(sockets), set(), time.monotonic() + seconds
    while len(ended) < len(sockets) and time.monotonic() < end:
        for i, s in enumerate(sockets):
            while s.poll(5):
                parent, _, content = (json.loads(frame) for frame in s.recv_multipart()[-3:])
                if parent.get("msg_id") == msg_id:
                    texts[i] += content.get("text", "")
                    if content.get("execution_state") == "idle":
                        ended.add(i)
    return [t if i in ended else None for i, t in enumerate(texts)]


class Restart(unittest.TestCase):
    def test_the_first_cell_after_a_restart_is_whole(self):
        with kernel() as (manager, client):
            for i in range(TIMES):
                manager.restart_kernel(now=True)
                msg_id = client.execute("print('first %d') return %d" % (i, i))
                try:
                    messages = client.outputs(msg_id, timeout=10)
                except queue.Empty:
                    self.fail("restart %d: the client did not hear that its cell ended" % i)
                kinds = [m["content"].get("execution_state", m["msg_type"]) for m in messages]
                self.assertEqual(kinds, ["busy", "execute_input", "stream", "execute_result", "idle"], "restart %d" % i)
                self.assertEqual(text_of(messages[2:4]), "first %d\n%d\n" % (i, i))
                client.reply(msg_id)

    def test_several_listeners_hear_the_first_cell(self):
        with kernel() as (manager, client):
            sockets = [listen(manager) for _ in range(2)]
            for i in range(TIMES):
                manager.restart_kernel(now=True)
                msg_id = client.execute("print('all')")
                self.assertEqual(printed(sockets, msg_id, 10), ["all\n"] * 2, "restart %d" % i)
                client.reply(msg_id)
            for s in sockets:
                s.close()

    def test_a_kernel_that_was_killed_is_heard_starting(self):
        with kernel() as (manager, client):
            msg_id = client.execute("while true do end")
            while client.get_iopub_msg(timeout=TIMEOUT)["parent_header"].get("msg_id") != msg_id:
                pass
            os.kill(process_of(manager).pid, signal.SIGKILL)
            process_of(manager).wait()
            manager.restart_kernel(now=True)
            # Nothing is asked of the new one: who keeps account of states must not think that it is busy for ever.
            self.assertEqual(heard(client, 2)[-1:], ["starting"])
            self.assertEqual(client.text("1 + 1"), "2\n")

    def test_who_listens_to_nothing_waits_half_a_second_at_most(self):
        with kernel() as (manager, client):
            client.stop_channels()
            manager.restart_kernel(now=True)
            deaf = manager.client()
            deaf.start_channels(iopub=False, stdin=False, hb=False)
            begin = time.monotonic()
            deaf.execute("1")
            self.assertEqual(deaf.get_shell_msg(timeout=TIMEOUT)["content"]["status"], "ok")
            self.assertLess(time.monotonic() - begin, 5)
            deaf.stop_channels()
            client.client = manager.client()
            client.start_channels(hb=False)  # for the end of the kernel


if __name__ == "__main__":
    unittest.main(warnings="ignore")
