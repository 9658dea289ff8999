# SPDX-License-Identifier: MIT
# PyTorch's database of operators (OpInfo): its sample inputs, by the operators of nablua.
#
# TABLE says what each is called here, as a function with the parameters that exist here: a sample with others is
# skipped by rule.  Dimensions, places and classes count from 1 here.
import collections
import inspect
import os

import torch
from torch.utils import _pytree as tree

import comparison
import exchange
import functions
import more
import named
from exchange import Skip
from wording import T, Call, call, from_one, needs, places, raw

op_db = comparison.database("common_methods_invocations", "op_db")


def plus_one(*which):
    """Changes the outputs of these numbers to count from 1."""
    return lambda outputs: [y + 1 if k in which else y for k, y in enumerate(outputs)]


def same(name):
    """Tensors alone."""
    return lambda x: call(name, x)


def two(name, swapped=False):
    return lambda x, other: call(name, other, x) if swapped else call(name, x, other)


def reduction(name):
    return lambda x, dim=None, keepdim=False: call(name, x, dims_of(x, dim), keepdim=keepdim or None)


def dims_of(x, dim):
    """() is all dimensions to PyTorch."""
    return None if dim is None or dim == [] or dim == () else from_one(dim)


def extreme(name):
    def make(x, dim=None, keepdim=False):
        made = call(name, x, from_one(dim), keepdim=keepdim or None)
        return made if dim is None else made.then(plus_one(1))

    return make


def place_of(name):
    return lambda x, dim=None, keepdim=False: call(name, x, from_one(dim), keepdim=keepdim or None).then(plus_one(0))


def spread(name):
    def make(x, dim=None, keepdim=False, unbiased=None, correction=None):
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        if unbiased is not None:
            correction = 1 if unbiased else 0
        return call(name, x, dims_of(x, dim), keepdim=keepdim or None, correction=correction)

    return make


def both_spreads(name):
    def make(x, dim=None, **options):
        if isinstance(dim, bool):
            dim, options["unbiased"] = None, dim
        return Call(
            spread(name)(x, dim, **options) + ", " + call("mean", x, dims_of(x, dim), keepdim=options.get("keepdim"))
        )

    return make


def parts(text):
    return Call("table.unpack(%s)" % text)


def split(x, split_size_or_sections, dim=0):
    n = split_size_or_sections
    return parts(call("split", x, list(n) if isinstance(n, (list, tuple)) else n, from_one(dim)))


def unbind(x, dim=0):
    n = x.value.shape[dim] if x.ndim else 0
    needs(n > 0, "no outputs")
    return Call(", ".join(call("select", x, from_one(dim), k + 1) for k in range(n)))


def slice_of(x, dim=0, start=None, end=None, step=1):
    n = x.value.shape[dim]
    first, last, step = slice(start, end, step).indices(n)
    return call("slice", x, from_one(dim), first + 1, last, step if step != 1 else None)


def sizes(x, *shape):
    return list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else list(shape)


def shaped(name):
    return lambda x, *shape: call(name, x, sizes(x, *shape))


def dense(x):
    """As it is drawn with other layouts, of which there is no view."""
    return raw("%s:contiguous()" % x)


def permute(x, dims):
    return call("permute", x, [from_one(d) for d in dims])


def flip(x, dims):
    dims = [dims] if isinstance(dims, int) else list(dims)
    return call("flip", x, from_one(dims)) if dims else call("clone", x)


def pad(x, pad, mode="constant", value=None):
    needs(mode == "constant", "padding by other elements")
    return call("pad", x, list(pad), value)


