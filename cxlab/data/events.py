"""Events through one contract: who, when it happened, when we knew, where, what, and what it may be used for.

    events = read_events("events.csv")                                       # a file that has the contract's columns
    events = read_events(log, mapping=load_mapping("params/events/incident_log.yaml"))     # a foreign table
    events.accepted       # the contract's columns, sorted by received_at and event_id
    events.quarantine     # source, line, reason, message and raw row of every row that was not accepted
    events.write("events/")

Every row that comes in is either accepted or in quarantine under one stable reason, the first of `REASONS` that
applies. Neither the order of rows nor how they are cut into files changes what is accepted.
"""

from __future__ import annotations

import itertools
import json
import re
import zoneinfo
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.parquet as pq

from cxlab.data.files import PARQUET, head
from cxlab.data.rows import NULLS, legible, open_csv
from cxlab.data.schema import is_missing, number_of, text_of
from cxlab.data.taxonomy import (
    COLUMNS,
    KEYS,
    PURPOSES,
    SHOWN,
    EventKind,
    Layout,
    Mapping,
    Property,
    Taxonomy,
    load_taxonomy,
)
from cxlab.digest import canonical
from cxlab.display import PALETTE, Result, axes, plain, row_height
from cxlab.errors import DataError, ParamsError, listed, missing_column, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEXT = pd.StringDtype("pyarrow", na_value=np.nan)  # how pandas holds the contract's text: missing is NaN
MOMENT = pd.DatetimeTZDtype("us", "UTC")  # type: ignore[arg-type]  # the stubs know nanoseconds alone
NEEDED = ("event_id", "occurred_at", "channel", "event")
LONGEST_ID, LARGEST = 200, 1e15
EARLIEST, LATEST = pd.Timestamp("1970-01-01", tz="UTC"), pd.Timestamp("2262-04-11", tz="UTC")  # ends with nanoseconds
AHEAD = pd.Timedelta(days=1)  # by which an event may come before it happened: no clock is perfect
LOOKED_UP = 200  # distinct unknown names for which a nearest one is looked up

REASONS = {  # code: the rule; in the order in which they are looked for
    "unreadable_row": "must be a row of the table",
    "no_event_id": "an event needs an id; a mapping can make one of columns",
    "id_too_long": f"must have at most {LONGEST_ID} characters",
    "no_customer": f"an event needs a customer_id or one of {', '.join(KEYS)}",
    "unreadable_time": "must be a time such as 2026-03-01T12:00:00+01:00; a mapping can give times.formats",
    "nonexistent_time": "was skipped when the clocks went forward; give its offset, or mend the source's time zone",
    "time_out_of_range": f"must be from {EARLIEST.year} until {LATEST.date()}",
    "clock": "happened more than a day after it was received; mend the sender's clock or time zone",
    "unknown_channel": "must be a channel of the taxonomy",
    "unknown_event": "must be an event of the taxonomy",
    "event_on_wrong_channel": "must be a channel on which the taxonomy allows the event",
    "unknown_purpose": f"must be one of {', '.join(PURPOSES)}",
    "bad_properties": "must be a JSON object without NaN",
    "missing_property": "is required by the taxonomy",
    "wrong_type": "must be of the taxonomy's type",
    "number_too_large": f"must be within {LARGEST:g}",
    "negative_duration": "must not be negative: it is a duration",
    "out_of_values": "must be one of the taxonomy's values",
    "exact_copy": "is there already with the same content; one copy is kept",
    "duplicate_event_id": "is there already with other content; the first received is kept",
}


