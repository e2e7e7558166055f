"""What the trigger engine reads: events in the order in which they were received, and what is known of customers.

    params, texts = load_signals("params/signals.yaml")
    happened = happenings(read("events.parquet").accepted, params)
    known = read_customers("customers.parquet", params)

Customers steer by events: `action_snoozed`, `action_declined`, `channel_preferred`, `opted_out`, `opted_in`,
`question_answered`, `consent_granted` and `consent_withdrawn`. Such an event that cannot be read stops everything:
a lost refusal must not pass for a yes.
"""

from __future__ import annotations

import json
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxlab.data.admit import refuse_lost
from cxlab.data.consent import GRANTED, MARKS, WITHDRAWN
from cxlab.data.events import Events, read_events
from cxlab.data.files import read_frame
from cxlab.data.forget import is_forgotten
from cxlab.data.identity import KINDS
from cxlab.data.schema import text_of
from cxlab.data.taxonomy import Taxonomy, load_taxonomy
from cxlab.errors import DataError, ParamsError, listed, missing_column, unknown
from cxlab.params.signals import Comparison, Match, SignalsParams
from cxlab.places import home

SNOOZED, DECLINED, ANSWERED = "action_snoozed", "action_declined", "question_answered"
PREFERRED, OUT, IN = "channel_preferred", "opted_out", "opted_in"
COMPLAINED, INCIDENT = "complaint", "incident_notified"
STEERS = (GRANTED, WITHDRAWN, SNOOZED, DECLINED, ANSWERED, PREFERRED, OUT, IN)  # by which customers stay in control
ALL = "all"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TABLES = (".parquet", ".csv", ".csv.gz")


class Happening(NamedTuple):
    """One event, as the engine takes it; times in microseconds since 1970, UTC."""

    received: int
    event_id: str
    customer: str
    occurred: int
    channel: str
    event: str
    properties: Mapping[str, Any]
    purpose: str


@dataclass(frozen=True)
class Profile:
    """What is known of a customer besides events.

    Attributes:
        zones: The customer's time zone; several where it is not known, of which all must suit.
        zone_known: Whether it is known.
        marks: Of minor and vulnerable.
        preferred: The channel, if any.
        unreachable: Channels that don't reach the customer.
        values: Columns that segments name, as text.
    """

    zones: tuple[str, ...]
    zone_known: bool = False
    marks: frozenset[str] = frozenset()
    preferred: str | None = None
    unreachable: frozenset[str] = frozenset()
    values: Mapping[str, str] | None = None


class Customers:
    """Profiles by customer; who is not in the table has one of an unknown zone."""

    def __init__(self, profiles: Mapping[str, Profile], zones: Sequence[str], notes: Sequence[str] = ()) -> None:
        self.profiles, self.notes = dict(profiles), tuple(notes)
        self._unknown = Profile(tuple(zones))

    def __getitem__(self, customer: str) -> Profile:
        return self.profiles.get(customer, self._unknown)


def moment(us: int) -> datetime:
    """Microseconds since 1970 as a time, UTC."""
    return EPOCH + timedelta(microseconds=us)


def stamp(us: int) -> str:
    """The same as text: 2026-03-01T12:00:00+00:00."""
    return moment(us).isoformat()


def micros(at: datetime) -> int:
    """A time with a zone, as microseconds since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1)


def matches(match: Match, event: str, properties: Mapping[str, Any], last: float | None = None) -> bool:
    """Whether an event is meant; `last` is the number that the customer's event before said."""
    return event == match.event and all(
        name in properties and _fits(rule, properties[name], last) for name, rule in match.where.items()
    )


def _fits(rule: Any, value: Any, last: float | None) -> bool:
    if isinstance(rule, Comparison):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low = rule.least is None or value >= rule.least
        high = rule.most is None or value <= rule.most
        rise = rule.times_last is None or (last is not None and last > 0 and value >= rule.times_last * last)
        return low and high and rise
    return any(
        isinstance(one, bool) == isinstance(value, bool) and one == value
        for one in (rule if isinstance(rule, tuple) else (rule,))
    )


