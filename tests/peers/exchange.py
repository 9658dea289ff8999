# SPDX-License-Identifier: MIT
# What passes between PyTorch and nablua: tensors in safetensors files, and calls written as lines of Lua.
import json
import math
import os
import subprocess

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))

DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "U8": torch.uint8, "BOOL": torch.bool}
CODES = {dtype: code for code, dtype in DTYPES.items()}


def read_tensors(path):
    """The tensors of a safetensors file that nablua wrote of a list, in its order."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        if first == last:
            tensors[int(name)] = torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]])
        else:
            count = math.prod(entry["shape"])
            t = torch.frombuffer(data, dtype=DTYPES[entry["dtype"]], count=count, offset=start + first)
            tensors[int(name)] = t.reshape(entry["shape"]).clone()
    return tensors


def write_tensors(path, tensors):
    """A safetensors file of the list, named 1, 2, ..."""
    header, parts, offset = {}, [], 0
    for k, t in enumerate(tensors):
        part = t.detach().contiguous().numpy().tobytes()
        header[str(k + 1)] = {
            "dtype": CODES[t.dtype],
            "shape": list(t.shape),
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