def contract(taxonomy: Taxonomy) -> pandera.DataFrameSchema:
    """What an accepted table of events fulfils, as a pandera schema."""
    some = [pandera.Check(lambda f: f[["customer_id", *KEYS]].notna().any(axis=1), name="no_customer")]
    some.append(pandera.Check(lambda f: f["occurred_at"] <= f["received_at"] + AHEAD, name="clock"))
    names = {"channel": taxonomy.channels, "event": tuple(taxonomy.events), "purpose": PURPOSES}
    columns = {name: pandera.Column(TEXT, pandera.Check.isin(known)) for name, known in names.items()}
    length = pandera.Check.str_length(1, LONGEST_ID)
    columns |= {name: pandera.Column(TEXT, length, nullable=True) for name in ("customer_id", *KEYS)}
    within = pandera.Check.in_range(EARLIEST, LATEST)
    columns |= {name: pandera.Column(MOMENT, within) for name in ("occurred_at", "received_at")}
    columns |= {"event_id": pandera.Column(TEXT, length, unique=True), "properties": pandera.Column(TEXT)}
    return pandera.DataFrameSchema({name: columns[name] for name in COLUMNS}, checks=some, strict=True, ordered=True)


@dataclass(frozen=True, repr=False)
class Events(Result):
    """Events as accepted, and what was not.

    Attributes:
        accepted: The contract's columns, sorted by received_at and event_id.
        quarantine: One row a row that was not accepted: source, line (row number, or line of a CSV), reason, message,
            raw (the row as it came, JSON).
        notes: What was guessed, mended or left out, a sentence each.
        rows_in: Rows that came in: accepted + quarantine.
        taxonomy: What the events were held against.
        now: The moment relative to which they are judged, if given.
    """

    accepted: pd.DataFrame
    quarantine: pd.DataFrame
    notes: tuple[str, ...]
    rows_in: int
    taxonomy: Taxonomy
    now: pd.Timestamp | None = None
    title: ClassVar[str] = "Events"
    note: ClassVar[str] = "Every row is accepted, or in quarantine under the first reason that applies."

    def __post_init__(self) -> None:
        assert self.rows_in == len(self.accepted) + len(self.quarantine), "a row was lost"

    def frame(self) -> pd.DataFrame:
        """Rows accepted, then rows by reason of quarantine."""
        counts = {"accepted": len(self.accepted), **self.quarantine["reason"].value_counts().to_dict()}
        out = pd.DataFrame({"outcome": list(counts), "rows": list(counts.values()), "of": self.rows_in})
        return out.assign(share=out["rows"] / max(self.rows_in, 1))

    def plot(self) -> Axes:
        """Rows by outcome."""
        frame = self.frame()
        ax = axes(f"{self.rows_in:,} rows came in", height=row_height(frame))
        ax.barh(
            frame["outcome"].str.replace("_", " "),
            frame["rows"],
            color=[PALETTE[0], *[PALETTE[1]] * len(frame)][: len(frame)],
        )
        ax.invert_yaxis()
        ax.set_xlabel("rows")
        return ax

    def write(self, folder: str | Path) -> Path:
        """Writes `events.parquet` and `quarantine.parquet`, times in microseconds; returns the path of the first.

        Raises:
            DataError: The folder cannot be written.
        """
        path = Path(folder) / "events.parquet"
        fates = pa.schema([(name, pa.int64() if name == "line" else pa.string()) for name in self.quarantine])
        tables = {
            path: (self.accepted, pa.schema(COLUMNS)),
            path.with_name("quarantine.parquet"): (self.quarantine, fates),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for target, (frame, schema) in tables.items():
                part = target.with_suffix(".part")
                pq.write_table(
                    pa.Table.from_pandas(frame, schema, preserve_index=False).replace_schema_metadata(), part
                )
                part.replace(target)
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}.") from None
        return path


class ArrowTable(Protocol):
    """What gives its rows as Arrow, as an Ibis table does."""

    def to_pyarrow(self) -> Any: ...


Source = str | Path | pd.DataFrame | ArrowTable


