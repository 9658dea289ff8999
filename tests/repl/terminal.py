# SPDX-License-Identifier: MIT
"""The executable on a pseudo-terminal whose screen is emulated."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import tempfile
import termios
import time

import pyte

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))
SANITIZED = bool(re.search(r"/(asan|tsan|hostile)/", NABLUA))
TIMEOUT = 120 if SANITIZED else 30
HOME = tempfile.TemporaryDirectory()  # of the history and the init file, where a test gives no other


def environment(home=None, **more):
    """Variables of a terminal without colours, whose user has no files but those below `home`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NABLUA")}
    env.update(TERM="xterm", NO_COLOR="1", INPUTRC="/dev/null", LC_ALL="C.UTF-8", XDG_STATE_HOME=home or HOME.name,
               XDG_CONFIG_HOME=home or HOME.name)
    env.update(more)
    return env


def without_times(text):
    """The text without the lines that tell how long an input took, which a busy machine brings anywhere."""
    return re.sub(r"(?m)^\d+\.\d s\n", "", text)


class Screen(pyte.Screen):
    """pyte 0.8 leaves a row as it was when the row to take its place has never been written."""

    def delete_lines(self, count=None):
        for y in range(self.lines):
            self.buffer[y]  # now it is there
        super().delete_lines(count)


class Terminal:
    def __init__(self, *arguments, home=None, columns=100, rows=120, prepare=None, **variables):
        self.screen = Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.rows = []
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.chdir(ROOT)
            if prepare:
                prepare()
            os.execve(NABLUA, [NABLUA, *(arguments or ("--no-banner",))], environment(home, **variables))

    def resize(self, columns, rows):
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def row(self, y):
        line, text = self.screen.buffer[y], []
        for x in range(max(line, default=-1) + 1):
            text.append(line[x].data)  # what stands right of a wide character is empty
        return "".join(text).rstrip()

    def text(self):
        """What is on the screen; only rows that changed are read anew, which is most of the time a test takes."""
        if len(self.rows) != self.screen.lines:
            self.rows = [""] * self.screen.lines
            self.screen.dirty.update(range(self.screen.lines))
        for y in self.screen.dirty:
            if y < len(self.rows):
                self.rows[y] = self.row(y)
        self.screen.dirty.clear()
        return "\n".join(self.rows).rstrip()

    def type(self, text):
        os.write(self.fd, text.encode())

    def read(self, seconds):
        """What comes within that time; False at the end of it all."""
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                self.stream.feed(os.read(self.fd, 65536))  # a character may be cut between two reads
            except OSError:
                return False
        return True

    def wait_for(self, expression):
        """Reads until the whole screen matches; the end of the expression's match is found anywhere."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            found = re.search(expression, self.text())
            if found:
                return found
            if not self.read(0.2):
                break
        raise AssertionError("no %r on the screen:\n%s" % (expression, self.text()))

    def wait_for_prompt(self, number):
        return self.wait_for(r"(?m)^%d>\Z" % number)

    def status(self):
        """The exit status, once the program has ended."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = None
                while self.read(1):
                    pass
                return os.waitstatus_to_exitcode(status)
            self.read(0.05)
        raise AssertionError("still running:\n" + self.text())

    def close(self):
        if self.pid:
            # Where runs of functions are counted, what is killed would count nothing.
            os.kill(self.pid, signal.SIGUSR2 if "/coverage/" in NABLUA else signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)
