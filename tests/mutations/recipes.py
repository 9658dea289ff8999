#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does in a copy of the tree what CONTRIBUTING's recipes say, as they stand there, and runs the tests that they name; then
spoils what they made, which the same tests must see.  No other file may need a line.
"""
import os
import re
import subprocess
import sys

import mutate

OPS, REQUESTS, ENVIRONMENT = "runtime/ops/activation.c", "kernel/jupyter/requests.c", "runtime/base/environment.c"
# Blocks by how they begin, each put before a text; {} is the block where it replaces one.
PUT = [
    ("NB_UNARY_FLOATS(cubic", OPS, "static const Op ops[] = {"),
    ('    {.name = "cubic"', OPS, "};\nconst OpFamily"),
    ("NB_UNARY(cubic_u8", OPS, "static bool cubic_backward"),
    ("     .shape = nb_shape_unary,", OPS, "     .loops = NB_FLOAT_LOOPS(cubic)},\n"),
    ("-- SPDX-License-Identifier: MIT\n-- A layer", "lua/nn/scale.lua", ""),
    ('command("upper"', "lua/session/commands.lua", "-- ---- help ----"),
    ("kinds.steps", "lua/plot/curves.lua", "return kinds"),
    ('define("SignSGD"', "lua/optim.lua", 'define("Adam"'),
    ("static json_t *tell_clock", REQUESTS, "typedef struct Handler"),
    ('    {"clock_request"', REQUESTS, '    {"execute_request", "execute_reply"'),
    ("static bool set_trim", ENVIRONMENT, "const EnvironmentRow nb_environment_rows[] = {"),
    ('    {.name = "NABLUA_TRIM"', ENVIRONMENT, '    {.name = "NABLUA_SEED"'),
]
GONE = [(OPS, "     .shape = nb_shape_unary_float,\n     .forward = nb_forward_elementwise,\n     .backward = cubic_backward,\n",
         "     .forward = nb_forward_elementwise,\n     .backward = cubic_backward,\n"),
        (OPS, "     .loops = NB_FLOAT_LOOPS(cubic)},\n", "")]
TESTS = [f"lua.test_{name}" for name in
         ("ops", "slopes", "values", "roles", "help", "api", "dtypes", "numbers", "mixed", "gradcheck", "every_layer",
          "derived_layers", "plot", "optim", "training")] + ["terminal.test_environment", "jupyter.test_protocol"]
SQUARE = "nb_mul(b->scope, x, x), 3)"
# What is spoilt: the old text, the new one, and the tests that must see it.
SPOILT = [
    (SQUARE, 'nb_mul(b->scope, x, nb_sub(b->scope, x, nb_unary(b->scope, "relu", nb_addn(b->scope, x, -3)))), 3)',
     ["lua.test_slopes"]),
    (SQUARE, 'nb_mul(b->scope, x, nb_add(b->scope, x, nb_unary(b->scope, "relu", nb_rsub(b->scope, -3, x)))), 3)',
     ["lua.test_slopes"]),
    ("(int64_t)((uint64_t)x *(uint64_t)x *(uint64_t)x)", "(int64_t)((uint64_t)x *(uint64_t)x)", ["lua.test_dtypes"]),
]


def blocks():
    with open(os.path.join(mutate.ROOT, "CONTRIBUTING.md"), encoding="utf-8") as f:
        return re.findall(r"^```\w+\n(.*?)^```", f.read(), re.MULTILINE | re.DOTALL)


def path_of(file):
    return os.path.join(mutate.SCRATCH, file)


def replace(file, old, new):
    text = ""
    if old:
        with open(path_of(file), encoding="utf-8") as f:
            text = f.read()
        if text.count(old) != 1:
            mutate.die(f"'{old.strip().splitlines()[0]}' stands {text.count(old)} times in {file}, not once.")
    with open(path_of(file), "w", encoding="utf-8") as f:
        f.write(text.replace(old, new) if old else new)


def follow():
    written = blocks()
    for begin, file, before in PUT:
        found = [b for b in written if b.startswith(begin)]
        if len(found) != 1:
            mutate.die(f"CONTRIBUTING.md has {len(found)} blocks that begin with {begin.strip()}, not one.")
        gap = "\n" if before and not before.startswith((" ", "}")) else ""
        replace(file, before, found[0] + gap + before)
    for file, old, new in GONE:
        replace(file, old, new)


def main():
    held = mutate.take_scratch()
    mutate.copy_tree()
    follow()
    build = mutate.Build("mutate")
    if errors := build.make(TESTS):
        mutate.die(f"what the recipes say does not build:\n{errors[-3000:]}")
    result, output = build.run(TESTS)
    if result != "passed":
        mutate.die(f"what the recipes say fails:\n{output[-6000:]}")
    said = subprocess.run([os.path.join(build.folder, "nablua")], input="%upper hello\n", capture_output=True, text=True).stdout
    if "HELLO" not in said:
        mutate.die(f"%upper hello says: {said}")
    for old, new, tests in SPOILT:
        replace(OPS, old, new)
        if errors := build.make(tests):
            mutate.die(f"what is spoilt does not build:\n{errors[-3000:]}")
        result, output = build.run(tests, mutate.patience())
        if result != "failed":
            mutate.die(f"{tests[0]} does not see {new}: {result}")
        replace(OPS, new, old)
    held.close()
    print(f"{len(PUT)} blocks, {len(TESTS)} tests, {len(SPOILT)} faults seen")


if __name__ == "__main__":
    sys.exit(main())
