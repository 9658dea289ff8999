# SPDX-License-Identifier: MIT
# ONNX's convolutions, pools, normalisations, recurrent layers, attention, losses, images and spectra in Lua: a table of
# nodes_words.py's makers.
import numpy

import exchange
from nodes_words import (
    amounts,
    at_door,
    index,
    installed,
    kind,
    layer,
    numbers,
    one,
    padded,
    padding,
    rank,
    short,
    spatial,
    steps,
    typed,
)
from wording import Call, T, call, from_one, needs, raw


def convolution(
    x, w, b=None, *, kernel_shape=None, strides=None, pads=None, dilations=None, group=1, auto_pad="NOTSET"
):
    n = len(spatial(x))
    strides, dilations = strides or [1] * n, dilations or [1] * n
    first, last = padding(pads, auto_pad, spatial(x), spatial(w), strides, dilations)
    if first != last:
        x, first = raw("%s" % padded(x, first, last)), [0] * n
    options = dict(stride=short(strides), padding=short(first), dilation=short(dilations), groups=group)
    if n < 3:
        return call("conv%dd" % n, x, w, b, **options)
    channels = w.value.shape[1] * group
    made = call("nn.Conv3d", channels, w.value.shape[0], spatial(w), bias=b is not None, **options)
    return Call("%s(%s)" % (installed(made, w, weight=w, bias=b), x))


