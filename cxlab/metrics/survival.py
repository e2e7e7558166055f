"""Times to an event, some of them cut short: what was seen of them, and how good predictions of them are.

    kaplan_meier(duration, observed).plot()
    concordance(duration, observed, risk, groups=case)
    calibration_at(duration, observed, probability, horizon=30, groups=case).plot()
    coverage(duration, observed, low, high, groups=case)

A row that is not observed lasted at least its duration: it is right-censored, and where both happen at one time the
event comes first. `groups` says which rows belong together, as the prefixes of a case do, so that an interval does not
take them for independent. All but `concordance` assume that what is cut short is like what is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.metrics.bootstrap import Interval, check_level, wilson
from cxlab.metrics.sample import Array, ratio

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "Concordance",
    "KaplanMeier",
    "TimeCalibration",
    "brier_at",
    "calibration_at",
    "concordance",
    "coverage",
    "durations",
    "kaplan_meier",
]

Flags = NDArray[np.bool_]
Places = NDArray[np.intp]

NOTHING = 1e-15  # a smaller variance is rounding


def durations(duration: ArrayLike, observed: ArrayLike) -> tuple[Array, Flags]:
    """Durations and whether the event was seen, checked and cast.

    Raises:
        ValueError: nothing is there, lengths differ, a duration is negative or no number, `observed` is not 0 or 1.
    """
    found, seen = np.asarray(duration, dtype=np.float64), np.asarray(observed)
    if found.ndim != 1 or len(found) == 0:
        raise ValueError(f"duration has shape {found.shape}, must be (n,) with n >= 1.")
    _same(found, seen, "observed")
    bad = ~((found >= 0) & (found < np.inf))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"duration is {found[row]} in row {row}, must be a finite number >= 0.")
    odd = ~np.isin(seen, (0, 1))
    if odd.any():
        raise ValueError(f"observed holds {seen[odd].flat[0]!s}, must be 0 or 1 (1 where the event was seen).")
    return found, seen.astype(bool)


@dataclass(frozen=True, repr=False, eq=False)
class KaplanMeier(Result):
    """How many are left as time goes on, allowing for those whose time was cut short.

    Attributes:
        n: Rows.
        events: Those whose event was seen.
        longest: The longest duration; nothing is known beyond, unless nobody is left.
        level: Of the intervals.
        table: See `frame`.
    """

    title: ClassVar[str] = "How long does it take?"

    n: int
    events: int
    longest: float
    level: float
    table: pd.DataFrame

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            f"The share for which it has not happened yet ({100 * self.level:g} % interval), of {self.n:,}; "
            f"{self.n - self.events:,} of them were cut short and count for as long as they were seen."
        )

    def frame(self) -> pd.DataFrame:
        """One row a time of an event: time, at_risk (just before it), events, survival (just after it), low, high."""
        return self.table.copy()

    def at(self, times: ArrayLike) -> Array:
        """The share that lasts longer than each time, the shape of `times`; NaN where nothing is known."""
        asked = np.asarray(times, dtype=np.float64)
        steps = np.append(1.0, self.table["survival"])
        found = steps[np.searchsorted(self.table["time"], asked, side="right")]
        return np.where((asked > self.longest) & (found > 0), np.nan, found)

    def plot(self) -> Axes:
        """The steps with their interval."""
        from matplotlib.ticker import PercentFormatter

        ax = axes(f"{self.n:,} followed, {self.events:,} events seen")
        time = np.concatenate([[0.0], self.table["time"], [self.longest]])
        steps = np.vstack([np.ones(3), self.table[["survival", "low", "high"]]])
        share, low, high = np.vstack([steps, steps[-1:]]).T
        ax.fill_between(time, low, high, step="post", color=PALETTE[0], alpha=0.2, linewidth=0)
        ax.step(time, share, where="post", color=PALETTE[0])
        ax.set(ylim=(0, 1.02), xlabel="time", ylabel="not yet happened")
        ax.set_xlim(left=0)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        return ax


def kaplan_meier(duration: ArrayLike, observed: ArrayLike, *, level: float = 0.95) -> KaplanMeier:
    """The product-limit estimate (Kaplan and Meier 1958, Nonparametric estimation from incomplete observations).

    The intervals are Wilson's for an effective number of rows, that of which Greenwood's variance would be the
    binomial one (Rothman 1978; preferred for small samples by Anderson, Bernstein and Pike 1982, Approximate confidence
    intervals for probabilities of survival and quantiles in life-table analysis). Where nothing was cut short they are
    Wilson's.

    Args:
        duration: Until the event or until it was cut short, >= 0, any unit, shape (n,).
        observed: 1 where the event was seen, shape (n,).
        level: Of the intervals, in (0, 1).
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> found = kaplan_meier([1, 2, 2, 3, 4], [1, 1, 0, 1, 0])
        >>> found.frame()[["time", "at_risk", "events"]].values.tolist()
        [[1.0, 5.0, 1.0], [2.0, 4.0, 1.0], [3.0, 2.0, 1.0]]
        >>> [round(share, 3) for share in found.at([0.5, 1, 3.5, 9]).tolist()]
        [1.0, 0.8, 0.3, nan]
    """
    import pandas as pd

    check_level(level)
    found, seen = durations(duration, observed)
    time, counts = np.unique(found[seen], return_counts=True)
    at_risk = len(found) - np.searchsorted(np.sort(found), time)
    events = counts.astype(np.float64)
    left = at_risk - events
    survival = np.cumprod(left / at_risk)
    greenwood = np.cumsum(ratio(events, at_risk * left))
    before = np.append(1.0, survival[:-1])
    # Where nobody is left, the limit of S (1 - S) / (S^2 greenwood).
    effective = np.where(left > 0, ratio(np.subtract(1.0, survival), survival * greenwood), at_risk / before)
    low, high = wilson(survival * effective, effective, level=level)
    columns = {"time": time, "at_risk": at_risk, "events": counts, "survival": survival, "low": low, "high": high}
    return KaplanMeier(len(found), int(seen.sum()), float(found.max()), level, pd.DataFrame(columns))


class Concordance(NamedTuple):
    """Harrell's C with its interval, and the pairs it was counted on; NaN where it cannot be told."""

    value: float
    low: float
    high: float
    pairs: int