def read_events(
    source: Source | Sequence[Source],
    *,
    mapping: Mapping | None = None,
    taxonomy: Taxonomy | None = None,
    timezone: str = "UTC",
    now: pd.Timestamp | datetime | str | None = None,
) -> Events:
    """Reads events, sets aside every row that breaks the contract, and says why.

    Args:
        source: CSV (plain or gzipped), fixed-width or Parquet files, a pandas frame or an Ibis table; or several.
        mapping: How a foreign table becomes events; None for the contract's own columns.
        taxonomy: What may happen; `params/events.yaml` by default.
        timezone: In which times without an offset are read, unless the mapping says; of an hour that comes twice, the
            first is meant.
        now: The moment relative to which freshness and future events are judged; UTC unless it has an offset.
    Raises:
        DataError: A file is not there, cut off or no table, or a column that is needed is not in it.
        ParamsError: The time zone is not known.
    """
    mapping, taxonomy = mapping or Mapping(), taxonomy or load_taxonomy()
    zone = mapping.times.timezone or timezone
    if zone not in zoneinfo.available_timezones():
        raise ParamsError(f"timezone == {zone!r} is not known.{nearest(zone, zoneinfo.available_timezones())}")
    try:
        moment = None if now is None else pd.Timestamp(now)
    except ValueError:
        raise ParamsError(f"now == {now!r}, must be a time such as 2026-03-01T12:00:00Z.") from None
    if moment is not None:
        moment = moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")
    raw = _loaded(source, mapping)
    notes, table = list(raw.notes), raw.frame
    used = _columns(table, mapping, notes)
    frame = pd.DataFrame(
        {
            name: _texts(table, used.get(name), mapping, name)
            for name, kind in COLUMNS.items()
            if kind == pa.string() and name != "properties"
        },
        index=table.index,
    )
    times = {name: _moments(table, used.get(name), mapping, zone) for name in ("occurred_at", "received_at")}
    known = times["received_at"].utc.notna() | times["received_at"].problem.notna()
    if not known.all():
        notes.append(f"received_at is missing in {int((~known).sum()):,} rows; occurred_at stands for it.")
    frame["occurred_at"] = times["occurred_at"].utc
    frame["received_at"] = times["received_at"].utc.where(known, frame["occurred_at"])
    naive, twice = (sum(getattr(item, name) for item in times.values()) for name in ("naive", "twice"))
    if naive:
        notes.append(f"{naive:,} times without an offset were read as {zone}.")
    if twice:
        notes.append(f"{twice:,} times fall in an hour that comes twice in {zone}; the first was meant.")
    own = {name: kind.purpose for name, kind in taxonomy.events.items()}
    frame["purpose"] = frame["purpose"].fillna(frame["event"].map(own).astype(TEXT))
    judged = _judged(table, used, mapping, frame["event"], taxonomy)
    strange = Counter(name for item in judged for name in item[3])
    if strange:
        said = listed((f"{name!r} {count:,}" for name, count in sorted(strange.items())), 10)
        notes.append(f"Properties that the taxonomy does not know were kept: {said}.")
    frame["properties"] = pd.Series([item[0] for item in judged], index=frame.index, dtype=TEXT)
    frame = frame[list(COLUMNS)]
    if mapping.copies == "number":
        nth = frame.groupby(list(COLUMNS), dropna=False).cumcount()
        frame["event_id"] = frame["event_id"].mask(nth > 0, frame["event_id"] + "/" + (nth + 1).astype(TEXT))
        notes.append(f"{int((nth > 0).sum()):,} rows are like another in full; each was read as an event of its own.")
    reason, about = _faults(frame, taxonomy, times, judged)
    _duplicates(frame, reason)
    accepted = frame[reason.isna()].sort_values(["received_at", "event_id"], ignore_index=True)
    accepted = contract(taxonomy).validate(accepted)
    quarantine = _quarantine(raw, frame, pd.DataFrame({"reason": reason, "about": about}), taxonomy, used)
    return Events(accepted, quarantine, tuple(notes), len(table) + len(raw.lost), taxonomy, moment)


@dataclass(frozen=True)
class _Raw:
    """Tables as they came, one below the other; rows that are none (source, line, message, text); and what was seen."""

    frame: pd.DataFrame
    source: list[str]
    line: list[int]
    lost: list[tuple[str, int, str, str]]
    notes: list[str]


