"""The nets of `cxlab.models.sequence_nets` as ONNX graphs, built from their weights, and what runs them.

    content = graph_bytes(net)                      # of a fitted SequenceNet
    SequenceGraph(content).logits(levels, numbers)  # float32 of shape (cases, events, k)

A graph has the inputs `levels`, INT64 of shape (cases, events, columns), and `numbers`, FLOAT of shape (cases, events,
numbers), and one output, `logits`, FLOAT of shape (cases, events, k). What is said at an event depends on it and on
those before it alone, so shorter cases are filled up behind their end with anything. Same weights, same bytes.

Source: Cho et al. (2014), Learning phrase representations using RNN encoder-decoder, section 2.3, in the form whose
reset gate comes after the product; Vaswani et al. (2017), Attention is all you need, with the norm before each part
(Xiong et al. 2020, On layer normalization in the transformer architecture) and, instead of places, a learned bias by
distance (Raffel et al. 2020, Exploring the limits of transfer learning with T5, section 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from cxlab.errors import DataError
from cxlab.features.text_graph import graph_errors

if TYPE_CHECKING:
    from cxlab.models.sequence_nets import SequenceNet

LEVELS, NUMBERS, LOGITS = "levels", "numbers", "logits"
OPSET = 17  # the first with LayerNormalization
IR_VERSION = 8  # the first that is read wherever opset 17 is
EPSILON = 1e-5  # of a layer norm, as torch has it
EXACT = 32  # distances that have a bias of their own; beyond, two and more share one
BUCKETS = 40
_FLOAT = 1  # as onnx.TensorProto numbers it
_MASKED = -10_000.0  # added to an attention score, it leaves a weight of exactly 0 in single precision

Weights = Mapping[str, np.ndarray]


class SequenceGraph:
    """A net's graph in onnxruntime; one instance serves many threads.

    Args:
        content: The graph's bytes.
        threads: Of a single run. With one, sums keep their order and scores repeat.
    Raises:
        DataError: It cannot be read.
    """

    def __init__(self, content: bytes, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors alone
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores alone
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except graph_errors() as error:
            raise DataError(f"The net's graph cannot be read: {error}") from None

    def logits(self, levels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """What the net says at every event, float32 of shape (cases, events, k).

        Args:
            levels: Codes of categories, int64 of shape (cases, events, columns), >= 1 event.
            numbers: float32 of shape (cases, events, numbers).
        Raises:
            DataError: The graph takes other shapes, or lacks a code.
        """
        try:
            return self._session.run([LOGITS], {LEVELS: levels, NUMBERS: numbers})[0]
        except graph_errors() as error:
            raise DataError(f"The net's graph does not take {levels.shape} and {numbers.shape}: {error}") from None


def graph_bytes(net: SequenceNet) -> bytes:
    """The graph of a fitted net."""
    return net.graph_.tobytes()


def distance_buckets() -> np.ndarray:
    """Which bias an event has by how many events it lies back, int64; beyond the last, the last.

    Examples:
        >>> distance_buckets()[[0, 1, 31, 32, 33, 64, 511]]
        array([ 0,  1, 31, 32, 32, 34, 39])
    """
    far = np.log2(np.arange(EXACT, 16 * EXACT) / EXACT) / 4
    return np.concatenate([np.arange(EXACT), EXACT + (far * (BUCKETS - EXACT)).astype(np.int64)])


def sequence_graph(weights: Weights, kind: str, layers: int, heads: int) -> bytes:
    """The graph of a net.

    Args:
        weights: By their names in torch: `tables.{column}.weight`, `into.*`, `gru.*` or `blocks.{layer}.*`, `head.*`.
        kind: `gru` or `transformer`.
        layers: Of it, >= 1.
        heads: Of a transformer's attention, which divide its width.
    """
    from onnx import TensorProto, helper

    graph = _Graph(weights)
    hidden = graph.read()
    hidden = graph.gru(hidden, layers) if kind == "gru" else graph.transformer(hidden, layers, heads)
    graph.nodes.append(helper.make_node("Identity", [graph.linear(hidden, "head")], [LOGITS], name=LOGITS))
    place = ["cases", "events"]
    ends = (
        (LEVELS, TensorProto.INT64, graph.columns),
        (NUMBERS, TensorProto.FLOAT, graph.numbers),
        (LOGITS, TensorProto.FLOAT, len(weights["head.bias"])),
    )
    told = [helper.make_tensor_value_info(name, form, [*place, width]) for name, form, width in ends]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, kind, told[:2], told[2:], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="cxlab",
    )
    return proto.SerializeToString(deterministic=True)


class _Graph:
    """Nodes and constants in the making; values are known by name."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.weights = weights
        self.width, inputs = weights["into.weight"].shape
        self.tables = [
            weights[f"tables.{at}.weight"] for at in range(sum(name.startswith("tables.") for name in weights))
        ]
        self.columns = len(self.tables)
        self.numbers = inputs - sum(table.shape[1] for table in self.tables)
        self._names = (f"v{number}" for number in count())

    def __call__(self, op: str, *inputs: str | np.ndarray | np.generic, **attributes: Any) -> str:
        """Adds a node and names its output; arrays become constants."""
        return self.several(op, 1, *inputs, **attributes)[0]

    def several(self, op: str, outputs: int, *inputs: str | np.ndarray | np.generic, **attributes: Any) -> list[str]:
        from onnx import helper

        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        found = [next(self._names) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, names, found, name=found[0], **attributes))
        return found

    def _constant(self, value: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        name = next(self._names)
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def linear(self, value: str, name: str) -> str:
        return self("Add", self("MatMul", value, self.weights[f"{name}.weight"].T), self.weights[f"{name}.bias"])

    def normal(self, value: str, name: str) -> str:
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return self("LayerNormalization", value, scale, shift, axis=-1, epsilon=EPSILON)

    def read(self) -> str:
        """What goes into the net, (cases, events, width)."""
        parts = [
            self("Gather", table, self("Gather", LEVELS, np.int64(at), axis=2)) for at, table in enumerate(self.tables)
        ]
        return self.linear(self("Concat", *parts, *[NUMBERS] * (self.numbers > 0), axis=-1), "into")

    def gru(self, hidden: str, layers: int) -> str:
        value = self("Transpose", self("Relu", hidden), perm=[1, 0, 2])
        for layer in range(layers):
            into, back, *biases = (
                _update_first(self.weights[f"gru.{name}_l{layer}"])
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            found = self(
                "GRU", value, into[None], back[None], np.concatenate(biases)[None],
                hidden_size=self.width, linear_before_reset=1,
            )  # fmt: skip
            value = self("Squeeze", found, _ints(1))
        return self("Transpose", value, perm=[1, 0, 2])

    def transformer(self, hidden: str, layers: int, heads: int) -> str:
        events = self("Squeeze", self("Shape", LEVELS, start=1, end=2), _ints(0))
        places = self("Range", np.int64(0), events, np.int64(1))
        back = self("Sub", self("Unsqueeze", places, _ints(1)), self("Unsqueeze", places, _ints(0)))
        future = self("Mul", self("Cast", self("Less", back, np.int64(0)), to=_FLOAT), np.float32(_MASKED))
        buckets = distance_buckets()
        bucket = self("Gather", buckets, self("Clip", back, np.int64(0), np.int64(len(buckets) - 1)))
        for layer in range(layers):
            hidden = self.block(hidden, bucket, future, f"blocks.{layer}", heads)
        return self.normal(hidden, "last")

    def block(self, hidden: str, bucket: str, future: str, name: str, heads: int) -> str:
        each = self.width // heads
        joint = self.linear(self.normal(hidden, f"{name}.before_attention"), f"{name}.joint")
        query, key, value = (
            self("Transpose", self("Reshape", part, _ints(0, 0, heads, each)), perm=order)
            for part, order in zip(
                self.several("Split", 3, joint, axis=-1),
                ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]),
                strict=True,
            )
        )
        bias = self("Add", self("Gather", self.weights[f"{name}.distance"], bucket, axis=1), future)
        scores = self("Mul", self("MatMul", query, key), np.float32(each**-0.5))
        attention = self("Softmax", self("Add", scores, bias), axis=-1)
        context = self("Transpose", self("MatMul", attention, value), perm=[0, 2, 1, 3])
        context = self("Reshape", context, _ints(0, 0, self.width))
        hidden = self("Add", hidden, self.linear(context, f"{name}.joined"))
        inner = self("Relu", self.linear(self.normal(hidden, f"{name}.before_inner"), f"{name}.inner"))
        return self("Add", hidden, self.linear(inner, f"{name}.outer"))


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _update_first(gates: np.ndarray) -> np.ndarray:
    """Gates in ONNX's order, update, reset, new, from torch's, which has reset first."""
    reset, update, new = np.split(gates, 3)
    return np.concatenate([update, reset, new])
