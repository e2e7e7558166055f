"""A fitted model as one ONNX graph, with the scores it has in the lab.

    converted = to_onnx(model)                            # raw columns in, calibrated probabilities out
    running = session(converted.SerializeToString())      # or session("model.onnx")
    scores(running, model.schema, frame)                  # shape (n,)
    parity(model, frame)                                  # the largest difference to model.predict_proba

The graph has one input a schema column, named as the column and of shape (n, 1): numbers FLOAT, missing as NaN;
categories STRING, missing as `(missing)`; so exactly what `Schema.encode` returns. Its one output, `probability`,
is DOUBLE of shape (n, 2), like `predict_proba`.

Steps that must not differ in the last digit, at a tree's threshold or for an unseen category, are converted here,
in double precision wherever scikit-learn and LightGBM compute in it; every other estimator goes through skl2onnx,
in single precision. To add one, write a function like `_logistic` and enter it in `_CONVERTERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxlab.errors import ParamsError
from cxlab.release.scorer import run, session
from cxlab.release.sequence_scorer import TREES_IN, TREES_OUT

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    import pandas as pd
    from lightgbm import LGBMClassifier

    from cxlab.data.schema import Schema
    from cxlab.models.task import Model

OPSETS = {"": 15, "ai.onnx.ml": 3}
IR_VERSION = 8  # the first that is read wherever opset 15 is
OUTPUT = "probability"
DOUBLE, FLOAT = 11, 1  # as onnx.TensorProto numbers them


class Graph:
    """Nodes and constants in the making. Values are known by name."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._taken = set(taken)

    def free(self, hint: str) -> str:
        """A name that no column and no other value has."""
        name, number = hint, 1
        while name in self._taken:
            name, number = f"{hint}_{number}", number + 1
        self._taken.add(name)
        return name

    def __call__(self, op: str, *inputs: str | float | np.ndarray, domain: str = "", **attributes: Any) -> str:
        """Adds a node and names its first output; numbers and arrays become constants."""
        from onnx import helper

        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        output = self.free(op)
        self.nodes.append(helper.make_node(op, names, [output], name=output, domain=domain, **attributes))
        return output

    def _constant(self, value: float | np.ndarray) -> str:
        from onnx import numpy_helper

        name = self.free("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def joined(self, values: Iterable[str], to: int = DOUBLE) -> str:
        """Numbers side by side, in the asked precision."""
        parts = [self("Cast", value, to=to) for value in values]
        return parts[0] if len(parts) == 1 else self("Concat", *parts, axis=1)


Inputs = Mapping[str, str]  # column name, or "" for a whole matrix, to the value in the graph
Converter = Callable[[Graph, Any, Inputs], str]


def to_onnx(model: Model) -> onnx.ModelProto:
    """Converts a model: its members, their weighted mean and its calibration.

    Raises:
        ParamsError: A step of the model has no conversion.
    """
    from onnx import TensorProto, checker, helper

    kinds = {"number": TensorProto.FLOAT, "category": TensorProto.STRING}
    inputs = [helper.make_tensor_value_info(c.name, kinds[c.kind], ["rows", 1]) for c in model.schema.columns]
    graph = Graph(model.schema.names)
    output = graph.free(OUTPUT)
    columns = {name: name for name in model.schema.names}
    shares = [
        graph("Mul", _convert(graph, member, columns), weight)
        for weight, member in zip(model.weights, model.members, strict=True)
    ]
    positive = shares[0] if len(shares) == 1 else graph("Sum", *shares)
    positive = _calibrated(graph, model.calibrator, positive)
    both = graph("Concat", graph("Sub", 1.0, positive), positive, axis=1)
    graph.nodes.append(helper.make_node("Identity", [both], [output], name=output))
    outputs = [helper.make_tensor_value_info(output, TensorProto.DOUBLE, ["rows", 2])]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "model", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
        ir_version=IR_VERSION,
        producer_name="cxlab",
    )
    checker.check_model(proto, full_check=True)
    return proto


def scores(running: onnxruntime.InferenceSession, schema: Schema, frame: pd.DataFrame) -> np.ndarray:
    """Probabilities of the positive class for raw rows, shape (n,).

    Raises:
        DataError: A column is not there.
    """
    return run(running, schema.cast(frame))


