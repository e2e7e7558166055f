"""How early an outcome is known: alarms that are right as often as asked for, and how much of a case is left then.

    found = earliness(case, position, outcome, score, chosen_on=(case_v, position_v, outcome_v, score_v), precision=0.8)
    found.alarms()      # how many of those it happens to are found, how early, and how often an alarm is right
    found.plot()        # how well the score tells them apart after 1, 2, 3, ... events

A row is a prefix of a case: its first events, and the score that a model gave on seeing them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.metrics.bootstrap import Interval, check_level, wilson
from cxlab.metrics.sample import Array
from cxlab.metrics.survival import concordance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["Earliness", "earliness"]

Prefixes = tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]


@dataclass(frozen=True, repr=False, eq=False)
class Earliness(Result):
    """How early a score tells which cases an outcome happens to. Each case counts once.

    Attributes:
        threshold: The first score of a case at or above it is its alarm; inf where none was precise enough.
        asked: The precision asked for.
        chosen: The precision of the alarms by which the threshold was chosen.
        n: Cases.
        positives: Those the outcome happens to.
        precision: The share of alarms that are right, Wilson's interval.
        found: The share of positive cases that have an alarm, Wilson's interval.
        events: Events seen at the alarm, the median of the positive cases found.
        share: The share of the case's events seen then, their median.
        left: The time left then, their median, in the unit of `elapsed`; NaN without it.
        level: Of the intervals.
        counts: Alarms, and those that are right.
        table: See `frame`.
    """

    title: ClassVar[str] = "How early is it known?"

    threshold: float
    asked: float
    chosen: Interval
    n: int
    positives: int
    precision: Interval
    found: Interval
    events: Interval
    share: Interval
    left: Interval
    level: float
    counts: tuple[int, int]
    table: pd.DataFrame

    @property
    def note(self) -> str:  # type: ignore[override]
        if not np.isfinite(self.threshold):
            return f"No threshold gives alarms that are right {100 * self.asked:g} % of the time, so there are none."
        alarms, right = self.counts
        return (
            f"An alarm at a score of {self.threshold:.4g} was right {100 * self.chosen.value:.3g} % of the time where "
            f"it was chosen, and here {right:,} of {alarms:,} times, which finds {right:,} of {self.positives:,} "
            "positive cases. The AUC after so many events is that of cases that have as many."
        )

    def frame(self) -> pd.DataFrame:
        """One row a number of events seen: events_seen, n (cases with a prefix of that many), positives, auc, low,
        high, and found (the share of all positive cases whose alarm has come by then)."""
        return self.table.copy()

    def alarms(self) -> pd.DataFrame:
        """One row a fact: fact, n (what it is a share or the median of), value, low, high."""
        import pandas as pd

        alarms, right = self.counts
        facts = {
            "alarms that are right": (alarms, self.precision),
            "positive cases found": (self.positives, self.found),
            "events seen at the alarm, median": (right, self.events),
            "share of the events seen, median": (right, self.share),
            "time left at the alarm, median": (right, self.left),
        }
        return pd.DataFrame(
            [(fact, n, *value) for fact, (n, value) in facts.items()], columns=["fact", "n", "value", "low", "high"]
        )

    def plot(self) -> Axes:
        """AUC and the share found, by events seen."""
        ax = axes(f"{self.n:,} cases, {self.positives:,} positive", width=5.6, height=4.2)
        seen = self.table["events_seen"]
        ax.axhline(0.5, color=GREY, linewidth=1, linestyle="--")
        ax.fill_between(seen, self.table["low"], self.table["high"], color=PALETTE[0], alpha=0.2, linewidth=0)
        ax.plot(seen, self.table["auc"], "o-", markersize=3, color=PALETTE[0], label="AUC of cases with so many events")
        ax.plot(seen, self.table["found"], color=PALETTE[1], label="positive cases with an alarm by then")
        ax.set(ylim=(0, 1.02), xlabel="events seen")
        ax.legend(frameon=False, loc="lower right")
        return ax


def earliness(
    case: ArrayLike,
    position: ArrayLike,
    outcome: ArrayLike,
    score: ArrayLike,
    *,
    chosen_on: Prefixes,
    precision: float = 0.8,
    length: ArrayLike | None = None,
    elapsed: ArrayLike | None = None,
    most: int = 20,
    level: float = 0.95,
) -> Earliness:
    """How early alarms of a given precision come, and the AUC by events seen (Teinemaa, Dumas, La Rosa and Maggi 2019,
    Outcome-oriented predictive process monitoring: review and benchmark).

    The threshold is the lowest highest score of a case, of other cases, at which those with an alarm are positive often
    enough: it finds the most of them. The AUC's interval is that of `concordance`, a median's is from order statistics
    (Thompson 1936, On confidence ranges for the median).

    Args:
        case: Which case each row is a prefix of, shape (n,).
        position: Events seen, 1, 2, 3, ..., shape (n,); each at most once a case.
        outcome: 1 where it happens to the case in the end, shape (n,), the same in all rows of a case.
        score: Higher is likelier, any finite numbers, shape (n,).
        chosen_on: Case, position, outcome and score of validation rows, of other cases, to choose the threshold on.
        precision: The share of alarms that are to be right, in (0, 1].
        length: Events that the case of each row has in the end, shape (n,); the most seen in a row of it if None.
        elapsed: Time since the case began, shape (n,); the most in a row of it is when it ends. None tells no times.
        most: Events seen up to which the AUC is told.
        level: Of the intervals, in (0, 1).
    Raises:
        ValueError: An argument has the wrong shape or values, or a case is in both.
    Examples:
        >>> case, position, outcome = [1, 1, 1, 2, 2, 3], [1, 2, 3, 1, 2, 1], [1, 1, 1, 0, 0, 1]
        >>> other = (["a", "b"], [1, 1], [1, 0], [0.6, 0.4])
        >>> found = earliness(case, position, outcome, [0.2, 0.7, 0.9, 0.1, 0.3, 0.5], chosen_on=other)
        >>> found.threshold, found.found.value, found.events.value, round(found.share.value, 3)
        (0.6, 0.5, 2.0, 0.667)
    """
    check_level(level)
    if not 0 < precision <= 1:
        raise ValueError(f"precision == {precision}, must be in (0, 1].")
    if most < 1:
        raise ValueError(f"most == {most}, must be >= 1.")
    rows = _prefixes(case, position, outcome, score)
    others = _prefixes(*chosen_on)
    shared = set(rows["case"]) & set(others["case"])
    if shared:
        raise ValueError(f"Case {min(map(str, shared))!r} is also in chosen_on, must be in one of them only.")
    threshold, chosen = _threshold(others, precision, level)
    lengths = _of_case(rows, length, "length", by="position")
    ends = _of_case(rows, elapsed, "elapsed") if elapsed is not None else np.full(len(rows), np.nan)
    now = np.full(len(rows), np.nan) if elapsed is None else np.asarray(elapsed, dtype=np.float64)
    rows = rows.assign(share=rows["position"] / lengths, left=ends - now)
    cases = rows.groupby("case", sort=False)["outcome"].first()
    first = rows[rows["score"] >= threshold].sort_values("position", kind="stable").groupby("case", sort=False).first()
    right = first[first["outcome"] == 1]
    positives = int(cases.sum())
    return Earliness(
        threshold=threshold,
        asked=precision,
        chosen=chosen,
        n=len(cases),
        positives=positives,
        precision=_share(len(right), len(first), level),
        found=_share(len(right), positives, level),
        events=_median(right["position"].to_numpy(np.float64), level),
        share=_median(right["share"].to_numpy(np.float64), level),
        left=_median(right["left"].to_numpy(np.float64), level),
        level=level,
        counts=(len(first), len(right)),
        table=_curve(rows, right["position"].to_numpy(), positives, most, level),
    )


def _prefixes(case: ArrayLike, position: ArrayLike, outcome: ArrayLike, score: ArrayLike) -> pd.DataFrame:
    """The rows, checked.

    Raises:
        ValueError: They have the wrong shape or values.
    """
    import pandas as pd

    given = {"case": case, "position": position, "outcome": outcome, "score": score}
    parts = {name: np.asarray(values) for name, values in given.items()}
    n = len(parts["case"]) if parts["case"].ndim == 1 else 0
    for name, values in parts.items():
        if values.shape != (n,) or n == 0:
            raise ValueError(f"{name} has shape {values.shape}, must be (n,) with n >= 1, one value a prefix.")
    rows = pd.DataFrame(parts)
    if rows["case"].isna().any():
        raise ValueError(f"case is missing in row {int(rows['case'].isna().argmax())}, must be known.")
    for name, good, rule in (
        ("outcome", np.isin(parts["outcome"], (0, 1)), "0 or 1"),
        ("score", np.isfinite(rows["score"].astype(np.float64)), "a finite number"),
        ("position", (rows["position"] >= 1) & (rows["position"] % 1 == 0), "a whole number >= 1"),
    ):
        if not np.all(good):
            row = int(np.argmin(np.asarray(good)))
            raise ValueError(f"{name} is {parts[name][row]!s} in row {row}, must be {rule}.")
    twice = rows.duplicated(["case", "position"])
    if twice.any():
        again = rows[twice].iloc[0]
        raise ValueError(f"Case {again['case']!r} has position {again['position']} twice, must have it once.")
    mixed = rows.groupby("case", sort=False)["outcome"].nunique() > 1
    if mixed.any():
        raise ValueError(f"Case {mixed.idxmax()!r} has both outcomes, must have the same in all rows.")
    return rows.astype({"outcome": int, "score": float, "position": int})


def _of_case(rows: pd.DataFrame, values: ArrayLike | None, name: str, *, by: str = "") -> Array:
    """The largest of each row's case, of `values` or, without them, of the column `by`."""
    import pandas as pd

    found = rows[by].to_numpy(np.float64) if values is None else np.asarray(values, dtype=np.float64)
    if found.shape != (len(rows),) or not np.isfinite(found).all():
        raise ValueError(f"{name} has shape {found.shape} or no numbers, must be finite, shape ({len(rows)},).")
    largest = pd.Series(found).groupby(rows["case"].to_numpy(), sort=False).transform("max").to_numpy()
    if by:
        short = largest < rows[by].to_numpy()
        if short.any():
            row = int(np.argmax(short))
            raise ValueError(f"{name} is {found[row]:g} in row {row}, must be at least its {by}, {rows[by].iloc[row]}.")
    return largest


