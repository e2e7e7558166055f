"""A BERT encoder as one ONNX graph, built from its weights.

    graph = bert_graph(weights, config)                      # sentence embeddings, of length 1
    graph = bert_graph(weights, config, head=(W, b), normalise=False)  # or the probabilities of k classes

The graph has the inputs `input_ids` and `attention_mask`, INT64 of shape (n, tokens), and one output: `embedding`,
FLOAT of shape (n, d), or `probability`, DOUBLE of shape (n, k). Same weights and settings, same bytes.

Source: Devlin et al. (2019), BERT: Pre-training of Deep Bidirectional Transformers; the layers are those of Vaswani et
al. (2017), Attention is all you need, figure 1 left, with the GELU of Hendrycks and Gimpel (2016) in its exact form;
mean pooling as in Reimers and Gurevych (2019), Sentence-BERT, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np

from cxlab.errors import DataError, listed
from cxlab.features.text_graph import IDS, MASK

OPSET = 20  # the first with GELU
IR_VERSION = 9  # the first that is read wherever opset 20 is
EMBEDDING, PROBABILITY = "embedding", "probability"
POOLINGS = ("mean", "cls")
MOST_BYTES = 2**31 - 2**20  # what one protocol buffer holds, less the graph around the weights
_FLOAT = 1  # as onnx.TensorProto numbers it
_MASKED = -10_000.0  # added to an attention score, it leaves a weight of exactly 0 in single precision


def bert_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The weights that an encoder has, by name, with their shapes.

    Raises:
        DataError: It is no BERT, or one of a kind that is not built here.
    """
    kind = config.get("model_type")
    if kind != "bert":
        raise DataError(
            f"The encoder's config.json has model_type {kind!r}, must be 'bert', or bring model.onnx along."
        )
    for key, only in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if config.get(key, only) != only:
            raise DataError(f"The encoder's config.json has {key} {config[key]!r}, must be {only!r}.")
    try:
        d, inner = int(config["hidden_size"]), int(config["intermediate_size"])
        layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        rows = {
            "word_embeddings": int(config["vocab_size"]),
            "position_embeddings": int(config["max_position_embeddings"]),
            "token_type_embeddings": int(config.get("type_vocab_size", 2)),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"The encoder's config.json does not tell its shape: {error!r}.") from None
    if min(d, inner, layers, heads, *rows.values()) < 1 or d % heads:
        raise DataError(f"The encoder's config.json has hidden_size {d} and {heads} heads, which must divide it.")
    shapes: dict[str, tuple[int, ...]] = {f"embeddings.{name}.weight": (n, d) for name, n in rows.items()}
    shapes |= {f"embeddings.LayerNorm.{part}": (d,) for part in ("weight", "bias")}
    for number in range(layers):
        for name, out, into in (
            ("attention.self.query", d, d),
            ("attention.self.key", d, d),
            ("attention.self.value", d, d),
            ("attention.output.dense", d, d),
            ("intermediate.dense", inner, d),
            ("output.dense", d, inner),
        ):
            shapes[f"encoder.layer.{number}.{name}.weight"] = (out, into)
            shapes[f"encoder.layer.{number}.{name}.bias"] = (out,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"encoder.layer.{number}.{name}.{part}": (d,) for part in ("weight", "bias")}
    return shapes


