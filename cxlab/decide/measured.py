"""From rows to figures: a value, its interval, its denominator, what is not known, and whether it has changed.

A measure is a mean of its rows, or a share that lasts. Rows of one customer (or agent) depend on one another, so that
all variances are those of sums by customer (linearised ratios: Cochran 1977, Sampling techniques, section 9A; the
sandwich of Liang and Zeger 1986). The influence of each customer on a figure is kept, and the difference of two
periods takes its variance from the difference of the two influences: most customers are in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cxlab.display import Result, axes, interval_plot, row_height, sentence
from cxlab.errors import ParamsError, unknown
from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.multiplicity import adjusted
from cxlab.metrics.sample import Array
from cxlab.metrics.survival import kaplan_meier

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NOTHING = 1e-15  # a smaller variance is rounding

Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Rows:
    """What a measure is taken of.

    Attributes:
        table: Whose rows they are.
        at: Their positions there, shape (n,).
        value: What each counts, NaN where that is not known, shape (n,); of a share that lasts, days until it was over
            or cut short.
        of: Who each depends on: a number by customer or agent, shape (n,).
        weight: How many each speaks for, > 0, shape (n,); None: one.
        observed: Of a share that lasts: that it was over, shape (n,).
    """

    table: str
    at: Places
    value: Array
    of: Places
    weight: Array | None = None
    observed: NDArray[np.bool_] | None = None

    def part(self, keep: NDArray[np.bool_]) -> Rows:
        """Some of them."""
        weight = None if self.weight is None else self.weight[keep]
        observed = None if self.observed is None else self.observed[keep]
        return Rows(self.table, self.at[keep], self.value[keep], self.of[keep], weight, observed)


class Scale(NamedTuple):
    """What a measure's rows can count; `share` where they are 0 or 1 of the unit and nothing between."""

    low: float
    high: float
    share: bool


class Estimate(NamedTuple):
    """A figure.

    Attributes:
        value: NaN where nothing is known.
        low: Of its interval.
        high: Of its interval.
        n: Rows that it rests on.
        eligible: Those and the rows of which it is not known.
        units: Customers (or agents) whom the rows are of.
        if_worst: Its value if all that is not known were bad; NaN where there is no worst.
        if_best: If it were good.
        variance: Of the value.
        influence: Of each customer on the value, by number, shape (k,).
        seen: Which customers it rests on, shape (k,).
    """

    value: float
    low: float
    high: float
    n: int
    eligible: int
    units: int
    if_worst: float
    if_best: float
    variance: float
    influence: Array
    seen: NDArray[np.bool_]


def _clustered(influence: Array, units: float) -> float:
    return float(units / (units - 1) * (influence @ influence)) if units > 1 else np.nan


def mean_of(rows: Rows, scale: Scale | None, *, better: bool | None, count: int, level: float) -> Estimate:
    """A mean, with its interval.

    Where there is a scale it is Wilson's for an effective number of rows, that of which the variance by customer would
    be a share's (Korn and Graubard 1998, Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data, Survey Methodology 24(2), their adjustment to few customers among them); a share
    has never more rows than there are. Without one it is Student's, with one degree of freedom less than customers.

    Args:
        rows: What is measured.
        scale: What a row can count; None where there is no limit above.
        better: True where more is better; which end of the scale is worst.
        count: How many customers (or agents) there are in all.
        level: Of the interval.
    """
    known = np.isfinite(rows.value)
    y, of = rows.value[known], rows.of[known]
    w = np.ones(len(y)) if rows.weight is None else rows.weight[known]
    n, units = len(y), len(np.unique(of))
    worst, best = _if_known(rows.value, scale, better)
    if not n:
        nothing = (np.nan,) * 3
        return Estimate(*nothing, 0, len(known), 0, worst, best, np.nan, np.zeros(count), np.zeros(count, bool))
    seen = np.bincount(of, minlength=count) > 0
    value = float((w @ y) / w.sum())
    influence = np.bincount(of, weights=w * (y - value) / w.sum(), minlength=count).astype(np.float64)
    variance = _clustered(influence, units)
    reach = stats.t.ppf((1 + level) / 2, units - 1) if units > 1 else np.nan
    if scale is None:
        half = reach * np.sqrt(variance)
        ends = max(value - half, 0.0), value + half
        return Estimate(value, *ends, n, len(known), units, worst, best, variance, influence, seen)
    wide = scale.high - scale.low
    share = (value - scale.low) / wide
    each = share * (1 - share)
    if variance > NOTHING * wide**2:
        effective = each * wide**2 / variance
        effective = min(effective, n) if scale.share else effective
    else:
        # Rows that are all alike say no more than their customers; of each such customer one row is taken.
        effective = float(units)
        variance = wide**2 * _alike(share, units)
    effective *= (stats.norm.ppf((1 + level) / 2) / reach) ** 2
    low, high = wilson(share * effective, effective, level=level) if units > 1 else (np.nan, np.nan)
    ends = scale.low + wide * float(low), scale.low + wide * float(high)
    return Estimate(value, *ends, n, len(known), units, worst, best, variance, influence, seen)


