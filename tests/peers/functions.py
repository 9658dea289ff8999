# SPDX-License-Identifier: MIT
# What PyTorch's names of functions are called here, beside those of opinfo.py: a table of the same form.
import torch

from wording import T, Call, call, from_one, needs, places, raw


def same(*names):
    """Tensors and numbers in PyTorch's order, options by name."""
    return {name: maker(name.split(".")[-1].split("/")[0]) for name in names}


def maker(name):
    return lambda *args, **options: call(name, *args, **options)


def answer(text, function):
    """One true or false."""
    return Call("nb.tensor(%s)" % text).by(lambda *args, **options: torch.tensor(function(*args, **options)))


def several(d):
    """() is all dimensions to PyTorch."""
    return None if d is None or d == [] or d == () else from_one(d)


def at(text, x, dim):
    """Value and place, of which what stands there is compared: which of equal ones counts is left open."""
    if dim is None:
        return Call(text)
    d = from_one(dim)
    there = "%s:gather(%d, i:dim() < %s:dim() and i:unsqueeze(%d) or i):reshape(v.shape)" % (x, d, x, d)
    if x.ndim == 0:
        there = "%s" % x
    return Call("(function(v, i) return v, %s end)(%s)" % (there, text)).then(lambda outputs: [outputs[0]] * 2)


def median(name):
    return lambda x, dim=None, keepdim=False: at(call(name, x, from_one(dim), keepdim=keepdim or None), x, dim)


def kthvalue(x, k, dim=-1, keepdim=False):
    return at(call("kthvalue", x, k, from_one(dim), keepdim=keepdim or None), x, dim)


def mode(x, dim=-1, keepdim=False):
    return at(call("mode", x, from_one(dim), keepdim=keepdim or None), x, dim)


def quantile(name):
    def make(x, q, dim=None, keepdim=False, interpolation="linear"):
        return call(name, x, q, from_one(dim), keepdim=keepdim or None, interpolation=interpolation)

    return make


def reduced(name):
    return lambda x, dim=None, keepdim=None: call(name, x, several(dim), keepdim=keepdim or None)


def running(name):
    def make(x, dim):
        made = call(name, x, from_one(dim))
        return made.then(lambda outputs: [outputs[0], outputs[1] + 1]) if name in ("cummax", "cummin") else made

    return make


def diff(x, n=1, dim=-1, prepend=None, append=None):
    return call("diff", x, n, from_one(dim), prepend=prepend, append=append)


def trapezoid(name):
    def make(y, x=None, *, dim=-1, dx=None):
        return call(name, y, (1 if dx is None else dx) if x is None else x, from_one(dim))

    return make


def bincount(x, weights=None, minlength=0):
    """Numbers count from 1 here."""
    return call("bincount", places(x), weights=weights, minlength=minlength)


def histogram(x, bins, range=None, weight=None, density=False):
    needs(isinstance(bins, int) or not isinstance(bins, (list, tuple)), "bins of each dimension")
    return call("histogram", x, bins, range=None if range is None else list(range), weight=weight, density=density)


def count_from_one(outputs):
    return [y.long() + 1 for y in outputs]


def searchsorted(x, values, *, out_int32=False, right=False, side=None, sorter=None):
    if sorter is not None:
        x = raw("%s:gather(-1, %s)" % (x, places(sorter)))
    right = right or side == "right" or None
    return call("searchsorted", x, values, right=right).then(count_from_one)


def bucketize(x, boundaries, *, out_int32=False, right=False):
    return call("bucketize", x, boundaries, right=right or None).then(count_from_one)


def isin(elements, test_elements, assume_unique=False, invert=False):
    if not isinstance(elements, T):
        elements = raw("nb.tensor(%r, {dtype=%s.dtype})" % (elements, test_elements))
    return call("isin", elements, test_elements, invert=invert or None)


def unique_consecutive(x, return_inverse=False, return_counts=False, dim=None):
    wanted = [0] + [k for k, is_wanted in ((1, return_inverse), (2, return_counts)) if is_wanted]
    text = "(function(...) local all = {...} return %s end)(%s)" % (
        ", ".join("all[%d]" % (k + 1) for k in wanted),
        call("unique_consecutive", x, dim=from_one(dim)),
    )
    return Call(text).then((lambda ys: [y + 1 if k == 1 else y for k, y in enumerate(ys)]) if return_inverse else None)


