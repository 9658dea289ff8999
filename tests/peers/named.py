# SPDX-License-Identifier: MIT
# What PyTorch's functional layers, losses and other names of what is here are called, beside functions.py: a table of
# the same form.
import torch

from wording import T, Call, call, from_one, needs, places, raw


def layer(name, *parameters):
    """A layer made of the options that its parameters name, in their order, and called with x."""

    def make(x, *args, **options):
        options.pop("inplace", None)
        options.update(zip(parameters, args))
        needs(set(options) <= set(parameters), "an option that is not here")
        given = [options.get(p) for p in parameters]
        while given and given[-1] is None:
            given.pop()
        needs(None not in given, "an option that is left out before another")
        given = [from_one(v) if p == "dim" else v for p, v in zip(parameters, given)]
        return Call("%s(%s)" % (call("nn." + name, *given), x))

    return make


def pool(name, dims):
    def make(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, **options):
        more = dict(dilation=listed(dilation), return_indices=return_indices or None) if name.startswith("Max") else options
        made = call(
            "nn." + name,
            listed(kernel_size),
            listed(stride) or None,
            listed(padding),
            ceil_mode=ceil_mode or None,
            **more,
        )
        return Call("%s(%s)" % (made, x)).then(
            (lambda outputs: [outputs[0], outputs[1] + 1]) if return_indices else None
        )

    return make


