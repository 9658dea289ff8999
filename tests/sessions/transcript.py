# SPDX-License-Identifier: MIT
"""Reading the transcripts of this folder, for whatever front end they are run through.

A transcript is what a terminal shows, prompts included.  A line of "..." stands for any lines, "..." within a line for
anything.  The first line may say what it is about after "--".
"""
import glob
import os
import re

FOLDER = os.path.dirname(os.path.abspath(__file__))


def transcripts():
    """Names of all transcripts and their paths."""
    return [(os.path.splitext(os.path.basename(path))[0], path) for path in sorted(glob.glob(os.path.join(FOLDER, "*.txt")))]


def read(path):
    """The steps of a transcript: pairs of an input (a list of lines) and the text shown after it."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().rstrip("\n").split("\n")
    if lines[0].startswith("--"):
        lines = lines[1:]
    steps = []
    for line in lines:
        prompt = "%d> " % (len(steps) + 1)
        if line.startswith(prompt):
            steps.append(([line[len(prompt):]], []))
        elif steps and re.match(r" +\| ?", line) and not steps[-1][1]:
            steps[-1][0].append(re.sub(r"^ +\| ?", "", line))
        else:
            steps[-1][1].append(line)
    return [(code, "\n".join(shown)) for code, shown in steps]


def pattern(expected):
    """What the expected text stands for, as a regular expression for lines that end in \\n."""
    parts = []
    for line in expected.split("\n"):
        if line == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(piece) for piece in line.split("...")) + r" *\n")
    return "".join(parts) if expected else ""


def agrees(shown, expected):
    """Whether the text shown after an input is what its transcript expects."""
    lines = "".join(line.rstrip() + "\n" for line in shown.rstrip("\n").split("\n")) if shown else ""
    return re.match(r"\A" + pattern(expected) + r"\Z", lines) is not None
