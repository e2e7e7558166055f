"""How far what is said of times can be believed: their order, their intervals, their errors, their shares by horizon.

found = times_of(prefixes)
found.frame()                 # one row a figure, with an interval over cases
found.calibration[30].plot()  # of those said to be done within 30 days with 40 %, how many were
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from cxlab.display import Result, axes, interval_plot, row_height, sentence
from cxlab.evidence.sequence_rows import Prefixes, some_cases
from cxlab.metrics.bootstrap import Interval, interval, resampled
from cxlab.metrics.intervals import FEWEST
from cxlab.metrics.sample import Array
from cxlab.metrics.survival import TimeCalibration, calibration_at, concordance, coverage, kaplan_meier
from cxlab.models.ahead import NEXT, OUTCOME, REST, Ahead, Durations, facts_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 4000  # test rows asked of each kind of time: a distribution of 24 periods is computed for each
RESAMPLES = 500  # of the difference of errors
TIMED = {
    NEXT: "time to the next event, hours",
    REST: "remaining time of the case, days",
    OUTCOME: "time to the outcome, days",
}
CONCORDANCE, COVERED, ERROR, RIVAL, LESS = (
    "concordance",
    "share within its interval",
    "median absolute error",
    "the same, always saying the training median",
    "median absolute error less that",
)


@dataclass(frozen=True, repr=False, eq=False)
class Times(Result):
    """How good what is said of times is.

    Attributes:
        rows: See `frame`.
        calibration: Shares that were predicted and came, by horizon in days.
        dated: What the horizons are about.
        level: Of the intervals that the model gives.
        asked: Test rows there are of each kind of time.
        skipped: What cannot be said, and why.
    """

    rows: pd.DataFrame = field(repr=False)
    calibration: dict[float, TimeCalibration] = field(repr=False)
    dated: str
    level: float
    asked: int
    skipped: dict[str, str]

    title: ClassVar[str] = "When?"

    @property
    def note(self) -> str:  # type: ignore[override]
        drawn = self.rows["n"].max() if len(self.rows) else 0
        some = f" A sample of whole cases, of {self.asked:,} rows." if drawn < self.asked else ""
        return (
            "Concordance: of two rows, how often the one that was said to be sooner was (0.5 is guessing). Of "
            f"{100 * self.level:g} % intervals {100 * self.level:g} % should hold the time. Errors are of predicted "
            "medians, of rows whose time is known. Rows whose time was cut short count in all but the errors for as "
            f"long as they were seen. Intervals are 95 %, over cases.{some}"
        )

    def frame(self) -> pd.DataFrame:
        """One row a kind of time and fact: time, fact, n (rows), cases, value, low, high."""
        return self.rows.copy()

    def calibrated(self) -> pd.DataFrame:
        """One row a horizon and bin: horizon_days, and what `calibration_at` says."""
        parts = [found.frame().assign(horizon_days=days) for days, found in self.calibration.items()]
        if not parts:
            return pd.DataFrame()
        every = pd.concat(parts, ignore_index=True)
        return every[["horizon_days", *(name for name in every if name != "horizon_days")]]

    def of(self, kind: str, fact: str) -> Interval:
        """One figure; NaN where it is not known."""
        there = self.rows[(self.rows["time"] == TIMED[kind]) & (self.rows["fact"] == fact)]
        if there.empty:
            return Interval(np.nan, np.nan, np.nan)
        return Interval(*(float(value) for value in there[["value", "low", "high"]].iloc[0]))

    def plot(self) -> Axes:
        """Concordances and shares within the intervals; dashed is what the intervals promise."""
        shown = self.rows[self.rows["fact"].isin([CONCORDANCE, COVERED])]
        if shown.empty:
            return sentence(self.title, "Nothing is said of times.")
        ax = axes(self.title, height=row_height(shown))
        labels = [f"{row.time}:\n{row.fact}" for row in shown.itertuples()]
        interval_plot(ax, labels, shown["value"], shown["low"], shown["high"], reference=self.level)
        ax.set_xlim(0, 1.02)
        ax.set_xlabel(f"share, 95 % interval; dashed: {100 * self.level:g} %")
        return ax


def times_of(prefixes: Prefixes, *, rows: int = ROWS, seed: int = 0) -> Times:
    """Judges what a model says of times on test rows.

    Args:
        prefixes: The test part.
        rows: Test rows asked at most, of whole cases drawn with `seed`.
        seed: Of the draws.
    """
    ahead, subject = prefixes.subject.model.ahead, prefixes.subject
    assert isinstance(ahead, Ahead)
    test, train = subject.split.test, subject.split.train
    waiting = prefixes.waiting
    before = facts_of(prefixes.table, subject.params.sequence, subject.split.border)
    lines: list[tuple[object, ...]] = []
    calibration: dict[float, TimeCalibration] = {}
    most = 0
    for kind, model in ahead.times.items():
        known = prefixes.facts.times[kind]
        there = np.flatnonzero((known.asked & waiting)[test])
        if not len(there):
            continue
        most = max(most, len(there))
        there = there[some_cases(prefixes.case[there], rows, seed)]
        X, case = prefixes.X.iloc[there], prefixes.case[there]
        duration, seen = known.duration[test[there]], known.observed[test[there]]
        found = model.quantile(X, [0.5, (1 - ahead.level) / 2, (1 + ahead.level) / 2])
        found[:, 1] = np.minimum(found[:, 1], model.hazard_.edges_[-1])  # beyond all that was seen is from there on
        learnt = before.times[kind]
        usual = _median_of(learnt, train[(learnt.asked & waiting)[train]])
        for fact, n, cases, value in _judged(duration, seen, found, case, usual, seed=seed):
            lines.append((TIMED[kind], fact, n, cases, *value))
        if kind == ahead.dated:
            horizons = [days for days in ahead.horizons if days <= duration.max()]
            shares = model.within(X, horizons) if horizons else np.zeros((len(X), 0))
            for days, share in zip(horizons, shares.T, strict=True):
                calibration[days] = calibration_at(duration, seen, np.clip(share, 0, 1), days, groups=case)
    names = ["time", "fact", "n", "cases", "value", "low", "high"]
    return Times(pd.DataFrame(lines, columns=names), calibration, TIMED[ahead.dated], ahead.level, most, ahead.skipped)


def _median_of(found: Durations, rows: np.ndarray) -> float:
    """By when it happened to half of some rows, those cut short counted as long as they were seen; inf if it is not
    reached."""
    if not len(rows):
        return np.inf
    steps = kaplan_meier(found.duration[rows], found.observed[rows]).frame()
    reached = steps["time"][steps["survival"] <= 0.5]
    return float(reached.iloc[0]) if len(reached) else np.inf


def _judged(
    duration: Array, seen: np.ndarray, found: Array, case: np.ndarray, usual: float, *, seed: int
) -> list[tuple[str, int, int, Interval]]:
    n, cases = len(duration), len(np.unique(case))
    ordered = concordance(duration, seen, -rankdata(found[:, 0]), groups=case)
    held = coverage(duration, seen, found[:, 1], found[:, 2], groups=case)
    made = [(CONCORDANCE, n, cases, Interval(*ordered[:3])), (COVERED, n, cases, held)]
    known = np.flatnonzero(seen)
    if not len(known):
        return made
    told = len(np.unique(case[known]))
    errors = np.stack([np.abs(duration - found[:, 0]), np.abs(duration - usual)])[:, known]
    own, other = _median_errors(errors, case[known], told >= FEWEST, seed)
    with np.errstate(invalid="ignore"):  # inf less inf
        less = own - other
    return made + [(fact, len(known), told, _around(it)) for fact, it in ((ERROR, own), (RIVAL, other), (LESS, less))]


def _median_errors(errors: Array, case: np.ndarray, draws: bool, seed: int) -> tuple[Array, Array]:
    """The median of each kind of error, then in draws of cases if there are enough, shape (2, 1 + RESAMPLES)."""
    whose = np.unique(case, return_inverse=True)[1]
    order = np.argsort(errors, axis=1, kind="stable")
    made: list[list[float]] = [[], []]
    chunks = [np.ones((1, whose.max() + 1))]
    if draws:
        chunks += resampled(int(whose.max()) + 1, resamples=RESAMPLES, seed=seed, wide=len(whose))
    for chunk in chunks:
        weights = chunk[:, whose]
        for kind in (0, 1):
            total = np.cumsum(weights[:, order[kind]], axis=1)
            at = (total < total[:, -1:] / 2).sum(axis=1)
            made[kind] += errors[kind][order[kind]][at].tolist()
    return np.array(made[0]), np.array(made[1])


def _around(found: Array) -> Interval:
    """The first with the interval of the others; without ends where nothing was drawn."""
    return interval(float(found[0]), found[1:]) if len(found) > 1 else Interval(float(found[0]), np.nan, np.nan)
