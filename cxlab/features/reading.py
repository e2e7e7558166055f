"""Events out of DuckDB or PySpark as narrow arrays: numbers for customers and names, and no column that is not needed.

The engine reads the events once to learn which customers there are (`people`) and once more for what features need of
them (`narrow`), of which features are made for a range of customers at a time (`by_range`). The expressions are the
same on both engines, but for the names of two functions (`SPELLINGS`).
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pandas as pd
import pyarrow as pa

from cxlab.errors import DataError, ParamsError, missing_column
from cxlab.features.parts import Key, Layout, Part
from cxlab.features.ranges import Recipe

EMPTY = {"where": 0, "number": float("nan"), "text": None}  # what stands where a column is not read
BATCH = 250_000  # events that come from the engine at a time
SPELLINGS = {"duckdb": ("epoch_us", "json_extract_string"), "pyspark": ("unix_micros", "get_json_object")}


def connection(con: Any, events: Any) -> Any:
    """The given connection, or that of the events, or DuckDB in memory; in UTC."""
    con = con or (events._find_backend() if hasattr(events, "_find_backend") else None)
    if con is None:
        con = ibis.duckdb.connect(temp_directory=tempfile.gettempdir(), memory_limit="2GB")
        with contextlib.suppress(duckdb.InvalidInputException):  # in Jupyter without ipywidgets: there it is off anyway
            con.raw_sql("SET enable_progress_bar = false")  # else it is printed among what a program reads
    if con.name not in SPELLINGS:
        raise ParamsError(f"con == {con.name!r}, must be duckdb or pyspark.")
    con.raw_sql("SET TimeZone = 'UTC'" if con.name == "duckdb" else "SET spark.sql.session.timeZone = UTC")
    return con


def table_of(con: Any, given: Any) -> Any:
    """An Ibis table of whatever was given."""
    if isinstance(given, pd.DataFrame):
        zoned = {c: "datetime64[us, UTC]" for c, t in given.dtypes.items() if isinstance(t, pd.DatetimeTZDtype)}
        return ibis.memtable(given.astype(zoned))
    if not isinstance(given, str | Path | list | tuple):
        return given
    paths = [Path(item) for item in ([given] if isinstance(given, str | Path) else given)]
    if absent := [path for path in paths if not path.exists()]:
        raise DataError(f"No file {absent[0]}. Give a Parquet file of events, or several.")
    with warnings.catch_warnings():  # Ibis 12 asks DuckDB 2.0 in the old way
        warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
        tables = [con.read_parquet(str(path)) for path in paths]
    tables = [t.mutate(**{c: _known(t[c]) for c, kind in t.schema().items() if kind.is_unknown()}) for t in tables]
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


def _known(column: Any) -> Any:
    """A column of a type that Ibis 12 does not know: DuckDB's instants in nanoseconds, or none, without any value."""
    return column.cast("timestamp('UTC')" if "TIMESTAMPTZ_NS" in str(column.type()) else "string")


def events_of(con: Any, given: Any) -> Any:
    """Events with occ and seen in microseconds; those without a customer or a time are left out."""
    table = table_of(con, given)
    for name in ("customer_id", "event"):
        _column(table, name)
    occurred, received = (_micros_of(con, table, name) for name in ("occurred_at", "received_at"))
    rows = table.filter(table.customer_id.notnull(), table.occurred_at.notnull(), table.received_at.notnull())
    plain = {name: rows[name] for name in rows.columns if name not in ("customer_id", "occurred_at", "received_at")}
    seen = ibis.greatest(occurred, received)
    return rows.select(customer_id=rows.customer_id.cast("string"), occ=occurred, seen=seen, **plain)


def versions_of(con: Any, given: Any) -> tuple[pd.DataFrame, pa.Table]:
    """By since (microseconds): customer_id, since, place; and the attributes there, a time as days_since_NAME."""
    table = table_of(con, given)
    table = table.mutate(
        customer_id=_column(table, "customer_id").cast("string"), since=_micros_of(con, table, "valid_from")
    )
    found = con.to_pyarrow(table.drop("valid_from")).sort_by("since")
    whose, found = found.select(["customer_id", "since"]).to_pandas(), found.drop_columns(["customer_id", "since"])
    if whose.duplicated().any():
        raise DataError("attributes hold two rows of one customer_id and valid_from. Keep the one that is right.")
    for place, (name, kind) in enumerate(zip(found.schema.names, found.schema.types, strict=True)):
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            found = found.set_column(place, f"days_since_{name}", found[name].cast(pa.timestamp("us"), safe=False))
    return whose.assign(place=whose.index), found


def people(con: Any, base: Any) -> pa.Table:
    """Customers by name: customer_id, first (when their first event was seen), last (occurred), events (how many)."""
    by = base.group_by("customer_id").aggregate(first=base.seen.min(), last=base.occ.max(), events=base.count())
    return con.to_pyarrow(by).sort_by("customer_id")


