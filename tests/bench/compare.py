#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two builds on one machine: works and operators of both in turn, and by how much the new one is quicker.

    compare.py OLD NEW [--rounds 5] [--seconds 0.2] [--threads 1] [--works a,b_sgd,...] [--only WORD] [--json FILE]

OLD and NEW are programs.  A ratio is old time over new time of one round; shown are the median of the rounds and the
quarters of the way up and down.  What differs by less than its quarters are apart is level.  The slowest come first.
"""
import argparse
import math
import os
import statistics
import sys

import operators
import record
import works

HERE = os.path.dirname(os.path.abspath(__file__))


def quarters(values):
    """Lower quarter, median, upper quarter."""
    ordered = sorted(values)
    n = len(ordered)
    return ordered[n // 4], statistics.median(ordered), ordered[(3 * n) // 4 - (n % 4 == 0)]


def of_works(options):
    """Times by name, a pair of lists each."""
    names = [work for work, _ in works.WORKS if work in (options.works or {w for w, _ in works.WORKS} - works.LARGE)]
    programs = [works.Program(p, [p, os.path.join(HERE, "works.lua")], options.threads, prefix)
                for prefix in ("", "compiled:") for p in (options.old, options.new)]
    times = {}
    for mode in 0, 1:
        for work in names:
            pair = times.setdefault(work + (", compiled" if mode else ""), ([], []))
            for turn in range(options.rounds):
                for side in ((0, 1), (1, 0))[turn % 2]:
                    pair[side].append(programs[2 * mode + side].ask(work, options.seconds))
    for program in programs:
        program.close()
    return times


def of_operators(options):
    times = {}
    lua = operators.programs(options.only)[0]
    for turn in range(options.rounds):
        for side in ((0, 1), (1, 0))[turn % 2]:
            found = {}
            operators.measure([(options.old, options.new)[side], "-e", lua], found)
            for name, value in found.items():
                times.setdefault(name, ([], []))[side].append(value)
    return times


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--works", default="")
    parser.add_argument("--only", default="", help="of the operators those with this word alone; of works none")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    options.works = [w for w in options.works.split(",") if w]
    times = {} if options.only else of_works(options)
    if not options.works:
        times.update(of_operators(options))
    rows, figures = [], {}
    for name, (old, new) in times.items():
        ratios = [a / b for a, b in zip(old, new) if not math.isnan(a) and not math.isnan(b)]
        if ratios:
            rows.append((quarters(ratios), name, statistics.median(old), statistics.median(new)))
            figures[name] = {"old": old, "new": new}
    print("microseconds, medians of %d rounds in turn; old/new: lower quarter, median, upper quarter" % options.rounds)
    for (low, middle, high), name, old, new in sorted(rows, key=lambda row: row[0][1]):
        verdict = "slower" if high < 0.98 else "quicker" if low > 1.02 else ""
        print("%-70s%12.1f%12.1f   %6.2f%8.2f%8.2f  %s" % (name, old, new, low, middle, high, verdict))
    if options.json:
        record.write(options.json, "comparison", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
