"""CX Risk Scores: the share of calls with at least one high-risk indicator, for technology and for operations.

    params = risk_params()                                   # params/risk_score.yaml, or another file
    calls = assess(read_frame("calls.parquet")[0], params)   # the risk of every call
    scores = risk_scores(calls)                              # by segment and time
    scores.frame(); scores.plot("site")

How calls add up: a score is the calls with high risk over the calls of which it can be told (see `risk_rules`), each
counted once an area, however many indicators it shows. Calls of which it cannot be told are counted beside it, and two
bounds say what the share would be if none of them, or all, were high. Where they are many the share itself leans
upwards, as a call can be called high with less measured than it takes to clear it. A call is in both areas, or in
several groups of different segments, as often as it belongs there. Calls that were not answered count: they have a line
and a queue. Medium risk is counted, but is no part of the score.

Intervals are Wilson's and take calls for independent; `compare_risks` and `root_causes` allow for calls of one agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import pandas as pd

from cxlab.data.schema import MISSING, as_text
from cxlab.decide.risk_rules import HIGH, LOW, MEDIUM, NO, NOT_HIGH, NOT_MEASURED, RISKS, CallRisks, assess, periods
from cxlab.display import PALETTE, Result, axes_grid, interval_plot
from cxlab.errors import DataError, unknown
from cxlab.metrics.bootstrap import check_level, wilson
from cxlab.params.files import load_file
from cxlab.params.risk import AREAS, Period, RiskParams
from cxlab.places import home

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RiskScores", "assess", "grouped", "risk_params", "risk_scores"]
ALL = "all"


def risk_params(path: str | Path | None = None, overrides: Sequence[str] = ()) -> RiskParams:
    """The rules of a file, `params/risk_score.yaml` unless given.

    Raises:
        ParamsError: The file does not fit, or rules overlap or contradict each other.
    """
    return load_file(path or home() / "params" / "risk_score.yaml", RiskParams, overrides)


@dataclass(frozen=True, repr=False, eq=False)
class RiskScores(Result):
    """Scores by area and group.

    Attributes:
        rows: See `frame`.
        by: The segments and periods scored apart.
        level: Of the intervals.
        said: Of the rules and what is not measured.
    """

    title: ClassVar[str] = "CX Risk Scores"

    rows: pd.DataFrame = field(repr=False)
    by: tuple[str, ...]
    level: float
    said: str

    @property
    def note(self) -> str:  # type: ignore[override]
        every = self.rows[self.rows["group"] == ALL]
        parts = [
            f"{row['area']}: {row['not_measured']:,} calls not measured, the share is between {row['least']:.1%} and "
            f"{row['most']:.1%} with them."
            for row in every.to_dict("records")
            if row["not_measured"] and row["calls"]
        ]
        return " ".join([f"{self.level:.0%} Wilson intervals.", self.said, *parts])

    def frame(self) -> pd.DataFrame:
        """A row an area and group, the group "all" first, then those of each segment as `site=home`.

        calls (of which it can be told whether they are high), high, share (high / calls), low and high_bound (of its
        interval), rule (the code that decided most often among the high; the first in the table of equals), rule_calls;
        then by, and the calls that are medium, low_risk, not_high (medium or low), not_measured (not among calls) and
        unanswered; least and most (the share if none, or all, of the calls not measured were high).
        """
        return self.rows

    def plot(self, by: str | None = None) -> Axes:
        """Shares with intervals of one segment or period, the first unless given."""
        by = by or (self.by[0] if self.by else ALL)
        if by not in (*self.by, ALL):
            raise DataError(unknown("Segment", by, self.by, "scored apart"))
        grid = axes_grid(list(AREAS), columns=2)
        for area, ax in zip(AREAS, grid, strict=True):
            part = self.rows[(self.rows["area"] == area) & (self.rows["by"].isin([by, ""]))].dropna(subset="share")
            part = part.head(1) if by == ALL else part[part["by"] == by]
            labels = [name.removeprefix(f"{by}=") for name in part["group"]]
            if by in get_args(Period):
                place = np.arange(len(part))
                ax.fill_between(place, part["low"], part["high_bound"], color=PALETTE[0], alpha=0.2, linewidth=0)
                ax.plot(place, part["share"], color=PALETTE[0])
                step = max(1, len(part) // 6)
                ax.set_xticks(place[::step], labels[::step], rotation=40, ha="right")
                ax.set_ylim(bottom=0)
            else:
                interval_plot(ax, labels, part["share"], part["low"], part["high_bound"])
        return grid[0]


def risk_scores(calls: CallRisks, by: Sequence[str] | None = None, *, level: float = 0.95) -> RiskScores:
    """Scores of all calls, and apart by segments and periods.

    Args:
        calls: What `assess` gives.
        by: Columns, and periods: hour (of the day), weekday, day, week, month; the params' if None, as far as the table
            has them.
        level: Of the intervals, in (0, 1).
    Raises:
        DataError: A column is not in the table.
        ParamsError: A period is asked for and no time is known.
    """
    check_level(level)
    if by is None:
        times = calls.params.times if calls.timed else ()
        by = (*(x for x in calls.params.segments if x not in calls.absent), *times)
    everyone = pd.Series(pd.Categorical([ALL])).repeat(len(calls.source)).reset_index(drop=True)
    split = [("", everyone), *((name, grouped(calls, name)) for name in by)]
    parts = [_scores(calls, area, name, group, level) for area in AREAS for name, group in split]
    return RiskScores(pd.concat(parts, ignore_index=True), tuple(by), level, calls.note)


def grouped(calls: CallRisks, name: str) -> pd.Series:
    """The group of every call by a segment's column or a period, as categories, shape (n,); `(missing)` is one.

    Raises:
        DataError: The column is not in the table.
        ParamsError: It is a period and no time is known.
    """
    if name in calls.source:
        column = calls.source[name]
        group = column if isinstance(column.dtype, pd.CategoricalDtype) else as_text(column).astype("category")
    elif name in get_args(Period):
        group = periods(calls, name)  # type: ignore[arg-type]
    else:
        known = [*map(str, calls.source.columns), *get_args(Period)]
        raise DataError(unknown("Column", name, known, "in the data, nor is it a period"))
    if group.isna().any():
        group = group.cat.add_categories([MISSING]).fillna(MISSING)
    return group.cat.remove_unused_categories()


def _scores(calls: CallRisks, area: Any, by: str, group: pd.Series, level: float) -> pd.DataFrame:
    codes, names = group.cat.codes.to_numpy().astype(np.int64), [str(name) for name in group.cat.categories]
    k = len(names)
    size = np.bincount(codes, minlength=k)
    unanswered = np.bincount(codes[calls.answered == NO], minlength=k)
    counted = np.zeros((k, len(RISKS)), np.int64)
    counted[:, NOT_MEASURED] = size
    rule, most_often = np.full(k, "", dtype=object), np.zeros(k, np.int64)
    if area in calls.risk:
        risk, rules = calls.risk[area].astype(np.int64), calls.params.rules
        counted = np.bincount(codes * len(RISKS) + risk, minlength=counted.size).reshape(counted.shape)
        high = risk == HIGH
        places = codes[high] * len(rules) + calls.rule[area][high]
        fired = np.bincount(places, minlength=k * len(rules)).reshape(k, len(rules))
        first, most_often = fired.argmax(axis=1), fired.max(axis=1)
        rule = np.where(most_often > 0, np.array([r.code for r in rules], dtype=object)[first], "")
    told = size - counted[:, NOT_MEASURED]
    high_calls = counted[:, HIGH]
    low, high_bound = wilson(high_calls, told, level=level)
    with np.errstate(invalid="ignore"):
        share = high_calls / told
    return pd.DataFrame(
        {
            "area": area,
            "group": [name if by == "" else f"{by}={name}" for name in names],
            "calls": told,
            "high": high_calls,
            "share": share,
            "low": low,
            "high_bound": high_bound,
            "rule": rule,
            "rule_calls": most_often,
            "by": by,
            "medium": counted[:, MEDIUM],
            "low_risk": counted[:, LOW],
            "not_high": counted[:, NOT_HIGH],
            "not_measured": counted[:, NOT_MEASURED],
            "unanswered": unanswered,
            "least": high_calls / size,
            "most": (high_calls + counted[:, NOT_MEASURED]) / size,
        }
    )
