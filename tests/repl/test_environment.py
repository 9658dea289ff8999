# SPDX-License-Identifier: MIT
"""The environment variables of the library: what help says of them, and that every front end obeys them alike."""
import os
import re
import subprocess
import sys
import tempfile
import unittest

from terminal import NABLUA, ROOT, SANITIZED, TIMEOUT, environment

BUILD = os.path.dirname(NABLUA)
KERNEL = os.path.join(BUILD, "nablua-kernel")
SAMPLES = ("print(nb.rand(1):item())", "print(nb.threads())", "print(math.tointeger(nb.memory().limit))",
           "print(pcall(nb.zeros, 1000, 1000, 1000))")


def run(*arguments, **variables):
    return subprocess.run([NABLUA, *arguments], input="", capture_output=True, text=True, timeout=TIMEOUT,
                          env=environment(**variables))


def rows():
    """The table: name, what it takes, what it sets, what holds without it."""
    code = "for _, r in ipairs(require('nablua.native').environment()) do print(r.name, r.takes, r.doc, r.fallback) end"
    return [line.split("\t") for line in run("-e", code).stdout.splitlines()]


def in_prompt(code, **variables):
    r = subprocess.run([NABLUA, "-i", "--no-banner"], input=code + "\n", capture_output=True, text=True, timeout=TIMEOUT,
                       env=environment(**variables))
    return re.sub(r"^1> |\n2> \n$", "", r.stdout), r.stderr


def in_script(code, **variables):
    r = run("-e", code, **variables)
    return r.stdout.strip(), r.stderr


def in_stock(code, **variables):
    r = subprocess.run(["lua5.4", "-e", "nb = require 'nablua' " + code], capture_output=True, text=True, timeout=TIMEOUT,
                       env=environment(LUA_CPATH=BUILD + "/?.so;;", **variables))
    return r.stdout.strip(), r.stderr


def in_kernel(code, **variables):
    os.environ["NABLUA_KERNEL"] = KERNEL
    sys.path.insert(0, os.path.join(ROOT, "tests/jupyter"))
    try:
        import kernels
    except SystemExit as missing:
        raise unittest.SkipTest("jupyter_client is missing") from missing
    with tempfile.TemporaryFile("w+") as said:
        with kernels.kernel(env={**os.environ, **variables}, stderr=said) as (_, client):
            text = client.text(code).strip()
        said.seek(0)
        return text, said.read()


def front_ends():
    yield "prompt", in_prompt
    yield "script", in_script
    if not SANITIZED:  # a sanitizer would have to be preloaded
        yield "stock", in_stock
    if os.path.exists(KERNEL):
        yield "kernel", in_kernel


