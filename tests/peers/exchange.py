# SPDX-License-Identifier: MIT
# What passes between a peer and nablua: arrays in safetensors files, calls written as lines of Lua, and their results.
import json
import math
import os
import subprocess
import tempfile

import numpy

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))
FILE = 100  # cases

DTYPES = {"F32": numpy.float32, "F64": numpy.float64, "I64": numpy.int64, "U8": numpy.uint8, "BOOL": numpy.bool_}
CODES = {numpy.dtype(dtype): code for code, dtype in DTYPES.items()}


class Skip(Exception):
    """Why a case is none: the rule."""


def read_arrays(path):
    """The tensors of a safetensors file that nablua wrote of a list, in its order."""
    with open(path, "rb") as file:
        data = file.read()
    start = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        count, first = math.prod(entry["shape"]), start + entry["data_offsets"][0]
        flat = numpy.frombuffer(data, DTYPES[entry["dtype"]], count, first if count else 0)
        arrays[int(name)] = flat.reshape(entry["shape"]).copy()
    return arrays


def write_arrays(path, arrays):
    """A safetensors file of the list, named 1, 2, ..."""
    header, parts, offset = {}, [], 0
    for k, a in enumerate(arrays):
        part = a.tobytes()
        header[str(k + 1)] = {
            "dtype": CODES[a.dtype],
            "shape": list(a.shape),
            "data_offsets": [offset, offset + len(part)],
        }
        parts.append(part)
        offset += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + b"".join(parts))


def lua(v):
    """A value as Lua writes it."""
    if v is None:
        return "nil"
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, str):
        return json.dumps(v)
    if isinstance(v, (list, tuple)):
        return "{" + ", ".join(lua(x) for x in v) + "}"
    if isinstance(v, dict):
        return "{" + ", ".join("%s = %s" % (key, lua(x)) for key, x in v.items()) + "}"
    if isinstance(v, float) and not math.isfinite(v):
        return "0/0" if v != v else "math.huge" if v > 0 else "-math.huge"
    return repr(v)


def run_program(name, folder, *arguments):
    """Runs NAME.lua, which reads and writes files of the folder."""
    subprocess.run([NABLUA, os.path.join(HERE, name), folder, *arguments], check=True)


def write_cases(path, cases):
    """The files that replay.lua reads of these cases; each gives its line, for which it asks numbers of its arrays."""
    arrays = []

    def place(a):
        arrays.append(a)
        return len(arrays)

    with open(path + ".lua", "w") as file:
        file.writelines(case.line(place) + "\n" for case in cases)
    write_arrays(path + ".safetensors", arrays)


def replay(cases):
    """Of each case what replay.lua gave, and the arrays that this names."""
    files = [cases[k : k + FILE] for k in range(0, len(cases), FILE)]
    with tempfile.TemporaryDirectory() as folder:
        for n, some in enumerate(files):
            write_cases(os.path.join(folder, str(n + 1)), some)
        run_program("replay.lua", folder, str(len(files)))
        for n, some in enumerate(files):
            path = os.path.join(folder, str(n + 1))
            arrays = read_arrays(path + ".results.safetensors")
            with open(path + ".json") as file:
                for case, result in zip(some, json.load(file)):
                    yield case, result, arrays
