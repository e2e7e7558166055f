"""What is known of a case at each of its events: one row a prefix, that is, of all that happened up to there.

    schema = prefix_schema(log, roles)       # learnt from training rows, frozen with the model
    X = schema.encode(log)                   # a row for each row of the log, features of nothing later

A log has a row an event: its case, its name, its time, and attributes as they were then. Its rows must stand by case
and in order, as `cxlab.data.log` puts them. A feature looks back along its case alone: adding the future changes none.

The features are those of predictive process monitoring: the last events, how often each occurred, the time since the
last one and since the case began, the clock, and the attributes as they are and as they changed (Teinemaa et al. 2019,
Outcome-oriented predictive process monitoring, section 4.3: last-state and aggregation encodings).

This module travels with every bundle of sequences, so it knows numpy, pandas and its own kind alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from ..data.schema import MISSING, Column, Schema, schema_of
from ..data.times import UNKNOWN

END, OTHER, START = "(end)", "(other)", "(start)"
LAGS = 5  # events before the last one that have a column each
COUNTED = 30  # events that are counted, the most frequent ones
MOST = 300  # events that have a class each; rarer ones are OTHER
LAST = ("event", *(f"event_{lag}" for lag in range(1, LAGS + 1)))
COUNTS = ("position", "run", "changes")
PASSED = ("gap", "gap_1", "gap_2", "elapsed", "in_event", "hour", "weekday")
HOUR = 3_600_000_000  # microseconds
DAY = 24 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EDGE = 60_000_000_000_000_000  # from where on, 1,900 years from 1970, no clock is read
FEW = 64  # rows whose events are counted at once, and whose clock is read without pandas


@dataclass(frozen=True)
class LogRoles:
    """Which column of a log says what.

    Attributes:
        case: Whose event it is.
        event: Its name.
        time: When it happened, in UTC.
        order: Which of two events of one time comes first; None: the order of the rows.
        opened: When the case began; None: with its first event.
        attributes: What is known at each event besides.
        timezone: In which the hour and the day of the week are read.
    """

    case: str
    event: str
    time: str
    order: str | None = None
    opened: str | None = None
    attributes: tuple[str, ...] = ()
    timezone: str = "UTC"

    @property
    def names(self) -> list[str]:
        """The columns that a model reads."""
        named = [self.case, self.event, self.time, self.order, self.opened, *self.attributes]
        return list(dict.fromkeys(name for name in named if name is not None))


@dataclass(frozen=True)
class Cases:
    """Where the rows of a log stand in their cases.

    Attributes:
        code: The case of each row, counted from 0 in order of appearance, shape (n,).
        first: The row at which it begins, shape (n,).
        place: How many events came before within the case, shape (n,).
    """

    code: np.ndarray
    first: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, case: pd.Series) -> Cases:
        """The cases of ordered rows."""
        return cls.numbered(case.to_numpy())

    @classmethod
    def numbered(cls, values: np.ndarray) -> Cases:
        """The same, from what names the case of each row, shape (n,)."""
        row = np.arange(len(values))
        begins = np.ones(len(values), bool)
        begins[1:] = values[1:] != values[:-1]
        code = np.cumsum(begins) - 1
        first = np.flatnonzero(begins)[code] if len(values) else row
        return cls(code, first, row - first)

    @property
    def last(self) -> np.ndarray:
        """Whether each row is the last of its case, shape (n,)."""
        return np.append(self.code[1:] != self.code[:-1], True) if len(self.code) else np.zeros(0, bool)

    def back(self, values: np.ndarray, steps: int, empty: Any) -> np.ndarray:
        """The value so many events before each, `empty` where the case was not there yet."""
        found = np.full_like(values, empty)
        there = np.flatnonzero(self.place >= steps)
        found[there] = values[there - steps]
        return found

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum since the case began, each row's own value in it; shape of `values`."""
        sums = np.cumsum(values, axis=0, dtype=np.float64)
        if not self.code[-1:].any():  # all rows are of one case
            return sums
        return sums - (sums[self.first] - values[self.first])