class Environment(unittest.TestCase):
    def test_help_and_reference_print_every_variable(self):
        usage, reference = run("--help").stdout, run("--doc").stdout
        self.assertGreaterEqual(len(rows()), 5)
        for name, takes, doc, fallback in rows():
            with self.subTest(name):
                self.assertRegex(usage, r"(?m)^  %s +%s$" % (name, re.escape(doc)))
                self.assertIn("%s; without it: %s\n" % (takes, fallback), usage)
                self.assertRegex(reference, r"(?m)^#### %s$" % name)
                self.assertIn(doc, run("--doc", name).stdout)

    def test_all_front_ends_obey(self):
        for name, front_end in front_ends():
            with self.subTest(name):
                ask = " ".join(SAMPLES)
                number, threads, limit, tried = front_end(ask, NABLUA_SEED="77", NABLUA_THREADS="3",
                                                          NABLUA_MEMORY="100M")[0].split("\n")
                self.assertEqual(number, in_script("nb.seed(77) " + SAMPLES[0])[0])
                self.assertEqual((threads, limit), ("3", "100000000"))
                self.assertRegex(tried, r"^false\b.*not enough memory")

    def test_a_seed_takes_no_number_of_an_input(self):
        r = subprocess.run([NABLUA, "-i", "--no-banner"], input="1 + 1\n", capture_output=True, text=True,
                           timeout=TIMEOUT, env=environment(NABLUA_SEED="1", NABLUA_MEMORY="1G"))
        self.assertEqual(r.stdout, "1> 2\n2> \n")

    def test_nonsense_is_named_and_the_default_holds(self):
        # Files' names may be anything: that of a BLAS is tried with the first large product.
        judged = [r for r in rows() if r[0] not in ("NABLUA_BLAS", "NABLUA_TRACE_FILE")]
        nonsense = {r[0]: "no such thing" for r in judged}
        for name, front_end in front_ends():
            with self.subTest(name):
                plain = front_end("print(nb.threads(), nb.memory().limit)")[0]
                text, said = front_end("print(nb.threads(), nb.memory().limit)", **nonsense)
                self.assertEqual(text, plain)
                for variable, takes, _, fallback in judged:
                    self.assertIn("nablua: %s should be %s, got 'no such thing'; going on with %s\n" %
                                  (variable, takes, fallback), said)

    def test_sizes_and_numbers(self):
        for text, bytes_ in (("2G", 2e9), ("1.5M", 1.5e6), ("300000k", 3e8), ("7000000", 7e6), ("1k", None), ("2T", None),
                             ("-1G", None), ("", None), ("1e30", None), ("nan", None), ("2G5", None)):
            limit, said = in_script("print(math.tointeger(nb.memory().limit))", NABLUA_MEMORY=text)
            with self.subTest(text):
                if bytes_:
                    self.assertEqual((int(limit), said), (int(bytes_), ""))
                else:
                    self.assertIn("NABLUA_MEMORY should be", said)
        for text, count in (("1", 1), ("256", 256), ("257", None), ("0", None), ("2.5", None), ("4294967297", None)):
            threads, said = in_script("print(nb.threads())", NABLUA_THREADS=text)
            with self.subTest(text):
                if count:
                    self.assertEqual((int(threads), said), (count, ""))
                else:
                    self.assertIn("NABLUA_THREADS should be", said)
        self.assertIn("NABLUA_SEED should be", in_script("", NABLUA_SEED="99999999999999999999")[1])

    # ---- the trace ----

    COMPILED = ("local w, lr = nb.ones(3), 1 local f = nb.compile(function(x) return (x * w * lr):sum() end) "
                "for _ = 1, 5 do f(nb.ones(3)) end lr = 2 f(nb.ones(3)) "
                "nb.compile(function(x) print(x) return x end)(nb.ones(1)) local big = nb.zeros(1000, 1000) big = nil")

    def test_the_trace_tells_what_its_words_say_and_nothing_else(self):
        expected = {"op": (r"^op +ones .*→ f32 3 ", 7), "tape": (r"^tape", 0), "write": (r"^write", 0), "wire": (r"^wire", 0),
                    "plan": (r"^plan +(recorded|matched|replayed|not replayed|does not|refused|dropped)", 4),
                    "memory": (r"^memory (alloc|free|trim) ", 1)}
        for word, (pattern, least) in expected.items():
            with self.subTest(word):
                said = in_script(self.COMPILED, NABLUA_TRACE=word)[1].splitlines()
                told = [line for line in said if not line.startswith("nb.compile:")]
                self.assertTrue(all(line.startswith(word) for line in told), said)
                self.assertGreaterEqual(sum(bool(re.search(pattern, line)) for line in told), least, said)
        self.assertEqual(in_script("local w = nb.ones(3) w:add_(1)", NABLUA_TRACE="")[1], "")

    def test_the_life_of_a_plan_is_told_in_order(self):
        said = in_script(self.COMPILED, NABLUA_TRACE="plan")[1]
        at = 0
        for step in ("recorded [0-9]+ steps", "recorded [0-9]+ steps", "matched; rewritten to [0-9]+ of [0-9]+ steps",
                     "replayed [0-9]+ steps", "not replayed: lr is another"):
            found = re.compile(r"(?m)^plan +%s\b.*$" % step).search(said, at)
            self.assertTrue(found, "%s is not told after %d of:\n%s" % (step, at, said))
            at = found.end()

    def test_the_trace_goes_into_a_file_behind_what_is_there(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "trace")
            for _ in range(2):
                text, said = in_script("print(nb.ones(2):sum())", NABLUA_TRACE="op,memory=0", NABLUA_TRACE_FILE=path)
                self.assertEqual((text, said), ("2", ""))
            with open(path, encoding="utf-8") as f:
                lines = f.read().splitlines()
            self.assertEqual(sum(line.startswith("op    sum f32 2 → f32 scalar") for line in lines), 2, lines)
            self.assertTrue(all(re.match("(op|memory) ", line) for line in lines), lines)
            said = in_script("print(1)", NABLUA_TRACE="op", NABLUA_TRACE_FILE=folder)[1]
            self.assertIn("nablua: NABLUA_TRACE_FILE should be the path of a file that can be written, got '%s'; "
                          "going on with the standard error\n" % folder, said)

    def test_words_that_are_none_are_named(self):
        for words in ("opp", "op,,tape", "op=1", "memory=1T", "memory=-1", "memory=", "wire=content", "wire=contents,x", " op"):
            with self.subTest(words):
                self.assertIn("nablua: NABLUA_TRACE should be words of op, tape, write, plan, wire and memory with commas "
                              "between, got '%s'; going on with nothing\n" % words, in_script("nb.ones(1)", NABLUA_TRACE=words)[1])


if __name__ == "__main__":
    unittest.main()
