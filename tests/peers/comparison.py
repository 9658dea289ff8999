# SPDX-License-Identifier: MIT
# Cases that PyTorch's own databases give: done here, done by replay.lua, and compared.
#
# A case is skipped by a rule (counted by the rule), refused by nablua with one of the sentences that a table names, or
# compared: outputs, gradients for random weights of the outputs, in f64 their derivatives in random directions, and
# what nb.compile replays.  The tolerances are those of torch.testing.assert_close; where terms cancel in f32, what
# counts is the distance to PyTorch's result in f64, which must be of the order of PyTorch's own.
import collections
import importlib
import os
import re
import sys
import warnings
import zlib

import torch

import exchange

DTYPES = [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]
TOLERANCES = {torch.float32: (1.3e-6, 1e-5), torch.float64: (1e-7, 1e-7)}


warnings.simplefilter("ignore")  # of what later versions will do


def database(module, name):
    """One of the databases that PyTorch 2.13 tests itself with; skips all where there is none."""
    try:
        if tuple(int(n) for n in torch.__version__.split(".")[:2]) < (2, 13):
            raise ImportError("it is PyTorch %s" % torch.__version__)
        return getattr(importlib.import_module("torch.testing._internal." + module), name)
    except ImportError as problem:
        print("skipped: PyTorch 2.13 and expecttest are needed for %s: %s" % (name, problem))
        sys.exit(77)


def chosen(label, share):
    """Whether a case belongs to the seeded sample that is this share of all."""
    return zlib.crc32(label.encode()) % 10000 < share * 10000


