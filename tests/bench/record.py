# SPDX-License-Identifier: MIT
"""What the benchmarks remember: figures in a JSON file, with the machine, the commit and the time they are of.

    {"machine": {...}, "commit": "...", "date": "...", "works": {...}, "operators": {...}}
"""
import json
import os
import subprocess
import time


def machine():
    """What the figures hold for."""
    found = {"cores": len(os.sched_getaffinity(0)), "processor": "unknown", "vectors": "none that are known"}
    try:
        with open("/proc/cpuinfo") as lines:
            names = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    except OSError:
        names = {}
    if "model name" in names:
        found["processor"] = "%s (family %s, model %s)" % (names["model name"], names.get("cpu family", "?"),
                                                           names.get("model", "?"))
    flags = names.get("flags", names.get("Features", "")).split()
    for flag in ("avx512f", "avx2", "asimd"):
        if flag in flags:
            found["vectors"] = flag
            break
    return found


def commit(folder):
    """The commit of a checkout, with a plus sign where it was changed since."""
    def git(*words):
        done = subprocess.run(["git", "-C", folder, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              check=False)
        return done.stdout.strip()
    name = git("rev-parse", "--short=10", "HEAD")
    return (name or "unknown") + ("+" if name and git("status", "--porcelain", "-uno") else "")


def write(path, part, figures):
    """Puts a part's figures into the file, beside those of other parts that were measured with the same commit."""
    here = os.path.dirname(os.path.abspath(__file__))
    fresh = {"machine": machine(), "commit": commit(here)}
    try:
        with open(path) as file:
            record = json.load(file)
    except (OSError, ValueError):
        record = {}
    if not isinstance(record, dict) or any(record.get(key) != value for key, value in fresh.items()):
        record = {}
    record.update(fresh)
    record["date"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record[part] = figures
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w") as file:
        json.dump(record, file, indent=1, sort_keys=True)
        file.write("\n")
    os.replace(path + ".new", path)
