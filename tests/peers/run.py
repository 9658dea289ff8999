# SPDX-License-Identifier: MIT
# Compares nablua with PyTorch: NAME.lua records calls, NAME.py says what each is called in PyTorch.  `nodes` compares
# it with ONNX.
#
#   run.py NAME [PATTERN [SEED]]
#
# The peer is taken from the Python that NABLUA_PEER_PYTHON names, else from the one that runs this; where it has none
# the test is skipped (77).  NAME.py defines `peers` (a dict from a call's name to a function of its arguments, or a
# function that finds one by name) and `at_least`, how many cases there must be; or `main`, which does all of it where
# the cases are PyTorch's.
# Of PyTorch's operators a seeded sample runs, all with NABLUA_PEERS=all; NABLUA_PEERS_VERBOSE=1 prints all that differ.
# All values and gradients must agree to 1e-5 (f32) and 1e-10 (f64), relative to the largest number of the tensor.
# Where terms cancel in f32, what counts is the distance to PyTorch's result in f64: it must be of the order of PyTorch's
# own in f32, or a few roundings of numbers around 1.
import importlib
import json
import math
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
OTHERS = {"nodes": ("ONNX", "onnx")}  # what is not compared with PyTorch
TOLERANCE = {"torch.float32": 1e-5, "torch.float64": 1e-10}


def find_peer(title, module):
    """Imports the peer here, or goes on in the Python that has it."""
    other = os.environ.get("NABLUA_PEER_PYTHON")
    if other and not os.environ.get("NABLUA_PEER_STARTED"):
        os.environ["NABLUA_PEER_STARTED"] = "1"
        os.execv(other, [other] + sys.argv)
    try:
        importlib.import_module("numpy")
        return importlib.import_module(module)
    except ImportError:
        print("skipped: %s has no %s; NABLUA_PEER_PYTHON may name a Python that has" % (sys.executable, title))
        sys.exit(77)


class Refused(Exception):
    """PyTorch does not take some empty tensors that nablua does."""


class Case:
    """One recorded call, repeated."""

    def __init__(self, record, tensors):
        self.record, self.tensors, self.leaves = record, tensors, []
        self.args = self.decode(record["args"])
        self.options = self.decode(record.get("options") or {})

    def decode(self, v):
        if isinstance(v, list):
            return [self.decode(x) for x in v]
        if not isinstance(v, dict):
            return int(v) if isinstance(v, float) and v.is_integer() else v
        if "tensor" not in v:
            return {key: self.decode(x) for key, x in v.items()}
        t = self.tensors[v["tensor"]].clone()
        if v.get("requires_grad"):
            t.requires_grad_(True)
            self.leaves.append((t, v["grad"]))
        return t

    def describe(self):
        def short(v):
            if isinstance(v, torch.Tensor):
                return "%s%s" % (str(v.dtype).replace("torch.", ""), list(v.shape))
            if isinstance(v, (list, tuple)):
                return "[" + ", ".join(short(x) for x in v) + "]"
            if isinstance(v, dict):
                return "{" + ", ".join("%s=%s" % (k, short(x)) for k, x in v.items()) + "}"
            return repr(v)
        return "%s(%s)" % (self.record["name"], ", ".join([short(a) for a in self.args] + ([short(self.options)] if self.options else [])))

    def is_empty(self):
        return any(t.numel() == 0 for t, _ in self.leaves)

    def run(self, function):
        """Raises AssertionError where the two differ; returns how many tensors were compared."""
        assert "problem" not in self.record, self.record["problem"]
        mine = [self.tensors[k] for k in self.record["outputs"]]
        mine += [self.tensors[grad] if grad else torch.zeros_like(t) for t, grad in self.leaves]
        theirs = self.results(function)
        names = ["output %d" % (k + 1) for k in range(len(self.record["outputs"]))]
        names += ["gradient %d" % (k + 1) for k in range(len(self.leaves))]
        exact = None
        for k, name in enumerate(names):
            problem = difference(mine[k], theirs[k])
            if problem and mine[k].dtype == torch.float32:
                exact = exact or Case(self.record, {n: t.double() if t.dtype == torch.float32 else t for n, t in self.tensors.items()}).results(function)
                mine_off, theirs_off = ((x[k].double() - exact[k]).abs().max().item() for x in (mine, theirs))
                if mine_off <= max(10 * theirs_off, 4 * torch.finfo(torch.float32).eps):
                    problem = None
            assert not problem, name + " " + problem
        return len(names)

    def results(self, function):
        """PyTorch's outputs, then its gradients."""
        try:
            outputs = function(*self.args, **self.options)
        except (RuntimeError, IndexError) as problem:
            if any(t.numel() == 0 for t, _ in self.leaves):
                raise Refused from problem
            raise
        outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
        expected = len(self.record["outputs"])
        assert len(outputs) == expected, "%d outputs against %d" % (expected, len(outputs))
        roots = [(y, self.tensors[w]) for y, w in zip(outputs, self.record["weights"]) if w and y.requires_grad]
        inputs = [t for t, _ in self.leaves]
        grads = [None] * len(inputs)
        if roots and inputs:
            grads = torch.autograd.grad([y for y, _ in roots], inputs, [w.to(y.dtype) for y, w in roots], allow_unused=True)
        return [y.detach() for y in outputs] + [torch.zeros_like(t) if g is None else g for g, t in zip(grads, inputs)]