def concordance(
    duration: ArrayLike,
    observed: ArrayLike,
    risk: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Concordance:
    """How often, of two rows, the one with the higher risk has its event first (Harrell et al. 1982, Evaluating the
    yield of medical tests); 0.5 is guessing, equal risks count half.

    Pairs are compared where it is known who came first: one event was seen and the other row lasted longer. Two events
    at one time are not compared. With an outcome of yes at 0 and no at 1 (cut short) it is the ROC AUC. Counted in
    O(n log n). The interval is Wilson's for an effective number of rows, from the infinitesimal jackknife over groups
    (Therneau and Watson 2015, The concordance statistic and the Cox model).

    Args:
        duration: Until the event or until it was cut short, >= 0, shape (n,).
        observed: 1 where the event was seen, shape (n,).
        risk: Higher means sooner, any finite numbers, shape (n,).
        groups: Which rows belong together, shape (n,); None takes each for itself.
        level: Of the interval, in (0, 1).
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> concordance([1, 2, 3, 4], [1, 1, 0, 1], [0.9, 0.3, 0.5, 0.1])[::3]  # 3 + 1 of 3 + 2 pairs
        (0.8, 5)
    """
    check_level(level)
    found, seen = durations(duration, observed)
    scores = _numbers(found, risk, "risk")
    right, pairs = _concordant(found, seen, scores)
    total = pairs.sum() / 2
    if total == 0:
        return Concordance(np.nan, np.nan, np.nan, 0)
    value = float(right.sum() / 2 / total)
    members, count = _groups(len(found), groups)
    # Where all pairs agree: as many rows as bound the variance of Kendall's tau, or as have an event.
    fewest = min(len(np.unique(members[seen])), count / 2)
    slope = (right - value * pairs) / total
    return Concordance(*_around(value, slope, members, otherwise=fewest, level=level), int(total))


def _concordant(duration: Array, observed: Flags, risk: Array) -> tuple[Array, Array]:
    """Of the pairs that each row is in: how many are in the right order (ties half), how many compare, shape (n,)."""
    n = len(duration)
    order = np.lexsort([~observed, duration])  # events before what was cut short at that time
    time, events = duration[order], observed[order]
    ranks = np.unique(risk, return_inverse=True)[1][order]
    before, upto = (np.searchsorted(time[events], time, side=side) for side in ("left", "right"))
    right, pairs = np.zeros(n), np.zeros(n)
    # As the one that had its event: against all that lasted longer, of a lower risk.
    own = ranks[events]
    start = (np.searchsorted(time, time) + upto - before)[events]
    end = np.full(len(own), n)
    right[events] += sum(_lower(ranks, start, end, own + tie) for tie in (0, 1)) / 2
    pairs[events] += n - start
    # As the one that lasted: against all events before, of a higher risk.
    end = np.where(events, before, upto)
    right += end - sum(_lower(own, np.zeros(n, np.intp), end, ranks + tie) for tie in (0, 1)) / 2
    pairs += end
    out = np.empty((2, n))
    out[:, order] = right, pairs
    return out[0], out[1]


def _lower(values: Places, start: Places, end: Places, limit: Places) -> Places:
    """How many of `values[start:end]` are below each limit: a wavelet matrix (Claude, Navarro and Ordonez 2015)."""
    found = np.zeros(len(start), np.intp)
    for bit in range(int(max(values.max(initial=0), limit.max(initial=0))).bit_length() - 1, -1, -1):
        high = (values >> bit & 1).astype(bool)
        zeros = np.append(0, np.cumsum(~high))
        start_0, end_0 = zeros[start], zeros[end]
        up = (limit >> bit & 1).astype(bool)
        found += np.where(up, end_0 - start_0, 0)
        start = np.where(up, zeros[-1] + start - start_0, start_0)
        end = np.where(up, zeros[-1] + end - end_0, end_0)
        values = np.concatenate([values[~high], values[high]])
    return found


def brier_at(
    duration: ArrayLike,
    observed: ArrayLike,
    probability_within: ArrayLike,
    horizon: float,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """The mean squared gap between the probability of an event within a horizon and whether it came.

    Rows whose outcome is not known count through those that are, weighted by the inverse of the probability of being
    known (Graf et al. 1999, Assessment and comparison of prognostic classification schemes for survival data).
    What was cut short just at the horizon is known not to have happened. The interval is the normal one, as if the
    weights were known.

    Args:
        duration: Until the event or until it was cut short, >= 0, shape (n,).
        observed: 1 where the event was seen, shape (n,).
        probability_within: Of an event at or before the horizon, in [0, 1], shape (n,).
        horizon: In the unit of `duration`, >= 0.
        groups: Which rows belong together, shape (n,); None takes each for itself.
        level: Of the interval, in (0, 1).
    Returns:
        The score with its interval; NaN where nobody was followed up to the horizon.
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> print(f"{brier_at([1, 2, 3, 4], [1, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], 3).value:.2f}")
        0.25
    """
    check_level(level)
    found, seen = durations(duration, observed)
    probability = _probabilities(found, probability_within)
    weight = _known(found, seen, _horizon(horizon))
    loss = weight * ((seen & (found <= horizon)) - probability) ** 2
    n = len(found)
    if weight.sum() < n * (1 - 1e-6):
        return Interval(np.nan, np.nan, np.nan)
    value = float(loss.mean())
    members, _ = _groups(n, groups)
    spread = float(np.sqrt((np.bincount(members, weights=loss - value) ** 2).sum()) / n)
    half = _normal(level) * spread
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def _known(duration: Array, observed: Flags, horizon: float) -> Array:
    """The inverse probability of knowing at the horizon what became of a row, where it is known, else 0, shape (n,)."""
    cut, times = np.unique(duration[~observed], return_counts=True)
    ordered, events = np.sort(duration), np.sort(duration[observed])
    at_risk = (
        len(duration)
        - np.searchsorted(ordered, cut)
        - (np.searchsorted(events, cut, side="right") - np.searchsorted(events, cut))
    )
    kept = np.append(1.0, np.cumprod(1 - times / at_risk))
    followed = kept[np.searchsorted(cut, np.minimum(duration, horizon))]  # the chance of not being cut short before
    return ratio((observed | (duration >= horizon)).astype(np.float64), followed)


@dataclass(frozen=True, repr=False, eq=False)
class TimeCalibration(Result):
    """Predicted against observed shares within a horizon, bin by bin.

    Attributes:
        horizon: In the unit of the durations.
        level: Of the intervals.
        table: See `frame`.
    """

    title: ClassVar[str] = "Does it happen as often as predicted?"

    horizon: float
    level: float
    table: pd.DataFrame

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            f"Where 30 % are predicted to have their event within {self.horizon:g}, about 30 % should: points on the "
            f"diagonal ({100 * self.level:g} % interval). Those cut short count for as long as they were seen."
        )

    def frame(self) -> pd.DataFrame:
        """One row a bin: bin_low, bin_high, n, events (seen by the horizon), predicted (mean), observed, low, high."""
        return self.table.copy()

    def plot(self) -> Axes:
        """Points with intervals, and the diagonal."""
        ax = axes(f"Within {self.horizon:g}: {self.table['n'].sum():,} rows", width=5.6, height=4.6)
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        ax.vlines(self.table["predicted"], self.table["low"], self.table["high"], color=PALETTE[0], linewidth=2)
        ax.plot(self.table["predicted"], self.table["observed"], "o", color=PALETTE[0])
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="share that had its event")
        return ax


