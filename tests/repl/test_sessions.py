# SPDX-License-Identifier: MIT
"""Transcripts in tests/sessions: each is what a terminal shows, prompts included.

Every transcript is run twice: line by line through a pipe, and typed into a terminal, whose screen must then be the
transcript.  In the terminal the spaces that begin a continued line are not typed: the prompt indents.  A line of
"..." stands for any lines, "..." within a line for anything.  The first line may say what it is about after "--".
"""
import fcntl
import glob
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

import pyte

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))
SANITIZED = bool(re.search(r"/(asan|tsan|hostile)/", NABLUA))
TIMEOUT = 120 if SANITIZED else 30
COLUMNS, ROWS = 100, 120
HOME = tempfile.TemporaryDirectory()  # of the history


def read_transcript(path):
    """Pairs of an input (a list of lines) and the text shown after it."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().rstrip("\n").split("\n")
    if lines[0].startswith("--"):
        lines = lines[1:]
    steps = []
    for line in lines:
        number = len(steps) + 1
        if line.startswith("%d> " % number):
            steps.append(([line[len("%d> " % number):]], []))
        elif steps and re.match(r" +\| ?", line) and not steps[-1][1]:
            steps[-1][0].append(re.sub(r"^ +\| ?", "", line))
        else:
            steps[-1][1].append(line)
    return [(code, "\n".join(shown)) for code, shown in steps]


def pattern(expected):
    """What the expected text stands for, as a regular expression."""
    parts = []
    for line in expected.split("\n"):
        if line == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(piece) for piece in line.split("...")) + r" *\n")
    return "".join(parts) if expected else ""


def environment():
    env = {k: v for k, v in os.environ.items() if not k.startswith("NABLUA")}
    env.update(TERM="xterm", NO_COLOR="1", INPUTRC="/dev/null", LC_ALL="C.UTF-8", COLUMNS=str(COLUMNS),
               XDG_STATE_HOME=HOME.name, XDG_CONFIG_HOME=HOME.name)
    return env


def through_pipe(steps):
    """The text after each input, by feeding all of them at once."""
    code = "".join("\n".join(lines) + "\n" for lines, _ in steps)
    r = subprocess.run([NABLUA, "-i", "--no-banner"], input=code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=TIMEOUT, env=environment(), cwd=ROOT)
    text, shown = r.stdout, []
    for number in range(1, len(steps) + 1):
        begin = re.search(r"(?m)(?:^|(?<=> )|(?<=\| ))%d> (?: +\| )*" % number, text)
        if not begin:
            raise AssertionError("no prompt %d in %r" % (number, text))
        text = text[begin.end():]
        end = re.search(r"(?m)(?:^|(?<=\| ))%d> " % (number + 1), text)
        shown.append(text[:end.start()] if end else text)
    return shown


class Terminal:
    def __init__(self):
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execve(NABLUA, [NABLUA, "--no-banner"], environment())
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def wait_for(self, expression):
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            if re.search(expression, self.text()):
                return
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    # What readline and Lua write is UTF-8; a character may be cut between two reads.
                    self.stream.feed(os.read(self.fd, 65536))
                except OSError:
                    break
        raise AssertionError("no %r on the screen:\n%s" % (expression, self.text()))

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def in_terminal(steps):
    t = Terminal()
    try:
        for number, (lines, _) in enumerate(steps, 1):
            t.wait_for(r"(?m)^%d>$\Z" % number)
            for i, line in enumerate(lines):
                if i > 0:
                    t.wait_for(r"(?m)^ +\| *\Z")
                os.write(t.fd, (line.lstrip(" ") if i > 0 else line).encode() + b"\r")
        t.wait_for(r"(?m)^%d>$\Z" % (len(steps) + 1))
        return t.text()
    finally:
        t.close()


class Transcripts(unittest.TestCase):
    pass


def add(path):
    name = os.path.splitext(os.path.basename(path))[0]
    steps = read_transcript(path)

    def pipe(self):
        for number, ((_, expected), shown) in enumerate(zip(steps, through_pipe(steps)), 1):
            shown = "".join(line.rstrip() + "\n" for line in shown.split("\n")[:-1])
            self.assertRegex(shown, r"\A" + pattern(expected) + r"\Z", "after input %d" % number)

    def terminal(self):
        screen, expected = in_terminal(steps), ""
        for number, (lines, shown) in enumerate(steps, 1):
            prompt = "%d> " % number
            expected += re.escape((prompt + lines[0]).rstrip()) + "\n"
            for line in lines[1:]:
                expected += re.escape((" " * (len(prompt) - 2) + "| " + line).rstrip()) + "\n"
            expected += pattern(shown)
        self.assertRegex(screen, r"\A" + expected + "%d>" % (len(steps) + 1) + r"\Z")

    setattr(Transcripts, "test_%s_through_a_pipe" % name, pipe)
    setattr(Transcripts, "test_%s_in_a_terminal" % name, terminal)


for transcript in sorted(glob.glob(os.path.join(ROOT, "tests/sessions/*.txt"))):
    add(transcript)

if __name__ == "__main__":
    unittest.main()
