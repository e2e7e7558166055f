"""A file of any length scored: CSV or Parquet in, exactly one row a row out, in bounded memory.

    found = score_file(load_bundle("release/churn-3"), Path("customers.csv"), Path("scores.parquet"), reasons=3)
    found.rows, found.bad, found.side

A chunk is scored by `Bundle.score` in a thread while the next is read. No value's meaning depends on its neighbours: a
field is a number, a text or missing by itself. A row that can't be read keeps its place without a score, and is told
with the reason in a file beside the output. What stands at the destination is whole.
"""

from __future__ import annotations

import csv
import glob
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cxlab.data.files import PARQUET, head
from cxlab.data.rows import Row, Stream, legible, levels, numbers, open_csv
from cxlab.display import progress
from cxlab.errors import DataError, ParamsError
from cxlab.places import is_gone, this_process
from cxlab.release.folder import AnyBundle
from cxlab.release.scorer import LANES
from cxlab.release.sequence_scorer import CASE, SequenceBundle

CHUNK = 312 * LANES  # rows read and scored at once at most, within the scorer's own BATCH
THREADS = 2
PART, BAD = ".part", ".bad.csv"
TYPES = {"number": pa.float64(), "text": pa.string(), "truth": pa.bool_()}  # of answers
Write = Callable[[pa.Array, list[list[Any]]], None]


class Permits(Protocol):
    """Who says whose rows may be scored."""

    def permits(self, customers: pd.Series) -> np.ndarray:
        """Whether each may be, shape (n,), bool."""

    def known(self, customers: pd.Series) -> np.ndarray:
        """Whether each is known at all, shape (n,), bool."""


@dataclass(frozen=True)
class Scored:
    """What was done: rows out, of events one a case; rows that were left out, those that could not be read and where
    they lie, if any; the time taken; and events that were not looked at, because their case has too many.
    """

    rows: int
    left_out: int
    bad: int
    out: Path
    side: Path | None
    seconds: float
    cut: int = 0


@dataclass(frozen=True)
class Chunk:
    """Rows as read, n of them."""

    frame: pd.DataFrame  # the model's columns, typed, shape (n, columns)
    ids: pa.Array  # the customers, or row numbers from 1
    lines: Sequence[int]  # on which each row begins; in Parquet its number
    raw: Callable[[int], str]  # a row's text
    problems: dict[int, str]  # why a row can't be read, by its position
    share: float  # of the file that has been read


class Answer(NamedTuple):
    """What is written of some rows, or of some cases."""

    ids: pa.Array
    columns: list[list[Any]]  # besides the ids
    bad: list[tuple[int, str, str]]  # rows for the side file: line, reason, text
    known: int  # customers that are known to who permits
    left_out: int  # rows of the input
    share: float  # of the work that has been done
    cut: int = 0  # events that were not looked at


def score_file(
    bundle: AnyBundle,
    source: Path,
    out: Path,
    *,
    reasons: int = 0,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    permits: Permits | None = None,
) -> Scored:
    """Scores a CSV (plain or gzipped) or Parquet file: id, what the bundle answers, and reason_1 to reason_K a row.

    Where the rows are events there is one row a case, in the order in which they are first named; see `sequence_score`.

    Args:
        source: Raw rows. Nulls, unseen categories and other columns are no errors; blank lines are no rows.
        out: A .csv or .parquet file; one that is there is replaced once all is written.
        reasons: How many a row or case at most, K >= 0.
        separator: Of a CSV's columns; this, the decimal mark and the encoding are told by the file's head if None.
        decimal: `.` or `,`.
        encoding: Such as utf-8.
        permits: Whose rows may be scored; others are left out. Of events it is asked about the cases, so these have to
            be customers.
    Raises:
        DataError: The input cannot be used, the output not be written, or `permits` knows none of the customers.
            Nothing is left behind.
        ParamsError: An argument does not fit.
    """
    started = time.perf_counter()
    source, out = Path(source), Path(out)
    side = out.with_suffix(BAD)
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise ParamsError(f"out == {str(out)!r}, must end in .csv or .parquet.")
    if reasons < 0:
        raise ParamsError(f"reasons == {reasons}, must be >= 0.")
    parquet = head(source, len(PARQUET)) == PARQUET
    chunks = _parquet_chunks(source, bundle) if parquet else _csv_chunks(source, bundle, separator, decimal, encoding)
    of_cases = isinstance(bundle, SequenceBundle)
    kinds = {name: kind for name, kind in bundle.outputs.items() if not of_cases or name != CASE}
    kinds |= {f"reason_{place + 1}": "text" for place in range(reasons)}
    if permits is not None and bundle.id is None:
        raise ParamsError("The model has no id column, so nobody can tell what its customers permit.")
    rows = bad = left_out = known = cut = 0
    try:
        for place in (out, side):
            _check_place(place, source)
        with closing(chunks), progress(f"Scoring {source.name}") as bar, _part(out) as part, _part(side) as side_part:
            first = next(chunks)  # nothing is written before the header is known to fit
            writing = _parquet_writer if out.suffix.lower() == ".parquet" else _csv_writer
            every = itertools.chain([first], chunks)
            answers = (_cases if of_cases else _in_order)(bundle, every, reasons, permits)
            name = CASE if of_cases else "id"
            with closing(answers), writing(part, {name: first.ids.type}, kinds) as write, _writing(side_part) as aside:
                aside.writerow(["line", "reason", "row"])
                for each in answers:
                    write(each.ids, each.columns)
                    aside.writerows(each.bad)
                    rows, bad, left_out = rows + len(each.ids), bad + len(each.bad), left_out + each.left_out
                    known, cut = known + each.known, cut + each.cut
                    bar.advance(each.share)
            if permits is not None and rows + left_out and not known:
                raise DataError(
                    f"No {bundle.id} in {source.name} is a customer of the events, so nobody can tell what they "
                    "permit. A model whose rows are to be held against consents needs the customer as data.id."
                )
            if bad:
                side_part.replace(side)
            else:
                side.unlink(missing_ok=True)
            part.replace(out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}. Name another --out.") from None
    return Scored(rows, left_out, bad, out, side if bad else None, time.perf_counter() - started, cut)


