# SPDX-License-Identifier: MIT
# ONNX's operators that make, shape, join, take and put in Lua: a table of nodes_words.py's makers.
import math

import numpy

import exchange
from nodes_words import amounts, at_door, counted, index, kind, layer, numbers, one, rank, SHORT, steps, typed
from wording import Call, call, from_one, needs, raw


def constant(*, value=None, value_float=None, value_int=None, value_floats=None, value_ints=None):
    needs(value_floats is None and value_ints is None, "a list as a constant")
    if value is None:
        return Call("nb.tensor(%s, {dtype = %r})" % ((value_float, "f32") if value_int is None else (value_int, "i64")))
    flat = exchange.lua(value.reshape(-1).tolist())
    name = typed({"float32": 1, "float64": 11, "int64": 7, "uint8": 2, "bool": 9}.get(value.dtype.name, 0))
    if value.size == 0:
        return Call("nb.zeros(%s, {dtype = %r})" % (exchange.lua(list(value.shape)), name))
    return Call("nb.tensor(%s, {dtype = %r}):reshape(%s)" % (flat, name, exchange.lua(list(value.shape))))


def filled(shape, *, value=None):
    v, name = (0.0, "f32") if value is None else (value.item(), SHORT.get(value.dtype.name))
    needs(name, "a dtype that is not here")
    return call("full", numbers(shape), v, dtype=name)


def eye(x, *, dtype=None, k=0):
    rows, columns = x.value.shape
    name = kind(x) if dtype is None else typed(dtype)
    if k == 0:
        return call("eye", rows, columns, dtype=name)
    return Call("nb.ones(%d, %d, {dtype = %r}):triu(%d):tril(%d)" % (rows, columns, name, k, k))


def counting(start, limit, delta):
    first, last, step = (one(v) for v in (start, limit, delta))
    count = max(math.ceil((last - first) / step), 0)
    return call("arange", first, first + (count - 1) * step, step, dtype=kind(start))


def tokens(x, *, start=0, end=None):
    part = list(x.value.shape)[start:end]
    if not part:
        return call("zeros", 0, dtype="i64")
    start, n = start + (rank(x) if start < 0 else 0), rank(x)
    first = max(start, 0) + 1
    return Call(
        "nb.tensor({table.unpack(%s.shape, %d, %d)}, {dtype = 'i64'})" % (x, first, min(first + len(part) - 1, n))
    )


def reshape(x, shape, *, allowzero=0):
    sizes = [n if n or allowzero else x.value.shape[k] for k, n in enumerate(numbers(shape))]
    return call("reshape", x, sizes)


def flatten(x, *, axis=1):
    axis %= rank(x) + (axis >= 0)
    return call("reshape", x, [math.prod(x.value.shape[:axis]), math.prod(x.value.shape[axis:])])


def squeeze(x, axes=None):
    return call("squeeze", x, from_one(numbers(axes)))


def unsqueeze(x, axes):
    axes = numpy.atleast_1d(axes.value).tolist()
    n = rank(x) + len(axes)
    return Call("%s%s" % (x, "".join(":unsqueeze(%d)" % (d + 1) for d in sorted(a % n for a in axes))))


def transpose(x, *, perm=None):
    return call("permute", x, [d + 1 for d in (range(rank(x))[::-1] if perm is None else perm)])


def expand(x, shape):
    return call("expand", x, list(numpy.broadcast_shapes(x.value.shape, tuple(numbers(shape)))))


def part(x, starts, ends, axes=None, steps=None):
    """Dimension by dimension; with steps back from the other end."""
    text, starts, ends = "%s" % x, numbers(starts), numbers(ends)
    axes = list(range(len(starts))) if axes is None else numbers(axes)
    for a, b, axis, step in zip(starts, ends, axes, [1] * len(starts) if steps is None else numbers(steps)):
        taken = range(x.value.shape[axis])[a:b:step]
        d = from_one(axis)
        if not taken:
            text += ":narrow(%d, 1, 0)" % d
        else:
            low, high = min(taken[0], taken[-1]), max(taken[0], taken[-1])
            text += ":slice(%d, %d, %d, %d)%s" % (d, low + 1, high + 1, abs(step), ":flip(%d)" % d if step < 0 else "")
    return Call(text)


