# SPDX-License-Identifier: MIT
# PyTorch's database of modules: its sample constructors and inputs, by the layers and losses of nablua.
#
# Parameters are PyTorch's; their gradients and the inputs' are compared.
import collections
import inspect

import torch
from torch.utils import _pytree as tree

import comparison
import exchange
from exchange import Skip
from wording import T, from_one, needs, places, raw

module_db = comparison.database("common_modules", "module_db")

# What the constructor takes by position here; all else is an option of the same name.
POSITIONAL = {
    "Linear": ["in_features", "out_features"],
    "Embedding": ["num_embeddings", "embedding_dim"],
    **dict.fromkeys(
        """AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
        AdaptiveMaxPool3d""".split(),
        ["output_size"],
    ),
    **dict.fromkeys(
        [k + "Pad%dd" % d for k in ("Zero", "Reflection", "Replication", "Circular") for d in (1, 2, 3)], ["padding"]
    ),
    **dict.fromkeys(["ConstantPad%dd" % d for d in (1, 2, 3)], ["padding", "value"]),
    **dict.fromkeys(["LPPool1d", "LPPool2d", "LPPool3d"], ["norm_type", "kernel_size"]),
    "LocalResponseNorm": ["size"],
    "PixelShuffle": ["upscale_factor"],
    "PixelUnshuffle": ["downscale_factor"],
    "ChannelShuffle": ["groups"],
    "Bilinear": ["in1_features", "in2_features", "out_features"],
    "EmbeddingBag": ["num_embeddings", "embedding_dim"],
    "TransformerDecoderLayer": ["d_model", "nhead"],
    **dict.fromkeys(["RNNCell", "GRUCell", "LSTMCell"], ["input_size", "hidden_size"]),
    "GroupNorm": ["num_groups", "num_channels"],
    "MultiheadAttention": ["embed_dim", "num_heads"],
    "TransformerEncoderLayer": ["d_model", "nhead"],
    "Threshold": ["threshold", "value"],
    **dict.fromkeys([k + "Pool%dd" % d for k in ("Avg", "Max") for d in (1, 2, 3)], ["kernel_size"]),
    **dict.fromkeys([k + "Norm%dd" % d for k in ("Batch", "Instance") for d in (1, 2, 3)], ["num_features"]),
    **dict.fromkeys([k + "%dd" % d for k in ("Conv", "ConvTranspose") for d in (1, 2, 3)], ["in_channels", "out_channels", "kernel_size"]),
    **dict.fromkeys(["LayerNorm", "RMSNorm"], ["normalized_shape"]),
    **dict.fromkeys(["RNN", "GRU", "LSTM"], ["input_size", "hidden_size"]),
    **dict.fromkeys(
        """ELU GELU ReLU LeakyReLU Sigmoid SiLU Softmax LogSoftmax Softplus Tanh
        ReLU6 PReLU SELU CELU Mish Hardsigmoid Hardtanh Hardswish Hardshrink Softshrink Tanhshrink Softsign Softmin
        Softmax2d LogSigmoid GLU L1Loss KLDivLoss MSELoss NLLLoss HuberLoss BCELoss BCEWithLogitsLoss
        CrossEntropyLoss SmoothL1Loss GaussianNLLLoss PoissonNLLLoss HingeEmbeddingLoss MarginRankingLoss
        CosineEmbeddingLoss MultiMarginLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss SoftMarginLoss
        TripletMarginLoss CTCLoss Dropout AlphaDropout FeatureAlphaDropout Dropout1d Dropout2d Dropout3d Upsample
        CosineSimilarity PairwiseDistance Transformer Identity Flatten""".split(),
        [],
    ),
}

REFUSALS = [
    ("a scalar has no dimension", "a dimension of a tensor that has none"),
    ("target .* expected -1 or 1", "targets that are no signs"),
    ("probabilities of sample", "targets that are no probabilities"),
    ("expected (the logarithm of )?a probability", "targets that are no probabilities"),
    ("training needs more than one value", "statistics of an empty batch"),
    ("no option", "an option that is not here"),
]
OWN_DTYPES = []
DELIBERATE = [
    ("^CTCLoss .*gradient", "PyTorch's gradient of CTC's log_probs is that of the scores behind LogSoftmax"),
]


def counted_from_one(path):
    return ".".join(str(int(part) + 1) if part.isdigit() else part for part in path.split("."))


def option(name, key, v):
    """An option as it is called here; classes, places and dimensions count from 1."""
    if callable(v):
        return v.__name__
    if key == "dim":
        return from_one(v)
    if key == "padding_idx" or key == "blank" or key == "ignore_index" and v >= 0:
        return v + 1
    return v


def constructor(name, cls, args, options):
    """The text that makes the module."""
    if cls in (torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM):
        bound = dict(zip(["input_size", "hidden_size"], args), **options)
    else:
        bound = dict(inspect.signature(cls).bind(*args, **options).arguments)
        bound.update(bound.pop("kwargs", {}))
    bound = {key: v for key, v in bound.items() if v is not None or key == "momentum"}
    if bound.get("momentum", 0) is None:
        bound["momentum"] = False
    positional = [exchange.lua(bound.pop(key)) for key in POSITIONAL[name]]
    more = {key: option(name, key, v) for key, v in bound.items()}
    return "nn.%s(%s)" % (name, ", ".join(positional + [exchange.lua(more)]))


