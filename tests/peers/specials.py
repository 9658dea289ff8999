# SPDX-License-Identifier: MIT
# Numbers that no database of samples has: zeros of both signs, kinks and ties, infinities, NaN, the ends of dtypes.
#
# Every elementwise operator meets each of them, those of two operands each pair, and reductions rows of three.
import collections
import itertools
import math

import torch
import torch.nn.functional as F

import comparison
import exchange

INF, NAN = math.inf, math.nan
POINTS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.0, -2.5, 3.0, 1e-9, -1e-9, 20.0, -20.0, 20.5, 1e10, INF, -INF, NAN]
WHOLE = [0, 1, -1, 2, -3, 7, 63, 64, 255, 256, 2**53 + 1, -(2**53) - 1, 2**62 + 1, 2**63 - 1, -(2**63)]
VALUES = {
    torch.float32: torch.tensor(POINTS),
    torch.float64: torch.tensor(POINTS, dtype=torch.float64),
    torch.int64: torch.tensor(WHOLE),
    torch.uint8: torch.tensor([0, 1, 2, 3, 7, 127, 128, 200, 254, 255], dtype=torch.uint8),
    torch.bool: torch.tensor([False, True]),
}

UNARY = """neg abs square exp expm1 log log1p sqrt rsqrt reciprocal sin cos tan asin acos atan sinh cosh erf sign floor ceil
    round isnan isinf isfinite sigmoid tanh relu logical_not""".split()
BINARY = """add sub mul div pow maximum minimum atan2 eq ne lt le gt ge logical_and logical_or logical_xor""".split()

FUNCTIONS = {
    **{name: (getattr(torch, name), "nb.%s(t[1])" % name) for name in UNARY},
    "leaky_relu": (F.leaky_relu, "nb.leaky_relu(t[1])"),
    "elu": (lambda x: F.elu(x, 2.0), "nb.elu(t[1], 2)"),
    "gelu": (F.gelu, "nb.gelu(t[1])"),
    "silu": (F.silu, "nb.silu(t[1])"),
    "softplus": (F.softplus, "nb.softplus(t[1])"),
    "clamp": (lambda x: x.clamp(1, 3), "nb.clamp(t[1], 1, 3)"),
    "clamp_min": (lambda x: x.clamp(min=1), "nb.clamp(t[1], 1)"),
    **{
        "power_%s" % y: (lambda x, y=y: x**y, "nb.pow(t[1], %s)" % exchange.lua(y))
        for y in (0, 1, 2, 3, 0.5, -1.0, -2.0, 2.5)
    },
}
PAIRS = {
    **{name: getattr(torch, name) for name in BINARY},
    "mod": torch.remainder,
    "floordiv": torch.floor_divide,
}
ROWS = {
    **{name: getattr(torch, name) for name in "sum prod logsumexp any all mean var std cumsum softmax log_softmax".split()},
    "max": lambda x, d: torch.max(x, d)[0],
    "min": lambda x, d: torch.min(x, d)[0],
    "sort": lambda x, d: torch.sort(x, dim=d)[0],
}

REFUSALS = [("does not fit into a tensor of", "a number that the dtype does not hold")]
OWN_DTYPES = [(r"^(all|any) uint8", "any and all give masks for every dtype")]

# What differs on purpose, and why.
DELIBERATE = [
    (r"^elu .*gradient .* nan", "NaN has no slope"),
    (r"^gelu ", "gelu of an infinity is its limit, not NaN"),
    (r"^clamp(_min)? .*gradient .*PyTorch's 0.0", "NaN passes a gradient on, as in relu"),
    (r"^power_0.5 ", "as C has it: (−∞)^½ is +∞, and (−0)^½ is +0"),
    (r"^(pow(er_2.5)?|atan2) .*second derivative .*PyTorch's nan", "a limit, where PyTorch has NaN: x² bends at 0"),
    (r"^floordiv .*PyTorch's nan", "⌊∞/y⌋ is infinite, as in Lua"),
    (r"^mod .*PyTorch's nan", "the slope of x mod y, −⌊x/y⌋, is infinite where x is"),
    (r"^prod .*PyTorch's nan", "PyTorch divides the product by infinite factors"),
]


def triples(x):
    random = torch.Generator().manual_seed(1)
    return x[torch.randint(len(x), (60, 3), generator=random)]


def calls():
    """Name, dtype, text, tensors and PyTorch's function of these."""
    for dtype, x in VALUES.items():
        for name, (function, text) in FUNCTIONS.items():
            yield name, dtype, text, [x], function
        a, b = (torch.stack(list(side)) for side in zip(*itertools.product(x, x)))
        for name, function in PAIRS.items():
            keep = torch.ones_like(b, dtype=torch.bool)
            if not dtype.is_floating_point and name in ("mod", "floordiv", "pow"):
                keep = b >= 0 if name == "pow" else b != 0
            yield name, dtype, "nb.%s(t[1], t[2])" % name, [a[keep], b[keep]], function
        for name, function in ROWS.items():
            yield name, dtype, "(nb.%s(t[1], 2))" % name, [triples(x)], lambda t, function=function: function(t, 1)


def main(pattern, seed):
    cases, skipped = [], collections.Counter()
    for name, dtype, text, tensors, function in calls():
        label = "%s %s" % (name, str(dtype).replace("torch.", ""))
        if pattern not in label:
            continue
        made = None
        for track in (dtype.is_floating_point, False):
            own = [t.clone().requires_grad_(track) for t in tensors]
            case = comparison.Case(label, text, own, lambda t, f=function: [f(*t)], compile=False, seed=seed)
            try:
                case.run()
                made = case
                break
            except (RuntimeError, NotImplementedError):
                continue
        if made:
            cases.append(made)
        else:
            skipped["dtypes that PyTorch does not take"] += 1
    return comparison.judge("specials", cases, skipped, (REFUSALS, OWN_DTYPES, DELIBERATE), 0 if pattern else 250)