def _loaded(source: Any, mapping: Mapping, *, among: bool = False) -> _Raw:
    if isinstance(source, list | tuple):
        return _below([_loaded(item, mapping, among=True) for item in source])
    lost: list[tuple[str, int, str, str]] = []
    notes: list[str] = []
    if isinstance(source, str | Path):
        path, name = Path(source), str(source)
        if among and path.is_file() and not path.stat().st_size:  # alone, it is refused below
            return _Raw(pd.DataFrame(), [], [], [], [f"{name} is empty."])
        if head(path, 4) == PARQUET or path.suffix == ".parquet":
            try:
                frame = _from_arrow(pq.ParquetFile(path).read())
            except (pa.ArrowException, OSError, ValueError) as error:
                raise DataError(f"{name} is cut off or damaged Parquet: {error}. Fetch it again.") from None
            line = list(range(1, len(frame) + 1))
        else:
            frame, line = _from_text(path, mapping.file, lost)
        if frame.empty and not lost:
            notes.append(f"{name} has no rows.")
    else:
        frame = source.copy() if isinstance(source, pd.DataFrame) else _from_arrow(source.to_pyarrow())
        name, line = "table", list(range(1, len(frame) + 1))
    frame.columns = pd.Index([str(column).strip() for column in frame.columns])
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise DataError(f"{name} has the column {twice[0]!r} twice. Rename one.")
    return _Raw(frame.reset_index(drop=True), [name] * len(frame), line, lost, notes)


def _from_arrow(table: pa.Table) -> pd.DataFrame:
    """Whole numbers stay whole where some are missing: as floats, long ids would become others."""
    whole = {
        getattr(pa, name.lower())(): getattr(pd, f"{name}Dtype")() for name in ("Int64", "Int32", "UInt64", "UInt32")
    }
    return table.to_pandas(types_mapper=whole.get, ignore_metadata=True)


def _from_text(path: Path, layout: Layout, lost: list[tuple[str, int, str, str]]) -> tuple[pd.DataFrame, list[int]]:
    """A CSV or fixed-width file as text, with each row's line; rows that cannot be told go to `lost`."""
    places = layout.fixed_width
    lines, kept = list[int](), list[tuple[str, ...]]()
    with open_csv(path, "\x1f" if places else layout.separator, layout.decimal, layout.encoding) as stream:
        for _ in range(layout.header_lines if places else 0):
            next(stream.rows, None)
        header = tuple(places) if places else next(stream.rows, (1, "", None))[2]
        if header is None:
            raise DataError(f"{path} has no header that can be read. Is it the right file?")
        for line, text, fields_ in stream.rows:
            wrong = stream.wrong(text, fields_, 1 if places else len(header))
            if places and not wrong and len(text.rstrip("\r\n")) < max(first for first, _ in places.values()):
                wrong = f"{len(text.rstrip())} characters, must reach to column {header[-1]!r}. Mend the row."
            if wrong or fields_ is None:
                lost.append((str(path), line, wrong or "", legible(text.rstrip("\r\n"))))
                continue
            lines.append(line)
            kept.append(tuple(text[a - 1 : b] for a, b in places.values()) if places else fields_)
    return pd.DataFrame(kept, columns=list(header), dtype=object), lines


def _below(parts: list[_Raw]) -> _Raw:
    frames = [part.frame for part in parts if len(part.frame)]
    names = list(dict.fromkeys(name for part in parts for name in part.frame.columns))
    for name in names:  # pandas would make floats of whole numbers where a part lacks them
        if len({str(frame[name].dtype) if name in frame else "" for frame in frames}) > 1:
            frames = [
                frame.assign(**{name: frame[name].astype(object)}) if name in frame else frame for frame in frames
            ]
            frames = [frame if name in frame else frame.assign(**{name: None}) for frame in frames]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names)
    chained = [
        list(itertools.chain.from_iterable(getattr(p, f) for p in parts)) for f in ("source", "line", "lost", "notes")
    ]
    return _Raw(frame, *chained)