def parity(model: Model, frame: pd.DataFrame, converted: onnx.ModelProto | str | Path | None = None) -> float:
    """The largest absolute difference between a model and its ONNX graph.

    Args:
        model: As trained.
        frame: Raw rows, at least one.
        converted: The graph or its file; converted anew if None.
    Returns:
        A difference in probability; infinite where one of the two has no number.
    """
    ours = model.predict_proba(frame)[:, 1]
    converted = to_onnx(model) if converted is None else converted
    source = converted if isinstance(converted, str | Path) else converted.SerializeToString()
    theirs = scores(session(source), model.schema, frame)
    difference = np.abs(ours - theirs)
    return float(np.where(np.isnan(difference), np.inf, difference).max())


def _convert(graph: Graph, step: Any, inputs: Inputs) -> str:
    """A fitted step: DOUBLE (n, k) of a transformer; of a classifier the positive probability, DOUBLE (n, 1)."""
    name = f"{type(step).__module__.split('.')[0]}.{type(step).__name__}"
    return _CONVERTERS.get(name, _by_skl2onnx)(graph, step, inputs)


def _pipeline(graph: Graph, step: Any, inputs: Inputs) -> str:
    for _, each in step.steps[:-1]:
        inputs = {"": _convert(graph, each, inputs)}
    return _convert(graph, step.steps[-1][1], inputs)


def _column_transformer(graph: Graph, step: Any, inputs: Inputs) -> str:
    blocks = [
        _convert(graph, each, {name: inputs[name] for name in names})
        for _, each, names in step.transformers_
        if not (isinstance(each, str) and each == "drop") and len(names)
    ]
    return graph.joined(blocks)


def _passthrough(graph: Graph, step: Any, inputs: Inputs) -> str:
    if getattr(step, "func", None) is not None:
        raise ParamsError("A FunctionTransformer with a function can't be converted to ONNX. Write a transformer.")
    return graph.joined(inputs.values())


def _hinges(graph: Graph, step: Any, inputs: Inputs) -> str:
    """In single precision, as `HingeBasis` computes."""
    x = graph.joined(inputs.values(), to=FLOAT)
    missing = graph("IsNaN", x)
    filled = graph("Where", missing, step.fill_[None, :], x)
    filled = graph("Min", graph("Max", filled, step.low_[None, :]), step.high_[None, :])
    above = graph("Sub", graph("Gather", filled, step.source_, axis=1), step.knot_[None, :])
    hinges = graph("Div", graph("Relu", above), step.scale_[None, :])
    flags = graph("Gather", missing, step.indicator_.astype(np.int64), axis=1)
    return graph.joined([hinges, flags])


def _one_hot(graph: Graph, step: Any, inputs: Inputs) -> str:
    """Columns in scikit-learn's order: frequent levels, then one for rare and unseen ones where there are rare ones."""
    if step.drop is not None or step.handle_unknown != "infrequent_if_exist":
        raise ParamsError(
            f"OneHotEncoder(drop={step.drop!r}, handle_unknown={step.handle_unknown!r}) has no conversion to ONNX. "
            "Use drop=None and handle_unknown='infrequent_if_exist'."
        )
    blocks = []
    for value, levels, rare in zip(inputs.values(), step.categories_, step.infrequent_categories_, strict=True):
        aside = set() if rare is None else set(rare)
        frequent = [level for level in levels if level not in aside]
        place = {level: position for position, level in enumerate(frequent)}
        other = -1 if rare is None else len(frequent)
        code = _looked_up(graph, value, levels, [place.get(level, other) for level in levels], other)
        width = len(frequent) + (rare is not None)
        blocks.append(graph("Equal", code, np.arange(width)[None, :]))
    return graph.joined(blocks)


def _target_rates(graph: Graph, step: Any, inputs: Inputs) -> str:
    if step.target_type_ != "binary":
        raise ParamsError(f"TargetEncoder: target_type_ == {step.target_type_!r}, must be 'binary' to convert to ONNX.")
    blocks = []
    for value, levels, rates in zip(inputs.values(), step.categories_, step.encodings_, strict=True):
        code = _looked_up(graph, value, levels, range(len(levels)), len(levels))
        blocks.append(graph("Gather", np.append(rates, step.target_mean_), graph("Squeeze", code, np.array([1]))))
    return graph.joined(graph("Unsqueeze", block, np.array([1])) for block in blocks)


def _looked_up(graph: Graph, value: str, levels: Iterable[str], codes: Iterable[int], other: int) -> str:
    """Texts to whole numbers, shape (n, 1); `other` for texts that are not among the levels."""
    return graph(
        "LabelEncoder",
        value,
        domain="ai.onnx.ml",
        keys_strings=[str(level) for level in levels],
        values_int64s=[int(code) for code in codes],
        default_int64=int(other),
    )