def risen(match: Match) -> str | None:
    """The property whose last value must be kept, if any."""
    found = [n for n, rule in match.where.items() if isinstance(rule, Comparison) and rule.times_last is not None]
    return found[0] if found else None


def looked_at(params: SignalsParams) -> set[str]:
    """Events that the engine takes; all others pass by."""
    named = {signal.event for signal in params.signals.values()}
    named |= {match.event for situation in params.situations.values() for match in situation.helped_by}
    return named | {*STEERS, COMPLAINED, INCIDENT, *params.left_by, *params.back_by}


def check_names(params: SignalsParams, taxonomy: Taxonomy | None = None) -> None:
    """Refuses events, properties and channels that the taxonomy does not know.

    Raises:
        ParamsError: One is not known.
    """
    taxonomy = taxonomy or ours()
    used: list[tuple[str, Match]] = [(f"signals.{name}", signal) for name, signal in params.signals.items()]
    for name, situation in params.situations.items():
        used += [(f"situations.{name}.helped_by", match) for match in situation.helped_by]
        for step in [*situation.ladder, *([situation.ask] if situation.ask else [])]:
            for channel in step.channels:
                if channel not in taxonomy.channels:
                    raise ParamsError(f"situations.{name}: {unknown('Channel', channel, taxonomy.channels)}")
    used += [("left_by or back_by", Match(event=name)) for name in (*params.left_by, *params.back_by)]
    for where, match in used:
        if match.event not in taxonomy.events:
            raise ParamsError(f"{where}: {unknown('Event', match.event, taxonomy.events)}")
        properties = taxonomy.events[match.event].properties
        for name in match.where:
            if name not in properties:
                raise ParamsError(f"{where}: {unknown('Property', name, properties, where=f'one of {match.event}')}")
        rising = [n for n, r in match.where.items() if isinstance(r, Comparison) and r.times_last is not None]
        if rising and (len(rising) > 1 or not where.startswith("signals.")):
            raise ParamsError(
                f"{where}: times_last stands at {listed(rising)}, must stand at one property of a signal."
            )


def ours() -> Taxonomy:
    """`params/events.yaml`, read once."""
    return _taxonomy(str(home()))


@lru_cache(maxsize=4)
def _taxonomy(folder: str) -> Taxonomy:
    return load_taxonomy(Path(folder) / "params" / "events.yaml")


def files_of(source: str | Path) -> list[Path]:
    """The file, or the tables in a folder by name; hidden files and those still being written (.part) are left out.

    Raises:
        DataError: It is not there, or the folder holds no table.
    """
    path = Path(source)
    if not path.is_dir():
        return [path]
    found = sorted(item for item in path.iterdir() if item.name.endswith(TABLES) and not item.name.startswith("."))
    if not found:
        raise DataError(f"{path} holds no events: no file ends in {listed(TABLES)}. Give the folder of the events.")
    return found


def read(source: str | Path | pd.DataFrame | Sequence[Any]) -> Events:
    """Events by the contract, from a file, a folder of them, or a table.

    Raises:
        DataError: A file cannot be read, or what a customer decided is in quarantine.
    """
    return refuse_lost_words(
        read_events(files_of(source) if isinstance(source, str | Path) else source, taxonomy=ours())
    )


def refuse_lost_words(read: Events) -> Events:
    """The events, unless a refusal, or any other word by which customers steer, is in quarantine."""
    refuse_lost(
        read, STEERS, "events in which customers say what we may do are in quarantine, so nothing can be decided"
    )
    return read