def _columns(table: pd.DataFrame, mapping: Mapping, notes: list[str]) -> dict[str, tuple[str, ...]]:
    """Which of the table's columns make each of the contract's, and under `property:NAME` each property."""
    there = [str(name) for name in table.columns]
    if mapping.columns is None and not mapping.properties:
        columns: dict[str, str | tuple[str, ...]] = {name: name for name in COLUMNS if name in there}
    else:
        columns = dict(mapping.columns or {})
    used = {name: (item,) if isinstance(item, str) else item for name, item in columns.items()}
    used |= {f"property:{name}": (column,) for name, column in (mapping.properties or {}).items()}
    named = {name for item in used.values() for name in item}
    rest = [name for name in there if name not in named and name not in mapping.leave_out]
    if len(table):
        for name in itertools.chain(
            sorted(named - set(there), key=str), (n for n in mapping.leave_out if n not in there)
        ):
            raise missing_column(name, there)
        for name in NEEDED:
            if name not in used and name not in (mapping.constants or {}):
                raise DataError(f"{missing_column(name, there)} An event needs it: rename a column, or give a mapping.")
    if mapping.keep:
        if "properties" in used:
            raise DataError("'properties' is a column already; leave it out, or map it without keep.")
        used |= {f"property:{name}": (name,) for name in rest}
    elif rest:
        notes.append(f"Columns that nothing names were left out: {listed(rest)}.")
    for mark in mapping.missing:
        counts = {name: sum(type(cell) is str and cell == mark for cell in table[name].tolist()) for name in there}
        counts = {name: count for name, count in sorted(counts.items(), key=lambda pair: -pair[1]) if count}
        if counts:
            said = listed((f"{name} {count / len(table):.1%}" for name, count in counts.items()), 8)
            notes.append(f"{mark!r} was read as missing: {sum(counts.values()):,} values ({said}).")
    for form in mapping.times.formats:
        first = re.search("%[dm]", form)
        order = ", the day first" if first and first[0] == "%d" and "%m" in form else ""
        notes.append(f"Times were read as {form}{order}.")
    return used


def _plain_text(value: Any) -> str | None:
    """A value as text, exact for whole numbers; what is no Unicode is written out."""
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, bytes):
        text = value.decode("utf-8", "backslashreplace").strip()
    elif is_missing(value):
        return None
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        text = str(int(value)) if abs(int(value)) < 10**4000 else "a number without end"
    elif isinstance(value, datetime | date):
        text = value.isoformat()
    else:
        text = text_of(value) or ""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _values(table: pd.DataFrame, names: tuple[str, ...], mapping: Mapping) -> list[str | None]:
    """The texts of a column, or of several joined by a slash; None where missing."""
    nulls = NULLS | set(mapping.missing)

    def text(value: Any) -> str | None:
        found = _plain_text(value)
        return None if found is None or found in nulls else found

    columns = []
    for name in names if set(names) <= set(table.columns) else ():
        cells = table[name].tolist()
        if pd.api.types.infer_dtype(table[name]) == "string":  # texts and nothings: each once
            columns.append(list(map({cell: text(cell) for cell in set(cells)}.__getitem__, cells)))
        else:
            columns.append(list(map(text, cells)))
    if len(columns) == 1:
        return columns[0]
    joined = ("/".join(part or "" for part in row) if any(row) else None for row in zip(*columns, strict=True))
    return list(joined) if columns else [None] * len(table)


def _texts(table: pd.DataFrame, names: tuple[str, ...] | None, mapping: Mapping, name: str) -> pd.Series:
    constant = (mapping.constants or {}).get(name)
    texts = [constant] * len(table) if names is None else _values(table, names, mapping)
    here = (mapping.values or {}).get(name, {})
    return pd.Series([here.get(text, text) if text else constant for text in texts], index=table.index, dtype=TEXT)


@dataclass(frozen=True)
class _Moments:
    """Times in UTC; the code of what is wrong with each; how many had no offset; how many of them came twice."""

    utc: pd.Series
    problem: pd.Series
    naive: int
    twice: int


