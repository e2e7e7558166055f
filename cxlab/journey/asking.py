"""What questions about a log have in common: which events there are, how long a time is, when the log ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from cxlab.errors import DataError, ParamsError, unknown
from cxlab.journey.events import Steps

MISSING = "(missing)"
SEGMENTS = 20  # values of a column that cases are told apart by, at most
DAY = 86_400.0  # seconds


def check_events(log: Steps, names: Sequence[str]) -> None:
    """Raises:
    ParamsError: The log has no such event; the message names the nearest.
    """
    known = sorted(log.ask(log.table.select("event").distinct())["event"].astype(str))
    for name in names:
        if name not in known:
            raise ParamsError(unknown("Event", str(name), known, where="in the log"))


def days_of(value: float | timedelta, name: str) -> float:
    """Days, given as such or as a time.

    Raises:
        ParamsError: It is no time above 0.
    Examples:
        >>> days_of(timedelta(hours=12), "within")
        0.5
    """
    if isinstance(value, timedelta):
        value = value.total_seconds() / DAY
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise ParamsError(f"{name} == {value!r}, must be days above 0, or a timedelta.")
    return float(value)


def end_of(log: Steps, until: Any) -> pd.Timestamp:
    """When the log ends, in UTC without a zone: its last event, or what somebody says.

    Raises:
        DataError: `until` is no time, or before the last event.
    """
    last = pd.Timestamp(log.ask(log.table.aggregate(last=log.table.time.max()))["last"].iloc[0])
    if until is None:
        return last
    try:
        end = pd.Timestamp(until)
    except (TypeError, ValueError):
        raise DataError(f"until == {until!r}, must be a time, such as 2024-12-31.") from None
    end = end.tz_convert("UTC").tz_localize(None) if end.tzinfo else end
    if pd.isna(end) or end < last:
        raise DataError(f"until == {until!r}, must not be before the last event of the log, {last:%Y-%m-%d %H:%M} UTC.")
    return end


def segments_of(log: Steps, by: str) -> pd.DataFrame:
    """Each case's segment: case_number, segment; what the column holds at the case's first event.

    Raises:
        ParamsError: The column has more than 20 values.
    """
    t = log.table
    found = log.ask(t.filter(t.position == 1).select("case_number", segment=t[by].cast("string")))
    found["segment"] = found["segment"].astype(object).where(found["segment"].notna(), MISSING)
    if (many := found["segment"].nunique()) > SEGMENTS:
        raise ParamsError(f"by == {by!r} has {many:,} values, must be at most {SEGMENTS}. Group them, or cut numbers.")
    return found


def duration(seconds: float) -> str:
    """A time in words.

    Examples:
        >>> [duration(s) for s in (0.2, 90, 7200, 86_400, 86_400 * 45)]
        ['0.2 s', '1.5 min', '2 h', '1 day', '45 days']
    """
    if not np.isfinite(seconds):
        return ""
    for unit, size in (("days", DAY), ("h", 3600), ("min", 60)):
        if seconds >= size:
            number = f"{seconds / size:.2g}" if seconds / size < 100 else f"{seconds / size:,.0f}"
            return f"{number} {'day' if (number, unit) == ('1', 'days') else unit}"
    return f"{seconds:.2g} s"
