#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Puts the faults of tests/mutations/*.toml into a copy of the tree, one at a time: the tests named beside each must fail.

mutate.py [PATTERN]   those whose name or file matches, each built and tested in build/mutate
mutate.py --now [PATTERN]  the same without first looking that the tests pass as they are
mutate.py --check     whether each fits the source as it is: its text stands there once; builds nothing

A fault that lives is a test that is missing.  One that no longer applies has lost its text: the source moved on, and the
row must follow it.
"""
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRATCH = os.path.join(ROOT, "build", "mutate", "tree")
FOLDER = os.path.join(ROOT, "tests", "mutations")
KEYS = {"name", "file", "old", "new", "tests", "preset", "more"}
TOO_LONG = 300  # seconds for the tests of one row, after which a fault counts as seen: something hangs
SEEN = {"dies", "hangs"}


def die(sentence):
    sys.exit(f"mutate: {sentence}")


def edits(row):
    """(file, old, new) of all that one fault changes."""
    first = (row["file"], row["old"], row["new"])
    return [first] + [(m.get("file", row["file"]), m["old"], m["new"]) for m in row.get("more", [])]


def read_rows():
    rows, names = [], set()
    for name in sorted(os.listdir(FOLDER)):
        if not name.endswith(".toml"):
            continue
        with open(os.path.join(FOLDER, name), "rb") as f:
            try:
                table = tomllib.load(f)
            except tomllib.TOMLDecodeError as e:
                die(f"tests/mutations/{name} is no TOML: {e}")
        for row in table["mutation"]:
            wrong = {"name", "file", "old", "new", "tests"} - row.keys() | row.keys() - KEYS
            if wrong or row["name"] in names:
                die(f"tests/mutations/{name}: {row.get('name')}: missing, unknown or twice: {sorted(wrong) or 'name'}")
            names.add(row["name"])
            rows.append(row)
    return rows


def mutated(root, row):
    """The changed texts by file, or a sentence that says why it does not apply."""
    texts = {}
    for file, old, new in edits(row):
        path = os.path.join(root, file)
        if not os.path.isfile(path):
            return f"there is no {file}"
        if file not in texts:
            with open(path, encoding="utf-8") as f:
                texts[file] = f.read()
        count = texts[file].count(old)
        if count != 1:
            return f"its text stands {count} times in {file}, not once: {old.strip().splitlines()[0]}"
        texts[file] = texts[file].replace(old, new)
    return texts


def take_scratch():
    """Holds the scratch copy for this process alone, until it ends."""
    os.makedirs(os.path.dirname(SCRATCH), exist_ok=True)
    held = open(os.path.join(os.path.dirname(SCRATCH), "lock"), "w", encoding="utf-8")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        die("another one puts faults into build/mutate/tree; wait until it ends.")
    return held


def copy_tree():
    """Brings the scratch copy up to date, and leaves alone what is the same, which need not be built again."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                                capture_output=True, check=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        die("needs git, and a clone, to tell what belongs to the tree.")
    wanted = {name for name in listed if name and os.path.isfile(os.path.join(ROOT, name))}
    for folder, folders, files in os.walk(SCRATCH):
        if folder == SCRATCH and "build" in folders:
            folders.remove("build")
        for file in files:
            path = os.path.join(folder, file)
            if os.path.relpath(path, SCRATCH) not in wanted:
                os.remove(path)
    for name in wanted:
        source, target = os.path.join(ROOT, name), os.path.join(SCRATCH, name)
        with open(source, "rb") as f:
            data = f.read()
        try:
            with open(target, "rb") as f:
                same = f.read() == data
        except OSError:
            same = False
        if not same:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(source, target)
        shutil.copymode(source, target)


def patience():
    """TOO_LONG on a machine that has nothing else to do, and as many times longer as it has more."""
    return TOO_LONG * max(1, os.getloadavg()[0] / os.cpu_count())


def quietly(command, **options):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, **options)


