"""Signals over past events: what would have been decided, when, and what held it back; nothing is sent.

    params, texts = load_signals("params/signals.yaml")
    found = replay("events.parquet", params, customers="customers.parquet")
    found.frame()          # a row a decision
    found.guardrails()     # what held how many back
    found.harm()           # opt-outs and complaints after contacts, with intervals
    found.write("decisions.jsonl")

The same events and params give the same bytes, whatever the order of rows and files; so does `follow`, over events that
arrive as they were received.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.events import Events
from cxlab.data.files import write_whole
from cxlab.decide.signals import COMPLAINED, OUT, Customers, happenings, read, read_customers
from cxlab.decide.triggers import CONTACTS, STATUSES, Decision, Engine
from cxlab.digest import canonical
from cxlab.display import PALETTE, Result, axes, date_axis, sentence
from cxlab.metrics.bootstrap import wilson
from cxlab.params.signals import SignalsParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ["time", "customer", "situation", "action", "status", "guardrail", "until", "channel", "message", "owner"]
COLUMNS += ["purpose", "strength", "confidence", "local_time", "opened", "reason", "id"]


@dataclass(frozen=True, repr=False, eq=False)
class Replay(Result):
    """Decisions over past events.

    Attributes:
        decisions: In the order in which they were made.
        read: What the contract made of the rows.
        used: Events that the engine looked at.
        params: What was decided by.
        notes: What was guessed or left out.
    """

    decisions: Sequence[Decision] = field(repr=False)
    read: Events = field(repr=False)
    used: int
    params: SignalsParams = field(repr=False)
    notes: tuple[str, ...] = ()

    title: ClassVar[str] = "What would have been sent"

    @property
    def note(self) -> str:  # type: ignore[override]
        counts = self.counts()
        told = ", ".join(f"{counts[status]:,} {status}" for status in STATUSES if counts[status])
        return f"{self.read.rows_in:,} rows came in, {self.used:,} events matter: {told or 'no decision'}."

    def counts(self) -> dict[str, int]:
        """Decisions by status."""
        out = dict.fromkeys(STATUSES, 0)
        for decision in self.decisions:
            out[decision["status"]] += 1
        return {str(name): count for name, count in out.items()}

    def frame(self) -> pd.DataFrame:
        """One row a decision; times as ISO 8601 text, strength and confidence in [0, 1]."""
        return pd.DataFrame(list(self.decisions), columns=COLUMNS)

    def guardrails(self) -> pd.DataFrame:
        """Decisions by situation, status and guardrail, each with its share of the situation's decisions."""
        frame = self.frame().assign(guardrail=lambda table: table["guardrail"].fillna(""))
        counted = frame.groupby(["situation", "status", "guardrail"], as_index=False).size()
        counted = counted.rename(columns={"size": "decisions"})
        of = counted.groupby("situation")["decisions"].transform("sum")
        return counted.assign(of=of, share=counted["decisions"] / of)

    def harm(self) -> pd.DataFrame:
        """Opt-outs and complaints soon after contacts, by situation, with 95 % Wilson intervals.

        In a replay these are customers who would have been contacted: what they did had other reasons.
        """
        rules = self.params.guardrails.harm
        contacts = [d for d in self.decisions if d["status"] in CONTACTS]
        sent = pd.DataFrame(
            {
                "customer_id": [d["customer"] for d in contacts],
                "at": pd.to_datetime([d["time"] for d in contacts], utc=True, format="ISO8601").as_unit("us"),
                "situation": [d["situation"] for d in contacts],
            }
        ).astype({"customer_id": "object", "situation": "object"})
        events, rows = self.read.accepted, []
        totals = sent.groupby("situation").size() if len(sent) else pd.Series(dtype=int)
        for kind, limit in ((OUT, rules.opt_outs), (COMPLAINED, rules.complaints)):
            there = events.loc[events["event"] == kind, ["customer_id", "received_at"]].astype(
                {"customer_id": "object"}
            )
            hits = pd.Series(dtype=int)
            if len(sent) and len(there):
                after = pd.merge_asof(
                    there.sort_values("received_at"),
                    sent.sort_values("at"),
                    left_on="received_at",
                    right_on="at",
                    by="customer_id",
                    allow_exact_matches=False,  # what led to the contact does not follow from it
                    tolerance=pd.Timedelta(hours=rules.within_h),
                ).dropna(subset=["at"])
                hits = after.drop_duplicates(["customer_id", "at"]).groupby("situation").size()
            for name in sorted(self.params.situations):
                n = int(totals.get(name, 0))
                low, high = wilson(min(int(hits.get(name, 0)), n), n)
                count = int(hits.get(name, 0))
                rate = count / n if n else np.nan
                rows.append((name, kind, count, n, rate, float(low), float(high), limit))
        return pd.DataFrame(rows, columns=["situation", "event", "events", "contacts", "rate", "low", "high", "limit"])

    def lines(self) -> bytes:
        """Canonical JSON, one line a decision."""
        return lines_of(self.decisions)

    def write(self, path: str | Path) -> Path:
        """Writes the lines, whole or not at all.

        Raises:
            DataError: The file cannot be written.
        """
        return write_whole(path, self.lines())

    def plot(self) -> Axes:
        """Decisions a week by status."""
        frame = self.frame()
        if frame.empty:
            return sentence(self.title, "No situation reached its threshold.")
        when = pd.to_datetime(frame["time"], utc=True, format="ISO8601").dt.tz_localize(None)
        weekly = frame.assign(week=when.dt.to_period("W").dt.start_time).groupby(["week", "status"]).size()
        table = weekly.unstack(fill_value=0).reindex(columns=[s for s in STATUSES if s in set(frame["status"])])
        ax = axes(f"{len(frame):,} decisions, {sum(frame['status'].isin(CONTACTS)):,} of them would reach a customer")
        low = np.zeros(len(table))
        for status, color in zip(STATUSES, PALETTE, strict=False):
            if status in table:
                ax.bar(table.index, table[status], width=6, bottom=low, color=color, label=status)
                low = low + table[status].to_numpy()
        ax.set_ylabel("decisions a week")
        ax.legend(frameon=False, fontsize=8, ncols=3)
        date_axis(ax)
        return ax


def lines_of(decisions: Sequence[Mapping[str, Any]]) -> bytes:
    """Canonical JSON, one line a decision."""
    return b"".join(canonical(decision) + b"\n" for decision in decisions)


def replay(
    source: str | Path | pd.DataFrame | Sequence[Any],
    params: SignalsParams,
    *,
    customers: Customers | str | Path | pd.DataFrame | None = None,
) -> Replay:
    """Decides over past events as it would have been decided then.

    Args:
        source: Events in the contract's columns: a file, a folder of files, or a table.
        params: Signals, situations and guardrails.
        customers: The table of customers as it stands now, or None.
    Raises:
        DataError: A file cannot be read, or what a customer said is in quarantine.
        ParamsError: The params name what the taxonomy does not know.
    """
    known = customers if isinstance(customers, Customers) else read_customers(customers, params)
    engine = Engine(params, known)
    found = read(source)
    happened = happenings(found.accepted, params)
    decisions: list[Decision] = []
    for happening in happened:
        decisions += engine.step(happening)
    if len(found.accepted):
        decisions += engine.advance(int(found.accepted["received_at"].astype("int64").iloc[-1]))
    return Replay(tuple(decisions), found, len(happened), params, (*known.notes, *found.notes))
