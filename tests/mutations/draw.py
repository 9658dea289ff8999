#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws faults at random, as rows for tests/mutations/*.toml: lines of code with an operator, a constant or a condition
that is another afterwards.  Which tests should see each, and which changes nothing, is for whoever reads them.

draw.py SEED COUNT
"""
import os
import random
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BOTH = [(r" == ", " {ne} "), (r" {ne} ", " == "), (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "),
        (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" / ", " * "), (r"\btrue\b", "false"), (r"\bfalse\b", "true"),
        (r"(?<![\w.])1(?![\w.])", "2"), (r"(?<![\w.])0(?![\w.])", "1"), (r"(?<![\w.])2(?![\w.])", "3")]
FLIPS = {".c": [(a.format(ne="!="), b.format(ne="!=")) for a, b in BOTH] + [(r" && ", " || "), (r" \|\| ", " && "), (r"!(?=[a-z(])", "")],
         ".lua": [(a.format(ne="~="), b.format(ne="~=")) for a, b in BOTH] + [(r" and ", " or "), (r" or ", " and "), (r"\bnot ", "")]}
FLIPS[".h"] = FLIPS[".c"]


def sources():
    for layer in ("runtime", "lua", "kernel"):
        for folder, _, names in os.walk(os.path.join(ROOT, layer)):
            for name in sorted(names):
                if os.path.splitext(name)[1] in FLIPS and "/include/" not in folder + "/":
                    yield os.path.join(folder, name)


def code_of(line, suffix):
    """The line with what is no code blanked, as long as it was."""
    blank = lambda m: " " * len(m.group(0))
    line = re.sub(r'"(?:\\.|[^"\\])*"' + r"|'(?:\\.|[^'\\])*'", lambda m: '"' + "_" * (len(m.group(0)) - 2) + '"', line)
    line = re.sub(r"--.*" if suffix == ".lua" else r"//.*", blank, line)
    return "" if re.match(r"\s*(#|\.\w+ = \"|static const|local \w+ = require|doc =|example =|signature =)", line) else line


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    random.seed(seed)
    lines = []
    for path in sources():
        suffix = os.path.splitext(path)[1]
        with open(path, encoding="utf-8") as f:
            text = f.read().split("\n")
        for i, line in enumerate(text):
            code = code_of(line, suffix)
            found = [(m.span(), new) for old, new in FLIPS[suffix] for m in re.finditer(old, code)]
            if found:
                lines.append((path, text, i, found))
    print("# SPDX-License-Identifier: MIT\n# Drawn at random.")
    for n, (path, text, i, found) in enumerate(random.sample(lines, count)):
        (begin, end), new = random.choice(found)
        first = last = i
        while "\n".join(text).count("\n".join(text[first:last + 1])) > 1:
            first, last = max(first - 1, 0), min(last + 1, len(text) - 1)
        old = text[first:last + 1]
        changed = list(old)
        changed[i - first] = text[i][:begin] + new + text[i][end:]
        quote = "'''"
        print(f"\n[[mutation]]\nname = \"{os.path.basename(path)}:{i + 1}\"\nfile = \"{os.path.relpath(path, ROOT)}\"\n"
              f"old = {quote}\n" + "\n".join(old) + f"{quote}\nnew = {quote}\n" + "\n".join(changed) + f"{quote}\ntests = []")


if __name__ == "__main__":
    main()
