# SPDX-License-Identifier: MIT
# How a node of ONNX is worded in Lua, beside wording.py: a maker takes the node's inputs, which are T or None, and its
# attributes by name with ONNX's defaults, and gives a Call of all that the node may give.
import numpy

import exchange
from wording import Call, call, needs, raw

SHORT = {"float32": "f32", "float64": "f64", "int64": "i64", "uint8": "u8", "bool": "bool"}
NUMBERS = {1: "f32", 2: "u8", 7: "i64", 9: "bool", 11: "f64"}  # ONNX's numbers of the dtypes that are here


def kind(x):
    name = x.value.dtype.name
    needs(name in SHORT, "a dtype that is not here: %s" % name)
    return SHORT[name]


def typed(number):
    needs(number in NUMBERS, "a dtype that is not here: number %d" % number)
    return NUMBERS[number]


def numbers(x):
    """What is a tensor to ONNX and a number, or a list of them, here; None where it is left out."""
    return None if x is None else x.value.tolist()


def one(x):
    return None if x is None else x.value.reshape(-1)[0].item()


def index(x):
    """Places counted from 1, and from the end as before."""
    if x.place:
        x.value = numpy.where(x.value < 0, x.value, x.value + 1).astype(numpy.int64)
        return x
    return raw("nb.where(%s:lt(0), %s, %s + 1)" % (x, x, x))


def at_door(x, change, text=None):
    """The same input after a change by which ONNX's order becomes nablua's; the text does that within a graph."""
    if text and not x.place:
        return raw(text % x)
    needs(x.place, "an order to change in the middle of a graph")
    x.value = numpy.ascontiguousarray(change(x.value))
    return x


def counted(*which):
    """What these outputs hold are places."""

    def change(outputs):
        return [y + 1 if k in which else y for k, y in enumerate(outputs)]

    change.which = which
    return change


def plain(name, *given):
    """The inputs in their order, then what is given."""
    return lambda *inputs: call(name, *inputs, *given)


def layer(name, *arguments, **options):
    """A layer called with x."""
    return lambda x: Call("%s(%s)" % (call("nn." + name, *arguments, **options), x))


def installed(made, x, **state):
    """A layer that has these tensors in place of its own."""
    given = ", ".join("%s = %s" % (key, v) for key, v in state.items() if v is not None)
    to = ":to('f64')" if kind(x) == "f64" else ""
    return "install(%s%s, {%s})" % (made, to, given)


def steps(*lines):
    """Several statements, the last of which returns; more than six would be a program, not a call."""
    needs(len(lines) <= 6, "more than six lines")
    return Call("(function() %s end)()" % " ".join(lines))


def rank(x):
    return x.value.ndim


def spatial(x):
    return list(x.value.shape[2:])


def short(v):
    """A list of one number is that number."""
    return v[0] if len(v) == 1 else v


def padding(pads, auto_pad, sizes, kernel, strides, dilations):
    """What is added before and behind each dimension."""
    n = len(kernel)
    if auto_pad == "VALID":
        return [0] * n, [0] * n
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        first, last = [], []
        for size, k, s, d in zip(sizes, kernel, strides, dilations):
            whole = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
            less, more = whole // 2, whole - whole // 2
            first.append(less if auto_pad == "SAME_UPPER" else more)
            last.append(more if auto_pad == "SAME_UPPER" else less)
        return first, last
    pads = pads or [0] * (2 * n)
    return list(pads[:n]), list(pads[n:])


def amounts(first, last):
    """The amounts of nb.pad: those of the last dimension come first."""
    return [v for pair in zip(reversed(first), reversed(last)) for v in pair]


def padded(x, first, last, value=None):
    """x with borders; x itself where they are 0."""
    if not any(first + last):
        return x
    given = amounts(first, last)
    text = ", ".join(map(str, given)) + ("" if value is None else ", {value = %s}" % exchange.lua(value))
    return raw("nb.pad(%s, %s)" % (x, text))