def roll(x, shifts, dims=None):
    shifts, dims = ([v] if isinstance(v, int) else list(v or []) for v in (shifts, dims))
    if len(shifts) == 1:
        return call("roll", x, shifts[0], from_one(dims[0]) if dims else None)
    return call("roll", x, shifts, from_one(dims))


def scatter(x, dim, index, src=None, value=None, reduce=None):
    if reduce is None:
        return call("scatter", x, from_one(dim), places(index), value if src is None else src)
    if not isinstance(src, T):
        value = src if value is None else value
        src = raw("nb.full(%s.shape, %r, {dtype=%s.dtype})" % (index, value, x))
    how = {"add": "sum", "multiply": "prod"}[reduce]
    return call("scatter_reduce", x, from_one(dim), places(index), src, reduce=how)


def svd(x, full, v):
    """The singular vectors but for signs, and without what completes them."""
    k = min(x.value.shape[-2:])
    text = call("svd", x, full_matrices=full or None)

    def change(outputs):
        u, s, w = outputs
        w = w if v == "" else w.mT
        return [u[..., :k].abs(), s, (w[..., :k] if v == "" else w[..., :k].mT).abs()]

    if k == 0:
        return Call("(function(u, s, v) return u, s, v%s end)(%s)" % (v, text))
    return Call(
        "(function(u, s, v) return u:narrow(-1, 1, %d):abs(), s, v:narrow(-1, 1, %d)%s:abs() end)(%s)" % (k, k, v, text)
    ).then(change)


def qr(x, mode="reduced"):
    if mode == "r":
        return Call("(select(2, %s))" % call("qr", x)).then(lambda outputs: outputs[-1:])
    return call("qr", x, mode=None if mode == "reduced" else mode)


def tensordot(x, y, dims=2):
    if not isinstance(dims, int):
        dims = [from_one(list(dims[0])) or [], from_one(list(dims[1])) or []]
    return call("tensordot", x, y, dims)


def matrix_norm(x, ord="fro", dim=(-2, -1), keepdim=False):
    return call("matrix_norm", x, infinite(ord), dims=from_one(list(dim)), keepdim=keepdim or None)


def infinite(p):
    """As Lua writes infinities."""
    return raw("%smath.huge" % ("-" if p < 0 else "")) if isinstance(p, float) and abs(p) == float("inf") else p


def any_norm(x, ord=None, dim=None, keepdim=False):
    """linalg.norm: of vectors or of matrices."""
    dims = [dim] if isinstance(dim, int) else dim
    if ord is None:
        return call("norm", x, several(dim), keepdim=keepdim or None)
    if (dims is not None and len(dims) == 2) or (dims is None and x.ndim == 2):
        return matrix_norm(x, ord, (-2, -1) if dims is None else dims, keepdim)
    return call("norm", x, several(dim), keepdim=keepdim or None, p=infinite(ord))


def old_norm(x, p="fro", dim=None, keepdim=False):
    if p == "nuc":
        return matrix_norm(x, "nuc", (-2, -1) if dim is None else dim, keepdim)
    return call("norm", x, several(dim), keepdim=keepdim or None, p=2 if p in ("fro", None) else infinite(p))


def matrix_rank(x, rtol=None, atol=None, hermitian=False):
    needs(not isinstance(rtol, T) and not isinstance(atol, T), "tolerances that are tensors")
    return call("matrix_rank", x, rtol=rtol, atol=atol)


def interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=None, *args, **options):
    needs(mode != "area" and not args and not options, "area or further options of interpolate")
    sizes = list(size) if isinstance(size, (list, tuple)) else size
    factors = list(scale_factor) if isinstance(scale_factor, (list, tuple)) else scale_factor
    made = call(
        "interpolate", x, size=sizes, scale_factor=factors, mode=mode, align_corners=True if align_corners else None
    )
    return made if x.value.is_floating_point() else made.of(torch.Tensor.double)


def grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    if isinstance(mode, int):
        mode = ("bilinear", "nearest", "bicubic")[mode]
        padding_mode = ("zeros", "border", "reflection")[padding_mode]
    return call(
        "grid_sample", x, grid, mode=mode, padding_mode=padding_mode, align_corners=True if align_corners else None
    )


