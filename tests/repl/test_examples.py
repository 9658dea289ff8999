# SPDX-License-Identifier: MIT
"""The quick examples do what they say; the two on Fashion-MNIST check their own accuracy when run."""
import os
import re
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))


def run(name):
    r = subprocess.run([NABLUA, os.path.join(ROOT, "examples", name)], capture_output=True, text=True, timeout=300)
    if r.returncode or r.stderr:
        raise AssertionError("%s: status %d, %s" % (name, r.returncode, r.stderr))
    return r.stdout


class Examples(unittest.TestCase):
    def test_xor_learns_its_four_cases(self):
        text = run("xor.lua")
        cases = re.findall(r"(?m)^([01]) xor ([01]) = ([\d.]+)", text)
        self.assertEqual(len(cases), 4)
        for a, b, guess in cases:
            self.assertAlmostEqual(float(guess), int(a) ^ int(b), delta=0.1)
        losses = [float(v) for v in re.findall(r"(?m)^round \d+ +J = ([\d.]+)", text)]
        self.assertEqual(losses, sorted(losses, reverse=True))

    def test_the_lectures_formulas_agree_with_the_tape(self):
        rows = re.findall(r"∂J/∂(W\d).*relative difference ([\d.e+-]+)", run("lecture.lua"))
        self.assertEqual([w for w, _ in rows], ["W1", "W2", "W3"] * 2)
        for _, difference in rows:
            self.assertLess(float(difference), 1e-6)

    def test_spirals_separate_and_repeat(self):
        text = run("spirals.lua")
        accuracy = [float(v) for v in re.findall(r"accuracy ([\d.]+) %", text)]
        self.assertGreater(accuracy[-1], 97)
        self.assertGreater(accuracy[-1], accuracy[0])
        self.assertEqual(text, run("spirals.lua"))


if __name__ == "__main__":
    unittest.main()