def difference(mine, theirs):
    """None when the two agree, else what is wrong."""
    if mine.shape != theirs.shape:
        return "has shape %s, PyTorch's %s" % (list(mine.shape), list(theirs.shape))
    if mine.dtype != theirs.dtype:
        return "is %s, PyTorch's %s" % (mine.dtype, theirs.dtype)
    if mine.numel() == 0:
        return None
    a, b = mine.double(), theirs.double()
    finite = torch.isfinite(b)
    scale = b[finite].abs().max().item() if finite.any() else 0.0
    tolerance = TOLERANCE.get(str(mine.dtype), 0) * scale
    wrong = torch.where(finite, ~((a - b).abs() <= tolerance), ~((a == b) | (a.isnan() & b.isnan())))
    if not wrong.any():
        return None
    i = torch.where(wrong, (a - b).abs().nan_to_num(math.inf), torch.tensor(-1.0).double()).flatten().argmax()
    return "is %.9g, PyTorch's %.9g (largest %.3g), %d of %d differ" % (
        a.flatten()[i], b.flatten()[i], scale, wrong.sum(), wrong.numel())


def main(name, pattern="", seed="1"):
    module = importlib.import_module(name)
    if hasattr(module, "main"):
        sys.exit(module.main(pattern, seed))
    find = module.peers if callable(module.peers) else module.peers.get
    with tempfile.TemporaryDirectory() as folder:
        exchange.run_program(name + ".lua", folder, seed)
        with open(os.path.join(folder, "cases.json")) as file:
            records = json.load(file)
        arrays = exchange.read_arrays(os.path.join(folder, "tensors.safetensors"))
        tensors = {k: torch.from_numpy(a) for k, a in arrays.items()}
    failed, refused, compared, calls, shown = 0, 0, 0, {}, {}
    for record in records:
        if pattern not in record["name"]:
            continue
        calls[record["name"]] = calls.get(record["name"], 0) + 1
        case = Case(record, tensors)
        try:
            function = find(record["name"])
            assert function, "%s.py has no such call" % name
            compared += case.run(function)
        except Refused:
            refused += 1
        except Exception as problem:  # PyTorch's own complaints too
            failed += 1
            shown[record["name"]] = shown.get(record["name"], 0) + 1
            if shown[record["name"]] <= 3:
                print("%s: %s: %s" % (case.describe(), type(problem).__name__, problem))
    count = sum(calls.values()) - refused
    print("%s: %d calls in %d cases, %d tensors compared with PyTorch %s, %d cases differ; %d with empty tensors are none to PyTorch" % (
        name, len(calls), count, compared, torch.__version__, failed, refused))
    if not pattern and count < module.at_least:
        print("%s: there should be at least %d cases" % (name, module.at_least))
        failed += 1
    sys.exit(1 if failed else 0)


sys.path.insert(0, HERE)
torch = find_peer(*OTHERS.get(sys.argv[1], ("PyTorch", "torch")))
exchange = importlib.import_module("exchange")
if torch.__name__ == "torch":
    torch.set_num_threads(1)
if __name__ == "__main__":
    main(*sys.argv[1:])
