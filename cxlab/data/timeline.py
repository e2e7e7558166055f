"""One customer's events in order: what it was like to be this customer.

    story = timeline(admitted.events)     # of the customer with the most different kinds of events
    story.plot()
    timeline(admitted.events, "c~3fa9...").frame()

Times are UTC.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from cxlab.display import GREY, PALETTE, Result, axes, date_axis
from cxlab.errors import DataError, missing_column, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDED = ("event_id", "customer_id", "occurred_at", "received_at", "channel", "event", "properties")
WORDS = 48  # characters of an event's properties
LABELS = 16  # events named in the drawing
WIDTH, LETTER = 9.0, 0.075  # inches of the drawing, and of a letter of a label
LEVELS = (0.22, -0.25)  # where a label may stand, in rows above its dot
MOMENT = pd.Timedelta(minutes=1)


@dataclass(frozen=True, repr=False)
class Timeline(Result):
    """One customer's events.

    Attributes:
        customer: Whose they are.
        rows: One an event, in the order in which they happened: `at, channel, event, what, received_after_h`; `what`
            are the properties in words, cut short, and the hours are missing where nobody knows when it was received.
        rare: Kinds of events that are rarer among everybody's events than the average kind, the rarest first.
    """

    customer: str
    rows: pd.DataFrame = field(repr=False)
    rare: tuple[str, ...]

    title: ClassVar[str] = "One customer's events"
    note: ClassVar[str] = "One person's data, whatever the name: not to be put on pages that others read."

    def frame(self) -> pd.DataFrame:
        return self.rows

    def plot(self) -> Axes:
        """A dot an event, by channel; rare kinds in colour, and named where there is room: once, then again."""
        channels = list(dict.fromkeys(self.rows["channel"]))
        name = self.customer if len(self.customer) <= WORDS else f"{self.customer[: WORDS - 3]}..."
        ax = axes(f"{len(self.rows):,} events of {name}", width=WIDTH, height=1.2 + 0.55 * len(channels))
        at = self.rows["at"].dt.tz_convert("UTC").dt.tz_localize(None)
        place = self.rows["channel"].map(channels.index)
        telling = self.rows["event"].isin(self.rare)
        ax.plot(at[~telling], place[~telling], "o", color=GREY, markersize=4, alpha=0.4)
        ax.plot(at[telling], place[telling], "o", color=PALETTE[0], markersize=5)
        pad = max((at.max() - at.min()) * 0.02, MOMENT)
        start, end = at.min() - pad, at.max() + pad
        ax.set_xlim(start, end)
        for row, level, left in self._labels((at - start) / (end - start)):
            align = "right" if left else "left"
            text = self.rows["event"][row].replace("_", " ")
            ax.text(at[row], place[row] - level, text, fontsize=7, va="center", ha=align, color=PALETTE[0])
        ax.set_yticks(range(len(channels)), channels)
        ax.set_ylim(len(channels) - 0.5, -0.7)
        date_axis(ax, most=8)
        ax.set_xlabel("UTC; grey: frequent kinds of events")
        return ax

    def _labels(self, share: pd.Series) -> list[tuple[int, float, bool]]:
        """Row, level and whether it runs to the left of its dot, of each label that no earlier one is in the way of.

        Args:
            share: Where the events are between the left and the right of the drawing, in [0, 1].
        """
        taken: list[tuple[int, str, float, float, float]] = []
        found: list[tuple[int, float, bool]] = []
        again = self.rows.groupby("event").cumcount()
        wanted = self.rows.index[self.rows["event"].isin(self.rare)]
        for row in sorted(wanted, key=lambda row: (again[row], self.rare.index(self.rows["event"][row]), row)):
            channel, event = self.rows["channel"][row], self.rows["event"][row]
            width = len(event) * LETTER / WIDTH
            left = bool(share[row] + width > 1)
            low = share[row] - width if left else share[row]
            near = [item for item in taken if item[1] == channel and item[3] <= low + width and low <= item[4]]
            free = [level for level in LEVELS if all(item[2] != level for item in near)]
            said = any(self.rows["event"][item[0]] == event for item in near)
            if free and not said and len(found) < LABELS:
                taken.append((row, channel, free[0], low, low + width))
                found.append((int(row), free[0], left))
        return found


def timeline(events: pd.DataFrame, customer: str | None = None) -> Timeline:
    """One customer's events in the order in which they happened.

    Args:
        events: The contract's columns, as `admitted.events` has them.
        customer: Whose; if None, the one with the most different kinds of events, of those with as many the one with
            the most events, of those the first by name.
    Raises:
        DataError: A column is missing, the customer has no event, or no event has a customer.
    """
    for name in NEEDED:
        if name not in events:
            raise missing_column(name, map(str, events.columns))
    owned = events[events["customer_id"].notna()]
    if owned.empty:
        raise DataError(f"None of {len(events):,} events has a customer_id. Give those of cxlab.admit_events(params).")
    if customer is None:
        kinds = owned.groupby("customer_id", observed=True)["event"].agg(["nunique", "size"]).reset_index()
        kinds = kinds.sort_values(["nunique", "size", "customer_id"], ascending=[False, False, True])
        customer = str(kinds["customer_id"].iloc[0])
    mine = owned[owned["customer_id"].astype(str) == customer]
    if mine.empty:
        raise DataError(unknown("Customer", customer, map(str, owned["customer_id"].unique()), where="in the events"))
    mine = mine.sort_values(["occurred_at", "received_at", "event_id"], ignore_index=True)
    rows = pd.DataFrame(
        {
            "at": mine["occurred_at"],
            "channel": mine["channel"].astype(object),
            "event": mine["event"].astype(object),
            "what": mine["properties"].map(_said).astype(object),
            "received_after_h": (mine["received_at"] - mine["occurred_at"]).dt.total_seconds() / 3600,
        }
    )
    share = events["event"].value_counts(normalize=True).sort_index().sort_values(kind="stable")
    rare = share.index[share < 1 / len(share)]
    return Timeline(customer, rows, tuple(str(event) for event in rare if (rows["event"] == event).any()))


def _said(properties: Any) -> str:
    """Properties in words: "intent password, resolved yes"; those without a value are left out."""
    held = json.loads(properties) if isinstance(properties, str) else {}
    said = ", ".join(f"{key.replace('_', ' ')} {_word(value)}" for key, value in held.items() if value is not None)
    return said if len(said) <= WORDS else f"{said[: WORDS - 3]}..."


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