def _alike(share: float, units: int) -> float:
    """The variance of a share of customers who are all alike: with two good and two bad ones added."""
    middle = (share * units + 2) / (units + 4)
    return middle * (1 - middle) / (units + 4)


def _if_known(value: Array, scale: Scale | None, better: bool | None) -> tuple[float, float]:
    """The mean if all that is not known were at the one end of the scale, and at the other (Manski 1989, Anatomy of the
    selection problem, Journal of Human Resources 24(3)).
    """
    if scale is None or not len(value):
        return np.nan, np.nan
    ends = (scale.high, scale.low) if better is False else (scale.low, scale.high)
    worst, best = (float(np.where(np.isfinite(value), value, end).mean()) for end in ends)
    return worst, best


def lasting(rows: Rows, days: float, *, unit: float, count: int, level: float) -> Estimate:
    """The share that lasts longer than some days (Kaplan and Meier), with the interval of `cxlab.metrics.survival`.

    Each customer's influence is that of the product-limit estimate (Reid 1981, Influence functions for censored data).

    Args:
        rows: Days until it was over or cut short.
        days: After how many.
        unit: What a whole is, 1 or 100.
        count: How many customers there are in all.
        level: Of the interval.
    """
    assert rows.observed is not None
    n, units = len(rows.value), len(set(rows.of.tolist()))
    seen = np.bincount(rows.of, minlength=count) > 0
    nothing = Estimate(np.nan, np.nan, np.nan, n, n, units, np.nan, np.nan, np.nan, np.zeros(count), seen)
    if not n:
        return nothing
    curve = kaplan_meier(rows.value, rows.observed, level=level)
    value = float(curve.at(days))
    if not np.isfinite(value):
        return nothing
    table = curve.frame().query("time <= @days")
    if table.empty:
        still = float((rows.value >= days).sum())
        low, high = (float(end) for end in wilson(still, still, level=level))
    else:
        low, high = float(table["low"].iloc[-1]), float(table["high"].iloc[-1])
    # Nobody has left, or nobody is left: all are alike, and the curve has no slope there.
    if table.empty or value == 0:
        flat = unit**2 * _alike(value, units)
        return Estimate(unit * value, unit * low, unit * high, n, n, units, np.nan, np.nan, flat, np.zeros(count), seen)
    time, at_risk, events = (table[name].to_numpy(np.float64) for name in ("time", "at_risk", "events"))
    left = at_risk - events
    gone = np.append(0.0, np.cumsum(events / (at_risk * left)))
    upto = np.searchsorted(time, np.minimum(rows.value, days), side="right")
    own = np.where(rows.observed & (rows.value <= days), 1 / left[np.maximum(upto, 1) - 1], 0.0)
    slope = -unit * value * (own - gone[upto])
    influence = np.bincount(rows.of, weights=slope, minlength=count).astype(np.float64)
    variance = _clustered(influence, units)
    return Estimate(unit * value, unit * low, unit * high, n, n, units, np.nan, np.nan, variance, influence, seen)


class Difference(NamedTuple):
    """Of two figures: the later less the earlier, with its interval and p; NaN where it cannot be told."""

    value: float
    low: float
    high: float
    p: float


def difference(now: Estimate, before: Estimate, *, level: float) -> Difference:
    """How far a figure has moved. Student's t for the fewer customers of the two.

    Where the rows of one are all alike its variance is that of a share with two good and two bad rows added (Agresti
    and Caffo 2000, Simple and effective confidence intervals for proportions and differences of proportions).
    """
    apart = now.value - before.value
    units = int(min(now.units, before.units))
    if not np.isfinite(apart) or units < 2:
        return Difference(apart, np.nan, np.nan, np.nan)
    either = int(np.count_nonzero(now.seen | before.seen))
    variance = _clustered(now.influence - before.influence, either)
    for one in (now, before):
        if one.influence @ one.influence <= NOTHING and np.isfinite(one.variance):
            variance += one.variance
    if not variance > 0:
        return Difference(apart, apart, apart, np.nan)
    error = np.sqrt(variance)
    half = stats.t.ppf((1 + level) / 2, units - 1) * error
    return Difference(apart, apart - half, apart + half, float(2 * stats.t.sf(abs(apart) / error, units - 1)))


