# SPDX-License-Identifier: MIT
# PyTorch's database of optimizers: its sets of options, by the optimizers of nablua, over ten steps of a valley.
#
# The parameters and what the optimizer remembers of them are compared; LBFGS asks for the loss itself.
import collections

import torch

import comparison
import exchange
from exchange import Skip
from wording import needs

optim_db = comparison.database("common_optimizers", "optim_db")

STEPS = 10

# What each remembers of a parameter: PyTorch's name, and the one here.
REMEMBERED = {
    "SGD": {"momentum_buffer": "momentum"},
    "Adam": {"exp_avg": "mean", "exp_avg_sq": "square", "max_exp_avg_sq": "largest"},
    "AdamW": {"exp_avg": "mean", "exp_avg_sq": "square", "max_exp_avg_sq": "largest"},
    "RMSprop": {"square_avg": "square", "momentum_buffer": "momentum", "grad_avg": "mean"},
    "Adagrad": {"sum": "total"},
    "NAdam": {"exp_avg": "mean", "exp_avg_sq": "square"},
    "RAdam": {"exp_avg": "mean", "exp_avg_sq": "square"},
    "Adamax": {"exp_avg": "mean", "exp_inf": "largest"},
    "Adadelta": {"square_avg": "square", "acc_delta": "steps"},
    "Rprop": {"prev": "before", "step_size": "size"},
    "ASGD": {"ax": "average"},
    "Adafactor": {"row_var": "row", "col_var": "column", "variance": "square"},
    "LBFGS": {"d": "direction", "prev_flat_grad": "gradient"},
}

SHAPES = [[3], [2, 3], [1], []]

MAKE = """(function()
  local list = {%s}
  for _, w in ipairs(list) do w.requires_grad = true end
  local opt = optim.%s(list, %s)
  for _ = 1, %d do
    opt:step(function()
      opt:zero_grad()
      local J = 0
      for _, w in ipairs(list) do J = J + (w ^ 2 + w ^ 4 / 2):sum() + (w / 2):exp():sum() end
      J = J * %d
      J:backward()
      return J
    end)
  end
  local state, out = opt:state(), {}
  for k, w in ipairs(list) do out[k] = w:detach() end
  for _, name in ipairs {%s} do out[#out + 1] = state[name] end
  return table.unpack(out)
end)()"""


def valley(parameters, sign):
    return sign * sum((w**2 + w**4 / 2).sum() + (w / 2).exp().sum() for w in parameters)


def make_case(cls, options, label, dtype, seed):
    name = cls.__name__
    options, steps = dict(options), STEPS
    if name == "LBFGS":  # near the minimum the last bits of a loss in f32 decide where the search goes
        options["max_iter"], steps = 2, 3 if dtype == torch.float32 else STEPS
    sign = -1 if name == "LBFGS" and options.get("maximize") else 1  # it would reach infinity at once
    needs(not any(isinstance(v, torch.Tensor) for v in options.values()), "a rate that is a tensor")
    random = torch.Generator().manual_seed(1)
    start = [torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for shape in SHAPES]

    def run(own):
        parameters = [t.detach().clone().requires_grad_(True) for t in own]
        opt = cls(parameters, **options)

        def closure():
            opt.zero_grad()
            loss = valley(parameters, sign)
            loss.backward()
            return loss

        for _ in range(steps):
            opt.step(closure)
        return parameters, opt

    def remembered(parameters, opt):
        """Pairs of the name here and the tensor."""
        for k, p in enumerate(parameters):
            for theirs, mine in REMEMBERED[name].items():
                if isinstance(opt.state.get(p, {}).get(theirs), torch.Tensor):
                    yield "%d.%s" % (k + 1, mine), opt.state[p][theirs]

    names = [key for key, _ in remembered(*run(start))]

    def function(own):
        parameters, opt = run(own)
        return [p.detach() for p in parameters] + [v.detach() for _, v in remembered(parameters, opt)]

    text = MAKE % (
        ", ".join("t[%d]:clone()" % (k + 1) for k in range(len(start))),
        name,
        exchange.lua(options),
        steps,
        sign,
        ", ".join(exchange.lua(key) for key in names),
    )
    return comparison.Case(label, " ".join(text.split()), start, function, compile=False, seed=seed)


def main(pattern, seed):
    cases, skipped = [], collections.Counter()
    for entry in optim_db:
        name = entry.optim_cls.__name__
        if pattern not in name:
            continue
        if name not in REMEMBERED:
            skipped["optimizers that are not here"] += 1
            continue
        for dtype in (torch.float32, torch.float64):
            for k, sample in enumerate(entry.optim_inputs_func(device="cpu")):
                label = "%s %s %d" % (name, str(dtype).replace("torch.", ""), k)
                try:
                    case = make_case(entry.optim_cls, dict(sample.kwargs), label, dtype, seed)
                    case.run()
                    cases.append(case)
                except Skip as rule:
                    skipped[str(rule)] += 1
    return comparison.judge("optims", cases, skipped, ([], [], []), 0 if pattern else 140)
