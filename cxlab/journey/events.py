"""An event log as steps: each event of a case with the one that follows it, held by DuckDB.

    found = steps("contacts.parquet", case="customer_id", event="event", time="occurred_at")
    found.notes                       # what was left out, with counts
    found.ask(found.table.group_by("event").aggregate(n=found.table.count()))

The rules for logs as they come, none of which is silent (`Steps.notes` counts):

- rows may have any order: the events of a case are sorted by time;
- of events at the same instant, the one with the lower `order` is first, else the one that the file has first;
- rows without a case, an event or a time (null, NaN or empty text) are left out;
- times as text must be ISO 8601; times without a zone are read as UTC;
- a log without any usable row is an error.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pandas as pd
import pyarrow as pa

from cxlab.errors import DataError, ParamsError, listed, missing_column, nearest, unknown
from cxlab.features.reading import connection, table_of

START, END, OTHER = "(start)", "(end)", "(other)"  # what no event of a log may be called
COLUMNS = ("case", "event", "time", "position", "next_event", "next_time", "case_number")
NAMES = 100_000  # different events at most: more are no steps of a journey, but ids or texts
UNREADABLE = (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.IOException)  # what a bad file raises
ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?)?$"  # ISO 8601, extended


@dataclass(frozen=True, eq=False)
class Steps:
    """An event log as DuckDB sees it.

    Attributes:
        table: One row an event, in no order; an Ibis table with the columns case (string), event (string), time
            (timestamp in microseconds, UTC, written without a zone), position (int64, from 1 within the case),
            next_event (string; "(end)" after the last), next_time (null after the last), case_number (int64, another
            for each case, quicker to group by than its name), and those that were to be kept.
        notes: What was left out or read in some way, with counts; sentences.
        rows: Events.
        cases: Cases.
    """

    table: Any
    notes: tuple[str, ...]
    rows: int
    cases: int
    con: Any = field(repr=False)

    def ask(self, expression: Any) -> pd.DataFrame:
        """The rows of an Ibis expression over `table`, in the order that the expression gives them."""
        with quiet():
            return self.con.to_pyarrow(expression).to_pandas()


@contextmanager
def quiet() -> Iterator[None]:
    """Ibis 12 asks DuckDB 2.0 in the old way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
        yield


def seconds_between(later: Any, earlier: Any) -> Any:
    """The seconds from one time of `Steps.table` to another, a float; null where either is."""
    return (_micros(later) - _micros(earlier)) / 1e6


def _epoch(_time: Any) -> Any: ...


_micros = ibis.udf.scalar.builtin(_epoch, name="epoch_us", signature=(("timestamp",), "int64"))


def steps(
    source: Any,
    *,
    case: str = "case",
    event: str = "event",
    time: str = "time",
    order: str | None = None,
    keep: Sequence[str] = (),
    states: Mapping[str, str] | None = None,
) -> Steps:
    """Reads an event log, once; what is asked of it afterwards is quick.

    Args:
        source: A DataFrame, the path of a Parquet or CSV file (also .csv.gz) or several such paths, what has such a
            DataFrame as its attribute `frame` (there `order` is "position" by default), or Steps, which are given back.
        case: The column that says whose journey it is.
        event: The column that says what happened.
        time: The column that says when: times, dates, or text in ISO 8601; without a zone they are UTC.
        order: A column that says which of the events at one instant is first; the order of the file if None.
        keep: Other columns to keep.
        states: New names of events, by their old ones: several with one new name become one state. Others keep theirs.
    Returns:
        The steps.
    Raises:
        DataError: a column is not there, no row is usable, a time cannot be read, or an event has a reserved name.
        ParamsError: `states` or `keep` does not fit.
    """
    if isinstance(source, Steps):
        return _again(source, keep, states)
    if not isinstance(source, pd.DataFrame) and isinstance(getattr(source, "frame", None), pd.DataFrame):
        source = source.frame
        order = order or ("position" if "position" in source else None)
    if taken := [name for name in keep if name in COLUMNS]:
        raise ParamsError(f"keep names {taken[0]!r}, must be none of {listed(COLUMNS)}. Rename that column first.")
    con = connection(None, None)
    try:
        with quiet():
            given = _opened(con, source, [case, event, time], [name for name in (order, *keep) if name])
            table, notes = _cleaned(con, given, (case, event, time), order=order, keep=keep)
            table, more = _named(con, table, states)
            return _ordered(con, table, keep, order, notes + more)
    except UNREADABLE as error:
        raise DataError(f"The event log cannot be read: {str(error).splitlines()[0]}") from error


