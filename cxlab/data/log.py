"""An event log: rows of cases in the order in which they happened.

    table = read_log(params.data)
    table.frame            # by case, the earliest case first; times in UTC
    table.source.notes     # what was mended or left out, with counts

Rows may come in any order. Of two events of one time the `order` column says which came first, else the rows' order.
Rows that lack a case, an event or a time are left out and counted. Times are ISO 8601, or day or month first where the
file leaves no doubt which; else the params say their format.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxlab.data.catalog import by_sha256
from cxlab.data.files import read_frame
from cxlab.data.schema import Column, Schema, as_text, schema_of
from cxlab.data.table import Source, Table, locate
from cxlab.data.times import UNKNOWN, microseconds_of
from cxlab.digest import sha256_of
from cxlab.errors import DataError, ParamsError, listed, missing_column, unknown
from cxlab.params import DataParams

LONGEST_CASE = 10_000  # events of one case that are kept, the first ones: no person reads more, and memory is bounded
_PARTS = re.compile(r"^\s*(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})(.*)$")
_CLOCK = re.compile(r"^(?:[ T]+\d{1,2}:\d{2}(?::\d{2})?)?\s*$")
LATE_BY = pd.Timedelta(seconds=1)  # by which a time after its event is no rounding


@dataclass(frozen=True)
class LogTable(Table):
    """A log and its roles; what is learnt from it are its events and the declared attributes."""

    @functools.cached_property
    def features(self) -> tuple[str, ...]:
        return (str(self.roles.event), *self.roles.attributes)

    @functools.cached_property
    def cases(self) -> np.ndarray:
        """The case of each row, numbered in the order in which they began, shape (n,)."""
        case = self.frame[self.roles.case].to_numpy()
        return np.cumsum(np.append(True, case[1:] != case[:-1])) - 1

    @functools.cached_property
    def when(self) -> np.ndarray:
        """When each row happened, in microseconds since 1970, shape (n,)."""
        return pd.DatetimeIndex(self.frame[str(self.roles.time)]).as_unit("us").asi8  # type: ignore[attr-defined]

    @functools.cached_property
    def begins(self) -> np.ndarray:
        """Whether each row is the first of its case, shape (n,)."""
        return np.append(True, self.cases[1:] != self.cases[:-1])

    @functools.cached_property
    def seen(self) -> np.ndarray:
        """Events of its case up to each row, itself among them, shape (n,)."""
        return np.arange(len(self.cases)) - np.flatnonzero(self.begins)[self.cases] + 1

    @functools.cached_property
    def last(self) -> np.ndarray:
        """Whether each row is the last of its case, shape (n,)."""
        return np.append(self.begins[1:], True)

    @functools.cached_property
    def ended(self) -> np.ndarray:
        """Whether each row's case has ended, shape (n,): its last event ends cases, or none is declared to do so."""
        if not self.roles.ends:
            return np.ones(len(self.cases), bool)
        closing = as_text(self.frame[str(self.roles.event)][self.last]).isin(self.roles.ends).to_numpy()
        return closing[self.cases]

    @functools.cached_property
    def opened(self) -> pd.Series:
        """When each row's case began: the declared column, else the case's first event, in UTC."""
        roles = self.roles
        if roles.opened is not None:
            return self.frame.groupby(self.cases)[roles.opened].transform("first")
        return self.frame.groupby(self.cases)[str(roles.time)].transform("first")

    def check_roles(self) -> None:
        """Stops where a role names a column that is not there, or an attribute that cannot be one.

        Raises:
            DataError: A named column is missing, or an attribute is known only afterwards.
            ParamsError: A role is missing, or a column has two.
        """
        check_roles(self.roles, list(map(str, self.frame.columns)))
        late = {name: who for name, who in self.known_after.items() if name in self.features}
        if late:
            says = "; ".join(f"{name!r} (says the {who})" for name, who in late.items())
            raise DataError(
                f"Known only after the outcome, so refused as attributes: {says}. A model with them looks good here "
                f"and fails in use. Take them out of data.attributes."
            )

    def schema(self, rows: np.ndarray | None = None) -> Schema:
        frame = self.frame if rows is None else self.frame.iloc[rows]
        columns = schema_of(frame, list(self.features)).columns
        names = tuple(sorted(set(Column(str(self.roles.event), "category").encode(frame[self.roles.event]))))
        return Schema((Column(str(self.roles.event), "category", names), *columns[1:]))

    def suspects(self) -> dict[str, str]:
        """Columns that hold times later than their event: written back from later, unless they announce something."""
        time = self.frame[self.roles.time]
        found = {}
        for name in self.frame.columns:
            if name in (self.roles.time, self.roles.opened):
                continue
            stamps = _stamps(self.frame[name], self.roles.timezone)
            if stamps is None:
                continue
            late = int((stamps > time + LATE_BY).sum())
            if late:
                role = "an attribute" if name in self.roles.attributes else "not used"
                found[str(name)] = f"{name}: {late:,} of {len(time):,} rows hold a time after their event ({role})."
        return found


