# SPDX-License-Identifier: MIT
# ONNX's own tests of its operators, done here: run.py nodes [PATTERN].
#
# Each test is one node with inputs and the outputs that ONNX wants.  The tables of nodes_math.py, nodes_shapes.py and
# nodes_layers.py say what the operator is called here, in one call or a few; what has no call is counted under its
# reason, and so are tests in dtypes that are not here.  Some nodes stand for a graph of others, which are tests, too:
# all of its nodes are done here, but for those that make sizes and axes.
#
# ONNX's tolerances must hold (1e-3, and 1e-7 for what is near 0), and what also agrees to 1e-5 of the largest number is
# counted.  Where terms cancel, roundings of the largest number are no difference: what is 0 here may be 2e-7 in ONNX's
# outputs.  Each case is repeated by nb.compile, as PyTorch's are.
import collections
import inspect
import os
import re
import warnings

import numpy
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

import exchange
import nodes_layers
import nodes_math
import nodes_shapes
from exchange import Skip
from nodes_words import SHORT
from wording import Call, T, needs

warnings.simplefilter("ignore")  # of tests that overflow on purpose

TABLE = {**nodes_math.TABLE, **nodes_shapes.TABLE, **nodes_layers.TABLE}
AT_LEAST = 0.6  # of the tests of a version must agree

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
    **dict.fromkeys("SequenceInsert SequenceLength SplitToSequence OptionalHasElement".split(), SEQUENCES),
    **dict.fromkeys("NonMaxSuppression RoiAlign DeformConv ImageDecoder".split(), DETECTION),
    **dict.fromkeys("ConvInteger MatMulInteger QLinearConv QLinearMatMul DynamicQuantizeLinear".split(), QUANTIZED),
    **{"ai.onnx.preview.training." + name: TRAINING for name in ("Adagrad", "Adam", "Momentum")},
    **dict.fromkeys(
        "LinearAttention TensorScatter ReverseSequence MelWeightMatrix ai.onnx.ml.TreeEnsemble".split(),
        ONLY_ONNX,
    ),
    "BitCast": "the bits of a tensor are not seen as another dtype",
    **dict.fromkeys(["Bernoulli", "RandomUniformLike"], "random numbers are drawn in another way"),
}


# What is refused on purpose, by the sentence.
REFUSALS = [
    (r"clamp: min must not exceed max", "two limits in the wrong order are a slip"),
    (r"am(ax|in): shape \S+ has no elements", "nothing has no largest element, as in PyTorch"),
]


class Case:
    """A node test, worded: `text` is Lua in which t[k] are the arrays."""

    def __init__(self, label, text, arrays, expected, tolerances):
        self.label, self.text, self.arrays = label, text, arrays
        self.expected, self.tolerances = expected, tolerances

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
    """The test's model, inputs and outputs; older versions keep them in files."""
    if test.model is not None:
        return test.model, *test.data_sets[0]
    model = onnx.load(os.path.join(test.model_dir, "model.onnx"))

    def read(form, infos):
        paths = [os.path.join(test.model_dir, "test_data_set_0", form % k) for k in range(len(infos))]
        is_tensor = [info.type.HasField("tensor_type") for info in infos]
        return [onnx.load_tensor(path) if fine else None for path, fine in zip(paths, is_tensor)]

    return model, read("input_%d.pb", model.graph.input), read("output_%d.pb", model.graph.output)


def as_array(v):
    if isinstance(v, onnx.TensorProto):
        needs(v.data_type in helper.get_all_tensor_dtypes(), "a dtype that is not here")
        v = numpy_helper.to_array(v)
    needs(v is not None and not isinstance(v, (list, dict)), SEQUENCES)
    v = numpy.asarray(v)
    needs(not v.dtype.fields, "a dtype that is not here: %s" % ", ".join(v.dtype.fields or ()))  # of older versions
    return v


def check_dtype(a):
    needs(a.dtype.kind not in "OU", STRINGS)
    needs(a.dtype.name in SHORT, "a dtype that is not here: %s" % a.dtype.name)


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


class Inner(T):
    """A tensor of a graph, which several nodes may take: nablua's has a name, and ONNX's value gives sizes and axes."""

    def __init__(self, name, value):
        super().__init__(0, value)
        self.name = name

    def __repr__(self):
        return self.name


def supported(x, text):
    """Whether the text needs the tensor, which then must have a dtype that is here."""
    if not re.search(r"\b%s(?!\d)" % re.escape("%s" % x), text):
        return False
    check_dtype(x.value)
    return True