def group_rare(found: Steps, most: int = 20) -> Steps:
    """Events beyond the most frequent as one, "(other)"; of equally frequent ones the first by name stays.

    Args:
        found: Steps.
        most: How many events stay as they are, >= 1.
    Returns:
        Steps with at most `most` + 1 different events; a note says how many were joined. Unchanged where there are no
        more than `most` of them, "(other)" not counted.
    Raises:
        ParamsError: `most` is below 1.
    """
    if most < 1:
        raise ParamsError(f"most == {most}, must be >= 1.")
    t = found.table
    counts = found.ask(t.group_by("event").aggregate(n=t.count()))
    counts = counts[counts["event"] != OTHER].sort_values(["n", "event"], ascending=[False, True])
    if len(counts) <= most:
        return found
    stay = [*counts["event"].iloc[:most], END]
    columns = {name: t[name].isin(stay).ifelse(t[name], OTHER) for name in ("event", "next_event")}
    rare = counts.iloc[most:]
    note = (
        f"{len(rare):,} of {len(counts):,} states are joined as {OTHER}: the rarest, "
        f"{rare['n'].sum() / found.rows:.1%} of the events."
    )
    return Steps(t.mutate(**columns), (*found.notes, note), found.rows, found.cases, found.con)


def _again(found: Steps, keep: Sequence[str], states: Mapping[str, str] | None) -> Steps:
    """Steps that were read before."""
    if states is not None:
        raise ParamsError("states are given with Steps, which have their states. Give them to steps() instead.")
    for name in keep:
        if name not in found.table.columns:
            raise ParamsError(unknown("Column", name, found.table.columns, "in the steps; keep it in steps()"))
    return found


def _opened(con: Any, source: Any, roles: list[str], others: list[str]) -> Any:
    """An Ibis table of the columns that are needed, each once."""
    columns = list(dict.fromkeys([*roles, *others]))
    if isinstance(source, pd.DataFrame):
        _present(columns, [str(name) for name in source.columns])
        zoned = [name for name in columns if isinstance(source[name].dtype, pd.DatetimeTZDtype)]
        needed = source[columns].astype(dict.fromkeys(zoned, "datetime64[us, UTC]"))  # DuckDB has no finer ones
        try:
            return ibis.memtable(pa.Table.from_pandas(needed, preserve_index=False))
        except pa.ArrowException as error:
            said = error.args[-1]
            raise DataError(f"The event log mixes kinds of values: {said}. Make the column one kind.") from None
    if isinstance(source, str | Path):
        source = [source]
    if not isinstance(source, list | tuple) or not all(isinstance(item, str | Path) for item in source) or not source:
        raise ParamsError(f"source is {type(source).__name__}, must be a DataFrame, a path, a log, or Steps.")
    paths = [Path(item) for item in source]
    for path in paths:
        if not path.is_file():
            near = nearest(path.name, [item.name for item in path.parent.glob("*")] if path.parent.is_dir() else [])
            raise DataError(f"No file {path}.{near} Give the Parquet or CSV file of an event log.")
    kinds = {"csv" if path.name.lower().endswith((".csv", ".csv.gz")) else path.suffix.lower() for path in paths}
    if kinds == {"csv"}:
        table = _csv(con, [str(path) for path in paths], roles, columns)
    elif kinds == {".parquet"}:
        table = table_of(con, paths)
    else:
        raise DataError(f"{listed(paths, 3)}: files must all be .parquet, or all .csv or .csv.gz.")
    _present(columns, table.columns)
    return table.select(columns)


def _csv(con: Any, paths: list[str], roles: list[str], columns: list[str]) -> Any:
    """The three columns as text, as they are; of others, the kind is learnt from all rows."""
    _present(columns, con.read_csv(paths, header=True, all_varchar=True).columns)
    table = con.read_csv(paths, header=True, sample_size=-1, types=dict.fromkeys(roles, "VARCHAR"))
    return con.create_table(f"csv_{uuid.uuid4().hex}", table.select(columns), temp=True)


def _present(columns: Sequence[str], there: Sequence[str]) -> None:
    for name in columns:
        if name not in there:
            raise missing_column(name, there)


