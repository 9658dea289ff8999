# SPDX-License-Identifier: MIT
"""Transcripts in tests/sessions, each run twice: through a pipe, and typed into a terminal, whose screen must then be
the transcript.  In the terminal the spaces that begin a continued line are not typed: the prompt indents.
"""
import os
import re
import subprocess
import sys
import time
import unittest

from terminal import NABLUA, ROOT, TIMEOUT, Terminal, environment, without_times

sys.path.insert(0, os.path.join(ROOT, "tests/sessions"))
import transcript  # noqa: E402

COLUMNS = 160  # so that no line of a transcript is broken


def through_pipe(steps):
    """The text after each input, by feeding all of them at once."""
    code = "".join("\n".join([*step.code, *step.answers]) + "\n" for step in steps)
    r = subprocess.run([NABLUA, "-i", "--no-banner"], input=code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=TIMEOUT, env=environment(COLUMNS=str(COLUMNS)), cwd=ROOT)
    text, shown = r.stdout, []
    for number in range(1, len(steps) + 1):
        begin = re.search(r"(?m)(?:^|(?<=[>?] )|(?<=\| ))%d> (?: +\| )*" % number, text)
        if not begin:
            raise AssertionError("no prompt %d in %r" % (number, text))
        text = text[begin.end():]
        end = re.search(r"(?m)(?:^|(?<=\| )|(?<=debug> )|(?<=paused> )|(?<=\? ))%d> " % (number + 1), text)
        shown.append(text[:end.start()] if end else text)
    return shown


def press_tab(t, number, text, expected):
    """Types a text and Tab, compares what is offered, and takes the text away."""
    prompt = "%d> " % number
    t.type(text + "\t")
    wanted = [re.escape(name) for name in expected if name != "..."]
    if not expected:
        t.wait_for(r"(?m)^%s%s(\n.*)?\Z" % (prompt, re.escape(text)))  # below it, the call's parameters
    elif len(expected) == 1:
        t.wait_for(r"(?m)^%s.*%s(\n.*)?\Z" % (prompt, wanted[0]))
    else:
        t.wait_for(r"(?m)^%s.*\n%s" % (prompt, "[\\s\\S]*".join(r"^%s\b.*" % name for name in wanted)))
        rows = t.text().rsplit("\n" + prompt, 1)[-1].split("\n")[1:]
        names = [row.split()[0] for row in rows if not row.startswith("…")]
        if not transcript.offers(names, expected):
            raise AssertionError("%r offers %s, expected: %s" % (text, names, expected))
    t.type("\x07\x15")
    t.wait_for_prompt(number)


def in_terminal(steps):
    t = Terminal(columns=COLUMNS, rows=200)
    try:
        for number, step in enumerate(steps, 1):
            t.wait_for_prompt(number)
            for text, expected in step.tabs:
                press_tab(t, number, text, expected)
            for i, line in enumerate(step.code):
                if i > 0:
                    t.wait_for(r"(?m)^ +\| *\Z")
                t.type((line.lstrip(" ") if i > 0 else line) + "\r")
            for asked, answer in re.findall("(?m)^(.*)[‹«](.*?)[›»]$", step.shown):
                t.wait_for(r"(?m)^%s\Z" % re.escape(asked.rstrip()))
                before = t.text()
                t.type(answer + "\r")
                t.wait_for(r"\A(?!%s\Z)" % re.escape(before))  # the next question may read like this one
            if step.stopped:
                time.sleep(0.5)
                t.type("\x03")
        t.wait_for_prompt(len(steps) + 1)
        return without_times(t.text()).replace("^C", "")
    finally:
        t.close()


class Transcripts(unittest.TestCase):
    pass


def add(name, path):
    steps = transcript.read(path)

    def pipe(self):
        if any(step.stopped for step in steps):
            self.skipTest("nobody presses Ctrl-C in a pipe")
        for number, (step, shown) in enumerate(zip(steps, through_pipe(steps)), 1):
            expected = re.sub("[‹«].*?[›»]\n?", "", step.shown)
            if not transcript.agrees(shown, expected):
                self.fail("after input %d expected:\n%s\ngot:\n%s" % (number, expected, shown))

    def terminal(self):
        screen, expected = in_terminal(steps), ""
        for number, step in enumerate(steps, 1):
            prompt = "%d> " % number
            expected += re.escape((prompt + step.code[0]).rstrip()) + "\n"
            for line in step.code[1:]:
                expected += re.escape((" " * (len(prompt) - 2) + "| " + line).rstrip()) + "\n"
            expected += transcript.pattern(re.sub("[‹›]| *«.*?»", "", step.shown))
        self.assertRegex(screen, r"\A" + expected + "%d>" % (len(steps) + 1) + r"\Z")

    setattr(Transcripts, "test_%s_through_a_pipe" % name, pipe)
    setattr(Transcripts, "test_%s_in_a_terminal" % name, terminal)


for item in transcript.transcripts():
    add(*item)

if __name__ == "__main__":
    unittest.main()