def bert_weights(found: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The encoder's weights among those of a file, in single precision; a head's and a pooler's are left out.

    Raises:
        DataError: One is missing, has another shape, or is not finite.
    """
    named = {name.removeprefix("bert."): value for name, value in found.items()}
    shapes = bert_shapes(config)
    missing = [name for name in shapes if name not in named]
    if missing:
        raise DataError(f"The encoder lacks {len(missing)} of its {len(shapes)} weights: {listed(missing, 3)}.")
    weights = {name: np.ascontiguousarray(named[name], np.float32) for name in shapes}
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise DataError(f"The encoder's weight {name} has shape {weights[name].shape}, must have {shape}.")
        if not np.isfinite(weights[name]).all():
            raise DataError(f"The encoder's weight {name} is not finite.")
    return weights


def bert_graph(
    weights: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    head: tuple[np.ndarray, np.ndarray] | None = None,
    pooling: str = "mean",
    normalise: bool = True,
) -> bytes:
    """The graph of an encoder.

    Args:
        weights: As a safetensors file of it names them.
        config: Its `config.json`.
        head: Weights (k, d) and biases (k,) of a linear layer on the sentence's vector; its softmax is the output.
        pooling: How tokens become a sentence: their `mean`, or the first, `cls`.
        normalise: Whether a sentence's vector has length 1, before a head too.
    Returns:
        The graph's bytes.
    Raises:
        DataError: The weights do not fit the config, or are too large for one graph.
    """
    from onnx import TensorProto, helper

    if pooling not in POOLINGS:
        raise DataError(f"pooling == {pooling!r}, must be one of {', '.join(POOLINGS)}.")
    weights = bert_weights(weights, config)
    size = sum(value.nbytes for value in weights.values())
    if size > MOST_BYTES:
        raise DataError(f"The encoder's weights take {size:,} bytes, must be <= {MOST_BYTES:,} for one ONNX graph.")
    graph = _Graph(weights, config)
    hidden = graph.encoder()
    output = graph.pooled(hidden, pooling)
    if normalise:
        output = graph.normalised(output)
    name, kind, width = EMBEDDING, TensorProto.FLOAT, graph.width
    if head is not None:
        matrix, bias = (np.asarray(part, np.float32) for part in head)
        name, kind, width = PROBABILITY, TensorProto.DOUBLE, len(bias)
        if matrix.shape != (width, graph.width):
            raise DataError(f"The head has shape {matrix.shape}, must have {(width, graph.width)}.")
        logits = graph("Add", graph("MatMul", output, matrix.T), bias)
        output = graph("Softmax", graph("Cast", logits, to=TensorProto.DOUBLE), axis=-1)
    graph.nodes.append(helper.make_node("Identity", [output], [name], name=name))
    shape = ["rows", "tokens"]
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "encoder",
            [helper.make_tensor_value_info(each, TensorProto.INT64, shape) for each in (IDS, MASK)],
            [helper.make_tensor_value_info(name, kind, ["rows", width])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="cxlab",
    )
    return proto.SerializeToString(deterministic=True)


class _Graph:
    """Nodes and constants in the making; values are known by name."""

    def __init__(self, weights: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.weights = weights
        self.width = int(config["hidden_size"])
        self.layers = int(config["num_hidden_layers"])
        self.heads = int(config["num_attention_heads"])
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._names = (f"v{number}" for number in count())

    def __call__(self, op: str, *inputs: str | np.ndarray | np.generic, **attributes: Any) -> str:
        """Adds a node and names its output; arrays become constants."""
        from onnx import helper

        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        output = next(self._names)
        self.nodes.append(helper.make_node(op, names, [output], name=output, **attributes))
        return output

    def _constant(self, value: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        name = next(self._names)
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def linear(self, value: str, *names: str) -> str:
        """Dense layers on one value, side by side."""
        matrix = np.concatenate([self.weights[f"{name}.weight"].T for name in names], axis=1)
        bias = np.concatenate([self.weights[f"{name}.bias"] for name in names])
        return self("Add", self("MatMul", value, matrix), bias)

    def split(self, hidden: str, name: str) -> list[str]:
        """Queries, keys and values of every head, each (n, tokens, d)."""
        from onnx import helper

        joint = self.linear(hidden, *(f"{name}.attention.self.{part}" for part in ("query", "key", "value")))
        parts = [next(self._names) for _ in range(3)]
        self.nodes.append(helper.make_node("Split", [joint], parts, name=parts[0], axis=-1, num_outputs=3))
        return parts

    def normal(self, value: str, name: str) -> str:
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return self("LayerNormalization", value, scale, shift, axis=-1, epsilon=self.epsilon)

    def encoder(self) -> str:
        """Hidden states of the last layer, (n, tokens, d)."""
        tables = [
            self.weights[f"embeddings.{name}.weight"]
            for name in ("word_embeddings", "position_embeddings", "token_type_embeddings")
        ]
        words = self("Gather", tables[0], IDS)
        tokens = self("Shape", IDS, start=1, end=2)
        places = self("Slice", tables[1] + tables[2][0], _ints(0), tokens, _ints(0))  # one sentence: its type is 0
        hidden = self.normal(self("Add", words, places), "embeddings.LayerNorm")
        mask = self("Cast", self("Unsqueeze", MASK, _ints(1, 2)), to=_FLOAT)
        penalty = self("Mul", self("Sub", np.float32(1), mask), np.float32(_MASKED))
        for number in range(self.layers):
            hidden = self.layer(hidden, penalty, f"encoder.layer.{number}")
        return hidden

    def layer(self, hidden: str, penalty: str, name: str) -> str:
        each = self.width // self.heads
        query, key, value = (
            self("Transpose", self("Reshape", part, _ints(0, 0, self.heads, each)), perm=order)
            for part, order in zip(self.split(hidden, name), ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
        )
        scores = self("Mul", self("MatMul", query, key), np.float32(each**-0.5))
        attention = self("Softmax", self("Add", scores, penalty), axis=-1)
        context = self("Transpose", self("MatMul", attention, value), perm=[0, 2, 1, 3])
        context = self("Reshape", context, _ints(0, 0, self.width))
        context = self.linear(context, f"{name}.attention.output.dense")
        hidden = self.normal(self("Add", context, hidden), f"{name}.attention.output.LayerNorm")
        inner = self("Gelu", self.linear(hidden, f"{name}.intermediate.dense"))
        return self.normal(self("Add", self.linear(inner, f"{name}.output.dense"), hidden), f"{name}.output.LayerNorm")

    def pooled(self, hidden: str, pooling: str) -> str:
        """One vector a sentence, (n, d)."""
        if pooling == "cls":
            return self("Gather", hidden, np.int64(0), axis=1)
        mask = self("Cast", self("Unsqueeze", MASK, _ints(1)), to=_FLOAT)
        total = self("Squeeze", self("MatMul", mask, hidden), _ints(1))
        return self("Div", total, self("ReduceSum", self("Cast", MASK, to=_FLOAT), _ints(1), keepdims=1))

    def normalised(self, value: str) -> str:
        """At length 1. By a product a row: in onnxruntime a sum's last digit depends on how many rows there are."""
        squares = self("MatMul", self("Unsqueeze", value, _ints(1)), self("Unsqueeze", value, _ints(2)))
        length = self("Squeeze", self("Sqrt", squares), _ints(2))
        return self("Div", value, self("Max", length, np.float32(1e-12)))


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
