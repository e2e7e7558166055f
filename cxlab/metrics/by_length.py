"""How good predictions of what comes next are by how much has been seen of a case, and which events are told apart.

    by_length(y, probability, position, case).plot()     # accuracy after 2, 3, 4, ... events
    per_event(y, probability, names, case).frame()       # precision, recall and F1 of each event

A row is a prefix of a case. Rows of one case know of one another, so every interval here is of cases: they are drawn,
or counted as many rows as their scatter is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxlab.display import Result, axes, interval_plot, row_height
from cxlab.errors import ParamsError, unknown
from cxlab.metrics.bootstrap import check_level, wilson
from cxlab.metrics.intervals import FEWEST, evaluate
from cxlab.metrics.multiclass import PerClass, per_class, sequence_metrics
from cxlab.metrics.sample import Metric, Sample

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 12, 20, 50, 200)  # events at which a group of lengths begins


@dataclass(frozen=True, repr=False, eq=False)
class ByLength(Result):
    """Metrics by the number of events seen.

    Attributes:
        metrics: What was measured.
        whole: The metric of all rows by its name.
        level: Of the intervals.
        table: See `frame`.
    """

    title: ClassVar[str] = "How good is it after so many events?"

    metrics: tuple[Metric, ...]
    whole: dict[str, float]
    level: float
    table: pd.DataFrame

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            f"Intervals are {100 * self.level:g} %; cases were drawn for them, not rows. Long cases alone reach the "
            "later lengths, so each is of other cases than the one before; lengths that fewer than "
            f"{FEWEST} cases reach are joined."
        )

    def frame(self) -> pd.DataFrame:
        """One row a group of lengths and metric: events_seen, n (rows), cases, metric, value, low, high."""
        return self.table.copy()

    def wide(self) -> pd.DataFrame:
        """One row a group of lengths, one column a metric, as text: value (low to high)."""
        told = self.table.assign(
            text=[f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" for row in self.table.itertuples()]
        )
        order = told["events_seen"].unique()
        found = told.pivot(index=["events_seen", "n", "cases"], columns="metric", values="text").reset_index()
        found = found.set_index("events_seen").loc[order].reset_index().rename_axis(columns=None)
        return found[["events_seen", "n", "cases", *(metric.name for metric in self.metrics)]]

    def plot(self, metric: str | None = None) -> Axes:
        """One metric (the first, unless named) by length, with intervals; dashed is that of all rows.

        Raises:
            ParamsError: It was not measured.
        """
        names = [item.name for item in self.metrics]
        if metric is not None and metric not in names:
            raise ParamsError(unknown("Metric", metric, names))
        shown = self.metrics[0 if metric is None else names.index(metric)]
        part = self.table[self.table["metric"] == shown.name]
        ax = axes(f"{shown.title} by events seen", height=row_height(part))
        labels = [f"{row.events_seen} ({row.cases:,} cases)" for row in part.itertuples()]
        interval_plot(ax, labels, part["value"], part["low"], part["high"], reference=self.whole[shown.name])
        better = "higher" if shown.higher_is_better else "lower"
        ax.set_xlabel(f"{shown.title}, {better} is better ({100 * self.level:g} % interval)")
        return ax


def by_length(
    y: ArrayLike,
    probability: ArrayLike,
    position: ArrayLike,
    case: ArrayLike,
    *,
    metrics: Sequence[Metric] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> ByLength:
    """Metrics of what comes next by the number of events seen (as Tax et al. 2017, Predictive business process
    monitoring with LSTM neural networks, section 4, report them).

    Args:
        y: Class codes, shape (n,).
        probability: Probabilities, shape (n, k).
        position: Events seen, from 1 on, shape (n,).
        case: Whose each row is, shape (n,).
        metrics: What to measure, of many classes; None: `sequence_metrics()`.
        resamples: Draws of cases, >= 1.
        seed: Of the draws.
        level: Of the intervals, in (0, 1).
    Raises:
        ValueError: An argument has the wrong shape or values.
    Examples:
        >>> found = by_length([0, 1, 0], [[0.9, 0.1], [0.9, 0.1], [0.8, 0.2]], [1, 2, 1], ["a", "a", "b"])
        >>> print(*found.frame().iloc[0, :4], round(found.whole["accuracy"], 3))
        1 and more 3 2 accuracy 0.667
    """
    import pandas as pd

    asked = tuple(sequence_metrics() if metrics is None else metrics)
    sample = Sample.of_classes(y, probability)
    seen, whose = np.asarray(position), np.unique(np.asarray(case), return_inverse=True)[1]
    for name, values in (("position", seen), ("case", whose)):
        if values.shape != sample.codes.shape:
            raise ValueError(f"{name} has shape {values.shape}, must be {sample.codes.shape}: one a row of y.")
    if not ((seen >= 1) & (seen % 1 == 0)).all():
        raise ValueError(f"position reaches {seen.min()} to {seen.max()}, must be whole numbers >= 1.")
    rows = []
    for label, there in _groups(seen.astype(np.int64), whose):
        own = evaluate(
            sample.codes[there],
            {"it": sample.score[there]},
            asked,
            resamples=resamples,
            seed=seed,
            level=level,
            groups=whose[there],
        )
        cases = len(np.unique(whose[there]))
        rows += [(label, len(there), cases, name, *found) for name, found in own.values("it").items()]
    names = ["events_seen", "n", "cases", "metric", "value", "low", "high"]
    whole = {metric.name: float(metric(sample.codes, sample.score)) for metric in asked}
    return ByLength(asked, whole, level, pd.DataFrame(rows, columns=names))


def _groups(position: NDArray[np.int64], case: NDArray[np.intp]) -> list[tuple[str, NDArray[np.intp]]]:
    """Rows by length, the shortest first; what too few cases reach joins the group before it, or after the first."""
    starts = [start for start in LENGTHS if start <= position.max()]
    place = np.searchsorted(starts, position, side="right") - 1
    bounds: list[int] = []  # numbers of the groups that stand for themselves
    for number in np.unique(place):
        if not bounds or len(np.unique(case[place == number])) >= FEWEST:
            bounds.append(int(number))
    if len(bounds) > 1 and len(np.unique(case[place == bounds[0]])) < FEWEST:
        del bounds[1]
    made = []
    for here, then in zip(bounds, [*bounds[1:], None], strict=True):
        there = np.flatnonzero((place >= here) & (True if then is None else place < then))
        first = max(starts[here], int(position[there].min()))
        last = None if then is None else starts[then] - 1
        label = f"{first} and more" if last is None else f"{first} to {last}" if last > first else str(first)
        made.append((label, there))
    return made


def share_by_case(hit: ArrayLike, of: ArrayLike, case: ArrayLike, *, level: float = 0.95) -> tuple[float, float, float]:
    """A share of rows with an interval over cases: Wilson's for as many rows as explain the variance of the ratio
    between cases (linearised, Cochran 1977, Sampling techniques, section 11.7; Korn and Graubard 1998, Confidence
    intervals for proportions with small expected number of positive counts estimated from survey data).

    Args:
        hit: 1 where a row counts as a hit, shape (n,).
        of: 1 where it counts at all, shape (n,); a hit does.
        case: Whose each row is, numbered from 0, shape (n,).
        level: Of the interval, in (0, 1).
    Returns:
        The share with its ends; NaN where no row counts.
    Examples:
        >>> print(*(f"{x:.3f}" for x in share_by_case([1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 2, 3])))
        0.500 0.150 0.850
        >>> print(*(f"{x:.3f}" for x in share_by_case([1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1])))  # two cases
        0.500 0.095 0.905
    """
    check_level(level)
    whose = np.asarray(case)
    hits = np.bincount(whose, weights=np.asarray(hit, np.float64))
    trials = np.bincount(whose, weights=np.asarray(of, np.float64))
    total, cases = trials.sum(), int((trials > 0).sum())
    if not total:
        return np.nan, np.nan, np.nan
    share = float(hits.sum() / total)
    rows = float(cases)  # where all are alike, a case is worth a row
    variance = float((((hits - share * trials) / total) ** 2).sum())
    if 0 < share < 1 and variance > 0:
        rows = min(share * (1 - share) / variance, float(total))
    low, high = wilson(share * rows, rows, level=level)
    return share, float(low), float(high)


class PerEvent(PerClass):
    """How well each event is told in advance, the worst first."""

    title: ClassVar[str] = "Which events are told in advance, and which are not?"

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            "Precision: of the rows where the event was the likeliest, how often it came. Recall: of the rows where it "
            f"came, how often it was the likeliest. {100 * self.level:g} % intervals over cases; an event of few rows "
            "says little."
        )


def per_event(
    y: ArrayLike, probability: ArrayLike, events: Sequence[str], case: ArrayLike, *, level: float = 0.95
) -> PerEvent:
    """Precision, recall and F1 of each event that occurs or is predicted, with intervals over cases.

    F1's interval is carried over from that of the share of hits among the rows that are of the event or predicted as
    it, as in `per_class`.

    Args:
        y: Class codes, shape (n,).
        probability: Probabilities, shape (n, k).
        events: Names of the k classes.
        case: Whose each row is, shape (n,).
        level: Of the intervals, in (0, 1).
    Raises:
        ValueError: An argument has the wrong shape or values.
    """
    table = per_class(y, probability, events, level=level).frame()
    table = table[table["f1"].notna()].reset_index(drop=True)
    sample = Sample.of_classes(y, probability)
    whose = np.unique(np.asarray(case), return_inverse=True)[1]
    if whose.shape != sample.codes.shape:
        raise ValueError(f"case has shape {whose.shape}, must be {sample.codes.shape}: one a row of y.")
    code = {name: place for place, name in enumerate(events)}
    for row, name in enumerate(table["class"]):
        true, said = sample.codes == code[name], sample.predicted == code[name]
        for metric, of in (("precision", said), ("recall", true), ("f1", true | said)):
            ends = np.array(share_by_case(true & said, of, whose, level=level)[1:])
            table.loc[row, [f"{metric}_low", f"{metric}_high"]] = 2 * ends / (1 + ends) if metric == "f1" else ends
    return PerEvent(table, level)
