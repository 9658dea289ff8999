# SPDX-License-Identifier: MIT
"""The script for gdb, in a build with debug information: what it prints of tensors, nodes and the tape."""
import os
import re
import shutil
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ["NABLUA"]
CODE = "w = nb.tensor({{1, 2, 3}, {4, 5, 6}}, {requires_grad=true}) J = (w.T * w.T):sum() J:backward()"


class Gdb(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        commands = ["set breakpoint pending on", "set confirm off", "set pagination off", "handle SIGSEGV nostop noprint pass",
                    "break nb_backward", "run", "print *J", "print *J->node", "print *J->node->edges[0].node->edges[0].node->edges[0].leaf",
                    "print *J->node->edges[0].node->args[0].tensor",
                    "tape J", "tape 1", "print J->node->op->name", "kill"]
        arguments = ["gdb", "-nx", "-batch", "-x", os.path.join(ROOT, "tests/gdb/nablua.py")]
        for command in commands:
            arguments += ["-ex", command]
        # Below a debugger leaks cannot be looked for.
        env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "LC_ALL": "C.UTF-8", "DEBUGINFOD_URLS": ""}
        r = subprocess.run([*arguments, "--args", NABLUA, "-e", CODE], capture_output=True, text=True, timeout=300, env=env)
        cls.text = r.stdout + r.stderr
        if "ptrace: Operation not permitted" in cls.text or "Couldn't get registers" in cls.text:
            print("no process can be traced here")
            sys.exit(77)

    def expect(self, pattern):
        self.assertRegex(self.text, "(?m)" + pattern)

    def test_a_tensor_is_its_shape_dtype_node_and_values(self):
        self.expect(r"^\$1 = f32 scalar, refs [0-9]+, version 0, output 0 of sum #[0-9]+: \[91\]$")

    def test_a_leaf_shows_its_values(self):
        self.expect(r"^\$3 = f32 2×3, refs [0-9]+, version 0, leaf: \[1, 2, 3, 4, 5, 6\]$")

    def test_a_view_shows_its_values_in_its_own_order(self):
        self.expect(r"^\$4 = f32 3×2, .*: \[1, 4, 2, 5, 3, 6\]$")

    def test_a_node_is_its_operator_and_line(self):
        self.expect(r"^\$2 = #[0-9]+ sum, refs [0-9]+.*, 1 edges$")

    def test_the_tape_is_printed(self):
        self.expect(r"^#[0-9]+ sum  refs [0-9]+(?:.*\n)+? *1: output 0 of mul #[0-9]+\n#[0-9]+ mul  refs ")

    def test_what_is_no_tensor_is_said(self):
        self.expect(r"tape: 1 is a int; a Tensor or a pointer to one is wanted")


if __name__ == "__main__":
    if not shutil.which("gdb"):
        print("gdb is not installed")
        sys.exit(77)
    if not re.search("/(dev|asan|hostile|tsan)/", NABLUA):
        print("this build has no debug information")
        sys.exit(77)
    unittest.main()