def check_roles(roles: DataParams, names: list[str]) -> None:
    """Stops where a role of a log is missing, names no column, or a column has two.

    Raises:
        DataError: A named column is not there.
        ParamsError: A role is missing, or a column has two.
    """
    for role in ("case", "event", "time"):
        if getattr(roles, role) is None:
            raise ParamsError(
                f"data.{role} is missing; a log of events needs case, event and time. See {listed(names)}."
            )
    named = [roles.case, roles.event, roles.time, roles.order, roles.opened, *roles.segments, *roles.attributes]
    for name in named:
        if name is not None and name not in names:
            raise missing_column(name, names)
    main = [roles.case, roles.event, roles.time]
    for name in (*main, *roles.attributes):
        if main.count(name) + roles.attributes.count(str(name)) > 1:
            raise ParamsError(
                f"{name!r} has two roles in data; case, event, time and attributes are columns of their own."
            )


def read_log(data: DataParams) -> LogTable:
    """Reads the log that the params name.

    Raises:
        DataError: The file cannot be read, a column is missing, or no row is left.
        ParamsError: A role is missing.
    """
    path = locate(data.path)
    options = {"separator": data.separator, "decimal": data.decimal, "encoding": data.encoding}
    frame, notes = read_frame(path, **options)
    digest = sha256_of(path)
    entry = by_sha256(digest)
    frame, mended = ordered(frame, data)
    source = Source(str(path), digest, len(frame), (*notes, *mended), entry.name if entry else None)
    return LogTable(frame, data, source)


