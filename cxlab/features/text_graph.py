"""Texts through a tokenizer and an ONNX graph, wherever a model scores.

    graph = TextGraph(content, tokenizer, longest=256)
    unit(graph(["Where is my card?"]))     # float32 of shape (1, d), of length 1

Texts of as many tokens go together, without padding, so what is said of a text depends on it alone.

This module travels with every bundle, so it knows numpy, onnxruntime, tokenizers and its own kind alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import DataError, listed

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
SENTENCE = "sentence_embedding"  # the output that is taken where a graph has it
CHARACTERS = 100  # of a word, beyond which WordPiece takes it for unknown (Devlin et al. 2019): a token has no more
PART = 1024  # texts that are tokenized together
TOKENS = 2048  # that go through the graph together, or one text's


class TextGraph:
    """Texts through a tokenizer and an ONNX graph; one instance serves many threads.

    Args:
        graph: The graph's bytes. Its inputs are `input_ids`, `attention_mask` and, if it has them, `token_type_ids`.
        tokenizer: The text of a `tokenizer.json`; its settings on padding and truncation do not count.
        longest: Tokens of a text that are read, the rest is cut off.
        pooling: How tokens become a sentence where the graph's output has them: `mean` or `cls`.
        threads: Of a single run. With one, sums keep their order and scores repeat.
    Raises:
        DataError: One of them cannot be read.
    """

    def __init__(self, graph: bytes, tokenizer: str, longest: int, pooling: str = "mean", *, threads: int = 1) -> None:
        import onnxruntime

        self.longest = longest
        self._tokenizer = tokenizer_of(tokenizer, longest)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors alone
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores alone
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except graph_errors() as error:
            raise DataError(f"The encoder's graph cannot be read: {error}") from None
        self._inputs = [item.name for item in self._session.get_inputs()]
        strange = sorted(set(self._inputs) - {IDS, MASK, TYPES})
        if strange or IDS not in self._inputs:
            raise DataError(
                f"The encoder's graph has the inputs {listed(self._inputs)}, must have {IDS}, {MASK} and no others but "
                f"{TYPES}."
            )
        outputs = [item.name for item in self._session.get_outputs()]
        self._output = SENTENCE if SENTENCE in outputs else outputs[0]
        self._first = pooling == "cls"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The graph's rows, shape (n, k), n >= 1."""
        return np.concatenate([rows for _, rows in self.parts(texts)])

    def parts(self, texts: Sequence[str]) -> Iterator[tuple[slice, np.ndarray]]:
        """Stretches of texts and the graph's rows for them, each (m, k), in order."""
        for start in range(0, len(texts), PART):
            part = slice(start, min(start + PART, len(texts)))
            yield part, self._rows([cut(text, self.longest * CHARACTERS) for text in texts[part]])

    def _rows(self, texts: list[str]) -> np.ndarray:
        ids = [item.ids for item in self._tokenizer.encode_batch(texts)]
        lengths = np.array([len(item) for item in ids])
        found: np.ndarray | None = None
        for length in np.unique(lengths):
            where = np.flatnonzero(lengths == length)
            for rows in np.split(where, range(step := max(1, TOKENS // max(1, length)), len(where), step)):
                out = self._run(np.array([ids[row] for row in rows], np.int64))
                if found is None:
                    found = np.empty((len(texts), out.shape[1]), out.dtype)
                found[rows] = out
        assert found is not None
        return found

    def _run(self, ids: np.ndarray) -> np.ndarray:
        told = {IDS: ids, MASK: np.ones_like(ids), TYPES: np.zeros_like(ids)}
        try:
            out = self._session.run([self._output], {name: told[name] for name in self._inputs})[0]
        except graph_errors() as error:
            raise DataError(f"The encoder's graph does not take {ids.shape} token ids: {error}") from None
        if out.ndim == 3:
            out = out[:, 0] if self._first else out.mean(axis=1)
        if out.ndim != 2 or len(out) != len(ids):
            raise DataError(f"The encoder's output {self._output} has shape {out.shape}, must be (texts, d).")
        return out


def tokenizer_of(text: str, longest: int) -> Any:
    """A tokenizer that cuts off what is beyond `longest` tokens.

    Raises:
        DataError: The text of its `tokenizer.json` cannot be read.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns of every fork
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_str(text)
    except Exception as error:  # it has no class of its own
        raise DataError(f"The encoder's tokenizer.json cannot be read: {error}.") from error
    found.no_padding()
    found.enable_truncation(longest)
    return found


def graph_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises, which has no class above its own errors; nothing where it is not installed."""
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError:
        return ()
    return tuple(item for item in vars(state).values() if isinstance(item, type) and issubclass(item, Exception))


def cut(text: str, most: int) -> str:
    """What a tokenizer may need of a text, with U+FFFD in place of half a character, which no tokenizer takes.

    Examples:
        >>> cut("a  b   c", most=3), cut("caf\\ud83d", most=9)
        ('a b', 'caf\ufffd')
    """
    if len(text) > most:
        text = " ".join(text.split())[:most]
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows at length 1, float32; those of a graph that does so itself stay as they are."""
    length = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return np.where(abs(length - 1) < 1e-6, rows, rows / np.maximum(length, 1e-12)).astype(np.float32)
