# SPDX-License-Identifier: MIT
"""The quick examples do what they say; those on Fashion-MNIST check their own accuracy when run."""
import gzip
import math
import os
import random
import re
import struct
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))
SANITIZED = re.search(r"/(asan|tsan|hostile)/", NABLUA)


def run(name, *arguments):
    r = subprocess.run([NABLUA, os.path.join(ROOT, "examples", name), *arguments], capture_output=True, text=True,
                       timeout=300)
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

    def test_backpropagation_is_shown_step_by_step(self):
        text = run("backpropagation.lua")
        for line in ("forward 1/6   z⁽²⁾ = X·W⁽¹⁾ᵀ+b⁽¹⁾", "backward 6/6   ∂J/∂W⁽¹⁾ = δ⁽²⁾ᵀ·X",
                     "∂J/∂W⁽³⁾ = (ŷ−y)·a⁽³⁾", "∂J/∂W⁽²⁾ = (ŷ−y)·W⁽³⁾·σ'(z⁽³⁾)·a⁽²⁾",
                     "∂J/∂W⁽¹⁾ = (ŷ−y)·W⁽³⁾·σ'(z⁽³⁾)·W⁽²⁾·σ'(z⁽²⁾)·X",
                     "∂J/∂W⁽¹⁾ = (ŷ−y)·σ'(z⁽⁴⁾)·W⁽³⁾·σ'(z⁽³⁾)·W⁽²⁾·σ'(z⁽²⁾)·X", "✓ gradients agree"):
            self.assertIn(line, text)

    def test_gradients_vanish_for_sigmoid_and_not_for_relu(self):
        text = run("vanishing.lua")
        shares = {m[0]: [float(v) for v in m[1].split()] for m in
                  re.findall(r"(?m)^(σ|tanh|ReLU|leaky ReLU) +((?:[\d.]+e[+-]\d+ *){5})$", text)}
        self.assertEqual(sorted(shares), ["ReLU", "leaky ReLU", "tanh", "σ"])
        self.assertEqual(shares["σ"], sorted(shares["σ"], reverse=True))
        self.assertLess(shares["σ"][-1], 1e-8)
        for name in ("tanh", "ReLU", "leaky ReLU"):
            self.assertGreater(shares[name][-1], 1e-3)
        self.assertIn("1. vanishing gradients   layer 1", text)
        self.assertIn("✓ no findings", text.split("After the remedy")[1])

    def test_numbers_go_wrong_only_in_the_naive_forms(self):
        text = run("numerics.lua")
        self.assertRegex(text, r"e\^z / Σ e\^z +nan")
        self.assertRegex(text, r"z:softmax\(\) +0\.0900")
        self.assertRegex(text, r"log\(1 − σ\(z\)\) +inf")
        self.assertRegex(text, r"bce_with_logits +40")
        self.assertRegex(text, r"numerics\.lua:\d+: log: anomaly")

    def test_descent_by_hand_and_by_optimizer_agree(self):
        text = run("descent.lua")
        losses = re.findall(r"(?m)^(?:by hand|optim.SGD) +step +\d+ +J ([\d.]+)$", text)
        self.assertEqual(losses[:3], losses[3:])
        self.assertIn("The weights agree.", text)

    def test_what_is_wrong_before_training_is_found_one_after_the_other(self):
        text = run("before_training.lua")
        self.assertEqual(re.findall(r"(?m)^round \d+: (.*?)(?: \(\w+\))?$", text),
                         ["labels outside the loss's range", "loss/activation mismatch", "unscaled inputs",
                          "leaked labels", "no activation between layers", "learning rate too small", "✓ no findings"])
        before, after, right = map(float, re.search(r"J from ([\d.]+) to ([\d.]+), ([\d.]+) % right", text).groups())
        self.assertLess(after, before / 5)
        self.assertGreater(right, 95)
        self.assertIn("of 400 samples", text)

    def test_spirals_separate_and_repeat(self):
        text = run("spirals.lua")
        accuracy = [float(v) for v in re.findall(r"accuracy ([\d.]+) %", text)]
        self.assertGreater(accuracy[-1], 97)
        self.assertGreater(accuracy[-1], accuracy[0])
        self.assertEqual(text, run("spirals.lua"))

    def test_a_step_learns_through_an_operator_of_its_own(self):
        text = run("custom_operator.lua")
        slopes = [float(v) for v in re.search(r"slopes of fire.*:  ([\d.]+)  ([\d.]+)  ([\d.]+)", text).groups()]
        for z, slope in zip((-2, 0.5, 3), slopes):
            sigmoid = 1 / (1 + math.exp(-z))
            self.assertAlmostEqual(slope, sigmoid * (1 - sigmoid), delta=1e-4)
        self.assertIn("a true derivative: false", text)
        self.assertGreater(float(re.search(r"accuracy ([\d.]+) %", text).group(1)), 95)

    # The two on real tables, here with made ones in the same format.
    def test_iris_sorts_flowers(self):
        draw = random.Random(1)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "iris.csv")
            with open(path, "w") as f:
                f.write("90,4,setosa,versicolor,virginica\n")
                for i in range(90):
                    f.write(",".join("%.1f" % draw.gauss(3 * (i % 3) + k, 0.4) for k in range(4)) + ",%d\n" % (i % 3))
            text = run("iris.lua", path)
        self.assertRegex(text, r"accuracy (100|9\d)\.\d %")
        self.assertEqual(sum(int(n) for row in re.findall(r"(?m)^ +\w+ +(\d+) +(\d+) +(\d+)$", text) for n in row), 27)

    def test_regression_finds_the_weights(self):
        draw = random.Random(2)
        rows = [[draw.gauss(5, 2) for _ in range(10)] for _ in range(200)]
        with tempfile.TemporaryDirectory() as folder:
            with gzip.open(os.path.join(folder, "diabetes_data_raw.csv.gz"), "wt") as f:
                f.writelines(" ".join("%.18e" % v for v in row) + "\n" for row in rows)
            with gzip.open(os.path.join(folder, "diabetes_target.csv.gz"), "wt") as f:
                f.writelines("%.18e\n" % (3 * row[4] - 2 * row[0] + draw.gauss(0, 1)) for row in rows)
            text = run("regression.lua", folder)
        found = re.findall(r"(?m)^  (\w+) +([+-][\d.]+)$", text)
        self.assertEqual([name for name, _ in found[:2]], ["s1", "age"])
        self.assertAlmostEqual(float(found[0][1]) / float(found[1][1]), -1.5, delta=0.2)

    def test_activations_are_drawn_and_sigmoids_vanish(self):
        text = run("activations.lua")
        for name in ("sigmoid", "tanh", "relu"):
            self.assertRegex(text, r"(?m)^.*[⠀-⣿].*%s  [\d.]+$" % name)

    @unittest.skipIf(SANITIZED, "slow with sanitizers")
    def test_live_plots_are_shown_once_where_there_is_no_terminal(self):
        text = run("live.lua")
        self.assertEqual((text.count("Loss\n"), text.count("What the net decides")), (1, 1))

    def test_a_layer_of_ones_own_learns_and_explains_itself(self):
        text = run("custom_layer.lua")
        self.assertIn("Radial(features, units, {width=1})", text)
        self.assertIn("gives the same scores: true", text)
        self.assertGreater(float(re.findall(r"accuracy ([\d.]+) %", text)[-1]), 90)

    # The two that write, on a text so simple that a few steps are enough to show they learn it.
    def check_writer(self, name, *settings):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "text")
            with open(path, "w") as f:
                f.write("And God said, Let there be light: and there was light.\n" * 100)
            text = run(name, path, *settings)
        losses = [float(v) for v in re.findall(r"(?m)^step .*unseen text ([\d.]+)", text)]
        self.assertGreater(losses[0], 2.5)
        self.assertLess(losses[-1], 0.7)
        self.assertRegex(text, r"(?ms)^And God said.{100}")

    def test_a_recurrent_net_writes(self):
        self.check_writer("char_rnn.lua", "60", "64")

    def test_a_transformer_writes(self):
        self.check_writer("transformer.lua", "60")

    # Textbook programs in a short form: each gets better; run in full they check what they reach.
    @unittest.skipIf(SANITIZED, "slow with sanitizers")
    def test_a_u_net_finds_discs(self):
        overlaps = [float(v) for v in re.findall(r"overlap ([\d.]+)", run("unet.lua", "100"))]
        self.assertGreater(overlaps[-1], 0.5)

    @unittest.skipIf(SANITIZED, "slow with sanitizers")
    def test_a_residual_net_learns_from_changed_pictures(self):
        draw = random.Random(3)
        with tempfile.TemporaryDirectory() as folder:
            for part, count in (("train", 640), ("t10k", 200)):
                labels = bytes(draw.randrange(10) for _ in range(count))
                pixels = bytearray()
                for label in labels:  # a bright bar at the label's height
                    for row in range(28):
                        low = 200 if row // 2 == label + 2 else 0
                        pixels += bytes(low + draw.randrange(40) for _ in range(28))
                with gzip.open(os.path.join(folder, part + "-images-idx3-ubyte.gz"), "wb") as f:
                    f.write(struct.pack(">IIII", 0x803, count, 28, 28) + bytes(pixels))
                with gzip.open(os.path.join(folder, part + "-labels-idx1-ubyte.gz"), "wb") as f:
                    f.write(struct.pack(">II", 0x801, count) + labels)
            text = run("resnet.lua", "640", "6", folder)
        first, two = (float(v) for v in re.search(r"accuracy ([\d.]+) %, among the first two ([\d.]+) %", text).groups())
        self.assertGreater(first, 40)
        self.assertGreater(two, first)

    @unittest.skipIf(SANITIZED, "slow with sanitizers")
    def test_an_encoder_and_a_decoder_sort(self):
        text = run("seq2seq.lua", "100")
        self.assertGreater(float(re.findall(r"mistake ([\d.]+) %", text)[-1]), 20)
        for row in re.findall(r"(?m)^([\d ]+)  →  ([\d ]+)$", text):
            self.assertEqual(len(row[0].split()), len(row[1].split()))

    @unittest.skipIf(SANITIZED, "slow with sanitizers")
    def test_strips_of_digits_are_read(self):
        losses = [float(v) for v in re.findall(r"loss ([\d.]+)", run("ctc.lua", "60"))]
        self.assertLess(losses[-1], losses[0])
        self.assertLess(losses[-1], 3.5)

    @unittest.skipIf(SANITIZED, "slow with sanitizers")
    def test_a_variational_autoencoder_finds_places(self):
        text = run("vae.lua", "400")
        self.assertLess(float(re.findall(r"error of a pixel ([\d.]+)", text)[-1]), 0.08)
        self.assertGreater(float(re.search(r"explain ([\d.]+) %", text).group(1)), 80)

    @unittest.skipIf(SANITIZED, "slow with sanitizers")
    def test_a_gaussian_process_finds_the_curve_and_its_noise(self):
        text = run("gaussian_process.lua")
        rms, covered, noise = (float(v) for v in re.search(
            r"square error ([\d.]+); within two spreads at (\d+) % of places; noise ([\d.]+)", text).groups())
        self.assertLess(rms, 0.15)
        self.assertGreater(covered, 80)
        self.assertAlmostEqual(noise, 0.2, delta=0.05)


if __name__ == "__main__":
    unittest.main()
