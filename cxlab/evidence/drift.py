"""Has the world moved? Columns and scores of a current sample against a reference.

    compare_samples(reference, current, schema)   # one row a column, what matters first
    drift_between(subject, current)               # columns, score, performance estimated and, if possible, measured
    evidently_page(reference, current, schema, path)

The tests are fixed, whatever the number of rows. Every test of a report is adjusted together, and a column has moved
only where a test says so and the difference is large enough to matter. Sizes are shares of customers throughout.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.schema import MISSING, Column, Schema
from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.errors import DataError, listed, missing_column
from cxlab.evidence.estimate import (
    Estimated,
    PerformanceDrift,
    estimate_accuracy,
    estimate_performance,
    outcomes,
    performance_drift,
)
from cxlab.evidence.shift import (
    ALPHA,
    MIN_WEIGHT,
    SCORE,
    SMALLEST,
    Finding,
    absent,
    adjusted,
    chisquare,
    column_tests,
    counted,
    weights_of,
)
from cxlab.models.subject import Subject
from cxlab.models.task import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE_ROWS = 10_000
INTENT, CONFIDENCE, FAMILIARITY = "(intent)", "(confidence)", "(familiarity)"  # what a model of many classes says
SAID = (SCORE, INTENT, CONFIDENCE, FAMILIARITY)


@dataclass(frozen=True, repr=False)
class Drift(Result):
    """What moved between two samples.

    Attributes:
        rows: One a column, what matters first: the columns of `frame`.
        findings: Every test, in the order of the schema.
        n_reference: Rows of the reference.
        n_current: Rows of the current sample.
    """

    rows: pd.DataFrame = field(repr=False)
    findings: tuple[Finding, ...] = field(repr=False)
    n_reference: int
    n_current: int

    title: ClassVar[str] = "What has moved?"

    @property
    def moved(self) -> bool:
        """True where what the model says moved, or a column that it uses."""
        return bool(len(self.mattering))

    @property
    def mattering(self) -> list[str]:
        """Columns that moved and that the model uses, in the order of the frame."""
        rows = self.rows
        return rows.loc[(rows["verdict"] == "moved") & (rows["weight"] >= MIN_WEIGHT), "column"].tolist()

    @property
    def share(self) -> float:
        """Share of the columns that moved, whether they matter or not."""
        columns = self.rows[~self.rows["column"].isin(SAID)]
        return float((columns["verdict"] == "moved").mean()) if len(columns) else 0.0

    @property
    def note(self) -> str:  # type: ignore[override]
        used = {item.test for item in self.findings}
        least = {test: size for test, size in SMALLEST.items() if test in used}
        return (
            f"{self.n_reference:,} rows before, {self.n_current:,} now. {len(self.findings)} tests, adjusted together "
            f"(Benjamini-Hochberg, {ALPHA:.0%}); each row shows the test that decided its column. Moved is what is "
            "significant and large enough: size, the share of customers concerned, is at least "
            f"{', '.join(f'{size:.0%} ({test})' for test, size in least.items())}."
        )

    def frame(self) -> pd.DataFrame:
        """One row a column: column, test, statistic, p_adjusted, missing_reference, missing_current, verdict, weight
        (use by the model as a share of the most used column's), size (see `Finding`), reason.
        """
        return self.rows

    def tests(self) -> pd.DataFrame:
        """One row a test: column, test, statistic, p, p_adjusted, size, verdict, reason."""
        names = ["column", "test", "statistic", "p", "p_adjusted", "size", "verdict", "reason"]
        return pd.DataFrame([[getattr(item, name) for name in names] for item in self.findings], columns=names)

    def plot(self, most: int = 15) -> Axes:
        """Sizes of the columns that matter most."""
        shown = self.rows.head(most)
        ax = axes("Share of customers concerned", height=1.2 + 0.3 * len(shown))
        colours = {"moved": PALETTE[1], "stable": PALETTE[0], "cannot tell": GREY}
        ax.barh(range(len(shown)), shown["size"].fillna(0.0), color=[colours[item] for item in shown["verdict"]])
        labels = [f"{row.column}: {row.test}, {row.verdict}" for row in shown.itertuples()]
        ax.set_yticks(range(len(shown)), labels)
        ax.invert_yaxis()
        return ax


def compare_samples(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    schema: Schema,
    *,
    importance: Mapping[str, float] | None = None,
    scores: tuple[np.ndarray, np.ndarray] | None = None,
    said: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Drift:
    """What moved between two samples of customers, by tests that do not change with the number of rows.

    Args:
        reference: Raw rows, shape (n_reference, any).
        current: Raw rows, shape (n_current, any).
        schema: Which columns, and how they are read.
        importance: How much the model uses each column (mean absolute SHAP, say), >= 0; None weighs all alike.
        scores: Scores of reference and current rows, which need not be those above; they add the row `(score)`.
        said: The same of whatever else a model says, by name: numbers, or texts of a few values.
    Raises:
        DataError: a sample has no rows, or lacks a column of the schema.
    """
    for what, frame in (("reference", reference), ("current", current)):
        _refuse(what, frame, schema)
    before, now = schema.encode(reference), schema.encode(current)
    findings, missing = [], {}
    for column in schema.columns:
        parts = before[column.name].to_numpy(), now[column.name].to_numpy()
        gone, lost = (absent(column, part) for part in parts)
        missing[column.name] = float(gone.mean()), float(lost.mean())
        text = int((lost & current[column.name].notna().to_numpy()).sum()) if column.kind == "number" else 0
        more = f"; {text:,} values now are no numbers" if text else ""
        found = column_tests(column, *parts)
        findings += [replace(one, reason=one.reason + more) if one.test == "missing" else one for one in found]
    spoken = dict(said or {}) | ({} if scores is None else {SCORE: scores})
    findings += _spoken_tests(spoken)
    missing |= dict.fromkeys(spoken, (0.0, 0.0))
    weights = weights_of(missing, importance) | dict.fromkeys(spoken, 1.0)
    return _drift(adjusted(findings), missing, weights, (len(reference), len(current)))


def _spoken_tests(spoken: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[Finding]:
    kinds = {name: "category" if parts[0].dtype == object else "number" for name, parts in spoken.items()}
    return [item for name, parts in spoken.items() for item in column_tests(Column(name, kinds[name]), *parts)]  # type: ignore[arg-type]


def score_drift(model: Model, reference: pd.DataFrame, current: pd.DataFrame) -> Drift:
    """The score alone: one row, `(score)`; of many classes `(intent)`, `(confidence)` and `(familiarity)`.

    Args:
        model: Raw rows in, probabilities out.
        reference: Raw rows that the model did not learn from: of its own training rows it is too sure.
        current: Raw rows.
    Raises:
        DataError: a sample has no rows, or lacks a column of the model's.
    """
    for what, frame in (("reference", reference), ("current", current)):
        _refuse(what, frame, model.schema)
    spoken = _both(_spoken(model, reference), _spoken(model, current))
    found = adjusted(_spoken_tests(spoken))
    sizes = len(reference), len(current)
    return _drift(found, dict.fromkeys(spoken, (0.0, 0.0)), dict.fromkeys(spoken, 1.0), sizes)


def _spoken(model: Model, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """What a model says of raw rows, by the names of reports."""
    if model.labels is None:
        return {SCORE: model.predict_proba(rows)[:, 1]}
    said = model.spoken(model.schema.encode(rows))
    found = {INTENT: _named(model.labels, said.probability), CONFIDENCE: said.probability.max(axis=1)}
    return found if model.doubt is None else {**found, FAMILIARITY: model.doubt.familiarity(said)}


def _named(labels: tuple[str, ...], probability: np.ndarray) -> np.ndarray:
    return np.array(labels, object)[probability.argmax(axis=1)]


def _both(before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (before[name], now[name]) for name in before}


def _refuse(what: str, frame: pd.DataFrame, schema: Schema) -> None:
    if not len(frame):
        raise DataError(f"The {what} sample has no rows. Is it the right file?")
    there = list(map(str, frame.columns))
    absent = [name for name in schema.names if name not in there]
    if len(absent) == 1:
        raise DataError(f"The {what} sample: {missing_column(absent[0], there)}")
    if absent:
        raise DataError(
            f"The {what} sample lacks {len(absent)} of the model's {len(schema.names)} columns: {listed(absent)}. "
            f"It has {listed(there)}. Is it the right file?"
        )


def _drift(
    findings: list[Finding],
    missing: Mapping[str, tuple[float, float]],
    weights: Mapping[str, float],
    rows: tuple[int, int],
) -> Drift:
    by_column: dict[str, list[Finding]] = {}
    for item in findings:
        by_column.setdefault(item.column, []).append(item)
    lines = []
    for name, found in by_column.items():
        moved = sorted((item for item in found if item.verdict == "moved"), key=lambda item: (item.p, -item.size))
        shown = moved[0] if moved else found[0]
        facts = (name, shown.test, shown.statistic, shown.p_adjusted, *missing[name], shown.verdict, weights[name])
        lines.append((*facts, shown.size, _reason(found, moved)))
    shares = ["missing_reference", "missing_current"]
    names = ["column", "test", "statistic", "p_adjusted", *shares, "verdict", "weight", "size", "reason"]
    frame = pd.DataFrame(lines, columns=names)
    rank = pd.DataFrame({"moved": frame["verdict"] != "moved", "matters": -(frame["weight"] * frame["size"].fillna(0))})
    order = rank.sort_values(["moved", "matters"], kind="stable").index
    return Drift(frame.loc[order].reset_index(drop=True), tuple(findings), *rows)


def _reason(found: list[Finding], moved: list[Finding]) -> str:
    """What moved; else why it cannot be told, what is significant but small, and what the reference never held."""
    if moved:
        return "; ".join(item.reason for item in moved)
    first, rest = found[0], found[1:]
    said = [first.reason] if first.verdict == "cannot tell" else []
    said += [f"too little to matter: {item.reason}" for item in found if item.p_adjusted < ALPHA]
    said += [
        item.reason for item in rest if item.test in ("range", "unseen") and item.reason and not item.p_adjusted < ALPHA
    ]
    return "; ".join(said)


@dataclass(frozen=True, repr=False)
class DriftReport(Result):
    """Everything that can be said about a current sample.

    Attributes:
        drift: Columns and score.
        estimated: Performance from scores alone.
        performance: Performance from outcomes; None where the sample holds none.
    """

    drift: Drift
    estimated: Estimated
    performance: PerformanceDrift | None

    title: ClassVar[str] = Drift.title

    @property
    def moved(self) -> bool:
        """True where something that matters moved: a column the model uses, the score, or the performance."""
        return self.drift.moved or (self.performance is not None and self.performance.worse)

    @property
    def note(self) -> str:  # type: ignore[override]
        return self.drift.note

    def frame(self) -> pd.DataFrame:
        return self.drift.frame()

    def plot(self) -> Axes:
        return self.drift.plot()


def drift_between(
    subject: Subject,
    current: pd.DataFrame | None = None,
    *,
    importance: Mapping[str, float] | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> DriftReport:
    """A current sample against the data of a model.

    Columns are compared with the training rows, scores with those of the test part. Where the test part itself is
    looked at, scores are not compared: those of training rows come from other fits, and differ for that alone. Of many
    classes the intents are, which differ little for it, with those that were cross-fitted.

    Args:
        subject: The model and its data.
        current: Raw rows; None takes the test part.
        importance: See `compare_samples`. The words of a text are one column, so that it has one weight.
        threshold: See `estimate_performance`; of two classes alone.
        seed: The same seed gives the same intervals.
    Raises:
        DataError: the sample has no rows, lacks a column of the model's, or holds an outcome never seen in training.
    """
    schema, target = subject.model.schema, subject.table.roles.target
    rows = subject.test if current is None else current
    _refuse("current", rows, schema)
    said: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    score = subject.score_test if current is None else subject.scores(current)
    if current is not None:
        said = _both(_spoken(subject.model, subject.test), _spoken(subject.model, current))
    elif subject.many:
        said = {INTENT: (_named(subject.labels, subject.score_valid), _named(subject.labels, score))}
    if subject.many:
        estimated = estimate_accuracy(score.max(axis=1), calibrated_on=subject.score_valid.max(axis=1), seed=seed)
    else:
        estimated = estimate_performance(score, threshold=threshold, calibrated_on=subject.score_valid, seed=seed)
    known = current is not None and target in current and bool(np.isfinite(outcomes(subject, current)).any())
    weights = None if schema.of_kind("text") == schema.names else importance
    return DriftReport(
        compare_samples(subject.train, rows, schema, importance=weights, said=said),
        estimated,
        performance_drift(subject, rows, seed=seed) if known else None,
    )


def evidently_page(
    reference: pd.DataFrame, current: pd.DataFrame, schema: Schema, path: str | Path, *, seed: int = 0
) -> Path:
    """Writes Evidently's own page, by the same tests, a column at a time at `ALPHA` over the number of columns.

    Evidently's own chi-square takes the reference for the truth rather than a sample, so that it alarms too often;
    the page gets ours. Columns that are empty in a sample are left out, for Evidently stops at them, and columns of
    words, for it would take customers' texts for categories and show them.

    Args:
        reference: Raw rows; more than `PAGE_ROWS` are sampled.
        current: The same.
        schema: Which columns, and how they are read.
        path: The HTML file, about 4 MB, that needs no network.
        seed: Of the samples.
    Returns:
        The path.
    Raises:
        DataError: a sample has no rows or lacks a column, or no column but of words has values in both.
    """
    for what, frame in (("reference", reference), ("current", current)):
        _refuse(what, frame, schema)
    before, now = (schema.encode(_at_most(PAGE_ROWS, frame, seed)) for frame in (reference, current))
    told = [name for name in schema.names if name not in schema.of_kind("text")]
    names = [name for name in told if not any(_empty(part[name]) for part in (before, now))]
    if not names:
        raise DataError("No column has values in both samples, words left aside, so there is no page to write.")
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.part")
    _evidently_report(before[names], now[names], schema).save_html(str(unfinished))
    return unfinished.replace(path)


def _at_most(rows: int, frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    return frame.sample(rows, random_state=seed) if len(frame) > rows else frame


def _empty(encoded: pd.Series) -> bool:
    return bool((encoded.isna() | (encoded == MISSING)).all())


def _evidently_report(reference: pd.DataFrame, current: pd.DataFrame, schema: Schema) -> Any:
    def homogeneity(before: pd.Series, now: pd.Series, _: Any, threshold: float) -> tuple[float, bool]:
        p = chisquare(*counted(before.to_numpy(object), now.to_numpy(object))).p
        return (1.0, False) if np.isnan(p) else (p, p < threshold)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its dependencies, when they are loaded
        warnings.simplefilter("ignore", RuntimeWarning)  # its correlations of constant columns
        from evidently import DataDefinition, Dataset, Report
        from evidently.legacy.calculations.stattests import StatTest, register_stattest
        from evidently.legacy.core import ColumnType
        from evidently.presets import DataDriftPreset

        kind = StatTest("cxlab_chisquare", "chi-square of homogeneity, p_value", [ColumnType.Categorical])
        register_stattest(kind, homogeneity)
        numbers, categories = ([n for n in schema.of_kind(k) if n in reference] for k in ("number", "category"))
        definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
        one = 1 / reference.shape[1]
        preset = DataDriftPreset(num_method="ks", cat_method=kind.name, threshold=ALPHA * one, drift_share=one)
        samples = (Dataset.from_pandas(part, data_definition=definition) for part in (current, reference))
        return Report([preset]).run(*samples)