def calibration_at(
    duration: ArrayLike,
    observed: ArrayLike,
    probability_within: ArrayLike,
    horizon: float,
    *,
    bins: int = 10,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> TimeCalibration:
    """Predicted shares within a horizon against Kaplan-Meier's, over bins of about equally many rows (D'Agostino and
    Nam 2003, Evaluation of the performance of survival analysis models: discrimination and calibration measures).

    Args:
        duration: Until the event or until it was cut short, >= 0, shape (n,).
        observed: 1 where the event was seen, shape (n,).
        probability_within: Of an event at or before the horizon, in [0, 1], shape (n,).
        horizon: In the unit of `duration`, >= 0.
        bins: How many, >= 1; equal probabilities share one.
        groups: Which rows belong together, shape (n,); None takes each for itself.
        level: Of the intervals, those of `kaplan_meier`, in (0, 1).
    Returns:
        The table; `observed` is NaN where nobody in the bin was followed up to the horizon.
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> found = calibration_at([1, 5, 1, 2, 3, 5], [1, 0, 0, 1, 0, 0], [0.2, 0.2, 0.2, 0.6, 0.6, 0.6], 4, bins=2)
        >>> found.frame()[["n", "events", "predicted", "observed"]].round(3).values.tolist()
        [[3.0, 1.0, 0.2, 0.333], [3.0, 1.0, 0.6, 0.333]]
    """
    import pandas as pd

    check_level(level)
    if bins < 1:
        raise ValueError(f"bins == {bins}, must be >= 1.")
    found, seen = durations(duration, observed)
    probability = _probabilities(found, probability_within)
    _horizon(horizon)
    members, _ = _groups(len(found), groups)
    edges = np.unique(np.quantile(probability, np.arange(1, bins) / bins, method="lower"))
    where = np.searchsorted(edges, probability, side="left")
    rows = []
    for number in np.unique(where):
        one = where == number
        survival, low, high = _survivors(found[one], seen[one], horizon, members[one], level)
        own = probability[one]
        events = int((seen[one] & (found[one] <= horizon)).sum())
        rows.append((own.min(), own.max(), int(one.sum()), events, own.mean(), 1 - survival, 1 - high, 1 - low))
    names = ["bin_low", "bin_high", "n", "events", "predicted", "observed", "low", "high"]
    return TimeCalibration(float(horizon), level, pd.DataFrame(rows, columns=names))


def coverage(
    duration: ArrayLike,
    observed: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """The share of durations that lie within their own intervals, ends included.

    Each duration is put on the scale of its interval, which runs from 1 to 2; on that scale it is Kaplan and Meier's
    share between the ends, so that durations cut short count for as long as they were seen. Where none was, it is a
    plain share with Wilson's interval.

    Args:
        duration: Until the event or until it was cut short, >= 0, shape (n,).
        observed: 1 where the event was seen, shape (n,).
        low: Lower ends, shape (n,).
        high: Upper ends, shape (n,); inf where the interval has none.
        groups: Which rows belong together, shape (n,); None takes each for itself.
        level: Of the share's interval, in (0, 1).
    Returns:
        The share with its interval; NaN where nobody was followed that far.
    Raises:
        ValueError: an argument has the wrong shape or values, or a low end is above its high one.
    Examples:
        >>> found = coverage([1, 5, 9, 3], [1, 1, 1, 1], [0, 4, 4, 4], [2, 6, 6, np.inf])
        >>> print(f"{found.value:.2f}, {found.low:.3f} to {found.high:.3f}")
        0.50, 0.150 to 0.850
    """
    check_level(level)
    found, seen = durations(duration, observed)
    lows, highs = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    _same(found, lows, "low")
    _same(found, highs, "high")
    wrong = ~((lows <= highs) & np.isfinite(lows))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"low is {lows[row]} and high {highs[row]} in row {row}, must be low <= high, low finite.")
    place, known = _on_scale(found, seen, lows, highs)
    members, _ = _groups(len(found), groups)
    (upto, by_low), (beyond, by_high) = (_influence(place, known, at) for at in (np.nextafter(1.0, 0.0), 2.0))
    told = len(np.unique(members[known | (place >= 2)]))
    return _around(upto - beyond, by_low - by_high, members, otherwise=told, level=level, most=len(found))


def _on_scale(duration: Array, observed: Flags, low: Array, high: Array) -> tuple[Array, Flags]:
    """Below 1 before the interval, 1 to 2 within, above 2 after it, never falling in the duration; and where that is
    known: what was cut short within an interval without end is in it."""
    inside = 1 + ratio(duration - low, high - low)
    inside[duration == low] = 1.0
    after = np.maximum(3 - 1 / (1 + np.maximum(duration - high, 0.0)), np.nextafter(2.0, 3.0))
    place = np.where(duration < low, ratio(duration, low), np.where(duration > high, after, inside))
    endless = np.isinf(high) & (duration >= low)
    return np.where(endless, 1.0, place), observed | endless


def _influence(duration: Array, observed: Flags, at: float) -> tuple[float, Array]:
    """Kaplan and Meier's share beyond a time, and its slope in the weight of each row; NaN where nothing is known."""
    time, events = np.unique(duration[observed & (duration <= at)], return_counts=True)
    at_risk = len(duration) - np.searchsorted(np.sort(duration), time)
    share = float(np.prod(1 - events / at_risk))
    if share > 0 and duration.max() < at:
        return np.nan, np.full(len(duration), np.nan)
    left = (at_risk - events).astype(np.float64)
    lost = np.append(0.0, np.cumsum(np.where(left > 0, ratio(events.astype(float), at_risk * left), 0.0)))
    gone = observed & (duration <= at)
    slope = lost[np.searchsorted(time, duration, side="right")]
    own = np.searchsorted(time, duration[gone])
    slope[gone] = lost[own] - 1 / at_risk[own]
    return share, share * slope


def _survivors(duration: Array, observed: Flags, at: float, members: Places, level: float) -> Interval:
    share, slope = _influence(duration, observed, at)
    told = len(np.unique(members[observed | (duration >= at)]))
    return _around(share, slope, members, otherwise=told, level=level, most=len(duration))


def _around(
    share: float, slope: Array, members: Places, *, otherwise: float, level: float, most: float = np.inf
) -> Interval:
    """Wilson's interval for as many rows as explain the jackknife's variance; `otherwise` where it is none.

    Args:
        share: In [0, 1].
        slope: How it changes with the weight of each row, shape (n,).
        members: The group of each row, shape (n,).
        otherwise: Rows to count on, as where all of them are alike.
        level: Of the interval.
        most: Rows to count on at most.
    """
    variance = float((np.bincount(members, weights=slope) ** 2).sum())
    rows = otherwise if variance <= NOTHING else min(share * (1 - share) / variance, most)
    low, high = wilson(share * rows, rows, level=level)
    return Interval(share, float(low), float(high))


def _groups(n: int, groups: ArrayLike | None) -> tuple[Places, int]:
    """The number of each row's group, and how many there are."""
    if groups is None:
        return np.arange(n), n
    import pandas as pd

    codes, names = pd.factorize(np.asarray(groups))
    if codes.shape != (n,) or (codes < 0).any():
        raise ValueError(f"groups has shape {np.shape(groups)} or gaps, must be ({n},) like duration, none missing.")
    return codes, len(names)


def _same(duration: Array, other: NDArray, name: str) -> None:
    if other.shape != duration.shape:
        raise ValueError(f"{name} has shape {other.shape}, must be {duration.shape} like duration.")


def _numbers(duration: Array, values: ArrayLike, name: str) -> Array:
    found = np.asarray(values, dtype=np.float64)
    _same(duration, found, name)
    bad = ~np.isfinite(found)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{name} is {found[row]} in row {row}, must be a finite number.")
    return found


def _probabilities(duration: Array, values: ArrayLike) -> Array:
    found = _numbers(duration, values, "probability_within")
    outside = (found < 0) | (found > 1)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(f"probability_within is {found[row]} in row {row}, must be in [0, 1].")
    return found


def _horizon(horizon: float) -> float:
    if not 0 <= horizon < np.inf:
        raise ValueError(f"horizon == {horizon}, must be a finite number >= 0.")
    return float(horizon)


def _normal(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