def narrow(
    con: Any, base: Any, customers: pa.Table, parts: Sequence[Part], *, label: Key | None, cutoffs: Sequence[int]
) -> tuple[Any, Layout]:
    """What parts and a label need of the events of customers, whom it has by their code."""
    keys = list(dict.fromkeys([part.key for part in parts] + ([label] if label else [])))
    asked: dict[tuple[str, str, str], list[Key]] = {}
    for key in keys:
        for pair in key[2]:
            asked.setdefault(("where", *pair), []).append(key)
    for part in parts:
        if part.property:
            asked.setdefault(("text" if part.text else "number", part.property, ""), []).append(part.key)
        if part.op == "last":
            asked.setdefault(("text", "event_id", ""), []).append(part.key)
    events = tuple(sorted({name for key in keys for name in key[0]}))
    channels = tuple(sorted({name for key in keys for name in key[1]}))
    layout = Layout(events, channels, {what: f"c{number}" for number, what in enumerate(asked)})
    rows = base.filter(_needed(base, parts, label, cutoffs))
    codes = {"event_code": _code(rows, "event", events), "channel_code": _code(rows, "channel", channels)}
    known = ibis.memtable(customers.select(["customer_id", "code", "piece"]))
    rows = rows.mutate(**codes).inner_join(known, "customer_id")
    columns = {name: rows[name] for name in ("code", "occ", "seen", *codes, *(["piece"] * (con.name == "pyspark")))}
    for what, column in layout.columns.items():
        value, kept = _read(con.name, rows, *what), asked[what]
        if all(key[0] for key in kept) and (what[0] == "text" or what[1] not in rows.columns):  # is slow to read
            meant = [place for place, name in enumerate(events, start=1) if any(name in key[0] for key in kept)]
            value = rows.event_code.isin(meant).ifelse(value, EMPTY[what[0]])
        columns[column] = value
    return rows.select(**columns), layout


def _code(rows: Any, name: str, known: Sequence[str]) -> Any:
    """The place of a name among those known, from 1; 0 for others."""
    places = [(value, place) for place, value in enumerate(known, start=1)]
    return (_column(rows, name).cases(*places, else_=0) if places else ibis.literal(0)).cast("int16")


def by_range(con: Any, rows: Any, whom: pa.Table, recipe: Recipe, folder: Path) -> Iterator[tuple[pa.Table, int]]:
    """What a recipe makes of narrow events of each range of customers: of DuckDB's here, of Spark's in its workers."""
    empty = con.to_pyarrow(rows.limit(0))  # makes known to the engine what is in memory
    if con.name == "duckdb":  # from which Ibis 12 cannot stream
        yield from recipe.each(con.con.sql(con.compile(rows)).to_arrow_reader(BATCH), whom, folder)
        return
    yield from recipe.each(empty.to_reader(), whom.slice(0, 0), folder)  # without rows, but with their columns
    frame = con.raw_sql(con.compile(rows))
    customers = frame.sparkSession.createDataFrame(whom).groupBy("piece")  # some ranges have no events
    packed = partial(Recipe.packed, recipe)  # of a bound method, Spark would count self among the arguments
    found = frame.groupBy("piece").cogroup(customers).applyInArrow(packed, "rows binary, ended long")
    found = found.coalesce(len(whom["piece"].unique()) or 1).persist()  # each partition takes a job below
    try:
        found.count()  # all workers compute; what follows takes one partition after the other
        for data, ended in found.toLocalIterator():
            yield pa.ipc.open_stream(data).read_all(), ended
    finally:
        found.unpersist()


def _needed(base: Any, parts: Sequence[Part], label: Key | None, cutoffs: Sequence[int]) -> Any:
    """The condition that an event may count at a cutoff between the first and the last, or for the label."""
    windows = [part.window for part in parts]
    needed = (base.seen < cutoffs[-1]) & _named(base, [part.key for part in parts])
    if None not in windows:
        needed &= base.occ >= cutoffs[0] - max(window for window in windows if window is not None)
    return needed if label is None else needed | _named(base, [label])


def _named(rows: Any, keys: Sequence[Key]) -> Any:
    """The condition that an event has a name that one of the keys asks for."""
    names = sorted({name for key in keys for name in key[0]})
    return rows.event.isin(names) if all(key[0] for key in keys) else ibis.literal(True)


def _read(engine: str, rows: Any, what: str, name: str, value: str) -> Any:
    """A column of narrow events."""
    if what != "where":
        return _property(engine, rows, name, text=what == "text")
    if name in rows.columns and rows[name].type().is_numeric():
        try:
            met = rows[name] == float(value)
        except ValueError:
            raise DataError(f"{name} == {value!r}, must be a number: the column holds numbers.") from None
    else:
        met = _property(engine, rows, name, text=True) == value
    return met.fill_null(False).cast("int8")


def _property(engine: str, rows: Any, name: str, *, text: bool) -> Any:
    if name in rows.columns:
        value = rows[name]
    elif name == "event_id" or "properties" not in rows.columns:
        raise missing_column(name, rows.columns)
    else:
        value = _builtin(SPELLINGS[engine][1], ("string", "string"), "string")(rows.properties, f"$.{name}")
        value = _builtin("try", ("string",), "string")(value) if engine == "duckdb" else value  # null if it is no JSON
    if text:
        return value.cast("string")
    value = value.try_cast("float64") if value.type().is_string() else value.cast("float64")
    return value.fill_null(float("nan"))


def _column(table: Any, name: str) -> Any:
    if name not in table.columns:
        raise missing_column(name, table.columns)
    return table[name]


def _micros_of(con: Any, table: Any, name: str) -> Any:
    """A time as microseconds since 1970 UTC."""
    kind = _column(table, name).type()
    if not kind.is_timestamp() or (kind.timezone is None and con.name != "pyspark"):  # there, times are instants
        raise DataError(f"Column {name!r} is {kind}, must be a time in UTC. Say in which zone it was written first.")
    return _builtin(SPELLINGS[con.name][0], ("timestamp('UTC')",), "int64")(table[name].cast("timestamp('UTC')"))


@cache
def _builtin(name: str, takes: tuple[str, ...], gives: str) -> Any:
    """A function of the engine's own, made once, so that equal expressions are equal."""

    def one(_a: Any) -> Any: ...
    def two(_a: Any, _b: Any) -> Any: ...

    return ibis.udf.scalar.builtin(one if len(takes) == 1 else two, name=name, signature=(takes, gives))