class Build:
    """One preset of the scratch copy."""

    def __init__(self, preset):
        self.preset, self.folder = preset, os.path.join(SCRATCH, "build", preset)
        done = quietly(["cmake", "--preset", preset, "-D", "NABLUA_ALL_TESTS=ON"], cwd=SCRATCH)
        if done.returncode:
            die(f"could not configure {preset}:\n{done.stdout}{done.stderr}")
        with open(os.path.join(self.folder, "tests", "CTestTestfile.cmake"), encoding="utf-8") as f:
            self.tests = dict(re.findall(r"^add_test\((?:\[=\[|\")(.*?)(?:\]=\]|\") (.*)\)$", f.read(), re.MULTILINE))

    def targets(self, names):
        """What ninja must bring up to date for these tests: the files of the build that their commands name."""
        found = set()
        for name in names:
            if name not in self.tests:
                die(f"there is no test {name} in {self.preset}.")
            for path in re.findall(re.escape(self.folder) + r"/([\w./?-]+)", self.tests[name]):
                found.add("nablua.so" if path.startswith("?") else path)
        return sorted(found)

    def make(self, names):
        """None, or what the compiler says."""
        done = quietly(["ninja", "-C", self.folder, *self.targets(names)])
        return done.stdout if done.returncode else None

    def run(self, names, limit=None):
        """"passed", "failed", "hung" or "skipped", and the output."""
        pattern = "^(" + "|".join(map(re.escape, names)) + ")$"
        command = ["ctest", "--test-dir", self.folder, "--output-on-failure", "--stop-on-failure", "-R", pattern]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   text=True, errors="replace", start_new_session=True)
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return "hung", process.communicate()[0]
        if process.returncode:
            return "hung" if "***Timeout" in output else "failed", output
        skipped = len(re.findall(r"\*\*\*(?:Skipped|Not Run)", output))
        return ("skipped" if skipped == len(names) else "passed"), output


def try_row(build, row):
    """How it ended, and what to show of it."""
    texts = mutated(SCRATCH, row)
    if isinstance(texts, str):
        return "does not apply", texts
    kept = {}
    try:
        for file, text in texts.items():
            path = os.path.join(SCRATCH, file)
            with open(path, encoding="utf-8") as f:
                kept[path] = f.read()
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        errors = build.make(row["tests"])
        if errors:
            return "does not build", "\n".join(line for line in errors.splitlines() if "error" in line)[:1000]
        result, output = build.run(row["tests"], patience())
        return {"failed": "dies", "hung": "hangs", "passed": "LIVES", "skipped": "not tried"}[result], output
    finally:
        for path, text in kept.items():
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)


def main():
    rows = read_rows()
    if sys.argv[1:] == ["--check"]:
        bad = [f"{row['name']}: {why}" for row in rows if isinstance(why := mutated(ROOT, row), str)]
        print("\n".join(bad), end="\n" if bad else "")
        sys.exit(bool(bad))
    now = sys.argv[1:2] == ["--now"]
    for pattern in sys.argv[2 if now else 1:]:
        if not pattern or pattern.startswith("-"):
            die(f"'{pattern}' is no pattern; without one, all faults are tried.")
        try:
            matches = re.compile(pattern).search
        except re.error as e:
            die(f"'{pattern}' is no pattern: {e}.")
        rows = [r for r in rows if matches(r["name"]) or any(matches(file) for file, _, _ in edits(r))]
        if not rows:
            die(f"no mutation matches '{pattern}'; they stand in tests/mutations/*.toml.")
    held = take_scratch()
    copy_tree()
    builds, ends = {}, {}
    for preset in sorted({r.get("preset", "mutate") for r in rows}):
        build = builds[preset] = Build(preset)
        tests = sorted({t for r in rows if r.get("preset", "mutate") == preset for t in r["tests"]})
        if errors := build.make(tests):
            die(f"the tree does not build as it is:\n{errors[-3000:]}")
        if now:
            continue
        print(f"{len(tests)} tests without a fault, {preset}", flush=True)
        result, output = build.run(tests)
        if result in ("failed", "hung"):
            die(f"these tests fail without a fault:\n{output[-6000:]}")
    for row in rows:
        start = time.monotonic()
        end, output = try_row(builds[row.get("preset", "mutate")], row)
        ends.setdefault(end, []).append(row["name"])
        print(f"{end:8}{row['name']}  [{row['file']}] {time.monotonic() - start:.0f} s", flush=True)
        if end in ("does not apply", "does not build"):
            print(output)
        if os.environ.get("VERBOSE"):
            print(output)
    print(f"\n{sum(len(ends.get(end, [])) for end in SEEN)} of {len(rows)} die")
    for end in sorted(set(ends) - {"dies"}):
        print(f"{end}: {', '.join(ends[end])}")
    held.close()
    sys.exit(not set(ends) <= SEEN)


if __name__ == "__main__":
    main()
