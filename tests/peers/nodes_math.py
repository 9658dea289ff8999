# SPDX-License-Identifier: MIT
# ONNX's operators of elements, reductions and matrices in Lua: a table of nodes_words.py's makers.
import exchange
from nodes_words import counted, kind, layer, numbers, one, plain, rank, typed
from wording import Call, T, call, from_one, needs, raw


def cast(x, *, to, saturate=1, round_mode=None):
    return call("to", x, typed(to))


def clip(x, low=None, high=None):
    return Call("%s:clamp(%s, %s)" % (x, low or "nil", high or "nil")) if low or high else call("clone", x)


def division(x, y):
    """Of whole numbers, what is left of the point."""
    needs(kind(x) in ("f32", "f64") or (x.value >= 0).all() and (y.value > 0).all(), "a quotient that is cut off")
    return call("div" if kind(x) in ("f32", "f64") else "floordiv", x, y)


def power(x, y):
    """In the dtype of x."""
    made = call("pow", x, y)
    return made if kind(x) in ("f32", "f64") or kind(x) == kind(y) else Call("%s:to(%r)" % (made, kind(x)))


def fold(name, after=""):
    """Of any number of tensors, two by two."""

    def make(first, *others):
        text = "%s" % first if others else call("clone", first)
        for x in others:
            text = call(name, raw(text), x)
        return Call(text + after % (len(others) + 1) if after else text)

    return make


def infinite(x, *, detect_negative=1, detect_positive=1):
    if detect_negative and detect_positive:
        return call("isinf", x)
    if detect_negative or detect_positive:
        return call("eq", x, raw("-math.huge" if detect_negative else "math.huge"))
    return Call("nb.zeros_like(%s):to('bool')" % x)


def selu(x, *, alpha=1.6732631921768188, gamma=1.0507010221481323):
    if abs(alpha - 1.6732632) < 1e-6:
        return layer("SELU")(x)
    return Call("%s * %s" % (call("elu", x, alpha), exchange.lua(gamma)))


def shrink(x, *, lambd=0.5, bias=0.0):
    needs(bias in (0, lambd), "another bias than the threshold")
    return layer("Softshrink" if bias else "Hardshrink", lambd)(x)


def swish(x, *, alpha=1.0):
    return call("silu", x) if alpha == 1 else Call("%s * nb.sigmoid(%s * %s)" % (x, x, exchange.lua(alpha)))


def thresholded(x, *, alpha=1.0):
    return layer("Threshold", alpha, 0)(x)


def hardmax(x, *, axis=-1):
    return Call(
        "nb.one_hot(%s, %d):movedim(-1, %d)" % (call("argmax", x, from_one(axis)), x.value.shape[axis], from_one(axis))
    )


def axes_of(x, axes, noop):
    """The dimensions of a reduction, or None where it does nothing."""
    axes = numbers(axes) if isinstance(axes, T) else axes
    if not axes:
        return None if noop else list(range(1, rank(x) + 1))
    return from_one(axes)