def _moments(table: pd.DataFrame, names: tuple[str, ...] | None, mapping: Mapping, zone: str) -> _Moments:
    """Reads times, each by itself: with and without an offset may be mixed."""
    column = None if names is None or names[0] not in table else table[names[0]]
    if column is not None and pd.api.types.is_datetime64_any_dtype(column):
        naive = getattr(column.dtype, "tz", None) is None
        codes = np.arange(len(column))
        wall = (
            (column if naive else column.dt.tz_convert("UTC").dt.tz_localize(None)).to_numpy().astype("datetime64[us]")
        )
        offsets, bad = np.full(len(wall), not naive), np.zeros(len(wall), dtype=bool)
        codes = np.where(np.isnat(wall), -1, codes)
    else:
        texts = [None] * len(table) if names is None else _values(table, names, mapping)
        codes, distinct = pd.factorize(pd.Series(texts, dtype=object))
        read = [_moment(text, mapping.times.formats) for text in distinct]
        wall = np.array([item[0] for item in read], dtype="datetime64[us]")
        offsets, bad = np.array([item[1] for item in read], dtype=bool), np.isnat(wall)
    utc, problem = wall.copy(), np.full(len(wall), None, dtype=object)
    problem[bad] = "unreadable_time"
    near = (wall > EARLIEST.to_numpy() - np.timedelta64(2, "D")) & (wall < LATEST.to_numpy() + np.timedelta64(2, "D"))
    local = np.flatnonzero(~offsets & near)
    index = pd.DatetimeIndex(wall[local])
    place = "UTC" if zone == "UTC" else zoneinfo.ZoneInfo(zone)  # by name, pandas 2 forgets summer time after 2037
    meant = index.tz_localize(place, ambiguous=np.ones(len(local), dtype=bool), nonexistent="NaT")
    twice = np.zeros(len(wall), dtype=bool)
    twice[local] = index.tz_localize(place, ambiguous="NaT", nonexistent=pd.Timedelta("3h")).isna()
    utc[local] = meant.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")
    problem[local[meant.isna()]] = "nonexistent_time"
    beyond = ~np.isnat(utc) & ~((utc >= EARLIEST.to_numpy()) & (utc <= LATEST.to_numpy()))
    problem[beyond], utc[beyond] = "time_out_of_range", np.datetime64("NaT")
    there = codes >= 0
    empty = pd.Series(pd.NaT, index=table.index, dtype=MOMENT)
    found, fate = empty, pd.Series(None, index=table.index, dtype=object)
    if there.any():
        picked = utc[np.where(there, codes, 0)]
        found = pd.Series(pd.DatetimeIndex(picked).tz_localize("UTC"), index=table.index).where(there).astype(MOMENT)
        fate[there] = problem[codes[there]]
    rows = codes[there]
    return _Moments(found, fate, int((~offsets & ~bad)[rows].sum()), int(twice[rows].sum()))


def _moment(text: str, formats: tuple[str, ...]) -> tuple[Any, bool]:
    """Wall time, in UTC if there was an offset, and whether there was one; NaT for what cannot be read."""
    for form in formats or ("",):
        try:
            if form in ("unix", "unix_ms"):
                found = datetime.fromtimestamp(float(text) / (1000 if form == "unix_ms" else 1), UTC)
            elif form:
                found = datetime.strptime(text, form)
            else:
                found = datetime.fromisoformat(re.sub(r"\s*(UTC|[Zz])$", "+00:00", text))
        except (ValueError, OverflowError, OSError):
            continue
        offset = found.utcoffset()
        wall = np.datetime64(found.replace(tzinfo=None), "us")
        return (wall, False) if offset is None else (wall - np.timedelta64(offset), True)
    return np.datetime64("NaT"), False


_Judged = tuple[
    str, str | None, str, tuple[str, ...]
]  # canonical JSON, reason, what is said, names not in the taxonomy
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _judged(
    table: pd.DataFrame, used: dict[str, tuple[str, ...]], mapping: Mapping, events: pd.Series, taxonomy: Taxonomy
) -> list[_Judged]:
    """Each row's properties, held against its event's."""
    kinds = [taxonomy.events.get(name) for name in events.tolist()]
    own = {name.removeprefix("property:"): columns for name, columns in used.items() if name.startswith("property:")}
    if own:
        columns = [_values(table, item, mapping) for item in own.values()]
        rows = ({n: v for n, v in zip(own, row, strict=True) if v is not None} for row in zip(*columns, strict=True))
        return [_judge(kind, row, mapping.file.decimal) for kind, row in zip(kinds, rows, strict=True)]
    name = used.get("properties", ("",))[0]
    cells = table[name].tolist() if name in table else [None] * len(table)
    known: dict[tuple[str, int], _Judged] = {}
    out = []
    for kind, cell in zip(kinds, cells, strict=True):
        key = (cell, id(kind)) if isinstance(cell, str) else None
        if key is None or key not in known:
            found = _object(cell)
            answer = ("{}", "bad_properties", "", ()) if found is None else _judge(kind, found, None)
            if key is None:
                out.append(answer)
                continue
            known[key] = answer
        out.append(known[key])
    return out