def single(v):
    """One number in a list stands for both."""
    return v[0] if isinstance(v, (list, tuple)) and len(v) == 1 else v or None


def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    made = call(
        "max_pool2d",
        x,
        single(kernel_size),
        stride=single(stride),
        padding=single(padding),
        dilation=dilation,
        ceil_mode=ceil_mode or None,
        return_indices=return_indices or None,
    )
    return made.then(lambda ys: [y + 1 if k == 1 else y for k, y in enumerate(ys)]) if return_indices else made


def avg_pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    return call(
        "avg_pool2d",
        x,
        single(kernel_size),
        stride=single(stride),
        padding=single(padding),
        count_include_pad=count_include_pad,
        ceil_mode=ceil_mode or None,
        divisor_override=divisor_override,
    )


def unique(x, sorted=True, return_inverse=False, return_counts=False, dim=None):
    wanted = [0] + [k for k, is_wanted in ((1, return_inverse), (2, return_counts)) if is_wanted]
    text = "(function(...) local all = {...} return %s end)(%s)" % (
        ", ".join("all[%d]" % (k + 1) for k in wanted),
        call("unique", x, **({} if dim is None else {"dim": from_one(dim)})),
    )
    return Call(text).then((lambda ys: [y + 1 if k == 1 else y for k, y in enumerate(ys)]) if return_inverse else None)


def one_by_one(name):
    """Tensors in a list or one by one."""

    def make(*tensors, **options):
        if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
            tensors = tensors[0]
        return call(name, list(tensors), **options)

    return make


def parts(name):
    def make(x, where, dim=0):
        if isinstance(where, T):
            where = where.value.tolist()
        where = list(where) if isinstance(where, (list, tuple)) else where
        if name != "tensor_split":
            return Call("table.unpack(%s)" % call(name, x, where))
        return Call("table.unpack(%s)" % call(name, x, where, from_one(dim)))

    return make


def diagonal(name, *first):
    def make(x, *args, offset=0, dim1=None, dim2=None):
        args, given = list(args), {"offset": offset, "dim1": dim1, "dim2": dim2}
        more = [args.pop(0)] if name == "diagonal_scatter" else []
        for key, v in zip(("offset", "dim1", "dim2"), args):
            given[key] = v
        default = {"diag_embed": (-2, -1), "linalg": (-2, -1)}.get(first[0] if first else name, (0, 1))
        d, e = (default[k] if given[key] is None else given[key] for k, key in enumerate(("dim1", "dim2")))
        return call(name, x, *more, given["offset"], from_one(d), from_one(e))

    return make


def row_places(name):
    """dim, index and what stands there."""

    def make(x, dim, index, src=None, **options):
        value = options.pop("value", None)
        return call(name, x, from_one(dim), places(index), value if src is None else src, **options)

    return make


def index_put(x, indices, values, accumulate=False):
    return call("index_put", x, [index_place(i) for i in indices], values, accumulate or None)


def index_place(i):
    needs(isinstance(i, T), "an index that is no tensor")
    return i if i.value.dtype == torch.bool else raw("nb.where(%s:lt(0), %s, %s + 1)" % (i, i, i))


def dimensions_of(k):
    """How many dimensions an entry of an index takes."""
    if k is None or k is Ellipsis:
        return 0
    return k.value.dim() if isinstance(k, T) and k.value.dtype == torch.bool else 1


def get_item(x, key):
    """x[key]"""
    keys = list(key) if isinstance(key, tuple) else [key]
    needs(not any(k is True or k is False for k in keys), "a boolean as index")
    rest = x.ndim - sum(dimensions_of(k) for k in keys)
    entries, d = [], 0
    for k in [one for k in keys for one in ([slice(None)] * rest if k is Ellipsis else [k])]:
        if k is None:
            entries.append("nb.NEW")
            continue
        n = x.value.shape[d]
        d += dimensions_of(k)
        if isinstance(k, T):
            entries.append(repr(index_place(k)))
        elif isinstance(k, slice):
            first, last, step = k.indices(n)
            entries.append("{%d, %d, %d}" % (first + 1, max(last, first), step))
        elif isinstance(k, (list, tuple)):
            entries.append("nb.tensor({%s}, {dtype='i64'})" % ", ".join(str(from_one(v)) for v in k))
        else:
            entries.append(str(from_one(k)))
    return Call("%s[{%s}]" % (x, ", ".join(entries)))