def inputs_of(name, args, options):
    """The text of what the module is called with."""
    if name == "CTCLoss":  # lengths are lists
        args = [raw("{%s}" % ", ".join(map(str, a))) if isinstance(a, (tuple, list)) else a for a in args]
    args = [x for a in args for x in (a if isinstance(a, (tuple, list)) else [a])]
    options = {key: v for key, v in options.items() if v is not None}
    if name == "Embedding":
        args = [places(args[0])]
    if name in ("NLLLoss", "CrossEntropyLoss") and not args[1].value.is_floating_point():
        args[1] = raw("nb.where(%s:lt(0), %s, %s + 1)" % (args[1], args[1], args[1]))
    if name == "MultiMarginLoss":
        args[1] = places(args[1])
    if name == "MultiLabelMarginLoss":
        args[1] = raw("(%s + 1)" % args[1])
    if name == "CTCLoss":
        args[1] = raw("(%s + 1)" % args[1])
    if "input" in options:
        args.insert(0, options.pop("input"))
    return ", ".join([exchange.lua(a) for a in args] + ([exchange.lua(options)] if options else []))


def make_case(entry, label, sample, training, dtype, seed):
    name, cls = entry.name.split(".")[-1], entry.module_cls
    given = sample.constructor_input
    args, options = list(given.args), {key: v for key, v in given.kwargs.items() if key not in ("device", "dtype")}
    module = cls(*args, **options).to(dtype).train(training)
    state = {key: v for key, v in [*module.named_parameters(), *module.named_buffers()] if key != "num_batches_tracked"}
    bundle = (tuple(sample.forward_input.args), dict(sample.forward_input.kwargs))
    weights = [(key, v) for key, v in options.items() if isinstance(v, torch.Tensor)]
    values, spec = tree.tree_flatten(bundle)
    tensors = [v for v in values if isinstance(v, torch.Tensor)]
    needs(all(t.dtype in comparison.DTYPES for t in tensors), "dtypes that are not here")
    named, places_left = [], iter(range(1, len(tensors) + 1))
    for v in values:
        named.append(T(next(places_left), v) if isinstance(v, torch.Tensor) else v)
    own_args, own_options = tree.tree_unflatten(named, spec)
    count = len(tensors)
    for k, (key, v) in enumerate(weights):
        options[key] = T(count + 1 + k, v)
    tensors += [v for _, v in weights]
    count = len(tensors)
    is_loss = name.endswith("Loss")
    learnt = [key for key in ("running_mean", "running_var") if state.get(key) is not None]
    placed = {} if is_loss else {key: T(count + 1 + k, v) for k, (key, v) in enumerate(state.items())}
    tensors += [v.value for v in placed.values()]
    make = "install(%s:to(%s), {%s}):train(%s)" % (
        constructor(name, cls, args, options),
        '"f32"' if dtype == torch.float32 else '"f64"',
        ", ".join('["%s"] = %s' % (counted_from_one(key), v) for key, v in placed.items()),
        exchange.lua(training),
    )
    text = "made(%s)" % inputs_of(name, own_args, own_options)
    if learnt:
        text = "with(table.pack(%s), {made.running_mean, made.running_var})" % text

    def function(own):
        own = list(own)
        left = iter(own)
        a, o = tree.tree_unflatten([next(left) if isinstance(v, torch.Tensor) else v for v in values], spec)
        made = module
        if weights:
            changed = dict(given.kwargs, **{key: next(left) for key, _ in weights})
            made = cls(*given.args, **{k: v for k, v in changed.items() if k not in ("device", "dtype")})
        parameters = {key: next(left) for key in placed}
        parameters.update({key: parameters[key].clone() for key in learnt})
        outputs = torch.func.functional_call(made, parameters, a, o, tie_weights=False)
        if getattr(module, "return_indices", False):
            outputs = (outputs[0], outputs[1] + 1)
        return [y for y in tree.tree_leaves(outputs) if isinstance(y, torch.Tensor)] + [
            parameters[key] for key in learnt
        ]

    return comparison.Case(label, text, tensors, function, make, not (learnt and training), seed)


def main(pattern, seed):
    cases, skipped = [], collections.Counter()
    for entry in module_db:
        name = entry.name.split(".")[-1]
        if pattern not in name:
            continue
        if name not in POSITIONAL:
            skipped["modules that are not here"] += 1
            continue
        for dtype in (torch.float32, torch.float64):
            for training in (True, False):
                torch.manual_seed(1)
                samples = entry.module_inputs_func(
                    entry, device="cpu", dtype=dtype, requires_grad=True, training=training
                )
                for k, sample in enumerate(samples):
                    if sample.forward_input is None:
                        continue
                    label = "%s %s %s %d" % (name, str(dtype).replace("torch.", ""), "train" if training else "eval", k)
                    try:
                        case = make_case(entry, label, sample, training, dtype, seed)
                        case.run()
                        cases.append(case)
                    except Skip as rule:
                        skipped[str(rule)] += 1
    return comparison.judge("modules", cases, skipped, (REFUSALS, OWN_DTYPES, DELIBERATE), 0 if pattern else 3000)