def conv_transpose(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return call(
        "conv_transpose2d",
        x,
        weight,
        bias,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        groups=groups,
        dilation=dilation,
    )


def loss(name, *more):
    """A loss of two tensors; size_average= and reduce= are PyTorch's old names."""

    def make(x, target, reduction="mean", **options):
        needs(set(options) <= set(more), "an option that is not here")
        if "ignore_index" in options and options["ignore_index"] >= 0:
            options["ignore_index"] += 1
        return call("nn." + name, x, target, reduction=reduction, **options)

    return make


def of_classes(name, *more):
    def make(x, target, **options):
        if not target.value.is_floating_point():
            if options.get("ignore_index", -1) < 0:
                target = raw("nb.where(%s:lt(0), %s, %s + 1)" % (target, target, target))
            else:
                target = places(target)
        return loss(name, *more)(x, target, **options)

    return make


def einsum(operands, equation):
    return call("einsum", equation, *operands)


def to(name):
    return lambda x: call("to", x, name)


def stable_sort(function):
    """Equal elements stay in their order."""
    return lambda x, dim=-1, descending=False, stable=True: function(x, dim=dim, descending=descending, stable=True)


def sort(x, dim=-1, descending=False, stable=False):
    return call("sort", x, from_one(dim), descending=descending or None).then(plus_one(1)).by(stable_sort(torch.sort))


def argsort(x, dim=-1, descending=False, stable=False):
    return (
        call("argsort", x, from_one(dim), descending=descending or None)
        .then(plus_one(0))
        .by(stable_sort(torch.argsort))
    )


def topk(x, k, dim=-1, largest=True, sorted=True):
    """Which of equal elements counts is left open: what stands at the places is compared."""
    made = call("topk", x, k, from_one(dim), largest=largest)
    return Call("(function(v, i) return v, %s:gather(%d, i) end)(%s)" % (x, from_one(dim), made)).then(
        lambda outputs: [outputs[0]] * 2
    )


def gather(x, dim, index):
    return call("gather", x, from_one(dim), places(index))


def index_select(x, dim, index):
    return call("index_select", x, from_one(dim), places(index))


def svd(text, v):
    """The singular vectors but for signs."""
    return Call("(function(u, s, v) return u:abs(), s, v%s:abs() end)(%s)" % (v, text)).then(absolute(0, 2))


def absolute(*which):
    return lambda outputs: [y.abs() if k in which else y for k, y in enumerate(outputs)]


def symmetric(x):
    """x + xᵀ, here and in PyTorch, which looks at one triangle."""
    return raw("(%s + %s:transpose(-1, -2))" % (x, x))


def eigh(x, UPLO="L"):
    return Call("(function(l, v) return l, v:abs() end)(%s)" % call("eigh", symmetric(x))).of(doubled).then(absolute(1))


def doubled(x):
    return x + x.mT


def pinv(x, rcond=None, rtol=None, atol=None, hermitian=False):
    rtol = rcond if rtol is None else rtol
    needs(not isinstance(rtol, T) and not isinstance(atol, T), "tolerances that are tensors")
    made = call("pinv", symmetric(x) if hermitian else x, rtol=rtol, atol=atol)
    return made.of(doubled) if hermitian else made


UNARY = {name: same(name) for name in """abs acos asin atan ceil cos cosh erf exp expm1 floor isfinite isinf isnan log
    log1p neg reciprocal round rsqrt sigmoid sign sin sinh sqrt square tan tanh logical_not clone contiguous trace
    matmul mm dot nn.functional.relu nn.functional.silu zeros_like ones_like""".split()}
BINARY = {
    name: two(name)
    for name in "add sub mul pow maximum minimum atan2 eq ne lt le gt ge logical_and logical_or logical_xor".split()
}

TABLE = {
    **{name: same(name.split(".")[-1]) for name in UNARY},
    **BINARY,
    "div/no_rounding_mode": two("div"),
    "div/floor_rounding": lambda x, other, rounding_mode: call("floordiv", x, other),
    "floor_divide": two("floordiv"),
    "true_divide": two("div"),
    "remainder": two("mod"),
    "max/binary": two("maximum"),
    "min/binary": two("minimum"),
    "__radd__": two("add", True),
    "__rsub__": two("sub", True),
    "__rmul__": two("mul", True),
    "__rdiv__": two("div", True),
    "__rpow__": two("pow", True),
    "__rmod__": two("mod", True),
    "__rmatmul__": two("matmul", True),
    "matmul": two("matmul"),
    "mm": lambda x, mat2: call("matmul", x, mat2),
    "dot": lambda x, tensor: call("dot", x, tensor),
    "outer": lambda x, vec2: call("outer", x, vec2),
    "clamp": lambda x, min=None, max=None: Call("%s:clamp(%s, %s)" % tuple(map(exchange.lua, (x, min, max)))),
    "clamp_min": lambda x, min: call("clamp", x, min=min),
    "clamp_max": lambda x, max: call("clamp", x, max=max),
    "where": lambda x, condition, other: call("where", condition, x, other),
    "nn.functional.leaky_relu": lambda x, negative_slope=0.01: call("leaky_relu", x, negative_slope),
    "nn.functional.elu": lambda x, alpha=1.0: call("elu", x, alpha),
    "nn.functional.gelu": lambda x, approximate="none": call("gelu", x, approximate=approximate),
    "nn.functional.softplus": lambda x, beta=1, threshold=20: call("softplus", x, beta, threshold),
    "softmax": lambda x, dim: call("softmax", x, from_one(dim)),
    "log_softmax": lambda x, dim: call("log_softmax", x, from_one(dim)),
    # reductions
    **{name: reduction(name) for name in "sum mean prod logsumexp any all".split()},
    "max/reduction_no_dim": extreme("max"),
    "max/reduction_with_dim": extreme("max"),
    "min/reduction_no_dim": extreme("min"),
    "min/reduction_with_dim": extreme("min"),
    "argmax": place_of("argmax"),
    "argmin": place_of("argmin"),
    **{name + variant: spread(name) for name in ("var", "std") for variant in ("", "/unbiased")},
    **{name + "_mean" + variant: both_spreads(name) for name in ("var", "std") for variant in ("", "/unbiased")},
    # shapes
    "reshape": shaped("reshape"),
    "view": lambda x, *shape: call("view", dense(x), sizes(x, *shape)),
    "expand": shaped("expand"),
    "broadcast_to": shaped("broadcast_to"),
    "reshape_as": lambda x, other: call("reshape", x, list(other.value.shape)),
    "view_as": lambda x, other: call("view", dense(x), list(other.value.shape)),
    "expand_as": lambda x, other: call("expand", x, list(other.value.shape)),
    "flatten": lambda x, start_dim=0, end_dim=-1: call("flatten", x, from_one(start_dim), from_one(end_dim)),
    "ravel": same("flatten"),
    "transpose": lambda x, dim0, dim1: call("transpose", x, from_one(dim0), from_one(dim1)),
    "mT": lambda x: call("transpose", x, -1, -2),
    "permute": permute,
    "squeeze": lambda x, dim=None: call("squeeze", x, from_one(dim)),
    "unsqueeze": lambda x, dim: call("unsqueeze", x, from_one(dim)),
    "diag": lambda x, diagonal=0: call("diag", x, diagonal),
    "tril": lambda x, diagonal=0: call("tril", x, diagonal),
    "triu": lambda x, diagonal=0: call("triu", x, diagonal),
    "cat": lambda tensors, dim=0: call("cat", list(tensors), from_one(dim)),
    "stack": lambda tensors, dim=0: call("stack", list(tensors), from_one(dim)),
    "tile": shaped("tile"),
    "repeat": lambda x, *repeats: call("tile", x, sizes(x, *repeats)),
    "flip": flip,
    "fliplr": lambda x: flip(x, [1]),
    "flipud": lambda x: flip(x, [0]),
    "nn.functional.pad/constant": pad,
    "constant_pad_nd": lambda x, pad, value=0: call("pad", x, list(pad), value),
    "select": lambda x, dim, index: call("select", x, from_one(dim), from_one(index)),
    "slice": slice_of,
    "split": split,
    "split/list_args": split,
    "split_with_sizes": lambda x, split_sizes, dim=0: split(x, split_sizes, dim),
    "chunk": lambda x, chunks, dim=0: parts(call("chunk", x, chunks, from_one(dim))),
    "unbind": unbind,
    # making
    "nn.functional.one_hot": lambda x, num_classes=-1: needs(num_classes > 0, "classes counted by one_hot")
    or Call("%s:to('i64')" % call("one_hot", places(x), num_classes)),
    # places
    "index_select": index_select,
    "masked_fill": lambda x, mask, value: call("masked_fill", x, mask, value),
    "masked_select": lambda x, mask: call("masked_select", x, mask),
    "argwhere": lambda x: call("nonzero", raw("%s:ne(0)" % x)).then(plus_one(0)),
    "sort": sort,
    "msort": lambda x: Call("(%s)" % call("sort", x, 1)),
    "argsort": argsort,
    "topk": topk,
    # matrices
    "einsum": einsum,
    "nn.functional.linear": lambda x, weight, bias=None: call("linear", x, weight, bias),
    "linalg.inv": same("inverse"),
    "linalg.det": same("det"),
    "linalg.slogdet": same("slogdet"),
    "linalg.cholesky": lambda x, upper=False: call("cholesky", x, upper=upper or None),
    "cholesky": lambda x, upper=False: call("cholesky", x, upper=upper or None),
    "linalg.svdvals": lambda x: Call("(select(2, %s))" % call("svd", x)),
    "linalg.eigh": eigh,
    "linalg.eigvalsh": lambda x, UPLO="L": Call("(%s)" % call("eigh", symmetric(x))).of(doubled),
    "pinverse": pinv,
    "linalg.pinv": pinv,
    # windows
    "nn.functional.conv_transpose2d": conv_transpose,
    "nn.functional.unfold": lambda x, kernel_size, dilation=1, padding=0, stride=1: call(
        "unfold", x, kernel_size, stride=stride, padding=padding, dilation=dilation
    ),
    # losses
    "nn.functional.kl_div": loss("kl_div", "log_target"),
    "nn.functional.binary_cross_entropy": loss("bce", "weight"),
    "nn.functional.binary_cross_entropy_with_logits": loss("bce_with_logits", "weight", "pos_weight"),
    "nn.functional.cross_entropy": of_classes("cross_entropy", "weight", "ignore_index", "label_smoothing"),
    "nn.functional.nll_loss": of_classes("nll", "weight", "ignore_index"),
}


NAMES = {torch.float32: "f32", torch.float64: "f64", torch.int64: "i64", torch.uint8: "u8", torch.bool: "bool"}

SHARE = 0.16  # of all cases in a normal run; NABLUA_PEERS=all takes them all

# What nablua refuses with a sentence, and why.
REFUSALS = [
    ("a scalar has no dimension", "a dimension of a tensor that has none"),
    ("probabilities of sample", "targets that are no probabilities"),
    ("are no whole numbers", "whole numbers to a negative power"),
    ("does not fit into a tensor of", "a number that the dtype does not hold"),
    ("cat: there is no dimension", "an empty vector among matrices"),
    (r"gather: the index has shape \S*0", "an empty index of other dimensions"),
]

# Whose dtype differs on purpose, and why; the numbers are compared.
OWN_DTYPES = [
    (r"^(matmul|__rmatmul__|mm|bmm|mv|dot|vdot|einsum) uint8", "products of u8 are added up in i64, as sums are"),
    (r"^(all|any) uint8", "any and all give masks for every dtype"),
    (
        r"^nn.functional.(conv\S*|linear|unfold|avg_pool2d|max_pool2d) (int64|uint8|bool)",
        "layers work in f32 or f64: whole numbers become f32",
    ),
]

# What else differs on purpose, and why.
DELIBERATE = []


for part in (functions, named, more):
    TABLE.update(part.TABLE)
    REFUSALS += part.REFUSALS
    OWN_DTYPES += part.OWN_DTYPES
    DELIBERATE += part.DELIBERATE


def is_tensor(v):
    return isinstance(v, torch.Tensor)


def flat(outputs):
    return [y for y in tree.tree_leaves(outputs) if is_tensor(y)]


def make_case(op, make, label, sample, dtype, seed):
    """The case of a sample, or Skip."""
    bundle = (sample.input, tuple(sample.args), dict(sample.kwargs))
    values, spec = tree.tree_flatten(bundle)
    tensors, named = [], []
    for v in values:
        if is_tensor(v):
            v = v.long() if v.dtype in (torch.int32, torch.int16, torch.int8) else v  # of which there are none here
            needs(v.dtype in comparison.DTYPES, "dtypes that are not here")
            needs(v.layout == torch.strided, "layouts that are not here")
            tensors.append(v)
            named.append(T(len(tensors), v))
        else:
            needs(not isinstance(v, complex), "complex numbers")
            if isinstance(v, torch.dtype):
                needs(v in NAMES, "dtypes that are not here")
                v = NAMES[v]
            named.append(v)
    first, args, options = tree.tree_unflatten(named, spec)
    try:
        inspect.signature(make).bind(first, *args, **options)
    except TypeError as problem:
        raise Skip("an option that is not here") from problem
    text = make(first, *args, **options)

    def function(own):
        own = iter(own)
        x, a, o = tree.tree_unflatten([next(own) if is_tensor(v) else v for v in values], spec)
        outputs = flat((text.peer or op)(text.before(x) if text.before else x, *a, **o))
        return text.change(outputs) if text.change else outputs

    return comparison.Case(label, text, tensors, function, seed=seed)


def name_of(op):
    return op.name + ("/" + op.variant_test_name if op.variant_test_name else "")


def labelled_samples(pattern):
    for op in op_db:
        name = name_of(op)
        if name not in TABLE or pattern not in name:
            continue
        for dtype in comparison.DTYPES:
            if not op.supports_dtype(dtype, "cpu"):
                continue
            torch.manual_seed(1)
            grad = dtype.is_floating_point and op.supports_autograd
            for k, sample in enumerate(op.sample_inputs("cpu", dtype, requires_grad=grad)):
                yield op, "%s %s %d" % (name, str(dtype).replace("torch.", ""), k), sample, dtype


def main(pattern, seed):
    cases, skipped = [], collections.Counter()
    share = 1 if pattern or os.environ.get("NABLUA_PEERS") == "all" else SHARE
    for op, label, sample, dtype in labelled_samples(pattern):
        if not comparison.chosen(label + seed, share):
            continue
        try:
            case = make_case(op, TABLE[name_of(op)], label, sample, dtype, seed)
            case.run()
            cases.append(case)
        except Skip as rule:
            skipped[str(rule)] += 1
    return comparison.judge("opinfo", cases, skipped, (REFUSALS, OWN_DTYPES, DELIBERATE), 0 if pattern else 4000)
