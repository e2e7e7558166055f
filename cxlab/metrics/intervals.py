"""Candidates side by side: every metric with its interval, and whether a difference is more than luck.

    evaluation = evaluate(y, {"prior": p0, "boosting": p1}, churn_metrics(0.1))
    evaluation.values("boosting")["roc_auc"].low
    evaluation.compare("prior").plot("log_loss")

All candidates and metrics see the same resamples, so that a difference is that of two scores for the same customers.
With metrics of many classes (`multiclass`) y holds class codes and every candidate gives probabilities, shape (n, k).
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

FEWEST = 10  # rows that a verdict rests on: below, resampling them cannot show how much luck there is
ROUNDING = 1e-12  # a smaller difference is the order of additions, not a difference


@dataclass(frozen=True, repr=False, eq=False)
class Comparison(Result):
    """Each candidate against a reference, on the same customers.

    Attributes:
        reference: The candidate compared with.
        candidates: The others, k of them.
        metrics: What was measured, m of them.
        n: Customers, or rows of many classes.
        level: Of the intervals.
        value: The candidates' metrics, shape (k, m).
        differences: Candidate minus reference, k rows of m intervals.
        verdicts: k rows of m.
    """

    title: ClassVar[str] = "Is the difference real?"
    reference: str
    candidates: tuple[str, ...]
    metrics: tuple[Metric, ...]
    n: int
    level: float
    value: Array
    differences: tuple[tuple[Interval, ...], ...]
    verdicts: tuple[tuple[Verdict, ...], ...]

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            "A candidate is better or worse only where the whole interval of the difference says so; "
            f"otherwise these {_things(self.metrics)} are too few to tell."
        )

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
        n: Customers, or rows of many classes.
        counts: Those of each class, the binary outcomes 0 and 1 among them.
        level: Of the intervals.
        value: Metrics of the whole sample, shape (k, m).
        replicates: Metrics of each resample, shape (k, m, B).
        lucky: True where luck alone explains how far a metric is from its best, shape (k, m).
        telling: How many rows a comparison of two candidates rests on, shape (k, k, m). See `compare`.
    """

    title: ClassVar[str] = "How good is each candidate?"
    candidates: tuple[str, ...]
    metrics: tuple[Metric, ...]
    n: int
    counts: tuple[int, ...]
    level: float
    value: Array
    replicates: Array
    lucky: NDArray[np.bool_]
    telling: NDArray[np.intp]

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            "The interval (low to high) shows how far a value could be off because we saw these "
            f"{_things(self.metrics)} and not others."
        )

    @property
    def positives(self) -> int:
        """Those with outcome 1.

        Raises:
            AttributeError: there are more than two classes, none of them the positive one.
        """
        if len(self.counts) > 2:
            raise AttributeError(f"An evaluation of {len(self.counts)} classes has no positives; it has n and counts.")
        return self.counts[1]

    def frame(self) -> pd.DataFrame:
        """One row a candidate and metric: candidate, metric, n, positives, value, low, high.

        With metrics of many classes `classes`, their number, is in the place of `positives`.
        """
        import pandas as pd

        many = self.metrics[0].many
        beside = len(self.counts) if many else self.positives
        rows = [
            (name, metric, self.n, beside, *found)
            for name in self.candidates
            for metric, found in self.values(name).items()
        ]
        columns = ["candidate", "metric", "n", "classes" if many else "positives", "value", "low", "high"]
        return pd.DataFrame(rows, columns=columns)

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
        of = f"{len(self.counts):,} classes" if shown.many else f"{self.positives:,} of them positive"
        ax = axes(f"{shown.title}: {self.n:,} {_things(self.metrics)}, {of}", height=row_height(self.candidates))
        ends = np.array([self.values(name)[shown.name] for name in self.candidates])
        interval_plot(ax, list(self.candidates), *ends.T)
        ax.set_xlabel(_reading(shown, self.level))
        return ax

    def compare(self, reference: str, *, margin: float = 0.0) -> Comparison:
        """The other candidates against one: paired differences, and a verdict.

        Better (or worse) only where the whole interval of the difference lies on the good (or bad) side of zero,
        beyond the margin. With fewer than ten customers of either outcome the verdict is always `cannot tell`.

        With many classes it is `cannot tell`, for a metric that reads only which rows are right (accuracy, macro F1),
        with fewer than ten rows that one of the two gets right and the other wrong: all of the difference is in them
        (McNemar 1947). For a metric that reads the probabilities (log loss) it is with fewer than ten rows that
        either of the two gets wrong, or with fewer than ten that either gets right.

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
        differences = tuple(tuple(self._difference(c, base, m) for m in range(len(self.metrics))) for c in others)
        verdicts = tuple(
            tuple(
                _verdict(found, metric, margin) if rests_on >= FEWEST else "cannot tell"
                for found, metric, rests_on in zip(row, self.metrics, self.telling[c, base], strict=True)
            )
            for c, row in zip(others, differences, strict=True)
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
    groups: ArrayLike | None = None,
) -> Evaluation:
    """Every metric of every candidate, with a paired bootstrap over customers.

    Args:
        y: Outcomes, 0 or 1, shape (n,); class codes for metrics of many classes.
        scores: A candidate's scores by its name, each of shape (n,); or its probabilities, each of shape (n, k).
        metrics: What to measure; names differ, and all are binary or all of many classes.
        resamples: Bootstrap draws, >= 1; 1,000 is enough for 95 % intervals (Efron and Tibshirani 1993, section 14.5).
        seed: The same seed gives the same intervals.
        level: Of the intervals, in (0, 1).
        groups: Whose each row is, shape (n,): rows of one case know of one another, so cases are drawn, not rows
            (Davison and Hinkley 1997, section 3.8). None: every row is its own.
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
    samples = _samples(y, scores, metrics)
    prepared = [(sample, [metric.prepare(sample) for metric in metrics]) for sample in samples]
    n = len(samples[0].y)

    def measure(weights: Array) -> Array:
        every = [(Draws(sample, weights), statistics) for sample, statistics in prepared]
        return np.array([[statistic(draws) for statistic in statistics] for draws, statistics in every])

    value = measure(np.ones((1, n)))[:, :, 0]
    whose = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if whose.shape != (n,):
        raise ValueError(f"groups has shape {whose.shape}, must be ({n},): one a row of y.")
    draws = resampled(int(whose.max()) + 1, resamples=resamples, seed=seed, wide=n)
    chunks = (chunk if groups is None else chunk[:, whose] for chunk in draws)
    replicates = np.concatenate([measure(chunk) for chunk in chunks], axis=2)
    luck = [[-np.inf if m.luck is None else m.luck(sample, level) for m in metrics] for sample in samples]
    counts = tuple(np.bincount(samples[0].codes, minlength=samples[0].classes).tolist())
    lucky, telling = value <= np.array(luck), _telling(samples, metrics, counts)
    return Evaluation(tuple(scores), tuple(metrics), n, counts, level, value, replicates, lucky, telling)


