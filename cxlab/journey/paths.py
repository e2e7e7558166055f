"""What leads to an event, what follows it, and what comes again and again.

paths_to(events, "account_closed", steps=3).frame()   # the sequences before the first one of each case
paths_from(events, "complaint", every=True).plot()    # after each one
loops(events, by="reason", windows=(7, 14)).frame()   # how often the same reason comes again within a week
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import ibis
import numpy as np
import pandas as pd

from cxlab.display import PALETTE, Result, axes, sentence
from cxlab.errors import DataError, ParamsError
from cxlab.journey.asking import DAY, check_events, days_of, duration, end_of
from cxlab.journey.events import END, START, Steps, seconds_between
from cxlab.journey.events import steps as read_steps
from cxlab.metrics.bootstrap import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ARROW = " → "
OTHERS = "(other paths)"
LONGEST = 10  # steps of a path
DRAWN = 20  # rows of a drawing


@dataclass(frozen=True, repr=False, eq=False)
class Paths(Result):
    """Sequences of events before or after one, the most frequent first.

    Attributes:
        table: See `frame`.
        event: Which event.
        before: Whether paths lead to it, else they follow it.
        steps: Events of a path, besides this one.
        every: Whether each occurrence counts, else the first of each case.
        different: How many different paths there are.
        notes: What was left out when the log was read.
    """

    table: pd.DataFrame
    event: str
    before: bool
    steps: int
    every: bool
    different: int
    notes: tuple[str, ...]

    @property
    def title(self) -> str:  # type: ignore[override]
        return f"What {'leads to' if self.before else 'follows'} {self.event}"

    @property
    def note(self) -> str:  # type: ignore[override]
        of = int(self.table["of"].iloc[0])
        cut = f"{START}: the case begins there" if self.before else f"{END}: the case, or the log, ends there"
        said = [
            f"Of {of:,} {'occurrences' if self.every else 'cases, the first occurrence of each'}: {self.different:,} "
            f"different paths of {self.steps} {'step' if self.steps == 1 else 'steps'} ({cut}). 95 % Wilson intervals."
        ]
        if self.every:
            said.append("Several occurrences are of one case, so the intervals are somewhat narrow.")
        return " ".join([*said, *self.notes])

    def frame(self) -> pd.DataFrame:
        """One row a path, the most frequent first, of equals the first by name: path, n, of, share, low, high.

        `n` of `of` occurrences have the path. The last row, "(other paths)", are all that are not shown, if there are.
        """
        return self.table.copy()

    def plot(self) -> Axes:
        """Shares of the 20 most frequent paths with their intervals."""
        what = "occurrences" if self.every else "cases"
        return _dots(self.table, "path", f"{self.title}: {int(self.table['of'].iloc[0]):,} {what}", f"share of {what}")


def paths_to(source: Any, event: str, steps: int = 3, *, every: bool = False, most: int = 20) -> Paths:
    """The most frequent sequences of events before an event.

    Args:
        source: Events, as `steps` reads them.
        event: Its name.
        steps: How many events before it, 1 to 10.
        every: Every occurrence, not only the first of each case.
        most: Paths that are shown, >= 1.
    Returns:
        Paths; one that the begin of the case cuts short begins with "(start)".
    Raises:
        ParamsError: The log has no such event, or an argument cannot be.
        DataError: The source cannot be read.
    Examples:
        >>> log = pd.DataFrame({"case": list("aaabb"), "event": ["see", "ask", "buy", "ask", "buy"]})
        >>> log["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta([0, 1, 2, 0, 1], "D")
        >>> paths_to(log, "buy", steps=2).frame()[["path", "n", "share"]].values.tolist()
        [['(start) → ask → buy', 1, 0.5], ['see → ask → buy', 1, 0.5]]
    """
    return _paths(source, event, steps, before=True, every=every, most=most)


def paths_from(source: Any, event: str, steps: int = 3, *, every: bool = False, most: int = 20) -> Paths:
    """The most frequent sequences of events after an event; one that the end of the case cuts short ends with "(end)".

    See `paths_to`.
    """
    return _paths(source, event, steps, before=False, every=every, most=most)


def _paths(source: Any, event: str, steps: int, *, before: bool, every: bool, most: int) -> Paths:
    for name, value, top in (("steps", steps, LONGEST), ("most", most, 1_000)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= top:
            raise ParamsError(f"{name} == {value!r}, must be a whole number from 1 to {top:,}.")
    log = read_steps(source)
    check_events(log, [event])
    t = log.table
    order = ibis.window(group_by=t.case_number, order_by=t.position)
    name = t.event.cast("string")
    away = {
        f"step{i}": (name.lag(i) if before else name.lead(i)).fill_null("").over(order) for i in range(1, steps + 1)
    }
    rows = t.select("case_number", "position", event=name, **away)
    rows = rows.filter(rows.event == event)
    if not every:
        first = ibis.window(group_by=rows.case_number, order_by=rows.position)
        rows = rows.mutate(turn=ibis.row_number().over(first))
        rows = rows.filter(rows.turn == 0)
    counted = rows.group_by(list(away)).aggregate(n=rows.count())
    sizes = log.ask(counted.aggregate(of=counted.n.sum(), different=counted.count()))
    of, different = int(sizes["of"].iloc[0]), int(sizes["different"].iloc[0])
    shown = log.ask(counted.order_by([counted.n.desc(), *(counted[column] for column in away)]).limit(most))
    paths = [_path([row[column] for column in away], event, before=before) for row in shown.to_dict("records")]
    table = pd.DataFrame({"path": paths, "n": shown["n"]})
    table = table.sort_values(["n", "path"], ascending=[False, True], ignore_index=True)
    if (left := of - int(table["n"].sum())) > 0:
        table = pd.concat([table, pd.DataFrame({"path": [OTHERS], "n": [left]})], ignore_index=True)
    return Paths(_shares(table.assign(of=of)), event, before, steps, every, different, log.notes)


def _path(away: Sequence[str], event: str, *, before: bool) -> str:
    """A path in words, from the nearest event to the farthest; empty ones are outside of the case."""
    names = [name for name in away if name]
    names += [START if before else END] if len(names) < len(away) else []
    return ARROW.join([*reversed(names), event] if before else [event, *names])


def _shares(table: pd.DataFrame) -> pd.DataFrame:
    low, high = wilson(table["n"], table["of"])
    of = table["of"].to_numpy(np.float64)
    share = np.divide(table["n"].to_numpy(np.float64), of, out=np.full(len(of), np.nan), where=of > 0)
    return table.assign(share=share, low=low, high=high)


def _dots(table: pd.DataFrame, name: str, title: str, reading: str) -> Axes:
    rest = table[table[name] == OTHERS]
    shown = table[table[name] != OTHERS].head(DRAWN)
    ax = axes(title, width=9.0, height=1.3 + 0.26 * max(3, len(shown)))
    places = range(len(shown))
    ax.hlines(places, shown["low"], shown["high"], color=PALETTE[0], linewidth=2)
    ax.plot(shown["share"], places, "o", color=PALETTE[0], markersize=5)
    ax.set_yticks(places, [f"{label} ({n:,})" for label, n in zip(shown[name], shown["n"], strict=True)], fontsize=8)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(_percent())
    left = f"; {rest['share'].iloc[0]:.0%} have other paths" if len(rest) else ""
    ax.set_xlabel(f"{reading} (95 % interval){left}")
    return ax


def _percent() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{100 * value:.3g} %")


@dataclass(frozen=True, repr=False, eq=False)
class Loops(Result):
    """What comes again in a case: the same event, or the same value of a column.

    Attributes:
        table: See `frame`.
        turning: See `turns`.
        what: `event` or the name of the column.
        end: When the log ends, UTC.
        blank: Events without a value of the column, which are left out.
        notes: What was left out when the log was read.
    """

    table: pd.DataFrame
    turning: pd.DataFrame
    what: str
    end: pd.Timestamp
    blank: int
    notes: tuple[str, ...]
    title: ClassVar[str] = "What comes again"

    @property
    def note(self) -> str:  # type: ignore[override]
        """How the end of the log is dealt with."""
        late = int(self.table.groupby("days")["too_late"].sum().max())
        out = f" {self.blank:,} events have no {self.what} and are left out." if self.blank else ""
        said = (
            f"Of events that the log follows for the whole window; it ends on {self.end:%Y-%m-%d %H:%M} UTC, and up to "
            f"{late:,} events are too late to tell.{out} 95 % Wilson intervals; where a few cases come again often, "
            "they are too narrow."
        )
        return " ".join([said, *self.notes])

    def frame(self) -> pd.DataFrame:
        """One row a value and window, the most frequent first: value, days, n, again, share, low, high, too_late.

        Of `n` events that the log follows for `days` days, so many had the same value again in their case within them,
        the last moment of the window included. `too_late` are those whose window ends after the log: in no share.
        """
        return self.table.copy()

    def turns(self) -> pd.DataFrame:
        """One row a pair: value, other, n, of, share, low, high, kind.

        `straight` is value then value; `back and forth` is value, other, and value again, directly one after another.
        `n` of the `of` events of the value were followed by this; the rest of them by something else or nothing.
        """
        return self.turning.copy()

    def plot(self) -> Axes:
        """Shares that come again in the shortest window, the highest first."""
        days = self.table["days"].min()
        shown = self.table[(self.table["days"] == days) & (self.table["n"] > 0)]
        if shown.empty:
            return sentence(self.title, "No event is followed for the whole window.")
        shown = shown.sort_values(["share", "value"], ascending=[False, True])
        title = f"Again within {duration(days * DAY)}, by {self.what} (of how many)"
        return _dots(shown, "value", title, "share that comes again")


def loops(
    source: Any, *, by: str | None = None, windows: Sequence[float | timedelta] = (7, 14), until: Any = None
) -> Loops:
    """How often the same comes again in a case within some days.

    Args:
        source: Events, as `steps` reads them.
        by: A column to compare, such as the reason of a contact; events without it are left out. The event if None.
        windows: Days, or timedeltas.
        until: When the log ends, UTC; its last event if None.
    Raises:
        ParamsError: A window is no time above 0.
        DataError: The source cannot be read, no event has a value, or `until` is before the last event.
    Examples:
        >>> log = pd.DataFrame({"case": list("aab"), "event": "call"})
        >>> log["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta([0, 3, 20], "D")
        >>> loops(log, windows=[7]).frame()[["value", "days", "n", "again", "too_late"]].values.tolist()
        [['call', 7.0, 2, 1, 1]]
    """
    days = [days_of(window, "windows") for window in windows]
    if not days or len(set(days)) < len(days):
        raise ParamsError(f"windows == {windows!r}, must be one or more different numbers of days.")
    log = read_steps(source, keep=() if by is None else (by,))
    end = end_of(log, until)
    t = log.table.mutate(value=log.table["event" if by is None else by].cast("string").nullif(""))
    known = t.filter(t.value.notnull())
    case = ibis.window(group_by=known.case_number, order_by=known.position)
    same = ibis.window(group_by=[known.case_number, known.value], order_by=known.position)
    rows = known.select(
        "value", "time", second=known.value.lead(1).over(case), third=known.value.lead(2).over(case),
        again=known.time.lead().over(same),
    )  # fmt: skip
    left, gap = seconds_between(ibis.literal(end), rows.time), seconds_between(rows.again, rows.time)
    sums: dict[str, Any] = {"of": rows.count()}
    for i, window in enumerate(days):
        followed = left >= window * DAY
        sums |= {f"n{i}": followed.sum(), f"again{i}": (followed & (gap <= window * DAY)).fill_null(False).sum()}
    found = log.ask(rows.group_by("value").aggregate(**sums))
    if found.empty:
        raise DataError(f"Column {by!r} has no value in any of {log.rows:,} events. Name another, or leave by out.")
    found = found.sort_values(["of", "value"], ascending=[False, True], ignore_index=True)
    parts = []
    for i, window in enumerate(days):
        n = found[f"n{i}"].astype(int)
        low, high = wilson(found[f"again{i}"], n)
        part = {"value": found["value"], "days": window, "n": n, "again": found[f"again{i}"].astype(int)}
        share = (found[f"again{i}"] / n.where(n > 0)).astype(float)
        parts.append(pd.DataFrame(part | {"share": share, "low": low, "high": high, "too_late": found["of"] - n}))
    table = pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)
    turning = _turns(log, rows, found)
    return Loops(table, turning, by or "event", end, log.rows - int(found["of"].sum()), log.notes)


def _turns(log: Steps, rows: Any, found: pd.DataFrame) -> pd.DataFrame:
    """See `Loops.turns`."""
    straight = rows.filter(rows.second == rows.value).select("value", other=rows.value, kind=ibis.literal("straight"))
    back = rows.filter((rows.third == rows.value) & (rows.second != rows.value))
    back = back.select("value", other=back.second, kind=ibis.literal("back and forth"))
    both = ibis.union(straight, back)
    table = log.ask(both.group_by(["value", "other", "kind"]).aggregate(n=both.count()))
    table["of"] = table["value"].map(found.set_index("value")["of"])
    table = table.sort_values(["n", "value", "other"], ascending=[False, True, True], ignore_index=True)
    return _shares(table)[["value", "other", "n", "of", "share", "low", "high", "kind"]]
