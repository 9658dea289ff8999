#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Training steps of works a to f beside the peers: every program runs a while in turn; medians, spread, ratios.

    works.py NABLUA LIMIT [--threads 1,2] [--rounds 5] [--seconds 0.3] [--works a,b_sgd,...] [--json FILE]

Peers are looked for in the Python that NABLUA_PEER_PYTHON names, else in python3: PyTorch, JAX and NumPy.  LIMIT is the
program of hand-written C steps.  Prints a table for each thread count; never judges.
"""
import argparse
import math
import os
import statistics
import subprocess
import sys

import record

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = os.environ.get("NABLUA_PEER_PYTHON", "/usr/bin/python3")
WORKS = [
    ("a", "XOR 2-4-1, MSE, SGD"), ("a_100", "the same, 100 steps a call where that differs"),
    ("b_sgd", "MLP 784-256-128-10, batch 64, SGD"), ("b_adam", "the same, Adam"),
    ("b_dead", "the same late, half of the units dead"), ("rows", "embedding of 10,000 late, 500 used, Adam"),
    ("c", "MLP 784-1024-1024-10, batch 512"), ("d", "LeNet, batch 64, SGD"),
    ("e", "tanh(ax+b)·σ(x), 10⁶, with gradient"), ("f", "LSTM 128, 64 × 32, Adam"),
    ("gpt", "GPT-2 124M, 4 × 64, AdamW")]
LARGE = {"gpt"}  # 3 GB and seconds a step: only where it is named


class Program:
    """A peer that answers one line with one number."""

    def __init__(self, label, command, threads, prefix="", greets=False):
        env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
        env["OMP_NUM_THREADS"] = str(threads)
        self.label, self.prefix, self.threads = label, prefix, threads
        pin = None
        if threads == 1:
            core = max(os.sched_getaffinity(0))
            pin = lambda: os.sched_setaffinity(0, {core})
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
                                            stderr=subprocess.DEVNULL, preexec_fn=pin)
            self.version = self.process.stdout.readline().strip() if greets else label
        except OSError:
            self.version = ""
        self.there = bool(self.version)

    def ask(self, work, seconds):
        if not self.there:
            return math.nan
        try:
            self.process.stdin.write("%s%s %d %g\n" % (self.prefix, work, self.threads, seconds))
            self.process.stdin.flush()
            return float(self.process.stdout.readline())
        except (OSError, ValueError):
            self.there = False
            return math.nan

    def close(self):
        if hasattr(self, "process"):
            self.process.stdin.close()
            self.process.wait()


def shown(values):
    """Median and half the spread between the quarters, in microseconds."""
    if not values:
        return "%18s" % "-"
    middle = statistics.median(values)
    ordered = sorted(values)
    spread = (ordered[(3 * len(ordered)) // 4] - ordered[len(ordered) // 4]) / 2 / middle * 100
    return "%11.*f ±%3.0f%%" % (2 if middle < 1000 else 0, middle, spread)


def ratio(values, to):
    return "%7.2f" % (statistics.median(values) / statistics.median(to)) if values and to else "%7s" % "-"


def table(options, threads):
    here = os.path.join(HERE, "works.lua")
    programs = [Program("nablua", [options.nablua, here], threads),
                Program("compiled", [options.nablua, here], threads, "compiled:"),
                Program("limit", [options.limit], threads),
                Program("PyTorch", [PYTHON, os.path.join(HERE, "works_torch.py")], threads, "", True),
                Program("torch.compile", [PYTHON, os.path.join(HERE, "works_torch.py")], threads, "compiled:", True),
                Program("JAX", [PYTHON, os.path.join(HERE, "works_jax.py")], threads, "", True),
                Program("NumPy", [PYTHON, os.path.join(HERE, "works_numpy.py")], threads, "", True)]
    names = {p.label: p for p in programs}
    print("\n%d thread%s: microseconds a step, medians of %d rounds taken in turn; peers: %s" % (
        threads, "" if threads == 1 else "s", options.rounds,
        ", ".join(p.version for p in programs[3:] if p.there and p.label != "torch.compile") or "none found"))
    labels = [p.label for p in programs if p.there]
    print("%-8s" % "work" + "".join("%18s" % label for label in labels) +
          "   PyTorch/nablua  /compiled  nablua/limit  compiled/limit")
    figures = {}
    for work, title in WORKS:
        if work not in (options.works or {name for name, _ in WORKS} - LARGE):
            continue
        got = {label: [] for label in names}
        got["eager limit"] = [] if work == "e" else got["limit"]
        for turn in range(options.rounds):
            for label in labels[turn % len(labels):] + labels[:turn % len(labels)]:
                value = names[label].ask(work, options.seconds)
                if not math.isnan(value):
                    got[label].append(value)
            if work == "e":  # operator by operator, as eager steps must
                got["eager limit"].append(names["limit"].ask("e_ops", options.seconds))
        figures[work] = {label: values for label, values in got.items() if values}
        print("%-8s" % work + "".join(shown(got[label]) for label in labels) + "        %s    %s       %s         %s" % (
            ratio(got["PyTorch"], got["nablua"]), ratio(got["PyTorch"], got["compiled"]),
            ratio(got["nablua"], got["eager limit"]), ratio(got["compiled"], got["limit"])) + "   " + title, flush=True)
    for p in programs:
        p.close()
    return figures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("nablua")
    parser.add_argument("limit")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--works", default="")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    options.works = [w for w in options.works.split(",") if w]
    figures = {}
    for threads in options.threads.split(","):
        if int(threads) <= len(os.sched_getaffinity(0)):
            figures[threads] = table(options, int(threads))
    if options.json:
        record.write(options.json, "works", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
