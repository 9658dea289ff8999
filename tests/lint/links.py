#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads from the link names of a build's objects which file uses which, and says what runs against the rooms' order.

    links.py BUILD      BUILD is a folder that CMake has built

Prints one sentence for each offence; silent, and with exit status 0, when there is none.
"""
import collections
import json
import os
import re
import subprocess
import sys

# What each room may use besides itself.  The order is the house's: plan → ops → kernels → graph → base.
BELOW = {
    "runtime/base": [],
    "runtime/graph": ["runtime/base"],
    "runtime/kernels": ["runtime/base", "runtime/graph"],
    "runtime/ops": ["runtime/base", "runtime/graph", "runtime/kernels"],
    "runtime/plan": ["runtime/base", "runtime/graph", "runtime/kernels", "runtime/ops"],
    "runtime/files": ["runtime/base", "runtime/graph"],
    "lua/dist": [],
    "lua/binding": ["runtime/base", "runtime/graph", "runtime/kernels", "runtime/ops", "runtime/plan", "runtime/files"],
    "kernel/session": ["lua/binding", "runtime/base", "runtime/files"],
    "kernel/repl": ["kernel/session"],
    "kernel/jupyter": ["kernel/session"],
}

# Objects that need each other: applying records, recording holds arguments, walking back applies.
RINGS = [{"runtime/graph/" + name + ".c" for name in ("args", "compose", "hooks", "op", "references", "tape", "tensor")}]

# (from, to, reason): single arrows that may run against the order; five at most.
EXCEPTIONS = []

# What begins with this name is called by these rooms alone.
OWNED = {"nb_plan_": ["runtime/plan", "lua/binding"]}

LONGEST = 700  # lines of a file
CLIENTS = 4    # files that listen to what happens to tensors, at least


def objects(build):
    """source path -> object path, for the objects of the rooms that the build still makes"""
    found = {}
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        for entry in json.load(f):
            source = os.path.relpath(entry["file"])
            # CMake before 3.29 says only in the command where the object goes.
            output = entry.get("output") or re.search(r" -o (\S+)", entry["command"]).group(1)
            path = os.path.join(build, output)
            if room_of(source) and os.path.exists(path):
                found[source] = path
    return found


def room_of(source):
    room = os.path.dirname(source)
    return room if room in BELOW else None


def names_of(path):
    defined, used = set(), set()
    lines = subprocess.run(["nm", "--extern-only", path], check=True, capture_output=True, text=True).stdout
    for line in lines.splitlines():
        kind, name = line.split()[-2:]
        (used if kind in "Uvw" else defined).add(name)
    return defined, used


def arrows_of(found):
    """source -> {source it uses: names}"""
    names = {source: names_of(path) for source, path in found.items()}
    home = {name: source for source, (defined, _) in names.items() for name in defined if name != "main"}
    arrows = {}
    for source, (_, used) in names.items():
        to = arrows[source] = collections.defaultdict(set)
        for name in used:
            if home.get(name, source) != source:
                to[home[name]].add(name)
    return arrows


def rings_of(arrows):
    """Tarjan's strongly connected components of more than one object (SIAM J. Comput. 1, 1972)."""
    order, low, stack, rings = {}, {}, [], []

    def visit(v):
        order[v] = low[v] = len(order)
        stack.append(v)
        for w in sorted(arrows[v]):
            if w not in order:
                visit(w)
            if w in stack:
                low[v] = min(low[v], low[w])
        if low[v] == order[v]:
            at = stack.index(v)
            if len(stack) - at > 1:
                rings.append(set(stack[at:]))
            del stack[at:]

    for v in sorted(arrows):
        if v not in order:
            visit(v)
    return rings


def beyond_the_plain(arrows):
    """Without readline some files alone of the terminal are built, and only editor.c is another one then."""
    with open("kernel/CMakeLists.txt", encoding="utf-8") as f:
        plain = re.search(r'REPL_SOURCES INCLUDE REGEX "/\((.*?)\)', f.read()).group(1).split("|")
    plain = {f"kernel/repl/{name}.c" for name in plain}
    for source in sorted(plain - {"kernel/repl/editor.c"}):
        for to, names in sorted(arrows[source].items()):
            if room_of(to) == "kernel/repl" and to not in plain:
                yield f"{source} uses {some(names)} of {to}, which NABLUA_EDITOR=none does not build: kernel/CMakeLists.txt"


def some(names):
    names = sorted(names)
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")


def offences(arrows):
    excepted = {(a, b) for a, b, _ in EXCEPTIONS}
    if len(EXCEPTIONS) > 5:
        yield f"links.py: {len(EXCEPTIONS)} exceptions; five are the most: mend one of the arrows"
    for a, b, reason in EXCEPTIONS:
        if not reason:
            yield f"links.py: the exception {a} → {b} has no reason"
        if b not in arrows.get(a, ()):
            yield f"links.py: the exception {a} → {b} is of no use any more; delete it"
    for source, uses in sorted(arrows.items()):
        room = room_of(source)
        for to, names in sorted(uses.items()):
            there = room_of(to)
            if there != room and there not in BELOW[room] and (source, to) not in excepted:
                yield (f"{source} uses {some(names)} of {to}: {room} may use {some(BELOW[room]) or 'no other room'}; "
                       "move what both need down, or let the upper room listen (events.h) or register itself")
            for prefix, owners in OWNED.items():
                if room not in owners and any(n.startswith(prefix) for n in names):
                    yield f"{source} calls {some(names)}: {prefix}* is for {' and '.join(owners)}"
    for ring in rings_of(arrows):
        if not any(ring <= allowed for allowed in RINGS):
            inside = [f"{a} → {b} ({some(arrows[a][b])})" for a in sorted(ring) for b in sorted(arrows[a]) if b in ring]
            yield ("these objects form a ring; what they share belongs in a file below them:\n    " +
                   "\n    ".join(inside))
    clients = [s for s, uses in arrows.items() if any("nb_listen" in n for n in uses.values())]
    if len(clients) < CLIENTS:
        yield f"only {len(clients)} files listen (events.h): {', '.join(sorted(clients))}; {CLIENTS} are expected"


def long_files():
    for top in ("runtime", "lua", "kernel"):
        for folder, _, files in os.walk(top):
            for name in sorted(files):
                if name.endswith((".c", ".h", ".lua")):
                    path = os.path.join(folder, name)
                    with open(path, encoding="utf-8") as f:
                        lines = sum(1 for _ in f)
                    if lines > LONGEST:
                        yield f"{path} has {lines} lines; over {LONGEST} it wants a seam to be split along"


def main():
    build = sys.argv[1]
    if not os.path.exists(os.path.join(build, "compile_commands.json")):
        sys.exit(f"{build} is no folder of a build; make one first (./dev build)")
    found = objects(build)
    missing = [room for room in BELOW if not any(room_of(s) == room for s in found)]
    said = [f"{build} has no objects of {room}; build it first (./dev build)" for room in missing]
    if not missing:
        arrows = arrows_of(found)
        said = list(offences(arrows)) + list(beyond_the_plain(arrows)) + list(long_files())
    print("\n".join(said), end="\n" if said else "")
    sys.exit(1 if said else 0)


main()
