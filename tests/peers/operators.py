# SPDX-License-Identifier: MIT
# What nablua's operators are called in PyTorch: by the same name where nothing is said here.
#
# Dimensions and index tensors arrive counted from 0; indices among the results are expected counted from 1.
import math

import torch
import torch.nn.functional as F

at_least = 1500

DTYPES = {"f32": torch.float32, "f64": torch.float64, "i64": torch.int64, "u8": torch.uint8, "bool": torch.bool}


def typed(options, default="f32"):
    return DTYPES[options.get("dtype", default)]


def sizes_of(numbers):
    return numbers[0] if len(numbers) == 1 and isinstance(numbers[0], list) else list(numbers)


def found(result):
    """Values and places, the places counted from 1."""
    return result if isinstance(result, torch.Tensor) else (result[0], result[1] + 1)


def extreme(name):
    def call(x, dim=None, **options):
        function = getattr(torch, name)
        return found(function(x) if dim is None else function(x, dim, **options))
    return call


def reduce_all(function):
    """A reduction whose dimensions may be left out, and which PyTorch gives one dimension at a time."""
    def call(x, dim=None, keepdim=False):
        dims = range(x.dim()) if dim is None else [dim] if isinstance(dim, int) else dim
        for d in sorted((d % max(x.dim(), 1) for d in dims), reverse=True):
            x = function(x, d, keepdim)
        return x
    return call


def spread(function):
    """var and std: the correction is an option of PyTorch 1.13's long form only."""
    def call(x, dim=None, keepdim=False, correction=1):
        if x.dim() == 0:  # whose gradient is infinite in PyTorch, and NaN for a vector of one element
            x, dim = x.reshape(1), 0
        dims = list(range(x.dim())) if dim is None else [dim] if isinstance(dim, int) else dim
        return function(x, dims, correction=correction, keepdim=keepdim)
    return call


def norm(x, dim=None, keepdim=False, p=2):
    return torch.linalg.vector_norm(x, p, dim=dim, keepdim=keepdim)


def clamp(x, min=None, max=None):
    """PyTorch's does not broadcast x to its limits."""
    limits = [v.shape for v in (min, max) if isinstance(v, torch.Tensor)]
    return torch.clamp(x.expand(torch.broadcast_shapes(x.shape, *limits)), min, max) if (min, max) != (None, None) else x


def slice_of(x, dim, first, last, step=1):
    n = x.shape[dim]
    first, last = (v + n if v < 0 else v - 1 for v in (first, last))
    return x.index_select(dim, torch.arange(first, last + 1, step))


def index_rows(x, dim, index):
    out = x.index_select(dim, index.flatten())
    dim %= x.dim()
    return out.reshape(x.shape[:dim] + index.shape + x.shape[dim + 1:])


def index_add(x, dim, index, src):
    dim %= x.dim()
    return x.index_add(dim, index.flatten(), src.reshape(x.shape[:dim] + (index.numel(),) + x.shape[dim + 1:]))


def source(x, index, src):
    """The part of src that an index of its size reaches; PyTorch 1.13 has no gradient of a larger one."""
    if not isinstance(src, torch.Tensor):
        return torch.full(index.shape, src, dtype=x.dtype)
    return src[tuple(slice(n) for n in index.shape)]


def scatter(x, dim, index, src):
    """The last of several values for one place stays.  PyTorch gives the others a gradient too."""
    src = source(x, index, src)
    last = torch.full(x.shape, -1).scatter(dim, index, torch.arange(index.numel()).reshape(index.shape))
    if index.numel() == 0:
        return x + 0 * src.sum()
    return torch.where(last < 0, x, src.flatten()[last.clamp(min=0)])


def polygamma(x, n=1):
    """By ζ, which is exact: PyTorch's short series of n = 1, which is the gradient of digamma too, is off by 1e-9."""
    return (-1) ** (n + 1) * math.factorial(n) * torch.special.zeta(n + 1, x)