@dataclass(frozen=True)
class PrefixSchema(Schema):
    """What a model of sequences reads; its columns are the event's name and the attributes.

    Attributes:
        roles: Which column says what.
        events: Names seen in training, the most frequent first.
    """

    roles: LogRoles = LogRoles("case", "event", "time")
    events: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """What may come next: the known events, one of all the others, and the end of the case."""
        return (*self.events[:MOST], OTHER, END)

    @property
    def attributes(self) -> list[Column]:
        return [column for column in self.columns if column.name != self.roles.event]

    @property
    def raw(self) -> Schema:
        """All columns that are read, as they lie in a file; of the case and of times no value is known."""
        known = {column.name: column for column in self.columns}
        return Schema(tuple(known.get(name, Column(name, "category")) for name in self.roles.names))

    def codes(self, events: pd.Series) -> np.ndarray:
        """Places of events among the labels, shape (n,)."""
        known = {name: place for place, name in enumerate(self.events[:MOST])}
        other = len(known)
        return np.array([known.get(name, other) for name in self._event(events)], np.int64)

    def following(self, frame: pd.DataFrame) -> np.ndarray:
        """The label of what comes after each row in its case, shape (n,)."""
        codes, cases = self.codes(frame[self.roles.event]), Cases.of(frame[self.roles.case])
        return np.where(cases.last, len(self.labels) - 1, np.append(codes[1:], 0))

    def _event(self, events: pd.Series) -> np.ndarray:
        return next(column for column in self.columns if column.name == self.roles.event).encode(events)

    def encode(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Features of each row of an ordered log.

        Args:
            frame: Rows by case and in order, times as `datetime64` in UTC.
        Returns:
            Text and 32-bit numbers, shape (n, features), indexed by the number of the case and the event in it from 1.
        """
        roles, cases = self.roles, Cases.of(frame[self.roles.case])
        values = {column.name: column.encode(frame[column.name]) for column in self.columns}
        opened = None if roles.opened is None else microseconds(frame[roles.opened])
        made = self.arrays(cases, values, microseconds(frame[roles.time]), opened)
        index = pd.MultiIndex.from_arrays([cases.code, cases.place + 1], names=["case", "position"])
        return pd.DataFrame(made, index=index)

    def arrays(
        self, cases: Cases, values: Mapping[str, np.ndarray], when: np.ndarray, opened: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """What `encode` makes, from rows that are cast already.

        Args:
            cases: Where the rows stand.
            values: Names and attributes as the columns cast them, each of shape (n,).
            when: Microseconds since 1970, shape (n,).
            opened: When the case began, likewise; `UNKNOWN` where that is not told. None: with its first event.
        """
        made: dict[str, np.ndarray] = {}
        begun = when[cases.first]
        self._happened(made, cases, values[self.roles.event])
        self._timed(made, cases, when, begun if opened is None else np.where(opened == UNKNOWN, begun, opened))
        for column in self.attributes:
            _attribute(made, cases, column, values[column.name])
        return made

    def _happened(self, made: dict[str, np.ndarray], cases: Cases, events: np.ndarray) -> None:
        made["event"] = events
        for lag in range(1, LAGS + 1):
            made[f"event_{lag}"] = cases.back(events, lag, START)
        changed = (events != made["event_1"]).astype(np.float32)
        changed[cases.place == 0] = 1
        made["position"] = (cases.place + 1).astype(np.float32)
        made["run"] = _since(cases, changed.astype(bool)) + np.float32(1)
        made["changes"] = cases.total(changed).astype(np.float32)
        names = self.events[:COUNTED]
        if len(events) <= FEW:
            hits = cases.total(events[:, None] == np.array(names, object)).astype(np.float32)
            made |= {f"count of {name}": hits[:, place] for place, name in enumerate(names)}
            return
        for name in names:
            made[f"count of {name}"] = cases.total(events == name).astype(np.float32)

    def _timed(self, made: dict[str, np.ndarray], cases: Cases, when: np.ndarray, opened: np.ndarray) -> None:
        gap = np.maximum(when - cases.back(when, 1, 0), 0) / HOUR
        gap[cases.place == 0] = np.nan
        made["gap"] = gap.astype(np.float32)
        for lag in (1, 2):
            made[f"gap_{lag}"] = cases.back(made["gap"], lag, np.nan)
        made["elapsed"] = (np.maximum(when - opened, 0) / HOUR).astype(np.float32)
        entered = np.arange(len(when)) - (made["run"] - 1).astype(np.int64)
        made["in_event"] = (np.maximum(when - when[entered], 0) / HOUR).astype(np.float32)
        made["hour"], made["weekday"] = clock(when, self.roles.timezone)

    @property
    def features(self) -> Schema:
        """The columns that `encode` makes."""
        names = (*self.events, MISSING) if self.events else ()
        made = [Column(name, "category", tuple(names) if name == "event" else (*names, START)) for name in LAST]
        numbers = [*COUNTS, *(f"count of {name}" for name in self.events[:COUNTED]), *PASSED]
        made += [Column(name, "number") for name in numbers]
        for column in self.attributes:
            name = feature_of(column.name)
            made.append(Column(name, column.kind, column.categories))
            own = ["change of"] if column.kind == "number" else []
            made += [Column(f"{what} {name}", "number") for what in (*own, "changes of", "rows since")]
        return Schema(tuple(made))

    def plain_log(self) -> dict[str, Any]:
        """Roles and events as JSON holds them; `plain` has the columns."""
        return {"roles": asdict(self.roles), "events": list(self.events)}

    @classmethod
    def of_plain_log(cls, columns: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> PrefixSchema:
        """The inverse of `plain` and `plain_log`."""
        roles = {**told["roles"], "attributes": tuple(told["roles"]["attributes"])}
        return cls(Schema.of_plain(columns).columns, LogRoles(**roles), tuple(told["events"]))


def _since(cases: Cases, mark: np.ndarray) -> np.ndarray:
    """How many events ago the latest marked one of the case was, shape (n,); every case begins with a mark."""
    row = np.arange(len(mark))
    return (row - np.maximum.accumulate(np.where(mark | (cases.place == 0), row, 0))).astype(np.float32)


def feature_of(attribute: str) -> str:
    """The feature that an attribute is; one that is called like a feature of every log is marked.

    Examples:
        >>> feature_of("team"), feature_of("hour")
        ('team', 'hour (attribute)')
    """
    return f"{attribute} (attribute)" if attribute in (*LAST, *COUNTS, *PASSED) else attribute


def _attribute(made: dict[str, np.ndarray], cases: Cases, column: Column, values: np.ndarray) -> None:
    """An attribute as it is, how often it changed, and since when it stands."""
    name = feature_of(column.name)
    made[name] = values
    if column.kind == "number":
        made[f"change of {name}"] = values - cases.back(values, 1, np.nan)
        values = np.nan_to_num(values, nan=np.inf)
    changed = np.append(False, values[1:] != values[:-1])[: len(values)] & (cases.place > 0)
    made[f"changes of {name}"] = cases.total(changed).astype(np.float32)
    made[f"rows since {name}"] = _since(cases, changed)


def clock(when: np.ndarray, timezone: str) -> tuple[np.ndarray, np.ndarray]:
    """The hour of the day with its minutes, and the day of the week from Monday, 0, each of shape (n,).

    Args:
        when: Microseconds since 1970.
        timezone: Whose clock.
    """
    when = np.clip(when, -EDGE, EDGE)
    if len(when) <= FEW:
        zone = ZoneInfo(timezone)
        told = [(EPOCH + timedelta(microseconds=moment)).astimezone(zone) for moment in when.tolist()]
        hours = [moment.hour + moment.minute / 60 for moment in told]
        return np.array(hours, np.float32), np.array([moment.weekday() for moment in told], np.float32)
    shown = pd.DatetimeIndex(when.view("datetime64[us]"), tz="UTC").tz_convert(timezone)
    return (shown.hour + shown.minute / 60).to_numpy(np.float32), shown.dayofweek.to_numpy(np.float32)


def microseconds(times: pd.Series) -> np.ndarray:
    """Times in UTC as microseconds since 1970, shape (n,)."""
    return pd.DatetimeIndex(times).as_unit("us").asi8  # type: ignore[attr-defined]


def prefix_schema(frame: pd.DataFrame, roles: LogRoles) -> PrefixSchema:
    """The schema of a log, learnt from its training rows."""
    columns = schema_of(frame, [roles.event, *roles.attributes]).columns
    event = Column(roles.event, "category", columns[0].categories)  # a name, also where names are numbers
    names = pd.Series(Column(roles.event, "category").encode(frame[roles.event]))
    counted = names.value_counts(sort=False).reset_index()
    counted.columns = pd.Index(["name", "n"])
    ranked = counted.sort_values(["n", "name"], ascending=[False, True])["name"]
    if not event.categories:
        event = Column(roles.event, "category", tuple(sorted(set(names))))
    return PrefixSchema((event, *columns[1:]), roles, tuple(ranked))