def without_forgotten(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of which no identifier is of somebody who was forgotten."""
    gone = np.zeros(len(frame), bool)
    for kind in KINDS:
        if kind in frame:
            gone |= is_forgotten(frame[kind], kind=kind).to_numpy(bool)
    return frame[~gone]


def happenings(accepted: pd.DataFrame, params: SignalsParams) -> list[Happening]:
    """Accepted events that matter, of customers who are known by a customer_id and not forgotten, in their order."""
    rows = accepted[accepted["event"].isin(looked_at(params)) & accepted["customer_id"].notna()]
    rows = without_forgotten(rows)
    loads: Callable[[str], dict[str, Any]] = lru_cache(maxsize=100_000)(json.loads)
    return [
        Happening(received, event_id, customer, occurred, channel, event, loads(properties), purpose)
        for received, event_id, customer, occurred, channel, event, properties, purpose in zip(
            rows["received_at"].astype("int64").tolist(),
            rows["event_id"].tolist(),
            rows["customer_id"].tolist(),
            rows["occurred_at"].astype("int64").tolist(),
            rows["channel"].tolist(),
            rows["event"].tolist(),
            rows["properties"].tolist(),
            rows["purpose"].tolist(),
            strict=True,
        )
    ]


def read_customers(source: str | Path | pd.DataFrame | None, params: SignalsParams) -> Customers:
    """What is known of customers: zone, preferred channel, marks, and the columns that segments name.

    Args:
        source: CSV, Parquet or a table, one row a customer, as it stands now; None where nothing is known.
        params: They name the columns.
    Raises:
        DataError: It cannot be read, has no customer_id, or a customer is there twice. Other columns that are missing
            are named in the notes.
    """
    zones = params.guardrails.zones
    if source is None:
        note = f"No table of customers: what is sent must suit {listed(zones)}, and no segment is known."
        return Customers({}, zones, [note])
    table = source if isinstance(source, pd.DataFrame) else read_frame(Path(source))[0]
    columns = [str(name) for name in table.columns]
    told = params.customers
    segments = {segment.column for situation in params.situations.values() for segment in situation.segments}
    if "customer_id" not in table:
        raise missing_column("customer_id", columns)
    lost = [name for name in sorted({*segments, *told.reached_by.values(), told.preferred}) if name not in columns]
    notes = [f"The table of customers has no {listed(lost)}: nothing is other for anybody by that."] if lost else []
    ids = [text_of(value) for value in table["customer_id"].tolist()]
    again = pd.Series(ids, dtype=object)
    if again.duplicated().any():
        name = again[again.duplicated()].iloc[0]
        raise DataError(f"Customer {name!r} is there {int((again == name).sum())} times; give one row a customer.")
    profiles = {str(name): profile for name, profile in zip(ids, _profiles(table, params, segments), strict=True)}
    strange = sum(not profile.zone_known for profile in profiles.values())
    note = f"{strange:,} of {len(profiles):,} customers have no known time zone; theirs must suit {listed(zones)}."
    return Customers(profiles, zones, [*notes, *([note] if strange else [])])


def _profiles(table: pd.DataFrame, params: SignalsParams, segments: set[str]) -> Iterator[Profile]:
    told, known = params.customers, zoneinfo.available_timezones()
    used = {*segments, *MARKS, *told.reached_by.values(), told.timezone, told.preferred} & set(map(str, table.columns))
    for row in table[sorted(used)].to_dict("records"):
        text = {str(name): text_of(value) for name, value in row.items()}
        zone = text.get(told.timezone)
        there = zone in known
        yield Profile(
            zones=(str(zone),) if there else params.guardrails.zones,
            zone_known=there,
            marks=frozenset(mark for mark in MARKS if _says_yes(text.get(mark))),
            preferred=text.get(told.preferred),
            unreachable=frozenset(c for c, n in told.reached_by.items() if n in text and not _says_yes(text[n])),
            values={name: text[name] or "" for name in sorted(segments & text.keys())},
        )


def _says_yes(value: str | None) -> bool:
    return (value or "").casefold() in ("true", "yes", "1")
