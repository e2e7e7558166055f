"""Who is treated differently: rates by segment, each with its interval, and a verdict. The only door to Fairlearn.

    found = audit(outcome, score, segments_of(test, ["gender"]), threshold, params.fairness)
    found.frame()     # segment, group, metric, n, positives, value, low, high, difference, ..., verdict
    found.failed      # the rows that say no; empty is no proof: look at what could not be told
    found.gaps()      # one row a segment and metric: the group furthest above another

A difference is a group's value minus that of everybody else in its segment, who are other customers, so that both
sides count even if one group is most of the data.

Models of several classes come in through `audit_answers`: how often they are right, how often they answer, and how
often what they answer is right. For one class against the rest give `audit` outcome 1 where it was that class, its
probability as the score, and decision 1 where it was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxlab.display import GREY, Result, axes, interval_plot, row_height
from cxlab.errors import DataError, ParamsError, missing_column, unknown
from cxlab.evidence.groups import Partition, draws, measure, partitions
from cxlab.evidence.verdicts import ANSWERS, CHOICES, COLUMNS, GAPS, gaps, judged
from cxlab.metrics.sample import Array, Sample
from cxlab.params import FairnessParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

READING = (
    "A difference is a group's value minus that of everybody else; intervals are 95 %. It fails only if its whole "
    "interval lies beyond the limit, also when widened for the number of differences looked at, and passes only "
    "if its whole interval lies within."
)
NOTES = {
    "selected": "Calibration error is the mean score minus the rate: above 0, the scores promise too much. `of` is the "
    "metric's own denominator.",
    "answers": "Accuracy is of all texts, whether answered or not; answered is the share of texts that the model does "
    "not turn away. These two are judged, whatever fairness.metrics says, which is about selecting customers. "
    "Calibration error is the mean confidence minus the accuracy: above 0, the model is too sure. `positives` are the "
    "texts whose likeliest intent is right, `of` is the metric's own denominator.",
}
JUDGED = ("accuracy", "answered")  # of what a model of many classes answers

Constraint = Literal["equalized_odds", "true_positive_rate_parity"]


class Worst(NamedTuple):
    """A group's difference to everybody else, with its interval."""

    segment: str
    group: str
    metric: str
    value: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True, repr=False)
class Audit(Result):
    """Rates of every group and how far they are from everybody else's.

    Attributes:
        rows: One a segment, group and metric; `tellable` says whether a judged difference could be measured.
        spans: One a segment and metric: the lowest and the highest group, and their gap.
        params: What was judged, and by which limit.
        comparisons: How many judged differences could be told, each pair of two groups counted once.
        judged: The metrics that are judged.
        of: What the metrics are of: whom a model selects, or what one of many classes answers.
    """

    rows: pd.DataFrame = field(repr=False)
    spans: pd.DataFrame = field(repr=False)
    params: FairnessParams
    comparisons: int
    judged: tuple[str, ...]
    of: Literal["selected", "answers"] = "selected"

    title: ClassVar[str] = "Who is treated differently?"

    @property
    def note(self) -> str:  # type: ignore[override]
        return f"{READING} {NOTES[self.of]}"

    def frame(self) -> pd.DataFrame:
        """segment, group, metric, n, positives, value, low, high, difference, diff_low, diff_high, verdict; then
        of (the metric's denominator), ratio (to everybody else) and reason."""
        return self.rows[COLUMNS]

    def gaps(self) -> pd.DataFrame:
        """segment, metric, groups (that are large enough), lowest, highest, gap, low, high, ratio (lowest to highest).

        The largest difference between any two groups, with an interval that holds for all pairs at once: each pair's
        bootstrap interval, widened as Bonferroni asks, so that picking the worst pair is paid for.
        """
        return self.spans

    @property
    def failed(self) -> pd.DataFrame:
        """The rows that fail."""
        return self.frame()[self.rows["verdict"] == "fail"]

    @property
    def worst(self) -> Worst | None:
        """The largest judged difference, of those that could be told; None if there is none."""
        told = self.rows[self.rows["tellable"]].reset_index(drop=True)
        if told.empty:
            return None
        at = int(told["difference"].abs().to_numpy().argmax())
        row = told.iloc[at].to_dict()
        value, low, high = (float(row[name]) for name in ("difference", "diff_low", "diff_high"))
        return Worst(row["segment"], row["group"], row["metric"], value, low, high, row["verdict"])

    def plot(self, metric: str | None = None, segment: str | None = None) -> Axes:
        """Differences of one metric (the first judged, unless named), with their intervals and the limit.

        Args:
            metric: One of the frame's.
            segment: Only this one, an intersection too; all single segments if None.
        Raises:
            ParamsError: There is no such metric or segment.
        """
        metric = metric or self.judged[0]
        metrics = CHOICES if self.of == "selected" else ANSWERS
        if metric not in metrics:
            raise ParamsError(unknown("Metric", metric, metrics))
        known = self.rows["segment"].unique().tolist()
        if segment is not None and segment not in known:
            raise ParamsError(unknown("Segment", segment, known, where="in this audit"))
        wanted = self.rows["single"] if segment is None else self.rows["segment"] == segment
        part = self.rows[wanted & (self.rows["metric"] == metric)]
        ax = axes(f"{metric}: difference to everybody else", height=row_height(part))
        limit = self.params.max_difference
        ax.axvspan(-limit, limit, color=GREY, alpha=0.15, lw=0)
        labels = [f"{row.segment}: {row.group} (n={row.n:,})\n{row.verdict}" for row in part.itertuples()]
        interval_plot(ax, labels, part["difference"], part["diff_low"], part["diff_high"], reference=0.0)
        ax.set_xlabel(f"difference, 95 % interval; grey: within the limit of {limit:g}")
        return ax