def reduce_into(x, dim, index, src, reduce=None, *, include_self=True):
    return call(
        "scatter_reduce", x, from_one(dim), places(index), src, reduce=reduce, include_self=None if include_self else False
    )


def flat_list(x):
    return list(x[0]) if len(x) == 1 and isinstance(x[0], (list, tuple)) else list(x)


def from_zero(outputs):
    return [y + 1 for y in outputs]


def flat_index(i):
    return raw("nb.where(%s:lt(0), %s, %s + 1)" % (i, i, i))


TABLE = {
    # elementwise
    **same(
        *"""acosh asinh atanh log2 log10 exp2 erfc erfinv lgamma digamma sinc deg2rad rad2deg trunc frac signbit
        logaddexp logaddexp2 hypot copysign fmod fmax fmin heaviside xlogy logit nan_to_num positive""".split()
    ),
    "lerp": lambda x, end, weight: call("lerp", x, end, weight),
    "addcmul": lambda x, a, b, value=1: call("addcmul", x, a, b, value=value),
    "addcdiv": lambda x, a, b, value=1: call("addcdiv", x, a, b, value=value),
    "isclose": lambda x, other, rtol=1e-5, atol=1e-8, equal_nan=False: call(
        "isclose", x, other, rtol=rtol, atol=atol, equal_nan=equal_nan
    ),
    "polygamma/polygamma_n_0": lambda x, n: call("digamma", x) if n == 0 else call("polygamma", x, n),
    **{
        name: lambda x, n: call("digamma", x) if n == 0 else call("polygamma", x, n)
        for name in [
            "polygamma/polygamma_n_%d" % n for n in range(1, 5)
        ] + ["special.polygamma/special_polygamma_n_0"]
    },
    # options of what opinfo.py has
    "unique": unique,
    "roll": roll,
    "squeeze/multiple": lambda x, dim: call("squeeze", x, from_one(dim)) if dim else call("clone", x),
    "scatter": scatter,
    "scatter_add": lambda x, dim, index, src: call("scatter_add", x, from_one(dim), places(index), src),
    "gather": lambda x, dim, index, sparse_grad=False: call("gather", x, from_one(dim), places(index)),
    "linalg.solve": lambda a, b, left=True: call("solve", a, b, left=None if left else False),
    "linalg.solve_triangular": lambda a, b, upper, left=True, unitriangular=False: call(
        "solve_triangular",
        a,
        b,
        upper=upper or None,
        left=None if left else False,
        unitriangular=unitriangular or None,
    ),
    "linalg.svd": lambda x, full_matrices=True: svd(x, full_matrices, ":transpose(-1, -2)"),
    "svd": lambda x, some=True, compute_uv=True: needs(compute_uv, "compute_uv=") or svd(x, not some, ""),
    "linalg.qr": qr,
    "qr": lambda x, some=True: qr(x, "reduced" if some else "complete"),
    # reductions and order
    "median": median("median"),
    "nanmedian": median("nanmedian"),
    "kthvalue": kthvalue,
    "mode": mode,
    "quantile": quantile("quantile"),
    "nanquantile": quantile("nanquantile"),
    **{name: reduced(name) for name in "nansum nanmean amax amin".split()},
    "count_nonzero": lambda x, dim=None: call("count_nonzero", x, several(dim)),
    "aminmax": lambda x, *, dim=None, keepdim=False: call("aminmax", x, dim=from_one(dim), keepdim=keepdim or None),
    **{name: running(name) for name in "cumprod cummax cummin logcumsumexp".split()},
    "diff": diff,
    "trapezoid": trapezoid("trapezoid"),
    "trapz": trapezoid("trapezoid"),
    "cumulative_trapezoid": trapezoid("cumulative_trapezoid"),
    "cov": lambda x, *, correction=1, fweights=None, aweights=None: call(
        "cov", x, correction=correction, fweights=fweights, aweights=aweights
    ),
    "corrcoef": lambda x: call("corrcoef", x),
    "bincount": bincount,
    "histc": lambda x, bins=100, min=0, max=0: call("histc", x, bins, min, max),
    "histogram": histogram,
    "searchsorted": searchsorted,
    "bucketize": bucketize,
    "isin": isin,
    "unique_consecutive": unique_consecutive,
    # shapes
    "movedim": lambda x, source, destination: call("movedim", x, from_one(source), from_one(destination)),
    "unflatten": lambda x, dim, sizes: call("unflatten", x, from_one(dim), list(sizes)),
    "rot90": lambda x, k=1, dims=(0, 1): call("rot90", x, k, from_one(list(dims))),
    "atleast_1d": lambda *x: Call(", ".join(call("atleast_1d", t) for t in flat_list(x))),
    "atleast_2d": lambda *x: Call(", ".join(call("atleast_2d", t) for t in flat_list(x))),
    "atleast_3d": lambda *x: Call(", ".join(call("atleast_3d", t) for t in flat_list(x))),
    "diagonal": diagonal("diagonal"),
    "diagonal_copy": diagonal("diagonal"),
    "linalg.diagonal": diagonal("diagonal", "linalg"),
    "diag_embed": diagonal("diag_embed"),
    "diagonal_scatter": diagonal("diagonal_scatter"),
    "diagflat": lambda x, offset=0: call("diagflat", x, offset),
    **{
        name: one_by_one(name)
        for name in "block_diag hstack vstack dstack column_stack broadcast_tensors cartesian_prod".split()
    },
    "meshgrid/variadic_tensors": one_by_one("meshgrid"),
    "meshgrid/list_of_tensors": one_by_one("meshgrid"),
    **{name: parts(name) for name in "tensor_split hsplit vsplit dsplit".split()},
    "combinations": lambda x, r=2, with_replacement=False: call(
        "combinations", x, r, with_replacement=with_replacement or None
    ),
    "linalg.vander": lambda x, N=None: call("vander", x, N, increasing=True),
    # making
    "logspace": lambda start, end, steps, base=10.0, *, dtype=None, device=None: call(
        "logspace", start, end, steps, base, dtype=dtype
    ),
    "linspace": lambda start, end, steps, *, dtype=None, device=None: call("linspace", start, end, steps, dtype=dtype),
    **{
        name: (lambda name: lambda rows, cols, offset=0, **o: call(name, rows, cols, offset).then(from_zero))(name)
        for name in ("tril_indices", "triu_indices")
    },
    # places
    "index_put": index_put,
    "__getitem__": get_item,
    "put": lambda x, index, source, accumulate=False: call("put", x, flat_index(index), source, accumulate or None),
    "take": lambda x, index: call("take", x, flat_index(index)),
    "take_along_dim": lambda x, indices, dim=None: call("take_along_dim", x, flat_index(indices), from_one(dim)),
    "index_copy": row_places("index_copy"),
    "index_fill": row_places("index_fill"),
    "masked_scatter": lambda x, mask, source: call("masked_scatter", x, mask, source),
    "unfold": lambda x, dimension, size, step: call("windows", x, from_one(dimension), size, step),
    "unfold_copy": lambda x, dimension, size, step: call("windows", x, from_one(dimension), size, step),
    "select_scatter": lambda x, src, dim, index: call("select_scatter", x, src, from_one(dim), from_one(index)),
    "slice_scatter": lambda x, src, dim=0, start=None, end=None, step=1: (
        lambda first, last, step: call(
            "slice_scatter", x, src, from_one(dim), first + 1, max(last, first), step
        )
    )(*slice(start, end, step).indices(x.value.shape[dim])),
    **{"scatter_reduce/" + how: reduce_into for how in "sum prod mean amax amin".split()},
    # products
    **same(*"addmm addmm/decomposed addmv addr addbmm baddbmm inner mv bmm vdot".split()),
    "tensordot": tensordot,
    "kron": lambda x, y: call("kron", x, y),
    "cross": lambda x, y, dim=None: call(
        "cross", x, y, from_one(list(x.value.shape).index(3) if dim is None else dim)
    ),
    "linalg.cross": lambda x, y, dim=-1: call("cross", x, y, from_one(dim)),
    "linalg.vecdot": lambda x, y, dim=-1: call("vecdot", x, y, from_one(dim)),
    "cdist": lambda x, y, p=2.0, compute_mode=None: call("cdist", x, y, infinite(p)),
    "linalg.multi_dot": lambda tensors: call("multi_dot", list(tensors)),
    "linalg.matrix_power": lambda x, n: call("matrix_power", x, n),
    "matrix_exp": lambda x: call("matrix_exp", x),
    "linalg.matrix_norm": matrix_norm,
    "linalg.norm": any_norm,
    "linalg.norm/subgradients_at_zero": any_norm,
    "norm/nuc": old_norm,
    "norm": old_norm,
    "norm/inf": old_norm,
    "norm/fro": old_norm,
    "linalg.vector_norm": lambda x, ord=2, dim=None, keepdim=False: call(
        "norm", x, several(dim), keepdim=keepdim or None, p=infinite(ord)
    ),
    "linalg.cond": lambda x, p=None: call("cond", x, None if p is None else infinite(p)),
    "linalg.matrix_rank": matrix_rank,
    "linalg.matrix_rank/hermitian": matrix_rank,
    "logdet": lambda x: call("logdet", x),
    "cholesky_solve": lambda b, l, upper=False: call("cholesky_solve", b, l, upper or None),
    "cholesky_inverse": lambda l, upper=False: call("cholesky_inverse", l, upper or None),
    "linalg.lstsq/grad_oriented": lambda a, b, **o: Call("(%s)" % call("lstsq", a, b)).by(
        lambda a, b, **o: torch.linalg.lstsq(a, b, driver="gelsd").solution
    ),
    # images
    "nn.functional.max_pool2d": max_pool,
    "nn.functional.avg_pool2d": avg_pool,
    **{
        "nn.functional.interpolate/" + mode: interpolate
        for mode in "nearest nearest-exact linear bilinear trilinear bicubic".split()
    },
    "nn.functional.upsample_bilinear": lambda x, size=None, scale_factor=None: interpolate(
        x, size, scale_factor, "bilinear", True
    ),
    "nn.functional.upsample_nearest": lambda x, size=None, scale_factor=None: interpolate(x, size, scale_factor),
    "nn.functional.grid_sample": grid_sample,
    "grid_sampler_2d": grid_sample,
    # distances
    "nn.functional.normalize": lambda x, p=2.0, dim=1, eps=1e-12: call("normalize", x, p, from_one(dim), eps),
    "nn.functional.cosine_similarity": lambda x, y, dim=1, eps=1e-8: call("cosine_similarity", x, y, from_one(dim), eps),
    "nn.functional.pairwise_distance": lambda x, y, p=2.0, eps=1e-6, keepdim=False: call(
        "pairwise_distance", x, y, p, eps, keepdim=keepdim or None
    ),
    "allclose": lambda x, other, **o: answer(call("allclose", x, other, **o), torch.allclose),
    "equal": lambda x, other: answer(call("equal", x, other), torch.equal),
}

