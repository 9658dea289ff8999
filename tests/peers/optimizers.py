# SPDX-License-Identifier: MIT
# What nablua's optimizers and schedules are called in PyTorch: by the same name where nothing is said here.
import warnings

import torch

warnings.simplefilter("ignore", UserWarning)  # of schedules stepped before their optimizer

at_least = 400

# Some optimizers hold numbers that they remember in the default dtype.
torch.set_default_dtype(torch.float64)

LR = torch.optim.lr_scheduler


class Lion(torch.optim.Optimizer):
    """PyTorch has none: algorithm 2 of Chen et al."""
    def __init__(self, params, **options):
        super().__init__(params, options)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p -= group["lr"] * ((b1 * m + (1 - b1) * p.grad).sign() + group["weight_decay"] * p)
                m.copy_(b2 * m + (1 - b2) * p.grad)


def adafactor(groups, eps2, **options):
    return torch.optim.Adafactor(groups, eps=(None, eps2), **options)


def muon(groups, **options):
    """PyTorch's iterations are in bfloat16: these are in the matrix's own dtype."""
    def orthogonal(g, coefficients, steps, eps):
        x = g.T if g.size(0) > g.size(1) else g
        x = x / x.norm().clamp(min=eps)
        for _ in range(steps):
            a, b, c = coefficients
            s = x @ x.T
            x = a * x + (b * s + c * s @ s) @ x
        return x.T if g.size(0) > g.size(1) else x

    torch.optim._muon._zeropower_via_newtonschulz = orthogonal
    return torch.optim.Muon(groups, **options)


OPTIMIZERS = {"Lion": Lion, "Adafactor": adafactor, "Muon": muon}


def optimizer(name):
    def call(options, groups, gradients):
        groups = [{**g, "params": [p.clone().requires_grad_(True) for p in g["params"]]} for g in groups]
        opt = (OPTIMIZERS.get(name) or getattr(torch.optim, name))(groups, **options)
        parameters = [p for g in groups for p in g["params"]]
        for step in gradients:
            for p, g in zip(parameters, step):
                p.grad = None if g is False else g
            opt.step()
        return parameters
    return call


def lbfgs(options, start, steps):
    w = start.clone().requires_grad_(True)
    opt = torch.optim.LBFGS([w], **options)

    def closure():
        opt.zero_grad()
        d = w - torch.arange(1, len(w) + 1, dtype=w.dtype)
        loss = (d ** 2 + d ** 4 / 2).sum() + 3 * ((w[1:] - w[:-1]) ** 2).sum() + w.exp().sum() / 10
        loss.backward()
        return loss
    for _ in range(steps):
        opt.step(closure)
    return [w]


SCHEDULES = {
    "CosineLR": lambda opt, total_steps, min_lr: LR.CosineAnnealingLR(opt, total_steps, min_lr),
    "WarmupLR": lambda opt, warmup, start: LR.LinearLR(opt, start, total_iters=warmup),
    "ReduceLROnPlateau": lambda opt, **options: LR.ReduceLROnPlateau(opt, **options),
}


def schedule(name):
    def make(name, opt, options):
        return SCHEDULES.get(name, getattr(LR, name, None))(opt, **options)

    def call(kind, given, options, losses, after, next_options):
        opt = getattr(torch.optim, kind)([torch.zeros(1, requires_grad=True)], **given)
        if after:
            # The second records the full rate where it is made first.
            second = make(after, opt, next_options)
            s = LR.SequentialLR(opt, [make(name, opt, options), second], [options["warmup"]])
        else:
            s = make(name, opt, options)
        rates, momenta = [], []
        for t in range(len(losses) + 1):
            if t > 0:
                s.step(losses[t - 1].item()) if name == "ReduceLROnPlateau" else s.step()
            group = opt.param_groups[0]
            rates.append(group["lr"])
            momenta.append(group["momentum"] if kind == "SGD" else group["betas"][0])
        return [torch.tensor(rates, dtype=torch.float64), torch.tensor(momenta, dtype=torch.float64)]
    return call


def peers(name):
    short = name.split(".")[-1]
    if short == "LBFGS":
        return lbfgs
    return schedule(short) if short in SCHEDULES or short.endswith(("LR", "Restarts")) else optimizer(short)
