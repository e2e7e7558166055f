"""Experiments: what an arm changed, how surely, and how many customers it takes to know; on tea-tasting.

    written = plan(params, past)                # how many customers, how long, what counts
    written.write("plan.json")                  # before the first customer
    arm = assign(ids, salt=..., split=...)      # cxlab.decide.assignment
    found = readout(params)                     # cxlab.decide.readout
    settle(found, "expand", reason=..., learnt=...)   # cxlab.decide.decisions: into the ledger

Here is the arithmetic of one metric and two arms; the steps around it lie in the modules named. A share is the mean
of 0 and 1. The test of one look is Welch's. Covariates known before shorten intervals by CUPED (Deng, Xu, Kohavi and
Walker 2013, Improving the sensitivity of online controlled experiments by utilizing pre-experiment data, eq. 4 and 5):
of several, the combination that a linear regression within arms finds is the one covariate. What needs many looks is
in `sequential`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import Mean, SampleRatio

from cxlab.decide.sequential import always_valid_p, factor
from cxlab.metrics.sample import Array

ROWS_A_COLUMN = 50  # customers in an arm for each column of covariates: below, fitting them costs more than it brings
FAR = 10.0  # standard deviations from 0 to which means are moved: tea-tasting makes ratios of them, which nobody reads


class Told(NamedTuple):
    """An interval, and p of the test that belongs to it; NaN where nothing varies."""

    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Difference:
    """Arm minus control.

    Attributes:
        n: Customers in the arm.
        control_n: In the control.
        value: The arm's mean.
        control_value: The control's.
        difference: Of the means, adjusted for what was known before.
        unadjusted: Of the means as they are.
        error: Standard error of `difference`.
    """

    n: int
    control_n: int
    value: float
    control_value: float
    difference: float
    unadjusted: float
    error: float
    sums: tuple[Aggregates, Aggregates]
    covariate: str | None

    def once(self, level: float, *, against: float = 0.0) -> Told:
        """Of one look: Welch's interval, and p of the difference being `against`."""
        if not self.error > 0:
            return Told(np.nan, np.nan, np.nan)
        control, arm = self.sums
        moved = Aggregates(
            control.count_, {**control.mean_, "y": control.mean("y") + against}, control.var_, control.cov_
        )
        found = Mean("y", self.covariate, confidence_level=level, use_t=True, alternative="two-sided")
        told = found.analyze_aggregates(moved, arm)
        return Told(told.effect_size_ci_lower + against, told.effect_size_ci_upper + against, told.pvalue)

    def always(self, level: float, *, planned: float, tuned: float, against: float = 0.0) -> Told:
        """At any look: an interval of the confidence sequence, and p.

        Args:
            level: Of this interval.
            planned: Customers of both arms at which the sequence is tightest.
            tuned: The alpha for which it is.
            against: What p is about.
        """
        if not self.error > 0:
            return Told(np.nan, np.nan, np.nan)
        t = self.n + self.control_n
        half = self.error * float(factor(t, 1 - level, planned=planned, tuned=tuned))
        p = always_valid_p((self.difference - against) / self.error, t, planned=planned, tuned=tuned)
        return Told(self.difference - half, self.difference + half, float(p))


def difference(
    y: Array, arm: NDArray[np.bool_], control: NDArray[np.bool_], covariate: Array | None = None
) -> Difference:
    """What an arm's customers had more of than the control's.

    Args:
        y: The metric, shape (n,), finite.
        arm: Who got the arm, shape (n,), two at least.
        control: Who is the control, shape (n,), two at least.
        covariate: What was known before, as one number, shape (n,).
    """
    sums = tuple(_sums(y[part], None if covariate is None else covariate[part]) for part in (control, arm))
    pooled = math.sqrt(sum(item.var("y") for item in sums))
    middle = (sums[0].mean("y") + sums[1].mean("y")) / 2
    apart = sums[1].mean("y") - sums[0].mean("y")
    name = None if covariate is None else "x"
    counts = (sums[1].count(), sums[0].count(), sums[1].mean("y"), sums[0].mean("y"))
    for item in sums:
        item.mean_["y"] += FAR * (pooled or 1.0) - middle
    if not pooled > 0:
        return Difference(*counts, apart, apart, 0.0, (sums[0], sums[1]), None)
    plain = Mean("y", name, confidence_level=0.95, use_t=False, alternative="two-sided")
    found = plain.analyze_aggregates(*sums)
    error = (found.effect_size_ci_upper - found.effect_size_ci_lower) / (2 * Z95)
    return Difference(*counts, found.effect_size, apart, error, (sums[0], sums[1]), name)


