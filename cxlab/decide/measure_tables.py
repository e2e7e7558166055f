"""The tables that measures read: columns by the names of their roles, checked once, and each row's groups.

tables = read_tables({"contacts": contacts, "surveys": surveys}, params)
tables.group("surveys", "channel")     # a survey's channel is that of its contact
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxlab.data.files import read_frame
from cxlab.errors import DataError, ParamsError, listed, missing_column, unknown
from cxlab.params.measures import MeasuresParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN = "(unknown)"  # the group of a row whose contact or customer is in no table
TIMES = ("time", "answered", "joined", "left")
NUMBERS = ("wait", "queue", "handle")  # seconds
FLAGS = ("resolved", "abandoned")
TABLES = ("contacts", "calls", "surveys", "customers", "events")
KEYS = {"contacts": ("id", "customer", "time"), "calls": ("time",), "surveys": ("time",), "customers": ("id",)}
NPS = (0.0, 10.0)


def tables_in(folder: str | Path) -> dict[str, pd.DataFrame]:
    """The tables that a folder holds as contacts, calls, surveys, customers or events, Parquet or CSV.

    Raises:
        DataError: It holds none of them.
    """
    found = {
        name: read_frame(path)[0]
        for name in TABLES
        for path in (Path(folder) / f"{name}{ending}" for ending in (".parquet", ".csv"))
        if path.is_file()
    }
    if not found:
        raise DataError(f"{folder} holds none of {listed(f'{name}.parquet' for name in TABLES)}, nor as CSV.")
    return found


@dataclass(frozen=True, eq=False)
class Tables:
    """Read once, measured often.

    Attributes:
        roles: Of each table the columns that are there, by the names that the params use; times in UTC.
        given: The same rows as they came, for their groups.
        since: The first time of a contact, call or survey; nothing is known before.
        until: The time up to which all is known.
    """

    roles: dict[str, pd.DataFrame]
    given: dict[str, pd.DataFrame]
    since: pd.Timestamp
    until: pd.Timestamp

    def lacks(self, needs: tuple[str, ...]) -> str:
        """What is missing of `table.role` names, in words; empty where all are there."""
        tables = {need.split(".")[0] for need in needs} - set(self.roles)
        if tables:
            return f"needs a table of {listed(sorted(tables))}"
        columns = [need for need in needs if need.split(".")[1] not in self.roles[need.split(".")[0]].columns]
        return f"needs the column {listed(columns)}; name it in the params" if columns else ""

    def column(self, table: str, name: str) -> pd.Series | None:
        """A column of each row of a table, by position: its own, else of its contact, else of its customer."""
        rows = self.given[table]
        if name in rows.columns:
            return rows[name]
        mine = self.roles[table]
        for other, key in (("contacts", "contact"), ("customers", "id" if table == "customers" else "customer")):
            if other in self.given and other != table and name in self.given[other].columns and key in mine.columns:
                found = pd.Series(self.given[other][name].to_numpy(), index=self.roles[other]["id"].to_numpy())
                return mine[key].map(found)
        return None

    def group(self, table: str, name: str) -> NDArray[Any] | None:
        """The group of each row as text, or None where the table has none of that name."""
        found = self.column(table, name)
        return None if found is None else found.astype(object).where(found.notna(), UNKNOWN).astype(str).to_numpy()

    def within(self, table: str, window: tuple[pd.Timestamp, pd.Timestamp]) -> NDArray[np.intp]:
        """Positions of a table's rows in [start, end)."""
        time = self.roles[table]["time"]
        return np.flatnonzero(((time >= window[0]) & (time < window[1])).to_numpy())


def read_tables(tables: Mapping[str, pd.DataFrame], params: MeasuresParams, *, until: Any = None) -> Tables:
    """Tables by their roles, checked.

    Args:
        tables: Any of contacts, calls, surveys, customers; and events, of which those are read that say who left.
        params: Which columns they have.
        until: The time up to which all is known; the last one in the tables if None. Later rows are not read.
    Raises:
        ParamsError: There is no such table, or none that has a time.
        DataError: A key column is missing, an id is there twice, or a value cannot be.
    """
    known = (*KEYS, "events")
    for name in tables:
        if name not in known:
            raise ParamsError(unknown("Table", name, known))
    roles = {name: _roles(name, tables[name], params) for name in KEYS if name in tables}
    if "customers" in roles and "left" not in roles["customers"] and "events" in tables:
        left = _left(tables["events"], params)
        roles["customers"]["left"] = roles["customers"]["id"].map(left)
    timed = [roles[name]["time"] for name in ("contacts", "calls", "surveys") if name in roles]
    if not timed:
        raise ParamsError("No table of contacts, calls or surveys is given: nothing says when anything was.")
    last = moment(until) if until is not None else max(time.max() for time in timed)
    given = {}
    for name, frame in roles.items():
        keep = (frame["time"] <= last).to_numpy() if "time" in frame else np.ones(len(frame), bool)
        given[name] = tables[name].loc[keep].reset_index(drop=True)
        roles[name] = frame.loc[keep].reset_index(drop=True)
    return Tables(roles, given, min(time.min() for time in timed), last)