@dataclass(frozen=True, repr=False, eq=False)
class Measures(Result):
    """Measures of customer experience, all together and by group.

    Attributes:
        period: From when to before when.
        baseline: The same of what they are held against, or None.
        alpha: False discovery rate of the verdicts.
        level: Of the intervals.
        table: See `frame`.
    """

    title: ClassVar[str] = "How are customers served?"

    period: tuple[pd.Timestamp, pd.Timestamp]
    baseline: tuple[pd.Timestamp, pd.Timestamp] | None
    alpha: float
    level: float
    table: pd.DataFrame

    @property
    def note(self) -> str:  # type: ignore[override]
        said = (
            f"{self.period[0]:%Y-%m-%d} to before {self.period[1]:%Y-%m-%d}; {100 * self.level:g} % intervals, by "
            "customer. n is the denominator; of eligible less n the answer is not known, and the value would lie "
            "between if_worst and if_best whatever they had said."
        )
        if self.baseline is None:
            return said
        judged = int(self.table["p_adjusted"].notna().sum())
        return (
            f"{said} Against {self.baseline[0]:%Y-%m-%d} to before {self.baseline[1]:%Y-%m-%d}: of {judged} "
            f"comparisons together at most {self.alpha:.0%} of the verdicts should be luck (Benjamini-Hochberg)."
        )

    def frame(self) -> pd.DataFrame:
        """One row a measure and group: measure, segment (empty for all together), group, status, value, low, high,
        unit, n, eligible, customers, if_worst, if_best, baseline, baseline_n, difference, diff_low, diff_high,
        p_adjusted, verdict (better, worse; higher, lower where neither is better; cannot tell; empty without a
        baseline), reason, title, better, definition. `customers` are agents where the definition says so.
        """
        return self.table.copy()

    def definitions(self) -> pd.DataFrame:
        """One row a measure: measure, title, unit, better (higher, lower or empty), definition."""
        return self.table[["measure", "title", "unit", "better", "definition"]].drop_duplicates().reset_index(drop=True)

    def measure(self, name: str, *, segment: str = "") -> pd.DataFrame:
        """The rows of one measure, all together or by a segment.

        Raises:
            ParamsError: There is no such measure or segment.
        """
        known = list(dict.fromkeys(self.table["measure"]))
        if name not in known:
            raise ParamsError(unknown("Measure", name, known))
        segments = list(dict.fromkeys(self.table["segment"]))
        if segment not in segments:
            raise ParamsError(unknown("Segment", segment, segments, where="in this result"))
        rows = self.table[(self.table["measure"] == name) & (self.table["segment"] == segment)]
        return rows.reset_index(drop=True)

    def changed(self) -> pd.DataFrame:
        """The rows with a verdict other than `cannot tell`."""
        return self.table[~self.table["verdict"].isin(["", "cannot tell"])].reset_index(drop=True)

    def plot(self, measure: str | None = None) -> Axes:
        """One measure (the first that is measured, unless named) in all groups; dashed is all together, before."""
        names = self.table.loc[self.table["status"] == "measured", "measure"]
        name = measure or (names.iloc[0] if len(names) else None)
        if name is None:
            return sentence("Measures", "Nothing is measured.")
        all_rows = self.measure(name)
        rows = self.table[(self.table["measure"] == name) & (self.table["status"] == "measured")]
        if rows.empty:
            return sentence(str(all_rows["title"].iloc[0]), f"Not measured: {all_rows['reason'].iloc[0]}.")
        ax = axes(f"{rows['title'].iloc[0]}: {rows['n'].iloc[0]:,} in all", height=row_height(rows))
        labels = [
            f"{segment}: {group}" if segment else "all" for segment, group in rows[["segment", "group"]].to_numpy()
        ]
        before = all_rows["baseline"].iloc[0]
        reference = float(before) if np.isfinite(before) else None
        interval_plot(ax, labels, *rows[["value", "low", "high"]].to_numpy(float).T, reference=reference)
        ax.set_xlabel(str(rows["unit"].iloc[0]))
        return ax


def judged(rows: Sequence[dict[str, Any]], *, alpha: float) -> list[dict[str, Any]]:
    """Rows with `p_adjusted` and `verdict`, adjusted over all that have a p (Benjamini and Hochberg 1995)."""
    out = []
    for row, p in zip(rows, adjusted([row["p"] for row in rows]), strict=True):
        verdict = row["verdict"]
        if np.isfinite(p) and p <= alpha:
            up = row["difference"] > 0
            if row["better"]:
                verdict = "better" if up == (row["better"] == "higher") else "worse"
            else:
                verdict = "higher" if up else "lower"
        elif np.isfinite(p):
            verdict = "cannot tell"
        out.append({**row, "p_adjusted": float(p), "verdict": verdict})
    return out