class Digamma(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.digamma(x)

    @staticmethod
    def backward(ctx, g):
        return g * polygamma(ctx.saved_tensors[0])


def scatter_reduce(x, dim, index, src, **options):
    return x.scatter_reduce(dim, index, source(x, index, src), **options)


def masked_fill(x, mask, value):
    return torch.where(mask, value if isinstance(value, torch.Tensor) else torch.tensor(float(value), dtype=x.dtype), x)


def of_vectors(function):
    """Right sides that are vectors, of which PyTorch knows some only."""
    def call(a, b, **options):
        if b.dim() == 1 or b.shape == a.shape[:-1]:
            return function(a, b[..., None], **options)[..., 0]
        return function(a, b, **options)
    return call


def signed(u, *others):
    """With the sign that makes the sum of each column positive."""
    sign = u.detach().sum(-2, keepdim=True).sign()
    return [x * sign for x in (u,) + others]


def svd(x):
    u, s, v = torch.svd(x)
    u, v = signed(u, v)
    return u, s, v


def eig(x):
    """Of matrices whose eigenvalues are real, in their order."""
    values, v = torch.linalg.eig(x)
    order = values.real.argsort(-1)
    v = v.real.gather(-1, order[..., None, :].expand(v.shape))
    return values.real.gather(-1, order), signed(v)[0]


def eigvals(x):
    """In ascending order, of the real parts first, whose last bits may differ in a pair."""
    values = torch.linalg.eigvals(x)
    order = values.imag.argsort(-1)
    values = values.gather(-1, order)
    order = (values.real.double() * 1e4).round().argsort(dim=-1, stable=True)
    values = values.gather(-1, order)
    return torch.stack([values.real, values.imag], -1)


def eigh(x):
    values, v = torch.linalg.eigh((x + x.mT) / 2)
    return values, signed(v)[0]


def some_channels(function):
    """PyTorch takes a convolution over no channels, but gives it another shape."""
    def call(x, w, *rest, **options):
        if w.shape[1] == 0:
            raise RuntimeError("no channels")
        return function(x, w, *rest, **options)
    return call


def unique(x):
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    return values, inverse + 1, counts


def planes(function):
    """A pooling of all last two dimensions; PyTorch knows three or four."""
    def call(x, *rest, **options):
        y = function(x.reshape((-1, 1) + x.shape[-2:]), *rest, **options)
        shaped = lambda t: t.reshape(x.shape[:-2] + t.shape[-2:])
        return (shaped(y[0]), shaped(y[1]) + 1) if isinstance(y, tuple) else shaped(y)
    return call


def attention(q, k, v, mask=None, is_causal=False, scale=None, enable_gqa=False):
    """PyTorch 1.13 has none; later ones want one batch shape and not a mask and is_causal together."""
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    if hasattr(F, "scaled_dot_product_attention") and not (is_causal and mask is not None):
        batch = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        q, k, v = (x.expand(batch + x.shape[-2:]) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal, scale=scale)
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    blocked = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1) & is_causal
    if mask is not None and mask.dtype == torch.bool:
        blocked = blocked | ~mask
    elif mask is not None:
        scores = scores + mask
    none = blocked.all(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(blocked, -torch.inf).masked_fill(none, 0), -1)
    return weights.masked_fill(none, 0) @ v


def cross_entropy(x, target):
    """Of classes in the second dimension, or the only one; without a reduction over the batch."""
    return F.cross_entropy(x, target, reduction="none")