def split(x, sizes=None, *, axis=0, num_outputs=None, outputs):
    n, sizes = x.value.shape[axis], numbers(sizes)
    if sizes is None:
        size = -(-n // len(outputs))
        sizes = [size] * (len(outputs) - 1) + [n - size * (len(outputs) - 1)]
    return Call("table.unpack(%s)" % call("split", x, sizes, from_one(axis)))


def concat(*inputs, axis):
    return call("cat", list(inputs), from_one(axis))


def pad(x, pads, value=None, axes=None, *, mode="constant"):
    n = len(numbers(pads)) // 2
    axes = list(range(rank(x))) if axes is None else numbers(axes)
    first, last = [0] * rank(x), [0] * rank(x)
    for k, axis in enumerate(axes):
        first[axis], last[axis] = pads.value[k].item(), pads.value[n + k].item()
    needs(mode == "constant", "borders of whole tensors that repeat")
    return call("pad", x, amounts(first, last), value=one(value))


def center(x, shape, *, axes=None):
    """Negative amounts cut."""
    first, last = [0] * rank(x), [0] * rank(x)
    for axis, n in zip(range(rank(x)) if axes is None else axes, numbers(shape)):
        more = n - x.value.shape[axis]
        first[axis] = more // 2 if more >= 0 else -(-more // 2)
        last[axis] = more - first[axis]
    return call("pad", x, amounts(first, last))


def depth_to_space(x, *, blocksize, mode="DCR"):
    if mode == "CRD":
        return layer("PixelShuffle", blocksize)(x)
    n, c, h, w = x.value.shape
    b = blocksize
    return Call(
        "%s:reshape(%d, %d, %d, %d, %d, %d):permute(1, 4, 5, 2, 6, 3):reshape(%d, %d, %d, %d)"
        % (x, n, b, b, c // b**2, h, w, n, c // b**2, h * b, w * b)
    )


def space_to_depth(x, *, blocksize, mode="DCR"):
    if mode == "CRD":
        return layer("PixelUnshuffle", blocksize)(x)
    n, c, h, w = x.value.shape
    b = blocksize
    return Call(
        "%s:reshape(%d, %d, %d, %d, %d, %d):permute(1, 4, 6, 2, 3, 5):reshape(%d, %d, %d, %d)"
        % (x, n, c, h // b, b, w // b, b, n, c * b**2, h // b, w // b)
    )


def gather_nd(x, places, *, batch_dims=0):
    needs(batch_dims == 0, "places of a batch")
    return Call("%s[{%s}]" % (x, columns(places)))


def columns(places):
    """The last dimension of places as tensors of its own."""
    n = places.value.shape[-1]
    places = index(places)
    return ", ".join("%s:select(-1, %d)" % (places, k + 1) for k in range(n))


REDUCED = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter(x, places, updates, *, axis=0, reduction="none"):
    if reduction == "none":
        return call("scatter", x, from_one(axis), index(places), updates)
    return call("scatter_reduce", x, from_one(axis), index(places), updates, REDUCED[reduction])


def scatter_nd(x, places, updates, *, reduction="none"):
    if reduction in ("none", "add"):
        return Call(
            "nb.index_put(%s, {%s}, %s%s)" % (x, columns(places), updates, ", true" if reduction == "add" else "")
        )
    n, shape = places.value.shape[-1], list(x.value.shape)
    size = math.prod(shape[n:])  # of what stands at one place
    strides = [math.prod(shape[k + 1 : n]) for k in range(n)]
    places = at_door(places, lambda v: (v % shape[:n]) @ strides + 1)
    rows = ["%s:reshape(-1, %d)" % (v, size) for v in (x, updates)]
    places = raw("%s:reshape(-1, 1):expand(-1, %d)" % (places, size))
    made = call("scatter_reduce", raw(rows[0]), 1, places, raw(rows[1]), REDUCED[reduction])
    return Call("%s:reshape(%s)" % (made, exchange.lua(shape)))


def compress(x, condition, *, axis=None):
    where = "%s:nonzero():flatten()" % condition
    if axis is None:
        return Call("%s:flatten():index_select(1, %s)" % (x, where))
    return call("index_select", x, from_one(axis), raw(where))


def one_hot(places, depth, values, *, axis=-1):
    n = int(one(depth))
    needs(((places.value >= -n) & (places.value < n)).all(), "classes out of range")
    places = at_door(places, lambda v: (v.astype(numpy.int64) % n) + 1)
    off, on = (exchange.lua(v) for v in numbers(values))
    text = "nb.one_hot(%s, %d):movedim(-1, %d)" % (places, n, from_one(axis))
    return Call("%s * (%s - %s) + %s" % (text, on, off, off))


def top(x, k, *, axis=-1, largest=1, sorted=1):
    return call("topk", x, one(k), from_one(axis), largest=None if largest else False).then(counted(1))


def unique(x, *, sorted=1, axis=None, outputs):
    made = call("unique", x, dim=from_one(axis))
    if outputs == [0]:
        return made
    needs(sorted, "values in the order in which they come")
    return steps(
        "local y, which, count = %s" % made,
        "local first = which:flatten():eq(nb.arange(1, count:numel()):unsqueeze(2)):to('i64'):argmax(2)",
        "return y, first, which, count",
    ).then(counted(1, 2))


def trilu(x, k=None, *, upper=1):
    return call("triu" if upper else "tril", x, one(k))


TABLE = {
    "Constant": constant,
    "ConstantOfShape": filled,
    "EyeLike": eye,
    "Range": counting,
    "Shape": tokens,
    "Size": lambda x: Call("nb.tensor(%s:numel(), {dtype = 'i64'})" % x),
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Expand": expand,
    "Tile": lambda x, repeats: call("tile", x, numbers(repeats)),
    "Slice": part,
    "Split": split,
    "Concat": concat,
    "Pad": pad,
    "CenterCropPad": center,
    "Trilu": trilu,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Gather": lambda x, places, *, axis=0: call("index_select", x, from_one(axis), index(places)),
    "GatherElements": lambda x, places, *, axis=0: call("gather", x, from_one(axis), index(places)),
    "GatherND": gather_nd,
    "ScatterElements": scatter,
    "Scatter": scatter,
    "ScatterND": scatter_nd,
    "Compress": compress,
    "NonZero": lambda x: Call("nb.nonzero(%s).T" % x).then(counted(0)),
    "OneHot": one_hot,
    "TopK": top,
    "Unique": unique,
    "ai.onnx.ml.ArrayFeatureExtractor": lambda x, places: call("index_select", x, -1, index(places)),
}
