#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What somebody at the prompt waits for: the first prompt, a key's echo, Tab, and what Ctrl-C ends.

    terminal.py NABLUA

Every figure is taken at a pseudo-terminal, from the write of the key to the read of what it brings.
"""
import fcntl
import os
import pty
import re
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time

NAMES = 10000
WORK = [
    ("a loop", "while true do end"),
    ("a loop of pcall", "while true do pcall(function() while true do end end) end"),
    ("short pcalls", "while true do pcall(error) end"),
    ("a coroutine", "coroutine.wrap(function() while true do end end)()"),
    ("a pattern", "('a'):rep(3000):find(('.-'):rep(20) .. 'b');"),
    ("sleeping", "nb.sleep(60)"),
    ("a program", "os.execute 'sleep 60'"),
    ("matmul 4096×4096", "for i = 1, 1000 do big:matmul(big) end"),
    ("convolution", "for i = 1, 1000 do images:conv2d(kernels, {padding=2}) end"),
    ("sort of 10⁷", "for i = 1, 1000 do numbers:sort() end"),
    ("backward", "while true do (big:matmul(weights)):sum():backward() end"),
    ("nn.fit", "nn.fit(nn.Linear(2, 1), nn.MSELoss(), optim.SGD({nb.ones(1, {requires_grad=true})}, {lr=0}), "
               "{data.xor()}, {epochs=1e9, progress=false})"),
]
SETUP = ("big = nb.rand(4096, 4096); weights = nb.rand(4096, 512, {requires_grad=true}); images = nb.rand(256, 16, 64, 64); "
         "kernels = nb.rand(32, 16, 5, 5); numbers = nb.rand(10000000);")


class Terminal:
    def __init__(self, nablua, home, colors=False):
        env = {k: v for k, v in os.environ.items() if not k.startswith("NABLUA")}
        env.update(TERM="xterm", INPUTRC="/dev/null", LC_ALL="C.UTF-8", XDG_STATE_HOME=home, XDG_CONFIG_HOME=home,
                   NO_COLOR="" if colors else "1")
        self.seen = ""
        self.begun = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
            os.execve(nablua, [nablua], env)

    def wait_for(self, pattern, seconds=60):
        """Reads until what came since the last key matches; the time of that read."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if select.select([self.fd], [], [], 0.5)[0]:
                self.seen += re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", os.read(self.fd, 65536).decode("utf-8", "replace"))
                if re.search(pattern, self.seen):
                    return time.perf_counter()
        raise SystemExit("no %r in %r" % (pattern, self.seen[-500:]))

    def key(self, text, pattern, seconds=60):
        """Milliseconds from typing the text to what it brings."""
        while select.select([self.fd], [], [], 0.005)[0]:
            os.read(self.fd, 65536)
        self.seen = ""
        begun = time.perf_counter()
        os.write(self.fd, text.encode())
        return (self.wait_for(pattern, seconds) - begun) * 1e3

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def show(name, times, limit):
    print("%-32s %7.1f %7.1f   %s" % (name, statistics.median(times), max(times), limit))


def starts(nablua, home):
    times = []
    for _ in range(41):
        t = Terminal(nablua, home)
        times.append((t.wait_for("1> ") - t.begun) * 1e3)
        t.close()
    return times


def main():
    nablua = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as home:
        print("ms                                median    most")
        show("start to prompt", starts(nablua, home), "median ≤ 15")
        t = Terminal(nablua, home)
        t.wait_for("1> ")
        for n in range(1, 101):  # a history to be suggested from
            t.key("value_%d = %d\r" % (n, n), r"%d> \s*$" % (n + 1))
        t.close()
        show("  with a history", starts(nablua, home), "median ≤ 15")
        t = Terminal(nablua, home, colors=True)
        t.wait_for("1> ")
        t.key("for i = 1, %d do _G['global_' .. i] = i end; nb.ones(1);\r" % NAMES, r"2> \s*$")
        first = t.key("glob", "glob")
        keys = [t.key(c, re.escape(c)) for c in ("al_ + matmul(" * 16)]
        show("a key, %d globals" % NAMES, [first, *keys], "most ≤ 20")
        t.key("\x15", ".")
        show("a key in a block of 60 lines", keys_in_block(t), "most ≤ 20")
        tabs = []
        for prefix in ("global_", "global_77", "nb.", " ", "global_999"):  # each with something to offer
            for _ in range(5):
                t.key("\x15" + prefix, ".")
                tabs.append(t.key("\t", "."))
                t.key("\x07\x15", ".")
        show("Tab, %d globals" % NAMES, tabs, "most ≤ 50")
        t.close()
        t = Terminal(nablua, home)
        t.wait_for("1> ")
        t.key(SETUP + "\r", r"2> \s*$")
        number = 2
        for name, code in WORK:
            limit = "≤ 500" if name in ("matmul 4096×4096", "convolution", "sort of 10⁷", "backward") else "≤ 100"
            times = []
            for _ in range(5):
                t.key(code + "\r", r"\n")
                time.sleep(0.7)
                number += 1
                times.append(t.key("\x03", r"interrupted[\s\S]*\n\s*%d> \s*$" % number))
            show("Ctrl-C in " + name, times, limit)
        t.close()
    return 0


def keys_in_block(t):
    lines = ["function f()"] + ["local x%d = nb.ones(2, 2):matmul(nb.ones(2, 2)) -- a line" % i for i in range(60)]
    t.key("\x1b[200~" + "\n".join(lines) + "\x1b[201~", "line")
    time.sleep(0.2)
    times = [t.key(c, re.escape(c)) for c in " = abs(1)" * 5]
    t.key("\x03", "> ")
    return times


if __name__ == "__main__":
    sys.exit(main())