def ordered(frame: pd.DataFrame, roles: DataParams, *, rank: pd.Series | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Rows by case and in order, the case that began first first; and what was mended or left out.

    Args:
        frame: Rows in any order.
        roles: Which column says what.
        rank: By case, which of those that began at once comes first; None: by their names.
    Raises:
        DataError: A column is missing, a time cannot be read, or no row is left.
        ParamsError: A role is missing.
    """
    check_roles(roles, list(map(str, frame.columns)))
    case, event, time = str(roles.case), str(roles.event), str(roles.time)
    notes = []
    read = frame.assign(**{time: times_of(frame[time], roles)})
    if roles.opened is not None and roles.opened != time:
        read[roles.opened] = times_of(frame[roles.opened], roles)
    if roles.ignore:
        read, said = _without(read, event, roles.ignore)
        notes.append(said)
    lacking = read[[case, event, time]].isna().any(axis=1)
    if lacking.any():
        parts = [
            f"{int(read[name].isna().sum()):,} without {name}"
            for name in (case, event, time)
            if read[name].isna().any()
        ]
        notes.append(f"{int(lacking.sum()):,} of {len(read):,} rows are left out: {', '.join(parts)}.")
        read = read[~lacking]
    if read.empty:
        raise DataError(f"No row has a case, an event and a time ({case}, {event}, {time}). Is it the right file?")
    by = [time] if roles.order is None else [roles.order, time]
    read = read.sort_values([case, *by], kind="stable")
    same = read[case].eq(read[case].shift())
    backwards = int((same & (read[time] < read[time].shift())).sum())
    if backwards:
        notes.append(
            f"{backwards:,} events have a time before the event that {roles.order} puts first: no time passed."
        )
    tied = int((same & read[time].eq(read[time].shift())).sum()) if roles.order is None else 0
    if tied:
        notes.append(
            f"{tied:,} events have the time of the one before in their case; they stay in the order of the rows."
        )
    place = read.groupby(case, sort=False).cumcount()
    if int(place.max()) >= LONGEST_CASE:
        cut = place >= LONGEST_CASE
        cases = read.loc[cut, case].nunique()
        notes.append(
            f"{int(cut.sum()):,} rows of {cases:,} cases are left out: a case keeps its first {LONGEST_CASE:,} events."
        )
        read = read[~cut]
    start = read.groupby(case, sort=False)[roles.opened or time].transform("first")
    if start.isna().any():
        raise DataError(f"{roles.opened!r} is missing in {int(start.isna().sum()):,} rows; it says when a case began.")
    tie = read[case] if rank is None else read[case].map(rank)
    made = read.assign(_start=start, _tie=tie).sort_values(["_start", "_tie"], kind="stable")
    made = made.drop(columns=["_start", "_tie"])
    return made.reset_index(drop=True), notes


def _without(frame: pd.DataFrame, event: str, ignored: tuple[str, ...]) -> tuple[pd.DataFrame, str]:
    """Rows less those of events that are no steps, and how many these were."""
    names = as_text(frame[event])
    for name in ignored:
        if not (names == name).any():
            raise DataError(f"data.ignore: {unknown('Event', name, sorted(set(names.dropna())), 'in the log')}")
    out = names.isin(ignored).to_numpy()
    return frame[~out], f"{int(out.sum()):,} of {len(frame):,} events are ignored: {listed(ignored)}."


def times_of(column: pd.Series, roles: DataParams) -> pd.Series:
    """Times in UTC, shape (n,); what is missing stays so.

    Raises:
        DataError: A value is no time, or it may be two.
    """
    name = column.name
    if pd.api.types.is_numeric_dtype(column) and column.notna().any():
        raise DataError(f"{name!r} holds numbers such as {column.dropna().iloc[0]}; write times as 2026-01-31T10:00.")
    form = roles.time_format
    if form is None and not pd.api.types.is_datetime64_any_dtype(column):
        form = sniffed_format(column)
    found = microseconds_of(column, form, roles.timezone)
    bad = column[(found == UNKNOWN) & column.notna().to_numpy()]
    if len(bad):
        raise DataError(
            f"{name!r}: {len(bad):,} of {len(column):,} values are no times{f' as {form}' if form else ''} (row "
            f"{int(np.flatnonzero(column.index == bad.index[0])[0]) + 1:,}: {bad.iloc[0]!r}). Write them as "
            f"2026-01-31T10:00, or give their format as data.time_format, such as '%d/%m/%Y %H:%M'."
        )
    return _times(found, column)


def _times(moments: np.ndarray, column: pd.Series) -> pd.Series:
    """Microseconds as a column of times in UTC."""
    made = pd.Series(moments.view("datetime64[us]"), index=column.index, name=column.name)
    return made.dt.tz_localize("UTC")


def _stamps(column: pd.Series, timezone: str) -> pd.Series | None:
    """A column as times; None where it holds none."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return _times(microseconds_of(column, None, timezone), column)
    some = column.dropna().head(50)
    if pd.api.types.is_numeric_dtype(column) or not len(some):
        return None
    texts = some.astype(str)
    if texts.str.match(_PARTS).mean() >= 0.5:
        form = _form(column.dropna())
        return None if form is None else _times(microseconds_of(column, form, timezone), column)
    if (microseconds_of(texts, None, timezone) == UNKNOWN).mean() > 0.5:
        return None
    return _times(microseconds_of(column, None, timezone), column)


def sniffed_format(column: pd.Series) -> str | None:
    """The format of dates that begin with day or month; None where they are ISO 8601.

    Raises:
        DataError: It may be either.
    """
    some = column.dropna()
    parts = some.astype(str).str.extract(_PARTS)
    if not len(some) or parts[0].isna().mean() > 0.5:
        return None
    form = _form(some)
    if form is None:
        raise DataError(
            f"{column.name!r}: {some.iloc[0]!r} may be day or month first. Give its format as data.time_format, such "
            "as '%d/%m/%Y %H:%M'."
        )
    return form


def _form(some: pd.Series) -> str | None:
    """`%d/%m/%Y %H:%M`, or the like, of texts where they leave no doubt."""
    parts = some.astype(str).str.extract(_PARTS).dropna()
    if parts.empty or len(parts) < 0.5 * len(some):
        return None
    first, second = parts[0].astype(int).max(), parts[1].astype(int).max()
    if (first > 12) == (second > 12) or not parts[3].str.match(_CLOCK).all():
        return None
    mark = re.sub(r"\d", "", str(some.loc[parts.index[0]]))[0]
    date = mark.join(["%d", "%m", "%Y"] if first > 12 else ["%m", "%d", "%Y"])
    clock = parts[3].iloc[0]
    between = "T" if clock.startswith("T") else " "
    colons = clock.count(":")
    return date if not colons else f"{date}{between}%H:%M" + (":%S" if colons == 2 else "")