def make_case(test, model, inputs, outputs):
    """The case of a test of one node, or of the graph that the node stands for."""
    nodes = model.graph.node
    if "_expanded" not in test.name:
        reason = MISSING.get(title(nodes[0]), "no reason is written for " + title(nodes[0]))
        needs(title(nodes[0]) in TABLE, reason)
    expected = [as_array(y) for y in outputs]
    for y in expected:
        check_dtype(y)
    given = {v.name: T(k + 1, as_array(x)) for k, (v, x) in enumerate(zip(model.graph.input, inputs))}
    if "_expanded" in test.name:
        made = graph_of(model, {name: Inner("%s" % x, x.value) for name, x in given.items()})
    else:
        made = worded(nodes[0], [given[name] if name else None for name in nodes[0].input])
        expected = made.change(expected) if made.change else expected
    nothing = numpy.zeros(0, numpy.float32)  # stands for what is no tensor here, but numbers in the text
    arrays = [x.value if supported(x, made) else nothing for x in given.values()]
    return Case(test.name[5:], made, arrays, expected, (test.rtol, test.atol))


def graph_of(model, known):
    """All nodes in their order, but for those whose numbers stand in the text: of constants, sizes and axes."""
    try:
        values = ReferenceEvaluator(model).run(None, {k: x.value for k, x in known.items()}, intermediate=True)
    except Exception as problem:  # a fault of its own, which may be of any kind
        raise Skip("what ONNX's own evaluator does not compute") from problem
    lines = []
    for node in model.graph.node:
        numbers = {}
        for name in filter(None, node.output):
            numbers[name] = known[name] = Inner("v[%d]" % len(known), as_array(values[name]))
        try:
            made = worded(node, [known[name] if name else None for name in node.input])
        except Skip as reason:
            made = reason
            made.operator = title(node)
        lines.append((list(numbers.values()), made))
    text = "return " + ", ".join("%s" % known[v.name] for v in model.graph.output)
    for results, made in reversed(lines):
        if any(supported(x, text) for x in results):
            if isinstance(made, Skip):
                raise made
            text = "%s = %s %s %s" % (", ".join(map(str, results)), made, counted_from_zero(made, results), text)
    return Call("(function() local v = {} %s end)()" % text)


def counted_from_zero(made, results):
    if not made.change:
        return ""
    needs(hasattr(made.change, "which"), "places that are counted in another way")
    return " ".join("%s = %s - 1" % (results[k], results[k]) for k in made.change.which if k < len(results))


def judge(title_of_tests, tests):
    """Compares all, prints what differs and why others are none; how many agree and differ."""
    cases, skipped = [], collections.defaultdict(collections.Counter)
    counts, shown, refused = collections.Counter(), collections.Counter(), collections.Counter()
    names = {}
    for test in tests:
        model, inputs, outputs = loaded(test)
        name = names[test.name[5:]] = title(model.graph.node[0])
        try:
            cases.append(make_case(test, model, inputs, outputs))
        except Skip as reason:
            skipped[str(reason)][getattr(reason, "operator", name)] += 1
    for case, result, arrays in exchange.replay(cases):
        problem, close = case.compare(result, arrays)
        reason = next((reason for sentence, reason in REFUSALS if re.search(sentence, problem or "")), None)
        counts["agree"] += problem is None
        counts["close"] += problem is None and close
        counts["replayed"] += problem is None and bool(result.get("replayed"))
        if reason:
            refused[reason] += 1
        elif problem:
            counts["differ"] += 1
            shown[names[case.label]] += 1
            if shown[names[case.label]] <= 3 or "NABLUA_PEERS_VERBOSE" in os.environ:
                print("%s: %s" % (case.describe(), problem))
    for reason, count in refused.most_common():
        print("  refused    %4d: %s" % (count, reason))
    for reason, of in sorted(skipped.items(), key=lambda pair: -sum(pair[1].values())):
        which = ", ".join("%s %d" % pair for pair in sorted(of.items()))
        print("  not mapped %4d: %s (%s)" % (sum(of.values()), reason, which))
    print(
        "nodes: ONNX %s, %d of %d %s mapped (%d in several lines), "
        "%d agree (%d to 1e-5, %d replayed by nb.compile), %d differ, %d refused"
        % (
            onnx.__version__,
            len(cases),
            len(tests),
            title_of_tests,
            sum("(function() local" in case.text for case in cases),
            counts["agree"],
            counts["close"],
            counts["replayed"],
            counts["differ"],
            sum(refused.values()),
        )
    )
    return counts


def main(pattern, seed):
    tests = [test for test in load_model_tests(kind="node") if pattern in test.name]
    status = 0
    for what, is_graph in (("node tests", False), ("graphs that nodes stand for", True)):
        chosen = [test for test in tests if ("_expanded" in test.name) == is_graph]
        counts = judge(what, chosen)
        if not pattern:
            print("figure: %d of %d of ONNX's %s agree" % (counts["agree"], len(chosen), what))
        if not pattern and counts["agree"] < AT_LEAST * len(chosen):
            print("nodes: at least %d %s should agree" % (AT_LEAST * len(chosen), what))
            status = 1
        status = 1 if counts["differ"] else status
    return status