def segments_of(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The segments' columns.

    Raises:
        DataError: One is not there.
    """
    for name in names:
        if name not in frame.columns:
            raise missing_column(name, map(str, frame.columns))
    return frame[list(dict.fromkeys(names))]


def audit(
    outcome: ArrayLike,
    score: ArrayLike,
    segments: pd.DataFrame,
    threshold: float,
    params: FairnessParams,
    *,
    decision: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Audit:
    """Rates by group and intersection, with the differences' intervals from one bootstrap, and verdicts.

    Missing values are a group. Numbers of many values are cut at their quartiles; of categories the 20 largest are
    kept apart. The intervals come from a Bayesian bootstrap (see `cxlab.evidence.groups` for which and why). A
    verdict is given for the metrics in `params.metrics`; the others are shown. `fail` also has to hold when the
    interval is widened for the number of comparisons (Bonferroni; Dunn 1961), because among eighty groups some
    interval leaves the limit by luck; this keeps audits without a gap that fail anything below 5 in 100.

    Args:
        outcome: Outcomes in {0, 1}, shape (n,), n >= 1.
        score: Probabilities, shape (n,).
        segments: A column a segment, n rows; no columns give an audit without rows.
        threshold: Selected are scores at it and above.
        params: What is judged.
        decision: Who is selected, in {0, 1}, shape (n,); replaces the threshold.
        resamples: Bootstrap draws, >= 1.
        seed: Of the draws.
    Raises:
        DataError: There are no rows.
        ValueError: An argument has the wrong shape or values.
    """
    if not len(segments):
        raise DataError("There are no rows to audit: the segments have 0 rows. Pass the rows of the test part.")
    sample = Sample.of(outcome, score)
    if len(segments) != len(sample.y):
        raise ValueError(f"segments has {len(segments)} rows, must be {len(sample.y)}: one a row of outcome.")
    if not ((sample.score >= 0) & (sample.score <= 1)).all():
        raise ValueError(f"score reaches {sample.score.min()} to {sample.score.max()}, must be in [0, 1].")
    if resamples < 1:
        raise ValueError(f"resamples == {resamples}, must be >= 1.")
    selected = sample.score >= threshold if decision is None else np.asarray(decision)
    y, chosen = sample.y, Sample.of(selected.astype(np.int64), sample.score).y
    parts = partitions(segments)
    if not parts:
        return _of_nobody(params, params.metrics, "selected")
    here = measure(parts, y, chosen, sample.score)
    here.rates[:, 0, :4] = np.concatenate([_by_group(part, y, chosen) for part in parts])
    drawn = draws(parts, y, chosen, sample.score, resamples=resamples, seed=seed)
    rows, comparisons = judged(parts, here, drawn, params)
    return Audit(rows, gaps(parts, here, drawn[:, :, 0], params.min_group), params, comparisons, params.metrics)


def _of_nobody(params: FairnessParams, asked: tuple[str, ...], of: Literal["selected", "answers"]) -> Audit:
    empty = pd.DataFrame(columns=[*COLUMNS, "single", "tellable"])
    return Audit(empty, pd.DataFrame(columns=GAPS), params, 0, asked, of)


def audit_answers(
    right: ArrayLike,
    confidence: ArrayLike,
    answered: ArrayLike,
    segments: pd.DataFrame,
    params: FairnessParams,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Audit:
    """The same of a model of many classes: accuracy and how often it answers are judged, whatever `params.metrics`.

    Args:
        right: Whether the likeliest class is right, in {0, 1}, shape (n,), n >= 1.
        confidence: Its probability, shape (n,).
        answered: Whether the model answers, in {0, 1}, shape (n,).
        segments: A column a segment, n rows; no columns give an audit without rows.
        params: The limit, and how large a group must be.
        resamples: Bootstrap draws, >= 1.
        seed: Of the draws.
    Raises:
        DataError: There are no rows.
        ValueError: An argument has the wrong shape or values.
    """
    if not len(segments):
        raise DataError("There are no rows to audit: the segments have 0 rows. Pass the rows of the test part.")
    sample = Sample.of(right, confidence, name="confidence")
    decision = Sample.of(answered, sample.score).y
    if len(segments) != len(sample.y):
        raise ValueError(f"segments has {len(segments)} rows, must be {len(sample.y)}: one a row of right.")
    parts = partitions(segments)
    if not parts:
        return _of_nobody(params, JUDGED, "answers")
    here = measure(parts, sample.y, decision, sample.score, auc=False)
    drawn = draws(parts, sample.y, decision, sample.score, resamples=resamples, seed=seed, auc=False)
    rows, comparisons = judged(parts, here, drawn, params, metrics=ANSWERS, asked=JUDGED)
    spans = gaps(parts, here, drawn[:, :, 0], params.min_group, ANSWERS)
    return Audit(rows, spans, params, comparisons, JUDGED, "answers")


def _by_group(part: Partition, y: Array, decision: Array) -> Array:
    """Selection rate, TPR, FPR and precision by Fairlearn, shape (groups, 4); NaN where nobody is counted."""
    from fairlearn.metrics import MetricFrame

    def share(values: Array) -> float:
        return float(values.mean()) if len(values) else np.nan  # Fairlearn's own rates are 0 there

    def four(true: Array, chosen: Array) -> tuple[float, ...]:
        return share(chosen), share(chosen[true == 1]), share(chosen[true == 0]), share(true[chosen == 1])

    # One metric that returns four: each call of one checks its arrays anew.
    found = MetricFrame(metrics=four, y_true=y, y_pred=decision, sensitive_features=part.code).by_group
    return np.array([found.loc[code] for code in range(len(part.labels))])


def equalised(
    outcome: Array, score: Array, group: Array, constraint: Constraint, *, on: tuple[Array, Array], seed: int = 0
) -> Array:
    """Decisions of Fairlearn's `ThresholdOptimizer` (Hardt, Price and Srebro 2016): thresholds by group, some drawn by
    lot, that equalise the groups' rates at the best balanced accuracy.

    Args:
        outcome: Of the rows to learn from, in {0, 1}, shape (n,); both values in every group.
        score: Their probabilities, shape (n,).
        group: Their groups, shape (n,).
        constraint: What shall be equal.
        on: Score and group of the rows to decide, shape (m,) each; no new groups.
        seed: Of the lots.
    Returns:
        Shape (m,), 0 or 1.
    """
    from fairlearn.postprocessing import ThresholdOptimizer
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Scores(ClassifierMixin, BaseEstimator):
        """A fitted model whose rows are their scores."""

        classes_ = np.array([0, 1])

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def fit(self, *_: Array) -> Scores:
            return self

        def predict_proba(self, X: Array) -> Array:
            return np.column_stack([1 - np.ravel(X), np.ravel(X)])

    optimizer = ThresholdOptimizer(
        estimator=Scores(),
        constraints=constraint,
        objective="balanced_accuracy_score",
        prefit=True,
        predict_method="predict_proba",
    )
    optimizer.fit(score.reshape(-1, 1), outcome.astype(np.int64), sensitive_features=group)
    scored, grouped = on
    decided = optimizer.predict(scored.reshape(-1, 1), sensitive_features=grouped, random_state=seed)
    return np.asarray(decided, dtype=np.float64)