def moment(value: Any) -> pd.Timestamp:
    """A time in UTC, which it is taken for where it has no zone.

    Raises:
        ParamsError: It is none.
    """
    try:
        found = pd.Timestamp(value)
    except (ValueError, TypeError):
        found = None
    if found is None or pd.isna(found):
        raise ParamsError(f"{value!r} is not a time; write 2025-01-31 or 2025-01-31T08:00Z.")
    return found.tz_convert("UTC") if found.tzinfo else found.tz_localize("UTC")


def _roles(table: str, frame: pd.DataFrame, params: MeasuresParams) -> pd.DataFrame:
    named = {role: name for role, name in getattr(params, table) if name is not None and role != "left_event"}
    for role in KEYS[table]:
        if named[role] not in frame.columns:
            raise DataError(f"The table of {table}: {missing_column(named[role], map(str, frame.columns))}")
    out = pd.DataFrame({role: frame[name].to_numpy() for role, name in named.items() if name in frame.columns})
    for role in out.columns:
        where = f"{table}.{named[role]}"
        if role in TIMES:
            out[role] = _times(frame[named[role]], where, gaps=role in ("answered", "left"))
        elif role in NUMBERS:
            out[role] = _within(frame[named[role]], where, (0.0, np.inf))
        elif role in FLAGS:
            out[role] = _flags(frame[named[role]], where)
        elif role in ("csat", "nps", "ces"):
            scale = NPS if role == "nps" else (getattr(params, role).lowest, getattr(params, role).highest)
            out[role] = _within(frame[named[role]], where, scale)
    if "id" in out:
        again = out["id"][out["id"].duplicated() | out["id"].isna()]
        if len(again):
            raise DataError(f"{table}.{named['id']} == {again.iloc[0]!r} is missing or there twice, must name one row.")
    return out


def _times(values: pd.Series, where: str, *, gaps: bool) -> NDArray[Any]:
    try:
        out = pd.to_datetime(values, utc=True)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where} holds what is no time: {error}.") from None
    if out.isna().any() and not gaps:
        raise DataError(f"{where} is missing in {out.isna().sum():,} rows; leave them out, or fill them in.")
    return out.array  # type: ignore[return-value]


def _within(values: pd.Series, where: str, scale: tuple[float, float]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    bad = (np.isnan(out) & values.notna().to_numpy()) | (out < scale[0]) | (out > scale[1]) | np.isinf(out)
    if bad.any():
        rule = "a number >= 0" if scale[1] == np.inf else f"from {scale[0]:g} to {scale[1]:g}"
        raise DataError(f"{where} == {values.iloc[int(np.argmax(bad))]!r} ({bad.sum():,} rows), must be {rule}.")
    return out


def _flags(values: pd.Series, where: str) -> NDArray[np.float64]:
    """1, 0 and NaN."""
    bad = values.notna() & ~values.isin([True, False])
    if bad.any():
        raise DataError(f"{where} == {values[bad].iloc[0]!r} ({bad.sum():,} rows), must be true or false.")
    return np.where(values.isna(), np.nan, values.isin([True]).astype(np.float64))


def _left(events: pd.DataFrame, params: MeasuresParams) -> pd.Series:
    """When customers left, by customer: the first event that says so."""
    for name in ("customer_id", "occurred_at", "event"):
        if name not in events.columns:
            raise DataError(f"The table of events: {missing_column(name, map(str, events.columns))}")
    gone = events[events["event"] == params.customers.left_event].dropna(subset="customer_id")
    time = pd.Series(_times(gone["occurred_at"], "events.occurred_at", gaps=False), index=gone["customer_id"].array)
    return time.groupby(level=0).min()