def _cleaned(
    con: Any, given: Any, roles: tuple[str, str, str], *, order: str | None, keep: Sequence[str]
) -> tuple[Any, list[str]]:
    """Usable rows (case, event, time, row, order, those to keep), and what is to be said of the others."""
    case, event, time = roles
    kind = given[time].type()
    if not (kind.is_timestamp() or kind.is_date() or kind.is_string() or kind.is_null()):
        raise DataError(
            f"Column {time!r} is {kind}, must be times or ISO 8601 text. Parse it first, such as by pandas.to_datetime."
        )
    written = when = given[time]
    if not (kind.is_timestamp() or kind.is_date()):
        written = given[time].cast("string").nullif("")
        when = written.re_search(ISO).ifelse(written.try_cast("timestamp('UTC')"), None)
    table = given.select(
        case=given[case].cast("string").nullif(""),
        event=given[event].cast("string").nullif(""),
        time=when.cast("timestamp(6)"),
        written=written,
        row=ibis.row_number(),
        **({"order": given[order]} if order else {}),
        **{f"kept_{name}": given[name] for name in keep},
    )
    usable = table.case.notnull() & table.event.notnull() & table.time.notnull()
    unread = table.written.notnull() & table.time.isnull()
    sizes = {name: table[name].isnull().sum() for name in ("case", "event", "written")}
    asked = table.aggregate(
        n=table.count(), usable=usable.sum(), unread=unread.sum(), example=table.written.min(where=unread), **sizes
    )
    said = con.to_pyarrow(asked).to_pylist()[0]
    if not said["n"]:
        raise DataError("The event log has no rows. Is it the right file?")
    if said["unread"]:
        raise DataError(
            f"Column {time!r} holds {said['example']!r}, one of {said['unread']:,} values that are no ISO 8601 time "
            f"(such as 2024-02-29T13:45:00Z). Parse it first, such as by pandas.to_datetime(..., format=...)."
        )
    lack = [f"{said[key] or 0:,} no {name}" for key, name in (("case", case), ("event", event), ("written", time))]
    if not said["usable"]:
        raise DataError(
            f"None of {said['n']:,} rows has a case, an event and a time: {', '.join(lack)}. Name the right columns."
        )
    notes = []
    if lost := said["n"] - said["usable"]:
        notes.append(f"{lost:,} of {said['n']:,} rows are left out: {', '.join(lack)}.")
    if kind.is_timestamp() and kind.timezone is None:
        notes.append("The times name no zone and are read as UTC.")
    return table.filter(usable).drop("written"), notes


def _named(con: Any, table: Any, states: Mapping[str, str] | None) -> tuple[Any, list[str]]:
    """With events called as `states` says, held as DuckDB's enum: a byte or two each, whatever the length of a name."""
    names = con.to_pyarrow(table.select("event").distinct().limit(NAMES + 1))["event"].to_pylist()
    if len(names) > NAMES:
        raise DataError(f"There are over {NAMES:,} different events. Name a column that says what happened, not an id.")
    given = dict(states or {})
    called = [given.get(name, name) for name in names]
    for name in called:
        if not isinstance(name, str) or not name:
            raise ParamsError(f"states holds {name!r}, must be the name of a state.")
        if name in (START, END):
            raise DataError(f"An event is called {name!r}, which is reserved. Rename it with states=.")
    con.create_table("names", ibis.memtable(pa.table({"event": names, "state": called})), temp=True)
    kept = {"name": pa.array(sorted({*called, START, END, OTHER}), pa.string())}
    con.create_table("states", ibis.memtable(pa.table(kept)), temp=True)
    con.raw_sql("CREATE TYPE state AS ENUM (SELECT name FROM states ORDER BY name)")
    con.raw_sql("ALTER TABLE names ALTER state TYPE state")
    notes = []
    if idle := sorted(set(given) - set(names)):
        notes.append(f"states names {len(idle):,} events that the log does not have: {listed(idle, 5)}.")
    if len(set(called)) < len(names):
        notes.append(f"{len(names):,} events are grouped into {len(set(called)):,} states.")
    of = con.table("names")
    joined = table.inner_join(of, "event")
    return joined.drop("event").rename(event="state"), notes


def _ordered(con: Any, table: Any, keep: Sequence[str], order: str | None, notes: list[str]) -> Steps:
    """Each event with what follows, as a table in DuckDB."""
    by = [table.time, *([table.order] if order else []), table.row]
    case = ibis.window(group_by=table.case, order_by=by)
    rows = table.select(
        case=table.case,
        event=table.event,
        time=table.time,
        position=ibis.row_number().over(case) + 1,
        next_event=table.event.lead(1, END).over(case),
        next_time=table.time.lead().over(case),
        case_number=table.row.first().over(case),
        **{name: table[f"kept_{name}"] for name in keep},
    )
    con.raw_sql(f"CREATE TEMP TABLE steps AS {con.compile(rows)}")  # Ibis's create_table would undo the enum
    made = con.table("steps")
    asked = made.aggregate(n=made.count(), cases=(made.position == 1).sum(), ties=(made.time == made.next_time).sum())
    said = con.to_pyarrow(asked).to_pylist()[0]
    if said["ties"]:
        where = f"column {order!r}, then by the file" if order else "the file"
        notes.append(f"{said['ties']:,} events happened at the same instant as the one before; ordered by {where}.")
    return Steps(made, tuple(notes), said["n"], said["cases"], con)
