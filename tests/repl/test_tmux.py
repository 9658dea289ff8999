# SPDX-License-Identifier: MIT
"""A session typed in a real terminal, tmux: editing, pasting, the menu, history, and Ctrl-C in all kinds of long work.

With NABLUA_SCREENS=FOLDER the screens that were checked are left there, to be looked at.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from terminal import NABLUA, ROOT, SANITIZED, TIMEOUT, environment, without_times

# What runs long, and what is true afterwards.
WORK = {
    "a loop": "while true do n = n + 1 end",
    "a loop of pcall": "while true do pcall(function() while true do n = n + 1 end end) end",
    "a coroutine": "coroutine.wrap(function() while true do n = n + 1 end end)()",
    "a metamethod": "local _ = setmetatable({}, {__index = function() while true do end end}).x",
    "a pattern": "local _ = ('a'):rep(3000):find(('.-'):rep(20) .. 'b')",
    "table.sort": "local t = {} for i = 1, 1e6 do t[i] = 'k' .. i end while true do t[1] = 'z' table.sort(t) end",
    "a program": "os.execute 'sleep 60'",
    "a pipe": "io.popen 'sleep 60':read 'a'",
    "standard input": "io.read()",
    "sleeping": "nb.sleep(60)",
    "matmul": "local a = nb.rand(4096, 4096) for i = 1, 100 do a:matmul(a) end",
    "convolution": "local x, w = nb.rand(256, 16, 64, 64), nb.rand(32, 16, 5, 5) for i = 1, 100 do x:conv2d(w, {padding=2}) end",
    "sort of 1e7": "local x = nb.rand(10000000) for i = 1, 100 do x:sort() end",
    "training": "local x, y = data.xor() local net = nn.Linear(2, 1) nn.fit(net, nn.MSELoss(), "
                "optim.SGD(net:parameters(), {lr=0.1}), {x, y}, {epochs=1e9, progress=false})",
    "backward": "local x = nb.rand(2000, 2000, {requires_grad=true}) while true do (x:matmul(x)):sum():backward() end",
}


@unittest.skipUnless(shutil.which("tmux"), "there is no tmux")
class InTmux(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.socket = os.path.join(self.folder.name, "tmux")
        env = environment(self.folder.name)
        del env["NO_COLOR"], env["TERM"]
        env.pop("TMUX", None)
        self.env = env
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "40", NABLUA, "--no-banner")
        self.addCleanup(self.tmux, "kill-server")
        self.number = 1
        self.wait_for(r"(?m)^1>$")

    def tmux(self, *arguments):
        return subprocess.run(["tmux", "-S", self.socket, *arguments], env=self.env, cwd=ROOT, capture_output=True,
                              text=True, check=False).stdout

    def screen(self):
        return without_times(re.sub(r"(?m) +$", "", self.tmux("capture-pane", "-p")).rstrip("\n"))

    def keep(self, name):
        folder = os.environ.get("NABLUA_SCREENS")
        if folder:
            with open(os.path.join(folder, name + ".txt"), "w") as f:
                f.write(self.tmux("capture-pane", "-p", "-e"))

    def wait_for(self, expression, seconds=TIMEOUT):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            text = self.screen()
            if re.search(expression, text):
                return text
            time.sleep(0.01)
        raise AssertionError("no %r on the screen:\n%s" % (expression, self.screen()))

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def key(self, *names):
        self.tmux("send-keys", *names)

    def prompt(self, seconds=TIMEOUT):
        self.number += 1
        return self.wait_for(r"(?m)^%d>\Z" % self.number, seconds)

    def enter(self, line):
        self.type(line)
        self.key("Enter")
        return self.prompt()

    def test_a_session(self):
        # A function of several lines; the prompt indents.
        for line in ("function norm(v)", "local s = 0", "for _, x in ipairs(v) do", "s = s + x * x", "end",
                     "return math.sqrt(s)"):
            self.type(line)
            self.key("Enter")
            self.wait_for(r"\|\Z")
        self.type("end")
        self.wait_for(r"1> function norm\(v\)\n \|   local s = 0\n \|   for _, x in ipairs\(v\) do\n \|     s = s \+ x \* x\n"
                      r" \|   end\n \|   return math\.sqrt\(s\)\n \| end\Z")
        self.keep("function")
        self.key("Enter")
        self.prompt()
        self.assertTrue(self.enter("norm{3, 4}").endswith("\n5.0\n3>"))
        # Thirty lines are pasted as a terminal does it, and are one input.
        self.tmux("set-buffer", "".join("t%d = %d\n" % (i, i) for i in range(1, 30)) + "t1 + t29\n")
        self.tmux("paste-buffer", "-p")
        self.wait_for(r"\| t1 \+ t29\Z")
        self.key("Enter")
        self.assertTrue(self.prompt().endswith("\n30\n4>"))
        # The menu.
        self.type("nn.Li")
        self.key("Tab")
        self.wait_for(r"4> nn\.Linear\Z")
        self.key("C-u")
        self.type("nn.Conv")
        self.key("Tab")
        self.wait_for(r"(?m)^Conv2d +layer +\w+")
        for name in re.findall(r"(?m)^(Conv\w+) +\w+ ", self.screen()):
            self.key("Tab")
            self.wait_for(r"4> nn\.%s\n" % name)
            if name == "Conv2d":
                break
        self.keep("menu")
        self.key("Enter")
        self.wait_for(r"4> nn\.Conv2d\Z")
        self.key("C-u")
        # History brings the block back, arrows move in it, and it is run changed.
        self.type("function")
        self.key("Up")
        self.wait_for(r"4> function norm\(v\)\n(?: \|.*\n)+ \| end\Z")
        self.key("Right", "Down", "Down", "Down", "Down", "Down", "C-e", "BSpace")
        self.type(" + 10)")
        self.wait_for(r"\|   return math\.sqrt\(s \+ 10\)\n \| end\Z")
        self.keep("recall")
        self.key("M->", "Enter")
        self.prompt()
        self.assertTrue(self.enter("norm{0, 0}").endswith("\n3.1622776601684\n6>"), self.screen())

    def test_debug_in_a_failed_layer(self):
        self.enter("local Odd = nn.module('Odd', function(self) self.fc = nn.Linear(3, 2) end)")
        self.enter("function Odd:forward(x) local h = x:mean(2, {keepdim=true}) return self.fc(h) end")
        text = self.enter("nn.Sequential{ nn.Linear(4, 8), Odd() }(nb.ones(5, 4))")
        self.assertIn("Linear", text)
        self.assertIn("Odd", text)
        self.type("%debug")
        self.key("Enter")
        self.wait_for(r"debug>\Z")
        self.type("h.shape")
        self.key("Enter")
        self.wait_for(r"\{ 5, 1 \}\ndebug>\Z")
        self.keep("debug")
        self.type(":continue")
        self.key("Enter")
        self.prompt()

    def interrupt(self, name):
        self.enter("n = 1; kept = {'%s'}" % name)
        self.type(WORK[name])
        self.key("Enter")
        time.sleep(2.5 if name == "table.sort" else 1.2)
        self.assertNotRegex(self.screen(), r"(?m)^%d>\Z" % (self.number + 1))
        before = time.monotonic()
        self.key("C-c")
        text = self.prompt()
        took = time.monotonic() - before
        self.assertIn("interrupted", text)
        self.assertTrue(self.enter("kept[1], n > 0").endswith("%s\"\ntrue\n%d>" % (name, self.number)), self.screen())
        return took

    def test_control_c_in_each_kind_of_work(self):
        if SANITIZED:
            self.skipTest("too slow with sanitizers; the command line's test covers this")
        for name in WORK:
            with self.subTest(name):
                took = self.interrupt(name)
                if os.environ.get("NABLUA_SCREENS"):
                    print("%-16s %4.0f ms" % (name, 1000 * took), file=sys.stderr)
                self.assertLess(took, 3)
        self.keep("interrupts")

    def test_control_z_leaves_the_shell_at_work_and_fg_comes_back(self):
        self.tmux("respawn-pane", "-k", "PS1='ready> ' sh -i")
        self.wait_for(r"(?m)^ready>$")
        self.tmux("send-keys", NABLUA + " --no-banner", "Enter")
        self.wait_for(r"(?m)^1>$")
        self.tmux("send-keys", "kept = 4")
        self.wait_for(r"(?m)^1> kept = 4$")
        self.tmux("send-keys", "C-z")
        self.wait_for(r"(?m)^ready>\Z")
        self.tmux("send-keys", "fg", "Enter")
        self.wait_for(r"(?s)fg.*kept = 4\Z")
        self.tmux("send-keys", "2; kept", "Enter")
        self.wait_for(r"(?m)^42$")


if __name__ == "__main__":
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    unittest.main()
