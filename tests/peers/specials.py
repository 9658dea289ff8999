# SPDX-License-Identifier: MIT
# Numbers that no database of samples has: zeros of both signs, kinks and ties, infinities, NaN, the ends of dtypes.
#
# Every elementwise operator meets each of them, those of two operands each pair, and reductions rows of three.
import collections
import itertools
import math
import subprocess

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
    round isnan isinf isfinite sigmoid tanh relu logical_not log2 log10 exp2 asinh acosh atanh erfc erfinv lgamma digamma
    sinc logit deg2rad rad2deg trunc frac signbit nan_to_num""".split()
BINARY = """add sub mul div pow maximum minimum atan2 eq ne lt le gt ge logical_and logical_or logical_xor logaddexp logaddexp2
    hypot copysign fmod fmax fmin heaviside xlogy isclose""".split()

FUNCTIONS = {
    **{name: (getattr(torch, name), "nb.%s(t[1])" % name) for name in UNARY},
    "leaky_relu": (F.leaky_relu, "nb.leaky_relu(t[1])"),
    "elu": (lambda x: F.elu(x, 2.0), "nb.elu(t[1], 2)"),
    "gelu": (F.gelu, "nb.gelu(t[1])"),
    "silu": (F.silu, "nb.silu(t[1])"),
    "softplus": (F.softplus, "nb.softplus(t[1])"),
    "clamp": (lambda x: x.clamp(1, 3), "nb.clamp(t[1], 1, 3)"),
    "clamp_min": (lambda x: x.clamp(min=1), "nb.clamp(t[1], 1)"),
    "logit_eps": (lambda x: torch.logit(x, 0.1), "nb.logit(t[1], 0.1)"),
    "polygamma": (lambda x: torch.polygamma(2, x), "nb.polygamma(t[1], 2)"),
    **{
        "power_%s" % y: (lambda x, y=y: x**y, "nb.pow(t[1], %s)" % exchange.lua(y))
        for y in (0, 1, 2, 3, 0.5, -1.0, -2.0, 2.5)
    },
}
PAIRS = {
    **{name: getattr(torch, name) for name in BINARY},
    "mod": torch.remainder,
    "floordiv": torch.floor_divide,
    "squared_error": lambda x, y: F.mse_loss(x, y, reduction="none"),
    "bce_with_logits": lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none"),
    "binary_cross_entropy": lambda x, y: F.binary_cross_entropy(x, y, reduction="none"),
}
OF_THREE = {
    "where": lambda x, y, z: torch.where(x > 0, y, z),
    "lerp": torch.lerp,
    "addcmul": torch.addcmul,
    "addcdiv": torch.addcdiv,
}
ROWS = {
    **{name: getattr(torch, name) for name in "sum prod logsumexp any all mean var std cumsum softmax log_softmax".split()},
    "max": lambda x, d: torch.max(x, d)[0],
    "min": lambda x, d: torch.min(x, d)[0],
    "sort": lambda x, d: torch.sort(x, dim=d)[0],
}

REFUSALS = [("expected 0..1", "targets that are no probabilities"), ("does not fit into a tensor of", "a number that the dtype does not hold")]
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
    (r"^(digamma .*gradient|lgamma .*second derivative) 1 is -?inf", "a pole, of which rounding leaves PyTorch a number"),
    (r"^polygamma ", "poles have the sign of their side, and the limit at ∞ is 0"),
    (r"^fm(ax|in) .*gradient .* is -?0.0,", "a NaN that was not taken has no gradient"),
    (r"^(sinc|logit|logaddexp2?|addcdiv) .*second derivative .*PyTorch's nan", "a limit, where PyTorch has NaN"),
    (r"^logit_eps .* is nan, PyTorch's 0.0", "NaN passes a gradient on, as in relu"),
    (r"^hypot .*PyTorch's nan", "a kink at the origin, whose gradient is 0, as norm's"),
    (r"^copysign .*gradient .*PyTorch's nan", "the signs alone count, also of infinities"),
    (r"^lerp .*PyTorch's nan", "beyond the first end it is reckoned from there: 1 − 20·(−∞) is ∞"),
]
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14):
    DELIBERATE.append((r"^(clamp(_min)?|fm(ax|in)) .*gradient", "at limits and ties as PyTorch has it from 2.14 on"))


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
        some = triples(x).unbind(1)
        for name, function in OF_THREE.items():
            first = "t[1]:gt(0)" if name == "where" else "t[1]"
            yield name, dtype, "nb.%s(%s, t[2], t[3])" % (name, first), list(some), function
        for name, function in ROWS.items():
            yield name, dtype, "(nb.%s(t[1], 2))" % name, [triples(x)], lambda t, function=function: function(t, 1)


def missing():
    """Elementwise operators that meet none of these numbers, which ought to be none."""
    program = 'for _, row in ipairs(require("nablua.native").rows()) do ' \
        'if row.elementwise and not row.internal then print(row.name) end end'
    names = subprocess.run([exchange.NABLUA, "-e", program], capture_output=True, check=True, text=True).stdout.split()
    return [name for name in names if not {name, name + "_min"} & (FUNCTIONS.keys() | PAIRS.keys() | OF_THREE.keys())]


def main(pattern, seed):
    assert not missing(), "no numbers are tried with %s" % ", ".join(missing())
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