def _cases(
    bundle: AnyBundle, chunks: Iterable[Chunk], most: int, permits: Permits | None
) -> Generator[Answer, None, None]:
    from cxlab.release.sequence_score import answered  # it reads chunks of this module

    assert isinstance(bundle, SequenceBundle)
    return answered(bundle, chunks, most, permits)


def _check_place(place: Path, source: Path) -> None:
    """Both the output and the file of bad rows must find room, and neither may be the input."""
    folder = place.absolute().parent
    if place.is_dir():
        raise DataError(f"{place} is a directory, must be a file. Name another --out.")
    if place.exists() and place.samefile(source):
        holds = "bad rows would replace it" if place.name.endswith(BAD) else "it would be replaced"
        raise DataError(f"{place} is the input, and {holds}. Name another --out.")
    if not folder.is_dir():
        raise DataError(f"No folder {folder} for {place.name}. Make it first, or name another --out.")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{folder} cannot be written. Name an --out in another folder.")


def _needed(bundle: AnyBundle, names: list[str], where: str) -> list[str]:
    """The columns that are read: the model's, and the one that names the customer if it is there."""
    bundle.schema.check(names)
    needed = list(dict.fromkeys([*bundle.schema.names, *(name for name in names if name == bundle.id)]))
    for name in needed:
        if names.count(name) > 1:
            raise DataError(f"{where} has {names.count(name)} columns {name!r}, must have one. Rename others.")
    return needed