def transposed(
    x,
    w,
    b=None,
    *,
    kernel_shape=None,
    strides=None,
    pads=None,
    dilations=None,
    group=1,
    auto_pad="NOTSET",
    output_padding=None,
    output_shape=None
):
    n, kernel = len(spatial(x)), spatial(w)
    strides, dilations, more = (
        list(v or d) for v, d in ((strides, [1] * n), (dilations, [1] * n), (output_padding, [0] * n))
    )
    if auto_pad in ("SAME_UPPER", "SAME_LOWER") and output_shape is None:
        output_shape = [size * s for size, s in zip(spatial(x), strides)]
    first, last = list((pads or [0] * n)[:n]), list((pads or [0] * n)[-n:])
    if output_shape is not None:
        for k, wanted in enumerate(output_shape[-n:]):
            whole = strides[k] * (spatial(x)[k] - 1) + more[k] + (kernel[k] - 1) * dilations[k] + 1 - wanted
            if whole < 0:  # what is missing is added behind
                more[k], whole = more[k] - whole, 0
            first[k], last[k] = (
                (whole - whole // 2, whole // 2) if auto_pad != "SAME_UPPER" else (whole // 2, whole - whole // 2)
            )
    cut = "" if first == last else ":pad({%s})" % ", ".join(str(-v) for v in amounts(first, last))
    options = dict(stride=strides, padding=[0] * n if cut else first, dilation=dilations, groups=group)
    options = {key: short(v) if isinstance(v, list) else v for key, v in dict(options, output_padding=more).items()}
    if n == 2:
        return Call("%s%s" % (call("conv_transpose2d", x, w, b, **options), cut))
    channels, out = w.value.shape[0], w.value.shape[1] * group
    made = call("nn.ConvTranspose%dd" % n, channels, out, short(kernel), bias=b is not None, **options)
    return Call("%s(%s)%s" % (installed(made, w, weight=w, bias=b), x, cut))


def max_pool(
    x,
    *,
    kernel_shape,
    strides=None,
    pads=None,
    dilations=None,
    ceil_mode=0,
    auto_pad="NOTSET",
    storage_order=0,
    outputs
):
    n, sizes = len(kernel_shape), spatial(x)
    strides, dilations = strides or [1] * n, dilations or [1] * n
    first, last = padding(pads, auto_pad, sizes, kernel_shape, strides, dilations)
    places, bytes_too = 1 in outputs, ":to('u8')" if kind(x) == "u8" else ""  # layers work in f32 or f64
    if uneven(first, last, kernel_shape):
        needs(not places and not bytes_too, "places beside uneven borders")
        x, first = padded(x, first, last, -numpy.inf), [0] * n
    made = call(
        "nn.MaxPool%dd" % n,
        short(kernel_shape),
        stride=short(strides),
        padding=short(first),
        ceil_mode=bool(ceil_mode) or None,
        dilation=short(dilations),
        return_indices=places or None,
    )
    plane = int(numpy.prod(sizes))

    def counted_by_rows(outputs):
        """ONNX counts through all planes, or by columns; here each plane has its own, by rows."""
        at = outputs[1] % plane
        return [outputs[0], (at % sizes[0] * sizes[1] + at // sizes[0] if storage_order else at) + 1]

    return Call("%s(%s)%s" % (made, x, bytes_too)).then(counted_by_rows if places else None)


def uneven(first, last, kernel):
    """Whether borders stand at one end, or are wider than half a window."""
    return first != last or any(2 * p > k for p, k in zip(first, kernel))


def average_pool(
    x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET", count_include_pad=0
):
    n = len(kernel_shape)
    strides, dilations = strides or [1] * n, dilations or [1] * n
    needs(set(dilations) == {1}, "averages of windows with gaps")
    first, last = padding(pads, auto_pad, spatial(x), kernel_shape, strides, dilations)
    made = "nn.AvgPool%dd" % n
    if uneven(first, last, kernel_shape):  # made part of x, where they count; the share of x is what ones give
        needs(not ceil_mode, "uneven borders and windows that are cut off")
        made = call(made, short(kernel_shape), stride=short(strides))
        wide = padded(x, first, last)
        if count_include_pad:
            return Call("%s(%s)" % (made, wide))
        ones = padded(raw("nb.ones_like(%s)" % x), first, last)
        return Call("%s(%s) / %s(%s)" % (made, wide, made, ones))
    return Call(
        "%s(%s)"
        % (
            call(
                made,
                short(kernel_shape),
                stride=short(strides),
                padding=short(first),
                ceil_mode=bool(ceil_mode) or None,
                count_include_pad=bool(count_include_pad),
            ),
            x,
        )
    )


def lp_pool(x, *, kernel_shape, p=2, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET"):
    n = len(kernel_shape)
    strides, dilations = strides or [1] * n, dilations or [1] * n
    needs(set(dilations) == {1}, "norms of windows with gaps")
    first, last = padding(pads, auto_pad, spatial(x), kernel_shape, strides, dilations)
    made = call("nn.LPPool%dd" % n, p, short(kernel_shape), short(strides), ceil_mode=bool(ceil_mode) or None)
    return Call("%s(%s:abs())" % (made, padded(x, first, last)))


def max_unpool(x, places, shape=None, *, kernel_shape, strides=None, pads=None):
    """ONNX's places count in what is made without a shape; with one, zeros stand behind it."""
    n = len(kernel_shape)
    strides = strides or [1] * n
    needs(not any(pads or [0]), "borders of what is undone")
    sizes = [(m - 1) * s + k for m, s, k in zip(spatial(x), strides, kernel_shape)]
    plane = int(numpy.prod(sizes))
    places = at_door(places, lambda v: v % plane + 1)
    text = "%s(%s, %s)" % (call("nn.MaxUnpool%dd" % n, short(kernel_shape), short(strides)), x, places)
    more = [] if shape is None else [m - size for m, size in zip(numbers(shape)[2:], sizes)]
    return Call("%s" % padded(raw(text), [0] * len(more), more))


def fold(x, image, block, *, strides=None, pads=None, dilations=None):
    sizes = numbers(image)
    needs(len(sizes) == 2, "columns of more than two dimensions")
    pads = pads or [0] * 4
    needs(pads[:2] == pads[2:], "uneven borders")
    return call("fold", x, sizes, numbers(block), stride=strides, padding=pads[:2], dilation=dilations)


def all_spatial(name):
    return lambda x: call(name, x, list(range(3, rank(x) + 1)), keepdim=True)


# ---- normalisation ----


def batch_norm(x, scale, bias, mean, variance, *, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1):
    name = "nn.BatchNorm%dd" % max(rank(x) - 2, 1)
    if not training_mode:
        made = installed(
            call(name, x.value.shape[1], eps=epsilon),
            x,
            weight=scale,
            bias=bias,
            running_mean=mean,
            running_var=variance,
        )
        return Call("%s:eval()(%s)" % (made, x))
    made = call(name, x.value.shape[1], eps=epsilon, track_running_stats=False)
    dims, share = exchange.lua([1] + list(range(3, rank(x) + 1))), exchange.lua(momentum)
    return steps(  # ONNX's running variance is that of the batch, PyTorch's an estimate from it
        "local v, m = nb.var_mean(%s, %s, {correction = 0})" % (x, dims),
        "local y = %s(%s)" % (installed(made, x, weight=scale, bias=bias), x),
        "return y, %s * %s + m * (1 - %s), %s * %s + v * (1 - %s)" % (mean, share, share, variance, share, share),
    )


def instance_norm(x, scale, bias, *, epsilon=1e-5):
    made = call("nn.InstanceNorm%dd" % (rank(x) - 2), x.value.shape[1], eps=epsilon, affine=True)
    return Call("%s(%s)" % (installed(made, x, weight=scale, bias=bias), x))


def group_norm(x, scale, bias, *, num_groups, epsilon=1e-5, stash_type=1):
    made = call("nn.GroupNorm", num_groups, x.value.shape[1], eps=epsilon)
    return Call("%s(%s)" % (installed(made, x, weight=scale, bias=bias), x))


def layer_norm(x, scale, bias=None, *, axis=-1, epsilon=1e-5, stash_type=1, outputs):
    made = call("nn.LayerNorm", list(x.value.shape[axis:]), eps=epsilon, bias=bias is not None)
    text = "%s(%s)" % (installed(made, x, weight=scale, bias=bias), x)
    if outputs == [0]:
        return Call(text)
    dims = exchange.lua(list(range(axis % rank(x) + 1, rank(x) + 1)))
    return steps(
        "local v, m = nb.var_mean(%s, %s, {correction = 0, keepdim = true})" % (x, dims),
        "return %s, m, nb.rsqrt(v + %s)" % (text, exchange.lua(epsilon)),
    )


def rms_norm(x, scale, *, axis=-1, epsilon=1e-5, stash_type=1):
    made = call("nn.RMSNorm", list(x.value.shape[axis:]), eps=epsilon)
    return Call("%s(%s)" % (installed(made, x, weight=scale), x))


def local_response(x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    return layer("LocalResponseNorm", size, alpha=alpha, beta=beta, k=bias)(x)


# ---- recurrent layers ----

GATES = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}  # ONNX's that nablua has at these places


def recurrent(name):
    gates = GATES[name]

    def ordered(v, hidden):
        """The gates of (directions ×) gates · hidden (× inputs) in nablua's order."""
        parts = v.reshape(v.shape[0], len(gates), hidden, *v.shape[2:])
        return parts[:, gates].reshape(v.shape)

    def make(
        x,
        w,
        r,
        b=None,
        lengths=None,
        h=None,
        c=None,
        peep=None,
        *,
        hidden_size,
        direction="forward",
        layout=0,
        linear_before_reset=0,
        activations=None,
        clip=None,
        input_forget=0,
        outputs
    ):
        needs(activations is None and clip is None and not input_forget, "other activations, or bounds")
        needs(peep is None, "gates that see the cell")
        needs(lengths is None, "sequences of other lengths")
        biases = [None, None]
        if name == "GRU" and not linear_before_reset:  # nablua resets after the product, as PyTorch does
            one_step = x.value.shape[layout] == 1 and h is None
            needs(one_step and (b is None or not b.value[:, 3 * hidden_size :].any()), "a reset before the product")
        state = {}
        double = direction == "bidirectional"
        for k, suffix in enumerate(["", "_reverse"] if double else [""]):
            biases = [None, None]
            if b is not None:
                halves = numpy.split(
                    ordered(b.value.reshape(b.value.shape[0] * 2, -1), hidden_size)[2 * k : 2 * k + 2], 2
                )
                biases = [raw("nb.tensor(%s)" % exchange.lua(half.reshape(-1).tolist())) for half in halves]
            for key, v in (("weight_ih", w), ("weight_hh", r)):
                v.value = v.value if k else numpy.ascontiguousarray(ordered(v.value, hidden_size))
                state["%s_l0%s" % (key, suffix)] = raw("%s:select(1, %d)" % (v, k + 1))
            for key, v in zip(("bias_ih", "bias_hh"), biases):
                state["%s_l0%s" % (key, suffix)] = v
        made = call("nn." + name, x.value.shape[2], hidden_size, bias=b is not None, bidirectional=double or None)
        steps_of = "%s:transpose(1, 2)" % x if layout else "%s" % x
        steps_of += ":flip(1)" if direction == "reverse" else ""
        start = [v for v in (h, c) if v is not None]
        lines = [
            "local y, h, c = %s(%s)" % (installed(made, x, **state), ", ".join([steps_of] + ["%s" % v for v in start]))
        ]
        y = "y%s:unflatten(-1, {%d, -1}):permute(%s)" % (
            ":flip(1)" if direction == "reverse" else "",
            2 if double else 1,
            "2, 1, 3, 4" if layout else "1, 3, 2, 4",
        )
        last = ":transpose(1, 2)" if layout else ""
        lines.append("return %s, h%s%s" % (y, last, ", c" + last if name == "LSTM" else ""))
        return steps(*lines)

    return make


# ---- attention ----


def attention(
    q,
    k,
    v,
    mask=None,
    past_key=None,
    past_value=None,
    lengths=None,
    *,
    is_causal=0,
    kv_num_heads=None,
    q_num_heads=None,
    qk_matmul_output_mode=0,
    scale=None,
    softcap=0.0,
    softmax_precision=None,
    left_window_size=-1,
    right_window_size=-1,
    outputs=(0,)
):
    flat = rank(q) == 3
    heads = [n if flat else x.value.shape[1] for x, n in ((q, q_num_heads), (k, kv_num_heads))]
    past = 0 if past_key is None else past_key.value.shape[2]
    queries, keys = (x.value.shape[1 if flat else 2] for x in (q, k))
    keys += past
    texts = [
        "%s:unflatten(-1, {%d, -1}):transpose(2, 3)" % (x, n) if flat else "%s" % x
        for x, n in ((q, heads[0]), (k, heads[1]), (v, heads[1]))
    ]
    lines = ["local q, k, v = %s" % ", ".join(texts)]
    if past:
        lines.append("k, v = nb.cat({%s, k}, 3), nb.cat({%s, v}, 3)" % (past_key, past_value))
    bounds = (left_window_size, 0 if is_causal else right_window_size)
    simple = is_causal and not (past or mask or lengths or softcap or 3 in outputs) and left_window_size < 0
    hidden = None if simple else masked(lines, mask, lengths, queries, keys, past, bounds)
    joined = ":transpose(2, 3):flatten(3, 4)" if flat else ""
    if softcap or 3 in outputs:
        scale = scale or (q.value.shape[-1] // (heads[0] if flat else 1)) ** -0.5
        groups = ":repeat_interleave(%d, 2)" % (heads[0] // heads[1]) if heads[0] != heads[1] else ""
        return scores(
            lines, scale, softcap, mask, hidden, qk_matmul_output_mode if 3 in outputs else None, groups, joined
        )
    options = {"is_causal": bool(simple) or None, "scale": scale, "enable_gqa": heads[0] != heads[1] or None}
    hidden = None if hidden is None else raw(hidden)
    if len(lines) == 1:
        return Call(call("scaled_dot_product_attention", *map(raw, texts), hidden, **options) + joined)
    made = call("scaled_dot_product_attention", *map(raw, "qkv"), hidden, **options)
    return steps(*lines, "return %s%s, k, v" % (made, joined))


def masked(lines, mask, lengths, queries, keys, past, bounds):
    """The mask of all that hides keys, or None: a query sees so many behind it and before it, and of each sequence so
    many as there are."""
    left, right = bounds
    given = None if mask is None else "%s" % mask
    if mask is not None and 1 < mask.value.shape[-1] < keys:
        nothing = "false" if mask.value.dtype == bool else "-math.huge"
        given = "nb.pad(%s, {0, %d}, %s)" % (mask, keys - mask.value.shape[-1], nothing)
    seen = []
    if lengths is not None:
        lines.append("local j, n = nb.arange(1, %d), %s:reshape(-1, 1, 1, 1)" % (keys, lengths))
        lines.append("local behind = nb.arange(1, %d):unsqueeze(2) + (n - %d) - j" % (queries, queries))
        seen = ["j:le(n)"]
        seen += ["behind:le(%d)" % left] if left >= 0 else []
        seen += ["behind:ge(%d)" % -right] if right >= 0 else []
    elif left >= 0 or right >= 0:
        band = "nb.ones(%d, %d)" % (queries, keys)
        band += ":triu(%d)" % (past - left) if left >= 0 else ""
        seen = [band + (":tril(%d)" % (past + right) if right >= 0 else "") + ":to('bool')"]
    if not seen:
        return given
    if mask is None or mask.value.dtype == bool:
        return "(%s)" % " & ".join(seen + ([given] if given else []))
    return "nb.where(%s, %s, -math.huge)" % (" & ".join(seen), given)


def scores(lines, scale, softcap, mask, hidden, shown, groups, joined):
    """Attention whose scores are limited or shown: `shown` numbers the product, what is limited, what is masked, and
    the shares."""
    limit = exchange.lua(softcap)
    forms = ["q:matmul(k%s:transpose(-2, -1)) * %s" % (groups, exchange.lua(scale))]
    forms.append("nb.tanh((%%s) / %s) * %s" % (limit, limit) if softcap else "%s")
    if hidden is None:
        forms += ["%s", "nb.softmax(%s, -1)"]
    else:
        is_sum = mask is not None and mask.value.dtype != bool
        forms.append("%%s + %s" % hidden if is_sum else "nb.where(%s, %%s, -math.huge)" % hidden)
        forms.append("nb.nan_to_num(nb.softmax(%s, -1), 0)")
    text = "%s"
    for k, form in enumerate(forms):
        text = form if k == 0 else form % text
        if k == shown:
            lines.append("local shown = %s" % text)
            text = "shown"
    return steps(
        *lines, "return (%s):matmul(v%s)%s, k, v%s" % (text, groups, joined, "" if shown is None else ", shown")
    )


def flexible(q, k, v, *, scale=None, score_mod=None, prob_mod=None, softmax_precision=None):
    needs(score_mod is None and prob_mod is None, "a graph inside of the node")
    return attention(q, k, v, scale=scale)


def causal_convolution(x, w, b=None, past=None, *, activation="none", outputs):
    """What went before stands in front of x, or zeros; the last of both go on."""
    n = w.value.shape[-1] - 1
    front = "nb.cat({%s, %s}, 3)" % (past, x) if past is not None else "nb.pad(%s, {%d, 0})" % (x, n)
    text = call("conv1d", raw("x"), w, b, groups=w.value.shape[0])
    if activation in ("silu", "swish"):
        text = "nb.silu(%s)" % text
    return steps("local x = %s" % front, "return %s, x:narrow(3, x:size(3) - %d, %d)" % (text, n - 1, n))


# ---- losses ----


def of_classes(name):
    def make(x, target, weight=None, *, ignore_index=None, reduction="mean", outputs=(0,)):
        target = at_door(target, lambda v: v.astype(numpy.int64) + 1, "(%s + 1)")
        more = None if ignore_index is None else ignore_index + 1
        made = call("nn." + name, x, target, weight=weight, ignore_index=more, reduction=reduction)
        return Call("%s, nb.log_softmax(%s, 2)" % (made, x)) if 1 in outputs else made

    return make


def dropout(x, ratio=0.5, training=None, *, seed=None, outputs=(0,)):
    p = one(ratio) if isinstance(ratio, T) else ratio
    trains = training is not None and one(training)
    needs(not (trains and p > 0), "numbers drawn as ONNX draws them")
    text = "%s%s(%s)" % (call("nn.Dropout", p), "" if trains else ":eval()", x)
    return Call(text + (", nb.ones_like(%s):to('bool')" % x if 1 in outputs else ""))


# ---- images ----


def affine_grid(theta, size, *, align_corners=0):
    return call("affine_grid", theta, numbers(size), align_corners=bool(align_corners))


MODES = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}


def grid_sample(x, grid, *, align_corners=0, mode="linear", padding_mode="zeros"):
    return call("grid_sample", x, grid, mode=MODES[mode], padding_mode=padding_mode, align_corners=bool(align_corners))


def resize(
    x,
    roi=None,
    scales=None,
    sizes=None,
    *,
    mode="nearest",
    coordinate_transformation_mode="half_pixel",
    axes=None,
    nearest_mode="round_prefer_floor",
    antialias=0,
    cubic_coeff_a=-0.75,
    exclude_outside=0,
    keep_aspect_ratio_policy="stretch",
    extrapolation_value=0.0
):
    how, before = coordinate_transformation_mode, x.value.shape
    needs(
        how in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"),
        "places counted in another way: " + how,
    )
    needs(not antialias, "averages that take the edge for what lies beyond, as PyTorch's do not")
    needs(cubic_coeff_a == -0.75 and not exclude_outside, "other weights of cubic curves")
    given = numbers(sizes) if scales is None else numbers(scales)
    given = dict(zip(range(rank(x)) if axes is None else axes, given))
    ratios = [given.get(d, 1) if sizes is None else given.get(d, n) / n for d, n in enumerate(before)]
    if sizes is not None and keep_aspect_ratio_policy != "stretch":
        ratio = (min if keep_aspect_ratio_policy == "not_larger" else max)(ratios[d] for d in given)
        ratios = [ratio if d in given else 1 for d in range(rank(x))]
    after = [int(n * r + (1e-6 if sizes is None else 0.5)) for n, r in zip(before, ratios)]
    needs(after[:2] == list(before[:2]), "sizes of batches or channels")
    pairs = list(zip(before[2:], after[2:], ratios[2:]))
    multiples = all(abs(n * r - m) < 1e-6 for n, m, r in pairs)
    own = {"nearest": "nearest", "linear": {3: "linear", 4: "bilinear", 5: "trilinear"}[rank(x)], "cubic": "bicubic"}[
        mode
    ]
    if mode == "nearest":
        fitting = [
            name
            for name in ("nearest", "nearest-exact")
            if all(same_places(*p, how, nearest_mode, name) for p in pairs)
        ]
        needs(fitting, "other nearest elements: %s, %s" % (how, nearest_mode))
        own = fitting[0]
    else:
        needs(
            how != "asymmetric" and (how != "pytorch_half_pixel" or min(after[2:]) > 1),
            "places counted in another way: " + how,
        )
        needs(how != "align_corners" or multiples, "corners of sizes that are no whole numbers")
    corners = how == "align_corners" and mode != "nearest"
    wanted = dict(scale_factor=ratios[2:]) if scales is not None and not multiples else dict(size=after[2:])
    return call("interpolate", x, **wanted, mode=own, align_corners=corners or None)


def same_places(n, m, ratio, how, nearest, own):
    """Whether PyTorch's nearest elements are those of the node."""
    for i in range(m):
        at = {
            "half_pixel": (i + 0.5) / ratio - 0.5,
            "asymmetric": i / ratio,
            "align_corners": i * (n - 1) / (m - 1) if m > 1 else 0,
            "pytorch_half_pixel": (i + 0.5) / ratio - 0.5 if m > 1 else 0,
        }[how]
        place = {
            "round_prefer_floor": -(-(at - 0.5) // 1),
            "round_prefer_ceil": (at + 0.5) // 1,
            "floor": at // 1,
            "ceil": -(-at // 1),
        }[nearest]
        if min(max(place, 0), n - 1) != min((i + (0.5 if own == "nearest-exact" else 0)) / ratio // 1, n - 1):
            return False
    return True


def rotary(x, cosine, sine, places=None, *, interleaved=0, num_heads=None, rotary_embedding_dim=0):
    """Pairs of numbers turned by angles of their places; what stands behind the turned ones stays."""
    flat = rank(x) == 3
    width = x.value.shape[-1] // (num_heads if flat else 1)
    turned = rotary_embedding_dim or width
    at = "" if places is None else ":index_select(1, %s)" % index(places)
    lines = [
        "local x = %s" % ("%s:unflatten(-1, {%d, -1}):transpose(2, 3)" % (x, num_heads) if flat else x),
        "local c, s = %s%s:unsqueeze(2), %s%s:unsqueeze(2)" % (cosine, at, sine, at),
    ]
    if interleaved:
        lines.append("local a, b = x:slice(-1, 1, %d, 2), x:slice(-1, 2, %d, 2)" % (turned, turned))
        y = "nb.stack({a * c - b * s, a * s + b * c}, -1):flatten(-2, -1)"
    else:
        lines.append("local a, b = table.unpack(x:narrow(-1, 1, %d):chunk(2, -1))" % turned)
        y = "nb.cat({a * c - b * s, a * s + b * c}, -1)"
    if turned < width:
        y = "nb.cat({%s, x:narrow(-1, %d, %d)}, -1)" % (y, turned + 1, width - turned)
    return steps(*lines, "return %s%s" % (y, ":transpose(2, 3):flatten(3, 4)" if flat else ""))


# ---- spectra ----


def fourier(x, length=None, where=None, *, axis=-2, inverse=0, onesided=0):
    d = axis if where is None else one(where)
    d = from_one(d) if d >= 0 else d + 1  # counted without the pairs
    n, real = one(length), x.value.shape[-1] == 1
    if inverse and onesided:
        return Call("%s:unsqueeze(-1)" % call("irfft", x, n, d))
    if onesided:
        return call("rfft", raw("%s:squeeze(-1)" % x), n, d)
    return call("ifft" if inverse else "fft", raw("nb.pad(%s, {0, 1})" % x) if real else x, n, d)


def short_time(x, step, window=None, length=None, *, onesided=1):
    needs(x.value.shape[-1] == 1, "spectra of complex numbers")
    n = one(length) if window is None else window.value.shape[0]
    options = dict(hop_length=one(step), window=window, center=False, onesided=bool(onesided))
    return Call("%s:transpose(2, 3)" % call("stft", raw("%s:squeeze(-1)" % x), n, **options))


def window(name):
    def make(size, *, output_datatype=1, periodic=1):
        return call(name, one(size), periodic=bool(periodic), dtype=typed(output_datatype))

    return make


def hamming(size, *, output_datatype=1, periodic=1):
    return call(
        "hamming_window", one(size), periodic=bool(periodic), alpha=25 / 46, beta=21 / 46, dtype=typed(output_datatype)
    )


TABLE = {
    "Conv": convolution,
    "ConvTranspose": transposed,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "MaxUnpool": max_unpool,
    "GlobalAveragePool": all_spatial("mean"),
    "GlobalMaxPool": all_spatial("amax"),
    "Col2Im": fold,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
    "LRN": local_response,
    "RNN": recurrent("RNN"),
    "GRU": recurrent("GRU"),
    "LSTM": recurrent("LSTM"),
    "Attention": attention,
    "ai.onnx.preview.FlexAttention": flexible,
    "RotaryEmbedding": rotary,
    "CausalConvWithState": causal_convolution,
    "SoftmaxCrossEntropyLoss": of_classes("cross_entropy"),
    "NegativeLogLikelihoodLoss": of_classes("nll"),
    "Dropout": dropout,
    "AffineGrid": affine_grid,
    "GridSample": grid_sample,
    "Resize": resize,
    "Upsample": lambda x, scales, *, mode="nearest": resize(
        x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    ),
    "DFT": fourier,
    "STFT": short_time,
    "HannWindow": window("hann_window"),
    "HammingWindow": hamming,
    "BlackmanWindow": window("blackman_window"),
}
