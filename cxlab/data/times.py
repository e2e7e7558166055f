"""Times as files and programs write them, each by itself: as microseconds since 1970, in UTC.

    microseconds_of(["2026-01-31T10:00", "2026-01-31T10:00+01:00", None], None, "UTC")

Texts are in the format that is given, or ISO 8601. What has no offset is read on the clock of a time zone: of an hour
that comes twice the second, of one that never comes the next that does.

This module travels with every bundle of sequences, so it knows numpy and pandas alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd

UNKNOWN = np.iinfo(np.int64).min  # a time that is missing or none, as numpy has it
FEW = 64  # values up to which they are read one by one, which spares what a column costs
YEARS = range(1678, 2262)  # that are read
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{3}(?:\d{3})?)?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_OFFSET = re.compile(r"^.{10}.*(?:Z|[+-]\d\d(?::?\d\d)?)$", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds_of(values: Iterable[Any], form: str | None, timezone: str) -> np.ndarray:
    """Microseconds since 1970, int64 of shape (n,); `UNKNOWN` for what is missing or no time.

    Args:
        values: Texts, datetimes of Python, numpy or pandas, or nulls; a number is no time.
        form: Of texts that are not ISO 8601, such as '%d/%m/%Y %H:%M'.
        timezone: Of what has no offset.
    Examples:
        >>> microseconds_of(["1970-01-01T00:00:01", "1970-01-01 01:00+01:00", 5], None, "UTC").tolist()[:2]
        [1000000, 0]
    """
    if isinstance(values, pd.Series) and pd.api.types.is_datetime64_any_dtype(values):
        return _in_utc(values, timezone)
    held = list(values)
    if len(held) <= FEW:
        return np.array([_moment(value, form, timezone) for value in held], np.int64)
    texts = pd.Series([value if isinstance(value, str) else None for value in held], dtype=object).str.strip()
    found = _texts(texts, form, timezone)
    for place, value in enumerate(held):
        if not isinstance(value, str):
            found[place] = _moment(value, form, timezone)
    return found


def _moment(value: Any, form: str | None, timezone: str) -> int:
    if isinstance(value, str):
        text = value.strip()
        read = _read(text, form)
        if read is None:
            return int(_texts(pd.Series([text], dtype=object), form, timezone)[0])
        moment = read
    elif isinstance(value, date | np.datetime64):
        if pd.isna(value):
            return UNKNOWN
        moment = pd.Timestamp(value).to_pydatetime(warn=False)
    else:
        return UNKNOWN
    if moment.year not in YEARS:
        return UNKNOWN
    if moment.tzinfo is None:
        if timezone != "UTC":
            return int(_in_utc(pd.Series([moment]), timezone)[0])
        moment = moment.replace(tzinfo=UTC)
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def _read(text: str, form: str | None) -> datetime | None:
    """A text in the format that is given, or a plain one in ISO 8601, without pandas, which costs a millisecond."""
    try:
        if form is not None:
            return datetime.strptime(text, form)  # without an offset it is of the time zone
        return datetime.fromisoformat(text) if _PLAIN.fullmatch(text) else None
    except ValueError:
        return None


def _texts(texts: pd.Series, form: str | None, timezone: str) -> np.ndarray:
    found = np.full(len(texts), UNKNOWN)
    if form is not None:
        found = _in_utc(pd.to_datetime(texts, errors="coerce", format=form), timezone)
    left = np.flatnonzero((found == UNKNOWN) & texts.notna().to_numpy())
    offset = texts.iloc[left].str.match(_OFFSET).to_numpy(bool)
    for rows, utc in ((left[offset], True), (left[~offset], False)):  # apart: pandas gives the one the other's offset
        if len(rows):
            read = pd.to_datetime(texts.iloc[rows], errors="coerce", format="ISO8601", utc=utc)
            found[rows] = _in_utc(read, timezone)
    return found


def _in_utc(times: pd.Series, timezone: str) -> np.ndarray:
    if times.dt.tz is None:
        times = times.dt.tz_localize(timezone, ambiguous=False, nonexistent="shift_forward")
    return times.dt.tz_convert("UTC").astype("datetime64[us, UTC]").astype("int64").to_numpy().copy()