def _refuse(word: str) -> float:
    raise ValueError(word)


def _object(cell: Any) -> dict[str, Any] | None:
    """The object that a cell holds, without its nulls; None if it holds something else."""
    if isinstance(cell, bytes | str) and cell.strip():
        try:
            cell = json.loads(cell, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return None
    elif not isinstance(cell, dict) and (isinstance(cell, str | bytes) or is_missing(cell)):
        return {}
    if not isinstance(cell, dict) or not all(isinstance(name, str) for name in cell):
        return None
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in cell.items()
        if value is not None
    }


def _judge(kind: EventKind | None, found: dict[str, Any], decimal: str | None) -> _Judged:
    """Holds properties against an event's; `decimal` is the mark where they came as text."""
    rules = {} if kind is None else kind.properties
    out, reason, said = dict(found), None, ""
    for name, rule in rules.items():
        if name not in found:
            if rule.required and reason is None:
                reason, said = "missing_property", repr(name)
            continue
        if rule.type == "text" and rule.values is None and type(found[name]) is str:
            continue
        value, fault = _fitted(rule, found[name], decimal)
        out[name] = value
        if fault is not None and reason is None:
            reason, said = (
                fault,
                f"{name} == {str(value)[:SHOWN]!r} ({rule.type}{f', {rule.unit}' if rule.unit else ''})",
            )
            said += f" among {listed(rule.values)}" if rule.values and fault == "out_of_values" else ""
    try:
        text = canonical(out).decode("utf-8")
    except (TypeError, ValueError, RecursionError):  # not what JSON can hold, or NaN somewhere
        return ("{}", reason, said, ()) if reason == "number_too_large" else ("{}", "bad_properties", "", ())
    return text, reason, said, () if kind is None else tuple(name for name in found if name not in rules)


def _fitted(rule: Property, value: Any, decimal: str | None) -> tuple[Any, str | None]:
    """A property's value in its type, and the code of what is wrong with it."""
    if rule.type == "text":
        fits = isinstance(value, str)
    elif rule.type == "boolean":
        value = _TRUTHS.get(value.lower(), value) if decimal is not None else value
        fits = isinstance(value, bool)
    else:
        number = number_of(value if decimal in (None, ".") else value.replace(".", "?").replace(",", "."))
        whole = isinstance(value, int) and not isinstance(value, bool)
        fits = (whole or isinstance(value, float) or decimal is not None) and (whole or not np.isnan(number))
        if fits and not abs(number) <= LARGEST:
            return value, "number_too_large"
        if fits and rule.type == "integer":
            fits = number == int(number)
            value = int(number) if fits else value
        elif fits:
            value = number
        if fits and number < 0 and rule.unit in ("seconds", "minutes"):
            return value, "negative_duration"
    if not fits:
        return value, "wrong_type"
    return value, None if rule.values is None or value in rule.values else "out_of_values"


