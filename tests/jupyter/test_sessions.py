# SPDX-License-Identifier: MIT
"""The transcripts of tests/sessions through the kernel, each in a kernel of its own."""
import concurrent.futures
import os
import re
import sys
import time
import unittest

from kernels import ROOT, TIMEOUT, kernel

sys.path.insert(0, os.path.join(ROOT, "tests/sessions"))
import transcript  # noqa: E402


def shown(messages):
    """What a terminal would show of the messages to a cell."""
    text = ""
    for m in messages:
        content = m["content"]
        if m["msg_type"] == "stream":
            text += content["text"]
        elif "data" in content:
            text += content["data"]["text/plain"] + "\n"
        elif m["msg_type"] == "error":
            text += "\n".join([content["evalue"]] + content["traceback"][1:]) + "\n"
    return re.sub("\033\\[[0-9;]*m", "", text)


def completed(client, text, expected):
    """What is wrong with the names that complete a text, or nothing."""
    content = client.request("complete_request", {"code": text, "cursor_pos": len(text)})
    if not transcript.offers(content["matches"], expected):
        return "%r offers %s, expected: %s" % (text, content["matches"], expected)
    return None


def run(manager, client, step):
    """What a cell shows; the user answers and interrupts as the transcript says."""
    msg_id = client.execute("\n".join(step.code), allow_stdin=True)
    for answer in step.answers:
        client.get_stdin_msg(timeout=TIMEOUT)
        client.input(answer)
    if step.stopped:
        time.sleep(0.5)
        manager.interrupt_kernel()
    messages = [m for m in client.outputs(msg_id) if m["msg_type"] not in ("status", "execute_input")]
    reply = client.reply(msg_id)["content"]
    return shown(messages) + "".join(page["data"]["text/plain"] + "\n" for page in reply.get("payload", []))


def disagreement(path):
    """What a transcript and a kernel's answers differ in, or nothing."""
    with kernel(cwd=ROOT) as (manager, client):
        for number, step in enumerate(transcript.read(path), 1):
            for text, expected in step.tabs:
                why = completed(client, text, expected)
                if why:
                    return why
            text, expected = run(manager, client, step), re.sub("(?m)^.*[‹«].*?[›»]\n?", "", step.shown).rstrip("\n")
            if not transcript.agrees(text, expected):
                return "after input %d expected:\n%s\ngot:\n%s" % (number, expected, text)
    return None


class Transcripts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = concurrent.futures.ThreadPoolExecutor(8)  # most of the time a kernel starts or ends
        cls.found = {name: cls.pool.submit(disagreement, path) for name, path in ALL}

    @classmethod
    def tearDownClass(cls):
        cls.pool.shutdown(cancel_futures=True)


def add(name):
    def run(self):
        why = self.found[name].result()
        if why:
            self.fail(why)

    setattr(Transcripts, "test_" + name, run)


ALL = transcript.transcripts()
for transcript_name, _ in ALL:
    add(transcript_name)

if __name__ == "__main__":
    unittest.main()
