# SPDX-License-Identifier: MIT
# What PyTorch's names of functions are called here, beside those of opinfo.py: a table of the same form.
import torch

from wording import Call, call, from_one, needs, places, raw


def same(*names):
    """Tensors and numbers in PyTorch's order, options by name."""
    return {name: maker(name.split(".")[-1].split("/")[0]) for name in names}


def maker(name):
    return lambda *args, **options: call(name, *args, **options)


def answer(text, function):
    """One true or false."""
    return Call("nb.tensor(%s)" % text).by(lambda *args, **options: torch.tensor(function(*args, **options)))


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
    (r"^addr bool .* is torch.int64", "a mask times a number is a whole number"),
]
