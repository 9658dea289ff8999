# SPDX-License-Identifier: MIT
"""What NABLUA_TRACE=wire tells of the kernel's messages: each that comes and goes, in order, and what it says only when
that is asked for.
"""
import os
import re
import tempfile
import unittest

from kernels import kernel

LINE = re.compile(r"^wire  (in |out) (shell|iopub|stdin|control) +(\w+) +(\S*) +(\w*) +[0-9.]+ ms(  .*)?$")
SECRET = "print('only for the client')"


def traced(words, code=SECRET, in_file=True):
    """The lines that the kernel tells while it runs a cell, and the text that the cell printed."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        path = os.path.join(folder, "trace")
        env = {**os.environ, "NABLUA_TRACE": words}
        if in_file:
            env["NABLUA_TRACE_FILE"] = path
        with kernel(env=env, stderr=said) as (_, client):
            text = client.text(code)
        said.seek(0)
        told = said.read()
        if in_file:
            with open(path, encoding="utf-8") as f:
                told = f.read()
        return [line for line in told.splitlines() if line.startswith("wire")], text


class Trace(unittest.TestCase):
    def check(self, lines):
        messages = [LINE.match(line) for line in lines]
        self.assertTrue(all(messages), [line for line in lines if not LINE.match(line)])
        request = [m for m in messages if m[1] == "in " and m[3] == "execute_request"]
        self.assertEqual(len(request), 1)
        answers = [(m[2], m[3]) for m in messages if m[1] == "out" and (m[4], m[5]) == (request[0][4], "execute_request")]
        self.assertEqual(answers[0], ("iopub", "status"))
        self.assertEqual(answers[1], ("iopub", "execute_input"))
        self.assertIn(("iopub", "stream"), answers)
        self.assertIn(("shell", "execute_reply"), answers)
        self.assertEqual(sum(a == ("iopub", "status") for a in answers), 2)

    def test_each_message_has_a_line_and_its_contents_stay_out(self):
        lines, text = traced("wire")
        self.assertEqual(text, "only for the client\n")
        self.check(lines)
        self.assertNotIn("only for the client", "\n".join(lines))

    def test_contents_are_told_when_they_are_asked_for(self):
        lines, _ = traced("wire=contents")
        self.check(lines)
        self.assertEqual(sum("only for the client" in line for line in lines), 3)  # request, execute_input, stream

    def test_at_the_standard_error_it_is_the_kernels_own_and_no_message(self):
        lines, text = traced("wire,op", code="print(nb.ones(2):sum())", in_file=False)
        self.assertEqual(text, "2\n")
        self.check(lines)
        self.assertLess(len(lines), 60)  # what it tells makes no messages, of which it would tell again


if __name__ == "__main__":
    unittest.main()