# As the tables of opinfo.py.
REFUSALS = [
    (r"scatter_reduce: a mean of", "a mean of whole numbers as a whole number"),
    (r"no gradient: what completes q", "a gradient of what x does not determine"),
]

OWN_DTYPES = [
    (r"^(addmm|addmv|addbmm|baddbmm|inner|tensordot|linalg.multi_dot)\S* uint8", "products of u8 are added up in i64, as sums are"),
]

DELIBERATE = [
    (
        r"^(addmm|addmv|addr|addbmm|baddbmm)\S* (int64|uint8) .* is torch.float32",
        "a fraction times whole numbers makes fractions; PyTorch cuts it off before",
    ),
    (r"^cov float32 .* gradient 2 is \S+e-0[56], PyTorch's 0.0", "roundings of a gradient that is 0"),
    (r"^(trapz|trapezoid|cumulative_trapezoid|nn.functional.pairwise_distance) uint8", "steps of u8 are taken in f32, where PyTorch wraps around"),
    (r"^(logspace|linspace) (int64|uint8)", "numbers are made whole at last, where PyTorch rounds on the way"),
    (r"^(cholesky_inverse|cholesky_solve) .*(gradient|second)", "only the triangle that is read has a gradient"),
    (r"^linalg.norm/subgradients_at_zero .*second .* PyTorch's nan", "a second derivative at 0 is 0 where theirs is NaN"),
    (r"^cov float64 \S+ second derivative 1 ", "weights of f32 are made f64 before they are added up"),
    (r"^addr? bool .* is torch.int64", "a mask times a number is a whole number"),
]
