# SPDX-License-Identifier: MIT
# More of PyTorch's names and options in the words of nablua, beside functions.py and named.py: a table of the same form.
#
# What PyTorch takes and nablua refuses on purpose is written out as the sentence says: a target is broadcast, signs are
# made signs, before either is asked.
import math

import torch

import functions
import named
from wording import T, Call, call, from_one, needs, places, raw


def ignoring(make, *names):
    """Options that say nothing here: where memory lies, that tensors learn."""

    def other(*args, **options):
        for name in names + ("device", "requires_grad", "layout", "pin_memory", "memory_format"):
            options.pop(name, None)
        return make(*args, **options)

    return other


def like(name):
    def make(x, *args, dtype=None):
        return call(name, raw("%s:to(%r)" % (x, dtype)) if dtype else x, *args)

    return ignoring(make)


def with_dtype(make):
    def other(x, *args, dtype=None, **options):
        made = make(raw("%s:to(%r)" % (x, dtype)) if dtype else x, *args, **options)
        return Call("%s:to('u8')" % made) if dtype == "u8" else made  # sums of u8 are i64 here

    return other


def shape_of(v):
    return v.value.shape if isinstance(v, T) else ()


def widened(name, *names):
    """A loss of tensors that PyTorch broadcasts."""

    def make(*args, reduction="mean", **options):
        needs(set(options) <= set(names), "an option that is not here")
        whole = torch.broadcast_shapes(*(shape_of(a) for a in args))
        shaped = "{%s}" % ", ".join(map(str, whole))
        count = 2 if name == "gaussian_nll" else len(args)  # a variance of each row is no tensor of columns
        args = [
            a if i >= count or tuple(shape_of(a)) == tuple(whole) else raw("nb.broadcast_to(%s, %s)" % (a, shaped))
            for i, a in enumerate(args)
        ]
        return call("nn." + name, *args, reduction=reduction, **options)

    return make


def signs(t):
    return torch.where(t > 0, 1, -1).to(t.dtype)


def of_signs(peer, name, *names):
    """A loss whose target is -1 or 1."""

    def make(*args, **options):
        *first, target = args
        made = raw("nb.where(%s:gt(0), 1, -1):to(%r)" % (target, named.kind(target)))
        return widened_or_not(name, names, first, made, target, options).by(
            lambda *own, **o: peer(*own[:-1], signs(own[-1]), **o)
        )

    return make


def widened_or_not(name, names, first, made, target, options):
    needs(set(options) <= set(names) | {"reduction"}, "an option that is not here")
    whole = torch.broadcast_shapes(*(shape_of(a) for a in first + [target]))
    shaped = "{%s}" % ", ".join(map(str, whole))
    if name == "cosine_embedding":
        return call("nn." + name, *first, made, **options)
    args = [a if tuple(shape_of(a)) == tuple(whole) else raw("nb.broadcast_to(%s, %s)" % (a, shaped)) for a in first]
    if tuple(shape_of(target)) != tuple(whole):
        made = raw("nb.broadcast_to(%s, %s)" % (made, shaped))
    return call("nn." + name, *args, made, **options)


def scaled(name):
    return lambda x, other, alpha=1: call(name, x, raw("(%s * %s)" % (other, exact(alpha))) if alpha != 1 else other)


def exact(v):
    return str(int(v)) if isinstance(v, bool) else repr(v)


def rsub(x, other, alpha=1):
    return call("sub", other, raw("(%s * %s)" % (x, exact(alpha))) if alpha != 1 else x)


def index_add(x, dim, index, source, alpha=1):
    times = raw("(%s * %s):to(%r)" % (source, exact(alpha), named.kind(x))) if alpha != 1 else source
    return call("index_add", x, from_one(dim), places(index), times)


def interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None,
                antialias=False):
    needs(not antialias, "antialias= of interpolate")
    if recompute_scale_factor and scale_factor is not None:
        factors = scale_factor if isinstance(scale_factor, (list, tuple)) else [scale_factor] * (x.ndim - 2)
        size, scale_factor = [math.floor(n * f) for n, f in zip(x.value.shape[2:], factors)], None
    return functions.interpolate(x, size, scale_factor, mode, align_corners)


