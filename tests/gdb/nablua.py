# SPDX-License-Identifier: MIT
"""Tensors, nodes and tapes in gdb.  With a build that has debug information (dev, asan, hostile, tsan):

    gdb -x tests/gdb/nablua.py --args build/dev/nablua train.lua
    (gdb) print *t               f32 2×3 (weight), refs 1, version 0, leaf: [1, 2, 3, 4, 5, 6]
    (gdb) print *node            #12 mul, refs 1, train.lua:4, 2 edges
    (gdb) tape t                 the tape behind a tensor, the latest node first

Values are read from memory, so that core files can be looked at, too; `tape` calls into the process.
"""
import struct

import gdb

SHOWN = 8
DTYPES = {"NB_BOOL": ("bool", "?"), "NB_U8": ("u8", "B"), "NB_I64": ("i64", "q"), "NB_F32": ("f32", "f"), "NB_F64": ("f64", "d")}


def shape_of(layout):
    return [int(layout["shape"][d]) for d in range(int(layout["ndim"]))]


def values_of(tensor, dtype):
    """The first elements in the order of the user's indices, read from memory."""
    layout, storage = tensor["layout"], tensor["storage"]
    shape = shape_of(layout)
    strides = [int(layout["strides"][d]) for d in range(len(shape))]
    count = 1
    for n in shape:
        count *= n
    code = DTYPES[dtype][1]
    size = struct.calcsize(code)
    data = int(storage["data"])
    found = []
    for number in range(min(count, SHOWN)):
        place, rest = int(layout["offset"]), number
        for n, stride in zip(reversed(shape), reversed(strides)):
            place += rest % n * stride
            rest //= n
        bytes_ = gdb.selected_inferior().read_memory(data + place * size, size).tobytes()
        value = struct.unpack(code, bytes_)[0]
        found.append("%.6g" % value if isinstance(value, float) else str(value).lower())
    return "[" + ", ".join(found) + (", ..." if count > SHOWN else "") + "]"


class TensorPrinter:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        t = self.value
        enum = str(t["layout"]["dtype"])
        if enum not in DTYPES:
            return "no tensor: dtype %s" % enum
        text = DTYPES[enum][0] + " " + ("×".join(map(str, shape_of(t["layout"]))) or "scalar")
        if int(t["name"]):
            text += " (%s)" % t["name"].string(errors="replace")
        text += ", refs %d" % int(t["refs"])
        if not int(t["storage"]):
            return text + ", shape only"
        text += ", version %d" % int(t["storage"]["version"])
        if int(t["node"]):
            text += ", output %d of %s" % (int(t["output"]), node_name(t["node"].dereference()))
        elif bool(t["requires_grad"]):
            text += ", leaf"
        try:
            return text + ": " + values_of(t, enum)
        except gdb.MemoryError:
            return text + ": its bytes cannot be read"


def node_name(node):
    return "%s #%d" % (node["op"]["name"].string(), int(node["order"]))


class NodePrinter:
    def __init__(self, value):
        self.value = value

    def to_string(self):
        n = self.value
        site = n["site"]
        where = ", %s:%d" % (site["source"].string(), int(site["line"])) if int(site["source"]) else ""
        freed = ", freed" if bool(n["freed"]) else ""
        return "#%d %s, refs %d%s, %d edges%s" % (int(n["order"]), n["op"]["name"].string(), int(n["refs"]), where,
                                                  int(n["edge_count"]), freed)


class Tape(gdb.Command):
    """Prints the tape behind a tensor: tape EXPRESSION, which is a Tensor or a pointer to one."""

    def __init__(self):
        super().__init__("tape", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, from_tty):
        value = gdb.parse_and_eval(argument or "0")
        kind = value.type.strip_typedefs()
        pointer = value if kind.code == gdb.TYPE_CODE_PTR else value.address
        name = str((kind.target() if kind.code == gdb.TYPE_CODE_PTR else kind).unqualified())
        if name not in ("Tensor", "struct Tensor"):
            raise gdb.GdbError("tape: %s is a %s; a Tensor or a pointer to one is wanted" % (argument or "nothing", name))
        gdb.execute("call (void)nb_tape_dump(stderr, (const Tensor *)%d)" % int(pointer))


def printer_of(value):
    name = value.type.strip_typedefs().tag
    return {"Tensor": TensorPrinter, "Node": NodePrinter}.get(name, lambda _: None)(value)


gdb.pretty_printers.append(printer_of)
Tape()