def _scaler(graph: Graph, step: Any, inputs: Inputs) -> str:
    x = graph.joined(inputs.values())
    x = x if step.mean_ is None else graph("Sub", x, step.mean_[None, :])
    return x if step.scale_ is None else graph("Div", x, step.scale_[None, :])


def _dummy(graph: Graph, step: Any, inputs: Inputs) -> str:
    if step.strategy != "prior":
        raise ParamsError(f"DummyClassifier: strategy == {step.strategy!r}, must be 'prior' to convert to ONNX.")
    rows = graph("Slice", graph("Shape", next(iter(inputs.values()))), np.array([0]), np.array([1]))
    shape = graph("Concat", rows, np.array([1]), axis=0)
    return graph("Expand", np.array([[step.class_prior_[1]]], np.float64), shape)


def _logistic(graph: Graph, step: Any, inputs: Inputs) -> str:
    _check_binary(step)
    x = graph.joined(inputs.values())
    line = graph("MatMul", x, step.coef_.T.astype(np.float64))
    return graph("Sigmoid", graph("Add", line, step.intercept_[None, :].astype(np.float64)))


def _lightgbm(graph: Graph, step: Any, inputs: Inputs) -> str:
    return graph("Sigmoid", _margins(graph, [step], graph.joined(inputs.values())))


def _bagging(graph: Graph, step: Any, inputs: Inputs) -> str:
    """The mean over the bags; boosted ones become one tree ensemble with a margin for each bag."""
    _check_binary(step)
    x = graph.joined(inputs.values())
    everything = np.arange(step.n_features_in_)
    whole = all(np.array_equal(features, everything) for features in step.estimators_features_)
    if whole and all(type(bag).__name__ == "LGBMClassifier" for bag in step.estimators_):
        bags = graph("Sigmoid", _margins(graph, step.estimators_, x))
    else:
        bags = graph.joined(
            _convert(graph, bag, {"": graph("Gather", x, np.asarray(features, np.int64), axis=1)})
            for bag, features in zip(step.estimators_, step.estimators_features_, strict=True)
        )
    return graph("ReduceMean", bags, axes=[1], keepdims=1)


def _margins(graph: Graph, boosted: Sequence[Any], x: str) -> str:
    """Sums of boosted trees before the sigmoid, DOUBLE (n, models). Thresholds stay double, so no split moves."""
    ensemble = []
    for target, model in enumerate(boosted):
        _check_binary(model)
        ensemble += [(target, info["tree_structure"]) for info in model.booster_.dump_model()["tree_info"]]
    return graph.joined([_ensemble(graph, ensemble, len(boosted), x)])


def _ensemble(graph: Graph, trees: Iterable[tuple[int, Mapping[str, Any]]], targets: int, x: str) -> str:
    """LightGBM's trees, each with the target that its leaves add to: DOUBLE (n, targets)."""
    from onnx import numpy_helper

    nodes: list[tuple[int, int, int, str, float, int, int, int]] = []
    leaves: list[tuple[int, int, int, float]] = []
    for number, (target, root) in enumerate(trees):
        _add_tree(nodes, leaves, number, target, root)
    tree, node, feature, mode, threshold, yes, no, missing = zip(*nodes, strict=True)
    leaf_tree, leaf, target_id, weight = zip(*leaves, strict=True)
    return graph(
        "TreeEnsembleRegressor",
        x,
        domain="ai.onnx.ml",
        aggregate_function="SUM",
        n_targets=targets,
        nodes_treeids=tree,
        nodes_nodeids=node,
        nodes_featureids=feature,
        nodes_modes=mode,
        nodes_values_as_tensor=numpy_helper.from_array(np.array(threshold, np.float64), "thresholds"),
        nodes_truenodeids=yes,
        nodes_falsenodeids=no,
        nodes_missing_value_tracks_true=missing,
        target_treeids=leaf_tree,
        target_nodeids=leaf,
        target_ids=target_id,
        target_weights_as_tensor=numpy_helper.from_array(np.array(weight, np.float64), "weights"),
    )