def fourier(name):
    real = name.startswith("rfft")

    def make(x, s=None, dim=None, norm=None):
        if dim is None and name.endswith("2"):
            dim = (-2, -1)
        t = x if real else named.pairs_of(x)
        sizes = None if s is None else [s] if isinstance(s, int) else list(s)
        dim = [dim] if isinstance(dim, int) else dim
        peer = named.real_parts(getattr(torch.fft, name))
        return call(name, t, sizes, None if dim is None else [from_one(d) for d in dim], norm=norm).by(peer)

    return make


def narrow(x, dim, start, length):
    start = int(start.value) if isinstance(start, T) else start
    n = x.value.shape[dim]
    return call("narrow", x, from_one(dim), start + n + 1 if start < 0 else start + 1, length)


def convolution(name):
    """Padding by its name is the layer's here."""
    layer = {"conv1d": "Conv1d", "conv2d": "Conv2d", "conv3d": "Conv3d"}[name]

    def make(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        if padding == "valid":
            padding = 0
        if padding != "same" and layer != "Conv3d":
            return call(name, x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
        w = weight.value.shape
        options = {"stride": listed(stride), "padding": listed(padding), "dilation": listed(dilation), "groups": groups}
        if bias is None:
            options["bias"] = False
        made = call("nn." + layer, w[1] * groups, w[0], list(w[2:]), **options)
        return with_weights(made, x, weight=weight, bias=bias)

    return make


def with_weights(layer, x, **weights):
    """A layer with these weights, which are fractions there."""
    dtype = "f64" if x.value.dtype == torch.float64 else "f32"
    given = ["%s = %s:to(%r)" % (key, t, dtype) for key, t in weights.items() if t is not None]
    return Call("install(%s:to(%r), {%s})(%s)" % (layer, dtype, ", ".join(given), x))


def transposed(dims):
    def make(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        w = weight.value.shape
        options = {
            "stride": listed(stride),
            "padding": listed(padding),
            "output_padding": listed(output_padding),
            "dilation": listed(dilation),
            "groups": groups,
        }
        if bias is None:
            options["bias"] = False
        made = call("nn.ConvTranspose%dd" % dims, w[0], w[1] * groups, list(w[2:]), **options)
        return with_weights(made, x, weight=weight, bias=bias)

    return make


def listed(v):
    v = list(v) if isinstance(v, (list, tuple)) else v
    return v[0] if isinstance(v, list) and len(v) == 1 else v


def adaptive(name):
    def make(x, output_size, return_indices=False):
        sizes = [output_size] if isinstance(output_size, int) else list(output_size)
        sizes = listed(sizes) if len(sizes) == 1 else raw(lua_list(sizes))
        made = Call("%s(%s)" % (call("nn." + name, sizes, return_indices=return_indices or None), x))
        return made.then(lambda ys: ys[:1] + [ys[1] + 1]) if return_indices else made

    return make


def lua_list(v):
    return "{%s}" % ", ".join("nil" if n is None else str(n) for n in v)


def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    needs(not dropout_p, "dropout_p= of attention")
    return call(
        "scaled_dot_product_attention",
        query,
        key,
        value,
        attn_mask,
        is_causal=is_causal or None,
        scale=scale,
        enable_gqa=enable_gqa or None,
    )


def nonzero(x, as_tuple=False):
    """A tuple holds the columns, of a number the one of a vector."""
    x, ndim = raw("%s:ne(0)" % (x if x.ndim or not as_tuple else "%s:reshape(1)" % x)), max(x.ndim, 1)
    if not as_tuple:
        return call("nonzero", x).then(lambda ys: [ys[0] + 1])
    columns = ", ".join("at:select(2, %d)" % (d + 1) for d in range(ndim))
    return Call("(function(at) return %s end)(nb.nonzero(%s))" % (columns, x)).then(lambda ys: [y + 1 for y in ys])


def stft(x, n_fft, hop_length=None, win_length=None, window=None, center=True, pad_mode="reflect", normalized=False,
         onesided=None, return_complex=None, align_to_window=None):
    needs(not x.value.is_complex() and return_complex, "complex numbers")
    return call(
        "stft",
        x,
        n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
        normalized=normalized,
        onesided=onesided,
    ).by(named.real_parts(torch.stft))


def lu(x, pivot=True):
    needs(pivot, "pivot= of lu")
    return call("lu", x)


def unbind_list(x, dim=0):
    n = x.value.shape[dim] if x.ndim else 0
    needs(n > 0, "no outputs")
    return Call(", ".join(call("select", x, from_one(dim), k + 1) for k in range(n)))


def window(name, *options):
    """One of torch.signal.windows, which are not periodic unless asked."""

    def make(M, sym=True, dtype=None, device=None, requires_grad=False, layout=None, **more):
        needs(not more and dtype in ("f32", "f64"), "an option that is not here")
        return call(name + "_window", M, periodic=not sym, dtype=dtype)

    return make


RENAMED = {
    "mse_loss": ("mse",),
    "l1_loss": ("l1",),
    "huber_loss": ("huber", "delta"),
    "smooth_l1_loss": ("smooth_l1", "beta"),
    "gaussian_nll_loss": ("gaussian_nll", "full", "eps"),
    "poisson_nll_loss": ("poisson_nll", "log_input", "full", "eps"),
}
F = torch.nn.functional

TABLE = {
    **{"nn.functional." + theirs: widened(*mine) for theirs, mine in RENAMED.items()},
    "nn.functional.soft_margin_loss": of_signs(F.soft_margin_loss, "soft_margin"),
    "nn.functional.hinge_embedding_loss": of_signs(F.hinge_embedding_loss, "hinge_embedding", "margin"),
    "nn.functional.margin_ranking_loss": of_signs(F.margin_ranking_loss, "margin_ranking", "margin"),
    "nn.functional.cosine_embedding_loss": of_signs(F.cosine_embedding_loss, "cosine_embedding", "margin"),
    "eye": ignoring(lambda n, m=None, *, dtype=None: call("eye", n, m, dtype=dtype or "f32")),
    "nonzero": nonzero,
    **{name: like(name) for name in ("zeros_like", "ones_like", "full_like")},
    **{
        name: ignoring((lambda kind: lambda x: call("to", x, kind))(kind))
        for name, kind in {"float": "f32", "double": "f64", "long": "i64", "byte": "u8", "bool": "bool"}.items()
    },
    "scalar_tensor": ignoring(
        lambda value, *, dtype=None: Call("nb.tensor(%s, {dtype = %r})" % (named.lua_value(value), dtype or "f32"))
    ),
    "repeat_interleave": lambda x, repeats, dim=None, output_size=None: call(
        "repeat_interleave", x, repeats, from_one(dim)
    ),
    **{
        name: with_dtype(lambda x, dim, name=name: call(name, x, from_one(dim))) for name in ("cumsum", "cumprod")
    },
    "add": scaled("add"),
    "sub": scaled("sub"),
    "rsub": rsub,
    "index_add": index_add,
    **{
        "nn.functional.interpolate/" + mode: interpolate
        for mode in "nearest nearest-exact linear bilinear trilinear bicubic".split()
    },
    **{"fft." + name: fourier(name) for name in "fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn".split()},
    "narrow": narrow,
    **{"nn.functional." + name: convolution(name) for name in ("conv1d", "conv2d", "conv3d")},
    "nn.functional.conv_transpose1d": transposed(1),
    "nn.functional.conv_transpose3d": transposed(3),
    "t": lambda x: call("transpose", x, 1, 2) if x.ndim == 2 else call("clone", x),
    "t_copy": lambda x: call("transpose", x, 1, 2) if x.ndim == 2 else call("clone", x),
    **{"nn.functional.adaptive_avg_pool%dd" % n: adaptive("AdaptiveAvgPool%dd" % n) for n in (1, 2, 3)},
    **{"nn.functional.adaptive_max_pool%dd" % n: adaptive("AdaptiveMaxPool%dd" % n) for n in (1, 2, 3)},
    "nn.functional.scaled_dot_product_attention": attention,
    "stft": stft,
    "linalg.lu": lu,
    **{"signal.windows." + name: window(name) for name in ("hann", "hamming", "bartlett", "blackman")},
    "unbind_copy": unbind_list,
    "isreal": lambda x: call("ones_like", raw("%s:to('bool')" % x)),
    "H": lambda x: call("transpose", x, 1, 2) if x.ndim == 2 else call("clone", x),
    "mH": lambda x: call("transpose", x, -1, -2),
    "view_copy": lambda x, *shape: call("reshape", x, list(shape[0]) if len(shape) == 1 else list(shape)),
    "narrow_copy": narrow,
}

# As the tables of opinfo.py.
REFUSALS = []
OWN_DTYPES = [(r"^nn.functional.\S* (int64|uint8|bool)", "layers work in f32 or f64: whole numbers become f32")]
DELIBERATE = []