def _samples(y: ArrayLike, scores: Mapping[str, ArrayLike], metrics: Sequence[Metric]) -> list[Sample]:
    """One a candidate, checked."""
    if len({metric.many for metric in metrics}) > 1:
        kinds = [f"{metric.name} ({'many classes' if metric.many else 'binary'})" for metric in metrics]
        raise ValueError(f"metrics {kinds}, must all be binary or all of many classes.")
    if metrics[0].many:
        samples = [Sample.of_classes(y, score, name=f"The score of {name!r}") for name, score in scores.items()]
        for name, sample in zip(scores, samples, strict=True):
            if sample.classes != samples[0].classes:
                raise ValueError(
                    f"The score of {name!r} has {sample.classes} columns, must have {samples[0].classes} "
                    f"like that of {next(iter(scores))!r}: one a class."
                )
        return samples
    samples = [Sample.of(y, score, name=f"The score of {name!r}") for name, score in scores.items()]
    for name, sample in zip(scores, samples, strict=True):
        for metric in metrics:
            metric.check(sample, name=f"The score of {name!r}")
    return samples


def _telling(samples: Sequence[Sample], metrics: Sequence[Metric], counts: tuple[int, ...]) -> NDArray[np.intp]:
    """How many rows the comparison of each two candidates by each metric rests on, shape (k, k, m)."""
    if not metrics[0].many:
        return np.full((len(samples), len(samples), len(metrics)), min(counts))
    found = []
    for metric in metrics:
        right = np.array([sample.right if metric.right is None else metric.right(sample) for sample in samples], float)
        both_right, both_wrong = right @ right.T, (1 - right) @ (1 - right).T
        n = right.shape[1]
        if metric.right is None:
            found.append(n - np.maximum(both_right, both_wrong))
        else:
            found.append(n - both_right - both_wrong)
    return np.rint(np.stack(found, axis=2)).astype(np.intp)


def _apart(one: Array, other: Array) -> Array:
    difference = one - other
    return np.where(np.abs(difference) < ROUNDING, 0.0, difference)


def _things(metrics: Sequence[Metric]) -> str:
    return "rows" if metrics[0].many else "customers"


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