def reduction(name, before="%s", after="%s", options=""):
    def make(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        dims = axes_of(x, axes, noop_with_empty_axes)
        inside = before % ((x,) * before.count("%s"))
        if dims is None:
            needs(name in ("sum", "amax", "amin", "mean", "prod"), "a reduction of nothing that is more than that")
            return Call(after % inside if inside != "%s" % x else after % call("clone", x))
        more = "{keepdim = %s%s}" % (exchange.lua(bool(keepdims)), options)
        return Call(after % ("nb.%s(%s, %s, %s)" % (name, inside, exchange.lua(dims), more)))

    return make


def place_of(name):
    def make(x, *, axis=0, keepdims=1, select_last_index=0):
        d, keep = from_one(axis), {"keepdim": bool(keepdims)}
        if not select_last_index:
            return call(name, x, d, **keep).then(counted(0))
        text = call(name, raw("%s:flip(%d)" % (x, d)), d, **keep)
        return Call("%d - %s" % (x.value.shape[axis] + 1, text)).then(counted(0))

    return make


def running(name, nothing):
    """Sums or products; without the element itself they begin with nothing."""

    def make(x, axis, *, exclusive=0, reverse=0):
        d = from_one(one(axis))
        text, flip = "%s" % x, ":flip(%d)" % d if reverse else ""
        if exclusive:
            k = (rank(x) - d if d > 0 else -d - 1) * [0, 0] + [1, -1]
            text = "nb.pad(%s%s, {%s}, %d)" % (x, flip, ", ".join(map(str, k)), nothing)
        else:
            text += flip
        return Call("%s%s" % (call(name, raw(text), d), flip))

    return make


def gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    a, b = (raw("%s.T" % x) if t else x for x, t in ((a, transA), (b, transB)))
    if c is None:
        return Call("%s%s" % (call("mm", a, b), "" if alpha == 1 else " * %s" % exchange.lua(alpha)))
    return call("addmm", c, a, b, alpha=alpha, beta=beta)


def einsum(*inputs, equation):
    return call("einsum", equation, *inputs)


def quantized(x, scale, zero=None, *, axis=1, block_size=0, **other):
    needs(zero is not None and not other, "a result that is no u8")
    needs(kind(zero) == "u8" and not block_size, "a result that is no u8, or scales of blocks")
    scale, zero = along(x, scale, axis), along(x, zero, axis)
    return Call("nb.clamp(nb.round(%s / %s) + %s, 0, 255):to('u8')" % (x, scale, zero))


def dequantized(x, scale, zero=None, *, axis=1, block_size=0, **other):
    needs(kind(x) == "u8" and not block_size and not other, "numbers that are no u8, or scales of blocks")
    zero = None if zero is None else raw("%s:to('f32')" % along(x, zero, axis))
    return Call("(%s:to('f32')%s) * %s" % (x, "" if zero is None else " - %s" % zero, along(x, scale, axis)))


def along(x, scale, axis):
    if scale.value.size == 1:
        return scale
    sizes = [1] * rank(x)
    sizes[axis] = -1
    return raw("%s:reshape(%s)" % (scale, exchange.lua(sizes)))


def mean_variance(x, *, axes=(0, 2, 3)):
    given = "%s, {keepdim = true%s}" % (exchange.lua(from_one(list(axes))), "%s")
    return Call("(%s - %s:mean(%s)) / %s:std(%s)" % (x, x, given % "", x, given % ", correction = 0"))


TABLE = {
    **{
        name: plain(own)
        for name, own in {
            **{
                name: name.lower()
                for name in """Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Det Erf Exp Floor IsNaN Log MatMul Neg
                Reciprocal Relu Round Sigmoid Sign Sin Sinh Softplus Sqrt Tan Tanh Add Sub Mul Where""".split()
            },
            "And": "logical_and",
            "Or": "logical_or",
            "Xor": "logical_xor",
            "Not": "logical_not",
            "Equal": "eq",
            "Greater": "gt",
            "GreaterOrEqual": "ge",
            "Less": "lt",
            "LessOrEqual": "le",
            "BitwiseAnd": "bitwise_and",
            "BitwiseOr": "bitwise_or",
            "BitwiseXor": "bitwise_xor",
            "BitwiseNot": "bitwise_not",
            "Identity": "clone",
            "OptionalGetElement": "clone",
        }.items()
    },
    "Cast": cast,
    "CastLike": lambda x, other, *, saturate=1, round_mode=None: call("to", x, kind(other)),
    "Clip": clip,
    "Div": division,
    "Pow": power,
    "Mod": lambda x, y, *, fmod=0: call("fmod" if fmod else "mod", x, y),
    "BitShift": lambda x, y, *, direction: call("bitwise_%s_shift" % direction.lower(), x, y),
    "Sum": fold("add"),
    "Max": fold("maximum"),
    "Min": fold("minimum"),
    "Mean": lambda *inputs: Call("%s / %d" % (raw("(%s)" % fold("add")(*inputs)), len(inputs))),
    "IsInf": infinite,
    # activations
    "Celu": lambda x, *, alpha=1.0: layer("CELU", alpha)(x),
    "Elu": lambda x, *, alpha=1.0: call("elu", x, alpha),
    "Gelu": lambda x, *, approximate="none": call("gelu", x, approximate=approximate),
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: Call(
        "nb.clamp(%s * %s + %s, 0, 1)" % (x, exchange.lua(alpha), exchange.lua(beta))
    ),
    "HardSwish": layer("Hardswish"),
    "Hardmax": hardmax,
    "LeakyRelu": lambda x, *, alpha=0.01: call("leaky_relu", x, alpha),
    "LogSoftmax": lambda x, *, axis=-1: call("log_softmax", x, from_one(axis)),
    "Mish": layer("Mish"),
    "PRelu": lambda x, slope: Call("nb.where(%s:lt(0), %s * %s, %s)" % (x, x, slope, x)),
    "Selu": selu,
    "Shrink": shrink,
    "Softmax": lambda x, *, axis=-1: call("softmax", x, from_one(axis)),
    "Softsign": layer("Softsign"),
    "SwiGLU": lambda a, b, *, alpha=1.0: Call("(%s) * %s" % (swish(a, alpha=alpha), b)),
    "Swish": swish,
    "ThresholdedRelu": thresholded,
    # reductions
    "ReduceL1": reduction("norm", options=", p = 1"),
    "ReduceL2": reduction("norm"),
    "ReduceLogSum": reduction("sum", after="nb.log(%s)"),
    "ReduceLogSumExp": reduction("logsumexp"),
    "ReduceMax": reduction("amax"),
    "ReduceMean": reduction("mean"),
    "ReduceMin": reduction("amin"),
    "ReduceProd": reduction("prod"),
    "ReduceSum": reduction("sum"),
    "ReduceSumSquare": reduction("sum", before="nb.square(%s)"),
    "ArgMax": place_of("argmax"),
    "ArgMin": place_of("argmin"),
    "CumSum": running("cumsum", 0),
    "CumProd": running("cumprod", 1),
    "LpNormalization": lambda x, *, axis=-1, p=2: call("normalize", x, p, from_one(axis)),
    "MeanVarianceNormalization": mean_variance,
    # matrices
    "Gemm": gemm,
    "Einsum": einsum,
    # numbers of 8 bits for others
    "QuantizeLinear": quantized,
    "DequantizeLinear": dequantized,
    "ai.onnx.ml.Binarizer": lambda x, *, threshold=0.0: Call(
        "%s:gt(%s):to(%r)" % (x, exchange.lua(threshold), kind(x))
    ),
}
