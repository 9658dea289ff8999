# SPDX-License-Identifier: MIT
"""What the peers' programs share: the time of a training step, and the talk with works.py."""
import statistics
import sys
import time


def time_of(step, seconds):
    """Microseconds of step(): the median of runs that take so many seconds together."""
    for _ in range(3):
        step()
    start = time.perf_counter()
    step()
    batch = max(1, int(seconds / 15 / (time.perf_counter() - start)))
    per, stop = [], time.perf_counter() + seconds
    while time.perf_counter() < stop or len(per) < 3:
        start = time.perf_counter()
        for _ in range(batch):
            step()
        per.append((time.perf_counter() - start) / batch)
    return statistics.median(per) * 1e6


def serve(version, make):
    """Reads "work threads seconds", answers with microseconds a step.

    make(work, threads) gives a function and how many steps it takes.
    """
    made = {}
    print(version, flush=True)
    for line in sys.stdin:
        work, threads, seconds = line.split()
        try:
            if work not in made:
                made[work] = make(work, int(threads))
            call, steps = made[work]
            print(time_of(call, float(seconds)) / steps, flush=True)
        except Exception as problem:  # no compiler, no support: a missing figure, not a missing table
            print("%s: %s" % (work, str(problem).split("\n")[0]), file=sys.stderr)
            print("nan", flush=True)
