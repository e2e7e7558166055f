"""A bundle's scores, reasons and decisions, from its folder alone.

    bundle = load_bundle("release/churn-3")
    found = bundle.score(frame, reasons=3)      # raw rows: a frame, or dicts
    found.score, found.decision, found.frame()

This module travels with every bundle and needs onnxruntime, numpy and pandas alone; `text_scorer.py` is what scores
where the rows are words, `sequence_scorer.py` where they are events. A folder that differs in one byte from what was
exported is not loaded; loading runs no code of the folder and writes nothing into it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from ..data.schema import Column, Schema
from ..errors import BundleError, DataError
from ..evidence.wording import Distribution, Phrase, written
from ..features.text_graph import graph_errors
from .folder import REASONS, SCHEMA, THRESHOLD, Answered, AnyBundle, Kind, Rows, opened

if TYPE_CHECKING:
    import onnxruntime

    from .sequence_scorer import SequenceBundle
    from .text_scorer import TextBundle

MODEL = "model.onnx"
CONTACT, LEAVE, REVIEW = "contact", "leave", "review"
BATCH = 20_000  # rows that go through the graph at once
LANES = 64  # rows are filled up to a multiple: a processor computes a batch's last few otherwise, off by 1e-16
SMALL = 1e-9  # a smaller effect, in log-odds, is no reason
EDGE = 1e-12  # probabilities are kept this far from 0 and 1 before a logarithm
SAME = 1e-9  # golden scores may differ by this between machines


@dataclass(frozen=True)
class Scores(Answered):
    """What a bundle says of n rows, in their order.

    Attributes:
        score: Probabilities of the outcome, shape (n,); NaN where a row could not be read.
        decision: `contact`, `leave`, or `review` where the score is too near the threshold to tell and a person should
            decide; empty where there is no score. Shape (n,).
        reasons: What raises each row's risk, the strongest first.
        problems: Why a row could not be read, by its position.
        ids: The customers, where the rows name them.
        most: How many reasons a row were asked for.
    """

    score: np.ndarray
    decision: np.ndarray
    reasons: list[tuple[str, ...]] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    ids: list[Any] | None = None
    most: int = 0

    def columns(self) -> dict[str, np.ndarray]:
        return {"score": self.score, "decision": self.decision}

    @property
    def outcome(self) -> Sequence[str]:
        return self.decision.tolist()


@dataclass(frozen=True)
class Bundle(AnyBundle):
    """An exported model of a customer's outcome.

    Attributes:
        folder: Where it lies.
        manifest: What it is, and the SHA-256 of every file.
        schema: What it reads.
        id: The column that names the customer; None where rows are counted.
        threshold: From `value` on a customer is contacted; between `low` and `high` it can't be told.
        words: A phrase a column.
    """

    threshold: dict[str, Any] = field(repr=False)
    words: dict[str, Phrase] = field(repr=False)
    _groups: list[list[str]] = field(repr=False)
    _references: dict[str, np.ndarray] = field(repr=False)
    _spread: dict[str, Distribution] = field(repr=False)
    _session: onnxruntime.InferenceSession = field(repr=False)

    outputs: ClassVar[Mapping[str, Kind]] = {"score": "number", "decision": "text"}
    outcomes: ClassVar[tuple[str, ...]] = (CONTACT, LEAVE, REVIEW)
    about: ClassVar[str] = "Scores customers: the probability of the outcome, and the decision that follows from it."
    platform: ClassVar[str] = "onnxruntime_onnx"
    batch: ClassVar[int] = BATCH
    lanes: ClassVar[int] = LANES

    @property
    def rule(self) -> str:
        value, low, high = (f"{self.threshold[key]:.3g}" for key in ("value", "low", "high"))
        return (
            f"A customer is contacted from a score of {value} on; between {low} and {high} the decision is "
            f"{REVIEW}: a person decides."
        )

    @property
    def tolerance(self) -> float:
        return SAME

    def score(self, rows: Rows, *, reasons: int = 0) -> Scores:
        """Scores, decisions and reasons.

        Args:
            rows: Raw rows: a frame of shape (n, any), or n mappings. Other columns than the model's are left out;
                missing values and unseen categories are no errors.
            reasons: How many a row at most, >= 0.
        Raises:
            DataError: A column of the model is not there.
        """
        if reasons < 0:
            raise ValueError(f"reasons == {reasons}, must be >= 0.")
        values = self._values(rows)
        cast = self._cast(values)
        problems: dict[int, str] = {}
        for row, reason in self.schema.unreadable(values, cast):
            problems.setdefault(row, reason)
        score = self.probability(cast)
        decision = self.decide(score)
        if problems:
            score[list(problems)] = np.nan
            decision[list(problems)] = ""
        told = self.why(cast, score, reasons) if reasons else []
        return Scores(score, decision, told, problems, self._ids(values), reasons)

    def golden(self, rows: pd.DataFrame) -> np.ndarray:
        return self.probability(self.schema.cast(rows))

    def effort(self, rows: Sequence[Mapping[str, Any]], reasons: int) -> float:
        return len(rows) * (1 + bool(reasons) * len(self._groups))

    def probability(self, cast: Mapping[str, np.ndarray]) -> np.ndarray:
        """Probabilities of the outcome for what `schema.cast` returns, shape (n,)."""
        n = len(cast[self.schema.names[0]])
        if n <= BATCH:
            return run(self._session, cast)
        parts = range(0, n, BATCH)
        return np.concatenate([run(self._session, {k: v[i : i + BATCH] for k, v in cast.items()}) for i in parts])

    def decide(self, score: np.ndarray) -> np.ndarray:
        """The decision for each score, shape (n,)."""
        sure = np.where(score >= self.threshold["value"], CONTACT, LEAVE).astype(object)
        sure[(score >= self.threshold["low"]) & (score <= self.threshold["high"])] = REVIEW
        return sure

    def effects(self, cast: Mapping[str, np.ndarray], score: np.ndarray) -> np.ndarray:
        """How much each group of columns moves each score, in log-odds, shape (n, groups).

        The score less the score with the group at its reference value, so above zero raises the risk: replacement
        of one input at a time, with one reference (Robnik-Sikonja and Kononenko 2008, equation 5). Columns that say
        the same are one group and replaced together.
        """
        n, effects = len(score), np.zeros((len(score), len(self._groups)))
        own = _log_odds(score)
        for start in range(0, n, max(1, BATCH // max(1, len(self._groups)))):
            rows = slice(start, min(n, start + max(1, BATCH // max(1, len(self._groups)))))
            part = {name: values[rows] for name, values in cast.items()}
            differs = [np.flatnonzero(_differs(part, group, self._references)) for group in self._groups]
            taken = np.concatenate([np.zeros(0, np.int64), *differs])
            if not len(taken):
                continue
            replaced = {name: values[taken] for name, values in part.items()}
            ends = np.cumsum([len(each) for each in differs])
            for group, end, each in zip(self._groups, ends, differs, strict=True):
                for name in group:
                    replaced[name][end - len(each) : end] = self._references[name]
            without = _log_odds(self.probability(replaced))
            for place, (end, each) in enumerate(zip(ends, differs, strict=True)):
                effects[start + each, place] = own[start + each] - without[end - len(each) : end]
        return effects

    def why(self, cast: Mapping[str, np.ndarray], score: np.ndarray, most: int) -> list[tuple[str, ...]]:
        """Reasons in words, the strongest first; none for rows without a score."""
        effects = self.effects(cast, score)
        order = np.argsort(-np.round(effects, 9), axis=1, kind="stable")[:, :most]
        told = []
        for row, places in enumerate(order):
            raising = [self._groups[j][0] for j in places if effects[row, j] > SMALL]
            told.append(tuple(self._say(name, cast[name][row]) for name in raising) if score[row] == score[row] else ())
        return told

    def _say(self, name: str, value: Any) -> str:
        plain = written(value)
        return f"{self.words.get(name, Phrase()).says(name, plain)}, {self._spread[name].compared(plain)}"

    @property
    def groups(self) -> list[list[str]]:
        """Columns that reasons may name, those that say the same together."""
        return self._groups


def load_bundle(folder: str | Path) -> Bundle | TextBundle | SequenceBundle:
    """Opens a bundle of any task after every file of it was hashed.

    Raises:
        BundleError: It is no bundle, of another format, or not whole: a file differs, is missing, or is not listed.
    """
    whole = opened(Path(folder))
    unfit: tuple[type[Exception], ...] = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
    unfit += (BadZipFile, zlib.error, EOFError, DataError)  # what damaged archives and graphs raise
    try:
        schema, threshold, reasons = (json.loads(whole[name]) for name in (SCHEMA, THRESHOLD, REASONS))
        told: dict[str, Any] = {"schema": schema, "threshold": threshold}
        if schema["task"] == "intent":
            from .text_scorer import build as of_words

            return of_words(whole.folder, whole.manifest, **told, files=whole)
        if schema["task"] == "sequence":
            from .sequence_scorer import build as of_sequences

            return of_sequences(whole.folder, whole.manifest, **told, files=whole)
        return build(whole.folder, whole.manifest, **told, reasons=reasons, model=whole[MODEL])
    except unfit + graph_errors() as error:
        raise BundleError(f"The files of {folder} do not fit together: {str(error)[:200]}. Do not use it.") from None


def build(
    folder: Path,
    manifest: dict[str, Any],
    *,
    schema: Mapping[str, Any],
    threshold: dict[str, Any],
    reasons: Mapping[str, Any],
    model: bytes,
) -> Bundle:
    """A bundle from the content of its files."""
    known = Schema.of_plain(schema["columns"])
    references = {c.name: _reference(c, reasons["references"].get(c.name)) for c in known.columns}
    return Bundle(
        folder=folder,
        manifest=manifest,
        schema=known,
        id=schema["id"],
        threshold=threshold,
        words={name: Phrase(**item) for name, item in reasons["phrases"].items()},
        _groups=reasons["groups"],
        _references=references,
        _spread={name: Distribution(**item) for name, item in reasons["distributions"].items()},
        _session=session(model),
    )


def session(model: bytes | str | Path) -> onnxruntime.InferenceSession:
    """An ONNX graph ready to score. One thread, so that sums keep their order and scores repeat."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(running: onnxruntime.InferenceSession, cast: Mapping[str, np.ndarray]) -> np.ndarray:
    """Probabilities of the positive class for cast columns, shape (n,)."""
    if not len(next(iter(cast.values()))):
        return np.empty(0)
    return running.run(None, {name: values.reshape(-1, 1) for name, values in cast.items()})[0][:, 1]


def _reference(column: Column, value: Any) -> np.ndarray:
    return column.cast([value])[0]


def _differs(cast: Mapping[str, np.ndarray], group: Iterable[str], references: Mapping[str, Any]) -> np.ndarray:
    """Rows in which a column of the group is not at its reference."""
    found: np.ndarray = np.zeros(0)
    for name in group:
        values, reference = cast[name], references[name]
        apart = values != reference
        if values.dtype != object:
            apart &= ~(np.isnan(values) & np.isnan(reference))
        found = apart if not found.size else found | apart
    return found


def _log_odds(probability: np.ndarray) -> np.ndarray:
    p = np.clip(probability, EDGE, 1 - EDGE)
    return np.log(p) - np.log1p(-p)
