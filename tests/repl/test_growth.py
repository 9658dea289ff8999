# SPDX-License-Identifier: MIT
"""What a session reads and keeps: time as an input's length, and memory that long sessions do not fill."""
import os
import pty
import select
import subprocess
import tempfile
import unittest

from terminal import NABLUA, SANITIZED, environment

TEN = 14  # what ten times as much may take, in CPU time: a reader that looks at all again with every line takes 100


def seconds_of(feed, size):
    """CPU seconds of a process that `feed` gives an input of this size, beyond those of an empty session; what is too
    short to be told from noise counts as a tenth."""
    return max(feed(size) - feed(0), 0.1)


def read_lines(text):
    """The CPU seconds of a session that reads the text from a pipe, and its last output."""
    with tempfile.TemporaryFile("w+") as f, tempfile.TemporaryFile("w+") as out:
        f.write(text)
        f.seek(0)
        p = subprocess.Popen([NABLUA, "-i", "--no-banner"], stdin=f, stdout=out, stderr=subprocess.STDOUT,
                             env=environment())
        usage = os.wait4(p.pid, 0)[2]
        p.returncode = 0
        out.seek(0)
        return usage.ru_utime, out.read()


class Reading(unittest.TestCase):
    def linear(self, make, answer):
        def feed(lines):
            seconds, output = read_lines(make(lines))
            self.assertIn(answer(lines), output[-200:])
            return seconds
        few = 300 if SANITIZED else 3000
        small, large = seconds_of(feed, few), seconds_of(feed, 10 * few)
        self.assertLess(large / small, TEN, "%d lines take %.2f s, ten times as many %.2f s" % (few, small, large))

    def test_a_function_of_many_lines(self):
        self.linear(lambda n: "function f()\n" +
                    "  x = (x or 0) + 1\n" * n + "end\nf()\n(x or 0) + 0.5\n", lambda n: "%d.5" % n)

    def test_a_table_of_many_lines(self):
        self.linear(lambda n: "t = {\n" + "  1,\n" * n + "}\n#t + 0.5\n", lambda n: "%d.5" % n)

    def test_a_long_string_of_many_lines(self):
        self.linear(lambda n: "t = [[\n" + "a ] b\n" * n + "]] .. [=[\n" + "]]\n" * n + "]=]\n#t + 0.5\n",
                    lambda n: "%d.5" % (9 * n))

    def test_a_long_comment_of_many_lines(self):
        self.linear(lambda n: "x = 7 --[[\n" + "a ] b\n" * n + "]]\nx + 0.5\n", lambda n: "7.5")

    def test_a_formula_of_many_lines(self):
        self.linear(lambda n: "x = 0 +\n" + "  1 +\n" * (n // 10) + "0.5\nx\n", lambda n: "%d.5" % (n // 10))

    def test_many_inputs(self):
        self.linear(lambda n: "x = (x or 0) + 1\n" * n + "x + 0.5\n" if n else "0.5\n", lambda n: "%d.5" % n)

    def test_an_error_in_a_short_block_is_seen_at_its_line(self):
        self.assertIn("6.5", read_lines("function f()\n  x = = 1\nx = 6\nx + 0.5\n")[1])

    def test_an_error_in_a_long_block_is_seen(self):
        output = read_lines("function f()\n" + "  x = 1\n" * 5000 +
                            "  x = = 1\n" + "x = 2\n" * 5000 + "x = 6\n\nx + 0.5\n")[1]
        self.assertIn("unexpected symbol near '='", output)
        self.assertIn("6.5", output[-200:])

    def test_strings_and_brackets_do_not_deceive(self):
        block = "function f()\n" + "  x = '}' .. \"end\" .. #'(' -- end\n" * 500 + "  return 3.5 end\n"
        self.assertIn("3.5", read_lines(block + "f()\n")[1][-200:])

    def test_a_paste(self):
        def feed(kilobytes):
            pid, fd = pty.fork()
            if pid == 0:
                os.execve(NABLUA, [NABLUA, "--no-banner"], environment())
            os.set_blocking(fd, False)
            # Two pastes in one, and what is typed behind them: nothing may be lost.
            paste = "\x1b[200~" + ("x = [[%s]]\r" % ("a" * 90)) * (10 * kilobytes) + "x = 1\x1b[201~"
            left = (paste + "\x1b[200~0\x1b[201~ print(x + 32.5)\r").encode()
            seen = b""
            while b"42.5" not in seen:
                ready = select.select([fd], [fd] if left else [], [], 60)
                self.assertTrue(ready[0] or ready[1], "nothing came for a minute")
                if ready[1]:
                    try:
                        left = left[os.write(fd, left[:65536]):]
                    except BlockingIOError:
                        pass
                if ready[0]:
                    seen = (seen + os.read(fd, 65536))[-100000:]
            os.close(fd)
            usage = os.wait4(pid, 0)[2]
            return usage.ru_utime + usage.ru_stime
        few = 30 if SANITIZED else 200
        small, large = seconds_of(feed, few), seconds_of(feed, 10 * few)
        self.assertLess(large / small, TEN, "%d kB take %.2f s, ten times as much %.2f s" % (few, small, large))
        if not SANITIZED:
            self.assertLess(large, 1.5)


class Keeping(unittest.TestCase):
    def numbers(self, text):
        """The lines of the output that are numbers with a dot, which nothing else in it has."""
        return [float(line.split("> ")[-1]) for line in read_lines(text)[1].split("\n") if "." in line]

    def test_the_last_thousand_values_are_kept(self):
        text = "0;\n" + "".join("%d.5;\n" % i for i in range(2, 1301)) + "_1300, _301, _300\n"
        self.assertIn("1300.5\n301.5\nnil", read_lines(text)[1][-100:])

    def test_values_are_kept_in_a_share_of_memory(self):
        text = "nb.memory{limit=nb.memory().live + 4e7};\n" + "nb.zeros(250000);\n" * 100
        output = read_lines(text + "_, _101 and _100 and 2.5, _50\n")[1]
        self.assertNotIn("not enough", output)
        self.assertIn("2.5\nnil", output)

    def test_what_the_user_put_there_stays(self):
        text = "1;\n_1 = 'mine';\n" + "0;\n" * 1200 + "_1, _3\n"
        self.assertIn('"mine"\nnil', read_lines(text)[1][-100:])

    def test_a_value_that_was_let_go_is_gone(self):
        text = "nb.zeros(1000000);\n_, _1 = nil;\ncollectgarbage();\nnb.memory().live < 1e6\n"
        self.assertIn("true", read_lines(text)[1])

    def test_inputs_leave_nothing_behind(self):
        count = "io.write(collectgarbage() or '', '\\n', collectgarbage('count') + 0.001, '\\n');\n"
        for code in ("x = 1\n", "'%s'\n", "local y = 2; y\n", "nb.ones(2)\n", "error 'no'\n", "{1, 2}\n"):
            few, more = self.numbers(("%s" % code) * 3000 + count + code * 3000 + count)[-2:]
            self.assertLess((more - few) / 3000, 0.02, "kB by each %r" % code)  # 0.1 and more where it is kept

    def test_what_was_let_go_is_said(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "all.lua")
            output = read_lines("x = 1\n" * 2500 + "%%history 1\n%%save %s\n" % path)[1]
            self.assertIn("2500  x = 1", output)
            with open(path) as f:
                lines = f.read().split("\n")
            self.assertEqual(lines[0], "-- inputs 1..502 are no longer held")
            self.assertEqual(lines.count("x = 1"), 1998)


if __name__ == "__main__":
    unittest.main()