class Case:
    """One call: `text` is Lua in which t[k] are the tensors, `function` the same of these tensors in PyTorch.  What
    `make` makes, such as a net, is `made` in the text, and is made once where the call is repeated."""

    def __init__(self, label, text, tensors, function, make=None, compile=True, seed="1"):
        self.label, self.text, self.function = label, text, function
        self.make, self.compile = make, compile
        self.tensors = [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
        self.leaves = [k for k, t in enumerate(self.tensors) if t.requires_grad]
        self.random = torch.Generator().manual_seed(zlib.crc32((label + seed).encode()))
        self.weights, self.directions = [], []
        self.no_second = None

    def draw(self, y):
        return torch.randn(y.shape, generator=self.random, dtype=torch.float64).to(y.dtype)

    def run(self):
        """PyTorch's outputs, gradients and second derivatives; also chooses the weights and directions."""
        leaves = [self.tensors[k] for k in self.leaves]
        outputs = self.function(self.tensors)
        self.weights = [self.draw(y) if y.requires_grad else None for y in outputs]
        second = any(t.dtype == torch.float64 for t in leaves)
        self.outputs = [y.detach() for y in outputs]
        self.gradients, self.second = self.derive(outputs, self.weights, leaves, second), None
        if second:
            self.directions = [self.draw(t) for t in leaves]
            try:
                self.second = self.derive(self.gradients, self.directions, leaves, False)
            except (RuntimeError, NotImplementedError) as problem:
                self.no_second, self.directions = str(problem), []
        self.gradients = [g.detach() for g in self.gradients]

    @staticmethod
    def derive(roots, weights, leaves, further):
        pairs = [(y, w) for y, w in zip(roots, weights) if w is not None and y.requires_grad]
        if not pairs or not leaves:
            return [torch.zeros_like(t) for t in leaves]
        grads = torch.autograd.grad(
            [y for y, _ in pairs],
            leaves,
            [w for _, w in pairs],
            allow_unused=True,
            create_graph=further,
            retain_graph=True,
        )
        return [torch.zeros_like(t) if g is None else g for g, t in zip(grads, leaves)]

    def exact(self):
        """The same case in f64."""

        def wide(t):
            return t.double() if t.dtype == torch.float32 else t

        other = Case(self.label, self.text, [], self.function)
        other.tensors = [wide(t.detach()).requires_grad_(t.requires_grad) for t in self.tensors]
        outputs = self.function(other.tensors)
        leaves = [other.tensors[k] for k in self.leaves]
        grads = self.derive(outputs, [None if w is None else wide(w) for w in self.weights], leaves, False)
        return [y.detach() for y in outputs], grads

    def as_numbers(self):
        """The outputs of the same case with all its whole numbers and masks in f64, which holds them."""
        try:
            return self.function([t.detach().double() for t in self.tensors])
        except RuntimeError:  # what takes whole numbers alone
            return self.outputs

    def line(self, give):
        """What replay.lua reads; `give` gives an array its number."""

        def place(t):
            return give(t.detach().contiguous().numpy())

        form = (
            "{ tensors = %s, leaves = %s, weights = %s, directions = %s, compile = %s, "
            "make = function(t) return %s end, call = function(t, made) return %s end }"
        )
        return form % (
            exchange.lua([place(t) for t in self.tensors]),
            exchange.lua([k + 1 for k in self.leaves]),
            exchange.lua([False if w is None else place(w) for w in self.weights]),
            exchange.lua([place(v) for v in self.directions]),
            exchange.lua(self.compile),
            self.make or "nil",
            self.text,
        )

    def compare(self, result, arrays, own_dtype=False):
        """The first difference as a sentence, or None.  With own_dtype nablua's outputs have another dtype, which holds
        the same numbers."""

        def mine(places):
            return [torch.from_numpy(arrays[k]) if k else None for k in places]

        if len(result["outputs"]) != len(self.outputs):
            return "%d outputs, PyTorch %d" % (len(result["outputs"]), len(self.outputs))
        parts = [
            ("output", mine(result["outputs"]), self.outputs),
            ("gradient", mine(result["gradients"]), self.gradients),
        ]
        if self.second is not None and "second" in result:
            parts.append(("second derivative", mine(result["second"]), self.second))
        if own_dtype:
            parts[0][2][:] = [b.to(a.dtype) for a, b in zip(parts[0][1], self.as_numbers())]
        exact = None
        for n, (name, ours, theirs) in enumerate(parts):
            for k, (a, b) in enumerate(zip(ours, theirs)):
                a = torch.zeros_like(b) if a is None else a
                problem = difference(a, b)
                if problem and a.dtype == b.dtype == torch.float32 and a.shape == b.shape and n < 2:
                    exact = exact or self.exact()
                    problem = problem if is_farther(a, b, exact[n][k]) else None
                if problem:
                    return "%s %d %s" % (name, k + 1, problem)
        return "compiled: " + result["compiled"] if "compiled" in result else None

    def describe(self):
        shapes = ["%s%s" % (str(t.dtype).replace("torch.", ""), list(t.shape)) for t in self.tensors]
        return "%s: %s; t = %s" % (self.label, self.text.replace("made", self.make or ""), ", ".join(shapes))


def is_farther(mine, theirs, exact):
    exact = exact.double()
    finite = torch.isfinite(exact) & torch.isfinite(theirs)
    if not torch.equal(torch.isfinite(mine) | ~finite, torch.ones_like(finite)):
        return True
    mine_off, theirs_off = (
        (x.double() - exact)[finite].abs().max().item() if finite.any() else 0 for x in (mine, theirs)
    )
    scale = max(exact[finite].abs().max().item() if finite.any() else 0, 1)
    return mine_off > max(10 * theirs_off, 8 * torch.finfo(torch.float32).eps * scale)


def difference(mine, theirs):
    if mine.shape != theirs.shape:
        return "has shape %s, PyTorch's %s" % (list(mine.shape), list(theirs.shape))
    if mine.dtype != theirs.dtype:
        return "is %s, PyTorch's %s" % (mine.dtype, theirs.dtype)
    rtol, atol = TOLERANCES.get(theirs.dtype, (0, 0))
    wrong = ~torch.isclose(mine, theirs, rtol=rtol, atol=atol, equal_nan=True)
    if not wrong.any():
        return None
    i = wrong.flatten().to(torch.uint8).argmax()
    return "is %r, PyTorch's %r, %d of %d differ" % (
        mine.flatten()[i].item(),
        theirs.flatten()[i].item(),
        wrong.sum(),
        wrong.numel(),
    )


def reason_of(table, text):
    return next((reason for pattern, reason in table if re.search(pattern, text, re.S)), None)


def judge(title, cases, skipped, tables, at_least):
    """Compares all, prints what differs and the totals; the exit status.  `tables` are lists of (pattern, reason): what
    nablua refuses, whose dtype differs, what else differs on purpose."""
    refusals, dtypes, deliberate = tables
    counts, shown, differ = collections.Counter(), collections.Counter(), 0
    accepted = collections.Counter()
    for case, result, arrays in exchange.replay(cases):
        refused = result.get("refused")
        own = reason_of(dtypes, case.label)
        problem = ("refused: " + refused) if refused else case.compare(result, arrays, own is not None)
        if refused and reason_of(refusals, refused):
            skipped["refused here: " + reason_of(refusals, refused)] += 1
            continue
        counts["cases"] += 1
        counts["gradients"] += bool(case.leaves)
        counts["second derivatives"] += case.second is not None and "second" in result
        counts["replayed"] += bool(result.get("replayed"))
        if "no_second" in result:
            accepted["no second derivative here: " + result["no_second"].splitlines()[0][:100]] += 1
        if problem is None:
            if own:
                accepted["other dtype, same numbers: " + own] += 1
            continue
        reason = reason_of(deliberate, case.label + " " + problem)
        if reason:
            accepted[reason] += 1
            continue
        differ += 1
        key = case.label.split(" ")[0]
        shown[key] += 1
        if shown[key] <= 3 or "NABLUA_PEERS_VERBOSE" in os.environ:
            print("%s: %s" % (case.describe(), problem))
    for what, table in (("skipped", skipped), ("accepted", accepted)):
        for rule, count in table.most_common():
            print("  %s %6d: %s" % (what, count, rule))
    print(
        "%s: PyTorch %s, %s; %d skipped by %d rules, %d accepted, %d differ"
        % (
            title,
            torch.__version__,
            ", ".join("%d %s" % (n, what) for what, n in counts.items()),
            sum(skipped.values()),
            len(skipped),
            sum(accepted.values()),
            differ,
        )
    )
    if counts["cases"] < at_least:
        print("%s: there should be at least %d cases" % (title, at_least))
        return 1
    return 1 if differ else 0
