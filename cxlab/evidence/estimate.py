"""How good is the model on other rows than those of its test: measured where outcomes are known, estimated where not.

    performance_drift(subject, current)          # outcomes are there: current minus test part, with intervals
    estimate_performance(score, threshold=0.3)   # no outcomes yet: what calibrated scores promise

The estimate is confidence-based (CBPE): a row of probability p counts as p positives and 1 - p negatives. See
Guillory et al. (2021), Predicting with confidence on unseen distributions; Białek et al. (2024), Estimating model
performance under covariate shift without labels, arXiv:2401.08348, section 3; and NannyML's documentation of CBPE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from cxlab.data.schema import as_text
from cxlab.display import Result, axes, interval_plot
from cxlab.errors import DataError, listed, missing_column
from cxlab.metrics.bootstrap import CELLS, Interval, interval
from cxlab.metrics.classification import brier, log_loss, pr_auc, roc_auc
from cxlab.metrics.intervals import FEWEST, evaluate
from cxlab.metrics.multiclass import intent_metrics
from cxlab.metrics.sample import Array, Draws, Metric, Sample, Statistic, ratio
from cxlab.models.calibration import clipped, uncertainty
from cxlab.models.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = (roc_auc, pr_auc, log_loss, brier)  # of two classes
ESTIMATED = (roc_auc, log_loss, brier)  # not PR AUC: of learnt scores its interval held the truth in 93 of 100 shifts
MOST_ROWS = 20_000  # more add little to the interval and much to the time


@dataclass(frozen=True, repr=False)
class Estimated(Result):
    """What calibrated scores promise, outcomes unseen.

    Attributes:
        values: Intervals by metric.
        n: Rows the estimate rests on.
        rows: Rows there are; more than `n` where a sample of them was drawn.
    """

    values: dict[str, Interval]
    n: int
    rows: int

    title: ClassVar[str] = "Performance estimated without outcomes"

    @property
    def note(self) -> str:  # type: ignore[override]
        drawn = "" if self.n == self.rows else f" From a seeded sample of {self.n:,} of {self.rows:,} rows."
        return (
            "This holds if a score still means what it meant in training: other customers may come, but customers "
            f"who look alike must still behave alike. A change of behaviour is invisible here.{drawn}"
        )

    def frame(self) -> pd.DataFrame:
        """One row a metric: metric, n, value, low, high."""
        rows = [(name, self.n, *found) for name, found in self.values.items()]
        return pd.DataFrame(rows, columns=["metric", "n", "value", "low", "high"])

    def plot(self) -> Axes:
        frame = self.frame()
        ax = axes("Estimated without outcomes, 95 % interval")
        return interval_plot(ax, frame["metric"].tolist(), frame["value"], frame["low"], frame["high"])


def estimate_performance(
    score: ArrayLike,
    *,
    threshold: float | None = None,
    calibrated_on: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimated:
    """Performance on rows whose outcomes are not known.

    Each draw of the interval resamples the rows and draws their outcomes from the scores, so that it covers both the
    figure of these very rows and that of the customers they come from. Where the rows that calibration was learnt
    from are given, a draw also bends the scores by a logistic curve on the log-odds, as far as calibration on so few
    rows may be off (the large-sample covariance of its intercept and slope).

    Args:
        score: Calibrated probabilities, shape (n,).
        threshold: Adds accuracy, tpr and precision of contacting at this probability and above.
        calibrated_on: Scores of the labelled rows behind the calibration, shape (k,); None trusts it fully.
        resamples: Draws, >= 1.
        seed: The same seed gives the same interval.
        level: Of the interval, in (0, 1).
    Raises:
        ValueError: no scores, or some are no probabilities.
    Examples:
        >>> found = estimate_performance([0.0, 1.0, 0.0, 1.0], threshold=0.5)
        >>> found.values["roc_auc"].value, found.values["precision"].value
        (1.0, 1.0)
    """
    every = Sample.of(np.zeros(np.shape(score)), score)
    brier.check(every)
    rng = np.random.default_rng(seed)
    p, rows = every.score, len(every.score)
    if rows > MOST_ROWS:
        p = p[np.sort(rng.choice(rows, MOST_ROWS, replace=False))]
    n = len(p)
    # Each row once as a positive, once as a negative: every metric of labelled rows then reads weights.
    both = Sample(np.repeat([1.0, 0.0], n), np.tile(p, 2))
    asked = {metric.name: (metric, metric.prepare(both)) for metric in (*ESTIMATED, *_at(threshold))}

    def measure(weights: Array) -> dict[str, Array]:
        draws = Draws(both, weights)
        return {name: statistic(draws) for name, (_, statistic) in asked.items()}

    value = measure(np.concatenate([p, 1 - p])[None])
    bends = _bends(calibrated_on, resamples, rng)
    most = max(1, CELLS // (2 * n))
    parts = [measure(_drawn(p, bends[start : start + most], rng)) for start in range(0, resamples, most)]
    found = {
        name: interval(
            float(value[name][0]), np.concatenate([part[name] for part in parts]), level=level, bounds=metric.bounds
        )
        for name, (metric, _) in asked.items()
    }
    return Estimated(found, n, rows)


def estimate_accuracy(
    confidence: ArrayLike, *, calibrated_on: ArrayLike | None = None, resamples: int = 1000, seed: int = 0
) -> Estimated:
    """How often the likeliest of many classes is right, on rows whose outcomes are not known: the mean confidence
    (average confidence: Guillory et al. 2021), with an interval made as in `estimate_performance`.

    Args:
        confidence: Calibrated probabilities of the likeliest class, shape (n,).
        calibrated_on: The same of the labelled rows behind the calibration, shape (k,); None trusts it fully.
        resamples: Draws, >= 1.
        seed: The same seed gives the same interval.
    Raises:
        ValueError: no confidence, or some are no probabilities.
    Examples:
        >>> estimate_accuracy([1.0, 1.0, 1.0, 1.0]).values["accuracy"].value
        1.0
    """
    every = Sample.of(np.zeros(np.shape(confidence)), confidence, name="confidence")
    brier.check(every, name="confidence")
    rng = np.random.default_rng(seed)
    p, rows = np.sort(every.score), len(every.score)
    if rows > MOST_ROWS:
        p = p[np.sort(rng.choice(rows, MOST_ROWS, replace=False))]
    n = len(p)
    bends = _bends(calibrated_on, resamples, rng)
    most = max(1, CELLS // n)
    drawn = [_drawn(p, bends[start : start + most], rng)[:, :n].sum(axis=1) / n for start in range(0, resamples, most)]
    return Estimated({"accuracy": interval(float(p.mean()), np.concatenate(drawn), bounds=(0.0, 1.0))}, n, rows)


def _bends(calibrated_on: ArrayLike | None, resamples: int, rng: np.random.Generator) -> Array:
    """Intercept and slope on the log-odds of each draw, shape (resamples, 2)."""
    straight = np.tile([0.0, 1.0], (resamples, 1))
    if calibrated_on is None:
        return straight
    return straight + rng.multivariate_normal([0, 0], uncertainty(np.asarray(calibrated_on)), resamples)


def _drawn(p: Array, bends: Array, rng: np.random.Generator) -> Array:
    """How often each row was drawn with outcome 1, then with outcome 0, shape (b, 2n)."""
    b, n = len(bends), len(p)
    rows = rng.integers(0, n, (b, n))
    chance = expit(bends[:, :1] + bends[:, 1:] * logit(clipped(p))[rows])
    cell = rows + n * (rng.random((b, n)) >= chance) + 2 * n * np.arange(b)[:, None]
    return np.bincount(cell.ravel(), minlength=2 * n * b).reshape(b, 2 * n).astype(np.float64)


def _at(threshold: float | None) -> tuple[Metric, ...]:
    """Rates of contacting at the threshold and above."""
    if threshold is None:
        return ()

    def share(top: str, bottom: str | None) -> Metric:
        def prepare(sample: Sample) -> Statistic:
            contacted = sample.score >= threshold
            of = {
                "right": contacted == (sample.y == 1),
                "hit": contacted & (sample.y == 1),
                "positive": sample.y == 1,
                "contacted": contacted,
                None: np.ones(len(contacted), dtype=bool),
            }
            over, under = of[top].astype(np.float64), of[bottom].astype(np.float64)
            return lambda draws: ratio(draws.weights @ over, draws.weights @ under)

        name = {None: "accuracy", "positive": "tpr", "contacted": "precision"}[bottom]
        return Metric(name, name, True, prepare, bounds=(0.0, 1.0))

    return share("right", None), share("hit", "positive"), share("hit", "contacted")


@dataclass(frozen=True, repr=False)
class PerformanceDrift(Result):
    """The model on the current rows against its test part.

    Attributes:
        rows: One a metric: `metric, n_reference, n_current, positives_reference, positives_current, reference,
            current, difference, diff_low, diff_high, verdict`; the difference is current minus reference. With many
            classes their number is in the place of the positives.
        unlabelled: Current rows without an outcome, which were left out.
    """

    rows: pd.DataFrame = field(repr=False)
    unlabelled: int

    title: ClassVar[str] = "Performance where outcomes are known"

    @property
    def worse(self) -> bool:
        """True where a metric fell beyond its interval."""
        return bool((self.rows["verdict"] == "worse").any())

    @property
    def note(self) -> str:  # type: ignore[override]
        out = f" {self.unlabelled:,} rows without an outcome were left out." if self.unlabelled else ""
        return f"Worse or better only where the whole 95 % interval of the difference says so.{out}"

    def frame(self) -> pd.DataFrame:
        return self.rows

    def plot(self) -> Axes:
        ax = axes("Current minus test part, 95 % interval")
        return interval_plot(
            ax,
            [f"{name}\n({verdict})" for name, verdict in zip(self.rows["metric"], self.rows["verdict"], strict=True)],
            self.rows["difference"],
            self.rows["diff_low"],
            self.rows["diff_high"],
            reference=0.0,
        )


def performance_drift(
    subject: Subject, current: pd.DataFrame, *, metrics: Sequence[Metric] | None = None, seed: int = 0
) -> PerformanceDrift:
    """The model on labelled current rows minus the model on its test part.

    The two are different customers, so both sides are resampled on their own (Efron and Tibshirani 1993, chapter 8).

    Args:
        subject: The model and its test part.
        current: Raw rows with the target's column, shape (n, any); rows without an outcome are left out.
        metrics: What to measure; those of `METRICS`, or of `intent_metrics` with many classes, unless given.
        seed: The same seed gives the same intervals.
    Raises:
        DataError: The target's column is not there, holds no outcome, or one that training never saw.
    """
    outcome = outcomes(subject, current)
    known = ~np.isnan(outcome)
    if not known.any():
        raise DataError(f"{subject.table.roles.target!r} holds no outcome in the current sample. Leave the column out.")
    metrics = metrics or (intent_metrics() if subject.many else METRICS)
    y, score = outcome[known], subject.scores(current[known])
    before = evaluate(subject.outcome_test, {"model": subject.score_test}, metrics, seed=seed)
    now = evaluate(y, {"model": score}, metrics, seed=seed + 1)
    told = [
        ("positives", part.positives) if not subject.many else ("classes", len(part.counts)) for part in (before, now)
    ]
    enough = min(before.n, now.n) >= FEWEST
    if not subject.many:
        enough = min(before.positives, before.n - before.positives, now.positives, now.n - now.positives) >= FEWEST
    rows = []
    for m, metric in enumerate(metrics):
        one, other = float(before.value[0, m]), float(now.value[0, m])
        apart = interval(other - one, now.replicates[0, m] - before.replicates[0, m])
        low, high = (apart.low, apart.high) if metric.higher_is_better else (-apart.high, -apart.low)
        verdict = "cannot tell"
        if enough and (low > 0 or high < 0):
            verdict = "better" if low > 0 else "worse"
        rows.append((metric.name, before.n, now.n, *(count for _, count in told), one, other, *apart, verdict))
    beside = told[0][0]
    names = ["n_reference", "n_current", f"{beside}_reference", f"{beside}_current", "reference", "current"]
    columns = ["metric", *names, "difference", "diff_low", "diff_high", "verdict"]
    return PerformanceDrift(pd.DataFrame(rows, columns=columns), int((~known).sum()))


def outcomes(subject: Subject, rows: pd.DataFrame) -> Array:
    """The target of rows from elsewhere as 0 and 1 or class codes, NaN where it is missing, shape (n,).

    Raises:
        DataError: The target's column is not there, or holds a value that the table's does not.
    """
    table, target = subject.table, str(subject.table.roles.target)
    if target not in rows.columns:
        raise missing_column(target, map(str, rows.columns))
    code = dict(zip(as_text(table.frame[target]), subject.outcome(table.frame), strict=True))
    text = as_text(rows[target])
    text = text.mask(text == "") if subject.many else text
    strange = sorted(set(text.dropna()) - set(code))
    if strange:
        raise DataError(
            f"Target {target!r} of the current sample holds {listed(strange, 5)}, must be one of {listed(code)}. "
            "Write outcomes as in the training data, or leave the column out."
        )
    return text.map(code).to_numpy(np.float64, na_value=np.nan)
