"""How long it takes from one event to the next.

found = step_times(events, pairs=[("contact", "call_answered")], beyond=2)
found.frame()      # one row a transition: how often, quantiles, mean, the share that takes longer than two days
found.plot()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from cxlab.display import PALETTE, Result, axes, sentence
from cxlab.errors import ParamsError
from cxlab.journey.asking import DAY, check_events, days_of, duration
from cxlab.journey.events import seconds_between, steps
from cxlab.metrics.bootstrap import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = (0.1, 0.25, 0.5, 0.75, 0.9)
DRAWN = 25  # transitions in a drawing
SHORTEST = 1.0  # second of a drawing, whose axis has no zero
TICKS = (1, 10, 60, 600, 3600, 6 * 3600, DAY, 7 * DAY, 30 * DAY, 365 * DAY)


@dataclass(frozen=True, repr=False, eq=False)
class StepTimes(Result):
    """Times between events that directly follow one another.

    Attributes:
        table: See `frame`.
        beyond: Days that `longer` counts from.
        absent: Pairs asked for that never follow one another.
        notes: What was left out when the log was read.
    """

    table: pd.DataFrame
    beyond: float
    absent: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    title: ClassVar[str] = "How long it takes from one event to the next"

    @property
    def note(self) -> str:  # type: ignore[override]
        never = "".join(f" {then} never directly follows {first}." for first, then in self.absent)
        said = (
            f"Times in hours. `longer` takes more than {duration(self.beyond * DAY)} (95 % Wilson interval). Only "
            "steps that happened: what is still to follow when the log ends is not in it, so long times are too few."
        )
        return " ".join([said + never, *self.notes])

    def frame(self) -> pd.DataFrame:
        """One row a transition, the most frequent first: event, next_event, n; mean, q10, q25, median, q75 and q90 in
        hours; longer, share, low, high.

        `longer` of `n` take longer than `beyond` days. Events at one instant take 0 hours; none takes less.
        """
        return self.table.copy()

    def plot(self) -> Axes:
        """The middle half and the middle four fifths of the times, and the median, on a logarithmic axis."""
        shown = self.table.head(DRAWN)
        if shown.empty:
            return sentence(self.title, "No event directly follows another as asked.")
        more = f", the {DRAWN} most frequent of {len(self.table):,}" if len(self.table) > DRAWN else ""
        ax = axes(f"Time from one event to the next{more}", width=9.0, height=1.4 + 0.26 * max(3, len(shown)))
        places = range(len(shown))
        seconds = {name: (shown[name] * 3600).clip(lower=SHORTEST) for name in ("q10", "q25", "median", "q75", "q90")}
        ax.hlines(places, seconds["q10"], seconds["q90"], color=PALETTE[5], linewidth=2)
        ax.hlines(places, seconds["q25"], seconds["q75"], color=PALETTE[0], linewidth=5)
        ax.plot(seconds["median"], places, "o", color="white", markeredgecolor=PALETTE[0], markersize=5)
        names = zip(shown["event"], shown["next_event"], shown["n"], strict=True)
        ax.set_yticks(places, [f"{first} → {then} ({n:,})" for first, then, n in names], fontsize=8)
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.set_xscale("log")
        low, high = seconds["q10"].min() / 1.5, seconds["q90"].max() * 1.5
        ax.set_xlim(low, high)
        ticks = [tick for tick in TICKS if low <= tick <= high]
        first = "up to 1 s" if (self.table["q10"] * 3600 < SHORTEST).any() else "1 s"
        ax.set_xticks(ticks, [first if tick == SHORTEST else duration(tick) for tick in ticks], fontsize=8)
        ax.minorticks_off()
        ax.set_xlabel("dot: median; thick: middle half; thin: 10 % to 90 %")
        return ax


def step_times(
    source: Any, *, pairs: Sequence[tuple[str, str]] | None = None, beyond: float | timedelta = 7
) -> StepTimes:
    """How the times between events that directly follow one another are spread.

    Args:
        source: Events, as `steps` reads them.
        pairs: Transitions (event, next event); all that happened if None.
        beyond: Days, or a timedelta, that `longer` counts from.
    Raises:
        ParamsError: The log has no such event, or an argument cannot be.
        DataError: The source cannot be read.
    Examples:
        >>> log = pd.DataFrame({"case": list("aabb"), "event": ["ask", "buy"] * 2})
        >>> log["time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta([0, 1, 0, 9], "D")
        >>> step_times(log).frame()[["event", "next_event", "n", "median", "longer"]].values.tolist()
        [['ask', 'buy', 2, 120.0, 1]]
    """
    days = days_of(beyond, "beyond")
    for pair in pairs or ():
        if isinstance(pair, str) or len(pair) != 2:
            raise ParamsError(f"pairs holds {pair!r}, must be pairs of events, such as ('visit', 'order').")
    log = steps(source)
    check_events(log, [name for pair in pairs or () for name in pair])
    t = log.table.filter(log.table.next_time.notnull())
    rows = t.select(
        event=t.event.cast("string"), next_event=t.next_event.cast("string"), gap=seconds_between(t.next_time, t.time)
    )
    if pairs is not None:
        wanted = [tuple(pair) for pair in pairs]
        rows = rows.filter(rows.event.isin([pair[0] for pair in wanted] or [""]))
    sums = {"n": rows.count(), "mean": rows.gap.mean(), "longer": (rows.gap > days * DAY).sum()}
    sums |= {f"point{i}": rows.gap.quantile(point) for i, point in enumerate(POINTS)}
    found = log.ask(rows.group_by(["event", "next_event"]).aggregate(**sums))
    absent: tuple[tuple[str, str], ...] = ()
    if pairs is not None:
        there = list(zip(found["event"], found["next_event"], strict=True))
        found = found[[pair in wanted for pair in there]]
        absent = tuple(dict.fromkeys((first, then) for first, then in wanted if (first, then) not in there))
    found = found.sort_values(["n", "event", "next_event"], ascending=[False, True, True], ignore_index=True)
    names = ("q10", "q25", "median", "q75", "q90")
    hours = {"mean": found["mean"] / 3600} | {name: found[f"point{i}"] / 3600 for i, name in enumerate(names)}
    low, high = wilson(found["longer"], found["n"])
    table = pd.DataFrame({"event": found["event"], "next_event": found["next_event"], "n": found["n"]} | hours)
    table = table.assign(longer=found["longer"].astype(int), share=found["longer"] / found["n"], low=low, high=high)
    return StepTimes(table, days, absent, log.notes)
