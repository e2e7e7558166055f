"""A bundle's scores, reasons and decisions, from its folder alone.

    bundle = load_bundle("release/churn-3")
    found = bundle.score(frame, reasons=3)      # raw rows: a frame, or dicts
    found.score, found.decision, found.frame()

This module travels with every bundle and needs onnxruntime, numpy and pandas alone. A folder that differs in one byte
from what was exported is not loaded; loading runs no code of the folder and writes nothing into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.schema import Column, Schema
from ..digest import sha256
from ..errors import BundleError, listed
from ..evidence.wording import Distribution, Phrase, written

if TYPE_CHECKING:
    import onnxruntime

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "model.sig"
MODEL, SCHEMA, THRESHOLD, REASONS = "model.onnx", "schema.json", "threshold.json", "reasons.json"
CONTACT, LEAVE, REVIEW = "contact", "leave", "review"
FEW = 16  # rows up to which values are cast one by one, which spares what a frame costs
BATCH = 20_000  # rows that go through the graph at once
SMALL = 1e-9  # a smaller effect, in log-odds, is no reason
EDGE = 1e-12  # probabilities are kept this far from 0 and 1 before a logarithm

Rows = pd.DataFrame | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Scores:
    """What a bundle says of n rows, in their order.

    Attributes:
        score: Probabilities of the outcome, shape (n,); NaN where a row could not be read.
        decision: `contact`, `leave`, or `review` where the score is too near the threshold to tell and a person should
            decide; empty where there is no score. Shape (n,).
        reasons: What raises each row's risk, the strongest first.
        problems: Why a row could not be read, by its position.
        ids: The customers, where the rows name them.
    """

    score: np.ndarray
    decision: np.ndarray
    reasons: list[tuple[str, ...]] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    ids: list[Any] | None = None
    most: int = 0

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, name: str) -> pd.Series:
        return self.frame()[name]

    def frame(self) -> pd.DataFrame:
        """One row an input row: id, score, decision, reason_1 to reason_K."""
        ids = range(1, len(self.score) + 1) if self.ids is None else self.ids
        columns: dict[str, Any] = {"id": ids, "score": self.score, "decision": self.decision}
        for place in range(self.most):
            columns[f"reason_{place + 1}"] = [row[place] if place < len(row) else "" for row in self.reasons]
        return pd.DataFrame(columns)

    def _repr_html_(self) -> str:
        return self.frame().to_html(index=False, border=0, na_rep="")


@dataclass(frozen=True)
class Bundle:
    """An exported model.

    Attributes:
        folder: Where it lies.
        manifest: What it is, and the SHA-256 of every file.
        schema: What it reads.
        id: The column that names the customer; None where rows are counted.
        threshold: From `value` on a customer is contacted; between `low` and `high` it can't be told.
        words: A phrase a column.
    """

    folder: Path
    manifest: dict[str, Any] = field(repr=False)
    schema: Schema = field(repr=False)
    id: str | None
    threshold: dict[str, Any] = field(repr=False)
    words: dict[str, Phrase] = field(repr=False)
    _groups: list[list[str]] = field(repr=False)
    _references: dict[str, np.ndarray] = field(repr=False)
    _spread: dict[str, Distribution] = field(repr=False)
    _session: onnxruntime.InferenceSession = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.manifest['model']} version {self.manifest['version']}"

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
        ids = values.get(self.id) if self.id else None
        return Scores(score, decision, told, problems, None if ids is None else list(ids), reasons)

    def _values(self, rows: Rows) -> dict[str, Any]:
        """Raw values by column: lists where there are few rows, else what the frame holds."""
        wanted = self.schema.names
        if not isinstance(rows, pd.DataFrame):
            for row in rows:
                self.schema.check(row)
            names = [*wanted, self.id] if self.id and all(self.id in row for row in rows) else wanted
            return {name: [row[name] for row in rows] for name in names}
        if len(rows) > FEW:
            self.schema.check(rows.columns)
            names = [*wanted, self.id] if self.id and self.id in rows.columns else wanted
            return {name: rows[name] for name in names}
        columns = rows.columns.tolist()
        self.schema.check(columns)
        return dict(zip(columns, rows.to_numpy(dtype=object).T.tolist(), strict=True))

    def _cast(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {
            c.name: c.encode(found) if isinstance(found := values[c.name], pd.Series) else c.cast(found)
            for c in self.schema.columns
        }

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


def load_bundle(folder: str | Path) -> Bundle:
    """Opens a bundle after every file of it was hashed.

    Raises:
        BundleError: It is no bundle, of another format, or not whole: a file differs, is missing, or is not listed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    wrong = differences(folder, manifest)
    if wrong:
        raise BundleError(f"The bundle {folder} is not what was exported: {listed(wrong, 5)}. Do not use it.")
    content = {name: (folder / name).read_bytes() for name in (MODEL, SCHEMA, THRESHOLD, REASONS)}
    if any(sha256(each) != manifest["files"][name] for name, each in content.items()):
        raise BundleError(f"The bundle {folder} changed while it was read. Do not use it.")
    unfit: tuple[type[Exception], ...] = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
    try:
        schema, threshold, reasons = (json.loads(content[name]) for name in (SCHEMA, THRESHOLD, REASONS))
        return build(folder, manifest, schema=schema, threshold=threshold, reasons=reasons, model=content[MODEL])
    except unfit + _graph_errors() as error:
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


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a bundle says of itself.

    Raises:
        BundleError: There is no manifest, or it cannot be read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise BundleError(f"{folder} is no bundle: it has no {MANIFEST}. Make one: cxlab export") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{folder / MANIFEST} cannot be read: {str(error)[:200]}.") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise BundleError(f"{folder / MANIFEST} is damaged: it lists no files.")
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{folder}: format == {manifest.get('format')!r}, must be {FORMAT}. Use the cxlab that made it."
        )
    return manifest


def differences(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """What of a folder differs from its manifest: files changed, missing, not listed, and links."""
    listed_files, found, wrong = manifest["files"], set(), []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            wrong.append(f"{name} is a link")
        elif path.is_dir():
            if not any(other.startswith(f"{name}/") for other in listed_files):
                wrong.append(f"{name}/ is not listed")
        elif name not in (MANIFEST, SIGNATURE):
            found.add(name)
            if name not in listed_files:
                wrong.append(f"{name} is not listed")
            elif sha256(path.read_bytes()) != listed_files[name]:
                wrong.append(f"{name} differs")
    wrong += [f"{name} is missing" for name in sorted(set(listed_files) - found)]
    needed = {MODEL, SCHEMA, THRESHOLD, REASONS} - set(listed_files)
    return wrong + [f"{name} is not in the manifest" for name in sorted(needed)]


def session(model: bytes | str | Path) -> onnxruntime.InferenceSession:
    """An ONNX graph ready to score. One thread, so that sums keep their order and scores repeat."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _graph_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises; it has no class above its own errors."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(item for item in vars(state).values() if isinstance(item, type) and issubclass(item, Exception))


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
