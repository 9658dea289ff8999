#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds README.md and docs/ to the source: files and functions that they name must be there, and rooms that are there must
be named.  Prints one sentence for each offence."""
import glob
import os
import re
import sys

PAGES = ["README.md"] + sorted(glob.glob("docs/**/*.md", recursive=True))
OURS = ("kernel/", "lua/", "runtime/", "tests/", "docs/", "examples/")
MADE = ("docs/lecture/", "docs/pictures/", "docs/reference/")  # by ./dev docs, which checks links to them
ENDINGS = (".c", ".h", ".lua", ".md", ".py", ".sh", ".ipynb", ".txt", ".svg")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def defines(path, name):
    """Whether the file defines a function, table or variable of that name."""
    name = re.escape(name)
    if path.endswith(".lua"):
        pattern = rf"function [\w.:]*\b{name}\b|\b{name}\s*=|local {name}\b"
    else:
        pattern = rf"(?m)^[A-Za-z_][^;\n]*\b{name}\s*(\(|\[|=)"
    return re.search(pattern, read(path)) is not None


def named(page):
    """The places that a page names: (line, path, function or None)."""
    for number, line in enumerate(read(page).splitlines(), 1):
        for match in re.finditer(r"(?<![\w/.~])((?:%s)[\w./*-]*)(?::(\w+))?" % "|".join(OURS), line):
            path = match.group(1).rstrip(".")
            if "*" not in path:
                yield number, path, match.group(2)


def links(page):
    """The relative links of a page: (line, path from the project's folder)."""
    for number, line in enumerate(read(page).splitlines(), 1):
        for target in re.findall(r"\]\(([^)#:\s]+)\)", line):
            yield number, os.path.normpath(os.path.join(os.path.dirname(page), target))


def tour():
    """The tour of README.md: (line, folder or file named in it)."""
    text = read("README.md")
    begin = text.index("```", text.index("## A tour of the source"))
    block = text[begin:text.index("```", begin + 3)]
    first = text[:begin].count("\n") + 1
    layer = folder = ""
    for offset, line in enumerate(block.splitlines()[1:], 1):
        heads = re.match(r"(\s*)((?:\.?\w+/\s)+)", line)
        if heads:
            names = heads.group(2).split()
            if not heads.group(1):
                layer, folder = names[0], names[0]
            for name in names if heads.group(1) else []:
                folder = layer + name
                yield first + offset, folder
        for name in re.findall(r"\b([\w]+(?:%s|/))(?!\w)" % "|".join(re.escape(e) for e in ENDINGS), line[len(heads.group(0)) if heads else 0:]):
            if name not in ("IDX/", "build/", "release/"):
                yield first + offset, (folder, name)


def offences():
    for page in PAGES:
        for number, path, function in named(page):
            if not os.path.exists(path):
                yield f"{page}:{number} names {path}, which is not there"
            elif function and not defines(path, function):
                yield f"{page}:{number} names {function} in {path}, which defines no such thing"
        for number, path in links(page):
            if not os.path.exists(path) and not path.startswith(MADE):
                yield f"{page}:{number} links to {path}, which is not there"
    said = set()
    for number, place in tour():
        if isinstance(place, str):
            said.add(place.rstrip("/"))
            if not os.path.isdir(place):
                yield f"README.md:{number} names the folder {place}, which is not there"
        elif not any(os.path.exists(os.path.join(place[0], *middle, place[1])) for middle in ([], ["include", "nablua"])):
            if not os.path.exists(place[0].split("/")[0] + "/" + place[1]):
                yield f"README.md:{number} names {place[1]} in {place[0]}, which is not there"
    rooms = [os.path.dirname(p) for layer in ("kernel", "lua", "runtime") for p in glob.glob(layer + "/*/")]
    architecture = read("docs/architecture.md")
    for room in rooms:
        if room not in said and not room.endswith("__pycache__"):
            yield f"the tour of README.md does not name {room}/"
        if room.startswith(("kernel/", "runtime/")) and os.path.basename(room) + "/" not in architecture:
            yield f"docs/architecture.md does not name {room}/"
    pages = read("docs/decisions/README.md")
    for page in glob.glob("docs/decisions/[0-9]*.md"):
        if os.path.basename(page) not in pages:
            yield f"docs/decisions/README.md does not list {os.path.basename(page)}"


said = list(offences())
print("\n".join(said), end="\n" if said else "")
sys.exit(1 if said else 0)
