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
    # products
    **same(*"addmm addmm/decomposed addmv addr addbmm baddbmm inner mv bmm vdot".split()),
    "allclose": lambda x, other, **o: answer(call("allclose", x, other, **o), torch.allclose),
    "equal": lambda x, other: answer(call("equal", x, other), torch.equal),
}

# As the tables of opinfo.py.
REFUSALS = []

OWN_DTYPES = [
    (r"^(addmm|addmv|addbmm|baddbmm|inner)\S* uint8", "products of u8 are added up in i64, as sums are"),
]

DELIBERATE = [
    (
        r"^(addmm|addmv|addr|addbmm|baddbmm)\S* (int64|uint8) .* is torch.float32",
        "a fraction times whole numbers makes fractions; PyTorch cuts it off before",
    ),
    (r"^histogram \S+ \d+ output 2 is -0.5,", "the edges of an empty histogram are around 0"),
    (r"^cov float32 .* gradient 2 is \S+e-0[56], PyTorch's 0.0", "roundings of a gradient that is 0"),
    (r"^(trapz|trapezoid|cumulative_trapezoid) uint8", "steps of u8 are taken in f32, where PyTorch wraps around"),
    (r"^addr bool .* is torch.int64", "a mask times a number is a whole number"),
]