Z95 = 1.959963984540054  # of the normal distribution, as tea-tasting takes it at 95 %


def _sums(y: Array, x: Array | None) -> Aggregates:
    """Of one arm: count, means, variances, covariance."""
    if x is None:
        return Aggregates(len(y), {"y": float(y.mean())}, {"y": float(y.var(ddof=1))})
    (yy, yx), (_, xx) = np.cov(y, x)
    means = {"y": float(y.mean()), "x": float(x.mean())}
    return Aggregates(len(y), means, {"y": float(yy), "x": float(xx)}, {("x", "y"): float(yx)})


def predicted(columns: Array, y: Array, codes: NDArray[np.intp]) -> Array | None:
    """What covariates tell of a metric, as one number: their combination by least squares within arms.

    Args:
        columns: Covariates, shape (n, k).
        y: The metric, shape (n,).
        codes: The arm of each row as 0, 1, ..., shape (n,).
    Returns:
        Shape (n,); None where there are no covariates, too few customers for so many, or where they tell nothing.
    """
    k, sizes = columns.shape[1], np.bincount(codes)
    if not k or sizes.min() < ROWS_A_COLUMN * k:
        return None
    apart = [np.bincount(codes, values) / sizes for values in (y, *columns.T)]
    inner = columns - np.column_stack(apart[1:])[codes]
    weights = np.linalg.lstsq(inner, y - apart[0][codes], rcond=None)[0]
    found = columns @ weights
    return found if np.ptp(found) > 0 else None


def sample_ratio(counts: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """p of sample-ratio mismatch: how likely arms of these sizes are where customers were split as planned.

    Two arms by tea-tasting (exact below 1,000 customers), more by Pearson's chi-square (Fabijan et al. 2019, Diagnosing
    sample ratio mismatch in online controlled experiments).

    Args:
        counts: Customers by arm.
        shares: Planned shares by arm.
    Examples:
        >>> round(sample_ratio({"a": 5100, "b": 4900}, {"a": 0.5, "b": 0.5}), 4)
        0.0466
    """
    if len(counts) == 2:
        one, two = counts
        data: dict[object, Aggregates] = {name: Aggregates(int(count)) for name, count in counts.items()}
        return float(SampleRatio(shares[two] / shares[one]).analyze(data, one, two).pvalue)
    from scipy import stats

    expected = np.array([shares[name] for name in counts]) * sum(counts.values())
    return float(stats.chisquare(list(counts.values()), expected).pvalue)


def customers_needed(
    y: Array, *, effect: float, power: float, alpha: float, ratio: float, covariate: Array | None = None
) -> int:
    """Customers of an arm and the control together from which on an effect is seen with a certain power.

    Args:
        y: The metric before the experiment, shape (n,); it must vary.
        effect: Difference to see, > 0, in the metric's unit.
        power: Chance to see it, in (0, 1).
        alpha: Of a two-sided test.
        ratio: Customers of the arm for one of the control.
        covariate: What is known before, shape (n,).
    """
    name, sums = _past(y, covariate)
    metric = _powered(name, alpha=alpha, ratio=ratio, power=power, effect_size=effect)
    return math.ceil(metric.solve_power_from_aggregates(sums, "n_obs")[0].n_obs)


def detectable(
    y: Array, sizes: Sequence[int], *, power: float, alpha: float, ratio: float, covariate: Array | None = None
) -> list[float]:
    """The smallest effect that so many customers of an arm and the control show with a certain power, one a size."""
    name, sums = _past(y, covariate)
    metric = _powered(name, alpha=alpha, ratio=ratio, power=power, n_obs=tuple(sizes))
    return [float(item.effect_size) for item in metric.solve_power_from_aggregates(sums, "effect_size")]


def _powered(name: str | None, **options: Any) -> Mean:
    return Mean("y", name, alternative="two-sided", equal_var=False, use_t=False, **options)


def _past(y: Array, covariate: Array | None) -> tuple[str | None, Aggregates]:
    sums = _sums(y, covariate)
    sums.mean_["y"] = FAR * math.sqrt(sums.var("y"))
    return (None if covariate is None else "x"), sums
