"""How far cases come: of those that begin, how many reach each stage, and how long it takes them.

    found = funnel(events, ["visit", "cart", "order"], within=14, by="channel")
    found.frame()      # one row a stage and segment: cases, shares of the previous and of the first stage, times
    found.plot()

Each case counts once, by its best start: the one that reaches most stages, of those the earliest. From there each stage
is the first that can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from cxlab.display import GREY, PALETTE, Result, axes, axes_grid, row_height
from cxlab.errors import ParamsError, unknown
from cxlab.journey.asking import DAY, check_events, days_of, duration, segments_of
from cxlab.journey.events import Steps, steps
from cxlab.metrics.bootstrap import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray
Order = Literal["loose", "strict", "any"]

ORDERS = {
    "loose": "in this order, with anything between",
    "strict": "directly one after the other",
    "any": "in any order",
}
ALL = "(all)"
MICROS = 1e6


@dataclass(frozen=True, repr=False, eq=False)
class Funnel(Result):
    """Cases by the stage that they reach.

    Attributes:
        table: See `frame`.
        cases: Of the log.
        order: `loose`, `strict` or `any`.
        within: Days from the first stage, or None.
        by: The column that says the segment, or None.
        notes: What was left out when the log was read.
    """

    table: pd.DataFrame
    cases: int
    order: str
    within: float | None
    by: str | None
    notes: tuple[str, ...]
    title: ClassVar[str] = "How far cases come"

    @property
    def note(self) -> str:  # type: ignore[override]
        begun = int(self.table.loc[self.table["stage"] == 1, "n"].sum())
        limit = f", within {duration(self.within * DAY)} of the first" if self.within is not None else ""
        said = [
            f"{begun:,} of {self.cases:,} cases have the first stage. Stages {ORDERS[self.order]}{limit}; "
            "each case counts once, by its best start. 95 % Wilson intervals."
        ]
        if self.by is not None:
            said.append(f"A case's {self.by} is that of its first event.")
        return " ".join([*said, *self.notes])

    def frame(self) -> pd.DataFrame:
        """One row a segment and stage: segment, stage (from 1), event, n, previous, of_previous, low, high, first,
        of_first, first_low, first_high, days, days_10, days_90.

        `n` cases reach the stage, of `previous` that reach the one before (at the first stage: of all cases of the
        segment) and `first` that reach the first; both shares have Wilson's interval of 95 %, and are missing where
        they are of none. `days` is the median time from the stage before, with the 10 % and 90 % points, of those that
        reach it; in any order, the time until all of the stages so far have been there.
        """
        return self.table.copy()

    def plot(self) -> Axes:
        """Cases by stage, with their share of the stage before; by segment, shares of the first stage."""
        parts = {str(name): part for name, part in self.table.groupby("segment", sort=False)}
        if self.by is not None:
            return self._by_segment(parts)
        table = parts[ALL]
        ax = axes(f"{self.cases:,} cases: stages {ORDERS[self.order]}", height=row_height(table))
        places = range(len(table))
        ax.barh(places, table["n"], color=PALETTE[0], height=0.6)
        for place, row in zip(places, table.to_dict("records"), strict=True):
            share = "" if np.isnan(row["of_previous"]) else f": {row['of_previous']:.1%} of {_before(row)}"
            took = f", {duration(row['days'] * DAY)} later" if row["stage"] > 1 and row["n"] else ""
            ax.text(row["n"], place, f" {row['n']:,}{share}{took}", va="center", fontsize=8)
        ax.set_yticks(places, table["event"])
        ax.invert_yaxis()
        ax.set_xlim(0, max(1, table["n"].max()) * 1.75)
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        return ax

    def _by_segment(self, parts: dict[str, pd.DataFrame]) -> Axes:
        grid = axes_grid([f"{name}: {part['n'].iloc[0]:,} begin" for name, part in parts.items()])
        for (name, part), ax in zip(parts.items(), grid, strict=True):
            places = range(len(part))
            share = part["of_first"].fillna(0)
            ax.barh(places, share, color=PALETTE[0], height=0.6)
            ax.hlines(places, part["first_low"], part["first_high"], color="black", linewidth=1)
            for place, n in zip(places, part["n"], strict=True):
                ax.text(1.02, place, f"{n:,}", va="center", fontsize=7, color=GREY)
            ax.set_yticks(places, part["event"])
            ax.invert_yaxis()
            ax.set_xlim(0, 1.2)
            ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
            ax.set_label(str(name))
        return grid[0]


def _before(row: dict[Any, Any]) -> str:
    return "all" if row["stage"] == 1 else "the stage before"


def funnel(
    source: Any,
    stages: Sequence[str],
    *,
    order: Order = "loose",
    within: float | timedelta | None = None,
    by: str | None = None,
) -> Funnel:
    """How many cases reach each of some stages.

    With a window a case reaches a stage if some start at the first stage comes to it in time, not only its first start.
    Of events at one instant, `steps` says which is first.

    Args:
        source: Events, as `steps` reads them.
        stages: Names of events, one or more; one may come again, but not in any order.
        order: `loose`: in this order, with anything between; `strict`: directly one after the other; `any`: in any
            order, where the first j stages are reached together, and the window is that of all of them.
        within: Days (or a timedelta) from the first stage to the last, that included; None for no limit.
        by: A column that says the segment of a case, by its first event; 20 values at most.
    Raises:
        ParamsError: An argument cannot be, or the log has no such event.
        DataError: The source cannot be read.
    Examples:
        >>> log = pd.DataFrame({"case": ["a", "a", "a", "b"], "event": ["see", "ask", "buy", "see"]})
        >>> log["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta([0, 1, 2, 0], "D")
        >>> found = funnel(log, ["see", "buy"]).frame()
        >>> found[["event", "n", "previous", "of_previous", "days"]].values.tolist()
        [['see', 2, 2, 1.0, nan], ['buy', 1, 2, 0.5, 2.0]]
    """
    if isinstance(stages, str) or not len(stages):
        raise ParamsError(f"stages == {stages!r}, must be a list of one event or more, such as ['visit', 'order'].")
    if order not in ORDERS:
        raise ParamsError(unknown("Order", str(order), ORDERS))
    if order == "any" and len(set(stages)) < len(stages):
        raise ParamsError("stages holds an event twice, which stages in any order cannot. Take order='loose'.")
    days = None if within is None else days_of(within, "within")
    log = steps(source, keep=() if by is None else (by,))
    check_events(log, stages)
    case, reached = _reached(log, stages, order, days)
    whose = pd.DataFrame({"case_number": case, "segment": ALL})
    sizes = pd.Series({ALL: log.cases})
    if by is not None:
        every = segments_of(log, by)
        sizes = every["segment"].value_counts().sort_index()
        whose = whose[["case_number"]].merge(every, on="case_number", how="left")
    parts = [
        _stages(stages, reached[(whose["segment"] == name).to_numpy()], int(size)).assign(segment=str(name))
        for name, size in sizes.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    table = table[["segment", *(name for name in table if name != "segment")]]
    return Funnel(table, log.cases, order, days, by, log.notes)


def _reached(log: Steps, stages: Sequence[str], order: str, days: float | None) -> tuple[Array, Array]:
    """When each case with any of the events reaches each stage, by its best start.

    Returns:
        Numbers of cases, shape (c,), and microseconds, shape (c, s), NaN for stages not reached.
    """
    t = log.table
    names = list(dict.fromkeys(stages))
    code = t.event.cast("string").cases(*((name, place) for place, name in enumerate(names)), else_=0)
    rows = t.filter(t.event.isin(names)).order_by("case_number", "position")
    held = log.ask(rows.select("case_number", "position", "time", code=code.cast("int8")))
    case, position = held["case_number"].to_numpy(), held["position"].to_numpy()
    time = held["time"].to_numpy("datetime64[us]").astype(np.int64)
    kind, wanted = held["code"].to_numpy(), [names.index(name) for name in stages]
    limit = np.inf if days is None else days * DAY * MICROS

    def following(rows: Array, stage: int, *, own: bool) -> Array:
        """The row of the first event of a stage after each row (or that row itself), in its case; -1 for none."""
        there = np.flatnonzero(kind == wanted[stage])
        place = np.searchsorted(there, rows, side="left" if own else "right")
        found = np.append(there, -1)[place]
        return np.where((found >= 0) & (rows >= 0) & (case[found] == case[rows]), found, -1)

    starts = np.arange(len(case)) if order == "any" else np.flatnonzero(kind == wanted[0])
    chain = [following(starts, 0, own=True)]
    for stage in range(1, len(wanted)):
        if order == "any":
            after = following(starts, stage, own=True)
        else:
            after = following(chain[-1], stage, own=False)
            if order == "strict":
                after = np.where((after >= 0) & (position[after] == position[chain[-1]] + 1), after, -1)
        chain.append(after)
    rows = np.stack(chain, axis=1)
    at = np.where(rows >= 0, time[rows], np.nan)
    at[~(at - time[starts][:, None] <= limit)] = np.nan
    at = np.maximum.accumulate(at, axis=1)  # what comes after a stage that is not reached is not reached, too
    depth = np.isfinite(at).sum(axis=1)
    best = np.lexsort((starts, -depth, case[starts]))
    whose, first = np.unique(case[starts][best], return_index=True)
    return whose, at[best[first]]


def _stages(stages: Sequence[str], at: Array, cases: int) -> pd.DataFrame:
    n = np.isfinite(at).sum(axis=0)
    previous, first = np.append(cases, n[:-1]), np.full(len(n), n[0])
    days = np.diff(at, axis=1, prepend=np.nan) / (DAY * MICROS)
    points = [np.quantile(own[np.isfinite(own)], [0.5, 0.1, 0.9]) if np.isfinite(own).any() else np.full(3, np.nan)
              for own in days.T]  # fmt: skip
    columns: dict[str, Any] = {"stage": np.arange(1, len(n) + 1), "event": list(stages), "n": n}
    for name, of, ends in (("previous", previous, ("low", "high")), ("first", first, ("first_low", "first_high"))):
        share = np.divide(n, of, out=np.full(len(n), np.nan), where=of > 0)
        columns |= {name: of, f"of_{name}": share} | dict(zip(ends, wilson(n, of), strict=True))
    return pd.DataFrame(columns | dict(zip(("days", "days_10", "days_90"), np.array(points).T, strict=True)))
