"""When to say "I do not know": what is gained by not answering, and below which confidence we do not.

risk_coverage(y == predicted, confidence).plot()
rule = abstention_threshold(confidence_of_validation_rows, max_false_rejection=0.05)
rule.abstains(confidence)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.metrics.bootstrap import Interval, check_level, interval, resampled, wilson
from cxlab.metrics.sample import Array, Draws, Metric, Sample, Statistic, ratio

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["Abstention", "RiskCoverage", "abstention_threshold", "aurc", "risk_coverage"]

ROOM = 1e-9  # 0.29 * 100 is 28.999...


def _aurc(sample: Sample) -> Statistic:
    def statistic(draws: Draws) -> Array:
        answered, wrong = draws.reached[:, sample.ends], draws.caught[:, sample.ends]
        before = np.zeros((len(answered), 1))
        some = np.diff(answered, axis=1, prepend=before)
        bad = np.diff(wrong, axis=1, prepend=before)
        start, missed = answered - some, wrong - bad
        share = np.divide(bad, some, out=np.zeros_like(bad), where=some > 0)
        # Of the first j of a tie some * share are wrong, whichever come first: the sum over j of
        # (missed + j * share) / (start + j), with the harmonic numbers as digamma.
        harmonic = special.digamma(answered + 1) - special.digamma(start + 1)
        return ratio((bad + (missed - start * share) * harmonic).sum(axis=1), draws.total)

    return statistic


# The area under the risk-coverage curve: the risk averaged over answering the 1, 2, ..., n surest rows (Geifman, Uziel
# and El-Yaniv 2019, Bias-reduced uncertainty estimation, section 3). y is 1 where the answer is wrong, the score is the
# confidence; equal confidences are taken in random order, on average.
aurc = Metric(
    "aurc",
    "Area under the risk-coverage curve",
    False,
    _aurc,
    "The share of wrong answers, averaged over how many of the rows are answered, the surest first.",
    bounds=(0.0, 1.0),
)


@dataclass(frozen=True, repr=False, eq=False)
class RiskCoverage(Result):
    """The share of wrong answers by the share of rows that are answered, the surest first.

    Attributes:
        n: Rows.
        wrong: Those whose answer is wrong.
        area: The risk averaged over all coverages (AURC), with its interval.
        level: Of the intervals.
        table: See `frame`.
    """

    title: ClassVar[str] = "What is gained by not answering?"

    n: int
    wrong: int
    area: Interval
    level: float
    table: pd.DataFrame

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            "Answer the surest rows only: so many of the answers are wrong. A confidence that says nothing gives the "
            f"dashed line, {self.wrong / self.n:.3g}. The area under the curve is {self.area.value:.3g} "
            f"({self.area.low:.3g} to {self.area.high:.3g}, {100 * self.level:g} %); smaller is better."
        )

    def frame(self) -> pd.DataFrame:
        """One row a coverage: coverage, n (answered), confidence (the least of them), wrong, risk, low, high.

        Of rows of equal confidence some may be answered and others not: `wrong` is then the mean over which.
        """
        return self.table.copy()

    def plot(self) -> Axes:
        """Risk over coverage with its interval, against a confidence that says nothing."""
        from matplotlib.ticker import PercentFormatter

        ax = axes(f"Surest first: {self.n:,} rows, {self.wrong:,} of them wrong", width=5.6, height=4.2)
        ax.axhline(self.wrong / self.n, color=GREY, linewidth=1, linestyle="--", label="in random order")
        ax.fill_between(
            self.table["coverage"],
            self.table["low"],
            self.table["high"],
            color=PALETTE[0],
            alpha=0.2,
            linewidth=0,
            label=f"{100 * self.level:g} % interval",
        )
        ax.plot(self.table["coverage"], self.table["risk"], "o-", markersize=3, color=PALETTE[0], label="surest first")
        ax.set(xlim=(0, 1.02), xlabel="rows answered", ylabel="of the answers are wrong")
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.legend(frameon=False, loc="lower right")
        return ax


def risk_coverage(
    correct: ArrayLike,
    confidence: ArrayLike,
    *,
    step: float = 0.05,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> RiskCoverage:
    """The risk-coverage curve (El-Yaniv and Wiener 2010, On the foundations of noise-free selective classification).

    The intervals are bootstrap ones, at each coverage no narrower than Wilson's for the rows answered there: where no
    answer is wrong, resampling cannot show that one could be.

    Args:
        correct: Whether the answer is right, 0 or 1, shape (n,).
        confidence: Of the answer, shape (n,), higher is surer; any finite numbers.
        step: Share of rows from one coverage to the next, in (0, 1].
        resamples: Bootstrap draws for the intervals, >= 1.
        seed: Of those draws.
        level: Of the intervals, in (0, 1).
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> found = risk_coverage([1, 1, 0, 0], [0.9, 0.8, 0.7, 0.6], step=0.5)
        >>> found.frame()[["coverage", "n", "wrong", "risk"]].values.tolist()
        [[0.5, 2.0, 0.0, 0.0], [1.0, 4.0, 2.0, 0.5]]
        >>> print(f"{found.area.value:.4f}")  # the mean of 0, 0, 1/3 and 1/2
        0.2083
    """
    import pandas as pd

    check_level(level)
    if not 0 < step <= 1:
        raise ValueError(f"step == {step}, must be in (0, 1].")
    if resamples < 1:
        raise ValueError(f"resamples == {resamples}, must be >= 1.")
    right = Sample.of(correct, confidence, name="confidence")
    sample = Sample(1 - right.y, right.score)
    n = len(sample.y)
    shares = np.append(np.arange(step, 1.0, step), 1.0)
    rooms = np.unique(np.maximum(1, np.floor(shares * n + ROOM)).astype(int))
    area = aurc.prepare(sample)
    whole = Draws(sample, np.ones((1, n)))
    risk = _risk(whole, rooms)[0]
    areas, risks = [], []
    for weights in resampled(n, resamples=resamples, seed=seed):
        draws = Draws(sample, weights)
        areas.append(area(draws))
        risks.append(_risk(draws, rooms))
    replicates = np.concatenate(risks)
    formula = np.stack(wilson(risk * rooms, rooms, level=level), axis=1)
    ends = [
        (min(found.low, low), max(found.high, high))
        for found, (low, high) in zip(
            (interval(value, drawn, level=level) for value, drawn in zip(risk, replicates.T, strict=True)),
            formula,
            strict=True,
        )
    ]
    columns = {
        "coverage": rooms / n,
        "n": rooms,
        "confidence": sample.score[sample.order][rooms - 1],
        "wrong": risk * rooms,
        "risk": risk,
        "low": [low for low, _ in ends],
        "high": [high for _, high in ends],
    }
    total = interval(float(area(whole)[0]), np.concatenate(areas), level=level)
    return RiskCoverage(n, int(sample.y.sum()), total, level, pd.DataFrame(columns))


def _risk(draws: Draws, rooms: NDArray[np.int_]) -> Array:
    """The share of wrong answers among the surest `rooms` rows of each draw, shape (B, len(rooms))."""
    ends = draws.sample.ends
    found = np.empty((len(draws.weights), len(rooms)))
    for row, answered, wrong in zip(found, draws.reached[:, ends], draws.caught[:, ends], strict=True):
        # Straight lines between the ends of ties: the mean over the orders of equal confidences.
        row[:] = np.interp(rooms, np.append(0.0, answered), np.append(0.0, wrong)) / rooms
    return found


@dataclass(frozen=True, repr=False, eq=False)
class Abstention(Result):
    """A confidence below which the model does not answer.

    Attributes:
        threshold: That confidence; at it the model answers.
        max_false_rejection: The share of in-scope rows that may be turned away.
        n: Validation rows it was set on, all in scope.
        rejected: Those of them that it turns away.
        share: `rejected / n`, with an interval for the share of new in-scope rows.
        certainty: How sure it is that the share of new in-scope rows is at most `max_false_rejection`, in [0, 1].
        level: Of the interval.
        confidence: Of the validation rows, shape (n,).
        measure: What the confidence is called.
    """

    title: ClassVar[str] = "When does the model not answer?"

    threshold: float
    max_false_rejection: float
    n: int
    rejected: int
    share: Interval
    certainty: float
    level: float
    confidence: Array
    measure: str = "confidence"

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            f"Below a {self.measure} of {self.threshold:.4g} the model does not answer: {self.rejected:,} of "
            f"{self.n:,} in-scope rows, where {100 * self.max_false_rejection:g} % were allowed. Of new in-scope rows "
            f"it may turn away {100 * self.share.low:.2g} to {100 * self.share.high:.2g} % "
            f"({100 * self.level:g} % Clopper-Pearson interval)."
        )

    def abstains(self, confidence: ArrayLike) -> NDArray[np.bool_]:
        """Where the model does not answer, shape like `confidence`; a confidence that is not a number is no answer."""
        return ~(np.asarray(confidence, dtype=np.float64) >= self.threshold)

    def frame(self) -> pd.DataFrame:
        """One row: threshold, n, rejected, share, low, high, max_false_rejection, certainty."""
        import pandas as pd

        names = ["threshold", "n", "rejected", "share", "low", "high", "max_false_rejection", "certainty"]
        facts = (self.threshold, self.n, self.rejected, *self.share, self.max_false_rejection, self.certainty)
        return pd.DataFrame([facts], columns=names)

    def plot(self) -> Axes:
        """The confidences of the validation rows, and where the answers begin."""
        ax = axes(
            f"{self.measure.capitalize()} of {self.n:,} in-scope rows: {self.rejected:,} are turned away", height=3.0
        )
        ax.hist(self.confidence, bins=40, color=GREY, alpha=0.5)
        ax.axvline(self.threshold, color=PALETTE[0], linewidth=2)
        ax.set(xlabel=f"{self.measure}; from {self.threshold:.4g} on the model answers", ylabel="rows")
        return ax


def abstention_threshold(confidence: ArrayLike, *, max_false_rejection: float, level: float = 0.95) -> Abstention:
    """The highest confidence below which at most the allowed share of in-scope validation rows lies.

    It is an empirical quantile: of the validation rows never more are turned away than allowed (of rows of equal
    confidence all are answered or none), but of new rows the share may be higher, about every second time where
    there are no ties. The interval says how far off it may be (Clopper and Pearson 1934), and `certainty` how sure it
    is that no more than allowed are turned away: the chance of more than `rejected` among n rows if the share were just
    `max_false_rejection`. Without ties that is exact, for a threshold set by rank has a share that follows
    Beta(rejected + 1, n - rejected) whatever the confidences (Wilks 1941). To be surer, allow less.

    Args:
        confidence: Of validation rows that are in scope and trained nothing, shape (n,); any finite numbers.
        max_false_rejection: Share of in-scope rows that may be turned away, in [0, 1).
        level: Of the interval, in (0, 1).
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> found = abstention_threshold([0.2, 0.5, 0.5, 0.9], max_false_rejection=0.3)
        >>> found.threshold, found.rejected
        (0.5, 1)
        >>> found.abstains([0.49, 0.5]).tolist()
        [True, False]
    """
    check_level(level)
    if not 0 <= max_false_rejection < 1:
        raise ValueError(f"max_false_rejection == {max_false_rejection}, must be in [0, 1).")
    found = np.asarray(confidence, dtype=np.float64)
    if found.ndim != 1 or len(found) == 0:
        raise ValueError(f"confidence has shape {found.shape}, must be (n,) with n >= 1.")
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise ValueError(f"confidence is {found[bad[0]]} in row {bad[0]}, must be a finite number.")
    n = len(found)
    allowed = min(int(max_false_rejection * n + ROOM), n - 1)
    threshold = float(np.partition(found, allowed)[allowed])
    rejected = int((found < threshold).sum())
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, rejected, n - rejected + 1) if rejected else 0.0
    high = stats.beta.ppf(1 - tail, rejected + 1, n - rejected)
    certainty = float(stats.beta.cdf(max_false_rejection, rejected + 1, n - rejected))
    share = Interval(rejected / n, float(low), float(high))
    return Abstention(threshold, max_false_rejection, n, rejected, share, certainty, level, found)