OWN = {
    # making
    "zeros": lambda *n, **o: torch.zeros(sizes_of(n), dtype=typed(o)),
    "ones": lambda *n, **o: torch.ones(sizes_of(n), dtype=typed(o)),
    "full": lambda *n, **o: torch.full(sizes_of(n[:-1]), float(n[-1]), dtype=typed(o)),
    "arange": lambda a, b=None, step=1, **o: torch.arange(
        1 if b is None else a, (a if b is None else b) + step / 2, step, dtype=typed(o)) if a <= (a if b is None else b) else torch.empty(0),
    "linspace": lambda a, b, n, **o: torch.linspace(a, b, n, dtype=typed(o)),
    "eye": lambda n, m=None, **o: torch.eye(n, n if m is None else m, dtype=typed(o)),
    "one_hot": lambda i, n, **o: F.one_hot(i, n).to(typed(o)),
    # elementwise
    "mod": torch.remainder,
    "floordiv": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "clamp": clamp,
    "digamma": Digamma.apply,
    "polygamma": polygamma,
    "squared_error": lambda x, y: F.mse_loss(*torch.broadcast_tensors(x, y), reduction="none"),
    "bce_with_logits": lambda z, y: F.binary_cross_entropy_with_logits(*torch.broadcast_tensors(z, y), reduction="none"),
    "binary_cross_entropy": lambda p, y: F.binary_cross_entropy(*torch.broadcast_tensors(p, y), reduction="none"),
    "cross_entropy": cross_entropy,
    "scaled_dot_product_attention": attention,
    # reductions
    "max": extreme("max"),
    "min": extreme("min"),
    "argmax": lambda x, dim=None, **o: torch.argmax(x, dim, **o) + 1,
    "argmin": lambda x, dim=None, **o: torch.argmin(x, dim, **o) + 1,
    "prod": reduce_all(torch.prod),
    "any": lambda x, *a, **o: reduce_all(torch.any)(x.bool(), *a, **o),
    "all": lambda x, *a, **o: reduce_all(torch.all)(x.bool(), *a, **o),
    "logsumexp": lambda x, dim=None, keepdim=False: torch.logsumexp(x, list(range(x.dim())) if dim is None else dim, keepdim),
    "var": spread(torch.var),
    "std": spread(torch.std),
    "norm": norm,
    # shape
    "to": lambda x, dtype: x.to(DTYPES[dtype]),
    "flip": lambda x, dims=None: torch.flip(x, list(range(x.dim())) if dims is None else [dims] if isinstance(dims, int) else dims),
    "diag": lambda x, k=0: torch.diag(x, k) if x.dim() == 1 else torch.diagonal(x, k),
    "permute": lambda x, dims: x.permute([d - 1 if d > 0 else d for d in dims]),
    "select": lambda x, dim, i: x.select(dim, i - 1 if i > 0 else i),
    "slice": slice_of,
    "narrow": lambda x, dim, start, n: x.narrow(dim, start - 1 if start > 0 else start, n),
    "pad": lambda x, amounts, value=0: F.pad(x, amounts, value=value),
    "index_select": index_rows,
    "index_add": index_add,
    "scatter": scatter,
    "scatter_add": lambda x, dim, index, src: x.scatter_add(dim, index, source(x, index, src)),
    "scatter_reduce": scatter_reduce,
    "cummax": lambda x, dim: found(torch.cummax(x, dim)),
    "cummin": lambda x, dim: found(torch.cummin(x, dim)),
    "searchsorted": lambda *a, **o: torch.searchsorted(*a, **o) + 1,
    "masked_fill": masked_fill,
    "nonzero": lambda m: torch.nonzero(m) + 1,
    "sort": lambda x, dim=-1, **o: found(torch.sort(x, dim=dim, stable=True, **o)),
    "argsort": lambda x, dim=-1, **o: torch.sort(x, dim=dim, stable=True, **o)[1] + 1,
    "topk": lambda *a, **o: found(torch.topk(*a, **o)),
    "unique": unique,
    # linear algebra; of whole symmetric parts, as nablua takes them
    "solve": of_vectors(torch.linalg.solve),
    "solve_triangular": of_vectors(lambda a, b, upper=False, **o: torch.linalg.solve_triangular(a, b, upper=upper, **o)),
    "cholesky": lambda x, upper=False: torch.linalg.cholesky((x + x.mT) / 2, upper=upper),
    "qr": torch.linalg.qr,
    "svd": svd,
    "eigh": eigh,
    "eig": eig,
    "eigvals": eigvals,
    "lu": torch.linalg.lu,
    "pinv": torch.linalg.pinv,
    # convolution and pooling
    "conv1d": some_channels(F.conv1d),
    "conv2d": some_channels(F.conv2d),
    "max_pool2d": planes(F.max_pool2d),
    "avg_pool2d": planes(F.avg_pool2d),
    "adaptive_avg_pool2d": planes(F.adaptive_avg_pool2d),
}


def peers(name):
    short = name.split(".")[-1]
    for home in (OWN, vars(torch), vars(F)):
        if short in home:
            return home[short]
    return getattr(torch.Tensor, short, None)