def _faults(
    frame: pd.DataFrame, taxonomy: Taxonomy, times: dict[str, _Moments], judged: list[_Judged]
) -> tuple[pd.Series, pd.Series]:
    """The first reason against each row, if any; and what to say of it: a column, or a sentence on its properties."""
    ids, occurred = ["event_id", "customer_id", *KEYS], times["occurred_at"]
    long = pd.DataFrame({name: frame[name].str.len() > LONGEST_ID for name in ids})
    allowed = {(name, channel) for name, kind in taxonomy.events.items() for channel in kind.channels}
    pairs = pd.Series(list(zip(frame["event"], frame["channel"], strict=True)), index=frame.index, dtype=object)
    problem = {"occurred_at": occurred.problem, "received_at": times["received_at"].problem}
    problem["occurred_at"] = problem["occurred_at"].mask(
        occurred.utc.isna() & occurred.problem.isna(), "unreadable_time"
    )
    found: list[tuple[str, str, pd.Series]] = [("no_event_id", "event_id", frame["event_id"].isna())]
    found += [("id_too_long", name, long[name]) for name in ids]
    found += [("no_customer", "customer_id", frame[ids[1:]].isna().all(axis=1))]
    for code in ("unreadable_time", "nonexistent_time", "time_out_of_range"):
        found += [(code, name, problem[name] == code) for name in problem]
    found += [
        ("clock", "occurred_at", frame["occurred_at"] > frame["received_at"] + AHEAD),
        ("unknown_channel", "channel", ~frame["channel"].isin(taxonomy.channels)),
        ("unknown_event", "event", ~frame["event"].isin(list(taxonomy.events))),
        ("event_on_wrong_channel", "channel", ~pairs.isin(allowed)),
        ("unknown_purpose", "purpose", ~frame["purpose"].isin(PURPOSES)),
    ]
    reason = pd.Series([item[1] for item in judged], index=frame.index, dtype=object)
    said = pd.Series([item[2] for item in judged], index=frame.index, dtype=object)
    for code, column, bad in reversed(found):
        reason, said = reason.mask(bad, code), said.mask(bad, column)
    return reason, said


def _duplicates(frame: pd.DataFrame, reason: pd.Series) -> None:
    """Of rows with one id that nothing else speaks against, all but the first received are marked."""
    open_ = frame[reason.isna()]
    again = open_[open_["event_id"].duplicated(keep=False)]
    others = [name for name in COLUMNS if name not in ("event_id", "received_at")]
    again = again.sort_values(["event_id", "received_at", *others])
    first = again.groupby("event_id")[others].transform(lambda column: column.iloc[0]) if len(again) else again[others]
    same = ((again[others] == first) | (again[others].isna() & first.isna())).all(axis=1)
    later = again["event_id"].duplicated()
    reason[again.index[later & same]] = "exact_copy"
    reason[again.index[later & ~same]] = "duplicate_event_id"


def _quarantine(
    raw: _Raw,
    frame: pd.DataFrame,
    fate: pd.DataFrame,
    taxonomy: Taxonomy,
    used: dict[str, tuple[str, ...]],
) -> pd.DataFrame:
    rows = [(source, line, "unreadable_row", why, json.dumps({"text": text})) for source, line, why, text in raw.lost]
    near: dict[tuple[str, Any], str] = {}
    names = {"unknown_channel": taxonomy.channels, "unknown_event": tuple(taxonomy.events)}
    bad = fate["reason"].notna().to_numpy().nonzero()[0]
    for place, row in zip(bad, raw.frame.iloc[bad].to_dict("records"), strict=True):
        code, word = fate["reason"].iloc[place], fate["about"].iloc[place]
        if code in ("exact_copy", "duplicate_event_id"):
            word = "event_id"
        if word in frame.columns:
            value = frame[word].iloc[place]
            if is_missing(value) and word in used:
                value = "/".join(str(row.get(name)) for name in used[word])
            word = f"{word} is missing" if is_missing(value) or value == "nan" else f"{word} == {str(value)[:SHOWN]!r}"
            if code in names and (code, value) not in near and len(near) < LOOKED_UP:
                near[code, value] = nearest(str(value), names[code])
            word += f": {REASONS[code]}.{near.get((code, value), '')}"
        else:
            word = f"{word or 'properties'}: {REASONS[code]}."
        rows.append((raw.source[place], raw.line[place], code, word, json.dumps(_jsonable(row))))
    return (
        pd.DataFrame(rows, columns=["source", "line", "reason", "message", "raw"])
        .astype({"line": np.int64})
        .sort_values(["source", "line"], ignore_index=True)
    )


def _jsonable(value: Any) -> Any:
    """A cell, or a row without its missing cells, as JSON can hold it."""
    if isinstance(value, dict):
        return {str(name): _jsonable(item) for name, item in value.items() if not is_missing(item)}
    if isinstance(value, list | tuple | np.ndarray):
        return [_jsonable(item) for item in value]
    return plain(value)
