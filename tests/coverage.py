#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Lists the functions that the tests never ran, from a build with --coverage after they did.

coverage.py BUILD            file by file, with the share of lines and functions run; fails where tests/lint/never_run.txt
                             does not give a reason
coverage.py BUILD --some     the same after a part of the tests, of the files they touch; never fails
coverage.py --check          whether the functions of that list exist; needs no build
"""
import collections
import concurrent.futures
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIST = "tests/lint/never_run.txt"
LAYERS = ("runtime/", "lua/", "kernel/")


def read_list():
    """{(file, function): reason}; a line "# ..." before some of them is their reason."""
    known, reason = {}, None
    with open(os.path.join(ROOT, LIST), encoding="utf-8") as f:
        for line in f:
            line = line.strip()
            if line.startswith("#"):
                reason = line
            elif line:
                file, _, function = line.partition(" ")
                known[file, function] = reason
    return known


def check():
    bad = 0
    for file, function in read_list():
        path = os.path.join(ROOT, file)
        text = open(path, encoding="utf-8").read() if os.path.isfile(path) else None
        # Of a name that a macro makes a part stands in the source.
        stem = re.sub(r"_(wide|body)$", "", function)
        parts = [stem] + [stem[m.start():] for m in re.finditer("_", stem)]
        if text is None or not any(part in text for part in parts):
            print(f"{LIST}: there is no {function} in {file}")
            bad = 1
    sys.exit(bad)


def of_object(note):
    """What gcov knows of one object: (file, function, line, runs) and (file, line, runs) of our sources."""
    done = subprocess.run(["gcov", "--json-format", "--stdout", note], capture_output=True, text=True, errors="replace",
                          cwd=os.path.dirname(note))
    functions, lines = [], []
    for text in done.stdout.splitlines():
        if not text.startswith("{"):
            continue
        data = json.loads(text)
        for entry in data["files"]:
            path = os.path.normpath(os.path.join(data["current_working_directory"], entry["file"]))
            file = os.path.relpath(path, ROOT)
            if not file.startswith(LAYERS):
                continue
            for f in entry["functions"]:
                functions.append((file, f["demangled_name"], f["start_line"], f["execution_count"]))
            for l in entry["lines"]:
                lines.append((file, l["line_number"], l["count"]))
    return functions, lines


def main():
    if sys.argv[1:] == ["--check"]:
        check()
    build, some = os.path.abspath(sys.argv[1]), "--some" in sys.argv[2:]
    notes = [os.path.join(folder, name) for folder, _, names in os.walk(build) for name in names
             if name.endswith(".gcno") and "/tests/" not in folder + "/"]
    if not notes:
        sys.exit(f"coverage: there is no build with --coverage in {build}.")
    functions, lines = collections.Counter(), collections.Counter()
    starts = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for fs, ls in pool.map(of_object, notes):
            for file, name, line, runs in fs:
                functions[file, name] += runs
                starts[file, name] = line
            for file, line, runs in ls:
                lines[file, line] += runs
    known = read_list()
    by_file = collections.defaultdict(list)
    for (file, name), runs in functions.items():
        by_file[file].append((starts[file, name], name, runs))
    all_lines = collections.defaultdict(list)
    for (file, _), runs in lines.items():
        all_lines[file].append(runs)
    unknown, never, total = [], 0, 0
    for file in sorted(by_file):
        rows = sorted(by_file[file])
        idle = [(line, name) for line, name, runs in rows if not runs]
        run = sum(1 for runs in all_lines[file] if runs)
        never, total = never + len(idle), total + len(rows)
        if some and len(idle) == len(rows):
            continue
        print(f"{file}: {100 * run / max(len(all_lines[file]), 1):.1f} % of {len(all_lines[file])} lines, "
              f"{len(rows) - len(idle)} of {len(rows)} functions")
        for line, name in idle:
            reason = known.get((file, name))
            print(f"    {file}:{line} {name}{'  ' + reason if reason else ''}")
            if not reason:
                unknown.append(f"{file} {name}")
    every = sum(map(len, all_lines.values()))
    print(f"\n{100 * sum(1 for runs in lines.values() if runs) / max(every, 1):.1f} % of {every} lines; "
          f"{never} of {total} functions never run, {len(unknown)} of them without a reason in {LIST}")
    if some:
        return
    for key in known:
        if functions.get(key):
            print(f"{LIST}: {key[1]} of {key[0]} runs here")
    sys.exit(bool(unknown))


if __name__ == "__main__":
    main()
