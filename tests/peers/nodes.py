# SPDX-License-Identifier: MIT
# ONNX's own tests of its operators, done here: run.py nodes [PATTERN].
#
# Each test is one node with inputs and the outputs that ONNX wants.  The tables of nodes_math.py, nodes_shapes.py and
# nodes_layers.py say what the operator is called here, in one call or a few; what has no call is counted under its
# reason, and so are tests in dtypes that are not here.  ONNX's tolerances must hold (1e-3, and 1e-7 for what is near 0),
# and what also agrees to 1e-5 of the largest number is counted.  Where terms cancel, roundings of the largest number are
# no difference: what is 0 here may be 2e-7 in ONNX's outputs.  Each case is repeated by nb.compile, as PyTorch's are.
import collections
import inspect
import os
import re
import warnings

import numpy
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

import exchange
import nodes_layers
import nodes_math
import nodes_shapes
from exchange import Skip
from nodes_words import SHORT
from wording import T, needs

warnings.simplefilter("ignore")  # of tests that overflow on purpose

TABLE = {**nodes_math.TABLE, **nodes_shapes.TABLE, **nodes_layers.TABLE}
AT_LEAST = 800  # tests that agree

# What has no call here, by operator.
GRAPHS = "a graph inside of the node, which a program in Lua writes as a loop or an if"
STRINGS = "texts are no tensors"
SEQUENCES = "sequences and optionals are tables of Lua and nil"
DETECTION = "boxes and pictures: PyTorch has it in torchvision"
QUANTIZED = "products of numbers of 8 bits"
TRAINING = "a step of an optimizer as an operator; its weight decay and falling rate are other formulas than nb.optim's"
ONLY_ONNX = "PyTorch has no such function"
MISSING = {
    **dict.fromkeys(["If", "Loop", "Scan", "SequenceMap"], GRAPHS),
    **dict.fromkeys(
        "StringConcat StringSplit StringNormalizer RegexFullMatch TfIdfVectorizer ai.onnx.ml.LabelEncoder".split(),
        STRINGS,
    ),
    **dict.fromkeys("SequenceInsert SplitToSequence OptionalHasElement".split(), SEQUENCES),
    **dict.fromkeys("NonMaxSuppression RoiAlign DeformConv ImageDecoder".split(), DETECTION),
    **dict.fromkeys("ConvInteger MatMulInteger QLinearConv QLinearMatMul DynamicQuantizeLinear".split(), QUANTIZED),
    **{"ai.onnx.preview.training." + name: TRAINING for name in ("Adagrad", "Adam", "Momentum")},
    **dict.fromkeys(
        "LinearAttention TensorScatter ReverseSequence MelWeightMatrix ai.onnx.ml.TreeEnsemble".split(),
        ONLY_ONNX,
    ),
    "BitCast": "the bits of a tensor are not seen as another dtype",
    "Bernoulli": "random numbers are drawn in another way",
}


# What is refused on purpose, by the sentence.
REFUSALS = [
    (r"clamp: min must not exceed max", "two limits in the wrong order are a slip"),
    (r"am(ax|in): shape \S+ has no elements", "nothing has no largest element, as in PyTorch"),
]


class Case:
    """A node test, worded: `text` is Lua in which t[k] are the arrays."""

    def __init__(self, label, text, arrays, expected):
        self.label, self.text, self.arrays, self.expected = label, text, arrays, expected

    def line(self, place):
        form = (
            "{ tensors = %s, leaves = {}, weights = {}, directions = {}, compile = true, rounding = 1e-6, "
            "make = function() end, call = function(t) return %s end }"
        )
        return form % (exchange.lua([place(a) for a in self.arrays]), self.text)

    def describe(self):
        shapes = ["%s%s" % (a.dtype, list(a.shape)) for a in self.arrays]
        return "%s: %s; t = %s" % (self.label, self.text, ", ".join(shapes))

    def compare(self, result, arrays):
        """The first difference as a sentence, or None; then whether all agree closely."""
        if "refused" in result:
            return "refused: " + result["refused"], False
        if len(result["outputs"]) != len(self.expected):
            return "%d outputs, ONNX %d" % (len(result["outputs"]), len(self.expected)), False
        close = True
        for k, theirs in enumerate(self.expected):
            problem, near = difference(arrays[result["outputs"][k]], theirs, self.tolerances)
            if problem:
                return "output %d %s" % (k + 1, problem), False
            close = close and near
        return "compiled: " + result["compiled"] if "compiled" in result else None, close


def difference(mine, theirs, tolerances):
    if mine.shape != theirs.shape:
        return "has shape %s, ONNX's %s" % (list(mine.shape), list(theirs.shape)), False
    if mine.dtype != theirs.dtype:
        return "is %s, ONNX's %s" % (mine.dtype, theirs.dtype), False
    if mine.dtype.kind != "f":
        wrong, near = mine != theirs, True
    else:
        rtol, atol = tolerances
        finite = numpy.isfinite(theirs)
        scale = abs(theirs[finite]).max() if finite.any() else 0
        roundings = 4 * numpy.finfo(mine.dtype).eps * scale
        wrong = ~numpy.isclose(mine, theirs, rtol=rtol, atol=max(atol, roundings), equal_nan=True)
        near = bool((abs(mine - theirs)[finite] <= 1e-5 * scale).all())
    if not wrong.any():
        return None, near
    i = wrong.reshape(-1).argmax()
    values = (mine.reshape(-1)[i].item(), theirs.reshape(-1)[i].item())
    return "is %r, ONNX's %r, %d of %d differ" % (*values, wrong.sum(), wrong.size), False