def _threshold(rows: pd.DataFrame, precision: float, level: float) -> tuple[float, Interval]:
    """The lowest highest score of a case at and above which enough cases are positive; inf if there is none."""
    cases = rows.groupby("case", sort=False).agg(score=("score", "max"), outcome=("outcome", "first"))
    cases = cases.sort_values("score", ascending=False)
    right, alarms = cases["outcome"].cumsum().to_numpy(), np.arange(1, len(cases) + 1)
    scores = cases["score"].to_numpy()
    last = np.append(scores[1:] != scores[:-1], True)
    enough = np.flatnonzero(last & (right >= precision * alarms - 1e-9))
    if not len(enough):
        return np.inf, Interval(np.nan, np.nan, np.nan)
    at = enough[-1]
    return float(scores[at]), _share(int(right[at]), int(alarms[at]), level)


def _curve(rows: pd.DataFrame, found_at: NDArray[Any], positives: int, most: int, level: float) -> pd.DataFrame:
    import pandas as pd

    table = []
    for events, part in rows[rows["position"] <= most].groupby("position"):
        positive = part["outcome"].to_numpy()
        auc = concordance(1 - positive, positive, part["score"].to_numpy(), level=level)
        found = float((found_at <= events).sum() / positives) if positives else np.nan
        table.append((events, len(part), int(positive.sum()), *auc[:3], found))
    return pd.DataFrame(table, columns=["events_seen", "n", "positives", "auc", "low", "high", "found"])


def _share(hits: int, n: int, level: float) -> Interval:
    low, high = wilson(hits, n, level=level)
    return Interval(hits / n if n else np.nan, float(low), float(high))


def _median(values: Array, level: float) -> Interval:
    """The median and the order statistics between which the true one is with at least `level`; the least and the
    greatest where the values are too few to be so sure."""
    ordered = np.sort(values)
    n = len(ordered)
    if n == 0 or not np.isfinite(ordered).all():
        return Interval(np.nan, np.nan, np.nan)
    skipped = int(max(stats.binom.ppf((1 - level) / 2, n, 0.5) - 1, 0))  # at each end
    return Interval(float(np.median(ordered)), float(ordered[skipped]), float(ordered[n - 1 - skipped]))
