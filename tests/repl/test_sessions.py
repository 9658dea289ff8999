# SPDX-License-Identifier: MIT
"""Transcripts in tests/sessions, each run twice: through a pipe, and typed into a terminal, whose screen must then be
the transcript.  In the terminal the spaces that begin a continued line are not typed: the prompt indents.
"""
import os
import re
import subprocess
import sys
import unittest

from terminal import NABLUA, ROOT, TIMEOUT, Terminal, environment, without_times

sys.path.insert(0, os.path.join(ROOT, "tests/sessions"))
import transcript  # noqa: E402

COLUMNS = 160  # so that no line of a transcript is broken


def through_pipe(steps):
    """The text after each input, by feeding all of them at once."""
    code = "".join("\n".join(lines) + "\n" for lines, _ in steps)
    r = subprocess.run([NABLUA, "-i", "--no-banner"], input=code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=TIMEOUT, env=environment(COLUMNS=str(COLUMNS)), cwd=ROOT)
    text, shown = r.stdout, []
    for number in range(1, len(steps) + 1):
        begin = re.search(r"(?m)(?:^|(?<=> )|(?<=\| ))%d> (?: +\| )*" % number, text)
        if not begin:
            raise AssertionError("no prompt %d in %r" % (number, text))
        text = text[begin.end():]
        end = re.search(r"(?m)(?:^|(?<=\| ))%d> " % (number + 1), text)
        shown.append(text[:end.start()] if end else text)
    return shown


def in_terminal(steps):
    t = Terminal(columns=COLUMNS)
    try:
        for number, (lines, _) in enumerate(steps, 1):
            t.wait_for_prompt(number)
            for i, line in enumerate(lines):
                if i > 0:
                    t.wait_for(r"(?m)^ +\| *\Z")
                t.type((line.lstrip(" ") if i > 0 else line) + "\r")
        t.wait_for_prompt(len(steps) + 1)
        return without_times(t.text())
    finally:
        t.close()


class Transcripts(unittest.TestCase):
    pass


def add(name, path):
    steps = transcript.read(path)

    def pipe(self):
        for number, ((_, expected), shown) in enumerate(zip(steps, through_pipe(steps)), 1):
            if not transcript.agrees(shown, expected):
                self.fail("after input %d expected:\n%s\ngot:\n%s" % (number, expected, shown))

    def terminal(self):
        screen, expected = in_terminal(steps), ""
        for number, (lines, shown) in enumerate(steps, 1):
            prompt = "%d> " % number
            expected += re.escape((prompt + lines[0]).rstrip()) + "\n"
            for line in lines[1:]:
                expected += re.escape((" " * (len(prompt) - 2) + "| " + line).rstrip()) + "\n"
            expected += transcript.pattern(shown)
        self.assertRegex(screen, r"\A" + expected + "%d>" % (len(steps) + 1) + r"\Z")

    setattr(Transcripts, "test_%s_through_a_pipe" % name, pipe)
    setattr(Transcripts, "test_%s_in_a_terminal" % name, terminal)


for item in transcript.transcripts():
    add(*item)

if __name__ == "__main__":
    unittest.main()