def loaded(test):
    """The test's model, inputs and outputs; versions before 1.20 keep them in files."""
    if test.model is not None:
        return test.model, *test.data_sets[0]
    folder = os.path.join(test.model_dir, "test_data_set_0")

    def read(name):
        count = len([file for file in os.listdir(folder) if file.startswith(name)])
        return [onnx.load_tensor(os.path.join(folder, "%s_%d.pb" % (name, k))) for k in range(count)]

    return onnx.load(os.path.join(test.model_dir, "model.onnx")), read("input"), read("output")


def as_array(v):
    if isinstance(v, onnx.TensorProto):
        needs(v.data_type in helper.get_all_tensor_dtypes(), "a dtype that is not here")
        v = numpy_helper.to_array(v)
    needs(v is not None and not isinstance(v, (list, dict)), SEQUENCES)
    return numpy.asarray(v)


def attribute(a):
    v = helper.get_attribute_value(a)
    if isinstance(v, bytes):
        return v.decode()
    return numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v


def title(node):
    return (node.domain + "." if node.domain else "") + node.op_type


def worded(node, inputs):
    """The Call of a node; Skip with the reason where there is none."""
    name = title(node)
    if name not in TABLE:
        raise Skip(MISSING.get(name, "no reason is written for " + name))
    make, options = TABLE[name], {a.name: attribute(a) for a in node.attribute}
    wanted = [k for k, output in enumerate(node.output) if output]
    if "outputs" in inspect.signature(make).parameters:
        options["outputs"] = wanted
    try:
        made = make(*inputs, **options)
    except TypeError as problem:
        raise Skip("an input or attribute that the table does not know: %s" % problem) from problem
    if wanted == [0]:
        return wrapped("(%s)" % made, made)
    picked = ", ".join("(select(%d, ...))" % (k + 1) for k in wanted)
    return wrapped("(function(...) return %s end)(%s)" % (picked, made), made)


def wrapped(text, made):
    other = type(made)(text)
    other.change = made.change
    return other


def make_case(test):
    model, inputs, outputs = loaded(test)
    node = model.graph.node[0]
    needs(title(node) in TABLE, MISSING.get(title(node)) or "no reason is written for " + title(node))
    given = dict(zip((v.name for v in model.graph.input), inputs))
    placed = []
    for name in node.input:
        placed.append(T(len(placed) + 1, as_array(given[name])) if name else None)
    expected = [as_array(y) for y in outputs]
    for y in expected:
        needs(y.dtype.name in SHORT, "a dtype that is not here: %s" % y.dtype.name)
    made = worded(node, placed)
    if made.change:
        expected = made.change(expected)
    used = set(re.findall(r"\bt\[(\d+)\]", made))
    for x in placed:
        if x is not None:
            needs(
                str(x.place) not in used or x.value.dtype.name in SHORT,
                "a dtype that is not here: %s" % x.value.dtype.name,
            )
            if str(x.place) not in used:  # its numbers stand in the text
                x.value = numpy.zeros(0, numpy.float32)
    case = Case(
        test.name[5:], made, [numpy.zeros(0, numpy.float32) if x is None else x.value for x in placed], expected
    )
    case.tolerances = (test.rtol, test.atol)
    return title(node), case


def main(pattern, seed):
    tests = [test for test in load_model_tests(kind="node") if pattern in test.name]
    plain = [test for test in tests if "_expanded" not in test.name]
    cases, names, skipped = [], {}, collections.Counter()
    missing = collections.defaultdict(collections.Counter)
    for test in plain:
        try:
            name, case = make_case(test)
            cases.append(case)
            names[case.label] = name
        except Skip as reason:
            skipped[str(reason)] += 1
            missing[str(reason)][title(loaded(test)[0].graph.node[0])] += 1
    counts, shown, refused = collections.Counter(), collections.Counter(), collections.Counter()
    for case, result, arrays in exchange.replay(cases):
        problem, close = case.compare(result, arrays)
        reason = next((reason for sentence, reason in REFUSALS if re.search(sentence, problem or "")), None)
        if reason:
            counts["refused"] += 1
            refused[reason] += 1
            continue
        if problem is None:
            counts["agree"] += 1
            counts["close"] += close
            counts["replayed"] += bool(result.get("replayed"))
            continue
        counts["differ"] += 1
        shown[names[case.label]] += 1
        if shown[names[case.label]] <= 3 or "NABLUA_PEERS_VERBOSE" in os.environ:
            print("%s: %s" % (case.describe(), problem))
    for reason, count in refused.most_common():
        print("  refused    %4d: %s" % (count, reason))
    for reason, count in skipped.most_common():
        which = ", ".join("%s %d" % pair for pair in sorted(missing[reason].items()))
        print("  not mapped %4d: %s (%s)" % (count, reason, which))
    print(
        "nodes: ONNX %s, %d of %d node tests mapped, %d agree (%d of them to 1e-5, %d replayed by nb.compile), %d differ, %d refused"
        % (
            onnx.__version__,
            len(cases),
            len(plain),
            counts["agree"],
            counts["close"],
            counts["replayed"],
            counts["differ"],
            counts["refused"],
        )
    )
    if not pattern and counts["agree"] < AT_LEAST:
        print("nodes: at least %d should agree" % AT_LEAST)
        return 1
    return 1 if counts["differ"] else 0
