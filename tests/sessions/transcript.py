# SPDX-License-Identifier: MIT
"""Reading the transcripts of this folder, for whatever front end they are run through.

A transcript is what a terminal shows, prompts included.  A line of "..." stands for any lines, "..." within a line for
anything.  The first line may say what it is about after "--".  An input that ends in "⇥" is not run: Tab is pressed, and
the lines below are the names that are offered, "..." for others.  Behind an input that ends in " ^C" comes an interrupt.
‹text› is what the user answers, «text» the same where it is not shown.
"""
import glob
import os
import re
import typing

FOLDER = os.path.dirname(os.path.abspath(__file__))


def transcripts():
    """Names of all transcripts and their paths."""
    return [(os.path.splitext(os.path.basename(path))[0], path) for path in sorted(glob.glob(os.path.join(FOLDER, "*.txt")))]


class Step(typing.NamedTuple):
    """One input, a list of lines, and the text shown after it."""

    code: list
    shown: str
    tabs: list  # before it: pairs of a text and the names that are offered
    answers: list
    stopped: bool  # by an interrupt


def read(path):
    """The steps of a transcript."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().rstrip("\n").split("\n")
    if lines[0].startswith("--"):
        lines = lines[1:]
    steps, tabs, below = [], [], None
    for line in lines:
        prompt = "%d> " % (len(steps) + 1)
        if line.startswith(prompt) and line.endswith("⇥"):
            below = []
            tabs.append((line[len(prompt):-1], below))
        elif line.startswith(prompt):
            below = []
            steps.append(([line[len(prompt):]], below, tabs))
            tabs = []
        elif steps and re.match(r" +\| ?", line) and not below:
            steps[-1][0].append(re.sub(r"^ +\| ?", "", line))
        else:
            below.append(line)
    return [step(code, "\n".join(shown), tabs) for code, shown, tabs in steps]


def step(code, shown, tabs):
    stopped = code[-1].endswith(" ^C")
    if stopped:
        code[-1] = code[-1][:-3]
    return Step(code, shown, tabs, re.findall("[‹«](.*?)[›»]", shown), stopped)


def offers(names, expected):
    """Whether the names that Tab offers are those that its transcript expects."""
    wanted = [name for name in expected if name != "..."]
    return names == wanted if wanted == expected else [name for name in names if name in wanted] == wanted


def pattern(expected):
    """What the expected text stands for, as a regular expression for lines that end in \\n."""
    parts = []
    for line in expected.split("\n"):
        if line == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(piece) for piece in line.rstrip().split("...")) + r" *\n")
    return "".join(parts) if expected else ""


def agrees(shown, expected):
    """Whether the text shown after an input is what its transcript expects."""
    lines = "".join(line.rstrip() + "\n" for line in shown.rstrip("\n").split("\n")) if shown else ""
    return re.match(r"\A" + pattern(expected) + r"\Z", lines) is not None