def _in_order(
    bundle: AnyBundle, chunks: Iterable[Chunk], most: int, permits: Permits | None
) -> Generator[Answer, None, None]:
    """Answers in the order of reading; few are held at once."""
    waiting: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_answer, bundle, chunk, most, permits))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
            for answer in waiting:
                yield answer.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _answer(bundle: AnyBundle, chunk: Chunk, most: int, permits: Permits | None) -> Answer:
    n = len(chunk.frame)
    found = bundle.score(chunk.frame.reindex(range(-(-n // bundle.lanes) * bundle.lanes)), reasons=most)
    problems = found.problems | chunk.problems
    answers = [values[:n] for values in found.plain().values()]
    for values in answers:
        for row in problems:
            values[row] = None
    told: list[tuple[str, ...]] = [() if row in problems else each for row, each in enumerate(found.reasons[:n])]
    reasons = [[each[place] if place < len(each) else None for each in told] for place in range(most)]
    ids = chunk.ids.to_pandas()
    kept = np.ones(n, bool) if permits is None else permits.permits(ids)
    known = 0 if permits is None else int(permits.known(ids).sum())
    bad = [(chunk.lines[row], problems[row], legible(chunk.raw(row))) for row in sorted(problems) if kept[row]]
    columns = [list(itertools.compress(column, kept)) for column in (*answers, *reasons)]
    left_out = n - int(kept.sum())
    return Answer(chunk.ids.filter(pa.array(kept)), columns, bad, known, left_out, chunk.share)


def _parquet_chunks(path: Path, bundle: AnyBundle) -> Generator[Chunk, None, None]:
    """The first is empty and tells the type of the ids."""
    try:
        with pq.ParquetFile(path) as file:
            schema, total, seen = file.schema_arrow, file.metadata.num_rows, 0
            names = _needed(bundle, schema.names, path.name)
            empty = pa.RecordBatch.from_pylist([], pa.schema([schema.field(name) for name in names]))
            for batch in itertools.chain([empty], file.iter_batches(min(CHUNK, bundle.batch), columns=names)):
                found = {name: batch.column(name) for name in names}
                cells = {k: v.dictionary_decode() if pa.types.is_dictionary(v.type) else v for k, v in found.items()}
                lines = range(seen + 1, seen + 1 + len(batch))
                seen += len(batch)
                ids = cells[bundle.id] if bundle.id in cells else pa.array(lines, pa.int64())
                frame = pd.DataFrame({name: _without_blanks(cells[name]) for name in bundle.schema.names})
                yield Chunk(frame, ids, lines, _joined(cells), {}, seen / max(1, total))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is cut off or damaged Parquet: {error}. Fetch it again.") from None


def _without_blanks(cells: pa.Array) -> pd.Series:
    """A column in which blank texts are missing, as in training."""
    found = cells.to_pandas()
    blank = [isinstance(each, str) and not each.strip() for each in found] if found.dtype == object else False
    return found.mask(blank, None) if np.any(blank) else found


def _joined(cells: dict[str, pa.Array]) -> Callable[[int], str]:
    return lambda row: ",".join("" if (each := column[row].as_py()) is None else str(each) for column in cells.values())


def _csv_chunks(
    path: Path, bundle: AnyBundle, separator: str | None, decimal: str | None, encoding: str | None
) -> Generator[Chunk, None, None]:
    """The first is empty and tells whether there is an id."""
    with open_csv(path, separator, decimal, encoding) as stream:
        header = _header(path.name, bundle, next(stream.rows, (1, "", None))[2], stream.start)
        seen, rows = 0, list[Row]()
        while True:
            yield _csv_chunk(bundle, header, stream, rows, seen)
            seen += len(rows)
            if not (rows := list(itertools.islice(stream.rows, min(CHUNK, bundle.batch)))):
                return


def _csv_chunk(bundle: AnyBundle, header: list[str], stream: Stream, rows: list[Row], seen: int) -> Chunk:
    problems: dict[int, str] = {}
    kept, bare = list[tuple[str, ...]](), ("",) * len(header)
    for row, (_, text, fields) in enumerate(rows):
        if wrong := stream.wrong(text, fields, len(header)):
            problems[row] = wrong
            told = zip(header, fields if fields and len(fields) == len(header) else bare, strict=True)
            kept.append(tuple(field if name == bundle.id else "" for name, field in told))
        elif fields:
            kept.append(fields)
    columns = zip(*kept, strict=True) if rows else [()] * len(header)
    cells: dict[str, Sequence[str]] = dict(zip(header, columns, strict=True))
    ids = pa.array(range(seen + 1, seen + 1 + len(rows)), pa.int64())
    if bundle.id in cells:
        ids = pa.array([legible(each.strip()) or None for each in cells[bundle.id]], pa.string())
    typed = {
        c.name: numbers(cells[c.name], stream.decimal) if c.kind == "number" else levels(cells[c.name], c.categories)
        for c in bundle.schema.columns  # words have no levels, so that they stay as they are written
    }
    return Chunk(
        pd.DataFrame(typed),
        ids,
        [row[0] for row in rows],
        lambda row: rows[row][1].rstrip("\r\n"),
        problems,
        stream.share(),
    )


def _header(where: str, bundle: AnyBundle, fields: Sequence[str] | None, seen: str) -> list[str]:
    """The names as pandas reads them; a file without the model's columns may be no table at all."""
    if fields is None:
        raise DataError(f"{where} has no header that can be read. Its first line must name the columns.")
    names = [field.lstrip(" ") or f"Unnamed: {place}" for place, field in enumerate(fields)]
    try:
        _needed(bundle, names, where)
    except DataError:
        if "\0" in seen:
            says = f"it begins with {seen[:8]!r}. Give a CSV or Parquet file"
            raise DataError(f"{where} is not a text file: {says}.") from None
        raise
    return names


@contextmanager
def _part(out: Path) -> Iterator[Path]:
    """A file beside `out` to write to, removed unless it is moved; so is what dead processes left."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.*{PART}"):
        if is_gone(left.name.removeprefix(f".{out.name}.").removesuffix(PART)):
            left.unlink(missing_ok=True)
    part = out.with_name(f".{out.name}.{this_process()}{PART}")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[Any]:
    with path.open("w", newline="", encoding="utf-8") as file:
        yield csv.writer(file, lineterminator="\n")


@contextmanager
def _csv_writer(path: Path, named: Mapping[str, pa.DataType], kinds: Mapping[str, str]) -> Iterator[Write]:
    truths = [place for place, kind in enumerate(kinds.values()) if kind == "truth"]

    def write(ids: pa.Array, columns: list[list[Any]]) -> None:
        for place in truths:
            columns[place] = [None if value is None else str(value).lower() for value in columns[place]]
        writer.writerows(zip(ids.to_pylist(), *columns, strict=True))

    with _writing(path) as writer:
        writer.writerow([*named, *kinds])
        yield write


@contextmanager
def _parquet_writer(path: Path, named: Mapping[str, pa.DataType], kinds: Mapping[str, str]) -> Iterator[Write]:
    types = [*named.values(), *(TYPES[each] for each in kinds.values())]
    schema = pa.schema(list(zip([*named, *kinds], types, strict=True)))
    with pq.ParquetWriter(path, schema) as file:
        yield lambda ids, columns: file.write_batch(
            pa.record_batch([ids, *map(pa.array, columns, types[1:])], schema=schema)
        )