def average_pool(name, dims):
    def make(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        return pool(name, dims)(
            x,
            kernel_size,
            stride,
            padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=divisor_override,
        )

    return make


def listed(v):
    v = list(v) if isinstance(v, (list, tuple)) else v
    return v[0] if isinstance(v, list) and len(v) == 1 else v


def padded(layer_name):
    def make(x, pad, mode=None, value=None):
        pad = list(pad)
        dims = len(pad) // 2
        needs(min(pad) >= 0 and x.ndim >= dims + 1, "negative amounts or no channels")
        return Call("%s(%s)" % (call("nn.%sPad%dd" % (layer_name, dims), pad), x))

    return make


def loss(name, *names):
    """A loss of tensors in order, and options."""

    def make(*args, **options):
        needs(set(options) <= set(names) | {"reduction"}, "an option that is not here")
        return call("nn." + name, *args, **options)

    return make


def of_class(name, *names):
    """The second tensor holds classes."""
    return lambda x, target, **options: loss(name, *names)(x, places(target), **options)


def plain(x):
    return call("clone", x)


def sized(name):
    return lambda shape, *, dtype=None, device=None, **o: call("" + name, list(shape), dtype=dtype or "f32")


def new(name):
    def make(x, size, *, dtype=None, device=None, **options):
        return Call("%s:%s(%s, {dtype = %r})" % (x, name, "{%s}" % ", ".join(map(str, size)), dtype or kind(x)))

    return make


def kind(x):
    names = {torch.float32: "f32", torch.float64: "f64", torch.int64: "i64", torch.uint8: "u8", torch.bool: "bool"}
    return names[x.value.dtype]


def truncated(x, other, rounding_mode):
    """Of whole numbers without a way through fractions, which are rounded."""
    if is_whole(x) and is_whole(other):
        return Call("nb.floordiv(%s - nb.fmod(%s, %s), %s)" % (x, x, other, other))
    return Call("nb.div(%s, %s):trunc()" % (x, other))


def is_whole(v):
    return not v.value.is_floating_point() if isinstance(v, T) else isinstance(v, int)


def prelu(x, weight):
    n = weight.value.numel()
    return Call("install(nn.PReLU(%d), {weight = %s:reshape(%d)})(%s)" % (n, weight, n, x))


def normed(name, count):
    """A layer of normalisation with its weights."""

    def make(x, first, weight=None, bias=None, eps=None, **more):
        options = [] if eps is None else ["eps = %r" % eps]
        given = ["%s = %s" % (key, t) for key, t in (("weight", weight), ("bias", bias)) if t is not None]
        if weight is None:
            options.append("affine = false" if name == "GroupNorm" else "elementwise_affine = false")
        text = "nn.%s(%s, {%s})" % (name, count(x, first), ", ".join(options))
        return Call("install(%s:to('%s'), {%s})(%s)" % (text, kind(x), ", ".join(given), x))

    return make


def embedding(weight, index, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    needs(max_norm is None and not scale_grad_by_freq and padding_idx is None, "an option that is not here")
    return call("index_select", weight, 1, places(index))


def renamed(name):
    return lambda *args, **options: call(name, *args, **options)


def pieces(text):
    return Call("table.unpack(%s)" % text)


def pairs_of(x):
    """A real tensor as complex numbers."""
    return raw("(function(x) x = x.dtype == 'f64' and x or x:to('f32') return nb.stack({x, nb.zeros_like(x)}, -1) end)(%s)" % x)


def real_parts(function):
    def peer(x, *args, **options):
        y = function(x, *args, **options)
        return torch.view_as_real(y.resolve_conj()) if y.is_complex() else y

    return peer


def fourier(name):
    real = name in ("rfft", "fftshift", "ifftshift")

    def make(x, n=None, dim=-1, norm=None):
        return call(name, x if real else pairs_of(x), n, from_one(dim), norm=norm).by(real_parts(getattr(torch.fft, name)))

    return make


def shifted(name):
    return lambda x, dim=None: call(name, x, from_one(list(dim) if isinstance(dim, tuple) else dim))


def layered_dtype(name):
    def make(x, dim, dtype=None, **options):
        return call(name, raw("%s:to(%r)" % (x, dtype)) if dtype else x, from_one(dim))

    return make


TABLE = {
    # activations
    "nn.functional.relu6": layer("ReLU6"),
    "nn.functional.mish": layer("Mish"),
    "nn.functional.selu": layer("SELU"),
    "nn.functional.celu": layer("CELU", "alpha"),
    "nn.functional.softsign": layer("Softsign"),
    "nn.functional.tanhshrink": layer("Tanhshrink"),
    "nn.functional.hardsigmoid": layer("Hardsigmoid"),
    "nn.functional.hardswish": layer("Hardswish"),
    "nn.functional.logsigmoid": layer("LogSigmoid"),
    "nn.functional.hardtanh": layer("Hardtanh", "min_val", "max_val"),
    "nn.functional.hardshrink": layer("Hardshrink", "lambd"),
    "nn.functional.softshrink": layer("Softshrink", "lambd"),
    "nn.functional.threshold": layer("Threshold", "threshold", "value"),
    "nn.functional.glu": layer("GLU", "dim"),
    "nn.functional.softmin": layer("Softmin", "dim"),
    "nn.functional.prelu": prelu,
    "softmax/with_dtype": layered_dtype("softmax"),
    "log_softmax/with_dtype": layered_dtype("log_softmax"),
    # pools, pads, pixels
    "nn.functional.max_pool1d": pool("MaxPool1d", 1),
    "nn.functional.max_pool3d": pool("MaxPool3d", 3),
    "nn.functional.avg_pool1d": average_pool("AvgPool1d", 1),
    "nn.functional.avg_pool3d": average_pool("AvgPool3d", 3),
    "nn.functional.pad/reflect": padded("Reflection"),
    "nn.functional.pad/replicate": padded("Replication"),
    "nn.functional.pad/circular": padded("Circular"),
    "nn.functional.pixel_shuffle": layer("PixelShuffle", "upscale_factor"),
    "nn.functional.pixel_unshuffle": layer("PixelUnshuffle", "downscale_factor"),
    "nn.functional.channel_shuffle": layer("ChannelShuffle", "groups"),
    "nn.functional.local_response_norm": lambda x, size, alpha=1e-4, beta=0.75, k=1.0: Call(
        "%s(%s)" % (call("nn.LocalResponseNorm", size, alpha=alpha, beta=beta, k=k), x)
    ),
    # normalisation
    "nn.functional.layer_norm": normed("LayerNorm", lambda x, shape: "{%s}" % ", ".join(map(str, shape))),
    "nn.functional.group_norm": normed("GroupNorm", lambda x, groups: "%d, %d" % (groups, x.value.shape[1])),
    "nn.functional.embedding": embedding,
    # losses
    "nn.functional.triplet_margin_loss": loss("triplet_margin", "margin", "p", "eps", "swap"),
    "nn.functional.multi_margin_loss": of_class("multi_margin", "p", "margin", "weight"),
    "nn.functional.multilabel_soft_margin_loss": loss("multi_label_soft_margin", "weight"),
    # copies of what are views here
    **{name: plain for name in "alias_copy conj conj_physical resolve_conj resolve_neg real".split()},
    "expand_copy": lambda x, *shape: call("expand", x, list(shape[0]) if len(shape) == 1 else list(shape)),
    "permute_copy": lambda x, dims: call("permute", x, [from_one(d) for d in dims]),
    "transpose_copy": lambda x, dim0, dim1: call("transpose", x, from_one(dim0), from_one(dim1)),
    "unsqueeze_copy": lambda x, dim: call("unsqueeze", x, from_one(dim)),
    "squeeze_copy": lambda x, dim=None: call("squeeze", x, from_one(dim)),
    "T": lambda x: call("permute", x, list(range(x.ndim, 0, -1))) if x.ndim else plain(x),
    "unsafe_split": lambda x, n, dim=0: pieces(call("split", x, list(n) if isinstance(n, (list, tuple)) else n, from_one(dim))),
    "split_with_sizes_copy": lambda x, sizes, dim=0: pieces(call("split", x, list(sizes), from_one(dim))),
    "unsafe_chunk": lambda x, chunks, dim=0: pieces(call("chunk", x, chunks, from_one(dim))),
    # names of what is here
    "div/trunc_rounding": truncated,
    "float_power": lambda x, other: call(
        "pow", raw("%s:to('f64')" % x), raw("%s:to('f64')" % other) if isinstance(other, T) else other
    ),
    "sgn": renamed("sign"),
    "dist": lambda x, y, p=2: call("norm", raw("(%s - %s)" % (x, y)), p=p),
    "isposinf": lambda x: call("eq", x, raw("math.huge")),
    "isneginf": lambda x: call("eq", x, raw("-math.huge")),
    **{"bitwise_" + name: renamed("bitwise_" + name) for name in "and or xor not left_shift right_shift".split()},
    **{"__r%s__" % name: renamed("bitwise_" + name) for name in ("and", "or", "xor")},
    "triangular_solve": lambda b, a, upper=True, transpose=False, unitriangular=False: Call(
        "(function(a, b) return nb.solve_triangular(%s, b, {upper = %s, unitriangular = %s}), a:clone() end)(%s, %s)"
        % (
            "a:transpose(-1, -2)" if transpose else "a",
            str(upper != transpose).lower(),
            str(unitriangular).lower(),
            a,
            b,
        )
    ),
    "linalg.inv_ex": lambda x, check_errors=False: call("inverse", x).then(lambda outputs: outputs[:1]),
    "linalg.solve_ex": lambda a, b, left=True, check_errors=False: call(
        "solve", a, b, left=None if left else False
    ).then(lambda outputs: outputs[:1]),
    "linalg.cholesky_ex": lambda x, upper=False, check_errors=False: call("cholesky", x, upper=upper or None).then(
        lambda outputs: outputs[:1]
    ),
    "linalg.pinv/singular": lambda a, b: call("pinv", raw("nb.matmul(%s, %s:transpose(-1, -2))" % (a, b))),
    # Fourier transforms
    **{"fft." + name: fourier(name) for name in "fft ifft rfft irfft".split()},
    "fft.fftshift": shifted("fftshift"),
    "fft.ifftshift": shifted("ifftshift"),
    # making
    "zeros": sized("zeros"),
    "ones": sized("ones"),
    "full": lambda shape, value, *, dtype=None, device=None, **o: call("full", list(shape), value, dtype=dtype or "f32"),
    "new_zeros": new("new_zeros"),
    "new_ones": new("new_ones"),
    "new_full": lambda x, size, value, *, dtype=None, device=None, **o: Call(
        "%s:new_full({%s}, %s, {dtype = %r})" % (x, ", ".join(map(str, size)), lua_value(value), dtype or kind(x))
    ),
    "fill": lambda x, value: Call(
        "%s:clone():fill_(%s)" % (x, lua_value(value if kind(x) == "bool" else int(value) if value is True else value))
    ),
    "zero_": lambda x: Call("%s:clone():zero_()" % x),
}


def lua_value(v):
    return str(v).lower() if isinstance(v, bool) else repr(v)


# As the tables of opinfo.py.
REFUSALS = [
    (r"eps must be a finite number of at least|lambd must be a finite|min_val must be below", "options without a sense"),
    (r"target \d+ is \S+ expected (-1 or 1|0\.\.1)|target must be at least 0", "targets that the loss does not have"),
    (r"must have the same shape, got", "a target or a variance of another shape"),
    (r"must be \(batch ×\) classes", "one class alone"),
]

OWN_DTYPES = [
    (r"^nn.functional\S* (int64|uint8|bool)", "layers work in f32 or f64: whole numbers become f32"),
]

DELIBERATE = []
