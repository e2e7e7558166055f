"""Candidates side by side: every metric with its interval, and whether a difference is more than luck.

    evaluation = evaluate(y, {"prior": p0, "boosting": p1}, churn_metrics(0.1))
    evaluation.values("boosting")["roc_auc"].low
    evaluation.compare("prior").plot("log_loss")

All candidates and metrics see the same resamples, so that a difference is that of two scores for the same customers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxlab.display import Result, axes, interval_plot, row_height
from cxlab.errors import ParamsError, unknown
from cxlab.metrics.bootstrap import Interval, check_level, interval, resampled
from cxlab.metrics.sample import Array, Draws, Metric, Sample

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Verdict = Literal["better", "worse", "cannot tell"]

FEWEST = 10  # customers of either outcome: below, resampling them cannot show how much luck there is
ROUNDING = 1e-12  # a smaller difference is the order of additions, not a difference


@dataclass(frozen=True, repr=False, eq=False)
class Comparison(Result):
    """Each candidate against a reference, on the same customers.

    Attributes:
        reference: The candidate compared with.
        candidates: The others, k of them.
        metrics: What was measured, m of them.
        n: Customers.
        level: Of the intervals.
        value: The candidates' metrics, shape (k, m).
        differences: Candidate minus reference, k rows of m intervals.
        verdicts: k rows of m.
    """

    title: ClassVar[str] = "Is the difference real?"
    note: ClassVar[str] = (
        "A candidate is better or worse only where the whole interval of the difference says so; "
        "otherwise these customers are too few to tell."
    )

    reference: str
    candidates: tuple[str, ...]
    metrics: tuple[Metric, ...]
    n: int
    level: float
    value: Array
    differences: tuple[tuple[Interval, ...], ...]
    verdicts: tuple[tuple[Verdict, ...], ...]

    def frame(self) -> pd.DataFrame:
        """One row a candidate and metric: candidate, reference, metric, n, value, difference with its ends, verdict."""
        import pandas as pd

        names = ["candidate", "reference", "metric", "n", "value", "difference", "diff_low", "diff_high", "verdict"]
        rows = [
            (name, self.reference, metric.name, self.n, self.value[c, m], *self.differences[c][m], self.verdicts[c][m])
            for c, name in enumerate(self.candidates)
            for m, metric in enumerate(self.metrics)
        ]
        return pd.DataFrame(rows, columns=names)

    def plot(self, metric: str | None = None) -> Axes:
        """Differences of one metric (the first, unless named), with their intervals."""
        m = _position(metric, self.metrics)
        ax = axes(f"{self.metrics[m].title}: difference to {self.reference}", height=row_height(self.candidates))
        labels = [f"{name}\n({row[m]})" for name, row in zip(self.candidates, self.verdicts, strict=True)]
        ends = np.array([row[m] for row in self.differences]).reshape(-1, 3)
        interval_plot(ax, labels, *ends.T, reference=0.0)
        ax.set_xlabel(_reading(self.metrics[m], self.level))
        return ax


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation(Result):
    """Candidates and their metrics, with intervals.

    Attributes:
        candidates: Names, k of them.
        metrics: What was measured, m of them.
        n: Customers.
        positives: Those with outcome 1.
        level: Of the intervals.
        value: Metrics of the whole sample, shape (k, m).
        replicates: Metrics of each resample, shape (k, m, B).
        lucky: True where luck alone explains how far a metric is from its best, shape (k, m).
    """

    title: ClassVar[str] = "How good is each candidate?"
    note: ClassVar[str] = (
        "The interval (low to high) shows how far a value could be off because we saw these customers and not others."
    )

    candidates: tuple[str, ...]
    metrics: tuple[Metric, ...]
    n: int
    positives: int
    level: float
    value: Array
    replicates: Array
    lucky: NDArray[np.bool_]

    def frame(self) -> pd.DataFrame:
        """One row a candidate and metric: candidate, metric, n, positives, value, low, high."""
        import pandas as pd

        rows = [
            (name, metric, self.n, self.positives, *found)
            for name in self.candidates
            for metric, found in self.values(name).items()
        ]
        return pd.DataFrame(rows, columns=["candidate", "metric", "n", "positives", "value", "low", "high"])

    def values(self, candidate: str) -> dict[str, Interval]:
        """One candidate's metrics by name.

        Raises:
            ParamsError: there is no such candidate.
        """
        c = self._row(candidate)
        return {
            metric.name: interval(
                self.value[c, m],
                self.replicates[c, m],
                level=self.level,
                kind=metric.interval,
                bounds=metric.bounds,
                also=metric.bounds[0] if self.lucky[c, m] else None,
            )
            for m, metric in enumerate(self.metrics)
        }

    def plot(self, metric: str | None = None) -> Axes:
        """Candidates by one metric (the first, unless named), with their intervals."""
        m = _position(metric, self.metrics)
        shown = self.metrics[m]
        ax = axes(
            f"{shown.title}: {self.n:,} customers, {self.positives:,} of them positive",
            height=row_height(self.candidates),
        )
        ends = np.array([self.values(name)[shown.name] for name in self.candidates])
        interval_plot(ax, list(self.candidates), *ends.T)
        ax.set_xlabel(_reading(shown, self.level))
        return ax

    def compare(self, reference: str, *, margin: float = 0.0) -> Comparison:
        """The other candidates against one: paired differences, and a verdict.

        Better (or worse) only where the whole interval of the difference lies on the good (or bad) side of zero,
        beyond the margin. With fewer than ten customers of either outcome the verdict is always `cannot tell`.

        Args:
            reference: The candidate to compare with.
            margin: Differences up to this size do not matter, >= 0, in the metric's unit.
        Raises:
            ParamsError: there is no such candidate.
            ValueError: `margin` is negative.
        """
        if not margin >= 0:
            raise ValueError(f"margin == {margin}, must be >= 0.")
        base = self._row(reference)
        others = [c for c in range(len(self.candidates)) if c != base]
        enough = min(self.positives, self.n - self.positives) >= FEWEST
        differences = tuple(tuple(self._difference(c, base, m) for m in range(len(self.metrics))) for c in others)
        verdicts = tuple(
            tuple(
                _verdict(found, metric, margin) if enough else "cannot tell"
                for found, metric in zip(row, self.metrics, strict=True)
            )
            for row in differences
        )
        names = tuple(self.candidates[c] for c in others)
        return Comparison(reference, names, self.metrics, self.n, self.level, self.value[others], differences, verdicts)

    def _difference(self, c: int, base: int, m: int) -> Interval:
        low, high = self.metrics[m].bounds
        return interval(
            float(_apart(self.value[c, m], self.value[base, m])),
            _apart(self.replicates[c, m], self.replicates[base, m]),
            level=self.level,
            kind=self.metrics[m].interval,
            bounds=(low - high, high - low),
            also=0.0 if self.lucky[c, m] and self.lucky[base, m] else None,
        )

    def _row(self, candidate: str) -> int:
        if candidate not in self.candidates:
            raise ParamsError(unknown("Candidate", candidate, self.candidates, where="in this evaluation"))
        return self.candidates.index(candidate)


def evaluate(
    y: ArrayLike,
    scores: Mapping[str, ArrayLike],
    metrics: Sequence[Metric],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Evaluation:
    """Every metric of every candidate, with a paired bootstrap over customers.

    Args:
        y: Outcomes, 0 or 1, shape (n,).
        scores: A candidate's scores by its name, each of shape (n,).
        metrics: What to measure; names differ.
        resamples: Bootstrap draws, >= 1; 1,000 is enough for 95 % intervals (Efron and Tibshirani 1993, section 14.5).
        seed: The same seed gives the same intervals.
        level: Of the intervals, in (0, 1).
    Raises:
        ValueError: an argument has the wrong shape or values; the message names the candidate.
    Examples:
        >>> from cxlab.metrics.classification import brier
        >>> found = evaluate([0, 1], {"sure": [0.0, 1.0], "unsure": [0.5, 0.5]}, [brier])
        >>> found.values("unsure")["brier"]
        Interval(value=0.25, low=0.25, high=0.25)
    """
    check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples == {resamples}, must be >= 1.")
    if not scores or not metrics:
        raise ValueError(f"{len(scores)} candidates and {len(metrics)} metrics given, must be at least one of each.")
    if len({metric.name for metric in metrics}) < len(metrics):
        raise ValueError(f"metrics {[metric.name for metric in metrics]}, must differ by name.")
    samples = [Sample.of(y, score, name=f"The score of {name!r}") for name, score in scores.items()]
    for name, sample in zip(scores, samples, strict=True):
        for metric in metrics:
            metric.check(sample, name=f"The score of {name!r}")
    prepared = [(sample, [metric.prepare(sample) for metric in metrics]) for sample in samples]
    n = len(samples[0].y)

    def measure(weights: Array) -> Array:
        every = [(Draws(sample, weights), statistics) for sample, statistics in prepared]
        return np.array([[statistic(draws) for statistic in statistics] for draws, statistics in every])

    value = measure(np.ones((1, n)))[:, :, 0]
    replicates = np.concatenate([measure(chunk) for chunk in resampled(n, resamples=resamples, seed=seed)], axis=2)
    luck = [[-np.inf if m.luck is None else m.luck(sample, level) for m in metrics] for sample in samples]
    positives = int(samples[0].y.sum())
    return Evaluation(tuple(scores), tuple(metrics), n, positives, level, value, replicates, value <= np.array(luck))


def _apart(one: Array, other: Array) -> Array:
    difference = one - other
    return np.where(np.abs(difference) < ROUNDING, 0.0, difference)


def _verdict(difference: Interval, metric: Metric, margin: float) -> Verdict:
    low, high = difference.low, difference.high
    if not metric.higher_is_better:
        low, high = -high, -low
    if low > margin:
        return "better"
    return "worse" if high < -margin else "cannot tell"  # NaN is neither


def _position(name: str | None, metrics: Sequence[Metric]) -> int:
    names = [metric.name for metric in metrics]
    if name is not None and name not in names:
        raise ParamsError(unknown("Metric", name, names, where="in this evaluation"))
    return 0 if name is None else names.index(name)


def _reading(metric: Metric, level: float) -> str:
    return f"{metric.title}, {'higher' if metric.higher_is_better else 'lower'} is better ({100 * level:g} % interval)"