def trees_onnx(model: LGBMClassifier) -> bytes:
    """LightGBM's trees as a graph: `x`, FLOAT (n, columns), to `margins`, DOUBLE (n, 1), or (n, k) of k > 2 classes.

    Thresholds stay double, so no split moves. Of two classes the margin is the second's log-odds; of more, softmax of
    the margins is the probability.
    """
    from onnx import TensorProto, checker, helper

    k = 1 if len(model.classes_) == 2 else len(model.classes_)
    infos = model.booster_.dump_model()["tree_info"]
    graph = Graph([TREES_IN, TREES_OUT])
    x = graph("Cast", TREES_IN, to=DOUBLE)
    made = _ensemble(graph, [(place % k, info["tree_structure"]) for place, info in enumerate(infos)], k, x)
    graph.nodes.append(helper.make_node("Cast", [made], [TREES_OUT], name=TREES_OUT, to=DOUBLE))
    takes = helper.make_tensor_value_info(TREES_IN, TensorProto.FLOAT, ["rows", model.n_features_in_])
    gives = helper.make_tensor_value_info(TREES_OUT, TensorProto.DOUBLE, ["rows", k])
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "trees", [takes], [gives], graph.constants),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
        ir_version=IR_VERSION,
        producer_name="cxlab",
    )
    checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def _add_tree(nodes: list[Any], leaves: list[Any], tree: int, target: int, root: Mapping[str, Any]) -> None:
    """One of LightGBM's trees, its nodes numbered as they are met."""
    waiting, count = [(0, root)], 1
    while waiting:
        number, node = waiting.pop()
        if "leaf_value" in node:
            nodes.append((tree, number, 0, "LEAF", 0.0, 0, 0, 0))
            leaves.append((tree, number, target, node["leaf_value"]))
            continue
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
            raise ParamsError(
                f"LightGBM split {node['decision_type']!r} with missing_type {node['missing_type']!r} has no "
                "conversion to ONNX. Encode categories before LightGBM, and leave zero_as_missing off."
            )
        # Where training saw nothing missing, LightGBM reads a missing value as 0.
        left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0
        branch = ("BRANCH_LEQ", node["threshold"], count, count + 1, int(left))
        nodes.append((tree, number, node["split_feature"], *branch))
        waiting += [(count, node["left_child"]), (count + 1, node["right_child"])]
        count += 2


def _check_binary(step: Any) -> None:
    if list(step.classes_) != [0, 1]:
        raise ParamsError(f"{type(step).__name__} learnt the classes {list(step.classes_)}, must be [0, 1] for ONNX.")


def _calibrated(graph: Graph, calibrator: Any, positive: str) -> str:
    from cxlab.models.calibration import EPSILON, BetaCalibration, NoCalibration

    if isinstance(calibrator, NoCalibration):
        return positive
    if not isinstance(calibrator, BetaCalibration):
        raise ParamsError(f"{type(calibrator).__name__} has no conversion to ONNX. Use BetaCalibration.")
    p = graph("Clip", positive, EPSILON, 1 - EPSILON)
    up = graph("Mul", graph("Log", p), calibrator.a_)
    down = graph("Mul", graph("Log", graph("Sub", 1.0, p)), calibrator.b_)
    return graph("Sigmoid", graph("Add", graph("Sub", up, down), calibrator.c_))


def _by_skl2onnx(graph: Graph, step: Any, inputs: Inputs) -> str:
    """Any other estimator on numbers, in single precision."""
    from onnx import compose
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    options = {id(step): {"zipmap": False}} if hasattr(step, "predict_proba") else None
    kind = [("x", FloatTensorType([None, step.n_features_in_]))]
    try:
        part = convert_sklearn(step, initial_types=kind, target_opset=OPSETS, options=options).graph
    except (MissingConverter, MissingShapeCalculator):
        raise ParamsError(
            f"{type(step).__name__} has no conversion to ONNX, so it can't leave the lab. "
            "Write one in cxlab/release/onnx.py, or use another estimator."
        ) from None
    prefix = graph.free(type(step).__name__) + "/"
    part = compose.add_prefix_graph(part, prefix)
    x = graph.joined(inputs.values(), to=FLOAT)
    graph.nodes += [_renamed(node, part.input[0].name, x) for node in part.node]
    graph.constants += part.initializer
    result = graph.joined([part.output[-1].name])
    return graph("Gather", result, np.array([1]), axis=1) if options else result


def _renamed(node: Any, old: str, new: str) -> Any:
    for position, name in enumerate(node.input):
        if name == old:
            node.input[position] = new
    return node


_CONVERTERS: dict[str, Converter] = {
    "cxlab.HingeBasis": _hinges,
    "lightgbm.LGBMClassifier": _lightgbm,
    "sklearn.BaggingClassifier": _bagging,
    "sklearn.ColumnTransformer": _column_transformer,
    "sklearn.DummyClassifier": _dummy,
    "sklearn.FunctionTransformer": _passthrough,
    "sklearn.LogisticRegression": _logistic,
    "sklearn.OneHotEncoder": _one_hot,
    "sklearn.Pipeline": _pipeline,
    "sklearn.StandardScaler": _scaler,
    "sklearn.TargetEncoder": _target_rates,
}
