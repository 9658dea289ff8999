# SPDX-License-Identifier: MIT
# What nablua's layers and losses are called in PyTorch: by the same name where nothing is said here.
import warnings

import torch
import torch.nn.functional as F

warnings.simplefilter("ignore", UserWarning)  # of what later versions will do

at_least = 1800


def from_zero(d):
    return d - 1 if d > 0 else d


def install(module, state):
    """Puts the recorded tensors in the place of the module's own, so that gradients reach them."""
    for path, tensor in state.items():
        path = ".".join(str(int(part) - 1) if part.isdigit() else part for part in path.split("."))
        owner, _, name = path.rpartition(".")
        owner = module.get_submodule(owner)
        if name in owner._buffers:
            owner._buffers[name] = tensor
        else:
            del owner._parameters[name]
            setattr(owner, name, tensor)
    if isinstance(module, torch.nn.RNNBase):
        module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]


def flatten(outputs):
    """(y, (h, c)) → [y, h, c], and nothing where PyTorch has None."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [y for part in outputs for y in flatten(part)] if outputs is not None else []


class RMSNorm(torch.nn.Module):
    """PyTorch 1.13 has none."""
    def __init__(self, shape, eps, elementwise_affine):
        super().__init__()
        self.dims, self.eps = [-1 - d for d in range(len(shape) if isinstance(shape, list) else 1)], eps
        self.weight = torch.nn.Parameter(torch.ones(shape)) if elementwise_affine else None

    def forward(self, x):
        y = x / (x.pow(2).mean(self.dims, keepdim=True) + self.eps).sqrt()
        return y if self.weight is None else y * self.weight


class LayerNorm(torch.nn.LayerNorm):
    """PyTorch 1.13 has a bias always."""
    def __init__(self, shape, eps, elementwise_affine, bias):
        super().__init__(shape, eps, elementwise_affine)
        if not bias:
            self.bias = None


class Hardsigmoid(torch.nn.Module):
    """PyTorch's gradient has 1/6 in f32 only."""
    def forward(self, x):
        return (x / 6 + 0.5).clamp(0, 1)


class SwiGLU(torch.nn.Module):
    """PyTorch has none."""
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        a, b = x.chunk(2, self.dim)
        return F.silu(a) * b


def momentum(options):
    return {**options, "momentum": options["momentum"] or None}


def ignore(options):
    return {**options, "padding_idx": options["padding_idx"] - 1} if "padding_idx" in options else options


CONSTRUCT = {
    "RMSNorm": RMSNorm,
    "Hardsigmoid": Hardsigmoid,
    "LayerNorm": LayerNorm,
    "BatchNorm3d": lambda n, **o: torch.nn.BatchNorm3d(n, **momentum(o)),
    "Upsample": lambda **o: torch.nn.Upsample(**{k: tuple(v) if isinstance(v, list) else v for k, v in o.items()}),
    "Unflatten": lambda dim, sizes: torch.nn.Unflatten(from_zero(dim), sizes),
    "CosineSimilarity": lambda dim: torch.nn.CosineSimilarity(from_zero(dim)),
    "EmbeddingBag": lambda *n, **o: torch.nn.EmbeddingBag(*n, **ignore(o)),
    "BatchNorm1d": lambda n, **o: torch.nn.BatchNorm1d(n, **momentum(o)),
    "BatchNorm2d": lambda n, **o: torch.nn.BatchNorm2d(n, **momentum(o)),
    "Embedding": lambda *n, **o: torch.nn.Embedding(*n, **ignore(o)),
    "Flatten": lambda *dims: torch.nn.Flatten(*[from_zero(d) for d in dims]),
    "Softmax": lambda dim: torch.nn.Softmax(from_zero(dim)),
    "LogSoftmax": lambda dim: torch.nn.LogSoftmax(from_zero(dim)),
    "Softmin": lambda dim: torch.nn.Softmin(from_zero(dim)),
    "GLU": lambda dim: torch.nn.GLU(from_zero(dim)),
    "SwiGLU": lambda dim: SwiGLU(from_zero(dim)),
}


def later(length):
    return torch.ones(length, length).triu(1).bool()


def attention(module, inputs, call):
    if len(inputs) == 1:
        inputs = inputs * 3
    if call.pop("is_causal", False):
        call["attn_mask"] = later(inputs[0].shape[1 if module.batch_first else 0])
    return module(*inputs, **call)


def transformer(module, inputs, call):
    x = inputs[0]
    if call.pop("is_causal", False):
        call["src_mask"] = later(x.shape[1 if module.self_attn.batch_first else 0])
    return module(x, **call)


CALL = {
    "Embedding": lambda module, inputs, call: module(inputs[0] - 1),
    "EmbeddingBag": lambda module, inputs, call: module(*[x - 1 for x in inputs]),
    "MaxUnpool1d": lambda module, inputs, call: module(inputs[0], inputs[1] - 1),
    "MaxUnpool2d": lambda module, inputs, call: module(inputs[0], inputs[1] - 1),
    "MaxUnpool3d": lambda module, inputs, call: module(inputs[0], inputs[1] - 1),
    "LSTMCell": lambda module, inputs, call: module(inputs[0], tuple(inputs[1:]) or None),
    "TransformerDecoderLayer": lambda module, inputs, call: module(*inputs, **call),
    "Transformer": lambda module, inputs, call: module(*inputs, **call),
    "LSTM": lambda module, inputs, call: module(inputs[0], tuple(inputs[1:]) or None),
    "MultiheadAttention": attention,
    "TransformerEncoderLayer": transformer,
}


def layer(name):
    def call(args, options, state, inputs, call_options, training):
        module = CONSTRUCT.get(name, getattr(torch.nn, name, None))(*args, **dict(options))
        module.to(inputs[0].dtype if inputs[0].is_floating_point() else state["weight"].dtype)
        module.train(training)
        install(module, dict(state))
        if name in CALL:
            outputs = CALL[name](module, inputs, dict(call_options))
        else:
            outputs = module(*inputs)
        outputs = flatten(outputs)
        if getattr(module, "running_mean", None) is not None:
            outputs += [module.running_mean, module.running_var]
        return outputs
    return call


def hinge(prediction, target, margin, reduction):
    losses = F.relu(margin - target * prediction)
    return losses if reduction == "none" else getattr(losses, reduction)()


def loss(name):
    def call(options, prediction, target, *more):
        if name == "MultiMarginLoss" or name == "MultiLabelMarginLoss":
            target = target - 1
        if name == "CTCLoss":
            options = {**options, "blank": options["blank"] - 1}
            return torch.nn.CTCLoss(**options)(prediction.log_softmax(-1), target - 1, *more)
        if name == "GaussianNLLLoss" and more[0].shape != prediction.shape and more[0].dim() == 1:
            more = [more[0][:, None]]
        if more:
            return getattr(torch.nn, name)(**options)(prediction, target, *more)
        if name == "HingeLoss":
            return hinge(prediction, target, **options)
        if name in ("CrossEntropyLoss", "NLLLoss") and target.dim() < prediction.dim():
            target = torch.where(target == -100, target, target - 1)
        return getattr(torch.nn, name)(**options)(prediction, target)
    return call


def peers(name):
    short = name.split(".")[-1]
    return loss(short) if short.endswith("Loss") else layer(short)
